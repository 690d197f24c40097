//! Time, the queue of what will happen, and the hand-over between machines and network.
//!
//! Events are ordered by time and then by the order in which they were queued, so a seed always gives the
//! same run. Sessions are in `world/sessions.rs`, the machines' steps in `world/machines.rs`, wake-ups, disks
//! and clocks in `world/wakes.rs`.

mod machines;
mod sessions;
mod wakes;

use crate::sim::check::{self, Checks};
use crate::sim::element;
use crate::sim::medium::Medium;
use crate::sim::network::{End, Network, Node};
use crate::sim::node::{Caller, ClientNode, DaemonNode, Life, MonitorNode};
use crate::sim::observe;
use crate::sim::random::Random;
use crate::sim::reached::Reached;
use crate::sim::schedule::{Setup, Step};
use crate::sim::steps::Steps;
use bytes::Bytes;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;
use store_base::codec::Decode;
use store_base::map::{Incremental, OsdMap};
use store_base::wire::{CommandReply, MapKind, Want};
use store_base::{ClusterId, DaemonId, Incarnation, PgId, RequestId, Time};
use store_client::machine as client;
use store_daemon::machine as daemon;
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

/// How often the checkers look at the whole.
pub const SAMPLE_EVERY: Duration = Duration::from_millis(250);

/// The wall clock at the world's start.
const EPOCH_SECS: u64 = 1_700_000_000;

/// What will happen.
#[derive(Debug)]
#[allow(missing_docs)] // the names of the fields say it
pub enum Happening {
    /// A message arrives at one side of a session.
    Arrive { session: u64, side: usize, bytes: Bytes },
    /// A message between daemons arrives once more, or behind the end of its session.
    Echo { from: End, to: End, bytes: Bytes },
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
    /// A step of the schedule.
    Step { step: Step },
    /// The checkers look at the whole.
    Sample,
}

/// The whole simulated cluster.
pub struct World {
    /// The world's time.
    pub now: Time,
    queue: BTreeMap<(Time, u64), Happening>,
    queued: u64,
    /// Chance.
    pub random: Random,
    /// What the cluster is like.
    pub setup: Setup,
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
    /// Who each life of a daemon is: (place, life) → what its hello says.
    identities: BTreeMap<(usize, u64), (DaemonId, Incarnation)>,
    /// Where requests went.
    pub requests: BTreeMap<RequestId, PgId>,
    /// The promises.
    pub checks: Checks,
    /// States of interest that were reached.
    pub reached: Reached,
    /// Broken promises, in words.
    pub broken: Vec<String>,
    /// Whether clients begin anything new.
    pub working: bool,
    /// Whether faults go on.
    pub faulty: bool,
    /// Ids of daemons whose disks are gone, since when, and whose they were: ids may be given again.
    pub lost: BTreeMap<DaemonId, (Time, ClusterId)>,
    /// How many in a thousand messages between daemons come twice, and until when.
    pub echo_permille: u64,
    /// See `echo_permille`.
    pub echo_until: Time,
    /// Nodes that get no maps until then.
    pub map_lag: BTreeMap<Node, Time>,
    /// By how many seconds wall clocks are wrong.
    wall_offset: BTreeMap<Node, i64>,
    /// Whether all copies were read and compared since the last fault.
    pub scrubbed: bool,
    /// Whether that is under way, or was.
    pub scrubbing: bool,
    /// Answers to the judge's own commands.
    pub answers: Vec<CommandReply>,
    /// The run went beyond the fault model, and says nothing more.
    pub given_up: bool,
    /// Deeds done so far, by name.
    pub deeds: BTreeMap<&'static str, u64>,
    /// Events handled.
    pub events: u64,
    /// The event log.
    pub steps: Steps,
}

