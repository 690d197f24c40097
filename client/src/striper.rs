//! Named streams of any length, striped over objects.
//!
//! | object | holds |
//! |---|---|
//! | `NAME` | no bytes; xattrs `striper.id`, `striper.size`, `striper.stripe` (decimal text) |
//! | `NAME.ID.INDEX` | one stripe; id and index are 16 hex digits |
//!
//! Every `put` writes its stripes under a fresh id and shows them with one change of the head, guarded by the
//! id that it replaces: readers see the old stream or the new one, never a mixture. Then the old stripes are
//! removed; a reader that is still among them is told `NotFound`. A crash before the change of the head leaves
//! stripes that nothing points to.

use crate::large::{PIECES_IN_FLIGHT, cut};
use crate::shell::{Options, PIECE_BYTES, StoreClient};
use bytes::{Bytes, BytesMut};
use futures_util::stream::{self, BoxStream, FuturesUnordered, Stream, StreamExt, TryStreamExt};
use std::collections::BTreeMap;
use std::pin::pin;
use store_base::error::Error;
use store_base::op::{Compare, Op, errno};
use store_base::{ObjectName, PoolId};
use store_shell::clock;

/// Size of a stripe.
const STRIPE_BYTES: u64 = 4 << 20;

/// How often a `put` looks again when another one changed the head under it.
const RACES_MAX: usize = 16;

const ID: &str = "striper.id";
const SIZE: &str = "striper.size";
const STRIPE: &str = "striper.stripe";

/// Streams in one pool.
#[derive(Clone, Debug)]
pub struct Striper {
    client: StoreClient,
    pool: PoolId,
}

/// What the head of a striped stream says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Striped {
    /// Names the stripes.
    pub id: u64,
    /// Bytes in all.
    pub size: u64,
    /// Bytes of a stripe.
    pub stripe_bytes: u64,
}

/// A stream being read.
pub struct StripedReader {
    /// What is read.
    pub striped: Striped,
    pieces: BoxStream<'static, Result<Bytes, Error>>,
}

impl StripedReader {
    /// The next bytes, at most 1 MiB; `None` at the end.
    pub async fn next(&mut self) -> Option<Result<Bytes, Error>> {
        self.pieces.next().await
    }

    /// All as a stream.
    pub fn into_stream(self) -> BoxStream<'static, Result<Bytes, Error>> {
        self.pieces
    }
}

impl Striped {
    fn stripe(&self, name: &ObjectName, index: u64) -> ObjectName {
        let mut text = name.name.to_vec();
        text.extend_from_slice(format!(".{:016x}.{index:016x}", self.id).as_bytes());
        // With the name as locator all stripes would share one placement group.
        ObjectName { name: text.into(), ..name.clone() }
    }

    fn stripes(&self) -> u64 {
        self.size.div_ceil(self.stripe_bytes)
    }

    /// Pieces of the range: index of the stripe, offset in it, length.
    fn pieces(&self, from: u64, to: u64) -> Vec<(u64, u64, u64)> {
        let mut pieces = Vec::new();
        let mut at = from;
        while at < to {
            let (index, offset) = (at / self.stripe_bytes, at % self.stripe_bytes);
            let end = to.min((index + 1) * self.stripe_bytes);
            let within = cut(offset, offset + (end - at));
            pieces.extend(within.into_iter().map(|(offset, length)| (index, offset, length)));
            at = end;
        }
        pieces
    }

    /// `None` if these xattrs are not of a striped stream.
    fn from_xattrs(xattrs: &BTreeMap<Bytes, Bytes>) -> Result<Option<Striped>, Error> {
        let text = |name: &str| {
            let value = xattrs.get(name.as_bytes())?;
            std::str::from_utf8(value).ok()
        };
        let Some(id) = text(ID) else { return Ok(None) };
        let read = || {
            Some(Striped {
                id: u64::from_str_radix(id, 16).ok()?,
                size: text(SIZE)?.parse().ok()?,
                stripe_bytes: text(STRIPE)?.parse().ok().filter(|bytes| *bytes > 0)?,
            })
        };
        read()
            .map(Some)
            .ok_or_else(|| Error::Damaged("the head of a striped object is damaged".into()))
    }

    fn id_text(&self) -> Bytes {
        format!("{:016x}", self.id).into()
    }
}

