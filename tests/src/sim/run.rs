//! One run: a cluster is made, worked on, ill-treated, mended, and judged.

use crate::sim::check::{activation, history, replicas};
use crate::sim::damage;
use crate::sim::element;
use crate::sim::network::Node;
use crate::sim::node::{ClientNode, Life, MonitorNode};
use crate::sim::planted::Planted;
use crate::sim::random::Random;
use crate::sim::reached::Reached;
use crate::sim::schedule::Schedule;
use crate::sim::steps::Steps;
use crate::sim::workload::Workload;
use crate::sim::world::{Happening, World};
use std::collections::BTreeMap;
use std::time::Duration;
use store_base::{ClientId, ClusterId, PoolId, Time, Timestamp};
use store_client::machine as client;
use store_daemon::machine as daemon;
use store_monitor::machine as monitor;
use store_monitor::machine::health::Severity;
use store_monitor::state::genesis;
use store_monitor::state::memory::MemoryStore as StateMemory;

/// A cluster must have formed after this long.
const FORM_MAX: Duration = Duration::from_secs(60);

/// With all faults mended, everything must be whole again after this long.
const HEAL_MAX: Duration = Duration::from_secs(400);

/// With some daemons back, what they hold must be active after this long: a monitor with a single witness
/// waits 15 s before it believes that the others are gone.
const ACTIVATE_MAX: Duration = Duration::from_secs(60);

/// What a run is like, beside its schedule.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// A planted bug.
    pub planted: Planted,
    /// The event log.
    pub steps: Steps,
}

/// What came of it.
#[derive(Debug, Default)]
pub struct Verdict {
    /// Broken promises, each behind the name of its checker; empty for a clean run.
    pub broken: Vec<String>,
    /// When they were found.
    pub at: Time,
    /// Events handled.
    pub events: u64,
    /// Client operations answered, and those of which nobody knows.
    pub operations: (u64, u64),
    /// Operations that each client has begun.
    pub begun: Vec<u64>,
    /// Deeds of the adversary, by name.
    pub deeds: BTreeMap<&'static str, u64>,
    /// States of interest.
    pub reached: Reached,
    /// Of the event log, if asked for.
    pub digest: u64,
}

impl Verdict {
    /// The checker that found something first.
    pub fn checker(&self) -> Option<&str> {
        self.broken.first().map(|what| what.split(':').next().unwrap_or(what))
    }
}

/// Runs a schedule.
pub fn run(schedule: &Schedule, options: &Options) -> Verdict {
    let mut world = make(schedule, options);
    let phases: [fn(&mut World, &Schedule); 6] =
        [form, work, slices, heal, crate::sim::scrub::scrub, judge];
    for phase in phases {
        phase(&mut world, schedule);
        if !world.broken.is_empty() {
            break;
        }
    }
    let workloads = world.clients.iter().map(|c| (c.workload.answered, c.workload.unknown));
    Verdict {
        operations: workloads.fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1)),
        begun: world.clients.iter().map(|c| c.workload.ordinal()).collect(),
        at: world.now,
        events: world.events,
        deeds: std::mem::take(&mut world.deeds),
        reached: std::mem::take(&mut world.reached),
        digest: world.steps.digest,
        broken: std::mem::take(&mut world.broken),
    }
}

/// A run whose machines may panic: a broken promise of their own is a verdict like any other.
pub fn run_caught(schedule: &Schedule, options: &Options) -> Verdict {
    std::panic::catch_unwind(|| run(schedule, options)).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        let text = text.or_else(|| panic.downcast_ref::<&str>().map(|s| (*s).to_owned()));
        let text = text.unwrap_or_else(|| "without words".to_owned());
        Verdict { broken: vec![format!("panic: {text}")], ..Verdict::default() }
    })
}

/// A cluster that has just formed, with nothing in it and nothing against it.
pub fn formed(seed: u64) -> World {
    let schedule = Schedule::draw(seed);
    let mut world = make(&schedule, &Options::default());
    form(&mut world, &schedule);
    world
}

