//! The driver: reads what happened, steps the machine, carries out its actions. It has no opinion of its own.

use super::maps::Maps;
use super::session::{Dialing, News, Sessions};
use crate::machine::{Action, Client, Config, Done, Event, Submission};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use store_base::error::Error;
use store_base::op::Notification;
use store_base::{Epoch, Machine, ObjectName, PoolId, Ticket, Time, Timestamp};
use store_shell::clock;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until};

/// Calls and news taken at a time, so that what they lead to leaves as one batch.
const BATCH_MAX: usize = 64;

/// What the handles want.
pub(crate) enum Call {
    /// An op vector.
    Submit { ticket: Ticket, submission: Submission, answer: oneshot::Sender<Result<Done, Error>> },
    /// Notifications of an object.
    Watch {
        cookie: u64,
        pool: PoolId,
        object: ObjectName,
        timeout_secs: u32,
        mtime: Timestamp,
        deadline: Time,
        begun: oneshot::Sender<Result<(), Error>>,
        feed: WatchFeed,
    },
}

/// What nobody wants any more.
pub(crate) enum Farewell {
    /// The answer of a request.
    Request(Ticket),
    /// The events of a watch.
    Watch(u64),
}

/// What a watcher hears.
#[derive(Clone, Debug, PartialEq)]
pub enum WatchEvent {
    /// Somebody notified. Answer it with [`crate::Watch::acknowledge`].
    Notified(Notification),
    /// Notifications may have been missed; look at the object itself.
    Gap,
    /// The watch is over.
    Ended(Error),
}

/// The way of events to one watcher. A watcher that does not listen misses events, and is told so.
#[derive(Clone, Debug)]
pub(crate) struct WatchFeed {
    pub(crate) events: mpsc::Sender<WatchEvent>,
    pub(crate) missed: Arc<AtomicBool>,
}

impl WatchFeed {
    fn tell(&self, event: WatchEvent) {
        if self.events.try_send(event).is_err() {
            self.missed.store(true, Ordering::Relaxed);
        }
    }
}

/// Where calls arrive.
pub(super) struct Inbox {
    pub(super) calls: mpsc::Receiver<Call>,
    /// At most one for each call that was taken, so bounded by [`Limits`](crate::machine::Limits) with these.
    pub(super) farewells: mpsc::UnboundedReceiver<Farewell>,
}

pub(super) struct Driver {
    client: Client,
    sessions: Sessions,
    news: mpsc::Receiver<News>,
    maps: Maps,
    wanted: watch::Sender<Epoch>,
    inbox: Inbox,
    answers: BTreeMap<Ticket, oneshot::Sender<Result<Done, Error>>>,
    watches: BTreeMap<u64, Watcher>,
    actions: Vec<Action>,
}

struct Watcher {
    begun: Option<oneshot::Sender<Result<(), Error>>>,
    feed: WatchFeed,
}

impl Driver {
    pub(super) fn new(config: Config, dialing: Dialing, maps: Maps, inbox: Inbox) -> Self {
        let (sessions, news) = Sessions::new(dialing);
        Driver {
            client: Client::new(config),
            sessions,
            news,
            maps,
            wanted: watch::Sender::new(Epoch(0)),
            inbox,
            answers: BTreeMap::new(),
            watches: BTreeMap::new(),
            actions: Vec::new(),
        }
    }

    /// The epoch that the machine needs, as it changes.
    pub(super) fn wanted_epoch(&self) -> watch::Receiver<Epoch> {
        self.wanted.subscribe()
    }

    /// Runs until the last handle is dropped, then ends the subscription too.
    pub(super) async fn run(mut self, subscription: JoinHandle<()>) {
        let timer = sleep_until(far());
        tokio::pin!(timer);
        let mut armed: Option<Time> = None;
        let mut calls = Vec::with_capacity(BATCH_MAX);
        let mut news = Vec::with_capacity(BATCH_MAX);
        let mut osd = self.maps.osd.clone();
        self.take_map(&mut osd);
        loop {
            let wake_at = self.client.wake_at();
            // A timer that fires too early does no harm, so it is moved only when it would be late.
            if wake_at.is_some_and(|at| armed.is_none_or(|set| at < set)) {
                armed = wake_at;
                timer.as_mut().reset(wake_at.map_or_else(far, clock::instant));
            }
            tokio::select! {
                biased;
                _ = self.news.recv_many(&mut news, BATCH_MAX) => {
                    news.drain(..).for_each(|news| self.handle_news(news));
                }
                Ok(()) = osd.changed() => self.take_map(&mut osd),
                Some(farewell) = self.inbox.farewells.recv() => self.handle_farewell(farewell),
                count = self.inbox.calls.recv_many(&mut calls, BATCH_MAX), if self.client.has_room() => {
                    if count == 0 {
                        break;
                    }
                    calls.drain(..).for_each(|call| self.handle_call(call));
                }
                () = &mut timer, if armed.is_some() => {
                    armed = None;
                    self.step(Event::Wake);
                }
            }
        }
        subscription.abort();
    }

