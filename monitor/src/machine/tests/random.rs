//! Random events: whatever happens in whatever order, the records keep their invariants (R1, R2, R3, R12, R13).
//!
//! Every committed map is compared with the one before it, and must follow from it by the rules alone.

use super::*;
use proptest::prelude::*;
use std::collections::BTreeSet;

#[derive(Clone, Debug)]
enum Doing {
    Boot {
        id: i32,
        newer: bool,
    },
    Refused {
        reporter: i32,
        failed: i32,
    },
    Silent {
        reporter: i32,
        failed: i32,
    },
    Pass {
        millis: u64,
    },
    Beats,
    /// A primary asks; sometimes in an interval that is over.
    Ask {
        pg: u32,
        kind: i32,
        learner: i32,
        stale: bool,
    },
    Command {
        which: usize,
        id: i32,
    },
    /// The commit under way fails; it happened or not.
    Fail {
        happened: bool,
    },
    Hold,
    Release,
    Restart,
}

const DAEMONS: i32 = 6;
const PGS: u32 = 4;

fn doing() -> impl Strategy<Value = Doing> {
    let id = 0..DAEMONS;
    prop_oneof![
        4 => (id.clone(), any::<bool>()).prop_map(|(id, newer)| Doing::Boot { id, newer }),
        3 => (id.clone(), id.clone()).prop_map(|(reporter, failed)| Doing::Refused { reporter, failed }),
        1 => (id.clone(), id.clone()).prop_map(|(reporter, failed)| Doing::Silent { reporter, failed }),
        2 => (10u64..8000).prop_map(|millis| Doing::Pass { millis }),
        3 => Just(Doing::Beats),
        12 => (0..PGS, 1..4i32, id.clone(), prop::bool::weighted(0.1))
            .prop_map(|(pg, kind, learner, stale)| Doing::Ask { pg, kind, learner, stale }),
        2 => (0..9usize, id).prop_map(|(which, id)| Doing::Command { which, id }),
        1 => any::<bool>().prop_map(|happened| Doing::Fail { happened }),
        1 => Just(Doing::Hold),
        2 => Just(Doing::Release),
        1 => Just(Doing::Restart),
    ]
}

