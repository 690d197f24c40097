//! Who uses which unit of the file. Pure.
//!
//! Invariants:
//! - The *logical* state (who is referred to by objects and staged entries, how often) follows from the
//!   batches alone; it is what a checkpoint keeps. Everything else is of this life only.
//! - A unit is in `free` only if nothing refers to it, the batch that gave it up is durable, no read that
//!   began before that is under way, and no log segment is there.
//! - Segments and extents that are being written, but not yet referred to, are *taken*: neither free nor
//!   referred to. After a crash they are simply free.

use super::format::AREA_START;
use super::piece::{Piece, Place, References};
use crate::store::disk::BLOCK_BYTES;
use bytes::Bytes;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// Units per chunk of a checkpoint: 128 MiB of the medium in one value of 4 KiB.
pub const CHUNK_UNITS: u64 = 32 << 10;

const UNIT: u64 = BLOCK_BYTES as u64;

/// A run of units, as offset and length in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Run {
    /// In the file.
    pub offset: u64,
    /// Bytes.
    pub length: u64,
}

/// When something given up may be used again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Mark {
    /// This batch must be durable.
    pub seq: u64,
    /// Reads below this number must be over.
    pub read: u64,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Chunk {
    bits: Bytes,
    /// Users of a unit beyond the first: unit within the chunk, count.
    shared: Vec<(u32, u32)>,
}
store_base::codec_versioned!(Chunk, 1, 1 { bits, shared });

/// The users of the file's units.
#[derive(Debug, Default)]
pub struct Allocator {
    units: u64,
    bits: Vec<u64>,
    shared: BTreeMap<u64, u32>,
    used: u64,
    free: BTreeMap<u64, u64>,
    by_length: BTreeSet<(u64, u64)>,
    free_units: u64,
    waiting: VecDeque<(Mark, u64, u64)>,
    waiting_units: u64,
    /// What was moved elsewhere without a word in the log: it stays until a checkpoint says so.
    held: Vec<(u64, u64)>,
    /// Whether what is given up now is held.
    holding: bool,
    /// How often a unit lost a user and kept another: what might be packed closer.
    holes: u64,
    changed: BTreeSet<u64>,
    /// Of what is given up now.
    pub mark: Mark,
    /// The first reference that cannot be right, for a replay to refuse.
    pub fault: Option<String>,
    /// While a log is replayed there is no free list; it is made at the end.
    replaying: bool,
}

impl Allocator {
    /// Of a file of `size` bytes, with nothing in it. Replay first, then [`Allocator::start`].
    pub fn new(size: u64) -> Allocator {
        let units = size.saturating_sub(AREA_START) / UNIT;
        Allocator { replaying: true, units, ..Allocator::default() }
    }

    /// Takes in a chunk of a checkpoint.
    pub fn load_chunk(&mut self, number: u64, value: Bytes) -> Result<(), String> {
        use store_base::codec::Decode;
        let chunk = Chunk::from_bytes(value).map_err(|e| e.to_string())?;
        let base = number * CHUNK_UNITS;
        if chunk.bits.len() as u64 > CHUNK_UNITS / 8 || base > self.units {
            return Err(format!("chunk {number} is beyond the end of the file"));
        }
        self.widen(base + chunk.bits.len() as u64 * 8);
        for (i, byte) in chunk.bits.iter().enumerate() {
            for bit in (0..8).filter(|bit| byte >> bit & 1 == 1) {
                self.set(base + i as u64 * 8 + bit);
            }
        }
        for (unit, count) in chunk.shared {
            if count == 0 || !self.is_used(base + u64::from(unit)) {
                return Err(format!("unit {unit} of chunk {number} is shared, but not used"));
            }
            self.shared.insert(base + u64::from(unit), count);
        }
        self.changed.clear();
        Ok(())
    }

