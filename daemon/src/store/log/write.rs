//! From a batch to durable bytes: places, extents, groups.

use super::allocator::Run;
use super::format::{
    BATCH_HEADER_BYTES, GROUP_HEADER_BYTES, GroupHeader, SLOTS_MAX, Slot, checksum,
};
use super::piece::{Piece, Place, SHIFT_LARGE, SHIFT_SMALL};
use super::segments::SlotUse;
use super::step::{Placed, Step, take_data};
use super::trailer::{Touch, steps_checksum};
use super::{LogStore, Purpose, REQUEST_BYTES_MAX, SMALL_BYTES_MAX, UnwrittenRun, Waiting};
use crate::store::disk::{BLOCK_BYTES, Durability, Request};
use crate::store::{Completion, Install, LogEntry, StoreError, Write};
use bytes::Bytes;
use std::collections::VecDeque;
use store_base::Ticket;
use store_base::codec::{Encode, Writer};

/// Small data of one batch beyond which even small data go to extents: a batch must fit a segment.
const BATCH_DATA_BYTES_MAX: usize = 512 << 10;

/// A group takes no further batch beyond this.
const GROUP_BYTES_MAX: usize = 1 << 20;

/// Most batches of a group.
const GROUP_BATCHES_MAX: usize = 256;

/// A further group is begun while one is in flight only with so many bytes or batches.
const FULL_BYTES: usize = 256 << 10;
const FULL_BATCHES: usize = 32;

/// Most groups in flight.
const GROUPS_MAX: usize = 4;

/// Batches without ticket wait for company only up to so many bytes.
const LAZY_BYTES_MAX: usize = 256 << 10;

/// A batch that is not in a group yet.
#[derive(Debug)]
pub(super) struct Queued {
    seq: u64,
    ticket: Option<Ticket>,
    steps: Bytes,
    data: Vec<Bytes>,
    data_bytes: u32,
    /// Extents that are not written yet.
    extents: usize,
    /// Whether it had any: the group's flush must cover them.
    had_extents: bool,
    touch: Touch,
}

impl Queued {
    fn log_bytes(&self) -> usize {
        BATCH_HEADER_BYTES + self.steps.len() + self.data_bytes as usize
    }
}

/// A group in flight.
#[derive(Debug)]
pub(super) struct Group {
    io: u64,
    last: u64,
    tickets: Vec<Ticket>,
    done: bool,
}

/// The parts of a batch that is being built.
#[derive(Default)]
struct Building {
    seq: u64,
    data: Vec<Bytes>,
    data_bytes: usize,
    extents: Vec<(u64, Bytes)>,
    taken: Vec<Run>,
    staged: VecDeque<Vec<Bytes>>,
}

impl LogStore {
    /// Takes a batch that was admitted.
    pub(super) fn append(
        &mut self,
        ticket: Option<Ticket>,
        batch: Vec<Write>,
    ) -> Result<(), StoreError> {
        let mut building = Building { seq: self.last_seq + 1, ..Building::default() };
        let mut steps = Vec::with_capacity(batch.len());
        for write in batch {
            match self.to_step(write, &mut building) {
                Ok(step) => steps.push(step),
                Err(error) => {
                    building.taken.into_iter().for_each(|run| self.state.allocator.give_back(run));
                    return Err(error);
                }
            }
        }
        self.append_steps(ticket, steps, building)
    }

    /// Takes a batch of the store's own, without bytes.
    pub(super) fn append_own(&mut self, steps: Vec<Step>) {
        let building = Building { seq: self.last_seq + 1, ..Building::default() };
        // An error has failed the store, which is told.
        let _ = self.append_steps(None, steps, building);
    }

    fn append_steps(
        &mut self,
        ticket: Option<Ticket>,
        steps: Vec<Step>,
        mut building: Building,
    ) -> Result<(), StoreError> {
        let mut encoded = Writer::new();
        steps.encode(&mut encoded);
        let mut touch = Touch::default();
        steps.iter().for_each(|step| touch.add(step));
        self.last_seq = building.seq;
        self.state.allocator.mark = self.mark();
        for step in steps {
            if let Err(fault) = self.state.execute(step, &mut building.staged) {
                return Err(self.fail(StoreError::Failed(fault.to_string())));
            }
        }
        let seq = building.seq;
        let mut extents = 0;
        for (offset, data) in building.extents {
            let run = offset;
            let left = data.len().div_ceil(REQUEST_BYTES_MAX);
            self.unwritten_runs.insert(run, UnwrittenRun { data: data.clone(), left });
            for at in (0..data.len()).step_by(REQUEST_BYTES_MAX) {
                let data = data.slice(at..data.len().min(at + REQUEST_BYTES_MAX));
                let offset = run + at as u64;
                self.waiting.push_back(Waiting::Extent { seq, run, offset, data });
                extents += 1;
            }
        }
        if building.data_bytes > 0 {
            self.unwritten.insert(seq, building.data.clone());
            self.log_data_bytes += building.data_bytes as u64;
        }
        if ticket.is_some() {
            self.urgent = seq;
        }
        self.queue.push_back(Queued {
            seq,
            ticket,
            steps: encoded.into_bytes(),
            data: building.data,
            data_bytes: building.data_bytes as u32,
            extents,
            had_extents: extents > 0,
            touch,
        });
        self.kick();
        Ok(())
    }

