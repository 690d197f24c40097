//! `PutObject`, and what all writes of objects have in common.

use super::super::access::rules::Rules;
use super::super::access::{Permit, Sharing};
use super::super::auth::payload::{Digests, Inspector};
use super::super::checksum::{Algorithm, Announced};
use super::super::conditions;
use super::super::encryption::{self, Wanted};
use super::super::error::{Code, S3Result};
use super::super::logging::journal::{Plan, recorded};
use super::super::notification;
use super::super::response;
use super::super::website::check_location;
use super::super::{Answer, Call, Service, drain};
use super::{features, lock, tagging, versioning};
use crate::catalogue::Bucket;
use crate::transfer::body::BodyReader;
use crate::transfer::upload::{self, Destination, Written};
use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use std::collections::BTreeMap;
use std::rc::Rc;
use store_base::bucket::{
    Body, Condition, Detail, ETag, Encryption, Entry, Manifest, ManifestPart, Notes, ObjectLock,
    Put, expiry_of,
};
use store_base::codec::Encode;

/// Largest object that is put in one piece, and largest part.
pub(crate) const PIECE_OBJECT_BYTES_MAX: u64 = 5 << 30;

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
    REDIRECT_LOCATION,
];

/// Where a website leads instead of showing the object.
pub(crate) const REDIRECT_LOCATION: &str = "x-amz-website-redirect-location";

/// What is kept of the headers of a write.
pub(crate) struct Described {
    pub headers: BTreeMap<String, String>,
    pub metadata: BTreeMap<String, Bytes>,
    pub tags: tagging::Tags,
    pub lock: ObjectLock,
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
            if name == REDIRECT_LOCATION {
                check_location(&value)?;
            }
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
        let (tags, lock) = (tagging::from_headers(call)?, lock::from_headers(call)?);
        Ok(Described { headers, metadata, tags, lock })
    }
}

fn without_framing(value: &str) -> String {
    if !value.contains("aws-chunked") {
        return value.to_owned();
    }
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
        features::check(call)?;
        Ok(PutObject {
            key: Bytes::copy_from_slice(call.head.key()?.as_bytes()),
            condition: conditions::write_condition(&call.head.headers)?,
            described: Described::from_call(call)?,
            announced: Announced::from_headers(&call.head.headers)?,
        })
    }
}

pub(super) async fn put(permit: Permit, call: &mut Call) -> S3Result<Answer> {
    let put = PutObject::parse(call)?;
    let sharing = Sharing::of_write(call, &permit)?;
    let bucket = permit.bucket().clone();
    // They move into the object.
    let tags = permit.rules().lifecycle.as_ref().map(|_| put.described.tags.clone());
    let key = put.key.clone();
    let mut reader = call.reader()?;
    check_size(reader.left())?;
    let inspector = Inspector::new(&call.payload, put.announced, Some(Algorithm::Crc64Nvme));
    let new = NewObject {
        bucket: bucket.clone(),
        key: put.key,
        condition: put.condition,
        described: put.described,
        sharing,
        listed: BTreeMap::new(),
    };
    let made = store(call, new, &mut reader, inspector).await;
    if made.is_err() {
        drain(&mut reader).await;
    }
    let made = made?;
    let mut answer = response::empty(StatusCode::OK);
    let headers = answer.headers_mut();
    response::set(headers, "etag", &response::quoted(&made.entry.etag));
    response::set_checksum(headers, made.detail_checksum.as_ref());
    encryption::set_made_headers(headers, call, made.encryption.as_ref());
    let tags = tags.unwrap_or_default();
    set_expiration(headers, call, permit.rules(), &key, &made.entry, &tags);
    versioning::set_made(&mut answer, &bucket, &made.entry);
    Ok(answer)
}

