//! A few daemons, a network and a map, on one thread, with memory for disks.
//!
//! The network keeps the order within a session, and loses what is on its way when a session breaks; a
//! cut between two daemons is silent. Disks complete by themselves, or when told. The map is what the test
//! says; asks of daemons are collected, or carried out by the rules of R1 (`auto`).

use crate::machine::*;
use crate::store::memory::{Medium, MemoryStore};
use crate::store::{Completion, Store};
use bytes::Bytes;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;
use store_base::codec::{Decode, Encode};
use store_base::map::{DaemonInfo, Erasure, OsdMap, PgRecord, Pool};
use store_base::op::{Op, Outcome, Reply, Request};
use store_base::wire::{BeatReply, BootReply, PgAsk, pg_ask};
use store_base::*;

/// What will happen.
#[derive(Clone, Debug)]
pub(super) enum Coming {
    /// An event for one life of a daemon.
    To(DaemonId, Incarnation, Box<Event>),
    /// A message within a session.
    Message { from: DaemonId, to: DaemonId, session: u64, message: Box<PeerMessage> },
    /// A daemon dials.
    Dial { from: DaemonId, to: DaemonId, generation: u64 },
}

struct Session {
    number: u64,
    lives: (Incarnation, Incarnation),
    /// Nothing on it arrives before this.
    busy_until: Time,
}

pub(super) struct Node {
    pub(super) medium: Medium,
    pub(super) daemon: Option<Daemon<MemoryStore>>,
    /// Peers to keep sessions to, and the number of that wish.
    dials: BTreeMap<DaemonId, u64>,
    pub(super) disk_held: bool,
}

pub(super) struct World {
    pub(super) now: Time,
    pub(super) map: OsdMap,
    pub(super) nodes: BTreeMap<DaemonId, Node>,
    queue: BTreeMap<(Time, u64), Coming>,
    sequence: u64,
    sessions: BTreeMap<(DaemonId, DaemonId), Session>,
    pub(super) cuts: BTreeSet<(DaemonId, DaemonId)>,
    /// Cut off from the monitor, both ways.
    pub(super) deaf: BTreeSet<DaemonId>,
    pub(super) config: Config,
    /// Asks that came, not carried out unless `auto`.
    pub(super) asks: Vec<(DaemonId, PgAsk)>,
    pub(super) auto: bool,
    /// Lines for transcripts.
    pub(super) said: Vec<String>,
    pub(super) trace: bool,
    /// Answers that came: link, id, outcome.
    pub(super) answers: Vec<(LinkId, RequestId, Outcome)>,
    /// Latency of the next message, by a seeded source; 0 for a fixed one.
    pub(super) chance: Option<Chance>,
}

/// Seeded numbers (splitmix64).
#[derive(Clone, Debug)]
pub(in crate::machine) struct Chance(pub(in crate::machine) u64);

impl Chance {
    pub(in crate::machine) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(in crate::machine) fn below(&mut self, n: u64) -> u64 {
        self.next() % n.max(1)
    }

    pub(in crate::machine) fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }
}

pub(super) const PG: PgId = PgId { pool: PoolId(1), seed: 0 };

impl World {
    pub(super) fn new(count: i32, size: u8, min_size: u8) -> World {
        let pool =
            Pool { name: "p".into(), size, min_size, pg_num: 1, pgp_num: 1, ..Pool::default() };
        let map = OsdMap {
            cluster: ClusterId([7; 16]),
            pools: BTreeMap::from([(PoolId(1), pool)]),
            pool_max: 1,
            ..OsdMap::default()
        };
        let mut world = World {
            now: Time(1_000_000_000),
            map,
            nodes: BTreeMap::new(),
            queue: BTreeMap::new(),
            sequence: 0,
            sessions: BTreeMap::new(),
            cuts: BTreeSet::new(),
            deaf: BTreeSet::new(),
            config: Config::default(),
            asks: Vec::new(),
            auto: false,
            said: Vec::new(),
            trace: false,
            answers: Vec::new(),
            chance: None,
        };
        for id in 0..count {
            let medium = Medium::new();
            let node = Node { medium, daemon: None, dials: BTreeMap::new(), disk_held: false };
            world.nodes.insert(DaemonId(id), node);
        }
        world
    }

