//! Erasure codes: k slots of data give m slots of coding, and any k of the k + m give everything back.
//!
//! Bytes are elements of GF(2^8) with the polynomial x^8 + x^4 + x^3 + x^2 + 1 (0x11d) and the generator 2, as
//! in jerasure, ISA-L and RAID-6. Byte `p` of coding slot `i` is the sum (exclusive or) over all data slots
//! `j` of `coefficient[i][j] · data[j][p]`. The codes are systematic: data slots hold the data as it is. The
//! coefficients are on disks for good and never change; [`matrix`] documents how they are made.
//!
//! - [`Code`] encodes and rebuilds; [`Decoder`] is one rebuild, prepared for many stripes.
//! - [`Striping`] says which byte of an object lies where in which slot.
//! - [`Kernel`] is the arithmetic in the processor's widest suitable instructions.
//!
//! Byte positions do not influence each other. So a whole shard may be coded at once or cell by cell, with the
//! same result, and the length needs no alignment.
//!
//! Deliberately absent: local groups (LRC), regenerating codes, word sizes other than 8, and the matrix of
//! ISA-L's `gf_gen_rs_matrix` (coding row i is (2^i)^j), some of whose k of k + m slots do not give the data back.

mod field;
mod kernel;
pub mod matrix;
mod striping;
#[cfg(test)]
mod tests;

pub use kernel::Kernel;
pub use striping::{CELL_BYTES_DEFAULT, CELL_BYTES_MAX, CELL_BYTES_UNIT, Piece, Striping};

use kernel::Products;
use matrix::Matrix;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// Slots of one code, data and coding together.
pub const SLOTS_MAX: usize = 32;

/// How the coding matrix is made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Technique {
    /// jerasure's systematic Vandermonde matrix: the first coding row and the first column are ones.
    #[default]
    ReedSolVan,
    /// ISA-L's Cauchy matrix: coding row i, column j is 1 / ((k + i) ⊕ j).
    Cauchy,
}
crate::codec_enum!(Technique { 1 => ReedSolVan {}, 2 => Cauchy {} });

impl Technique {
    /// The name in profiles, which is Ceph's.
    pub fn name(self) -> &'static str {
        match self {
            Technique::ReedSolVan => "reed_sol_van",
            Technique::Cauchy => "cauchy",
        }
    }

    /// The technique of that name.
    pub fn by_name(name: &str) -> Option<Technique> {
        [Technique::ReedSolVan, Technique::Cauchy].into_iter().find(|t| t.name() == name)
    }
}

/// Why a code cannot be made or slots cannot be rebuilt.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CodeError {
    /// There is no such code. Refuse the profile.
    #[error(
        "no code of {data} data and {coding} coding slots: 1 or more of each, {SLOTS_MAX} together"
    )]
    Shape {
        /// Data slots asked for.
        data: usize,
        /// Coding slots asked for.
        coding: usize,
    },
    /// Too few slots are there. Wait for others, or fetch more.
    #[error("{have} slots cannot give back what needs {need}")]
    TooFew {
        /// Slots that are there.
        have: usize,
        /// Slots that are needed: k.
        need: usize,
    },
    /// A slot was named twice, or there is no such slot: an error of the caller's, nothing was written.
    #[error("slot {0} is named twice, or does not exist")]
    Slot(usize),
}

/// A code: immutable, and cheap to clone and share.
#[derive(Clone, Debug)]
pub struct Code {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    data: usize,
    coding: usize,
    /// k + m rows of k coefficients; the upper k are the identity.
    generator: Matrix,
    encoding: Products,
    kernel: Kernel,
}

impl Code {
    /// The code of a technique for `data` (k) and `coding` (m) slots, with the fastest kernel there is.
    pub fn new(technique: Technique, data: usize, coding: usize) -> Result<Code, CodeError> {
        if data == 0 || coding == 0 || data.saturating_add(coding) > SLOTS_MAX {
            return Err(CodeError::Shape { data, coding });
        }
        Ok(Code::of_matrix(&matrix::coding_rows(technique, data, coding), Kernel::best()))
    }

    /// The same code, computed in another way: for comparisons.
    pub fn with_kernel(&self, kernel: Kernel) -> Code {
        assert!(kernel.is_available(), "this processor has no {kernel:?}");
        Code::of_matrix(
            &self.inner.generator.rows(self.data()..self.data() + self.coding()),
            kernel,
        )
    }

