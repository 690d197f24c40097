//! What every role's binary does around its service: settings, verbs, signals, the health port.
//!
//! A role's `main.rs` says what its flags are called and what they mean; all else is here, so that a container
//! platform finds the same verbs, the same exit codes and the same one line of error at every role.

use crate::config;
use crate::shutdown::Shutdown;
use crate::telemetry::{self, Endpoint, LogFormat};
use serde::{Serialize, de::DeserializeOwned};
use std::fmt::Display;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use store_base::config::{ConfigError, Loaded};
use tokio::net::TcpListener;

/// Names the YAML file with settings where `--config` does not.
pub const CONFIG_VARIABLE: &str = "STORE_CONFIG";

/// Settings whose values are not shown, by the last part of their keys.
const SECRETS: [&str; 2] = ["secret_key", "password"];

/// What a role's binary does instead of serving.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::Subcommand)]
pub enum Verb {
    /// Asks the service on this machine whether it is ready; ends with 0 if so. For container platforms.
    Health,
    /// Shows the settings and where each came from.
    Settings,
}

/// What a service is given beside its settings.
#[derive(Debug)]
pub struct Around {
    /// Triggered by SIGTERM and SIGINT.
    pub shutdown: Shutdown,
    /// The port of `/metrics` and `/health`, bound before the service makes anything.
    pub health: TcpListener,
}

/// Loads a role's settings: flags over the environment over the file, which is `file` or else the one that
/// [`CONFIG_VARIABLE`] names. Flags that were not given are `None`.
pub fn load<C: DeserializeOwned + Serialize + Default>(
    role: &str,
    file: Option<PathBuf>,
    flags: impl IntoIterator<Item = (&'static str, Option<String>)>,
) -> Result<Loaded<C>, String> {
    let given = flags.into_iter().filter_map(|(name, value)| Some((name.to_string(), value?)));
    let file = file.or_else(|| std::env::var_os(CONFIG_VARIABLE).map(PathBuf::from));
    let path = file.as_deref().filter(|path| *path != Path::new(""));
    config::load(role, path, given).map_err(|error| error.to_string())
}

/// Carries out a verb, or serves until the service ends. `metrics_listen` is where the health port is.
pub fn run<C, F, E>(
    loaded: Loaded<C>,
    metrics_listen: SocketAddr,
    verb: Option<Verb>,
    serve: impl FnOnce(C, Around) -> F,
) -> Result<(), String>
where
    F: Future<Output = Result<(), E>>,
    E: Display,
{
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| format!("no runtime can be made: {error}"))?;
    match verb {
        Some(Verb::Settings) => {
            show(&describe(&loaded));
            Ok(())
        }
        Some(Verb::Health) => runtime.block_on(telemetry::probe(metrics_listen)),
        None => runtime.block_on(async {
            telemetry::init(LogFormat::Text)?;
            let shutdown = Shutdown::new();
            shutdown.on_signals().map_err(|error| format!("signals cannot be heard: {error}"))?;
            // A taken port is said before anything is made.
            let health = Endpoint::bind(metrics_listen).map_err(|error| error.to_string())?;
            let around = Around { shutdown, health };
            serve(loaded.value, around).await.map_err(|error| format!("{error:#}"))
        }),
    }
}

/// The exit code for an outcome; an error is one line on standard error, after the program's name.
pub fn exit(name: &str, outcome: Result<(), String>) -> ExitCode {
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            complain(&format!("{name}: {why}"));
            ExitCode::FAILURE
        }
    }
}

/// Settings that a command line has no flag for; for the tests of roles.
pub fn without_flag<C: DeserializeOwned + Serialize + Default>(
    command: &clap::Command,
) -> Result<Vec<String>, ConfigError> {
    let loaded = store_base::config::load::<C>("", None, [], [])?;
    let has_flag = |key: &String| {
        let flag = key.replace(['.', '_'], "-");
        command.get_arguments().any(|argument| argument.get_long() == Some(&flag))
    };
    Ok(loaded.settings.into_keys().filter(|key| !has_flag(key)).collect())
}

/// All settings but secrets, a line each.
fn describe<C>(loaded: &Loaded<C>) -> String {
    let is_secret = |line: &&str| {
        let key = line.split(": ").next().unwrap_or_default();
        SECRETS.contains(&key.rsplit('.').next().unwrap_or_default())
    };
    let text = loaded.describe();
    let shown = text.lines().filter(|line| !is_secret(line));
    shown.map(|line| format!("{line}\n")).collect()
}

#[allow(clippy::print_stdout)] // the output of a command-line program
fn show(text: &str) {
    print!("{text}");
}

#[allow(clippy::print_stderr)] // as above
fn complain(text: &str) {
    eprintln!("{text}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Default, Serialize, serde::Deserialize)]
    #[serde(deny_unknown_fields, default)]
    struct Settings {
        secret_key: Option<String>,
        etcd: Etcd,
        data_dir: String,
    }

    #[derive(Default, Serialize, serde::Deserialize)]
    #[serde(deny_unknown_fields, default)]
    struct Etcd {
        password: Option<String>,
        prefix: String,
    }

    #[test]
    fn secrets_are_not_shown() {
        let given = |value: &str| Some(value.to_string());
        let flags = [
            ("secret_key", given("hush")),
            ("etcd_password", given("hush")),
            ("etcd_prefix", given("/p")),
            ("data_dir", None),
        ];
        let loaded = load::<Settings>("monitor", Some(PathBuf::new()), flags).expect("all known");
        assert_eq!(loaded.value.etcd.password.as_deref(), Some("hush"));
        let text = describe(&loaded);
        assert!(text.contains("etcd.prefix: /p") && text.contains("data_dir: "), "{text}");
        assert!(!text.contains("hush") && !text.contains("password"), "{text}");
    }

    #[test]
    fn an_unknown_flag_is_an_error_and_not_a_panic() {
        let flags = [("data_dri", Some("/d".to_string()))];
        let error = load::<Settings>("monitor", Some(PathBuf::new()), flags).err();
        assert!(error.is_some_and(|why| why.contains("did you mean --data-dir?")));
    }
}
