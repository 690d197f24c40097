//! Drives the machine with a memory store: transcripts (`scripts/`), random events, and single cases.
//!
//! A transcript is a list of blocks: `> what happens`, then what the monitor does about it. `STORE_TRANSCRIPTS=write`
//! writes what it does now into the files; read the difference before you commit it.

mod balance;
mod erasure;
mod placements;
mod planned;
mod random;
mod regroup;
mod scripts;
mod scrub;

use super::*;
use crate::state::{genesis, memory::MemoryStore};
use std::collections::BTreeMap;
use store_base::ClusterId;
use store_base::codec::Decode;
use store_base::ids::{Interval, PgId, PoolId};
use store_base::map::{Incremental, PgRecord};
use store_base::wire::{PgAsk, PgReport, pg_ask};

/// A cluster's monitor, its store and its clock.
pub(crate) struct World {
    pub(crate) store: MemoryStore,
    pub(crate) monitor: Monitor,
    pub(crate) now: Time,
    next: u64,
    pub(crate) replies: BTreeMap<u64, Reply>,
    /// Every step that was published.
    pub(crate) steps: Vec<Incremental>,
    /// Batches are not answered while this is set.
    pub(crate) hold: bool,
    pub(crate) held: Vec<(Ticket, Batch)>,
}

pub(crate) const START: u64 = 1_700_000_000;

impl World {
    pub(crate) fn new() -> World {
        let store = MemoryStore::new();
        let now = Timestamp { secs: START, nanos: 0 };
        store.commit_now(&genesis(ClusterId([1; 16]), now, None)).expect("an empty store");
        let mut world = World {
            store,
            monitor: Monitor::new(Settings::default(), Box::new(PlainSealer)),
            now: Time(1_000_000_000),
            next: 1,
            replies: BTreeMap::new(),
            steps: Vec::new(),
            hold: false,
            held: Vec::new(),
        };
        world.step(Event::Clock { wall: now });
        world.lead();
        world
    }

    pub(crate) fn lead(&mut self) {
        let stored = self.store.load_now();
        self.step(Event::Lead { stored });
    }

    /// A new process on the same store.
    pub(crate) fn restart(&mut self) {
        let wall = self.monitor.wall(self.now);
        self.held.clear();
        self.monitor = Monitor::new(Settings::default(), Box::new(PlainSealer));
        self.step(Event::Clock { wall });
        self.lead();
    }

    pub(crate) fn step(&mut self, event: Event) {
        let mut actions = Vec::new();
        self.monitor.step(self.now, event, &mut actions);
        for action in actions {
            match action {
                Action::Commit { ticket, batch } if self.hold => self.held.push((ticket, batch)),
                Action::Commit { ticket, batch } => {
                    self.store.commit_now(&batch).expect("nobody else commits");
                    self.step(Event::Committed { ticket });
                }
                Action::Publish { updates } => {
                    for update in updates {
                        for step in update.incrementals {
                            self.steps.push(Incremental::from_bytes(step).expect("decodable"));
                        }
                    }
                }
                Action::Reply { to, reply } => {
                    assert!(self.replies.insert(to.0, reply).is_none(), "one reply each");
                }
                Action::Resign { .. } => self.lead(),
            }
        }
    }

    /// Sends a request; its ticket.
    pub(crate) fn send(&mut self, request: Request) -> u64 {
        let from = Ticket(self.next);
        self.next += 1;
        self.step(Event::Request { from, request });
        from.0
    }

    pub(crate) fn ask(&mut self, request: Request) -> Reply {
        let ticket = self.send(request);
        self.replies.get(&ticket).cloned().expect("answered at once")
    }

    pub(crate) fn pass(&mut self, millis: u64) {
        let end = self.now + Duration::from_millis(millis);
        while let Some(wake) = self.monitor.wake_at().filter(|wake| *wake <= end) {
            self.now = self.now.max(wake);
            self.step(Event::Woke);
            if self.monitor.wake_at() == Some(wake) {
                panic!("the monitor wants to be woken again at once");
            }
        }
        self.now = self.now.max(end);
    }

    pub(crate) fn boot_request(id: i32, incarnation: u64, host: &str) -> wire::BootRequest {
        wire::BootRequest {
            daemon: id,
            uuid: Bytes::from(vec![u8::try_from(id).unwrap_or(99) + 10; 16]),
            incarnation,
            address: format!("10.0.0.{}:6800", id + 1),
            host: host.to_string(),
            capacity_bytes: 1 << 40,
            ..wire::BootRequest::default()
        }
    }

