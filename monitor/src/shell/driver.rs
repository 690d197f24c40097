//! The one task that owns the machine: events in, actions out.
//!
//! It campaigns, loads, steps the machine, hands batches to the store and answers back, publishes steps to
//! subscribers. It never waits for a subscriber: one whose queue is full is cut and comes again.

use crate::machine::health::{Report, Severity};
use crate::machine::surroundings::Disk;
use crate::machine::{Action, Event, Monitor, Reply, Request};
use crate::metrics::MonitorMetrics;
use crate::state::{CommitError, Leadership, StateStore, StoreError, Stored};
use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use store_base::codec::Encode;
use store_base::ids::{DaemonId, Incarnation, Ticket};
use store_base::map::AuthMap;
use store_base::wire::{HelloReply, MapKind, MapUpdate, Want};
use store_base::{Machine, Time};
use store_shell::clock;
use store_shell::shutdown::Shutdown;
use store_shell::telemetry::Readiness;
use tokio::sync::{mpsc, oneshot};

/// Requests on their way to the task.
pub const MAILBOX_MAX: usize = 4096;

/// Updates that a subscriber may be behind by before it is cut.
pub const SUBSCRIBER_QUEUE_MAX: usize = 64;

/// Subscribers at a time.
pub const SUBSCRIBERS_MAX: usize = 8192;

/// Pause before leadership is sought again after a failure.
const RETRY_PAUSE: Duration = Duration::from_millis(500);

/// The longest such pause.
const RETRY_PAUSE_MAX: Duration = Duration::from_secs(8);

/// How often the machine is told the wall clock.
const CLOCK_EVERY: Duration = Duration::from_secs(10);

/// How often the numbers for `/metrics` are made.
const METRICS_EVERY: Duration = Duration::from_secs(5);

/// What is sent to the task.
pub enum Mail {
    /// A request for the machine.
    Request(Request, oneshot::Sender<Reply>),
    /// A subscription; updates go to the channel.
    Subscribe(Vec<Want>, mpsc::Sender<MapUpdate>, oneshot::Sender<Result<(), String>>),
    /// The connection by which a daemon's life beat has ended.
    Disconnected(DaemonId, Incarnation),
    /// Who is this.
    Hello(oneshot::Sender<HelloReply>),
}

/// The way to the task.
pub type Mailbox = mpsc::Sender<Mail>;

/// What the store and the clock bring, with the leadership's number that it belongs to.
enum Arrival {
    Won(u64, Result<(Box<dyn Leadership>, Stored), StoreError>),
    Lost(u64, String),
    Done(u64, Ticket, Result<u64, CommitError>, Duration),
}

struct Subscriber {
    /// By kind: the epoch that it has.
    have: BTreeMap<i32, u32>,
    updates: mpsc::Sender<MapUpdate>,
}

/// The room on the disk of a directory. A file system that does not tell is not watched.
fn look_at_disk(dir: &Path) -> Option<Disk> {
    let found = rustix::fs::statvfs(dir).ok()?;
    Some(Disk {
        total_bytes: found.f_blocks.saturating_mul(found.f_frsize),
        free_bytes: found.f_bavail.saturating_mul(found.f_frsize),
    })
}

/// See the module.
pub struct Driver {
    machine: Monitor,
    store: Arc<dyn StateStore>,
    name: String,
    mailbox: mpsc::Receiver<Mail>,
    arrivals: FuturesUnordered<BoxFuture<'static, Arrival>>,
    replies: BTreeMap<Ticket, oneshot::Sender<Reply>>,
    subscribers: Vec<Subscriber>,
    next_ticket: u64,
    /// Raised whenever leadership begins or ends; what belongs to an older number is dropped.
    term: u64,
    pause: Duration,
    seal_key: Bytes,
    metrics: MonitorMetrics,
    /// Whose disk is watched.
    data_dir: Option<PathBuf>,
    clock_due: Time,
    metrics_due: Time,
    ready: Arc<Mutex<Result<(), String>>>,
    actions: Vec<Action>,
}

impl Driver {
    /// The task, not yet running, and the way to it.
    pub fn new(
        machine: Monitor,
        store: Arc<dyn StateStore>,
        metrics: MonitorMetrics,
        seal_key: Bytes,
        name: &str,
    ) -> (Driver, Mailbox) {
        let (sender, mailbox) = mpsc::channel(MAILBOX_MAX);
        let driver = Driver {
            machine,
            store,
            name: name.to_string(),
            mailbox,
            arrivals: FuturesUnordered::new(),
            replies: BTreeMap::new(),
            subscribers: Vec::new(),
            next_ticket: 1,
            term: 0,
            pause: RETRY_PAUSE,
            seal_key,
            metrics,
            data_dir: None,
            clock_due: Time::ZERO,
            metrics_due: Time::ZERO,
            ready: Arc::new(Mutex::new(Err("the monitor is starting".to_string()))),
            actions: Vec::new(),
        };
        (driver, sender)
    }

