//! A request's body: framing off, in pieces.

use super::{Budget, PIECE_BYTES, Permit};
use crate::pace::Pace;
use crate::s3::auth::payload::{ChunkDecoder, Framed, Piece, Trailer};
use crate::s3::error::{Code, S3Error, S3Result};
use bytes::{Bytes, BytesMut};
use futures_util::StreamExt;
use futures_util::stream::LocalBoxStream;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use std::time::Duration;
use tokio::time::Instant;

/// A piece must be full so long after room was taken for it: who sends so slowly (less than 2 KB in a second)
/// would keep others from theirs.
pub const FILL_TIMEOUT: Duration = Duration::from_secs(600);

/// Where bytes come from.
pub enum Source {
    /// A client; at most so long between two arrivals.
    Http(Incoming, Duration),
    /// The gateway itself: a copy.
    Local(LocalBoxStream<'static, S3Result<Bytes>>),
}

impl Source {
    /// The next bytes, in whatever amount they came; `None` at the end.
    pub(crate) async fn arrive(&mut self) -> S3Result<Option<Bytes>> {
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

/// Reads a body of known length, or of unknown length and a limit.
pub struct BodyReader {
    source: Source,
    decoder: Option<ChunkDecoder>,
    /// Arrived and not yet decoded.
    raw: Bytes,
    /// Decoded and not yet in a piece.
    decoded: Bytes,
    /// Bytes that are still to be put into pieces.
    left: u64,
    /// Whether the body must have exactly as many bytes as were announced.
    exact: bool,
    /// [`FILL_TIMEOUT`]
    fill_timeout: Duration,
    /// Read ahead, to see whether the body is short.
    peeked: Option<(Piece, Permit)>,
    ended: bool,
    trailers: Vec<Trailer>,
    /// How fast it is read.
    pace: Pace,
}

impl BodyReader {
    /// Of `length` bytes once the framing is taken off.
    pub fn new(source: Source, decoder: Option<ChunkDecoder>, length: u64) -> Self {
        let (raw, decoded, trailers) = (Bytes::new(), Bytes::new(), Vec::new());
        let (left, exact, peeked, ended) = (length, true, None, false);
        let fill_timeout = FILL_TIMEOUT;
        BodyReader {
            source,
            decoder,
            raw,
            decoded,
            left,
            exact,
            fill_timeout,
            peeked,
            ended,
            trailers,
            pace: Pace::default(),
        }
    }

    /// Read no faster than this.
    pub fn paced(self, pace: Pace) -> Self {
        BodyReader { pace, ..self }
    }

    /// Of a body that says its length by ending: at most `length_max` bytes.
    pub fn open(source: Source, length_max: u64) -> Self {
        BodyReader { exact: false, ..BodyReader::new(source, None, length_max) }
    }

    /// Lets a body of unknown length have fewer bytes than it might.
    pub fn allow(&mut self, length_max: u64) {
        if !self.exact && self.peeked.is_none() {
            self.left = self.left.min(length_max);
        }
    }

    /// Bytes still to come; the most that may come, of a body of unknown length.
    pub fn left(&self) -> u64 {
        self.left + self.peeked.as_ref().map_or(0, |(piece, _)| piece.data.len() as u64)
    }

    /// Reads the beginning of a body of unknown length; the length of a short one is known then. The
    /// bytes stay in the body.
    pub async fn settle(&mut self, budget: &Budget) -> S3Result<()> {
        if !self.exact && self.peeked.is_none() {
            self.peeked = self.piece(budget).await?;
            if self.ended {
                (self.exact, self.left) = (true, 0);
            }
        }
        Ok(())
    }

    /// What came behind the body; complete once `piece` said `None`.
    pub fn trailers(&self) -> &[Trailer] {
        &self.trailers
    }

    /// The next piece, full unless it is the last; `None` when the body has ended as announced.
    pub async fn piece(&mut self, budget: &Budget) -> S3Result<Option<(Piece, Permit)>> {
        if let Some(peeked) = self.peeked.take() {
            return Ok(Some(peeked));
        }
        let wanted = usize::try_from(self.left).unwrap_or(usize::MAX).min(PIECE_BYTES);
        let mut buffer = BytesMut::new();
        let mut whole = None;
        let mut permit = Permit::default();
        let mut full_at = None;
        let mut chunk_ends = Vec::new();
        let mut filled = 0;
        // The last piece takes the end of the framing with it.
        while !self.ended && (filled < wanted || self.left == 0) {
            if self.decoded.is_empty() {
                match self.step_until(full_at).await? {
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
                // More than was announced, or allowed.
                let code = if self.exact { Code::IncompleteBody } else { Code::EntityTooLarge };
                return Err(code.into());
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
                    full_at = Some(Instant::now() + self.fill_timeout);
                }
                buffer.reserve(wanted);
            }
            filled += data.len();
            buffer.extend_from_slice(&data);
        }
        if self.ended && self.exact && self.left > 0 {
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

    async fn step_until(&mut self, end: Option<Instant>) -> S3Result<Option<Framed>> {
        match end {
            None => self.step().await,
            Some(end) => match tokio::time::timeout_at(end, self.step()).await {
                Ok(stepped) => stepped,
                Err(_) => Err(Code::RequestTimeout.into()),
            },
        }
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
                Some(data) => {
                    if !self.pace.is_free() {
                        tokio::time::sleep(self.pace.wait(data.len() as u64)).await;
                    }
                    self.raw = data;
                }
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
    /// a reset connection. Who sends nothing for so long as `pause` waits for the answer.
    pub async fn drain(&mut self, bytes_max: usize, pause: Duration) {
        let mut drained = 0;
        while drained < bytes_max {
            match tokio::time::timeout(pause, self.source.arrive()).await {
                Ok(Ok(Some(data))) => drained += data.len(),
                _ => return,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::stream;

    /// A body of two pieces that comes in 32 steps of some time each; how its reading ends.
    async fn trickle(pause: Duration, fill_timeout: Duration) -> Result<usize, Code> {
        const STEPS: usize = 32;
        let bytes = stream::iter(0..STEPS).then(move |_| async move {
            tokio::time::sleep(pause).await;
            Ok(Bytes::from(vec![0; 2 * PIECE_BYTES / STEPS]))
        });
        let length = 2 * PIECE_BYTES as u64;
        let source = Source::Local(bytes.boxed_local());
        let mut reader = BodyReader { fill_timeout, ..BodyReader::new(source, None, length) };
        let budget = Budget::new(8 << 20);
        let mut read = 0;
        while let Some((piece, _)) = reader.piece(&budget).await.map_err(|error| error.code)? {
            read += piece.data.len();
        }
        Ok(read)
    }

    #[tokio::test]
    async fn who_trickles_does_not_keep_his_room() {
        let ms = Duration::from_millis;
        assert_eq!(trickle(ms(1), ms(20_000)).await, Ok(2 * PIECE_BYTES));
        assert_eq!(trickle(ms(20), ms(100)).await, Err(Code::RequestTimeout));
    }
}
