//! Versions of objects as Swift names them: `X-Versions-Enabled` is the versioning of the bucket, `?version-id=`
//! the version id of S3, `?versions` the listing of all versions.

use super::container::{CONTENT_TYPE_DEFAULT, described, text};
use super::error::{SwiftError, SwiftResult};
use super::listing::{Line, Listing};
use super::metadata::Changes;
use super::{Call, legacy};
use crate::catalogue::Bucket;
use crate::s3::response;
use bytes::Bytes;
use http::HeaderMap;
use http::header::{HeaderName, HeaderValue};
use std::collections::VecDeque;
use std::rc::Rc;
use store_base::bucket::{
    Condition, ETag, Entry, ListVersions, Read, RemoveItem, SettingsChange, TagMatch, Version,
    VersionItem, VersionPlace, Versioning,
};

/// What a delete marker is called among the content types.
pub(super) const DELETED_TYPE: &str = "application/x-deleted;swift_versions_deleted=1";

/// The header of an object's version.
pub(super) const VERSION_ID: &str = "x-object-version-id";

/// The header that switches versions on and off.
const ENABLED: &str = "x-versions-enabled";

/// Most versions that are read at a time.
const PAGE_MAX: u32 = 1000;

/// The MD5 of nothing: what listings show of delete markers.
const EMPTY_MD5: &str = "d41d8cd98f00b204e9800998ecf8427e";

/// What a request wants of a container's versioning.
pub(super) fn asked(call: &Call, changes: &Changes) -> SwiftResult<Option<Versioning>> {
    let Some(value) = call.head.header(ENABLED)?.filter(|value| !value.is_empty()) else {
        return Ok(None);
    };
    let on = is_true(value);
    if on && legacy::sets_place(changes) {
        return Err(SwiftError::bad_request(
            "Old versions are kept in the container or in another one, not in both.",
        ));
    }
    Ok(Some(if on { Versioning::Enabled } else { Versioning::Suspended }))
}

/// Whether a header or parameter says yes.
pub(super) fn is_true(value: &str) -> bool {
    let value = value.to_ascii_lowercase();
    ["true", "1", "yes", "on", "t", "y"].contains(&value.as_str())
}

/// Switches versions on or off.
pub(super) async fn configure(call: &Call, bucket: &Bucket, to: Versioning) -> SwiftResult<()> {
    if to == Versioning::Enabled && legacy::has_place(bucket) {
        return Err(SwiftError::bad_request(
            "Old versions are kept in the container or in another one, not in both.",
        ));
    }
    // What another gateway has just set counts.
    let bucket = call.service.catalogue.bucket_now(&bucket.name).await?;
    let bucket = &*bucket;
    let present = bucket.settings.versioning;
    let same = present == to || (present == Versioning::Off && to == Versioning::Suspended);
    match same {
        true => Ok(()),
        false => {
            let change = SettingsChange::Versioning { versioning: to };
            Ok(call.service.catalogue.configure(bucket, change).await?)
        }
    }
}

/// Tells whether a container has versions.
pub(super) fn set_container(headers: &mut HeaderMap, bucket: &Bucket) {
    match bucket.settings.versioning {
        Versioning::Off => {}
        Versioning::Enabled => response::set(headers, ENABLED, "True"),
        Versioning::Suspended => response::set(headers, ENABLED, "False"),
    }
}

/// The version id of the query. It is one of ours, `null`, or has the form of a time, as ids have elsewhere: such a
/// version is not there.
pub(super) fn asked_id(call: &Call) -> SwiftResult<Option<String>> {
    let Some(id) = call.head.query.value("version-id") else { return Ok(None) };
    let ours = id.len() == 32 && id.bytes().all(|byte| byte.is_ascii_hexdigit());
    let time = id.split_once('.').is_some_and(|(secs, rest)| {
        let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        digits(secs) && digits(rest)
    });
    match ours || time || id == "null" {
        true => Ok(Some(id.to_owned())),
        false => Err(SwiftError::bad_request("This is no version id.")),
    }
}

/// The version of an id of this container; `NotFound` for an id that we never gave.
pub(super) fn named(bucket: &Bucket, id: &str) -> SwiftResult<Version> {
    Version::parse(id, bucket.id).ok_or_else(SwiftError::not_found)
}

/// Tells the version of an object, in a container that has versions.
pub(super) fn set_id(headers: &mut HeaderMap, bucket: &Bucket, entry: &Entry) {
    if entry.named || bucket.settings.versioning == Versioning::Enabled {
        response::set(headers, VERSION_ID, &entry.version().text(bucket.id));
    }
}

/// The error for an id that names a delete marker.
pub(super) fn is_marker(id: &str) -> SwiftError {
    let mut error = SwiftError::not_found();
    if let Ok(value) = HeaderValue::from_str(id) {
        error = error.header(HeaderName::from_static(VERSION_ID), value);
    }
    let kind = HeaderValue::from_static(DELETED_TYPE);
    error.header(http::header::CONTENT_TYPE, kind)
}

/// A marker that hides an object which was deleted while versions were switched off. Swift has no such thing.
fn is_hidden(item: &VersionItem) -> bool {
    matches!(item, VersionItem::Version { entry, .. } if entry.delete_marker && !entry.named)
}

