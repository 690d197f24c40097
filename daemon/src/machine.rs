//! The deciding half of a daemon: placement groups, their replication, recovery and reports.
//!
//! A [`Daemon`] owns its store (the disk is an argument) and is driven by [`Event`]s; it answers with
//! [`Action`]s. It has no clock, socket, thread or chance of its own, and iterates ordered maps only: one
//! sequence of events gives one sequence of actions.
//!
//! # Where to read on
//!
//! | file | what |
//! |---|---|
//! | `event`, `message`, `config` | the seam: events, actions, peers' messages, limits |
//! | `pg`, `log`, `core` | a group's state; its log in memory; what groups share |
//! | `interval` | from the map to an interval in force (R4, R5, R6) |
//! | `lease` | signs of life, leases (R5) |
//! | `split` | groups that are divided when a pool grows |
//! | `takeover` | sync, activation, promotion (R3, R7, R13) |
//! | `request`, `queue`, `read`, `write` | the primary and its clients (R8 to R11) |
//! | `replica` | members and learners during an interval (R8) |
//! | `catch_up`, `copy`, `pace` | learners (R12), whole objects, repairs; what it may take from clients |
//! | `scrub` | comparing copies, mending them, what is verified |
//! | `report` | beats, asks, failures |
//! | `slots` | groups with slots: encoding, cutting logs, gathering and rebuilding shards |
//! | `execute`, `watch` | what a request does to its object |
//!
//! The rules R1 to R14 are DESIGN part 5, executable in `tests/model`. What is staged in a log has no effect
//! on objects before it is known to be committed: undoing is dropping, and objects always show what clients
//! may see.

mod catch_up;
mod config;
mod copy;
mod core;
mod event;
pub mod execute;
pub mod inspect;
mod interval;
mod lease;
mod log;
mod lost;
mod message;
mod pace;
mod pg;
mod queue;
mod read;
mod replica;
mod report;
mod request;
mod room;
mod scrub;
pub mod slots;
mod split;
mod status;
mod takeover;
pub mod watch;
mod write;

#[cfg(test)]
mod tests;

pub use config::{Config, Fault, Identity};
pub use event::{Action, Event, LinkId, MonitorCall, MonitorRequest};
pub use message::{CommitPoint, MESSAGE_BYTES_MAX, Nonce, PeerMessage, Trimmed};
pub use scrub::{Digest, Inconsistency, Scope, ScrubConfig, ScrubRecord, ScrubRun};
pub use status::{PgRole, PgView, Status, Totals};

use self::core::{Core, NOBODY, Pending, Stored, Timer};
use crate::store::{Completion, Store, StoreError, Write};
use bytes::Bytes;
use catch_up::{Adopt, Scanned};
use copy::PushMessage;
use lease::Grant;
use pg::{Pg, Role};
use queue::{Queue, Wait, Waiting};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use store_base::codec::{Decode, Encode};
use store_base::map::OsdMap;
use store_base::op::{Op, Outcome, Request, errno};
use store_base::{
    ClusterId, DaemonId, Incarnation, Interval, Machine, PgId, Ticket, Time, Timestamp,
};
use takeover::{Ack, Join};

/// Named values in the store's superblock.
mod key {
    pub(super) const INCARNATION: &[u8] = b"incarnation";
    pub(super) const ID: &[u8] = b"id";
    pub(super) const CLUSTER: &[u8] = b"cluster";
    pub(super) const LONGEST_LEASE: &[u8] = b"longest_lease";
}

/// The machine. See the module.
pub struct Daemon<S: Store> {
    core: Core<S>,
    pgs: BTreeMap<PgId, Pg>,
    /// Groups of which the store has lost something, and why.
    lost: BTreeMap<PgId, String>,
    /// Requests for groups that are not here, by a map that is not here yet.
    early: Queue,
}

impl<S: Store> Machine for Daemon<S> {
    type Event = Event;
    type Action = Action;

    fn step(&mut self, now: Time, event: Event, actions: &mut Vec<Action>) {
        std::mem::swap(&mut self.core.out, actions);
        self.core.now = self.core.now.max(now);
        if !self.core.failed {
            self.handle(event);
        }
        if !self.core.failed {
            self.settle();
        }
        std::mem::swap(&mut self.core.out, actions);
    }

