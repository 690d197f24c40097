//! Time, the queue of what will happen, and the hand-over between machines and network.
//!
//! Events are ordered by time and then by the order in which they were queued, so a seed always gives the
//! same run.

use crate::sim::check::primary::PrimaryCheck;
use crate::sim::network::{DIAL_TIMEOUT, End, KEEP_ALIVE, Network, Node, latency};
use crate::sim::node::{Caller, ClientNode, DaemonNode, Life, MonitorNode, PeerDial};
use crate::sim::random::Random;
use bytes::Bytes;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;
use store_base::codec::{Decode, Encode};
use store_base::map::{Incremental, OsdMap};
use store_base::op::{Reply, Request};
use store_base::wire::{CommandReply, CommandRequest, MapKind, MapUpdate, Want};
use store_base::{DaemonId, Machine, Time, Timestamp};
use store_client::machine as client;
use store_daemon::machine as daemon;
use store_daemon::machine::{LinkId, MonitorCall, MonitorRequest, PeerMessage};
use store_daemon::store::Store;
use store_daemon::store::memory::MemoryStore;
use store_monitor::machine as monitor;

/// How long a broken session takes to be noticed at an end that lives.
const BREAK_NOTICE: Duration = Duration::from_micros(200);

/// First and longest pause before a daemon dials a peer again.
const DIAL_PAUSE_MIN: Duration = Duration::from_millis(50);
const DIAL_PAUSE_MAX: Duration = Duration::from_secs(1);

/// How often a subscriber looks for maps that it missed.
const MAP_POLL: Duration = Duration::from_millis(700);

/// How often a node is told the wall clock.
const CLOCK_EVERY: Duration = Duration::from_secs(5);

/// The wall clock at the world's start.
const EPOCH_SECS: u64 = 1_700_000_000;

/// What will happen.
#[derive(Debug)]
#[allow(missing_docs)] // the names of the fields say it
pub enum Happening {
    /// A message arrives at one side of a session.
    Arrive { session: u64, side: usize, bytes: Bytes },
    /// A session that crosses a partition has heard nothing for too long.
    KeepAlive { session: u64 },
    /// An end learns that its session is gone.
    Broken { end: End, session: u64, peer: Node, dialled: bool },
    /// A daemon dials a peer.
    DialPeer { daemon: usize, life: u64, peer: DaemonId, attempt: u64 },
    /// That failed.
    DialFailed { daemon: usize, life: u64, peer: DaemonId, attempt: u64, refused: bool },
    /// A client dials a daemon.
    DialDaemon { client: usize, daemon: DaemonId, session: u64, node: Node },
    /// A machine may want to be woken.
    Wake { node: Node, life: u64 },
    /// A disk has done something.
    Disk { daemon: usize, life: u64 },
    /// A call arrives at the monitor.
    Call { caller: Caller, request: monitor::Request },
    /// Its answer arrives.
    Answer { caller: Caller, reply: monitor::Reply },
    /// The monitor's store has done something.
    Commit { life: u64, ticket: store_base::Ticket, batch: store_monitor::state::Batch },
    /// A subscriber looks for new maps.
    Maps { node: Node, life: u64, again: bool },
    /// A node is told the wall clock.
    Clock { node: Node, life: u64 },
    /// A client looks for something to do.
    Work { client: usize },
    /// The next deed against the cluster.
    Fault,
}

/// What a run may leave behind for people.
#[derive(Default)]
pub struct Trace {
    /// Print every event as it happens.
    pub on: bool,
}

/// The whole simulated cluster.
pub struct World {
    /// The world's time.
    pub now: Time,
    queue: BTreeMap<(Time, u64), Happening>,
    queued: u64,
    /// Chance.
    pub random: Random,
    /// Sessions and partitions.
    pub network: Network,
    /// The monitor.
    pub monitor: MonitorNode,
    /// The daemons.
    pub daemons: Vec<DaemonNode>,
    /// The clients.
    pub clients: Vec<ClientNode>,
    /// Settings of every daemon.
    pub daemon_config: daemon::Config,
    /// Watches the serving primaries.
    pub primaries: PrimaryCheck,
    /// Broken promises, in words.
    pub broken: Vec<String>,
    /// Whether clients begin anything new.
    pub working: bool,
    /// Whether faults go on.
    pub faulty: bool,
    /// Answers to the judge's own commands.
    pub answers: Vec<CommandReply>,
    /// Operations that each client has under way at most.
    pub depth: usize,
    /// Deeds done so far, by name.
    pub deeds: BTreeMap<&'static str, u64>,
    /// Events handled.
    pub events: u64,
    /// For people.
    pub trace: Trace,
}

