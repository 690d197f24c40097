//! The walk of a shard by the lifecycle rules of its bucket: all versions in order, each judged, those that are
//! due removed; then the uploads that are too old.

use super::*;
use crate::s3::lifecycle::{Judgement, Lifecycle, Place, Tags, Version as Judged};
use futures_util::stream::{self, StreamExt, TryStreamExt};

/// The name of the work in the shards.
const WORK: &str = LIFECYCLE_WORK;

/// Versions, or uploads, in one page.
const PAGE: u32 = 500;

/// Details read at a time, for their tags.
const READS_IN_FLIGHT: usize = 8;

/// Where a walk is: in which part of the shard, and from which key on. A key whose versions were judged in part is
/// begun anew.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Reached {
    /// 0 among the versions, 1 among the uploads.
    part: u8,
    key: Bytes,
}
store_base::codec_struct!(Reached { part, key });

/// What a version's judgement depends on: those before it in the walk.
#[derive(Default)]
struct Before {
    key: Bytes,
    /// When the next newer version was made.
    newer_ms: u64,
    /// How many older versions of the key came.
    older: u32,
    /// A delete marker that is the newest, while no other version of its key came.
    marker: Option<Entry>,
}

/// A version that one more look may let go.
struct Candidate {
    key: Bytes,
    entry: Entry,
    place: Place,
}

/// One round of one shard.
struct Walk<'a> {
    at: (&'a Bucket, u32),
    lifecycle: &'a Lifecycle,
    told: Option<&'a Notifications>,
    shutdown: &'a Shutdown,
}

impl Chores {
    /// Walks the shards of a bucket whose round is due, unless others do.
    pub(in crate::catalogue) async fn lifecycle<C: Cluster>(
        &self,
        flat: &Flat<C>,
        bucket: &Bucket,
        shutdown: &Shutdown,
    ) -> Result<(), CatalogueError> {
        let Some(text) = bucket.documents.get(document::LIFECYCLE) else { return Ok(()) };
        let lifecycle = match Lifecycle::parse(text) {
            Ok(lifecycle) => lifecycle,
            // A later gateway may have written it: nothing is removed by rules that are not understood.
            Err(error) => {
                tracing::error!(bucket = %bucket.name, %error, "lifecycle rules cannot be read");
                return Ok(());
            }
        };
        let round = self.round(clock::timestamp().millis());
        let plan = self.plan(text);
        let told = told(bucket);
        for shard in flat.heads(bucket).await?.into_keys() {
            let known = self.done.borrow().get(&(bucket.id, shard)).copied();
            if known == Some((round, plan)) || shutdown.is_triggered() {
                continue;
            }
            let at = (bucket, shard);
            let Some(chore) = self.claim(flat, at, WORK, round, plan).await? else { continue };
            // Not the one that is due, if another one was left half-way.
            let round = chore.round;
            let walk = Walk { at, lifecycle: &lifecycle, told: told.as_ref(), shutdown };
            if self.walk(flat, &walk, chore).await? {
                let mut done = self.done.borrow_mut();
                if done.len() >= DONE_MAX {
                    done.clear();
                }
                done.insert((bucket.id, shard), (round, plan));
            }
        }
        Ok(())
    }

    /// A number made of the rules, and of how long a day is.
    pub(in crate::catalogue) fn plan(&self, text: &[u8]) -> u64 {
        let mut context = ring::digest::Context::new(&ring::digest::SHA256);
        context.update(text);
        context.update(&self.calendar.day_ms.to_be_bytes());
        let mut plan = [0; 8];
        plan.copy_from_slice(&context.finish().as_ref()[..8]);
        u64::from_be_bytes(plan)
    }

