//! Power cuts at every point of a recorded sequence of writes, flushes and calls of the index.
//!
//! A run of the engine is recorded: every request to the disk when it is submitted and when it is answered, every
//! growth, every batch and sync of the index. Then the power goes behind each of these events. What the medium has
//! then is not one thing but many: whatever is not durable by the contract of `disk` may be there, or not, or in
//! part. Media are made with all, none, only the oldest, only the newest of these writes, each torn at blocks
//! and at sectors, all subsets while they are few, and more by chance; with the growth of the file kept or
//! lost, and every prefix of what the index had not synced. Each of them must open; nothing of it counts as
//! damaged; it shows all batches that were reported `Stored` and of the rest a prefix of whole ones; the offline
//! check finds nothing; and it can be written on, lose power again, and be opened again.
//!
//! `STORE_POWER_CUT_WAYS` says how many more media by chance are made at each point, and leaves out nothing;
//! `STORE_POWER_CUT_SEEDS` how many sequences are recorded.

use super::check::check;
use super::workload::{Chance, Workload};
use super::{Rig, dump, settle};
use crate::store::disk::simulated::{SECTOR_BYTES, SimulatedDisk, SimulatedMedium};
use crate::store::disk::{BLOCK_BYTES, Disk, DiskError, Done, Durability, Request};
use crate::store::kv::{KvBatch, KvError, KvStore, MemoryKv};
use crate::store::log::background::Inline;
use crate::store::log::{Counters, LogStore};
use crate::store::memory::MemoryStore;
use crate::store::{Change, Completion, LogEntry, Mutation, Store, StoreError, Write};
use bytes::Bytes;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use store_base::object::ObjectInfo;
use store_base::{Interval, ObjectName, PgId, PoolId, Ticket, Version};

/// What happened, in order.
#[derive(Clone, Debug)]
enum Event {
    Submitted {
        id: u64,
        life: u32,
        offset: u64,
        data: Bytes,
        durability: Durability,
    },
    FlushSubmitted {
        id: u64,
        life: u32,
    },
    Answered {
        id: u64,
        life: u32,
    },
    Grown {
        size: u64,
    },
    KvWrite(KvBatch),
    KvSync,
    /// So many batches were submitted.
    Batches(usize),
    /// So many were reported durable.
    Stored(usize),
}

type Trace = Arc<Mutex<Vec<Event>>>;

fn note(trace: &Trace, event: Event) {
    trace.lock().expect("no holder panics").push(event);
}

struct RecordedDisk {
    inner: SimulatedDisk,
    life: u32,
    trace: Trace,
}

impl Disk for RecordedDisk {
    fn submit(&mut self, id: u64, request: Request) {
        let life = self.life;
        match &request {
            Request::Write { offset, buffer, durability } => {
                let data = Bytes::copy_from_slice(buffer);
                let (offset, durability) = (*offset, *durability);
                note(&self.trace, Event::Submitted { id, life, offset, data, durability });
            }
            Request::Flush => note(&self.trace, Event::FlushSubmitted { id, life }),
            Request::Read { .. } => {}
        }
        self.inner.submit(id, request);
    }

    fn kick(&mut self) {
        self.inner.kick();
    }

    fn poll(&mut self, done: &mut Vec<Done>) {
        let before = done.len();
        self.inner.poll(done);
        for one in &done[before..] {
            note(&self.trace, Event::Answered { id: one.id, life: self.life });
        }
    }

    fn wait(&mut self) {
        self.inner.wait();
    }

    fn size(&self) -> u64 {
        self.inner.size()
    }

    fn grow(&mut self, size: u64) -> Result<(), DiskError> {
        self.inner.grow(size)?;
        note(&self.trace, Event::Grown { size });
        Ok(())
    }

    fn available(&self) -> u64 {
        self.inner.available()
    }

    fn engine(&self) -> &'static str {
        self.inner.engine()
    }
}

struct RecordedKv {
    inner: MemoryKv,
    trace: Trace,
}

impl KvStore for RecordedKv {
    fn value(&self, key: &[u8]) -> Result<Option<Bytes>, KvError> {
        self.inner.value(key)
    }

    fn length(&self, key: &[u8]) -> Result<Option<u64>, KvError> {
        self.inner.length(key)
    }

    fn scan(&self, from: &[u8], to: &[u8], max: usize) -> Result<Vec<(Bytes, Bytes)>, KvError> {
        self.inner.scan(from, to, max)
    }

    fn write(&self, batch: KvBatch) -> Result<(), KvError> {
        note(&self.trace, Event::KvWrite(batch.clone()));
        self.inner.write(batch)
    }

