//! The deciding half of a role: a state machine that owns no clock, socket, disk, thread or chance.

use std::fmt;
use std::time::Duration;

/// Monotonic time of one process, in nanoseconds since an arbitrary start. Never compared across
/// processes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Time(pub u64);

impl Time {
    /// The start.
    pub const ZERO: Time = Time(0);

    /// The time that has passed since `earlier`; zero if that lies ahead.
    pub fn since(self, earlier: Time) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

impl std::ops::Add<Duration> for Time {
    type Output = Time;

    fn add(self, by: Duration) -> Time {
        Time(self.0.saturating_add(u64::try_from(by.as_nanos()).unwrap_or(u64::MAX)))
    }
}

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:06}s", self.0 / 1_000_000_000, self.0 / 1000 % 1_000_000)
    }
}

/// The deciding half of a role.
///
/// The shell reads an event, steps the machine and carries out the actions in order. Nothing that
/// promises durability is pushed before the event that says so arrived; a crash between any two actions
/// must be harmless.
pub trait Machine {
    /// What can happen: received, stored, fetched, woke, new map, command.
    type Event;
    /// What the shell must do next: send, store, fetch, reply, report.
    type Action;

    /// Takes in one event and pushes what must happen next, in order, onto `actions`.
    fn step(&mut self, now: Time, event: Self::Event, actions: &mut Vec<Self::Action>);

    /// When the machine wants to be stepped with a wake-up, if ever.
    fn wake_at(&self) -> Option<Time>;
}
