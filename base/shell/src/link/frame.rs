//! Messages as bytes on the stream, and back.
//!
//! | bytes | what |
//! |---|---|
//! | 1 | 0: not compressed (gRPC) |
//! | 4 | length of what follows, big endian (gRPC) |
//! | 1 | 0x0a: field 1, length-delimited (protobuf) |
//! | 1 to 3 | length of the body, varint |
//! | … | the body: a message in the codec of store-base |
//!
//! We write exactly this (an empty body without the field). Of other writers any protobuf that decodes to a
//! `Frame` is taken: unknown fields are skipped, of several bodies the last counts.

use super::LinkError;
use bytes::{Buf, BufMut, Bytes, BytesMut};
use std::collections::VecDeque;
use std::io::IoSlice;

/// The largest body: 1 MiB of payload and room for what goes with it.
pub const FRAME_BYTES_MAX: usize = (1 << 20) + (64 << 10);

/// gRPC's prefix.
const PREFIX_BYTES: usize = 5;
/// Fields around the body that other writers may add.
const FOREIGN_BYTES_MAX: usize = 64;
/// The tag of field 1, length-delimited.
const BODY_TAG: u8 = 0x0a;
/// Longest of our own heads: prefix, tag, varint of a body up to [`FRAME_BYTES_MAX`].
pub(super) const HEAD_BYTES_MAX: usize = PREFIX_BYTES + 1 + 3;

/// Bytes in pieces, sent as if they were one. The body data of every answer of our servers.
#[derive(Debug, Default)]
pub struct Rope {
    first: Bytes,
    rest: VecDeque<Bytes>,
    remaining: usize,
}

impl Rope {
    /// Appends a piece.
    pub fn push(&mut self, piece: Bytes) {
        if piece.is_empty() {
            return;
        }
        self.remaining += piece.len();
        if self.first.is_empty() {
            self.first = piece;
        } else {
            self.rest.push_back(piece);
        }
    }
}

impl From<Bytes> for Rope {
    fn from(piece: Bytes) -> Self {
        Rope { remaining: piece.len(), first: piece, rest: VecDeque::new() }
    }
}

impl Buf for Rope {
    fn remaining(&self) -> usize {
        self.remaining
    }

    fn chunk(&self) -> &[u8] {
        &self.first
    }

    fn advance(&mut self, mut count: usize) {
        assert!(count <= self.remaining, "advanced behind the end");
        self.remaining -= count;
        while count >= self.first.len() {
            count -= self.first.len();
            match self.rest.pop_front() {
                Some(next) => self.first = next,
                None => {
                    self.first = Bytes::new();
                    return;
                }
            }
        }
        self.first.advance(count);
    }

    fn chunks_vectored<'a>(&'a self, slices: &mut [IoSlice<'a>]) -> usize {
        if self.remaining == 0 {
            return 0;
        }
        let pieces = std::iter::once(&self.first).chain(&self.rest);
        slices.iter_mut().zip(pieces).map(|(slice, piece)| *slice = IoSlice::new(piece)).count()
    }
}

/// Writes what stands before a body of `len` bytes.
pub(super) fn put_head(out: &mut BytesMut, len: usize) {
    let mut varint = [BODY_TAG, 0, 0, 0];
    let mut field_bytes = 0;
    if len > 0 {
        let mut rest = len;
        field_bytes = 1;
        loop {
            let low = (rest & 0x7f) as u8;
            rest >>= 7;
            varint[field_bytes] = if rest > 0 { low | 0x80 } else { low };
            field_bytes += 1;
            if rest == 0 {
                break;
            }
        }
    }
    out.put_u8(0);
    out.put_u32(u32::try_from(field_bytes + len).expect("the caller keeps to FRAME_BYTES_MAX"));
    out.put_slice(&varint[..field_bytes]);
}

/// Finds messages in the stream's DATA frames.
#[derive(Debug, Default)]
pub(super) struct Deframer {
    /// The DATA frame that is being read.
    chunk: Bytes,
    /// The beginning of a message whose rest is in a frame to come. Empty between messages.
    partial: BytesMut,
    /// How many messages were put together from parts.
    pub(super) reassembled: u64,
}

impl Deframer {
    /// Whether all of the last DATA frame was read.
    pub(super) fn wants_data(&self) -> bool {
        self.chunk.is_empty()
    }