impl World {
    /// A world without daemons and clients.
    pub fn new(random: Random, monitor: MonitorNode, daemon_config: daemon::Config) -> World {
        World {
            now: Time(1),
            queue: BTreeMap::new(),
            queued: 0,
            random,
            network: Network::default(),
            monitor,
            daemons: Vec::new(),
            clients: Vec::new(),
            daemon_config,
            primaries: PrimaryCheck::default(),
            broken: Vec::new(),
            working: false,
            faulty: false,
            answers: Vec::new(),
            depth: 3,
            deeds: BTreeMap::new(),
            events: 0,
            trace: Trace::default(),
        }
    }

    /// The wall clock.
    pub fn wall(&self) -> Timestamp {
        Timestamp {
            secs: EPOCH_SECS + self.now.0 / 1_000_000_000,
            nanos: (self.now.0 % 1_000_000_000) as u32,
        }
    }

    /// Queues a happening.
    pub fn at(&mut self, when: Time, what: Happening) {
        self.queued += 1;
        self.queue.insert((when.max(self.now), self.queued), what);
    }

    /// Queues a happening after a while.
    pub fn after(&mut self, pause: Duration, what: Happening) {
        self.at(self.now + pause, what);
    }

    fn latency(&mut self) -> Duration {
        latency(&mut self.random)
    }

    /// Prints a line of the event log, if asked for.
    #[allow(clippy::print_stderr)] // the log is for people
    pub fn say(&self, what: impl FnOnce() -> String) {
        if self.trace.on {
            eprintln!("{} {}", self.now, what());
        }
    }

    /// Lets the next thing happen, if it is due before `until`.
    pub fn step(&mut self, until: Time) -> bool {
        let Some(((when, _), _)) = self.queue.first_key_value() else { return false };
        if *when > until {
            return false;
        }
        let ((when, _), what) = self.queue.pop_first().expect("looked at above");
        self.now = when;
        self.events += 1;
        self.happen(what);
        true
    }

    /// Lets everything happen until then.
    pub fn run_until(&mut self, until: Time) {
        while self.broken.is_empty() && self.step(until) {}
        self.now = self.now.max(until);
    }

    fn happen(&mut self, what: Happening) {
        match what {
            Happening::Arrive { session, side, bytes } => self.arrive(session, side, bytes),
            Happening::KeepAlive { session } => self.keep_alive(session),
            Happening::Broken { end, session, peer, dialled } => {
                self.learn_broken(end, session, peer, dialled)
            }
            Happening::DialPeer { daemon, life, peer, attempt } => {
                self.dial_peer(daemon, life, peer, attempt)
            }
            Happening::DialFailed { daemon, life, peer, attempt, refused } => {
                self.dial_failed(daemon, life, peer, attempt, refused);
            }
            Happening::DialDaemon { client, daemon, session, node } => {
                self.dial_daemon(client, daemon, session, node);
            }
            Happening::Wake { node, life } => self.wake(node, life),
            Happening::Disk { daemon, life } => self.disk(daemon, life),
            Happening::Call { caller, request } => self.call(caller, request),
            Happening::Answer { caller, reply } => self.answer(caller, reply),
            Happening::Commit { life, ticket, batch } => self.commit(life, ticket, &batch),
            Happening::Maps { node, life, again } => self.maps(node, life, again),
            Happening::Clock { node, life } => self.clock(node, life),
            Happening::Work { client } => self.work(client),
            Happening::Fault => crate::sim::fault::strike(self),
        }
    }

    // --- Lives ------------------------------------------------------------------------------------

    fn life(&mut self, node: Node) -> &mut Life {
        match node {
            Node::Monitor => &mut self.monitor.life,
            Node::Daemon(i) => &mut self.daemons[i].life,
            Node::Client(i) => &mut self.clients[i].life,
        }
    }

    /// Whether a life of a node is its present one, and goes on.
    pub fn lives(&self, end: End) -> bool {
        match end.node {
            Node::Monitor => self.monitor.machine.is_some() && self.monitor.life.number == end.life,
            Node::Daemon(i) => {
                self.daemons[i].machine.is_some() && self.daemons[i].life.number == end.life
            }
            Node::Client(_) => true,
        }
    }

    fn end(&mut self, node: Node) -> End {
        End { node, life: self.life(node).number }
    }

