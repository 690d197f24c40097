//! One round: load and faults together, then quiet, then everything is read and judged.

use crate::cluster::{Cluster, REGION, client_config};
use crate::history::Book;
use crate::net::enter;
use crate::object_load::{self, Names, Pools, bytes_of};
use crate::s3_load::{self, Connection, Keys};
use crate::schedule::Event;
use anyhow::{Context, Result};
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;
use store_client::StoreClient;
use store_tests::s3::Signer;
use store_tests::sim::random::Random;
use tokio::task::LocalSet;
use tokio::time::sleep;

/// Object and S3 clients in each client's namespace.
const OBJECT_WORKERS: u32 = 5;
const S3_WORKERS: u32 = 4;
/// How long a client process lives before another takes its place.
const CLIENT_LIFE: (Duration, Duration) = (Duration::from_secs(15), Duration::from_secs(60));
/// How long the last reads may try.
const LAST_READS: Duration = Duration::from_secs(60);

/// What is done to the cluster in a round.
pub(crate) trait Harm {
    /// Does harm, for so long if it knows no end of its own, and ends all of it. `known`: bodies on the disks.
    fn run(
        &mut self,
        cluster: &mut Cluster,
        book: &Book,
        length: Duration,
        known: &dyn Fn() -> BTreeMap<u64, usize>,
    ) -> Result<Vec<Event>>;

    /// With all harm over: the cluster becomes whole, and health OK, within the patience. How long that took.
    fn heal(&mut self, cluster: &mut Cluster, patience: Duration) -> Result<Duration>;
}

/// What a round needs to know.
pub(crate) struct Round {
    pub(crate) number: u32,
    pub(crate) seed: u64,
    pub(crate) length: Duration,
    pub(crate) heal: Duration,
    /// Objects of earlier rounds that were written once.
    pub(crate) once: Vec<String>,
    pub(crate) first_value: u64,
}

/// How it went.
pub(crate) struct Outcome {
    pub(crate) book: Arc<Book>,
    pub(crate) events: Vec<Event>,
    pub(crate) healed: Duration,
    pub(crate) wrong: Vec<String>,
    /// Services that ended by themselves.
    pub(crate) ends: usize,
    pub(crate) once: Vec<String>,
}

impl Round {
    pub(crate) fn run(self, cluster: &mut Cluster, harm: &mut dyn Harm) -> Result<Outcome> {
        let book = Arc::new(Book::new(self.first_value));
        let names = Names::new(self.number, self.once.clone());
        let keys = Keys::new(self.number);
        for object in &self.once {
            book.was_written(object, value_of(object)?);
        }
        let site = Site::of(cluster);
        let client = |i: usize| Client {
            site: site.clone(),
            space: cluster.net.entry(&cluster.clients[i]),
            number: i as u32,
            seed: self.seed ^ (u64::from(self.number) << 32) ^ i as u64,
            book: book.clone(),
            names: names.clone(),
            keys: keys.clone(),
        };
        let clients: Vec<Client> = (0..cluster.clients.len()).map(client).collect();
        let last = clients[0].clone();
        let threads: Vec<JoinHandle<Result<()>>> =
            clients.into_iter().map(|client| std::thread::spawn(move || client.load())).collect();

        let known = || {
            let values =
                names.once().iter().filter_map(|name| value_of(name).ok()).collect::<Vec<_>>();
            values
                .into_iter()
                .map(|value| (value, bytes_of(value)))
                .filter(|(_, size)| *size > 65_536)
                .collect()
        };
        let events = harm.run(cluster, &book, self.length, &known);
        // Health must come back while clients go on.
        let healed = events.map(|events| (events, harm.heal(cluster, self.heal)));
        book.stop();
        for thread in threads {
            thread.join().map_err(|_| anyhow::anyhow!("a client panicked"))??;
        }
        let (events, healed) = healed?;
        let mut wrong = Vec::new();
        let healed = healed.unwrap_or_else(|error| {
            wrong.push(error.to_string());
            self.heal
        });
        book.mended();
        wrong.extend(last.read_all()?);
        wrong.extend(book.judge());
        wrong.extend(
            cluster.ends.iter().filter(|(_, excused)| !excused).map(|(what, _)| what.clone()),
        );
        wrong.extend(panics(cluster));
        let ends = std::mem::take(&mut cluster.ends).len();
        if wrong.is_empty() {
            last.remove_all()?;
        }
        Ok(Outcome { book, events, healed, wrong, ends, once: names.once() })
    }
}

/// The value of an object that is written once is in its name.
fn value_of(object: &str) -> Result<u64> {
    let (_, value) = object.rsplit_once('.').context("an object without a value in its name")?;
    Ok(value.parse()?)
}

/// Every service's log is without a panic.
fn panics(cluster: &Cluster) -> Vec<String> {
    let Ok(logs) = std::fs::read_dir(cluster.setup.dir.join("log")) else { return Vec::new() };
    let panicked = |path: PathBuf| {
        let text = std::fs::read(&path).unwrap_or_default();
        let text = String::from_utf8_lossy(&text).into_owned();
        let line = text.lines().find(|line| line.contains("panicked at"))?;
        Some(format!("{}: {line}", path.display()))
    };
    logs.flatten().filter_map(|entry| panicked(entry.path())).collect()
}

/// How clients reach the cluster.
#[derive(Clone)]
struct Site {
    dir: PathBuf,
    signers: Vec<Signer>,
}

