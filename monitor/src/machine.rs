//! The deciding half of the monitor.
//!
//! A change is a pure function from the committed maps to the next ones. All that arrives while a commit is
//! under way waits, and goes together into the next one: one epoch, one batch. Answers to changes are given
//! when they are committed, not before.
//!
//! Invariants:
//! - At most one batch is in flight; `committed` is what the store has confirmed, and what subscribers see.
//! - Every request is answered exactly once, also when leadership is lost (then with [`Reply::Unavailable`]).
//! - Epochs rise by one. What may or may not have been committed is read from the store again before anything
//!   else is decided: a failed commit ends the leadership ([`Action::Resign`]).
//! - Nothing but the maps is needed after a restart. The [`view::View`] is rebuilt from beats; what it lacks
//!   makes the health worse.
//!
//! | module | concept |
//! |---|---|
//! | [`maps`] | all that is kept; from and to the store |
//! | [`view`] | what was heard |
//! | [`daemons`] | boot, suspicion, down, out |
//! | [`placement`] | CRUSH and targets |
//! | `balance` | exceptions to CRUSH, plans of movement |
//! | [`groups`] | records of placement groups |
//! | [`pools`], [`users`], [`services`], [`settings`] | the other subjects |
//! | [`commands`] | the command table |
//! | [`health`], [`surroundings`], [`mutes`], [`status`], [`jobs`], [`scrub`] | what is told to people |
//! | [`notes`] | what is remembered for them |

pub(crate) mod balance;
pub mod commands;
pub mod daemons;
pub mod groups;
pub mod health;
pub mod jobs;
pub mod maps;
pub mod mutes;
pub mod notes;
pub mod placement;
pub mod pools;
pub mod scrub;
pub mod services;
pub mod settings;
pub mod status;
pub mod surroundings;
pub mod users;
pub mod view;

use crate::state::{Batch, Stored};
use bytes::Bytes;
use commands::{ReadContext, WriteContext};
use groups::Groups;
use maps::{Changed, History, Maps};
use placement::Targets;
use std::collections::VecDeque;
use std::time::Duration;
use store_base::codec::Encode;
use store_base::ids::{DaemonId, Epoch, Incarnation, Ticket};
use store_base::map::{AuthMap, ConfigMap, OsdMap, ServiceMap};
use store_base::wire;
use store_base::{Machine, Time, Timestamp};
use view::View;

pub use users::{PlainSealer, Sealer};

/// Requests that wait for the next commit; more are told to come again.
pub const QUEUE_MAX: usize = 4096;

/// Boots that wait out a pause.
pub const HELD_BOOTS_MAX: usize = 256;

/// Client ids are reserved in blocks of this many, so that one commit serves many.
pub const CLIENT_BLOCK: u64 = 4096;

/// The first client id. Those below are for entities that have names.
pub const FIRST_CLIENT: u64 = 4096;

/// Random bytes that come with a command.
pub const ENTROPY_BYTES: usize = 80;

/// Timings and names that are given at start. What can be changed at run time is in [`settings`].
#[derive(Clone, Debug)]
pub struct Settings {
    /// Name of this monitor.
    pub name: String,
    /// Version of the software, for people.
    pub version: String,
    /// How often daemons, services and groups are looked at without an event.
    pub review_every: Duration,
    /// With witnesses, a daemon is suspect when the monitor itself missed it for this long.
    pub beat_missed: Duration,
    /// How long a peer's suspicion counts without being renewed.
    pub suspicion_lasts: Duration,
    /// Daemons that cannot reach one another though both reach the monitor: after this many times the grace.
    pub one_sided_factor: u32,
    /// Being marked down by peers counts this long against a daemon.
    pub flap_window: Duration,
    /// How long a daemon stays down that was marked down twice within the window; doubles each time.
    pub flap_pause: Duration,
    /// A gap between two steps beyond this means that the monitor itself stood still.
    pub stall: Duration,
    /// For how long after it began to lead missing reports are "not yet".
    pub settle: Duration,
    /// What a daemon told is not taken to be so any more when it was not heard for this long: more than two of
    /// the beats that it sends when it has nothing to say.
    pub stale: Duration,
    /// **For tests only**: a planted fault.
    pub fault: Fault,
}

