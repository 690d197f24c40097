//! The faults: what each does when it begins, and when and how it ends.
//!
//! | kind | what |
//! |---|---|
//! | `kill` | one service, SIGKILL; started again later |
//! | `kill-some` | several daemons within a second; started again one by one |
//! | `power-loss` | everything, SIGKILL; started again one by one |
//! | `stop` | a daemon, by SIGTERM as an operator does it; started again later |
//! | `freeze` | a service, SIGSTOP; shorter and longer than leases and reports of silence |
//! | `cut` | one way or both between two nodes: daemons, daemon and monitor, client or gateway and daemon |
//! | `island` | a daemon from every other daemon, from all but some, or from everybody; one way or both |
//! | `refuse` | connections between two daemons are reset |
//! | `loss` | some of a hundred packets to a node |
//! | `slow-link` | a node's link at a few megabits |
//! | `write-error`, `no-room`, `read-error`, `slow-disk` | calls of a daemon's medium |
//! | `clock` | a service's wall clock jumps, up to hours, and back |
//! | `wipe` | a daemon's disk is destroyed; a new daemon comes in its place |
//! | `rot` | bits flip on the disk of a stopped daemon |
//!
//! The last two lose copies for good, so they are bound: only from a cluster with all its copies, and not
//! again before it has them again (`schedule.rs`). Everything else may come together in any combination.

use crate::cluster::{Cluster, Service};
use crate::disk::{Injection, Trouble, flip_bits};
use crate::net::Node;
use anyhow::{Context, Result};
use rustix::process::Signal;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};
use store_tests::sim::random::Random;

/// How long an orderly end may take before it is taken for a hang.
const STOP_PATIENCE: Duration = Duration::from_secs(20);

/// Kinds, with how often each is chosen.
pub(crate) const KINDS: [(&str, u64); 17] = [
    ("kill", 10),
    ("kill-some", 3),
    ("power-loss", 2),
    ("stop", 3),
    ("freeze", 9),
    ("cut", 12),
    ("island", 8),
    ("refuse", 3),
    ("loss", 4),
    ("slow-link", 2),
    ("write-error", 3),
    ("no-room", 3),
    ("read-error", 3),
    ("slow-disk", 3),
    ("clock", 5),
    ("wipe", 2),
    ("rot", 2),
];

/// Kinds that lose copies for good.
pub(crate) const LASTING: [&str; 2] = ["wipe", "rot"];

/// A service of the cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Place {
    Monitor,
    Daemon(usize),
    Gateway(usize),
}

impl Place {
    pub(crate) fn of(self, cluster: &mut Cluster) -> &mut Service {
        match self {
            Place::Monitor => &mut cluster.monitor,
            Place::Daemon(i) => &mut cluster.daemons[i].service,
            Place::Gateway(i) => &mut cluster.gateways[i],
        }
    }
}

/// How a part of a fault ends.
enum Undo {
    Start(Place),
    Continue(Place),
    Mend(Vec<(Node, Node)>),
    Accept(Vec<(Node, Node)>),
    KeepPackets(Node),
    FastLink(Node),
    Release(Injection),
    SetClock(Place),
    Replace(usize),
}

/// A fault under way.
pub(crate) struct Fault {
    /// In words, for the log.
    pub(crate) what: String,
    /// Services whose processes it holds: no other fault touches these.
    pub(crate) holds: Vec<Place>,
    /// The daemon id that is lost with its disk.
    pub(crate) lost: Option<i32>,
    undo: Vec<(Instant, Undo)>,
}

impl Fault {
    fn new(what: String) -> Fault {
        Fault { what, holds: Vec::new(), lost: None, undo: Vec::new() }
    }

    fn until(mut self, after: Duration, undo: Undo) -> Fault {
        self.undo.push((Instant::now() + after, undo));
        self
    }

    fn holding(mut self, place: Place) -> Fault {
        self.holds.push(place);
        self
    }