    fn take_map(&mut self, osd: &mut watch::Receiver<Arc<store_base::map::OsdMap>>) {
        let map = osd.borrow_and_update().clone();
        self.step(Event::Map(map));
    }

    fn handle_news(&mut self, news: News) {
        match news {
            News::Up { daemon, session, open } => {
                if self.sessions.opened(daemon, session, open) {
                    self.step(Event::SessionUp { daemon, session });
                }
            }
            News::Lost { daemon, session } => {
                self.sessions.close(daemon, session);
                self.step(Event::SessionLost { daemon, session });
            }
            News::Replies { daemon, session, replies } => {
                for reply in replies {
                    self.step(Event::Reply { daemon, session, reply });
                }
            }
        }
    }

    fn handle_call(&mut self, call: Call) {
        match call {
            Call::Submit { ticket, submission, answer } => {
                if !answer.is_closed() {
                    self.answers.insert(ticket, answer);
                    self.step(Event::Submit { ticket, submission });
                }
            }
            Call::Watch { cookie, pool, object, timeout_secs, mtime, deadline, begun, feed } => {
                if begun.is_closed() {
                    return; // it was given up before it arrived here
                }
                self.watches.insert(cookie, Watcher { begun: Some(begun), feed });
                self.step(Event::Watch { cookie, pool, object, timeout_secs, mtime, deadline });
            }
        }
    }

    fn handle_farewell(&mut self, farewell: Farewell) {
        match farewell {
            Farewell::Request(ticket) => {
                self.answers.remove(&ticket);
                self.step(Event::Cancel { ticket });
            }
            Farewell::Watch(cookie) => {
                self.watches.remove(&cookie);
                self.step(Event::Unwatch { cookie, mtime: clock::timestamp() });
            }
        }
    }

    fn step(&mut self, event: Event) {
        let mut actions = std::mem::take(&mut self.actions);
        self.client.step(clock::now(), event, &mut actions);
        for action in actions.drain(..) {
            self.act(action);
        }
        self.actions = actions; // keeps its room
    }

    fn act(&mut self, action: Action) {
        match action {
            Action::Send { daemon, session, request } => {
                self.sessions.send(daemon, session, &request);
            }
            Action::Finish { ticket, result } => {
                if let Some(answer) = self.answers.remove(&ticket) {
                    let _ = answer.send(result); // nobody may wait any more
                }
            }
            Action::Dial { daemon, session, address } => {
                self.sessions.dial(daemon, session, address);
            }
            Action::Close { daemon, session } => self.sessions.close(daemon, session),
            Action::WantMap { epoch } => {
                self.wanted.send_if_modified(|wanted| {
                    let newer = epoch > *wanted;
                    *wanted = epoch.max(*wanted);
                    newer
                });
            }
            Action::Watching { cookie, result } => self.handle_watching(cookie, result),
            Action::Notified { notification } => {
                self.tell(notification.cookie, WatchEvent::Notified(notification));
            }
            Action::WatchGap { cookie } => self.tell(cookie, WatchEvent::Gap),
            Action::WatchEnded { cookie, error } => {
                self.tell(cookie, WatchEvent::Ended(error));
                self.watches.remove(&cookie);
            }
        }
    }

    fn handle_watching(&mut self, cookie: u64, result: Result<(), Error>) {
        let failed = result.is_err();
        if let Some(begun) = self.watches.get_mut(&cookie).and_then(|watch| watch.begun.take()) {
            let _ = begun.send(result); // a watcher that is gone says so with Unwatch
        }
        if failed {
            self.watches.remove(&cookie);
        }
    }

    fn tell(&self, cookie: u64, event: WatchEvent) {
        if let Some(watch) = self.watches.get(&cookie) {
            watch.feed.tell(event);
        }
    }
}

/// A day: the timer is set whenever there is something to wait for.
fn far() -> Instant {
    clock::instant(clock::now() + Duration::from_secs(24 * 3600))
}
