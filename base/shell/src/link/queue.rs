//! The sending half: a queue bounded in bytes that gathers messages into DATA frames.
//!
//! Invariants:
//! - the credits taken from the semaphore and not yet returned are exactly the bytes in `batches`;
//! - a message lies within one batch;
//! - after `dead` nothing is queued, and every waiting sender has been told.

use super::frame::{FRAME_BYTES_MAX, HEAD_BYTES_MAX, Rope, put_head};
use super::{LinkError, LinkMetrics};
use bytes::{BufMut, Bytes, BytesMut};
use http::{HeaderMap, HeaderValue};
use http_body::{Body, Frame};
use std::collections::VecDeque;
use std::convert::Infallible;
use std::fmt;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll, Waker};
use tokio::sync::{Semaphore, TryAcquireError};

/// Queued messages are gathered into DATA frames of up to this size; a larger message is alone in its own.
pub const BATCH_BYTES_MAX: usize = 256 << 10;
/// Pieces below this are gathered by a copy: a copy of so few bytes from the cache costs less than one more
/// piece in the vectored write.
pub const COPY_BYTES_MAX: usize = 2 << 10;
/// What a batch sets aside for gathered bytes at first.
const OPEN_BYTES: usize = 4 << 10;

/// Why the sending side ends.
#[derive(Clone, Debug, PartialEq, Eq)]
enum End {
    /// All senders were dropped: everything queued still goes out.
    Done,
    /// The process stops: the same, and the peer is told why.
    Stopping,
}

#[derive(Default)]
struct Batch {
    parts: Vec<Bytes>,
    open: BytesMut,
    bytes: usize,
    messages: u64,
}

impl Batch {
    fn put(&mut self, rope: Vec<Bytes>, body_bytes: usize) {
        let before = self.bytes;
        if self.open.capacity() == 0 {
            self.open.reserve(OPEN_BYTES);
        }
        let open_before = self.open.len();
        put_head(&mut self.open, body_bytes);
        self.bytes = before + (self.open.len() - open_before) + body_bytes;
        for piece in rope {
            if piece.len() < COPY_BYTES_MAX {
                self.open.put_slice(&piece);
            } else {
                self.seal();
                self.parts.push(piece);
            }
        }
        self.messages += 1;
    }

    fn seal(&mut self) {
        if !self.open.is_empty() {
            self.parts.push(self.open.split().freeze());
        }
    }

    fn into_rope(mut self) -> Rope {
        self.seal();
        let mut rope = Rope::default();
        self.parts.into_iter().for_each(|piece| rope.push(piece));
        rope
    }
}

#[derive(Default)]
struct State {
    batches: VecDeque<Batch>,
    end: Option<End>,
    dead: bool,
    waker: Option<Waker>,
}

pub(super) struct Queue {
    state: Mutex<State>,
    credits: Semaphore,
    metrics: LinkMetrics,
}

impl Queue {
    fn lock(&self) -> MutexGuard<'_, State> {
        // A panic while holding it leaves the state as whole as any other moment.
        self.state.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// Queues a message whose credits were taken.
    fn put(&self, rope: Vec<Bytes>, body_bytes: usize, credits: usize) -> Result<(), LinkError> {
        let mut state = self.lock();
        if state.dead || state.end.is_some() {
            return Err(LinkError::Closed);
        }
        let fits = |batch: &Batch| batch.bytes + body_bytes + HEAD_BYTES_MAX <= BATCH_BYTES_MAX;
        if !state.batches.back().is_some_and(fits) {
            state.batches.push_back(Batch::default());
        }
        let batch = state.batches.back_mut().expect("one was just put there");
        let before = batch.bytes;
        batch.put(rope, body_bytes);
        debug_assert_eq!(batch.bytes - before, credits, "credits are bytes");
        let waker = state.waker.take();
        drop(state);
        if let Some(waker) = waker {
            waker.wake();
        }
        Ok(())
    }

    fn end(&self, end: End) {
        let mut state = self.lock();
        state.end.get_or_insert(end);
        let waker = state.waker.take();
        drop(state);
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// The peer is told that this process stops; messages queued before still go.
    pub(super) fn stop(&self) {
        self.end(End::Stopping);
        self.credits.close();
    }

    /// The transport is gone: nothing more will leave.
    fn bury(&self) {
        let mut state = self.lock();
        state.dead = true;
        state.batches.clear();
        drop(state);
        self.credits.close();
    }
}

/// Dropped with the last sender.
struct Handle {
    queue: Arc<Queue>,
    queue_bytes_max: usize,
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.queue.end(End::Done);
    }
}

/// Sends messages to the peer, in the order of the calls. Cheap to clone; the stream ends towards the peer when
/// the last clone is dropped.
#[derive(Clone)]
pub struct LinkSender {
    handle: Arc<Handle>,
}

