//! Where the bytes of an object are: pieces, and how they are cut.
//!
//! Invariants of a [`Piece`]:
//! - `crcs` has one checksum for every started block of `1 << shift` bytes of the `stored` bytes.
//! - `skip` is below one block: blocks that are not needed are not named.
//! - `skip + length <= stored`.
//!
//! Pieces of an object do not overlap. What is between them reads as zero.

use super::format::checksum;
use bytes::Bytes;
use std::collections::BTreeMap;

/// Blocks of small data, as power of two: a small read of a larger piece stays small.
pub const SHIFT_SMALL: u8 = 12;

/// Blocks of large data, as power of two.
pub const SHIFT_LARGE: u8 = 16;

/// Where stored bytes are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// In the log: the data of a batch.
    Log {
        /// Of the batch.
        seq: u64,
        /// In its data.
        offset: u32,
    },
    /// In an extent.
    Disk {
        /// Offset in the file.
        offset: u64,
    },
}
store_base::codec_enum!(Place { 1 => Log { seq, offset }, 2 => Disk { offset } });

impl Place {
    /// Whether so many bytes from here on can be counted.
    fn has_room(self, bytes: u32) -> bool {
        match self {
            Place::Log { offset, .. } => offset.checked_add(bytes).is_some(),
            Place::Disk { offset } => offset.checked_add(bytes.into()).is_some(),
        }
    }

    fn behind(self, bytes: u32) -> Place {
        match self {
            Place::Log { seq, offset } => Place::Log { seq, offset: offset + bytes },
            Place::Disk { offset } => Place::Disk { offset: offset + u64::from(bytes) },
        }
    }
}

/// A run of an object's bytes that is stored in one place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Piece {
    /// Bytes of the object.
    pub length: u32,
    /// Of the first stored byte.
    pub place: Place,
    /// Stored bytes that the checksums cover.
    pub stored: u32,
    /// Stored bytes before the first that is wanted.
    pub skip: u32,
    /// Power of two of the checksums' blocks.
    pub shift: u8,
    /// crc32c of each block.
    pub crcs: Vec<u32>,
}
store_base::codec_struct!(Piece { length, place, stored, skip, shift, crcs });

impl Piece {
    /// A piece for bytes that are to be stored at `place`.
    pub fn new(data: &[u8], place: Place, shift: u8) -> Piece {
        let length = u32::try_from(data.len()).expect("a write is below 4 GiB");
        let crcs = data.chunks(1 << shift).map(checksum).collect();
        Piece { length, place, stored: length, skip: 0, shift, crcs }
    }

    /// Whether the invariants hold: for pieces that were read from a medium.
    pub fn is_valid(&self) -> bool {
        let block = 1u64.checked_shl(self.shift.into()).unwrap_or(0);
        (9..=24).contains(&self.shift)
            && self.length > 0
            && u64::from(self.skip) < block
            && u64::from(self.skip) + u64::from(self.length) <= u64::from(self.stored)
            && self.place.has_room(self.stored)
            && self.crcs.len() as u64 == u64::from(self.stored).div_ceil(block)
    }

    /// The piece for the bytes `from` to `to` of this one, with no more blocks than they need.
    pub fn cut(&self, from: u32, to: u32) -> Piece {
        assert!(from < to && to <= self.length, "a cut is within the piece");
        let block = 1u32 << self.shift;
        let start = self.skip + from;
        let dropped = start / block;
        let skip = start % block;
        let stored = self.stored - dropped * block;
        let blocks = (skip + (to - from)).div_ceil(block);
        Piece {
            length: to - from,
            place: self.place.behind(dropped * block),
            stored: stored.min(blocks.saturating_mul(block)),
            skip,
            shift: self.shift,
            crcs: self.crcs[dropped as usize..(dropped + blocks) as usize].to_vec(),
        }
    }

    /// Whether stored bytes (read from the medium) are those that were written.
    pub fn verify(&self, stored: &[u8]) -> bool {
        stored.len() == self.stored as usize
            && stored.chunks(1 << self.shift).map(checksum).eq(self.crcs.iter().copied())
    }

    /// Joins a piece that follows in the object, if it also follows on the medium.
    fn join(&mut self, next: &Piece) -> bool {
        let whole =
            self.skip + self.length == self.stored && self.stored.is_multiple_of(1 << self.shift);
        let follows = whole
            && next.skip == 0
            && next.shift == self.shift
            && next.place == self.place.behind(self.stored)
            && u64::from(self.stored) + u64::from(next.stored) <= PIECE_BYTES_MAX;
        if follows {
            self.length += next.length;
            self.stored += next.stored;
            self.crcs.extend_from_slice(&next.crcs);
        }
        follows
    }
}

