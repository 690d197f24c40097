//! The binary `store-monitor`: settings, signals, and the health port around [`store_monitor::shell`].
#![allow(clippy::print_stdout)] // a command-line program

use anyhow::Result;
use clap::{Args, Parser, Subcommand};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use store_base::config::Loaded;
use store_monitor::config::{Config, ROLE};
use store_monitor::shell;
use store_shell::program::{self, Around, Verb};
use store_shell::telemetry::Endpoint;

store_shell::use_allocator!();

/// Keeps the maps of a cluster, its users and settings.
///
/// The first start in an empty data directory makes a new cluster and prints the first administrator's keys;
/// --access-key and --secret-key choose them. Every setting is a flag, an environment variable
/// (STORE_DATA_DIR, or STORE_MONITOR_DATA_DIR for this role alone) and a line in the file of --config
/// (data_dir: …). Flags win over the environment, that over the file.
#[derive(Debug, Parser)]
#[command(name = "store-monitor", version)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    settings: Settings,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serves; the same as no command.
    Run,
    /// Makes credentials for a service: daemon.3, gateway.a, admin.me.
    Issue {
        /// The service
        #[arg(value_name = "ROLE.NAME")]
        service: String,
        /// Where to put them [where credentials_dir says, or here]
        #[arg(long, value_name = "DIR")]
        into: Option<PathBuf>,
    },
    #[command(flatten)]
    Common(Verb),
}

#[derive(Debug, Args)]
struct Settings {
    /// YAML file with settings [environment: STORE_CONFIG]
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Name of this monitor among others [a]
    #[arg(long, global = true, value_name = "NAME")]
    name: Option<String>,
    /// Where its state and the cluster's keys are; made if it is not there [/var/lib/store/monitor]
    #[arg(long, global = true, value_name = "DIR")]
    data_dir: Option<String>,
    /// Where services and the command line reach it [0.0.0.0:6789]
    #[arg(long, global = true, value_name = "IP:PORT")]
    listen: Option<String>,
    /// Where /metrics and /health are served [0.0.0.0:9283]
    #[arg(long, global = true, value_name = "IP:PORT")]
    metrics_listen: Option<String>,
    /// Whether services must show a certificate of the cluster [true]
    #[arg(long, global = true, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true")]
    tls: Option<String>,
    /// Plain text on every address: anybody on the network can then read and change everything
    #[arg(long, global = true, num_args = 0, default_missing_value = "true")]
    insecure_plain_text: Option<String>,
    /// Where to put credentials for the services of --issue
    #[arg(long, global = true, value_name = "DIR")]
    credentials_dir: Option<String>,
    /// The services to make credentials for [daemons 0 to 2, metadata.a, gateway.a, admin.admin]
    #[arg(long, global = true, value_name = "ROLE.NAME,…")]
    issue: Option<String>,
    /// Name of the first administrator [admin]
    #[arg(long, global = true, value_name = "NAME")]
    admin_user: Option<String>,
    /// The first administrator's access key [a random one]
    #[arg(long, global = true, value_name = "KEY")]
    access_key: Option<String>,
    /// Its secret key; better in the environment, where other users do not see it
    #[arg(long, global = true, value_name = "KEY")]
    secret_key: Option<String>,
    /// Where the maps are kept: sled or etcd [sled]
    #[arg(long, global = true, value_name = "NAME")]
    state: Option<String>,
    /// Members of etcd [http://127.0.0.1:2379]
    #[arg(long, global = true, value_name = "URL,…")]
    etcd_endpoints: Option<String>,
    /// What our keys in etcd begin with [/store/]
    #[arg(long, global = true, value_name = "PATH")]
    etcd_prefix: Option<String>,
    /// User, where etcd asks for one
    #[arg(long, global = true, value_name = "NAME")]
    etcd_user: Option<String>,
    /// Its password; better in the environment, where other users do not see it
    #[arg(long, global = true, value_name = "PASSWORD")]
    etcd_password: Option<String>,
    /// The authority that signed etcd's certificates
    #[arg(long, global = true, value_name = "FILE")]
    etcd_ca_file: Option<String>,
    /// Our certificate for etcd
    #[arg(long, global = true, value_name = "FILE")]
    etcd_cert_file: Option<String>,
    /// Its key
    #[arg(long, global = true, value_name = "FILE")]
    etcd_key_file: Option<String>,
    /// How long leadership lasts without a sign of life [10s]
    #[arg(long, global = true, value_name = "TIME")]
    etcd_lease: Option<String>,
    /// How long one call to etcd may take [5s]
    #[arg(long, global = true, value_name = "TIME")]
    etcd_timeout: Option<String>,
}

