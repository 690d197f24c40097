//! How much recovery may take while clients are served.
//!
//! Nobody knows how fast a medium or a network is, and it changes. So recovery is not given a rate but a share:
//! all work that clients cause here (requests, replicated entries, what reads return) earns credit, and every
//! copy that goes out or comes in spends it. With a share of 20 % a unit for recovery needs four for clients,
//! however fast either is. An idle daemon asks nobody: its queues alone bound what is under way. A floor keeps
//! recovery going behind clients who cause next to no work.
//!
//! Repairs that a reader waits for are not recovery: they go at once.

use super::core::{Core, Timer};
use crate::store::Store;
use std::time::Duration;
use store_base::Time;

/// What an operation or a copy costs beside its bytes.
const OPERATION_BYTES: u64 = 16 << 10;

/// Credit that is kept at most, either way: what a change between busy and idle can cost the other side.
const CREDIT_BYTES_MAX: i64 = 8 << 20;

/// When to look again for those who have no credit.
const PAUSE: Duration = Duration::from_millis(10);

/// The account of a daemon.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Pace {
    credit: i64,
    /// Until when the floor has been credited.
    at: Time,
    /// When clients last caused work.
    client: Option<Time>,
    /// Somebody waits for credit, and is waked.
    is_awaited: bool,
}

impl<S: Store> Core<S> {
    /// Clients have caused work.
    pub(crate) fn earn(&mut self, bytes: usize) {
        let cost = bytes as u64 + OPERATION_BYTES;
        let share = self.config.recovery_share_percent.clamp(1, 99);
        self.pace.client = Some(self.now);
        self.credit((cost * share / (100 - share)) as i64);
    }

    /// A copy goes out or comes in.
    pub(crate) fn spend(&mut self, bytes: u64) {
        let cost = i64::try_from(bytes + OPERATION_BYTES).unwrap_or(i64::MAX);
        self.credit(-cost.min(CREDIT_BYTES_MAX));
    }

    fn credit(&mut self, bytes: i64) {
        let credit = self.pace.credit + bytes;
        self.pace.credit = credit.clamp(-CREDIT_BYTES_MAX, CREDIT_BYTES_MAX);
    }

    /// Whether clients were served lately.
    pub(crate) fn is_busy(&self) -> bool {
        self.pace.client.is_some_and(|at| self.now.since(at) < self.config.busy_for)
    }

    /// Whether another copy may begin. If not, all who are noted as wanting are looked at again soon.
    pub(crate) fn may_copy(&mut self) -> bool {
        let passed = self.now.since(self.pace.at).min(Duration::from_secs(1));
        self.pace.at = self.now;
        let floor = self.config.recovery_bytes_min as f64 * passed.as_secs_f64();
        self.credit(floor as i64);
        let may = !self.is_busy() || self.pace.credit > 0;
        if !may {
            self.copy_later();
        }
        may
    }

    /// Those who want to copy are looked at again soon: being busy ends without an event.
    pub(crate) fn copy_later(&mut self) {
        if !std::mem::replace(&mut self.pace.is_awaited, true) {
            self.set_timer(self.now + PAUSE, Timer::Copies);
        }
    }

    pub(crate) fn wake_copies(&mut self) {
        self.pace.is_awaited = false;
        self.attention.extend(self.pulls_wanted.keys().chain(self.pushes_wanted.keys()));
    }
}