/// Pieces are not joined beyond this.
const PIECE_BYTES_MAX: u64 = 1 << 20;

/// Who counts the users of extents.
pub trait References {
    /// One more piece uses these bytes.
    fn retain(&mut self, piece: &Piece);
    /// One less does.
    fn release(&mut self, piece: &Piece);
}

/// The pieces of an object, by offset.
pub type Pieces = BTreeMap<u64, Piece>;

/// Makes a range hold nothing.
pub fn clear(pieces: &mut Pieces, from: u64, to: u64, references: &mut impl References) {
    if from >= to {
        return;
    }
    let first = pieces
        .range(..from)
        .next_back()
        .filter(|(at, piece)| *at + u64::from(piece.length) > from)
        .map(|(at, _)| *at);
    let touched: Vec<u64> =
        first.into_iter().chain(pieces.range(from..to).map(|(at, _)| *at)).collect();
    for at in touched {
        let piece = pieces.remove(&at).expect("just found");
        let end = at + u64::from(piece.length);
        // What stays is counted before the whole is given up: its extents are never free in between.
        if at < from {
            let left = piece.cut(0, (from - at) as u32);
            references.retain(&left);
            pieces.insert(at, left);
        }
        if end > to {
            let right = piece.cut((to - at) as u32, piece.length);
            references.retain(&right);
            pieces.insert(to, right);
        }
        references.release(&piece);
    }
}

/// Puts new pieces, which are counted already, one behind the other from `offset`.
pub fn put(pieces: &mut Pieces, offset: u64, new: Vec<Piece>, references: &mut impl References) {
    let length: u64 = new.iter().map(|piece| u64::from(piece.length)).sum();
    clear(pieces, offset, offset + length, references);
    let mut at = offset;
    for piece in new {
        let next = at + u64::from(piece.length);
        pieces.insert(at, piece);
        at = next;
    }
}

/// Moves the bytes of an object's range that are stored in `bytes` of the data of a batch to an extent.
/// `true` if any were there.
pub fn relocate(
    pieces: &mut Pieces,
    range: std::ops::Range<u64>,
    seq: u64,
    bytes: &std::ops::Range<u32>,
    to: u64,
    references: &mut impl References,
) -> bool {
    let first = pieces.range(..range.start).next_back().map_or(range.start, |(at, _)| *at);
    let mut moved = false;
    for (_, piece) in pieces.range_mut(first..range.end.max(first)) {
        moved |= relocate_piece(piece, seq, bytes, to, references);
    }
    moved
}

/// Cuts a piece of a batch's data where `bytes` begins and ends within it. Both must be where blocks of the
/// stored bytes begin. `None` if there is nothing to cut.
pub fn divide_piece(piece: &Piece, seq: u64, bytes: &std::ops::Range<u32>) -> Option<Vec<Piece>> {
    let Place::Log { seq: at, offset } = piece.place else { return None };
    let bounds = [bytes.start, bytes.end].into_iter().filter_map(|bound| {
        let within = bound.checked_sub(offset)?.checked_sub(piece.skip)?;
        (at == seq && within > 0 && within < piece.length).then_some(within)
    });
    let mut parts = Vec::new();
    let mut from = 0;
    for bound in bounds {
        parts.push(piece.cut(from, bound));
        from = bound;
    }
    (from > 0).then(|| {
        parts.push(piece.cut(from, piece.length));
        parts
    })
}

/// As [`divide_piece`], for all pieces of an object's range.
pub fn divide(
    pieces: &mut Pieces,
    range: std::ops::Range<u64>,
    seq: u64,
    bytes: &std::ops::Range<u32>,
) {
    let divided: Vec<(u64, Vec<Piece>)> = within(pieces, range.start, range.end)
        .filter_map(|(at, piece, _, _)| Some((at, divide_piece(piece, seq, bytes)?)))
        .collect();
    for (mut at, parts) in divided {
        for part in parts {
            let length = u64::from(part.length);
            pieces.insert(at, part);
            at += length;
        }
    }
}

/// Whether pieces can be those of one object: none overlaps the next, and none ends beyond what can be
/// counted. For pieces that were read from a medium.
pub fn are_apart(pieces: &Pieces) -> bool {
    let mut end = 0;
    pieces.iter().all(|(at, piece)| {
        let apart = *at >= end;
        let next = at.checked_add(piece.length.into());
        end = next.unwrap_or(u64::MAX);
        apart && next.is_some()
    })
}

