//! What a change of the map would move, and what any placement would have to move for the same shares.
//!
//! **Lower bound**: give every daemon its share by weight of all bytes (of each pool the share that keeps copies
//! apart, summed over pools). Who has less than that must be brought the difference, by whatever placement: the bound
//! is the sum of these differences. Placement groups do not divide, and a few per cent are tolerated, so a plan may
//! be a little below it.

use super::{One, Upmaps, size_of, step};
use crate::machine::notes::Amount;
use crate::machine::placement::Targets;
use crate::machine::placement::field::Field;
use crate::machine::view::View;
use std::collections::{BTreeMap, BTreeSet};
use store_base::ids::{DaemonId, PgId};
use store_base::map::{OsdMap, PgRecord};

/// Rounds of the balancer that are looked ahead, at most.
const ROUNDS_MAX: usize = 64;

/// Copies that one of these rounds moves.
const ROUND_MOVES: usize = 4096;

/// One placement group that goes elsewhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Move {
    pub(crate) pg: PgId,
    /// Daemons that have it and shall not.
    pub(crate) from: Vec<DaemonId>,
    /// Daemons that get it.
    pub(crate) to: Vec<DaemonId>,
    /// Of one copy.
    pub(crate) bytes: u64,
}

/// A daemon before and after.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Side {
    pub(crate) copies_before: u64,
    pub(crate) copies_after: u64,
    pub(crate) bytes_before: u64,
    pub(crate) bytes_after: u64,
    pub(crate) bytes_share: u64,
}

/// The movement from what members have to what targets want.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Plan {
    pub(crate) moves: Vec<Move>,
    pub(crate) planned: Amount,
    pub(crate) bound: Amount,
    pub(crate) daemons: BTreeMap<DaemonId, Side>,
    /// Groups of which nobody has told how big they are: they count as empty.
    pub(crate) unreported: usize,
}

/// What has to move until records are what the targets of this map want.
pub(crate) fn plan(map: &OsdMap, targets: &Targets, view: &View) -> Plan {
    let mut plan = Plan::default();
    for (pg, record) in map.pgs.iter().filter(|(_, record)| !record.members.is_empty()) {
        plan.take(*pg, record, targets.placed(*pg).collect(), view);
    }
    plan.share(map, targets, view);
    plan
}

impl Plan {
    fn take(&mut self, pg: PgId, record: &PgRecord, after: BTreeSet<DaemonId>, view: &View) {
        let size = size_of(view, pg);
        self.unreported += usize::from(size.is_none());
        let (objects, bytes) = size.unwrap_or_default();
        let before: BTreeSet<DaemonId> = record.members.iter().copied().collect();
        for id in &before {
            let side = self.daemons.entry(*id).or_default();
            side.copies_before += 1;
            side.bytes_before += bytes;
        }
        for id in &after {
            let side = self.daemons.entry(*id).or_default();
            side.copies_after += 1;
            side.bytes_after += bytes;
        }
        let to: Vec<DaemonId> = after.difference(&before).copied().collect();
        if to.is_empty() {
            return;
        }
        let copies = to.len() as u64;
        self.planned.copies += copies;
        self.planned.objects += copies * objects;
        self.planned.bytes += copies * bytes;
        let from = before.difference(&after).copied().collect();
        self.moves.push(Move { pg, from, to, bytes });
    }

    fn share(&mut self, map: &OsdMap, targets: &Targets, view: &View) {
        let mut copies: BTreeMap<DaemonId, i64> = BTreeMap::new();
        for (id, now) in &targets.pools {
            let Some(pool) = map.pools.get(id) else { continue };
            let field = Field::of(map, pool.crush_rule).filter(|_| Field::fits(map, pool));
            let Some(field) = field else { continue };
            let one = One { map, view, id: *id, pool, now, field: &field };
            let mut overall = BTreeMap::new();
            let board = one.board(&now.placed, &mut overall);
            for (place, candidate) in field.candidates.iter().enumerate() {
                let side = self.daemons.entry(candidate.id).or_default();
                side.bytes_share += board.bytes_share(place).unsigned_abs();
                *copies.entry(candidate.id).or_default() += board.share(place);
            }
        }
        for (id, side) in &self.daemons {
            self.bound.bytes += side.bytes_share.saturating_sub(side.bytes_before);
            let share = copies.get(id).copied().unwrap_or(0) / super::COPY;
            self.bound.copies += share.unsigned_abs().saturating_sub(side.copies_before);
        }
    }

    /// Planned bytes by the bound's; `None` if the bound is nothing.
    pub(crate) fn ratio(&self) -> Option<f64> {
        ratio(self.planned.bytes, self.bound.bytes)
    }
}

/// One count by another, if that is not 0.
pub(crate) fn ratio(count: u64, by: u64) -> Option<f64> {
    (by > 0).then(|| count as f64 / by as f64)
}

/// All that the balancer would do from here, if nothing else changed.
pub(crate) fn look_ahead(targets: &mut Targets, map: &mut OsdMap, view: &View) {
    for _ in 0..ROUNDS_MAX {
        let next: Option<Upmaps> = step(targets, map, view, ROUND_MOVES);
        let Some(upmaps) = next else { return };
        map.upmap_items = upmaps;
        targets.refresh(map);
    }
}
