//! What all placement groups of a daemon share: the store, the tickets, time, the map, what goes out.

use super::config::{Config, Fault, Identity};
use super::copy::Urgency;
use super::event::{Action, LinkId, MonitorRequest};
use super::lease::Peer;
use super::message::{CommitPoint, Nonce, PeerMessage};
use super::pace::Pace;
use super::queue::Recent;
use super::report::Monitor;
use super::room::Credit;
use super::scrub::ScrubCore;
use super::status::Totals;
use crate::store::{Store, StoreError, Write};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use store_base::map::OsdMap;
use store_base::op::{Outcome, Reply};
use store_base::{
    ClientId, ClusterId, DaemonId, Epoch, Incarnation, Interval, ObjectName, PgId, RequestId,
    Ticket, Time, Timestamp, Version,
};

/// No daemon: the id of one that has none yet.
pub(crate) const NOBODY: DaemonId = DaemonId(-1);

/// What a ticket of the store stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Pending {
    /// The incarnation of this life.
    Incarnation,
    /// Id and cluster.
    Identity,
    /// A longer longest lease.
    LongestLease(u64),
    /// Something of a placement group.
    Pg(PgId, Stored),
    /// A read for a job of a placement group: which, and its place among the job's reads.
    JobRead(PgId, u64, usize),
    /// A read for a copy that is being sent.
    PushRead(PgId, DaemonId, ObjectName, u64),
    /// A read of the own shard, for a gathering: which, and its place among the ranges.
    GatherRead(PgId, u64, usize),
    /// A read of the own shard for the primary: which question, and its place among the ranges.
    FetchRead(PgId, u64, usize),
    /// A read for a digest, of which round.
    ScrubRead(PgId, u64),
}

/// What of a placement group became durable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Stored {
    /// The interval confirmed.
    Confirmed(Interval),
    /// The log up to here, in this interval and adoption. Takeover and adoption themselves too.
    Log(Interval, Nonce, Version),
    /// That nothing is lacking any more.
    Complete(Interval, Nonce),
    /// A part of a copy: of what, of which attempt, and which part is next.
    Part(ObjectName, u64, u32),
    /// A good copy in place of a damaged one.
    Repaired(Interval, ObjectName),
}

/// When something must be looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Timer {
    /// Pings, silence.
    Heartbeat,
    /// Beats and asks.
    Monitor,
    /// Commit points for idle members.
    Notice,
    /// The next group to divide.
    Split,
    /// Copies that wait for credit.
    Copies,
    /// What is to be scrubbed.
    Scrub,
    /// A scrub has ended: the next may begin.
    NextScrub,
    /// A placement group.
    Pg(PgId),
}

/// See the module.
pub(crate) struct Core<S> {
    pub(crate) config: Config,
    pub(crate) identity: Identity,
    pub(crate) store: S,
    pub(crate) now: Time,
    pub(crate) started: Time,
    wall: (Timestamp, Time),
    /// `NOBODY` until the monitor gave an id.
    pub(crate) me: DaemonId,
    /// The id that is on its way to the disk.
    pub(crate) pending_id: DaemonId,
    pub(crate) cluster: ClusterId,
    pub(crate) incarnation: Incarnation,
    /// The incarnation is durable: this life may speak.
    pub(crate) speaks: bool,
    /// Until then no interval is confirmed (R6).
    pub(crate) silent_until: Time,
    pub(crate) longest_lease_nanos: u64,
    pub(crate) map: Arc<OsdMap>,
    /// Groups and their primaries, by the epoch in which their interval began.
    pub(crate) changed_since: BTreeMap<Epoch, Vec<(PgId, DaemonId)>>,
    /// Groups that are to be divided before anything else is done with them.
    pub(crate) splits: BTreeSet<PgId>,
    pub(crate) peers: BTreeMap<DaemonId, Peer>,
    /// What this daemon has promised itself to store.
    pub(crate) credit: Credit,
    pub(crate) last_heartbeat: Option<Time>,
    pub(crate) monitor: Monitor,
    pub(crate) out: Vec<Action>,
    /// What this daemon tells itself: it rebuilds its own shards as it does those of others.
    pub(crate) told_itself: VecDeque<PeerMessage>,
    pub(crate) failed: bool,
    /// Placement groups to be looked at before the step ends.
    pub(crate) attention: BTreeSet<PgId>,
    /// Placement groups whose requests or answers wait for a lease.
    pub(crate) lease_waits: BTreeSet<PgId>,
    /// Placement groups that wait for leases that this daemon granted to run out.
    pub(crate) grant_waits: BTreeSet<PgId>,
    timers: BTreeSet<(Time, Timer)>,
    tickets: u64,
    pending: BTreeMap<Ticket, Pending>,
    numbers: u64,
    /// Commit points that members have yet to be told.
    notices: BTreeMap<DaemonId, BTreeMap<PgId, CommitPoint>>,
    /// The stream on which each client last asked something.
    pub(crate) clients: BTreeMap<ClientId, LinkId>,
    pub(crate) pace: Pace,
    pub(crate) waiting_bytes: usize,
    /// Final answers to mutations that made no entry.
    pub(crate) recent: Recent,
    pub(crate) jobs_open: usize,
    pub(crate) pulls_open: usize,
    /// Placement groups that would pull if there were room, and how urgent each is.
    pub(crate) pulls_wanted: BTreeMap<PgId, Urgency>,
    pub(crate) pushes_open: usize,
    /// Placement groups with copies to send that wait for their turn.
    pub(crate) pushes_wanted: BTreeMap<PgId, Urgency>,
    pub(crate) scrub: ScrubCore,
    pub(crate) read_errors: u64,
    /// What was done since the start.
    pub(crate) done: Totals,
    /// Stores that a test-only fault calls durable too early.
    pub(crate) early: Vec<Ticket>,
}

