//! Static large objects: making one of a list of segments, its manifest, and deleting it with its segments.

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
use md5::{Digest, Md5};
use serde_json::{Map, Value, json};
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

/// A segment as the manifest asks for it.
#[derive(Clone, Debug, PartialEq)]
enum Asked {
    Data(Bytes),
    Object {
        /// As the manifest has it.
        path: String,
        container: String,
        object: String,
        etag: Option<String>,
        size: Option<u64>,
        range: Option<String>,
    },
}

/// 400 with one line per mistake.
fn mistakes(lines: &[String]) -> SwiftError {
    SwiftError::bad_request(lines.iter().map(|line| format!("{line}\n")).collect::<String>())
}

/// Reads a manifest; `own` is the path of the object that it is for.
fn parse(body: &[u8], own: (&str, &str)) -> SwiftResult<Vec<Asked>> {
    let plain = |why: &str| SwiftError::bad_request(format!("{why}\n"));
    let parsed: Value =
        serde_json::from_slice(body).map_err(|_| plain("Manifest must be valid JSON."))?;
    let Value::Array(list) = parsed else { return Err(plain("Manifest must be a list.")) };
    if list.len() > SEGMENTS_MAX {
        return Err(SwiftError::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            format!("Number of segments must be <= {SEGMENTS_MAX}"),
        ));
    }
    if list.is_empty() {
        return Err(plain("Invalid SLO Manifest File: it has no segments."));
    }
    let (mut asked, mut wrong) = (Vec::new(), Vec::new());
    let last = list.len() - 1;
    for (index, segment) in list.iter().enumerate() {
        match parse_segment(segment, own, index == last) {
            Ok(segment) => asked.push(segment),
            Err(why) => wrong.push(format!("Index {index}: {why}")),
        }
    }
    if wrong.is_empty() && asked.iter().all(|segment| matches!(segment, Asked::Data(_))) {
        wrong.push("Inline data segments require at least one object-backed segment.".to_owned());
    }
    match wrong.is_empty() {
        true => Ok(asked),
        false => Err(mistakes(&wrong)),
    }
}

fn parse_segment(segment: &Value, own: (&str, &str), last: bool) -> Result<Asked, String> {
    let Value::Object(segment) = segment else { return Err("not a JSON object".to_owned()) };
    let known: &[&str] = match (segment.contains_key("data"), segment.contains_key("path")) {
        (true, _) => &["data"],
        (_, true) => &["path", "etag", "size_bytes", "range"],
        _ => return Err("expected keys to include one of 'data' or 'path'".to_owned()),
    };
    let strange: Vec<String> = segment
        .keys()
        .filter(|key| !known.contains(&key.as_str()))
        .map(|key| Value::from(key.as_str()).to_string())
        .collect();
    if !strange.is_empty() {
        return Err(format!("extraneous keys {}", strange.join(", ")));
    }
    if let Some(data) = segment.get("data") {
        let data = data.as_str().and_then(|data| STANDARD.decode(data.trim()).ok());
        let data = data.ok_or("data must be valid base64")?;
        return match data.is_empty() {
            true => Err("too small; each segment must be at least 1 byte.".to_owned()),
            false => Ok(Asked::Data(data.into())),
        };
    }
    parse_object(segment, own, last)
}

