//! The binary `store-gateway`: settings, signals, and the health port around [`store_gateway::run`].

use clap::{Args, Parser};
use std::path::PathBuf;
use std::process::ExitCode;
use store_base::config::Loaded;
use store_gateway::config::{Config, ROLE};
use store_shell::program::{self, Around, Verb};
use store_shell::telemetry::Endpoint;

store_shell::use_allocator!();

/// Serves S3 from a cluster. Any number of gateways may run side by side; they keep nothing themselves.
///
/// Every setting is a flag (--listen), an environment variable (STORE_LISTEN, or STORE_GATEWAY_LISTEN for
/// this role alone) and a line in the file of --config (listen: …). Flags win over the environment, that
/// over the file. `store-gateway settings` lists all of them.
#[derive(Debug, Parser)]
#[command(name = "store-gateway", version)]
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
    /// Name of this gateway among others [a]
    #[arg(long, global = true, value_name = "NAME")]
    name: Option<String>,
    /// Monitors of the cluster [127.0.0.1:6789]
    #[arg(long, global = true, value_name = "HOST:PORT,…")]
    monitors: Option<String>,
    /// Where S3 is served [0.0.0.0:8888]
    #[arg(long, global = true, value_name = "IP:PORT")]
    listen: Option<String>,
    /// Where administrators are served [0.0.0.0:8124]
    #[arg(long, global = true, value_name = "IP:PORT")]
    admin_listen: Option<String>,
    /// What others are told to dial [where it listens]
    #[arg(long, global = true, value_name = "HOST:PORT")]
    advertise: Option<String>,
    /// Where /metrics and /health are served [0.0.0.0:9283]
    #[arg(long, global = true, value_name = "IP:PORT")]
    metrics_listen: Option<String>,
    /// This gateway's certificate and key within the cluster
    #[arg(long, global = true, value_name = "FILE")]
    identity: Option<String>,
    /// Plain text to the cluster on every address: anybody on the network can then read everything
    #[arg(long, global = true, num_args = 0, default_missing_value = "true")]
    insecure_plain_text: Option<String>,
    /// Certificate chain for HTTPS [HTTP]
    #[arg(long, global = true, value_name = "FILE")]
    tls_cert: Option<String>,
    /// Its key
    #[arg(long, global = true, value_name = "FILE")]
    tls_key: Option<String>,
    /// Refuse keys that clients bring (SSE-C) in plain text
    #[arg(long, global = true, num_args = 0, default_missing_value = "true")]
    customer_keys_need_tls: Option<String>,
    /// The region that clients are told [us-east-1]
    #[arg(long, global = true, value_name = "NAME")]
    region: Option<String>,
    /// Domains below which buckets are hosts
    #[arg(long, global = true, value_name = "DOMAIN,…")]
    domains: Option<String>,
    /// Proxies whose word is taken for who their clients are [none]
    #[arg(long, global = true, value_name = "NETWORK,…")]
    trusted_proxies: Option<String>,
    /// Domains below which buckets are websites
    #[arg(long, global = true, value_name = "DOMAIN,…")]
    website_domains: Option<String>,
    /// Longest body that is kept in the index [32KiB]
    #[arg(long, global = true, value_name = "SIZE")]
    inline_max: Option<String>,
    /// Index shards of new buckets [8]
    #[arg(long, global = true, value_name = "NUMBER")]
    index_shards: Option<String>,
    /// Objects above which an index shard is split, 0 for never [0]
    #[arg(long, global = true, value_name = "NUMBER")]
    index_split_keys: Option<String>,
    /// Memory that bodies under way may take [256MiB]
    #[arg(long, global = true, value_name = "SIZE")]
    body_memory: Option<String>,
    /// Threads that serve S3 [one for each processor, at most 4]
    #[arg(long, global = true, value_name = "NUMBER")]
    threads: Option<String>,
    /// Connections at a time [4096]
    #[arg(long, global = true, value_name = "NUMBER")]
    connections_max: Option<String>,
    /// Longest pause of a client within a body [60s]
    #[arg(long, global = true, value_name = "TIME")]
    body_idle: Option<String>,
    /// How long the cluster may take for one request of the gateway [30s]
    #[arg(long, global = true, value_name = "TIME")]
    deadline: Option<String>,
    /// How long records of access logs are collected before they are delivered [300s]
    #[arg(long, global = true, value_name = "TIME")]
    access_log_every: Option<String>,
    /// How long replaced data is kept for those who are reading it [1h]
    #[arg(long, global = true, value_name = "TIME")]
    garbage_delay: Option<String>,
    /// How often all buckets are looked through for leftovers [10m]
    #[arg(long, global = true, value_name = "TIME")]
    sweep_every: Option<String>,
    /// When an unfinished write without a sign of life is given up [1h]
    #[arg(long, global = true, value_name = "TIME")]
    abandoned_after: Option<String>,
    /// Endpoints that buckets may name to be told of events
    #[arg(long, global = true, value_name = "NAME=URL,…")]
    webhooks: Option<String>,
    /// How long the days of lifecycle rules are, for tests [24h]
    #[arg(long, global = true, value_name = "TIME")]
    lifecycle_day: Option<String>,
}

impl Settings {
    fn load(self) -> Result<Loaded<Config>, String> {
        let flags = [
            ("name", self.name),
            ("monitors", self.monitors),
            ("listen", self.listen),
            ("admin_listen", self.admin_listen),
            ("advertise", self.advertise),
            ("metrics_listen", self.metrics_listen),
            ("identity", self.identity),
            ("insecure_plain_text", self.insecure_plain_text),
            ("tls_cert", self.tls_cert),
            ("tls_key", self.tls_key),
            ("customer_keys_need_tls", self.customer_keys_need_tls),
            ("region", self.region),
            ("domains", self.domains),
            ("trusted_proxies", self.trusted_proxies),
            ("website_domains", self.website_domains),
            ("inline_max", self.inline_max),
            ("index_shards", self.index_shards),
            ("index_split_keys", self.index_split_keys),
            ("body_memory", self.body_memory),
            ("threads", self.threads),
            ("connections_max", self.connections_max),
            ("body_idle", self.body_idle),
            ("deadline", self.deadline),
            ("access_log_every", self.access_log_every),
            ("garbage_delay", self.garbage_delay),
            ("sweep_every", self.sweep_every),
            ("abandoned_after", self.abandoned_after),
            ("webhooks", self.webhooks),
            ("lifecycle_day", self.lifecycle_day),
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
    program::exit("store-gateway", outcome)
}

/// The gateway's shards have their own threads; this one accepts, serves the admin and health ports, and
/// waits for signals.
async fn serve(config: Config, around: Around) -> anyhow::Result<()> {
    let gateway = store_gateway::run(config, around.shutdown.clone()).await?;
    let endpoint =
        Endpoint::new().with_metrics(gateway.metrics()).with_role(ROLE, gateway.readiness());
    tokio::spawn(endpoint.serve(around.health, around.shutdown));
    gateway.wait().await
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
