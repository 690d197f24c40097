//! Rot, fullness, failing media, wrong directories.

use super::workload::Chance;
use super::{Rig, read, settle};
use crate::store::log::LogStore;
use crate::store::log::clean::Phase;
use crate::store::log::format::{AREA_START, GroupHeader, file_mark};
use crate::store::{Change, Completion, LogEntry, Mutation, Store, StoreError, Write};
use bytes::Bytes;
use store_base::object::ObjectInfo;
use store_base::{ClusterId, DaemonId, Interval, ObjectName, PgId, PoolId, Ticket, Version};

const PG: PgId = PgId { pool: PoolId(1), seed: 0 };

fn object(n: u64) -> ObjectName {
    ObjectName::new(format!("o{n}").into_bytes())
}

/// Stages and applies a write of a whole object.
fn write(counter: u64, object: &ObjectName, data: Option<Bytes>) -> Vec<Write> {
    let version = Version { interval: Interval(1), counter };
    let removes = data.is_none();
    let info =
        data.as_ref().map(|data| ObjectInfo { size: data.len() as u64, ..ObjectInfo::default() });
    let change = data.map_or(Change::Remove {}, |data| Change::Write { offset: 0, data });
    let entry = LogEntry {
        version,
        object: object.clone(),
        removes,
        mutation: Some(Mutation { changes: vec![change], info }),
        ..LogEntry::default()
    };
    let apply = Write::Apply { pg: PG, to: version, except: vec![] };
    vec![Write::Stage { pg: PG, entry }, apply, Write::TrimLog { pg: PG, to: version }]
}

fn with_pg(rig: &Rig) -> LogStore {
    let mut store = rig.open();
    store.submit(None, vec![Write::CreatePg { pg: PG }]).expect("room");
    store
}

fn pattern(n: u64, len: usize) -> Bytes {
    Chance(n).bytes(len as u64)
}

#[test]
fn a_flipped_bit_is_damage_and_never_a_wrong_byte() {
    // Small data in the log, large data in extents, and small data that cleaning moved.
    for (len, move_it) in [(5000, false), (300_000, false), (5000, true)] {
        let rig = Rig::new(1, 64 << 20);
        let mut store = with_pg(&rig);
        let data = pattern(1, len);
        store.submit(Some(Ticket(1)), write(1, &object(1), Some(data.clone()))).expect("room");
        settle(&mut store);
        if move_it {
            for i in 2..400 {
                store.submit(None, write(i, &object(i), Some(pattern(i, 3000)))).expect("room");
            }
            settle(&mut store);
            assert!(store.counters().cleaned_bytes > 0, "cleaning has moved it");
        }
        assert_eq!(read(&mut store, PG, &object(1), 0, 0), Ok(data.clone()));
        // Find where it lies: its bytes are unique.
        let whole = rig.medium.bytes(0, rig.medium.size() as usize);
        let at = whole
            .windows(64)
            .enumerate()
            .filter(|(_, window)| **window == data[1000..1064])
            .map(|(at, _)| at as u64)
            .collect::<Vec<_>>();
        assert!(!at.is_empty());
        for at in at {
            rig.medium.rot(at, 3);
        }
        let result = read(&mut store, PG, &object(1), 0, 0);
        assert!(matches!(result, Err(StoreError::Damaged(_))), "{len}: {result:?}");
        assert!(store.counters().damaged > 0);
        // Other blocks of the object can be read, and the object can be replaced.
        if len > 70_000 {
            assert_eq!(
                read(&mut store, PG, &object(1), 70_000, 10),
                Ok(data.slice(70_000..70_010))
            );
        }
        store.submit(Some(Ticket(2)), write(900, &object(1), Some(data.clone()))).expect("room");
        settle(&mut store);
        assert_eq!(read(&mut store, PG, &object(1), 0, 0), Ok(data));
    }
}

