//! Which cluster, and the way to it.

use crate::exit::Failure;
use crate::units::parse_span;
use crate::up::env_file;
use bytes::Bytes;
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::time::Duration;
use store_base::config::HostPort;
use store_client::{ClientConfig, MonitorClient, StoreClient};
use store_shell::clock;
use store_shell::identity::{Identity, Role};
use store_shell::security::Security;

/// The monitors' usual port.
pub(crate) const MONITOR_PORT: u16 = 6789;

/// How long a monitor may take to say hello, unless --timeout is shorter. A person waits for this.
const GREETING: Duration = Duration::from_secs(5);

/// Where `store up` leaves what others need, if nobody says another place.
pub(crate) const DEFAULT_DIR: &str = "store-data";

#[derive(clap::Args, Clone, Debug, Default)]
#[command(next_help_heading = "Cluster")]
pub(crate) struct Connection {
    /// The cluster's monitors, HOST:PORT, separated by commas [default: those of ./store-data/store.env]
    #[arg(long, global = true, env = "STORE_MONITORS", value_name = "LIST")]
    monitors: Option<String>,
    /// Certificate and key of an administrator of the cluster
    #[arg(long, global = true, env = "STORE_IDENTITY", value_name = "FILE")]
    identity: Option<PathBuf>,
    /// Talk in plain text to other machines too: whoever is on the way can read and change everything
    #[arg(long, global = true, env = "STORE_INSECURE_PLAIN_TEXT", value_parser = clap::builder::FalseyValueParser::new())]
    insecure_plain_text: bool,
    /// How long to wait for answers [default: 30s; `wait`: 5m]
    #[arg(long, global = true, value_name = "SPAN", value_parser = parse_span)]
    timeout: Option<Duration>,
}

impl Connection {
    /// To the monitors of a cluster on this machine.
    pub(crate) fn local(monitors: &str, timeout: Duration) -> Self {
        Connection {
            monitors: Some(monitors.to_string()),
            timeout: Some(timeout),
            ..Connection::default()
        }
    }

    /// What was said on the command line.
    pub(crate) fn chosen_timeout(&self) -> Option<Duration> {
        self.timeout
    }

    pub(crate) fn timeout(&self) -> Duration {
        self.timeout.unwrap_or(store_client::shell::DEADLINE)
    }

    /// The control calls. Fails at once where no monitor is.
    pub(crate) async fn monitor(&self) -> Result<MonitorClient, Failure> {
        let monitor = MonitorClient::new(self.monitors()?, self.security()?)?;
        let patience = GREETING.min(self.timeout());
        monitor.hello_until(clock::now() + patience).await.map_err(|error| match error {
            store_base::error::Error::Denied(_) => Failure::failed(error.to_string()),
            _ => Failure::timed_out(format!("{error}; is the cluster running?")),
        })?;
        Ok(monitor)
    }

    /// The whole library, for work on objects.
    pub(crate) async fn client(&self) -> Result<StoreClient, Failure> {
        self.monitor().await?; // says at once what is wrong with the way there
        let security = self.security()?;
        let own = security.identity().map(|peer| peer.name.clone());
        let mut config = ClientConfig::new(self.monitors()?, security);
        config.role = Role::Admin;
        config.name = own.unwrap_or_else(|| "cli".to_string());
        config.deadline = self.timeout();
        config.connect_timeout = self.timeout();
        Ok(StoreClient::connect(config).await?)
    }

    /// Runs a command of the monitor's table and returns its JSON, or the sentence it answered as a string.
    pub(crate) async fn command(&self, command: Value) -> Result<Value, Failure> {
        let monitor = self.monitor().await?;
        run(&monitor, &command, self.timeout()).await
    }

    /// The monitors, as others would be told of them.
    pub(crate) fn monitors_text(&self) -> Result<String, Failure> {
        let monitors: Vec<String> = self.monitors()?.iter().map(ToString::to_string).collect();
        Ok(monitors.join(","))
    }

