//! The primary's way of a write: an entry, staged here and everywhere, committed, applied, answered (R8).
//!
//! # Invariants
//!
//! - An entry is committed when every member, and the learner whose promotion was asked for, has it
//!   durable in this interval, and this daemon too; with fewer members than min_size nothing is (R10).
//! - Entries are committed, applied and answered in the order of the log.
//! - An answer leaves only while the lease holds.

use super::config::Fault;
use super::core::{Core, Pending, Stored};
use super::event::{Action, LinkId};
use super::execute::{self, Done, View};
use super::message::{CommitPoint, PeerMessage};
use super::pg::{Pg, Phase, Role, Waiter};
use super::queue::{STOPPING, Waiting};
use super::room;
use super::watch::{WatchAction, Watches};
use crate::store::{Change, LogEntry, Mutation, Store, StoreError, Write};
use store_base::op::{Outcome, Reply, errno};
use store_base::{DaemonId, ObjectName, RequestId, Version};

/// What a mutation may add while the cluster is full, if it removes something: a delete in an index
/// updates its counts.
const FULL_ADDED_BYTES_MAX: usize = 4096;

/// Whether a mutation may pass when there is no room: it frees something and adds next to nothing.
fn frees(mutation: &Mutation) -> bool {
    let mut removes = mutation.info.is_none();
    let mut added = 0;
    for change in &mutation.changes {
        match change {
            Change::Write { data, .. } | Change::OmapHeader { data } => added += data.len(),
            Change::Xattrs { set } | Change::Omap { set } => {
                removes |= set.values().any(Option::is_none);
                added += set
                    .iter()
                    .map(|(k, v)| v.as_ref().map_or(0, |v| k.len() + v.len()))
                    .sum::<usize>();
            }
            _ => removes = true,
        }
    }
    removes && added <= FULL_ADDED_BYTES_MAX
}

/// What an entry takes on each member; with slots, on the one that it takes most of.
fn cost(done: &Done, shards: Option<&[Mutation]>) -> u64 {
    match shards {
        Some(shards) => shards.iter().map(room::cost).max().unwrap_or(0),
        None => done.mutation.as_ref().map_or(0, room::cost),
    }
}

/// What each slot does, with the place in the log that the whole has.
fn stamped(mut shards: Vec<Mutation>, done: &Done) -> Vec<Mutation> {
    let info = done.mutation.as_ref().and_then(|mutation| mutation.info.clone());
    shards.iter_mut().for_each(|shard| shard.info.clone_from(&info));
    shards
}

impl Pg {
    /// Makes an entry of what a request does.
    ///
    /// `shards`: with slots, what each does.
    pub(crate) fn propose<S: Store>(
        &mut self,
        core: &mut Core<S>,
        waiting: Waiting,
        done: Done,
        shards: Option<Vec<Mutation>>,
    ) {
        let Waiting { link, request, .. } = waiting;
        let id = request.id;
        if core.is_fenced(id.client) {
            // It was let in before the fence: nothing of it may happen behind it.
            return self.refuse_mutation(
                core,
                link,
                id,
                errno::EBLOCKLISTED,
                "this client is fenced",
            );
        }
        let is_full = core.map.flags.full || core.any_full(self.confirmed.members.iter().copied());
        let is_over_quota = core.map.is_over_quota(self.id.pool);
        // What ends a move adds no more than its request has, and needs room on the media as any other.
        let passes = done.ends_a_move || done.mutation.as_ref().is_some_and(frees);
        if (is_full || is_over_quota) && !passes {
            let (code, why) = match is_full {
                true => (errno::ENOSPC, "the cluster is full; only deletes are accepted"),
                false => (errno::EDQUOT, "the pool's quota is used up; only deletes are accepted"),
            };
            return self.refuse_mutation(core, link, id, code, why);
        }
        if !self.has_room(core, &done, shards.as_deref()) {
            let why = "a daemon that this object is on has no room left for this; delete something or add daemons";
            return self.refuse_mutation(core, link, id, errno::ENOSPC, why);
        }
        let mut done = done;
        if core.config.fault == Fault::LoseXattrs
            && let Some(mutation) = &mut done.mutation
        {
            mutation.changes.retain(|change| !matches!(change, Change::Xattrs { .. }));
        }
        match self.append(core, &request.object, Some(id), done, shards) {
            Ok(version) => {
                self.waiters.entry(version).or_default().push(Waiter::Entry { link, id });
                self.advance_commit(core);
            }
            Err(StoreError::Full(_)) => {
                self.refuse_mutation(core, link, id, errno::ENOSPC, "this daemon has no room left");
            }
            Err(error) => self.refuse_mutation(core, link, id, errno::EIO, &error.to_string()),
        }
    }

