//! Objects: PUT, POST, DELETE.

use super::access::{self, AccountPermit};
use super::error::{SwiftError, SwiftResult};
use super::read::is_expired;
use super::{Call, copy, large, legacy, metadata, quota, respond, slo, symlink, versions};
use crate::catalogue::Bucket;
use crate::s3::access::Sharing;
use crate::s3::auth::payload::Inspector;
use crate::s3::checksum::{Algorithm, Announced};
use crate::s3::logging::journal::{Plan, recorded, removed};
use crate::s3::names::KEY_BYTES_MAX;
use crate::s3::notification::{Happens, notes};
use crate::s3::operations::write::{Described, Made, NewObject, PIECE_OBJECT_BYTES_MAX, store};
use crate::s3::router::Operation;
use crate::s3::{Answer, drain, response};
use crate::transfer::body::{BodyReader, Source};
use bytes::Bytes;
use http::header::{CONTENT_LENGTH, HeaderValue, TRANSFER_ENCODING};
use http::{HeaderMap, StatusCode};
use std::collections::BTreeMap;
use std::rc::Rc;
use store_base::bucket::{
    Body, Condition, Describe, Detail, ETag, Entry, Found, ObjectLock, Put, Read, Remove,
    RemoveItem, Removed, TagMatch, Version, Versioning, expiry_of,
};
use store_base::codec::Encode;
use store_shell::clock;

/// When an object ends, in seconds since 1970.
pub(super) const DELETE_AT: &str = "x-delete-at";

/// Headers that belong to an object besides its metadata and content type.
pub(super) const KEPT_HEADERS: [&str; 6] = [
    "cache-control",
    "content-disposition",
    "content-encoding",
    "content-language",
    "expires",
    "x-robots-tag",
];

/// Most bytes of one of them.
const HEADER_BYTES_MAX: usize = 4096;

/// Checks the name of an object.
pub(super) fn check_name(key: &str) -> SwiftResult<()> {
    match key.len() > KEY_BYTES_MAX {
        false => Ok(()),
        true => Err(SwiftError::bad_request(format!(
            "The name of an object has at most {KEY_BYTES_MAX} bytes."
        ))),
    }
}

/// The headers of a request that belong to the object.
pub(super) fn headers_of(call: &Call) -> SwiftResult<BTreeMap<String, String>> {
    let mut kept = BTreeMap::new();
    for name in KEPT_HEADERS.into_iter().chain(["content-type"]) {
        let Some(value) = call.head.header(name)?.filter(|value| !value.is_empty()) else {
            continue;
        };
        if value.len() > HEADER_BYTES_MAX {
            return Err(SwiftError::bad_request(format!(
                "{name} is longer than {HEADER_BYTES_MAX} bytes."
            )));
        }
        kept.insert(name.to_owned(), value.to_owned());
    }
    if let Some(place) = call.head.header(large::DYNAMIC)?.filter(|place| !place.is_empty()) {
        large::check_place(place)?;
        kept.insert(large::DYNAMIC.to_owned(), place.to_owned());
    }
    if let Some(at) = delete_at(call)? {
        kept.insert(DELETE_AT.to_owned(), at.to_string());
    }
    Ok(kept)
}

/// `X-Delete-After`, which wins, or `X-Delete-At`: as seconds since 1970, in the future.
fn delete_at(call: &Call) -> SwiftResult<Option<u64>> {
    let now = call.now_ms() / 1000;
    let number = |name: &str, shown: &str| -> SwiftResult<Option<u64>> {
        let Some(text) = call.head.header(name)?.filter(|text| !text.is_empty()) else {
            return Ok(None);
        };
        let text = text.trim();
        let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        let number = digits.then(|| text.parse::<u64>().unwrap_or(u64::MAX));
        // Ten digits are enough until the year 2286, and all that timestamps have.
        let number = number.map(|number| number.min(9_999_999_999));
        number.map(Some).ok_or_else(|| SwiftError::bad_request(format!("Non-integer {shown}")))
    };
    let at = match number("x-delete-after", "X-Delete-After")? {
        Some(0) => return Err(SwiftError::bad_request("X-Delete-After in past")),
        Some(after) => Some(now.saturating_add(after).min(9_999_999_999)),
        None => number(DELETE_AT, "X-Delete-At")?,
    };
    match at {
        Some(at) if at <= now => Err(SwiftError::bad_request("X-Delete-At in past")),
        at => Ok(at),
    }
}

