//! The primary's walk over a group, round by round.
//!
//! # Invariants
//!
//! - A round ends when every member of the interval has answered it; an answer to another round says nothing.
//! - An object that was found bad is looked at again, deep, by every member, after its copies were replaced. Only when
//!   that finds it sound is it counted as repaired and called good.
//! - The position goes on only when everything before it is decided: sound, repaired, or noted as bad.
//! - A walk ends with its interval; the next primary goes on from the position that was noted.

use super::compare::{Evidence, Verdict, compare, tell};
use super::digest::{Answer, Ask, Digest, Scope};
use super::record::{Inconsistency, ScrubRun};
use crate::machine::config::Fault;
use crate::machine::core::{Core, Timer};
use crate::machine::message::PeerMessage;
use crate::machine::pg::{Pg, Phase, Role};
use crate::store::Store;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;
use store_base::map::PoolKind;
use store_base::{DaemonId, ObjectName, Time, Version};

/// After copies were asked to be replaced, and between looks at an object that changes.
const AGAIN_AFTER: Duration = Duration::from_millis(50);

/// What looking at one object costs besides its bytes, in bytes of the pace.
const OBJECT_BYTES: u64 = 16 << 10;

/// A walk under way.
#[derive(Debug)]
pub(crate) struct Walk {
    state: State,
    number: u64,
    scope: Scope,
    deep: bool,
    as_of: Version,
    answers: BTreeMap<DaemonId, Answer>,
    /// When those who have not answered are asked again.
    until: Time,
    asked: u32,
    /// What must be looked at again before the walk goes on.
    again: BTreeMap<ObjectName, Again>,
    /// Where the range ends whose objects are looked at again; `None` in it: at the end of the group.
    range_end: Option<Option<ObjectName>>,
    /// Whose writes wait, and since when.
    held: BTreeSet<ObjectName>,
    held_until: Time,
    /// Of the range, for the pace.
    cost: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// The next round begins then.
    Pausing(Time),
    /// Answers are on their way.
    Asking,
}

/// Why an object is looked at again.
#[derive(Clone, Copy, Debug, Default)]
struct Again {
    busy: u32,
    mends: u32,
}

impl Walk {
    fn new(now: Time) -> Walk {
        Walk {
            state: State::Pausing(now),
            number: 0,
            scope: Scope::Objects { names: Vec::new() },
            deep: false,
            as_of: Version::ZERO,
            answers: BTreeMap::new(),
            until: now,
            asked: 0,
            again: BTreeMap::new(),
            range_end: None,
            held: BTreeSet::new(),
            held_until: Time::ZERO,
            cost: 0,
        }
    }

    pub(super) fn holds(&self, object: &ObjectName) -> bool {
        self.held.contains(object)
    }
}

impl Pg {
    /// Begins a walk, or goes on with one that an earlier interval left.
    pub(super) fn begin_walk<S: Store>(&mut self, core: &mut Core<S>, run: ScrubRun) {
        let members: BTreeSet<DaemonId> = self.confirmed.members.iter().copied().collect();
        let mut run = run;
        if run.position.is_none() {
            run.members = members;
        } else {
            run.members.retain(|member| members.contains(member));
        }
        tracing::info!(pg = %self.id, deep = run.deep, order = run.order, from = ?run.position, "scrub begins");
        self.scrub.record.run = Some(run);
        self.scrub.walk = Some(Box::new(Walk::new(core.now)));
        core.scrub.walking.insert(self.id);
        core.monitor.news.insert(self.id);
        self.save_scrub(core);
        self.continue_walk(core);
    }

    /// Ends a walk that is not at its end. What it has done so far stays noted.
    pub(crate) fn stop_walk<S: Store>(&mut self, core: &mut Core<S>) {
        let Some(walk) = self.scrub.walk.take() else { return };
        core.scrub.walking.remove(&self.id);
        core.monitor.news.insert(self.id);
        walk.held.iter().for_each(|object| self.retry_object(core, object));
    }

    fn give_up_walk<S: Store>(&mut self, core: &mut Core<S>, why: &str) {
        tracing::warn!(pg = %self.id, why, "scrub is given up for now");
        self.stop_walk(core);
        self.scrub.not_before = core.now + core.config.scrub.retry;
    }

