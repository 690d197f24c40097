//! The binary `store-daemon`: settings, signals, and the health port around [`store_daemon::shell`].

use clap::{Args, Parser, Subcommand};
use std::path::PathBuf;
use std::process::ExitCode;
use store_base::config::Loaded;
use store_daemon::config::{Config, ROLE};
use store_daemon::fsck::Fsck;
use store_daemon::shell;
use store_shell::program::{self, Around, Verb};
use store_shell::telemetry::Endpoint;

store_shell::use_allocator!();

/// Keeps objects: one daemon for each disk of the cluster.
///
/// Every setting is a flag, an environment variable (STORE_DATA_DIR, or STORE_DAEMON_DATA_DIR for this role
/// alone) and a line in the file of --config (data_dir: …). Flags win over the environment, that over the
/// file.
#[derive(Debug, Parser)]
#[command(name = "store-daemon", version)]
struct Cli {
    #[command(subcommand)]
    verb: Option<Instead>,
    #[command(flatten)]
    settings: Settings,
}

/// What is done instead of serving.
#[derive(Debug, Subcommand)]
enum Instead {
    /// Reads every byte of a daemon's directory while the daemon does not run, and says what is lost.
    ///
    /// Ends with 0: nothing is wrong, 1: all that was wrong is mended, 4: something is still wrong, 8: the check
    /// could not be made.
    Fsck(Fsck),
    #[command(flatten)]
    Other(Verb),
}

#[derive(Debug, Args)]
struct Settings {
    /// YAML file with settings [environment: STORE_CONFIG]
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Where the data is; made if it is not there [/var/lib/store/daemon]
    #[arg(long, global = true, value_name = "DIR")]
    data_dir: Option<String>,
    /// Monitors of the cluster [127.0.0.1:6789]
    #[arg(long, global = true, value_name = "HOST:PORT,…")]
    monitors: Option<String>,
    /// Where clients and other daemons are served [0.0.0.0:6800]
    #[arg(long, global = true, value_name = "IP:PORT")]
    listen: Option<String>,
    /// What others are told to dial [where it listens]
    #[arg(long, global = true, value_name = "HOST:PORT")]
    advertise: Option<String>,
    /// Name of this machine: copies are kept on different ones [the machine's own]
    #[arg(long, global = true, value_name = "NAME")]
    host: Option<String>,
    /// Where the machine stands
    #[arg(long, global = true, value_name = "rack=R1,…")]
    location: Option<String>,
    /// Kind of medium, for rules that choose one
    #[arg(long, global = true, value_name = "NAME")]
    device_class: Option<String>,
    /// How much of the disk this daemon may take [what is free, less a tenth]
    #[arg(long, global = true, value_name = "SIZE")]
    capacity: Option<String>,
    /// The id to have, when the directory is new [of the identity, or the lowest free]
    #[arg(long, global = true, value_name = "NUMBER")]
    id: Option<String>,
    /// Where /metrics and /health are served [0.0.0.0:9283]
    #[arg(long, global = true, value_name = "IP:PORT")]
    metrics_listen: Option<String>,
    /// This daemon's certificate and key
    #[arg(long, global = true, value_name = "FILE")]
    identity: Option<String>,
    /// Plain text on every address: anybody on the network can then read and change everything
    #[arg(long, global = true, num_args = 0, default_missing_value = "true")]
    insecure_plain_text: Option<String>,
    /// How the disk is spoken to: auto, io_uring or threads [auto]
    #[arg(long, global = true, value_name = "NAME")]
    engine: Option<String>,
    /// Whether to tell the monitor at an orderly end, so that others take over at once [true]
    #[arg(long, global = true, value_name = "BOOL")]
    announce_stop: Option<String>,
}

impl Settings {
    fn load(self) -> Result<Loaded<Config>, String> {
        let flags = [
            ("data_dir", self.data_dir),
            ("monitors", self.monitors),
            ("listen", self.listen),
            ("advertise", self.advertise),
            ("host", self.host),
            ("location", self.location),
            ("device_class", self.device_class),
            ("capacity", self.capacity),
            ("id", self.id),
            ("metrics_listen", self.metrics_listen),
            ("identity", self.identity),
            ("insecure_plain_text", self.insecure_plain_text),
            ("engine", self.engine),
            ("announce_stop", self.announce_stop),
        ];
        program::load(ROLE, self.config, flags)
    }
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let verb = match cli.verb {
        Some(Instead::Fsck(fsck)) => return fsck.run(),
        Some(Instead::Other(verb)) => Some(verb),
        None => None,
    };
    let outcome = cli.settings.load().and_then(|loaded| {
        let health = loaded.value.metrics_listen.0;
        program::run(loaded, health, verb, serve)
    });
    program::exit("store-daemon", outcome)
}

/// The daemon has its own thread; this one serves the health port and waits for signals.
async fn serve(config: Config, around: Around) -> Result<(), String> {
    let daemon = shell::run(config, around.shutdown.clone()).await?;
    let endpoint =
        Endpoint::new().with_metrics(daemon.metrics()).with_role(ROLE, daemon.readiness());
    tokio::spawn(endpoint.serve(around.health, around.shutdown));
    daemon.wait().await
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
