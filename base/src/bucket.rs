//! The bucket index: what S3 and Swift buckets are made of, as records in the omap of index
//! objects and as class methods that run in the daemon.
//!
//! Two kinds of index object:
//!
//! **A shard** `<bucket id>.<generation>.<shard>` in pool `s3.index` holds the objects of a bucket whose
//! key hashes to it (`layout`). Its omap, by the first byte of the key:
//!
//! | omap key | value | what |
//! |---|---|---|
//! | `e/` key | [`Entry`] | what a listing shows of an object |
//! | `d/` key | [`Detail`] | headers, user metadata, and the body itself or where it lies |
//! | `v/` escaped key, version (8, BE) | [`Entry`] | an older version, or a delete marker |
//! | `w/` escaped key, version (8, BE) | [`Detail`] | of a version, whether it is the newest or not |
//! | `n/` key | u64 [`Entry::sequence`] | the `null` version, where that is under `v/` |
//! | `g/` ms (8, BE) [`DataRef::key`] (22) | [`Discarded`] | data that nothing refers to any more |
//! | `i/` [`DataRef::key`] (22) | [`Intent`] | data that is being written and not yet committed |
//! | `m/` id (16) | [`Manifest`] | where the body of an object with many parts lies |
//! | `p/` upload (16) part (2, BE) | [`Part`] | a part of a multipart upload |
//! | `u/` escaped key, upload (16) | [`Upload`] | a multipart upload in progress |
//! | `x/` ms (8, BE) key | nothing | an object, by [`Entry::expires_ms`] |
//! | `j/` name | [`Chore`] | how far a worker is with this shard, and whose it is |
//! | `q/` number (8, BE) | [`EventRecord`] | an event that waits for its delivery |
//! | `k/` escaped name | [`Journal`] | a journal of other buckets' changes, to be delivered into this bucket |
//! | `l/` escaped name, number (8, BE) | [`JournalRecord`] | a record of it |
//!
//! and its xattr `shard` the [`ShardHead`]: to which bucket it belongs, whether it is sealed, the count and
//! bytes of its objects and of its older versions, the bucket's [`ObjectSettings`], and its part in splits
//! ([`Lineage`]). A version is
//! written as its [`Entry::sequence`] inverted, so that the newest sorts first. What is under `v/`, `w/`
//! and `n/`, and when, is said in `versions`; a bucket that never had versions has none of it.
//!
//! **A registry object** `registry.<n>` in pool `s3.meta` holds the buckets whose name hashes to it:
//!
//! | omap key | value | what |
//! |---|---|---|
//! | `b/` name | [`BucketRecord`] | the bucket |
//! | `o/` owner, 0x00, name | u64 creation time in ms | the owner's buckets |
//! | `a/` owner | [`SwiftMetadata`] | metadata of the owner's Swift account |
//! | `l/` owner | [`Limits`] | what the owner may have and do |
//! | `x/` bucket id (8, BE) | [`BucketRecord`] | a removed bucket whose shards are still to be cleared |
//!
//! **A data object** of a version with a lock repeats it (`body`): from then on only the class `body` changes or
//! removes it. All other objects here are kept by their classes in the same way
//! ([`keeper_number`](crate::class::keeper_number)): raw ops and other classes may only read them.
//!
//! **The keys** `encryption.keys` in pool `s3.meta`: `k/` version (4, BE) holds a [`SealedKey`], one of the cluster's
//! keys for encrypted bodies; `w/` the least version (4, LE) that bodies are to be written with, if somebody asked for
//! a new one.
//!
//! **The key ring** `encryption.kms` in pool `s3.meta`: `k/` id holds a [`KmsKey`]; the xattr `kms` how many there are.
//!
//! Invariants:
//! - an entry is there if and only if its detail is (a delete marker has none); both change in one
//!   transaction;
//! - the counts in the head equal the `e/` and the `v/` entries;
//! - an event is recorded in the transaction of the change that it tells of; the head's count equals the
//!   `q/` records;
//! - a journal is there if and only if it has records, and counts them (`journal`);
//! - `x/` has a record of an entry under `e/` if and only if that expires;
//! - settings come to a shard with a greater revision only, so that all shards agree in the end; they are
//!   in force when every shard has them;
//! - no method takes a version away that a lock protects, by the daemon's clock: `put`, `complete`, `remove` and
//!   `retire` look, `take` writes over none, and a manifest that `swept` removes was of the version that went. Only
//!   `pass` does not look: it lets versions go that its caller says another shard has (`split`);
//! - data objects (pool `s3.data`) are named by exactly one of: a manifest, a part, an intent, a garbage
//!   record (which may do so by naming a manifest or all parts of an upload). A transaction moves a name
//!   from one to the other, so nothing is lost by a crash and nothing is removed that is still referred to;
//! - what a removal adds is small, so that a full cluster can take it;
//! - a key is of one shard at every moment, or on its way between two and of none; every method about a key asks
//!   whose it is (`split`, `layout`);
//! - a commit names its intent and is refused when the intent is gone: the sweeper may have given the
//!   data up;
//! - a sealed shard accepts no new entry, upload or intent, and is never unsealed once its bucket's
//!   record is removed.

