//! The turn: takes what has gathered, steps the machine, lets the store go on, carries out the actions.
//!
//! ```text
//!  links ─┐                       ┌─► store (poll: one group of records, one flush)
//!  timer ─┼─► inbox ─► machine ───┼─► links (all that is said in a turn leaves together)
//!  store ─┘     (step, step, …)   └─► monitor
//! ```
//!
//! A turn is bounded (`EVENTS_MAX`), then the runtime may move bytes, then the next turn begins. An idle
//! daemon wakes for its heartbeats and nothing else.

use super::clients::Clients;
use super::engine::{Completions, Engine};
use super::inbox::Inbox;
use super::monitors::Monitors;
use super::peers::Peers;
use super::start::MAP;
use super::{Farewell, Seen, lock, settings};
use crate::machine::{Action, Config as MachineConfig, Daemon, Event, MonitorRequest};
use crate::metrics::{DaemonMetrics, StateLabel};
use crate::store::{Completion, Write};
use bytes::Bytes;
use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use store_base::codec::Encode;
use store_base::map::OsdMap;
use store_base::wire::FailureReport;
use store_base::{ClusterId, DaemonId, Machine, Time};
use store_shell::clock;
use store_shell::identity::Role;
use store_shell::link::{Hello, Link, LinkAcceptor, LinkMetrics, LinkSettings};
use store_shell::server::Server;
use store_shell::shutdown::Shutdown;
use tokio::time::{Sleep, sleep, timeout_at};
use tonic::service::Routes;

/// Most events in one turn.
const EVENTS_MAX: usize = 1024;
/// How often the machine is told the wall clock.
const CLOCK_EVERY: Duration = Duration::from_secs(5);
/// How often metrics and readiness are refreshed, at most.
const REFRESH_EVERY: Duration = Duration::from_secs(1);
/// How often the newest map is stored, at most.
const MAP_EVERY: Duration = Duration::from_secs(1);
/// How long a stopping daemon waits for the monitor to make others take over.
const LEAVE_MAX: Duration = Duration::from_secs(1);
/// How long what a stopping daemon says last may take: that it serves no more, and where to go instead.
const FAREWELL: Duration = Duration::from_millis(100);
/// Where a daemon without a timer looks up.
const IDLE_MAX: Duration = Duration::from_secs(3600);

/// What a turn works with.
pub(super) struct Parts {
    pub(super) inbox: Rc<Inbox>,
    pub(super) clients: Rc<Clients>,
    pub(super) peers: Rc<Peers>,
    pub(super) monitors: Rc<Monitors>,
    pub(super) metrics: DaemonMetrics,
    pub(super) link_metrics: LinkMetrics,
    pub(super) seen: Arc<Mutex<Seen>>,
    pub(super) farewell: Farewell,
    pub(super) shutdown: Shutdown,
    pub(super) server: Server,
    pub(super) completions: Completions,
}

/// What is known from the start.
pub(super) struct Facts {
    pub(super) bound: SocketAddr,
    /// What others are told to dial.
    pub(super) address: String,
    /// Of the directory or the identity.
    pub(super) cluster: Option<ClusterId>,
    /// Of the identity or the settings.
    pub(super) wanted_id: Option<DaemonId>,
}

/// A daemon that listens; see the module.
pub(super) struct Turn<S: Engine> {
    daemon: Daemon<S>,
    /// As `Daemon::new` was given it.
    defaults: MachineConfig,
    facts: Facts,
    known_map: Option<Arc<OsdMap>>,
    inbox: Rc<Inbox>,
    clients: Rc<Clients>,
    peers: Rc<Peers>,
    monitors: Rc<Monitors>,
    metrics: DaemonMetrics,
    link_metrics: LinkMetrics,
    seen: Arc<Mutex<Seen>>,
    farewell: Farewell,
    shutdown: Shutdown,
    /// Taken when links are let in.
    server: Option<Server>,
    /// Ends the server, later than `shutdown` is said.
    server_end: Shutdown,
    completions: Completions,
    actions: Vec<Action>,
    done: Vec<Completion>,
    /// The machine has asked to boot: its incarnation is durable, and may be said to peers.
    speaks: bool,
    fatal: Option<String>,
    /// This daemon asked to be taken for down, and does not boot any more.
    is_leaving: bool,
    /// What `seen` was last told.
    shown: Option<(Option<DaemonId>, bool)>,
    clock_at: Time,
    refresh_at: Time,
    map_at: Time,
    map_stored: u32,
}

