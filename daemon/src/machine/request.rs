//! What a client asks: whether it may run now, whether it ran before, what it waits for.
//!
//! # Invariants
//!
//! - Nothing is executed but while the group serves: active, every lease held, the right map.
//! - A mutation whose request id is in the log is never executed again: its answer waits for the entry,
//!   or is there. One whose entry may have been trimmed is refused.
//! - A mutation that was answered without an entry is not executed later: this daemon has the answer, and
//!   other daemons send away what was sent before their interval began. Clients heed an answer
//!   to their last sending only, by a map at least as new as theirs was.
//! - An object is not read while the log has an entry for it from before this interval that is not
//!   known to be committed (R10), and not touched while its copy here is known to be damaged.
//! - An object is not changed while a copy of it is being sent, or a mutation of it reads bytes.

use super::config::Fault;
use super::core::Core;
use super::event::LinkId;
use super::execute::{self, Execution, View};
use super::pg::{Pg, Phase, Role, Waiter};
use super::queue::{Wait, Waiting};
use crate::store::{Store, StoreError};
use store_base::op::{Op, OpResult, Outcome, Request, errno};
use store_base::{ObjectName, RequestId, Version};

/// What became of letting a request in.
enum Admission {
    /// It is under way, or answered.
    Done,
    /// It must wait.
    Wait(Wait, Waiting),
}

impl Pg {
    /// A client's request has come. Checked already: blocklist, form, pool, placement.
    pub(crate) fn handle_request<S: Store>(&mut self, core: &mut Core<S>, waiting: Waiting) {
        if !self.leads_or_will(core) {
            core.misdirected(waiting.link, waiting.request.id);
            return;
        }
        let behind = self.queue.has_object(&waiting.request.object);
        if !self.queue.group_is_empty() {
            self.queue.push(core, Wait::Group, waiting);
            core.attention.insert(self.id);
        } else if behind {
            self.queue.push(core, Wait::Object, waiting);
        } else {
            self.run(core, waiting);
        }
    }

    /// Whether requests belong here by the map, even if they have to wait for the new interval.
    pub(crate) fn leads_or_will<S: Store>(&self, core: &Core<S>) -> bool {
        self.known.primary == core.me
    }

    fn run<S: Store>(&mut self, core: &mut Core<S>, waiting: Waiting) {
        match self.admit(core, waiting) {
            Admission::Done => {}
            Admission::Wait(wait, waiting) => self.queue.push(core, wait, waiting),
        }
    }

    /// Lets those in that wait for the group or for writes, as far as they may.
    pub(crate) fn retry_all<S: Store>(&mut self, core: &mut Core<S>) {
        if !self.leads_or_will(core) {
            return;
        }
        if !self.serves(core) {
            if self.queue.len() > 0 || !self.waiters.is_empty() {
                core.lease_waits.insert(self.id);
            }
            return;
        }
        for wait in [Wait::Group, Wait::Object, Wait::Writes] {
            self.retry(core, wait);
        }
    }

    fn retry<S: Store>(&mut self, core: &mut Core<S>, wait: Wait) {
        let mut all = self.queue.take(core, wait);
        while let Some(waiting) = all.pop_front() {
            let waits_for_object = self.queue.has_object(&waiting.request.object);
            if waits_for_object {
                self.queue.push(core, Wait::Object, waiting);
                continue;
            }
            match self.admit(core, waiting) {
                Admission::Done => {}
                Admission::Wait(again, waiting) => {
                    self.queue.push(core, again, waiting);
                    if again == wait && wait != Wait::Object {
                        all.drain(..).for_each(|rest| self.queue.push(core, wait, rest));
                    }
                }
            }
        }
    }

    /// Something about an object has changed: those that wait for it may go on.
    pub(crate) fn retry_object<S: Store>(&mut self, core: &mut Core<S>, object: &ObjectName) {
        if !self.queue.has_object(object) || !self.serves(core) {
            return;
        }
        let mut all = self.queue.take_object(core, object);
        while let Some(waiting) = all.pop_front() {
            if let Admission::Wait(again, waiting) = self.admit(core, waiting) {
                self.queue.push(core, again, waiting);
                if again == Wait::Object {
                    all.drain(..).for_each(|rest| self.queue.push(core, again, rest));
                }
            }
        }
    }

    fn admit<S: Store>(&mut self, core: &mut Core<S>, waiting: Waiting) -> Admission {
        let request = &waiting.request;
        if core.map.flags.pause || !(self.serves(core) || self.reads_anyway(core, request)) {
            core.lease_waits.insert(self.id);
            return Admission::Wait(Wait::Group, waiting);
        }
        if let Some(op) = request.ops.first()
            && let Op::List { after, max } = op
        {
            let listed = execute::list(&core.store, self.id, after, *max);
            self.answer_list(core, &waiting, listed);
            return Admission::Done;
        }
        if request.is_mutation() {
            self.admit_mutation(core, waiting)
        } else {
            self.admit_read(core, waiting)
        }
    }