/// Whether a version is newer than the one at which a listing backwards begins, of the same key.
fn is_before(item: &VersionItem, until: Option<(&[u8], Version)>) -> bool {
    let (VersionItem::Version { key, entry, .. }, Some((until, version))) = (item, until) else {
        return false;
    };
    let newer = match (entry.version(), version) {
        (Version::Id { sequence }, Version::Id { sequence: than }) => sequence > than,
        (Version::Id { .. }, Version::Null {}) => true,
        (Version::Null {}, _) => false,
    };
    key[..] == *until && newer
}

/// The lines of a listing of all versions.
pub(super) async fn lines(
    call: &Call,
    bucket: &Rc<Bucket>,
    listing: &Listing,
) -> SwiftResult<Vec<Line>> {
    let query = &call.head.query;
    let mut place = VersionPlace { key: listing.from(), after: None };
    let mut until = None;
    if let Some(id) = query.value("version_marker").filter(|id| !id.is_empty()) {
        let marker = query.value("marker").unwrap_or_default();
        if marker.is_empty() {
            return Err(SwiftError::bad_request("version_marker goes with a marker."));
        }
        let version = Version::parse(id, bucket.id);
        if listing.reverse {
            until = version.map(|version| (marker.as_bytes(), version));
        } else if let Some(version) = version {
            place = VersionPlace {
                key: Bytes::copy_from_slice(marker.as_bytes()),
                after: Some(version),
            };
        }
    }
    let mut lines: VecDeque<Line> = VecDeque::new();
    let mut from = Some(place);
    'pages: while let (Some(next), true) = (from.take(), listing.limit > 0) {
        let list = ListVersions {
            prefix: listing.prefix.clone().into(),
            delimiter: listing.delimiter.clone().into(),
            from: next,
            max: PAGE_MAX,
        };
        let page = call.service.catalogue.versions(bucket, list).await?;
        from = page.next;
        for item in page.items {
            if listing.is_beyond(item.name()) && !is_before(&item, until) {
                break 'pages;
            }
            if is_hidden(&item) {
                continue;
            }
            lines.push_back(line(call, bucket, item).await?);
            if lines.len() > listing.limit && listing.reverse {
                lines.pop_front();
            }
            if lines.len() == listing.limit && !listing.reverse {
                break 'pages;
            }
        }
    }
    Ok(match listing.reverse {
        true => lines.into_iter().rev().collect(),
        false => lines.into(),
    })
}

async fn line(call: &Call, bucket: &Rc<Bucket>, item: VersionItem) -> SwiftResult<Line> {
    let (key, entry, latest) = match item {
        VersionItem::Prefix { prefix } => return Ok(Line::Subdir(text(&prefix))),
        VersionItem::Version { key, entry, latest } => (key, entry, latest),
    };
    let mut kind = entry.content_type.clone();
    if entry.delete_marker {
        kind = DELETED_TYPE.to_owned();
    } else if kind.is_empty() {
        let read = Read { key: key.clone(), body: false, version: Some(entry.version()) };
        let found = call.service.catalogue.read(bucket, read).await?;
        let known = found.and_then(|found| found.detail.headers.get("content-type").cloned());
        kind = known.unwrap_or_else(|| CONTENT_TYPE_DEFAULT.to_owned());
    }
    let mut values = described(&entry, kind);
    if entry.delete_marker {
        values[0].1 = EMPTY_MD5.into();
    }
    super::symlink::list(&mut values, &entry);
    values.push(("version_id", entry.version().text(bucket.id).into()));
    values.push(("is_latest", latest.into()));
    Ok(Line::Named(text(&key), values))
}

/// Removes the markers that nobody sees, from a container that has nothing else: it is empty to Swift.
///
/// All of it is looked at first: a marker that goes would bring back an older version that stands on a later page.
/// What is written meanwhile is no marker, and stays; the container is not empty then.
pub(super) async fn remove_hidden(call: &Call, bucket: &Rc<Bucket>) -> SwiftResult<()> {
    if bucket.settings.versioning == Versioning::Off {
        return Ok(());
    }
    for removes in [false, true] {
        let mut from = Some(VersionPlace::default());
        while let Some(next) = from.take() {
            let list = ListVersions { from: next, max: PAGE_MAX, ..ListVersions::default() };
            let page = call.service.catalogue.versions(bucket, list).await?;
            if page.items.iter().any(|item| !is_hidden(item)) {
                return Ok(());
            }
            if removes {
                let items = page.items.iter().map(|item| removal(item.name())).collect();
                match super::object::remove(call, bucket, items).await {
                    Err(error) if error.status.is_server_error() => return Err(error),
                    // Who asks for the container's end is told whether it is empty.
                    _ => {}
                }
            }
            from = page.next;
        }
    }
    Ok(())
}

/// Of a marker without an id, and of nothing else: objects have another entity tag.
fn removal(key: &Bytes) -> RemoveItem {
    let marker = TagMatch::OneOf { tags: vec![ETag::default()] };
    RemoveItem {
        key: key.clone(),
        version: Some(Version::Null {}),
        condition: Condition { if_match: Some(marker), if_none_match: None },
        ..RemoveItem::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use store_base::bucket::Refusal;

    #[test]
    fn what_was_put_in_the_place_of_a_marker_is_not_removed_as_one() {
        let item = removal(&Bytes::from_static(b"k"));
        let marker = Entry { delete_marker: true, ..Entry::default() };
        assert_eq!(item.condition.check(Some(&marker)), Ok(()));
        let object = Entry { etag: ETag { md5: [7; 16], parts: 0 }, ..Entry::default() };
        assert_eq!(item.condition.check(Some(&object)), Err(Refusal::Precondition {}));
        assert_eq!(item.version, Some(Version::Null {}));
    }
}