    /// Ends what is due, or all of it; whether nothing is left.
    pub(crate) fn end(&mut self, cluster: &mut Cluster, all: bool) -> Result<bool> {
        let now = Instant::now();
        while let Some(at) = self.undo.iter().position(|(due, _)| all || *due <= now) {
            let (_, undo) = self.undo.remove(at);
            undo.perform(cluster)?;
        }
        Ok(self.undo.is_empty())
    }
}

impl Undo {
    fn perform(self, cluster: &mut Cluster) -> Result<()> {
        match self {
            Undo::Start(place) => cluster.start_service(place),
            Undo::Continue(place) => {
                place.of(cluster).signal(Signal::CONT);
                Ok(())
            }
            Undo::Mend(ways) => ways.iter().try_for_each(|(from, to)| cluster.net.mend(from, to)),
            Undo::Accept(ways) => {
                ways.iter().try_for_each(|(from, to)| cluster.net.accept(from, to))
            }
            Undo::KeepPackets(node) => cluster.net.lose(&node, 0),
            Undo::FastLink(node) => cluster.net.slow(&node, None),
            Undo::Release(injection) => {
                drop(injection);
                Ok(())
            }
            Undo::SetClock(place) => set_clock(place.of(cluster), 0),
            Undo::Replace(i) => cluster.replace(i),
        }
    }
}

/// Seconds between two, evenly; the two may be fractions.
fn seconds(random: &mut Random, low: f64, high: f64) -> Duration {
    random.between(Duration::from_secs_f64(low), Duration::from_secs_f64(high))
}

/// What a fault is made from.
pub(crate) struct Maker<'a> {
    pub(crate) cluster: &'a mut Cluster,
    pub(crate) random: &'a mut Random,
    /// Services that other faults hold.
    pub(crate) held: &'a [Place],
    /// Bytes of values that are on the disks, by value.
    pub(crate) known: &'a BTreeMap<u64, usize>,
}

