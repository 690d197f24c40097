//! The nodes: the product's machines, each with the little that a shell does in a simulated world.

use crate::sim::medium::{AnyStore, Medium};
use crate::sim::network::Node;
use crate::sim::observe;
use crate::sim::workload::Workload;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;
use store_base::{DaemonId, Incarnation, ObjectName, PgId, Time};
use store_client::machine::Client;
use store_daemon::machine::{Daemon, Identity};
use store_monitor::machine::{Monitor, Settings};
use store_monitor::state::memory::MemoryStore as StateMemory;

/// What all nodes have: a life that ends with a crash, and a clock of its own.
#[derive(Clone, Copy, Debug)]
pub struct Life {
    /// Counts the starts; an event for an earlier life is dropped.
    pub number: u64,
    /// When this clock showed its start value, in the world's time.
    began: Time,
    /// What it showed then.
    offset: u64,
    /// How fast it runs, in millionths.
    rate: u64,
    /// The earliest wake-up that is in the queue, in the world's time.
    pub wake_queued: Option<Time>,
}

impl Life {
    /// A life whose clock starts at `offset` and runs at `rate` millionths of the world's.
    pub fn new(number: u64, began: Time, offset: u64, rate: u64) -> Life {
        Life { number, began, offset, rate, wake_queued: None }
    }

    /// What this clock shows.
    pub fn local(&self, world: Time) -> Time {
        Time(
            self.offset
                + (u128::from(world.0 - self.began.0) * u128::from(self.rate) / 1_000_000) as u64,
        )
    }

    /// When this clock will show `local`; rounded up, so that a wake-up is never early.
    pub fn world(&self, local: Time) -> Time {
        let passed = u128::from(local.0.saturating_sub(self.offset)) * 1_000_000;
        Time(self.began.0 + passed.div_ceil(u128::from(self.rate)) as u64 + 1)
    }
}

/// A session that a daemon wants to keep to a peer.
#[derive(Clone, Debug)]
pub struct PeerDial {
    /// The life that the map shows.
    pub incarnation: Incarnation,
    /// Which node.
    pub node: Node,
    /// When it is open.
    pub session: Option<u64>,
    /// The next pause before dialling again.
    pub pause: Duration,
    /// Changes with every `Connect`: an attempt of an older one is dropped.
    pub attempt: u64,
}

/// A daemon and its disk.
pub struct DaemonNode {
    /// What survives a crash.
    pub medium: Medium,
    /// As it tells the monitor.
    pub identity: Identity,
    /// `None` while it is down.
    pub machine: Option<Daemon<AnyStore>>,
    /// The present or last life.
    pub life: Life,
    /// Sessions that it keeps.
    pub peers: BTreeMap<DaemonId, PeerDial>,
    /// A completion of the disk is in the queue.
    pub disk_queued: bool,
    /// The disk takes this much longer than usual until then.
    pub slow_until: Time,
    /// Its disk takes nothing but deletes.
    pub full: bool,
    /// Objects that the adversary damaged here.
    pub damaged: BTreeSet<(PgId, ObjectName)>,
    /// What was seen of its groups after its last step.
    pub seen: observe::Groups,
    /// The id that it had last.
    pub last_id: Option<DaemonId>,
    /// When it died, if it is down.
    pub down_since: Time,
}

/// A client and what it does.
pub struct ClientNode {
    /// The machine; clients do not crash, they lose their sessions.
    pub machine: Client,
    /// Its clock.
    pub life: Life,
    /// The machine's session number → the network's.
    pub sessions: BTreeMap<(DaemonId, u64), u64>,
    /// What it does.
    pub workload: Workload,
}

/// The monitor and its store.
pub struct MonitorNode {
    /// What survives.
    pub store: StateMemory,
    /// Its timings, and what is planted in it.
    pub settings: Settings,
    /// `None` while it is down.
    pub machine: Option<Monitor>,
    /// The present or last life.
    pub life: Life,
    /// Open calls: ticket → who asked, in which life, which call.
    pub calls: BTreeMap<u64, Caller>,
    /// The last ticket given.
    pub ticket_last: u64,
}

/// Who waits for an answer of the monitor.
#[derive(Clone, Copy, Debug)]
pub struct Caller {
    /// Which node; `None` for the judge.
    pub node: Option<Node>,
    /// Which life of it.
    pub life: u64,
}
