//! A request's body: framing off, in pieces.

use super::{Budget, PIECE_BYTES, Permit};
use crate::s3::auth::payload::{ChunkDecoder, Framed, Piece, Trailer};
use crate::s3::error::{Code, S3Error, S3Result};
use bytes::{Bytes, BytesMut};
use futures_util::StreamExt;
use futures_util::stream::LocalBoxStream;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use std::time::Duration;

/// Where bytes come from.
pub enum Source {
    /// A client; at most so long between two arrivals.
    Http(Incoming, Duration),
    /// The gateway itself: a copy.
    Local(LocalBoxStream<'static, S3Result<Bytes>>),
}

impl Source {
    /// The next bytes, in whatever amount they came; `None` at the end.
    async fn arrive(&mut self) -> S3Result<Option<Bytes>> {
        match self {
            Source::Local(stream) => stream.next().await.transpose(),
            Source::Http(incoming, idle) => loop {
                let frame = tokio::time::timeout(*idle, incoming.frame()).await;
                let Some(frame) = frame.map_err(|_| S3Error::from(Code::RequestTimeout))? else {
                    return Ok(None);
                };
                // A client that goes away does not read what is said here.
                let frame = frame.map_err(|_| S3Error::from(Code::IncompleteBody))?;
                if let Ok(data) = frame.into_data()
                    && !data.is_empty()
                {
                    return Ok(Some(data));
                }
            },
        }
    }
}

/// Reads a body of known length.
pub struct BodyReader {
    source: Source,
    decoder: Option<ChunkDecoder>,
    /// Arrived and not yet decoded.
    raw: Bytes,
    /// Decoded and not yet in a piece.
    decoded: Bytes,
    /// Bytes that are still to be put into pieces.
    left: u64,
    ended: bool,
    trailers: Vec<Trailer>,
}

impl BodyReader {
    /// Of `length` bytes once the framing is taken off.
    pub fn new(source: Source, decoder: Option<ChunkDecoder>, length: u64) -> Self {
        let (raw, decoded, trailers) = (Bytes::new(), Bytes::new(), Vec::new());
        BodyReader { source, decoder, raw, decoded, left: length, ended: false, trailers }
    }

    /// Bytes still to come.
    pub fn left(&self) -> u64 {
        self.left
    }

    /// What came behind the body; complete once `piece` said `None`.
    pub fn trailers(&self) -> &[Trailer] {
        &self.trailers
    }

    /// The next piece, full unless it is the last; `None` when the body has ended as announced.
    pub async fn piece(&mut self, budget: &Budget) -> S3Result<Option<(Piece, Permit)>> {
        let wanted = usize::try_from(self.left).unwrap_or(usize::MAX).min(PIECE_BYTES);
        let mut buffer = BytesMut::new();
        let mut whole = None;
        let mut permit = Permit::default();
        let mut chunk_ends = Vec::new();
        let mut filled = 0;
        // The last piece takes the end of the framing with it.
        while !self.ended && (filled < wanted || self.left == 0) {
            if self.decoded.is_empty() {
                match self.step().await? {
                    Some(Framed::Data(data)) => self.decoded = data,
                    Some(Framed::ChunkEnd(signature)) => chunk_ends.push((filled, signature)),
                    Some(Framed::End(trailers)) => {
                        self.trailers = trailers;
                        self.end().await?;
                    }
                    None => self.ended = true,
                }
                continue;
            }
            let data = self.decoded.split_to(self.decoded.len().min(wanted - filled));
            if data.is_empty() {
                // More than was announced.
                return Err(Code::IncompleteBody.into());
            }
            self.left -= data.len() as u64;
            if filled == 0 && data.len() == wanted {
                filled = wanted;
                whole = Some(data);
                continue;
            }
            if filled == 0 {
                // Room is asked for when something is there to be kept.
                if wanted == PIECE_BYTES {
                    permit = budget.piece_in().await;
                }
                buffer.reserve(wanted);
            }
            filled += data.len();
            buffer.extend_from_slice(&data);
        }
        if self.ended && self.left > 0 {
            return Err(Code::IncompleteBody.into());
        }
        let piece = Piece { data: whole.unwrap_or_else(|| buffer.freeze()), chunk_ends };
        match piece.data.is_empty() && piece.chunk_ends.is_empty() {
            true => Ok(None),
            false => Ok(Some((piece, permit))),
        }
    }

    /// The whole of a short body.
    pub async fn whole(&mut self, budget: &Budget) -> S3Result<Piece> {
        let mut pieces = Vec::new();
        while let Some((piece, _)) = self.piece(budget).await? {
            pieces.push(piece);
        }
        if pieces.len() <= 1 {
            return Ok(pieces.pop().unwrap_or_default());
        }
        let mut joined = (BytesMut::new(), Vec::new());
        for piece in pieces {
            let start = joined.0.len();
            joined.1.extend(piece.chunk_ends.iter().map(|(end, sig)| (start + end, *sig)));
            joined.0.extend_from_slice(&piece.data);
        }
        Ok(Piece { data: joined.0.freeze(), chunk_ends: joined.1 })
    }

    /// The next thing behind the framing.
    async fn step(&mut self) -> S3Result<Option<Framed>> {
        loop {
            match &mut self.decoder {
                Some(decoder) => {
                    if let Some(framed) = decoder.next(&mut self.raw)? {
                        return Ok(Some(framed));
                    }
                }
                None if !self.raw.is_empty() => {
                    return Ok(Some(Framed::Data(std::mem::take(&mut self.raw))));
                }
                None => {}
            }
            match self.source.arrive().await? {
                Some(data) => self.raw = data,
                None if self.decoder.is_some() => return Err(Code::IncompleteBody.into()),
                None => return Ok(None),
            }
        }
    }

    /// Behind the last chunk nothing may come.
    async fn end(&mut self) -> S3Result<()> {
        self.ended = true;
        match (self.raw.is_empty(), self.source.arrive().await?) {
            (true, None) => Ok(()),
            _ => Err(Code::InvalidRequest.with("Bytes behind the last chunk of the body.")),
        }
    }

    /// Throws away what the client still sends, up to a bound, so that he reads our answer instead of
    /// a reset connection.
    pub async fn drain(&mut self, bytes_max: usize) {
        let mut drained = 0;
        while drained < bytes_max {
            match self.source.arrive().await {
                Ok(Some(data)) => drained += data.len(),
                _ => return,
            }
        }
    }
}
