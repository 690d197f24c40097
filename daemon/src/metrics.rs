//! What a daemon counts. The names are the operators' table; all begin with `store_` and carry the labels
//! `role` and `name`.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;

/// Requests answered, by kind (`read`, `write`) and outcome (`done`, `failed`, `misdirected`, `refused`).
pub const REQUESTS: &str = "daemon_requests";
/// Seconds from the arrival of a request to its answer, by kind.
pub const REQUEST_SECONDS: &str = "daemon_request_seconds";
/// Bytes of requests received from clients.
pub const CLIENT_BYTES_RECEIVED: &str = "daemon_client_bytes_received";
/// Bytes of answers sent to clients.
pub const CLIENT_BYTES_SENT: &str = "daemon_client_bytes_sent";
/// Requests that are being worked on.
pub const REQUESTS_OPEN: &str = "daemon_requests_open";
/// Bytes that these may take in memory.
pub const REQUEST_BYTES_OPEN: &str = "daemon_request_bytes_open";
/// Client streams.
pub const CLIENTS: &str = "daemon_clients";
/// Sessions to other daemons that are up.
pub const PEERS: &str = "daemon_peers";
/// Messages to other daemons.
pub const PEER_MESSAGES_SENT: &str = "daemon_peer_messages_sent";
/// Messages from other daemons.
pub const PEER_MESSAGES_RECEIVED: &str = "daemon_peer_messages_received";
/// Sessions to other daemons that were lost or refused.
pub const PEER_LOSSES: &str = "daemon_peer_losses";
/// Turns of the event loop.
pub const TURNS: &str = "daemon_turns";
/// Events that the machine was stepped with: events per turn tell how well bursts are gathered.
pub const EVENTS: &str = "daemon_events";
/// Bytes of the medium that may be used.
pub const CAPACITY_BYTES: &str = "daemon_capacity_bytes";
/// Bytes of the medium in use.
pub const USED_BYTES: &str = "daemon_used_bytes";
/// Bytes that clients stored here.
pub const STORED_BYTES: &str = "daemon_stored_bytes";
/// Bytes in use that are given back in the background: freed and not free yet, or garbage of the index.
pub const RECLAIMABLE_BYTES: &str = "daemon_reclaimable_bytes";
/// Milliseconds that the opening of the store took.
pub const OPENING_MILLIS: &str = "daemon_opening_millis";
/// Bytes of log that were read for it; at most an eighth of the capacity and 256 MiB, but for what a full
/// store had to add.
pub const OPENING_LOG_BYTES: &str = "daemon_opening_log_bytes";
/// Places where the log was found rotten at the opening.
pub const OPENING_ROTTEN: &str = "daemon_opening_rotten";
/// Objects here.
pub const OBJECTS: &str = "daemon_objects";
/// Placement groups here, by state.
pub const PGS: &str = "daemon_pgs";
/// Placement groups that are led and served here.
pub const PGS_SERVING: &str = "daemon_pgs_serving";
/// Requests that wait for something other than their own commit.
pub const REQUESTS_WAITING: &str = "daemon_requests_waiting";
/// Log entries of groups led here that are not committed yet.
pub const ENTRIES_OPEN: &str = "daemon_entries_open";
/// Copies of objects coming in.
pub const RECOVERY_PULLS: &str = "daemon_recovery_pulls";
/// Copies of objects going out.
pub const RECOVERY_PUSHES: &str = "daemon_recovery_pushes";
/// Bytes of all logs in memory, about.
pub const LOG_BYTES: &str = "daemon_log_bytes";
/// Reads from the medium that failed their checksum, since the start.
pub const READ_ERRORS: &str = "daemon_read_errors";
/// Gauge: bytes of one copy that scrubs led here found sound in this life.
pub const SCRUBBED_BYTES: &str = "daemon_scrubbed_bytes";
/// Gauge: copies that scrubs led here had replaced and found good then, in this life.
pub const SCRUB_REPAIRS: &str = "daemon_scrub_repairs";
/// The newest map.
pub const MAP_EPOCH: &str = "daemon_map_epoch";
/// Calls to the monitor that failed.
pub const MONITOR_FAILURES: &str = "daemon_monitor_failures";

