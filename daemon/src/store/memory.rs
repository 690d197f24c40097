//! The simple second engine: everything in ordered maps, as the contract says it, and nothing more.
//!
//! It is the reference that the real engine is compared with, and the disk of the cluster simulator.
//! A [`Medium`] is what survives; a [`MemoryStore`] is one life of a daemon on it. A batch takes effect in
//! the store at once and becomes durable when the driver says [`Medium::complete_next`]; a
//! [`Medium::crash`] keeps what was durable and as many further batches, in order, as the driver chooses.
//!
//! Faults that a driver can make: full, damaged objects, a medium that fails for good, crashes between any
//! two batches. There is no tearing: a batch is atomic by contract, and the real engine's own tests prove
//! that it keeps the contract on a disk that tears.

use super::admission::{DemandClass, check_pgs, demand};
use super::{
    Change, Completion, Install, LogEntry, Mutation, OmapEntries, PgState, PgUsage, Store,
    StoreError, Usage, Write,
};
use bytes::{Bytes, BytesMut};
use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard};
use store_base::object::ObjectInfo;
use store_base::{ObjectName, PgId, Ticket, Version};

/// What can become of an object on a medium.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Damage {
    /// Its bytes do not verify any more.
    Unreadable,
    /// A byte is another, and nothing here shows it: a fault before the checksum was made.
    OtherByte,
    /// A key of its omap is gone.
    KeyLost,
    /// The object is gone.
    Lost,
}

/// An object: what [`ObjectInfo`] does not say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Object {
    info: ObjectInfo,
    /// Not overlapping, by offset. What is between reads as zero.
    data: BTreeMap<u64, Bytes>,
    xattrs: BTreeMap<Bytes, Bytes>,
    omap: BTreeMap<Bytes, Bytes>,
    omap_header: Bytes,
    /// Reads of bytes fail (the driver's doing).
    damaged: bool,
}

impl Object {
    /// Makes a range hold nothing.
    fn clear(&mut self, from: u64, to: u64) {
        let before = self.data.range(..from).next_back().map(|(at, data)| (*at, data.clone()));
        if let Some((at, data)) = before
            && at + data.len() as u64 > from
        {
            self.data.insert(at, data.slice(..(from - at) as usize));
            if at + data.len() as u64 > to {
                self.data.insert(to, data.slice((to - at) as usize..));
            }
        }
        let inside: Vec<u64> = self.data.range(from..to).map(|(at, _)| *at).collect();
        for at in inside {
            let data = self.data.remove(&at).unwrap_or_default();
            if at + data.len() as u64 > to {
                self.data.insert(to, data.slice((to - at) as usize..));
            }
        }
    }

    fn harm(&mut self, how: Damage) {
        match how {
            Damage::Unreadable => self.damaged = true,
            Damage::OtherByte => {
                if let Some(data) = self.data.values_mut().next() {
                    let mut bytes = data.to_vec();
                    bytes[0] ^= 1;
                    *data = bytes.into();
                }
            }
            Damage::KeyLost => {
                self.omap.pop_first();
            }
            Damage::Lost => {}
        }
    }

    fn write(&mut self, offset: u64, data: &Bytes) {
        if !data.is_empty() {
            self.clear(offset, offset + data.len() as u64);
            self.data.insert(offset, data.clone());
        }
    }

    fn apply(&mut self, change: &Change) {
        match change {
            Change::Write { offset, data } => self.write(*offset, data),
            Change::Zero { offset, length } => self.clear(*offset, offset.saturating_add(*length)),
            Change::Truncate { size } => self.clear(*size, u64::MAX),
            Change::Xattrs { set } => set_all(&mut self.xattrs, set),
            Change::Omap { set } => set_all(&mut self.omap, set),
            Change::OmapRemoveRange { from, to } => {
                self.omap.retain(|key, _| key < from || key >= to);
            }
            Change::OmapClear {} => {
                self.omap.clear();
                self.omap_header = Bytes::new();
            }
            Change::OmapHeader { data } => self.omap_header = data.clone(),
            Change::Remove {} => *self = Object::default(),
        }
    }

    /// The info is the last word on the size.
    fn finish(&mut self, info: ObjectInfo) {
        self.clear(info.size, u64::MAX);
        self.info = info;
    }

