//! Opening: superblocks, checkpoint, log.

use super::allocator::Run;
use super::background::Background;
use super::clean::Phase;
use super::format::{
    AREA_START, FORMAT_VERSION, GROUP_HEADER_BYTES, GroupHeader, SUPERBLOCK_SECOND, Slot,
    Superblock, checksum, decode_batches,
};
use super::piece::{Piece, Place, wanted};
use super::segments::{Segment, Segments, SlotUse};
use super::state::{Checkpoint, State};
use super::step::Step;
use super::{Counters, LogStore, Opened, Options};
use crate::store::StoreError;
use crate::store::disk::{BLOCK_BYTES, Buffer, Disk, DiskError, Durability, Pool, Request};
use crate::store::kv::KvStore;
use bytes::{Bytes, BytesMut};
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use store_base::codec::Decode;

/// The log is read in windows of this.
const WINDOW_BYTES: u64 = 1 << 20;

/// What a person does about a directory whose content is lost.
const CURE: &str = "remove this daemon's directory to have it filled again from the others";

/// Requests one by one, for the opening.
struct Blocking<'a> {
    disk: &'a mut dyn Disk,
    pool: Pool,
}

impl Blocking<'_> {
    fn request(&mut self, request: Request) -> Result<Option<Buffer>, DiskError> {
        self.disk.submit(u64::MAX, request);
        self.disk.kick();
        let mut done = Vec::new();
        // A simulated disk whose power is gone never answers.
        for _ in 0..1000 {
            self.disk.poll(&mut done);
            if let Some(done) = done.pop() {
                return done.result;
            }
            self.disk.wait();
        }
        Err(DiskError::Failed("the disk does not answer".into()))
    }

    fn read(&mut self, offset: u64, bytes: usize) -> Result<Bytes, DiskError> {
        let buffer = self.pool.take(bytes);
        let buffer = self.request(Request::Read { offset, buffer })?;
        Ok(buffer.map(Bytes::from_owner).unwrap_or_default())
    }

    fn write(&mut self, offset: u64, bytes: &[u8]) -> Result<(), StoreError> {
        let mut buffer = self.pool.take(bytes.len());
        buffer.fill([bytes]);
        let request = Request::Write { offset, buffer, durability: Durability::All };
        self.request(request).map(|_| ()).map_err(failed)
    }

    fn write_superblocks(&mut self, superblock: &Superblock) -> Result<(), StoreError> {
        let block = superblock.encode_block();
        self.write(0, &block)?;
        self.write(SUPERBLOCK_SECOND, &block)
    }
}

fn failed(e: DiskError) -> StoreError {
    match e {
        DiskError::Full(why) => StoreError::Full(why),
        e => StoreError::Failed(e.to_string()),
    }
}

fn unreadable(e: DiskError) -> StoreError {
    StoreError::Failed(format!("{e}; if this stays so, {CURE}"))
}

fn lost(why: impl std::fmt::Display) -> StoreError {
    StoreError::Damaged(format!("{why}; {CURE}"))
}

impl LogStore {
    /// Opens the file of a daemon, or makes one if it is empty. The error says what to do.
    pub fn open(
        mut disk: Box<dyn Disk>,
        store: Arc<dyn KvStore>,
        background: Box<dyn Background>,
        options: Options,
    ) -> Result<LogStore, StoreError> {
        let pool = Pool::default();
        let mut opened = Opened::default();
        let mut io = Blocking { disk: &mut *disk, pool: pool.clone() };
        let mut superblock = superblock(&mut io, &options, &mut opened)?;
        check_slots(&superblock, io.disk.size())?;
        superblock.life += 1;
        superblock.generation += 1;
        superblock.capacity = options.capacity;
        let kv_bytes = store.disk_bytes();
        let (mut state, checkpoint) =
            State::open(store, superblock.uuid, io.disk.size()).map_err(lost)?;
        let mut scan = Scan::new(&superblock, checkpoint);
        scan.run(&mut io, &mut state, &mut opened)?;
        scan.look_behind_the_end(&mut io)?;
        let slots: Vec<Run> = superblock
            .slots
            .iter()
            .map(|slot| Run { offset: slot.offset, length: slot.size })
            .collect();
        state.allocator.start(io.disk.size(), &slots).map_err(lost)?;
        read_staged(&mut io, &mut state, &scan.segments);
        io.write_superblocks(&superblock)?;
        let available = io.disk.available();
        let log_data_bytes =
            scan.segments.segments.values().map(|segment| segment.data_bytes).sum();
        let mut segments = scan.segments;
        segments.chain = scan.chain;
        Ok(LogStore {
            options,
            disk,
            pool,
            background,
            superblock,
            state,
            opened,
            counters: Counters::default(),
            last_seq: scan.last,
            durable: scan.last,
            queue: VecDeque::new(),
            groups: VecDeque::new(),
            unwritten: BTreeMap::new(),
            unwritten_runs: BTreeMap::new(),
            segments,
            urgent: 0,
            nudged: false,
            nudged_at: 0,
            waiting: VecDeque::new(),
            in_flight: BTreeMap::new(),
            in_flight_bytes: 0,
            next_io: 0,
            reads: BTreeMap::new(),
            next_read: 0,
            phase: Phase::Idle,
            log_data_bytes,
            kv_bytes,
            available,
            compact: false,
            pack: None,
            preparing: Default::default(),
            compacted: None,
            answers: Vec::new(),
            failed: None,
            kicked: false,
        })
    }
}

