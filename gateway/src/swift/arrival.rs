//! Objects that come several in one request: the files of an archive, and of a form.

use super::access::{self, AccountPermit};
use super::error::SwiftResult;
use super::{Call, legacy, object, quota};
use crate::pace::Pace;
use crate::s3::auth::payload::Inspector;
use crate::s3::checksum::{Algorithm, Announced};
use crate::s3::error::S3Result;
use crate::s3::operations::write::{Made, NewObject, PIECE_OBJECT_BYTES_MAX, store};
use crate::s3::router::Operation;
use crate::transfer::body::{BodyReader, Source};
use bytes::Bytes;
use futures_util::stream::LocalBoxStream;
use std::collections::BTreeMap;
use store_base::bucket::Condition;

/// One of them.
pub(super) struct Arrival {
    /// How many bytes it has; `None` if only its end tells.
    pub size: Option<u64>,
    pub headers: BTreeMap<String, String>,
    pub metadata: BTreeMap<String, Bytes>,
    pub bytes: LocalBoxStream<'static, S3Result<Bytes>>,
    /// How fast they are read, unless what they come out of has a pace.
    pub pace: Pace,
}

/// Makes an object of it, in the bucket of the request: the same decision, the same quotas as for a PUT.
pub(super) async fn put(
    call: &mut Call,
    permit: &AccountPermit,
    name: &str,
    arrival: Arrival,
) -> SwiftResult<Made> {
    object::check_name(name)?;
    call.head.target.key = Some(name.to_owned());
    let leave = access::container(call, permit, Operation::PutObject).await?;
    let bucket = leave.bucket().clone();
    let room = quota::check(call, permit, &bucket, arrival.size).await?;
    let key = Bytes::copy_from_slice(name.as_bytes());
    legacy::keep(call, permit, &bucket, &key).await?;
    let source = Source::Local(arrival.bytes);
    let mut reader = match arrival.size {
        Some(size) => BodyReader::new(source, None, size),
        None => BodyReader::open(source, PIECE_OBJECT_BYTES_MAX),
    }
    .paced(arrival.pace);
    if let Some(room) = room {
        // What has no length ends where the room does.
        reader.allow(room);
    }
    let new = NewObject {
        bucket,
        key,
        condition: Condition::default(),
        described: object::described(arrival.headers, arrival.metadata),
        sharing: access::sharing(&leave),
        listed: BTreeMap::new(),
    };
    let algorithm = Some(Algorithm::Crc64Nvme);
    let inspector = Inspector::new(&call.payload, Announced::default(), algorithm);
    Ok(store(call, new, &mut reader, inspector).await?)
}