    /// Watches the room on the disk of this directory.
    pub fn watching_disk_of(mut self, data_dir: &Path) -> Driver {
        self.data_dir = Some(data_dir.to_path_buf());
        self
    }

    /// Ready while it leads, or while another monitor does.
    pub fn readiness(&self) -> Readiness {
        let ready = self.ready.clone();
        Arc::new(move || ready.lock().unwrap_or_else(PoisonError::into_inner).clone())
    }

    fn set_ready(&self, ready: Result<(), String>) {
        *self.ready.lock().unwrap_or_else(PoisonError::into_inner) = ready;
    }

    /// Runs until told to stop; then finishes the commit under way and closes the store.
    pub async fn run(mut self, stop: Shutdown) {
        self.campaign(Duration::ZERO);
        while !stop.is_triggered() {
            self.tick();
            let wake = self.machine.wake_at().unwrap_or(self.clock_due).min(self.clock_due);
            tokio::select! {
                mail = self.mailbox.recv() => match mail {
                    Some(mail) => self.take_mail(mail),
                    None => break, // the service is gone: nobody will ask any more
                },
                Some(arrival) = self.arrivals.next() => self.take_arrival(arrival),
                () = tokio::time::sleep_until(clock::instant(wake)) => self.step(Event::Woke),
                () = stop.wait() => {}
            }
            // What came meanwhile goes into the same commit where it can.
            while let Ok(mail) = self.mailbox.try_recv() {
                self.take_mail(mail);
            }
        }
        self.step(Event::Deposed);
        let store = self.store.clone();
        drop(self);
        store.close().await;
    }

    /// What is due by the clock, whatever wakes the task.
    fn tick(&mut self) {
        let now = clock::now();
        if now >= self.clock_due {
            self.clock_due = now + CLOCK_EVERY;
            self.step(Event::Clock { wall: clock::timestamp() });
            if let Some(disk) = self.data_dir.as_deref().and_then(look_at_disk) {
                self.step(Event::Looked { disk });
            }
            self.subscribers.retain(|subscriber| !subscriber.updates.is_closed());
        }
        if now >= self.metrics_due {
            self.metrics_due = now + METRICS_EVERY;
            let (in_flight, queued) = self.machine.backlog();
            self.metrics.set_backlog(in_flight, queued, self.subscribers.len());
            if let Some(map) = self.machine.osd_map() {
                self.metrics.set_map(map, &self.machine.health(now));
            } else {
                self.metrics.set_health(&Report::not_leading());
            }
        }
    }

    fn step(&mut self, event: Event) {
        let mut actions = std::mem::take(&mut self.actions);
        self.machine.step(clock::now(), event, &mut actions);
        for action in actions.drain(..) {
            self.act(action);
        }
        self.actions = actions;
    }

    fn act(&mut self, action: Action) {
        match action {
            Action::Reply { to, reply } => {
                if let Some(waiting) = self.replies.remove(&to) {
                    let _ = waiting.send(reply); // who asked may have gone
                }
            }
            Action::Publish { updates } => self.publish(updates),
            Action::Commit { ticket, batch } => {
                let (store, term) = (self.store.clone(), self.term);
                self.arrivals.push(Box::pin(async move {
                    let begun = clock::now();
                    let done = store.commit(batch).await;
                    Arrival::Done(term, ticket, done, clock::now().since(begun))
                }));
            }
            Action::Resign { why } => {
                tracing::error!(why, "the monitor reads its state again");
                self.set_ready(Err(why));
                self.term += 1;
                self.campaign_later();
            }
        }
    }

    /// Seeks leadership and loads the store.
    fn campaign(&mut self, pause: Duration) {
        self.term += 1;
        let (store, name, term) = (self.store.clone(), self.name.clone(), self.term);
        self.arrivals.push(Box::pin(async move {
            tokio::time::sleep(pause).await;
            let won = async {
                let leadership = store.campaign(&name).await?;
                let stored = store.load().await?;
                Ok((leadership, stored))
            };
            Arrival::Won(term, won.await)
        }));
    }

    fn campaign_later(&mut self) {
        let pause = self.pause;
        self.pause = (pause * 2).min(RETRY_PAUSE_MAX);
        self.campaign(pause);
    }