/// Reads the superblocks, or makes them in an empty file.
fn superblock(
    io: &mut Blocking<'_>,
    options: &Options,
    opened: &mut Opened,
) -> Result<Superblock, StoreError> {
    let mut found = Vec::new();
    let mut second_is_blank = true;
    if io.disk.size() >= AREA_START {
        for offset in [0, SUPERBLOCK_SECOND] {
            // A block that cannot be read is as good as a damaged one.
            let block = io.read(offset, BLOCK_BYTES).unwrap_or_default();
            if offset > 0 {
                second_is_blank = block.len() == BLOCK_BYTES && block.iter().all(|byte| *byte == 0);
            }
            found.extend(Superblock::decode_block(&block));
        }
    }
    opened.superblock_mended = found.len() == 1 && !second_is_blank;
    let Some(best) = found.into_iter().max_by_key(|superblock| superblock.generation) else {
        // The second is written last: as long as it is blank, nothing was ever acknowledged here.
        if !second_is_blank {
            return Err(lost("both superblocks are damaged"));
        }
        opened.created = true;
        return format_file(io, options);
    };
    if best.format > FORMAT_VERSION {
        return Err(StoreError::Failed(format!(
            "the file has format {}, this program knows {FORMAT_VERSION}: upgrade the program",
            best.format
        )));
    }
    if best.cluster != options.cluster {
        return Err(StoreError::Failed(format!(
            "the directory belongs to the cluster {}, not to {}: choose another directory, or the \
             right monitors",
            best.cluster, options.cluster
        )));
    }
    if best.daemon != options.daemon {
        return Err(StoreError::Failed(format!(
            "the directory belongs to {}, not to {}: choose its own directory",
            best.daemon, options.daemon
        )));
    }
    Ok(best)
}

/// The log's slots were durable before they were named: what has no such places was cut off since.
fn check_slots(superblock: &Superblock, size: u64) -> Result<(), StoreError> {
    let block = BLOCK_BYTES as u64;
    let fits = |slot: &Slot| {
        let end = slot.offset.checked_add(slot.size);
        let aligned = slot.offset.is_multiple_of(block) && slot.size.is_multiple_of(block);
        aligned && slot.offset >= AREA_START && slot.size > 0 && end.is_some_and(|end| end <= size)
    };
    match superblock.slots.iter().find(|slot| !fits(slot)) {
        None => Ok(()),
        Some(slot) => Err(lost(format!(
            "the log should be at {} with {} bytes, but the file has {size}",
            slot.offset, slot.size
        ))),
    }
}

fn format_file(io: &mut Blocking<'_>, options: &Options) -> Result<Superblock, StoreError> {
    let slot = Slot { offset: AREA_START, size: options.segment_bytes_min };
    let least = slot.offset + slot.size + options.reserve_bytes;
    if options.capacity < least {
        return Err(StoreError::Full(format!(
            "a capacity of {} bytes is too small: at least {least} are needed",
            options.capacity
        )));
    }
    io.disk.grow(AREA_START + options.segment_bytes_min).map_err(failed)?;
    let superblock = Superblock {
        format: FORMAT_VERSION,
        generation: 1,
        cluster: options.cluster,
        daemon: options.daemon,
        uuid: options.uuid,
        life: 0,
        capacity: options.capacity,
        slots: vec![slot],
    };
    // A file that was cut off in the middle of this is blank in its second superblock; what is in the
    // slot then is not a group.
    io.write(slot.offset, &[0; BLOCK_BYTES])?;
    io.write_superblocks(&superblock)?;
    Ok(superblock)
}

