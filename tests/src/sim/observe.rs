//! What can be seen of a daemon from outside, after each of its steps: ground for checkers and for the
//! count of states that a run has reached.

use crate::sim::world::World;
use std::collections::BTreeMap;
use store_base::{Interval, PgId, Version};
use store_daemon::machine::PgRole;

/// A placement group as a daemon has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// The interval confirmed.
    pub interval: Interval,
    /// The interval synced.
    pub synced: Interval,
    /// What the daemon is in it.
    pub role: PgRole,
    /// It would serve a read now.
    pub serving: bool,
    /// It has activated the interval, as its primary.
    pub active: bool,
    /// The last applied entry.
    pub applied: Version,
    /// The last entry.
    pub head: Version,
    /// Nothing is lacking.
    pub complete: bool,
    /// Not everything has been compared with the primary's.
    pub scanning: bool,
    /// There is something of it in the store.
    pub stored: bool,
    /// Members of the interval.
    pub members: usize,
    /// A promotion was asked for.
    pub asks_promotion: bool,
    /// Damaged copies that are being replaced.
    pub damaged: usize,
}

/// All placement groups of a daemon.
pub type Groups = BTreeMap<PgId, Seen>;

/// Looks at daemon `i`. Empty if it is down.
pub fn look(world: &World, i: usize) -> Groups {
    let node = &world.daemons[i];
    let Some(machine) = node.machine.as_ref() else { return Groups::new() };
    let views = machine.pgs_at(node.life.local(world.now));
    let seen = views.map(|view| {
        let seen = Seen {
            interval: view.interval(),
            synced: view.synced(),
            role: view.role(),
            serving: view.serving(),
            active: view.is_active(),
            applied: view.applied(),
            head: view.head(),
            complete: view.is_complete(),
            scanning: view.is_scanning(),
            stored: view.is_stored(),
            members: view.members().len(),
            asks_promotion: view.asked().is_some(),
            damaged: view.damaged(),
        };
        (view.id(), seen)
    });
    seen.collect()
}