    fn read(&self, offset: u64, length: u64) -> Bytes {
        let end = match length {
            0 => self.info.size,
            length => self.info.size.min(offset.saturating_add(length)),
        };
        let Some(length) = end.checked_sub(offset) else { return Bytes::new() };
        let mut out = BytesMut::zeroed(length as usize);
        for (at, len) in self.ranges(offset, end) {
            let (start, data) = self.data.range(..=at).next_back().expect("a range holds data");
            let from = (at - start) as usize;
            out[(at - offset) as usize..][..len as usize]
                .copy_from_slice(&data[from..from + len as usize]);
        }
        out.freeze()
    }

    /// Ranges with data, one per piece.
    fn ranges(&self, from: u64, to: u64) -> Vec<(u64, u64)> {
        let first = self.data.range(..from).next_back().map_or(from, |(at, _)| *at);
        self.data
            .range(first..to)
            .map(|(at, data)| ((*at).max(from), (at + data.len() as u64).min(to)))
            .filter(|(start, end)| start < end)
            .map(|(start, end)| (start, end - start))
            .collect()
    }

    fn omap_bytes(&self) -> u64 {
        self.omap.iter().map(|(k, v)| (k.len() + v.len()) as u64).sum()
    }
}

fn set_all(map: &mut BTreeMap<Bytes, Bytes>, set: &BTreeMap<Bytes, Option<Bytes>>) {
    for (key, value) in set {
        match value {
            Some(value) => map.insert(key.clone(), value.clone()),
            None => map.remove(key),
        };
    }
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Pg {
    state: PgState,
    objects: BTreeMap<ObjectName, Object>,
    /// Copies that are being brought in.
    incoming: BTreeMap<ObjectName, Object>,
    /// Something of it is lost: it can only be removed.
    lost: bool,
}

impl Pg {
    fn last(&self) -> Version {
        let last = self.state.staged.last().or_else(|| self.state.applied.last());
        last.map_or(Version::ZERO, |entry| entry.version)
    }

    fn stage(&mut self, entry: &LogEntry) {
        assert!(entry.mutation.is_some(), "a staged entry has its mutation: {}", entry.version);
        assert!(
            entry.version > self.last(),
            "the versions of a log grow: {} behind {}",
            entry.version,
            self.last()
        );
        self.state.staged.push(entry.clone());
    }

    fn apply(&mut self, to: Version, except: &[Version]) {
        let count = self.state.staged.partition_point(|entry| entry.version <= to);
        for mut entry in self.state.staged.drain(..count).collect::<Vec<_>>() {
            let mutation = entry.mutation.take().unwrap_or_default();
            if !except.contains(&entry.version) {
                self.mutate(&entry, mutation);
            }
            self.state.applied.push(entry);
        }
    }

    fn mutate(&mut self, entry: &LogEntry, mutation: Mutation) {
        let Mutation { changes, info } = mutation;
        if entry.object.name.is_empty() || (changes.is_empty() && info.is_none() && !entry.removes)
        {
            return;
        }
        let Some(info) = info else {
            self.objects.remove(&entry.object);
            return;
        };
        let object = self.objects.entry(entry.object.clone()).or_default();
        changes.iter().for_each(|change| object.apply(change));
        object.finish(info);
    }

    fn install(&mut self, name: &ObjectName, part: &Install) {
        let set = |map: &mut BTreeMap<Bytes, Bytes>, entries: &BTreeMap<Bytes, Bytes>| {
            map.extend(entries.iter().map(|(k, v)| (k.clone(), v.clone())));
        };
        let copy = self.incoming.entry(name.clone()).or_default();
        match part {
            Install::Start {} => *copy = Object::default(),
            Install::Data { offset, data } => copy.write(*offset, data),
            Install::Xattrs { entries } => set(&mut copy.xattrs, entries),
            Install::Omap { entries } => set(&mut copy.omap, entries),
            Install::OmapHeader { data } => copy.omap_header = data.clone(),
            Install::Finish { info } => {
                copy.finish(info.clone());
                let copy = self.incoming.remove(name).unwrap_or_default();
                self.objects.insert(name.clone(), copy);
            }
            Install::Abort {} => {
                self.incoming.remove(name);
            }
        }
    }

    /// What of it is a child's, or stays with the parent, by a larger number.
    fn part(&self, pg: PgId, pg_num: u32) -> Pg {
        let is_own = |object: &ObjectName| object.pg(pg.pool, pg_num) == pg;
        let own = self.objects.iter().filter(|(object, _)| is_own(object));
        let objects = own.map(|(object, found)| (object.clone(), found.clone())).collect();
        let mut state = self.state.clone();
        for entry in state.staged.iter_mut().filter(|entry| !is_own(&entry.object)) {
            entry.forget_effect();
        }
        Pg { state, objects, incoming: BTreeMap::new(), lost: self.lost }
    }

    fn usage(&self) -> PgUsage {
        PgUsage {
            objects: self.objects.len() as u64,
            bytes: self.objects.values().map(|object| object.info.size).sum(),
            omap_bytes: self.objects.values().map(Object::omap_bytes).sum(),
        }
    }
}

/// All that a medium holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Contents {
    pgs: BTreeMap<PgId, Pg>,
    named: BTreeMap<Bytes, Bytes>,
}

