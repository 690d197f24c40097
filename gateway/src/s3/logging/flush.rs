//! Logs that are made at once: because somebody asks for them, or because what is logged changes.

use super::super::Service;
use super::super::error::{Code, S3Result};
use super::journal::{journal_name, refused};
use super::{Kind, Logging, deliver, roll};
use crate::catalogue::{Bucket, CatalogueError};
use bytes::Bytes;
use std::rc::Rc;
use store_base::bucket::Refusal;
use store_shell::clock;

/// How a log is made at once.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Flush {
    /// Whether the target's policy has a word in it although both buckets are one owner's. The records were let in when
    /// they came.
    pub(crate) asks: bool,
    /// Whether there is a log where there are no records: an empty one.
    pub(crate) always: bool,
}

/// Makes logs of what waits of a bucket, and of what shares logs with it. The key of the last one. Of requests those are
/// delivered that this gateway collected; a journal is the cluster's. Errors: `AccessDenied`, `NoSuchKey` where the
/// target is gone, those of writing.
pub(crate) async fn flush(
    service: &Rc<Service>,
    source: &Bucket,
    logging: &Logging,
    how: Flush,
) -> S3Result<Option<String>> {
    let target = match service.catalogue.bucket(&logging.target).await {
        Err(CatalogueError::Refused(Refusal::NoBucket {})) => {
            return Err(Code::NoSuchKey.with("The logging bucket is not there."));
        }
        found => found?,
    };
    let asked = how.asks || target.owner != source.owner;
    let prefix = &logging.prefix;
    if asked && !deliver::may(service, source, &target, prefix, prefix)? {
        return Err(refused(logging));
    }
    let now_ms = clock::timestamp().millis();
    let made = match logging.kind {
        Kind::Standard => of_requests(service, source, &target, logging, asked).await?,
        Kind::Journal => {
            let name = journal_name(source.id, logging, now_ms);
            roll::roll(service, &target, &name, true).await?
        }
    };
    if made.is_some() || !how.always {
        return Ok(made);
    }
    let key = deliver::name(service, source, logging, now_ms);
    deliver::write(service, &target, logging, &key, Bytes::new()).await?;
    Ok(Some(key))
}

/// Delivers what was collected of requests.
async fn of_requests(
    service: &Rc<Service>,
    source: &Bucket,
    target: &Bucket,
    logging: &Logging,
    asked: bool,
) -> S3Result<Option<String>> {
    let mut batches = service.access_log.of_source(source, target.id, logging).into_iter();
    let mut last = None;
    while let Some(batch) = batches.next() {
        match deliver::deliver(service, &batch, asked).await {
            Ok(key) => last = Some(key),
            Err(error) => {
                // The newest first: each comes before what is there.
                let mut left: Vec<_> = std::iter::once(batch).chain(batches).collect();
                left.reverse();
                left.into_iter().for_each(|batch| service.access_log.put_back(batch));
                return Err(error);
            }
        }
        deliver::delivered(service, &batch);
    }
    Ok(last)
}

/// The same where nobody waits for it: what is logged has changed, and what fails is tried again by the clock.
pub(crate) async fn flush_after(
    service: &Rc<Service>,
    source: &Bucket,
    logging: &Logging,
    how: Flush,
) -> Option<String> {
    let made = flush(service, source, logging, how).await;
    made.unwrap_or_else(|error| {
        tracing::warn!(%error, bucket = %source.name, "the last log under a configuration waits");
        None
    })
}