#[test]
fn every_flipped_byte_of_the_file_is_noticed_or_harmless() {
    let rig = Rig::new(2, 64 << 20);
    let mut store = with_pg(&rig);
    let objects: Vec<(ObjectName, Bytes)> =
        (0..6).map(|n| (object(n), pattern(n, if n % 2 == 0 { 4500 } else { 70_000 }))).collect();
    for (n, (name, data)) in objects.iter().enumerate() {
        store
            .submit(Some(Ticket(n as u64)), write(n as u64 + 1, name, Some(data.clone())))
            .expect("room");
        settle(&mut store);
    }
    drop(store);
    let size = rig.medium.size();
    let (mut noticed, mut tried) = (0, 0);
    for at in (0..size).step_by(1031) {
        let before = rig.medium.bytes(at / 4096 * 4096, 4096);
        if before.iter().all(|byte| *byte == 0) {
            continue;
        }
        tried += 1;
        rig.medium.rot(at, (at % 8) as u8);
        match rig.try_open() {
            Err(StoreError::Damaged(_)) => noticed += 1,
            Err(e) => panic!("rot at {at}: {e}"),
            Ok(mut store) => {
                noticed += u64::from(store.opened().superblock_mended);
                for (name, data) in &objects {
                    match read(&mut store, PG, name, 0, 0) {
                        Ok(found) if found == data => {}
                        // The last group's rot looks like a torn write: its object is missing as a whole.
                        Ok(found) if found.is_empty() && name == &objects[5].0 => noticed += 1,
                        Ok(_) => panic!("wrong bytes after rot at {at}"),
                        Err(StoreError::Damaged(_)) => noticed += 1,
                        Err(e) => panic!("rot at {at}: {e}"),
                    }
                }
            }
        }
        rig.medium.rot(at, (at % 8) as u8);
    }
    assert!(tried > 100 && noticed > tried / 2, "{noticed} of {tried}");
}

#[test]
fn a_full_store_deletes_and_is_writable_again() {
    let rig = Rig::new(3, 16 << 20);
    let mut store = with_pg(&rig);
    let (mut counter, mut kept) = (0, Vec::new());
    for round in 0..3 {
        // To the brim, with large and small objects.
        let mut refused = 0;
        while refused < 20 {
            counter += 1;
            let data = pattern(counter, if counter % 4 == 0 { 150_000 } else { 6000 });
            match store
                .submit(Some(Ticket(counter)), write(counter, &object(counter), Some(data.clone())))
            {
                Ok(()) => kept.push((object(counter), data)),
                Err(StoreError::Full(_)) => refused += 1,
                Err(e) => panic!("{e}"),
            }
            store.poll(&mut Vec::new());
            if counter % 16 == 0 {
                settle(&mut store);
            }
        }
        assert!(kept.len() > 100, "round {round}: only {} objects fit", kept.len());
        let usage = store.usage();
        assert!(usage.used_bytes <= usage.capacity_bytes);
        for (name, data) in kept.iter().step_by(7) {
            assert_eq!(read(&mut store, PG, name, 0, 0).as_ref(), Ok(data));
        }
        // A third is deleted, while full.
        let gone: Vec<_> = (0..kept.len() / 3).map(|i| kept.remove(i * 2)).collect();
        for (name, _) in &gone {
            counter += 1;
            store
                .submit(Some(Ticket(counter)), write(counter, name, None))
                .expect("a delete goes through");
        }
        settle(&mut store);
        if round == 1 {
            drop(store);
            store = rig.open();
        }
    }
    for (name, data) in &kept {
        assert_eq!(read(&mut store, PG, name, 0, 0).as_ref(), Ok(data));
    }
}

#[test]
fn overwriting_for_ever_needs_no_more_room() {
    let rig = Rig::new(4, 16 << 20);
    let mut store = with_pg(&rig);
    for i in 1..3000 {
        let len = if i % 10 == 0 { 200_000 } else { 4096 };
        store
            .submit(Some(Ticket(i)), write(i, &object(i % 10), Some(pattern(i, len))))
            .expect("room");
        store.poll(&mut Vec::new());
        if i % 8 == 0 {
            settle(&mut store);
        }
    }
    settle(&mut store);
    assert!(store.counters().checkpoints > 5);
    assert!(store.usage().used_bytes < 12 << 20, "{:?}", store.usage());
}

