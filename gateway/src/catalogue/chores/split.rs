//! Splitting shards that grew too large. What makes it safe whoever does it, and how often, is said in
//! `store_base::bucket::split`; here is when it is done. Gateways remember the shards that they made grow, and the
//! scan of all buckets finds the others, and the splits that were left half-way.

use super::*;

/// How often the shards that grew are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// How often the worker of a split says that it is still at it.
const TELL_EVERY: Duration = Duration::from_secs(5);

/// A shard is split if its objects are at least this part of what makes it too large: the versions of one key
/// stay together, and no split makes that shard smaller.
const OBJECTS_PART: u64 = 16;

impl Chores {
    /// Splits what grew too large until `shutdown`.
    pub(super) async fn split_crowded<C: Cluster>(&self, flat: &Flat<C>, shutdown: &Shutdown) {
        flat.commons.split_above(self.split_keys);
        loop {
            tokio::select! {
                () = shutdown.wait() => return,
                () = tokio::time::sleep(LOOK_EVERY.min(self.every)) => {}
            }
            for ((id, shard), bucket) in flat.commons.crowded() {
                if shutdown.is_triggered() {
                    return;
                }
                match self.split(flat, &bucket, shard, shutdown).await {
                    Ok(()) | Err(CatalogueError::Refused(Refusal::NoBucket {})) => {}
                    Err(error) => {
                        tracing::debug!(%error, bucket = %id, shard, "shard not split");
                        flat.commons.note_crowded(&bucket, shard);
                    }
                }
            }
        }
    }

    /// Splits a shard if it is too large, or goes on with its split.
    pub async fn split<C: Cluster>(
        &self,
        flat: &Flat<C>,
        bucket: &Bucket,
        shard: u32,
        shutdown: &Shutdown,
    ) -> Result<(), CatalogueError> {
        let head: Answer<ShardHead> = flat.shard(bucket, shard, "stats", &Nothing {}).await?;
        let head = head.0?;
        let lineage = head.lineage.clone().unwrap_or_default();
        let splits = lineage.split.is_some();
        let records = head.objects.saturating_add(head.versions);
        let many = head.objects >= self.split_keys / OBJECTS_PART;
        // Where no new split is wanted, one that was begun is ended all the same.
        let crowded = self.split_keys > 0 && records > self.split_keys && many;
        let fills = lineage.is_moving() && !splits;
        if head.sealed || fills || !(splits || crowded) {
            return Ok(());
        }
        let at = (bucket, shard);
        let round = u64::from(lineage.depth) + 1;
        if self.claim(flat, at, SPLIT_WORK, round, 0).await?.is_none() {
            return Ok(());
        }
        if !splits && !flat.begin_split(bucket, shard, lineage.depth).await? {
            tracing::warn!(bucket = %bucket.name, shard, "a shard is too large, and there are as many as can be");
            return Ok(());
        }
        let mut told = clock::now();
        while flat.split_step(bucket, shard).await? {
            if shutdown.is_triggered() {
                return Ok(());
            }
            if clock::now().since(told) >= TELL_EVERY {
                told = clock::now();
                let place = Some(Bytes::new());
                if !self.report(flat, at, SPLIT_WORK, place, Tally::default()).await? {
                    return Ok(());
                }
            }
        }
        self.report(flat, at, SPLIT_WORK, None, Tally::default()).await?;
        self.metrics.split();
        let child = child_of(bucket.shards, shard, lineage.depth);
        tracing::info!(bucket = %bucket.name, shard, child, "shard split");
        // They may be too large still.
        [Some(shard), child]
            .into_iter()
            .flatten()
            .for_each(|s| flat.commons.note_crowded(bucket, s));
        Ok(())
    }
}
