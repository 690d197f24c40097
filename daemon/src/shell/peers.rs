//! Sessions with other daemons: one that we dial to each, for what we send; those that they dial, for what
//! we hear.

use super::detach;
use super::fragments::{Joiner, cut};
use super::inbox::Inbox;
use super::outbox::Outbox;
use crate::machine::{Event, PeerMessage};
use crate::metrics::DaemonMetrics;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;
use store_base::codec::{Decode, Encode, Writer};
use store_base::config::HostPort;
use store_base::{DaemonId, Incarnation};
use store_shell::clock;
use store_shell::identity::Role;
use store_shell::link::{Dialer, Hello, Link, LinkReceiver};
use store_shell::net::{self, ConnectError};
use store_shell::security::Expect;
use tokio::task::AbortHandle;
use tokio::time::sleep;

/// The first pause between attempts to reach a peer; doubles.
const REDIAL_MIN: Duration = Duration::from_millis(50);
/// The longest.
const REDIAL_MAX: Duration = Duration::from_secs(1);
/// Messages that may wait for a peer beside the link's queue. Open writes and copies are bounded by the
/// machine and by the clients' credit; what exceeds them means that the peer does not read.
const WAITING_BYTES_MAX: usize = 512 << 20;
/// A session that lived shorter is not dialled again at once.
const SESSION_MIN: Duration = Duration::from_secs(1);

/// A peer that the machine wants a session to.
struct Wanted {
    incarnation: Incarnation,
    address: String,
    task: AbortHandle,
    /// While the session is up.
    outbox: Option<Rc<Outbox>>,
}

impl Drop for Wanted {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// All sessions.
pub(crate) struct Peers {
    inbox: Rc<Inbox>,
    metrics: DaemonMetrics,
    dialer: Dialer,
    hello: RefCell<Option<Rc<Hello>>>,
    wanted: RefCell<BTreeMap<DaemonId, Wanted>>,
}

impl Peers {
    pub(crate) fn new(inbox: Rc<Inbox>, metrics: DaemonMetrics, dialer: Dialer) -> Rc<Self> {
        Rc::new(Peers {
            inbox,
            metrics,
            dialer,
            hello: RefCell::default(),
            wanted: RefCell::default(),
        })
    }

    /// Who we say we are, from now on.
    pub(crate) fn set_hello(&self, hello: Hello) {
        *self.hello.borrow_mut() = Some(Rc::new(hello));
    }

    /// Keeps a session to a peer from now on.
    pub(crate) fn connect(
        self: &Rc<Self>,
        peer: DaemonId,
        incarnation: Incarnation,
        address: String,
    ) {
        if let Some(wanted) = self.wanted.borrow().get(&peer)
            && wanted.incarnation == incarnation
            && wanted.address == address
        {
            return;
        }
        self.disconnect(peer);
        tracing::debug!(%peer, incarnation = incarnation.0, address, "connect");
        let session = Session { peers: self.clone(), peer, incarnation, address: address.clone() };
        let task = tokio::task::spawn_local(session.keep()).abort_handle();
        let wanted = Wanted { incarnation, address, task, outbox: None };
        self.wanted.borrow_mut().insert(peer, wanted);
    }

    /// Gives a peer up.
    pub(crate) fn disconnect(&self, peer: DaemonId) {
        let gone = self.wanted.borrow_mut().remove(&peer);
        if gone.is_some_and(|wanted| wanted.outbox.is_some()) {
            self.metrics.peers.dec();
        }
    }

    /// Gives all up.
    pub(crate) fn close(&self) {
        self.wanted.borrow_mut().clear();
    }

    /// Sends over the session that is up; without one the message is dropped.
    pub(crate) fn send(&self, to: DaemonId, message: &PeerMessage) {
        let wanted = self.wanted.borrow();
        let Some(outbox) = wanted.get(&to).and_then(|wanted| wanted.outbox.as_ref()) else {
            return;
        };
        let mut out = Writer::new();
        message.encode(&mut out);
        self.metrics.peer_messages_sent.inc();
        // Leases hang on these; a receiver takes them in any order.
        let is_urgent = matches!(message, PeerMessage::Ping { .. } | PeerMessage::Pong { .. });
        for frame in cut(out.into_rope()) {
            if is_urgent { outbox.send_first(frame) } else { outbox.send(frame) }
        }
    }

    fn set_outbox(&self, peer: DaemonId, outbox: Option<Rc<Outbox>>) {
        match outbox.is_some() {
            true => self.metrics.peers.inc(),
            false => self.metrics.peers.dec(),
        };
        if let Some(wanted) = self.wanted.borrow_mut().get_mut(&peer) {
            wanted.outbox = outbox;
        }
    }