#[test]
fn a_removed_pg_gives_its_room_back() {
    let rig = Rig::new(5, 16 << 20);
    let mut store = with_pg(&rig);
    for i in 1..200 {
        let len = if i % 4 == 0 { 100_000 } else { 2000 };
        match store.submit(None, write(i, &object(i), Some(pattern(i, len)))) {
            Ok(()) => {}
            Err(e) => panic!("{e}"),
        }
        if i % 16 == 0 {
            settle(&mut store);
        }
    }
    settle(&mut store);
    let before = store.state.allocator.used_bytes();
    assert!(before > 4 << 20);
    store
        .submit(Some(Ticket(1)), vec![Write::RemovePg { pg: PG }, Write::CreatePg { pg: PG }])
        .expect("room");
    settle(&mut store);
    store.checkpoint();
    settle(&mut store);
    assert_eq!(store.list(PG, None, 10).expect("there"), vec![]);
    assert_eq!((store.state.allocator.used_bytes(), store.state.dead()), (0, None));
    drop(store);
    let store = rig.open();
    assert_eq!((store.state.allocator.used_bytes(), store.usage().objects), (0, 0));
}

#[test]
fn a_failing_medium_is_never_an_acknowledgement() {
    let rig = Rig::new(6, 64 << 20);
    let mut store = with_pg(&rig);
    settle(&mut store);
    rig.medium.fail("the cable is out");
    store.submit(Some(Ticket(1)), write(1, &object(1), Some(pattern(1, 100)))).expect("taken");
    let mut done = Vec::new();
    for _ in 0..50 {
        store.poll(&mut done);
    }
    let failed = StoreError::Failed("the cable is out".into());
    assert_eq!(done, [Completion::Failed { error: failed.clone() }]);
    assert_eq!(store.submit(None, vec![]), Err(failed));
}

#[test]
fn an_unreadable_block_is_damage() {
    let rig = Rig::new(7, 64 << 20);
    let mut store = with_pg(&rig);
    store.submit(Some(Ticket(1)), write(1, &object(1), Some(pattern(1, 200_000)))).expect("room");
    settle(&mut store);
    let whole = rig.medium.bytes(0, rig.medium.size() as usize);
    let data = pattern(1, 64);
    let at = whole.windows(64).position(|window| *window == data[..]).expect("it is there");
    rig.medium.unreadable(at as u64 / 4096);
    assert!(matches!(read(&mut store, PG, &object(1), 0, 10), Err(StoreError::Damaged(_))));
    assert!(read(&mut store, PG, &object(1), 150_000, 10).is_ok());
}

#[test]
fn superblocks_stand_in_for_each_other() {
    let rig = Rig::new(8, 64 << 20);
    let mut store = with_pg(&rig);
    store.submit(Some(Ticket(1)), write(1, &object(1), Some(pattern(1, 100)))).expect("room");
    settle(&mut store);
    drop(store);
    for offset in [20, super::super::format::SUPERBLOCK_SECOND + 20] {
        rig.medium.rot(offset, 0);
        let store = rig.open();
        assert!(store.opened().superblock_mended && store.has_object());
        assert!(!rig.open().opened().superblock_mended, "it was mended");
    }
    rig.medium.rot(20, 0);
    rig.medium.rot(super::super::format::SUPERBLOCK_SECOND + 20, 0);
    let error = rig.try_open().err().expect("both are gone").to_string();
    assert!(
        error.contains("both superblocks are damaged; remove this daemon's directory"),
        "{error}"
    );
}

impl LogStore {
    fn has_object(&self) -> bool {
        self.info(PG, &object(1)).expect("readable").is_some()
    }
}

