//! Real faults over real processes. See `README.md` beside this file.
#![allow(clippy::disallowed_methods, clippy::print_stdout, clippy::print_stderr, missing_docs)]

mod body;
mod cluster;
mod disk;
mod fault;
mod history;
mod net;
mod object_load;
mod offline;
mod process;
mod register;
mod replace;
mod round;
mod s3_load;
mod schedule;
mod timeline;
mod tools;

use anyhow::{Context, Result, bail};
use clap::Parser;
use cluster::{Cluster, Setup};
use replace::Replacement;
use round::{Harm, Outcome, Round};
use schedule::{Event, Schedule};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use timeline::Felt;
use tokio::signal::unix::{SignalKind, signal};

store_shell::use_allocator!();

/// Harms a cluster of real processes in network namespaces, and checks that clients see nothing of it but
/// time: every history linearizable, nothing lost, health OK again.
#[derive(Debug, Parser)]
#[command(name = "store-faults")]
struct Arguments {
    /// Seconds of load and faults.
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    /// Hours instead of seconds.
    #[arg(long)]
    hours: Option<f64>,
    /// Seconds of one round: then all is healed, read and judged, and the next begins.
    #[arg(long, default_value_t = 120)]
    round: u64,
    /// Chooses the faults and the load; a new one if not given.
    #[arg(long)]
    seed: Option<u64>,
    /// Folder with the programs [default: the one of this program].
    #[arg(long)]
    bin: Option<PathBuf>,
    /// Where to put the cluster; removed when all went well, unless --keep.
    #[arg(long)]
    dir: Option<PathBuf>,
    /// Daemons.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u64).range(3..=30))]
    daemons: u64,
    /// Only these kinds of faults.
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
    /// All but these kinds of faults.
    #[arg(long, value_delimiter = ',')]
    without: Vec<String>,
    /// Seconds until health must be OK again after the last fault.
    #[arg(long, default_value_t = 120)]
    heal: u64,
    /// The medium by io_uring: its calls cannot be failed from outside, so faults of calls are left out.
    #[arg(long)]
    uring: bool,
    /// Instead of faults by the seed, the story of replaced disks: one daemon of four is lost and replaced,
    /// another drained and removed.
    #[arg(long)]
    replace: bool,
    /// The summary as JSON.
    #[arg(long)]
    json: bool,
    /// Leave everything as it is at the end.
    #[arg(long)]
    keep: bool,
}

static INTERRUPTED: AtomicBool = AtomicBool::new(false);

