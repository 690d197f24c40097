//! `store-sim`: runs seeds through the simulator and exits non-zero with those that fail.
#![allow(clippy::print_stdout, clippy::disallowed_methods)]

use clap::Parser;
use std::collections::BTreeMap;
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};
use store_tests::sim::minimise::minimise;
use store_tests::sim::planted::{self, PLANTED, Planted};
use store_tests::sim::reached::STATES;
use store_tests::sim::run::{Options, Verdict, run_caught};
use store_tests::sim::schedule::Schedule;
use store_tests::sim::steps::{self, Steps};

store_shell::use_allocator!();

/// Judges the cluster's machines in a simulated world. A seed always gives the same run.
#[derive(Parser)]
struct Arguments {
    /// `A..B` (both included) or one seed.
    #[arg(long, default_value = "1..300")]
    seeds: String,
    /// Runs fresh seeds, that no run had before, for so many seconds.
    #[arg(long)]
    fresh: Option<u64>,
    /// A night's work: 20,000 fixed seeds, two hours of fresh ones, every planted bug.
    #[arg(long)]
    nightly: bool,
    /// Fails if a state that must be reached was not. For the fixed seeds.
    #[arg(long)]
    must_reach: bool,
    /// Prints how often each state of interest was reached.
    #[arg(long)]
    reached: bool,
    /// Shows that planted bugs are found: each must fail within the seeds. For tests of the judge.
    #[arg(long)]
    planted_bugs: bool,
    /// Plants one bug; `list` names them. For tests of the judge.
    #[arg(long)]
    plant: Option<String>,
    /// Runs this schedule instead of seeds.
    #[arg(long)]
    schedule: Option<String>,
    /// Prints the schedule of a seed, to be changed by hand.
    #[arg(long)]
    print_schedule: Option<u64>,
    /// Shortens the schedule of a failing seed, or the one given, and prints what is left.
    #[arg(long)]
    minimise: Option<Option<u64>>,
    /// Runs that the shortening may take.
    #[arg(long, default_value_t = 1500)]
    runs_max: u64,
    /// Prints the event log of a single seed.
    #[arg(long)]
    steps: bool,
    /// Of the event log, only what is about this placement group, or about none.
    #[arg(long)]
    pg: Option<String>,
    /// Of the event log, only what names this node: mon, d2, c0.
    #[arg(long)]
    node: Option<String>,
    /// Seeds at a time.
    #[arg(long, default_value_t = std::thread::available_parallelism().map_or(1, usize::from))]
    jobs: usize,
    /// Goes on behind the first failing seed.
    #[arg(long)]
    keep_going: bool,
}

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
    reached: BTreeMap<&'static str, u64>,
    failed: Vec<(u64, Verdict)>,
}

/// Which seeds, and when to stop.
struct Batch {
    seeds: (u64, u64),
    until: Option<Instant>,
    jobs: usize,
    keep_going: bool,
}

impl Batch {
    fn run(&self, options: &Options) -> Tally {
        let next = AtomicU64::new(self.seeds.0);
        let stop = AtomicBool::new(false);
        let tally = Mutex::new(Tally::default());
        std::thread::scope(|scope| {
            for _ in 0..self.jobs.max(1) {
                scope.spawn(|| self.work(options, &next, &stop, &tally));
            }
        });
        let mut tally = tally.into_inner().unwrap_or_else(|broken| broken.into_inner());
        tally.failed.sort_by_key(|(seed, _)| *seed);
        tally
    }

    fn work(&self, options: &Options, next: &AtomicU64, stop: &AtomicBool, tally: &Mutex<Tally>) {
        while !stop.load(Ordering::Relaxed) {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            let is_late = self.until.is_some_and(|until| Instant::now() >= until);
            if seed > self.seeds.1 || is_late {
                break;
            }
            let verdict = run_caught(&options.planted.draw(seed), options);
            let mut tally = tally.lock().unwrap_or_else(|broken| broken.into_inner());
            tally.take(seed, verdict);
            if !tally.failed.is_empty() && !self.keep_going {
                stop.store(true, Ordering::Relaxed);
            }
        }
    }
}

