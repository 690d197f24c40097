//! The offline check on stores whose counts were falsified, and what it mends.

use super::workload::Workload;
use super::{Rig, dump, settle};
use crate::store::log::allocator::Allocator;
use crate::store::log::check::{Digest, Inspection, Kind, Report};
use crate::store::log::format::AREA_START;
use crate::store::log::piece::{Piece, Place, References, SHIFT_SMALL};
use crate::store::{PgUsage, Store};
use bytes::Bytes;
use std::sync::Arc;
use store_base::Ticket;

/// A checksum is enough for tests.
struct Sum(u32);

impl Digest for Sum {
    fn update(&mut self, bytes: &[u8]) {
        self.0 = self.0.rotate_left(7) ^ crate::store::log::format::checksum(bytes);
    }

    fn finish(self: Box<Self>) -> Vec<u8> {
        self.0.to_le_bytes().into()
    }
}

/// Checks what lies on a rig's medium, which nobody has open.
pub(super) fn check(rig: &Rig) -> Report {
    let mut disk = rig.medium.open();
    let mut found =
        Inspection::open(&mut disk, Arc::new(rig.kv.clone())).expect("the check opens it");
    let mut objects = 0;
    let report = found.check(&mut disk, &|| Box::new(Sum(0)), &mut |_| objects += 1);
    let counted: u64 = report.pgs.values().map(|tally| tally.counted.objects).sum();
    assert_eq!(objects, counted);
    report
}

/// A store after some hundred batches.
fn used(seed: u64) -> (Rig, Workload) {
    let rig = Rig::new(seed, 64 << 20);
    let mut store = rig.open();
    let mut workload = Workload::new(seed, 100_000);
    for i in 0..300 {
        store.submit(Some(Ticket(i)), workload.batch()).expect("room");
        if i % 7 == 0 {
            settle(&mut store);
        }
        if i % 97 == 0 {
            store.checkpoint();
        }
    }
    settle(&mut store);
    (rig, workload)
}

#[test]
fn a_used_store_is_sound() {
    for seed in 0..6 {
        let report = check(&used(seed).0);
        assert_eq!(report.findings, [], "seed {seed}");
        assert!(report.read_bytes > 0);
    }
}

#[test]
fn false_counts_are_found_and_mended() {
    let (rig, mut workload) = used(7);
    let mut store = rig.open();
    let before = dump(&mut store);
    let used_bytes = store.state.allocator.used_bytes();
    // A unit that nobody has, one user too many, and counts that are wrong.
    let run = store.take_whole(8192).expect("room");
    let leak = Piece::new(&[1; 8192], Place::Disk { offset: run.offset }, SHIFT_SMALL);
    store.state.allocator.retain(&leak);
    let pg = store.pgs()[0];
    let usage = store.pg_usage(pg);
    store.state.set_usage(pg, PgUsage { objects: usage.objects + 1, ..usage });
    store.state.index.put_value(b"M\0\0\0\0\0\0\0\x7fkey".to_vec(), Some(Bytes::new()));
    store.checkpoint();
    settle(&mut store);
    drop(store);
    let report = check(&rig);
    assert_eq!((report.leaked_bytes, report.uncounted_bytes), (8192, 0));
    let kinds: Vec<Kind> = report.findings.iter().map(|finding| finding.kind).collect();
    assert_eq!(kinds, [Kind::Accounting; 3], "{:?}", report.findings);
    let mut store = rig.open();
    store.mend(&|| Box::new(Sum(0))).expect("mended");
    settle(&mut store);
    assert_eq!(store.state.allocator.used_bytes(), used_bytes);
    drop(store);
    assert_eq!(check(&rig).findings, []);
    // It goes on as if nothing had been.
    let mut store = rig.open();
    assert_eq!(dump(&mut store), before);
    (0..60).for_each(|_| store.submit(None, workload.batch()).expect("room"));
    settle(&mut store);
}

#[test]
fn room_that_is_used_and_does_not_count_is_found() {
    let (rig, _) = used(8);
    let mut store = rig.open();
    let size = rig.medium.size();
    let mut empty = Allocator::new(size);
    let slots: Vec<_> = store.segments.slots.iter().map(|(slot, _)| *slot).collect();
    let slots: Vec<_> = slots
        .iter()
        .map(|slot| super::super::allocator::Run { offset: slot.offset, length: slot.size })
        .collect();
    empty.start(size, &slots).expect("nothing in it");
    empty.change_all();
    let used_bytes = store.state.allocator.used_bytes();
    assert!(used_bytes > 0 && size > AREA_START);
    store.state.allocator = empty;
    store.checkpoint();
    settle(&mut store);
    drop(store);
    let report = check(&rig);
    assert_eq!(report.uncounted_bytes, used_bytes);
    let mut store = rig.open();
    store.mend(&|| Box::new(Sum(0))).expect("mended");
    settle(&mut store);
    drop(store);
    assert_eq!(check(&rig).findings, []);
}