    /// A clock for a new life: drifting by up to one per cent, starting anywhere.
    pub fn new_life(&mut self, node: Node) -> Life {
        let offset = self.random.below(1_000_000_000_000);
        let rate = 990_000 + self.random.below(20_001);
        let number = self.life(node).number + 1;
        Life::new(number, self.now, offset, rate)
    }

    /// Starts the monitor.
    pub fn start_monitor(&mut self) {
        self.monitor.life = self.new_life(Node::Monitor);
        let sealer = Box::new(monitor::PlainSealer);
        self.monitor.machine = Some(monitor::Monitor::new(monitor::Settings::default(), sealer));
        let wall = self.wall();
        self.step_monitor(monitor::Event::Clock { wall });
        let stored = self.monitor.store.load_now();
        self.step_monitor(monitor::Event::Lead { stored });
        let life = self.monitor.life.number;
        self.after(CLOCK_EVERY, Happening::Clock { node: Node::Monitor, life });
    }

    /// Kills the monitor.
    pub fn crash_monitor(&mut self) {
        self.monitor.machine = None;
        self.monitor.calls.clear();
    }

    /// Starts a daemon on what its medium kept.
    pub fn start_daemon(&mut self, i: usize) {
        let life = self.new_life(Node::Daemon(i));
        let node = &mut self.daemons[i];
        node.life = life;
        node.peers.clear();
        node.disk_queued = false;
        let store = MemoryStore::open(&node.medium);
        match daemon::Daemon::new(self.daemon_config.clone(), node.identity.clone(), store) {
            Ok(machine) => node.machine = Some(machine),
            Err(error) => {
                self.broken.push(format!("daemon {i} does not start: {error}"));
                return;
            }
        }
        let life = life.number;
        let wall = self.wall();
        self.step_daemon(i, daemon::Event::Start { wall });
        self.after(
            Duration::from_millis(1),
            Happening::Maps { node: Node::Daemon(i), life, again: true },
        );
        self.after(CLOCK_EVERY, Happening::Clock { node: Node::Daemon(i), life });
    }

    /// Kills a daemon; its disk keeps what was durable and any further prefix.
    pub fn crash_daemon(&mut self, i: usize) {
        let pending = self.daemons[i].medium.pending() as u64;
        let keep = self.random.below(pending + 1) as usize;
        self.say(|| {
            format!("crash of daemon {i}, {keep} of {pending} unconfirmed batches survive")
        });
        self.daemons[i].machine = None;
        self.daemons[i].medium.crash(keep);
        for session in self.network.of(Node::Daemon(i)) {
            self.break_session(session);
        }
    }

    // --- Sessions ---------------------------------------------------------------------------------

    fn send(&mut self, session: u64, side: usize, bytes: Bytes) {
        let (now, random) = (self.now, &mut self.random);
        if let Some(when) = self.network.arrival(session, side, now, random) {
            self.at(when, Happening::Arrive { session, side, bytes });
        }
    }

    fn arrive(&mut self, session: u64, side: usize, bytes: Bytes) {
        let Some(found) = self.network.sessions.get(&session) else { return };
        let (from, to) = (found.ends[1 - side], found.ends[side]);
        if self.network.is_blocked(from.node, to.node) || !found.held[side].is_empty() {
            let held =
                &mut self.network.sessions.get_mut(&session).expect("found above").held[side];
            held.push(bytes);
            return;
        }
        self.deliver(session, from, to, bytes);
    }

    fn deliver(&mut self, session: u64, from: End, to: End, bytes: Bytes) {
        if !self.lives(to) {
            return;
        }
        let link = LinkId(session);
        match (from.node, to.node) {
            (Node::Daemon(f), Node::Daemon(t)) => {
                let message =
                    PeerMessage::from_bytes(bytes).expect("what was encoded can be decoded");
                self.say(|| format!("{f} → {t}: {message:?}"));
                // A hello has said who speaks; the life on the other end may be over by now.
                let Some((id, incarnation)) = self.identities(from) else { return };
                self.step_daemon(t, daemon::Event::Peer { from: id, incarnation, message });
            }
            (Node::Client(_), Node::Daemon(t)) => {
                let request = Request::from_bytes(bytes).expect("what was encoded can be decoded");
                self.say(|| format!("{:?} → {t}: {request:?}", from.node));
                self.step_daemon(t, daemon::Event::Client { link, request });
            }
            (Node::Daemon(f), Node::Client(c)) => {
                let reply = Reply::from_bytes(bytes).expect("what was encoded can be decoded");
                self.say(|| format!("{f} → client {c}: {reply:?}"));
                let own =
                    self.clients[c].sessions.iter().find(|(_, s)| **s == session).map(|(k, _)| *k);
                let Some((daemon, session)) = own else { return };
                self.step_client(c, client::Event::Reply { daemon, session, reply });
            }
            other => unreachable!("no session between {other:?}"),
        }
    }