/// The content type of an object, where nobody said one.
pub(super) fn guessed(key: &str) -> &'static str {
    let file = key.rsplit('/').next().unwrap_or_default();
    let extension = file.rsplit_once('.').map(|(_, extension)| extension.to_ascii_lowercase());
    match extension.as_deref().unwrap_or_default() {
        "avi" => "video/x-msvideo",
        "bmp" => "image/bmp",
        "css" => "text/css",
        "csv" => "text/csv",
        "gif" => "image/gif",
        "htm" | "html" => "text/html",
        "ico" => "image/vnd.microsoft.icon",
        "jpe" | "jpeg" | "jpg" => "image/jpeg",
        "js" | "mjs" => "text/javascript",
        "json" => "application/json",
        "m3u8" => "application/vnd.apple.mpegurl",
        "mov" | "qt" => "video/quicktime",
        "mp3" => "audio/mpeg",
        "mp4" => "video/mp4",
        "mpeg" | "mpg" => "video/mpeg",
        "pdf" => "application/pdf",
        "png" => "image/png",
        "ps" => "application/postscript",
        "rtf" => "application/rtf",
        "sh" => "application/x-sh",
        "svg" => "image/svg+xml",
        "tar" => "application/x-tar",
        "tif" | "tiff" => "image/tiff",
        "txt" | "text" | "log" => "text/plain",
        "wasm" => "application/wasm",
        "wav" => "audio/x-wav",
        "webm" => "video/webm",
        "webp" => "image/webp",
        "xml" => "text/xml",
        "zip" => "application/zip",
        _ => super::container::CONTENT_TYPE_DEFAULT,
    }
}

/// `If-None-Match: *` is all that a write may want.
pub(super) fn condition(headers: &HeaderMap) -> SwiftResult<Condition> {
    match headers.get("if-none-match").map(HeaderValue::as_bytes) {
        None => Ok(Condition::default()),
        Some(b"*") => Ok(Condition { if_match: None, if_none_match: Some(TagMatch::Any {}) }),
        Some(_) => Err(SwiftError::bad_request("If-None-Match of a PUT can only be *.")),
    }
}

/// `ETag`: the MD5 that the body must have. What is no MD5 is one that no body has.
fn announced(headers: &HeaderMap) -> SwiftResult<Announced> {
    let Some(value) = headers.get("etag") else { return Ok(Announced::default()) };
    let text = value.to_str().unwrap_or_default().trim().trim_matches('"').to_ascii_lowercase();
    match text.parse::<ETag>() {
        Ok(ETag { md5, parts: 0 }) => Ok(Announced { md5: Some(md5), ..Announced::default() }),
        _ => Err(SwiftError::new(
            StatusCode::UNPROCESSABLE_ENTITY,
            "The ETag is not the MD5 of the body.",
        )),
    }
}

/// The body: of the length that is said, or chunked and of any length.
pub(super) fn body(call: &mut Call) -> SwiftResult<BodyReader> {
    let length = match call.head.headers.get(CONTENT_LENGTH) {
        None if call.head.headers.contains_key(TRANSFER_ENCODING) => None,
        None => {
            return Err(SwiftError::new(
                StatusCode::LENGTH_REQUIRED,
                "A PUT says the length of its body, or sends it in chunks.",
            ));
        }
        Some(_) => {
            let length = call.head.content_length()?;
            Some(length.ok_or_else(|| SwiftError::bad_request("Content-Length is no number."))?)
        }
    };
    if length.is_some_and(|length| length > PIECE_OBJECT_BYTES_MAX) {
        return Err(SwiftError::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            format!(
                "An object that is put in one piece has at most {PIECE_OBJECT_BYTES_MAX} bytes."
            ),
        ));
    }
    let body = call.body.take().ok_or(crate::s3::error::Code::InternalError)?;
    let source = Source::Http(body, call.service.settings.body_idle);
    Ok(match length {
        Some(length) => BodyReader::new(source, None, length).paced(call.pace.clone()),
        None => BodyReader::open(source, PIECE_OBJECT_BYTES_MAX).paced(call.pace.clone()),
    })
}

pub(super) fn key_of(call: &Call) -> SwiftResult<Bytes> {
    Ok(Bytes::copy_from_slice(call.head.key()?.as_bytes()))
}