/// Faults to plant, so that the simulator can show that it finds them. **For tests only.**
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Fault {
    /// None: the product.
    #[default]
    None,
    /// A learner that the target wants stays a holder while it catches up.
    LearnerStaysHolder,
    /// Any daemon of the target is taken into a re-formed interval, whatever it has.
    ReformWithAnybody,
    /// A group is re-formed only when all of its holders are up.
    WaitForAllHolders,
    /// Groups that nobody has reported count as well.
    SilenceIsHealth,
    /// Groups that have too few members count as well.
    SmallIsHealthy,
    /// Nobody is asked to make up a copy that is lost.
    NoLearners,
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            name: "a".to_string(),
            version: env!("CARGO_PKG_VERSION").to_string(),
            review_every: Duration::from_secs(1),
            beat_missed: Duration::from_millis(2500),
            suspicion_lasts: Duration::from_secs(3),
            one_sided_factor: 2,
            flap_window: Duration::from_secs(300),
            flap_pause: Duration::from_secs(5),
            stall: Duration::from_secs(4),
            settle: Duration::from_secs(10),
            stale: Duration::from_secs(5),
            fault: Fault::None,
        }
    }
}

/// What can happen.
#[allow(clippy::large_enum_variant)] // a request lives for one step; a box would be one allocation each
#[derive(Clone, Debug)]
pub enum Event {
    /// The wall clock now. Between two of these it is taken to go with the monotonic one.
    Clock {
        /// UTC.
        wall: Timestamp,
    },
    /// This monitor leads, and this is everything that the store holds.
    Lead {
        /// As loaded after leadership was won.
        stored: Stored,
    },
    /// The disk that holds this monitor's state was looked at.
    Looked {
        /// What it has.
        disk: surroundings::Disk,
    },
    /// It leads no more.
    Deposed,
    /// A batch is durable.
    Committed {
        /// Of [`Action::Commit`].
        ticket: Ticket,
    },
    /// A batch was refused, or its outcome is not known.
    CommitFailed {
        /// Of [`Action::Commit`].
        ticket: Ticket,
        /// For people.
        why: String,
    },
    /// Somebody wants something.
    Request {
        /// Chosen by the shell; comes back in [`Action::Reply`].
        from: Ticket,
        /// What.
        request: Request,
    },
    /// The connection by which a daemon's life beat has ended. It may dial again; until it beats, nothing that it
    /// told is taken to be so still.
    Disconnected {
        /// Which.
        daemon: DaemonId,
        /// In which life.
        incarnation: Incarnation,
    },
    /// The time of [`Machine::wake_at`] has come.
    Woke,
}

/// What can be wanted of the monitor. The shell has checked who may want it.
#[derive(Clone, Debug)]
pub enum Request {
    /// A daemon begins a life.
    Boot(wire::BootRequest),
    /// A sign of life.
    Beat(wire::BeatRequest),
    /// A daemon could not reach another.
    Failure(wire::FailureReport),
    /// A primary wants activation, promotion or a new interval.
    Asks(wire::PgAskBatch),
    /// A client wants an id.
    NewClient(wire::NewClientRequest),
    /// A gateway or metadata service announces itself.
    Service(wire::ServiceBeatRequest),
    /// The command table.
    Command {
        /// JSON and input.
        command: wire::CommandRequest,
        /// Random bytes, for keys.
        entropy: [u8; ENTROPY_BYTES],
    },
}

/// What is answered.
#[derive(Clone, Debug, PartialEq)]
pub enum Reply {
    /// To a boot.
    Boot(wire::BootReply),
    /// To a beat.
    Beat(wire::BeatReply),
    /// To a failure report.
    Done,
    /// To asks.
    Asks(wire::PgAskReply),
    /// To a new client.
    NewClient(wire::NewClientReply),
    /// To a service.
    Service(wire::ServiceBeatReply),
    /// To a command.
    Command(wire::CommandReply),
    /// Not now; nothing was done: ask again.
    Unavailable(String),
    /// It may have been done or not: look, then ask again.
    Unknown(String),
}

