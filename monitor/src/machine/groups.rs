//! The records of placement groups: forming, re-forming, learners, activation, promotion (DESIGN 5, the
//! monitor's side of R1, R2, R3, R6, R12, R13, R14).
//!
//! Invariants, after every change:
//! - members ⊆ holders; members are never empty once the group was formed; the primary is a member.
//! - Learners are neither members nor holders nor writers.
//! - All changes of a group that go into one commit raise its interval by one together: nobody ever sees the
//!   steps between. Activation alone keeps the interval.
//! - New members come from the holders or are the learner that the primary asked to promote.

pub(crate) mod lead;
mod slots;
pub(crate) mod split;
mod stranger;

use super::Fault;
use super::placement::Targets;
use super::view::View;
use lead::Leads;
use std::collections::BTreeSet;
use store_base::ids::{DaemonId, Epoch, Incarnation, Interval, PgId, PoolId};
use store_base::map::{OsdMap, PgRecord, Pool};
use store_base::wire::{PgAsk, pg_ask::Kind};

/// Changes of the primary for balance alone, per review.
pub const PRIMARY_MOVES_PER_REVIEW_MAX: usize = 16;

/// What decisions about groups are made from.
pub(crate) struct Groups<'a> {
    /// The committed map: intervals are raised from here.
    pub(crate) committed: &'a OsdMap,
    pub(crate) view: &'a View,
    pub(crate) targets: &'a Targets,
}

