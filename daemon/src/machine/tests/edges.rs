//! Limits and refusals: what clients are told when something is full, fenced, too much, or too long ago.

use super::world::{PG, World};
use crate::machine::{Action, Config, Event, PeerMessage};
use bytes::Bytes;
use std::time::Duration;
use store_base::bucket::{BucketId, CLASS, Configure, ObjectSettings, Sprout, Take, shard_name};
use store_base::codec::Encode;
use store_base::map::osd::OPTION_OVER_QUOTA;
use store_base::map::{OsdMap, Pool};
use store_base::op::{Op, Outcome, errno};
use store_base::{ClientId, DaemonId, Machine, PoolId, Version};

/// Three daemons with an active group, led by 0.
fn active(config: Config) -> World {
    let mut world = World::new(3, 3, 2);
    world.config = config;
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
    world
}

fn write(byte: u8) -> Vec<Op> {
    vec![Op::WriteFull { data: vec![byte; 5000].into() }]
}

/// Asks the primary and lets some time pass; the code of the answer (of its last op, if it was run).
fn code(world: &mut World, tid: u64, resend: u32, object: &str, ops: Vec<Op>) -> i32 {
    world.answers.clear();
    world.ask(DaemonId(0), 1, tid, resend, object, ops);
    world.run(Duration::from_millis(20));
    assert_eq!(world.answers.len(), 1, "one answer");
    match &world.answers[0].2 {
        Outcome::Done { results, .. } => results.last().expect("a result").code,
        Outcome::Refused { code, .. } => *code,
        Outcome::Misdirected { .. } => panic!("misdirected"),
    }
}

#[test]
fn a_full_cluster_still_deletes() {
    let mut world = active(Config::default());
    assert_eq!(code(&mut world, 1, 0, "a", write(1)), 0);
    world.map.flags.full = true;
    world.publish();
    world.run(Duration::from_millis(10));
    assert_eq!(code(&mut world, 2, 0, "b", write(2)), -errno::ENOSPC);
    assert_eq!(code(&mut world, 3, 0, "a", vec![Op::Stat {}]), 0);
    assert_eq!(code(&mut world, 4, 0, "a", vec![Op::Delete {}]), 0);
    // The refusal stands for a duplicate, though there is room by now.
    world.map.flags.full = false;
    world.publish();
    world.run(Duration::from_millis(10));
    assert_eq!(code(&mut world, 2, 1, "b", write(2)), -errno::ENOSPC);
    assert_eq!(code(&mut world, 5, 0, "b", write(2)), 0);
}

/// A page of a shard that is on its way when the cluster gets full would be of no shard until there is room.
#[test]
fn a_full_cluster_brings_what_is_on_its_way() {
    let mut world = active(Config::default());
    let bucket = BucketId([7; 8]);
    let name = shard_name(bucket, 0, 1);
    let exec = |method: &str, input: Bytes| {
        vec![Op::Exec { class: CLASS.to_owned(), method: method.to_owned(), input }]
    };
    let sprout = Sprout { bucket, roots: 1, shard: 1, ..Sprout::default() };
    assert_eq!(code(&mut world, 1, 0, &name, exec("sprout", sprout.to_bytes())), 0);
    world.map.flags.full = true;
    world.publish();
    world.run(Duration::from_millis(10));
    let take = Take { until: Some("x".into()), ..Take::default() };
    assert_eq!(code(&mut world, 2, 0, &name, exec("take", take.to_bytes())), 0);
    let configure = Configure { settings: ObjectSettings { revision: 1, ..Default::default() } };
    assert_eq!(
        code(&mut world, 4, 0, &name, exec("configure", configure.to_bytes())),
        -errno::ENOSPC
    );
    let more = Take { from: "x".into(), until: None, ..Take::default() };
    let both = [exec("take", more.to_bytes()), exec("configure", configure.to_bytes())].concat();
    assert_eq!(code(&mut world, 5, 0, &name, both), -errno::ENOSPC, "not in one with others");
    assert_eq!(code(&mut world, 6, 0, &name, exec("take", more.to_bytes())), 0);
}