/// PUT: writes an object, or copies one where `X-Copy-From` names it.
pub(super) async fn put(call: &mut Call, permit: &AccountPermit) -> SwiftResult<Answer> {
    if call.head.headers.contains_key("x-copy-from") {
        return copy::copy_from(call, permit).await;
    }
    if let Some(id) = versions::asked_id(call)? {
        return restore(call, permit, &id).await;
    }
    if call.head.query.value("multipart-manifest") == Some("put") {
        return slo::put(call, permit).await;
    }
    let key = key_of(call)?;
    let condition = condition(&call.head.headers)?;
    let announced = announced(&call.head.headers)?;
    let given = headers_of(call)?;
    let metadata = metadata::of_object(&call.head.headers)?;
    let leave = access::container(call, permit, Operation::PutObject).await?;
    let bucket = leave.bucket().clone();
    let link = symlink::asked(call, permit).await?.unwrap_or_default();
    let mut reader = body(call)?;
    if !link.headers.is_empty() && !is_empty(call, &mut reader).await? {
        return Err(SwiftError::bad_request("Symlink requests require a zero byte body"));
    }
    let typed = given.contains_key("content-type");
    let mut headers = with_type(call, given)?;
    if let (Some(kind), false) = (link.content_type, typed) {
        // A link to an object that is known is of its kind.
        headers.insert("content-type".to_owned(), kind);
    }
    headers.extend(link.headers);
    let size = call.head.content_length()?;
    let room = quota::check(call, permit, &bucket, size).await;
    let made = match room {
        Err(error) => Err(error),
        Ok(room) => {
            if let (Some(room), None) = (room, size) {
                // What has no length ends where the room does.
                reader.allow(room);
            }
            legacy::keep(call, permit, &bucket, &key).await?;
            let inspector = Inspector::new(&call.payload, announced, Some(Algorithm::Crc64Nvme));
            let described = described(headers, metadata);
            let (sharing, listed) = (access::sharing(&leave), link.listed);
            let bucket = bucket.clone();
            let new = NewObject { bucket, key, condition, described, sharing, listed };
            store(call, new, &mut reader, inspector).await.map_err(SwiftError::from)
        }
    };
    if made.is_err() {
        drain(&mut reader).await;
    }
    Ok(created(call, &bucket, &made?))
}

async fn is_empty(call: &Call, reader: &mut BodyReader) -> SwiftResult<bool> {
    reader.settle(&call.service.budget).await?;
    Ok(reader.left() == 0)
}

/// The headers of a new object with a content type: given, or guessed.
pub(super) fn with_type(
    call: &Call,
    mut headers: BTreeMap<String, String>,
) -> SwiftResult<BTreeMap<String, String>> {
    let detects = call.head.header("x-detect-content-type")?;
    let detects = detects.is_some_and(versions::is_true);
    if detects || !headers.contains_key("content-type") {
        headers.insert("content-type".to_owned(), guessed(call.head.key()?).to_owned());
    }
    Ok(headers)
}

pub(super) fn described(
    headers: BTreeMap<String, String>,
    metadata: BTreeMap<String, Bytes>,
) -> Described {
    Described { headers, metadata, tags: BTreeMap::new(), lock: ObjectLock::default() }
}

/// 201 with what tells the new object apart.
pub(super) fn created(_: &Call, bucket: &Bucket, made: &Made) -> Answer {
    let mut answer = respond::empty(StatusCode::CREATED);
    let headers = answer.headers_mut();
    let etag = large::tag_of(&made.entry);
    let large = made.entry.listed.contains_key(large::MANIFEST_HASH);
    response::set(headers, "etag", &if large { format!("\"{etag}\"") } else { etag.to_string() });
    response::set(headers, "last-modified", &respond::last_modified(made.entry.modified_ms));
    if made.entry.named {
        versions::set_id(headers, bucket, &made.entry);
    }
    answer
}

/// A static large object that is to be made.
pub(super) struct PutSegments {
    pub key: Bytes,
    pub condition: Condition,
    pub described: Described,
    pub sharing: Sharing,
    /// As [`Body::Segments`] has it.
    pub manifest: Bytes,
    pub size: u64,
    pub etag: ETag,
    pub listed: BTreeMap<String, String>,
}

