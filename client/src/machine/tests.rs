//! The client against daemons and a monitor played by hand: each test is a short story, and the harness checks
//! in every step that nothing is finished twice and that limits hold.

use super::*;
use bytes::Bytes;
use std::collections::BTreeSet;
use store_base::map::{DaemonInfo, PgRecord, Pool};
use store_base::op::{Op, Outcome, errno};
use store_base::{Incarnation, Interval, PgId};

const POOL: PoolId = PoolId(1);
const DEADLINE: Duration = Duration::from_secs(30);

struct Story {
    client: Client,
    now: Time,
    map: OsdMap,
    /// What the last step asked for.
    said: Vec<Action>,
    finished: BTreeSet<Ticket>,
    ticket_last: u64,
}

/// Three daemons that are up, one pool, one placement group led by osd.0.
fn map() -> OsdMap {
    let mut map = OsdMap { epoch: Epoch(5), pool_max: 1, ..OsdMap::default() };
    for id in 0..3 {
        let info = DaemonInfo {
            up: true,
            address: format!("10.0.0.{id}:6800"),
            incarnation: Incarnation(1),
            ..DaemonInfo::default()
        };
        map.daemons.insert(DaemonId(id), info);
    }
    let pool = Pool { name: "p".into(), pg_num: 1, pgp_num: 1, ..Pool::default() };
    map.pools.insert(POOL, pool);
    map.pgs.insert(PgId { pool: POOL, seed: 0 }, record(1, 0));
    map
}

fn record(interval: u32, primary: i32) -> PgRecord {
    PgRecord {
        interval: Interval(interval),
        primary: DaemonId(primary),
        members: vec![DaemonId(primary)],
        ..PgRecord::default()
    }
}

impl Story {
    fn with_limits(limits: Limits) -> Story {
        let client = Client::new(Config { client: ClientId(7), incarnation: 1, limits });
        Story {
            client,
            now: Time(1),
            map: map(),
            said: Vec::new(),
            finished: BTreeSet::new(),
            ticket_last: 0,
        }
    }

    /// A client with a map and an open session to osd.0.
    fn begun() -> Story {
        let mut story = Story::with_limits(Limits::default());
        story.publish();
        story.submit(vec![Op::Stat {}]);
        let (daemon, session, _) = story.dialed();
        story.step(Event::SessionUp { daemon, session });
        let (.., request) = story.sent();
        story.answer(0, session, done(&request));
        assert!(story.result().is_ok());
        story
    }

    fn step(&mut self, event: Event) {
        self.said.clear();
        self.client.step(self.now, event, &mut self.said);
        for action in &self.said {
            if let Action::Finish { ticket, .. } = action {
                assert!(self.finished.insert(*ticket), "{ticket} is finished once");
            }
        }
        let limits = self.client.config.limits;
        assert!(self.client.ops_in_flight <= limits.ops_in_flight_max);
        assert!(
            self.client.bytes_in_flight <= limits.bytes_in_flight_max
                || self.client.ops_in_flight == 1
        );
        assert!(self.client.wake_at().is_none_or(|at| at > self.now), "what is due was done");
    }

    fn publish(&mut self) {
        self.step(Event::Map(Arc::new(self.map.clone())));
    }

    fn lead(&mut self, interval: u32, primary: i32) {
        self.map.epoch = self.map.epoch.next();
        self.map.pgs.insert(PgId { pool: POOL, seed: 0 }, record(interval, primary));
        self.publish();
    }

    fn submit(&mut self, ops: Vec<Op>) -> Ticket {
        self.ticket_last += 1;
        let ticket = Ticket(self.ticket_last);
        let submission = Submission {
            target: Target::Object { pool: POOL, object: ObjectName::new("o") },
            ops,
            read_only: false,
            mtime: Timestamp::default(),
            deadline: self.now + DEADLINE,
        };
        self.step(Event::Submit { ticket, submission });
        ticket
    }

    fn answer(&mut self, daemon: i32, session: u64, reply: Reply) {
        self.step(Event::Reply { daemon: DaemonId(daemon), session, reply });
    }

    /// Lets time pass, stepping at each wake-up.
    fn wait(&mut self, for_: Duration) {
        let until = self.now + for_;
        let mut all = Vec::new();
        while let Some(at) = self.client.wake_at().filter(|at| *at <= until) {
            self.now = at;
            self.step(Event::Wake);
            all.append(&mut self.said);
        }
        self.now = until;
        self.said = all;
    }