    /// Only with a planted fault.
    fn reads_anyway<S: Store>(&self, core: &Core<S>, request: &Request) -> bool {
        core.config.fault == Fault::ReadWithoutLease
            && !request.is_mutation()
            && matches!(&self.role, Role::Primary(primary) if primary.phase == Phase::Active)
    }

    fn answer_list<S: Store>(
        &mut self,
        core: &mut Core<S>,
        waiting: &Waiting,
        listed: Result<OpResult, StoreError>,
    ) {
        let (link, id) = (waiting.link, waiting.request.id);
        match listed {
            Ok(result) => {
                let version = self.log.applied();
                let results = vec![result];
                core.answer(link, id, Outcome::Done { version, user_version: 0, results });
            }
            Err(error) => core.refuse(link, id, errno::EIO, &error.to_string()),
        }
    }

    fn admit_read<S: Store>(&mut self, core: &mut Core<S>, waiting: Waiting) -> Admission {
        let object = &waiting.request.object;
        if self.is_undecided(object) || self.damaged.contains_key(object) {
            return Admission::Wait(Wait::Object, waiting);
        }
        if core.jobs_open >= core.config.reads_max {
            return Admission::Wait(Wait::Writes, waiting);
        }
        let view = View::applied(&core.store, self.id, object).with_slots(self.slots.is_some());
        let execution = execute::execute(&view, &waiting.request, core.wall());
        self.conclude(core, waiting, execution)
    }

    /// Whether the log has an entry for the object that a client may or may not have been told of.
    fn is_undecided(&self, object: &ObjectName) -> bool {
        let Role::Primary(primary) = &self.role else { return true };
        let began = primary.began;
        self.log.applied() < began
            && self
                .log
                .staged_entries()
                .any(|entry| entry.version <= began && entry.object == *object)
    }

    fn admit_mutation<S: Store>(&mut self, core: &mut Core<S>, waiting: Waiting) -> Admission {
        let (request, link) = (&waiting.request, waiting.link);
        let id = request.id;
        if core.config.fault != Fault::NoDedupe {
            if let Some(version) = self.log.request(&id) {
                if version <= self.log.applied() {
                    self.answer_entry(core, link, id, version);
                } else {
                    self.waiters.entry(version).or_default().push(Waiter::Entry { link, id });
                }
                return Admission::Done;
            }
            if let Some(outcome) = core.recent.answer(&id).cloned() {
                core.answer(link, id, outcome);
                return Admission::Done;
            }
            if self.join_twin(link, id) {
                return Admission::Done;
            }
            if self.is_outdated(request) {
                core.misdirected(link, id);
                return Admission::Done;
            }
            if request.resend > 0 && self.trimmed.may_have(&id) {
                let why = "the log does not reach back to this request; whether it was applied is not known";
                core.refuse(link, id, errno::ESTALE, why);
                return Admission::Done;
            }
        }
        let open_max = core.config.open_entries_max;
        if !self.is_writable()
            || self.log.staged_len() >= open_max
            || self.log.open_bytes() >= core.config.open_bytes_max
            || core.jobs_open >= core.config.reads_max
        {
            return Admission::Wait(Wait::Writes, waiting);
        }
        let object = &request.object;
        let is_held = self.locked.contains(object)
            || self.damaged.contains_key(object)
            || self.pushes.values().any(|push| push.holds(object))
            || self.scrub.holds(object)
            || self.is_gathered(object)
            || self.is_undecided(object);
        if is_held {
            return Admission::Wait(Wait::Object, waiting);
        }
        let Role::Primary(primary) = &self.role else {
            return Admission::Wait(Wait::Group, waiting);
        };
        let view = View::newest(&core.store, self.id, object, &primary.overlay)
            .with_slots(self.slots.is_some());
        let execution = execute::execute(&view, request, core.wall());
        self.conclude(core, waiting, execution)
    }

    /// Whether the same mutation has its answer, without an entry, and that waits for open entries: then this one
    /// gets the same. What it finds now may be something else.
    fn join_twin(&mut self, link: LinkId, id: RequestId) -> bool {
        let Some(version) = self.answering.get(&id) else { return false };
        let is_twin =
            |waiter: &Waiter| matches!(waiter, Waiter::Answer { id: of, .. } if *of == id);
        match self.waiters.get_mut(version) {
            Some(waiters) if waiters.iter().any(is_twin) => {
                waiters.push(Waiter::Twin { link, id });
                true
            }
            _ => {
                self.answering.remove(&id);
                false
            }
        }
    }

