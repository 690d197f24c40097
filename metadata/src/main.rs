//! The binary `store-metadata`: settings, signals, and the health port around [`store_metadata::run`].

use clap::{Args, Parser};
use std::path::PathBuf;
use std::process::ExitCode;
use store_base::config::Loaded;
use store_metadata::config::{Config, ROLE};
use store_shell::program::{self, Around, Verb};
use store_shell::telemetry::Endpoint;

store_shell::use_allocator!();

/// The metadata service of the filesystem; a standby until there is one.
///
/// Every setting is a flag, an environment variable (STORE_LISTEN, or STORE_METADATA_LISTEN for this role
/// alone) and a line in the file of --config. Flags win over the environment, that over the file.
#[derive(Debug, Parser)]
#[command(name = "store-metadata", version)]
struct Cli {
    #[command(subcommand)]
    verb: Option<Verb>,
    #[command(flatten)]
    settings: Settings,
}

#[derive(Debug, Args)]
struct Settings {
    /// YAML file with settings [environment: STORE_CONFIG]
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    /// What it is called in the cluster [a]
    #[arg(long, global = true, value_name = "NAME")]
    name: Option<String>,
    /// Monitors of the cluster [127.0.0.1:6789]
    #[arg(long, global = true, value_name = "HOST:PORT,…")]
    monitors: Option<String>,
    /// Where it answers calls [0.0.0.0:6804]
    #[arg(long, global = true, value_name = "IP:PORT")]
    listen: Option<String>,
    /// What others are told to dial [where it listens]
    #[arg(long, global = true, value_name = "HOST:PORT")]
    advertise: Option<String>,
    /// Where /metrics and /health are served [0.0.0.0:9283]
    #[arg(long, global = true, value_name = "IP:PORT")]
    metrics_listen: Option<String>,
    /// This service's certificate and key
    #[arg(long, global = true, value_name = "FILE")]
    identity: Option<String>,
    /// Plain text on every address: anybody on the network can then read and change everything
    #[arg(long, global = true, num_args = 0, default_missing_value = "true")]
    insecure_plain_text: Option<String>,
}

impl Settings {
    fn load(self) -> Result<Loaded<Config>, String> {
        let flags = [
            ("name", self.name),
            ("monitors", self.monitors),
            ("listen", self.listen),
            ("advertise", self.advertise),
            ("metrics_listen", self.metrics_listen),
            ("identity", self.identity),
            ("insecure_plain_text", self.insecure_plain_text),
        ];
        program::load(ROLE, self.config, flags)
    }
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let outcome = cli.settings.load().and_then(|loaded| {
        let health = loaded.value.metrics_listen.0;
        program::run(loaded, health, cli.verb, serve)
    });
    program::exit("store-metadata", outcome)
}

async fn serve(config: Config, around: Around) -> anyhow::Result<()> {
    let service = store_metadata::run(config, around.shutdown.clone()).await?;
    let endpoint =
        Endpoint::new().with_metrics(service.metrics()).with_role(ROLE, service.readiness());
    tokio::spawn(endpoint.serve(around.health, around.shutdown));
    service.wait().await
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
