//! The engine alone: writers that each wait until their write is durable. Prints JSON lines.
//!
//! Each write is what a primary does: a staged entry, and, once it is durable, its apply (which travels
//! with a later batch). Old log entries are trimmed. Usage:
//!
//! `engine_bench DIRECTORY [engine=probe|uring|threads] [secs=3] [objects=N] [case=SIZE:WRITERS ...]`
//!
//! With `objects` the writes go round and round over so many objects; else each makes a new one.
#![allow(clippy::disallowed_methods, clippy::print_stdout)] // a tool: it measures time and prints

use bytes::Bytes;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use store_base::object::ObjectInfo;
use store_base::{ClusterId, DaemonId, Interval, ObjectName, PgId, PoolId, Ticket, Version};
use store_daemon::store::disk::file::Engine;
use store_daemon::store::log::Options;
use store_daemon::store::log::directory::DirectoryStore;
use store_daemon::store::{Change, Completion, LogEntry, Mutation, Store, Write};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Log entries kept.
const LOG_KEEP: u64 = 2000;

/// Placement groups.
const PGS: u64 = 8;

struct Case {
    size: usize,
    writers: u64,
    secs: f64,
    objects: u64,
}

fn main() {
    let mut arguments = std::env::args().skip(1);
    let directory = PathBuf::from(arguments.next().expect("a directory is the first argument"));
    let (mut engine, mut secs, mut objects, mut cases) = (Engine::Probe, 3.0, u64::MAX, Vec::new());
    for argument in arguments {
        match argument.split_once('=') {
            Some(("engine", "uring")) => engine = Engine::Uring,
            Some(("engine", "threads")) => engine = Engine::Threads,
            Some(("engine", "probe")) => engine = Engine::Probe,
            Some(("secs", value)) => secs = value.parse().expect("secs is a number"),
            Some(("objects", value)) => objects = value.parse().expect("objects is a number"),
            Some(("case", value)) => {
                let (size, writers) = value.split_once(':').expect("a case is SIZE:WRITERS");
                let number = |text: &str| text.parse().expect("a number");
                cases.push((number(size), number(writers) as u64));
            }
            _ => panic!("unknown argument {argument}"),
        }
    }
    if cases.is_empty() {
        cases = vec![(4096, 16), (4096, 1), (65536, 16), (4 << 20, 4)];
    }
    for (size, writers) in cases {
        run(&directory, engine, &Case { size, writers, secs, objects });
    }
}

fn open(directory: &Path, engine: Engine) -> DirectoryStore {
    let (cluster, uuid) = (ClusterId([1; 16]), ClusterId([2; 16]));
    let options = Options::new(cluster, DaemonId(0), uuid, 24 << 30);
    DirectoryStore::open(directory, engine, options).expect("the store opens")
}

/// Where the writers of one placement group are.
struct Pg {
    id: PgId,
    counter: u64,
    durable: Version,
    applied: Version,
}

fn run(directory: &Path, engine: Engine, case: &Case) {
    let begun = Instant::now();
    let mut store = open(directory, engine);
    let opened = begun.elapsed();
    // What an earlier run left stays, in pools of its own.
    let pool = PoolId(1 + store.pgs().last().map_or(0, |pg| pg.pool.0));
    let mut pgs: Vec<Pg> = (0..PGS)
        .map(|seed| {
            let id = PgId { pool, seed: seed as u32 };
            store.submit(None, vec![Write::CreatePg { pg: id }]).expect("room");
            Pg { id, counter: 0, durable: Version::ZERO, applied: Version::ZERO }
        })
        .collect();
    let data = Bytes::from((0..case.size).map(|i| (i * 7 / 3) as u8).collect::<Vec<u8>>());
    let mut started: BTreeMap<Ticket, (Instant, usize, Version)> = BTreeMap::new();
    let mut latencies = Vec::new();
    let mut done = Vec::new();
    let (cpu, counters) = (cpu_seconds(), store.counters());
    let begun = Instant::now();
    let mut next = 0;
    while begun.elapsed().as_secs_f64() < case.secs {
        while (started.len() as u64) < case.writers {
            next += 1;
            let index = (next % PGS) as usize;
            let version = write(&mut store, &mut pgs[index], next, next % case.objects, &data);
            started.insert(Ticket(next), (Instant::now(), index, version));
        }
        store.poll(&mut done);
        for one in done.drain(..) {
            match one {
                Completion::Stored { ticket } => {
                    let (at, index, version) = started.remove(&ticket).expect("it was started");
                    latencies.push(at.elapsed());
                    pgs[index].durable = pgs[index].durable.max(version);
                }
                other => panic!("{other:?}"),
            }
        }
        if started.len() as u64 == case.writers {
            store.wait_for(Duration::from_secs(1));
        }
    }
    let elapsed = begun.elapsed().as_secs_f64();
    let cpu = cpu_seconds() - cpu;
    report(case, &store, elapsed, cpu, &mut latencies, counters, opened);
}

