//! When all is quiet and health is OK, every member has every object, and all copies are equal, or what the code
//! makes of the object.

use crate::sim::damage::PAGE;
use crate::sim::world::World;
use bytes::Bytes;
use std::collections::{BTreeMap, BTreeSet};
use store_base::map::PgRecord;
use store_base::object::ObjectInfo;
use store_base::{DaemonId, ObjectName, PgId, Ticket};
use store_daemon::machine::slots::Layout;
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

/// What is wrong with a group with slots: what is known of an object is to be the same everywhere, and every
/// shard what the code makes of the object that any k of them give.
fn check_slots(
    world: &mut World,
    pg: PgId,
    record: &PgRecord,
    layout: &Layout,
    by_id: &BTreeMap<DaemonId, usize>,
) -> Vec<String> {
    let mut all: BTreeMap<usize, BTreeMap<ObjectName, Copy>> = BTreeMap::new();
    for member in &record.members {
        match (by_id.get(member).copied(), record.slot(*member)) {
            (Some(i), Some(slot)) => drop(all.insert(slot, copies(world, i, pg))),
            _ => return vec![format!("{pg}: its member {member} does not run, or has no slot")],
        }
    }
    let excused = !world.scrubbed;
    let names: BTreeSet<ObjectName> = all.values().flat_map(|c| c.keys().cloned()).collect();
    let mut wrong = Vec::new();
    for object in names {
        let shards: BTreeMap<usize, Option<&Copy>> =
            all.iter().map(|(slot, copies)| (*slot, copies.get(&object))).collect();
        wrong.extend(
            check_shards(layout, &shards, excused).map(|what| format!("{pg}: {object} {what}")),
        );
    }
    wrong
}

fn check_shards(
    layout: &Layout,
    shards: &BTreeMap<usize, Option<&Copy>>,
    excused: bool,
) -> Option<String> {
    let lacking = shards.iter().find(|(_, copy)| copy.is_none());
    if let Some((slot, _)) = lacking {
        return Some(format!("is not there in slot {slot}"));
    }
    let there: Vec<(usize, &Copy)> = shards.iter().filter_map(|(s, c)| Some((*s, (*c)?))).collect();
    let about = |copy: &Copy| (copy.info.clone(), copy.xattrs.clone(), copy.omap.len());
    let first = about(there.first()?.1);
    if let Some((slot, other)) = there.iter().find(|(_, copy)| about(copy) != first) {
        return Some(format!("differs: {first:?}, {:?} in slot {slot}", about(other)));
    }
    let size = first.0.size as usize;
    let good: Vec<(usize, &[u8])> = there
        .iter()
        .filter_map(|(slot, copy)| Some((*slot, copy.data.as_ref().ok()?.as_ref())))
        .collect();
    if good.len() < there.len() && !excused {
        return Some("cannot be read in some slot".into());
    }
    let mut data = vec![vec![0; size]; layout.striping.data];
    let mut outputs: Vec<(usize, &mut [u8])> =
        data.iter_mut().map(Vec::as_mut_slice).enumerate().collect();
    if let Err(error) = layout.code.reconstruct(&good, &mut outputs) {
        return Some(format!("cannot be put together: {error}"));
    }
    let mut whole = vec![0; size];
    for piece in layout.striping.pieces(0..size as u64) {
        let from = piece.shard_offset as usize;
        whole[piece.offset as usize..][..piece.len]
            .copy_from_slice(&data[piece.slot][from..from + piece.len]);
    }
    let right = layout.shards(&whole);
    let bad = good.iter().find(|(slot, bytes)| {
        let shard = &right[*slot];
        bytes[..shard.len()] != shard[..] || bytes[shard.len()..].iter().any(|byte| *byte != 0)
    });
    bad.map(|(slot, _)| format!("is not what the code makes of it in slot {slot}"))
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
        let erasure = map.pools.get(&pg.pool).and_then(|pool| pool.erasure.as_ref());
        if record.members.len() != size.min(by_id.len()) || record.width() != record.members.len() {
            wrong.push(format!("{pg}: {} members at the end, not {size}", record.members.len()));
        }
        let Some(first) = by_id.get(&record.primary).copied() else {
            wrong.push(format!("{pg}: its primary {} does not run", record.primary));
            continue;
        };
        if let Some(layout) = erasure.and_then(|erasure| Layout::new(erasure).ok()) {
            wrong.extend(check_slots(world, *pg, record, &layout, &by_id));
            continue;
        }
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
