//! Flat buckets: index shards and registry in omaps, data in striped objects.
//!
//! Correctness does not rest on the cache of buckets: a shard knows to which bucket it belongs and
//! whether that is being removed, and says `NoBucket`. Then, and only then, the registry is asked again.

use super::*;
use crate::cluster::{Cluster, DATA_POOL, INDEX_POOL, META_POOL, Place};
use crate::pace::Meters;
use crate::s3::access::rules::document;
use futures_util::future::try_join_all;
use route::Trail;
use std::cell::{Cell, RefCell};
use store_base::PoolId;
use store_base::class::{self, MethodKind};
use store_base::codec::{Decode, Encode};
use store_base::op::Op;

mod removal;
pub(super) mod route;

/// How long a looked-up bucket is believed.
const CACHE_TTL: Duration = Duration::from_secs(1);

/// Most buckets in the cache; it is emptied when there are more.
const CACHED_MAX: usize = 10_000;

/// Most shards that are remembered to have garbage; the scan finds the others.
const DIRTY_MAX: usize = 10_000;

/// Most keys in one `remove`.
const REMOVE_BATCH: usize = 100;

/// An intent of so many bytes or more is of a body whose length is not known.
const OPEN_BODY_BYTES: u64 = 5 << 30;

/// Who calls a shard of a bucket that ought to be there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Caller {
    /// A client waits: a removal of the bucket that does not come to its end is taken back.
    Client,
    /// A worker, who comes again: a bucket that is being removed is left alone.
    Worker,
}

/// Shards that have garbage: their bucket, and since when, in ms since 1970.
type Dirty = BTreeMap<(BucketId, u32), (Rc<Bucket>, u64)>;

/// Items of a removal, and their places in the request.
type Placed = (Vec<usize>, Vec<RemoveItem>);

/// Where the data of a bucket is.
pub(super) fn data_place(bucket: &Bucket) -> Place {
    match bucket.data_pool {
        PoolId(0) => DATA_POOL,
        pool => Place::Placed(pool),
    }
}

/// A bucket that was looked up.
struct Cached {
    bucket: Rc<Bucket>,
    /// Until when it is believed.
    until: Time,
    /// [`Commons::changes`] before it was looked up: it is not believed after another.
    changes: u64,
}

/// The catalogue of flat buckets.
pub struct Flat<C> {
    pub(super) cluster: C,
    pub(super) commons: Commons,
    cache: RefCell<BTreeMap<String, Cached>>,
    pub(super) dirty: RefCell<Dirty>,
    /// A bucket was removed: its shards can be cleared.
    pub(super) doomed: Cell<bool>,
    /// Most keys of a page that a split hands over.
    page_keys: Cell<u32>,
}

impl<C: Cluster> Flat<C> {
    /// Over a cluster. `commons` is shared by all catalogues of a process.
    pub fn new(cluster: C, commons: Commons) -> Self {
        Flat {
            cluster,
            commons,
            cache: RefCell::default(),
            dirty: RefCell::default(),
            doomed: Cell::new(false),
            page_keys: Cell::new(PAGE_KEYS_MAX),
        }
    }

    /// Calls a class method.
    pub(super) async fn exec<I: Encode, O: Decode>(
        &self,
        pool: Place,
        object: String,
        class: &str,
        method: &str,
        input: &I,
    ) -> Result<O, CatalogueError> {
        let kind = class::method(class, method).map(|method| method.kind);
        let op = Op::Exec {
            class: class.to_owned(),
            method: method.to_owned(),
            input: input.to_bytes(),
        };
        let read_only = kind == Some(MethodKind::Read);
        let result = self.cluster.operate(pool, object, vec![op], read_only).await;
        let results = self.noted(pool, result)?;
        let data = results.into_iter().next().map(|result| result.data).unwrap_or_default();
        O::from_bytes(data).map_err(|error| {
            Error::Damaged(format!("answer of {class}.{method} not understood: {error}")).into()
        })
    }

