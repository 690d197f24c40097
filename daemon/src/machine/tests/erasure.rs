//! Groups with slots on a small world of daemons: what is asked of whom, what cannot be done, and shards that are
//! harmed are read around, made anew, and found by scrub.

use super::world::{PG, World};
use crate::machine::slots::Layout;
use crate::store::memory::Damage;
use bytes::Bytes;
use std::collections::BTreeMap;
use std::time::Duration;
use store_base::map::{Erasure, PoolKind, ScrubOrder, ScrubScope};
use store_base::op::{Op, Outcome, errno};
use store_base::*;

const CELL: u32 = 64;

fn id(n: i32) -> DaemonId {
    DaemonId(n)
}

fn erasure() -> Erasure {
    Erasure { data: 2, coding: 2, cell_bytes: CELL, ..Erasure::default() }
}

fn world() -> World {
    let mut world = World::new(5, 4, 3);
    let pool = world.map.pools.get_mut(&PG.pool).expect("the pool of the world");
    (pool.kind, pool.erasure) = (PoolKind::Erasure, Some(erasure()));
    world.auto = true;
    (0..5).for_each(|n| world.start(id(n)));
    world.run(Duration::from_millis(300));
    world.change(|record| {
        record.primary = id(0);
        record.members = (0..4).map(id).collect();
        record.holders = record.members.iter().copied().collect();
        record.slots = (0..4).map(|n| (id(n), n as u8)).collect();
    });
    world.run(Duration::from_millis(500));
    world
}

/// Asks the primary; the answer to each op.
fn ask(world: &mut World, tid: u64, object: &str, ops: Vec<Op>) -> Vec<(i32, Bytes)> {
    let primary = world.map.pgs[&PG].primary;
    world.answers.clear();
    world.ask(primary, 1, tid, 0, object, ops);
    world.run(Duration::from_millis(1500));
    match world.answers.pop() {
        Some((_, _, Outcome::Done { results, .. })) => {
            results.into_iter().map(|result| (result.code, result.data)).collect()
        }
        Some((_, _, Outcome::Refused { code, .. })) => vec![(code, Bytes::new())],
        other => panic!("no answer: {other:?}"),
    }
}

fn body(len: usize) -> Bytes {
    (0..len).map(|n| (n * 7 + n / 251) as u8).collect::<Vec<u8>>().into()
}

fn write(world: &mut World, tid: u64, object: &str, len: usize) {
    let done = ask(world, tid, object, vec![Op::WriteFull { data: body(len) }]);
    assert_eq!(done[0].0, 0);
}

fn read(world: &mut World, tid: u64, object: &str, offset: u64, length: u64) -> Bytes {
    let done = ask(world, tid, object, vec![Op::Read { offset, length }]);
    assert_eq!(done[0].0, 0, "{object}");
    done[0].1.clone()
}

/// Every member has its shard of this body.
fn check(world: &mut World, object: &str, body: &[u8]) {
    let shards = Layout::new(&erasure()).expect("there is such a code").shards(body);
    let record = world.map.pgs[&PG].clone();
    for member in record.members.clone() {
        let slot = record.slot(member).expect("a member has a slot");
        let mut right = shards[slot].clone();
        right.resize(body.len(), 0);
        let here = world.contents(member);
        let there = &here[&ObjectName::new(Bytes::copy_from_slice(object.as_bytes()))].1;
        assert!(there[..] == right[..], "{object} at {member}, slot {slot}");
    }
}

#[test]
fn a_small_read_asks_one_slot() {
    let mut world = world();
    write(&mut world, 1, "o", 1000);
    world.trace = true;
    let asks = |world: &World, to: i32| {
        let to = format!("osd.{to}");
        world.said.iter().filter(|line| line.contains("fetch") && line.contains(&to)).count()
    };
    world.said.clear();
    let whole = body(1000);
    assert_eq!(read(&mut world, 2, "o", 130, 20), whole.slice(130..150), "the primary's own");
    assert_eq!(world.said.iter().filter(|line| line.contains("fetch")).count(), 0);
    assert_eq!(read(&mut world, 3, "o", 70, 20), whole.slice(70..90));
    assert!(asks(&world, 1) > 0 && asks(&world, 2) == 0 && asks(&world, 3) == 0);
    assert_eq!(read(&mut world, 4, "o", 0, 0), whole);
    assert_eq!(asks(&world, 2) + asks(&world, 3), 0, "nothing is rebuilt that is there");
}

