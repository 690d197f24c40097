//! The byte form of a map, and the check that a decoded one keeps the invariants.
//!
//! | field | form |
//! |---|---|
//! | types | map u16 → string |
//! | buckets | vector of (i32 id, string name, u16 type, vector of (i32 id, u32 weight)) |
//! | rules | map u8 → (string name, bool erasure, vector of steps) |
//! | step | u8 tag, Ceph's number of the operation; then its fields |
//!
//! all of it in one versioned struct (1, 1).

use super::{
    BUCKET_ITEMS_MAX, BUCKETS_MAX, Bucket, CrushMap, DEVICES_MAX, Item, NAME_BYTES_MAX,
    REPLICAS_MAX, RULE_STEPS_MAX, RULES_MAX, Rule, Step, TRIES_MAX, TYPE_DEVICE, TYPES_MAX,
};
use crate::codec::{Decode, DecodeError, Encode, Reader, Writer};
use std::collections::{BTreeMap, BTreeSet};

crate::codec_struct!(Item { id, weight });
crate::codec_struct!(Bucket { id, name, kind, items });
crate::codec_struct!(Rule { name, erasure, steps });
crate::codec_enum!(Step {
    1 => Take { item },
    2 => ChooseFirstn { count, kind },
    3 => ChooseIndep { count, kind },
    4 => Emit {},
    6 => ChooseLeafFirstn { count, kind },
    7 => ChooseLeafIndep { count, kind },
    8 => SetChooseTries { tries },
    9 => SetChooseLeafTries { tries },
});

const VERSION: u8 = 1;
const COMPAT: u8 = 1;

impl Encode for CrushMap {
    fn encode(&self, out: &mut Writer) {
        out.versioned(VERSION, COMPAT, |out| {
            self.types.encode(out);
            u32::try_from(self.buckets.len()).expect("ids bound the buckets").encode(out);
            self.buckets.values().for_each(|bucket| bucket.encode(out));
            self.rules.encode(out);
        });
    }
}

impl Decode for CrushMap {
    fn decode(input: &mut Reader) -> Result<Self, DecodeError> {
        input.versioned("CrushMap", VERSION, |_, input| {
            let types = Decode::decode(input)?;
            let buckets: Vec<Bucket> = Decode::decode(input)?;
            let count = buckets.len();
            let buckets: BTreeMap<_, _> =
                buckets.into_iter().map(|bucket| (bucket.id, bucket)).collect();
            let map = CrushMap { types, buckets, rules: Decode::decode(input)? };
            if map.buckets.len() != count {
                return Err(invalid("CRUSH map, buckets of equal id", count));
            }
            map.check()?;
            Ok(map)
        })
    }
}

fn invalid(what: &'static str, value: impl TryInto<u64>) -> DecodeError {
    DecodeError::Invalid { what, value: value.try_into().unwrap_or(u64::MAX) }
}

/// `Ok` if the promise holds, else what is wrong, with a number that helps to find it.
fn require(promise: bool, what: &'static str, value: i64) -> Result<(), DecodeError> {
    // Ids are negative for buckets; their magnitude is shown.
    if promise { Ok(()) } else { Err(invalid(what, value.unsigned_abs())) }
}

/// Whether something may be called so: what shells, JSON and Ceph's tools take without quoting.
pub(super) fn is_name(name: &str) -> bool {
    (1..=NAME_BYTES_MAX).contains(&name.len())
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.' | b'~'))
}

/// Whether all are names and no two are equal.
fn are_unique_names<'a>(names: impl Iterator<Item = &'a String>) -> bool {
    let mut seen = BTreeSet::new();
    names.into_iter().all(|name| is_name(name) && seen.insert(name))
}