    fn of_matrix(coding_rows: &Matrix, kernel: Kernel) -> Code {
        let (data, coding) = (coding_rows.columns(), coding_rows.height());
        let generator = Matrix::identity(data).above(coding_rows);
        let encoding = Products::of(coding_rows);
        Code { inner: Arc::new(Inner { data, coding, generator, encoding, kernel }) }
    }

    /// k.
    pub fn data(&self) -> usize {
        self.inner.data
    }

    /// m.
    pub fn coding(&self) -> usize {
        self.inner.coding
    }

    /// What data slot `column` is multiplied by in coding slot `row` (0 to m - 1).
    pub fn coefficient(&self, row: usize, column: usize) -> u8 {
        self.inner.generator.at(self.inner.data + row, column)
    }

    /// Fills the coding slots. All slots are of one length.
    pub fn encode(&self, data: &[&[u8]], coding: &mut [&mut [u8]]) {
        assert_eq!(data.len(), self.data(), "encoding takes every data slot");
        assert_eq!(coding.len(), self.coding(), "encoding fills every coding slot");
        self.inner.kernel.run(&self.inner.encoding, data, coding);
    }

    /// Prepares the rebuilding of `wanted` slots from `present` ones: 0 to k - 1 are data, k to k + m - 1 coding.
    /// Of more than k present slots the first k by number are used, so data slots go before coding slots.
    pub fn decoder(&self, present: &[usize], wanted: &[usize]) -> Result<Decoder, CodeError> {
        let mut used = present.to_vec();
        used.sort_unstable();
        let total = self.data() + self.coding();
        let twice = used.windows(2).find(|pair| pair[0] == pair[1]).map(|pair| pair[0]);
        let beyond = used.iter().chain(wanted).copied().find(|slot| *slot >= total);
        if let Some(slot) = twice.or(beyond) {
            return Err(CodeError::Slot(slot));
        }
        if used.len() < self.data() {
            return Err(CodeError::TooFew { have: used.len(), need: self.data() });
        }
        used.truncate(self.data());
        let generator = &self.inner.generator;
        let inverse =
            generator.select(&used).inverse().expect("any k slots of this code are enough");
        let products = Products::of(&generator.select(wanted).times(&inverse));
        Ok(Decoder { used, wanted: wanted.to_vec(), products, kernel: self.inner.kernel })
    }

    /// Rebuilds the wanted slots from k or more present ones, all of one length.
    pub fn reconstruct(
        &self,
        present: &[(usize, &[u8])],
        wanted: &mut [(usize, &mut [u8])],
    ) -> Result<(), CodeError> {
        let slots = |(slot, _): &(usize, &[u8])| *slot;
        let present_slots: Vec<usize> = present.iter().map(slots).collect();
        let wanted_slots: Vec<usize> = wanted.iter().map(|(slot, _)| *slot).collect();
        let decoder = self.decoder(&present_slots, &wanted_slots)?;
        let of_slot = |slot: &usize| {
            let found = present.iter().find(|(there, _)| there == slot);
            found.expect("a decoder uses slots that are present").1
        };
        let used: Vec<&[u8]> = decoder.used().iter().map(of_slot).collect();
        let mut outputs: Vec<&mut [u8]> =
            wanted.iter_mut().map(|(_, bytes)| &mut **bytes).collect();
        decoder.run(&used, &mut outputs);
        Ok(())
    }
}

/// One rebuild, prepared: worth keeping while the same slots are lacking.
#[derive(Clone, Debug)]
pub struct Decoder {
    used: Vec<usize>,
    wanted: Vec<usize>,
    products: Products,
    kernel: Kernel,
}

impl Decoder {
    /// The k slots that are read, ascending.
    pub fn used(&self) -> &[usize] {
        &self.used
    }

    /// The slots that are rebuilt, in the order of the question.
    pub fn wanted(&self) -> &[usize] {
        &self.wanted
    }

    /// Rebuilds: `used` in the order of [`Decoder::used`], `wanted` in that of [`Decoder::wanted`], all of one
    /// length.
    pub fn run(&self, used: &[&[u8]], wanted: &mut [&mut [u8]]) {
        assert_eq!(used.len(), self.used.len(), "rebuilding takes every used slot");
        assert_eq!(wanted.len(), self.wanted.len(), "rebuilding fills every wanted slot");
        self.kernel.run(&self.products, used, wanted);
    }
}
