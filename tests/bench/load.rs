//! Runs workers for a while and says what it cost.

use serde::Serialize;
use std::future::Future;
use std::path::Path;
use std::rc::Rc;
use std::time::{Duration, Instant};

/// Latencies in powers of 1.04: within two per cent from a microsecond to a minute.
#[derive(Clone)]
struct Histogram {
    counts: Vec<u64>,
}

const BUCKETS: usize = 500;
const GROWTH: f64 = 1.04;

impl Histogram {
    fn new() -> Self {
        Histogram { counts: vec![0; BUCKETS] }
    }

    fn record(&mut self, took: Duration) {
        let micros = took.as_secs_f64() * 1e6;
        let bucket = micros.max(1.0).log(GROWTH) as usize;
        self.counts[bucket.min(BUCKETS - 1)] += 1;
    }

    fn percentile(&self, share: f64) -> f64 {
        let all: u64 = self.counts.iter().sum();
        let mut seen = 0;
        for (bucket, count) in self.counts.iter().enumerate() {
            seen += count;
            if seen as f64 >= all as f64 * share && seen > 0 {
                return GROWTH.powi(bucket as i32 + 1);
            }
        }
        0.0
    }
}

/// What a case came to.
#[derive(Serialize)]
pub(crate) struct Line {
    case: String,
    size_bytes: u64,
    clients: usize,
    seconds: f64,
    operations: u64,
    ops_per_second: f64,
    megabytes_per_second: f64,
    p50_us: f64,
    p99_us: f64,
    errors: u64,
    first_error: Option<String>,
    cluster_cpu_us_per_op: Option<f64>,
    client_cpu_us_per_op: f64,
    cluster_resident_mib: Option<f64>,
}

impl Line {
    /// How many a second.
    pub(crate) fn ops_per_second(&self) -> f64 {
        self.ops_per_second
    }

    /// How many were done.
    pub(crate) fn operations(&self) -> u64 {
        self.operations
    }
}

/// CPU seconds that a process has used, and its resident bytes.
fn process(pid: u32) -> Option<(f64, u64)> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let ticks: f64 = fields.get(11)?.parse::<f64>().ok()? + fields.get(12)?.parse::<f64>().ok()?;
    let pages: u64 = fields.get(21)?.parse().ok()?;
    Some((
        ticks / rustix::param::clock_ticks_per_second() as f64,
        pages * rustix::param::page_size() as u64,
    ))
}

/// The processes named in a file of lines `role id pid`.
pub(crate) fn pids(file: Option<&Path>) -> Vec<u32> {
    let text = file.and_then(|f| std::fs::read_to_string(f).ok()).unwrap_or_default();
    text.lines().filter_map(|line| line.split_whitespace().last()?.parse().ok()).collect()
}

fn cost(pids: &[u32]) -> (f64, u64) {
    pids.iter()
        .filter_map(|pid| process(*pid))
        .fold((0.0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1))
}

/// Runs `clients` workers that each repeat `operation(worker, round)` for `time`, on this thread.
pub(crate) async fn run<F, O>(
    case: &str,
    size_bytes: u64,
    clients: usize,
    time: Duration,
    pids: &[u32],
    operation: F,
) -> Line
where
    F: Fn(usize, u64) -> O + 'static,
    O: Future<Output = Result<(), String>> + 'static,
{
    run_through(case, size_bytes, &vec![u64::MAX; clients], time, pids, operation).await
}

/// The same with a worker for each of `rounds`, who ends when he has done so many.
pub(crate) async fn run_through<F, O>(
    case: &str,
    size_bytes: u64,
    rounds: &[u64],
    time: Duration,
    pids: &[u32],
    operation: F,
) -> Line
where
    F: Fn(usize, u64) -> O + 'static,
    O: Future<Output = Result<(), String>> + 'static,
{
    let clients = rounds.len();
    let operation = Rc::new(operation);
    let cluster_before = cost(pids);
    let own_before = cost(&[std::process::id()]);
    let began = Instant::now();
    let workers: Vec<_> = (0..clients)
        .map(|worker| {
            let (operation, rounds) = (operation.clone(), rounds[worker]);
            tokio::task::spawn_local(async move {
                let mut histogram = Histogram::new();
                let (mut done, mut errors, mut first_error) = (0u64, 0u64, None);
                while began.elapsed() < time && done + errors < rounds {
                    let from = Instant::now();
                    match operation(worker, done + errors).await {
                        Ok(()) => {
                            done += 1;
                            histogram.record(from.elapsed());
                        }
                        Err(error) => {
                            errors += 1;
                            first_error.get_or_insert(error);
                        }
                    }
                }
                (histogram, done, errors, first_error)
            })
        })
        .collect();
    let mut all = Histogram::new();
    let (mut operations, mut errors, mut first_error) = (0, 0, None);
    for worker in workers {
        let (histogram, done, failed, error) = worker.await.expect("a worker does not panic");
        all.counts.iter_mut().zip(&histogram.counts).for_each(|(sum, one)| *sum += one);
        operations += done;
        errors += failed;
        first_error = first_error.or(error);
    }
    let seconds = began.elapsed().as_secs_f64();
    let cluster = cost(pids);
    let own = cost(&[std::process::id()]);
    let per_operation =
        |seconds: f64| (seconds * 1e6 / operations.max(1) as f64 * 10.0).round() / 10.0;
    Line {
        case: case.to_owned(),
        size_bytes,
        clients,
        seconds,
        operations,
        ops_per_second: operations as f64 / seconds,
        megabytes_per_second: operations as f64 * size_bytes as f64 / seconds / 1e6,
        p50_us: all.percentile(0.5).round(),
        p99_us: all.percentile(0.99).round(),
        errors,
        first_error,
        cluster_cpu_us_per_op: (!pids.is_empty())
            .then(|| per_operation(cluster.0 - cluster_before.0)),
        client_cpu_us_per_op: per_operation(own.0 - own_before.0),
        cluster_resident_mib: (!pids.is_empty()).then(|| (cluster.1 as f64 / 1048576.0).round()),
    }
}
