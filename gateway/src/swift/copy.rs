//! Copies: COPY, PUT with `X-Copy-From`, and copies that Swift makes by itself.

use super::access::{self, AccountPermit};
use super::error::{SwiftError, SwiftResult};
use super::large::{self, Opened};
use super::object::{
    KEPT_HEADERS, PutSegments, check_name, created, described, headers_of, key_of, put_segments,
};
use super::read::{self, is_expired};
use super::{Call, legacy, metadata, quota, respond, slo, symlink, versions};
use crate::catalogue::Bucket;
use crate::s3::access::{Admitted, Sharing};
use crate::s3::auth::payload::Inspector;
use crate::s3::checksum::{Algorithm, Announced};
use crate::s3::conditions::ReadCondition;
use crate::s3::operations::write::{Made, NewObject, PIECE_OBJECT_BYTES_MAX, store};
use crate::s3::range::Range;
use crate::s3::router::Operation;
use crate::s3::{Answer, response, uri};
use bytes::Bytes;
use http::header::{HeaderMap, HeaderName, HeaderValue};
use http::{StatusCode, header::CONTENT_LENGTH, header::TRANSFER_ENCODING};
use std::collections::BTreeMap;
use std::rc::Rc;
use store_base::bucket::{Body, Condition, Entry, Found};

/// An object somewhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    account: String,
    container: String,
    object: String,
}

/// Reads `container/object`, percent-encoded, with or without a slash before it.
fn place(header: &str, value: &str) -> SwiftResult<(String, String)> {
    let wrong = || {
        SwiftError::new(
            StatusCode::PRECONDITION_FAILED,
            format!("{header} is of the form CONTAINER/OBJECT."),
        )
    };
    let path = String::from_utf8(uri::percent_decode(value.as_bytes())).map_err(|_| wrong())?;
    let path = path.strip_prefix('/').unwrap_or(&path);
    let (container, object) = path.split_once('/').ok_or_else(wrong)?;
    match container.is_empty() || object.is_empty() || path.contains('\0') {
        true => Err(wrong()),
        false => Ok((container.to_owned(), object.to_owned())),
    }
}

/// COPY: the object of the path goes to `Destination`.
pub(super) async fn copy_to(
    call: &mut Call,
    permit: &AccountPermit,
    container: &str,
) -> SwiftResult<Answer> {
    let destination = call.head.header("destination")?.ok_or_else(|| {
        SwiftError::new(StatusCode::PRECONDITION_FAILED, "A COPY names its Destination.")
    })?;
    let (to_container, to_object) = place("Destination", destination)?;
    check_name(&to_object)?;
    let account = access::named_account(call, permit.id(), "destination-account")?;
    let source = Place {
        account: permit.id().to_owned(),
        container: container.to_owned(),
        object: call.head.target.key.replace(to_object).unwrap_or_default(),
    };
    let opened = source_of(call, &source).await?;
    let leads_elsewhere = account != permit.id();
    let destination = leads_elsewhere.then(|| access::signed(&account));
    let bucket = access::bucket_name(call, &account, &to_container).await?;
    call.head.target.bucket = Some(bucket.unwrap_or(to_container));
    copy(call, destination.as_ref().unwrap_or(permit), &source, opened).await
}

/// PUT with `X-Copy-From`.
pub(super) async fn copy_from(call: &mut Call, permit: &AccountPermit) -> SwiftResult<Answer> {
    let (container, object) =
        place("X-Copy-From", call.head.header("x-copy-from")?.unwrap_or_default())?;
    if call.head.content_length()?.unwrap_or(0) != 0
        || call.head.headers.contains_key(TRANSFER_ENCODING)
    {
        return Err(SwiftError::bad_request("A copy has no body."));
    }
    if !call.head.headers.contains_key(CONTENT_LENGTH) {
        return Err(SwiftError::new(StatusCode::LENGTH_REQUIRED, "A PUT says its length."));
    }
    let account = access::named_account(call, permit.id(), "x-copy-from-account")?;
    let source = Place { account, container, object };
    let opened = source_of(call, &source).await;
    copy(call, permit, &source, opened?).await
}