impl World {
    /// A world without daemons and clients.
    pub fn new(
        random: Random,
        setup: Setup,
        monitor: MonitorNode,
        daemon_config: daemon::Config,
    ) -> World {
        World {
            now: Time(1),
            queue: BTreeMap::new(),
            queued: 0,
            random,
            setup,
            network: Network::default(),
            monitor,
            daemons: Vec::new(),
            clients: Vec::new(),
            daemon_config,
            identities: BTreeMap::new(),
            requests: BTreeMap::new(),
            checks: Checks::all(),
            reached: Reached::default(),
            broken: Vec::new(),
            working: false,
            faulty: false,
            lost: BTreeMap::new(),
            echo_permille: 0,
            echo_until: Time::ZERO,
            map_lag: BTreeMap::new(),
            wall_offset: BTreeMap::new(),
            scrubbed: false,
            scrubbing: false,
            answers: Vec::new(),
            given_up: false,
            deeds: BTreeMap::new(),
            events: 0,
            steps: Steps::default(),
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
        crate::sim::network::latency(&mut self.random)
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
            Happening::Echo { from, to, bytes } => self.echo(from, to, bytes),
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
            Happening::Step { step } => {
                if self.faulty {
                    element::act(self, &step);
                }
            }
            Happening::Sample => {
                check::sampled(self);
                self.after(SAMPLE_EVERY, Happening::Sample);
            }
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

    /// A clock for a new life: drifting by up to one per cent, or at the edge of what the margin of leases
    /// covers (of two clocks 2.5 per cent fast and slow, a lease of 1000 ms outlasts one of 950 ms by a hair);
    /// starting anywhere.
    pub fn new_life(&mut self, node: Node) -> Life {
        let offset = self.random.below(1_000_000_000_000);
        let rate = match self.setup.edge_clocks {
            0 => 990_000 + self.random.below(20_001),
            _ => [975_000, 1_000_000, 1_025_000][self.random.below(3) as usize],
        };
        let number = self.life(node).number + 1;
        Life::new(number, self.now, offset, rate)
    }

    /// Starts the monitor.
    pub fn start_monitor(&mut self) {
        self.monitor.life = self.new_life(Node::Monitor);
        let sealer = Box::new(monitor::PlainSealer);
        self.monitor.machine = Some(monitor::Monitor::new(self.monitor.settings.clone(), sealer));
        let wall = self.wall(Node::Monitor);
        self.step_monitor(monitor::Event::Clock { wall });
        self.lead_monitor();
        let life = self.monitor.life.number;
        self.after(CLOCK_EVERY, Happening::Clock { node: Node::Monitor, life });
    }

    /// Kills the monitor.
    pub fn crash_monitor(&mut self) {
        self.monitor.machine = None;
        self.monitor.calls.clear();
    }

    /// The monitor loses its lead.
    pub fn depose_monitor(&mut self) {
        self.step_monitor(monitor::Event::Deposed);
    }

    /// The monitor wins the lead, if it does not have it.
    pub fn lead_monitor(&mut self) {
        if self.monitor.machine.as_ref().is_some_and(|monitor| !monitor.leads()) {
            let stored = self.monitor.store.load_now();
            self.step_monitor(monitor::Event::Lead { stored });
        }
    }

    /// The committed map, while a monitor leads.
    pub fn map(&self) -> Option<&OsdMap> {
        self.monitor.machine.as_ref().and_then(|monitor| monitor.osd_map())
    }

    /// A place for one more daemon, with an empty disk.
    pub fn add_daemon(&mut self) -> usize {
        let i = self.daemons.len();
        let mut uuid = [0; 16];
        uuid.iter_mut().for_each(|byte| *byte = self.random.any() as u8);
        let identity = daemon::Identity {
            uuid,
            address: address(i),
            host: format!("host{i}"),
            engine: "simulated".into(),
            ..daemon::Identity::default()
        };
        self.daemons.push(DaemonNode {
            medium: Medium::new(self.setup.real_engine == 1, &mut self.random),
            identity,
            machine: None,
            life: Life::new(0, Time(0), 0, 1_000_000),
            peers: BTreeMap::new(),
            disk_queued: false,
            slow_until: Time::ZERO,
            full: false,
            damaged: BTreeSet::new(),
            seen: observe::Groups::new(),
            last_id: None,
            down_since: self.now,
        });
        i
    }

    /// Starts a daemon on what its medium kept.
    pub fn start_daemon(&mut self, i: usize) {
        let life = self.new_life(Node::Daemon(i));
        let node = &mut self.daemons[i];
        node.life = life;
        node.peers.clear();
        node.disk_queued = false;
        let store = match node.medium.open() {
            Ok(store) => store,
            Err(error) => {
                self.broken.push(format!("start: the disk of daemon {i} does not open: {error}"));
                return;
            }
        };
        match daemon::Daemon::new(self.daemon_config.clone(), node.identity.clone(), store) {
            Ok(machine) => node.machine = Some(machine),
            Err(error) => {
                self.broken.push(format!("start: daemon {i} does not start: {error}"));
                return;
            }
        }
        let life = life.number;
        let wall = self.wall(Node::Daemon(i));
        self.step_daemon(i, daemon::Event::Start { wall });
        check::started(self, i);
        self.after(
            Duration::from_millis(1),
            Happening::Maps { node: Node::Daemon(i), life, again: true },
        );
        self.after(CLOCK_EVERY, Happening::Clock { node: Node::Daemon(i), life });
    }

    /// Kills a daemon, if it runs; its disk keeps what was durable, and more by chance.
    pub fn crash_daemon(&mut self, i: usize) {
        if self.daemons[i].machine.is_none() {
            return;
        }
        let what = self.daemons[i].medium.crash(&mut self.random);
        self.say_of(i, "crash", || what);
        self.end_daemon(i);
    }

    /// Ends a daemon as planned: it says so, what it has is flushed.
    pub fn stop_daemon(&mut self, i: usize) {
        self.step_daemon(i, daemon::Event::Stop);
        let medium = self.daemons[i].medium.clone();
        if let Some(machine) = self.daemons[i].machine.as_mut() {
            machine.store_mut().settle(&medium);
        }
        self.say_of(i, "stop", String::new);
        self.end_daemon(i);
    }

    fn end_daemon(&mut self, i: usize) {
        self.daemons[i].machine = None;
        self.daemons[i].seen.clear();
        self.daemons[i].down_since = self.now;
        for session in self.network.of(Node::Daemon(i)) {
            self.break_session(session);
        }
    }

    /// Who a life of a daemon is, as its hello said.
    fn identity(&self, end: End) -> Option<(DaemonId, Incarnation)> {
        let Node::Daemon(i) = end.node else { return None };
        self.identities.get(&(i, end.life)).copied()
    }

    // --- Maps -------------------------------------------------------------------------------------

    fn maps(&mut self, node: Node, life: u64, again: bool) {
        if !self.lives(End { node, life }) {
            return;
        }
        if again {
            self.after(MAP_POLL, Happening::Maps { node, life, again });
        }
        let lags = self.map_lag.get(&node).is_some_and(|until| *until > self.now);
        if lags
            || self.network.is_parted(node, Node::Monitor)
            || (self.faulty && self.random.chance(20))
        {
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
        self.say(node, "map", || map.epoch.to_string());
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
    pub fn deed(&mut self, name: &'static str, numbers: &[u64]) {
        *self.deeds.entry(name).or_default() += 1;
        self.say(Node::Monitor, "step", || format!("{name} {numbers:?}"));
    }

    /// All placement groups.
    pub fn groups(&self) -> BTreeSet<PgId> {
        self.map().map(|map| map.pgs.keys().copied().collect()).unwrap_or_default()
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
