//! States of interest that runs reach. What no run reaches, no run judges: `store-sim` prints the table, and
//! a run of the fixed seeds fails if it misses a state of [`STATES`] that must be reached.

use crate::sim::observe::Groups;
use crate::sim::world::World;
use std::collections::BTreeMap;
use store_base::map::{OsdMap, PgRecord};
use store_base::{DaemonId, PgId};
use store_daemon::machine::PgRole;

/// A state, and whether the fixed seeds must reach it.
pub struct State {
    /// In words.
    pub name: &'static str,
    /// A run of the fixed seeds fails without it.
    pub must: bool,
}

const fn must(name: &'static str) -> State {
    State { name, must: true }
}

/// Seldom reached: counted, and no reason to fail.
const fn may(name: &'static str) -> State {
    State { name, must: false }
}

/// All states that are counted.
pub const STATES: &[State] = &[
    must(TAIL),
    must(UNDONE),
    must(NEVER_ACTIVE),
    must(LEASE_LOST),
    must(ASKED),
    must(ASKED_DROPPED),
    must(CAUGHT_UP),
    must(CATCH_UP_RESTARTED),
    must(BACKFILL),
    must(BACKFILL_CUT),
    must(FULL_BACKFILL),
    must(REPAIR),
    may(REPAIR_IN_RECOVERY),
    must(REFORMED),
    must(REFORMED_INACTIVE),
    must(REFORMED_SAME),
    must(ALONE),
    must(TAKEN_BACK),
    must(PROMOTED),
    must(PROMOTED_AND_LED),
    may(HOLDER_LEARNS),
    may(SURPLUS),
    must(LED_BY_FIRST),
    must(NOBODY_LEFT),
    must(BELOW_MIN_SIZE),
    must(DISK_LOST),
    must(PURGED),
    must(POOL_GONE),
];

const TAIL: &str = "takeover with a staged tail";
const UNDONE: &str = "staged entries undone at a takeover";
const NEVER_ACTIVE: &str = "interval left before it was active";
const LEASE_LOST: &str = "lease lost while active";
const ASKED: &str = "promotion asked for";
const ASKED_DROPPED: &str = "learner dropped while asked for promotion";
const CAUGHT_UP: &str = "learner caught up";
const CATCH_UP_RESTARTED: &str = "restart while catching up";
const BACKFILL: &str = "backfill";
const BACKFILL_CUT: &str = "interval changed during backfill";
const FULL_BACKFILL: &str = "disk full during backfill";
const REPAIR: &str = "damaged copy replaced";
const REPAIR_IN_RECOVERY: &str = "repair while others catch up";
const REFORMED: &str = "re-formed";
const REFORMED_INACTIVE: &str = "re-formed in an interval that was never active";
const REFORMED_SAME: &str = "re-formed with the same members";
const ALONE: &str = "one holder alone of several";
const TAKEN_BACK: &str = "holder taken back before activation";
const PROMOTED: &str = "learner promoted";
const PROMOTED_AND_LED: &str = "promotion changes the lead";
const HOLDER_LEARNS: &str = "holder becomes learner";
const SURPLUS: &str = "surplus member leaves";
const LED_BY_FIRST: &str = "lead moves for balance";
const NOBODY_LEFT: &str = "no holder is up";
const BELOW_MIN_SIZE: &str = "serves below min_size";
const DISK_LOST: &str = "disk lost of a daemon that led";
const PURGED: &str = "lost daemon purged";
const POOL_GONE: &str = "pool removed with its groups";

/// How often each state was reached.
#[derive(Clone, Debug, Default)]
pub struct Reached {
    /// By name.
    pub counts: BTreeMap<&'static str, u64>,
}

impl Reached {
    /// Counts a state.
    pub fn note(&mut self, state: &'static str) {
        *self.counts.entry(state).or_default() += 1;
    }

    fn note_if(&mut self, holds: bool, state: &'static str) {
        if holds {
            self.note(state);
        }
    }
}

impl World {
    /// Daemon `i` has done a step.
    pub fn reached_by(&mut self, i: usize, before: &Groups, after: &Groups) {
        if before == after {
            return;
        }
        let full = self.daemons[i].full;
        let began = before.is_empty();
        let learning = after.values().any(|seen| !seen.complete);
        let mut lines = Vec::new();
        let reached = &mut self.reached;
        for (pg, now) in after {
            let Some(was) = before.get(pg) else {
                reached.note_if(began && !now.complete, CATCH_UP_RESTARTED);
                continue;
            };
            let is_new = now.interval != was.interval;
            let leads = now.role == PgRole::Primary;
            let led = was.role == PgRole::Primary;
            reached.note_if(leads && (!led || is_new) && now.head > now.applied, TAIL);
            reached.note_if(now.head < was.head && now.role == PgRole::Member, UNDONE);
            reached.note_if(led && !was.active && (is_new || !leads), NEVER_ACTIVE);
            let both_active = was.active && now.active && !is_new;
            reached.note_if(both_active && was.serving && !now.serving, LEASE_LOST);
            reached.note_if(!was.asks_promotion && now.asks_promotion, ASKED);
            reached.note_if(!was.complete && now.complete, CAUGHT_UP);
            reached.note_if(!was.scanning && now.scanning, BACKFILL);
            reached.note_if(was.scanning && is_new, BACKFILL_CUT);
            reached.note_if(full && now.scanning && now != was, FULL_BACKFILL);
            reached.note_if(was.damaged > now.damaged, REPAIR);
            reached.note_if(was.damaged > now.damaged && learning, REPAIR_IN_RECOVERY);
            if (was.role, was.interval, was.active, was.complete)
                != (now.role, now.interval, now.active, now.complete)
            {
                let active = if now.active { ", active" } else { "" };
                let lacking = if now.complete { "" } else { ", catching up" };
                let more = format!("{:?}{active}{lacking}, log {}", now.role, now.head);
                lines.push((*pg, now.interval, more));
            }
        }
        for (pg, interval, more) in lines {
            self.say_pg(crate::sim::network::Node::Daemon(i), "state", pg, interval, || more);
        }
    }

