//! Sealing and opening runs of segments as they stream by.
//!
//! The nonce of a segment is its number, and whether it is the last of its run; the associated data names the
//! run. Memory: one segment.

use super::keys::DataKey;
use bytes::{Bytes, BytesMut};
use ring::aead::{Aad, LessSafeKey, Nonce};
use std::collections::VecDeque;
use store_base::bucket::{DataRef, Manifest, SEAL_BYTES, SEALED_SEGMENT_BYTES, SEGMENT_BYTES};
use store_base::bucket::{WriteId, plain_bytes};

const SEGMENT: usize = SEGMENT_BYTES as usize;
const SEALED_SEGMENT: usize = SEALED_SEGMENT_BYTES as usize;

fn nonce(number: u64, last: bool) -> Nonce {
    let mut nonce = [0; 12];
    nonce[0] = u8::from(last);
    nonce[4..].copy_from_slice(&number.to_be_bytes());
    Nonce::assume_unique_for_key(nonce)
}

/// The run that stands for a body that travels with its entry.
fn inline_run(id: WriteId) -> DataRef {
    DataRef { id, ..DataRef::default() }
}

/// Seals a run.
pub struct Sealer {
    cipher: LessSafeKey,
    run: [u8; 22],
    next: u64,
    /// The segment that may be the last.
    held: BytesMut,
}

impl Sealer {
    /// Of a run that is about to be written.
    pub fn new(key: &DataKey, run: &DataRef) -> Sealer {
        let held = BytesMut::with_capacity(SEGMENT);
        Sealer { cipher: key.of_run(run), run: run.key(), next: 0, held }
    }

    /// Takes in more bytes, and puts what is sealed behind `out`.
    pub fn push(&mut self, mut data: &[u8], out: &mut BytesMut) {
        while self.held.len() + data.len() > SEGMENT {
            let taken = SEGMENT - self.held.len();
            self.held.extend_from_slice(&data[..taken]);
            data = &data[taken..];
            self.seal(false, out);
        }
        self.held.extend_from_slice(data);
    }

    /// The run ends here.
    pub fn finish(&mut self, out: &mut BytesMut) {
        if !self.held.is_empty() {
            self.seal(true, out);
        }
    }

    fn seal(&mut self, last: bool, out: &mut BytesMut) {
        let nonce = nonce(self.next, last);
        let tag = self
            .cipher
            .seal_in_place_separate_tag(nonce, Aad::from(self.run), &mut self.held)
            .expect("a segment is not too long");
        out.extend_from_slice(&self.held);
        out.extend_from_slice(tag.as_ref());
        self.held.clear();
        self.next += 1;
    }
}

/// What was read is not what was sealed: it is damaged, or another key's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Damaged;

/// A part of a run that is to be opened.
struct Stretch {
    run: DataRef,
    /// The number of the next segment.
    next: u64,
    /// The number of the run's last segment.
    last: u64,
    /// Sealed bytes still to come.
    sealed_left: u64,
    /// Plain bytes to leave out at the beginning.
    skip: usize,
    /// Plain bytes still to give out.
    left: u64,
}

/// Opens stretches of runs, one after the other.
pub struct Opener {
    key: DataKey,
    cipher: Option<LessSafeKey>,
    stretches: VecDeque<Stretch>,
    buffer: BytesMut,
}

/// Some of the sealed bytes of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sealed {
    /// The run.
    pub run: DataRef,
    /// The first byte, and how many.
    pub offset: u64,
    /// How many.
    pub length: u64,
}

impl Opener {
    /// For `offset..offset + length` of an encrypted body; and what of its runs must be read for that and
    /// pushed, in this order.
    pub fn new(
        key: DataKey,
        manifest: &Manifest,
        offset: u64,
        length: u64,
    ) -> (Opener, VecDeque<Sealed>) {
        let runs = manifest.refs();
        Self::of_runs(key, runs, offset, length)
    }

    fn of_runs(
        key: DataKey,
        runs: impl Iterator<Item = DataRef>,
        offset: u64,
        length: u64,
    ) -> (Opener, VecDeque<Sealed>) {
        let end = offset.saturating_add(length);
        let (mut start, mut reads, mut stretches) = (0u64, VecDeque::new(), VecDeque::new());
        for run in runs {
            let plain = plain_bytes(run.size);
            let (from, to) = (offset.max(start), end.min(start.saturating_add(plain)));
            if from < to {
                let (from, to) = (from - start, to - start);
                let (first, behind) = (from / SEGMENT_BYTES, to.div_ceil(SEGMENT_BYTES));
                let at = first * SEALED_SEGMENT_BYTES;
                let sealed_left = run.size.min(behind * SEALED_SEGMENT_BYTES) - at;
                reads.push_back(Sealed { run, offset: at, length: sealed_left });
                stretches.push_back(Stretch {
                    run,
                    next: first,
                    last: plain.div_ceil(SEGMENT_BYTES) - 1,
                    sealed_left,
                    skip: (from % SEGMENT_BYTES) as usize,
                    left: to - from,
                });
            }
            start = start.saturating_add(plain);
        }
        (Opener { key, cipher: None, stretches, buffer: BytesMut::new() }, reads)
    }