    fn dialed(&self) -> (DaemonId, u64, String) {
        let mut dials = self.said.iter().filter_map(|action| match action {
            Action::Dial { daemon, session, address } => Some((*daemon, *session, address.clone())),
            _ => None,
        });
        let dial = dials.next().unwrap_or_else(|| panic!("a dial in {:?}", self.said));
        assert!(dials.next().is_none(), "one dial in {:?}", self.said);
        dial
    }

    fn all_sent(&self) -> Vec<(DaemonId, u64, Request)> {
        let sent = self.said.iter().filter_map(|action| match action {
            Action::Send { daemon, session, request } => Some((*daemon, *session, request.clone())),
            _ => None,
        });
        sent.collect()
    }

    fn sent(&self) -> (DaemonId, u64, Request) {
        let mut sent = self.all_sent();
        assert_eq!(sent.len(), 1, "one request in {:?}", self.said);
        sent.remove(0)
    }

    fn result(&self) -> Result<Done, Error> {
        let result = self.said.iter().find_map(|action| match action {
            Action::Finish { result, .. } => Some(result.clone()),
            _ => None,
        });
        result.unwrap_or_else(|| panic!("a result in {:?}", self.said))
    }
}

fn write() -> Vec<Op> {
    vec![Op::WriteFull { data: "x".into() }]
}

fn answer(request: &Request, outcome: Outcome) -> Reply {
    Reply::Answer { id: request.id, epoch: request.epoch, outcome }
}

fn done(request: &Request) -> Reply {
    let results = request.ops.iter().map(|_| OpResult::default()).collect();
    answer(request, Outcome::Done { version: Version::ZERO, user_version: 1, results })
}

#[test]
fn a_request_waits_for_map_and_session_and_is_then_answered() {
    let mut story = Story::with_limits(Limits::default());
    story.submit(write());
    assert_eq!(story.said, [Action::WantMap { epoch: Epoch(1) }]);
    story.publish();
    let (daemon, session, address) = story.dialed();
    assert_eq!((daemon, address.as_str()), (DaemonId(0), "10.0.0.0:6800"));
    story.step(Event::SessionUp { daemon, session });
    let (to, _, request) = story.sent();
    assert_eq!((to, request.epoch, request.resend), (DaemonId(0), Epoch(5), 0));
    assert_eq!(request.id.client, ClientId(7));
    story.answer(0, session, done(&request));
    assert_eq!(story.result().expect("done").user_version, 1);
    assert_eq!((story.client.pending(), story.client.bytes_in_flight()), (0, 0));
    assert_eq!(story.client.wake_at(), None, "no timer is left behind");
}

#[test]
fn a_new_primary_gets_the_same_request_id() {
    let mut story = Story::begun();
    story.submit(write());
    let (_, session, first) = story.sent();
    story.lead(2, 1);
    let (daemon, second_session, _) = story.dialed();
    assert_eq!(daemon, DaemonId(1));
    story.step(Event::SessionUp { daemon, session: second_session });
    let (to, _, again) = story.sent();
    assert_eq!((to, again.id, again.resend), (DaemonId(1), first.id, 1));
    assert_eq!(again.epoch, story.map.epoch);
    // What the old primary says does not count any more: the twin may do what the old one refused.
    story.answer(0, session, done(&first));
    assert_eq!(story.said, []);
    story.answer(1, second_session, done(&again));
    assert!(story.result().is_ok());
}

#[test]
fn a_new_interval_of_the_same_primary_is_sent_again_and_activation_is_not() {
    let mut story = Story::begun();
    story.submit(write());
    let (_, session, first) = story.sent();
    story.lead(2, 0);
    let (_, _, again) = story.sent();
    assert_eq!(again.resend, 1);
    story.lead(2, 0);
    assert_eq!(story.said, []);
    // An answer from the interval before, on the same session.
    let refused = Outcome::Refused { code: -errno::ENOSPC, why: "full".into() };
    story.answer(0, session, answer(&first, refused));
    assert_eq!(story.said, []);
    story.answer(0, session, done(&again));
    assert!(story.result().is_ok());
}

