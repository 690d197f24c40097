//! The coefficients are the published ones; every kernel gives what the scalar one gives; all that a code
//! promises to give back, it gives back; and an independent implementation computes the same bytes.

use super::field::{inverse, mul};
use super::matrix::{Matrix, coding_rows};
use super::*;
use reed_solomon_erasure::galois_8;

const TECHNIQUES: [Technique; 2] = [Technique::ReedSolVan, Technique::Cauchy];

/// A small generator of numbers, the same in every run.
struct Dice(u64);

impl Dice {
    fn roll(&mut self) -> u64 {
        // Steele's and Vigna's splitmix64.
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, limit: usize) -> usize {
        (self.roll() % limit as u64) as usize
    }

    fn bytes(&mut self, len: usize) -> Vec<u8> {
        (0..len).map(|_| self.roll() as u8).collect()
    }

    /// `count` of the numbers below `total`, ascending.
    fn choose(&mut self, count: usize, total: usize) -> Vec<usize> {
        let mut all: Vec<usize> = (0..total).collect();
        (0..total - count).for_each(|_| {
            let out = self.below(all.len());
            all.remove(out);
        });
        all
    }
}

/// Every choice of `count` of the numbers below `total`.
fn choices(count: usize, total: usize) -> Vec<Vec<usize>> {
    let bits = |set: u32| (0..total).filter(|n| set >> n & 1 == 1).collect();
    (0..1u32 << total).filter(|set| set.count_ones() as usize == count).map(bits).collect()
}

/// All slots of a code, data and coding, with random data.
fn slots(code: &Code, len: usize, dice: &mut Dice) -> Vec<Vec<u8>> {
    let mut slots: Vec<Vec<u8>> = (0..code.data()).map(|_| dice.bytes(len)).collect();
    let mut coding = vec![vec![0xee; len]; code.coding()];
    let data: Vec<&[u8]> = slots.iter().map(Vec::as_slice).collect();
    code.encode(&data, &mut coding.iter_mut().map(Vec::as_mut_slice).collect::<Vec<_>>());
    slots.extend(coding);
    slots
}

fn check_loss(code: &Code, slots: &[Vec<u8>], lost: &[usize]) {
    let present: Vec<(usize, &[u8])> = (0..slots.len())
        .filter(|slot| !lost.contains(slot))
        .map(|slot| (slot, slots[slot].as_slice()))
        .collect();
    let mut rebuilt = vec![vec![0x55; slots[0].len()]; lost.len()];
    let mut wanted: Vec<(usize, &mut [u8])> =
        lost.iter().copied().zip(rebuilt.iter_mut().map(Vec::as_mut_slice)).collect();
    code.reconstruct(&present, &mut wanted).expect("no more slots are lost than may be");
    for (slot, rebuilt) in lost.iter().zip(&rebuilt) {
        assert_eq!(rebuilt, &slots[*slot], "slot {slot} of {code:?} after the loss of {lost:?}");
    }
}

#[test]
fn the_field_is_that_of_the_independent_crate() {
    for a in 0..=u8::MAX {
        for b in 0..=u8::MAX {
            assert_eq!(mul(a, b), galois_8::mul(a, b), "{a} times {b}");
        }
        assert_eq!(inverse(a), (a != 0).then(|| galois_8::div(1, a)), "1 / {a}");
    }
}

#[test]
fn reed_sol_van_has_the_published_coefficients() {
    // What jerasure's manual prints for its example `reed_sol_01 7 7 8`.
    let published = [
        [1, 1, 1, 1, 1, 1, 1],
        [1, 199, 210, 240, 105, 121, 248],
        [1, 70, 91, 245, 56, 142, 167],
        [1, 170, 114, 42, 87, 78, 231],
        [1, 38, 236, 53, 233, 175, 65],
        [1, 64, 174, 232, 52, 237, 39],
        [1, 187, 104, 210, 211, 105, 186],
    ];
    assert_eq!(coding_rows(Technique::ReedSolVan, 7, 7), Matrix::of(7, 7, |r, c| published[r][c]));
    let code = Code::new(Technique::ReedSolVan, 4, 2).expect("it exists");
    let rows = [0, 1].map(|row| [0, 1, 2, 3].map(|column| code.coefficient(row, column)));
    assert_eq!(rows, [[1, 1, 1, 1], [1, 70, 143, 200]]);
}