/// Whether the manifest or the link is to be copied, not what it stands for.
fn is_raw(call: &Call, found: &Found) -> bool {
    let manifest = call.head.query.value("multipart-manifest") == Some("get");
    let link = symlink::is_link(&found.detail) && symlink::wants_link(call);
    let large = matches!(found.detail.body, Body::Segments { .. })
        || found.detail.headers.contains_key(large::DYNAMIC);
    link || (manifest && large)
}

/// The object that is copied, if it is there and as the request wants it.
async fn source_of(call: &Call, from: &Place) -> SwiftResult<Opened> {
    check_name(&from.object)?;
    let version = versions::asked_id(call)?;
    let leave = access::source(call, &from.account, &from.container, &from.object, version).await?;
    let Admitted { bucket, found, .. } = leave.read(call, true).await?;
    if is_expired(call, &found) {
        return Err(SwiftError::not_found());
    }
    let opened = match is_raw(call, &found) {
        true => Opened::raw(bucket, found),
        false => {
            let followed = match symlink::wants_link(call) {
                true => symlink::Followed { bucket, found, location: None },
                false => symlink::follow(call, bucket, found, true).await?,
            };
            large::open_here(call, followed.bucket, followed.found).await?
        }
    };
    let condition = ReadCondition::from_headers(&call.head.headers)?;
    let entry = &opened.found.entry;
    condition.check_source(&Entry { etag: large::tag_of(entry), ..entry.clone() })?;
    Ok(opened)
}

/// Copies what was opened to what the request names.
async fn copy(
    call: &Call,
    permit: &AccountPermit,
    from: &Place,
    source: Opened,
) -> SwiftResult<Answer> {
    let key = key_of(call)?;
    let given = headers_of(call)?;
    let mut own = metadata::of_object(&call.head.headers)?;
    let leave = access::container(call, permit, Operation::PutObject).await?;
    let (bucket, sharing) = (leave.bucket().clone(), access::sharing(&leave));
    let raw = is_raw(call, &source.found);
    let (first, size) = match call.head.query.value("part-number").filter(|_| !raw) {
        Some(number) => read::part(&source, number)?.map_or((0, source.found.entry.size), |p| p.0),
        None => match call.head.header("range")?.and_then(Range::parse).filter(|_| !raw) {
            Some(range) => range.resolve(source.found.entry.size)?,
            None => (0, source.found.entry.size),
        },
    };
    if size > PIECE_OBJECT_BYTES_MAX && !raw {
        return Err(SwiftError::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            format!("What is copied has at most {PIECE_OBJECT_BYTES_MAX} bytes."),
        ));
    }
    quota::check(call, permit, &bucket, Some(size)).await?;
    if let (true, Body::Segments { manifest }) = (raw, &source.found.detail.body)
        && source.bucket.owner != bucket.owner
    {
        // There the names mean other objects.
        slo::check_again(call, &bucket.owner, manifest).await?;
    }
    let fresh = call.head.header("x-fresh-metadata")?;
    let fresh = fresh.is_some_and(versions::is_true);
    let detail = &source.found.detail;
    let mut headers = detail.headers.clone();
    if !raw {
        headers.remove(large::DYNAMIC);
        headers.retain(|name, _| !symlink::HEADERS.contains(&name.as_str()));
    }
    if fresh {
        let stays = |name: &str| {
            name == "content-type" || name == large::DYNAMIC || symlink::HEADERS.contains(&name)
        };
        headers.retain(|name, _| stays(name));
    } else {
        for (name, value) in &detail.metadata {
            own.entry(name.clone()).or_insert_with(|| value.clone());
        }
        metadata::check_all(&own)?;
    }
    headers.extend(given);
    symlink::readdress(call, &mut headers)?;
    legacy::keep(call, permit, &bucket, &key).await?;
    let condition = Condition::default();
    let copied = Copied { raw, first, size, headers, metadata: own, sharing, condition };
    let made = write(call, &source, bucket.clone(), key, copied).await?;
    let mut answer = created(call, &bucket, &made);
    set_copied(answer.headers_mut(), from, &source);
    Ok(answer)
}

/// How something is copied.
struct Copied {
    raw: bool,
    first: u64,
    size: u64,
    headers: BTreeMap<String, String>,
    metadata: BTreeMap<String, Bytes>,
    sharing: Sharing,
    /// What must hold of what is there.
    condition: Condition,
}