    /// Whether the stream stands within a message.
    pub(super) fn is_within(&self) -> bool {
        !self.partial.is_empty() || !self.chunk.is_empty()
    }

    /// Takes in the next DATA frame; the last must have been read.
    pub(super) fn push(&mut self, chunk: Bytes) {
        debug_assert!(self.wants_data(), "a frame before the last was read");
        self.chunk = chunk;
    }

    /// The next whole body, or `None` when more data is needed.
    pub(super) fn next(&mut self) -> Result<Option<Bytes>, LinkError> {
        if self.partial.is_empty() {
            if self.chunk.len() >= PREFIX_BYTES {
                let whole = PREFIX_BYTES + message_len(&self.chunk)?;
                if self.chunk.len() >= whole {
                    return body(self.chunk.split_to(whole).slice(PREFIX_BYTES..)).map(Some);
                }
            }
            if self.chunk.is_empty() {
                return Ok(None);
            }
        }
        self.gather(PREFIX_BYTES);
        if self.partial.len() < PREFIX_BYTES {
            return Ok(None);
        }
        let whole = PREFIX_BYTES + message_len(&self.partial)?;
        self.gather(whole);
        if self.partial.len() < whole {
            return Ok(None);
        }
        self.reassembled += 1;
        body(std::mem::take(&mut self.partial).freeze().slice(PREFIX_BYTES..)).map(Some)
    }

    /// Copies from the DATA frame until the message's beginning has `len` bytes, or the frame ends.
    fn gather(&mut self, len: usize) {
        let lacking = len.saturating_sub(self.partial.len());
        self.partial.reserve(lacking);
        let piece = self.chunk.split_to(lacking.min(self.chunk.len()));
        self.partial.put_slice(&piece);
    }
}

/// The length in gRPC's prefix, if we take a message of that length.
fn message_len(prefix: &[u8]) -> Result<usize, LinkError> {
    if prefix[0] != 0 {
        return Err(LinkError::Protocol("it is compressed, which was not agreed".to_string()));
    }
    let len = u32::from_be_bytes([prefix[1], prefix[2], prefix[3], prefix[4]]) as usize;
    if len > FRAME_BYTES_MAX + FOREIGN_BYTES_MAX {
        return Err(LinkError::TooLarge { bytes: len, max: FRAME_BYTES_MAX });
    }
    Ok(len)
}

/// The body in a protobuf `Frame`.
fn body(mut message: Bytes) -> Result<Bytes, LinkError> {
    let broken = || LinkError::Protocol("it is not a Frame".to_string());
    let mut body = Bytes::new();
    while !message.is_empty() {
        let tag = take_varint(&mut message).ok_or_else(broken)?;
        let skipped = match tag & 7 {
            0 => {
                take_varint(&mut message).ok_or_else(broken)?;
                0
            }
            1 => 8,
            2 => {
                let len = take_varint(&mut message).ok_or_else(broken)?;
                let len = usize::try_from(len).ok().filter(|len| *len <= message.len());
                let field = message.split_to(len.ok_or_else(broken)?);
                if tag == u64::from(BODY_TAG) {
                    body = field;
                }
                0
            }
            5 => 4,
            _ => return Err(broken()),
        };
        if tag >> 3 == 0 || skipped > message.len() {
            return Err(broken());
        }
        message.advance(skipped);
    }
    if body.len() > FRAME_BYTES_MAX {
        return Err(LinkError::TooLarge { bytes: body.len(), max: FRAME_BYTES_MAX });
    }
    Ok(body)
}

