//! The hashes that decide where things are. Bit-exact with Ceph, because its clients compute them too;
//! none of them may ever change.
//!
//! - [`rjenkins`] hashes an object's name (Bob Jenkins' public-domain hash of 1996, "lookup2").
//! - [`hash2`] and [`hash3`] are CRUSH's use of the same mixing step on two or three numbers.
//! - [`stable_mod`] folds a hash onto a number of placement groups that need not be a power of two;
//!   [`stable_span`] is the way back.

use std::ops::RangeInclusive;

/// The start value of CRUSH's hashes.
const CRUSH_SEED: u32 = 1_315_423_911;
/// What CRUSH's hashes mix in when they run out of arguments.
const CRUSH_X: u32 = 231_232;
/// The second of these.
const CRUSH_Y: u32 = 1_232;
/// The golden ratio, an arbitrary start value.
const GOLDEN: u32 = 0x9e37_79b9;

/// Jenkins' reversible mixing step for three words.
#[inline(always)]
fn mix(a: &mut u32, b: &mut u32, c: &mut u32) {
    for [right_a, left_b, right_c] in [[13, 8, 13], [12, 16, 5], [3, 10, 15]] {
        *a = a.wrapping_sub(*b).wrapping_sub(*c) ^ (*c >> right_a);
        *b = b.wrapping_sub(*c).wrapping_sub(*a) ^ (*a << left_b);
        *c = c.wrapping_sub(*a).wrapping_sub(*b) ^ (*b >> right_c);
    }
}

/// The hash of an object's name.
pub fn rjenkins(bytes: &[u8]) -> u32 {
    let (mut a, mut b, mut c) = (GOLDEN, GOLDEN, 0u32);
    let (blocks, rest) = bytes.as_chunks::<12>();
    for block in blocks {
        a = a.wrapping_add(word(&block[0..4]));
        b = b.wrapping_add(word(&block[4..8]));
        c = c.wrapping_add(word(&block[8..12]));
        mix(&mut a, &mut b, &mut c);
    }
    // The lowest byte of the last word is the length's, so the rest goes in one byte higher there.
    let part = |from: usize, to: usize| word(&rest[from.min(rest.len())..to.min(rest.len())]);
    a = a.wrapping_add(part(0, 4));
    b = b.wrapping_add(part(4, 8));
    // Names are far below 4 GiB; the hash is defined modulo 2^32 in any case.
    c = c.wrapping_add(bytes.len() as u32).wrapping_add(part(8, 12) << 8);
    mix(&mut a, &mut b, &mut c);
    c
}

/// Up to four bytes as a little-endian word.
fn word(bytes: &[u8]) -> u32 {
    bytes.iter().rev().fold(0, |word, byte| word << 8 | u32::from(*byte))
}

/// CRUSH's hash of two numbers.
#[inline]
pub fn hash2(mut a: u32, mut b: u32) -> u32 {
    let (mut x, mut y) = (CRUSH_X, CRUSH_Y);
    let mut hash = CRUSH_SEED ^ a ^ b;
    mix(&mut a, &mut b, &mut hash);
    mix(&mut x, &mut a, &mut hash);
    mix(&mut b, &mut y, &mut hash);
    hash
}

/// CRUSH's hash of three numbers.
#[inline]
pub fn hash3(mut a: u32, mut b: u32, mut c: u32) -> u32 {
    let (mut x, mut y) = (CRUSH_X, CRUSH_Y);
    let mut hash = CRUSH_SEED ^ a ^ b ^ c;
    mix(&mut a, &mut b, &mut hash);
    mix(&mut c, &mut x, &mut hash);
    mix(&mut y, &mut a, &mut hash);
    mix(&mut b, &mut x, &mut hash);
    mix(&mut y, &mut c, &mut hash);
    hash
}

/// Folds `x` onto `0..n` so that growing `n` by one moves only what goes to the new number: the value
/// modulo the next power of two, or modulo the power below where that is not yet in use. 0 if `n` is 0.
pub fn stable_mod(x: u32, n: u32) -> u32 {
    let Some(last) = n.checked_sub(1) else { return 0 };
    let mask = u32::MAX.checked_shr(last.leading_zeros()).unwrap_or(0);
    match x & mask {
        low if low < n => low,
        _ => x & (mask >> 1),
    }
}

/// The hashes that [`stable_mod`] folds onto `seed` among `n`, with their bits reversed: always one range. In
/// that order a placement group is one piece, and so is each part of it when `n` grows.
pub fn stable_span(seed: u32, n: u32) -> RangeInclusive<u32> {
    let Some(last) = n.checked_sub(1) else { return 0..=u32::MAX };
    let mask = u32::MAX.checked_shr(last.leading_zeros()).unwrap_or(0);
    // The numbers of the upper half that are not in use yet are folded onto the lower.
    let is_halved = seed > mask >> 1 || seed | (mask ^ (mask >> 1)) < n;
    let mask = if is_halved { mask } else { mask >> 1 };
    let first = seed.reverse_bits();
    first..=first | !mask.reverse_bits()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_span_is_what_is_folded_onto_its_seed() {
        for n in 1..70 {
            let spans: Vec<_> = (0..n).map(|seed| stable_span(seed, n)).collect();
            for x in (0..u32::MAX - 99_991).step_by(99_991) {
                let reversed = x.reverse_bits();
                let within = (0..n).filter(|seed| spans[*seed as usize].contains(&reversed));
                assert_eq!(within.collect::<Vec<_>>(), [stable_mod(x, n)], "x {x} n {n}");
            }
        }
    }

    #[test]
    fn names_hash_as_ceph_hashes_them() {
        for (name, hash) in [
            ("obj1", 0x6cf8deff),
            ("hello-1", 0x41a22102),
            ("10000000001.00000000", 0x0c9e0747),
            ("a", 0x29eec818),
            ("foo", 0x7fc1f406),
        ] {
            assert_eq!(rjenkins(name.as_bytes()), hash, "{name}");
        }
    }

    #[test]
    fn every_length_is_hashed_differently() {
        let zeros = [0; 40];
        let hashes: std::collections::BTreeSet<u32> =
            (0..=zeros.len()).map(|len| rjenkins(&zeros[..len])).collect();
        assert_eq!(hashes.len(), zeros.len() + 1);
    }

    #[test]
    fn stable_mod_moves_only_to_the_new_number() {
        for n in 1..300 {
            for x in (0..50_000u32).step_by(7) {
                let (old, new) = (stable_mod(x, n), stable_mod(x, n + 1));
                assert!(old < n && (new == old || new == n), "x {x} n {n}: {old} to {new}");
            }
        }
    }

    #[test]
    fn stable_mod_has_no_forbidden_numbers() {
        assert_eq!(stable_mod(12345, 0), 0);
        assert_eq!(stable_mod(12345, 1), 0);
        assert_eq!(stable_mod(u32::MAX, u32::MAX), u32::MAX >> 1);
        assert_eq!(stable_mod(u32::MAX, 1 << 31), u32::MAX >> 1);
    }
}
