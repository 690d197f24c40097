//! The settings with which `store up` runs each role, and how a role is started on a thread of its own.
#![allow(clippy::disallowed_methods)] // each role has its own thread

use super::plan::{Kind, Plan, RoleName};
use std::net::SocketAddr;
use std::sync::Arc;
use store_base::config::{HostPort, ListenAddress};
use store_daemon::shell::Farewell;
use store_shell::shutdown::Shutdown;
use store_shell::telemetry::{Metrics, Readiness};
use tokio::sync::oneshot;
use tracing::Instrument;

/// What a running role shows to the process' health endpoint.
pub(crate) struct Shown {
    pub(crate) metrics: Metrics,
    pub(crate) readiness: Readiness,
}

/// A role that listens, on the current runtime.
pub(crate) struct Running {
    pub(crate) shown: Shown,
    /// Of a daemon: what it says when it stops.
    pub(crate) farewell: Option<Farewell>,
    /// Ends with the role.
    pub(crate) ended: std::pin::Pin<Box<dyn Future<Output = Result<(), String>>>>,
}

/// Starts a role on the current runtime. The error is one line with the cure.
pub(crate) async fn start(
    role: &RoleName,
    plan: &Plan,
    shutdown: Shutdown,
) -> Result<Running, String> {
    let failed = |failure: crate::exit::Failure| failure.message().to_string();
    match role.kind {
        Kind::Monitor => {
            let config = monitor(role, plan).map_err(failed)?;
            let handle =
                store_monitor::shell::run(config, shutdown).await.map_err(|e| one_line(&e))?;
            let shown =
                Shown { metrics: handle.metrics.clone(), readiness: handle.readiness.clone() };
            let ended = async move {
                handle.stopped().await;
                Ok(())
            };
            Ok(Running { shown, farewell: None, ended: Box::pin(ended) })
        }
        Kind::Daemon => {
            let config = daemon(role, plan).map_err(failed)?;
            let handle = store_daemon::shell::run(config, shutdown).await?;
            let shown =
                Shown { metrics: handle.metrics(), readiness: Arc::new(handle.readiness()) };
            let farewell = Some(handle.farewell());
            Ok(Running { shown, farewell, ended: Box::pin(handle.wait()) })
        }
        Kind::Metadata => {
            let config = metadata(role, plan).map_err(failed)?;
            let handle = store_metadata::run(config, shutdown).await.map_err(|e| one_line(&e))?;
            let shown =
                Shown { metrics: handle.metrics(), readiness: Arc::new(handle.readiness()) };
            let ended = async move { handle.wait().await.map_err(|e| e.to_string()) };
            Ok(Running { shown, farewell: None, ended: Box::pin(ended) })
        }
        Kind::Gateway => {
            let config = gateway(role, plan).map_err(failed)?;
            let handle = store_gateway::run(config, shutdown).await.map_err(|e| one_line(&e))?;
            let shown =
                Shown { metrics: handle.metrics(), readiness: Arc::new(handle.readiness()) };
            let ended = async move { handle.wait().await.map_err(|e| e.to_string()) };
            Ok(Running { shown, farewell: None, ended: Box::pin(ended) })
        }
    }
}

/// All causes in one sentence.
fn one_line(error: &anyhow::Error) -> String {
    format!("{error:#}")
}

/// Starts a role on a thread with a runtime of its own. Returns when it listens; its end comes on the channel.
pub(crate) async fn start_thread(
    role: &RoleName,
    plan: &Plan,
    shutdown: Shutdown,
) -> Result<(Shown, oneshot::Receiver<Result<(), String>>), String> {
    let (started, starting) = oneshot::channel();
    let (ends, ended) = oneshot::channel();
    let (own_role, plan) = (role.clone(), plan.clone());
    let body = move || {
        let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
            Ok(runtime) => runtime,
            Err(error) => {
                let _ = started.send(Err(format!("no runtime can be made: {error}")));
                return;
            }
        };
        let span = tracing::info_span!("role", name = %own_role.dotted());
        let life = async move {
            match start(&own_role, &plan, shutdown).await {
                Ok(running) => {
                    // A thread stops with all the others.
                    running.farewell.iter().for_each(Farewell::skip);
                    let _ = started.send(Ok(running.shown));
                    running.ended.await
                }
                Err(why) => {
                    let _ = started.send(Err(why));
                    Ok(())
                }
            }
        };
        let end = tokio::task::LocalSet::new().block_on(&runtime, life.instrument(span));
        let _ = ends.send(end); // whoever started it may be gone
    };
    std::thread::Builder::new()
        .name(role.dotted())
        .spawn(body)
        .map_err(|error| format!("no thread can be started: {error}"))?;
    let shown = starting.await.unwrap_or_else(|_| Err("its thread panicked".to_string()))?;
    Ok((shown, ended))
}

fn host_port(address: SocketAddr) -> HostPort {
    HostPort { host: address.ip().to_string(), port: address.port() }
}

type Config<T> = Result<T, crate::exit::Failure>;

fn monitor(role: &RoleName, plan: &Plan) -> Config<store_monitor::config::Config> {
    Ok(store_monitor::config::Config {
        name: role.id.clone(),
        data_dir: plan.role_dir(role).display().to_string(),
        listen: ListenAddress(plan.role_address(role)?),
        tls: false,
        ..Default::default()
    })
}

fn daemon(role: &RoleName, plan: &Plan) -> Config<store_daemon::config::Config> {
    let dir = plan.role_dir(role);
    Ok(store_daemon::config::Config {
        capacity: plan.daemon_capacity(),
        data_dir: dir.display().to_string(),
        monitors: vec![host_port(plan.monitor()?)],
        listen: ListenAddress(plan.role_address(role)?),
        id: role.id.parse().ok(),
        ..Default::default()
    })
}

fn metadata(role: &RoleName, plan: &Plan) -> Config<store_metadata::config::Config> {
    Ok(store_metadata::config::Config {
        name: role.id.clone(),
        monitors: vec![host_port(plan.monitor()?)],
        listen: ListenAddress(plan.role_address(role)?),
        ..Default::default()
    })
}

fn gateway(role: &RoleName, plan: &Plan) -> Config<store_gateway::config::Config> {
    Ok(store_gateway::config::Config {
        name: role.id.clone(),
        monitors: vec![host_port(plan.monitor()?)],
        listen: ListenAddress(plan.s3()?),
        admin_listen: ListenAddress(plan.admin()?),
        // Every name below `localhost` is this machine.
        website_domains: vec!["web.localhost".to_string()],
        ..store_gateway::config::Config::alone()
    })
}
