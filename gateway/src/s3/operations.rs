//! One file per topic, one request type per operation.

mod acls;
mod attributes;
mod buckets;
pub(crate) mod copy;
mod delete;
mod documents;
mod features;
#[cfg(test)]
mod fuzz;
mod list;
mod list_versions;
mod lock;
mod logging;
mod multipart;
mod parts;
mod post;
mod preflight;
pub(crate) mod read;
mod settings;
mod tagging;
mod versioning;
pub(crate) mod write;

pub(crate) use copy::SourceName;
pub(super) use copy::parse_source as copy_source;
pub(super) use lock::bypass;
pub(super) use read::no_such_key;
pub(super) use versioning::{is_marker, named as named_version};

use super::access::{self, Admitted, Document, ObjectPermit};
use super::error::{Code, S3Result};
use super::router::Operation;
use super::{Answer, Call, Caller};
use hyper::body::Incoming;

/// Most bytes of a document that is no list.
const DOCUMENT_BYTES_MAX: usize = 64 << 10;

/// The object of a request whose body says what is to become of it, and what the body says. Policies are asked when
/// both are known; where none has a word in it, who is refused is so before his body is read.
async fn read_described<T>(
    permit: ObjectPermit,
    call: &mut Call,
    parse: impl FnOnce(&[u8]) -> S3Result<(T, Document)>,
) -> S3Result<(ObjectPermit, Admitted, T)> {
    let before = match permit.is_about_body() {
        true => None,
        false => Some(permit.read(call, false).await?),
    };
    let body = call.document(DOCUMENT_BYTES_MAX).await?;
    let (said, document) = parse(&body)?;
    let permit = permit.with(document);
    let admitted = match before {
        Some(admitted) => admitted,
        None => permit.read(call, false).await?,
    };
    Ok((permit, admitted, said))
}

/// Runs the operation of a request. What is left of the body is handed back through `unread`.
pub(super) async fn dispatch(
    operation: Operation,
    call: &mut Call,
    unread: &mut Option<Incoming>,
) -> S3Result<Answer> {
    let answer = run(operation, call).await;
    *unread = call.body.take();
    answer
}

