//! The real engine: one file per daemon, with a log, extents, and an index behind them.
//!
//! # The file
//!
//! | offset | |
//! |---|---|
//! | 0 | superblock |
//! | 64 KiB | superblock again |
//! | 128 KiB | the area: units of 4 KiB, each free, in an extent, or in a log segment |
//!
//! Byte tables: `format`. What a batch says: `step`. The index and its keys: `index`.
//!
//! # The life of a batch
//!
//! 1. `submit` gives every byte string a place: up to [`SMALL_BYTES_MAX`] in the batch itself, larger ones
//!    in fresh extents. The steps then change the state in memory: reads show it.
//! 2. `poll` writes the extents, and gathers batches whose extents are written into a *group*: one write,
//!    checksummed, chained to the group before it. One group is in flight, and a further one only when it
//!    is full. When it is durable, its batches are `Stored`.
//! 3. A batch without ticket waits for one with, or for about [`LAZY`].
//! 4. When much of the log is in closed segments, the oldest are *cleaned*: what is still alive of the
//!    small data there is written to extents, in order of object, and the onodes are pointed at it. Then a
//!    *checkpoint* writes all changed onodes, omap entries, log entries and the map of used units to the
//!    index as one atomic batch, that of one sequence number, and syncs it. Then the segments are recycled.
//!
//! # Opening
//!
//! The state of the checkpoint, then the steps of all batches behind it. The log is read as a whole, at
//! most `log_bytes_max` (and what a full store had to add, see Room): that bounds the time. The end of the log is
//! the first group that is not whole or not chained to its predecessor, or whose extents are not whole although
//! no later group says that it had been durable: the disk may have kept a group that was in flight and lost
//! the extents that it names. If any later group says that a missing one had been durable, the log is damaged
//! and not torn: the placement groups that had steps there are damaged, all others go on (`scan`).
//!
//! # Invariants
//!
//! - Nothing is `Stored` before its group, all groups before it, and its extents are durable.
//! - Extents are never written over while anything durable, or any read, may refer to them.
//! - A segment is recycled only when a durable checkpoint needs nothing of it.
//! - What cleaning moved needs no log record: until the checkpoint is durable, the log's copy is what a
//!   restart finds.
//! - No byte is answered whose checksum was not right, but for bytes that never left memory.
//!
//! # Room
//!
//! Growing batches are refused before the reserve is touched, small deletes may use half of it, and
//! housekeeping and cleaning all of it (`admission`). The index's own files count as used.
//!
//! Deliberately absent: compression, a cache of object bytes (clients and services above have them), and
//! values of omaps outside of the index (it keeps large ones apart from its keys itself).

pub mod allocator;
pub mod background;
pub mod check;
mod clean;
#[cfg(feature = "shell")]
pub mod directory;
pub mod format;
pub mod index;
mod open;
pub mod piece;
mod prepare;
mod read;
mod scan;
mod segments;
pub mod state;
pub mod step;
#[cfg(test)]
mod tests;
pub mod trailer;
mod write;

use super::admission::{DemandClass, check_pgs, demand};
use super::disk::{BLOCK_BYTES, Disk, DiskError, Done, Pool, Request};
use super::{Completion, OmapEntries, PgState, PgUsage, Store, StoreError, Usage, Write};
use allocator::{Mark, Run};
use background::Background;
use bytes::Bytes;
use clean::Phase;
use format::Superblock;
use index::{behind, number_key, object_key};
use prepare::Preparing;
use read::ReadJob;
use segments::Segments;
use state::{Fault, State};
use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;
use store_base::object::ObjectInfo;
use store_base::{ClusterId, DaemonId, ObjectName, PgId, Ticket};
use trailer::Recent;
use write::{Group, Queued};

/// Up to here bytes travel in the log; larger ones go to extents at once. Half of what the probes suggested:
/// they did not clean their log, and what travels in it is written twice in the end.
pub const SMALL_BYTES_MAX: usize = 32 << 10;

/// Most bytes of extents and reads in flight; more only adds latency.
pub const IN_FLIGHT_BYTES_MAX: u64 = 8 << 20;

/// Largest single request to the disk, for extents.
pub const REQUEST_BYTES_MAX: usize = 1 << 20;

/// One of so many bytes is kept for deletes and cleaning: growing batches are refused above 968 per mille
/// of the capacity, behind the cluster's own bound of 950.
const RESERVE_SHARE: u64 = 32;

