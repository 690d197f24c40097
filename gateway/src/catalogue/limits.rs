//! Quotas: what a bucket, and all buckets of a user together, may hold.
//!
//! A shard counts exactly what it holds, and decides (`Ceiling`): it may hold what the quota leaves when all that
//! is elsewhere is taken off. What is elsewhere is a sum that this process keeps: read from all shards, believed
//! for [`USAGE_TTL`], or [`USAGE_NEAR_TTL`] once seven eighths of the quota are used, with this process's own
//! writes added at once. So the overshoot is at most what is in flight into several shards at once, and through several
//! gateways what the others write into other shards within [`USAGE_NEAR_TTL`]. Where a user has so many buckets that a
//! sum takes long, it is believed longer (`USAGE_REST`).
//!
//! What is written while a sum is made may be in it or not. It is counted once more: until the next sum a quota may be
//! felt a little early, and is not passed.
//!
//! Older versions and delete markers count. Parts of uploads that are not completed do not.

use super::flat::Flat;
use super::*;
use crate::cluster::Cluster;
use std::collections::HashMap;
use store_base::codec::Decode;

/// How long a user's limits are believed.
pub const LIMITS_TTL: Duration = Duration::from_secs(5);

/// How long a sum of what is held is believed.
pub const USAGE_TTL: Duration = Duration::from_secs(10);

/// And where the quota is nearly used up.
pub const USAGE_NEAR_TTL: Duration = Duration::from_secs(1);

/// A sum that took long to make is believed for so many times as long: making sums is at most a fifth of what a
/// gateway does, however many buckets a user has.
const USAGE_REST: u32 = 4;

/// Most users whose limits, and holders whose sums, are remembered; all are forgotten when there are more.
const KNOWN_MAX: usize = 10_000;

/// Buckets in one page.
const BUCKETS_PER_PAGE: u32 = 1000;

/// Objects and bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Amount {
    objects: u64,
    bytes: u64,
}

/// Who holds something.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Holder {
    Bucket(BucketId),
    User(String),
}

/// What a holder had in each shard when it was last looked; of a shard, with what splits took from it.
#[derive(Clone, Debug, Default)]
struct Sum {
    at: Time,
    /// How long it took to make.
    took: Duration,
    parts: HashMap<(BucketId, u32), Amount>,
    total: Amount,
}

/// What was added to each shard.
type Growth = HashMap<(BucketId, u32), Amount>;

#[derive(Debug, Default)]
struct State {
    limits: HashMap<String, (Limits, Time)>,
    sums: HashMap<Holder, Sum>,
    /// What was added while a sum is made.
    making: HashMap<Holder, Growth>,
}

/// What the catalogues of a process know of limits and of what is held.
#[derive(Clone, Debug, Default)]
pub struct Known {
    state: Arc<Mutex<State>>,
    /// Of one holder one sum is made at a time.
    summing: Arc<Mutex<HashMap<Holder, OneAtATime>>>,
}

type OneAtATime = Arc<tokio::sync::Mutex<()>>;

