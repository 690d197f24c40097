//! The truth of a monitor with a disk: an append-only file of batches, synced one by one.
//!
//! ```text
//! file    commit-<version, 20 digits>.log: a snapshot record, then batch records
//! record  4  "SMc1"
//!         1  kind: 1 snapshot (Stored), 2 batch (Batch)
//!         4  length of the body, little endian
//!         4  CRC-32C of kind, length and body
//!         n  body, in the codec of store-base
//! ```
//! What may never change: the head of a record and the two kinds.
//!
//! Invariants:
//! - A batch is answered only when its record is synced, and the next record is written only then. So at most
//!   the last record is torn, and it was never answered: opening cuts it off.
//! - A record that is bad and has good ones behind it is damage, and is said, not cut off.
//! - After a failed write or sync nothing is written any more: what the file holds is not known until it is
//!   read again.
//! - The file begun by compaction is complete and synced before it gets its name; only then the old one goes.
//!
//! Assumed of the medium: a synced file keeps its bytes; a rename in a synced directory is whole or not done.
#![allow(clippy::disallowed_methods)] // the one place of the monitor that writes a log

use super::{Batch, CommitError, StoreError, Stored};
use bytes::{BufMut, Bytes};
use std::fs::{self, File, OpenOptions};
use std::io::{Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use store_base::codec::{Decode, Encode};
use store_shell::files;

const MAGIC: &[u8; 4] = b"SMc1";
const HEAD_BYTES: usize = 13;
const KIND_SNAPSHOT: u8 = 1;
const KIND_BATCH: u8 = 2;

/// A log is begun anew when it is this large and mostly history.
pub const COMPACT_BYTES_MIN: u64 = 4 << 20;

/// The largest log that is read.
pub const LOG_BYTES_MAX: u64 = 2 << 30;

/// The log, open for appending, and what it comes to.
#[derive(Debug)]
pub struct CommitLog {
    directory: PathBuf,
    path: PathBuf,
    file: File,
    len: u64,
    snapshot_len: u64,
    stored: Stored,
    broken: Option<String>,
}

impl CommitLog {
    /// Opens the log in a directory, or begins one. `fresh_is_fine` is false where something beside the log
    /// shows that there must be one.
    pub fn open(directory: &Path, fresh_is_fine: bool) -> Result<CommitLog, StoreError> {
        let Some(path) = newest(directory)? else {
            if !fresh_is_fine {
                return Err(StoreError::Broken(format!(
                    "{} holds an index and no commit log, which is the truth: restore commit-*.log, or start \
                     with an empty directory",
                    directory.display()
                )));
            }
            return CommitLog::begin(directory, Stored::default());
        };
        let broken = |e: std::io::Error| StoreError::Broken(e.to_string());
        let bytes: Bytes = files::read_bounded(&path, LOG_BYTES_MAX).map_err(broken)?.into();
        let (stored, good, snapshot_len) = replay(&path, &bytes)?;
        let mut file = OpenOptions::new().read(true).write(true).open(&path).map_err(broken)?;
        if (good as u64) < bytes.len() as u64 {
            tracing::warn!(
                file = %path.display(),
                bytes = bytes.len() - good,
                "a record that was never acknowledged is cut off the commit log"
            );
            file.set_len(good as u64).and_then(|()| file.sync_all()).map_err(broken)?;
        }
        file.seek(SeekFrom::Start(good as u64)).map_err(broken)?;
        let log = CommitLog {
            directory: directory.to_path_buf(),
            len: good as u64,
            snapshot_len,
            stored,
            broken: None,
            file,
            path,
        };
        log.remove_others();
        Ok(log)
    }

    fn begin(directory: &Path, stored: Stored) -> Result<CommitLog, StoreError> {
        let (path, file, len) = write_snapshot(directory, &stored)
            .map_err(|e| StoreError::Broken(format!("cannot begin a commit log: {e}")))?;
        Ok(CommitLog {
            directory: directory.to_path_buf(),
            path,
            file,
            len,
            snapshot_len: len,
            stored,
            broken: None,
        })
    }

    /// What all records come to.
    pub fn stored(&self) -> &Stored {
        &self.stored
    }

    /// Bytes of the log.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Whether nothing was ever committed.
    pub fn is_empty(&self) -> bool {
        self.stored.version == 0
    }

    /// Whether a write failed. Only opening it anew helps.
    pub fn is_broken(&self) -> bool {
        self.broken.is_some()
    }

    /// Appends a batch. When this returns, it is on the medium.
    pub fn append(&mut self, batch: &Batch) -> Result<u64, CommitError> {
        if let Some(why) = &self.broken {
            return Err(CommitError::Broken(why.clone()));
        }
        batch.check()?;
        let have = self.stored.version;
        if batch.expect != have {
            return Err(CommitError::Conflict { expect: batch.expect, have });
        }
        let bytes = record(KIND_BATCH, &batch.to_bytes());
        let written = self.file.write_all(&bytes).and_then(|()| self.file.sync_data());
        if let Err(e) = written {
            let why = format!(
                "cannot write {}: {e}; make room or replace the disk, then restart the monitor",
                self.path.display()
            );
            self.broken = Some(why.clone());
            return Err(CommitError::Unknown(why));
        }
        self.len += bytes.len() as u64;
        self.stored.apply(batch);
        Ok(self.stored.version)
    }

    /// Whether the log is mostly history.
    pub fn wants_compaction(&self) -> bool {
        self.broken.is_none() && self.len > COMPACT_BYTES_MIN.max(4 * self.snapshot_len)
    }

    /// Begins the log anew with a snapshot. A failure leaves the old one in use.
    pub fn compact(&mut self) -> std::io::Result<()> {
        let (path, file, len) = write_snapshot(&self.directory, &self.stored)?;
        (self.path, self.file, self.len, self.snapshot_len) = (path, file, len, len);
        self.remove_others();
        Ok(())
    }

    /// Removes older logs and files that were never finished.
    fn remove_others(&self) {
        let names = fs::read_dir(&self.directory).into_iter().flatten().flatten();
        for entry in names {
            let path = entry.path();
            let ours = entry
                .file_name()
                .to_str()
                .is_some_and(|name| version_of(name).is_some() || name.ends_with(".log.new"));
            if ours
                && path != self.path
                && let Err(e) = fs::remove_file(&path)
            {
                tracing::warn!(file = %path.display(), error = %e, "an old commit log stays");
            }
        }
    }
}

fn version_of(name: &str) -> Option<u64> {
    name.strip_prefix("commit-")?.strip_suffix(".log")?.parse().ok()
}

fn newest(directory: &Path) -> Result<Option<PathBuf>, StoreError> {
    let names = fs::read_dir(directory).map_err(|e| {
        StoreError::Broken(format!("cannot read the directory {}: {e}", directory.display()))
    })?;
    let mut found: Vec<(u64, PathBuf)> = names
        .flatten()
        .filter_map(|entry| Some((version_of(entry.file_name().to_str()?)?, entry.path())))
        .collect();
    found.sort();
    Ok(found.pop().map(|(_, path)| path))
}

fn write_snapshot(directory: &Path, stored: &Stored) -> std::io::Result<(PathBuf, File, u64)> {
    let path = directory.join(format!("commit-{:020}.log", stored.version));
    let fresh = directory.join(format!("commit-{:020}.log.new", stored.version));
    let bytes = record(KIND_SNAPSHOT, &stored.to_bytes());
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&fresh)?;
    file.write_all(&bytes)?;
    file.sync_all()?;
    fs::rename(&fresh, &path)?;
    files::sync_directory(directory)?;
    Ok((path, file, bytes.len() as u64))
}

