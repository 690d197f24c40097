//! The monitor dies, stops to lead, and comes back; maps arrive late.

use super::{Element, pick};
use crate::sim::schedule::step;
use std::time::Duration;

pub(super) const TABLE: &[Element] = &[
    Element {
        name: "monitor-crash",
        weight: |_| 5,
        draw: |random, at| {
            let back = at + [random.below(1000), random.below(20_000)][random.below(2) as usize];
            vec![step(at, "monitor-crash", &[]), step(back, "monitor-start", &[])]
        },
        act: |world, _| world.crash_monitor(),
    },
    Element {
        name: "monitor-start",
        weight: |_| 0,
        draw: |_, at| vec![step(at, "monitor-start", &[])],
        act: |world, _| {
            if world.monitor.machine.is_none() {
                world.start_monitor();
            }
        },
    },
    // Loses the lead, and wins it again: what was under way may have happened or not.
    Element {
        name: "monitor-deposed",
        weight: |_| 3,
        draw: |random, at| {
            let back = at + random.below(4000);
            vec![step(at, "monitor-deposed", &[]), step(back, "monitor-leads", &[])]
        },
        act: |world, _| world.depose_monitor(),
    },
    Element {
        name: "monitor-leads",
        weight: |_| 0,
        draw: |_, at| vec![step(at, "monitor-leads", &[])],
        act: |world, _| world.lead_monitor(),
    },
    Element {
        name: "map-lag",
        weight: |_| 5,
        draw: |random, at| vec![step(at, "map-lag", &[random.below(60), 500 + random.below(8000)])],
        act: |world, numbers| {
            if let Some(node) = pick(&world.nodes(), numbers, 0) {
                let lasts = Duration::from_millis(numbers.get(1).copied().unwrap_or(1000));
                world.map_lag.insert(node, world.now + lasts);
            }
        },
    },
];
