//! Documents of a bucket: policy, public access block, ownership, CORS, lifecycle, tags, website, request
//! payment. Checked when they are put, kept in the bucket's record, and given back.

use super::super::access::rules::{Block, Ownership, Rules, document, parse_payment};
use super::super::access::{Permit, acl_is_public};
use super::super::acl;
use super::super::cors::{CORS_BYTES_MAX, Cors};
use super::super::encryption;
use super::super::error::{Code, S3Error, S3Result};
use super::super::lifecycle::{LIFECYCLE_BYTES_MAX, Lifecycle};
use super::super::notification::{NOTIFICATION_BYTES_MAX, Notifications};
use super::super::policy::{POLICY_BYTES_MAX, Policy};
use super::super::response;
use super::super::router::Operation;
use super::super::website::Website;
use super::super::xml::{Element, Xml};
use super::super::{Answer, Call};
use crate::catalogue::{Bucket, CatalogueError};
use crate::http::body::ResponseBody;
use bytes::Bytes;
use http::StatusCode;
use http::header::{CONTENT_TYPE, HeaderValue};
use std::collections::BTreeSet;
use std::rc::Rc;
use store_base::bucket::{Refusal, RemoveDocument, SetDocument};

/// Most bytes of a document that has no bound of its own.
const SMALL_BYTES_MAX: usize = 16 << 10;

/// Most tags of a bucket.
const TAGS_MAX: usize = 50;

/// A kind of document.
struct Kind {
    /// Its name in the record.
    name: &'static str,
    /// Most bytes.
    bytes_max: usize,
    /// What is answered where there is none.
    absent: Absent,
}

enum Absent {
    Error(Code),
    /// An empty element of this name.
    Empty(&'static str),
    /// The bucket's owner pays.
    OwnerPays,
}

/// The kind of document that an operation is about.
fn kind(operation: Operation) -> S3Result<Kind> {
    use Operation as Op;
    let kind = |name, absent| Kind { name, bytes_max: SMALL_BYTES_MAX, absent };
    Ok(match operation {
        Op::GetBucketPolicy | Op::PutBucketPolicy | Op::DeleteBucketPolicy => Kind {
            bytes_max: POLICY_BYTES_MAX,
            ..kind(document::POLICY, Absent::Error(Code::NoSuchBucketPolicy))
        },
        Op::GetPublicAccessBlock | Op::PutPublicAccessBlock | Op::DeletePublicAccessBlock => kind(
            document::PUBLIC_ACCESS_BLOCK,
            Absent::Error(Code::NoSuchPublicAccessBlockConfiguration),
        ),
        Op::GetBucketOwnershipControls
        | Op::PutBucketOwnershipControls
        | Op::DeleteBucketOwnershipControls => {
            kind(document::OWNERSHIP, Absent::Error(Code::OwnershipControlsNotFoundError))
        }
        Op::GetBucketCors | Op::PutBucketCors | Op::DeleteBucketCors => Kind {
            bytes_max: CORS_BYTES_MAX,
            ..kind(document::CORS, Absent::Error(Code::NoSuchCORSConfiguration))
        },
        Op::GetBucketLifecycleConfiguration
        | Op::PutBucketLifecycleConfiguration
        | Op::DeleteBucketLifecycle => Kind {
            bytes_max: LIFECYCLE_BYTES_MAX,
            ..kind(document::LIFECYCLE, Absent::Error(Code::NoSuchLifecycleConfiguration))
        },
        Op::GetBucketNotificationConfiguration => {
            kind(document::NOTIFICATION, Absent::Empty("NotificationConfiguration"))
        }
        Op::GetBucketTagging | Op::PutBucketTagging | Op::DeleteBucketTagging => Kind {
            bytes_max: CORS_BYTES_MAX,
            ..kind(document::TAGGING, Absent::Error(Code::NoSuchTagSet))
        },
        Op::GetBucketWebsite | Op::PutBucketWebsite | Op::DeleteBucketWebsite => {
            kind(document::WEBSITE, Absent::Error(Code::NoSuchWebsiteConfiguration))
        }
        Op::GetBucketRequestPayment | Op::PutBucketRequestPayment => {
            kind(document::PAYMENT, Absent::OwnerPays)
        }
        Op::GetBucketEncryption | Op::PutBucketEncryption | Op::DeleteBucketEncryption => kind(
            document::ENCRYPTION,
            Absent::Error(Code::ServerSideEncryptionConfigurationNotFoundError),
        ),
        _ => return Err(Code::InternalError.into()),
    })
}

/// The bucket as it is now: who writes a document sees it at once, whichever gateway he asks.
pub(super) async fn now(call: &Call, permit: &Permit) -> S3Result<Rc<Bucket>> {
    let bucket = call.service.catalogue.bucket_now(&permit.bucket().name).await?;
    match bucket.id == permit.bucket().id {
        true => Ok(bucket),
        false => Err(Code::NoSuchBucket.into()),
    }
}

/// Sets or removes a document, if those that were `seen` in the bucket are still what they were.
pub(super) async fn change(
    call: &Call,
    bucket: &Bucket,
    document: &str,
    value: Option<Bytes>,
    seen: &[&str],
) -> S3Result<()> {
    let (name, id, document) = (bucket.name.clone(), bucket.id, document.to_owned());
    let expected = seen
        .iter()
        .map(|name| ((*name).to_owned(), bucket.documents.get(*name).cloned()))
        .collect();
    let catalogue = &call.service.catalogue;
    let done = match value {
        Some(value) => {
            catalogue.set_document(SetDocument { name, id, document, value, expected }).await
        }
        None => catalogue.remove_document(RemoveDocument { name, id, document, expected }).await,
    };
    match done {
        Err(CatalogueError::Refused(Refusal::Precondition {})) => {
            Err(Code::OperationAborted.into())
        }
        done => Ok(done?),
    }
}

pub(super) async fn get(permit: Permit, call: &mut Call, operation: Operation) -> S3Result<Answer> {
    let kind = kind(operation)?;
    let bucket = now(call, &permit).await?;
    if let Some(stored) = bucket.documents.get(kind.name) {
        let mut answer = Answer::new(ResponseBody::Full(stored.clone()));
        let format = match kind.name {
            document::POLICY => "application/json",
            _ => "application/xml",
        };
        answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(format));
        return Ok(answer);
    }
    match kind.absent {
        Absent::Error(code) => Err(code.with(code.message()).detail("BucketName", &bucket.name)),
        Absent::Empty(name) => {
            let mut xml = Xml::root(name);
            xml.close(name);
            Ok(response::xml(xml))
        }
        Absent::OwnerPays => {
            let mut xml = Xml::root("RequestPaymentConfiguration");
            xml.text("Payer", "BucketOwner");
            xml.close("RequestPaymentConfiguration");
            Ok(response::xml(xml))
        }
    }
}