/// What the shell must do.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Hand the batch to the store and report `Committed` or `CommitFailed`.
    Commit {
        /// Comes back in the report.
        ticket: Ticket,
        /// What.
        batch: Batch,
    },
    /// Send each update to the subscribers of its kind; it is the step from the epoch before.
    Publish {
        /// One per map that changed.
        updates: Vec<wire::MapUpdate>,
    },
    /// Answer a request.
    Reply {
        /// Of [`Event::Request`].
        to: Ticket,
        /// With this.
        reply: Reply,
    },
    /// Give leadership back, load the store, campaign again.
    Resign {
        /// For the log.
        why: String,
    },
}

/// A batch under way.
struct InFlight {
    ticket: Ticket,
    maps: Maps,
    changed: Changed,
    step: Option<Bytes>,
    replies: Vec<(Ticket, Reply)>,
}

/// All that a leader has.
struct Leader {
    version: u64,
    committed: Maps,
    history: History,
    view: View,
    targets: Targets,
    /// The generation of the targets in which the balancer found nothing to do.
    level_at: Option<u64>,
    /// Since when nothing is left of a movement.
    in_place_since: Option<Time>,
    in_flight: Option<InFlight>,
    queue: VecDeque<(Ticket, Request)>,
    held: Vec<(Time, Ticket, wire::BootRequest)>,
    /// Client ids given from the block reserved.
    clients_next: u64,
    services: services::Heard,
    next_review: Time,
    review_due: bool,
    began: Time,
}

/// The monitor's machine.
pub struct Monitor {
    settings: Settings,
    sealer: Box<dyn Sealer>,
    leader: Option<Leader>,
    wall_base: (Time, Timestamp),
    own_disk: Option<surroundings::Disk>,
    last_step: Time,
    next_ticket: u64,
}

impl Machine for Monitor {
    type Event = Event;
    type Action = Action;

    fn step(&mut self, now: Time, event: Event, actions: &mut Vec<Action>) {
        self.excuse_own_stall(now);
        match event {
            Event::Clock { wall } => self.wall_base = (now, wall),
            Event::Looked { disk } => {
                self.own_disk = Some(disk);
                if let Some(leader) = &mut self.leader {
                    leader.view.own_disk = self.own_disk;
                }
            }
            Event::Lead { stored } => self.lead(now, &stored, actions),
            Event::Deposed => self.depose("this monitor does not lead any more", actions),
            Event::Committed { ticket } => self.committed(ticket, actions),
            Event::CommitFailed { ticket, why } => self.commit_failed(ticket, why, actions),
            Event::Request { from, request } => self.handle_request(now, from, request, actions),
            Event::Disconnected { daemon, incarnation } => {
                if let Some(leader) = &mut self.leader {
                    leader.view.disconnect(daemon, incarnation);
                }
            }
            Event::Woke => {}
        }
        self.propose(now, actions);
    }

    fn wake_at(&self) -> Option<Time> {
        let leader = self.leader.as_ref().filter(|leader| leader.in_flight.is_none())?;
        let held = leader.held.iter().map(|(until, ..)| *until).min();
        Some(held.map_or(leader.next_review, |held| held.min(leader.next_review)))
    }
}

impl Monitor {
    /// A monitor that does not lead yet. The sealer keeps secrets.
    pub fn new(settings: Settings, sealer: Box<dyn Sealer>) -> Monitor {
        Monitor {
            settings,
            sealer,
            leader: None,
            wall_base: (Time::ZERO, Timestamp::default()),
            own_disk: None,
            last_step: Time::ZERO,
            next_ticket: 1,
        }
    }

    /// Whether it leads.
    pub fn leads(&self) -> bool {
        self.leader.is_some()
    }

    /// The committed map, if this monitor leads.
    pub fn osd_map(&self) -> Option<&OsdMap> {
        self.leader.as_ref().map(|leader| &*leader.committed.osd)
    }

    /// Users and keys. The seal key is not in it.
    pub fn auth_map(&self) -> Option<&AuthMap> {
        self.leader.as_ref().map(|leader| &*leader.committed.auth)
    }

    /// Settings made at run time.
    pub fn config_map(&self) -> Option<&ConfigMap> {
        self.leader.as_ref().map(|leader| &*leader.committed.config)
    }

