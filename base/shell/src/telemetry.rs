//! How a process shows itself: logs, metrics, and whether it is alive and ready.
//!
//! - Logs go to stderr as text or as JSON lines ([`init`]); `STORE_LOG` filters them (`info`,
//!   `store_daemon=debug,info`).
//! - Metrics live in a [`Metrics`] per role; in one process for all roles there are several, told apart by the
//!   label `role`.
//! - [`Endpoint`] serves them, and health, over HTTP/1.1 on port 9283; [`probe`] asks it, so that a binary can
//!   be its container's own health check.

mod endpoint;
mod exposition;
mod metrics;
mod process;

pub use endpoint::{Endpoint, PORT, Readiness, probe};
pub use metrics::Metrics;

use std::io::IsTerminal;
use std::sync::OnceLock;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::format::FmtSpan;

/// The environment variable with the filter.
pub const LOG_VARIABLE: &str = "STORE_LOG";
/// What is logged when nothing is said: our own state changes, and the libraries' warnings.
const LOG_DEFAULT: &str = "info,h2=warn,hyper=warn,rustls=error,tower=warn,tonic=warn";

/// How log lines look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object per line.
    Json,
}

impl std::str::FromStr for LogFormat {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "text" => Ok(LogFormat::Text),
            "json" => Ok(LogFormat::Json),
            _ => Err(format!("{text:?} is not a log format: use text or json")),
        }
    }
}

/// Begins logging, once per process; later calls do nothing, so each role may call it. A filter that cannot be
/// read is refused with a sentence.
///
/// A role names itself by running in a span: `future.instrument(tracing::info_span!("daemon", id = 3))`.
pub fn init(format: LogFormat) -> Result<(), String> {
    static BEGUN: OnceLock<Result<(), String>> = OnceLock::new();
    BEGUN.get_or_init(|| begin(format)).clone()
}

fn begin(format: LogFormat) -> Result<(), String> {
    crate::security::install_provider();
    crate::alloc::disable_huge_pages();
    let filter = match std::env::var(LOG_VARIABLE) {
        Ok(text) if !text.trim().is_empty() => EnvFilter::try_new(&text).map_err(|e| {
            format!("{LOG_VARIABLE}={text:?} is not a filter: {e}; write a level as in info, or module=level pairs")
        })?,
        _ => EnvFilter::new(LOG_DEFAULT),
    };
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_span_events(FmtSpan::NONE)
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(std::io::stderr);
    let begun = match format {
        LogFormat::Text => builder.try_init(),
        LogFormat::Json => builder.json().flatten_event(true).try_init(),
    };
    // A test harness may have begun before us; its subscriber is as good.
    if begun.is_err() {
        tracing::debug!("logging was begun elsewhere");
    }
    Ok(())
}