/// `GetBucketPolicyStatus`: as with Ceph, a public ACL counts, and without a policy the answer is no.
pub(super) async fn policy_status(permit: Permit, call: &mut Call) -> S3Result<Answer> {
    let bucket = now(call, &permit).await?;
    let rules = call.service.rules.rules(&bucket)?;
    let public = rules.policy.as_ref().is_some_and(Policy::is_public) || acl_is_public(&rules);
    let mut xml = Xml::root("PolicyStatus");
    xml.value("IsPublic", public);
    xml.close("PolicyStatus");
    Ok(response::xml(xml))
}

pub(super) async fn put(permit: Permit, call: &mut Call, operation: Operation) -> S3Result<Answer> {
    let kind = kind(operation)?;
    let text = match call.document(kind.bytes_max).await {
        Err(error) if kind.name == document::POLICY && is_too_long(&error) => {
            return Err(
                Code::MalformedPolicy.with("Policy exceeds the maximum allowed document size.")
            );
        }
        text => text?,
    };
    if text.is_empty() {
        return Err(Code::MissingRequestBodyError.into());
    }
    let bucket = now(call, &permit).await?;
    let (value, seen) = checked(call, kind.name, &bucket, text)?;
    change(call, &bucket, kind.name, Some(value), seen).await?;
    let status = match kind.name {
        document::POLICY | document::TAGGING => StatusCode::NO_CONTENT,
        _ => StatusCode::OK,
    };
    Ok(response::empty(status))
}

fn is_too_long(error: &S3Error) -> bool {
    error.code == Code::MaxMessageLengthExceeded
}

/// `PutBucketNotificationConfiguration`: one that tells nobody takes the one before away.
pub(super) async fn put_notification(permit: Permit, call: &mut Call) -> S3Result<Answer> {
    let text = call.document(NOTIFICATION_BYTES_MAX).await?;
    let wanted = Notifications::parse(&text)?;
    wanted.check_endpoints(&call.service.settings.webhooks)?;
    let bucket = now(call, &permit).await?;
    let value = (!wanted.rules.is_empty()).then(|| wanted.to_xml().into_bytes().into());
    if value.is_some() && !bucket.documents.contains_key(document::NOTIFIED) {
        // The mark comes first and stays: workers look for events in marked buckets.
        let mark = Some(Bytes::from_static(b"1"));
        change(call, &bucket, document::NOTIFIED, mark, &[]).await?;
    }
    change(call, &bucket, document::NOTIFICATION, value, &[]).await?;
    Ok(response::empty(StatusCode::OK))
}