/// Cleaning needs this much, however small the store.
const RESERVE_BYTES_MIN: u64 = 2 << 20;

/// How long a batch without ticket may wait for company.
pub const LAZY: Duration = Duration::from_millis(100);

/// What a store is opened with.
#[derive(Clone, Debug)]
pub struct Options {
    /// Whose data.
    pub cluster: ClusterId,
    /// Which daemon's.
    pub daemon: DaemonId,
    /// The identity that a new file gets: random bytes.
    pub uuid: ClusterId,
    /// Bytes that may ever be used.
    pub capacity: u64,
    /// Size of the first log segment.
    pub segment_bytes_min: u64,
    /// Size of the largest.
    pub segment_bytes_max: u64,
    /// All log segments together. Bounds the time that opening takes.
    pub log_bytes_max: u64,
    /// What only deletes and the store's own work may use.
    pub reserve_bytes: u64,
    /// Changes in memory beyond which a checkpoint is made.
    pub dirty_bytes_max: usize,
    /// The file grows by at least this.
    pub grow_bytes_min: u64,
}

impl Options {
    /// What fits a capacity.
    pub fn new(cluster: ClusterId, daemon: DaemonId, uuid: ClusterId, capacity: u64) -> Options {
        let log_bytes_max = (capacity / 8).clamp(8 << 20, 256 << 20);
        Options {
            cluster,
            daemon,
            uuid,
            capacity,
            segment_bytes_min: 4 << 20,
            segment_bytes_max: (log_bytes_max / 4).max(4 << 20),
            log_bytes_max,
            reserve_bytes: (capacity / RESERVE_SHARE).clamp(RESERVE_BYTES_MIN, 1 << 30),
            dirty_bytes_max: 24 << 20,
            grow_bytes_min: 16 << 20,
        }
    }
}

/// What an opening has done, for the log and for people.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Opened {
    /// Whether the file is new.
    pub created: bool,
    /// Whether one superblock was damaged; it was mended.
    pub superblock_mended: bool,
    /// Bytes of log that were read.
    pub log_bytes: u64,
    /// Batches that were executed again.
    pub replayed: u64,
    /// Segments of the log that were read.
    pub segments: u64,
    /// How long it took, if somebody has a clock.
    pub millis: u64,
    /// Places where the log was not what had been written.
    pub rotten_groups: u64,
    /// Batches that are lost with their steps; whose they were is damaged.
    pub lost_batches: u64,
}

/// Counters since the opening.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Groups written.
    pub groups: u64,
    /// Batches in them.
    pub batches: u64,
    /// Bytes written to the log.
    pub log_bytes: u64,
    /// Bytes written to extents by clients.
    pub extent_bytes: u64,
    /// Bytes moved from the log to extents.
    pub cleaned_bytes: u64,
    /// Checkpoints.
    pub checkpoints: u64,
    /// Blocks that failed their checksum.
    pub damaged: u64,
}

/// What a request to the disk was for.
#[derive(Debug)]
enum Purpose {
    Group,
    /// Of the run that begins at `run`.
    Extent {
        seq: u64,
        run: u64,
        bytes: u64,
    },
    Read {
        job: u64,
        part: usize,
        bytes: u64,
    },
    Zero {
        slot: usize,
    },
    Prepare,
    /// The flush before the superblocks name a new slot.
    Naming,
    Superblock {
        second: bool,
    },
    CleanRead,
    PackRead {
        item: usize,
    },
    CleanWrite,
    Sync,
}

/// A request that waits for its turn.
#[derive(Debug)]
enum Waiting {
    Extent { seq: u64, run: u64, offset: u64, data: Bytes },
    Read { job: u64, part: usize, offset: u64, bytes: usize },
}

/// A run of an extent on its way to the disk.
#[derive(Debug)]
struct UnwrittenRun {
    data: Bytes,
    /// Requests that are not answered yet.
    left: usize,
}

