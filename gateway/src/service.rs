//! A gateway as a whole: what is opened at the start, in which order, and what runs until the end.

use crate::admin::Admin;
use crate::catalogue::sweep::Sweep;
use crate::cluster::remote::{Remote, make_pools};
use crate::config::{Config, ROLE};
use crate::keyring::{ClusterKeys, KeyRing};
use crate::metrics::Metrics as Counters;
use crate::s3::Settings;
use crate::shell::{Shared, serve};
use crate::transfer::Budget;
use crate::webhook::Webhooks;
use anyhow::{Context, Result, anyhow, bail};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use store_base::wire::ServiceBeatRequest;
use store_client::{ClientConfig, MapsWanted, StoreClient};
use store_shell::clock;
use store_shell::identity::{Identity, Role};
use store_shell::security::Security;
use store_shell::shutdown::Shutdown;
use store_shell::telemetry::Metrics;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;

/// How often the monitor is told that this gateway is there.
const BEAT_EVERY: Duration = Duration::from_secs(3);

/// Largest PEM file.
const PEM_BYTES_MAX: u64 = 1 << 20;

/// A gateway that runs.
pub struct Handle {
    /// Where S3 is served.
    pub addr: SocketAddr,
    /// Where administrators are served.
    pub admin_addr: SocketAddr,
    metrics: Metrics,
    serving: Arc<AtomicBool>,
    task: JoinHandle<Result<()>>,
}

impl Handle {
    /// For the process's endpoint.
    pub fn metrics(&self) -> Metrics {
        self.metrics.clone()
    }

    /// For the process's endpoint: whether S3 is served.
    pub fn readiness(&self) -> impl Fn() -> Result<(), String> + Send + Sync + 'static {
        let serving = self.serving.clone();
        move || match serving.load(Ordering::Relaxed) {
            true => Ok(()),
            false => Err("the gateway does not serve S3".to_owned()),
        }
    }

    /// Waits until it has stopped in order, which the shutdown that it was given begins.
    pub async fn wait(self) -> Result<()> {
        self.task.await.context("the gateway's task failed")?
    }
}

/// Starts a gateway on the current runtime. When this returns, S3 is served. The error is one line with
/// the cure.
pub async fn run(config: Config, shutdown: Shutdown) -> Result<Handle> {
    config.check().map_err(|why| anyhow!(why))?;
    let tls = tls(&config)?;
    // A taken port is said before anything else is tried.
    let listener = store_shell::net::bind_open(config.listen.0)?;
    let admin_listener = store_shell::net::bind_open(config.admin_listen.0)?;
    let (addr, admin_addr) = (listener.local_addr()?, admin_listener.local_addr()?);

    let client_config = client_config(&config)?;
    let maps = MapsWanted { auth: true, ..MapsWanted::default() };
    let client = StoreClient::connect(ClientConfig { maps, ..client_config.clone() }).await?;
    make_pools(&client).await?;
    let keys: Arc<dyn KeyRing> = Arc::new(ClusterKeys::new(client.auth_map()));
    let counters = Arc::new(Counters::default());
    let metrics = Metrics::new(ROLE, &config.name);
    metrics.register(|registry| counters.register(registry));
    let link_metrics = client_config.link_metrics.clone();
    metrics.register(|registry| link_metrics.register(registry));

    let shared = Shared {
        settings: Arc::new(settings(&config)),
        keys: keys.clone(),
        metrics: counters,
        budget: Budget::new(usize::try_from(config.body_memory.0).unwrap_or(usize::MAX)),
        sweep: sweep(&config),
        tls: tls.clone(),
    };
    let admin = Arc::new(Admin::new(client.clone(), keys));
    tokio::spawn(admin.serve(admin_listener, tls, shutdown.clone()));
    let announcing = tokio::spawn(announce(client, config.clone(), addr, shutdown.clone()));

    let connect = move || {
        let config = client_config.clone();
        async move { Ok(Remote::new(StoreClient::connect(config).await?).await?) }
    };
    let (started, has_started) = oneshot::channel();
    let (threads, connections) = (config.threads(), config.connections_max);
    let task = tokio::spawn(async move {
        let ready = move || {
            // Nobody waits for it if the start was given up.
            let _ = started.send(());
        };
        serve(listener, shared, threads, connections, connect, ready, shutdown).await
    });
    if has_started.await.is_err() {
        // It ended instead, and says why.
        task.await.context("the gateway's task failed")??;
        bail!("the gateway was stopped while it started");
    }
    let serving = Arc::new(AtomicBool::new(true));
    tracing::info!(%addr, %admin_addr, threads, "gateway serves");
    Ok(Handle {
        addr,
        admin_addr,
        metrics,
        serving: serving.clone(),
        task: watched(task, announcing, serving),
    })
}

