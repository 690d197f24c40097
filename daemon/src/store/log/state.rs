//! What the batches make: placement groups with their logs, objects, omaps, named values. Pure but for
//! the index's store, which it only reads.
//!
//! Invariants:
//! - The state is a function of the sequence of steps. A replay from a checkpoint makes the same.
//! - Every piece that an object, a copy or a staged entry names is counted once in the allocator.
//! - After an error the state is not to be used any more: the index could not be read.

mod split;

use super::allocator::Allocator;
use super::index::{Frozen, Index, Onode, behind, number_key, object_key, pg_key, version_key};
use super::piece::{self, Piece, References};
use super::step::{Placed, Step, put_data};
use crate::store::kv::{KvError, KvStore};
use crate::store::{Change, Install, LogEntry, Mutation, PgState, PgUsage};
use bytes::Bytes;
pub use split::Part;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use store_base::codec::{Decode, Encode, Writer};
use store_base::object::ObjectInfo;
use store_base::{ObjectName, PgId, Version};

/// What a checkpoint says of itself. Versioned form, version 1.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Checkpoint {
    /// Of the file whose index this is.
    pub uuid: store_base::ClusterId,
    /// The last batch that it contains.
    pub seq: u64,
    /// The first log segment that is still needed.
    pub tail: u64,
    /// The next number for a placement group or omap.
    pub next_id: u64,
}
store_base::codec_versioned!(Checkpoint, 1, 1 { uuid, seq, tail, next_id });

/// What a checkpoint keeps of a placement group. Versioned form, version 2; `part` is there once it was divided.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct PgRecord {
    pg: PgId,
    uid: u64,
    meta: BTreeMap<Bytes, Bytes>,
    objects: u64,
    bytes: u64,
    omap_bytes: u64,
    runs: Vec<(Version, Version)>,
    trimmed: Version,
    part: Option<Part>,
}
store_base::codec_versioned!(PgRecord, 2, 1 {
    pg, uid, meta, objects, bytes, omap_bytes, runs, trimmed, part since 2,
});

/// The store's own value of a placement group that is damaged: why.
const DAMAGED: &[u8] = b"store.damaged";

/// A staged entry.
#[derive(Debug)]
pub struct Staged {
    /// The entry and where its bytes are.
    pub placed: Placed,
    /// Its bytes; after a start they are read from the medium. `Err` if they are damaged.
    pub data: Result<Vec<Bytes>, String>,
    /// Whether a checkpoint has it as it is.
    kept: bool,
}

/// A placement group.
#[derive(Debug, Default)]
pub struct Pg {
    /// Of the log.
    uid: u64,
    /// Of the objects.
    part: Part,
    meta: BTreeMap<Bytes, Bytes>,
    usage: PgUsage,
    /// Entries without effect yet.
    pub staged: VecDeque<Staged>,
    /// Applied entries that a checkpoint has: first and last of each run.
    runs: VecDeque<(Version, Version)>,
    /// Applied entries since, encoded.
    fresh: VecDeque<(Version, Bytes)>,
    trimmed: Version,
    changed: bool,
}

impl Pg {
    fn last(&self) -> Version {
        if let Some(staged) = self.staged.back() {
            return staged.placed.entry.version;
        }
        let fresh = self.fresh.back().map(|(version, _)| *version);
        let kept = self.runs.back().map(|(_, last)| *last).filter(|last| *last > self.trimmed);
        fresh.or(kept).unwrap_or(Version::ZERO)
    }

    fn record(&self, pg: PgId) -> PgRecord {
        PgRecord {
            pg,
            uid: self.uid,
            meta: self.meta.clone(),
            objects: self.usage.objects,
            bytes: self.usage.bytes,
            omap_bytes: self.usage.omap_bytes,
            runs: self.runs.iter().copied().collect(),
            trimmed: self.trimmed,
            part: (!self.part.is_whole()).then_some(self.part),
        }
    }
}

/// Why a step could not be executed: the index or the log is damaged.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Fault(pub String);

impl From<KvError> for Fault {
    fn from(e: KvError) -> Fault {
        Fault(e.to_string())
    }
}

/// Everything that is stored.
pub struct State {
    pgs: BTreeMap<PgId, Pg>,
    named: BTreeMap<Bytes, Bytes>,
    /// Placement groups that were removed and still have objects, and from which key on.
    dead: BTreeMap<u64, (Part, Vec<u8>)>,
    /// How many of the groups are parts of what was one.
    divided: usize,
    /// Named values whose last change is lost.
    lost_names: BTreeSet<Bytes>,
    next_id: u64,
    uuid: store_base::ClusterId,
    /// Objects and omaps.
    pub index: Index,
    /// The medium's room.
    pub allocator: Allocator,
}

