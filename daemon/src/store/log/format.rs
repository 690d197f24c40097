//! The bytes of the file: superblock, group, batch. Pure.
//!
//! All numbers little endian. What may never change: the place of the superblocks, their first 12 bytes,
//! and the meaning of the tags of [`Step`](super::step::Step).
//!
//! Superblock, one block, at 0 and again at [`SUPERBLOCK_SECOND`]:
//!
//! | offset | bytes | |
//! |---|---|---|
//! | 0 | 8 | `STOREOSD` |
//! | 8 | 4 | crc32c of bytes 12 to the end of the body |
//! | 12 | 4 | length of the body |
//! | 16 | | body: [`Superblock`], versioned form |
//!
//! Group, at any block of a segment:
//!
//! | offset | bytes | |
//! |---|---|---|
//! | 0 | 8 | `STOREGRP` |
//! | 8 | 8 | number of the segment; a recycled segment has a new one |
//! | 16 | 8 | sequence of the first batch |
//! | 24 | 8 | highest sequence that was durable when this was written |
//! | 32 | 4 | life of the daemon |
//! | 36 | 4 | batches |
//! | 40 | 4 | bytes behind this header |
//! | 44 | 4 | crc32c of those |
//! | 48 | 4 | header checksum of the group before this one |
//! | 52 | 8 | mark of the file: the first bytes of its uuid; zero in a file of format 1 |
//! | 60 | 4 | crc32c of bytes 0 to 60 |
//! | 64 | | batches, then what `trailer` says, then zero up to the block |
//!
//! Batch: u32 length of the steps, u32 length of the data, the steps, the data. Small data lie here and
//! are named by (sequence, offset in the data) until they move to an extent.
//!
//! The mark keeps a client from writing bytes that a later opening takes for a group: where his object was,
//! a segment may be one day. He can guess all of a header but this.

use crate::store::disk::BLOCK_BYTES;
use bytes::Bytes;
use store_base::codec::{Decode, DecodeError, Encode, Reader};
use store_base::{ClusterId, DaemonId};

/// Where the second superblock is.
pub const SUPERBLOCK_SECOND: u64 = 64 << 10;

/// Where extents and segments begin.
pub const AREA_START: u64 = 128 << 10;

/// Version of the whole format. Since 2, headers of groups have the file's mark.
pub const FORMAT_VERSION: u32 = 2;

/// Bytes of a group's header.
pub const GROUP_HEADER_BYTES: usize = 64;

/// Bytes before a batch's steps.
pub const BATCH_HEADER_BYTES: usize = 8;

/// Most log segments.
pub const SLOTS_MAX: usize = 128;

const SUPERBLOCK_MAGIC: &[u8; 8] = b"STOREOSD";
const GROUP_MAGIC: &[u8; 8] = b"STOREGRP";

/// crc32c.
pub fn checksum(bytes: &[u8]) -> u32 {
    crc_fast::checksum(crc_fast::CrcAlgorithm::Crc32Iscsi, bytes) as u32
}

/// A place where a log segment may be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Slot {
    /// Offset in the file.
    pub offset: u64,
    /// Bytes.
    pub size: u64,
}
store_base::codec_struct!(Slot { offset, size });

/// What identifies a file, and where its log is.
///
/// Versioned form, version 1.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Superblock {
    /// Of the whole file.
    pub format: u32,
    /// +1 with every superblock written; the greater of the two counts.
    pub generation: u64,
    /// Whose data this is.
    pub cluster: ClusterId,
    /// Which daemon's.
    pub daemon: DaemonId,
    /// Of this file, for ever.
    pub uuid: ClusterId,
    /// +1 with every opening.
    pub life: u32,
    /// Bytes that may ever be used.
    pub capacity: u64,
    /// Where the log may be.
    pub slots: Vec<Slot>,
}
store_base::codec_versioned!(Superblock, 1, 1 {
    format, generation, cluster, daemon, uuid, life, capacity, slots,
});

/// What tells the groups of a file of this identity from bytes that only look like one.
pub fn file_mark(uuid: ClusterId) -> u64 {
    let mut mark = [0; 8];
    mark.copy_from_slice(&uuid.0[..8]);
    u64::from_le_bytes(mark)
}

impl Superblock {
    /// What the headers of its groups have as mark.
    pub fn mark(&self) -> u64 {
        if self.format < 2 { 0 } else { file_mark(self.uuid) }
    }

