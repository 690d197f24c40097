//! Disks become slow or full, rot, and are lost.

use super::{Element, pick};
use crate::sim::schedule::step;
use crate::sim::world::World;
use std::time::Duration;

pub(super) const TABLE: &[Element] = &[
    Element {
        name: "slow-disk",
        weight: |_| 5,
        draw: |random, at| {
            vec![step(at, "slow-disk", &[random.below(60), 500 + random.below(5000)])]
        },
        act: |world, numbers| {
            if let Some(i) = pick(&world.running(), numbers, 0) {
                let lasts = Duration::from_millis(numbers.get(1).copied().unwrap_or(1000));
                world.daemons[i].slow_until = world.now + lasts;
            }
        },
    },
    // Nothing fits any more but deletes; room comes back later.
    Element {
        name: "full-disk",
        weight: |_| 2,
        draw: |random, at| {
            let who = random.below(60);
            let room = at + 1000 + random.below(8000);
            vec![step(at, "full-disk", &[who]), step(room, "room-again", &[who])]
        },
        act: |world, numbers| {
            let all: Vec<usize> = (0..world.daemons.len()).collect();
            if let Some(i) = pick(&all, numbers, 0) {
                set_full(world, i, true);
            }
        },
    },
    Element {
        name: "room-again",
        weight: |_| 0,
        draw: |_, at| vec![step(at, "room-again", &[0])],
        act: |world, numbers| {
            let all: Vec<usize> = (0..world.daemons.len()).collect();
            if let Some(i) = pick(&all, numbers, 0) {
                set_full(world, i, false);
            }
        },
    },
    // A bit flips in one copy of an object of which every other copy is whole.
    Element {
        name: "rot",
        weight: |_| 4,
        draw: |random, at| vec![step(at, "rot", &[random.any(), random.any(), random.any()])],
        act: crate::sim::damage::rot,
    },
    // A disk is gone with all that it had; an empty one takes its place, as a new daemon.
    Element {
        name: "disk-loss",
        weight: |_| 3,
        draw: |random, at| {
            let who = random.below(60);
            let back = at + random.below(10_000);
            vec![
                step(at, "disk-loss", &[who]),
                step(back, "start", &[who]),
                step(back + random.below(10_000), "purge", &[who]),
            ]
        },
        act: |world, numbers| {
            if let Some(i) = pick(&world.running(), numbers, 0)
                && world.may_lose(i)
            {
                world.lose_disk(i);
            }
        },
    },
    // The operator forgets daemons whose disks are gone.
    Element {
        name: "purge",
        weight: |_| 0,
        draw: |_, at| vec![step(at, "purge", &[])],
        act: |world, _| purge(world),
    },
];

/// Has the monitor forget daemons whose disks are gone. It refuses while it must.
pub fn purge(world: &mut World) {
    let ids: Vec<_> = world.lost.keys().map(|id| id.0).collect();
    for id in ids {
        world.command(&format!(
            r#"{{"prefix": "osd purge", "id": {id}, "sure": "--yes-i-really-mean-it"}}"#
        ));
    }
}

/// Fills a disk, or makes room.
pub fn set_full(world: &mut World, i: usize, full: bool) {
    world.daemons[i].full = full;
    world.daemons[i].medium.set_full(full);
}