    fn wake_at(&self) -> Option<Time> {
        if self.core.failed { None } else { self.core.next_timer() }
    }
}

impl<S: Store> Daemon<S> {
    /// A life of a daemon on what its store holds. It does nothing before [`Event::Start`].
    pub fn new(config: Config, identity: Identity, store: S) -> Result<Self, StoreError> {
        let mut core = Core::new(config, identity, store);
        core.me = named(&core.store, key::ID)?.unwrap_or(NOBODY);
        core.cluster = named(&core.store, key::CLUSTER)?.unwrap_or_default();
        let last: Incarnation = named(&core.store, key::INCARNATION)?.unwrap_or_default();
        core.incarnation = Incarnation(last.0 + 1);
        core.longest_lease_nanos = named(&core.store, key::LONGEST_LEASE)?.unwrap_or_default();
        let (mut pgs, mut lost) = (BTreeMap::new(), BTreeMap::new());
        for id in core.store.pgs() {
            let loaded = core.store.load(id);
            match loaded.and_then(|state| Pg::load(id, core.incarnation.0, state)) {
                Ok(pg) => drop(pgs.insert(id, pg)),
                Err(StoreError::Damaged(why)) => {
                    tracing::error!(pg = %id, why, "damaged: to be filled again from other copies");
                    core.read_errors += 1;
                    lost.insert(id, why);
                }
                Err(error) => return Err(error),
            }
        }
        Ok(Daemon { core, pgs, lost, early: Queue::default() })
    }

    /// Runs `f` on a group, if it is here.
    fn with(&mut self, id: PgId, f: impl FnOnce(&mut Pg, &mut Core<S>)) {
        if let Some(pg) = self.pgs.get_mut(&id) {
            f(pg, &mut self.core);
        }
    }

    /// As `with`, for messages: only in the interval named, and only while it is the newest known (R4).
    fn within(&mut self, id: PgId, interval: Interval, f: impl FnOnce(&mut Pg, &mut Core<S>)) {
        if let Some(pg) = self.pgs.get_mut(&id)
            && pg.interval() == interval
            && !matches!(pg.role, Role::Idle)
        {
            f(pg, &mut self.core);
        }
    }

    fn handle(&mut self, event: Event) {
        match event {
            Event::Start { wall } => self.start(wall),
            Event::Clock { wall } => self.core.set_wall(wall),
            Event::Map(map) => {
                self.handle_map(map);
                self.retry_early();
            }
            Event::Client { link, request } => self.handle_client(link, request),
            Event::ClientGone { link } => self.handle_client_gone(link),
            Event::Peer { from, incarnation, message } => {
                if self.hear(from, incarnation) {
                    self.handle_peer(from, message);
                }
            }
            Event::PeerUp { peer, incarnation } => self.handle_peer_up(peer, incarnation),
            Event::PeerLost { peer, incarnation, refused } => {
                self.handle_peer_lost(peer, incarnation, refused);
            }
            Event::Store(completions) => {
                completions.into_iter().for_each(|completion| self.handle_completion(completion));
            }
            Event::BootReply(reply) => self.handle_boot_reply(reply),
            Event::BeatReply(reply) => self.handle_beat_reply(reply),
            Event::AskReply { .. } => self.handle_ask_reply(),
            Event::MonitorFailed(call) => self.handle_monitor_failed(call),
            Event::Wake => {}
            Event::Stop => self.stop(),
        }
    }

    /// Fires timers and looks at all groups that something has changed for.
    fn settle(&mut self) {
        while let Some(timer) = self.core.due() {
            self.fire(timer);
        }
        loop {
            while let Some(id) = self.core.attention.pop_first() {
                self.with(id, Pg::attend);
            }
            if let Some(message) = self.core.told_itself.pop_front() {
                self.handle_peer(self.core.me, message);
                continue;
            }
            // Only with a planted fault.
            let early = std::mem::take(&mut self.core.early);
            if early.is_empty() {
                break;
            }
            early.into_iter().for_each(|ticket| self.handle_stored(ticket));
        }
        self.call_monitor();
    }

