//! A pool: how its objects are split into placement groups, and how many copies or slots each has.

use crate::codec::{Decode, DecodeError, Encode, Reader, Writer};
use crate::erasure::{
    CELL_BYTES_DEFAULT, CELL_BYTES_MAX, CELL_BYTES_UNIT, CodeError, SLOTS_MAX, Striping, Technique,
};
use crate::ids::Epoch;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// How a pool keeps its objects.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PoolKind {
    /// `size` whole copies.
    #[default]
    Replicated,
    /// `size` slots, k of data and m of coding: see [`Erasure`].
    Erasure,
}

impl Encode for PoolKind {
    fn encode(&self, out: &mut Writer) {
        // Ceph's numbers.
        match self {
            PoolKind::Replicated => 1u8,
            PoolKind::Erasure => 3,
        }
        .encode(out);
    }
}

impl Decode for PoolKind {
    fn decode(input: &mut Reader) -> Result<Self, DecodeError> {
        match u8::decode(input)? {
            1 => Ok(PoolKind::Replicated),
            3 => Ok(PoolKind::Erasure),
            tag => Err(DecodeError::Invalid { what: "pool kind", value: tag.into() }),
        }
    }
}

/// How an erasure-coded pool spreads its objects: fixed for good when the pool is made, because every byte
/// that it holds depends on it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Erasure {
    /// Slots with data: k.
    pub data: u8,
    /// Slots with coding: m; as many may be lost.
    pub coding: u8,
    /// The matrix.
    pub technique: Technique,
    /// Bytes of a stripe in one slot; whole units of 4 KiB, at most 64 KiB.
    pub cell_bytes: u32,
}
crate::codec_versioned!(Erasure, 1, 1 { data, coding, technique, cell_bytes });

impl Default for Erasure {
    fn default() -> Self {
        let technique = Technique::default();
        Erasure { data: 2, coding: 1, technique, cell_bytes: CELL_BYTES_DEFAULT }
    }
}

impl Erasure {
    /// What is wrong with these parameters, if anything.
    pub fn check(&self) -> Result<(), String> {
        let (data, coding, cell) = (self.data, self.coding, self.cell_bytes);
        if data == 0 || coding == 0 || usize::from(data) + usize::from(coding) > SLOTS_MAX {
            let shape = CodeError::Shape { data: data.into(), coding: coding.into() };
            return Err(shape.to_string());
        }
        match cell > 0 && cell <= CELL_BYTES_MAX && cell.is_multiple_of(CELL_BYTES_UNIT) {
            true => Ok(()),
            false => Err(format!(
                "a cell is a multiple of {CELL_BYTES_UNIT} and at most {CELL_BYTES_MAX}, not {cell}"
            )),
        }
    }

    /// Slots in all: k + m, the size of the pool.
    pub fn slots(&self) -> u8 {
        self.data.saturating_add(self.coding)
    }

    /// How objects lie over the slots.
    pub fn striping(&self) -> Striping {
        Striping { data: self.data.into(), cell_bytes: self.cell_bytes }
    }
}

/// A pool.
///
/// Version 2 added `erasure`. A program that knows only version 1 would keep such a pool as plain copies, so
/// a pool with slots says that older ones may not read it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pool {
    /// For people; unique.
    pub name: String,
    /// How objects are kept.
    pub kind: PoolKind,
    /// Copies, or slots, that a healthy placement group has.
    pub size: u8,
    /// Copies, or slots, without which nothing is committed (R10).
    pub min_size: u8,
    /// Placement groups.
    pub pg_num: u32,
    /// Placement groups as far as CRUSH is concerned; equals `pg_num` when no split is under way.
    pub pgp_num: u32,
    /// The CRUSH rule; below 256.
    pub crush_rule: u32,
    /// The epoch of the last change of this pool.
    pub last_change: Epoch,
    /// Clients resend what they sent under an older epoch (a split).
    pub resend_since: Epoch,
    /// Newest snapshot of the pool.
    pub snap_seq: u64,
    /// 0 for none.
    pub quota_bytes: u64,
    /// 0 for none.
    pub quota_objects: u64,
    /// What uses the pool: "s3", "cephfs", …
    pub applications: BTreeMap<String, BTreeMap<String, String>>,
    /// Settings by name that this struct does not know.
    pub options: BTreeMap<String, String>,
    /// How the bytes are spread over slots; there if and only if the kind is [`PoolKind::Erasure`].
    pub erasure: Option<Erasure>,
}

/// The version of a pool's byte form.
const POOL_VERSION: u8 = 2;

