//! Wake-ups, disks and clocks.

use super::{CLOCK_EVERY, EPOCH_SECS, Happening, World};
use crate::sim::network::{End, Node};
use std::time::Duration;
use store_base::{Machine, Time, Timestamp};
use store_client::machine as client;
use store_daemon::machine as daemon;
use store_daemon::store::Store;
use store_monitor::machine as monitor;

impl World {
    /// The wall clock of a node.
    pub fn wall(&self, node: Node) -> Timestamp {
        let offset = self.wall_offset.get(&node).copied().unwrap_or(0);
        Timestamp {
            secs: (EPOCH_SECS + self.now.0 / 1_000_000_000).saturating_add_signed(offset),
            nanos: (self.now.0 % 1_000_000_000) as u32,
        }
    }

    /// The wall clock of a node jumps.
    pub fn jump_clock(&mut self, node: Node, by_secs: i64) {
        *self.wall_offset.entry(node).or_default() += by_secs;
        let wall = self.wall(node);
        match node {
            Node::Monitor => self.step_monitor(monitor::Event::Clock { wall }),
            Node::Daemon(i) => self.step_daemon(i, daemon::Event::Clock { wall }),
            Node::Client(_) => {}
        }
    }

    /// Wall clocks are right again.
    pub fn set_clocks(&mut self) {
        for node in std::mem::take(&mut self.wall_offset).into_keys() {
            self.jump_clock(node, 0);
        }
    }

    pub(super) fn queue_wake(&mut self, node: Node, local: Option<Time>) {
        let Some(local) = local else { return };
        let now = self.now;
        let life = self.life(node);
        let when = life.world(local).max(now);
        if life.wake_queued.is_none_or(|queued| when < queued) {
            life.wake_queued = Some(when);
            let life = life.number;
            self.at(when, Happening::Wake { node, life });
        }
    }

    pub(super) fn wake(&mut self, node: Node, life: u64) {
        if !self.lives(End { node, life }) && !matches!(node, Node::Client(_)) {
            return;
        }
        let now = self.now;
        let own = self.life(node);
        if own.number != life || own.wake_queued.is_none_or(|queued| queued > now) {
            return;
        }
        own.wake_queued = None;
        let local = own.local(now);
        match node {
            Node::Monitor => {
                let due = self.monitor.machine.as_ref().and_then(Machine::wake_at);
                if due.is_some_and(|due| due <= local) {
                    self.step_monitor(monitor::Event::Woke);
                } else {
                    self.queue_wake(node, due);
                }
            }
            Node::Daemon(i) => {
                let due = self.daemons[i].machine.as_ref().and_then(Machine::wake_at);
                if due.is_some_and(|due| due <= local) {
                    self.step_daemon(i, daemon::Event::Wake);
                } else {
                    self.queue_wake(node, due);
                }
            }
            Node::Client(i) => {
                let due = self.clients[i].machine.wake_at();
                if due.is_some_and(|due| due <= local) {
                    self.step_client(i, client::Event::Wake);
                } else {
                    self.queue_wake(node, due);
                }
            }
        }
    }

    pub(super) fn queue_disk(&mut self, i: usize) {
        let node = &self.daemons[i];
        let busy = node.machine.as_ref().is_some_and(|machine| machine.store().is_busy());
        if node.disk_queued || !busy {
            return;
        }
        let slow = self.now < node.slow_until;
        let (low, high) = if slow { (10_000, 500_000) } else { (30, 1500) };
        let pause = self.random.between(Duration::from_micros(low), Duration::from_micros(high));
        let life = node.life.number;
        self.daemons[i].disk_queued = true;
        self.after(pause, Happening::Disk { daemon: i, life });
    }

    pub(super) fn disk(&mut self, i: usize, life: u64) {
        if !self.lives(End { node: Node::Daemon(i), life }) {
            return;
        }
        self.daemons[i].disk_queued = false;
        let medium = self.daemons[i].medium.clone();
        medium.work(&mut self.random);
        let mut done = Vec::new();
        let Some(machine) = self.daemons[i].machine.as_mut() else { return };
        machine.store_mut().poll(&mut done);
        if done.is_empty() {
            self.queue_disk(i);
        } else {
            self.step_daemon(i, daemon::Event::Store(done));
        }
    }

    pub(super) fn clock(&mut self, node: Node, life: u64) {
        if !self.lives(End { node, life }) {
            return;
        }
        let wall = self.wall(node);
        match node {
            Node::Monitor => self.step_monitor(monitor::Event::Clock { wall }),
            Node::Daemon(i) => self.step_daemon(i, daemon::Event::Clock { wall }),
            Node::Client(_) => {}
        }
        self.after(CLOCK_EVERY, Happening::Clock { node, life });
    }
}
