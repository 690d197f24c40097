//! Whether all is well, and if not, why and what to do.
//!
//! HEALTH_OK is claimed only from what was heard: every placement group is reported active, at full size and
//! with nothing missing, by the life of the primary that leads its interval in force. What is not reported
//! counts as not well. Names of checks are Ceph's where Ceph has them; each has a cause and a cure.

use super::Fault;
use super::commands::ReadContext;
use super::daemons;
use super::mutes;
use super::notes::Mute;
use super::pools;
use super::settings;
use super::status::{PgState, pg_states};
use super::surroundings;
use super::view::DaemonView;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use store_base::ids::{DaemonId, PgId};
use store_base::map::{PgRecord, Pool};

/// Lines of detail of one check.
pub const DETAIL_LINES_MAX: usize = 50;

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// Nothing is wrong.
    Ok,
    /// Something needs attention; nothing is lost and clients are served.
    Warn,
    /// Clients are not served, or data is in danger.
    Error,
}

impl Severity {
    /// Ceph's word.
    pub fn name(self) -> &'static str {
        match self {
            Severity::Ok => "HEALTH_OK",
            Severity::Warn => "HEALTH_WARN",
            Severity::Error => "HEALTH_ERR",
        }
    }
}

/// Something that is not well.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    /// How bad.
    pub severity: Severity,
    /// One line.
    pub summary: String,
    /// How many things it is about.
    pub count: usize,
    /// One line each, at most [`DETAIL_LINES_MAX`].
    pub detail: Vec<String>,
    /// What usually leads to it.
    pub cause: &'static str,
    /// What to do.
    pub cure: &'static str,
}

/// Everything that is not well, by name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// By name.
    pub checks: BTreeMap<&'static str, Check>,
    /// Checks that nobody wants to hear of now, with the seconds that are left of it (`None`: for good).
    pub mutes: BTreeMap<String, (Mute, Option<u64>)>,
}

impl Report {
    /// The worst of all that is not muted.
    pub fn status(&self) -> Severity {
        let heard = self.checks.iter().filter(|(name, _)| !self.mutes.contains_key(**name));
        heard.map(|(_, check)| check.severity).max().unwrap_or(Severity::Ok)
    }

    /// For a monitor that knows nothing because it does not lead.
    pub fn not_leading() -> Report {
        let mut report = Report::default();
        report.add(
            "MON_NOT_LEADING",
            Severity::Error,
            "this monitor does not lead and knows nothing of the cluster".to_string(),
            Vec::new(),
            "The state store cannot be reached, or another monitor leads.",
            "Look at the monitor's log; ask another monitor.",
        );
        report
    }

    /// As `health` shows it.
    pub fn to_json(&self, with_detail: bool) -> Value {
        let checks = self.checks.iter().map(|(name, check)| {
            let mut value = json!({
                "severity": check.severity.name(),
                "summary": {"message": check.summary, "count": check.count},
                "muted": self.mutes.contains_key(*name),
            });
            if with_detail {
                value["detail"] =
                    check.detail.iter().map(|line| json!({"message": line})).collect();
                value["cause"] = json!(check.cause);
                value["cure"] = json!(check.cure);
            }
            (name.to_string(), value)
        });
        let checks: Map<String, Value> = checks.collect();
        let mutes =
            self.mutes.iter().map(|(name, (mute, left))| mutes::describe(name, mute, *left));
        let mutes: Vec<Value> = mutes.collect();
        json!({"status": self.status().name(), "checks": checks, "mutes": mutes})
    }

    pub(crate) fn add(
        &mut self,
        name: &'static str,
        severity: Severity,
        summary: String,
        mut detail: Vec<String>,
        cause: &'static str,
        cure: &'static str,
    ) {
        let count = detail.len().max(1);
        detail.truncate(DETAIL_LINES_MAX);
        self.checks.insert(name, Check { severity, summary, count, detail, cause, cure });
    }
}

/// "1 daemon is", "3 daemons are".
pub(crate) fn count(n: usize, what: &str) -> String {
    if n == 1 { format!("1 {what} is") } else { format!("{n} {what}s are") }
}

fn times(n: u64) -> String {
    if n == 1 { "once".to_string() } else { format!("{n} times") }
}

