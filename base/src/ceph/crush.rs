//! The CRUSH map in Ceph's binary form (CEPH-WIRE 2.6), with the "jewel" tunables.

use super::put_count;
use crate::codec::{Encode, Writer};
use crate::crush::{Bucket, CrushMap, Rule, Step};
use crate::ids::DaemonId;
use bytes::Bytes;

const MAGIC: u32 = 0x0001_0000;

/// The number of the straw2 algorithm, and of the rjenkins1 hash.
const ALGORITHM_STRAW2: u8 = 5;
const HASH_RJENKINS1: u8 = 0;

/// Pool sizes that a rule is for: any.
const RULE_SIZE_MIN: u8 = 1;
const RULE_SIZE_MAX: u8 = u8::MAX;

/// The jewel tunables: local tries, fallback tries, total tries, descend once.
const TUNABLES: [u32; 4] = [0, 0, 50, 1];
const VARY_R: u8 = 1;
const STRAW_CALC_VERSION: u8 = 1;
/// Bits of the algorithms uniform (1), list (2), straw (4), straw2 (5).
const ALGORITHMS_ALLOWED: u32 = 1 << 1 | 1 << 2 | 1 << 4 | 1 << 5;
const STABLE: u8 = 1;

/// The map as Ceph's clients, `crushtool -d` and the crush part of an OSD map have it.
pub fn encode_crush(map: &CrushMap) -> Bytes {
    let mut out = Writer::new();
    let devices = map.devices();
    let bucket_slots = map.buckets().keys().next().map_or(0, |lowest| -lowest);
    let rule_slots = map.rules().keys().next_back().map_or(0, |highest| u32::from(*highest) + 1);
    let device_slots = devices.keys().next_back().map_or(0, |highest| highest.0 + 1);
    MAGIC.encode(&mut out);
    bucket_slots.encode(&mut out);
    rule_slots.encode(&mut out);
    device_slots.encode(&mut out);
    for slot in 1..=bucket_slots {
        put_bucket(map.buckets().get(&-slot), &mut out);
    }
    for slot in 0..rule_slots {
        let rule = u8::try_from(slot).ok().and_then(|id| Some((id, map.rules().get(&id)?)));
        put_rule(rule, &mut out);
    }
    put_names(map, devices.keys().copied(), &mut out);
    TUNABLES.iter().for_each(|tunable| tunable.encode(&mut out));
    VARY_R.encode(&mut out);
    STRAW_CALC_VERSION.encode(&mut out);
    ALGORITHMS_ALLOWED.encode(&mut out);
    STABLE.encode(&mut out);
    // No device classes (three maps) and no choose_args.
    (0..4).for_each(|_| put_count(0, &mut out));
    out.into_bytes()
}

fn put_bucket(bucket: Option<&Bucket>, out: &mut Writer) {
    let Some(bucket) = bucket else { return 0u32.encode(out) };
    u32::from(ALGORITHM_STRAW2).encode(out);
    bucket.id.encode(out);
    bucket.kind.encode(out);
    ALGORITHM_STRAW2.encode(out);
    HASH_RJENKINS1.encode(out);
    bucket.weight().encode(out);
    put_count(bucket.items.len(), out);
    bucket.items.iter().for_each(|item| item.id.encode(out));
    bucket.items.iter().for_each(|item| item.weight.encode(out));
}

fn put_rule(rule: Option<(u8, &Rule)>, out: &mut Writer) {
    let Some((id, rule)) = rule else { return 0u32.encode(out) };
    1u32.encode(out);
    put_count(rule.steps.len(), out);
    let pool_kind = if rule.erasure { 3 } else { 1 };
    out.put_slice(&[id, pool_kind, RULE_SIZE_MIN, RULE_SIZE_MAX]);
    for step in &rule.steps {
        let (op, a, b) = numbers_of(*step);
        op.encode(out);
        a.encode(out);
        b.encode(out);
    }
}

/// A step as Ceph's operation and its two arguments.
fn numbers_of(step: Step) -> (u32, i32, i32) {
    let tries_of = |tries: u32| i32::try_from(tries).unwrap_or(i32::MAX);
    match step {
        Step::Take { item } => (1, item, 0),
        Step::ChooseFirstn { count, kind } => (2, count, kind.into()),
        Step::ChooseIndep { count, kind } => (3, count, kind.into()),
        Step::Emit {} => (4, 0, 0),
        Step::ChooseLeafFirstn { count, kind } => (6, count, kind.into()),
        Step::ChooseLeafIndep { count, kind } => (7, count, kind.into()),
        Step::SetChooseTries { tries } => (8, tries_of(tries), 0),
        Step::SetChooseLeafTries { tries } => (9, tries_of(tries), 0),
    }
}

/// The names of types, of items and of rules.
fn put_names(map: &CrushMap, devices: impl ExactSizeIterator<Item = DaemonId>, out: &mut Writer) {
    put_count(map.types().len(), out);
    for (kind, name) in map.types() {
        i32::from(*kind).encode(out);
        name.encode(out);
    }
    put_count(map.buckets().len() + devices.len(), out);
    for bucket in map.buckets().values() {
        bucket.id.encode(out);
        bucket.name.encode(out);
    }
    for device in devices {
        device.encode(out);
        device.to_string().encode(out);
    }
    put_count(map.rules().len(), out);
    for (id, rule) in map.rules() {
        i32::from(*id).encode(out);
        rule.name.encode(out);
    }
}