impl Contents {
    fn apply(&mut self, write: &Write) {
        match write {
            Write::CreatePg { pg } => {
                self.pgs.entry(*pg).or_default();
            }
            Write::RemovePg { pg } => {
                self.pgs.remove(pg);
            }
            Write::SplitPg { pg, from, to } => {
                let whole = self.pg(pg).clone();
                for part in pg.children(*from, *to).chain([*pg]) {
                    self.pgs.insert(part, whole.part(part, *to));
                }
            }
            Write::Super { key, value } => set_one(&mut self.named, key, value),
            Write::Meta { pg, key, value } => set_one(&mut self.pg(pg).state.meta, key, value),
            Write::Stage { pg, entry } | Write::Follow { pg, entry } => self.pg(pg).stage(entry),
            Write::Apply { pg, to, except } => self.pg(pg).apply(*to, except),
            Write::DropStaged { pg, after } => {
                self.pg(pg).state.staged.retain(|entry| entry.version <= *after);
            }
            Write::TrimLog { pg, to } => {
                self.pg(pg).state.applied.retain(|entry| entry.version > *to);
            }
            Write::ReplaceLog { pg, applied, staged } => {
                let pg = self.pg(pg);
                pg.state.applied = applied
                    .iter()
                    .map(|entry| LogEntry { mutation: None, ..entry.clone() })
                    .collect();
                pg.state.staged.clear();
                staged.iter().for_each(|entry| pg.stage(entry));
            }
            Write::Install { pg, object, part } => self.pg(pg).install(object, part),
            Write::RemoveObject { pg, object } => {
                self.pg(pg).objects.remove(object);
            }
        }
    }

    fn damage(&mut self, objects: impl IntoIterator<Item = (PgId, ObjectName, Damage)>) {
        for (pg, name, how) in objects {
            let Some(pg) = self.pgs.get_mut(&pg) else { continue };
            if how == Damage::Lost {
                pg.objects.remove(&name);
            } else if let Some(object) = pg.objects.get_mut(&name) {
                object.harm(how);
            }
        }
    }

    fn pg(&mut self, pg: &PgId) -> &mut Pg {
        self.pgs.get_mut(pg).expect("checked when the batch was taken")
    }
}

fn set_one(map: &mut BTreeMap<Bytes, Bytes>, key: &Bytes, value: &Option<Bytes>) {
    match value {
        Some(value) => map.insert(key.clone(), value.clone()),
        None => map.remove(key),
    };
}

#[derive(Debug, Default)]
struct State {
    durable: Contents,
    pending: VecDeque<(Option<Ticket>, Vec<Write>)>,
    reads: VecDeque<Completion>,
    done: VecDeque<Completion>,
    /// Raised by every crash; a store of an earlier life gets only errors.
    life: u64,
    automatic: bool,
    full: bool,
    capacity_bytes: u64,
    failed: Option<StoreError>,
    /// Damage that the open store has not seen yet.
    damaged: Vec<(PgId, ObjectName, Damage)>,
}

