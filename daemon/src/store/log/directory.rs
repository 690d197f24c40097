//! A store on a directory: the lock, the file, the index, the thread.

use super::check::{Digest, Inspection, Object, Report};
use super::{LogStore, Options};
use crate::store::disk::DiskError;
use crate::store::disk::file::{self, Engine, Thread, Wake};
use crate::store::disk::reader::ReadOnly;
use crate::store::kv::fjall::{FjallKv, Scratch};
use crate::store::{Completion, Store, StoreError};
use std::ops::{Deref, DerefMut};
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use store_shell::clock;
use store_shell::files::{DirectoryLock, make_directory, sync_directory};

/// The index's directory within the daemon's.
pub const INDEX_NAME: &str = "index";

/// A directory opened to be looked at: nothing in it is written.
pub struct DirectoryInspection {
    /// What is there.
    pub inspection: Inspection,
    disk: ReadOnly,
    _scratch: Scratch,
    _lock: DirectoryLock,
}

impl DirectoryInspection {
    /// Opens the directory of a daemon that does not run.
    pub fn open(directory: &Path) -> Result<DirectoryInspection, StoreError> {
        let lock = DirectoryLock::acquire_to_read(directory)
            .map_err(|e| StoreError::Failed(e.to_string()))?;
        let mut disk = ReadOnly::open(directory).map_err(|e| StoreError::Failed(e.to_string()))?;
        let copied = FjallKv::open_copy(&directory.join(INDEX_NAME));
        let (kv, scratch) = copied.map_err(|e| StoreError::Damaged(e.to_string()))?;
        let inspection = Inspection::open(&mut disk, Arc::new(kv))?;
        Ok(DirectoryInspection { inspection, disk, _scratch: scratch, _lock: lock })
    }

    /// Reads everything. `each` gets every object.
    pub fn check(
        &mut self,
        digest: &dyn Fn() -> Box<dyn Digest>,
        each: &mut dyn FnMut(Object),
    ) -> Report {
        self.inspection.check(&mut self.disk, digest, each)
    }
}

/// An open store with all that belongs to it. Its descriptor is readable when it wants to be polled.
pub struct DirectoryStore {
    // In this order they end: the engine before the lock.
    store: LogStore,
    wake: Wake,
    _lock: DirectoryLock,
}

impl DirectoryStore {
    /// Opens or makes the store of a daemon in a directory of its own. Errors are one line and say what to
    /// do.
    pub fn open(
        directory: &Path,
        engine: Engine,
        options: Options,
    ) -> Result<DirectoryStore, StoreError> {
        let began = clock::now();
        let io = |e: std::io::Error| StoreError::Failed(e.to_string());
        make_directory(directory, 0o700).map_err(io)?;
        let lock = DirectoryLock::acquire(directory).map_err(io)?;
        let wake = Wake::new().map_err(io)?;
        let disk = file::open(directory, engine, &wake).map_err(|e| match e {
            DiskError::Full(why) => StoreError::Full(why),
            e => StoreError::Failed(e.to_string()),
        })?;
        let index = directory.join(INDEX_NAME);
        let kv = FjallKv::open(&index).map_err(|e| {
            StoreError::Damaged(format!(
                "{e}; if it cannot be read, remove this daemon's directory to have it filled again"
            ))
        })?;
        sync_directory(directory).map_err(io)?;
        let background = Box::new(Thread::start(&wake).map_err(io)?);
        let mut store = LogStore::open(disk, Arc::new(kv), background, options)?;
        store.opened.millis = clock::now().since(began).as_millis() as u64;
        let opened = store.opened();
        tracing::info!(
            millis = opened.millis,
            log_bytes = opened.log_bytes,
            log_bytes_max = store.options.log_bytes_max,
            segments = opened.segments,
            batches = opened.replayed,
            rotten = opened.rotten_groups,
            "the store is open"
        );
        Ok(DirectoryStore { store, wake, _lock: lock })
    }

    /// Reads everything, and puts counts and room right. Only on a store that was just opened.
    pub fn mend(&mut self, digest: &dyn Fn() -> Box<dyn Digest>) -> Result<Report, StoreError> {
        self.store.mend(digest)
    }

    /// Waits until the store wants to be polled, or for so long. For tools; a daemon waits for the
    /// descriptor.
    pub fn wait_for(&self, timeout: Duration) {
        self.wake.wait(timeout);
    }

    /// Makes all that was submitted durable, and waits for it: the clean end of a daemon. With
    /// `checkpoint`, the next start has nothing to replay.
    pub fn close(mut self, checkpoint: bool) -> Vec<Completion> {
        /// Waiting for a disk that does not answer ends here.
        const TURNS_MAX: u32 = 600;
        let mut done = Vec::new();
        self.store.flush();
        if checkpoint {
            self.store.checkpoint();
        }
        for _ in 0..TURNS_MAX {
            self.store.poll(&mut done);
            if self.store.is_idle() || matches!(done.last(), Some(Completion::Failed { .. })) {
                break;
            }
            self.wake.wait(Duration::from_millis(50));
        }
        done
    }
}

