//! Where the bytes of an object lie in the slots.
//!
//! An object is cut into *stripes* of k *cells*; cell j of every stripe goes to data slot j, one behind the
//! other. What a slot has of an object is its *shard*. The last stripe is padded with zeros, so that all shards of
//! an object have one length, of whole cells, and coding shards are coded from data shards position by position.

use std::ops::Range;

/// Cells are whole units of the engine.
pub const CELL_BYTES_UNIT: u32 = 4096;

/// The largest cell: what is coded at once must stay in the processor's cache.
pub const CELL_BYTES_MAX: u32 = 65_536;

/// The cell of profiles that name none. A small read touches one slot as long as it stays within a cell, which
/// asks for large ones; an object wastes half a stripe on average, and a write that covers no whole stripe has to
/// read one first, which ask for small ones. At 4 + 2 this makes stripes of 64 KiB, the most that the engine
/// takes as a small write.
pub const CELL_BYTES_DEFAULT: u32 = 16_384;

/// How objects lie over the data slots.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Striping {
    /// Data slots: k.
    pub data: usize,
    /// Bytes of a stripe in one slot.
    pub cell_bytes: u32,
}

/// A run of an object's bytes within one cell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Piece {
    /// The data slot.
    pub slot: usize,
    /// Where in its shard.
    pub shard_offset: u64,
    /// Where in the object.
    pub offset: u64,
    /// How long; at most a cell.
    pub len: usize,
}

impl Striping {
    /// Bytes of the object in a stripe.
    pub fn stripe_bytes(&self) -> u64 {
        self.data as u64 * u64::from(self.cell_bytes)
    }

    /// Bytes of every slot's shard of an object of this size.
    pub fn shard_bytes(&self, object_bytes: u64) -> u64 {
        object_bytes.div_ceil(self.stripe_bytes()) * u64::from(self.cell_bytes)
    }

    /// The whole stripes that a range of the object touches, as a range of the object; empty stays empty.
    pub fn stripes(&self, range: Range<u64>) -> Range<u64> {
        let stripe = self.stripe_bytes();
        if range.is_empty() {
            let start = range.start / stripe * stripe;
            return start..start;
        }
        range.start / stripe * stripe..range.end.div_ceil(stripe) * stripe
    }

    /// What whole stripes are in every shard. The range must be of whole stripes.
    pub fn cells(&self, stripes: Range<u64>) -> Range<u64> {
        let stripe = self.stripe_bytes();
        assert!(
            stripes.start.is_multiple_of(stripe) && stripes.end.is_multiple_of(stripe),
            "{stripes:?} is of whole stripes"
        );
        let cell = u64::from(self.cell_bytes);
        stripes.start / stripe * cell..stripes.end / stripe * cell
    }

    /// The runs that a range of the object consists of, in order.
    pub fn pieces(&self, range: Range<u64>) -> impl Iterator<Item = Piece> + use<> {
        let Striping { data, cell_bytes } = *self;
        let cell_bytes = u64::from(cell_bytes);
        let mut offset = range.start;
        std::iter::from_fn(move || {
            let (cell, within) = (offset / cell_bytes, offset % cell_bytes);
            let len = (cell_bytes - within).min(range.end.checked_sub(offset)?);
            let (stripe, slot) = (cell / data as u64, (cell % data as u64) as usize);
            let piece = Piece {
                slot,
                shard_offset: stripe * cell_bytes + within,
                offset,
                len: len as usize,
            };
            offset += len;
            (len > 0).then_some(piece)
        })
    }

    /// Deals bytes that begin with a stripe to the data slots: k shards of whole cells, padded with zeros.
    pub fn split(&self, bytes: &[u8]) -> Vec<Vec<u8>> {
        let shard_bytes = self.shard_bytes(bytes.len() as u64) as usize;
        let mut shards: Vec<Vec<u8>> =
            (0..self.data).map(|_| Vec::with_capacity(shard_bytes)).collect();
        for (cell, bytes) in bytes.chunks(self.cell_bytes as usize).enumerate() {
            shards[cell % self.data].extend_from_slice(bytes);
        }
        shards.iter_mut().for_each(|shard| shard.resize(shard_bytes, 0));
        shards
    }

    /// The inverse of [`Striping::split`]: the first `len` bytes of what the shards hold together. They must
    /// be long enough.
    pub fn join(&self, shards: &[&[u8]], len: usize) -> Vec<u8> {
        assert_eq!(shards.len(), self.data, "joining takes every data slot");
        let mut bytes = Vec::with_capacity(len);
        for piece in self.pieces(0..len as u64) {
            bytes
                .extend_from_slice(&shards[piece.slot][piece.shard_offset as usize..][..piece.len]);
        }
        bytes
    }
}
