//! The start of an interval: the primary's log becomes everybody's (R7), the monitor takes note (R3).
//!
//! What is applied anywhere is committed, so every holder has it: logs of members can differ only behind
//! the primary's last applied entry. `Sync` carries what the primary has there. A member drops what it has
//! staged and the primary has not, stages what it lacks, and stores with it that this interval is synced:
//! one batch, all or nothing.
//!
//! # Invariants
//!
//! - A member takes a `Sync` once per interval; after that it does nothing but repeat the acknowledgement.
//! - An applied entry is never dropped: [`Log::drop_behind`](super::log::Log) asserts it, and a `Sync`
//!   that would is refused before.
//! - The primary's log does not change between the start of the interval and its activation.

use super::core::{Core, Pending, Stored};
use super::message::{CommitPoint, PeerMessage};
use super::pg::{Pg, Phase, Role, Synced, key};
use super::report::AskKind;
use crate::store::{LogEntry, Store, Write};
use store_base::{DaemonId, Version};

impl Pg {
    /// Tells the primary that the interval is confirmed here and what the log ends with.
    pub(crate) fn join<S: Store>(&mut self, core: &mut Core<S>) {
        let (interval, applied, head) = (self.interval(), self.log.applied(), self.log.head());
        let Role::Replica(replica) = &mut self.role else { return };
        replica.join_at = core.now + core.config.resend_after;
        let nonce = if replica.is_learner && replica.synced { self.synced.nonce } else { 0 };
        replica.wish = if replica.is_learner { core.number() } else { 0 };
        let (to, synced, at, wish) =
            (replica.primary, replica.synced, replica.join_at, replica.wish);
        let message =
            PeerMessage::Join { pg: self.id, interval, nonce, wish, synced, applied, head };
        core.send(to, message);
        if !synced {
            self.set_wake(core, at);
        }
    }

    pub(crate) fn send_syncs<S: Store>(&mut self, core: &mut Core<S>) {
        let Role::Primary(primary) = &self.role else { return };
        let lacking = primary.members.iter().filter(|(_, progress)| !progress.synced);
        let lacking: Vec<_> = lacking.map(|(id, _)| *id).collect();
        lacking.into_iter().for_each(|member| self.send_sync(core, member));
    }

    pub(crate) fn send_sync<S: Store>(&mut self, core: &mut Core<S>, to: DaemonId) {
        let (pg, interval, applied) = (self.id, self.interval(), self.log.applied());
        let truth = self.primary().and_then(|primary| primary.truth);
        let message = match (&self.slots, truth) {
            (None, _) => {
                let staged = self.log.staged_entries().cloned().collect();
                PeerMessage::Sync { pg, interval, applied, staged }
            }
            (Some(_), Some(to)) => PeerMessage::Cut { pg, interval, applied, to },
            (Some(_), None) => return, // they say by themselves what they have
        };
        core.send(to, message);
        let at = core.now + core.config.resend_after;
        if let Some(progress) = self.primary().and_then(|primary| primary.progress(to)) {
            progress.sent = core.now;
        }
        self.set_wake(core, at);
    }

    /// At the primary: somebody is in the interval now, or has a gap in its log.
    pub(crate) fn handle_join<S: Store>(&mut self, core: &mut Core<S>, from: DaemonId, join: Join) {
        let Role::Primary(primary) = &self.role else { return };
        if primary.learners.contains_key(&from) {
            self.handle_learner_join(core, from, join);
        } else if primary.members.contains_key(&from) {
            match join.synced {
                false if self.slots.is_some() => {
                    self.note_end(core, from, join.applied, join.head);
                }
                false if primary.phase == Phase::Syncing => self.send_sync(core, from),
                false => {}
                true => self.resend(core, from, join.head),
            }
        }
    }

