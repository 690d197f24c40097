//! What the monitor keeps: named byte strings under one version, changed by compare-and-set.
//!
//! | entry | holds |
//! |---|---|
//! | `osd/full` | the newest whole [`OsdMap`], at most [`SNAPSHOT_EVERY`] epochs old |
//! | `osd/inc/<epoch, 10 digits>` | the step to that epoch; the last [`HISTORY_EPOCHS_MAX`] of them |
//! | `auth`, `config`, `services` | the small maps, whole |
//! | `clients` | the first client id that was never given (u64) |
//!
//! A [`Batch`] is applied whole or not at all, and only if the store is still at the version that the batch
//! expects; it raises the version by one. With several monitors the store refuses a batch of one that does
//! not lead any more, whatever version it names.
//!
//! Implementations: [`memory`] (and faulty memory), sled behind a commit log, etcd. All pass the same
//! conformance tests (`tests/conformance.rs` of this crate).

#[cfg(feature = "shell")]
pub mod commit_log;
#[cfg(feature = "shell")]
pub mod etcd;
pub mod memory;
pub mod recent;
#[cfg(feature = "shell")]
pub mod sled;

use bytes::Bytes;
use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use store_base::codec::Encode;
use store_base::ids::Epoch;
use store_base::map::{AuthMap, ConfigMap, OsdMap, ServiceMap, User};
use store_base::{ClusterId, Timestamp};

/// Steps of the osdmap that are kept for subscribers that lag.
pub const HISTORY_EPOCHS_MAX: u32 = 500;

/// A whole osdmap is stored again after this many steps.
pub const SNAPSHOT_EVERY: u32 = 64;

/// Batches that a store remembers for watchers; one that lags more reads everything again.
pub const RECENT_BATCHES_MAX: usize = 256;

/// Largest key of an entry.
pub const KEY_BYTES_MAX: usize = 256;

/// Largest value of an entry.
pub const VALUE_BYTES_MAX: usize = 64 << 20;

/// Name of the entry with the whole osdmap.
pub const OSD_FULL: &str = "osd/full";

/// Names of the entries with the osdmap's steps begin so.
pub const OSD_STEP: &str = "osd/inc/";

/// Name of the entry of a step. Sorts by epoch.
pub fn step_key(epoch: Epoch) -> String {
    format!("{OSD_STEP}{:010}", epoch.0)
}

/// Everything that a store holds, at one version.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stored {
    /// Batches ever applied.
    pub version: u64,
    /// By key.
    pub entries: BTreeMap<String, Bytes>,
}

store_base::codec_struct!(Stored { version, entries });

impl Stored {
    /// Makes this what it is after `batch`.
    pub fn apply(&mut self, batch: &Batch) {
        self.version = batch.expect + 1;
        for key in &batch.deletes {
            self.entries.remove(key);
        }
        for (key, value) in &batch.puts {
            self.entries.insert(key.clone(), value.clone());
        }
    }
}

/// A change: whole or not at all. Deletes come before puts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Batch {
    /// The version that the store must have.
    pub expect: u64,
    /// New values.
    pub puts: Vec<(String, Bytes)>,
    /// Keys to forget; one that is not there is no error.
    pub deletes: Vec<String>,
}
store_base::codec_struct!(Batch { expect, puts, deletes });

impl Batch {
    /// Refuses what no store should be handed.
    pub fn check(&self) -> Result<(), CommitError> {
        let keys = self.puts.iter().map(|(key, _)| key).chain(&self.deletes);
        for key in keys {
            if key.is_empty() || key.len() > KEY_BYTES_MAX {
                return Err(CommitError::Invalid(format!(
                    "a key of {} bytes; 1 to {KEY_BYTES_MAX} are allowed",
                    key.len()
                )));
            }
        }
        match self.puts.iter().find(|(_, value)| value.len() > VALUE_BYTES_MAX) {
            Some((key, value)) => Err(CommitError::Invalid(format!(
                "{key} of {} bytes; at most {VALUE_BYTES_MAX} are allowed",
                value.len()
            ))),
            None => Ok(()),
        }
    }
}