    /// Ends the replay: what is not used and not in `taken` is free, up to `size` bytes of the file.
    pub fn start(&mut self, size: u64, taken: &[Run]) -> Result<(), String> {
        if let Some(fault) = &self.fault {
            return Err(fault.clone());
        }
        self.replaying = false;
        // Nobody knows any more.
        self.holes = self.used;
        let units = size.saturating_sub(AREA_START) / UNIT;
        assert!(units >= self.units, "a file does not shrink");
        if let Some(beyond) = (units..self.bits.len() as u64 * 64).find(|unit| self.is_used(*unit))
        {
            return Err(format!("unit {beyond} is used, but the file has only {units}"));
        }
        self.widen(units);
        self.units = units;
        let mut blocked = BTreeSet::new();
        for run in taken {
            for unit in units_of(run.offset, run.length) {
                if unit >= units || self.is_used(unit) || !blocked.insert(unit) {
                    return Err(format!("unit {unit} is in the log and used otherwise"));
                }
            }
        }
        let mut unit = 0;
        while unit < units {
            let start = unit;
            while unit < units && !self.is_used(unit) && !blocked.contains(&unit) {
                unit += 1;
            }
            self.insert_free(start, unit - start);
            unit = unit.max(start) + 1;
        }
        Ok(())
    }

    /// Takes bytes, in as few runs as can be had; `None` if there is no room.
    pub fn take(&mut self, bytes: u64) -> Option<Vec<Run>> {
        let mut left = bytes.div_ceil(UNIT);
        if left > self.free_units {
            return None;
        }
        let mut runs = Vec::new();
        while left > 0 {
            let fit =
                self.by_length.range((left, 0)..).next().or_else(|| self.by_length.last()).copied();
            let (length, start) = fit.expect("the free units are in the list");
            self.remove_free(start, length);
            let taken = length.min(left);
            self.insert_free(start + taken, length - taken);
            runs.push(Run { offset: AREA_START + start * UNIT, length: taken * UNIT });
            left -= taken;
        }
        Some(runs)
    }

    /// Takes bytes in one run.
    pub fn take_whole(&mut self, bytes: u64) -> Option<Run> {
        let units = bytes.div_ceil(UNIT);
        self.by_length.range((units, 0)..).next()?;
        self.take(bytes)?.pop()
    }

    /// Takes the longest run that there is, if it has at least so many bytes.
    pub fn take_longest(&mut self, least: u64) -> Option<Run> {
        let (length, _) = self.by_length.last().copied()?;
        (length * UNIT >= least).then(|| self.take_whole(length * UNIT)).flatten()
    }

    /// Gives back what was taken, but for the units that are referred to meanwhile.
    pub fn give_back(&mut self, run: Run) {
        for unit in units_of(run.offset, run.length) {
            if !self.is_used(unit) {
                self.insert_free(unit, 1);
            }
        }
    }

    /// Gives back what was taken once reads below `mark` are over and its batch is durable.
    pub fn give_back_later(&mut self, run: Run, mark: Mark) {
        let units = units_of(run.offset, run.length);
        self.waiting_units += units.end - units.start;
        self.waiting.push_back((mark, units.start, units.end - units.start));
    }

    /// Frees what was given up in batches up to `durable`, with no read left below its mark.
    pub fn mature(&mut self, durable: u64, reads_over: u64) {
        while let Some((mark, start, length)) = self.waiting.front().copied() {
            if mark.seq > durable || mark.read > reads_over {
                break;
            }
            self.waiting.pop_front();
            self.waiting_units -= length;
            self.insert_free(start, length);
        }
    }

    /// Whether what is given up from now on is kept from use until [`Allocator::let_go`]: nothing in the log
    /// says that its user is elsewhere, so a restart would find it here.
    pub fn hold(&mut self, holding: bool) {
        self.holding = holding;
    }

    /// A checkpoint is durable that refers to nothing that is held.
    pub fn let_go(&mut self, mark: Mark) {
        self.waiting.extend(self.held.drain(..).map(|(start, length)| (mark, start, length)));
    }

    /// Whether enough units have lost some, but not all, of their users for a packing to be worth it; asked
    /// again, only if there are as many more.
    pub fn take_holes(&mut self) -> bool {
        /// One of so many units.
        const SHARE: u64 = 32;
        let due = self.holes > 0 && self.holes >= self.used / SHARE;
        if due {
            self.holes = 0;
        }
        due
    }

