//! The gateway's counters, by operation. Names and units are the operators' table; the endpoint puts
//! `store_` before them.

use crate::s3::error::S3Error;
use crate::s3::router::Operation;
use http::StatusCode;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
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
/// Bytes of bodies given out (as asked for, whether or not the client took them all).
pub const BYTES_OUT: &str = "gateway_sent_bytes";

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
    }

    /// A request was answered.
    pub fn answered(&self, operation: Operation, status: StatusCode, took: Duration) {
        let operation = operation.name();
        let status = u32::from(status.as_u16());
        self.requests.get_or_create(&Answered { operation, status }).inc();
        self.seconds.get_or_create(&Of { operation }).observe(took.as_secs_f64());
    }

    /// An answer was an error.
    pub fn error(&self, operation: Operation, error: &S3Error) {
        let labels = Failed { operation: operation.name(), code: error.code.name() };
        self.errors.get_or_create(&labels).inc();
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