    /// Where there is no room garbage is not left to lie. Daemons that are full hold the data of many pools; a quota is
    /// one pool's.
    fn noted<T>(&self, pool: Place, result: Result<T, Error>) -> Result<T, Error> {
        match result {
            Err(Error::Full(_)) => self.commons.note_full(None),
            Err(Error::Quota(_)) => self.commons.note_full(Some(pool)),
            _ => {}
        }
        result
    }

    pub(crate) async fn registry<I: Encode, O: Decode>(
        &self,
        object: String,
        method: &str,
        input: &I,
    ) -> Result<O, CatalogueError> {
        self.exec(META_POOL, object, REGISTRY_CLASS, method, input).await
    }

    /// Calls a method of a shard as it is, whatever it answers.
    pub(crate) async fn shard<I: Encode, O: Decode>(
        &self,
        bucket: &Bucket,
        shard: u32,
        method: &str,
        input: &I,
    ) -> Result<O, CatalogueError> {
        let name = shard_name(bucket.id, bucket.generation, shard);
        self.exec(INDEX_POOL, name, CLASS, method, input).await
    }

    /// Calls a method of a shard of a bucket that ought to be there.
    pub(super) async fn live_shard<I: Encode, O: Decode>(
        &self,
        bucket: &Bucket,
        shard: u32,
        method: &str,
        input: &I,
    ) -> Result<O, CatalogueError> {
        self.called_shard(bucket, shard, method, input, Caller::Client).await
    }

    /// The same for a worker.
    pub(super) async fn work_shard<I: Encode, O: Decode>(
        &self,
        bucket: &Bucket,
        shard: u32,
        method: &str,
        input: &I,
    ) -> Result<O, CatalogueError> {
        self.called_shard(bucket, shard, method, input, Caller::Worker).await
    }

    async fn called_shard<I: Encode, O: Decode>(
        &self,
        bucket: &Bucket,
        shard: u32,
        method: &str,
        input: &I,
        caller: Caller,
    ) -> Result<O, CatalogueError> {
        match self.ask_shard(bucket, shard, method, input).await? {
            Err(Refusal::NoBucket {}) if caller == Caller::Client => {
                self.closed_shard(bucket, shard, method, input).await
            }
            done => Ok(done?),
        }
    }

    /// A shard that is not there is as good as one of another bucket.
    async fn ask_shard<I: Encode, O: Decode>(
        &self,
        bucket: &Bucket,
        shard: u32,
        method: &str,
        input: &I,
    ) -> Result<Done<O>, CatalogueError> {
        match self.shard::<I, Answer<O>>(bucket, shard, method, input).await {
            Err(CatalogueError::Cluster(Error::NotFound(_))) => Ok(Err(Refusal::NoBucket {})),
            answer => Ok(answer?.0),
        }
    }

    async fn look_up(&self, name: &str) -> Result<Option<Rc<Bucket>>, CatalogueError> {
        let read = ReadBucket { name: name.to_owned() };
        let record = self.registry::<_, Option<BucketRecord>>(registry_name(name), "read", &read);
        let found = match record.await {
            // Nobody made a bucket of this registry object yet.
            Err(CatalogueError::Cluster(Error::NotFound(_))) => None,
            other => other?,
        };
        Ok(found.filter(|record| record.ready).map(Rc::new))
    }

    /// `changes`: the count before the bucket was looked up.
    fn remember(&self, bucket: Rc<Bucket>, changes: u64) -> Rc<Bucket> {
        let mut cache = self.cache.borrow_mut();
        if cache.len() >= CACHED_MAX {
            cache.clear();
        }
        let until = clock::now() + CACHE_TTL;
        cache.insert(bucket.name.clone(), Cached { bucket: bucket.clone(), until, changes });
        bucket
    }

