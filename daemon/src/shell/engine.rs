//! What the shell needs of a store beyond the contract: a file descriptor to wait on.

use crate::config::{Config, EngineKind};
use crate::store::disk::file;
use crate::store::log::directory::DirectoryStore;
use crate::store::log::{Opened, Options};
use crate::store::memory::MemoryStore;
use crate::store::{Completion, Store, StoreError};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use store_base::{ClusterId, DaemonId};
use store_shell::clock;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// A store that says when it wants to be polled.
pub(crate) trait Engine: Store + 'static {
    /// Becomes readable when there is something to poll; `None` if every poll completes all.
    fn ready_fd(&self) -> Option<BorrowedFd<'_>>;

    /// For people: "io_uring", "threads".
    fn name(&self) -> String;

    /// What its opening has done.
    fn opening(&self) -> Opened;

    /// Makes all that was submitted durable and closes; for an orderly end.
    fn close(self);
}

impl Engine for MemoryStore {
    fn ready_fd(&self) -> Option<BorrowedFd<'_>> {
        None
    }

    fn name(&self) -> String {
        "memory".to_string()
    }

    fn opening(&self) -> Opened {
        Opened::default()
    }

    fn close(self) {}
}

/// Opens the store in a directory, or makes one.
pub(crate) fn open(dir: &Path, config: &Config) -> Result<DirectoryStore, String> {
    let kind = match config.engine {
        EngineKind::Auto => file::Engine::Probe,
        EngineKind::IoUring => file::Engine::Uring,
        EngineKind::Threads => file::Engine::Threads,
    };
    let capacity = match config.capacity {
        Some(capacity) => capacity.0,
        None => room(dir)?,
    };
    // Whose the directory is, the daemon's own superblock values say: a new daemon does not know it yet.
    let uuid = ClusterId(clock::random());
    let options = Options::new(ClusterId::default(), DaemonId(-1), uuid, capacity);
    DirectoryStore::open(dir, kind, options).map_err(|error| {
        let why = match error {
            // Its sentence stands for itself: nothing is wrong with the medium of a directory that is in use.
            StoreError::Failed(why) => why,
            other => other.to_string(),
        };
        match is_full(dir) {
            true => format!("{why}; the disk of {} is full: make room on it", dir.display()),
            false => why,
        }
    })
}

/// Whether the disk has less room than any store needs.
fn is_full(dir: &Path) -> bool {
    const ROOM_MIN: u64 = 16 << 20;
    let free = rustix::fs::statvfs(dir).map(|disk| disk.f_bavail.saturating_mul(disk.f_frsize));
    free.is_ok_and(|free| free < ROOM_MIN)
}

/// Nine tenths of what the file system has for this daemon: what is free, and what it has already.
fn room(dir: &Path) -> Result<u64, String> {
    let unknown = |error: &dyn std::fmt::Display| {
        format!("the room in {} cannot be told ({error}): give --capacity", dir.display())
    };
    let free = rustix::fs::statvfs(dir).map_err(|error| unknown(&error))?;
    let own = std::fs::metadata(dir.join(file::FILE_NAME)).map_or(0, |file| file.blocks() * 512);
    let room = free.f_bavail.saturating_mul(free.f_frsize).saturating_add(own);
    Ok(room / 10 * 9)
}

impl Engine for DirectoryStore {
    fn ready_fd(&self) -> Option<BorrowedFd<'_>> {
        Some(self.as_fd())
    }

    fn name(&self) -> String {
        self.engine().to_string()
    }

    fn opening(&self) -> Opened {
        self.opened().clone()
    }

    fn close(self) {
        for completion in DirectoryStore::close(self, true) {
            if let Completion::Failed { error } = completion {
                tracing::error!(%error, "the store did not close in order");
            }
        }
    }
}

/// Waits for the store.
pub(crate) struct Completions {
    fd: Option<AsyncFd<OwnedFd>>,
}

impl Completions {
    /// Within the runtime.
    pub(crate) fn of(engine: &impl Engine) -> std::io::Result<Self> {
        let Some(fd) = engine.ready_fd() else { return Ok(Completions { fd: None }) };
        let own = fd.try_clone_to_owned()?;
        // What the deprecation warns of cannot happen here: the descriptor is ours alone, and stays open and
        // registered until both go together.
        #[allow(deprecated)]
        let fd = AsyncFd::with_interest(own, Interest::READABLE)?;
        Ok(Completions { fd: Some(fd) })
    }

    /// Waits until the store wants to be polled. The poll must follow: readiness is told once.
    pub(crate) async fn ready(&self) {
        let Some(fd) = &self.fd else { return std::future::pending().await };
        match fd.readable().await {
            // Cleared before the poll, so that what comes during the poll is told again.
            Ok(mut guard) => guard.clear_ready(),
            Err(error) => {
                tracing::error!(%error, "the store's completions cannot be waited for");
                std::future::pending().await
            }
        }
    }
}
