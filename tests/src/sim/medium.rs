//! The disks of simulated daemons: the reference engine in memory, or the real engine on a simulated disk.

use crate::sim::random::Random;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;
use store_base::{ClusterId, DaemonId, PgId, Version};
use store_daemon::store::disk::simulated::SimulatedMedium;
use store_daemon::store::kv::MemoryKv;
use store_daemon::store::log::background::Inline;
use store_daemon::store::log::{LogStore, Options};
use store_daemon::store::memory::{self, MemoryStore};
use store_daemon::store::{Store, StoreError};

/// Room on each medium; runs come nowhere near it unless a step makes it full.
const CAPACITY_BYTES: u64 = 1 << 40;

/// A full disk still has this much for an empty store: without it a daemon cannot even begin.
const FULL_BYTES: u64 = 4 << 20;

/// What survives a crash.
#[derive(Clone, Debug)]
pub enum Medium {
    /// Of the reference engine.
    Memory(memory::Medium),
    /// Of the real one: the disk, and what its index is kept in.
    Disk {
        /// Loses, tears and reorders what was not flushed.
        disk: SimulatedMedium,
        /// Loses what was not synced.
        index: MemoryKv,
    },
}

impl Medium {
    /// An empty one.
    pub fn new(real_engine: bool, random: &mut Random) -> Medium {
        if real_engine {
            let disk = SimulatedMedium::new(random.any(), CAPACITY_BYTES);
            return Medium::Disk { disk, index: MemoryKv::default() };
        }
        let medium = memory::Medium::new();
        medium.set_capacity(CAPACITY_BYTES);
        Medium::Memory(medium)
    }

    /// Opens what is there.
    pub fn open(&self) -> Result<AnyStore, StoreError> {
        match self {
            Medium::Memory(medium) => Ok(AnyStore::Memory(MemoryStore::open(medium))),
            Medium::Disk { disk, index } => {
                let id = ClusterId([7; 16]);
                // Small segments: cleaning, checkpoints and growth happen in a short run.
                let options = Options {
                    segment_bytes_min: 128 << 10,
                    segment_bytes_max: 256 << 10,
                    log_bytes_max: 1 << 20,
                    reserve_bytes: 2 << 20,
                    dirty_bytes_max: 200 << 10,
                    grow_bytes_min: 1 << 20,
                    ..Options::new(id, DaemonId(-1), id, CAPACITY_BYTES)
                };
                disk.hold(false);
                let background = Box::new(Inline::default());
                let index = Arc::new(index.clone());
                let store = LogStore::open(Box::new(disk.open()), index, background, options);
                disk.hold(true);
                store.map(|store| AnyStore::Disk(Box::new(store)))
            }
        }
    }

    /// The disk does a little of what it was asked.
    pub fn work(&self, random: &mut Random) {
        for _ in 0..=random.below(4) {
            match self {
                Medium::Memory(medium) => {
                    medium.complete_next();
                    medium.complete_next_read();
                }
                Medium::Disk { disk, .. } => {
                    disk.step();
                }
            }
        }
    }

    /// The disk does all that it was asked.
    pub fn work_all(&self) {
        match self {
            Medium::Memory(medium) => medium.complete_all(),
            Medium::Disk { disk, .. } => while disk.step() {},
        }
    }

    /// The power goes. Says what became of what was not durable.
    pub fn crash(&self, random: &mut Random) -> String {
        match self {
            Medium::Memory(medium) => {
                let pending = medium.pending() as u64;
                let keep = random.below(pending + 1) as usize;
                medium.crash(keep);
                format!("{keep} of {pending} unconfirmed batches survive")
            }
            Medium::Disk { disk, index } => {
                disk.reseed(random.any());
                disk.crash();
                let unsynced = index.unsynced() as u64;
                let keep = random.below(unsynced + 1) as usize;
                index.crash(keep);
                format!(
                    "unflushed sectors by chance, {keep} of {unsynced} batches of the index survive"
                )
            }
        }
    }

    /// Whether there is no room but for deletes.
    pub fn set_full(&self, full: bool) {
        match self {
            Medium::Memory(medium) => medium.set_full(full),
            Medium::Disk { disk, .. } => {
                disk.set_size_max(if full { FULL_BYTES } else { CAPACITY_BYTES });
            }
        }
    }

    /// Whether an entry is in the log for good; `None` if this medium cannot be asked.
    pub fn has_entry(&self, pg: PgId, version: Version) -> Option<bool> {
        match self {
            Medium::Memory(medium) => Some(medium.has_entry(pg, version)),
            Medium::Disk { .. } => None,
        }
    }
}

/// One life of a store on a [`Medium`].
pub enum AnyStore {
    /// The reference engine.
    Memory(MemoryStore),
    /// The real one.
    Disk(Box<LogStore>),
}

impl AnyStore {
    /// Whether there is anything under way.
    pub fn is_busy(&self) -> bool {
        match self {
            AnyStore::Memory(store) => {
                store.medium().pending() + store.medium().pending_reads() > 0
            }
            AnyStore::Disk(store) => !store.is_idle(),
        }
    }

    /// Makes all durable that was asked for, before a planned end.
    pub fn settle(&mut self, medium: &Medium) {
        /// Polls after which something is wrong.
        const POLLS_MAX: usize = 100_000;
        if let AnyStore::Disk(store) = self {
            store.flush();
        }
        let mut done = Vec::new();
        for _ in 0..POLLS_MAX {
            if !self.is_busy() {
                break;
            }
            medium.work_all();
            self.poll(&mut done);
        }
    }
}

impl Deref for AnyStore {
    type Target = dyn Store;

    fn deref(&self) -> &Self::Target {
        match self {
            AnyStore::Memory(store) => store,
            AnyStore::Disk(store) => &**store,
        }
    }
}

impl DerefMut for AnyStore {
    fn deref_mut(&mut self) -> &mut Self::Target {
        match self {
            AnyStore::Memory(store) => store,
            AnyStore::Disk(store) => &mut **store,
        }
    }
}