impl<S: Engine> Turn<S> {
    pub(super) fn new(
        daemon: Daemon<S>,
        parts: Parts,
        facts: Facts,
        known_map: Option<Arc<OsdMap>>,
    ) -> Self {
        Turn {
            daemon,
            defaults: MachineConfig::default(),
            facts,
            known_map,
            inbox: parts.inbox,
            clients: parts.clients,
            peers: parts.peers,
            monitors: parts.monitors,
            metrics: parts.metrics,
            link_metrics: parts.link_metrics,
            seen: parts.seen,
            farewell: parts.farewell,
            shutdown: parts.shutdown,
            server: Some(parts.server),
            server_end: Shutdown::new(),
            completions: parts.completions,
            actions: Vec::new(),
            done: Vec::new(),
            speaks: false,
            fatal: None,
            is_leaving: false,
            shown: None,
            clock_at: Time::ZERO,
            refresh_at: Time::ZERO,
            map_at: Time::ZERO,
            map_stored: 0,
        }
    }

    /// Where the daemon listens.
    pub(super) fn address(&self) -> SocketAddr {
        self.facts.bound
    }

    /// Runs until the shutdown or a fatal error.
    pub(super) async fn serve(mut self) -> Result<(), String> {
        let wall = clock::timestamp();
        self.inbox.put(Event::Start { wall });
        if let Some(map) = self.known_map.take() {
            self.map_stored = map.epoch.0;
            self.monitors.set_map(map.clone());
            self.inbox.put(Event::Map(map));
        }
        let subscription = tokio::task::spawn_local(self.monitors.clone().subscribe());
        let shutdown = self.shutdown.clone();
        let timer = sleep(Duration::ZERO);
        tokio::pin!(timer);
        while self.fatal.is_none() && !shutdown.is_triggered() {
            self.turn();
            // The runtime moves bytes between turns, also when the next one is due already.
            tokio::task::yield_now().await;
            if self.inbox.is_empty() && self.fatal.is_none() {
                tokio::select! {
                    biased;
                    () = self.wait(timer.as_mut()) => {}
                    () = shutdown.wait() => {}
                }
            }
        }
        if self.fatal.is_none() && self.farewell.is_wanted() {
            self.leave().await;
        }
        subscription.abort();
        let outcome = match self.fatal.take() {
            Some(why) => {
                tracing::error!(why, "the daemon ends");
                Err(why)
            }
            None => Ok(()),
        };
        self.close();
        outcome
    }

    /// Until there is something to do.
    async fn wait(&self, mut timer: Pin<&mut Sleep>) {
        let wake_at = self.daemon.wake_at().unwrap_or_else(|| clock::now() + IDLE_MAX);
        let at = clock::instant(wake_at);
        if timer.deadline() != at {
            timer.as_mut().reset(at);
        }
        tokio::select! {
            biased;
            () = self.inbox.filled() => {}
            () = self.completions.ready() => {}
            () = timer => {}
        }
    }

    /// One turn.
    fn turn(&mut self) {
        self.metrics.turns.inc();
        let now = clock::now();
        if now >= self.clock_at {
            self.clock_at = now + CLOCK_EVERY;
            self.step(Event::Clock { wall: clock::timestamp() });
        }
        for _ in 0..EVENTS_MAX {
            let Some(event) = self.inbox.take() else { break };
            self.step(event);
        }
        if self.daemon.wake_at().is_some_and(|at| at <= clock::now()) {
            self.step(Event::Wake);
        }
        self.poll_store();
        self.act();
        self.show();
        if now >= self.refresh_at {
            self.refresh_at = now + REFRESH_EVERY;
            self.refresh();
        }
    }