#[test]
fn cauchy_is_the_inverse_of_the_difference() {
    let code = Code::new(Technique::Cauchy, 4, 2).expect("it exists");
    let rows = [0, 1].map(|row| [0, 1, 2, 3].map(|column| code.coefficient(row, column)));
    assert_eq!(rows, [[71, 167, 122, 186], [167, 71, 186, 122]]);
    for (data, coding) in [(2, 2), (10, 4), (16, 16)] {
        let rows = coding_rows(Technique::Cauchy, data, coding);
        for (row, column) in (0..coding).flat_map(|row| (0..data).map(move |column| (row, column)))
        {
            assert_eq!(galois_8::mul(rows.at(row, column), ((data + row) ^ column) as u8), 1);
        }
    }
}

#[test]
fn one_coding_slot_is_exclusive_or() {
    for technique in TECHNIQUES {
        let code = Code::new(technique, 5, 1).expect("it exists");
        let slots = slots(&code, 100, &mut Dice(1));
        let sum = (0..100).map(|at| slots[..5].iter().fold(0, |sum, slot| sum ^ slot[at]));
        assert_eq!(sum.collect::<Vec<_>>(), slots[5], "{technique:?}");
    }
}

fn gives_back(rows: &Matrix, present: &[usize]) -> bool {
    Matrix::identity(rows.columns()).above(rows).select(present).inverse().is_some()
}

#[test]
fn any_k_slots_are_enough() {
    let mut dice = Dice(2);
    for technique in TECHNIQUES {
        for (data, coding) in (1..10).flat_map(|data| (1..=10 - data).map(move |m| (data, m))) {
            let rows = coding_rows(technique, data, coding);
            for present in choices(data, data + coding) {
                assert!(gives_back(&rows, &present), "{technique:?} {data}+{coding}: {present:?}");
            }
        }
        for data in 1..SLOTS_MAX {
            let coding = SLOTS_MAX - data;
            let rows = coding_rows(technique, data, coding);
            for _ in 0..40 {
                let present = dice.choose(data, SLOTS_MAX);
                assert!(gives_back(&rows, &present), "{technique:?} {data}+{coding}: {present:?}");
            }
        }
    }
}

#[test]
fn the_matrix_that_is_left_out_does_not_always_give_back() {
    let rows = Matrix::of(11, 5, |row, column| {
        (0..row * column).fold(1, |power, _| mul(power, 2)) // (2^row)^column
    });
    assert!(choices(5, 16).iter().any(|present| !gives_back(&rows, present)));
}

#[test]
fn every_loss_up_to_m_is_rebuilt() {
    let mut dice = Dice(3);
    for technique in TECHNIQUES {
        for (data, coding) in [(1, 2), (2, 1), (2, 2), (4, 2), (5, 1), (6, 3), (8, 3), (3, 5)] {
            let code = Code::new(technique, data, coding).expect("it exists");
            let slots = slots(&code, 37, &mut dice);
            for lost in (1..=coding).flat_map(|count| choices(count, data + coding)) {
                check_loss(&code, &slots, &lost);
            }
        }
        for (data, coding) in [(10, 6), (16, 16), (28, 4)] {
            let code = Code::new(technique, data, coding).expect("it exists");
            let slots = slots(&code, 200, &mut dice);
            for _ in 0..50 {
                check_loss(&code, &slots, &dice.choose(coding, data + coding));
            }
        }
    }
}