    /// Makes the shards and opens the bucket. Harmless to repeat.
    pub(super) async fn finish_create(
        &self,
        record: &Bucket,
    ) -> Result<Rc<Bucket>, CatalogueError> {
        let init = Init { bucket: record.id, settings: record.settings.clone() };
        let changes = self.commons.changes();
        let shards = (0..record.shards).map(|shard| {
            let init = &init;
            async move { self.shard::<_, Answer<Nothing>>(record, shard, "init", init).await }
        });
        for answer in try_join_all(shards).await? {
            answer.0?;
        }
        let named = NamedBucket { name: record.name.clone(), id: record.id, removing: 0 };
        let done: Answer<Nothing> =
            self.registry(registry_name(&record.name), "ready", &named).await?;
        done.0?;
        Ok(self.remember(Rc::new(BucketRecord { ready: true, ..record.clone() }), changes))
    }

    async fn change_document<I: Encode>(
        &self,
        name: &str,
        method: &str,
        change: &I,
    ) -> Result<(), CatalogueError> {
        let done = self.registry::<_, Answer<Nothing>>(registry_name(name), method, change).await;
        // Also after a time-out: it may have happened.
        self.commons.note_change();
        done?.0?;
        Ok(())
    }

    pub(super) fn mark_dirty(&self, bucket: &Bucket, shard: u32, now_ms: u64) {
        let mut dirty = self.dirty.borrow_mut();
        if dirty.len() < DIRTY_MAX {
            dirty.entry((bucket.id, shard)).or_insert_with(|| (Rc::new(bucket.clone()), now_ms));
        }
    }

    pub(super) fn mark_replaced(
        &self,
        bucket: &Bucket,
        shard: u32,
        replaced: &Option<Entry>,
        now_ms: u64,
    ) {
        if replaced.as_ref().is_some_and(|entry| entry.striped) {
            self.mark_dirty(bucket, shard, now_ms);
        }
    }

    /// `remove` holds all but the items.
    async fn remove_of_shard(
        &self,
        bucket: &Bucket,
        shard: u32,
        mut items: Vec<RemoveItem>,
        remove: &Remove,
    ) -> Result<Vec<Done<Removed>>, CatalogueError> {
        let mut outcomes = Vec::with_capacity(items.len());
        let mut batch_max = REMOVE_BATCH;
        while !items.is_empty() {
            let batch = items[..items.len().min(batch_max)].to_vec();
            let remove = Remove { items: batch, ..remove.clone() };
            let done = self.live_shard(bucket, shard, "remove", &remove).await;
            let done: Vec<Answer<Removed>> = match done {
                // A full cluster takes small removals only.
                Err(CatalogueError::Cluster(Error::Full(_) | Error::Quota(_))) if batch_max > 1 => {
                    batch_max = 1;
                    continue;
                }
                done => done?,
            };
            if done.is_empty() || done.len() > items.len() {
                return Err(Error::Damaged("remove answered for other keys".into()).into());
            }
            if items.drain(..done.len()).any(|item| item.notes.is_some()) {
                self.commons.note_events(bucket, shard);
            }
            for outcome in done {
                if let Ok(removed) = &outcome.0 {
                    self.mark_replaced(bucket, shard, &removed.entry, remove.now_ms);
                    let (more, less) = (removed.marker.as_ref(), removed.entry.as_ref());
                    self.commons.known.note(bucket, shard, more, less);
                }
                outcomes.push(outcome.0);
            }
        }
        Ok(outcomes)
    }

