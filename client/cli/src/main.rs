//! The command `store`.
#![allow(clippy::print_stdout, clippy::print_stderr)] // a command-line program speaks to people
#![allow(rustdoc::broken_intra_doc_links)] // comments of arguments are help texts, with [WORD] for what may be left out

mod cluster;
mod commands;
mod confirm;
mod exit;
mod output;
mod progress;
mod table;
mod units;
mod up;

use clap::{CommandFactory, Parser, Subcommand};
use cluster::Connection;
use exit::Failure;
use output::Output;
use std::process::ExitCode;

store_shell::use_allocator!();

/// One storage cluster: objects on replicated daemons, an S3 endpoint, and this command.
#[derive(Parser, Debug)]
#[command(name = "store", version, about, max_term_width = 100, propagate_version = true)]
#[command(after_help = "Begin with `store up`: a whole cluster on this machine.\n\
    Exit codes: 0 done, 1 failed, 2 wrong usage, 3 not found, 4 refused as unsafe, 5 timed out or not reached.")]
struct Cli {
    #[command(flatten)]
    connection: Connection,
    #[command(flatten)]
    output: output::OutputArgs,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    /// Run a whole cluster on this machine
    Up(up::UpArgs),
    /// Show the state of the cluster
    Status(commands::status::StatusArgs),
    /// Show whether the cluster is healthy, and if not, why and what to do
    Health(commands::status::HealthArgs),
    /// Show the space of the cluster and of each pool
    Df,
    /// Wait until something is so
    Wait(commands::wait::WaitArgs),
    /// Daemons: where they stand, what they hold, in and out
    #[command(subcommand)]
    Osd(commands::osd::OsdCommand),
    /// Hosts: all daemons of one together
    #[command(subcommand)]
    Node(commands::node::NodeCommand),
    /// Background work: how far it is, how long it takes
    #[command(subcommand)]
    Job(commands::job::JobCommand),
    /// Movement of data: planned, and measured against the plan
    #[command(subcommand)]
    Rebalance(commands::rebalance::RebalanceCommand),
    /// Even placement, with few moves
    #[command(subcommand)]
    Balancer(commands::rebalance::BalancerCommand),
    /// Pools
    #[command(subcommand)]
    Pool(commands::pool::PoolCommand),
    /// Erasure profiles: what new erasure-coded pools are made by
    #[command(subcommand)]
    ErasureProfile(commands::erasure_profile::ErasureProfileCommand),
    /// Placement groups
    #[command(subcommand)]
    Pg(commands::pg::PgCommand),
    /// Compare copies, and replace bad ones
    #[command(subcommand)]
    Scrub(commands::scrub::ScrubCommand),
    /// Count what is whole and verified
    #[command(subcommand)]
    Audit(commands::scrub::AuditCommand),
    /// Objects of a pool, as they are (S3 has its own clients); buckets, quotas and rates of the gateways
    #[command(subcommand)]
    Object(commands::object::ObjectCommand),
    /// Users and their keys
    #[command(subcommand)]
    User(commands::user::UserCommand),
    /// Settings of the cluster, at run time
    #[command(subcommand)]
    Config(commands::config::ConfigCommand),
    /// What the S3 gateways need decided for them
    #[command(subcommand)]
    S3(commands::s3::S3Command),
    /// Keys for encrypted objects: named ones for SSE-KMS, and the cluster's own
    #[command(subcommand)]
    Kms(commands::kms::KmsCommand),
    /// Gateways and metadata services
    #[command(subcommand)]
    Service(commands::service::ServiceCommand),
    /// Show the versions of this command and of the cluster
    Version(commands::version::VersionArgs),
    /// Run any command of the monitor's table
    #[command(name = "command")]
    Raw(commands::raw::RawArgs),
    /// Ask a service's health port whether it is ready (for containers)
    #[command(visible_alias = "health-check")]
    Probe(commands::probe::ProbeArgs),
    /// Write the completion script of a shell
    Completion(CompletionArgs),
    /// Single roles of a cluster that `store up` made
    #[command(subcommand)]
    Role(up::role::RoleCommand),
}

