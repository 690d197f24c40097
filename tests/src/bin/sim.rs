//! `store-sim`: runs seeds through the simulator and exits non-zero with those that fail.
#![allow(clippy::print_stdout, clippy::disallowed_methods)]

use clap::Parser;
use std::collections::BTreeMap;
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;
use store_daemon::machine::Fault;
use store_tests::sim::run::{Options, Verdict, run};

store_shell::use_allocator!();

/// Judges the cluster's machines in a simulated world. A seed always gives the same run.
#[derive(Parser)]
struct Arguments {
    /// `A..B` (both included) or one seed.
    #[arg(long, default_value = "1..200")]
    seeds: String,
    /// Shows that planted bugs are found: each must fail within the seeds. For tests of the judge.
    #[arg(long)]
    planted_bugs: bool,
    /// Plants one bug: ack-before-durable, no-lease-wait, no-dedupe. For tests of the judge.
    #[arg(long)]
    plant: Option<String>,
    /// Prints every event of a single seed.
    #[arg(long)]
    trace: bool,
    /// Seeds at a time.
    #[arg(long, default_value_t = std::thread::available_parallelism().map_or(1, usize::from))]
    jobs: usize,
    /// Goes on behind the first failing seed.
    #[arg(long)]
    keep_going: bool,
}

const PLANTED: [(&str, Fault); 3] = [
    ("ack-before-durable", Fault::AckBeforeDurable),
    ("no-lease-wait", Fault::NoLeaseWait),
    ("no-dedupe", Fault::NoDedupe),
];

fn range(text: &str) -> Result<(u64, u64), String> {
    let wrong = || format!("--seeds {text}: write A..B, both included, or one number");
    match text.split_once("..") {
        None => text.parse().map(|seed| (seed, seed)).map_err(|_| wrong()),
        Some((from, to)) => {
            let to = to.trim_start_matches('=');
            let (from, to) = (from.parse().map_err(|_| wrong())?, to.parse().map_err(|_| wrong())?);
            if from > to { Err(wrong()) } else { Ok((from, to)) }
        }
    }
}

#[derive(Default)]
struct Tally {
    runs: u64,
    events: u64,
    operations: u64,
    unknown: u64,
    deeds: BTreeMap<&'static str, u64>,
    failed: Vec<(u64, Verdict)>,
}

fn run_all(seeds: (u64, u64), options: Options, jobs: usize, keep_going: bool) -> Tally {
    let next = AtomicU64::new(seeds.0);
    let stop = AtomicBool::new(false);
    let tally = Mutex::new(Tally::default());
    std::thread::scope(|scope| {
        for _ in 0..jobs.max(1) {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed > seeds.1 {
                        break;
                    }
                    let verdict = judge(seed, options);
                    let mut tally = tally.lock().unwrap_or_else(|broken| broken.into_inner());
                    tally.runs += 1;
                    tally.events += verdict.events;
                    tally.operations += verdict.operations.0;
                    tally.unknown += verdict.operations.1;
                    for (deed, count) in &verdict.deeds {
                        *tally.deeds.entry(deed).or_default() += count;
                    }
                    if !verdict.broken.is_empty() {
                        tally.failed.push((seed, verdict));
                        if !keep_going {
                            stop.store(true, Ordering::Relaxed);
                        }
                    }
                }
            });
        }
    });
    tally.into_inner().unwrap_or_else(|broken| broken.into_inner())
}

/// A panic of a machine (a broken promise of its own) is a verdict like any other.
fn judge(seed: u64, options: Options) -> Verdict {
    std::panic::catch_unwind(|| run(seed, options)).unwrap_or_else(|panic| {
        let text = panic
            .downcast_ref::<String>()
            .cloned()
            .or_else(|| panic.downcast_ref::<&str>().map(|s| (*s).to_owned()))
            .unwrap_or_else(|| "a panic without words".to_owned());
        Verdict {
            broken: vec![format!("panic: {text}")],
            at: store_base::Time::ZERO,
            events: 0,
            operations: (0, 0),
            deeds: BTreeMap::new(),
        }
    })
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let seeds = match range(&arguments.seeds) {
        Ok(seeds) => seeds,
        Err(why) => {
            println!("{why}");
            return ExitCode::from(2);
        }
    };
    if arguments.planted_bugs {
        return find_planted(seeds, arguments.jobs);
    }
    let planted = match &arguments.plant {
        None => Fault::None,
        Some(name) => match PLANTED.iter().find(|(known, _)| known == name) {
            Some((_, fault)) => *fault,
            None => {
                println!("--plant {name}: one of {:?}", PLANTED.map(|(name, _)| name));
                return ExitCode::from(2);
            }
        },
    };
    let began = Instant::now();
    let options = Options { planted, trace: arguments.trace };
    let jobs = if arguments.trace { 1 } else { arguments.jobs };
    let tally = run_all(seeds, options, jobs, arguments.keep_going);
    println!(
        "{} seeds, {} events, {} operations ({} of unknown outcome), {:.1} s",
        tally.runs,
        tally.events,
        tally.operations,
        tally.unknown,
        began.elapsed().as_secs_f64()
    );
    println!("done to the clusters: {:?}", tally.deeds);
    for (seed, verdict) in &tally.failed {
        println!("FAILED: seed {seed}, at {}", verdict.at);
        verdict.broken.iter().take(5).for_each(|what| println!("  {what}"));
        println!("  replay: store-sim --seeds {seed} --trace");
    }
    println!(
        "simulation: {} passed, {} failed",
        tally.runs - tally.failed.len() as u64,
        tally.failed.len()
    );
    if tally.failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Each planted bug must be found within the seeds.
fn find_planted(seeds: (u64, u64), jobs: usize) -> ExitCode {
    std::panic::set_hook(Box::new(|_| {}));
    let mut missed = 0;
    for (name, planted) in PLANTED {
        let began = Instant::now();
        let tally = run_all(seeds, Options { planted, trace: false }, jobs, false);
        match tally.failed.iter().min_by_key(|(seed, _)| seed) {
            Some((seed, verdict)) => println!(
                "planted {name}: found by seed {seed} after {} runs, {:.1} s: {}",
                tally.runs,
                began.elapsed().as_secs_f64(),
                verdict.broken[0].chars().take(160).collect::<String>()
            ),
            None => {
                println!("planted {name}: NOT FOUND in {} runs", tally.runs);
                missed += 1;
            }
        }
    }
    println!("planted bugs: {} passed, {missed} failed", PLANTED.len() - missed);
    if missed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