async fn run(operation: Operation, call: &mut Call) -> S3Result<Answer> {
    use Operation as Op;
    use access::{bucket, cross_origin, keys, object, user};
    // Each handler takes the permit by value, and only `access` makes permits: what is not decided does
    // not build.
    match operation {
        Op::ListBuckets if matches!(call.caller, Caller::Anonymous) => Ok(buckets::of_nobody()),
        Op::ListBuckets => buckets::list(user(call, operation)?, call).await,
        Op::CreateBucket => buckets::create(user(call, operation)?, call).await,
        Op::HeadBucket => buckets::head(bucket(call, operation).await?, call).await,
        Op::DeleteBucket => buckets::delete(bucket(call, operation).await?, call).await,
        Op::GetBucketLocation => buckets::location(bucket(call, operation).await?, call),
        Op::ListObjects => list::v1(bucket(call, operation).await?, call).await,
        Op::ListObjectsV2 => list::v2(bucket(call, operation).await?, call).await,
        Op::ListObjectVersions => list_versions::list(bucket(call, operation).await?, call).await,
        Op::GetObject => read::get(object(call, operation).await?, call).await,
        Op::HeadObject => read::head(object(call, operation).await?, call).await,
        Op::GetObjectAttributes => attributes::get(object(call, operation).await?, call).await,
        Op::PutObject => write::put(bucket(call, operation).await?, call).await,
        Op::PostObject if post::is_form(call) => {
            let upload = post::read(call).await?;
            let (upload, permit) = post::decided(upload, bucket(call, operation).await).await?;
            post::post(permit, call, upload).await
        }
        Op::PostObject => post::no_form(bucket(call, operation).await?),
        Op::CopyObject => copy::copy(bucket(call, operation).await?, call).await,
        Op::DeleteObject => delete::one(bucket(call, operation).await?, call).await,
        Op::DeleteObjects => delete::many(keys(call, operation).await?, call).await,
        Op::CreateMultipartUpload => multipart::create(bucket(call, operation).await?, call).await,
        Op::UploadPart => parts::upload(bucket(call, operation).await?, call).await,
        Op::UploadPartCopy => parts::copy(bucket(call, operation).await?, call).await,
        Op::ListParts => parts::list(bucket(call, operation).await?, call).await,
        Op::ListMultipartUploads => multipart::list(bucket(call, operation).await?, call).await,
        Op::CompleteMultipartUpload => {
            multipart::complete(bucket(call, operation).await?, call).await
        }
        Op::AbortMultipartUpload => multipart::abort(bucket(call, operation).await?, call).await,
        Op::GetBucketAcl => acls::bucket(bucket(call, operation).await?, call).await,
        Op::PutBucketAcl => acls::put_bucket(bucket(call, operation).await?, call).await,
        Op::GetObjectAcl => acls::object(object(call, operation).await?, call).await,
        Op::PutObjectAcl => acls::put_object(object(call, operation).await?, call).await,
        Op::PreflightRequest => preflight::answer(cross_origin(call, operation).await?, call),
        Op::GetBucketLogging => logging::get(bucket(call, operation).await?, call).await,
        Op::PutBucketLogging => logging::put(bucket(call, operation).await?, call).await,
        Op::PostBucketLogging => logging::post(bucket(call, operation).await?, call).await,
        Op::GetBucketPolicyStatus => {
            documents::policy_status(bucket(call, operation).await?, call).await
        }
        Op::GetBucketPolicy
        | Op::GetPublicAccessBlock
        | Op::GetBucketOwnershipControls
        | Op::GetBucketCors
        | Op::GetBucketLifecycleConfiguration
        | Op::GetBucketNotificationConfiguration
        | Op::GetBucketTagging
        | Op::GetBucketWebsite
        | Op::GetBucketRequestPayment
        | Op::GetBucketEncryption => {
            documents::get(bucket(call, operation).await?, call, operation).await
        }
        Op::PutBucketPolicy
        | Op::PutPublicAccessBlock
        | Op::PutBucketOwnershipControls
        | Op::PutBucketCors
        | Op::PutBucketLifecycleConfiguration
        | Op::PutBucketTagging
        | Op::PutBucketWebsite
        | Op::PutBucketRequestPayment
        | Op::PutBucketEncryption => {
            documents::put(bucket(call, operation).await?, call, operation).await
        }
        Op::DeleteBucketPolicy
        | Op::DeletePublicAccessBlock
        | Op::DeleteBucketOwnershipControls
        | Op::DeleteBucketCors
        | Op::DeleteBucketLifecycle
        | Op::DeleteBucketTagging
        | Op::DeleteBucketWebsite
        | Op::DeleteBucketEncryption => {
            documents::delete(bucket(call, operation).await?, call, operation).await
        }
        Op::PutBucketNotificationConfiguration => {
            documents::put_notification(bucket(call, operation).await?, call).await
        }
        Op::GetBucketSetting => settings::of_bucket(bucket(call, operation).await?, call),
        Op::DeleteBucketSetting => settings::delete(bucket(call, operation).await?),
        Op::GetBucketVersioning => versioning::get(bucket(call, operation).await?, call).await,
        Op::PutBucketVersioning => versioning::put(bucket(call, operation).await?, call).await,
        Op::GetObjectLockConfiguration => {
            lock::configuration(bucket(call, operation).await?, call).await
        }
        Op::PutObjectLockConfiguration => {
            lock::configure(bucket(call, operation).await?, call).await
        }
        Op::GetObjectRetention => lock::retention(object(call, operation).await?, call).await,
        Op::PutObjectRetention => lock::retain(object(call, operation).await?, call).await,
        Op::GetObjectLegalHold => lock::hold(object(call, operation).await?, call).await,
        Op::PutObjectLegalHold => lock::put_hold(object(call, operation).await?, call).await,
        Op::GetObjectTagging => tagging::get(object(call, operation).await?, call).await,
        Op::PutObjectTagging => tagging::put(object(call, operation).await?, call).await,
        Op::DeleteObjectTagging => tagging::delete(object(call, operation).await?, call).await,
        Op::Unimplemented => settings::unimplemented(bucket(call, operation).await?),
        Op::Unknown => Err(Code::NotImplemented.into()),
    }
}
