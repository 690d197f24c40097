//! Who may do what. Today: the owner of a bucket, and administrators. Every handler gets its bucket here,
//! so ACLs and policies have one place to come to.

use super::error::{Code, S3Result};
use super::response;
use super::router::Operation;
use super::xml::Xml;
use super::{Answer, Call};
use crate::catalogue::{Bucket, CatalogueError};
use std::rc::Rc;
use store_base::bucket::Refusal;

/// The bucket of a request, if the user may use it.
pub async fn bucket(call: &Call) -> S3Result<Rc<Bucket>> {
    bucket_named(call, call.head.bucket()?, "x-amz-expected-bucket-owner").await
}

/// The bucket that a copy reads.
pub async fn source_bucket(call: &Call, name: &str) -> S3Result<Rc<Bucket>> {
    bucket_named(call, name, "x-amz-source-expected-bucket-owner").await
}

async fn bucket_named(call: &Call, name: &str, expected_owner: &str) -> S3Result<Rc<Bucket>> {
    let bucket = match call.service.catalogue.bucket(name).await {
        Err(CatalogueError::Refused(Refusal::NoBucket {})) => {
            return Err(Code::NoSuchBucket
                .with(Code::NoSuchBucket.message())
                .detail("BucketName", name));
        }
        found => found?,
    };
    if bucket.owner != call.user.id && !call.user.admin {
        return Err(Code::AccessDenied.into());
    }
    if call.head.header(expected_owner)?.is_some_and(|owner| owner != bucket.owner) {
        return Err(Code::AccessDenied.into());
    }
    Ok(bucket)
}

/// What a request without a signature gets: at the root an empty list in the name of nobody, which old
/// load balancers ask for to see that the gateway lives; nothing else.
pub fn anonymous(operation: Operation) -> S3Result<Answer> {
    if operation != Operation::ListBuckets {
        return Err(Code::AccessDenied.into());
    }
    let mut xml = Xml::root("ListAllMyBucketsResult");
    xml.open("Owner");
    xml.text("ID", "anonymous");
    xml.text("DisplayName", "");
    xml.close("Owner");
    xml.open("Buckets");
    xml.close("Buckets");
    xml.close("ListAllMyBucketsResult");
    Ok(response::xml(xml))
}

/// Canned ACLs: buckets belong to their owner, so all that can be granted is what he has anyway.
pub fn check_acl_headers(call: &Call) -> S3Result<()> {
    let canned = call.head.header("x-amz-acl")?.unwrap_or("private");
    let grants = call.head.headers.keys().any(|name| name.as_str().starts_with("x-amz-grant-"));
    match canned {
        "private" | "bucket-owner-full-control" | "bucket-owner-read" if !grants => Ok(()),
        _ => Err(Code::AccessControlListNotSupported.into()),
    }
}

/// Headers that ask for a feature which this gateway does not have must not be passed over in silence.
pub fn check_features(call: &Call) -> S3Result<()> {
    const NOT_THERE: [&str; 4] = [
        "x-amz-server-side-encryption",
        "x-amz-object-lock-",
        "x-amz-tagging",
        "x-amz-write-offset-bytes",
    ];
    let asked = call.head.headers.keys().map(http::HeaderName::as_str).find(|name| {
        // The directive of a copy alone asks for nothing.
        *name != "x-amz-tagging-directive" && NOT_THERE.iter().any(|n| name.starts_with(n))
    });
    if let Some(name) = asked {
        return Err(Code::NotImplemented
            .with(Code::NotImplemented.message())
            .detail("Header", name));
    }
    match call.head.header("x-amz-storage-class")? {
        None | Some("STANDARD") => Ok(()),
        Some(_) => Err(Code::InvalidStorageClass.into()),
    }
}