#[derive(clap::Args, Debug)]
struct CompletionArgs {
    /// The shell
    shell: clap_complete::Shell,
}

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) if error.use_stderr() && asks_for_json(std::env::args()) => {
            return wrong_usage(&error);
        }
        Err(error) => error.exit(), // with 2, or 0 after help
    };
    let output = Output::new(&cli.output);
    match run(cli, &output) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            output.fail(&failure);
            ExitCode::from(failure.exit_code())
        }
    }
}

/// Whether programs read the answer, as far as words that could not be understood tell.
fn asks_for_json(words: impl Iterator<Item = String>) -> bool {
    let words: Vec<String> = words.collect();
    let pair = |pair: &[String]| pair[0] == "--format" && pair[1] == "json";
    words.iter().any(|word| ["--json", "--format=json"].contains(&word.as_str()))
        || words.windows(2).any(pair)
}

/// The sentence of a usage error without the hints for people.
fn sentence(error: &clap::Error) -> String {
    let text = error.to_string();
    let said = text.split("\n\nUsage:").next().unwrap_or_default();
    let said = said.split("\n\nFor more information").next().unwrap_or_default();
    let paragraphs = said.trim_start_matches("error: ").split("\n\n");
    let line = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
    paragraphs.map(line).collect::<Vec<_>>().join("; ")
}

fn wrong_usage(error: &clap::Error) -> ExitCode {
    let failure = Failure::usage(sentence(error));
    Output::json_only().fail(&failure);
    ExitCode::from(failure.exit_code())
}

fn run(cli: Cli, output: &Output) -> Result<(), Failure> {
    match cli.command {
        Command::Completion(args) => {
            let mut script = Vec::new();
            clap_complete::generate(args.shell, &mut Cli::command(), "store", &mut script);
            output.raw(&script);
            Ok(())
        }
        // These choose their own runtimes.
        Command::Up(args) => up::run(&args, output),
        Command::Role(command) => up::role::run(&command, output),
        command => {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(run_command(command, &cli.connection, output))
        }
    }
}

async fn run_command(
    command: Command,
    connection: &Connection,
    output: &Output,
) -> Result<(), Failure> {
    match command {
        Command::Status(args) => commands::status::run(args, connection, output).await,
        Command::Health(args) => commands::status::health(args, connection, output).await,
        Command::Df => commands::status::df(connection, output).await,
        Command::Wait(args) => commands::wait::run(&args, connection, output).await,
        Command::Osd(command) => commands::osd::run(command, connection, output).await,
        Command::Node(command) => commands::node::run(command, connection, output).await,
        Command::Job(command) => commands::job::run(command, connection, output).await,
        Command::Rebalance(command) => commands::rebalance::run(command, connection, output).await,
        Command::Balancer(command) => {
            commands::rebalance::balancer(command, connection, output).await
        }
        Command::Pool(command) => commands::pool::run(command, connection, output).await,
        Command::ErasureProfile(command) => {
            commands::erasure_profile::run(command, connection, output).await
        }
        Command::Pg(command) => commands::pg::run(command, connection, output).await,
        Command::Scrub(command) => commands::scrub::run(command, connection, output).await,
        Command::Audit(command) => commands::scrub::audit(command, connection, output).await,
        Command::Object(command) => commands::object::run(command, connection, output).await,
        Command::User(command) => commands::user::run(command, connection, output).await,
        Command::Config(command) => commands::config::run(command, connection, output).await,
        Command::S3(command) => commands::s3::run(command, connection, output).await,
        Command::Kms(command) => commands::kms::run(command, connection, output).await,
        Command::Service(command) => commands::service::run(command, connection, output).await,
        Command::Version(args) => commands::version::run(&args, connection, output).await,
        Command::Raw(args) => commands::raw::run(args, connection, output).await,
        Command::Probe(args) => commands::probe::run(&args, output).await,
        Command::Up(_) | Command::Role(_) | Command::Completion(_) => {
            unreachable!("these ran before the runtime was made")
        }
    }
}

#[cfg(test)]
mod tests;