#[test]
fn every_kernel_gives_what_the_scalar_one_gives() {
    let mut dice = Dice(4);
    let available = Kernel::ALL.into_iter().filter(|kernel| kernel.is_available());
    for kernel in available {
        for (data, coding) in [(1, 1), (4, 2), (3, 3), (6, 4), (5, 5), (9, 7), (16, 16)] {
            let code = Code::new(Technique::Cauchy, data, coding).expect("it exists");
            for len in (0..=150).chain([191, 255, 256, 257, 1023, 4096, 5000, 20_001]) {
                check_kernel(&code, kernel, len, &mut dice);
            }
        }
    }
}

/// Inputs and outputs begin at odd places, and what lies around the outputs stays as it was.
fn check_kernel(code: &Code, kernel: Kernel, len: usize, dice: &mut Dice) {
    let mut buffer = |_| {
        let at = dice.below(70);
        (at, dice.bytes(at + len))
    };
    let buffers: Vec<(usize, Vec<u8>)> = (0..code.data()).map(&mut buffer).collect();
    let data: Vec<&[u8]> = buffers.iter().map(|(at, bytes)| &bytes[*at..]).collect();
    let starts: Vec<usize> = (0..code.coding()).map(|_| dice.below(70)).collect();
    let run = |code: &Code| {
        let mut buffers = vec![vec![0xa5; 70 + len + 70]; code.coding()];
        let cut = |(buffer, at): (_, &usize)| -> &mut [u8] {
            &mut Vec::as_mut_slice(buffer)[*at..at + len]
        };
        code.encode(&data, &mut buffers.iter_mut().zip(&starts).map(cut).collect::<Vec<_>>());
        buffers
    };
    let right = run(&code.with_kernel(Kernel::Scalar));
    assert!(run(&code.with_kernel(kernel)) == right, "{kernel:?}, {len} bytes, {code:?}");
    for (buffer, at) in right.iter().zip(starts) {
        assert!(buffer[..at].iter().chain(&buffer[at + len..]).all(|byte| *byte == 0xa5));
    }
}

/// The crate's own matrix: a Vandermonde matrix (row i is i^0, i^1, …) times the inverse of its upper part.
fn matrix_of_the_crate(data: usize, coding: usize) -> Matrix {
    let power = |row: usize, column: usize| (0..column).fold(1, |power, _| mul(power, row as u8));
    let vandermonde = Matrix::of(data + coding, data, power);
    let upper = vandermonde.rows(0..data).inverse().expect("its rows are independent");
    vandermonde.rows(data..data + coding).times(&upper)
}

#[test]
fn an_independent_crate_computes_the_same_bytes() {
    let mut dice = Dice(5);
    for (data, coding) in [(2, 1), (4, 2), (6, 3), (10, 4), (20, 12)] {
        let code = Code::of_matrix(&matrix_of_the_crate(data, coding), Kernel::best());
        let oracle = galois_8::ReedSolomon::new(data, coding).expect("the crate has such codes");
        let ours = slots(&code, 1000, &mut dice);
        let mut theirs = ours.clone();
        theirs[data..].iter_mut().for_each(|coding| coding.fill(0));
        oracle.encode(&mut theirs).expect("the slots are of one length");
        assert!(ours == theirs, "encoding {data}+{coding}");
        for _ in 0..20 {
            let lost = dice.choose(coding, data + coding);
            let mut damaged: Vec<Option<Vec<u8>>> = theirs.iter().cloned().map(Some).collect();
            lost.iter().for_each(|slot| damaged[*slot] = None);
            oracle.reconstruct(&mut damaged).expect("no more slots are lost than may be");
            assert!(damaged.into_iter().eq(ours.iter().cloned().map(Some)), "{lost:?}");
            check_loss(&code, &ours, &lost);
        }
    }
}

