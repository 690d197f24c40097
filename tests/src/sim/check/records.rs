//! The monitor's records: members ⊆ holders; intervals only grow, and with every change but activation;
//! holders keep their slots, and have k of them together; new members come from the holders of before, or are learners that lack nothing.

use super::{Checker, copies};
use crate::sim::world::World;
use store_base::map::{OsdMap, PgRecord};
use store_base::{DaemonId, PgId};

/// See the module.
#[derive(Default)]
pub struct Records;

impl Checker for Records {
    fn name(&self) -> &'static str {
        "records"
    }

    fn committed(&mut self, world: &World, before: &OsdMap, after: &OsdMap) -> Vec<String> {
        let mut wrong = Vec::new();
        for (pg, record) in &after.pgs {
            let strangers = record.members.iter().filter(|id| !record.holders.contains(id));
            wrong.extend(strangers.map(|id| format!("{pg}: the member {id} is no holder")));
            let Some(old) = before.pgs.get(pg) else { continue };
            let moved = record.holders.iter().filter(|id| old.holders.contains(id));
            let moved = moved.filter(|id| old.slot(**id) != record.slot(**id));
            wrong.extend(moved.map(|id| format!("{pg}: the slot of the holder {id} was changed")));
            let suffice = |record: &PgRecord| match after.pools.get(&pg.pool) {
                Some(pool) => record.suffice(pool, &record.holders),
                None => true,
            };
            if suffice(old) && !suffice(record) {
                wrong.push(format!("{pg}: its holders have not enough slots: {record:?}"));
            }
            if old != record && !old.members.is_empty() {
                wrong.extend(step(old, record).map(|what| format!("{pg}: {what}")));
                let new = record.members.iter().filter(|id| !old.members.contains(id));
                wrong.extend(new.filter_map(|id| origin(world, *pg, old, *id)));
            }
        }
        for (pg, old) in &before.pgs {
            if !after.pgs.contains_key(pg) && after.pools.contains_key(&pg.pool) {
                wrong.push(format!("{pg}: the record is gone: {old:?}"));
            }
        }
        wrong
    }
}

/// One record follows another.
fn step(old: &PgRecord, new: &PgRecord) -> Option<String> {
    if new.interval < old.interval {
        return Some(format!("interval {} follows {}", new.interval, old.interval));
    }
    let same = (&new.members, &new.learners, new.primary, new.primary_incarnation)
        == (&old.members, &old.learners, old.primary, old.primary_incarnation);
    let activates = same && new.is_active();
    (new.interval == old.interval && !activates)
        .then(|| format!("changed within interval {}: {old:?} → {new:?}", old.interval))
}

/// What is wrong with where a new member comes from.
fn origin(world: &World, pg: PgId, old: &PgRecord, id: DaemonId) -> Option<String> {
    if old.holders.contains(&id) {
        return None;
    }
    if !old.learners.contains(&id) {
        return Some(format!("{pg}: the new member {id} was neither holder nor learner"));
    }
    let i = world.place_of(id)?;
    let view = world.daemons[i].machine.as_ref()?.pg(pg)?;
    if !view.is_complete() {
        return Some(format!("{pg}: the new member {id} is still catching up"));
    }
    let first = copies::freshest(world, pg, old).filter(|first| *first != i)?;
    let all = copies::shown(world, first, pg)?;
    let applied = world.daemons[first].machine.as_ref()?.pg(pg)?.applied();
    let lacking = copies::lacks(world, i, pg, &all, applied);
    lacking.first().map(|what| format!("{pg}: the new member {id} was a learner and lacks {what}"))
}
