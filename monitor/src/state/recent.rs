//! The last batches of a store, and those who wait for the next.

use super::{Batch, Change, RECENT_BATCHES_MAX};
use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};

#[derive(Debug, Default)]
struct Inner {
    version: u64,
    batches: VecDeque<Batch>,
    waiters: Vec<Waker>,
}

/// Shared by a store and its watchers.
#[derive(Clone, Debug, Default)]
pub struct Recent {
    inner: Arc<Mutex<Inner>>,
}

impl Recent {
    /// Nothing is remembered from before `version`.
    pub fn new(version: u64) -> Recent {
        let recent = Recent::default();
        recent.restart(version);
        recent
    }

    /// A batch was applied. One that was told before is ignored; after a gap the past is forgotten.
    pub fn push(&self, batch: Batch) {
        let mut inner = self.lock();
        if batch.expect < inner.version {
            return;
        }
        if batch.expect > inner.version {
            inner.batches.clear();
        }
        inner.version = batch.expect + 1;
        inner.batches.push_back(batch);
        if inner.batches.len() > RECENT_BATCHES_MAX {
            inner.batches.pop_front();
        }
        inner.waiters.drain(..).for_each(Waker::wake);
    }

    /// The store is at `version`, and what led there is not known.
    pub fn restart(&self, version: u64) {
        let mut inner = self.lock();
        if version > inner.version {
            inner.version = version;
            inner.batches.clear();
            inner.waiters.drain(..).for_each(Waker::wake);
        }
    }

    /// The newest version told.
    pub fn version(&self) -> u64 {
        self.lock().version
    }

    /// Waits for what follows version `after`.
    pub fn next(&self, after: u64) -> NextChange {
        NextChange { recent: self.clone(), after }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Inner> {
        // The lists are whole at every moment, so a panic of another holder does no harm.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The future of [`Recent::next`].
#[derive(Debug)]
pub struct NextChange {
    recent: Recent,
    after: u64,
}

impl Future for NextChange {
    type Output = Change;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Change> {
        let mut inner = self.recent.lock();
        if inner.version <= self.after {
            if !inner.waiters.iter().any(|waiter| waiter.will_wake(context.waker())) {
                inner.waiters.push(context.waker().clone());
            }
            return Poll::Pending;
        }
        let found = inner.batches.iter().find(|batch| batch.expect == self.after);
        Poll::Ready(found.map_or(Change::Reload, |batch| Change::Batch(batch.clone())))
    }
}