    /// As one block.
    pub fn encode_block(&self) -> Vec<u8> {
        let body = self.to_bytes();
        let mut block = vec![0; BLOCK_BYTES];
        block[..8].copy_from_slice(SUPERBLOCK_MAGIC);
        block[12..16].copy_from_slice(&(body.len() as u32).to_le_bytes());
        block[16..16 + body.len()].copy_from_slice(&body);
        let crc = checksum(&block[12..16 + body.len()]);
        block[8..12].copy_from_slice(&crc.to_le_bytes());
        block
    }

    /// From one block; `None` if it is damaged or was never written.
    pub fn decode_block(block: &[u8]) -> Option<Superblock> {
        if block.len() < 16 || &block[..8] != SUPERBLOCK_MAGIC {
            return None;
        }
        let len = number(block, 12) as usize;
        let body = block.get(12..16usize.checked_add(len)?)?;
        if checksum(body) != number(block, 8) {
            return None;
        }
        Superblock::from_bytes(Bytes::copy_from_slice(&body[4..])).ok()
    }
}

fn number(bytes: &[u8], at: usize) -> u32 {
    let mut four = [0; 4];
    four.copy_from_slice(&bytes[at..at + 4]);
    u32::from_le_bytes(four)
}

fn long(bytes: &[u8], at: usize) -> u64 {
    let mut eight = [0; 8];
    eight.copy_from_slice(&bytes[at..at + 8]);
    u64::from_le_bytes(eight)
}

/// The head of a group.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct GroupHeader {
    /// Number of the segment.
    pub segment: u64,
    /// Sequence of the first batch.
    pub first: u64,
    /// Highest sequence that was durable when this was written.
    pub durable: u64,
    /// Life of the daemon.
    pub life: u32,
    /// Batches.
    pub count: u32,
    /// Bytes behind the header.
    pub length: u32,
    /// crc32c of those.
    pub payload_crc: u32,
    /// Header checksum of the group before.
    pub previous: u32,
    /// Mark of the file.
    pub file: u64,
}

impl GroupHeader {
    /// The bytes, and the header checksum that the next group names.
    pub fn encode(&self) -> ([u8; GROUP_HEADER_BYTES], u32) {
        let mut out = [0; GROUP_HEADER_BYTES];
        out[..8].copy_from_slice(GROUP_MAGIC);
        out[8..16].copy_from_slice(&self.segment.to_le_bytes());
        out[16..24].copy_from_slice(&self.first.to_le_bytes());
        out[24..32].copy_from_slice(&self.durable.to_le_bytes());
        out[32..36].copy_from_slice(&self.life.to_le_bytes());
        out[36..40].copy_from_slice(&self.count.to_le_bytes());
        out[40..44].copy_from_slice(&self.length.to_le_bytes());
        out[44..48].copy_from_slice(&self.payload_crc.to_le_bytes());
        out[48..52].copy_from_slice(&self.previous.to_le_bytes());
        out[52..60].copy_from_slice(&self.file.to_le_bytes());
        let crc = checksum(&out[..60]);
        out[60..].copy_from_slice(&crc.to_le_bytes());
        (out, crc)
    }

    /// A header of the file with this mark, and its checksum; `None` if there is none here.
    pub fn decode(bytes: &[u8], file: u64) -> Option<(GroupHeader, u32)> {
        if bytes.len() < GROUP_HEADER_BYTES || &bytes[..8] != GROUP_MAGIC {
            return None;
        }
        let crc = number(bytes, 60);
        if checksum(&bytes[..60]) != crc || long(bytes, 52) != file {
            return None;
        }
        let header = GroupHeader {
            segment: long(bytes, 8),
            first: long(bytes, 16),
            durable: long(bytes, 24),
            life: number(bytes, 32),
            count: number(bytes, 36),
            length: number(bytes, 40),
            payload_crc: number(bytes, 44),
            previous: number(bytes, 48),
            file,
        };
        Some((header, crc))
    }

    /// Bytes on the medium.
    pub fn disk_bytes(&self) -> u64 {
        (GROUP_HEADER_BYTES as u64 + u64::from(self.length)).next_multiple_of(BLOCK_BYTES as u64)
    }
}

/// A batch as found in a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RawBatch {
    /// Encoded steps.
    pub steps: Bytes,
    /// Small data.
    pub data: Bytes,
    /// Where the data begin, counted from the group's header.
    pub data_offset: u32,
}

