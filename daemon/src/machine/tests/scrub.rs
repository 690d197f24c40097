//! Scrub on a small world of daemons: what is harmed on a medium is found, mended, looked at again, and told.

use super::world::{PG, World};
use crate::machine::*;
use crate::store::memory::Damage;
use bytes::Bytes;
use std::collections::BTreeMap;
use std::time::Duration;
use store_base::map::{ScrubOrder, ScrubScope};
use store_base::op::{Op, Outcome};
use store_base::*;

const OBJECTS: u64 = 100;

fn id(n: i32) -> DaemonId {
    DaemonId(n)
}

/// A group of `size` daemons with objects of some sizes, some with omaps.
fn world(size: u8) -> World {
    let mut world = World::new(size.into(), size, size.min(2));
    world.auto = true;
    (0..size).for_each(|n| world.start(id(n.into())));
    world.run(Duration::from_millis(300));
    let members: Vec<_> = (0..size).map(|n| id(n.into())).collect();
    world.reform(&members);
    world.run(Duration::from_millis(500));
    for n in 0..OBJECTS {
        write(&mut world, n, &format!("o{n}"));
    }
    world.run(Duration::from_millis(500));
    assert_eq!(world.answers.len() as u64, OBJECTS);
    world
}

fn write(world: &mut World, n: u64, object: &str) {
    let data = Bytes::from(vec![n as u8; 1 + 700 * n as usize]);
    let entries: BTreeMap<Bytes, Bytes> =
        (0..n % 7).map(|k| (Bytes::from(format!("k{k}")), Bytes::from("v"))).collect();
    let ops = vec![Op::WriteFull { data }, Op::OmapSet { entries }];
    world.ask(id(0), 1, 1 + n, 0, object, ops);
    world.run(Duration::from_millis(2));
}

fn name(n: u64) -> ObjectName {
    ObjectName::new(format!("o{n}").into_bytes())
}

fn harm(world: &World, at: i32, n: u64, how: Damage) {
    world.nodes[&id(at)].medium.harm(PG, &name(n), how);
}

fn order(world: &mut World, deep: bool, repair: bool) -> u64 {
    let number = world.map.next_scrub_order();
    let at = Timestamp::default();
    world.map.scrubs.insert(number, ScrubOrder { scope: ScrubScope::All {}, deep, repair, at });
    world.publish();
    number
}

fn record(world: &World, at: i32) -> ScrubRecord {
    let daemon = world.nodes[&id(at)].daemon.as_ref().expect("it runs");
    daemon.pgs().next().expect("it has the group").scrub().clone()
}

/// Lets an order be carried out; whether it was.
fn carry_out(world: &mut World, number: u64, at: i32) -> bool {
    for _ in 0..200 {
        if record(world, at).order_done >= number {
            return true;
        }
        world.run(Duration::from_millis(200));
    }
    false
}

fn same(world: &mut World, members: &[i32]) {
    let first = world.contents(id(members[0]));
    assert_eq!(first.len() as u64, OBJECTS);
    for other in &members[1..] {
        let others = world.contents(id(*other));
        assert_eq!(others.keys().collect::<Vec<_>>(), first.keys().collect::<Vec<_>>(), "{other}");
        assert!(others == first, "osd.{other} differs");
    }
}

#[test]
fn a_light_and_a_deep_walk_of_sound_copies_say_so() {
    let mut world = world(3);
    let made = record(&world, 0).verified;
    assert!(made > 0, "what was written is verified by that");
    world.run(Duration::from_secs(5));
    let number = order(&mut world, false, false);
    assert!(carry_out(&mut world, number, 0));
    let light = record(&world, 0);
    assert_eq!((light.errors(), light.verified, light.deep), (0, made, 0));
    assert!(light.light >= made + 4);
    let number = order(&mut world, true, false);
    assert!(carry_out(&mut world, number, 0));
    world.run(Duration::from_millis(100));
    for n in 0..3 {
        let record = record(&world, n);
        assert!(record.verified >= made + 4, "osd.{n} took part");
        assert_eq!((record.errors(), record.found, record.order_done), (0, 0, number));
        assert_eq!(record.run, None);
    }
}