/// The walk along the log.
struct Scan {
    mark: u64,
    slots: Vec<Slot>,
    checkpoint: Checkpoint,
    segments: Segments,
    /// The last batch found.
    last: u64,
    chain: u32,
    /// Where the chain ended: slot and offset in it.
    ends: Vec<(usize, u64)>,
    /// Groups at the end of which no later one says that they were durable.
    held: VecDeque<Held>,
}

/// A group that may have been in flight when the power went: it is whole, but the extents that it names
/// may not be. Then it was never `Stored`, and counts as torn.
struct Held {
    segment: u64,
    header: GroupHeader,
    steps: Vec<Bytes>,
    /// The segment and the chain before it.
    end: u64,
    batches: usize,
    data_bytes: u64,
    chain: u32,
}

impl Scan {
    fn new(superblock: &Superblock, checkpoint: Checkpoint) -> Scan {
        let (mark, slots) = (superblock.mark(), &superblock.slots);
        let segments = Segments {
            slots: slots.iter().map(|slot| (*slot, SlotUse::Free)).collect(),
            next: checkpoint.tail.max(1),
            cleaned: checkpoint.tail,
            ..Segments::default()
        };
        let last = checkpoint.seq;
        let (slots, ends, held) = (slots.clone(), Vec::new(), VecDeque::new());
        Scan { mark, slots, checkpoint, segments, last, chain: 0, ends, held }
    }

    fn run(
        &mut self,
        io: &mut Blocking<'_>,
        state: &mut State,
        opened: &mut Opened,
    ) -> Result<(), StoreError> {
        let mut heads = Vec::new();
        for (index, slot) in self.slots.clone().into_iter().enumerate() {
            let block = io.read(slot.offset, BLOCK_BYTES).map_err(failed)?;
            if let Some((header, _)) = GroupHeader::decode(&block, self.mark) {
                self.segments.next = self.segments.next.max(header.segment + 1);
                if header.segment >= self.checkpoint.tail {
                    heads.push((header, index));
                }
            }
        }
        heads.sort_by_key(|(header, _)| (header.segment, header.life));
        let mut expected: Option<u64> = None;
        for (header, index) in heads {
            let begins = match expected {
                // The oldest segment may begin anywhere up to what the checkpoint has.
                None => header.first <= self.checkpoint.seq + 1,
                Some(next) => header.first == next && header.previous == self.chain,
            };
            if !begins {
                if expected.is_none() {
                    let (from, to) = (self.checkpoint.seq + 1, header.first);
                    return Err(lost(format!("the log lacks the batches {from} to {to}")));
                }
                continue;
            }
            let next = self.segment(io, state, opened, index, header, expected.is_none())?;
            expected = Some(next);
        }
        if let Some(torn) = self.settle_held(io, state, opened)? {
            expected = Some(torn);
        }
        match expected {
            Some(next) if next <= self.checkpoint.seq => {
                return Err(lost(format!(
                    "the log ends with batch {}, the index has {}",
                    next - 1,
                    self.checkpoint.seq
                )));
            }
            Some(next) => self.last = next - 1,
            None => {}
        }
        let active = self.segments.segments.keys().next_back().copied();
        for (number, segment) in &mut self.segments.segments {
            segment.closed = Some(*number) != active;
            self.segments.slots[segment.slot].1 = SlotUse::Segment;
        }
        Ok(())
    }