/// What is not well now.
pub(crate) fn report(context: &ReadContext<'_>) -> Report {
    let mut report = Report::default();
    who_is_down(context, &mut report);
    space(context, &mut report);
    troubles(context, &mut report);
    groups(context, &mut report);
    super::scrub::checks(context, &mut report);
    pool_settings(context, &mut report);
    quotas(context, &mut report);
    limits(context, &mut report);
    services(context, &mut report);
    flags(context, &mut report);
    surroundings::check(context, &mut report);
    report.mutes = mutes::in_force(&context.maps.notes, context.wall);
    report
}

fn who_is_down(context: &ReadContext<'_>, report: &mut Report) {
    let map = &context.maps.osd;
    let down: Vec<DaemonId> = map
        .daemons
        .iter()
        .filter(|(_, info)| !info.up && info.weight > 0)
        .map(|(id, _)| *id)
        .collect();
    if !down.is_empty() {
        let detail = down.iter().map(|id| {
            let info = &map.daemons[id];
            format!("{id} on {} is down since epoch {}", info.host, info.down_at)
        });
        report.add(
            "OSD_DOWN",
            Severity::Warn,
            format!("{} down", count(down.len(), "daemon")),
            detail.collect(),
            "The process ended, its machine is off, or the network to it is cut.",
            "Start the daemon; what it missed is copied to it. If it will not come back, `store osd out` it.",
        );
    }
    let mut hosts: BTreeMap<&str, (usize, usize)> = BTreeMap::new();
    for info in map.daemons.values().filter(|info| info.weight > 0) {
        let host = hosts.entry(&info.host).or_default();
        host.0 += 1;
        host.1 += usize::from(!info.up);
    }
    let dead: Vec<String> = hosts
        .iter()
        .filter(|(_, (all, down))| all == down)
        .map(|(host, (all, _))| format!("host {host} with {all} daemons is down"))
        .collect();
    if !dead.is_empty() && hosts.len() > 1 {
        report.add(
            "OSD_HOST_DOWN",
            Severity::Warn,
            format!("{} down with all daemons", count(dead.len(), "host")),
            dead,
            "The machine is off or cut off.",
            "Bring the machine back.",
        );
    }
    let out: Vec<String> = map
        .daemons
        .iter()
        .filter(|(_, info)| info.weight == 0 && (info.up || info.auto_out))
        .map(|(id, info)| {
            let how = match context.maps.notes.drains.contains_key(id) {
                true => "is being emptied; once it is empty, stop and remove it",
                false if info.auto_out => "was taken out because it was down",
                false => "is out by hand",
            };
            format!("{id} on {} {how}", info.host)
        })
        .collect();
    if !out.is_empty() {
        report.add(
            "OSD_OUT",
            Severity::Warn,
            format!("{} out, without data", count(out.len(), "daemon")),
            out,
            "A daemon was taken out, by hand or because it was down for too long.",
            "Start it, or `store osd in` it; or remove it for good by `store osd rm`.",
        );
    }
    let wanted = settings::integer(&context.maps.config, "osd_pool_default_size");
    let largest = map.pools.values().map(|pool| u64::from(pool.size)).max().unwrap_or(wanted);
    if (map.daemons.len() as u64) < largest {
        report.add(
            "TOO_FEW_OSDS",
            Severity::Warn,
            format!("{} daemons, and {largest} copies are wanted", map.daemons.len()),
            Vec::new(),
            "The cluster has fewer daemons than copies of an object.",
            "Start more daemons, or make pools with a smaller size.",
        );
    }
}

fn space(context: &ReadContext<'_>, report: &mut Report) {
    let config = &context.maps.config;
    let mut by_limit: [(Vec<String>, f64); 3] = [
        (Vec::new(), settings::ratio(config, "mon_osd_full_ratio")),
        (Vec::new(), settings::ratio(config, "mon_osd_backfillfull_ratio")),
        (Vec::new(), settings::ratio(config, "mon_osd_nearfull_ratio")),
    ];
    for (id, info) in context.maps.osd.daemons.iter().filter(|(_, info)| info.up) {
        let Some(used) = pools::fullness(context.view, *id) else { continue };
        if let Some((lines, _)) = by_limit.iter_mut().find(|(_, limit)| used >= *limit) {
            lines.push(format!("{id} on {} is {:.1} % full", info.host, used * 100.0));
        }
    }
    let [(full, _), (backfillfull, _), (nearfull, _)] = by_limit;
    let cure = "Delete data, or add daemons.";
    let cause = "More was written than there is room for, or the data is unevenly spread.";
    let rows = [
        ("OSD_FULL", Severity::Error, full, "full: writes wait, deletes go"),
        ("OSD_BACKFILLFULL", Severity::Warn, backfillfull, "too full to take copies"),
        ("OSD_NEARFULL", Severity::Warn, nearfull, "nearly full"),
    ];
    for (name, severity, lines, how) in rows {
        if !lines.is_empty() {
            let summary = format!("{} {how}", count(lines.len(), "daemon"));
            report.add(name, severity, summary, lines, cause, cure);
        }
    }
}