    /// Gateways and metadata services.
    pub fn service_map(&self) -> Option<&ServiceMap> {
        self.leader.as_ref().map(|leader| &*leader.committed.services)
    }

    /// Commits under way (0 or 1) and requests that wait: for metrics.
    pub fn backlog(&self) -> (usize, usize) {
        self.leader
            .as_ref()
            .map_or((0, 0), |leader| (usize::from(leader.in_flight.is_some()), leader.queue.len()))
    }

    /// The health of the cluster as far as this monitor knows.
    pub fn health(&self, now: Time) -> health::Report {
        match self.read_context(now) {
            Some(context) => health::report(&context),
            None => health::Report::not_leading(),
        }
    }

    /// How many copies the primary of a group has said to be missing, if its report counts.
    pub fn missing_of(&self, now: Time, pg: store_base::PgId) -> Option<u64> {
        let context = self.read_context(now)?;
        let report =
            context.view.fresh_report(&context.maps.osd, pg, now, context.settings.stale)?;
        Some(report.missing)
    }

    /// What a subscriber that has these epochs must be sent now: the steps it lacks if they are kept, else
    /// the whole map; nothing for what it has already.
    pub fn updates_since(&self, wants: &[wire::Want]) -> Vec<wire::MapUpdate> {
        let Some(leader) = &self.leader else { return Vec::new() };
        wants.iter().filter_map(|want| leader.update_since(want)).collect()
    }

    /// The wall clock now.
    pub fn wall(&self, now: Time) -> Timestamp {
        let (base, wall) = self.wall_base;
        let passed = now.since(base);
        let nanos = u64::from(wall.nanos) + u64::from(passed.subsec_nanos());
        Timestamp {
            secs: wall.secs + passed.as_secs() + nanos / 1_000_000_000,
            nanos: (nanos % 1_000_000_000) as u32,
        }
    }