/// Why a batch was not applied, or may not have been.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CommitError {
    /// The store is at another version. Nothing was done; load again.
    #[error("the store is at version {have}, not {expect}: somebody else changed it")]
    Conflict {
        /// What the batch expected.
        expect: u64,
        /// What is there.
        have: u64,
    },
    /// This monitor does not lead any more. Nothing was done; campaign again.
    #[error("this monitor does not lead any more: {0}")]
    NotLeader(String),
    /// It may have been applied or not. Load again.
    #[error("the outcome is unknown: {0}")]
    Unknown(String),
    /// The store is broken and says so for good. Restart on another disk, or repair.
    #[error("{0}")]
    Broken(String),
    /// The batch itself is wrong.
    #[error("{0}")]
    Invalid(String),
}

/// Why the store could not be read or led.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// It cannot be reached now. Try again.
    #[error("{0}")]
    Unavailable(String),
    /// What it holds is damaged, or it refuses us. A person must look.
    #[error("{0}")]
    Broken(String),
}

/// What a watcher is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// The next batch; the version is now `expect + 1`.
    Batch(Batch),
    /// Too much was missed: load everything again.
    Reload,
}

/// What a call of a store returns.
pub type Answer<'a, T, E> = Pin<Box<dyn Future<Output = Result<T, E>> + Send + 'a>>;

/// The right to commit. With one monitor it is had at once and for good.
pub trait Leadership: Send + Sync {
    /// Ends when the right is lost; the sentence says why.
    fn lost(&self) -> Pin<Box<dyn Future<Output = String> + Send + '_>>;
}

/// Where the monitor's maps are kept.
pub trait StateStore: Send + Sync {
    /// What it is called in logs and `mon stat`: "memory", "sled", "etcd".
    fn kind(&self) -> &'static str;
    /// Everything that is there.
    fn load(&self) -> Answer<'_, Stored, StoreError>;
    /// Applies a batch, durably, and says the new version.
    fn commit(&self, batch: Batch) -> Answer<'_, u64, CommitError>;
    /// Waits for the batch that follows version `after`, whoever committed it.
    fn next_change(&self, after: u64) -> Answer<'_, Change, StoreError>;
    /// Waits until this monitor leads. `name` is told to others.
    fn campaign(&self, name: &str) -> Answer<'_, Box<dyn Leadership>, StoreError>;
    /// The name of the monitor that leads, if there is one.
    fn leader(&self) -> Answer<'_, Option<String>, StoreError>;
    /// Gives leadership back and puts everything on the medium; no call may follow.
    fn close(&self) -> Pin<Box<dyn Future<Output = ()> + Send + '_>> {
        Box::pin(std::future::ready(()))
    }
}

/// Leadership where nobody else can have it.
pub struct Alone;

impl Leadership for Alone {
    fn lost(&self) -> Pin<Box<dyn Future<Output = String> + Send + '_>> {
        Box::pin(std::future::pending())
    }
}

/// The first content of an empty store: an empty cluster and, if given, its first administrator.
pub fn genesis(cluster: ClusterId, now: Timestamp, admin: Option<(String, User)>) -> Batch {
    let mut map =
        OsdMap { cluster, epoch: Epoch(1), created: now, modified: now, ..OsdMap::default() };
    crate::machine::placement::prepare(&mut map.crush);
    let auth =
        AuthMap { epoch: Epoch(1), users: admin.into_iter().collect(), ..AuthMap::default() };
    let config = ConfigMap { epoch: Epoch(1), ..ConfigMap::default() };
    let services = ServiceMap { epoch: Epoch(1), ..ServiceMap::default() };
    let puts = vec![
        (OSD_FULL.to_string(), map.to_bytes()),
        ("auth".to_string(), auth.to_bytes()),
        ("config".to_string(), config.to_bytes()),
        ("services".to_string(), services.to_bytes()),
        ("clients".to_string(), crate::machine::FIRST_CLIENT.to_bytes()),
    ];
    Batch { expect: 0, puts, deletes: Vec::new() }
}
