//! How long a method's reply may be. What does not fit a frame is an error for everybody who asks, and again each
//! time he does: a page is cut by its bytes, however long its records are.

/// A reply of more than one item has at most so many bytes, about, so that it fits a frame.
pub const REPLY_BYTES_MAX: usize = 512 << 10;

/// What an item takes besides its key and its record: lengths, tags, and what a record of an older version lacks.
const ITEM_BYTES: usize = 96;

/// How much of a reply is used.
#[derive(Default)]
pub(crate) struct Reply {
    bytes: usize,
}

impl Reply {
    /// Whether an item of so many bytes is to go in as well. The first always is: a record is shorter than a
    /// frame, and whoever goes on must get on.
    pub(crate) fn takes(&mut self, bytes: usize) -> bool {
        let fits = self.bytes == 0 || self.bytes + bytes + ITEM_BYTES <= REPLY_BYTES_MAX;
        if fits {
            self.goes_on_after(bytes);
        }
        fits
    }

    /// Counts an item that is in it whatever its length. Whether there is room for another one.
    pub(crate) fn goes_on_after(&mut self, bytes: usize) -> bool {
        self.bytes += bytes + ITEM_BYTES;
        self.bytes < REPLY_BYTES_MAX
    }
}