    fn fire(&mut self, timer: Timer) {
        match timer {
            Timer::Heartbeat => self.core.heartbeat(),
            Timer::Notice => self.core.send_notices(),
            Timer::Split => self.split_next(),
            Timer::Copies => self.core.wake_copies(),
            Timer::Scrub => self.look_for_scrubs(),
            Timer::NextScrub => self.start_scrubs(),
            Timer::Monitor => {} // every step ends with a look at what is due
            Timer::Pg(id) => self.with(id, |pg, core| {
                if pg.wake.is_some_and(|at| at <= core.now) {
                    pg.wake = None;
                    pg.tick(core);
                }
            }),
        }
    }

    fn start(&mut self, wall: Timestamp) {
        let core = &mut self.core;
        core.started = core.now;
        core.set_wall(wall);
        // What the last life granted runs out before anything new is confirmed (R6).
        core.silent_until = core.now + Duration::from_nanos(core.longest_lease_nanos);
        let term = u64::try_from(core.config.lease_term.as_nanos()).unwrap_or(u64::MAX);
        core.longest_lease_nanos = core.longest_lease_nanos.max(term);
        let batch = vec![
            super_value(key::INCARNATION, &core.incarnation),
            super_value(key::LONGEST_LEASE, &core.longest_lease_nanos),
        ];
        if core.submit(Some(Pending::Incarnation), batch).is_err() {
            core.fatal("the store has no room for the daemon's incarnation".into());
        }
    }

    /// This life is durable: it may speak.
    fn begin_to_speak(&mut self) {
        self.core.speaks = true;
        tracing::info!(id = %self.core.me, incarnation = %self.core.incarnation, "started");
        self.core.heartbeat();
        self.digest_map();
        self.look_for_scrubs();
    }

    fn store_identity(&mut self, id: DaemonId, cluster: ClusterId) {
        self.core.cluster = cluster;
        let batch = vec![super_value(key::ID, &id), super_value(key::CLUSTER, &cluster)];
        self.core.pending_id = id;
        if self.core.submit(Some(Pending::Identity), batch).is_err() {
            self.core.fatal("the store has no room for the daemon's id".into());
        }
    }

    fn handle_completion(&mut self, completion: Completion) {
        match completion {
            Completion::Stored { ticket } => self.handle_stored(ticket),
            Completion::Read { ticket, result } => match self.core.take_ticket(ticket) {
                Some(Pending::JobRead(pg, job, index)) => {
                    self.with(pg, |pg, core| pg.handle_job_read(core, job, index, result));
                }
                Some(Pending::PushRead(pg, to, object, attempt)) => {
                    let key = (to, object);
                    self.with(pg, |pg, core| pg.handle_push_read(core, &key, attempt, result));
                }
                Some(Pending::GatherRead(pg, number, index)) => {
                    self.with(pg, |pg, core| pg.handle_gather_read(core, number, index, result));
                }
                Some(Pending::FetchRead(pg, number, index)) => {
                    self.with(pg, |pg, core| pg.handle_fetch_read(core, number, index, result));
                }
                Some(Pending::ScrubRead(pg, number)) => {
                    self.with(pg, |pg, core| pg.handle_scrub_read(core, number, result));
                }
                _ => {}
            },
            Completion::Failed { error } => self.core.fail(&error),
        }
    }

    fn handle_stored(&mut self, ticket: Ticket) {
        match self.core.take_ticket(ticket) {
            Some(Pending::Incarnation) => self.begin_to_speak(),
            Some(Pending::Identity) => {
                self.core.me = self.core.pending_id;
                self.digest_map();
            }
            Some(Pending::LongestLease(nanos)) => {
                self.core.longest_lease_nanos = self.core.longest_lease_nanos.max(nanos);
            }
            Some(Pending::Pg(id, stored)) => self.with(id, |pg, core| match stored {
                Stored::Confirmed(interval) => pg.handle_confirmed(core, interval),
                Stored::Log(interval, nonce, version) => {
                    if interval == pg.interval() && nonce == pg.synced.nonce {
                        pg.handle_log_stored(core, version);
                    }
                }
                Stored::Complete(interval, nonce) => {
                    if interval == pg.interval() && nonce == pg.synced.nonce {
                        pg.handle_complete(core);
                    }
                }
                Stored::Part(object, attempt, next) => {
                    pg.handle_part_stored(core, object, attempt, next);
                }
                Stored::Repaired(interval, object) => {
                    if interval == pg.interval() {
                        pg.repaired(core, &object);
                    }
                }
            }),
            _ => {}
        }
    }

