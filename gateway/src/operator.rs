//! What operators ask and change of buckets and users: limits, what buckets hold, how far the workers are. It goes
//! to the cluster itself, past every gateway; gateways hear of changed limits within seconds
//! ([`crate::catalogue::limits::LIMITS_TTL`], and a second for a bucket's).

pub mod kms;

use crate::catalogue::flat::Flat;
use crate::catalogue::limits::of_bucket;
use crate::catalogue::{Bucket, Catalogue, CatalogueError, Commons, Usage};
use crate::cluster::Cluster;
use crate::s3::access::rules::document;
use store_base::bucket::{
    Answer, Chore, LIMITS_DOCUMENT, Limits, ListBuckets, Nothing, ReadChore, Refusal, SetDocument,
    SetLimits, registry_name,
};
use store_base::error::Error;

/// Buckets in one page.
const BUCKETS_PER_PAGE: u32 = 1000;

/// How often a change begins anew when another came before it.
const CHANGES_MAX: u32 = 10;

/// Whose limits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Whom {
    /// A user's, over all of his buckets.
    User(String),
    /// A bucket's.
    Bucket {
        /// Its name.
        name: String,
        /// Whose it must be.
        owner: String,
    },
}

/// Why something was not done, as a sentence.
#[derive(Clone, Debug, thiserror::Error)]
pub enum OperatorError {
    /// There is no such bucket, or it is another's: look at the names.
    #[error("{0}")]
    NotFound(String),
    /// What is there forbids it: the sentence says what to do first.
    #[error("{0}")]
    Refused(String),
    /// The cluster could not do it.
    #[error(transparent)]
    Catalogue(#[from] CatalogueError),
}

/// An operator at work.
pub struct Operator<C> {
    flat: Flat<C>,
}

/// A bucket, for operators.
#[derive(Clone, Debug)]
pub struct Line {
    /// Its record.
    pub bucket: Bucket,
    /// What it holds.
    pub usage: Usage,
}

impl<C: Cluster> Operator<C> {
    /// Over a cluster.
    pub fn new(cluster: C) -> Self {
        Operator { flat: Flat::new(cluster, Commons::default()) }
    }

    /// The buckets of an owner, or all, with what they hold.
    pub async fn buckets(&self, owner: Option<String>) -> Result<Vec<Line>, OperatorError> {
        let mut lines = Vec::new();
        for bucket in self.records(owner).await? {
            let usage = match self.flat.usage(&bucket).await {
                // Removed meanwhile.
                Err(CatalogueError::Refused(Refusal::NoBucket {})) => continue,
                usage => usage?,
            };
            lines.push(Line { bucket, usage });
        }
        Ok(lines)
    }

    async fn records(&self, owner: Option<String>) -> Result<Vec<Bucket>, OperatorError> {
        let mut query = ListBuckets { owner, max: BUCKETS_PER_PAGE, ..ListBuckets::default() };
        let mut found = Vec::new();
        loop {
            let page = self.flat.buckets(query.clone()).await?;
            match page.buckets.last() {
                Some(last) if page.more => query.after.clone_from(&last.name),
                _ => {
                    found.extend(page.buckets.into_iter().filter(|bucket| bucket.ready));
                    return Ok(found);
                }
            }
            found.extend(page.buckets.into_iter().filter(|bucket| bucket.ready));
        }
    }

    /// The limits of somebody.
    pub async fn limits(&self, whom: &Whom) -> Result<Limits, OperatorError> {
        match whom {
            Whom::User(id) => Ok(self.flat.limits(id).await?),
            Whom::Bucket { name, owner } => Ok(of_bucket(&*self.bucket(name, owner).await?)),
        }
    }

    /// Changes the limits of somebody. Those of a bucket are read again when another operator changed them
    /// meanwhile; of a user's the last change holds.
    pub async fn change_limits(
        &self,
        whom: &Whom,
        change: impl Fn(&mut Limits),
    ) -> Result<Limits, OperatorError> {
        let mut tries = 1;
        loop {
            match self.try_change_limits(whom, &change).await {
                Err(OperatorError::Catalogue(CatalogueError::Refused(
                    Refusal::Precondition {},
                ))) if tries < CHANGES_MAX => tries += 1,
                changed => return changed,
            }
        }
    }

    async fn try_change_limits(
        &self,
        whom: &Whom,
        change: impl Fn(&mut Limits),
    ) -> Result<Limits, OperatorError> {
        let limits = match whom {
            Whom::User(id) => {
                let mut limits = self.flat.limits(id).await?;
                change(&mut limits);
                let set = SetLimits { id: id.clone(), limits };
                let registry = registry_name(id);
                let _: Nothing = self.flat.registry(registry, "set_limits", &set).await?;
                limits
            }
            Whom::Bucket { name, owner } => {
                let bucket = self.bucket(name, owner).await?;
                let mut limits = of_bucket(&bucket);
                change(&mut limits);
                let before = bucket.documents.get(LIMITS_DOCUMENT).cloned();
                let set = SetDocument {
                    name: name.clone(),
                    id: bucket.id,
                    document: LIMITS_DOCUMENT.to_owned(),
                    value: limits.document(),
                    expected: [(LIMITS_DOCUMENT.to_owned(), before)].into(),
                };
                self.flat.set_document(set).await?;
                limits
            }
        };
        Ok(limits)
    }

    async fn bucket(&self, name: &str, owner: &str) -> Result<std::rc::Rc<Bucket>, OperatorError> {
        match self.flat.bucket_now(name).await {
            Ok(bucket) if bucket.owner == owner => Ok(bucket),
            Ok(bucket) => Err(OperatorError::NotFound(format!(
                "the bucket {name} belongs to {}, not to {owner}",
                bucket.owner
            ))),
            Err(CatalogueError::Refused(Refusal::NoBucket {})) => {
                Err(OperatorError::NotFound(format!("there is no bucket {name}")))
            }
            Err(error) => Err(error.into()),
        }
    }

    /// How far the lifecycle workers are with each bucket that has rules: by bucket, one for each shard, `None`
    /// for a shard that none has been at.
    pub async fn lifecycle(&self) -> Result<Vec<(String, Vec<Option<Chore>>)>, OperatorError> {
        let mut found = Vec::new();
        for bucket in self.records(None).await? {
            if !bucket.documents.contains_key(document::LIFECYCLE) {
                continue;
            }
            match self.chores(&bucket).await {
                // Removed meanwhile.
                Err(
                    CatalogueError::Refused(Refusal::NoBucket {})
                    | CatalogueError::Cluster(Error::NotFound(_)),
                ) => {}
                chores => found.push((bucket.name.clone(), chores?)),
            }
        }
        Ok(found)
    }

    async fn chores(&self, bucket: &Bucket) -> Result<Vec<Option<Chore>>, CatalogueError> {
        let mut chores = Vec::new();
        for shard in self.flat.heads(bucket).await?.into_keys() {
            let read = ReadChore { name: crate::catalogue::chores::LIFECYCLE_WORK.to_owned() };
            let chore: Answer<Option<Chore>> =
                self.flat.shard(bucket, shard, "chore", &read).await?;
            chores.push(chore.0.ok().flatten());
        }
        Ok(chores)
    }
}