impl State {
    fn complete_next(&mut self) -> bool {
        let Some((ticket, batch)) = self.pending.pop_front() else { return false };
        batch.iter().for_each(|write| self.durable.apply(write));
        self.done.extend(ticket.map(|ticket| Completion::Stored { ticket }));
        true
    }

    fn complete_next_read(&mut self) -> bool {
        let read = self.reads.pop_front();
        let some = read.is_some();
        self.done.extend(read);
        some
    }
}

/// What survives a crash, and the driver's handle on it. Clones are the same medium.
#[derive(Clone, Debug)]
pub struct Medium(Arc<Mutex<State>>);

impl Default for Medium {
    fn default() -> Self {
        Medium::new()
    }
}

impl Medium {
    /// An empty medium without end.
    pub fn new() -> Medium {
        Medium(Arc::new(Mutex::new(State { capacity_bytes: u64::MAX, ..State::default() })))
    }

    /// With `true`, all that is pending completes with the next `poll`: for tests that do not care.
    pub fn set_automatic(&self, automatic: bool) {
        self.state().automatic = automatic;
    }

    /// How many batches are submitted and not yet durable.
    pub fn pending(&self) -> usize {
        self.state().pending.len()
    }

    /// Makes the oldest pending batch durable. `false` if there is none.
    pub fn complete_next(&self) -> bool {
        self.state().complete_next()
    }

    /// How many reads wait for their answer.
    pub fn pending_reads(&self) -> usize {
        self.state().reads.len()
    }

    /// Answers the oldest waiting read. `false` if there is none.
    pub fn complete_next_read(&self) -> bool {
        self.state().complete_next_read()
    }

    /// Completes all that is pending, batches and reads.
    pub fn complete_all(&self) {
        let mut state = self.state();
        while state.complete_next() {}
        while state.complete_next_read() {}
    }

    /// The power goes. All that was durable survives, and of the pending batches the first `keep`. The
    /// store that was open on this medium gets only errors from now on: open another one.
    pub fn crash(&self, keep: usize) {
        let mut state = self.state();
        for _ in 0..keep {
            state.complete_next();
        }
        state.pending.clear();
        state.reads.clear();
        state.done.clear();
        state.failed = None;
        state.damaged.clear();
        state.life += 1;
    }

    /// An automatic medium of its own with what is durable here: to look at, and for trials.
    pub fn snapshot(&self) -> Medium {
        let copy = Medium::new();
        copy.state().durable = self.state().durable.clone();
        copy.set_automatic(true);
        copy
    }

    /// Whether the durable log of a group has an entry, or began behind it.
    pub fn has_entry(&self, pg: PgId, version: Version) -> bool {
        let state = self.state();
        let Some(pg) = state.durable.pgs.get(&pg) else { return false };
        let has =
            |log: &[LogEntry]| log.binary_search_by_key(&version, |entry| entry.version).is_ok();
        let first = pg.state.applied.first().or_else(|| pg.state.staged.first());
        let is_trimmed = match first {
            Some(first) => first.previous >= version,
            None => pg.state.meta.contains_key(&b"tail"[..]),
        };
        has(&pg.state.applied) || has(&pg.state.staged) || is_trimmed
    }

    /// With `true`, every batch that is not a delete or housekeeping is refused.
    pub fn set_full(&self, full: bool) {
        self.state().full = full;
    }

    /// Sets the capacity, counted in bytes of data, keys and values.
    pub fn set_capacity(&self, bytes: u64) {
        self.state().capacity_bytes = bytes;
    }

    /// Reads of the object's bytes fail from now on, until it is removed or replaced as a whole.
    pub fn damage(&self, pg: PgId, object: &ObjectName) {
        self.harm(pg, object, Damage::Unreadable);
    }

    /// Harms an object behind the back of the store that is open.
    pub fn harm(&self, pg: PgId, object: &ObjectName, how: Damage) {
        let mut state = self.state();
        state.durable.damage([(pg, object.clone(), how)]);
        state.damaged.push((pg, object.clone(), how));
    }

    /// Whether a batch that is not durable yet changes a placement group. Harm done meanwhile comes before
    /// the batch for what is durable, and after it for the store that is open.
    pub fn is_changing(&self, pg: PgId) -> bool {
        let state = self.state();
        state.pending.iter().any(|(_, batch)| batch.iter().any(|write| write.pg() == Some(pg)))
    }