    pub(super) fn start(&mut self, id: DaemonId) {
        let config = self.config.clone();
        let node = self.nodes.get_mut(&id).expect("a daemon of this world");
        let mut uuid = [0; 16];
        uuid[0] = id.0 as u8;
        let address = format!("10.0.0.{}:6800", id.0);
        let identity =
            Identity { uuid, address, host: format!("h{}", id.0), ..Identity::default() };
        let store = MemoryStore::open(&node.medium);
        node.daemon = Some(Daemon::new(config, identity, store).expect("the store can be read"));
        node.dials.clear();
        self.step(id, Event::Start { wall: self.wall() });
        if !self.deaf.contains(&id) {
            let map = Arc::new(self.map.clone());
            self.step(id, Event::Map(map));
        }
    }

    /// A daemon can reach the monitor again.
    pub(super) fn hears_again(&mut self, id: DaemonId) {
        if self.deaf.remove(&id) {
            let map = Arc::new(self.map.clone());
            self.step(id, Event::Map(map));
        }
    }

    fn wall(&self) -> Timestamp {
        Timestamp {
            secs: 1_000_000 + self.now.0 / 1_000_000_000,
            nanos: (self.now.0 % 1_000_000_000) as u32,
        }
    }

    /// The daemon ends as planned.
    pub(super) fn stop(&mut self, id: DaemonId) {
        self.step(id, Event::Stop);
        self.run(Duration::from_millis(1));
        let pending = self.nodes[&id].medium.pending();
        self.crash(id, pending);
    }

    /// The daemon is gone; of what its disk had not confirmed, the first `keep` batches survive.
    pub(super) fn crash(&mut self, id: DaemonId, keep: usize) {
        let node = self.nodes.get_mut(&id).expect("a daemon of this world");
        node.daemon = None;
        node.medium.crash(keep);
        node.dials.clear();
        let broken: Vec<_> =
            self.sessions.keys().filter(|(from, to)| *from == id || *to == id).copied().collect();
        broken.into_iter().for_each(|pair| self.break_session(pair));
    }

    pub(super) fn cut(&mut self, a: DaemonId, b: DaemonId) {
        self.cuts.insert((a, b));
        self.cuts.insert((b, a));
        // Silent: what is on its way is lost, and nobody is told before the cut is mended.
        for pair in [(a, b), (b, a)] {
            if let Some(session) = self.sessions.get(&pair) {
                let number = session.number;
                self.queue.retain(|_, coming| {
                    !matches!(coming, Coming::Message { session, .. } if *session == number)
                });
            }
        }
    }

    pub(super) fn heal(&mut self, a: DaemonId, b: DaemonId) {
        for pair in [(a, b), (b, a)] {
            self.cuts.remove(&pair);
            self.break_session(pair);
        }
    }

    pub(super) fn break_session(&mut self, pair: (DaemonId, DaemonId)) {
        let Some(session) = self.sessions.remove(&pair) else { return };
        self.queue.retain(|_, coming| {
            !matches!(coming, Coming::Message { session: of, .. } if *of == session.number)
        });
        let (from, to) = pair;
        let incarnation = session.lives.1;
        let lost = Event::PeerLost { peer: to, incarnation, refused: false };
        self.push(self.now, Coming::To(from, session.lives.0, Box::new(lost)));
        if let Some(generation) = self.nodes[&from].dials.get(&to).copied() {
            self.push(self.now, Coming::Dial { from, to, generation });
        }
    }

    fn push(&mut self, at: Time, coming: Coming) {
        self.sequence += 1;
        self.queue.insert((at, self.sequence), coming);
    }

    /// Steps a daemon and carries out what it wants.
    pub(super) fn step(&mut self, id: DaemonId, event: Event) {
        let Some(daemon) = self.nodes.get_mut(&id).and_then(|node| node.daemon.as_mut()) else {
            return;
        };
        let mut actions = Vec::new();
        daemon.step(self.now, event, &mut actions);
        let life = daemon.incarnation();
        for action in actions {
            self.act(id, life, action);
        }
    }