    /// Walks along one segment; the sequence behind its last batch.
    fn segment(
        &mut self,
        io: &mut Blocking<'_>,
        state: &mut State,
        opened: &mut Opened,
        index: usize,
        head: GroupHeader,
        any_chain: bool,
    ) -> Result<u64, StoreError> {
        let slot = self.slots[index];
        let mut window = Window::new(slot);
        let mut segment = Segment {
            slot: index,
            first: head.first,
            end: 0,
            batches: Vec::new(),
            data_bytes: 0,
            closed: true,
        };
        let (mut next, mut any_chain) = (head.first, any_chain);
        while segment.end + BLOCK_BYTES as u64 <= slot.size {
            let block = window.bytes(io, segment.end, BLOCK_BYTES as u64)?;
            let Some((header, crc)) = GroupHeader::decode(&block, self.mark) else { break };
            let chained = any_chain || header.previous == self.chain;
            let fits = segment.end + header.disk_bytes() <= slot.size;
            if header.segment != head.segment || header.first != next || !chained || !fits {
                break;
            }
            let whole = window.bytes(io, segment.end, header.disk_bytes())?;
            let payload =
                whole.slice(GROUP_HEADER_BYTES..GROUP_HEADER_BYTES + header.length as usize);
            if checksum(&payload) != header.payload_crc {
                break;
            }
            let batches = decode_batches(&header, payload).map_err(lost)?;
            self.replay_durable(state, opened, header.durable)?;
            self.held.push_back(Held {
                segment: header.segment,
                header,
                steps: batches.iter().map(|batch| batch.steps.clone()).collect(),
                end: segment.end,
                batches: segment.batches.len(),
                data_bytes: segment.data_bytes,
                chain: self.chain,
            });
            for batch in batches {
                segment.batches.push(segment.end as u32 + batch.data_offset);
                segment.data_bytes += batch.data.len() as u64;
            }
            next += u64::from(header.count);
            segment.end += header.disk_bytes();
            opened.log_bytes += header.disk_bytes();
            self.chain = crc;
            any_chain = false;
        }
        self.ends.push((index, segment.end));
        if next > head.first {
            self.segments.segments.insert(head.segment, segment);
        }
        Ok(next)
    }

    /// Executes the held groups that were durable.
    fn replay_durable(
        &mut self,
        state: &mut State,
        opened: &mut Opened,
        durable: u64,
    ) -> Result<(), StoreError> {
        while let Some(held) = self.held.pop_front() {
            if held.header.first + u64::from(held.header.count) > durable + 1 {
                self.held.push_front(held);
                break;
            }
            self.replay_group(state, opened, held)?;
        }
        Ok(())
    }

    fn replay_group(
        &self,
        state: &mut State,
        opened: &mut Opened,
        held: Held,
    ) -> Result<(), StoreError> {
        for (i, steps) in held.steps.into_iter().enumerate() {
            if held.header.first + i as u64 > self.checkpoint.seq {
                replay(state, steps)?;
                opened.replayed += 1;
            }
        }
        Ok(())
    }

    /// Executes the last groups as far as their extents are there; the sequence where the log is cut off.
    fn settle_held(
        &mut self,
        io: &mut Blocking<'_>,
        state: &mut State,
        opened: &mut Opened,
    ) -> Result<Option<u64>, StoreError> {
        while let Some(held) = self.held.pop_front() {
            let known = held.header.first + u64::from(held.header.count) <= self.checkpoint.seq + 1;
            if known || extents_are_whole(io, &held.steps)? {
                self.replay_group(state, opened, held)?;
                continue;
            }
            self.held.clear();
            self.segments.segments.split_off(&(held.segment + 1));
            if let Some(segment) = self.segments.segments.get_mut(&held.segment) {
                segment.end = held.end;
                segment.batches.truncate(held.batches);
                segment.data_bytes = held.data_bytes;
                if held.batches == 0 {
                    self.segments.segments.remove(&held.segment);
                }
            }
            self.chain = held.chain;
            return Ok(Some(held.header.first));
        }
        Ok(None)
    }

    /// A log that ends before a batch that was durable is damaged, not torn: some later group says so.
    fn look_behind_the_end(&self, io: &mut Blocking<'_>) -> Result<(), StoreError> {
        let missing = self.last + 1;
        for (index, slot) in self.slots.iter().enumerate() {
            let from = self.ends.iter().find(|(at, _)| *at == index).map_or(0, |(_, end)| *end);
            let mut window = Window::new(*slot);
            for at in (from..slot.size).step_by(BLOCK_BYTES) {
                let block = window.bytes(io, at, BLOCK_BYTES as u64)?;
                if let Some((header, _)) = GroupHeader::decode(&block, self.mark)
                    && header.segment >= self.checkpoint.tail
                    && header.durable >= missing
                {
                    return Err(lost(format!(
                        "the log is damaged: batch {missing} was durable and is not there"
                    )));
                }
            }
        }
        Ok(())
    }
}

/// Reads a slot in large steps.
struct Window {
    slot: Slot,
    start: u64,
    bytes: Bytes,
}