impl Settings {
    fn load(self) -> Result<Loaded<Config>, String> {
        let flags = [
            ("name", self.name),
            ("data_dir", self.data_dir),
            ("listen", self.listen),
            ("metrics_listen", self.metrics_listen),
            ("tls", self.tls),
            ("insecure_plain_text", self.insecure_plain_text),
            ("credentials_dir", self.credentials_dir),
            ("issue", self.issue),
            ("admin_user", self.admin_user),
            ("access_key", self.access_key),
            ("secret_key", self.secret_key),
            ("state", self.state),
            ("etcd_endpoints", self.etcd_endpoints),
            ("etcd_prefix", self.etcd_prefix),
            ("etcd_user", self.etcd_user),
            ("etcd_password", self.etcd_password),
            ("etcd_ca_file", self.etcd_ca_file),
            ("etcd_cert_file", self.etcd_cert_file),
            ("etcd_key_file", self.etcd_key_file),
            ("etcd_lease", self.etcd_lease),
            ("etcd_timeout", self.etcd_timeout),
        ];
        program::load(ROLE, self.config, flags)
    }
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let outcome = cli.settings.load().and_then(|loaded| {
        let health = loaded.value.metrics_listen.0;
        match cli.command {
            Some(Command::Issue { service, into }) => issue(&loaded.value, &service, into),
            Some(Command::Common(verb)) => program::run(loaded, health, Some(verb), serve),
            Some(Command::Run) | None => program::run(loaded, health, None, serve),
        }
    });
    program::exit("store-monitor", outcome)
}

/// Makes credentials for a service and names their file.
fn issue(config: &Config, service: &str, into: Option<PathBuf>) -> Result<(), String> {
    let into = into.or_else(|| config.credentials_dir.as_ref().map(PathBuf::from));
    let into = into.unwrap_or_else(|| PathBuf::from("."));
    let path = shell::bootstrap::issue(Path::new(&config.data_dir), service, &into)
        .map_err(|error| format!("{error:#}"))?;
    println!("{}", path.display());
    Ok(())
}

async fn serve(config: Config, around: Around) -> Result<()> {
    let (name, data_dir) = (config.name.clone(), config.data_dir.clone());
    let handle = shell::run(config, around.shutdown.clone()).await?;
    let endpoint = Endpoint::new().with_metrics(handle.metrics.clone());
    let endpoint = endpoint.with_role(format!("monitor.{name}"), {
        let readiness = handle.readiness.clone();
        move || readiness()
    });
    let endpoint = tokio::spawn(endpoint.serve(around.health, around.shutdown));
    println!("cluster {} on {}", handle.cluster, handle.addr);
    if let (true, Some(admin)) = (handle.is_new, &handle.admin) {
        println!("first administrator {}, also in {data_dir}/admin.json:", admin.user);
        println!("  access key {}", admin.access_key);
        println!("  secret key {}", admin.secret_key);
    }
    handle.stopped().await;
    endpoint.abort(); // it answers until the end, and has none of its own
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn every_setting_has_a_flag() {
        let command = Cli::command();
        command.clone().debug_assert();
        assert_eq!(program::without_flag::<Config>(&command), Ok(Vec::new()));
    }
}
