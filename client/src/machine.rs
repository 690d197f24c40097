//! The deciding half of a client: which daemon a request goes to, when it is sent again, when it is given up.
//!
//! Invariants:
//! - a request keeps its id from `Submit` to `Finish`; it goes out again under the same id whenever the answer
//!   may have been lost or the placement group's leader or interval changed, and the daemons' logs see to it
//!   that it takes effect once (DESIGN 5, R11);
//! - every `Submit` that is not cancelled gets exactly one `Finish`, at its deadline at the latest;
//! - an answer that says "done" is taken from whichever session it comes, because a daemon says so only of what
//!   is committed; an answer that says "not here" counts only for the sending it belongs to;
//! - what is in flight is bounded in requests and in bytes; the rest waits in order of arrival, in a bounded queue;
//! - a session is named by a number that is never given twice, so news of an old one changes nothing.
//!
//! Requests to one object are not kept in order: who needs an order waits for the answer, or puts both into one
//! op vector.

mod aim;
mod pending;
mod session;
mod submission;
mod timers;
mod watch;

#[cfg(test)]
mod tests;

pub use submission::{Submission, Target};

use pending::{Cause, Pending};
use session::Session;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;
use store_base::error::Error;
use store_base::map::OsdMap;
use store_base::op::{Notification, OpResult, Reply, Request};
use store_base::{
    ClientId, DaemonId, Epoch, Machine, ObjectName, PoolId, Ticket, Time, Timestamp, Version,
};
use timers::{Timer, Timers};
use watch::WatchState;

/// How much, how often, how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Requests in flight: sent, or waiting for a map or a session. More wait in the queue.
    pub ops_in_flight_max: usize,
    /// Bytes in flight, of payload sent and of answers asked for. A single larger request goes alone.
    pub bytes_in_flight_max: usize,
    /// Requests in the queue; more are refused as unavailable. The library stops taking requests before that.
    pub queued_max: usize,
    /// Pause before the first new attempt to reach a daemon; doubles with every failure.
    pub redial_min: Duration,
    /// Longest pause before a new attempt to reach a daemon.
    pub redial_max: Duration,
    /// Pause before a request that a daemon sent away goes out again by the same map; doubles every time.
    pub retry_min: Duration,
    /// Longest such pause.
    pub retry_max: Duration,
    /// Send again after so long without an answer. `None` where links lose nothing while they live.
    pub resend_after: Option<Duration>,
    /// Deadline of the requests that keep a watch alive.
    pub watch_deadline: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            ops_in_flight_max: 2048,
            bytes_in_flight_max: 64 << 20,
            queued_max: 8192,
            redial_min: Duration::from_millis(20),
            redial_max: Duration::from_secs(1),
            retry_min: Duration::from_millis(10),
            retry_max: Duration::from_millis(500),
            resend_after: None,
            watch_deadline: Duration::from_secs(30),
        }
    }
}

/// Who this client is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Config {
    /// Given by the monitor, never given twice.
    pub client: ClientId,
    /// Which life of that client.
    pub incarnation: u32,
    /// Bounds and pauses.
    pub limits: Limits,
}

/// What can happen to a client.
#[derive(Clone, Debug)]
pub enum Event {
    /// Someone wants an op vector carried out. The ticket is any number that is not pending now.
    Submit {
        /// Comes back with the result.
        ticket: Ticket,
        /// What is wanted.
        submission: Submission,
    },
    /// Nobody waits for it any more. It may still happen. No `Finish` follows.
    Cancel {
        /// Of the submission.
        ticket: Ticket,
    },
    /// A map; ignored unless it is newer than the one held.
    Map(Arc<OsdMap>),
    /// A session that was asked for with `Dial` is open.
    SessionUp {
        /// With whom.
        daemon: DaemonId,
        /// Of the `Dial`.
        session: u64,
    },
    /// A session broke, or could not be opened.
    SessionLost {
        /// With whom.
        daemon: DaemonId,
        /// Of the `Dial`.
        session: u64,
    },
    /// A daemon said something.
    Reply {
        /// Who.
        daemon: DaemonId,
        /// On which session.
        session: u64,
        /// What.
        reply: Reply,
    },
    /// Someone wants to be told of notifications of an object.
    Watch {
        /// Names the watch; not in use now.
        cookie: u64,
        /// The pool.
        pool: PoolId,
        /// The object; must exist.
        object: ObjectName,
        /// Seconds without a sign of life after which the daemons forget it.
        timeout_secs: u32,
        /// The wall clock.
        mtime: Timestamp,
        /// When to give up the first registration.
        deadline: Time,
    },
    /// The watch is wanted no more.
    Unwatch {
        /// The watch.
        cookie: u64,
        /// The wall clock.
        mtime: Timestamp,
    },
    /// `wake_at` has come.
    Wake,
}

