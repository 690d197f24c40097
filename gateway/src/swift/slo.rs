//! Static large objects: making one of a list of segments, its manifest, and deleting it with its segments.

mod manifest;

use super::access::{self, AccountPermit};
use super::bulk::{self, Report};
use super::error::{SwiftError, SwiftResult};
use super::large::{self, DEPTH_MAX, MANIFEST_HASH, Opened};
use super::object::{
    PutSegments, condition, created, described, headers_of, key_of, put_segments, with_type,
};
use super::{Call, metadata, quota, respond, symlink};
use crate::http::body::ResponseBody;
use crate::s3::router::Operation;
use crate::s3::{Answer, response};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use futures_util::{StreamExt, stream};
use http::{Method, StatusCode};
use manifest::{Asked, parse, raw_manifest};
use md5::{Digest, Md5};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use store_base::bucket::{Body, ETag, Found};

/// Most bytes of a manifest as it is sent.
pub(super) const MANIFEST_BYTES_MAX: usize = 2 << 20;

/// Most bytes of a manifest as it is kept: it is a record of the index.
pub(super) const KEPT_BYTES_MAX: usize = 384 << 10;

/// Most segments.
pub(super) const SEGMENTS_MAX: usize = 1000;

/// How many segments are looked at at a time.
const LOOKED_AT_ONCE: usize = 8;

/// A segment that was looked at: its line of the manifest, its length, and what it adds to the entity tag.
struct Checked {
    line: Value,
    length: u64,
    tag: String,
}

async fn check(
    call: &Call,
    account: &str,
    segment: &Asked,
    last: bool,
) -> Result<Checked, (String, String)> {
    let (shown, container, object, etag, size, range) = match segment {
        Asked::Data(data) => {
            let line = json!({ "data": STANDARD.encode(data) });
            let tag = hex::encode(Md5::digest(data));
            return Ok(Checked { line, length: data.len() as u64, tag });
        }
        Asked::Object { path, container, object, etag, size, range } => {
            (path, container, object, etag, size, range)
        }
    };
    let path = format!("/{container}/{object}");
    let wrong = |why: &str| (shown.clone(), why.to_owned());
    let looked = look(call, account, container, object).await;
    let opened = looked.map_err(|error| (shown.clone(), status_text(error.status)))?;
    let entry = &opened.found.entry;
    let tag = entry.etag.to_string();
    if size.is_some_and(|size| size != entry.size) {
        return Err(wrong("Size Mismatch"));
    }
    if etag.as_ref().is_some_and(|etag| etag.trim_matches('"') != tag) {
        return Err(wrong("Etag Mismatch"));
    }
    if entry.size == 0 && !last {
        return Err(wrong("Too Small; each segment must be at least 1 byte."));
    }
    let mut line = json!({
        "name": path,
        "bytes": entry.size,
        "hash": tag,
        "content_type": content_type(&opened.found),
        "last_modified": respond::listed(entry.modified_ms),
    });
    let (mut length, mut tag) = (entry.size, tag);
    if let Some(range) = range {
        let parsed = large::parse_range(range).ok_or_else(|| wrong("Unsatisfiable Range"))?;
        let (first, count) =
            parsed.resolve(entry.size).map_err(|_| wrong("Unsatisfiable Range"))?;
        let kept = format!("{first}-{}", first + count - 1);
        // A range of everything is none.
        if count != entry.size {
            line["range"] = kept.as_str().into();
            tag = format!("{tag}:{kept};");
        }
        length = count;
    }
    if opened.is_static() {
        line["sub_slo"] = true.into();
    }
    Ok(Checked { line, length, tag })
}

fn status_text(status: StatusCode) -> String {
    format!("{} {}", status.as_u16(), status.canonical_reason().unwrap_or_default())
}

fn content_type(found: &Found) -> &str {
    let kind = found.detail.headers.get("content-type").map(String::as_str);
    kind.unwrap_or(super::container::CONTENT_TYPE_DEFAULT)
}

/// The object of a segment, with links and manifests resolved.
async fn look(call: &Call, account: &str, container: &str, object: &str) -> SwiftResult<Opened> {
    let leave = access::source(call, account, container, object, None).await?;
    let found = leave.read(call, false).await?;
    let followed = symlink::follow(call, found.bucket, found.found, false).await?;
    Ok(large::open_here(call, followed.bucket, followed.found).await?)
}

