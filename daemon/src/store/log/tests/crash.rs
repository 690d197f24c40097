//! A daemon that loses power again and again, at any answer of the disk, on a disk that forgets, tears and
//! reorders what was not flushed. After each start it shows the state of a prefix of the batches that has
//! all that were `Stored`.

use super::workload::Workload;
use super::{Rig, dump};
use crate::store::memory::{Medium, MemoryStore};
use crate::store::{Completion, Store, Write};
use store_base::Ticket;

/// Runs lives of random length; `batches` in each at most.
fn check(seed: u64, lives: u64, batches: u64, large: u64) -> u64 {
    let rig = Rig::new(seed, 64 << 20);
    // What survived: the batches, replayed into the reference whenever a prefix is needed.
    let medium = Medium::new();
    let mut workload = Workload::new(seed, large);
    let mut checkpoints = 0;
    for life in 0..lives {
        let opened = rig.try_open();
        let mut store = match opened {
            Ok(store) => store,
            Err(e) => panic!("seed {seed} life {life}: {e}"),
        };
        let mut model = MemoryStore::open(&medium);
        assert_eq!(
            dump(&mut store),
            dump(&mut MemoryStore::open(&medium.snapshot())),
            "seed {seed} life {life}"
        );
        // From here on the disk answers only so often.
        let steps = rig.medium.steps() + workload.chance.below(120);
        rig.medium.stop_after(steps);
        let mut submitted: Vec<(Vec<Write>, Workload)> = Vec::new();
        let mut done = Vec::new();
        let mut stored = 0;
        for i in 0..batches {
            let before = workload.clone();
            let batch = workload.batch();
            model.submit(None, batch.clone()).expect("the reference takes it");
            store.submit(Some(Ticket(i)), batch.clone()).expect("there is room");
            submitted.push((batch, before));
            for _ in 0..workload.chance.below(6) {
                store.poll(&mut done);
            }
            if workload.chance.below(60) == 0 {
                store.checkpoint();
            }
            for one in done.drain(..) {
                match one {
                    Completion::Stored { ticket } => {
                        assert_eq!(ticket, Ticket(stored), "in order of submission");
                        stored += 1;
                    }
                    other => panic!("seed {seed} life {life}: {other:?}"),
                }
            }
            if rig.medium.steps() >= steps {
                break;
            }
        }
        checkpoints += store.counters().checkpoints;
        drop(store);
        let keep = workload.chance.below(rig.kv.unsynced() as u64 + 1) as usize;
        rig.medium.crash();
        rig.kv.crash(keep);
        // Which prefix is it?
        let mut store = rig.try_open().unwrap_or_else(|e| panic!("seed {seed} life {life}: {e}"));
        let found = dump(&mut store);
        drop(store);
        let fitting = (stored as usize..=submitted.len()).find(|prefix| {
            let mut model = MemoryStore::open(&medium.snapshot());
            for (batch, _) in &submitted[..*prefix] {
                model.submit(None, batch.clone()).expect("as before");
            }
            dump(&mut model) == found
        });
        let Some(prefix) = fitting else {
            panic!(
                "seed {seed} life {life}: {stored} stored of {}, but found\n{found}",
                submitted.len()
            )
        };
        medium.crash(prefix);
        // The caller forgets what did not survive. Its chance goes on, so that lives differ.
        if let Some((_, before)) = submitted.get(prefix) {
            let chance = workload.chance.clone();
            workload = before.clone();
            workload.chance = chance;
        }
    }
    checkpoints
}

/// How many seeds to run: few, or what `STORE_CRASH_SEEDS` says.
fn seeds(few: u64) -> u64 {
    std::env::var("STORE_CRASH_SEEDS").ok().and_then(|text| text.parse().ok()).unwrap_or(few)
}

#[test]
fn every_crash_leaves_a_prefix_with_all_that_was_stored() {
    let mut checkpoints = 0;
    for seed in 0..seeds(8) {
        checkpoints += check(seed, 20, 60, 150_000);
    }
    assert!(checkpoints > 5, "crashes meet checkpoints: {checkpoints}");
}

#[test]
fn crashes_with_small_writes_fill_many_segments() {
    let mut checkpoints = 0;
    for seed in 1_000_000..1_000_000 + seeds(3) {
        checkpoints += check(seed, 25, 400, 8000);
    }
    assert!(checkpoints > 4, "crashes meet checkpoints: {checkpoints}");
}
