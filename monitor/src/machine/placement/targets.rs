//! Who should have each placement group: CRUSH, then the exceptions in the map, then who is up.
//!
//! Running a rule is what costs time, so what it says is kept for as long as weights and rules stay; a daemon that
//! goes down or comes up costs no more than looking.
//!
//! Where CRUSH leaves a place empty though a daemon for it is there (its tries are bounded, and a daemon that is in by
//! a part turns some groups away), the place is drawn: a target is as large as the pool's size whenever there are
//! daemons enough. Ceph clients, who know nothing of that, are told by pg_temp.

use super::field::Field;
use std::collections::BTreeMap;
use store_base::crush::CrushMap;
use store_base::crush::placement::{
    DaemonState, PlacementInput, apply_upmap, placement_seed, raw_set, up_set_from,
};
use store_base::hash::hash2;
use store_base::ids::{DaemonId, PgId, PoolId};
use store_base::map::{OsdMap, Pool, PoolKind};

/// Daemons by place; only in an erasure-coded pool a place has a meaning.
pub(crate) type Slots = Vec<Option<DaemonId>>;

/// Exceptions of one placement group: from → to.
pub(crate) type Items = Vec<(DaemonId, DaemonId)>;

/// What a pool's targets depend on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Shape {
    pub(crate) size: u8,
    pub(crate) pg_num: u32,
    pub(crate) pgp_num: u32,
    pub(crate) rule: u32,
    pub(crate) is_erasure: bool,
}

impl Shape {
    fn of(pool: &Pool) -> Shape {
        Shape {
            size: pool.size,
            pg_num: pool.pg_num,
            pgp_num: pool.pgp_num,
            rule: pool.crush_rule,
            is_erasure: pool.kind == PoolKind::Erasure,
        }
    }
}

/// The groups of one pool, by seed.
#[derive(Clone, Debug)]
pub(crate) struct PoolTargets {
    pub(crate) shape: Shape,
    /// What CRUSH says, with empty places filled.
    pub(crate) raw: Vec<Slots>,
    /// The same with the exceptions: where groups belong if everybody is up.
    pub(crate) placed: Vec<Slots>,
    /// Of these, who is up; the one that should lead first.
    sets: Vec<Vec<DaemonId>>,
}

/// The target of every placement group, computed again only as far as something that it depends on changed.
#[derive(Clone, Debug, Default)]
pub struct Targets {
    crush: CrushMap,
    weights: BTreeMap<DaemonId, u32>,
    states: BTreeMap<DaemonId, (bool, u32)>,
    upmaps: BTreeMap<PgId, Items>,
    pub(crate) pools: BTreeMap<PoolId, PoolTargets>,
    /// Raised whenever `placed` may have changed.
    pub(crate) generation: u64,
}

impl Targets {
    /// Follows the map.
    pub(crate) fn refresh(&mut self, map: &OsdMap) {
        let moved = self.moved(map);
        self.follow(map, &moved);
    }

    /// Follows the map; the pools whose groups CRUSH may place elsewhere than before, with what they were before.
    pub(crate) fn advance(&mut self, map: &OsdMap) -> BTreeMap<PoolId, Option<PoolTargets>> {
        let moved = self.moved(map);
        let before = moved.iter().map(|id| (*id, self.pools.remove(id))).collect();
        self.follow(map, &moved);
        before
    }

    /// The daemons that should have a group and are up, the one that should lead first.
    pub(crate) fn of(&self, pg: PgId) -> &[DaemonId] {
        let pool = self.pools.get(&pg.pool);
        pool.and_then(|pool| pool.sets.get(pg.seed as usize)).map_or(&[], Vec::as_slice)
    }