/// PUT of a manifest.
pub(super) async fn put(call: &mut Call, permit: &AccountPermit) -> SwiftResult<Answer> {
    let leave = access::container(call, permit, Operation::PutObject).await?;
    let key = key_of(call)?;
    let condition = condition(&call.head.headers)?;
    let headers = with_type(call, headers_of(call)?)?;
    if headers.contains_key(large::DYNAMIC) {
        return Err(SwiftError::bad_request("A large object is static or dynamic, not both."));
    }
    let metadata = metadata::of_object(&call.head.headers)?;
    let body = bulk::whole_body(call, MANIFEST_BYTES_MAX).await?;
    let container = access::shown_name(permit.id(), call.head.bucket()?).to_owned();
    let asked = parse(&body, (&container, call.head.key()?))?;
    let heartbeat = call.head.query.value("heartbeat");
    let heartbeat = heartbeat.is_some_and(super::versions::is_true);
    let made = async {
        let (lines, size, etag) = checked(call, permit.id(), &asked).await?;
        check_tag(call, &etag)?;
        let manifest = Bytes::from(Value::Array(lines).to_string());
        if manifest.len() > KEPT_BYTES_MAX {
            return Err(SwiftError::new(
                StatusCode::PAYLOAD_TOO_LARGE,
                format!("The manifest, completed, has more than {KEPT_BYTES_MAX} bytes."),
            ));
        }
        let bucket = leave.bucket();
        quota::check(call, permit, bucket, Some(size)).await?;
        super::legacy::keep(call, permit, bucket, &key).await?;
        let hash = hex::encode(Md5::digest(&manifest));
        let put = PutSegments {
            key,
            condition,
            described: described(headers, metadata),
            sharing: access::sharing(&leave),
            manifest,
            size,
            etag,
            listed: [(MANIFEST_HASH.to_owned(), hash)].into(),
        };
        Ok(created(call, bucket, &put_segments(call, bucket, put).await?))
    };
    let made: SwiftResult<Answer> = made.await;
    match heartbeat {
        true => beaten(call, made),
        false => made,
    }
}

/// Looks at all segments: the lines of the manifest, and size and entity tag of the whole.
async fn checked(
    call: &Call,
    account: &str,
    asked: &[Asked],
) -> SwiftResult<(Vec<Value>, u64, ETag)> {
    let last = asked.len() - 1;
    let looked = stream::iter(asked.iter().enumerate())
        .map(|(at, segment)| check(call, account, segment, at == last))
        .buffered(LOOKED_AT_ONCE);
    let looked: Vec<_> = looked.collect().await;
    let (mut lines, mut wrong) = (Vec::new(), Vec::new());
    let (mut size, mut hash) = (0u64, Md5::new());
    for segment in looked {
        match segment {
            Ok(segment) => {
                size = size.saturating_add(segment.length);
                hash.update(segment.tag.as_bytes());
                lines.push(segment.line);
            }
            Err(error) => wrong.push(error),
        }
    }
    if wrong.is_empty() {
        let parts = u32::try_from(asked.len()).unwrap_or(u32::MAX);
        return Ok((lines, size, ETag { md5: hash.finalize().into(), parts }));
    }
    let report = Report { errors: wrong, ..Report::default() };
    let format = bulk::format(call);
    let text = report.errors_text(format);
    let error = SwiftError::bad_request(text).in_kind(format.content_type());
    Err(SwiftError { parts: report.errors, ..error })
}

/// Checks a manifest that is copied into another account.
pub(super) async fn check_again(call: &Call, account: &str, kept: &[u8]) -> SwiftResult<()> {
    let raw = raw_manifest(kept).unwrap_or_default();
    let asked = parse(&raw, ("", ""))?;
    checked(call, account, &asked).await.map(drop)
}

/// `ETag`: what the entity tag of the whole must be.
fn check_tag(call: &Call, etag: &ETag) -> SwiftResult<()> {
    let etag = ETag { parts: 0, ..*etag };
    let Some(given) = call.head.header("etag")? else { return Ok(()) };
    match given.trim().trim_matches('"').eq_ignore_ascii_case(&etag.to_string()) {
        true => Ok(()),
        false => Err(SwiftError::new(
            StatusCode::UNPROCESSABLE_ENTITY,
            "The ETag is not the one that these segments have together.",
        )),
    }
}

/// What went wrong, where the segments do not tell already.
fn sentence(error: &SwiftError) -> &str {
    match error.status {
        StatusCode::UNPROCESSABLE_ENTITY => "Unable to process the contained instructions",
        StatusCode::BAD_REQUEST if !error.parts.is_empty() => {
            "The server could not comply with the request since it is either malformed or otherwise incorrect."
        }
        _ => &error.message,
    }
}

