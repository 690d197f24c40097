//! Even placement with few moves: the exceptions to CRUSH (`upmap`) that the monitor keeps in the map.
//!
//! CRUSH spreads copies by chance: over a few dozen placement groups a daemon may get a quarter more than its share,
//! and one that is added draws more than it needs. So the monitor corrects it, in two ways that share one rule
//! ([`board`]):
//!
//! - **[`settle`]**, whenever CRUSH would place groups elsewhere (a daemon was added, emptied, forgotten, weighed
//!   again; a pool was made or changed): copies stay where they are unless who has them may not have them any more,
//!   or somebody has too many or too few. What CRUSH would move anyway goes first, since it needs no exception. The
//!   exceptions are in the same commit as the change, so nothing moves twice. `rebalance plan` runs the same function
//!   on a map with the change in it: what it tells is what will be done.
//! - **[`step`]**, the balancer: when all is whole and quiet, a few groups at a time, if a daemon is out of bounds.
//!
//! What is even is counted in copies, for every pool by itself: groups of one pool grow alike. Bytes choose among
//! groups that would do equally.
//!
//! Deliberately absent: rules that take more than one root are left to CRUSH, and by rules of several types copies
//! are moved only within the outer ones. Two slots of an erasure-coded group never change places.

pub(crate) mod board;
pub(crate) mod draft;
pub(crate) mod movement;
pub(crate) mod plan;
pub(crate) mod share;

use super::placement::Targets;
use super::placement::field::Field;
use super::placement::targets::{Items, PoolTargets, Slots};
use super::view::View;
use board::{Board, Bounds};
use share::COPY;
use std::collections::BTreeMap;
use store_base::hash::stable_mod;
use store_base::ids::{DaemonId, PgId, PoolId};
use store_base::map::{OsdMap, Pool};

/// The setting that says whether the monitor makes exceptions at all.
pub(crate) const SETTING: &str = "mon_balancer";

/// The setting for how many copies the balancer moves at a time.
pub(crate) const SETTING_MOVES: &str = "mon_balancer_moves_max";

/// A daemon that is more than 3 per cent off its share (and more than a copy and a quarter) is brought to within 1
/// per cent (or one copy).
pub(crate) const BOUNDS: Bounds = Bounds { trigger: 30, goal: 10 };

/// Exceptions of the whole cluster.
pub(crate) type Upmaps = BTreeMap<PgId, Items>;

/// Objects and bytes of one copy of a group, as its primary told last; also of an interval that is over.
pub(crate) fn size_of(view: &View, pg: PgId) -> Option<(u64, u64)> {
    let told = view.groups.get(&pg)?.primary.as_ref()?;
    Some((told.report.objects, told.report.bytes))
}

/// Follows the map, and tells the exceptions that it should have now if CRUSH may place groups elsewhere than before;
/// `None` if it does not.
///
/// `is_on`: whether exceptions are made; without, those that have lost their sense are dropped.
pub(crate) fn settle(
    targets: &mut Targets,
    map: &OsdMap,
    view: &View,
    is_on: bool,
) -> Option<Upmaps> {
    let before = targets.advance(map);
    if before.is_empty() {
        return None;
    }
    let mut upmaps = map.upmap_items.clone();
    upmaps.retain(|pg, _| map.pgs.contains_key(pg));
    let others = targets.pools.iter().filter(|(id, _)| !before.contains_key(id));
    let mut overall = overall(map, others);
    for (id, was) in &before {
        let (Some(now), Some(pool)) = (targets.pools.get(id), map.pools.get(id)) else { continue };
        let Some(field) = Field::of(map, pool.crush_rule).filter(|_| Field::fits(map, pool)) else {
            continue;
        };
        let one = One { map, view, id: *id, pool, now, field: &field };
        match is_on {
            true => one.settle(was.as_ref(), &mut overall, &mut upmaps),
            false => one.tidy(&mut upmaps),
        }
    }
    Some(upmaps)
}