#[test]
fn wrong_owners_and_small_disks_are_told_what_to_do() {
    let mut rig = Rig::new(9, 64 << 20);
    rig.open();
    let right = rig.options.clone();
    rig.options.cluster = ClusterId([1; 16]);
    let error = rig.try_open().err().expect("wrong cluster").to_string();
    assert!(
        error.contains("belongs to the cluster 07070707") && error.contains("choose another"),
        "{error}"
    );
    rig.options = right;
    rig.options.daemon = DaemonId(8);
    let error = rig.try_open().err().expect("wrong daemon").to_string();
    assert!(error.contains("belongs to osd.3, not to osd.8"), "{error}");
    let small = Rig::new(10, AREA_START + 4096);
    let error = small.try_open().err().expect("too small").to_string();
    assert!(error.contains("too small"), "{error}");
}

#[test]
fn an_index_of_another_file_is_refused() {
    let rig = Rig::new(12, 64 << 20);
    let mut store = with_pg(&rig);
    for i in 1..500 {
        store.submit(Some(Ticket(i)), write(i, &object(i), Some(pattern(i, 5000)))).expect("room");
        if i % 32 == 0 {
            settle(&mut store);
        }
    }
    store.checkpoint();
    settle(&mut store);
    drop(store);
    let lost = Rig { kv: Default::default(), ..Rig::new(12, 64 << 20) };
    let lost = Rig { medium: rig.medium.clone(), ..lost };
    let error = lost.try_open().err().expect("no index").to_string();
    assert!(error.contains("the log lacks the batches"), "{error}");
    let mut other = Rig::new(13, 64 << 20);
    other.options.uuid = ClusterId([4; 16]);
    other.kv = rig.kv;
    let error = other.try_open().err().expect("another file's index").to_string();
    assert!(error.contains("the index belongs to the file"), "{error}");
}

#[test]
fn nothing_is_stored_behind_a_flush_that_failed() {
    for seed in 0..20 {
        let rig = Rig::new(seed, 64 << 20);
        let mut store = with_pg(&rig);
        settle(&mut store);
        // Enough for several groups at once: one of them gets the failure, the others succeed.
        rig.medium.hold(true);
        for i in 1..200 {
            store
                .submit(Some(Ticket(i)), write(i, &object(i), Some(pattern(i, 9000))))
                .expect("taken");
        }
        store.poll(&mut Vec::new());
        rig.medium.fail_flush("the cache is lost");
        let mut done = Vec::new();
        for _ in 0..50 {
            rig.medium.step();
            store.poll(&mut done);
        }
        let failed = done.iter().position(|one| matches!(one, Completion::Failed { .. }));
        assert_eq!(failed.map(|at| done.len() - at - 1), Some(0), "seed {seed}: {done:?}");
    }
}

#[test]
fn what_is_not_written_yet_is_read_from_memory() {
    for seed in 0..20 {
        let rig = Rig::new(seed, 64 << 20);
        let mut store = with_pg(&rig);
        settle(&mut store);
        let data = pattern(seed, 3_000_000);
        store.submit(Some(Ticket(1)), write(1, &object(1), Some(data.clone()))).expect("room");
        let at = seed * 149_999;
        let found = read(&mut store, PG, &object(1), at, 70_000);
        assert_eq!(found, Ok(data.slice(at as usize..at as usize + 70_000)), "seed {seed}");
        assert_eq!(read(&mut store, PG, &object(1), 0, 0), Ok(data));
    }
}

#[test]
fn a_read_error_at_the_end_of_the_log_is_no_torn_write() {
    let rig = Rig::new(14, 64 << 20);
    let mut store = with_pg(&rig);
    let data = pattern(1, 200_000);
    store.submit(Some(Ticket(1)), write(1, &object(1), Some(data.clone()))).expect("room");
    settle(&mut store);
    drop(store);
    let whole = rig.medium.bytes(0, rig.medium.size() as usize);
    let at = whole.windows(64).position(|window| *window == data[..64]).expect("it is there");
    rig.medium.unreadable(at as u64 / 4096);
    let error = rig.try_open().err().expect("what was stored cannot be read").to_string();
    assert!(error.contains("unreadable"), "{error}");
}

