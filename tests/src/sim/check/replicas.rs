//! When all is quiet and health is OK, every member has every object, and all copies are equal.

use crate::sim::damage::PAGE;
use crate::sim::world::World;
use bytes::Bytes;
use std::collections::BTreeMap;
use store_base::object::ObjectInfo;
use store_base::{ObjectName, PgId, Ticket};
use store_daemon::store::{Completion, Store, StoreError};

/// Everything that one copy of an object is.
#[derive(Debug, PartialEq)]
struct Copy {
    info: ObjectInfo,
    data: Result<Bytes, StoreError>,
    xattrs: BTreeMap<Bytes, Bytes>,
    header: Bytes,
    omap: Vec<(Bytes, Bytes)>,
}

/// Tickets of the judge's own reads; far from those that a machine gives.
const JUDGE_TICKET: Ticket = Ticket(u64::MAX);

/// Polls after which a read is not answered any more.
const READ_POLLS_MAX: usize = 1000;

fn copies(world: &mut World, i: usize, pg: PgId) -> BTreeMap<ObjectName, Copy> {
    let medium = world.daemons[i].medium.clone();
    let Some(machine) = world.daemons[i].machine.as_mut() else { return BTreeMap::new() };
    let store = machine.store_mut();
    let objects = store.list(pg, None, PAGE).unwrap_or_default();
    let mut copies = BTreeMap::new();
    for (object, info) in objects {
        store.read(JUDGE_TICKET, pg, &object, 0, 0);
        let mut done = Vec::new();
        for _ in 0..READ_POLLS_MAX {
            medium.work_all();
            store.poll(&mut done);
            let is_ours =
                |c: &Completion| matches!(c, Completion::Read { ticket: JUDGE_TICKET, .. });
            if done.iter().any(is_ours) {
                break;
            }
        }
        let data = done.into_iter().find_map(|completion| match completion {
            Completion::Read { ticket: JUDGE_TICKET, result } => Some(result),
            _ => None,
        });
        let copy = Copy {
            info,
            data: data.unwrap_or_else(|| Err(StoreError::Failed("no answer".into()))),
            xattrs: store.xattrs(pg, &object).unwrap_or_default(),
            header: store.omap_header(pg, &object).unwrap_or_default(),
            omap: store.omap_list(pg, &object, None, b"", PAGE).map(|(e, _)| e).unwrap_or_default(),
        };
        copies.insert(object, copy);
    }
    copies
}

/// What is wrong with the replicas; called when nothing is under way.
pub fn check(world: &mut World) -> Vec<String> {
    let Some(map) = world.monitor.machine.as_ref().and_then(|m| m.osd_map().cloned()) else {
        return vec!["replicas: no monitor".into()];
    };
    let by_id: BTreeMap<_, usize> = (0..world.daemons.len())
        .filter_map(|i| Some((world.daemons[i].machine.as_ref()?.id()?, i)))
        .collect();
    let mut wrong = Vec::new();
    for (pg, record) in &map.pgs {
        let size = map.pools.get(&pg.pool).map_or(0, |pool| usize::from(pool.size));
        if record.members.len() != size.min(by_id.len()) {
            wrong.push(format!("{pg}: {} members at the end, not {size}", record.members.len()));
        }
        let Some(first) = by_id.get(&record.primary).copied() else {
            wrong.push(format!("{pg}: its primary {} does not run", record.primary));
            continue;
        };
        let reference = copies(world, first, *pg);
        for member in record.members.iter().filter(|m| **m != record.primary) {
            let Some(i) = by_id.get(member).copied() else {
                wrong.push(format!("{pg}: its member {member} does not run"));
                continue;
            };
            let copies = copies(world, i, *pg);
            for object in reference.keys().chain(copies.keys()) {
                // A copy that the judge damaged is found by who reads it; after a scrub all were read.
                let excused = !world.scrubbed;
                let damaged = |c: &BTreeMap<ObjectName, Copy>| {
                    excused && c.get(object).is_some_and(|c| c.data.is_err())
                };
                if reference.get(object) != copies.get(object)
                    && !damaged(&reference)
                    && !damaged(&copies)
                {
                    wrong.push(format!(
                        "{pg}: {object} differs: {:?} at {}, {:?} at {member}",
                        reference.get(object),
                        record.primary,
                        copies.get(object)
                    ));
                }
            }
        }
    }
    wrong.truncate(10);
    wrong.into_iter().map(|what| format!("replicas: {what}")).collect()
}
