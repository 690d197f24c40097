//! What the monitor is told and asked: boot, beats, failures, activation and promotion.
//!
//! # Invariants
//!
//! - At most one boot, one beat and one ask are open at a time; what comes up meanwhile goes into the next.
//! - What a beat told is told again, with all groups, until a beat that told it was answered.
//! - An ask is repeated until the map shows its outcome or its interval is over: the monitor's answer alone
//!   means nothing.
//! - Counts are of this daemon's own store and of what learners said, in the interval named.

use super::Daemon;
use super::config::Fault;
use super::core::{Core, NOBODY, Timer};
use super::event::{MonitorCall, MonitorRequest};
use super::pg::{Pg, Phase, Progress, Role};
use crate::store::Store;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;
use store_base::map::OsdMap;
use store_base::wire::{
    BeatReply, BeatRequest, BootReply, BootRequest, FailureReport, PgAsk, PgAskBatch, PgReport,
    ScrubRun, pg_ask,
};
use store_base::{ClusterId, DaemonId, Incarnation, Interval, PgId, Time};

/// A request that has waited for this long is slow.
pub(crate) const SLOW_AFTER: Duration = Duration::from_secs(30);

/// Objects with bad copies that are named to the monitor, per group.
const BAD_LINES_MAX: usize = 8;

/// What is asked of the monitor for a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AskKind {
    /// R3.
    Activate,
    /// R13.
    Promote(DaemonId),
    /// R6.
    Reform,
    /// The copy here is older than what this daemon had as a holder.
    Disown,
    /// What this daemon has of the group is no copy any more.
    Lost,
}

#[derive(Clone, Copy, Debug)]
struct Ask {
    interval: Interval,
    kind: AskKind,
    sent: Option<Time>,
}

/// What is under way with the monitor.
#[derive(Clone, Debug, Default)]
pub(crate) struct Monitor {
    /// The medium is full but for deletes; looked at with every heartbeat.
    pub(crate) full_here: bool,
    /// No copies are brought in for learners: room is left for what clients write.
    pub(crate) backfill_full_here: bool,
    /// Groups whose state has changed: told soon.
    pub(crate) news: BTreeSet<PgId>,
    /// Groups whose counts have changed: told with the next beat.
    pub(crate) changed: BTreeSet<PgId>,
    asks: BTreeMap<PgId, Ask>,
    /// When to look at them.
    asks_due: Time,
    /// The map has this life up.
    pub(crate) booted: bool,
    boot_sent: Option<Time>,
    /// When the last beat was sent, if it is not yet answered.
    beat_sent: Option<Time>,
    /// Of the last beat; counts from 1 in each life.
    beat_number: u64,
    ask_sent: Option<Time>,
    last_beat: Time,
    /// The next beat must tell of all groups.
    want_all: bool,
}

impl Monitor {
    pub(crate) fn forget_asks(&mut self, pg: PgId) {
        self.asks.remove(&pg);
    }
}

impl<S: Store> Core<S> {
    /// Asks something for a group, until its interval is over or it is forgotten.
    pub(crate) fn ask(&mut self, pg: PgId, interval: Interval, kind: AskKind) {
        let is_same = |ask: &Ask| ask.interval == interval && ask.kind == kind;
        if !self.monitor.asks.get(&pg).is_some_and(is_same) {
            self.monitor.asks.insert(pg, Ask { interval, kind, sent: None });
            self.monitor.asks_due = self.now;
        }
    }

    pub(crate) fn forget_pg(&mut self, pg: PgId) {
        self.monitor.asks.remove(&pg);
        self.monitor.news.remove(&pg);
        self.monitor.changed.remove(&pg);
        self.attention.remove(&pg);
        self.splits.remove(&pg);
        self.lease_waits.remove(&pg);
        self.grant_waits.remove(&pg);
        self.pulls_wanted.remove(&pg);
        self.pushes_wanted.remove(&pg);
    }

    /// Looks whether the map has this life up.
    pub(crate) fn note_own_state(&mut self, map: &OsdMap) {
        let newest = map.daemons.get(&self.me).map(|info| info.incarnation);
        if newest.is_some_and(|newest| newest > self.incarnation) {
            let why =
                format!("another process runs as {}; only one may use its directory", self.me);
            return self.fatal(why);
        }
        let is_up = map.is_up_as(self.me, self.incarnation);
        if is_up && !self.monitor.booted {
            self.monitor.want_all = true;
        }
        self.monitor.booted = is_up;
    }

