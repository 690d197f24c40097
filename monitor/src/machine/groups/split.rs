//! More placement groups for a pool that has data.
//!
//! One commit raises the interval of every parent and gives each child a copy of the parent's new record: who
//! has everything of the parent has, once he has divided it, everything of the child. Learners begin again:
//! they are taken out, and join when the parts are active. Where the children should be stays where the parent
//! should be until `pgp_num` follows, so a split moves nothing.

use super::{Groups, unformed};
use std::collections::BTreeSet;
use store_base::hash::stable_mod;
use store_base::ids::{Interval, PgId, PoolId};
use store_base::map::{OsdMap, PgRecord};

impl Groups<'_> {
    /// Gives a pool more placement groups.
    pub(crate) fn split(&self, map: &mut OsdMap, id: PoolId, to: u32) {
        let next = map.epoch.next();
        let Some(pool) = map.pools.get_mut(&id) else { return };
        let from = std::mem::replace(&mut pool.pg_num, to);
        pool.last_change = next;
        pool.resend_since = next;
        for seed in 0..from {
            let parent = PgId { pool: id, seed };
            let children: Vec<PgId> = parent.children(from, to).collect();
            if !children.is_empty() {
                self.split_one(map, parent, children);
            }
        }
    }

    fn split_one(&self, map: &mut OsdMap, parent: PgId, children: Vec<PgId>) {
        let record = map.pgs.get(&parent).cloned().unwrap_or_else(unformed);
        let record = match record.members.is_empty() {
            true => record,
            false => {
                let record = PgRecord { learners: BTreeSet::new(), ..record };
                self.put(map, parent, record);
                map.pgs[&parent].clone()
            }
        };
        let upmap = map.upmap_items.get(&parent).cloned();
        for child in children {
            map.pgs.insert(child, record.clone());
            upmap.iter().for_each(|items| {
                map.upmap_items.insert(child, items.clone());
            });
        }
    }
}

/// Lets the placement of a pool's groups follow their number by a step: data moves then. Exceptions to CRUSH
/// lose their sense for the groups that move.
pub(crate) fn follow(map: &mut OsdMap, id: PoolId, step: u32) {
    let next = map.epoch.next();
    let Some(pool) = map.pools.get_mut(&id) else { return };
    let (before, after) = (pool.pgp_num, pool.pgp_num.saturating_add(step).min(pool.pg_num));
    pool.pgp_num = after;
    pool.last_change = next;
    let stays = |pg: &PgId| stable_mod(pg.seed, before) == stable_mod(pg.seed, after);
    map.upmap_items.retain(|pg, _| pg.pool != id || stays(pg));
}

/// The interval that a record gets in the commit under way.
pub(super) fn raised(committed: &OsdMap, pg: PgId, record: &PgRecord) -> Interval {
    match committed.pgs.get(&pg) {
        Some(committed) => committed.interval.next(),
        // New in this commit: formed, or split off with the interval of its parent.
        None => record.interval.max(Interval(1)),
    }
}
