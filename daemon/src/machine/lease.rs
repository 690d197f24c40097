//! Signs of life and leases between pairs of daemons (R5, R6).
//!
//! One ping and one pong per pair serve every placement group that the two share. A pong is a lease: the
//! one who pinged may count on it, for every group that it leads in the interval which the other has
//! confirmed, from the time it *sent* the ping; the grantor counts it from the time it answered, which is
//! later, so the grantor's end is never before the holder's (drift: `lease_margin`).
//!
//! # Invariants
//!
//! - A pong excepts every group whose interval is newer than the map that the pinger has processed (by the
//!   epoch in its ping) and led by somebody else: all that the pinger could wrongly believe to lead. Its
//!   lease for such a group stays what it was, while the pair's goes on. This needs no memory of what was
//!   granted, or of groups that have moved away.
//! - The epoch in a ping is the release: whoever has processed that map serves no interval that is over
//!   by it, so nobody need wait for leases it was granted before.
//! - Pongs count in the order of the pings that they answer; late ones do nothing.
//! - No lease is granted that is longer than what the superblock says was ever granted.

use super::Daemon;
use super::core::{Core, NOBODY, Timer};
use super::event::Action;
use super::message::PeerMessage;
use super::room::Credit;
use crate::store::Store;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use store_base::map::OsdMap;
use store_base::{DaemonId, Epoch, Incarnation, PgId, Time};

/// What is known of another daemon.
#[derive(Clone, Debug, Default)]
pub(crate) struct Peer {
    /// The newest life that was heard of or is in the map.
    pub(crate) incarnation: Incarnation,
    /// Where the map says it is.
    address: String,
    /// A session to this life is up.
    pub(crate) connected: Option<Incarnation>,
    /// Something was heard, or hope began.
    last_heard: Time,
    last_reported: Option<Time>,
    /// The map has it up.
    is_up: bool,
    /// It has processed this map.
    pub(crate) epoch: Epoch,
    /// Its life has ended its service.
    stopped: bool,
    /// Its medium is full but for deletes.
    pub(crate) full: bool,
    /// What it stores for this daemon.
    pub(crate) credit: Credit,

    // As the holder of leases that it grants.
    /// The ping that the newest pong answers.
    answered: u64,
    lease_until: Time,
    /// Groups that the newest pong excepts, and until when they have a lease.
    excepted: BTreeMap<PgId, Time>,

    // As the grantor of leases to it.
    granted_until: Time,
}

/// What a pong brings.
pub(super) struct Grant {
    pub(super) term_nanos: u64,
    pub(super) excepted: Vec<PgId>,
    pub(super) full: bool,
    pub(super) room: u64,
}

impl<S: Store> Core<S> {
    /// Whether a peer's lease covers a group now.
    pub(crate) fn has_lease(&self, from: DaemonId, pg: PgId) -> bool {
        self.has_lease_at(from, pg, self.now)
    }

    pub(crate) fn has_lease_at(&self, from: DaemonId, pg: PgId, now: Time) -> bool {
        let Some(peer) = self.peers.get(&from) else { return false };
        let until = peer.excepted.get(&pg).unwrap_or(&peer.lease_until);
        *until > now
    }

    /// When the leases that this daemon has granted to a peer so far have run out for certain.
    pub(crate) fn granted_until(&self, to: DaemonId) -> Time {
        self.peers.get(&to).map_or(Time::ZERO, |peer| peer.granted_until)
    }

    /// Whether a peer has said that it serves no interval which is over by the map of this epoch.
    pub(crate) fn has_processed(&self, peer: DaemonId, epoch: Epoch) -> bool {
        self.peers.get(&peer).is_some_and(|peer| peer.stopped || peer.epoch >= epoch)
    }

    /// Groups that no lease to `holder` may cover while the newest map it has processed is `epoch`.
    fn exceptions(&self, holder: DaemonId, epoch: Epoch) -> Vec<PgId> {
        let newer = self.changed_since.range(epoch.next()..).flat_map(|(_, pgs)| pgs);
        // Who has not heard of a split serves what is a child's, and somebody else may lead the child.
        let is_split =
            |pg: &PgId| self.map.pools.get(&pg.pool).is_some_and(|pool| pool.resend_since > epoch);
        let newer = newer.filter(|(pg, primary)| *primary != holder || is_split(pg));
        newer.map(|(pg, _)| *pg).collect()
    }

    /// Indexes the groups of a map by the epoch in which their interval began.
    pub(crate) fn index_changes(&mut self, map: &OsdMap) {
        self.changed_since.clear();
        for (pg, record) in &map.pgs {
            self.changed_since.entry(record.since).or_default().push((*pg, record.primary));
        }
    }