impl Encode for Pool {
    fn encode(&self, out: &mut Writer) {
        let compat = if self.erasure.is_some() { POOL_VERSION } else { 1 };
        out.versioned(POOL_VERSION, compat, |out| {
            self.name.encode(out);
            self.kind.encode(out);
            [self.size, self.min_size].iter().for_each(|n| n.encode(out));
            [self.pg_num, self.pgp_num, self.crush_rule].iter().for_each(|n| n.encode(out));
            [self.last_change, self.resend_since].iter().for_each(|epoch| epoch.encode(out));
            [self.snap_seq, self.quota_bytes, self.quota_objects]
                .iter()
                .for_each(|n| n.encode(out));
            self.applications.encode(out);
            self.options.encode(out);
            self.erasure.encode(out);
        });
    }
}

impl Decode for Pool {
    fn decode(input: &mut Reader) -> Result<Self, DecodeError> {
        input.versioned("Pool", POOL_VERSION, |version, input| {
            let pool = Pool {
                name: Decode::decode(input)?,
                kind: Decode::decode(input)?,
                size: Decode::decode(input)?,
                min_size: Decode::decode(input)?,
                pg_num: Decode::decode(input)?,
                pgp_num: Decode::decode(input)?,
                crush_rule: Decode::decode(input)?,
                last_change: Decode::decode(input)?,
                resend_since: Decode::decode(input)?,
                snap_seq: Decode::decode(input)?,
                quota_bytes: Decode::decode(input)?,
                quota_objects: Decode::decode(input)?,
                applications: Decode::decode(input)?,
                options: Decode::decode(input)?,
                erasure: if version >= 2 { Decode::decode(input)? } else { None },
            };
            let fits = match (&pool.erasure, pool.kind) {
                (Some(erasure), PoolKind::Erasure) => {
                    erasure.check().is_ok() && erasure.slots() == pool.size
                }
                (None, PoolKind::Replicated) => true,
                _ => false,
            };
            match fits {
                true => Ok(pool),
                false => Err(DecodeError::Invalid { what: "pool size", value: pool.size.into() }),
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pool(erasure: Option<Erasure>) -> Pool {
        let kind = if erasure.is_some() { PoolKind::Erasure } else { PoolKind::Replicated };
        let options = BTreeMap::from([("a".to_string(), "b".to_string())]);
        Pool {
            name: "p".into(),
            kind,
            size: 3,
            min_size: 2,
            pg_num: 8,
            options,
            erasure,
            ..Pool::default()
        }
    }

    #[test]
    fn both_kinds_go_round_and_truncation_is_an_error() {
        for pool in [pool(None), pool(Some(Erasure::default()))] {
            let bytes = pool.to_bytes();
            assert_eq!(Pool::from_bytes(bytes.clone()), Ok(pool));
            for len in 0..bytes.len() {
                assert!(Pool::from_bytes(bytes.slice(..len)).is_err(), "{len} bytes");
            }
        }
    }

    #[test]
    fn a_pool_of_the_first_version_is_read() {
        let mut old = pool(None).to_bytes().to_vec();
        // The first version ended before the option, which is one byte when empty.
        assert_eq!(old.pop(), Some(0));
        old[0] = 1;
        let len = u32::try_from(old.len() - 6).expect("a pool is small");
        old[2..6].copy_from_slice(&len.to_le_bytes());
        assert_eq!(Pool::from_bytes(old.into()), Ok(pool(None)));
    }

    #[test]
    fn older_programs_may_read_pools_of_copies_only() {
        let compat = |pool: Pool| pool.to_bytes()[1];
        assert_eq!(compat(pool(None)), 1);
        assert_eq!(compat(pool(Some(Erasure::default()))), 2);
    }

    #[test]
    fn a_kind_without_fitting_parameters_is_refused() {
        let torn = Pool { kind: PoolKind::Erasure, ..pool(None) };
        assert!(Pool::from_bytes(torn.to_bytes()).is_err());
        let whole = Erasure::default();
        for wrong in [
            Erasure { data: 0, coding: 3, ..whole.clone() },
            Erasure { data: 3, coding: 0, ..whole.clone() },
            Erasure { coding: 2, ..whole.clone() },
            Erasure { cell_bytes: 0, ..whole.clone() },
            Erasure { cell_bytes: 5000, ..whole.clone() },
            Erasure { cell_bytes: 2 * CELL_BYTES_MAX, ..whole },
        ] {
            assert!(Pool::from_bytes(pool(Some(wrong)).to_bytes()).is_err());
        }
    }
}