    fn act(&mut self, id: DaemonId, life: Incarnation, action: Action) {
        if matches!(action, Action::ToMonitor(_)) && self.deaf.contains(&id) {
            return;
        }
        match action {
            Action::Connect { peer, .. } => {
                self.sequence += 1;
                let generation = self.sequence;
                self.nodes.get_mut(&id).expect("it just acted").dials.insert(peer, generation);
                self.push(self.now, Coming::Dial { from: id, to: peer, generation });
            }
            Action::Disconnect { peer } => {
                self.nodes.get_mut(&id).expect("it just acted").dials.remove(&peer);
                self.sessions.remove(&(id, peer));
            }
            Action::ToPeer { to, message } => self.send(id, to, message),
            Action::ToClient { link, reply: Reply::Answer { id: request, outcome, .. } } => {
                self.said.push(format!("{id} answers {}: {}", request.tid, describe(&outcome)));
                self.answers.push((link, request, outcome));
            }
            Action::ToClient { .. } => {}
            Action::ToMonitor(MonitorRequest::Boot(_)) => {
                self.mark_up(id, life);
                let cluster = self.map.cluster.0.to_vec();
                let epoch = self.map.epoch.0;
                let reply = BootReply {
                    daemon: id.0,
                    cluster: cluster.into(),
                    epoch,
                    refused: String::new(),
                };
                self.push(self.now, Coming::To(id, life, Box::new(Event::BootReply(reply))));
            }
            Action::ToMonitor(MonitorRequest::Beat(beat)) => {
                for pg in &beat.pgs {
                    if self.trace {
                        self.said.push(format!("{id} reports {} in {}", pg.state, pg.interval));
                    }
                }
                let (epoch, number) = (self.map.epoch.0, beat.number);
                let reply = BeatReply { epoch, number, ..BeatReply::default() };
                self.push(self.now, Coming::To(id, life, Box::new(Event::BeatReply(reply))));
            }
            Action::ToMonitor(MonitorRequest::Ask(batch)) => {
                for ask in batch.asks {
                    self.said.push(format!("{id} asks {:?} in {}", ask.kind(), ask.interval));
                    self.asks.push((id, ask));
                }
                let epoch = self.map.epoch;
                self.push(self.now, Coming::To(id, life, Box::new(Event::AskReply { epoch })));
                if self.auto {
                    self.carry_out_asks();
                }
            }
            Action::ToMonitor(MonitorRequest::Failure(report)) => {
                let how = if report.refused { "refuses connections" } else { "is silent" };
                self.said.push(format!("{id} says {} {how}", DaemonId(report.failed)));
            }
            Action::Fatal { why } => panic!("{id} cannot go on: {why}"),
        }
    }

    fn send(&mut self, from: DaemonId, to: DaemonId, message: PeerMessage) {
        let latency = match &mut self.chance {
            Some(chance) => Duration::from_micros(50 + chance.below(2000)),
            None => Duration::from_micros(100),
        };
        if self.cuts.contains(&(from, to)) {
            return;
        }
        let Some(session) = self.sessions.get_mut(&(from, to)) else { return };
        let at = (self.now + latency).max(session.busy_until);
        session.busy_until = at;
        let number = session.number;
        let is_noise = matches!(
            message,
            PeerMessage::Ping { .. }
                | PeerMessage::Pong { .. }
                | PeerMessage::ScrubNote { .. }
                | PeerMessage::ScrubNoted { .. }
        );
        if self.trace && !is_noise {
            self.said.push(format!("{from} -> {to} {}", summary(&message)));
        }
        let bytes = message.to_bytes();
        assert!(bytes.len() <= MESSAGE_BYTES_MAX, "a message fits");
        let message = PeerMessage::from_bytes(bytes).expect("a message can be read back");
        self.push(at, Coming::Message { from, to, session: number, message: Box::new(message) });
    }

    fn life(&self, id: DaemonId) -> Option<Incarnation> {
        self.nodes.get(&id)?.daemon.as_ref().map(Daemon::incarnation)
    }

    fn happen(&mut self, coming: Coming) {
        match coming {
            Coming::To(id, life, event) => {
                if self.life(id) == Some(life) {
                    self.step(id, *event);
                }
            }
            Coming::Message { from, to, session, message } => {
                let Some(open) = self.sessions.get(&(from, to)).filter(|s| s.number == session)
                else {
                    return;
                };
                let incarnation = open.lives.0;
                self.step(to, Event::Peer { from, incarnation, message: *message });
            }
            Coming::Dial { from, to, generation } => self.dial(from, to, generation),
        }
    }

