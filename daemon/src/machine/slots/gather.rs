//! The primary's side of reading: bytes of an object, put together from shards.
//!
//! # Invariants
//!
//! - A gathering begins when nothing of its object is open, and the object does not change before it ends.
//! - Data slots are asked for what is wanted of them and nothing else; only if one of these cannot be had, k slots
//!   are asked for the same positions, and what is lacking is rebuilt.
//! - A shard that could not be read is not asked again in the same try; there are `repair_attempts_max` tries,
//!   `pull_retry` apart. A member that does not answer is asked again until the interval ends.

use super::{Layout, Plan};
use crate::machine::core::{Core, Pending};
use crate::machine::execute::{self, Done};
use crate::machine::message::PeerMessage;
use crate::machine::pg::{Pg, Role};
use crate::machine::queue::{Wait, Waiting};
use crate::store::{Store, StoreError};
use bytes::Bytes;
use std::collections::{BTreeMap, BTreeSet};
use store_base::erasure::Striping;
use store_base::{DaemonId, ObjectName, Time, Version};

/// What becomes of the bytes.
#[derive(Debug)]
pub(crate) enum Purpose {
    /// They are those of a job.
    Job(u64),
    /// With them a mutation can be encoded.
    Encode { waiting: Waiting, done: Box<Done>, plan: Box<Plan> },
    /// They are rebuilt for a copy: whose, of which attempt.
    Push((DaemonId, ObjectName), u64),
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Gather {
    object: ObjectName,
    version: Version,
    as_of: Version,
    purpose: Purpose,
    /// Positions in the shards: offset and length.
    ranges: Vec<(u64, u64)>,
    /// Slots whose bytes are wanted.
    wanted: BTreeSet<usize>,
    /// Bytes of each slot, for each range.
    have: BTreeMap<usize, Vec<Bytes>>,
    asked: BTreeMap<DaemonId, Asked>,
    failed: BTreeSet<DaemonId>,
    /// Never asked: whose shard is to be rebuilt.
    excluded: Option<DaemonId>,
    tries: u32,
    /// When the next try begins.
    again: Option<Time>,
}

#[derive(Debug)]
struct Asked {
    slot: usize,
    sent: Time,
    /// What the own medium has answered so far.
    own: Vec<Option<Bytes>>,
}

impl Gather {
    /// Whether writes of an object must wait for it.
    pub(crate) fn holds(&self, object: &ObjectName) -> bool {
        self.object == *object && !matches!(self.purpose, Purpose::Push(..))
    }

    /// Takes in what a slot has; short answers are what reads as zeros.
    fn take(&mut self, slot: usize, data: Vec<Bytes>) -> bool {
        let fits = data.len() == self.ranges.len()
            && data.iter().zip(&self.ranges).all(|(bytes, (_, len))| bytes.len() as u64 <= *len);
        if fits {
            let whole = data.into_iter().zip(&self.ranges).map(|(bytes, (_, len))| {
                match bytes.len() as u64 == *len {
                    true => bytes,
                    false => {
                        let mut padded = bytes.to_vec();
                        padded.resize(*len as usize, 0);
                        padded.into()
                    }
                }
            });
            self.have.insert(slot, whole.collect());
        }
        fits
    }

    /// Whom to ask besides those that are asked; `None`: it cannot be done. `sources`: who has which slot, the
    /// best first.
    fn choose(&self, data: usize, sources: &[(usize, DaemonId)]) -> Option<Vec<DaemonId>> {
        let mut there: BTreeSet<usize> = self.have.keys().copied().collect();
        there.extend(self.asked.values().map(|asked| asked.slot));
        let of = |slot: &usize| sources.iter().find(|(of, _)| of == slot);
        let lacking: Vec<usize> = self.wanted.difference(&there).copied().collect();
        if lacking.iter().all(|slot| of(slot).is_some()) {
            return Some(lacking.iter().filter_map(of).map(|(_, id)| *id).collect());
        }
        let mut more = Vec::new();
        for (slot, id) in sources {
            if there.len() < data && there.insert(*slot) {
                more.push(*id);
            }
        }
        (there.len() >= data).then_some(more)
    }

    fn is_done(&self, data: usize) -> bool {
        self.have.len() >= data || self.wanted.iter().all(|slot| self.have.contains_key(slot))
    }

