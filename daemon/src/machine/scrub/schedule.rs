//! When a group is walked.
//!
//! An order of a person comes first, then what was interrupted, then what is due. A walk by itself begins between
//! half and nine tenths of its interval after the last one, which point of it depends on the group: the walks of a
//! daemon are spread, and the window is kept with time to spare.

use super::record::ScrubRun;
use crate::machine::Daemon;
use crate::machine::core::{Core, Timer};
use crate::machine::pg::Pg;
use crate::store::Store;
use std::time::Duration;
use store_base::PgId;

/// By how many seconds the clocks of two daemons may differ.
const AHEAD_MAX: u64 = 300;

/// Why a group is to be walked; the least is the most urgent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Due {
    /// The number of the order.
    Order(u64),
    Interrupted,
    /// Since when.
    Deep(u64),
    Light(u64),
}

impl<S: Store> Daemon<S> {
    /// Looks at what is due, and again after a while.
    pub(crate) fn look_for_scrubs(&mut self) {
        let core = &mut self.core;
        let again = core.now + core.config.scrub.check_every;
        core.set_timer(again, Timer::Scrub);
        for pg in self.pgs.values_mut() {
            pg.ask_scrub_notes(core);
            if !pg.is_walk_wanted(core) {
                pg.stop_walk(core);
            }
            pg.forget_order_taken_back(core);
        }
        self.start_scrubs();
    }

    /// Begins what is due, as far as there is room.
    pub(crate) fn start_scrubs(&mut self) {
        let core = &self.core;
        let room = core.config.scrub.walks_max.saturating_sub(core.scrub.walking.len());
        if room == 0 {
            return;
        }
        let due = |pg: &Pg| Some((pg.scrub_due(core)?, pg.id));
        let mut all: Vec<(Due, PgId)> = self.pgs.values().filter_map(due).collect();
        all.sort_unstable();
        for (due, id) in all.into_iter().take(room) {
            self.with(id, |pg, core| pg.start_walk(core, due));
        }
    }
}

impl Pg {
    /// Whether the walk under way is still wanted: it is not paused, its order not taken back, and no newer order
    /// asks for more.
    pub(super) fn is_walk_wanted<S: Store>(&self, core: &Core<S>) -> bool {
        let Some(run) = &self.scrub.record.run else { return self.scrub.walk.is_none() };
        let flags = core.map.flags;
        let is_paused = flags.noscrub || (run.deep && flags.nodeep_scrub);
        let newest = core.map.scrub_order(self.id, self.scrub.record.order_done);
        let newest = newest.map_or(0, |(number, _)| number);
        !is_paused && newest <= run.order && (run.order == 0 || newest == run.order)
    }

    /// An order that is not in the map any more is not to be gone on with.
    fn forget_order_taken_back<S: Store>(&mut self, core: &mut Core<S>) {
        let is_idle = self.scrub.walk.is_none() && self.can_walk(core) && self.knows_scrub(core);
        let Some(run) = self.scrub.record.run.as_ref().filter(|run| is_idle && run.order > 0)
        else {
            return;
        };
        if core
            .map
            .scrub_order(self.id, self.scrub.record.order_done)
            .is_none_or(|(n, _)| n != run.order)
        {
            self.scrub.record.run = None;
            self.save_scrub(core);
            core.monitor.news.insert(self.id);
        }
    }

    /// Whether a walk that was begun waits for a flag to be taken back.
    pub(crate) fn is_scrub_paused<S: Store>(&self, core: &Core<S>) -> bool {
        let flags = core.map.flags;
        let is_deep = self.scrub.record.run.as_ref().is_some_and(|run| run.deep);
        flags.noscrub || (is_deep && flags.nodeep_scrub)
    }