    fn handle_client(&mut self, link: LinkId, request: Request) {
        let id = request.id;
        let core = &mut self.core;
        core.done.requests += 1;
        if core.is_fenced(id.client) {
            return core.refuse(link, id, errno::EBLOCKLISTED, "this client is fenced");
        }
        if let Err((code, why)) = execute::check(&request) {
            return core.answer(link, id, Outcome::Refused { code, why });
        }
        core.clients.insert(id.client, link);
        let waiting = Waiting { link, since: self.core.now, request: Box::new(request) };
        self.core.earn(waiting.bytes());
        self.place(waiting);
    }

    /// Brings a request to its group, if that is here.
    fn place(&mut self, waiting: Waiting) {
        let core = &mut self.core;
        let request = &waiting.request;
        let is_ahead = request.epoch > core.epoch();
        let is_right = core.map.pools.get(&request.pg.pool).is_some_and(|pool| {
            let pg = match request.ops.first() {
                Some(Op::List { .. }) => request.pg,
                _ => request.object.pg(request.pg.pool, pool.pg_num),
            };
            pg == request.pg && request.epoch >= pool.resend_since
        });
        let is_to_come = !self.core.splits.is_empty() && is_right && self.is_to_come(request.pg);
        let core = &mut self.core;
        match self.pgs.get_mut(&request.pg) {
            // Beside the group: it must not hold up those who are content with the map that is here.
            _ if is_ahead || is_to_come => self.early.push(core, Wait::Group, waiting),
            Some(pg) if is_right => pg.handle_request(core, waiting),
            _ => core.misdirected(waiting.link, request.id),
        }
    }

    fn retry_early(&mut self) {
        if !self.early.is_idle() {
            let all = self.early.take(&mut self.core, Wait::Group);
            all.into_iter().for_each(|waiting| self.place(waiting));
        }
    }

    fn handle_client_gone(&mut self, link: LinkId) {
        self.core.clients.retain(|_, on| *on != link);
        self.early.forget_link(&mut self.core, link);
        for pg in self.pgs.values_mut().filter(|pg| !pg.queue.is_idle()) {
            pg.queue.forget_link(&mut self.core, link);
        }
    }

    fn handle_peer(&mut self, from: DaemonId, message: PeerMessage) {
        match message {
            PeerMessage::Ping { life, sent, epoch, full } => {
                self.handle_ping(from, life, sent, epoch, full);
            }
            PeerMessage::Pong { life, sent, epoch: _, term_nanos, excepted, full, room } => {
                self.handle_pong(from, life, sent, Grant { term_nanos, excepted, full, room });
            }
            PeerMessage::Stopping { life } => self.handle_stopping(from, life),
            PeerMessage::Join { pg, interval, nonce, wish, synced, applied, head } => {
                let join = Join { nonce, wish, synced, applied, head };
                self.within(pg, interval, |pg, core| pg.handle_join(core, from, join));
            }
            PeerMessage::Ack { pg, interval, nonce, stored, applied, missing, scanning } => {
                let ack = Ack { nonce, stored, applied, missing, scanning };
                self.within(pg, interval, |pg, core| pg.handle_ack(core, from, ack));
            }
            PeerMessage::Pull { pg, interval, object, attempt, version } => {
                self.within(pg, interval, |pg, core| {
                    pg.handle_pull(core, from, object, attempt, version);
                });
            }
            PeerMessage::Push { pg, interval, object, attempt, index, as_of, parts } => {
                let push = PushMessage { attempt, index, as_of, parts };
                self.within(pg, interval, |pg, core| pg.handle_push(core, from, object, push));
            }
            PeerMessage::PushAck { pg, interval, object, attempt, next, done } => {
                let key = (from, object);
                self.within(pg, interval, |pg, core| {
                    pg.handle_push_ack(core, &key, attempt, next, done);
                });
            }
            PeerMessage::PullRefused { pg, interval, object, attempt, damaged: _ } => {
                self.within(pg, interval, |pg, core| {
                    pg.handle_pull_refused(core, from, &object, attempt);
                });
            }
            PeerMessage::Fetched { pg, interval, number, data } => {
                self.within(pg, interval, |pg, core| pg.take_shard(core, number, from, data));
            }
            PeerMessage::Scan { pg, interval, after } => {
                self.within(pg, interval, |pg, core| pg.handle_scan(core, from, after));
            }
            PeerMessage::Scanned { pg, interval, after, objects, end, as_of } => {
                let scanned = Scanned { after, objects, end, as_of };
                self.within(pg, interval, |pg, core| pg.handle_scanned(core, from, scanned));
            }
            PeerMessage::Scrubbed { pg, interval, number, digests, covered, failed } => {
                let answer = scrub::Answer { digests, covered, failed };
                self.within(pg, interval, |pg, core| {
                    pg.handle_scrubbed(core, from, number, answer);
                });
            }
            PeerMessage::ScrubNoted { pg, interval, verified, record } => {
                self.within(pg, interval, |pg, core| {
                    pg.handle_scrub_noted(core, from, verified, record.as_ref());
                });
            }
            message => self.handle_primary(from, message),
        }
    }