    /// Who a daemon's life was, as its hello said. Lives of the past are remembered by the checker.
    fn identities(&self, end: End) -> Option<(DaemonId, store_base::Incarnation)> {
        self.primaries.identity(end)
    }

    /// Breaks a session: what is under way is lost, both ends learn of it soon.
    pub fn break_session(&mut self, session: u64) {
        let Some(found) = self.network.sessions.remove(&session) else { return };
        for side in 0..2 {
            let (end, peer) = (found.ends[side], found.ends[1 - side].node);
            let dialled = side == 0;
            self.after(BREAK_NOTICE, Happening::Broken { end, session, peer, dialled });
        }
    }

    fn learn_broken(&mut self, end: End, session: u64, peer: Node, dialled: bool) {
        if !self.lives(end) {
            return;
        }
        match (end.node, peer) {
            (Node::Client(c), _) => {
                let own =
                    self.clients[c].sessions.iter().find(|(_, s)| **s == session).map(|(k, _)| *k);
                let Some((daemon, number)) = own else { return };
                self.clients[c].sessions.remove(&(daemon, number));
                self.step_client(c, client::Event::SessionLost { daemon, session: number });
            }
            (Node::Daemon(d), Node::Client(_)) => {
                self.step_daemon(d, daemon::Event::ClientGone { link: LinkId(session) });
            }
            (Node::Daemon(d), _) if dialled => {
                let own =
                    self.daemons[d].peers.iter_mut().find(|(_, p)| p.session == Some(session));
                let Some((peer, dial)) = own else { return };
                let (peer, incarnation, attempt) = (*peer, dial.incarnation, dial.attempt);
                dial.session = None;
                dial.pause = DIAL_PAUSE_MIN;
                let life = end.life;
                self.step_daemon(d, daemon::Event::PeerLost { peer, incarnation, refused: false });
                self.after(
                    Duration::from_micros(100),
                    Happening::DialPeer { daemon: d, life, peer, attempt },
                );
            }
            _ => {}
        }
    }

    fn keep_alive(&mut self, session: u64) {
        let Some(found) = self.network.sessions.get(&session) else { return };
        if self.network.is_parted(found.ends[0].node, found.ends[1].node) {
            self.break_session(session);
        }
    }

    /// Parts two nodes in one direction.
    pub fn block(&mut self, from: Node, to: Node) {
        self.network.block(from, to);
        for session in self.network.of(from) {
            if self.network.sessions[&session].ends.iter().any(|end| end.node == to) {
                let early = self.random.between(Duration::ZERO, Duration::from_secs(1));
                self.after(KEEP_ALIVE + early, Happening::KeepAlive { session });
            }
        }
    }

    /// Ends all partitions; what was held back arrives.
    pub fn heal(&mut self) {
        self.network.heal();
        let waiting: Vec<_> = self
            .network
            .sessions
            .iter_mut()
            .flat_map(|(id, session)| {
                (0..2)
                    .map(|side| (*id, side, std::mem::take(&mut session.held[side])))
                    .collect::<Vec<_>>()
            })
            .collect();
        for (session, side, held) in waiting {
            for bytes in held {
                self.send(session, side, bytes);
            }
        }
    }

    fn dial_peer(&mut self, d: usize, life: u64, peer: DaemonId, attempt: u64) {
        let from = End { node: Node::Daemon(d), life };
        let Some(dial) = self.daemons[d].peers.get(&peer) else { return };
        if !self.lives(from) || dial.attempt != attempt || dial.session.is_some() {
            return;
        }
        let node = dial.node;
        let to = self.end(node);
        if self.network.is_parted(from.node, node) {
            let failed = Happening::DialFailed { daemon: d, life, peer, attempt, refused: false };
            self.after(DIAL_TIMEOUT, failed);
            return;
        }
        // A daemon that does not yet know who it is says no hello.
        let Some((id, incarnation)) = self.identities(to).filter(|_| self.lives(to)) else {
            let pause = self.latency();
            let refused = !self.lives(to);
            self.after(pause, Happening::DialFailed { daemon: d, life, peer, attempt, refused });
            return;
        };
        if id != peer {
            return;
        }
        let session = self.network.open(from, to);
        let dial = self.daemons[d].peers.get_mut(&peer).expect("looked at above");
        dial.session = Some(session);
        dial.pause = DIAL_PAUSE_MIN;
        self.step_daemon(d, daemon::Event::PeerUp { peer, incarnation });
    }

