//! CRUSH's logarithm: 2^44 · log2(x + 1) for 16-bit x, by two tables.
//!
//! The result must agree with Ceph's bit for bit, its inaccuracies included, since every client computes
//! it. The tables are defined so:
//!
//! | table | k | value |
//! |---|---|---|
//! | reciprocal | 0 … 128 | 2^48 / (1 + k/128), rounded up |
//! | coarse log | 0 … 127 | 2^48 · log2(1 + k/128), rounded down |
//! | coarse log | 128 | 2^48 − 2^32 |
//! | fine log | 0 … 255 | 2^48 · log2(1 + k/2^15), rounded down, plus [`FINE_OFFSET`] |
//!
//! The fine table has a history: a slip in making it added the offset to most entries and left others
//! wrong in no regular way, and by the time it was noticed data had been placed by it. The entries that
//! do not follow the rule are listed by number.

/// What most entries of the fine table are too large by.
const FINE_OFFSET: u64 = 0x1_4770_0000;

/// Entries of the fine table that are right, without the offset.
const FINE_EXACT: [u8; 21] = [
    0, 1, 203, 216, 222, 233, 237, 238, 239, 243, 244, 245, 246, 248, 249, 250, 251, 252, 253, 254,
    255,
];

/// Entries of the fine table that follow no rule.
const FINE_ODD: [(u8, u64); 23] = [
    (56, 0xa2_b07f_3458),
    (127, 0x16d_f6ca_19bd),
    (134, 0x182_b07f_3458),
    (181, 0x209_c06e_6212),
    (184, 0x212_b07f_3458),
    (188, 0x21d_6a73_a78f),
    (193, 0x22c_2367_9b4e),
    (198, 0x23a_2c3b_0ea4),
    (199, 0x23d_13ee_805b),
    (200, 0x240_35e9_221f),
    (207, 0x254_9264_4d65),
    (210, 0x25d_13ee_805b),
    (212, 0x262_9645_3882),
    (225, 0x287_bdbf_5255),
    (227, 0x28d_13ee_805b),
    (228, 0x290_35e9_221f),
    (229, 0x292_9645_3882),
    (231, 0x299_02a3_7aab),
    (235, 0x2a4_c760_5d61),
    (236, 0x2a7_bdbf_5255),
    (240, 0x2b2_9645_3882),
    (241, 0x2b5_d022_d80f),
    (247, 0x2c6_1a5e_8f4c),
];

struct Tables {
    reciprocal: [u64; 129],
    coarse: [u64; 129],
    fine: [u64; 256],
}

/// Made by the compiler: no floating point, so the same everywhere.
static TABLES: Tables = make_tables();

/// 2^48 · log2(1 + k/2^shift), rounded down, for k < 2^shift: one bit of the result per squaring.
const fn log2_fraction(k: u64, shift: u32) -> u64 {
    // In [1, 2), scaled by 2^62. The error doubles with each of the 48 squarings and stays below 2^-12
    // of the last bit; that no entry is that close to a whole number is shown by the test's digest.
    let mut mantissa = ((1u128 << shift) + k as u128) << (62 - shift);
    let mut log = 0;
    let mut bit = 0;
    while bit < 48 {
        mantissa = (mantissa * mantissa) >> 62;
        log <<= 1;
        if mantissa >= 1 << 63 {
            mantissa >>= 1;
            log |= 1;
        }
        bit += 1;
    }
    log
}

const fn make_tables() -> Tables {
    let mut tables = Tables { reciprocal: [0; 129], coarse: [0; 129], fine: [0; 256] };
    let mut k = 0;
    while k < 129 {
        tables.reciprocal[k] = (1u64 << 55).div_ceil(128 + k as u64);
        tables.coarse[k] =
            if k == 128 { (1 << 48) - (1 << 32) } else { log2_fraction(k as u64, 7) };
        k += 1;
    }
    k = 0;
    while k < 256 {
        tables.fine[k] = log2_fraction(k as u64, 15) + FINE_OFFSET;
        k += 1;
    }
    k = 0;
    while k < FINE_EXACT.len() {
        tables.fine[FINE_EXACT[k] as usize] -= FINE_OFFSET;
        k += 1;
    }
    k = 0;
    while k < FINE_ODD.len() {
        tables.fine[FINE_ODD[k].0 as usize] = FINE_ODD[k].1;
        k += 1;
    }
    tables
}

/// 2^44 · log2(x + 1), as Ceph has it.
#[inline]
pub(super) fn ln(x: u16) -> u64 {
    let x = u64::from(x) + 1;
    // Shifted so that the leading bit is bit 15; only x = 2^16 has bit 16 and stays.
    let shift = u64::from(x.leading_zeros()).saturating_sub(64 - 16);
    let x = x << shift;
    let exponent = 15 - shift;
    let k = (x >> 8) as usize - 128;
    // What the coarse step leaves, as 2^15 · (1 + fraction): its low byte selects the fine entry. The
    // product is below 2^65: hence the wider type.
    let rest = ((u128::from(x) * u128::from(TABLES.reciprocal[k])) >> 48) as usize & 0xff;
    (exponent << 44) + ((TABLES.coarse[k] + TABLES.fine[rest]) >> 4)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_are_the_published_ones() {
        let pairs = TABLES.reciprocal.iter().zip(&TABLES.coarse).flat_map(|(r, c)| [r, c]);
        let digest = pairs
            .chain(&TABLES.fine)
            .fold(0xcbf2_9ce4_8422_2325, |h: u64, v| (h ^ v).wrapping_mul(0x100_0000_01b3));
        assert_eq!(digest, 0x9a15_1f0d_704f_1b74);
    }

    #[test]
    fn it_is_a_logarithm() {
        for x in 0..=u16::MAX {
            let exact = (f64::from(x) + 1.0).log2();
            let ours = ln(x) as f64 / (1u64 << 44) as f64;
            assert!((exact - ours).abs() < 1e-4, "{x}: {ours} for {exact}");
        }
        assert_eq!(ln(0), 0);
    }
}