/// The next exceptions, which move at most so many copies; `None` if everybody is within bounds, or nothing helps.
pub(crate) fn step(
    targets: &Targets,
    map: &OsdMap,
    view: &View,
    moves_max: usize,
) -> Option<Upmaps> {
    let mut upmaps = map.upmap_items.clone();
    let mut overall = BTreeMap::new();
    let mut moves = 0;
    for (id, now) in &targets.pools {
        let Some(pool) = map.pools.get(id) else { continue };
        let Some(field) = Field::of(map, pool.crush_rule).filter(|_| Field::fits(map, pool)) else {
            continue;
        };
        let one = One { map, view, id: *id, pool, now, field: &field };
        let mut board = one.board(&now.placed, &mut overall);
        let made = board.level(BOUNDS, moves_max - moves);
        if made > 0 {
            one.keep(&board, &mut upmaps);
        }
        moves += made;
    }
    (moves > 0 && upmaps != map.upmap_items).then_some(upmaps)
}

/// Whether all that should be somewhere is there, and everybody says so: then the balancer may act.
pub(crate) fn is_quiet(map: &OsdMap, view: &View, targets: &Targets) -> bool {
    map.pgs.iter().all(|(pg, record)| {
        let mut belongs = targets.placed(*pg);
        let is_whole = record.is_active()
            && record.learners.is_empty()
            && belongs.all(|id| record.members.contains(&id) && map.is_up(id));
        let report = view.current_report(map, *pg);
        is_whole && report.is_some_and(|told| told.state.starts_with("active") && told.missing == 0)
    })
}

/// By how much daemons have too much of these pools together.
fn overall<'a>(
    map: &OsdMap,
    pools: impl Iterator<Item = (&'a PoolId, &'a PoolTargets)>,
) -> BTreeMap<DaemonId, i64> {
    let mut overall: BTreeMap<DaemonId, i64> = BTreeMap::new();
    for (_, pool) in pools {
        let Some(field) = Field::of(map, pool.shape.rule) else { continue };
        let shares = share::shares(&field, pool.placed.len(), usize::from(pool.shape.size));
        for (one, share) in field.candidates.iter().zip(shares) {
            *overall.entry(one.id).or_default() -= share;
        }
        for id in pool.placed.iter().flatten().flatten() {
            *overall.entry(*id).or_default() += COPY;
        }
    }
    overall
}

/// One pool, about to be placed.
pub(crate) struct One<'a> {
    pub(crate) map: &'a OsdMap,
    pub(crate) view: &'a View,
    pub(crate) id: PoolId,
    pub(crate) pool: &'a Pool,
    pub(crate) now: &'a PoolTargets,
    pub(crate) field: &'a Field,
}

