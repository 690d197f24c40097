//! The walk along the log at an opening: what is executed again, where the log ends, and what is lost of it.
//!
//! # Torn, or rotten
//!
//! A log that ends in the middle of a group was torn by a loss of power: what is missing was never `Stored`, and
//! the end is where it ends. But every group says up to where the log was durable when it was written. So if any
//! group behind the end says that something missing had been durable, it did not tear, it rotted: a *hole*.
//! Groups behind a hole that are chained to such a witness are as good as ever, and the walk goes on with them.
//!
//! # What a hole costs
//!
//! - Of batches that the checkpoint has: the small data in them, so far as they still lay there. Whoever reads
//!   them finds a checksum that does not fit, and fetches the object from another copy.
//! - Of later batches: their steps. The groups behind say whose they were (`trailer`). Those placement groups are
//!   *damaged*: what is left of them is kept, but shown to nobody, and nothing is executed on them any more
//!   until they are removed and filled again. All others go on. If nobody knows whose steps they were, the store
//!   does not open.
//! - Steps whose own checksum is right count, although data beside them rot.
//!
//! If the very last group rots at rest, this cannot be told from a torn write.

use super::Opened;
use super::format::{
    GROUP_HEADER_BYTES, GroupHeader, RawBatch, Slot, Superblock, checksum, decode_payload,
};
use super::open::{Blocking, Unusable, failed, lost, read_stored, unreadable};
use super::piece::{Piece, Place};
use super::segments::{LOST, Segment, Segments, SlotUse};
use super::state::{Checkpoint, State};
use super::step::Step;
use super::trailer::{self, Recent, Touch};
use crate::store::StoreError;
use crate::store::disk::{BLOCK_BYTES, DiskError};
use bytes::Bytes;
use std::collections::{BTreeMap, VecDeque};
use store_base::codec::Decode;

/// The log is read in windows of this.
const WINDOW_BYTES: u64 = 1 << 20;

/// Most batches that a segment may have lost: more is a header that makes no sense.
const LOST_MAX: u64 = 1 << 24;

/// Groups whose steps are remembered for the next trailer.
const REMEMBERED: usize = 4;

/// The walk along the log.
pub(super) struct Scan {
    mark: u64,
    slots: Vec<Slot>,
    checkpoint: Checkpoint,
    pub(super) segments: Segments,
    /// The last batch found.
    pub(super) last: u64,
    /// Where each slot was walked up to.
    ends: BTreeMap<usize, u64>,
    /// Up to here the log was durable, as a group behind says: what is not whole there is rotten, not torn.
    proven: u64,
    /// Groups at the end of which no later one says that they were durable.
    held: VecDeque<Held>,
    /// Whose steps groups have, as later ones say, by their first batch.
    touches: BTreeMap<u64, Touch>,
    /// Steps of the last groups.
    remembered: VecDeque<(u64, u32, Vec<Bytes>)>,
    /// Something that may be the log's end could not be read.
    unreadable: Option<DiskError>,
}

/// A group that may have been in flight when the power went: it is whole, but the extents that it names may not
/// be. Then it was never `Stored`. Or one that is known to have been durable, and may have rotted.
struct Held {
    segment: u64,
    header: GroupHeader,
    steps: Steps,
    /// The segment and the chain before it.
    end: u64,
    batches: usize,
    data_bytes: u64,
    chain: u32,
}

/// What is left of a group's steps.
enum Steps {
    /// The group is whole.
    Whole(Vec<Bytes>),
    /// Something beside the steps is not what was written.
    Beside(Vec<Bytes>),
    /// They are lost.
    Lost,
}

/// Where a group was found that the walk did not reach.
struct Behind {
    slot: usize,
    at: u64,
    header: GroupHeader,
    crc: u32,
}

/// What is executed, and on what.
pub(super) struct Target<'a, 'b> {
    pub(super) io: &'a mut Blocking<'b>,
    pub(super) state: &'a mut State,
    pub(super) opened: &'a mut Opened,
}