impl<S: Store> Core<S> {
    pub(crate) fn new(config: Config, identity: Identity, store: S) -> Self {
        Core {
            config,
            identity,
            store,
            now: Time::ZERO,
            started: Time::ZERO,
            wall: (Timestamp::default(), Time::ZERO),
            me: NOBODY,
            pending_id: NOBODY,
            cluster: ClusterId::default(),
            incarnation: Incarnation(0),
            speaks: false,
            silent_until: Time::ZERO,
            longest_lease_nanos: 0,
            map: Arc::new(OsdMap::default()),
            changed_since: BTreeMap::new(),
            splits: BTreeSet::new(),
            peers: BTreeMap::new(),
            credit: Credit::default(),
            last_heartbeat: None,
            monitor: Monitor::default(),
            out: Vec::new(),
            told_itself: VecDeque::new(),
            failed: false,
            attention: BTreeSet::new(),
            lease_waits: BTreeSet::new(),
            grant_waits: BTreeSet::new(),
            timers: BTreeSet::new(),
            tickets: 0,
            pending: BTreeMap::new(),
            numbers: 0,
            notices: BTreeMap::new(),
            clients: BTreeMap::new(),
            pace: Pace::default(),
            waiting_bytes: 0,
            recent: Recent::default(),
            jobs_open: 0,
            pulls_open: 0,
            pulls_wanted: BTreeMap::new(),
            pushes_open: 0,
            pushes_wanted: BTreeMap::new(),
            scrub: ScrubCore::default(),
            read_errors: 0,
            done: Totals::default(),
            early: Vec::new(),
        }
    }

    pub(crate) fn set_wall(&mut self, wall: Timestamp) {
        self.wall = (wall, self.now);
    }

    /// The wall clock, as far as is known.
    pub(crate) fn wall(&self) -> Timestamp {
        let (wall, at) = self.wall;
        let passed = self.now.since(at);
        let nanos = u64::from(wall.nanos) + u64::from(passed.subsec_nanos());
        Timestamp {
            secs: wall.secs + passed.as_secs() + nanos / 1_000_000_000,
            nanos: (nanos % 1_000_000_000) as u32,
        }
    }

    /// A number that this life has not used, and no other life will.
    pub(crate) fn number(&mut self) -> u64 {
        self.numbers += 1;
        (self.incarnation.0 << 32) | self.numbers
    }

    pub(crate) fn ticket(&mut self, pending: Pending) -> Ticket {
        self.tickets += 1;
        let ticket = Ticket(self.tickets);
        self.pending.insert(ticket, pending);
        ticket
    }

    pub(crate) fn take_ticket(&mut self, ticket: Ticket) -> Option<Pending> {
        self.pending.remove(&ticket)
    }

