//! A pool: how its objects are split into placement groups and how many copies each has.

use crate::codec::{Decode, DecodeError, Encode, Reader, Writer};
use crate::ids::Epoch;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// How a pool keeps its objects.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PoolKind {
    /// `size` whole copies.
    #[default]
    Replicated,
    /// Data and parity slots (a later format; the tag is reserved).
    Erasure,
}

impl Encode for PoolKind {
    fn encode(&self, out: &mut Writer) {
        // Ceph's numbers.
        match self {
            PoolKind::Replicated => 1u8,
            PoolKind::Erasure => 3,
        }
        .encode(out);
    }
}

impl Decode for PoolKind {
    fn decode(input: &mut Reader) -> Result<Self, DecodeError> {
        match u8::decode(input)? {
            1 => Ok(PoolKind::Replicated),
            3 => Ok(PoolKind::Erasure),
            tag => Err(DecodeError::Invalid { what: "pool kind", value: tag.into() }),
        }
    }
}

/// A pool.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pool {
    /// For people; unique.
    pub name: String,
    /// How objects are kept.
    pub kind: PoolKind,
    /// Copies that a healthy placement group has.
    pub size: u8,
    /// Copies without which nothing is committed (R10).
    pub min_size: u8,
    /// Placement groups.
    pub pg_num: u32,
    /// Placement groups as far as CRUSH is concerned; equals `pg_num` when no split is under way.
    pub pgp_num: u32,
    /// The CRUSH rule; below 256.
    pub crush_rule: u32,
    /// The epoch of the last change of this pool.
    pub last_change: Epoch,
    /// Clients resend what they sent under an older epoch (a split).
    pub resend_since: Epoch,
    /// Newest snapshot of the pool.
    pub snap_seq: u64,
    /// 0 for none.
    pub quota_bytes: u64,
    /// 0 for none.
    pub quota_objects: u64,
    /// What uses the pool: "s3", "cephfs", …
    pub applications: BTreeMap<String, BTreeMap<String, String>>,
    /// Settings by name that this struct does not know.
    pub options: BTreeMap<String, String>,
}

crate::codec_versioned!(Pool, 1, 1 {
    name, kind, size, min_size, pg_num, pgp_num, crush_rule, last_change, resend_since, snap_seq,
    quota_bytes, quota_objects, applications, options,
});