    /// Sends all entries behind `from_version` again, and the commit point.
    pub(crate) fn resend<S: Store>(
        &mut self,
        core: &mut Core<S>,
        to: DaemonId,
        from_version: Version,
    ) {
        let (pg, interval, committed) = (self.id, self.interval(), self.log.applied());
        let entries: Vec<LogEntry> =
            self.log.behind(from_version).map(|entry| self.entry_for(to, entry)).collect();
        for entry in entries {
            core.send(to, PeerMessage::Replicate { pg, interval, entry, committed });
        }
        let point = CommitPoint { pg, interval, version: committed };
        core.send(to, PeerMessage::Committed { points: vec![point] });
        let at = core.now + core.config.resend_after;
        if let Some(progress) = self.primary().and_then(|primary| primary.progress(to)) {
            progress.sent = core.now;
        }
        self.set_wake(core, at);
    }

    /// At a member: the takeover.
    pub(crate) fn handle_sync<S: Store>(
        &mut self,
        core: &mut Core<S>,
        applied: Version,
        staged: Vec<LogEntry>,
    ) {
        let Role::Replica(replica) = &self.role else { return };
        if replica.is_learner {
            return;
        }
        if replica.synced {
            self.acknowledge(core);
            return;
        }
        if self.catch_up.is_some() {
            tracing::error!(pg = %self.id, "made a member before it was caught up; not taking part");
            return;
        }
        let Some((common, lacking)) = self.compare(applied, staged) else {
            tracing::error!(pg = %self.id, %applied, have = %self.log.applied(),
                "the primary's log does not continue what is committed here; not taking part");
            return;
        };
        let (log_batch, head) = self.sync_batch(applied, common, &lacking);
        let pending = Pending::Pg(self.id, Stored::Log(self.interval(), 0, head));
        if core.submit(Some(pending), log_batch).is_err() {
            // No room: the primary sends it again.
            return;
        }
        self.synced = Synced { interval: self.interval(), nonce: 0 };
        self.log.drop_behind(common);
        lacking.into_iter().for_each(|entry| self.log.push(entry));
        self.note_applied(core, applied);
        if let Role::Replica(replica) = &mut self.role {
            replica.synced = true;
        }
    }

    /// Where the own log stops to be the primary's, and the primary's entries behind. `None`: an entry that
    /// is known to be committed at one of the two is not in the log of the other.
    fn compare(&self, applied: Version, staged: Vec<LogEntry>) -> Option<(Version, Vec<LogEntry>)> {
        // The last entry that both have for certain: the later of the two applied points.
        let own = self.log.applied();
        let mut common = own.max(applied);
        let in_theirs = |v: Version| v == applied || staged.iter().any(|entry| entry.version == v);
        let agrees = if own >= applied { in_theirs(own) } else { self.log.reaches(applied) };
        if !agrees {
            return None;
        }
        let mut lacking = Vec::new();
        for entry in staged {
            if entry.version <= common {
                continue;
            }
            if lacking.is_empty() && self.log.entry(entry.version).is_some() {
                common = entry.version;
            } else {
                lacking.push(entry);
            }
        }
        Some((common, lacking))
    }

    fn sync_batch(
        &self,
        applied: Version,
        common: Version,
        lacking: &[LogEntry],
    ) -> (Vec<Write>, Version) {
        let pg = self.id;
        let mut batch = Vec::new();
        if common < self.log.head() {
            batch.push(Write::DropStaged { pg, after: common });
        }
        batch.extend(lacking.iter().map(|entry| Write::Follow { pg, entry: entry.clone() }));
        if applied > self.log.applied() {
            batch.push(Write::Apply { pg, to: applied, except: Vec::new() });
        }
        let synced = Synced { interval: self.interval(), nonce: 0 };
        batch.push(self.meta(key::SYNCED, &synced));
        (batch, lacking.last().map_or(common, |entry| entry.version))
    }