/// Cuts a group's payload (already verified) into its batches.
pub fn decode_batches(header: &GroupHeader, payload: Bytes) -> Result<Vec<RawBatch>, DecodeError> {
    decode_payload(header, payload).map(|(batches, _)| batches)
}

/// Cuts a group's payload into its batches and what is behind them.
pub fn decode_payload(
    header: &GroupHeader,
    payload: Bytes,
) -> Result<(Vec<RawBatch>, Bytes), DecodeError> {
    let whole = payload.len();
    let mut input = Reader::new(payload);
    let mut batches = Vec::new();
    for _ in 0..header.count {
        let steps = u32::decode(&mut input)? as usize;
        let data = u32::decode(&mut input)? as usize;
        let steps = input.take(steps)?;
        let data_offset = (GROUP_HEADER_BYTES + whole - input.remaining()) as u32;
        batches.push(RawBatch { steps, data: input.take(data)?, data_offset });
    }
    let rest = input.remaining();
    Ok((batches, input.take(rest)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn golden_superblock() {
        let superblock = Superblock {
            format: 1,
            generation: 2,
            cluster: ClusterId([3; 16]),
            daemon: DaemonId(4),
            uuid: ClusterId([5; 16]),
            life: 6,
            capacity: 7 << 20,
            slots: vec![Slot { offset: AREA_START, size: 8 << 20 }],
        };
        let block = superblock.encode_block();
        let golden = concat!(
            "53544f52454f5344",
            "6aaeb1bd",
            "56000000",
            "010150000000",
            "01000000",
            "0200000000000000",
            "03030303030303030303030303030303",
            "04000000",
            "05050505050505050505050505050505",
            "06000000",
            "0000700000000000",
            "01000000",
            "0000020000000000",
            "0000800000000000",
        );
        let hex: String = block[..golden.len() / 2].iter().map(|b| format!("{b:02x}")).collect();
        assert_eq!(hex, golden);
        assert_eq!(Superblock::decode_block(&block), Some(superblock));
        for at in 0..golden.len() / 2 {
            let mut bad = block.clone();
            bad[at] ^= 1;
            assert_eq!(Superblock::decode_block(&bad), None, "a flipped bit at {at}");
            assert_eq!(Superblock::decode_block(&block[..at]), None, "cut at {at}");
        }
    }

    #[test]
    fn golden_group_header() {
        let header = GroupHeader {
            segment: 1,
            first: 2,
            durable: 3,
            life: 4,
            count: 5,
            length: 6,
            payload_crc: 7,
            previous: 8,
            file: 9,
        };
        let (bytes, crc) = header.encode();
        let golden = concat!(
            "53544f5245475250",
            "0100000000000000",
            "0200000000000000",
            "0300000000000000",
            "04000000",
            "05000000",
            "06000000",
            "07000000",
            "08000000",
            "0900000000000000",
        );
        let hex: String = bytes[..60].iter().map(|b| format!("{b:02x}")).collect();
        assert_eq!(hex, golden);
        assert_eq!(GroupHeader::decode(&bytes, 9), Some((header, crc)));
        assert_eq!(GroupHeader::decode(&bytes, 8), None, "of another file");
        for at in 0..64 {
            let mut bad = bytes;
            bad[at] ^= 0x10;
            assert_eq!(GroupHeader::decode(&bad, 9), None, "a flipped bit at {at}");
            assert_eq!(GroupHeader::decode(&bytes[..at], 9), None);
        }
    }

    #[test]
    fn hostile_batches_are_errors() {
        let header = GroupHeader { count: 2, ..GroupHeader::default() };
        for bytes in
            [&b""[..], b"\xff\xff\xff\xff\xff\xff\xff\xff", b"\x01\0\0\0\x01\0\0\0ab\x01\0"]
        {
            assert!(decode_batches(&header, Bytes::from_static(bytes)).is_err());
        }
        let good = b"\x01\0\0\0\x02\0\0\0abc\0\0\0\0\0\0\0\0";
        let batches = decode_batches(&header, Bytes::from_static(good)).expect("well formed");
        assert_eq!((&batches[0].steps[..], &batches[0].data[..]), (&b"a"[..], &b"bc"[..]));
        assert_eq!(batches[0].data_offset, 64 + 9);
    }
}