/// Whether somebody wants this to end.
pub(crate) fn interrupted() -> bool {
    INTERRUPTED.load(Ordering::Relaxed)
}

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("store-faults: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// A first Ctrl-C ends the run in order: no process and no namespace is left.
fn watch_signals() -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let guard = runtime.enter();
    let (mut interrupt, mut terminate) =
        (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    drop(guard);
    std::thread::Builder::new().name("signals".into()).spawn(move || {
        runtime.block_on(async {
            loop {
                tokio::select! { _ = interrupt.recv() => {}, _ = terminate.recv() => {} }
                INTERRUPTED.store(true, Ordering::Relaxed);
            }
        });
    })?;
    Ok(())
}

fn run(arguments: &Arguments) -> Result<bool> {
    tools::check()?;
    watch_signals()?;
    let seed = match arguments.seed {
        Some(seed) => seed,
        None => store_shell::clock::timestamp().millis() % 1_000_000,
    };
    let programs = match &arguments.bin {
        Some(bin) => bin.canonicalize().with_context(|| format!("{}", bin.display()))?,
        None => {
            std::env::current_exe()?.parent().context("a program lies in a folder")?.to_path_buf()
        }
    };
    let mut without = arguments.without.clone();
    if arguments.uring {
        without.extend(["write-error", "no-room", "read-error", "slow-disk"].map(String::from));
    }
    let kinds = Schedule::kinds(&arguments.only, &without)?;
    let clock_library = match !arguments.replace && kinds.iter().any(|(kind, _)| *kind == "clock") {
        true => Some(tools::clock_library(&programs.join("store-daemon"))?),
        false => None,
    };
    let (dir, made) = match &arguments.dir {
        Some(dir) => (dir.clone(), false),
        None => (tempfile::Builder::new().prefix("store-faults-").tempdir()?.keep(), true),
    };
    std::fs::create_dir_all(&dir)?;
    let dir = dir.canonicalize()?;
    let setup = Setup {
        programs,
        dir: dir.clone(),
        daemons: if arguments.replace { 4 } else { arguments.daemons as usize },
        clients: 2,
        clock_library,
        threads_medium: !arguments.uring,
        secret: format!("{:032x}", u128::from(seed) + u128::from(std::process::id())),
    };
    println!("seed {seed}, {}", dir.display());
    let mut cluster = Cluster::start(setup)
        .with_context(|| format!("the cluster does not start; see {}", dir.display()))?;
    let mut report = Report::new(seed);
    let mut harm: Box<dyn Harm> = match arguments.replace {
        true => Box::new(Replacement { patience: Duration::from_secs(arguments.heal) }),
        false => Box::new(Schedule::new(seed, kinds, !arguments.json)),
    };
    let went_well = rounds(arguments, seed, &mut cluster, &mut *harm, &mut report)
        .and_then(|well| Ok(well && (interrupted() || count_copies(&mut cluster, &mut report)?)));
    drop(cluster);
    report.show(arguments.json);
    let went_well = went_well?;
    if !went_well {
        let round = report.rounds;
        println!(
            "FAILED: round {round} of `store-faults --seed {seed} --seconds {}`; everything is in {}",
            length(arguments).as_secs(),
            dir.display()
        );
    } else if made && !arguments.keep {
        std::fs::remove_dir_all(&dir)?;
    }
    if interrupted() {
        bail!("interrupted");
    }
    Ok(went_well)
}

fn length(arguments: &Arguments) -> Duration {
    if arguments.replace {
        return Duration::from_secs(1); // one round, as long as its story
    }
    match arguments.hours {
        Some(hours) => Duration::from_secs_f64(hours * 3600.0),
        None => Duration::from_secs(arguments.seconds),
    }
}

fn rounds(
    arguments: &Arguments,
    seed: u64,
    cluster: &mut Cluster,
    harm: &mut dyn Harm,
    report: &mut Report,
) -> Result<bool> {
    let mut left = length(arguments);
    let (mut once, mut first_value) = (Vec::new(), 1);
    round::make_bucket(cluster)?;
    while !left.is_zero() && !interrupted() {
        let length = left.min(Duration::from_secs(arguments.round));
        left -= length;
        let round = Round {
            number: report.rounds,
            seed,
            length,
            heal: Duration::from_secs(arguments.heal),
            once: std::mem::take(&mut once),
            first_value,
        };
        let outcome = round.run(cluster, harm)?;
        if interrupted() {
            return Ok(true);
        }
        report.add(&outcome);
        if !arguments.json {
            report.show_round(&outcome);
        }
        if !outcome.wrong.is_empty() {
            report.keep(&cluster.setup.dir, &outcome)?;
            return Ok(false);
        }
        first_value = outcome.book.next_value();
        once = outcome.once;
    }
    Ok(true)
}

/// Ends everything at once, and counts the copies on the disks.
fn count_copies(cluster: &mut Cluster, report: &mut Report) -> Result<bool> {
    cluster.kill_gateways();
    let expected = offline::Expected::of(cluster)?;
    cluster.kill_everything();
    let directories: Vec<_> =
        cluster.daemons.iter().map(|daemon| (i64::from(daemon.id), daemon.dir.as_path())).collect();
    let program = cluster.setup.programs.join("store-daemon");
    let count = offline::count(&program, &directories, &expected)?;
    report.wrong.extend(count.wrong.iter().cloned());
    report.count = count;
    Ok(report.wrong.is_empty())
}

/// The figures of a run.
struct Report {
    seed: u64,
    began: Instant,
    rounds: u32,
    operations: usize,
    unknown: usize,
    healed: Duration,
    felt: BTreeMap<&'static str, Felt>,
    seconds: Vec<u32>,
    samples: Vec<history::Sample>,
    wrong: Vec<String>,
    count: offline::Count,
}

impl Report {
    fn new(seed: u64) -> Report {
        Report {
            seed,
            began: Instant::now(),
            rounds: 0,
            operations: 0,
            unknown: 0,
            healed: Duration::ZERO,
            felt: BTreeMap::new(),
            seconds: Vec::new(),
            samples: Vec::new(),
            wrong: Vec::new(),
            count: offline::Count::default(),
        }
    }

    fn add(&mut self, outcome: &Outcome) {
        let (operations, unknown) = outcome.book.counts();
        let samples = outcome.book.samples();
        self.rounds += 1;
        self.operations += operations;
        self.unknown += unknown;
        self.healed = self.healed.max(outcome.healed);
        timeline::merge(&mut self.felt, timeline::felt(&samples, &outcome.events));
        self.seconds.extend(timeline::per_second(&samples));
        self.samples.extend(samples);
        self.wrong.extend(outcome.wrong.iter().cloned());
    }

    fn show_round(&self, outcome: &Outcome) {
        let (operations, unknown) = outcome.book.counts();
        println!(
            "round {}: {operations} operations, {unknown} with unknown outcome, {} faults, {} ends, healthy {:.1} s after the last, {}",
            self.rounds,
            outcome.events.len(),
            outcome.ends,
            outcome.healed.as_secs_f64(),
            if outcome.wrong.is_empty() { "linearizable" } else { "WRONG" }
        );
        println!("|{}|", timeline::picture(&timeline::per_second(&outcome.book.samples())));
    }

    /// What is needed to look for the reason.
    fn keep(&self, dir: &Path, outcome: &Outcome) -> Result<()> {
        std::fs::write(dir.join("history"), outcome.book.lines())?;
        let line = |event: &Event| {
            let (began, ended) = (event.began as f64 / 1e9, event.ended as f64 / 1e9);
            format!("{began:.3} {ended:.3} {}: {}\n", event.kind, event.what)
        };
        std::fs::write(dir.join("faults"), outcome.events.iter().map(line).collect::<String>())?;
        std::fs::write(dir.join("wrong"), outcome.wrong.join("\n"))?;
        Ok(())
    }

    fn json(&self) -> Value {
        let felt = |felt: &Felt| {
            json!({
                "count": felt.count,
                "silence_s": felt.silence as f64 / 1e9,
                "longest_operation_s": felt.longest as f64 / 1e9,
            })
        };
        json!({
            "seed": self.seed,
            "seconds": self.began.elapsed().as_secs_f64(),
            "rounds": self.rounds,
            "operations": self.operations,
            "unknown": self.unknown,
            "healed_s_max": self.healed.as_secs_f64(),
            "faults": self.felt.iter().map(|(kind, f)| (kind.to_string(), felt(f))).collect::<serde_json::Map<_, _>>(),
            "classes": timeline::classes(&self.samples),
            "answers_per_second": self.seconds,
            "objects_with_all_copies": self.count.full,
            "objects_below": self.count.below,
            "objects_whole_by_audit": self.count.audited,
            "offline_read_bytes": self.count.read_bytes,
            "wrong": self.wrong,
        })
    }

    fn show(&self, as_json: bool) {
        if as_json {
            println!("{}", self.json());
            return;
        }
        println!(
            "fault          count  longest time without any answer, and of one operation, around it (s)"
        );
        for (kind, felt) in &self.felt {
            println!(
                "{kind:14} {:5}  {:8.2} {:8.2}",
                felt.count,
                felt.silence as f64 / 1e9,
                felt.longest as f64 / 1e9
            );
        }
        let classes = timeline::classes(&self.samples);
        for (name, class) in classes.as_object().into_iter().flatten() {
            println!(
                "{name:14} {} operations, {} answered, p50 {:.1} ms, p99 {:.1} ms",
                class["operations"],
                class["answered"],
                class["p50_ms"].as_f64().unwrap_or(0.0),
                class["p99_ms"].as_f64().unwrap_or(0.0)
            );
        }
        println!(
            "offline: {} objects with all copies equal, {} not, {} whole by the audit; {} bytes read",
            self.count.full.values().sum::<u64>(),
            self.count.below,
            self.count.audited,
            self.count.read_bytes
        );
        for wrong in &self.wrong {
            println!("WRONG: {wrong}");
        }
        println!(
            "{} rounds, {} operations, {} with unknown outcome, healthy at most {:.1} s after the last fault, {} wrong",
            self.rounds,
            self.operations,
            self.unknown,
            self.healed.as_secs_f64(),
            self.wrong.len()
        );
    }
}
