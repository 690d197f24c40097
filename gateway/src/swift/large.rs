//! Large objects: objects whose bytes are those of others, one after the other.
//!
//! A *static* one keeps a list of its segments with their sizes and entity tags ([`Body::Segments`]); a
//! *dynamic* one names a container and a prefix (`X-Object-Manifest`), and what begins so is its bytes, whatever
//! that is when it is read. Both are read in the same way, over both protocols: segment by segment, each looked up when
//! its turn comes, so that memory does not depend on how many there are.
//!
//! Each segment is read with the rights of who reads the whole. A segment that he may not read, that is gone
//! or is another one than the list says, ends the read: before it begins, if it is the first, with 409; later by breaking the
//! connection.

mod reader;

use super::error::{SwiftError, SwiftResult};
use super::{access, symlink};
use crate::catalogue::Bucket;
use crate::http::body::ResponseBody;
use crate::pace::Pace;
use crate::s3::auth::payload::PayloadMode;
use crate::s3::error::{Code, S3Error, S3Result};
use crate::s3::operations::copy::CopySource;
use crate::s3::operations::read;
use crate::s3::range::Range;
use crate::s3::{Call, uri};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::{self, LocalBoxStream};
use http::StatusCode;
use md5::{Digest, Md5};
use serde_json::{Map, Value};
use std::rc::Rc;
use store_base::bucket::{Body, ETag, Entry, Found, Item, List, Versioning};

/// The header that makes an object a dynamic large one: `container/prefix`.
pub(super) const DYNAMIC: &str = "x-object-manifest";

/// In listings: the MD5 of a static large object's manifest, which they show as its hash.
pub(super) const MANIFEST_HASH: &str = "hash";

/// Most segments of a dynamic large object.
const DYNAMIC_SEGMENTS_MAX: usize = 10_000;

/// Most names that are asked of the catalogue at a time.
const PAGE_MAX: u32 = 1000;

/// How deep static large objects may be made of others.
pub(super) const DEPTH_MAX: usize = 10;

/// A stretch of another object, or bytes.
#[derive(Clone, Debug)]
pub(super) struct Segment {
    pub length: u64,
    pub source: SegmentSource,
}

/// Where a segment's bytes are.
#[derive(Clone, Debug)]
pub(super) enum SegmentSource {
    /// Here.
    Data(Bytes),
    /// In an object.
    Object {
        container: String,
        object: String,
        /// What its entity tag must be.
        etag: Option<String>,
        first: u64,
        /// Whether it is a static large object itself.
        nested: bool,
    },
}

/// An object as it is read, once its manifest is resolved.
pub(crate) struct Opened {
    pub bucket: Rc<Bucket>,
    /// With size and entity tag of the whole.
    pub found: Found,
    /// The segments; `None` for a plain object.
    pub(super) segments: Option<Rc<Vec<Segment>>>,
}

/// What went wrong with a segment, as the reader of the whole is told.
fn broken(path: &str) -> S3Error {
    Code::ConditionalRequestConflict
        .with(format!("The segment {path} cannot be read, or is not the one of the manifest."))
}

/// Follows the link that was found, if it is one, and resolves the manifest behind it: what S3 reads.
pub(crate) async fn resolve(
    call: &Call,
    bucket: Rc<Bucket>,
    found: Found,
    body: bool,
) -> S3Result<Opened> {
    if !symlink::is_link(&found.detail) {
        return open(call, bucket, found).await;
    }
    let followed =
        symlink::follow(call, bucket, found, body).await.map_err(|error| match error.status {
            StatusCode::NOT_FOUND => Code::NoSuchKey.into(),
            StatusCode::FORBIDDEN => Code::AccessDenied.into(),
            status if status.is_server_error() => S3Error::from(Code::InternalError),
            _ => Code::ConditionalRequestConflict.with(error.message),
        })?;
    open(call, followed.bucket, followed.found).await
}

/// The headers of an object that say of what it is made: not those of a copy of its bytes.
pub(crate) fn is_of_structure(header: &str) -> bool {
    header == DYNAMIC || symlink::HEADERS.contains(&header)
}

/// The entity tag as Swift tells it. Kept, and told over S3, is that of a large object with the number of its
/// segments, as of an upload in parts: so clients see that it is not the MD5 of the bytes.
pub(super) fn tag_of(entry: &Entry) -> ETag {
    match entry.listed.contains_key(MANIFEST_HASH) {
        true => ETag { parts: 0, ..entry.etag },
        false => entry.etag,
    }
}

/// As [`open`], with the entity tag as Swift tells it.
pub(super) async fn open_here(call: &Call, bucket: Rc<Bucket>, found: Found) -> S3Result<Opened> {
    let mut opened = open(call, bucket, found).await?;
    if opened.is_large() {
        opened.found.entry.etag.parts = 0;
    }
    Ok(opened)
}

