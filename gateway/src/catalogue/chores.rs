//! The workers: lifecycle rules, objects that end by themselves, locks of data, events for webhooks, and shards that
//! are too large.
//!
//! Every gateway runs one. It looks through the records of all buckets every [`Chores::every`], and does what is
//! due in those that have rules. The work of a shard is a lease in the shard itself (`bucket.claim`), with the
//! place that was reached: gateways share the shards among them, and a walk that its gateway did not survive is
//! gone on with by another. Removing is conditional (`bucket.retire`), so two at once do no harm. Named keys whose
//! waiting period is over are destroyed in the same round.
//!
//! A walk pauses after each page for as long as the page took: it never takes more than half of what one busy
//! client takes.

use super::flat::Flat;
use super::*;
use crate::cluster::Cluster;
use crate::metrics::Metrics;
use crate::s3::access::rules::document;
use crate::s3::lifecycle::{Calendar, DAY_MS};
use crate::s3::notification::{Happens, Notifications};
use deliver::{Delivery, Health};
use std::cell::RefCell;
use store_base::codec::{Decode, Encode};
use store_shell::shutdown::Shutdown;

pub mod deliver;
mod expiry;
mod guard;
mod keys;
mod split;
mod walk;

/// The name of the work of lifecycle rules in the shards.
pub const LIFECYCLE_WORK: &str = "lifecycle";

/// How long a worker has a shard for itself without a sign of life.
const LEASE: Duration = Duration::from_secs(30);

/// Longest pause between two pages.
const PAUSE_MAX: Duration = Duration::from_secs(1);

/// Most shards whose rounds are remembered as done; all are forgotten when there are more.
const DONE_MAX: usize = 100_000;

/// Buckets in one page.
const BUCKETS_PER_PAGE: u32 = 1000;

/// In a day that is shorter than one, for tests, so many rounds are made.
const ROUNDS_PER_SHORT_DAY: u64 = 4;

/// The workers of a process.
pub struct Chores {
    /// How long a day is.
    pub calendar: Calendar,
    /// How often the buckets are looked through; zero for never.
    pub every: Duration,
    /// Counters of the process.
    pub metrics: Arc<Metrics>,
    /// Where events go.
    pub delivery: Delivery,
    /// Above how many objects and versions a shard is split; 0 for never.
    pub split_keys: u64,
    /// The endpoints that fail.
    health: Health,
    /// Who this is.
    holder: u64,
    /// Rounds that are done, or another's, as (round, plan).
    done: RefCell<BTreeMap<(BucketId, u32), (u64, u64)>>,
    /// The same of the rounds in which locks are repeated.
    guarded: RefCell<BTreeMap<(BucketId, u32), u64>>,
}

/// What a walk did since it last told.
#[derive(Clone, Copy, Debug, Default)]
struct Tally {
    looked: u64,
    acted: u64,
    passed: u64,
}

impl Chores {
    /// Workers that look through the buckets every so often.
    pub fn new(
        calendar: Calendar,
        every: Duration,
        metrics: Arc<Metrics>,
        delivery: Delivery,
    ) -> Self {
        let (holder, health) = (clock::random_u64() | 1, Health::default());
        let (done, guarded) = (RefCell::default(), RefCell::default());
        let split_keys = SPLIT_KEYS_DEFAULT;
        Chores { calendar, every, metrics, delivery, split_keys, health, holder, done, guarded }
    }

    /// Works until `shutdown`.
    pub async fn run<C: Cluster>(self, flat: Rc<Flat<C>>, shutdown: Shutdown) {
        if self.every.is_zero() {
            return;
        }
        // An endpoint that is slow holds up no rule.
        tokio::join!(
            self.remove_due(&flat, &shutdown),
            self.deliver(&flat, &shutdown),
            self.split_crowded(&flat, &shutdown),
        );
    }

    async fn remove_due<C: Cluster>(&self, flat: &Flat<C>, shutdown: &Shutdown) {
        loop {
            tokio::select! {
                () = shutdown.wait() => return,
                () = tokio::time::sleep(self.every) => {}
            }
            if let Err(error) = keys::destroy_due(flat).await {
                tracing::warn!(%error, "looking for keys that are due stopped; tried again later");
            }
            if let Err(error) = self.look_through(flat, shutdown).await {
                tracing::warn!(%error, "looking for what is due stopped; tried again later");
            }
        }
    }

    /// Does what is due in every bucket.
    pub async fn look_through<C: Cluster>(
        &self,
        flat: &Flat<C>,
        shutdown: &Shutdown,
    ) -> Result<(), CatalogueError> {
        let mut query = ListBuckets { max: BUCKETS_PER_PAGE, ..ListBuckets::default() };
        loop {
            let page = flat.buckets(query.clone()).await?;
            for bucket in page.buckets.iter().filter(|bucket| bucket.ready && bucket.removing == 0)
            {
                if shutdown.is_triggered() {
                    return Ok(());
                }
                if let Err(error) = self.bucket(flat, bucket, shutdown).await {
                    tracing::debug!(%error, bucket = %bucket.name, "what is due was not done");
                }
            }
            match page.buckets.last() {
                Some(last) if page.more => query.after.clone_from(&last.name),
                _ => return Ok(()),
            }
        }
    }