#[test]
fn a_pool_over_its_quota_still_deletes() {
    let mut world = active(Config::default());
    assert_eq!(code(&mut world, 1, 0, "a", write(1)), 0);
    let set = |world: &mut World, on: bool| {
        let pool = world.map.pools.values_mut().next().expect("a pool");
        match on {
            true => pool.options.insert(OPTION_OVER_QUOTA.to_string(), "true".to_string()),
            false => pool.options.remove(OPTION_OVER_QUOTA),
        };
        world.publish();
        world.run(Duration::from_millis(10));
    };
    set(&mut world, true);
    assert_eq!(code(&mut world, 2, 0, "b", write(2)), -errno::EDQUOT);
    assert_eq!(code(&mut world, 3, 0, "a", vec![Op::Stat {}]), 0);
    assert_eq!(code(&mut world, 4, 0, "a", vec![Op::Delete {}]), 0);
    set(&mut world, false);
    assert_eq!(code(&mut world, 5, 0, "b", write(2)), 0);
}

#[test]
fn a_full_member_stops_writes_before_it_cannot_take_them() {
    let mut world = active(Config::default());
    assert_eq!(code(&mut world, 1, 0, "a", write(1)), 0);
    world.nodes[&DaemonId(2)].medium.set_capacity(5100);
    world.run(Duration::from_millis(600));
    assert_eq!(code(&mut world, 2, 0, "b", write(2)), -errno::ENOSPC);
    assert_eq!(code(&mut world, 3, 0, "a", vec![Op::Delete {}]), 0);
    world.run(Duration::from_millis(600));
    assert_eq!(code(&mut world, 4, 0, "c", vec![Op::Create { exclusive: true }]), 0);
}

#[test]
fn a_fenced_client_is_refused() {
    let mut world = active(Config::default());
    world.map.blocklist.insert(ClientId(101), u64::MAX);
    world.publish();
    world.run(Duration::from_millis(10));
    assert_eq!(code(&mut world, 1, 0, "a", write(1)), -errno::EBLOCKLISTED);
    world.map.blocklist.insert(ClientId(101), 1);
    world.publish();
    world.run(Duration::from_millis(10));
    assert_eq!(code(&mut world, 2, 0, "a", write(1)), 0);
}

#[test]
fn what_was_trimmed_is_refused_and_not_repeated() {
    let config = Config { log_entries_max: 10, log_entries_keep: 5, ..Config::default() };
    let mut world = active(config);
    for tid in 1..=30 {
        assert_eq!(code(&mut world, tid, 0, "a", vec![Op::Append { data: "x".into() }]), 0);
    }
    assert_eq!(code(&mut world, 30, 1, "a", vec![Op::Append { data: "x".into() }]), 0);
    assert_eq!(code(&mut world, 3, 1, "a", vec![Op::Append { data: "x".into() }]), -errno::ESTALE);
    world.run(Duration::from_millis(100));
    for id in (0..3).map(DaemonId) {
        let contents = world.contents(id);
        assert_eq!(contents.values().next().map(|(_, bytes)| bytes.len()), Some(30));
    }
    // The next primary knows too.
    world.crash(DaemonId(0), 0);
    world.mark_down(DaemonId(0));
    world.reform(&[DaemonId(1), DaemonId(2)]);
    world.run(Duration::from_secs(2));
    world.answers.clear();
    world.ask(DaemonId(1), 1, 3, 2, "a", vec![Op::Append { data: "x".into() }]);
    world.run(Duration::from_millis(20));
    let stale = |outcome: &Outcome| matches!(outcome, Outcome::Refused { code, .. } if *code == -errno::ESTALE);
    assert!(world.answers.iter().any(|(_, _, outcome)| stale(outcome)));
}

