//! Cleaning and checkpoints: how the log becomes short again.

use super::allocator::Run;
use super::background::Job;
use super::format::{GROUP_HEADER_BYTES, GroupHeader, decode_batches};
use super::index::Frozen;
use super::piece::{Piece, Place, SHIFT_SMALL, wanted};
use super::state::{Sparse, Stored};
use super::step::Step;
use super::{LogStore, Purpose, REQUEST_BYTES_MAX};
use crate::store::StoreError;
use crate::store::disk::{BLOCK_BYTES, Buffer, DiskError, Durability, Request};
use bytes::Bytes;
use std::collections::VecDeque;
use std::sync::Arc;
use store_base::codec::{Decode, DecodeError};

/// Where a cycle is.
#[derive(Debug, Default)]
pub(super) enum Phase {
    /// Nothing to do.
    #[default]
    Idle,
    /// Small data move from these segments to extents.
    Cleaning(Cleaner),
    /// The checkpoint waits until its last batch, and all that was moved, is durable.
    Syncing { frozen: Arc<Frozen>, seq: u64, tail: u64, synced: bool },
    /// The index is being written.
    Writing { tail: u64 },
}

/// A walk through closed segments.
#[derive(Debug)]
pub(super) struct Cleaner {
    victims: VecDeque<u64>,
    /// How far the first victim was looked at.
    at: u64,
    /// The next read has at least so many bytes: a group did not fit the last.
    window: usize,
    /// From which object on sparse pieces are packed, if they are.
    pack_from: Option<Vec<u8>>,
    /// Whether any were.
    packed: bool,
    work: Work,
}

#[derive(Debug)]
enum Work {
    Next,
    Reading,
    /// Pieces to pack: what, how many bytes come before it, and its bytes once they are read.
    Packing {
        reads: Vec<(Sparse, usize, Option<Bytes>)>,
        left: usize,
    },
    /// So many requests are left.
    Writing {
        moves: Moves,
        runs: Vec<Run>,
        left: usize,
    },
}

/// What finds its bytes elsewhere when they are written.
#[derive(Debug)]
enum Moves {
    /// From the log, to these offsets.
    Log(Vec<(Stored, u64)>),
    /// From extents that have become sparse.
    Extents(Vec<(Sparse, Vec<Piece>)>),
}

impl LogStore {
    /// Takes the cycle a step on, if there is something to do.
    pub(super) fn advance_phase(&mut self) {
        match std::mem::take(&mut self.phase) {
            Phase::Idle => self.begin_cycle(),
            Phase::Cleaning(cleaner) => self.clean_on(cleaner),
            Phase::Syncing { frozen, seq, tail, synced } => {
                if synced && self.durable >= seq {
                    let store = self.state.index.store().clone();
                    let compact = std::mem::take(&mut self.compact);
                    self.background.start(Job { store, frozen, compact });
                    self.phase = Phase::Writing { tail };
                } else {
                    self.phase = Phase::Syncing { frozen, seq, tail, synced };
                }
            }
            writing @ Phase::Writing { .. } => self.phase = writing,
        }
    }

    /// Whether a checkpoint waits for batches in the queue: then the log may outgrow its limit.
    pub(super) fn is_awaited(&self) -> bool {
        matches!(self.phase, Phase::Syncing { seq, .. } if self.durable < seq)
    }

    fn begin_cycle(&mut self) {
        let closed = self.segments.closed_bytes();
        let crowded = closed * 2 >= self.options.log_bytes_max || self.segments.is_stuck();
        let wanted = self.segments.checkpoint_wanted
            || self.state.index.dirty_bytes() >= self.options.dirty_bytes_max;
        if !crowded && !wanted && self.pack.is_none() {
            return;
        }
        let mut victims = VecDeque::new();
        let mut bytes = 0;
        if crowded {
            for (number, segment) in self.segments.closed() {
                if segment.last() > self.durable || (bytes * 2 >= closed && !self.segments.stalled)
                {
                    break;
                }
                bytes += self.segments.slots[segment.slot].0.size;
                victims.push_back(number);
            }
        }
        if victims.is_empty() && !wanted && self.pack.is_none() {
            // All that is closed is still being written. Nothing is gained before that.
            if !self.segments.is_stuck() {
                return;
            }
        }
        let pack_from = self.pack.take();
        let window = REQUEST_BYTES_MAX;
        self.clean_on(Cleaner {
            victims,
            at: 0,
            window,
            pack_from,
            packed: false,
            work: Work::Next,
        });
    }

