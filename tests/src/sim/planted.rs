//! Planted bugs: each must be found, else the judge is blind. The machines carry them as one value of an enum
//! each (`Fault` in the daemon's and the monitor's machine); the product never sets one.
//!
//! A new one is a value there, an `if` where it goes wrong, and a row of [`PLANTED`].

use crate::sim::schedule::Schedule;
use store_daemon::machine::Fault as DaemonFault;
use store_monitor::machine::Fault as MonitorFault;

/// A bug to plant.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Planted {
    /// For the command line.
    pub name: &'static str,
    /// The checker that it is meant for. (Another may see it first.)
    pub meant_for: &'static str,
    /// In the daemons.
    pub daemon: DaemonFault,
    /// In the monitor.
    pub monitor: MonitorFault,
    /// It shows in pools with slots; others are looked for where clients do most, in pools of copies.
    pub slots: bool,
}

impl Planted {
    /// The schedule of a seed, with the pool in which the bug is looked for.
    pub fn draw(&self, seed: u64) -> Schedule {
        let mut schedule = Schedule::draw(seed);
        let setup = &mut schedule.setup;
        setup.slots = match (self.name.is_empty(), self.slots) {
            (true, _) => setup.slots,
            (false, true) => 1 + seed % 3,
            (false, false) => 0,
        };
        schedule
    }
}

const fn daemon(name: &'static str, meant_for: &'static str, fault: DaemonFault) -> Planted {
    Planted { name, meant_for, daemon: fault, monitor: MonitorFault::None, slots: false }
}

const fn slots(name: &'static str, meant_for: &'static str, fault: DaemonFault) -> Planted {
    Planted { slots: true, ..daemon(name, meant_for, fault) }
}

const fn monitor(name: &'static str, meant_for: &'static str, fault: MonitorFault) -> Planted {
    Planted { name, meant_for, daemon: DaemonFault::None, monitor: fault, slots: false }
}

/// Those that a short run finds.
pub const PLANTED: &[Planted] = &[
    daemon("ack-before-durable", "holders", DaemonFault::AckBeforeDurable),
    daemon("no-lease-wait", "primary", DaemonFault::NoLeaseWait),
    daemon("no-dedupe", "once", DaemonFault::NoDedupe),
    daemon("forget-interval", "primary", DaemonFault::ForgetInterval),
    daemon("drop-tail", "holders", DaemonFault::DropTail),
    daemon("apply-uncommitted", "committed", DaemonFault::ApplyUncommitted),
    daemon("backfill-skips", "records", DaemonFault::BackfillSkips),
    daemon("complete-early", "records", DaemonFault::CompleteEarly),
    daemon("trim-loses-requests", "once", DaemonFault::TrimLosesRequests),
    daemon("remove-early", "holders", DaemonFault::RemoveEarly),
    daemon("copy-skips-omap", "replicas", DaemonFault::CopySkipsOmap),
    daemon("empty-child", "history", DaemonFault::EmptyChild),
    daemon("lose-xattrs", "semantics", DaemonFault::LoseXattrs),
    slots("one-slot-less", "holders", DaemonFault::OneSlotLess),
    slots("cut-at-primary", "holders", DaemonFault::CutAtPrimary),
    monitor("reform-with-anybody", "records", MonitorFault::ReformWithAnybody),
    monitor("wait-for-all-holders", "activation", MonitorFault::WaitForAllHolders),
    monitor("silence-is-health", "health", MonitorFault::SilenceIsHealth),
    monitor("small-is-healthy", "health", MonitorFault::SmallIsHealthy),
    monitor("no-learners", "heal", MonitorFault::NoLearners),
];

/// Those that hundreds of seeds may miss: for long runs, each by its name.
pub const RARE: &[Planted] = &[
    daemon("read-without-lease", "history", DaemonFault::ReadWithoutLease),
    daemon("tell-fewer-missing", "counts", DaemonFault::TellFewerMissing),
    daemon("no-reverify", "replicas", DaemonFault::NoReverify),
    daemon("trust-primary-digest", "replicas", DaemonFault::TrustPrimaryDigest),
    monitor("learner-stays-holder", "holders", MonitorFault::LearnerStaysHolder),
];

/// The one of that name.
pub fn find(name: &str) -> Option<Planted> {
    PLANTED.iter().chain(RARE).find(|planted| planted.name == name).copied()
}
