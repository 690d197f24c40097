//! Loads a running cluster and prints what it did and what it cost, one JSON line a case. The cases of erasure
//! codes and of large maps need no cluster.
#![allow(clippy::disallowed_methods, clippy::print_stdout, missing_docs)]

mod erasure;
mod load;
mod map_scale;
mod object;
mod recovery;
mod s3;
mod s3_cases;
mod s3_keys;

use clap::{Parser, Subcommand};
use std::path::PathBuf;
use std::time::Duration;

store_shell::use_allocator!();

#[derive(Parser)]
struct Arguments {
    /// File of lines `role id pid`, written by `store up --processes`: their CPU and memory are shown.
    #[arg(long)]
    pids: Option<PathBuf>,
    /// Seconds for each case.
    #[arg(long, default_value_t = 5)]
    seconds: u64,
    /// Concurrent clients; each case's own list if not given.
    #[arg(long)]
    clients: Option<usize>,
    /// Sizes in bytes; each case's own list if not given.
    #[arg(long, value_delimiter = ',')]
    sizes: Vec<u64>,
    #[command(subcommand)]
    case: Case,
}

#[derive(Subcommand)]
enum Case {
    /// S3: PUT and GET at 4 KiB, 64 KiB, 1 MiB, 4 MiB and 16 MiB; DELETE of 4 KiB; LIST of 1,000 keys.
    S3 {
        /// Sign the bodies too.
        #[arg(long)]
        hash_body: bool,
    },
    /// One bucket that grows by tens up to so many keys: the times of its pages at each size.
    S3Keys {
        /// Keys in the end.
        #[arg(long, default_value_t = 1_000_000)]
        keys: u64,
    },
    /// Raw objects at 4 KiB and 4 MiB, 1 and 16 at a time.
    Object,
    /// The loss of a daemon, idle and under load: for a cluster of five (`store up --daemons 5`), of which it
    /// kills two. Needs --pids.
    Recovery {
        /// Megabytes to be there.
        #[arg(long, default_value_t = 1500)]
        megabytes: u64,
    },
    /// Erasure codes by every kernel of this processor, at 4, 16 and 64 KiB a slot. Needs no cluster.
    Erasure {
        /// Data slots.
        #[arg(long, default_value_t = 4)]
        data: usize,
        /// Coding slots.
        #[arg(long, default_value_t = 2)]
        coding: usize,
        /// reed_sol_van or cauchy.
        #[arg(long, default_value = "reed_sol_van")]
        technique: String,
    },
    /// The maps of a large cluster: placement, one failure, memory. Needs no cluster.
    MapScale {
        #[arg(long, default_value_t = 10_000)]
        daemons: u32,
        /// Placement groups.
        #[arg(long, default_value_t = 100_000)]
        pgs: u32,
    },
}

fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    tokio::task::LocalSet::new().block_on(&runtime, async {
        match &arguments.case {
            Case::S3 { hash_body } => s3_cases::all(&arguments, *hash_body).await,
            Case::S3Keys { keys } => s3_keys::all(&arguments, *keys).await,
            Case::Object => object_cases(&arguments).await,
            Case::Recovery { megabytes } => recovery_cases(&arguments, *megabytes).await,
            Case::MapScale { daemons, pgs } => print(&map_scale::case(*daemons, *pgs)?),
            Case::Erasure { data, coding, technique } => {
                erasure_cases(&arguments, *data, *coding, technique)
            }
        }
    })
}

fn print(line: &impl serde::Serialize) -> anyhow::Result<()> {
    println!("{}", serde_json::to_string(line)?);
    Ok(())
}

async fn object_cases(arguments: &Arguments) -> anyhow::Result<()> {
    let client = store_client::StoreClient::connect(loopback(&monitors()?)?).await?;
    let create =
        serde_json::json!({"prefix": "osd pool create", "pool": "bench", "if_not_exists": true});
    client.command(&create, bytes::Bytes::new()).await?;
    let pool = client.pool("bench").await?;
    let pids = load::pids(arguments.pids.as_deref());
    let sizes = [4 << 10, 4 << 20];
    let sizes = if arguments.sizes.is_empty() { &sizes[..] } else { &arguments.sizes };
    for &size in sizes {
        let depths = arguments.clients.map_or_else(|| vec![1, 16], |depth| vec![depth]);
        for depth in depths {
            let time = Duration::from_secs(arguments.seconds);
            for line in object::case(&client, pool, size, depth, time, &pids).await {
                print(&line)?;
            }
        }
    }
    Ok(())
}

async fn recovery_cases(arguments: &Arguments, megabytes: u64) -> anyhow::Result<()> {
    let client = store_client::StoreClient::connect(loopback(&monitors()?)?).await?;
    let pids = arguments.pids.as_deref();
    let pids = pids.ok_or_else(|| anyhow::anyhow!("--pids is needed: a daemon is killed"))?;
    let bench = recovery::Bench::new(client, pids).await?;
    let medium = 3.0 * bench.fill(megabytes).await?;
    println!("{}", serde_json::json!({"case": "medium", "megabytes_per_second": medium}));
    let idle = bench.lose_one(medium, None).await?;
    println!("{}", serde_json::to_string(&idle)?);
    let (clients, time) = (arguments.clients.unwrap_or(16), Duration::from_secs(arguments.seconds));
    let size = arguments.sizes.first().copied().unwrap_or(64 << 10);
    bench.load(size, clients, time / 2).await;
    let alone = bench.load(size, clients, time).await;
    print(&alone)?;
    let busy = bench.lose_one(medium, Some((&alone, size, clients))).await?;
    println!("{}", serde_json::to_string(&busy)?);
    Ok(())
}

fn monitors() -> anyhow::Result<String> {
    std::env::var("STORE_MONITORS")
        .map_err(|_| anyhow::anyhow!("STORE_MONITORS is not set: load store.env first"))
}

fn erasure_cases(
    arguments: &Arguments,
    data: usize,
    coding: usize,
    technique: &str,
) -> anyhow::Result<()> {
    let technique = store_base::erasure::Technique::by_name(technique)
        .ok_or_else(|| anyhow::anyhow!("there is no technique {technique}"))?;
    let sizes = [4 << 10, 16 << 10, 64 << 10];
    let sizes = if arguments.sizes.is_empty() { &sizes[..] } else { &arguments.sizes };
    for &size in sizes {
        let time = Duration::from_secs(arguments.seconds) / 5;
        for line in erasure::cases(technique, data, coding, size as usize, time)? {
            print(&line)?;
        }
    }
    Ok(())
}

/// The cluster that `store up` runs: plain text on loopback.
fn loopback(monitors: &str) -> anyhow::Result<store_client::ClientConfig> {
    let monitors: Result<Vec<store_base::config::HostPort>, _> =
        monitors.split(',').map(str::parse).collect();
    let monitors = monitors.map_err(|error| anyhow::anyhow!("STORE_MONITORS: {error}"))?;
    Ok(store_client::ClientConfig::new(monitors, store_shell::security::Security::PlainLoopback))
}