    fn clean_on(&mut self, mut cleaner: Cleaner) {
        if !matches!(cleaner.work, Work::Next) {
            self.phase = Phase::Cleaning(cleaner);
            return;
        }
        while let Some(number) = cleaner.victims.front().copied() {
            let Some(segment) = self.segments.segments.get(&number) else {
                cleaner.victims.pop_front();
                continue;
            };
            if cleaner.at >= segment.end || segment.data_bytes == 0 {
                cleaner.victims.pop_front();
                cleaner.at = 0;
                cleaner.window = REQUEST_BYTES_MAX;
                self.segments.cleaned = self.segments.cleaned.max(number + 1);
                continue;
            }
            let slot = self.segments.slots[segment.slot].0;
            let bytes = (segment.end - cleaner.at).min(cleaner.window as u64) as usize;
            let offset = slot.offset + cleaner.at;
            let buffer = self.pool.take(bytes);
            cleaner.work = Work::Reading;
            self.phase = Phase::Cleaning(cleaner);
            self.submit_io(Purpose::CleanRead, Request::Read { offset, buffer });
            return;
        }
        match self.pack_on(&mut cleaner) {
            Ok(true) => {
                self.phase = Phase::Cleaning(cleaner);
                self.kick();
            }
            Ok(false) => self.freeze(),
            Err(error) => {
                self.fail(error);
            }
        }
    }

    /// A window of the log cannot be read: smaller ones may, and what lies in the others is lost.
    pub(super) fn handle_clean_unreadable(&mut self, why: &str) {
        let Phase::Cleaning(cleaner) = &mut self.phase else { return };
        cleaner.work = Work::Next;
        if cleaner.window > BLOCK_BYTES {
            cleaner.window = BLOCK_BYTES.max(cleaner.window / 16 / BLOCK_BYTES * BLOCK_BYTES);
            return;
        }
        tracing::error!(why, "a block of the log cannot be read");
        self.counters.damaged += 1;
        cleaner.at += BLOCK_BYTES as u64;
    }

    pub(super) fn handle_clean_read(&mut self, buffer: Option<Buffer>) {
        let Phase::Cleaning(mut cleaner) = std::mem::take(&mut self.phase) else { return };
        let whole = buffer.map(Bytes::from_owner).unwrap_or_default();
        match self.move_out(&mut cleaner, &whole) {
            Ok(()) => self.phase = Phase::Cleaning(cleaner),
            Err(error) => {
                self.fail(error);
            }
        }
    }

    /// Moves what is alive in a window of the log.
    fn move_out(&mut self, cleaner: &mut Cleaner, whole: &Bytes) -> Result<(), StoreError> {
        let faulty = |fault: super::state::Fault| StoreError::Failed(fault.to_string());
        let number = cleaner.victims.front().copied().unwrap_or_default();
        let segment_end = self.segments.segments.get(&number).map_or(0, |segment| segment.end);
        let mut live: Vec<(Stored, Bytes)> = Vec::new();
        let (mut at, mut rotten) = (0, 0);
        while at + BLOCK_BYTES <= whole.len() {
            let header = GroupHeader::decode(&whole[at..], self.superblock.mark());
            let header = header.map(|(header, _)| header).filter(|header| {
                let end = cleaner.at + at as u64 + header.disk_bytes();
                header.segment == number && end <= segment_end
            });
            // What rotted cannot be moved. Who has bytes there finds out, and fetches them from another copy.
            let Some(header) = header else {
                rotten += 1;
                at += BLOCK_BYTES;
                continue;
            };
            let end = at + header.disk_bytes() as usize;
            if end > whole.len() {
                cleaner.window = (end - at).max(REQUEST_BYTES_MAX);
                break;
            }
            let payload = at + GROUP_HEADER_BYTES..at + GROUP_HEADER_BYTES + header.length as usize;
            // Data whose checksum is wrong move as they are: their own checksums move with them.
            let found = stored_in(&header, whole.slice(payload)).unwrap_or_else(|_| {
                rotten += 1;
                Vec::new()
            });
            for (stored, data) in found {
                if self.state.is_live(&stored).map_err(faulty)? {
                    live.push((stored, data));
                }
            }
            at = end;
        }
        cleaner.at += at as u64;
        cleaner.work = Work::Next;
        if rotten > 0 {
            self.counters.damaged += rotten;
            tracing::error!(segment = number, blocks = rotten, "the log is rotten in places");
        }
        if live.is_empty() {
            return Ok(());
        }
        live.sort_by(|(a, _), (b, _)| {
            (a.pg, &a.object, a.range.start, a.seq).cmp(&(b.pg, &b.object, b.range.start, b.seq))
        });
        let data: Vec<Bytes> = live.iter().map(|(_, data)| data.clone()).collect();
        let (parts, runs) = self.find_places(&data)?;
        let left = self.write_parts(&data, &parts, &runs);
        let moves = parts.into_iter().map(|part| {
            let (stored, _) = &live[part.item];
            let (from, to) = (part.from as u32, part.to as u32);
            let range = stored.range.start + part.from as u64..stored.range.start + part.to as u64;
            let bytes = stored.bytes.start + from..stored.bytes.start + to;
            (Stored { range, bytes, ..stored.clone() }, part.offset)
        });
        cleaner.work = Work::Writing { moves: Moves::Log(moves.collect()), runs, left };
        Ok(())
    }