    fn to_step(&mut self, write: Write, building: &mut Building) -> Result<Step, StoreError> {
        Ok(match write {
            Write::CreatePg { pg } => Step::CreatePg { pg },
            Write::RemovePg { pg } => Step::RemovePg { pg },
            Write::SplitPg { pg, from, to } => Step::SplitPg { pg, from, to },
            Write::Meta { pg, key, value } => Step::Meta { pg, key, value },
            Write::Super { key, value } => Step::Super { key, value },
            Write::Stage { pg, entry } | Write::Follow { pg, entry } => {
                assert!(
                    entry.mutation.is_some(),
                    "a staged entry has its mutation: {}",
                    entry.version
                );
                Step::Stage { pg, placed: self.place_entry(entry, building)? }
            }
            Write::Apply { pg, to, except } => Step::Apply { pg, to, except },
            Write::DropStaged { pg, after } => Step::DropStaged { pg, after },
            Write::TrimLog { pg, to } => Step::TrimLog { pg, to },
            Write::ReplaceLog { pg, applied, staged } => {
                let light = |entry| LogEntry { mutation: None, ..entry };
                let applied = applied.into_iter().map(light).collect();
                let placed = staged.into_iter().map(|entry| self.place_entry(entry, building));
                Step::ReplaceLog { pg, applied, staged: placed.collect::<Result<_, _>>()? }
            }
            Write::Install { pg, object, part: Install::Data { offset, data } } => {
                let places = self.place(&data, building)?;
                let part = Install::Data { offset, data: Bytes::new() };
                Step::Install { pg, object, part, places }
            }
            Write::Install { pg, object, part } => {
                Step::Install { pg, object, part, places: Vec::new() }
            }
            Write::RemoveObject { pg, object } => Step::RemoveObject { pg, object },
        })
    }

    fn place_entry(
        &mut self,
        mut entry: LogEntry,
        building: &mut Building,
    ) -> Result<Placed, StoreError> {
        let data = take_data(&mut entry);
        let places =
            data.iter().map(|data| self.place(data, building)).collect::<Result<_, _>>()?;
        building.staged.push_back(data);
        Ok(Placed { entry, places })
    }

    fn place(&mut self, data: &Bytes, building: &mut Building) -> Result<Vec<Piece>, StoreError> {
        if data.is_empty() {
            return Ok(Vec::new());
        }
        let small = data.len() <= SMALL_BYTES_MAX
            && building.data_bytes + data.len() <= BATCH_DATA_BYTES_MAX;
        if small {
            let place = Place::Log { seq: building.seq, offset: building.data_bytes as u32 };
            building.data_bytes += data.len();
            building.data.push(data.clone());
            return Ok(vec![Piece::new(data, place, SHIFT_SMALL)]);
        }
        self.preparing.note(data.len());
        let runs = self.take(data.len() as u64)?;
        building.taken.extend_from_slice(&runs);
        let mut at = 0;
        let mut places = Vec::with_capacity(runs.len());
        for run in runs {
            let part = data.slice(at..data.len().min(at + run.length as usize));
            at += part.len();
            places.push(Piece::new(&part, Place::Disk { offset: run.offset }, SHIFT_LARGE));
            building.extents.push((run.offset, part));
        }
        Ok(places)
    }

    pub(super) fn write_extent(&mut self, seq: u64, run: u64, offset: u64, data: &Bytes) {
        let mut buffer = self.pool.take(data.len());
        buffer.fill([&data[..]]);
        let bytes = buffer.len() as u64;
        self.in_flight_bytes += bytes;
        self.counters.extent_bytes += bytes;
        let purpose = Purpose::Extent { seq, run, bytes };
        self.submit_io(purpose, Request::Write { offset, buffer, durability: Durability::None });
    }

    pub(super) fn handle_extent(&mut self, seq: u64, run: u64) {
        if let Some(unwritten) = self.unwritten_runs.get_mut(&run) {
            unwritten.left -= 1;
            if unwritten.left == 0 {
                self.unwritten_runs.remove(&run);
            }
        }
        let Some(first) = self.queue.front().map(|queued| queued.seq) else { return };
        if let Some(queued) = self.queue.get_mut((seq - first) as usize) {
            queued.extents -= 1;
        }
    }