#[test]
fn every_kind_of_harm_is_found_and_mended_on_every_member() {
    let mut world = world(3);
    let kinds = [Damage::Unreadable, Damage::OtherByte, Damage::KeyLost, Damage::Lost];
    let mut harmed = 0;
    for at in 0..3i32 {
        for (k, how) in kinds.into_iter().enumerate() {
            // Objects of every size, with an omap, each harmed once.
            harm(&world, at, 6 + 7 * (4 * at as u64 + k as u64) % 91, how);
            harmed += 1;
        }
    }
    let number = order(&mut world, true, false);
    assert!(carry_out(&mut world, number, 0));
    let after = record(&world, 0);
    assert_eq!((after.found, after.repaired, after.errors()), (harmed, harmed, 0), "{after:?}");
    same(&mut world, &[0, 1, 2]);
}

#[test]
fn a_light_walk_finds_what_is_missing_and_leaves_bytes_unread() {
    let mut world = world(3);
    harm(&world, 1, 20, Damage::Lost);
    harm(&world, 0, 27, Damage::Lost);
    harm(&world, 2, 13, Damage::KeyLost);
    harm(&world, 2, 30, Damage::Unreadable);
    let number = order(&mut world, false, false);
    assert!(carry_out(&mut world, number, 0));
    let after = record(&world, 0);
    assert_eq!((after.found, after.repaired, after.errors()), (3, 3, 0), "{after:?}");
    let number = order(&mut world, true, false);
    assert!(carry_out(&mut world, number, 0));
    assert_eq!(record(&world, 0).repaired, 4);
    same(&mut world, &[0, 1, 2]);
}

#[test]
fn what_no_copy_verifies_is_named_and_stays_until_it_is_written_anew() {
    let mut world = world(3);
    (0..3).for_each(|at| harm(&world, at, 40, Damage::Unreadable));
    let number = order(&mut world, true, false);
    assert!(carry_out(&mut world, number, 0));
    let after = record(&world, 0);
    assert_eq!((after.errors(), after.lost(), after.repaired), (1, 1, 0));
    assert!(after.bad.contains_key(&name(40)));
    assert_eq!(record(&world, 2).errors(), 1, "members know of it too");
    let daemon = world.nodes[&id(0)].daemon.as_ref().expect("it runs");
    assert!(daemon.pgs().next().expect("the group").state().contains("inconsistent"));
    // A primary of another interval still knows.
    world.reform(&[id(1), id(2)]);
    world.run(Duration::from_secs(3));
    assert_eq!(record(&world, 1).errors(), 1);
    world.ask(id(1), 1, 900, 0, "o40", vec![Op::Delete {}]);
    world.run(Duration::from_millis(100));
    let number = order(&mut world, true, false);
    assert!(carry_out(&mut world, number, 1));
    assert_eq!(record(&world, 1).errors(), 0);
}

#[test]
fn of_two_copies_that_verify_and_differ_a_person_decides() {
    let mut world = world(2);
    harm(&world, 0, 50, Damage::OtherByte);
    let number = order(&mut world, true, false);
    assert!(carry_out(&mut world, number, 0));
    let after = record(&world, 0);
    assert_eq!((after.errors(), after.lost(), after.repaired), (1, 0, 0));
    let number = order(&mut world, true, true);
    assert!(carry_out(&mut world, number, 0));
    assert_eq!((record(&world, 0).errors(), record(&world, 0).repaired), (0, 1));
    same(&mut world, &[0, 1]);
}

#[test]
fn clients_write_meanwhile_and_nothing_sound_is_called_bad() {
    let mut world = world(3);
    let number = order(&mut world, true, false);
    let mut tid = 1000;
    while record(&world, 0).order_done < number {
        assert!(tid < 100_000, "it ends though clients write");
        // One object is hot: it is written all the time. Others come and go.
        for object in ["o3".to_string(), format!("o{}", tid % OBJECTS)] {
            tid += 1;
            let data = Bytes::from(vec![tid as u8; 3000]);
            world.ask(id(0), 1, tid, 0, &object, vec![Op::WriteFull { data }]);
            world.run(Duration::from_micros(300));
        }
    }
    world.run(Duration::from_secs(6));
    let done = |(_, _, outcome): &&(LinkId, RequestId, Outcome)| matches!(outcome, Outcome::Done { results, .. } if results.iter().all(|r| r.code == 0));
    assert_eq!(world.answers.iter().filter(done).count() as u64, OBJECTS + tid - 1000);
    let after = record(&world, 0);
    assert_eq!((after.found, after.errors()), (0, 0), "{after:?}");
    assert!(after.deep > 0, "nothing was skipped");
    same(&mut world, &[0, 1, 2]);
}

