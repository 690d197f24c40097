//! What a daemon tells of itself: for metrics, health pages, and the checkers of tests.

use super::Daemon;
use super::catch_up::CatchUp;
use super::pg::{Pg, Phase, Role};
use super::report::SLOW_AFTER;
use super::scrub::ScrubRecord;
use crate::store::{LogEntry, Store, Usage};
use std::collections::BTreeMap;
use store_base::{DaemonId, Epoch, Incarnation, Interval, ObjectName, PgId, Time, Version};

/// What a daemon has done since its start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Requests of clients.
    pub requests: u64,
    /// Entries committed as primary.
    pub commits: u64,
    /// Entries applied, in any role.
    pub applied: u64,
    /// Objects brought in whole from other daemons.
    pub objects_in: u64,
    /// Bytes of objects brought in whole; those that repaired damage are not counted.
    pub bytes_in: u64,
    /// Objects sent whole to other daemons.
    pub objects_out: u64,
    /// Damaged objects that were repaired from another daemon.
    pub repairs: u64,
    /// Objects whose copies were compared and found equal, as primary.
    pub scrubbed_objects: u64,
    /// Bytes of these that were read, of one copy.
    pub scrubbed_bytes: u64,
    /// Copies that a scrub had replaced, and found good then.
    pub scrub_repairs: u64,
}

/// Counts of a daemon.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Status {
    /// Its id, if it has one.
    pub id: Option<DaemonId>,
    /// Which life.
    pub incarnation: Incarnation,
    /// The map it acts by.
    pub epoch: Epoch,
    /// The map has this life up.
    pub is_up: bool,
    /// Groups here.
    pub pgs: usize,
    /// Groups that it leads and serves.
    pub pgs_serving: usize,
    /// Requests that wait.
    pub waiting_requests: usize,
    /// Bytes of them.
    pub waiting_bytes: usize,
    /// Entries that are not committed yet, at primaries.
    pub open_entries: usize,
    /// Reads on their way.
    pub open_reads: usize,
    /// Copies coming in.
    pub pulls: usize,
    /// Copies going out.
    pub pushes: usize,
    /// Damage found since the start.
    pub read_errors: u64,
    /// Bytes of all logs in memory, about.
    pub log_bytes: usize,
    /// Room on the medium.
    pub usage: Usage,
    /// Groups here by state, in Ceph's words; those that another daemon leads are "replica".
    pub pg_states: BTreeMap<String, usize>,
    /// Copies that are yet to be made, of the groups it leads.
    pub missing: u64,
    /// Requests that have waited for very long.
    pub slow_requests: u64,
    /// Since the start.
    pub done: Totals,
}

/// What a daemon is for a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PgRole {
    /// Nothing now.
    Idle,
    /// Leads.
    Primary,
    /// Follows.
    Member,
    /// Catches up.
    Learner,
}

/// A group, for checkers.
pub struct PgView<'a> {
    pg: &'a Pg,
    serving: bool,
}