impl Groups<'_> {
    /// What must change to bring every record in line with who is up and who should have it.
    ///
    /// `may_move`: whether primaries may move for balance alone.
    pub(crate) fn review(&self, map: &OsdMap, may_move: bool) -> Vec<(PgId, PgRecord)> {
        let mut leads = Leads::of(map);
        let mut moves = if may_move { PRIMARY_MOVES_PER_REVIEW_MAX } else { 0 };
        let mut changes = Vec::new();
        for (pg, record) in &map.pgs {
            let Some(pool) = map.pools.get(&pg.pool) else { continue };
            let one = One { groups: self, map, pool, pg: *pg, record };
            if let Some(next) = one.next(&leads, &mut moves) {
                leads.change(map, *pg, record, &next);
                changes.push((*pg, next));
            }
        }
        changes
    }

    /// Puts changed records in.
    pub(crate) fn put_all(&self, map: &mut OsdMap, changes: Vec<(PgId, PgRecord)>) {
        for (pg, next) in changes {
            self.put(map, pg, next);
        }
    }

    /// Puts a changed record in, under the interval and epoch that its commit gives it.
    ///
    /// Who may write without another activation commits what nobody else has: members that are all holders, and
    /// enough, be it that a holder came back or that fewer have become enough.
    fn put(&self, map: &mut OsdMap, pg: PgId, mut record: PgRecord) {
        record.interval = split::raised(self.committed, pg, &record);
        record.since = self.committed.epoch.next();
        if let (Some(pool), Some(before)) = (map.pools.get(&pg.pool), map.pgs.get(&pg)) {
            slots::assign(pool, self.targets.of(pg), before, &mut record);
            // An active group with slots decides what it began with, however few they are.
            let is_enough = record.width() >= usize::from(pool.min_size) || pool.erasure.is_some();
            if record.is_active() && is_enough {
                record.writers = record.members.iter().copied().collect();
            }
            if self.view.fault == Fault::None {
                check(pg, pool, &record);
            }
        }
        map.pgs.insert(pg, record);
    }

    /// A primary's wish, if it still fits the record. What does not fit is ignored: the primary sees the newer
    /// interval in the map.
    pub(crate) fn ask(&self, map: &mut OsdMap, from: DaemonId, ask: &PgAsk) -> bool {
        let Ok(pool_id) = i64::try_from(ask.pool) else { return false };
        let pg = PgId { pool: PoolId(pool_id), seed: ask.seed };
        let (Some(record), Some(pool)) = (map.pgs.get(&pg), map.pools.get(&pg.pool)) else {
            return false;
        };
        if ask.kind() == Kind::Lost {
            return self.lose(map, from, pg, Interval(ask.interval));
        }
        let leads = record.primary == from && !record.members.is_empty();
        let may = leads || ask.kind() == Kind::Disown;
        if record.interval != Interval(ask.interval) || !may {
            return false;
        }
        let own = map.is_up_as(from, record.primary_incarnation);
        let one = One { groups: self, map, pool, pg, record };
        match ask.kind() {
            // Of members that were forgotten too few may be left: others are taken in first.
            Kind::Activate
                if own && !record.is_active() && record.suffice(pool, &record.members) =>
            {
                let next = one.activated();
                map.pgs.insert(pg, next); // the one change that keeps the interval
                true
            }
            Kind::Promote if own => match one.promoted(DaemonId(ask.learner)) {
                Some(next) => {
                    self.put(map, pg, next);
                    true
                }
                None => false,
            },
            Kind::Reform => match one.reformed(&Leads::of(map)) {
                Some(next) => {
                    self.put(map, pg, next);
                    true
                }
                None => false,
            },
            Kind::Disown => match one.disowned(from, &Leads::of(map)) {
                Some(next) => {
                    self.put(map, pg, next);
                    true
                }
                None => false,
            },
            Kind::Activate | Kind::Promote | Kind::Lost | Kind::None => false,
        }
    }

    /// A daemon says that what it has of a group is no copy any more. Fewer holders are always safe, as long as
    /// there is one: the last one stays named, and the group waits for somebody to decide.
    fn lose(&self, map: &mut OsdMap, from: DaemonId, pg: PgId, interval: Interval) -> bool {
        let (Some(record), Some(pool)) = (map.pgs.get(&pg), map.pools.get(&pg.pool)) else {
            return false;
        };
        if record.interval != interval {
            return false;
        }
        let is_last = !record.suffice(pool, record.holders.iter().filter(|id| **id != from));
        if is_last || !names(record, from) {
            return false;
        }
        tracing::warn!(%pg, daemon = %from, "has lost its copy, and is no holder any more");
        let next = without(record.clone(), map, from);
        self.put(map, pg, next);
        true
    }

    /// Raises the interval of every group of a pool: something that members agree on changed.
    pub(crate) fn raise_pool(&self, map: &mut OsdMap, pool: PoolId) {
        let formed: Vec<_> = map
            .pgs
            .iter()
            .filter(|(pg, record)| pg.pool == pool && !record.members.is_empty())
            .map(|(pg, record)| (*pg, record.clone()))
            .collect();
        for (pg, record) in formed {
            self.put(map, pg, record);
        }
    }

    /// Takes a daemon that is gone for good out of every record: its id may be given again, and the new one has
    /// nothing. Fewer holders are always safe, as long as there is one; the caller has checked that.
    pub(crate) fn forget(&self, map: &mut OsdMap, id: DaemonId) {
        let found: Vec<_> = map
            .pgs
            .iter()
            .filter(|(_, record)| names(record, id))
            .map(|(pg, record)| (*pg, record.clone()))
            .collect();
        for (pg, record) in found {
            let mut record = without(record, map, id);
            if record.members.is_empty() {
                record.primary = DaemonId(-1); // it was never formed, or the caller's check failed
                map.pgs.insert(pg, record);
            } else {
                self.put(map, pg, record);
            }
        }
    }

    /// R14: goes on from `from`, whatever the holders have. The caller has checked that this is wanted.
    pub(crate) fn force(
        &self,
        map: &mut OsdMap,
        pg: PgId,
        from: &BTreeSet<DaemonId>,
    ) -> Result<(), String> {
        let record = map.pgs.get(&pg).ok_or_else(|| format!("there is no placement group {pg}"))?;
        let up: Vec<DaemonId> = from.iter().copied().filter(|id| map.is_up(*id)).collect();
        let primary = *up.first().ok_or("none of these daemons is up: start one first")?;
        if let Some(pool) = map.pools.get(&pg.pool).filter(|pool| !record.suffice(pool, &up)) {
            let need = pool.erasure.as_ref().map_or(1, |erasure| erasure.data);
            let have = record.slots_of(&up).len();
            return Err(format!("those that are up have {have} slots; {need} are needed"));
        }
        let next = PgRecord {
            primary,
            primary_incarnation: incarnation(map, primary),
            members: up,
            learners: BTreeSet::new(),
            holders: from.clone(),
            writers: from.clone(),
            confirmed: Interval(0),
            ..record.clone()
        };
        self.put(map, pg, next);
        Ok(())
    }
}