    /// Whether copies can be compared at all now.
    pub(super) fn can_walk<S: Store>(&self, core: &Core<S>) -> bool {
        let is_active =
            matches!(&self.role, Role::Primary(primary) if primary.phase == Phase::Active);
        is_active && self.known.interval == self.interval() && self.serves(core)
    }

    /// Goes on as far as it goes without waiting.
    pub(crate) fn continue_walk<S: Store>(&mut self, core: &mut Core<S>) {
        self.release_held(core);
        let Some(walk) = &self.scrub.walk else { return };
        let now = core.now;
        match walk.state {
            State::Pausing(at) if at > now => self.set_wake(core, at),
            State::Pausing(_) if !self.is_walk_wanted(core) => self.stop_walk(core),
            State::Pausing(_) if !self.can_walk(core) => {
                let at = now + core.config.scrub.check_every;
                self.set_wake(core, at);
            }
            State::Pausing(_) => self.begin_round(core),
            State::Asking if walk.until > now => {
                let at = walk.until;
                self.set_wake(core, at);
            }
            State::Asking if walk.asked >= core.config.scrub.answers_asked_max => {
                self.give_up_walk(core, "members do not answer");
            }
            State::Asking => self.ask_round(core),
        }
    }

    /// Lets writes go on that have waited for too long.
    fn release_held<S: Store>(&mut self, core: &mut Core<S>) {
        let Some(walk) = self.scrub.walk.as_mut().filter(|walk| !walk.held.is_empty()) else {
            return;
        };
        let until = walk.held_until;
        if core.now < until {
            return self.set_wake(core, until);
        }
        let released = std::mem::take(&mut walk.held);
        released.iter().for_each(|object| self.retry_object(core, object));
    }

    fn begin_round<S: Store>(&mut self, core: &mut Core<S>) {
        let as_of = self.log.applied();
        let Some(run) = self.scrub.record.run.clone() else { return self.stop_walk(core) };
        let is_again = self.scrub.walk.as_ref().is_some_and(|walk| !walk.again.is_empty());
        let scope = match is_again {
            true => match self.again_scope(core) {
                Some(scope) => scope,
                None => return, // writes of an object are being waited for
            },
            false => match self.next_range(core, &run) {
                Ok(scope) => scope,
                Err(why) => return self.give_up_walk(core, &why),
            },
        };
        let number = core.number();
        let Some(walk) = &mut self.scrub.walk else { return };
        // What was replaced is verified, whatever kind of walk found it.
        walk.deep = run.deep || walk.again.values().any(|again| again.mends > 0);
        walk.number = number;
        walk.as_of = as_of;
        walk.scope = scope;
        walk.answers.clear();
        walk.asked = 0;
        walk.state = State::Asking;
        self.ask_round(core);
    }

    /// The objects to be looked at again; those that change all the time are held from here on.
    fn again_scope<S: Store>(&mut self, core: &mut Core<S>) -> Option<Scope> {
        let Role::Primary(primary) = &self.role else { return None };
        let limits = &core.config.scrub;
        let walk = self.scrub.walk.as_mut()?;
        let names: Vec<ObjectName> = walk.again.keys().take(limits.objects_max).cloned().collect();
        let hot = names.iter().filter(|name| walk.again[*name].busy >= limits.busy_max);
        let hot: Vec<ObjectName> = hot.cloned().collect();
        if walk.held.is_empty() && !hot.is_empty() {
            walk.held_until = core.now + limits.hold_max;
        }
        if core.now < walk.held_until {
            walk.held.extend(hot);
        }
        let is_open = |name: &ObjectName| primary.overlay.newest(name).is_some();
        if core.now < walk.held_until && walk.held.iter().any(is_open) {
            let at = core.now + AGAIN_AFTER;
            walk.state = State::Pausing(at);
            self.set_wake(core, at);
            return None;
        }
        Some(Scope::Objects { names })
    }

