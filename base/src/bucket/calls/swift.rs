//! What the Swift side adds: descriptions of objects, documents of buckets, accounts.

use super::*;
use std::collections::BTreeMap;

/// `describe`: gives an object other headers and metadata; its body stays. Output: `Answer<Entry>`;
/// `NoBucket`, `NoKey`, `DeleteMarker`, `Locked`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Describe {
    /// The key: the newest version is meant.
    pub key: Bytes,
    /// The headers, as in [`Detail`].
    pub headers: BTreeMap<String, String>,
    /// Headers that stay as they are where `headers` has none of that name.
    pub keep: Vec<String>,
    /// The metadata, as in [`Detail`].
    pub metadata: BTreeMap<String, Bytes>,
    /// The caller's clock: when the object was last modified.
    pub now_ms: u64,
}
crate::codec_struct!(Describe { key, headers, keep, metadata, now_ms });

/// The metadata of a container (a document of its bucket) or of an account.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SwiftMetadata {
    /// Counts the changes.
    pub revision: u64,
    /// When it was first set, in ms since 1970.
    pub created_ms: u64,
    /// When it was last changed, in ms since 1970.
    pub modified_ms: u64,
    /// By lower-case name without `x-container-meta-` or `x-account-meta-`.
    pub metadata: BTreeMap<String, Bytes>,
    /// What else was set by headers, by the whole name of the header: access control, places of old versions.
    pub settings: BTreeMap<String, Bytes>,
}
// Version 2 added `settings`.
crate::codec_versioned!(SwiftMetadata, 2, 1 {
    revision, created_ms, modified_ms, metadata, settings since 2,
});

/// `registry.account`: what is kept of an account. Output: `Option<SwiftMetadata>`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReadAccount {
    /// The user's id.
    pub id: String,
}
crate::codec_struct!(ReadAccount { id });

/// `registry.set_account`: replaces what is kept of an account. Output: `Answer<Nothing>`;
/// `Precondition` if what is there is not of the revision before.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SetAccount {
    /// The user's id.
    pub id: String,
    /// What it becomes.
    pub account: SwiftMetadata,
}
crate::codec_struct!(SetAccount { id, account });
