//! One seed: a cluster is made, worked on, ill-treated, mended, and judged.

use crate::sim::check::{history, replicas};
use crate::sim::fault;
use crate::sim::network::Node;
use crate::sim::node::{ClientNode, DaemonNode, Life, MonitorNode};
use crate::sim::random::Random;
use crate::sim::workload::Workload;
use crate::sim::world::{Happening, World, address};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;
use store_base::{ClientId, ClusterId, PoolId, Time, Timestamp};
use store_client::machine as client;
use store_daemon::machine as daemon;
use store_daemon::store::memory::Medium;
use store_monitor::machine::health::Severity;
use store_monitor::state::genesis;
use store_monitor::state::memory::MemoryStore as StateMemory;

/// A cluster must have formed after this long.
const FORM_MAX: Duration = Duration::from_secs(60);

/// With all faults mended, everything must be whole again after this long.
const HEAL_MAX: Duration = Duration::from_secs(400);

/// How long clients work while faults strike.
const WORK_MIN: Duration = Duration::from_secs(10);
const WORK_MAX: Duration = Duration::from_secs(60);

/// Room on each medium; runs come nowhere near it.
const CAPACITY_BYTES: u64 = 1 << 40;

/// What a run is like, beside its seed.
#[derive(Clone, Copy, Debug, Default)]
pub struct Options {
    /// A planted fault of the daemons.
    pub planted: daemon::Fault,
    /// Print every event.
    pub trace: bool,
}

/// What came of it.
#[derive(Debug)]
pub struct Verdict {
    /// Broken promises; empty for a clean run.
    pub broken: Vec<String>,
    /// When they were found.
    pub at: Time,
    /// Events handled.
    pub events: u64,
    /// Client operations answered, and those of which nobody knows.
    pub operations: (u64, u64),
    /// Deeds of the adversary, by name.
    pub deeds: BTreeMap<&'static str, u64>,
}

/// Runs one seed.
pub fn run(seed: u64, options: Options) -> Verdict {
    let mut world = make(seed, options);
    let at = |world: &World| world.now;
    let phases: [fn(&mut World); 4] = [form, work, heal, judge];
    for phase in phases {
        phase(&mut world);
        if !world.broken.is_empty() {
            break;
        }
    }
    let workloads = world.clients.iter().map(|c| (c.workload.answered, c.workload.unknown));
    Verdict {
        operations: workloads.fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1)),
        at: at(&world),
        events: world.events,
        deeds: std::mem::take(&mut world.deeds),
        broken: std::mem::take(&mut world.broken),
    }
}

/// A cluster that has just formed, with nothing in it and nothing against it.
pub fn formed(seed: u64) -> World {
    let mut world = make(seed, Options::default());
    form(&mut world);
    world
}

fn make(seed: u64, options: Options) -> World {
    let mut random = Random::new(seed);
    let monitor = MonitorNode {
        store: StateMemory::new(),
        machine: None,
        life: Life::new(0, Time(0), 0, 1_000_000),
        calls: BTreeMap::new(),
        ticket_last: 0,
    };
    let mut cluster = [0; 16];
    cluster.iter_mut().for_each(|byte| *byte = random.any() as u8);
    let first = genesis(ClusterId(cluster), Timestamp { secs: 1_700_000_000, nanos: 0 }, None);
    monitor.store.commit_now(&first).expect("an empty store takes the first batch");
    let mut config = daemon::Config { fault: options.planted, ..daemon::Config::default() };
    // Small logs now and then, so that trims and whole copies happen in a short run.
    if random.chance(500) {
        config.log_entries_max = 40 + random.below(100) as usize;
        config.log_entries_keep = config.log_entries_max / 2;
    }
    let daemons = 3 + random.below(3) as usize;
    let clients = 2 + random.below(2) as usize;
    let lists = 1 + random.below(4);
    let mut world = World::new(random, monitor, config);
    world.trace.on = options.trace;
    world.depth = 1 + world.random.below(5) as usize;
    for i in 0..daemons {
        let mut uuid = [0; 16];
        uuid.iter_mut().for_each(|byte| *byte = world.random.any() as u8);
        let identity = daemon::Identity {
            uuid,
            address: address(i),
            host: format!("host{i}"),
            engine: "memory".into(),
            ..daemon::Identity::default()
        };
        world.daemons.push(DaemonNode {
            medium: {
                let medium = Medium::new();
                medium.set_capacity(CAPACITY_BYTES);
                medium
            },
            identity,
            machine: None,
            life: Life::new(0, Time(0), 0, 1_000_000),
            peers: BTreeMap::new(),
            disk_queued: false,
            slow_until: Time::ZERO,
            damaged: BTreeSet::new(),
        });
    }
    for c in 0..clients {
        let random = Random::new(world.random.any());
        let id = 1000 + c as u64;
        let config = client::Config {
            client: ClientId(id),
            incarnation: 1,
            limits: client::Limits::default(),
        };
        world.clients.push(ClientNode {
            machine: client::Client::new(config),
            life: Life::new(0, Time(0), 1 + c as u64 * 1_000_000_007, 1_000_000),
            sessions: BTreeMap::new(),
            workload: Workload::new(id, PoolId(1), lists, random),
        });
    }
    world
}

