//! The ordered store under the engine's index: a small trait, and a memory form for simulation.
//!
//! It is never on the way to an answer. Batches are atomic; they become durable with the next `sync`, and
//! after a crash the store shows some prefix of the batches that has at least those synced.

#[cfg(feature = "shell")]
pub mod fjall;

use bytes::Bytes;
use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::{Arc, Mutex};

/// An index that cannot be read or written any more. The daemon says so and is filled again as a learner.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("index: {0}")]
pub struct KvError(pub String);

/// Keys with their new values; `None` removes.
pub type KvBatch = Vec<(Vec<u8>, Option<Bytes>)>;

/// An ordered map of bytes that lasts.
pub trait KvStore: Send + Sync {
    /// One value.
    fn value(&self, key: &[u8]) -> Result<Option<Bytes>, KvError>;

    /// The length of one value.
    fn length(&self, key: &[u8]) -> Result<Option<u64>, KvError>;

    /// At most `max` entries of `from` (included) to `to` (excluded), ascending.
    fn scan(&self, from: &[u8], to: &[u8], max: usize) -> Result<Vec<(Bytes, Bytes)>, KvError>;

    /// Writes a batch, whole or not at all.
    fn write(&self, batch: KvBatch) -> Result<(), KvError>;

    /// Makes all batches durable.
    fn sync(&self) -> Result<(), KvError>;

    /// Gives back the space of what was removed. May take long.
    fn compact(&self) -> Result<(), KvError>;

    /// Bytes on the medium.
    fn disk_bytes(&self) -> u64;
}

#[derive(Clone, Debug, Default)]
struct Memory {
    live: BTreeMap<Bytes, Bytes>,
    /// How to get back to what was synced, newest last.
    undo: Vec<Vec<(Bytes, Option<Bytes>)>>,
    /// Calls of `write` and `sync` so far, and from which one on the power is gone.
    calls: u64,
    calls_max: Option<u64>,
}

impl Memory {
    fn call(&mut self) -> Result<(), KvError> {
        if self.calls_max.is_some_and(|max| self.calls >= max) {
            return Err(KvError("the power is gone".into()));
        }
        self.calls += 1;
        Ok(())
    }
}

/// The memory form. Clones are the same store.
#[derive(Clone, Debug, Default)]
pub struct MemoryKv(Arc<Mutex<Memory>>);

impl MemoryKv {
    /// The power goes: of the batches since the last sync, the first `keep` survive.
    pub fn crash(&self, keep: usize) {
        let mut memory = self.memory();
        while memory.undo.len() > keep {
            for (key, value) in memory.undo.pop().into_iter().flatten().rev() {
                match value {
                    Some(value) => memory.live.insert(key, value),
                    None => memory.live.remove(&key),
                };
            }
        }
        memory.undo.clear();
        memory.calls_max = None;
    }

    /// Another store with the same content, synced as far.
    pub fn branch(&self) -> MemoryKv {
        MemoryKv(Arc::new(Mutex::new(self.memory().clone())))
    }

    /// The power goes after so many calls of `write` and `sync`: the next ones do nothing and fail.
    pub fn stop_after(&self, calls: u64) {
        self.memory().calls_max = Some(calls);
    }

    /// Calls of `write` and `sync` so far.
    pub fn calls(&self) -> u64 {
        self.memory().calls
    }

    /// Batches since the last sync.
    pub fn unsynced(&self) -> usize {
        self.memory().undo.len()
    }

    /// Entries.
    pub fn len(&self) -> usize {
        self.memory().live.len()
    }

    /// Whether there is nothing.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn memory(&self) -> std::sync::MutexGuard<'_, Memory> {
        self.0.lock().expect("no holder of this lock panics")
    }
}

impl KvStore for MemoryKv {
    fn value(&self, key: &[u8]) -> Result<Option<Bytes>, KvError> {
        Ok(self.memory().live.get(key).cloned())
    }

    fn length(&self, key: &[u8]) -> Result<Option<u64>, KvError> {
        Ok(self.memory().live.get(key).map(|value| value.len() as u64))
    }

    fn scan(&self, from: &[u8], to: &[u8], max: usize) -> Result<Vec<(Bytes, Bytes)>, KvError> {
        let memory = self.memory();
        let range = (Bound::Included(from), Bound::Excluded(to));
        let found = memory.live.range::<[u8], _>(range).take(max);
        Ok(found.map(|(key, value)| (key.clone(), value.clone())).collect())
    }

    fn write(&self, batch: KvBatch) -> Result<(), KvError> {
        let mut memory = self.memory();
        memory.call()?;
        let mut undo = Vec::with_capacity(batch.len());
        for (key, value) in batch {
            let key = Bytes::from(key);
            let before = match value {
                Some(value) => memory.live.insert(key.clone(), value),
                None => memory.live.remove(&key),
            };
            undo.push((key, before));
        }
        memory.undo.push(undo);
        Ok(())
    }

    fn sync(&self) -> Result<(), KvError> {
        let mut memory = self.memory();
        memory.call()?;
        memory.undo.clear();
        Ok(())
    }

    fn compact(&self) -> Result<(), KvError> {
        Ok(())
    }

    fn disk_bytes(&self) -> u64 {
        self.memory().live.iter().map(|(key, value)| (key.len() + value.len()) as u64).sum()
    }
}