/// The answer for who wanted to be kept waiting with blanks: its status is told in the body.
fn beaten(call: &Call, made: SwiftResult<Answer>) -> SwiftResult<Answer> {
    let format = bulk::format(call);
    let mut report = Report::default();
    let mut extra = Vec::new();
    match made {
        Ok(answer) => {
            report.status = StatusCode::CREATED;
            for (name, shown) in [("etag", "Etag"), ("last-modified", "Last Modified")] {
                let value = answer.headers().get(name).and_then(|value| value.to_str().ok());
                extra.push((shown, value.unwrap_or_default().to_owned()));
            }
        }
        Err(error) => {
            report.status = error.status;
            let reason = error.status.canonical_reason().unwrap_or_default();
            report.body = format!("{reason}\n{}", sentence(&error));
            report.errors = error.parts;
        }
    }
    let text = format!(" \n\r\n{}", report.text_of_put(format, &extra));
    let bytes = stream::iter([Ok(Bytes::from(text))]).boxed_local();
    let mut answer = Answer::new(ResponseBody::Chunks(bytes));
    *answer.status_mut() = StatusCode::ACCEPTED;
    response::set(answer.headers_mut(), "content-type", format.content_type());
    Ok(answer)
}

/// The manifest of an object, for GET and HEAD with `multipart-manifest=get`.
pub(super) fn manifest(call: &Call, found: &Found) -> Option<Answer> {
    let Body::Segments { manifest } = &found.detail.body else { return None };
    let raw = call.head.query.value("format") == Some("raw");
    let (body, kind) = match raw {
        true => (raw_manifest(manifest)?, content_type(found).to_owned()),
        false => (manifest.clone(), "application/json; charset=utf-8".to_owned()),
    };
    let mut answer = respond::with_body(StatusCode::OK, &kind, body.clone());
    let headers = answer.headers_mut();
    super::read::set_described(headers, &found.detail);
    response::set(headers, "content-type", &kind);
    response::set(headers, "etag", &hex::encode(Md5::digest(&body)));
    response::set(headers, "x-static-large-object", "True");
    respond::set_times(headers, found.entry.modified_ms, found.entry.modified_ms);
    if call.head.method == Method::HEAD {
        response::set(headers, "content-length", &body.len().to_string());
        *answer.body_mut() = ResponseBody::empty();
    }
    Some(answer)
}

/// DELETE with all segments.
pub(super) async fn delete(call: &mut Call, permit: &AccountPermit) -> SwiftResult<Answer> {
    let container = access::shown_name(permit.id(), call.head.bucket()?).to_owned();
    let own = (container, call.head.key()?.to_owned());
    let Named { paths, unread } = segments_of(call, permit, &own).await?;
    let mut report = Report::default();
    for (container, object) in paths.into_iter().chain([own]) {
        let path = format!("/{container}/{object}");
        if let Some(status) = unread.get(&path) {
            // What it is made of is not known: without it nobody would find that again.
            report.failed(path, *status);
            continue;
        }
        bulk::delete_one(call, permit, &container, Some(&object), &mut report).await;
    }
    Ok(bulk::deleted(call, report))
}

/// What a static large object names.
struct Named {
    /// Containers and objects, each once.
    paths: Vec<(String, String)>,
    /// Those of them that name others and that could not be read, by path.
    unread: BTreeMap<String, StatusCode>,
}

/// All segments of a static large object, those of its segments included.
async fn segments_of(
    call: &Call,
    permit: &AccountPermit,
    own: &(String, String),
) -> SwiftResult<Named> {
    let mut unread = BTreeMap::new();
    let mut all: Vec<(String, String)> = Vec::new();
    let mut open = vec![(own.clone(), 0)];
    while let Some(((container, object), depth)) = open.pop() {
        let leave = access::source(call, permit.id(), &container, &object, None).await;
        let found = match leave {
            Ok(leave) => leave.read(call, false).await.map_err(SwiftError::from),
            Err(error) => Err(error),
        };
        let found = match found {
            Ok(found) => found.found,
            Err(error) if depth == 0 || error.status.is_server_error() => return Err(error),
            // The deletion says what is missing.
            Err(error) if error.status == StatusCode::NOT_FOUND => continue,
            Err(error) => {
                unread.insert(format!("/{container}/{object}"), error.status);
                continue;
            }
        };
        let Body::Segments { manifest } = &found.detail.body else {
            if depth == 0 {
                return Err(SwiftError::bad_request("Not an SLO manifest"));
            }
            continue;
        };
        if depth > DEPTH_MAX {
            return Err(SwiftError::bad_request("The segments lie too deep."));
        }
        for segment in large::parse_stored(manifest).unwrap_or_default() {
            let large::SegmentSource::Object { container, object, nested, .. } = segment.source
            else {
                continue;
            };
            let place = (container, object);
            if all.contains(&place) {
                continue;
            }
            if all.len() >= bulk::DELETES_MAX {
                return Err(SwiftError::bad_request("There are too many segments."));
            }
            all.push(place.clone());
            if nested {
                open.push((place, depth + 1));
            }
        }
    }
    Ok(Named { paths: all, unread })
}
