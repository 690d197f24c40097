//! Even placement: daemons near their shares with few moves, no to and fro, domains kept, plans that hold.

use super::*;
use crate::machine::balance::share::COPY;
use crate::machine::balance::{self, BOUNDS, movement};
use crate::machine::placement::Targets;
use crate::machine::placement::field::Field;
use serde_json::Value;
use std::collections::BTreeSet;
use store_base::crush::{CrushMap, ROOT_DEFAULT};
use store_base::map::{DaemonInfo, Pool};

/// So many daemons on hosts of so many, and a pool of groups that nobody has yet.
fn cluster(daemons: i32, per_host: i32, groups: u32, size: u8) -> OsdMap {
    let mut map = OsdMap { crush: CrushMap::new(), ..OsdMap::default() };
    placement::prepare(&mut map.crush);
    (0..daemons).for_each(|id| add(&mut map, id, id / per_host, 1 << 16));
    let rule = placement::rule_for(&mut map.crush, store_base::map::PoolKind::Replicated, size);
    let pool = Pool { size, pg_num: groups, pgp_num: groups, crush_rule: rule, ..Pool::default() };
    map.pools.insert(PoolId(1), pool);
    for seed in 0..groups {
        map.pgs.insert(PgId { pool: PoolId(1), seed }, groups::unformed());
    }
    map
}

fn add(map: &mut OsdMap, id: i32, host: i32, weight: u32) {
    let host = format!("h{host}");
    let location = [("root", ROOT_DEFAULT), ("host", host.as_str())];
    map.crush.insert_device(DaemonId(id), weight, &location).expect("it fits");
    let info = DaemonInfo { up: true, weight: 1 << 16, ..DaemonInfo::default() };
    map.daemons.insert(DaemonId(id), DaemonInfo { primary_affinity: 1 << 16, host, ..info });
}

fn settle(targets: &mut Targets, map: &mut OsdMap, is_on: bool) {
    if let Some(upmaps) = balance::settle(targets, map, &View::default(), is_on) {
        map.upmap_items = upmaps;
        targets.refresh(map);
    }
}

fn placed(map: &OsdMap, targets: &Targets) -> BTreeMap<PgId, Vec<DaemonId>> {
    map.pgs.keys().map(|pg| (*pg, targets.placed(*pg).collect())).collect()
}

/// Daemons of `after` that are not in `before`, over all groups.
fn moves(before: &BTreeMap<PgId, Vec<DaemonId>>, after: &BTreeMap<PgId, Vec<DaemonId>>) -> usize {
    after.iter().map(|(pg, ids)| ids.iter().filter(|id| !before[pg].contains(id)).count()).sum()
}

/// Every group has all its copies, in different domains, on daemons that are in; every daemon is near its share.
fn check(map: &OsdMap, targets: &Targets, what: &str) {
    for (id, pool) in &map.pools {
        let field = Field::of(map, pool.crush_rule).expect("one root");
        for seed in 0..pool.pg_num {
            let ids: Vec<_> = targets.placed(PgId { pool: *id, seed }).collect();
            assert_eq!(ids.len(), usize::from(pool.size), "{what}: {seed} {ids:?}");
            let domains: BTreeSet<_> = ids
                .iter()
                .map(|id| field.candidates[field.place(*id).expect("it is in")].domain)
                .collect();
            assert_eq!(domains.len(), ids.len(), "{what}: {seed} {ids:?}");
        }
    }
    for spread in balance::spread(targets, map) {
        assert!(spread.is_level, "{what}: {spread:?}");
    }
    // What the map says is what targets are made of.
    let mut again = Targets::default();
    again.refresh(map);
    assert_eq!(placed(map, &again), placed(map, targets), "{what}: a new leader sees the same");
}

