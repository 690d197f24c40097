//! What one small write costs, client, links and the played daemons together: `cargo bench -p store-client`.
#![allow(missing_docs, clippy::print_stdout, clippy::disallowed_methods)] // it measures, and says what

#[path = "../tests/cluster/mod.rs"]
#[allow(dead_code)] // the tests use more of it
mod cluster;

use bytes::Bytes;
use cluster::{Cluster, POOL};
use futures_util::stream::{self, StreamExt, TryStreamExt};
use store_base::ObjectName;

/// Writes in all.
const COUNT: u64 = 200_000;
/// Writes at a time.
const IN_FLIGHT: usize = 16;
const BYTES: usize = 4096;
/// The kernel counts processor time in these.
const TICK_MICROS: f64 = 10_000.0;

/// Processor time of this process so far, in ticks.
fn cpu() -> u64 {
    let stat = std::fs::read_to_string("/proc/self/stat").expect("Linux");
    let fields: Vec<&str> = stat.rsplit_once(") ").expect("a name").1.split(' ').collect();
    fields[11].parse::<u64>().expect("ticks") + fields[12].parse::<u64>().expect("ticks")
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let cluster = Cluster::start(3).await;
    let client = cluster.client().await;
    let data = Bytes::from(vec![7; BYTES]);
    let (began, before) = (store_shell::clock::now(), cpu());
    stream::iter(0..COUNT)
        .map(|i| {
            let (client, data) = (&client, data.clone());
            let object = ObjectName::new((i % 1024).to_string().into_bytes());
            async move { client.write_full(POOL, &object, data).await }
        })
        .buffer_unordered(IN_FLIGHT)
        .try_for_each(|_| async { Ok(()) })
        .await
        .expect("all written");
    let seconds = store_shell::clock::now().since(began).as_secs_f64();
    println!(
        "{:.0} op/s, {:.1} µs CPU/op in all",
        COUNT as f64 / seconds,
        (cpu() - before) as f64 * TICK_MICROS / COUNT as f64
    );
}
