//! The acting half of a client: a handle that any task may clone and use, and one driver task behind it that
//! owns the machine and the sessions.
//!
//! A call goes to the driver on a bounded channel, which is not read while the machine has no room: so callers
//! wait instead of piling up. Dropping a call's future cancels the request; it may still happen.

mod driver;
mod maps;
mod monitor;
mod session;

pub use driver::WatchEvent;
pub(crate) use driver::{Call as DriverCall, Farewell, WatchFeed};
pub use monitor::{CommandOutput, MonitorClient};

use crate::machine::{Config, Limits, Submission, Target};
use bytes::Bytes;
use driver::{Call, Driver};
pub use maps::{Maps, MapsWanted};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use store_base::config::HostPort;
use store_base::error::Error;
use store_base::map::{AuthMap, ConfigMap, OsdMap, ServiceMap};
use store_base::op::{Op, OpResult, PAYLOAD_BYTES_MAX};
use store_base::{ClientId, ClusterId, Epoch, ObjectName, PgId, PoolId, Ticket, Version};
use store_shell::clock;
use store_shell::identity::Role;
use store_shell::link::{Dialer, LinkMetrics, LinkSettings};
use store_shell::security::Security;
use tokio::sync::{mpsc, oneshot, watch};

/// Default deadline of a request. Longer than any takeover, and shorter than the 60 s for which S3 SDKs wait for
/// an answer: so they are told "try again" and do so, rather than give up on a silent connection.
pub const DEADLINE: Duration = Duration::from_secs(30);

/// Default patience of [`StoreClient::connect`].
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Calls between the handles and the driver.
const CALLS_MAX: usize = 1024;

/// How to reach a cluster.
#[derive(Clone, Debug)]
pub struct ClientConfig {
    /// The monitors.
    pub monitors: Vec<HostPort>,
    /// Protection of every connection.
    pub security: Security,
    /// What this process is to the cluster; must be the role of its certificate, if it has one.
    pub role: Role,
    /// Which one of them; must be the name in its certificate, if it has one.
    pub name: String,
    /// Maps to be kept besides the OSD map.
    pub maps: MapsWanted,
    /// Bounds of what is in flight.
    pub limits: Limits,
    /// Deadline of requests that name none.
    pub deadline: Duration,
    /// How long to try to reach a monitor and to get the first maps.
    pub connect_timeout: Duration,
    /// Counters of the links to daemons; shared with whoever shows them.
    pub link_metrics: LinkMetrics,
}

impl ClientConfig {
    /// The usual limits, for an administrator's tool.
    pub fn new(monitors: Vec<HostPort>, security: Security) -> Self {
        ClientConfig {
            monitors,
            security,
            role: Role::Admin,
            name: "admin".to_string(),
            maps: MapsWanted::default(),
            limits: Limits::default(),
            deadline: DEADLINE,
            connect_timeout: CONNECT_TIMEOUT,
            link_metrics: LinkMetrics::default(),
        }
    }
}

/// What one call wants different from the usual.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// The caller promises that nothing in the vector changes the object: a method is served as a read.
    pub read_only: bool,
    /// Instead of the client's default.
    pub deadline: Option<Duration>,
}

impl Options {
    /// For vectors with methods that only read.
    pub const READ: Options = Options { read_only: true, deadline: None };
}

/// The answer to an op vector.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OpReply {
    /// The log entry.
    pub version: Version,
    /// The object's user version afterwards.
    pub user_version: u64,
    /// One per op, up to the first that failed.
    pub results: Vec<OpResult>,
}

impl OpReply {
    /// Which op failed and with which negative errno, if one did. Nothing was changed then.
    pub fn failed(&self) -> Option<(usize, i32)> {
        let last = self.results.last()?;
        (last.code < 0).then(|| (self.results.len() - 1, last.code))
    }

    /// The data of an op's result; empty if there is none.
    pub fn data(&self, op: usize) -> Bytes {
        self.results.get(op).map(|result| result.data.clone()).unwrap_or_default()
    }
}

/// The way to a cluster. Cheap to clone; all clones share one driver, which ends with the last of them.
#[derive(Clone)]
pub struct StoreClient {
    inner: Arc<Inner>,
}