impl State {
    /// Reads the last checkpoint of a file with this identity; an empty store gives an empty state.
    pub fn open(
        store: Arc<dyn KvStore>,
        uuid: store_base::ClusterId,
        file_size: u64,
    ) -> Result<(State, Checkpoint), Fault> {
        let checkpoint = match store.value(b"C")? {
            Some(value) => decode::<Checkpoint>(value, "checkpoint")?,
            None => Checkpoint { uuid, next_id: 1, ..Checkpoint::default() },
        };
        if checkpoint.uuid != uuid {
            return Err(Fault(format!(
                "the index belongs to the file {}, but the file is {uuid}",
                checkpoint.uuid
            )));
        }
        let mut state = State {
            pgs: BTreeMap::new(),
            named: BTreeMap::new(),
            dead: BTreeMap::new(),
            divided: 0,
            lost_names: BTreeSet::new(),
            next_id: checkpoint.next_id,
            uuid,
            index: Index::new(store.clone()),
            allocator: Allocator::new(file_size),
        };
        each(&*store, b'N', |key, value| {
            state.named.insert(key.slice(1..), value);
            Ok(())
        })?;
        let mut uids = BTreeMap::new();
        each(&*store, b'P', |_, value| {
            let record = decode::<PgRecord>(value, "placement group")?;
            uids.insert(record.uid, record.pg);
            state.pgs.insert(record.pg, open_pg(record));
            Ok(())
        })?;
        each(&*store, b'S', |key, value| {
            let placed = decode::<Placed>(value, "staged entry")?;
            let pg = uids.get(&number_of(&key)?).and_then(|pg| state.pgs.get_mut(pg));
            let pg = pg.ok_or_else(|| Fault("a staged entry without placement group".into()))?;
            if !placed.is_valid() {
                return Err(Fault("a staged entry makes no sense".into()));
            }
            pg.staged.push_back(Staged { placed, data: Ok(Vec::new()), kept: true });
            Ok(())
        })?;
        state.divided = state.pgs.values().filter(|pg| !pg.part.is_whole()).count();
        each(&*store, b'X', |key, value| {
            let uid = number_of(&key)?;
            let part = match value.is_empty() {
                true => Part::whole(uid),
                false => decode::<Part>(value, "removed placement group")?,
            };
            state.dead.insert(uid, (part, part.keys(b'O').0));
            Ok(())
        })?;
        each(&*store, b'A', |key, value| {
            let number = u32::from_be_bytes(
                key[1..].try_into().map_err(|_| Fault("a chunk without number".into()))?,
            );
            state.allocator.load_chunk(number.into(), value).map_err(Fault)
        })?;
        Ok((state, checkpoint))
    }

    /// Placement groups that are here.
    pub fn pgs(&self) -> impl Iterator<Item = PgId> {
        self.pgs.keys().copied()
    }

    /// Whether a placement group is here.
    pub fn has(&self, pg: PgId) -> bool {
        self.pgs.contains_key(&pg)
    }

    /// The last version of a log.
    pub fn last(&self, pg: PgId) -> Version {
        self.pgs.get(&pg).map_or(Version::ZERO, Pg::last)
    }

    /// Counts of one.
    pub fn pg_usage(&self, pg: PgId) -> PgUsage {
        self.pgs.get(&pg).map(|pg| pg.usage).unwrap_or_default()
    }

    /// A named value of the daemon.
    pub fn named(&self, key: &[u8]) -> Option<Bytes> {
        self.named.get(key).cloned()
    }

    /// A placement group that was removed and still has objects.
    pub fn dead(&self) -> Option<u64> {
        self.dead.keys().next().copied()
    }

    /// What all of them had.
    pub fn dead_all(&self) -> impl Iterator<Item = Part> {
        self.dead.values().map(|(part, _)| *part)
    }

    /// The staged entries of a placement group.
    pub fn staged(&self, pg: PgId) -> impl Iterator<Item = &Staged> {
        self.pgs.get(&pg).into_iter().flat_map(|pg| &pg.staged)
    }

    /// Named values of a placement group.
    pub fn meta(&self, pg: PgId) -> Option<&BTreeMap<Bytes, Bytes>> {
        self.pgs.get(&pg).map(|pg| &pg.meta)
    }

    /// Sets the counts of a placement group to what was found.
    pub fn set_usage(&mut self, pg: PgId, usage: PgUsage) {
        if let Some(pg) = self.pgs.get_mut(&pg) {
            pg.usage = usage;
            pg.changed = true;
        }
    }

    /// The staged entries of all placement groups, to fill in their bytes.
    pub fn staged_mut(&mut self) -> impl Iterator<Item = &mut Staged> {
        self.pgs.values_mut().flat_map(|pg| &mut pg.staged)
    }

    /// The key of an object, if its placement group is here.
    pub fn object_key(&self, pg: PgId, object: &ObjectName) -> Option<Vec<u8>> {
        Some(object_key(b'O', self.pgs.get(&pg)?.part.home, object))
    }

