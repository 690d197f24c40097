//! A request id takes effect at most once: of all entries ever applied, no two name the same request.

use super::Checker;
use crate::sim::observe::Groups;
use crate::sim::world::World;
use std::collections::BTreeMap;
use store_base::{PgId, RequestId, Version};

/// By group: which entry a request became.
#[derive(Default)]
pub struct Once {
    applied: BTreeMap<(PgId, RequestId), Version>,
}

impl Checker for Once {
    fn name(&self) -> &'static str {
        "once"
    }

    fn stepped(&mut self, world: &World, i: usize, before: &Groups, after: &Groups) -> Vec<String> {
        let mut wrong = Vec::new();
        for (pg, seen) in after {
            let from = before.get(pg).map_or(Version::ZERO, |before| before.applied);
            if seen.applied <= from {
                continue;
            }
            let Some(view) = world.daemons[i].machine.as_ref().and_then(|m| m.pg(*pg)) else {
                continue;
            };
            let (entries, _) = view.log_behind(from);
            for entry in entries.take_while(|entry| entry.version <= seen.applied) {
                let Some(request) = entry.request else { continue };
                let first = self.applied.entry((*pg, request)).or_insert(entry.version);
                if *first != entry.version {
                    let again = entry.version;
                    wrong.push(format!("{pg}: {request} took effect as {first} and {again}"));
                }
            }
        }
        wrong
    }
}
