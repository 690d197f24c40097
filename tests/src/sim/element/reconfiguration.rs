//! What operators do, at any moment: in, out, reweight, add, size and min_size, pools made and removed,
//! exceptions to CRUSH, flags.

use super::{Element, pick};
use crate::sim::schedule::step;
use crate::sim::world::World;
use store_base::DaemonId;

/// Daemons of a cluster at most, with those added during a run.
const DAEMONS_MAX: usize = 8;

pub(super) const TABLE: &[Element] = &[
    Element {
        name: "out",
        weight: |_| 4,
        draw: |random, at| {
            let who = random.below(60);
            let back = at + 500 + random.below(20_000);
            let mut steps = vec![step(at, "out", &[who])];
            if random.chance(700) {
                steps.push(step(back, "in", &[who]));
            }
            steps
        },
        act: |world, numbers| {
            if let Some(id) = known(world, numbers) {
                world.command(&format!(r#"{{"prefix": "osd out", "ids": ["{id}"]}}"#));
            }
        },
    },
    Element {
        name: "in",
        weight: |_| 0,
        draw: |random, at| vec![step(at, "in", &[random.below(60)])],
        act: |world, numbers| {
            if let Some(id) = known(world, numbers) {
                world.command(&format!(r#"{{"prefix": "osd in", "ids": ["{id}"]}}"#));
            }
        },
    },
    Element {
        name: "reweight",
        weight: |_| 3,
        draw: |random, at| vec![step(at, "reweight", &[random.below(60), 20 + random.below(81)])],
        act: |world, numbers| {
            if let Some(id) = known(world, numbers) {
                let weight = numbers.get(1).copied().unwrap_or(100).min(100);
                let (whole, part) = (weight / 100, weight % 100);
                world.command(&format!(
                    r#"{{"prefix": "osd reweight", "id": "{id}", "weight": {whole}.{part:02}}}"#
                ));
            }
        },
    },
    // Marked down though it lives: it comes up again at once.
    Element {
        name: "mark-down",
        weight: |_| 3,
        draw: |random, at| vec![step(at, "mark-down", &[random.below(60)])],
        act: |world, numbers| {
            if let Some(id) = known(world, numbers) {
                world.command(&format!(r#"{{"prefix": "osd down", "ids": ["{id}"]}}"#));
            }
        },
    },
    Element {
        name: "add-daemon",
        weight: |_| 2,
        draw: |_, at| vec![step(at, "add-daemon", &[])],
        act: |world, _| {
            if world.daemons.len() < DAEMONS_MAX {
                let i = world.add_daemon();
                world.start_daemon(i);
            }
        },
    },
    Element {
        name: "pool-size",
        weight: |_| 2,
        draw: |random, at| {
            let size = 2 + random.below(2);
            let back = at + 1000 + random.below(15_000);
            vec![step(at, "pool-size", &[size]), step(back, "pool-size", &[3])]
        },
        act: |world, numbers| {
            let size = numbers.first().copied().unwrap_or(3).clamp(2, 3);
            world.command(&pool_set("size", size));
        },
    },
    Element {
        name: "pool-min-size",
        weight: |_| 2,
        draw: |random, at| {
            let min_size = 1 + random.below(3);
            let back = at + 1000 + random.below(15_000);
            vec![step(at, "pool-min-size", &[min_size]), step(back, "pool-min-size", &[2])]
        },
        act: |world, numbers| {
            let min_size = numbers.first().copied().unwrap_or(2).clamp(1, 3);
            world.command(&pool_set("min_size", min_size));
        },
    },
    Element {
        name: "pool-create",
        weight: |_| 2,
        draw: |random, at| {
            let which = random.below(3);
            let gone = at + 500 + random.below(10_000);
            vec![
                step(at, "pool-create", &[which, 1 + random.below(4)]),
                step(gone, "pool-remove", &[which]),
            ]
        },
        act: |world, numbers| {
            let which = numbers.first().copied().unwrap_or(0);
            let pg_num = numbers.get(1).copied().unwrap_or(1).clamp(1, 8);
            world.command(&format!(
                r#"{{"prefix": "osd pool create", "pool": "x{which}", "pg_num": {pg_num}, "size": 3, "min_size": 2}}"#
            ));
        },
    },
    Element {
        name: "pool-remove",
        weight: |_| 0,
        draw: |_, at| vec![step(at, "pool-remove", &[0])],
        act: |world, numbers| {
            let which = numbers.first().copied().unwrap_or(0);
            world.command(&format!(
                r#"{{"prefix": "osd pool rm", "pool": "x{which}", "sure": "--yes-i-really-mean-it"}}"#
            ));
        },
    },
    // One placement group goes elsewhere, by hand.
    Element {
        name: "upmap",
        weight: |_| 3,
        draw: |random, at| {
            vec![step(at, "upmap", &[random.below(60), random.below(60), random.below(60)])]
        },
        act: |world, numbers| {
            let groups: Vec<_> = world.groups().into_iter().collect();
            let Some(pg) = pick(&groups, numbers, 0) else { return };
            let Some(map) = world.map() else { return };
            let Some(record) = map.pgs.get(&pg) else { return };
            let others: Vec<DaemonId> =
                map.daemons.keys().copied().filter(|id| !record.members.contains(id)).collect();
            let (Some(from), Some(to)) =
                (pick(&record.members, numbers, 1), pick(&others, numbers, 2))
            else {
                return;
            };
            world.command(&format!(
                r#"{{"prefix": "osd pg-upmap-items", "pgid": "{pg}", "id": ["{from}", "{to}"]}}"#
            ));
        },
    },
    Element {
        name: "norebalance",
        weight: |_| 1,
        draw: |random, at| {
            let back = at + 1000 + random.below(10_000);
            vec![step(at, "norebalance", &[1]), step(back, "norebalance", &[0])]
        },
        act: |world, numbers| {
            let set = if numbers.first() == Some(&1) { "set" } else { "unset" };
            world.command(&format!(r#"{{"prefix": "osd {set}", "key": "norebalance"}}"#));
        },
    },
];

fn known(world: &World, numbers: &[u64]) -> Option<DaemonId> {
    let ids: Vec<DaemonId> = world.map()?.daemons.keys().copied().collect();
    pick(&ids, numbers, 0)
}

/// Sets a value of the clients' pool.
pub(crate) fn pool_set(var: &str, value: u64) -> String {
    format!(r#"{{"prefix": "osd pool set", "pool": "p", "var": "{var}", "val": "{value}"}}"#)
}

/// Everything is as it was at first, but for daemons that were added.
pub(crate) fn undo(world: &mut World) {
    for which in 0..3 {
        world.command(&format!(
            r#"{{"prefix": "osd pool rm", "pool": "x{which}", "sure": "--yes-i-really-mean-it"}}"#
        ));
    }
    world.command(&pool_set("size", 3));
    world.command(&pool_set("min_size", 2));
    world.command(r#"{"prefix": "osd unset", "key": "norebalance"}"#);
    let Some(map) = world.map() else { return };
    let placed: Vec<_> = map.upmap_items.keys().copied().collect();
    let ids: Vec<DaemonId> = map.daemons.keys().copied().collect();
    for pg in placed {
        world.command(&format!(r#"{{"prefix": "osd rm-pg-upmap-items", "pgid": "{pg}"}}"#));
    }
    for id in ids {
        world.command(&format!(r#"{{"prefix": "osd reweight", "id": "{id}", "weight": 1.0}}"#));
    }
}
