//! Bodies in and out, with bounded memory.
//!
//! In: socket → framing → pieces of at most [`PIECE_BYTES`] → hashing on another thread, many bodies at once, and
//! writing to the cluster, both pipelined with the reading of the next piece. Out: pieces are read ahead of the
//! client, up to a window, and a slow client stops the reading.
//!
//! What a request may hold: [`WINDOW_PIECES`] pieces in flight and one being filled. What all requests of
//! a gateway may hold: the [`Budget`]; a request waits for its share before it takes more.

pub mod body;
pub mod download;
pub mod hashing;
pub mod md5;
pub mod upload;

use std::sync::Arc;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Bytes of one read or write of the cluster.
pub const PIECE_BYTES: usize = 1 << 20;

/// Pieces in flight of one request.
pub const WINDOW_PIECES: usize = 4;

/// Bytes that all bodies of a gateway together may hold: half of it coming in, half going out. They are
/// apart because a copy does both, and would otherwise wait for room that it holds itself.
#[derive(Clone)]
pub struct Budget {
    incoming: Arc<Semaphore>,
    outgoing: Arc<Semaphore>,
    /// Where what comes in is hashed.
    pub hashing: hashing::Hashing,
}

impl Budget {
    /// Of so many bytes, at least two requests' worth.
    pub fn new(bytes: usize) -> Self {
        let pieces = (bytes / PIECE_BYTES / 2).max(WINDOW_PIECES + 1);
        let semaphore = || Arc::new(Semaphore::new(pieces.min(Semaphore::MAX_PERMITS)));
        Budget { incoming: semaphore(), outgoing: semaphore(), hashing: Default::default() }
    }

    /// Waits for room for a piece that comes in.
    pub async fn piece_in(&self) -> Permit {
        let permit = self.incoming.clone().acquire_owned().await;
        Permit(Some(permit.expect("the budget is never closed")))
    }

    /// Waits for room for a piece that goes out.
    pub async fn piece_out(&self) -> Permit {
        let permit = self.outgoing.clone().acquire_owned().await;
        Permit(Some(permit.expect("the budget is never closed")))
    }

    /// Room for a piece that goes out, if there is some now.
    pub fn try_piece_out(&self) -> Option<Permit> {
        self.outgoing.clone().try_acquire_owned().ok().map(|permit| Permit(Some(permit)))
    }
}

/// Room for a piece, given back when dropped.
#[derive(Default)]
pub struct Permit(#[allow(dead_code)] Option<OwnedSemaphorePermit>);
