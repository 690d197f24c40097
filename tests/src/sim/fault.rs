//! What is done to the cluster while clients work.

use crate::sim::network::Node;
use crate::sim::world::{Happening, World};
use std::time::Duration;

/// Longest time between two deeds.
const PAUSE_MAX: Duration = Duration::from_millis(3000);

/// Does one thing to the cluster and plans the next.
pub fn strike(world: &mut World) {
    if !world.faulty {
        return;
    }
    let running = world.running();
    let down: Vec<usize> =
        (0..world.daemons.len()).filter(|i| world.daemons[*i].machine.is_none()).collect();
    match world.random.below(100) {
        0..=19 => {
            if let Some(i) = world.random.pick(&running).copied() {
                world.deed("daemon killed");
                world.crash_daemon(i);
            }
        }
        20..=47 => {
            if let Some(i) = world.random.pick(&down).copied() {
                world.deed("daemon started");
                world.start_daemon(i);
            }
        }
        48..=53 => {
            if let Some(i) = world.random.pick(&running).copied() {
                world.deed("daemon killed and started at once");
                world.crash_daemon(i);
                world.start_daemon(i);
            }
        }
        54..=55 => {
            world.deed("all daemons killed");
            running.iter().for_each(|i| world.crash_daemon(*i));
        }
        56..=61 => {
            if world.monitor.machine.is_some() {
                world.deed("monitor killed");
                world.crash_monitor();
            } else {
                world.deed("monitor started");
                world.start_monitor();
            }
        }
        62..=64 if world.monitor.machine.is_none() => {
            world.deed("monitor started");
            world.start_monitor();
        }
        62..=74 => part(world),
        75..=86 => {
            world.deed("partitions healed");
            world.heal();
        }
        87..=91 => {
            if let Some(i) = world.random.pick(&running).copied() {
                world.deed("disk slow");
                world.daemons[i].slow_until = world.now + Duration::from_secs(3);
            }
        }
        92..=95 => {
            let sessions: Vec<u64> = world.network.sessions.keys().copied().collect();
            if let Some(session) = world.random.pick(&sessions).copied() {
                world.deed("session broken");
                world.break_session(session);
            }
        }
        _ => crate::sim::check::replicas::damage_something(world),
    }
    let pause = match world.random.below(3) {
        0 => world.random.between(Duration::ZERO, Duration::from_millis(100)),
        _ => world.random.between(Duration::ZERO, PAUSE_MAX),
    };
    world.after(pause, Happening::Fault);
}

/// Parts a node from some or all others, in one direction or both.
fn part(world: &mut World) {
    let nodes = world.nodes();
    let (Some(one), Some(other)) =
        (world.random.pick(&nodes).copied(), world.random.pick(&nodes).copied())
    else {
        return;
    };
    if one == other {
        return;
    }
    match world.random.below(4) {
        // Peers still hear it: it keeps its leases while the monitor gives it up.
        0 => {
            world.deed("parted from the monitor");
            world.block(one, Node::Monitor);
            world.block(Node::Monitor, one);
        }
        1 => {
            world.deed("one direction parted");
            world.block(one, other);
        }
        2 => {
            world.deed("pair parted");
            world.block(one, other);
            world.block(other, one);
        }
        _ => {
            world.deed("node cut off");
            for node in nodes.into_iter().filter(|n| *n != one && !matches!(n, Node::Client(_))) {
                world.block(one, node);
                world.block(node, one);
            }
        }
    }
}

/// Everything is mended: all run, all hear each other.
pub fn mend(world: &mut World) {
    world.faulty = false;
    world.heal();
    if world.monitor.machine.is_none() {
        world.start_monitor();
    }
    for i in 0..world.daemons.len() {
        world.daemons[i].slow_until = world.now;
        if world.daemons[i].machine.is_none() {
            world.start_daemon(i);
        }
    }
}