/// Of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct RequestLabels {
    /// `read` or `write`.
    pub kind: &'static str,
    /// `done`, `failed`, `misdirected`, `refused`.
    pub outcome: &'static str,
}

/// Of a latency.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct KindLabel {
    /// `read` or `write`.
    pub kind: &'static str,
}

/// Of a count of placement groups.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct StateLabel {
    /// As Ceph words it.
    pub state: String,
}

/// Shortest latency that is told apart, in seconds; the buckets double from here up to 26 s.
const LATENCY_SECONDS_MIN: f64 = 0.0001;
const LATENCY_BUCKETS: u16 = 18;

fn latencies() -> Histogram {
    Histogram::new(exponential_buckets(LATENCY_SECONDS_MIN, 2.0, LATENCY_BUCKETS))
}

/// All of them. Clones count into the same.
#[derive(Clone, Debug)]
#[allow(missing_docs)] // the constants above say it
pub struct DaemonMetrics {
    pub requests: Family<RequestLabels, Counter>,
    pub request_seconds: Family<KindLabel, Histogram, fn() -> Histogram>,
    pub client_bytes_received: Counter,
    pub client_bytes_sent: Counter,
    pub requests_open: Gauge,
    pub request_bytes_open: Gauge,
    pub clients: Gauge,
    pub peers: Gauge,
    pub peer_messages_sent: Counter,
    pub peer_messages_received: Counter,
    pub peer_losses: Counter,
    pub turns: Counter,
    pub events: Counter,
    pub capacity_bytes: Gauge,
    pub used_bytes: Gauge,
    pub stored_bytes: Gauge,
    pub reclaimable_bytes: Gauge,
    pub opening_millis: Gauge,
    pub opening_log_bytes: Gauge,
    pub opening_rotten: Gauge,
    pub objects: Gauge,
    pub pgs: Family<StateLabel, Gauge>,
    pub pgs_serving: Gauge,
    pub requests_waiting: Gauge,
    pub entries_open: Gauge,
    pub recovery_pulls: Gauge,
    pub recovery_pushes: Gauge,
    pub log_bytes: Gauge,
    pub read_errors: Gauge,
    /// [`SCRUBBED_BYTES`].
    pub scrubbed_bytes: Gauge,
    /// [`SCRUB_REPAIRS`].
    pub scrub_repairs: Gauge,
    pub map_epoch: Gauge,
    pub monitor_failures: Counter,
}

impl Default for DaemonMetrics {
    fn default() -> Self {
        DaemonMetrics {
            requests: Family::default(),
            request_seconds: Family::new_with_constructor(latencies),
            client_bytes_received: Counter::default(),
            client_bytes_sent: Counter::default(),
            requests_open: Gauge::default(),
            request_bytes_open: Gauge::default(),
            clients: Gauge::default(),
            peers: Gauge::default(),
            peer_messages_sent: Counter::default(),
            peer_messages_received: Counter::default(),
            peer_losses: Counter::default(),
            turns: Counter::default(),
            events: Counter::default(),
            capacity_bytes: Gauge::default(),
            used_bytes: Gauge::default(),
            stored_bytes: Gauge::default(),
            reclaimable_bytes: Gauge::default(),
            opening_millis: Gauge::default(),
            opening_log_bytes: Gauge::default(),
            opening_rotten: Gauge::default(),
            objects: Gauge::default(),
            pgs: Family::default(),
            pgs_serving: Gauge::default(),
            requests_waiting: Gauge::default(),
            entries_open: Gauge::default(),
            recovery_pulls: Gauge::default(),
            recovery_pushes: Gauge::default(),
            log_bytes: Gauge::default(),
            read_errors: Gauge::default(),
            scrubbed_bytes: Gauge::default(),
            scrub_repairs: Gauge::default(),
            map_epoch: Gauge::default(),
            monitor_failures: Counter::default(),
        }
    }
}