    /// Whether reads of the object's bytes fail.
    pub fn is_damaged(&self, pg: PgId, object: &ObjectName) -> bool {
        let state = self.state();
        let found = state.durable.pgs.get(&pg).and_then(|pg| pg.objects.get(object));
        found.is_some_and(|object| object.damaged)
    }

    /// Something of a placement group is lost, as a store finds that opens the medium: it keeps the rest, and
    /// shows it to nobody.
    pub fn lose(&self, pg: PgId) {
        if let Some(pg) = self.state().durable.pgs.get_mut(&pg) {
            pg.lost = true;
        }
    }

    /// The medium fails for good (until the next crash).
    pub fn fail(&self, why: &str) {
        let mut state = self.state();
        let error = StoreError::Failed(why.to_string());
        state.failed = Some(error.clone());
        state.pending.clear();
        state.reads.clear();
        state.done.clear();
        state.done.push_back(Completion::Failed { error });
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().expect("no holder of this lock panics")
    }
}

/// One life of a daemon's store on a [`Medium`].
#[derive(Debug)]
pub struct MemoryStore {
    medium: Medium,
    life: u64,
    live: Contents,
}

impl MemoryStore {
    /// Opens what survived on the medium.
    pub fn open(medium: &Medium) -> MemoryStore {
        let state = medium.state();
        let (life, live) = (state.life, state.durable.clone());
        drop(state);
        MemoryStore { medium: medium.clone(), life, live }
    }

    /// An empty store whose batches complete with the next `poll`.
    pub fn automatic() -> MemoryStore {
        let medium = Medium::new();
        medium.set_automatic(true);
        MemoryStore::open(&medium)
    }

    /// The medium that this store is on.
    pub fn medium(&self) -> &Medium {
        &self.medium
    }

    fn object(&self, pg: PgId, object: &ObjectName) -> Result<Option<&Object>, StoreError> {
        let pg = self.live.pgs.get(&pg).ok_or(StoreError::NoPg(pg))?;
        Ok(pg.objects.get(object))
    }

    fn used(&self) -> u64 {
        let usage = self.live.pgs.values().map(Pg::usage);
        usage.map(|usage| usage.bytes + usage.omap_bytes).sum()
    }

    fn admit(&self, state: &State, batch: &[Write]) -> Result<(), StoreError> {
        let demand = demand(batch);
        if demand.class < DemandClass::Growing {
            return Ok(());
        }
        // Adding up all objects is slow; only a store with an end needs it.
        let over = state.capacity_bytes != u64::MAX
            && self.used() + demand.added_bytes > state.capacity_bytes;
        if state.full || over {
            return Err(StoreError::Full("the medium has no room for this".into()));
        }
        Ok(())
    }
}

impl Store for MemoryStore {
    fn pgs(&self) -> Vec<PgId> {
        self.live.pgs.keys().copied().collect()
    }

    fn load(&self, pg: PgId) -> Result<PgState, StoreError> {
        match self.live.pgs.get(&pg) {
            None => Err(StoreError::NoPg(pg)),
            Some(found) if found.lost => Err(StoreError::Damaged("a part was lost".into())),
            Some(found) => Ok(found.state.clone()),
        }
    }

    fn superblock(&self, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        Ok(self.live.named.get(key).cloned())
    }

    fn submit(&mut self, ticket: Option<Ticket>, batch: Vec<Write>) -> Result<(), StoreError> {
        let medium = self.medium.clone();
        let mut state = medium.state();
        if state.life != self.life {
            return Err(StoreError::Failed("this store is of a life before a crash".into()));
        }
        if let Some(error) = &state.failed {
            return Err(error.clone());
        }
        check_pgs(&batch, |pg| self.live.pgs.get(&pg).is_some_and(|pg| !pg.lost))?;
        self.admit(&state, &batch)?;
        self.live.damage(state.damaged.drain(..));
        batch.iter().for_each(|write| self.live.apply(write));
        state.pending.push_back((ticket, batch));
        Ok(())
    }

