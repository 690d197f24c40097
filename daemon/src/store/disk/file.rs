//! The medium on a file of a directory, and the choice of who does its work.
#![allow(clippy::disallowed_methods)] // disks and threads are this file's business

use super::pool::Threads;
use super::uring::Ring;
use super::{BLOCK_BYTES, Disk, DiskError};
use crate::store::log::background::{Answer, Background, Job};
use rustix::event::{EventfdFlags, eventfd};
use rustix::fs::{FallocateFlags, Mode, OFlags, fallocate, fstatvfs};
use rustix::io::Errno;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::time::Duration;

/// The file's name in the daemon's directory.
pub const FILE_NAME: &str = "data";

/// What the file leaves free on its file system: for the index, for logs, for others.
pub const MARGIN_BYTES: u64 = 64 << 20;

/// Who does the work.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Engine {
    /// io_uring if the kernel lets us, else threads.
    #[default]
    Probe,
    /// io_uring or an error.
    Uring,
    /// A few threads with pread and pwrite.
    Threads,
}

/// Wakes the shard: a descriptor that is readable when the store wants to be polled.
#[derive(Clone, Debug)]
pub struct Wake(Arc<OwnedFd>);

impl Wake {
    /// A new one.
    pub fn new() -> std::io::Result<Wake> {
        Ok(Wake(Arc::new(eventfd(0, EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC)?)))
    }

    /// Makes it readable.
    pub fn wake(&self) {
        // It can only fail when the counter is full, and then it is readable.
        // The kernel reads this in its own byte order.
        #[allow(clippy::host_endian_bytes)]
        let one = 1u64.to_ne_bytes();
        let _ = rustix::io::write(&*self.0, &one);
    }

    /// Makes it unreadable.
    pub fn clear(&self) {
        let mut count = [0; 8];
        // Nothing to read: nobody has woken since.
        let _ = rustix::io::read(&*self.0, &mut count);
    }

    /// Waits until it is readable.
    pub fn wait(&self, timeout: Duration) {
        use rustix::event::{PollFd, PollFlags, Timespec, poll};
        let mut fds = [PollFd::new(&*self.0, PollFlags::IN)];
        let timeout = Timespec::try_from(timeout).ok();
        // Interrupted or not, the caller looks again.
        let _ = poll(&mut fds, timeout.as_ref());
    }
}

impl AsFd for Wake {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// The open file, shared by whoever works on it.
#[derive(Debug)]
pub(super) struct DataFile {
    pub(super) fd: OwnedFd,
    pub(super) direct: bool,
}

/// Opens or makes the file of a directory, which the caller has locked.
pub fn open(directory: &Path, engine: Engine, wake: &Wake) -> Result<Box<dyn Disk>, DiskError> {
    let path = directory.join(FILE_NAME);
    let wrong = |e: Errno| {
        DiskError::Failed(format!("cannot open {}: {}{}", path.display(), error_of(e), cure(e)))
    };
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::CLOEXEC;
    let mode = Mode::RUSR | Mode::WUSR;
    let (fd, direct) = match rustix::fs::open(&path, flags | OFlags::DIRECT, mode) {
        Ok(fd) => (fd, true),
        // Some file systems have no direct I/O; the page cache then costs a copy.
        Err(Errno::INVAL) => (rustix::fs::open(&path, flags, mode).map_err(wrong)?, false),
        Err(e) => return Err(wrong(e)),
    };
    lock(&fd, &path)?;
    let size = rustix::fs::fstat(&fd).map_err(wrong)?.st_size as u64;
    let file = Arc::new(DataFile { fd, direct });
    let size = size / BLOCK_BYTES as u64 * BLOCK_BYTES as u64;
    if engine != Engine::Threads {
        match Ring::new(file.clone(), size, wake) {
            Ok(ring) => return Ok(Box::new(ring)),
            Err(e) if engine == Engine::Uring => {
                return Err(DiskError::Failed(format!(
                    "io_uring was asked for and is refused: {e}"
                )));
            }
            Err(e) => tracing::info!("io_uring is refused ({e}): disk I/O by threads"),
        }
    }
    let threads = Threads::new(file, size, wake).map_err(|e| DiskError::Failed(e.to_string()))?;
    Ok(Box::new(threads))
}

/// Locks the file itself. A process that was killed has given up its directory at once, but the kernel may
/// still be writing for it: this lock goes only with the last of those writes.
fn lock(fd: &OwnedFd, path: &Path) -> Result<(), DiskError> {
    use rustix::fs::{FlockOperation, flock};
    /// How long such writes may take: tries, and the pause between them.
    const TRIES: u32 = 500;
    const PAUSE: Duration = Duration::from_millis(20);
    for _ in 0..TRIES {
        match flock(fd, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Ok(()),
            Err(Errno::WOULDBLOCK) => std::thread::sleep(PAUSE),
            Err(Errno::INTR) => {}
            // No locks on this file system: the directory's must do.
            Err(Errno::NOTSUP | Errno::NOLCK) => return Ok(()),
            Err(e) => return Err(failed("lock the data file", e)),
        }
    }
    Err(DiskError::Failed(format!(
        "{} is still being written by a process that ended: look for a disk that hangs",
        path.display()
    )))
}

/// What the file system has left, but for the margin.
pub(super) fn available(file: &DataFile) -> u64 {
    // A file system that cannot say has nothing that could be relied on.
    let left = fstatvfs(&file.fd).map_or(0, |stat| stat.f_bavail * stat.f_frsize);
    left.saturating_sub(MARGIN_BYTES)
}

/// The size of the file system of a directory, and what is left of it: for a capacity that is a share.
pub fn file_system_bytes(directory: &Path) -> std::io::Result<(u64, u64)> {
    let stat = rustix::fs::statvfs(directory)?;
    Ok((stat.f_blocks * stat.f_frsize, stat.f_bavail * stat.f_frsize))
}

/// Makes the file larger, with space that is really there.
pub(super) fn grow(file: &DataFile, from: u64, to: u64) -> Result<(), DiskError> {
    let available = available(file);
    if available < to - from {
        return Err(DiskError::Full(format!(
            "the file system has no room for {} bytes more ({MARGIN_BYTES} stay free): make room there",
            to - from
        )));
    }
    let allocated = loop {
        match fallocate(&file.fd, FallocateFlags::empty(), from, to - from) {
            Err(Errno::INTR) => {}
            other => break other,
        }
    };
    match allocated {
        Ok(()) => Ok(()),
        // No preallocation here: the file only becomes longer, and a write may find the disk full.
        Err(Errno::OPNOTSUPP) => {
            rustix::fs::ftruncate(&file.fd, to).map_err(|e| failed("lengthen the file", e))
        }
        Err(e) => Err(failed("allocate space", e)),
    }
}

pub(super) fn error_of(e: Errno) -> std::io::Error {
    std::io::Error::from(e)
}

pub(super) fn cure(e: Errno) -> &'static str {
    match e {
        Errno::ACCESS | Errno::PERM => " (give this user the right to write there)",
        Errno::ROFS => " (mount it writable, or choose another directory)",
        Errno::NOSPC | Errno::DQUOT => " (make room on that file system)",
        Errno::NOENT => " (make the directory first)",
        _ => "",
    }
}