impl DaemonMetrics {
    /// Adds all to a registry.
    pub fn register(&self, registry: &mut Registry) {
        registry.register(REQUESTS, "Requests answered", self.requests.clone());
        registry.register(
            REQUEST_SECONDS,
            "From the arrival of a request to its answer",
            self.request_seconds.clone(),
        );
        registry.register(PGS, "Placement groups by state", self.pgs.clone());
        for (name, help, counter) in [
            (CLIENT_BYTES_RECEIVED, "Bytes of requests", &self.client_bytes_received),
            (CLIENT_BYTES_SENT, "Bytes of answers", &self.client_bytes_sent),
            (PEER_MESSAGES_SENT, "Messages to other daemons", &self.peer_messages_sent),
            (PEER_MESSAGES_RECEIVED, "Messages from other daemons", &self.peer_messages_received),
            (PEER_LOSSES, "Sessions to daemons lost or refused", &self.peer_losses),
            (TURNS, "Turns of the event loop", &self.turns),
            (EVENTS, "Events handled", &self.events),
            (MONITOR_FAILURES, "Calls to the monitor that failed", &self.monitor_failures),
        ] {
            registry.register(name, help, counter.clone());
        }
        for (name, help, gauge) in [
            (REQUESTS_OPEN, "Requests being worked on", &self.requests_open),
            (REQUEST_BYTES_OPEN, "Bytes that these may take", &self.request_bytes_open),
            (CLIENTS, "Client streams", &self.clients),
            (PEERS, "Sessions to daemons that are up", &self.peers),
            (CAPACITY_BYTES, "Bytes that may be used", &self.capacity_bytes),
            (USED_BYTES, "Bytes in use", &self.used_bytes),
            (STORED_BYTES, "Bytes that clients stored", &self.stored_bytes),
            (RECLAIMABLE_BYTES, "Bytes given back in the background", &self.reclaimable_bytes),
            (OPENING_MILLIS, "Milliseconds of the opening", &self.opening_millis),
            (OPENING_LOG_BYTES, "Bytes of log read at the opening", &self.opening_log_bytes),
            (OPENING_ROTTEN, "Rotten places of the log", &self.opening_rotten),
            (OBJECTS, "Objects", &self.objects),
            (PGS_SERVING, "Placement groups led and served", &self.pgs_serving),
            (REQUESTS_WAITING, "Requests that wait", &self.requests_waiting),
            (ENTRIES_OPEN, "Log entries not committed yet", &self.entries_open),
            (RECOVERY_PULLS, "Copies coming in", &self.recovery_pulls),
            (RECOVERY_PUSHES, "Copies going out", &self.recovery_pushes),
            (LOG_BYTES, "Bytes of logs in memory", &self.log_bytes),
            (READ_ERRORS, "Reads that failed their checksum", &self.read_errors),
            (SCRUBBED_BYTES, "Bytes that scrubs found sound", &self.scrubbed_bytes),
            (SCRUB_REPAIRS, "Copies replaced and verified by scrubs", &self.scrub_repairs),
            (MAP_EPOCH, "The newest map", &self.map_epoch),
        ] {
            registry.register(name, help, gauge.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_metric_is_on_the_page() {
        let metrics = DaemonMetrics::default();
        let labels = RequestLabels { kind: "read", outcome: "done" };
        metrics.requests.get_or_create(&labels).inc();
        metrics.request_seconds.get_or_create(&KindLabel { kind: "read" }).observe(0.001);
        metrics.pgs.get_or_create(&StateLabel { state: "active+clean".to_string() }).set(3);
        let mut registry = Registry::default();
        metrics.register(&mut registry);
        let mut page = String::new();
        prometheus_client::encoding::text::encode(&mut page, &registry).expect("text");
        assert!(page.contains("daemon_pgs{state=\"active+clean\"} 3"), "{page}");
        assert!(page.contains("daemon_requests_total{kind=\"read\",outcome=\"done\"} 1"), "{page}");
        for name in [REQUEST_SECONDS, CLIENTS, TURNS, READ_ERRORS, MONITOR_FAILURES, USED_BYTES] {
            assert!(page.contains(&format!("# HELP {name} ")), "{name}");
        }
    }
}
