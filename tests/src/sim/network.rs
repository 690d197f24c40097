//! Sessions between nodes, and who cannot hear whom.
//!
//! A session keeps the order of its messages in each direction until it breaks; then what was under way is
//! gone. While its nodes are parted it holds messages back, as TCP does, and breaks after [`KEEP_ALIVE`].

use crate::sim::random::Random;
use bytes::Bytes;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;
use store_base::Time;

/// A session that crosses a partition breaks after this long.
pub const KEEP_ALIVE: Duration = Duration::from_secs(3);

/// An attempt to dial through a partition fails after this long.
pub const DIAL_TIMEOUT: Duration = Duration::from_secs(1);

/// A node of the simulated cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Node {
    /// The monitor.
    Monitor,
    /// A daemon, by its place in the list; not its id.
    Daemon(usize),
    /// A client.
    Client(usize),
}

/// One end of a session: a life of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct End {
    /// Which node.
    pub node: Node,
    /// Which life of it.
    pub life: u64,
}

/// A session. Side 0 dialled, side 1 accepted.
#[derive(Clone, Debug)]
pub struct Session {
    /// Both ends.
    pub ends: [End; 2],
    /// The earliest time at which the next message to this side may arrive.
    next_arrival: [Time; 2],
    /// Messages to this side that a partition holds back.
    pub held: [Vec<Bytes>; 2],
}

/// All sessions and partitions.
#[derive(Default)]
pub struct Network {
    /// By number, never given twice.
    pub sessions: BTreeMap<u64, Session>,
    last: u64,
    /// What these nodes say and hear takes long, until then.
    pub slow_until: BTreeMap<Node, Time>,
    /// From whom to whom nothing gets through.
    blocked: BTreeSet<(Node, Node)>,
}

impl Network {
    /// A new session.
    pub fn open(&mut self, dialler: End, acceptor: End) -> u64 {
        self.last += 1;
        let session = Session {
            ends: [dialler, acceptor],
            next_arrival: [Time::ZERO; 2],
            held: [Vec::new(), Vec::new()],
        };
        self.sessions.insert(self.last, session);
        self.last
    }

    /// When a message that is sent to `side` now arrives: some time later, never before an earlier one.
    pub fn arrival(
        &mut self,
        session: u64,
        side: usize,
        now: Time,
        random: &mut Random,
    ) -> Option<Time> {
        let mut latency = latency(random);
        let session = self.sessions.get_mut(&session)?;
        let is_slow = |end: &End| self.slow_until.get(&end.node).is_some_and(|until| *until > now);
        if session.ends.iter().any(is_slow) {
            latency += random.between(Duration::from_millis(50), Duration::from_millis(900));
        }
        let at = (now + latency).max(session.next_arrival[side]);
        session.next_arrival[side] = at;
        Some(at)
    }

    /// Who speaks to whom towards a side, if both are daemons.
    pub fn ends_between_daemons(&self, session: u64, side: usize) -> Option<(End, End)> {
        let ends = self.sessions.get(&session)?.ends;
        let both = ends.iter().all(|end| matches!(end.node, Node::Daemon(_)));
        both.then_some((ends[1 - side], ends[side]))
    }

    /// Whether nothing gets from one to the other.
    pub fn is_blocked(&self, from: Node, to: Node) -> bool {
        self.blocked.contains(&(from, to))
    }

    /// Whether a round trip is impossible.
    pub fn is_parted(&self, a: Node, b: Node) -> bool {
        self.is_blocked(a, b) || self.is_blocked(b, a)
    }

    /// Stops everything from one node to another.
    pub fn block(&mut self, from: Node, to: Node) {
        self.blocked.insert((from, to));
    }

    /// Ends all partitions.
    pub fn heal(&mut self) {
        self.blocked.clear();
    }

    /// Sessions of a node.
    pub fn of(&self, node: Node) -> Vec<u64> {
        let with = |session: &Session| session.ends.iter().any(|end| end.node == node);
        self.sessions.iter().filter(|(_, s)| with(s)).map(|(id, _)| *id).collect()
    }
}

/// Mostly quick, sometimes slow, seldom very slow.
pub fn latency(random: &mut Random) -> Duration {
    let (low, high) = match random.below(100) {
        0 => (10_000, 400_000),
        1..=9 => (500, 10_000),
        _ => (50, 500),
    };
    random.between(Duration::from_micros(low), Duration::from_micros(high))
}
