//! The store of a single monitor: the commit log is the truth, sled an index beside it that can be made again.
//!
//! sled 0.34 does not keep what it promises across power loss (its `flush` is no fsync), and may refuse to open
//! after one. So nothing hangs on it: every open compares it with the log; what is behind is brought up, what
//! is damaged or strange is set aside (`index.damaged`) and made again.
//!
//! All blocking work is done by one thread, in order.

use super::commit_log::CommitLog;
use super::recent::Recent;
use super::{
    Alone, Answer, Batch, Change, CommitError, Leadership, StateStore, StoreError, Stored,
};
use bytes::Bytes;
use sled::Transactional;
use sled::transaction::ConflictableTransactionError;
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use store_shell::files;
use tokio::sync::oneshot;

/// Requests that wait for the thread.
const QUEUE_MAX: usize = 64;

/// Larger values are kept in pieces: sled copes badly with large ones.
const PIECE_BYTES_MAX: usize = 256 << 10;

/// Memory that sled may take for its cache.
const CACHE_BYTES: u64 = 4 << 20;

/// The index's own directory in the store's.
const INDEX: &str = "index";

/// Where a damaged index is put; only the newest is kept.
const DAMAGED: &str = "index.damaged";

const VERSION_KEY: &[u8] = b"version";

/// The index: the same as what the log comes to, in sled.
struct Index {
    db: sled::Db,
    entries: sled::Tree,
    meta: sled::Tree,
    path: PathBuf,
}

fn piece_key(key: &str, piece: u32) -> Vec<u8> {
    let mut bytes = key.as_bytes().to_vec();
    bytes.push(0); // keys of entries are text without NUL, so pieces of one stand together
    bytes.extend_from_slice(&piece.to_be_bytes());
    bytes
}

impl Index {
    fn open(path: &Path) -> Result<Index, String> {
        // sled has been seen to panic on damaged files.
        let opened = catch_unwind(AssertUnwindSafe(|| {
            let db = sled::Config::new()
                .path(path)
                .cache_capacity(CACHE_BYTES)
                .flush_every_ms(None)
                .open()?;
            let (entries, meta) = (db.open_tree("entries")?, db.open_tree("meta")?);
            Ok::<_, sled::Error>(Index { db, entries, meta, path: path.to_path_buf() })
        }));
        match opened {
            Ok(Ok(index)) => Ok(index),
            Ok(Err(e)) => Err(e.to_string()),
            Err(_) => Err("it panicked".to_string()),
        }
    }

    /// Everything in it, or what is wrong with it.
    fn read(&self) -> Result<Stored, String> {
        let read = catch_unwind(AssertUnwindSafe(|| self.try_read()));
        read.unwrap_or_else(|_| Err("it panicked".to_string()))
    }

    fn try_read(&self) -> Result<Stored, String> {
        let version = match self.meta.get(VERSION_KEY).map_err(|e| e.to_string())? {
            Some(bytes) => {
                u64::from_be_bytes(bytes.as_ref().try_into().map_err(|_| "a bad version")?)
            }
            None => 0,
        };
        let mut entries: BTreeMap<String, Vec<u8>> = BTreeMap::new();
        for item in self.entries.iter() {
            let (key, value) = item.map_err(|e| e.to_string())?;
            let (name, piece) = key
                .len()
                .checked_sub(5)
                .map(|at| key.split_at(at))
                .filter(|(_, piece)| piece[0] == 0)
                .ok_or("a bad key")?;
            let name = String::from_utf8(name.to_vec()).map_err(|_| "a bad key")?;
            let whole = entries.entry(name).or_default();
            let number = u32::from_be_bytes([piece[1], piece[2], piece[3], piece[4]]);
            if number as usize * PIECE_BYTES_MAX != whole.len() {
                return Err("a piece of a value is missing".to_string());
            }
            whole.extend_from_slice(&value);
        }
        let entries = entries.into_iter().map(|(key, value)| (key, Bytes::from(value)));
        Ok(Stored { version, entries: entries.collect() })
    }

    /// Takes in a batch: whole or not at all.
    fn apply(&self, batch: &Batch) -> Result<(), String> {
        let applied = catch_unwind(AssertUnwindSafe(|| self.try_apply(batch)));
        applied.unwrap_or_else(|_| Err("it panicked".to_string()))
    }

