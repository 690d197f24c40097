//! The life of a request: queued, admitted, aimed, sent, sent again, finished.

use super::aim::{Aim, Place};
use super::{Action, Client, Done, Submission, Target, Timer};
use store_base::error::Error;
use store_base::op::{Op, Outcome, Request, errno};
use store_base::{DaemonId, Epoch, Interval, PgId, RequestId, Ticket, Time, Timestamp};

/// Doubling a pause more often than this changes nothing below any sensible longest pause.
const DOUBLINGS_MAX: u32 = 16;

/// A request without an answer.
#[derive(Debug)]
pub(super) struct Pending {
    pub(super) owner: Owner,
    target: Target,
    place: Place,
    ops: Vec<Op>,
    read_only: bool,
    /// A lost answer leaves doubt.
    mutates: bool,
    /// A full cluster refuses it.
    grows: bool,
    mtime: Timestamp,
    weight: usize,
    deadline: Time,
    pub(super) state: State,
    /// How often it went out.
    sendings: u32,
    /// How often a daemon sent it away by a map no newer than ours.
    rejections: u32,
    /// Not to be sent by an older map.
    epoch_min: Epoch,
    retry_at: Option<Time>,
}

/// Who waits for the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Owner {
    /// The submitter.
    Ticket(Ticket),
    /// A watch that registers.
    Register(u64),
    /// A watch that gives a sign of life.
    Ping(u64),
    /// Nobody.
    Nobody,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// Not yet in flight.
    Queued,
    /// Waits for a map, a session, or the end of a pause.
    Parked,
    /// Sent, and not answered.
    Sent { daemon: DaemonId, session: u64, pg: PgId, interval: Interval, epoch: Epoch },
}

/// Why requests are looked at again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cause {
    /// A newer map.
    Map,
    /// A session opened, broke, or may be dialed again.
    Session,
}

impl Client {
    pub(super) fn handle_submit(
        &mut self,
        ticket: Ticket,
        submission: Submission,
        actions: &mut Vec<Action>,
    ) {
        assert!(!self.tickets.contains_key(&ticket), "a ticket names one submission at a time");
        let refusal = match submission.check() {
            Ok(()) if self.queue.len() >= self.config.limits.queued_max => {
                Some(Error::Unavailable("too many requests wait for this client".into()))
            }
            checked => checked.err(),
        };
        match refusal {
            Some(error) => actions.push(Action::Finish { ticket, result: Err(error) }),
            None => {
                let tid = self.enqueue(Owner::Ticket(ticket), submission);
                self.tickets.insert(ticket, tid);
            }
        }
    }

    /// Puts a request into the queue; `admit` at the end of the step takes it out.
    pub(super) fn enqueue(&mut self, owner: Owner, submission: Submission) -> u64 {
        self.tid_last += 1;
        let tid = self.tid_last;
        self.timers.set(submission.deadline, Timer::Deadline(tid));
        let pending = Pending {
            owner,
            place: Place::of(&submission.target),
            mutates: submission.mutates(),
            weight: submission.weight(),
            grows: submission.grows(),
            state: State::Queued,
            sendings: 0,
            rejections: 0,
            epoch_min: Epoch(0),
            retry_at: None,
            target: submission.target,
            ops: submission.ops,
            read_only: submission.read_only,
            mtime: submission.mtime,
            deadline: submission.deadline,
        };
        self.pending.insert(tid, pending);
        self.queue.push_back(tid);
        tid
    }

    /// Takes from the queue what there is room for, in order.
    pub(super) fn admit(&mut self, now: Time, actions: &mut Vec<Action>) {
        let limits = self.config.limits;
        while let Some(&tid) = self.queue.front() {
            if let Some(pending) = self.pending.get_mut(&tid) {
                let fits = self.ops_in_flight < limits.ops_in_flight_max
                    && self.bytes_in_flight + pending.weight <= limits.bytes_in_flight_max;
                if !fits && self.ops_in_flight > 0 {
                    return;
                }
                self.ops_in_flight += 1;
                self.bytes_in_flight += pending.weight;
                pending.state = State::Parked;
                self.place(now, tid, actions);
            }
            self.queue.pop_front();
        }
    }

