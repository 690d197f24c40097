//! Who is who: the cluster's own certificate authority, and what its certificates say.
//!
//! A cluster makes its [`Authority`] at bootstrap. Every service and every administrator has an [`Identity`]
//! issued by it: a key, and a certificate whose one URI name is `store://<cluster>/<role>/<name>`. Both ends of
//! a connection show theirs ([`crate::security`]); names of hosts and DNS play no part, so a service may move.
//!
//! | file | holds | who needs it |
//! |---|---|---|
//! | `authority.pem` | the authority's certificate and **key** | only what issues certificates |
//! | `<role>.<name>.pem` | a certificate, its key, the authority's certificate | that service |
//!
//! Both are one PEM file, so they are replaced whole or not at all, and have mode 0600. Keys are ECDSA P-256.
//! What may never change: the form of the URI, for certificates outlive programs.
//!
//! Deliberately absent: revocation lists. A stolen service key is answered by a new authority; an
//! administrator's certificate lives a year.

mod authority;
mod peer;

pub(crate) use authority::SERVER_NAME;
pub use authority::{AUTHORITY_NAME, Authority, Identity};
pub use peer::{PeerIdentity, Role};

/// Why an identity could not be made, read or believed. Not worth a retry: the sentence has the cure.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IdentityError {
    /// A file could not be read or written.
    #[error("{0}")]
    File(String),
    /// A certificate or key is damaged, or says what none of ours says.
    #[error("{0}")]
    Invalid(String),
}