    /// Hands a batch to the store. A failed medium ends the daemon; that there is no room is the
    /// caller's to handle.
    pub(crate) fn submit(
        &mut self,
        pending: Option<Pending>,
        batch: Vec<Write>,
    ) -> Result<(), StoreError> {
        let early = self.config.fault == Fault::AckBeforeDurable
            && matches!(pending, Some(Pending::Pg(_, Stored::Log(..))));
        let ticket = pending.map(|pending| self.ticket(pending));
        let result = self.store.submit(ticket, batch);
        match &result {
            Ok(()) if early => self.early.extend(ticket),
            Ok(()) => {}
            Err(error) => {
                ticket.map(|ticket| self.pending.remove(&ticket));
                if !matches!(error, StoreError::Full(_)) {
                    self.fail(error);
                }
            }
        }
        result
    }

    /// The store cannot go on, so the daemon cannot.
    pub(crate) fn fail(&mut self, error: &StoreError) {
        self.fatal(format!("the store failed: {error}"));
    }

    pub(crate) fn fatal(&mut self, why: String) {
        if !self.failed {
            self.failed = true;
            self.out.push(Action::Fatal { why });
        }
    }

    pub(crate) fn send(&mut self, to: DaemonId, message: PeerMessage) {
        if to == self.me {
            return self.told_itself.push_back(message);
        }
        self.out.push(Action::ToPeer { to, message });
    }

    pub(crate) fn call(&mut self, request: MonitorRequest) {
        self.out.push(Action::ToMonitor(request));
    }

    pub(crate) fn answer(&mut self, link: LinkId, id: RequestId, outcome: Outcome) {
        let epoch = self.map.epoch;
        self.out.push(Action::ToClient { link, reply: Reply::Answer { id, epoch, outcome } });
    }

    pub(crate) fn refuse(&mut self, link: LinkId, id: RequestId, errno: i32, why: &str) {
        self.answer(link, id, Outcome::Refused { code: -errno, why: why.to_string() });
    }

    pub(crate) fn misdirected(&mut self, link: LinkId, id: RequestId) {
        let epoch = self.map.epoch;
        self.answer(link, id, Outcome::Misdirected { epoch });
    }

    pub(crate) fn epoch(&self) -> Epoch {
        self.map.epoch
    }

    pub(crate) fn set_timer(&mut self, at: Time, timer: Timer) {
        self.timers.insert((at, timer));
    }

    /// The next timer that is due.
    pub(crate) fn due(&mut self) -> Option<Timer> {
        let (at, _) = self.timers.first()?;
        if *at > self.now {
            return None;
        }
        self.timers.pop_first().map(|(_, timer)| timer)
    }

    pub(crate) fn next_timer(&self) -> Option<Time> {
        self.timers.first().map(|(at, _)| *at)
    }

    /// A member will be told the commit point with the next entry, or soon.
    pub(crate) fn notice(&mut self, to: DaemonId, point: CommitPoint) {
        if self.notices.is_empty() {
            self.set_timer(self.now + self.config.commit_notice_after, Timer::Notice);
        }
        self.notices.entry(to).or_default().insert(point.pg, point);
    }

    /// A member has been told with an entry.
    pub(crate) fn noticed(&mut self, to: DaemonId, pg: PgId) {
        if let Some(points) = self.notices.get_mut(&to) {
            points.remove(&pg);
        }
    }

    pub(crate) fn send_notices(&mut self) {
        for (to, points) in std::mem::take(&mut self.notices) {
            let points: Vec<_> = points.into_values().collect();
            if !points.is_empty() {
                self.send(to, PeerMessage::Committed { points });
            }
        }
    }

    /// Whether a client is fenced.
    pub(crate) fn is_fenced(&self, client: ClientId) -> bool {
        let until = self.map.blocklist.get(&client);
        until.is_some_and(|until| *until > self.wall().secs)
    }

    /// Whether a share of the medium is used.
    pub(crate) fn is_full(&self, permille: u64) -> bool {
        let usage = self.store.usage();
        let used = u128::from(usage.used_bytes) * 1000;
        usage.capacity_bytes > 0 && used >= u128::from(usage.capacity_bytes) * u128::from(permille)
    }
}