/// The store of a daemon. See the module's documentation.
pub struct LogStore {
    options: Options,
    disk: Box<dyn Disk>,
    pool: Pool,
    background: Box<dyn Background>,
    superblock: Superblock,
    state: State,
    opened: Opened,
    counters: Counters,
    /// The last batch that was executed.
    last_seq: u64,
    /// The last that is durable, with all before it.
    durable: u64,
    queue: VecDeque<Queued>,
    groups: VecDeque<Group>,
    /// Bytes of batches that are not written yet, for reads.
    unwritten: BTreeMap<u64, Vec<Bytes>>,
    /// Runs that are not wholly written yet, for reads: by offset in the file.
    unwritten_runs: BTreeMap<u64, UnwrittenRun>,
    segments: Segments,
    /// The groups written last.
    recent: Recent,
    /// Batches up to here are written without waiting for company.
    urgent: u64,
    nudged: bool,
    /// The last batch at the wake-up before.
    nudged_at: u64,
    waiting: VecDeque<Waiting>,
    in_flight: BTreeMap<u64, Purpose>,
    in_flight_bytes: u64,
    next_io: u64,
    reads: BTreeMap<u64, ReadJob>,
    next_read: u64,
    phase: Phase,
    /// Small data in segments that may have to move to extents.
    log_data_bytes: u64,
    kv_bytes: u64,
    /// By how much the file could grow when it was last asked.
    available: u64,
    /// The next checkpoint is to be followed by a compaction of the index.
    compact: bool,
    /// The next cycle is to pack sparse pieces closer, from this key on.
    pack: Option<Vec<u8>>,
    preparing: Preparing,
    /// What the index was worth at the last compaction, or the most since.
    compacted: Option<u64>,
    answers: Vec<Completion>,
    failed: Option<StoreError>,
    kicked: bool,
}

impl LogStore {
    /// What the opening has done.
    pub fn opened(&self) -> &Opened {
        &self.opened
    }

    /// Counters since the opening.
    pub fn counters(&self) -> Counters {
        self.counters
    }

