//! Encrypted bodies: what is kept beside them, and how their bytes lie.
//!
//! A body is cut into segments of [`SEGMENT_BYTES`]; each is sealed by itself with AES-256-GCM and lies as its
//! ciphertext and a tag of [`SEAL_BYTES`], one behind the other. So a stretch can be read without what is
//! before it, and the sizes of plain and sealed bytes follow from each other. Each run of data (an object put
//! in one piece, or a part) begins with segment 0. All of this is on disks and never changes.

use super::{KmsGrip, WriteId};
use bytes::Bytes;

/// Plain bytes of a segment, but of the last of a run.
pub const SEGMENT_BYTES: u64 = 64 << 10;

/// Bytes that sealing adds to a segment.
pub const SEAL_BYTES: u64 = 16;

/// Bytes of a full segment as it lies.
pub const SEALED_SEGMENT_BYTES: u64 = SEGMENT_BYTES + SEAL_BYTES;

/// Bytes that a run takes once it is sealed.
pub fn sealed_bytes(plain: u64) -> u64 {
    plain.saturating_add(plain.div_ceil(SEGMENT_BYTES).saturating_mul(SEAL_BYTES))
}

/// Takes [`sealed_bytes`] back.
pub fn plain_bytes(sealed: u64) -> u64 {
    sealed.saturating_sub(sealed.div_ceil(SEALED_SEGMENT_BYTES).saturating_mul(SEAL_BYTES))
}

/// Who has the key that opens the key of a body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeyHolder {
    /// The cluster: this version of its keys.
    Cluster {
        /// Which.
        version: u32,
    },
    /// The client, who brings it with every request.
    Customer {},
    /// The key ring. Who does not know of it cannot read the record.
    Kms {
        /// Which of its keys, and how.
        grip: KmsGrip,
    },
}
crate::codec_enum!(KeyHolder { 1 => Cluster { version }, 2 => Customer {}, 3 => Kms { grip } });

impl Default for KeyHolder {
    fn default() -> Self {
        KeyHolder::Customer {}
    }
}

/// That, and how, a body is encrypted. Every body has a key of its own, which is kept here, wrapped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Encryption {
    /// Who can unwrap it.
    pub holder: KeyHolder,
    /// Goes into the wrapping. Random.
    pub id: WriteId,
    /// The key of the body, sealed.
    pub wrapped_key: Bytes,
}
crate::codec_versioned!(Encryption, 1, 1 { holder, id, wrapped_key });

/// A key of the cluster that wraps keys of bodies, as it is stored.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SealedKey {
    /// Counts from 1; bodies are written with the greatest.
    pub version: u32,
    /// When it was made, in ms since 1970.
    pub created_ms: u64,
    /// The key, sealed by the gateways.
    pub sealed: Bytes,
}
crate::codec_versioned!(SealedKey, 1, 1 { version, created_ms, sealed });

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_follow_from_each_other() {
        assert_eq!(sealed_bytes(0), 0);
        assert_eq!(sealed_bytes(1), 17);
        assert_eq!(sealed_bytes(SEGMENT_BYTES), SEALED_SEGMENT_BYTES);
        assert_eq!(sealed_bytes(SEGMENT_BYTES + 1), SEALED_SEGMENT_BYTES + 17);
        for plain in [0, 1, 15, 16, 17, SEGMENT_BYTES - 1, SEGMENT_BYTES, 5 << 30, (5 << 30) + 7] {
            assert_eq!(plain_bytes(sealed_bytes(plain)), plain);
        }
        assert_eq!(plain_bytes(3), 0, "what was never sealed is no panic");
        assert!(sealed_bytes(u64::MAX) == u64::MAX);
    }
}