    fn dial(&mut self, from: DaemonId, to: DaemonId, generation: u64) {
        let Some(own) = self.life(from) else { return };
        let is_wanted = self.nodes[&from].dials.get(&to) == Some(&generation);
        if !is_wanted || self.sessions.contains_key(&(from, to)) {
            return;
        }
        let again = Coming::Dial { from, to, generation };
        if self.cuts.contains(&(from, to)) {
            self.push(self.now + Duration::from_millis(200), again);
            return;
        }
        match self.life(to) {
            Some(life) => {
                self.sequence += 1;
                let session =
                    Session { number: self.sequence, lives: (own, life), busy_until: self.now };
                self.sessions.insert((from, to), session);
                self.step(from, Event::PeerUp { peer: to, incarnation: life });
            }
            None => {
                let incarnation =
                    self.map.daemons.get(&to).map_or(Incarnation(0), |d| d.incarnation);
                self.push(self.now + Duration::from_millis(50), again);
                self.step(from, Event::PeerLost { peer: to, incarnation, refused: true });
            }
        }
    }

    /// Lets disks work, once.
    fn poll_disks(&mut self) -> bool {
        let mut any = false;
        let ids: Vec<_> = self.nodes.keys().copied().collect();
        for id in ids {
            let node = self.nodes.get_mut(&id).expect("just listed");
            let Some(daemon) = &mut node.daemon else { continue };
            if !node.disk_held {
                match &mut self.chance {
                    Some(chance) => {
                        // Some disks are slow for some time.
                        let slow =
                            (self.now.0 / 400_000_000 + u64::from(id.0 as u32)).is_multiple_of(5);
                        if chance.one_in(if slow { 60 } else { 3 }) {
                            node.medium.complete_next();
                        }
                        if chance.one_in(3) {
                            node.medium.complete_next_read();
                        }
                    }
                    None => node.medium.complete_all(),
                }
            }
            let mut done = Vec::new();
            daemon.store_mut().poll(&mut done);
            if !done.is_empty() {
                any = true;
                self.step(id, Event::Store(done));
            }
        }
        any
    }

    /// Lets everything happen until `until`.
    pub(super) fn run(&mut self, by: Duration) {
        let until = self.now + by;
        loop {
            while self.poll_disks() {}
            let wakes = self.nodes.values().filter_map(|node| node.daemon.as_ref()?.wake_at());
            let wake = wakes.min();
            let next = self.queue.first_key_value().map(|((at, _), _)| *at);
            let mut at = wake.into_iter().chain(next).min().unwrap_or(until);
            let busy = self.nodes.values().any(|node| {
                node.daemon.is_some()
                    && !node.disk_held
                    && node.medium.pending() + node.medium.pending_reads() > 0
            });
            if busy {
                at = at.min(self.now + Duration::from_micros(200));
            }
            if at > until {
                self.now = until;
                return;
            }
            self.now = self.now.max(at);
            if let Some(entry) = self.queue.first_entry()
                && entry.key().0 <= self.now
            {
                let coming = entry.remove();
                self.happen(coming);
                continue;
            }
            let due: Vec<_> = self
                .nodes
                .iter()
                .filter(|(_, node)| {
                    let wake = node.daemon.as_ref().and_then(Machine::wake_at);
                    wake.is_some_and(|wake| wake <= self.now)
                })
                .map(|(id, _)| *id)
                .collect();
            let idle = due.is_empty();
            due.into_iter().for_each(|id| self.step(id, Event::Wake));
            if idle && at >= until {
                return;
            }
        }
    }

    fn mark_up(&mut self, id: DaemonId, life: Incarnation) {
        let known = self.map.daemons.get(&id);
        if known.is_some_and(|info| info.up && info.incarnation == life) {
            return;
        }
        let address = format!("10.0.0.{}:6800", id.0);
        let info = DaemonInfo { up: true, incarnation: life, address, ..DaemonInfo::default() };
        self.map.daemons.insert(id, info);
        self.publish();
    }

    pub(super) fn mark_down(&mut self, id: DaemonId) {
        if let Some(info) = self.map.daemons.get_mut(&id) {
            info.up = false;
        }
        self.publish();
    }