impl Striper {
    /// Streams of this pool.
    pub fn new(client: StoreClient, pool: PoolId) -> Self {
        Striper { client, pool }
    }

    /// What the head says; `None` if the object is there and is not striped, `NotFound` if it is not there.
    pub async fn look_up(&self, name: &ObjectName) -> Result<Option<Striped>, Error> {
        Striped::from_xattrs(&self.client.xattrs(self.pool, name).await?)
    }

    /// Writes a stream under a name and then replaces what was there. Holds at most
    /// 8 MiB. Returns the size. On an error nothing is changed, except that a time-out of the last step leaves
    /// doubt.
    pub async fn put(
        &self,
        name: &ObjectName,
        data: impl Stream<Item = Result<Bytes, Error>>,
    ) -> Result<u64, Error> {
        let mut striped = Striped { id: clock::random_u64(), size: 0, stripe_bytes: STRIPE_BYTES };
        let written = self.write_stripes(name, &mut striped, data).await;
        let shown = match written {
            Ok(()) => self.show(name, &striped).await,
            Err(error) => Err(error),
        };
        match shown {
            Ok(replaced) => {
                if let Some(old) = replaced {
                    self.remove_stripes(name, &old).await?;
                }
                Ok(striped.size)
            }
            // It may be shown: then its stripes must stay.
            Err(error @ Error::TimedOut(_)) => Err(error),
            Err(error) => {
                // What cannot be removed now is garbage that nothing points to.
                let _ = self.remove_stripes(name, &striped).await;
                Err(error)
            }
        }
    }

    async fn write_stripes(
        &self,
        name: &ObjectName,
        striped: &mut Striped,
        data: impl Stream<Item = Result<Bytes, Error>>,
    ) -> Result<(), Error> {
        let mut data = pin!(data);
        let mut writes = FuturesUnordered::new();
        let mut open = BytesMut::new();
        let mut ended = false;
        while !ended {
            match data.next().await.transpose()? {
                Some(bytes) => open.extend_from_slice(&bytes),
                None => ended = true,
            }
            while open.len() >= PIECE_BYTES || (ended && !open.is_empty()) {
                let piece = open.split_to(open.len().min(PIECE_BYTES)).freeze();
                // Pieces divide stripes, so one never lies on two.
                let (index, offset) =
                    (striped.size / striped.stripe_bytes, striped.size % striped.stripe_bytes);
                striped.size += piece.len() as u64;
                let stripe = striped.stripe(name, index);
                writes.push(
                    async move { self.client.write(self.pool, &stripe, offset, piece).await },
                );
                if writes.len() >= PIECES_IN_FLIGHT {
                    writes.next().await.transpose()?;
                }
            }
        }
        while writes.next().await.transpose()?.is_some() {}
        Ok(())
    }

    /// Points the head to new stripes. Returns what it pointed to before.
    async fn show(&self, name: &ObjectName, new: &Striped) -> Result<Option<Striped>, Error> {
        for _ in 0..RACES_MAX {
            let old = match self.look_up(name).await {
                Err(Error::NotFound(_)) => None,
                looked => looked?,
            };
            let set = |name: &str, value: Bytes| Op::SetXattr {
                name: Bytes::copy_from_slice(name.as_bytes()),
                value,
            };
            let ops = vec![
                Op::Create { exclusive: false },
                guard(old.as_ref()),
                Op::WriteFull { data: Bytes::new() },
                set(ID, new.id_text()),
                set(SIZE, new.size.to_string().into()),
                set(STRIPE, new.stripe_bytes.to_string().into()),
            ];
            let reply = self.client.attempt(self.pool, name, ops, Options::default()).await?;
            match reply.failed() {
                None => return Ok(old),
                Some((_, code)) if code == -errno::ECANCELED => {}
                Some((_, code)) => {
                    return Err(Error::from_errno(
                        code,
                        format!("object {name} cannot be written"),
                    ));
                }
            }
        }
        Err(Error::Conflict(format!("object {name} is being replaced by others all the time")))
    }

    /// All of a stream, or `NotFound`; `Invalid` if the object is not striped.
    pub async fn get(&self, name: &ObjectName) -> Result<StripedReader, Error> {
        self.get_range(name, 0, u64::MAX).await
    }

