//! Pools that get more placement groups while everything else goes on.

use super::{Element, reconfiguration};
use crate::sim::schedule::step;
use crate::sim::world::World;
use store_base::PoolId;
use store_base::map::OsdMap;

/// A run's pool grows to this at most.
const PG_NUM_MAX: u64 = 40;

pub(super) const TABLE: &[Element] = &[
    // By any number: some groups have a child, some several, some none.
    Element {
        name: "grow",
        weight: |_| 2,
        draw: |random, at| vec![step(at, "grow", &[random.below(60)])],
        act: |world, numbers| {
            let Some(map) = world.map() else { return };
            let Some(pool) = map.pools.get(&PoolId(1)) else { return };
            let pg_num = u64::from(pool.pg_num);
            let to = pg_num + 1 + numbers.first().copied().unwrap_or(0) % (pg_num + 3);
            if to <= PG_NUM_MAX {
                world.command(&reconfiguration::pool_set("pg_num", to));
            }
        },
    },
];

/// Whether the data has followed: until then groups move, though nothing is amiss.
pub fn has_settled(world: &World) -> Result<(), String> {
    let behind = |map: &OsdMap| map.pools.values().any(|pool| pool.pgp_num < pool.pg_num);
    match world.map().is_some_and(behind) {
        true => Err("the placement of a pool has not followed its growth".into()),
        false => Ok(()),
    }
}
