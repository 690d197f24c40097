//! How connections are protected: mutual TLS from the cluster's own authority, or plain text where somebody
//! asked for it by name.

use crate::identity::{Identity, IdentityError, PeerIdentity, Role};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::verify_server_cert_signed_by_trust_anchor;
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::server::{ParsedCertificate, WebPkiClientVerifier};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, ServerConfig, SignatureScheme};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use store_base::ClusterId;

/// How this process protects its connections, both those it accepts and those it makes.
#[derive(Clone)]
pub enum Security {
    /// Both ends show certificates of the cluster's authority.
    Tls(Arc<Tls>),
    /// Plain text, on loopback addresses only: everything else is refused, both to bind and to dial.
    PlainLoopback,
    /// Plain text everywhere. Only for who asked with `--insecure-plain-text`.
    PlainEverywhere,
}

/// Keys and rules for both directions.
pub struct Tls {
    identity: Identity,
    pub(crate) server: Arc<ServerConfig>,
    pub(crate) client: Arc<ClientConfig>,
}

/// Whom a caller expects at the other end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expect {
    /// The role it must have.
    pub role: Role,
    /// The name it must have, if that is known.
    pub name: Option<String>,
}

impl Expect {
    /// Any peer of a role.
    pub fn role(role: Role) -> Self {
        Expect { role, name: None }
    }

    /// This very peer.
    pub fn peer(role: Role, name: impl fmt::Display) -> Self {
        Expect { role, name: Some(name.to_string()) }
    }

    /// Whether a peer that showed who it is, is the one expected.
    pub fn check(&self, peer: &PeerIdentity) -> Result<(), String> {
        if peer.role == self.role && self.name.as_ref().is_none_or(|name| *name == peer.name) {
            return Ok(());
        }
        Err(format!("expected {self}, but {peer} answers there"))
    }
}

impl fmt::Display for Expect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.name {
            Some(name) => write!(f, "{}.{name}", self.role),
            None => write!(f, "a {}", self.role),
        }
    }
}

impl Security {
    /// Mutual TLS with this identity.
    pub fn tls(identity: Identity) -> Result<Self, IdentityError> {
        Tls::new(identity).map(|tls| Security::Tls(Arc::new(tls)))
    }

    /// Who this process is, if it has a certificate.
    pub fn identity(&self) -> Option<&PeerIdentity> {
        match self {
            Security::Tls(tls) => Some(&tls.identity.peer),
            Security::PlainLoopback | Security::PlainEverywhere => None,
        }
    }

    /// Refuses plain text to or from other machines unless it was asked for by name.
    pub fn allow(&self, doing: &str, addr: SocketAddr) -> Result<(), String> {
        if matches!(self, Security::PlainLoopback) && !addr.ip().to_canonical().is_loopback() {
            return Err(format!(
                "will not {doing} {addr} in plain text: give this service its certificate with --identity, use a loopback address, or accept the risk with --insecure-plain-text"
            ));
        }
        Ok(())
    }
}

impl fmt::Debug for Security {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Security::Tls(tls) => write!(f, "Tls({})", tls.identity.peer),
            Security::PlainLoopback => f.write_str("PlainLoopback"),
            Security::PlainEverywhere => f.write_str("PlainEverywhere"),
        }
    }
}

/// Makes ring the process' one provider of cryptography. Everything here names its provider itself; this is for
/// libraries that ask for the default and would otherwise panic. Any number of calls is fine.
pub fn install_provider() {
    // An error only says that one is installed already.
    let _ = CryptoProvider::install_default(ring::default_provider());
}

/// What both ends speak above TLS.
const PROTOCOL: &[u8] = b"h2";

impl Tls {
    fn new(identity: Identity) -> Result<Self, IdentityError> {
        install_provider();
        let provider = Arc::new(ring::default_provider());
        let wrong = |e: &dyn fmt::Display| {
            IdentityError::Invalid(format!("the identity of {} cannot be used: {e}", identity.peer))
        };
        let mut roots = RootCertStore::empty();
        roots.add(identity.authority.clone()).map_err(|e| wrong(&e))?;
        let roots = Arc::new(roots);
        let chain = vec![identity.certificate.clone()];

        // Both ends are ours: nothing older than TLS 1.3 is needed.
        let versions = [&rustls::version::TLS13];
        let verifier = WebPkiClientVerifier::builder_with_provider(roots.clone(), provider.clone())
            .build()
            .map_err(|e| wrong(&e))?;
        let mut server = ServerConfig::builder_with_provider(provider.clone())
            .with_protocol_versions(&versions)
            .map_err(|e| wrong(&e))?
            .with_client_cert_verifier(verifier)
            .with_single_cert(chain.clone(), identity.key.clone_key())
            .map_err(|e| wrong(&e))?;
        server.alpn_protocols = vec![PROTOCOL.to_vec()];

        let verifier =
            ClusterVerifier { roots, provider: provider.clone(), cluster: identity.peer.cluster };
        let mut client = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&versions)
            .map_err(|e| wrong(&e))?
            .dangerous() // the name is judged by role, not by host; the chain is verified as ever
            .with_custom_certificate_verifier(Arc::new(verifier))
            .with_client_auth_cert(chain, identity.key.clone_key())
            .map_err(|e| wrong(&e))?;
        client.alpn_protocols = vec![PROTOCOL.to_vec()];
        Ok(Tls { identity, server: Arc::new(server), client: Arc::new(client) })
    }

    /// The name sent to servers; the same for all, since servers are known by role.
    pub(crate) fn server_name() -> ServerName<'static> {
        ServerName::try_from(crate::identity::SERVER_NAME).expect("a constant DNS name")
    }
}

/// Believes a server whose certificate was issued by the cluster's authority for a member of the cluster. Which
/// member it is, the caller compares with its [`Expect`].
#[derive(Debug)]
struct ClusterVerifier {
    roots: Arc<RootCertStore>,
    provider: Arc<CryptoProvider>,
    cluster: ClusterId,
}

impl ServerCertVerifier for ClusterVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let certificate = ParsedCertificate::try_from(end_entity)?;
        let algorithms = self.provider.signature_verification_algorithms.all;
        verify_server_cert_signed_by_trust_anchor(
            &certificate,
            &self.roots,
            intermediates,
            now,
            algorithms,
        )?;
        let peer = PeerIdentity::from_certificate(end_entity)
            .map_err(|e| rustls::Error::General(e.to_string()))?;
        if peer.cluster != self.cluster {
            return Err(rustls::Error::General(format!(
                "{peer} is of cluster {}, this is cluster {}",
                peer.cluster, self.cluster
            )));
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_text_stays_on_loopback() {
        let (near, far): (SocketAddr, SocketAddr) =
            ("127.0.0.1:1".parse().expect("ok"), "10.0.0.1:1".parse().expect("ok"));
        let mapped: SocketAddr = "[::ffff:127.0.0.1]:1".parse().expect("ok");
        assert!(Security::PlainLoopback.allow("dial", near).is_ok());
        assert!(Security::PlainLoopback.allow("dial", mapped).is_ok());
        let error = Security::PlainLoopback.allow("dial", far).expect_err("another machine");
        assert!(error.contains("10.0.0.1:1") && error.contains("--insecure-plain-text"), "{error}");
        assert!(
            Security::PlainLoopback.allow("listen on", "0.0.0.0:1".parse().expect("ok")).is_err()
        );
        assert!(Security::PlainEverywhere.allow("dial", far).is_ok());
    }
}
