//! What an answer carries.

use crate::pace::Pace;
use crate::s3::error::S3Error;
use crate::transfer::download::Download;
use bytes::Bytes;
use futures_util::stream::LocalBoxStream;
use futures_util::{Stream, StreamExt};
use hyper::body::{Body, Frame, SizeHint};
use std::collections::VecDeque;
use std::pin::Pin;
use std::task::{Context, Poll};
use tokio::time::Sleep;

/// The body of an answer.
pub enum ResponseBody {
    /// Bytes that are there.
    Full(Bytes),
    /// Bytes that come from the cluster; with what must live until they have.
    Download(Box<Download>, Box<dyn std::any::Any>),
    /// Bytes that are made as they are asked for: so many.
    Stream(LocalBoxStream<'static, Result<Bytes, S3Error>>, u64),
    /// Bytes of which nobody knows how many they will be.
    Chunks(LocalBoxStream<'static, Result<Bytes, S3Error>>),
    /// Several bodies, one after the other.
    Sequence(VecDeque<ResponseBody>),
    /// A body that goes no faster than it may.
    Paced(Box<Paced>),
}

/// A body and its pace.
pub struct Paced {
    body: ResponseBody,
    pace: Pace,
    /// Until when nothing more goes.
    pause: Option<Pin<Box<Sleep>>>,
}

impl ResponseBody {
    /// No bytes.
    pub fn empty() -> Self {
        ResponseBody::Full(Bytes::new())
    }

    /// At this pace.
    pub fn paced(self, pace: Pace) -> Self {
        match pace.is_free() || self.left() == 0 {
            true => self,
            false => ResponseBody::Paced(Box::new(Paced { body: self, pace, pause: None })),
        }
    }

    /// Whether it is known how many bytes there will be.
    fn is_measured(&self) -> bool {
        match self {
            ResponseBody::Chunks(_) => false,
            ResponseBody::Paced(paced) => paced.body.is_measured(),
            ResponseBody::Sequence(bodies) => bodies.iter().all(ResponseBody::is_measured),
            ResponseBody::Full(_) | ResponseBody::Download(..) | ResponseBody::Stream(..) => true,
        }
    }

    /// Bytes still to come.
    fn left(&self) -> u64 {
        match self {
            ResponseBody::Paced(paced) => paced.body.left(),
            ResponseBody::Full(bytes) => bytes.len() as u64,
            ResponseBody::Download(download, _) => download.left(),
            ResponseBody::Stream(_, left) => *left,
            // At least one, as far as anybody knows.
            ResponseBody::Chunks(_) => 1,
            ResponseBody::Sequence(bodies) => bodies.iter().map(ResponseBody::left).sum(),
        }
    }
}

impl Paced {
    /// The next piece; what it costs is waited for before the one after it.
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, S3Error>>> {
        if let Some(pause) = &mut self.pause {
            if pause.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
            self.pause = None;
        }
        let frame = Pin::new(&mut self.body).poll_frame(cx);
        if let Poll::Ready(Some(Ok(frame))) = &frame
            && let Some(data) = frame.data_ref()
        {
            let wait = self.pace.wait(data.len() as u64);
            self.pause = (!wait.is_zero()).then(|| Box::pin(tokio::time::sleep(wait)));
        }
        frame
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = S3Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, S3Error>>> {
        match self.get_mut() {
            ResponseBody::Paced(paced) => paced.poll_frame(cx),
            ResponseBody::Full(bytes) if bytes.is_empty() => Poll::Ready(None),
            ResponseBody::Full(bytes) => Poll::Ready(Some(Ok(Frame::data(std::mem::take(bytes))))),
            ResponseBody::Download(download, _) => {
                Pin::new(&mut **download).poll_next(cx).map_ok(Frame::data)
            }
            ResponseBody::Stream(bytes, left) => {
                let next = bytes.poll_next_unpin(cx);
                if let Poll::Ready(Some(Ok(piece))) = &next {
                    *left = left.saturating_sub(piece.len() as u64);
                }
                next.map_ok(Frame::data)
            }
            ResponseBody::Chunks(bytes) => bytes.poll_next_unpin(cx).map_ok(Frame::data),
            ResponseBody::Sequence(bodies) => {
                while let Some(first) = bodies.front_mut() {
                    match Pin::new(first).poll_frame(cx) {
                        Poll::Ready(None) => drop(bodies.pop_front()),
                        frame => return frame,
                    }
                }
                Poll::Ready(None)
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.left() == 0
    }

    fn size_hint(&self) -> SizeHint {
        match self.is_measured() {
            true => SizeHint::with_exact(self.left()),
            false => SizeHint::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::stream;

    #[test]
    fn what_has_no_known_length_announces_none() {
        let chunks = || ResponseBody::Chunks(stream::empty().boxed_local());
        let paced = |body| {
            ResponseBody::Paced(Box::new(Paced { body, pace: Pace::default(), pause: None }))
        };
        let sequence = |bodies: Vec<ResponseBody>| ResponseBody::Sequence(bodies.into());
        let full = || ResponseBody::Full(Bytes::from_static(b"abc"));
        for body in [chunks(), paced(chunks()), sequence(vec![full(), paced(chunks())])] {
            assert_eq!((body.size_hint().exact(), body.is_end_stream()), (None, false));
        }
        for body in [full(), paced(full()), sequence(vec![full(), ResponseBody::empty()])] {
            assert_eq!(body.size_hint().exact(), Some(3));
        }
    }
}