    /// All that a placement group keeps besides objects.
    pub fn load(&self, id: PgId) -> Result<Option<PgState>, Fault> {
        let Some(pg) = self.pgs.get(&id) else { return Ok(None) };
        let mut applied = Vec::new();
        for (first, _) in &pg.runs {
            let value = self.index.value(&version_key(b'L', pg.uid, *first))?;
            let value = value.ok_or_else(|| Fault(format!("the log of {id} lacks {first}")))?;
            applied.extend(decode::<Vec<LogEntry>>(value, "log")?);
        }
        for (_, entry) in &pg.fresh {
            applied.push(decode::<LogEntry>(entry.clone(), "log entry")?);
        }
        applied.retain(|entry| entry.version > pg.trimmed);
        let mut staged = Vec::new();
        for one in &pg.staged {
            let mut entry = one.placed.entry.clone();
            let data = one.data.as_ref().map_err(|e| Fault(e.clone()))?;
            put_data(&mut entry, data);
            staged.push(entry);
        }
        Ok(Some(PgState { meta: pg.meta.clone(), applied, staged }))
    }

    /// Executes a step. `data` are the bytes of its staged entries, in order; none in a replay.
    pub fn execute(&mut self, step: Step, data: &mut VecDeque<Vec<Bytes>>) -> Result<(), Fault> {
        // Nothing is built on what is damaged: it can only be removed.
        if step.pg().is_some_and(|pg| self.damaged(pg).is_some())
            && !matches!(step, Step::RemovePg { .. })
        {
            if let Step::SplitPg { pg, from, to } = step {
                // What would have been theirs is in what is lost.
                pg.children(from, to)
                    .for_each(|child| self.damage(child, "split off what is lost"));
            }
            return Ok(());
        }
        match step {
            Step::CreatePg { pg } => self.create_pg(pg),
            Step::RemovePg { pg } => self.remove_pg(pg),
            Step::SplitPg { pg, from, to } => self.split(pg, from, to)?,
            Step::Super { key, value } => {
                self.index.put_value([b"N", &key[..]].concat(), value.as_ref().map(copy));
                set(&mut self.named, &key, &value);
                self.lost_names.remove(&key);
            }
            Step::Meta { pg, key, value } => {
                let pg = self.pg(pg)?;
                set(&mut pg.meta, &key, &value);
                pg.changed = true;
            }
            Step::Stage { pg, placed } => self.stage(pg, placed, data.pop_front())?,
            Step::Apply { pg, to, except } => self.apply(pg, to, &except)?,
            Step::DropStaged { pg, after } => self.drop_staged(pg, after)?,
            Step::TrimLog { pg, to } => self.trim(pg, to)?,
            Step::ReplaceLog { pg, applied, staged } => {
                self.drop_staged(pg, Version::ZERO)?;
                self.replace_applied(pg, &applied)?;
                for placed in staged {
                    self.stage(pg, placed, data.pop_front())?;
                }
            }
            Step::Install { pg, object, part, places } => {
                self.install(pg, &object, part, places)?
            }
            Step::RemoveObject { pg, object } => self.remove_object(pg, &object)?,
            Step::Purge { uid, max } => self.purge(uid, max as usize)?,
        }
        match &self.allocator.fault {
            Some(fault) => Err(Fault(fault.clone())),
            None => Ok(()),
        }
    }

    /// Something of a placement group is lost, and nobody knows what: from now on it is there only to be
    /// removed. What is left of it is kept until then.
    pub fn damage(&mut self, pg: PgId, why: &str) {
        tracing::error!(%pg, why, "the placement group is damaged here, and must be filled again");
        self.create_pg(pg);
        if let Some(pg) = self.pgs.get_mut(&pg) {
            pg.meta
                .entry(Bytes::from_static(DAMAGED))
                .or_insert_with(|| copy(&why.to_string().into()));
            pg.changed = true;
        }
    }

    /// Why a placement group is damaged, if it is.
    pub fn damaged(&self, pg: PgId) -> Option<String> {
        let why = self.pgs.get(&pg)?.meta.get(DAMAGED)?;
        Some(String::from_utf8_lossy(why).into_owned())
    }

    /// A named value of the daemon is not the last that was set.
    pub fn lose_name(&mut self, name: &Bytes) {
        self.lost_names.insert(name.clone());
    }

    /// Whether it is not.
    pub fn is_name_lost(&self, name: &[u8]) -> bool {
        self.lost_names.contains(name)
    }

    /// Placement groups with staged entries whose bytes cannot be read.
    pub fn unreadable_staged(&self) -> Vec<(PgId, String)> {
        let lost = self.pgs.iter().filter_map(|(id, pg)| {
            let why = pg.staged.iter().find_map(|staged| staged.data.as_ref().err())?;
            Some((*id, why.clone()))
        });
        lost.collect()
    }

    fn pg(&mut self, pg: PgId) -> Result<&mut Pg, Fault> {
        self.pgs.get_mut(&pg).ok_or_else(|| Fault(format!("no placement group {pg}")))
    }

    fn number(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id - 1
    }

    fn create_pg(&mut self, pg: PgId) {
        if !self.pgs.contains_key(&pg) {
            let uid = self.number();
            let part = Part::whole(uid);
            self.pgs.insert(pg, Pg { uid, part, changed: true, ..Pg::default() });
        }
    }