    /// Calls `put` or `complete` with what a quota leaves to the shard; the shard that took it. A shard that got keys
    /// by a split has more than was known when the ceiling was made: a refusal of it is looked at again.
    async fn commit<I: Encode>(
        &self,
        bucket: &Bucket,
        key: &[u8],
        size: u64,
        method: &str,
        with: impl Fn(Option<Ceiling>) -> I,
    ) -> Result<(u32, Committed), CatalogueError> {
        let mut shard = self.shard_for(bucket, key);
        let (mut trail, mut looked_again) = (Trail::default(), false);
        loop {
            let ceiling = self.ceiling(bucket, shard, size).await?;
            match self.live_shard(bucket, shard, method, &with(ceiling)).await {
                Err(CatalogueError::Refused(Refusal::Quota {}))
                    if !looked_again
                        && self.known_shards(bucket).len() > bucket.shards as usize =>
                {
                    looked_again = true;
                    self.commons.known.forget(bucket);
                }
                Err(CatalogueError::Refused(refusal)) => {
                    shard = self.follow(bucket, key, shard, refusal, &mut trail).await?;
                }
                done => {
                    let done: Committed = done?;
                    if self.commons.grew(bucket, shard, &done) {
                        self.commons.note_crowded(bucket, shard);
                    }
                    return Ok((shard, done));
                }
            }
        }
    }

    /// Marks the bucket of an object that ends by itself, before there is one: the worker looks at marked
    /// buckets only. The mark stays.
    async fn note_expiring(&self, bucket: &Bucket, expires_ms: u64) -> Result<(), CatalogueError> {
        if expires_ms == 0 || bucket.documents.contains_key(document::EXPIRING) {
            return Ok(());
        }
        let set = SetDocument {
            name: bucket.name.clone(),
            id: bucket.id,
            document: document::EXPIRING.to_owned(),
            value: Bytes::from_static(b"1"),
            expected: ExpectedDocuments::default(),
        };
        self.change_document(&set.name, "set_document", &set).await
    }

    /// Brings a bucket's settings to its shards.
    async fn spread_settings(&self, bucket: &Bucket) -> Result<(), CatalogueError> {
        let configure = Configure { settings: bucket.settings.clone() };
        let mut told = std::collections::BTreeSet::new();
        loop {
            // A shard that a split made meanwhile may have older ones.
            let _ = self.heads(bucket).await?;
            let shards: Vec<u32> =
                self.known_shards(bucket).into_iter().filter(|s| !told.contains(s)).collect();
            if shards.is_empty() {
                return Ok(());
            }
            let calls =
                shards.iter().map(|&shard| {
                    let configure = &configure;
                    async move {
                        self.live_shard::<_, Nothing>(bucket, shard, "configure", configure).await
                    }
                });
            try_join_all(calls).await?;
            told.extend(shards);
        }
    }
}

impl<C: Cluster> Catalogue for Flat<C> {
    fn bucket<'a>(&'a self, name: &'a str) -> Later<'a, Rc<Bucket>> {
        Box::pin(async move {
            if let Some(cached) = self.cache.borrow().get(name)
                && cached.until > clock::now()
                && cached.changes == self.commons.changes()
            {
                return Ok(cached.bucket.clone());
            }
            self.bucket_now(name).await
        })
    }

    fn bucket_now<'a>(&'a self, name: &'a str) -> Later<'a, Rc<Bucket>> {
        Box::pin(async move {
            let changes = self.commons.changes();
            let found = self.look_up(name).await?;
            Ok(self.remember(found.ok_or(Refusal::NoBucket {})?, changes))
        })
    }

