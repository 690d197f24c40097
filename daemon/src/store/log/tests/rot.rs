//! A log that rots at rest: what it costs, and that the rest serves.

use super::check::check;
use super::workload::Chance;
use super::{Rig, read, settle};
use crate::store::log::LogStore;
use crate::store::log::check::Kind;
use crate::store::log::format::{AREA_START, GROUP_HEADER_BYTES, GroupHeader};
use crate::store::{Change, LogEntry, Mutation, Store, StoreError, Write};
use bytes::Bytes;
use store_base::object::ObjectInfo;
use store_base::{Interval, ObjectName, PgId, PoolId, Ticket, Version};

const DATA_BYTES: u64 = 3000;

fn pg(n: u64) -> PgId {
    PgId { pool: PoolId(1), seed: (n % 3) as u32 }
}

fn object(n: u64) -> ObjectName {
    ObjectName::new(format!("o{n}").into_bytes())
}

fn data(n: u64) -> Bytes {
    Chance(n).bytes(DATA_BYTES)
}

/// Object `n`, in the placement group of its turn.
fn write(n: u64) -> Vec<Write> {
    let version = Version { interval: Interval(1), counter: n };
    let info = Some(ObjectInfo { size: DATA_BYTES, version, ..ObjectInfo::default() });
    let changes = vec![Change::Write { offset: 0, data: data(n) }];
    let mutation = Some(Mutation { changes, info });
    let entry = LogEntry { version, object: object(n), mutation, ..LogEntry::default() };
    let pg = pg(n);
    vec![Write::Stage { pg, entry }, Write::Apply { pg, to: version, except: vec![] }]
}

fn put(store: &mut LogStore, n: u64) {
    store.submit(Some(Ticket(n)), write(n)).expect("room");
    settle(store);
}

/// Groups of one batch each: the one of object `n` is the `n`th.
fn filled(count: u64, checkpoint_at: u64) -> Rig {
    let rig = Rig::new(31, 64 << 20);
    let mut store = rig.open();
    store.submit(None, (0..3).map(|n| Write::CreatePg { pg: pg(n) }).collect()).expect("room");
    settle(&mut store);
    for n in 1..=count {
        put(&mut store, n);
        if n == checkpoint_at {
            store.checkpoint();
            settle(&mut store);
        }
    }
    rig
}

/// Where the group of object `n` is, and its header.
fn group_of(rig: &Rig, n: u64) -> (u64, GroupHeader) {
    let mark = rig.open().superblock.mark();
    let whole = rig.medium.bytes(0, rig.medium.size() as usize);
    let piece = &data(n)[100..164];
    let found = whole.windows(64).position(|window| window == piece).expect("it is in the log");
    let mut at = found / 4096 * 4096;
    loop {
        if let Some((header, _)) = GroupHeader::decode(&whole[at..], mark) {
            return (at as u64, header);
        }
        at -= 4096;
    }
}

fn shows(store: &mut LogStore, n: u64) -> bool {
    match read(store, pg(n), &object(n), 0, 0) {
        Ok(bytes) => {
            assert_eq!(bytes, data(n), "never a wrong byte, nor a hole");
            true
        }
        Err(StoreError::Damaged(_)) => false,
        Err(e) => panic!("{e}"),
    }
}

fn damaged(store: &LogStore) -> Vec<PgId> {
    let lost = |pg: &PgId| matches!(store.load(*pg), Err(StoreError::Damaged(_)));
    store.pgs().into_iter().filter(lost).collect()
}

#[test]
fn rotten_data_cost_an_object() {
    for checkpoint_at in [0, 20] {
        let rig = filled(30, checkpoint_at);
        let (at, header) = group_of(&rig, 10);
        // In the middle of its data.
        rig.medium.rot(at + header.disk_bytes() - 1500, 2);
        let mut store = rig.open();
        assert_eq!((damaged(&store), store.opened().rotten_groups), (vec![], 1));
        for n in 1..=30 {
            assert_eq!(shows(&mut store, n), n != 10, "object {n}");
        }
        // Cleaning moves the others, and leaves this one as it is.
        (31..400).for_each(|n| put(&mut store, n));
        assert!(store.counters().checkpoints > 0 && store.counters().cleaned_bytes > 0);
        for n in (1..=30).filter(|n| *n != 10) {
            assert!(shows(&mut store, n), "object {n}");
        }
        assert!(!shows(&mut store, 10));
        drop(store);
        let report = check(&rig);
        let objects: Vec<_> =
            report.findings.iter().map(|finding| (finding.kind, finding.object.clone())).collect();
        assert_eq!(objects, [(Kind::Data, Some(object(10)))]);
    }
}