    /// The bytes of every wanted slot, for each range.
    fn rebuild(&self, layout: &Layout) -> Result<BTreeMap<usize, Vec<Bytes>>, StoreError> {
        let lacking: Vec<usize> =
            self.wanted.iter().copied().filter(|slot| !self.have.contains_key(slot)).collect();
        let mut all = self.have.clone();
        if lacking.is_empty() {
            return Ok(all);
        }
        for (index, (_, length)) in self.ranges.iter().enumerate() {
            let present: Vec<(usize, &[u8])> =
                self.have.iter().map(|(slot, data)| (*slot, &data[index][..])).collect();
            let mut made = vec![vec![0; *length as usize]; lacking.len()];
            let mut outputs: Vec<(usize, &mut [u8])> =
                lacking.iter().copied().zip(made.iter_mut().map(Vec::as_mut_slice)).collect();
            let rebuilt = layout.code.reconstruct(&present, &mut outputs);
            rebuilt.map_err(|error| StoreError::Damaged(error.to_string()))?;
            for (slot, bytes) in lacking.iter().zip(made) {
                all.entry(*slot).or_default().push(bytes.into());
            }
        }
        Ok(all)
    }
}

/// The positions that a range of an object has in the shards, and the data slots that it lies in.
fn positions(striping: &Striping, offset: u64, length: u64) -> ((u64, u64), BTreeSet<usize>) {
    let mut slots = BTreeSet::new();
    let (mut from, mut to) = (u64::MAX, 0);
    for piece in striping.pieces(offset..offset + length) {
        slots.insert(piece.slot);
        from = from.min(piece.shard_offset);
        to = to.max(piece.shard_offset + piece.len as u64);
    }
    ((from.min(to), to - from.min(to)), slots)
}

/// The bytes of a range of the object. `at`: where the shards' bytes begin.
fn joined(
    striping: &Striping,
    (offset, length): (u64, u64),
    at: u64,
    shard: impl Fn(usize) -> Option<Bytes>,
) -> Bytes {
    let mut pieces = striping.pieces(offset..offset + length);
    let cut = |piece: &store_base::erasure::Piece| {
        let from = (piece.shard_offset - at) as usize;
        shard(piece.slot).map(|bytes| bytes.slice(from..from + piece.len))
    };
    // One piece needs no copy.
    if let Some(first) = pieces.next().filter(|piece| piece.len as u64 == length) {
        return cut(&first).unwrap_or_default();
    }
    let mut bytes = Vec::with_capacity(length as usize);
    for piece in striping.pieces(offset..offset + length) {
        bytes.extend_from_slice(&cut(&piece).unwrap_or_default());
    }
    bytes.into()
}

impl Pg {
    /// Whether bytes of an object are being gathered.
    pub(crate) fn is_gathered(&self, object: &ObjectName) -> bool {
        self.gathers.values().any(|gather| gather.holds(object))
    }

    /// Whether entries of an object are open: its shards are about to change.
    pub(crate) fn is_open(&self, object: &ObjectName) -> bool {
        matches!(&self.role, Role::Primary(primary) if primary.overlay.newest(object).is_some())
    }

    /// Reads ranges of an object for a job.
    pub(crate) fn gather_job<S: Store>(
        &mut self,
        core: &mut Core<S>,
        number: u64,
        object: &ObjectName,
        reads: &[(u64, u64)],
    ) {
        self.gather_ranges(core, object, reads, Purpose::Job(number));
    }

    fn gather_ranges<S: Store>(
        &mut self,
        core: &mut Core<S>,
        object: &ObjectName,
        reads: &[(u64, u64)],
        purpose: Purpose,
    ) {
        let Some(layout) = &self.slots else { return };
        let (mut ranges, mut wanted) = (Vec::new(), BTreeSet::new());
        for (offset, length) in reads {
            let (range, slots) = positions(&layout.striping, *offset, *length);
            ranges.push(range);
            wanted.extend(slots);
        }
        self.gather(core, object, ranges, wanted, None, purpose);
    }