/// When a rule of the bucket will remove the object, if one will.
pub(super) fn set_expiration(
    headers: &mut HeaderMap,
    call: &Call,
    rules: &Rules,
    key: &[u8],
    entry: &Entry,
    tags: &tagging::Tags,
) {
    let calendar = call.service.calendar;
    let lifecycle = rules.lifecycle.as_ref();
    let said = lifecycle.and_then(|rules| rules.announcement(key, entry, tags, calendar));
    if let Some(said) = said {
        response::set(headers, "x-amz-expiration", &said);
    }
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
pub(crate) struct NewObject {
    pub bucket: Rc<Bucket>,
    pub key: Bytes,
    pub condition: Condition,
    pub described: Described,
    pub sharing: Sharing,
    /// As [`Entry::listed`].
    pub listed: BTreeMap<String, String>,
}

/// An object that was made.
pub(crate) struct Made {
    pub entry: Entry,
    pub detail_checksum: Option<store_base::bucket::Checksum>,
    pub encryption: Option<Encryption>,
}

/// Reads, checks and writes a body, and makes it visible.
pub(crate) async fn store(
    call: &Call,
    new: NewObject,
    reader: &mut BodyReader,
    inspector: Inspector,
) -> S3Result<Made> {
    let wanted = Wanted::of_write(call, &new.bucket)?;
    let rules = call.service.rules.rules(&new.bucket)?;
    let notes = notification::notes(call, &rules, &new.key, notification::creation(call));
    let operation = match call.head.method.as_str() {
        "POST" => "REST.POST.OBJECT",
        _ => "REST.PUT.OBJECT",
    };
    let plan = Plan::of(call, &new.bucket, &rules, operation);
    store_as(&call.service, wanted, notes, plan, new, reader, inspector).await
}

/// The same, for whoever has no call.
pub(crate) async fn store_as(
    service: &Service,
    wanted: Wanted,
    notes: Option<Notes>,
    plan: Option<Plan>,
    new: NewObject,
    reader: &mut BodyReader,
    inspector: Inspector,
) -> S3Result<Made> {
    let (key, encryption) = wanted.begin(service, new.bucket.id).await?.unzip();
    let destination = Destination {
        catalogue: service.catalogue.clone(),
        bucket: new.bucket.clone(),
        key: new.key.clone(),
        part: None,
        sealing: key.clone().zip(encryption.as_ref().map(|encryption| encryption.id)),
    };
    let inline_max = service.settings.inline_bytes_max;
    let (written, mut digests) =
        upload::write(destination, reader, inspector, inline_max, &service.budget).await?;
    service.metrics.received(digests.size);
    digests.md5 = encryption::tag(digests.md5, key.as_ref(), encryption.as_ref());
    let (body, announcement) = match written {
        Written::Inline(data) => (Body::Inline { data }, None),
        Written::Data(announcement) => {
            let manifest = manifest_of(&announcement.data());
            (Body::Striped { manifest }, Some(announcement))
        }
    };
    let mut entry = entry_of(new.sharing.owner, &digests, announcement.is_some(), &new.described);
    entry.listed = new.listed;
    let checksum = digests.checksum;
    let detail = Detail {
        headers: new.described.headers,
        metadata: new.described.metadata,
        checksum: checksum.clone(),
        body,
        tags: new.described.tags,
        acl: new.sharing.acl,
        encryption: encryption.clone(),
    };
    let put = Put {
        notes,
        key: new.key,
        condition: new.condition,
        now_ms: entry.modified_ms,
        entry,
        detail: detail.to_bytes(),
        intent: announcement.as_ref().map(upload::Announcement::data),
        ..Put::default()
    };
    let key = put.key.clone();
    let entry = recorded(
        plan.map(|plan| plan.making(&key, &put.entry)),
        service,
        service.catalogue.put(&new.bucket, put),
        |plan, done| plan.made(&key, &done.entry),
    )
    .await??
    .entry;
    if let Some(announcement) = announcement {
        announcement.committed();
    }
    Ok(Made { entry, detail_checksum: checksum, encryption })
}

fn entry_of(owner: String, digests: &Digests, striped: bool, described: &Described) -> Entry {
    Entry {
        lock: described.lock,
        expires_ms: expiry_of(&described.headers),
        content_type: described.headers.get("content-type").cloned().unwrap_or_default(),
        size: digests.size,
        etag: ETag { md5: digests.md5, parts: 0 },
        // When it became visible, not when the request began.
        modified_ms: store_shell::clock::timestamp().millis(),
        owner,
        checksum_algorithm: digests.checksum.as_ref().map_or(0, |checksum| checksum.algorithm),
        striped,
        ..Entry::default()
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
