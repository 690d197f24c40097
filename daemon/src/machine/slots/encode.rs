//! From a change of a whole object to what each slot has to change.
//!
//! Pure: a [`Plan`] says which bytes of the object as it is are needed, those of stripes that are changed in part;
//! with them it becomes a mutation for every slot.
//!
//! # Invariants
//!
//! - What a slot has behind the end of its shard reads as zeros, and is coded so: no cell is padded on a disk.
//! - After a mutation every coding slot is what the code makes of the data slots, position by position.
//! - Every mutation of the byte part ends with a cut at the object's size, so it is one for every slot.

use super::Layout;
use crate::machine::execute::lay;
use crate::store::{Change, Mutation};
use bytes::{Bytes, BytesMut};
use std::ops::Range;

/// A mutation of a whole object, about to be encoded.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    mutation: Mutation,
    /// Changes of the byte part, in order.
    patches: Vec<Change>,
    /// So many of the bytes that are there still show, from the first.
    kept: u64,
    /// Whether some do not.
    cuts: bool,
    size: u64,
    /// Stripes that change, by number.
    dirty: Vec<Range<u64>>,
    /// Bytes that must be read, as ranges of the object: offset and length.
    needs: Vec<(u64, u64)>,
}

/// What a stripe becomes.
enum Content {
    Zeros,
    Bytes(Vec<u8>),
}

impl Plan {
    /// `size`: of the object before.
    pub(crate) fn new(layout: &Layout, size: u64, mutation: Mutation) -> Plan {
        let is_data = |change: &&Change| {
            let (write, zero) = (Change::is_write(change), matches!(change, Change::Zero { .. }));
            write || zero || matches!(change, Change::Truncate { .. } | Change::Remove {})
        };
        let patches: Vec<Change> = mutation.changes.iter().filter(is_data).cloned().collect();
        let kept = patches.iter().fold(size, |kept, patch| match patch {
            Change::Truncate { size } => kept.min(*size),
            Change::Remove {} => 0,
            _ => kept,
        });
        let after = mutation.info.as_ref().map_or(0, |info| info.size);
        let mut plan = Plan {
            mutation,
            patches,
            kept,
            cuts: kept < size,
            size: after,
            dirty: Vec::new(),
            needs: Vec::new(),
        };
        plan.find_dirty(layout);
        plan.find_needs(layout);
        plan
    }

    /// Ranges of the object that must be read: offset and length, ascending.
    pub(crate) fn needs(&self) -> &[(u64, u64)] {
        &self.needs
    }

    fn find_dirty(&mut self, layout: &Layout) {
        let stripe = layout.striping.stripe_bytes();
        let mut touched: Vec<Range<u64>> = self
            .patches
            .iter()
            .filter_map(span)
            .map(|range| range.start.min(self.size)..range.end.min(self.size))
            .collect();
        if self.cuts {
            // Where the object was cut within a stripe, coding slots have what is gone in them.
            touched.push(self.kept / stripe * stripe..self.kept);
        }
        let mut stripes: Vec<Range<u64>> = touched
            .into_iter()
            .filter(|range| range.start < range.end)
            .map(|range| range.start / stripe..range.end.div_ceil(stripe))
            .collect();
        stripes.sort_unstable_by_key(|range| range.start);
        for range in stripes {
            match self.dirty.last_mut() {
                Some(last) if range.start <= last.end => last.end = last.end.max(range.end),
                _ => self.dirty.push(range),
            }
        }
    }

    fn find_needs(&mut self, layout: &Layout) {
        let stripe = layout.striping.stripe_bytes();
        for number in self.dirty.iter().cloned().flatten() {
            let base = self.base(layout, number);
            if base.is_empty() || self.is_covered(&base) {
                continue;
            }
            match self.needs.last_mut() {
                Some((at, len)) if *at + *len == number * stripe => *len += base.end - base.start,
                _ => self.needs.push((base.start, base.end - base.start)),
            }
        }
    }

    /// The bytes of a stripe that are there and still show.
    fn base(&self, layout: &Layout, number: u64) -> Range<u64> {
        let stripe = layout.striping.stripe_bytes();
        let start = number * stripe;
        start..(start + stripe).min(self.kept).max(start)
    }

    /// Whether one change says what all of these bytes are.
    fn is_covered(&self, range: &Range<u64>) -> bool {
        let covers = |span: Range<u64>| span.start <= range.start && range.end <= span.end;
        self.patches.iter().filter_map(span).any(covers)
    }

