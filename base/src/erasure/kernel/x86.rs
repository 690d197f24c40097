//! The kernels of x86-64. Each does whole vectors from `pass.start` on and says how far it came.
//!
//! Vectors are never passed through closures or iterators by value: such code is not compiled for the wider
//! instructions, and a call for every load costs ten times the arithmetic.
//!
//! What every one of them relies on: the slices in `pass.inputs` and `outputs` are at least `pass.end` long, and
//! there are `OUTPUTS` outputs.

use super::Pass;
use std::arch::x86_64::*;
use std::array::from_fn;

/// A kernel by lookups, for one width of vector. `$table` puts 16 bytes into every lane of 16.
macro_rules! by_halves {
    (
        $name:ident, $features:literal, $vector:ty, $width:literal,
        $load:ident, $store:ident, $table:ident, $xor:ident, $and:ident, $shift:ident, $shuffle:ident,
        $fill:ident, $zero:ident
    ) => {
        /// # Safety
        /// The processor has the features, and the module's promise about lengths holds.
        #[target_feature(enable = $features)]
        pub(super) unsafe fn $name<const OUTPUTS: usize>(
            pass: &Pass<'_>,
            outputs: &mut [&mut [u8]],
        ) -> usize {
            let outputs: [*mut u8; OUTPUTS] = from_fn(|place| outputs[place].as_mut_ptr());
            let low_half = $fill(15);
            let mut at = pass.start;
            while at + $width <= pass.end {
                let mut sums: [$vector; OUTPUTS] = [$zero(); OUTPUTS];
                for (number, input) in pass.inputs.iter().enumerate() {
                    // SAFETY: `at + $width` is within `pass.end`, and that within the input.
                    let bytes = unsafe { $load(input.as_ptr().add(at).cast()) };
                    let low = $and(bytes, low_half);
                    let high = $and($shift::<4>(bytes), low_half);
                    let halves = &pass.products.halves[pass.product(number)..][..OUTPUTS];
                    for (sum, [low_table, high_table]) in sums.iter_mut().zip(halves) {
                        let low_product = $shuffle($table(low_table), low);
                        let product = $xor(low_product, $shuffle($table(high_table), high));
                        *sum = $xor(*sum, product);
                    }
                }
                for (output, sum) in outputs.iter().zip(&sums) {
                    // SAFETY: as for the input; outputs are as long.
                    unsafe { $store(output.add(at).cast(), *sum) };
                }
                at += $width;
            }
            at
        }
    };
}

#[inline]
#[target_feature(enable = "ssse3")]
fn table(bytes: &[u8; 16]) -> __m128i {
    // SAFETY: the 16 bytes are there.
    unsafe { _mm_loadu_si128(bytes.as_ptr().cast()) }
}

#[inline]
#[target_feature(enable = "avx2")]
fn table_twice(bytes: &[u8; 16]) -> __m256i {
    _mm256_broadcastsi128_si256(table(bytes))
}

by_halves!(
    ssse3,
    "ssse3",
    __m128i,
    16,
    _mm_loadu_si128,
    _mm_storeu_si128,
    table,
    _mm_xor_si128,
    _mm_and_si128,
    _mm_srli_epi64,
    _mm_shuffle_epi8,
    _mm_set1_epi8,
    _mm_setzero_si128
);

by_halves!(
    avx2,
    "avx2",
    __m256i,
    32,
    _mm256_loadu_si256,
    _mm256_storeu_si256,
    table_twice,
    _mm256_xor_si256,
    _mm256_and_si256,
    _mm256_srli_epi64,
    _mm256_shuffle_epi8,
    _mm256_set1_epi8,
    _mm256_setzero_si256
);