    fn read_context(&self, now: Time) -> Option<ReadContext<'_>> {
        let leader = self.leader.as_ref()?;
        Some(ReadContext {
            maps: &leader.committed,
            view: &leader.view,
            targets: &leader.targets,
            settings: &self.settings,
            sealer: &*self.sealer,
            now,
            wall: self.wall(now),
            began: leader.began,
        })
    }

    /// A process that was stopped, or a machine that was, has not heard anybody, and nobody is to blame.
    fn excuse_own_stall(&mut self, now: Time) {
        let gap = now.since(self.last_step);
        self.last_step = self.last_step.max(now);
        let Some(leader) = &mut self.leader else { return };
        if gap > self.settings.stall {
            tracing::warn!(seconds = gap.as_secs_f64(), "the monitor stood still");
            leader.view.excuse(gap);
            leader.services.excuse(gap);
        }
    }

    fn lead(&mut self, now: Time, stored: &Stored, actions: &mut Vec<Action>) {
        self.depose("the monitor reads its state again", actions);
        let (committed, history) = match maps::read(stored) {
            Ok(read) => read,
            Err(why) => return actions.push(Action::Resign { why }),
        };
        let mut targets = Targets::default();
        targets.refresh(&committed.osd);
        tracing::info!(epoch = committed.osd.epoch.0, version = stored.version, "leads");
        self.leader = Some(Leader {
            version: stored.version,
            view: View {
                own_disk: self.own_disk,
                fault: self.settings.fault,
                ..View::new(now, &committed.osd)
            },
            services: services::Heard::new(now, &committed.services),
            clients_next: committed.clients_end,
            targets,
            level_at: None,
            in_place_since: None,
            history,
            in_flight: None,
            queue: VecDeque::new(),
            held: Vec::new(),
            next_review: now,
            review_due: true,
            began: now,
            committed,
        });
    }

    fn depose(&mut self, why: &str, actions: &mut Vec<Action>) {
        let Some(leader) = self.leader.take() else { return };
        for (to, reply) in leader.in_flight.into_iter().flat_map(|flight| flight.replies) {
            let reply = match reply {
                // What was refused is refused, whatever becomes of the batch.
                Reply::Command(refused) if refused.code != 0 => Reply::Command(refused),
                _ => Reply::Unknown(format!("it may have been done or not: {why}")),
            };
            actions.push(Action::Reply { to, reply });
        }
        let queued = leader.queue.into_iter().map(|(to, _)| to);
        let held = leader.held.into_iter().map(|(_, to, _)| to);
        actions.extend(
            queued
                .chain(held)
                .map(|to| Action::Reply { to, reply: Reply::Unavailable(why.to_string()) }),
        );
    }

    fn committed(&mut self, ticket: Ticket, actions: &mut Vec<Action>) {
        let Some(leader) = &mut self.leader else { return };
        let Some(flight) = leader.in_flight.take_if(|flight| flight.ticket == ticket) else {
            return;
        };
        leader.version += 1;
        leader.committed = flight.maps;
        if flight.changed.osd {
            leader.view.prune(&leader.committed.osd);
        }
        let updates = leader.updates(flight.changed, flight.step);
        if !updates.is_empty() {
            actions.push(Action::Publish { updates });
        }
        actions.extend(flight.replies.into_iter().map(|(to, reply)| Action::Reply { to, reply }));
    }

    fn commit_failed(&mut self, ticket: Ticket, why: String, actions: &mut Vec<Action>) {
        let current = self
            .leader
            .as_ref()
            .and_then(|leader| leader.in_flight.as_ref())
            .is_some_and(|flight| flight.ticket == ticket);
        if current {
            self.depose(&why, actions);
            actions.push(Action::Resign { why });
        }
    }

    /// Answers what changes nothing; queues the rest.
    fn handle_request(
        &mut self,
        now: Time,
        from: Ticket,
        request: Request,
        actions: &mut Vec<Action>,
    ) {
        let reply = match self.answer_at_once(now, &request) {
            Some(reply) => reply,
            None => match &mut self.leader {
                Some(leader) if leader.queue.len() < QUEUE_MAX => {
                    leader.queue.push_back((from, request));
                    return;
                }
                Some(_) => Reply::Unavailable("too many requests wait: ask again".to_string()),
                None => Reply::Unavailable("this monitor does not lead: ask another".to_string()),
            },
        };
        actions.push(Action::Reply { to: from, reply });
    }

    fn answer_at_once(&mut self, now: Time, request: &Request) -> Option<Reply> {
        match request {
            Request::Beat(beat) => {
                let wall = self.wall(now);
                let leader = self.leader.as_mut()?;
                let map = &leader.committed.osd;
                let unknown = !map.is_up_as(DaemonId(beat.daemon), Incarnation(beat.incarnation));
                if !unknown {
                    leader.view.take_beat(map, beat, now);
                    leader.view.take_clock(beat, wall);
                }
                let daemon = leader.view.daemons.get(&DaemonId(beat.daemon));
                let want_all = !unknown && daemon.is_none_or(|daemon| !daemon.reported_all);
                let (epoch, number) = (map.epoch.0, beat.number);
                Some(Reply::Beat(wire::BeatReply { epoch, unknown, want_all, number }))
            }
            Request::NewClient(_) => {
                let leader = self.leader.as_mut()?;
                if leader.clients_next >= leader.committed.clients_end {
                    return None; // a new block must be committed first
                }
                let client = leader.clients_next;
                leader.clients_next += 1;
                Some(Reply::NewClient(wire::NewClientReply { client }))
            }
            Request::Command { command, .. } => {
                let context = self.read_context(now)?;
                commands::answer_read(&context, command).map(Reply::Command)
            }
            Request::Service(beat) => {
                let leader = self.leader.as_mut()?;
                let services = &leader.committed.services;
                leader.services.hear(beat, now);
                services::is_known(services, beat)
                    .then(|| Reply::Service(services::reply(services, beat)))
            }
            Request::Boot(_) | Request::Failure(_) | Request::Asks(_) => None,
        }
    }

    /// Makes the next commit of all that waits, if none is under way.
    fn propose(&mut self, now: Time, actions: &mut Vec<Action>) {
        let wall = self.wall(now);
        let Some(leader) = &mut self.leader else { return };
        if leader.in_flight.is_some() {
            return;
        }
        leader.release_held(now);
        let timed = now >= leader.next_review;
        if leader.queue.is_empty() && !timed && !leader.review_due {
            return;
        }
        let queue = std::mem::take(&mut leader.queue);
        let mut draft = Draft {
            maps: leader.committed.clone(),
            leader,
            settings: &self.settings,
            sealer: &*self.sealer,
            now,
            wall,
            replies: Vec::new(),
            is_replaced: false,
        };
        queue.into_iter().for_each(|(from, request)| draft.take(from, request));
        draft.review(timed);
        let (mut maps, mut replies) = (draft.maps, draft.replies);
        let changed = maps.changed_since(&leader.committed);
        leader.review_due = false;
        if timed {
            leader.next_review = now + self.settings.review_every;
        }
        stamp_epochs(&mut maps, changed, wall);
        replies.iter_mut().for_each(|(_, reply)| stamp_reply(reply, &maps));
        if !changed.any() {
            actions.extend(replies.into_iter().map(|(to, reply)| Action::Reply { to, reply }));
            return;
        }
        let (batch, step) =
            maps::batch(&leader.committed, &maps, changed, leader.version, &mut leader.history);
        let ticket = Ticket(self.next_ticket);
        self.next_ticket += 1;
        leader.in_flight = Some(InFlight { ticket, maps, changed, step, replies });
        actions.push(Action::Commit { ticket, batch });
    }
}

