//! Objects: GET and HEAD, with one range or several.

use super::access::{self, AccountPermit};
use super::error::{SwiftError, SwiftResult};
use super::large::{self, Opened};
use super::object::DELETE_AT;
use super::{Call, metadata, respond, slo, symlink, versions};
use crate::catalogue::Bucket;
use crate::http::body::ResponseBody;
use crate::s3::access::Admitted;
use crate::s3::conditions::ReadCondition;
use crate::s3::encryption;
use crate::s3::error::{Code, S3Error};
use crate::s3::range::Range;
use crate::s3::{Answer, response, uri};
use bytes::Bytes;
use http::header::{CONTENT_RANGE, HeaderName, HeaderValue};
use http::{HeaderMap, Method, Response, StatusCode};
use std::collections::VecDeque;
use std::rc::Rc;
use store_base::bucket::{Detail, Entry, Found};
use store_shell::clock;

/// How often a read begins anew when the object is replaced, and the old data swept, under it.
const READS_MAX: u32 = 3;

/// The header by which clients know that the entity tag is not the MD5 of the body.
const STATIC: &str = "x-static-large-object";

/// Most ranges of one request.
const RANGES_MAX: usize = 50;

/// First byte and length.
pub(super) type Stretch = (u64, u64);

/// What of an object is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Wanted {
    All,
    /// Some stretches, at least one.
    Ranges(Vec<Stretch>),
    /// Ranges of which nothing is there.
    Nothing,
}

/// Reads `Range`. A header that is not well formed is passed over; ranges of which nothing is there are
/// left out.
fn wanted(header: Option<&str>, size: u64) -> Wanted {
    let Some((unit, list)) = header.and_then(|header| header.split_once('=')) else {
        return Wanted::All;
    };
    let ranges: Option<Vec<Range>> =
        list.split(',').map(|range| Range::parse(&format!("{unit}={}", range.trim()))).collect();
    let Some(ranges) = ranges else { return Wanted::All };
    let there: Vec<Stretch> = ranges.iter().filter_map(|range| range.resolve(size).ok()).collect();
    // Asking for the same bytes over and over is no reading.
    let bytes = there.iter().fold(0u64, |sum, (_, length)| sum.saturating_add(*length));
    match there.is_empty() || ranges.len() > RANGES_MAX || bytes > size.saturating_mul(2) {
        true => Wanted::Nothing,
        false => Wanted::Ranges(there),
    }
}

/// Whether an object has ended, though it has not been removed yet.
pub(super) fn is_expired(call: &Call, found: &Found) -> bool {
    let at = found.detail.headers.get(DELETE_AT).and_then(|at| at.parse::<u64>().ok());
    at.is_some_and(|at| at <= call.now_ms() / 1000)
}

/// GET and HEAD.
pub(super) async fn read(
    call: &mut Call,
    permit: &AccountPermit,
    container: &str,
) -> SwiftResult<Answer> {
    let condition = ReadCondition::from_headers(&call.head.headers)?;
    let version = versions::asked_id(call)?;
    if version.is_some() && !permit.owns() {
        return Err(SwiftError::forbidden());
    }
    let key = call.head.key()?.to_owned();
    let leave = access::source(call, permit.id(), container, &key, version.clone()).await?;
    let is_get = call.head.method == Method::GET;
    let mut tries = 1;
    loop {
        let Admitted { bucket, found, .. } =
            leave.read(call, is_get).await.map_err(|error| missing(error, version.as_deref()))?;
        if version.is_none() && is_expired(call, &found) {
            return Err(SwiftError::not_found());
        }
        let done = shown(call, &condition, bucket, found).await;
        match done {
            Ok(answer) => return Ok(answer),
            // Data that was swept while we looked: the object was replaced.
            Err(error) if tries < READS_MAX && error.status.is_server_error() => {
                tracing::debug!(?error, "read begins anew");
                tries += 1;
            }
            Err(error) => return Err(error),
        }
    }
}