    /// What does the disk's work, for people: `io_uring`, `threads`, `simulated`.
    pub fn engine(&self) -> &'static str {
        self.disk.engine()
    }

    /// The identity of the file.
    pub fn uuid(&self) -> ClusterId {
        self.superblock.uuid
    }

    /// Whether nothing is under way and nothing waits: all that was submitted is durable.
    pub fn is_idle(&self) -> bool {
        self.in_flight.is_empty()
            && self.queue.is_empty()
            && self.waiting.is_empty()
            && self.answers.is_empty()
            && matches!(self.phase, Phase::Idle)
    }

    /// Makes all that was submitted durable without waiting for company.
    pub fn flush(&mut self) {
        self.urgent = self.last_seq;
        self.kick();
    }

    /// Begins a checkpoint as soon as none is under way: a shorter replay at the next start.
    pub fn checkpoint(&mut self) {
        self.segments.checkpoint_wanted = true;
        self.kick();
    }

    /// Waits until the disk may have an answer. For tools; a daemon waits for the wake-up.
    pub fn wait(&mut self) {
        if !self.in_flight.is_empty() {
            self.disk.wait();
        }
    }

    fn kick(&mut self) {
        if !self.kicked {
            self.kicked = true;
            self.background.wake();
        }
    }

    fn fail(&mut self, error: StoreError) -> StoreError {
        if self.failed.is_none() {
            self.failed = Some(error.clone());
            self.queue.clear();
            self.waiting.clear();
            self.answers.push(Completion::Failed { error: error.clone() });
            self.kick();
        }
        error
    }

    fn submit_io(&mut self, purpose: Purpose, request: Request) {
        let id = self.next_io;
        self.next_io += 1;
        self.in_flight.insert(id, purpose);
        self.disk.submit(id, request);
    }

    /// Takes room, growing the file as needed.
    fn take(&mut self, bytes: u64) -> Result<Vec<Run>, StoreError> {
        loop {
            if let Some(runs) = self.state.allocator.take(bytes) {
                return Ok(runs);
            }
            self.grow(bytes - self.state.allocator.free_bytes())?;
        }
    }

    /// Takes room in one run.
    fn take_whole(&mut self, bytes: u64) -> Result<Run, StoreError> {
        loop {
            if let Some(run) = self.state.allocator.take_whole(bytes) {
                return Ok(run);
            }
            self.grow(bytes)?;
        }
    }

    fn grow(&mut self, bytes: u64) -> Result<(), StoreError> {
        // What was to be written with zeros first is needed now.
        if let Some(run) = self.preparing.take_rest() {
            self.state.allocator.give_back(run);
            return Ok(());
        }
        let run = self.extend(bytes)?;
        self.state.allocator.give_back(run);
        Ok(())
    }

    /// Makes the file larger, by `bytes` at least.
    fn extend(&mut self, bytes: u64) -> Result<Run, StoreError> {
        let size = self.disk.size();
        let step = bytes.max(self.options.grow_bytes_min).max((size / 8).min(256 << 20));
        let wanted = (size + step).next_multiple_of(BLOCK_BYTES as u64).min(self.limit());
        let needed = size + bytes.next_multiple_of(BLOCK_BYTES as u64);
        let full = || {
            let capacity = self.superblock.capacity;
            StoreError::Full(format!("the capacity of {capacity} bytes is used up"))
        };
        if wanted < needed {
            return Err(full());
        }
        let grown = match self.disk.grow(wanted) {
            Err(DiskError::Full(_)) => self.disk.grow(needed),
            other => other,
        };
        self.available = self.disk.available();
        match grown {
            Ok(()) => {}
            Err(DiskError::Full(why)) => return Err(StoreError::Full(why)),
            Err(e) => return Err(self.fail(StoreError::Failed(e.to_string()))),
        }
        self.state.allocator.extend(self.disk.size()).ok_or_else(full)
    }

    /// Where the file ends at most.
    fn limit(&self) -> u64 {
        self.superblock.capacity / BLOCK_BYTES as u64 * BLOCK_BYTES as u64
    }

    /// Bytes that growing batches may still use, and the reserve once more.
    fn room_for_growth(&self) -> u64 {
        self.room_with(self.available)
    }

    /// The same if the file can grow by so much.
    fn room_with(&self, available: u64) -> u64 {
        let log_growth = self.options.log_bytes_max.saturating_sub(self.segments.total_bytes());
        let index = self.kv_bytes + self.state.index.dirty_bytes() as u64;
        let spoken_for = log_growth + self.log_data_bytes + index;
        (self.free_bytes(available) + self.options.reserve_bytes).saturating_sub(spoken_for)
    }

    /// By how much the file can grow. A full store is asked to write nothing, so nobody else would notice that
    /// others have made room on the file system.
    fn available_now(&self) -> u64 {
        if self.is_nearly_full() { self.disk.available() } else { self.available }
    }

    /// Bytes that nobody has, whatever they are meant for.
    fn free_bytes(&self, available: u64) -> u64 {
        let ungrown = self.limit().saturating_sub(self.disk.size()).min(available);
        self.state.allocator.free_bytes() + self.preparing.bytes() + ungrown
    }

    /// Whether it is time to look after what was given up in part only.
    fn is_nearly_full(&self) -> bool {
        let full = self.superblock.capacity + self.options.reserve_bytes;
        full.saturating_sub(self.room_for_growth()) > self.superblock.capacity / 8 * 7
    }

    /// Whether the index takes much more than it is worth, however much room there is.
    fn has_much_garbage(&self) -> bool {
        self.kv_bytes > 2 * self.index_worth() + self.superblock.capacity / 8
    }

    /// About what the index would take without what was removed.
    fn index_worth(&self) -> u64 {
        /// About what an object takes in the index.
        const ONODE_BYTES: u64 = 512;
        let worth = self.state.pgs().map(|pg| self.state.pg_usage(pg));
        worth.map(|pg| pg.omap_bytes + pg.objects * ONODE_BYTES).sum()
    }

    /// A refused batch looks for room once more, and sees to it that there will be some.
    fn make_room(&mut self) {
        /// Changes that may weigh less in the index than they do in memory.
        const DIRTY_BYTES_MIN: usize = 64 << 10;
        // What was given up may wait for a record that nobody is in a hurry for.
        self.flush();
        if self.state.index.dirty_bytes() > DIRTY_BYTES_MIN {
            self.checkpoint();
        }
        self.reclaim();
    }

    /// Sees to it that room that was given up in part becomes room: extents are packed, the index compacted.
    fn reclaim(&mut self) {
        /// Less garbage than this is not worth a compaction.
        const GARBAGE_BYTES_MIN: u64 = 32 << 20;
        /// In a small store, less than one of so many bytes.
        const GARBAGE_SHARE: u64 = 16;
        if self.state.allocator.take_holes() {
            self.pack.get_or_insert_with(|| vec![b'O']);
            self.kick();
        }
        self.available = self.disk.available();
        self.kv_bytes = self.state.index.store().disk_bytes();
        let worth = self.index_worth();
        let least = GARBAGE_BYTES_MIN.min(self.superblock.capacity / GARBAGE_SHARE);
        let garbage = self.kv_bytes.saturating_sub(worth + worth / 4) > least;
        // Once for as much as was removed since the last.
        let due = self.compacted.is_none_or(|at| worth + least / 2 < at);
        self.compacted = self.compacted.map(|at| at.max(worth));
        if garbage && due {
            self.compact = true;
            self.compacted = Some(worth);
            self.checkpoint();
        }
    }

    fn admit(&mut self, batch: &[Write]) -> Result<(), StoreError> {
        let demand = demand(batch);
        let keep = match demand.class {
            DemandClass::Housekeeping => return Ok(()),
            DemandClass::Freeing => self.options.reserve_bytes + self.options.reserve_bytes / 2,
            DemandClass::Growing => 2 * self.options.reserve_bytes,
        };
        // `room` has the reserve added once, so that an overdrawn store does not wrap around.
        if self.room_for_growth() >= keep + demand.added_bytes {
            return Ok(());
        }
        self.make_room();
        if self.room_for_growth() >= keep + demand.added_bytes {
            return Ok(());
        }
        // What removes is not kept waiting for the index, which needs removals to become smaller and takes more
        // than its worth until it is compacted: the file's own room is enough for the log.
        let own = self.options.reserve_bytes / 4 + demand.added_bytes;
        if demand.class == DemandClass::Freeing && self.free_bytes(self.available) >= own {
            return Ok(());
        }
        Err(StoreError::Full(format!(
            "{} bytes asked, the capacity of {} bytes is used up; delete something or add a daemon",
            demand.added_bytes, self.superblock.capacity
        )))
    }

    fn reads_over(&self) -> u64 {
        self.reads.keys().next().copied().unwrap_or(self.next_read)
    }

    fn handle(&mut self, done: Done) {
        let Some(purpose) = self.in_flight.remove(&done.id) else { return };
        // After a failure no answer promises anything: a flush that succeeds says nothing about what one
        // before it has lost.
        if self.failed.is_some() {
            return;
        }
        match purpose {
            Purpose::Read { job, part, bytes } => {
                self.in_flight_bytes -= bytes;
                self.handle_read(job, part, done.result);
                return;
            }
            Purpose::Extent { bytes, .. } => self.in_flight_bytes -= bytes,
            Purpose::PackRead { item } => {
                self.handle_pack_read(item, done.result);
                return;
            }
            _ => {}
        }
        let buffer = match done.result {
            Ok(buffer) => buffer,
            Err(DiskError::Full(why)) => {
                let cure = "make room on that file system and start again";
                self.fail(StoreError::Failed(format!("{why}: {cure}")));
                return;
            }
            Err(DiskError::Unreadable(why)) if matches!(purpose, Purpose::CleanRead) => {
                self.handle_clean_unreadable(&why);
                return;
            }
            Err(e) => {
                self.fail(StoreError::Failed(e.to_string()));
                return;
            }
        };
        match purpose {
            Purpose::Group => self.handle_group(done.id),
            Purpose::Extent { seq, run, .. } => self.handle_extent(seq, run),
            Purpose::Zero { slot } => self.handle_zeroed(slot),
            Purpose::Prepare => self.handle_prepared(),
            Purpose::Naming => self.write_superblock(false),
            Purpose::Superblock { second } => self.handle_superblock(second),
            Purpose::CleanRead => self.handle_clean_read(buffer),
            Purpose::CleanWrite => self.handle_clean_written(),
            Purpose::Sync => self.handle_synced(),
            Purpose::Read { .. } | Purpose::PackRead { .. } => {}
        }
    }

    /// Sets going what can go.
    fn pump(&mut self) {
        let over = self.reads_over();
        self.state.allocator.mature(self.durable, over);
        self.segments.mature(over);
        self.start_waiting();
        while self.start_group() {}
        self.prepare_segments();
        self.prepare_room();
        self.advance_phase();
        self.purge();
        self.ask_for_company();
    }

    fn start_waiting(&mut self) {
        while self.in_flight_bytes < IN_FLIGHT_BYTES_MAX {
            match self.waiting.pop_front() {
                None => return,
                Some(Waiting::Extent { seq, run, offset, data }) => {
                    self.write_extent(seq, run, offset, &data)
                }
                Some(Waiting::Read { job, part, offset, bytes }) => {
                    let buffer = self.pool.take(bytes);
                    self.in_flight_bytes += bytes as u64;
                    let purpose = Purpose::Read { job, part, bytes: bytes as u64 };
                    self.submit_io(purpose, Request::Read { offset, buffer });
                }
            }
        }
    }

    /// Removes objects of placement groups that are gone, a few at a time, while nothing else is queued.
    fn purge(&mut self) {
        /// Objects removed by one step.
        const PURGE_MAX: u32 = 64;
        if !self.queue.is_empty() || self.failed.is_some() {
            return;
        }
        if let Some(uid) = self.state.dead() {
            let step = step::Step::Purge { uid, max: PURGE_MAX };
            self.append_own(vec![step]);
            self.urgent = self.last_seq;
        }
    }

    /// Asks for a wake-up if something waits that nobody is in a hurry for: batches without ticket, or so
    /// many changes in memory that an idle daemon should not keep them.
    fn ask_for_company(&mut self) {
        let idle = self.queue.is_empty() && !self.has_idle_work();
        if idle || self.nudged {
            return;
        }
        self.nudged = true;
        self.background.nudge();
    }

    fn has_idle_work(&self) -> bool {
        /// Changes that an idle daemon may keep in memory.
        const IDLE_DIRTY_BYTES_MAX: usize = 2 << 20;
        /// The same when room is short: what was removed is given back behind a checkpoint only.
        const FULL_DIRTY_BYTES_MAX: usize = 16 << 10;
        let dirty = self.state.index.dirty_bytes();
        matches!(self.phase, Phase::Idle)
            && (dirty > IDLE_DIRTY_BYTES_MAX
                || (dirty > FULL_DIRTY_BYTES_MAX && self.is_nearly_full()))
    }

    fn found(&self, pg: PgId) -> Result<(), StoreError> {
        match self.state.damaged(pg) {
            Some(why) => Err(StoreError::Damaged(why)),
            None if self.state.has(pg) => Ok(()),
            None => Err(StoreError::NoPg(pg)),
        }
    }

    fn onode(
        &self,
        pg: PgId,
        object: &ObjectName,
    ) -> Result<Option<std::sync::Arc<index::Onode>>, StoreError> {
        let key = self.state.object_key(pg, object).ok_or(StoreError::NoPg(pg))?;
        if let Some(why) = self.state.damaged(pg) {
            return Err(StoreError::Damaged(why));
        }
        self.state.index.onode(&key).map_err(|e| StoreError::Damaged(e.to_string()))
    }
}