    pub(crate) fn boot(&mut self, id: i32, incarnation: u64) -> wire::BootReply {
        let host = format!("h{id}");
        match self.ask(Request::Boot(World::boot_request(id, incarnation, &host))) {
            Reply::Boot(reply) => reply,
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn command(&mut self, json: &str) -> wire::CommandReply {
        let command = wire::CommandRequest { json: json.to_string(), input: Bytes::new() };
        let mut entropy = [0; ENTROPY_BYTES];
        entropy.iter_mut().enumerate().for_each(|(i, byte)| *byte = (i as u8) ^ (self.next as u8));
        match self.ask(Request::Command { command, entropy }) {
            Reply::Command(reply) => reply,
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn json(&mut self, json: &str) -> serde_json::Value {
        let reply = self.command(json);
        assert_eq!(reply.code, 0, "{json}: {}", reply.status);
        serde_json::from_slice(&reply.output).unwrap_or(serde_json::Value::Null)
    }

    pub(crate) fn map(&self) -> &OsdMap {
        self.monitor.osd_map().expect("leads")
    }

    pub(crate) fn pg(&self, text: &str) -> PgRecord {
        self.map().pgs[&text.parse::<PgId>().expect("a group")].clone()
    }

    pub(crate) fn incarnation(&self, id: i32) -> u64 {
        self.map().daemons.get(&DaemonId(id)).map_or(0, |info| info.incarnation.0)
    }

    pub(crate) fn ask_pg(&mut self, from: i32, pg: PgId, kind: pg_ask::Kind, learner: i32) {
        let interval = self.map().pgs[&pg].interval.0;
        let batch = wire::PgAskBatch {
            daemon: from,
            incarnation: self.incarnation(from),
            asks: vec![PgAsk {
                pool: pg.pool.0 as u64,
                seed: pg.seed,
                interval,
                kind: kind.into(),
                learner,
            }],
        };
        self.ask(Request::Asks(batch));
    }

    pub(crate) fn refused(&mut self, reporter: i32, failed: i32) {
        let report = wire::FailureReport {
            reporter,
            reporter_incarnation: self.incarnation(reporter),
            failed,
            failed_incarnation: self.incarnation(failed),
            refused: true,
            silent_millis: 0,
        };
        self.ask(Request::Failure(report));
    }

    /// Beats of every daemon that is up, each with a report of the groups that it leads.
    pub(crate) fn beats(&mut self, state: &str) {
        let map = self.map().clone();
        for (id, info) in map.daemons.iter().filter(|(_, info)| info.up) {
            let pgs = map.pgs.iter().filter(|(_, record)| record.members.contains(id));
            let reports = pgs.map(|(pg, record)| PgReport {
                pool: pg.pool.0 as u64,
                seed: pg.seed,
                interval: record.interval.0,
                state: state.to_string(),
                primary: record.primary == *id,
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
            self.ask(Request::Beat(beat));
        }
    }

    pub(crate) fn health(&self) -> Vec<&'static str> {
        self.monitor.health(self.now).checks.keys().copied().collect()
    }

    /// What the primaries would ask for now: activation, promotion of every learner that is up.
    pub(crate) fn settle(&mut self) {
        for _ in 0..50 {
            let map = self.map().clone();
            let mut quiet = true;
            for (pg, record) in &map.pgs {
                if !map.is_up_as(record.primary, record.primary_incarnation) {
                    continue;
                }
                if !record.is_active() {
                    self.ask_pg(record.primary.0, *pg, pg_ask::Kind::Activate, 0);
                    quiet = false;
                } else if let Some(learner) = record.learners.iter().find(|id| map.is_up(**id)) {
                    self.ask_pg(record.primary.0, *pg, pg_ask::Kind::Promote, learner.0);
                    quiet = false;
                }
            }
            if quiet {
                return;
            }
        }
        panic!("the groups do not come to rest");
    }
}

/// Three daemons on three hosts, and a pool of eight groups that are active and clean.
pub(crate) fn three() -> World {
    let mut world = World::new();
    for id in 0..3 {
        assert_eq!(world.boot(id, 1).refused, "");
    }
    world.json(r#"{"prefix": "osd pool create", "pool": "p", "pg_num": 8}"#);
    world.settle();
    world.beats("active+clean");
    world
}

#[test]
fn a_new_pool_on_three_daemons_is_healthy_once_it_is_reported() {
    let mut world = World::new();
    assert_eq!(world.health(), ["TOO_FEW_OSDS"]);
    for id in 0..3 {
        world.boot(id, 1);
    }
    assert_eq!(world.health(), ["OSD_UNREPORTED"]);
    world.beats("active+clean");
    assert!(world.health().is_empty(), "an empty cluster with enough daemons is well");
    world.json(r#"{"prefix": "osd pool create", "pool": "p"}"#);
    assert_eq!(world.map().pgs.len(), 32, "three daemons: 32 groups");
    assert_eq!(world.health(), ["PG_UNREPORTED"], "nobody has said that they are active");
    world.beats("active+clean");
    assert!(world.health().is_empty(), "{:?}", world.health());
    let status = world.json(r#"{"prefix": "status"}"#);
    assert_eq!(status["pgmap"]["pgs_by_state"][0]["state_name"], "active+clean");
    assert_eq!(status["health"]["status"], "HEALTH_OK");
    let record = world.pg("1.0");
    assert_eq!((record.members.len(), record.interval), (3, Interval(1)));
    let leads: std::collections::BTreeSet<_> =
        world.map().pgs.values().map(|record| record.primary).collect();
    assert_eq!(leads.len(), 3, "everybody leads something");
}

#[test]
fn a_refused_connection_takes_a_daemon_down_at_once_and_it_comes_back_as_a_learner() {
    let mut world = three();
    world.refused(0, 2);
    assert!(!world.map().is_up(DaemonId(2)));
    for record in world.map().pgs.values() {
        assert_eq!(record.members.len(), 2);
        assert_eq!(record.interval, Interval(2), "one change each");
        assert!(record.holders.contains(&DaemonId(2)), "it holds until the activation");
    }
    world.settle();
    assert!(world.map().pgs.values().all(|record| record.is_active()));
    world.beats("active");
    assert_eq!(world.health(), ["OSD_DOWN", "OSD_HOST_DOWN", "PG_DEGRADED"]);
    world.boot(2, 2);
    for record in world.map().pgs.values() {
        assert!(record.learners.contains(&DaemonId(2)) && !record.holders.contains(&DaemonId(2)));
    }
    world.settle();
    world.beats("active+clean");
    assert!(world.health().is_empty(), "{:?}", world.health());
    for (pg, record) in &world.map().pgs {
        assert_eq!(record.members.len(), 3);
        assert_eq!(record.primary, record.members[0]);
        let target = world.monitor.leader.as_ref().expect("leads").targets.of(*pg);
        assert!(target.iter().all(|id| record.members.contains(id)), "it is back where it belongs");
    }
}

#[test]
fn a_holder_that_returns_before_the_activation_is_taken_in_again() {
    let mut world = three();
    world.refused(0, 2);
    world.boot(2, 2);
    for record in world.map().pgs.values() {
        assert_eq!((record.members.len(), record.learners.len()), (3, 0));
        assert_eq!(record.interval, Interval(3));
    }
}

#[test]
fn a_restart_raises_only_what_the_daemon_led() {
    let mut world = three();
    let before = world.map().pgs.clone();
    world.boot(1, 2);
    for (pg, record) in &world.map().pgs {
        let led = before[pg].primary == DaemonId(1);
        assert_eq!(record.interval, Interval(if led { 2 } else { 1 }));
        assert_eq!(record.members, before[pg].members);
        let life = if led { 2 } else { 1 };
        assert_eq!(record.primary_incarnation, Incarnation(life));
    }
    let epoch = world.map().epoch;
    assert_eq!(world.boot(1, 2).epoch, epoch.0, "said again, nothing changes");
    assert_eq!(world.map().epoch, epoch);
}

#[test]
fn with_nobody_left_the_group_waits_for_any_holder() {
    let mut world = three();
    for (reporter, failed) in [(0, 1), (0, 2)] {
        world.refused(reporter, failed);
    }
    world.pass(20_000); // the last one is silent too
    assert!(world.map().daemons.values().all(|info| !info.up));
    let waiting = world.map().pgs.clone();
    assert!(waiting.values().all(|record| record.members == [DaemonId(0)]));
    // Not activated alone, so the others are holders still, and one of them goes on.
    world.boot(1, 2);
    assert!(world.map().pgs.values().all(|record| record.members == [DaemonId(1)]));
    world.settle();
    world.boot(0, 2);
    assert!(world.map().pgs.values().all(|record| record.learners.contains(&DaemonId(0))));
}

#[test]
fn silence_needs_witnesses_and_the_monitors_own_ear() {
    let mut world = three();
    world.boot(3, 1);
    let report = |world: &World, reporter: i32, millis: u64| wire::FailureReport {
        reporter,
        reporter_incarnation: world.incarnation(reporter),
        failed: 2,
        failed_incarnation: 1,
        refused: false,
        silent_millis: millis,
    };
    let one = report(&world, 0, 4100);
    world.ask(Request::Failure(one));
    world.pass(2000);
    assert!(world.map().is_up(DaemonId(2)), "one witness of three others is not enough");
    for reporter in [0, 1] {
        let report = report(&world, reporter, 4100);
        world.ask(Request::Failure(report));
    }
    assert!(world.map().is_up(DaemonId(2)), "the monitor heard it two seconds ago");
    world.pass(1500);
    assert!(!world.map().is_up(DaemonId(2)));
    // A late report of the life before does not hurt the next.
    world.boot(2, 2);
    let late = report(&world, 0, 60_000);
    world.ask(Request::Failure(late));
    world.pass(1000);
    assert!(world.map().is_up(DaemonId(2)));
}

#[test]
fn a_silence_that_ended_is_not_counted_on() {
    let mut world = three();
    world.settle();
    for reporter in [0, 1] {
        let (reporter_incarnation, failed_incarnation) = (world.incarnation(reporter), 1);
        let (failed, refused, silent_millis) = (2, false, 5000);
        world.ask(Request::Failure(wire::FailureReport {
            reporter,
            reporter_incarnation,
            failed,
            failed_incarnation,
            refused,
            silent_millis,
        }));
    }
    // They hear it again, and so tell nothing any more.
    for _ in 0..10 {
        world.beats("active+clean");
        world.pass(1000);
        assert!(world.map().is_up(DaemonId(2)));
    }
}

#[test]
fn a_monitor_that_stood_still_blames_nobody() {
    let mut world = three();
    world.now = world.now + Duration::from_secs(120);
    world.step(Event::Woke);
    world.pass(3000);
    assert!(world.map().daemons.values().all(|info| info.up));
}

#[test]
fn out_after_the_delay_moves_data_and_in_moves_it_back() {
    let mut world = three();
    world.boot(3, 1);
    world.settle();
    world.beats("active+clean");
    world.json(r#"{"prefix": "config set", "who": "mon", "name": "mon_osd_down_out_interval", "value": "60"}"#);
    world.refused(0, 3);
    world.settle();
    for _ in 0..30 {
        world.beats("active");
        world.pass(1000);
    }
    assert_ne!(world.map().daemons[&DaemonId(3)].weight, 0);
    for _ in 0..40 {
        world.beats("active");
        world.pass(1000);
    }
    let info = &world.map().daemons[&DaemonId(3)];
    assert!(info.weight == 0 && info.auto_out);
    world.settle();
    world.beats("active+clean");
    assert_eq!(world.health(), ["OSD_OUT"]);
    world.boot(3, 2);
    assert_eq!(world.map().daemons[&DaemonId(3)].weight, 0x10000, "it comes in by itself");
    world.settle();
    world.pass(1000);
    world.beats("active+clean");
    world.settle();
    world.beats("active+clean");
    assert!(world.health().is_empty(), "{:?}", world.health());
    assert!(world.map().pgs.values().all(|record| record.members.len() == 3));
}

#[test]
fn ids_are_bound_to_directories() {
    let mut world = World::new();
    let new = |uuid: u8| wire::BootRequest {
        uuid: Bytes::from(vec![uuid; 16]),
        daemon: -1,
        ..World::boot_request(0, 1, "h")
    };
    let mut boot = |request| match world.ask(Request::Boot(request)) {
        Reply::Boot(reply) => reply,
        other => panic!("{other:?}"),
    };
    assert_eq!(boot(new(7)).daemon, 0);
    assert_eq!(boot(new(8)).daemon, 1);
    assert_eq!(boot(new(7)).daemon, 0, "the same directory, the same id");
    let stolen = wire::BootRequest { daemon: 0, ..new(9) };
    let refused = boot(stolen).refused;
    assert!(
        refused.contains("another data directory") && refused.contains("osd rm 0"),
        "{refused}"
    );
    let wrong = wire::BootRequest { daemon: 5, ..new(7) };
    assert!(boot(wrong).refused.contains("belongs to osd.0"));
    let foreign = wire::BootRequest { cluster: Bytes::from(vec![9; 16]), ..new(7) };
    assert!(boot(foreign).refused.contains("belongs to cluster"));
    let old = wire::BootRequest { incarnation: 0, ..new(7) };
    assert!(boot(old).refused.contains("incarnations begin at 1"));
    let nowhere = wire::BootRequest { address: "nowhere".to_string(), ..new(9) };
    assert!(boot(nowhere).refused.contains("is not an address"));
}

#[test]
fn what_waits_goes_into_one_commit_and_is_answered_after_it() {
    let mut world = three();
    world.hold = true;
    let first = world.send(Request::Boot(World::boot_request(3, 1, "h3")));
    let second = world.send(Request::Boot(World::boot_request(4, 1, "h4")));
    let third = world.send(Request::Boot(World::boot_request(5, 1, "h5")));
    assert_eq!(world.held.len(), 1, "one batch at a time");
    assert!([first, second, third].iter().all(|ticket| !world.replies.contains_key(ticket)));
    let epoch = world.map().epoch;
    let (ticket, batch) = world.held.remove(0);
    world.store.commit_now(&batch).expect("committed");
    world.step(Event::Committed { ticket });
    assert!(world.replies.contains_key(&first) && !world.replies.contains_key(&second));
    let (ticket, batch) = world.held.remove(0);
    world.store.commit_now(&batch).expect("committed");
    world.hold = false;
    world.step(Event::Committed { ticket });
    assert!(world.replies.contains_key(&second) && world.replies.contains_key(&third));
    assert_eq!(world.map().epoch.0, epoch.0 + 2, "two boots made one epoch");
}

#[test]
fn a_commit_of_unknown_outcome_is_looked_up_before_anything_else() {
    for happened in [false, true] {
        let mut world = three();
        world.hold = true;
        let ticket = world.send(Request::Boot(World::boot_request(3, 1, "h3")));
        let (commit, batch) = world.held.remove(0);
        if happened {
            world.store.commit_now(&batch).expect("committed");
        }
        world.hold = false;
        world.step(Event::CommitFailed { ticket: commit, why: "the link broke".to_string() });
        assert!(matches!(&world.replies[&ticket], Reply::Unknown(_)));
        assert!(world.monitor.leads());
        assert_eq!(world.map().daemons.contains_key(&DaemonId(3)), happened);
        assert_eq!(world.boot(3, 1).refused, "");
    }
}

#[test]
fn a_new_leader_goes_on_where_the_last_one_was() {
    let mut world = three();
    let client = |world: &mut World| match world
        .ask(Request::NewClient(wire::NewClientRequest::default()))
    {
        Reply::NewClient(reply) => reply.client,
        other => panic!("{other:?}"),
    };
    let (a, b) = (client(&mut world), client(&mut world));
    assert_eq!((a, b), (FIRST_CLIENT, FIRST_CLIENT + 1));
    let before = world.map().clone();
    world.restart();
    assert_eq!(*world.map(), before);
    assert_eq!(client(&mut world), FIRST_CLIENT + CLIENT_BLOCK, "no id twice");
    assert!(world.health().contains(&"PG_UNREPORTED"), "what it has not heard is not well");
    world.beats("active+clean");
    assert!(world.health().is_empty());
    for round in 0..600 {
        let flag = if round % 2 == 0 { "set" } else { "unset" };
        world.json(&format!(r#"{{"prefix": "osd {flag}", "key": "noout"}}"#));
    }
    let before = world.map().clone();
    let steps =
        world.store.load_now().entries.keys().filter(|key| key.starts_with("osd/inc/")).count();
    assert!((400..=crate::state::HISTORY_EPOCHS_MAX as usize + 1).contains(&steps), "{steps}");
    world.restart();
    assert_eq!(*world.map(), before);
}

#[test]
fn subscribers_get_steps_while_they_are_kept_and_the_whole_map_else() {
    let mut world = three();
    let want = |have| [wire::Want { kind: wire::MapKind::MapOsd.into(), have }];
    let full = world.monitor.updates_since(&want(0));
    let mut map = OsdMap::from_bytes(full[0].full.clone()).expect("decodable");
    assert_eq!(map, *world.map());
    let have = map.epoch.0;
    world.refused(0, 1);
    world.settle();
    let update = &world.monitor.updates_since(&want(have))[0];
    assert!(update.full.is_empty());
    for step in &update.incrementals {
        map.apply(&Incremental::from_bytes(step.clone()).expect("decodable")).expect("in order");
    }
    assert_eq!(map, *world.map());
    assert!(world.monitor.updates_since(&want(map.epoch.0)).is_empty(), "nothing to say");
    let ahead = &world.monitor.updates_since(&want(map.epoch.0 + 100))[0];
    assert!(!ahead.full.is_empty(), "a subscriber from the future gets the truth");
}

#[test]
fn pg_force_wants_all_holders_off_and_fences_them() {
    let mut world = three();
    // 2 falls behind: 0 and 1 went on without it.
    world.refused(0, 2);
    world.settle();
    let pg = "1.0";
    world.refused(0, 1);
    world.settle(); // 0 alone: it served reads, and holds alone
    world.pass(20_000);
    assert_eq!(world.pg(pg).holders.len(), 1);
    let force =
        format!(r#"{{"prefix": "pg force", "pgid": "{pg}", "sure": "--yes-i-really-mean-it"}}"#);
    assert!(world.command(&force).status.contains("is up") || world.command(&force).code != 0);
    world.boot(1, 2);
    assert!(world.pg(pg).members.contains(&DaemonId(0)), "1 is no holder, so the group waits");
    let unsure = format!(r#"{{"prefix": "pg force", "pgid": "{pg}"}}"#);
    assert!(world.command(&unsure).status.contains("--yes-i-really-mean-it"));
    let reply = world.command(&force);
    assert_eq!(reply.code, 0, "{}", reply.status);
    assert!(reply.status.contains("nothing that was acknowledged is lost"), "{}", reply.status);
    let record = world.pg(pg);
    assert_eq!((record.members.clone(), record.primary), (vec![DaemonId(1)], DaemonId(1)));
    assert!(world.boot(0, 1).refused.contains("given up"), "the life that was given up stays off");
    assert_eq!(world.boot(0, 2).refused, "");
    assert!(world.pg(pg).learners.contains(&DaemonId(0)) || !world.pg(pg).is_active());
}

#[test]
fn changing_min_size_begins_new_intervals_and_size_moves_copies() {
    let mut world = three();
    world.json(r#"{"prefix": "osd pool set", "pool": "p", "var": "min_size", "val": 1}"#);
    assert!(
        world.map().pgs.values().all(|record| record.interval == Interval(2) && record.is_active())
    );
    world.json(r#"{"prefix": "osd pool set", "pool": "p", "var": "size", "val": "2"}"#);
    world.settle();
    assert!(world.map().pgs.values().all(|record| record.members.len() == 2));
    world.json(r#"{"prefix": "osd pool set", "pool": "p", "var": "size", "val": "3"}"#);
    world.settle();
    assert!(world.map().pgs.values().all(|record| record.members.len() == 3 && record.is_active()));
    assert_eq!(world.map().pools[&PoolId(1)].min_size, 1, "set by hand, so it stays");
}

#[test]
fn the_rule_follows_the_number_of_hosts() {
    let mut world = World::new();
    for id in 0..3 {
        let request = World::boot_request(id, 1, "one");
        world.ask(Request::Boot(request));
    }
    world.json(r#"{"prefix": "osd pool create", "pool": "p"}"#);
    let detail = |world: &mut World| {
        let pools = world.json(r#"{"prefix": "osd pool ls", "detail": "detail"}"#);
        pools[0]["failure_domain"].as_str().map(str::to_string)
    };
    assert_eq!(detail(&mut world).as_deref(), Some("osd"));
    assert!(world.map().pgs.values().all(|record| record.members.len() == 3));
    for id in 3..5 {
        world.boot(id, 1);
        assert_eq!(world.map().pgs.values().map(|record| record.members.len()).min(), Some(3));
    }
    assert_eq!(detail(&mut world).as_deref(), Some("host"));
    world.settle();
    for record in world.map().pgs.values() {
        let hosts: std::collections::BTreeSet<_> =
            record.members.iter().map(|id| &world.map().daemons[id].host).collect();
        assert_eq!(hosts.len(), 3, "every copy on another host: {record:?}");
    }
}

#[test]
fn a_removed_daemon_is_nobody_and_a_stranger_gets_another_id() {
    let mut world = three();
    world.boot(3, 1);
    world.settle();
    world.refused(0, 2); // not activated yet: 2 is a holder still
    assert!(world.map().pgs.values().any(|record| record.holders.contains(&DaemonId(2))));
    let rm = r#"{"prefix": "osd rm", "id": 2, "sure": "--yes-i-really-mean-it"}"#;
    assert_eq!(world.command(rm).code, 0);
    for record in world.map().pgs.values() {
        let everybody = record.members.iter().chain(&record.holders).chain(&record.writers);
        assert!(everybody.chain(&record.learners).all(|id| *id != DaemonId(2)), "{record:?}");
    }
    assert!(world.map().crush.device_weight(DaemonId(2)).is_none());
    let stranger = wire::BootRequest {
        daemon: -1,
        uuid: Bytes::from(vec![77; 16]),
        ..World::boot_request(2, 1, "h9")
    };
    assert!(matches!(world.ask(Request::Boot(stranger)), Reply::Boot(reply) if reply.daemon == 4));
    assert!(world.map().pgs.values().all(|record| !record.holders.contains(&DaemonId(2))));
    world.settle();
    world.pass(1000);
    world.settle();
    assert!(world.map().pgs.values().all(|record| record.members.len() == 3 && record.is_active()));
}

#[test]
fn the_last_that_has_everything_cannot_be_removed() {
    let mut world = three();
    world.refused(0, 1);
    world.refused(0, 2);
    world.settle(); // 0 alone
    world.pass(20_000);
    let rm = r#"{"prefix": "osd rm", "id": 0, "sure": "--yes-i-really-mean-it"}"#;
    let reply = world.command(rm);
    assert_eq!(reply.code, -16, "{}", reply.status);
    assert!(reply.status.contains("alone has everything"), "{}", reply.status);
}

#[test]
fn a_daemon_whose_links_are_bad_is_let_in_later_each_time() {
    let mut world = three();
    let mut waits = Vec::new();
    for _ in 0..5 {
        world.beats("active+clean");
        let report = wire::FailureReport {
            reporter: 0,
            reporter_incarnation: 1,
            failed: 2,
            failed_incarnation: 1,
            refused: false,
            silent_millis: 9000,
        };
        world.ask(Request::Failure(report));
        world.pass(1100);
        assert!(!world.map().is_up(DaemonId(2)));
        let ticket = world.send(Request::Boot(World::boot_request(2, 1, "h2")));
        let mut waited = 0;
        while !world.replies.contains_key(&ticket) {
            world.pass(500);
            world.beats("active");
            waited += 500;
            assert!(waited < 200_000);
        }
        assert!(world.map().is_up(DaemonId(2)));
        waits.push(waited);
    }
    assert_eq!(waits[0], 0, "once is nothing: {waits:?}");
    assert!(waits.windows(2).all(|pair| pair[0] < pair[1]), "{waits:?}");
}

#[test]
fn the_cluster_is_full_when_a_daemon_is_and_free_again_after() {
    let mut world = three();
    let beat = |used: u64| wire::BeatRequest {
        daemon: 1,
        incarnation: 1,
        capacity_bytes: 1000,
        used_bytes: used,
        ..wire::BeatRequest::default()
    };
    for (used, expected) in
        [(840, vec![]), (860, vec!["OSD_NEARFULL"]), (910, vec!["OSD_BACKFILLFULL"])]
    {
        world.ask(Request::Beat(beat(used)));
        world.pass(1000);
        assert_eq!(world.health(), expected);
        assert!(!world.map().flags.full);
    }
    world.ask(Request::Beat(beat(960)));
    world.pass(1000);
    assert!(world.map().flags.full);
    assert_eq!(world.health(), ["CLUSTER_FULL", "OSD_FULL"]);
    world.beats("active+clean"); // all are heard lately
    world.ask(Request::Beat(beat(700)));
    world.pass(1000);
    assert!(!world.map().flags.full && world.health().is_empty());
}

#[test]
fn services_come_go_and_are_missed() {
    let mut world = World::new();
    let beat = |state: &str| wire::ServiceBeatRequest {
        role: "gateway".to_string(),
        name: "a".to_string(),
        address: "10.0.0.9:8888".to_string(),
        incarnation: 1,
        state: state.to_string(),
        ..wire::ServiceBeatRequest::default()
    };
    world.ask(Request::Service(beat("active")));
    let state = |world: &World| {
        world
            .monitor
            .service_map()
            .expect("leads")
            .services
            .get("gateway.a")
            .map(|s| s.state.clone())
    };
    assert_eq!(state(&world).as_deref(), Some("active"));
    let epoch = world.monitor.service_map().expect("leads").epoch;
    world.ask(Request::Service(beat("active")));
    assert_eq!(world.monitor.service_map().expect("leads").epoch, epoch, "nothing new, no commit");
    world.pass(16_000);
    assert_eq!(state(&world).as_deref(), Some("down"));
    assert!(world.health().contains(&"GATEWAY_DOWN"));
    world.ask(Request::Service(beat("active")));
    assert_eq!(state(&world).as_deref(), Some("active"));
    world.ask(Request::Service(beat("stopped")));
    assert_eq!(state(&world), None, "who takes its leave is not missed");
}

#[test]
fn keys_are_given_once_and_the_last_administrator_stays() {
    let mut world = World::new();
    let create =
        |name: &str, more: &str| format!(r#"{{"prefix": "user create", "user": "{name}"{more}}}"#);
    let made = world.json(&create("boss", r#", "admin": true"#));
    let (access, secret) = (made["access_key"].clone(), made["secret_key"].clone());
    assert_eq!(access.as_str().map(str::len), Some(20));
    assert_eq!(secret.as_str().map(str::len), Some(40));
    let info = world.json(r#"{"prefix": "user info", "user": "boss"}"#).to_string();
    assert!(!info.contains(secret.as_str().expect("text")), "{info}");
    let own = r#", "access_key": "MYKEY", "secret_key": "my secret key"#;
    assert_eq!(world.command(&create("b", &format!("{own}\""))).code, -22, "blanks cannot be sent");
    let own = r#", "access_key": "MYKEY", "secret_key": "mysecretkey""#;
    assert_eq!(world.json(&create("b", own))["access_key"], "MYKEY");
    let taken = world.command(&create("c", own));
    assert!(taken.code == -22 && taken.status.contains("is taken"), "{}", taken.status);
    assert!(
        !world.monitor.auth_map().expect("leads").users.contains_key("c"),
        "nothing is left behind"
    );
    assert_eq!(world.command(&create("b", "")).code, -17);
    world.json(&create("b", r#", "if_not_exists": true"#));
    let sure = r#""sure": "--yes-i-really-mean-it""#;
    let rm = world.command(&format!(r#"{{"prefix": "user rm", "user": "boss", {sure}}}"#));
    assert!(rm.code == -16 && rm.status.contains("last administrator"), "{}", rm.status);
    let demote = world.command(r#"{"prefix": "user modify", "user": "boss", "admin": false}"#);
    assert_eq!(demote.code, -16);
    world.json(r#"{"prefix": "user modify", "user": "b", "admin": true}"#);
    assert_eq!(
        world.command(&format!(r#"{{"prefix": "user rm", "user": "boss", {sure}}}"#)).code,
        0
    );
    let more = world.json(r#"{"prefix": "user key add", "user": "b"}"#);
    assert_eq!(more["keys"].as_array().map(Vec::len), Some(2));
    let rm = r#"{"prefix": "user key rm", "user": "b", "access_key": "MYKEY", "sure": true}"#;
    assert_eq!(world.command(rm).code, 0);
    let left = world.json(r#"{"prefix": "user key ls", "user": "b", "show": true}"#);
    assert_eq!(left[0]["secret_key"], more["secret_key"]);
}

#[test]
fn members_of_an_account_are_called_by_both_names() {
    let mut world = World::new();
    world.json(r#"{"prefix": "user create", "user": "a"}"#);
    let made = world.json(r#"{"prefix": "user create", "user": "ann", "account": "a"}"#);
    assert_eq!((&made["user_id"], &made["account"]), (&"a:ann".into(), &"a".into()));
    assert_eq!(made["caps"]["swift"], "full");
    assert!(made["secret_key"].is_string());
    // One of the same name in another account, which has no user of its own.
    let other = r#"{"prefix": "user create", "user": "ann", "account": "b", "access": "none"}"#;
    assert_eq!(world.json(other)["caps"]["swift"], "none");
    assert_eq!(world.command(other).code, -17);
    let modify = |user: &str, change: &str| {
        format!(r#"{{"prefix": "user modify", "user": "{user}", {change}}}"#)
    };
    assert_eq!(world.json(&modify("b:ann", r#""access": "full""#))["caps"]["swift"], "full");
    for (user, change) in
        [("b:ann", r#""access": "x""#), ("b:ann", r#""admin": true"#), ("a", r#""access": "full""#)]
    {
        assert_eq!(world.command(&modify(user, change)).code, -22, "{user} {change}");
    }
    let rm = |user: &str| format!(r#"{{"prefix": "user rm", "user": "{user}", "sure": true}}"#);
    let refused = world.command(&rm("a"));
    assert!(refused.code == -16 && refused.status.contains("a:ann"), "{}", refused.status);
    assert_eq!(world.command(&rm("a:ann")).code, 0);
    assert_eq!(world.command(&rm("a")).code, 0);
}

#[test]
fn every_command_describes_itself_and_none_panics_on_what_it_is_given() {
    let mut world = three();
    let table = world.json(r#"{"prefix": "get_command_descriptions"}"#);
    let rows = table.as_array().expect("a list").clone();
    assert!(rows.len() > 50);
    let values =
        ["0", "1", "-1", "osd.0", "p", "1.0", "99999999999", "", "x=y", "[]", "true", "all"];
    for row in &rows {
        let prefix = row["prefix"].as_str().expect("a name");
        assert!(row["help"].as_str().is_some_and(|help| help.ends_with('.')), "{prefix}");
        for value in values {
            let mut command = serde_json::Map::new();
            command.insert("prefix".to_string(), prefix.into());
            command.insert("sure".to_string(), "--yes-i-really-mean-it".into());
            for arg in row["args"].as_array().expect("a list") {
                command.insert(arg["name"].as_str().expect("a name").to_string(), value.into());
            }
            let reply = world.command(&serde_json::Value::Object(command).to_string());
            assert!(reply.code <= 0);
            assert!(reply.code == 0 || !reply.status.is_empty(), "{prefix}: a refusal says why");
        }
        if row["destructive"] == true {
            let mut command = serde_json::Map::new();
            command.insert("prefix".to_string(), prefix.into());
            for arg in row["args"].as_array().expect("a list") {
                command.insert(arg["name"].as_str().expect("a name").to_string(), "1.0".into());
            }
            let reply = world.command(&serde_json::Value::Object(command).to_string());
            assert!(reply.code < 0, "{prefix} must ask whether one is sure");
        }
    }
}

#[test]
fn settings_are_checked_and_seen_by_their_service() {
    let mut world = World::new();
    for setting in settings::SETTINGS {
        let default = settings::check(setting, setting.default);
        assert!(default.is_ok(), "{}: {default:?}", setting.name);
    }
    assert!(settings::SETTINGS.windows(2).all(|pair| pair[0].name < pair[1].name), "sorted");
    world
        .json(r#"{"prefix": "config set", "who": "osd", "name": "osd_max_backfills", "value": 7}"#);
    world.json(
        r#"{"prefix": "config set", "who": "osd.3", "name": "osd_max_backfills", "value": "9"}"#,
    );
    let mut seen = |who: &str| {
        let get =
            format!(r#"{{"prefix": "config get", "who": "{who}", "key": "osd_max_backfills"}}"#);
        world.json(&get)["osd_max_backfills"].as_str().map(str::to_string)
    };
    assert_eq!(seen("daemon.3").as_deref(), Some("9"));
    assert_eq!(seen("daemon.4").as_deref(), Some("7"));
    assert_eq!(seen("gateway").as_deref(), Some("4"));
    world.json(r#"{"prefix": "config rm", "who": "osd.3", "name": "osd_max_backfills"}"#);
    let dump = world.json(r#"{"prefix": "config dump"}"#);
    assert_eq!(dump.as_array().map(Vec::len), Some(1));
}

#[test]
fn a_report_by_an_older_map_says_nothing_of_a_member_that_restarted() {
    let mut world = three();
    assert!(world.health().is_empty());
    let before = world.map().clone();
    let (pg, record) = before.pgs.iter().next().expect("a group");
    let (pg, record) = (*pg, record.clone());
    let member = record.members[1];
    assert_eq!(world.boot(member.0, 2).refused, "");
    assert_eq!(world.map().pgs[&pg].interval, record.interval, "the primary is another");
    assert!(world.health().contains(&"PG_UNREPORTED"));

    let beat = |epoch: Epoch| wire::BeatRequest {
        daemon: record.primary.0,
        incarnation: 1,
        epoch: epoch.0,
        all_pgs: true,
        pgs: vec![PgReport {
            pool: pg.pool.0 as u64,
            seed: pg.seed,
            interval: record.interval.0,
            state: "active+clean".to_string(),
            primary: true,
            ..PgReport::default()
        }],
        ..wire::BeatRequest::default()
    };
    let is_known = |world: &mut World| {
        let row = world.json(&format!(r#"{{"prefix": "pg query", "pgid": "{pg}"}}"#));
        row["reported"] == serde_json::json!(true)
    };
    // It was on its way when the member restarted, and asks for another look.
    let Reply::Beat(reply) = world.ask(Request::Beat(beat(before.epoch))) else { panic!("a beat") };
    assert!(reply.want_all && !is_known(&mut world));
    let newest = world.map().epoch;
    let Reply::Beat(reply) = world.ask(Request::Beat(beat(newest))) else { panic!("a beat") };
    assert!(!reply.want_all && is_known(&mut world));
}

#[test]
fn a_beat_that_comes_late_says_nothing() {
    let mut world = three();
    let used = |world: &mut World, number: u64, used_bytes: u64| {
        let beat = wire::BeatRequest {
            daemon: 1,
            incarnation: 1,
            used_bytes,
            number,
            ..wire::BeatRequest::default()
        };
        let Reply::Beat(reply) = world.ask(Request::Beat(beat)) else { panic!("a beat") };
        assert_eq!(reply.number, number, "an answer says to what");
        world.monitor.leader.as_ref().expect("it leads").view.daemons[&DaemonId(1)].used_bytes
    };
    assert_eq!(used(&mut world, 7, 700), 700);
    assert_eq!(used(&mut world, 6, 600), 700);
    assert_eq!(used(&mut world, 8, 800), 800);
    world.restart();
    assert_eq!(used(&mut world, 2, 200), 200, "nothing was heard before");
}

#[test]
fn damage_is_told_until_somebody_saw_to_it_or_for_a_day() {
    let mut world = three();
    world.json(
        r#"{"prefix": "config set", "who": "mon", "name": "mon_osd_damage_warn_interval", "value": "1m"}"#,
    );
    let damaged = |world: &mut World, count: u64| {
        for id in 0..3 {
            let beat = wire::BeatRequest {
                daemon: id,
                incarnation: world.incarnation(id),
                read_errors: if id == 1 { count } else { 0 },
                ..wire::BeatRequest::default()
            };
            world.ask(Request::Beat(beat));
        }
        let report = world.monitor.health(world.now);
        report.checks.get("OSD_DAMAGED").map(|check| check.summary.clone())
    };
    assert_eq!(damaged(&mut world, 0), None);
    let told = damaged(&mut world, 2).expect("it is told");
    assert!(told.starts_with("damage was found 2 times"), "{told}");
    assert_eq!(world.command(r#"{"prefix": "osd clear-damage", "ids": [1]}"#).code, 0);
    assert_eq!(damaged(&mut world, 2), None, "somebody has seen to it");
    let told = damaged(&mut world, 3).expect("new damage is told");
    assert!(told.starts_with("damage was found once"), "{told}");
    // A restarted monitor knows what was seen to.
    world.restart();
    assert!(damaged(&mut world, 3).is_some());
    for _ in 0..40 {
        world.pass(2000);
        damaged(&mut world, 3);
    }
    assert_eq!(damaged(&mut world, 3), None, "long ago, and no more came");
    // Another life counts anew.
    assert_eq!(world.boot(1, 2).refused, "");
    assert!(damaged(&mut world, 1).is_some());
}

#[test]
fn a_new_daemon_may_lead_as_much_as_any() {
    let world = three();
    assert!(world.map().daemons.values().all(|info| info.primary_affinity == 0x10000));
}

#[test]
fn who_hung_up_is_not_taken_to_be_well_until_it_beats_again() {
    let mut world = three();
    let hang_up = |world: &mut World, incarnation: u64| {
        let incarnation = Incarnation(incarnation);
        world.step(Event::Disconnected { daemon: DaemonId(1), incarnation });
    };
    hang_up(&mut world, 9);
    assert!(world.health().is_empty(), "that was another life");
    hang_up(&mut world, 1);
    assert_eq!(world.health(), ["OSD_UNREPORTED", "PG_UNREPORTED"]);
    assert!(world.map().is_up(DaemonId(1)), "it may be a link only");
    world.beats("active+clean");
    assert!(world.health().is_empty());
}

#[test]
fn a_daemon_that_lost_its_copy_is_no_holder_and_comes_back_as_a_learner() {
    let mut world = three();
    world.settle();
    let pg = PgId { pool: PoolId(1), seed: 0 };
    let before = world.pg("1.0");
    let lost = before.primary;
    world.ask_pg(lost.0, pg, pg_ask::Kind::Lost, 0);
    let record = world.pg("1.0");
    assert!(record.interval > before.interval);
    assert!(record.primary != lost && record.members.contains(&record.primary));
    for set in [&record.holders, &record.writers] {
        assert!(!set.contains(&lost) && set.len() == 2, "{record:?}");
    }
    world.settle();
    let record = world.pg("1.0");
    assert!(record.members.contains(&lost), "it was promoted: {record:?}");
    // The last holder stays named, whatever it says: nobody else has anything.
    let others: Vec<_> = record.members.iter().copied().filter(|id| *id != lost).collect();
    for (i, id) in others.iter().enumerate() {
        world.refused(lost.0, id.0);
        if i == 0 {
            assert_eq!(world.pg("1.0").members.len(), 2);
        }
    }
    world.ask_pg(lost.0, pg, pg_ask::Kind::Activate, 0);
    let alone = world.pg("1.0");
    assert_eq!(alone.holders, [lost].into());
    world.ask_pg(lost.0, pg, pg_ask::Kind::Lost, 0);
    assert_eq!(world.pg("1.0"), alone);
}
