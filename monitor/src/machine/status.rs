//! The state of placement groups, of space, and of the whole, as JSON. Keys are Ceph's where Ceph has them.

use super::Fault;
use super::commands::{ReadContext, data, time};
use super::view::View;
use super::{health, jobs, pools};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use store_base::ids::{DaemonId, PgId, PoolId};
use store_base::map::{MapFlags, PgRecord, Pool};
use store_base::wire::PgReport;

/// What is known of a placement group: the record says who has it, the primary's report what they do.
pub(crate) struct PgState<'a> {
    /// "active", "clean", "undersized", …, in Ceph's words; without order or repetition.
    pub(crate) words: BTreeSet<String>,
    /// The primary's report of the interval in force, if it was given.
    pub(crate) report: Option<&'a PgReport>,
}

impl PgState<'_> {
    pub(crate) fn has(&self, word: &str) -> bool {
        self.words.contains(word)
    }

    /// As Ceph shows it: "active+clean".
    pub(crate) fn text(&self) -> String {
        const FIRST: [&str; 6] = ["creating", "unknown", "down", "peering", "activating", "active"];
        let first = FIRST.iter().filter(|word| self.has(word)).copied();
        let rest = self.words.iter().map(String::as_str).filter(|word| !FIRST.contains(word));
        first.chain(rest).collect::<Vec<_>>().join("+")
    }
}

/// Words of a report that are kept, at most.
const REPORT_WORDS_MAX: usize = 16;

/// What is known of a placement group. Without a fresh report of the interval in force, given since every
/// member's present life began, it is "unknown": silence is never taken for health.
pub(crate) fn pg_state<'a>(
    context: &ReadContext<'a>,
    pg: PgId,
    pool: &Pool,
    record: &PgRecord,
) -> PgState<'a> {
    let map = &context.maps.osd;
    let mut words = BTreeSet::new();
    if record.members.is_empty() {
        return PgState { words: BTreeSet::from(["creating".to_string()]), report: None };
    }
    let report = context.view.fresh_report(map, pg, context.now, context.settings.stale);
    if !record.suffice(pool, record.holders.iter().filter(|holder| map.is_up(**holder))) {
        words.insert("down".to_string());
    } else {
        match report {
            Some(report) => {
                words.extend(report.state.split('+').take(REPORT_WORDS_MAX).map(str::to_string));
            }
            None => {
                let is_deaf = context.settings.fault == Fault::SilenceIsHealth;
                words.insert(if is_deaf { "active" } else { "unknown" }.to_string());
            }
        }
        if !record.is_active() && words.remove("active") {
            words.insert("activating".to_string());
        }
    }
    words.remove("clean");
    words.remove("");
    let up = record.members.iter().filter(|member| map.is_up(**member));
    let up = match pool.erasure {
        Some(_) => record.slots_of(up).len(),
        None => up.count(),
    };
    let missing = report.map_or(0, |report| report.missing);
    // Copies that are made beside as many as there should be are for balance: nothing is degraded then.
    words.remove("degraded");
    let size = match context.settings.fault {
        Fault::SmallIsHealthy => 1,
        _ => usize::from(pool.size),
    };
    if up < size {
        words.extend(["undersized".to_string(), "degraded".to_string()]);
    }
    if record.learners.iter().any(|id| jobs::is_too_full(context, *id)) {
        words.insert("backfill_toofull".to_string());
    }
    let target = context.targets.of(pg);
    let placed =
        target.len() == record.members.len() && target.iter().all(|id| record.members.contains(id));
    if !placed && !target.is_empty() {
        words.insert("remapped".to_string());
    }
    let whole = up >= size && record.learners.is_empty() && missing == 0;
    if words.contains("active") && whole && record.is_active() {
        words.insert("clean".to_string());
    }
    PgState { words, report }
}

/// Every placement group with its pool, record and state.
pub(crate) fn pg_states<'a>(
    context: &ReadContext<'a>,
) -> Vec<(PgId, &'a Pool, &'a PgRecord, PgState<'a>)> {
    let maps = context.maps;
    let rows = maps.osd.pgs.iter().filter_map(|(pg, record)| {
        let pool = maps.osd.pools.get(&pg.pool)?;
        Some((*pg, pool, record, pg_state(context, *pg, pool, record)))
    });
    rows.collect()
}