    fn remove_pg(&mut self, id: PgId) {
        let Some(pg) = self.pgs.remove(&id) else { return };
        for staged in &pg.staged {
            self.forget_staged(pg.uid, staged);
        }
        for (first, _) in &pg.runs {
            self.index.put_value(version_key(b'L', pg.uid, *first), None);
        }
        self.index.put_value(pg_key(id), None);
        self.divided -= usize::from(!pg.part.is_whole());
        let part = if pg.part.is_whole() { Bytes::new() } else { pg.part.to_bytes() };
        self.index.put_value(number_key(b'X', pg.uid, b""), Some(part));
        self.dead.insert(pg.uid, (pg.part, pg.part.keys(b'O').0));
    }

    fn forget_staged(&mut self, uid: u64, staged: &Staged) {
        staged.placed.pieces().for_each(|piece| self.allocator.release(piece));
        if staged.kept {
            self.index.put_value(version_key(b'S', uid, staged.placed.entry.version), None);
        }
    }

    fn stage(&mut self, id: PgId, placed: Placed, data: Option<Vec<Bytes>>) -> Result<(), Fault> {
        let version = placed.entry.version;
        let last = self.pg(id)?.last();
        if version <= last {
            return Err(Fault(format!(
                "the versions of a log grow: {id} has {version} behind {last}"
            )));
        }
        if !placed.is_valid() {
            return Err(Fault(format!("entry {version} of {id} makes no sense")));
        }
        placed.pieces().for_each(|piece| self.allocator.retain(piece));
        let data = Ok(data.unwrap_or_default());
        self.pg(id)?.staged.push_back(Staged { placed, data, kept: false });
        Ok(())
    }

    fn apply(&mut self, id: PgId, to: Version, except: &[Version]) -> Result<(), Fault> {
        while let Some(staged) = {
            let pg = self.pg(id)?;
            let due = pg.staged.front().is_some_and(|staged| staged.placed.entry.version <= to);
            if due { pg.staged.pop_front() } else { None }
        } {
            let pg = self.pg(id)?;
            pg.changed = true;
            let uid = pg.uid;
            let Staged { mut placed, kept, .. } = staged;
            let version = placed.entry.version;
            if kept {
                self.index.put_value(version_key(b'S', uid, version), None);
            }
            let mutation = placed.entry.mutation.take().unwrap_or_default();
            let entry = placed.entry;
            let encoded = entry.to_bytes();
            if except.contains(&version) {
                placed.places.iter().flatten().for_each(|piece| self.allocator.release(piece));
            } else {
                self.mutate(id, &entry, mutation, placed.places)?;
            }
            self.pg(id)?.fresh.push_back((version, encoded));
        }
        Ok(())
    }

    fn drop_staged(&mut self, id: PgId, after: Version) -> Result<(), Fault> {
        let pg = self.pg(id)?;
        let uid = pg.uid;
        let keep = pg.staged.partition_point(|staged| staged.placed.entry.version <= after);
        for staged in pg.staged.split_off(keep) {
            self.forget_staged(uid, &staged);
        }
        Ok(())
    }

    fn trim(&mut self, id: PgId, to: Version) -> Result<(), Fault> {
        let pg = self.pg(id)?;
        let uid = pg.uid;
        pg.changed = true;
        pg.trimmed = pg.trimmed.max(to);
        while pg.fresh.front().is_some_and(|(version, _)| *version <= to) {
            pg.fresh.pop_front();
        }
        let gone = pg.runs.partition_point(|(_, last)| *last <= to);
        let gone: Vec<_> = pg.runs.drain(..gone).collect();
        for (first, _) in gone {
            self.index.put_value(version_key(b'L', uid, first), None);
        }
        Ok(())
    }

    fn replace_applied(&mut self, id: PgId, applied: &[LogEntry]) -> Result<(), Fault> {
        let pg = self.pg(id)?;
        let uid = pg.uid;
        pg.changed = true;
        pg.trimmed = Version::ZERO;
        let runs = std::mem::take(&mut pg.runs);
        pg.fresh = applied
            .iter()
            .map(|entry| {
                let light = LogEntry { mutation: None, ..entry.clone() };
                (entry.version, light.to_bytes())
            })
            .collect();
        for (first, _) in runs {
            self.index.put_value(version_key(b'L', uid, first), None);
        }
        Ok(())
    }

    fn mutate(
        &mut self,
        id: PgId,
        entry: &LogEntry,
        mutation: Mutation,
        places: Vec<Vec<Piece>>,
    ) -> Result<(), Fault> {
        let Mutation { changes, info } = mutation;
        let idle = changes.is_empty() && info.is_none() && !entry.removes;
        if entry.object.name.is_empty() || idle {
            places.iter().flatten().for_each(|piece| self.allocator.release(piece));
            return Ok(());
        }
        let key = object_key(b'O', self.pg(id)?.part.home, &entry.object);
        let before = self.index.take_onode(&key)?;
        let was = before.as_ref().map(counts);
        let Some(info) = info else {
            places.iter().flatten().for_each(|piece| self.allocator.release(piece));
            if let Some(onode) = before {
                self.dispose(onode);
                self.index.put_onode(key, None);
                self.count(id, was, None)?;
            }
            return Ok(());
        };
        let mut onode = before.unwrap_or_else(|| named(&entry.object));
        let mut places = places.into_iter();
        for change in changes {
            self.change(&mut onode, change, &mut places)?;
        }
        self.finish(&mut onode, info);
        let is = Some(counts(&onode));
        self.index.put_onode(key, Some(onode));
        self.count(id, was, is)
    }