/// Whether any bytes of an object's range are stored in `bytes` of the data of a batch.
pub fn is_stored_in(
    pieces: &Pieces,
    range: std::ops::Range<u64>,
    seq: u64,
    bytes: &std::ops::Range<u32>,
) -> bool {
    within(pieces, range.start, range.end).any(|(_, piece, _, _)| match piece.place {
        Place::Log { seq: at, offset } => at == seq && bytes.contains(&offset),
        Place::Disk { .. } => false,
    })
}

/// As [`relocate`], for one piece.
pub fn relocate_piece(
    piece: &mut Piece,
    seq: u64,
    bytes: &std::ops::Range<u32>,
    to: u64,
    references: &mut impl References,
) -> bool {
    let Place::Log { seq: at, offset } = piece.place else { return false };
    if at != seq || offset < bytes.start || offset + piece.stored > bytes.end {
        return false;
    }
    piece.place = Place::Disk { offset: to + u64::from(offset - bytes.start) };
    references.retain(piece);
    true
}

/// Joins pieces that follow each other on the medium: an object written in small steps becomes a few
/// large pieces when it leaves the log. The users of a unit that both have are counted once less.
pub fn join_all(pieces: &mut Pieces, references: &mut impl References) {
    let mut joined: Vec<(u64, Piece)> = Vec::with_capacity(pieces.len());
    let mut any = false;
    for (at, piece) in pieces.iter() {
        if let Some((last_at, last)) = joined.last_mut()
            && *last_at + u64::from(last.length) == *at
            && matches!(piece.place, Place::Disk { .. })
        {
            let before = last.clone();
            if last.join(piece) {
                references.retain(last);
                references.release(&before);
                references.release(piece);
                any = true;
                continue;
            }
        }
        joined.push((*at, piece.clone()));
    }
    if any {
        *pieces = joined.into_iter().collect();
    }
}

/// Bytes of a range that hold data, ascending, joined where they touch.
pub fn ranges(pieces: &Pieces, from: u64, to: u64) -> Vec<(u64, u64)> {
    let mut found: Vec<(u64, u64)> = Vec::new();
    for (at, piece, start, end) in within(pieces, from, to) {
        let (start, end) = (at + u64::from(start), at + u64::from(end));
        debug_assert!(end - at <= u64::from(piece.length));
        match found.last_mut() {
            Some(last) if last.0 + last.1 == start => last.1 += end - start,
            _ => found.push((start, end - start)),
        }
    }
    found
}

/// The pieces that have bytes of a range: offset, piece, and which of its bytes.
pub fn within(
    pieces: &Pieces,
    from: u64,
    to: u64,
) -> impl Iterator<Item = (u64, &Piece, u32, u32)> {
    let first = pieces.range(..from).next_back().map_or(from, |(at, _)| *at);
    pieces.range(first..to.max(first)).filter_map(move |(at, piece)| {
        let start = from.saturating_sub(*at).min(u64::from(piece.length)) as u32;
        let end = to.saturating_sub(*at).min(u64::from(piece.length)) as u32;
        (start < end).then_some((*at, piece, start, end))
    })
}

