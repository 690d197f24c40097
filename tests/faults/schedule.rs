//! Which fault when, by the seed: up to a few at a time, each for its own time, with the bound of lasting loss.

use crate::cluster::{Cluster, not_healthy};
use crate::fault::{Fault, KINDS, LASTING, Maker, Place};
use crate::history::Book;
use crate::round::Harm;
use anyhow::{Result, bail};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};
use store_tests::sim::random::Random;

/// Faults under way at a time, at most.
const TOGETHER_MAX: usize = 3;
/// How often what is due is looked at.
const TICK: Duration = Duration::from_millis(50);
/// How long one that loses copies waits for the end of all others.
const LASTING_WAIT: Duration = Duration::from_secs(30);
/// How often it is looked whether all copies are there again.
const LOOK: Duration = Duration::from_secs(1);

/// One fault as it was, for the figures and the log.
#[derive(Clone, Debug)]
pub(crate) struct Event {
    pub(crate) kind: &'static str,
    pub(crate) what: String,
    /// Nanoseconds since the round began.
    pub(crate) began: u64,
    pub(crate) ended: u64,
}

/// How far the last flipped bits are from being mended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Rot {
    /// There are none, as far as is known.
    None,
    /// There may be some.
    Fresh,
    /// Every byte is being read.
    Searched,
}

