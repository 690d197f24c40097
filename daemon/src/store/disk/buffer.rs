//! Buffers that the disk takes without copying: aligned to [`BLOCK_BYTES`], recycled, owned.

use std::ops::{Deref, DerefMut};
use std::sync::{Arc, Mutex};

/// The unit of the medium: offsets and lengths of every request are multiples of it, and so are the
/// addresses of buffers.
pub const BLOCK_BYTES: usize = 4096;

/// Most bytes that a pool keeps for later: as much as is in flight under load. Fresh memory costs more than the copy
/// into it.
pub const POOL_BYTES_MAX: usize = 10 << 20;

/// The next multiple of the block.
pub fn round_up(bytes: u64) -> u64 {
    bytes.next_multiple_of(BLOCK_BYTES as u64)
}

#[derive(Debug, Default)]
struct Idle {
    /// By power of two of the block.
    classes: Vec<Vec<Vec<u8>>>,
    bytes: usize,
}

/// Where buffers come from and return to. Clones are the same pool.
#[derive(Clone, Debug, Default)]
pub struct Pool(Arc<Mutex<Idle>>);

impl Pool {
    /// A buffer of at least `len` bytes, rounded up to whole blocks. Its content is undefined: it may be
    /// that of an earlier use.
    pub fn take(&self, len: usize) -> Buffer {
        let len = len.max(1).next_multiple_of(BLOCK_BYTES);
        let class = (len / BLOCK_BYTES).next_power_of_two().trailing_zeros() as usize;
        let kept = {
            let mut idle = self.0.lock().expect("no holder of this lock panics");
            let kept = idle.classes.get_mut(class).and_then(Vec::pop);
            if let Some(raw) = &kept {
                idle.bytes -= raw.len();
            }
            kept
        };
        // One block more than the class, so that an aligned start can be found within.
        let raw = kept.unwrap_or_else(|| vec![0; (BLOCK_BYTES << class) + BLOCK_BYTES]);
        let start = raw.as_ptr().align_offset(BLOCK_BYTES);
        Buffer { raw, start, len, class, home: self.clone() }
    }

    fn give(&self, class: usize, raw: Vec<u8>) {
        let mut idle = self.0.lock().expect("no holder of this lock panics");
        if idle.bytes + raw.len() > POOL_BYTES_MAX {
            return;
        }
        idle.bytes += raw.len();
        if idle.classes.len() <= class {
            idle.classes.resize_with(class + 1, Vec::new);
        }
        idle.classes[class].push(raw);
    }
}

/// An aligned buffer of whole blocks. Returns to its pool when dropped.
#[derive(Debug)]
pub struct Buffer {
    raw: Vec<u8>,
    start: usize,
    len: usize,
    class: usize,
    home: Pool,
}

impl Buffer {
    /// Copies `pieces` to the front and zeroes what is left.
    pub fn fill<'a>(&mut self, pieces: impl IntoIterator<Item = &'a [u8]>) {
        let mut at = 0;
        for piece in pieces {
            self[at..at + piece.len()].copy_from_slice(piece);
            at += piece.len();
        }
        self[at..].fill(0);
    }
}

impl Deref for Buffer {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.raw[self.start..self.start + self.len]
    }
}

impl DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.raw[self.start..self.start + self.len]
    }
}

impl AsRef<[u8]> for Buffer {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        self.home.give(self.class, std::mem::take(&mut self.raw));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffers_are_aligned_rounded_and_recycled() {
        let pool = Pool::default();
        for len in [1, 4096, 4097, 70_000, 1 << 20] {
            let mut buffer = pool.take(len);
            assert_eq!(buffer.as_ptr().align_offset(BLOCK_BYTES), 0);
            assert_eq!(buffer.len(), len.next_multiple_of(BLOCK_BYTES));
            buffer.fill([&[7; 1][..]]);
            assert_eq!((buffer[0], buffer[1]), (7, 0));
        }
        let first = pool.take(5000);
        let at = first.as_ptr();
        drop(first);
        assert_eq!(pool.take(8000).as_ptr(), at);
    }
}