    /// The daemons that should have a group, up or not.
    pub(crate) fn placed(&self, pg: PgId) -> impl Iterator<Item = DaemonId> + '_ {
        let pool = self.pools.get(&pg.pool);
        let slots = pool.and_then(|pool| pool.placed.get(pg.seed as usize));
        slots.into_iter().flatten().flatten().copied()
    }

    /// The pools that CRUSH has to be asked about again.
    fn moved(&self, map: &OsdMap) -> Vec<PoolId> {
        let same_weights = self.weights.len() == map.daemons.len()
            && map.daemons.iter().all(|(id, info)| self.weights.get(id) == Some(&info.weight));
        let same = same_weights && self.crush == map.crush;
        let differs = |id: &PoolId, pool: &Pool| {
            !same || self.pools.get(id).is_none_or(|known| known.shape != Shape::of(pool))
        };
        map.pools.iter().filter(|(id, pool)| differs(id, pool)).map(|(id, _)| *id).collect()
    }

    fn follow(&mut self, map: &OsdMap, moved: &[PoolId]) {
        let states: BTreeMap<_, _> =
            map.daemons.iter().map(|(id, info)| (*id, (info.up, info.primary_affinity))).collect();
        let same_states = self.states == states;
        let excepted = self.excepted(map);
        self.pools.retain(|id, _| map.pools.contains_key(id));
        if !moved.is_empty() || !excepted.is_empty() {
            self.generation += 1;
        }
        for (id, pool) in &map.pools {
            let placer = Placer { map, id: *id, pool };
            match self.pools.get_mut(id) {
                Some(known) if !moved.contains(id) => {
                    let of_pool = excepted.iter().filter(|pg| pg.pool == *id);
                    of_pool.for_each(|pg| placer.except(known, pg.seed));
                    if !same_states {
                        known.sets = placer.sets(&known.raw);
                    }
                }
                _ => drop(self.pools.insert(*id, placer.all())),
            }
        }
        if !moved.is_empty() {
            self.weights = map.daemons.iter().map(|(id, info)| (*id, info.weight)).collect();
            self.crush.clone_from(&map.crush);
        }
        if !same_states {
            self.states = states;
        }
        if !excepted.is_empty() {
            self.upmaps.clone_from(&map.upmap_items);
        }
    }

    /// The groups whose exceptions differ.
    fn excepted(&self, map: &OsdMap) -> Vec<PgId> {
        if self.upmaps == map.upmap_items {
            return Vec::new();
        }
        let (old, new) = (&self.upmaps, &map.upmap_items);
        let gone = old.keys().filter(|pg| !new.contains_key(pg));
        let other = new.iter().filter(|(pg, items)| old.get(pg) != Some(items)).map(|(pg, _)| pg);
        gone.chain(other).copied().collect()
    }
}

/// Places the groups of one pool.
struct Placer<'a> {
    map: &'a OsdMap,
    id: PoolId,
    pool: &'a Pool,
}

impl Placer<'_> {
    fn with<T>(&self, seed: u32, run: impl FnOnce(&PlacementInput<'_>) -> T) -> T {
        let pg = PgId { pool: self.id, seed };
        let daemons = |id: DaemonId| {
            self.map.daemons.get(&id).map(|info| DaemonState {
                up: info.up,
                weight: info.weight,
                affinity: info.primary_affinity,
            })
        };
        run(&PlacementInput {
            crush: &self.map.crush,
            rule: self.pool.crush_rule,
            erasure: self.pool.kind == PoolKind::Erasure,
            size: usize::from(self.pool.size),
            pg,
            pgp_num: self.pool.pgp_num,
            upmap_items: self.map.upmap_items.get(&pg).map_or(&[], Vec::as_slice),
            daemons: &daemons,
        })
    }

    fn all(&self) -> PoolTargets {
        let fits = Field::fits(self.map, self.pool);
        let field = Field::of(self.map, self.pool.crush_rule).filter(|_| fits);
        let raw: Vec<Slots> =
            (0..self.pool.pg_num).map(|seed| self.raw(seed, field.as_ref())).collect();
        let placed = (0..self.pool.pg_num).zip(&raw).map(|(seed, raw)| self.placed(seed, raw));
        let placed = placed.collect();
        PoolTargets { shape: Shape::of(self.pool), placed, sets: self.sets(&raw), raw }
    }

    fn raw(&self, seed: u32, field: Option<&Field>) -> Slots {
        let mut slots = self.with(seed, raw_set);
        let size = usize::from(self.pool.size);
        let is_short = slots.len() < size || slots.contains(&None);
        let Some(field) = field.filter(|_| is_short && !self.map.daemons.is_empty()) else {
            return slots;
        };
        slots.resize(size, None);
        let pg = PgId { pool: self.id, seed };
        for place in 0..size {
            if slots[place].is_none() {
                let seed = hash2(placement_seed(pg, self.pool.pgp_num), place as u32);
                slots[place] = field.draw(seed, &slots);
            }
        }
        if self.pool.kind == PoolKind::Replicated {
            slots.retain(Option::is_some);
        }
        slots
    }

    fn placed(&self, seed: u32, raw: &Slots) -> Slots {
        let mut slots = raw.clone();
        self.with(seed, |input| apply_upmap(&mut slots, input));
        slots
    }

    fn set(&self, seed: u32, raw: &Slots) -> Vec<DaemonId> {
        self.with(seed, |input| up_set_from(raw.clone(), input).daemons())
    }

    fn sets(&self, raw: &[Slots]) -> Vec<Vec<DaemonId>> {
        (0..self.pool.pg_num).zip(raw).map(|(seed, raw)| self.set(seed, raw)).collect()
    }

    /// The exceptions of one group have changed.
    fn except(&self, known: &mut PoolTargets, seed: u32) {
        let at = seed as usize;
        if let Some(raw) = known.raw.get(at) {
            known.placed[at] = self.placed(seed, raw);
            known.sets[at] = self.set(seed, raw);
        }
    }
}
