//! What a group says behind its batches: whose steps the groups before it have, and a checksum of its own steps.
//! Pure.
//!
//! A group that rots takes steps with it. Of which placement groups they were is what the groups behind it
//! still know: only those are damaged, and all others go on. And as most of a group's bytes are data, which have
//! checksums of their own where they are referred to, steps that are whole count although data beside them rot.
//!
//! Behind the last batch of a group:
//!
//! | bytes | |
//! |---|---|
//! | 4 | length of the body |
//! | | body: [`Trailer`], versioned form |
//! | 4 | crc32c of the body |
//!
//! A program that does not know it skips it; a group without one has zeros there, or nothing.

use super::format::{RawBatch, checksum};
use super::step::Step;
use bytes::Bytes;
use std::collections::{BTreeSet, VecDeque};
use store_base::PgId;
use store_base::codec::{Decode, Encode};

/// Bytes around the body.
const FRAME_BYTES: usize = 8;

/// Most groups that one group speaks of.
const TOUCHES_MAX: usize = 16;

/// Whose steps a group has.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Touch {
    /// Sequence of its first batch.
    pub first: u64,
    /// Its batches.
    pub count: u32,
    /// Placement groups.
    pub pgs: BTreeSet<PgId>,
    /// Named values of the daemon.
    pub names: BTreeSet<Bytes>,
}
store_base::codec_struct!(Touch { first, count, pgs, names });

impl Touch {
    /// Adds a step.
    pub fn add(&mut self, step: &Step) {
        match step {
            Step::Super { key, .. } => drop(self.names.insert(Bytes::copy_from_slice(key))),
            Step::SplitPg { pg, from, to } => {
                self.pgs.extend(pg.children(*from, *to).chain([*pg]));
            }
            step => self.pgs.extend(step.pg()),
        }
    }

    /// Adds all of another.
    pub fn merge(&mut self, other: Touch) {
        self.pgs.extend(other.pgs);
        self.names.extend(other.names);
    }

    /// The last batch.
    pub fn last(&self) -> u64 {
        self.first + u64::from(self.count) - 1
    }
}

/// See the module. Versioned form, version 1.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Trailer {
    /// crc32c of the steps of all batches, one behind the other.
    pub steps_crc: u32,
    /// Groups before this one, the newest first.
    pub touches: Vec<Touch>,
}
store_base::codec_versioned!(Trailer, 1, 1 { steps_crc, touches });

/// The groups written last, the newest first.
#[derive(Clone, Debug, Default)]
pub struct Recent(VecDeque<Touch>);

impl Recent {
    /// A group was written.
    pub fn push(&mut self, touch: Touch) {
        self.0.push_front(touch);
        self.0.truncate(TOUCHES_MAX);
    }

    /// The least that the next group must have room for.
    pub fn bytes_min(&self) -> usize {
        self.encode(0, 0).len()
    }

    /// The bytes behind the batches of a group, at most `room`; more only if less would not do.
    pub fn encode(&self, steps_crc: u32, room: usize) -> Vec<u8> {
        let mut best = None;
        for count in 0..=self.0.len() {
            let touches = self.0.iter().take(count).cloned().collect();
            let body = Trailer { steps_crc, touches }.to_bytes();
            if count > 1 && FRAME_BYTES + body.len() > room {
                break;
            }
            best = Some(body);
        }
        let body = best.unwrap_or_default();
        let mut out = Vec::with_capacity(FRAME_BYTES + body.len());
        out.extend_from_slice(&(body.len() as u32).to_le_bytes());
        out.extend_from_slice(&body);
        out.extend_from_slice(&checksum(&body).to_le_bytes());
        out
    }
}

/// What lies behind the batches of a group, if it is whole.
pub fn decode(rest: &Bytes) -> Option<Trailer> {
    let number = |at: usize| -> Option<usize> {
        let four: [u8; 4] = rest.get(at..at + 4)?.try_into().ok()?;
        usize::try_from(u32::from_le_bytes(four)).ok()
    };
    let length = number(0)?;
    let end = 4usize.checked_add(length)?;
    let body = rest.get(4..end).filter(|body| !body.is_empty())?;
    if checksum(body) as usize != number(end)? {
        return None;
    }
    let trailer = Trailer::from_bytes(Bytes::copy_from_slice(body)).ok()?;
    trailer.touches.iter().all(|touch| touch.first > 0 && touch.count > 0).then_some(trailer)
}

/// The checksum of steps that a trailer has.
pub fn steps_checksum<'a>(steps: impl Iterator<Item = &'a [u8]>) -> u32 {
    steps.fold(0, |sum, steps| sum.rotate_left(1) ^ checksum(steps))
}

impl Trailer {
    /// Whether these are the steps that were written.
    pub fn vouches_for(&self, batches: &[RawBatch]) -> bool {
        self.steps_crc == steps_checksum(batches.iter().map(|batch| &batch.steps[..]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use store_base::PoolId;

    fn touch(first: u64, pgs: u32) -> Touch {
        let pgs = (0..pgs).map(|seed| PgId { pool: PoolId(1), seed }).collect();
        Touch { first, count: 2, pgs, names: [Bytes::from_static(b"n")].into() }
    }

    #[test]
    fn it_has_the_group_before_and_what_fits() {
        let mut recent = Recent::default();
        assert_eq!(
            decode(&recent.encode(7, 0).into()),
            Some(Trailer { steps_crc: 7, touches: vec![] })
        );
        (0..30).for_each(|n| recent.push(touch(1 + 2 * n, 20)));
        let least = recent.encode(7, 0);
        assert_eq!(least.len(), recent.bytes_min());
        let found = decode(&least.into()).expect("whole");
        assert_eq!(found.touches, [touch(59, 20)]);
        let most = recent.encode(7, 1000);
        assert!(most.len() <= 1000);
        let found = decode(&most.into()).expect("whole");
        assert!(found.touches.len() > 2 && found.touches[1] == touch(57, 20));
        assert_eq!(
            decode(&recent.encode(7, 1 << 20).into()).expect("whole").touches.len(),
            TOUCHES_MAX
        );
    }

    #[test]
    fn what_is_damaged_or_not_there_is_none() {
        let mut recent = Recent::default();
        recent.push(touch(5, 1));
        let whole = recent.encode(9, 0);
        for at in 0..whole.len() {
            let mut bad = whole.clone();
            bad[at] ^= 1;
            assert_eq!(decode(&bad.into()), None, "a flipped bit at {at}");
            assert_eq!(decode(&whole[..at].to_vec().into()), None, "cut at {at}");
        }
        assert_eq!(decode(&vec![0; 100].into()), None);
        let golden: String = whole.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(
            golden,
            "33000000".to_string()
                + "01012d000000"
                + "09000000"
                + "01000000"
                + "0500000000000000"
                + "02000000"
                + "01000000"
                + "010000000000000000000000"
                + "01000000"
                + "010000006e"
                + &golden[golden.len() - 8..]
        );
    }
}
