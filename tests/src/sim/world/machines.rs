//! The machines' steps, and what a shell would do with their actions.

use super::{DIAL_PAUSE_MIN, Happening, World, node_of};
use crate::sim::check;
use crate::sim::network::{End, Node};
use crate::sim::node::{Caller, PeerDial};
use bytes::Bytes;
use std::time::Duration;
use store_base::Machine;
use store_base::codec::Encode;
use store_base::wire::{CommandRequest, MapKind, MapUpdate};
use store_client::machine as client;
use store_daemon::machine as daemon;
use store_daemon::machine::{MonitorCall, MonitorRequest};
use store_monitor::machine as monitor;

impl World {
    /// Steps a daemon and carries out what it wants.
    pub fn step_daemon(&mut self, i: usize, event: daemon::Event) {
        let life = self.daemons[i].life;
        let Some(machine) = self.daemons[i].machine.as_mut() else { return };
        let mut actions = Vec::new();
        machine.step(life.local(self.now), event, &mut actions);
        let wake = machine.wake_at();
        let incarnation = machine.incarnation();
        if let Some(id) = machine.id().filter(|_| incarnation.0 != 0) {
            self.identities.entry((i, life.number)).or_insert((id, incarnation));
            self.daemons[i].last_id = Some(id);
        }
        for action in actions {
            self.act_daemon(i, life.number, action);
        }
        self.queue_wake(Node::Daemon(i), wake);
        self.queue_disk(i);
        check::stepped(self, i);
    }

    pub(super) fn act_daemon(&mut self, i: usize, life: u64, action: daemon::Action) {
        match action {
            daemon::Action::Connect { peer, incarnation, address } => {
                let Some(node) = node_of(&address) else { return };
                let attempt = self.random.any();
                let dial =
                    PeerDial { incarnation, node, session: None, pause: DIAL_PAUSE_MIN, attempt };
                let old = self.daemons[i].peers.insert(peer, dial);
                if let Some(session) = old.and_then(|old| old.session) {
                    self.break_session(session);
                }
                self.after(Duration::ZERO, Happening::DialPeer { daemon: i, life, peer, attempt });
            }
            daemon::Action::Disconnect { peer } => {
                let old = self.daemons[i].peers.remove(&peer);
                if let Some(session) = old.and_then(|old| old.session) {
                    self.break_session(session);
                }
            }
            daemon::Action::ToPeer { to, message } => {
                let session = self.daemons[i].peers.get(&to).and_then(|dial| dial.session);
                if let Some(session) = session {
                    self.send(session, 1, message.to_bytes());
                }
            }
            daemon::Action::ToClient { link, reply } => {
                check::answered(self, i, &reply);
                self.send(link.0, 0, reply.to_bytes());
            }
            daemon::Action::ToMonitor(request) => self.to_monitor(i, life, request),
            daemon::Action::Fatal { why } => {
                self.broken.push(format!("fatal: daemon {i} gives up: {why}"));
            }
        }
    }

    fn to_monitor(&mut self, i: usize, life: u64, request: MonitorRequest) {
        let caller = Caller { node: Some(Node::Daemon(i)), life };
        let kind = match &request {
            MonitorRequest::Boot(_) => MonitorCall::Boot,
            MonitorRequest::Beat(_) => MonitorCall::Beat,
            MonitorRequest::Ask(_) => MonitorCall::Ask,
            MonitorRequest::Failure(_) => MonitorCall::Failure,
        };
        let lost = self.network.is_parted(Node::Daemon(i), Node::Monitor)
            || self.monitor.machine.is_none()
            || (self.faulty && self.random.chance(5));
        if lost {
            // Now and then the failure is told; else the machine must find it out by itself.
            if self.random.chance(500) {
                self.step_daemon(i, daemon::Event::MonitorFailed(kind));
            }
            return;
        }
        let request = match request {
            MonitorRequest::Boot(request) => monitor::Request::Boot(request),
            MonitorRequest::Beat(request) => monitor::Request::Beat(request),
            MonitorRequest::Ask(request) => monitor::Request::Asks(request),
            MonitorRequest::Failure(request) => monitor::Request::Failure(request),
        };
        let pause = self.latency();
        self.after(pause, Happening::Call { caller, request });
    }

    /// Steps a client and carries out what it wants.
    pub fn step_client(&mut self, c: usize, event: client::Event) {
        let life = self.clients[c].life;
        let mut actions = Vec::new();
        let node = &mut self.clients[c];
        node.machine.step(life.local(self.now), event, &mut actions);
        let wake = node.machine.wake_at();
        for action in actions {
            self.act_client(c, action);
        }
        self.queue_wake(Node::Client(c), wake);
    }

    fn act_client(&mut self, c: usize, action: client::Action) {
        match action {
            client::Action::Dial { daemon, session, address } => {
                let Some(node) = node_of(&address) else { return };
                let pause = self.latency();
                self.after(pause, Happening::DialDaemon { client: c, daemon, session, node });
            }
            client::Action::Close { daemon, session } => {
                if let Some(number) = self.clients[c].sessions.remove(&(daemon, session)) {
                    self.break_session(number);
                }
            }
            client::Action::Send { daemon, session, request } => {
                if let Some(number) = self.clients[c].sessions.get(&(daemon, session)).copied() {
                    self.send(number, 1, request.to_bytes());
                }
            }
            client::Action::WantMap { .. } => {
                let pause = self.latency();
                self.after(pause, Happening::Maps { node: Node::Client(c), life: 0, again: false });
            }
            client::Action::Finish { ticket, result } => {
                let now = self.now;
                self.say(Node::Client(c), "end", || format!("{ticket} {result:?}"));
                self.clients[c].workload.finished(now, ticket, result);
                let longest = Duration::from_millis(self.setup.pause_ms);
                let pause = self.random.between(Duration::ZERO, longest);
                self.after(pause, Happening::Work { client: c });
            }
            other => self.broken.push(format!("client: {c} is told the unexpected {other:?}")),
        }
    }