    /// Messages that only the primary of the interval may send.
    fn handle_primary(&mut self, from: DaemonId, message: PeerMessage) {
        let mut led = |id, interval, f: &mut dyn FnMut(&mut Pg, &mut Core<S>)| {
            self.within(id, interval, |pg, core| {
                if pg.confirmed.primary == from {
                    f(pg, core);
                }
            });
        };
        match message {
            PeerMessage::Sync { pg, interval, applied, mut staged } => {
                led(pg, interval, &mut |pg, core| {
                    pg.handle_sync(core, applied, std::mem::take(&mut staged));
                });
            }
            PeerMessage::Adopt {
                pg,
                interval,
                nonce,
                overlaps,
                tail,
                entries,
                staged,
                trimmed,
            } => {
                let mut adopt = Some(Adopt { nonce, overlaps, tail, entries, staged, trimmed });
                led(pg, interval, &mut |pg, core| {
                    if let Some(adopt) = adopt.take() {
                        pg.handle_adopt(core, adopt);
                    }
                });
            }
            PeerMessage::Replicate { pg, interval, entry, committed } => {
                let mut entry = Some(entry);
                led(pg, interval, &mut |pg, core| {
                    if let Some(entry) = entry.take() {
                        pg.handle_replicate(core, entry, committed);
                    }
                });
            }
            PeerMessage::Cut { pg, interval, applied, to } => {
                led(pg, interval, &mut |pg, core| pg.handle_cut(core, applied, to));
            }
            PeerMessage::Fetch { pg, interval, number, object, version, as_of, ranges } => {
                let fetch = slots::Fetch { number, object, version, as_of, ranges };
                led(pg, interval, &mut |pg, core| pg.handle_fetch(core, from, fetch.clone()));
            }
            PeerMessage::Scrub { pg, interval, number, deep, as_of, scope } => {
                let mut ask = Some(scrub::Ask { number, deep, as_of, scope });
                led(pg, interval, &mut |pg, core| {
                    if let Some(ask) = ask.take() {
                        pg.handle_scrub(core, from, ask);
                    }
                });
            }
            PeerMessage::Mend { pg, interval, object, version, as_of } => {
                led(pg, interval, &mut |pg, core| {
                    pg.handle_mend(core, object.clone(), version, as_of);
                });
            }
            PeerMessage::ScrubNote { pg, interval, record, verified } => {
                led(pg, interval, &mut |pg, core| {
                    pg.handle_scrub_note(core, from, &record, verified);
                });
            }
            PeerMessage::Committed { points } => {
                for point in points {
                    led(point.pg, point.interval, &mut |pg, core| {
                        pg.handle_committed(core, point.version);
                    });
                }
            }
            _ => unreachable!("all others were taken before"),
        }
    }

