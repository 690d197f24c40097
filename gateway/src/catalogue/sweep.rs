//! The sweeper: removes data that nothing refers to any more.
//!
//! Garbage is left to lie for a while, because a reader may still be at it; a reader of this process is
//! never disturbed at all. Each catalogue sweeps what its own requests made; one per process also looks
//! through every bucket now and then and finds what gateways that died have left: old intents, garbage,
//! buckets half made, buckets removed and not cleared. All of it can be repeated by several gateways at
//! once without harm.

use super::flat::{Flat, data_place};
use super::*;
use crate::cluster::{Cluster, Place};
use crate::s3::lifecycle::{Calendar, DAY_MS};
use futures_util::StreamExt;
use futures_util::stream;
use store_base::bucket::{BODY_CLASS, LockBody, ObjectLock, RemoveBody};
use store_base::op::Op;
use store_shell::shutdown::Shutdown;

/// How the sweeper goes about it.
#[derive(Clone, Copy, Debug)]
pub struct Sweep {
    /// How often the shards known to have garbage are looked at.
    pub tick: Duration,
    /// How long garbage lies, so that readers can finish. Where there is no room it does not.
    pub delay: Duration,
    /// How often everything is looked through; zero for never.
    pub scan_every: Duration,
    /// An intent without a sign of life for so long belongs to nobody. Writers give one every five
    /// minutes.
    pub intent_age: Duration,
    /// How often the buckets are looked through for what lifecycle rules, and objects themselves, say is
    /// due; zero for never.
    pub chores_every: Duration,
    /// How long the days of lifecycle rules are.
    pub day: Duration,
    /// Above how many objects and older versions an index shard is split; 0 for never.
    pub split_keys: u64,
}

impl Default for Sweep {
    fn default() -> Self {
        Sweep {
            tick: Duration::from_secs(5),
            delay: Duration::from_secs(3600),
            scan_every: Duration::from_secs(600),
            intent_age: Duration::from_secs(3600),
            chores_every: Duration::from_secs(60),
            day: Duration::from_millis(DAY_MS),
            split_keys: SPLIT_KEYS_DEFAULT,
        }
    }
}

/// Deletes of data objects in flight.
const DELETES_IN_FLIGHT: usize = 8;

/// Garbage records asked for at a time.
const RECORDS_PER_CALL: u32 = 8;

/// Removed buckets in one page.
const DOOMED_PER_PAGE: u32 = 100;

/// How often in a short day the buckets are looked through at least.
const LOOKS_PER_SHORT_DAY: u32 = 8;

/// A bucket that is not ready for so long is finished by the sweeper.
const HALF_MADE_MS: u64 = 60_000;

impl Sweep {
    /// How long the days of lifecycle rules are.
    pub fn calendar(&self) -> Calendar {
        Calendar { day_ms: u64::try_from(self.day.as_millis()).unwrap_or(u64::MAX).max(1) }
    }

    /// [`Sweep::chores_every`], and oftener where days are short.
    pub fn chores_every(&self) -> Duration {
        self.chores_every.min(self.day / LOOKS_PER_SHORT_DAY)
    }

    /// Sweeps until `shutdown`.
    pub async fn run<C: Cluster>(self, flat: Rc<Flat<C>>, shutdown: Shutdown) {
        // The first scan comes soon, but not in the rush of a start.
        let mut scan_at = clock::now() + self.scan_every / 10;
        loop {
            tokio::select! {
                () = shutdown.wait() => return,
                () = tokio::time::sleep(self.tick) => {}
            }
            self.sweep_dirty(&flat).await;
            if self.scan_every.is_zero() {
                continue;
            }
            if flat.doomed.replace(false) {
                logged("clearing removed buckets", self.clear_doomed(&flat).await);
            }
            if clock::now() >= scan_at {
                logged("looking through the buckets", self.scan(&flat).await);
                scan_at = clock::now() + self.scan_every;
            }
        }
    }

