//! Objects that end by themselves (Swift's `X-Delete-At`): each shard has them in order of their time, so that
//! nothing else is looked at. Buckets that ever had one carry a mark.

use super::*;

/// The name of the work in the shards.
const WORK: &str = EXPIRY_WORK;

/// Objects in one page.
const PAGE: u32 = 500;

impl Chores {
    /// Removes what has ended in a shard.
    pub(super) async fn expire<C: Cluster>(
        &self,
        flat: &Flat<C>,
        bucket: &Bucket,
        shard: u32,
        shutdown: &Shutdown,
    ) -> Result<(), CatalogueError> {
        let at = (bucket, shard);
        let before_ms = clock::timestamp().millis();
        let mut due = Due { before_ms, after: Bytes::new(), max: PAGE };
        let mut page: DuePage = flat.work_shard(bucket, shard, "due", &due).await?;
        if page.items.is_empty() || self.claim(flat, at, WORK, before_ms, 0).await?.is_none() {
            return Ok(());
        }
        let told = told(bucket);
        loop {
            let began = clock::now();
            let mut tally = Tally { looked: page.items.len() as u64, ..Tally::default() };
            let item = |(key, seen): (Bytes, Entry)| RetireItem {
                notes: notes(told.as_ref(), &key),
                key,
                seen,
                how: Retirement::Object {},
                tags: None,
            };
            let items = page.items.into_iter().map(item).collect();
            self.retire(flat, at, items, &mut tally).await?;
            self.metrics.expired(tally.acted);
            let next = page.next.filter(|_| !shutdown.is_triggered());
            let keeps = self.report(flat, at, WORK, next.clone(), tally).await?;
            tracing::info!(bucket = %bucket.name, shard, removed = tally.acted, "objects ended");
            let Some(after) = next.filter(|_| keeps) else { return Ok(()) };
            rest(began).await;
            due.after = after;
            page = flat.work_shard(bucket, shard, "due", &due).await?;
        }
    }
}