    pub(crate) fn send_failure_report(
        &mut self,
        failed: DaemonId,
        incarnation: Incarnation,
        refused: bool,
        silence: Duration,
    ) {
        tracing::warn!(%failed, %incarnation, refused, ?silence, "reporting a failure");
        self.call(MonitorRequest::Failure(FailureReport {
            reporter: self.me.0,
            reporter_incarnation: self.incarnation.0,
            failed: failed.0,
            failed_incarnation: incarnation.0,
            refused,
            silent_millis: u64::try_from(silence.as_millis()).unwrap_or(u64::MAX),
        }));
    }

    /// Whether a call may be made: none is open, or it has been for too long.
    fn is_free(&self, sent: Option<Time>) -> bool {
        sent.is_none_or(|at| self.now.since(at) >= self.config.monitor_retry)
    }

    fn boot(&mut self) {
        if !self.is_free(self.monitor.boot_sent) {
            return;
        }
        self.monitor.boot_sent = Some(self.now);
        self.set_timer(self.now + self.config.monitor_retry, Timer::Monitor);
        let is_new = self.cluster == ClusterId::default();
        let request = BootRequest {
            daemon: self.me.0,
            cluster: if is_new { Vec::new() } else { self.cluster.0.to_vec() }.into(),
            uuid: self.identity.uuid.to_vec().into(),
            incarnation: self.incarnation.0,
            address: self.identity.address.clone(),
            host: self.identity.host.clone(),
            location: self.identity.location.clone(),
            capacity_bytes: self.store.usage().capacity_bytes,
            version: self.identity.version.clone(),
            engine: self.identity.engine.clone(),
            device_class: self.identity.device_class.clone(),
        };
        self.call(MonitorRequest::Boot(request));
    }

    fn send_asks(&mut self) {
        let is_due = !self.monitor.asks.is_empty() && self.monitor.asks_due <= self.now;
        if !is_due || !self.is_free(self.monitor.ask_sent) {
            return;
        }
        let (now, retry, max) = (self.now, self.config.monitor_retry, self.config.asks_max);
        let is_due = |ask: &&mut Ask| ask.sent.is_none_or(|at| now.since(at) >= retry);
        let due = self.monitor.asks.iter_mut().map(|(pg, ask)| (*pg, ask));
        let asks: Vec<PgAsk> = due
            .filter(|(_, ask)| is_due(ask))
            .take(max)
            .map(|(pg, ask)| {
                ask.sent = Some(now);
                wire_ask(pg, ask)
            })
            .collect();
        // Those beyond the batch go with the answer to it.
        self.monitor.asks_due = if asks.len() == max { now } else { now + retry };
        self.set_timer(now + retry, Timer::Monitor);
        if !asks.is_empty() {
            self.monitor.ask_sent = Some(now);
            let (daemon, incarnation) = (self.me.0, self.incarnation.0);
            self.call(MonitorRequest::Ask(PgAskBatch { daemon, incarnation, asks }));
        }
    }

    /// When the next beat is due.
    fn beat_due(&self) -> Time {
        let monitor = &self.monitor;
        let pause = if !monitor.news.is_empty() || monitor.want_all {
            self.config.beat_news_after
        } else if !monitor.changed.is_empty() {
            self.config.beat_every
        } else {
            self.config.beat_idle
        };
        monitor.last_beat + pause
    }
}

fn wire_ask(pg: PgId, ask: &Ask) -> PgAsk {
    let (kind, learner) = match ask.kind {
        AskKind::Activate => (pg_ask::Kind::Activate, NOBODY),
        AskKind::Promote(learner) => (pg_ask::Kind::Promote, learner),
        AskKind::Reform => (pg_ask::Kind::Reform, NOBODY),
        AskKind::Disown => (pg_ask::Kind::Disown, NOBODY),
        AskKind::Lost => (pg_ask::Kind::Lost, NOBODY),
    };
    PgAsk {
        pool: pg.pool.0 as u64,
        seed: pg.seed,
        interval: ask.interval.0,
        kind: kind.into(),
        learner: learner.0,
    }
}

impl<S: Store> Daemon<S> {
    pub(super) fn handle_boot_reply(&mut self, reply: BootReply) {
        self.core.monitor.boot_sent = None;
        if !reply.refused.is_empty() {
            return self.core.fatal(format!("the monitor refused this daemon: {}", reply.refused));
        }
        let Ok(cluster) = <[u8; 16]>::try_from(&reply.cluster[..]) else {
            return self.core.fatal("the monitor's answer names no cluster".into());
        };
        let (id, cluster) = (DaemonId(reply.daemon), ClusterId(cluster));
        if self.core.me == NOBODY {
            self.store_identity(id, cluster);
        } else if self.core.me != id || self.core.cluster != cluster {
            let why = format!(
                "this is {} of cluster {}; the monitor takes it for {id} of {cluster}",
                self.core.me, self.core.cluster
            );
            self.core.fatal(why);
        }
        // "Up" is what the map says.
        self.core.monitor.boot_sent = Some(self.core.now);
    }

