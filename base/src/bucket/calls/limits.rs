//! What a user or a bucket may have and do.

use crate::codec::Encode;
use bytes::Bytes;

/// The name of the document of a bucket that holds its encoded [`Limits`].
pub const LIMITS_DOCUMENT: &str = "limits";

/// What a user or a bucket may have, and how fast. 0 stands for without limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// Whether the quota is in force.
    pub quota: bool,
    /// Bytes of all bodies, older versions included.
    pub bytes_max: u64,
    /// Objects, older versions and delete markers included.
    pub objects_max: u64,
    /// Bytes of bodies that one gateway gives out in a second.
    pub read_rate: u64,
    /// Bytes of bodies that one gateway takes in in a second.
    pub write_rate: u64,
    /// Requests that one gateway answers in a second.
    pub request_rate: u64,
}
crate::codec_versioned!(Limits, 1, 1 {
    quota, bytes_max, objects_max, read_rate, write_rate, request_rate,
});

impl Limits {
    /// Whether there is no limit at all.
    pub fn is_none(&self) -> bool {
        *self == Limits::default()
    }

    /// Whether a quota limits anything.
    pub fn has_quota(&self) -> bool {
        self.quota && (self.bytes_max > 0 || self.objects_max > 0)
    }

    /// The byte form, as a bucket's document has it.
    pub fn document(&self) -> Bytes {
        self.to_bytes()
    }
}

/// `registry.limits`: those of a user. Output: `Option<Limits>`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReadLimits {
    /// The user's id.
    pub id: String,
}
crate::codec_struct!(ReadLimits { id });

/// `registry.set_limits`: replaces those of a user. Output: `Nothing`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SetLimits {
    /// The user's id.
    pub id: String,
    /// What they become.
    pub limits: Limits,
}
crate::codec_struct!(SetLimits { id, limits });

/// What a shard may hold at most, older versions included: what a quota leaves to it when all that the
/// other shards hold is taken off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ceiling {
    /// Objects.
    pub objects: u64,
    /// Bytes of their bodies.
    pub bytes: u64,
}
crate::codec_struct!(Ceiling { objects, bytes });
