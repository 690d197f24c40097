//! What S3 stands on: buckets, index entries, listings, multipart state, and the data behind them.
//!
//! [`Catalogue`] is a trait because there will be a second kind of bucket (a directory of the
//! filesystem); today there is one implementation, [`flat::Flat`], over a [`crate::cluster::Cluster`]
//! that is real or in memory.

pub mod chores;
pub mod flat;
mod guard;
mod identities;
mod journals;
pub mod limits;
mod listing;
pub mod sweep;

use crate::cluster::Place;
use crate::pace::Meters;
use bytes::Bytes;
use futures_util::future::LocalBoxFuture;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use store_base::bucket::placement::Placement;
use store_base::bucket::*;
use store_base::error::Error;
use store_base::identity::{self, ChangeAccount};
use store_base::machine::Time;
use store_shell::clock;

/// A bucket as it was looked up.
pub type Bucket = BucketRecord;

/// Why the catalogue did not do something.
#[derive(Clone, Debug, thiserror::Error)]
pub enum CatalogueError {
    /// It may not be done: tell the client.
    #[error("refused: {0:?}")]
    Refused(Refusal),
    /// The cluster could not do it.
    #[error(transparent)]
    Cluster(#[from] Error),
}

impl From<Refusal> for CatalogueError {
    fn from(refusal: Refusal) -> Self {
        CatalogueError::Refused(refusal)
    }
}

impl From<CatalogueError> for crate::s3::error::S3Error {
    fn from(error: CatalogueError) -> Self {
        match error {
            CatalogueError::Refused(refusal) => refusal.into(),
            CatalogueError::Cluster(error) => error.into(),
        }
    }
}

/// What became of the wish for a bucket.
#[derive(Clone, Debug)]
pub enum Creation {
    /// It is there, and new.
    Made(Rc<Bucket>),
    /// The name was taken by this one.
    Taken(Rc<Bucket>),
}

/// Count and bytes of the objects of a bucket.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// How many.
    pub objects: u64,
    /// Bytes of their bodies.
    pub bytes: u64,
    /// How many older versions and delete markers there are.
    pub versions: u64,
    /// Bytes of their bodies.
    pub version_bytes: u64,
}

/// An answer that comes later.
pub type Later<'a, T> = LocalBoxFuture<'a, Result<T, CatalogueError>>;

/// What identity objects are asked.
#[derive(Clone, Debug)]
pub enum IdentityAsk {
    /// `key`
    Key(identity::AskKey),
    /// `bundle`
    Bundle(identity::Named),
    /// `entity`
    Entity(identity::Named),
    /// `list`
    List(identity::ListEntities),
    /// `policy`
    Policy(identity::AskPolicy),
    /// `policies`
    Policies(identity::ListPolicies),
    /// `counts`
    Counts(identity::CountAccount),
}

/// And what they answer.
#[derive(Clone, Debug)]
pub enum IdentityAnswer {
    /// `key`
    Key(Option<identity::Holder>),
    /// `bundle`
    Bundle(Option<identity::Bundle>),
    /// `entity`
    Entity(Option<identity::Entity>),
    /// `list`
    List(identity::EntityPage),
    /// `policy`
    Policy(Option<identity::ManagedPolicy>),
    /// `policies`
    Policies(identity::PolicyPage),
    /// `counts`
    Counts(identity::Counts),
}

/// What a journal is asked; inputs and outputs are those of the class methods.
#[derive(Clone, Debug)]
pub enum JournalAsk {
    /// `journal_add`
    Add(JournalAdd),
    /// `journal_settle`
    Settle(JournalSettle),
    /// `journal_cut`
    Cut(JournalCutAsk),
    /// `journal_read`
    Read(JournalRead),
    /// `journal_clear`
    Clear(JournalClear),
    /// `journals`, of the shard where the journal of this name would be.
    Named(Journals),
    /// `journals`, of a shard.
    List(u32, Journals),
}

/// And what it answers.
#[derive(Clone, Debug)]
pub enum JournalAnswer {
    /// `journal_add`
    Added(JournalAdded),
    /// `journal_settle`
    Settled,
    /// `journal_cut`
    Cut(JournalCut),
    /// `journal_read`
    Records(Vec<(u64, Bytes)>),
    /// `journal_clear`
    More(bool),
    /// `journals`
    List(Vec<(Bytes, Journal)>),
}

