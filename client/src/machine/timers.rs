//! Timers as data: an ordered set of what is due when.

use std::collections::BTreeSet;
use store_base::{DaemonId, Time};

/// What a timer is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Timer {
    /// A request is given up.
    Deadline(u64),
    /// A request goes out again.
    Retry(u64),
    /// A daemon may be dialed again.
    Dial(DaemonId),
    /// A watch gives a sign of life.
    Ping(u64),
}

/// All timers that are set.
#[derive(Debug, Default)]
pub(super) struct Timers {
    set: BTreeSet<(Time, Timer)>,
}

impl Timers {
    pub(super) fn set(&mut self, at: Time, timer: Timer) {
        self.set.insert((at, timer));
    }

    /// A timer is known by its time; not being set is no error.
    pub(super) fn clear(&mut self, at: Time, timer: Timer) {
        self.set.remove(&(at, timer));
    }

    pub(super) fn first(&self) -> Option<Time> {
        self.set.first().map(|(at, _)| *at)
    }

    pub(super) fn pop_due(&mut self, now: Time) -> Option<Timer> {
        let (at, _) = self.set.first()?;
        if *at > now {
            return None;
        }
        self.set.pop_first().map(|(_, timer)| timer)
    }
}
