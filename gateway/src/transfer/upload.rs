//! Writing a body to the cluster.
//!
//! A small body is handed back as it is, to travel with its index entry. A larger one goes to fresh data
//! objects that an intent has announced; the caller commits them. Until then an [`Announcement`] stands
//! for them: dropped, it gives the data up.

use super::body::BodyReader;
use super::{Budget, PIECE_BYTES, Permit, WINDOW_PIECES};
use crate::catalogue::{Bucket, Catalogue};
use crate::crypt::keys::DataKey;
use crate::crypt::segments::{Sealer, seal_inline};
use crate::s3::auth::payload::{Digests, Inspector};
use crate::s3::error::{Code, S3Error, S3Result};
use bytes::{Bytes, BytesMut};
use std::rc::Rc;
use std::time::Duration;
use store_base::bucket::{Cancel, DataRef, Intend, STRIPE_BYTES, WriteId, sealed_bytes};
use store_shell::clock;
use tokio::sync::oneshot;
use tokio::task::{JoinSet, spawn_local};
use tokio::time::Instant;

/// Pieces below this are hashed where they are: handing them over would cost more.
const HASH_HERE_BYTES_MAX: usize = 64 << 10;

/// A writer says so often that it is still alive. The sweeper waits many times longer.
const RENEW_EVERY: Duration = Duration::from_secs(300);

/// What is written for which place.
pub struct Destination {
    /// The catalogue.
    pub catalogue: Rc<dyn Catalogue>,
    /// The bucket.
    pub bucket: Rc<Bucket>,
    /// The key.
    pub key: Bytes,
    /// The upload and part number, for a part.
    pub part: Option<(WriteId, u16)>,
    /// The key, and the id it was wrapped under, if the body is to be encrypted.
    pub sealing: Option<(DataKey, WriteId)>,
}

/// A body that is written and not yet committed.
pub enum Written {
    /// Short enough to travel with its entry.
    Inline(Bytes),
    /// In data objects.
    Data(Announcement),
}

/// Announced data. Dropped without `committed`, it becomes garbage.
pub struct Announcement {
    destination: Destination,
    data: DataRef,
    committed: bool,
}

impl Announcement {
    /// The data.
    pub fn data(&self) -> DataRef {
        self.data
    }

    /// The data belongs to an object or a part now.
    pub fn committed(mut self) {
        self.committed = true;
    }
}

impl Drop for Announcement {
    fn drop(&mut self) {
        if self.committed {
            return;
        }
        let (catalogue, bucket) =
            (self.destination.catalogue.clone(), self.destination.bucket.clone());
        let key = self.destination.key.clone();
        let cancel = Cancel { data: self.data, now_ms: clock::timestamp().millis() };
        // Harmless if the commit did happen and only its answer was lost: the intent is gone then. If
        // this does not get through, the sweeper finds the intent when it is old.
        spawn_local(async move {
            if let Err(error) = catalogue.cancel(&bucket, &key, cancel).await {
                tracing::debug!(%error, "announced data could not be given up");
            }
        });
    }
}

/// Reads the body to its end, checks it, and writes it. `inline_max` is the longest body that is not
/// written but handed back.
pub async fn write(
    destination: Destination,
    reader: &mut BodyReader,
    mut inspector: Inspector,
    inline_max: u64,
    budget: &Budget,
) -> S3Result<(Written, Digests)> {
    reader.settle(budget).await?;
    let size = reader.left();
    if destination.part.is_none() && size <= inline_max {
        let piece = reader.whole(budget).await?;
        inspector.update(&piece);
        let digests = inspector.finish(reader.trailers())?;
        let data = match &destination.sealing {
            None => piece.data,
            Some((key, id)) => seal_inline(key, *id, &piece.data),
        };
        return Ok((Written::Inline(data), digests));
    }
    let attempt = u32::from_le_bytes(clock::random());
    let (id, part) = destination.part.unwrap_or_else(|| (WriteId(clock::random()), 0));
    let sealed = destination.sealing.is_some();
    let lying = |size: u64| if sealed { sealed_bytes(size) } else { size };
    let data = DataRef { id, part, attempt, size: lying(size), stripe_bytes: STRIPE_BYTES };
    let mut announcement = Announcement { destination, data, committed: false };
    let digests = announcement.write(reader, inspector, budget).await?;
    // Of a body of unknown length the most that may come was announced.
    announcement.data.size = lying(digests.size);
    Ok((Written::Data(announcement), digests))
}

/// Pieces on their way to the cluster.
struct Pipeline {
    writes: JoinSet<Result<(), crate::catalogue::CatalogueError>>,
    offset: u64,
    sealing: Option<Sealing>,
}

/// Pieces that are sealed before they are written.
struct Sealing {
    sealer: Sealer,
    /// Sealed, and less than a piece.
    sealed: BytesMut,
}

