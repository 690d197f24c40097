//! What is stored of accounts.

use bytes::Bytes;
use std::collections::{BTreeMap, BTreeSet};

/// What an entity is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// Somebody with keys.
    User {},
    /// Some users.
    Group {},
    /// What can be assumed for a while.
    Role {},
}
crate::codec_enum!(Kind { 1 => User {}, 2 => Group {}, 3 => Role {} });

/// An access key.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Key {
    /// The secret, sealed by the gateway with the cluster's key.
    pub sealed_secret: Bytes,
    /// When it was made, in ms since 1970.
    pub created_ms: u64,
    /// Whether it may be used.
    pub active: bool,
}
crate::codec_versioned!(Key, 1, 1 { sealed_secret, created_ms, active });

/// A user, a group or a role. What another kind has is empty.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Entity {
    /// The name, as it was given.
    pub name: String,
    /// Begins and ends with a slash.
    pub path: String,
    /// Names this one, and no later one of the same name.
    pub id: String,
    /// When it was made, in ms since 1970.
    pub created_ms: u64,
    /// Its own policies by name.
    pub inline: BTreeMap<String, String>,
    /// ARNs of managed policies.
    pub attached: BTreeSet<String>,
    /// Of a user: his keys by access key.
    pub keys: BTreeMap<String, Key>,
    /// Of a user: lower-case names of his groups.
    pub groups: BTreeSet<String>,
    /// Of a role: who may assume it.
    pub trust: String,
    /// Of a role: for people.
    pub description: String,
    /// Of a role: how long it may be assumed, in seconds.
    pub session_secs_max: u32,
}
crate::codec_versioned!(Entity, 1, 1 {
    name, path, id, created_ms, inline, attached, keys, groups, trust, description, session_secs_max,
});

/// A policy that entities of the account share.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ManagedPolicy {
    /// The name, as it was given.
    pub name: String,
    /// Begins and ends with a slash.
    pub path: String,
    /// Names this one, and no later one of the same name.
    pub id: String,
    /// When it was made, in ms since 1970.
    pub created_ms: u64,
    /// For people.
    pub description: String,
    /// The policy.
    pub document: String,
    /// How many entities it is attached to.
    pub attachments: u32,
}
crate::codec_versioned!(ManagedPolicy, 1, 1 {
    name, path, id, created_ms, description, document, attachments,
});

/// Whose an access key is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KeyOwner {
    /// The account.
    pub account: String,
    /// The lower-case name of the user; empty for the root user.
    pub user: String,
}
crate::codec_versioned!(KeyOwner, 1, 1 { account, user });