/// A delete marker that is asked for by its id is nothing to Swift.
fn missing(error: S3Error, version: Option<&str>) -> SwiftError {
    match (error.code, version) {
        (Code::MethodNotAllowed, Some(id)) => versions::is_marker(id),
        _ => error.into(),
    }
}

/// Answers with what was found, or with what it stands for.
async fn shown(
    call: &Call,
    condition: &ReadCondition,
    bucket: Rc<Bucket>,
    found: Found,
) -> SwiftResult<Answer> {
    let is_get = call.head.method == Method::GET;
    let followed = match symlink::wants_link(call) {
        true => symlink::Followed { bucket, found, location: None },
        false => symlink::follow(call, bucket, found, is_get).await?,
    };
    let location = followed.location;
    let manifest = call.head.query.value("multipart-manifest") == Some("get");
    if let (true, Some(mut answer)) = (manifest, slo::manifest(call, &followed.found)) {
        let entry = &followed.found.entry;
        condition.check(&Entry { etag: large::tag_of(entry), ..entry.clone() })?;
        symlink::set_location(answer.headers_mut(), location.as_ref());
        return Ok(answer);
    }
    let opened = match manifest {
        true => Opened::raw(followed.bucket, followed.found),
        false => large::open_here(call, followed.bucket, followed.found).await?,
    };
    // Who has not the key that the object was sealed with learns nothing but that it is needed.
    encryption::of_object(call, &opened.bucket, &opened.found.detail).await?;
    let located = |error: SwiftError| match &location {
        Some(path) => match HeaderValue::from_str(path) {
            Ok(value) => error.header(http::header::CONTENT_LOCATION, value),
            Err(_) => error,
        },
        None => error,
    };
    // As `Last-Modified` tells the time.
    let mut seen = opened.found.entry.clone();
    seen.modified_ms = seen.modified_ms.div_ceil(1000).saturating_mul(1000);
    condition
        .check(&seen)
        .map_err(|error| located(with_identity(SwiftError::from(error), &opened)))?;
    // Unlike in HTTP's own rules, both conditions must hold.
    let entry = &opened.found.entry;
    let since = condition.unmodified_since.filter(|_| condition.tags.if_match.is_some());
    if since.is_some_and(|since| entry.modified_ms.div_ceil(1000) > since) {
        let error = SwiftError::new(StatusCode::PRECONDITION_FAILED, "It was modified since.");
        return Err(located(with_identity(error, &opened)));
    }
    let named = |error: SwiftError| match opened.version().map(|id| HeaderValue::from_str(&id)) {
        Some(Ok(id)) => error.header(HeaderName::from_static(versions::VERSION_ID), id),
        _ => error,
    };
    let mut answer = answer(call, &opened).await.map_err(located).map_err(named)?;
    if let Some(id) = opened.version() {
        let headers = answer.headers_mut();
        response::set(headers, versions::VERSION_ID, &id);
        let by_path = call.head.raw_path.starts_with("/v1");
        if location.is_none() && opened.found.entry.named && by_path {
            response::set(headers, "content-location", &format!("{}?version-id={id}", own(call)?));
        }
    }
    symlink::set_location(answer.headers_mut(), location.as_ref());
    Ok(answer)
}

/// The path of the object of a request.
fn own(call: &Call) -> SwiftResult<String> {
    let bucket = call.head.bucket()?;
    let path = call.head.raw_path.splitn(5, '/').skip(2).collect::<Vec<_>>();
    let container = path.get(1).map_or_else(|| bucket.to_owned(), |name| (*name).to_owned());
    let key = uri::encoded(call.head.key()?.as_bytes(), true);
    Ok(format!("/v1/{}/{container}/{key}", path.first().copied().unwrap_or_default()))
}