    fn change(
        &mut self,
        onode: &mut Onode,
        change: Change,
        places: &mut impl Iterator<Item = Vec<Piece>>,
    ) -> Result<(), Fault> {
        match change {
            Change::Write { offset, .. } => {
                let new = places.next().unwrap_or_default();
                piece::put(&mut onode.pieces, offset, new, &mut self.allocator);
            }
            Change::Zero { offset, length } => {
                let end = offset.saturating_add(length);
                piece::clear(&mut onode.pieces, offset, end, &mut self.allocator);
            }
            Change::Truncate { size } => {
                piece::clear(&mut onode.pieces, size, u64::MAX, &mut self.allocator);
            }
            Change::Xattrs { set: all } => {
                all.iter().for_each(|(key, value)| set(&mut onode.xattrs, key, value));
            }
            Change::Omap { set } => {
                for (key, value) in set {
                    self.set_omap(onode, &key, value)?;
                }
            }
            Change::OmapRemoveRange { from, to } => self.remove_omap_range(onode, &from, &to)?,
            Change::OmapClear {} => self.drop_omap(onode),
            Change::OmapHeader { data } => onode.omap_header = copy(&data),
            Change::Remove {} => {
                let name = onode.name.clone();
                let old = std::mem::take(onode);
                self.dispose(old);
                onode.name = name;
            }
        }
        Ok(())
    }

    fn finish(&mut self, onode: &mut Onode, info: ObjectInfo) {
        piece::clear(&mut onode.pieces, info.size, u64::MAX, &mut self.allocator);
        onode.info = info;
    }

    fn set_omap(
        &mut self,
        onode: &mut Onode,
        key: &[u8],
        value: Option<Bytes>,
    ) -> Result<(), Fault> {
        if onode.omap == 0 {
            if value.is_none() {
                return Ok(());
            }
            onode.omap = self.number();
        }
        let whole = number_key(b'M', onode.omap, key);
        let before = self.index.length(&whole)?;
        let was = before.map_or(0, |len| len + key.len() as u64);
        let is = value.as_ref().map_or(0, |value| (key.len() + value.len()) as u64);
        onode.omap_bytes = (onode.omap_bytes + is).saturating_sub(was);
        if before.is_some() || value.is_some() {
            self.index.put_value(whole, value.map(|value| copy(&value)));
        }
        Ok(())
    }

    fn remove_omap_range(
        &mut self,
        onode: &mut Onode,
        from: &[u8],
        to: &[u8],
    ) -> Result<(), Fault> {
        if onode.omap == 0 || from >= to {
            return Ok(());
        }
        let (first, end) = (number_key(b'M', onode.omap, from), number_key(b'M', onode.omap, to));
        for (key, value) in self.index.scan_values(&first, &end, usize::MAX)? {
            let bytes = (key.len() - 9 + value.len()) as u64;
            onode.omap_bytes = onode.omap_bytes.saturating_sub(bytes);
            self.index.put_value(key, None);
        }
        Ok(())
    }

    /// The omap's entries are deleted in the background; from now on nobody knows its number.
    fn drop_omap(&mut self, onode: &mut Onode) {
        onode.omap_header = Bytes::new();
        onode.omap_bytes = 0;
        let omap = std::mem::take(&mut onode.omap);
        if omap != 0 {
            let prefix = number_key(b'M', omap, b"");
            self.index.forget_values(&prefix, &behind(&prefix));
            self.index.put_value(number_key(b'D', omap, b""), Some(Bytes::new()));
        }
    }

    fn dispose(&mut self, mut onode: Onode) {
        onode.pieces.values().for_each(|piece| self.allocator.release(piece));
        self.drop_omap(&mut onode);
    }

    fn count(
        &mut self,
        id: PgId,
        was: Option<[u64; 2]>,
        is: Option<[u64; 2]>,
    ) -> Result<(), Fault> {
        let pg = self.pg(id)?;
        let usage = &mut pg.usage;
        let step = |count: u64, was: u64, is: u64| (count + is).saturating_sub(was);
        let ([was_bytes, was_omap], [is_bytes, is_omap]) =
            (was.unwrap_or_default(), is.unwrap_or_default());
        usage.objects = step(usage.objects, was.is_some().into(), is.is_some().into());
        usage.bytes = step(usage.bytes, was_bytes, is_bytes);
        usage.omap_bytes = step(usage.omap_bytes, was_omap, is_omap);
        pg.changed = true;
        Ok(())
    }