    /// The next range: as many names as fit, by their number and bytes.
    fn next_range<S: Store>(
        &mut self,
        core: &mut Core<S>,
        run: &ScrubRun,
    ) -> Result<Scope, String> {
        let limits = core.config.scrub.clone();
        let after = run.position.clone();
        let max = limits.objects_max;
        let listed = core.store.list(self.id, after.as_ref(), max);
        let listed = listed.map_err(|error| {
            let what = format!("{} cannot list its objects: {error}", core.me);
            self.note_bad(core, ObjectName::default(), what.clone(), false);
            what
        })?;
        let mut bytes = 0;
        let within = |(_, info): &&(ObjectName, store_base::object::ObjectInfo)| {
            bytes += info.size;
            !run.deep || bytes <= limits.bytes_max
        };
        let count = listed.iter().take_while(within).count().max(1).min(listed.len());
        let is_end = count == listed.len() && listed.len() < max;
        let to =
            if is_end { None } else { listed.get(count.saturating_sub(1)).map(|(o, _)| o.clone()) };
        Ok(Scope::Range { after, to, max: (2 * max) as u32 })
    }

    /// Asks those who have not answered.
    fn ask_round<S: Store>(&mut self, core: &mut Core<S>) {
        let (pg, interval) = (self.id, self.interval());
        let Some(walk) = &mut self.scrub.walk else { return };
        walk.asked += 1;
        walk.until = core.now + core.config.scrub.answer_timeout;
        let (number, as_of, deep, until) = (walk.number, walk.as_of, walk.deep, walk.until);
        let scope = walk.scope.clone();
        let missing = self.confirmed.members.iter().filter(|id| !walk.answers.contains_key(*id));
        let missing: Vec<DaemonId> = missing.copied().collect();
        let me = core.me;
        for to in missing.iter().copied().filter(|to| *to != me) {
            let scope = scope.clone();
            core.send(to, PeerMessage::Scrub { pg, interval, number, deep, as_of, scope });
        }
        self.set_wake(core, until);
        if missing.contains(&me) {
            let deep = deep && core.config.fault != Fault::TrustPrimaryDigest;
            self.handle_scrub(core, me, Ask { number, deep, as_of, scope });
        }
    }

    /// A member has answered.
    pub(crate) fn handle_scrubbed<S: Store>(
        &mut self,
        core: &mut Core<S>,
        from: DaemonId,
        number: u64,
        answer: Answer,
    ) {
        let Some(walk) = &mut self.scrub.walk else { return };
        let is_asked = walk.state == State::Asking
            && walk.number == number
            && self.confirmed.members.contains(&from);
        if !is_asked {
            return;
        }
        walk.answers.insert(from, answer);
        if self.confirmed.members.iter().all(|member| walk.answers.contains_key(member)) {
            self.conclude_round(core);
        }
    }

    fn conclude_round<S: Store>(&mut self, core: &mut Core<S>) {
        let Some(walk) = &mut self.scrub.walk else { return };
        let mut answers = std::mem::take(&mut walk.answers);
        let (scope, as_of) = (walk.scope.clone(), walk.as_of);
        if core.config.fault == Fault::TrustPrimaryDigest {
            trust_primary(&mut answers, core.me);
        }
        let failed = answers.iter().find(|(_, answer)| !answer.failed.is_empty());
        if let Some((id, answer)) = failed {
            let what = format!("{id} cannot list its objects: {}", answer.failed);
            self.note_bad(core, ObjectName::default(), what.clone(), false);
            return self.give_up_walk(core, &what);
        }
        // What one of them did not get to is left to the next round.
        let covered = answers.values().filter_map(|answer| answer.covered.clone()).min();
        let names: BTreeSet<ObjectName> = match &scope {
            Scope::Objects { names } => names.iter().cloned().collect(),
            Scope::Range { .. } => {
                let all = answers.values().flat_map(|answer| &answer.digests);
                let all = all.map(|digest| digest.object.clone());
                all.filter(|object| covered.as_ref().is_none_or(|end| object <= end)).collect()
            }
        };
        if let Scope::Range { to, .. } = scope
            && let Some(walk) = &mut self.scrub.walk
        {
            walk.range_end = Some(covered.or(to));
        }
        let by_name: BTreeMap<DaemonId, BTreeMap<&ObjectName, &Digest>> = answers
            .iter()
            .map(|(id, answer)| (*id, answer.digests.iter().map(|d| (&d.object, d)).collect()))
            .collect();
        for object in names {
            let copies: BTreeMap<DaemonId, Option<&Digest>> =
                by_name.iter().map(|(id, digests)| (*id, digests.get(&object).copied())).collect();
            let size =
                copies.values().flatten().map(|digest| digest.size).max().unwrap_or_default();
            let lacks = copies.values().any(Option::is_none);
            let verdict = compare(&copies, &self.evidence(core, &object, as_of, lacks));
            self.take_verdict(core, object, size, verdict);
        }
        self.end_round(core);
    }