    pub(crate) fn any_full(&self, of: impl Iterator<Item = DaemonId>) -> bool {
        self.monitor.full_here
            || of.filter_map(|daemon| self.peers.get(&daemon)).any(|peer| peer.full)
    }

    fn ping(&mut self, to: DaemonId) {
        let message = PeerMessage::Ping {
            life: self.incarnation,
            sent: self.now.0,
            epoch: self.epoch(),
            full: self.monitor.full_here,
        };
        self.send(to, message);
    }

    pub(crate) fn ping_all(&mut self) {
        let peers: Vec<_> = self.peers.keys().copied().collect();
        peers.into_iter().for_each(|peer| self.ping(peer));
    }

    /// Pings everybody, and tells the monitor of those that keep silent.
    pub(crate) fn heartbeat(&mut self) {
        self.monitor.full_here = self.is_full(self.config.full_permille);
        self.monitor.backfill_full_here = self.is_full(self.config.backfill_full_permille);
        let room = self.share_of_room();
        self.credit.renew(room);
        self.forgive_own_absence();
        self.ping_all();
        let silent: Vec<_> = self
            .peers
            .iter()
            .filter(|(_, peer)| peer.is_up)
            .map(|(id, peer)| (*id, self.now.since(peer.last_heard)))
            .filter(|(_, silence)| *silence >= self.config.heartbeat_grace)
            .collect();
        for (peer, silence) in silent {
            self.report_failure(peer, None, silence);
        }
        self.set_timer(self.now + self.config.heartbeat_every, Timer::Heartbeat);
    }

    /// After a time in which this process did not run, what peers sent meanwhile is still to be read: their
    /// silence is not theirs.
    fn forgive_own_absence(&mut self) {
        let every = self.config.heartbeat_every;
        let passed = self.last_heartbeat.map_or(every, |at| self.now.since(at));
        self.last_heartbeat = Some(self.now);
        if passed > 2 * every {
            let absence = passed - every;
            for peer in self.peers.values_mut() {
                peer.last_heard = self.now.min(peer.last_heard + absence);
            }
        }
    }

    /// Tells the monitor that a peer is gone (`refused`, with the life that was meant) or silent.
    fn report_failure(&mut self, id: DaemonId, refused: Option<Incarnation>, silence: Duration) {
        let (now, every) = (self.now, self.config.failure_report_every);
        let Some(peer) = self.peers.get_mut(&id) else { return };
        if peer.last_reported.is_some_and(|at| now.since(at) < every) {
            return;
        }
        peer.last_reported = Some(now);
        let incarnation = refused.unwrap_or(peer.incarnation);
        self.send_failure_report(id, incarnation, refused.is_some(), silence);
    }

    /// Makes the set of peers what the map says; `wanted` are those that share a group with this daemon.
    pub(crate) fn set_peers(&mut self, wanted: &[DaemonId]) {
        let gone: Vec<_> = self.peers.keys().filter(|id| !wanted.contains(id)).copied().collect();
        for id in gone {
            // What was granted to it still counts: leases outlive the interest.
            let peer = self.peers.get(&id).expect("just listed");
            if peer.granted_until <= self.now {
                self.peers.remove(&id);
                self.out.push(Action::Disconnect { peer: id });
            }
        }
        let map = Arc::clone(&self.map);
        for &id in wanted {
            let Some(info) = map.daemons.get(&id) else { continue };
            let now = self.now;
            let peer =
                self.peers.entry(id).or_insert_with(|| Peer { last_heard: now, ..Peer::default() });
            if info.up && (!peer.is_up || info.incarnation > peer.incarnation) {
                peer.last_heard = now;
                peer.last_reported = None;
            }
            peer.is_up = info.up;
            let is_new = info.incarnation > peer.incarnation || peer.address != info.address;
            if is_new && info.up {
                peer.incarnation = peer.incarnation.max(info.incarnation);
                peer.address.clone_from(&info.address);
                self.out.push(Action::Connect {
                    peer: id,
                    incarnation: info.incarnation,
                    address: info.address.clone(),
                });
            }
        }
    }
}

impl<S: Store> Daemon<S> {
    /// Whether anything that this life of a peer says counts.
    pub(super) fn hear(&mut self, from: DaemonId, incarnation: Incarnation) -> bool {
        if from == self.core.me || from == NOBODY || !self.core.speaks {
            return false;
        }
        let now = self.core.now;
        let peer = self
            .core
            .peers
            .entry(from)
            .or_insert_with(|| Peer { last_heard: now, ..Peer::default() });
        if incarnation < peer.incarnation {
            return false;
        }
        if incarnation > peer.incarnation {
            peer.incarnation = incarnation;
            peer.epoch = Epoch(0);
            peer.stopped = false;
            peer.connected = None;
        }
        peer.last_heard = now;
        peer.last_reported = None;
        true
    }

