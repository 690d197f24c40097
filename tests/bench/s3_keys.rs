//! A bucket that grows: what a page of its listing costs at each size.

use crate::s3::{Connection, Target};
use crate::{Arguments, load, print};
use serde::Serialize;
use std::rc::Rc;
use std::time::Instant;
use tokio::sync::Mutex;

/// Keys of a page.
const PAGE: u64 = 1000;

/// The smallest bucket that is looked at.
const FIRST: u64 = 10_000;

/// Pages of each kind; the median counts.
const LOOKS: usize = 15;

#[derive(Serialize)]
struct Pages {
    case: &'static str,
    keys: u64,
    first_page_ms: f64,
    middle_page_ms: f64,
    last_page_ms: f64,
    rolled_up_page_ms: f64,
}

/// Fills a bucket by tens and looks at its pages.
pub(crate) async fn all(arguments: &Arguments, keys: u64) -> anyhow::Result<()> {
    let target = Rc::new(Target::from_env()?);
    let bucket = format!("/keys-{}", std::process::id());
    let clients = arguments.clients.unwrap_or(32);
    let connections: Rc<Vec<_>> =
        Rc::new((0..clients).map(|_| Mutex::new(Connection::new())).collect());
    let made = connections[0].lock().await.request(&target, "PUT", &bucket, b"", false).await;
    made.map_err(|error| anyhow::anyhow!("PUT {bucket}: {error}"))?;
    let pids = load::pids(arguments.pids.as_deref());
    let (mut have, mut goal) = (0, FIRST.min(keys));
    loop {
        let rounds: Vec<u64> =
            (0..clients as u64).map(|worker| (goal - have + worker) / clients as u64).collect();
        // The workers' stretches, one behind the other.
        let firsts: Vec<u64> = rounds
            .iter()
            .scan(have, |at, count| {
                *at += count;
                Some(*at - count)
            })
            .collect();
        let (target_, connections_, bucket_) =
            (target.clone(), connections.clone(), bucket.clone());
        let forever = std::time::Duration::MAX;
        let line = load::run_through("s3 put", 1, &rounds, forever, &pids, move |worker, round| {
            let (target, connections) = (target_.clone(), connections_.clone());
            let path = format!("{bucket_}/{}", key(firsts[worker] + round));
            async move {
                let mut connection = connections[worker].lock().await;
                connection.request(&target, "PUT", &path, b"x", false).await.map(drop)
            }
        })
        .await;
        print(&line)?;
        have = goal;
        let mut connection = connections[0].lock().await;
        print(&look(&mut connection, &target, &bucket, have).await?)?;
        if have >= keys {
            return Ok(());
        }
        goal = (have * 10).min(keys);
    }
}

/// Keys are spread over folders of a thousand, and their order is not the order in which they came.
fn key(n: u64) -> String {
    let mixed = n.wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29);
    format!("{:05}/{:016x}", n / 1000, mixed)
}

async fn look(
    connection: &mut Connection,
    target: &Target,
    bucket: &str,
    keys: u64,
) -> anyhow::Result<Pages> {
    let after =
        |n: u64| format!("{bucket}?list-type=2&max-keys={PAGE}&start-after={:05}", n / 1000);
    let last = keys.saturating_sub(PAGE);
    let rolled_up = format!("{bucket}?delimiter=%2F&list-type=2&max-keys={PAGE}");
    Ok(Pages {
        case: "pages",
        keys,
        first_page_ms: median(connection, target, &after(0)).await?,
        middle_page_ms: median(connection, target, &after(keys / 2)).await?,
        last_page_ms: median(connection, target, &after(last)).await?,
        rolled_up_page_ms: median(connection, target, &rolled_up).await?,
    })
}

async fn median(connection: &mut Connection, target: &Target, path: &str) -> anyhow::Result<f64> {
    let mut times = Vec::with_capacity(LOOKS);
    for _ in 0..LOOKS {
        let began = Instant::now();
        let page = connection.document(target, path).await;
        let page = page.map_err(|error| anyhow::anyhow!("GET {path}: {error}"))?;
        times.push(began.elapsed().as_secs_f64() * 1e3);
        anyhow::ensure!(page.contains("<Key>") || page.contains("<Prefix>"), "{path}: {page}");
    }
    times.sort_by(f64::total_cmp);
    Ok((times[LOOKS / 2] * 100.0).round() / 100.0)
}
