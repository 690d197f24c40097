//! The end of a run: everything is read and compared, and what rotted is whole again.
//!
//! Proves that a deep scrub finds and repairs every copy that the adversary damaged: the judge's own comparison
//! of the copies afterwards knows no excuse, while the monitor says that all is well.

use crate::sim::element;
use crate::sim::run::{is_whole, until};
use crate::sim::schedule::Schedule;
use crate::sim::world::World;
use std::time::Duration;

/// A deep scrub of a run's few objects is over after this long.
const SCRUB_MAX: Duration = Duration::from_secs(120);

/// Has all copies read, and waits until that is done and the monitor says that all is well.
pub fn scrub(world: &mut World, _: &Schedule) {
    if world.given_up {
        return;
    }
    world.scrubbing = true;
    until(world, SCRUB_MAX, "scrub: none can be ordered", |world| {
        world.command(r#"{"prefix": "scrub start", "deep": true}"#);
        world.run_until(world.now + Duration::from_millis(500));
        match orders(world) {
            Some(1..) => Ok(()),
            orders => Err(format!("{orders:?} orders")),
        }
    });
    until(world, SCRUB_MAX, "scrub: does not end", |world| match orders(world) {
        Some(0) => Ok(()),
        orders => Err(format!("{orders:?} orders")),
    });
    until(world, SCRUB_MAX, "scrub: not well after it", |world| {
        // A disk may have been lost so lately that nobody has missed it before.
        element::purge(world);
        is_whole(world)
    });
    world.scrubbed = true;
}

fn orders(world: &World) -> Option<usize> {
    Some(world.monitor.machine.as_ref()?.osd_map()?.scrubs.len())
}