    /// Whether every member that a write must wait for has promised room for it. Deletes need none.
    fn has_room<S: Store>(&self, core: &Core<S>, done: &Done, shards: Option<&[Mutation]>) -> bool {
        let is_free = done.mutation.as_ref().is_none_or(frees);
        let Role::Primary(primary) = &self.role else { return true };
        is_free || core.have_room(primary.needed().chain([core.me]), cost(done, shards))
    }

    /// Refuses a mutation, and its duplicates.
    pub(crate) fn refuse_mutation<S: Store>(
        &mut self,
        core: &mut Core<S>,
        link: LinkId,
        id: RequestId,
        errno: i32,
        why: &str,
    ) {
        let outcome = Outcome::Refused { code: -errno, why: why.to_string() };
        core.recent.add(id, outcome.clone());
        core.answer(link, id, outcome);
    }

    /// Stages an entry here and sends it to all who must have it.
    fn append<S: Store>(
        &mut self,
        core: &mut Core<S>,
        object: &ObjectName,
        request: Option<RequestId>,
        mut done: Done,
        shards: Option<Vec<Mutation>>,
    ) -> Result<Version, StoreError> {
        let (pg, interval, previous) = (self.id, self.interval(), self.log.head());
        let version = Version { interval, counter: previous.counter + 1 };
        done.stamp(version, version.counter);
        let shards = shards.map(|shards| stamped(shards, &done));
        if let (Some(shards), Some(own)) = (&shards, self.confirmed.slot(core.me)) {
            done.mutation = shards.get(own).cloned();
        }
        let entry = LogEntry {
            version,
            previous,
            object: object.clone(),
            request,
            user_version: done.user_version,
            results: done.results.clone(),
            time: core.wall(),
            removes: done.removes,
            mutation: done.mutation.clone(),
        };
        let stage = Write::Stage { pg, entry: entry.clone() };
        core.submit(Some(Pending::Pg(pg, Stored::Log(interval, 0, version))), vec![stage])?;
        let committed = self.log.applied();
        let cost = cost(&done, shards.as_deref());
        core.spend_room(core.me, cost);
        if let Role::Primary(primary) = &mut self.role {
            primary.overlay.push(version, object, done.mutation.clone().unwrap_or_default());
            if let Some(shards) = shards {
                primary.shards.insert(version, shards);
            }
            for to in primary.fed() {
                if let Some(progress) = primary.progress(to)
                    && progress.stored == previous
                {
                    progress.sent = core.now;
                }
                core.noticed(to, pg);
                core.spend_room(to, cost);
            }
            for to in primary.fed() {
                let entry = self.entry_for(to, &entry);
                core.send(to, PeerMessage::Replicate { pg, interval, entry, committed });
            }
        }
        if (!done.effects.is_empty() || done.removes)
            && let Some(request) = request
        {
            self.effects.insert(version, (request, object.clone(), done));
        }
        self.log.push(entry);
        let at = core.now + core.config.resend_after;
        self.set_wake(core, at);
        Ok(version)
    }