#[test]
fn adding_one_daemon_to_four_moves_its_share_and_no_more() {
    for groups in [8, 32, 64, 256] {
        let mut map = cluster(4, 1, groups, 3);
        let mut targets = Targets::default();
        settle(&mut targets, &mut map, true);
        check(&map, &targets, "four");
        let before = placed(&map, &targets);
        add(&mut map, 4, 4, 1 << 16);
        settle(&mut targets, &mut map, true);
        check(&map, &targets, "five");
        let moved = moves(&before, &placed(&map, &targets));
        let share = groups as usize * 3 / 5;
        assert!(moved <= share + 1 && moved + 2 > share * 95 / 100, "{groups}: {moved} of {share}");
    }
}

#[test]
fn changes_of_weight_move_what_they_must_and_keep_domains() {
    let mut map = cluster(12, 2, 256, 3);
    let mut targets = Targets::default();
    settle(&mut targets, &mut map, true);
    check(&map, &targets, "made");
    let share = 256 * 3 / 12;
    let mut before = placed(&map, &targets);
    let mut step = |map: &mut OsdMap, what: &str, most: usize| {
        settle(&mut targets, map, true);
        check(map, &targets, what);
        let after = placed(map, &targets);
        let moved = moves(&before, &after);
        assert!(moved <= most, "{what}: {moved} copies moved, {most} would do");
        before = after;
    };
    map.daemons.get_mut(&DaemonId(5)).expect("there").weight = 0;
    step(&mut map, "out", share + share / 5);
    map.daemons.get_mut(&DaemonId(5)).expect("there").weight = 1 << 16;
    step(&mut map, "in again", share + share / 5);
    map.daemons.get_mut(&DaemonId(7)).expect("there").weight = 1 << 15;
    step(&mut map, "half in", share / 2 + share / 5);
    map.daemons.get_mut(&DaemonId(7)).expect("there").up = false;
    step(&mut map, "down moves nothing", 0);
    map.daemons.get_mut(&DaemonId(7)).expect("there").up = true;
    for id in [12, 13] {
        add(&mut map, id, 6, 2 << 16);
    }
    // A host of four weights of eleven and a half and four.
    step(&mut map, "a big host", 256 * 3 * 4 / 15 + share / 4);
    map.pools.get_mut(&PoolId(1)).expect("there").size = 2;
    step(&mut map, "two copies", 256 / 8);
    map.pools.get_mut(&PoolId(1)).expect("there").size = 3;
    step(&mut map, "three copies", 256 + 256 / 8);
}

#[test]
fn the_balancer_evens_out_what_crush_left_with_few_moves_and_stops() {
    let mut map = cluster(20, 2, 512, 3);
    let mut targets = Targets::default();
    settle(&mut targets, &mut map, false);
    assert!(map.upmap_items.is_empty());
    let share = |id: i32| {
        let on = placed(&map, &targets).values().filter(|ids| ids.contains(&DaemonId(id))).count();
        on as i64 * COPY - 512 * 3 * COPY / 20
    };
    let surplus: i64 = (0..20).map(|id| share(id).max(0)).sum::<i64>() / COPY;
    let before = placed(&map, &targets);
    let mut rounds = 0;
    while let Some(upmaps) = balance::step(&targets, &map, &View::default(), 8) {
        let was = placed(&map, &targets);
        map.upmap_items = upmaps;
        targets.refresh(&map);
        assert!(moves(&was, &placed(&map, &targets)) <= 8, "paced");
        rounds += 1;
        assert!(rounds < 200, "it ends");
    }
    assert!(rounds > 1, "CRUSH was not even");
    check(&map, &targets, "level");
    let moved = moves(&before, &placed(&map, &targets));
    assert!(moved as i64 <= surplus, "{moved} moves for a surplus of {surplus}");
    assert_eq!(BOUNDS.trigger, 30, "a few per cent");
}

