//! The receiving side of a copy.
//!
//! # Invariants
//!
//! - At most `pulls_max` copies come in at a time, over all groups (repairs beyond it: a client waits).
//! - A copy becomes the object only whole, in one batch, and only if it still is what is wanted then: at a
//!   learner of at least the version that its applied log asks for, for a repair of exactly the
//!   version that is here.
//! - Parts are acknowledged when they are durable: the sender cannot run ahead of the disk.

use super::places;
use super::push::PushMessage;
use crate::machine::core::{Core, Pending, Stored};
use crate::machine::message::PeerMessage;
use crate::machine::pg::{Pg, Role};
use crate::store::{Install, Store, Write};
use store_base::object::ObjectInfo;
use store_base::op::errno;
use store_base::{DaemonId, ObjectName, Time, Version};

/// A copy on its way in.
#[derive(Clone, Debug)]
pub(crate) struct Pull {
    source: DaemonId,
    attempt: u64,
    next: u32,
    /// When to begin again.
    again: Time,
    /// A repair: the version that is here.
    repairs: Option<Version>,
}

impl Pg {
    /// Begins pulls of missing objects as far as there is room.
    pub(crate) fn start_pulls<S: Store>(&mut self, core: &mut Core<S>) {
        let Role::Replica(replica) = &self.role else { return };
        if !replica.synced {
            return; // the log to be adopted says anew what is missing
        }
        let source = replica.primary;
        let Some(catch_up) = &self.catch_up else { return };
        let flags = core.map.flags;
        let is_held = if catch_up.is_scanning() { flags.nobackfill } else { flags.norecover };
        if (is_held || core.monitor.backfill_full_here) && !catch_up.missing.is_empty() {
            let at = core.now + core.config.resend_after;
            return self.set_wake(core, at);
        }
        let urgency = self.urgency();
        let places = places(core.config.pulls_max, urgency, &core.pulls_wanted);
        let mut room = places.saturating_sub(core.pulls_open);
        let waiting = catch_up.missing.keys().filter(|object| !self.pulls.contains_key(*object));
        let mut wanted: Vec<ObjectName> = waiting.take(room + 1).cloned().collect();
        if room > 0 && !wanted.is_empty() && !core.may_copy() {
            room = 0;
        }
        if wanted.len() > room {
            wanted.truncate(room);
            core.pulls_wanted.insert(self.id, urgency);
        } else {
            core.pulls_wanted.remove(&self.id);
        }
        for object in wanted {
            core.pulls_open += 1;
            self.pull(core, object, source, None);
        }
    }

    /// Sends a pull; a slot is taken already.
    fn pull<S: Store>(
        &mut self,
        core: &mut Core<S>,
        object: ObjectName,
        source: DaemonId,
        repairs: Option<Version>,
    ) {
        let attempt = core.number();
        let again = core.now + core.config.pull_timeout;
        let message = PeerMessage::Pull {
            pg: self.id,
            interval: self.interval(),
            object: object.clone(),
            attempt,
            version: repairs,
        };
        core.send(source, message);
        self.pulls.insert(object, Pull { source, attempt, next: 0, again, repairs });
        self.set_wake(core, again);
    }

    /// A pull is over, one way or another.
    pub(crate) fn end_pull<S: Store>(&mut self, core: &mut Core<S>, object: &ObjectName) {
        let Some(pull) = self.pulls.remove(object) else { return };
        core.pulls_open -= 1;
        core.attention.extend(core.pulls_wanted.keys());
        let (pg, interval, object) = (self.id, self.interval(), object.clone());
        let (attempt, next, done) = (pull.attempt, pull.next, true);
        core.send(pull.source, PeerMessage::PushAck { pg, interval, object, attempt, next, done });
    }

    /// Begins a pull again, at once or later.
    fn pull_again<S: Store>(&mut self, core: &mut Core<S>, object: &ObjectName, at: Time) {
        if let Some(pull) = self.pulls.get_mut(object) {
            // Nothing of the old attempt counts any more.
            pull.attempt = core.number();
            pull.next = 0;
            pull.again = at;
            self.set_wake(core, at);
        }
    }

    /// Begins those pulls again whose time has come.
    pub(crate) fn retry_pulls<S: Store>(&mut self, core: &mut Core<S>) {
        let due = self.pulls.iter().filter(|(_, pull)| pull.again <= core.now);
        let due: Vec<_> =
            due.map(|(object, pull)| (object.clone(), pull.source, pull.repairs)).collect();
        for (object, source, repairs) in due {
            match repairs {
                None => self.pull(core, object, source, None),
                Some(_) => self.repair_again(core, &object),
            }
        }
        if let Some(at) = self.pulls.values().map(|pull| pull.again).min() {
            self.set_wake(core, at);
        }
    }

