//! Eight lanes in vectors of 256 bits: with AVX2, and faster with what AVX-512 added for them.

// Vector instructions need it; each block says why it holds.
#![allow(unsafe_code)]

use super::{BLOCK_BYTES, LANES, Lane};
use std::arch::x86_64::*;
use std::array::from_fn;

/// The additive constants of the 64 steps (RFC 1321, 3.4): the whole part of 2^32 times the sine of the step's
/// number, counted from 1, in radians.
const SINES: [u32; 64] = [
    0xd76a_a478,
    0xe8c7_b756,
    0x2420_70db,
    0xc1bd_ceee,
    0xf57c_0faf,
    0x4787_c62a,
    0xa830_4613,
    0xfd46_9501,
    0x6980_98d8,
    0x8b44_f7af,
    0xffff_5bb1,
    0x895c_d7be,
    0x6b90_1122,
    0xfd98_7193,
    0xa679_438e,
    0x49b4_0821,
    0xf61e_2562,
    0xc040_b340,
    0x265e_5a51,
    0xe9b6_c7aa,
    0xd62f_105d,
    0x0244_1453,
    0xd8a1_e681,
    0xe7d3_fbc8,
    0x21e1_cde6,
    0xc337_07d6,
    0xf4d5_0d87,
    0x455a_14ed,
    0xa9e3_e905,
    0xfcef_a3f8,
    0x676f_02d9,
    0x8d2a_4c8a,
    0xfffa_3942,
    0x8771_f681,
    0x6d9d_6122,
    0xfde5_380c,
    0xa4be_ea44,
    0x4bde_cfa9,
    0xf6bb_4b60,
    0xbebf_bc70,
    0x289b_7ec6,
    0xeaa1_27fa,
    0xd4ef_3085,
    0x0488_1d05,
    0xd9d4_d039,
    0xe6db_99e5,
    0x1fa2_7cf8,
    0xc4ac_5665,
    0xf429_2244,
    0x432a_ff97,
    0xab94_23a7,
    0xfc93_a039,
    0x655b_59c3,
    0x8f0c_cc92,
    0xffef_f47d,
    0x8584_5dd1,
    0x6fa8_7e4f,
    0xfe2c_e6e0,
    0xa301_4314,
    0x4e08_11a1,
    0xf753_7e82,
    0xbd3a_f235,
    0x2ad7_d2bb,
    0xeb86_d391,
];