    pub(super) fn work(&mut self, c: usize) {
        let wall = self.wall(Node::Client(c));
        let (world, local) = (self.now, self.clients[c].life.local(self.now));
        while self.clients[c].workload.under_way() < self.setup.depth as usize {
            let workload = &mut self.clients[c].workload;
            let next = match self.working {
                true => workload.next(local, world, wall),
                false => workload.next_last_read(local, world, wall),
            };
            let Some((ticket, submission)) = next else { return };
            self.step_client(c, client::Event::Submit { ticket, submission });
        }
    }

    pub(super) fn step_monitor(&mut self, event: monitor::Event) {
        let life = self.monitor.life;
        let Some(machine) = self.monitor.machine.as_mut() else { return };
        let mut actions = Vec::new();
        machine.step(life.local(self.now), event, &mut actions);
        let wake = machine.wake_at();
        for action in actions {
            self.act_monitor(life.number, action);
        }
        self.queue_wake(Node::Monitor, wake);
        check::committed(self);
    }

    fn act_monitor(&mut self, life: u64, action: monitor::Action) {
        match action {
            monitor::Action::Commit { ticket, batch } => {
                let pause =
                    self.random.between(Duration::from_micros(100), Duration::from_millis(5));
                self.after(pause, Happening::Commit { life, ticket, batch });
            }
            monitor::Action::Publish { updates } => self.publish(&updates),
            monitor::Action::Reply { to, reply } => {
                let Some(caller) = self.monitor.calls.remove(&to.0) else { return };
                let pause = self.latency();
                self.after(pause, Happening::Answer { caller, reply });
            }
            monitor::Action::Resign { why } => {
                self.say(Node::Monitor, "resign", || why);
                let stored = self.monitor.store.load_now();
                self.step_monitor(monitor::Event::Lead { stored });
            }
        }
    }

    fn publish(&mut self, updates: &[MapUpdate]) {
        if updates.iter().all(|update| update.kind != MapKind::MapOsd as i32) {
            return;
        }
        let daemons = (0..self.daemons.len()).map(Node::Daemon);
        let nodes: Vec<Node> = daemons.chain((0..self.clients.len()).map(Node::Client)).collect();
        for node in nodes {
            let life = self.life(node).number;
            let pause = self.latency();
            self.after(pause, Happening::Maps { node, life, again: false });
        }
    }

    /// A commit that was under way when the monitor died may have happened or not: it happens here only
    /// if that life goes on, or by chance.
    pub(super) fn commit(
        &mut self,
        life: u64,
        ticket: store_base::Ticket,
        batch: &store_monitor::state::Batch,
    ) {
        let lives = self.lives(End { node: Node::Monitor, life });
        if !lives && self.random.chance(500) {
            return;
        }
        let done = self.monitor.store.commit_now(batch);
        if !lives {
            return;
        }
        let event = match done {
            Ok(_) => monitor::Event::Committed { ticket },
            Err(error) => monitor::Event::CommitFailed { ticket, why: error.to_string() },
        };
        self.step_monitor(event);
    }

    pub(super) fn call(&mut self, caller: Caller, request: monitor::Request) {
        if self.monitor.machine.is_none() {
            return;
        }
        self.monitor.ticket_last += 1;
        let ticket = self.monitor.ticket_last;
        self.monitor.calls.insert(ticket, caller);
        self.step_monitor(monitor::Event::Request { from: store_base::Ticket(ticket), request });
    }

    pub(super) fn answer(&mut self, caller: Caller, reply: monitor::Reply) {
        let Some(node) = caller.node else {
            if let monitor::Reply::Command(reply) = reply {
                self.answers.push(reply);
            }
            return;
        };
        let Node::Daemon(i) = node else { return };
        let lost =
            self.network.is_parted(node, Node::Monitor) || (self.faulty && self.random.chance(5));
        if lost || !self.lives(End { node, life: caller.life }) {
            return;
        }
        let event = match reply {
            monitor::Reply::Boot(reply) => daemon::Event::BootReply(reply),
            monitor::Reply::Beat(reply) => daemon::Event::BeatReply(reply),
            monitor::Reply::Asks(reply) => {
                daemon::Event::AskReply { epoch: store_base::Epoch(reply.epoch) }
            }
            _ => return,
        };
        self.step_daemon(i, event);
    }

    /// A command of the judge.
    pub fn command(&mut self, json: &str) {
        let command = CommandRequest { json: json.to_owned(), input: Bytes::new() };
        self.say(Node::Monitor, "command", || json.to_owned());
        let mut entropy = [0; 80];
        entropy.iter_mut().for_each(|byte| *byte = self.random.any() as u8);
        let caller = Caller { node: None, life: 0 };
        self.call(caller, monitor::Request::Command { command, entropy });
    }
}
