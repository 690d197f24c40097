//! From the map to an interval in force: learning, waiting, confirming (R4, R5, R6), creation, removal.
//!
//! # Invariants
//!
//! - As soon as a newer interval is known, nothing is served and nothing is acknowledged in the old one.
//! - An interval with another primary is confirmed only when every lease granted to the old one has run
//!   out, or the old one said that it knows; nothing is confirmed in the first longest lease of a life.
//! - An interval is stored before it is acted in, and never goes back.
//! - A primary begins only an interval that names this life of it; else it asks for a new one.

use super::Daemon;
use super::config::Fault;
use super::core::{Core, NOBODY, Pending, Stored};
use super::execute::Overlay;
use super::log::Log;
use super::message::Trimmed;
use super::pg::{Pg, Phase, Primary, Progress, Replica, Role, Synced, key};
use super::report::AskKind;
use super::scrub::{Scrub, ScrubRecord};
use super::slots::Layout;
use crate::store::{Store, Write};
use std::collections::BTreeMap;
use std::sync::Arc;
use store_base::map::{OsdMap, PgRecord, Pool};
use store_base::{DaemonId, Interval, PgId, Time};

/// Whether a record gives a daemon something to do.
fn involves(record: &PgRecord, daemon: DaemonId) -> bool {
    record.members.contains(&daemon) || record.learners.contains(&daemon)
}

impl<S: Store> Daemon<S> {
    pub(super) fn handle_map(&mut self, map: Arc<OsdMap>) {
        let is_new = map.epoch > self.core.map.epoch;
        let is_ours = self.core.cluster == map.cluster || self.core.cluster.0 == [0; 16];
        if !is_new || !is_ours {
            return;
        }
        self.core.map = Arc::clone(&map);
        if self.core.speaks {
            self.digest_map();
        }
    }

    /// Looks at every group again under the newest map.
    pub(super) fn digest_map(&mut self) {
        let map = Arc::clone(&self.core.map);
        if map.epoch.0 == 0 || self.core.me == NOBODY {
            return;
        }
        self.core.note_own_state(&map);
        if self.core.failed {
            return;
        }
        self.core.index_changes(&map);
        self.find_splits(&map);
        self.attend_lost(&map);
        self.create_pgs(&map);
        let mut peers = Vec::new();
        let ids: Vec<_> = self.pgs.keys().copied().collect();
        for id in ids {
            match (map.pgs.get(&id), map.pools.get(&id.pool)) {
                (Some(record), Some(pool)) => {
                    if involves(record, self.core.me) || record.holders.contains(&self.core.me) {
                        peers.extend(
                            record.members.iter().chain(&record.learners).chain(&record.holders),
                        );
                    }
                    // One that is to be divided learns of its interval behind that.
                    if !self.core.splits.contains(&id) {
                        self.with(id, |pg, core| pg.learn(core, record, pool));
                    }
                }
                // Pool ids are never given again: one that is not there and was given is deleted.
                (_, None) if id.pool.0 <= map.pool_max => self.remove_pg(id),
                _ => {}
            }
            self.core.attention.insert(id);
        }
        self.remove_strays(&map);
        peers.sort_unstable();
        peers.dedup();
        peers.retain(|peer| *peer != self.core.me);
        self.core.set_peers(&peers);
        // The ping tells the epoch: that releases what the old primary of a group had been granted.
        self.core.ping_all();
    }

    fn create_pgs(&mut self, map: &OsdMap) {
        for (id, record) in &map.pgs {
            let is_here = self.pgs.contains_key(id) || self.lost.contains_key(id);
            if involves(record, self.core.me) && !is_here && !self.is_to_come(*id) {
                let pg_num = map.pools.get(&id.pool).map_or(0, |pool| pool.pg_num);
                let pg = Pg { pg_num, ..Pg::new(*id, self.core.incarnation.0) };
                self.pgs.insert(*id, pg);
            }
        }
    }

    fn remove_pg(&mut self, id: PgId) {
        let Some(mut pg) = self.pgs.remove(&id) else { return };
        pg.leave(&mut self.core);
        pg.known.primary = NOBODY;
        pg.send_clients_away(&mut self.core);
        pg.abandon_jobs(&mut self.core);
        if pg.stored {
            // Not waited for: what a crash brings back is removed again.
            let _ = self.core.submit(None, vec![Write::RemovePg { pg: id }]);
        }
        self.core.forget_pg(id);
    }

    /// Removes copies that nobody can ever need again: the group is active and at full size without us.
    fn remove_strays(&mut self, map: &OsdMap) {
        let me = self.core.me;
        let early = self.core.config.fault == Fault::RemoveEarly;
        let splits = &self.core.splits;
        let is_stray = |id: &PgId, pg: &Pg| {
            !splits.contains(id)
                && map.pgs.get(id).is_some_and(|record| {
                    !involves(record, me)
                        && (early || !record.holders.contains(&me))
                        && (early
                            || record.is_active()
                                && record.width() >= pg.size
                                && record.learners.is_empty())
                })
        };
        let strays: Vec<_> =
            self.pgs.iter().filter(|(id, pg)| is_stray(id, pg)).map(|(id, _)| *id).collect();
        strays.into_iter().for_each(|id| self.remove_pg(id));
    }
}