    fn set_document(&self, set: SetDocument) -> Later<'_, ()> {
        Box::pin(async move { self.change_document(&set.name, "set_document", &set).await })
    }

    fn remove_document(&self, remove: RemoveDocument) -> Later<'_, ()> {
        Box::pin(
            async move { self.change_document(&remove.name, "remove_document", &remove).await },
        )
    }

    fn set_acl<'a>(&'a self, bucket: &'a Bucket, set: SetAcl) -> Later<'a, ()> {
        Box::pin(async move {
            self.keyed::<_, Nothing>(bucket, &set.key, "set_acl", &set).await?;
            Ok(())
        })
    }

    fn configure<'a>(&'a self, bucket: &'a Bucket, change: SettingsChange) -> Later<'a, ()> {
        Box::pin(async move {
            let configure = ConfigureBucket { name: bucket.name.clone(), id: bucket.id, change };
            let registry = registry_name(&bucket.name);
            let changed: Result<Answer<BucketRecord>, _> =
                self.registry(registry, "configure", &configure).await;
            // Also after a time-out: it may have happened.
            self.commons.note_change();
            let changes = self.commons.changes();
            let changed = changed?;
            let changed = self.remember(Rc::new(changed.0?), changes);
            self.spread_settings(&changed).await
        })
    }

    fn limits<'a>(&'a self, user: &'a str) -> Later<'a, Limits> {
        Box::pin(self.limits_of(user))
    }

    fn meters(&self) -> &Meters {
        &self.commons.meters
    }

    fn account<'a>(&'a self, id: &'a str) -> Later<'a, SwiftMetadata> {
        Box::pin(async move {
            let read = ReadAccount { id: id.to_owned() };
            let found: Result<Option<SwiftMetadata>, _> =
                self.registry(registry_name(id), "account", &read).await;
            match found {
                Err(CatalogueError::Cluster(Error::NotFound(_))) => Ok(SwiftMetadata::default()),
                found => Ok(found?.unwrap_or_default()),
            }
        })
    }

    fn set_account(&self, set: SetAccount) -> Later<'_, ()> {
        Box::pin(async move {
            let registry = registry_name(&set.id);
            let done: Answer<Nothing> = self.registry(registry, "set_account", &set).await?;
            done.0?;
            Ok(())
        })
    }

    fn identities<'a>(&'a self, shard: u32, ask: IdentityAsk) -> Later<'a, Option<IdentityAnswer>> {
        Box::pin(identities::ask(self, shard, ask))
    }

    fn change_account(&self, change: ChangeAccount) -> Later<'_, Result<(), identity::Refusal>> {
        Box::pin(identities::change(self, change))
    }

    fn changes(&self) -> u64 {
        self.commons.changes()
    }

    fn create_bucket(&self, wanted: BucketRecord) -> Later<'_, Creation> {
        Box::pin(async move {
            let create = CreateBucket { record: wanted };
            let registry = registry_name(&create.record.name);
            let record = match self.registry(registry, "create", &create).await? {
                Created::New {} => create.record,
                Created::Present { record }
                    if record.ready || record.owner != create.record.owner =>
                {
                    return Ok(Creation::Taken(Rc::new(record)));
                }
                // An earlier try that stopped half-way.
                Created::Present { record } => record,
            };
            Ok(Creation::Made(self.finish_create(&record).await?))
        })
    }

    fn remove_bucket<'a>(&'a self, bucket: &'a Bucket) -> Later<'a, ()> {
        Box::pin(async move {
            // Sealing disturbs writers: first a look that does not.
            let usage = self.usage(bucket).await?;
            if usage.objects > 0 || usage.versions > 0 {
                return Err(Refusal::NotEmpty {}.into());
            }
            self.end_splits(bucket).await?;
            let done = self.seal_and_remove(bucket).await;
            self.cache.borrow_mut().remove(&bucket.name);
            // The name may be taken again at once, and other threads must not look into the old bucket.
            self.commons.note_change();
            self.doomed.set(true);
            done
        })
    }

    fn buckets(&self, query: ListBuckets) -> Later<'_, BucketPage> {
        Box::pin(listing::buckets(self, query))
    }

    fn usage<'a>(&'a self, bucket: &'a Bucket) -> Later<'a, Usage> {
        Box::pin(async move {
            let (heads, twice) = match self.counted_heads(bucket).await {
                // Whether it is gone, the registry knows.
                Err(CatalogueError::Refused(Refusal::NoBucket {})) => {
                    let _: ShardHead = self.closed_shard(bucket, 0, "stats", &Nothing {}).await?;
                    self.counted_heads(bucket).await?
                }
                heads => heads?,
            };
            let sum = heads.values().fold(Usage::default(), |sum, head| Usage {
                objects: sum.objects.saturating_add(head.objects),
                bytes: sum.bytes.saturating_add(head.bytes),
                versions: sum.versions.saturating_add(head.versions),
                version_bytes: sum.version_bytes.saturating_add(head.version_bytes),
            });
            Ok(Usage {
                objects: sum.objects.saturating_sub(twice.objects),
                bytes: sum.bytes.saturating_sub(twice.bytes),
                versions: sum.versions.saturating_sub(twice.versions),
                version_bytes: sum.version_bytes.saturating_sub(twice.version_bytes),
            })
        })
    }

    fn read<'a>(&'a self, bucket: &'a Bucket, read: Read) -> Later<'a, Option<Found>> {
        Box::pin(async move { Ok(self.keyed(bucket, &read.key, "read", &read).await?.1) })
    }

    fn put<'a>(&'a self, bucket: &'a Bucket, mut put: Put) -> Later<'a, Committed> {
        put.settings.clone_from(&bucket.settings);
        Box::pin(async move {
            self.note_expiring(bucket, put.entry.expires_ms).await?;
            let (key, size) = (put.key.clone(), put.entry.size);
            let put_with = |ceiling| Put { ceiling, ..put.clone() };
            let (shard, done) = self.commit(bucket, &key, size, "put", put_with).await?;
            self.guard(bucket, &put.key, &done.entry).await?;
            self.mark_replaced(bucket, shard, &done.replaced, put.now_ms);
            let known = &self.commons.known;
            known.note(bucket, shard, Some(&done.entry), done.replaced.as_ref());
            if put.notes.is_some() {
                self.commons.note_events(bucket, shard);
            }
            Ok(done)
        })
    }

    fn remove<'a>(
        &'a self,
        bucket: &'a Bucket,
        mut remove: Remove,
    ) -> Later<'a, Vec<Done<Removed>>> {
        remove.settings.clone_from(&bucket.settings);
        Box::pin(async move {
            let mut outcomes = vec![Ok(Removed::default()); remove.items.len()];
            let items = std::mem::take(&mut remove.items);
            let mut open: Vec<(usize, u32, Trail)> = items
                .iter()
                .enumerate()
                .map(|(n, item)| (n, self.shard_for(bucket, &item.key), Trail::default()))
                .collect();
            while !open.is_empty() {
                let mut by_shard: BTreeMap<u32, Placed> = BTreeMap::new();
                let mut trails = BTreeMap::new();
                for (n, shard, trail) in open.drain(..) {
                    let of_shard = by_shard.entry(shard).or_default();
                    of_shard.0.push(n);
                    of_shard.1.push(items[n].clone());
                    trails.insert(n, (shard, trail));
                }
                let remove = &remove;
                let shards = by_shard.into_iter().map(|(shard, (places, items))| async move {
                    let outcomes = self.remove_of_shard(bucket, shard, items, remove).await?;
                    Ok::<_, CatalogueError>(places.into_iter().zip(outcomes))
                });
                for (n, outcome) in try_join_all(shards).await?.into_iter().flatten() {
                    match (outcome, trails.remove(&n)) {
                        (
                            Err(refusal @ (Refusal::Moved { .. } | Refusal::NotYet {})),
                            Some((shard, mut trail)),
                        ) => {
                            let key = &items[n].key;
                            let next = self.follow(bucket, key, shard, refusal, &mut trail).await?;
                            open.push((n, next, trail));
                        }
                        (outcome, _) => outcomes[n] = outcome,
                    }
                }
            }
            Ok(outcomes)
        })
    }

    fn lock<'a>(&'a self, bucket: &'a Bucket, lock: SetLock) -> Later<'a, Entry> {
        Box::pin(async move {
            if lock.change == (LockChange::Hold { on: false }) {
                self.release_hold(bucket, &lock.key, lock.version).await?;
            }
            let entry: Entry = self.keyed(bucket, &lock.key, "lock", &lock).await?.1;
            self.guard(bucket, &lock.key, &entry).await?;
            Ok(entry)
        })
    }

    fn guard<'a>(&'a self, bucket: &'a Bucket, key: &'a Bytes, entry: &'a Entry) -> Later<'a, ()> {
        Box::pin(Flat::guard(self, bucket, key, entry))
    }

    fn tag<'a>(&'a self, bucket: &'a Bucket, tags: SetTags) -> Later<'a, Entry> {
        Box::pin(async move { Ok(self.keyed(bucket, &tags.key, "tag", &tags).await?.1) })
    }

    fn describe<'a>(&'a self, bucket: &'a Bucket, describe: Describe) -> Later<'a, Entry> {
        Box::pin(async move {
            self.note_expiring(bucket, expiry_of(&describe.headers)).await?;
            Ok(self.keyed(bucket, &describe.key, "describe", &describe).await?.1)
        })
    }

    fn journal<'a>(&'a self, bucket: &'a Bucket, ask: JournalAsk) -> Later<'a, JournalAnswer> {
        Box::pin(journals::ask(self, bucket, ask))
    }

    fn versions<'a>(&'a self, bucket: &'a Bucket, list: ListVersions) -> Later<'a, VersionPage> {
        Box::pin(listing::versions(self, bucket, list))
    }

    fn list<'a>(&'a self, bucket: &'a Bucket, list: List) -> Later<'a, Page> {
        Box::pin(listing::objects(self, bucket, list))
    }

    fn intend<'a>(&'a self, bucket: &'a Bucket, intend: Intend) -> Later<'a, ()> {
        Box::pin(async move {
            // A sign of life of a long write is no new one; of a body of unknown length nothing is known.
            if !intend.renew && intend.data.size < OPEN_BODY_BYTES {
                let shard = self.shard_for(bucket, &intend.key);
                self.check_room(bucket, shard, intend.data.size).await?;
            }
            self.keyed::<_, Nothing>(bucket, &intend.key, "intend", &intend).await?;
            Ok(())
        })
    }

    fn cancel<'a>(&'a self, bucket: &'a Bucket, key: &'a Bytes, cancel: Cancel) -> Later<'a, ()> {
        Box::pin(async move {
            // Without the intent nothing happens: each shard that had the key, as far as is known, is asked. What
            // is missed is given up by the sweeper.
            let mut shard = self.shard_for(bucket, key);
            loop {
                self.shard::<_, Nothing>(bucket, shard, "cancel", &cancel).await?;
                self.mark_dirty(bucket, shard, cancel.now_ms);
                match parent_of(bucket.shards, shard) {
                    Some(parent) => shard = parent,
                    None => break,
                }
            }
            Ok(())
        })
    }

    fn write<'a>(
        &'a self,
        bucket: &'a Bucket,
        data: DataRef,
        offset: u64,
        bytes: Bytes,
    ) -> Later<'a, ()> {
        Box::pin(async move {
            let stripe = u64::from(data.stripe_bytes.max(1));
            let object = data.stripe_name(bucket.id, offset / stripe);
            let op = Op::Write { offset: offset % stripe, data: bytes };
            let pool = data_place(bucket);
            let result = self.cluster.operate(pool, object, vec![op], false).await;
            self.noted(pool, result)?;
            Ok(())
        })
    }

    fn read_data<'a>(
        &'a self,
        bucket: &'a Bucket,
        data: DataRef,
        offset: u64,
        length: u64,
    ) -> Later<'a, Bytes> {
        Box::pin(async move {
            let stripe = u64::from(data.stripe_bytes.max(1));
            let object = data.stripe_name(bucket.id, offset / stripe);
            let op = Op::Read { offset: offset % stripe, length };
            let results = self.cluster.operate(data_place(bucket), object, vec![op], true).await?;
            Ok(results.into_iter().next().map(|result| result.data).unwrap_or_default())
        })
    }

    fn cluster_keys(&self) -> Later<'_, Vec<SealedKey>> {
        Box::pin(async move {
            match self.registry(KEYS_OBJECT.to_owned(), "keys", &Nothing {}).await {
                // Nobody has encrypted anything yet.
                Err(CatalogueError::Cluster(Error::NotFound(_))) => Ok(Vec::new()),
                keys => keys,
            }
        })
    }

    fn add_cluster_key(&self, key: SealedKey) -> Later<'_, Vec<SealedKey>> {
        Box::pin(
            async move { self.registry(KEYS_OBJECT.to_owned(), "add_key", &AddKey { key }).await },
        )
    }

    fn wanted_cluster_key(&self) -> Later<'_, u32> {
        Box::pin(self.registry(KEYS_OBJECT.to_owned(), "wanted_key", &Nothing {}))
    }

    fn kms_key<'a>(&'a self, id: &'a str) -> Later<'a, Option<KmsKey>> {
        Box::pin(async move {
            let read = ReadKms { id: id.to_owned() };
            match self.registry(KMS_OBJECT.to_owned(), "kms_key", &read).await {
                // Nobody has made any key yet.
                Err(CatalogueError::Cluster(Error::NotFound(_))) => Ok(None),
                key => key,
            }
        })
    }

    fn change_kms(&self, change: ChangeKms) -> Later<'_, Result<KmsKey, KmsRefusal>> {
        Box::pin(async move {
            let outcome: KmsOutcome =
                self.registry(KMS_OBJECT.to_owned(), "kms_change", &change).await?;
            Ok(outcome.into_result())
        })
    }

    fn placement(&self, name: &str) -> Option<Placement> {
        self.cluster.placement(name)
    }

    fn placements(&self) -> Vec<String> {
        self.cluster.placements()
    }

    fn hold(&self, id: WriteId) -> Hold {
        self.commons.holds.hold(id)
    }

    fn begin<'a>(&'a self, bucket: &'a Bucket, mut begin: Begin) -> Later<'a, ()> {
        begin.settings.clone_from(&bucket.settings);
        Box::pin(async move {
            self.keyed::<_, Nothing>(bucket, &begin.key, "upload", &begin).await?;
            Ok(())
        })
    }

    fn add_part<'a>(&'a self, bucket: &'a Bucket, part: AddPart) -> Later<'a, ()> {
        Box::pin(async move {
            let (shard, replaced) = self.keyed(bucket, &part.key, "part", &part).await?;
            if replaced {
                self.mark_dirty(bucket, shard, part.now_ms);
            }
            Ok(())
        })
    }

    fn parts<'a>(&'a self, bucket: &'a Bucket, parts: Parts) -> Later<'a, PartPage> {
        Box::pin(async move { Ok(self.keyed(bucket, &parts.key, "parts", &parts).await?.1) })
    }

    fn uploads<'a>(&'a self, bucket: &'a Bucket, uploads: Uploads) -> Later<'a, UploadPage> {
        Box::pin(listing::uploads(self, bucket, uploads))
    }

    fn complete<'a>(&'a self, bucket: &'a Bucket, mut complete: Complete) -> Later<'a, Committed> {
        complete.settings.clone_from(&bucket.settings);
        Box::pin(async move {
            let (key, size) = (complete.key.clone(), complete.entry.size);
            let with = |ceiling| Complete { ceiling, ..complete.clone() };
            let (shard, done) = self.commit(bucket, &key, size, "complete", with).await?;
            self.guard(bucket, &complete.key, &done.entry).await?;
            let known = &self.commons.known;
            known.note(bucket, shard, Some(&done.entry), done.replaced.as_ref());
            if complete.notes.is_some() {
                self.commons.note_events(bucket, shard);
            }
            // Parts that were left out may have become garbage as well.
            self.mark_dirty(bucket, shard, complete.now_ms);
            Ok(done)
        })
    }

    fn abort<'a>(&'a self, bucket: &'a Bucket, abort: Abort) -> Later<'a, ()> {
        Box::pin(async move {
            let (shard, _) = self.keyed::<_, Nothing>(bucket, &abort.key, "abort", &abort).await?;
            self.mark_dirty(bucket, shard, abort.now_ms);
            Ok(())
        })
    }
}

#[cfg(test)]
mod tests;