fn troubles(context: &ReadContext<'_>, report: &mut Report) {
    let up = context.maps.osd.daemons.iter().filter(|(_, info)| info.up);
    let views: Vec<_> =
        up.filter_map(|(id, _)| Some((id, context.view.daemons.get(id)?))).collect();
    let slow: Vec<String> = views
        .iter()
        .filter(|(_, view)| view.slow_ops > 0)
        .map(|(id, view)| format!("{id} has {} slow operations", view.slow_ops))
        .collect();
    if !slow.is_empty() {
        let total: u64 = views.iter().map(|(_, view)| view.slow_ops).sum();
        report.add(
            "SLOW_OPS",
            Severity::Warn,
            format!("{total} operations take too long"),
            slow,
            "A disk or the network is slow or overloaded, or placement groups wait for copies.",
            "Look at the daemons named, their disks and the groups that are not active.",
        );
    }
    damage(context, &views, report);
    let silent: Vec<String> = views
        .iter()
        .filter(|_| context.settings.fault != Fault::SilenceIsHealth)
        .filter(|(_, view)| !view.is_fresh(context.now, context.settings.stale))
        .map(|(id, view)| match (view.has_beaten, view.is_cut_off) {
            (false, _) => format!("{id} has not reported to this monitor yet"),
            (true, true) => format!("{id} closed its connection to this monitor"),
            (true, false) => {
                let seconds = context.now.since(view.heard).as_secs_f64();
                format!("{id} was last heard {seconds:.0} s ago")
            }
        })
        .collect();
    if !silent.is_empty() {
        report.add(
            "OSD_UNREPORTED",
            Severity::Warn,
            format!("{} not heard, and may not live", count(silent.len(), "daemon")),
            silent,
            "The monitor or the daemon has just started, the daemon has died, or it does not reach the monitor.",
            "Wait some seconds, until it is heard or taken for down; then look at the daemon's log.",
        );
    }
}

/// Damage that was found is no state of the data, which is fetched anew from another copy, but a sign that a
/// medium fails. It is shown until somebody has seen to it, or for a time without any more.
fn damage(context: &ReadContext<'_>, views: &[(&DaemonId, &DaemonView)], report: &mut Report) {
    let lasts = settings::span(&context.maps.config, "mon_osd_damage_warn_interval");
    let damaged: Vec<(u64, String)> = views
        .iter()
        .filter(|(_, view)| context.now.since(view.read_errors_at) < lasts)
        .filter_map(|(id, view)| {
            let seen = context.maps.osd.daemons.get(id).map_or(0, daemons::damage_seen);
            let found = view.read_errors.saturating_sub(seen);
            let line = format!("{id} found damage {} when it read", times(found));
            let is_over = || super::scrub::has_read_all(context, **id, view.read_errors_at);
            (found > 0 && !is_over()).then_some((found, line))
        })
        .collect();
    if !damaged.is_empty() {
        let total: u64 = damaged.iter().map(|(found, _)| found).sum();
        report.add(
            "OSD_DAMAGED",
            Severity::Warn,
            format!("damage was found {}, daemons concerned: {}", times(total), damaged.len()),
            damaged.into_iter().map(|(_, line)| line).collect(),
            "The medium returned other bytes than were written; clients were served from other copies, and good ones were written in place.",
            "If it comes again, replace the disk: `store osd out` the daemon, wait for HEALTH_OK, remove it. If you have seen to it: `store osd clear-damage ID`; by itself the warning ends when a deep scrub that began later has read all that is there, or after mon_osd_damage_warn_interval without more.",
        );
    }
}

type Row<'a, 'b> = &'b (PgId, &'a Pool, &'a PgRecord, PgState<'a>);