/// One placement group for `pg dump`, `pg ls`.
pub(crate) fn pg_row(
    context: &ReadContext<'_>,
    pg: PgId,
    record: &PgRecord,
    state: &PgState<'_>,
) -> Value {
    let report = state.report.cloned().unwrap_or_default();
    let target = context.targets.of(pg);
    json!({
        "pgid": pg.to_string(),
        "state": state.text(),
        "reported": state.report.is_some(),
        "interval": record.interval,
        "since_epoch": record.since,
        "up": target,
        "acting": record.members,
        "up_primary": target.first().map_or(-1, |id| id.0),
        "acting_primary": record.primary,
        "learners": record.learners,
        "holders": record.holders,
        "writers": record.writers,
        "stat_sum": {
            "num_objects": report.objects,
            "num_bytes": report.bytes,
            "num_objects_missing": report.missing,
        },
        "log_start": report.log_first,
        "log_end": report.log_last,
        "last_scrub_secs": report.last_scrub_secs,
        "last_deep_scrub_secs": report.last_deep_scrub_secs,
        "verified_since_secs": report.verified_secs,
        "scrub": {
            "full": report.full_objects,
            "below": report.below_objects,
            "errors": report.scrub_errors,
            "lost": report.lost_objects,
            "found": report.scrub_found,
            "repaired": report.scrub_repaired,
            "bad_objects": report.bad_objects,
            "run": report.scrub.map(|run| json!({
                "deep": run.deep, "order": run.order, "started_secs": run.started_secs,
                "objects": run.objects, "bytes": run.bytes, "found": run.found,
                "repaired": run.repaired, "paused": run.paused,
            })),
        },
    })
}

/// Sums over the placement groups of one pool.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct PoolSum {
    pub(crate) objects: u64,
    pub(crate) bytes: u64,
    pub(crate) missing: u64,
}

pub(crate) fn pool_sums(context: &ReadContext<'_>) -> BTreeMap<PoolId, PoolSum> {
    sums_of(context.view)
}

pub(crate) fn sums_of(view: &View) -> BTreeMap<PoolId, PoolSum> {
    let mut sums: BTreeMap<PoolId, PoolSum> = BTreeMap::new();
    for (pg, view) in &view.groups {
        // The last report counts, also of an interval that is over: the objects are still there.
        let Some(told) = &view.primary else { continue };
        let sum = sums.entry(pg.pool).or_default();
        sum.objects = sum.objects.saturating_add(told.report.objects);
        sum.bytes = sum.bytes.saturating_add(told.report.bytes);
        sum.missing = sum.missing.saturating_add(told.report.missing);
    }
    sums
}

/// Bytes of the daemons that are up and in: total and used.
pub(crate) fn space(context: &ReadContext<'_>) -> (u64, u64) {
    let inside = context.maps.osd.daemons.iter().filter(|(_, info)| info.up && info.weight > 0);
    inside.fold((0, 0), |(total, used), (id, info)| {
        let view = context.view.daemons.get(id);
        let capacity = view.map_or(info.capacity_bytes, |view| view.capacity_bytes);
        let own = view.map_or(0, |view| view.used_bytes);
        (total.saturating_add(capacity), used.saturating_add(own))
    })
}

/// Placement groups on each daemon.
pub(crate) fn pgs_per_daemon(context: &ReadContext<'_>) -> BTreeMap<DaemonId, usize> {
    let mut counts = BTreeMap::new();
    for record in context.maps.osd.pgs.values() {
        for member in &record.members {
            *counts.entry(*member).or_default() += 1;
        }
    }
    counts
}

/// `status`.
pub(crate) fn status(context: &ReadContext<'_>) -> Value {
    let map = &context.maps.osd;
    let states = pg_states(context);
    let mut by_state: BTreeMap<String, usize> = BTreeMap::new();
    states.iter().for_each(|(.., state)| *by_state.entry(state.text()).or_default() += 1);
    let mut by_state: Vec<_> = by_state.into_iter().collect();
    by_state.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    let by_state: Vec<_> = by_state
        .into_iter()
        .map(|(name, count)| json!({"state_name": name, "count": count}))
        .collect();
    let sums = pool_sums(context);
    let sum = |of: fn(&PoolSum) -> u64| sums.values().map(of).fold(0, u64::saturating_add);
    let (total, used) = space(context);
    let full_size = states
        .iter()
        .filter(|(.., state)| state.report.is_some() && !state.has("undersized"))
        .count();
    let degraded = states.iter().filter(|(.., state)| state.has("degraded")).count();
    json!({
        "fsid": map.cluster.to_string(),
        "health": health::report(context).to_json(false),
        "election_epoch": 1,
        "quorum": [0],
        "quorum_names": [context.settings.name],
        "monmap": {"epoch": 1, "num_mons": 1},
        "osdmap": {
            "epoch": map.epoch,
            "num_osds": map.daemons.len(),
            "num_up_osds": map.daemons.values().filter(|info| info.up).count(),
            "num_in_osds": map.daemons.values().filter(|info| info.weight > 0).count(),
            "num_remapped_pgs": states.iter().filter(|(.., state)| state.has("remapped")).count(),
            "flags": flags(context),
        },
        "pgmap": {
            "pgs_by_state": by_state,
            "num_pgs": states.len(),
            "num_pgs_full_size": full_size,
            "num_pgs_degraded": degraded,
            "num_pools": map.pools.len(),
            "num_objects": sum(|sum| sum.objects),
            "missing_objects": sum(|sum| sum.missing),
            "data_bytes": sum(|sum| sum.bytes),
            "bytes_used": used,
            "bytes_avail": total.saturating_sub(used),
            "bytes_total": total,
        },
        "servicemap": {
            "epoch": context.maps.services.epoch,
            "services": data(&context.maps.services.services),
        },
        "progress_events": jobs::progress_events(context),
        "time": time(context.wall),
    })
}