impl Deref for DirectoryStore {
    type Target = LogStore;

    fn deref(&self) -> &LogStore {
        &self.store
    }
}

impl DerefMut for DirectoryStore {
    fn deref_mut(&mut self) -> &mut LogStore {
        &mut self.store
    }
}

impl AsFd for DirectoryStore {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.wake.as_fd()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::disallowed_methods)] // damages a file by hand

    use super::*;
    use crate::store::disk::BLOCK_BYTES;
    use crate::store::disk::file::FILE_NAME;
    use crate::store::{Change, LogEntry, Mutation, Write};
    use bytes::Bytes;
    use store_base::object::ObjectInfo;
    use store_base::{ClusterId, DaemonId, Interval, ObjectName, PgId, Ticket, Version};

    fn options() -> Options {
        Options::new(ClusterId([1; 16]), DaemonId(0), ClusterId([2; 16]), 1 << 30)
    }

    fn until(store: &mut DirectoryStore, ticket: Ticket) -> Option<Result<Bytes, StoreError>> {
        let mut done = Vec::new();
        for _ in 0..2000 {
            store.poll(&mut done);
            for one in done.drain(..) {
                match one {
                    Completion::Stored { ticket: stored } if stored == ticket => return None,
                    Completion::Read { ticket: read, result } if read == ticket => {
                        return Some(result);
                    }
                    Completion::Failed { error } => panic!("{error}"),
                    _ => {}
                }
            }
            store.wait_for(Duration::from_millis(100));
        }
        panic!("no answer");
    }

    fn data(n: u64) -> Bytes {
        let len = [100, 4096, 65_536, 65_537, 3_000_000][n as usize % 5];
        (0..len).map(|i| (i as u64 * (n + 3) / 7) as u8).collect::<Vec<_>>().into()
    }

    fn write(n: u64) -> Vec<Write> {
        let version = Version { interval: Interval(1), counter: n };
        let info = ObjectInfo { size: data(n).len() as u64, ..ObjectInfo::default() };
        let omap = [(Bytes::from(format!("{n:04}")), Some(data(n % 3)))].into();
        let changes = vec![Change::Write { offset: 0, data: data(n) }, Change::Omap { set: omap }];
        let entry = LogEntry {
            version,
            object: ObjectName::new(format!("o{}", n % 7).into_bytes()),
            mutation: Some(Mutation { changes, info: Some(info) }),
            ..LogEntry::default()
        };
        let pg = PgId::default();
        vec![Write::Stage { pg, entry }, Write::Apply { pg, to: version, except: vec![] }]
    }

    fn check_engine(engine: Engine, name: &str) {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("osd.0");
        let pg = PgId::default();
        for life in 0..3u64 {
            let mut store = DirectoryStore::open(&path, engine, options()).expect("opens");
            assert!(store.engine().starts_with(name), "{}", store.engine());
            assert_eq!(store.opened().created, life == 0);
            for n in 0..7 * life.min(1) {
                let object = ObjectName::new(format!("o{n}").into_bytes());
                let last = (life * 40 - 39..=life * 40).filter(|m| m % 7 == n).max().expect("some");
                store.read(Ticket(5), pg, &object, 0, 0);
                assert_eq!(until(&mut store, Ticket(5)), Some(Ok(data(last))));
                assert_eq!(
                    store.omap(pg, &object, format!("{last:04}").as_bytes()),
                    Ok(Some(data(last % 3)))
                );
            }
            store.submit(None, vec![Write::CreatePg { pg }]).expect("room");
            for n in life * 40 + 1..=life * 40 + 40 {
                store.submit(Some(Ticket(n)), write(n)).expect("room");
                if n % 9 == 0 {
                    until(&mut store, Ticket(n));
                }
            }
            until(&mut store, Ticket(life * 40 + 40));
            if life == 1 {
                store.close(true);
            }
        }
    }

    #[test]
    fn threads_keep_what_they_stored() {
        check_engine(Engine::Threads, "threads");
    }

    #[test]
    fn io_uring_keeps_what_it_stored() {
        let dir = tempfile::tempdir().expect("a directory");
        match DirectoryStore::open(dir.path(), Engine::Uring, options()) {
            Ok(store) => drop(store),
            // A container that refuses io_uring: the other engine's test says enough.
            Err(e) => return assert!(e.to_string().contains("refused"), "{e}"),
        }
        check_engine(Engine::Uring, "io_uring");
    }

    #[test]
    fn a_second_opener_and_a_damaged_file_are_told_what_to_do() {
        let dir = tempfile::tempdir().expect("a directory");
        let store = DirectoryStore::open(dir.path(), Engine::Threads, options()).expect("opens");
        let error =
            DirectoryStore::open(dir.path(), Engine::Threads, options()).err().expect("locked");
        assert!(error.to_string().contains("is in use by pid"), "{error}");
        drop(store);
        let mut bytes = std::fs::read(dir.path().join(FILE_NAME)).expect("the file");
        bytes[20] ^= 1;
        bytes[65_536 + 20] ^= 1;
        std::fs::write(dir.path().join(FILE_NAME), &bytes).expect("writable");
        let error =
            DirectoryStore::open(dir.path(), Engine::Threads, options()).err().expect("damaged");
        assert!(error.to_string().contains("both superblocks are damaged"), "{error}");
        assert_eq!(bytes.len() % BLOCK_BYTES, 0);
    }

    #[test]
    fn a_batch_without_ticket_becomes_durable_by_itself() {
        let dir = tempfile::tempdir().expect("a directory");
        let mut store = DirectoryStore::open(dir.path(), Engine::Probe, options()).expect("opens");
        store.submit(None, vec![Write::CreatePg { pg: PgId::default() }]).expect("room");
        let mut done = Vec::new();
        for _ in 0..100 {
            store.poll(&mut done);
            if store.is_idle() {
                break;
            }
            store.wait_for(Duration::from_millis(100));
        }
        assert_eq!((store.is_idle(), store.counters().batches), (true, 1));
        drop(store);
        let store = DirectoryStore::open(dir.path(), Engine::Probe, options()).expect("opens");
        assert_eq!(store.pgs(), [PgId::default()]);
    }

    /// Small objects of services live in omaps, whose values the index's own files hold: they must give their
    /// room back too, and without anybody who asks for it.
    #[test]
    fn room_comes_back_from_omap_values() {
        let dir = tempfile::tempdir().expect("a directory");
        let mut all = options();
        all.capacity = 96 << 20;
        all.reserve_bytes = 3 << 20;
        all.log_bytes_max = 8 << 20;
        all.segment_bytes_max = 4 << 20;
        let mut store = DirectoryStore::open(dir.path(), Engine::Probe, all).expect("opens");
        let pg = PgId::default();
        store.submit(None, vec![Write::CreatePg { pg }]).expect("room");
        let (mut counter, mut key, mut kept, mut fitted) = (0, 0u64, Vec::new(), Vec::new());
        let mut set = |store: &mut DirectoryStore, key: u64, value: Option<Bytes>| {
            counter += 1;
            let version = Version { interval: Interval(1), counter };
            let count = Some(Bytes::from(counter.to_string()));
            let set = [(Bytes::from(format!("{key:08}")), value), ("count".into(), count)].into();
            let info = Some(ObjectInfo::default());
            let mutation = Some(Mutation { changes: vec![Change::Omap { set }], info });
            let object = ObjectName::new("bucket");
            let entry = LogEntry { version, object, mutation, ..LogEntry::default() };
            let apply = Write::Apply { pg, to: version, except: vec![] };
            let trim = Write::TrimLog { pg, to: version };
            store.submit(Some(Ticket(counter)), vec![Write::Stage { pg, entry }, apply, trim])
        };
        let rest = |store: &mut DirectoryStore| {
            let mut done = Vec::new();
            for _ in 0..2000 {
                store.poll(&mut done);
                assert!(!matches!(done.last(), Some(Completion::Failed { .. })), "{done:?}");
                done.clear();
                if store.is_idle() {
                    return;
                }
                store.wait_for(Duration::from_millis(20));
            }
            panic!("the store does not come to rest");
        };
        for round in 0..3 {
            let mut refused = 0;
            while refused < 5 {
                key += 1;
                // Not compressible, as far as the index tries.
                let mut x = key.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
                let value = (0..4 << 10).flat_map(|_| {
                    x ^= x << 13;
                    x ^= x >> 7;
                    x ^= x << 17;
                    x.to_le_bytes()
                });
                match set(&mut store, key, Some(value.collect::<Vec<u8>>().into())) {
                    Ok(()) => kept.push(key),
                    Err(StoreError::Full(_)) => refused += 1,
                    Err(e) => panic!("round {round}: {e}"),
                }
                if key.is_multiple_of(16) || refused > 0 {
                    rest(&mut store);
                }
            }
            let usage = store.usage();
            assert!(usage.used_bytes * 1000 >= usage.capacity_bytes * 950, "{usage:?}");
            fitted.push(kept.len());
            let gone: Vec<u64> = kept.iter().copied().step_by(2).collect();
            kept = kept.into_iter().skip(1).step_by(2).collect();
            for (i, key) in gone.into_iter().enumerate() {
                set(&mut store, key, None).unwrap_or_else(|e| panic!("round {round}, delete: {e}"));
                if i % 16 == 0 {
                    rest(&mut store);
                }
            }
            // Nobody writes: room comes back all the same, on a busy machine slowly.
            for _ in 0..2400 {
                rest(&mut store);
                if store.usage().used_bytes * 10 < usage.used_bytes * 8 {
                    break;
                }
                store.wait_for(Duration::from_millis(50));
            }
            let now = store.usage();
            assert!(now.used_bytes * 10 < usage.used_bytes * 8, "round {round}: {usage:?} {now:?}");
        }
        assert!(fitted[2] * 10 >= fitted[0] * 8, "{fitted:?}");
    }
}
