//! The arithmetic of codes over whole slots: sums of products, many bytes at a time.
//!
//! A product with a fixed coefficient is linear over the bits of a byte, which gives two ways of computing it:
//! - as the sum of two lookups, one by each half of the byte, in tables of 16 bytes: what the byte-shuffling
//!   instructions of every processor of the last fifteen years do for 16 or 32 bytes at once;
//! - as an 8×8 bit matrix, which GFNI's `gf2p8affineqb` applies to up to 64 bytes at once. Its sister that
//!   multiplies in the field is of no use: it is for AES' polynomial.
//!
//! All kernels give the same bytes. Each takes up to [`OUTPUTS_AT_ONCE`] outputs in one pass over the inputs and
//! keeps their sums in registers; more outputs are done block by block, so that the inputs of a block are still
//! in the first cache for the next group.

// Vector instructions need it; each block says why it holds.
#![allow(unsafe_code)]

#[cfg(target_arch = "aarch64")]
mod arm;
#[cfg(target_arch = "x86_64")]
mod x86;

use super::field::mul;
use super::matrix::Matrix;

/// Outputs of one pass over the inputs.
const OUTPUTS_AT_ONCE: usize = 4;

/// What the inputs of one block may take of the first cache, where one pass is not enough.
const BLOCK_BYTES: usize = 16 << 10;

/// A way of computing, by the instructions that it needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kernel {
    /// Any processor; a byte at a time.
    Scalar,
    /// x86-64 with SSSE3: shuffles of 16 bytes.
    Ssse3,
    /// x86-64 with AVX2: shuffles of 32 bytes.
    Avx2,
    /// x86-64 with GFNI and AVX2: bit matrices on 32 bytes.
    Gfni256,
    /// x86-64 with GFNI and AVX-512: bit matrices on 64 bytes.
    Gfni512,
    /// aarch64: lookups of 16 bytes.
    Neon,
}

impl Kernel {
    /// All there are, the fastest last on every processor.
    pub const ALL: [Kernel; 6] = [
        Kernel::Scalar,
        Kernel::Ssse3,
        Kernel::Avx2,
        Kernel::Gfni256,
        Kernel::Gfni512,
        Kernel::Neon,
    ];

    /// The fastest that this processor can run.
    pub fn best() -> Kernel {
        let available = Kernel::ALL.into_iter().rfind(|kernel| kernel.is_available());
        available.unwrap_or(Kernel::Scalar)
    }

    /// Whether this processor can run it.
    pub fn is_available(self) -> bool {
        match self {
            Kernel::Scalar => true,
            #[cfg(target_arch = "x86_64")]
            Kernel::Ssse3 => std::arch::is_x86_feature_detected!("ssse3"),
            #[cfg(target_arch = "x86_64")]
            Kernel::Avx2 => std::arch::is_x86_feature_detected!("avx2"),
            #[cfg(target_arch = "x86_64")]
            Kernel::Gfni256 => {
                std::arch::is_x86_feature_detected!("gfni")
                    && std::arch::is_x86_feature_detected!("avx2")
            }
            #[cfg(target_arch = "x86_64")]
            Kernel::Gfni512 => {
                std::arch::is_x86_feature_detected!("gfni")
                    && std::arch::is_x86_feature_detected!("avx512f")
                    && std::arch::is_x86_feature_detected!("avx512bw")
            }
            #[cfg(target_arch = "aarch64")]
            Kernel::Neon => std::arch::is_aarch64_feature_detected!("neon"),
            #[allow(unreachable_patterns)]
            _ => false,
        }
    }

    /// Makes every output the sum of its products with all inputs. All slices are of one length.
    pub(super) fn run(self, products: &Products, inputs: &[&[u8]], outputs: &mut [&mut [u8]]) {
        assert_eq!(inputs.len(), products.inputs, "one row of products per input");
        assert_eq!(outputs.len(), products.outputs, "one product of each row per output");
        let len = inputs[0].len();
        let one_length = inputs.iter().all(|input| input.len() == len)
            && outputs.iter().all(|output| output.len() == len);
        assert!(one_length, "slots of a stripe have one length");
        let block = match outputs.len() {
            0..=OUTPUTS_AT_ONCE => len,
            _ => (BLOCK_BYTES / inputs.len()).next_multiple_of(64),
        };
        for start in (0..len).step_by(block.max(1)) {
            let mut first_output = 0;
            for group in outputs.chunks_mut(OUTPUTS_AT_ONCE) {
                let end = len.min(start + block);
                let pass = Pass { products, inputs, first_output, start, end };
                match group.len() {
                    1 => self.pass::<1>(&pass, group),
                    2 => self.pass::<2>(&pass, group),
                    3 => self.pass::<3>(&pass, group),
                    _ => self.pass::<OUTPUTS_AT_ONCE>(&pass, group),
                }
                first_output += OUTPUTS_AT_ONCE;
            }
        }
    }

