//! The life of a write (`base/README.md`), step by step, on the product's machines in a simulated world.
//! It proves that the ten steps are what happens: read it beside that page.

use bytes::Bytes;
use std::time::Duration;
use store_base::op::Op;
use store_base::{ObjectName, PoolId, Ticket, Timestamp};
use store_client::machine::{Event, Submission, Target};
use store_daemon::store::Store;
use store_tests::sim::network::Node;
use store_tests::sim::run::formed;
use store_tests::sim::world::Happening;

#[test]
fn the_life_of_a_write() {
    let mut world = formed(1);
    assert_eq!(world.broken, Vec::<String>::new());

    // 1. The client gets the newest map from the monitor.
    world.at(world.now, Happening::Maps { node: Node::Client(0), life: 0, again: true });
    world.run_until(world.now + Duration::from_secs(1));
    let map = world.clients[0].machine.map().expect("a map").clone();

    // 2. Name → hash → placement group → its record → the primary and the members.
    let (pool, object) = (PoolId(1), ObjectName::new("greeting"));
    let pg = map.pg_of(pool, &object).expect("the pool is there");
    let record = map.pgs.get(&pg).expect("every placement group has a record").clone();
    assert_eq!(record.members.len(), 3, "three copies");
    assert!(record.is_active() && record.members.contains(&record.primary));

    // 3. One request: an id for good, an object, an op vector that happens whole or not at all.
    let ops = vec![
        Op::Write { offset: 0, data: Bytes::from_static(b"hello") },
        Op::SetXattr { name: Bytes::from_static(b"lang"), value: Bytes::from_static(b"en") },
    ];
    let submission = Submission {
        target: Target::Object { pool, object: object.clone() },
        ops,
        read_only: false,
        mtime: Timestamp { secs: 1_700_000_100, nanos: 0 },
        deadline: world.clients[0].life.local(world.now) + Duration::from_secs(30),
    };
    world.step_client(0, Event::Submit { ticket: Ticket(u64::MAX), submission });

    // 4 to 8. The primary holds its leases, looks for the id, executes, stages, replicates; all members
    // store the entry; it is committed and answered. The answer is the first that the judge hears of.
    let answered =
        |world: &store_tests::sim::world::World| world.clients[0].machine.counters().answered;
    let before = answered(&world);
    while answered(&world) == before {
        let until = world.now + Duration::from_secs(10);
        assert!(world.step(until), "the write is answered");
    }

    // At the moment of the answer every member has the entry, staged or applied, durable in its log; and the
    // primary shows its effect.
    for node in &world.daemons {
        let Some(machine) = node.machine.as_ref() else { continue };
        let Some(id) = machine.id().filter(|id| record.members.contains(id)) else { continue };
        let state = machine.store().load(pg).expect("a member has the group");
        let entries = state.staged.iter().chain(&state.applied);
        let found = entries.filter(|entry| entry.object == object).count();
        assert_eq!(found, 1, "{id} has the entry once");
        if id == record.primary {
            let info = machine.store().info(pg, &object).expect("readable").expect("it is there");
            assert_eq!(info.size, 5);
        }
    }

    // 9. Members hear of the commit and apply it too.
    world.run_until(world.now + Duration::from_secs(2));
    for node in &world.daemons {
        let Some(machine) = node.machine.as_ref() else { continue };
        if machine.id().is_some_and(|id| record.members.contains(&id)) {
            let store = machine.store();
            let info = store.info(pg, &object).expect("readable").expect("it is there");
            assert_eq!(info.size, 5);
            let lang = store.xattr(pg, &object, b"lang").expect("readable");
            assert_eq!(lang.as_deref(), Some(&b"en"[..]));
        }
    }

    // 10. The primary dies. The next one's log is the truth: the write is there.
    let primary = (0..world.daemons.len())
        .find(|i| world.daemons[*i].machine.as_ref().and_then(|m| m.id()) == Some(record.primary))
        .expect("the primary runs");
    world.crash_daemon(primary);
    world.run_until(world.now + Duration::from_secs(20));
    let map = world.monitor.machine.as_ref().and_then(|m| m.osd_map()).expect("a map").clone();
    let next = map.pgs[&pg].primary;
    assert_ne!(next, record.primary, "another member leads");
    assert!(map.pgs[&pg].interval > record.interval, "in a newer interval");
    let leads =
        world.daemons.iter().filter_map(|d| d.machine.as_ref()).find(|m| m.id() == Some(next));
    let info = leads.expect("it runs").store().info(pg, &object).expect("readable");
    assert_eq!(info.expect("nothing acknowledged is lost").size, 5);
    assert_eq!(world.broken, Vec::<String>::new());
}