    /// At the primary: a member or learner has stored something.
    pub(crate) fn handle_ack<S: Store>(&mut self, core: &mut Core<S>, from: DaemonId, ack: Ack) {
        let is_known = self.log.reaches(ack.stored);
        let Role::Primary(primary) = &self.role else { return };
        let is_learner = primary.learners.contains_key(&from);
        // A learner that was given up for having fallen behind may have had it all.
        let can_feed = !is_learner || self.can_feed(ack.stored);
        let id = self.id;
        let Some(progress) = self.primary().and_then(|primary| primary.progress(from)) else {
            return;
        };
        if progress.nonce != ack.nonce || !is_known || !(progress.synced || can_feed) {
            return;
        }
        let advanced = !progress.synced || ack.stored > progress.stored;
        // It has started again since, and what it had applied but not made durable it has not applied now.
        let fell_back = ack.applied < progress.applied;
        progress.synced = true;
        progress.stored = progress.stored.max(ack.stored);
        progress.applied = progress.applied.max(ack.applied);
        if is_learner && (progress.missing, progress.scanning) != (ack.missing, ack.scanning) {
            (progress.missing, progress.scanning) = (ack.missing, ack.scanning);
            core.monitor.changed.insert(id);
        }
        if advanced {
            progress.sent = core.now;
        }
        if fell_back {
            let (interval, version) = (self.interval(), self.log.applied());
            core.notice(from, CommitPoint { pg: id, interval, version });
        }
        self.advance(core);
    }

    /// Does what acknowledgements, leases and the map allow.
    pub(crate) fn advance<S: Store>(&mut self, core: &mut Core<S>) {
        let Role::Primary(primary) = &mut self.role else { return };
        if primary.phase == Phase::Syncing
            && (self.slots.is_none() || primary.truth.is_some())
            && primary.members.values().all(|progress| progress.synced)
        {
            primary.phase = Phase::Activating;
        }
        if primary.phase == Phase::Activating && self.known.interval == self.confirmed.interval {
            if self.known.is_active() {
                self.activate(core);
            } else {
                core.ask(self.id, self.known.interval, AskKind::Activate);
            }
        }
        self.advance_commit(core);
        self.consider_promotion(core);
    }

    fn activate<S: Store>(&mut self, core: &mut Core<S>) {
        tracing::info!(pg = %self.id, interval = %self.interval(), "active");
        if let Role::Primary(primary) = &mut self.role {
            primary.phase = Phase::Active;
        }
        self.ask_scrub_notes(core);
        core.monitor.forget_asks(self.id);
        core.monitor.news.insert(self.id);
        core.attention.insert(self.id);
    }

    /// Asks for the promotion of a learner that lacks nothing (R13).
    fn consider_promotion<S: Store>(&mut self, core: &mut Core<S>) {
        let Role::Primary(primary) = &self.role else { return };
        if primary.learners.is_empty() || self.known.interval != self.confirmed.interval {
            return;
        }
        if !self.serves(core) {
            core.lease_waits.insert(self.id);
            return;
        }
        let (id, committed, interval) = (self.id, self.log.applied(), self.interval());
        let Role::Primary(primary) = &mut self.role else { return };
        let needed = committed.max(primary.began);
        if primary.asked.is_none() {
            let ready = primary.learners.iter().find(|(learner, progress)| {
                progress.is_complete() && progress.stored >= needed && core.has_lease(**learner, id)
            });
            // From here on the learner is needed like a member, whatever becomes of the request.
            primary.asked = ready.map(|(learner, _)| *learner);
            if primary.asked.is_none() && !primary.learners.is_empty() {
                core.lease_waits.insert(id);
            }
        }
        if let Some(learner) = primary.asked {
            core.ask(id, interval, AskKind::Promote(learner));
        }
    }
}

/// See [`PeerMessage::Join`].
#[derive(Clone, Copy, Debug)]
pub(crate) struct Join {
    pub(crate) nonce: u64,
    pub(crate) wish: u64,
    pub(crate) synced: bool,
    pub(crate) applied: Version,
    pub(crate) head: Version,
}

/// See [`PeerMessage::Ack`].
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ack {
    pub(crate) nonce: u64,
    pub(crate) stored: Version,
    pub(crate) applied: Version,
    pub(crate) missing: u64,
    pub(crate) scanning: bool,
}