    /// Takes room for byte strings: in one run if there is one, else in units wherever they are. A full
    /// store is a fragmented one, and must be cleaned all the same.
    fn find_places(&mut self, data: &[Bytes]) -> Result<(Vec<Part>, Vec<Run>), StoreError> {
        let (mut parts, bytes) = lay_out(data);
        if let Ok(run) = self.take_whole(bytes) {
            parts.iter_mut().for_each(|part| part.offset += run.offset);
            return Ok((parts, vec![run]));
        }
        let (mut parts, bytes) = lay_out_in_units(data);
        let runs = self.take(bytes).map_err(|e| {
            StoreError::Failed(format!(
                "no room to clean the log: {e}; make room on that file system and start again"
            ))
        })?;
        let units = runs
            .iter()
            .flat_map(|run| (0..run.length).step_by(BLOCK_BYTES).map(|at| run.offset + at));
        let units: Vec<u64> = units.collect();
        for part in &mut parts {
            let (unit, within) =
                (part.offset / BLOCK_BYTES as u64, part.offset % BLOCK_BYTES as u64);
            part.offset = units[unit as usize] + within;
        }
        Ok((parts, runs))
    }

    /// Writes what was given places; the number of requests.
    fn write_parts(&mut self, data: &[Bytes], parts: &[Part], runs: &[Run]) -> usize {
        let mut by_place: Vec<&Part> = parts.iter().collect();
        by_place.sort_by_key(|part| part.offset);
        let mut runs = runs.to_vec();
        runs.sort_by_key(|run| run.offset);
        let (mut next, count) = (0, runs.len());
        for run in runs {
            let mut buffer = self.pool.take(run.length as usize);
            buffer.fill([]);
            while let Some(part) = by_place.get(next)
                && part.offset < run.offset + run.length
            {
                let at = (part.offset - run.offset) as usize;
                let bytes = &data[part.item][part.from..part.to];
                buffer[at..at + bytes.len()].copy_from_slice(bytes);
                next += 1;
            }
            self.counters.cleaned_bytes += buffer.len() as u64;
            let request =
                Request::Write { offset: run.offset, buffer, durability: Durability::None };
            self.submit_io(Purpose::CleanWrite, request);
        }
        count
    }

    pub(super) fn handle_clean_written(&mut self) {
        let Phase::Cleaning(mut cleaner) = std::mem::take(&mut self.phase) else { return };
        let (moves, runs) = match std::mem::replace(&mut cleaner.work, Work::Next) {
            Work::Writing { moves, runs, left: 1 } => (moves, runs),
            Work::Writing { moves, runs, left } => {
                cleaner.work = Work::Writing { moves, runs, left: left - 1 };
                self.phase = Phase::Cleaning(cleaner);
                return;
            }
            other => {
                cleaner.work = other;
                self.phase = Phase::Cleaning(cleaner);
                return;
            }
        };
        self.state.allocator.mark = self.mark();
        let moved = match moves {
            Moves::Log(moves) => {
                moves.iter().try_for_each(|(stored, to)| self.state.relocate(stored, *to))
            }
            Moves::Extents(moves) => {
                moves.into_iter().try_for_each(|(sparse, new)| self.state.repack(&sparse, new))
            }
        };
        if let Err(fault) = moved {
            self.fail(StoreError::Failed(fault.to_string()));
            return;
        }
        runs.into_iter().for_each(|run| self.state.allocator.give_back(run));
        self.phase = Phase::Cleaning(cleaner);
    }

