//! The event log of a run: one line per event, in order of time.
//!
//! ```text
//!    12.345678  d2 → d1   sync      1.3 i17  applied 16:210, 3 staged
//! ```
//!
//! Time in seconds, node (`mon`, `d2`, `c0`), what, placement group, interval, more.

use crate::sim::network::Node;
use crate::sim::world::World;
use store_base::op::{Outcome, Reply, Request};
use store_base::{Interval, PgId, RequestId, Time};
use store_daemon::machine::PeerMessage;

/// What to print, and a digest of it all.
#[derive(Clone, Debug, Default)]
pub struct Steps {
    /// Print lines.
    pub print: bool,
    /// Only those of this placement group, and those of none.
    pub pg: Option<PgId>,
    /// Only those that name this node.
    pub node: Option<Node>,
    /// Work out the digest.
    pub digests: bool,
    /// Of all lines so far.
    pub digest: u64,
}

/// One event.
struct Line<'a> {
    now: Time,
    nodes: [Option<Node>; 2],
    what: &'a str,
    pg: Option<(PgId, Option<Interval>)>,
    more: String,
}

/// As a line names it.
pub fn name(node: Node) -> String {
    match node {
        Node::Monitor => "mon".into(),
        Node::Daemon(i) => format!("d{i}"),
        Node::Client(i) => format!("c{i}"),
    }
}

/// The reverse of [`name`].
pub fn node(name: &str) -> Option<Node> {
    match (name, name.get(..1)?, name.get(1..)?.parse().ok()) {
        ("mon", ..) => Some(Node::Monitor),
        (_, "d", Some(i)) => Some(Node::Daemon(i)),
        (_, "c", Some(i)) => Some(Node::Client(i)),
        _ => None,
    }
}

/// The longest part of a line that tells more.
const MORE_MAX: usize = 400;

impl Steps {
    /// Whether lines are of any use.
    pub fn wanted(&self) -> bool {
        self.print || self.digests
    }

    #[allow(clippy::print_stdout)] // the log is for people
    fn put(&mut self, line: Line<'_>) {
        let about = match line.pg {
            Some((pg, Some(interval))) => format!("{pg} i{interval}"),
            Some((pg, None)) => pg.to_string(),
            None => String::new(),
        };
        let nodes: Vec<String> = line.nodes.iter().flatten().map(|node| name(*node)).collect();
        let seconds = line.now.0 as f64 / 1e9;
        let more: String = line.more.chars().take(MORE_MAX).collect();
        let text =
            format!("{seconds:12.6}  {:9} {:10} {about:10} {more}", nodes.join(" → "), line.what);
        if self.digests {
            for byte in text.bytes() {
                self.digest = (self.digest ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
            }
        }
        let wants_pg = |(pg, _)| self.pg.is_none_or(|wanted| wanted == pg);
        let wants_node = self.node.is_none_or(|wanted| line.nodes.contains(&Some(wanted)));
        if self.print && wants_node && line.pg.is_none_or(wants_pg) {
            println!("{}", text.trim_end());
        }
    }

    /// A message between daemons arrives.
    pub fn peer(&mut self, now: Time, from: usize, to: usize, message: &PeerMessage) {
        let nodes = [Some(Node::Daemon(from)), Some(Node::Daemon(to))];
        let more = format!("{message:?}");
        let what = more.split([' ', '{', '(']).next().unwrap_or_default().to_lowercase();
        let pg = about(message).map(|(pg, interval)| (pg, Some(interval)));
        self.put(Line { now, nodes, what: &what, pg, more });
    }

    /// A request arrives.
    pub fn request(&mut self, now: Time, from: Node, to: usize, request: &Request) {
        let nodes = [Some(from), Some(Node::Daemon(to))];
        let (id, object, ops) = (request.id, &request.object, &request.ops);
        let more = format!("{id} resend {} {object} {ops:?}", request.resend);
        self.put(Line { now, nodes, what: "request", pg: Some((request.pg, None)), more });
    }

    /// An answer arrives.
    pub fn reply(&mut self, now: Time, from: usize, to: usize, pg: Option<PgId>, reply: &Reply) {
        let nodes = [Some(Node::Daemon(from)), Some(Node::Client(to))];
        let what = match reply {
            Reply::Answer { outcome: Outcome::Done { .. }, .. } => "done",
            Reply::Answer { outcome: Outcome::Misdirected { .. }, .. } => "misdirect",
            Reply::Answer { outcome: Outcome::Refused { .. }, .. } => "refused",
            Reply::Notify { .. } => "notify",
        };
        let pg = pg.map(|pg| (pg, None));
        self.put(Line { now, nodes, what, pg, more: format!("{reply:?}") });
    }
}

/// Which group and interval a message names.
fn about(message: &PeerMessage) -> Option<(PgId, Interval)> {
    match message {
        PeerMessage::Join { pg, interval, .. }
        | PeerMessage::Sync { pg, interval, .. }
        | PeerMessage::Adopt { pg, interval, .. }
        | PeerMessage::Replicate { pg, interval, .. }
        | PeerMessage::Ack { pg, interval, .. }
        | PeerMessage::Pull { pg, interval, .. }
        | PeerMessage::Push { pg, interval, .. }
        | PeerMessage::PushAck { pg, interval, .. }
        | PeerMessage::PullRefused { pg, interval, .. }
        | PeerMessage::Scan { pg, interval, .. }
        | PeerMessage::Scanned { pg, interval, .. } => Some((*pg, *interval)),
        PeerMessage::Committed { points } => points.first().map(|p| (p.pg, p.interval)),
        _ => None,
    }
}

/// Which request an answer is to.
pub fn asked(reply: &Reply) -> Option<RequestId> {
    match reply {
        Reply::Answer { id, .. } => Some(*id),
        Reply::Notify { .. } => None,
    }
}

impl World {
    /// A line about a node.
    pub fn say(&mut self, node: Node, what: &str, more: impl FnOnce() -> String) {
        if self.steps.wanted() {
            let (now, nodes) = (self.now, [Some(node), None]);
            self.steps.put(Line { now, nodes, what, pg: None, more: more() });
        }
    }

    /// A line about a daemon.
    pub fn say_of(&mut self, i: usize, what: &str, more: impl FnOnce() -> String) {
        self.say(Node::Daemon(i), what, more);
    }

    /// A line about a group of a daemon, or of the monitor's map.
    pub fn say_pg(
        &mut self,
        node: Node,
        what: &str,
        pg: PgId,
        interval: Interval,
        more: impl FnOnce() -> String,
    ) {
        if self.steps.wanted() {
            let (now, nodes) = (self.now, [Some(node), None]);
            let pg = Some((pg, Some(interval)));
            self.steps.put(Line { now, nodes, what, pg, more: more() });
        }
    }
}
