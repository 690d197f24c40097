//! Making, keeping and reading certificates.

use super::{IdentityError, PeerIdentity, Role};
use crate::{clock, files};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, SanType,
};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use std::fmt;
use std::path::{Path, PathBuf};
use store_base::ClusterId;

/// The file that holds the authority's certificate and key.
pub const AUTHORITY_NAME: &str = "authority.pem";

/// The DNS name in every certificate, the same for all, for gRPC clients of others that insist on one.
pub(crate) const SERVER_NAME: &str = "store.internal";

/// The largest PEM file that is read.
const PEM_BYTES_MAX: u64 = 64 * 1024;
/// An authority outlives its cluster.
const AUTHORITY_DAYS: u64 = 30 * 365;
/// Services are not stopped by a forgotten renewal; their keys never leave their machine.
const SERVICE_DAYS: u64 = 10 * 365;
/// People's keys travel.
const ADMIN_DAYS: u64 = 365;
/// Certificates are valid from a little before now, for clocks that are behind.
const DAYS_BEFORE: u64 = 2;

/// The authority of one cluster: it alone says who belongs to it.
pub struct Authority {
    cluster: ClusterId,
    certificate_pem: String,
    key: KeyPair,
}

/// A key and the certificate that says whose it is, with the authority to judge others by.
pub struct Identity {
    /// Who this is.
    pub peer: PeerIdentity,
    pub(crate) certificate: CertificateDer<'static>,
    pub(crate) key: PrivateKeyDer<'static>,
    pub(crate) authority: CertificateDer<'static>,
    pem: String,
}

impl Authority {
    /// Makes a new authority for a new cluster.
    pub fn create(cluster: ClusterId) -> Result<Self, IdentityError> {
        let key = KeyPair::generate().map_err(invalid("make a key"))?;
        let mut params = CertificateParams::default();
        params.distinguished_name = common_name(format!("store cluster {cluster}"));
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        set_validity(&mut params, AUTHORITY_DAYS);
        let certificate = params.self_signed(&key).map_err(invalid("sign the authority"))?;
        Ok(Authority { cluster, certificate_pem: certificate.pem(), key })
    }

    /// The cluster it speaks for.
    pub fn cluster(&self) -> ClusterId {
        self.cluster
    }

    /// Makes a key and a certificate for a member of the cluster.
    pub fn issue(&self, role: Role, name: &str) -> Result<Identity, IdentityError> {
        let peer = PeerIdentity::new(self.cluster, role, name)?;
        let key = KeyPair::generate().map_err(invalid("make a key"))?;
        let mut params = CertificateParams::default();
        params.distinguished_name = common_name(peer.to_string());
        let text = |s: &str| s.try_into().map_err(invalid("name the certificate"));
        params.subject_alt_names =
            vec![SanType::URI(text(&peer.uri())?), SanType::DnsName(text(SERVER_NAME)?)];
        params.use_authority_key_identifier_extension = true;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        set_validity(&mut params, if role == Role::Admin { ADMIN_DAYS } else { SERVICE_DAYS });
        let issuer = Issuer::from_ca_cert_pem(&self.certificate_pem, &self.key)
            .map_err(invalid("read the authority"))?;
        let certificate = params.signed_by(&key, &issuer).map_err(invalid("sign a certificate"))?;
        let pem = [certificate.pem(), key.serialize_pem(), self.certificate_pem.clone()].concat();
        Identity::from_pem(&pem)
    }

    /// Both certificate and key as text. Whoever has it can be anybody in the cluster.
    pub fn to_pem(&self) -> String {
        [self.certificate_pem.as_str(), &self.key.serialize_pem()].concat()
    }

    /// Reads what [`Authority::to_pem`] wrote.
    pub fn from_pem(pem: &str) -> Result<Self, IdentityError> {
        let certificate = CertificateDer::from_pem_slice(pem.as_bytes())
            .map_err(invalid("find the authority's certificate"))?;
        let cluster = cluster_of_authority(&certificate)?;
        let key_der = PrivateKeyDer::from_pem_slice(pem.as_bytes())
            .map_err(invalid("find the authority's key"))?;
        let key = KeyPair::try_from(&key_der).map_err(invalid("read the authority's key"))?;
        let end = "-----END CERTIFICATE-----";
        let (body, _) = pem.split_once(end).ok_or_else(|| {
            IdentityError::Invalid("the authority has no certificate".to_string())
        })?;
        Ok(Authority { cluster, certificate_pem: format!("{body}{end}\n"), key })
    }