    /// Whether a piece takes a third more room than its bytes, units that it shares counted in part.
    pub fn is_sparse(&self, piece: &Piece) -> bool {
        let Place::Disk { offset } = piece.place else { return false };
        let share = |unit| UNIT / (1 + u64::from(self.shared.get(&unit).copied().unwrap_or(0)));
        let takes: u64 = units_of(offset, piece.stored.into()).map(share).sum();
        takes * 3 > u64::from(piece.length) * 4
    }

    /// The file has become larger. What is new counts as taken; it is free when it is given back.
    pub fn extend(&mut self, size: u64) -> Option<Run> {
        let units = size.saturating_sub(AREA_START) / UNIT;
        let before = self.units;
        if units <= before {
            return None;
        }
        self.widen(units);
        self.units = units;
        Some(Run { offset: AREA_START + before * UNIT, length: (units - before) * UNIT })
    }

    /// Bytes that can be taken now.
    pub fn free_bytes(&self) -> u64 {
        self.free_units * UNIT
    }

    /// Bytes that will be free when what is given up is durable.
    pub fn waiting_bytes(&self) -> u64 {
        self.waiting_units * UNIT
    }

    /// Bytes referred to.
    pub fn used_bytes(&self) -> u64 {
        self.used * UNIT
    }

    /// The chunks whose logical state has changed since the last call: number, value (`None`: empty).
    pub fn changed_chunks(&mut self) -> Vec<(u64, Option<Bytes>)> {
        use store_base::codec::Encode;
        let changed = std::mem::take(&mut self.changed);
        changed
            .into_iter()
            .map(|number| {
                let base = number * CHUNK_UNITS;
                let words = (base / 64) as usize..((base + CHUNK_UNITS) / 64) as usize;
                let words =
                    &self.bits[words.start.min(self.bits.len())..words.end.min(self.bits.len())];
                if words.iter().all(|word| *word == 0) {
                    return (number, None);
                }
                let bits: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
                let shared = self.shared.range(base..base + CHUNK_UNITS);
                let shared = shared.map(|(unit, count)| ((unit - base) as u32, *count)).collect();
                (number, Some(Chunk { bits: bits.into(), shared }.to_bytes()))
            })
            .collect()
    }

    /// Makes the next checkpoint keep all chunks, whatever the one before has.
    pub fn change_all(&mut self) {
        self.changed = (0..=self.units / CHUNK_UNITS).collect();
    }

    /// Units with more users here than in a recount, and those with fewer, as runs.
    pub fn compare(&self, recount: &Allocator) -> (Vec<Run>, Vec<Run>) {
        let (mut more, mut fewer) = (Vec::new(), Vec::new());
        let add = |runs: &mut Vec<Run>, unit: u64| {
            let offset = AREA_START + unit * UNIT;
            match runs.last_mut() {
                Some(run) if run.offset + run.length == offset => run.length += UNIT,
                _ => runs.push(Run { offset, length: UNIT }),
            }
        };
        let words = self.bits.len().max(recount.bits.len());
        for word in 0..words {
            let bits = |all: &Allocator| all.bits.get(word).copied().unwrap_or(0);
            let (here, there) = (bits(self), bits(recount));
            if here | there == 0 {
                continue;
            }
            for unit in (word as u64 * 64..).take(64) {
                let users = |all: &Allocator| {
                    let shared = all.shared.get(&unit).copied().unwrap_or(0);
                    u64::from(all.is_used(unit)) + u64::from(shared)
                };
                match users(self).cmp(&users(recount)) {
                    std::cmp::Ordering::Greater => add(&mut more, unit),
                    std::cmp::Ordering::Less => add(&mut fewer, unit),
                    std::cmp::Ordering::Equal => {}
                }
            }
        }
        (more, fewer)
    }

    fn widen(&mut self, units: u64) {
        let words = units.div_ceil(64) as usize;
        if self.bits.len() < words {
            self.bits.resize(words, 0);
        }
    }

    fn is_used(&self, unit: u64) -> bool {
        self.bits.get((unit / 64) as usize).is_some_and(|word| word >> (unit % 64) & 1 == 1)
    }

