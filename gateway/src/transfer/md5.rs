//! MD5 (RFC 1321) of many bodies at once.
//!
//! Every step of MD5 waits for the one before it: a core does 0.6 GB/s of one body, which is more than all else of a
//! write together. Of eight bodies the same steps are done in the eight lanes of a vector: some 3 GB/s. Blocks of one
//! body go to the `md-5` crate.

#[cfg(target_arch = "x86_64")]
mod x86;

use md5::block_api::compress;

/// Bodies whose blocks are compressed at once.
pub const LANES: usize = 8;

/// Bytes of a block.
pub const BLOCK_BYTES: usize = 64;

/// The state that a hash begins with.
const BEGIN: [u32; 4] = [0x6745_2301, 0xefcd_ab89, 0x98ba_dcfe, 0x1032_5476];

/// A hash that is being made.
#[derive(Clone, Debug)]
pub struct Md5 {
    words: [u32; 4],
    /// What does not fill a block yet.
    tail: [u8; BLOCK_BYTES],
    bytes: u64,
}

impl Default for Md5 {
    fn default() -> Self {
        Md5 { words: BEGIN, tail: [0; BLOCK_BYTES], bytes: 0 }
    }
}

impl Md5 {
    fn tail_len(&self) -> usize {
        (self.bytes % BLOCK_BYTES as u64) as usize
    }

    /// Takes in the next bytes.
    pub fn update(&mut self, data: &[u8]) {
        let data = self.begin(data);
        let (blocks, _) = data.as_chunks::<BLOCK_BYTES>();
        compress(&mut self.words, blocks);
        self.end(data, blocks.len());
    }

    /// Fills the open block, and gives what is behind it: from here on whole blocks may be compressed.
    fn begin<'a>(&mut self, data: &'a [u8]) -> &'a [u8] {
        let open = self.tail_len();
        if open == 0 {
            return data;
        }
        let (head, rest) = data.split_at(data.len().min(BLOCK_BYTES - open));
        self.tail[open..open + head.len()].copy_from_slice(head);
        self.bytes += head.len() as u64;
        if open + head.len() == BLOCK_BYTES {
            compress(&mut self.words, &[self.tail]);
        }
        rest
    }

    /// Keeps what is behind the blocks of `data` that were compressed.
    fn end(&mut self, data: &[u8], blocks: usize) {
        let tail = &data[blocks * BLOCK_BYTES..];
        self.bytes += (blocks * BLOCK_BYTES) as u64;
        if !tail.is_empty() {
            // The open block is empty: `begin` gave nothing otherwise.
            self.tail[..tail.len()].copy_from_slice(tail);
            self.bytes += tail.len() as u64;
        }
    }

    /// The digest.
    pub fn finish(mut self) -> [u8; 16] {
        let (open, bits) = (self.tail_len(), self.bytes.wrapping_mul(8));
        let mut last = [[0; BLOCK_BYTES]; 2];
        last[0][..open].copy_from_slice(&self.tail[..open]);
        last[0][open] = 0x80;
        let used = 1 + usize::from(open >= BLOCK_BYTES - 8);
        last[used - 1][BLOCK_BYTES - 8..].copy_from_slice(&bits.to_le_bytes());
        compress(&mut self.words, &last[..used]);
        let mut digest = [0; 16];
        for (bytes, word) in digest.chunks_exact_mut(4).zip(self.words) {
            bytes.copy_from_slice(&word.to_le_bytes());
        }
        digest
    }
}

/// Bytes of one body that are hashed beside those of others.
pub struct Lane<'a> {
    hash: &'a mut Md5,
    data: &'a [u8],
    done: usize,
}

impl<'a> Lane<'a> {
    /// `data` is what comes next of the body.
    pub fn new(hash: &'a mut Md5, data: &'a [u8]) -> Self {
        let data = hash.begin(data);
        Lane { hash, data, done: 0 }
    }

    /// Whole blocks that are not compressed yet.
    fn blocks(&self) -> usize {
        self.data.len() / BLOCK_BYTES - self.done
    }

    fn rest(&self) -> &'a [u8] {
        &self.data[self.done * BLOCK_BYTES..]
    }
}

/// Hashes all lanes to their ends.
pub fn update_all(mut lanes: Vec<Lane<'_>>) {
    loop {
        while let Some(at) = lanes.iter().position(|lane| lane.blocks() == 0) {
            let lane = lanes.swap_remove(at);
            lane.hash.end(lane.data, lane.done);
        }
        let together = lanes.len().min(LANES);
        let Some(blocks) = lanes[..together].iter().map(Lane::blocks).min() else { return };
        if together == 1 || !compress_lanes(&mut lanes[..together], blocks) {
            for lane in &mut lanes[..together] {
                let (whole, _) = lane.rest().as_chunks::<BLOCK_BYTES>();
                compress(&mut lane.hash.words, &whole[..blocks]);
            }
        }
        lanes[..together].iter_mut().for_each(|lane| lane.done += blocks);
    }
}

/// Compresses so many blocks of each of up to [`LANES`] lanes, if this processor can do them at once.
fn compress_lanes(lanes: &mut [Lane<'_>], blocks: usize) -> bool {
    #[cfg(target_arch = "x86_64")]
    return x86::compress_lanes(lanes, blocks);
    #[cfg(not(target_arch = "x86_64"))]
    return {
        let _ = (lanes, blocks);
        false
    };
}

#[cfg(test)]
mod tests {
    use super::*;
    use md5::Digest;

    fn noise(len: usize, seed: u32) -> Vec<u8> {
        let mut state = seed | 1;
        let step = || {
            state ^= state << 13;
            state ^= state >> 17;
            state ^= state << 5;
            (state >> 8) as u8
        };
        std::iter::repeat_with(step).take(len).collect()
    }

    #[test]
    fn the_digest_is_that_of_the_crate_however_the_body_is_cut() {
        for len in (0..300).chain([1000, 4096, 70_001]) {
            let data = noise(len, len as u32 + 5);
            for cut in [1, 55, 56, 63, 64, 65, 128, 1000, usize::MAX] {
                let mut hash = Md5::default();
                data.chunks(cut.min(len.max(1))).for_each(|piece| hash.update(piece));
                assert_eq!(hash.finish(), md5::Md5::digest(&data)[..], "{len} bytes by {cut}");
            }
        }
    }

    #[test]
    fn lanes_of_all_lengths_give_the_digests_that_each_gives_alone() {
        for count in 1..=LANES * 2 + 3 {
            for round in 0..20_usize {
                let bodies: Vec<Vec<u8>> = (0..count)
                    .map(|n| noise((n * 977 + round * 131) % 5000, (n * 31 + round) as u32))
                    .collect();
                let mut hashes = vec![Md5::default(); count];
                // A first part that leaves open blocks of different lengths.
                for (n, (hash, body)) in hashes.iter_mut().zip(&bodies).enumerate() {
                    hash.update(&body[..body.len() * n / (count * 2)]);
                }
                let lanes = hashes.iter_mut().zip(&bodies).enumerate();
                let lane = |(n, (hash, body)): (usize, (_, _))| {
                    let body: &Vec<u8> = body;
                    Lane::new(hash, &body[body.len() * n / (count * 2)..])
                };
                update_all(lanes.map(lane).collect());
                for (hash, body) in hashes.into_iter().zip(&bodies) {
                    assert_eq!(hash.finish(), md5::Md5::digest(body)[..]);
                }
            }
        }
    }
}
