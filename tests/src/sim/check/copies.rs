//! What copies there are, counted by the judge over all stores. Not a promise of its own: several need it.

use crate::sim::damage::PAGE;
use crate::sim::world::World;
use std::collections::BTreeMap;
use store_base::map::PgRecord;
use store_base::{ObjectName, PgId, Version};
use store_daemon::store::Store;

/// Objects and the versions of their last changes.
pub type Versions = BTreeMap<ObjectName, Version>;

/// A group, and those that it was split off, the latest first: where a daemon that has yet to divide them
/// keeps its objects.
pub fn lineage(pg: PgId) -> impl Iterator<Item = PgId> {
    std::iter::successors(Some(pg), |pg| {
        let highest = pg.seed.checked_ilog2()?;
        Some(PgId { seed: pg.seed & !(1 << highest), ..*pg })
    })
}

/// Where a daemon that runs keeps the objects of a group.
pub fn place(world: &World, i: usize, pg: PgId) -> Option<PgId> {
    let machine = world.daemons[i].machine.as_ref()?;
    lineage(pg).find(|pg| machine.pg(*pg).is_some())
}

/// What a daemon that runs shows of a group.
pub fn shown(world: &World, i: usize, pg: PgId) -> Option<Versions> {
    let machine = world.daemons[i].machine.as_ref()?;
    let pg_num = world.map()?.pools.get(&pg.pool)?.pg_num;
    let place = place(world, i, pg).unwrap_or(pg);
    let listed = machine.store().list(place, None, PAGE).ok()?;
    let of_group = listed.into_iter().filter(|(object, _)| object.pg(pg.pool, pg_num) == pg);
    Some(of_group.map(|(object, info)| (object, info.version)).collect())
}

/// The member of a group that runs and has applied most.
pub fn freshest(world: &World, pg: PgId, record: &PgRecord) -> Option<usize> {
    let places = record.members.iter().filter_map(|id| world.place_of(*id));
    places
        .filter_map(|i| {
            let view = world.daemons[i].machine.as_ref()?.pg(pg)?;
            view.is_complete().then(|| (view.applied(), i))
        })
        .max()
        .map(|(_, i)| i)
}

/// What daemon `i` lacks of the objects that `all` shows, as far as they are of `told` or before. What stands
/// in its log and is yet to be applied it has.
pub fn lacks(world: &World, i: usize, pg: PgId, all: &Versions, told: Version) -> Vec<String> {
    let Some(machine) = world.daemons[i].machine.as_ref() else { return Vec::new() };
    let place = place(world, i, pg).unwrap_or(pg);
    let Some(view) = machine.pg(place) else {
        return match all.values().any(|version| *version <= told) {
            true => vec!["the whole group".into()],
            false => Vec::new(),
        };
    };
    let mut lacking = Vec::new();
    for (object, version) in all.iter().filter(|(_, version)| **version <= told) {
        let has = machine.store().info(place, object).ok().flatten().map(|info| info.version);
        if has.is_some_and(|has| has >= *version) {
            continue;
        }
        let (entries, _) = view.log_behind(view.applied());
        let staged = entries.into_iter().any(|e| e.object == *object && e.version == *version);
        // Gone since, by an entry that the other has not seen yet.
        let removed = || {
            let (entries, _) = view.log_behind(*version);
            entries.into_iter().any(|entry| entry.object == *object)
        };
        if !staged && !removed() {
            lacking.push(match has {
                Some(has) => format!("{object} {version} (has {has})"),
                None => format!("{object} {version}"),
            });
        }
    }
    lacking
}