    fn set(&mut self, unit: u64) {
        self.bits[(unit / 64) as usize] |= 1 << (unit % 64);
        self.used += 1;
    }

    fn insert_free(&mut self, mut start: u64, mut length: u64) {
        if length == 0 {
            return;
        }
        self.free_units += length;
        if let Some((&before, &len)) = self.free.range(..start).next_back() {
            assert!(before + len <= start, "a unit is freed once");
            if before + len == start {
                self.free.remove(&before);
                self.by_length.remove(&(len, before));
                (start, length) = (before, len + length);
            }
        }
        if let Some((&after, &len)) = self.free.range(start..).next() {
            assert!(start + length <= after, "a unit is freed once");
            if start + length == after {
                self.free.remove(&after);
                self.by_length.remove(&(len, after));
                length += len;
            }
        }
        self.free.insert(start, length);
        self.by_length.insert((length, start));
    }

    fn remove_free(&mut self, start: u64, length: u64) {
        self.free.remove(&start);
        self.by_length.remove(&(length, start));
        self.free_units -= length;
    }

    fn retain_unit(&mut self, unit: u64) {
        self.changed.insert(unit / CHUNK_UNITS);
        if self.is_used(unit) {
            *self.shared.entry(unit).or_default() += 1;
        } else {
            self.set(unit);
        }
    }

    fn release_unit(&mut self, unit: u64) {
        self.changed.insert(unit / CHUNK_UNITS);
        if let Some(count) = self.shared.get_mut(&unit) {
            // A packing goes by once; what it leaves is as close as it gets.
            self.holes += u64::from(!self.holding);
            *count -= 1;
            if *count == 0 {
                self.shared.remove(&unit);
            }
            return;
        }
        if !self.is_used(unit) {
            self.fault.get_or_insert_with(|| format!("unit {unit} is given up, but not used"));
            return;
        }
        self.bits[(unit / 64) as usize] &= !(1 << (unit % 64));
        self.used -= 1;
        if self.replaying {
            return;
        }
        self.waiting_units += 1;
        if self.holding {
            match self.held.last_mut() {
                Some((start, length)) if *start + *length == unit => *length += 1,
                _ => self.held.push((unit, 1)),
            }
            return;
        }
        match self.waiting.back_mut() {
            Some((mark, start, length)) if *mark == self.mark && *start + *length == unit => {
                *length += 1
            }
            _ => self.waiting.push_back((self.mark, unit, 1)),
        }
    }
}

fn units_of(offset: u64, length: u64) -> std::ops::Range<u64> {
    let start = offset.saturating_sub(AREA_START);
    start / UNIT..(start + length).div_ceil(UNIT)
}

impl References for Allocator {
    fn retain(&mut self, piece: &Piece) {
        let Place::Disk { offset } = piece.place else { return };
        let units = units_of(offset, piece.stored.into());
        if offset < AREA_START || units.end > self.units {
            self.fault.get_or_insert_with(|| format!("offset {offset} is outside of the file"));
            return;
        }
        self.widen(units.end);
        units.for_each(|unit| self.retain_unit(unit));
    }