    /// Commits and applies what everybody needed has.
    pub(crate) fn advance_commit<S: Store>(&mut self, core: &mut Core<S>) {
        let is_writable = self.is_writable();
        let Role::Primary(primary) = &mut self.role else { return };
        if primary.phase != Phase::Active {
            return;
        }
        // With slots what the interval began with is decided however few the members are.
        let is_decided = self.slots.is_some();
        let began = primary.stored.min(primary.began);
        let mut to = match (is_writable, is_decided) {
            (true, _) => primary.stored,
            (false, true) => began,
            // Of copies only what was committed before: whatever anybody has applied. A learner that is ahead in
            // this could not be caught up, and with too few members the group would wait for it for ever.
            (false, false) => {
                let all = primary.members.values().chain(primary.learners.values());
                let applied = all.filter(|progress| progress.synced).map(|p| p.applied).max();
                let known = applied.filter(|applied| self.log.reaches(*applied));
                began.min(known.unwrap_or(Version::ZERO))
            }
        };
        let is_planted = core.config.fault == Fault::OneSlotLess && self.slots.is_some();
        for daemon in primary.needed().skip(usize::from(is_planted)).collect::<Vec<_>>() {
            let stored = primary.progress(daemon).map_or(Version::ZERO, |progress| progress.stored);
            to = to.min(stored);
        }
        if to > self.log.applied() {
            self.commit_to(core, to);
        }
    }

    fn commit_to<S: Store>(&mut self, core: &mut Core<S>, to: Version) {
        let (pg, interval) = (self.id, self.interval());
        let apply = Write::Apply { pg, to, except: Vec::new() };
        if core.submit(None, vec![apply]).is_err() {
            return;
        }
        let before = self.log.applied();
        core.done.commits += to.counter - before.counter;
        self.note_applied(core, to);
        let Role::Primary(primary) = &mut self.role else { return };
        primary.overlay.applied(to);
        for member in primary.fed() {
            core.notice(member, CommitPoint { pg, interval, version: to });
        }
        let slowest = primary.learners.values().filter(|learner| learner.synced);
        let slowest = slowest.map(|learner| learner.stored).min().unwrap_or(to);
        self.log.forget_mutations(slowest, core.config.open_bytes_max);
        match self.log.first_kept() {
            Some(first) => primary.shards = primary.shards.split_off(&first),
            None => primary.shards.clear(),
        }
        let at = core.now + core.config.resend_after;
        self.set_wake(core, at);
        self.carry_out_effects(core, to);
        self.answer_waiters(core);
        self.after_commit(core, before, to);
    }

    /// What waited for objects or for room may go on.
    fn after_commit<S: Store>(&mut self, core: &mut Core<S>, before: Version, to: Version) {
        if !self.queue.is_idle() {
            let touched: Vec<ObjectName> = self
                .log
                .behind(before)
                .take_while(|entry| entry.version <= to)
                .map(|entry| entry.object.clone())
                .filter(|object| self.queue.has_object(object))
                .collect();
            touched.iter().for_each(|object| self.retry_object(core, object));
            if !self.queue.writes_is_empty() {
                core.attention.insert(self.id);
            }
        }
        self.continue_held_pushes(core);
    }

    /// Answers those who wait for what is applied by now.
    pub(crate) fn answer_waiters<S: Store>(&mut self, core: &mut Core<S>) {
        let applied = self.log.applied();
        if self.waiters.first_key_value().is_none_or(|(version, _)| *version > applied) {
            return;
        }
        if !self.serves(core) {
            core.lease_waits.insert(self.id);
            return;
        }
        while let Some(first) = self.waiters.first_entry().filter(|first| *first.key() <= applied) {
            let (version, waiters) = first.remove_entry();
            for waiter in waiters {
                match waiter {
                    Waiter::Entry { link, id } => self.answer_entry(core, link, id, version),
                    Waiter::Twin { link, id } => match core.recent.answer(&id).cloned() {
                        Some(outcome) => core.answer(link, id, outcome),
                        None => core.misdirected(link, id),
                    },
                    waiter @ Waiter::Answer { .. } => self.tell(core, waiter),
                }
            }
        }
    }

    /// Gives an answer that needs no entry, unless a notification keeps it back.
    pub(crate) fn tell<S: Store>(&mut self, core: &mut Core<S>, waiter: Waiter) {
        let Waiter::Answer { link, id, object, done, outcome, mutates } = waiter else { return };
        if mutates {
            core.recent.add(id, outcome.clone());
            self.answering.remove(&id);
        }
        if Watches::keeps_back(&done) {
            self.notifying.insert(id, (link, object.clone()));
        } else {
            core.answer(link, id, outcome);
        }
        if !done.effects.is_empty() {
            let mut actions = Vec::new();
            self.watches.take(core.now, id, &object, &done, &mut actions);
            self.watch_actions(core, actions);
        }
    }

