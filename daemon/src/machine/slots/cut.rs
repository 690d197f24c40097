//! The start of an interval with slots: all logs are cut to the shortest.
//!
//! # Invariants
//!
//! - Nothing is cut before every member has said what its log ends with, in this interval.
//! - What is applied anywhere is committed, and so it is staged everywhere: a cut that would undo such an entry is
//!   refused, by the primary and by members.
//! - A member takes a cut once per interval; after that it repeats the acknowledgement.

use crate::machine::config::Fault;
use crate::machine::core::{Core, Pending, Stored};
use crate::machine::pg::{Pg, Phase, Role, Synced, key};
use crate::store::{Store, Write};
use store_base::{DaemonId, Version};

impl Pg {
    /// At the primary: a member has said what its log is.
    pub(crate) fn note_end<S: Store>(
        &mut self,
        core: &mut Core<S>,
        from: DaemonId,
        applied: Version,
        head: Version,
    ) {
        if let Role::Primary(primary) = &mut self.role
            && primary.phase == Phase::Syncing
        {
            primary.ends.insert(from, (applied, head));
            match primary.truth {
                None => self.consider_cut(core),
                Some(_) => self.send_sync(core, from),
            }
        }
    }

    /// Cuts, once all have said what they have.
    pub(crate) fn consider_cut<S: Store>(&mut self, core: &mut Core<S>) {
        let Some(layout) = &self.slots else { return };
        let needed = layout.data();
        let (own_applied, own_head) = (self.log.applied(), self.log.head());
        let Role::Primary(primary) = &self.role else { return };
        let heard = primary.members.keys().all(|member| primary.ends.contains_key(member));
        if primary.phase != Phase::Syncing || primary.truth.is_some() || !heard {
            return;
        }
        if self.confirmed.width() < needed {
            tracing::warn!(pg = %self.id, interval = %self.interval(), needed, "too few slots");
            return;
        }
        let applied = primary.ends.values().map(|end| end.0).fold(own_applied, Version::max);
        let mut truth = primary.ends.values().map(|end| end.1).fold(own_head, Version::min);
        if core.config.fault == Fault::CutAtPrimary {
            truth = own_head;
        }
        if truth < applied || !self.log.reaches(truth) || !self.log.reaches(applied) {
            tracing::error!(pg = %self.id, %truth, %applied, head = %own_head,
                "a member lacks what is committed; not taking part");
            return;
        }
        let batch = self.cut_batch(truth, applied);
        if core.submit(None, batch).is_err() {
            return; // members say it again
        }
        self.log.drop_behind(truth);
        let Role::Primary(primary) = &mut self.role else { return };
        primary.overlay.dropped(truth);
        (primary.truth, primary.began, primary.stored) = (Some(truth), truth, truth);
        if applied > own_applied {
            primary.overlay.applied(applied);
        }
        self.note_applied(core, applied);
        self.forget_cut(core, truth);
        self.send_syncs(core);
        core.attention.insert(self.id);
    }

    fn cut_batch(&self, to: Version, applied: Version) -> Vec<Write> {
        let pg = self.id;
        let mut batch = Vec::new();
        if to < self.log.head() {
            batch.push(Write::DropStaged { pg, after: to });
        }
        if applied > self.log.applied() {
            batch.push(Write::Apply { pg, to: applied, except: Vec::new() });
        }
        batch
    }

    /// Those who wait for an entry that is gone ask again.
    fn forget_cut<S: Store>(&mut self, core: &mut Core<S>, truth: Version) {
        let mut gone = self.waiters.split_off(&truth);
        if let Some(stays) = gone.remove(&truth) {
            self.waiters.insert(truth, stays);
        }
        for waiter in gone.into_values().flatten() {
            let (link, id) = waiter.whom();
            core.misdirected(link, id);
        }
        self.answering.retain(|_, version| *version <= truth);
        self.effects.retain(|version, _| *version <= truth);
    }

    /// At a member: the takeover.
    pub(crate) fn handle_cut<S: Store>(
        &mut self,
        core: &mut Core<S>,
        applied: Version,
        to: Version,
    ) {
        let Role::Replica(replica) = &self.role else { return };
        if replica.is_learner || self.slots.is_none() {
            return;
        }
        if replica.synced {
            self.acknowledge(core);
            return;
        }
        let is_planted = core.config.fault == Fault::CutAtPrimary;
        let fits = applied <= to && self.log.applied() <= to && self.log.reaches(to);
        if self.catch_up.is_some() || !(fits || is_planted) {
            tracing::error!(pg = %self.id, %to, %applied, have = %self.log.applied(),
                head = %self.log.head(), "the cut does not fit what is here; not taking part");
            return;
        }
        let applied = applied.min(self.log.head());
        let mut batch = self.cut_batch(to, applied);
        let synced = Synced { interval: self.interval(), nonce: 0 };
        batch.push(self.meta(key::SYNCED, &synced));
        let pending = Pending::Pg(self.id, Stored::Log(self.interval(), 0, to));
        if core.submit(Some(pending), batch).is_err() {
            // No room: the primary sends it again.
            return;
        }
        self.synced = synced;
        self.log.drop_behind(to);
        self.note_applied(core, applied);
        if let Role::Replica(replica) = &mut self.role {
            replica.synced = true;
        }
    }
}
