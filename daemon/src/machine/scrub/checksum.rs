//! crc32c of a byte sequence that comes in parts and has holes.

use bytes::Bytes;
use crc_fast::{CrcAlgorithm, checksum, checksum_combine};

const ALGORITHM: CrcAlgorithm = CrcAlgorithm::Crc32Iscsi;

/// See the module. Holes count as the zeros that they read as.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Running(u64);

impl Running {
    pub(super) fn add(&mut self, bytes: &[u8]) {
        self.0 = join(self.0, checksum(ALGORITHM, bytes), bytes.len() as u64);
    }

    /// A value whose length must not run into the next.
    pub(super) fn add_sized(&mut self, bytes: &[u8]) {
        self.add(&(bytes.len() as u64).to_le_bytes());
        self.add(bytes);
    }

    pub(super) fn add_entry(&mut self, (key, value): (&Bytes, &Bytes)) {
        self.add_sized(key);
        self.add_sized(value);
    }

    /// Adds zeros, in time that grows with the logarithm of their number only.
    pub(super) fn add_zeros(&mut self, mut count: u64) {
        // The checksum of `power` zeros, doubled from step to step.
        let (mut power, mut zeros) = (1u64, checksum(ALGORITHM, &[0]));
        while count > 0 {
            if count & 1 == 1 {
                self.0 = join(self.0, zeros, power);
            }
            count >>= 1;
            if count > 0 {
                zeros = join(zeros, zeros, power);
                power *= 2;
            }
        }
    }

    pub(super) fn value(self) -> u32 {
        self.0 as u32
    }
}

fn join(first: u64, second: u64, second_length: u64) -> u64 {
    if second_length == 0 {
        first
    } else {
        checksum_combine(ALGORITHM, first, second, second_length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn whole(bytes: &[u8]) -> u32 {
        checksum(ALGORITHM, bytes) as u32
    }

    #[test]
    fn parts_and_holes_sum_up_to_the_whole() {
        let bytes: Vec<u8> = (0..100_000u32).map(|n| (n.wrapping_mul(n) >> 7) as u8).collect();
        let mut running = Running::default();
        bytes.chunks(7777).for_each(|part| running.add(part));
        assert_eq!(running.value(), whole(&bytes));
        for hole in [0usize, 1, 2, 3, 63, 64, 65, 4095, 100_001] {
            let mut running = Running::default();
            running.add(b"before");
            running.add_zeros(hole as u64);
            running.add(b"behind");
            let plain = [b"before".to_vec(), vec![0; hole], b"behind".to_vec()].concat();
            assert_eq!(running.value(), whole(&plain), "{hole} zeros");
        }
        assert_eq!(Running::default().value(), whole(b""));
    }

    #[test]
    fn a_hole_without_end_is_no_work() {
        let mut running = Running::default();
        running.add_zeros(u64::MAX / 2);
        assert_ne!(running, Running::default());
    }
}