    /// Rebuilds a part of the shard of whoever a copy is for.
    pub(crate) fn gather_push<S: Store>(
        &mut self,
        core: &mut Core<S>,
        key: &(DaemonId, ObjectName),
        attempt: u64,
        range: (u64, u64),
    ) {
        let wanted = self.confirmed.slot(key.0).into_iter().collect();
        let purpose = Purpose::Push(key.clone(), attempt);
        self.gather(core, &key.1, vec![range], wanted, Some(key.0), purpose);
    }

    fn gather<S: Store>(
        &mut self,
        core: &mut Core<S>,
        object: &ObjectName,
        ranges: Vec<(u64, u64)>,
        wanted: BTreeSet<usize>,
        excluded: Option<DaemonId>,
        purpose: Purpose,
    ) {
        let number = core.number();
        let info = core.store.info(self.id, object).ok().flatten();
        let gather = Gather {
            object: object.clone(),
            version: info.map_or(Version::ZERO, |info| info.version),
            as_of: self.log.applied(),
            purpose,
            ranges,
            wanted,
            have: BTreeMap::new(),
            asked: BTreeMap::new(),
            failed: BTreeSet::new(),
            excluded,
            tries: 0,
            again: None,
        };
        self.gathers.insert(number, gather);
        self.ask_shards(core, number);
    }

    /// Who has which slot and may be asked, the best first: the own, then data slots.
    fn sources<S: Store>(&self, core: &Core<S>, gather: &Gather) -> Vec<(usize, DaemonId)> {
        let Role::Primary(primary) = &self.role else { return Vec::new() };
        let own = (!self.damaged.contains_key(&gather.object)).then_some(core.me);
        let synced = primary.members.iter().filter(|(_, progress)| progress.synced);
        let mut all: Vec<(usize, DaemonId)> = own
            .into_iter()
            .chain(synced.map(|(id, _)| *id))
            .filter(|id| !gather.failed.contains(id) && gather.excluded != Some(*id))
            .filter_map(|id| Some((self.confirmed.slot(id)?, id)))
            .collect();
        all.sort_by_key(|(slot, id)| (*id != core.me, *slot, *id));
        all
    }

    /// Asks those that are needed and not asked yet; gives up if there are too few.
    fn ask_shards<S: Store>(&mut self, core: &mut Core<S>, number: u64) {
        let (Some(layout), Some(gather)) = (&self.slots, self.gathers.get(&number)) else { return };
        let chosen = gather.choose(layout.data(), &self.sources(core, gather));
        let Some(chosen) = chosen else { return self.gather_later(core, number) };
        for id in chosen {
            self.ask_shard(core, number, id);
        }
        let at = core.now + core.config.resend_after;
        self.set_wake(core, at);
    }

    fn ask_shard<S: Store>(&mut self, core: &mut Core<S>, number: u64, id: DaemonId) {
        let (pg, interval) = (self.id, self.interval());
        let Some(slot) = self.confirmed.slot(id) else { return };
        let Some(gather) = self.gathers.get_mut(&number) else { return };
        let own = vec![None; gather.ranges.len()];
        gather.asked.insert(id, Asked { slot, sent: core.now, own });
        if id == core.me {
            for (index, (offset, length)) in gather.ranges.iter().enumerate() {
                let ticket = core.ticket(Pending::GatherRead(pg, number, index));
                core.store.read(ticket, pg, &gather.object, *offset, *length);
            }
            return;
        }
        let fetch = PeerMessage::Fetch {
            pg,
            interval,
            number,
            object: gather.object.clone(),
            version: gather.version,
            as_of: gather.as_of,
            ranges: gather.ranges.clone(),
        };
        core.send(id, fetch);
    }

    /// The own medium has answered.
    pub(crate) fn handle_gather_read<S: Store>(
        &mut self,
        core: &mut Core<S>,
        number: u64,
        index: usize,
        result: Result<Bytes, StoreError>,
    ) {
        let me = core.me;
        let Some(gather) = self.gathers.get_mut(&number) else { return };
        let object = gather.object.clone();
        let Some(asked) = gather.asked.get_mut(&me) else { return };
        match result {
            Ok(bytes) => {
                if let Some(place) = asked.own.get_mut(index) {
                    *place = Some(bytes);
                }
                if asked.own.iter().all(Option::is_some) {
                    let data = asked.own.drain(..).flatten().collect();
                    self.take_shard(core, number, me, Some(data));
                }
            }
            Err(StoreError::Failed(why)) => core.fail(&StoreError::Failed(why)),
            Err(error) => {
                tracing::warn!(pg = %self.id, %object, %error, "damaged");
                self.repair(core, &object);
                self.take_shard(core, number, me, None);
            }
        }
    }

