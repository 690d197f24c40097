//! Rates: how many requests, and how many bytes of bodies, users and buckets may have in a second.
//!
//! The counting is each gateway's own: with three gateways a user gets three times his rate. A meter is a time
//! until which the past is paid for. It may lie [`BURST`] ahead of now before anything is held up; a request beyond
//! that is refused, bytes beyond that wait.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use store_base::bucket::{BucketId, Limits};
use store_base::machine::Time;
use store_shell::clock;

/// What may be used at once of a rate, after a rest: a second's worth.
pub const BURST: Duration = Duration::from_secs(1);

/// Longest wait for one piece of a body; what waits longer goes on, and is paid for by those after it.
pub const WAIT_MAX: Duration = Duration::from_secs(20);

/// Most meters of a process; those at rest are dropped when there are more.
const METERS_MAX: usize = 20_000;

/// Whose rate.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Whose {
    /// A user's, by id.
    User(String),
    /// A bucket's.
    Bucket(BucketId),
}

/// What is metered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Kind {
    Requests,
    Read,
    Write,
}

/// The meters of a process.
#[derive(Clone, Debug, Default)]
pub struct Meters {
    paid_until: Arc<Mutex<HashMap<(Whose, Kind), Time>>>,
}

impl Meters {
    /// Takes `amount` from a meter of `rate` a second. How long to wait for it.
    fn take(&self, meter: &(Whose, Kind), rate: u64, amount: u64, now: Time) -> Duration {
        let mut meters = self.paid_until.lock().unwrap_or_else(PoisonError::into_inner);
        if meters.len() >= METERS_MAX {
            meters.retain(|_, until| *until > now);
        }
        let until = meters.get(meter).copied().unwrap_or(now).max(now) + cost(rate, amount);
        meters.insert(meter.clone(), until);
        until.since(now).saturating_sub(BURST)
    }

    /// Whether one more request is within the limits; it counts if so.
    pub fn admits(&self, whose: &[(Whose, Limits)]) -> bool {
        self.admits_at(whose, clock::now())
    }

    fn admits_at(&self, whose: &[(Whose, Limits)], now: Time) -> bool {
        let rates = || whose.iter().filter(|(_, limits)| limits.request_rate > 0);
        let mut meters = self.paid_until.lock().unwrap_or_else(PoisonError::into_inner);
        let until = |meters: &HashMap<_, Time>, whose: &Whose, limits: &Limits| {
            let paid = meters.get(&(whose.clone(), Kind::Requests)).copied().unwrap_or(now);
            paid.max(now) + cost(limits.request_rate, 1)
        };
        // A refused request is counted on no meter.
        if rates().any(|(whose, limits)| until(&meters, whose, limits).since(now) > BURST) {
            return false;
        }
        for (whose, limits) in rates() {
            let until = until(&meters, whose, limits);
            meters.insert((whose.clone(), Kind::Requests), until);
        }
        true
    }

    /// The paces of bodies under these limits: in, and out.
    pub fn paces(&self, whose: &[(Whose, Limits)]) -> (Pace, Pace) {
        let pace = |kind, rate: fn(&Limits) -> u64| {
            let metered = whose.iter().filter(|(_, limits)| rate(limits) > 0);
            let meters = metered.map(|(whose, limits)| ((whose.clone(), kind), rate(limits)));
            Pace { meters: meters.collect(), shared: self.clone() }
        };
        (pace(Kind::Write, |limits| limits.write_rate), pace(Kind::Read, |limits| limits.read_rate))
    }
}

/// How long an amount takes at a rate.
fn cost(rate: u64, amount: u64) -> Duration {
    let nanos = u128::from(amount) * 1_000_000_000 / u128::from(rate.max(1));
    Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
}

/// How fast a body may go.
#[derive(Clone, Debug, Default)]
pub struct Pace {
    meters: Vec<((Whose, Kind), u64)>,
    shared: Meters,
}

impl Pace {
    /// Whether nothing limits it.
    pub fn is_free(&self) -> bool {
        self.meters.is_empty()
    }

    /// How long to wait before so many bytes may go on.
    pub fn wait(&self, bytes: u64) -> Duration {
        let now = clock::now();
        let waits =
            self.meters.iter().map(|(meter, rate)| self.shared.take(meter, *rate, bytes, now));
        waits.max().unwrap_or_default().min(WAIT_MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn whose(request_rate: u64) -> [(Whose, Limits); 1] {
        [(Whose::User("u".into()), Limits { request_rate, ..Limits::default() })]
    }

    #[test]
    fn requests_come_at_their_rate_after_a_burst() {
        let (meters, start) = (Meters::default(), Time(5_000_000_000));
        let admitted = |from: Time| (0..100).filter(|_| meters.admits_at(&whose(10), from)).count();
        assert_eq!(admitted(start), 10);
        assert_eq!(admitted(start + Duration::from_millis(300)), 3);
        assert_eq!(admitted(start + Duration::from_secs(60)), 10);
        assert!(meters.admits_at(&whose(0), start), "no rate, no limit");
    }

    #[test]
    fn the_narrowest_rate_counts_and_a_refusal_costs_nothing() {
        let (meters, now) = (Meters::default(), Time(5_000_000_000));
        let narrow = Limits { request_rate: 2, ..Limits::default() };
        let both = [whose(100)[0].clone(), (Whose::Bucket(BucketId([1; 8])), narrow)];
        assert_eq!((0..50).filter(|_| meters.admits_at(&both, now)).count(), 2);
        assert_eq!((0..200).filter(|_| meters.admits_at(&whose(100), now)).count(), 98);
    }

    #[test]
    fn bytes_beyond_a_burst_wait_for_their_time() {
        let (meters, now) = (Meters::default(), Time(5_000_000_000));
        let meter = (Whose::User("u".into()), Kind::Read);
        assert_eq!(meters.take(&meter, 1000, 1000, now), Duration::ZERO);
        assert_eq!(meters.take(&meter, 1000, 500, now), Duration::from_millis(500));
        let later = now + Duration::from_millis(1000);
        assert_eq!(meters.take(&meter, 1000, 500, later), Duration::ZERO);
        assert!(meters.take(&meter, 1, u64::MAX, now).as_secs() > 10_000_000_000, "no overflow");
    }
}