/// Makes a static large object visible.
pub(super) async fn put_segments(
    call: &Call,
    bucket: &Rc<Bucket>,
    put: PutSegments,
) -> SwiftResult<Made> {
    let entry = Entry {
        size: put.size,
        etag: put.etag,
        modified_ms: clock::timestamp().millis(),
        owner: put.sharing.owner,
        content_type: put.described.headers.get("content-type").cloned().unwrap_or_default(),
        expires_ms: expiry_of(&put.described.headers),
        listed: put.listed,
        ..Entry::default()
    };
    let detail = Detail {
        headers: put.described.headers,
        metadata: put.described.metadata,
        body: Body::Segments { manifest: put.manifest },
        acl: put.sharing.acl,
        ..Detail::default()
    };
    let rules = call.service.rules.rules(bucket)?;
    let put = Put {
        notes: notes(call, &rules, &put.key, Happens::Created("Put")),
        key: put.key,
        condition: put.condition,
        now_ms: entry.modified_ms,
        entry,
        detail: detail.to_bytes(),
        ..Put::default()
    };
    let plan = Plan::of(call, bucket, &rules, "REST.PUT.OBJECT");
    let key = put.key.clone();
    let entry = recorded(
        plan.map(|plan| plan.making(&key, &put.entry)),
        &call.service,
        call.service.catalogue.put(bucket, put),
        |plan, done| plan.made(&key, &done.entry),
    )
    .await??
    .entry;
    Ok(Made { entry, detail_checksum: None, encryption: None })
}

/// PUT of a version that is there already: it becomes the newest, as a copy of itself.
async fn restore(call: &mut Call, permit: &AccountPermit, id: &str) -> SwiftResult<Answer> {
    if id == "null" {
        return Err(SwiftError::bad_request("This version has no id."));
    }
    if call.head.content_length()?.unwrap_or(1) != 0 {
        return Err(SwiftError::bad_request("What becomes the newest version has no body."));
    }
    let leave = access::container(call, permit, Operation::PutObject).await?;
    if !permit.owns() {
        return Err(SwiftError::forbidden());
    }
    let bucket = leave.bucket();
    let key = key_of(call)?;
    let version = versions::named(bucket, id)?;
    let read = Read { key: key.clone(), body: true, version: Some(version) };
    let found = call.service.catalogue.read(bucket, read).await?;
    let found = found.ok_or_else(SwiftError::not_found)?;
    if found.entry.delete_marker {
        return Err(SwiftError::not_found());
    }
    let made = copy::whole(call, bucket, &found, bucket, key).await?;
    Ok(created(call, bucket, &made))
}

/// POST: other metadata. What is not given is gone, but for the content type.
pub(super) async fn post(call: &mut Call, permit: &AccountPermit) -> SwiftResult<Answer> {
    if symlink::HEADERS.iter().any(|name| call.head.headers.contains_key(*name)) {
        return Err(SwiftError::bad_request("A PUT request is required to set a symlink target"));
    }
    let mut keep = vec!["content-type".to_owned()];
    keep.extend(symlink::HEADERS.map(str::to_owned));
    let describe = Describe {
        key: key_of(call)?,
        headers: headers_of(call)?,
        keep,
        metadata: metadata::of_object(&call.head.headers)?,
        now_ms: call.now_ms(),
    };
    let leave = access::container(call, permit, Operation::PutObject).await?;
    if call.head.query.has("version-id") {
        return Err(SwiftError::bad_request("A POST is about the newest version."));
    }
    let bucket = leave.bucket();
    let present = present(call, bucket, &describe.key).await?;
    if is_expired(call, &present) {
        return Err(SwiftError::not_found());
    }
    match call.service.catalogue.describe(bucket, describe).await {
        Err(crate::catalogue::CatalogueError::Refused(
            store_base::bucket::Refusal::DeleteMarker { .. },
        )) => return Err(SwiftError::not_found()),
        done => done?,
    };
    if let Some(redirect) = symlink::redirect(&present.detail, &bucket.owner) {
        return Err(redirect);
    }
    let mut answer = respond::empty(StatusCode::ACCEPTED);
    if present.entry.named {
        versions::set_id(answer.headers_mut(), bucket, &present.entry);
    }
    Ok(answer)
}

/// What is under a key now.
async fn present(call: &Call, bucket: &Rc<Bucket>, key: &Bytes) -> SwiftResult<Found> {
    let read = Read { key: key.clone(), body: false, version: None };
    let found = call.service.catalogue.read(bucket, read).await?;
    found.filter(|found| !found.entry.delete_marker).ok_or_else(SwiftError::not_found)
}

/// DELETE
pub(super) async fn delete(call: &mut Call, permit: &AccountPermit) -> SwiftResult<Answer> {
    let leave = access::container(call, permit, Operation::DeleteObject).await?;
    if call.head.query.value("multipart-manifest") == Some("delete") {
        return slo::delete(call, permit).await;
    }
    let (bucket, key) = (leave.bucket().clone(), key_of(call)?);
    check_delete_at(call, &bucket, &key).await?;
    match versions::asked_id(call)? {
        Some(_) if !permit.owns() => Err(SwiftError::forbidden()),
        Some(id) => delete_version(call, &bucket, key, &id).await,
        None => delete_object(call, permit, &bucket, key).await,
    }
}