/// The flags that are set, as Ceph writes them.
pub(crate) fn flags(context: &ReadContext<'_>) -> String {
    flag_names(context.maps.osd.flags).join(",")
}

/// The flags that are set, by a person or by the monitor.
pub(crate) fn flag_names(flags: MapFlags) -> Vec<&'static str> {
    let mut names = flags.set_by_person();
    names.extend(flags.full.then_some("full"));
    names
}

/// `df`.
pub(crate) fn df(context: &ReadContext<'_>) -> Value {
    let map = &context.maps.osd;
    let (total, used) = space(context);
    let free = total.saturating_sub(used);
    let sums = pool_sums(context);
    let pools = map.pools.iter().map(|(id, pool)| {
        let sum = sums.get(id).copied().unwrap_or_default();
        // What is stored takes size times its room, of which in a pool with slots each has one part in k.
        let parts = pool.erasure.as_ref().map_or(1, |erasure| u64::from(erasure.data.max(1)));
        let raw = sum.bytes.saturating_mul(u64::from(pool.size)) / parts;
        let room = (free / u64::from(pool.size.max(1))).saturating_mul(parts);
        let all = sum.bytes.saturating_add(room);
        json!({
            "name": pool.name,
            "id": id,
            "stats": {
                "stored": sum.bytes,
                "objects": sum.objects,
                "kb_used": raw / 1024,
                "bytes_used": raw,
                "percent_used": if all == 0 { 0.0 } else { sum.bytes as f64 / all as f64 },
                "max_avail": room,
            },
        })
    });
    json!({
        "stats": {
            "total_bytes": total,
            "total_avail_bytes": free,
            "total_used_bytes": used,
            "total_used_raw_bytes": used,
            "total_used_raw_ratio": if total == 0 { 0.0 } else { used as f64 / total as f64 },
            "num_osds": map.daemons.len(),
        },
        "pools": pools.collect::<Vec<_>>(),
    })
}

/// `osd df`: one row per daemon and the summary.
pub(crate) fn osd_df(context: &ReadContext<'_>) -> Value {
    let map = &context.maps.osd;
    let counts = pgs_per_daemon(context);
    let used = |id: DaemonId| pools::fullness(context.view, id).unwrap_or(0.0);
    let (total, all_used) = space(context);
    let average = if total == 0 { 0.0 } else { all_used as f64 / total as f64 };
    let inside: Vec<f64> = map
        .daemons
        .iter()
        .filter(|(_, info)| info.up && info.weight > 0)
        .map(|(id, _)| used(*id))
        .collect();
    let deviation = inside.iter().map(|used| (used - average).powi(2)).sum::<f64>()
        / inside.len().max(1) as f64;
    let against = |used: f64| if average == 0.0 { 0.0 } else { used / average };
    let nodes = map.daemons.iter().map(|(id, info)| {
        let view = context.view.daemons.get(id).cloned().unwrap_or_default();
        let capacity =
            if view.capacity_bytes > 0 { view.capacity_bytes } else { info.capacity_bytes };
        json!({
            "id": id,
            "name": id.to_string(),
            "type": "osd",
            "type_id": 0,
            "device_class": info.details.get("device_class"),
            "crush_weight": super::commands::weight(map.crush.device_weight(*id).unwrap_or(0)),
            "reweight": super::commands::weight(info.weight),
            "kb": capacity / 1024,
            "kb_used": view.used_bytes / 1024,
            "kb_avail": capacity.saturating_sub(view.used_bytes) / 1024,
            "utilization": used(*id) * 100.0,
            "var": against(used(*id)),
            "pgs": counts.get(id).copied().unwrap_or(0),
            "status": if info.up { "up" } else { "down" },
        })
    });
    json!({
        "nodes": nodes.collect::<Vec<_>>(),
        "stray": [],
        "summary": {
            "total_kb": total / 1024,
            "total_kb_used": all_used / 1024,
            "total_kb_avail": total.saturating_sub(all_used) / 1024,
            "average_utilization": average * 100.0,
            "min_var": inside.iter().copied().map(against).reduce(f64::min).unwrap_or(0.0),
            "max_var": inside.iter().copied().map(against).reduce(f64::max).unwrap_or(0.0),
            "dev": deviation.sqrt() * 100.0,
        },
    })
}
