//! `GetObject` and `HeadObject`.

use super::super::access::{Admitted, ObjectPermit};
use super::super::checksum;
use super::super::conditions::ReadCondition;
use super::super::encryption;
use super::super::error::{Code, S3Error, S3Result};
use super::super::range::Range;
use super::super::response;
use super::super::{Answer, Call, Caller};
use super::{lock, versioning, write};
use crate::catalogue::{Bucket, Hold};
use crate::crypt::segments::open_inline;
use crate::http::body::ResponseBody;
use crate::swift::large;
use crate::transfer::download::Download;
use http::{HeaderMap, HeaderValue, StatusCode};
use std::pin::Pin;
use std::rc::Rc;
use store_base::bucket::{Body, Checksum, Found, ManifestPart};

/// How often a read begins anew when the object is replaced, and the old data swept, under it.
const READS_MAX: u32 = 3;

/// `GetObject` and `HeadObject`
pub(super) struct ReadObject {
    condition: ReadCondition,
    range: Option<Range>,
    part: Option<u16>,
    checksums: bool,
}

impl ReadObject {
    fn parse(call: &Call) -> S3Result<ReadObject> {
        check_overrides(call)?;
        let part = match call.head.query.value("partNumber") {
            None => None,
            Some(text) => Some(
                text.parse().ok().filter(|part| (1..=10_000).contains(part)).ok_or_else(|| {
                    call.bad_argument(
                        "partNumber",
                        "Part number must be an integer between 1 and 10000, inclusive",
                    )
                })?,
            ),
        };
        let range = call.head.header("range")?.and_then(Range::parse);
        if part.is_some() && range.is_some() {
            return Err(Code::InvalidRequest
                .with("Cannot specify both Range header and partNumber query parameter"));
        }
        let mode = call.head.header("x-amz-checksum-mode")?;
        Ok(ReadObject {
            condition: ReadCondition::from_headers(&call.head.headers)?,
            range,
            part,
            checksums: mode.is_some_and(|mode| mode.eq_ignore_ascii_case("enabled")),
        })
    }
}

/// There is nothing under the key, and no delete marker either: Ceph's gateway says both.
pub(in crate::s3) fn no_such_key(key: &[u8]) -> S3Error {
    Code::NoSuchKey
        .with(Code::NoSuchKey.message())
        .detail("Key", String::from_utf8_lossy(key))
        .header(versioning::DELETE_MARKER, HeaderValue::from_static("false"))
}

/// As with Ceph's gateway; AWS says `InvalidPartNumber` (416).
fn no_such_part() -> S3Error {
    Code::InvalidPart.with("The requested partnumber is not satisfiable")
}

/// The stretch of an object that is asked for.
#[derive(Default)]
struct Stretch {
    first: u64,
    length: u64,
    /// Whether it was asked for as a part of the object: the answer is 206 then, even if it is all.
    partial: bool,
    /// Number of parts, if it was asked for by part number.
    parts: Option<usize>,
    /// The checksum of this part alone.
    checksum: Option<Checksum>,
}

fn stretch(read: &ReadObject, found: &Found) -> S3Result<Stretch> {
    let size = found.entry.size;
    if let Some(number) = read.part {
        return part_stretch(number, found);
    }
    match read.range {
        Some(range) => {
            let (first, length) = range.resolve(size)?;
            Ok(Stretch { first, length, partial: true, ..Stretch::default() })
        }
        None => Ok(Stretch { length: size, ..Stretch::default() }),
    }
}

fn part_stretch(number: u16, found: &Found) -> S3Result<Stretch> {
    let manifest = match (&found.detail.body, found.entry.etag.parts) {
        (Body::Striped { manifest }, 1..) => manifest,
        // An object that was put in one piece has one part, and no count of parts.
        _ if number == 1 => {
            let length = found.entry.size;
            return Ok(Stretch { length, partial: true, ..Stretch::default() });
        }
        _ => return Err(no_such_part()),
    };
    let parts = manifest.parts.as_slice();
    // Parts are counted as they lie, whatever numbers they were uploaded under.
    let index = usize::from(number) - 1;
    let part = parts.get(index).ok_or_else(no_such_part)?;
    let bytes = |part: &ManifestPart| found.detail.plain_bytes(part.size);
    let first = parts[..index].iter().map(bytes).sum();
    let of_whole = found.detail.checksum.as_ref();
    let checksum = of_whole.zip(manifest.part_checksum(index));
    let checksum = checksum.map(|(whole, value)| Checksum { value, parts: 0, ..whole.clone() });
    Ok(Stretch { first, length: bytes(part), partial: true, parts: Some(parts.len()), checksum })
}