/// Whether a record has a daemon in any role.
fn names(record: &PgRecord, id: DaemonId) -> bool {
    record.members.contains(&id)
        || [&record.learners, &record.holders, &record.writers].iter().any(|set| set.contains(&id))
}

/// A record without a daemon that has no copy.
fn without(mut record: PgRecord, map: &OsdMap, id: DaemonId) -> PgRecord {
    record.members.retain(|member| *member != id);
    for set in [&mut record.learners, &mut record.holders, &mut record.writers] {
        set.remove(&id);
    }
    if record.members.is_empty() {
        // All wait for a holder; one that is down stands in until one comes.
        record.members.extend(record.holders.first());
    }
    if let Some(first) = record.members.first().filter(|_| record.primary == id) {
        record.primary = *first;
        record.primary_incarnation = incarnation(map, *first);
    }
    record
}

fn incarnation(map: &OsdMap, daemon: DaemonId) -> Incarnation {
    map.daemons.get(&daemon).map_or(Incarnation(0), |info| info.incarnation)
}

/// A broken record must never be committed: better no monitor than that.
fn check(pg: PgId, pool: &Pool, record: &PgRecord) {
    let members = &record.members;
    assert!(members.contains(&record.primary), "{pg}: the primary is a member: {record:?}");
    assert!(
        members.iter().all(|member| record.holders.contains(member)),
        "{pg}: members are holders: {record:?}"
    );
    assert!(
        record.learners.iter().all(|learner| {
            !members.contains(learner)
                && !record.holders.contains(learner)
                && !record.writers.contains(learner)
        }),
        "{pg}: learners are nothing else: {record:?}"
    );
    assert!(
        pool.erasure.is_none()
            || record.holders.iter().chain(&record.learners).all(|id| record.slot(*id).is_some()),
        "{pg}: everybody has a slot: {record:?}"
    );
}

/// One group, about to be decided on.
struct One<'a> {
    groups: &'a Groups<'a>,
    map: &'a OsdMap,
    pool: &'a Pool,
    pg: PgId,
    record: &'a PgRecord,
}

