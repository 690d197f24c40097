//! What daemons tell each other of a group's scrubbing, so that a new primary goes on where the last one was.
//!
//! A primary that begins asks every member what it knows; the newest record wins. Before all have answered it neither
//! walks nor claims that anything was verified.

use super::record::ScrubRecord;
use crate::machine::core::Core;
use crate::machine::message::PeerMessage;
use crate::machine::pg::{Pg, Phase, Role, key};
use crate::store::Store;
use std::collections::BTreeSet;
use store_base::{DaemonId, Version};

impl Pg {
    /// Makes the record durable, not waited for: what a crash takes is looked at again.
    fn store_scrub<S: Store>(&mut self, core: &mut Core<S>) {
        self.scrub.saved_at = core.now;
        if self.stored {
            let _ = core.submit(None, vec![self.meta(key::SCRUB, &self.scrub.record)]);
        }
    }

    /// At the primary: the record has changed. The members are told.
    pub(super) fn save_scrub<S: Store>(&mut self, core: &mut Core<S>) {
        // Before all have spoken, somebody may know more.
        if self.knows_scrub(core) {
            self.raise_serial();
        }
        self.store_scrub(core);
        self.tell_scrub(core, 0, &BTreeSet::new());
    }

    fn raise_serial(&mut self) {
        let (interval, last) = (self.interval(), self.scrub.record.serial);
        let counter = if last.interval == interval { last.counter + 1 } else { 1 };
        self.scrub.record.serial = Version { interval, counter };
    }

    /// A walk has ended: those who took part have their copies verified since `stamp` (0: it proved nothing).
    pub(super) fn stamp_members<S: Store>(
        &mut self,
        core: &mut Core<S>,
        stamp: u64,
        members: &BTreeSet<DaemonId>,
    ) {
        if members.contains(&core.me) && stamp > 0 {
            self.scrub.record.verified = stamp;
        }
        self.raise_serial();
        self.store_scrub(core);
        self.tell_scrub(core, stamp, members);
        core.monitor.news.insert(self.id);
    }

    fn tell_scrub<S: Store>(&self, core: &mut Core<S>, stamp: u64, to: &BTreeSet<DaemonId>) {
        let Role::Primary(primary) = &self.role else { return };
        let (pg, interval) = (self.id, self.interval());
        for id in primary.fed() {
            let verified = if to.contains(&id) { stamp } else { 0 };
            let record = self.scrub.record.clone();
            core.send(id, PeerMessage::ScrubNote { pg, interval, record, verified });
        }
    }

    /// At the primary: asks members what they know, until all have said so in this interval.
    pub(crate) fn ask_scrub_notes<S: Store>(&mut self, core: &mut Core<S>) {
        let is_active =
            matches!(&self.role, Role::Primary(primary) if primary.phase == Phase::Active);
        let is_due = self
            .scrub
            .asked_at
            .is_none_or(|at| core.now.since(at) >= core.config.scrub.check_every);
        if is_active && is_due && !self.knows_scrub(core) {
            self.scrub.asked_at = Some(core.now);
            self.tell_scrub(core, 0, &BTreeSet::new());
        }
    }

    /// Whether every member has said what it knows.
    pub(super) fn knows_scrub<S: Store>(&self, core: &Core<S>) -> bool {
        let mut others = self.confirmed.members.iter().filter(|id| **id != core.me);
        others.all(|id| self.scrub.told.contains_key(id))
    }

    /// At a member or learner: what the primary knows.
    pub(crate) fn handle_scrub_note<S: Store>(
        &mut self,
        core: &mut Core<S>,
        from: DaemonId,
        record: &ScrubRecord,
        verified: u64,
    ) {
        let own = &mut self.scrub.record;
        // Not the greatest: an earlier stamp may be of a clock that was wrong. One that comes late is too old at most.
        let is_new = verified > 0 && verified != own.verified;
        if is_new {
            own.verified = verified;
        }
        let is_older = record.serial < own.serial;
        if own.adopt(record) || is_new {
            self.store_scrub(core);
        }
        let (pg, interval) = (self.id, self.interval());
        let verified = self.scrub.record.verified;
        let record = is_older.then(|| self.scrub.record.clone());
        core.send(from, PeerMessage::ScrubNoted { pg, interval, verified, record });
    }

    /// At the primary: what a member knows.
    pub(crate) fn handle_scrub_noted<S: Store>(
        &mut self,
        core: &mut Core<S>,
        from: DaemonId,
        verified: u64,
        record: Option<&ScrubRecord>,
    ) {
        if !self.confirmed.members.contains(&from) || !matches!(self.role, Role::Primary(_)) {
            return;
        }
        let knew = self.knows_scrub(core);
        let before = self.scrub.told.insert(from, verified);
        // Once all have spoken, this primary's own record is the newest.
        if let Some(record) = record
            && !knew
            && self.scrub.record.adopt(record)
        {
            self.store_scrub(core);
        }
        if before != Some(verified) {
            core.monitor.news.insert(self.id);
        }
        let is_news = self.scrub.record != ScrubRecord::new(self.scrub.record.verified);
        if !knew && self.knows_scrub(core) && is_news {
            self.save_scrub(core);
        }
    }

    /// Since when every copy on every member is verified; 0: not known.
    pub(crate) fn verified_since<S: Store>(&self, core: &Core<S>) -> u64 {
        if !self.knows_scrub(core) {
            return 0;
        }
        let others = self.confirmed.members.iter().filter(|id| **id != core.me);
        let told = others.filter_map(|id| self.scrub.told.get(id).copied());
        told.chain([self.scrub.record.verified]).min().unwrap_or_default()
    }
}