pub(super) fn failed(doing: &str, e: Errno) -> DiskError {
    let text = format!("cannot {doing}: {}{}", error_of(e), cure(e));
    match e {
        Errno::NOSPC | Errno::DQUOT => DiskError::Full(text),
        _ => DiskError::Failed(text),
    }
}

/// Writes checkpoints on a thread of its own, which sleeps while there is nothing to do.
pub struct Thread {
    jobs: Option<mpsc::Sender<Order>>,
    answers: mpsc::Receiver<Answer>,
    nudged: Arc<AtomicBool>,
    wake: Wake,
    handle: Option<std::thread::JoinHandle<()>>,
}

enum Order {
    Job(Job),
    Nudge,
}

impl Thread {
    /// Starts the thread.
    pub fn start(wake: &Wake) -> std::io::Result<Thread> {
        let (jobs, orders) = mpsc::channel();
        let (send, answers) = mpsc::channel();
        let nudged = Arc::new(AtomicBool::new(false));
        let (bell, flag) = (wake.clone(), nudged.clone());
        let handle = std::thread::Builder::new()
            .name("store-index".into())
            .spawn(move || work(&orders, &send, &flag, &bell))?;
        Ok(Thread { jobs: Some(jobs), answers, nudged, wake: wake.clone(), handle: Some(handle) })
    }

    fn order(&self, order: Order) {
        if let Some(jobs) = &self.jobs {
            // The thread ends only after this end of the channel.
            let _ = jobs.send(order);
        }
    }
}

fn work(
    orders: &mpsc::Receiver<Order>,
    answers: &mpsc::Sender<Answer>,
    nudged: &AtomicBool,
    wake: &Wake,
) {
    while let Ok(order) = orders.recv() {
        let job = match order {
            Order::Job(job) => Some(job),
            Order::Nudge => {
                // A job may come while we wait; it does not have to.
                let next = orders.recv_timeout(crate::store::log::LAZY);
                nudged.store(true, Ordering::Release);
                wake.wake();
                match next {
                    Ok(Order::Job(job)) => Some(job),
                    Ok(Order::Nudge) | Err(mpsc::RecvTimeoutError::Timeout) => None,
                    Err(mpsc::RecvTimeoutError::Disconnected) => return,
                }
            }
        };
        let Some(job) = job else { continue };
        let answer = job.run();
        let worked = answer.is_ok();
        if answers.send(answer).is_err() {
            return;
        }
        wake.wake();
        if worked && let Err(e) = job.sweep() {
            // The next checkpoint fails for the same reason, and is heard.
            tracing::warn!("cannot delete old omaps: {e}");
        }
        nudged.store(true, Ordering::Release);
        wake.wake();
    }
}

impl Background for Thread {
    fn start(&mut self, job: Job) {
        self.order(Order::Job(job));
    }

    fn poll(&mut self) -> Option<Answer> {
        self.answers.try_recv().ok()
    }

    fn wake(&mut self) {
        self.wake.wake();
    }

    fn nudge(&mut self) {
        self.order(Order::Nudge);
    }

    fn nudged(&mut self) -> bool {
        self.nudged.swap(false, Ordering::Acquire)
    }

    fn clear(&mut self) {
        self.wake.clear();
    }
}

impl Drop for Thread {
    fn drop(&mut self) {
        self.jobs = None;
        if let Some(handle) = self.handle.take() {
            // A panic there was reported by the panic itself.
            let _ = handle.join();
        }
    }
}
