//! One sequence of batches, and a crash at every single answer of the disk and at every single call of the
//! index's store: with sectors torn and kept in several ways, growth lost or not. Each time the store
//! opens, shows all that was stored and of the rest a prefix of whole batches, and goes on.
//!
//! The sequence has writes, overwrites, deletes, omaps, copies, trims, growing files and logs, cleaning,
//! packing and checkpoints; the first run says that it has.

use super::workload::{Chance, Workload};
use super::{Rig, dump, settle};
use crate::store::log::Counters;
use crate::store::memory::MemoryStore;
use crate::store::{Completion, Store, Write};
use store_base::Ticket;

const BATCHES: usize = 60;

/// How often each crash is tried, with other sectors kept.
const WAYS: u64 = 2;

struct Sequence {
    seed: u64,
    batches: Vec<Vec<Write>>,
    /// What the reference shows behind so many of them.
    shown: Vec<String>,
}

impl Sequence {
    fn new(seed: u64) -> Sequence {
        let mut workload = Workload::new(seed, 50_000);
        let batches: Vec<Vec<Write>> = (0..BATCHES).map(|_| workload.batch()).collect();
        let mut model = MemoryStore::automatic();
        let mut shown = vec![dump(&mut model)];
        for batch in &batches {
            model.submit(None, batch.clone()).expect("the reference takes it");
            shown.push(dump(&mut model));
        }
        Sequence { seed, batches, shown }
    }

    fn rig(&self) -> Rig {
        let mut rig = Rig::new(self.seed, 16 << 20);
        rig.options.segment_bytes_min = 64 << 10;
        rig.options.segment_bytes_max = 64 << 10;
        rig.options.log_bytes_max = 256 << 10;
        rig.options.grow_bytes_min = 256 << 10;
        rig
    }

    /// Runs until the power goes or all is done; how many batches were submitted, and how many stored.
    fn run(&self, rig: &Rig) -> (usize, usize, Counters) {
        let (mut submitted, mut stored) = (0, 0);
        let Ok(mut store) = rig.try_open() else { return (0, 0, Counters::default()) };
        let mut done = Vec::new();
        for (i, batch) in self.batches.iter().enumerate() {
            let ticket = (i % 4 > 0).then_some(Ticket(i as u64));
            if store.submit(ticket, batch.clone()).is_err() {
                break;
            }
            submitted += 1;
            match i % 20 {
                9 => store.checkpoint(),
                14 => store.pack = Some(vec![b'O']),
                _ => {}
            }
            (0..7).for_each(|_| store.poll(&mut done));
        }
        for _ in 0..400 {
            store.poll(&mut done);
        }
        for one in done {
            match one {
                // All before it are as durable.
                Completion::Stored { ticket: Ticket(at) } => stored = stored.max(at as usize + 1),
                Completion::Failed { .. } => break,
                other => panic!("{other:?}"),
            }
        }
        (submitted, stored, store.counters())
    }

    /// Opens what a crash left, and compares.
    fn check(&self, rig: &Rig, what: &str, way: u64, submitted: usize, stored: usize) {
        let context = || format!("seed {} {what} way {way}", self.seed);
        let mut store = rig.try_open().unwrap_or_else(|e| panic!("{}: {e}", context()));
        let found = dump(&mut store);
        let fitting = (stored..=submitted).find(|prefix| self.shown[*prefix] == found);
        let Some(prefix) = fitting else {
            panic!("{}: {stored} stored of {submitted}, but found\n{found}", context())
        };
        if way > 0 {
            return;
        }
        // It goes on where it was, and what a checkpoint then keeps is the same once more.
        for batch in self.batches.iter().skip(prefix).take(3) {
            store.submit(None, batch.clone()).unwrap_or_else(|e| panic!("{}: {e}", context()));
        }
        store.checkpoint();
        settle(&mut store);
        drop(store);
        let mut store = rig.try_open().unwrap_or_else(|e| panic!("{}, again: {e}", context()));
        let expected = &self.shown[(prefix + 3).min(BATCHES)];
        assert_eq!(&dump(&mut store), expected, "{}, again", context());
    }

    fn check_all(&self) {
        let rig = self.rig();
        let (submitted, _, counters) = self.run(&rig);
        assert_eq!(submitted, BATCHES);
        assert!(counters.checkpoints >= 3 && counters.cleaned_bytes > 0, "{counters:?}");
        assert!(rig.medium.size() > rig.options.grow_bytes_min * 2, "it has grown");
        let (steps, calls) = (rig.medium.steps(), rig.kv.calls());
        for step in 0..steps {
            self.crash_at(&format!("step {step} of {steps}"), step, |rig| {
                rig.medium.stop_after(step);
            });
        }
        for call in 0..calls {
            self.crash_at(&format!("call {call} of {calls}"), call, |rig| rig.kv.stop_after(call));
        }
    }

    fn crash_at(&self, what: &str, number: u64, stop: impl Fn(&Rig)) {
        for way in 0..WAYS {
            let rig = self.rig();
            stop(&rig);
            let (submitted, stored, _) = self.run(&rig);
            let mut chance = Chance(number * WAYS + way);
            rig.medium.reseed(chance.next());
            rig.medium.crash();
            rig.kv.crash(chance.below(rig.kv.unsynced() as u64 + 1) as usize);
            self.check(&rig, what, way, submitted, stored);
        }
    }
}

#[test]
fn a_crash_at_every_step_loses_nothing_that_was_stored() {
    Sequence::new(1).check_all();
}
