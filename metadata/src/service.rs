//! The shell of the service: its port, its beat to the monitor, its health.
#![allow(clippy::disallowed_methods)] // the shell is where clocks are

use crate::config::Config;
use anyhow::{Context, Result};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use store_base::machine::Time;
use store_base::wire::{MetadataStatusReply, MetadataStatusRequest, ServiceBeatRequest};
use store_client::MonitorClient;
use store_shell::clock;
use store_shell::identity::Identity;
use store_shell::security::Security;
use store_shell::server::Server;
use store_shell::services::metadata_server::{Metadata, MetadataServer};
use store_shell::shutdown::Shutdown;
use store_shell::telemetry::Metrics;
use tokio::task::JoinHandle;
use tonic::{Request, Response, Status};

/// How often the monitor is told that this service is there.
const BEAT_EVERY: Duration = Duration::from_secs(2);

/// A call to the monitor that takes longer is given up, and the next monitor asked.
const BEAT_TIMEOUT: Duration = Duration::from_secs(2);

/// How long a stopping service tries to take its leave of the monitor.
const FAREWELL_TIMEOUT: Duration = Duration::from_millis(500);

/// Without an answer for this long the service is not ready.
const SILENCE_MAX: Duration = Duration::from_secs(10);

/// What the monitor last said, and when.
#[derive(Default)]
struct State {
    assigned: Mutex<String>,
    /// Monotonic nanoseconds; 0 before the first answer.
    answered: AtomicU64,
}

impl State {
    fn assigned(&self) -> String {
        self.assigned.lock().unwrap_or_else(|broken| broken.into_inner()).clone()
    }

    fn readiness(&self) -> Result<(), String> {
        match self.answered.load(Ordering::Relaxed) {
            0 => Err("no monitor has answered yet".to_string()),
            at if clock::now().since(Time(at)) > SILENCE_MAX => {
                Err(format!("no monitor has answered for more than {} s", SILENCE_MAX.as_secs()))
            }
            _ => Ok(()),
        }
    }
}

/// A metadata service that runs.
pub struct Handle {
    /// Where it listens.
    pub addr: SocketAddr,
    metrics: Metrics,
    state: Arc<State>,
    task: JoinHandle<()>,
}

impl Handle {
    /// For the process's endpoint.
    pub fn metrics(&self) -> Metrics {
        self.metrics.clone()
    }

    /// For the process's endpoint: whether a monitor knows of this service.
    pub fn readiness(&self) -> impl Fn() -> Result<(), String> + Send + Sync + 'static {
        let state = self.state.clone();
        move || state.readiness()
    }

    /// Waits until it has stopped, which the shutdown handle that it was given begins.
    pub async fn wait(self) -> Result<()> {
        self.task.await.context("the metadata service panicked")
    }
}

struct Service {
    name: String,
    state: Arc<State>,
}

#[tonic::async_trait]
impl Metadata for Service {
    async fn metadata_status(
        &self,
        _: Request<MetadataStatusRequest>,
    ) -> Result<Response<MetadataStatusReply>, Status> {
        Ok(Response::new(MetadataStatusReply {
            name: self.name.clone(),
            state: self.state.assigned(),
            version: env!("CARGO_PKG_VERSION").to_string(),
        }))
    }
}

/// Starts a metadata service on the current runtime. When this returns, it listens. The error is one line
/// with the cure.
pub async fn run(config: Config, shutdown: Shutdown) -> Result<Handle> {
    let security = security(&config)?;
    let name = match security.identity() {
        Some(identity) => identity.name.clone(),
        None => config.name.clone(),
    };
    let server = Server::bind(config.listen.0, &security)?;
    let addr = server.local_addr()?;
    let monitors = MonitorClient::new(config.monitors.clone(), security)?;
    let state = Arc::new(State::default());
    let beat = ServiceBeatRequest {
        role: "metadata".to_string(),
        name: name.clone(),
        address: config.advertise.map_or_else(|| addr.to_string(), |given| given.to_string()),
        incarnation: clock::timestamp().millis(),
        state: "standby".to_string(),
        details: [("version".to_string(), env!("CARGO_PKG_VERSION").to_string())].into(),
    };
    let beats = tokio::spawn(beat_until(monitors, beat, state.clone(), shutdown.clone()));
    let service = Service { name: name.clone(), state: state.clone() };
    let routes = tonic::service::Routes::new(MetadataServer::new(service));
    let task = tokio::spawn(async move {
        server.serve(routes, None, shutdown).await;
        let _ = beats.await; // a panic in there was reported already
    });
    tracing::info!(%addr, name, "metadata service listens, as a standby");
    Ok(Handle { addr, metrics: Metrics::new("metadata", &name), state, task })
}

fn security(config: &Config) -> Result<Security> {
    match (&config.identity, config.insecure_plain_text) {
        (_, true) => Ok(Security::PlainEverywhere),
        (None, false) => Ok(Security::PlainLoopback),
        (Some(path), false) => Ok(Security::tls(Identity::load(Path::new(path))?)?),
    }
}

/// Tells the monitor again and again that this service is there.
async fn beat_until(
    monitors: MonitorClient,
    mut beat: ServiceBeatRequest,
    state: Arc<State>,
    shutdown: Shutdown,
) {
    loop {
        let call = async {
            let mut calls = monitors.calls().await.map_err(|error| error.to_string())?;
            calls.service_beat(beat.clone()).await.map_err(|status| status.message().to_string())
        };
        let answer = match tokio::time::timeout(BEAT_TIMEOUT, call).await {
            Ok(answer) => answer,
            Err(_) => Err(format!("no answer within {} s", BEAT_TIMEOUT.as_secs())),
        };
        match answer {
            Ok(reply) => {
                let assigned = reply.into_inner().assigned;
                let mut last = state.assigned.lock().unwrap_or_else(|broken| broken.into_inner());
                if *last != assigned {
                    tracing::info!(assigned, "the monitor says what this service is to be");
                    beat.state.clone_from(&assigned);
                    *last = assigned;
                }
                state.answered.store(clock::now().0, Ordering::Relaxed);
            }
            Err(why) => {
                tracing::warn!(why, "the monitor was not told of this service");
                monitors.failed();
            }
        }
        tokio::select! {
            () = tokio::time::sleep(BEAT_EVERY) => {}
            () = shutdown.wait() => break,
        }
    }
    // One that takes its leave is not missed; if this fails, it is "down" until it is forgotten.
    beat.state = "stopped".to_string();
    let farewell = async {
        if let Ok(mut calls) = monitors.calls().await {
            let _ = calls.service_beat(beat).await;
        }
    };
    let _ = tokio::time::timeout(FAREWELL_TIMEOUT, farewell).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ready_only_while_a_monitor_answers() {
        let state = State::default();
        assert!(state.readiness().is_err());
        state.answered.store(clock::now().0, Ordering::Relaxed);
        assert_eq!(state.readiness(), Ok(()));
    }
}