fn stamp_epochs(maps: &mut Maps, changed: Changed, wall: Timestamp) {
    if changed.osd {
        let map = maps.osd_mut();
        map.epoch = map.epoch.next();
        map.modified = wall;
    }
    if changed.auth {
        maps.auth_mut().epoch.0 += 1;
    }
    if changed.config {
        maps.config_mut().epoch.0 += 1;
    }
    if changed.services {
        maps.services_mut().epoch.0 += 1;
    }
}

/// Fills in the epoch in which the answer is true.
fn stamp_reply(reply: &mut Reply, maps: &Maps) {
    let epoch = maps.osd.epoch.0;
    match reply {
        Reply::Boot(reply) if reply.refused.is_empty() => reply.epoch = epoch,
        Reply::Asks(reply) => reply.epoch = epoch,
        Reply::Service(reply) => reply.epoch = maps.services.epoch.0,
        _ => {}
    }
}

/// The next maps in the making.
struct Draft<'a> {
    maps: Maps,
    leader: &'a mut Leader,
    settings: &'a Settings,
    sealer: &'a dyn Sealer,
    now: Time,
    wall: Timestamp,
    replies: Vec<(Ticket, Reply)>,
    /// Whether CRUSH may place groups elsewhere than by the committed map.
    is_replaced: bool,
}