    /// The map as it is now becomes the next epoch and goes to everybody who lives.
    pub(super) fn publish(&mut self) {
        self.map.epoch = self.map.epoch.next();
        let map = Arc::new(self.map.clone());
        let ids: Vec<_> = self.nodes.keys().copied().collect();
        for id in ids {
            let Some(life) = self.life(id).filter(|_| !self.deaf.contains(&id)) else { continue };
            let delay = match &mut self.chance {
                // Some hear of it late.
                Some(chance) => match chance.one_in(4) {
                    true => Duration::from_millis(chance.below(2500)),
                    false => Duration::from_micros(chance.below(5000)),
                },
                None => Duration::ZERO,
            };
            self.push(
                self.now + delay,
                Coming::To(id, life, Box::new(Event::Map(Arc::clone(&map)))),
            );
        }
    }

    /// A new interval (R1), published.
    pub(super) fn change(&mut self, change: impl FnOnce(&mut PgRecord)) {
        let mut record = self.map.pgs.get(&PG).cloned().unwrap_or_default();
        change(&mut record);
        record.interval = record.interval.next();
        record.since = self.map.epoch.next();
        let primary = self.map.daemons.get(&record.primary);
        record.primary_incarnation = primary.map_or(Incarnation(0), |info| info.incarnation);
        self.map.pgs.insert(PG, record);
        self.publish();
    }

    /// R2: members from the holders.
    pub(super) fn reform(&mut self, members: &[DaemonId]) {
        let members = members.to_vec();
        self.change(|record| {
            record.primary = members[0];
            record.holders.extend(members.iter().copied());
            record.members = members;
            record.learners.clear();
        });
    }

    /// R12.
    pub(super) fn join(&mut self, learner: DaemonId) {
        let size = self.map.pools[&PoolId(1)].erasure.as_ref().map(Erasure::slots);
        self.change(|record| {
            if let Some(size) = size {
                // Sometimes the slot that it had.
                let turn = record.interval.0;
                let slot = (turn % u32::from(size)) as u8;
                let had = record.slots.get(&learner).filter(|_| turn % 3 == 0).copied();
                let held = record.slots_of(&record.members);
                // One that nobody has goes first, as the monitor sees to it.
                let lacking = (0..size).find(|slot| !held.contains(&usize::from(*slot)));
                record.slots.insert(learner, lacking.or(had).unwrap_or(slot));
            }
            record.learners = BTreeSet::from([learner]);
            record.holders.remove(&learner);
            record.writers.remove(&learner);
        });
    }

    /// Carries out what was asked, by compare-and-set on the interval.
    pub(super) fn carry_out_asks(&mut self) {
        for (from, ask) in std::mem::take(&mut self.asks) {
            let record = self.map.pgs.get(&PG).cloned().unwrap_or_default();
            if ask.interval != record.interval.0 {
                continue;
            }
            match ask.kind() {
                pg_ask::Kind::Activate if !record.is_active() => {
                    let record = self.map.pgs.get_mut(&PG).expect("just looked at");
                    record.holders = record.members.iter().copied().collect();
                    record.writers.clone_from(&record.holders);
                    self.publish();
                }
                pg_ask::Kind::Promote if record.learners.contains(&DaemonId(ask.learner)) => {
                    let learner = DaemonId(ask.learner);
                    self.change(|record| {
                        record.learners.remove(&learner);
                        record.members.push(learner);
                        record.holders.insert(learner);
                        record.writers.insert(learner);
                    });
                }
                pg_ask::Kind::Lost => {
                    self.change(|record| {
                        record.members.retain(|member| *member != from);
                        record.holders.remove(&from);
                        record.writers.remove(&from);
                        record.primary = record.members[0];
                    });
                }
                pg_ask::Kind::Reform => {
                    let members = record.members.clone();
                    self.change(|record| {
                        record.members = members;
                        record.learners.clear();
                    });
                }
                _ => {}
            }
        }
    }

    pub(super) fn ask(
        &mut self,
        to: DaemonId,
        link: u64,
        tid: u64,
        resend: u32,
        object: &str,
        ops: Vec<Op>,
    ) {
        let request = Request {
            id: RequestId { client: ClientId(100 + link), incarnation: 1, tid },
            epoch: self.map.epoch,
            pg: PG,
            object: ObjectName::new(Bytes::copy_from_slice(object.as_bytes())),
            resend,
            ops,
            ..Request::default()
        };
        self.step(to, Event::Client { link: LinkId(link), request });
    }