    /// Reads pieces that take more room than they need, to write them closer together. Returns whether
    /// there is anything more to do.
    fn pack_on(&mut self, cleaner: &mut Cleaner) -> Result<bool, StoreError> {
        /// Objects looked at in one go: bounds how long a poll takes.
        const OBJECTS_MAX: usize = 256;
        let Some(from) = cleaner.pack_from.take() else { return Ok(false) };
        // What was packed gives its room back behind the checkpoint: when room runs out before that, this
        // ends here, and the next cycle goes on.
        let reserve = self.options.reserve_bytes;
        if self.free_bytes(self.available) < reserve / 2 {
            self.pack = cleaner.packed.then_some(from);
            return Ok(false);
        }
        let bytes_max = (reserve / 8).clamp(64 << 10, REQUEST_BYTES_MAX as u64);
        let found = self.state.sparse(&from, OBJECTS_MAX, bytes_max);
        let (found, next) = found.map_err(|fault| StoreError::Failed(fault.to_string()))?;
        cleaner.pack_from = next;
        let mut reads = Vec::with_capacity(found.len());
        for sparse in found {
            let Place::Disk { offset } = sparse.piece.place else { continue };
            // What is still being written, or lies where nothing is, stays as it is.
            let end = offset + u64::from(sparse.piece.stored);
            let start = offset / BLOCK_BYTES as u64 * BLOCK_BYTES as u64;
            let end = end.next_multiple_of(BLOCK_BYTES as u64);
            if end > self.disk.size() || self.is_unwritten(start, end) {
                continue;
            }
            let before = (offset - start) as usize;
            let buffer = self.pool.take((end - start) as usize);
            let item = reads.len();
            reads.push((sparse, before, None));
            self.submit_io(Purpose::PackRead { item }, Request::Read { offset: start, buffer });
        }
        let left = reads.len();
        if left > 0 {
            cleaner.packed = true;
            cleaner.work = Work::Packing { reads, left };
        }
        Ok(true)
    }

    /// A piece to pack was read, or cannot be: then it stays where it is.
    pub(super) fn handle_pack_read(
        &mut self,
        item: usize,
        result: Result<Option<Buffer>, DiskError>,
    ) {
        let Phase::Cleaning(cleaner) = &mut self.phase else { return };
        let Work::Packing { reads, left } = &mut cleaner.work else { return };
        *left -= 1;
        if let (Some((sparse, before, data)), Ok(Some(buffer))) = (reads.get_mut(item), result) {
            let stored = &buffer[*before..*before + sparse.piece.stored as usize];
            if sparse.piece.verify(stored) {
                *data = Some(wanted(&sparse.piece, &Bytes::copy_from_slice(stored)));
            }
        }
        if *left > 0 {
            return;
        }
        let reads = std::mem::take(reads);
        cleaner.work = Work::Next;
        let whole = reads.into_iter().filter_map(|(sparse, _, data)| Some((sparse, data?)));
        let (found, data): (Vec<Sparse>, Vec<Bytes>) = whole.unzip();
        if !found.is_empty()
            && let Err(error) = self.write_packed(found, &data)
        {
            self.fail(error);
        }
    }

    fn write_packed(&mut self, found: Vec<Sparse>, data: &[Bytes]) -> Result<(), StoreError> {
        let (parts, runs) = self.find_places(data)?;
        let left = self.write_parts(data, &parts, &runs);
        let mut moves: Vec<(Sparse, Vec<Piece>)> =
            found.into_iter().map(|sparse| (sparse, Vec::new())).collect();
        let mut parts = parts;
        parts.sort_by_key(|part| (part.item, part.from));
        for part in parts {
            let place = Place::Disk { offset: part.offset };
            let bytes = &data[part.item][part.from..part.to];
            moves[part.item].1.push(Piece::new(bytes, place, SHIFT_SMALL));
        }
        if let Phase::Cleaning(cleaner) = &mut self.phase {
            cleaner.work = Work::Writing { moves: Moves::Extents(moves), runs, left };
        }
        Ok(())
    }

    fn freeze(&mut self) {
        self.segments.checkpoint_wanted = false;
        let seq = self.last_seq;
        let tail = self.segments.cleaned;
        let frozen = self.state.freeze(seq, tail);
        self.urgent = self.urgent.max(seq);
        self.phase = Phase::Syncing { frozen, seq, tail, synced: false };
        self.submit_io(Purpose::Sync, Request::Flush);
    }

    pub(super) fn handle_synced(&mut self) {
        if let Phase::Syncing { synced, .. } = &mut self.phase {
            *synced = true;
        }
    }