fn make(schedule: &Schedule, options: &Options) -> World {
    let (seed, setup) = (schedule.seed, &schedule.setup);
    let mut random = Random::new(seed);
    let monitor = MonitorNode {
        store: StateMemory::new(),
        settings: monitor::Settings {
            fault: options.planted.monitor,
            ..monitor::Settings::default()
        },
        machine: None,
        life: Life::new(0, Time(0), 0, 1_000_000),
        calls: BTreeMap::new(),
        ticket_last: 0,
    };
    let mut cluster = [0; 16];
    cluster.iter_mut().for_each(|byte| *byte = random.any() as u8);
    let first = genesis(ClusterId(cluster), Timestamp { secs: 1_700_000_000, nanos: 0 }, None);
    monitor.store.commit_now(&first).expect("an empty store takes the first batch");
    let config = daemon::Config {
        log_entries_max: setup.log_entries_max as usize,
        log_entries_keep: setup.log_entries_max as usize / 2,
        scan_objects_max: setup.scan_objects as usize,
        pulls_max: setup.pulls_max as usize,
        fault: options.planted.daemon,
        ..daemon::Config::default()
    };
    let mut world = World::new(random, setup.clone(), monitor, config);
    world.steps = options.steps.clone();
    for _ in 0..setup.daemons {
        world.add_daemon();
    }
    for c in 0..setup.clients as usize {
        let id = 1000 + c as u64;
        let config = client::Config {
            client: ClientId(id),
            incarnation: 1,
            limits: client::Limits::default(),
        };
        let omitted = schedule.omitted.iter().filter(|omitted| omitted.client == c).copied();
        world.clients.push(ClientNode {
            machine: client::Client::new(config),
            life: Life::new(0, Time(0), 1 + c as u64 * 1_000_000_007, 1_000_000),
            sessions: BTreeMap::new(),
            workload: Workload::new(id, PoolId(1), seed, setup, omitted.collect()),
        });
    }
    world
}

