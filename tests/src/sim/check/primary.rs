//! At most one primary serves a placement group, and intervals only grow.

use crate::sim::network::End;
use crate::sim::world::World;
use std::collections::BTreeMap;
use store_base::{DaemonId, Incarnation, Interval, PgId};

/// Remembers who was who, and how far each medium has confirmed.
#[derive(Default)]
pub struct PrimaryCheck {
    /// Lives of daemons (node, life) and who they said they were.
    identities: Vec<(End, DaemonId, Incarnation)>,
    confirmed: BTreeMap<(usize, PgId), Interval>,
}

impl PrimaryCheck {
    /// A life of a daemon has learnt its id.
    pub fn learn(&mut self, end: End, id: DaemonId, incarnation: Incarnation) {
        if self.identity(end).is_none() && incarnation != Incarnation(0) {
            self.identities.push((end, id, incarnation));
        }
    }

    /// Who a life of a daemon is.
    pub fn identity(&self, end: End) -> Option<(DaemonId, Incarnation)> {
        self.identities.iter().rev().find(|(e, ..)| *e == end).map(|(_, id, inc)| (*id, *inc))
    }

    /// Looks at daemon `i`, which has just done something, beside all others.
    pub fn check(world: &mut World, i: usize) -> Vec<String> {
        let mut wrong = Vec::new();
        let views = |world: &World, j: usize| {
            world.daemons[j]
                .machine
                .as_ref()
                .map(|m| {
                    m.pgs_at(world.daemons[j].life.local(world.now))
                        .map(|view| (view.id(), view.interval(), view.serving()))
                        .collect::<Vec<_>>()
                })
                .unwrap_or_default()
        };
        let own = views(world, i);
        for (pg, interval, _) in &own {
            let known = world.primaries.confirmed.entry((i, *pg)).or_default();
            if interval < known {
                wrong.push(format!(
                    "daemon {i}: {pg} went back from interval {known} to {interval}"
                ));
            }
            *known = *interval;
        }
        let serving: Vec<PgId> = own.iter().filter(|v| v.2).map(|v| v.0).collect();
        if serving.is_empty() {
            return wrong;
        }
        for j in (0..world.daemons.len()).filter(|j| *j != i) {
            for (pg, _, serves) in views(world, j) {
                if serves && serving.contains(&pg) {
                    wrong.push(format!("{pg}: daemons {i} and {j} serve at once"));
                }
            }
        }
        wrong
    }
}
