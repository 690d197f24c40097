//! Watch and notify.

use crate::objects::decode;
use crate::shell::{DriverCall, Farewell, Options, StoreClient, WatchEvent, WatchFeed, stopped};
use bytes::Bytes;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use store_base::error::Error;
use store_base::op::{Notification, NotifyResult, Op};
use store_base::{ObjectName, PoolId};
use store_shell::clock;
use tokio::sync::{mpsc, oneshot};

/// Events that wait for a watcher; behind that it misses some and is told so.
const EVENTS_MAX: usize = 64;

/// How much longer than its watchers a notifier waits for the answer.
const NOTIFY_MARGIN: Duration = Duration::from_secs(5);

/// A watch of one object. Ends when it is dropped.
#[derive(Debug)]
pub struct Watch {
    client: StoreClient,
    pool: PoolId,
    object: ObjectName,
    cookie: u64,
    events: mpsc::Receiver<WatchEvent>,
    missed: Arc<AtomicBool>,
}

impl StoreClient {
    /// Begins to watch an object, which must exist. The daemons forget a watcher that they do not hear for
    /// `timeout`; the library gives signs of life by itself.
    pub async fn watch(
        &self,
        pool: PoolId,
        object: &ObjectName,
        timeout: Duration,
    ) -> Result<Watch, Error> {
        let (events_in, events) = mpsc::channel(EVENTS_MAX);
        let missed = Arc::new(AtomicBool::new(false));
        let cookie = self.next_cookie();
        // Made before the wait, so that a caller who gives up ends the watch.
        let watch = Watch {
            client: self.clone(),
            pool,
            object: object.clone(),
            cookie,
            events,
            missed: missed.clone(),
        };
        let (begun_in, begun) = oneshot::channel();
        let call = DriverCall::Watch {
            cookie,
            pool,
            object: object.clone(),
            timeout_secs: timeout_secs(timeout),
            mtime: clock::timestamp(),
            deadline: clock::now() + self.deadline(),
            begun: begun_in,
            feed: WatchFeed { events: events_in, missed },
        };
        self.call(call).await?;
        begun.await.map_err(|_| stopped())??;
        Ok(watch)
    }

    /// Tells all watchers of an object and waits for their answers, for those that are slow at most so long.
    pub async fn notify(
        &self,
        pool: PoolId,
        object: &ObjectName,
        payload: Bytes,
        timeout: Duration,
    ) -> Result<NotifyResult, Error> {
        let op = Op::Notify { payload, timeout_secs: timeout_secs(timeout) };
        let deadline = self.deadline().max(timeout + NOTIFY_MARGIN);
        let options = Options { read_only: true, deadline: Some(deadline) };
        let reply = self.operate(pool, object, vec![op], options).await?;
        decode(reply.data(0), object)
    }
}

impl Watch {
    /// The next event. After `Ended`, and when the client has stopped, only `None` follows.
    pub async fn next(&mut self) -> Option<WatchEvent> {
        if self.missed.swap(false, Ordering::Relaxed) {
            return Some(WatchEvent::Gap);
        }
        self.events.recv().await
    }

    /// Answers a notification; the notifier waits for it.
    pub async fn acknowledge(
        &self,
        notification: &Notification,
        payload: Bytes,
    ) -> Result<(), Error> {
        let op = Op::NotifyAck { notify: notification.notify, cookie: self.cookie, payload };
        let sent = self.client.operate(self.pool, &self.object, vec![op], Options::READ);
        sent.await.map(drop)
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.client.farewell(Farewell::Watch(self.cookie));
    }
}

/// Whole seconds, at least one.
fn timeout_secs(timeout: Duration) -> u32 {
    u32::try_from(timeout.as_secs().max(1)).unwrap_or(u32::MAX)
}
