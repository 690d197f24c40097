//! A member or learner during an interval: stages what the primary sends, acknowledges what is durable,
//! applies what is committed.
//!
//! # Invariants
//!
//! - An entry is staged only behind exactly its predecessor, after the takeover, in the interval named.
//! - What is acknowledged is durable, with all before it.
//! - Only what the primary calls committed is applied, in the order of the log. On a learner, entries of
//!   objects that it lacks go by without effect.

use super::config::Fault;
use super::core::{Core, Pending, Stored};
use super::log::mutation_bytes;
use super::message::{PeerMessage, Trimmed};
use super::pg::{Pg, Role, key};
use crate::store::{LogEntry, Store, Write};
use store_base::Version;

impl Pg {
    /// At a member or learner: one entry.
    pub(crate) fn handle_replicate<S: Store>(
        &mut self,
        core: &mut Core<S>,
        entry: LogEntry,
        committed: Version,
    ) {
        let Role::Replica(replica) = &self.role else { return };
        if !replica.synced {
            return;
        }
        let head = self.log.head();
        if entry.version <= head {
            self.apply_to(core, committed);
            self.acknowledge(core);
            return;
        }
        if entry.previous != head {
            self.ask_for_gap(core);
            return;
        }
        if entry.mutation.is_none() {
            self.ask_for_gap(core);
            return;
        }
        core.earn(entry.mutation.as_ref().map_or(0, mutation_bytes));
        let version = entry.version;
        let is_hasty = core.config.fault == Fault::ApplyUncommitted;
        let committed = if is_hasty { version } else { committed };
        let pending =
            Pending::Pg(self.id, Stored::Log(self.interval(), self.synced.nonce, version));
        let stage = Write::Follow { pg: self.id, entry: entry.clone() };
        if core.submit(Some(pending), vec![stage]).is_err() {
            // Less room than was promised. The primary sends it again, and accepts nothing more meanwhile.
            return;
        }
        self.log.push(entry);
        self.apply_to(core, committed);
    }

    /// Something was lost on the way: ask for it, but not for every message that shows the same gap.
    fn ask_for_gap<S: Store>(&mut self, core: &mut Core<S>) {
        let Role::Replica(replica) = &self.role else { return };
        let asked = replica.join_at;
        let pause = core.config.resend_after / 4;
        if asked <= core.now + (core.config.resend_after - pause) {
            self.join(core);
        }
    }

    /// At a member or learner: all up to here is committed.
    pub(crate) fn handle_committed<S: Store>(&mut self, core: &mut Core<S>, version: Version) {
        let Role::Replica(replica) = &self.role else { return };
        if !replica.synced {
            return;
        }
        if version > self.log.head() {
            self.ask_for_gap(core);
        }
        self.apply_to(core, version);
        self.acknowledge(core);
    }

    /// Applies all staged entries up to a committed one.
    pub(crate) fn apply_to<S: Store>(&mut self, core: &mut Core<S>, committed: Version) {
        // Before that, what is staged here may be what the takeover drops.
        if matches!(&self.role, Role::Replica(replica) if !replica.synced) {
            return;
        }
        let to = committed.min(self.log.head());
        if to <= self.log.applied() {
            return;
        }
        let except = self.lacking(core, to);
        let apply = Write::Apply { pg: self.id, to, except: except.clone() };
        if core.submit(None, vec![apply]).is_ok() {
            self.note_lacking(core, &except);
            self.note_applied(core, to);
            // The last object that was missing may have been removed: then nothing else says that all is there.
            if !except.is_empty() {
                self.continue_catch_up(core);
            }
        }
    }

    /// The store has applied entries: so does the log in memory.
    pub(crate) fn note_applied<S: Store>(&mut self, core: &mut Core<S>, to: Version) {
        if to <= self.log.applied() {
            return;
        }
        let before = self.log.applied_len();
        self.log.apply(to);
        core.done.applied += (self.log.applied_len() - before) as u64;
        if matches!(self.role, Role::Replica(_)) {
            self.log.forget_mutations(to, 0);
        }
        core.monitor.changed.insert(self.id);
        self.trim(core);
    }

    /// The log is durable up to here.
    pub(crate) fn handle_log_stored<S: Store>(&mut self, core: &mut Core<S>, version: Version) {
        match &mut self.role {
            Role::Primary(primary) => {
                primary.stored = primary.stored.max(version);
                self.advance_commit(core);
            }
            Role::Replica(replica) => {
                replica.stored = Some(replica.stored.map_or(version, |stored| stored.max(version)));
                self.acknowledge(core);
            }
            Role::Idle => {}
        }
    }

    /// Says again that it is in the interval, if it was not heard.
    pub(crate) fn join_again<S: Store>(&mut self, core: &mut Core<S>) {
        if let Role::Replica(replica) = &self.role
            && !replica.synced
        {
            let at = replica.join_at;
            if at <= core.now { self.join(core) } else { self.set_wake(core, at) }
        }
    }

    /// Forgets old entries when the log has grown too long (R11).
    fn trim<S: Store>(&mut self, core: &mut Core<S>) {
        let (entries_max, bytes_max) = (core.config.log_entries_max, core.config.log_bytes_max);
        if self.log.applied_len() <= entries_max && self.log.bytes() <= bytes_max {
            return;
        }
        let is_huge = self.log.applied_len() > 2 * entries_max || self.log.bytes() > 2 * bytes_max;
        let floor = match (&self.role, &self.catch_up) {
            // What is missing is worked out from these after a restart.
            (_, Some(catch_up)) => Some(catch_up.from()),
            // Learners that are fed need what they have not stored, within reason.
            (Role::Primary(primary), None) if !is_huge => {
                let fed = primary.learners.values().filter(|learner| learner.synced);
                fed.map(|learner| learner.stored).min()
            }
            _ => None,
        };
        let keep = core.config.log_entries_keep;
        let Some(to) = self.log.trim(keep, bytes_max / 4 * 3, floor, &mut self.trimmed) else {
            return;
        };
        self.trimmed.bound(core.config.trimmed_clients_max);
        if core.config.fault == Fault::TrimLosesRequests {
            self.trimmed = Trimmed::default();
        }
        let batch = vec![
            Write::TrimLog { pg: self.id, to },
            self.meta(key::TRIMMED, &self.trimmed),
            self.meta(key::TAIL, &to),
        ];
        // Not waited for: what a crash brings back is trimmed again.
        let _ = core.submit(None, batch);
    }

    /// Tells the primary what is durable here.
    pub(crate) fn acknowledge<S: Store>(&mut self, core: &mut Core<S>) {
        let Role::Replica(replica) = &self.role else { return };
        let Some(stored) = replica.stored else { return };
        let (missing, scanning) = match &self.catch_up {
            Some(_) if core.config.fault == Fault::CompleteEarly => (0, false),
            Some(catch_up) => catch_up.tally(),
            None => (0, false),
        };
        let message = PeerMessage::Ack {
            pg: self.id,
            interval: self.interval(),
            nonce: if replica.is_learner { self.synced.nonce } else { 0 },
            stored,
            applied: self.log.applied(),
            missing,
            scanning,
        };
        core.send(replica.primary, message);
    }
}