    /// Sends a request where it belongs now, or parks it until something changes.
    pub(super) fn place(&mut self, now: Time, tid: u64, actions: &mut Vec<Action>) {
        let Some(pending) = self.pending.get_mut(&tid) else { return };
        pending.state = State::Parked;
        let (epoch_min, owner, sendings) = (pending.epoch_min, pending.owner, pending.sendings);
        if let Some(at) = pending.retry_at.take() {
            self.timers.clear(at, Timer::Retry(tid));
        }
        if let Owner::Register(cookie) = owner
            && sendings > 0
        {
            // The log answers a resent registration, but it does not tie the watch to the new session.
            self.forget(tid);
            return self.register(now, cookie, actions);
        }
        if epoch_min > self.epoch() {
            return self.want_map(epoch_min, actions);
        }
        let pending = &self.pending[&tid];
        match self.aim(&pending.target, pending.place) {
            Aim::Primary { pg, interval, daemon } => {
                if let Some(session) = self.session(daemon, actions) {
                    self.send(now, tid, (daemon, session), (pg, interval), actions);
                }
            }
            Aim::Nobody => {}
            Aim::OldMap(epoch) => self.want_map(epoch, actions),
            Aim::Gone(error) => self.finish(now, tid, Err(error), actions),
        }
    }

    fn send(
        &mut self,
        now: Time,
        tid: u64,
        (daemon, session): (DaemonId, u64),
        (pg, interval): (PgId, Interval),
        actions: &mut Vec<Action>,
    ) {
        let epoch = self.epoch();
        let full = self.map.as_ref().is_some_and(|map| map.flags.full);
        let pending = self.pending.get_mut(&tid).expect("the caller has just looked it up");
        // Once sent it may be done already: then only the daemon's log knows the answer.
        if full && pending.sendings == 0 && pending.grows {
            let text = "the cluster is full: delete something, or add a daemon";
            return self.finish(now, tid, Err(Error::Full(text.into())), actions);
        }
        pending.state = State::Sent { daemon, session, pg, interval, epoch };
        let request = Request {
            id: RequestId { client: self.config.client, incarnation: self.config.incarnation, tid },
            epoch,
            pg,
            object: match &pending.target {
                Target::Object { object, .. } => object.clone(),
                Target::Group(_) => Default::default(),
            },
            mtime: pending.mtime,
            resend: pending.sendings,
            read_only: pending.read_only,
            snap_seq: 0,
            snaps: Vec::new(),
            ops: pending.ops.clone(),
        };
        match pending.sendings {
            0 => self.counters.sent += 1,
            _ => self.counters.resent += 1,
        }
        pending.sendings = pending.sendings.saturating_add(1);
        if let Some(after) = self.config.limits.resend_after {
            pending.retry_at = Some(now + after);
            self.timers.set(now + after, Timer::Retry(tid));
        }
        actions.push(Action::Send { daemon, session, request });
    }

    /// Looks at all that is in flight, because a map or session changed, and moves what is not where it belongs.
    /// What a daemon sent away waits out its pause, unless there is a newer map.
    pub(super) fn replace_all(&mut self, now: Time, cause: Cause, actions: &mut Vec<Action>) {
        let tids: Vec<u64> = self.pending.keys().copied().collect();
        for tid in tids {
            let Some(pending) = self.pending.get(&tid) else { continue };
            let moved = match pending.state {
                State::Queued => false,
                State::Parked => pending.retry_at.is_none() || cause == Cause::Map,
                State::Sent { daemon, session, pg, interval, epoch } => {
                    self.open_session(daemon) != Some(session)
                        || self.must_resend(&pending.target, epoch)
                        || self.aim(&pending.target, pending.place)
                            != Aim::Primary { pg, interval, daemon }
                }
            };
            if moved {
                self.place(now, tid, actions);
            }
        }
    }

    /// Whether the pool wants all that was sent before some later epoch again (a split).
    fn must_resend(&self, target: &Target, sent: Epoch) -> bool {
        let pool = self.map.as_ref().and_then(|map| map.pools.get(&target.pool()));
        pool.is_some_and(|pool| pool.resend_since > sent)
    }

    pub(super) fn handle_answer(
        &mut self,
        now: Time,
        (daemon, session, by): (DaemonId, u64, Epoch),
        tid: u64,
        outcome: Outcome,
        actions: &mut Vec<Action>,
    ) {
        let held = self.epoch();
        let Some(pending) = self.pending.get_mut(&tid) else { return }; // cancelled, or answered before
        // Another sending went out since, elsewhere or by a later map: it may be under way, or done.
        let is_current = match pending.state {
            State::Sent { daemon: to, session: on, epoch, .. } => {
                (to, on) == (daemon, session) && by >= epoch
            }
            _ => false,
        };
        match outcome {
            // What was done without an entry is known in its interval only: the later twin may do more.
            Outcome::Done { .. } if pending.mutates && !is_current => {}
            Outcome::Done { version, user_version, results } => {
                self.counters.answered += 1;
                self.finish(now, tid, Ok(Done { version, user_version, results }), actions);
            }
            Outcome::Misdirected { epoch } if is_current => {
                if epoch > held {
                    pending.epoch_min = epoch;
                    self.place(now, tid, actions);
                } else {
                    self.back_off(now, tid);
                }
            }
            Outcome::Refused { code, .. } if code == -errno::EAGAIN => {
                if is_current {
                    self.back_off(now, tid);
                }
            }
            Outcome::Misdirected { .. } => {}
            Outcome::Refused { .. } if !is_current => {}
            Outcome::Refused { code, why } => {
                self.counters.answered += 1;
                let error = if code == -errno::ESTALE {
                    Error::TimedOut(format!("{why}; it may have happened or not"))
                } else {
                    Error::from_errno(code, why)
                };
                self.finish(now, tid, Err(error), actions);
            }
        }
    }

