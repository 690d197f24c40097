//! An entry known to be committed is never undone: whatever any daemon has applied stands at its place in
//! the log for good, the same for all.

use super::Checker;
use crate::sim::observe::Groups;
use crate::sim::world::World;
use std::collections::BTreeMap;
use store_base::{PgId, Version};

/// By group and counter: what was applied there first.
#[derive(Default)]
pub struct Committed {
    known: BTreeMap<PgId, BTreeMap<u64, Version>>,
}

impl Checker for Committed {
    fn name(&self) -> &'static str {
        "committed"
    }

    fn stepped(&mut self, world: &World, i: usize, before: &Groups, after: &Groups) -> Vec<String> {
        let mut wrong = Vec::new();
        for (pg, seen) in after {
            let from = before.get(pg).map_or(Version::ZERO, |before| before.applied);
            if seen.applied == from {
                continue;
            }
            let Some(view) = world.daemons[i].machine.as_ref().and_then(|m| m.pg(*pg)) else {
                continue;
            };
            let known = self.known.entry(*pg).or_default();
            // Behind an earlier point that is not of this log any more, all is looked at again.
            let (entries, _) = view.log_behind(from.min(seen.applied));
            for entry in entries.take_while(|entry| entry.version <= seen.applied) {
                let first = known.entry(entry.version.counter).or_insert(entry.version);
                if *first != entry.version {
                    wrong.push(format!(
                        "{pg}: daemon {i} has applied {}, where {first} was committed",
                        entry.version
                    ));
                }
            }
        }
        wrong
    }
}