    /// Sweeps the shards that requests of this catalogue made dirty and whose time has come.
    pub async fn sweep_dirty<C: Cluster>(&self, flat: &Flat<C>) {
        let now_ms = clock::timestamp().millis();
        let due: Vec<_> = {
            let dirty = flat.dirty.borrow();
            let all = dirty.iter().map(|(key, (bucket, since))| {
                (*key, bucket.clone(), *since, self.before(flat, bucket, now_ms))
            });
            all.filter(|(_, _, since, before_ms)| since < before_ms).collect()
        };
        for (key, bucket, _, before_ms) in due {
            flat.dirty.borrow_mut().remove(&key);
            match self.sweep_shard(flat, &bucket, key.1, before_ms).await {
                Ok(true) => {}
                // What was made since, or is being read, waits for its own time.
                Ok(false) => flat.mark_dirty(&bucket, key.1, now_ms),
                Err(error) => {
                    tracing::debug!(%error, bucket = %bucket.name, "shard not swept");
                    flat.mark_dirty(&bucket, key.1, now_ms);
                }
            }
        }
    }

    fn before<C: Cluster>(&self, flat: &Flat<C>, bucket: &Bucket, now_ms: u64) -> u64 {
        match flat.commons.is_full(data_place(bucket)) {
            true => now_ms + 1,
            false => {
                now_ms.saturating_sub(u64::try_from(self.delay.as_millis()).unwrap_or(u64::MAX))
            }
        }
    }

    /// Removes the garbage of a shard that is older than `before_ms`. `false` if younger garbage is left, or what is
    /// being read, or locked; that keeps nothing else waiting.
    async fn sweep_shard<C: Cluster>(
        &self,
        flat: &Flat<C>,
        bucket: &Bucket,
        shard: u32,
        before_ms: u64,
    ) -> Result<bool, CatalogueError> {
        let (mut after, mut left) = (Bytes::new(), false);
        loop {
            let ask = Garbage { before_ms, after, max: RECORDS_PER_CALL };
            let found: Vec<(Bytes, Vec<DataRef>)> =
                match flat.shard(bucket, shard, "garbage", &ask).await {
                    // A shard of a bucket that is gone.
                    Err(CatalogueError::Cluster(Error::NotFound(_))) => return Ok(true),
                    found => found?,
                };
            let Some((last, _)) = found.last() else {
                if left {
                    return Ok(false);
                }
                let ask = Garbage { before_ms: u64::MAX, max: 1, ..Garbage::default() };
                let rest: Vec<(Bytes, Vec<DataRef>)> =
                    flat.shard(bucket, shard, "garbage", &ask).await?;
                return Ok(rest.is_empty());
            };
            after = last.clone();
            let (held, free): (Vec<_>, Vec<_>) = found.into_iter().partition(|(_, refs)| {
                refs.iter().any(|data| flat.commons.holds.is_held(&data.id))
            });
            left |= !held.is_empty();
            let mut records = Vec::with_capacity(free.len());
            for (key, refs) in free {
                match delete_data(flat, bucket, &refs).await {
                    Err(CatalogueError::Refused(Refusal::Locked {})) => {
                        tracing::warn!(bucket = %bucket.name, shard, "garbage is locked; it stays");
                        left = true;
                    }
                    done => {
                        done?;
                        records.push(key);
                    }
                }
            }
            if !records.is_empty() {
                let _: Nothing = flat.shard(bucket, shard, "swept", &Swept { records }).await?;
            }
        }
    }

