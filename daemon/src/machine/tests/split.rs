//! Groups that are divided: nobody loses anything, wherever he is when it happens.

use super::world::{PG, World};
use crate::machine::Config;
use crate::machine::{Event, LinkId};
use crate::store::Store;
use crate::store::memory::MemoryStore;
use std::collections::BTreeMap;
use std::time::Duration;
use store_base::op::{Op, Outcome, Request, errno};
use store_base::{ClientId, DaemonId, Incarnation, Interval, ObjectName, PgId, RequestId, Version};

const OBJECTS: u64 = 40;

fn object(n: u64) -> ObjectName {
    ObjectName::new(format!("o{n}").into_bytes())
}

fn active() -> World {
    let mut world = World::new(3, 3, 2);
    world.config = Config::default();
    (0..3).map(DaemonId).for_each(|id| world.start(id));
    world.run(Duration::from_millis(300));
    world.change(|record| {
        record.primary = DaemonId(0);
        record.members = (0..3).map(DaemonId).collect();
        record.holders = record.members.iter().copied().collect();
        record.writers.clone_from(&record.holders);
    });
    world.auto = true;
    world.run(Duration::from_millis(400));
    for n in 0..OBJECTS {
        world.ask(DaemonId(0), 1, n + 1, 0, &format!("o{n}"), write(n));
        world.run(Duration::from_millis(3));
    }
    assert_eq!(world.answers.len() as u64, OBJECTS);
    world.answers.clear();
    world
}

fn write(n: u64) -> Vec<Op> {
    vec![Op::WriteFull { data: vec![n as u8; 500].into() }]
}

/// As the monitor does it: parents get a new interval, children a copy of it.
fn grow(world: &mut World, to: u32) {
    let pool = world.map.pools.get_mut(&PG.pool).expect("the pool");
    let from = std::mem::replace(&mut pool.pg_num, to);
    pool.resend_since = world.map.epoch.next();
    for seed in 0..from {
        let parent = PgId { seed, ..PG };
        let mut record = world.map.pgs[&parent].clone();
        record.interval = record.interval.next();
        record.since = world.map.epoch.next();
        record.learners.clear();
        for part in parent.children(from, to).chain([parent]) {
            world.map.pgs.insert(part, record.clone());
        }
    }
    world.publish();
}

fn request(world: &World, tid: u64, resend: u32, object: &ObjectName, ops: Vec<Op>) -> Request {
    Request {
        id: RequestId { client: ClientId(101), incarnation: 1, tid },
        epoch: world.map.epoch,
        pg: object.pg(PG.pool, world.map.pools[&PG.pool].pg_num),
        object: object.clone(),
        resend,
        ops,
        ..Request::default()
    }
}

/// What every part has on a daemon's disk: the objects and the versions that made them.
fn contents(world: &World, id: DaemonId) -> BTreeMap<PgId, BTreeMap<ObjectName, Version>> {
    let store = MemoryStore::open(&world.nodes[&id].medium);
    let list = |pg| store.list(pg, None, 1000).expect("a group").into_iter();
    let objects = |pg| list(pg).map(|(object, info)| (object, info.version)).collect();
    store.pgs().into_iter().map(|pg| (pg, objects(pg))).collect()
}

/// All three have the same, every object is where its name says, and the parts serve.
fn check(world: &mut World, what: &str) {
    world.run(Duration::from_secs(8));
    let pg_num = world.map.pools[&PG.pool].pg_num;
    let first = contents(world, DaemonId(0));
    assert_eq!(first.len(), pg_num as usize, "{what}");
    let all: usize = first.values().map(BTreeMap::len).sum();
    assert_eq!(all as u64, OBJECTS, "{what}: nothing is lost, nothing is twice");
    for (pg, objects) in &first {
        assert!(objects.keys().all(|object| object.pg(PG.pool, pg_num) == *pg), "{what}: {pg}");
    }
    for id in (1..3).map(DaemonId) {
        assert_eq!(contents(world, id), first, "{what}: {id}");
    }
    // A write from before is known wherever its object is now; a new one goes on from it.
    world.answers.clear();
    for n in 0..OBJECTS {
        let again = request(world, n + 1, 1, &object(n), write(n));
        world.step(DaemonId(0), Event::Client { link: LinkId(1), request: again });
        let next = request(world, 1000 + n, 0, &object(n), vec![Op::Stat {}]);
        world.step(DaemonId(0), Event::Client { link: LinkId(1), request: next });
    }
    world.run(Duration::from_millis(50));
    assert_eq!(world.answers.len() as u64, 2 * OBJECTS, "{what}");
    for (_, id, outcome) in &world.answers {
        let Outcome::Done { version, .. } = outcome else { panic!("{what}: {id:?} {outcome:?}") };
        let n = (id.tid - 1) % 999;
        let made = first.values().find_map(|objects| objects.get(&object(n))).expect("it is there");
        assert!(id.tid >= 1000 || version == made, "{what}: {id:?} was done again");
    }
}

