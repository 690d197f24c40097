//! The kernel of aarch64: whole vectors from `pass.start` on; it says how far it came.
//!
//! It relies on this: the slices in `pass.inputs` and `outputs` are at least `pass.end` long, and there are
//! `OUTPUTS` outputs.

use super::Pass;
use std::arch::aarch64::*;
use std::array::from_fn;

const WIDTH: usize = 16;

/// # Safety
/// The module's promise about lengths holds.
#[target_feature(enable = "neon")]
pub(super) unsafe fn neon<const OUTPUTS: usize>(
    pass: &Pass<'_>,
    outputs: &mut [&mut [u8]],
) -> usize {
    let outputs: [*mut u8; OUTPUTS] = from_fn(|place| outputs[place].as_mut_ptr());
    let low_half = vdupq_n_u8(15);
    let mut at = pass.start;
    while at + WIDTH <= pass.end {
        let mut sums = [vdupq_n_u8(0); OUTPUTS];
        for (number, input) in pass.inputs.iter().enumerate() {
            // SAFETY: `at + WIDTH` is within `pass.end`, and that within the input.
            let bytes = unsafe { vld1q_u8(input.as_ptr().add(at)) };
            let (low, high) = (vandq_u8(bytes, low_half), vshrq_n_u8::<4>(bytes));
            let halves = &pass.products.halves[pass.product(number)..][..OUTPUTS];
            for (sum, [low_table, high_table]) in sums.iter_mut().zip(halves) {
                // SAFETY: both tables are of the 16 bytes that are read.
                let (low_table, high_table) =
                    unsafe { (vld1q_u8(low_table.as_ptr()), vld1q_u8(high_table.as_ptr())) };
                let product = veorq_u8(vqtbl1q_u8(low_table, low), vqtbl1q_u8(high_table, high));
                *sum = veorq_u8(*sum, product);
            }
        }
        for (output, sum) in outputs.iter().zip(&sums) {
            // SAFETY: as for the input; outputs are as long.
            unsafe { vst1q_u8(output.add(at), *sum) };
        }
        at += WIDTH;
    }
    at
}