pub(in crate::s3) async fn head(permit: ObjectPermit, call: &mut Call) -> S3Result<Answer> {
    let read = ReadObject::parse(call)?;
    let Admitted { bucket, found, .. } = permit.read(call, false).await?;
    let opened = large::resolve(call, bucket.clone(), found, false).await?;
    // Who has not the key of what the name leads to learns nothing but that it is needed.
    encryption::of_description(call, &opened.bucket, &opened.found.detail).await?;
    let found = opened.found;
    check(&read, &found)?;
    let stretch = stretch(&read, &found)?;
    let mut answer = answer(call, &bucket, &read, &found, &stretch, ResponseBody::empty());
    response::set(answer.headers_mut(), "content-length", &stretch.length.to_string());
    announce_expiration(&mut answer, &permit, call, &found);
    Ok(answer)
}

pub(in crate::s3) async fn get(permit: ObjectPermit, call: &mut Call) -> S3Result<Answer> {
    let read = ReadObject::parse(call)?;
    let mut tries = 1;
    loop {
        let Admitted { bucket, found, .. } = permit.read(call, true).await?;
        let _held = held(call, &found);
        let opened = large::resolve(call, bucket.clone(), found, true).await?;
        let found = &opened.found;
        check(&read, found)?;
        let stretch = stretch(&read, found)?;
        match opened.body(call, (stretch.first, stretch.length), true).await {
            Ok(body) => {
                call.service.metrics.sent(stretch.length);
                let mut answer = answer(call, &bucket, &read, found, &stretch, body);
                announce_expiration(&mut answer, &permit, call, found);
                return Ok(answer);
            }
            // What the client did wrong, or may not, stays so.
            Err(error) if tries == READS_MAX || !error.code.status().is_server_error() => {
                return Err(error);
            }
            Err(error) => {
                tracing::debug!(%error, "read begins anew");
                tries += 1;
            }
        }
    }
}

/// Rules about objects speak of the newest version only.
fn announce_expiration(answer: &mut Answer, permit: &ObjectPermit, call: &Call, found: &Found) {
    if !call.head.query.has("versionId") {
        let (rules, tags) = (permit.rules(), &found.detail.tags);
        write::set_expiration(answer.headers_mut(), call, rules, permit.key(), &found.entry, tags);
    }
}

/// Keeps the data of an object from being swept by this process: from when it was found on, not only while it is read.
pub(crate) fn held(call: &Call, found: &Found) -> Option<Hold> {
    match &found.detail.body {
        Body::Striped { manifest } => Some(call.service.catalogue.hold(manifest.id)),
        Body::Inline { .. } | Body::Segments { .. } => None,
    }
}

/// A stretch of an object, first byte and length, as a body. `waits` for its first piece, so that what is
/// wrong is said before the answer begins.
pub(crate) async fn body(
    call: &Call,
    bucket: &Rc<Bucket>,
    found: &Found,
    (first, length): (u64, u64),
    waits: bool,
) -> S3Result<ResponseBody> {
    let hold = held(call, found);
    let key = encryption::of_object(call, bucket, &found.detail).await?;
    let manifest = match &found.detail.body {
        Body::Inline { data } => {
            if let (Some(key), Some(encryption)) = (&key, &found.detail.encryption) {
                return open_inline(key, encryption.id, data, first, length)
                    .map(ResponseBody::Full)
                    .map_err(|_| Code::InternalError.into());
            }
            let end = first.saturating_add(length);
            return match usize::try_from(end).is_ok_and(|end| end <= data.len()) {
                true => Ok(ResponseBody::Full(data.slice(first as usize..end as usize))),
                // The entry says another size than the body has.
                false => Err(Code::InternalError.into()),
            };
        }
        Body::Striped { manifest } => manifest,
        // Those are resolved first.
        Body::Segments { .. } => return Err(Code::InternalError.into()),
    };
    let service = &call.service;
    let mut download = Box::new(Download::new(
        service.catalogue.clone(),
        bucket.clone(),
        service.budget.clone(),
        manifest,
        key,
        (first, length),
    ));
    if waits {
        std::future::poll_fn(|cx| Pin::new(&mut *download).poll_first(cx)).await?;
    }
    Ok(ResponseBody::Download(download, Box::new(hold)))
}

