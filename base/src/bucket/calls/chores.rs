//! Inputs and outputs of the methods that workers call: removing what is due, and sharing the work among
//! gateways.

use super::super::records::*;
use super::{Notes, Removed};
use bytes::Bytes;
use std::collections::BTreeMap;

/// `retire`: removes versions whose time has come, each only if it is still exactly what was judged. Output:
/// `Answer<Vec<Answer<Removed>>>`, as of `remove`: for as many of the items as one transaction could take. Refusals:
/// `NoBucket`; of an item `Precondition` if another version is there by now, or none, or other tags, or if the
/// caller's clock is far ahead of the daemon's; `Locked` and `QueueFull`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Retire {
    /// What.
    pub items: Vec<RetireItem>,
    /// The caller's clock.
    pub now_ms: u64,
    /// The owner of the delete markers.
    pub owner: String,
    /// The bucket's settings as the caller knows them.
    pub settings: ObjectSettings,
}
crate::codec_struct!(Retire { items, now_ms, owner, settings });

/// A version that is to go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RetireItem {
    /// Its key.
    pub key: Bytes,
    /// The version as it was judged.
    pub seen: Entry,
    /// What becomes of it.
    pub how: Retirement,
    /// Its tags as they were judged, if they were.
    pub tags: Option<BTreeMap<String, String>>,
    /// Who is told of it.
    pub notes: Option<Notes>,
}
crate::codec_struct!(RetireItem { key, seen, how, tags, notes });

/// What becomes of a version whose time has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retirement {
    /// It is the object of its key, and is removed as by a plain delete: hidden where versions are kept.
    Object {},
    /// It is an older version, and is removed for good.
    Older {},
    /// It is a delete marker with no version beneath it, and is removed.
    Marker {},
}
crate::codec_enum!(Retirement { 1 => Object {}, 2 => Older {}, 3 => Marker {} });

/// Output of `retire`: one for each item.
pub type Retired = Vec<super::Answer<Removed>>;

/// `due`: the objects that expire first. Output: `Answer<DuePage>`; `NoBucket`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Due {
    /// Only what expires before, and in any case only what has expired by the daemon's clock.
    pub before_ms: u64,
    /// Goes on behind this place; empty for the start.
    pub after: Bytes,
    /// At most so many; fewer come where they are long.
    pub max: u32,
}
crate::codec_struct!(Due { before_ms, after, max });

/// Output of `due`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DuePage {
    /// Keys and their objects, those that expire first before the others.
    pub items: Vec<(Bytes, Entry)>,
    /// Where to go on; `None` if this was all.
    pub next: Option<Bytes>,
}
crate::codec_struct!(DuePage { items, next });

/// The name of the work of splitting a shard.
pub const SPLIT_WORK: &str = "split";

/// The name of the work of delivering events. It has no rounds.
pub const EVENTS_WORK: &str = "events";

/// The name of the work of removing objects that end by themselves. It has no rounds.
pub const EXPIRY_WORK: &str = "expiry";

/// How far a worker is with a shard.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Chore {
    /// Who works at it: a random number of its process.
    pub holder: u64,
    /// Until when it is his alone, in ms since 1970 by the daemon's clock; 0 once he is done.
    pub until_ms: u64,
    /// Which round it is.
    pub round: u64,
    /// What the round goes by: a number made of the rules. Other rules make another round.
    pub plan: u64,
    /// Whether the round is done.
    pub done: bool,
    /// Where to go on in the round; only its worker understands it.
    pub place: Bytes,
    /// When the round began, in ms since 1970 by the daemon's clock.
    pub began_ms: u64,
    /// When it was last heard of.
    pub heard_ms: u64,
    /// How much was looked at in the round.
    pub looked: u64,
    /// How much was done.
    pub acted: u64,
    /// How much could not be done: it had changed meanwhile, or is locked.
    pub passed: u64,
}
crate::codec_versioned!(Chore, 1, 1 {
    holder, until_ms, round, plan, done, place, began_ms, heard_ms, looked, acted, passed,
});

/// `claim`: takes the work at a shard. A round that was not done is gone on with. A work that has no rounds is never
/// done; and a round that began long ago, by the daemon's clock, does not keep a lower one from being made: whoever made
/// it had a wrong clock. Output:
/// `Answer<Option<Chore>>`, `None` if there is nothing to do or another one does it; `NoBucket`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Claim {
    /// Which work.
    pub name: String,
    /// Who asks.
    pub holder: u64,
    /// How long it is his unless he reports.
    pub lease_ms: u64,
    /// The round that is due.
    pub round: u64,
    /// As in [`Chore`].
    pub plan: u64,
}
crate::codec_struct!(Claim { name, holder, lease_ms, round, plan });

/// `report`: tells how far one is, and keeps the work. Output: `Answer<bool>`, `false` if it is another's
/// by now: stop; `NoBucket`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Which work.
    pub name: String,
    /// Who reports.
    pub holder: u64,
    /// As in [`Claim`].
    pub lease_ms: u64,
    /// Where to go on.
    pub place: Bytes,
    /// Whether the round is done.
    pub done: bool,
    /// How much more was looked at.
    pub looked: u64,
    /// How much more was done.
    pub acted: u64,
    /// How much more could not be done.
    pub passed: u64,
}
crate::codec_struct!(Report { name, holder, lease_ms, place, done, looked, acted, passed });

/// `chore`: how far the work is. Output: `Answer<Option<Chore>>`; `NoBucket`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReadChore {
    /// Which work.
    pub name: String,
}
crate::codec_struct!(ReadChore { name });