    fn sync(&self) -> Result<(), KvError> {
        self.inner.sync()?;
        note(&self.trace, Event::KvSync);
        Ok(())
    }

    fn compact(&self) -> Result<(), KvError> {
        self.inner.compact()
    }

    fn disk_bytes(&self) -> u64 {
        self.inner.disk_bytes()
    }
}

/// What the medium and the index have when the power goes: what is sure, and what may be.
#[derive(Clone, Default)]
struct Cut {
    durable: BTreeMap<u64, Arc<[u8; BLOCK_BYTES]>>,
    /// Written and not durable, by order of submission: offset, data, whether it was answered.
    volatile: BTreeMap<(u32, u64), (u64, Bytes, bool)>,
    /// Flushes and writes with one, and which answered writes they cover.
    flushing: BTreeMap<(u32, u64), Vec<(u32, u64)>>,
    durabilities: BTreeMap<(u32, u64), Durability>,
    size: u64,
    size_durable: u64,
    /// The size when a flush was submitted.
    sizes: BTreeMap<(u32, u64), u64>,
    kv: MemoryKv,
    batches: usize,
    stored: usize,
}

impl Cut {
    fn take(&mut self, event: &Event) {
        match event {
            Event::Submitted { id, life, offset, data, durability } => {
                let key = (*life, *id);
                if *durability == Durability::All {
                    self.begin_flush(key);
                }
                self.sizes.insert(key, self.size);
                self.durabilities.insert(key, *durability);
                self.volatile.insert(key, (*offset, data.clone(), false));
            }
            Event::FlushSubmitted { id, life } => self.begin_flush((*life, *id)),
            Event::Answered { id, life } => self.answer((*life, *id)),
            Event::Grown { size } => self.size = *size,
            Event::KvWrite(batch) => self.kv.write(batch.clone()).expect("memory"),
            Event::KvSync => self.kv.sync().expect("memory"),
            Event::Batches(count) => self.batches = *count,
            Event::Stored(count) => self.stored = *count,
        }
    }

    fn begin_flush(&mut self, key: (u32, u64)) {
        let answered = self.volatile.iter().filter(|(_, (_, _, answered))| *answered);
        self.flushing.insert(key, answered.map(|(key, _)| *key).collect());
        self.sizes.insert(key, self.size);
    }

    fn answer(&mut self, key: (u32, u64)) {
        if let Some(covered) = self.flushing.remove(&key) {
            covered.into_iter().for_each(|key| self.settle(key));
            self.size_durable = self.size_durable.max(self.sizes[&key]);
        }
        match self.durabilities.get(&key) {
            Some(Durability::None) => {
                if let Some((_, _, answered)) = self.volatile.get_mut(&key) {
                    *answered = true;
                }
            }
            Some(Durability::Own | Durability::All) => self.settle(key),
            None => {}
        }
    }

    /// A write is durable, and what it has written over can never come back.
    fn settle(&mut self, key: (u32, u64)) {
        let Some((offset, data, _)) = self.volatile.remove(&key) else { return };
        let end = offset + data.len() as u64;
        self.size_durable = self.size_durable.max(end);
        for (other, (at, bytes, _)) in &mut self.volatile {
            if *other < key && *at < end && offset < *at + bytes.len() as u64 {
                let mut merged = bytes.to_vec();
                let (from, to) = (offset.max(*at), end.min(*at + bytes.len() as u64));
                merged[(from - *at) as usize..(to - *at) as usize]
                    .copy_from_slice(&data[(from - offset) as usize..(to - offset) as usize]);
                *bytes = merged.into();
            }
        }
        put(&mut self.durable, offset, &data, |_| true);
    }

    /// A medium on which of each volatile write the sectors survive that `keep` says.
    fn medium(
        &self,
        seed: u64,
        size_max: u64,
        keep: &dyn Fn(usize, u64) -> bool,
        grown: bool,
    ) -> SimulatedMedium {
        let mut image = self.durable.clone();
        let size = if grown { self.size } else { self.size_durable };
        for (i, (offset, data, _)) in self.volatile.values().enumerate() {
            if offset + data.len() as u64 <= size {
                put(&mut image, *offset, data, |sector| keep(i, sector));
            }
        }
        SimulatedMedium::from_image(seed, size_max, image, size)
    }
}