#[test]
fn bytes_of_a_client_are_never_taken_for_the_log() {
    let rig = Rig::new(15, 64 << 20);
    let mut store = with_pg(&rig);
    store.submit(Some(Ticket(1)), write(1, &object(1), Some(pattern(1, 100)))).expect("room");
    settle(&mut store);
    drop(store);
    // All that a client can know or guess: what he wrote lies where a segment is now, behind its end.
    let forged =
        GroupHeader { segment: 1, first: 900, durable: 899, count: 1, ..Default::default() };
    let (bytes, _) = forged.encode();
    let at = AREA_START + 20 * 4096;
    rig.medium.plant(at, &[&bytes[..], &[0; 448]].concat());
    let store = rig.open();
    assert!(store.has_object());
    // A header with the file's own mark there is a group that got lost.
    let uuid = rig.options.uuid;
    let own = GroupHeader { file: file_mark(uuid), ..forged };
    rig.medium.plant(at, &[&own.encode().0[..], &[0; 448]].concat());
    let error = rig.try_open().err().expect("damaged").to_string();
    assert!(error.contains("nobody knows whose they were"), "{error}");
}

#[test]
fn an_empty_omap_entry_can_be_removed() {
    let rig = Rig::new(16, 64 << 20);
    let mut store = with_pg(&rig);
    let mut counter = 0;
    let mut set = |store: &mut LogStore, value: Option<Bytes>| {
        counter += 1;
        let version = Version { interval: Interval(1), counter };
        let changes = vec![Change::Omap { set: [(Bytes::new(), value)].into() }];
        let mutation = Some(Mutation { changes, info: Some(ObjectInfo::default()) });
        let entry = LogEntry { version, object: object(1), mutation, ..LogEntry::default() };
        let apply = Write::Apply { pg: PG, to: version, except: vec![] };
        store.submit(None, vec![Write::Stage { pg: PG, entry }, apply]).expect("room");
    };
    set(&mut store, Some(Bytes::new()));
    store.checkpoint();
    settle(&mut store);
    assert_eq!(store.omap(PG, &object(1), b""), Ok(Some(Bytes::new())));
    set(&mut store, None);
    assert_eq!(store.omap(PG, &object(1), b""), Ok(None));
}

/// Fills a store, deletes every other object, and goes on: without a run of free units longer than one
/// object, and three times over.
fn check_room_returns(seed: u64, len: usize) {
    let mut rig = Rig::new(seed, 24 << 20);
    rig.options.reserve_bytes = 1 << 20;
    let mut store = with_pg(&rig);
    let (mut counter, mut kept, mut fitted) = (0, std::collections::VecDeque::new(), Vec::new());
    for round in 0..3 {
        let mut refused = 0;
        while refused < 30 {
            counter += 1;
            let data = pattern(counter, len);
            match store
                .submit(Some(Ticket(counter)), write(counter, &object(counter), Some(data.clone())))
            {
                Ok(()) => kept.push_back((object(counter), data)),
                Err(StoreError::Full(_)) => {
                    refused += 1;
                    settle(&mut store);
                }
                Err(e) => panic!("{len} round {round}: {e}"),
            }
            if counter % 16 == 0 {
                settle(&mut store);
            }
        }
        let usage = store.usage();
        assert!(usage.used_bytes <= usage.capacity_bytes, "{usage:?}");
        assert!(usage.used_bytes * 1000 >= usage.capacity_bytes * 950, "{len}: {usage:?}");
        fitted.push(kept.len());
        let all = std::mem::take(&mut kept);
        for (i, (name, data)) in all.into_iter().enumerate() {
            if i % 2 == 0 {
                kept.push_back((name, data));
                continue;
            }
            counter += 1;
            store
                .submit(Some(Ticket(counter)), write(counter, &name, None))
                .unwrap_or_else(|e| panic!("{len} round {round}, a delete: {e}"));
            if counter % 16 == 0 {
                settle(&mut store);
            }
        }
        settle(&mut store);
        if round == 1 {
            drop(store);
            store = rig.open();
        }
    }
    for (name, data) in kept.iter().step_by(17) {
        assert_eq!(read(&mut store, PG, name, 0, 0).as_ref(), Ok(data));
    }
    // What fits once fits again, but for what fragments cost.
    let [first, second, third] = fitted[..] else { panic!("three rounds") };
    assert!(
        second * 10 >= first * 9 && third * 10 >= first * 9,
        "{len}: {fitted:?} objects fitted"
    );
    for (name, _) in kept {
        counter += 1;
        store.submit(Some(Ticket(counter)), write(counter, &name, None)).expect("a delete");
    }
    settle(&mut store);
    store.checkpoint();
    settle(&mut store);
    assert_eq!((store.state.allocator.used_bytes(), store.usage().objects), (0, 0));
}

