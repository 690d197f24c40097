//! Erasure-coded groups: every member has one slot of every object.
//!
//! The rules are those of groups with copies (R1 to R14). What differs:
//!
//! - **Objects.** A member keeps its shard as an ordinary object of the same name. Version, size (of the whole
//!   object) and xattrs are whole on every member; there is no omap. Bytes behind the end of a shard read as zeros.
//! - **Writes.** The primary runs the op vector against the whole object, and makes of its mutation one for each
//!   slot (`encode`). Stripes that are changed in part are read first. All members stage entries of one version,
//!   request and answer, each with its own mutation; the primary keeps those of the others while an entry is open,
//!   or a learner may need it.
//! - **Takeover** (`cut`). Nobody can give others the entries that they lack, so the log at the start of an interval
//!   is the shortest of its members': what was committed is staged at every one of them. All drop what is behind.
//!   For the same reason an active group decides what it began with however few its members are, and its members
//!   are its writers from then on: a learner must be able to adopt the log.
//! - **Reads** (`gather`). From data slots if all that are needed are there, else from any k.
//! - **Copies.** The primary rebuilds the slot of whoever pulls, itself too (it sends to itself).
//! - **Slots** are the monitor's to give. A daemon that is to have another slot is a learner then, and drops what it
//!   had before it confirms.
//!
//! # Invariants
//!
//! - While bytes of an object are gathered it does not change: gathering begins when nothing of it is open, and
//!   writes of it wait. So all shards are of the version that the primary has.
//! - Only members of the interval that were synced are asked for shards.

mod cut;
mod encode;
mod fetch;
mod gather;
#[cfg(test)]
mod tests;

use encode::Plan;
pub(crate) use fetch::{Fetch, Fetching};
pub(crate) use gather::Gather;

use super::pg::Pg;
use crate::store::LogEntry;
use store_base::DaemonId;
use store_base::erasure::{Code, CodeError, Striping};
use store_base::map::Erasure;

/// How the objects of a pool lie over its slots, and how they are coded.
#[derive(Clone, Debug)]
pub struct Layout {
    of: Erasure,
    /// The code.
    pub code: Code,
    /// Which byte lies where.
    pub striping: Striping,
}

impl Layout {
    /// Of a pool. Fails if there is no such code.
    pub fn new(erasure: &Erasure) -> Result<Layout, CodeError> {
        let code = Code::new(erasure.technique, erasure.data.into(), erasure.coding.into())?;
        Ok(Layout { of: erasure.clone(), code, striping: erasure.striping() })
    }

    /// Whether it is of these parameters.
    pub(crate) fn is_of(&self, erasure: &Erasure) -> bool {
        self.of == *erasure
    }

    /// k.
    pub(crate) fn data(&self) -> usize {
        self.code.data()
    }

    /// k + m.
    pub fn slots(&self) -> usize {
        self.code.data() + self.code.coding()
    }

    /// Bytes of a stripe in one slot.
    pub(crate) fn cell(&self) -> u64 {
        u64::from(self.striping.cell_bytes)
    }

    /// How many bytes of its last cell a slot keeps, if the last stripe of an object has `live` bytes.
    fn cell_len(&self, slot: usize, live: u64) -> u64 {
        let before = if slot < self.data() { slot as u64 * self.cell() } else { 0 };
        live.saturating_sub(before).min(self.cell())
    }

    /// How many bytes a slot keeps of an object of this size.
    pub fn shard_len(&self, slot: usize, size: u64) -> u64 {
        let stripe = self.striping.stripe_bytes();
        size / stripe * self.cell() + self.cell_len(slot, size % stripe)
    }

    /// What the slots of an object with these bytes are, each cut to its length: for tests and checks.
    pub fn shards(&self, bytes: &[u8]) -> Vec<Vec<u8>> {
        let mut shards = self.striping.split(bytes);
        let length = shards.first().map_or(0, Vec::len);
        let mut coding = vec![vec![0; length]; self.code.coding()];
        let data: Vec<&[u8]> = shards.iter().map(Vec::as_slice).collect();
        let mut outputs: Vec<&mut [u8]> = coding.iter_mut().map(Vec::as_mut_slice).collect();
        self.code.encode(&data, &mut outputs);
        shards.extend(coding);
        for (slot, shard) in shards.iter_mut().enumerate() {
            shard.truncate(self.shard_len(slot, bytes.len() as u64) as usize);
        }
        shards
    }
}

impl Pg {
    /// Whether a pull of this daemon from itself is a rebuild of its own slot.
    pub(crate) fn rebuilds(&self) -> bool {
        self.slots.is_some()
    }

    /// An entry as another daemon must have it: with the mutation of its slot, if that is known here.
    pub(crate) fn entry_for(&self, to: DaemonId, entry: &LogEntry) -> LogEntry {
        let (Some(_), super::pg::Role::Primary(primary)) = (&self.slots, &self.role) else {
            return entry.clone();
        };
        let slot = self.confirmed.slot(to);
        let shards = primary.shards.get(&entry.version);
        let mutation = slot.and_then(|slot| shards?.get(slot).cloned());
        LogEntry { mutation, ..entry.clone() }
    }
}