/// What the shell must do next.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Open a session; answer with `SessionUp` or `SessionLost` under this number.
    Dial {
        /// With whom.
        daemon: DaemonId,
        /// Its number.
        session: u64,
        /// host:port.
        address: String,
    },
    /// Close a session, or stop opening it. No event need follow.
    Close {
        /// With whom.
        daemon: DaemonId,
        /// Its number.
        session: u64,
    },
    /// Send a request on an open session.
    Send {
        /// To whom.
        daemon: DaemonId,
        /// On which session.
        session: u64,
        /// What.
        request: Request,
    },
    /// See to it that a map of at least this epoch arrives.
    WantMap {
        /// At least.
        epoch: Epoch,
    },
    /// A submission has ended.
    Finish {
        /// Which.
        ticket: Ticket,
        /// How.
        result: Result<Done, Error>,
    },
    /// The first registration of a watch succeeded, or failed and the watch is forgotten.
    Watching {
        /// Which.
        cookie: u64,
        /// How.
        result: Result<(), Error>,
    },
    /// A watched object was notified. Answer with a submission of `Op::NotifyAck`.
    Notified {
        /// What was told.
        notification: Notification,
    },
    /// A watch had to be registered anew: notifications may have been missed.
    WatchGap {
        /// Which.
        cookie: u64,
    },
    /// A watch is over, e.g. because the object is gone.
    WatchEnded {
        /// Which.
        cookie: u64,
        /// Why.
        error: Error,
    },
}

/// A request was carried out, or failed as a whole with nothing changed: then `results` ends with the op that
/// failed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Done {
    /// The log entry.
    pub version: Version,
    /// The object's user version afterwards.
    pub user_version: u64,
    /// One per op, up to the first that failed.
    pub results: Vec<OpResult>,
}

/// What has happened so far; for metrics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Requests sent for the first time.
    pub sent: u64,
    /// Requests sent again.
    pub resent: u64,
    /// Requests that were answered.
    pub answered: u64,
    /// Requests that reached their deadline.
    pub timed_out: u64,
    /// Sessions that broke or could not be opened.
    pub sessions_lost: u64,
}

/// The client. See the module's documentation.
#[derive(Debug)]
pub struct Client {
    config: Config,
    map: Option<Arc<OsdMap>>,
    map_wanted: Epoch,
    tid_last: u64,
    /// By tid. All that has no answer, the queue included.
    pending: BTreeMap<u64, Pending>,
    tickets: BTreeMap<Ticket, u64>,
    /// Tids that wait for room in flight. May name some that were cancelled meanwhile.
    queue: VecDeque<u64>,
    ops_in_flight: usize,
    bytes_in_flight: usize,
    sessions: BTreeMap<DaemonId, Session>,
    session_last: u64,
    watches: BTreeMap<u64, WatchState>,
    timers: Timers,
    counters: Counters,
}

impl Client {
    /// A client without map and sessions.
    pub fn new(config: Config) -> Self {
        Client {
            config,
            map: None,
            map_wanted: Epoch(0),
            tid_last: 0,
            pending: BTreeMap::new(),
            tickets: BTreeMap::new(),
            queue: VecDeque::new(),
            ops_in_flight: 0,
            bytes_in_flight: 0,
            sessions: BTreeMap::new(),
            session_last: 0,
            watches: BTreeMap::new(),
            timers: Timers::default(),
            counters: Counters::default(),
        }
    }