    fn content(&self, layout: &Layout, number: u64, base: &[Bytes]) -> Content {
        let stripe = layout.striping.stripe_bytes();
        let start = number * stripe;
        let shown = self.base(layout, number);
        let needed = !shown.is_empty() && !self.is_covered(&shown);
        let writes = self.patches.iter().filter(|patch| Change::is_write(patch));
        let written = writes.filter_map(span).any(|w| w.start < start + stripe && start < w.end);
        if !needed && !written {
            return Content::Zeros;
        }
        let mut bytes = vec![0; stripe as usize];
        for ((at, len), data) in self.needs.iter().zip(base) {
            if needed && *at <= start && start < at + len {
                let from = ((start - at) as usize).min(data.len());
                let to = (from + (shown.end - shown.start) as usize).min(data.len());
                bytes[..to - from].copy_from_slice(&data[from..to]);
            }
        }
        lay(&mut bytes, start, &self.patches);
        Content::Bytes(bytes)
    }

    /// What every slot has to do. `base`: what was read, one for each of `needs`.
    pub(crate) fn finish(self, layout: &Layout, base: &[Bytes]) -> Vec<Mutation> {
        let slots = layout.slots();
        let info = &self.mutation.info;
        if self.patches.is_empty() || info.is_none() {
            return vec![self.mutation.clone(); slots];
        }
        let others = self.mutation.changes.iter().filter(|change| span(change).is_none());
        let others = others.filter(|change| !matches!(change, Change::Truncate { .. }));
        let mut changes: Vec<Vec<Change>> = vec![others.cloned().collect(); slots];
        let is_removed = self.patches.iter().any(|patch| *patch == Change::Remove {});
        if self.cuts && !is_removed {
            let size = self.kept / layout.striping.stripe_bytes() * layout.cell();
            changes.iter_mut().for_each(|changes| changes.push(Change::Truncate { size }));
        }
        for range in self.dirty.iter().cloned() {
            let mut run = Run::new(layout, range.start);
            for number in range {
                match self.content(layout, number, base) {
                    Content::Zeros => run.zeros(&mut changes, number),
                    Content::Bytes(bytes) => {
                        let start = number * layout.striping.stripe_bytes();
                        run.stripe(&mut changes, number, &bytes, self.size - start);
                    }
                }
            }
            run.flush(&mut changes);
        }
        let end = Change::Truncate { size: self.size };
        changes.iter_mut().for_each(|changes| changes.push(end.clone()));
        let mutation = |changes| Mutation { changes, info: info.clone() };
        changes.into_iter().map(mutation).collect()
    }
}

/// The range of the object that a change gives new bytes.
fn span(change: &Change) -> Option<Range<u64>> {
    match change {
        Change::Write { offset, data } => Some(*offset..offset.saturating_add(data.len() as u64)),
        Change::Zero { offset, length } => Some(*offset..offset.saturating_add(*length)),
        _ => None,
    }
}

/// Stripes one behind the other, being collected to one write per slot.
struct Run<'a> {
    layout: &'a Layout,
    /// The stripe with which the shards begin.
    first: u64,
    shards: Vec<BytesMut>,
}

impl<'a> Run<'a> {
    fn new(layout: &'a Layout, first: u64) -> Run<'a> {
        Run { layout, first, shards: vec![BytesMut::new(); layout.slots()] }
    }

    fn stripe(&mut self, changes: &mut [Vec<Change>], number: u64, bytes: &[u8], live: u64) {
        if self.shards[0].is_empty() {
            self.first = number;
        }
        let cell = self.layout.cell() as usize;
        // Only the last stripe of an object is short, and nothing comes behind it.
        let whole = (number - self.first) as usize * cell;
        debug_assert!(self.shards[0].len() == whole, "a stripe follows whole ones");
        let data: Vec<&[u8]> = bytes.chunks(cell).collect();
        let mut coding = vec![vec![0; cell]; self.layout.code.coding()];
        let mut outputs: Vec<&mut [u8]> = coding.iter_mut().map(Vec::as_mut_slice).collect();
        self.layout.code.encode(&data, &mut outputs);
        let cells = data.into_iter().chain(coding.iter().map(Vec::as_slice));
        for (slot, (cell_bytes, shard)) in cells.zip(&mut self.shards).enumerate() {
            let len = self.layout.cell_len(slot, live) as usize;
            shard.extend_from_slice(&cell_bytes[..len]);
        }
        if live < self.layout.striping.stripe_bytes() {
            self.flush(changes);
        }
    }

    fn zeros(&mut self, changes: &mut [Vec<Change>], number: u64) {
        self.flush(changes);
        let (offset, length) = (number * self.layout.cell(), self.layout.cell());
        for changes in changes {
            match changes.last_mut() {
                Some(Change::Zero { offset: at, length: len }) if *at + *len == offset => {
                    *len += length;
                }
                _ => changes.push(Change::Zero { offset, length }),
            }
        }
    }

    fn flush(&mut self, changes: &mut [Vec<Change>]) {
        let offset = self.first * self.layout.cell();
        for (shard, changes) in self.shards.iter_mut().zip(changes) {
            let data = std::mem::take(shard).freeze();
            if !data.is_empty() {
                changes.push(Change::Write { offset, data });
            }
        }
    }
}