struct Inner {
    client: ClientId,
    cluster: ClusterId,
    deadline: Duration,
    calls: mpsc::Sender<Call>,
    farewells: mpsc::UnboundedSender<Farewell>,
    tickets: AtomicU64,
    cookies: AtomicU64,
    maps: Maps,
    monitor: MonitorClient,
}

impl std::fmt::Debug for StoreClient {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "StoreClient({} of {})", self.inner.client, self.inner.cluster)
    }
}

impl StoreClient {
    /// Reaches a monitor, gets an id and the first maps, and starts the driver on the current runtime.
    pub async fn connect(config: ClientConfig) -> Result<StoreClient, Error> {
        let until = clock::now() + config.connect_timeout;
        let monitor = MonitorClient::new(config.monitors.clone(), config.security.clone())?;
        let greeting = monitor.hello_until(until).await?;
        let cluster = monitor::cluster_of(&greeting)?;
        let client = monitor.new_client_until(&config.name, until).await?;

        let (calls, calls_in) = mpsc::channel(CALLS_MAX);
        let (farewells, farewells_in) = mpsc::unbounded_channel();
        let (maps, watched) = maps::channels();
        let dialer =
            Dialer::new(config.security, LinkSettings::default(), config.link_metrics.clone());
        let hello = session::hello(cluster, config.role, &config.name, client);
        let driver = Driver::new(
            Config { client, incarnation: 1, limits: config.limits },
            session::Dialing::new(dialer, hello),
            maps.clone(),
            driver::Inbox { calls: calls_in, farewells: farewells_in },
        );
        let wanted = driver.wanted_epoch();
        let subscription = maps::subscribe(monitor.clone(), cluster, config.maps, watched, wanted);
        tokio::spawn(driver.run(subscription));

        maps.wait_for_first(config.maps, until).await?;
        let inner = Inner {
            client,
            cluster,
            deadline: config.deadline,
            calls,
            farewells,
            tickets: AtomicU64::new(1),
            cookies: AtomicU64::new(1),
            maps,
            monitor,
        };
        Ok(StoreClient { inner: Arc::new(inner) })
    }

    /// The id that the cluster gave to this client.
    pub fn id(&self) -> ClientId {
        self.inner.client
    }

    /// The cluster.
    pub fn cluster(&self) -> ClusterId {
        self.inner.cluster
    }

    /// The control calls, with fail-over between monitors.
    pub fn monitor(&self) -> &MonitorClient {
        &self.inner.monitor
    }

    /// The map of daemons, pools and placement groups, as it changes.
    pub fn osd_map(&self) -> watch::Receiver<Arc<OsdMap>> {
        self.inner.maps.osd.clone()
    }

    /// Users and keys; stays empty unless it was asked for in [`ClientConfig::maps`].
    pub fn auth_map(&self) -> watch::Receiver<Arc<AuthMap>> {
        self.inner.maps.auth.clone()
    }

    /// Settings; stays empty unless it was asked for.
    pub fn config_map(&self) -> watch::Receiver<Arc<ConfigMap>> {
        self.inner.maps.config.clone()
    }

    /// Gateways and metadata services; stays empty unless it was asked for.
    pub fn service_map(&self) -> watch::Receiver<Arc<ServiceMap>> {
        self.inner.maps.services.clone()
    }

    /// Waits until this client has the newest OSD map that the monitor has now.
    pub async fn refresh(&self) -> Result<Epoch, Error> {
        let until = clock::now() + self.inner.deadline;
        let newest = Epoch(self.inner.monitor.hello_until(until).await?.osd_epoch);
        self.inner.maps.wait_for_epoch(newest, until).await
    }

    /// The pool of this name. Asks for the newest map before it says that there is none.
    pub async fn pool(&self, name: &str) -> Result<PoolId, Error> {
        let look = || self.inner.maps.osd.borrow().pool_by_name(name).map(|(id, _)| id);
        if let Some(id) = look() {
            return Ok(id);
        }
        self.refresh().await?;
        look().ok_or_else(|| Error::NotFound(format!("there is no pool {name:?}")))
    }

    /// Runs a command of the monitor's table: JSON with "prefix" and named arguments. An error number in the
    /// answer is an `Err` here.
    pub async fn command(
        &self,
        command: &serde_json::Value,
        input: Bytes,
    ) -> Result<CommandOutput, Error> {
        self.inner.monitor.command(command, input, self.inner.deadline).await
    }