impl Draft<'_> {
    fn take(&mut self, from: Ticket, request: Request) {
        let reply = match request {
            Request::Boot(request) => match self.boot(from, request) {
                Some(reply) => Reply::Boot(reply),
                None => return, // held
            },
            Request::Failure(report) => {
                if self.maps.osd.is_up(DaemonId(report.failed)) {
                    let map = self.maps.osd_mut();
                    let view = &mut self.leader.view;
                    daemons::take_failure_report(map, view, &report, self.now, self.wall);
                }
                Reply::Done
            }
            Request::Asks(batch) => {
                self.take_asks(&batch);
                Reply::Asks(wire::PgAskReply::default())
            }
            Request::NewClient(_) => self.new_client(),
            Request::Service(beat) => {
                Reply::Service(services::take(&mut self.maps, &self.leader.services, &beat))
            }
            Request::Command { command, entropy } => {
                Reply::Command(self.command(&command, &entropy))
            }
            Request::Beat(_) => Reply::Unavailable("a beat is answered at once".to_string()),
        };
        self.replies.push((from, reply));
    }

    /// `None` if the daemon must wait because it flapped.
    fn boot(&mut self, from: Ticket, request: wire::BootRequest) -> Option<wire::BootReply> {
        let id = DaemonId(request.daemon);
        let pause = daemons::penalty(&self.leader.view, id, self.settings, self.now);
        // A new life is a new start; it is the same one that comes and goes whose links are bad.
        let same_life =
            self.maps.osd.daemons.get(&id).is_some_and(|info| {
                !info.up && info.incarnation == Incarnation(request.incarnation)
            });
        if let Some(pause) = pause.filter(|pause| same_life && !pause.is_zero())
            && self.leader.held.len() < HELD_BOOTS_MAX
        {
            tracing::warn!(daemon = %id, seconds = pause.as_secs_f64(), "flaps and stays down");
            self.leader.held.push((self.now + pause, from, request));
            return None;
        }
        let config = self.maps.config.clone();
        let map = self.maps.osd_mut();
        Some(daemons::boot(map, &mut self.leader.view, &config, &request, self.now))
    }

    fn take_asks(&mut self, batch: &wire::PgAskBatch) {
        let from = DaemonId(batch.daemon);
        if !self.maps.osd.is_up_as(from, Incarnation(batch.incarnation)) {
            return;
        }
        self.settle();
        let groups = Groups {
            committed: &self.leader.committed.osd,
            view: &self.leader.view,
            targets: &self.leader.targets,
        };
        let map = std::sync::Arc::make_mut(&mut self.maps.osd);
        for ask in &batch.asks {
            groups.ask(map, from, ask);
        }
    }

    fn new_client(&mut self) -> Reply {
        // All clients of this draft are served from one new block.
        if self.maps.clients_end == self.leader.committed.clients_end
            && self.leader.clients_next >= self.maps.clients_end
        {
            self.maps.clients_end += CLIENT_BLOCK;
        }
        if self.leader.clients_next >= self.maps.clients_end {
            return Reply::Unavailable("too many new clients at once: ask again".to_string());
        }
        let client = self.leader.clients_next;
        self.leader.clients_next += 1;
        Reply::NewClient(wire::NewClientReply { client })
    }

    fn command(
        &mut self,
        command: &wire::CommandRequest,
        entropy: &[u8; ENTROPY_BYTES],
    ) -> wire::CommandReply {
        self.settle();
        let mut trial = self.maps.clone();
        let mut context = WriteContext {
            maps: &mut trial,
            committed: &self.leader.committed,
            view: &self.leader.view,
            targets: &self.leader.targets,
            sealer: self.sealer,
            entropy,
            settings: self.settings,
            now: self.now,
            wall: self.wall,
            began: self.leader.began,
        };
        let reply = commands::answer_write(&mut context, command);
        if reply.code == 0 {
            self.maps = trial; // a command that failed leaves nothing behind
        }
        reply
    }

    /// What follows from everything before, and from time.
    fn review(&mut self, timed: bool) {
        let config = self.maps.config.clone();
        let leader = &mut *self.leader;
        if timed {
            // On a copy that is shared until something changes.
            let mut map = (*self.maps.osd).clone();
            daemons::review(
                &mut map,
                &mut leader.view,
                &config,
                self.settings,
                self.now,
                self.wall,
            );
            map.flags.full = pools::is_full(&map, &leader.view, &config);
            pools::expire_blocklist(&mut map, self.wall);
            let sums = status::sums_of(&leader.view);
            // What nobody has reported yet must not lift a quota that is used up.
            if self.now.since(leader.began) >= self.settings.settle || sums.len() >= map.pools.len()
            {
                pools::review_quotas(&mut map, |pool| {
                    sums.get(&pool).map_or((0, 0), |sum| (sum.objects, sum.bytes))
                });
            }
            if !map.flags.norebalance {
                pools::follow(&mut map, &leader.view);
            }
            if !map.scrubs.is_empty() {
                let told =
                    |pg| leader.view.current_report(&map, pg).map(|told| told.scrub_order_done);
                for number in scrub::orders_done(&map, told) {
                    map.scrubs.remove(&number);
                }
            }
            if map != *self.maps.osd {
                self.maps.osd = map.into();
            }
            services::review(&mut self.maps, &mut leader.services, &config, self.now);
        }
        self.settle();
        if timed {
            self.balance();
        }
        self.measure(timed);
        if timed {
            self.look_back();
        }
        let leader = &mut *self.leader;
        let groups = Groups {
            committed: &leader.committed.osd,
            view: &leader.view,
            targets: &leader.targets,
        };
        let may_move = timed && !self.maps.osd.flags.norebalance;
        let changes = groups.review(&self.maps.osd, may_move);
        if !changes.is_empty() {
            groups.put_all(std::sync::Arc::make_mut(&mut self.maps.osd), changes);
        }
    }
}