    pub(super) fn handle_beat_reply(&mut self, reply: BeatReply) {
        let monitor = &mut self.core.monitor;
        // The answer to a beat that was given up says nothing of the one under way.
        if reply.number != monitor.beat_number {
            return;
        }
        monitor.beat_sent = None;
        monitor.want_all |= reply.want_all;
        if reply.unknown {
            monitor.booted = false;
        }
    }

    pub(super) fn handle_monitor_failed(&mut self, call: MonitorCall) {
        // Not at once: a monitor that is down would be called without pause.
        match call {
            MonitorCall::Boot | MonitorCall::Ask | MonitorCall::Failure => {}
            MonitorCall::Beat => {
                self.core.monitor.beat_sent = None;
                self.core.monitor.want_all = true;
            }
        }
    }

    pub(super) fn handle_ask_reply(&mut self) {
        self.core.monitor.ask_sent = None;
    }

    /// Calls the monitor for whatever is due. At the end of every step.
    pub(super) fn call_monitor(&mut self) {
        if !self.core.speaks || self.core.failed {
            return;
        }
        if !self.core.monitor.booted {
            return self.core.boot();
        }
        self.core.monitor.boot_sent = None;
        self.core.send_asks();
        let due = self.core.beat_due();
        if due > self.core.now {
            self.core.set_timer(due, Timer::Monitor);
        } else if self.core.is_free(self.core.monitor.beat_sent) {
            self.beat();
        }
    }

    fn beat(&mut self) {
        // What a beat told that nobody answered may be lost.
        let unanswered = self.core.monitor.beat_sent.is_some();
        let all_pgs = std::mem::take(&mut self.core.monitor.want_all) || unanswered;
        self.core.monitor.beat_number += 1;
        let mut ids = std::mem::take(&mut self.core.monitor.news);
        ids.append(&mut self.core.monitor.changed);
        if all_pgs {
            ids.extend(self.pgs.keys().copied());
        }
        let core = &self.core;
        let pgs = ids.iter().filter_map(|id| self.pgs.get(id)?.report(core, all_pgs)).collect();
        let usage = core.store.usage();
        let slow = self.pgs.values().map(|pg| pg.queue.slow(core.now, SLOW_AFTER)).sum();
        let request = BeatRequest {
            daemon: core.me.0,
            incarnation: core.incarnation.0,
            epoch: core.epoch().0,
            pgs,
            capacity_bytes: usage.capacity_bytes,
            used_bytes: usage.used_bytes,
            slow_ops: slow,
            all_pgs,
            read_errors: core.read_errors,
            number: core.monitor.beat_number,
            wall_millis: core.wall().millis(),
            stored_bytes: usage.stored_bytes,
            reclaimable_bytes: 0,
            recovered_objects: core.done.objects_in.saturating_sub(core.done.repairs),
            recovered_bytes: core.done.bytes_in,
        };
        let now = self.core.now;
        self.core.monitor.last_beat = now;
        self.core.monitor.beat_sent = Some(now);
        let idle = self.core.config.beat_idle;
        self.core.set_timer(now + idle, Timer::Monitor);
        self.core.call(MonitorRequest::Beat(request));
    }
}

impl Pg {
    /// What the monitor is told: by the primary always, by others the end of their log while the group is
    /// not active, for the choice of a primary.
    fn report<S: Store>(&self, core: &Core<S>, all: bool) -> Option<PgReport> {
        let is_primary = matches!(self.role, Role::Primary(_));
        let is_telling = is_primary || all || !self.known.is_active();
        if self.known.interval.0 == 0 || !self.stored || !is_telling {
            return None;
        }
        let usage = core.store.pg_usage(self.id);
        let (full, below) = self.tally(usage.objects);
        let record = &self.scrub.record;
        let head = self.log.head();
        Some(PgReport {
            pool: self.id.pool.0 as u64,
            seed: self.id.seed,
            interval: if is_primary { self.interval().0 } else { self.known.interval.0 },
            state: self.state_words(),
            objects: usage.objects,
            bytes: usage.bytes,
            missing: self.missing_copies(core, usage.objects),
            log_first: self.log.tail().counter,
            log_last: head.counter,
            log_last_interval: head.interval.0.into(),
            primary: is_primary,
            last_scrub_secs: record.light,
            last_deep_scrub_secs: record.deep,
            full_objects: full,
            below_objects: below,
            verified_secs: self.verified_since(core),
            scrub_errors: record.errors(),
            lost_objects: record.lost(),
            bad_objects: self.bad_lines(),
            scrub_found: record.found,
            scrub_repaired: record.repaired,
            scrub_order_done: record.order_done,
            scrub: self.run_report(core),
        })
    }