    /// A session broke: what it carried may be lost.
    pub(crate) fn restart_pulls_from<S: Store>(&mut self, core: &mut Core<S>, source: DaemonId) {
        for pull in self.pulls.values_mut().filter(|pull| pull.source == source) {
            pull.again = core.now;
        }
        self.retry_pulls(core);
    }

    /// A part of a copy has come.
    pub(crate) fn handle_push<S: Store>(
        &mut self,
        core: &mut Core<S>,
        from: DaemonId,
        object: ObjectName,
        push: PushMessage,
    ) {
        let Some(pull) = self.pulls.get(&object) else { return };
        if pull.source != from || pull.attempt != push.attempt || pull.next != push.index {
            return;
        }
        let is_repair = pull.repairs.is_some();
        if !is_repair {
            core.spend(push.parts.iter().map(Install::bytes).sum());
        }
        let is_absent = push.parts.iter().any(|part| matches!(part, Install::Abort {}));
        let finish = push.parts.iter().find_map(|part| match part {
            Install::Finish { info } => Some(info.clone()),
            _ => None,
        });
        if is_absent || finish.is_some() {
            if !self.is_wanted(core, &object, push.as_of, finish.as_ref()) {
                let at = core.now + core.config.pull_retry;
                self.pull_again(core, &object, at);
                return;
            }
            if !self.pulls.contains_key(&object) {
                return; // applying what was committed has settled it
            }
        }
        let pg = self.id;
        let batch = match is_absent {
            true => vec![Write::RemoveObject { pg, object: object.clone() }],
            false => {
                let part = |part| Write::Install { pg, object: object.clone(), part };
                push.parts.into_iter().map(part).collect()
            }
        };
        let stored = Stored::Part(object.clone(), push.attempt, push.index + 1);
        let is_last = is_absent || finish.is_some();
        let size = finish.as_ref().map_or(0, |info| info.size);
        let pending = match (is_last, is_repair) {
            (false, _) => Some(Pending::Pg(pg, stored)),
            // Read again only when it is the medium that answers.
            (true, true) => {
                Some(Pending::Pg(pg, Stored::Repaired(self.interval(), object.clone())))
            }
            (true, false) => None,
        };
        if core.submit(pending, batch).is_err() {
            let at = core.now + core.config.resend_after;
            self.pull_again(core, &object, at);
            return;
        }
        if let Some(pull) = self.pulls.get_mut(&object) {
            pull.next += 1;
            pull.again = core.now + core.config.pull_timeout;
        }
        if is_last {
            self.end_pull(core, &object);
            core.done.objects_in += 1;
            core.done.bytes_in += if is_repair { 0 } else { size };
            if !is_repair {
                self.found(core, &object);
            }
        }
    }

    /// Whether a copy (or the absence of the object) that was whole when the sender had applied `as_of` is
    /// what must be here now.
    fn is_wanted<S: Store>(
        &mut self,
        core: &mut Core<S>,
        object: &ObjectName,
        as_of: Version,
        info: Option<&ObjectInfo>,
    ) -> bool {
        if self.scrub.wanted.contains_key(object) {
            return self.is_better(core, object, as_of, info);
        }
        if self.pulls.get(object).is_some_and(|pull| pull.repairs.is_some()) {
            let here = core.store.info(self.id, object).ok().flatten();
            return info.is_some_and(|info| here.is_some_and(|here| here.version == info.version));
        }
        self.apply_to(core, as_of);
        let Some(need) = self.catch_up.as_ref().and_then(|c| c.missing.get(object)) else {
            return true; // settled meanwhile; the caller looks
        };
        let have = info.map_or(as_of, |info| info.version);
        self.log.applied() >= as_of && have >= *need
    }

    /// A part is durable: the sender may go on.
    pub(crate) fn handle_part_stored<S: Store>(
        &mut self,
        core: &mut Core<S>,
        object: ObjectName,
        attempt: u64,
        next: u32,
    ) {
        let Some(pull) = self.pulls.get(&object) else { return };
        if pull.attempt == attempt {
            let (pg, interval, done) = (self.id, self.interval(), false);
            core.send(
                pull.source,
                PeerMessage::PushAck { pg, interval, object, attempt, next, done },
            );
        }
    }

