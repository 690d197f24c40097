//! A backfill that is interrupted goes on where it was, whichever side was.

use super::world::{PG, World};
use crate::machine::{Config, Daemon};
use crate::store::Store;
use crate::store::memory::MemoryStore;
use std::time::Duration;
use store_base::DaemonId;
use store_base::op::Op;

const OBJECTS: u64 = 600;

/// What may be copied twice: a part of the scan, and what was on its way.
const AGAIN_MAX: u64 = 150;

/// Two daemons that have more objects than their log tells of, and a third that has nothing.
fn began() -> World {
    let mut world = World::new(3, 3, 2);
    world.config = Config {
        log_entries_max: 40,
        log_entries_keep: 20,
        scan_objects_max: 64,
        missing_scan_max: 64,
        ..Config::default()
    };
    (0..3).map(DaemonId).for_each(|id| world.start(id));
    world.run(Duration::from_millis(300));
    world.change(|record| {
        record.primary = DaemonId(0);
        record.members = (0..2).map(DaemonId).collect();
        record.holders = record.members.iter().copied().collect();
        record.writers.clone_from(&record.holders);
    });
    world.auto = true;
    world.run(Duration::from_millis(400));
    for n in 0..OBJECTS {
        let data = vec![n as u8; 300].into();
        world.ask(DaemonId(0), 1, n + 1, 0, &format!("o{n}"), vec![Op::WriteFull { data }]);
        world.run(Duration::from_millis(1));
    }
    world.run(Duration::from_millis(300));
    world.join(DaemonId(2));
    for _ in 0..10_000 {
        if brought(&world) >= 250 {
            break;
        }
        world.run(Duration::from_micros(500));
    }
    assert!((250..OBJECTS).contains(&brought(&world)), "midway: {}", brought(&world));
    world
}

fn brought(world: &World) -> u64 {
    let daemon = world.nodes[&DaemonId(2)].daemon.as_ref();
    daemon.map_or(0, |daemon: &Daemon<MemoryStore>| daemon.status().done.objects_in)
}

fn check(world: &mut World, before: u64, primary: DaemonId) {
    world.run(Duration::from_secs(12));
    let record = &world.map.pgs[&PG];
    assert!(record.members.contains(&DaemonId(2)), "it was promoted: {record:?}");
    let total = before + brought(world);
    assert!((OBJECTS..OBJECTS + AGAIN_MAX).contains(&total), "{total} objects brought in");
    let (ours, theirs) = (world.contents(DaemonId(2)), world.contents(primary));
    assert_eq!(ours.len() as u64, OBJECTS);
    assert_eq!(ours, theirs);
    assert!(world.nodes[&DaemonId(2)].daemon.as_ref().is_some_and(|d| d.store().pgs() == [PG]));
}

#[test]
fn the_learner_restarts() {
    let mut world = began();
    let before = brought(&world);
    world.stop(DaemonId(2));
    world.start(DaemonId(2));
    check(&mut world, before, DaemonId(0));
}

#[test]
fn the_primary_is_lost() {
    let mut world = began();
    world.crash(DaemonId(0), 0);
    world.mark_down(DaemonId(0));
    world.reform(&[DaemonId(1)]);
    world.run(Duration::from_secs(2));
    world.join(DaemonId(2));
    check(&mut world, 0, DaemonId(1));
}
