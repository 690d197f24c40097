//! Locks of versions, repeated on their data objects, where nothing that reaches the pool passes them over
//! (`store_base::bucket`, class `body`). Who locks, locks the index first; who takes a hold off, takes it off the data
//! first: so mostly the data is not held for longer than the index says.
//!
//! A crash in between leaves data with less of a lock than its version has in the index. No client was told that the
//! lock is there; whoever asks again, and a worker once a day (`chores`), repeats it. When the change of a hold meets
//! another one and a crash, the data may keep a hold that the version has not got any more: the sweeper takes it off.

use super::flat::{Flat, data_place};
use super::*;
use crate::cluster::Cluster;
use futures_util::{StreamExt, stream};
use store_base::bucket::{BODY_CLASS, Body, LockBody, ObjectLock, Version};

/// Data objects that are locked at a time.
const LOCKS_IN_FLIGHT: usize = 16;

/// A lock that others change meanwhile is repeated so often.
const ROUNDS_MAX: usize = 8;

impl<C: Cluster> Flat<C> {
    /// Brings the data of a version under its lock. Done when this returns; without a lock it costs nothing. Whatever
    /// hinders it is an error of the cluster: the version itself is there.
    pub(super) async fn guard(
        &self,
        bucket: &Bucket,
        key: &Bytes,
        entry: &Entry,
    ) -> Result<(), CatalogueError> {
        if entry.lock.is_none() || !entry.striped {
            return Ok(());
        }
        self.guard_data(bucket, key, entry).await.map_err(|error| match error {
            CatalogueError::Refused(refusal) => {
                let error =
                    format!("the version is there, and its data is not locked: {refusal:?}");
                Error::Unavailable(error).into()
            }
            error => error,
        })
    }

    async fn guard_data(
        &self,
        bucket: &Bucket,
        key: &Bytes,
        entry: &Entry,
    ) -> Result<(), CatalogueError> {
        let mut repeated = None;
        for _ in 0..ROUNDS_MAX {
            let Some(found) = self.version(bucket, key, entry.version()).await? else {
                return Ok(());
            };
            let lock = found.entry.lock;
            if repeated == Some(lock) {
                return Ok(());
            }
            repeated = match self.lock_data(bucket, &found, lock).await {
                // Removed and swept since: the next look at the index shows it.
                Err(CatalogueError::Refused(Refusal::NoKey {})) => None,
                done => done.map(|()| Some(lock))?,
            };
        }
        Err(Error::Unavailable("the lock is being changed by others; try again".into()).into())
    }

    /// Takes a hold off the data of a version that still has one in the index.
    pub(super) async fn release_hold(
        &self,
        bucket: &Bucket,
        key: &Bytes,
        version: Option<Version>,
    ) -> Result<(), CatalogueError> {
        let read = Read { key: key.clone(), body: false, version };
        let found: Option<Found> = self.keyed(bucket, key, "read", &read).await?.1;
        match found {
            Some(found) if found.entry.lock.hold == Some(true) && found.entry.striped => {
                let lock = ObjectLock { hold: Some(false), ..found.entry.lock };
                self.lock_data(bucket, &found, lock).await
            }
            _ => Ok(()),
        }
    }

    async fn version(
        &self,
        bucket: &Bucket,
        key: &Bytes,
        version: Version,
    ) -> Result<Option<Found>, CatalogueError> {
        let read = Read { key: key.clone(), body: false, version: Some(version) };
        Ok(self.keyed(bucket, key, "read", &read).await?.1)
    }

    async fn lock_data(
        &self,
        bucket: &Bucket,
        found: &Found,
        lock: ObjectLock,
    ) -> Result<(), CatalogueError> {
        let Body::Striped { manifest } = &found.detail.body else { return Ok(()) };
        // What the index has shortened already, it had the leave to.
        let call = LockBody { lock, bypass: true };
        let objects = manifest.refs().flat_map(|data| {
            (0..data.stripes()).map(move |stripe| data.stripe_name(bucket.id, stripe))
        });
        let mut locks = stream::iter(objects)
            .map(|object| {
                let call = &call;
                async move {
                    let done: Answer<Nothing> =
                        self.exec(data_place(bucket), object, BODY_CLASS, "lock", call).await?;
                    Ok::<_, CatalogueError>(done.0)
                }
            })
            .buffer_unordered(LOCKS_IN_FLIGHT);
        while let Some(done) = locks.next().await {
            match done? {
                // It is locked for longer by somebody who was faster; the next look at the index shows it.
                Ok(_) | Err(Refusal::Locked {}) => {}
                Err(refusal) => return Err(refusal.into()),
            }
        }
        Ok(())
    }
}