    /// The daemon knows no newer map than we do, or is busy: the same again, a little later.
    fn back_off(&mut self, now: Time, tid: u64) {
        let limits = self.config.limits;
        let Some(pending) = self.pending.get_mut(&tid) else { return };
        let doublings = pending.rejections.min(DOUBLINGS_MAX);
        let pause = limits.retry_min.saturating_mul(1 << doublings).min(limits.retry_max);
        pending.rejections = pending.rejections.saturating_add(1);
        pending.state = State::Parked;
        if let Some(at) = pending.retry_at.replace(now + pause) {
            self.timers.clear(at, Timer::Retry(tid));
        }
        self.timers.set(now + pause, Timer::Retry(tid));
    }

    pub(super) fn handle_retry(&mut self, now: Time, tid: u64, actions: &mut Vec<Action>) {
        if let Some(pending) = self.pending.get_mut(&tid) {
            pending.retry_at = None; // this timer is spent
            self.place(now, tid, actions);
        }
    }

    pub(super) fn handle_deadline(&mut self, now: Time, tid: u64, actions: &mut Vec<Action>) {
        let Some(pending) = self.pending.get(&tid) else { return };
        self.counters.timed_out += 1;
        let error = self.describe_timeout(pending);
        self.finish(now, tid, Err(error), actions);
    }

    fn describe_timeout(&self, pending: &Pending) -> Error {
        let target = &pending.target;
        let waited = match (&self.map, pending.state) {
            (None, _) => "no map of the cluster arrived: are the monitors up?".to_string(),
            (_, State::Queued) => "too much else was in flight".to_string(),
            (Some(_), State::Sent { daemon, pg, .. }) => {
                format!("{daemon}, which leads placement group {pg}, did not answer")
            }
            (Some(map), State::Parked) => match self.aim(target, pending.place) {
                _ if map.flags.pause => "the cluster is paused".to_string(),
                Aim::Primary { pg, daemon, .. } => {
                    format!("{daemon}, which leads placement group {pg}, could not be reached")
                }
                _ => "no daemon leads its placement group now".to_string(),
            },
        };
        if pending.mutates && pending.sendings > 0 {
            Error::TimedOut(format!("{target}: {waited}; the change may have happened or not"))
        } else {
            Error::Unavailable(format!("{target}: {waited}; nothing was done"))
        }
    }

    pub(super) fn handle_cancel(&mut self, ticket: Ticket) {
        if let Some(tid) = self.tickets.get(&ticket) {
            self.forget(*tid);
        }
    }

    /// Ends a request and tells whoever waits for it.
    pub(super) fn finish(
        &mut self,
        now: Time,
        tid: u64,
        result: Result<Done, Error>,
        actions: &mut Vec<Action>,
    ) {
        let sent = self.pending.get(&tid).map(|pending| pending.state);
        match self.forget(tid) {
            None | Some(Owner::Nobody) => {}
            Some(Owner::Ticket(ticket)) => actions.push(Action::Finish { ticket, result }),
            Some(Owner::Register(cookie)) => {
                self.handle_registered(now, cookie, sent, result, actions);
            }
            Some(Owner::Ping(cookie)) => self.handle_pinged(now, cookie, result, actions),
        }
    }

    /// Drops all that is kept of a request. Its place in the queue is passed over later.
    pub(super) fn forget(&mut self, tid: u64) -> Option<Owner> {
        let pending = self.pending.remove(&tid)?;
        self.timers.clear(pending.deadline, Timer::Deadline(tid));
        if let Some(at) = pending.retry_at {
            self.timers.clear(at, Timer::Retry(tid));
        }
        if pending.state != State::Queued {
            self.ops_in_flight -= 1;
            self.bytes_in_flight -= pending.weight;
        }
        if let Owner::Ticket(ticket) = pending.owner {
            self.tickets.remove(&ticket);
        }
        Some(pending.owner)
    }
}