/// Compresses so many blocks of up to [`LANES`] lanes; `false` if this processor has no AVX2.
pub(super) fn compress_lanes(lanes: &mut [Lane<'_>], blocks: usize) -> bool {
    if !has_avx2() {
        return false;
    }
    // Lanes without a body do the work of the first; nobody takes their result.
    let data: [&[u8]; LANES] =
        from_fn(|n| &lanes.get(n).unwrap_or(&lanes[0]).rest()[..blocks * BLOCK_BYTES]);
    let mut states: [[u32; LANES]; 4] =
        from_fn(|word| from_fn(|n| lanes.get(n).unwrap_or(&lanes[0]).hash.words[word]));
    if has_avx512() {
        // SAFETY: the processor has what the kernel needs, as was just asked; every slice has `blocks` blocks.
        unsafe { compress_avx512(&mut states, &data, blocks) };
    } else {
        // SAFETY: as above.
        unsafe { compress_avx2(&mut states, &data, blocks) };
    }
    for (n, lane) in lanes.iter_mut().enumerate() {
        lane.hash.words = from_fn(|word| states[word][n]);
    }
    true
}

fn has_avx2() -> bool {
    std::arch::is_x86_feature_detected!("avx2")
}

/// The instructions of AVX-512 for vectors of 256 bits: they turn words, and take any function of three, at once.
fn has_avx512() -> bool {
    has_avx2()
        && std::arch::is_x86_feature_detected!("avx512f")
        && std::arch::is_x86_feature_detected!("avx512vl")
}

/// Rows of eight words to columns.
#[inline]
#[target_feature(enable = "avx2")]
fn transpose(rows: [__m256i; 8]) -> [__m256i; 8] {
    let [a, b, c, d, e, f, g, h] = rows;
    let (ab, cd) = (_mm256_unpacklo_epi32(a, b), _mm256_unpacklo_epi32(c, d));
    let (ef, gh) = (_mm256_unpacklo_epi32(e, f), _mm256_unpacklo_epi32(g, h));
    let (ab_high, cd_high) = (_mm256_unpackhi_epi32(a, b), _mm256_unpackhi_epi32(c, d));
    let (ef_high, gh_high) = (_mm256_unpackhi_epi32(e, f), _mm256_unpackhi_epi32(g, h));
    let fours = [
        (_mm256_unpacklo_epi64(ab, cd), _mm256_unpacklo_epi64(ef, gh)),
        (_mm256_unpackhi_epi64(ab, cd), _mm256_unpackhi_epi64(ef, gh)),
        (_mm256_unpacklo_epi64(ab_high, cd_high), _mm256_unpacklo_epi64(ef_high, gh_high)),
        (_mm256_unpackhi_epi64(ab_high, cd_high), _mm256_unpackhi_epi64(ef_high, gh_high)),
    ];
    let [(p, q), (r, s), (t, u), (v, w)] = fours;
    [
        _mm256_permute2x128_si256::<0x20>(p, q),
        _mm256_permute2x128_si256::<0x20>(r, s),
        _mm256_permute2x128_si256::<0x20>(t, u),
        _mm256_permute2x128_si256::<0x20>(v, w),
        _mm256_permute2x128_si256::<0x31>(p, q),
        _mm256_permute2x128_si256::<0x31>(r, s),
        _mm256_permute2x128_si256::<0x31>(t, u),
        _mm256_permute2x128_si256::<0x31>(v, w),
    ]
}

/// One step: `$a` becomes `$b` plus the sum of the rest, turned left by `$left`. `$mixed` is the round's function of
/// `$b`, `$c` and `$d`.
macro_rules! step {
    ($turn:ident, $mixed:expr, $a:ident, $b:ident, $word:expr, $number:expr, $left:literal) => {
        let sine = _mm256_set1_epi32(SINES[$number] as i32);
        // What does not wait for the step before is added first.
        let ready = _mm256_add_epi32(_mm256_add_epi32($a, $word), sine);
        let sum = _mm256_add_epi32(ready, $mixed);
        $a = _mm256_add_epi32($turn!(sum, $left), $b);
    };
}

/// Four steps of a round, after which the four words of the state have their places again. Step `n` takes the word
/// `$factor * n + $offset`, modulo 16.
macro_rules! four {
    (
        $turn:ident, $mix:ident, $a:ident, $b:ident, $c:ident, $d:ident, $words:ident, $first:literal,
        $factor:literal, $offset:literal, $t1:literal, $t2:literal, $t3:literal, $t4:literal
    ) => {
        let word = |step: usize| ($factor * step + $offset) % 16;
        let (first, second, third, fourth) =
            (word($first), word($first + 1), word($first + 2), word($first + 3));
        step!($turn, $mix!($b, $c, $d), $a, $b, $words[first], $first, $t1);
        step!($turn, $mix!($a, $b, $c), $d, $a, $words[second], $first + 1, $t2);
        step!($turn, $mix!($d, $a, $b), $c, $d, $words[third], $first + 2, $t3);
        step!($turn, $mix!($c, $d, $a), $b, $c, $words[fourth], $first + 3, $t4);
    };
}

macro_rules! turn_avx2 {
    ($sum:ident, $left:literal) => {
        _mm256_or_si256(_mm256_slli_epi32::<$left>($sum), _mm256_srli_epi32::<{ 32 - $left }>($sum))
    };
}

macro_rules! f_avx2 {
    ($b:ident, $c:ident, $d:ident) => {
        _mm256_xor_si256($d, _mm256_and_si256($b, _mm256_xor_si256($c, $d)))
    };
}

macro_rules! g_avx2 {
    ($b:ident, $c:ident, $d:ident) => {
        _mm256_or_si256(_mm256_and_si256($d, $b), _mm256_andnot_si256($d, $c))
    };
}

macro_rules! h_avx2 {
    ($b:ident, $c:ident, $d:ident) => {
        _mm256_xor_si256($b, _mm256_xor_si256($c, $d))
    };
}

macro_rules! i_avx2 {
    ($b:ident, $c:ident, $d:ident) => {
        _mm256_xor_si256($c, _mm256_or_si256($b, _mm256_xor_si256($d, _mm256_set1_epi32(-1))))
    };
}

macro_rules! turn_avx512 {
    ($sum:ident, $left:literal) => {
        _mm256_rol_epi32::<$left>($sum)
    };
}

// Any function of three bits is one instruction: its number has the value for (b, c, d) at bit 4b + 2c + d.
macro_rules! f_avx512 {
    ($b:ident, $c:ident, $d:ident) => {
        _mm256_ternarylogic_epi32::<0b1100_1010>($b, $c, $d)
    };
}

macro_rules! g_avx512 {
    ($b:ident, $c:ident, $d:ident) => {
        _mm256_ternarylogic_epi32::<0b1110_0100>($b, $c, $d)
    };
}

macro_rules! h_avx512 {
    ($b:ident, $c:ident, $d:ident) => {
        _mm256_ternarylogic_epi32::<0b1001_0110>($b, $c, $d)
    };
}

macro_rules! i_avx512 {
    ($b:ident, $c:ident, $d:ident) => {
        _mm256_ternarylogic_epi32::<0b0011_1001>($b, $c, $d)
    };
}

/// A kernel with these instructions for turning and for the functions of the four rounds.
macro_rules! kernel {
    ($name:ident, $features:literal, $turn:ident, $f:ident, $g:ident, $h:ident, $i:ident) => {
        /// # Safety
        /// The processor has the features; every slice of `data` has `blocks` blocks.
        #[target_feature(enable = $features)]
        unsafe fn $name(states: &mut [[u32; LANES]; 4], data: &[&[u8]; LANES], blocks: usize) {
            let mut state = [_mm256_setzero_si256(); 4];
            for (state, words) in state.iter_mut().zip(&*states) {
                // SAFETY: eight words are 32 bytes, and need no alignment for this.
                *state = unsafe { _mm256_loadu_si256(words.as_ptr().cast()) };
            }
            for block in 0..blocks {
                let at = block * BLOCK_BYTES;
                let mut rows = [_mm256_setzero_si256(); LANES];
                let mut words = [_mm256_setzero_si256(); 16];
                for half in 0..2 {
                    for (row, data) in rows.iter_mut().zip(data) {
                        // SAFETY: the block is within the slice, as the caller promised, and the half within it.
                        *row = unsafe { _mm256_loadu_si256(data.as_ptr().add(at + 32 * half).cast()) };
                    }
                    words[half * 8..][..8].copy_from_slice(&transpose(rows));
                }
                let [mut a, mut b, mut c, mut d] = state;
                four!($turn, $f, a, b, c, d, words, 0, 1, 0, 7, 12, 17, 22);
                four!($turn, $f, a, b, c, d, words, 4, 1, 0, 7, 12, 17, 22);
                four!($turn, $f, a, b, c, d, words, 8, 1, 0, 7, 12, 17, 22);
                four!($turn, $f, a, b, c, d, words, 12, 1, 0, 7, 12, 17, 22);
                four!($turn, $g, a, b, c, d, words, 16, 5, 1, 5, 9, 14, 20);
                four!($turn, $g, a, b, c, d, words, 20, 5, 1, 5, 9, 14, 20);
                four!($turn, $g, a, b, c, d, words, 24, 5, 1, 5, 9, 14, 20);
                four!($turn, $g, a, b, c, d, words, 28, 5, 1, 5, 9, 14, 20);
                four!($turn, $h, a, b, c, d, words, 32, 3, 5, 4, 11, 16, 23);
                four!($turn, $h, a, b, c, d, words, 36, 3, 5, 4, 11, 16, 23);
                four!($turn, $h, a, b, c, d, words, 40, 3, 5, 4, 11, 16, 23);
                four!($turn, $h, a, b, c, d, words, 44, 3, 5, 4, 11, 16, 23);
                four!($turn, $i, a, b, c, d, words, 48, 7, 0, 6, 10, 15, 21);
                four!($turn, $i, a, b, c, d, words, 52, 7, 0, 6, 10, 15, 21);
                four!($turn, $i, a, b, c, d, words, 56, 7, 0, 6, 10, 15, 21);
                four!($turn, $i, a, b, c, d, words, 60, 7, 0, 6, 10, 15, 21);
                state[0] = _mm256_add_epi32(state[0], a);
                state[1] = _mm256_add_epi32(state[1], b);
                state[2] = _mm256_add_epi32(state[2], c);
                state[3] = _mm256_add_epi32(state[3], d);
            }
            for (words, state) in states.iter_mut().zip(state) {
                // SAFETY: as for the loads.
                unsafe { _mm256_storeu_si256(words.as_mut_ptr().cast(), state) };
            }
        }
    };
}

kernel!(compress_avx2, "avx2", turn_avx2, f_avx2, g_avx2, h_avx2, i_avx2);
kernel!(
    compress_avx512,
    "avx2,avx512f,avx512vl",
    turn_avx512,
    f_avx512,
    g_avx512,
    h_avx512,
    i_avx512
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_kernels_do_what_the_crate_does() {
        let body: Vec<u8> = (0..LANES * 4 * BLOCK_BYTES).map(|n| (n * n / 7 + n) as u8).collect();
        let data: [&[u8]; LANES] = from_fn(|n| &body[n * 4 * BLOCK_BYTES..][..4 * BLOCK_BYTES]);
        let begin: [[u32; LANES]; 4] =
            from_fn(|word| from_fn(|n| ((word * 8 + n) as u32).wrapping_mul(0x1234_5677)));
        let expected: [[u32; 4]; LANES] = from_fn(|n| {
            let mut words = from_fn(|word| begin[word][n]);
            md5::block_api::compress(&mut words, data[n].as_chunks().0);
            words
        });
        type Kernel = unsafe fn(&mut [[u32; LANES]; 4], &[&[u8]; LANES], usize);
        let kernels: [(bool, Kernel); 2] =
            [(has_avx2(), compress_avx2), (has_avx512(), compress_avx512)];
        for (_, kernel) in kernels.into_iter().filter(|(there, _)| *there) {
            let mut states = begin;
            // SAFETY: the processor has the features, and the slices four blocks each.
            unsafe { kernel(&mut states, &data, 4) };
            let states: [[u32; 4]; LANES] = from_fn(|n| from_fn(|word| states[word][n]));
            assert_eq!(states, expected);
        }
    }
}