/// Daemons boot, a pool is made, all placement groups become whole.
fn form(world: &mut World) {
    world.start_monitor();
    for i in 0..world.daemons.len() {
        world.start_daemon(i);
    }
    world.run_until(world.now + Duration::from_secs(2));
    let pg_num = 1 + world.random.below(6);
    world.command(&format!(
        r#"{{"prefix": "osd pool create", "pool": "p", "pg_num": {pg_num}, "size": 3, "min_size": 2}}"#
    ));
    until(world, FORM_MAX, "the pool is not made", |world| match world.answers.last() {
        Some(reply) if reply.code == 0 => Ok(()),
        other => Err(format!("{other:?}")),
    });
    until(world, FORM_MAX, "the new cluster does not become healthy", is_whole);
}

/// Runs until a condition holds.
fn until(
    world: &mut World,
    most: Duration,
    otherwise: &str,
    holds: fn(&mut World) -> Result<(), String>,
) {
    let deadline = world.now + most;
    loop {
        if !world.broken.is_empty() {
            return;
        }
        let Err(why) = holds(world) else { return };
        if world.now >= deadline {
            world.broken.push(format!("{otherwise} within {} s: {why}", most.as_secs()));
            return;
        }
        world.run_until(world.now + Duration::from_millis(200));
    }
}

/// Every placement group is at full size and the monitor says so.
fn is_whole(world: &mut World) -> Result<(), String> {
    let Some(machine) = world.monitor.machine.as_ref() else { return Err("no monitor".into()) };
    let mut report = machine.health(world.monitor.life.local(world.now));
    // The adversary damages copies; that a daemon found one stays a warning until its disk is replaced.
    report.checks.remove("OSD_DAMAGED");
    if report.status() == Severity::Ok { Ok(()) } else { Err(report.to_json(true).to_string()) }
}

fn work(world: &mut World) {
    world.working = true;
    world.faulty = true;
    for client in 0..world.clients.len() {
        world.at(world.now, Happening::Maps { node: Node::Client(client), life: 0, again: true });
        world.after(Duration::from_millis(100), Happening::Work { client });
    }
    world.after(Duration::from_secs(1), Happening::Fault);
    let time = world.random.between(WORK_MIN, WORK_MAX);
    world.run_until(world.now + time);
}

fn heal(world: &mut World) {
    world.working = false;
    fault::mend(world);
    until(world, HEAL_MAX, "does not heal", |world| {
        let open: usize = world.clients.iter().map(|c| c.workload.under_way()).sum();
        if open > 0 { Err(format!("{open} operations still under way")) } else { is_whole(world) }
    });
    let now = world.now;
    for client in 0..world.clients.len() {
        world.clients[client].workload.begin_last_reads(now);
        world.at(now, Happening::Work { client });
    }
    until(world, HEAL_MAX, "the last reads are not answered", |world| {
        let busy = world.clients.iter().filter(|c| !c.workload.is_done()).count();
        if busy > 0 { Err(format!("{busy} clients wait")) } else { Ok(()) }
    });
    // Lazy notices of the last commits arrive.
    world.run_until(world.now + Duration::from_secs(3));
}

fn judge(world: &mut World) {
    let mut broken: Vec<String> = Vec::new();
    let mut all = Vec::new();
    for node in &mut world.clients {
        broken.append(&mut node.workload.broken);
        all.append(&mut node.workload.history);
    }
    broken.extend(history::check(&all));
    broken.extend(replicas::check(world));
    world.broken.extend(broken);
}