impl Pg {
    /// Takes in what a map says.
    fn learn<S: Store>(&mut self, core: &mut Core<S>, record: &PgRecord, pool: &Pool) {
        let sizes = (usize::from(pool.size), usize::from(pool.min_size));
        if sizes != (self.size, self.min_size) {
            // What is missing is counted by them, and nothing else of the group may change for long.
            core.monitor.changed.insert(self.id);
        }
        (self.size, self.min_size) = sizes;
        self.learn_layout(pool);
        if record.interval < self.known.interval {
            return;
        }
        let is_newer = record.interval > self.known.interval;
        // Leases to the primary of the interval in force covered the group until now, unless an earlier
        // newcomer had it excepted already.
        let old = self.confirmed.primary;
        let covered = self.known.interval <= self.confirmed.interval || self.known.primary == old;
        if is_newer && covered {
            self.grants_end = core.granted_until(old);
        }
        if self.known != *record {
            core.monitor.news.insert(self.id);
        }
        self.known = record.clone();
        if !is_newer {
            return;
        }
        if record.interval > self.confirmed.interval {
            self.leave(core);
        } else if record.interval == self.confirmed.interval {
            // A life that has just begun goes on in the interval that it had confirmed.
            self.resume(core);
        }
        if !self.leads(core) {
            self.send_clients_away(core);
        }
    }

    /// How the pool spreads its objects never changes.
    fn learn_layout(&mut self, pool: &Pool) {
        let is_known = match (&self.slots, &pool.erasure) {
            (Some(layout), Some(erasure)) => layout.is_of(erasure),
            (None, None) => true,
            _ => false,
        };
        if !is_known {
            // A pool without a code that exists is refused where maps are read.
            self.slots = pool.erasure.as_ref().and_then(|erasure| Layout::new(erasure).ok());
        }
    }

    /// Stops all that belongs to the interval so far.
    pub(crate) fn leave<S: Store>(&mut self, core: &mut Core<S>) {
        self.role = Role::Idle;
        self.stop_gathers(core);
        self.stop_copies(core);
        self.stop_scrub(core);
        core.monitor.forget_asks(self.id);
        core.lease_waits.remove(&self.id);
    }

    /// Confirms the newest interval if its time has come.
    pub(crate) fn consider_confirm<S: Store>(&mut self, core: &mut Core<S>) {
        let is_due = self.known.interval > self.confirmed.interval
            && self.confirming.is_none()
            && involves(&self.known, core.me)
            && core.speaks;
        if !is_due {
            core.grant_waits.remove(&self.id);
            return;
        }
        if self.is_old_copy(core) && core.config.fault != Fault::EmptyChild {
            tracing::error!(pg = %self.id, here = %self.confirmed.interval,
                least = %self.known.confirmed, "the copy here is older than what it was; not taking part");
            core.ask(self.id, self.known.interval, AskKind::Disown);
            return;
        }
        if self.known.primary == core.me && !self.leads(core) {
            core.ask(self.id, self.known.interval, AskKind::Reform);
            return;
        }
        let wait = self.confirm_wait(core);
        if wait > core.now && core.config.fault != Fault::NoLeaseWait {
            core.grant_waits.insert(self.id);
            self.set_wake(core, wait);
            return;
        }
        core.grant_waits.remove(&self.id);
        if self.drop_other_slot(core) {
            self.confirm(core);
        }
    }

    /// What is here of another slot is worth nothing. `false`: nothing can be done in the interval.
    fn drop_other_slot<S: Store>(&mut self, core: &mut Core<S>) -> bool {
        let (had, has) = (self.confirmed.slot(core.me), self.known.slot(core.me));
        if !self.stored || had.is_none() || had == has {
            return true;
        }
        if !self.known.learners.contains(&core.me) {
            tracing::error!(pg = %self.id, ?had, ?has, "a holder's slot was changed; not taking part");
            return false;
        }
        if core.submit(None, vec![Write::RemovePg { pg: self.id }]).is_err() {
            return false;
        }
        tracing::info!(pg = %self.id, ?had, ?has, "another slot: what was here is dropped");
        self.stored = false;
        (self.synced, self.catch_up) = (Synced::default(), None);
        (self.log, self.trimmed) = (Log::default(), Trimmed::default());
        self.scrub = Scrub::default();
        true
    }

    /// Whether the record counts on something that is not here: the directory was restored from a backup, or
    /// lost a part.
    fn is_old_copy<S: Store>(&self, core: &Core<S>) -> bool {
        let least = self.known.confirmed;
        let has_less = self.confirmed.interval < least || (least.0 > 0 && self.catch_up.is_some());
        self.known.holders.contains(&core.me) && has_less
    }