    /// A member has answered, or the own medium: `None` if it cannot give what was asked for.
    pub(crate) fn take_shard<S: Store>(
        &mut self,
        core: &mut Core<S>,
        number: u64,
        from: DaemonId,
        data: Option<Vec<Bytes>>,
    ) {
        let Some(data_slots) = self.slots.as_ref().map(Layout::data) else { return };
        let Some(gather) = self.gathers.get_mut(&number) else { return };
        let Some(asked) = gather.asked.remove(&from) else { return };
        core.earn(data.iter().flatten().map(Bytes::len).sum());
        if !data.is_some_and(|data| gather.take(asked.slot, data)) {
            gather.failed.insert(from);
            return self.ask_shards(core, number);
        }
        if gather.is_done(data_slots) {
            self.end_gather(core, number);
        }
    }

    fn gather_later<S: Store>(&mut self, core: &mut Core<S>, number: u64) {
        let max = core.config.repair_attempts_max;
        let at = core.now + core.config.pull_retry;
        let Some(gather) = self.gathers.get_mut(&number) else { return };
        gather.tries += 1;
        if gather.tries < max && !matches!(gather.purpose, Purpose::Push(..)) {
            gather.again = Some(at);
            return self.set_wake(core, at);
        }
        let Some(gather) = self.gathers.remove(&number) else { return };
        let why = format!("fewer than k shards of version {} can be read", gather.version);
        tracing::error!(pg = %self.id, object = %gather.object, why, "cannot be put together");
        self.deliver(core, gather, Err(StoreError::Damaged(why)));
    }

    /// Begins tries again whose time has come, and asks those again that do not answer.
    pub(crate) fn retry_gathers<S: Store>(&mut self, core: &mut Core<S>, lost: Option<DaemonId>) {
        let (now, resend_after, me) = (core.now, core.config.resend_after, core.me);
        let mut again = Vec::new();
        let mut overdue = Vec::new();
        for (number, gather) in &mut self.gathers {
            if gather.again.is_some_and(|at| at <= now) {
                gather.again = None;
                gather.failed.clear();
                again.push(*number);
            }
            let due = |id: &DaemonId, asked: &Asked| {
                *id != me && (lost == Some(*id) || now.since(asked.sent) >= resend_after)
            };
            let silent = gather.asked.iter().filter(|(id, asked)| due(id, asked));
            overdue.extend(silent.map(|(id, _)| (*number, *id)));
        }
        again.into_iter().for_each(|number| self.ask_shards(core, number));
        overdue.into_iter().for_each(|(number, id)| self.ask_shard(core, number, id));
        if !self.gathers.is_empty() {
            let waits = self.gathers.values().filter_map(|gather| gather.again).min();
            let at = waits.unwrap_or(now + resend_after).min(now + resend_after);
            self.set_wake(core, at);
        }
    }

    fn end_gather<S: Store>(&mut self, core: &mut Core<S>, number: u64) {
        let Some(layout) = self.slots.clone() else { return };
        let Some(gather) = self.gathers.remove(&number) else { return };
        let shards = gather.rebuild(&layout);
        self.deliver(core, gather, shards);
    }