fn parse_object(
    segment: &Map<String, Value>,
    own: (&str, &str),
    last: bool,
) -> Result<Asked, String> {
    let path = segment.get("path").and_then(Value::as_str).ok_or("\"path\" must be a string")?;
    let text = |name: &str, what: &str| match segment.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text.clone())),
        Some(_) => Err(what.to_owned()),
    };
    let etag = text("etag", "\"etag\" must be a string or null (if provided)")?;
    let place = path.trim_start_matches('/').split_once('/');
    let place = place.filter(|(container, object)| !container.is_empty() && !object.is_empty());
    let (container, object) = place
        .ok_or("path does not refer to an object. Path must be of the form /container/object.")?;
    let size = match segment.get("size_bytes") {
        None | Some(Value::Null) => None,
        Some(Value::Number(number)) => Some(number.as_i64().ok_or("invalid size_bytes")?),
        Some(Value::String(text)) => {
            Some(text.trim().parse().map_err(|_| "invalid size_bytes".to_owned())?)
        }
        Some(_) => return Err("invalid size_bytes".to_owned()),
    };
    if size.is_some_and(|size| size < 1) && !last {
        return Err("too small; each segment must be at least 1 byte.".to_owned());
    }
    let size = size.map(|size| u64::try_from(size).unwrap_or(0));
    if (container, object) == own {
        return Err("manifest must not include itself as a segment".to_owned());
    }
    let range = text("range", "invalid range")?.filter(|range| !range.is_empty());
    if let Some(range) = &range {
        if range.contains(',') {
            return Err("multiple ranges (only one allowed)".to_owned());
        }
        let parsed = large::parse_range(range).ok_or("invalid range")?;
        if size.is_some_and(|size| parsed.resolve(size).is_err()) {
            return Err("unsatisfiable range".to_owned());
        }
    }
    let (container, object) = (container.to_owned(), object.to_owned());
    let path = path.to_owned();
    Ok(Asked::Object { path, container, object, etag, size, range })
}

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

/// The manifest as it could be put again.
fn raw_manifest(kept: &[u8]) -> Option<Bytes> {
    let list: Vec<Map<String, Value>> = serde_json::from_slice(kept).ok()?;
    let raw = list.into_iter().map(|segment| {
        let mut raw = Map::new();
        for (from, to) in [
            ("name", "path"),
            ("bytes", "size_bytes"),
            ("hash", "etag"),
            ("range", "range"),
            ("data", "data"),
        ] {
            if let Some(value) = segment.get(from) {
                raw.insert(to.to_owned(), value.clone());
            }
        }
        Value::Object(raw)
    });
    Some(Bytes::from(raw.collect::<Value>().to_string()))
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

#[cfg(test)]
mod tests {
    use super::*;

    fn wrong(body: &str) -> String {
        parse(body.as_bytes(), ("c", "own")).map(|_| ()).unwrap_err().message
    }

    #[test]
    fn manifests_are_checked_line_by_line() {
        let good =
            r#"[{"path":"/c/o","etag":null,"size_bytes":"12","range":"-5"},{"data":"QQ=="}]"#;
        let asked = parse(good.as_bytes(), ("c", "own")).unwrap();
        assert_eq!(asked.len(), 2);
        assert_eq!(asked[1], Asked::Data(Bytes::from_static(b"A")));
        for (body, expected) in [
            ("x", "Manifest must be valid JSON.\n"),
            ("{}", "Manifest must be a list.\n"),
            ("[1]", "Index 0: not a JSON object\n"),
            (r#"[{"path":"/c/own"}]"#, "Index 0: manifest must not include itself as a segment\n"),
            (r#"[{"path":"/c/o","x":1}]"#, "Index 0: extraneous keys \"x\"\n"),
            (
                r#"[{"path":"/c/o","range":"1-2,4-5"}]"#,
                "Index 0: multiple ranges (only one allowed)\n",
            ),
            (r#"[{"path":"/c/o","range":"9-","size_bytes":5}]"#, "Index 0: unsatisfiable range\n"),
            (r#"[{"path":"/c/o","size_bytes":[]}]"#, "Index 0: invalid size_bytes\n"),
            (
                r#"[{"data":"?"},{"path":"c"}]"#,
                "Index 0: data must be valid base64\nIndex 1: path does not refer to an object. Path must be of the form /container/object.\n",
            ),
            (
                r#"[{"data":"QQ=="}]"#,
                "Inline data segments require at least one object-backed segment.\n",
            ),
        ] {
            assert_eq!(wrong(body), expected, "{body}");
        }
    }

    #[test]
    fn raw_manifests_can_be_put_again() {
        let kept =
            br#"[{"name":"/c/o","bytes":5,"hash":"h","content_type":"x","last_modified":"y"}]"#;
        let raw = raw_manifest(kept).unwrap();
        assert_eq!(raw, r#"[{"etag":"h","path":"/c/o","size_bytes":5}]"#);
        assert!(parse(&raw, ("c", "own")).is_ok());
    }
}