#[test]
fn room_comes_back_from_large_objects() {
    check_room_returns(17, 300_000);
}

#[test]
fn room_comes_back_from_objects_of_a_few_units() {
    check_room_returns(18, 6000);
}

#[test]
fn room_comes_back_from_small_objects() {
    check_room_returns(19, 1000);
}

#[test]
fn what_packing_left_is_not_used_before_a_checkpoint_says_so() {
    let rig = Rig::new(20, 16 << 20);
    let mut store = with_pg(&rig);
    let mut counter = 0;
    let mut put = |store: &mut LogStore, n: u64, data: Option<Bytes>| {
        counter += 1;
        store.submit(Some(Ticket(counter)), write(counter, &object(n), data)).expect("room");
    };
    for n in 0..1500 {
        put(&mut store, n, Some(pattern(n, 1000)));
        if n % 64 == 0 {
            settle(&mut store);
        }
    }
    for n in (0..1500).filter(|n| n % 4 > 0) {
        put(&mut store, n, None);
    }
    settle(&mut store);
    store.checkpoint();
    settle(&mut store);
    let used = store.state.allocator.used_bytes();
    store.pack = Some(vec![b'O']);
    let written =
        |store: &LogStore| matches!(store.phase, Phase::Syncing { .. } | Phase::Writing { .. });
    for _ in 0..5000 {
        store.poll(&mut Vec::new());
        if written(&store) {
            break;
        }
    }
    assert!(store.state.allocator.used_bytes() < used / 2, "it is packed");
    // The checkpoint takes longer than this: all that is free is written over meanwhile.
    rig.medium.hold(true);
    (2000..2080).for_each(|n| put(&mut store, n, Some(pattern(n, 40_000))));
    for _ in 0..2 {
        store.poll(&mut Vec::new());
        while rig.medium.step() {}
    }
    assert!(written(&store));
    drop(store);
    rig.medium.hold(false);
    rig.medium.crash();
    let mut store = rig.open();
    for n in (0..1500).filter(|n| n % 4 == 0) {
        assert_eq!(read(&mut store, PG, &object(n), 0, 0), Ok(pattern(n, 1000)), "object {n}");
    }
    for n in (0..1500).filter(|n| n % 4 == 0) {
        store.submit(None, write(9000 + n, &object(n), None)).expect("a delete");
    }
    settle(&mut store);
}

#[test]
fn small_values_do_not_keep_what_they_came_in() {
    let rig = Rig::new(21, 64 << 20);
    let mut store = with_pg(&rig);
    let frame = pattern(1, 1 << 20);
    let version = Version { interval: Interval(1), counter: 1 };
    let entries =
        |from: usize, len: usize| [("k".into(), Some(frame.slice(from..from + len)))].into();
    let changes = vec![
        Change::Omap { set: entries(0, 16_000) },
        Change::Xattrs { set: entries(20_000, 9000) },
        Change::OmapHeader { data: frame.slice(40_000..50_000) },
    ];
    let mutation = Some(Mutation { changes, info: Some(ObjectInfo::default()) });
    let entry = LogEntry { version, object: object(1), mutation, ..LogEntry::default() };
    let named = Write::Super { key: "s".into(), value: Some(frame.slice(60_000..70_000)) };
    let apply = Write::Apply { pg: PG, to: version, except: vec![] };
    store.submit(None, vec![Write::Stage { pg: PG, entry }, apply, named]).expect("room");
    settle(&mut store);
    assert_eq!(store.omap(PG, &object(1), b"k"), Ok(Some(frame.slice(..16_000))));
    assert!(frame.is_unique(), "nothing else refers to the frame");
}
