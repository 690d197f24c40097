//! A store that forgets with the process, and one that fails on demand: for tests and simulation.

use super::recent::Recent;
use super::{
    Alone, Answer, Batch, Change, CommitError, Leadership, StateStore, StoreError, Stored,
};
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

/// What a faulty store does with the next call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The commit is refused; nothing was done.
    Refuse,
    /// The commit is done, and said to be of unknown outcome.
    DoneButUnknown,
    /// The commit is not done, and said to be of unknown outcome.
    LostAndUnknown,
    /// The load fails.
    LoadFails,
}

#[derive(Debug, Default)]
struct Inner {
    stored: Stored,
    faults: VecDeque<Fault>,
}

/// A store in memory. Clones are the same store.
#[derive(Clone, Debug, Default)]
pub struct MemoryStore {
    inner: Arc<Mutex<Inner>>,
    recent: Recent,
}

impl MemoryStore {
    /// An empty store.
    pub fn new() -> MemoryStore {
        MemoryStore::default()
    }

    /// Everything that is there.
    pub fn load_now(&self) -> Stored {
        self.lock().stored.clone()
    }

    /// Applies a batch and says the new version.
    pub fn commit_now(&self, batch: &Batch) -> Result<u64, CommitError> {
        batch.check()?;
        let mut inner = self.lock();
        let have = inner.stored.version;
        if have != batch.expect {
            return Err(CommitError::Conflict { expect: batch.expect, have });
        }
        inner.stored.apply(batch);
        self.recent.push(batch.clone());
        Ok(have + 1)
    }

    /// Makes the next calls that a fault fits fail so, in order.
    pub fn plant(&self, fault: Fault) {
        self.lock().faults.push_back(fault);
    }

    fn take_fault(&self, fits: impl Fn(&Fault) -> bool) -> Option<Fault> {
        let mut inner = self.lock();
        let at = inner.faults.iter().position(fits)?;
        inner.faults.remove(at)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl StateStore for MemoryStore {
    fn kind(&self) -> &'static str {
        "memory"
    }

    fn load(&self) -> Answer<'_, Stored, StoreError> {
        Box::pin(async {
            match self.take_fault(|fault| *fault == Fault::LoadFails) {
                Some(_) => Err(StoreError::Unavailable("a planted fault".to_string())),
                None => Ok(self.load_now()),
            }
        })
    }

    fn commit(&self, batch: Batch) -> Answer<'_, u64, CommitError> {
        Box::pin(async move {
            let unknown = || Err(CommitError::Unknown("a planted fault".to_string()));
            match self.take_fault(|fault| *fault != Fault::LoadFails) {
                None | Some(Fault::LoadFails) => self.commit_now(&batch),
                Some(Fault::Refuse) => Err(CommitError::NotLeader("a planted fault".to_string())),
                Some(Fault::LostAndUnknown) => unknown(),
                Some(Fault::DoneButUnknown) => self.commit_now(&batch).and_then(|_| unknown()),
            }
        })
    }

    fn next_change(&self, after: u64) -> Answer<'_, Change, StoreError> {
        let next = self.recent.next(after);
        Box::pin(async move { Ok(next.await) })
    }

    fn campaign(&self, _name: &str) -> Answer<'_, Box<dyn Leadership>, StoreError> {
        Box::pin(async { Ok(Box::new(Alone) as Box<dyn Leadership>) })
    }

    fn leader(&self) -> Answer<'_, Option<String>, StoreError> {
        Box::pin(async { Ok(None) })
    }
}