fn groups(context: &ReadContext<'_>, report: &mut Report) {
    let rows = pg_states(context);
    let line = |(pg, _, record, state): Row<'_, '_>| {
        format!("{pg} is {}, acting {}", state.text(), list(&record.members))
    };
    let select = |wanted: &dyn Fn(Row<'_, '_>) -> bool| -> Vec<String> {
        rows.iter().filter(|row| wanted(row)).map(line).collect()
    };
    let settling = context.now.since(context.began) < context.settings.settle;
    let unknown = select(&|(.., state)| state.has("unknown"));
    if !unknown.is_empty() {
        report.add(
            "PG_UNREPORTED",
            Severity::Warn,
            format!("the state of {} placement groups is not known", unknown.len()),
            unknown,
            "Their primary has not reported its interval: it or the monitor has just started, or it hangs.",
            "Wait some seconds; then restart the primary named in `store pg ls`.",
        );
    }
    let idle = select(&|(.., state)| !state.has("active") && !state.has("unknown"));
    if !idle.is_empty() {
        let lost = rows.iter().any(|(.., state)| state.has("down"));
        report.add(
            "PG_AVAILABILITY",
            if lost && !settling { Severity::Error } else { Severity::Warn },
            format!("{} placement groups serve nobody now", idle.len()),
            idle,
            "They are being taken over, or every daemon that has them completely is down.",
            "Start the daemons that are down. As the last resort: `store pg force`.",
        );
    }
    let small = select(&|(_, pool, record, state)| {
        state.has("active") && record.width() < usize::from(pool.min_size)
    });
    if !small.is_empty() {
        report.add(
            "PG_UNDERSIZED",
            Severity::Error,
            format!(
                "{} placement groups have fewer copies than min_size: writes wait",
                small.len()
            ),
            small,
            "Too many daemons are down.",
            "Start the daemons that are down, or add daemons.",
        );
    }
    let degraded = select(&|(.., state)| state.has("degraded"));
    if !degraded.is_empty() {
        let missing: u64 =
            rows.iter().filter_map(|(.., state)| state.report).map(|report| report.missing).sum();
        report.add(
            "PG_DEGRADED",
            Severity::Warn,
            format!(
                "{} placement groups have fewer copies than they should, {missing} objects to copy",
                degraded.len()
            ),
            degraded,
            "A daemon is down, or has come back and is being caught up, or there are too few daemons.",
            "It heals by itself once enough daemons are up; until then every copy that is left matters.",
        );
    }
    let unclean =
        select(&|(.., state)| state.has("active") && !state.has("clean") && !state.has("degraded"));
    if !unclean.is_empty() {
        report.add(
            "PG_NOT_CLEAN",
            Severity::Warn,
            format!("{} placement groups are active and not yet clean", unclean.len()),
            unclean,
            "Copies are being made elsewhere, for balance or because daemons were added or taken out.",
            "It ends by itself.",
        );
    }
    let full = select(&|(.., state)| state.has("backfill_toofull"));
    if !full.is_empty() {
        report.add(
            "PG_BACKFILL_FULL",
            Severity::Warn,
            format!("{} placement groups cannot be copied for want of room", full.len()),
            full,
            "A daemon that should take a copy is fuller than mon_osd_backfillfull_ratio.",
            "Delete data, or add daemons; the copies are made as soon as there is room.",
        );
    }
    let bad = select(&|(.., state)| state.has("inconsistent"));
    if !bad.is_empty() {
        report.add(
            "PG_DAMAGED",
            Severity::Error,
            format!("{} placement groups have copies that differ", bad.len()),
            bad,
            "A scrub found copies that are damaged or differ.",
            "Look at the daemons' logs; take out the daemon with the bad disk.",
        );
    }
}

fn list(ids: &[DaemonId]) -> String {
    let ids: Vec<String> = ids.iter().map(|id| id.0.to_string()).collect();
    format!("[{}]", ids.join(","))
}

