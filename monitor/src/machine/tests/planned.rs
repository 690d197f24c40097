//! Mutes, jobs, questions before a change, drains, flags, quotas.

use super::*;
use store_base::op::errno;

/// Four daemons on four hosts, and a pool of 16 groups that are active and clean.
fn four() -> World {
    let mut world = World::new();
    for id in 0..4 {
        assert_eq!(world.boot(id, 1).refused, "");
    }
    world.json(r#"{"prefix": "osd pool create", "pool": "p", "pg_num": 16}"#);
    world.settle();
    tell(&mut world, 100, 0);
    world
}

/// Beats of all that are up: every group has so many objects of 4 KiB, and as its learners lack so many each.
fn tell(world: &mut World, objects: u64, lacking: u64) {
    let map = world.map().clone();
    let now = world.monitor.wall(world.now).secs;
    for (id, info) in map.daemons.iter().filter(|(_, info)| info.up) {
        let led = map.pgs.iter().filter(|(_, record)| record.primary == *id);
        let reports = led.map(|(pg, record)| PgReport {
            pool: pg.pool.0 as u64,
            seed: pg.seed,
            interval: record.interval.0,
            state: "active".to_string(),
            objects,
            bytes: objects * 4096,
            full_objects: objects,
            verified_secs: now,
            last_scrub_secs: now,
            missing: lacking * record.learners.len() as u64,
            primary: true,
            ..PgReport::default()
        });
        let beat = wire::BeatRequest {
            daemon: id.0,
            incarnation: info.incarnation.0,
            epoch: map.epoch.0,
            pgs: reports.collect(),
            all_pgs: true,
            capacity_bytes: 1 << 40,
            used_bytes: 1 << 30,
            ..wire::BeatRequest::default()
        };
        world.ask(Request::Beat(beat));
    }
}

fn code(world: &mut World, json: &str) -> (i32, String) {
    let reply = world.command(json);
    (reply.code, reply.status)
}

#[test]
fn a_muted_check_counts_again_after_its_time_or_when_it_gets_worse() {
    let mut world = four();
    world.refused(0, 3);
    world.settle();
    let status = |world: &mut World| {
        tell(world, 100, 0);
        let health = world.json(r#"{"prefix": "health"}"#);
        (health["status"].as_str().expect("a word").to_string(), health["mutes"].clone())
    };
    assert_eq!(
        code(&mut world, r#"{"prefix": "health mute", "code": "OSD_NEARFULL"}"#).0,
        -errno::ENOENT
    );
    for check in ["OSD_DOWN", "OSD_HOST_DOWN", "PG_DEGRADED"] {
        world.json(&format!(r#"{{"prefix": "health mute", "code": "{check}", "ttl": "1h"}}"#));
    }
    let (word, mutes) = status(&mut world);
    assert_eq!((word.as_str(), mutes.as_array().map(Vec::len)), ("HEALTH_OK", Some(3)));
    // A new leader knows of them too, and has to hear everybody before it takes a check for ended.
    world.restart();
    assert_eq!(status(&mut world).1.as_array().map(Vec::len), Some(3));
    world.refused(0, 2);
    for _ in 0..3 {
        tell(&mut world, 100, 0);
        world.pass(1000);
    }
    let (word, mutes) = status(&mut world);
    assert_ne!(word, "HEALTH_OK", "more daemons are down: {mutes}");
    assert!(!mutes.to_string().contains("OSD_DOWN"), "{mutes}");
    world.json(r#"{"prefix": "health mute", "code": "osd_down", "ttl": "60", "sticky": true}"#);
    for _ in 0..30 {
        tell(&mut world, 100, 0);
        world.pass(1000);
    }
    assert!(status(&mut world).1.to_string().contains("OSD_DOWN"));
    for _ in 0..31 {
        tell(&mut world, 100, 0);
        world.pass(1000);
    }
    assert!(!status(&mut world).1.to_string().contains("OSD_DOWN"), "its time is over");
    assert_eq!(
        code(&mut world, r#"{"prefix": "health unmute", "code": "OSD_DOWN"}"#).0,
        -errno::ENOENT
    );
}

#[test]
fn ok_to_stop_counts_who_would_be_left() {
    let mut world = four();
    let ask = |world: &mut World, ids: &str| {
        world.json(&format!(r#"{{"prefix": "osd ok-to-stop", "ids": "{ids}"}}"#))
    };
    let one = ask(&mut world, "0");
    assert_eq!(one["ok_to_stop"], true, "{one}");
    assert_eq!(one["num_ok_pgs"], 16);
    let two = ask(&mut world, "0 1");
    assert_eq!(two["ok_to_stop"], false);
    assert!(!two["bad_become_read_only"].as_array().expect("a list").is_empty(), "{two}");
    let all = ask(&mut world, "all");
    assert_eq!(all["num_not_ok_pgs"], 16);
    assert_eq!(all["bad_become_inactive"].as_array().map(Vec::len), Some(16), "{all}");
    // What is not reported is not well.
    world.pass(6000);
    let silent = ask(&mut world, "0");
    assert_eq!(silent["ok_to_stop"], false, "{silent}");
    assert!(!silent["bad_unknown"].as_array().expect("a list").is_empty());
    assert_eq!(ask(&mut world, "3")["osds"][0], 3);
}

#[test]
fn a_drained_daemon_serves_until_others_have_all_and_may_go_then() {
    let mut world = four();
    let safe = |world: &mut World| {
        tell(world, 100, 40);
        world.json(r#"{"prefix": "osd safe-to-destroy", "ids": "3"}"#)
    };
    assert_eq!(safe(&mut world)["safe_to_destroy"], false);
    let on_three = |world: &World| {
        let three = DaemonId(3);
        world.map().pgs.values().filter(|record| record.members.contains(&three)).count()
    };
    let before = on_three(&world);
    assert!(before > 0);
    world.json(r#"{"prefix": "osd drain", "ids": "3"}"#);
    assert_eq!(on_three(&world), before, "it stays a member until a learner was promoted");
    tell(&mut world, 100, 40);
    world.pass(1000);
    let jobs = world.json(r#"{"prefix": "job ls"}"#);
    let job = &jobs["jobs"][0];
    assert_eq!(
        (job["id"].as_str(), job["state"].as_str()),
        (Some("drain.3"), Some("running")),
        "{jobs}"
    );
    assert_eq!(job["pgs_left"], before);
    assert_eq!(job["objects_total"], 40 * before, "{jobs}");
    assert_eq!(job["bytes_total"], 40 * 4096 * before);
    let status = world.json(r#"{"prefix": "status"}"#);
    assert_eq!(status["progress_events"]["drain.3"]["message"], "emptying osd.3");
    assert!(world.health().contains(&"OSD_OUT") && !world.health().contains(&"PG_DEGRADED"));
    world.settle();
    tell(&mut world, 100, 0);
    world.pass(1000);
    assert_eq!(on_three(&world), 0);
    world.settle();
    let done = safe(&mut world);
    assert_eq!(done["safe_to_destroy"], true, "{done}");
    let jobs = world.json(r#"{"prefix": "job ls"}"#);
    assert_eq!(jobs["jobs"][0]["state"], "done");
    assert_eq!(jobs["jobs"][0]["progress"], 1.0, "{jobs}");
    assert_eq!(code(&mut world, r#"{"prefix": "osd rm", "id": 3}"#).0, -errno::EBUSY, "it is up");
    world.refused(3, 3);
    tell(&mut world, 100, 0);
    assert_eq!(
        code(&mut world, r#"{"prefix": "osd rm", "id": 3}"#),
        (0, "osd.3 is forgotten".into())
    );
    assert!(world.monitor.leader.as_ref().expect("leads").committed.notes.drains.is_empty());
}

#[test]
fn a_daemon_that_is_needed_goes_only_if_somebody_is_sure() {
    let mut world = four();
    world.refused(0, 3);
    world.settle();
    tell(&mut world, 100, 0);
    let (refused, why) = code(&mut world, r#"{"prefix": "osd rm", "id": 3}"#);
    assert_eq!(refused, 0, "the members of now do without it: {why}");
    let mut world = four();
    world.json(r#"{"prefix": "osd out", "ids": "3"}"#);
    let map = world.map().clone();
    let (pg, _) = map.pgs.iter().find(|(_, r)| r.members.contains(&DaemonId(3))).expect("one");
    world.refused(0, 3);
    assert!(world.map().pgs[pg].holders.contains(&DaemonId(3)), "not active without it yet");
    let (refused, why) = code(&mut world, r#"{"prefix": "osd rm", "id": 3}"#);
    assert_eq!(refused, -errno::EBUSY);
    assert!(why.contains("need osd.3") && why.contains("sure"), "{why}");
    let sure = r#"{"prefix": "osd rm", "id": 3, "sure": "--yes-i-really-mean-it"}"#;
    assert_eq!(code(&mut world, sure).0, 0);
    let (refused, why) = code(&mut world, r#"{"prefix": "osd drain", "ids": "2"}"#);
    assert_eq!(refused, -errno::EBUSY);
    assert!(why.contains("too few daemons"), "{why}");
}

#[test]
fn a_drain_is_cancelled_and_a_host_is_drained_as_a_whole() {
    let mut world = four();
    assert_eq!(code(&mut world, r#"{"prefix": "node drain", "host": "h9"}"#).0, -errno::ENOENT);
    world.json(r#"{"prefix": "node drain", "host": "h2"}"#);
    assert_eq!(world.map().daemons[&DaemonId(2)].weight, 0);
    let nodes = world.json(r#"{"prefix": "node ls"}"#);
    assert_eq!((&nodes[2]["host"], &nodes[2]["draining"]), (&"h2".into(), &1.into()), "{nodes}");
    assert_eq!(code(&mut world, r#"{"prefix": "job cancel", "id": "drain.1"}"#).0, -errno::ENOENT);
    assert_eq!(code(&mut world, r#"{"prefix": "job cancel", "id": "recovery"}"#).0, -errno::EPERM);
    assert_eq!(code(&mut world, r#"{"prefix": "job cancel", "id": "drain.2"}"#).0, 0);
    assert_eq!(world.map().daemons[&DaemonId(2)].weight, 0x10000);
    assert_eq!(code(&mut world, r#"{"prefix": "job pause", "id": "rebalance"}"#).0, 0);
    assert!(world.map().flags.norebalance);
    world.json(r#"{"prefix": "osd out", "ids": "1"}"#);
    assert!(world.map().pgs.values().all(|record| record.learners.is_empty()), "held back");
    assert_eq!(code(&mut world, r#"{"prefix": "job resume", "id": "rebalance"}"#).0, 0);
    assert!(world.map().pgs.values().any(|record| !record.learners.is_empty()));
}

#[test]
fn every_flag_is_set_shown_and_unset() {
    let mut world = four();
    for flag in store_base::map::osd::FLAG_NAMES {
        world.json(&format!(r#"{{"prefix": "osd set", "key": "{flag}"}}"#));
        let dump = world.json(r#"{"prefix": "osd dump"}"#);
        assert_eq!(dump["flags"], *flag);
        world.json(&format!(r#"{{"prefix": "osd unset", "key": "{flag}"}}"#));
    }
    assert_eq!(world.map().flags, store_base::map::MapFlags::default());
}

#[test]
fn a_quota_that_is_used_up_marks_the_pool_until_there_is_room() {
    let mut world = four();
    assert_eq!(
        code(
            &mut world,
            r#"{"prefix": "osd pool set-quota", "pool": "p", "field": "max_bytes", "val": "many"}"#
        )
        .0,
        -errno::EINVAL
    );
    world.json(
        r#"{"prefix": "osd pool set-quota", "pool": "p", "field": "max_objects", "val": "2000"}"#,
    );
    world.json(
        r#"{"prefix": "osd pool set-quota", "pool": "p", "field": "max_bytes", "val": "1GiB"}"#,
    );
    let look = |world: &mut World, objects: u64| {
        // Leads that move begin an interval, of which is told again.
        (0..3).for_each(|_| {
            tell(world, objects, 0);
            world.pass(1000);
        });
        (world.map().is_over_quota(PoolId(1)), world.health())
    };
    assert_eq!(look(&mut world, 80), (false, vec![]));
    assert_eq!(look(&mut world, 110), (false, vec!["POOL_NEAR_FULL"]));
    assert_eq!(look(&mut world, 125), (true, vec!["POOL_FULL"]));
    let quota = world.json(r#"{"prefix": "osd pool get-quota", "pool": "p"}"#);
    assert_eq!(
        (&quota["current_num_objects"], &quota["is_over_quota"]),
        (&2000.into(), &true.into())
    );
    assert_eq!(look(&mut world, 50), (false, vec![]));
}

#[test]
fn limits_of_fullness_keep_their_order() {
    let mut world = four();
    let (refused, why) = code(&mut world, r#"{"prefix": "osd set-nearfull-ratio", "ratio": 0.93}"#);
    assert!(refused == -errno::EINVAL && why.contains("backfillfull"), "{why}");
    assert_eq!(code(&mut world, r#"{"prefix": "osd set-full-ratio", "ratio": 0.97}"#).0, 0);
    assert_eq!(code(&mut world, r#"{"prefix": "osd set-backfillfull-ratio", "ratio": 0.95}"#).0, 0);
    assert_eq!(code(&mut world, r#"{"prefix": "osd set-nearfull-ratio", "ratio": 0.93}"#).0, 0);
    assert!(world.health().is_empty());
    world.json(r#"{"prefix": "config set", "who": "global", "name": "mon_osd_full_ratio", "value": "0.5"}"#);
    assert!(world.health().contains(&"OSD_OUT_OF_ORDER_FULL"));
}

#[test]
fn a_clock_that_differs_an_old_program_and_a_low_disk_are_told() {
    let mut world = four();
    let mut request = World::boot_request(1, 2, "h1");
    request.version = "0.0.1".to_string();
    world.ask(Request::Boot(request));
    world.settle();
    let beats = |world: &mut World, ahead: u64| {
        for _ in 0..4 {
            world.pass(500);
            tell(world, 1, 0);
            let map = world.map().clone();
            let millis = world.monitor.wall(world.now).millis() + ahead;
            world.ask(Request::Beat(wire::BeatRequest {
                daemon: 2,
                incarnation: map.daemons[&DaemonId(2)].incarnation.0,
                epoch: map.epoch.0,
                capacity_bytes: 1 << 40,
                wall_millis: millis,
                ..wire::BeatRequest::default()
            }));
        }
    };
    beats(&mut world, 300);
    assert_eq!(world.health(), ["DAEMON_OLD_VERSION"]);
    beats(&mut world, 90_000);
    assert_eq!(world.health(), ["DAEMON_OLD_VERSION", "MON_CLOCK_SKEW"]);
    let low = surroundings::Disk { total_bytes: 100 << 30, free_bytes: 1 << 30 };
    world.step(Event::Looked { disk: low });
    assert!(world.health().contains(&"MON_DISK_LOW"));
    world.step(Event::Looked { disk: surroundings::Disk { free_bytes: 1 << 20, ..low } });
    assert!(world.health().contains(&"MON_DISK_CRIT"));
}