fn write(
    store: &mut DirectoryStore,
    pg: &mut Pg,
    number: u64,
    object: u64,
    data: &Bytes,
) -> Version {
    let version = Version { interval: Interval(1), counter: pg.counter + 1 };
    let info = ObjectInfo { version, size: data.len() as u64, ..ObjectInfo::default() };
    let entry = LogEntry {
        version,
        previous: Version { interval: Interval(1), counter: pg.counter },
        object: ObjectName::new(format!("object {object:016x}").into_bytes()),
        mutation: Some(Mutation {
            changes: vec![Change::Write { offset: 0, data: data.clone() }],
            info: Some(info),
        }),
        ..LogEntry::default()
    };
    pg.counter += 1;
    let mut batch = vec![Write::Stage { pg: pg.id, entry }];
    if pg.durable > pg.applied {
        batch.push(Write::Apply { pg: pg.id, to: pg.durable, except: Vec::new() });
        pg.applied = pg.durable;
        if pg.counter.is_multiple_of(256) && pg.counter > LOG_KEEP {
            let to = Version { interval: Interval(1), counter: pg.counter - LOG_KEEP };
            batch.push(Write::TrimLog { pg: pg.id, to });
        }
    }
    store.submit(Some(Ticket(number)), batch).expect("room");
    version
}

fn report(
    case: &Case,
    store: &DirectoryStore,
    elapsed: f64,
    cpu: f64,
    latencies: &mut [Duration],
    before: store_daemon::store::log::Counters,
    opened: Duration,
) {
    latencies.sort();
    let count = latencies.len();
    let at =
        |part: f64| latencies.get((count as f64 * part) as usize).map_or(0, Duration::as_micros);
    let now = store.counters();
    let groups = (now.groups - before.groups).max(1);
    let line = serde_json::json!({
        "bench": "engine write",
        "engine": store.engine(),
        "bytes": case.size,
        "writers": case.writers,
        "ops_per_s": (count as f64 / elapsed).round(),
        "mb_per_s": (count as f64 * case.size as f64 / elapsed / 1e6).round(),
        "p50_us": at(0.5) as u64,
        "p99_us": at(0.99) as u64,
        "cpu_us_per_op": (cpu / count as f64 * 1e7).round() / 10.0,
        "batches_per_group": ((now.batches - before.batches) as f64 / groups as f64 * 10.0).round() / 10.0,
        "cleaned_mb": (now.cleaned_bytes - before.cleaned_bytes) / 1_000_000,
        "checkpoints": now.checkpoints - before.checkpoints,
        "opened_ms": opened.as_millis() as u64,
        "replayed_mb": store.opened().log_bytes / 1_000_000,
    });
    println!("{line}");
}

/// CPU of this process so far, all threads.
fn cpu_seconds() -> f64 {
    /// Clock ticks per second of `/proc`.
    const TICKS: f64 = 100.0;
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace();
    fields.skip(11).take(2).filter_map(|field| field.parse::<f64>().ok()).sum::<f64>() / TICKS
}
