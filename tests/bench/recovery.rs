//! The loss of a daemon: how fast its copies come back, and what clients have left meanwhile.
//!
//! All in one run on one cluster, so that the figures can be compared: what clients write while all is well
//! (times the copies: what the media take), the loss of a daemon while nobody asks anything, the loss of
//! another under the same load as before. Losing is SIGKILL and `osd out`; nothing comes back.

use crate::load::{self, Line};
use anyhow::{Context as _, bail};
use bytes::Bytes;
use serde::Serialize;
use serde_json::{Value, json};
use std::path::Path;
use std::rc::Rc;
use std::time::{Duration, Instant};
use store_base::{ObjectName, PoolId};
use store_client::StoreClient;

const POOL: &str = "bench-recovery";
const COPIES: u64 = 3;

/// Bytes of each object that is there to be recovered.
const OBJECT_BYTES: usize = 1 << 20;

/// A recovery that takes longer than this has not ended.
const LIMIT: Duration = Duration::from_secs(600);

/// How soon a loss is seen; and the pause between two looks.
const NOTICE: Duration = Duration::from_secs(10);
const LOOK: Duration = Duration::from_millis(20);

/// What one loss came to.
#[derive(Serialize)]
pub(crate) struct Loss {
    case: &'static str,
    daemon: i64,
    lost_megabytes: f64,
    seconds: f64,
    megabytes_per_second: f64,
    /// Of what the media took from clients alone.
    of_medium: f64,
    client_ops_per_second: f64,
    /// Of the same load alone.
    of_client: f64,
}

pub(crate) struct Bench<'a> {
    client: StoreClient,
    pids: &'a Path,
    pool: PoolId,
}