/// The stretch of a part that is asked for by number; `None` for an object that has no parts.
pub(super) fn part(opened: &Opened, number: &str) -> SwiftResult<Option<(Stretch, usize)>> {
    let number = number.parse::<usize>().ok().filter(|number| *number > 0);
    let number = number
        .ok_or_else(|| SwiftError::bad_request("Part number must be an integer greater than 0"))?;
    if !opened.is_static() {
        return Ok(None);
    }
    opened.part(number).map(Some).ok_or_else(|| {
        let error = SwiftError::new(
            StatusCode::RANGE_NOT_SATISFIABLE,
            "The requested part number is not satisfiable",
        );
        let mut headers = HeaderMap::new();
        let count = opened.parts().to_string();
        response::set(&mut headers, "x-parts-count", &count);
        let range = format!("bytes */{}", opened.found.entry.size);
        response::set(&mut headers, "content-range", &range);
        let error = with_identity(error, opened);
        headers.into_iter().fold(error, |error, (name, value)| match name {
            Some(name) => error.header(name, value),
            None => error,
        })
    })
}

fn with_identity(error: SwiftError, opened: &Opened) -> SwiftError {
    let mut headers = HeaderMap::new();
    set_identity(&mut headers, opened);
    headers.insert("accept-ranges", HeaderValue::from_static("bytes"));
    headers.into_iter().fold(error, |error, (name, value)| match name {
        Some(name) => error.header(name, value),
        None => error,
    })
}

async fn answer(call: &Call, opened: &Opened) -> SwiftResult<Answer> {
    let found = &opened.found;
    let size = found.entry.size;
    let mut answer = Response::new(ResponseBody::empty());
    let headers = answer.headers_mut();
    set_described(headers, &found.detail);
    set_identity(headers, opened);
    // What S3 uploaded in parts: without this, clients would hold the body against the tag and refuse it. It is
    // said of the body alone, as there are no segments to be copied or deleted with the object.
    if found.entry.etag.parts > 0 && call.head.method == Method::GET {
        response::set(headers, STATIC, "True");
    }
    headers.insert("accept-ranges", HeaderValue::from_static("bytes"));
    let range = call.head.header("range")?;
    let numbered = match call.head.query.value("part-number") {
        Some(number) if range.is_none() => part(opened, number)?,
        _ => None,
    };
    let wanted = match numbered {
        Some((stretch, count)) => {
            response::set(headers, "x-parts-count", &count.to_string());
            Wanted::Ranges(vec![stretch])
        }
        // What is made of others as they are now is read in one stretch or as a whole.
        None if opened.is_large() && !opened.is_static() => match wanted(range, size) {
            Wanted::Ranges(stretches) if stretches.len() > 1 => Wanted::All,
            wanted => wanted,
        },
        None => wanted(range, size),
    };
    let stretches = match wanted {
        Wanted::Nothing => return Err(unsatisfiable(opened)),
        Wanted::All => vec![(0, size)],
        Wanted::Ranges(stretches) => {
            *answer.status_mut() = StatusCode::PARTIAL_CONTENT;
            stretches
        }
    };
    if call.head.method == Method::HEAD {
        // What is asked for in part is told in part, but several parts have no one length.
        let length = match stretches[..] {
            [(_, length)] => length,
            _ => size,
        };
        if answer.status() == StatusCode::PARTIAL_CONTENT {
            match stretches[..] {
                [stretch] => set_range(answer.headers_mut(), stretch, size),
                _ => *answer.status_mut() = StatusCode::OK,
            }
        }
        response::set(answer.headers_mut(), "content-length", &length.to_string());
        return Ok(answer);
    }
    call.service.metrics.sent(stretches.iter().map(|(_, length)| length).sum());
    match stretches[..] {
        [stretch] => {
            if answer.status() == StatusCode::PARTIAL_CONTENT {
                set_range(answer.headers_mut(), stretch, size);
            }
            *answer.body_mut() = opened.body(call, stretch, true).await?;
        }
        _ => several(call, opened, &stretches, &mut answer).await?,
    }
    Ok(answer)
}