    fn install(
        &mut self,
        id: PgId,
        object: &ObjectName,
        part: Install,
        places: Vec<Piece>,
    ) -> Result<(), Fault> {
        if !places.iter().all(Piece::is_valid) {
            return Err(Fault(format!("a copy of {object} makes no sense")));
        }
        let home = self.pg(id)?.part.home;
        let key = object_key(b'I', home, object);
        let mut copied = self.index.take_onode(&key)?.unwrap_or_else(|| named(object));
        match part {
            Install::Start {} => {
                self.dispose(std::mem::replace(&mut copied, named(object)));
            }
            Install::Data { offset, .. } => {
                places.iter().for_each(|piece| self.allocator.retain(piece));
                piece::put(&mut copied.pieces, offset, places, &mut self.allocator);
            }
            Install::Xattrs { entries } => {
                copied.xattrs.extend(entries.iter().map(|(k, v)| (copy(k), copy(v))));
            }
            Install::Omap { entries } => {
                for (name, value) in entries {
                    self.set_omap(&mut copied, &name, Some(value))?;
                }
            }
            Install::OmapHeader { data } => copied.omap_header = copy(&data),
            Install::Finish { info } => {
                self.index.put_onode(key, None);
                let key = object_key(b'O', home, object);
                let before = self.index.take_onode(&key)?;
                let was = before.as_ref().map(counts);
                before.into_iter().for_each(|onode| self.dispose(onode));
                self.finish(&mut copied, info);
                let is = Some(counts(&copied));
                self.index.put_onode(key, Some(copied));
                return self.count(id, was, is);
            }
            Install::Abort {} => {
                self.dispose(copied);
                self.index.put_onode(key, None);
                return Ok(());
            }
        }
        self.index.put_onode(key, Some(copied));
        Ok(())
    }

    fn remove_object(&mut self, id: PgId, object: &ObjectName) -> Result<(), Fault> {
        let key = object_key(b'O', self.pg(id)?.part.home, object);
        let Some(onode) = self.index.take_onode(&key)? else { return Ok(()) };
        let was = Some(counts(&onode));
        self.dispose(onode);
        self.index.put_onode(key, None);
        self.count(id, was, None)
    }

    /// What was purged before leaves a trail that takes ever longer to walk: the key where the last step
    /// ended spares that. It changes nothing in what is found.
    fn purge(&mut self, uid: u64, max: usize) -> Result<(), Fault> {
        let Some((part, mut from)) = self.dead.remove(&uid) else { return Ok(()) };
        let mut left = max;
        for kind in [b'I', b'O'] {
            let (first, to) = part.keys(kind);
            let first = if kind == b'O' { from.clone() } else { first };
            let found = self.index.scan_onodes(&first, &to, left)?;
            left -= found.len();
            for (key, _) in found {
                if let Some(onode) = self.index.take_onode(&key)? {
                    self.dispose(onode);
                }
                self.index.put_onode(key.clone(), None);
                if kind == b'O' {
                    from = key;
                }
            }
        }
        if left > 0 {
            self.index.put_value(number_key(b'X', uid, b""), None);
        } else {
            self.dead.insert(uid, (part, from));
        }
        Ok(())
    }

    /// Ends the collecting of changes up to batch `seq`, for a checkpoint behind which log segments below
    /// `tail` are not needed.
    pub fn freeze(&mut self, seq: u64, tail: u64) -> Arc<Frozen> {
        for (number, value) in self.allocator.changed_chunks() {
            let mut key = vec![b'A'];
            key.extend_from_slice(&(number as u32).to_be_bytes());
            self.index.put_value(key, value);
        }
        for (id, pg) in &mut self.pgs {
            for staged in pg.staged.iter_mut().filter(|staged| !staged.kept) {
                let key = version_key(b'S', pg.uid, staged.placed.entry.version);
                self.index.put_value(key, Some(staged.placed.to_bytes()));
                staged.kept = true;
            }
            if let (Some((first, _)), Some((last, _))) = (pg.fresh.front(), pg.fresh.back()) {
                let (first, last) = (*first, *last);
                let mut run = Writer::new();
                (pg.fresh.len() as u32).encode(&mut run);
                pg.fresh.iter().for_each(|(_, entry)| run.put_slice(entry));
                self.index.put_value(version_key(b'L', pg.uid, first), Some(run.into_bytes()));
                pg.runs.push_back((first, last));
                pg.fresh.clear();
            }
            if std::mem::take(&mut pg.changed) {
                self.index.put_value(pg_key(*id), Some(pg.record(*id).to_bytes()));
            }
        }
        let checkpoint = Checkpoint { uuid: self.uuid, seq, tail, next_id: self.next_id };
        self.index.put_value(b"C".to_vec(), Some(checkpoint.to_bytes()));
        self.index.freeze()
    }