#[test]
fn rotten_steps_cost_a_placement_group() {
    // Anywhere in the header, and in what follows it.
    for flipped in [3, 20, 45, GROUP_HEADER_BYTES as u64 + 2, GROUP_HEADER_BYTES as u64 + 40] {
        let rig = filled(30, 0);
        let (at, _) = group_of(&rig, 10);
        rig.medium.rot(at + flipped, 1);
        let mut store = rig.open();
        assert_eq!(damaged(&store), [pg(10)], "flipped at {flipped}");
        assert_eq!((store.opened().lost_batches, store.opened().rotten_groups), (1, 1));
        for n in 1..=30 {
            assert_eq!(shows(&mut store, n), pg(n) != pg(10), "flipped at {flipped}, object {n}");
        }
        // It stays so, whatever is written and forgotten.
        for n in (31..400).filter(|n| pg(*n) != pg(10)) {
            put(&mut store, n);
        }
        assert!(store.counters().checkpoints > 0);
        assert_eq!(store.submit(None, write(500 + 10)), Ok(()), "another group");
        assert_eq!(store.submit(None, write(499)), Err(StoreError::NoPg(pg(10))));
        settle(&mut store);
        drop(store);
        let mut store = rig.open();
        assert_eq!(damaged(&store), [pg(10)]);
        // Until it is made anew.
        let pg = pg(10);
        store.submit(None, vec![Write::RemovePg { pg }, Write::CreatePg { pg }]).expect("room");
        put(&mut store, 499);
        store.checkpoint();
        settle(&mut store);
        assert_eq!(damaged(&store), []);
        for n in (1..400).filter(|n| super::rot::pg(*n) != pg).chain([499]) {
            assert!(shows(&mut store, n), "object {n}");
        }
        assert_eq!(store.info(pg, &object(10)), Ok(None));
        drop(store);
        assert_eq!(check(&rig).findings, []);
    }
}

#[test]
fn a_hole_that_the_checkpoint_covers_costs_objects_only() {
    for flipped in [3, GROUP_HEADER_BYTES as u64 + 2] {
        let rig = filled(30, 20);
        let (at, _) = group_of(&rig, 10);
        rig.medium.rot(at + flipped, 1);
        let mut store = rig.open();
        assert_eq!((damaged(&store), store.opened().lost_batches), (vec![], 0));
        for n in (1..=30).filter(|n| *n != 10) {
            assert!(shows(&mut store, n), "flipped at {flipped}, object {n}");
        }
    }
}

#[test]
fn several_holes_and_a_segment_without_head() {
    // Four segments of 128 KiB and more.
    let rig = filled(120, 0);
    let mut store = rig.open();
    let heads: Vec<u64> = store
        .segments
        .segments
        .values()
        .map(|segment| store.segments.slots[segment.slot].0.offset)
        .collect();
    assert!(heads.len() >= 3, "{heads:?}");
    drop(store);
    let (at, header) = group_of(&rig, 12);
    rig.medium.rot(at, 1);
    let second = rig.medium.bytes(heads[1], 4096);
    let mark = rig.open().superblock.mark();
    let (head, _) = GroupHeader::decode(&second, mark).expect("a head");
    rig.medium.rot(heads[1] + 1, 1);
    store = rig.open();
    // The first batch makes the groups, so batch n + 1 is of object n.
    let lost = [pg(header.first - 1), pg(head.first - 1)];
    let mut expected = lost.to_vec();
    expected.sort_unstable();
    expected.dedup();
    assert_eq!(damaged(&store), expected);
    assert_eq!(store.opened().lost_batches, 2);
    for n in (1..=120).filter(|n| !lost.contains(&pg(*n))) {
        assert!(shows(&mut store, n), "object {n}");
    }
}

#[test]
fn rot_behind_a_hole_that_nobody_knows_of_does_not_open() {
    let rig = filled(60, 0);
    // So many groups that those behind cannot speak of all.
    for n in 10..40 {
        let (at, _) = group_of(&rig, n);
        rig.medium.rot(at, 1);
        if let Err(error) = rig.try_open() {
            assert!(n > 12, "a few are known: {error}");
            assert!(error.to_string().contains("nobody knows whose they were"), "{error}");
            return;
        }
    }
    panic!("thirty groups are more than one group speaks of");
}

#[test]
fn lost_values_of_the_daemon_are_said() {
    let rig = Rig::new(32, 64 << 20);
    let mut store = rig.open();
    for n in 0..20u8 {
        let value = Some(Bytes::from(vec![n]));
        let name = Bytes::from(format!("name {}", n % 4));
        store
            .submit(Some(Ticket(n.into())), vec![Write::Super { key: name, value }])
            .expect("room");
        settle(&mut store);
    }
    drop(store);
    // The sixth group sets a value that is set again later; the last but one sets one for the last time.
    let at = |n: u64| AREA_START + n * 4096 + 80;
    rig.medium.rot(at(5), 0);
    let store = rig.open();
    assert_eq!(store.opened().lost_batches, 1);
    assert_eq!(store.superblock(b"name 1"), Ok(Some(Bytes::from(vec![17]))));
    drop(store);
    rig.medium.rot(at(18), 0);
    let store = rig.open();
    assert!(matches!(store.superblock(b"name 2"), Err(StoreError::Damaged(_))));
    assert_eq!(store.superblock(b"name 3"), Ok(Some(Bytes::from(vec![19]))));
}
