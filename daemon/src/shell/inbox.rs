//! Where events wait for the machine's next turn. One thread: link tasks put, the turn takes.

use crate::machine::Event;
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use tokio::sync::Notify;

/// Bytes of messages from other daemons that may wait; then their links are not read.
pub(crate) const PEER_BYTES_MAX: usize = 64 << 20;

/// Events in order of arrival.
#[derive(Default)]
pub(crate) struct Inbox {
    events: RefCell<VecDeque<(Event, usize)>>,
    bytes: Cell<usize>,
    filled: Notify,
    emptied: Notify,
}

impl Inbox {
    /// Puts an event that is small, or whose bytes are bounded elsewhere.
    pub(crate) fn put(&self, event: Event) {
        self.put_sized(event, 0);
    }

    /// Puts an event of so many bytes.
    pub(crate) fn put_sized(&self, event: Event, bytes: usize) {
        self.bytes.set(self.bytes.get() + bytes);
        self.events.borrow_mut().push_back((event, bytes));
        self.filled.notify_one();
    }

    /// The oldest event.
    pub(crate) fn take(&self) -> Option<Event> {
        let (event, bytes) = self.events.borrow_mut().pop_front()?;
        let before = self.bytes.get();
        self.bytes.set(before - bytes);
        if before >= PEER_BYTES_MAX && before - bytes < PEER_BYTES_MAX {
            self.emptied.notify_waiters();
        }
        Some(event)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.events.borrow().is_empty()
    }

    /// Waits until something was put since the last wait.
    pub(crate) async fn filled(&self) {
        self.filled.notified().await;
    }

    /// Waits until there is room for messages of other daemons.
    pub(crate) async fn room(&self) {
        while self.bytes.get() >= PEER_BYTES_MAX {
            self.emptied.notified().await;
        }
    }
}
