//! `GetObject` and `HeadObject`.

use super::super::access;
use super::super::conditions::ReadCondition;
use super::super::error::{Code, S3Error, S3Result};
use super::super::range::Range;
use super::super::response;
use super::super::{Answer, Call};
use crate::catalogue::Bucket;
use crate::http::body::ResponseBody;
use crate::transfer::download::Download;
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, StatusCode};
use std::pin::Pin;
use std::rc::Rc;
use store_base::bucket::{Body, Found, Manifest, Read};

/// How often a read begins anew when the object is replaced, and the old data swept, under it.
const READS_MAX: u32 = 3;

/// `GetObject` and `HeadObject`
pub(super) struct ReadObject {
    key: Bytes,
    condition: ReadCondition,
    range: Option<Range>,
    part: Option<u16>,
    checksums: bool,
}

impl ReadObject {
    fn parse(call: &Call) -> S3Result<ReadObject> {
        check_version(call)?;
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
            key: Bytes::copy_from_slice(call.head.key()?.as_bytes()),
            condition: ReadCondition::from_headers(&call.head.headers)?,
            range,
            part,
            checksums: mode.is_some_and(|mode| mode.eq_ignore_ascii_case("enabled")),
        })
    }
}

/// Buckets without versioning know one version, `null`.
pub(super) fn check_version(call: &Call) -> S3Result<()> {
    match call.head.query.value("versionId") {
        None | Some("null") => Ok(()),
        Some("") => Err(call.bad_argument("versionId", "Version id cannot be the empty string")),
        Some(_) => Err(Code::NoSuchVersion.into()),
    }
}

pub(super) fn no_such_key(key: &[u8]) -> S3Error {
    Code::NoSuchKey.with(Code::NoSuchKey.message()).detail("Key", String::from_utf8_lossy(key))
}

/// The stretch of an object that is asked for.
struct Stretch {
    first: u64,
    length: u64,
    /// Whether it was asked for as a part of the object: the answer is 206 then, even if it is all.
    partial: bool,
    /// Number of parts, if it was asked for by part number.
    parts: Option<usize>,
}

fn stretch(read: &ReadObject, found: &Found) -> S3Result<Stretch> {
    let size = found.entry.size;
    if let Some(number) = read.part {
        return part_stretch(number, found);
    }
    match read.range {
        Some(range) => {
            let (first, length) = range.resolve(size)?;
            Ok(Stretch { first, length, partial: true, parts: None })
        }
        None => Ok(Stretch { first: 0, length: size, partial: false, parts: None }),
    }
}

fn part_stretch(number: u16, found: &Found) -> S3Result<Stretch> {
    let parts = match (&found.detail.body, found.entry.etag.parts) {
        (Body::Striped { manifest }, 1..) => manifest.parts.as_slice(),
        // An object that was put in one piece has one part, and no count of parts.
        _ if number == 1 => {
            return Ok(Stretch { first: 0, length: found.entry.size, partial: true, parts: None });
        }
        _ => return Err(Code::InvalidPartNumber.into()),
    };
    // Parts are counted as they lie, whatever numbers they were uploaded under.
    let index = usize::from(number) - 1;
    let part = parts.get(index).ok_or(Code::InvalidPartNumber)?;
    let first = parts[..index].iter().map(|part| part.size).sum();
    Ok(Stretch { first, length: part.size, partial: true, parts: Some(parts.len()) })
}

pub(super) async fn head(call: &mut Call) -> S3Result<Answer> {
    let read = ReadObject::parse(call)?;
    let bucket = access::bucket(call).await?;
    let found = found(call, &bucket, &read.key, false).await?;
    check(&read, &found)?;
    let stretch = stretch(&read, &found)?;
    let mut answer = answer(call, &read, &found, &stretch, ResponseBody::empty());
    response::set(answer.headers_mut(), "content-length", &stretch.length.to_string());
    Ok(answer)
}

pub(super) async fn get(call: &mut Call) -> S3Result<Answer> {
    let read = ReadObject::parse(call)?;
    let bucket = access::bucket(call).await?;
    let mut tries = 1;
    loop {
        let found = found(call, &bucket, &read.key, true).await?;
        check(&read, &found)?;
        let stretch = stretch(&read, &found)?;
        let body = match &found.detail.body {
            Body::Inline { data } => Ok(ResponseBody::Full(slice(data, &stretch)?)),
            Body::Striped { manifest } => open(call, &bucket, manifest, &stretch).await,
        };
        match body {
            Ok(body) => {
                call.service.metrics.sent(stretch.length);
                return Ok(answer(call, &read, &found, &stretch, body));
            }
            Err(error) if tries == READS_MAX => return Err(error),
            Err(error) => {
                tracing::debug!(%error, "read begins anew");
                tries += 1;
            }
        }
    }
}

fn slice(data: &Bytes, stretch: &Stretch) -> S3Result<Bytes> {
    let end = stretch.first.saturating_add(stretch.length);
    match usize::try_from(end).is_ok_and(|end| end <= data.len()) {
        true => Ok(data.slice(stretch.first as usize..end as usize)),
        // The entry says another size than the body has.
        false => Err(Code::InternalError.into()),
    }
}

/// Opens the data and waits for its first piece, so that what is wrong is said before the answer begins.
async fn open(
    call: &Call,
    bucket: &Rc<Bucket>,
    manifest: &Manifest,
    stretch: &Stretch,
) -> S3Result<ResponseBody> {
    let service = &call.service;
    let hold = service.catalogue.hold(manifest.id);
    let mut download = Box::new(Download::new(
        service.catalogue.clone(),
        bucket.clone(),
        service.budget.clone(),
        manifest,
        stretch.first,
        stretch.length,
    ));
    std::future::poll_fn(|cx| Pin::new(&mut *download).poll_first(cx)).await?;
    Ok(ResponseBody::Download(download, Box::new(hold)))
}

/// The object of a key, or `NoSuchKey`.
pub(super) async fn found(
    call: &Call,
    bucket: &Rc<Bucket>,
    key: &Bytes,
    body: bool,
) -> S3Result<Found> {
    let read = Read { key: key.clone(), body };
    let found = call.service.catalogue.read(bucket, read).await?;
    found.ok_or_else(|| no_such_key(key))
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
    headers.insert("accept-ranges", HeaderValue::from_static("bytes"));
    if stretch.partial && size > 0 {
        let last = stretch.first + stretch.length.max(1) - 1;
        response::set(headers, "content-range", &format!("bytes {}-{last}/{size}", stretch.first));
    }
    if let Some(parts) = stretch.parts {
        response::set(headers, "x-amz-mp-parts-count", &parts.to_string());
    }
    // A checksum of the whole says nothing about a stretch.
    if read.checksums && stretch.length == size {
        response::set_checksum(headers, found.detail.checksum.as_ref());
    }
    set_overrides(call, headers);
    answer
}

/// `response-content-type=…` and its kin in the query.
fn set_overrides(call: &Call, headers: &mut HeaderMap) {
    const NAMES: [(&str, &str); 6] = [
        ("response-content-type", "content-type"),
        ("response-content-language", "content-language"),
        ("response-expires", "expires"),
        ("response-cache-control", "cache-control"),
        ("response-content-disposition", "content-disposition"),
        ("response-content-encoding", "content-encoding"),
    ];
    for (parameter, header) in NAMES {
        if let Some(value) = call.head.query.value(parameter) {
            response::set(headers, header, value);
        }
    }
}
