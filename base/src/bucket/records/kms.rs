//! Keys of the key ring (SSE-KMS): named keys that wrap keys of bodies, in versions.
//!
//! Who operates the cluster says which keys and versions there are to be; the secret of a version is made, and sealed
//! with a key of the cluster, by the first gateway that needs it. So nobody but a gateway ever has a secret.

use super::WriteId;
use bytes::Bytes;
use std::collections::BTreeMap;

/// The key that is used where a request names none, as `aws/s3` is at AWS.
pub const KMS_KEY_DEFAULT: &str = "aws/s3";

/// Most bytes of the id of a key.
pub const KMS_ID_BYTES_MAX: usize = 128;

/// Most bytes of the description of a key.
pub const KMS_DESCRIPTION_BYTES_MAX: usize = 1024;

/// Whether this may be the id of a key: letters, digits, `_`, `-` and `.`, or the default key's.
pub fn is_kms_id(id: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"_-.".contains(&byte);
    let named = (1..=KMS_ID_BYTES_MAX).contains(&id.len()) && id.bytes().all(allowed);
    named || id == KMS_KEY_DEFAULT
}

/// A key of the key ring.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KmsKey {
    /// Its name, by which requests mean it.
    pub id: String,
    /// Tells it from a key of the same id that was deleted before. Random.
    pub serial: WriteId,
    /// For people.
    pub description: String,
    /// When it was made, in ms since 1970.
    pub created_ms: u64,
    /// Whether it may be used, to read as well as to write.
    pub enabled: bool,
    /// From when on it may be destroyed, in ms since 1970, and may not be used until then; 0 for never.
    pub delete_ms: u64,
    /// The version that bodies are to be written with. Its secret may still be to be made.
    pub wanted: u32,
    /// The versions that there are, by number. Numbers that were never used have none.
    pub versions: Vec<KmsVersion>,
}
crate::codec_versioned!(KmsKey, 1, 1 {
    id, serial, description, created_ms, enabled, delete_ms, wanted, versions,
});

impl KmsKey {
    /// A version that there is.
    pub fn version(&self, version: u32) -> Option<&KmsVersion> {
        self.versions.iter().find(|made| made.version == version)
    }

    /// Whether it is to be destroyed.
    pub fn is_leaving(&self) -> bool {
        self.delete_ms > 0
    }
}

/// A version of a key of the key ring, as it is stored.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KmsVersion {
    /// Counts from 1.
    pub version: u32,
    /// When its secret was made, in ms since 1970.
    pub created_ms: u64,
    /// The version of the cluster's keys that wraps it.
    pub cluster_version: u32,
    /// Goes into the wrapping. Random.
    pub wrap: WriteId,
    /// The secret, sealed.
    pub wrapped_key: Bytes,
}
crate::codec_versioned!(KmsVersion, 1, 1 {
    version, created_ms, cluster_version, wrap, wrapped_key,
});

/// Which key of the key ring opens the key of a body, and what it was wrapped together with.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KmsGrip {
    /// The id of the key.
    pub key: String,
    /// Its [`KmsKey::serial`].
    pub serial: WriteId,
    /// Its version.
    pub version: u32,
    /// How clients are told of the key, if otherwise than by its id.
    pub shown: String,
    /// What the client wants the key to be bound to. It is part of the wrapping.
    pub context: BTreeMap<String, String>,
    /// Whether the client asked for a key of the bucket. It changes nothing and is told.
    pub bucket_key: bool,
}
crate::codec_versioned!(KmsGrip, 1, 1 { key, serial, version, shown, context, bucket_key });

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::{Decode, Encode};

    #[test]
    fn ids_are_names_that_fit_every_form_of_them() {
        for id in ["k", "testkey-1", "01234567-89ab-cdef-0123-456789abcdef", "a.b_c", "aws/s3"] {
            assert!(is_kms_id(id), "{id}");
        }
        for id in ["", "a b", "a/b", "alias/aws/s3", "a:b", "ä", &"k".repeat(129)] {
            assert!(!is_kms_id(id), "{id}");
        }
    }

    #[test]
    fn what_is_stored_never_changes() {
        let version = KmsVersion {
            version: 2,
            created_ms: 3,
            cluster_version: 4,
            wrap: WriteId([5; 16]),
            wrapped_key: Bytes::from_static(b"sealed"),
        };
        let key = KmsKey {
            id: "k".into(),
            serial: WriteId([1; 16]),
            description: "d".into(),
            created_ms: 6,
            enabled: true,
            delete_ms: 7,
            wanted: 2,
            versions: vec![version],
        };
        let grip = KmsGrip {
            key: "k".into(),
            serial: WriteId([1; 16]),
            version: 2,
            shown: "s".into(),
            context: [("a".to_owned(), "b".to_owned())].into(),
            bucket_key: true,
        };
        assert_eq!(hex(&key.to_bytes()), GOLDEN_KEY);
        assert_eq!(hex(&grip.to_bytes()), GOLDEN_GRIP);
        assert_eq!(KmsKey::from_bytes(key.to_bytes()), Ok(key.clone()));
        assert_eq!(KmsGrip::from_bytes(grip.to_bytes()), Ok(grip.clone()));
        for len in 0..key.to_bytes().len() {
            assert!(KmsKey::from_bytes(key.to_bytes().slice(..len)).is_err());
        }
        for len in 0..grip.to_bytes().len() {
            assert!(KmsGrip::from_bytes(grip.to_bytes().slice(..len)).is_err());
        }
    }

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    const GOLDEN_KEY: &str = "010163000000010000006b0101010101010101010101010101010101000000640600000000000000010700000000000000020000000100000001012a0000000200000003000000000000000400000005050505050505050505050505050505060000007365616c6564";
    const GOLDEN_GRIP: &str = "01012d000000010000006b01010101010101010101010101010101020000000100000073010000000100000061010000006201";
}
