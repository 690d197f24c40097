//! The sending side of a link for a caller that cannot wait: what does not fit the link's queue waits here,
//! in order, up to a bound.

use bytes::Bytes;
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use store_shell::link::{LinkError, LinkSender};
use tokio::sync::Notify;

/// See the module.
pub(crate) struct Outbox {
    sender: LinkSender,
    /// Who reads so little that more waits is as good as gone.
    waiting_bytes_max: usize,
    waiting: RefCell<VecDeque<Vec<Bytes>>>,
    waiting_bytes: Cell<usize>,
    /// A rope is between `waiting` and the link's queue.
    draining: Cell<bool>,
    filled: Notify,
    drained: Notify,
    broken: Notify,
}

impl Outbox {
    /// At most `waiting_bytes_max` wait beside the link's own queue; then the link is given up.
    pub(crate) fn new(sender: LinkSender, waiting_bytes_max: usize) -> Self {
        Outbox {
            sender,
            waiting_bytes_max,
            waiting: RefCell::default(),
            waiting_bytes: Cell::new(0),
            draining: Cell::new(false),
            filled: Notify::new(),
            drained: Notify::new(),
            broken: Notify::new(),
        }
    }

    /// Sends a message behind all others. The order of calls is kept, or the link breaks.
    pub(crate) fn send(&self, rope: Vec<Bytes>) {
        if let Some((rope, bytes)) = self.try_send(rope) {
            self.waiting_bytes.set(bytes);
            self.waiting.borrow_mut().push_back(rope);
            self.filled.notify_one();
        }
    }

    /// Sends a message before all that waits here: a sign of life must not queue behind bulk.
    pub(crate) fn send_first(&self, rope: Vec<Bytes>) {
        if let Some((rope, bytes)) = self.try_send(rope) {
            self.waiting_bytes.set(bytes);
            self.waiting.borrow_mut().push_front(rope);
            self.filled.notify_one();
        }
    }

    /// Gives the message back if it must wait, and how much waits then.
    fn try_send(&self, rope: Vec<Bytes>) -> Option<(Vec<Bytes>, usize)> {
        let is_clear = !self.draining.get() && self.waiting.borrow().is_empty();
        if is_clear {
            match self.sender.try_send(&rope) {
                Ok(()) => return None,
                Err(LinkError::Full) => {}
                Err(LinkError::Closed | LinkError::Broken(_)) => return None, // its reader says so
                Err(error) => {
                    tracing::error!(%error, "a message cannot be sent: the link is closed");
                    self.broken.notify_one();
                    return None;
                }
            }
        }
        let bytes = self.waiting_bytes.get() + rope.iter().map(Bytes::len).sum::<usize>();
        if bytes > self.waiting_bytes_max {
            tracing::warn!(bytes, "a peer reads too slowly: the link is closed");
            self.broken.notify_one();
            return None;
        }
        Some((rope, bytes))
    }

    /// Bytes that wait here.
    pub(crate) fn waiting_bytes(&self) -> usize {
        self.waiting_bytes.get()
    }

    /// Waits until less than `bytes` wait here.
    pub(crate) async fn below(&self, bytes: usize) {
        while self.waiting_bytes.get() >= bytes {
            self.drained.notified().await;
        }
    }

    /// Moves what waits into the link's queue; returns when the link must be given up.
    pub(crate) async fn drain(&self) {
        loop {
            let next = self.waiting.borrow_mut().pop_front();
            let Some(rope) = next else {
                self.draining.set(false);
                tokio::select! {
                    () = self.filled.notified() => continue,
                    () = self.broken.notified() => return,
                }
            };
            self.draining.set(true);
            let bytes: usize = rope.iter().map(Bytes::len).sum();
            let sent = tokio::select! {
                sent = self.sender.send(rope) => sent,
                () = self.broken.notified() => return,
            };
            if sent.is_err() {
                return;
            }
            self.waiting_bytes.set(self.waiting_bytes.get() - bytes);
            self.drained.notify_waiters();
        }
    }
}
