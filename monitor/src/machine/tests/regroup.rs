//! Leads that are spread, pools that grow, and daemons that come back with an older copy.

use super::{World, three};
use std::collections::{BTreeMap, BTreeSet};
use store_base::ids::{DaemonId, Epoch, Interval, PgId, PoolId};
use store_base::wire::pg_ask;

/// What each daemon leads, and what it would if every group were led by all three members together.
fn led(world: &World) -> BTreeMap<DaemonId, (f64, f64)> {
    let mut led: BTreeMap<DaemonId, (f64, f64)> = BTreeMap::new();
    for record in world.map().pgs.values() {
        led.entry(record.primary).or_default().0 += 1.0;
        for member in &record.members {
            led.entry(*member).or_default().1 += 1.0 / record.members.len() as f64;
        }
    }
    led
}

#[test]
fn every_daemon_leads_its_share_again_after_restarts() {
    let mut world = World::new();
    for id in 0..4 {
        world.boot(id, 1);
    }
    world.json(r#"{"prefix": "osd pool create", "pool": "p", "pg_num": 64}"#);
    let check = |world: &mut World, what: &str| {
        for _ in 0..20 {
            world.settle();
            world.beats("active+clean");
            world.pass(1000);
        }
        for (id, (led, share)) in led(world) {
            assert!((led - share).abs() < 2.0, "{what}: {id} leads {led}, its share is {share}");
        }
        // It is even, and stays as it is.
        let epoch = world.map().epoch;
        world.beats("active+clean");
        world.pass(3000);
        assert_eq!(world.map().epoch, epoch, "{what}");
    };
    check(&mut world, "formed");
    for id in 0..3 {
        world.refused(3, id);
        world.settle();
        world.boot(id, 2);
        check(&mut world, "restarted");
    }
}

#[test]
fn a_pool_that_grows_gives_children_what_the_parent_had() {
    let mut world = three();
    world.refused(0, 2);
    world.settle();
    let before = world.map().clone();
    let reply =
        world.command(r#"{"prefix": "osd pool set", "pool": "p", "var": "pg_num", "val": "20"}"#);
    assert_eq!(reply.code, 0, "{}", reply.status);
    let pool = &world.map().pools[&PoolId(1)];
    assert_eq!((pool.pg_num, pool.pgp_num, world.map().pgs.len()), (20, 8, 20));
    assert_eq!(pool.resend_since, world.map().epoch, "clients ask again");
    for (pg, record) in &world.map().pgs {
        let parent = (0..8).map(|seed| PgId { seed, ..*pg });
        let mut parent = parent.filter(|id| id == pg || pg.is_child_of(*id, 8));
        let parent = &before.pgs[&parent.next_back().expect("everybody has one")];
        assert_eq!((&record.members, &record.holders), (&parent.members, &parent.holders), "{pg}");
        assert_eq!(record.confirmed, parent.confirmed, "{pg}");
        let is_split = pg.seed >= 8 || pg.children(8, 20).count() > 0;
        let raised = u32::from(is_split);
        assert_eq!(record.interval, Interval(parent.interval.0 + raised), "{pg}");
    }
    // The data follows, a part at a time, when all is clean.
    world.boot(2, 2);
    let mut steps = BTreeSet::new();
    for _ in 0..60 {
        world.settle();
        world.beats("active+clean");
        world.pass(1000);
        steps.insert(world.map().pools[&PoolId(1)].pgp_num);
    }
    assert!((9..=20).all(|n| steps.contains(&n)), "one group at a time of so few: {steps:?}");
    let reply =
        world.command(r#"{"prefix": "osd pool set", "pool": "p", "var": "pg_num", "val": "8"}"#);
    assert!(reply.code != 0 && reply.status.contains("not merged"), "{}", reply.status);
}

#[test]
fn groups_that_are_split_and_formed_in_one_commit_have_intervals() {
    let mut world = World::new();
    world.json(
        r#"{"prefix": "osd pool create", "pool": "p", "pg_num": 3, "size": 1, "min_size": 1}"#,
    );
    world.json(r#"{"prefix": "osd pool set", "pool": "p", "var": "pg_num", "val": "5"}"#);
    assert!(world.map().pgs.values().all(|record| record.members.is_empty()));
    world.boot(0, 1);
    assert!(world.map().pgs.values().all(|record| record.interval == Interval(1)));
    assert!(world.map().pgs.values().all(|record| record.since != Epoch(0)));
}

#[test]
fn an_old_copy_is_no_holder_unless_it_is_the_last() {
    let mut world = three();
    let pg: PgId = "1.3".parse().expect("a group");
    world.refused(0, 2);
    world.settle();
    world.boot(2, 2);
    world.settle();
    let record = world.pg("1.3");
    assert!(record.holders.contains(&DaemonId(2)) && record.confirmed > Interval(1));
    // Its directory was restored from a backup; it says so, and learns.
    world.ask_pg(2, pg, pg_ask::Kind::Disown, 0);
    let record = world.pg("1.3");
    assert!(!record.holders.contains(&DaemonId(2)) && !record.members.contains(&DaemonId(2)));
    assert!(!record.writers.contains(&DaemonId(2)));
    world.ask_pg(1, pg, pg_ask::Kind::Disown, 0);
    assert_eq!(world.pg("1.3").holders, [DaemonId(0)].into());
    let before = world.pg("1.3");
    world.ask_pg(0, pg, pg_ask::Kind::Disown, 0);
    assert_eq!(world.pg("1.3"), before, "there is nobody to learn from");
}