#[test]
fn a_lost_session_is_dialed_again_with_growing_pauses() {
    let mut story = Story::begun();
    story.submit(write());
    let (_, mut session, first) = story.sent();
    let mut pauses = Vec::new();
    for _ in 0..8 {
        story.step(Event::SessionLost { daemon: DaemonId(0), session });
        assert_eq!(story.said, [], "no dial before the pause is over");
        let from = story.now;
        story.now = story.client.wake_at().expect("a redial");
        pauses.push(story.now.since(from).as_millis());
        story.step(Event::Wake);
        session = story.dialed().1;
    }
    assert_eq!(pauses, [20, 40, 80, 160, 320, 640, 1000, 1000]);
    story.step(Event::SessionUp { daemon: DaemonId(0), session });
    let (.., again) = story.sent();
    assert_eq!((again.id, again.resend), (first.id, 1));
    story.answer(0, session, done(&again));
    assert!(story.result().is_ok());
    // An answer makes the way good again.
    story.submit(write());
    let from = story.now;
    story.step(Event::SessionLost { daemon: DaemonId(0), session });
    assert_eq!(story.client.wake_at(), Some(from + Duration::from_millis(20)));
}

#[test]
fn news_of_an_old_session_changes_nothing() {
    let mut story = Story::begun();
    story.submit(write());
    let (_, old, first) = story.sent();
    story.step(Event::SessionLost { daemon: DaemonId(0), session: old });
    story.wait(Duration::from_millis(20));
    let (daemon, new, _) = story.dialed();
    story.step(Event::SessionUp { daemon, session: old });
    assert_eq!(story.said, []);
    story.step(Event::SessionUp { daemon, session: new });
    assert_eq!(story.sent().2.id, first.id);
    story.step(Event::SessionLost { daemon, session: old });
    story.answer(0, old, answer(&first, Outcome::Misdirected { epoch: Epoch(9) }));
    assert_eq!(story.said, []);
}

#[test]
fn misdirected_waits_for_the_map_that_shows_where_to_go() {
    let mut story = Story::begun();
    story.submit(write());
    let (_, session, first) = story.sent();
    story.answer(0, session, answer(&first, Outcome::Misdirected { epoch: Epoch(7) }));
    assert_eq!(story.said, [Action::WantMap { epoch: Epoch(7) }]);
    story.lead(1, 0);
    assert_eq!(story.all_sent(), [], "epoch 6 is not enough");
    story.lead(1, 0);
    assert_eq!(story.sent().2.id, first.id);
}

#[test]
fn misdirected_by_a_map_that_we_have_backs_off() {
    let mut story = Story::begun();
    story.submit(write());
    let (_, session, first) = story.sent();
    for pause in [10, 20, 40] {
        story.answer(0, session, answer(&first, Outcome::Misdirected { epoch: Epoch(3) }));
        assert_eq!(story.said, []);
        story.wait(Duration::from_millis(pause - 1));
        assert_eq!(story.all_sent(), []);
        story.wait(Duration::from_millis(1));
        assert_eq!(story.sent().2.id, first.id);
    }
    // A newer map ends the pause at once.
    story.answer(
        0,
        session,
        answer(&first, Outcome::Refused { code: -errno::EAGAIN, why: "".into() }),
    );
    story.lead(1, 0);
    assert_eq!(story.sent().2.id, first.id);
    story.wait(Duration::from_secs(1));
    assert_eq!(story.all_sent(), [], "the pause's timer is gone");
}

#[test]
fn the_deadline_says_whether_it_may_have_happened() {
    let mut story = Story::begun();
    story.submit(write());
    story.wait(DEADLINE);
    let error = story.result().expect_err("no answer");
    assert!(
        matches!(&error, Error::TimedOut(text) if text.contains("may have happened")),
        "{error:?}"
    );

    story.submit(vec![Op::Stat {}]);
    story.wait(DEADLINE);
    assert!(matches!(story.result(), Err(Error::Unavailable(_))), "a read leaves no doubt");

    story.map.daemons.get_mut(&DaemonId(0)).expect("there").up = false;
    story.lead(2, 0);
    assert!(matches!(story.said[..], [Action::Close { daemon: DaemonId(0), .. }]));
    story.submit(write());
    story.wait(DEADLINE);
    let error = story.result().expect_err("nobody leads");
    assert!(
        matches!(&error, Error::Unavailable(text) if text.contains("no daemon leads")),
        "{error:?}"
    );
    assert_eq!((story.client.pending(), story.client.wake_at()), (0, None));
}