#[test]
fn queues_end_somewhere() {
    let mut world = active(Config { waiting_requests_max: 3, ..Config::default() });
    // Below min_size writes wait.
    world.crash(DaemonId(1), 0);
    world.crash(DaemonId(2), 0);
    world.reform(&[DaemonId(0)]);
    world.run(Duration::from_millis(100));
    world.answers.clear();
    (1..=5).for_each(|tid| world.ask(DaemonId(0), 1, tid, 0, "a", write(1)));
    world.run(Duration::from_millis(10));
    let refused: Vec<u64> = world.answers.iter().map(|(_, id, _)| id.tid).collect();
    assert_eq!(refused, [4, 5]);
    // Whose link ends waits no more.
    let daemon = |world: &World| world.nodes[&DaemonId(0)].daemon.as_ref().expect("on").status();
    assert_eq!(daemon(&world).waiting_requests, 3);
    world.step(DaemonId(0), Event::ClientGone { link: crate::machine::LinkId(1) });
    let status = daemon(&world);
    assert_eq!((status.waiting_requests, status.waiting_bytes), (0, 0));
}

#[test]
fn a_request_by_a_newer_map_waits_for_it_and_holds_up_nobody() {
    let mut world = active(Config::default());
    let ahead = |epoch| {
        let mut request = store_base::op::Request::default();
        request.id.tid = 77;
        (request.pg, request.epoch) = (PG, epoch);
        request.object = store_base::ObjectName::new("a");
        request.ops = write(1);
        Event::Client { link: crate::machine::LinkId(9), request }
    };
    let next = world.map.epoch.next();
    world.step(DaemonId(0), ahead(next));
    assert_eq!(code(&mut world, 1, 0, "a", write(1)), 0);
    world.answers.clear();
    world.publish();
    world.run(Duration::from_millis(20));
    assert_eq!(world.answers.len(), 1);
}

#[test]
fn a_deleted_pool_takes_its_groups_along() {
    let mut world = active(Config::default());
    assert_eq!(code(&mut world, 1, 0, "a", write(1)), 0);
    world.map.pools.remove(&PoolId(1));
    world.map.pgs.clear();
    world.publish();
    world.run(Duration::from_millis(100));
    for id in (0..3).map(DaemonId) {
        assert_eq!(world.nodes[&id].daemon.as_ref().expect("on").status().pgs, 0);
        assert!(world.contents(id).is_empty());
    }
    world.answers.clear();
    world.ask(DaemonId(0), 1, 2, 0, "a", write(1));
    assert!(matches!(world.answers[0].2, Outcome::Misdirected { .. }));
}

#[test]
fn two_processes_on_one_id_are_one_too_many() {
    let mut world = active(Config::default());
    let mut map: OsdMap = world.map.clone();
    map.epoch = map.epoch.next();
    map.daemons.get_mut(&DaemonId(0)).expect("it booted").incarnation.0 += 1;
    let daemon = world.nodes.get_mut(&DaemonId(0)).expect("a node").daemon.as_mut().expect("on");
    let mut actions = Vec::new();
    daemon.step(world.now, Event::Map(map.into()), &mut actions);
    assert!(matches!(actions.last(), Some(Action::Fatal { .. })), "{actions:?}");
    assert_eq!(daemon.wake_at(), None);
}

#[test]
fn a_pool_of_one_copy_works() {
    let mut world = World::new(1, 1, 1);
    world.start(DaemonId(0));
    world.run(Duration::from_millis(300));
    world.map.pools.insert(
        PoolId(1),
        Pool { name: "p".into(), size: 1, min_size: 1, pg_num: 1, pgp_num: 1, ..Pool::default() },
    );
    world.change(|record| {
        record.primary = DaemonId(0);
        record.members = vec![DaemonId(0)];
        record.holders = [DaemonId(0)].into();
    });
    world.run(Duration::from_millis(10));
    assert_eq!(code(&mut world, 1, 0, "a", write(1)), 0);
}

