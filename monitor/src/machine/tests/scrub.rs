//! Orders to scrub, tallies, and what the health makes of them.

use super::{World, three};
use crate::machine::health::Severity;
use crate::machine::*;
use serde_json::json;
use store_base::wire::PgReport;

/// Beats of every daemon, with each group's tally as `change` makes it from one of ten sound objects.
fn tell(world: &mut World, change: impl Fn(&mut PgReport)) {
    let now = world.monitor.wall(world.now).secs;
    let map = world.map().clone();
    for (id, info) in map.daemons.iter().filter(|(_, info)| info.up) {
        let led = map.pgs.iter().filter(|(_, record)| record.primary == *id);
        let reports = led.map(|(pg, record)| {
            let mut report = PgReport {
                pool: pg.pool.0 as u64,
                seed: pg.seed,
                interval: record.interval.0,
                state: "active+clean".to_string(),
                primary: true,
                objects: 10,
                bytes: 1000,
                full_objects: 10,
                verified_secs: now,
                last_scrub_secs: now,
                ..PgReport::default()
            };
            change(&mut report);
            report
        });
        let view = world.monitor.leader.as_ref().and_then(|leader| leader.view.daemons.get(id));
        let beat = wire::BeatRequest {
            daemon: id.0,
            incarnation: info.incarnation.0,
            epoch: map.epoch.0,
            pgs: reports.collect(),
            all_pgs: true,
            read_errors: view.map_or(0, |view| view.read_errors),
            ..wire::BeatRequest::default()
        };
        world.ask(Request::Beat(beat));
    }
}