    /// Looks through every bucket. One that cannot be swept, or cleared, keeps no other waiting.
    pub async fn scan<C: Cluster>(&self, flat: &Flat<C>) -> Result<(), CatalogueError> {
        logged("clearing removed buckets", self.clear_doomed(flat).await);
        let mut query = ListBuckets { max: 1000, ..ListBuckets::default() };
        loop {
            let page = flat.buckets(query.clone()).await?;
            for bucket in &page.buckets {
                if let Err(error) = self.scan_bucket(flat, bucket).await {
                    tracing::debug!(%error, bucket = %bucket.name, "bucket not swept");
                }
            }
            match page.buckets.last() {
                Some(last) if page.more => query.after.clone_from(&last.name),
                _ => return Ok(()),
            }
        }
    }

    async fn scan_bucket<C: Cluster>(
        &self,
        flat: &Flat<C>,
        bucket: &Bucket,
    ) -> Result<(), CatalogueError> {
        let now_ms = clock::timestamp().millis();
        if !bucket.ready {
            if bucket.created_ms + HALF_MADE_MS < now_ms {
                flat.finish_create(bucket).await?;
            }
            return Ok(());
        }
        for (shard, head) in flat.heads(bucket).await? {
            let splits = head.lineage.as_ref().is_some_and(|lineage| lineage.split.is_some());
            if splits || flat.commons.is_crowded(&head) {
                flat.commons.note_crowded(bucket, shard);
            }
            let age = u64::try_from(self.intent_age.as_millis()).unwrap_or(u64::MAX);
            let old = Expire { before_ms: now_ms.saturating_sub(age), now_ms, ..Expire::default() };
            self.expire(flat, bucket, shard, old).await?;
            self.sweep_shard(flat, bucket, shard, self.before(flat, bucket, now_ms)).await?;
        }
        Ok(())
    }

    async fn expire<C: Cluster>(
        &self,
        flat: &Flat<C>,
        bucket: &Bucket,
        shard: u32,
        mut expire: Expire,
    ) -> Result<(), CatalogueError> {
        loop {
            let expired = flat.shard::<_, Expired>(bucket, shard, "expire", &expire).await;
            let expired = match expired {
                // A shard that was cleared already.
                Err(CatalogueError::Cluster(Error::NotFound(_))) => return Ok(()),
                expired => expired?,
            };
            if expired.count > 0 {
                tracing::info!(bucket = %bucket.name, shard, count = expired.count, "abandoned writes");
            }
            match expired.next {
                Some(next) => expire.after = next,
                None => return Ok(()),
            }
        }
    }

    /// Clears the shards of removed buckets: all that can be. The last failure, if there was one.
    pub async fn clear_doomed<C: Cluster>(&self, flat: &Flat<C>) -> Result<(), CatalogueError> {
        let mut failed = Ok(());
        for registry in 0..REGISTRY_SHARDS {
            let name = registry_shard_name(registry);
            let mut ask = Doomed { after: None, max: DOOMED_PER_PAGE };
            loop {
                let page = flat.registry::<_, BucketPage>(name.clone(), "doomed", &ask);
                let page = match page.await {
                    Err(CatalogueError::Cluster(Error::NotFound(_))) => break,
                    page => page?,
                };
                for bucket in &page.buckets {
                    if let Err(error) = self.clear_bucket(flat, bucket, &name).await {
                        tracing::debug!(%error, bucket = %bucket.name, "removed bucket not cleared");
                        failed = Err(error);
                    }
                }
                match page.buckets.last() {
                    Some(last) if page.more => ask.after = Some(last.id),
                    _ => break,
                }
            }
        }
        failed
    }

    async fn clear_bucket<C: Cluster>(
        &self,
        flat: &Flat<C>,
        bucket: &Bucket,
        registry: &str,
    ) -> Result<(), CatalogueError> {
        // Children first: their parents know of them.
        for (shard, head) in flat.heads(bucket).await?.into_iter().rev() {
            // A split that did not begin may have left one.
            let unborn = child_of(bucket.shards, shard, head.reach().depth);
            for shard in unborn.into_iter().chain([shard]) {
                self.clear_shard(flat, bucket, shard).await?;
            }
        }
        let forget = Forget { id: bucket.id };
        let _: Nothing = flat.registry(registry.to_owned(), "forget", &forget).await?;
        Ok(())
    }