    /// Until when leases may be out that stand against the newest interval. Only the primary of the interval
    /// confirmed can count on any: one that was confirmed before it had its own run out, or was the same.
    fn confirm_wait<S: Store>(&self, core: &Core<S>) -> Time {
        let boot = if self.loaded { core.silent_until } else { Time::ZERO };
        let old = self.confirmed.primary;
        let is_other = self.confirmed.interval.0 > 0 && old != self.known.primary && old != core.me;
        let is_released = core.has_processed(old, self.known.since);
        boot.max(if is_other && !is_released { self.grants_end } else { Time::ZERO })
    }

    fn confirm<S: Store>(&mut self, core: &mut Core<S>) {
        let record = self.known.clone();
        let mut batch = Vec::new();
        if !self.stored {
            // Whatever will be here is written from now on, and writing verifies.
            self.scrub.record = ScrubRecord::new(core.wall().secs);
            batch.push(Write::CreatePg { pg: self.id });
            batch.push(self.meta(key::PG_NUM, &self.pg_num));
            batch.push(self.meta(key::SCRUB, &self.scrub.record));
        }
        if core.config.fault != Fault::ForgetInterval || !self.stored {
            batch.push(self.meta(key::CONFIRMED, &record));
        }
        if record.primary == core.me {
            let synced = Synced { interval: record.interval, nonce: 0 };
            batch.push(self.meta(key::SYNCED, &synced));
            // Forced: what is here is the truth now, whatever was to be brought in.
            if self.catch_up.is_some() {
                let key = bytes::Bytes::from_static(key::CATCH_UP);
                batch.push(Write::Meta { pg: self.id, key, value: None });
            }
        }
        let pending = Pending::Pg(self.id, Stored::Confirmed(record.interval));
        if core.submit(Some(pending), batch).is_ok() {
            self.stored = true;
            self.confirming = Some(record);
        } else {
            self.set_wake(core, core.now + core.config.monitor_retry);
        }
    }

    /// The interval is durable: act in it, unless a newer one is known.
    pub(crate) fn handle_confirmed<S: Store>(&mut self, core: &mut Core<S>, interval: Interval) {
        let Some(record) = self.confirming.take_if(|record| record.interval == interval) else {
            return;
        };
        self.note_confirmed(core, record);
        if self.known.interval == self.confirmed.interval {
            self.resume(core);
        }
        core.attention.insert(self.id);
    }

    /// The interval is in the store.
    pub(crate) fn note_confirmed<S: Store>(&mut self, core: &Core<S>, record: PgRecord) {
        tracing::info!(pg = %self.id, interval = %record.interval, primary = %record.primary,
            members = ?record.members, "interval confirmed");
        self.confirmed = record;
        if self.confirmed.primary == core.me {
            self.synced = Synced { interval: self.confirmed.interval, nonce: 0 };
            self.catch_up = None;
        }
    }

    /// Takes up the role of the interval confirmed.
    fn resume<S: Store>(&mut self, core: &mut Core<S>) {
        core.monitor.news.insert(self.id);
        if !involves(&self.confirmed, core.me) {
            return;
        }
        if self.confirmed.primary == core.me {
            if self.leads(core) {
                self.lead(core);
            } else {
                core.ask(self.id, self.known.interval, AskKind::Reform);
            }
            return;
        }
        let is_learner = self.confirmed.learners.contains(&core.me);
        let synced = self.synced.interval == self.confirmed.interval;
        self.role = Role::Replica(Replica {
            primary: self.confirmed.primary,
            is_learner,
            synced,
            // What was loaded, or stored before the confirmation, is durable.
            stored: synced.then(|| self.log.head()),
            wish: 0,
            join_at: core.now,
        });
        if synced && is_learner {
            self.begin_catch_up(core);
        }
        self.join(core);
    }

    fn lead<S: Store>(&mut self, core: &mut Core<S>) {
        if core.config.fault == Fault::DropTail {
            let after = self.log.applied();
            let _ = core.submit(None, vec![Write::DropStaged { pg: self.id, after }]);
            self.log.drop_behind(after);
        }
        let progress = || Progress { sent: core.now, ..Progress::default() };
        let others = self.confirmed.members.iter().filter(|member| **member != core.me);
        let members: BTreeMap<_, _> = others.map(|member| (*member, progress())).collect();
        let learners =
            self.confirmed.learners.iter().map(|learner| (*learner, progress())).collect();
        let mut overlay = Overlay::new();
        for entry in self.log.staged_entries() {
            let mutation = entry.mutation.clone().unwrap_or_default();
            overlay.push(entry.version, &entry.object, mutation);
        }
        self.role = Role::Primary(Box::new(Primary {
            phase: Phase::Syncing,
            members,
            learners,
            asked: None,
            // Batches become durable in order, and the confirmation came after these.
            stored: self.log.head(),
            began: self.log.head(),
            overlay,
            ends: BTreeMap::new(),
            truth: None,
            shards: BTreeMap::new(),
        }));
        self.send_syncs(core);
        self.consider_cut(core);
        core.attention.insert(self.id);
    }
}
