//! Which shard has a key, while shards split (`store_base::bucket::split`).
//!
//! What this process knows of a bucket's layout is a hint. Each call goes where the hint says; a shard that has not
//! got the key says so, and the call follows. A key that is on its way between two shards is brought by the call
//! that meets it, so a worker that died holds nobody up.

use super::*;
use std::collections::HashMap;

/// Most buckets whose layouts are remembered; all are forgotten when there are more.
const LAYOUTS_MAX: usize = 10_000;

/// Most steps in following a key from shard to shard.
const STEPS_MAX: u32 = 100;

/// Most times that the counts of shards are read anew because keys moved meanwhile.
const COUNTS_TRIES: u32 = 5;

/// Most steps to the end of a split of an empty shard.
const EMPTY_STEPS_MAX: u32 = 64;

/// What is known of layouts.
#[derive(Clone, Debug, Default)]
pub(in crate::catalogue) struct Layouts {
    known: Arc<Mutex<HashMap<BucketId, Layout>>>,
}

impl Layouts {
    fn with<T>(&self, look: impl FnOnce(&mut HashMap<BucketId, Layout>) -> T) -> T {
        look(&mut self.known.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn find(&self, bucket: &Bucket, key: &[u8]) -> u32 {
        self.with(|known| match known.get(&bucket.id) {
            Some(layout) => layout.find(bucket.shards, key),
            None => shard_of(key, bucket.shards),
        })
    }

    fn shards(&self, bucket: &Bucket) -> Vec<u32> {
        self.with(|known| match known.get(&bucket.id) {
            Some(layout) => layout.shards(bucket.shards),
            None => (0..bucket.shards).collect(),
        })
    }

    fn note(&self, bucket: &Bucket, shard: u32, reach: Reach) {
        if reach != Reach::default() {
            self.learn(bucket, |layout| layout.note(shard, reach));
        }
    }

    /// Where a call goes on that a shard refused because the key is gone.
    fn go_on(&self, bucket: &Bucket, shard: u32, reach: Reach, key: &[u8]) -> Option<u32> {
        self.learn(bucket, |layout| layout.go_on(bucket.shards, shard, reach, key))
    }

    fn learn<T>(&self, bucket: &Bucket, learn: impl FnOnce(&mut Layout) -> T) -> T {
        self.with(|known| {
            if known.len() >= LAYOUTS_MAX && !known.contains_key(&bucket.id) {
                known.clear();
            }
            learn(known.entry(bucket.id).or_default())
        })
    }
}

/// The way of a call to the shard of its key.
#[derive(Debug, Default)]
pub(super) struct Trail {
    steps: u32,
    /// The last shard that said that the key is gone.
    gone_from: Option<u32>,
}

/// Heads of the shards of a bucket.
pub(crate) type Heads = BTreeMap<u32, ShardHead>;

impl<C: Cluster> Flat<C> {
    /// The shard that has a key, as far as is known.
    pub(super) fn shard_for(&self, bucket: &Bucket, key: &[u8]) -> u32 {
        self.commons.layouts.find(bucket, key)
    }

    /// The shards that are known.
    pub(in crate::catalogue) fn known_shards(&self, bucket: &Bucket) -> Vec<u32> {
        self.commons.layouts.shards(bucket)
    }

    /// A shard said how far its splits are.
    pub(in crate::catalogue) fn note_reach(&self, bucket: &Bucket, shard: u32, reach: Reach) {
        self.commons.layouts.note(bucket, shard, reach);
    }

    /// Calls a method about a key; the answer, and the shard that gave it.
    pub(in crate::catalogue) async fn keyed<I: Encode, O: Decode>(
        &self,
        bucket: &Bucket,
        key: &[u8],
        method: &str,
        input: &I,
    ) -> Result<(u32, O), CatalogueError> {
        let mut shard = self.shard_for(bucket, key);
        let mut trail = Trail::default();
        loop {
            match self.live_shard(bucket, shard, method, input).await {
                Err(CatalogueError::Refused(refusal)) => {
                    shard = self.follow(bucket, key, shard, refusal, &mut trail).await?;
                }
                done => return Ok((shard, done?)),
            }
        }
    }

    /// Where a call goes on that a shard refused because it has not got the key. All other refusals are given
    /// back.
    pub(super) async fn follow(
        &self,
        bucket: &Bucket,
        key: &[u8],
        shard: u32,
        refusal: Refusal,
        trail: &mut Trail,
    ) -> Result<u32, CatalogueError> {
        trail.steps += 1;
        if trail.steps > STEPS_MAX {
            let error = "the shard of the key is being split, and the key was not found: try again";
            return Err(Error::Unavailable(error.into()).into());
        }
        match refusal {
            Refusal::Moved { reach } => {
                trail.gone_from = Some(shard);
                let next = self.commons.layouts.go_on(bucket, shard, reach, key);
                next.ok_or_else(|| Error::Damaged("a split into no shard".into()).into())
            }
            Refusal::NotYet {} => {
                let parent = parent_of(bucket.shards, shard).ok_or_else(|| {
                    Error::Damaged("a shard that a bucket began with is not filled".into())
                })?;
                if trail.gone_from != Some(parent) {
                    return Ok(parent);
                }
                self.bring(bucket, parent, Caller::Client).await?;
                Ok(shard)
            }
            refusal => Err(refusal.into()),
        }
    }

    /// Brings the page that a shard has set out to the new one; returns of which split it is and where it begins,
    /// `None` if no page is set out.
    pub(in crate::catalogue) async fn bring(
        &self,
        bucket: &Bucket,
        shard: u32,
        caller: Caller,
    ) -> Result<Option<(u32, Bytes)>, CatalogueError> {
        let lineage: Option<Lineage> =
            self.called_shard(bucket, shard, "shape", &Nothing {}, caller).await?;
        let Some(lineage) = lineage else { return Ok(None) };
        self.note_reach(bucket, shard, lineage.reach());
        let depth = lineage.depth;
        let (Some(child), Some(split)) = (lineage.filled(), lineage.split) else { return Ok(None) };
        let Some(page) = split.page else { return Ok(None) };
        let from = split.gone;
        let filled: Option<Lineage> =
            self.called_shard(bucket, child, "shape", &Nothing {}, caller).await?;
        let mut filling = filled.and_then(|lineage| lineage.filling).unwrap_or_default();
        // Pages do not change: each round takes one more part of it, here or elsewhere.
        while !filling.done && filling.below == from {
            let carry = Carry { from: from.clone(), at: filling.staged.clone() };
            let load: Option<Load> =
                self.called_shard(bucket, shard, "carry", &carry, caller).await?;
            // Let go, so it was taken.
            let Some(load) = load else { break };
            let take = Take { from: from.clone(), until: page.until.clone(), at: carry.at, load };
            filling = self.called_shard(bucket, child, "take", &take, caller).await?;
        }
        Ok(Some((depth, from)))
    }

    /// The heads of all shards of a bucket as they are, sealed or not; those that are not there are left out.
    pub(crate) async fn heads(&self, bucket: &Bucket) -> Result<Heads, CatalogueError> {
        let mut heads = Heads::new();
        let mut asked = std::collections::BTreeSet::new();
        loop {
            let shards: Vec<u32> =
                self.known_shards(bucket).into_iter().filter(|s| !asked.contains(s)).collect();
            if shards.is_empty() {
                return Ok(heads);
            }
            let stats = shards.iter().map(|&shard| async move {
                self.ask_shard::<_, ShardHead>(bucket, shard, "stats", &Nothing {}).await
            });
            for (shard, head) in shards.iter().zip(try_join_all(stats).await?) {
                asked.insert(*shard);
                if let Ok(head) = head {
                    self.note_reach(bucket, *shard, head.reach());
                    heads.insert(*shard, head);
                }
            }
        }
    }

    /// The heads, and what of their counts is of another shard as well: read anew while keys move in between.
    pub(in crate::catalogue) async fn counted_heads(
        &self,
        bucket: &Bucket,
    ) -> Result<(Heads, Amounts), CatalogueError> {
        let mut tries = 0;
        loop {
            let heads = self.heads(bucket).await?;
            if (0..bucket.shards).any(|root| !heads.contains_key(&root)) {
                return Err(Refusal::NoBucket {}.into());
            }
            let (mut twice, mut steady) = (Amounts::default(), true);
            for (shard, head) in &heads {
                let lineage = head.lineage.as_ref();
                let Some(child) = lineage.and_then(Lineage::filled) else { continue };
                let Some(child) = heads.get(&child) else { continue };
                let part = head.counted_twice(child);
                twice.objects += part.objects;
                twice.bytes += part.bytes;
                twice.versions += part.versions;
                twice.version_bytes += part.version_bytes;
                let now = self.ask_shard::<_, ShardHead>(bucket, *shard, "stats", &Nothing {});
                let now = now.await?.ok().and_then(|head| head.lineage);
                steady &=
                    now.map(|l| (l.depth, l.split)) == lineage.map(|l| (l.depth, l.split.clone()));
            }
            tries += 1;
            if steady || tries == COUNTS_TRIES {
                return Ok((heads, twice));
            }
        }
    }

    /// One step of the split of a shard: the page that is set out is brought and let go. `false` when no split
    /// goes on.
    pub(in crate::catalogue) async fn split_step(
        &self,
        bucket: &Bucket,
        shard: u32,
    ) -> Result<bool, CatalogueError> {
        self.split_step_by(bucket, shard, Caller::Worker).await
    }

    async fn split_step_by(
        &self,
        bucket: &Bucket,
        shard: u32,
        caller: Caller,
    ) -> Result<bool, CatalogueError> {
        let taken = self.bring(bucket, shard, caller).await?;
        let pass = Pass { taken, max: self.page_keys.get() };
        loop {
            match self.called_shard(bucket, shard, "pass", &pass, caller).await? {
                Passed::Again {} => {}
                Passed::Page { .. } => return Ok(true),
                Passed::Done {} => return Ok(false),
            }
        }
    }

    /// Begins the split of a shard that was split `depth` times. `false` if there cannot be more shards.
    pub(in crate::catalogue) async fn begin_split(
        &self,
        bucket: &Bucket,
        shard: u32,
        depth: u32,
    ) -> Result<bool, CatalogueError> {
        let roots = bucket.shards;
        let Some(child) = child_of(roots, shard, depth) else { return Ok(false) };
        let settings = bucket.settings.clone();
        let sprout = Sprout { bucket: bucket.id, settings, roots, shard: child };
        let made: Answer<Nothing> = self.shard(bucket, child, "sprout", &sprout).await?;
        made.0?;
        let begin = BeginSplit { roots, shard, depth };
        match self.work_shard::<_, Nothing>(bucket, shard, "split", &begin).await {
            Err(CatalogueError::Refused(refusal)) => {
                // Nobody clears a shard of a bucket that is gone already.
                let present = self.look_up(&bucket.name).await?;
                if present.is_none_or(|present| present.id != bucket.id) {
                    // Later than every removal that there was.
                    let seal = Seal { removal: u64::MAX };
                    let _: Answer<Nothing> = self.shard(bucket, child, "seal", &seal).await?;
                    let _: Answer<Nothing> =
                        self.shard(bucket, child, "clear", &Nothing {}).await?;
                }
                Err(refusal.into())
            }
            done => done.map(|_| true),
        }
    }

    /// Brings the splits of an empty bucket to their end, so that each shard can be seen to be empty.
    pub(super) async fn end_splits(&self, bucket: &Bucket) -> Result<(), CatalogueError> {
        for (shard, head) in self.heads(bucket).await? {
            let mut steps = 0;
            let splits = head.lineage.is_some_and(|lineage| lineage.split.is_some());
            while splits
                && steps < EMPTY_STEPS_MAX
                && self.split_step_by(bucket, shard, Caller::Client).await?
            {
                steps += 1;
            }
        }
        Ok(())
    }

    /// A page of a shard, with how far the shard's splits were at the same moment.
    pub(in crate::catalogue) async fn live_page<I: Encode, O: Decode>(
        &self,
        bucket: &Bucket,
        shard: u32,
        method: &str,
        input: &I,
    ) -> Result<(O, Option<Lineage>), CatalogueError> {
        let mut answer = self.ask_page(bucket, shard, method, input).await?;
        if answer == Err(Refusal::NoBucket {}) {
            let _: Option<Lineage> = self.closed_shard(bucket, shard, "shape", &Nothing {}).await?;
            answer = self.ask_page(bucket, shard, method, input).await?;
        }
        let page = answer?;
        let lineage = page.1;
        if let Some(lineage) = &lineage {
            self.note_reach(bucket, shard, lineage.reach());
        }
        let page = O::from_bytes(page.0);
        let page = page.map_err(|error| Error::Damaged(format!("answer of {method}: {error}")))?;
        Ok((page, lineage))
    }

    /// Two methods as one read: both see the same state of the shard.
    async fn ask_page<I: Encode>(
        &self,
        bucket: &Bucket,
        shard: u32,
        method: &str,
        input: &I,
    ) -> Result<Done<(Bytes, Option<Lineage>)>, CatalogueError> {
        let exec = |method: &str, input: Bytes| Op::Exec {
            class: CLASS.to_owned(),
            method: method.to_owned(),
            input,
        };
        let ops = vec![exec(method, input.to_bytes()), exec("shape", Nothing {}.to_bytes())];
        let name = shard_name(bucket.id, bucket.generation, shard);
        let results = match self.cluster.operate(INDEX_POOL, name, ops, true).await {
            Err(Error::NotFound(_)) => return Ok(Err(Refusal::NoBucket {})),
            results => results?,
        };
        let damaged = |why: &str| Error::Damaged(format!("answer of {CLASS}.{method}: {why}"));
        let mut results = results.into_iter().map(|result| result.data);
        let (Some(page), Some(shape)) = (results.next(), results.next()) else {
            return Err(damaged("one of two is missing").into());
        };
        let shape = Answer::<Option<Lineage>>::from_bytes(shape);
        let lineage = match shape.map_err(|error| damaged(&error.to_string()))?.0 {
            Ok(lineage) => lineage,
            Err(refusal) => return Ok(Err(refusal)),
        };
        // The page is an `Answer` as well: a flag and the rest.
        match page.first() {
            Some(1) => Ok(Ok((page.slice(1..), lineage))),
            _ => {
                let refused = Answer::<Nothing>::from_bytes(page);
                match refused.map_err(|error| damaged(&error.to_string()))?.0 {
                    Err(refusal) => Ok(Err(refusal)),
                    Ok(_) => Err(damaged("neither page nor refusal").into()),
                }
            }
        }
    }
}