    /// No copy comes: ask again later, or somebody else.
    pub(crate) fn handle_pull_refused<S: Store>(
        &mut self,
        core: &mut Core<S>,
        from: DaemonId,
        object: &ObjectName,
        attempt: u64,
    ) {
        let is_ours =
            self.pulls.get(object).is_some_and(|p| p.source == from && p.attempt == attempt);
        if is_ours {
            let at = core.now + core.config.pull_retry;
            self.pull_again(core, object, at);
        }
    }

    /// The copy of an object here is damaged: fetches a good one from somebody else. `false` if there is
    /// nobody, or it was tried too often.
    pub(crate) fn repair<S: Store>(&mut self, core: &mut Core<S>, object: &ObjectName) -> bool {
        if self.damaged.contains_key(object) {
            return true;
        }
        core.read_errors += 1;
        core.monitor.changed.insert(self.id);
        self.replace(core, object);
        self.damaged.contains_key(object)
    }

    /// Fetches another copy of an object in place of the one here.
    pub(crate) fn replace<S: Store>(&mut self, core: &mut Core<S>, object: &ObjectName) {
        self.damaged.insert(object.clone(), 0);
        core.pulls_open += 1;
        self.repair_again(core, object);
    }

    /// Asks the next daemon that could have a good copy, or gives up: then those who wait get the error of
    /// the medium when they look.
    fn repair_again<S: Store>(&mut self, core: &mut Core<S>, object: &ObjectName) {
        let attempts = self.damaged.get(object).copied().unwrap_or_default();
        let (sources, version) = match self.scrub.wanted.get(object) {
            Some(wanted) => (wanted.sources.clone(), Some(wanted.version)),
            None => {
                let here = core.store.info(self.id, object).ok().flatten();
                (self.repair_sources(core.me), here.map(|here| here.version))
            }
        };
        let source = sources.get(attempts as usize % sources.len().max(1)).copied();
        let (Some(source), Some(version)) = (source, version) else {
            return self.give_up_repair(core, object);
        };
        if attempts >= core.config.repair_attempts_max {
            return self.give_up_repair(core, object);
        }
        self.damaged.insert(object.clone(), attempts + 1);
        self.pull(core, object.clone(), source, Some(version));
    }

    fn give_up_repair<S: Store>(&mut self, core: &mut Core<S>, object: &ObjectName) {
        tracing::error!(pg = %self.id, %object, "damaged, and no good copy was found");
        self.damaged.remove(object);
        let is_judged = self.scrub.wanted.remove(object).is_some();
        if matches!(self.role, Role::Primary(_)) && !is_judged {
            self.note_bad(core, object.clone(), "no good copy was found".into(), true);
        }
        match self.pulls.contains_key(object) {
            true => self.end_pull(core, object),
            false => core.pulls_open -= 1,
        }
        self.fail_waiting(core, object);
    }

    /// Those who wait for a damaged object are told; a later request tries again.
    fn fail_waiting<S: Store>(&mut self, core: &mut Core<S>, object: &ObjectName) {
        for waiting in self.queue.take_object(core, object) {
            let why = "stored bytes are damaged and no good copy was found";
            core.refuse(waiting.link, waiting.request.id, errno::EIO, why);
        }
    }

    fn repair_sources(&self, me: DaemonId) -> Vec<DaemonId> {
        match &self.role {
            // It makes its own slot anew from those of the others.
            Role::Primary(_) if self.rebuilds() => vec![me],
            Role::Primary(primary) => {
                // A learner may have this very object, though it lacks others; it says so.
                let learners = primary.learners.iter().filter(|(_, progress)| progress.synced);
                primary.members.keys().chain(learners.map(|(id, _)| id)).copied().collect()
            }
            Role::Replica(replica) => vec![replica.primary],
            Role::Idle => Vec::new(),
        }
    }

    /// The good copy is durable.
    pub(crate) fn repaired<S: Store>(&mut self, core: &mut Core<S>, object: &ObjectName) {
        if self.damaged.remove(object).is_none() {
            return;
        }
        tracing::info!(pg = %self.id, %object, "replaced by the copy of another daemon");
        self.scrub.wanted.remove(object);
        core.done.repairs += 1;
        self.retry_object(core, object);
    }

    /// Ends all copies: their interval is over.
    pub(crate) fn stop_copies<S: Store>(&mut self, core: &mut Core<S>) {
        core.pulls_open -= self.pulls.len();
        self.pulls.clear();
        self.damaged.clear();
        core.pulls_wanted.remove(&self.id);
        core.attention.extend(core.pulls_wanted.keys());
        self.stop_pushes(core);
    }
}
