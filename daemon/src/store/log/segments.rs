//! The ring of log segments: where the next group goes, and where a batch lies. Pure.
//!
//! A *slot* is a place in the file, named in the superblock; a *segment* is one filling of a slot, with a
//! number that is never used again. Slots are written with zeros before they are first used: merely
//! allocated space costs a third to a half of the speed. They begin small and double, so that an idle
//! daemon takes little.

use super::format::Slot;
use std::collections::BTreeMap;

/// What a slot is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SlotUse {
    /// Being written with zeros, so far up to `done`.
    Zeroing { done: u64, busy: bool },
    /// Ready, but the superblock does not name it yet.
    Unnamed,
    /// Ready.
    Free,
    /// Has a segment.
    Segment,
    /// Free when reads below are over.
    Retiring { read: u64 },
}

/// In place of where a batch's data begin: they are lost.
pub(super) const LOST: u32 = u32::MAX;

/// A filling of a slot.
#[derive(Debug)]
pub(super) struct Segment {
    pub(super) slot: usize,
    /// Sequence of its first batch.
    pub(super) first: u64,
    /// Bytes in use.
    pub(super) end: u64,
    /// Where the data of each batch begin, in the slot.
    pub(super) batches: Vec<u32>,
    /// Small data in it.
    pub(super) data_bytes: u64,
    pub(super) closed: bool,
}

impl Segment {
    /// The last batch in it.
    pub(super) fn last(&self) -> u64 {
        self.first + self.batches.len() as u64 - 1
    }

    /// As `last`; the batch before its first, if it has none.
    pub(super) fn last_or_before(&self) -> u64 {
        (self.first + self.batches.len() as u64).saturating_sub(1)
    }
}

/// All slots and segments.
#[derive(Debug, Default)]
pub(super) struct Segments {
    pub(super) slots: Vec<(Slot, SlotUse)>,
    /// By number.
    pub(super) segments: BTreeMap<u64, Segment>,
    /// The number of the next segment.
    pub(super) next: u64,
    /// Header checksum of the last group.
    pub(super) chain: u32,
    /// Which of the two copies of the superblock is being written: both must be, before a slot is used.
    pub(super) naming: bool,
    /// Groups wait for a slot.
    pub(super) stalled: bool,
    pub(super) checkpoint_wanted: bool,
    /// Segments below have nothing that is alive but what a checkpoint will have.
    pub(super) cleaned: u64,
}

impl Segments {
    /// Bytes of all slots.
    pub(super) fn total_bytes(&self) -> u64 {
        self.slots.iter().map(|(slot, _)| slot.size).sum()
    }

    /// Bytes of closed segments.
    pub(super) fn closed_bytes(&self) -> u64 {
        self.closed().map(|(_, segment)| self.slots[segment.slot].0.size).sum()
    }

    pub(super) fn closed(&self) -> impl Iterator<Item = (u64, &Segment)> {
        self.segments.iter().filter(|(_, segment)| segment.closed).map(|(n, segment)| (*n, segment))
    }

    /// Where the data of a batch are in the file.
    pub(super) fn locate(&self, seq: u64) -> Option<u64> {
        let (_, segment) = self.segments.iter().rev().find(|(_, segment)| segment.first <= seq)?;
        let at = segment.batches.get((seq - segment.first) as usize).filter(|at| **at != LOST)?;
        Some(self.slots[segment.slot].0.offset + u64::from(*at))
    }

    /// Room for a group of `bytes`: the number of the segment and the offset in the file. `None`: no slot
    /// is ready.
    pub(super) fn place(&mut self, bytes: u64, first: u64) -> Option<(u64, u64)> {
        if let Some((number, segment)) = self.segments.iter_mut().next_back()
            && !segment.closed
        {
            let slot = self.slots[segment.slot].0;
            if segment.end + bytes <= slot.size {
                let offset = slot.offset + segment.end;
                segment.end += bytes;
                return Some((*number, offset));
            }
            // The next slot is found before this one is closed: a group that has to wait changes nothing.
            self.free_slot(bytes)?;
        }
        let index = self.free_slot(bytes)?;
        if let Some((_, segment)) = self.segments.iter_mut().next_back() {
            segment.closed = true;
        }
        let number = self.next;
        self.next += 1;
        self.slots[index].1 = SlotUse::Segment;
        let segment = Segment {
            slot: index,
            first,
            end: bytes,
            batches: Vec::new(),
            data_bytes: 0,
            closed: false,
        };
        self.segments.insert(number, segment);
        Some((number, self.slots[index].0.offset))
    }

    /// The largest group that can be placed now; all there is, if none can.
    pub(super) fn most_bytes(&self) -> u64 {
        let free = self.slots.iter().filter(|(_, state)| *state == SlotUse::Free);
        let active = self.segments.values().next_back().filter(|segment| !segment.closed);
        let rest = active.map(|segment| self.slots[segment.slot].0.size - segment.end);
        match free.map(|(slot, _)| slot.size).chain(rest).max() {
            None | Some(0) => u64::MAX,
            Some(most) => most,
        }
    }

    /// Whether no slot is on its way.
    pub(super) fn is_settled(&self) -> bool {
        let coming = |state: &SlotUse| matches!(state, SlotUse::Zeroing { .. } | SlotUse::Unnamed);
        !self.slots.iter().any(|(_, state)| coming(state))
    }

    fn free_slot(&self, bytes: u64) -> Option<usize> {
        self.slots.iter().position(|(slot, state)| *state == SlotUse::Free && slot.size >= bytes)
    }

    /// Slots that are free or may become so: all but the one that is being filled.
    pub(super) fn closable(&self) -> impl Iterator<Item = Slot> {
        let active = self.segments.values().next_back().filter(|segment| !segment.closed);
        let active = active.map(|segment| segment.slot);
        let others = self.slots.iter().enumerate().filter(move |(index, _)| Some(*index) != active);
        others.map(|(_, (slot, _))| *slot)
    }

    /// Whether another slot should be made ready ahead of need.
    pub(super) fn needs_slot(&self) -> bool {
        let ready = self.slots.iter().any(|(_, state)| !matches!(state, SlotUse::Segment));
        let Some((_, active)) = self.segments.iter().next_back() else { return false };
        !ready && active.end * 2 > self.slots[active.slot].0.size
    }

    /// Whether groups wait although nothing is on its way to help them.
    pub(super) fn is_stuck(&self) -> bool {
        let coming = |state: &SlotUse| {
            matches!(state, SlotUse::Zeroing { .. } | SlotUse::Unnamed | SlotUse::Retiring { .. })
        };
        self.stalled && !self.slots.iter().any(|(_, state)| coming(state))
    }

    /// Slots of finished segments become free when their readers are gone.
    pub(super) fn mature(&mut self, reads_over: u64) {
        for (_, state) in &mut self.slots {
            if matches!(state, SlotUse::Retiring { read } if *read <= reads_over) {
                *state = SlotUse::Free;
            }
        }
    }

    /// Ends all segments below `tail`; what they had of small data.
    pub(super) fn retire(&mut self, tail: u64, read: u64) -> u64 {
        let keep = self.segments.split_off(&tail);
        let gone = std::mem::replace(&mut self.segments, keep);
        for segment in gone.values() {
            self.slots[segment.slot].1 = SlotUse::Retiring { read };
        }
        gone.values().map(|segment| segment.data_bytes).sum()
    }
}