impl Scan {
    pub(super) fn new(superblock: &Superblock, checkpoint: Checkpoint) -> Scan {
        let slots = superblock.slots.clone();
        let segments = Segments {
            slots: slots.iter().map(|slot| (*slot, SlotUse::Free)).collect(),
            next: checkpoint.tail.max(1),
            cleaned: checkpoint.tail,
            ..Segments::default()
        };
        Scan {
            mark: superblock.mark(),
            slots,
            last: checkpoint.seq,
            checkpoint,
            segments,
            ends: BTreeMap::new(),
            proven: 0,
            held: VecDeque::new(),
            touches: BTreeMap::new(),
            remembered: VecDeque::new(),
            unreadable: None,
        }
    }

    /// Walks along all of it.
    pub(super) fn run(&mut self, target: &mut Target<'_, '_>) -> Result<(), StoreError> {
        let heads = self.heads(target.io);
        // The sequence behind the last batch found.
        let mut next = self.follow(target, &heads, None)?;
        loop {
            let behind = self.behind(target.io)?;
            let missing = next.unwrap_or(self.checkpoint.seq + 1);
            let Some((resume, witness)) = resume(&behind, missing) else {
                let durable = behind.iter().map(|found| found.header.durable).max();
                self.replay_durable(target, durable.unwrap_or(0))?;
                break;
            };
            // A witness behind the hole: all before it was durable.
            self.replay_durable(target, u64::MAX)?;
            self.proven = witness.header.durable;
            let number = resume.header.segment;
            next = Some(self.walk(target, resume.slot, resume.at, resume.header, Some(missing))?);
            let later: Vec<_> =
                heads.iter().filter(|(header, _)| header.segment > number).copied().collect();
            next = self.follow(target, &later, next)?;
        }
        if next.is_none()
            && let Some((first, _)) = heads.first()
        {
            let (from, to) = (self.checkpoint.seq + 1, first.first);
            return Err(lost(format!("the log lacks the batches {from} to {to}")));
        }
        if let Some(torn) = self.settle_held(target)? {
            next = Some(torn);
        }
        if let Some(e) = self.unreadable.take() {
            return Err(unreadable(e));
        }
        self.last = next.map_or(self.last, |next| next - 1);
        self.finish(target.opened);
        Ok(())
    }

    /// The last groups, for the trailer of the next.
    pub(super) fn recent(&self) -> Recent {
        let mut recent = Recent::default();
        for (first, count, steps) in &self.remembered {
            let mut touch = Touch { first: *first, count: *count, ..Touch::default() };
            for steps in steps {
                let steps = Vec::<Step>::from_bytes(steps.clone()).unwrap_or_default();
                steps.iter().for_each(|step| touch.add(step));
            }
            if touch.last() <= self.last {
                recent.push(touch);
            }
        }
        recent
    }

    fn finish(&mut self, opened: &mut Opened) {
        if self.last < self.checkpoint.seq {
            // The index has them all; what lay in the log only is lost.
            tracing::error!(
                end = self.last,
                checkpoint = self.checkpoint.seq,
                "the log ends early"
            );
            opened.rotten_groups += 1;
            if let Some((_, segment)) = self.segments.segments.iter_mut().next_back() {
                let lost = self.checkpoint.seq - segment.last_or_before();
                segment.batches.extend((0..lost.min(LOST_MAX)).map(|_| LOST));
            }
            self.last = self.checkpoint.seq;
        }
        let active = self.segments.segments.keys().next_back().copied();
        for (number, segment) in &mut self.segments.segments {
            segment.closed = Some(*number) != active;
            self.segments.slots[segment.slot].1 = SlotUse::Segment;
        }
        opened.segments = self.segments.segments.len() as u64;
    }

    /// The first group of each segment that a checkpoint may need, in order.
    fn heads(&mut self, io: &mut Blocking<'_>) -> Vec<(GroupHeader, usize)> {
        let mut heads = Vec::new();
        for (index, slot) in self.slots.clone().into_iter().enumerate() {
            // One that cannot be read is met again when it is asked what lies behind the end.
            let block = io.read(slot.offset, BLOCK_BYTES).unwrap_or_default();
            if let Some((header, _)) = GroupHeader::decode(&block, self.mark) {
                self.segments.next = self.segments.next.max(header.segment + 1);
                if header.segment >= self.checkpoint.tail {
                    heads.push((header, index));
                }
            }
        }
        heads.sort_by_key(|(header, _)| (header.segment, header.life));
        heads
    }

