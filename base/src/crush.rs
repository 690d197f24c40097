//! CRUSH: which daemons a placement group should be on, computed by everybody alike from a small map.
//!
//! The map is a forest of weighted **buckets** (hosts, racks, …) with the daemons' devices as leaves, and
//! a few **rules**: "take this root, choose three hosts, one device in each". Choosing is pseudo-random:
//! every child of a bucket draws a straw, a hash scaled by its weight, and the longest wins ("straw2").
//! So a child's share follows its weight, and changing one weight moves data only from or to that child.
//!
//! Results are bit-exact with Ceph, under its "jewel" tunables and no others, since Ceph's clients
//! compute them too. `tests/tests/placement_oracle.rs` compares with Ceph's own tools.
//!
//! | module | concept |
//! |---|---|
//! | `crush` | the map and its lookups |
//! | [`edit`] | changes that keep the invariants |
//! | [`choose`] | running a rule |
//! | [`placement`] | from a placement group to its up set: rule, upmap, down daemons, primary affinity |
//! | [`tree`] | the forest as a table for people |
//!
//! # Invariants
//!
//! They hold after every edit and are checked on decoding:
//! - A bucket holds only what has a lower type number, so the forest has no cycles and is no deeper than
//!   there are types.
//! - Everything hangs in at most one bucket.
//! - The weight by which a bucket hangs in its parent is the sum of its own children's.
//! - Names are unique among buckets, types and rules each; a device is always called `osd.N`.
//! - What a rule takes exists.
//!
//! Deliberately absent: the older bucket algorithms, tunables, device classes and choose_args.

pub mod choose;
mod codec;
pub mod edit;
mod ln;
pub mod placement;
pub mod tree;

use crate::ids::DaemonId;
use serde::Serialize;
use std::collections::BTreeMap;

/// Weight 1.0, in 16.16 fixed point. By convention 1.0 is one TiB.
pub const WEIGHT_ONE: u32 = 0x10000;

/// The type number of devices.
pub const TYPE_DEVICE: u16 = 0;

/// The type number of roots.
pub const TYPE_ROOT: u16 = 11;

/// The root that every new map has.
pub const ROOT_DEFAULT: &str = "default";

/// Device ids are below this.
pub const DEVICES_MAX: i32 = 1 << 16;

/// Bucket ids are −1 down to minus this.
pub const BUCKETS_MAX: i32 = 1 << 16;

/// Children of one bucket.
pub const BUCKET_ITEMS_MAX: usize = 1 << 14;

/// Kinds of bucket, the device included. Bounds the depth of the forest.
pub const TYPES_MAX: usize = 64;

/// Rules; Ceph's rule ids are one byte.
pub const RULES_MAX: usize = 256;

/// Steps of a rule.
pub const RULE_STEPS_MAX: usize = 64;

/// What a rule may set as its number of tries.
pub const TRIES_MAX: u32 = 1000;

/// Most daemons that one placement group can be on.
pub const REPLICAS_MAX: usize = 64;

/// Longest name of a type, bucket or rule, in bytes.
pub const NAME_BYTES_MAX: usize = 128;

/// The kinds of bucket of a new map, as Ceph has them.
const TYPES: [&str; 12] = [
    "osd",
    "host",
    "chassis",
    "rack",
    "row",
    "pdu",
    "pod",
    "room",
    "datacenter",
    "zone",
    "region",
    "root",
];

/// The map. See the module for its invariants.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct CrushMap {
    types: BTreeMap<u16, String>,
    buckets: BTreeMap<i32, Bucket>,
    rules: BTreeMap<u8, Rule>,
}

/// An inner node of the forest.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Bucket {
    /// Negative.
    pub id: i32,
    /// For people; unique.
    pub name: String,
    /// Its type number: 1 is a host.
    pub kind: u16,
    /// Its children. The order matters only for equal straws, and is kept.
    pub items: Vec<Item>,
}

/// A child of a bucket.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Item {
    /// A device's id, or a bucket's, which is negative.
    pub id: i32,
    /// 16.16.
    pub weight: u32,
}

/// How to choose daemons.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Rule {
    /// For people; unique.
    pub name: String,
    /// Whether it is for erasure-coded pools (slots keep their places) or for replicated ones.
    pub erasure: bool,
    /// Carried out in order.
    pub steps: Vec<Step>,
}

/// A step of a rule. The steps work on a list of items; `kind` is a type number, a `count` of 0 or less is
/// added to the number of replicas wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "op", rename_all = "snake_case")]
pub enum Step {
    /// The list is this item.
    Take {
        /// A bucket or device.
        item: i32,
    },
    /// Each of the list is replaced by items in it, closed up where none is found.
    ChooseFirstn {
        /// How many.
        count: i32,
        /// Of which type.
        kind: u16,
    },
    /// Each of the list is replaced by items in it, with a hole where none is found.
    ChooseIndep {
        /// How many.
        count: i32,
        /// Of which type.
        kind: u16,
    },
    /// The list is added to the result and cleared.
    Emit {},
    /// As `ChooseFirstn`, and then a device in each.
    ChooseLeafFirstn {
        /// How many.
        count: i32,
        /// Of which type; each in a different one.
        kind: u16,
    },
    /// As `ChooseIndep`, and then a device in each.
    ChooseLeafIndep {
        /// How many.
        count: i32,
        /// Of which type; each in a different one.
        kind: u16,
    },
    /// How often the following steps try for each item.
    SetChooseTries {
        /// 0 leaves it as it is.
        tries: u32,
    },
    /// How often a device is tried for in each item of a chooseleaf step.
    SetChooseLeafTries {
        /// 0 leaves it as it is.
        tries: u32,
    },
}

