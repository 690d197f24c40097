//! Watches that outlive sessions and primaries: registered anew wherever the object's placement group is led,
//! kept alive with pings, and honest about the gaps.
//!
//! A registration that must go out again gets a new request id, unlike any other request: the old id would be
//! answered from the log, without tying the watch to the new session.

use super::aim::{Aim, Place};
use super::pending::{Owner, State};
use super::{Action, Client, Done, Submission, Target, Timer};
use std::time::Duration;
use store_base::error::Error;
use store_base::op::{Op, errno};
use store_base::{DaemonId, Interval, ObjectName, PoolId, Time, Timestamp};

/// Signs of life within the time after which the daemons forget a watch.
const PINGS_PER_TIMEOUT: u64 = 3;

/// A watch that someone wants.
#[derive(Debug)]
pub(super) struct WatchState {
    target: Target,
    timeout_secs: u32,
    mtime: Timestamp,
    /// Of the first registration; `None` once it succeeded.
    first: Option<Time>,
    phase: Phase,
}

#[derive(Debug)]
enum Phase {
    /// The request is under way.
    Registering(u64),
    /// A daemon knows it, on a session, in an interval.
    Registered { daemon: DaemonId, session: u64, interval: Interval, ping: Ping },
    /// Between two steps only.
    New,
}

#[derive(Clone, Copy, Debug)]
enum Ping {
    Due(Time),
    UnderWay(u64),
}

impl WatchState {
    pub(super) fn new(
        pool: PoolId,
        object: ObjectName,
        timeout_secs: u32,
        mtime: Timestamp,
        deadline: Time,
    ) -> Self {
        WatchState {
            target: Target::Object { pool, object },
            timeout_secs,
            mtime,
            first: Some(deadline),
            phase: Phase::New,
        }
    }

    fn ping_after(&self) -> Duration {
        Duration::from_millis(u64::from(self.timeout_secs.max(1)) * 1000 / PINGS_PER_TIMEOUT)
    }
}

impl Client {
    pub(super) fn handle_watch(
        &mut self,
        now: Time,
        cookie: u64,
        watch: WatchState,
        actions: &mut Vec<Action>,
    ) {
        assert!(!self.watches.contains_key(&cookie), "a cookie names one watch at a time");
        self.watches.insert(cookie, watch);
        self.register(now, cookie, actions);
    }

    pub(super) fn register(&mut self, now: Time, cookie: u64, actions: &mut Vec<Action>) {
        self.withdraw(cookie);
        let Some(watch) = self.watches.get(&cookie) else { return };
        let first = watch.first;
        if first.is_some_and(|deadline| deadline <= now) {
            self.watches.remove(&cookie);
            let error = Error::Unavailable("the watch could not be registered in time".into());
            return actions.push(Action::Watching { cookie, result: Err(error) });
        }
        let op = Op::Watch { cookie, timeout_secs: watch.timeout_secs };
        let deadline = first.unwrap_or(now + self.config.limits.watch_deadline);
        let submission = self.watch_submission(cookie, op, deadline);
        let tid = self.enqueue(Owner::Register(cookie), submission);
        self.set_phase(cookie, Phase::Registering(tid));
    }

    fn watch_submission(&self, cookie: u64, op: Op, deadline: Time) -> Submission {
        let watch = &self.watches[&cookie];
        Submission {
            target: watch.target.clone(),
            read_only: !op.mutates(),
            ops: vec![op],
            mtime: watch.mtime,
            deadline,
        }
    }

    fn set_phase(&mut self, cookie: u64, phase: Phase) {
        if let Some(watch) = self.watches.get_mut(&cookie) {
            watch.phase = phase;
        }
    }

    /// Drops the requests and timers of a watch.
    fn withdraw(&mut self, cookie: u64) {
        let Some(watch) = self.watches.get_mut(&cookie) else { return };
        match std::mem::replace(&mut watch.phase, Phase::New) {
            Phase::Registering(tid) | Phase::Registered { ping: Ping::UnderWay(tid), .. } => {
                self.forget(tid);
            }
            Phase::Registered { ping: Ping::Due(at), .. } => {
                self.timers.clear(at, Timer::Ping(cookie));
            }
            Phase::New => {}
        }
    }