#[test]
fn slots_of_erasure_coded_groups_keep_their_places() {
    let mut map = cluster(9, 1, 64, 6);
    let rule = placement::erasure_rule(&mut map.crush, "host").expect("there is room");
    let pool = map.pools.get_mut(&PoolId(1)).expect("there");
    pool.kind = store_base::map::PoolKind::Erasure;
    pool.crush_rule = rule;
    let mut targets = Targets::default();
    settle(&mut targets, &mut map, true);
    check(&map, &targets, "made");
    let slots = |targets: &Targets| targets.pools[&PoolId(1)].placed.clone();
    let before = slots(&targets);
    map.daemons.get_mut(&DaemonId(3)).expect("there").weight = 0;
    settle(&mut targets, &mut map, true);
    check(&map, &targets, "out");
    let after = slots(&targets);
    let pairs = before.iter().flatten().zip(after.iter().flatten());
    let changed = pairs.clone().filter(|(was, is)| was != is).count();
    let on_it = pairs.filter(|(was, _)| **was == Some(DaemonId(3))).count();
    assert!(changed <= on_it + on_it / 4, "{changed} slots changed, {on_it} had to");
}

#[test]
fn a_daemon_that_is_in_by_a_part_leaves_no_group_short() {
    let mut map = cluster(3, 1, 64, 3);
    for id in 0..2 {
        map.daemons.get_mut(&DaemonId(id)).expect("there").weight = 1 << 12;
    }
    let mut targets = Targets::default();
    targets.refresh(&map);
    let short = map.pgs.keys().filter(|pg| map.up_set(**pg).is_some_and(|up| up.slots.len() < 3));
    assert!(short.count() > 0, "CRUSH alone gives up");
    assert!(map.pgs.keys().all(|pg| targets.of(*pg).len() == 3));
}

#[test]
fn exceptions_that_lost_their_sense_are_dropped_when_nobody_makes_new_ones() {
    let mut map = cluster(6, 2, 16, 3);
    let mut targets = Targets::default();
    settle(&mut targets, &mut map, false);
    let pg = PgId { pool: PoolId(1), seed: 0 };
    let ids: Vec<_> = targets.placed(pg).collect();
    // The other daemon of the same host, which keeps domains apart; and one that does not.
    let sibling = |id: DaemonId| DaemonId(id.0 ^ 1);
    map.upmap_items.insert(pg, vec![(ids[0], sibling(ids[0])), (ids[1], sibling(ids[2]))]);
    map.daemons.get_mut(&ids[2]).expect("there").weight -= 1;
    settle(&mut targets, &mut map, false);
    assert_eq!(map.upmap_items[&pg], [(ids[0], sibling(ids[0]))]);
    map.daemons.get_mut(&sibling(ids[0])).expect("there").weight = 0;
    settle(&mut targets, &mut map, false);
    assert_eq!(map.upmap_items.len(), 0);
}

#[test]
fn many_groups_on_many_daemons_are_placed_in_time() {
    // A tenth of the largest cluster in each direction; the work grows with groups, not with their square.
    let mut map = cluster(1000, 20, 10_000, 3);
    let mut targets = Targets::default();
    settle(&mut targets, &mut map, true);
    check(&map, &targets, "made");
    let before = placed(&map, &targets);
    add(&mut map, 1000, 50, 1 << 16);
    settle(&mut targets, &mut map, true);
    check(&map, &targets, "one more");
    assert!(moves(&before, &placed(&map, &targets)) <= 40);
}

