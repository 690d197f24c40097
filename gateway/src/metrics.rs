//! The gateway's counters, by operation. Names and units are the operators' table; the endpoint puts
//! `store_` before them.

use crate::s3::error::S3Error;
use crate::s3::router::Operation;
use http::StatusCode;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;
use std::time::Duration;

/// Requests answered, by operation and status.
pub const REQUESTS: &str = "gateway_requests";
/// Error answers, by operation and S3 code.
pub const ERRORS: &str = "gateway_errors";
/// Time from the head of a request to the head of its answer, in seconds, by operation.
pub const SECONDS: &str = "gateway_request_seconds";
/// Bytes of bodies taken in.
pub const BYTES_IN: &str = "gateway_received_bytes";
/// Versions and uploads that lifecycle rules were held against.
pub const LIFECYCLE_LOOKED: &str = "gateway_lifecycle_looked";
/// Versions that lifecycle rules removed or hid, and uploads that they aborted.
pub const LIFECYCLE_REMOVED: &str = "gateway_lifecycle_removed";
/// Versions that were due and stayed: changed meanwhile, or locked.
pub const LIFECYCLE_PASSED: &str = "gateway_lifecycle_passed";
/// Objects removed at the end that was set for them (X-Delete-At).
pub const EXPIRED: &str = "gateway_expired_objects";
/// Index shards that grew too large and were split.
pub const SPLITS: &str = "gateway_index_splits";
/// Events that an endpoint took.
pub const EVENTS_DELIVERED: &str = "gateway_events_delivered";
/// Deliveries that failed; each is tried again.
pub const EVENTS_FAILED: &str = "gateway_events_failed";
/// Events that were given up because they were too old.
pub const EVENTS_GIVEN_UP: &str = "gateway_events_given_up";
/// Events that waited when this gateway last looked through all buckets.
pub const EVENTS_WAITING: &str = "gateway_events_waiting";
/// And how old the oldest of them was, in seconds.
pub const EVENTS_OLDEST: &str = "gateway_events_oldest_seconds";
/// Bytes of bodies given out (as asked for, whether or not the client took them all).
pub const BYTES_OUT: &str = "gateway_sent_bytes";