/// Resolves the manifest of an object that was found, if it is one.
pub(crate) async fn open(call: &Call, bucket: Rc<Bucket>, found: Found) -> S3Result<Opened> {
    if let Body::Segments { manifest } = &found.detail.body {
        let segments = parse_stored(manifest).ok_or(Code::InternalError)?;
        return Ok(Opened { bucket, found, segments: Some(segments.into()) });
    }
    match found.detail.headers.get(DYNAMIC).cloned() {
        Some(place) => dynamic(call, bucket, found, &place).await,
        None => Ok(Opened { bucket, found, segments: None }),
    }
}

impl Opened {
    /// An object as it lies, links and manifests included.
    pub(super) fn raw(bucket: Rc<Bucket>, found: Found) -> Opened {
        Opened { bucket, found, segments: None }
    }

    /// Its version id, where there are versions.
    pub(super) fn version(&self) -> Option<String> {
        let enabled = self.bucket.settings.versioning == Versioning::Enabled;
        let shown = self.found.entry.named || enabled;
        shown.then(|| self.found.entry.version().text(self.bucket.id))
    }

    /// Whether it is made of other objects.
    pub(crate) fn is_large(&self) -> bool {
        self.segments.is_some()
    }

    /// Whether it keeps a list of its segments.
    pub(super) fn is_static(&self) -> bool {
        matches!(self.found.detail.body, Body::Segments { .. })
    }

    /// How many segments there are.
    pub(super) fn parts(&self) -> usize {
        self.segments.as_ref().map_or(0, |segments| segments.len())
    }

    /// The stretch of the part of a number, counted from 1, and how many parts there are.
    pub(super) fn part(&self, number: usize) -> Option<((u64, u64), usize)> {
        let segments = self.segments.as_ref()?;
        let before = number.checked_sub(1)?;
        let part = segments.get(before)?;
        let first = segments[..before].iter().map(|segment| segment.length).sum();
        Some(((first, part.length), segments.len()))
    }

    /// A stretch of it as a body; see [`read::body`].
    pub(crate) async fn body(
        &self,
        call: &Call,
        stretch: (u64, u64),
        waits: bool,
    ) -> S3Result<ResponseBody> {
        let Some(segments) = &self.segments else {
            return read::body(call, &self.bucket, &self.found, stretch, waits).await;
        };
        let (first, length) = stretch;
        let mut bytes = self.stream(call, segments.clone(), first, length);
        if waits && length > 0 {
            let piece = bytes.next().await.ok_or(Code::InternalError)??;
            bytes = stream::iter([Ok(piece)]).chain(bytes).boxed_local();
        }
        Ok(ResponseBody::Stream(bytes, length))
    }

    /// A stretch of it as the body of a copy.
    pub(crate) async fn copied(&self, call: &Call, first: u64, length: u64) -> S3Result<Copied> {
        match &self.segments {
            Some(segments) => {
                let bytes = self.stream(call, segments.clone(), first, length);
                Ok(crate::transfer::body::BodyReader::new(
                    crate::transfer::body::Source::Local(bytes),
                    None,
                    length,
                ))
            }
            None => {
                let source = CopySource {
                    bucket: self.bucket.clone(),
                    key: Bytes::new(),
                    found: self.found.clone(),
                    versioned: false,
                    segments: None,
                    hold: None,
                };
                Box::pin(source.reader(call, first, length)).await
            }
        }
    }

    fn stream(
        &self,
        call: &Call,
        segments: Rc<Vec<Segment>>,
        first: u64,
        length: u64,
    ) -> LocalBoxStream<'static, S3Result<Bytes>> {
        let reader = Rc::new(reader::Reader {
            account: self.bucket.owner.clone(),
            call: Rc::new(Call {
                service: call.service.clone(),
                head: call.head.clone(),
                caller: call.caller.clone(),
                payload: PayloadMode::Unsigned,
                grant: call.grant.clone(),
                body: None,
                pace: Pace::default(),
                noted: Default::default(),
            }),
        });
        reader::bytes_of(reader, segments, first, length, 0)
    }
}

/// What a copy reads from.
pub(crate) type Copied = crate::transfer::body::BodyReader;

/// Reads the list of segments as it is kept.
pub(super) fn parse_stored(manifest: &[u8]) -> Option<Vec<Segment>> {
    let list: Vec<Map<String, Value>> = serde_json::from_slice(manifest).ok()?;
    list.iter().map(parse_segment).collect()
}

fn parse_segment(segment: &Map<String, Value>) -> Option<Segment> {
    let text = |name: &str| segment.get(name).and_then(Value::as_str);
    if let Some(data) = text("data") {
        let data = Bytes::from(STANDARD.decode(data).ok()?);
        return Some(Segment { length: data.len() as u64, source: SegmentSource::Data(data) });
    }
    let bytes = segment.get("bytes")?.as_u64()?;
    let (first, length) = match text("range") {
        Some(range) => {
            let (first, last) = range.split_once('-')?;
            let (first, last): (u64, u64) = (first.parse().ok()?, last.parse().ok()?);
            (first, last.checked_sub(first)?.checked_add(1)?)
        }
        None => (0, bytes),
    };
    let (container, object) = text("name")?.trim_start_matches('/').split_once('/')?;
    let source = SegmentSource::Object {
        container: container.to_owned(),
        object: object.to_owned(),
        etag: text("hash").map(str::to_owned),
        first,
        nested: segment.get("sub_slo").and_then(Value::as_bool).unwrap_or_default(),
    };
    Some(Segment { length, source })
}

