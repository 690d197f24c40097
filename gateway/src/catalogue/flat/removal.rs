//! Removing a bucket: its record is marked, every shard is sealed, and then the record goes. And taking back a removal
//! that does not come to its end, by whoever needs the bucket (`store_base::bucket`, class `registry`).

use super::*;
use futures_util::future::join_all;

/// A shard that is closed though its bucket is there is asked again after these pauses: somebody is
/// removing the bucket, or tried. Then the removal is taken back.
const CLOSED_PAUSES_MS: [u64; 6] = [20, 50, 100, 300, 700, 1500];

impl<C: Cluster> Flat<C> {
    /// The shard is closed: is the bucket gone, made again, or about to be removed?
    pub(super) async fn closed_shard<I: Encode, O: Decode>(
        &self,
        bucket: &Bucket,
        shard: u32,
        method: &str,
        input: &I,
    ) -> Result<O, CatalogueError> {
        self.cache.borrow_mut().remove(&bucket.name);
        for pause in CLOSED_PAUSES_MS {
            let present = self.look_up(&bucket.name).await?.ok_or(Refusal::NoBucket {})?;
            if present.id != bucket.id {
                return Err(Refusal::NoBucket {}.into());
            }
            match self.ask_shard(bucket, shard, method, input).await? {
                Err(Refusal::NoBucket {}) => {}
                done => return Ok(done?),
            }
            tokio::time::sleep(Duration::from_millis(pause)).await;
        }
        self.take_removal_back(bucket, 0).await?;
        tracing::warn!(bucket = %bucket.name, "took back a removal that had not come to its end");
        let done = self.ask_shard(bucket, shard, method, input).await?;
        if matches!(done, Err(Refusal::NoBucket {})) {
            let present = self.look_up(&bucket.name).await?;
            if present.is_some_and(|present| present.id == bucket.id) {
                let error = "the bucket is being removed by another, again: try once more";
                return Err(Error::Unavailable(error.into()).into());
            }
        }
        Ok(done?)
    }

    /// Ends a removal that did not come to its end: this one, or for 0 whichever there is. First the mark, so that a
    /// remover who is slow, not dead, fails at his last step; then the seals of all removals up to that. Another may
    /// have begun meanwhile, and keeps his.
    async fn take_removal_back(
        &self,
        bucket: &Bucket,
        removing: u64,
    ) -> Result<(), CatalogueError> {
        let named = NamedBucket { name: bucket.name.clone(), id: bucket.id, removing };
        let over: Answer<u64> =
            self.registry(registry_name(&bucket.name), "reprieve", &named).await?;
        let over = Seal { removal: over.0? };
        let over = &over;
        let shards = self.heads(bucket).await?.into_keys().map(|shard| async move {
            self.shard::<_, Answer<Nothing>>(bucket, shard, "unseal", over).await
        });
        try_join_all(shards).await?;
        Ok(())
    }

    pub(super) async fn seal_and_remove(&self, bucket: &Bucket) -> Result<(), CatalogueError> {
        let named = NamedBucket { name: bucket.name.clone(), id: bucket.id, removing: 0 };
        let registry = registry_name(&bucket.name);
        let removal: Answer<u64> = self.registry(registry.clone(), "condemn", &named).await?;
        let named = NamedBucket { removing: removal.0?, ..named };
        if let Err(refused) = self.seal(bucket, named.removing).await {
            match self.take_removal_back(bucket, named.removing).await {
                // Somebody has done so already, and may have begun another one.
                Ok(()) | Err(CatalogueError::Refused(Refusal::TakenBack {})) => {}
                Err(error) => return Err(error),
            }
            return Err(refused);
        }
        let done: Answer<Nothing> = self.registry(registry, "remove", &named).await?;
        done.0?;
        Ok(())
    }

    /// Seals all shards. One that is sealed begins no split: when all that are known are sealed, there are no
    /// others.
    async fn seal(&self, bucket: &Bucket, removal: u64) -> Result<(), CatalogueError> {
        let seal = &Seal { removal };
        let mut sealed = std::collections::BTreeSet::new();
        loop {
            let heads = self.heads(bucket).await?;
            if heads.is_empty() {
                return Err(Refusal::NoBucket {}.into());
            }
            let open: Vec<u32> = heads.into_keys().filter(|s| !sealed.contains(s)).collect();
            if open.is_empty() {
                return Ok(());
            }
            let seals = open.iter().map(|&shard| async move {
                self.shard::<_, Answer<Nothing>>(bucket, shard, "seal", seal).await
            });
            for done in join_all(seals).await {
                done?.0?;
            }
            sealed.extend(open);
        }
    }
}
