//! Reading a body from the cluster, ahead of the client and no further than the window.

use super::{Budget, PIECE_BYTES, Permit, WINDOW_PIECES};
use crate::catalogue::{Bucket, Catalogue, CatalogueError};
use crate::crypt::keys::DataKey;
use crate::crypt::segments::{Opener, Sealed};
use crate::s3::error::{Code, S3Result};
use bytes::{Bytes, BytesMut};
use futures_util::Stream;
use futures_util::StreamExt;
use futures_util::future::LocalBoxFuture;
use futures_util::stream::FuturesOrdered;
use std::collections::VecDeque;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use store_base::bucket::{DataRef, Manifest};

/// A stretch of a run of data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Span {
    data: DataRef,
    offset: u64,
    length: u64,
}

/// The stretches of a manifest that make up `offset..offset + length` of the object.
fn spans(manifest: &Manifest, offset: u64, length: u64) -> VecDeque<Span> {
    let end = offset.saturating_add(length);
    let mut start = 0u64;
    let mut spans = VecDeque::new();
    for data in manifest.refs() {
        let (from, to) = (offset.max(start), end.min(start.saturating_add(data.size)));
        if from < to {
            spans.push_back(Span { data, offset: from - start, length: to - from });
        }
        start = start.saturating_add(data.size);
    }
    spans
}

type Reading = LocalBoxFuture<'static, (Result<Bytes, CatalogueError>, u64, Permit)>;

/// A stream of the bytes of an object, or of a range of it.
pub struct Download {
    catalogue: Rc<dyn Catalogue>,
    bucket: Rc<Bucket>,
    budget: Budget,
    spans: VecDeque<Span>,
    /// Opens what is read, if the object is encrypted.
    opener: Option<Opener>,
    reading: FuturesOrdered<Reading>,
    /// Held until the piece that it belongs to has been handed on and the next is asked for.
    handed_on: Permit,
    left: u64,
    /// The first piece, if it was waited for before the stream began.
    first: Option<S3Result<Bytes>>,
}

impl Download {
    /// Of `offset..offset + length`, which must lie within the object. `key` is that of an encrypted one.
    pub fn new(
        catalogue: Rc<dyn Catalogue>,
        bucket: Rc<Bucket>,
        budget: Budget,
        manifest: &Manifest,
        key: Option<DataKey>,
        (offset, length): (u64, u64),
    ) -> Self {
        let (opener, spans) = match key {
            None => (None, spans(manifest, offset, length)),
            Some(key) => {
                let (opener, sealed) = Opener::new(key, manifest, offset, length);
                let span = |s: Sealed| Span { data: s.run, offset: s.offset, length: s.length };
                (Some(opener), sealed.into_iter().map(span).collect())
            }
        };
        Download {
            catalogue,
            bucket,
            budget,
            spans,
            opener,
            reading: FuturesOrdered::new(),
            handed_on: Permit::default(),
            left: length,
            first: None,
        }
    }

    /// Waits for the first piece, so that what is wrong can be said before the answer begins. The piece
    /// stays in the stream.
    pub fn poll_first(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<S3Result<()>> {
        if self.first.is_none() && self.left > 0 {
            let left = self.left;
            let Poll::Ready(first) = self.as_mut().poll_next(cx) else { return Poll::Pending };
            if let Some(Err(error)) = first {
                return Poll::Ready(Err(error));
            }
            self.left = left;
            self.first = first;
        }
        Poll::Ready(Ok(()))
    }

    /// Bytes still to come.
    pub fn left(&self) -> u64 {
        self.left
    }

    /// The next stretch to read: within one piece of one data object.
    fn next_read(&mut self) -> Option<(DataRef, u64, u64)> {
        let span = self.spans.front_mut()?;
        let piece = PIECE_BYTES as u64;
        let length = span.length.min(piece - span.offset % piece);
        let read = (span.data, span.offset, length);
        span.offset += length;
        span.length -= length;
        if span.length == 0 {
            self.spans.pop_front();
        }
        Some(read)
    }

    fn read_ahead(&mut self) {
        while self.reading.len() < WINDOW_PIECES && !self.spans.is_empty() {
            // The first piece waits for room, the others are read ahead only if there is some.
            let permit = match (self.budget.try_piece_out(), self.reading.is_empty()) {
                (Some(permit), _) => Some(permit),
                (None, true) => None,
                (None, false) => return,
            };
            let Some((data, offset, length)) = self.next_read() else { return };
            let (catalogue, bucket) = (self.catalogue.clone(), self.bucket.clone());
            let budget = self.budget.clone();
            self.reading.push_back(Box::pin(async move {
                let permit = match permit {
                    Some(permit) => permit,
                    None => budget.piece_out().await,
                };
                (catalogue.read_data(&bucket, data, offset, length).await, length, permit)
            }));
        }
    }
}

impl Stream for Download {
    type Item = S3Result<Bytes>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<S3Result<Bytes>>> {
        if let Some(first) = self.first.take() {
            if let Ok(data) = &first {
                self.left -= data.len() as u64;
            }
            return Poll::Ready(Some(first));
        }
        loop {
            let data = match std::task::ready!(self.poll_read(cx)) {
                None => return Poll::Ready(None),
                Some(Err(error)) => return Poll::Ready(Some(Err(error))),
                Some(Ok(data)) => data,
            };
            let data = match &mut self.opener {
                None => data,
                Some(opener) => {
                    let mut out = BytesMut::with_capacity(data.len());
                    if opener.push(&data, &mut out).is_err() {
                        tracing::error!(bucket = %self.bucket.name, "encrypted data does not open");
                        return Poll::Ready(Some(Err(Code::InternalError.into())));
                    }
                    out.freeze()
                }
            };
            // A read may end within a segment.
            if !data.is_empty() {
                self.left = self.left.saturating_sub(data.len() as u64);
                return Poll::Ready(Some(Ok(data)));
            }
        }
    }
}

impl Download {
    /// The next bytes as they lie.
    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<Option<S3Result<Bytes>>> {
        self.handed_on = Permit::default();
        self.read_ahead();
        let Poll::Ready(next) = self.reading.poll_next_unpin(cx) else { return Poll::Pending };
        let Some((result, length, permit)) = next else { return Poll::Ready(None) };
        self.handed_on = permit;
        match result {
            Ok(data) if data.len() as u64 == length => {
                self.read_ahead();
                Poll::Ready(Some(Ok(data)))
            }
            // Short data of a committed object: it was overwritten and swept, or is damaged.
            Ok(_) => Poll::Ready(Some(Err(Code::InternalError.into()))),
            Err(error) => Poll::Ready(Some(Err(error.into()))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use store_base::bucket::ManifestPart;

    #[test]
    fn spans_cover_the_range_exactly() {
        let sizes = [10u64, 0, 5, 7];
        let part = |(n, &size): (usize, &u64)| ManifestPart { number: n as u16, attempt: 0, size };
        let manifest = Manifest {
            parts: sizes.iter().enumerate().map(part).collect(),
            stripe_bytes: 4,
            ..Manifest::default()
        };
        let bytes: Vec<(u16, u64)> = sizes
            .iter()
            .enumerate()
            .flat_map(|(n, &size)| (0..size).map(move |offset| (n as u16, offset)))
            .collect();
        for from in 0..22 {
            for length in 0..=22 - from {
                let covered: Vec<(u16, u64)> = spans(&manifest, from, length)
                    .iter()
                    .flat_map(|s| (s.offset..s.offset + s.length).map(|o| (s.data.part, o)))
                    .collect();
                assert_eq!(covered, bytes[from as usize..(from + length) as usize]);
            }
        }
    }
}