/// What goes on from round to round.
pub(crate) struct Schedule {
    random: Random,
    kinds: Vec<(&'static str, u64)>,
    /// Copies were lost, and are not known to be there again.
    lost_copies: bool,
    rot: Rot,
    /// A fault of the lasting kind that waits until nothing else is wrong, and since when it does.
    wanted: Option<(&'static str, Instant)>,
    /// Ids whose disks were destroyed: out now, removed when all copies are there again.
    lost_ids: Vec<i32>,
    /// Commands that must yet go through.
    chores: Vec<Value>,
    looked: Instant,
    verbose: bool,
}

impl Schedule {
    pub(crate) fn new(seed: u64, kinds: Vec<(&'static str, u64)>, verbose: bool) -> Schedule {
        Schedule {
            random: Random::new(seed),
            kinds,
            lost_copies: false,
            rot: Rot::None,
            wanted: None,
            lost_ids: Vec::new(),
            chores: Vec::new(),
            looked: Instant::now(),
            verbose,
        }
    }

    /// Kinds by name, or all of them.
    pub(crate) fn kinds(only: &[String], without: &[String]) -> Result<Vec<(&'static str, u64)>> {
        if let Some(unknown) =
            only.iter().chain(without).find(|name| KINDS.iter().all(|(kind, _)| kind != name))
        {
            let all: Vec<_> = KINDS.iter().map(|(kind, _)| *kind).collect();
            anyhow::bail!("there is no fault {unknown:?}: choose among {}", all.join(", "));
        }
        let chosen = |kind: &str| {
            (only.is_empty() || only.iter().any(|name| name == kind))
                && !without.iter().any(|name| name == kind)
        };
        Ok(KINDS.into_iter().filter(|(kind, _)| chosen(kind)).collect())
    }

    fn begin(
        &mut self,
        cluster: &mut Cluster,
        book: &Book,
        active: &[(Fault, Event)],
        known: &dyn Fn() -> BTreeMap<u64, usize>,
    ) -> Result<Option<(Fault, Event)>> {
        let (kind, since) = match self.wanted.take() {
            Some(wanted) => wanted,
            None => (self.choose(), Instant::now()),
        };
        if LASTING.contains(&kind) {
            if self.lost_copies || self.rot != Rot::None {
                return Ok(None);
            }
            if !active.is_empty() || !cluster.is_clean() {
                self.wanted = (since.elapsed() < LASTING_WAIT).then_some((kind, since));
                return Ok(None);
            }
        }
        let held: Vec<Place> = active.iter().flat_map(|(fault, _)| fault.holds.clone()).collect();
        let known = if kind == "rot" { known() } else { BTreeMap::new() };
        let began = book.now();
        let mut maker = Maker { cluster, random: &mut self.random, held: &held, known: &known };
        let Some(fault) = maker.begin(kind)? else { return Ok(None) };
        self.lost_copies |= kind == "wipe";
        if kind == "rot" {
            self.rot = Rot::Fresh;
        }
        if ["rot", "read-error"].contains(&kind) {
            book.damage();
        }
        if let Some(id) = fault.lost {
            self.lost_ids.push(id);
            self.chores.push(json!({"prefix": "osd out", "ids": [id.to_string()]}));
        }
        if self.verbose {
            println!("{:8.2} {kind}: {}", began as f64 / 1e9, fault.what);
        }
        let event = Event { kind, what: fault.what.clone(), began, ended: began };
        Ok(Some((fault, event)))
    }

    /// A kind, by the weights.
    fn choose(&mut self) -> &'static str {
        let all: u64 = self.kinds.iter().map(|(_, weight)| weight).sum();
        let mut at = self.random.below(all);
        let chosen = self.kinds.iter().find(|(_, weight)| {
            let here = at < *weight;
            at = at.saturating_sub(*weight);
            here
        });
        chosen.expect("the number is below the sum of the weights").0
    }

    /// Has every byte read after bits were flipped, and learns when that is done.
    fn search_rot(&mut self, cluster: &Cluster) {
        match self.rot {
            Rot::None => {}
            Rot::Fresh if cluster.has_all_copies() => {
                let order = cluster.command(&json!({"prefix": "scrub start", "deep": true}));
                if order.is_ok() {
                    self.rot = Rot::Searched;
                }
            }
            Rot::Fresh => {}
            Rot::Searched => {
                let Ok(status) = cluster.command(&json!({"prefix": "scrub status"})) else {
                    return;
                };
                let is_over = status["orders"].as_array().is_some_and(Vec::is_empty);
                if is_over && cluster.has_all_copies() {
                    // What could not be mended while other faults went on can be now.
                    self.rot = match status["errors"]["unrepaired"] == 0 {
                        true => Rot::None,
                        false => Rot::Fresh,
                    };
                }
            }
        }
    }

    /// Sends commands that wait, and looks whether all copies are there again.
    fn look_after(&mut self, cluster: &mut Cluster) {
        let is_idle = self.chores.is_empty() && !self.lost_copies && self.rot == Rot::None;
        if self.looked.elapsed() < LOOK || is_idle {
            return;
        }
        self.looked = Instant::now();
        self.chores.retain(|chore| cluster.command(chore).is_err());
        self.search_rot(cluster);
        if self.chores.is_empty() && self.lost_copies && cluster.is_clean() {
            self.lost_copies = false;
            for id in std::mem::take(&mut self.lost_ids) {
                self.chores.push(json!({
                    "prefix": "osd rm", "id": id.to_string(), "sure": "--yes-i-really-mean-it",
                }));
            }
        }
    }
}

impl Harm for Schedule {
    fn run(
        &mut self,
        cluster: &mut Cluster,
        book: &Book,
        length: Duration,
        known: &dyn Fn() -> BTreeMap<u64, usize>,
    ) -> Result<Vec<Event>> {
        let until = Instant::now() + length;
        let mut active: Vec<(Fault, Event)> = Vec::new();
        let mut events = Vec::new();
        let mut next = Instant::now() + Duration::from_secs(2);
        while Instant::now() < until && !crate::interrupted() {
            cluster.tend()?;
            end(cluster, book, &mut active, &mut events, false)?;
            self.look_after(cluster);
            if Instant::now() >= next && active.len() < TOGETHER_MAX {
                if let Some(fault) = self.begin(cluster, book, &active, known)? {
                    active.push(fault);
                }
                next = Instant::now()
                    + self.random.between(Duration::from_millis(200), Duration::from_secs(6));
            }
            std::thread::sleep(TICK);
        }
        end(cluster, book, &mut active, &mut events, true)?;
        Ok(events)
    }

    fn heal(&mut self, cluster: &mut Cluster, patience: Duration) -> Result<Duration> {
        let began = Instant::now();
        loop {
            cluster.tend()?;
            self.look_after(cluster);
            let lacks = match cluster.command(&json!({"prefix": "status"})) {
                Ok(_) if self.lost_copies || !self.chores.is_empty() => {
                    Some("copies are missing".to_string())
                }
                Ok(status) if self.rot != Rot::None => Some(
                    not_healthy(&status).unwrap_or_else(|| "not every byte was read yet".into()),
                ),
                Ok(status) => not_healthy(&status),
                Err(error) => Some(error.to_string()),
            };
            let Some(lacks) = lacks else { return Ok(began.elapsed()) };
            if lacks.contains("OSD_DAMAGED") {
                clear_damage(cluster);
            }
            if began.elapsed() > patience {
                bail!("not healthy {} s after the last fault: {lacks}", patience.as_secs());
            }
            if crate::interrupted() {
                bail!("interrupted");
            }
            std::thread::sleep(2 * TICK);
        }
    }
}

/// The damage was made here; the warning would stay for a day.
fn clear_damage(cluster: &Cluster) {
    let ids: Vec<String> = cluster.daemons.iter().map(|daemon| daemon.id.to_string()).collect();
    // If the monitor does not answer, it is asked again with the next look.
    let _ = cluster.command(&json!({"prefix": "osd clear-damage", "ids": ids}));
}

fn end(
    cluster: &mut Cluster,
    book: &Book,
    active: &mut Vec<(Fault, Event)>,
    events: &mut Vec<Event>,
    all: bool,
) -> Result<()> {
    let mut left = Vec::new();
    for (mut fault, mut event) in active.drain(..) {
        match fault.end(cluster, all)? {
            true => {
                event.ended = book.now();
                events.push(event);
            }
            false => left.push((fault, event)),
        }
    }
    *active = left;
    Ok(())
}
