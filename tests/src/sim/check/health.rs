//! Whenever health says OK, the judge's own count over all stores agrees: every group has as many members
//! as its pool wants copies, each runs, and each has every object of the same version.
//!
//! Health is told from reports. A daemon that has just died is noticed after `NOTICE`; until then its disk
//! still has what it had, and health may not know.

use super::{Checker, copies};
use crate::sim::world::World;
use std::time::Duration;
use store_monitor::machine::health::Severity;

/// Silence is noticed after this long: what the monitor calls stale, on a clock that may be slow, and a beat.
const NOTICE: Duration = Duration::from_secs(8);

/// See the module.
#[derive(Default)]
pub struct Health;

impl Checker for Health {
    fn name(&self) -> &'static str {
        "health"
    }

    fn sampled(&mut self, world: &World) -> Vec<String> {
        let Some(monitor) = world.monitor.machine.as_ref() else { return Vec::new() };
        let report = monitor.health(world.monitor.life.local(world.now));
        match report.status() {
            Severity::Ok => {
                count(world).into_iter().map(|what| format!("OK, but {what}")).collect()
            }
            _ => Vec::new(),
        }
    }
}

/// What is not well, by the judge's own count.
pub fn count(world: &World) -> Vec<String> {
    let Some(map) = world.map() else { return vec!["nobody leads".into()] };
    let mut wrong = Vec::new();
    for (pg, record) in &map.pgs {
        let Some(pool) = map.pools.get(&pg.pool) else { continue };
        if record.width() < usize::from(pool.size) {
            wrong.push(format!("{pg} has {} members of {}", record.width(), pool.size));
        }
        if !record.is_active() {
            wrong.push(format!("{pg} is not active: {record:?}"));
        }
        let Some(first) = copies::freshest(world, *pg, record) else { continue };
        let Some(all) = copies::shown(world, first, *pg) else { continue };
        let applied = world.daemons[first]
            .machine
            .as_ref()
            .and_then(|machine| Some(machine.pg(*pg)?.applied()))
            .unwrap_or_default();
        for id in &record.members {
            let Some(i) = world.place_of(*id) else {
                let place = world.daemons.iter().find(|node| node.last_id == Some(*id));
                let since = world
                    .lost
                    .get(id)
                    .map(|(at, _)| *at)
                    .or_else(|| place.map(|node| node.down_since));
                if since.is_some_and(|since| world.now.since(since) > NOTICE) {
                    wrong.push(format!("{pg}: the member {id} does not run"));
                }
                continue;
            };
            if i != first {
                let lacking = copies::lacks(world, i, *pg, &all, applied);
                let lacking = lacking.first();
                wrong.extend(lacking.map(|what| format!("{pg}: {id} lacks {what}")));
            }
        }
    }
    wrong
}