impl One<'_> {
    fn is_up(&self, daemon: DaemonId) -> bool {
        self.map.is_up(daemon)
    }

    fn target(&self) -> &[DaemonId] {
        self.groups.targets.of(self.pg)
    }

    fn next(&self, leads: &Leads, moves: &mut usize) -> Option<PgRecord> {
        let record = self.record;
        if record.members.is_empty() {
            return self.formed(leads);
        }
        let all_up = record.members.iter().all(|member| self.is_up(*member));
        let led = self.map.is_up_as(record.primary, record.primary_incarnation);
        // Not one that left because there are enough: it would come and go for ever.
        let is_short = record.width() < usize::from(self.pool.size);
        let is_wanted = |holder: &DaemonId| is_short || self.target().contains(holder);
        let returned = record.holders.iter().any(|holder| {
            self.is_up(*holder) && !record.members.contains(holder) && is_wanted(holder)
        });
        match (all_up && led, record.is_active()) {
            (false, _) => self.reformed(leads),
            // A holder that returns while nothing is served is taken in: nobody has moved on without it.
            (true, false) if returned => self.reformed(leads),
            (true, false) => None, // let it activate first
            (true, true) => self
                .spread(leads)
                .or_else(|| self.relearned())
                .or_else(|| self.without_surplus(leads))
                .or_else(|| self.led_fairly(leads, moves)),
        }
    }

    /// The first members, as soon as there is anybody.
    fn formed(&self, leads: &Leads) -> Option<PgRecord> {
        let members = self.target().to_vec();
        let least = self.pool.erasure.as_ref().map_or(1, |erasure| usize::from(erasure.data));
        if members.len() < least {
            return None;
        }
        let primary = self.fair(leads, *members.first()?, &members);
        let members = self.ordered(primary, &members);
        let all: BTreeSet<DaemonId> = members.iter().copied().collect();
        Some(PgRecord {
            primary,
            primary_incarnation: incarnation(self.map, primary),
            members,
            holders: all.clone(),
            writers: all,
            ..self.record.clone()
        })
    }

    /// R2: all holders that are up. `None` if there is none: the group waits (R14).
    fn reformed(&self, leads: &Leads) -> Option<PgRecord> {
        let record = self.record;
        let mut all = record.holders.clone();
        match self.groups.view.fault {
            Fault::WaitForAllHolders if !all.iter().all(|holder| self.is_up(*holder)) => {
                return None;
            }
            Fault::ReformWithAnybody => all.extend(self.target()),
            _ => {}
        }
        let holders: Vec<DaemonId> =
            all.iter().copied().filter(|holder| self.is_up(*holder)).collect();
        if self.pool.erasure.is_some() && !record.suffice(self.pool, &holders) {
            return None;
        }
        let primary = self.choose_primary(&holders, leads)?;
        let learners =
            record.learners.iter().copied().filter(|learner| self.is_wanted_learner(*learner));
        Some(PgRecord {
            primary,
            primary_incarnation: incarnation(self.map, primary),
            members: self.ordered(primary, &holders),
            learners: learners.filter(|learner| !holders.contains(learner)).collect(),
            holders: all,
            ..record.clone()
        })
    }

    fn is_wanted_learner(&self, learner: DaemonId) -> bool {
        self.is_up(learner) && self.target().contains(&learner)
    }

    /// Primary first, then the target's order, then the others by id.
    fn ordered(&self, primary: DaemonId, members: &[DaemonId]) -> Vec<DaemonId> {
        let mut rest: Vec<DaemonId> =
            members.iter().copied().filter(|member| *member != primary).collect();
        let place = |id: &DaemonId| self.target().iter().position(|target| target == id);
        rest.sort_by_key(|id| (place(id).unwrap_or(usize::MAX), *id));
        std::iter::once(primary).chain(rest).collect()
    }

    /// The freshest log where nothing was being served; else who leads now, else who leads least of its share.
    /// Only progress hangs on this, not safety.
    fn choose_primary(&self, holders: &[DaemonId], leads: &Leads) -> Option<DaemonId> {
        let record = self.record;
        let mut best = holders.to_vec();
        if !record.is_active() {
            let end = |id: &DaemonId| self.groups.view.log_end(self.map, self.pg, *id);
            let freshest = best.iter().filter_map(end).max();
            if let Some(freshest) = freshest {
                best.retain(|id| end(id) == Some(freshest));
            }
        }
        if best.contains(&record.primary) {
            return Some(record.primary);
        }
        best.into_iter().min_by_key(|id| (leads.excess(self.pg, *id), *id))
    }

    /// R12: those that the target wants join as learners; learners that are gone or not wanted leave.
    fn relearned(&self) -> Option<PgRecord> {
        let record = self.record;
        // Moving data for balance alone may be switched off; making up lost copies may not.
        let may_join = !self.map.flags.norebalance || record.width() < usize::from(self.pool.size);
        let wanted =
            self.target().iter().copied().filter(|id| {
                may_join && !record.members.contains(id) && !record.learners.contains(id)
            });
        let wanted: BTreeSet<DaemonId> = wanted.collect();
        let stay: BTreeSet<DaemonId> =
            record.learners.iter().copied().filter(|id| self.is_wanted_learner(*id)).collect();
        if wanted.is_empty() && stay.len() == record.learners.len() {
            return None;
        }
        let leave = match self.groups.view.fault {
            Fault::NoLearners => return None,
            Fault::LearnerStaysHolder => BTreeSet::new(),
            _ => wanted.clone(),
        };
        Some(PgRecord {
            holders: record.holders.difference(&leave).copied().collect(),
            writers: record.writers.difference(&leave).copied().collect(),
            learners: &stay | &wanted,
            ..record.clone()
        })
    }

    /// Once all of the target are members, the others leave, but never below the pool's size: a target may be
    /// short because one of it is down.
    fn without_surplus(&self, leads: &Leads) -> Option<PgRecord> {
        let record = self.record;
        let keep = self.keep(&record.members)?;
        let primary = match keep.contains(&record.primary) {
            true => record.primary,
            false => self.choose_primary(&keep, leads)?,
        };
        Some(PgRecord {
            primary,
            primary_incarnation: incarnation(self.map, primary),
            members: self.ordered(primary, &keep),
            ..record.clone()
        })
    }

    /// The members without those that are too many; `None` if nobody is.
    fn keep(&self, members: &[DaemonId]) -> Option<Vec<DaemonId>> {
        let target = self.target();
        if target.is_empty() || !target.iter().all(|id| members.contains(id)) {
            return None;
        }
        let others: Vec<DaemonId> = match self.pool.erasure {
            Some(_) => self.spare(members),
            None => {
                let spare = usize::from(self.pool.size).saturating_sub(target.len());
                let others = members.iter().copied().filter(|id| !target.contains(id));
                others.take(spare).collect()
            }
        };
        let keep: Vec<DaemonId> = target.iter().copied().chain(others).collect();
        (keep.len() < members.len()).then_some(keep)
    }

    fn writes(&self, members: &[DaemonId]) -> bool {
        self.count(members) >= usize::from(self.pool.min_size)
    }

    /// R3.
    fn activated(&self) -> PgRecord {
        let members: BTreeSet<DaemonId> = self.record.members.iter().copied().collect();
        // An active group with slots decides what it began with, however few they are: that is a write.
        let writers = if self.writes(&self.record.members) || self.pool.erasure.is_some() {
            members.clone()
        } else {
            self.record.writers.clone()
        };
        // A holder that was dropped is nothing any more, so nothing else refers to it here.
        let confirmed = self.record.interval;
        PgRecord { holders: members, writers, confirmed, ..self.record.clone() }
    }

    /// R13. In the same breath those that are too many leave: one interruption instead of two.
    fn promoted(&self, learner: DaemonId) -> Option<PgRecord> {
        let record = self.record;
        if !record.learners.contains(&learner) || !self.is_up(learner) {
            return None; // if it is down, the review takes it out
        }
        let mut members = record.members.clone();
        members.push(learner);
        let mut next = record.clone();
        if record.is_active() {
            next.confirmed = record.interval; // by all who are in it, the learner too
        }
        next.learners.remove(&learner);
        next.holders.insert(learner);
        next.writers.insert(learner);
        if record.is_active() && self.writes(&members) {
            next.writers = members.iter().copied().collect();
        }
        if next.learners.is_empty() && next.holders.len() == members.len() {
            members = self.keep(&members).unwrap_or(members);
            let first = self.target().first().filter(|first| members.contains(first));
            if let Some(first) = first.filter(|_| !members.contains(&record.primary)) {
                next.primary = *first;
            }
        }
        next.primary_incarnation = incarnation(self.map, next.primary);
        next.members = self.ordered(next.primary, &members);
        Some(next)
    }
}

/// The record of a group that nobody has yet.
pub(crate) fn unformed() -> PgRecord {
    PgRecord { since: Epoch(0), primary: DaemonId(-1), ..PgRecord::default() }
}