#[test]
fn in_flight_is_bounded_and_the_queue_keeps_its_order() {
    let limits = Limits {
        ops_in_flight_max: 2,
        bytes_in_flight_max: 10_000,
        queued_max: 3,
        ..Limits::default()
    };
    let mut story = Story::with_limits(limits);
    story.publish();
    let big = |size| vec![Op::WriteFull { data: Bytes::from(vec![0; size]) }];
    story.submit(big(50_000)); // larger than the bound: goes, alone
    let (daemon, session, _) = story.dialed();
    story.step(Event::SessionUp { daemon, session });
    let (.., first) = story.sent();
    let cancelled = story.submit(write());
    story.submit(big(9_000));
    story.submit(write());
    assert!(story.said.is_empty() && !story.client.has_room());
    story.submit(write());
    assert!(matches!(story.result(), Err(Error::Unavailable(_))), "the queue is full");
    story.step(Event::Cancel { ticket: cancelled });
    story.answer(0, session, done(&first));
    let sent = story.all_sent();
    let sizes: Vec<_> = sent.iter().map(|(.., request)| request.id.tid).collect();
    assert_eq!(sizes, [3, 4], "the cancelled one is passed over");
    for (.., request) in sent {
        story.answer(0, session, done(&request));
        assert!(story.result().is_ok());
    }
    assert!(story.client.has_room());
}

#[test]
fn what_no_daemon_would_take_is_refused_at_once() {
    let mut story = Story::begun();
    for ops in [
        vec![],
        vec![Op::Stat {}; 65],
        vec![Op::Append { data: Bytes::from(vec![0; (1 << 20) + 1]) }],
    ] {
        story.submit(ops);
        assert!(matches!(story.result(), Err(Error::Invalid(_))));
    }
    let submission = |target| Submission {
        target,
        ops: vec![Op::Stat {}],
        read_only: true,
        mtime: Timestamp::default(),
        deadline: story.now + DEADLINE,
    };
    let unknown = submission(Target::Group(PgId { pool: POOL, seed: 1 }));
    let deleted = submission(Target::Group(PgId { pool: PoolId(0), seed: 0 }));
    let newer = submission(Target::Group(PgId { pool: PoolId(2), seed: 0 }));
    for (ticket, submission) in [(100, unknown), (101, deleted)] {
        story.step(Event::Submit { ticket: Ticket(ticket), submission });
        assert!(matches!(story.result(), Err(Error::NotFound(_))));
    }
    // A pool that this map cannot know yet.
    story.step(Event::Submit { ticket: Ticket(102), submission: newer });
    assert_eq!(story.said, [Action::WantMap { epoch: Epoch(6) }]);
    story.map.pool_max = 2;
    story.lead(1, 0);
    assert!(matches!(story.result(), Err(Error::NotFound(_))));
}

#[test]
fn full_refuses_growth_and_pause_holds_everything() {
    let mut story = Story::begun();
    story.map.flags.full = true;
    story.lead(1, 0);
    story.submit(write());
    assert!(matches!(story.result(), Err(Error::Full(_))));
    story.submit(vec![Op::Delete {}]);
    assert_eq!(story.all_sent().len(), 1, "a full cluster deletes");
    story.map.flags = Default::default();
    story.map.flags.pause = true;
    story.lead(1, 0);
    story.submit(write());
    assert_eq!(story.said, []);
    story.map.flags.pause = false;
    story.lead(1, 0);
    assert_eq!(story.all_sent().len(), 2);
}

#[test]
fn a_full_flag_does_not_answer_for_what_was_sent_before() {
    let mut story = Story::begun();
    story.submit(write());
    story.map.flags.full = true;
    story.lead(2, 0);
    assert_eq!(story.sent().2.resend, 1, "only the daemon's log knows whether it is done");
}

#[test]
fn a_restarted_daemon_is_dialed_anew() {
    let mut story = Story::begun();
    story.submit(write());
    let (_, old, _) = story.sent();
    story.map.daemons.get_mut(&DaemonId(0)).expect("there").incarnation = Incarnation(2);
    story.lead(2, 0);
    assert_eq!(story.said[0], Action::Close { daemon: DaemonId(0), session: old });
    let (daemon, session, _) = story.dialed();
    story.step(Event::SessionUp { daemon, session });
    assert_eq!(story.sent().2.resend, 1);
}