#[test]
fn a_group_is_divided_by_all_and_goes_on() {
    for to in [2, 3, 4, 7, 16] {
        let mut world = active();
        // It comes with an old map, to a group that is not what it was.
        let old = request(&world, 999, 0, &object(1), write(1));
        grow(&mut world, to);
        world.run(Duration::from_millis(30));
        world.step(DaemonId(0), Event::Client { link: LinkId(1), request: old });
        world.run(Duration::from_millis(10));
        assert!(matches!(world.answers.pop(), Some((_, _, Outcome::Misdirected { .. }))));
        check(&mut world, &format!("to {to}"));
    }
}

/// The answer of a daemon to one request, after some time.
fn answer(world: &mut World, to: DaemonId, request: Request) -> Outcome {
    world.answers.clear();
    world.step(to, Event::Client { link: LinkId(1), request });
    world.run(Duration::from_millis(100));
    assert_eq!(world.answers.len(), 1, "one answer");
    world.answers.pop().expect("one").2
}

#[test]
fn what_was_refused_stays_refused_in_a_part_and_after_the_lead_has_changed() {
    let mut world = active();
    world.map.flags.full = true;
    world.publish();
    let append = || vec![Op::Append { data: "x".into() }];
    let full = Outcome::Refused {
        code: -errno::ENOSPC,
        why: "the cluster is full; only deletes are accepted".into(),
    };
    let first = request(&world, 700, 0, &object(1), append());
    assert_eq!(answer(&mut world, DaemonId(0), first), full);
    world.map.flags.full = false;
    grow(&mut world, 4);
    world.run(Duration::from_secs(8));
    // Its client had sent it again before the answer came, as the map asked for.
    let again = request(&world, 700, 1, &object(1), append());
    assert_eq!(answer(&mut world, DaemonId(0), again.clone()), full);
    // A twin that was long on its way to another daemon, which leads by now.
    let part = again.pg;
    let record = world.map.pgs.get_mut(&part).expect("a part");
    record.interval = Interval(record.interval.0 + 1);
    record.primary = DaemonId(1);
    record.since = world.map.epoch.next();
    world.publish();
    world.run(Duration::from_secs(8));
    let sent_away = Outcome::Misdirected { epoch: world.map.epoch };
    assert_eq!(answer(&mut world, DaemonId(1), again), sent_away);
    let new = request(&world, 701, 0, &object(1), append());
    let done = answer(&mut world, DaemonId(1), new);
    assert!(matches!(done, Outcome::Done { .. }), "{done:?}");
}

#[test]
fn who_was_away_divides_when_he_returns_however_often_the_pool_grew() {
    let mut world = active();
    world.stop(DaemonId(2));
    grow(&mut world, 3);
    world.run(Duration::from_millis(200));
    grow(&mut world, 8);
    world.run(Duration::from_millis(200));
    world.start(DaemonId(2));
    check(&mut world, "returned");
}

#[test]
fn a_crash_at_any_batch_of_a_split_is_harmless() {
    for keep in 0..12 {
        let mut world = active();
        world.nodes.get_mut(&DaemonId(1)).expect("a daemon").disk_held = true;
        grow(&mut world, 4);
        world.run(Duration::from_millis(50));
        assert!(world.nodes[&DaemonId(1)].medium.pending() > 1, "the split and what follows it");
        world.crash(DaemonId(1), keep);
        world.nodes.get_mut(&DaemonId(1)).expect("a daemon").disk_held = false;
        world.start(DaemonId(1));
        check(&mut world, &format!("{keep} batches kept"));
    }
}

#[test]
fn a_holder_without_what_it_confirmed_says_so_and_begins_nothing() {
    let mut world = active();
    world.auto = false;
    world.asks.clear();
    // All have confirmed this interval, says the record; daemon 2 comes back with an empty disk.
    world.crash(DaemonId(2), 0);
    let empty = crate::store::memory::Medium::new();
    world.nodes.get_mut(&DaemonId(2)).expect("a daemon").medium = empty;
    world.change(|record| {
        record.confirmed = record.interval;
        record.primary = DaemonId(2);
    });
    world.map.daemons.get_mut(&DaemonId(2)).expect("known").incarnation = Incarnation(0);
    world.start(DaemonId(2));
    world.run(Duration::from_secs(3));
    let daemon = world.nodes[&DaemonId(2)].daemon.as_ref().expect("alive");
    assert!(daemon.pgs().all(|pg| pg.interval() == Interval(0)), "nothing is confirmed");
    let asked = world.asks.iter().any(|(from, ask)| {
        *from == DaemonId(2) && ask.kind() == store_base::wire::pg_ask::Kind::Disown
    });
    assert!(asked, "{:?}", world.asks);
}
