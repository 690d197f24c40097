//! Opening: superblocks, checkpoint, log (`scan`), bytes of staged entries.

use super::allocator::Run;
use super::background::Background;
use super::clean::Phase;
use super::format::{AREA_START, FORMAT_VERSION, SUPERBLOCK_SECOND, Slot, Superblock};
use super::piece::{Piece, Place, wanted};
use super::scan::{Scan, Target};
use super::segments::Segments;
use super::state::{Checkpoint, State};
use super::{Counters, LogStore, Opened, Options};
use crate::store::StoreError;
use crate::store::disk::{BLOCK_BYTES, Buffer, Disk, DiskError, Durability, Pool, Request};
use crate::store::kv::KvStore;
use bytes::{Bytes, BytesMut};
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

/// What a person does about a directory whose content is lost.
const CURE: &str = "remove this daemon's directory to have it filled again from the others";

/// Requests one by one, for the opening.
pub(super) struct Blocking<'a> {
    pub(super) disk: &'a mut dyn Disk,
    pub(super) pool: Pool,
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

    pub(super) fn read(&mut self, offset: u64, bytes: usize) -> Result<Bytes, DiskError> {
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

pub(super) fn failed(e: DiskError) -> StoreError {
    match e {
        DiskError::Full(why) => StoreError::Full(why),
        e => StoreError::Failed(e.to_string()),
    }
}

pub(super) fn unreadable(e: DiskError) -> StoreError {
    StoreError::Failed(format!("{e}; if this stays so, {CURE}"))
}

pub(super) fn lost(why: impl std::fmt::Display) -> StoreError {
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
        let mut io = Blocking { disk: &mut *disk, pool: pool.clone() };
        let mut opened = Opened::default();
        let mut superblock = superblock(&mut io, &options, &mut opened)?;
        superblock.life += 1;
        superblock.generation += 1;
        superblock.capacity = options.capacity;
        let kv_bytes = store.disk_bytes();
        let Loaded { state, scan, .. } = load(&mut io, store, &superblock, &mut opened)?;
        io.write_superblocks(&superblock)?;
        let available = io.disk.available();
        let log_data_bytes =
            scan.segments.segments.values().map(|segment| segment.data_bytes).sum();
        let recent = scan.recent();
        let segments = scan.segments;
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
            recent,
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

/// What a file says, as far as it can be known without writing anything.
pub(super) struct Loaded {
    /// Objects, logs, values: the checkpoint and all behind it.
    pub(super) state: State,
    /// The last checkpoint.
    pub(super) checkpoint: Checkpoint,
    /// The log.
    pub(super) scan: Scan,
}

/// Reads the checkpoint and the log.
pub(super) fn load(
    io: &mut Blocking<'_>,
    store: Arc<dyn KvStore>,
    superblock: &Superblock,
    opened: &mut Opened,
) -> Result<Loaded, StoreError> {
    check_slots(superblock, io.disk.size())?;
    let (mut state, checkpoint) =
        State::open(store, superblock.uuid, io.disk.size()).map_err(lost)?;
    let mut scan = Scan::new(superblock, checkpoint.clone());
    scan.run(&mut Target { io, state: &mut state, opened })?;
    let slots: Vec<Run> = superblock
        .slots
        .iter()
        .map(|slot| Run { offset: slot.offset, length: slot.size })
        .collect();
    state.allocator.start(io.disk.size(), &slots).map_err(lost)?;
    read_staged(io, &mut state, &scan.segments);
    Ok(Loaded { state, checkpoint, scan })
}

/// The two superblocks of a file.
pub(super) struct Superblocks {
    /// As they are; `None` if damaged, or never written.
    pub(super) found: [Option<Superblock>; 2],
    /// The second is written last: as long as it is blank, nothing was ever acknowledged here.
    pub(super) second_is_blank: bool,
}

impl Superblocks {
    pub(super) fn read(io: &mut Blocking<'_>) -> Superblocks {
        let mut all = Superblocks { found: [None, None], second_is_blank: true };
        if io.disk.size() >= AREA_START {
            for (found, offset) in all.found.iter_mut().zip([0, SUPERBLOCK_SECOND]) {
                // A block that cannot be read is as good as a damaged one.
                let block = io.read(offset, BLOCK_BYTES).unwrap_or_default();
                if offset > 0 {
                    all.second_is_blank =
                        block.len() == BLOCK_BYTES && block.iter().all(|byte| *byte == 0);
                }
                *found = Superblock::decode_block(&block);
            }
        }
        all
    }

    /// The one that counts.
    pub(super) fn best(&self) -> Option<&Superblock> {
        self.found.iter().flatten().max_by_key(|superblock| superblock.generation)
    }
}

/// Reads the superblocks, or makes them in an empty file.
fn superblock(
    io: &mut Blocking<'_>,
    options: &Options,
    opened: &mut Opened,
) -> Result<Superblock, StoreError> {
    let all = Superblocks::read(io);
    opened.superblock_mended = all.found.iter().flatten().count() == 1 && !all.second_is_blank;
    let Some(best) = all.best().cloned() else {
        if !all.second_is_blank {
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

/// Reads the bytes of staged entries: they may have to be sent to others, and are applied from memory.
fn read_staged(io: &mut Blocking<'_>, state: &mut State, segments: &Segments) {
    for staged in state.staged_mut() {
        let places = staged.placed.places.iter();
        staged.data = places.map(|pieces| read_pieces(io, pieces, segments)).collect();
    }
    // What is to be sent to others must be had.
    for (pg, why) in state.unreadable_staged() {
        state.damage(pg, &why);
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
pub(super) enum Unusable {
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
pub(super) fn read_stored(
    io: &mut Blocking<'_>,
    piece: &Piece,
    offset: u64,
) -> Result<Bytes, Unusable> {
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