impl Sealing {
    /// Seals a piece, or what is left at the end, on another thread if it is long: whole pieces to write, and
    /// at the end what is left.
    async fn seal(mut self, piece: Option<Bytes>) -> S3Result<(Sealing, Vec<Bytes>)> {
        let long = piece.as_ref().is_some_and(|piece| piece.len() >= HASH_HERE_BYTES_MAX);
        let seal = move || {
            match &piece {
                Some(piece) => self.sealer.push(piece, &mut self.sealed),
                None => self.sealer.finish(&mut self.sealed),
            }
            let mut whole = Vec::new();
            while self.sealed.len() >= PIECE_BYTES {
                whole.push(self.sealed.split_to(PIECE_BYTES).freeze());
            }
            if piece.is_none() && !self.sealed.is_empty() {
                whole.push(self.sealed.split().freeze());
            }
            (self, whole)
        };
        match long {
            true => joined(tokio::task::spawn_blocking(seal).await),
            false => Ok(seal()),
        }
    }
}

impl Announcement {
    async fn write(
        &self,
        reader: &mut BodyReader,
        inspector: Inspector,
        budget: &Budget,
    ) -> S3Result<Digests> {
        let mut inspector = Some(inspector);
        let mut hashing: Option<oneshot::Receiver<Inspector>> = None;
        let _coming = budget.hashing.begin();
        let sealing = self.destination.sealing.as_ref().map(|(key, _)| Sealing {
            sealer: Sealer::new(key, &self.data),
            sealed: BytesMut::new(),
        });
        let mut pipeline = Pipeline { writes: JoinSet::new(), offset: 0, sealing };
        // Announcing takes a round trip, in which the first piece arrives.
        let mut announcing = Some(self.announce(false));
        let mut announced_at = Instant::now();
        while let Some((piece, permit)) = reader.piece(budget).await? {
            if let Some(task) = announcing.take() {
                joined(task.await)??;
            }
            if announced_at.elapsed() > RENEW_EVERY {
                announced_at = Instant::now();
                joined(self.announce(true).await)??;
            }
            let mut ready = match hashing.take() {
                Some(inspected) => inspected.await.map_err(died)?,
                None => inspector.take().expect("the inspector is here or hashing"),
            };
            let data = piece.data.clone();
            if data.len() < HASH_HERE_BYTES_MAX {
                ready.update(&piece);
                inspector = Some(ready);
            } else {
                hashing = Some(budget.hashing.inspect(ready, piece));
            }
            self.put_piece(&mut pipeline, Some(data), permit).await?;
        }
        if let Some(task) = announcing.take() {
            joined(task.await)??;
        }
        self.put_piece(&mut pipeline, None, Permit::default()).await?;
        while let Some(done) = pipeline.writes.join_next().await {
            joined(done)??;
        }
        let inspector = match hashing {
            Some(inspected) => inspected.await.map_err(died)?,
            None => inspector.expect("the inspector is here or hashing"),
        };
        inspector.finish(reader.trailers())
    }

    fn announce(&self, renew: bool) -> tokio::task::JoinHandle<S3Result<()>> {
        let intend = Intend {
            key: self.destination.key.clone(),
            data: self.data,
            upload: self.destination.part.map(|(upload, _)| upload),
            now_ms: clock::timestamp().millis(),
            renew,
        };
        let (catalogue, bucket) =
            (self.destination.catalogue.clone(), self.destination.bucket.clone());
        // An empty part has no data to announce, but its upload must be there: `part` checks that.
        let empty = self.data.size == 0;
        spawn_local(async move {
            match empty {
                true => Ok(()),
                false => Ok(catalogue.intend(&bucket, intend).await?),
            }
        })
    }

    /// Takes a piece, or the end, to be sealed perhaps, and written.
    async fn put_piece(
        &self,
        pipeline: &mut Pipeline,
        piece: Option<Bytes>,
        mut permit: Permit,
    ) -> S3Result<()> {
        let pieces = match pipeline.sealing.take() {
            None => piece.into_iter().collect(),
            Some(sealing) => {
                let (sealing, pieces) = sealing.seal(piece).await?;
                pipeline.sealing = Some(sealing);
                pieces
            }
        };
        for piece in pieces {
            self.start_write(pipeline, piece, std::mem::take(&mut permit)).await?;
        }
        Ok(())
    }

    async fn start_write(
        &self,
        pipeline: &mut Pipeline,
        piece: Bytes,
        permit: Permit,
    ) -> S3Result<()> {
        if piece.is_empty() {
            return Ok(());
        }
        while pipeline.writes.len() >= WINDOW_PIECES {
            if let Some(done) = pipeline.writes.join_next().await {
                joined(done)??;
            }
        }
        let offset = pipeline.offset;
        pipeline.offset += piece.len() as u64;
        let (catalogue, bucket) =
            (self.destination.catalogue.clone(), self.destination.bucket.clone());
        let data = self.data;
        pipeline.writes.spawn_local(async move {
            let _room = permit;
            catalogue.write(&bucket, data, offset, piece).await
        });
        Ok(())
    }
}

// Pieces never cross a stripe.
const _: () = assert!((STRIPE_BYTES as usize).is_multiple_of(PIECE_BYTES));

/// A task of ours that did not end by itself is a fault of ours.
fn joined<T>(result: Result<T, tokio::task::JoinError>) -> S3Result<T> {
    result.map_err(died)
}

fn died(error: impl std::fmt::Display) -> S3Error {
    tracing::error!(%error, "a task of an upload failed");
    Code::InternalError.into()
}