    fn scrub_due<S: Store>(&self, core: &Core<S>) -> Option<Due> {
        let is_ready = self.scrub.walk.is_none()
            && self.scrub.not_before <= core.now
            && !core.map.flags.noscrub
            && self.can_walk(core)
            && self.knows_scrub(core);
        if !is_ready {
            return None;
        }
        let (record, limits) = (&self.scrub.record, &core.config.scrub);
        let may_deep = !core.map.flags.nodeep_scrub;
        if let Some((number, order)) = core.map.scrub_order(self.id, record.order_done) {
            return (may_deep || !order.deep).then_some(Due::Order(number));
        }
        // Copies that are being made come first.
        if !self.confirmed.learners.is_empty() {
            return None;
        }
        if let Some(run) = record.run.as_ref().filter(|run| run.order == 0) {
            return (may_deep || !run.deep).then_some(Due::Interrupted);
        }
        let now = core.wall().secs;
        let verified = credible(self.verified_since(core), now);
        let deep_at = due_at(verified, limits.deep_interval, self.id);
        let again = |known: u64| {
            known.clamp(limits.retry_bad_min.as_secs(), limits.retry_bad_max.as_secs())
        };
        let bad_at =
            record.bad.values().map(|bad| bad.seen + again(bad.seen.saturating_sub(bad.since)));
        let bad_at = bad_at.min();
        let deep_at = [deep_at, bad_at].into_iter().flatten().min().filter(|at| *at <= now);
        if let Some(at) = deep_at.filter(|_| may_deep) {
            return Some(Due::Deep(at));
        }
        let light = credible(record.light, now).max(verified);
        let light_at = due_at(light, limits.interval, self.id);
        light_at.filter(|at| *at <= now).map(Due::Light)
    }

    fn start_walk<S: Store>(&mut self, core: &mut Core<S>, due: Due) {
        let interrupted = self.scrub.record.run.take();
        let order = core.map.scrub_order(self.id, self.scrub.record.order_done);
        let started = core.wall().secs;
        let run = match (due, order) {
            (Due::Order(number), Some((_, order))) => match interrupted {
                Some(run) if run.order == number => run,
                _ => ScrubRun {
                    deep: order.deep,
                    order: number,
                    repair: order.repair,
                    started,
                    ..ScrubRun::default()
                },
            },
            (Due::Interrupted, _) => interrupted.unwrap_or_default(),
            (due, _) => {
                ScrubRun { deep: matches!(due, Due::Deep(_)), started, ..ScrubRun::default() }
            }
        };
        self.begin_walk(core, run);
    }
}

/// A stamp from the future is of a clock that was wrong, and says nothing: the monitor takes it for none, too.
fn credible(stamp: u64, now: u64) -> u64 {
    if stamp > now + AHEAD_MAX { 0 } else { stamp }
}

/// When a group is due whose last walk was `last`, if it is ever.
fn due_at(last: u64, interval: Duration, pg: PgId) -> Option<u64> {
    let seconds = interval.as_secs();
    let spread = (pg.pool.0 as u64).wrapping_mul(31).wrapping_add(pg.seed.into());
    // Multiplied by an odd constant, the high bits are spread well.
    let spread = spread.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
    let permille = 500 + spread % 401;
    (seconds > 0).then(|| last.saturating_add(seconds.saturating_mul(permille) / 1000))
}

#[cfg(test)]
mod tests {
    use super::*;
    use store_base::PoolId;

    #[test]
    fn groups_are_spread_over_the_window_and_all_within_it() {
        let hour = Duration::from_secs(3600);
        let at = |seed| due_at(1000, hour, PgId { pool: PoolId(2), seed }).expect("ever");
        let all: Vec<u64> = (0..256).map(at).collect();
        assert!(all.iter().all(|at| (1000 + 1800..=1000 + 3240).contains(at)));
        // No tenth of the span has more than a fifth of them.
        let tenth = |at: &u64| (at - 2800) / 145;
        for part in 0..10 {
            let count = all.iter().filter(|at| tenth(at) == part).count();
            assert!(count < 51, "{count} of 256 in part {part}");
        }
        assert_eq!(due_at(1000, Duration::ZERO, PgId::default()), None);
        // What was walked when the clock was two hours ahead is due at once.
        assert_eq!(
            [99_000, 100_000 + AHEAD_MAX, 107_200].map(|at| credible(at, 100_000)),
            [99_000, 100_000 + AHEAD_MAX, 0]
        );
    }
}