impl Tally {
    fn take(&mut self, seed: u64, verdict: Verdict) {
        self.runs += 1;
        self.events += verdict.events;
        self.operations += verdict.operations.0;
        self.unknown += verdict.operations.1;
        for (deed, count) in &verdict.deeds {
            *self.deeds.entry(deed).or_default() += count;
        }
        for (state, count) in &verdict.reached.counts {
            *self.reached.entry(state).or_default() += count;
        }
        if !verdict.broken.is_empty() {
            self.failed.push((seed, verdict));
        }
    }

    fn print(&self, began: Instant) {
        let seconds = began.elapsed().as_secs_f64();
        println!(
            "{} seeds, {} events, {} operations ({} of unknown outcome), {seconds:.1} s",
            self.runs, self.events, self.operations, self.unknown,
        );
        println!("done to the clusters: {:?}", self.deeds);
        for (seed, verdict) in &self.failed {
            println!("FAILED: seed {seed}, at {}", verdict.at);
            verdict.broken.iter().take(5).for_each(|what| println!("  {what}"));
            println!("  replay: store-sim --seeds {seed} --steps [--pg 1.0] [--node d2]");
            println!("  shorten: store-sim --minimise {seed}");
        }
    }

    /// States that must be reached and were not.
    fn missed(&self) -> Vec<&'static str> {
        let missed = STATES.iter().filter(|state| state.must);
        missed.map(|state| state.name).filter(|name| !self.reached.contains_key(name)).collect()
    }

    fn print_reached(&self) {
        println!("states reached:");
        for state in STATES {
            let count = self.reached.get(state.name).copied().unwrap_or(0);
            println!("  {count:8}  {}", state.name);
        }
    }
}

fn main() -> ExitCode {
    match command(&Arguments::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(why) => {
            println!("{why}");
            ExitCode::from(2)
        }
    }
}

fn options(arguments: &Arguments) -> Result<Options, String> {
    let planted = match arguments.plant.as_deref() {
        None => Planted::default(),
        Some(name) => planted::find(name).ok_or_else(|| {
            let names: Vec<&str> = PLANTED.iter().map(|planted| planted.name).collect();
            format!("--plant: one of {}", names.join(", "))
        })?,
    };
    let pg = arguments.pg.as_deref().map(str::parse).transpose();
    let pg = pg.map_err(|_| "--pg: POOL.SEED, as in 1.3".to_string())?;
    let node = match arguments.node.as_deref() {
        None => None,
        Some(name) => Some(steps::node(name).ok_or("--node: mon, d2 or c0")?),
    };
    let steps = Steps { print: arguments.steps, pg, node, ..Steps::default() };
    Ok(Options { planted, steps })
}

/// Whether all is well; the error says what was wrongly asked for.
fn command(arguments: &Arguments) -> Result<bool, String> {
    let options = options(arguments)?;
    let file = match &arguments.schedule {
        None => None,
        Some(file) => {
            let text = std::fs::read_to_string(file).map_err(|error| format!("{file}: {error}"))?;
            Some(Schedule::from_text(&text).map_err(|why| format!("{file}: {why}"))?)
        }
    };
    if let Some(seed) = arguments.print_schedule {
        print!("{}", options.planted.draw(seed).to_text());
        return Ok(true);
    }
    if let Some(seed) = arguments.minimise {
        let drawn = seed.map(|seed| options.planted.draw(seed));
        let schedule = drawn.or(file).ok_or("--minimise SEED, or --schedule")?;
        return Ok(shorten(&schedule, &options, arguments.runs_max));
    }
    if let Some(schedule) = file {
        let verdict = run_caught(&schedule, &options);
        verdict.broken.iter().for_each(|what| println!("  {what}"));
        println!(
            "{} at {}",
            if verdict.broken.is_empty() { "clean" } else { "FAILED" },
            verdict.at
        );
        return Ok(verdict.broken.is_empty());
    }
    if arguments.nightly {
        return Ok(nightly(arguments, &options));
    }
    let seeds = range(&arguments.seeds)?;
    if arguments.planted_bugs {
        return Ok(find_planted(seeds, arguments.jobs));
    }
    match arguments.fresh {
        Some(seconds) => Ok(fresh(arguments, &options, Duration::from_secs(seconds))),
        None => Ok(fixed(arguments, &options, seeds)),
    }
}