    async fn clear_shard<C: Cluster>(
        &self,
        flat: &Flat<C>,
        bucket: &Bucket,
        shard: u32,
    ) -> Result<(), CatalogueError> {
        // A shard that a splitter made and left is open yet.
        let seal = Seal { removal: bucket.removing };
        match flat.shard::<_, Answer<Nothing>>(bucket, shard, "seal", &seal).await {
            Err(CatalogueError::Cluster(Error::NotFound(_)))
            | Ok(Answer(Err(Refusal::NoBucket {}))) => return Ok(()),
            // Its splitter has sealed it.
            Ok(Answer(Err(Refusal::TakenBack {}))) => {}
            sealed => drop(sealed?.0?),
        }
        let now_ms = clock::timestamp().millis();
        let all = Expire { everything: true, now_ms, ..Expire::default() };
        self.expire(flat, bucket, shard, all).await?;
        if !self.sweep_shard(flat, bucket, shard, u64::MAX).await? {
            return Err(Error::Unavailable("data of a removed bucket is being read".into()).into());
        }
        let cleared = flat.shard::<_, Answer<Nothing>>(bucket, shard, "clear", &Nothing {}).await;
        match cleared {
            Err(CatalogueError::Cluster(Error::NotFound(_))) => Ok(()),
            Ok(Answer(Err(Refusal::NoBucket {}))) => Ok(()),
            Ok(Answer(done)) => Ok(done.map(drop)?),
            Err(error) => Err(error),
        }
    }
}

async fn delete_data<C: Cluster>(
    flat: &Flat<C>,
    bucket: &Bucket,
    refs: &[DataRef],
) -> Result<(), CatalogueError> {
    let stripes = refs.iter().flat_map(|data| (0..data.stripes()).map(move |n| (data, n)));
    let mut deletes = stream::iter(stripes)
        .map(|(data, stripe)| async move {
            let (place, object) = (data_place(bucket), data.stripe_name(bucket.id, stripe));
            let ops = vec![Op::Delete {}];
            match flat.cluster.operate(place, object.clone(), ops, false).await {
                Err(Error::Denied(_)) => delete_locked(flat, place, object).await,
                deleted => gone(deleted),
            }
        })
        .buffer_unordered(DELETES_IN_FLIGHT);
    while let Some(done) = deletes.next().await {
        done?;
    }
    Ok(())
}

/// Removes a data object that was locked once. The index has given its version up: that governance was passed over, it
/// has decided, and that no hold is on. One that is on all the same was left by a gateway that died.
async fn delete_locked<C: Cluster>(
    flat: &Flat<C>,
    place: Place,
    object: String,
) -> Result<(), CatalogueError> {
    let remove = RemoveBody { bypass: true };
    for last in [false, true] {
        let done: Answer<Nothing> =
            flat.exec(place, object.clone(), BODY_CLASS, "remove", &remove).await?;
        match done.0 {
            Err(Refusal::Locked {}) if !last => {}
            done => return Ok(done.map(drop)?),
        }
        // Refused while compliance is in force.
        let lock = ObjectLock { retention: None, hold: Some(false) };
        let free = LockBody { lock, bypass: true };
        let freed: Answer<Nothing> =
            flat.exec(place, object.clone(), BODY_CLASS, "lock", &free).await?;
        match freed.0 {
            Err(Refusal::NoKey {}) => return Ok(()),
            freed => drop(freed?),
        }
    }
    Ok(())
}

/// What is not there is as good as deleted.
fn gone<T>(result: Result<T, Error>) -> Result<(), CatalogueError> {
    match result {
        Ok(_) | Err(Error::NotFound(_)) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

fn logged(doing: &str, result: Result<(), CatalogueError>) {
    if let Err(error) = result {
        tracing::warn!(%error, doing, "sweeping stopped; tried again later");
    }
}