    /// Keeps it in `directory` as `authority.pem`, durably, readable by its owner only.
    pub fn save(&self, directory: &Path) -> Result<PathBuf, IdentityError> {
        save(directory, AUTHORITY_NAME, &self.to_pem())
    }

    /// Reads `authority.pem` of `directory`.
    pub fn load(directory: &Path) -> Result<Self, IdentityError> {
        let path = directory.join(AUTHORITY_NAME);
        Authority::from_pem(&read(&path)?).map_err(|e| name_file(&path, e))
    }
}

impl Identity {
    /// Certificate, key and authority as text.
    pub fn to_pem(&self) -> &str {
        &self.pem
    }

    /// Reads what [`Identity::to_pem`] gave: first certificate ours, second the authority's.
    pub fn from_pem(pem: &str) -> Result<Self, IdentityError> {
        let certificates = CertificateDer::pem_slice_iter(pem.as_bytes())
            .collect::<Result<Vec<_>, _>>()
            .map_err(invalid("read the certificates"))?;
        let Ok([certificate, authority]) = <[_; 2]>::try_from(certificates) else {
            return Err(IdentityError::Invalid(
                "an identity holds two certificates: its own, then its authority's".to_string(),
            ));
        };
        let key = PrivateKeyDer::from_pem_slice(pem.as_bytes()).map_err(invalid("find the key"))?;
        let peer = PeerIdentity::from_certificate(&certificate)?;
        let issuer = cluster_of_authority(&authority)?;
        if issuer != peer.cluster {
            return Err(IdentityError::Invalid(format!(
                "the certificate is of cluster {}, its authority of cluster {issuer}",
                peer.cluster
            )));
        }
        Ok(Identity { peer, certificate, key, authority, pem: pem.to_string() })
    }

    /// The name of its file.
    pub fn file_name(&self) -> String {
        format!("{}.pem", self.peer)
    }

    /// Keeps it in `directory` as `<role>.<name>.pem`, durably, readable by its owner only.
    pub fn save(&self, directory: &Path) -> Result<PathBuf, IdentityError> {
        save(directory, &self.file_name(), &self.pem)
    }

    /// Reads an identity's file.
    pub fn load(path: &Path) -> Result<Self, IdentityError> {
        Identity::from_pem(&read(path)?).map_err(|e| name_file(path, e))
    }
}

impl Clone for Identity {
    fn clone(&self) -> Self {
        Identity {
            peer: self.peer.clone(),
            certificate: self.certificate.clone(),
            key: self.key.clone_key(),
            authority: self.authority.clone(),
            pem: self.pem.clone(),
        }
    }
}

// Keys must not get into logs.
impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identity").field("peer", &self.peer).finish_non_exhaustive()
    }
}

impl fmt::Debug for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authority").field("cluster", &self.cluster).finish_non_exhaustive()
    }
}

/// The authority's subject names its cluster.
fn cluster_of_authority(der: &CertificateDer<'_>) -> Result<ClusterId, IdentityError> {
    let wrong = || IdentityError::Invalid("this is not the authority of a cluster".to_string());
    let (_, certificate) = x509_parser::parse_x509_certificate(der).map_err(|_| wrong())?;
    let subject = certificate.subject();
    let name = subject.iter_common_name().next().and_then(|name| name.as_str().ok());
    let cluster = name.and_then(|name| name.strip_prefix("store cluster ")).ok_or_else(wrong)?;
    cluster.parse().map_err(|_| wrong())
}

fn invalid<E: fmt::Display>(doing: &'static str) -> impl FnOnce(E) -> IdentityError {
    move |e| IdentityError::Invalid(format!("cannot {doing}: {e}"))
}

fn name_file(path: &Path, error: IdentityError) -> IdentityError {
    IdentityError::Invalid(format!("{}: {error}", path.display()))
}