    fn evidence<S: Store>(
        &self,
        core: &Core<S>,
        object: &ObjectName,
        as_of: Version,
        lacks: bool,
    ) -> Evidence {
        let is_of = |entry: &&crate::store::LogEntry| entry.object == *object;
        let repairs = self.scrub.record.run.as_ref().is_some_and(|run| run.repair);
        let kind = core.map.pools.get(&self.id.pool).map(|pool| pool.kind);
        // The whole log is looked through only for an object that somebody lacks.
        let applied = self.log.applied_entries().take_while(|_| lacks);
        let removed = applied.filter(is_of).filter(|entry| entry.removes);
        Evidence {
            touched: !self.log.reaches(as_of) || self.log.behind(as_of).any(|entry| is_of(&entry)),
            removed: removed.map(|entry| entry.version).last(),
            comparable: kind != Some(PoolKind::Erasure),
            trusted: repairs.then_some(core.me),
        }
    }

    fn take_verdict<S: Store>(
        &mut self,
        core: &mut Core<S>,
        object: ObjectName,
        size: u64,
        verdict: Verdict,
    ) {
        let limits = core.config.scrub.clone();
        let Some(walk) = &mut self.scrub.walk else { return };
        let before = walk.again.remove(&object);
        let again = before.unwrap_or_default();
        if before.is_none() {
            walk.cost += size + OBJECT_BYTES;
            if let Some(run) = &mut self.scrub.record.run {
                run.objects += 1;
                run.bytes += size;
            }
        }
        match verdict {
            Verdict::Sound if again.mends > 0 => self.note_repaired(core, &object),
            Verdict::Sound => self.note_sound(core, &object, size),
            Verdict::Busy if again.busy > limits.busy_max + 1 => self.note_skipped(&object),
            Verdict::Busy => {
                walk.again.insert(object, Again { busy: again.busy + 1, ..again });
            }
            Verdict::Undecidable(what) => self.note_bad(core, object, what, false),
            Verdict::Lost(what) => self.note_bad(core, object, what, true),
            Verdict::Mend(authority, bad) => {
                self.note_bad(core, object.clone(), tell(&bad), false);
                if again.mends >= limits.mends_max {
                    tracing::error!(pg = %self.id, %object, bad = tell(&bad), "cannot be repaired");
                    return;
                }
                if core.config.fault == Fault::NoReverify {
                    self.mend(core, &object, &authority, &bad);
                    return self.note_repaired(core, &object);
                }
                if self.mend(core, &object, &authority, &bad)
                    && let Some(walk) = &mut self.scrub.walk
                {
                    walk.again.insert(object, Again { mends: again.mends + 1, ..again });
                }
            }
        }
    }

    /// An object is bad: told at once.
    pub(crate) fn note_bad<S: Store>(
        &mut self,
        core: &mut Core<S>,
        object: ObjectName,
        what: String,
        lost: bool,
    ) {
        tracing::error!(pg = %self.id, %object, what, lost, "a copy is bad");
        let now = core.wall().secs;
        let record = &mut self.scrub.record;
        let is_walking = self.scrub.walk.is_some();
        let seen = record.run.as_ref().filter(|_| is_walking).map_or(0, |run| run.started);
        let is_new = record.bad.get(&object).is_none_or(|bad| bad.seen != seen);
        if is_new {
            record.found += 1;
            if let Some(run) = record.run.as_mut().filter(|_| is_walking) {
                run.found += 1;
            }
        }
        let found = Inconsistency { what, lost, since: now, seen };
        record.note_bad(object, found, core.config.scrub.bad_max);
        core.monitor.news.insert(self.id);
        if is_new {
            self.save_scrub(core);
        }
    }