    /// Carries out an op vector on an object. An op that failed is an error, of which the sentence names the
    /// object; nothing was changed then.
    pub async fn operate(
        &self,
        pool: PoolId,
        object: &ObjectName,
        ops: Vec<Op>,
        options: Options,
    ) -> Result<OpReply, Error> {
        let reply = self.attempt(pool, object, ops, options).await?;
        match reply.failed() {
            None => Ok(reply),
            Some((_, code)) => Err(describe_failure(object, code)),
        }
    }

    /// As [`operate`](Self::operate), but an op that failed is told in the reply: see [`OpReply::failed`].
    pub async fn attempt(
        &self,
        pool: PoolId,
        object: &ObjectName,
        ops: Vec<Op>,
        options: Options,
    ) -> Result<OpReply, Error> {
        self.submit(Target::Object { pool, object: object.clone() }, ops, options).await
    }

    /// A page of the objects of one placement group.
    pub(crate) async fn operate_group(&self, pg: PgId, ops: Vec<Op>) -> Result<OpReply, Error> {
        let reply = self.submit(Target::Group(pg), ops, Options::READ).await?;
        match reply.failed() {
            None => Ok(reply),
            Some((_, code)) => {
                Err(Error::from_errno(code, format!("placement group {pg} cannot be listed")))
            }
        }
    }

    async fn submit(
        &self,
        target: Target,
        ops: Vec<Op>,
        options: Options,
    ) -> Result<OpReply, Error> {
        let inner = &*self.inner;
        let ticket = Ticket(inner.tickets.fetch_add(1, Ordering::Relaxed));
        let submission = Submission {
            target,
            ops,
            read_only: options.read_only,
            mtime: clock::timestamp(),
            deadline: clock::now() + options.deadline.unwrap_or(inner.deadline),
        };
        let (answer, answered) = oneshot::channel();
        let call = Call::Submit { ticket, submission, answer };
        inner.calls.send(call).await.map_err(|_| stopped())?;
        let mut guard = CancelOnDrop { client: self, ticket, armed: true };
        let done = answered.await.map_err(|_| stopped());
        guard.armed = false;
        let done = done??;
        Ok(OpReply {
            version: done.version,
            user_version: done.user_version,
            results: done.results,
        })
    }

    pub(crate) async fn call(&self, call: Call) -> Result<(), Error> {
        self.inner.calls.send(call).await.map_err(|_| stopped())
    }

    /// Never waits, so that it can be said while something is dropped.
    pub(crate) fn farewell(&self, farewell: Farewell) {
        // The driver may be gone; then there is nothing to end.
        let _ = self.inner.farewells.send(farewell);
    }

    pub(crate) fn next_cookie(&self) -> u64 {
        self.inner.cookies.fetch_add(1, Ordering::Relaxed)
    }

    pub(crate) fn deadline(&self) -> Duration {
        self.inner.deadline
    }
}

/// Tells the driver that nobody waits any more.
struct CancelOnDrop<'a> {
    client: &'a StoreClient,
    ticket: Ticket,
    armed: bool,
}

impl Drop for CancelOnDrop<'_> {
    fn drop(&mut self) {
        if self.armed {
            self.client.farewell(Farewell::Request(self.ticket));
        }
    }
}

pub(crate) fn stopped() -> Error {
    Error::Unavailable("this client has stopped".into())
}

fn describe_failure(object: &ObjectName, code: i32) -> Error {
    use store_base::op::errno::*;
    let what = match -code {
        ENOENT => "does not exist",
        EEXIST => "exists already",
        ENODATA => "has no such attribute",
        ECANCELED => "is not as the guard demands",
        ERANGE | EOVERFLOW => "was changed meanwhile",
        EFBIG => "would become too large",
        E2BIG => "cannot be asked for so much at once",
        ENOSPC => "has no room",
        EDQUOT => "has no room: the quota of its pool is used up",
        EIO => "is damaged and no good copy was found",
        EOPNOTSUPP => "cannot do that: no such class or method",
        EINVAL => "cannot do that: an argument is wrong",
        EBUSY => "is in use",
        ENOTCONN => "is not watched",
        _ => "could not be operated on",
    };
    Error::from_errno(code, format!("object {object} {what}"))
}

/// Most bytes that one request carries or asks for; larger pieces are cut.
pub(crate) const PIECE_BYTES: usize = PAYLOAD_BYTES_MAX;