/// Notes the end of the serving, and waits until the monitor was told.
fn watched(
    task: JoinHandle<Result<()>>,
    announcing: JoinHandle<()>,
    serving: Arc<AtomicBool>,
) -> JoinHandle<Result<()>> {
    tokio::spawn(async move {
        let end = task.await;
        serving.store(false, Ordering::Relaxed);
        match end {
            Ok(Ok(())) => drop(announcing.await), // bounded; a panic in there was reported already
            _ => announcing.abort(),              // one that failed is missed
        }
        end.context("the gateway's task failed")?
    })
}

/// Of a configuration that was checked.
fn settings(config: &Config) -> Settings {
    let trusted = config.trusted_proxies.iter();
    Settings {
        region: config.region.clone(),
        domains: config.domains.clone(),
        website_domains: config.website_domains.clone(),
        inline_bytes_max: config.inline_max.0,
        index_shards: config.index_shards,
        body_idle: config.body_idle.0,
        trusted_proxies: trusted.filter_map(|network| network.parse().ok()).collect(),
        access_log_every: config.access_log_every.0,
        customer_keys_need_tls: config.customer_keys_need_tls,
        host_id: format!("gateway.{}", config.name),
        // `Config::check` has read them.
        webhooks: Webhooks::parse(&config.webhooks).unwrap_or_default(),
    }
}

fn sweep(config: &Config) -> Sweep {
    Sweep {
        delay: config.garbage_delay.0,
        scan_every: config.sweep_every.0,
        intent_age: config.abandoned_after.0,
        day: config.lifecycle_day.0,
        split_keys: config.index_split_keys,
        ..Sweep::default()
    }
}

fn client_config(config: &Config) -> Result<ClientConfig> {
    let security = security(config)?;
    let name = match security.identity() {
        Some(identity) => identity.name.clone(),
        None => config.name.clone(),
    };
    Ok(ClientConfig {
        role: Role::Gateway,
        name,
        deadline: config.deadline.0,
        ..ClientConfig::new(config.monitors.clone(), security)
    })
}

fn security(config: &Config) -> Result<Security> {
    match (&config.identity, config.insecure_plain_text) {
        (Some(path), false) => {
            let identity = Identity::load(Path::new(path))?;
            if identity.peer.role != Role::Gateway {
                bail!("{path} is the identity of {}: a gateway needs its own", identity.peer);
            }
            Ok(Security::tls(identity)?)
        }
        (Some(_), true) => {
            bail!("--identity and --insecure-plain-text exclude each other: leave one out")
        }
        (None, true) => Ok(Security::PlainEverywhere),
        (None, false) => Ok(Security::PlainLoopback),
    }
}

/// HTTPS, if there is a certificate for it.
fn tls(config: &Config) -> Result<Option<TlsAcceptor>> {
    let (Some(cert), Some(key)) = (&config.tls_cert, &config.tls_key) else { return Ok(None) };
    let read = |path: &str| {
        store_shell::files::read_bounded(Path::new(path), PEM_BYTES_MAX)
            .with_context(|| format!("{path} cannot be read"))
    };
    let chain = CertificateDer::pem_slice_iter(&read(cert)?)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| anyhow!("{cert} holds no certificates in PEM form: {error}"))?;
    if chain.is_empty() {
        bail!("{cert} holds no certificates in PEM form");
    }
    let key = PrivateKeyDer::from_pem_slice(&read(key)?)
        .map_err(|error| anyhow!("{key} holds no private key in PEM form: {error}"))?;
    store_shell::security::install_provider();
    let mut server = ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .map_err(|error| anyhow!("certificate and key cannot be used: {error}"))?;
    server.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Some(TlsAcceptor::from(Arc::new(server))))
}

/// Tells the monitor now and then that this gateway is there.
async fn announce(client: StoreClient, config: Config, addr: SocketAddr, shutdown: Shutdown) {
    let address = config.advertise.as_ref().map_or_else(|| addr.to_string(), ToString::to_string);
    let mut beat = ServiceBeatRequest {
        role: ROLE.to_owned(),
        name: config.name.clone(),
        address,
        incarnation: clock::timestamp().millis(),
        state: "active".to_owned(),
        details: [
            ("admin".to_owned(), config.admin_listen.0.to_string()),
            ("version".to_owned(), env!("CARGO_PKG_VERSION").to_owned()),
        ]
        .into(),
    };
    while !shutdown.is_triggered() {
        tell(&client, &beat).await;
        tokio::select! {
            () = shutdown.wait() => {}
            () = tokio::time::sleep(BEAT_EVERY) => {}
        }
    }
    beat.state = "stopped".to_owned();
    let _ = tokio::time::timeout(Duration::from_secs(1), tell(&client, &beat)).await;
}

async fn tell(client: &StoreClient, beat: &ServiceBeatRequest) {
    let call = async {
        let mut calls = client.monitor().calls().await.map_err(|error| error.to_string())?;
        calls.service_beat(beat.clone()).await.map_err(|status| status.to_string())
    };
    match tokio::time::timeout(BEAT_EVERY, call).await {
        Ok(Ok(_)) => {}
        Ok(Err(why)) => {
            tracing::debug!(why, "the monitor was not told");
            client.monitor().failed();
        }
        Err(_) => client.monitor().failed(),
    }
}