impl Known {
    fn locked(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What whoever makes a sum of the holder holds meanwhile.
    fn turn(&self, holder: &Holder) -> OneAtATime {
        let mut summing = self.summing.lock().unwrap_or_else(PoisonError::into_inner);
        if summing.len() >= KNOWN_MAX {
            // Those that nobody holds or waits for.
            summing.retain(|_, turn| Arc::strong_count(turn) > 1);
        }
        summing.entry(holder.clone()).or_default().clone()
    }

    /// Begins to keep what is added to a holder.
    fn begin_sum(&self, holder: &Holder) {
        let mut state = self.locked();
        if state.making.len() >= KNOWN_MAX {
            state.making.clear();
        }
        state.making.insert(holder.clone(), Growth::default());
    }

    /// A sum is made; what it says with what was added meanwhile.
    fn end_sum(
        &self,
        holder: Holder,
        mut sum: Sum,
        limits: &Limits,
        part: (BucketId, u32),
    ) -> Ceiling {
        let mut state = self.locked();
        for (part, more) in state.making.remove(&holder).unwrap_or_default() {
            for amount in [sum.parts.entry(part).or_default(), &mut sum.total] {
                amount.objects = amount.objects.saturating_add(more.objects);
                amount.bytes = amount.bytes.saturating_add(more.bytes);
            }
        }
        let ceiling = sum.ceiling(limits, part);
        if state.sums.len() >= KNOWN_MAX {
            state.sums.clear();
        }
        state.sums.insert(holder, sum);
        ceiling
    }

    /// Keys moved between shards of the bucket: what was known of each of them is not so any more.
    pub(super) fn forget(&self, bucket: &Bucket) {
        let mut state = self.locked();
        state.sums.remove(&Holder::Bucket(bucket.id));
        state.sums.remove(&Holder::User(bucket.owner.clone()));
    }

    /// What this process wrote or removed counts at once.
    pub(super) fn note(
        &self,
        bucket: &Bucket,
        shard: u32,
        more: Option<&Entry>,
        less: Option<&Entry>,
    ) {
        let mut state = self.locked();
        if state.sums.is_empty() && state.making.is_empty() {
            return;
        }
        for holder in [Holder::Bucket(bucket.id), Holder::User(bucket.owner.clone())] {
            if let Some(growth) = state.making.get_mut(&holder) {
                growth.entry((bucket.id, shard)).or_default().grow(more, less);
            }
            let Some(sum) = state.sums.get_mut(&holder) else { continue };
            let part = sum.parts.entry((bucket.id, shard)).or_default();
            for amount in [part, &mut sum.total] {
                amount.add(more);
                amount.take(less);
            }
        }
    }
}

impl Amount {
    fn add(&mut self, entry: Option<&Entry>) {
        if let Some(entry) = entry {
            self.objects = self.objects.saturating_add(1);
            self.bytes = self.bytes.saturating_add(entry.size);
        }
    }

    /// Adds by what there is more.
    fn grow(&mut self, more: Option<&Entry>, less: Option<&Entry>) {
        let (mut added, mut taken) = (Amount::default(), Amount::default());
        added.add(more);
        taken.add(less);
        self.objects = self.objects.saturating_add(added.objects.saturating_sub(taken.objects));
        self.bytes = self.bytes.saturating_add(added.bytes.saturating_sub(taken.bytes));
    }

    fn take(&mut self, entry: Option<&Entry>) {
        if let Some(entry) = entry {
            self.objects = self.objects.saturating_sub(1);
            self.bytes = self.bytes.saturating_sub(entry.size);
        }
    }
}

impl Sum {
    /// Whether it may still be believed about a write of `size` bytes.
    fn is_fresh(&self, limits: &Limits, size: u64) -> bool {
        let near = |used: u64, max: u64| max > 0 && used >= max / 8 * 7;
        let near = near(self.total.objects.saturating_add(1), limits.objects_max)
            || near(self.total.bytes.saturating_add(size), limits.bytes_max);
        let believed = if near { USAGE_NEAR_TTL } else { USAGE_TTL };
        clock::now().since(self.at) < believed.max(self.took * USAGE_REST)
    }

    /// What the shard may hold.
    fn ceiling(&self, limits: &Limits, part: (BucketId, u32)) -> Ceiling {
        let own = self.parts.get(&part).copied().unwrap_or_default();
        let left = |max: u64, total: u64, own: u64| match max {
            0 => u64::MAX,
            max => max.saturating_add(own).saturating_sub(total),
        };
        Ceiling {
            objects: left(limits.objects_max, self.total.objects, own.objects),
            bytes: left(limits.bytes_max, self.total.bytes, own.bytes),
        }
    }
}

/// The limits of a bucket, from its record. What cannot be read was written by a later program: no limit is
/// known then.
pub fn of_bucket(bucket: &Bucket) -> Limits {
    let document = bucket.documents.get(LIMITS_DOCUMENT);
    document.and_then(|bytes| Limits::from_bytes(bytes.clone()).ok()).unwrap_or_default()
}

impl<C: Cluster> Flat<C> {
    /// The limits of a user, at most [`LIMITS_TTL`] old.
    pub(super) async fn limits_of(&self, user: &str) -> Result<Limits, CatalogueError> {
        if let Some((limits, until)) = self.commons.known.locked().limits.get(user)
            && *until > clock::now()
        {
            return Ok(*limits);
        }
        let read = ReadLimits { id: user.to_owned() };
        let found = self.registry::<_, Option<Limits>>(registry_name(user), "limits", &read).await;
        let limits = match found {
            Err(CatalogueError::Cluster(Error::NotFound(_))) => Limits::default(),
            found => found?.unwrap_or_default(),
        };
        let mut state = self.commons.known.locked();
        if state.limits.len() >= KNOWN_MAX {
            state.limits.clear();
        }
        state.limits.insert(user.to_owned(), (limits, clock::now() + LIMITS_TTL));
        Ok(limits)
    }