    /// Walks along the segments that follow each other.
    fn follow(
        &mut self,
        target: &mut Target<'_, '_>,
        heads: &[(GroupHeader, usize)],
        mut next: Option<u64>,
    ) -> Result<Option<u64>, StoreError> {
        for (header, index) in heads {
            let begins = match next {
                // The oldest segment may begin anywhere up to what the checkpoint has.
                None => header.first <= self.checkpoint.seq + 1,
                Some(next) => header.first == next && header.previous == self.segments.chain,
            };
            if begins {
                let missing = next.is_none().then_some(header.first);
                next = Some(self.walk(target, *index, 0, *header, missing)?);
            } else if next.is_none() {
                break;
            }
        }
        Ok(next)
    }

    /// Walks along one segment from a group on; the sequence behind its last batch. `missing`: the group is not
    /// chained to anything, and batches from there to it are lost.
    fn walk(
        &mut self,
        target: &mut Target<'_, '_>,
        index: usize,
        at: u64,
        head: GroupHeader,
        mut missing: Option<u64>,
    ) -> Result<u64, StoreError> {
        let slot = self.slots[index];
        let mut window = Window::new(slot);
        let mut segment = self.segment_from(index, at, &head)?;
        self.segments.next = self.segments.next.max(head.segment + 1);
        let mut next = head.first;
        while segment.end + BLOCK_BYTES as u64 <= slot.size {
            let Ok(block) = window.bytes(target.io, segment.end, BLOCK_BYTES as u64) else { break };
            let Some((header, crc)) = GroupHeader::decode(&block, self.mark) else { break };
            let chained = missing.is_some() || header.previous == self.segments.chain;
            let fits = segment.end + header.disk_bytes() <= slot.size;
            if header.segment != head.segment || header.first != next || !chained || !fits {
                break;
            }
            let found = read_group(target.io, &mut window, segment.end, &header)?;
            for touch in found.touches {
                self.touches.insert(touch.first, touch);
            }
            if let Some(from) = missing.take()
                && from < header.first
            {
                self.mark_lost(target, from, header.first - 1)?;
            }
            let is_proven = header.first + u64::from(header.count) <= self.proven + 1;
            if !is_proven && !matches!(found.steps, Steps::Whole(_)) {
                break;
            }
            self.replay_durable(target, header.durable)?;
            self.remember(&header, &found.steps);
            self.held.push_back(Held {
                segment: header.segment,
                header,
                steps: found.steps,
                end: segment.end,
                batches: segment.batches.len(),
                data_bytes: segment.data_bytes,
                chain: self.segments.chain,
            });
            for place in found.places {
                let place = place.map_or(LOST, |(at, _)| segment.end as u32 + at);
                segment.batches.push(place);
            }
            segment.data_bytes += found.data_bytes;
            next += u64::from(header.count);
            segment.end += header.disk_bytes();
            target.opened.log_bytes += header.disk_bytes();
            self.segments.chain = crc;
        }
        // The group that was to be gone on from cannot be read any more, nor what it says.
        if missing.is_some_and(|from| from < head.first) {
            return Err(lost(format!("the log lacks the batches before {}", head.first)));
        }
        self.ends.insert(index, segment.end);
        if next > head.first || !segment.batches.is_empty() {
            self.segments.segments.insert(head.segment, segment);
        }
        Ok(next)
    }

    /// The segment that a group belongs to: what was found of it before, and what was lost in between.
    fn segment_from(
        &mut self,
        index: usize,
        at: u64,
        head: &GroupHeader,
    ) -> Result<Segment, StoreError> {
        let mut segment = self.segments.segments.remove(&head.segment).unwrap_or(Segment {
            slot: index,
            first: head.first,
            end: 0,
            batches: Vec::new(),
            data_bytes: 0,
            closed: true,
        });
        let lost_here = (head.first - segment.first).checked_sub(segment.batches.len() as u64);
        match lost_here.filter(|lost| *lost <= LOST_MAX && segment.slot == index) {
            Some(count) => segment.batches.extend((0..count).map(|_| LOST)),
            None => return Err(lost(format!("segment {} makes no sense", head.segment))),
        }
        segment.end = at;
        Ok(segment)
    }