impl CrushMap {
    /// Checks every invariant of the module's list and every bound.
    pub(super) fn check(&self) -> Result<(), DecodeError> {
        let types = &self.types;
        require(types.len() <= TYPES_MAX, "CRUSH map, number of types", types.len() as i64)?;
        require(types.contains_key(&TYPE_DEVICE), "CRUSH map, types without that of devices", 0)?;
        require(are_unique_names(types.values()), "CRUSH map, names of types", 0)?;
        require(
            are_unique_names(self.buckets.values().map(|bucket| &bucket.name)),
            "CRUSH map, names of buckets",
            0,
        )?;
        require(self.rules.len() <= RULES_MAX, "CRUSH map, number of rules", 0)?;
        require(
            are_unique_names(self.rules.values().map(|rule| &rule.name)),
            "CRUSH map, names of rules",
            0,
        )?;
        let mut placed = BTreeSet::new();
        self.buckets.values().try_for_each(|bucket| self.check_bucket(bucket, &mut placed))?;
        self.rules.values().try_for_each(|rule| self.check_rule(rule))
    }

    fn check_bucket(&self, bucket: &Bucket, placed: &mut BTreeSet<i32>) -> Result<(), DecodeError> {
        let id = i64::from(bucket.id);
        require((-BUCKETS_MAX..0).contains(&bucket.id), "CRUSH bucket id", id)?;
        require(!bucket.name.starts_with("osd."), "CRUSH bucket named as a device, id -", id)?;
        require(
            bucket.kind != TYPE_DEVICE && self.types.contains_key(&bucket.kind),
            "CRUSH bucket with unknown type, id -",
            id,
        )?;
        require(
            bucket.items.len() <= BUCKET_ITEMS_MAX,
            "CRUSH bucket with too many items, id -",
            id,
        )?;
        let sum: u64 = bucket.items.iter().map(|item| u64::from(item.weight)).sum();
        require(sum <= u64::from(u32::MAX), "CRUSH bucket weight beyond 32 bits, id -", id)?;
        for item in &bucket.items {
            require(placed.insert(item.id), "CRUSH item in two buckets", item.id.into())?;
            self.check_item(bucket, item)?;
        }
        Ok(())
    }

    fn check_item(&self, bucket: &Bucket, item: &Item) -> Result<(), DecodeError> {
        let id = i64::from(item.id);
        if item.id >= 0 {
            return require(item.id < DEVICES_MAX, "CRUSH device id", id);
        }
        let child = self.buckets.get(&item.id);
        let child = child.ok_or_else(|| invalid("CRUSH item that does not exist, id -", -id))?;
        require(child.kind < bucket.kind, "CRUSH bucket within a lower or equal type, id -", id)?;
        require(child.weight() == item.weight, "CRUSH weight that is not the sum below, id -", id)
    }

    fn check_rule(&self, rule: &Rule) -> Result<(), DecodeError> {
        let len = rule.steps.len();
        require(len <= RULE_STEPS_MAX, "CRUSH rule, number of steps", len as i64)?;
        rule.steps.iter().try_for_each(|step| self.check_step(*step))
    }

    fn check_step(&self, step: Step) -> Result<(), DecodeError> {
        match step {
            Step::Take { item } => require(
                self.buckets.contains_key(&item) || self.parent_of(item).is_some(),
                "CRUSH rule that takes what does not exist",
                item.into(),
            ),
            Step::ChooseFirstn { count, kind }
            | Step::ChooseIndep { count, kind }
            | Step::ChooseLeafFirstn { count, kind }
            | Step::ChooseLeafIndep { count, kind } => {
                require(
                    count.unsigned_abs() as usize <= REPLICAS_MAX,
                    "CRUSH rule, count",
                    count.into(),
                )?;
                require(self.types.contains_key(&kind), "CRUSH rule with unknown type", kind.into())
            }
            Step::SetChooseTries { tries } | Step::SetChooseLeafTries { tries } => {
                require(tries <= TRIES_MAX, "CRUSH rule, number of tries", tries.into())
            }
            Step::Emit {} => Ok(()),
        }
    }
}