    fn try_apply(&self, batch: &Batch) -> Result<(), String> {
        // A transaction has no scans, so the pieces that are there are found before.
        let mut gone: Vec<sled::IVec> = Vec::new();
        for key in batch.deletes.iter().chain(batch.puts.iter().map(|(key, _)| key)) {
            let mut prefix = key.as_bytes().to_vec();
            prefix.push(0);
            for item in self.entries.scan_prefix(prefix).keys() {
                gone.push(item.map_err(|e| e.to_string())?);
            }
        }
        let done = (&self.entries, &self.meta).transaction(|(entries, meta)| {
            for key in &gone {
                entries.remove(key)?;
            }
            for (key, value) in &batch.puts {
                let pieces = value.len().div_ceil(PIECE_BYTES_MAX).max(1);
                for piece in 0..pieces {
                    let from = piece * PIECE_BYTES_MAX;
                    let to = (from + PIECE_BYTES_MAX).min(value.len());
                    entries.insert(piece_key(key, piece as u32), &value[from..to])?;
                }
            }
            meta.insert(VERSION_KEY, &(batch.expect + 1).to_be_bytes())?;
            Ok::<_, ConflictableTransactionError<()>>(())
        });
        done.map_err(|e| format!("{e:?}"))
    }

    /// Puts it on the medium, as far as that can be had.
    fn sync(&self) -> Result<(), String> {
        let synced = catch_unwind(AssertUnwindSafe(|| {
            self.db.flush().map_err(|e| e.to_string())?;
            // sled's flush is no fsync; an fsync acts on the file, whoever opened it.
            let file = std::fs::File::open(self.path.join("db")).map_err(|e| e.to_string())?;
            file.sync_all().map_err(|e| e.to_string())
        }));
        synced.unwrap_or_else(|_| Err("it panicked".to_string()))
    }
}

/// Everything that the thread owns.
struct Disk {
    log: CommitLog,
    index: Option<Index>,
    directory: PathBuf,
}

impl Disk {
    fn open(directory: &Path) -> Result<Disk, StoreError> {
        let broken = |e: std::io::Error| StoreError::Broken(e.to_string());
        files::make_directory(directory, 0o700).map_err(broken)?;
        let path = directory.join(INDEX);
        let log = CommitLog::open(directory, !path.exists())?;
        let mut disk = Disk { log, index: None, directory: directory.to_path_buf() };
        disk.open_index()?;
        Ok(disk)
    }

    /// Opens the index, sets it aside if it is not what the log says, and makes it again.
    fn open_index(&mut self) -> Result<(), StoreError> {
        let path = self.directory.join(INDEX);
        let is_new = !path.exists();
        let problem = match Index::open(&path).and_then(|index| Ok((index.read()?, index))) {
            Ok((stored, index)) if stored == *self.log.stored() => {
                self.index = Some(index);
                None
            }
            // Behind the log: it lost its end, which it may. Making it again is as quick as catching up.
            Ok((stored, _)) if stored.version < self.log.stored().version => Some(None),
            Ok(_) => Some(Some("it differs from the commit log".to_string())),
            Err(why) => Some(Some(why)),
        };
        if let Some(why) = problem {
            match why {
                Some(why) => {
                    tracing::warn!(why, "the monitor's index is set aside and made again");
                    self.set_aside(&path)?;
                }
                None if !is_new => {
                    tracing::info!("the monitor's index is behind the commit log and made again");
                    self.set_aside(&path)?;
                }
                None => {}
            }
            self.rebuild(&path)?;
        }
        if is_new {
            // A new directory's name must be on the medium too.
            let synced =
                files::sync_directory(&path).and_then(|()| files::sync_directory(&self.directory));
            synced.map_err(|e| StoreError::Broken(e.to_string()))?;
        }
        Ok(())
    }