    fn step(&mut self, event: Event) {
        self.metrics.events.inc();
        self.daemon.step(clock::now(), event, &mut self.actions);
    }

    /// Lets the store begin what was submitted, and brings what it has done.
    fn poll_store(&mut self) {
        loop {
            self.daemon.store_mut().poll(&mut self.done);
            if self.done.is_empty() {
                return;
            }
            let done = std::mem::take(&mut self.done);
            self.step(Event::Store(done));
        }
    }

    fn act(&mut self) {
        let mut actions = std::mem::take(&mut self.actions);
        for action in actions.drain(..) {
            match action {
                Action::ToClient { link, reply } => self.clients.send(link, &reply),
                Action::ToPeer { to, message } => self.peers.send(to, &message),
                Action::Connect { peer, incarnation, address } => {
                    self.peers.connect(peer, incarnation, address);
                }
                Action::Disconnect { peer } => self.peers.disconnect(peer),
                Action::ToMonitor(request) => self.to_monitor(request),
                Action::Fatal { why } => {
                    self.fatal.get_or_insert(why);
                }
            }
        }
        self.actions = actions;
        if self.server.is_some() && self.speaks {
            self.let_in();
        }
    }

    fn to_monitor(&mut self, mut request: MonitorRequest) {
        if let MonitorRequest::Boot(boot) = &mut request {
            if self.is_leaving {
                return;
            }
            self.speaks = true;
            if let Some(id) = self.facts.wanted_id.filter(|_| boot.daemon < 0) {
                boot.daemon = id.0;
            }
        }
        self.monitors.call(request);
    }

    /// Opens the door once this daemon can say who it is.
    fn let_in(&mut self) {
        let Some(id) = self.daemon.id() else { return };
        let Some(cluster) = self.cluster() else { return };
        let Some(server) = self.server.take() else { return };
        let mut hello = Hello::new(cluster, Role::Daemon, id.0.to_string());
        hello.incarnation = self.daemon.incarnation();
        hello.address.clone_from(&self.facts.address);
        self.peers.set_hello(hello.clone());
        let roles = [Role::Daemon, Role::Gateway, Role::Metadata, Role::Admin, Role::Monitor];
        let (acceptor, mut links) =
            LinkAcceptor::new(hello, &roles, LinkSettings::default(), self.link_metrics.clone());
        let (clients, peers) = (self.clients.clone(), self.peers.clone());
        tokio::task::spawn_local(async move {
            while let Some(link) = links.recv().await {
                let link: Link = link;
                match link.peer.role {
                    Role::Daemon => peers.add(link),
                    _ => clients.add(link),
                }
            }
        });
        let end = self.server_end.clone();
        tokio::task::spawn_local(server.serve(Routes::default(), Some(acceptor), end));
        let incarnation = self.daemon.incarnation();
        tracing::info!(%id, %incarnation, %cluster, address = self.facts.address, "serving");
    }

    fn cluster(&self) -> Option<ClusterId> {
        let of_map = self.daemon.osd_map().filter(|map| map.epoch.0 > 0).map(|map| map.cluster);
        self.facts.cluster.or(of_map)
    }

    /// What need not happen at every turn.
    fn refresh(&mut self) {
        if let Some(map) = self.monitors.changed_config() {
            let name = self.daemon.id().map_or(String::new(), |id| id.0.to_string());
            self.daemon.set_config(settings::apply(&self.defaults, &map, &name));
        }
        self.store_map();
        self.count();
    }

    /// Keeps the newest map for a start without a monitor.
    fn store_map(&mut self) {
        let now = clock::now();
        let Some(map) = self.daemon.osd_map().cloned() else { return };
        if map.epoch.0 <= self.map_stored || now < self.map_at {
            return;
        }
        self.map_at = now + MAP_EVERY;
        let write = Write::Super { key: Bytes::from_static(MAP), value: Some(map.to_bytes()) };
        match self.daemon.store_mut().submit(None, vec![write]) {
            Ok(()) => self.map_stored = map.epoch.0,
            Err(error) => tracing::warn!(%error, epoch = map.epoch.0, "the map cannot be stored"),
        }
    }