#[test]
fn lossy_links_are_answered_with_resends() {
    let limits = Limits { resend_after: Some(Duration::from_secs(2)), ..Limits::default() };
    let mut story = Story::with_limits(limits);
    story.publish();
    story.submit(write());
    let (daemon, session, _) = story.dialed();
    story.step(Event::SessionUp { daemon, session });
    let (.., first) = story.sent();
    story.wait(Duration::from_secs(5));
    let resent: Vec<_> = story.all_sent().iter().map(|(.., r)| (r.id, r.resend)).collect();
    assert_eq!(resent, [(first.id, 1), (first.id, 2)]);
    story.answer(0, session, done(&first));
    assert_eq!(story.client.wake_at(), None);
}

#[test]
fn a_watch_follows_its_primary_and_tells_of_gaps() {
    let mut story = Story::begun();
    let (cookie, timeout_secs) = (9, 30);
    let watch = Event::Watch {
        cookie,
        pool: POOL,
        object: ObjectName::new("o"),
        timeout_secs,
        mtime: Timestamp::default(),
        deadline: story.now + DEADLINE,
    };
    story.step(watch);
    let (_, session, first) = story.sent();
    assert_eq!(first.ops, [Op::Watch { cookie, timeout_secs }]);
    story.answer(0, session, done(&first));
    assert_eq!(story.said, [Action::Watching { cookie, result: Ok(()) }]);

    // A sign of life, three times within the time-out.
    story.wait(Duration::from_secs(10));
    let (.., ping) = story.sent();
    assert_eq!(ping.ops, [Op::WatchPing { cookie }]);
    story.answer(0, session, done(&ping));

    let notification =
        Notification { object: ObjectName::new("o"), cookie, notify: 4, payload: "n".into() };
    story.answer(0, session, Reply::Notify { notification: notification.clone() });
    assert_eq!(story.said, [Action::Notified { notification }]);

    // Another primary: a new registration under a new id, and the watcher is told.
    story.lead(2, 1);
    let (daemon, session, _) = story.dialed();
    story.step(Event::SessionUp { daemon, session });
    let (.., second) = story.sent();
    assert_eq!(second.ops, first.ops);
    assert_ne!(second.id, first.id);
    // That one moves on before it answers: a new id again.
    story.lead(3, 1);
    let (.., third) = story.sent();
    assert_eq!((&third.ops, third.resend), (&first.ops, 0));
    story.answer(1, session, done(&third));
    assert_eq!(story.said, [Action::WatchGap { cookie }]);

    // Forgotten by the daemon: registered anew. Object gone: over.
    story.wait(Duration::from_secs(10));
    let (.., ping) = story.sent();
    let failed = |code| Outcome::Done {
        version: Version::ZERO,
        user_version: 0,
        results: vec![OpResult { code, data: Bytes::new() }],
    };
    story.answer(1, session, answer(&ping, failed(-errno::ENOTCONN)));
    let (.., fourth) = story.sent();
    assert_eq!(fourth.ops, first.ops);
    story.answer(1, session, answer(&fourth, failed(-errno::ENOENT)));
    assert!(matches!(story.said[..], [Action::WatchEnded { error: Error::NotFound(_), .. }]));
    assert_eq!((story.client.pending(), story.client.wake_at()), (0, None));
}

#[test]
fn unwatch_ends_the_pings() {
    let mut story = Story::begun();
    let watch = Event::Watch {
        cookie: 1,
        pool: POOL,
        object: ObjectName::new("o"),
        timeout_secs: 30,
        mtime: Timestamp::default(),
        deadline: story.now + DEADLINE,
    };
    story.step(watch);
    let (_, session, request) = story.sent();
    story.answer(0, session, done(&request));
    story.step(Event::Unwatch { cookie: 1, mtime: Timestamp::default() });
    let (.., unwatch) = story.sent();
    assert_eq!(unwatch.ops, [Op::Unwatch { cookie: 1 }]);
    story.answer(0, session, done(&unwatch));
    assert_eq!((story.client.pending(), story.client.wake_at()), (0, None));
}

#[test]
fn a_resend_from_before_the_trim_leaves_doubt() {
    let mut story = Story::begun();
    story.submit(write());
    let (_, session, request) = story.sent();
    let refused = Outcome::Refused { code: -errno::ESTALE, why: "trimmed".into() };
    story.answer(0, session, answer(&request, refused));
    assert!(matches!(story.result(), Err(Error::TimedOut(_))));
}
