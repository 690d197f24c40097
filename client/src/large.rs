//! Reads and writes of one object that are larger than a request may be: cut into pieces of 1 MiB, several of
//! them in flight.

use crate::objects::decode;
use crate::shell::{OpReply, Options, PIECE_BYTES, StoreClient};
use bytes::Bytes;
use futures_util::stream::{self, BoxStream, StreamExt, TryStreamExt};
use store_base::error::Error;
use store_base::op::{OBJECT_BYTES_MAX, Op, Stat};
use store_base::{ObjectName, PoolId};

/// Pieces of one call in flight: enough to keep three replicas busy, few enough to bound memory.
pub(crate) const PIECES_IN_FLIGHT: usize = 8;

/// Left free in an answer that brings a `Stat` beside its bytes. A block, so that pieces stay aligned to those
/// of the medium.
const STAT_ROOM_BYTES: usize = 4096;

impl StoreClient {
    /// At most `length` bytes from `offset` on, in pieces, all of one version of the object: `Conflict` if it
    /// was changed meanwhile. A length of 0 means to the end.
    pub async fn read_large(
        &self,
        pool: PoolId,
        object: &ObjectName,
        offset: u64,
        length: u64,
    ) -> Result<Vec<Bytes>, Error> {
        let length = if length == 0 { u64::MAX } else { length };
        let first = length.min((PIECE_BYTES - STAT_ROOM_BYTES) as u64);
        let ops = vec![Op::Stat {}, Op::Read { offset, length: first }];
        let reply = self.operate(pool, object, ops, Options::READ).await?;
        let stat: Stat = decode(reply.data(0), object)?;
        let end = offset.saturating_add(length).min(stat.size);
        let rest = cut(offset.saturating_add(first), end);
        let reads = rest
            .into_iter()
            .map(|(offset, length)| self.read_version(pool, object, stat.version, offset, length));
        let mut pieces = vec![reply.data(1)];
        pieces
            .extend(stream::iter(reads).buffered(PIECES_IN_FLIGHT).try_collect::<Vec<_>>().await?);
        Ok(pieces)
    }

    async fn read_version(
        &self,
        pool: PoolId,
        object: &ObjectName,
        version: u64,
        offset: u64,
        length: u64,
    ) -> Result<Bytes, Error> {
        let ops = vec![Op::AssertVersion { version }, Op::Read { offset, length }];
        Ok(self.operate(pool, object, ops, Options::READ).await?.data(1))
    }

    /// The bytes of an object of which `stat` was told, as a stream of pieces of at most 1 MiB, several in flight.
    /// Ends with `Conflict` if the object was changed meanwhile.
    pub fn read_stream(
        &self,
        pool: PoolId,
        object: &ObjectName,
        stat: &Stat,
    ) -> BoxStream<'static, Result<Bytes, Error>> {
        let (client, object, version) = (self.clone(), object.clone(), stat.version);
        let reads = stream::iter(cut(0, stat.size)).map(move |(offset, length)| {
            let (client, object) = (client.clone(), object.clone());
            async move { client.read_version(pool, &object, version, offset, length).await }
        });
        reads.buffered(PIECES_IN_FLIGHT).boxed()
    }

    /// Writes bytes at an offset. Above 1 MiB every piece is atomic and the whole is not.
    pub async fn write_large(
        &self,
        pool: PoolId,
        object: &ObjectName,
        offset: u64,
        data: Bytes,
    ) -> Result<(), Error> {
        check_end(offset, data.len())?;
        let writes = cut(0, data.len() as u64).into_iter().map(|(at, length)| {
            let piece = data.slice(at as usize..(at + length) as usize);
            self.write(pool, object, offset + at, piece)
        });
        stream::iter(writes)
            .buffer_unordered(PIECES_IN_FLIGHT)
            .try_for_each(|_| async { Ok(()) })
            .await
    }

    /// Replaces the object's bytes. Above 1 MiB the first piece also cuts off what was there, and readers may
    /// see the object grow.
    pub async fn put_large(
        &self,
        pool: PoolId,
        object: &ObjectName,
        data: Bytes,
    ) -> Result<(), Error> {
        check_end(0, data.len())?;
        let first = data.slice(..data.len().min(PIECE_BYTES));
        let _: OpReply = self.write_full(pool, object, first).await?;
        if data.len() > PIECE_BYTES {
            let rest = data.slice(PIECE_BYTES..);
            self.write_large(pool, object, PIECE_BYTES as u64, rest).await?;
        }
        Ok(())
    }
}

/// The range in pieces: offset and length.
pub(crate) fn cut(from: u64, to: u64) -> Vec<(u64, u64)> {
    let piece = PIECE_BYTES as u64;
    let count = to.saturating_sub(from).div_ceil(piece);
    (0..count).map(|i| from + i * piece).map(|at| (at, piece.min(to - at))).collect()
}

fn check_end(offset: u64, length: usize) -> Result<(), Error> {
    if offset.saturating_add(length as u64) > OBJECT_BYTES_MAX {
        return Err(Error::Invalid(format!(
            "an object holds at most {OBJECT_BYTES_MAX} bytes; stripe what is larger"
        )));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_cover_the_range_once() {
        let mib = PIECE_BYTES as u64;
        assert_eq!(cut(5, 5), []);
        assert_eq!(cut(9, 5), []);
        assert_eq!(cut(0, 1), [(0, 1)]);
        assert_eq!(cut(3, 3 + mib), [(3, mib)]);
        assert_eq!(cut(3, 4 + mib), [(3, mib), (3 + mib, 1)]);
    }

    #[test]
    fn what_no_object_can_hold_is_refused() {
        assert!(check_end(OBJECT_BYTES_MAX - 1, 1).is_ok());
        assert!(matches!(check_end(OBJECT_BYTES_MAX, 1), Err(Error::Invalid(_))));
        assert!(check_end(u64::MAX, 1).is_err());
    }
}
