//! Requests that need bytes from the medium: a job per request.
//!
//! # Invariants
//!
//! - All reads of a job are given to the store in the step that evaluated it, so the answer is of one
//!   moment, and the lease was held at that moment: the answer may leave later, whatever has happened.
//!   (A request that would also change the object is finished only while the group serves.)
//! - An object that a job will change is locked until the job ends.

use super::core::{Core, Pending};
use super::event::LinkId;
use super::execute::{self, Execution};
use super::pg::Pg;
use super::queue::Waiting;
use crate::store::{Store, StoreError};
use bytes::Bytes;
use store_base::{Interval, RequestId};

/// See the module.
#[derive(Debug)]
pub(crate) struct Job {
    waiting: Waiting,
    pending: execute::Pending,
    data: Vec<Option<Result<Bytes, StoreError>>>,
    left: usize,
    interval: Interval,
    locks: bool,
}

impl Job {
    /// What is read.
    pub(crate) fn reads(&self) -> Vec<(u64, u64)> {
        self.pending.reads()
    }

    pub(crate) fn into_waiting(self) -> Waiting {
        self.waiting
    }
}

impl Pg {
    pub(crate) fn begin_job<S: Store>(
        &mut self,
        core: &mut Core<S>,
        waiting: Waiting,
        pending: execute::Pending,
    ) {
        let number = core.number();
        let reads = pending.reads();
        let object = waiting.request.object.clone();
        let own = if self.slots.is_some() { &[] } else { &reads[..] };
        for (index, (offset, length)) in own.iter().enumerate() {
            let ticket = core.ticket(Pending::JobRead(self.id, number, index));
            core.store.read(ticket, self.id, &object, *offset, *length);
        }
        let locks = pending.mutates() || waiting.request.is_mutation();
        if locks {
            self.locked.insert(object.clone());
        }
        core.jobs_open += 1;
        let (data, left) = (vec![None; reads.len()], reads.len());
        let interval = self.interval();
        self.jobs.insert(number, Job { waiting, pending, data, left, interval, locks });
        if self.slots.is_some() {
            self.gather_job(core, number, &object, &reads);
        }
    }

    /// The group is removed: nobody will read for them.
    pub(crate) fn abandon_jobs<S: Store>(&mut self, core: &mut Core<S>) {
        for (link, id) in self.take_jobs(core) {
            core.misdirected(link, id);
        }
    }

    /// Gives up all jobs; whose they were.
    pub(crate) fn take_jobs<S: Store>(&mut self, core: &mut Core<S>) -> Vec<(LinkId, RequestId)> {
        core.jobs_open -= self.jobs.len();
        self.locked.clear();
        let jobs = std::mem::take(&mut self.jobs).into_values();
        jobs.map(|job| (job.waiting.link, job.waiting.request.id)).collect()
    }

    pub(crate) fn handle_job_read<S: Store>(
        &mut self,
        core: &mut Core<S>,
        number: u64,
        index: usize,
        result: Result<Bytes, StoreError>,
    ) {
        core.earn(result.as_ref().map_or(0, Bytes::len));
        let Some(job) = self.jobs.get_mut(&number) else { return };
        if job.data[index].replace(result).is_none() {
            job.left -= 1;
        }
        if job.left > 0 {
            return;
        }
        let job = self.jobs.remove(&number).expect("just looked at");
        core.jobs_open -= 1;
        let object = job.waiting.request.object.clone();
        if job.locks {
            self.locked.remove(&object);
        }
        let is_current = job.interval == self.interval() && self.serves(core);
        if is_current || !job.locks {
            let data = job.data.into_iter().map(|data| data.expect("all have come")).collect();
            let execution = job.pending.finish(data);
            if job.interval != self.interval() && matches!(execution, Execution::Unreadable(_)) {
                self.handle_request(core, job.waiting);
            } else {
                self.conclude_later(core, job.waiting, execution);
            }
        } else {
            self.handle_request(core, job.waiting);
        }
        self.retry_object(core, &object);
        if !self.queue.writes_is_empty() {
            core.attention.insert(self.id);
        }
    }
}
