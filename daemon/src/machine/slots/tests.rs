//! What slots become of random changes of an object, against the object itself encoded anew.

use super::{Layout, Plan};
use crate::machine::tests::world::Chance;
use crate::store::{Change, Mutation};
use bytes::Bytes;
use store_base::erasure::Technique;
use store_base::map::Erasure;
use store_base::object::ObjectInfo;

fn layout(data: u8, coding: u8, cell_bytes: u32) -> Layout {
    let technique = Technique::ReedSolVan;
    Layout::new(&Erasure { data, coding, technique, cell_bytes }).expect("there is such a code")
}

/// As stores carry changes out: bytes behind the end read as zeros.
fn carry_out(bytes: &mut Vec<u8>, change: &Change) {
    match change {
        Change::Write { offset, data } => {
            let end = *offset as usize + data.len();
            bytes.resize(bytes.len().max(end), 0);
            bytes[*offset as usize..end].copy_from_slice(data);
        }
        Change::Zero { offset, length } => {
            let end = (offset + length).min(bytes.len() as u64) as usize;
            if let Some(range) = bytes.get_mut(*offset as usize..end) {
                range.fill(0);
            }
        }
        Change::Truncate { size } => bytes.resize(*size as usize, 0),
        Change::Remove {} => bytes.clear(),
        _ => {}
    }
}

fn change(chance: &mut Chance, size: u64, most: u64) -> Change {
    match chance.below(6) {
        0 => Change::Truncate { size: chance.below(most) },
        1 if size > 0 => {
            let offset = chance.below(size);
            Change::Zero { offset, length: 1 + chance.below(size - offset) }
        }
        2 => {
            let byte = chance.next() as u8;
            Change::Write { offset: size, data: vec![byte; chance.below(most / 3) as usize].into() }
        }
        _ => {
            let data: Vec<u8> =
                (0..1 + chance.below(most / 3)).map(|_| chance.next() as u8).collect();
            Change::Write { offset: chance.below(most), data: data.into() }
        }
    }
}

fn check(data: u8, coding: u8, seed: u64) {
    let layout = layout(data, coding, 4096);
    let mut chance = Chance(seed);
    let most = layout.striping.stripe_bytes() * 4;
    let mut whole: Vec<u8> = Vec::new();
    let mut slots = vec![Vec::new(); layout.slots()];
    for turn in 0..60 {
        let before = whole.clone();
        let mut changes = Vec::new();
        if chance.one_in(12) {
            changes.push(Change::Remove {});
            whole.clear();
        }
        for _ in 0..1 + chance.below(3) {
            let change = change(&mut chance, whole.len() as u64, most);
            carry_out(&mut whole, &change);
            changes.push(change);
        }
        let info = ObjectInfo { size: whole.len() as u64, ..ObjectInfo::default() };
        let mutation = Mutation { changes, info: Some(info) };
        let told = format!("seed {seed}, turn {turn}: {} bytes", before.len());
        let plan = Plan::new(&layout, before.len() as u64, mutation);
        let base: Vec<Bytes> = plan
            .needs()
            .iter()
            .map(|(at, len)| Bytes::copy_from_slice(&before[*at as usize..(at + len) as usize]))
            .collect();
        let mutations = plan.finish(&layout, &base);
        for (slot, mutation) in slots.iter_mut().zip(&mutations) {
            mutation.changes.iter().for_each(|change| carry_out(slot, change));
        }
        for (number, (slot, right)) in slots.iter().zip(layout.shards(&whole)).enumerate() {
            let len = slot.len().min(right.len());
            assert!(slot[..len] == right[..len], "{told}: slot {number}");
            assert!(slot[len..].iter().all(|byte| *byte == 0), "{told}: slot {number} is longer");
            assert!(right[len..].iter().all(|byte| *byte == 0), "{told}: slot {number} is shorter");
        }
    }
}

#[test]
fn slots_are_what_the_object_encoded_anew_would_be() {
    for seed in 0..40 {
        check(2, 1, seed);
        check(4, 2, seed);
        check(3, 2, seed);
        check(1, 1, seed);
    }
}

#[test]
fn a_write_of_everything_and_whole_stripes_read_nothing() {
    let layout = layout(4, 2, 4096);
    let stripe = layout.striping.stripe_bytes();
    let needs = |size, changes, after| {
        let info = Some(ObjectInfo { size: after, ..ObjectInfo::default() });
        Plan::new(&layout, size, Mutation { changes, info }).needs().to_vec()
    };
    let write = |offset, len: u64| Change::Write { offset, data: vec![1; len as usize].into() };
    assert_eq!(needs(99, vec![Change::Truncate { size: 0 }, write(0, 50_000)], 50_000), []);
    assert_eq!(needs(3 * stripe, vec![write(stripe, stripe)], 3 * stripe), []);
    assert_eq!(needs(stripe, vec![write(stripe, 7)], stripe + 7), []);
    assert_eq!(needs(stripe + 5, vec![write(stripe + 5, 7)], stripe + 12), [(stripe, 5)]);
    assert_eq!(needs(3 * stripe, vec![write(stripe + 1, 9)], 3 * stripe), [(stripe, stripe)]);
    assert_eq!(needs(3 * stripe, vec![Change::Truncate { size: 10 }], 10), [(0, 10)]);
    assert_eq!(needs(3 * stripe, vec![Change::Truncate { size: stripe }], stripe), []);
}

#[test]
fn shards_of_small_objects_take_their_bytes_only() {
    let layout = layout(4, 2, 4096);
    let lens: Vec<u64> = (0..6).map(|slot| layout.shard_len(slot, 10)).collect();
    assert_eq!(lens, [10, 0, 0, 0, 10, 10]);
    let lens: Vec<u64> = (0..6).map(|slot| layout.shard_len(slot, 4 * 4096 + 5000)).collect();
    assert_eq!(lens, [8192, 4096 + 904, 4096, 4096, 8192, 8192]);
}