/// `X-If-Delete-At`: the object goes only if it ends at that time.
async fn check_delete_at(call: &Call, bucket: &Rc<Bucket>, key: &Bytes) -> SwiftResult<()> {
    let Some(wanted) = call.head.header("x-if-delete-at")? else { return Ok(()) };
    let wanted = wanted.trim().parse::<u64>();
    let wanted = wanted.map_err(|_| SwiftError::bad_request("Bad X-If-Delete-At header value"))?;
    let present = present(call, bucket, key).await?;
    let at = present.detail.headers.get(DELETE_AT).and_then(|at| at.parse::<u64>().ok());
    match at == Some(wanted) {
        true => Ok(()),
        false => {
            let why = "X-If-Delete-At and X-Delete-At do not match";
            Err(SwiftError::new(StatusCode::PRECONDITION_FAILED, why))
        }
    }
}

/// Deletes an object. In a container with versions, deleting what is not there leaves a marker all the same.
pub(super) async fn delete_object(
    call: &Call,
    permit: &AccountPermit,
    bucket: &Rc<Bucket>,
    key: Bytes,
) -> SwiftResult<Answer> {
    if legacy::delete(call, permit, bucket, &key).await?.is_some() {
        return Ok(respond::empty(StatusCode::NO_CONTENT));
    }
    let kept = bucket.settings.versioning == Versioning::Enabled;
    let there = match present(call, bucket, &key).await {
        Ok(present) => !is_expired(call, &present),
        Err(error) if error.status == StatusCode::NOT_FOUND && kept => false,
        Err(error) => return Err(error),
    };
    // Without versions there must be an object: where there is none, nothing changes.
    let condition = match kept {
        true => Condition::default(),
        false => Condition { if_match: Some(TagMatch::Any {}), if_none_match: None },
    };
    let removed =
        remove(call, bucket, vec![RemoveItem { key, condition, ..RemoveItem::default() }]).await?;
    let marker = removed.into_iter().next().and_then(|removed| removed.marker);
    let status = if there { StatusCode::NO_CONTENT } else { StatusCode::NOT_FOUND };
    let mut answer = respond::empty(status);
    if let Some(marker) = marker.filter(|_| kept) {
        versions::set_id(answer.headers_mut(), bucket, &marker);
    }
    Ok(answer)
}

/// Deletes one version for good.
async fn delete_version(
    call: &Call,
    bucket: &Rc<Bucket>,
    key: Bytes,
    id: &str,
) -> SwiftResult<Answer> {
    let mut answer = respond::empty(StatusCode::NO_CONTENT);
    response::set(answer.headers_mut(), versions::VERSION_ID, id);
    let Some(version) = Version::parse(id, bucket.id) else { return Ok(answer) };
    let item = RemoveItem { key: key.clone(), version: Some(version), ..RemoveItem::default() };
    remove(call, bucket, vec![item]).await?;
    if let Ok(present) = present(call, bucket, &key).await {
        let current = present.entry.version().text(bucket.id);
        response::set(answer.headers_mut(), "x-object-current-version-id", &current);
    }
    Ok(answer)
}

/// Removes objects or versions: all, or an error.
pub(super) async fn remove(
    call: &Call,
    bucket: &Rc<Bucket>,
    mut items: Vec<RemoveItem>,
) -> SwiftResult<Vec<Removed>> {
    let rules = call.service.rules.rules(bucket)?;
    for item in &mut items {
        item.notes = notes(call, &rules, &item.key, Happens::Removed);
    }
    let remove = Remove {
        items,
        now_ms: call.now_ms(),
        owner: call.caller.id_or(&bucket.owner).to_owned(),
        ..Remove::default()
    };
    let plan = Plan::of(call, bucket, &rules, "REST.DELETE.OBJECT");
    let outcomes = removed(plan, &call.service, bucket, remove).await?;
    let removed: Result<Vec<_>, _> = outcomes.into_iter().collect();
    Ok(removed.map_err(crate::s3::error::S3Error::from)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_are_guessed_by_extension() {
        assert_eq!(guessed("a.b/x.TXT"), "text/plain");
        assert_eq!(guessed("x.tar"), "application/x-tar");
        assert_eq!(guessed("a.txt/x"), "application/octet-stream");
        assert_eq!(guessed(""), "application/octet-stream");
    }
}