fn put(
    image: &mut BTreeMap<u64, Arc<[u8; BLOCK_BYTES]>>,
    offset: u64,
    data: &[u8],
    keep: impl Fn(u64) -> bool,
) {
    for (i, sector) in data.chunks(SECTOR_BYTES).enumerate() {
        if keep(i as u64) {
            let at = offset as usize + i * SECTOR_BYTES;
            let block = image.entry((at / BLOCK_BYTES) as u64);
            let block = Arc::make_mut(block.or_insert_with(|| Arc::new([0; BLOCK_BYTES])));
            block[at % BLOCK_BYTES..at % BLOCK_BYTES + sector.len()].copy_from_slice(sector);
        }
    }
}

/// Which sectors of which volatile writes survive.
type Keep = Box<dyn Fn(usize, u64) -> bool>;

/// Ways in which so many volatile writes may survive; `thorough`: more than a few.
fn ways(count: usize, seed: u64, chances: u64, thorough: bool) -> Vec<Keep> {
    let mut all: Vec<Keep> = vec![Box::new(|_, _| false)];
    if count == 0 {
        return all;
    }
    let block = (BLOCK_BYTES / SECTOR_BYTES) as u64;
    all.push(Box::new(|_, _| true));
    let subsets = if thorough && count <= 4 { (1 << count) - 1 } else { 1 };
    for subset in 1..subsets {
        all.push(Box::new(move |i, _| subset >> i & 1 == 1));
    }
    // The last alone, all but the last, all but the first; torn between blocks, and within.
    all.push(Box::new(move |i, _| i + 1 == count));
    all.push(Box::new(move |_, sector| sector % 2 == 1));
    if thorough {
        all.push(Box::new(move |i, _| i + 1 < count));
        all.push(Box::new(|i, _| i > 0));
        all.push(Box::new(|_, sector| sector == 0));
        all.push(Box::new(|_, sector| sector > 0));
        all.push(Box::new(move |_, sector| (sector / block).is_multiple_of(2)));
        all.push(Box::new(move |_, sector| sector / block % 2 == 1));
        all.push(Box::new(move |i, sector| i + 1 < count || sector < block));
        all.push(Box::new(move |i, sector| i > 0 || sector % 3 > 0));
    }
    for chance in 0..chances {
        let salt = Chance(seed ^ (chance << 32)).next();
        all.push(Box::new(move |i, sector| {
            Chance(salt ^ (i as u64 * 7919) ^ (sector << 20)).next() & 1 == 1
        }));
    }
    all
}

/// A recorded run, and what the reference shows behind so many of its batches.
struct Recording {
    name: String,
    rig: Rig,
    events: Vec<Event>,
    batches: Vec<Vec<Write>>,
    shown: Vec<String>,
    counters: Counters,
}

impl Recording {
    /// Records two lives: what the second finds was written by the first. `next` makes a batch, or ends; it is
    /// told of a refusal.
    fn new(
        name: String,
        rig: Rig,
        mut next: impl FnMut(usize, Option<bool>) -> Option<Vec<Write>>,
        lives: u32,
    ) -> Recording {
        let trace = Trace::default();
        let mut counters = Counters::default();
        let (mut batches, mut stored) = (Vec::new(), 0);
        let mut accepted = None;
        let mut turn = 0;
        for life in 0..lives {
            let inner = rig.medium.open();
            let disk = Box::new(RecordedDisk { inner, life, trace: trace.clone() });
            let kv = Arc::new(RecordedKv { inner: rig.kv.clone(), trace: trace.clone() });
            let background = Box::new(Inline::default());
            let opened = LogStore::open(disk, kv, background, rig.options.clone());
            let mut store = opened.expect("it opens");
            let mut done = Vec::new();
            let mut left = usize::MAX;
            while left > 0 {
                let Some(batch) = next(turn, accepted) else { break };
                turn += 1;
                let number = batches.len();
                let ticket = Some(Ticket(number as u64)).filter(|_| number % 4 > 0);
                accepted = Some(match store.submit(ticket, batch.clone()) {
                    Ok(()) => true,
                    Err(StoreError::Full(_)) => false,
                    Err(e) => panic!("{name}: {e}"),
                });
                if accepted == Some(true) {
                    batches.push(batch);
                    note(&trace, Event::Batches(batches.len()));
                }
                match turn % 20 {
                    9 => store.checkpoint(),
                    14 => store.pack = Some(vec![b'O']),
                    // The first life ends in the middle.
                    19 if life + 1 < lives => left = 1,
                    _ => {}
                }
                (0..7).for_each(|_| poll(&mut store, &mut done, &mut stored, &trace));
                left -= 1;
            }
            for _ in 0..300 {
                poll(&mut store, &mut done, &mut stored, &trace);
            }
            let life_counters = store.counters();
            counters.checkpoints += life_counters.checkpoints;
            counters.cleaned_bytes += life_counters.cleaned_bytes;
            counters.extent_bytes += life_counters.extent_bytes;
        }
        let mut model = MemoryStore::automatic();
        let mut shown = vec![dump(&mut model)];
        for batch in &batches {
            model.submit(None, batch.clone()).expect("the reference takes it");
            shown.push(dump(&mut model));
        }
        let events = std::mem::take(&mut *trace.lock().expect("no holder panics"));
        Recording { name, rig, events, batches, shown, counters }
    }