fn check(read: &ReadObject, found: &Found) -> S3Result<()> {
    read.condition.check(&found.entry).map_err(|error| {
        let mut headers = HeaderMap::new();
        response::set_identity(&mut headers, &found.entry);
        let headers = headers.into_iter().filter_map(|(name, value)| Some((name?, value)));
        headers.fold(error, |error, (name, value)| error.header(name, value))
    })
}

fn answer(
    call: &Call,
    bucket: &Bucket,
    read: &ReadObject,
    found: &Found,
    stretch: &Stretch,
    body: ResponseBody,
) -> Answer {
    let mut answer = Answer::new(body);
    let size = found.entry.size;
    if stretch.partial {
        *answer.status_mut() = StatusCode::PARTIAL_CONTENT;
    }
    let headers = answer.headers_mut();
    response::set_stored(headers, &found.detail);
    response::set_identity(headers, &found.entry);
    lock::set_headers(headers, &found.entry.lock);
    encryption::set_headers(headers, call, found.detail.encryption.as_ref());
    if !found.detail.tags.is_empty() {
        response::set(headers, "x-amz-tagging-count", &found.detail.tags.len().to_string());
    }
    headers.insert("accept-ranges", HeaderValue::from_static("bytes"));
    if stretch.partial && size > 0 {
        let last = stretch.first + stretch.length.max(1) - 1;
        response::set(headers, "content-range", &format!("bytes {}-{last}/{size}", stretch.first));
    }
    if let Some(parts) = stretch.parts {
        response::set(headers, "x-amz-mp-parts-count", &parts.to_string());
    }
    // A checksum of the whole says nothing about a stretch; a part may have its own.
    if read.checksums {
        let of_whole = found.detail.checksum.as_ref();
        let of_stretch = stretch.checksum.as_ref();
        response::set_checksum(
            headers,
            of_stretch.or_else(|| of_whole.filter(|_| stretch.length == size)),
        );
        if let Some(whole) = of_stretch.and(of_whole) {
            response::set(headers, "x-amz-checksum-type", checksum::kind(whole));
        }
    }
    set_overrides(call, headers);
    versioning::set_shown(&mut answer, bucket, found);
    answer
}

/// Parameters of the query that give the answer other headers than the object has.
const OVERRIDES: [(&str, &str); 6] = [
    ("response-content-type", "content-type"),
    ("response-content-language", "content-language"),
    ("response-expires", "expires"),
    ("response-cache-control", "cache-control"),
    ("response-content-disposition", "content-disposition"),
    ("response-content-encoding", "content-encoding"),
];

/// Without a signature nobody answers for what he makes of a public object: a page, for example.
fn check_overrides(call: &Call) -> S3Result<()> {
    let overrides = OVERRIDES.iter().any(|(parameter, _)| call.head.query.has(parameter));
    match overrides && matches!(call.caller, Caller::Anonymous) {
        false => Ok(()),
        true => Err(Code::InvalidRequest
            .with("Request specific response headers cannot be used for anonymous GET requests.")),
    }
}

/// `response-content-type=…` and its kin in the query.
fn set_overrides(call: &Call, headers: &mut HeaderMap) {
    for (parameter, header) in OVERRIDES {
        if let Some(value) = call.head.query.value(parameter) {
            response::set(headers, header, value);
        }
    }
}