    fn dial_failed(&mut self, d: usize, life: u64, peer: DaemonId, attempt: u64, refused: bool) {
        if !self.lives(End { node: Node::Daemon(d), life }) {
            return;
        }
        let Some(dial) = self.daemons[d].peers.get_mut(&peer).filter(|p| p.attempt == attempt)
        else {
            return;
        };
        let (incarnation, pause) = (dial.incarnation, dial.pause);
        dial.pause = (pause * 2).min(DIAL_PAUSE_MAX);
        self.step_daemon(d, daemon::Event::PeerLost { peer, incarnation, refused });
        self.after(pause, Happening::DialPeer { daemon: d, life, peer, attempt });
    }

    fn dial_daemon(&mut self, c: usize, daemon: DaemonId, session: u64, node: Node) {
        let from = End { node: Node::Client(c), life: 0 };
        let to = self.end(node);
        let parted = self.network.is_parted(from.node, node);
        let known = self.identities(to).is_some_and(|(id, _)| id == daemon);
        if parted || !self.lives(to) || !known {
            let pause = if parted { DIAL_TIMEOUT } else { BREAK_NOTICE };
            // The machine hears of it like of a session that broke.
            let number = self.network.open(from, to);
            self.network.sessions.remove(&number);
            self.clients[c].sessions.insert((daemon, session), number);
            let broken =
                Happening::Broken { end: from, session: number, peer: node, dialled: true };
            self.after(pause, broken);
            return;
        }
        let number = self.network.open(from, to);
        self.clients[c].sessions.insert((daemon, session), number);
        self.step_client(c, client::Event::SessionUp { daemon, session });
    }

    // --- Wake-ups, disks, clocks --------------------------------------------------------------------

    fn queue_wake(&mut self, node: Node, local: Option<Time>) {
        let Some(local) = local else { return };
        let now = self.now;
        let life = self.life(node);
        let when = life.world(local).max(now);
        if life.wake_queued.is_none_or(|queued| when < queued) {
            life.wake_queued = Some(when);
            let life = life.number;
            self.at(when, Happening::Wake { node, life });
        }
    }

    fn wake(&mut self, node: Node, life: u64) {
        if !self.lives(End { node, life }) && !matches!(node, Node::Client(_)) {
            return;
        }
        let now = self.now;
        let own = self.life(node);
        if own.number != life || own.wake_queued.is_none_or(|queued| queued > now) {
            return;
        }
        own.wake_queued = None;
        let local = own.local(now);
        match node {
            Node::Monitor => {
                let due = self.monitor.machine.as_ref().and_then(Machine::wake_at);
                if due.is_some_and(|due| due <= local) {
                    self.step_monitor(monitor::Event::Woke);
                } else {
                    self.queue_wake(node, due);
                }
            }
            Node::Daemon(i) => {
                let due = self.daemons[i].machine.as_ref().and_then(Machine::wake_at);
                if due.is_some_and(|due| due <= local) {
                    self.step_daemon(i, daemon::Event::Wake);
                } else {
                    self.queue_wake(node, due);
                }
            }
            Node::Client(i) => {
                let due = self.clients[i].machine.wake_at();
                if due.is_some_and(|due| due <= local) {
                    self.step_client(i, client::Event::Wake);
                } else {
                    self.queue_wake(node, due);
                }
            }
        }
    }

    fn queue_disk(&mut self, i: usize) {
        let node = &self.daemons[i];
        if node.disk_queued || node.medium.pending() + node.medium.pending_reads() == 0 {
            return;
        }
        let slow = self.now < node.slow_until;
        let (low, high) = if slow { (10_000, 500_000) } else { (30, 1500) };
        let pause = self.random.between(Duration::from_micros(low), Duration::from_micros(high));
        let life = node.life.number;
        self.daemons[i].disk_queued = true;
        self.after(pause, Happening::Disk { daemon: i, life });
    }

    fn disk(&mut self, i: usize, life: u64) {
        if !self.lives(End { node: Node::Daemon(i), life }) {
            return;
        }
        self.daemons[i].disk_queued = false;
        let medium = self.daemons[i].medium.clone();
        for _ in 0..=self.random.below(4) {
            medium.complete_next();
            medium.complete_next_read();
        }
        let mut done = Vec::new();
        let Some(machine) = self.daemons[i].machine.as_mut() else { return };
        machine.store_mut().poll(&mut done);
        if done.is_empty() {
            self.queue_disk(i);
        } else {
            self.step_daemon(i, daemon::Event::Store(done));
        }
    }

