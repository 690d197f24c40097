//! Room for extents, written with zeros ahead of need.
//!
//! A write to space that is merely allocated makes the file system change its own records, and every flush
//! then waits for its journal: a small extent takes twice the time. So the file grows a little ahead, and
//! what is new is written with zeros while the disk has little else to do. Who needs it earlier gets it as
//! it is. Large extents are not worth it: zeros would double what the disk writes for them, and the file system's
//! records are few beside their bytes. So no more is prepared than small extents have used.

use super::allocator::Run;
use super::{LogStore, Purpose, REQUEST_BYTES_MAX};
use crate::store::disk::{Durability, Request};

/// Free room below which more is prepared.
const AHEAD_BYTES: u64 = 32 << 20;

/// From here on an extent is large.
const LARGE_BYTES: usize = 256 << 10;

/// With more than this in flight the disk has enough to do.
const BUSY_BYTES: u64 = 2 << 20;

/// What is being prepared.
#[derive(Debug, Default)]
pub(super) struct Preparing {
    /// Not begun.
    rest: Option<Run>,
    /// Being written.
    busy: Option<Run>,
    /// What small extents have used, less what was prepared since; no more than [`AHEAD_BYTES`].
    owed: u64,
}

impl Preparing {
    /// Bytes that will be free.
    pub(super) fn bytes(&self) -> u64 {
        self.rest.into_iter().chain(self.busy).map(|run| run.length).sum()
    }

    /// Notes an extent of a client.
    pub(super) fn note(&mut self, bytes: usize) {
        if bytes < LARGE_BYTES {
            self.owed = AHEAD_BYTES.min(self.owed + bytes as u64);
        }
    }

    /// What is not begun, for somebody who cannot wait.
    pub(super) fn take_rest(&mut self) -> Option<Run> {
        self.rest.take()
    }
}

impl LogStore {
    /// Prepares room, if small extents use it and there is little of it.
    pub(super) fn prepare_room(&mut self) {
        if self.preparing.owed == 0
            || self.preparing.busy.is_some()
            || self.in_flight_bytes > BUSY_BYTES
        {
            return;
        }
        if self.preparing.rest.is_none() && self.state.allocator.free_bytes() < AHEAD_BYTES {
            // Without room there is nothing to prepare; who needs some is told.
            self.preparing.rest = self.extend(1).ok();
        }
        let Some(rest) = self.preparing.rest.take() else { return };
        let bytes = rest.length.min(REQUEST_BYTES_MAX as u64);
        let behind = Run { offset: rest.offset + bytes, length: rest.length - bytes };
        self.preparing.rest = (behind.length > 0).then_some(behind);
        self.preparing.busy = Some(Run { offset: rest.offset, length: bytes });
        self.preparing.owed = self.preparing.owed.saturating_sub(bytes);
        let mut buffer = self.pool.take(bytes as usize);
        buffer.fill([]);
        let request = Request::Write { offset: rest.offset, buffer, durability: Durability::None };
        self.submit_io(Purpose::Prepare, request);
    }

    pub(super) fn handle_prepared(&mut self) {
        if let Some(run) = self.preparing.busy.take() {
            self.state.allocator.give_back(run);
        }
    }
}