fn take_varint(input: &mut Bytes) -> Option<u64> {
    let mut value = 0u64;
    for shift in (0..64).step_by(7) {
        let byte = input.try_get_u8().ok()?;
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn framed(body: &[u8]) -> Vec<u8> {
        let mut out = BytesMut::new();
        put_head(&mut out, body.len());
        assert!(out.len() <= HEAD_BYTES_MAX);
        out.put_slice(body);
        out.to_vec()
    }

    fn read_all(wire: &[u8], cut: usize) -> Result<(Vec<Bytes>, u64), LinkError> {
        let mut deframer = Deframer::default();
        let mut bodies = Vec::new();
        for chunk in wire.chunks(cut) {
            deframer.push(Bytes::copy_from_slice(chunk));
            while let Some(body) = deframer.next()? {
                bodies.push(body);
            }
            assert!(deframer.wants_data());
        }
        assert!(!deframer.is_within());
        Ok((bodies, deframer.reassembled))
    }

    #[test]
    fn the_bytes_are_these() {
        assert_eq!(framed(b""), b"\0\0\0\0\0");
        assert_eq!(framed(b"ab"), b"\0\0\0\0\x04\x0a\x02ab");
        assert_eq!(framed(&[7; 300])[..8], *b"\0\0\0\x01\x2f\x0a\xac\x02");
    }

    #[test]
    fn every_cut_gives_the_same_messages() {
        let bodies = [vec![], vec![1], vec![2; 300], vec![3; 20_000], vec![]];
        let wire: Vec<u8> = bodies.iter().flat_map(|b| framed(b)).collect();
        for cut in (1..40).chain([wire.len() - 1, wire.len()]) {
            let (read, reassembled) = read_all(&wire, cut).expect("all are good");
            assert_eq!(read, bodies, "cut at {cut}");
            assert_eq!(reassembled == 0, cut == wire.len(), "only what was split is copied");
        }
    }

    #[test]
    fn a_whole_message_is_not_copied() {
        let wire = Bytes::from(framed(&[9; 5000]));
        let mut deframer = Deframer::default();
        deframer.push(wire.clone());
        let body = deframer.next().expect("good").expect("whole");
        assert_eq!(body.as_ptr(), wire[wire.len() - 5000..].as_ptr());
    }

    #[test]
    fn foreign_fields_are_skipped_and_the_last_body_counts() {
        let message = b"\x10\x96\x01\x0a\x01a\x1a\x02xx\x25\0\0\0\0\x29\0\0\0\0\0\0\0\0\x0a\x02bc";
        let wire = [&b"\0\0\0\0"[..], &[message.len() as u8], message].concat();
        assert_eq!(read_all(&wire, wire.len()).expect("good").0, [Bytes::from_static(b"bc")]);
    }

    #[test]
    fn bad_bytes_are_errors() {
        let too_large = [&[0][..], &(2u32 << 20).to_be_bytes()].concat();
        assert!(matches!(
            read_all(&too_large, 5),
            Err(LinkError::TooLarge { bytes: 2_097_152, .. })
        ));
        assert!(matches!(read_all(&too_large, 1), Err(LinkError::TooLarge { .. })));
        for wire in [
            &b"\x01\0\0\0\0"[..],
            b"\0\0\0\0\x01\x0a",
            b"\0\0\0\0\x02\x0a\x05",
            b"\0\0\0\0\x01\x07",
            b"\0\0\0\0\x02\0\0",
            b"\0\0\0\0\x03\x09ab",
            b"\0\0\0\0\x0b\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",
        ] {
            assert!(matches!(read_all(wire, wire.len()), Err(LinkError::Protocol(_))), "{wire:?}");
        }
        let over = framed(&vec![0; FRAME_BYTES_MAX + 1]);
        assert!(matches!(read_all(&over, over.len()), Err(LinkError::TooLarge { .. })));
        let most = framed(&vec![0; FRAME_BYTES_MAX]);
        assert!(most.len() <= super::super::DATA_FRAME_BYTES_MAX as usize);
        assert_eq!(read_all(&most, most.len()).expect("fits").0[0].len(), FRAME_BYTES_MAX);
    }

    #[test]
    fn a_rope_reads_as_one() {
        let mut rope = Rope::from(Bytes::from_static(b"ab"));
        rope.push(Bytes::new());
        rope.push(Bytes::from_static(b"cde"));
        rope.push(Bytes::from_static(b"f"));
        {
            let mut slices = [IoSlice::new(&[]); 2];
            assert_eq!(rope.chunks_vectored(&mut slices), 2);
            assert_eq!((&*slices[0], &*slices[1]), (&b"ab"[..], &b"cde"[..]));
        }
        rope.advance(3);
        assert_eq!((rope.remaining(), rope.chunk()), (3, &b"de"[..]));
        assert_eq!(rope.copy_to_bytes(3), "def");
        assert_eq!((rope.remaining(), rope.chunks_vectored(&mut [IoSlice::new(&[])])), (0, 0));
    }
}
