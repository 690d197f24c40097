//! The elements of scenarios: what can be done to a cluster. One file per subject, one table per file.
//!
//! An [`Element`] draws [`Step`]s ahead of the run, and does them when their time has come. Doing one must
//! make sense in any state of the cluster: its numbers are taken modulo what is there, and where nothing
//! fits it does nothing. What it may do is bounded by the fault model ([`crate::sim`]): an element that
//! takes the last good copy of something asks [`World::may_lose`] first.
//!
//! A new element is an entry in the table of its subject, or a new file with a table that is named in
//! `TABLES`.

mod clocks;
mod daemons;
mod disks;
pub mod growth;
mod monitors;
mod network;
mod reconfiguration;

use crate::sim::random::Random;
use crate::sim::schedule::{Setup, Step};
use crate::sim::world::World;

/// Something that can be done to a cluster.
pub struct Element {
    /// How schedules name it.
    pub name: &'static str,
    /// How often it is drawn, beside the others. 0: only other elements draw it.
    pub weight: fn(&Setup) -> u64,
    /// Its steps when it begins at this time: the deed, and what ends it if that comes later.
    pub draw: fn(&mut Random, u64) -> Vec<Step>,
    /// Does one step.
    pub act: fn(&mut World, &[u64]),
}

/// All of them, by subject.
const TABLES: [&[Element]; 7] = [
    daemons::TABLE,
    disks::TABLE,
    network::TABLE,
    clocks::TABLE,
    monitors::TABLE,
    reconfiguration::TABLE,
    growth::TABLE,
];

/// All elements.
pub fn all() -> impl Iterator<Item = &'static Element> {
    TABLES.into_iter().flatten()
}

/// The element of that name.
pub fn find(name: &str) -> Option<&'static Element> {
    all().find(|element| element.name == name)
}

/// All steps of a seed, in order of time.
pub fn draw_all(seed: u64, setup: &Setup) -> Vec<Step> {
    let mut random = Random::named(seed, "steps");
    let weights: Vec<(u64, &Element)> =
        all().map(|element| ((element.weight)(setup), element)).collect();
    let total: u64 = weights.iter().map(|(weight, _)| weight).sum();
    let mut steps = Vec::new();
    let mut at_ms = 1000;
    while at_ms < setup.work_ms {
        let mut chosen = random.below(total);
        let element = weights.iter().find(|(weight, _)| match chosen.checked_sub(*weight) {
            Some(rest) => {
                chosen = rest;
                false
            }
            None => true,
        });
        if let Some((_, element)) = element {
            steps.extend((element.draw)(&mut random, at_ms));
        }
        // Now and then several things come together.
        at_ms += match random.below(3) {
            0 => random.below(100),
            _ => random.below(2 * setup.calm_ms),
        };
    }
    steps.sort_by_key(|step| step.at_ms);
    steps
}

/// Does a step.
pub fn act(world: &mut World, step: &Step) {
    if let Some(element) = find(step.name) {
        world.deed(step.name, &step.numbers);
        (element.act)(world, &step.numbers);
    }
}

/// One of a list, by a number of a step.
fn pick<T: Copy>(from: &[T], numbers: &[u64], at: usize) -> Option<T> {
    let number = numbers.get(at).copied().unwrap_or(0);
    let len = from.len() as u64;
    (len > 0).then(|| from[(number % len) as usize])
}

/// What operators have done by hand is undone: sizes, weights, exceptions, flags, pools.
pub fn undo_all(world: &mut World) {
    reconfiguration::undo(world);
    purge(world);
}

pub use disks::{purge, set_full};