mod acl;
mod body;
mod calls;
mod chores;
mod events;
mod garbage;
mod index;
mod journal;
mod keys;
mod kms;
mod layout;
mod list;
mod locks;
mod multipart;
pub mod placement;
mod records;
mod registry;
mod share;
mod split;
mod version_list;
mod versions;

pub use acl::*;
pub use body::{LockBody, METHODS as BODY_METHODS, RemoveBody};
pub use calls::*;
pub use layout::*;
pub use records::*;

use crate::class::{
    ClassContext, ClassError, Method, REPLY_BYTES_MAX, Reply, methods, stored, stored_at,
};
use crate::codec::{Decode, Encode};
use bytes::Bytes;

/// The class of the index shards.
pub const CLASS: &str = "bucket";

/// The class of the registry objects.
pub const REGISTRY_CLASS: &str = "registry";

/// The class of the data objects of what is locked.
pub const BODY_CLASS: &str = "body";

/// Bytes of data in one data object; recorded in each manifest, so it may change later.
pub const STRIPE_BYTES: u32 = 4 << 20;

/// Number of registry objects. Never changes: the place of a name depends on it.
pub const REGISTRY_SHARDS: u32 = 8;

/// Default number of index shards of a new bucket; recorded in its record.
pub const SHARDS_DEFAULT: u32 = 8;

/// Default of how many objects and older versions a shard holds before it is split. 0: shards are split only where
/// an operator says so.
pub const SPLIT_KEYS_DEFAULT: u64 = 0;

/// Most keys of a page that a split hands over: they wait while it is on its way.
pub const PAGE_KEYS_MAX: u32 = 256;

/// Most parts of a multipart upload.
pub const PARTS_MAX: u32 = 10_000;

/// Most bytes of all documents of a bucket: its record is read with every page of buckets.
pub const DOCUMENTS_BYTES_MAX: usize = 256 << 10;

/// Greatest number, of a version, an event or a revision, that is taken from a caller: from here on a shard can count
/// as long as it lives.
const NUMBER_MAX: u64 = 1 << 62;

/// Most omap pairs that a method reads at a time.
const BATCH: usize = 128;

const SHARD_XATTR: &str = "shard";