impl Window {
    fn new(slot: Slot) -> Window {
        Window { slot, start: 0, bytes: Bytes::new() }
    }

    fn bytes(&mut self, io: &mut Blocking<'_>, at: u64, length: u64) -> Result<Bytes, StoreError> {
        let end = self.start + self.bytes.len() as u64;
        if at < self.start || at + length > end {
            let want = length.max(WINDOW_BYTES.min(self.slot.size - at));
            self.bytes = io.read(self.slot.offset + at, want as usize).map_err(failed)?;
            self.start = at;
        }
        let from = (at - self.start) as usize;
        Ok(self.bytes.slice(from..from + length as usize))
    }
}

fn replay(state: &mut State, steps: Bytes) -> Result<(), StoreError> {
    for step in Vec::<Step>::from_bytes(steps).map_err(lost)? {
        state.execute(step, &mut VecDeque::new()).map_err(lost)?;
    }
    Ok(())
}

/// Whether all extents that these steps name hold what was written.
fn extents_are_whole(io: &mut Blocking<'_>, batches: &[Bytes]) -> Result<bool, StoreError> {
    for steps in batches {
        for step in Vec::<Step>::from_bytes(steps.clone()).map_err(lost)? {
            let places: Vec<&Piece> = match &step {
                Step::Stage { placed, .. } => placed.pieces().collect(),
                Step::ReplaceLog { staged, .. } => {
                    staged.iter().flat_map(|one| one.pieces()).collect()
                }
                Step::Install { places, .. } => places.iter().collect(),
                _ => continue,
            };
            for piece in places {
                if !piece.is_valid() {
                    return Err(lost("a piece makes no sense"));
                }
                let Place::Disk { offset } = piece.place else { continue };
                match read_stored(io, piece, offset) {
                    Ok(_) => {}
                    Err(Unusable::Damaged(_)) => return Ok(false),
                    // A torn write can be read: this may well have been stored, and come back.
                    Err(Unusable::Unreadable(e)) => return Err(unreadable(e)),
                }
            }
        }
    }
    Ok(true)
}

/// Reads the bytes of staged entries: they may have to be sent to others, and are applied from memory.
fn read_staged(io: &mut Blocking<'_>, state: &mut State, segments: &Segments) {
    for staged in state.staged_mut() {
        let places = staged.placed.places.iter();
        staged.data = places.map(|pieces| read_pieces(io, pieces, segments)).collect();
    }
}

fn read_pieces(
    io: &mut Blocking<'_>,
    pieces: &[Piece],
    segments: &Segments,
) -> Result<Bytes, String> {
    let mut whole = BytesMut::new();
    for piece in pieces {
        let offset = match piece.place {
            Place::Disk { offset } => offset,
            Place::Log { seq, offset } => {
                let data =
                    segments.locate(seq).ok_or("a staged entry's bytes are not in the log")?;
                data + u64::from(offset)
            }
        };
        let stored = read_stored(io, piece, offset).map_err(|e| e.to_string())?;
        whole.extend_from_slice(&wanted(piece, &stored));
    }
    Ok(whole.freeze())
}

/// Why stored bytes are not to be had.
enum Unusable {
    /// They are not what was written, or there is no such place.
    Damaged(String),
    /// The medium does not say.
    Unreadable(DiskError),
}

impl std::fmt::Display for Unusable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Unusable::Damaged(why) => f.write_str(why),
            Unusable::Unreadable(e) => e.fmt(f),
        }
    }
}

/// The stored bytes of a piece, verified.
fn read_stored(io: &mut Blocking<'_>, piece: &Piece, offset: u64) -> Result<Bytes, Unusable> {
    let aligned = offset / BLOCK_BYTES as u64 * BLOCK_BYTES as u64;
    let before = (offset - aligned) as usize;
    let bytes = (before + piece.stored as usize).next_multiple_of(BLOCK_BYTES);
    if aligned + bytes as u64 > io.disk.size() {
        return Err(Unusable::Damaged(format!("offset {offset} is beyond the end of the file")));
    }
    let found = io.read(aligned, bytes).map_err(Unusable::Unreadable)?;
    let stored = found.slice(before..before + piece.stored as usize);
    match piece.verify(&stored) {
        true => Ok(stored),
        false => Err(Unusable::Damaged(format!("a staged entry's bytes are damaged at {offset}"))),
    }
}