    fn count(&self) {
        let usage = self.daemon.store().usage();
        let metrics = &self.metrics;
        metrics.capacity_bytes.set(usage.capacity_bytes as i64);
        metrics.used_bytes.set(usage.used_bytes as i64);
        metrics.stored_bytes.set(usage.stored_bytes as i64);
        metrics.reclaimable_bytes.set(usage.reclaimable_bytes as i64);
        metrics.objects.set(usage.objects as i64);
        metrics.request_bytes_open.set(self.clients.open_bytes() as i64);
        let status = self.daemon.status();
        metrics.map_epoch.set(i64::from(status.epoch.0));
        metrics.pgs_serving.set(status.pgs_serving as i64);
        metrics.requests_waiting.set(status.waiting_requests as i64);
        metrics.entries_open.set(status.open_entries as i64);
        metrics.recovery_pulls.set(status.pulls as i64);
        metrics.recovery_pushes.set(status.pushes as i64);
        metrics.log_bytes.set(status.log_bytes as i64);
        metrics.read_errors.set(status.read_errors as i64);
        metrics.scrubbed_bytes.set(status.done.scrubbed_bytes as i64);
        metrics.scrub_repairs.set(status.done.scrub_repairs as i64);
        metrics.pgs.clear();
        for pg in self.daemon.pgs() {
            metrics.pgs.get_or_create(&StateLabel { state: pg.state() }).inc();
        }
    }

    /// Lets other threads see whether this daemon is ready; at once when that changes.
    fn show(&mut self) {
        let state = (self.daemon.id(), self.is_up());
        if self.shown == Some(state) {
            return;
        }
        self.shown = Some(state);
        let (id, is_up) = state;
        let mut seen = lock(&self.seen);
        seen.id = id;
        seen.incarnation = self.daemon.incarnation();
        seen.not_ready = match (is_up, id) {
            (true, _) => String::new(),
            (false, None) => "no monitor has given this daemon an id yet".to_string(),
            (false, Some(id)) => format!("the map does not show {id} up"),
        };
    }

    fn is_up(&self) -> bool {
        let (id, incarnation) = (self.daemon.id(), self.daemon.incarnation());
        let map = self.daemon.osd_map();
        id.is_some_and(|id| map.is_some_and(|map| map.is_up_as(id, incarnation)))
    }

    /// A planned end: has the monitor make others take over, and goes on until this daemon has seen that map
    /// and told its peers so. Then nobody waits for a lease of it (R5). Without a monitor it just ends.
    async fn leave(&mut self) {
        let Some(id) = self.daemon.id().filter(|_| self.is_up()) else { return };
        self.is_leaving = true;
        let incarnation = self.daemon.incarnation().0;
        let telling = self.monitors.tell(FailureReport {
            reporter: id.0,
            reporter_incarnation: incarnation,
            failed: id.0,
            failed_incarnation: incarnation,
            refused: true,
            silent_millis: 0,
        });
        let mut until = clock::now() + LEAVE_MAX;
        let mut has_left = false;
        let timer = sleep(Duration::ZERO);
        tokio::pin!(timer);
        while clock::now() < until && self.fatal.is_none() {
            self.turn();
            if !has_left && !self.is_up() {
                has_left = true;
                until = clock::now() + FAREWELL;
            }
            tokio::task::yield_now().await;
            if telling.is_finished() && !has_left && !self.monitors.was_told() {
                return;
            }
            if self.inbox.is_empty() {
                let _ = timeout_at(clock::instant(until), self.wait(timer.as_mut())).await;
            }
        }
        tracing::info!(has_left, "stopped serving");
    }

    /// Ends links and the server, and makes durable what was begun.
    fn close(mut self) {
        self.clients.close();
        self.peers.close();
        self.server_end.trigger();
        self.poll_store();
        self.daemon.into_store().close();
    }
}