    /// Takes in more sealed bytes, and puts what is opened behind `out`.
    pub fn push(&mut self, mut data: &[u8], out: &mut BytesMut) -> Result<(), Damaged> {
        while !data.is_empty() {
            let stretch = self.stretches.front_mut().ok_or(Damaged)?;
            let whole = (SEALED_SEGMENT as u64).min(stretch.sealed_left) as usize;
            let taken = data.len().min(whole - self.buffer.len());
            self.buffer.extend_from_slice(&data[..taken]);
            data = &data[taken..];
            if self.buffer.len() == whole {
                self.open(out)?;
            }
        }
        Ok(())
    }

    /// Opens the segment in the buffer.
    fn open(&mut self, out: &mut BytesMut) -> Result<(), Damaged> {
        let stretch = self.stretches.front_mut().ok_or(Damaged)?;
        let cipher = self.cipher.get_or_insert_with(|| self.key.of_run(&stretch.run));
        let nonce = nonce(stretch.next, stretch.next == stretch.last);
        stretch.sealed_left -= self.buffer.len() as u64;
        let aad = Aad::from(stretch.run.key());
        let plain = cipher.open_in_place(nonce, aad, &mut self.buffer).map_err(|_| Damaged)?;
        let wanted = plain.get(stretch.skip..).ok_or(Damaged)?;
        let wanted =
            &wanted[..wanted.len().min(usize::try_from(stretch.left).unwrap_or(usize::MAX))];
        out.extend_from_slice(wanted);
        (stretch.skip, stretch.next) = (0, stretch.next + 1);
        stretch.left -= wanted.len() as u64;
        if stretch.sealed_left == 0 {
            self.stretches.pop_front();
            self.cipher = None;
        }
        self.buffer.clear();
        Ok(())
    }
}

/// Seals a body that travels with its entry.
pub fn seal_inline(key: &DataKey, id: WriteId, data: &[u8]) -> Bytes {
    let mut out = BytesMut::with_capacity(data.len() + SEAL_BYTES as usize);
    let mut sealer = Sealer::new(key, &inline_run(id));
    sealer.push(data, &mut out);
    sealer.finish(&mut out);
    out.freeze()
}