impl Bucket {
    /// The sum of its children's weights; edits refuse sums beyond 32 bits.
    pub fn weight(&self) -> u32 {
        self.items.iter().fold(0, |sum, item| sum.saturating_add(item.weight))
    }
}

impl Default for CrushMap {
    fn default() -> Self {
        CrushMap::new()
    }
}

impl CrushMap {
    /// A map with Ceph's types and an empty root called "default".
    pub fn new() -> Self {
        let types = (0u16..).zip(TYPES).map(|(kind, name)| (kind, name.into())).collect();
        let root = Bucket { id: -1, name: ROOT_DEFAULT.into(), kind: TYPE_ROOT, items: Vec::new() };
        CrushMap { types, buckets: BTreeMap::from([(-1, root)]), rules: BTreeMap::new() }
    }

    /// Type numbers and their names.
    pub fn types(&self) -> &BTreeMap<u16, String> {
        &self.types
    }

    /// The number of a type.
    pub fn type_by_name(&self, name: &str) -> Option<u16> {
        self.types.iter().find(|(_, n)| *n == name).map(|(kind, _)| *kind)
    }

    /// Every bucket, by id.
    pub fn buckets(&self) -> &BTreeMap<i32, Bucket> {
        &self.buckets
    }

    /// The bucket with this name.
    pub fn bucket_by_name(&self, name: &str) -> Option<&Bucket> {
        self.buckets.values().find(|bucket| bucket.name == name)
    }

    /// Every rule, by id.
    pub fn rules(&self) -> &BTreeMap<u8, Rule> {
        &self.rules
    }

    /// The rule with this name.
    pub fn rule_by_name(&self, name: &str) -> Option<(u8, &Rule)> {
        self.rules.iter().find(|(_, rule)| rule.name == name).map(|(id, rule)| (*id, rule))
    }

    /// Every device and its weight, in order of id.
    pub fn devices(&self) -> BTreeMap<DaemonId, u32> {
        let items = self.buckets.values().flat_map(|bucket| &bucket.items);
        items.filter(|item| item.id >= 0).map(|item| (DaemonId(item.id), item.weight)).collect()
    }

    /// A device's weight, if it is in the map.
    pub fn device_weight(&self, device: DaemonId) -> Option<u32> {
        let items = self.buckets.values().flat_map(|bucket| &bucket.items);
        items.into_iter().find(|item| item.id == device.0).map(|item| item.weight)
    }

    /// The bucket that holds an item.
    pub fn parent_of(&self, item: i32) -> Option<&Bucket> {
        self.buckets.values().find(|bucket| bucket.items.iter().any(|child| child.id == item))
    }

    /// The buckets above an item, from its parent to its root.
    pub fn ancestors_of(&self, item: i32) -> impl Iterator<Item = &Bucket> {
        std::iter::successors(self.parent_of(item), |bucket| self.parent_of(bucket.id))
    }

    /// Where an item is: (type, name) from its parent to its root.
    pub fn location_of(&self, item: i32) -> Vec<(String, String)> {
        self.ancestors_of(item)
            .map(|bucket| (self.type_name(bucket.kind), bucket.name.clone()))
            .collect()
    }

    /// The failure domain of a device: the bucket of this type above it, or the device itself for type 0.
    pub fn domain_of(&self, device: DaemonId, kind: u16) -> Option<i32> {
        if kind == TYPE_DEVICE {
            return Some(device.0);
        }
        self.ancestors_of(device.0).find(|bucket| bucket.kind == kind).map(|bucket| bucket.id)
    }

    /// What a person calls an item: a bucket's name, or `osd.N`.
    pub fn item_name(&self, item: i32) -> String {
        match self.buckets.get(&item) {
            Some(bucket) => bucket.name.clone(),
            None if item >= 0 => DaemonId(item).to_string(),
            None => format!("bucket {item}"),
        }
    }

    /// A type's name.
    pub fn type_name(&self, kind: u16) -> String {
        self.types.get(&kind).cloned().unwrap_or_else(|| format!("type{kind}"))
    }

    /// The buckets that hang in no other, by id from −1 down.
    pub fn roots(&self) -> Vec<&Bucket> {
        let inner: std::collections::BTreeSet<i32> =
            self.buckets.values().flat_map(|bucket| &bucket.items).map(|item| item.id).collect();
        self.buckets.values().rev().filter(|bucket| !inner.contains(&bucket.id)).collect()
    }
}

#[cfg(test)]
mod tests;