    /// Cuts behind every event; how many cuts and how many media.
    fn cut_everywhere(&self, chances: u64) -> (usize, usize) {
        let mut cut = Cut::default();
        let mut media = 0;
        for (point, event) in self.events.iter().enumerate() {
            cut.take(event);
            // Nothing that a medium could show has changed.
            if matches!(event, Event::Batches(_)) {
                continue;
            }
            let thorough = chances > 0 || point % 5 == 0;
            let ways = ways(cut.volatile.len(), point as u64, chances, thorough);
            let grown: &[bool] = if cut.size > cut.size_durable { &[true, false] } else { &[true] };
            for (way, keep) in ways.iter().enumerate() {
                for grown in grown {
                    // The index's unsynced batches go by turns, each at least once.
                    let unsynced = cut.kv.unsynced();
                    let all = if way < 2 {
                        0..=unsynced
                    } else {
                        way % (unsynced + 1)..=way % (unsynced + 1)
                    };
                    for kept in all {
                        let what =
                            format!("{} cut {point} way {way} grown {grown} kv {kept}", self.name);
                        self.check(&cut, keep, *grown, kept, &what, media);
                        media += 1;
                    }
                }
            }
        }
        (self.events.len(), media)
    }

    fn check(&self, cut: &Cut, keep: &Keep, grown: bool, kept: usize, what: &str, number: usize) {
        let mut rig = Rig::new(number as u64, 0);
        rig.options = self.rig.options.clone();
        let size_max = self.rig.options.capacity;
        rig.medium = cut.medium(number as u64, size_max, &**keep, grown);
        rig.kv = cut.kv.branch();
        rig.kv.crash(kept);
        let mut store = rig.try_open().unwrap_or_else(|e| panic!("{what}: {e}"));
        let opened = store.opened().clone();
        assert_eq!((opened.rotten_groups, opened.lost_batches), (0, 0), "{what}: torn, not rotten");
        let found = dump(&mut store);
        let (stored, batches) = (cut.stored, cut.batches);
        let fitting = (stored..=batches).find(|prefix| self.shown[*prefix] == found);
        let Some(prefix) = fitting else {
            panic!("{what}: {stored} stored of {batches}, but found\n{found}")
        };
        if number.is_multiple_of(4) {
            drop(store);
            assert_eq!(check(&rig).findings, [], "{what}");
            store = rig.open();
        }
        if number.is_multiple_of(8) {
            self.go_on(rig, store, prefix, what);
        }
    }

    /// It is written on, loses power again, and shows as much as it must.
    fn go_on(&self, rig: Rig, mut store: LogStore, prefix: usize, what: &str) {
        let mut more = 0;
        let mut done = Vec::new();
        for batch in self.batches[prefix..].iter().take(4) {
            match store.submit(Some(Ticket(more)), batch.clone()) {
                Ok(()) => more += 1,
                // The first run had waited for its reads and writes; here there may be less room as yet.
                Err(StoreError::Full(_)) => break,
                Err(e) => panic!("{what}, again: {e}"),
            }
            if more == 2 {
                store.checkpoint();
            }
            (0..9).for_each(|_| store.poll(&mut done));
        }
        let stored = done.iter().filter(|one| matches!(one, Completion::Stored { .. })).count();
        drop(store);
        rig.medium.crash();
        rig.kv.crash(0);
        let mut store = rig.try_open().unwrap_or_else(|e| panic!("{what}, again: {e}"));
        let found = dump(&mut store);
        let fits = (prefix + stored..=prefix + more as usize).any(|at| self.shown[at] == found);
        assert!(fits, "{what}, again: {stored} stored behind {prefix}, but found\n{found}");
        settle(&mut store);
        drop(store);
        assert_eq!(check(&rig).findings, [], "{what}, again");
    }
}