    fn deliver<S: Store>(
        &mut self,
        core: &mut Core<S>,
        gather: Gather,
        shards: Result<BTreeMap<usize, Vec<Bytes>>, StoreError>,
    ) {
        let Some(layout) = self.slots.clone() else { return };
        let Gather { object, purpose, ranges, .. } = gather;
        let join = |reads: &[(u64, u64)], shards: &BTreeMap<usize, Vec<Bytes>>| -> Vec<Bytes> {
            let each = reads.iter().zip(&ranges).enumerate();
            each.map(|(index, (read, (at, _)))| {
                let shard = |slot: usize| shards.get(&slot)?.get(index).cloned();
                joined(&layout.striping, *read, *at, shard)
            })
            .collect()
        };
        match purpose {
            Purpose::Job(number) => {
                let reads = self.jobs.get(&number).map(|job| job.reads()).unwrap_or_default();
                let results = match &shards {
                    Ok(shards) => join(&reads, shards).into_iter().map(Ok).collect(),
                    Err(error) => vec![Err(error.clone()); reads.len()],
                };
                for (index, result) in results.into_iter().enumerate() {
                    self.handle_job_read(core, number, index, result);
                }
            }
            Purpose::Encode { waiting, done, plan } => {
                let base = shards.map(|shards| join(plan.needs(), &shards));
                self.encoded(core, waiting, *done, *plan, base);
                self.retry_object(core, &object);
                if !self.queue.writes_is_empty() {
                    core.attention.insert(self.id);
                }
            }
            Purpose::Push(key, attempt) => {
                let slot = self.confirmed.slot(key.0);
                let bytes = shards.map(|shards| {
                    let of = slot.and_then(|slot| shards.get(&slot)?.first().cloned());
                    of.unwrap_or_default()
                });
                self.handle_push_read(core, &key, attempt, bytes);
            }
        }
    }

    /// Makes entries of what a request does, as soon as what it changes in part is read. `Err`: later.
    pub(crate) fn encode<S: Store>(
        &mut self,
        core: &mut Core<S>,
        waiting: Waiting,
        done: Done,
    ) -> Result<(), (Wait, Waiting)> {
        let (Some(layout), Some(mutation)) = (self.slots.clone(), done.mutation.clone()) else {
            return Ok(());
        };
        let object = waiting.request.object.clone();
        let size = match self.newest_info(core, &object) {
            Ok(size) => size,
            Err(error) => {
                self.conclude_later(core, waiting, execute::Execution::Unreadable(error));
                return Ok(());
            }
        };
        let plan = Plan::new(&layout, size, mutation);
        if plan.needs().is_empty() {
            let shards = plan.finish(&layout, &[]);
            self.propose(core, waiting, done, Some(shards));
            return Ok(());
        }
        if self.is_open(&object) {
            return Err((Wait::Object, waiting));
        }
        core.jobs_open += 1;
        let reads = plan.needs().to_vec();
        let purpose = Purpose::Encode { waiting, done: Box::new(done), plan: Box::new(plan) };
        self.gather_ranges(core, &object, &reads, purpose);
        Ok(())
    }

    /// The size of an object after its newest open entry; 0 if there is none.
    fn newest_info<S: Store>(
        &self,
        core: &Core<S>,
        object: &ObjectName,
    ) -> Result<u64, StoreError> {
        let open = match &self.role {
            Role::Primary(primary) => primary.overlay.object(object),
            _ => None,
        };
        let info = match open {
            Some(open) => open.info.clone(),
            None => core.store.info(self.id, object)?,
        };
        Ok(info.map_or(0, |info| info.size))
    }

    /// What was needed to encode a mutation has been read.
    fn encoded<S: Store>(
        &mut self,
        core: &mut Core<S>,
        waiting: Waiting,
        done: Done,
        plan: Plan,
        base: Result<Vec<Bytes>, StoreError>,
    ) {
        core.jobs_open -= 1;
        let Some(layout) = self.slots.clone() else { return };
        if !self.serves(core) || !self.is_writable() {
            return self.handle_request(core, waiting);
        }
        match base {
            Ok(base) => {
                let shards = plan.finish(&layout, &base);
                self.propose(core, waiting, done, Some(shards));
            }
            Err(error) => {
                self.conclude_later(core, waiting, execute::Execution::Unreadable(error));
            }
        }
    }

    /// The interval is over: whoever waits for bytes asks again.
    pub(crate) fn stop_gathers<S: Store>(&mut self, core: &mut Core<S>) {
        self.fetches.clear();
        if self.slots.is_some() {
            self.locked.clear();
        }
        for gather in std::mem::take(&mut self.gathers).into_values() {
            let waiting = match gather.purpose {
                Purpose::Job(number) => self.jobs.remove(&number).map(|job| job.into_waiting()),
                Purpose::Encode { waiting, .. } => Some(waiting),
                Purpose::Push(..) => continue,
            };
            if let Some(waiting) = waiting {
                core.jobs_open -= 1;
                self.handle_request(core, waiting);
            }
        }
    }
}