/// Four daemons on four hosts, and a pool of 32 groups, each of so many objects of 4 KiB.
fn four(objects: impl Fn(u32) -> u64) -> World {
    let mut world = World::new();
    for id in 0..4 {
        assert_eq!(world.boot(id, 1).refused, "");
    }
    world.json(r#"{"prefix": "osd pool create", "pool": "p", "pg_num": 32}"#);
    world.settle();
    tell(&mut world, &objects, &BTreeMap::new());
    world
}

fn tell(world: &mut World, objects: &dyn Fn(u32) -> u64, brought: &BTreeMap<DaemonId, u64>) {
    let map = world.map().clone();
    for (id, info) in map.daemons.iter().filter(|(_, info)| info.up) {
        let led = map.pgs.iter().filter(|(_, record)| record.primary == *id);
        let reports = led.map(|(pg, record)| PgReport {
            pool: pg.pool.0 as u64,
            seed: pg.seed,
            interval: record.interval.0,
            state: "active".to_string(),
            objects: objects(pg.seed),
            bytes: objects(pg.seed) * 4096,
            missing: record.learners.len() as u64,
            primary: true,
            ..PgReport::default()
        });
        let bytes = brought.get(id).copied().unwrap_or(0);
        let beat = wire::BeatRequest {
            daemon: id.0,
            incarnation: info.incarnation.0,
            epoch: map.epoch.0,
            pgs: reports.collect(),
            all_pgs: true,
            capacity_bytes: 1 << 40,
            used_bytes: 1 << 30,
            recovered_bytes: bytes,
            recovered_objects: bytes / 4096,
            ..wire::BeatRequest::default()
        };
        world.ask(Request::Beat(beat));
    }
}

fn number(value: &Value, name: &str) -> u64 {
    value[name].as_u64().unwrap_or_else(|| panic!("{name} in {value}"))
}

#[test]
fn what_the_plan_for_a_daemon_says_is_what_its_coming_does() {
    for uneven in [1, 3, 40] {
        let objects = |seed: u32| u64::from(100 + seed * 7 % uneven * 10);
        let mut world = four(objects);
        let plan = world.json(r#"{"prefix": "rebalance plan", "add": 1}"#);
        let ratio = plan["ratio"].as_f64().expect("a number");
        assert!((0.8..=1.2).contains(&ratio), "{uneven}: {plan}");
        assert_eq!(number(&plan, "pgs_unreported"), 0);
        world.boot(4, 1);
        let map = world.map().clone();
        let learners = map.pgs.iter().filter(|(_, record)| !record.learners.is_empty());
        let pgs: BTreeSet<String> = learners.clone().map(|(pg, _)| pg.to_string()).collect();
        let named = plan["moves"].as_array().expect("a list").iter();
        let named: BTreeSet<String> =
            named.map(|one| one["pgid"].as_str().unwrap_or_default().to_string()).collect();
        assert_eq!(pgs, named, "the groups that the plan names, and no others");
        let bytes: u64 = learners
            .map(|(pg, record)| record.learners.len() as u64 * objects(pg.seed) * 4096)
            .sum();
        assert_eq!(bytes, number(&plan, "bytes"));
        let status = world.json(r#"{"prefix": "rebalance status"}"#);
        assert_eq!(status["movement"]["state"], "running", "{status}");
        assert_eq!(number(&status["movement"], "bytes_planned"), bytes);
        assert_eq!(status["movement"]["cause"], "added: osd.4");
        world.settle();
        let brought = BTreeMap::from([(DaemonId(4), bytes)]);
        for _ in 0..(movement::COUNTS_COME.as_secs() + 3) {
            tell(&mut world, &objects, &brought);
            world.pass(1000);
        }
        let status = world.json(r#"{"prefix": "rebalance status"}"#);
        assert_eq!(status["movement"]["state"], "done", "{status}");
        assert_eq!(status["movement"]["moved_to_plan"], 1.0, "{status}");
        assert_eq!(status["balancing"], Value::Null, "nothing was left for the balancer");
        // What comes later is not counted in it.
        let later = BTreeMap::from([(DaemonId(4), bytes * 2)]);
        tell(&mut world, &objects, &later);
        let status = world.json(r#"{"prefix": "rebalance status"}"#);
        assert_eq!(number(&status["movement"], "bytes_moved"), bytes);
        let balancer = world.json(r#"{"prefix": "balancer status"}"#);
        assert_eq!(balancer["state"], "level", "{balancer}");
    }
}

#[test]
fn plans_change_nothing_and_say_what_they_cannot_take() {
    let mut world = four(|_| 100);
    let epoch = world.map().epoch;
    let json = |world: &mut World, args: &str| {
        world.json(&format!(r#"{{"prefix": "rebalance plan"{args}}}"#))
    };
    assert_eq!(number(&json(&mut world, ""), "copies"), 0, "level already");
    let drain = json(&mut world, r#", "drain": "3""#);
    assert_eq!(number(&drain, "copies"), 24, "{drain}");
    assert!(drain["ratio"].as_f64().is_some_and(|ratio| ratio <= 1.2), "{drain}");
    assert_eq!(number(&json(&mut world, r#", "rm": "osd.3""#), "copies"), 24);
    let half = number(&json(&mut world, r#", "reweight": "3=0.5""#), "copies");
    assert!((8..=12).contains(&half), "{half}");
    assert!(number(&json(&mut world, r#", "crush_reweight": ["1=2", "2=2"]"#), "copies") > 0);
    let two = json(&mut world, r#", "add": 2, "weight": 2, "host": "h0""#);
    assert_eq!(two["daemons"].as_array().map(Vec::len), Some(6), "{two}");
    assert_eq!(world.map().epoch, epoch);
    for (args, code) in [
        (r#", "drain": "9""#, 2),
        (r#", "reweight": "3""#, 22),
        (r#", "reweight": "3=7""#, 22),
        (r#", "reweight": "9=1""#, 2),
        (r#", "add": 0"#, 22),
        (r#", "host": "a""#, 22),
        (r#", "add": 1, "host": "a b!""#, 22),
    ] {
        let reply = world.command(&format!(r#"{{"prefix": "rebalance plan"{args}}}"#));
        assert_eq!(reply.code, -code, "{args}: {}", reply.status);
    }
}

#[test]
fn the_balancer_waits_for_quiet_and_for_flags_and_is_switched_off_and_on() {
    let mut world = four(|_| 100);
    world.json(r#"{"prefix": "balancer off"}"#);
    let placed_by_hand: Vec<String> = world.map().upmap_items.keys().map(PgId::to_string).collect();
    for pg in placed_by_hand {
        world.json(&format!(r#"{{"prefix": "osd rm-pg-upmap-items", "pgid": "{pg}"}}"#));
    }
    world.settle();
    let rounds = |world: &mut World, count: usize| {
        for _ in 0..count {
            tell(world, &|_| 100, &BTreeMap::new());
            world.pass(1000);
            world.settle();
        }
    };
    rounds(&mut world, 5);
    assert_eq!(world.map().upmap_items.len(), 0);
    let state = |world: &mut World| world.json(r#"{"prefix": "balancer status"}"#);
    assert_eq!(state(&mut world)["state"], "off");
    assert_eq!(state(&mut world)["level"], false, "CRUSH alone is not even");
    let plan = world.json(r#"{"prefix": "rebalance plan"}"#);
    assert_eq!(number(&plan, "copies"), 0, "nobody plans anything");
    for flag in ["norebalance", "nobackfill"] {
        world.json(&format!(r#"{{"prefix": "osd set", "key": "{flag}"}}"#));
        world.json(r#"{"prefix": "balancer on"}"#);
        rounds(&mut world, 5);
        assert_eq!(state(&mut world)["state"], format!("held back by {flag}").as_str());
        assert_eq!(world.map().upmap_items.len(), 0);
        world.json(&format!(r#"{{"prefix": "osd unset", "key": "{flag}"}}"#));
        world.json(r#"{"prefix": "balancer off"}"#);
    }
    // Somebody is down: not now.
    world.json(r#"{"prefix": "balancer on"}"#);
    world.refused(0, 3);
    world.settle();
    rounds(&mut world, 5);
    assert_eq!(world.map().upmap_items.len(), 0);
    world.boot(3, 2);
    world.settle();
    let plan = number(&world.json(r#"{"prefix": "rebalance plan"}"#), "copies");
    assert!(plan > 0);
    rounds(&mut world, 20);
    assert_eq!(state(&mut world)["state"], "level");
    let status = world.json(r#"{"prefix": "rebalance status"}"#);
    assert_eq!(status["balancing"]["state"], "done", "{status}");
    assert_eq!(number(&status["balancing"], "copies_planned"), plan);
    // Nothing comes and goes.
    let (epoch, items) = (world.map().epoch, world.map().upmap_items.clone());
    rounds(&mut world, 30);
    assert_eq!((world.map().epoch, &world.map().upmap_items), (epoch, &items));
}
