//! The records of placement groups: forming, re-forming, learners, activation, promotion (DESIGN 5, the
//! monitor's side of R1, R2, R3, R6, R12, R13, R14).
//!
//! Invariants, after every change:
//! - members ⊆ holders; members are never empty once the group was formed; the primary is a member.
//! - Learners are neither members nor holders nor writers.
//! - All changes of a group that go into one commit raise its interval by one together: nobody ever sees the
//!   steps between. Activation alone keeps the interval.
//! - New members come from the holders or are the learner that the primary asked to promote.

use super::placement::Targets;
use super::view::View;
use std::collections::{BTreeMap, BTreeSet};
use store_base::ids::{DaemonId, Epoch, Incarnation, Interval, PgId, PoolId};
use store_base::map::{OsdMap, PgRecord, Pool};
use store_base::wire::{PgAsk, pg_ask::Kind};

/// Changes of the primary for balance alone, per review.
pub const PRIMARY_MOVES_PER_REVIEW_MAX: usize = 16;

/// How many groups each daemon leads.
type Load = BTreeMap<DaemonId, usize>;

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
        let mut load = load(map);
        let mut moves = if may_move { PRIMARY_MOVES_PER_REVIEW_MAX } else { 0 };
        let mut changes = Vec::new();
        for (pg, record) in &map.pgs {
            let Some(pool) = map.pools.get(&pg.pool) else { continue };
            let one = One { groups: self, map, pool, pg: *pg, record };
            if let Some(next) = one.next(&load, &mut moves) {
                if let Some(leads) = load.get_mut(&record.primary) {
                    *leads -= usize::from(!record.members.is_empty());
                }
                *load.entry(next.primary).or_default() += 1;
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
    fn put(&self, map: &mut OsdMap, pg: PgId, mut record: PgRecord) {
        let before = self.committed.pgs.get(&pg).map_or(Interval(0), |record| record.interval);
        record.interval = before.next();
        record.since = self.committed.epoch.next();
        check(pg, &record);
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
        let leads = record.primary == from && !record.members.is_empty();
        if record.interval != Interval(ask.interval) || !leads {
            return false;
        }
        let own = map.is_up_as(from, record.primary_incarnation);
        let one = One { groups: self, map, pool, pg, record };
        match ask.kind() {
            Kind::Activate if own && !record.is_active() => {
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
            Kind::Reform => {
                let load = load(map);
                match one.reformed(&load) {
                    Some(next) => {
                        self.put(map, pg, next);
                        true
                    }
                    None => false,
                }
            }
            Kind::Activate | Kind::Promote | Kind::None => false,
        }
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
        let named = |record: &PgRecord| {
            record.members.contains(&id)
                || [&record.learners, &record.holders, &record.writers]
                    .iter()
                    .any(|set| set.contains(&id))
        };
        let found: Vec<_> = map
            .pgs
            .iter()
            .filter(|(_, record)| named(record))
            .map(|(pg, record)| (*pg, record.clone()))
            .collect();
        for (pg, mut record) in found {
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
        let next = PgRecord {
            primary,
            primary_incarnation: incarnation(map, primary),
            members: up,
            learners: BTreeSet::new(),
            holders: from.clone(),
            writers: from.clone(),
            ..record.clone()
        };
        self.put(map, pg, next);
        Ok(())
    }
}

fn load(map: &OsdMap) -> Load {
    let mut load = Load::new();
    for record in map.pgs.values().filter(|record| !record.members.is_empty()) {
        *load.entry(record.primary).or_default() += 1;
    }
    load
}

fn incarnation(map: &OsdMap, daemon: DaemonId) -> Incarnation {
    map.daemons.get(&daemon).map_or(Incarnation(0), |info| info.incarnation)
}

/// A broken record must never be committed: better no monitor than that.
fn check(pg: PgId, record: &PgRecord) {
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

    fn next(&self, load: &Load, moves: &mut usize) -> Option<PgRecord> {
        let record = self.record;
        if record.members.is_empty() {
            return self.formed();
        }
        let all_up = record.members.iter().all(|member| self.is_up(*member));
        let led = self.map.is_up_as(record.primary, record.primary_incarnation);
        let returned = record
            .holders
            .iter()
            .any(|holder| self.is_up(*holder) && !record.members.contains(holder));
        match (all_up && led, record.is_active()) {
            (false, _) => self.reformed(load),
            // A holder that returns while nothing is served is taken in: nobody has moved on without it.
            (true, false) if returned => self.reformed(load),
            (true, false) => None, // let it activate first
            (true, true) => self
                .relearned()
                .or_else(|| self.without_surplus())
                .or_else(|| self.led_by_first(moves)),
        }
    }

    /// The first members, as soon as there is anybody.
    fn formed(&self) -> Option<PgRecord> {
        let members = self.target().to_vec();
        let primary = *members.first()?;
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
    fn reformed(&self, load: &Load) -> Option<PgRecord> {
        let record = self.record;
        let holders: Vec<DaemonId> =
            record.holders.iter().copied().filter(|holder| self.is_up(*holder)).collect();
        let primary = self.choose_primary(&holders, load)?;
        let learners =
            record.learners.iter().copied().filter(|learner| self.is_wanted_learner(*learner));
        Some(PgRecord {
            primary,
            primary_incarnation: incarnation(self.map, primary),
            members: self.ordered(primary, &holders),
            learners: learners.collect(),
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

    /// The freshest log where nothing was being served; else who leads now, else the target's first, else who
    /// leads least. Only progress hangs on this, not safety.
    fn choose_primary(&self, holders: &[DaemonId], load: &Load) -> Option<DaemonId> {
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
        let first = self.target().iter().find(|id| best.contains(id)).copied();
        first.or_else(|| {
            best.into_iter().min_by_key(|id| (load.get(id).copied().unwrap_or_default(), *id))
        })
    }

    /// R12: those that the target wants join as learners; learners that are gone or not wanted leave.
    fn relearned(&self) -> Option<PgRecord> {
        let record = self.record;
        // Moving data for balance alone may be switched off; making up lost copies may not.
        let may_join =
            !self.map.flags.norebalance || record.members.len() < usize::from(self.pool.size);
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
        Some(PgRecord {
            holders: record.holders.difference(&wanted).copied().collect(),
            writers: record.writers.difference(&wanted).copied().collect(),
            learners: &stay | &wanted,
            ..record.clone()
        })
    }

    /// Once all of the target are members, the others leave, but never below the pool's size: a target may be
    /// short because one of it is down.
    fn without_surplus(&self) -> Option<PgRecord> {
        let record = self.record;
        let keep = self.keep(&record.members)?;
        let load = Load::new();
        let primary = match keep.contains(&record.primary) {
            true => record.primary,
            false => self.choose_primary(&keep, &load)?,
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
        let size = usize::from(self.pool.size);
        let spare = size.saturating_sub(target.len());
        let others = members.iter().copied().filter(|id| !target.contains(id)).take(spare);
        let keep: Vec<DaemonId> = target.iter().copied().chain(others).collect();
        (keep.len() < members.len()).then_some(keep)
    }

    /// Hands the lead to the target's first when all is whole and quiet.
    fn led_by_first(&self, moves: &mut usize) -> Option<PgRecord> {
        let record = self.record;
        let first = *self.target().first()?;
        let whole = record.learners.is_empty()
            && record.members.contains(&first)
            && record.members.len() >= usize::from(self.pool.size);
        if *moves == 0 || first == record.primary || !whole {
            return None;
        }
        let report = self.groups.view.current_report(self.map, self.pg)?;
        if !report.state.starts_with("active") || report.missing > 0 {
            return None;
        }
        *moves -= 1;
        Some(PgRecord {
            primary: first,
            primary_incarnation: incarnation(self.map, first),
            members: self.ordered(first, &record.members),
            ..record.clone()
        })
    }

    fn writes(&self, members: &[DaemonId]) -> bool {
        members.len() >= usize::from(self.pool.min_size)
    }

    /// R3.
    fn activated(&self) -> PgRecord {
        let members: BTreeSet<DaemonId> = self.record.members.iter().copied().collect();
        let writers = if self.writes(&self.record.members) {
            members.clone()
        } else {
            self.record.writers.clone()
        };
        // A holder that was dropped is nothing any more, so nothing else refers to it here.
        PgRecord { holders: members, writers, ..self.record.clone() }
    }

    /// R13. In the same breath those that are too many leave, and when all is whole the target's first leads:
    /// one interruption instead of three.
    fn promoted(&self, learner: DaemonId) -> Option<PgRecord> {
        let record = self.record;
        if !record.learners.contains(&learner) || !self.is_up(learner) {
            return None; // if it is down, the review takes it out
        }
        let mut members = record.members.clone();
        members.push(learner);
        let mut next = record.clone();
        next.learners.remove(&learner);
        next.holders.insert(learner);
        next.writers.insert(learner);
        if record.is_active() && self.writes(&members) {
            next.writers = members.iter().copied().collect();
        }
        if next.learners.is_empty() && next.holders.len() == members.len() {
            members = self.keep(&members).unwrap_or(members);
            let first = self.target().first().filter(|first| members.contains(first));
            let whole = members.len() >= usize::from(self.pool.size);
            if let Some(first) = first.filter(|_| whole || !members.contains(&record.primary)) {
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
