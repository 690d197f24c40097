//! Requests that wait in a placement group.
//!
//! # Invariants
//!
//! - Every queue is bounded: by count in the group, by bytes in the daemon. What does not fit is refused
//!   with EAGAIN, which clients take for "later".
//! - Requests that wait for the same thing go on in the order in which they came.
//! - Every request leaves by being run, answered, or forgotten with its link.

use super::core::Core;
use super::event::LinkId;
use crate::store::Store;
use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;
use store_base::op::{Op, Outcome, Request, errno};
use store_base::{ObjectName, RequestId, Time};

/// What those are told who wait when a daemon ends.
pub(crate) const STOPPING: &str = "this daemon is stopping";

/// A request and where its answer goes.
#[derive(Clone, Debug)]
pub(crate) struct Waiting {
    pub(crate) link: LinkId,
    /// When it came.
    pub(crate) since: Time,
    pub(crate) request: Box<Request>,
}

impl Waiting {
    /// About how many bytes it takes.
    pub(crate) fn bytes(&self) -> usize {
        let ops: usize = self.request.ops.iter().map(op_bytes).sum();
        256 + ops + self.request.object.name.len()
    }
}

fn op_bytes(op: &Op) -> usize {
    64 + match op {
        Op::Write { data, .. }
        | Op::WriteFull { data }
        | Op::Append { data }
        | Op::CompareData { data, .. }
        | Op::OmapSetHeader { data } => data.len(),
        Op::Exec { input, .. } => input.len(),
        Op::SetXattr { name, value } => name.len() + value.len(),
        Op::OmapSet { entries } => entries.iter().map(|(k, v)| 16 + k.len() + v.len()).sum(),
        Op::OmapRemove { keys } | Op::OmapByKeys { keys } => {
            keys.iter().map(|k| 16 + k.len()).sum()
        }
        Op::Notify { payload, .. } | Op::NotifyAck { payload, .. } => payload.len(),
        _ => 0,
    }
}

/// For what a request waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wait {
    /// The group does not serve, or a newer map is needed.
    Group,
    /// The group takes no more writes now.
    Writes,
    /// Something about the object.
    Object,
}

/// How many answers are kept at most, and how many bytes of them.
const RECENT_MAX: usize = 65_536;
const RECENT_BYTES_MAX: usize = 16 << 20;

/// Final answers to mutations that made no entry, of late: a duplicate that was on its way, or waits behind
/// its twin, must not be executed after the client was told of a failure. Entries need this not: the log
/// has them. It may be volatile, because a duplicate waits nowhere but here: one that waits elsewhere is of an
/// interval that is over (`Pg::is_outdated`). One for all groups: the twin may be in a part that was split off.
#[derive(Debug, Default)]
pub(crate) struct Recent {
    answers: BTreeMap<RequestId, Outcome>,
    order: VecDeque<RequestId>,
    bytes: usize,
}

/// About how many bytes a kept answer takes.
fn outcome_bytes(outcome: &Outcome) -> usize {
    128 + match outcome {
        Outcome::Done { results, .. } => results.iter().map(|result| 32 + result.data.len()).sum(),
        Outcome::Refused { why, .. } => why.len(),
        Outcome::Misdirected { .. } => 0,
    }
}

impl Recent {
    pub(crate) fn answer(&self, id: &RequestId) -> Option<&Outcome> {
        self.answers.get(id)
    }

    pub(crate) fn add(&mut self, id: RequestId, outcome: Outcome) {
        self.bytes += outcome_bytes(&outcome);
        match self.answers.insert(id, outcome) {
            Some(old) => self.bytes -= outcome_bytes(&old),
            None => self.order.push_back(id),
        }
        while self.order.len() > RECENT_MAX || self.bytes > RECENT_BYTES_MAX {
            let Some(oldest) = self.order.pop_front() else { return };
            let gone = self.answers.remove(&oldest);
            self.bytes -= gone.map_or(0, |outcome| outcome_bytes(&outcome));
        }
    }
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    group: VecDeque<Waiting>,
    writes: VecDeque<Waiting>,
    objects: BTreeMap<ObjectName, VecDeque<Waiting>>,
    count: usize,
}

