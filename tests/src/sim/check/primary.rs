//! At most one primary serves a placement group, and the intervals of a daemon only grow.

use super::Checker;
use crate::sim::observe::{Groups, Seen};
use crate::sim::world::World;
use std::collections::BTreeMap;
use store_base::{ClusterId, Interval, PgId, Version};
use store_daemon::machine::PgRole;

/// How far each medium has confirmed: a lost disk begins anew.
#[derive(Default)]
pub struct Primary {
    confirmed: BTreeMap<(ClusterId, PgId), Interval>,
}

impl Checker for Primary {
    fn name(&self) -> &'static str {
        "primary"
    }

    fn stepped(&mut self, world: &World, i: usize, before: &Groups, after: &Groups) -> Vec<String> {
        let mut wrong = Vec::new();
        let uuid = ClusterId(world.daemons[i].identity.uuid);
        for (pg, seen) in after {
            let same = |before: &Seen| before.interval == seen.interval && before.role == seen.role;
            if before.get(pg).is_some_and(same) {
                continue;
            }
            let known = self.confirmed.entry((uuid, *pg)).or_default();
            // A removal that was on its way to the disk at a crash has come there, and what it made room for.
            let is_new = seen.interval == Interval(0) && seen.head == Version::default();
            if is_new && !before.contains_key(pg) {
                *known = Interval(0);
            }
            if seen.interval < *known {
                let now = seen.interval;
                wrong.push(format!("daemon {i}: {pg} went back from interval {known} to {now}"));
            }
            // In an interval that is on its way to the disk nobody acts yet, and a crash may take it back.
            if seen.role != PgRole::Idle {
                *known = seen.interval;
            }
        }
        // A copy that nobody needs any more may be removed, and begun anew; and one of another slot.
        let is_here = |pg: &PgId| after.get(pg).is_some_and(|seen| seen.stored);
        for (pg, _) in before.iter().filter(|(pg, seen)| seen.stored && !is_here(pg)) {
            self.confirmed.remove(&(uuid, *pg));
        }
        let serving = || after.iter().filter(|(_, seen)| seen.serving);
        if serving().next().is_none() {
            return wrong;
        }
        for j in (0..world.daemons.len()).filter(|j| *j != i) {
            let node = &world.daemons[j];
            let Some(machine) = node.machine.as_ref() else { continue };
            // Looked at again: its leases may have run out without a step.
            for view in machine.pgs_at(node.life.local(world.now)).filter(|view| view.serving()) {
                if serving().any(|(pg, _)| *pg == view.id()) {
                    let pg = view.id();
                    wrong.push(format!("{pg}: daemons {i} and {j} serve at once"));
                }
            }
        }
        wrong
    }
}
