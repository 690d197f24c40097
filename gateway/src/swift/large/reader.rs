//! The bytes of large objects: segment by segment, each looked up when its turn comes.

use super::{
    DEPTH_MAX, DYNAMIC, Segment, SegmentSource, access, broken, dynamic, parse_stored, symlink,
    tag_of,
};
use crate::http::body::ResponseBody;
use crate::s3::Call;
use crate::s3::access::Admitted;
use crate::s3::error::{Code, S3Error, S3Result};
use crate::s3::operations::read;
use crate::swift::error::SwiftError;
use bytes::Bytes;
use futures_util::stream::{self, LocalBoxStream};
use futures_util::{StreamExt, TryStreamExt};
use std::rc::Rc;
use store_base::bucket::{Body, Found};

/// Who reads segments, as long as it takes.
pub(super) struct Reader {
    /// Whose containers the names of segments mean.
    pub account: String,
    pub call: Rc<Call>,
}

/// The bytes of a stretch of segments.
pub(super) fn bytes_of(
    reader: Rc<Reader>,
    segments: Rc<Vec<Segment>>,
    first: u64,
    length: u64,
    depth: usize,
) -> LocalBoxStream<'static, S3Result<Bytes>> {
    let end = first.saturating_add(length);
    let mut start = 0u64;
    let mut stretches = Vec::new();
    for (at, segment) in segments.iter().enumerate() {
        let stop = start.saturating_add(segment.length);
        let (from, to) = (first.max(start), end.min(stop));
        if from < to {
            stretches.push((at, from - start, to - from));
        }
        start = stop;
    }
    stream::iter(stretches)
        .then(move |(at, offset, length)| {
            let (reader, segments) = (reader.clone(), segments.clone());
            async move { open_segment(reader, &segments[at], offset, length, depth).await }
        })
        .try_flatten()
        .boxed_local()
}

async fn open_segment(
    reader: Rc<Reader>,
    segment: &Segment,
    offset: u64,
    length: u64,
    depth: usize,
) -> S3Result<LocalBoxStream<'static, S3Result<Bytes>>> {
    let (container, object, etag, first, nested) = match &segment.source {
        SegmentSource::Object { container, object, etag, first, nested } => {
            (container, object, etag, *first, *nested)
        }
        SegmentSource::Data(data) => {
            let end = offset.saturating_add(length).min(data.len() as u64);
            // Stretches are cut by the length of the data, so they are inside.
            let bytes = data.slice(offset.min(end) as usize..end as usize);
            return Ok(stream::iter([Ok(bytes)]).boxed_local());
        }
    };
    let path = format!("/{container}/{object}");
    let call = &reader.call;
    let leave = access::source(call, &reader.account, container, object, None).await;
    let unreadable = |error: SwiftError| match error.status.is_server_error() {
        true => Code::InternalError.into(),
        false => broken(&path),
    };
    let leave = leave.map_err(unreadable)?;
    let Admitted { bucket, found, .. } =
        leave.read(call, true).await.map_err(|error| reason(error, &path))?;
    let symlink::Followed { bucket, found, .. } =
        symlink::follow(call, bucket, found, true).await.map_err(unreadable)?;
    let same =
        |found: &Found| etag.as_ref().is_none_or(|etag| *etag == tag_of(&found.entry).to_string());
    let first = first.saturating_add(offset);
    // A manifest among the segments of a dynamic large object stands for its own bytes, in a static one for those
    // that it names: the entity tag tells which.
    if let (false, Some(place)) = (same(&found), found.detail.headers.get(DYNAMIC).cloned()) {
        let account = bucket.owner.clone();
        let opened = dynamic(call, bucket, found, &place).await;
        let mut opened = opened.map_err(|error| reason(error, &path))?;
        opened.found.entry.etag.parts = 0;
        let inner = opened.segments.take().filter(|_| depth + 1 < DEPTH_MAX);
        let fits = first.saturating_add(length) <= opened.found.entry.size;
        let inner = inner.filter(|_| fits && same(&opened.found)).ok_or_else(|| broken(&path))?;
        let reader = Rc::new(Reader { account, call: reader.call.clone() });
        return Ok(bytes_of(reader, inner, first, length, depth + 1));
    }
    if !same(&found) || first.saturating_add(length) > found.entry.size {
        return Err(broken(&path));
    }
    if let Body::Segments { manifest } = &found.detail.body {
        let inner = parse_stored(manifest).filter(|_| nested && depth + 1 < DEPTH_MAX);
        let inner = Rc::new(inner.ok_or_else(|| broken(&path))?);
        return Ok(bytes_of(reader, inner, first, length, depth + 1));
    }
    let body = read::body(call, &bucket, &found, (first, length), false).await?;
    Ok(pieces(body))
}

/// Faults of the cluster stay what they are.
fn reason(error: S3Error, path: &str) -> S3Error {
    match error.code.status().is_server_error() {
        true => error,
        false => broken(path),
    }
}

/// The bytes of a body of ours.
fn pieces(body: ResponseBody) -> LocalBoxStream<'static, S3Result<Bytes>> {
    let frames = http_body_util::BodyStream::new(body);
    let data = frames.try_filter_map(|frame| async move { Ok(frame.into_data().ok()) });
    data.boxed_local()
}