/// The catalogue. Inputs and refusals are those of the class methods (`store_base::bucket`), whose
/// documentation holds here.
pub trait Catalogue {
    /// The bucket of a name: at most a second old.
    fn bucket<'a>(&'a self, name: &'a str) -> Later<'a, Rc<Bucket>>;
    /// The bucket of a name as it is now: for answers about its settings.
    fn bucket_now<'a>(&'a self, name: &'a str) -> Later<'a, Rc<Bucket>>;
    /// Changes a bucket's settings. When this returns they are in force: no write by any gateway goes by
    /// older ones. After an error they may be in force for some keys and not for others, until the
    /// next change or write.
    fn configure<'a>(&'a self, bucket: &'a Bucket, change: SettingsChange) -> Later<'a, ()>;
    /// Makes or replaces a document of a bucket. This process believes it at once, others within a second.
    fn set_document(&self, set: SetDocument) -> Later<'_, ()>;
    /// Removes a document of a bucket; believed as in `set_document`.
    fn remove_document(&self, remove: RemoveDocument) -> Later<'_, ()>;
    /// The limits of a user, at most [`limits::LIMITS_TTL`] old.
    fn limits<'a>(&'a self, user: &'a str) -> Later<'a, Limits>;
    /// How fast users and buckets go, of the whole process.
    fn meters(&self) -> &Meters;
    /// What is kept of an account.
    fn account<'a>(&'a self, id: &'a str) -> Later<'a, SwiftMetadata>;
    /// Replaces what is kept of an account.
    fn set_account(&self, set: SetAccount) -> Later<'_, ()>;
    /// Asks an identity object; inputs and outputs are those of `store_base::identity`. `None` if nothing was
    /// ever kept in it.
    fn identities<'a>(&'a self, shard: u32, ask: IdentityAsk) -> Later<'a, Option<IdentityAnswer>>;
    /// Changes an account. Everything that this process looked up is forgotten.
    fn change_account(&self, change: ChangeAccount) -> Later<'_, Result<(), identity::Refusal>>;
    /// Grows with every change of a document or an account that this process made.
    fn changes(&self) -> u64;
    /// The cluster's keys for encrypted bodies, as they are stored.
    fn cluster_keys(&self) -> Later<'_, Vec<SealedKey>>;
    /// Adds one, if its version is the next; all keys then.
    fn add_cluster_key(&self, key: SealedKey) -> Later<'_, Vec<SealedKey>>;
    /// The least version that bodies are to be written with; 0 if nobody asked for a new one.
    fn wanted_cluster_key(&self) -> Later<'_, u32>;
    /// A key of the key ring, as it is stored.
    fn kms_key<'a>(&'a self, id: &'a str) -> Later<'a, Option<KmsKey>>;
    /// Changes one.
    fn change_kms(&self, change: ChangeKms) -> Later<'_, Result<KmsKey, KmsRefusal>>;
    /// Where the data of a new bucket goes that names this placement, or none (an empty name).
    fn placement(&self, name: &str) -> Option<Placement>;
    /// The names of all placements.
    fn placements(&self) -> Vec<String>;
    /// Makes a bucket; `wanted` says all but whether it is ready.
    fn create_bucket(&self, wanted: BucketRecord) -> Later<'_, Creation>;
    /// Removes an empty bucket.
    fn remove_bucket<'a>(&'a self, bucket: &'a Bucket) -> Later<'a, ()>;
    /// Buckets by name.
    fn buckets(&self, query: ListBuckets) -> Later<'_, BucketPage>;
    /// Counts the objects of a bucket.
    fn usage<'a>(&'a self, bucket: &'a Bucket) -> Later<'a, Usage>;

    /// An object, with its body if that is inline and wanted.
    fn read<'a>(&'a self, bucket: &'a Bucket, read: Read) -> Later<'a, Option<Found>>;
    /// Makes an object visible. The bucket's settings are filled in here, as in all calls that have
    /// them.
    fn put<'a>(&'a self, bucket: &'a Bucket, put: Put) -> Later<'a, Committed>;
    /// Removes objects and versions: one outcome per item.
    fn remove<'a>(&'a self, bucket: &'a Bucket, remove: Remove) -> Later<'a, Vec<Done<Removed>>>;
    /// Changes what keeps a version from being removed.
    fn lock<'a>(&'a self, bucket: &'a Bucket, lock: SetLock) -> Later<'a, Entry>;
    /// Brings the data of a version under its lock. Whoever makes a version or changes its lock does so by that; a
    /// second time it is for those who come after somebody that may have died in between.
    fn guard<'a>(&'a self, bucket: &'a Bucket, key: &'a Bytes, entry: &'a Entry) -> Later<'a, ()>;
    /// Gives a version other tags.
    fn tag<'a>(&'a self, bucket: &'a Bucket, tags: SetTags) -> Later<'a, Entry>;
    /// Replaces who else may use an object.
    fn set_acl<'a>(&'a self, bucket: &'a Bucket, set: SetAcl) -> Later<'a, ()>;
    /// Gives an object other headers and metadata.
    fn describe<'a>(&'a self, bucket: &'a Bucket, describe: Describe) -> Later<'a, Entry>;
    /// Keys in order.
    fn list<'a>(&'a self, bucket: &'a Bucket, list: List) -> Later<'a, Page>;
    /// Keys in order, the versions of each newest first.
    fn versions<'a>(&'a self, bucket: &'a Bucket, list: ListVersions) -> Later<'a, VersionPage>;

    /// Asks a journal of a bucket that takes logs.
    fn journal<'a>(&'a self, bucket: &'a Bucket, ask: JournalAsk) -> Later<'a, JournalAnswer>;

    /// Announces data.
    fn intend<'a>(&'a self, bucket: &'a Bucket, intend: Intend) -> Later<'a, ()>;
    /// Gives announced data up.
    fn cancel<'a>(&'a self, bucket: &'a Bucket, key: &'a Bytes, cancel: Cancel) -> Later<'a, ()>;
    /// Writes announced data; within one stripe.
    fn write<'a>(
        &'a self,
        bucket: &'a Bucket,
        data: DataRef,
        offset: u64,
        bytes: Bytes,
    ) -> Later<'a, ()>;
    /// Reads data; within one stripe.
    fn read_data<'a>(
        &'a self,
        bucket: &'a Bucket,
        data: DataRef,
        offset: u64,
        length: u64,
    ) -> Later<'a, Bytes>;
    /// Keeps data from being swept by this process while it is read.
    fn hold(&self, id: WriteId) -> Hold;

    /// Begins a multipart upload.
    fn begin<'a>(&'a self, bucket: &'a Bucket, begin: Begin) -> Later<'a, ()>;
    /// Adds a part.
    fn add_part<'a>(&'a self, bucket: &'a Bucket, part: AddPart) -> Later<'a, ()>;
    /// The parts of an upload.
    fn parts<'a>(&'a self, bucket: &'a Bucket, parts: Parts) -> Later<'a, PartPage>;
    /// The uploads of a bucket.
    fn uploads<'a>(&'a self, bucket: &'a Bucket, uploads: Uploads) -> Later<'a, UploadPage>;
    /// Makes the object of an upload visible.
    fn complete<'a>(&'a self, bucket: &'a Bucket, complete: Complete) -> Later<'a, Committed>;
    /// Ends an upload.
    fn abort<'a>(&'a self, bucket: &'a Bucket, abort: Abort) -> Later<'a, ()>;
}

