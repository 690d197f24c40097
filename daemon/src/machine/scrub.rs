//! Scrub: reads what nobody asks for, compares the copies, mends those that are bad, and counts what is whole.
//!
//! The primary of an active group walks it in ranges of names. Every member, the primary too, makes a digest of
//! each object in the range (`digest`), the primary compares them (`compare`), has bad copies replaced from a good
//! one (`mend`), looks at them again, deep, and only then counts them as repaired (`walk`). What came of it is
//! kept by every member (`record`); when a walk begins is worked out from that (`schedule`).
//!
//! | walk | looks at |
//! |---|---|
//! | light | which objects there are; what is known of each (version, size, times), xattrs, omap header, keys and values as the index has them |
//! | deep | the same, and every byte, read from the medium past any cache and checked against its checksum |
//!
//! # How copies are compared while clients write
//!
//! Nothing is held back for a range. An object's content is a function of its name and version, so two digests of
//! one version must be equal, whenever they were made. Where versions differ, the primary's log says whether
//! the object changed since the round began (`as_of`); such an object is looked at again. One that changes all
//! the time is held, its writes wait, for as long as its digest takes.
//!
//! # Who is right
//!
//! - A copy that does not verify never is.
//! - Of different versions the newest is: what was applied anywhere is committed, so all must have it.
//! - An object that some lack and that no removal in the log explains exists: a deletion that was missed leaves
//!   garbage, a copy that was lost must come back.
//! - Of one version with different content, all verifying, the majority is. Without a majority nobody is: the
//!   object stays inconsistent, and health says so, until a person says `pg repair`; then the primary's copy
//!   counts, as it does elsewhere.
//! - If no copy of the newest version verifies, the object is lost as it is: health names it; nothing is changed.
//!
//! # What is promised
//!
//! - An object is called repaired only after every member's copy was read from the medium again, and was equal.
//! - An inconsistency is told as soon as it is found, and until that moment.
//! - `verified` of a member is a time since which each of its copies was read and compared, or written. Writing
//!   counts as the first verification; a walk that skipped anything raises nothing.
//!
//! # What is not covered
//!
//! The index itself (onodes, omap) is compared as the daemon reads it: from memory where it is there, else from the
//! index's files, whose blocks have checksums. Its blocks are not read past its own cache. Copies of learners are
//! not looked at before they are members. Shards of erasure-coded groups are verified and their versions compared,
//! but their content is not compared with each other.

mod checksum;
mod compare;
mod config;
mod digest;
mod mend;
mod note;
mod record;
mod schedule;
mod walk;

pub use config::ScrubConfig;
pub use digest::{Digest, Scope};
pub use record::{Inconsistency, ScrubRecord, ScrubRun};

pub(crate) use digest::{Answer, Ask};

use super::core::Core;
use super::pg::Pg;
use crate::store::Store;
use digest::Digesting;
use mend::Wanted;
use std::collections::{BTreeMap, BTreeSet};
use store_base::{DaemonId, ObjectName, PgId, Time};
use walk::Walk;

/// Of the whole daemon.
#[derive(Clone, Debug, Default)]
pub(crate) struct ScrubCore {
    /// Groups that this daemon leads and walks.
    pub(crate) walking: BTreeSet<PgId>,
    /// Digests being made here, for itself and others.
    pub(crate) digesting: usize,
}

/// Of a group.
#[derive(Debug, Default)]
pub(crate) struct Scrub {
    /// Durable.
    pub(crate) record: ScrubRecord,
    /// At the primary: what members said of their own copies, in this interval.
    pub(crate) told: BTreeMap<DaemonId, u64>,
    /// When members were last asked.
    pub(crate) asked_at: Option<Time>,
    /// At the primary: the walk under way.
    pub(crate) walk: Option<Box<Walk>>,
    /// No walk begins before.
    pub(crate) not_before: Time,
    /// When the progress was last made durable.
    pub(crate) saved_at: Time,
    /// A digest being made.
    pub(crate) digesting: Option<Box<Digesting>>,
    /// Copies that are to be replaced: by which version, from whom.
    pub(crate) wanted: BTreeMap<ObjectName, Wanted>,
}

impl Pg {
    /// The interval is over.
    pub(crate) fn stop_scrub<S: Store>(&mut self, core: &mut Core<S>) {
        self.stop_walk(core);
        self.stop_digest(core);
        self.scrub.told.clear();
        self.scrub.wanted.clear();
        self.scrub.asked_at = None;
    }
}

impl Scrub {
    /// Whether writes of an object must wait.
    pub(crate) fn holds(&self, object: &ObjectName) -> bool {
        self.walk.as_ref().is_some_and(|walk| walk.holds(object))
    }
}