    /// Whether bytes of a batch in the log are those of an object, a copy or a staged entry now.
    pub fn is_live(&self, stored: &Stored) -> Result<bool, Fault> {
        for pg in self.heirs(stored.pg, &stored.object) {
            if self.is_live_in(&self.pgs[&pg], stored)? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn is_live_in(&self, pg: &Pg, stored: &Stored) -> Result<bool, Fault> {
        if let Some(version) = stored.staged
            && find_staged(pg, version)
                .is_some_and(|at| pg.staged[at].placed.pieces().any(|piece| stored.has(piece)))
        {
            return Ok(true);
        }
        for kind in [b'O', b'I'] {
            let onode = self.index.onode(&object_key(kind, pg.part.home, &stored.object))?;
            let live = onode.is_some_and(|onode| {
                piece::is_stored_in(&onode.pieces, stored.range.clone(), stored.seq, &stored.bytes)
            });
            if live {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Whoever has bytes of a batch in the log finds them in an extent from now on.
    pub fn relocate(&mut self, stored: &Stored, to: u64) -> Result<(), Fault> {
        for pg in self.heirs(stored.pg, &stored.object) {
            self.relocate_in(pg, stored, to)?;
        }
        Ok(())
    }

    fn relocate_in(&mut self, pg: PgId, stored: &Stored, to: u64) -> Result<(), Fault> {
        let Some(pg) = self.pgs.get_mut(&pg) else { return Ok(()) };
        let home = pg.part.home;
        if let Some(at) = stored.staged.and_then(|version| find_staged(pg, version)) {
            let staged = &mut pg.staged[at];
            for pieces in &mut staged.placed.places {
                let divided = pieces.drain(..).flat_map(|piece| {
                    piece::divide_piece(&piece, stored.seq, &stored.bytes)
                        .unwrap_or_else(|| vec![piece])
                });
                *pieces = divided.collect();
            }
            let mut moved = false;
            for piece in staged.placed.places.iter_mut().flatten() {
                let (seq, bytes) = (stored.seq, &stored.bytes);
                moved |= piece::relocate_piece(piece, seq, bytes, to, &mut self.allocator);
            }
            // It stays `kept`: whoever applies it before the next checkpoint must remove the key.
            if moved && staged.kept {
                let key = version_key(b'S', pg.uid, staged.placed.entry.version);
                self.index.put_value(key, Some(staged.placed.to_bytes()));
            }
        }
        for kind in [b'O', b'I'] {
            let key = object_key(kind, home, &stored.object);
            let Some(found) = self.index.onode(&key)? else { continue };
            if !piece::is_stored_in(&found.pieces, stored.range.clone(), stored.seq, &stored.bytes)
            {
                continue;
            }
            drop(found);
            let mut onode = self.index.take_onode(&key)?.expect("just found");
            piece::divide(&mut onode.pieces, stored.range.clone(), stored.seq, &stored.bytes);
            piece::relocate(
                &mut onode.pieces,
                stored.range.clone(),
                stored.seq,
                &stored.bytes,
                to,
                &mut self.allocator,
            );
            piece::join_all(&mut onode.pieces, &mut self.allocator);
            self.index.put_onode(key, Some(onode));
        }
        Ok(())
    }
}

/// A piece of an object that could be packed closer.
#[derive(Clone, Debug)]
pub struct Sparse {
    /// The object's key.
    pub key: Vec<u8>,
    /// Offset in the object.
    pub at: u64,
    /// The piece as it was.
    pub piece: Piece,
}

impl State {
    /// Pieces that could be packed closer, of `objects` objects from the key `from` on, and of fewer if they
    /// have more than `bytes`; and from which key on to ask next, if there are more.
    pub fn sparse(
        &self,
        from: &[u8],
        objects: usize,
        bytes: u64,
    ) -> Result<(Vec<Sparse>, Option<Vec<u8>>), Fault> {
        /// Larger ones waste little.
        const STORED_BYTES_MAX: u32 = 256 << 10;
        let found = self.index.scan_onodes(from, b"P", objects)?;
        let behind = |key: &[u8]| [key, &[0]].concat();
        let next = found.last().filter(|_| found.len() == objects).map(|(key, _)| behind(key));
        let (mut all, mut total) = (Vec::new(), 0);
        for (key, onode) in &found {
            if total > bytes {
                return Ok((all, Some(key.clone())));
            }
            for (at, piece) in &onode.pieces {
                if piece.stored <= STORED_BYTES_MAX && self.allocator.is_sparse(piece) {
                    total += u64::from(piece.length);
                    all.push(Sparse { key: key.clone(), at: *at, piece: piece.clone() });
                }
            }
        }
        Ok((all, next))
    }

    /// An object finds the bytes of a piece in `new` ones from now on, if it still has the piece. Nothing in
    /// the log says so: the units that it gives up are held.
    pub fn repack(&mut self, sparse: &Sparse, new: Vec<Piece>) -> Result<(), Fault> {
        let found = self.index.onode(&sparse.key)?;
        let Some(found) = found.filter(|found| found.pieces.get(&sparse.at) == Some(&sparse.piece))
        else {
            return Ok(());
        };
        drop(found);
        let mut onode = self.index.take_onode(&sparse.key)?.expect("just found");
        new.iter().for_each(|piece| self.allocator.retain(piece));
        self.allocator.hold(true);
        piece::put(&mut onode.pieces, sparse.at, new, &mut self.allocator);
        piece::join_all(&mut onode.pieces, &mut self.allocator);
        self.allocator.hold(false);
        self.index.put_onode(sparse.key.clone(), Some(onode));
        Ok(())
    }
}

/// Bytes that a batch stored in the log, and who had them first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    /// Whose.
    pub pg: PgId,
    /// Whose.
    pub object: ObjectName,
    /// The staged entry, if it was one.
    pub staged: Option<Version>,
    /// Which bytes of the object.
    pub range: std::ops::Range<u64>,
    /// The batch.
    pub seq: u64,
    /// Where in its data.
    pub bytes: std::ops::Range<u32>,
}

impl Stored {
    fn has(&self, piece: &Piece) -> bool {
        match piece.place {
            piece::Place::Log { seq, offset } => seq == self.seq && self.bytes.contains(&offset),
            piece::Place::Disk { .. } => false,
        }
    }

    /// All that a step stored in the log.
    pub fn of_step(step: &Step, seq: u64) -> Vec<Stored> {
        let mut all = Vec::new();
        let mut add = |pg: PgId, object: &ObjectName, staged, offset: u64, places: &[Piece]| {
            let mut at = offset;
            for piece in places {
                let range = at..at + u64::from(piece.length);
                at = range.end;
                if let piece::Place::Log { seq: place, offset } = piece.place
                    && place == seq
                {
                    let bytes = offset..offset.saturating_add(piece.stored);
                    all.push(Stored { pg, object: object.clone(), staged, range, seq, bytes });
                }
            }
        };
        let mut add_placed = |pg: PgId, placed: &Placed| {
            let changes = placed.entry.mutation.iter().flat_map(|mutation| &mutation.changes);
            let offsets = changes.filter_map(|change| match change {
                Change::Write { offset, .. } => Some(*offset),
                _ => None,
            });
            for (offset, places) in offsets.zip(&placed.places) {
                add(pg, &placed.entry.object, Some(placed.entry.version), offset, places);
            }
        };
        match step {
            Step::Stage { pg, placed } => add_placed(*pg, placed),
            Step::ReplaceLog { pg, staged, .. } => {
                staged.iter().for_each(|placed| add_placed(*pg, placed));
            }
            Step::Install { pg, object, part: Install::Data { offset, .. }, places } => {
                add(*pg, object, None, *offset, places);
            }
            _ => {}
        }
        all
    }
}

fn find_staged(pg: &Pg, version: Version) -> Option<usize> {
    pg.staged.binary_search_by_key(&version, |staged| staged.placed.entry.version).ok()
}

fn open_pg(record: PgRecord) -> Pg {
    Pg {
        uid: record.uid,
        part: record.part.unwrap_or_else(|| Part::whole(record.uid)),
        meta: record.meta,
        usage: PgUsage {
            objects: record.objects,
            bytes: record.bytes,
            omap_bytes: record.omap_bytes,
        },
        runs: record.runs.into(),
        trimmed: record.trimmed,
        ..Pg::default()
    }
}

fn named(object: &ObjectName) -> Onode {
    let name = ObjectName {
        namespace: copy(&object.namespace),
        locator: copy(&object.locator),
        name: copy(&object.name),
        snap: object.snap,
    };
    Onode { name, ..Onode::default() }
}

fn counts(onode: &Onode) -> [u64; 2] {
    [onode.info.size, onode.omap_bytes]
}

/// What is kept for long is copied, whatever its size: a slice would keep all that it was received with
/// alive, and nobody would count that.
fn copy(value: &Bytes) -> Bytes {
    Bytes::copy_from_slice(value)
}

fn set(map: &mut BTreeMap<Bytes, Bytes>, key: &Bytes, value: &Option<Bytes>) {
    match value {
        Some(value) => map.insert(copy(key), copy(value)),
        None => map.remove(key),
    };
}

fn decode<T: Decode>(value: Bytes, what: &str) -> Result<T, Fault> {
    T::from_bytes(value).map_err(|e| Fault(format!("index: {what}: {e}")))
}

fn number_of(key: &[u8]) -> Result<u64, Fault> {
    let number = key.get(1..9).and_then(|bytes| bytes.try_into().ok());
    number.map(u64::from_be_bytes).ok_or_else(|| Fault("index: a key without number".into()))
}

/// Entries read at once while opening.
const OPEN_PAGE: usize = 512;

fn each(
    store: &dyn KvStore,
    kind: u8,
    mut take: impl FnMut(Bytes, Bytes) -> Result<(), Fault>,
) -> Result<(), Fault> {
    let (mut from, to) = (vec![kind], vec![kind + 1]);
    loop {
        let page = store.scan(&from, &to, OPEN_PAGE)?;
        let last = page.len() < OPEN_PAGE;
        if let Some((key, _)) = page.last() {
            from = [&key[..], &[0]].concat();
        }
        for (key, value) in page {
            take(key, value)?;
        }
        if last {
            return Ok(());
        }
    }
}