/// What is stored of a document that a client sent, and on which others that depends.
fn checked(
    call: &Call,
    name: &str,
    bucket: &Rc<Bucket>,
    text: Bytes,
) -> S3Result<(Bytes, &'static [&'static str])> {
    Ok(match name {
        document::POLICY => {
            check_policy(&text, &bucket.name, &*call.service.rules.rules(bucket)?)?;
            (text, &[document::PUBLIC_ACCESS_BLOCK])
        }
        document::PUBLIC_ACCESS_BLOCK => (Block::parse(&text)?.to_xml().into_bytes().into(), &[]),
        document::OWNERSHIP => {
            let ownership = Ownership::parse(&text)?;
            let rules = call.service.rules.rules(bucket)?;
            let shared = rules.bucket_acl != acl::private(&bucket.owner);
            if ownership == Ownership::BucketOwnerEnforced && shared {
                return Err(Code::InvalidBucketAclWithObjectOwnership.into());
            }
            (ownership.to_xml().into_bytes().into(), &[document::ACL])
        }
        document::CORS => {
            Cors::parse(&text)?;
            (text, &[])
        }
        document::LIFECYCLE => (Lifecycle::parse(&text)?.to_xml().into_bytes().into(), &[]),
        document::TAGGING => {
            check_tags(&text)?;
            (text, &[])
        }
        document::WEBSITE => {
            Website::parse(&text)?;
            (text, &[])
        }
        document::PAYMENT => {
            parse_payment(&text)?;
            (text, &[])
        }
        document::ENCRYPTION => {
            let default = encryption::default::ByDefault::parse(&text)?;
            default.check(&call.service.settings.region)?;
            (text, &[])
        }
        _ => return Err(Code::InternalError.into()),
    })
}

fn check_policy(text: &[u8], bucket: &str, rules: &Rules) -> S3Result<()> {
    let policy = Policy::parse(text, bucket).and_then(Policy::check_keys);
    let policy = policy.map_err(|error| Code::MalformedPolicy.with(error.0))?;
    match rules.block.block_public_policy && policy.is_public() {
        false => Ok(()),
        true => Err(Code::AccessDenied.into()),
    }
}

fn check_tags(text: &[u8]) -> S3Result<()> {
    let root = Element::parse(text, "Tagging")?;
    let set = root.all("TagSet").next().ok_or(Code::MalformedXML)?;
    let mut names = BTreeSet::new();
    for tag in set.all("Tag") {
        let (name, value) = (tag.required_text("Key")?, tag.required_text("Value")?);
        let invalid = |message: &str| Err(Code::InvalidTag.with(message).detail("TagKey", name));
        if !(1..=128).contains(&name.chars().count()) {
            return invalid("The TagKey you have provided is invalid");
        }
        if value.chars().count() > 256 {
            return invalid("The TagValue you have provided is invalid");
        }
        if name.starts_with("aws:") {
            return invalid("System tags cannot be added/updated by requester");
        }
        if !names.insert(name) {
            return invalid("Cannot provide multiple Tags with the same key");
        }
    }
    match names.len() > TAGS_MAX {
        false => Ok(()),
        true => Err(Code::InvalidTag.with(format!("A bucket has at most {TAGS_MAX} tags."))),
    }
}

pub(super) async fn delete(
    permit: Permit,
    call: &mut Call,
    operation: Operation,
) -> S3Result<Answer> {
    let kind = kind(operation)?;
    change(call, permit.bucket(), kind.name, None, &[]).await?;
    Ok(response::empty(StatusCode::NO_CONTENT))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_are_checked() {
        let tag =
            |key: &str, value: &str| format!("<Tag><Key>{key}</Key><Value>{value}</Value></Tag>");
        let check = |tags: &str| {
            let text = format!("<Tagging><TagSet>{tags}</TagSet></Tagging>");
            check_tags(text.as_bytes()).map_err(|error| error.code)
        };
        let many = |n: usize| (0..n).map(|i| tag(&i.to_string(), "v")).collect::<String>();
        assert_eq!(check(&many(TAGS_MAX)), Ok(()));
        for bad in [
            many(TAGS_MAX + 1),
            tag("a", "1") + &tag("a", "2"),
            tag("", "1"),
            tag(&"k".repeat(129), "1"),
            tag("k", &"v".repeat(257)),
            tag("aws:k", "v"),
        ] {
            assert_eq!(check(&bad), Err(Code::InvalidTag));
        }
        assert_eq!(check("<Tag><Key>k</Key></Tag>"), Err(Code::MalformedXML));
    }
}
