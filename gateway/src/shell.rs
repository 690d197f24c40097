//! Threads and sockets of a gateway: one accepting task, and shards that serve.
#![allow(clippy::disallowed_methods)] // starts the shard threads

use crate::catalogue::chores::Chores;
use crate::catalogue::chores::deliver::Delivery;
use crate::catalogue::flat::Flat;
use crate::catalogue::sweep::Sweep;
use crate::catalogue::{Catalogue, Commons};
use crate::cluster::Cluster;
use crate::crypt::kms::NamedKeys;
use crate::crypt::ring::Ring;
use crate::http::listener;
use crate::iam::lookup::Lookup;
use crate::keyring::KeyRing;
use crate::metrics::Metrics;
use crate::s3::access::rules::RulesCache;
use crate::s3::auth::SigningKeys;
use crate::s3::logging::collect::AccessLog;
use crate::s3::logging::deliver;
use crate::s3::{Service, Settings};
use crate::transfer::Budget;
use std::cell::RefCell;
use std::future::Future;
use std::rc::Rc;
use std::sync::Arc;
use store_shell::shutdown::Shutdown;
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::{LocalSet, spawn_local};
use tokio_rustls::TlsAcceptor;

/// What all shards share.
#[derive(Clone)]
pub struct Shared {
    /// Settings of S3.
    pub settings: Arc<Settings>,
    /// Users.
    pub keys: Arc<dyn KeyRing>,
    /// Counters.
    pub metrics: Arc<Metrics>,
    /// Memory for bodies.
    pub budget: Budget,
    /// How garbage is swept.
    pub sweep: Sweep,
    /// TLS, if S3 is served with it.
    pub tls: Option<TlsAcceptor>,
}

/// Serves S3 on a listener until the shutdown. `connect` is called once on each shard's own runtime.
/// `ready` is told when every shard serves.
pub async fn serve<C, F, Fut>(
    listener: TcpListener,
    shared: Shared,
    shards: usize,
    connections_max: usize,
    connect: F,
    ready: impl FnOnce(),
    shutdown: Shutdown,
) -> anyhow::Result<()>
where
    C: Cluster + 'static,
    F: Fn() -> Fut + Clone + Send + 'static,
    Fut: Future<Output = anyhow::Result<C>>,
{
    let mut lanes = Vec::new();
    let mut serving = Vec::new();
    let mut ended = Vec::new();
    let commons = Commons::default();
    let access_log = Arc::new(AccessLog::default());
    for number in 0..shards.max(1) {
        let (lane, arrivals) = listener::lane();
        lanes.push(lane);
        let (serves, is_serving) = oneshot::channel();
        let (ends, has_ended) = oneshot::channel();
        serving.push(is_serving);
        ended.push(has_ended);
        let mut shared = shared.clone();
        if number > 0 {
            // One shard looks through all buckets for everybody.
            shared.sweep.scan_every = std::time::Duration::ZERO;
        }
        let (connect, commons, shutdown) = (connect.clone(), commons.clone(), shutdown.clone());
        let access_log = access_log.clone();
        std::thread::Builder::new().name(format!("gateway-{number}")).spawn(move || {
            let result = shard(shared, arrivals, connect, (commons, access_log), serves, shutdown);
            // Nobody listens if the gateway is being dropped.
            let _ = ends.send(result);
        })?;
    }
    for is_serving in serving {
        // A shard that did not come so far says why when it ends.
        if is_serving.await.is_err() {
            shutdown.trigger();
        }
    }
    if !shutdown.is_triggered() {
        ready();
    }
    listener::accept(listener, lanes, connections_max, shutdown.clone()).await;
    for has_ended in ended {
        has_ended.await??;
    }
    Ok(())
}

/// The life of a shard's thread.
fn shard<C, F, Fut>(
    shared: Shared,
    arrivals: tokio::sync::mpsc::Receiver<listener::Accepted>,
    connect: F,
    (commons, access_log): (Commons, Arc<AccessLog>),
    serves: oneshot::Sender<()>,
    shutdown: Shutdown,
) -> anyhow::Result<()>
where
    C: Cluster + 'static,
    F: Fn() -> Fut,
    Fut: Future<Output = anyhow::Result<C>>,
{
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let local = LocalSet::new();
    local.block_on(&runtime, async move {
        let flat = Rc::new(Flat::new(connect().await?, commons));
        spawn_local(shared.sweep.run(flat.clone(), shutdown.clone()));
        let calendar = shared.sweep.calendar();
        let searches = !shared.sweep.scan_every.is_zero();
        if !shared.sweep.scan_every.is_zero() {
            let every = shared.sweep.chores_every();
            let delivery = Delivery {
                webhooks: shared.settings.webhooks.clone(),
                region: shared.settings.region.clone(),
                host_id: shared.settings.host_id.clone(),
            };
            let mut chores = Chores::new(calendar, every, shared.metrics.clone(), delivery);
            chores.split_keys = shared.sweep.split_keys;
            spawn_local(chores.run(flat.clone(), shutdown.clone()));
        }
        let catalogue: Rc<dyn Catalogue> = flat;
        let service = Rc::new(Service {
            catalogue,
            keys: shared.keys,
            settings: shared.settings,
            metrics: shared.metrics,
            budget: shared.budget,
            signing_keys: RefCell::new(SigningKeys::default()),
            rules: RulesCache::default(),
            calendar,
            identities: Lookup::default(),
            ring: Ring::default(),
            kms: NamedKeys::default(),
            access_log,
        });
        spawn_local(deliver::run(service.clone(), searches, shutdown.clone()));
        let serving = service.clone();
        let handler = Rc::new(move |request| serving.clone().handle(request));
        let _ = serves.send(());
        listener::serve(arrivals, shared.tls, handler, shutdown).await;
        deliver::finish(&service).await;
        Ok(())
    })
}