    /// The map it goes by.
    pub fn map(&self) -> Option<&Arc<OsdMap>> {
        self.map.as_ref()
    }

    /// Whether another submission would go out at once rather than into the queue.
    pub fn has_room(&self) -> bool {
        self.queue.is_empty()
            && self.ops_in_flight < self.config.limits.ops_in_flight_max
            && self.bytes_in_flight < self.config.limits.bytes_in_flight_max
    }

    /// Submissions without an answer, the queue included.
    pub fn pending(&self) -> usize {
        self.pending.len()
    }

    /// Payload bytes in flight.
    pub fn bytes_in_flight(&self) -> usize {
        self.bytes_in_flight
    }

    /// What has happened so far.
    pub fn counters(&self) -> Counters {
        self.counters
    }

    /// Asks for a map of at least this epoch, once.
    fn want_map(&mut self, epoch: Epoch, actions: &mut Vec<Action>) {
        if epoch > self.map_wanted {
            self.map_wanted = epoch;
            actions.push(Action::WantMap { epoch });
        }
    }

    fn epoch(&self) -> Epoch {
        self.map.as_ref().map_or(Epoch(0), |map| map.epoch)
    }

    fn handle_map(&mut self, now: Time, map: Arc<OsdMap>, actions: &mut Vec<Action>) {
        if map.epoch <= self.epoch() {
            return;
        }
        self.map = Some(map);
        self.close_outdated_sessions(actions);
        self.replace_all(now, Cause::Map, actions);
        self.check_watches(now, actions);
    }

    fn handle_reply(
        &mut self,
        now: Time,
        daemon: DaemonId,
        session: u64,
        reply: Reply,
        actions: &mut Vec<Action>,
    ) {
        match reply {
            Reply::Answer { id, epoch, outcome } => {
                if (id.client, id.incarnation) == (self.config.client, self.config.incarnation) {
                    self.note_alive(daemon, session);
                    let from = (daemon, session, epoch);
                    self.handle_answer(now, from, id.tid, outcome, actions);
                }
            }
            Reply::Notify { notification } => {
                if self.watches.contains_key(&notification.cookie) {
                    actions.push(Action::Notified { notification });
                }
            }
        }
    }

    fn handle_wake(&mut self, now: Time, actions: &mut Vec<Action>) {
        while let Some(timer) = self.timers.pop_due(now) {
            match timer {
                Timer::Deadline(tid) => self.handle_deadline(now, tid, actions),
                Timer::Retry(tid) => self.handle_retry(now, tid, actions),
                Timer::Dial(daemon) => self.handle_redial(now, daemon, actions),
                Timer::Ping(cookie) => self.handle_ping_due(now, cookie),
            }
        }
    }
}

impl Machine for Client {
    type Event = Event;
    type Action = Action;

    fn step(&mut self, now: Time, event: Event, actions: &mut Vec<Action>) {
        match event {
            Event::Submit { ticket, submission } => {
                self.handle_submit(ticket, submission, actions);
            }
            Event::Cancel { ticket } => self.handle_cancel(ticket),
            Event::Map(map) => self.handle_map(now, map, actions),
            Event::SessionUp { daemon, session } => {
                self.handle_session_up(now, daemon, session, actions);
            }
            Event::SessionLost { daemon, session } => {
                self.handle_session_lost(now, daemon, session, actions);
            }
            Event::Reply { daemon, session, reply } => {
                self.handle_reply(now, daemon, session, reply, actions);
            }
            Event::Watch { cookie, pool, object, timeout_secs, mtime, deadline } => {
                let watch = WatchState::new(pool, object, timeout_secs, mtime, deadline);
                self.handle_watch(now, cookie, watch, actions);
            }
            Event::Unwatch { cookie, mtime } => self.handle_unwatch(now, cookie, mtime),
            Event::Wake => {}
        }
        // A step may come late for a timer whatever else it brings.
        self.handle_wake(now, actions);
        self.admit(now, actions);
    }

    fn wake_at(&self) -> Option<Time> {
        self.timers.first()
    }
}
