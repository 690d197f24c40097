//! Sessions: dialling, sending, breaking, partitions.

use super::{BREAK_NOTICE, DIAL_PAUSE_MAX, DIAL_PAUSE_MIN, Happening, World};
use crate::sim::network::{DIAL_TIMEOUT, End, KEEP_ALIVE, Node};
use crate::sim::steps;
use bytes::Bytes;
use std::time::Duration;
use store_base::DaemonId;
use store_base::codec::Decode;
use store_base::op::{Reply, Request};
use store_client::machine as client;
use store_daemon::machine as daemon;
use store_daemon::machine::{LinkId, PeerMessage};

/// How late an echo comes at most.
const ECHO_MAX: Duration = Duration::from_secs(4);

impl World {
    pub(super) fn send(&mut self, session: u64, side: usize, bytes: Bytes) {
        let (now, random) = (self.now, &mut self.random);
        let Some(when) = self.network.arrival(session, side, now, random) else { return };
        let echoes = now < self.echo_until && self.random.chance(self.echo_permille);
        if echoes && let Some((from, to)) = self.network.ends_between_daemons(session, side) {
            let late = self.random.between(Duration::ZERO, ECHO_MAX);
            self.after(late, Happening::Echo { from, to, bytes: bytes.clone() });
        }
        self.at(when, Happening::Arrive { session, side, bytes });
    }

    pub(super) fn arrive(&mut self, session: u64, side: usize, bytes: Bytes) {
        let Some(found) = self.network.sessions.get(&session) else { return };
        let (from, to) = (found.ends[1 - side], found.ends[side]);
        if self.network.is_blocked(from.node, to.node) || !found.held[side].is_empty() {
            let held =
                &mut self.network.sessions.get_mut(&session).expect("found above").held[side];
            held.push(bytes);
            return;
        }
        self.deliver(session, from, to, bytes);
    }

    /// A message of long ago, or once more.
    pub(super) fn echo(&mut self, from: End, to: End, bytes: Bytes) {
        if !self.network.is_blocked(from.node, to.node) {
            self.deliver(0, from, to, bytes);
        }
    }

    fn deliver(&mut self, session: u64, from: End, to: End, bytes: Bytes) {
        if !self.lives(to) {
            return;
        }
        let link = LinkId(session);
        match (from.node, to.node) {
            (Node::Daemon(f), Node::Daemon(t)) => {
                let message =
                    PeerMessage::from_bytes(bytes).expect("what was encoded can be decoded");
                if self.steps.wanted() {
                    self.steps.peer(self.now, f, t, &message);
                }
                // A hello has said who speaks; the life on the other end may be over by now.
                let Some((id, incarnation)) = self.identity(from) else { return };
                self.step_daemon(t, daemon::Event::Peer { from: id, incarnation, message });
            }
            (Node::Client(_), Node::Daemon(t)) => {
                let request = Request::from_bytes(bytes).expect("what was encoded can be decoded");
                if self.steps.wanted() {
                    self.steps.request(self.now, from.node, t, &request);
                }
                self.requests.insert(request.id, request.pg);
                self.step_daemon(t, daemon::Event::Client { link, request });
            }
            (Node::Daemon(f), Node::Client(c)) => {
                let reply = Reply::from_bytes(bytes).expect("what was encoded can be decoded");
                if self.steps.wanted() {
                    let pg = steps::asked(&reply).and_then(|id| self.requests.get(&id).copied());
                    self.steps.reply(self.now, f, c, pg, &reply);
                }
                let own =
                    self.clients[c].sessions.iter().find(|(_, s)| **s == session).map(|(k, _)| *k);
                let Some((daemon, session)) = own else { return };
                self.step_client(c, client::Event::Reply { daemon, session, reply });
            }
            other => unreachable!("no session between {other:?}"),
        }
    }

    /// Breaks a session: what is under way is lost, both ends learn of it soon.
    pub fn break_session(&mut self, session: u64) {
        let Some(found) = self.network.sessions.remove(&session) else { return };
        for side in 0..2 {
            let (end, peer) = (found.ends[side], found.ends[1 - side].node);
            let dialled = side == 0;
            self.after(BREAK_NOTICE, Happening::Broken { end, session, peer, dialled });
        }
    }

    pub(super) fn learn_broken(&mut self, end: End, session: u64, peer: Node, dialled: bool) {
        if !self.lives(end) {
            return;
        }
        match (end.node, peer) {
            (Node::Client(c), _) => {
                let own =
                    self.clients[c].sessions.iter().find(|(_, s)| **s == session).map(|(k, _)| *k);
                let Some((daemon, number)) = own else { return };
                self.clients[c].sessions.remove(&(daemon, number));
                self.step_client(c, client::Event::SessionLost { daemon, session: number });
            }
            (Node::Daemon(d), Node::Client(_)) => {
                self.step_daemon(d, daemon::Event::ClientGone { link: LinkId(session) });
            }
            (Node::Daemon(d), _) if dialled => {
                let own =
                    self.daemons[d].peers.iter_mut().find(|(_, p)| p.session == Some(session));
                let Some((peer, dial)) = own else { return };
                let (peer, incarnation, attempt) = (*peer, dial.incarnation, dial.attempt);
                dial.session = None;
                dial.pause = DIAL_PAUSE_MIN;
                let life = end.life;
                self.step_daemon(d, daemon::Event::PeerLost { peer, incarnation, refused: false });
                self.after(
                    Duration::from_micros(100),
                    Happening::DialPeer { daemon: d, life, peer, attempt },
                );
            }
            _ => {}
        }
    }

