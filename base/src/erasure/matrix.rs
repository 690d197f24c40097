//! Matrices over GF(2^8), and the two that codes are made from.
//!
//! **`reed_sol_van`** is `reed_sol_vandermonde_coding_matrix(k, m, 8)` of jerasure (Plank; technique of that name
//! in Ceph). It begins with the *extended* Vandermonde matrix of k + m rows and k columns: row 0 is 1, 0, …, 0;
//! row i is i^0, i^1, …, i^(k-1); the last row is 0, …, 0, 1. Then:
//! 1. column operations turn the upper k rows into the identity;
//! 2. in the coding rows, every column is divided by its entry in the first of them, which thereby is all ones
//!    (with m = 1 the code is plain exclusive or);
//! 3. every further coding row is divided by its first entry, so that the first column is ones too.
//!
//! Any k rows of an extended Vandermonde matrix are independent, and no step changes that.
//! For k = 4, m = 2 the coding rows are 1 1 1 1 and 1 70 143 200.
//!
//! **`cauchy`** is `gf_gen_cauchy1_matrix` of ISA-L: coding row i, column j is 1 / ((k + i) ⊕ j). Every square part
//! of a Cauchy matrix has an inverse, so any k slots are enough. With m = 1 it is all ones instead, as in Ceph's
//! `isa` plugin. For k = 4, m = 2 the coding rows are 71 167 122 186 and 167 71 186 122.

use super::Technique;
use super::field::{inverse, mul};
use std::ops::Range;

/// A matrix, by rows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Matrix {
    columns: usize,
    cells: Vec<u8>,
}

/// The coding rows of a technique: m rows of k coefficients. k + m is at most 256, where elements would run out.
pub(super) fn coding_rows(technique: Technique, data: usize, coding: usize) -> Matrix {
    match technique {
        _ if coding == 1 => Matrix::of(1, data, |_, _| 1),
        Technique::ReedSolVan => reed_sol_van(data, coding),
        Technique::Cauchy => Matrix::of(coding, data, |row, column| {
            let difference = (data + row) ^ column; // never 0: column is below k
            inverse(difference as u8).expect("a row and a column never have the same number")
        }),
    }
}

fn reed_sol_van(data: usize, coding: usize) -> Matrix {
    let mut matrix = extended_vandermonde(data + coding, data);
    for row in 1..data {
        matrix.make_unit_row(row);
    }
    let mut coding_rows = matrix.rows(data..data + coding);
    for column in 0..data {
        coding_rows.scale_column(column, recip(coding_rows.at(0, column)));
    }
    for row in 1..coding {
        let factor = recip(coding_rows.at(row, 0));
        coding_rows.row_mut(row).iter_mut().for_each(|cell| *cell = mul(*cell, factor));
    }
    coding_rows
}

fn extended_vandermonde(height: usize, columns: usize) -> Matrix {
    Matrix::of(height, columns, |row, column| match row {
        0 => (column == 0).into(),
        _ if row == height - 1 => (column == columns - 1).into(),
        _ => (0..column).fold(1, |power, _| mul(power, row as u8)),
    })
}

/// The inverse of an entry that is not 0 because every k rows are independent.
fn recip(cell: u8) -> u8 {
    inverse(cell).expect("no coefficient of a code is 0")
}

impl Matrix {
    pub(super) fn of(height: usize, columns: usize, cell: impl Fn(usize, usize) -> u8) -> Matrix {
        let cell = &cell;
        let cells = (0..height).flat_map(|row| (0..columns).map(move |column| cell(row, column)));
        Matrix { columns, cells: cells.collect() }
    }

    pub(super) fn identity(size: usize) -> Matrix {
        Matrix::of(size, size, |row, column| (row == column).into())
    }

    /// Entries of a row.
    pub fn columns(&self) -> usize {
        self.columns
    }

    /// Rows.
    pub fn height(&self) -> usize {
        self.cells.len() / self.columns
    }

    /// An entry.
    pub fn at(&self, row: usize, column: usize) -> u8 {
        self.row(row)[column]
    }

    pub(super) fn row(&self, row: usize) -> &[u8] {
        &self.cells[row * self.columns..][..self.columns]
    }

    fn row_mut(&mut self, row: usize) -> &mut [u8] {
        &mut self.cells[row * self.columns..][..self.columns]
    }

    pub(super) fn rows(&self, range: Range<usize>) -> Matrix {
        let cells = self.cells[range.start * self.columns..range.end * self.columns].to_vec();
        Matrix { columns: self.columns, cells }
    }

    /// The named rows, in that order.
    pub(super) fn select(&self, rows: &[usize]) -> Matrix {
        let cells = rows.iter().flat_map(|row| self.row(*row)).copied().collect();
        Matrix { columns: self.columns, cells }
    }

    /// This one with another below it.
    pub(super) fn above(mut self, below: &Matrix) -> Matrix {
        assert_eq!(self.columns, below.columns, "rows of one matrix have one length");
        self.cells.extend_from_slice(&below.cells);
        self
    }

    pub(super) fn times(&self, right: &Matrix) -> Matrix {
        assert_eq!(self.columns, right.height(), "a product needs matching shapes");
        Matrix::of(self.height(), right.columns, |row, column| {
            let terms = self.row(row).iter().enumerate();
            terms.fold(0, |sum, (inner, cell)| sum ^ mul(*cell, right.at(inner, column)))
        })
    }

    /// The inverse, by Gauss and Jordan; `None` if the rows depend on each other.
    pub(super) fn inverse(&self) -> Option<Matrix> {
        let size = self.columns;
        assert_eq!(size, self.height(), "only square matrices have an inverse");
        let mut left = self.clone();
        let mut right = Matrix::identity(size);
        for pivot in 0..size {
            let found = (pivot..size).find(|row| left.at(*row, pivot) != 0)?;
            let factor = inverse(left.at(found, pivot))?;
            for matrix in [&mut left, &mut right] {
                matrix.swap_rows(found, pivot);
                matrix.row_mut(pivot).iter_mut().for_each(|cell| *cell = mul(*cell, factor));
            }
            for row in (0..size).filter(|row| *row != pivot) {
                let factor = left.at(row, pivot);
                left.add_row(pivot, factor, row);
                right.add_row(pivot, factor, row);
            }
        }
        Some(right)
    }

    fn swap_rows(&mut self, a: usize, b: usize) {
        for column in 0..self.columns {
            self.cells.swap(a * self.columns + column, b * self.columns + column);
        }
    }

    /// Adds `factor` times row `from` to row `to`.
    fn add_row(&mut self, from: usize, factor: u8, to: usize) {
        for column in 0..self.columns {
            let product = mul(self.at(from, column), factor);
            self.row_mut(to)[column] ^= product;
        }
    }

    fn scale_column(&mut self, column: usize, factor: u8) {
        for row in 0..self.height() {
            let cell = &mut self.row_mut(row)[column];
            *cell = mul(*cell, factor);
        }
    }

    /// Column operations after which `row` is 0 but for a 1 in column `row`; the rows above stay as they are.
    fn make_unit_row(&mut self, row: usize) {
        if self.at(row, row) == 0 {
            let lower = (row + 1..self.height()).find(|lower| self.at(*lower, row) != 0);
            self.swap_rows(row, lower.expect("the columns are independent"));
        }
        self.scale_column(row, recip(self.at(row, row)));
        for column in (0..self.columns).filter(|column| *column != row) {
            let factor = self.at(row, column);
            for height in 0..self.height() {
                let product = mul(self.at(height, row), factor);
                self.row_mut(height)[column] ^= product;
            }
        }
    }
}