    /// All objects of a daemon with their bytes, from its store as it is.
    pub(super) fn contents(&mut self, id: DaemonId) -> BTreeMap<ObjectName, (Version, Bytes)> {
        let node = self.nodes.get(&id).expect("a daemon of this world");
        node.medium.complete_all();
        let mut store = MemoryStore::open(&node.medium);
        let all = store.list(PG, None, 10_000).unwrap_or_default();
        let mut contents = BTreeMap::new();
        for (n, (object, info)) in all.into_iter().enumerate() {
            store.read(Ticket(n as u64), PG, &object, 0, 0);
            node.medium.complete_all();
            let mut done = Vec::new();
            store.poll(&mut done);
            for completion in done {
                if let Completion::Read { result: Ok(bytes), .. } = completion {
                    contents.insert(object.clone(), (info.version, bytes));
                }
            }
        }
        contents
    }
}

pub(super) fn describe(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Done { version, results, .. } => {
            let results: Vec<_> = results
                .iter()
                .map(|result| match result.data.is_empty() {
                    true => result.code.to_string(),
                    false => format!("{:?}", String::from_utf8_lossy(&result.data)),
                })
                .collect();
            format!("{} at {version}", results.join(" "))
        }
        Outcome::Misdirected { epoch } => format!("misdirected, see epoch {epoch}"),
        Outcome::Refused { code, why } => format!("refused {code}: {why}"),
    }
}

pub(super) fn summary(message: &PeerMessage) -> String {
    match message {
        PeerMessage::Join { interval, synced, applied, head, .. } => {
            format!(
                "join {interval} applied {applied} head {head}{}",
                if *synced { " synced" } else { "" }
            )
        }
        PeerMessage::Sync { interval, applied, staged, .. } => {
            let staged: Vec<_> = staged.iter().map(|entry| entry.version.to_string()).collect();
            format!("sync {interval} applied {applied} staged [{}]", staged.join(" "))
        }
        PeerMessage::Adopt { interval, overlaps, tail, entries, staged, .. } => format!(
            "adopt {interval} {} {tail}: {} applied, {} staged",
            if *overlaps { "behind" } else { "all behind" },
            entries.len(),
            staged.len()
        ),
        PeerMessage::Replicate { entry, committed, .. } => {
            format!("entry {} behind {} committed {committed}", entry.version, entry.previous)
        }
        PeerMessage::Ack { stored, applied, missing, scanning, .. } => format!(
            "ack {stored} applied {applied}{}{}",
            if *missing > 0 { format!(" missing {missing}") } else { String::new() },
            if *scanning { " scanning" } else { "" }
        ),
        PeerMessage::Committed { points } => {
            format!("committed {}", points.first().map_or(Version::ZERO, |point| point.version))
        }
        PeerMessage::Pull { object, .. } => format!("pull {object}"),
        PeerMessage::Push { object, index, as_of, parts, .. } => {
            format!("push {object} part {index} of {as_of}: {} pieces", parts.len())
        }
        PeerMessage::PushAck { object, next, done, .. } => {
            format!("took {object} up to {next}{}", if *done { ", done" } else { "" })
        }
        PeerMessage::PullRefused { object, damaged, .. } => {
            format!("no copy of {object}{}", if *damaged { ", damaged" } else { "" })
        }
        PeerMessage::Scan { after, .. } => format!("scan after {after:?}"),
        PeerMessage::Scanned { objects, end, as_of, .. } => {
            format!("scanned {} objects, end {end}, as of {as_of}", objects.len())
        }
        PeerMessage::Scrub { scope, deep, .. } => format!("digest {scope:?} deep {deep}"),
        PeerMessage::Scrubbed { digests, .. } => format!("{} digests", digests.len()),
        PeerMessage::Mend { object, version, .. } => format!("mend {object} {version:?}"),
        PeerMessage::ScrubNote { .. } | PeerMessage::ScrubNoted { .. } => "notes".into(),
        PeerMessage::Ping { .. } | PeerMessage::Pong { .. } => "a sign of life".into(),
        PeerMessage::Stopping { .. } => "stopping".into(),
        PeerMessage::Cut { interval, applied, to, .. } => {
            format!("cut {interval} to {to} applied {applied}")
        }
        PeerMessage::Fetch { object, version, .. } => format!("fetch {object} {version}"),
        PeerMessage::Fetched { data, .. } => {
            if data.is_some() { "a shard" } else { "no shard" }.into()
        }
    }
}