    fn clock(&mut self, node: Node, life: u64) {
        if !self.lives(End { node, life }) {
            return;
        }
        let wall = self.wall();
        match node {
            Node::Monitor => self.step_monitor(monitor::Event::Clock { wall }),
            Node::Daemon(i) => self.step_daemon(i, daemon::Event::Clock { wall }),
            Node::Client(_) => {}
        }
        self.after(CLOCK_EVERY, Happening::Clock { node, life });
    }

    // --- The machines -----------------------------------------------------------------------------

    /// Steps a daemon and carries out what it wants.
    pub fn step_daemon(&mut self, i: usize, event: daemon::Event) {
        let life = self.daemons[i].life;
        let Some(machine) = self.daemons[i].machine.as_mut() else { return };
        let mut actions = Vec::new();
        machine.step(life.local(self.now), event, &mut actions);
        let wake = machine.wake_at();
        if let Some(id) = machine.id() {
            let end = End { node: Node::Daemon(i), life: life.number };
            self.primaries.learn(end, id, machine.incarnation());
        }
        for action in actions {
            self.act_daemon(i, life.number, action);
        }
        self.queue_wake(Node::Daemon(i), wake);
        self.queue_disk(i);
        let wrong = PrimaryCheck::check(self, i);
        self.broken.extend(wrong);
    }

    fn act_daemon(&mut self, i: usize, life: u64, action: daemon::Action) {
        match action {
            daemon::Action::Connect { peer, incarnation, address } => {
                let Some(node) = node_of(&address) else { return };
                let attempt = self.random.any();
                let dial =
                    PeerDial { incarnation, node, session: None, pause: DIAL_PAUSE_MIN, attempt };
                let old = self.daemons[i].peers.insert(peer, dial);
                if let Some(session) = old.and_then(|old| old.session) {
                    self.break_session(session);
                }
                self.after(Duration::ZERO, Happening::DialPeer { daemon: i, life, peer, attempt });
            }
            daemon::Action::Disconnect { peer } => {
                let old = self.daemons[i].peers.remove(&peer);
                if let Some(session) = old.and_then(|old| old.session) {
                    self.break_session(session);
                }
            }
            daemon::Action::ToPeer { to, message } => {
                let session = self.daemons[i].peers.get(&to).and_then(|dial| dial.session);
                if let Some(session) = session {
                    self.send(session, 1, message.to_bytes());
                }
            }
            daemon::Action::ToClient { link, reply } => self.send(link.0, 0, reply.to_bytes()),
            daemon::Action::ToMonitor(request) => self.to_monitor(i, life, request),
            daemon::Action::Fatal { why } => {
                self.broken.push(format!("daemon {i} gives up: {why}"));
            }
        }
    }

    fn to_monitor(&mut self, i: usize, life: u64, request: MonitorRequest) {
        let caller = Caller { node: Some(Node::Daemon(i)), life };
        let kind = match &request {
            MonitorRequest::Boot(_) => MonitorCall::Boot,
            MonitorRequest::Beat(_) => MonitorCall::Beat,
            MonitorRequest::Ask(_) => MonitorCall::Ask,
            MonitorRequest::Failure(_) => MonitorCall::Failure,
        };
        let lost = self.network.is_parted(Node::Daemon(i), Node::Monitor)
            || self.monitor.machine.is_none()
            || (self.faulty && self.random.chance(5));
        if lost {
            // Now and then the failure is told; else the machine must find it out by itself.
            if self.random.chance(500) {
                self.step_daemon(i, daemon::Event::MonitorFailed(kind));
            }
            return;
        }
        let request = match request {
            MonitorRequest::Boot(request) => monitor::Request::Boot(request),
            MonitorRequest::Beat(request) => monitor::Request::Beat(request),
            MonitorRequest::Ask(request) => monitor::Request::Asks(request),
            MonitorRequest::Failure(request) => monitor::Request::Failure(request),
        };
        let pause = self.latency();
        self.after(pause, Happening::Call { caller, request });
    }

    /// Steps a client and carries out what it wants.
    pub fn step_client(&mut self, c: usize, event: client::Event) {
        let life = self.clients[c].life;
        let mut actions = Vec::new();
        let node = &mut self.clients[c];
        node.machine.step(life.local(self.now), event, &mut actions);
        let wake = node.machine.wake_at();
        for action in actions {
            self.act_client(c, action);
        }
        self.queue_wake(Node::Client(c), wake);
    }

