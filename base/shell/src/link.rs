//! The data path between our processes: one long-lived bidirectional stream per peer pair, carrying messages
//! in order, many in flight.
//!
//! On the wire it is gRPC (`/store.Link/Open`, `base/proto/link.proto`) over HTTP/2, so any stock gRPC client
//! can speak it. It is written at the HTTP body level because a unary call costs 7 to 30 times the CPU of a
//! message on a busy stream, and a stock codec copies every payload once a side:
//!
//! - [`LinkSender::send`] takes a rope. Prefixes and small pieces are gathered, pieces from
//!   [`COPY_BYTES_MAX`] on stay as they are and go to the socket by reference in one vectored write.
//! - All messages queued while the connection was busy leave as one DATA frame of up to [`BATCH_BYTES_MAX`];
//!   a larger message leaves as a DATA frame of its own. Messages are never split over two frames by us, only
//!   by HTTP/2 when its window is nearly used up.
//! - [`LinkReceiver::recv`] returns a slice of the DATA frame that the message came in; only a message that
//!   was split is put together by a copy. **A slice keeps its whole frame in memory: copy small values that
//!   are kept for long.**
//!
//! # Bounds
//!
//! A sender holds at most [`LinkSettings::queue_bytes_max`] of queued messages, plus one send buffer and one
//! batch below it in HTTP/2; then `send` waits and `try_send` refuses. A receiver that is not read holds at
//! most [`CONNECTION_WINDOW_BYTES`]; then the peer's sender fills up. Nothing else buffers.
//!
//! # Life
//!
//! [`Dialer::dial`] connects, shows and checks certificates, exchanges a [`Hello`] each way and gives a
//! [`Link`]; the accepting side gets the same [`Link`] from its [`LinkAcceptor`]. The stream ends in order when
//! all senders of one side are dropped: the other side's `recv` then returns `None`. A lost peer is noticed by
//! HTTP/2 pings within [`LinkSettings::keep_alive_interval`] + [`LinkSettings::keep_alive_timeout`], busy or
//! idle; then `recv` returns [`LinkError::Broken`] and `send` [`LinkError::Closed`]. A message handed to `send`
//! may be lost with the link: who needs an answer asks again on the next link, with the same request id.
//!
//! Deliberately absent: reconnecting (the owner of the link decides when and whereto), correlation of requests
//! and replies (the messages carry their own ids), compression, more than one link on a connection (one
//! connection is driven by one task, so a second link for bulk shall have its own).

mod acceptor;
mod dialer;
mod frame;
mod hello;
mod metrics;
mod queue;
mod receiver;

pub use acceptor::LinkAcceptor;
pub(crate) use acceptor::LinkService;
pub use dialer::Dialer;
pub use frame::{FRAME_BYTES_MAX, Rope};
pub use hello::{Hello, PROTOCOL_VERSION};
pub use metrics::LinkMetrics;
pub(crate) use queue::LinkBody;
pub use queue::{BATCH_BYTES_MAX, COPY_BYTES_MAX, LinkSender};
pub use receiver::LinkReceiver;

use crate::identity::PeerIdentity;
use std::time::Duration;

/// Path of the service's one method.
pub const PATH: &str = "/store.Link/Open";

/// Bytes of one stream that may be on their way unread.
pub const STREAM_WINDOW_BYTES: u32 = 4 << 20;
/// Bytes of a whole connection that may be on their way unread.
pub const CONNECTION_WINDOW_BYTES: u32 = 8 << 20;
/// Largest DATA frame: the largest message with its prefixes.
pub const DATA_FRAME_BYTES_MAX: u32 = (FRAME_BYTES_MAX + 64) as u32;
/// What HTTP/2 holds for the socket below the queue.
pub const SEND_BUFFER_BYTES: usize = 1 << 20;
/// How long a peer may take from the connection to its hello.
pub const HELLO_TIMEOUT: Duration = Duration::from_secs(5);
/// Largest block of headers that is taken.
pub(crate) const HEADER_BYTES_MAX: u32 = 16 * 1024;

/// What an owner may choose for its links.
#[derive(Clone, Debug)]
pub struct LinkSettings {
    /// Bytes that may wait in a sender. More lets a burst through without waiting and delays what comes
    /// behind it; at least one message always fits.
    pub queue_bytes_max: usize,
    /// How often a ping asks whether the peer is there.
    pub keep_alive_interval: Duration,
    /// How long its answer may take before the link counts as broken.
    pub keep_alive_timeout: Duration,
}

impl Default for LinkSettings {
    fn default() -> Self {
        LinkSettings {
            queue_bytes_max: 4 << 20,
            keep_alive_interval: Duration::from_secs(1),
            keep_alive_timeout: Duration::from_secs(3),
        }
    }
}

impl LinkSettings {
    /// The longest silence of a live peer: after an interval without a byte it is sent a ping.
    pub(crate) fn silence_max(&self) -> Duration {
        self.keep_alive_interval + self.keep_alive_timeout
    }

    /// What HTTP/2 is told: longer, since `net::Watched` breaks silent connections better.
    pub(crate) fn http2_keep_alive_timeout(&self) -> Duration {
        2 * self.silence_max()
    }
}

/// A stream to a peer that said who it is.
#[derive(Debug)]
pub struct Link {
    /// Who the peer is: proven by its certificate with TLS, claimed in its hello in plain text.
    pub peer: PeerIdentity,
    /// What it said of itself.
    pub hello: Hello,
    /// Towards the peer.
    pub sender: LinkSender,
    /// From the peer.
    pub receiver: LinkReceiver,
}

/// Why a message did not go out or come in.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LinkError {
    /// The stream has ended, by either side. Dial again if there is more to say.
    #[error("the link is closed")]
    Closed,
    /// The connection was lost, or the peer went silent. Dial again; what was not answered may have arrived.
    #[error("the link is broken: {0}")]
    Broken(String),
    /// `try_send` only: the queue is full. Wait, or drop the message.
    #[error("the link's queue is full")]
    Full,
    /// A message above [`FRAME_BYTES_MAX`]. Cut it smaller; when a peer sent it, the link is done.
    #[error("a message of {bytes} bytes is above the limit of {max}")]
    TooLarge {
        /// Its size.
        bytes: usize,
        /// The limit.
        max: usize,
    },
    /// The peer sent bytes that are no message. The link is done; report the peer.
    #[error("the peer sent no message of ours: {0}")]
    Protocol(String),
}

#[cfg(test)]
mod tests;