impl PgView<'_> {
    /// Which.
    pub fn id(&self) -> PgId {
        self.pg.id
    }

    /// The interval confirmed.
    pub fn interval(&self) -> Interval {
        self.pg.interval()
    }

    /// The interval synced.
    pub fn synced(&self) -> Interval {
        self.pg.synced.interval
    }

    /// The role now.
    pub fn role(&self) -> PgRole {
        match &self.pg.role {
            Role::Idle => PgRole::Idle,
            Role::Primary(_) => PgRole::Primary,
            Role::Replica(replica) if replica.is_learner => PgRole::Learner,
            Role::Replica(_) => PgRole::Member,
        }
    }

    /// Whether it would serve a read now.
    pub fn serving(&self) -> bool {
        self.serving
    }

    /// The last applied entry.
    pub fn applied(&self) -> Version {
        self.pg.log.applied()
    }

    /// The last entry.
    pub fn head(&self) -> Version {
        self.pg.log.head()
    }

    /// The entries, applied ones without mutations.
    pub fn log(&self) -> impl Iterator<Item = &LogEntry> {
        self.pg.log.entries()
    }

    /// The entries behind a version, and whether the log reaches back to it.
    pub fn log_behind(&self, version: Version) -> (impl Iterator<Item = &LogEntry>, bool) {
        (self.pg.log.behind(version), self.pg.log.reaches(version))
    }

    /// Whether it knows that it lacks an object: entries of the log go by it without effect.
    pub fn lacks(&self, object: &ObjectName) -> bool {
        self.pg.catch_up.as_ref().is_some_and(|catch_up| catch_up.lacks(object))
    }

    /// Whether the log has an entry, or begins behind it.
    pub fn has_entry(&self, version: Version) -> bool {
        version <= self.pg.log.tail() || self.pg.log.entry(version).is_some()
    }

    /// Members of the interval confirmed.
    pub fn members(&self) -> &[DaemonId] {
        &self.pg.confirmed.members
    }

    /// Whether it leads the interval and has activated it.
    pub fn is_active(&self) -> bool {
        matches!(&self.pg.role, Role::Primary(primary) if primary.phase == Phase::Active)
    }

    /// The learner whose promotion it asks for.
    pub fn asked(&self) -> Option<DaemonId> {
        match &self.pg.role {
            Role::Primary(primary) => primary.asked,
            _ => None,
        }
    }

    /// There is something of it in the store: what was here of another slot is not.
    pub fn is_stored(&self) -> bool {
        self.pg.stored
    }

    /// Whether not everything has been compared with what the primary has.
    pub fn is_scanning(&self) -> bool {
        self.pg.catch_up.as_ref().is_some_and(CatchUp::is_scanning)
    }

    /// Objects whose copy here is damaged and being replaced.
    pub fn damaged(&self) -> usize {
        self.pg.damaged.len()
    }

    /// Whether nothing is lacking.
    pub fn is_complete(&self) -> bool {
        self.pg.catch_up.is_none()
    }

    /// What is known of its scrubbing.
    pub fn scrub(&self) -> &ScrubRecord {
        &self.pg.scrub.record
    }

    /// In Ceph's words.
    pub fn state(&self) -> String {
        self.pg.state_words()
    }
}

impl<S: Store> Daemon<S> {
    /// All groups here.
    pub fn pgs(&self) -> impl Iterator<Item = PgView<'_>> {
        self.pgs.values().map(|pg| PgView { pg, serving: pg.serves(&self.core) })
    }

    /// One group, if it is here.
    pub fn pg(&self, id: PgId) -> Option<PgView<'_>> {
        self.pgs.get(&id).map(|pg| PgView { pg, serving: pg.serves(&self.core) })
    }

    /// All groups here, with `serving` as of another time than that of the last event.
    pub fn pgs_at(&self, now: Time) -> impl Iterator<Item = PgView<'_>> {
        self.pgs.values().map(move |pg| PgView { pg, serving: pg.serves_at(&self.core, now) })
    }

    fn pg_states(&self) -> BTreeMap<String, usize> {
        let mut states = BTreeMap::new();
        for pg in self.pgs.values() {
            let state = match pg.role {
                Role::Primary(_) => pg.state_words(),
                _ => "replica".into(),
            };
            *states.entry(state).or_default() += 1;
        }
        states
    }

    /// Counts.
    pub fn status(&self) -> Status {
        let core = &self.core;
        Status {
            id: self.id(),
            incarnation: core.incarnation,
            epoch: core.epoch(),
            is_up: core.monitor.booted,
            pgs: self.pgs.len(),
            pgs_serving: self.pgs.values().filter(|pg| pg.serves(core)).count(),
            waiting_requests: self.pgs.values().map(|pg| pg.queue.len()).sum(),
            waiting_bytes: core.waiting_bytes,
            open_entries: self
                .pgs
                .values()
                .filter(|pg| matches!(pg.role, Role::Primary(_)))
                .map(|pg| pg.log.staged_len())
                .sum(),
            open_reads: core.jobs_open,
            pulls: core.pulls_open,
            pushes: core.pushes_open,
            read_errors: core.read_errors,
            log_bytes: self.pgs.values().map(|pg| pg.log.bytes() + pg.log.open_bytes()).sum(),
            usage: core.store.usage(),
            pg_states: self.pg_states(),
            missing: self.pgs.values().map(|pg| pg.missing(core)).sum(),
            slow_requests: self.pgs.values().map(|pg| pg.queue.slow(core.now, SLOW_AFTER)).sum(),
            done: core.done,
        }
    }
}
