//! `PutObject`, and what all writes of objects have in common.

use super::super::access;
use super::super::auth::payload::{Digests, Inspector};
use super::super::checksum::{Algorithm, Announced};
use super::super::conditions;
use super::super::error::{Code, S3Result};
use super::super::response;
use super::super::{Answer, Call, drain};
use crate::catalogue::Bucket;
use crate::transfer::body::BodyReader;
use crate::transfer::upload::{self, Destination, Written};
use bytes::Bytes;
use http::StatusCode;
use std::collections::BTreeMap;
use std::rc::Rc;
use store_base::bucket::{Body, Condition, Detail, ETag, Entry, Manifest, ManifestPart, Put};
use store_base::codec::Encode;

/// Largest object that is put in one piece, and largest part.
pub(super) const PIECE_OBJECT_BYTES_MAX: u64 = 5 << 30;

/// Most bytes of user metadata: names and values together.
const METADATA_BYTES_MAX: usize = 2048;

/// Most bytes of the standard headers that are kept.
const HEADERS_BYTES_MAX: usize = 8192;

/// Standard headers that come back as they were given.
const KEPT_HEADERS: [&str; 7] = [
    "cache-control",
    "content-disposition",
    "content-encoding",
    "content-language",
    "content-type",
    "expires",
    "x-amz-website-redirect-location",
];

/// What is kept of the headers of a write.
pub(super) struct Described {
    pub headers: BTreeMap<String, String>,
    pub metadata: BTreeMap<String, Bytes>,
}

impl Described {
    pub(super) fn from_call(call: &Call) -> S3Result<Described> {
        let mut headers = BTreeMap::new();
        for name in KEPT_HEADERS {
            let Some(value) = call.head.header(name)? else { continue };
            let value = match name {
                // The framing of the request is no property of the object.
                "content-encoding" => without_framing(value),
                _ => value.to_owned(),
            };
            if !value.is_empty() {
                headers.insert(name.to_owned(), value);
            }
        }
        let mut metadata: BTreeMap<String, Bytes> = BTreeMap::new();
        for (name, value) in &call.head.headers {
            let Some(name) = name.as_str().strip_prefix("x-amz-meta-") else { continue };
            let value = Bytes::copy_from_slice(value.as_bytes());
            metadata
                .entry(name.to_owned())
                .and_modify(|before| *before = [before, &b","[..], &value].concat().into())
                .or_insert(value);
        }
        let kept: usize = headers.iter().map(|(name, value)| name.len() + value.len()).sum();
        let users: usize = metadata.iter().map(|(name, value)| name.len() + value.len()).sum();
        if users > METADATA_BYTES_MAX || kept > HEADERS_BYTES_MAX {
            return Err(Code::MetadataTooLarge
                .with(Code::MetadataTooLarge.message())
                .detail("Size", users.to_string())
                .detail("MaxSizeAllowed", METADATA_BYTES_MAX.to_string()));
        }
        Ok(Described { headers, metadata })
    }
}

fn without_framing(value: &str) -> String {
    let codings: Vec<&str> =
        value.split(',').map(str::trim).filter(|coding| *coding != "aws-chunked").collect();
    codings.join(",")
}

/// `PutObject`
struct PutObject {
    key: Bytes,
    condition: Condition,
    described: Described,
    announced: Announced,
}

impl PutObject {
    fn parse(call: &Call) -> S3Result<PutObject> {
        access::check_acl_headers(call)?;
        access::check_features(call)?;
        Ok(PutObject {
            key: Bytes::copy_from_slice(call.head.key()?.as_bytes()),
            condition: conditions::write_condition(&call.head.headers)?,
            described: Described::from_call(call)?,
            announced: Announced::from_headers(&call.head.headers)?,
        })
    }
}

pub(super) async fn put(call: &mut Call) -> S3Result<Answer> {
    let put = PutObject::parse(call)?;
    let bucket = access::bucket(call).await?;
    check_size(call.head.body_length(call.payload.is_chunked())?)?;
    let mut reader = call.reader()?;
    let inspector = Inspector::new(&call.payload, put.announced, Some(Algorithm::Crc64Nvme));
    let new =
        NewObject { bucket, key: put.key, condition: put.condition, described: put.described };
    let made = store(call, new, &mut reader, inspector).await;
    if made.is_err() {
        drain(&mut reader).await;
    }
    let made = made?;
    let mut answer = response::empty(StatusCode::OK);
    let headers = answer.headers_mut();
    response::set(headers, "etag", &response::quoted(&made.entry.etag));
    response::set_checksum(headers, made.detail_checksum.as_ref());
    Ok(answer)
}

pub(super) fn check_size(size: u64) -> S3Result<()> {
    match size > PIECE_OBJECT_BYTES_MAX {
        false => Ok(()),
        true => Err(Code::EntityTooLarge
            .with(Code::EntityTooLarge.message())
            .detail("ProposedSize", size.to_string())
            .detail("MaxSizeAllowed", PIECE_OBJECT_BYTES_MAX.to_string())),
    }
}

/// An object that is to be made of a body.
pub(super) struct NewObject {
    pub bucket: Rc<Bucket>,
    pub key: Bytes,
    pub condition: Condition,
    pub described: Described,
}

/// An object that was made.
pub(super) struct Made {
    pub entry: Entry,
    pub detail_checksum: Option<store_base::bucket::Checksum>,
}

/// Reads, checks and writes a body, and makes it visible.
pub(super) async fn store(
    call: &Call,
    new: NewObject,
    reader: &mut BodyReader,
    inspector: Inspector,
) -> S3Result<Made> {
    let service = &call.service;
    let destination = Destination {
        catalogue: service.catalogue.clone(),
        bucket: new.bucket.clone(),
        key: new.key.clone(),
        part: None,
    };
    let inline_max = service.settings.inline_bytes_max;
    let (written, digests) =
        upload::write(destination, reader, inspector, inline_max, &service.budget).await?;
    service.metrics.received(digests.size);
    let (body, announcement) = match written {
        Written::Inline(data) => (Body::Inline { data }, None),
        Written::Data(announcement) => {
            let manifest = manifest_of(&announcement.data());
            (Body::Striped { manifest }, Some(announcement))
        }
    };
    let entry = entry_of(call, &digests, announcement.is_some());
    let checksum = digests.checksum;
    let detail = Detail {
        headers: new.described.headers,
        metadata: new.described.metadata,
        checksum: checksum.clone(),
        body,
    };
    let put = Put {
        key: new.key,
        condition: new.condition,
        entry: entry.clone(),
        detail: detail.to_bytes(),
        intent: announcement.as_ref().map(upload::Announcement::data),
        now_ms: entry.modified_ms,
    };
    service.catalogue.put(&new.bucket, put).await?;
    if let Some(announcement) = announcement {
        announcement.committed();
    }
    Ok(Made { entry, detail_checksum: checksum })
}

fn entry_of(call: &Call, digests: &Digests, striped: bool) -> Entry {
    Entry {
        size: digests.size,
        etag: ETag { md5: digests.md5, parts: 0 },
        // When it became visible, not when the request began.
        modified_ms: store_shell::clock::timestamp().millis(),
        owner: call.user.id.clone(),
        checksum_algorithm: digests.checksum.as_ref().map_or(0, |checksum| checksum.algorithm),
        striped,
        upload: None,
    }
}

fn manifest_of(data: &store_base::bucket::DataRef) -> Manifest {
    Manifest {
        id: data.id,
        stripe_bytes: data.stripe_bytes,
        parts: vec![ManifestPart { number: data.part, attempt: data.attempt, size: data.size }],
        ..Manifest::default()
    }
}