impl Site {
    fn of(cluster: &Cluster) -> Site {
        let signer = |gateway: &crate::cluster::Service| Signer {
            host: format!("{}:8888", gateway.node.address),
            region: REGION.to_owned(),
            access_key: "faults".to_owned(),
            secret_key: cluster.setup.secret.clone(),
        };
        let signers = cluster.gateways.iter().map(signer).collect();
        Site { dir: cluster.setup.dir.clone(), signers }
    }
}

/// One machine of clients.
#[derive(Clone)]
struct Client {
    site: Site,
    space: PathBuf,
    number: u32,
    seed: u64,
    book: Arc<Book>,
    names: Arc<Names>,
    keys: Arc<Keys>,
}

impl Client {
    fn within<T>(&self, work: impl Future<Output = Result<T>>) -> Result<T> {
        enter(&self.space)?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        LocalSet::new().block_on(&runtime, work)
    }

    /// Loads the cluster until the book says stop.
    fn load(&self) -> Result<()> {
        self.within(async {
            let mut random = Random::new(self.seed);
            let s3 = (0..S3_WORKERS).map(|i| {
                let number = 1000 + 100 * self.number + i;
                let turn = (self.number + i) as usize;
                let worker = s3_load::Worker {
                    number,
                    connection: Connection::new(self.site.signers.clone(), turn),
                    book: self.book.clone(),
                    keys: self.keys.clone(),
                    random: Random::new(random.any()),
                };
                tokio::task::spawn_local(worker.run())
            });
            let s3: Vec<_> = s3.collect();
            while !self.book.is_stopping() {
                self.object_life(&mut random).await?;
            }
            for worker in s3 {
                worker.await?;
            }
            Ok(())
        })
    }

    /// The life of one process with the client library.
    async fn object_life(&self, random: &mut Random) -> Result<()> {
        let Ok(client) = StoreClient::connect(client_config(&self.site.dir, "load")?).await else {
            return Ok(()); // cut off from the monitor: it tries again
        };
        let Ok(pools) = Pools::find(&client).await else { return Ok(()) };
        let until =
            self.book.now() + random.between(CLIENT_LIFE.0, CLIENT_LIFE.1).as_nanos() as u64;
        let workers = (0..OBJECT_WORKERS).map(|i| {
            let worker = object_load::Worker {
                number: 100 * self.number + i,
                client: client.clone(),
                pools,
                book: self.book.clone(),
                names: self.names.clone(),
                random: Random::new(random.any()),
            };
            tokio::task::spawn_local(worker.run(until))
        });
        for worker in workers.collect::<Vec<_>>() {
            worker.await?;
        }
        Ok(())
    }

    /// Runs something with one client of each kind, on a thread in the namespace.
    fn last<T: Send>(
        &self,
        work: impl AsyncFnOnce(object_load::Worker, s3_load::Worker) -> Result<T> + Send,
    ) -> Result<T> {
        let thread = || {
            self.within(async {
                let client = StoreClient::connect(client_config(&self.site.dir, "load")?).await?;
                let objects = object_load::Worker {
                    number: 9000,
                    pools: Pools::find(&client).await?,
                    client,
                    book: self.book.clone(),
                    names: self.names.clone(),
                    random: Random::new(0),
                };
                let s3 = s3_load::Worker {
                    number: 9001,
                    connection: Connection::new(self.site.signers.clone(), 0),
                    book: self.book.clone(),
                    keys: self.keys.clone(),
                    random: Random::new(0),
                };
                work(objects, s3).await
            })
        };
        std::thread::scope(|scope| {
            scope.spawn(thread).join().map_err(|_| anyhow::anyhow!("the last client panicked"))?
        })
    }

    /// Reads everything once more; what cannot be read although all is well.
    fn read_all(&self) -> Result<Vec<String>> {
        self.last(async |mut objects, mut s3| {
            let mut wrong = Vec::new();
            let names = [self.names.used(), self.names.once()].concat();
            for name in names {
                if !objects.read_last(&name, LAST_READS).await {
                    wrong.push(format!("{name}: cannot be read, although health is OK"));
                }
            }
            let mut there = BTreeSet::new();
            for key in self.keys.used() {
                match s3.read_last(&key, LAST_READS).await {
                    None => wrong.push(format!("s3/{key}: cannot be read, although health is OK")),
                    Some(is_there) => there.extend(is_there.then_some(key)),
                }
            }
            let listed: BTreeSet<String> = s3.connection.list().await?.into_iter().collect();
            if listed != there {
                let differ: Vec<_> = listed.symmetric_difference(&there).collect();
                wrong.push(format!(
                    "the bucket lists {} keys, {} can be read: {differ:?}",
                    listed.len(),
                    there.len()
                ));
            }
            Ok(wrong)
        })
    }

    /// Removes what only this round used.
    fn remove_all(&self) -> Result<()> {
        self.last(async |objects, mut s3| {
            for name in self.names.used() {
                objects.remove_quietly(&name).await;
            }
            for key in self.keys.used() {
                s3.connection.delete(&key).await;
            }
            sleep(Duration::ZERO).await;
            Ok(())
        })
    }
}

/// Makes the bucket of all rounds.
pub(crate) fn make_bucket(cluster: &Cluster) -> Result<()> {
    let signers = Site::of(cluster).signers;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(Connection::new(signers, 0).make_bucket(LAST_READS))
}