fn damaged(e: impl ToString) -> StoreError {
    StoreError::Damaged(e.to_string())
}

impl Store for LogStore {
    fn pgs(&self) -> Vec<PgId> {
        self.state.pgs().collect()
    }

    fn load(&self, pg: PgId) -> Result<PgState, StoreError> {
        if let Some(why) = self.state.damaged(pg) {
            return Err(StoreError::Damaged(why));
        }
        self.state
            .load(pg)
            .map_err(|Fault(why)| StoreError::Damaged(why))?
            .ok_or(StoreError::NoPg(pg))
    }

    fn superblock(&self, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        match self.state.is_name_lost(key) {
            true => Err(open::lost(format!("the value {} is lost", key.escape_ascii()))),
            false => Ok(self.state.named(key)),
        }
    }

    fn submit(&mut self, ticket: Option<Ticket>, batch: Vec<Write>) -> Result<(), StoreError> {
        if let Some(error) = &self.failed {
            return Err(error.clone());
        }
        check_pgs(&batch, |pg| self.state.has(pg) && self.state.damaged(pg).is_none())?;
        self.admit(&batch)?;
        self.append(ticket, batch)
    }

    fn read(&mut self, ticket: Ticket, pg: PgId, object: &ObjectName, offset: u64, length: u64) {
        self.start_read(ticket, pg, object, offset, length);
    }