fn record(kind: u8, body: &[u8]) -> Vec<u8> {
    let len = u32::try_from(body.len()).expect("values are bounded far below 4 GiB");
    let mut bytes = Vec::with_capacity(HEAD_BYTES + body.len());
    bytes.put_slice(MAGIC);
    bytes.put_u8(kind);
    bytes.put_u32_le(len);
    bytes.put_u32_le(checksum(kind, body));
    bytes.put_slice(body);
    bytes
}

fn checksum(kind: u8, body: &[u8]) -> u32 {
    let mut digest = crc_fast::Digest::new(crc_fast::CrcAlgorithm::Crc32Iscsi);
    digest.update(&[kind]);
    digest.update(&(body.len() as u64).to_le_bytes());
    digest.update(body);
    digest.finalize() as u32
}

/// A good record at the start of `bytes`: its kind, its body, its whole length.
fn take_record(bytes: &Bytes) -> Option<(u8, Bytes, usize)> {
    if bytes.len() < HEAD_BYTES || &bytes[..4] != MAGIC {
        return None;
    }
    let number =
        |at: usize| u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
    let (kind, len, sum) = (bytes[4], number(5) as usize, number(9));
    let end = HEAD_BYTES.checked_add(len).filter(|end| *end <= bytes.len())?;
    let body = bytes.slice(HEAD_BYTES..end);
    (checksum(kind, &body) == sum).then_some((kind, body, end))
}