    fn take_arrival(&mut self, arrival: Arrival) {
        match arrival {
            Arrival::Won(term, _) | Arrival::Lost(term, _) | Arrival::Done(term, ..)
                if term != self.term => {}
            Arrival::Won(term, Ok((leadership, stored))) => {
                self.arrivals.push(Box::pin(async move {
                    let why = leadership.lost().await;
                    Arrival::Lost(term, why)
                }));
                self.step(Event::Lead { stored });
                // The machine may have refused what it read; then a new term began.
                if self.term == term {
                    self.set_ready(Ok(()));
                    self.metrics_due = Time::ZERO;
                    self.catch_up_subscribers();
                }
            }
            Arrival::Won(_, Err(e)) => {
                tracing::error!(error = %e, "cannot lead");
                self.set_ready(Err(e.to_string()));
                self.campaign_later();
            }
            Arrival::Lost(_, why) => {
                tracing::warn!(why, "leads no more");
                self.set_ready(Err(format!("this monitor does not lead: {why}")));
                self.step(Event::Deposed);
                self.campaign_later();
            }
            Arrival::Done(_, ticket, Ok(_), took) => {
                self.pause = RETRY_PAUSE;
                self.metrics.commit(took);
                self.step(Event::Committed { ticket });
            }
            Arrival::Done(_, ticket, Err(e), _) => {
                self.step(Event::CommitFailed { ticket, why: e.to_string() });
            }
        }
    }

    fn take_mail(&mut self, mail: Mail) {
        match mail {
            Mail::Request(request, reply) => {
                let from = Ticket(self.next_ticket);
                self.next_ticket += 1;
                self.metrics.request();
                self.replies.insert(from, reply);
                self.step(Event::Request { from, request });
            }
            Mail::Hello(reply) => {
                let _ = reply.send(HelloReply {
                    cluster: Bytes::new(), // the service knows it
                    name: self.name.clone(),
                    version: env!("CARGO_PKG_VERSION").to_string(),
                    osd_epoch: self.machine.osd_map().map_or(0, |map| map.epoch.0),
                    leader: self.machine.leads(),
                    wall_millis: clock::timestamp().millis(),
                });
            }
            Mail::Disconnected(daemon, incarnation) => {
                self.step(Event::Disconnected { daemon, incarnation });
            }
            Mail::Subscribe(wants, updates, reply) => {
                let _ = reply.send(self.subscribe(wants, updates));
            }
        }
    }

    fn subscribe(
        &mut self,
        wants: Vec<Want>,
        updates: mpsc::Sender<MapUpdate>,
    ) -> Result<(), String> {
        if !self.machine.leads() {
            return Err("this monitor does not lead: ask another, or again".to_string());
        }
        if self.subscribers.len() >= SUBSCRIBERS_MAX {
            return Err(format!("{SUBSCRIBERS_MAX} subscribers are served, the most allowed"));
        }
        let have = wants.iter().map(|want| (want.kind, want.have)).collect();
        let mut subscriber = Subscriber { have, updates };
        if self.catch_up(&mut subscriber) {
            self.subscribers.push(subscriber);
        }
        Ok(())
    }

    /// Sends a subscriber what it lacks; false if it must be cut.
    fn catch_up(&self, subscriber: &mut Subscriber) -> bool {
        let wants: Vec<Want> =
            subscriber.have.iter().map(|(kind, have)| Want { kind: *kind, have: *have }).collect();
        for update in self.machine.updates_since(&wants) {
            subscriber.have.insert(update.kind, update.epoch);
            if subscriber.updates.try_send(self.dress(update)).is_err() {
                return false;
            }
        }
        true
    }

    /// After a change of leadership nobody knows what each subscriber missed.
    fn catch_up_subscribers(&mut self) {
        let mut subscribers = std::mem::take(&mut self.subscribers);
        subscribers.retain_mut(|subscriber| self.catch_up(subscriber));
        self.subscribers = subscribers;
    }

    fn publish(&mut self, updates: Vec<MapUpdate>) {
        let updates: Vec<MapUpdate> =
            updates.into_iter().map(|update| self.dress(update)).collect();
        let mut subscribers = std::mem::take(&mut self.subscribers);
        subscribers.retain_mut(|subscriber| {
            updates.iter().all(|update| {
                let Some(have) = subscriber.have.get_mut(&update.kind) else { return true };
                if update.full.is_empty() && *have + 1 != update.epoch {
                    return false; // it comes again with what it has
                }
                *have = update.epoch;
                subscriber.updates.try_send(update.clone()).is_ok()
            })
        });
        let cut = subscribers.iter().filter(|subscriber| subscriber.updates.is_closed()).count();
        tracing::trace!(subscribers = subscribers.len(), closed = cut, "published");
        self.subscribers = subscribers;
    }

    /// Services that may see secrets get the key to them with the users.
    fn dress(&self, mut update: MapUpdate) -> MapUpdate {
        if update.kind() == MapKind::MapAuth
            && let Some(auth) = self.machine.auth_map()
        {
            let dressed = AuthMap { seal_key: self.seal_key.clone(), ..auth.clone() };
            update.full = dressed.to_bytes();
        }
        update
    }
}

/// The number that `/metrics` shows for a severity.
pub fn severity_number(severity: Severity) -> i64 {
    match severity {
        Severity::Ok => 0,
        Severity::Warn => 1,
        Severity::Error => 2,
    }
}