/// A range of a segment as a manifest asks for it: first byte and length.
pub(super) fn parse_range(text: &str) -> Option<Range> {
    Range::parse(&format!("bytes={text}"))
}

/// `container/prefix`, percent-encoded.
pub(super) fn parse_place(value: &str) -> Option<(String, String)> {
    let path = String::from_utf8(uri::percent_decode(value.as_bytes())).ok()?;
    let (container, prefix) = path.trim_start_matches('/').split_once('/')?;
    let wrong = container.is_empty() || prefix.is_empty() || path.contains('\0');
    (!wrong).then(|| (container.to_owned(), prefix.to_owned()))
}

/// Lists what a dynamic large object is made of now.
async fn dynamic(
    call: &Call,
    bucket: Rc<Bucket>,
    mut found: Found,
    place: &str,
) -> S3Result<Opened> {
    let Some((container, prefix)) = parse_place(place) else {
        return Ok(Opened { bucket, found, segments: None });
    };
    let items = listed(call, &bucket.owner, &container, &prefix).await?;
    let parts = u32::try_from(items.len()).unwrap_or(u32::MAX);
    let mut hash = Md5::new();
    let (mut size, mut segments) = (0u64, Vec::with_capacity(items.len()));
    for (key, size_of, etag) in items {
        hash.update(etag.as_bytes());
        size = size.saturating_add(size_of);
        let source = SegmentSource::Object {
            container: container.clone(),
            object: key,
            etag: Some(etag),
            first: 0,
            nested: true,
        };
        segments.push(Segment { length: size_of, source });
    }
    found.entry.size = size;
    found.entry.etag = ETag { md5: hash.finalize().into(), parts };
    Ok(Opened { bucket, found, segments: Some(segments.into()) })
}

/// Names, sizes and tags of what begins with a prefix.
async fn listed(
    call: &Call,
    account: &str,
    container: &str,
    prefix: &str,
) -> S3Result<Vec<(String, u64, String)>> {
    let name = access::bucket_name(call, account, container).await;
    let name = match name.map_err(|error| faulty(&error))? {
        Some(name) => name,
        None => return Ok(Vec::new()),
    };
    let leave = crate::s3::access::listing(call, &name).await?;
    let (mut segments, mut from) = (Vec::new(), Some(Bytes::new()));
    while let Some(next) = from {
        let list = List {
            prefix: Bytes::copy_from_slice(prefix.as_bytes()),
            delimiter: Bytes::new(),
            from: next,
            max: PAGE_MAX,
        };
        let page = call.service.catalogue.list(leave.bucket(), list).await?;
        for item in page.items {
            if let Item::Key { key, entry } = item {
                let key = String::from_utf8_lossy(&key).into_owned();
                segments.push((key, entry.size, tag_of(&entry).to_string()));
            }
        }
        if segments.len() > DYNAMIC_SEGMENTS_MAX {
            return Err(Code::ConditionalRequestConflict
                .with(format!("There are more than {DYNAMIC_SEGMENTS_MAX} segments.")));
        }
        from = page.next;
    }
    Ok(segments)
}

fn faulty(error: &SwiftError) -> S3Error {
    match error.status.is_server_error() {
        true => Code::InternalError.into(),
        false => Code::AccessDenied.into(),
    }
}

/// Checks an `X-Object-Manifest` that is to be kept.
pub(super) fn check_place(value: &str) -> SwiftResult<()> {
    match parse_place(value) {
        Some(_) => Ok(()),
        None => Err(SwiftError::bad_request(
            "X-Object-Manifest is of the form CONTAINER/PREFIX, percent-encoded.",
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kept_lists_are_read() {
        let list = br#"[{"name":"/c/a/b","bytes":10,"hash":"x","range":"2-5"},
            {"data":"QUI="},{"name":"/c/d","bytes":7,"sub_slo":true}]"#;
        let segments = parse_stored(list).unwrap();
        let lengths: Vec<u64> = segments.iter().map(|segment| segment.length).collect();
        assert_eq!(lengths, [4, 2, 7]);
        let SegmentSource::Object { container, object, first, .. } = &segments[0].source else {
            panic!("an object");
        };
        assert_eq!((container.as_str(), object.as_str(), *first), ("c", "a/b", 2));
        for bad in ["", "{}", "[1]", r#"[{"name":"/c","bytes":1}]"#, r#"[{"name":"/c/o"}]"#] {
            assert!(parse_stored(bad.as_bytes()).is_none(), "{bad}");
        }
    }

    #[test]
    fn places_name_a_container_and_a_prefix() {
        assert_eq!(parse_place("c/p%20q/"), Some(("c".into(), "p q/".into())));
        assert_eq!(parse_place("/c/p"), Some(("c".into(), "p".into())));
        for bad in ["", "c", "c/", "/c/", "c/%00", "%ff/x"] {
            assert_eq!(parse_place(bad), None, "{bad}");
        }
    }
}