    fn monitors(&self) -> Result<Vec<HostPort>, Failure> {
        match &self.monitors {
            Some(list) => parse_monitors(list, "--monitors"),
            None => monitors_of(&Path::new(DEFAULT_DIR).join(env_file::NAME)),
        }
    }

    fn security(&self) -> Result<Security, Failure> {
        match &self.identity {
            Some(path) => {
                let identity =
                    Identity::load(path).map_err(|error| Failure::failed(error.to_string()))?;
                Security::tls(identity).map_err(|error| Failure::failed(error.to_string()))
            }
            None if self.insecure_plain_text => Ok(Security::PlainEverywhere),
            None => Ok(Security::PlainLoopback),
        }
    }
}

/// As [`Connection::command`], on monitors that were reached before.
pub(crate) async fn run(
    monitor: &MonitorClient,
    command: &Value,
    timeout: Duration,
) -> Result<Value, Failure> {
    let reply = monitor.command_reply(command, Bytes::new(), timeout).await?;
    if reply.code < 0 {
        return Err(Failure::of_command(reply.code, reply.status));
    }
    if reply.output.is_empty() {
        return Ok(Value::String(reply.status));
    }
    serde_json::from_slice(&reply.output)
        .map_err(|error| Failure::failed(format!("the monitor's answer is not JSON: {error}")))
}

/// What `store up` left for others.
fn monitors_of(path: &Path) -> Result<Vec<HostPort>, Failure> {
    if !path.exists() {
        return Err(Failure::usage(
            "which cluster? Start one with `store up`, or name its monitors with --monitors HOST:PORT or STORE_MONITORS",
        ));
    }
    let list = env_file::value(path, "STORE_MONITORS").ok_or_else(|| {
        Failure::usage(format!(
            "{} names no STORE_MONITORS: start `store up` again, which writes it anew, or use --monitors HOST:PORT",
            path.display()
        ))
    })?;
    parse_monitors(&list, &path.display().to_string())
}

/// `source` is what messages call the place of the list.
fn parse_monitors(list: &str, source: &str) -> Result<Vec<HostPort>, Failure> {
    let monitors: Result<Vec<_>, _> = list
        .split(',')
        .map(str::trim)
        .filter(|address| !address.is_empty())
        .map(|address| HostPort::with_default_port(address, MONITOR_PORT))
        .collect();
    let monitors = monitors.map_err(|error| Failure::usage(format!("{source}: {error}")))?;
    if monitors.is_empty() {
        return Err(Failure::usage(format!("{source} names no monitor: write HOST:PORT")));
    }
    Ok(monitors)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn monitors_are_read_with_and_without_port() {
        let monitors =
            parse_monitors("a, 10.0.0.1:7000,[::1]", "--monitors").expect("three addresses");
        let shown: Vec<_> = monitors.iter().map(ToString::to_string).collect();
        assert_eq!(shown, ["a:6789", "10.0.0.1:7000", "[::1]:6789"]);
        for wrong in ["", ",", "a:b", "a:0"] {
            assert_eq!(parse_monitors(wrong, "--monitors").expect_err(wrong).exit_code(), 2);
        }
    }

    #[test]
    fn a_file_that_is_none_of_ours_is_named() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let path = dir.path().join("store.env");
        assert!(monitors_of(&path).expect_err("no file").message().contains("store up"));
        for garbage in [&b"\xff\xfe\0\x01"[..], b"", b"STORE_MONITORS=a:b\n", b"STORE_MONITORS=\n"]
        {
            store_shell::files::write_durable(&path, garbage, 0o600).expect("written");
            let failure = monitors_of(&path).expect_err("garbage");
            assert!(failure.message().contains("store.env"), "{}", failure.message());
            assert!(!failure.message().contains('\n') && failure.exit_code() == 2);
        }
        store_shell::files::write_durable(&path, b"A=b\nSTORE_MONITORS=m:7\n", 0o600)
            .expect("written");
        assert_eq!(monitors_of(&path).expect("one")[0].port, 7);
    }
}