    fn act_client(&mut self, c: usize, action: client::Action) {
        match action {
            client::Action::Dial { daemon, session, address } => {
                let Some(node) = node_of(&address) else { return };
                let pause = self.latency();
                self.after(pause, Happening::DialDaemon { client: c, daemon, session, node });
            }
            client::Action::Close { daemon, session } => {
                if let Some(number) = self.clients[c].sessions.remove(&(daemon, session)) {
                    self.break_session(number);
                }
            }
            client::Action::Send { daemon, session, request } => {
                if let Some(number) = self.clients[c].sessions.get(&(daemon, session)).copied() {
                    self.send(number, 1, request.to_bytes());
                }
            }
            client::Action::WantMap { .. } => {
                let pause = self.latency();
                self.after(pause, Happening::Maps { node: Node::Client(c), life: 0, again: false });
            }
            client::Action::Finish { ticket, result } => {
                let now = self.now;
                self.say(|| format!("client {c}: {ticket} ends: {result:?}"));
                self.clients[c].workload.finished(now, ticket, result);
                let pause = self.random.between(Duration::ZERO, Duration::from_millis(20));
                self.after(pause, Happening::Work { client: c });
            }
            other => self.broken.push(format!("client {c}: unexpected {other:?}")),
        }
    }

    fn work(&mut self, c: usize) {
        let wall = self.wall();
        let (world, local) = (self.now, self.clients[c].life.local(self.now));
        while self.clients[c].workload.under_way() < self.depth {
            let workload = &mut self.clients[c].workload;
            let next = match self.working {
                true => Some(workload.next(local, world, wall)),
                false => workload.next_last_read(local, world, wall),
            };
            let Some((ticket, submission)) = next else { return };
            self.step_client(c, client::Event::Submit { ticket, submission });
        }
    }

    fn step_monitor(&mut self, event: monitor::Event) {
        let life = self.monitor.life;
        let Some(machine) = self.monitor.machine.as_mut() else { return };
        let mut actions = Vec::new();
        machine.step(life.local(self.now), event, &mut actions);
        let wake = machine.wake_at();
        for action in actions {
            self.act_monitor(life.number, action);
        }
        self.queue_wake(Node::Monitor, wake);
    }

    fn act_monitor(&mut self, life: u64, action: monitor::Action) {
        match action {
            monitor::Action::Commit { ticket, batch } => {
                let pause =
                    self.random.between(Duration::from_micros(100), Duration::from_millis(5));
                self.after(pause, Happening::Commit { life, ticket, batch });
            }
            monitor::Action::Publish { updates } => self.publish(&updates),
            monitor::Action::Reply { to, reply } => {
                let Some(caller) = self.monitor.calls.remove(&to.0) else { return };
                let pause = self.latency();
                self.after(pause, Happening::Answer { caller, reply });
            }
            monitor::Action::Resign { why } => {
                self.say(|| format!("the monitor resigns: {why}"));
                let stored = self.monitor.store.load_now();
                self.step_monitor(monitor::Event::Lead { stored });
            }
        }
    }

    fn publish(&mut self, updates: &[MapUpdate]) {
        if updates.iter().all(|update| update.kind != MapKind::MapOsd as i32) {
            return;
        }
        let daemons = (0..self.daemons.len()).map(Node::Daemon);
        let nodes: Vec<Node> = daemons.chain((0..self.clients.len()).map(Node::Client)).collect();
        for node in nodes {
            let life = self.life(node).number;
            let pause = self.latency();
            self.after(pause, Happening::Maps { node, life, again: false });
        }
    }

    /// A commit that was under way when the monitor died may have happened or not: it happens here only
    /// if that life goes on, or by chance.
    fn commit(
        &mut self,
        life: u64,
        ticket: store_base::Ticket,
        batch: &store_monitor::state::Batch,
    ) {
        let lives = self.lives(End { node: Node::Monitor, life });
        if !lives && self.random.chance(500) {
            return;
        }
        let done = self.monitor.store.commit_now(batch);
        if !lives {
            return;
        }
        let event = match done {
            Ok(_) => monitor::Event::Committed { ticket },
            Err(error) => monitor::Event::CommitFailed { ticket, why: error.to_string() },
        };
        self.step_monitor(event);
    }

    fn call(&mut self, caller: Caller, request: monitor::Request) {
        if self.monitor.machine.is_none() {
            return;
        }
        self.monitor.ticket_last += 1;
        let ticket = self.monitor.ticket_last;
        self.monitor.calls.insert(ticket, caller);
        self.step_monitor(monitor::Event::Request { from: store_base::Ticket(ticket), request });
    }