    fn remember(&mut self, header: &GroupHeader, steps: &Steps) {
        let steps = match steps {
            Steps::Whole(steps) | Steps::Beside(steps) => steps.clone(),
            Steps::Lost => return,
        };
        self.remembered.push_back((header.first, header.count, steps));
        if self.remembered.len() > REMEMBERED {
            self.remembered.pop_front();
        }
    }

    /// Executes the held groups that were durable.
    fn replay_durable(
        &mut self,
        target: &mut Target<'_, '_>,
        durable: u64,
    ) -> Result<(), StoreError> {
        while let Some(held) = self.held.pop_front() {
            if held.last() > durable {
                self.held.push_front(held);
                break;
            }
            self.replay_group(target, held)?;
        }
        Ok(())
    }

    fn replay_group(&mut self, target: &mut Target<'_, '_>, held: Held) -> Result<(), StoreError> {
        let last = held.last();
        let first = held.header.first;
        let steps = match held.steps {
            Steps::Whole(steps) => steps,
            Steps::Beside(steps) => {
                target.opened.rotten_groups += 1;
                steps
            }
            Steps::Lost => return self.mark_lost(target, first, last),
        };
        for (i, steps) in steps.into_iter().enumerate() {
            if first + i as u64 > self.checkpoint.seq {
                replay(target.state, steps)?;
                target.opened.replayed += 1;
            }
        }
        Ok(())
    }

    /// Batches that were durable are lost: whose they were is damaged.
    fn mark_lost(
        &mut self,
        target: &mut Target<'_, '_>,
        from: u64,
        to: u64,
    ) -> Result<(), StoreError> {
        target.opened.rotten_groups += 1;
        // What the checkpoint has is not lost.
        let mut next = from.max(self.checkpoint.seq + 1);
        if next <= to {
            target.opened.lost_batches += to + 1 - next;
        }
        while next <= to {
            let known = self.touches.range(..=next).next_back();
            let Some((_, touch)) = known.filter(|(_, touch)| touch.last() >= next) else {
                return Err(lost(format!(
                    "the log lacks the batches {next} to {to}, which were durable, and nobody knows whose they \
                     were"
                )));
            };
            let why = format!("the log has lost the batches {from} to {to}");
            tracing::error!(from, to, "the log has a hole");
            for pg in &touch.pgs {
                target.state.damage(*pg, &why);
            }
            for name in &touch.names {
                target.state.lose_name(name);
            }
            next = touch.last() + 1;
        }
        Ok(())
    }