/// Daemons boot, a pool is made, all placement groups become whole.
fn form(world: &mut World, schedule: &Schedule) {
    world.start_monitor();
    for i in 0..world.daemons.len() {
        world.start_daemon(i);
    }
    world.run_until(world.now + Duration::from_secs(2));
    let pg_num = schedule.setup.pg_num;
    let kind = match schedule.setup.code() {
        None => r#""size": 3, "min_size": 2"#.to_string(),
        Some((k, m)) => {
            // Small cells, so that objects are of several stripes.
            world.command(
                r#"{"prefix": "osd erasure-code-profile set", "name": "e", "profile": ["cell=4096"]}"#,
            );
            world.run_until(world.now + Duration::from_secs(1));
            let min_size = k + schedule.setup.slots_spare;
            format!(r#""erasure_code_profile": "e", "k": {k}, "m": {m}, "min_size": {min_size}"#)
        }
    };
    world.command(&format!(
        r#"{{"prefix": "osd pool create", "pool": "p", "pg_num": {pg_num}, {kind}}}"#
    ));
    until(world, FORM_MAX, "the pool is not made", |world| match world.answers.last() {
        Some(reply) if reply.code == 0 => Ok(()),
        other => Err(format!("{other:?}")),
    });
    until(world, FORM_MAX, "the new cluster does not become healthy", is_whole);
}

/// Runs until a condition holds.
pub(crate) fn until(
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

/// What only a scrub takes back.
const SCRUB_CHECKS: [&str; 5] =
    ["PG_NOT_SCRUBBED", "PG_NOT_DEEP_SCRUBBED", "OSD_SCRUB_ERRORS", "PG_DAMAGED", "OBJECT_UNFOUND"];

/// Every placement group is at full size and the monitor says so.
pub(crate) fn is_whole(world: &mut World) -> Result<(), String> {
    let Some(machine) = world.monitor.machine.as_ref() else { return Err("no monitor".into()) };
    let mut report = machine.health(world.monitor.life.local(world.now));
    // The adversary damages copies; that a daemon found one stays a warning until its disk is replaced.
    report.checks.remove("OSD_DAMAGED");
    // So do copies that are yet to be read again: the scrub at the end of a run is judged by itself.
    if !world.scrubbing {
        SCRUB_CHECKS.iter().for_each(|check| drop(report.checks.remove(*check)));
    }
    match report.status() {
        Severity::Ok => element::growth::has_settled(world),
        _ => Err(report.to_json(true).to_string()),
    }
}

fn work(world: &mut World, schedule: &Schedule) {
    world.working = true;
    world.faulty = true;
    for client in 0..world.clients.len() {
        world.at(world.now, Happening::Maps { node: Node::Client(client), life: 0, again: true });
        world.after(Duration::from_millis(100), Happening::Work { client });
    }
    for step in &schedule.steps {
        world.after(Duration::from_millis(step.at_ms), Happening::Step { step: step.clone() });
    }
    world.after(Duration::ZERO, Happening::Sample);
    world.run_until(world.now + Duration::from_millis(schedule.setup.work_ms));
}

/// The power goes, and comes back slice by slice: at each, what has a holder there must become active.
fn slices(world: &mut World, schedule: &Schedule) {
    if schedule.setup.slices == 0 {
        return;
    }
    mend_all_but_daemons(world);
    let mut random = Random::named(schedule.seed, "slices");
    for i in 0..world.daemons.len() {
        if random.chance(800) {
            world.crash_daemon(i);
        }
    }
    let mut down: Vec<usize> =
        (0..world.daemons.len()).filter(|i| world.daemons[*i].machine.is_none()).collect();
    while !down.is_empty() && world.broken.is_empty() {
        let i = down.swap_remove(random.below(down.len() as u64) as usize);
        world.start_daemon(i);
        if random.chance(700) {
            let why = "activation: a group with a holder there does not become active";
            until(world, ACTIVATE_MAX, why, |world| activation::check(world));
        }
        // The next one comes at any moment of the taking-over.
        world.run_until(world.now + random.between(Duration::ZERO, Duration::from_secs(3)));
    }
}

fn mend_all_but_daemons(world: &mut World) {
    world.faulty = false;
    world.heal();
    world.echo_until = Time::ZERO;
    world.network.slow_until.clear();
    world.map_lag.clear();
    world.set_clocks();
    if world.monitor.machine.is_none() {
        world.start_monitor();
    }
    world.lead_monitor();
    for i in 0..world.daemons.len() {
        world.daemons[i].slow_until = world.now;
        element::set_full(world, i, false);
    }
}

/// Everything is mended: all run, all hear each other, and the operator undoes what was done by hand.
fn mend(world: &mut World) {
    mend_all_but_daemons(world);
    for i in 0..world.daemons.len() {
        if world.daemons[i].machine.is_none() {
            world.start_daemon(i);
        }
    }
    element::undo_all(world);
}

fn heal(world: &mut World, _: &Schedule) {
    world.working = false;
    mend(world);
    until(world, HEAL_MAX, "heal: does not heal", |world| {
        if !damage::beyond(world).is_empty() {
            return Ok(());
        }
        // The monitor refuses to forget a lost daemon while its copies are being made up.
        element::purge(world);
        let open: usize = world.clients.iter().map(|c| c.workload.under_way()).sum();
        if open > 0 { Err(format!("{open} operations still under way")) } else { is_whole(world) }
    });
    if !damage::beyond(world).is_empty() {
        world.deed("(given up: the last copy was damaged)", &[]);
        world.given_up = true;
        return;
    }
    let now = world.now;
    for client in 0..world.clients.len() {
        world.clients[client].workload.begin_last_reads(now);
        world.at(now, Happening::Work { client });
    }
    until(world, HEAL_MAX, "heal: the last reads are not answered", |world| {
        let busy = world.clients.iter().filter(|c| !c.workload.is_done()).count();
        if busy > 0 { Err(format!("{busy} clients wait")) } else { Ok(()) }
    });
    // Lazy notices of the last commits arrive.
    world.run_until(world.now + Duration::from_secs(3));
}

fn judge(world: &mut World, _: &Schedule) {
    if world.given_up {
        return;
    }
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