    /// Whether a mutation was sent by a map from before this interval: it must not happen any more. Its client may
    /// have had the final answer of a twin, from who led an earlier interval by a map at least as new as that
    /// of every twin (`Reply::Answer`); else it sends the mutation again by the new map.
    fn is_outdated(&self, request: &Request) -> bool {
        request.epoch < self.known.since
    }

    /// Answers from the log.
    pub(crate) fn answer_entry<S: Store>(
        &self,
        core: &mut Core<S>,
        link: LinkId,
        id: RequestId,
        version: Version,
    ) {
        let Some(entry) = self.log.entry(version) else { return core.misdirected(link, id) };
        let outcome = Outcome::Done {
            version,
            user_version: entry.user_version,
            results: entry.results.clone(),
        };
        core.answer(link, id, outcome);
    }

    /// The newest open entry of an object.
    fn newest_open(&self, object: &ObjectName) -> Option<Version> {
        match &self.role {
            Role::Primary(primary) => primary.overlay.newest(object),
            _ => None,
        }
    }

    /// Does what an execution came to, or says that the request must wait.
    fn conclude<S: Store>(
        &mut self,
        core: &mut Core<S>,
        waiting: Waiting,
        execution: Execution,
    ) -> Admission {
        let object = &waiting.request.object;
        match execution {
            Execution::Done(done) if done.mutation.is_some() && self.slots.is_some() => {
                if let Err((wait, waiting)) = self.encode(core, waiting, done) {
                    return Admission::Wait(wait, waiting);
                }
            }
            Execution::Done(done) if done.mutation.is_some() => {
                self.propose(core, waiting, done, None);
            }
            Execution::Done(done) => self.give(core, waiting, done),
            Execution::Failed { results, user_version } => {
                let done = execute::Done { results, user_version, ..execute::Done::default() };
                self.give(core, waiting, done);
            }
            // Shards are read when none is about to change.
            Execution::NeedData(_) if self.slots.is_some() && self.is_open(object) => {
                return Admission::Wait(Wait::Object, waiting);
            }
            Execution::NeedData(pending) => self.begin_job(core, waiting, pending),
            Execution::Busy => return Admission::Wait(Wait::Object, waiting),
            Execution::Unreadable(StoreError::Damaged(why)) if self.slots.is_some() => {
                self.refuse_unreadable(core, &waiting, &why);
            }
            Execution::Unreadable(StoreError::Damaged(why)) => {
                let object = object.clone();
                tracing::warn!(pg = %self.id, %object, why, "damaged");
                if self.repair(core, &object) {
                    return Admission::Wait(Wait::Object, waiting);
                }
                self.refuse_unreadable(core, &waiting, &why);
            }
            Execution::Unreadable(error) => {
                self.refuse_unreadable(core, &waiting, &error.to_string());
                if matches!(error, StoreError::Failed(_)) {
                    core.fail(&error);
                }
            }
        }
        Admission::Done
    }

    fn refuse_unreadable<S: Store>(&mut self, core: &mut Core<S>, waiting: &Waiting, why: &str) {
        let (link, id) = (waiting.link, waiting.request.id);
        match waiting.request.is_mutation() {
            true => self.refuse_mutation(core, link, id, errno::EIO, why),
            false => core.refuse(link, id, errno::EIO, why),
        }
    }

    /// As `conclude`, for an execution that comes later.
    pub(crate) fn conclude_later<S: Store>(
        &mut self,
        core: &mut Core<S>,
        waiting: Waiting,
        execution: Execution,
    ) {
        if let Admission::Wait(wait, waiting) = self.conclude(core, waiting, execution) {
            self.queue.push(core, wait, waiting);
        }
    }

    /// Gives an answer that needs no entry: at once, or if it tells of open entries, when these are
    /// committed.
    fn give<S: Store>(&mut self, core: &mut Core<S>, waiting: Waiting, done: execute::Done) {
        let Waiting { link, request, .. } = waiting;
        let version = match core.store.info(self.id, &request.object) {
            Ok(Some(info)) => info.version,
            _ => Version::ZERO,
        };
        let id = request.id;
        let outcome = Outcome::Done {
            version,
            user_version: done.user_version,
            results: done.results.clone(),
        };
        let object = request.object.clone();
        let mutates = request.is_mutation();
        let done = Box::new(done);
        let waiter = Waiter::Answer { link, id, object, done, outcome, mutates };
        match self.newest_open(&request.object) {
            Some(open) if mutates => {
                self.answering.insert(id, open);
                self.waiters.entry(open).or_default().push(waiter);
            }
            _ => self.tell(core, waiter),
        }
    }
}