    /// What the shard may hold when `size` more bytes come; `None` where no quota is set.
    pub(super) async fn ceiling(
        &self,
        bucket: &Bucket,
        shard: u32,
        size: u64,
    ) -> Result<Option<Ceiling>, CatalogueError> {
        let mut ceiling: Option<Ceiling> = None;
        let of_user = (self.limits_of(&bucket.owner).await?, Holder::User(bucket.owner.clone()));
        let of_bucket = (of_bucket(bucket), Holder::Bucket(bucket.id));
        for (limits, holder) in [of_bucket, of_user] {
            if !limits.has_quota() {
                continue;
            }
            let one = self.one_ceiling(bucket, shard, &limits, holder, size).await?;
            ceiling = Some(match ceiling {
                None => one,
                Some(other) => Ceiling {
                    objects: one.objects.min(other.objects),
                    bytes: one.bytes.min(other.bytes),
                },
            });
        }
        Ok(ceiling)
    }

    async fn one_ceiling(
        &self,
        bucket: &Bucket,
        shard: u32,
        limits: &Limits,
        holder: Holder,
        size: u64,
    ) -> Result<Ceiling, CatalogueError> {
        let part = (bucket.id, shard);
        let known = &self.commons.known;
        let look = || {
            let state = known.locked();
            let fresh = state.sums.get(&holder).filter(|sum| sum.is_fresh(limits, size));
            fresh.map(|sum| sum.ceiling(limits, part))
        };
        if let Some(ceiling) = look() {
            return Ok(ceiling);
        }
        let turn = known.turn(&holder);
        let _one_at_a_time = turn.lock().await;
        // Another may have made it meanwhile.
        if let Some(ceiling) = look() {
            return Ok(ceiling);
        }
        known.begin_sum(&holder);
        let mut sum = Sum { at: clock::now(), ..Sum::default() };
        match &holder {
            Holder::Bucket(_) => self.add_up(bucket, &mut sum).await?,
            Holder::User(id) => self.add_up_all(id, &mut sum).await?,
        }
        sum.took = clock::now().since(sum.at);
        Ok(known.end_sum(holder, sum, limits, part))
    }

    /// Refuses early what can only be refused in the end: a body larger than any shard may hold.
    pub(super) async fn check_room(
        &self,
        bucket: &Bucket,
        shard: u32,
        size: u64,
    ) -> Result<(), CatalogueError> {
        match self.ceiling(bucket, shard, size).await? {
            Some(ceiling) if size > ceiling.bytes || ceiling.objects == 0 => {
                Err(Refusal::Quota {}.into())
            }
            _ => Ok(()),
        }
    }

    async fn add_up(&self, bucket: &Bucket, sum: &mut Sum) -> Result<(), CatalogueError> {
        let (heads, twice) = self.counted_heads(bucket).await?;
        for (shard, head) in heads {
            let amount = Amount {
                objects: head.objects.saturating_add(head.versions),
                bytes: head.bytes.saturating_add(head.version_bytes),
            };
            sum.total.objects = sum.total.objects.saturating_add(amount.objects);
            sum.total.bytes = sum.total.bytes.saturating_add(amount.bytes);
            // As the shard counts when it is held against its ceiling: what it gave away included.
            let given = head.lineage.map_or((0, 0), |l| (l.given_objects, l.given_bytes));
            let part = Amount {
                objects: amount.objects.saturating_add(given.0),
                bytes: amount.bytes.saturating_add(given.1),
            };
            sum.parts.insert((bucket.id, shard), part);
        }
        let (objects, bytes) = (twice.objects + twice.versions, twice.bytes + twice.version_bytes);
        sum.total.objects = sum.total.objects.saturating_sub(objects);
        sum.total.bytes = sum.total.bytes.saturating_sub(bytes);
        Ok(())
    }