/// Records of access logs that were delivered.
pub const LOGGED: &str = "gateway_access_log_records";
/// Records of access logs that were dropped: there was no room, or the target did not take them.
pub const LOG_DROPPED: &str = "gateway_access_log_dropped";

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Answered {
    operation: &'static str,
    status: u32,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Failed {
    operation: &'static str,
    code: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Of {
    operation: &'static str,
}

/// The counters of a process, shared by its shards.
#[derive(Clone, Debug)]
pub struct Metrics {
    requests: Family<Answered, Counter>,
    errors: Family<Failed, Counter>,
    seconds: Family<Of, Histogram>,
    bytes_in: Counter,
    bytes_out: Counter,
    logged: Counter,
    log_dropped: Counter,
    lifecycle_looked: Counter,
    lifecycle_removed: Counter,
    lifecycle_passed: Counter,
    expired: Counter,
    splits: Counter,
    events_delivered: Counter,
    events_failed: Counter,
    events_given_up: Counter,
    events_waiting: Gauge,
    events_oldest: Gauge,
}

impl Default for Metrics {
    fn default() -> Self {
        let histogram = || Histogram::new(exponential_buckets(0.0001, 2.0, 20));
        Metrics {
            requests: Family::default(),
            errors: Family::default(),
            seconds: Family::new_with_constructor(histogram),
            bytes_in: Counter::default(),
            bytes_out: Counter::default(),
            logged: Counter::default(),
            log_dropped: Counter::default(),
            lifecycle_looked: Counter::default(),
            lifecycle_removed: Counter::default(),
            lifecycle_passed: Counter::default(),
            expired: Counter::default(),
            splits: Counter::default(),
            events_delivered: Counter::default(),
            events_failed: Counter::default(),
            events_given_up: Counter::default(),
            events_waiting: Gauge::default(),
            events_oldest: Gauge::default(),
        }
    }
}

impl Metrics {
    /// Adds the counters to what a process tells.
    pub fn register(&self, registry: &mut Registry) {
        registry.register(REQUESTS, "Requests answered", self.requests.clone());
        registry.register(ERRORS, "Error answers", self.errors.clone());
        registry.register(SECONDS, "Seconds until the answer began", self.seconds.clone());
        registry.register(BYTES_IN, "Bytes of bodies taken in", self.bytes_in.clone());
        registry.register(BYTES_OUT, "Bytes of bodies given out", self.bytes_out.clone());
        registry.register(LOGGED, "Records of access logs delivered", self.logged.clone());
        let dropped = self.log_dropped.clone();
        registry.register(LOG_DROPPED, "Records of access logs dropped", dropped);
        let mut count = |name, help, counter: &Counter| {
            registry.register(name, help, counter.clone());
        };
        count(LIFECYCLE_LOOKED, "Held against lifecycle rules", &self.lifecycle_looked);
        count(LIFECYCLE_REMOVED, "Removed by lifecycle rules", &self.lifecycle_removed);
        count(LIFECYCLE_PASSED, "Due by lifecycle rules, and kept", &self.lifecycle_passed);
        count(EXPIRED, "Objects removed at their own end", &self.expired);
        count(SPLITS, "Index shards split", &self.splits);
        count(EVENTS_DELIVERED, "Events that were taken", &self.events_delivered);
        count(EVENTS_FAILED, "Deliveries that failed", &self.events_failed);
        count(EVENTS_GIVEN_UP, "Events that were given up", &self.events_given_up);
        registry.register(EVENTS_WAITING, "Events that wait", self.events_waiting.clone());
        registry.register(EVENTS_OLDEST, "Age of the oldest event", self.events_oldest.clone());
    }

    /// So many records of access logs were delivered.
    pub fn logged(&self, records: u64) {
        self.logged.inc_by(records);
    }

    /// So many were dropped.
    pub fn log_dropped(&self, records: u64) {
        self.log_dropped.inc_by(records);
    }

    /// A request was answered.
    pub fn answered(&self, operation: Operation, status: StatusCode, took: Duration) {
        self.answered_as(operation.name(), status, took);
    }

    /// A request was answered that is no operation of S3.
    pub fn answered_as(&self, operation: &'static str, status: StatusCode, took: Duration) {
        let status = u32::from(status.as_u16());
        self.requests.get_or_create(&Answered { operation, status }).inc();
        self.seconds.get_or_create(&Of { operation }).observe(took.as_secs_f64());
    }

    /// An answer was an error.
    pub fn error(&self, operation: Operation, error: &S3Error) {
        let labels = Failed { operation: operation.name(), code: error.code.name() };
        self.errors.get_or_create(&labels).inc();
    }

    /// Lifecycle rules were held against so much, removed so much, and had to leave so much.
    pub fn lifecycle(&self, looked: u64, removed: u64, passed: u64) {
        self.lifecycle_looked.inc_by(looked);
        self.lifecycle_removed.inc_by(removed);
        self.lifecycle_passed.inc_by(passed);
    }

    /// Objects were removed at their own end.
    pub fn expired(&self, count: u64) {
        self.expired.inc_by(count);
    }

    /// An index shard was split.
    pub fn split(&self) {
        self.splits.inc();
    }

    /// An endpoint took an event.
    pub fn event_delivered(&self) {
        self.events_delivered.inc();
    }

    /// A delivery failed.
    pub fn event_failed(&self) {
        self.events_failed.inc();
    }

    /// An event was too old.
    pub fn event_given_up(&self) {
        self.events_given_up.inc();
    }

    /// So many events wait, and the oldest so long.
    pub fn events_waiting(&self, count: u64, oldest: Duration) {
        self.events_waiting.set(i64::try_from(count).unwrap_or(i64::MAX));
        self.events_oldest.set(i64::try_from(oldest.as_secs()).unwrap_or(i64::MAX));
    }

    /// A body was taken in.
    pub fn received(&self, bytes: u64) {
        self.bytes_in.inc_by(bytes);
    }

    /// A body is given out.
    pub fn sent(&self, bytes: u64) {
        self.bytes_out.inc_by(bytes);
    }
}