    /// Goes on with a round. Whether it came to its end.
    async fn walk<C: Cluster>(
        &self,
        flat: &Flat<C>,
        walk: &Walk<'_>,
        chore: Chore,
    ) -> Result<bool, CatalogueError> {
        let reached: Reached = placed(chore.place);
        let mut sum = Tally::default();
        let mut key = reached.key;
        if reached.part == 0 {
            if walk.lifecycle.may_expire() && !self.versions(flat, walk, key, &mut sum).await? {
                return Ok(false);
            }
            key = Bytes::new();
        }
        if walk.lifecycle.may_abort() && !self.uploads(flat, walk, key, &mut sum).await? {
            return Ok(false);
        }
        let (bucket, shard) = walk.at;
        let keeps = self.report(flat, walk.at, WORK, None, Tally::default()).await?;
        if sum.acted + sum.passed > 0 {
            let (removed, passed) = (sum.acted, sum.passed);
            tracing::info!(bucket = %bucket.name, shard, looked = sum.looked, removed, passed,
                "lifecycle rules");
        }
        Ok(keeps)
    }

    /// Judges the versions from a key on. `false` if the walk ends here.
    async fn versions<C: Cluster>(
        &self,
        flat: &Flat<C>,
        walk: &Walk<'_>,
        key: Bytes,
        sum: &mut Tally,
    ) -> Result<bool, CatalogueError> {
        let (bucket, shard) = walk.at;
        let from = VersionPlace { key, after: None };
        let prefix = Bytes::copy_from_slice(walk.lifecycle.common_prefix().as_bytes());
        let mut list = ListVersions { prefix, from, max: PAGE, ..ListVersions::default() };
        let mut before = Before::default();
        loop {
            let began = clock::now();
            let page: VersionPage = flat.work_shard(bucket, shard, "versions", &list).await?;
            let mut tally = Tally { looked: page.items.len() as u64, ..Tally::default() };
            let now_ms = clock::timestamp().millis();
            let mut due = Vec::new();
            for item in page.items {
                let VersionItem::Version { key, entry, latest } = item else { continue };
                due.extend(before.step(key, entry, latest).into_iter().flatten());
            }
            if page.next.is_none() {
                due.extend(before.end());
            }
            let items = self.judge(flat, walk, due, now_ms).await?;
            self.retire(flat, walk.at, items, &mut tally).await?;
            self.metrics.lifecycle(tally.looked, tally.acted, tally.passed);
            sum.add(tally);
            let reached = match &page.next {
                Some(_) => Reached { part: 0, key: before.key.clone() },
                None => Reached { part: 1, key: Bytes::new() },
            };
            let goes_on = self.report(flat, walk.at, WORK, Some(place(&reached)), tally).await?;
            if !goes_on || walk.shutdown.is_triggered() {
                return Ok(false);
            }
            let Some(next) = page.next else { return Ok(true) };
            list.from = next;
            rest(began).await;
        }
    }

    /// What of the versions goes. Tags are read where they matter.
    async fn judge<C: Cluster>(
        &self,
        flat: &Flat<C>,
        walk: &Walk<'_>,
        candidates: Vec<Candidate>,
        now_ms: u64,
    ) -> Result<Vec<RetireItem>, CatalogueError> {
        let judged = stream::iter(candidates).map(|candidate| async move {
            let judge = |tags: Option<&Tags>| {
                let Candidate { key, entry, place } = &candidate;
                let version = Judged { key, entry, place: *place };
                walk.lifecycle.judge(&version, tags, self.calendar, now_ms)
            };
            let (judgement, tags) = match judge(None) {
                Judgement::Tags => match self.tags(flat, walk, &candidate).await? {
                    Some(tags) => (judge(Some(&tags)), Some(tags)),
                    None => (Judgement::Stays, None),
                },
                judgement => (judgement, None),
            };
            let Candidate { key, entry: seen, .. } = candidate;
            Ok::<_, CatalogueError>(match judgement {
                Judgement::Goes(how) => {
                    let notes = notes(walk.told, &key);
                    Some(RetireItem { key, seen, how, tags, notes })
                }
                Judgement::Stays | Judgement::Tags => None,
            })
        });
        let items: Vec<Option<RetireItem>> = judged.buffered(READS_IN_FLIGHT).try_collect().await?;
        Ok(items.into_iter().flatten().collect())
    }