impl LinkSender {
    /// Sends one message, given in pieces; waits while the queue is full. Once it returns, the message is in
    /// the queue, not yet at the peer. Dropped while waiting, it has sent nothing.
    pub async fn send(&self, rope: Vec<Bytes>) -> Result<(), LinkError> {
        let (body_bytes, credits) = self.measure(&rope)?;
        let queue = &self.handle.queue;
        match queue.credits.try_acquire_many(credits) {
            Ok(permit) => permit.forget(),
            Err(TryAcquireError::Closed) => return Err(LinkError::Closed),
            Err(TryAcquireError::NoPermits) => {
                queue.metrics.sends_waited.inc();
                let permit = queue.credits.acquire_many(credits).await;
                permit.map_err(|_| LinkError::Closed)?.forget();
            }
        }
        queue.put(rope, body_bytes, credits as usize)
    }

    /// Sends one message if the queue has room for it now; else [`LinkError::Full`], and the pieces (shared,
    /// not copied) are still the caller's.
    pub fn try_send(&self, rope: &[Bytes]) -> Result<(), LinkError> {
        let (body_bytes, credits) = self.measure(rope)?;
        match self.handle.queue.credits.try_acquire_many(credits) {
            Ok(permit) => permit.forget(),
            Err(TryAcquireError::Closed) => return Err(LinkError::Closed),
            Err(TryAcquireError::NoPermits) => return Err(LinkError::Full),
        }
        self.handle.queue.put(rope.to_vec(), body_bytes, credits as usize)
    }

    /// Bytes that wait in the queue.
    pub fn queued_bytes(&self) -> usize {
        self.handle.queue_bytes_max.saturating_sub(self.handle.queue.credits.available_permits())
    }

    /// Whether nothing can be sent any more.
    pub fn is_closed(&self) -> bool {
        self.handle.queue.credits.is_closed()
    }

    /// Size of the body, and of all that stands on the wire for it.
    fn measure(&self, rope: &[Bytes]) -> Result<(usize, u32), LinkError> {
        let body_bytes = rope.iter().map(Bytes::len).sum::<usize>();
        if body_bytes > FRAME_BYTES_MAX {
            return Err(LinkError::TooLarge { bytes: body_bytes, max: FRAME_BYTES_MAX });
        }
        let mut head = 5;
        if body_bytes > 0 {
            head += 1 + (usize::BITS - body_bytes.leading_zeros()).div_ceil(7) as usize;
        }
        Ok((body_bytes, u32::try_from(body_bytes + head).expect("bounded just above")))
    }

    pub(super) fn queue(&self) -> &Arc<Queue> {
        &self.handle.queue
    }
}

impl fmt::Debug for LinkSender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LinkSender")
            .field("queued_bytes", &self.queued_bytes())
            .finish_non_exhaustive()
    }
}

/// The HTTP body that drains the queue.
pub(crate) struct LinkBody {
    queue: Arc<Queue>,
    /// Servers end a stream with gRPC's trailers, clients without.
    trailers: bool,
    ended: bool,
}

/// A queue's two ends.
pub(super) fn queue(
    queue_bytes_max: usize,
    trailers: bool,
    metrics: LinkMetrics,
) -> (LinkSender, LinkBody) {
    // The largest message must fit, or its sender would wait for ever.
    let bytes = queue_bytes_max.clamp(FRAME_BYTES_MAX + HEAD_BYTES_MAX, u32::MAX as usize >> 3);
    let queue = Arc::new(Queue {
        state: Mutex::default(),
        credits: Semaphore::new(bytes),
        metrics: metrics.clone(),
    });
    metrics.links_open.inc();
    let handle = Handle { queue: queue.clone(), queue_bytes_max: bytes };
    (LinkSender { handle: Arc::new(handle) }, LinkBody { queue, trailers, ended: false })
}

impl Body for LinkBody {
    type Data = Rope;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Rope>, Infallible>>> {
        if self.ended {
            return Poll::Ready(None);
        }
        let mut state = self.queue.lock();
        if let Some(batch) = state.batches.pop_front() {
            drop(state);
            self.queue.credits.add_permits(batch.bytes);
            let metrics = &self.queue.metrics;
            metrics.batches_sent.inc();
            metrics.messages_sent.inc_by(batch.messages);
            metrics.bytes_sent.inc_by(batch.bytes as u64);
            return Poll::Ready(Some(Ok(Frame::data(batch.into_rope()))));
        }
        let Some(end) = state.end.clone() else {
            state.waker = Some(cx.waker().clone());
            return Poll::Pending;
        };
        drop(state);
        self.ended = true;
        if !self.trailers {
            return Poll::Ready(None);
        }
        let mut trailers = HeaderMap::new();
        let (status, why) = match end {
            End::Done => ("0", None),
            End::Stopping => ("14", Some("the service is stopping")),
        };
        trailers.insert("grpc-status", HeaderValue::from_static(status));
        if let Some(why) = why {
            trailers.insert("grpc-message", HeaderValue::from_static(why));
        }
        Poll::Ready(Some(Ok(Frame::trailers(trailers))))
    }
}

impl Drop for LinkBody {
    fn drop(&mut self) {
        self.queue.bury();
        self.queue.metrics.links_open.dec();
    }
}