    /// Begins a group, if there should be one now.
    pub(super) fn start_group(&mut self) -> bool {
        let Some(first) = self.queue.front().map(|queued| queued.seq) else { return false };
        let (mut count, mut bytes) = (0, GROUP_HEADER_BYTES + self.recent.bytes_min());
        // Several batches together fit any slot; one alone may need a larger one.
        let most = GROUP_BYTES_MAX.min(self.options.segment_bytes_min as usize / 2);
        let most = most.min(self.segments.most_bytes() as usize);
        for queued in self.queue.iter().take(GROUP_BATCHES_MAX) {
            let full = count > 0 && bytes + queued.log_bytes() > most;
            if queued.extents > 0 || full {
                break;
            }
            bytes += queued.log_bytes();
            count += 1;
        }
        let full = bytes >= FULL_BYTES.min(most / 2) || count >= FULL_BATCHES;
        let hurry =
            first <= self.urgent || bytes >= LAZY_BYTES_MAX || count >= GROUP_BATCHES_MAX / 2;
        let turn = self.groups.is_empty() || (full && self.groups.len() < GROUPS_MAX);
        if count == 0 || !hurry || !turn {
            return false;
        }
        let whole = bytes.next_multiple_of(BLOCK_BYTES);
        let Some((segment, offset)) = self.segments.place(whole as u64, first) else {
            self.segments.stalled = true;
            return false;
        };
        self.segments.stalled = false;
        self.write_group(segment, offset, count, bytes);
        true
    }

    fn write_group(&mut self, number: u64, offset: u64, count: usize, bytes: usize) {
        let batches: Vec<Queued> = self.queue.drain(..count).collect();
        let mut buffer = self.pool.take(bytes);
        let segment = self.segments.segments.get_mut(&number).expect("it was just given");
        let start = offset - self.segments.slots[segment.slot].0.offset;
        let mut at = GROUP_HEADER_BYTES;
        let mut put = |buffer: &mut [u8], bytes: &[u8]| {
            buffer[at..at + bytes.len()].copy_from_slice(bytes);
            at += bytes.len();
            at
        };
        let mut tickets = Vec::with_capacity(count);
        let mut durability = Durability::Own;
        let mut touch = Touch { first: batches[0].seq, count: count as u32, ..Touch::default() };
        for batch in &batches {
            touch.merge(batch.touch.clone());
            put(&mut buffer, &(batch.steps.len() as u32).to_le_bytes());
            put(&mut buffer, &batch.data_bytes.to_le_bytes());
            let data_at = put(&mut buffer, &batch.steps);
            segment.batches.push(start as u32 + data_at as u32);
            segment.data_bytes += u64::from(batch.data_bytes);
            for data in &batch.data {
                put(&mut buffer, data);
            }
            tickets.extend(batch.ticket);
            if batch.had_extents {
                durability = Durability::All;
            }
        }
        let steps = steps_checksum(batches.iter().map(|batch| &batch.steps[..]));
        let room = bytes.next_multiple_of(BLOCK_BYTES) - at;
        let trailer = self.recent.encode(steps, room);
        buffer[at..at + trailer.len()].copy_from_slice(&trailer);
        let bytes = at + trailer.len();
        self.recent.push(touch);
        buffer[bytes..].fill(0);
        let header = GroupHeader {
            segment: number,
            first: batches[0].seq,
            durable: self.durable,
            life: self.superblock.life,
            count: count as u32,
            length: (bytes - GROUP_HEADER_BYTES) as u32,
            payload_crc: checksum(&buffer[GROUP_HEADER_BYTES..bytes]),
            previous: self.segments.chain,
            file: self.superblock.mark(),
        };
        let (head, chain) = header.encode();
        buffer[..GROUP_HEADER_BYTES].copy_from_slice(&head);
        self.segments.chain = chain;
        self.counters.groups += 1;
        self.counters.batches += count as u64;
        self.counters.log_bytes += buffer.len() as u64;
        let last = batches[count - 1].seq;
        self.groups.push_back(Group { io: self.next_io, last, tickets, done: false });
        self.submit_io(Purpose::Group, Request::Write { offset, buffer, durability });
    }

    pub(super) fn handle_group(&mut self, io: u64) {
        if let Some(group) = self.groups.iter_mut().find(|group| group.io == io) {
            group.done = true;
        }
        while self.groups.front().is_some_and(|group| group.done) {
            let group = self.groups.pop_front().expect("just seen");
            self.durable = group.last;
            self.unwritten = self.unwritten.split_off(&(group.last + 1));
            let stored = group.tickets.into_iter().map(|ticket| Completion::Stored { ticket });
            self.answers.extend(stored);
        }
    }

