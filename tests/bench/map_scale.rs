//! The maps of a large cluster: what it takes to place all groups, to decide on one failure, to send and to take
//! in the step, and to hold the map. The monitor's own machine decides; nothing runs but this process.

use anyhow::{Context, bail};
use serde::Serialize;
use std::time::{Duration, Instant};
use store_base::codec::{Decode, Encode};
use store_base::crush::CrushMap;
use store_base::map::osd::WEIGHT_IN;
use store_base::map::{DaemonInfo, Incremental, OsdMap, PgRecord, Pool};
use store_base::wire::FailureReport;
use store_base::{
    ClusterId, DaemonId, Epoch, Incarnation, Machine, PgId, PoolId, Ticket, Time, Timestamp,
};
use store_monitor::machine::{Action, Event, Monitor, PlainSealer, Request, Settings};
use store_monitor::state::{OSD_FULL, OSD_STEP, Stored, genesis};

/// Daemons on one host, and hosts in one rack.
const DAEMONS_PER_HOST: u32 = 20;
const HOSTS_PER_RACK: u32 = 20;

/// Pools that the groups are divided among.
const POOLS: u32 = 4;

const INCARNATION: Incarnation = Incarnation(1);

/// What it took.
#[derive(Serialize)]
pub(crate) struct Line {
    case: &'static str,
    daemons: u32,
    pgs: u32,
    /// Every group of the cluster by CRUSH, on one core.
    place_all_ms: u64,
    place_one_us: f64,
    /// The whole map, as it is sent to whoever has none.
    map_bytes: usize,
    map_encode_ms: u64,
    map_decode_ms: u64,
    /// What a process that holds the map needs for it, by its resident memory.
    map_memory_bytes: u64,
    map_memory_bytes_per_daemon: u64,
    /// A monitor takes the state over: it reads the store and places all groups.
    monitor_lead_ms: u64,
    /// From the report that a daemon is gone to the batch for the store.
    failure_decide_ms: u64,
    /// Groups that begin a new interval by it.
    failure_pgs: usize,
    /// The step of the map, as every daemon and client gets it.
    failure_step_bytes: usize,
    failure_apply_ms: u64,
}

pub(crate) fn case(daemons: u32, pgs: u32) -> anyhow::Result<Line> {
    let mut map = cluster(daemons, pgs);
    let began = Instant::now();
    let ids: Vec<PgId> = groups(&map).collect();
    let sets: Vec<_> = ids.iter().filter_map(|pg| map.up_set(*pg)).collect();
    let placed = began.elapsed();
    for (pg, up) in ids.iter().zip(sets) {
        let members = up.daemons();
        let primary = *members.first().context("every group has a place")?;
        let all: std::collections::BTreeSet<DaemonId> = members.iter().copied().collect();
        let record = PgRecord {
            interval: store_base::Interval(1),
            primary,
            primary_incarnation: INCARNATION,
            members,
            holders: all.clone(),
            writers: all,
            since: Epoch(1),
            ..PgRecord::default()
        };
        map.pgs.insert(*pg, record);
    }
    let (bytes, encoded) = timed(|| map.to_bytes());
    let before = resident_bytes()?;
    let (decoded, decode) = timed(|| OsdMap::from_bytes(bytes.clone()));
    let mut held = decoded?;
    let memory = resident_bytes()?.saturating_sub(before);

    let mut stored = Stored::default();
    stored.apply(&genesis(map.cluster, map.created, None));
    stored.entries.insert(OSD_FULL.to_string(), bytes.clone());
    let mut monitor = Monitor::new(Settings::default(), Box::new(PlainSealer));
    let now = Time(1_000_000_000);
    let mut actions = Vec::new();
    monitor.step(now, Event::Clock { wall: map.created }, &mut actions);
    let ((), led) =
        timed(|| monitor.step(now, Event::Lead { stored: stored.clone() }, &mut actions));
    settle(&mut monitor, now, &mut stored, &mut actions)?;
    let led_step = newest_step(&stored);

    let failed = DaemonId(daemons as i32 / 2);
    let report = FailureReport {
        reporter: 0,
        reporter_incarnation: INCARNATION.0,
        failed: failed.0,
        failed_incarnation: INCARNATION.0,
        refused: true,
        silent_millis: 0,
    };
    let request = Event::Request { from: Ticket(1), request: Request::Failure(report) };
    let ((), decided) = timed(|| monitor.step(now, request, &mut actions));
    settle(&mut monitor, now, &mut stored, &mut actions)?;
    let newest = newest_step(&stored).filter(|newest| Some(newest) != led_step.as_ref());
    let (_, step_bytes) = newest.context("the failure made a step")?;
    let step = Incremental::from_bytes(step_bytes.clone())?;
    if step.daemons.set.get(&failed).is_none_or(|info| info.up) {
        bail!("the step does not say that {failed} is down");
    }
    // Steps that the monitor made before the failure lead there.
    for (key, bytes) in stored.entries.range(OSD_STEP.to_string()..) {
        if key.starts_with(OSD_STEP) && *bytes != step_bytes {
            held.apply(&Incremental::from_bytes(bytes.clone())?)?;
        }
    }
    let (applied, apply) = timed(|| held.apply(&step));
    applied?;
    Ok(Line {
        case: "map-scale",
        daemons,
        pgs: ids.len() as u32,
        place_all_ms: millis(placed),
        place_one_us: placed.as_secs_f64() * 1e6 / ids.len() as f64,
        map_bytes: bytes.len(),
        map_encode_ms: millis(encoded),
        map_decode_ms: millis(decode),
        map_memory_bytes: memory,
        map_memory_bytes_per_daemon: memory / u64::from(daemons.max(1)),
        monitor_lead_ms: millis(led),
        failure_decide_ms: millis(decided),
        failure_pgs: step.pgs.set.len(),
        failure_step_bytes: step_bytes.len(),
        failure_apply_ms: millis(apply),
    })
}