    /// The bytes from `from` up to `to`, fewer if the stream is shorter.
    pub async fn get_range(
        &self,
        name: &ObjectName,
        from: u64,
        to: u64,
    ) -> Result<StripedReader, Error> {
        let striped = self.look_up(name).await?;
        let striped = striped.ok_or_else(|| {
            Error::Invalid(format!("object {name} is a plain object, not striped"))
        })?;
        let pieces = striped.pieces(from, to.min(striped.size));
        let reads = {
            let (client, pool) = (self.client.clone(), self.pool);
            let (name, striped) = (name.clone(), striped.clone());
            move |(index, offset, length)| {
                let (client, stripe) = (client.clone(), striped.stripe(&name, index));
                async move {
                    let data = client.read(pool, &stripe, offset, length).await?;
                    if data.len() as u64 != length {
                        return Err(Error::Damaged(format!(
                            "object {stripe} has {} bytes at {offset} instead of {length}",
                            data.len()
                        )));
                    }
                    Ok(data)
                }
            }
        };
        let pieces = stream::iter(pieces).map(reads).buffered(PIECES_IN_FLIGHT).boxed();
        Ok(StripedReader { striped, pieces })
    }

    /// Removes a stream, or a plain object.
    pub async fn remove(&self, name: &ObjectName) -> Result<(), Error> {
        for _ in 0..RACES_MAX {
            let old = self.look_up(name).await?;
            let ops = vec![guard(old.as_ref()), Op::Delete {}];
            let reply = self.client.attempt(self.pool, name, ops, Options::default()).await?;
            match (reply.failed(), old) {
                (None, Some(old)) => return self.remove_stripes(name, &old).await,
                (None, None) => return Ok(()),
                (Some((_, code)), _) if code == -errno::ECANCELED => {}
                (Some((_, code)), _) => {
                    return Err(Error::from_errno(
                        code,
                        format!("object {name} cannot be removed"),
                    ));
                }
            }
        }
        Err(Error::Conflict(format!("object {name} is being replaced by others all the time")))
    }

    async fn remove_stripes(&self, name: &ObjectName, striped: &Striped) -> Result<(), Error> {
        let removals = (0..striped.stripes()).map(|index| {
            let stripe = striped.stripe(name, index);
            async move {
                match self.client.delete(self.pool, &stripe).await {
                    Err(Error::NotFound(_)) => Ok(()),
                    removed => removed,
                }
            }
        });
        stream::iter(removals)
            .buffer_unordered(PIECES_IN_FLIGHT)
            .try_for_each(|()| async { Ok(()) })
            .await
    }
}

/// Holds while the head points where it did.
fn guard(old: Option<&Striped>) -> Op {
    Op::CompareXattr {
        name: Bytes::from_static(ID.as_bytes()),
        compare: Compare::Equal {},
        value: old.map(Striped::id_text).unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_becomes_pieces_within_stripes() {
        let striped = Striped { id: 1, size: 10 << 20, stripe_bytes: STRIPE_BYTES };
        let mib = 1 << 20;
        assert_eq!(striped.stripes(), 3);
        let pieces = striped.pieces(0, striped.size);
        assert_eq!(pieces.len(), 10);
        assert_eq!(pieces[4], (1, 0, mib));
        assert_eq!(striped.pieces(4 * mib - 1, 4 * mib + 1), [(0, 4 * mib - 1, 1), (1, 0, 1)]);
        assert_eq!(striped.pieces(5, 5), []);
        let name = ObjectName::new("a");
        assert_eq!(&striped.stripe(&name, 2).name[..], b"a.0000000000000001.0000000000000002");
    }

    #[test]
    fn a_head_is_read_back_and_damage_is_an_error() {
        let striped = Striped { id: 0xab, size: 7, stripe_bytes: 4 };
        let mut xattrs = BTreeMap::from([
            (Bytes::from(ID), striped.id_text()),
            (Bytes::from(SIZE), Bytes::from("7")),
            (Bytes::from(STRIPE), Bytes::from("4")),
        ]);
        assert_eq!(Striped::from_xattrs(&xattrs), Ok(Some(striped)));
        xattrs.insert(Bytes::from(STRIPE), Bytes::from("0"));
        assert!(matches!(Striped::from_xattrs(&xattrs), Err(Error::Damaged(_))));
        assert_eq!(Striped::from_xattrs(&BTreeMap::new()), Ok(None));
    }
}
