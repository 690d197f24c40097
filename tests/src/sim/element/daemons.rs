//! Daemons die, stop as planned, and come back.

use super::{Element, pick};
use crate::sim::schedule::step;
use crate::sim::world::World;

pub(super) const TABLE: &[Element] = &[
    // Dies; comes back soon, late, or not before the end.
    Element {
        name: "crash",
        weight: |_| 16,
        draw: |random, at| {
            let who = random.below(60);
            let back = at
                + [random.below(2000), random.below(8000), random.below(40_000)]
                    [random.below(3) as usize];
            let mut steps = vec![step(at, "crash", &[who])];
            if random.chance(900) {
                steps.push(step(back, "start", &[who]));
            }
            steps
        },
        act: |world, numbers| {
            let all: Vec<usize> = (0..world.daemons.len()).collect();
            if let Some(i) = pick(&all, numbers, 0) {
                world.crash_daemon(i);
            }
        },
    },
    Element {
        name: "start",
        weight: |_| 6,
        draw: |random, at| vec![step(at, "start", &[random.below(60)])],
        act: |world, numbers| {
            let all: Vec<usize> = (0..world.daemons.len()).collect();
            if let Some(i) = pick(&all, numbers, 0) {
                start(world, i);
            }
        },
    },
    Element {
        name: "restart",
        weight: |_| 6,
        draw: |random, at| vec![step(at, "restart", &[random.below(60)])],
        act: |world, numbers| {
            if let Some(i) = pick(&world.running(), numbers, 0) {
                world.crash_daemon(i);
                world.start_daemon(i);
            }
        },
    },
    // As planned: leases are released, everything is flushed.
    Element {
        name: "stop",
        weight: |_| 4,
        draw: |random, at| {
            let who = random.below(60);
            let back = at + random.below(6000);
            vec![step(at, "stop", &[who]), step(back, "start", &[who])]
        },
        act: |world, numbers| {
            if let Some(i) = pick(&world.running(), numbers, 0) {
                world.stop_daemon(i);
            }
        },
    },
    // The power goes everywhere; daemons come back one by one.
    Element {
        name: "power-loss",
        weight: |_| 2,
        draw: |random, at| {
            let mut steps = vec![step(at, "power-loss", &[])];
            for who in 0..6 {
                steps.push(step(at + 500 + random.below(12_000), "start", &[who]));
            }
            steps
        },
        act: |world, _| world.running().into_iter().for_each(|i| world.crash_daemon(i)),
    },
];

fn start(world: &mut World, i: usize) {
    if world.daemons[i].machine.is_none() {
        world.start_daemon(i);
    }
}
