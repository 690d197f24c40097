//! Where a bucket's log goes: get, put, and Ceph's POST that makes a log now.

use super::super::access::Permit;
use super::super::access::rules::document;
use super::super::dates;
use super::super::error::{Code, S3Error, S3Result};
use super::super::logging::flush::{Flush, flush, flush_after};
use super::super::logging::{Kind, Logging, may_deliver};
use super::super::response;
use super::super::xml::Xml;
use super::super::{Answer, Call};
use super::documents::{change, now};
use crate::catalogue::{Bucket, CatalogueError};
use bytes::Bytes;
use http::StatusCode;
use std::rc::Rc;
use store_base::bucket::Refusal;
use store_shell::clock;

/// Most bytes of a configuration.
const LOGGING_BYTES_MAX: usize = 16 << 10;

/// The configuration that is stored, if it says that something is logged.
fn stored(bucket: &Bucket) -> S3Result<Option<Logging>> {
    match bucket.documents.get(document::LOGGING) {
        Some(text) => Logging::parse(text, &|_| true),
        None => Ok(None),
    }
}

/// `GetBucketLogging`
pub(super) async fn get(permit: Permit, call: &mut Call) -> S3Result<Answer> {
    let bucket = now(call, &permit).await?;
    let Some(logging) = stored(&bucket)? else { return Ok(response::xml(nothing())) };
    let mut answer = response::xml(logging.to_xml(&*call.service.keys));
    if logging.modified_ms > 0 {
        response::set(answer.headers_mut(), "last-modified", &dates::http(logging.modified_ms));
    }
    Ok(answer)
}

fn nothing() -> Xml {
    let mut xml = Xml::root("BucketLoggingStatus");
    xml.close("BucketLoggingStatus");
    xml
}

/// The owner alone, whatever policies allow.
fn check_owner(call: &Call, bucket: &Bucket) -> S3Result<()> {
    match call.caller.is(&bucket.owner) || call.caller.is_admin() {
        true => Ok(()),
        false => Err(Code::AccessDenied.into()),
    }
}

/// `PutBucketLogging`: what was logged under the configuration before is delivered under it.
pub(super) async fn put(permit: Permit, call: &mut Call) -> S3Result<Answer> {
    let text = call.document(LOGGING_BYTES_MAX).await?;
    if text.is_empty() {
        return Err(Code::MissingRequestBodyError.into());
    }
    let bucket = now(call, &permit).await?;
    check_owner(call, &bucket)?;
    let keys = call.service.keys.clone();
    let known = |id: &str| keys.display_name(id).is_some();
    let (before, wanted) = (stored(&bucket)?, Logging::parse(&text, &known)?);
    let wanted = match wanted {
        Some(logging) => {
            let target = target(call, &bucket, &logging).await?;
            if before.as_ref().is_some_and(|before| before.says_as(&logging)) {
                return Ok(response::empty(StatusCode::OK));
            }
            mark(call, &target, &logging).await?;
            Some(Logging { modified_ms: clock::timestamp().millis(), ..logging })
        }
        None => None,
    };
    let value = match &wanted {
        Some(logging) => logging.to_stored(&*keys).into_bytes(),
        None => nothing().into_bytes(),
    };
    change(call, &bucket, document::LOGGING, Some(value.into()), &[document::LOGGING]).await?;
    let Some(before) = before else { return Ok(response::empty(StatusCode::OK)) };
    let how = Flush { always: wanted.is_some(), asks: false };
    let made = flush_after(&call.service, &bucket, &before, how).await;
    Ok(match made {
        Some(key) => response::xml(flushed("PutBucketLoggingOutput", &key)),
        None => response::empty(StatusCode::OK),
    })
}

fn flushed(root: &str, key: &str) -> Xml {
    let mut xml = Xml::root(root);
    xml.text("FlushedLoggingObject", key);
    xml.close(root);
    xml
}

/// The bucket that is to take the log, if it may.
async fn target(call: &Call, bucket: &Rc<Bucket>, logging: &Logging) -> S3Result<Rc<Bucket>> {
    let service = &call.service;
    let refused =
        |message: &str| Err(S3Error::argument("TargetBucket", &logging.target, message.to_owned()));
    if logging.target == bucket.name {
        return refused("The log of a bucket cannot go into the bucket itself.");
    }
    let target = match service.catalogue.bucket_now(&logging.target).await {
        // As with Ceph's gateway.
        Err(CatalogueError::Refused(Refusal::NoBucket {})) => {
            return Err(Code::NoSuchKey.with("The target bucket for logging does not exist."));
        }
        found => found?,
    };
    let rules = service.rules.rules(&target)?;
    if rules.logging.is_some() {
        return refused("A bucket that has a log of its own cannot take one.");
    }
    if rules.encryption.is_some() {
        return refused("A bucket with default encryption cannot take logs.");
    }
    if rules.requester_pays {
        return refused("A bucket whose requester pays cannot take logs.");
    }
    match may_deliver(bucket, &target, &rules, &logging.prefix, &logging.prefix) {
        true => Ok(target),
        false => Err(Code::AccessDenied.into()),
    }
}

/// Journals are searched for in marked buckets. The mark stays.
async fn mark(call: &Call, target: &Bucket, logging: &Logging) -> S3Result<()> {
    let marked = target.documents.contains_key(document::JOURNALED);
    match logging.kind == Kind::Journal && !marked {
        true => {
            let mark = Some(Bytes::from_static(b"1"));
            change(call, target, document::JOURNALED, mark, &[]).await
        }
        false => Ok(()),
    }
}

/// `PostBucketLogging`, of Ceph's gateway: makes a log of what waits, an empty one if nothing does.
pub(super) async fn post(permit: Permit, call: &mut Call) -> S3Result<Answer> {
    let bucket = now(call, &permit).await?;
    check_owner(call, &bucket)?;
    let Some(logging) = stored(&bucket)? else {
        return Err(Code::NoSuchKey.with("The bucket has no log."));
    };
    let made = flush(&call.service, &bucket, &logging, Flush { always: true, asks: true }).await?;
    Ok(response::xml(flushed("PostBucketLoggingOutput", &made.unwrap_or_default())))
}
