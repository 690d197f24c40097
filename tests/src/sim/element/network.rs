//! Nodes cannot hear each other, in one direction or both; sessions break; messages are late or come twice.

use super::{Element, pick};
use crate::sim::network::Node;
use crate::sim::schedule::{Step, step};
use crate::sim::world::World;
use std::time::Duration;

pub(super) const TABLE: &[Element] = &[
    // Peers still hear it: it keeps its leases while the monitor gives it up.
    Element {
        name: "part-monitor",
        weight: |_| 4,
        draw: |random, at| {
            let numbers = [random.below(60)];
            let heal = heal_later(random.below(12_000), at);
            vec![step(at, "part-monitor", &numbers), heal]
        },
        act: |world, numbers| {
            if let Some(one) = pick(&world.nodes(), numbers, 0) {
                world.block(one, Node::Monitor);
                world.block(Node::Monitor, one);
            }
        },
    },
    Element {
        name: "part-one-way",
        weight: |_| 4,
        draw: |random, at| {
            let numbers = [random.below(60), random.below(60)];
            let heal = heal_later(random.below(12_000), at);
            vec![step(at, "part-one-way", &numbers), heal]
        },
        act: |world, numbers| {
            if let Some((one, other)) = pair(world, numbers) {
                world.block(one, other);
            }
        },
    },
    Element {
        name: "part-pair",
        weight: |_| 4,
        draw: |random, at| {
            let numbers = [random.below(60), random.below(60)];
            let heal = heal_later(random.below(12_000), at);
            vec![step(at, "part-pair", &numbers), heal]
        },
        act: |world, numbers| {
            if let Some((one, other)) = pair(world, numbers) {
                world.block(one, other);
                world.block(other, one);
            }
        },
    },
    Element {
        name: "cut-off",
        weight: |_| 4,
        draw: |random, at| {
            let numbers = [random.below(60)];
            let heal = heal_later(random.below(12_000), at);
            vec![step(at, "cut-off", &numbers), heal]
        },
        act: |world, numbers| {
            let nodes = world.nodes();
            let Some(one) = pick(&nodes, numbers, 0) else { return };
            let others = nodes.into_iter().filter(|n| *n != one && !matches!(n, Node::Client(_)));
            for node in others {
                world.block(one, node);
                world.block(node, one);
            }
        },
    },
    Element {
        name: "heal",
        weight: |_| 8,
        draw: |_, at| vec![step(at, "heal", &[])],
        act: |world, _| world.heal(),
    },
    Element {
        name: "break-session",
        weight: |_| 4,
        draw: |random, at| vec![step(at, "break-session", &[random.below(1000)])],
        act: |world, numbers| {
            let sessions: Vec<u64> = world.network.sessions.keys().copied().collect();
            if let Some(session) = pick(&sessions, numbers, 0) {
                world.break_session(session);
            }
        },
    },
    // Messages between daemons come twice, the second time late; and what is under way when a session breaks
    // comes after all, behind what was sent on the next one.
    Element {
        name: "echoes",
        weight: |_| 3,
        draw: |random, at| {
            vec![step(at, "echoes", &[1 + random.below(100), 1000 + random.below(10_000)])]
        },
        act: |world, numbers| {
            world.echo_permille = numbers.first().copied().unwrap_or(10).min(200);
            let lasts = numbers.get(1).copied().unwrap_or(1000);
            world.echo_until = world.now + Duration::from_millis(lasts);
        },
    },
    // All that a node says, or hears, takes long.
    Element {
        name: "slow-node",
        weight: |_| 3,
        draw: |random, at| {
            vec![step(at, "slow-node", &[random.below(60), 500 + random.below(6000)])]
        },
        act: |world, numbers| {
            if let Some(node) = pick(&world.nodes(), numbers, 0) {
                let lasts = Duration::from_millis(numbers.get(1).copied().unwrap_or(1000));
                world.network.slow_until.insert(node, world.now + lasts);
            }
        },
    },
];

fn heal_later(pause_ms: u64, at: u64) -> Step {
    step(at + 200 + pause_ms, "heal", &[])
}

fn pair(world: &World, numbers: &[u64]) -> Option<(Node, Node)> {
    let nodes = world.nodes();
    let (one, other) = (pick(&nodes, numbers, 0)?, pick(&nodes, numbers, 1)?);
    (one != other).then_some((one, other))
}
