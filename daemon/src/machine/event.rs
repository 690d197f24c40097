//! What happens to a daemon, and what it wants done: the whole seam between machine and shell.
//!
//! # Promises of the machine
//!
//! - Every [`Event::Client`] is answered by exactly one [`Action::ToClient`] with an `Answer` of that
//!   request on that link, unless [`Event::ClientGone`] comes first. A shell may therefore give a
//!   client's credit back with the answer: that is the back-pressure.
//! - Nothing is sent before [`Action::Connect`] named the peer, and nothing at all before the
//!   incarnation is durable.
//!
//! # What the shell owes
//!
//! - Time never goes back. The order of events is its choice.
//! - It polls the store (`daemon.store_mut().poll(..)`) and brings the completions of one poll as one
//!   [`Event::Store`].
//! - A message to a peer without a session is dropped. What is sent while a session lives arrives in
//!   order, or the session breaks: then [`Event::PeerLost`] comes, and [`Event::PeerUp`] when there is
//!   another. A session is to one life (incarnation) of the peer, which it names.

use super::message::PeerMessage;
use crate::store::Completion;
use std::sync::Arc;
use store_base::map::OsdMap;
use store_base::op::{Reply, Request};
use store_base::wire::{BeatReply, BeatRequest, BootReply, BootRequest, FailureReport, PgAskBatch};
use store_base::{DaemonId, Epoch, Incarnation, Timestamp};

/// A client's stream, numbered by the shell and never reused in one life of the daemon.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LinkId(pub u64);

/// What can happen to a daemon.
#[derive(Clone, Debug)]
pub enum Event {
    /// The first event, once.
    Start {
        /// Wall clock now.
        wall: Timestamp,
    },
    /// The wall clock, every few seconds. The machine extrapolates with its own time.
    Clock {
        /// Wall clock now.
        wall: Timestamp,
    },
    /// A map. Older ones are ignored, epochs may be left out.
    Map(Arc<OsdMap>),
    /// A client asks.
    Client {
        /// On this stream.
        link: LinkId,
        /// This.
        request: Request,
    },
    /// A client's stream has ended.
    ClientGone {
        /// Which.
        link: LinkId,
    },
    /// A message from another daemon, on any session.
    Peer {
        /// From whom, as the session proved.
        from: DaemonId,
        /// Which life of it.
        incarnation: Incarnation,
        /// What.
        message: PeerMessage,
    },
    /// A session to a peer begins: what was sent before may be lost.
    PeerUp {
        /// Who.
        peer: DaemonId,
        /// Which life of it.
        incarnation: Incarnation,
    },
    /// The session to a peer broke, or an attempt to make one failed.
    PeerLost {
        /// Who.
        peer: DaemonId,
        /// The life that was meant: of the session, else of `Connect`.
        incarnation: Incarnation,
        /// The connection was refused: nobody listens there, the process is gone.
        refused: bool,
    },
    /// What one poll of the store gave, in its order.
    Store(Vec<Completion>),
    /// The monitor's answer to a boot.
    BootReply(BootReply),
    /// The monitor's answer to a beat.
    BeatReply(BeatReply),
    /// The monitor has dealt with an ask; the map tells the outcome.
    AskReply {
        /// The map to wait for.
        epoch: Epoch,
    },
    /// A call to the monitor failed or timed out. The machine tries again by itself.
    MonitorFailed(MonitorCall),
    /// `wake_at` has come.
    Wake,
    /// The process is about to end, as planned: nothing is served from here on, those who wait are told to try
    /// again, peers need not wait for leases. The last event that has an effect; carry out its actions.
    Stop,
}

/// Which call to the monitor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum MonitorCall {
    /// Boot.
    Boot,
    /// Beat.
    Beat,
    /// Ask of placement groups.
    Ask,
    /// Failure report.
    Failure,
}

/// What the shell must do next.
#[derive(Clone, Debug)]
pub enum Action {
    /// Keep a session to this daemon: dial, and dial again (at once when the connection broke, then with
    /// a pause of 50 ms growing to 1 s), until `Disconnect`. A second `Connect` with another address or
    /// incarnation replaces the first.
    Connect {
        /// Who.
        peer: DaemonId,
        /// Which life of it the map shows.
        incarnation: Incarnation,
        /// host:port of its data path.
        address: String,
    },
    /// The peer is of no interest any more; no event need follow.
    Disconnect {
        /// Who.
        peer: DaemonId,
    },
    /// Send to a peer.
    ToPeer {
        /// To whom.
        to: DaemonId,
        /// What. Its encoding is at most `message::MESSAGE_BYTES_MAX`.
        message: PeerMessage,
    },
    /// Send to a client. Dropped if the link has gone.
    ToClient {
        /// On this stream.
        link: LinkId,
        /// What.
        reply: Reply,
    },
    /// Call the monitor.
    ToMonitor(MonitorRequest),
    /// The daemon cannot go on: say why and end the process.
    Fatal {
        /// The sentence for people.
        why: String,
    },
}

/// A call to the monitor. Each kind has at most one call open, except `Failure`.
#[derive(Clone, Debug, PartialEq)]
pub enum MonitorRequest {
    /// Answered with [`Event::BootReply`].
    Boot(BootRequest),
    /// Answered with [`Event::BeatReply`].
    Beat(BeatRequest),
    /// Answered with [`Event::AskReply`].
    Ask(PgAskBatch),
    /// The answer is of no interest.
    Failure(FailureReport),
}
