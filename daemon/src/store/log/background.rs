//! Who writes checkpoints to the index's store, away from the shard's thread.

use super::index::{Frozen, behind, number_key};
use crate::store::kv::{KvError, KvStore};
use bytes::Bytes;
use std::sync::Arc;

/// A checkpoint to write and sync.
#[derive(Clone)]
pub struct Job {
    /// Where to.
    pub store: Arc<dyn KvStore>,
    /// What.
    pub frozen: Arc<Frozen>,
    /// Whether to give back the space of what was removed, behind it.
    pub compact: bool,
}

/// What became of a job: the bytes that the index takes on the medium.
pub type Answer = Result<u64, KvError>;

/// Most keys of deleted omaps removed behind one checkpoint.
const SWEEP_KEYS_MAX: usize = 100_000;

/// Keys of deleted omaps removed by one batch.
const SWEEP_BATCH: usize = 1000;

impl Job {
    /// Does it.
    pub fn run(&self) -> Answer {
        self.store.write(self.frozen.batch())?;
        self.store.sync()?;
        Ok(self.store.disk_bytes())
    }

    /// Deletes what nobody can ask for any more. May be left undone: a later checkpoint goes on.
    pub fn sweep(&self) -> Result<(), KvError> {
        let mut left = SWEEP_KEYS_MAX;
        let dead = self.store.scan(b"D", b"E", SWEEP_BATCH)?;
        for (dead, _) in dead {
            let Some(Ok(number)) = dead.get(1..9).map(<[u8; 8]>::try_from) else { continue };
            let prefix = number_key(b'M', u64::from_be_bytes(number), b"");
            loop {
                let keys = self.store.scan(&prefix, &behind(&prefix), SWEEP_BATCH)?;
                let whole = keys.len() < SWEEP_BATCH;
                left = left.saturating_sub(keys.len());
                let mut batch: Vec<(Vec<u8>, Option<Bytes>)> =
                    keys.into_iter().map(|(key, _)| (key.to_vec(), None)).collect();
                if whole {
                    batch.push((dead.to_vec(), None));
                }
                self.store.write(batch)?;
                if whole {
                    break;
                }
                if left == 0 {
                    return Ok(());
                }
            }
        }
        if self.compact {
            self.store.compact()?;
        }
        Ok(())
    }
}

/// Runs one job at a time, and wakes the shard.
pub trait Background: Send {
    /// Begins a job.
    fn start(&mut self, job: Job);

    /// The answer of the job, once.
    fn poll(&mut self) -> Option<Answer>;

    /// Wakes the shard now, so that it polls.
    fn wake(&mut self);

    /// Wakes the shard after about [`LAZY`](super::LAZY), once.
    fn nudge(&mut self);

    /// Whether the wake-up of `nudge` came, once; it comes behind every job too, when its sweep is done.
    fn nudged(&mut self) -> bool;

    /// The shard is polling: the wake-up has served.
    fn clear(&mut self);
}

/// Does its jobs within `poll`. For tests and simulation: the driver polls and says when it is late.
#[derive(Default)]
pub struct Inline {
    job: Option<Job>,
    polls: u32,
    nudge: Option<u32>,
}

/// Polls that a job of [`Inline`] takes, and after which a nudge comes.
const INLINE_POLLS: u32 = 8;

impl Background for Inline {
    fn start(&mut self, job: Job) {
        self.job = Some(job);
        self.polls = 0;
    }

    fn poll(&mut self) -> Option<Answer> {
        self.polls += 1;
        if self.polls < INLINE_POLLS {
            return None;
        }
        let job = self.job.take()?;
        let answer = job.run();
        let answer = answer.and_then(|bytes| job.sweep().map(|()| bytes));
        self.nudge = Some(0);
        Some(answer)
    }

    fn wake(&mut self) {}

    fn nudge(&mut self) {
        self.nudge = Some(0);
    }

    fn nudged(&mut self) -> bool {
        match &mut self.nudge {
            Some(polls) if *polls >= INLINE_POLLS => {
                self.nudge = None;
                true
            }
            Some(polls) => {
                *polls += 1;
                false
            }
            None => false,
        }
    }

    fn clear(&mut self) {}
}