    fn carry_out_effects<S: Store>(&mut self, core: &mut Core<S>, to: Version) {
        while let Some(first) = self.effects.first_entry().filter(|first| *first.key() <= to) {
            let (request, object, done) = first.remove();
            let mut actions = Vec::new();
            self.watches.take(core.now, request, &object, &done, &mut actions);
            self.watch_actions(core, actions);
        }
    }

    pub(crate) fn watch_actions<S: Store>(
        &mut self,
        core: &mut Core<S>,
        actions: Vec<WatchAction>,
    ) {
        for action in actions {
            match action {
                WatchAction::Tell { client, notification } => {
                    if let Some(link) = core.clients.get(&client).copied() {
                        let reply = Reply::Notify { notification };
                        core.out.push(Action::ToClient { link, reply });
                    }
                }
                WatchAction::Finish { request, done } => self.finish_notify(core, request, done),
                WatchAction::Expire { object, client, cookie } => {
                    self.expire_watch(core, &object, client, cookie);
                }
            }
        }
        if let Some(at) = self.watches.wake_at() {
            self.set_wake(core, at);
        }
    }

    fn finish_notify<S: Store>(&mut self, core: &mut Core<S>, id: RequestId, done: Done) {
        let Some((link, object)) = self.notifying.remove(&id) else { return };
        let version = match core.store.info(self.id, &object) {
            Ok(Some(info)) => info.version,
            _ => Version::ZERO,
        };
        let user_version = done.user_version;
        core.answer(link, id, Outcome::Done { version, user_version, results: done.results });
    }

    /// Ends a watch whose time is over, by an entry of the cluster's own. If it cannot be made now, it is
    /// asked for again later.
    fn expire_watch<S: Store>(
        &mut self,
        core: &mut Core<S>,
        object: &ObjectName,
        client: u64,
        cookie: u64,
    ) {
        let may = self.serves(core) && self.is_writable() && !self.locked.contains(object);
        let Role::Primary(primary) = &self.role else { return };
        let is_held = self.pushes.values().any(|push| push.holds(object))
            || self.damaged.contains_key(object)
            || self.is_gathered(object);
        if !may || is_held || self.scrub.holds(object) {
            return;
        }
        let view = View::newest(&core.store, self.id, object, &primary.overlay);
        // It changes no bytes, so it is one for every slot.
        if let Ok(Some(done)) = execute::end_watch(&view, client, cookie)
            && let shards = self.same_for_all(&done)
            && self.append(core, object, None, done, shards).is_ok()
        {
            self.advance_commit(core);
        }
    }

    /// Another daemon leads: everybody who waits here is told so.
    pub(crate) fn send_clients_away<S: Store>(&mut self, core: &mut Core<S>) {
        if self.leads_or_will(core) {
            return;
        }
        self.send_waiting_away(core);
    }

    fn send_waiting_away<S: Store>(&mut self, core: &mut Core<S>) {
        self.queue.misdirect_all(core);
        for (link, id) in self.take_waiting() {
            core.misdirected(link, id);
        }
        self.effects.clear();
        self.watches.clear();
    }

    /// The group is about to be divided: everybody is to look at the map again.
    pub(crate) fn send_all_away<S: Store>(&mut self, core: &mut Core<S>) {
        self.send_waiting_away(core);
        self.abandon_jobs(core);
    }

    /// Everybody whose request was let in and is not answered, but for those who wait for the medium.
    fn take_waiting(&mut self) -> Vec<(LinkId, RequestId)> {
        self.answering.clear();
        let waiters = std::mem::take(&mut self.waiters).into_values().flatten();
        let notifying = std::mem::take(&mut self.notifying);
        let notifying = notifying.into_iter().map(|(id, (link, _))| (link, id));
        waiters.map(|waiter| waiter.whom()).chain(notifying).collect()
    }

