//! Every holder and every writer has all that clients were told: the entry of every answer, durable, and the
//! objects as of it.
//!
//! What a holder that is down has shows when it starts; a holder whose disk is lost has nothing, and the
//! fault model sees to it that others have.

use super::{Checker, copies};
use crate::sim::world::World;
use std::collections::{BTreeMap, BTreeSet};
use store_base::map::{OsdMap, PgRecord};
use store_base::op::{Outcome, Reply};
use store_base::{DaemonId, PgId, Version};

/// Samples between two looks at objects.
const OBJECTS_EVERY: u64 = 4;

/// By group: the last entry that a client was told of.
#[derive(Default)]
pub struct Holders {
    told: BTreeMap<PgId, Version>,
    samples: u64,
}

fn responsible(record: &PgRecord) -> BTreeSet<DaemonId> {
    record.holders.union(&record.writers).copied().collect()
}

impl Holders {
    fn check_log(&self, world: &World, pg: PgId, id: DaemonId) -> Option<String> {
        let told = self.told.get(&pg).copied().filter(|told| *told > Version::ZERO)?;
        let i = world.place_of(id)?;
        let node = &world.daemons[i];
        let has_in = |pg: PgId| match node.medium.has_entry(pg, told) {
            Some(has) => Some(has),
            None => Some(node.machine.as_ref()?.pg(pg).is_some_and(|view| view.has_entry(told))),
        };
        // A log that has yet to be divided is that of all its parts.
        let has = copies::lineage(pg).map(has_in).collect::<Option<Vec<_>>>()?.contains(&true);
        (!has).then(|| format!("{pg}: {id} does not have {told}, which a client was told of"))
    }

    fn check_objects(&self, world: &World, pg: PgId, record: &PgRecord) -> Vec<String> {
        let Some(told) = self.told.get(&pg).copied() else { return Vec::new() };
        let Some(first) = copies::freshest(world, pg, record) else { return Vec::new() };
        let Some(all) = copies::shown(world, first, pg) else { return Vec::new() };
        let mut wrong = Vec::new();
        for id in responsible(record) {
            let Some(i) = world.place_of(id).filter(|i| *i != first) else { continue };
            if let Some(what) = copies::lacks(world, i, pg, &all, told).first() {
                wrong.push(format!("{pg}: {id} is a holder and lacks {what}"));
            }
        }
        wrong
    }
}

impl Checker for Holders {
    fn name(&self) -> &'static str {
        "holders"
    }

    fn answered(&mut self, world: &World, _: usize, reply: &Reply) -> Vec<String> {
        let Reply::Answer { id, outcome: Outcome::Done { version, .. }, .. } = reply else {
            return Vec::new();
        };
        let Some(pg) = world.requests.get(id).copied() else { return Vec::new() };
        let told = self.told.entry(pg).or_default();
        if *version <= *told {
            return Vec::new();
        }
        *told = *version;
        let Some(record) = world.map().and_then(|map| map.pgs.get(&pg)) else { return Vec::new() };
        responsible(record).iter().filter_map(|id| self.check_log(world, pg, *id)).collect()
    }

    fn committed(&mut self, world: &World, before: &OsdMap, after: &OsdMap) -> Vec<String> {
        let changed = after.pgs.iter().filter(|(pg, record)| {
            before.pgs.get(pg).is_none_or(|old| {
                (&old.holders, &old.writers) != (&record.holders, &record.writers)
            })
        });
        changed
            .flat_map(|(pg, record)| responsible(record).into_iter().map(|id| (*pg, id)))
            .filter_map(|(pg, id)| self.check_log(world, pg, id))
            .collect()
    }

    fn started(&mut self, world: &World, i: usize) -> Vec<String> {
        let (Some(id), Some(map)) = (world.id_of(i), world.map()) else { return Vec::new() };
        let holds = map.pgs.iter().filter(|(_, record)| responsible(record).contains(&id));
        holds.filter_map(|(pg, _)| self.check_log(world, *pg, id)).collect()
    }

    fn sampled(&mut self, world: &World) -> Vec<String> {
        self.samples += 1;
        if !self.samples.is_multiple_of(OBJECTS_EVERY) {
            return Vec::new();
        }
        let Some(map) = world.map() else { return Vec::new() };
        map.pgs.iter().flat_map(|(pg, record)| self.check_objects(world, *pg, record)).collect()
    }
}
