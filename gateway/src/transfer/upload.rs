//! Writing a body to the cluster.
//!
//! A small body is handed back as it is, to travel with its index entry. A larger one goes to fresh data
//! objects that an intent has announced; the caller commits them. Until then an [`Announcement`] stands
//! for them: dropped, it gives the data up.

use super::body::BodyReader;
use super::{Budget, PIECE_BYTES, Permit, WINDOW_PIECES};
use crate::catalogue::{Bucket, Catalogue};
use crate::s3::auth::payload::{Digests, Inspector, Piece};
use crate::s3::error::{Code, S3Result};
use bytes::Bytes;
use std::rc::Rc;
use std::time::Duration;
use store_base::bucket::{Cancel, DataRef, Intend, STRIPE_BYTES, WriteId};
use store_shell::clock;
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
    let size = reader.left();
    if destination.part.is_none() && size <= inline_max {
        let piece = reader.whole(budget).await?;
        inspector.update(&piece);
        let digests = inspector.finish(reader.trailers())?;
        return Ok((Written::Inline(piece.data), digests));
    }
    let attempt = u32::from_le_bytes(clock::random());
    let (id, part) = destination.part.unwrap_or_else(|| (WriteId(clock::random()), 0));
    let data = DataRef { id, part, attempt, size, stripe_bytes: STRIPE_BYTES };
    let announcement = Announcement { destination, data, committed: false };
    let digests = announcement.write(reader, inspector, budget).await?;
    Ok((Written::Data(announcement), digests))
}

/// Pieces on their way to the cluster.
struct Pipeline {
    writes: JoinSet<Result<(), crate::catalogue::CatalogueError>>,
    offset: u64,
}

impl Announcement {
    async fn write(
        &self,
        reader: &mut BodyReader,
        inspector: Inspector,
        budget: &Budget,
    ) -> S3Result<Digests> {
        let mut inspector = Some(inspector);
        let mut hashing: Option<tokio::task::JoinHandle<Inspector>> = None;
        let mut pipeline = Pipeline { writes: JoinSet::new(), offset: 0 };
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
                Some(task) => joined::<Inspector>(task.await)?,
                None => inspector.take().expect("the inspector is here or hashing"),
            };
            self.start_write(&mut pipeline, piece.clone(), permit).await?;
            if piece.data.len() < HASH_HERE_BYTES_MAX {
                ready.update(&piece);
                inspector = Some(ready);
            } else {
                hashing = Some(tokio::task::spawn_blocking(move || {
                    ready.update(&piece);
                    ready
                }));
            }
        }
        if let Some(task) = announcing.take() {
            joined(task.await)??;
        }
        while let Some(done) = pipeline.writes.join_next().await {
            joined(done)??;
        }
        let inspector = match hashing {
            Some(task) => joined(task.await)?,
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

    async fn start_write(
        &self,
        pipeline: &mut Pipeline,
        piece: Piece,
        permit: Permit,
    ) -> S3Result<()> {
        if piece.data.is_empty() {
            return Ok(());
        }
        while pipeline.writes.len() >= WINDOW_PIECES {
            if let Some(done) = pipeline.writes.join_next().await {
                joined(done)??;
            }
        }
        let offset = pipeline.offset;
        pipeline.offset += piece.data.len() as u64;
        let (catalogue, bucket) =
            (self.destination.catalogue.clone(), self.destination.bucket.clone());
        let data = self.data;
        pipeline.writes.spawn_local(async move {
            let _room = permit;
            catalogue.write(&bucket, data, offset, piece.data).await
        });
        Ok(())
    }
}

// Pieces never cross a stripe.
const _: () = assert!((STRIPE_BYTES as usize).is_multiple_of(PIECE_BYTES));

/// A task of ours that did not end by itself is a fault of ours.
fn joined<T>(result: Result<T, tokio::task::JoinError>) -> S3Result<T> {
    result.map_err(|error| {
        tracing::error!(%error, "a task of an upload failed");
        Code::InternalError.into()
    })
}
