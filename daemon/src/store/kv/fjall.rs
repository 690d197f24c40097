//! The index on disk: fjall, a log-structured merge tree.
//!
//! Large values (inline objects of the gateway live in omaps) go to its value log, so that they are not
//! rewritten with every compaction.
//!
//! Every block and every value in its files has a checksum, which it looks at with every read: what rots there
//! is an error and never a wrong answer. A journal is cut off where it does not make sense.

use super::{KvBatch, KvError, KvStore};
use bytes::Bytes;
use fjall::{Database, Keyspace, KeyspaceCreateOptions, KvSeparationOptions, PersistMode};
use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

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
        // It takes some of what it finds in its files for granted; a damaged one must not end the program.
        let opened = std::panic::catch_unwind(|| FjallKv::open_trusting(directory));
        opened.unwrap_or_else(|_| {
            Err(KvError(format!("cannot open {}: its files make no sense", directory.display())))
        })
    }

    /// Opens a copy of what is in a directory, which stays as it is. The files that never change once they
    /// are written are not copied but pointed at; the rest is small. The copy goes with the second value.
    pub fn open_copy(directory: &Path) -> Result<(FjallKv, Scratch), KvError> {
        let unreadable =
            |e: std::io::Error| KvError(format!("cannot read {}: {e}", directory.display()));
        let original = directory.canonicalize().map_err(unreadable)?;
        let scratch = Scratch::make().map_err(|e| {
            KvError(format!("cannot make a copy in {}: {e}", std::env::temp_dir().display()))
        })?;
        mirror(&original, &scratch.0, false).map_err(unreadable)?;
        Ok((FjallKv::open(&scratch.0)?, scratch))
    }

    fn open_trusting(directory: &Path) -> Result<FjallKv, KvError> {
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

/// A directory that goes with its owner.
#[derive(Debug)]
pub struct Scratch(PathBuf);

impl Scratch {
    fn make() -> std::io::Result<Scratch> {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("store-index-{}-{number}", std::process::id());
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir(&path)?;
        Ok(Scratch(path))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // What is left in the directory for temporary files is not worth an error.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Copies a directory. `lasting`: its files never change, and are pointed at.
fn mirror(from: &Path, to: &Path, lasting: bool) -> std::io::Result<()> {
    for entry in std::fs::read_dir(from)? {
        let entry = entry?;
        let (path, copy) = (entry.path(), to.join(entry.file_name()));
        if entry.file_type()?.is_dir() {
            std::fs::create_dir(&copy)?;
            // Tables and files of values; both are written once.
            let name = entry.file_name();
            mirror(&path, &copy, lasting || name == "tables" || name == "blobs")?;
        } else if lasting {
            std::os::unix::fs::symlink(&path, &copy)?;
        } else {
            copy_sparse(&path, &copy)?;
        }
    }
    Ok(())
}

/// Copies a file, holes left out: journals are set aside as a whole and mostly holes.
fn copy_sparse(from: &Path, to: &Path) -> std::io::Result<()> {
    let (mut from, mut to) = (File::open(from)?, File::create(to)?);
    let mut part = vec![0; 1 << 16];
    let mut size = 0;
    loop {
        let read = from.read(&mut part)?;
        if read == 0 {
            return to.set_len(size);
        }
        size += read as u64;
        match part[..read].iter().all(|byte| *byte == 0) {
            true => drop(to.seek(SeekFrom::Current(read as i64))?),
            false => to.write_all(&part[..read])?,
        }
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