/// # Safety
/// The processor has the features, and the module's promise about lengths holds.
#[target_feature(enable = "gfni,avx2")]
pub(super) unsafe fn gfni256<const OUTPUTS: usize>(
    pass: &Pass<'_>,
    outputs: &mut [&mut [u8]],
) -> usize {
    const WIDTH: usize = 32;
    let outputs: [*mut u8; OUTPUTS] = from_fn(|place| outputs[place].as_mut_ptr());
    let mut at = pass.start;
    // Two vectors at a time: every bit matrix that is loaded serves twice.
    while at + 2 * WIDTH <= pass.end {
        let mut sums = [[_mm256_setzero_si256(); 2]; OUTPUTS];
        for (number, input) in pass.inputs.iter().enumerate() {
            // SAFETY: `at + 2 * WIDTH` is within `pass.end`, and that within the input.
            let bytes = unsafe {
                let from = input.as_ptr().add(at);
                [_mm256_loadu_si256(from.cast()), _mm256_loadu_si256(from.add(WIDTH).cast())]
            };
            let bits = &pass.products.bits[pass.product(number)..][..OUTPUTS];
            for (sum, bits) in sums.iter_mut().zip(bits) {
                let bits = _mm256_set1_epi64x(bits.cast_signed());
                sum[0] =
                    _mm256_xor_si256(sum[0], _mm256_gf2p8affine_epi64_epi8::<0>(bytes[0], bits));
                sum[1] =
                    _mm256_xor_si256(sum[1], _mm256_gf2p8affine_epi64_epi8::<0>(bytes[1], bits));
            }
        }
        for (output, [first, second]) in outputs.iter().zip(&sums) {
            // SAFETY: as for the input; outputs are as long.
            unsafe {
                _mm256_storeu_si256(output.add(at).cast(), *first);
                _mm256_storeu_si256(output.add(at + WIDTH).cast(), *second);
            }
        }
        at += 2 * WIDTH;
    }
    at
}

/// # Safety
/// The processor has the features, and the module's promise about lengths holds.
#[target_feature(enable = "gfni,avx512f,avx512bw")]
pub(super) unsafe fn gfni512<const OUTPUTS: usize>(
    pass: &Pass<'_>,
    outputs: &mut [&mut [u8]],
) -> usize {
    const WIDTH: usize = 64;
    let outputs: [*mut u8; OUTPUTS] = from_fn(|place| outputs[place].as_mut_ptr());
    let mut at = pass.start;
    while at + 2 * WIDTH <= pass.end {
        let mut sums = [[_mm512_setzero_si512(); 2]; OUTPUTS];
        for (number, input) in pass.inputs.iter().enumerate() {
            // SAFETY: `at + 2 * WIDTH` is within `pass.end`, and that within the input.
            let bytes = unsafe {
                let from = input.as_ptr().add(at);
                [_mm512_loadu_si512(from.cast()), _mm512_loadu_si512(from.add(WIDTH).cast())]
            };
            let bits = &pass.products.bits[pass.product(number)..][..OUTPUTS];
            for (sum, bits) in sums.iter_mut().zip(bits) {
                let bits = _mm512_set1_epi64(bits.cast_signed());
                sum[0] =
                    _mm512_xor_si512(sum[0], _mm512_gf2p8affine_epi64_epi8::<0>(bytes[0], bits));
                sum[1] =
                    _mm512_xor_si512(sum[1], _mm512_gf2p8affine_epi64_epi8::<0>(bytes[1], bits));
            }
        }
        for (output, [first, second]) in outputs.iter().zip(&sums) {
            // SAFETY: as for the input; outputs are as long.
            unsafe {
                _mm512_storeu_si512(output.add(at).cast(), *first);
                _mm512_storeu_si512(output.add(at + WIDTH).cast(), *second);
            }
        }
        at += 2 * WIDTH;
    }
    // The rest under a mask, so that nothing is left to a byte at a time.
    while at < pass.end {
        let len = WIDTH.min(pass.end - at);
        let mask = u64::MAX >> (WIDTH - len);
        let mut sums = [_mm512_setzero_si512(); OUTPUTS];
        for (number, input) in pass.inputs.iter().enumerate() {
            // SAFETY: the mask leaves bytes from `at + len`, which is within `pass.end`, untouched.
            let bytes = unsafe { _mm512_maskz_loadu_epi8(mask, input.as_ptr().add(at).cast()) };
            let bits = &pass.products.bits[pass.product(number)..][..OUTPUTS];
            for (sum, bits) in sums.iter_mut().zip(bits) {
                let bits = _mm512_set1_epi64(bits.cast_signed());
                let product = _mm512_gf2p8affine_epi64_epi8::<0>(bytes, bits);
                *sum = _mm512_xor_si512(*sum, product);
            }
        }
        for (output, sum) in outputs.iter().zip(&sums) {
            // SAFETY: as for the input; outputs are as long.
            unsafe { _mm512_mask_storeu_epi8(output.add(at).cast(), mask, *sum) };
        }
        at += len;
    }
    at
}
