//! What is told to be degraded is not less than the truth: of every group whose primary has reported lately,
//! the copies said to be missing are at least those that were missing all the while.
//!
//! Reports lag, and one may be of a moment between two looks, of an object that was removed and made anew. So the
//! most that was told in the last `LAG` is compared with the least that the judge has counted, in one interval.

use super::{Checker, copies};
use crate::sim::world::World;
use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;
use store_base::map::PgRecord;
use store_base::{Interval, PgId, Time};

/// The oldest that a report may be which still counts as one: a beat, an answer that was lost, a slow clock.
const LAG: Duration = Duration::from_secs(8);

/// One look at a group.
struct Look {
    at: Time,
    /// Copies that are missing.
    missing: u64,
    /// What the monitor was told of them, if that counts.
    told: Option<u64>,
}

/// By group: the interval, and what was seen in it.
#[derive(Default)]
pub struct Counts {
    looks: BTreeMap<PgId, (Interval, VecDeque<Look>)>,
}

impl Checker for Counts {
    fn name(&self) -> &'static str {
        "counts"
    }

    fn sampled(&mut self, world: &World) -> Vec<String> {
        let (Some(monitor), Some(map)) = (world.monitor.machine.as_ref(), world.map()) else {
            self.looks.clear();
            return Vec::new();
        };
        let mut wrong = Vec::new();
        for (pg, record) in &map.pgs {
            let Some(pool) = map.pools.get(&pg.pool) else { continue };
            let Some(missing) = count(world, *pg, record, usize::from(pool.size)) else {
                self.looks.remove(pg);
                continue;
            };
            let (interval, seen) = self.looks.entry(*pg).or_default();
            if *interval != record.interval {
                *interval = record.interval;
                seen.clear();
            }
            let told = monitor.missing_of(world.monitor.life.local(world.now), *pg);
            seen.push_back(Look { at: world.now, missing, told });
            let is_old =
                |look: Option<&Look>| look.is_some_and(|look| world.now.since(look.at) >= LAG);
            while is_old(seen.get(1)) {
                seen.pop_front();
            }
            let least = seen.iter().map(|look| look.missing).min().unwrap_or(0);
            let most = seen.iter().map(|look| look.told).reduce(|a, b| Some(a?.max(b?))).flatten();
            if let Some(told) = most.filter(|told| is_old(seen.front()) && *told < least) {
                wrong.push(format!("{pg}: {told} copies are said to be missing, {least} are"));
            }
        }
        self.looks.retain(|pg, _| map.pgs.contains_key(pg));
        wrong
    }
}

/// Copies that are lacking to full size, while the group is led. `None`: it cannot be said.
fn count(world: &World, pg: PgId, record: &PgRecord, size: usize) -> Option<u64> {
    let primary = world.place_of(record.primary)?;
    let view = world.daemons[primary].machine.as_ref()?.pg(pg)?;
    if !view.is_active() || view.interval() != record.interval {
        return None;
    }
    let all = copies::shown(world, primary, pg)?;
    let learners = record.learners.iter().map(|id| held(world, world.place_of(*id)?, pg));
    let learnt: Vec<Option<copies::Versions>> = learners.collect();
    let missing = all.iter().map(|(object, version)| {
        let has = |copy: &&Option<copies::Versions>| {
            let is_there =
                |copy: &copies::Versions| copy.get(object).is_some_and(|has| has >= version);
            copy.as_ref().is_none_or(is_there)
        };
        let copies = record.width() + learnt.iter().filter(has).count();
        size.saturating_sub(copies) as u64
    });
    Some(missing.sum())
}

/// What a learner shows, and what stands in its log and is yet to be applied: of that it lacks no copy, but of an
/// object that it lacks anyway, which the entry goes by. `None`: it does not run, and may have everything: so long
/// as the group takes it for one of its own, what it has counts.
fn held(world: &World, i: usize, pg: PgId) -> Option<copies::Versions> {
    let mut held = copies::shown(world, i, pg)?;
    let machine = world.daemons[i].machine.as_ref()?;
    if let Some(view) = copies::place(world, i, pg).and_then(|place| machine.pg(place)) {
        let (staged, _) = view.log_behind(view.applied());
        let staged = staged.filter(|entry| !view.lacks(&entry.object));
        held.extend(staged.map(|entry| (entry.object.clone(), entry.version)));
    }
    Some(held)
}
