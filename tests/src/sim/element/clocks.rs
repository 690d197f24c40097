//! Wall clocks jump. (That monotonic clocks drift is part of every life: `World::new_life`.)

use super::{Element, pick};
use crate::sim::schedule::step;

pub(super) const TABLE: &[Element] = &[Element {
    name: "clock-jump",
    weight: |_| 2,
    draw: |random, at| vec![step(at, "clock-jump", &[random.below(60), random.below(100_000)])],
    act: |world, numbers| {
        if let Some(node) = pick(&world.nodes(), numbers, 0) {
            // Half of them back, some by much.
            let by = numbers.get(1).copied().unwrap_or(0) as i64;
            let by = if by % 2 == 0 { by } else { -by };
            world.jump_clock(node, if by % 5 == 0 { by } else { by % 30 });
        }
    },
}];
