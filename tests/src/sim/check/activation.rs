//! From any state: with faults over and one holder back, a group becomes active with exactly the daemons
//! that are there (R14); with slots as soon as k of them are. Asked between the slices of a returning power supply.

use crate::sim::world::World;

/// Which groups that have a holder here are not active, or not with exactly those that run.
pub fn check(world: &World) -> Result<(), String> {
    let Some(map) = world.map() else { return Err("nobody leads".into()) };
    for (pg, record) in &map.pgs {
        let there = |id| world.place_of(id).is_some();
        let Some(pool) = map.pools.get(&pg.pool) else { continue };
        if !record.suffice(pool, record.holders.iter().filter(|id| there(**id))) {
            continue;
        }
        if let Some(absent) = record.members.iter().find(|id| !there(**id)) {
            return Err(format!("{pg}: its member {absent} is not there: {record:?}"));
        }
        let primary = world.place_of(record.primary);
        let leads = primary
            .and_then(|i| world.daemons[i].seen.get(pg))
            .is_some_and(|seen| seen.serving && seen.interval == record.interval);
        if !record.is_active() || !leads {
            return Err(format!("{pg}: not active: {record:?}"));
        }
    }
    Ok(())
}