fn audit(world: &mut World) -> serde_json::Value {
    world.json(r#"{"prefix": "audit redundancy"}"#)["pools"][0].clone()
}

#[test]
fn the_audit_adds_up_what_is_told_and_counts_silence_as_unknown() {
    let mut world = three();
    let pgs = world.map().pgs.len() as u64;
    tell(&mut world, |_| {});
    assert!(world.health().is_empty(), "{:?}", world.health());
    let row = audit(&mut world);
    assert_eq!((&row["objects"], &row["full"]), (&json!(10 * pgs), &json!(10 * pgs)));
    assert_eq!(
        (&row["below"], &row["unverified"], &row["pgs_unknown"]),
        (&json!(0), &json!(0), &json!(0))
    );
    tell(&mut world, |report| {
        if report.seed == 0 {
            (report.full_objects, report.below_objects) = (7, 3);
        }
    });
    assert_eq!(audit(&mut world)["below"], json!(3));
    // Of those who have been silent nothing is known.
    world.pass(6000);
    let row = audit(&mut world);
    assert_eq!(row["pgs_unknown"], json!(pgs), "{row}");
}

#[test]
fn what_was_not_verified_in_time_makes_the_health_worse() {
    let mut world = three();
    let day = 24 * 3600;
    tell(&mut world, |report| report.verified_secs -= 6 * day);
    assert_eq!(world.health(), Vec::<&str>::new());
    tell(&mut world, |report| report.verified_secs -= 8 * day);
    assert_eq!(world.health(), ["PG_NOT_DEEP_SCRUBBED"]);
    tell(&mut world, |report| {
        report.verified_secs -= 2 * day;
        report.last_scrub_secs -= 2 * day;
    });
    assert_eq!(world.health(), ["PG_NOT_SCRUBBED"]);
    // Neither nothing nor a time that is yet to come is evidence.
    for stamp in [0, u64::MAX] {
        tell(&mut world, |report| report.verified_secs = stamp);
        assert_eq!(world.health(), ["PG_NOT_DEEP_SCRUBBED"], "{stamp}");
        assert_eq!(audit(&mut world)["verified_since"], serde_json::Value::Null);
    }
    world.json(
        r#"{"prefix": "config set", "who": "mon", "name": "osd_deep_scrub_interval", "value": "0"}"#,
    );
    tell(&mut world, |report| report.verified_secs = 5);
    assert_eq!(world.health(), Vec::<&str>::new());
    tell(&mut world, |report| report.verified_secs = 0);
    assert_eq!(world.health(), ["PG_NOT_DEEP_SCRUBBED"]);
}

#[test]
fn bad_copies_are_errors_with_the_names_of_objects() {
    let mut world = three();
    tell(&mut world, |report| {
        if report.seed == 0 {
            report.state.push_str("+inconsistent");
            (report.scrub_errors, report.lost_objects) = (2, 1);
            report.bad_objects =
                vec!["a: osd.1: damaged".to_string(), "b is lost: damaged".to_string()];
        }
    });
    assert_eq!(world.health(), ["OBJECT_UNFOUND", "OSD_SCRUB_ERRORS", "PG_DAMAGED"]);
    let report = world.monitor.health(world.now);
    assert_eq!(report.status(), Severity::Error);
    assert!(report.checks["OBJECT_UNFOUND"].detail[0].contains("b is lost"));
    assert_eq!(report.checks["OSD_SCRUB_ERRORS"].detail.len(), 2);
    tell(&mut world, |_| {});
    assert!(world.health().is_empty());
}

#[test]
fn an_order_goes_when_all_have_carried_it_out() {
    let mut world = three();
    assert_eq!(world.command(r#"{"prefix": "scrub start", "deep": true}"#).code, 0);
    let all = *world.map().scrubs.keys().next().expect("an order");
    assert_eq!(world.command(r#"{"prefix": "pg repair", "pgid": "1.0"}"#).code, 0);
    assert_eq!(world.map().scrubs.len(), 2);
    assert_eq!(world.command(r#"{"prefix": "pg scrub", "pgid": "9.0"}"#).code, -2);
    assert_eq!(world.command(r#"{"prefix": "scrub start", "pool": "none"}"#).code, -2);
    let status = world.json(r#"{"prefix": "scrub status"}"#);
    assert_eq!(status["orders"].as_array().map(Vec::len), Some(2));
    tell(&mut world, |report| {
        if report.seed == 0 {
            report.scrub_order_done = all;
        }
    });
    world.pass(3000);
    assert_eq!(world.map().scrubs.len(), 2);
    let jobs = world.json(r#"{"prefix": "job ls"}"#);
    assert_eq!(
        (&jobs["jobs"][0]["id"], &jobs["jobs"][0]["state"]),
        (&json!("scrub"), &json!("running"))
    );
    tell(&mut world, |report| report.scrub_order_done = all);
    world.pass(3000);
    assert_eq!(world.map().scrubs.len(), 1, "one group's own is left");
    // The same again is one order.
    assert_eq!(world.command(r#"{"prefix": "pg repair", "pgid": "1.0"}"#).code, 0);
    assert_eq!(world.map().scrubs.len(), 1);
    assert_eq!(world.command(r#"{"prefix": "scrub stop"}"#).code, 0);
    assert!(world.map().scrubs.is_empty());
    assert_eq!(world.json(r#"{"prefix": "job ls"}"#)["jobs"], json!([]));
}

#[test]
fn progress_tells_how_much_is_left() {
    let mut world = three();
    assert_eq!(world.command(r#"{"prefix": "scrub start"}"#).code, 0);
    let number = *world.map().scrubs.keys().next().expect("an order");
    let started = world.monitor.wall(world.now).secs;
    let pgs = world.map().pgs.len() as u64;
    for _ in 0..30 {
        world.pass(1000);
        tell(&mut world, |_| {});
    }
    tell(&mut world, |report| {
        report.state = "active+clean+scrubbing".to_string();
        report.scrub = Some(wire::ScrubRun {
            order: number,
            started_secs: started,
            objects: 5,
            bytes: 500,
            ..wire::ScrubRun::default()
        });
    });
    let status = world.json(r#"{"prefix": "scrub status"}"#);
    assert_eq!((&status["state"], &status["pgs"]["running"]), (&json!("running"), &json!(pgs)));
    assert_eq!(status["progress"]["objects_done"], json!(5 * pgs));
    assert_eq!(status["progress"]["seconds_left"], json!(30), "half is done in 30 s");
    tell(&mut world, |report| report.scrub_order_done = number);
    world.pass(3000);
    assert_eq!(world.json(r#"{"prefix": "scrub status"}"#)["state"], json!("idle"));
}

#[test]
fn damage_that_was_read_is_done_with_when_all_was_read_again() {
    let mut world = three();
    let damaged = |world: &mut World, count: u64| {
        let beat = wire::BeatRequest {
            daemon: 1,
            incarnation: world.incarnation(1),
            epoch: world.map().epoch.0,
            read_errors: count,
            ..wire::BeatRequest::default()
        };
        world.ask(Request::Beat(beat));
        world.health().contains(&"OSD_DAMAGED")
    };
    tell(&mut world, |_| {});
    assert!(!damaged(&mut world, 0));
    assert!(damaged(&mut world, 1));
    world.pass(3000);
    tell(&mut world, |report| report.verified_secs -= 4);
    assert!(damaged(&mut world, 1), "that was read before");
    tell(&mut world, |report| report.scrub_errors = u64::from(report.seed == 0));
    assert!(damaged(&mut world, 1), "something bad is left");
    tell(&mut world, |_| {});
    assert!(!damaged(&mut world, 1));
    world.pass(1000);
    assert!(damaged(&mut world, 2), "it finds more");
}