#[test]
fn a_walk_goes_on_under_the_next_primary_and_after_a_pause() {
    let mut world = world(3);
    world.config.scrub.bytes_per_second = 1 << 20;
    world.config.scrub.objects_max = 8;
    world.config.scrub.save_every = Duration::ZERO;
    (0..3).for_each(|n| world.crash(id(n), 1000));
    (0..3).for_each(|n| world.start(id(n)));
    world.run(Duration::from_secs(3));
    let number = order(&mut world, true, false);
    world.run(Duration::from_millis(2500));
    let before = record(&world, 0).run.expect("under way");
    assert!(before.position.is_some());
    world.map.flags.noscrub = true;
    world.publish();
    world.run(Duration::from_secs(2));
    let paused = record(&world, 0).run.expect("paused");
    world.run(Duration::from_secs(5));
    assert_eq!(record(&world, 0).run, Some(paused), "nothing goes on");
    world.reform(&[id(1), id(0), id(2)]);
    world.run(Duration::from_secs(3));
    world.map.flags.noscrub = false;
    world.publish();
    world.run(Duration::from_millis(1200));
    let after = record(&world, 1).run.expect("it goes on");
    assert!(after.position >= before.position && after.started == before.started);
    assert!(carry_out(&mut world, number, 1));
    world.run(Duration::from_millis(100));
    assert!(
        (0..3).all(|n| record(&world, n).verified == before.started),
        "all took part in all of it"
    );
}

#[test]
fn an_order_taken_back_ends_the_walk() {
    let mut world = world(3);
    world.config.scrub.bytes_per_second = 1 << 18;
    (0..3).for_each(|n| world.crash(id(n), 1000));
    (0..3).for_each(|n| world.start(id(n)));
    world.run(Duration::from_secs(3));
    let number = order(&mut world, true, false);
    world.run(Duration::from_millis(2500));
    assert!(record(&world, 0).run.is_some());
    world.map.scrubs.remove(&number);
    world.publish();
    world.run(Duration::from_secs(4));
    let after = record(&world, 0);
    assert_eq!((after.run, after.order_done, after.deep), (None, 0, 0));
}

#[test]
fn walks_begin_by_themselves_within_their_intervals() {
    let mut world = world(3);
    world.config.scrub.interval = Duration::from_secs(60);
    world.config.scrub.deep_interval = Duration::from_secs(300);
    (0..3).for_each(|n| world.crash(id(n), 1000));
    (0..3).for_each(|n| world.start(id(n)));
    world.run(Duration::from_secs(3));
    let (mut light, mut deep) = (record(&world, 0).verified, record(&world, 0).verified);
    let begin = light;
    for second in 0..700 {
        world.run(Duration::from_secs(1));
        let now = begin + 3 + second;
        let record = record(&world, 0);
        (light, deep) = (light.max(record.light), deep.max(record.deep));
        assert!(now <= light + 62 && now <= deep + 302, "{second}: light {light} deep {deep}");
    }
    assert!(deep > begin && light > deep - 300);
}

#[test]
fn a_repair_that_is_not_looked_at_again_is_a_lie() {
    let lie = |fault| {
        let mut world = world(3);
        world.config.fault = fault;
        (0..3).for_each(|n| world.crash(id(n), 1000));
        (0..3).for_each(|n| world.start(id(n)));
        world.run(Duration::from_secs(3));
        harm(&world, 1, 60, Damage::Unreadable);
        // What the primary sends to replace the bad copy gets lost; later it may come.
        let number = order(&mut world, true, false);
        while record(&world, 0).found == 0 {
            world.run(Duration::from_micros(100));
        }
        world.cut(id(0), id(1));
        world.run(Duration::from_millis(100));
        world.heal(id(0), id(1));
        world.reform(&[id(0), id(1), id(2)]);
        world.run(Duration::from_secs(3));
        assert!(carry_out(&mut world, number, 0));
        let is_well = record(&world, 0).errors() == 0;
        is_well && world.contents(id(0)) != world.contents(id(1))
    };
    assert!(!lie(Fault::None));
    assert!(lie(Fault::NoReverify));
}

#[test]
fn a_primary_that_is_trusted_unread_hides_its_damage() {
    let hidden = |fault| {
        let mut world = world(3);
        world.config.fault = fault;
        (0..3).for_each(|n| world.crash(id(n), 1000));
        (0..3).for_each(|n| world.start(id(n)));
        world.run(Duration::from_secs(3));
        harm(&world, 0, 60, Damage::OtherByte);
        let number = order(&mut world, true, false);
        assert!(carry_out(&mut world, number, 0));
        record(&world, 0).errors() == 0 && world.contents(id(0)) != world.contents(id(1))
    };
    assert!(!hidden(Fault::None));
    assert!(hidden(Fault::TrustPrimaryDigest));
}