    pub(super) fn handle_registered(
        &mut self,
        now: Time,
        cookie: u64,
        sent: Option<State>,
        result: Result<Done, Error>,
        actions: &mut Vec<Action>,
    ) {
        let Some(watch) = self.watches.get_mut(&cookie) else { return };
        watch.phase = Phase::New; // the request is gone
        match (failure(result), sent) {
            (None, Some(State::Sent { daemon, session, interval, .. })) => {
                let ping_at = now + watch.ping_after();
                let ping = Ping::Due(ping_at);
                watch.phase = Phase::Registered { daemon, session, interval, ping };
                self.timers.set(ping_at, Timer::Ping(cookie));
                match watch.first.take() {
                    Some(_) => actions.push(Action::Watching { cookie, result: Ok(()) }),
                    None => actions.push(Action::WatchGap { cookie }),
                }
            }
            // Answered, but from a session that is gone.
            (None, _) => self.register(now, cookie, actions),
            (Some(error), _) if watch.first.is_none() && may_pass(&error) => {
                self.register(now, cookie, actions);
            }
            (Some(error), _) => self.end_watch(cookie, error, actions),
        }
    }

    fn end_watch(&mut self, cookie: u64, error: Error, actions: &mut Vec<Action>) {
        self.withdraw(cookie);
        match self.watches.remove(&cookie) {
            None => {}
            Some(watch) if watch.first.is_some() => {
                actions.push(Action::Watching { cookie, result: Err(error) });
            }
            Some(_) => actions.push(Action::WatchEnded { cookie, error }),
        }
    }

    pub(super) fn handle_ping_due(&mut self, now: Time, cookie: u64) {
        let deadline = now + self.config.limits.watch_deadline;
        if !self.watches.contains_key(&cookie) {
            return;
        }
        let submission = self.watch_submission(cookie, Op::WatchPing { cookie }, deadline);
        let tid = self.enqueue(Owner::Ping(cookie), submission);
        if let Some(Phase::Registered { ping, .. }) =
            self.watches.get_mut(&cookie).map(|watch| &mut watch.phase)
        {
            *ping = Ping::UnderWay(tid);
        }
    }

    pub(super) fn handle_pinged(
        &mut self,
        now: Time,
        cookie: u64,
        result: Result<Done, Error>,
        actions: &mut Vec<Action>,
    ) {
        let Some(watch) = self.watches.get_mut(&cookie) else { return };
        let next = now + watch.ping_after();
        let Phase::Registered { ping, .. } = &mut watch.phase else { return };
        *ping = Ping::Due(next);
        self.timers.set(next, Timer::Ping(cookie));
        match failure(result) {
            None => {}
            Some(error) if may_pass(&error) || error.errno() == -errno::ENOTCONN => {
                self.register(now, cookie, actions);
            }
            Some(error) => self.end_watch(cookie, error, actions),
        }
    }

    /// Registers anew what is registered where its placement group is led no more.
    pub(super) fn check_watches(&mut self, now: Time, actions: &mut Vec<Action>) {
        let is_astray = |watch: &WatchState| match watch.phase {
            Phase::Registered { daemon, session, interval, .. } => {
                let aim = self.aim(&watch.target, Place::of(&watch.target));
                let is_led_here = matches!(aim, Aim::Primary { daemon: leader, interval: led, .. }
                    if (leader, led) == (daemon, interval));
                self.open_session(daemon) != Some(session) || !is_led_here
            }
            _ => false,
        };
        let astray: Vec<u64> = self
            .watches
            .iter()
            .filter(|(_, watch)| is_astray(watch))
            .map(|(cookie, _)| *cookie)
            .collect();
        for cookie in astray {
            self.register(now, cookie, actions);
        }
    }

    pub(super) fn handle_unwatch(&mut self, now: Time, cookie: u64, mtime: Timestamp) {
        let Some(watch) = self.watches.get_mut(&cookie) else { return };
        watch.mtime = mtime;
        self.withdraw(cookie);
        let deadline = now + self.config.limits.watch_deadline;
        let submission = self.watch_submission(cookie, Op::Unwatch { cookie }, deadline);
        self.watches.remove(&cookie);
        self.enqueue(Owner::Nobody, submission);
    }
}

/// Why a vector of one op failed, if it did.
fn failure(result: Result<Done, Error>) -> Option<Error> {
    match result {
        Err(error) => Some(error),
        Ok(done) => match done.results.last() {
            Some(last) if last.code < 0 => {
                Some(Error::from_errno(last.code, "the daemon refused the watch"))
            }
            _ => None,
        },
    }
}

/// Whether the same may go through later.
fn may_pass(error: &Error) -> bool {
    matches!(error, Error::TimedOut(_) | Error::Unavailable(_))
}