/// Opens a stretch of one.
pub fn open_inline(
    key: &DataKey,
    id: WriteId,
    data: &[u8],
    offset: u64,
    length: u64,
) -> Result<Bytes, Damaged> {
    let run = DataRef { size: data.len() as u64, ..inline_run(id) };
    let named = [DataRef { size: run.size, ..run }].into_iter();
    let (mut opener, reads) = Opener::of_runs(key.clone(), named, offset, length);
    let mut out = BytesMut::new();
    for read in reads {
        let (from, to) = (read.offset as usize, (read.offset + read.length) as usize);
        opener.push(data.get(from..to).ok_or(Damaged)?, &mut out)?;
    }
    match out.len() as u64 == length {
        true => Ok(out.freeze()),
        false => Err(Damaged),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use store_base::bucket::{ManifestPart, sealed_bytes};

    fn plain(len: usize) -> Vec<u8> {
        (0..len).map(|n| (n * 7 % 251) as u8).collect()
    }

    fn sealed(key: &DataKey, run: &DataRef, data: &[u8], step: usize) -> Vec<u8> {
        let mut sealer = Sealer::new(key, run);
        let mut out = BytesMut::new();
        data.chunks(step).for_each(|piece| sealer.push(piece, &mut out));
        sealer.finish(&mut out);
        out.to_vec()
    }

    /// An object of some parts, and what lies of each.
    fn object(key: &DataKey, sizes: &[usize]) -> (Manifest, Vec<u8>, Vec<Vec<u8>>) {
        let part = |(n, &size): (usize, &usize)| ManifestPart {
            number: n as u16 + 1,
            attempt: 9,
            size: sealed_bytes(size as u64),
        };
        let manifest =
            Manifest { parts: sizes.iter().enumerate().map(part).collect(), ..Manifest::default() };
        let all = plain(sizes.iter().sum());
        let mut rest = &all[..];
        let lying = manifest.refs().zip(sizes).map(|(run, &size)| {
            let (data, behind) = rest.split_at(size);
            rest = behind;
            sealed(key, &run, data, 100_000)
        });
        let lying = lying.collect();
        (manifest, all, lying)
    }

    fn read(
        key: &DataKey,
        manifest: &Manifest,
        lying: &[Vec<u8>],
        (offset, length): (usize, usize),
        step: usize,
    ) -> Result<Vec<u8>, Damaged> {
        let (mut opener, reads) = Opener::new(key.clone(), manifest, offset as u64, length as u64);
        let mut out = BytesMut::new();
        for read in reads {
            let bytes = &lying[usize::from(read.run.part) - 1];
            let bytes = &bytes[read.offset as usize..(read.offset + read.length) as usize];
            for piece in bytes.chunks(step) {
                opener.push(piece, &mut out)?;
            }
        }
        Ok(out.to_vec())
    }

    #[test]
    fn every_stretch_opens_to_what_it_was() {
        let key = DataKey::random();
        let sizes = [3 * SEGMENT, 0, SEGMENT + 1, 5, 2 * SEGMENT - 1];
        let (manifest, all, lying) = object(&key, &sizes);
        for (part, bytes) in manifest.parts.iter().zip(&lying) {
            assert_eq!(part.size, bytes.len() as u64);
        }
        let edges = [0, 1, SEGMENT - 1, SEGMENT, 3 * SEGMENT, 4 * SEGMENT + 1, 4 * SEGMENT + 6];
        for from in edges {
            for length in [0, 1, 6, SEGMENT, SEGMENT + 1, all.len() - from] {
                let length = length.min(all.len() - from);
                for step in [1 << 20, SEALED_SEGMENT, 1000] {
                    let opened = read(&key, &manifest, &lying, (from, length), step).unwrap();
                    assert!(opened == all[from..from + length], "{from} {length} {step}");
                }
            }
        }
    }

    #[test]
    fn only_what_is_needed_is_read() {
        let key = DataKey::random();
        let (manifest, _, _) = object(&key, &[10 * SEGMENT]);
        let (_, reads) = Opener::new(key, &manifest, 3 * SEGMENT_BYTES + 5, 10);
        let [read] = reads.into_iter().collect::<Vec<_>>()[..] else { panic!("one read") };
        assert_eq!((read.offset, read.length), (3 * SEALED_SEGMENT_BYTES, SEALED_SEGMENT_BYTES));
    }

    #[test]
    fn segments_open_in_their_place_only() {
        let key = DataKey::random();
        let (manifest, all, lying) = object(&key, &[2 * SEGMENT, 2 * SEGMENT]);
        let opens = |lying: &[Vec<u8>]| read(&key, &manifest, lying, (0, all.len()), 1 << 20);
        assert!(opens(&lying).is_ok());
        let flipped = |at: usize| {
            let mut other = lying.clone();
            other[0][at] ^= 1;
            other
        };
        let mut moved = lying.clone();
        moved[0].rotate_left(SEALED_SEGMENT);
        let parts_swapped = vec![lying[1].clone(), lying[0].clone()];
        for bad in [flipped(0), flipped(SEALED_SEGMENT - 1), moved, parts_swapped] {
            assert_eq!(opens(&bad), Err(Damaged));
        }
        let other = DataKey::random();
        assert_eq!(read(&other, &manifest, &lying, (0, 1), 1000), Err(Damaged));
        // A body that was cut off at a segment is no shorter body.
        let mut cut = manifest;
        cut.parts[1].size = SEALED_SEGMENT_BYTES;
        assert_eq!(read(&key, &cut, &lying, (0, 3 * SEGMENT), 1 << 20), Err(Damaged));
    }

    #[test]
    fn short_bodies_are_sealed_whole() {
        let (key, id) = (DataKey::random(), WriteId([1; 16]));
        for len in [0, 1, 100, SEGMENT, SEGMENT + 9] {
            let data = plain(len);
            let lies = seal_inline(&key, id, &data);
            assert_eq!(lies.len() as u64, sealed_bytes(len as u64));
            assert_eq!(open_inline(&key, id, &lies, 0, len as u64).unwrap(), data);
            let half = len / 2;
            let opened = open_inline(&key, id, &lies, half as u64, (len - half) as u64).unwrap();
            assert_eq!(opened, data[half..]);
            if len > 0 {
                assert!(open_inline(&key, WriteId([2; 16]), &lies, 0, len as u64).is_err());
                assert!(open_inline(&key, id, &lies[1..], 0, len as u64).is_err());
                assert!(open_inline(&key, id, &lies, 0, len as u64 + 1).is_err());
            }
        }
    }

    #[test]
    fn what_is_stored_never_changes() {
        let run = DataRef { id: WriteId([1; 16]), part: 2, attempt: 3, ..DataRef::default() };
        let lies = sealed(&DataKey::fixed([5; 32]), &run, b"hello", 5);
        assert_eq!(hex::encode(lies), GOLDEN);
    }

    const GOLDEN: &str = "35b71ee2f75e9edc6fd4d939204dedc87cda1a7696";
}
