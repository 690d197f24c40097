//! The promises (DESIGN 5 and 11), one file each. A checker answers with what is broken, in words; nothing
//! is an `assert`, so that a run tells all that it found.
//!
//! | file | promise |
//! |---|---|
//! | [`holders`] | every holder and every writer has all that clients were told |
//! | [`records`] | members ⊆ holders; intervals only grow; members come from the holders or are caught-up learners |
//! | [`primary`] | at most one serving primary per placement group; a daemon's intervals only grow |
//! | [`mod@committed`] | an entry known to be committed is never undone |
//! | [`once`] | a request id takes effect at most once |
//! | [`health`] | whenever health says OK, every object has every copy |
//! | [`counts`] | the objects told to be degraded are not fewer than they are |
//! | [`activation`] | faults over and one holder back, a group becomes active with exactly the daemons there |
//! | [`history`] | per-object history is linearizable; no acknowledged write lost |
//! | [`replicas`] | replicas are equal, whole, when quiet; members are all there |
//!
//! A [`Checker`] is told of everything that happens and of nothing that the machines do not show. Those of
//! the last two lines look at a whole run and are called at its end; so does [`activation`], between.

pub mod activation;
pub mod committed;
pub mod copies;
pub mod counts;
pub mod health;
pub mod history;
pub mod holders;
pub mod once;
pub mod primary;
pub mod records;
pub mod replicas;

use crate::sim::observe::{self, Groups};
use crate::sim::world::World;
use store_base::map::OsdMap;
use store_base::op::Reply;

/// Watches over one promise while a cluster runs. What a method returns is broken.
pub trait Checker {
    /// The promise's name: the file's.
    fn name(&self) -> &'static str;

    /// Daemon `i` has done a step: its groups before and after.
    fn stepped(&mut self, world: &World, i: usize, before: &Groups, after: &Groups) -> Vec<String> {
        let _ = (world, i, before, after);
        Vec::new()
    }

    /// Daemon `i` answers a client.
    fn answered(&mut self, world: &World, i: usize, reply: &Reply) -> Vec<String> {
        let _ = (world, i, reply);
        Vec::new()
    }

    /// The monitor's map has changed.
    fn committed(&mut self, world: &World, before: &OsdMap, after: &OsdMap) -> Vec<String> {
        let _ = (world, before, after);
        Vec::new()
    }

    /// Daemon `i` has started on what its disk kept.
    fn started(&mut self, world: &World, i: usize) -> Vec<String> {
        let _ = (world, i);
        Vec::new()
    }

    /// Some time has passed.
    fn sampled(&mut self, world: &World) -> Vec<String> {
        let _ = world;
        Vec::new()
    }
}

/// All that watch while a cluster runs.
#[derive(Default)]
pub struct Checks {
    all: Vec<Box<dyn Checker>>,
    /// The map that was looked at last.
    map: OsdMap,
}

impl Checks {
    /// Every checker. A new one is named here.
    pub fn all() -> Checks {
        let all: Vec<Box<dyn Checker>> = vec![
            Box::new(holders::Holders::default()),
            Box::new(records::Records),
            Box::new(primary::Primary::default()),
            Box::new(committed::Committed::default()),
            Box::new(once::Once::default()),
            Box::new(health::Health),
            Box::new(counts::Counts::default()),
        ];
        Checks { all, map: OsdMap::default() }
    }
}

/// Lets every checker look.
fn each(world: &mut World, look: impl Fn(&mut dyn Checker, &World) -> Vec<String>) {
    let mut checks = std::mem::take(&mut world.checks);
    for checker in &mut checks.all {
        let name = checker.name();
        let wrong = look(&mut **checker, world);
        world.broken.extend(wrong.into_iter().map(|what| format!("{name}: {what}")));
    }
    world.checks = checks;
}

/// Daemon `i` has done a step.
pub fn stepped(world: &mut World, i: usize) {
    let after = observe::look(world, i);
    let before = std::mem::take(&mut world.daemons[i].seen);
    world.reached_by(i, &before, &after);
    each(world, |checker, world| checker.stepped(world, i, &before, &after));
    world.daemons[i].seen = after;
}

/// Daemon `i` answers a client.
pub fn answered(world: &mut World, i: usize, reply: &Reply) {
    each(world, |checker, world| checker.answered(world, i, reply));
}

/// Daemon `i` has started.
pub fn started(world: &mut World, i: usize) {
    each(world, |checker, world| checker.started(world, i));
}

/// The monitor has done a step.
pub fn committed(world: &mut World) {
    let Some(map) = world.map() else { return };
    if map.epoch <= world.checks.map.epoch {
        return;
    }
    let after = map.clone();
    let before = std::mem::take(&mut world.checks.map);
    world.reached_by_map(&before, &after);
    each(world, |checker, world| checker.committed(world, &before, &after));
    world.lost.retain(|id, (_, uuid)| after.daemons.get(id).is_some_and(|d| d.uuid == *uuid));
    world.checks.map = after;
}

/// Some time has passed.
pub fn sampled(world: &mut World) {
    each(world, |checker, world| checker.sampled(world));
}