    pub(super) fn handle_background(&mut self) {
        if self.background.nudged() {
            self.nudged = false;
            self.urgent = self.last_seq;
            if self.nudged_at == self.last_seq && self.has_idle_work() {
                self.checkpoint();
            }
            // A compaction of the index tells its end so; and others use the file system too.
            self.kv_bytes = self.state.index.store().disk_bytes();
            self.available = self.disk.available();
            if matches!(self.phase, Phase::Idle) && self.has_much_garbage() {
                self.reclaim();
            }
            self.nudged_at = self.last_seq;
        }
        let Some(answer) = self.background.poll() else { return };
        let Phase::Writing { tail } = self.phase else { return };
        self.phase = Phase::Idle;
        match answer {
            Ok(bytes) => {
                self.kv_bytes = bytes;
                self.available = self.disk.available();
                self.counters.checkpoints += 1;
                self.state.index.thaw();
                let mark = self.mark();
                self.state.allocator.let_go(mark);
                let moved = self.segments.retire(tail, self.next_read);
                self.log_data_bytes = self.log_data_bytes.saturating_sub(moved);
                if self.is_nearly_full() || self.has_much_garbage() {
                    self.reclaim();
                }
            }
            Err(e) => {
                self.fail(StoreError::Failed(e.to_string()));
            }
        }
    }
}

/// Everything small that a group stored, with its bytes.
pub(super) fn stored_in(
    header: &GroupHeader,
    payload: Bytes,
) -> Result<Vec<(Stored, Bytes)>, DecodeError> {
    let mut found = Vec::new();
    for (i, batch) in decode_batches(header, payload)?.into_iter().enumerate() {
        if batch.data.is_empty() {
            continue;
        }
        let seq = header.first + i as u64;
        for step in Vec::<Step>::from_bytes(batch.steps)? {
            for stored in Stored::of_step(&step, seq) {
                let bytes = stored.bytes.start as usize..stored.bytes.end as usize;
                if bytes.end > batch.data.len() {
                    let what = "place in a batch";
                    return Err(DecodeError::Invalid { what, value: bytes.end as u64 });
                }
                let data = batch.data.slice(bytes);
                found.push((stored, data));
            }
        }
    }
    Ok(found)
}

/// Where a part of a byte string goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Part {
    /// Which byte string, and which of its bytes.
    item: usize,
    from: usize,
    to: usize,
    offset: u64,
}

/// Places one behind the other: whole blocks begin with a unit, the rest is packed.
fn lay_out(data: &[Bytes]) -> (Vec<Part>, u64) {
    /// What is not whole blocks begins with a multiple of this.
    const PACKED: u64 = 64;
    let mut at: u64 = 0;
    let mut parts = Vec::with_capacity(data.len());
    for (item, data) in data.iter().enumerate() {
        let whole = data.len() % BLOCK_BYTES == 0;
        at = at.next_multiple_of(if whole { BLOCK_BYTES as u64 } else { PACKED });
        parts.push(Part { item, from: 0, to: data.len(), offset: at });
        at += data.len() as u64;
    }
    (parts, at)
}

/// Places no part of which goes beyond its unit: whole blocks first, and then what is left, packed. Cuts are
/// where blocks of checksums begin.
fn lay_out_in_units(data: &[Bytes]) -> (Vec<Part>, u64) {
    let unit = BLOCK_BYTES as u64;
    let (mut parts, mut ends) = (Vec::new(), Vec::new());
    let mut at = 0;
    for (item, data) in data.iter().enumerate() {
        let whole = data.len() / BLOCK_BYTES * BLOCK_BYTES;
        for from in (0..whole).step_by(BLOCK_BYTES) {
            parts.push(Part { item, from, to: from + BLOCK_BYTES, offset: at });
            at += unit;
        }
        if whole < data.len() {
            ends.push(Part { item, from: whole, to: data.len(), offset: 0 });
        }
    }
    for mut part in ends {
        let bytes = (part.to - part.from) as u64;
        if at % unit + bytes > unit {
            at = at.next_multiple_of(unit);
        }
        part.offset = at;
        at += bytes;
        parts.push(part);
    }
    (parts, at)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_has_a_place_of_its_own_within_a_unit() {
        let data: Vec<Bytes> =
            [1, 4096, 5000, 4095, 8192, 100, 32_768].map(|len| vec![7; len].into()).into();
        let (parts, bytes) = lay_out_in_units(&data);
        let mut used = vec![false; bytes as usize];
        for part in &parts {
            let end = part.offset + (part.to - part.from) as u64;
            assert!(part.from % BLOCK_BYTES == 0 && part.offset / 4096 == (end - 1) / 4096);
            for at in part.offset..end {
                assert!(!std::mem::replace(&mut used[at as usize], true), "{part:?}");
            }
        }
        let total: usize = data.iter().map(Bytes::len).sum();
        assert_eq!(used.iter().filter(|used| **used).count(), total);
    }
}
