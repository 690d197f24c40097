//! The name in a certificate.

use super::IdentityError;
use rustls_pki_types::CertificateDer;
use std::fmt;
use std::str::FromStr;
use store_base::ClusterId;
use x509_parser::extensions::GeneralName;

/// What a process is to the cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// Keeps the maps.
    Monitor,
    /// Keeps objects.
    Daemon,
    /// Keeps the filesystem's names.
    Metadata,
    /// Speaks S3 and Swift.
    Gateway,
    /// A person's command line, or a tool of his.
    Admin,
}

impl Role {
    /// All of them.
    pub const ALL: [Role; 5] =
        [Role::Monitor, Role::Daemon, Role::Metadata, Role::Gateway, Role::Admin];

    /// As it stands in certificates and messages.
    pub fn as_str(self) -> &'static str {
        match self {
            Role::Monitor => "monitor",
            Role::Daemon => "daemon",
            Role::Metadata => "metadata",
            Role::Gateway => "gateway",
            Role::Admin => "admin",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Role {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = Role::ALL.into_iter().find(|role| role.as_str() == text);
        found.ok_or_else(|| {
            format!("{text:?} is not a role: use monitor, daemon, metadata, gateway or admin")
        })
    }
}

/// One process of one cluster by name. In handlers of tonic services it is found in the request's extensions;
/// see [`PeerIdentity::of`].
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PeerIdentity {
    /// Its cluster.
    pub cluster: ClusterId,
    /// What it is.
    pub role: Role,
    /// Which one: a daemon's number, else a name.
    pub name: String,
}

/// Longest name of a peer.
const NAME_BYTES_MAX: usize = 64;
const SCHEME: &str = "store://";

impl PeerIdentity {
    /// A name for a certificate. The name is 1 to 64 letters, digits, dots, dashes or underscores.
    pub fn new(cluster: ClusterId, role: Role, name: &str) -> Result<Self, IdentityError> {
        let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
        if name.is_empty() || name.len() > NAME_BYTES_MAX || !name.chars().all(allowed) {
            return Err(IdentityError::Invalid(format!(
                "{name:?} cannot be the name of a {role}: use 1 to {NAME_BYTES_MAX} letters, digits, dots, dashes, underscores"
            )));
        }
        Ok(PeerIdentity { cluster, role, name: name.to_string() })
    }

    /// The form in a certificate.
    pub fn uri(&self) -> String {
        format!("{SCHEME}{}/{}/{}", self.cluster, self.role, self.name)
    }

    /// Reads the form in a certificate.
    pub fn from_uri(uri: &str) -> Result<Self, IdentityError> {
        let parsed = uri.strip_prefix(SCHEME).and_then(|rest| {
            let mut parts = rest.splitn(3, '/');
            let (cluster, role, name) = (parts.next()?, parts.next()?, parts.next()?);
            PeerIdentity::new(cluster.parse().ok()?, role.parse().ok()?, name).ok()
        });
        parsed.ok_or_else(|| {
            IdentityError::Invalid(format!("{uri:?} does not name a member of a cluster"))
        })
    }

    /// The name in a certificate whose chain was verified already. Exactly one of our names must be in it.
    pub fn from_certificate(der: &CertificateDer<'_>) -> Result<Self, IdentityError> {
        let invalid = |why: &str| IdentityError::Invalid(format!("the certificate {why}"));
        let (_, certificate) =
            x509_parser::parse_x509_certificate(der).map_err(|_| invalid("is damaged"))?;
        let names = certificate
            .subject_alternative_name()
            .map_err(|_| invalid("has damaged names"))?
            .ok_or_else(|| invalid("names nobody"))?;
        let mut ours = names.value.general_names.iter().filter_map(|name| match name {
            GeneralName::URI(uri) if uri.starts_with(SCHEME) => Some(*uri),
            _ => None,
        });
        match (ours.next(), ours.next()) {
            (Some(uri), None) => PeerIdentity::from_uri(uri),
            _ => Err(invalid("does not carry exactly one store:// name")),
        }
    }

    /// Who sent a request to a tonic service. The server puts it there: from the certificate with TLS, and
    /// `None` in plain text, where nobody knows.
    pub fn of<T>(request: &tonic::Request<T>) -> Option<&PeerIdentity> {
        request.extensions().get()
    }
}

impl fmt::Display for PeerIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.role, self.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_go_to_uris_and_back() {
        let cluster = ClusterId([7; 16]);
        let daemon = PeerIdentity::new(cluster, Role::Daemon, "3").expect("a good name");
        assert_eq!(daemon.uri(), "store://07070707-0707-0707-0707-070707070707/daemon/3");
        assert_eq!(PeerIdentity::from_uri(&daemon.uri()), Ok(daemon.clone()));
        assert_eq!(daemon.to_string(), "daemon.3");
        for name in ["", "a/b", "ä", "a b", &"x".repeat(65)] {
            assert!(PeerIdentity::new(cluster, Role::Gateway, name).is_err(), "{name:?}");
        }
        for uri in [
            "",
            "store://",
            "store://x/daemon/3",
            "http://07/daemon/3",
            "store://07070707-0707-0707-0707-070707070707/king/3",
            "store://07070707-0707-0707-0707-070707070707/daemon",
        ] {
            assert!(PeerIdentity::from_uri(uri).is_err(), "{uri:?}");
        }
    }
}