async fn write(
    call: &Call,
    source: &Opened,
    bucket: Rc<Bucket>,
    key: Bytes,
    copied: Copied,
) -> SwiftResult<Made> {
    let described = described(copied.headers, copied.metadata);
    let entry = &source.found.entry;
    let condition = copied.condition;
    if let (true, Body::Segments { manifest }) = (copied.raw, &source.found.detail.body) {
        let (listed, manifest) = (entry.listed.clone(), manifest.clone());
        let (size, etag, sharing) = (entry.size, entry.etag, copied.sharing);
        let put = PutSegments { key, condition, described, sharing, manifest, size, etag, listed };
        return put_segments(call, &bucket, put).await;
    }
    let mut listed = if copied.raw { entry.listed.clone() } else { BTreeMap::new() };
    symlink::relist(&mut listed, &described.headers, &bucket.owner);
    let sharing = copied.sharing;
    let new = NewObject { bucket, key, condition, described, sharing, listed };
    let inspector = Inspector::new(&call.payload, Announced::default(), Some(Algorithm::Crc64Nvme));
    let mut reader = source.copied(call, copied.first, copied.size).await?;
    Ok(store(call, new, &mut reader, inspector).await?)
}

/// Copies an object as it is, manifest and link included.
pub(super) async fn whole(
    call: &Call,
    from: &Rc<Bucket>,
    found: &Found,
    to: &Rc<Bucket>,
    key: Bytes,
) -> SwiftResult<Made> {
    whole_if(call, (from, found), to, key, Condition::default()).await
}

/// As [`whole`], if this holds of what is there.
pub(super) async fn whole_if(
    call: &Call,
    (from, found): (&Rc<Bucket>, &Found),
    to: &Rc<Bucket>,
    key: Bytes,
    condition: Condition,
) -> SwiftResult<Made> {
    let source = Opened::raw(from.clone(), found.clone());
    let copied = Copied {
        raw: true,
        first: 0,
        size: found.entry.size,
        headers: found.detail.headers.clone(),
        metadata: found.detail.metadata.clone(),
        sharing: Sharing { owner: to.owner.clone(), acl: None },
        condition,
    };
    write(call, &source, to.clone(), key, copied).await
}

/// Writes an object without bytes.
pub(super) async fn empty(
    call: &Call,
    to: &Rc<Bucket>,
    key: Bytes,
    headers: BTreeMap<String, String>,
) -> SwiftResult<Made> {
    let found = Found { detail: Default::default(), ..Found::default() };
    let source = Opened::raw(to.clone(), found);
    let sharing = Sharing { owner: to.owner.clone(), acl: None };
    let (metadata, condition) = (BTreeMap::new(), Condition::default());
    let copied = Copied { raw: true, first: 0, size: 0, headers, metadata, sharing, condition };
    write(call, &source, to.clone(), key, copied).await
}

fn set_copied(headers: &mut HeaderMap, from: &Place, source: &Opened) {
    let path = format!(
        "{}/{}",
        uri::encoded(from.container.as_bytes(), false),
        uri::encoded(from.object.as_bytes(), true)
    );
    let account = format!("AUTH_{}", uri::encoded(from.account.as_bytes(), false));
    response::set(headers, "x-copied-from", &path);
    response::set(headers, "x-copied-from-account", &account);
    let modified = respond::last_modified(source.found.entry.modified_ms);
    headers.insert(
        HeaderName::from_static("x-copied-from-last-modified"),
        HeaderValue::from_str(&modified).unwrap_or(HeaderValue::from_static("")),
    );
    metadata::set_headers(headers, "object", &source.found.detail.metadata);
    for name in KEPT_HEADERS {
        headers.remove(name);
    }
    response::set(headers, "content-type", "text/html; charset=UTF-8");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_read_as_clients_write_them() {
        let read = |value: &str| place("Destination", value).ok();
        let pair = |container: &str, object: &str| Some((container.into(), object.into()));
        assert_eq!(read("c/o"), pair("c", "o"));
        assert_eq!(read("/c/a/b%20c"), pair("c", "a/b c"));
        assert_eq!(read("c//o"), pair("c", "/o"));
        for bad in ["", "c", "c/", "/c", "//o", "c/%ff", "c/%00"] {
            assert_eq!(read(bad), None, "{bad}");
        }
    }
}