    /// The settings in force.
    pub fn config(&self) -> &Config {
        &self.core.config
    }

    /// Changes the settings of a running daemon. A longer lease is granted once it is durable that a restart
    /// must wait for it.
    pub fn set_config(&mut self, config: Config) {
        let core = &mut self.core;
        let term = u64::try_from(config.lease_term.as_nanos()).unwrap_or(u64::MAX);
        core.config = config;
        if core.speaks && term > core.longest_lease_nanos && !core.failed {
            let batch = vec![super_value(key::LONGEST_LEASE, &term)];
            // Without room the lease stays as long as it was.
            let _ = core.submit(Some(Pending::LongestLease(term)), batch);
        }
    }

    /// The store.
    pub fn store(&self) -> &S {
        &self.core.store
    }

    /// The store, to be polled.
    pub fn store_mut(&mut self) -> &mut S {
        &mut self.core.store
    }

    /// Ends this life.
    pub fn into_store(self) -> S {
        self.core.store
    }

    /// The id, once the monitor gave one and it is durable.
    pub fn id(&self) -> Option<DaemonId> {
        (self.core.me != NOBODY).then_some(self.core.me)
    }

    /// Which life this is.
    pub fn incarnation(&self) -> Incarnation {
        self.core.incarnation
    }

    /// The newest map.
    pub fn osd_map(&self) -> Option<&Arc<OsdMap>> {
        (self.core.map.epoch.0 > 0).then_some(&self.core.map)
    }
}

impl Pg {
    /// Does whatever has become possible.
    fn attend<S: Store>(&mut self, core: &mut Core<S>) {
        core.lease_waits.remove(&self.id);
        if core.splits.contains(&self.id) {
            return; // what it knows of its interval is out of date
        }
        self.consider_confirm(core);
        self.advance(core);
        self.answer_waiters(core);
        self.retry_all(core);
        self.start_pulls(core);
        self.start_pushes(core);
    }

    /// Its time has come: repeats what got lost, ends what takes too long.
    fn tick<S: Store>(&mut self, core: &mut Core<S>) {
        if core.splits.contains(&self.id) {
            return;
        }
        self.resend_overdue(core);
        self.join_again(core);
        self.retry_pulls(core);
        self.expire_pushes(core);
        self.retry_gathers(core, None);
        self.continue_catch_up(core);
        self.continue_digest(core);
        self.continue_walk(core);
        if self.watches.wake_at().is_some_and(|at| at <= core.now) {
            let mut actions = Vec::new();
            self.watches.wake(core.now, &mut actions);
            self.watch_actions(core, actions);
        } else if let Some(at) = self.watches.wake_at() {
            self.set_wake(core, at);
        }
        core.attention.insert(self.id);
    }

    /// A session to a peer has begun: what was sent on the one before may be lost.
    fn handle_session<S: Store>(&mut self, core: &mut Core<S>, peer: DaemonId) {
        match &self.role {
            Role::Replica(replica) if replica.primary == peer => {
                if replica.synced {
                    self.acknowledge(core)
                } else {
                    self.join(core)
                }
                self.scan_anew();
                self.continue_catch_up(core);
            }
            Role::Primary(primary) => {
                let members = primary.members.get(&peer);
                let progress = members.or_else(|| primary.learners.get(&peer));
                if let Some(progress) = progress {
                    let (synced, stored) = (progress.synced, progress.stored);
                    self.refresh(core, peer, synced, stored);
                }
            }
            _ => {}
        }
        self.restart_pulls_from(core, peer);
        self.retry_gathers(core, Some(peer));
    }
}

fn named<T: Decode>(store: &impl Store, key: &'static [u8]) -> Result<Option<T>, StoreError> {
    let value = store.superblock(key)?.map(T::from_bytes).transpose();
    value.map_err(|error| {
        StoreError::Damaged(format!("{} in the superblock: {error}", key.escape_ascii()))
    })
}

fn super_value(key: &'static [u8], value: &impl Encode) -> Write {
    Write::Super { key: Bytes::from_static(key), value: Some(value.to_bytes()) }
}