    fn release(&mut self, piece: &Piece) {
        let Place::Disk { offset } = piece.place else { return };
        units_of(offset, piece.stored.into()).for_each(|unit| self.release_unit(unit));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::log::piece::SHIFT_SMALL;

    fn started(units: u64) -> Allocator {
        let mut all = Allocator::new(AREA_START + units * UNIT);
        all.start(AREA_START + units * UNIT, &[]).expect("empty");
        all
    }

    fn piece(run: Run) -> Piece {
        Piece::new(&vec![1; run.length as usize], Place::Disk { offset: run.offset }, SHIFT_SMALL)
    }

    #[test]
    fn what_is_given_up_waits_for_its_batch_and_for_readers() {
        let mut all = started(10);
        let run = all.take_whole(10 * UNIT).expect("all of it");
        assert_eq!(all.take(1), None);
        all.retain(&piece(run));
        all.mark = Mark { seq: 5, read: 3 };
        all.release(&piece(run));
        assert_eq!((all.used_bytes(), all.free_bytes(), all.waiting_bytes()), (0, 0, 10 * UNIT));
        all.mature(4, 9);
        all.mature(9, 2);
        assert_eq!(all.free_bytes(), 0);
        all.mature(5, 3);
        assert_eq!((all.free_bytes(), all.waiting_bytes()), (10 * UNIT, 0));
        assert_eq!(all.take_whole(10 * UNIT), Some(run), "it is one run again");
    }

    #[test]
    fn shared_units_are_free_when_the_last_user_goes() {
        let mut all = started(4);
        let run = all.take_whole(2 * UNIT).expect("room");
        let whole = piece(run);
        let (left, right) = (whole.cut(0, 100), whole.cut(200, 5000));
        all.retain(&whole);
        all.retain(&left);
        all.retain(&right);
        all.release(&whole);
        assert_eq!(all.used_bytes(), 2 * UNIT);
        all.release(&right);
        assert_eq!((all.used_bytes(), all.waiting_bytes()), (UNIT, UNIT));
        all.release(&left);
        assert_eq!((all.used_bytes(), all.waiting_bytes(), all.fault.clone()), (0, 2 * UNIT, None));
    }

    #[test]
    fn a_checkpoint_restores_the_logical_state_only() {
        let mut all = started(100);
        let a = all.take_whole(7 * UNIT).expect("room");
        let _taken = all.take_whole(5 * UNIT).expect("room");
        all.retain(&piece(a));
        all.retain(&piece(a).cut(0, 1));
        let chunks = all.changed_chunks();
        let mut again = Allocator::new(AREA_START + 100 * UNIT);
        chunks
            .into_iter()
            .for_each(|(n, value)| again.load_chunk(n, value.expect("used")).expect("own bytes"));
        again.start(AREA_START + 100 * UNIT, &[]).expect("consistent");
        assert_eq!((again.used_bytes(), again.free_bytes()), (7 * UNIT, 93 * UNIT));
        again.release(&piece(a));
        assert_eq!(again.used_bytes(), UNIT);
        assert!(again.load_chunk(0, Bytes::from_static(b"\x01\x01\xff\0\0\0")).is_err());
        let slot = Run { offset: a.offset, length: UNIT };
        let mut clash = Allocator::new(AREA_START + 100 * UNIT);
        clash.retain(&piece(a));
        assert!(clash.start(AREA_START + 100 * UNIT, &[slot]).is_err());
    }

    #[test]
    fn what_is_held_waits_for_a_checkpoint() {
        let mut all = started(3);
        let run = all.take_whole(3 * UNIT).expect("room");
        all.retain(&piece(run));
        all.hold(true);
        all.release(&piece(run));
        all.hold(false);
        all.mature(u64::MAX, u64::MAX);
        assert_eq!((all.used_bytes(), all.free_bytes()), (0, 0));
        all.let_go(Mark { seq: 3, read: 2 });
        all.mature(3, 1);
        assert_eq!(all.free_bytes(), 0);
        all.mature(3, 2);
        assert_eq!((all.free_bytes(), all.waiting_bytes()), (3 * UNIT, 0));
    }

    #[test]
    fn a_chunk_that_makes_no_sense_is_an_error() {
        use store_base::codec::Encode;
        let bits = Bytes::from_static(&[1, 0, 0, 0, 0, 0, 0, 0]);
        for shared in [vec![(0, 0)], vec![(1, 1)], vec![(u32::MAX, 1)]] {
            let chunk = Chunk { bits: bits.clone(), shared }.to_bytes();
            assert!(Allocator::new(AREA_START + 100 * UNIT).load_chunk(0, chunk).is_err());
        }
    }

    #[test]
    fn fragments_are_gathered() {
        let mut all = started(9);
        let runs: Vec<Run> = (0..9).map(|_| all.take_whole(UNIT).expect("room")).collect();
        runs.iter().step_by(2).for_each(|run| all.give_back(*run));
        assert_eq!(all.take_whole(2 * UNIT), None);
        let got = all.take(3 * UNIT).expect("in parts");
        assert_eq!((got.len(), all.free_bytes()), (3, 2 * UNIT));
    }
}