fn save(directory: &Path, name: &str, pem: &str) -> Result<PathBuf, IdentityError> {
    let path = directory.join(name);
    files::make_directory(directory, 0o700)
        .and_then(|()| files::write_durable(&path, pem.as_bytes(), 0o600))
        .map_err(|e| IdentityError::File(e.to_string()))?;
    Ok(path)
}

fn read(path: &Path) -> Result<String, IdentityError> {
    let bytes =
        files::read_bounded(path, PEM_BYTES_MAX).map_err(|e| IdentityError::File(e.to_string()))?;
    String::from_utf8(bytes)
        .map_err(|_| IdentityError::Invalid(format!("{} is not text", path.display())))
}

fn common_name(name: String) -> DistinguishedName {
    let mut distinguished = DistinguishedName::new();
    distinguished.push(DnType::CommonName, name);
    distinguished
}

fn set_validity(params: &mut CertificateParams, days: u64) {
    let today = clock::timestamp().secs / 86_400;
    let date = |days: u64| {
        let (year, month, day) = civil_from_days(days);
        rcgen::date_time_ymd(year, month, day)
    };
    params.not_before = date(today.saturating_sub(DAYS_BEFORE));
    params.not_after = date(today + days);
}

/// The Gregorian date of a day counted from 1970: eras of 400 years, each beginning in March.
fn civil_from_days(days: u64) -> (i32, u8, u8) {
    let shifted = days + 719_468; // to 0000-03-01
    let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    let fits = "a date within the centuries to come";
    (
        i32::try_from(year).expect(fits),
        u8::try_from(month).expect(fits),
        u8::try_from(day).expect(fits),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn dates_of_days() {
        let cases = [
            (0, (1970, 1, 1)),
            (59, (1970, 3, 1)),
            (11_016, (2000, 2, 29)),
            (20_776, (2026, 11, 19)),
            (47_540, (2100, 2, 28)),
            (47_541, (2100, 3, 1)),
        ];
        for (days, date) in cases {
            assert_eq!(civil_from_days(days), date, "{days}");
        }
    }

    #[test]
    fn an_authority_issues_saves_and_comes_back() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let cluster = ClusterId([3; 16]);
        let authority = Authority::create(cluster).expect("made");
        let saved = authority.save(&dir.path().join("keys")).expect("saved");
        assert_eq!(std::fs::metadata(&saved).expect("there").permissions().mode() & 0o777, 0o600);
        let loaded = Authority::load(&dir.path().join("keys")).expect("loaded");
        assert_eq!(loaded.cluster(), cluster);
        assert_eq!(loaded.to_pem(), authority.to_pem());
        let daemon = loaded.issue(Role::Daemon, "3").expect("issued");
        let path = daemon.save(dir.path()).expect("saved");
        assert!(path.ends_with("daemon.3.pem"));
        let again = Identity::load(&path).expect("loaded");
        assert_eq!(again.peer, PeerIdentity::new(cluster, Role::Daemon, "3").expect("a good name"));
        assert!(!format!("{again:?}").contains("PRIVATE"));
    }

    #[test]
    fn damaged_bundles_are_refused() {
        let authority = Authority::create(ClusterId([3; 16])).expect("made");
        let other = Authority::create(ClusterId([4; 16])).expect("made");
        let good = authority.issue(Role::Gateway, "a").expect("issued");
        for pem in [
            "",
            "hello",
            &authority.to_pem(),
            &good.to_pem()[200..],
            &good.to_pem().replace("PRIVATE KEY", "NOTHING"),
        ] {
            assert!(Identity::from_pem(pem).is_err());
        }
        let own_end = good.to_pem().rfind("-----BEGIN CERTIFICATE").expect("two certificates");
        let mixed = format!("{}{}", &good.to_pem()[..own_end], other.to_pem());
        assert!(Identity::from_pem(&mixed).is_err(), "an authority of another cluster");
        assert!(Authority::from_pem(good.to_pem()).is_err());
        let error = Identity::load(Path::new("/nonexistent/x.pem")).expect_err("no file");
        assert!(error.to_string().contains("/nonexistent/x.pem"));
    }
}