fn poll(store: &mut LogStore, done: &mut Vec<Completion>, stored: &mut usize, trace: &Trace) {
    store.poll(done);
    for one in done.drain(..) {
        match one {
            Completion::Stored { ticket: Ticket(at) } => {
                *stored = (*stored).max(at as usize + 1);
                note(trace, Event::Stored(*stored));
            }
            other => panic!("{other:?}"),
        }
    }
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

/// Writes of all kinds, copies, removals, checkpoints, packing, cleaning, a log of many short segments.
fn mixed(seed: u64) -> Recording {
    let mut rig = Rig::new(seed, 16 << 20);
    rig.options.segment_bytes_min = 64 << 10;
    rig.options.segment_bytes_max = 64 << 10;
    rig.options.log_bytes_max = 256 << 10;
    rig.options.grow_bytes_min = 256 << 10;
    let mut workload = Workload::new(seed, 50_000);
    let next = move |turn: usize, _| (turn < 60).then(|| workload.batch());
    Recording::new(format!("mixed {seed}"), rig, next, 2)
}

/// A medium that is full, is emptied by half, and is full again.
fn full(seed: u64) -> Recording {
    const PG: PgId = PgId { pool: PoolId(1), seed: 0 };
    let mut rig = Rig::new(seed, 3 << 20);
    rig.options.segment_bytes_min = 64 << 10;
    rig.options.segment_bytes_max = 64 << 10;
    rig.options.log_bytes_max = 256 << 10;
    rig.options.reserve_bytes = 256 << 10;
    rig.options.grow_bytes_min = 256 << 10;
    let (mut counter, mut refused, mut here) = (0, 0, Vec::new());
    let mut last = None;
    let next = move |turn: usize, accepted: Option<bool>| {
        match accepted {
            Some(true) => here.extend(last.take()),
            Some(false) => refused += 1,
            None => {}
        }
        if turn == 0 {
            return Some(vec![Write::CreatePg { pg: PG }]);
        }
        if turn > 130 {
            return None;
        }
        counter += 1;
        let version = Version { interval: Interval(1), counter };
        // Refused a few times, it deletes until half is gone.
        let deletes = refused >= 3 && here.len() > 8;
        refused = if deletes { refused } else { refused % 3 };
        let (name, change, size) = match deletes {
            true => (here.swap_remove(here.len() / 2), Change::Remove {}, None),
            false => {
                let len = [2000, 70_000, 9000, 120_000][counter as usize % 4];
                let data = Chance(seed ^ counter).bytes(len);
                last = Some(counter);
                (counter, Change::Write { offset: 0, data }, Some(len))
            }
        };
        let info = size.map(|size| ObjectInfo { size, version, ..ObjectInfo::default() });
        let entry = LogEntry {
            version,
            object: ObjectName::new(format!("o{name}").into_bytes()),
            removes: deletes,
            mutation: Some(Mutation { changes: vec![change], info }),
            ..LogEntry::default()
        };
        let apply = Write::Apply { pg: PG, to: version, except: vec![] };
        Some(vec![Write::Stage { pg: PG, entry }, apply, Write::TrimLog { pg: PG, to: version }])
    };
    Recording::new(format!("full {seed}"), rig, next, 2)
}

#[test]
fn a_power_cut_anywhere_loses_nothing_that_was_stored() {
    let chances = number("STORE_POWER_CUT_WAYS").unwrap_or(0);
    for seed in 0..number("STORE_POWER_CUT_SEEDS").unwrap_or(1) {
        let recording = mixed(seed + 1);
        let counters = &recording.counters;
        assert!(counters.checkpoints >= 3 && counters.cleaned_bytes > 0, "{counters:?}");
        assert!(counters.extent_bytes > 0, "{counters:?}");
        let (cuts, media) = recording.cut_everywhere(chances);
        println!("{}: {cuts} cut points, {media} media, all recovered", recording.name);
        assert!(cuts > 300 && media > cuts, "{cuts} {media}");
    }
}

#[test]
fn a_power_cut_of_a_full_medium_loses_nothing_that_was_stored() {
    let chances = number("STORE_POWER_CUT_WAYS").unwrap_or(0);
    for seed in 0..number("STORE_POWER_CUT_SEEDS").unwrap_or(1) {
        let recording = full(seed + 1);
        assert!(recording.counters.checkpoints >= 2, "{:?}", recording.counters);
        let (cuts, media) = recording.cut_everywhere(chances);
        println!("{}: {cuts} cut points, {media} media, all recovered", recording.name);
        assert!(cuts > 300 && media > cuts, "{cuts} {media}");
    }
}