    async fn bucket<C: Cluster>(
        &self,
        flat: &Flat<C>,
        bucket: &Bucket,
        shutdown: &Shutdown,
    ) -> Result<(), CatalogueError> {
        if bucket.documents.contains_key(document::EXPIRING) {
            for shard in flat.heads(bucket).await?.into_keys() {
                self.expire(flat, bucket, shard, shutdown).await?;
            }
        }
        if bucket.documents.contains_key(document::LIFECYCLE) {
            self.lifecycle(flat, bucket, shutdown).await?;
        }
        if bucket.settings.lock {
            self.guard_locked(flat, bucket, shutdown).await?;
        }
        Ok(())
    }

    /// The round that is due. What expires does so at midnight (UTC): one round a day suffices.
    pub(in crate::catalogue) fn round(&self, now_ms: u64) -> u64 {
        match self.calendar.day_ms {
            DAY_MS => now_ms / DAY_MS,
            short => now_ms / (short / ROUNDS_PER_SHORT_DAY).max(1),
        }
    }

    /// Takes the work at a shard. `None` if there is nothing to do, or another one does it.
    async fn claim<C: Cluster>(
        &self,
        flat: &Flat<C>,
        at: (&Bucket, u32),
        name: &str,
        round: u64,
        plan: u64,
    ) -> Result<Option<Chore>, CatalogueError> {
        let (holder, lease_ms) = (self.holder, millis(LEASE));
        let claim = Claim { name: name.to_owned(), holder, lease_ms, round, plan };
        flat.work_shard(at.0, at.1, "claim", &claim).await
    }

    /// Tells how far one is. `false` if the work is another's by now.
    async fn report<C: Cluster>(
        &self,
        flat: &Flat<C>,
        at: (&Bucket, u32),
        name: &str,
        place: Option<Bytes>,
        tally: Tally,
    ) -> Result<bool, CatalogueError> {
        let report = Report {
            name: name.to_owned(),
            holder: self.holder,
            lease_ms: millis(LEASE),
            done: place.is_none(),
            place: place.unwrap_or_default(),
            looked: tally.looked,
            acted: tally.acted,
            passed: tally.passed,
        };
        flat.work_shard(at.0, at.1, "report", &report).await
    }

    /// Removes what was judged, where it is still so.
    async fn retire<C: Cluster>(
        &self,
        flat: &Flat<C>,
        at: (&Bucket, u32),
        items: Vec<RetireItem>,
        tally: &mut Tally,
    ) -> Result<(), CatalogueError> {
        let mut rest = &items[..];
        let mut batch_max = RETIRED_AT_ONCE;
        while !rest.is_empty() {
            let now_ms = clock::timestamp().millis();
            let retire = Retire {
                items: rest[..rest.len().min(batch_max)].to_vec(),
                now_ms,
                owner: at.0.owner.clone(),
                settings: at.0.settings.clone(),
            };
            let outcomes: Retired = match flat.work_shard(at.0, at.1, "retire", &retire).await {
                // A full cluster takes small removals only.
                Err(CatalogueError::Cluster(Error::Full(_) | Error::Quota(_))) if batch_max > 1 => {
                    batch_max = 1;
                    continue;
                }
                outcomes => outcomes?,
            };
            if outcomes.is_empty() || outcomes.len() > rest.len() {
                return Err(Error::Damaged("retire answered for other keys".into()).into());
            }
            let (gone, others) = rest.split_at(outcomes.len());
            if gone.iter().any(|item| item.notes.is_some()) {
                flat.commons.note_events(at.0, at.1);
            }
            rest = others;
            for outcome in outcomes {
                match outcome.0 {
                    Ok(removed) => {
                        tally.acted += 1;
                        flat.mark_replaced(at.0, at.1, &removed.entry, now_ms);
                        let (more, less) = (removed.marker.as_ref(), removed.entry.as_ref());
                        flat.commons.known.note(at.0, at.1, more, less);
                    }
                    Err(_) => tally.passed += 1,
                }
            }
        }
        Ok(())
    }
}

/// Who is told that a key's version goes by itself.
fn notes(told: Option<&Notifications>, key: &[u8]) -> Option<Notes> {
    let notices = told?.notices(key, Happens::Expired);
    (!notices.is_empty()).then(|| Notes { notices, ..Notes::default() })
}

/// Who is told of what happens in a bucket.
fn told(bucket: &Bucket) -> Option<Notifications> {
    Notifications::parse(bucket.documents.get(document::NOTIFICATION)?).ok()
}

/// Removals in one transaction.
const RETIRED_AT_ONCE: usize = 100;

fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

/// Rests as long as the work since `began` took.
async fn rest(began: Time) {
    tokio::time::sleep(clock::now().since(began).min(PAUSE_MAX)).await;
}

/// Something encoded, for the place of a chore.
fn place<T: Encode>(place: &T) -> Bytes {
    place.to_bytes()
}

/// What `place` encoded; the start for what cannot be read.
fn placed<T: Decode + Default>(bytes: Bytes) -> T {
    if bytes.is_empty() { T::default() } else { T::from_bytes(bytes).unwrap_or_default() }
}
