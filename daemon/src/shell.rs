//! The acting half of a daemon: real time, sockets and disk around [`machine::Daemon`](crate::machine::Daemon).
//!
//! A daemon is one thread with a single-threaded runtime (DESIGN 7). Tasks read the links and put what they
//! hear into an `Inbox` (`shell/inbox.rs`); one task, the turn (`shell/turn.rs`), takes all that has gathered,
//! steps the machine, lets the store begin its I/O, and carries out the actions: a burst of requests so
//! becomes one group in the log and one frame per link.
//!
//! # The data directory
//!
//! | name | what |
//! |---|---|
//! | `lock` | held by the process that uses the directory |
//! | the engine's files | objects, logs, and a superblock of named values |
//!
//! Named values of the superblock that are the shell's: `shell.uuid` (16 bytes, made with the directory; the
//! monitor ties the daemon's id to it) and `shell.map` (the newest map seen, so that a daemon starts without
//! a monitor, and lost monitors can be rebuilt from daemons).
#![allow(clippy::disallowed_methods)] // the shell owns threads and clocks

pub(crate) mod clients;
mod detach;
mod engine;
mod fragments;
mod inbox;
mod monitors;
mod outbox;
mod peers;
mod settings;
mod start;
mod turn;

#[cfg(test)]
mod tests;

use crate::config::Config;
use crate::metrics::DaemonMetrics;
use engine::Engine;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use store_base::{DaemonId, Incarnation};
use store_shell::shutdown::Shutdown;
use store_shell::telemetry::Metrics;
use tokio::sync::oneshot;

/// What other threads may know of a running daemon.
#[derive(Clone, Debug, Default)]
pub(crate) struct Seen {
    /// Why it is not ready; empty if it is.
    pub(crate) not_ready: String,
    pub(crate) id: Option<DaemonId>,
    pub(crate) incarnation: Incarnation,
}

/// Whether a daemon tells the monitor when it stops ([`Config::announce_stop`]), as long as it has not.
#[derive(Clone, Debug)]
pub struct Farewell(Arc<AtomicBool>);

impl Farewell {
    /// The whole cluster stops: nobody is there to take over, so nobody is told.
    pub fn skip(&self) {
        self.0.store(false, Ordering::Relaxed);
    }

    pub(crate) fn is_wanted(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// A running daemon.
#[derive(Debug)]
pub struct Handle {
    address: SocketAddr,
    metrics: Metrics,
    seen: Arc<Mutex<Seen>>,
    farewell: Farewell,
    ended: oneshot::Receiver<Result<(), String>>,
}

impl Handle {
    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// For the process' endpoint.
    pub fn metrics(&self) -> Metrics {
        self.metrics.clone()
    }

    /// For the process' endpoint: whether the daemon is up in the map, or why not.
    pub fn readiness(&self) -> impl Fn() -> Result<(), String> + Send + Sync + 'static {
        let seen = self.seen.clone();
        move || {
            let seen = lock(&seen);
            if seen.not_ready.is_empty() { Ok(()) } else { Err(seen.not_ready.clone()) }
        }
    }

    /// The id, once the monitor has given one.
    pub fn id(&self) -> Option<DaemonId> {
        lock(&self.seen).id
    }

    /// Which life of the daemon this is.
    pub fn incarnation(&self) -> Incarnation {
        lock(&self.seen).incarnation
    }

    /// To stop it together with all others.
    pub fn farewell(&self) -> Farewell {
        self.farewell.clone()
    }

    /// Waits until the daemon has ended: `Ok` after a shutdown, else the reason in one line.
    pub async fn wait(self) -> Result<(), String> {
        self.ended.await.unwrap_or_else(|_| Err("the daemon's thread panicked".to_string()))
    }
}

fn lock(seen: &Mutex<Seen>) -> std::sync::MutexGuard<'_, Seen> {
    // Whole at every moment, so a panic elsewhere does no harm.
    seen.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

/// Starts a daemon on a thread of its own and returns when it listens. An error is one line with the cure.
/// It ends with `shutdown`; a fatal error of the daemon alone comes out of [`Handle::wait`].
pub async fn run(config: Config, shutdown: Shutdown) -> Result<Handle, String> {
    run_on(engine::open, config, shutdown).await
}

/// As [`run`], on a store of the caller's choice.
async fn run_on<S: Engine>(
    open: impl FnOnce(&Path, &Config) -> Result<S, String> + Send + 'static,
    config: Config,
    shutdown: Shutdown,
) -> Result<Handle, String> {
    let (started, starting) = oneshot::channel();
    let (ends, ended) = oneshot::channel();
    let metrics = DaemonMetrics::default();
    let seen = Arc::new(Mutex::new(Seen { not_ready: "starting".to_string(), ..Seen::default() }));
    let farewell = Farewell(Arc::new(AtomicBool::new(config.announce_stop)));
    let (counted, shown, asked) = (metrics.clone(), seen.clone(), farewell.clone());
    let name = config.metrics_name();
    let body = move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = match runtime {
            Ok(runtime) => runtime,
            Err(error) => {
                let _ = started.send(Err(format!("no runtime can be made: {error}")));
                return;
            }
        };
        let local = tokio::task::LocalSet::new();
        let outcome = local.block_on(&runtime, async move {
            let daemon = match start::start(config, open, counted, shown, asked, shutdown).await {
                Ok(daemon) => daemon,
                Err(why) => {
                    let _ = started.send(Err(why));
                    return Ok(());
                }
            };
            let _ = started.send(Ok(daemon.address()));
            daemon.serve().await
        });
        let _ = ends.send(outcome); // nobody may wait for it
    };
    let thread = std::thread::Builder::new().name("daemon".to_string()).spawn(body);
    thread.map_err(|error| format!("no thread can be started: {error}"))?;
    let address =
        starting.await.unwrap_or_else(|_| Err("the daemon's thread panicked".to_string()))?;
    let registry = Metrics::new(crate::config::ROLE, &name);
    registry.register(|registry| metrics.register(registry));
    Ok(Handle { address, metrics: registry, seen, farewell, ended })
}