    pub(super) fn keep_alive(&mut self, session: u64) {
        let Some(found) = self.network.sessions.get(&session) else { return };
        if self.network.is_parted(found.ends[0].node, found.ends[1].node) {
            self.break_session(session);
        }
    }

    /// Parts two nodes in one direction.
    pub fn block(&mut self, from: Node, to: Node) {
        self.network.block(from, to);
        for session in self.network.of(from) {
            if self.network.sessions[&session].ends.iter().any(|end| end.node == to) {
                let early = self.random.between(Duration::ZERO, Duration::from_secs(1));
                self.after(KEEP_ALIVE + early, Happening::KeepAlive { session });
            }
        }
    }

    /// Ends all partitions; what was held back arrives.
    pub fn heal(&mut self) {
        self.network.heal();
        let waiting: Vec<_> = self
            .network
            .sessions
            .iter_mut()
            .flat_map(|(id, session)| {
                (0..2)
                    .map(|side| (*id, side, std::mem::take(&mut session.held[side])))
                    .collect::<Vec<_>>()
            })
            .collect();
        for (session, side, held) in waiting {
            for bytes in held {
                self.send(session, side, bytes);
            }
        }
    }

    pub(super) fn dial_peer(&mut self, d: usize, life: u64, peer: DaemonId, attempt: u64) {
        let from = End { node: Node::Daemon(d), life };
        let Some(dial) = self.daemons[d].peers.get(&peer) else { return };
        if !self.lives(from) || dial.attempt != attempt || dial.session.is_some() {
            return;
        }
        let node = dial.node;
        let to = self.end(node);
        if self.network.is_parted(from.node, node) {
            let failed = Happening::DialFailed { daemon: d, life, peer, attempt, refused: false };
            self.after(DIAL_TIMEOUT, failed);
            return;
        }
        // A daemon that does not yet know who it is says no hello.
        let Some((id, incarnation)) = self.identity(to).filter(|_| self.lives(to)) else {
            let pause = self.latency();
            let refused = !self.lives(to);
            self.after(pause, Happening::DialFailed { daemon: d, life, peer, attempt, refused });
            return;
        };
        if id != peer {
            // Another daemon has taken the address over.
            let failed = Happening::DialFailed { daemon: d, life, peer, attempt, refused: false };
            self.after(DIAL_TIMEOUT, failed);
            return;
        }
        let session = self.network.open(from, to);
        let dial = self.daemons[d].peers.get_mut(&peer).expect("looked at above");
        dial.session = Some(session);
        dial.pause = DIAL_PAUSE_MIN;
        self.step_daemon(d, daemon::Event::PeerUp { peer, incarnation });
    }

    pub(super) fn dial_failed(
        &mut self,
        d: usize,
        life: u64,
        peer: DaemonId,
        attempt: u64,
        refused: bool,
    ) {
        if !self.lives(End { node: Node::Daemon(d), life }) {
            return;
        }
        let Some(dial) = self.daemons[d].peers.get_mut(&peer).filter(|p| p.attempt == attempt)
        else {
            return;
        };
        let (incarnation, pause) = (dial.incarnation, dial.pause);
        dial.pause = (pause * 2).min(DIAL_PAUSE_MAX);
        self.step_daemon(d, daemon::Event::PeerLost { peer, incarnation, refused });
        self.after(pause, Happening::DialPeer { daemon: d, life, peer, attempt });
    }

    pub(super) fn dial_daemon(&mut self, c: usize, daemon: DaemonId, session: u64, node: Node) {
        let from = End { node: Node::Client(c), life: 0 };
        let to = self.end(node);
        let parted = self.network.is_parted(from.node, node);
        let known = self.identity(to).is_some_and(|(id, _)| id == daemon);
        if parted || !self.lives(to) || !known {
            let pause = if parted { DIAL_TIMEOUT } else { BREAK_NOTICE };
            // The machine hears of it like of a session that broke.
            let number = self.network.open(from, to);
            self.network.sessions.remove(&number);
            self.clients[c].sessions.insert((daemon, session), number);
            let broken =
                Happening::Broken { end: from, session: number, peer: node, dialled: true };
            self.after(pause, broken);
            return;
        }
        let number = self.network.open(from, to);
        self.clients[c].sessions.insert((daemon, session), number);
        self.step_client(c, client::Event::SessionUp { daemon, session });
    }
}