    fn poll(&mut self, done: &mut Vec<Completion>) {
        self.kicked = false;
        self.background.clear();
        let mut answers = Vec::new();
        // What answers set going may be answered at once; but a busy disk must not keep the caller here.
        for _ in 0..2 {
            self.disk.poll(&mut answers);
            let any = !answers.is_empty();
            answers.drain(..).for_each(|answer| self.handle(answer));
            self.handle_background();
            if self.failed.is_none() {
                self.pump();
            }
            self.disk.kick();
            if !any {
                break;
            }
        }
        done.append(&mut self.answers);
    }

    fn info(&self, pg: PgId, object: &ObjectName) -> Result<Option<ObjectInfo>, StoreError> {
        Ok(self.onode(pg, object)?.map(|onode| onode.info.clone()))
    }

    fn xattrs(&self, pg: PgId, object: &ObjectName) -> Result<BTreeMap<Bytes, Bytes>, StoreError> {
        Ok(self.onode(pg, object)?.map(|onode| onode.xattrs.clone()).unwrap_or_default())
    }

    fn xattr(
        &self,
        pg: PgId,
        object: &ObjectName,
        name: &[u8],
    ) -> Result<Option<Bytes>, StoreError> {
        Ok(self.onode(pg, object)?.and_then(|onode| onode.xattrs.get(name).cloned()))
    }