    /// The monitor's map has changed.
    pub fn reached_by_map(&mut self, before: &OsdMap, after: &OsdMap) {
        let mut changed = Vec::new();
        for (pg, new) in &after.pgs {
            let Some(old) = before.pgs.get(pg).filter(|old| !old.members.is_empty()) else {
                continue;
            };
            if old == new {
                continue;
            }
            changed.push((*pg, new.clone()));
            let min_size = after.pools.get(&pg.pool).map_or(0, |pool| usize::from(pool.min_size));
            let dropped = self.drops_asked(*pg, old, new);
            let reached = &mut self.reached;
            reached.note_if(dropped, ASKED_DROPPED);
            note_record(reached, old, new, min_size);
        }
        for (pg, record) in changed {
            let interval = record.interval;
            self.say_pg(crate::sim::network::Node::Monitor, "record", pg, interval, || {
                describe(&record)
            });
        }
        let reached = &mut self.reached;
        let up = |map: &OsdMap, id: &DaemonId| map.is_up(*id);
        let left = |map: &OsdMap, record: &PgRecord| {
            !record.holders.is_empty() && !record.holders.iter().any(|id| up(map, id))
        };
        for (pg, record) in &after.pgs {
            let was_left = before.pgs.get(pg).is_some_and(|old| left(before, old));
            reached.note_if(left(after, record) && !was_left, NOBODY_LEFT);
        }
        let gone = before.pgs.keys().any(|pg| !after.pools.contains_key(&pg.pool));
        reached.note_if(gone, POOL_GONE);
        let purged = before.daemons.keys().any(|id| !after.daemons.contains_key(id));
        reached.note_if(purged, PURGED);
    }

    /// Whether a learner leaves whose promotion its primary has asked for.
    fn drops_asked(&self, pg: PgId, old: &PgRecord, new: &PgRecord) -> bool {
        let primary = self.place_of(old.primary);
        let view = primary.and_then(|i| self.daemons[i].machine.as_ref()?.pg(pg));
        let asked = view.and_then(|view| view.asked());
        asked.is_some_and(|id| !new.learners.contains(&id) && !new.members.contains(&id))
    }

    /// A disk is about to be lost.
    pub fn reached_by_loss(&mut self, i: usize) {
        let led = self.daemons[i].seen.values().any(|seen| seen.serving);
        self.reached.note_if(led, DISK_LOST);
    }
}

fn note_record(reached: &mut Reached, old: &PgRecord, new: &PgRecord, min_size: usize) {
    if new.interval == old.interval {
        let serves_below = new.is_active() && new.members.len() < min_size;
        return reached.note_if(serves_below, BELOW_MIN_SIZE);
    }
    let promoted = new.members.iter().any(|id| old.learners.contains(id));
    let back = new.members.iter().any(|id| !old.members.contains(id) && old.holders.contains(id));
    let joins = new.learners.iter().any(|id| !old.learners.contains(id));
    let same_members = old.members.len() == new.members.len()
        && old.members.iter().all(|id| new.members.contains(id));
    let renewed = (new.primary, new.primary_incarnation) != (old.primary, old.primary_incarnation);
    let reformed = !promoted && !joins && (!same_members || renewed);
    reached.note_if(reformed, REFORMED);
    reached.note_if(reformed && !old.is_active(), REFORMED_INACTIVE);
    reached.note_if(reformed && same_members, REFORMED_SAME);
    reached.note_if(reformed && new.members.len() == 1 && old.members.len() > 1, ALONE);
    reached.note_if(back && !old.is_active(), TAKEN_BACK);
    reached.note_if(promoted, PROMOTED);
    reached.note_if(promoted && new.primary != old.primary, PROMOTED_AND_LED);
    let from_holder = |id: &DaemonId| new.learners.contains(id) && old.holders.contains(id);
    reached.note_if(old.holders.iter().any(from_holder), HOLDER_LEARNS);
    let surplus = promoted && old.members.iter().any(|id| !new.members.contains(id));
    reached.note_if(surplus, SURPLUS);
    let balanced = old.is_active() && same_members && new.primary != old.primary && !joins;
    reached.note_if(balanced, LED_BY_FIRST);
}

/// A record in one line.
fn describe(record: &PgRecord) -> String {
    let list = |ids: Vec<&DaemonId>| {
        let ids: Vec<String> = ids.iter().map(|id| id.0.to_string()).collect();
        ids.join(",")
    };
    format!(
        "primary {} members [{}] learners [{}] holders [{}] writers [{}]{}",
        record.primary,
        list(record.members.iter().collect()),
        list(record.learners.iter().collect()),
        list(record.holders.iter().collect()),
        list(record.writers.iter().collect()),
        if record.is_active() { " active" } else { "" }
    )
}