fn fixed(arguments: &Arguments, options: &Options, seeds: (u64, u64)) -> bool {
    let jobs = if arguments.steps { 1 } else { arguments.jobs };
    let batch = Batch { seeds, until: None, jobs, keep_going: arguments.keep_going };
    let mut ok = finish(&batch, options, arguments.reached || arguments.must_reach);
    if arguments.must_reach {
        let missed = ok.1.missed();
        missed.iter().for_each(|state| println!("never reached: {state}"));
        ok.0 &= missed.is_empty();
    }
    ok.0
}

/// Seeds by the clock, that no run had before.
fn fresh(arguments: &Arguments, options: &Options, lasts: Duration) -> bool {
    let since_1970 = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let first = since_1970.map_or(0, |since| since.as_secs()) * 1000;
    println!("fresh seeds from {first}");
    let until = Some(Instant::now() + lasts);
    let (jobs, keep_going) = (arguments.jobs, arguments.keep_going);
    finish(&Batch { seeds: (first, u64::MAX), until, jobs, keep_going }, options, false).0
}

fn finish(batch: &Batch, options: &Options, reached: bool) -> (bool, Tally) {
    let began = Instant::now();
    let tally = batch.run(options);
    tally.print(began);
    if reached {
        tally.print_reached();
    }
    let failed = tally.failed.len() as u64;
    println!("simulation: {} passed, {failed} failed", tally.runs - failed);
    (failed == 0, tally)
}

fn nightly(arguments: &Arguments, options: &Options) -> bool {
    const FIXED: (u64, u64) = (1, 20_000);
    const FRESH: Duration = Duration::from_secs(2 * 3600);
    let batch = Batch { seeds: FIXED, until: None, jobs: arguments.jobs, keep_going: true };
    let (mut ok, tally) = finish(&batch, options, true);
    ok &= tally.missed().is_empty();
    ok &= fresh(arguments, options, FRESH);
    ok & find_planted(FIXED, arguments.jobs)
}

fn shorten(schedule: &Schedule, options: &Options, runs_max: u64) -> bool {
    std::panic::set_hook(Box::new(|_| {}));
    let quiet = Options { steps: Steps::default(), ..options.clone() };
    let Some(minimal) = minimise(schedule, &quiet, runs_max) else {
        println!("it does not fail");
        return true;
    };
    println!("# after {} runs, at {}", minimal.runs, minimal.verdict.at);
    minimal.verdict.broken.iter().take(3).for_each(|what| println!("# {what}"));
    print!("{}", minimal.schedule.to_text());
    false
}

/// Each planted bug must be found within the seeds.
fn find_planted(seeds: (u64, u64), jobs: usize) -> bool {
    std::panic::set_hook(Box::new(|_| {}));
    let mut missed = 0;
    for planted in PLANTED {
        let began = Instant::now();
        let options = Options { planted: *planted, ..Options::default() };
        let batch = Batch { seeds, until: None, jobs, keep_going: false };
        let tally = batch.run(&options);
        let name = planted.name;
        match tally.failed.first() {
            Some((seed, verdict)) => println!(
                "planted {name}: seed {seed}, {} runs, {:.1} s: {}",
                tally.runs,
                began.elapsed().as_secs_f64(),
                verdict.broken[0].chars().take(140).collect::<String>()
            ),
            None => {
                println!("planted {name}: NOT FOUND in {} runs", tally.runs);
                missed += 1;
            }
        }
    }
    println!("planted bugs: {} passed, {missed} failed", PLANTED.len() - missed);
    missed == 0
}