    fn set_aside(&mut self, path: &Path) -> Result<(), StoreError> {
        self.index = None;
        let aside = self.directory.join(DAMAGED);
        let moved = match std::fs::remove_dir_all(&aside) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(e),
            _ => move_directory(path, &aside),
        };
        moved.map_err(|e| {
            StoreError::Broken(format!(
                "cannot set {} aside: {e}; remove it by hand",
                path.display()
            ))
        })
    }

    fn rebuild(&mut self, path: &Path) -> Result<(), StoreError> {
        let stored = self.log.stored();
        let made = Index::open(path).and_then(|index| {
            if stored.version > 0 {
                let puts = stored.entries.iter();
                let batch = Batch {
                    expect: stored.version - 1,
                    puts: puts.map(|(key, value)| (key.clone(), value.clone())).collect(),
                    deletes: Vec::new(),
                };
                index.apply(&batch)?;
            }
            index.sync()?;
            Ok(index)
        });
        let index = made.map_err(|why| {
            StoreError::Broken(format!("cannot make the index {}: {why}", path.display()))
        })?;
        self.index = Some(index);
        Ok(())
    }

    fn load(&mut self) -> Result<Stored, StoreError> {
        if self.log.is_broken() {
            // A write failed. What is on the medium is read again; a person may have made room meanwhile.
            self.log = CommitLog::open(&self.directory, false)?;
        }
        let from_index = self.index.as_ref().map(Index::read);
        match from_index {
            Some(Ok(stored)) if stored == *self.log.stored() => Ok(stored),
            Some(_) => {
                self.index = None;
                self.open_index()?;
                Ok(self.log.stored().clone())
            }
            None => Ok(self.log.stored().clone()),
        }
    }

    fn commit(&mut self, batch: &Batch) -> Result<u64, CommitError> {
        let version = self.log.append(batch)?;
        // It is committed now, whatever becomes of the index.
        if let Some(index) = &self.index
            && let Err(why) = index.apply(batch)
        {
            tracing::warn!(why, "the monitor's index failed and will be made again");
            self.index = None;
        }
        if self.log.wants_compaction() {
            if let Some(index) = &self.index
                && let Err(why) = index.sync()
            {
                tracing::warn!(why, "the monitor's index could not be synced");
            }
            if let Err(e) = self.log.compact() {
                tracing::warn!(error = %e, "the commit log could not be begun anew and grows on");
            }
        }
        Ok(version)
    }

    fn close(&mut self) {
        if let Some(index) = self.index.take()
            && let Err(why) = index.sync()
        {
            tracing::warn!(why, "the monitor's index could not be synced; it will be made again");
        }
    }
}

#[allow(clippy::disallowed_methods)] // an index that can be made again needs no durable rename
fn move_directory(from: &Path, to: &Path) -> std::io::Result<()> {
    match std::fs::rename(from, to) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

enum Job {
    Load(oneshot::Sender<Result<Stored, StoreError>>),
    Commit(Batch, oneshot::Sender<Result<u64, CommitError>>),
    Close(oneshot::Sender<()>),
}

/// The store. It holds no lock on its directory: the monitor holds one on the directory above.
pub struct SledStore {
    jobs: mpsc::SyncSender<Job>,
    recent: Recent,
}

impl SledStore {
    /// Opens the store in a directory of its own, or makes it. Blocks for as long as the disk takes.
    pub fn open(directory: &Path) -> Result<SledStore, StoreError> {
        let mut disk = Disk::open(directory)?;
        let recent = Recent::new(disk.log.stored().version);
        let told = recent.clone();
        let (jobs, work) = mpsc::sync_channel(QUEUE_MAX);
        let run = move || {
            while let Ok(job) = work.recv() {
                // Who asked may have gone; the work is done all the same.
                match job {
                    Job::Load(reply) => drop(reply.send(disk.load())),
                    Job::Commit(batch, reply) => {
                        let done = disk.commit(&batch);
                        if done.is_ok() {
                            told.push(batch);
                        }
                        drop(reply.send(done));
                    }
                    Job::Close(reply) => {
                        disk.close();
                        let _ = reply.send(());
                        return;
                    }
                }
            }
            disk.close();
        };
        #[allow(clippy::disallowed_methods)] // blocking work off the runtime: the shell's business
        std::thread::Builder::new()
            .name("monitor-state".to_string())
            .spawn(run)
            .map_err(|e| StoreError::Unavailable(format!("cannot start a thread: {e}")))?;
        Ok(SledStore { jobs, recent })
    }

    /// Puts the index on the medium and ends the thread.
    pub async fn close(&self) {
        let (reply, done) = oneshot::channel();
        if self.jobs.try_send(Job::Close(reply)).is_ok() {
            let _ = done.await; // the thread may have ended before
        }
    }

    fn send<T>(
        &self,
        job: impl FnOnce(oneshot::Sender<T>) -> Job,
    ) -> Result<oneshot::Receiver<T>, String> {
        let (reply, done) = oneshot::channel();
        match self.jobs.try_send(job(reply)) {
            Ok(()) => Ok(done),
            Err(mpsc::TrySendError::Full(_)) => Err("the disk is too slow".to_string()),
            Err(mpsc::TrySendError::Disconnected(_)) => Err(GONE.to_string()),
        }
    }
}

const GONE: &str = "the thread of the state store has ended";

impl StateStore for SledStore {
    fn kind(&self) -> &'static str {
        "sled"
    }

    fn load(&self) -> Answer<'_, Stored, StoreError> {
        Box::pin(async {
            let done = self.send(Job::Load).map_err(StoreError::Unavailable)?;
            done.await.unwrap_or_else(|_| Err(StoreError::Broken(GONE.to_string())))
        })
    }

    fn commit(&self, batch: Batch) -> Answer<'_, u64, CommitError> {
        Box::pin(async {
            let done =
                self.send(|reply| Job::Commit(batch, reply)).map_err(CommitError::Unknown)?;
            done.await.unwrap_or_else(|_| Err(CommitError::Unknown(GONE.to_string())))
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

    fn close(&self) -> std::pin::Pin<Box<dyn Future<Output = ()> + Send + '_>> {
        Box::pin(SledStore::close(self))
    }
}

