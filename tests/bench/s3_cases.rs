//! What a gateway does with objects of one size.

use crate::s3::{Connection, Target};
use crate::{Arguments, load, print};
use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;
use tokio::sync::Mutex;

/// Sizes, if none are asked for.
const SIZES: [u64; 5] = [4 << 10, 64 << 10, 1 << 20, 4 << 20, 16 << 20];

/// Objects up to here count as small: many of them, and many at a time.
const SMALL_BYTES: u64 = 64 << 10;

/// The size of what is deleted.
const DELETED_BYTES: u64 = 4 << 10;

/// How many keys the listed bucket has, and the page.
const LISTED: u64 = 1000;

/// One case's surroundings.
#[derive(Clone)]
struct Bench {
    target: Rc<Target>,
    bucket: String,
    time: Duration,
    pids: Rc<Vec<u32>>,
    hash_body: bool,
    connections: Rc<Vec<Mutex<Connection>>>,
}

/// All cases.
pub(crate) async fn all(arguments: &Arguments, hash_body: bool) -> anyhow::Result<()> {
    let target = Rc::new(Target::from_env()?);
    let bucket = format!("/bench-{}", std::process::id());
    for bucket in [bucket.clone(), format!("{bucket}-listed")] {
        request(&mut Connection::new(), &target, "PUT", &bucket, b"").await?;
    }
    let sizes = if arguments.sizes.is_empty() { &SIZES[..] } else { &arguments.sizes };
    let bench = |clients: usize| Bench {
        target: target.clone(),
        bucket: bucket.clone(),
        time: Duration::from_secs(arguments.seconds),
        pids: Rc::new(load::pids(arguments.pids.as_deref())),
        hash_body,
        connections: Rc::new((0..clients).map(|_| Mutex::new(Connection::new())).collect()),
    };
    for &size in sizes {
        let own = if size <= SMALL_BYTES { vec![1, 16] } else { vec![4] };
        for clients in arguments.clients.map_or(own, |clients| vec![clients]) {
            bench(clients).put_and_get(size).await?;
        }
    }
    let clients = arguments.clients.unwrap_or(16);
    bench(clients).delete().await?;
    bench(clients).list().await
}

async fn request(
    connection: &mut Connection,
    target: &Target,
    method: &str,
    path: &str,
    body: &[u8],
) -> anyhow::Result<usize> {
    let done = connection.request(target, method, path, body, false).await;
    done.map(|(_, got)| got).map_err(|error| anyhow::anyhow!("{method} {path}: {error}"))
}

impl Bench {
    async fn put_and_get(&self, size: u64) -> anyhow::Result<()> {
        let body = Rc::new(vec![0xa5u8; size as usize]);
        let clients = self.connections.len();
        let keys = if size <= SMALL_BYTES { 500 } else { 20 };
        let written = Rc::new(RefCell::new(vec![0u64; clients]));
        for put in [true, false] {
            let (bench, body, written) = (self.clone(), body.clone(), written.clone());
            let name = if put { "s3 put" } else { "s3 get" };
            let line =
                load::run(name, size, clients, self.time, &self.pids, move |worker, round| {
                    let (bench, body) = (bench.clone(), body.clone());
                    let path = {
                        let mut written = written.borrow_mut();
                        if put {
                            written[worker] = written[worker].max(round.min(keys) + 1);
                        }
                        let there = written[worker].saturating_sub(1).clamp(1, keys);
                        let among = if put { keys } else { there };
                        format!("{}/{size}/{worker}/{}", bench.bucket, round % among)
                    };
                    async move {
                        let mut connection = bench.connections[worker].lock().await;
                        let sent: &[u8] = if put { &body } else { b"" };
                        let method = if put { "PUT" } else { "GET" };
                        let hash_body = put && bench.hash_body;
                        let (_, got) = connection
                            .request(&bench.target, method, &path, sent, hash_body)
                            .await?;
                        if !put && got as u64 != size {
                            return Err(format!("{got} bytes instead of {size}"));
                        }
                        Ok(())
                    }
                })
                .await;
            print(&line)?;
        }
        Ok(())
    }

    /// Deletes what it has put before, each key once.
    async fn delete(&self) -> anyhow::Result<()> {
        let body = Rc::new(vec![0x5au8; DELETED_BYTES as usize]);
        let clients = self.connections.len();
        let written = Rc::new(RefCell::new(vec![0u64; clients]));
        let (bench, counts) = (self.clone(), written.clone());
        let path = |bench: &Bench, worker: usize, round: u64| {
            format!("{}/deleted/{worker}/{round}", bench.bucket)
        };
        load::run("", DELETED_BYTES, clients, self.time, &self.pids, move |worker, round| {
            let (bench, body, counts) = (bench.clone(), body.clone(), counts.clone());
            async move {
                let path = path(&bench, worker, round);
                let mut connection = bench.connections[worker].lock().await;
                connection.request(&bench.target, "PUT", &path, &body, false).await?;
                counts.borrow_mut()[worker] = round + 1;
                Ok(())
            }
        })
        .await;
        let rounds = written.borrow().clone();
        let bench = self.clone();
        let time = self.time.saturating_mul(100);
        let line =
            load::run_through("s3 delete", 0, &rounds, time, &self.pids, move |worker, n| {
                let bench = bench.clone();
                async move {
                    let path = path(&bench, worker, n);
                    let mut connection = bench.connections[worker].lock().await;
                    connection.request(&bench.target, "DELETE", &path, b"", false).await?;
                    Ok(())
                }
            })
            .await;
        print(&line)
    }

    /// Whole pages of a bucket that has just as many keys.
    async fn list(&self) -> anyhow::Result<()> {
        let bucket = format!("{}-listed", self.bucket);
        let mut connection = self.connections[0].lock().await;
        for n in 0..LISTED {
            request(&mut connection, &self.target, "PUT", &format!("{bucket}/{n:06}"), b"x")
                .await?;
        }
        drop(connection);
        let path = format!("{bucket}?list-type=2&max-keys={LISTED}");
        let (bench, clients) = (self.clone(), self.connections.len());
        let line = load::run("s3 list", 0, clients, self.time, &self.pids, move |worker, _| {
            let (bench, path) = (bench.clone(), path.clone());
            async move {
                let mut connection = bench.connections[worker].lock().await;
                connection.request(&bench.target, "GET", &path, b"", false).await?;
                Ok(())
            }
        })
        .await;
        print(&line)
    }
}
