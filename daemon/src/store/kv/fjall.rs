//! The index on disk: fjall, a log-structured merge tree.
//!
//! Large values (inline objects of the gateway live in omaps) go to its value log, so that they are not
//! rewritten with every compaction.

use super::{KvBatch, KvError, KvStore};
use bytes::Bytes;
use fjall::{Database, Keyspace, KeyspaceCreateOptions, KvSeparationOptions, PersistMode};
use std::path::Path;

/// Values from this size on are kept apart from the keys.
const SEPARATION_BYTES_MIN: u32 = 2048;

/// A file of the value log of which this share is dead is rewritten when its keys are merged.
const STALE_SHARE_MAX: f32 = 0.25;

/// Blocks read from disk that are kept.
const CACHE_BYTES: u64 = 8 << 20;

/// New keys are gathered in memory up to here.
const MEMTABLE_BYTES_MAX: u64 = 8 << 20;

/// Its journals together. The smallest that it takes.
const JOURNAL_BYTES_MAX: u64 = 64 << 20;

const FILES_MAX: usize = 128;

/// A [`KvStore`] in a directory.
pub struct FjallKv {
    database: Database,
    keys: Keyspace,
}

impl FjallKv {
    /// Opens or makes the store in a directory of its own.
    pub fn open(directory: &Path) -> Result<FjallKv, KvError> {
        let database = Database::builder(directory)
            .cache_size(CACHE_BYTES)
            .max_journaling_size(JOURNAL_BYTES_MAX)
            .max_cached_files(Some(FILES_MAX))
            .worker_threads(1)
            .manual_journal_persist(true)
            .open()
            .map_err(|e| wrong("open", directory, &e))?;
        // The cut-off by age would leave the youngest three quarters of the stale files alone, and with fewer
        // than four files all of them.
        let separation = KvSeparationOptions::default()
            .separation_threshold(SEPARATION_BYTES_MIN)
            .staleness_threshold(STALE_SHARE_MAX)
            .age_cutoff(1.0);
        let options = || {
            KeyspaceCreateOptions::default()
                .max_memtable_size(MEMTABLE_BYTES_MAX)
                .manual_journal_persist(true)
                .with_kv_separation(Some(separation.clone()))
        };
        let keys = database.keyspace("index", options).map_err(|e| wrong("open", directory, &e))?;
        Ok(FjallKv { database, keys })
    }
}

fn wrong(doing: &str, directory: &Path, e: &fjall::Error) -> KvError {
    KvError(format!("cannot {doing} {}: {e}", directory.display()))
}

fn failed(e: fjall::Error) -> KvError {
    KvError(e.to_string())
}

impl KvStore for FjallKv {
    fn value(&self, key: &[u8]) -> Result<Option<Bytes>, KvError> {
        let value = self.keys.get(key).map_err(failed)?;
        Ok(value.map(|value| Bytes::copy_from_slice(&value)))
    }

    fn length(&self, key: &[u8]) -> Result<Option<u64>, KvError> {
        Ok(self.keys.size_of(key).map_err(failed)?.map(u64::from))
    }

    fn scan(&self, from: &[u8], to: &[u8], max: usize) -> Result<Vec<(Bytes, Bytes)>, KvError> {
        let mut found = Vec::new();
        for guard in self.keys.range(from..to).take(max) {
            let (key, value) = guard.into_inner().map_err(failed)?;
            found.push((Bytes::copy_from_slice(&key), Bytes::copy_from_slice(&value)));
        }
        Ok(found)
    }

    fn write(&self, batch: KvBatch) -> Result<(), KvError> {
        let mut all = self.database.batch();
        for (key, value) in batch {
            match value {
                Some(value) => all.insert(&self.keys, key, &value[..]),
                None => all.remove(&self.keys, key),
            }
        }
        all.commit().map_err(failed)
    }

    fn sync(&self) -> Result<(), KvError> {
        self.database.persist(PersistMode::SyncAll).map_err(failed)
    }

    fn compact(&self) -> Result<(), KvError> {
        // What was removed lately is only in memory until now.
        self.keys.rotate_memtable_and_wait().map_err(failed)?;
        self.keys.major_compact().map_err(failed)?;
        // The first merge finds out which values are dead, the second one leaves them behind.
        if self.keys.fragmented_blob_bytes() > 0 {
            self.keys.major_compact().map_err(failed)?;
        }
        Ok(())
    }

    fn disk_bytes(&self) -> u64 {
        // The journal's file is set aside as a whole and mostly a hole: what is in it counts as the tables.
        self.keys.disk_space()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn compaction_gives_back_what_was_removed() {
        let dir = tempfile::tempdir().expect("a directory");
        let store = FjallKv::open(dir.path()).expect("opens");
        let key = |n: u32| n.to_be_bytes().to_vec();
        // Not compressible.
        let value = |n: u32| {
            let mut x = n.wrapping_mul(2_654_435_761) | 1;
            let mut next = || {
                x ^= x << 13;
                x ^= x >> 17;
                x ^= x << 5;
                x as u8
            };
            Bytes::from((0..16 << 10).map(|_| next()).collect::<Vec<_>>())
        };
        for from in (0..2000).step_by(100) {
            store
                .write((from..from + 100).map(|n| (key(n), Some(value(n)))).collect())
                .expect("room");
        }
        store.sync().expect("durable");
        store.compact().expect("compacts");
        let full = store.disk_bytes();
        assert!(full > 30 << 20, "{full}");
        // Every other one, so that no file of values dies as a whole.
        store.write((0..1000).map(|n| (key(2 * n), None)).collect()).expect("room");
        store.compact().expect("compacts");
        let half = store.disk_bytes();
        assert!(half < full * 2 / 3, "{full} bytes became {half}");
        assert_eq!(store.value(&key(998)).expect("readable"), None);
        assert_eq!(store.value(&key(999)).expect("readable"), Some(value(999)));
        drop(store);
        let store = FjallKv::open(dir.path()).expect("opens again");
        assert_eq!(store.scan(&key(0), &key(u32::MAX), 5000).expect("readable").len(), 1000);
        assert_eq!(store.length(&key(1501)).expect("readable"), Some(16 << 10));
    }
}
