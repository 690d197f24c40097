//! Time and chance, for shells. Machines get both as arguments.
#![allow(clippy::disallowed_methods)] // the one place that reads the clocks

use ring::rand::{SecureRandom, SystemRandom};
use std::sync::OnceLock;
use std::time::{Instant, SystemTime, UNIX_EPOCH};
use store_base::Timestamp;
use store_base::machine::Time;

static START: OnceLock<Instant> = OnceLock::new();

/// What [`now`] says at its first call: not zero, so that a machine may take `Time::ZERO` for "never".
const FIRST: u64 = 1_000_000_000;

/// Monotonic time since this process first asked (plus one second). Never goes back, does not follow the wall
/// clock, and means nothing in another process.
pub fn now() -> Time {
    let passed = START.get_or_init(Instant::now).elapsed();
    Time(FIRST.saturating_add(u64::try_from(passed.as_nanos()).unwrap_or(u64::MAX)))
}

/// The runtime's own instant for a machine's time, for `tokio::time::sleep_until`.
pub fn instant(at: Time) -> tokio::time::Instant {
    let start = *START.get_or_init(Instant::now);
    let since = std::time::Duration::from_nanos(at.0.saturating_sub(FIRST));
    // A time beyond the clock's range is as good as "in a year".
    let year = std::time::Duration::from_secs(365 * 24 * 3600);
    start.checked_add(since).unwrap_or_else(|| start + year).into()
}

/// The wall clock, UTC. Zero if it stands before 1970.
pub fn timestamp() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp { secs: since.as_secs(), nanos: since.subsec_nanos() }
}

/// Random bytes fit for keys, from the operating system.
pub fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    SystemRandom::new().fill(&mut bytes).expect("the operating system hands out random bytes");
    bytes
}

/// A random number, for seeds and incarnations.
pub fn random_u64() -> u64 {
    u64::from_le_bytes(random())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_goes_forward_and_maps_to_the_runtime() {
        let (a, b) = (now(), now());
        assert!(a.0 >= FIRST && b >= a);
        let ahead = instant(b + std::time::Duration::from_secs(5));
        let wait = ahead.duration_since(tokio::time::Instant::now());
        assert!((4.5..5.5).contains(&wait.as_secs_f64()), "{wait:?}");
        assert!(instant(Time(u64::MAX)) > ahead);
    }

    #[test]
    fn chance_does_not_repeat() {
        assert_ne!(random::<16>(), random::<16>());
        assert!(timestamp().secs > 1_700_000_000);
    }
}