fn commands(which: usize, id: i32) -> String {
    match which {
        0 => format!(r#"{{"prefix": "osd out", "ids": [{id}]}}"#),
        1 => format!(r#"{{"prefix": "osd in", "ids": [{id}]}}"#),
        2 => format!(r#"{{"prefix": "osd down", "ids": [{id}]}}"#),
        3 => format!(
            r#"{{"prefix": "osd pool set", "pool": "p", "var": "size", "val": {}}}"#,
            1 + id % 4
        ),
        4 => format!(
            r#"{{"prefix": "osd pool set", "pool": "p", "var": "min_size", "val": {}}}"#,
            1 + id % 3
        ),
        5 => format!(r#"{{"prefix": "osd reweight", "id": {id}, "weight": 0.5}}"#),
        6 => format!(r#"{{"prefix": "osd rm", "id": {id}, "sure": "--yes-i-really-mean-it"}}"#),
        7 => format!(r#"{{"prefix": "osd pg-upmap-items", "pgid": "1.0", "id": [0, {id}]}}"#),
        _ => r#"{"prefix": "osd set", "key": "norebalance"}"#.to_string(),
    }
}

struct Run {
    world: World,
    last: OsdMap,
    /// Promotions that somebody asked for and that may show up in the next map.
    asked: BTreeSet<(PgId, Interval, DaemonId)>,
    /// Commands that were to remove an id, by their tickets.
    removals: Vec<(u64, DaemonId)>,
}

impl Run {
    /// `slots`: what the command says of an erasure-coded pool.
    fn new(slots: &str) -> Run {
        let mut world = World::new();
        for id in 0..4 {
            world.boot(id, 1);
        }
        let create =
            format!(r#"{{"prefix": "osd pool create", "pool": "p", "pg_num": {PGS}{slots}}}"#);
        world.json(&create);
        let last = world.map().clone();
        Run { world, last, asked: BTreeSet::new(), removals: Vec::new() }
    }

    fn release(&mut self) {
        self.world.hold = false;
        for (ticket, batch) in std::mem::take(&mut self.world.held) {
            self.world.store.commit_now(&batch).expect("nobody else commits");
            self.world.step(Event::Committed { ticket });
        }
    }

    fn act(&mut self, doing: &Doing) {
        let world = &mut self.world;
        match doing {
            Doing::Boot { id, newer } => {
                let life = (world.incarnation(*id) + u64::from(*newer)).max(1);
                let host = format!("h{id}");
                world.send(Request::Boot(World::boot_request(*id, life, &host)));
            }
            Doing::Refused { reporter, failed } | Doing::Silent { reporter, failed } => {
                let report = wire::FailureReport {
                    reporter: *reporter,
                    reporter_incarnation: world.incarnation(*reporter),
                    failed: *failed,
                    failed_incarnation: world.incarnation(*failed),
                    refused: matches!(doing, Doing::Refused { .. }),
                    silent_millis: 7000,
                };
                world.send(Request::Failure(report));
            }
            Doing::Pass { millis } => world.pass(*millis),
            Doing::Beats => world.beats("active+clean"),
            Doing::Ask { pg, kind, learner, stale } => self.ask(*pg, *kind, *learner, *stale),
            Doing::Command { which, id } => {
                let json = commands(*which, *id);
                let command = wire::CommandRequest { json, input: Bytes::new() };
                let ticket = world.send(Request::Command { command, entropy: [7; ENTROPY_BYTES] });
                if *which == 6 {
                    self.removals.push((ticket, DaemonId(*id)));
                }
            }
            Doing::Fail { happened } => {
                if let Some((ticket, batch)) = world.held.pop() {
                    if *happened {
                        world.store.commit_now(&batch).expect("nobody else commits");
                    }
                    world.step(Event::CommitFailed { ticket, why: "planted".to_string() });
                }
            }
            Doing::Hold => world.hold = true,
            Doing::Release => self.release(),
            Doing::Restart => world.restart(),
        }
        self.check();
    }

    fn ask(&mut self, seed: u32, kind: i32, learner: i32, stale: bool) {
        let pg = PgId { pool: PoolId(1), seed };
        let record = self.world.map().pgs[&pg].clone();
        let kind = pg_ask::Kind::try_from(kind).expect("a kind");
        let learner = match record.learners.iter().next() {
            Some(learner) if kind == pg_ask::Kind::Promote => *learner,
            _ => DaemonId(learner),
        };
        let interval = Interval(record.interval.0.saturating_sub(u32::from(stale)));
        if kind == pg_ask::Kind::Promote && !stale {
            self.asked.insert((pg, interval, learner));
        }
        let batch = wire::PgAskBatch {
            daemon: record.primary.0,
            incarnation: self.world.incarnation(record.primary.0),
            asks: vec![PgAsk {
                pool: 1,
                seed,
                interval: interval.0,
                kind: kind.into(),
                learner: learner.0,
            }],
        };
        self.world.send(Request::Asks(batch));
    }

    /// Every map that was published follows from the one before.
    fn check(&mut self) {
        // After a failure the store's map is the truth, and some step may never have been published.
        let now = self.world.map().clone();
        for step in std::mem::take(&mut self.world.steps) {
            let mut next = self.last.clone();
            if next.apply(&step).is_ok() {
                self.check_step(&next);
                self.last = next;
            }
        }
        if self.last.epoch != now.epoch {
            assert_eq!(self.last.epoch.next(), now.epoch, "at most one commit was in doubt");
            self.check_step(&now);
            self.last = now;
        }
    }

    fn check_step(&self, next: &OsdMap) {
        assert_eq!(next.epoch, self.last.epoch.next());
        for (pg, record) in &next.pgs {
            // An id that was removed means nobody; one that is given again means somebody else.
            let mut before = self.last.pgs[pg].clone();
            for id in self.last.daemons.keys() {
                let is_gone = !next.daemons.contains_key(id);
                if !is_gone && !self.is_somebody_else(next, *id) {
                    continue;
                }
                before.members.retain(|member| member != id);
                before.learners.remove(id);
                before.holders.remove(id);
                before.writers.remove(id);
                let named = record.members.contains(id)
                    || record.learners.contains(id)
                    || record.holders.contains(id)
                    || record.writers.contains(id);
                assert!(!(is_gone && named), "{pg} still names {id}, which is gone: {record:?}");
            }
            if record.interval != before.interval || record.holders != before.holders {
                self.check_change(*pg, &before, record);
            }
        }
    }

    /// Whether an id may have been removed and given again by the same commit.
    fn is_somebody_else(&self, next: &OsdMap, id: DaemonId) -> bool {
        let began = |map: &OsdMap| map.daemons.get(&id).map(|info| info.up_from);
        let was_refused = |ticket: &u64| matches!(self.world.replies.get(ticket), Some(Reply::Command(reply)) if reply.code != 0);
        self.removals.iter().any(|(ticket, removed)| *removed == id && !was_refused(ticket))
            && began(next) == Some(next.epoch)
            && next.pgs.values().all(|record| !record.holders.contains(&id))
    }

    fn check_change(&self, pg: PgId, before: &PgRecord, after: &PgRecord) {
        let set = |ids: &[DaemonId]| ids.iter().copied().collect::<BTreeSet<_>>();
        let (old, new) = (set(&before.members), set(&after.members));
        let tell = || format!("{pg}: {before:?} -> {after:?}");
        assert!(!new.is_empty() && new.contains(&after.primary), "{}", tell());
        assert_eq!(new.len(), after.members.len(), "no member twice: {}", tell());
        assert!(new.is_subset(&after.holders), "members are holders: {}", tell());
        assert!(after.learners.is_disjoint(&after.holders), "{}", tell());
        assert!(after.learners.is_disjoint(&after.writers), "{}", tell());
        for holder in before.holders.intersection(&after.holders) {
            assert_eq!(before.slot(*holder), after.slot(*holder), "{holder} keeps: {}", tell());
        }
        let pool = &self.world.map().pools[&pg.pool];
        let suffice = |record: &PgRecord| record.suffice(pool, &record.holders);
        assert!(!suffice(before) || suffice(after), "too few are left: {}", tell());
        if old.is_empty() {
            return; // formed
        }
        if after.interval == before.interval {
            let activated = PgRecord {
                holders: new.clone(),
                writers: after.writers.clone(),
                confirmed: after.interval,
                ..before.clone()
            };
            assert_eq!(*after, activated, "only activation keeps the interval: {}", tell());
            assert!(after.writers == before.writers || after.writers == new, "{}", tell());
            return;
        }
        assert_eq!(after.interval, before.interval.next(), "{}", tell());
        let promoted: BTreeSet<DaemonId> =
            before.learners.iter().copied().filter(|id| after.holders.contains(id)).collect();
        for id in &promoted {
            assert!(
                self.asked.contains(&(pg, before.interval, *id)),
                "{id} was promoted unasked: {}",
                tell()
            );
        }
        let may: BTreeSet<DaemonId> = before.holders.union(&promoted).copied().collect();
        assert!(new.is_subset(&may), "members come from holders: {}", tell());
        // Holders go only by joining, or by an activation that went into the same commit.
        let gone: BTreeSet<DaemonId> = before.holders.difference(&after.holders).copied().collect();
        let activated = after.holders.is_subset(&old.union(&promoted).copied().collect());
        assert!(gone.is_subset(&after.learners) || activated, "a holder was forgotten: {}", tell());
        assert!(after.holders.is_subset(&may), "a holder came from nowhere: {}", tell());
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, ..ProptestConfig::default() })]

    #[test]
    fn records_keep_their_invariants(
        doings in prop::collection::vec(doing(), 1..160),
        slots in prop::sample::select(vec!["", r#", "k": 2, "m": 1"#, r#", "k": 2, "m": 2"#]),
    ) {
        let mut run = Run::new(slots);
        for doing in &doings {
            run.act(doing);
        }
        // With faults over and everybody back, every group becomes whole (I5).
        run.release();
        run.world.restart();
        run.check();
        for id in 0..DAEMONS {
            let life = run.world.incarnation(id) + 1;
            let host = format!("h{id}");
            run.world.send(Request::Boot(World::boot_request(id, life, &host)));
        }
        run.world.json(r#"{"prefix": "osd in", "ids": "all"}"#);
        // A weight below one hides a daemon from some groups: with four copies and six daemons too many.
        for id in 0..DAEMONS {
            run.world.json(&format!(r#"{{"prefix": "osd reweight", "id": {id}, "weight": 1.0}}"#));
        }
        run.world.json(r#"{"prefix": "osd unset", "key": "norebalance"}"#);
        for _ in 0..20 {
            run.world.settle();
            run.world.beats("active+clean");
            run.world.pass(1000);
        }
        let size = usize::from(run.world.map().pools[&PoolId(1)].size);
        for record in run.world.map().pgs.values() {
            let whole = record.members.len() == size && record.width() == size;
            prop_assert!(whole && record.is_active(), "{record:?}");
        }
    }

    #[test]
    fn the_same_events_make_the_same_maps(doings in prop::collection::vec(doing(), 1..60)) {
        let play = || {
            let mut run = Run::new("");
            doings.iter().for_each(|doing| run.act(doing));
            run.world.store.load_now()
        };
        prop_assert_eq!(play(), play());
    }
}
