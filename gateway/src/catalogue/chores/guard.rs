//! Repeating the locks of versions on their data: a gateway that died between the one and the other has left data
//! that only the index protects. One round a day, in buckets with object lock.

use super::*;

/// The name of the work in the shards.
const WORK: &str = "guard";

/// Versions in one page: each that is locked costs a call for every object of its data.
const PAGE: u32 = 100;

impl Chores {
    /// Walks the shards of a bucket whose round is due, unless others do.
    pub(super) async fn guard_locked<C: Cluster>(
        &self,
        flat: &Flat<C>,
        bucket: &Bucket,
        shutdown: &Shutdown,
    ) -> Result<(), CatalogueError> {
        let round = self.round(clock::timestamp().millis());
        for shard in flat.heads(bucket).await?.into_keys() {
            let known = self.guarded.borrow().get(&(bucket.id, shard)).copied();
            if known == Some(round) || shutdown.is_triggered() {
                continue;
            }
            let at = (bucket, shard);
            let Some(chore) = self.claim(flat, at, WORK, round, 0).await? else { continue };
            let round = chore.round;
            if self.guard_shard(flat, at, placed(chore.place), shutdown).await? {
                let mut guarded = self.guarded.borrow_mut();
                if guarded.len() >= DONE_MAX {
                    guarded.clear();
                }
                guarded.insert((bucket.id, shard), round);
            }
        }
        Ok(())
    }

    /// Repeats the locks of the versions from a place on. `false` if the walk ends here.
    async fn guard_shard<C: Cluster>(
        &self,
        flat: &Flat<C>,
        at: (&Bucket, u32),
        from: VersionPlace,
        shutdown: &Shutdown,
    ) -> Result<bool, CatalogueError> {
        let (bucket, shard) = at;
        let mut list = ListVersions { from, max: PAGE, ..ListVersions::default() };
        loop {
            let began = clock::now();
            let page: VersionPage = flat.work_shard(bucket, shard, "versions", &list).await?;
            let now_ms = clock::timestamp().millis();
            let mut tally = Tally { looked: page.items.len() as u64, ..Tally::default() };
            for item in page.items {
                let VersionItem::Version { key, entry, .. } = item else { continue };
                if !entry.striped || !entry.lock.protects(now_ms, false) {
                    continue;
                }
                match flat.guard(bucket, &key, &entry).await {
                    Ok(()) => tally.acted += 1,
                    // The next round tries again; one version keeps no other waiting.
                    Err(error) => {
                        tally.passed += 1;
                        let key = String::from_utf8_lossy(&key);
                        tracing::warn!(%error, bucket = %bucket.name, %key, "data is not locked");
                    }
                }
            }
            if shutdown.is_triggered() {
                return Ok(false);
            }
            let reached = page.next.as_ref().map(place);
            let keeps = self.report(flat, at, WORK, reached, tally).await?;
            let Some(next) = page.next.filter(|_| keeps) else { return Ok(keeps) };
            list.from = next;
            rest(began).await;
        }
    }
}