    fn omap_header(&self, pg: PgId, object: &ObjectName) -> Result<Bytes, StoreError> {
        Ok(self.onode(pg, object)?.map(|onode| onode.omap_header.clone()).unwrap_or_default())
    }

    fn omap(&self, pg: PgId, object: &ObjectName, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        match self.onode(pg, object)?.map_or(0, |onode| onode.omap) {
            0 => Ok(None),
            omap => self.state.index.value(&number_key(b'M', omap, key)).map_err(damaged),
        }
    }

    fn omap_list(
        &self,
        pg: PgId,
        object: &ObjectName,
        after: Option<&[u8]>,
        prefix: &[u8],
        max: usize,
    ) -> Result<OmapEntries, StoreError> {
        let omap = self.onode(pg, object)?.map_or(0, |onode| onode.omap);
        if omap == 0 {
            return Ok((Vec::new(), false));
        }
        let from = number_key(b'M', omap, prefix);
        let to = behind(&from);
        let from = match after {
            Some(after) => from.max([&number_key(b'M', omap, after)[..], &[0]].concat()),
            None => from,
        };
        let found = self.state.index.scan_values(&from, &to, max.saturating_add(1));
        let mut found: Vec<(Bytes, Bytes)> = found
            .map_err(damaged)?
            .into_iter()
            .map(|(key, value)| (Bytes::from(key).slice(9..), value))
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
        self.found(pg)?;
        let part = self.state.part(pg).ok_or(StoreError::NoPg(pg))?;
        let (first, to) = part.keys(b'O');
        let from = match after {
            Some(after) => [&object_key(b'O', part.home, after)[..], &[0]].concat(),
            None => first,
        };
        let found = self.state.index.scan_onodes(&from, &to, max).map_err(damaged)?;
        Ok(found.into_iter().map(|(_, onode)| (onode.name.clone(), onode.info.clone())).collect())
    }

    fn extents(
        &self,
        pg: PgId,
        object: &ObjectName,
        offset: u64,
        length: u64,
    ) -> Result<Vec<(u64, u64)>, StoreError> {
        let Some(onode) = self.onode(pg, object)? else { return Ok(Vec::new()) };
        Ok(piece::ranges(&onode.pieces, offset, offset.saturating_add(length)))
    }

    fn pg_usage(&self, pg: PgId) -> PgUsage {
        self.state.pg_usage(pg)
    }

    fn room(&self) -> u64 {
        self.room_with(self.available_now()).saturating_sub(2 * self.options.reserve_bytes)
    }

    fn usage(&self) -> Usage {
        let available = self.available_now();
        let mut usage = Usage {
            capacity_bytes: self.superblock.capacity,
            // What the log and its cleaning will need counts as used: nobody else gets it.
            used_bytes: (self.superblock.capacity + self.options.reserve_bytes)
                .saturating_sub(self.room_with(available))
                .min(self.superblock.capacity),
            ..Usage::default()
        };
        let garbage = self.kv_bytes.saturating_sub(self.index_worth());
        usage.reclaimable_bytes =
            (self.state.allocator.waiting_bytes() + garbage).min(usage.used_bytes);
        for pg in self.state.pgs() {
            let one = self.state.pg_usage(pg);
            usage.stored_bytes += one.bytes + one.omap_bytes;
            usage.objects += one.objects;
        }
        usage
    }
}

impl LogStore {
    fn mark(&self) -> Mark {
        Mark { seq: self.last_seq, read: self.next_read }
    }
}