fn unsatisfiable(opened: &Opened) -> SwiftError {
    let found = &opened.found;
    let error = SwiftError::new(
        StatusCode::RANGE_NOT_SATISFIABLE,
        "Nothing of the object is in that range, or too much is asked for.",
    );
    let error = with_identity(error, opened);
    match HeaderValue::from_str(&format!("bytes */{}", found.entry.size)) {
        Ok(value) => error.header(CONTENT_RANGE, value),
        Err(_) => error,
    }
}

fn range_text((first, length): Stretch, size: u64) -> String {
    format!("bytes {first}-{}/{size}", first + length.max(1) - 1)
}

fn set_range(headers: &mut HeaderMap, stretch: Stretch, size: u64) {
    response::set(headers, "content-range", &range_text(stretch, size));
}

/// A body of several parts, each with its range.
async fn several(
    call: &Call,
    opened: &Opened,
    stretches: &[Stretch],
    answer: &mut Answer,
) -> SwiftResult<()> {
    let boundary = format!("{:016x}{:016x}", clock::random_u64(), clock::random_u64());
    let kind = answer.headers().get("content-type").cloned();
    let kind = kind.as_ref().and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    let mut bodies = VecDeque::new();
    for (n, stretch) in stretches.iter().enumerate() {
        let range = range_text(*stretch, opened.found.entry.size);
        let head =
            format!("--{boundary}\r\nContent-Type: {kind}\r\nContent-Range: {range}\r\n\r\n");
        bodies.push_back(ResponseBody::Full(head.into()));
        // The first is waited for: what is wrong is mostly wrong from the beginning.
        bodies.push_back(opened.body(call, *stretch, n == 0).await?);
        bodies.push_back(ResponseBody::Full(Bytes::from_static(b"\r\n")));
    }
    bodies.push_back(ResponseBody::Full(format!("--{boundary}--").into()));
    let kind = format!("multipart/byteranges;boundary={boundary}");
    response::set(answer.headers_mut(), "content-type", &kind);
    *answer.body_mut() = ResponseBody::Sequence(bodies);
    Ok(())
}

fn set_identity(headers: &mut HeaderMap, opened: &Opened) {
    let entry = &opened.found.entry;
    let etag = entry.etag.to_string();
    if opened.is_static() {
        response::set(headers, STATIC, "True");
        if let Some(hash) = entry.listed.get(large::MANIFEST_HASH) {
            response::set(headers, "x-manifest-etag", hash);
        }
    }
    let etag = if opened.is_large() { format!("\"{etag}\"") } else { etag };
    response::set(headers, "etag", &etag);
    respond::set_times(headers, entry.modified_ms, entry.modified_ms);
}

/// The headers that were stored with an object.
pub(super) fn set_described(headers: &mut HeaderMap, detail: &Detail) {
    let kind = HeaderValue::from_static(super::container::CONTENT_TYPE_DEFAULT);
    headers.insert("content-type", kind);
    for (name, value) in &detail.headers {
        if let (Ok(name), Ok(value)) = (name.parse::<HeaderName>(), value.parse()) {
            headers.insert(name, value);
        }
    }
    metadata::set_headers(headers, "object", &detail.metadata);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn several_ranges_in_ten_bytes() {
        let ten = |header: &str| wanted(Some(header), 10);
        assert_eq!(wanted(None, 10), Wanted::All);
        assert_eq!(ten("bytes=0-0,-2"), Wanted::Ranges(vec![(0, 1), (8, 2)]));
        assert_eq!(ten("bytes=0-1, 20-30"), Wanted::Ranges(vec![(0, 2)]));
        assert_eq!(ten("bytes=20-30"), Wanted::Nothing);
        assert_eq!(ten("bytes=0-1,x"), Wanted::All);
        assert_eq!(ten("bytes=5-2"), Wanted::All);
        assert_eq!(ten("lines=1-2"), Wanted::All);
        assert_eq!(ten("bytes=0-,0-,0-"), Wanted::Nothing);
        assert_eq!(ten(&format!("bytes={}", ["0-0"; 51].join(","))), Wanted::Nothing);
        assert_eq!(wanted(Some("bytes=0-1"), 0), Wanted::Nothing);
    }
}
