//! The receiving half.

use super::frame::Deframer;
use super::{LinkError, LinkMetrics};
use bytes::Bytes;
use http::HeaderMap;
use http_body::Body;
use hyper::body::Incoming;
use std::error::Error;
use std::fmt;
use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

/// Receives messages from the peer, in the order it sent them. Dropped, it stops taking any: drop the senders
/// too, or the peer's queue fills up.
pub struct LinkReceiver {
    body: Incoming,
    deframer: Deframer,
    metrics: LinkMetrics,
    ended: bool,
}

impl LinkReceiver {
    pub(super) fn new(body: Incoming, metrics: LinkMetrics) -> Self {
        LinkReceiver { body, deframer: Deframer::default(), metrics, ended: false }
    }

    /// The next message; `None` after the peer ended the stream in order. After an error, only `None` follows.
    /// May be dropped while it waits: nothing is lost.
    pub async fn recv(&mut self) -> Option<Result<Bytes, LinkError>> {
        poll_fn(|cx| self.poll_recv(cx)).await
    }

    /// The next message if it has arrived already, without waiting and without asking the runtime: for loops
    /// that take in a batch before they act.
    pub fn recv_now(&mut self) -> Option<Result<Bytes, LinkError>> {
        if self.ended {
            return None;
        }
        self.take().transpose()
    }

    /// As [`LinkReceiver::recv`], for hand-written futures.
    pub fn poll_recv(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, LinkError>>> {
        while !self.ended {
            if let Some(found) = self.take().transpose() {
                return Poll::Ready(Some(found));
            }
            let frame = match ready!(Pin::new(&mut self.body).poll_frame(cx)) {
                Some(Ok(frame)) => frame,
                Some(Err(e)) => return Poll::Ready(Some(Err(self.broken(describe(&e))))),
                None => return Poll::Ready(self.end(None)),
            };
            match frame.into_data() {
                Ok(data) => self.deframer.push(data),
                Err(frame) => {
                    let trailers = frame.into_trailers().ok();
                    return Poll::Ready(self.end(trailers));
                }
            }
        }
        Poll::Ready(None)
    }

    fn take(&mut self) -> Result<Option<Bytes>, LinkError> {
        match self.deframer.next() {
            Ok(Some(message)) => {
                self.metrics.messages_received.inc();
                self.metrics.bytes_received.inc_by(message.len() as u64);
                Ok(Some(message))
            }
            Ok(None) => Ok(None),
            Err(e) => {
                self.ended = true;
                self.metrics.links_broken.inc();
                Err(e)
            }
        }
    }

    fn broken(&mut self, why: String) -> LinkError {
        self.ended = true;
        self.metrics.links_broken.inc();
        LinkError::Broken(why)
    }

    fn end(&mut self, trailers: Option<HeaderMap>) -> Option<Result<Bytes, LinkError>> {
        self.ended = true;
        if self.deframer.is_within() {
            return Some(Err(LinkError::Protocol("it ended within a message".to_string())));
        }
        trailers.as_ref().and_then(status).map(|why| Err(self.broken(why)))
    }
}

impl Drop for LinkReceiver {
    fn drop(&mut self) {
        self.metrics.messages_reassembled.inc_by(self.deframer.reassembled);
    }
}

impl fmt::Debug for LinkReceiver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LinkReceiver").field("ended", &self.ended).finish_non_exhaustive()
    }
}

/// What headers or trailers say other than "all is well".
pub(super) fn status(headers: &HeaderMap) -> Option<String> {
    let status = tonic::Status::from_header_map(headers)?;
    (status.code() != tonic::Code::Ok).then(|| status.message().to_string())
}

/// An error with all its causes, on one line.
pub(super) fn describe(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        let inner_text = inner.to_string();
        if !text.ends_with(&inner_text) {
            text = format!("{text}: {inner_text}");
        }
        cause = inner.source();
    }
    text
}
