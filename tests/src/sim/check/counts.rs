//! What is told to be degraded is not less than the truth: of every group whose primary has reported lately,
//! the copies said to be missing are at least those that were missing all the while.
//!
//! Reports lag: what is compared is the least that the judge has counted in the last `LAG`, in one interval.

use super::{Checker, copies};
use crate::sim::world::World;
use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;
use store_base::map::PgRecord;
use store_base::{Interval, PgId, Time};

/// The oldest that a report may be which still counts as one: a beat, an answer that was lost, a slow clock.
const LAG: Duration = Duration::from_secs(8);

/// By group: when, in which interval, how many copies were missing.
#[derive(Default)]
pub struct Counts {
    missing: BTreeMap<PgId, (Interval, VecDeque<(Time, u64)>)>,
}

impl Checker for Counts {
    fn name(&self) -> &'static str {
        "counts"
    }

    fn sampled(&mut self, world: &World) -> Vec<String> {
        let (Some(monitor), Some(map)) = (world.monitor.machine.as_ref(), world.map()) else {
            self.missing.clear();
            return Vec::new();
        };
        let mut wrong = Vec::new();
        for (pg, record) in &map.pgs {
            let Some(pool) = map.pools.get(&pg.pool) else { continue };
            let Some(missing) = count(world, *pg, record, usize::from(pool.size)) else {
                self.missing.remove(pg);
                continue;
            };
            let (interval, seen) = self.missing.entry(*pg).or_default();
            if *interval != record.interval {
                *interval = record.interval;
                seen.clear();
            }
            seen.push_back((world.now, missing));
            let is_long = seen.front().is_some_and(|(at, _)| world.now.since(*at) >= LAG);
            while seen.get(1).is_some_and(|(at, _)| world.now.since(*at) >= LAG) {
                seen.pop_front();
            }
            let least = seen.iter().map(|(_, missing)| *missing).min().unwrap_or(0);
            let told = monitor.missing_of(world.monitor.life.local(world.now), *pg);
            if let Some(told) = told.filter(|told| is_long && *told < least) {
                wrong.push(format!("{pg}: {told} copies are said to be missing, {least} are"));
            }
        }
        self.missing.retain(|pg, _| map.pgs.contains_key(pg));
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
    let learners = record.learners.iter().filter_map(|id| world.place_of(*id));
    let learnt: Vec<_> = learners.filter_map(|i| copies::shown(world, i, pg)).collect();
    let missing = all.iter().map(|(object, version)| {
        let has = |copy: &&copies::Versions| copy.get(object).is_some_and(|has| has >= version);
        let copies = record.members.len() + learnt.iter().filter(has).count();
        size.saturating_sub(copies) as u64
    });
    Some(missing.sum())
}