/// Both of our matrices, multiplied out with the crate's field.
#[test]
fn our_matrices_agree_with_products_of_the_independent_crate() {
    let mut dice = Dice(6);
    for technique in TECHNIQUES {
        for (data, coding) in [(4, 2), (8, 4), (17, 15)] {
            let code = Code::new(technique, data, coding).expect("it exists");
            let slots = slots(&code, 300, &mut dice);
            for row in 0..coding {
                let mut sum = vec![0; 300];
                for (column, slot) in slots[..data].iter().enumerate() {
                    galois_8::mul_slice_xor(code.coefficient(row, column), slot, &mut sum);
                }
                assert_eq!(sum, slots[data + row], "{technique:?} {data}+{coding}, row {row}");
            }
        }
    }
}

#[test]
fn what_cannot_be_is_refused() {
    for (data, coding) in [(0, 1), (1, 0), (0, 0), (31, 2), (usize::MAX, 2)] {
        let refused = Code::new(Technique::Cauchy, data, coding).map(|code| code.data());
        assert_eq!(refused, Err(CodeError::Shape { data, coding }));
    }
    let code = Code::new(Technique::ReedSolVan, 3, 2).expect("it exists");
    let question = |present: &[usize], wanted: &[usize]| {
        code.decoder(present, wanted).map(|decoder| decoder.used().to_vec())
    };
    assert_eq!(question(&[0, 4], &[1]), Err(CodeError::TooFew { have: 2, need: 3 }));
    assert_eq!(question(&[0, 4, 4], &[1]), Err(CodeError::Slot(4)));
    assert_eq!(question(&[0, 4, 5], &[1]), Err(CodeError::Slot(5)));
    assert_eq!(question(&[0, 4, 3], &[5]), Err(CodeError::Slot(5)));
    assert_eq!(question(&[4, 3, 2, 0], &[1]), Ok(vec![0, 2, 3]));
}

#[test]
fn names_of_techniques_go_round() {
    for technique in TECHNIQUES {
        assert_eq!(Technique::by_name(technique.name()), Some(technique));
    }
    assert_eq!(Technique::by_name("liberation"), None);
}

#[test]
fn striping_goes_round_and_every_piece_is_where_it_says() {
    let mut dice = Dice(7);
    for (data, cell_bytes) in [(1, 4096), (2, 4096), (4, 8192), (5, 4096)] {
        let striping = Striping { data, cell_bytes };
        let stripe = striping.stripe_bytes() as usize;
        for len in [0, 1, 4095, 4096, 4097, stripe - 1, stripe, stripe + 1, 3 * stripe + 5000] {
            let bytes = dice.bytes(len);
            let shards = striping.split(&bytes);
            assert!(shards.iter().all(|s| s.len() as u64 == striping.shard_bytes(len as u64)));
            let parts: Vec<&[u8]> = shards.iter().map(Vec::as_slice).collect();
            assert!(striping.join(&parts, len) == bytes, "{striping:?}, {len} bytes");
            let start = dice.below(len + 1);
            let end = start + dice.below(len - start + 1);
            let mut at = start as u64;
            for piece in striping.pieces(start as u64..end as u64) {
                assert_eq!(piece.offset, at);
                let there = &shards[piece.slot][piece.shard_offset as usize..][..piece.len];
                assert_eq!(there, &bytes[at as usize..][..piece.len]);
                assert!(piece.len <= cell_bytes as usize);
                at += piece.len as u64;
            }
            assert_eq!(at, end as u64);
        }
    }
}

#[test]
fn stripes_and_cells_of_a_range() {
    let striping = Striping { data: 4, cell_bytes: 4096 };
    assert_eq!(striping.stripes(0..1), 0..16_384);
    assert_eq!(striping.stripes(16_383..16_385), 0..32_768);
    assert_eq!(striping.stripes(16_384..32_768), 16_384..32_768);
    assert_eq!(striping.stripes(20_000..20_000), 16_384..16_384);
    assert_eq!(striping.cells(16_384..49_152), 4096..12_288);
}