/// The wanted bytes of a piece's stored ones.
pub fn wanted(piece: &Piece, stored: &Bytes) -> Bytes {
    stored.slice(piece.skip as usize..(piece.skip + piece.length) as usize)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Default)]
    struct Count(i64);

    impl References for Count {
        fn retain(&mut self, _: &Piece) {
            self.0 += 1;
        }
        fn release(&mut self, _: &Piece) {
            self.0 -= 1;
        }
    }

    fn data(len: usize) -> Vec<u8> {
        (0..len).map(|i| (i * 7 + i / 251) as u8).collect()
    }

    #[test]
    fn a_cut_keeps_only_the_blocks_it_needs_and_still_verifies() {
        let bytes = data(20_000);
        let piece = Piece::new(&bytes, Place::Disk { offset: 8192 }, SHIFT_SMALL);
        for (from, to) in [(0, 20_000), (1, 2), (4096, 8192), (4095, 4097), (19_999, 20_000)] {
            let cut = piece.cut(from, to);
            assert!(cut.is_valid(), "{cut:?}");
            let Place::Disk { offset } = cut.place else { panic!("moved") };
            let start = (offset - 8192) as usize;
            let stored = Bytes::copy_from_slice(&bytes[start..start + cut.stored as usize]);
            assert!(cut.verify(&stored));
            assert_eq!(wanted(&cut, &stored)[..], bytes[from as usize..to as usize]);
            assert_eq!(cut.cut(0, to - from), cut, "cutting nothing changes nothing");
        }
        assert_eq!(piece.cut(4096, 8192).crcs.len(), 1);
    }

    #[test]
    fn overlapping_writes_leave_the_last_and_count_right() {
        let (mut pieces, mut count) = (Pieces::new(), Count::default());
        let mut model = vec![None; 60_000];
        for i in 0u64..200 {
            let (at, len) = ((i * 7919) % 40_000, 1 + (i * 104_729) % 15_000);
            if i % 5 == 4 {
                clear(&mut pieces, at, at + len, &mut count);
                model[at as usize..(at + len) as usize].fill(None);
            } else {
                let place = Place::Log { seq: i, offset: 0 };
                let new = vec![Piece::new(&data(len as usize), place, SHIFT_SMALL)];
                count.0 += 1;
                put(&mut pieces, at, new, &mut count);
                (0..len).for_each(|k| model[(at + k) as usize] = Some((i, k)));
            }
            assert_eq!(count.0, pieces.len() as i64);
        }
        for (at, expected) in model.iter().enumerate() {
            let found = within(&pieces, at as u64, at as u64 + 1).next();
            let found = found.map(|(_, piece, start, end)| {
                let one = piece.cut(start, end);
                let Place::Log { seq, offset } = one.place else { panic!("moved") };
                (seq, u64::from(offset + one.skip))
            });
            assert_eq!(found, *expected, "byte {at}");
        }
        let total: u64 = ranges(&pieces, 0, 60_000).iter().map(|(_, len)| len).sum();
        assert_eq!(total, model.iter().flatten().count() as u64);
    }

    #[test]
    fn a_divided_piece_moves_in_parts_and_joins_again() {
        let bytes = data(10_000);
        let place = Place::Log { seq: 9, offset: 500 };
        let (mut pieces, mut count) = (Pieces::new(), Count::default());
        pieces.insert(70, Piece::new(&bytes, place, SHIFT_SMALL));
        clear(&mut pieces, 0, 90, &mut count);
        let mut to = 1 << 20;
        for from in [500, 4596, 8692] {
            let part = from..(from + 4096).min(10_500);
            let range = 70 + u64::from(part.start - 500)..70 + u64::from(part.end - 500);
            divide(&mut pieces, range.clone(), 9, &part);
            assert!(relocate(&mut pieces, range, 9, &part, to, &mut count));
            to += 4096;
        }
        assert_eq!(pieces.keys().copied().collect::<Vec<_>>(), [90, 4166, 8262]);
        assert!(pieces.values().all(Piece::is_valid) && are_apart(&pieces));
        join_all(&mut pieces, &mut count);
        assert_eq!((pieces.len(), pieces[&90].skip, pieces[&90].length), (1, 20, 9980));
        assert!(pieces[&90].verify(&bytes));
    }

    #[test]
    fn pieces_that_make_no_sense_are_noticed() {
        let piece = |place| Piece::new(&[1; 100], place, SHIFT_SMALL);
        assert!(!piece(Place::Log { seq: 1, offset: u32::MAX - 9 }).is_valid());
        assert!(!piece(Place::Disk { offset: u64::MAX - 9 }).is_valid());
        let good = piece(Place::Disk { offset: 1 << 20 });
        let at = |all: &[u64]| all.iter().map(|at| (*at, good.clone())).collect::<Pieces>();
        assert!(are_apart(&at(&[0, 100, 300])));
        assert!(!are_apart(&at(&[0, 99])) && !are_apart(&at(&[u64::MAX - 50])));
    }

    #[test]
    fn moved_pieces_join() {
        let (mut pieces, mut count) = (Pieces::new(), Count::default());
        let bytes = data(4096 * 3);
        for i in 0..3u32 {
            let place = Place::Log { seq: 9, offset: i * 4096 };
            let block = &bytes[i as usize * 4096..][..4096];
            put(
                &mut pieces,
                u64::from(i) * 4096,
                vec![Piece::new(block, place, SHIFT_SMALL)],
                &mut count,
            );
        }
        count.0 = 0;
        assert!(is_stored_in(&pieces, 0..1, 9, &(0..4096)));
        assert!(relocate(&mut pieces, 0..3 * 4096, 9, &(0..3 * 4096), 1 << 20, &mut count));
        assert!(!relocate(&mut pieces, 0..3 * 4096, 9, &(0..3 * 4096), 1 << 20, &mut count));
        join_all(&mut pieces, &mut count);
        assert_eq!((pieces.len(), count.0), (1, 1));
        assert!(pieces[&0].verify(&bytes) && pieces[&0].is_valid());
    }
}