    /// Executes the last groups as far as they and their extents are there; the sequence where the log is cut
    /// off.
    fn settle_held(&mut self, target: &mut Target<'_, '_>) -> Result<Option<u64>, StoreError> {
        while let Some(held) = self.held.pop_front() {
            let is_whole = match &held.steps {
                Steps::Whole(steps) if held.last() > self.checkpoint.seq => {
                    extents_are_whole(target.io, steps)?
                }
                _ => true,
            };
            if is_whole {
                self.replay_group(target, held)?;
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
            self.segments.chain = held.chain;
            return Ok(Some(held.header.first));
        }
        Ok(None)
    }

    /// All groups where the walk did not come.
    fn behind(&mut self, io: &mut Blocking<'_>) -> Result<Vec<Behind>, StoreError> {
        let mut found = Vec::new();
        self.unreadable = None;
        for (index, slot) in self.slots.iter().enumerate() {
            let from = self.ends.get(&index).copied().unwrap_or(0);
            let mut window = Window::new(*slot);
            for at in (from..slot.size).step_by(BLOCK_BYTES) {
                let block = match window.bytes(io, at, BLOCK_BYTES as u64) {
                    Ok(block) => block,
                    Err(DiskError::Unreadable(why)) => {
                        self.unreadable.get_or_insert(DiskError::Unreadable(why));
                        continue;
                    }
                    Err(e) => return Err(failed(e)),
                };
                if let Some((header, crc)) = GroupHeader::decode(&block, self.mark)
                    && header.segment >= self.checkpoint.tail
                {
                    found.push(Behind { slot: index, at, header, crc });
                }
            }
        }
        Ok(found)
    }
}

impl Held {
    fn last(&self) -> u64 {
        self.header.first + u64::from(self.header.count) - 1
    }
}

/// Where the log goes on behind its end: the first of the groups that are chained to a witness, which says that
/// what is missing had been durable; and the witness. It may be the missing one itself, with its header. Groups
/// of an earlier end of the log never say so.
fn resume(behind: &[Behind], missing: u64) -> Option<(&Behind, &Behind)> {
    let witnesses = behind.iter().filter(|found| {
        let header = &found.header;
        header.durable >= missing && header.first > missing
    });
    let witness = witnesses.min_by_key(|found| found.header.first)?;
    let mut first = witness;
    while let Some(before) = behind.iter().find(|found| {
        let header = &found.header;
        found.crc == first.header.previous
            && header.first >= missing
            && header.first + u64::from(header.count) == first.header.first
    }) {
        first = before;
    }
    Some((first, witness))
}

/// A group as it lies there.
struct Found {
    steps: Steps,
    /// Where the data of each batch begin, from the group's header, if that can be told, and how many they are.
    places: Vec<Option<(u32, u64)>>,
    data_bytes: u64,
    touches: Vec<Touch>,
}

fn read_group(
    io: &mut Blocking<'_>,
    window: &mut Window,
    at: u64,
    header: &GroupHeader,
) -> Result<Found, StoreError> {
    let nothing = |steps| Found {
        steps,
        places: vec![None; header.count as usize],
        data_bytes: 0,
        touches: Vec::new(),
    };
    let whole = match window.bytes(io, at, header.disk_bytes()) {
        Ok(whole) => whole,
        Err(DiskError::Unreadable(_)) => return Ok(nothing(Steps::Lost)),
        Err(e) => return Err(failed(e)),
    };
    let payload = whole.slice(GROUP_HEADER_BYTES..GROUP_HEADER_BYTES + header.length as usize);
    let is_whole = checksum(&payload) == header.payload_crc;
    let (batches, rest) = match decode_payload(header, payload) {
        Ok(parts) => parts,
        Err(_) => return Ok(nothing(Steps::Lost)),
    };
    let trailer = trailer::decode(&rest);
    let steps = || batches.iter().map(|batch| batch.steps.clone()).collect();
    let place = |batch: &RawBatch| Some((batch.data_offset, batch.data.len() as u64));
    let steps = match &trailer {
        _ if is_whole => Steps::Whole(steps()),
        Some(trailer) if trailer.vouches_for(&batches) => Steps::Beside(steps()),
        _ => Steps::Lost,
    };
    Ok(Found {
        steps,
        places: batches.iter().map(place).collect(),
        data_bytes: batches.iter().map(|batch| batch.data.len() as u64).sum(),
        touches: trailer.map(|trailer| trailer.touches).unwrap_or_default(),
    })
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

    fn bytes(&mut self, io: &mut Blocking<'_>, at: u64, length: u64) -> Result<Bytes, DiskError> {
        let end = self.start + self.bytes.len() as u64;
        if at < self.start || at + length > end {
            let want = length.max(WINDOW_BYTES.min(self.slot.size - at));
            let offset = self.slot.offset + at;
            self.bytes = match io.read(offset, want as usize) {
                // Less of it may be readable.
                Err(DiskError::Unreadable(_)) if want > length => {
                    io.read(offset, length as usize)?
                }
                other => other?,
            };
            self.start = at;
        }
        let from = (at - self.start) as usize;
        Ok(self.bytes.slice(from..from + length as usize))
    }
}

/// Executes the steps of a batch again. One that cannot be executed has damaged its placement group.
fn replay(state: &mut State, steps: Bytes) -> Result<(), StoreError> {
    for step in Vec::<Step>::from_bytes(steps).map_err(lost)? {
        let pg = step.pg();
        if let Err(fault) = state.execute(step, &mut VecDeque::new()) {
            match pg {
                Some(pg) if state.allocator.fault.is_none() => state.damage(pg, &fault.to_string()),
                _ => return Err(lost(fault)),
            }
        }
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