#[test]
fn there_is_no_omap() {
    let mut world = world();
    write(&mut world, 1, "o", 10);
    let entries = BTreeMap::from([(Bytes::from("k"), Bytes::from("v"))]);
    let set = ask(&mut world, 2, "o", vec![Op::OmapSet { entries }]);
    assert_eq!(set[0].0, -errno::EOPNOTSUPP);
    let header = ask(&mut world, 3, "o", vec![Op::OmapHeader {}]);
    assert_eq!(header[0].0, -errno::EOPNOTSUPP);
    let value = Bytes::from("v");
    let xattr =
        ask(&mut world, 4, "o", vec![Op::SetXattr { name: "x".into(), value: value.clone() }]);
    assert_eq!(xattr[0].0, 0);
    assert_eq!(ask(&mut world, 5, "o", vec![Op::Xattr { name: "x".into() }]), [(0, value)]);
    assert_eq!(read(&mut world, 6, "o", 0, 0), body(10));
}

#[test]
fn a_damaged_shard_is_read_around_and_made_anew() {
    for harmed in [vec![0], vec![1], vec![0, 1], vec![1, 3], vec![2, 3]] {
        let mut world = world();
        write(&mut world, 1, "o", 700);
        for daemon in &harmed {
            let name = ObjectName::new("o");
            world.nodes[&id(*daemon)].medium.harm(PG, &name, Damage::Unreadable);
        }
        assert_eq!(read(&mut world, 2, "o", 0, 0), body(700), "{harmed:?}");
        // In parts of stripes, on what is left; then everything is read.
        let data = Bytes::from_static(b"changed");
        assert_eq!(ask(&mut world, 3, "o", vec![Op::Write { offset: 100, data }])[0].0, 0);
        let mut whole = body(700).to_vec();
        whole[100..107].copy_from_slice(b"changed");
        assert_eq!(read(&mut world, 4, "o", 0, 0), whole, "{harmed:?}");
        scrub(&mut world);
        check(&mut world, "o", &whole);
    }
}

fn scrub(world: &mut World) {
    let number = world.map.next_scrub_order();
    let at = Timestamp::default();
    let scope = ScrubScope::All {};
    world.map.scrubs.insert(number, ScrubOrder { scope, deep: true, repair: false, at });
    world.publish();
    let primary = world.map.pgs[&PG].primary;
    for _ in 0..300 {
        let daemon = world.nodes[&primary].daemon.as_ref().expect("it runs");
        let record = daemon.pgs().next().expect("it has the group").scrub().clone();
        if record.order_done >= number {
            assert_eq!(record.errors(), 0, "{record:?}");
            return;
        }
        world.run(Duration::from_millis(200));
    }
    panic!("the scrub does not end");
}

#[test]
fn scrub_makes_damaged_shards_anew() {
    let mut world = world();
    for n in 0..12 {
        write(&mut world, 1 + n, &format!("o{n}"), 60 * n as usize + 1);
    }
    for n in 0..12 {
        let name = ObjectName::new(format!("o{n}").into_bytes());
        for daemon in [n % 4, (n / 2) % 4] {
            world.nodes[&id(daemon)].medium.harm(PG, &name, Damage::Unreadable);
        }
    }
    scrub(&mut world);
    for n in 0..12 {
        check(&mut world, &format!("o{n}"), &body(60 * n + 1));
    }
}

#[test]
fn another_slot_is_filled_from_nothing() {
    let mut world = world();
    write(&mut world, 1, "o", 900);
    // The last member leaves, and comes back in the slot of another who has left.
    let members: Vec<DaemonId> = [0, 1, 2].map(id).to_vec();
    world.reform(&members);
    world.run(Duration::from_secs(3));
    world.change(|record| {
        record.members = [0, 1].map(id).to_vec();
        record.holders = record.members.iter().copied().collect();
    });
    world.run(Duration::from_secs(3));
    for (daemon, slot) in [(3, 2), (4, 3)] {
        world.change(|record| {
            record.learners.insert(id(daemon));
            record.slots.insert(id(daemon), slot);
        });
        world.run(Duration::from_secs(5));
    }
    let record = world.map.pgs[&PG].clone();
    assert_eq!((record.width(), record.members.len()), (4, 4), "{record:?}");
    check(&mut world, "o", &body(900));
    // With those that were there from the start gone.
    world.crash(id(0), 0);
    world.crash(id(1), 0);
    world.reform(&[3, 4].map(id));
    world.run(Duration::from_secs(5));
    assert_eq!(read(&mut world, 9, "o", 0, 0), body(900));
}