    fn note_repaired<S: Store>(&mut self, core: &mut Core<S>, object: &ObjectName) {
        tracing::info!(pg = %self.id, %object, "repaired, and verified again");
        let record = &mut self.scrub.record;
        record.bad.remove(object);
        record.repaired += 1;
        if let Some(run) = &mut record.run {
            run.repaired += 1;
        }
        core.done.scrub_repairs += 1;
        core.monitor.news.insert(self.id);
        self.save_scrub(core);
    }

    /// Every copy is good. What was called bad before is so no more, if every byte was looked at.
    fn note_sound<S: Store>(&mut self, core: &mut Core<S>, object: &ObjectName, size: u64) {
        core.done.scrubbed_objects += 1;
        let is_deep = self.scrub.walk.as_ref().is_some_and(|walk| walk.deep);
        if is_deep {
            core.done.scrubbed_bytes += size;
        }
        if is_deep && self.scrub.record.bad.remove(object).is_some() {
            core.monitor.news.insert(self.id);
            self.save_scrub(core);
        }
    }

    fn note_skipped(&mut self, object: &ObjectName) {
        tracing::warn!(pg = %self.id, %object, "changed all the time and was not compared");
        if let Some(run) = &mut self.scrub.record.run {
            run.skipped += 1;
        }
    }

    fn end_round<S: Store>(&mut self, core: &mut Core<S>) {
        let now = core.now;
        let Some(walk) = &mut self.scrub.walk else { return };
        if !walk.again.is_empty() {
            walk.state = State::Pausing(now + AGAIN_AFTER);
            return self.set_wake(core, now + AGAIN_AFTER);
        }
        let released = std::mem::take(&mut walk.held);
        let cost = std::mem::take(&mut walk.cost);
        let end = walk.range_end.take();
        let at = now + pace(core, cost);
        walk.state = State::Pausing(at);
        released.iter().for_each(|object| self.retry_object(core, object));
        match end {
            Some(None) => return self.finish_walk(core),
            Some(Some(end)) => {
                if let Some(run) = &mut self.scrub.record.run {
                    run.position = Some(end);
                }
            }
            None => {}
        }
        core.monitor.changed.insert(self.id);
        if now.since(self.scrub.saved_at) >= core.config.scrub.save_every {
            self.save_scrub(core);
        }
        self.set_wake(core, at);
    }

    fn finish_walk<S: Store>(&mut self, core: &mut Core<S>) {
        let record = &mut self.scrub.record;
        let Some(run) = record.run.clone() else { return self.stop_walk(core) };
        tracing::info!(pg = %self.id, deep = run.deep, objects = run.objects, bytes = run.bytes,
            found = run.found, repaired = run.repaired, skipped = run.skipped, "scrub ended");
        record.finish();
        self.stop_walk(core);
        // The next group at once: most are small.
        core.set_timer(core.now, Timer::NextScrub);
        if run.skipped > 0 {
            self.scrub.not_before = core.now + core.config.scrub.retry;
        }
        let stamp = if run.deep && run.skipped == 0 { run.started } else { 0 };
        self.stamp_members(core, stamp, &run.members);
    }
}

/// How long to wait after a round of this cost.
fn pace<S: Store>(core: &Core<S>, cost: u64) -> Duration {
    let limits = &core.config.scrub;
    let is_recovering = core.pulls_open + core.pushes_open > 0;
    let rate = match core.is_busy() || is_recovering {
        true => (limits.bytes_per_second / limits.busy_divisor.max(1)).max(1),
        false => limits.bytes_per_second,
    };
    match limits.bytes_per_second {
        0 => Duration::ZERO,
        _ => Duration::from_micros(cost.saturating_mul(1_000_000) / rate),
    }
}

/// The planted fault: what the primary did not read is taken to be what somebody else has.
fn trust_primary(answers: &mut BTreeMap<DaemonId, Answer>, me: DaemonId) {
    let others = answers.iter().filter(|(id, _)| **id != me);
    let read: BTreeMap<(ObjectName, Version), u32> = others
        .flat_map(|(_, answer)| &answer.digests)
        .filter(|digest| digest.damaged.is_empty())
        .map(|digest| ((digest.object.clone(), digest.version), digest.data))
        .collect();
    for digest in answers.get_mut(&me).into_iter().flat_map(|answer| &mut answer.digests) {
        if let Some(data) = read.get(&(digest.object.clone(), digest.version)) {
            digest.data = *data;
        }
    }
}