impl Maker<'_> {
    /// Begins a fault of a kind; `None` if there is nothing free to which it could be done.
    pub(crate) fn begin(&mut self, kind: &'static str) -> Result<Option<Fault>> {
        match kind {
            "kill" => self.kill(),
            "kill-some" => self.kill_some(),
            "power-loss" => self.power_loss(),
            "stop" => self.stop(),
            "freeze" => self.freeze(),
            "cut" => self.cut(),
            "island" => self.island(),
            "refuse" => self.refuse(),
            "loss" => self.loss(),
            "slow-link" => self.slow_link(),
            "write-error" => {
                self.trouble(kind, |random| Trouble::WriteError { one_of: 1 + random.below(50) })
            }
            "no-room" => {
                self.trouble(kind, |random| Trouble::NoRoom { one_of: 1 + random.below(20) })
            }
            "read-error" => {
                self.trouble(kind, |random| Trouble::ReadError { one_of: 1 + random.below(20) })
            }
            "slow-disk" => {
                self.trouble(kind, |random| Trouble::Slow { micros: 2_000 << random.below(9) })
            }
            "clock" => self.clock(),
            "wipe" => self.wipe(),
            "rot" => self.rot(),
            _ => anyhow::bail!("there is no fault {kind:?}"),
        }
    }

    fn free(&self, places: impl Iterator<Item = Place>) -> Vec<Place> {
        places.filter(|place| !self.held.contains(place)).collect()
    }

    fn daemons(&self) -> Vec<Place> {
        self.free((0..self.cluster.daemons.len()).map(Place::Daemon))
    }

    fn services(&self) -> Vec<Place> {
        let gateways = (0..self.cluster.gateways.len()).map(Place::Gateway);
        let mut services = self.daemons();
        // Daemons are what it is about: they come twice.
        services.extend(services.clone());
        services.extend(self.free(gateways.chain([Place::Monitor])));
        services
    }

    fn a_daemon(&mut self) -> Option<usize> {
        let daemons = self.daemons();
        match self.random.pick(&daemons) {
            Some(Place::Daemon(i)) => Some(*i),
            _ => None,
        }
    }

    fn a_service(&mut self) -> Option<Place> {
        let services = self.services();
        self.random.pick(&services).copied()
    }

    fn down_time(&mut self) -> Duration {
        match self.random.below(4) {
            0 => Duration::ZERO,
            1 | 2 => seconds(self.random, 0.5, 6.0),
            _ => seconds(self.random, 6.0, 25.0),
        }
    }

    fn kill(&mut self) -> Result<Option<Fault>> {
        let Some(place) = self.a_service() else { return Ok(None) };
        let service = place.of(self.cluster);
        service.kill();
        let name = service.name.clone();
        let after = self.down_time();
        let fault = Fault::new(format!("{name} for {:.1} s", after.as_secs_f64()));
        Ok(Some(fault.holding(place).until(after, Undo::Start(place))))
    }

    fn kill_some(&mut self) -> Result<Option<Fault>> {
        let mut daemons = self.daemons();
        let count = 2 + self.random.below(self.cluster.daemons.len() as u64 - 1) as usize;
        let mut fault = Fault::new(String::new());
        while fault.holds.len() < count && !daemons.is_empty() {
            let at = self.random.below(daemons.len() as u64) as usize;
            let place = daemons.swap_remove(at);
            place.of(self.cluster).kill();
            let after = seconds(self.random, 0.0, 12.0);
            fault = fault.holding(place).until(after, Undo::Start(place));
            std::thread::sleep(seconds(self.random, 0.0, 0.3));
        }
        fault.what = format!("{:?}", fault.holds);
        Ok(Some(fault).filter(|fault| !fault.holds.is_empty()))
    }

    fn power_loss(&mut self) -> Result<Option<Fault>> {
        if !self.held.is_empty() {
            return Ok(None);
        }
        let gateways = (0..self.cluster.gateways.len()).map(Place::Gateway);
        let daemons = (0..self.cluster.daemons.len()).map(Place::Daemon);
        let all: Vec<Place> = daemons.chain(gateways).chain([Place::Monitor]).collect();
        let mut fault = Fault::new("everything".into());
        // All are told first, and waited for then: as close together as it gets.
        all.iter().for_each(|place| place.of(self.cluster).signal(Signal::KILL));
        for place in all {
            place.of(self.cluster).kill();
            let after = seconds(self.random, 0.0, 8.0);
            fault = fault.holding(place).until(after, Undo::Start(place));
        }
        Ok(Some(fault))
    }

    fn stop(&mut self) -> Result<Option<Fault>> {
        let Some(i) = self.a_daemon() else { return Ok(None) };
        let service = &mut self.cluster.daemons[i].service;
        service.held = true;
        let name = service.name.clone();
        let Some(process) = service.process.take() else {
            service.held = false;
            return Ok(None);
        };
        let began = Instant::now();
        let orderly = process.stop(STOP_PATIENCE);
        let how = if orderly { "ended after" } else { "DID NOT END, killed after" };
        let after = self.down_time();
        let what = format!(
            "{name}: {how} {:.2} s, down for {:.1} s",
            began.elapsed().as_secs_f64(),
            after.as_secs_f64()
        );
        let place = Place::Daemon(i);
        Ok(Some(Fault::new(what).holding(place).until(after, Undo::Start(place))))
    }

    fn freeze(&mut self) -> Result<Option<Fault>> {
        let Some(place) = self.a_service() else { return Ok(None) };
        let after = match self.random.below(3) {
            0 => seconds(self.random, 0.1, 0.9),  // shorter than a lease
            1 => seconds(self.random, 1.1, 3.9),  // longer than a lease, shorter than a silence
            _ => seconds(self.random, 4.5, 20.0), // reported, and marked down
        };
        let service = place.of(self.cluster);
        service.signal(Signal::STOP);
        let what = format!("{} for {:.1} s", service.name, after.as_secs_f64());
        Ok(Some(Fault::new(what).holding(place).until(after, Undo::Continue(place))))
    }

    /// Nodes of daemons, with those that talk to them.
    fn two_nodes(&mut self) -> Option<(Node, Node)> {
        let count = self.cluster.daemons.len() as u64;
        let daemon = self.random.below(count) as usize;
        let other = match self.random.below(6) {
            0..=2 => {
                let other = (daemon + 1 + self.random.below(count - 1) as usize) % count as usize;
                self.cluster.daemons[other].service.node.clone()
            }
            3 => self.cluster.monitor.node.clone(),
            4 => self.random.pick(&self.cluster.clients)?.clone(),
            _ => {
                let at = self.random.below(self.cluster.gateways.len() as u64) as usize;
                self.cluster.gateways[at].node.clone()
            }
        };
        Some((self.cluster.daemons[daemon].service.node.clone(), other))
    }

    /// Which of the two directions are shut.
    fn directions(&mut self, one: &Node, other: &Node, chosen: u64) -> Vec<(Node, Node)> {
        let (there, back) = ((one.clone(), other.clone()), (other.clone(), one.clone()));
        match chosen {
            0 => vec![there],
            1 => vec![back],
            _ => vec![there, back],
        }
    }

    fn shut(&mut self, ways: Vec<(Node, Node)>) -> Result<Option<Fault>> {
        ways.iter().try_for_each(|(from, to)| self.cluster.net.cut(from, to))?;
        let after = match self.random.below(3) {
            0 => seconds(self.random, 0.2, 2.0),
            1 => seconds(self.random, 2.0, 8.0),
            _ => seconds(self.random, 8.0, 25.0),
        };
        let shown: Vec<_> =
            ways.iter().map(|(from, to)| format!("{}>{}", from.name, to.name)).collect();
        let what = format!("{} for {:.1} s", shown.join(" "), after.as_secs_f64());
        Ok(Some(Fault::new(what).until(after, Undo::Mend(ways))))
    }

    fn cut(&mut self) -> Result<Option<Fault>> {
        let Some((one, other)) = self.two_nodes() else { return Ok(None) };
        let chosen = self.random.below(3);
        let ways = self.directions(&one, &other, chosen);
        self.shut(ways)
    }

    fn island(&mut self) -> Result<Option<Fault>> {
        let at = self.random.below(self.cluster.daemons.len() as u64) as usize;
        let one = self.cluster.daemons[at].service.node.clone();
        let mut others: Vec<Node> = self
            .cluster
            .daemons
            .iter()
            .map(|d| d.service.node.clone())
            .filter(|n| *n != one)
            .collect();
        match self.random.below(3) {
            0 => {}
            1 => {
                others.push(self.cluster.monitor.node.clone());
                others.extend(self.cluster.gateways.iter().map(|gateway| gateway.node.clone()));
                others.extend(self.cluster.clients.iter().cloned());
            }
            _ => {
                let spared = self.random.below(others.len() as u64) as usize;
                others.remove(spared);
            }
        }
        let chosen = self.random.below(3);
        let ways = others.iter().flat_map(|other| self.directions(&one, other, chosen)).collect();
        self.shut(ways)
    }

    fn refuse(&mut self) -> Result<Option<Fault>> {
        let Some((one, other)) = self.two_nodes() else { return Ok(None) };
        let chosen = self.random.below(3);
        let ways = self.directions(&one, &other, chosen);
        ways.iter().try_for_each(|(from, to)| self.cluster.net.refuse(from, to))?;
        let after = seconds(self.random, 0.1, 6.0);
        let what = format!("{} and {} for {:.1} s", one.name, other.name, after.as_secs_f64());
        Ok(Some(Fault::new(what).until(after, Undo::Accept(ways))))
    }

    fn loss(&mut self) -> Result<Option<Fault>> {
        let Some((node, _)) = self.two_nodes() else { return Ok(None) };
        let percent = 2 + self.random.below(30);
        self.cluster.net.lose(&node, percent)?;
        let after = seconds(self.random, 2.0, 15.0);
        let what = format!("{percent} % to {} for {:.1} s", node.name, after.as_secs_f64());
        Ok(Some(Fault::new(what).until(after, Undo::KeepPackets(node))))
    }

    fn slow_link(&mut self) -> Result<Option<Fault>> {
        let Some((node, _)) = self.two_nodes() else { return Ok(None) };
        let kilobits = 1000 << self.random.below(5);
        self.cluster.net.slow(&node, Some(kilobits))?;
        let after = seconds(self.random, 3.0, 15.0);
        let what = format!("{} at {kilobits} kbit/s for {:.1} s", node.name, after.as_secs_f64());
        Ok(Some(Fault::new(what).until(after, Undo::FastLink(node))))
    }

    fn trouble(
        &mut self,
        kind: &'static str,
        choose: impl FnOnce(&mut Random) -> Trouble,
    ) -> Result<Option<Fault>> {
        let Some(i) = self.a_daemon() else { return Ok(None) };
        let trouble = choose(self.random);
        let after = seconds(self.random, 1.0, 10.0);
        let log = self.cluster.setup.dir.join("log").join("strace.log");
        let service = &mut self.cluster.daemons[i].service;
        let Some(process) = &service.process else { return Ok(None) };
        let injection = Injection::begin(process.pid(), trouble, &log)?;
        service.excuse = Some((kind, Instant::now() + after + EXCUSE));
        let what = format!("{}: {trouble:?} for {:.1} s", service.name, after.as_secs_f64());
        let fault = Fault::new(what).holding(Place::Daemon(i));
        Ok(Some(fault.until(after, Undo::Release(injection))))
    }

    fn clock(&mut self) -> Result<Option<Fault>> {
        let Some(place) = self.a_service() else { return Ok(None) };
        let by = [1, 30, 300, 7200][self.random.below(4) as usize];
        let by = if self.random.chance(500) { by } else { -by };
        let after = seconds(self.random, 2.0, 20.0);
        let service = place.of(self.cluster);
        set_clock(service, by)?;
        let what = format!("{} by {by} s for {:.1} s", service.name, after.as_secs_f64());
        // Its process may do what it will meanwhile, so it is not held.
        Ok(Some(Fault::new(what).until(after, Undo::SetClock(place))))
    }

    fn wipe(&mut self) -> Result<Option<Fault>> {
        let Some(i) = self.a_daemon() else { return Ok(None) };
        let lost = self.cluster.wipe(i)?;
        let after = seconds(self.random, 0.0, 10.0);
        let what = format!("osd.{lost} in place {i}, replaced after {:.1} s", after.as_secs_f64());
        let mut fault = Fault::new(what).holding(Place::Daemon(i)).until(after, Undo::Replace(i));
        fault.lost = Some(lost);
        Ok(Some(fault))
    }

    fn rot(&mut self) -> Result<Option<Fault>> {
        let Some(i) = self.a_daemon() else { return Ok(None) };
        self.cluster.daemons[i].service.kill();
        let data = self.cluster.daemons[i].dir.join("data");
        let flipped =
            flip_bits(&data, self.known, ROT_MAX, self.random).context("cannot flip bits")?;
        let after = seconds(self.random, 0.0, 3.0);
        let what = format!("{flipped} bits of d{i}, down for {:.1} s", after.as_secs_f64());
        let place = Place::Daemon(i);
        Ok(Some(Fault::new(what).holding(place).until(after, Undo::Start(place))))
    }
}

fn set_clock(service: &Service, by: i64) -> Result<()> {
    let file = service.clock.as_ref().context("services have no clocks of their own")?;
    // By a new file: one that is read half-written would set another time.
    let new = file.with_extension("new");
    std::fs::write(&new, format!("{by:+}\n"))?;
    Ok(std::fs::rename(&new, file)?)
}

/// How long after a fault of its disk a daemon may still end because of it.
const EXCUSE: Duration = Duration::from_secs(10);

/// Bits that flip at a time.
const ROT_MAX: usize = 20;