/// What all catalogues of a process share.
#[derive(Clone, Debug, Default)]
pub struct Commons {
    /// The data that is being read.
    holds: Holds,
    /// Until when pools are taken for full; `None` stands for the whole cluster.
    full_until: Arc<Mutex<BTreeMap<Option<Place>, Time>>>,
    /// How many documents of buckets this process has changed: no cache believes what it looked up before
    /// the last of them.
    changes: Arc<AtomicU64>,
    /// What is known of limits, and of what is held.
    known: limits::Known,
    /// How fast users and buckets go.
    meters: Meters,
    /// Which shards have which keys.
    layouts: flat::route::Layouts,
    /// Shards that may be due for a split, or are in one.
    crowded: Arc<Mutex<BTreeMap<(BucketId, u32), Bucket>>>,
    /// Above how many objects and versions a shard is split; 0 where this process splits none.
    split_keys: Arc<AtomicU64>,
    /// By how much shards grew since they were last noted as crowded.
    growth: Arc<Mutex<BTreeMap<(BucketId, u32), u64>>>,
    /// Shards that have events to deliver.
    eventful: Arc<Mutex<BTreeMap<(BucketId, u32), Bucket>>>,
}

/// Most shards that are remembered to have events; the worker's search finds the others.
const EVENTFUL_MAX: usize = 10_000;