    fn pass<const OUTPUTS: usize>(self, pass: &Pass<'_>, outputs: &mut [&mut [u8]]) {
        // SAFETY (each): `run` has seen that every slice is as long as the others and `end` is not beyond
        // that; a kernel is chosen only if `is_available` (`Code::with_kernel`, `Kernel::best`).
        let done_to = match self {
            #[cfg(target_arch = "x86_64")]
            // SAFETY: as above.
            Kernel::Ssse3 => unsafe { x86::ssse3::<OUTPUTS>(pass, outputs) },
            #[cfg(target_arch = "x86_64")]
            // SAFETY: as above.
            Kernel::Avx2 => unsafe { x86::avx2::<OUTPUTS>(pass, outputs) },
            #[cfg(target_arch = "x86_64")]
            // SAFETY: as above.
            Kernel::Gfni256 => unsafe { x86::gfni256::<OUTPUTS>(pass, outputs) },
            #[cfg(target_arch = "x86_64")]
            // SAFETY: as above.
            Kernel::Gfni512 => unsafe { x86::gfni512::<OUTPUTS>(pass, outputs) },
            #[cfg(target_arch = "aarch64")]
            // SAFETY: as above.
            Kernel::Neon => unsafe { arm::neon::<OUTPUTS>(pass, outputs) },
            _ => pass.start,
        };
        scalar(pass, done_to, outputs);
    }
}

/// A matrix of coefficients, prepared for the kernels. Products are in the order of inputs, then outputs.
#[derive(Clone, Debug)]
pub(super) struct Products {
    inputs: usize,
    outputs: usize,
    /// The products with each lower half of a byte, and with each upper one.
    halves: Vec<[[u8; 16]; 2]>,
    /// GFNI's form: byte 7 - i gives bit i of the product, as the parity of what it has in common with the input.
    #[cfg_attr(not(target_arch = "x86_64"), expect(dead_code, reason = "GFNI is x86-64's"))]
    bits: Vec<u64>,
}

impl Products {
    /// The products that give `matrix.height()` outputs from `matrix.columns()` inputs.
    pub(super) fn of(matrix: &Matrix) -> Products {
        let (inputs, outputs) = (matrix.columns(), matrix.height());
        let places = (0..inputs).flat_map(|input| (0..outputs).map(move |output| (output, input)));
        let coefficients: Vec<u8> = places.map(|(row, column)| matrix.at(row, column)).collect();
        let halves = coefficients.iter().map(|coefficient| halves_of(*coefficient)).collect();
        let bits = coefficients.iter().map(|coefficient| bits_of(*coefficient)).collect();
        Products { inputs, outputs, halves, bits }
    }
}

fn halves_of(coefficient: u8) -> [[u8; 16]; 2] {
    [0, 4].map(|shift| std::array::from_fn(|half| mul(coefficient, (half as u8) << shift)))
}

fn bits_of(coefficient: u8) -> u64 {
    let row = |bit: usize| {
        (0..8).fold(0u8, |row, input| row | (mul(coefficient, 1 << input) >> bit & 1) << input)
    };
    u64::from_be_bytes(std::array::from_fn(row))
}

/// A run over the bytes `start..end` of all inputs, for some outputs.
struct Pass<'a> {
    products: &'a Products,
    inputs: &'a [&'a [u8]],
    /// Of the outputs that this pass makes; they follow each other.
    first_output: usize,
    start: usize,
    end: usize,
}

impl Pass<'_> {
    /// Where the products of an input with this pass's outputs begin.
    fn product(&self, input: usize) -> usize {
        input * self.products.outputs + self.first_output
    }
}

/// What vectors leave, or all: from `start` on.
fn scalar(pass: &Pass<'_>, start: usize, outputs: &mut [&mut [u8]]) {
    for (place, output) in outputs.iter_mut().enumerate() {
        let output = &mut output[start..pass.end];
        output.fill(0);
        for (number, input) in pass.inputs.iter().enumerate() {
            let [low, high] = &pass.products.halves[pass.product(number) + place];
            for (sum, byte) in output.iter_mut().zip(&input[start..pass.end]) {
                *sum ^= low[usize::from(byte & 15)] ^ high[usize::from(byte >> 4)];
            }
        }
    }
}