#[cfg(test)]
#[allow(clippy::disallowed_methods)] // tests damage files
mod tests {
    use super::*;

    fn batch(expect: u64, puts: &[(&str, Vec<u8>)]) -> Batch {
        let puts = puts.iter().map(|(key, value)| (key.to_string(), value.clone().into()));
        Batch { expect, puts: puts.collect(), deletes: Vec::new() }
    }

    #[test]
    fn large_values_are_cut_and_shrink_again() {
        let dir = tempfile::tempdir().expect("a directory");
        let index = Index::open(dir.path()).expect("opened");
        let large = vec![7; 3 * PIECE_BYTES_MAX + 5];
        index.apply(&batch(0, &[("k", large.clone()), ("k2", vec![])])).expect("applied");
        let stored = index.read().expect("readable");
        assert_eq!((stored.version, &stored.entries["k"][..]), (1, &large[..]));
        assert_eq!(stored.entries["k2"].len(), 0);
        index.apply(&batch(1, &[("k", vec![1])])).expect("applied");
        assert_eq!(index.read().expect("readable").entries["k"][..], [1]);
        assert_eq!(index.entries.len(), 2, "no piece is left over");
    }

    #[test]
    fn an_index_that_is_behind_strange_damaged_or_gone_is_made_again() {
        let dir = tempfile::tempdir().expect("a directory");
        let mut disk = Disk::open(dir.path()).expect("opened");
        for version in 0..5u8 {
            disk.commit(&batch(u64::from(version), &[("k", vec![version; 1000])]))
                .expect("committed");
        }
        let expected = disk.load().expect("loaded");
        // Ahead of the log: it holds what was never committed.
        disk.index.as_ref().expect("open").apply(&batch(5, &[("k", vec![9])])).expect("applied");
        assert_eq!(disk.load().expect("loaded"), expected);
        assert!(dir.path().join(DAMAGED).exists());
        // Gone.
        drop(disk);
        std::fs::remove_dir_all(dir.path().join(INDEX)).expect("removed");
        let mut disk = Disk::open(dir.path()).expect("opened");
        assert_eq!(disk.load().expect("loaded"), expected);
        // Damaged all over.
        disk.close();
        drop(disk);
        for entry in std::fs::read_dir(dir.path().join(INDEX)).expect("listable").flatten() {
            if entry.path().is_file() {
                let len = entry.metadata().expect("there").len() as usize;
                std::fs::write(entry.path(), vec![0xa5; len]).expect("damaged");
            }
        }
        let mut disk = Disk::open(dir.path()).expect("opened");
        assert_eq!(disk.load().expect("loaded"), expected);
        assert!(disk.index.is_some(), "the index was made again");
        // Behind: the index of an older state, with the log of now.
        disk.close();
        drop(disk);
        let index = dir.path().join(INDEX);
        std::fs::remove_dir_all(&index).expect("removed");
        let older = Index::open(&index).expect("opened");
        older.apply(&batch(0, &[("k", vec![0; 1000])])).expect("applied");
        older.sync().expect("synced");
        drop(older);
        let mut disk = Disk::open(dir.path()).expect("opened");
        assert_eq!(disk.load().expect("loaded"), expected);
        assert_eq!(disk.commit(&batch(5, &[("k", vec![1])])), Ok(6));
    }
}