/// What the records come to, where the good ones end, and the length of the snapshot.
fn replay(path: &Path, bytes: &Bytes) -> Result<(Stored, usize, u64), StoreError> {
    let damaged = |at: usize, what: &str| {
        StoreError::Broken(format!(
            "{} is damaged at byte {at}: {what}; restore it from a backup, or rebuild the maps from the \
             daemons",
            path.display()
        ))
    };
    let (kind, body, mut at) =
        take_record(bytes).ok_or_else(|| damaged(0, "it does not begin with a good snapshot"))?;
    if kind != KIND_SNAPSHOT {
        return Err(damaged(0, "it does not begin with a snapshot"));
    }
    let mut stored = Stored::from_bytes(body).map_err(|e| damaged(0, &e.to_string()))?;
    let snapshot_len = at as u64;
    while at < bytes.len() {
        let rest = bytes.slice(at..);
        let Some((kind, body, len)) = take_record(&rest) else {
            if has_record_within(&rest) {
                return Err(damaged(at, "a record is bad and there are good ones behind it"));
            }
            break;
        };
        let batch = match kind {
            KIND_BATCH => Batch::from_bytes(body).map_err(|e| damaged(at, &e.to_string()))?,
            _ => return Err(damaged(at, "a record of unknown kind")),
        };
        if batch.expect != stored.version {
            return Err(damaged(at, "a batch does not follow the one before"));
        }
        stored.apply(&batch);
        at += len;
    }
    Ok((stored, at, snapshot_len))
}

/// Whether a good record begins anywhere behind the first byte.
fn has_record_within(bytes: &Bytes) -> bool {
    let starts = bytes.windows(MAGIC.len()).enumerate().skip(1);
    starts
        .filter(|(_, window)| *window == MAGIC)
        .any(|(at, _)| take_record(&bytes.slice(at..)).is_some())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(log: &mut CommitLog, key: &str, value: &[u8]) {
        let batch = Batch {
            expect: log.stored().version,
            puts: vec![(key.to_string(), Bytes::copy_from_slice(value))],
            deletes: Vec::new(),
        };
        log.append(&batch).expect("appended");
    }

    fn only_file(directory: &Path) -> PathBuf {
        let files: Vec<_> = fs::read_dir(directory).expect("listable").flatten().collect();
        assert_eq!(files.len(), 1, "{files:?}");
        files[0].path()
    }

    #[test]
    fn every_cut_of_the_last_record_is_survived_and_loses_only_that() {
        let dir = tempfile::tempdir().expect("a directory");
        let mut log = CommitLog::open(dir.path(), true).expect("begun");
        put(&mut log, "a", b"1");
        let good = log.len();
        put(&mut log, "a", b"2");
        let path = only_file(dir.path());
        let whole = fs::read(&path).expect("readable");
        for cut in good as usize..=whole.len() {
            fs::write(&path, &whole[..cut]).expect("written");
            let mut log = CommitLog::open(dir.path(), true).expect("opened");
            let expected: &[u8] = if cut == whole.len() { b"2" } else { b"1" };
            assert_eq!(log.stored().entries["a"], expected, "cut at {cut}");
            put(&mut log, "b", b"3");
            let again = CommitLog::open(dir.path(), true).expect("opened again");
            assert_eq!(again.stored(), log.stored());
        }
    }

    #[test]
    fn damage_before_the_end_is_said_and_not_cut_off() {
        let dir = tempfile::tempdir().expect("a directory");
        let mut log = CommitLog::open(dir.path(), true).expect("begun");
        let snapshot = log.len() as usize;
        put(&mut log, "a", b"1");
        put(&mut log, "a", b"2");
        let path = only_file(dir.path());
        let mut bytes = fs::read(&path).expect("readable");
        bytes[snapshot + HEAD_BYTES] ^= 1;
        fs::write(&path, &bytes).expect("written");
        let error = CommitLog::open(dir.path(), true).expect_err("damaged").to_string();
        assert!(error.contains("good ones behind it"), "{error}");
        bytes[snapshot + HEAD_BYTES] ^= 1;
        bytes[HEAD_BYTES] ^= 1;
        fs::write(&path, &bytes).expect("written");
        assert!(CommitLog::open(dir.path(), true).is_err(), "the snapshot is damaged");
    }

    #[test]
    fn compaction_keeps_all_and_leaves_one_file() {
        let dir = tempfile::tempdir().expect("a directory");
        let mut log = CommitLog::open(dir.path(), true).expect("begun");
        for round in 0..100u8 {
            put(&mut log, &format!("k{}", round % 7), &[round; 100]);
        }
        let before = log.len();
        fs::write(dir.path().join("commit-99.log.new"), b"unfinished").expect("written");
        log.compact().expect("compacted");
        assert!(log.len() < before / 4);
        put(&mut log, "after", b"x");
        only_file(dir.path());
        let again = CommitLog::open(dir.path(), true).expect("opened");
        assert_eq!(again.stored(), log.stored());
        assert_eq!(again.stored().version, 101);
    }

    #[test]
    fn a_missing_log_beside_an_index_is_refused() {
        let dir = tempfile::tempdir().expect("a directory");
        let error = CommitLog::open(dir.path(), false).expect_err("no log").to_string();
        assert!(error.contains("restore commit-*.log"), "{error}");
    }
}