impl<'a> One<'a> {
    /// A board with the copies at these places.
    pub(crate) fn board(
        &self,
        start: &[Slots],
        overall: &'a mut BTreeMap<DaemonId, i64>,
    ) -> Board<'a> {
        let bytes = (0..self.pool.pg_num).map(|seed| {
            let bytes = size_of(self.view, PgId { pool: self.id, seed }).map_or(0, |size| size.1);
            // Sums over all copies of a pool stay far below the largest number.
            i64::try_from(bytes).unwrap_or(i64::MAX).min(1 << 44)
        });
        let has = (0..self.pool.pg_num).map(|seed| {
            let record = self.map.pgs.get(&PgId { pool: self.id, seed });
            let members = record.into_iter().flat_map(|record| &record.members);
            members.filter_map(|id| self.field.place(*id)).collect()
        });
        let size = usize::from(self.pool.size);
        let known = (bytes.collect(), has.collect());
        Board::new(self.field, &self.now.raw, start, size, known, overall)
    }

    fn settle(
        &self,
        was: Option<&PoolTargets>,
        overall: &'a mut BTreeMap<DaemonId, i64>,
        upmaps: &mut Upmaps,
    ) {
        let start: Vec<Slots> = (0..self.pool.pg_num).map(|seed| self.start(was, seed)).collect();
        let mut board = self.board(&start, overall);
        board.fill(BOUNDS);
        if self.field.is_simple() {
            board.stay(BOUNDS);
        }
        board.level(BOUNDS, usize::MAX);
        self.keep(&board, upmaps);
    }

    /// Where a group is now, unless the pool wants it to go where CRUSH says.
    fn start(&self, was: Option<&PoolTargets>, seed: u32) -> Slots {
        let at = seed as usize;
        let stays = |was: &&PoolTargets| {
            self.field.is_simple()
                && stable_mod(seed, was.shape.pgp_num) == stable_mod(seed, self.pool.pgp_num)
        };
        let was = was.filter(stays).and_then(|was| was.placed.get(at));
        was.or_else(|| self.now.placed.get(at)).cloned().unwrap_or_default()
    }

    /// Puts the board into the exceptions.
    fn keep(&self, board: &Board<'_>, upmaps: &mut Upmaps) {
        for (seed, raw) in (0..).zip(&self.now.raw) {
            let pg = PgId { pool: self.id, seed };
            let items = board::items(raw, &board.ids(seed as usize), self.now.shape.is_erasure);
            match items.is_empty() {
                true => upmaps.remove(&pg),
                false => upmaps.insert(pg, items),
            };
        }
    }

    /// Drops exceptions that do nothing any more, or put two copies into one domain.
    fn tidy(&self, upmaps: &mut Upmaps) {
        for (seed, raw) in (0..).zip(&self.now.raw) {
            let pg = PgId { pool: self.id, seed };
            let Some(items) = upmaps.get_mut(&pg) else { continue };
            let mut slots = raw.clone();
            items.retain(|(from, to)| self.replace(&mut slots, *from, *to));
            if items.is_empty() {
                upmaps.remove(&pg);
            }
        }
    }

    fn replace(&self, slots: &mut Slots, from: DaemonId, to: DaemonId) -> bool {
        let place = |id: DaemonId| self.field.place(id);
        let domain = |id: DaemonId| place(id).map(|place| self.field.candidates[place].domain);
        let Some(slot) = slots.iter().position(|id| *id == Some(from)) else { return false };
        let mut others = slots.iter().enumerate().filter(|(at, _)| *at != slot);
        let is_apart = domain(to).is_some()
            && others.all(|(_, id)| id.is_none_or(|id| id != to && domain(id) != domain(to)));
        if is_apart {
            slots[slot] = Some(to);
        }
        is_apart
    }
}

/// How even a pool is placed.
#[derive(Clone, Debug, serde::Serialize)]
pub(crate) struct Spread {
    pub(crate) pool: String,
    /// Whether every daemon is within bounds.
    pub(crate) is_level: bool,
    /// Copies of the daemon that has most in excess of its share, and its share.
    pub(crate) most: (i64, f64),
    /// Of the one that lacks most.
    pub(crate) least: (i64, f64),
}

/// Every pool that has daemons.
pub(crate) fn spread(targets: &Targets, map: &OsdMap) -> Vec<Spread> {
    let view = View::default();
    let one = |(id, now): (&PoolId, &PoolTargets)| {
        let pool = map.pools.get(id)?;
        let field = Field::of(map, pool.crush_rule).filter(|_| Field::fits(map, pool))?;
        let mut overall = BTreeMap::new();
        let one = One { map, view: &view, id: *id, pool, now, field: &field };
        let board = one.board(&now.placed, &mut overall);
        let places = 0..field.candidates.len();
        let of = |place: usize| (board.load(place), board.share(place) as f64 / COPY as f64);
        Some(Spread {
            pool: pool.name.clone(),
            is_level: board.is_level(BOUNDS),
            most: places.clone().max_by_key(|place| board.excess(*place)).map(of)?,
            least: places.min_by_key(|place| board.excess(*place)).map(of)?,
        })
    };
    targets.pools.iter().filter_map(one).collect()
}
