//! One file per topic, one request type per operation.

mod attributes;
mod buckets;
mod copy;
mod delete;
mod list;
mod multipart;
mod parts;
mod read;
mod settings;
mod write;

use super::error::{Code, S3Result};
use super::router::Operation;
use super::{Answer, Call};
use hyper::body::Incoming;

/// Most bytes of a document that is no list.
const DOCUMENT_BYTES_MAX: usize = 64 << 10;

/// Runs the operation of a request. What is left of the body is handed back through `unread`.
pub(super) async fn dispatch(
    operation: Operation,
    mut call: Call,
    unread: &mut Option<Incoming>,
) -> S3Result<Answer> {
    let answer = run(operation, &mut call).await;
    *unread = call.body.take();
    answer
}

async fn run(operation: Operation, call: &mut Call) -> S3Result<Answer> {
    use Operation as Op;
    match operation {
        Op::ListBuckets => buckets::list(call).await,
        Op::CreateBucket => buckets::create(call).await,
        Op::HeadBucket => buckets::head(call).await,
        Op::DeleteBucket => buckets::delete(call).await,
        Op::GetBucketLocation => buckets::location(call).await,
        Op::ListObjects => list::v1(call).await,
        Op::ListObjectsV2 => list::v2(call).await,
        Op::ListObjectVersions => list::versions(call).await,
        Op::GetObject => read::get(call).await,
        Op::HeadObject => read::head(call).await,
        Op::GetObjectAttributes => attributes::get(call).await,
        Op::PutObject => write::put(call).await,
        Op::CopyObject => copy::copy(call).await,
        Op::DeleteObject => delete::one(call).await,
        Op::DeleteObjects => delete::many(call).await,
        Op::CreateMultipartUpload => multipart::create(call).await,
        Op::UploadPart => parts::upload(call).await,
        Op::UploadPartCopy => parts::copy(call).await,
        Op::ListParts => parts::list(call).await,
        Op::ListMultipartUploads => multipart::list(call).await,
        Op::CompleteMultipartUpload => multipart::complete(call).await,
        Op::AbortMultipartUpload => multipart::abort(call).await,
        Op::GetAcl => settings::acl(call).await,
        Op::PutAcl => settings::put_acl(call).await,
        Op::GetBucketSetting => settings::of_bucket(call).await,
        Op::GetObjectSetting => settings::of_object(call).await,
        Op::DeleteBucketSetting | Op::DeleteObjectSetting => settings::delete(call).await,
        Op::Unimplemented | Op::Unknown => Err(Code::NotImplemented.into()),
    }
}
