//! The same random batches on both engines show the same, across checkpoints, cleaning and reopening.

use super::workload::Workload;
use super::{Rig, dump, read, settle};
use crate::store::Store;
use crate::store::memory::MemoryStore;
use store_base::Ticket;

fn check(seed: u64, batches: u64, large: u64) {
    let rig = Rig::new(seed, 64 << 20);
    let mut store = rig.open();
    let mut model = MemoryStore::automatic();
    let mut workload = Workload::new(seed, large);
    let mut checkpoints = 0;
    for i in 0..batches {
        let batch = workload.batch();
        let ticket = (i % 3 > 0).then_some(Ticket(i));
        model.submit(ticket, batch.clone()).expect("the reference takes it");
        store.submit(ticket, batch).expect("there is room");
        let mut done = Vec::new();
        for _ in 0..workload.chance.below(12) {
            store.poll(&mut done);
        }
        if i % 40 == 39 {
            assert_eq!(dump(&mut store), dump(&mut model), "seed {seed} batch {i}");
        }
        match workload.chance.below(120) {
            0 => store.checkpoint(),
            1 => {
                settle(&mut store);
                checkpoints += store.counters().checkpoints;
                drop(store);
                store = rig.open();
                assert_eq!(dump(&mut store), dump(&mut model), "seed {seed}, reopened at {i}");
            }
            _ => {}
        }
        partial_reads(&mut store, &mut model, &mut workload);
    }
    settle(&mut store);
    assert!(
        checkpoints + store.counters().checkpoints > 0,
        "the test is long enough to need checkpoints"
    );
}

fn partial_reads(store: &mut dyn Store, model: &mut dyn Store, workload: &mut Workload) {
    let chance = &mut workload.chance;
    let pgs = model.pgs();
    let Some(pg) = pgs.get(chance.below(pgs.len().max(1) as u64) as usize) else { return };
    let objects = model.list(*pg, None, 10).expect("memory");
    let Some((object, _)) = objects.get(chance.below(objects.len().max(1) as u64) as usize) else {
        return;
    };
    let (at, len) = (chance.below(120_000), chance.below(40_000));
    assert_eq!(read(store, *pg, object, at, len), read(model, *pg, object, at, len));
    let (found, expected) =
        (store.extents(*pg, object, at, len), model.extents(*pg, object, at, len));
    assert_eq!(found, expected);
    let after = format!("k{:02}", chance.below(20));
    let list = |store: &dyn Store| store.omap_list(*pg, object, Some(after.as_bytes()), b"k0", 3);
    assert_eq!(list(store), list(model));
}

#[test]
fn both_engines_show_the_same() {
    for seed in 0..6 {
        check(seed, 500, 200_000);
    }
}

#[test]
fn both_engines_show_the_same_with_small_writes_only() {
    check(100, 1500, 10_000);
}