/// Most shards that are remembered as crowded; the scan finds the others.
const CROWDED_MAX: usize = 10_000;

/// A shard is looked at when it grew by this part of what makes it too large.
const GROWTH_LOOKS: u64 = 16;

/// For how long after a refused write garbage is not left to lie: whoever filled the cluster deletes now.
const FULL_FOR: Duration = Duration::from_secs(120);

impl Commons {
    /// A pool has no room, or the whole cluster has none.
    fn note_full(&self, pool: Option<Place>) {
        let mut full = self.full_until.lock().unwrap_or_else(PoisonError::into_inner);
        full.insert(pool, clock::now() + FULL_FOR);
    }

    /// A shard has events.
    fn note_events(&self, bucket: &Bucket, shard: u32) {
        let mut eventful = self.eventful.lock().unwrap_or_else(PoisonError::into_inner);
        if eventful.len() < EVENTFUL_MAX {
            eventful.entry((bucket.id, shard)).or_insert_with(|| bucket.clone());
        }
    }

    /// The shards that have events; they are forgotten here.
    fn eventful(&self) -> BTreeMap<(BucketId, u32), Bucket> {
        std::mem::take(&mut self.eventful.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// A shard may be due for a split.
    fn note_crowded(&self, bucket: &Bucket, shard: u32) {
        let mut crowded = self.crowded.lock().unwrap_or_else(PoisonError::into_inner);
        if crowded.len() < CROWDED_MAX {
            crowded.entry((bucket.id, shard)).or_insert_with(|| bucket.clone());
        }
    }

    /// From now on shards are split above so many objects and versions.
    fn split_above(&self, keys: u64) {
        self.split_keys.store(keys, Ordering::Relaxed);
    }

    /// Whether a shard that holds this is too large.
    fn is_crowded(&self, head: &ShardHead) -> bool {
        let most = self.split_keys.load(Ordering::Relaxed);
        most > 0 && head.objects.saturating_add(head.versions) > most
    }

    /// A write went into a shard. Whether the shard grew so much that it should be looked at.
    fn grew(&self, bucket: &Bucket, shard: u32, done: &Committed) -> bool {
        let most = self.split_keys.load(Ordering::Relaxed);
        if most == 0 || done.replaced.is_some() {
            return false;
        }
        let mut growth = self.growth.lock().unwrap_or_else(PoisonError::into_inner);
        if growth.len() >= CROWDED_MAX {
            growth.clear();
        }
        let grown = growth.entry((bucket.id, shard)).or_default();
        *grown += 1;
        let looks = *grown >= (most / GROWTH_LOOKS).max(1);
        if looks {
            *grown = 0;
        }
        looks
    }

    /// The shards that may be due; they are forgotten here.
    fn crowded(&self) -> BTreeMap<(BucketId, u32), Bucket> {
        std::mem::take(&mut self.crowded.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn note_change(&self) {
        self.changes.fetch_add(1, Ordering::AcqRel);
    }

    fn changes(&self) -> u64 {
        self.changes.load(Ordering::Acquire)
    }

    /// Whether a pool had no room a moment ago.
    fn is_full(&self, pool: Place) -> bool {
        let full = self.full_until.lock().unwrap_or_else(PoisonError::into_inner);
        let until = [full.get(&Some(pool)), full.get(&None)].into_iter().flatten().max();
        until.is_some_and(|until| clock::now() < *until)
    }
}

/// The data that this process is reading now.
#[derive(Clone, Debug, Default)]
pub struct Holds {
    held: Arc<Mutex<BTreeMap<WriteId, u32>>>,
}

impl Holds {
    fn hold(&self, id: WriteId) -> Hold {
        *self.locked().entry(id).or_default() += 1;
        Hold { holds: self.clone(), id }
    }

    fn is_held(&self, id: &WriteId) -> bool {
        self.locked().contains_key(id)
    }

    fn locked(&self) -> std::sync::MutexGuard<'_, BTreeMap<WriteId, u32>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Data is being read until this is dropped.
pub struct Hold {
    holds: Holds,
    id: WriteId,
}

impl Drop for Hold {
    fn drop(&mut self) {
        let mut held = self.holds.locked();
        if let Some(count) = held.get_mut(&self.id) {
            *count -= 1;
            if *count == 0 {
                held.remove(&self.id);
            }
        }
    }
}