    fn run_report<S: Store>(&self, core: &Core<S>) -> Option<ScrubRun> {
        let run = self.scrub.record.run.as_ref()?;
        Some(ScrubRun {
            deep: run.deep,
            order: run.order,
            started_secs: run.started,
            objects: run.objects,
            bytes: run.bytes,
            found: run.found,
            repaired: run.repaired,
            paused: self.is_scrub_paused(core),
        })
    }

    /// Some of the objects with bad copies, for people.
    fn bad_lines(&self) -> Vec<String> {
        let bad = self.scrub.record.bad.iter().take(BAD_LINES_MAX);
        bad.map(|(object, bad)| match (object.name.is_empty(), bad.lost) {
            (true, _) => bad.what.clone(),
            (false, true) => format!("{object} is lost: {}", bad.what),
            (false, false) => format!("{object}: {}", bad.what),
        })
        .collect()
    }

    /// Objects with as many good copies as the pool wants, and those with fewer, as far as is known. What a
    /// learner has brought in counts; what more it may lack does not.
    fn tally(&self, objects: u64) -> (u64, u64) {
        let Role::Primary(primary) = &self.role else { return (0, 0) };
        let lacking = self.size.saturating_sub(self.confirmed.width());
        let known = |learner: &&Progress| learner.synced && !learner.scanning;
        let mut missing: Vec<u64> =
            primary.learners.values().filter(known).map(|learner| learner.missing).collect();
        missing.sort_unstable();
        let below = match missing.get(..lacking) {
            Some(best) => best.iter().sum::<u64>(),
            None => objects,
        };
        let below = below.saturating_add(self.scrub.record.errors()).min(objects);
        (objects - below, below)
    }

    /// The state in Ceph's words.
    pub(crate) fn state_words(&self) -> String {
        let Role::Primary(primary) = &self.role else {
            return if self.catch_up.is_some() { "recovering" } else { "peering" }.into();
        };
        if primary.phase != Phase::Active {
            return "peering".into();
        }
        let mut words = vec![if self.is_writable() { "active" } else { "peered" }];
        let undersized = self.confirmed.width() < self.size;
        let learning = primary.learners.values().any(|learner| learner.synced);
        if undersized {
            words.extend(["undersized", "degraded"]);
        }
        if primary.learners.values().any(|learner| learner.synced && learner.scanning) {
            words.push("backfilling");
        } else if learning {
            words.push("recovering");
        } else if !primary.learners.is_empty() {
            words.push("recovery_wait");
        }
        if !undersized && primary.learners.is_empty() {
            words.push("clean");
        }
        if self.scrub.walk.is_some() {
            let is_deep = self.scrub.record.run.as_ref().is_some_and(|run| run.deep);
            words.extend(if is_deep { &["scrubbing", "deep"][..] } else { &["scrubbing"] });
        }
        if self.scrub.record.errors() > 0 {
            words.push("inconsistent");
        }
        words.join("+")
    }

    /// Copies that are yet to be made, if this daemon leads.
    pub(crate) fn missing<S: Store>(&self, core: &Core<S>) -> u64 {
        match self.role {
            Role::Primary(_) => self.missing_copies(core, core.store.pg_usage(self.id).objects),
            _ => 0,
        }
    }

    /// Copies that full size and what learners lack leave to be made.
    fn missing_copies<S: Store>(&self, core: &Core<S>, objects: u64) -> u64 {
        let tells_fewer = core.config.fault == Fault::TellFewerMissing;
        let Role::Primary(primary) = &self.role else { return 0 };
        let learner = |learner: &Progress| match learner.synced && !learner.scanning {
            true => learner.missing,
            false if tells_fewer => learner.missing,
            false => objects.max(learner.missing),
        };
        let learning: u64 = primary.learners.values().map(learner).sum();
        let present = self.confirmed.width() + primary.learners.len();
        let absent = self.size.saturating_sub(present) as u64;
        learning + absent * objects
    }
}