    /// Hears a session that a peer dialled.
    pub(crate) fn add(self: &Rc<Self>, link: Link) {
        let Ok(id) = link.hello.name.parse().map(DaemonId) else {
            tracing::warn!(peer = %link.peer, "a daemon without a number: its stream is closed");
            return;
        };
        let incarnation = link.hello.incarnation;
        let peers = self.clone();
        tokio::task::spawn_local(async move {
            // Kept for as long as we hear the peer: dropping it would end the stream.
            let _sender = link.sender;
            let why = peers.hear(id, incarnation, link.receiver).await;
            tracing::debug!(peer = %id, incarnation = incarnation.0, why, "a peer's stream ended");
        });
    }

    async fn hear(
        &self,
        from: DaemonId,
        incarnation: Incarnation,
        mut receiver: LinkReceiver,
    ) -> String {
        let mut joiner = Joiner::default();
        loop {
            let mut next = receiver.recv().await;
            loop {
                let frame = match next {
                    Some(Ok(frame)) => frame,
                    Some(Err(error)) => return error.to_string(),
                    None => return "closed".to_string(),
                };
                let message = match joiner.push(frame) {
                    Ok(Some(bytes)) => {
                        let length = bytes.len();
                        PeerMessage::from_bytes(bytes).map(|message| Some((message, length)))
                    }
                    Ok(None) => Ok(None),
                    Err(why) => return self.nonsense(from, &why),
                };
                match message {
                    Ok(Some((mut message, length))) => {
                        detach::message(&mut message);
                        self.metrics.peer_messages_received.inc();
                        self.inbox.put_sized(Event::Peer { from, incarnation, message }, length);
                    }
                    Ok(None) => {}
                    Err(error) => return self.nonsense(from, &error.to_string()),
                }
                match receiver.recv_now() {
                    Some(ready) => next = Some(ready),
                    None => break,
                }
            }
            self.inbox.room().await;
        }
    }

    fn nonsense(&self, from: DaemonId, why: &str) -> String {
        tracing::warn!(peer = %from, why, "a peer sent what is no message");
        why.to_string()
    }
}

/// The task that keeps one dialled session.
struct Session {
    peers: Rc<Peers>,
    peer: DaemonId,
    incarnation: Incarnation,
    address: String,
}

impl Session {
    async fn keep(self) {
        let mut pause = REDIAL_MIN;
        loop {
            match self.dial().await {
                Ok(link) => {
                    let began = clock::now();
                    self.live(link).await;
                    if clock::now().since(began) >= SESSION_MIN {
                        pause = REDIAL_MIN;
                        continue;
                    }
                }
                Err(error) => {
                    let refused = matches!(error, ConnectError::Refused(_));
                    match error.is_transient() {
                        true => {
                            tracing::debug!(peer = %self.peer, why = %error, "peer not reached")
                        }
                        false => {
                            tracing::warn!(peer = %self.peer, why = %error, "peer not reached")
                        }
                    }
                    self.lost(self.incarnation, refused);
                }
            }
            sleep(pause).await;
            pause = (pause * 2).min(REDIAL_MAX);
        }
    }

    async fn dial(&self) -> Result<Link, ConnectError> {
        let address: HostPort = self.address.parse().map_err(ConnectError::Unreachable)?;
        let hello = self.peers.hello.borrow().clone();
        let Some(hello) = hello else {
            return Err(ConnectError::Unreachable("this daemon has no id yet".to_string()));
        };
        let expect = Expect::peer(Role::Daemon, self.peer.0);
        let mut last = ConnectError::Unreachable(format!("{address} has no address"));
        for addr in net::resolve(&address).await? {
            match self.peers.dialer.dial(addr, &expect, &hello).await {
                Ok(link) => return Ok(link),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    /// Until the session ends.
    async fn live(&self, mut link: Link) {
        let incarnation = link.hello.incarnation;
        let outbox = Rc::new(Outbox::new(link.sender, WAITING_BYTES_MAX));
        self.peers.set_outbox(self.peer, Some(outbox.clone()));
        self.peers.inbox.put(Event::PeerUp { peer: self.peer, incarnation });
        // The peer says nothing on this stream; it only ends.
        let ended = async {
            loop {
                match link.receiver.recv().await {
                    Some(Ok(_)) => {}
                    Some(Err(error)) => return error.to_string(),
                    None => return "closed".to_string(),
                }
            }
        };
        let why = tokio::select! {
            why = ended => why,
            () = outbox.drain() => "messages cannot be sent".to_string(),
        };
        tracing::info!(peer = %self.peer, incarnation = incarnation.0, why, "session lost");
        self.peers.set_outbox(self.peer, None);
        self.lost(incarnation, false);
    }

    fn lost(&self, incarnation: Incarnation, refused: bool) {
        self.peers.metrics.peer_losses.inc();
        self.peers.inbox.put(Event::PeerLost { peer: self.peer, incarnation, refused });
    }
}
