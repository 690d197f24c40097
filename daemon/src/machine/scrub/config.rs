//! Limits and times of scrub.

use std::time::Duration;

/// Settings of scrub. Every bound and every pause is here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScrubConfig {
    /// Every group is walked light within this time. 0: never by itself.
    pub interval: Duration,
    /// Every group is walked deep within this time; the window in which health counts a copy as verified.
    /// 0: never by itself.
    pub deep_interval: Duration,
    /// Bytes of each copy that a walk reads in a second while the daemon is idle. 0: no limit.
    pub bytes_per_second: u64,
    /// While clients are served or copies are made, only this part of it.
    pub busy_divisor: u64,
    /// Groups that a daemon walks at a time, of those that it leads.
    pub walks_max: usize,
    /// Digests that a daemon makes at a time, for its own walks and those of others.
    pub digests_max: usize,
    /// How often it is looked at what is due.
    pub check_every: Duration,
    /// Objects in one round.
    pub objects_max: usize,
    /// Bytes in one round, unless one object has more.
    pub bytes_max: u64,
    /// Bytes of one read.
    pub part_bytes: u64,
    /// Keys of an omap looked at in one step.
    pub keys_max: usize,
    /// A digest that has not come after this long is asked for again …
    pub answer_timeout: Duration,
    /// … so often; then the walk is given up for now.
    pub answers_asked_max: u32,
    /// How often an object that changes meanwhile is looked at before its writes wait.
    pub busy_max: u32,
    /// How long the writes of such an object wait at most.
    pub hold_max: Duration,
    /// How often a copy is replaced before it is called bad for good.
    pub mends_max: u32,
    /// How long to wait after something that did not work out.
    pub retry: Duration,
    /// A group with a bad object is walked again after as long as that has been known, but not sooner and not later
    /// than this: a medium that failed once is soon well again.
    pub retry_bad_min: Duration,
    /// See `retry_bad_min`.
    pub retry_bad_max: Duration,
    /// How often the position of a walk is made durable, here and at the members.
    pub save_every: Duration,
    /// Inconsistent objects of a group that are known by name.
    pub bad_max: usize,
}

impl Default for ScrubConfig {
    fn default() -> Self {
        const DAY: u64 = 24 * 3600;
        ScrubConfig {
            interval: Duration::from_secs(DAY),
            deep_interval: Duration::from_secs(7 * DAY),
            bytes_per_second: 64 << 20,
            busy_divisor: 4,
            walks_max: 1,
            digests_max: 4,
            check_every: Duration::from_secs(1),
            objects_max: 64,
            bytes_max: 4 << 20,
            part_bytes: 1 << 20,
            keys_max: 128,
            answer_timeout: Duration::from_secs(20),
            answers_asked_max: 3,
            busy_max: 4,
            hold_max: Duration::from_secs(5),
            mends_max: 4,
            retry: Duration::from_secs(30),
            retry_bad_min: Duration::from_secs(60),
            retry_bad_max: Duration::from_secs(3600),
            save_every: Duration::from_secs(10),
            bad_max: 256,
        }
    }
}