    fn answer(&mut self, caller: Caller, reply: monitor::Reply) {
        let Some(node) = caller.node else {
            if let monitor::Reply::Command(reply) = reply {
                self.answers.push(reply);
            }
            return;
        };
        let Node::Daemon(i) = node else { return };
        let lost =
            self.network.is_parted(node, Node::Monitor) || (self.faulty && self.random.chance(5));
        if lost || !self.lives(End { node, life: caller.life }) {
            return;
        }
        let event = match reply {
            monitor::Reply::Boot(reply) => daemon::Event::BootReply(reply),
            monitor::Reply::Beat(reply) => daemon::Event::BeatReply(reply),
            monitor::Reply::Asks(reply) => {
                daemon::Event::AskReply { epoch: store_base::Epoch(reply.epoch) }
            }
            _ => return,
        };
        self.step_daemon(i, event);
    }

    /// A command of the judge.
    pub fn command(&mut self, json: &str) {
        let command = CommandRequest { json: json.to_owned(), input: Bytes::new() };
        let mut entropy = [0; 80];
        entropy.iter_mut().for_each(|byte| *byte = self.random.any() as u8);
        let caller = Caller { node: None, life: 0 };
        self.call(caller, monitor::Request::Command { command, entropy });
    }

    // --- Maps -------------------------------------------------------------------------------------

    fn maps(&mut self, node: Node, life: u64, again: bool) {
        if !self.lives(End { node, life }) {
            return;
        }
        if again {
            self.after(MAP_POLL, Happening::Maps { node, life, again });
        }
        if self.network.is_parted(node, Node::Monitor) || (self.faulty && self.random.chance(20)) {
            return;
        }
        let Some(monitor) = self.monitor.machine.as_ref() else { return };
        let have: Option<Arc<OsdMap>> = match node {
            Node::Daemon(i) => self.daemons[i].machine.as_ref().and_then(|m| m.osd_map().cloned()),
            Node::Client(i) => self.clients[i].machine.map().cloned(),
            Node::Monitor => None,
        };
        let epoch = have.as_ref().map_or(0, |map| map.epoch.0);
        let wants = [Want { kind: MapKind::MapOsd as i32, have: epoch }];
        let updates = monitor.updates_since(&wants);
        let mut map = have.map_or_else(OsdMap::default, |map| (*map).clone());
        for update in updates.iter().filter(|u| u.kind == MapKind::MapOsd as i32) {
            if !update.full.is_empty() {
                map = OsdMap::from_bytes(update.full.clone()).expect("a map can be decoded");
            }
            for step in &update.incrementals {
                let step = Incremental::from_bytes(step.clone()).expect("a step can be decoded");
                map.apply(&step).expect("steps follow each other");
            }
        }
        if map.epoch.0 <= epoch {
            return;
        }
        self.say(|| format!("{node:?} gets map {}", map.epoch));
        let map = Arc::new(map);
        match node {
            Node::Daemon(i) => self.step_daemon(i, daemon::Event::Map(map)),
            Node::Client(i) => self.step_client(i, client::Event::Map(map)),
            Node::Monitor => {}
        }
    }

    /// Daemons that are up.
    pub fn running(&self) -> Vec<usize> {
        (0..self.daemons.len()).filter(|i| self.daemons[*i].machine.is_some()).collect()
    }

    /// Nodes of all kinds.
    pub fn nodes(&self) -> Vec<Node> {
        let daemons = (0..self.daemons.len()).map(Node::Daemon);
        let clients = (0..self.clients.len()).map(Node::Client);
        daemons.chain(clients).chain([Node::Monitor]).collect()
    }

    /// Counts a deed of the adversary.
    pub fn deed(&mut self, name: &'static str) {
        *self.deeds.entry(name).or_default() += 1;
        self.say(|| format!("fault: {name}"));
    }

    /// Placement groups of which any daemon knows.
    pub fn groups(&self) -> BTreeSet<store_base::PgId> {
        self.monitor
            .machine
            .as_ref()
            .and_then(|m| m.osd_map())
            .map(|map| map.pgs.keys().copied().collect())
            .unwrap_or_default()
    }
}

/// The address of the first daemon; the port counts.
const PORT_FIRST: usize = 7000;

/// A daemon's address names its place in the list by its port.
pub fn address(i: usize) -> String {
    format!("127.0.0.1:{}", PORT_FIRST + i)
}

fn node_of(address: &str) -> Option<Node> {
    let port: usize = address.rsplit_once(':')?.1.parse().ok()?;
    Some(Node::Daemon(port.checked_sub(PORT_FIRST)?))
}