    pub(super) fn handle_ping(
        &mut self,
        from: DaemonId,
        life: Incarnation,
        sent: u64,
        epoch: Epoch,
        full: bool,
    ) {
        let core = &mut self.core;
        // Never longer than what a restart would wait for.
        let longest = Duration::from_nanos(core.longest_lease_nanos);
        let term = core.config.lease_term.min(longest);
        let until = core.now + term;
        let my_epoch = core.epoch();
        let my_full = core.monitor.full_here;
        let room = core.share_of_room();
        let excepted = core.exceptions(from, epoch);
        let Some(peer) = core.peers.get_mut(&from) else { return };
        peer.full = full;
        if epoch > peer.epoch {
            peer.epoch = epoch;
            // Who waited for leases of this peer to run out may wait no more.
            core.attention.extend(core.grant_waits.iter().copied());
        }
        peer.granted_until = peer.granted_until.max(until);
        let message = PeerMessage::Pong {
            life,
            sent,
            epoch: my_epoch,
            term_nanos: u64::try_from(term.as_nanos()).unwrap_or(u64::MAX),
            excepted,
            full: my_full,
            room,
        };
        core.send(from, message);
    }

    /// A peer ends its life as planned: nobody need wait for what it was granted.
    pub(super) fn handle_stopping(&mut self, from: DaemonId, life: Incarnation) {
        let core = &mut self.core;
        let Some(peer) = core.peers.get_mut(&from) else { return };
        if peer.incarnation == life {
            peer.stopped = true;
            let silence = core.now.since(peer.last_heard);
            core.attention.extend(core.grant_waits.iter().copied());
            core.report_failure(from, Some(life), silence);
        }
    }

    /// Ends this life: stops to serve first, then says so.
    pub(super) fn stop(&mut self) {
        let life = self.core.incarnation;
        for pg in self.pgs.values_mut() {
            pg.stop(&mut self.core);
        }
        self.early.refuse_all(&mut self.core);
        if self.core.speaks {
            let peers: Vec<_> = self.core.peers.keys().copied().collect();
            peers.into_iter().for_each(|to| self.core.send(to, PeerMessage::Stopping { life }));
        }
        self.core.failed = true;
        tracing::info!(id = %self.core.me, incarnation = %life, "stopped");
    }

    pub(super) fn handle_pong(
        &mut self,
        from: DaemonId,
        life: Incarnation,
        sent: u64,
        grant: Grant,
    ) {
        let Grant { term_nanos, excepted, full, room } = grant;
        let core = &mut self.core;
        let margin = core.config.lease_margin;
        let Some(peer) = core.peers.get_mut(&from) else { return };
        peer.full = full;
        let is_next = sent >= peer.answered && sent <= core.now.0;
        if life != core.incarnation || !is_next {
            return;
        }
        peer.answered = sent;
        peer.credit.renew(room);
        let was_until = peer.lease_until;
        let frozen = |pg: PgId| (pg, *peer.excepted.get(&pg).unwrap_or(&was_until));
        peer.excepted = excepted.into_iter().map(frozen).collect();
        let term = Duration::from_nanos(term_nanos).saturating_sub(margin);
        peer.lease_until = was_until.max(Time(sent) + term);
        core.attention.extend(core.lease_waits.iter().copied());
    }

    pub(super) fn handle_peer_up(&mut self, id: DaemonId, incarnation: Incarnation) {
        if !self.hear(id, incarnation) {
            return;
        }
        if let Some(peer) = self.core.peers.get_mut(&id) {
            peer.connected = Some(incarnation);
        }
        self.core.ping(id);
        let pgs: Vec<_> = self.pgs.keys().copied().collect();
        for pg in pgs {
            self.with(pg, |pg, core| pg.handle_session(core, id));
        }
    }

    pub(super) fn handle_peer_lost(
        &mut self,
        id: DaemonId,
        incarnation: Incarnation,
        refused: bool,
    ) {
        let Some(peer) = self.core.peers.get_mut(&id) else { return };
        if peer.connected == Some(incarnation) {
            peer.connected = None;
        }
        // Of a newer life nothing is known to be wrong.
        let is_news = refused && peer.is_up && incarnation >= peer.incarnation;
        if is_news {
            let silence = self.core.now.since(peer.last_heard);
            self.core.report_failure(id, Some(incarnation), silence);
        }
    }
}
