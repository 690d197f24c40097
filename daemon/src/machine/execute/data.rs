//! The parts of a vector's results that need bytes from the store.
//!
//! Bytes never decide what a vector changes, only whether a `CompareData` lets it: so a vector is
//! evaluated at once, with holes where bytes belong, and [`Pending::finish`] fills them when they were read.
//! All that the answer consists of is therefore of one moment, provided that the reads are given to the
//! store in the same step.

use super::{Done, Execution};
use crate::store::{Change, StoreError};
use bytes::{Bytes, BytesMut};
use store_base::codec::Encode;
use store_base::op::{OpResult, SparseData, errno};

/// What becomes of the bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Use {
    /// They are the result.
    Answer,
    /// Those of these ranges are the result.
    Sparse(Vec<(u64, u64)>),
    /// They must be these.
    Compare(Bytes),
}

/// One hole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Part {
    /// Which op.
    pub(super) op: usize,
    pub(super) offset: u64,
    /// Clipped to the object's size, but for a comparison.
    pub(super) length: u64,
    /// How much of it is read from the store, from `offset` on; 0 for nothing.
    pub(super) stored: u64,
    /// So many of the vector's own changes come before this op.
    pub(super) patches: usize,
    pub(super) what: Use,
}

/// A vector that was evaluated but for bytes that the store must read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pending {
    pub(super) parts: Vec<Part>,
    pub(super) patches: Vec<Change>,
    pub(super) done: Done,
    /// Where `Failed` says what the object's user version is.
    pub(super) user_version: u64,
}

impl Pending {
    pub(super) fn new(
        parts: Vec<Part>,
        patches: Vec<Change>,
        done: Done,
        user_version: u64,
    ) -> Pending {
        Pending { parts, patches, done, user_version }
    }

    /// Waits for bytes, or is finished at once if the store has none of them.
    pub(super) fn settle(self) -> Execution {
        match self.parts.iter().all(|part| part.stored == 0) {
            true => self.finish(Vec::new()),
            false => Execution::NeedData(self),
        }
    }

    /// The ranges (offset, length) to be read with `Store::read`, in this order, in the same step.
    pub fn reads(&self) -> Vec<(u64, u64)> {
        let stored = self.parts.iter().filter(|part| part.stored > 0);
        stored.map(|part| (part.offset, part.stored)).collect()
    }

    /// Whether the vector changes the object if its comparisons hold. Then no other mutation of the
    /// object may be executed before this one was finished.
    pub fn mutates(&self) -> bool {
        self.done.mutation.is_some()
    }

    /// Fills in what was read: one answer for each of `reads`, in that order. The outcome is `Done`,
    /// `Failed` or `Unreadable`.
    pub fn finish(mut self, data: Vec<Result<Bytes, StoreError>>) -> Execution {
        let mut data = data.into_iter();
        let mut damage = None;
        for part in std::mem::take(&mut self.parts) {
            let stored = if part.stored > 0 {
                match data.next().expect("one answer for each read") {
                    Ok(bytes) if bytes.len() as u64 >= part.stored => {
                        bytes.slice(..part.stored as usize)
                    }
                    Ok(bytes) => {
                        let short = format!(
                            "read {} of {} bytes at {} within the object",
                            bytes.len(),
                            part.stored,
                            part.offset
                        );
                        damage.get_or_insert(StoreError::Damaged(short));
                        continue;
                    }
                    Err(error) => {
                        damage.get_or_insert(error);
                        continue;
                    }
                }
            } else {
                Bytes::new()
            };
            if damage.is_some() {
                continue;
            }
            let bytes = patched(&part, stored, &self.patches[..part.patches]);
            let result = match part.what {
                Use::Answer => bytes,
                Use::Sparse(extents) => sparse(part.offset, extents, &bytes),
                Use::Compare(expected) if bytes == expected => Bytes::new(),
                Use::Compare(_) => {
                    let mut results = self.done.results;
                    results.truncate(part.op);
                    results.push(OpResult { code: -errno::ECANCELED, data: Bytes::new() });
                    return Execution::Failed { results, user_version: self.user_version };
                }
            };
            self.done.results[part.op].data = result;
        }
        match damage {
            Some(error) => Execution::Unreadable(error),
            None if self.done.results.last().is_some_and(|last| last.code < 0) => {
                let results = self.done.results;
                Execution::Failed { results, user_version: self.user_version }
            }
            None => Execution::Done(self.done),
        }
    }
}

/// The part's bytes after the vector's own changes.
fn patched(part: &Part, stored: Bytes, patches: &[Change]) -> Bytes {
    let length = part.length as usize;
    if stored.len() == length && patches.is_empty() {
        return stored;
    }
    let mut bytes = BytesMut::zeroed(length);
    bytes[..stored.len()].copy_from_slice(&stored);
    lay(&mut bytes, part.offset, patches);
    bytes.freeze()
}

/// Lays changes over the bytes of an object from `start` on.
pub(crate) fn lay(bytes: &mut [u8], start: u64, patches: &[Change]) {
    let end = start + bytes.len() as u64;
    // The overlap of a range with the bytes, as positions in them.
    let within = |from: u64, to: u64| {
        let (from, to) = (from.max(start), to.min(end));
        (from < to).then(|| (from - start) as usize..(to - start) as usize)
    };
    for patch in patches {
        match patch {
            Change::Write { offset, data } => {
                if let Some(range) = within(*offset, offset + data.len() as u64) {
                    let skip = (start + range.start as u64 - offset) as usize;
                    bytes[range.clone()].copy_from_slice(&data[skip..skip + range.len()]);
                }
            }
            Change::Zero { offset, length } => {
                if let Some(range) = within(*offset, offset + length) {
                    bytes[range].fill(0);
                }
            }
            Change::Truncate { size } => {
                if let Some(range) = within(*size, u64::MAX) {
                    bytes[range].fill(0);
                }
            }
            Change::Remove {} => bytes.fill(0),
            _ => {}
        }
    }
}

fn sparse(offset: u64, extents: Vec<(u64, u64)>, bytes: &Bytes) -> Bytes {
    let mut data = BytesMut::new();
    for (at, length) in &extents {
        let from = (at - offset) as usize;
        data.extend_from_slice(&bytes[from..from + *length as usize]);
    }
    SparseData { extents, data: data.freeze() }.to_bytes()
}