#[test]
fn what_a_lost_beat_told_is_told_again() {
    let mut world = active(Config::default());
    world.run(Duration::from_secs(5));
    world.deaf.insert(DaemonId(0));
    assert_eq!(code(&mut world, 1, 0, "a", write(1)), 0);
    world.run(Duration::from_millis(1500));
    world.deaf.remove(&DaemonId(0));
    (world.trace, world.said) = (true, Vec::new());
    world.run(Duration::from_secs(3));
    let told = |said: &String| said.contains("osd.0 reports active+clean");
    assert!(world.said.iter().any(told), "{:?}", world.said);
}

#[test]
fn a_group_that_the_store_has_lost_is_filled_again_and_never_served() {
    // A member, and the primary itself.
    for id in [DaemonId(2), DaemonId(0)] {
        let mut world = active(Config::default());
        for tid in 1..10 {
            assert_eq!(code(&mut world, tid, 0, &format!("o{tid}"), write(tid as u8)), 0);
        }
        world.run(Duration::from_secs(1));
        let whole = world.contents(DaemonId(1));
        assert_eq!(whole.len(), 9);
        let pending = world.nodes[&id].medium.pending();
        world.crash(id, pending);
        world.mark_down(id);
        world.nodes[&id].medium.lose(PG);
        (world.trace, world.said) = (true, Vec::new());
        world.start(id);
        world.run(Duration::from_secs(3));
        assert!(world.said.iter().any(|said| said.contains("asks Lost")), "{:?}", world.said);
        let record = world.map.pgs[&PG].clone();
        assert!(!record.members.contains(&id) && !record.holders.contains(&id), "{record:?}");
        assert!(!record.writers.contains(&id), "{record:?}");
        // The others serve without it.
        world.answers.clear();
        world.ask(record.primary, 1, 20, 0, "late", write(20));
        world.run(Duration::from_millis(100));
        assert!(matches!(&world.answers[0].2, Outcome::Done { .. }), "{:?}", world.answers[0].2);
        world.join(id);
        world.run(Duration::from_secs(5));
        assert!(world.map.pgs[&PG].members.contains(&id), "{:?}", world.map.pgs[&PG]);
        world.run(Duration::from_secs(2));
        let all: Vec<_> = (0..3).map(|id| world.contents(DaemonId(id))).collect();
        assert_eq!(all[0].len(), 10);
        assert!(all[0] == all[1] && all[1] == all[2]);
    }
}

