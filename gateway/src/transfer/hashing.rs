//! Pieces of bodies, inspected on other threads: those of many bodies at once, because MD5 is many times faster so.

use super::md5::{LANES, Lane, update_all};
use crate::s3::auth::payload::{Inspector, Piece};
use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::Duration;
use tokio::sync::oneshot;

/// Threads that inspect at a time. A further one begins when those that run have all their lanes to do.
const WORKERS_MAX: usize = 4;

/// How long a worker waits for more bodies' pieces, while many bodies come in: hashing is done beside the writing of
/// the piece, which takes longer.
const COMPANY_WAIT: Duration = Duration::from_millis(8);

/// A piece with the inspector of its body.
struct Job {
    inspector: Inspector,
    piece: Piece,
    done: oneshot::Sender<Inspector>,
}

const LOCK: &str = "nobody panics while holding it";

/// No longer than the pieces that bodies may hold, because each waits for its own.
#[derive(Default)]
struct Queue {
    jobs: VecDeque<Job>,
    workers: usize,
    /// Bodies that come in.
    bodies: usize,
}

impl Queue {
    /// Whether it is worth waiting for more: with half of the bodies that come in, or all lanes, it is not.
    fn lacks_company(&mut self) -> bool {
        !self.jobs.is_empty() && self.jobs.len() < LANES.min(self.bodies / 2)
    }
}

/// Where pieces are inspected. Clones are the same place.
#[derive(Clone, Default)]
pub struct Hashing(Arc<(Mutex<Queue>, Condvar)>);

/// A body that comes in, until dropped.
pub struct Body(Hashing);

impl Drop for Body {
    fn drop(&mut self) {
        self.0.lock().bodies -= 1;
    }
}

impl Hashing {
    /// Notes that a body comes in.
    pub fn begin(&self) -> Body {
        self.lock().bodies += 1;
        Body(self.clone())
    }

    /// Inspects a piece behind those that the inspector saw, and gives the inspector back; an error if the thread
    /// that did it died.
    pub fn inspect(&self, inspector: Inspector, piece: Piece) -> oneshot::Receiver<Inspector> {
        let (done, inspected) = oneshot::channel();
        let mut queue = self.lock();
        queue.jobs.push_back(Job { inspector, piece, done });
        if queue.workers == 0 || queue.jobs.len() > LANES && queue.workers < WORKERS_MAX {
            queue.workers += 1;
            let worker = Worker { hashing: self.clone(), counted: true };
            tokio::task::spawn_blocking(move || worker.run());
        }
        drop(queue);
        self.0.1.notify_one();
        inspected
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.0.0.lock().expect(LOCK)
    }
}

/// Counted in `workers` until it finds nothing to do, or dies.
struct Worker {
    hashing: Hashing,
    counted: bool,
}

impl Worker {
    /// Works until nothing waits.
    fn run(mut self) {
        while let Some(mut jobs) = self.take() {
            let lanes = jobs.iter_mut().map(|job| {
                let Job { inspector, piece, .. } = job;
                Lane::new(inspector.md5(), &piece.data)
            });
            update_all(lanes.collect());
            for Job { mut inspector, piece, done } in jobs {
                inspector.update_beside_md5(&piece);
                // Whoever gave the body up does not wait.
                let _ = done.send(inspector);
            }
        }
    }

    /// The next pieces; `None` if nothing waits, and from then on nobody counts on this worker.
    fn take(&mut self) -> Option<Vec<Job>> {
        let (lock, pushed) = &*self.hashing.0;
        let queue = lock.lock().expect(LOCK);
        let waited = pushed.wait_timeout_while(queue, COMPANY_WAIT, Queue::lacks_company);
        let (mut queue, _) = waited.expect(LOCK);
        let count = queue.jobs.len().min(LANES);
        if count == 0 {
            queue.workers -= 1;
            self.counted = false;
            return None;
        }
        Some(queue.jobs.drain(..count).collect())
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        if self.counted {
            self.hashing.lock().workers -= 1;
        }
    }
}