    async fn add_up_all(&self, owner: &str, sum: &mut Sum) -> Result<(), CatalogueError> {
        let owner = Some(owner.to_owned());
        let mut query = ListBuckets { owner, max: BUCKETS_PER_PAGE, ..ListBuckets::default() };
        loop {
            let page = self.buckets(query.clone()).await?;
            for bucket in page.buckets.iter().filter(|bucket| bucket.ready) {
                match self.add_up(bucket, sum).await {
                    // Removed meanwhile.
                    Err(
                        CatalogueError::Refused(Refusal::NoBucket {})
                        | CatalogueError::Cluster(Error::NotFound(_)),
                    ) => {}
                    done => done?,
                }
            }
            match page.buckets.last() {
                Some(last) if page.more => query.after.clone_from(&last.name),
                _ => return Ok(()),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shard_may_hold_what_is_left_of_the_quota() {
        let (here, there) = ((BucketId([1; 8]), 0), (BucketId([1; 8]), 1));
        let mut sum = Sum::default();
        sum.parts.insert(here, Amount { objects: 3, bytes: 30 });
        sum.parts.insert(there, Amount { objects: 5, bytes: 50 });
        sum.total = Amount { objects: 8, bytes: 80 };
        let limits = Limits { quota: true, objects_max: 10, bytes_max: 70, ..Limits::default() };
        assert_eq!(sum.ceiling(&limits, here), Ceiling { objects: 5, bytes: 20 });
        assert_eq!(sum.ceiling(&limits, there), Ceiling { objects: 7, bytes: 40 });
        let new = (BucketId([2; 8]), 0);
        assert_eq!(sum.ceiling(&limits, new), Ceiling { objects: 2, bytes: 0 });
        let bytes_alone = Limits { objects_max: 0, ..limits };
        assert_eq!(sum.ceiling(&bytes_alone, here).objects, u64::MAX);
    }

    #[test]
    fn sums_are_believed_longer_where_they_are_dear_and_shorter_near_the_quota() {
        let limits = Limits { quota: true, objects_max: 80, ..Limits::default() };
        let aged = |secs: u64, objects: u64, took_ms: u64| {
            let at = Time(clock::now().0.saturating_sub(secs * 1_000_000_000));
            let total = Amount { objects, bytes: 0 };
            let took = Duration::from_millis(took_ms);
            Sum { at, took, total, ..Sum::default() }.is_fresh(&limits, 1)
        };
        // The process' clock begins at one second.
        assert!(aged(0, 80, 0) && !aged(1, 80, 0), "near the quota");
        assert!(aged(1, 10, 0), "far from it");
        assert!(aged(1, 80, 500), "dear");
    }

    #[test]
    fn what_comes_while_a_sum_is_made_is_in_it() {
        let known = Known::default();
        let bucket = Bucket { id: BucketId([1; 8]), owner: "u".into(), ..Bucket::default() };
        let (holder, part) = (Holder::User("u".into()), (bucket.id, 2));
        let entry = |size| Entry { size, ..Entry::default() };
        known.begin_sum(&holder);
        known.note(&bucket, 2, Some(&entry(10)), None);
        known.note(&bucket, 3, Some(&entry(7)), Some(&entry(5)));
        known.note(&bucket, 2, None, Some(&entry(10)));
        let limits = Limits { quota: true, objects_max: 5, bytes_max: 50, ..Limits::default() };
        let ceiling = known.end_sum(holder.clone(), Sum::default(), &limits, part);
        assert_eq!(ceiling, Ceiling { objects: 5, bytes: 48 });
        let state = known.locked();
        assert_eq!(state.sums[&holder].total, Amount { objects: 1, bytes: 12 });
        assert!(state.making.is_empty());
    }

    #[tokio::test]
    async fn the_sums_of_two_holders_are_made_side_by_side() {
        let known = Known::default();
        let (one, other) = (Holder::User("u".into()), Holder::User("v".into()));
        let (first, again) = (known.turn(&one), known.turn(&one));
        let _held = first.lock().await;
        assert!(again.try_lock().is_err());
        assert!(known.turn(&other).try_lock().is_ok());
    }

    #[test]
    fn own_writes_count_at_once() {
        let known = Known::default();
        let bucket = Bucket { id: BucketId([1; 8]), owner: "u".into(), ..Bucket::default() };
        known.locked().sums.insert(Holder::User("u".into()), Sum::default());
        let entry = |size| Entry { size, ..Entry::default() };
        known.note(&bucket, 2, Some(&entry(10)), None);
        known.note(&bucket, 2, Some(&entry(5)), Some(&entry(10)));
        known.note(&bucket, 3, Some(&entry(1)), None);
        let state = known.locked();
        let sum = &state.sums[&Holder::User("u".into())];
        assert_eq!(sum.total, Amount { objects: 2, bytes: 6 });
        assert_eq!(sum.parts[&(bucket.id, 2)], Amount { objects: 1, bytes: 5 });
    }
}