#[test]
fn a_failure_that_is_not_told_yet_stands_for_its_twin_too() {
    let mut world = active(Config::default());
    // Nothing becomes committed.
    world.nodes.get_mut(&DaemonId(1)).expect("a daemon").disk_held = true;
    world.answers.clear();
    let create = || vec![Op::Create { exclusive: true }];
    world.ask(DaemonId(0), 1, 1, 0, "a", write(1));
    world.ask(DaemonId(0), 1, 2, 0, "a", create());
    world.ask(DaemonId(0), 1, 3, 0, "a", vec![Op::Delete {}]);
    world.ask(DaemonId(0), 1, 2, 1, "a", create());
    world.run(Duration::from_millis(50));
    assert!(world.answers.is_empty(), "{:?}", world.answers);
    world.nodes.get_mut(&DaemonId(1)).expect("a daemon").disk_held = false;
    world.run(Duration::from_millis(200));
    let codes: Vec<(u64, i32)> = world
        .answers
        .iter()
        .map(|(_, id, outcome)| match outcome {
            Outcome::Done { results, .. } => (id.tid, results.last().expect("a result").code),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(codes, [(1, 0), (2, -errno::EEXIST), (2, -errno::EEXIST), (3, 0)]);
    assert_eq!(world.contents(DaemonId(0)).len(), 0);
}

#[test]
fn a_learner_that_has_applied_more_than_the_only_member_is_caught_up() {
    let mut world = active(Config::default());
    assert_eq!(code(&mut world, 1, 0, "a", write(1)), 0);
    world.run(Duration::from_secs(1));
    // Committed, as the others know and daemon 2, which has it too, does not.
    world.answers.clear();
    world.ask(DaemonId(0), 1, 2, 0, "b", write(2));
    while world.answers.is_empty() {
        world.run(Duration::from_micros(100));
    }
    world.cut(DaemonId(0), DaemonId(2));
    world.cut(DaemonId(1), DaemonId(2));
    world.auto = false;
    world.run(Duration::from_millis(300));
    world.change(|record| {
        record.primary = DaemonId(2);
        record.members = vec![DaemonId(2)];
        record.holders = [DaemonId(2)].into();
        record.learners = [DaemonId(1)].into();
    });
    world.heal(DaemonId(1), DaemonId(2));
    world.auto = true;
    world.run(Duration::from_secs(6));
    let record = &world.map.pgs[&PG];
    assert!(record.members.contains(&DaemonId(1)), "{record:?}");
    assert_eq!(world.contents(DaemonId(1)), world.contents(DaemonId(2)));
    assert_eq!(world.contents(DaemonId(2)).len(), 2);
}

#[test]
fn an_echo_of_a_learners_first_wish_does_not_undo_its_last() {
    let mut world = active(Config::default());
    assert_eq!(code(&mut world, 1, 0, "a", write(1)), 0);
    world.nodes.get_mut(&DaemonId(2)).expect("a daemon").disk_held = true;
    world.change(|record| {
        record.members.retain(|id| *id != DaemonId(2));
        record.holders.remove(&DaemonId(2));
        record.learners = [DaemonId(2)].into();
    });
    world.run(Duration::from_millis(1500));
    // It has adopted the log, which is not durable yet, when an earlier wish is heard again.
    let (nonce, applied, head) = (0, Version::default(), Version::default());
    let interval = world.map.pgs[&PG].interval;
    let join = PeerMessage::Join { pg: PG, interval, nonce, wish: 1, synced: false, applied, head };
    let incarnation = world.map.daemons[&DaemonId(2)].incarnation;
    world.step(DaemonId(0), Event::Peer { from: DaemonId(2), incarnation, message: join });
    world.nodes.get_mut(&DaemonId(2)).expect("a daemon").disk_held = false;
    world.run(Duration::from_secs(5));
    let record = &world.map.pgs[&PG];
    assert!(record.members.contains(&DaemonId(2)), "{record:?}");
}

#[test]
fn what_is_removed_and_made_again_while_it_is_missing_is_still_missing() {
    let mut world = active(Config::default());
    let learner = DaemonId(2);
    world.cut(DaemonId(0), learner);
    world.change(|record| {
        record.members.retain(|id| *id != learner);
        record.holders.remove(&learner);
    });
    world.run(Duration::from_millis(1500));
    assert_eq!(code(&mut world, 1, 0, "a", write(1)), 0);
    world.heal(DaemonId(0), learner);
    world.trace = true;
    world.change(|record| record.learners = [learner].into());
    while !world.said.iter().any(|line| line.ends_with("pull a")) {
        world.run(Duration::from_micros(100));
    }
    world.nodes.get_mut(&learner).expect("a daemon").disk_held = true;
    // It lacks the object, and hears at once that both are committed.
    world.nodes.get_mut(&DaemonId(1)).expect("a daemon").disk_held = true;
    world.ask(DaemonId(0), 1, 2, 0, "a", vec![Op::Delete {}]);
    world.ask(DaemonId(0), 1, 3, 0, "a", write(2));
    world.run(Duration::from_millis(20));
    world.nodes.get_mut(&DaemonId(1)).expect("a daemon").disk_held = false;
    world.run(Duration::from_millis(300));
    world.nodes.get_mut(&learner).expect("a daemon").disk_held = false;
    world.run(Duration::from_secs(8));
    let record = &world.map.pgs[&PG];
    assert!(record.members.contains(&learner), "{record:?}");
    assert_eq!(world.contents(DaemonId(0)).len(), 1);
    assert_eq!(world.contents(learner), world.contents(DaemonId(0)));
}
