//! What `/metrics` tells of a monitor. Names get the prefix `store_` and the labels `role` and `name`.
//!
//! | name | kind | meaning |
//! |---|---|---|
//! | `health_status` | gauge | 0 HEALTH_OK, 1 HEALTH_WARN, 2 HEALTH_ERR |
//! | `health_checks` | gauge, by check | 1 or 2 while the check is raised |
//! | `osdmap_epoch` | gauge | the newest map |
//! | `osds`, `osds_up`, `osds_in` | gauge | daemons known, up, in |
//! | `pools`, `pgs`, `pgs_active`, `pgs_full_size` | gauge | by the records |
//! | `monitor_requests` | counter | requests taken |
//! | `monitor_commits`, `monitor_commit_seconds` | counter | commits, and the time they took |
//! | `monitor_commits_in_flight`, `monitor_queue` | gauge | commits under way, requests that wait |
//! | `monitor_subscribers` | gauge | services that follow the maps |

use crate::machine::health::Report;
use crate::shell::driver::severity_number;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use std::sync::atomic::AtomicU64;
use std::time::Duration;
use store_base::map::OsdMap;
use store_shell::telemetry::Metrics;

/// The numbers, as the driver sets them.
#[derive(Clone, Debug, Default)]
pub struct MonitorMetrics {
    health: Gauge,
    checks: Family<Vec<(String, String)>, Gauge>,
    epoch: Gauge,
    osds: Gauge,
    osds_up: Gauge,
    osds_in: Gauge,
    pools: Gauge,
    pgs: Gauge,
    pgs_active: Gauge,
    pgs_full_size: Gauge,
    requests: Counter,
    commits: Counter,
    commit_seconds: Counter<f64, AtomicU64>,
    in_flight: Gauge,
    queue: Gauge,
    subscribers: Gauge,
}

fn number(n: usize) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}

impl MonitorMetrics {
    /// Puts the numbers into a service's metrics.
    pub fn register(metrics: &Metrics) -> MonitorMetrics {
        let all = MonitorMetrics::default();
        let m = all.clone();
        metrics.register(move |r| {
            r.register("health_status", "0 OK, 1 WARN, 2 ERR", m.health);
            r.register("health_checks", "Checks that are raised: 1 WARN, 2 ERR", m.checks);
            r.register("osdmap_epoch", "Epoch of the newest map", m.epoch);
            r.register("osds", "Daemons known", m.osds);
            r.register("osds_up", "Daemons up", m.osds_up);
            r.register("osds_in", "Daemons in", m.osds_in);
            r.register("pools", "Pools", m.pools);
            r.register("pgs", "Placement groups", m.pgs);
            r.register("pgs_active", "Placement groups whose interval is activated", m.pgs_active);
            r.register("pgs_full_size", "Placement groups with all members", m.pgs_full_size);
            r.register("monitor_requests", "Requests taken", m.requests);
            r.register("monitor_commits", "Commits", m.commits);
            r.register("monitor_commit_seconds", "Time that commits took", m.commit_seconds);
            r.register("monitor_commits_in_flight", "Commits under way", m.in_flight);
            r.register("monitor_queue", "Requests that wait for a commit", m.queue);
            r.register("monitor_subscribers", "Services that follow the maps", m.subscribers);
        });
        all
    }

    /// A request was taken.
    pub fn request(&self) {
        self.requests.inc();
    }

    /// A commit is done.
    pub fn commit(&self, took: Duration) {
        self.commits.inc();
        self.commit_seconds.inc_by(took.as_secs_f64());
    }

    /// What is under way.
    pub fn set_backlog(&self, in_flight: usize, queue: usize, subscribers: usize) {
        self.in_flight.set(number(in_flight));
        self.queue.set(number(queue));
        self.subscribers.set(number(subscribers));
    }

    /// What is not well.
    pub fn set_health(&self, report: &Report) {
        self.health.set(severity_number(report.status()));
        self.checks.clear();
        for (name, check) in &report.checks {
            let labels = vec![("check".to_string(), name.to_string())];
            self.checks.get_or_create(&labels).set(severity_number(check.severity));
        }
    }

    /// The newest map and what is not well with it.
    pub fn set_map(&self, map: &OsdMap, report: &Report) {
        self.set_health(report);
        self.epoch.set(i64::from(map.epoch.0));
        self.osds.set(number(map.daemons.len()));
        self.osds_up.set(number(map.daemons.values().filter(|info| info.up).count()));
        self.osds_in.set(number(map.daemons.values().filter(|info| info.weight > 0).count()));
        self.pools.set(number(map.pools.len()));
        self.pgs.set(number(map.pgs.len()));
        let active = map.pgs.values().filter(|pg| !pg.members.is_empty() && pg.is_active());
        self.pgs_active.set(number(active.count()));
        let full = map.pgs.iter().filter(|(id, pg)| {
            let size = map.pools.get(&id.pool).map_or(0, |pool| usize::from(pool.size));
            pg.members.len() >= size && pg.members.iter().all(|member| map.is_up(*member))
        });
        self.pgs_full_size.set(number(full.count()));
    }
}
