//! Users, groups, roles, keys and policies of accounts, as records in the omap of identity objects and as
//! class methods that run in the daemon.
//!
//! An **account** belongs to a user of the monitor's map, its *root user*, and has his name. What he adds
//! lives here, and never in the monitor: an identity object `identity.<n>` in pool `s3.meta` holds the
//! accounts whose name hashes to it, each account wholly, so that every change is one transaction of one object.
//! An access key tells in its letters which object knows it (`gateway::iam::keys`), so that there is no
//! second index that could disagree.
//!
//! | omap key | value | what |
//! |---|---|---|
//! | `u/` account, 0x00, lower-case name | [`Entity`] | a user; the empty name is what is kept of the root user |
//! | `g/` account, 0x00, lower-case name | [`Entity`] | a group |
//! | `r/` account, 0x00, lower-case name | [`Entity`] | a role |
//! | `p/` account, 0x00, lower-case name | [`ManagedPolicy`] | a managed policy |
//! | `m/` account, 0x00, group, 0x00, user | nothing | the user is in the group |
//! | `k/` access key | [`KeyOwner`] | whose it is |
//!
//! Invariants:
//! - an access key is under `k/` if and only if the entity that it names has it; both change in one transaction;
//! - a user is under `m/` of a group if and only if his record names the group;
//! - [`ManagedPolicy::attachments`] counts the entities of the account that the policy is attached to;
//! - nothing is removed that something else needs: users with keys or policies, groups with members, policies in use.
//!
//! Documents are opaque here; that they are policies is checked by who writes them.

mod calls;
mod change;
mod read;
mod records;

pub use calls::*;
pub use records::*;

use crate::class::{ClassContext, ClassError, Method, Reply, methods, stored, stored_at};
use crate::codec::{Decode, Encode};
use bytes::Bytes;

/// The class of the identity objects.
pub const CLASS: &str = "identity";

/// Number of identity objects. Never changes: access keys say in which one they are.
pub const IDENTITY_SHARDS: u32 = 1024;

/// Most users, most groups, most roles and most policies of an account.
pub const ENTITIES_MAX: u32 = 5000;

/// Most access keys of a user.
pub const KEYS_MAX: usize = 2;

/// Most groups of a user.
pub const GROUPS_MAX: usize = 10;

/// Most managed policies of an entity.
pub const ATTACHED_MAX: usize = 20;

/// Most bytes of the inline policies of an entity together.
pub const INLINE_BYTES_MAX: usize = 10 << 10;

/// Most bytes of all that is attached to an entity and of its inline policies together. What holds for a user, who is
/// in [`GROUPS_MAX`] groups, is one answer, and must never be too long for it: nobody could log in with his keys.
pub const POLICIES_BYTES_MAX: usize = 80 << 10;

/// Most omap pairs that a method reads at a time.
const BATCH: usize = 128;

/// The methods of the identity objects.
pub const METHODS: [Method; 8] = methods! { CLASS;
    "change" Write change::change,
    "entity" Read read::entity,
    "bundle" Read read::bundle,
    "key" Read read::key,
    "list" Read read::list,
    "policy" Read read::policy,
    "policies" Read read::policies,
    "counts" Read read::counts,
};

/// The number of the identity object that knows this account.
pub fn shard_of(account: &str) -> u32 {
    crate::hash::rjenkins(account.as_bytes()) % IDENTITY_SHARDS
}

/// The name of an identity object.
pub fn object_name(shard: u32) -> String {
    format!("identity.{shard}")
}

/// Names are the same in every case.
fn lower(name: &str) -> String {
    name.to_ascii_lowercase()
}

fn space(kind: Kind) -> u8 {
    match kind {
        Kind::User {} => b'u',
        Kind::Group {} => b'g',
        Kind::Role {} => b'r',
    }
}

fn key_in(space: u8, parts: &[&str]) -> Bytes {
    let mut key = vec![space, b'/'];
    for (n, part) in parts.iter().enumerate() {
        if n > 0 {
            key.push(0);
        }
        key.extend_from_slice(part.as_bytes());
    }
    key.into()
}

fn entity_key(account: &str, kind: Kind, name: &str) -> Bytes {
    key_in(space(kind), &[account, &lower(name)])
}

fn policy_key(account: &str, name: &str) -> Bytes {
    key_in(b'p', &[account, &lower(name)])
}

/// The name of the managed policy of this account that an ARN means; `None` for one that is not the account's.
fn own_policy<'a>(account: &str, arn: &'a str) -> Option<&'a str> {
    let own = arn.contains(&format!(":{account}:policy/"));
    own.then(|| arn.rsplit('/').next().unwrap_or_default())
}

/// The first key behind all that begin with `prefix`, whose last byte is 0.
fn behind(prefix: &[u8]) -> Vec<u8> {
    let mut end = prefix.to_vec();
    if let Some(last) = end.last_mut() {
        *last += 1;
    }
    end
}

#[cfg(test)]
mod tests;
