//! The acting half: bootstrap, the store, the clock, the gRPC service.
//!
//! | module | concept |
//! |---|---|
//! | [`bootstrap`] | what a cluster is made of, and finding it again |
//! | [`seal`] | secrets at rest |
//! | [`driver`] | the one task that owns the machine |
//! | [`service`] | gRPC: who may do what, and translation |
//! | `lines` | which daemon beats by which connection |
#![allow(clippy::disallowed_methods)] // the shell is where clocks and threads are

pub mod bootstrap;
pub mod driver;
mod lines;
pub mod seal;
pub mod service;

use crate::config::{Config, StateKind};
use crate::machine::{Monitor, Settings};
use crate::metrics::MonitorMetrics;
use crate::state::StateStore;
use crate::state::etcd::EtcdStore;
use crate::state::sled::SledStore;
use anyhow::{Context, Result};
use bootstrap::Home;
use driver::Driver;
use seal::RingSealer;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use store_base::ClusterId;
use store_shell::security::Security;
use store_shell::server::Server;
use store_shell::services::monitor_server::MonitorServer;
use store_shell::shutdown::Shutdown;
use store_shell::telemetry::{Metrics, Readiness};
use tokio::task::JoinHandle;

pub use bootstrap::Admin;

/// The largest message of a call: a whole map of a large cluster.
pub const MESSAGE_BYTES_MAX: usize = 64 << 20;

/// A monitor that runs.
pub struct Handle {
    /// Where it listens.
    pub addr: SocketAddr,
    /// Its cluster.
    pub cluster: ClusterId,
    /// The first administrator's keys, as bootstrap wrote them down; `None` if somebody removed the file.
    pub admin: Option<Admin>,
    /// Whether this start made the cluster.
    pub is_new: bool,
    /// For the process's endpoint.
    pub metrics: Metrics,
    /// For the process's endpoint: whether it leads and its store works.
    pub readiness: Readiness,
    task: JoinHandle<()>,
}

impl Handle {
    /// Waits until it has stopped in order, which the shutdown handle that it was given begins.
    pub async fn stopped(self) {
        // A panic in there was reported already.
        let _ = self.task.await;
    }
}

/// Starts a monitor on the current runtime. When this returns, it listens; it answers as soon as it leads,
/// which takes milliseconds where it is alone. The error is one line with the cure.
pub async fn run(config: Config, shutdown: Shutdown) -> Result<Handle> {
    let (home, store) = open(&config).await?;
    let security = security(&config, &home)?;
    let server = Server::bind(config.listen.0, &security)?;
    let addr = server.local_addr()?;
    let stored = store.load().await?;
    let (home, is_new) = home.complete(&*store, &stored, &config).await?;
    home.export_credentials(&config)?;
    let metrics = Metrics::new("monitor", &config.name);
    let numbers = MonitorMetrics::register(&metrics);
    let settings = Settings { name: config.name.clone(), ..Settings::default() };
    let sealer = RingSealer::new(&home.seal_key);
    let machine = Monitor::new(settings, Box::new(sealer));
    let (driver, mailbox) =
        Driver::new(machine, store, numbers, home.seal_key.clone(), &config.name);
    let driver = driver.watching_disk_of(config.data_dir.as_ref());
    let readiness = driver.readiness();
    let service = service::Service::new(mailbox, &config.name, home.cluster, shutdown.clone());
    let routes = tonic::service::Routes::new(
        MonitorServer::new(service)
            .max_decoding_message_size(MESSAGE_BYTES_MAX)
            .max_encoding_message_size(MESSAGE_BYTES_MAX),
    );
    let (cluster, admin) = (home.cluster, home.admin.clone());
    // The state outlives the connections: the last answers are of commits.
    let stop = Shutdown::new();
    let driving = tokio::spawn(driver.run(stop.clone()));
    let task = tokio::spawn(async move {
        server.serve(routes, None, shutdown).await;
        stop.trigger();
        let _ = driving.await; // a panic in there was reported already
        drop(home); // frees the directory last
    });
    tracing::info!(%addr, %cluster, is_new, "monitor listens");
    Ok(Handle { addr, cluster, admin, is_new, metrics, readiness, task })
}

async fn open(config: &Config) -> Result<(Home, Arc<dyn StateStore>)> {
    let (directory, kind) = (config.data_dir.clone(), config.state);
    // Opening reads and syncs files: not on the runtime's thread.
    let opened = tokio::task::spawn_blocking(move || {
        let home = Home::open(Path::new(&directory))?;
        let sled = match kind {
            StateKind::Sled => Some(SledStore::open(&home.directory().join("state"))?),
            StateKind::Etcd => None,
        };
        Ok::<_, anyhow::Error>((home, sled))
    });
    let (home, sled) = opened.await.context("opening the state failed")??;
    let store: Arc<dyn StateStore> = match sled {
        Some(sled) => Arc::new(sled),
        None => Arc::new(EtcdStore::open(&config.etcd)?),
    };
    Ok((home, store))
}

fn security(config: &Config, home: &Home) -> Result<Security> {
    match (config.insecure_plain_text, config.tls) {
        (true, _) => Ok(Security::PlainEverywhere),
        (false, false) => Ok(Security::PlainLoopback),
        (false, true) => Ok(Security::tls(home.own_identity(&config.name)?)?),
    }
}