impl Queue {
    /// How many wait.
    pub(crate) fn len(&self) -> usize {
        self.count
    }

    /// How many have waited for longer than `limit`.
    pub(crate) fn slow(&self, now: Time, limit: Duration) -> u64 {
        let all = self.group.iter().chain(&self.writes).chain(self.objects.values().flatten());
        all.filter(|waiting| now.since(waiting.since) >= limit).count() as u64
    }

    pub(crate) fn group_is_empty(&self) -> bool {
        self.group.is_empty()
    }

    pub(crate) fn writes_is_empty(&self) -> bool {
        self.writes.is_empty()
    }

    pub(crate) fn is_idle(&self) -> bool {
        self.count == 0
    }

    pub(crate) fn has_object(&self, object: &ObjectName) -> bool {
        self.objects.contains_key(object)
    }

    /// Lets a request wait, or refuses it.
    pub(crate) fn push<S: Store>(&mut self, core: &mut Core<S>, wait: Wait, waiting: Waiting) {
        let bytes = waiting.bytes();
        let fits = self.count < core.config.waiting_requests_max
            && core.waiting_bytes + bytes <= core.config.waiting_bytes_max;
        if !fits {
            let why = "too many requests wait here; try again later";
            core.refuse(waiting.link, waiting.request.id, errno::EAGAIN, why);
            return;
        }
        core.waiting_bytes += bytes;
        self.count += 1;
        match wait {
            Wait::Group => self.group.push_back(waiting),
            Wait::Writes => self.writes.push_back(waiting),
            Wait::Object => {
                let object = waiting.request.object.clone();
                self.objects.entry(object).or_default().push_back(waiting);
            }
        }
    }

    fn taken<S: Store>(&mut self, core: &mut Core<S>, all: &VecDeque<Waiting>) {
        self.count -= all.len();
        core.waiting_bytes -= all.iter().map(Waiting::bytes).sum::<usize>();
    }

    /// Takes out all that waits for one thing.
    pub(crate) fn take<S: Store>(&mut self, core: &mut Core<S>, wait: Wait) -> VecDeque<Waiting> {
        let all = match wait {
            Wait::Group => std::mem::take(&mut self.group),
            Wait::Writes => std::mem::take(&mut self.writes),
            Wait::Object => std::mem::take(&mut self.objects).into_values().flatten().collect(),
        };
        self.taken(core, &all);
        all
    }

    /// Takes out all that waits for an object.
    pub(crate) fn take_object<S: Store>(
        &mut self,
        core: &mut Core<S>,
        object: &ObjectName,
    ) -> VecDeque<Waiting> {
        let all = self.objects.remove(object).unwrap_or_default();
        self.taken(core, &all);
        all
    }

    fn take_all<S: Store>(&mut self, core: &mut Core<S>) -> Vec<Waiting> {
        let waits = [Wait::Group, Wait::Object, Wait::Writes];
        waits.into_iter().flat_map(|wait| self.take(core, wait)).collect()
    }

    /// Sends everybody to where the map points.
    pub(crate) fn misdirect_all<S: Store>(&mut self, core: &mut Core<S>) {
        for waiting in self.take_all(core) {
            core.misdirected(waiting.link, waiting.request.id);
        }
    }

    /// Tells everybody to try again, here or elsewhere.
    pub(crate) fn refuse_all<S: Store>(&mut self, core: &mut Core<S>) {
        for waiting in self.take_all(core) {
            core.refuse(waiting.link, waiting.request.id, errno::EAGAIN, STOPPING);
        }
    }

    /// Forgets the requests of a link that has gone.
    pub(crate) fn forget_link<S: Store>(&mut self, core: &mut Core<S>, link: LinkId) {
        let mut gone = VecDeque::new();
        let mut sweep = |queue: &mut VecDeque<Waiting>| {
            let (out, stay) = std::mem::take(queue).into_iter().partition(|w| w.link == link);
            *queue = stay;
            let mut out: VecDeque<Waiting> = out;
            gone.append(&mut out);
        };
        sweep(&mut self.group);
        sweep(&mut self.writes);
        self.objects.values_mut().for_each(sweep);
        self.objects.retain(|_, queue| !queue.is_empty());
        self.taken(core, &gone);
    }
}