fn timed<T>(work: impl FnOnce() -> T) -> (T, Duration) {
    let began = Instant::now();
    let result = work();
    (result, began.elapsed())
}

fn millis(time: Duration) -> u64 {
    time.as_millis() as u64
}

fn groups(map: &OsdMap) -> impl Iterator<Item = PgId> + '_ {
    map.pools.iter().flat_map(|(&pool, info)| (0..info.pg_num).map(move |seed| PgId { pool, seed }))
}

/// A cluster in racks and hosts, all of it up and in, three copies of each object on three hosts.
fn cluster(daemons: u32, pgs: u32) -> OsdMap {
    let mut crush = CrushMap::new();
    for id in 0..daemons {
        let host = id / DAEMONS_PER_HOST;
        let (rack, host) = (format!("rack{}", host / HOSTS_PER_RACK), format!("host{host}"));
        let location = [("root", "default"), ("rack", rack.as_str()), ("host", host.as_str())];
        crush
            .insert_device(DaemonId(id as i32), WEIGHT_IN, &location)
            .expect("a place for every daemon");
    }
    let rule = crush.add_rule_replicated("hosts", "default", "host").expect("a rule");
    let daemon = |id: u32| DaemonInfo {
        uuid: ClusterId([id as u8; 16]),
        up: true,
        weight: WEIGHT_IN,
        primary_affinity: WEIGHT_IN,
        address: format!("10.{}.{}.{}:6800", id >> 16, (id >> 8) & 255, id & 255),
        incarnation: INCARNATION,
        up_from: Epoch(1),
        capacity_bytes: 16 << 40,
        host: format!("host{}", id / DAEMONS_PER_HOST),
        ..DaemonInfo::default()
    };
    let pool = |number: u32| Pool {
        name: format!("pool{number}"),
        size: 3,
        min_size: 2,
        pg_num: pgs / POOLS,
        pgp_num: pgs / POOLS,
        crush_rule: rule.into(),
        ..Pool::default()
    };
    let created = Timestamp { secs: 1_700_000_000, nanos: 0 };
    OsdMap {
        cluster: ClusterId([7; 16]),
        epoch: Epoch(1),
        created,
        modified: created,
        daemons: (0..daemons).map(|id| (DaemonId(id as i32), daemon(id))).collect(),
        pool_max: POOLS.into(),
        pools: (1..=POOLS).map(|number| (PoolId(number.into()), pool(number))).collect(),
        crush,
        ..OsdMap::default()
    }
}

/// Stores what the monitor wants stored, until it wants nothing more.
fn settle(
    monitor: &mut Monitor,
    now: Time,
    stored: &mut Stored,
    actions: &mut Vec<Action>,
) -> anyhow::Result<()> {
    while !actions.is_empty() {
        for action in std::mem::take(actions) {
            match action {
                Action::Commit { ticket, batch } => {
                    stored.apply(&batch);
                    monitor.step(now, Event::Committed { ticket }, actions);
                }
                Action::Resign { why } => bail!("the monitor gave up: {why}"),
                Action::Publish { .. } | Action::Reply { .. } => {}
            }
        }
    }
    Ok(())
}

/// The newest step of the osdmap in a store.
fn newest_step(stored: &Stored) -> Option<(String, bytes::Bytes)> {
    let steps = stored.entries.range(OSD_STEP.to_string()..);
    let newest = steps.take_while(|(key, _)| key.starts_with(OSD_STEP)).last();
    newest.map(|(key, bytes)| (key.clone(), bytes.clone()))
}

fn resident_bytes() -> anyhow::Result<u64> {
    let statm = std::fs::read_to_string("/proc/self/statm")?;
    let pages: u64 = statm.split_whitespace().nth(1).context("resident pages")?.parse()?;
    Ok(pages * rustix::param::page_size() as u64)
}