    fn read(&mut self, ticket: Ticket, pg: PgId, object: &ObjectName, offset: u64, length: u64) {
        let medium = self.medium.clone();
        let mut state = medium.state();
        self.live.damage(state.damaged.drain(..));
        let result = self.object(pg, object).and_then(|found| match found {
            None => Ok(Bytes::new()),
            Some(found) if found.damaged && !found.data.is_empty() => {
                Err(StoreError::Damaged(format!("{pg} {object}: checksum mismatch")))
            }
            Some(found) => Ok(found.read(offset, length)),
        });
        if state.life == self.life && state.failed.is_none() {
            state.reads.push_back(Completion::Read { ticket, result });
        }
    }

    fn poll(&mut self, done: &mut Vec<Completion>) {
        let mut state = self.medium.state();
        if state.life != self.life {
            return;
        }
        if state.automatic {
            while state.complete_next() {}
            while state.complete_next_read() {}
        }
        done.extend(state.done.drain(..));
    }

    fn info(&self, pg: PgId, object: &ObjectName) -> Result<Option<ObjectInfo>, StoreError> {
        Ok(self.object(pg, object)?.map(|object| object.info.clone()))
    }

    fn xattrs(&self, pg: PgId, object: &ObjectName) -> Result<BTreeMap<Bytes, Bytes>, StoreError> {
        Ok(self.object(pg, object)?.map(|object| object.xattrs.clone()).unwrap_or_default())
    }

    fn xattr(
        &self,
        pg: PgId,
        object: &ObjectName,
        name: &[u8],
    ) -> Result<Option<Bytes>, StoreError> {
        Ok(self.object(pg, object)?.and_then(|object| object.xattrs.get(name).cloned()))
    }

    fn omap_header(&self, pg: PgId, object: &ObjectName) -> Result<Bytes, StoreError> {
        Ok(self.object(pg, object)?.map(|object| object.omap_header.clone()).unwrap_or_default())
    }

    fn omap(&self, pg: PgId, object: &ObjectName, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        Ok(self.object(pg, object)?.and_then(|object| object.omap.get(key).cloned()))
    }

    fn omap_list(
        &self,
        pg: PgId,
        object: &ObjectName,
        after: Option<&[u8]>,
        prefix: &[u8],
        max: usize,
    ) -> Result<OmapEntries, StoreError> {
        let Some(object) = self.object(pg, object)? else { return Ok((Vec::new(), false)) };
        let mut found: Vec<(Bytes, Bytes)> = object
            .omap
            .range(Bytes::copy_from_slice(prefix)..)
            .take_while(|(key, _)| key.starts_with(prefix))
            .filter(|(key, _)| after.is_none_or(|after| &key[..] > after))
            .take(max.saturating_add(1))
            .map(|(key, value)| (key.clone(), value.clone()))
            .collect();
        let more = found.len() > max;
        found.truncate(max);
        Ok((found, more))
    }

    fn list(
        &self,
        pg: PgId,
        after: Option<&ObjectName>,
        max: usize,
    ) -> Result<Vec<(ObjectName, ObjectInfo)>, StoreError> {
        use std::ops::Bound::{Excluded, Unbounded};
        let pg = self.live.pgs.get(&pg).ok_or(StoreError::NoPg(pg))?;
        let from = after.map_or(Unbounded, |after| Excluded(after.clone()));
        let found = pg.objects.range((from, Unbounded)).take(max);
        Ok(found.map(|(name, object)| (name.clone(), object.info.clone())).collect())
    }

    fn extents(
        &self,
        pg: PgId,
        object: &ObjectName,
        offset: u64,
        length: u64,
    ) -> Result<Vec<(u64, u64)>, StoreError> {
        let Some(object) = self.object(pg, object)? else { return Ok(Vec::new()) };
        let mut joined: Vec<(u64, u64)> = Vec::new();
        for (at, len) in object.ranges(offset, offset.saturating_add(length)) {
            match joined.last_mut() {
                Some(last) if last.0 + last.1 == at => last.1 += len,
                _ => joined.push((at, len)),
            }
        }
        Ok(joined)
    }

    fn pg_usage(&self, pg: PgId) -> PgUsage {
        self.live.pgs.get(&pg).map(Pg::usage).unwrap_or_default()
    }