impl Bench<'_> {
    pub(crate) async fn new(client: StoreClient, pids: &Path) -> anyhow::Result<Bench<'_>> {
        let create = json!({"prefix": "osd pool create", "pool": POOL, "size": COPIES, "if_not_exists": true});
        client.command(&create, Bytes::new()).await?;
        let pool = client.pool(POOL).await?;
        let bench = Bench { client, pids, pool };
        bench.wait_clean().await?;
        Ok(bench)
    }

    /// Writes what there will be to recover; how many megabytes a second that took.
    pub(crate) async fn fill(&self, megabytes: u64) -> anyhow::Result<f64> {
        let (client, pool) = (Rc::new(self.client.clone()), self.pool);
        let body = Bytes::from(vec![0xc3; OBJECT_BYTES]);
        let began = Instant::now();
        let workers: Vec<_> = (0..8u64)
            .map(|worker| {
                let (client, body) = (client.clone(), body.clone());
                tokio::task::spawn_local(async move {
                    for n in (worker..megabytes).step_by(8) {
                        let name = ObjectName::new(format!("fill-{n}").into_bytes());
                        client.write_large(pool, &name, 0, body.clone()).await?;
                    }
                    Ok::<_, anyhow::Error>(())
                })
            })
            .collect();
        for worker in workers {
            worker.await??;
        }
        Ok((megabytes * OBJECT_BYTES as u64) as f64 / 1e6 / began.elapsed().as_secs_f64())
    }

    /// The load of clients: objects of one size written over and over.
    pub(crate) async fn load(&self, size: u64, clients: usize, time: Duration) -> Line {
        let (client, pool) = (self.client.clone(), self.pool);
        let body = Bytes::from(vec![0x3c; size as usize]);
        load::run("client write", size, clients, time, &[], move |worker, round| {
            let (client, body) = (client.clone(), body.clone());
            let name = ObjectName::new(format!("load-{worker}-{}", round % 64).into_bytes());
            async move {
                let written = client.write_large(pool, &name, 0, body).await;
                written.map(|_| ()).map_err(|e| e.to_string())
            }
        })
        .await
    }

    /// Kills the daemon with the highest id and waits for its copies; with a load, that goes on meanwhile.
    pub(crate) async fn lose_one(
        &self,
        medium: f64,
        alone: Option<(&Line, u64, usize)>,
    ) -> anyhow::Result<Loss> {
        let tree = self.ask(json!({"prefix": "osd dump"})).await?;
        let up = tree["osds"].as_array().context("no daemons")?;
        let up = up.iter().filter(|one| one["up"] == json!(1) || one["up"] == json!(true));
        let daemon = up.filter_map(|one| one["osd"].as_i64()).max().context("no daemon is up")?;
        let rows = self.ask(json!({"prefix": "pg ls", "osd": daemon})).await?;
        let rows = rows["pg_stats"].as_array().cloned().unwrap_or_default();
        let lost: u64 = rows.iter().filter_map(|row| row["stat_sum"]["num_bytes"].as_u64()).sum();
        self.kill(daemon)?;
        // Clients go on as soon as it is down; what is to be measured begins with the copying.
        tokio::time::sleep(Duration::from_millis(300)).await;
        self.ask(json!({"prefix": "osd out", "ids": [daemon]})).await?;
        let began = Instant::now();
        let (mut operations, mut loaded) = (0, 0.0);
        let done = self.wait_recovered();
        tokio::pin!(done);
        loop {
            let turn = async {
                match alone {
                    Some((_, size, clients)) => {
                        let from = Instant::now();
                        let line = self.load(size, clients, Duration::from_secs(2)).await;
                        (line.operations(), from.elapsed().as_secs_f64())
                    }
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                done = &mut done => {
                    done?;
                    break;
                }
                (count, time) = turn => {
                    operations += count;
                    loaded += time;
                }
            }
        }
        let seconds = began.elapsed().as_secs_f64();
        let rate = lost as f64 / 1e6 / seconds;
        let ops = if loaded > 0.0 { operations as f64 / loaded } else { 0.0 };
        Ok(Loss {
            case: if alone.is_some() { "recovery busy" } else { "recovery idle" },
            daemon,
            lost_megabytes: lost as f64 / 1e6,
            seconds,
            megabytes_per_second: rate,
            of_medium: rate / medium,
            client_ops_per_second: ops,
            of_client: alone.map_or(0.0, |(line, ..)| ops / line.ops_per_second()),
        })
    }

    fn kill(&self, daemon: i64) -> anyhow::Result<()> {
        let text = std::fs::read_to_string(self.pids).context("the file of --pids")?;
        let named = |line: &&str| {
            let mut words = line.split_whitespace().rev();
            let _ = words.next();
            let role = words.collect::<Vec<_>>().join(" ");
            (role.contains("osd") || role.contains("daemon"))
                && role.split(|c: char| !c.is_ascii_digit()).any(|n| n.parse() == Ok(daemon))
        };
        let line = text.lines().find(named).with_context(|| format!("no pid of osd.{daemon}"))?;
        let pid: i32 = line.split_whitespace().last().unwrap_or_default().parse()?;
        let pid = rustix::process::Pid::from_raw(pid).context("a pid")?;
        rustix::process::kill_process(pid, rustix::process::Signal::KILL)?;
        Ok(())
    }

    async fn ask(&self, command: Value) -> anyhow::Result<Value> {
        Ok(self.client.command(&command, Bytes::new()).await?.json()?)
    }

    async fn wait_clean(&self) -> anyhow::Result<()> {
        let began = Instant::now();
        while !self.is_clean().await? {
            if began.elapsed() > LIMIT {
                bail!("not clean after {} s", LIMIT.as_secs());
            }
            tokio::time::sleep(LOOK).await;
        }
        Ok(())
    }

    /// Waits until copies are seen to be missing, and then until none is.
    async fn wait_recovered(&self) -> anyhow::Result<()> {
        let began = Instant::now();
        while self.is_clean().await? && began.elapsed() < NOTICE {
            tokio::time::sleep(LOOK).await;
        }
        self.wait_clean().await
    }

    async fn is_clean(&self) -> anyhow::Result<bool> {
        let stat = self.ask(json!({"prefix": "pg stat"})).await?;
        let rows = stat["num_pg_by_state"].as_array().cloned().unwrap_or_default();
        Ok(!rows.is_empty() && rows.iter().all(|row| row["name"] == "active+clean"))
    }
}