fn pool_settings(context: &ReadContext<'_>, report: &mut Report) {
    let pools = || context.maps.osd.pools.values();
    let single: Vec<String> = pools()
        .filter(|pool| pool.size < 2)
        .map(|pool| format!("pool {} has size {}", pool.name, pool.size))
        .collect();
    if !single.is_empty() {
        report.add(
            "POOL_NO_REDUNDANCY",
            Severity::Warn,
            format!("{} without a second copy", count(single.len(), "pool")),
            single,
            "Pools were made with size 1: the loss of one disk loses data.",
            "`store pool set NAME size 3`.",
        );
    }
    let unsafe_min: Vec<String> = pools()
        .filter(|pool| pool.size > 1 && pool.min_size < 2)
        .map(|pool| format!("pool {} has min_size {}", pool.name, pool.min_size))
        .collect();
    if !unsafe_min.is_empty() {
        report.add(
            "POOL_MIN_SIZE_LOW",
            Severity::Warn,
            format!("{} writing with one copy left", count(unsafe_min.len(), "pool")),
            unsafe_min,
            "With min_size 1 a write may be on one disk only when it is acknowledged.",
            "`store pool set NAME min_size 2`.",
        );
    }
}

/// From this share of its quota on a pool is nearly full.
const QUOTA_NEAR: f64 = 0.8;

fn quotas(context: &ReadContext<'_>, report: &mut Report) {
    let sums = super::status::pool_sums(context);
    let (mut full, mut near) = (Vec::new(), Vec::new());
    for (id, pool) in &context.maps.osd.pools {
        let sum = sums.get(id).copied().unwrap_or_default();
        let rows =
            [("objects", sum.objects, pool.quota_objects), ("bytes", sum.bytes, pool.quota_bytes)];
        for (what, used, quota) in rows.into_iter().filter(|(.., quota)| *quota > 0) {
            let line = format!("pool {} has {used} of {quota} {what} of its quota", pool.name);
            match used as f64 / quota as f64 {
                share if share >= 1.0 => full.push(line),
                share if share >= QUOTA_NEAR => near.push(line),
                _ => {}
            }
        }
    }
    let cause = "Somebody set a quota, and that much was written.";
    let cure = "Delete objects, or raise it: `store pool set-quota NAME bytes N` (0 for none).";
    let rows = [
        ("POOL_FULL", full, "at the quota: writes are refused, deletes go"),
        ("POOL_NEAR_FULL", near, "near the quota"),
    ];
    for (name, lines, how) in rows {
        if !lines.is_empty() {
            let summary = format!("{} {how}", count(lines.len(), "pool"));
            report.add(name, Severity::Warn, summary, lines, cause, cure);
        }
    }
}

/// Limits of fullness that contradict each other: one would never take effect.
fn limits(context: &ReadContext<'_>, report: &mut Report) {
    if let Err(why) = pools::check_ratios(&context.maps.config) {
        report.add(
            "OSD_OUT_OF_ORDER_FULL",
            Severity::Error,
            "the limits of fullness are out of order".to_string(),
            vec![why],
            "Somebody changed one of them without the others.",
            "`store osd set-nearfull-ratio`, `set-backfillfull-ratio`, `set-full-ratio` keep the order.",
        );
    }
}

fn services(context: &ReadContext<'_>, report: &mut Report) {
    let services = &context.maps.services.services;
    let down = |role: &str| -> Vec<String> {
        services
            .iter()
            .filter(|(name, info)| name.starts_with(role) && info.state == "down")
            .map(|(name, info)| format!("{name} at {} is silent", info.address))
            .collect()
    };
    for (check, role, what) in [
        ("GATEWAY_DOWN", "gateway.", "gateway"),
        ("METADATA_DOWN", "metadata.", "metadata service"),
    ] {
        let lines = down(role);
        if !lines.is_empty() {
            report.add(
                check,
                Severity::Warn,
                format!("{} down", count(lines.len(), what)),
                lines,
                "The process ended, or it does not reach the monitor.",
                "Start it. One that was removed is forgotten after an hour, or by `store service rm`.",
            );
        }
    }
}

fn flags(context: &ReadContext<'_>, report: &mut Report) {
    let flags = context.maps.osd.flags;
    let set = flags.set_by_person();
    if !set.is_empty() {
        report.add(
            "OSDMAP_FLAGS",
            Severity::Warn,
            format!("flags are set: {}", set.join(", ")),
            set.iter().map(|flag| format!("{flag} is set")).collect(),
            "Somebody set them, for maintenance.",
            "`store osd unset FLAG` when the work is done.",
        );
    }
    if flags.full {
        let why = "the cluster is full: writes wait, deletes go".to_string();
        let cause = "A daemon is fuller than mon_osd_full_ratio.";
        report.add(
            "CLUSTER_FULL",
            Severity::Error,
            why,
            Vec::new(),
            cause,
            "Delete data, or add daemons.",
        );
    }
}
