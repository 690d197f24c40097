//! From a placement group to its up set: the daemons that should have it, given who is in and up.
//!
//! The steps, each as in Ceph:
//! 1. the rule, run for a hash of pool and seed;
//! 2. daemons that are not in the map are dropped;
//! 3. upmap, the balancer's exceptions: "from → to" where `from` is chosen, `to` is not, and `to` is in;
//! 4. daemons that are down are dropped;
//! 5. the first that is left is primary, unless its affinity says that another should be.
//!
//! Dropping closes up in replicated pools and leaves a hole in erasure-coded ones.

use super::choose::NONE;
use super::{CrushMap, WEIGHT_ONE};
use crate::hash::{hash2, stable_mod};
use crate::ids::{DaemonId, PgId};
use crate::map::{OsdMap, PoolKind};

/// What placement needs to know of a daemon.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DaemonState {
    /// Down daemons are not in an up set.
    pub up: bool,
    /// How much of its share of data it takes, 16.16; 0 is out.
    pub weight: u32,
    /// How much of its share of primaries it takes, 16.16.
    pub affinity: u32,
}

/// What the placement of a group depends on.
pub struct PlacementInput<'a> {
    /// Where daemons stand.
    pub crush: &'a CrushMap,
    /// The pool's rule.
    pub rule: u32,
    /// Whether places in the set have a meaning.
    pub erasure: bool,
    /// Copies or slots wanted.
    pub size: usize,
    /// The group.
    pub pg: PgId,
    /// The pool's groups, as far as placement is concerned.
    pub pgp_num: u32,
    /// The balancer's exceptions for this group.
    pub upmap_items: &'a [(DaemonId, DaemonId)],
    /// `None` for a daemon that does not exist.
    pub daemons: &'a dyn Fn(DaemonId) -> Option<DaemonState>,
}

/// The daemons that should have a placement group.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UpSet {
    /// In order. `None` is a hole, in erasure-coded pools only.
    pub slots: Vec<Option<DaemonId>>,
    /// The one that should lead, if there is any.
    pub primary: Option<DaemonId>,
}

impl UpSet {
    /// The daemons, without holes, in order.
    pub fn daemons(&self) -> Vec<DaemonId> {
        self.slots.iter().flatten().copied().collect()
    }
}

impl OsdMap {
    /// Where a placement group should be, by this map: its up set. `None` if there is no such group.
    pub fn up_set(&self, pg: PgId) -> Option<UpSet> {
        let pool = self.pools.get(&pg.pool).filter(|pool| pg.seed < pool.pg_num)?;
        let daemons = |id| {
            self.daemons.get(&id).map(|info| DaemonState {
                up: info.up,
                weight: info.weight,
                affinity: info.primary_affinity,
            })
        };
        Some(up_set(&PlacementInput {
            crush: &self.crush,
            rule: pool.crush_rule,
            erasure: pool.kind == PoolKind::Erasure,
            size: pool.size.into(),
            pg,
            pgp_num: pool.pgp_num,
            upmap_items: self.upmap_items.get(&pg).map_or(&[], Vec::as_slice),
            daemons: &daemons,
        }))
    }
}

/// The number that a group is placed by: neighbours in a pool, and pools, are spread apart by the hash.
pub fn placement_seed(pg: PgId, pgp_num: u32) -> u32 {
    // Pool ids are far below 2^32; Ceph cuts them so.
    hash2(stable_mod(pg.seed, pgp_num), pg.pool.0 as u32)
}

/// What the rule alone says, with daemons that do not exist dropped: the set that upmap changes.
pub fn raw_set(input: &PlacementInput<'_>) -> Vec<Option<DaemonId>> {
    let kind_fits = u8::try_from(input.rule)
        .ok()
        .and_then(|id| input.crush.rules().get(&id))
        .is_some_and(|rule| rule.erasure == input.erasure);
    if !kind_fits {
        return Vec::new();
    }
    let weights = |daemon| (input.daemons)(daemon).map_or(0, |state| state.weight);
    let seed = placement_seed(input.pg, input.pgp_num);
    let mut slots: Vec<_> = input
        .crush
        .do_rule(input.rule, seed, input.size, &weights)
        .into_iter()
        .map(|item| (item != NONE && item >= 0).then_some(DaemonId(item)))
        .collect();
    keep(&mut slots, input.erasure, |daemon| (input.daemons)(daemon).is_some());
    slots
}

/// The up set of a placement group, and its primary.
pub fn up_set(input: &PlacementInput<'_>) -> UpSet {
    up_set_from(raw_set(input), input)
}

/// The same from a raw set that is known already: running the rule is what costs time.
pub fn up_set_from(mut slots: Vec<Option<DaemonId>>, input: &PlacementInput<'_>) -> UpSet {
    apply_upmap(&mut slots, input);
    keep(&mut slots, input.erasure, |daemon| (input.daemons)(daemon).is_some_and(|state| state.up));
    let primary = slots.iter().flatten().next().copied();
    let mut up = UpSet { slots, primary };
    apply_affinity(&mut up, input);
    up
}

/// Drops what does not pass: closing up, or leaving holes.
fn keep(slots: &mut Vec<Option<DaemonId>>, holes: bool, pass: impl Fn(DaemonId) -> bool) {
    slots.iter_mut().for_each(|slot| *slot = slot.filter(|daemon| pass(*daemon)));
    if !holes {
        slots.retain(Option::is_some);
    }
}

/// Step 3 alone: where the group should be if everybody were up.
pub fn apply_upmap(slots: &mut [Option<DaemonId>], input: &PlacementInput<'_>) {
    for &(from, to) in input.upmap_items {
        let is_in = (input.daemons)(to).is_some_and(|state| state.weight > 0);
        if !is_in || slots.contains(&Some(to)) {
            continue;
        }
        if let Some(slot) = slots.iter_mut().find(|slot| **slot == Some(from)) {
            *slot = Some(to);
        }
    }
}

/// Lets a daemon of lower affinity pass the lead on: it keeps its part by a hash of its own, so that not
/// all groups move at once. If everybody passes, the first that passed leads after all.
fn apply_affinity(up: &mut UpSet, input: &PlacementInput<'_>) {
    let seed = placement_seed(input.pg, input.pgp_num);
    let accepts = |daemon: DaemonId| match (input.daemons)(daemon).map_or(0, |s| s.affinity) {
        affinity if affinity >= WEIGHT_ONE => true,
        affinity => hash2(seed, daemon.0 as u32) >> 16 < affinity,
    };
    let Some(place) = up.slots.iter().position(|slot| slot.is_some_and(accepts)) else { return };
    up.primary = up.slots[place];
    if !input.erasure {
        up.slots[..=place].rotate_right(1);
    }
}