    /// The tags of a version; `None` if it is another one by now.
    async fn tags<C: Cluster>(
        &self,
        flat: &Flat<C>,
        walk: &Walk<'_>,
        candidate: &Candidate,
    ) -> Result<Option<Tags>, CatalogueError> {
        let version = Some(candidate.entry.version());
        let read = Read { key: candidate.key.clone(), body: false, version };
        let (bucket, shard) = walk.at;
        let found: Option<Found> = flat.work_shard(bucket, shard, "read", &read).await?;
        let same = found.filter(|found| found.entry == candidate.entry);
        Ok(same.map(|found| found.detail.tags))
    }

    /// Aborts the uploads that are too old, from a key on. `false` if the walk ends here.
    async fn uploads<C: Cluster>(
        &self,
        flat: &Flat<C>,
        walk: &Walk<'_>,
        key: Bytes,
        sum: &mut Tally,
    ) -> Result<bool, CatalogueError> {
        let (bucket, shard) = walk.at;
        let prefix = Bytes::copy_from_slice(walk.lifecycle.common_prefix().as_bytes());
        let mut list = Uploads { prefix, from: key, max: PAGE, ..Uploads::default() };
        loop {
            let began = clock::now();
            let page: UploadPage = flat.work_shard(bucket, shard, "uploads", &list).await?;
            let mut tally = Tally { looked: page.items.len() as u64, ..Tally::default() };
            let now_ms = clock::timestamp().millis();
            for item in page.items {
                let UploadItem::Upload { key, id, upload } = item else { continue };
                (list.from, list.after_id) = (key.clone(), Some(id));
                if !walk.lifecycle.aborts(&key, upload.created_ms, self.calendar, now_ms) {
                    continue;
                }
                let abort = Abort { key, id, now_ms };
                match flat.work_shard::<_, Nothing>(bucket, shard, "abort", &abort).await {
                    Ok(_) => tally.acted += 1,
                    // Completed or aborted meanwhile.
                    Err(CatalogueError::Refused(Refusal::NoUpload {})) => tally.passed += 1,
                    Err(error) => return Err(error),
                }
            }
            if tally.acted > 0 {
                flat.mark_dirty(bucket, shard, now_ms);
            }
            self.metrics.lifecycle(tally.looked, tally.acted, tally.passed);
            sum.add(tally);
            let reached = Reached { part: 1, key: list.from.clone() };
            let goes_on = self.report(flat, walk.at, WORK, Some(place(&reached)), tally).await?;
            if !goes_on || walk.shutdown.is_triggered() {
                return Ok(false);
            }
            if !page.more {
                return Ok(true);
            }
            rest(began).await;
        }
    }
}

impl Before {
    /// The next version in the walk: what can be judged by now.
    fn step(&mut self, key: Bytes, entry: Entry, latest: bool) -> [Option<Candidate>; 2] {
        let mut alone = None;
        if latest || key != self.key {
            alone = self.end();
            *self = Before { key: key.clone(), ..Before::default() };
        }
        self.marker = None;
        let since_ms = std::mem::replace(&mut self.newer_ms, entry.modified_ms);
        if latest && entry.delete_marker {
            self.marker = Some(entry);
            return [alone, None];
        }
        let place = match latest {
            true => Place::Newest { alone: false },
            false => {
                self.older += 1;
                Place::Older { since_ms, newer: self.older - 1 }
            }
        };
        [alone, Some(Candidate { key, entry, place })]
    }

    /// No version of the key comes any more.
    fn end(&mut self) -> Option<Candidate> {
        let entry = self.marker.take()?;
        Some(Candidate { key: self.key.clone(), entry, place: Place::Newest { alone: true } })
    }
}

impl Tally {
    fn add(&mut self, more: Tally) {
        self.looked += more.looked;
        self.acted += more.acted;
        self.passed += more.passed;
    }
}