    /// Makes slots ready ahead of need.
    pub(super) fn prepare_segments(&mut self) {
        let total = self.segments.total_bytes();
        // A store that becomes full becomes fragmented: what the log will need is taken while it is there.
        let early = || self.is_nearly_full() && self.segments.is_settled();
        if total < self.options.log_bytes_max && (self.segments.needs_slot() || early()) {
            let size = total.clamp(self.options.segment_bytes_min, self.options.segment_bytes_max);
            self.add_slot(size, size, true);
        }
        // What a checkpoint waits for must be written, whatever the limit; so must a batch that is larger
        // than any slot that may become free.
        let head = self.queue.front().map_or(0, Queued::log_bytes) as u64;
        let around = GROUP_HEADER_BYTES + self.recent.bytes_min();
        let needed = (head + around as u64).next_multiple_of(BLOCK_BYTES as u64);
        let none_fits = !self.segments.closable().any(|slot| slot.size >= needed);
        if self.segments.is_stuck() && (self.is_awaited() || none_fits) {
            let size = needed.next_power_of_two().max(self.options.segment_bytes_min);
            self.add_slot(size, needed, false);
        }
        self.zero_slots();
        self.name_slots();
    }

    fn add_slot(&mut self, size: u64, least: u64, zero: bool) {
        if self.segments.slots.len() >= SLOTS_MAX {
            return;
        }
        let run = match self.take_whole(size) {
            Ok(run) => run,
            // A full store is a fragmented one; the log can do with less at a time.
            Err(_) => match self.state.allocator.take_longest(least) {
                Some(run) => run,
                // Without room the log goes on in the slots that it has.
                None => return,
            },
        };
        let slot = Slot { offset: run.offset, size: run.length };
        let state = if zero { SlotUse::Zeroing { done: 0, busy: false } } else { SlotUse::Unnamed };
        self.segments.slots.push((slot, state));
    }

    fn zero_slots(&mut self) {
        let next = self
            .segments
            .slots
            .iter()
            .position(|(_, state)| matches!(state, SlotUse::Zeroing { .. }));
        let Some(index) = next else { return };
        let (slot, state) = &mut self.segments.slots[index];
        let SlotUse::Zeroing { done, busy } = state else { return };
        if *busy {
            return;
        }
        if *done >= slot.size {
            *state = SlotUse::Unnamed;
            return;
        }
        *busy = true;
        let offset = slot.offset + *done;
        let bytes = (slot.size - *done).min(REQUEST_BYTES_MAX as u64);
        let mut buffer = self.pool.take(bytes as usize);
        buffer.fill([]);
        let request = Request::Write { offset, buffer, durability: Durability::None };
        self.submit_io(Purpose::Zero { slot: index }, request);
    }

    pub(super) fn handle_zeroed(&mut self, index: usize) {
        if let (slot, SlotUse::Zeroing { done, busy }) = &mut self.segments.slots[index] {
            *done = (*done + REQUEST_BYTES_MAX as u64).min(slot.size);
            *busy = false;
        }
    }

    /// Writes the superblocks if there are slots that they do not name.
    fn name_slots(&mut self) {
        let unnamed = self.segments.slots.iter().any(|(_, state)| *state == SlotUse::Unnamed);
        if self.segments.naming || !unnamed {
            return;
        }
        self.segments.naming = true;
        self.superblock.generation += 1;
        self.superblock.slots = self
            .segments
            .slots
            .iter()
            .filter(|(_, state)| !matches!(state, SlotUse::Zeroing { .. }))
            .map(|(slot, _)| *slot)
            .collect();
        // A slot may be where the file grew: it must not be named before the growth is durable.
        self.submit_io(Purpose::Naming, Request::Flush);
    }

    pub(super) fn write_superblock(&mut self, second: bool) {
        let mut buffer = self.pool.take(BLOCK_BYTES);
        buffer.fill([&self.superblock.encode_block()[..]]);
        let offset = if second { super::format::SUPERBLOCK_SECOND } else { 0 };
        let request = Request::Write { offset, buffer, durability: Durability::All };
        self.submit_io(Purpose::Superblock { second }, request);
    }

    pub(super) fn handle_superblock(&mut self, second: bool) {
        if !second {
            self.write_superblock(true);
            return;
        }
        self.segments.naming = false;
        for (slot, state) in &mut self.segments.slots {
            if *state == SlotUse::Unnamed && self.superblock.slots.contains(slot) {
                *state = SlotUse::Free;
            }
        }
    }
}