/// The methods of the index shards.
pub const METHODS: [Method; 45] = methods! { CLASS;
    "init" Write index::init,
    "seal" Write index::seal,
    "unseal" Write index::unseal,
    "clear" Write index::clear,
    "stats" Read index::stats,
    "read" Read index::read,
    "put" Write index::put,
    "remove" Write index::remove,
    "list" Read list::list,
    "versions" Read version_list::versions,
    "lock" Write locks::lock,
    "tag" Write locks::tag,
    "describe" Write locks::describe,
    "configure" Write index::configure,
    "intend" Write garbage::intend,
    "cancel" Write garbage::cancel,
    "expire" Write garbage::expire,
    "garbage" Read garbage::garbage,
    "swept" Write garbage::swept,
    "upload" Write multipart::upload,
    "part" Write multipart::part,
    "parts" Read multipart::parts,
    "uploads" Read multipart::uploads,
    "complete" Write multipart::complete,
    "abort" Write multipart::abort,
    "set_acl" Write share::set_acl,
    "retire" Write chores::retire,
    "due" Read chores::due,
    "claim" Write chores::claim,
    "report" Write chores::report,
    "chore" Read chores::chore,
    "events" Read events::events,
    "delivered" Write events::delivered,
    "shape" Read split::shape,
    "sprout" Write split::sprout,
    "split" Write split::split,
    "pass" Write split::pass,
    "carry" Read split::carry,
    "take" Write split::take,
    "journal_add" Write journal::add,
    "journal_settle" Write journal::settle,
    "journal_cut" Write journal::cut,
    "journal_read" Read journal::read,
    "journal_clear" Write journal::clear,
    "journals" Read journal::list,
};

/// The methods of the registry objects.
pub const REGISTRY_METHODS: [Method; 23] = methods! { REGISTRY_CLASS;
    "create" Write registry::create,
    "ready" Write registry::ready,
    "condemn" Write registry::condemn,
    "reprieve" Write registry::reprieve,
    "read" Read registry::read,
    "configure" Write registry::configure,
    "list" Read registry::list,
    "remove" Write registry::remove,
    "doomed" Read registry::doomed,
    "forget" Write registry::forget,
    "set_document" Write registry::set_document,
    "remove_document" Write registry::remove_document,
    "account" Read registry::account,
    "set_account" Write registry::set_account,
    "keys" Read keys::keys,
    "add_key" Write keys::add_key,
    "wanted_key" Read keys::wanted_key,
    "want_key" Write keys::want_key,
    "kms_key" Read kms::key,
    "kms_keys" Read kms::keys,
    "kms_change" Write kms::change,
    "limits" Read registry::limits,
    "set_limits" Write registry::set_limits,
};

/// The name of an index shard object.
pub fn shard_name(bucket: BucketId, generation: u32, shard: u32) -> String {
    format!("{bucket}.{generation}.{shard}")
}

/// The shard of a key.
pub fn shard_of(key: &[u8], shards: u32) -> u32 {
    crate::hash::rjenkins(key) % shards.max(1)
}

/// The name of the registry object that knows this bucket name.
pub fn registry_name(bucket: &str) -> String {
    registry_shard_name(crate::hash::rjenkins(bucket.as_bytes()) % REGISTRY_SHARDS)
}

/// The name of a registry object.
pub fn registry_shard_name(shard: u32) -> String {
    format!("registry.{shard}")
}

/// The least byte string greater than every string that begins with `prefix`; `None` if there is none
/// (the prefix is empty or all 0xff).
pub fn after_prefix(prefix: &[u8]) -> Option<Vec<u8>> {
    let last = prefix.iter().rposition(|&b| b != 0xff)?;
    let mut bound = prefix[..=last].to_vec();
    bound[last] += 1;
    Some(bound)
}

/// The number behind one. A counter never begins anew: its numbers are names.
fn next_number(number: u64) -> Result<u64, ClassError> {
    number.checked_add(1).ok_or_else(|| ClassError::Damaged("a counter is at its end".into()))
}

/// Refuses settings of a new bucket, or a new shard, that no bucket ever has.
fn check_settings(settings: &ObjectSettings) -> Result<(), ClassError> {
    match settings.revision <= NUMBER_MAX {
        true => Ok(()),
        false => Err(ClassError::Invalid("a revision that no bucket has".into())),
    }
}

fn key_in(space: u8, key: &[u8]) -> Bytes {
    let mut whole = Vec::with_capacity(2 + key.len());
    whole.extend_from_slice(&[space, b'/']);
    whole.extend_from_slice(key);
    whole.into()
}

/// The first key behind all keys of a space.
fn space_end(space: u8) -> [u8; 2] {
    [space, b'/' + 1]
}

#[cfg(test)]
mod tests;
