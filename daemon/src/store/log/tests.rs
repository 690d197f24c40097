//! The engine against the reference, against crashes, rot and fullness.

mod check;
mod crash;
mod exhaustive;
mod faults;
mod model;
mod power_cut;
mod rot;
mod workload;

use super::background::Inline;
use super::{LogStore, Options};
use crate::store::disk::simulated::SimulatedMedium;
use crate::store::kv::MemoryKv;
use crate::store::{Completion, Store, StoreError};
use bytes::Bytes;
use std::fmt::Write as _;
use std::sync::Arc;
use store_base::{ClusterId, DaemonId, ObjectName, PgId, Ticket};

/// Polls after which something that should have happened never will.
const POLLS_MAX: usize = 200_000;

/// A medium, an index, and how to open a store on them.
struct Rig {
    medium: SimulatedMedium,
    kv: MemoryKv,
    options: Options,
}

impl Rig {
    fn new(seed: u64, capacity: u64) -> Rig {
        let cluster = ClusterId([7; 16]);
        let uuid = ClusterId([9; 16]);
        let options = Options {
            segment_bytes_min: 128 << 10,
            segment_bytes_max: 256 << 10,
            log_bytes_max: 1 << 20,
            reserve_bytes: 2 << 20,
            dirty_bytes_max: 200 << 10,
            grow_bytes_min: 1 << 20,
            ..Options::new(cluster, DaemonId(3), uuid, capacity)
        };
        Rig { medium: SimulatedMedium::new(seed, capacity), kv: MemoryKv::default(), options }
    }

    fn try_open(&self) -> Result<LogStore, StoreError> {
        let disk = Box::new(self.medium.open());
        let background = Box::new(Inline::default());
        LogStore::open(disk, Arc::new(self.kv.clone()), background, self.options.clone())
    }

    fn open(&self) -> LogStore {
        self.try_open().expect("the store opens")
    }
}

/// Polls until nothing is under way.
fn settle(store: &mut LogStore) -> Vec<Completion> {
    let mut done = Vec::new();
    store.flush();
    for _ in 0..POLLS_MAX {
        store.poll(&mut done);
        assert_eq!(store.failed, None);
        if store.is_idle() {
            return done;
        }
    }
    panic!(
        "the store does not come to rest: {:?}",
        (&store.phase, store.queue.len(), &store.segments.slots, store.usage(), store.counters())
    );
}

/// Reads through any store.
fn read(
    store: &mut dyn Store,
    pg: PgId,
    object: &ObjectName,
    at: u64,
    len: u64,
) -> Result<Bytes, StoreError> {
    let ticket = Ticket(u64::MAX);
    store.read(ticket, pg, object, at, len);
    let mut done = Vec::new();
    for _ in 0..POLLS_MAX {
        store.poll(&mut done);
        for one in done.drain(..) {
            if let Completion::Read { ticket: answered, result } = one
                && answered == ticket
            {
                return result;
            }
        }
    }
    panic!("a read was not answered");
}

/// Everything that a store shows, as text.
fn dump(store: &mut dyn Store) -> String {
    let mut out = String::new();
    let named = (0..3u8).map(|i| store.superblock(&[b's', i]).expect("readable"));
    writeln!(out, "named {:?}", named.collect::<Vec<_>>()).expect("memory");
    for pg in store.pgs() {
        let state = store.load(pg).expect("readable");
        writeln!(out, "pg {pg} {:?} {:?}", store.pg_usage(pg), state.meta).expect("memory");
        for entry in state.applied.iter().chain(&state.staged) {
            let digest = super::format::checksum(format!("{:?}", entry.mutation).as_bytes());
            let (version, removes) = (entry.version, entry.removes);
            writeln!(out, " {version} {} {removes} {digest:08x}", entry.object).expect("memory");
        }
        let mut after = None;
        loop {
            let page = store.list(pg, after.as_ref(), 3).expect("readable");
            let Some((last, _)) = page.last() else { break };
            after = Some(last.clone());
            for (object, info) in page {
                assert_eq!(store.info(pg, &object).expect("readable"), Some(info.clone()));
                dump_object(store, pg, &object, &mut out);
            }
        }
    }
    out
}

fn dump_object(store: &mut dyn Store, pg: PgId, object: &ObjectName, out: &mut String) {
    let info = store.info(pg, object).expect("readable").expect("listed");
    let bytes = read(store, pg, object, 0, 0).expect("readable");
    assert_eq!(bytes.len() as u64, info.size);
    let digest = super::format::checksum(&bytes);
    let extents = store.extents(pg, object, 0, u64::MAX).expect("readable");
    let xattrs = store.xattrs(pg, object).expect("readable");
    let header = store.omap_header(pg, object).expect("readable");
    writeln!(out, " {object} {info:?} {digest:08x} {extents:?} {xattrs:?} {header:?}")
        .expect("memory");
    let mut after: Option<Bytes> = None;
    loop {
        let (page, more) = store.omap_list(pg, object, after.as_deref(), b"", 5).expect("readable");
        for (key, value) in &page {
            assert_eq!(store.omap(pg, object, key).expect("readable").as_ref(), Some(value));
            let digest = super::format::checksum(value);
            writeln!(out, "  {key:?} {} {digest:08x}", value.len()).expect("memory");
        }
        after = page.last().map(|(key, _)| key.clone());
        if !more {
            break;
        }
    }
}