    fn room(&self) -> u64 {
        let state = self.medium.state();
        match state.capacity_bytes {
            _ if state.full => 0,
            u64::MAX => u64::MAX,
            capacity => capacity.saturating_sub(self.used()),
        }
    }

    fn usage(&self) -> Usage {
        let used = self.used();
        Usage {
            reclaimable_bytes: 0,
            capacity_bytes: self.medium.state().capacity_bytes,
            used_bytes: used,
            stored_bytes: used,
            objects: self.live.pgs.values().map(|pg| pg.objects.len() as u64).sum(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PG: PgId = PgId { pool: store_base::PoolId(1), seed: 0 };

    fn version(counter: u64) -> Version {
        Version { interval: store_base::Interval(1), counter }
    }

    fn write(counter: u64, data: &'static [u8]) -> Write {
        let info = ObjectInfo { size: data.len() as u64, ..ObjectInfo::default() };
        let changes = vec![Change::Write { offset: 0, data: data.into() }];
        let entry = LogEntry {
            version: version(counter),
            object: ObjectName::new("o"),
            mutation: Some(Mutation { changes, info: Some(info) }),
            ..LogEntry::default()
        };
        Write::Stage { pg: PG, entry }
    }

    fn apply(counter: u64) -> Write {
        Write::Apply { pg: PG, to: version(counter), except: vec![] }
    }

    fn read(store: &mut MemoryStore) -> Result<Bytes, StoreError> {
        store.read(Ticket(99), PG, &ObjectName::new("o"), 0, 0);
        store.medium().complete_all();
        let mut done = Vec::new();
        store.poll(&mut done);
        match done.pop() {
            Some(Completion::Read { result, .. }) => result,
            other => panic!("no read: {other:?}"),
        }
    }

    #[test]
    fn a_crash_keeps_what_was_durable_and_a_prefix_of_the_rest() {
        let medium = Medium::new();
        let mut store = MemoryStore::open(&medium);
        store.submit(Some(Ticket(1)), vec![Write::CreatePg { pg: PG }, write(1, b"one")]).unwrap();
        assert!(medium.complete_next());
        store.submit(None, vec![apply(1)]).unwrap();
        store.submit(Some(Ticket(2)), vec![write(2, b"two!")]).unwrap();
        store.submit(None, vec![apply(2)]).unwrap();
        let mut done = Vec::new();
        store.poll(&mut done);
        assert_eq!(done, [Completion::Stored { ticket: Ticket(1) }]);
        assert_eq!(store.info(PG, &ObjectName::new("o")).unwrap().unwrap().size, 4);
        medium.crash(2);
        assert!(store.submit(None, vec![apply(2)]).is_err(), "the old life is over");
        let mut store = MemoryStore::open(&medium);
        assert_eq!(read(&mut store).unwrap(), "one");
        let state = store.load(PG).unwrap();
        assert_eq!((state.applied.len(), state.staged.len()), (1, 1));
    }

    #[test]
    fn damage_lasts_until_the_object_is_replaced_and_full_spares_deletes() {
        let mut store = MemoryStore::automatic();
        store.submit(None, vec![Write::CreatePg { pg: PG }, write(1, b"one"), apply(1)]).unwrap();
        store.medium().clone().damage(PG, &ObjectName::new("o"));
        assert!(matches!(read(&mut store), Err(StoreError::Damaged(_))));
        let install = |part| Write::Install { pg: PG, object: ObjectName::new("o"), part };
        let info = ObjectInfo { size: 3, ..ObjectInfo::default() };
        let data = Install::Data { offset: 0, data: "new".into() };
        store.submit(None, vec![install(data), install(Install::Finish { info })]).unwrap();
        assert_eq!(read(&mut store).unwrap(), "new");
        store.medium().set_full(true);
        assert!(matches!(store.submit(None, vec![write(2, b"x")]), Err(StoreError::Full(_))));
        let gone = LogEntry {
            version: version(2),
            object: ObjectName::new("o"),
            removes: true,
            mutation: Some(Mutation { changes: vec![Change::Remove {}], info: None }),
            ..LogEntry::default()
        };
        store.submit(None, vec![Write::Stage { pg: PG, entry: gone }, apply(2)]).unwrap();
        assert_eq!(store.pg_usage(PG), PgUsage::default());
    }
}