    /// The daemon ends: whoever waits is told to try again. What was let in may still come about; the
    /// request's id tells then.
    pub(crate) fn stop<S: Store>(&mut self, core: &mut Core<S>) {
        self.leave(core);
        self.queue.refuse_all(core);
        let jobs = self.take_jobs(core);
        for (link, id) in self.take_waiting().into_iter().chain(jobs) {
            core.refuse(link, id, errno::EAGAIN, STOPPING);
        }
    }

    /// Sends again what was not acknowledged for long.
    pub(crate) fn resend_overdue<S: Store>(&mut self, core: &mut Core<S>) {
        let (head, applied, now) = (self.log.head(), self.log.applied(), core.now);
        let resend_after = core.config.resend_after;
        let Role::Primary(primary) = &self.role else { return };
        let all = primary.members.iter().chain(&primary.learners);
        let behind: Vec<(DaemonId, bool, Version, bool)> = all
            .filter(|(_, p)| !p.synced || p.stored < head || p.applied < applied)
            .map(|(id, p)| (*id, p.synced, p.stored, now.since(p.sent) >= resend_after))
            .collect();
        if behind.is_empty() {
            return;
        }
        for (id, synced, stored, overdue) in behind {
            if overdue {
                self.refresh(core, id, synced, stored);
            }
        }
        self.set_wake(core, now + resend_after);
    }

    /// Sends what a peer may have lost with a session.
    pub(crate) fn refresh<S: Store>(
        &mut self,
        core: &mut Core<S>,
        id: DaemonId,
        synced: bool,
        stored: Version,
    ) {
        match synced {
            true if self.can_feed(stored) => self.resend(core, id, stored),
            true => self.stop_feeding(core, id),
            false => self.knock(core, id),
        }
    }

    /// Whether all entries behind a version can still be sent.
    pub(crate) fn can_feed(&self, behind: Version) -> bool {
        let Role::Primary(primary) = &self.role else { return false };
        let has = |entry: &LogEntry| {
            entry.mutation.is_some()
                && (self.slots.is_none() || primary.shards.contains_key(&entry.version))
        };
        self.log.reaches(behind) && self.log.behind(behind).all(has)
    }

    /// A mutation that changes no bytes, for every slot.
    fn same_for_all(&self, done: &Done) -> Option<Vec<Mutation>> {
        let layout = self.slots.as_ref()?;
        Some(vec![done.mutation.clone().unwrap_or_default(); layout.slots()])
    }

    /// A learner has fallen too far behind: it must adopt the log again, and will ask for it.
    fn stop_feeding<S: Store>(&mut self, core: &mut Core<S>, id: DaemonId) {
        if let Role::Primary(primary) = &mut self.role
            && primary.asked != Some(id)
            && let Some(progress) = primary.learners.get_mut(&id)
        {
            progress.synced = false;
        }
        self.knock(core, id);
    }

    /// Makes somebody who is not in the interval yet say so again: a member by the takeover, a learner
    /// by a commit point that shows it its gap.
    fn knock<S: Store>(&mut self, core: &mut Core<S>, id: DaemonId) {
        let Role::Primary(primary) = &mut self.role else { return };
        if primary.members.contains_key(&id) {
            self.send_sync(core, id);
            return;
        }
        if let Some(progress) = primary.learners.get_mut(&id) {
            progress.sent = core.now;
        }
        let (pg, interval, version) = (self.id, self.interval(), self.log.applied());
        let points = vec![CommitPoint { pg, interval, version }];
        core.send(id, PeerMessage::Committed { points });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_frees_passes_a_full_cluster() {
        let none = Mutation { changes: vec![Change::Remove {}], info: None };
        assert!(frees(&none));
        let big = Change::Write { offset: 0, data: vec![0; 5000].into() };
        let info = Some(store_base::object::ObjectInfo::default());
        assert!(!frees(&Mutation { changes: vec![big], info: info.clone() }));
        let cut = Mutation { changes: vec![Change::Truncate { size: 0 }], info };
        assert!(frees(&cut));
    }
}