impl Draft<'_> {
    /// How far background work has come, and which mutes have ended.
    fn look_back(&mut self) {
        let context = ReadContext {
            maps: &self.maps,
            view: &self.leader.view,
            targets: &self.leader.targets,
            settings: self.settings,
            sealer: self.sealer,
            now: self.now,
            wall: self.wall,
            began: self.leader.began,
        };
        let work = jobs::work(&context);
        let mutes = (!self.maps.notes.mutes.is_empty()).then(|| {
            let report = health::report(&context);
            let is_heard = !["PG_UNREPORTED", "OSD_UNREPORTED"]
                .iter()
                .any(|check| report.checks.contains_key(check));
            let is_settled = is_heard && self.now.since(self.leader.began) >= self.settings.settle;
            mutes::review(&self.maps.notes.mutes, &report, self.wall, is_settled)
        });
        jobs::measure(&mut self.leader.view.meters, &work, self.now);
        if let Some(mutes) = mutes.filter(|mutes| *mutes != self.maps.notes.mutes) {
            self.maps.notes_mut().mutes = mutes;
        }
    }
}

impl Leader {
    fn release_held(&mut self, now: Time) {
        let mut due: Vec<_> = self.held.extract_if(.., |(until, ..)| *until <= now).collect();
        due.sort_by_key(|(until, to, _)| (*until, *to));
        for (_, to, request) in due {
            self.queue.push_back((to, Request::Boot(request)));
        }
    }

    fn update_since(&self, want: &wire::Want) -> Option<wire::MapUpdate> {
        let have = Epoch(want.have);
        let maps = &self.committed;
        let full = |epoch: Epoch, bytes: &dyn Fn() -> Bytes| {
            (epoch != have).then(|| wire::MapUpdate {
                kind: want.kind,
                epoch: epoch.0,
                full: bytes(),
                incrementals: Vec::new(),
            })
        };
        match want.kind() {
            wire::MapKind::MapNone => None,
            wire::MapKind::MapAuth => full(maps.auth.epoch, &|| maps.auth.to_bytes()),
            wire::MapKind::MapConfig => full(maps.config.epoch, &|| maps.config.to_bytes()),
            wire::MapKind::MapServices => full(maps.services.epoch, &|| maps.services.to_bytes()),
            wire::MapKind::MapOsd => {
                let epoch = maps.osd.epoch;
                if have == epoch {
                    return None;
                }
                match self.history.steps_between(have, epoch) {
                    Some(incrementals) => Some(wire::MapUpdate {
                        kind: want.kind,
                        epoch: epoch.0,
                        full: Bytes::new(),
                        incrementals,
                    }),
                    None => full(epoch, &|| maps.osd.to_bytes()),
                }
            }
        }
    }

    /// What a commit tells subscribers.
    fn updates(&self, changed: Changed, step: Option<Bytes>) -> Vec<wire::MapUpdate> {
        let maps = &self.committed;
        let update = |kind: wire::MapKind, epoch: Epoch, full: Bytes, steps: Vec<Bytes>| {
            wire::MapUpdate { kind: kind.into(), epoch: epoch.0, full, incrementals: steps }
        };
        let mut updates = Vec::new();
        if let Some(step) = step {
            let epoch = maps.osd.epoch;
            updates.push(update(wire::MapKind::MapOsd, epoch, Bytes::new(), vec![step]));
        }
        let mut whole =
            |changed: bool, kind: wire::MapKind, epoch: Epoch, bytes: &dyn Fn() -> Bytes| {
                if changed {
                    updates.push(update(kind, epoch, bytes(), Vec::new()));
                }
            };
        let (auth, config, services) = (&maps.auth, &maps.config, &maps.services);
        whole(changed.auth, wire::MapKind::MapAuth, auth.epoch, &|| auth.to_bytes());
        whole(changed.config, wire::MapKind::MapConfig, config.epoch, &|| config.to_bytes());
        whole(changed.services, wire::MapKind::MapServices, services.epoch, &|| {
            services.to_bytes()
        });
        updates
    }
}

#[cfg(test)]
mod tests;
