//! Old versions in another container: `X-Versions-Location` (deleting brings the version before back) and
//! `X-History-Location` (deleting is kept as one more version).
//!
//! The versions of `name` are objects called `LLLname/TIME`, where LLL is the length of the name as three
//! hexadecimal digits. The copies are made before the change, so that a crash leaves a version too many and never one
//! too few; they are not one transaction with it, as in Swift: of two PUTs at the same time both keep what was there
//! before, and the one that is replaced by the other is kept nowhere. A deletion replaces nothing but what it has seen:
//! where a PUT comes between, it begins anew, and deletes that.

use super::access::{self, AccountPermit};
use super::error::{SwiftError, SwiftResult};
use super::metadata::Changes;
use super::versions::DELETED_TYPE;
use super::{Call, copy, metadata, object, respond};
use crate::catalogue::Bucket;
use crate::s3::response;
use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use std::collections::BTreeMap;
use std::rc::Rc;
use store_base::bucket::{Condition, Found, Item, List, Read, RemoveItem, SwiftMetadata, TagMatch};
use store_shell::clock;

/// The header of the container of old versions, and as what it is kept: a stack.
const STACK: &str = "x-versions-location";
/// The same for a history.
const HISTORY: &str = "x-history-location";
/// Says which of both `X-Versions-Location` means.
const MODE: &str = "x-versions-mode";

/// Most names that are asked of the catalogue at a time.
const PAGE_MAX: u32 = 1000;

/// How often a deletion begins anew because the object was replaced before a version was brought back.
const RESTORES_MAX: usize = 5;

/// Reads what the headers change.
pub(super) fn container_changes(call: &Call, changes: &mut Changes) -> SwiftResult<()> {
    let value = |name: &str| call.head.header(name);
    let (stack, history) = (value(STACK)?, value(HISTORY)?);
    let given = |value: Option<&str>| value.is_some_and(|value| !value.is_empty());
    if given(stack) && given(history) {
        return Err(SwiftError::bad_request(
            "Only one of X-Versions-Location and X-History-Location.",
        ));
    }
    let mode = value(MODE)?.map(str::to_ascii_lowercase);
    let as_history = match mode.as_deref() {
        None | Some("stack") => false,
        Some("history") => true,
        Some(_) => return Err(SwiftError::bad_request("X-Versions-Mode is stack or history.")),
    };
    let removed = |name: &str| call.head.headers.contains_key(name);
    let set = match (stack, history) {
        (Some(place), _) if !place.is_empty() => {
            Some((if as_history { HISTORY } else { STACK }, place))
        }
        (_, Some(place)) if !place.is_empty() => Some((HISTORY, place)),
        _ => None,
    };
    if let Some((name, place)) = set {
        let place = crate::s3::uri::percent_decode(place.as_bytes());
        let place = String::from_utf8(place).unwrap_or_default();
        if place.is_empty() || place.contains('/') {
            return Err(SwiftError::new(
                StatusCode::PRECONDITION_FAILED,
                "The place of old versions is the name of a container.",
            ));
        }
        for other in [STACK, HISTORY] {
            let kept = (other == name).then(|| Bytes::from(place.clone()));
            changes.settings.insert(other.to_owned(), kept);
        }
    } else if stack.is_some()
        || history.is_some()
        || removed("x-remove-versions-location")
        || removed("x-remove-history-location")
    {
        for name in [STACK, HISTORY] {
            changes.settings.insert(name.to_owned(), None);
        }
    }
    Ok(())
}

/// Whether a request names a container for old versions.
pub(super) fn sets_place(changes: &Changes) -> bool {
    [STACK, HISTORY].iter().any(|name| matches!(changes.settings.get(*name), Some(Some(_))))
}

/// Whether a container has one.
pub(super) fn has_place(bucket: &Bucket) -> bool {
    place_of(&metadata::of_container(bucket)).is_some()
}

/// Who reads a container sees where its old versions are.
pub(super) fn set_shown(headers: &mut HeaderMap, kept: &SwiftMetadata) {
    if let Some((mode, place)) = place_of(kept) {
        let place = crate::s3::uri::encoded(place.as_bytes(), false);
        response::set(headers, mode, &place);
    }
}

fn place_of(kept: &SwiftMetadata) -> Option<(&'static str, String)> {
    let place = |name: &'static str| {
        let place = kept.settings.get(name)?;
        Some((name, String::from_utf8_lossy(place).into_owned()))
    };
    place(STACK).or_else(|| place(HISTORY))
}

/// What the names of the versions of an object begin with.
fn prefix_of(name: &str) -> String {
    format!("{:03x}{name}/", name.len())
}

/// The container of old versions.
struct Archive {
    history: bool,
    bucket: Rc<Bucket>,
}

async fn archive(
    call: &Call,
    permit: &AccountPermit,
    bucket: &Bucket,
) -> SwiftResult<Option<Archive>> {
    let Some((mode, place)) = place_of(&metadata::of_container(bucket)) else { return Ok(None) };
    let missing = || {
        SwiftError::new(
            StatusCode::PRECONDITION_FAILED,
            "The container for old versions is not there.",
        )
    };
    let bucket = access::archive(call, permit, &place).await?.ok_or_else(missing)?;
    Ok(Some(Archive { history: mode == HISTORY, bucket }))
}

/// Keeps the object that is about to be replaced.
pub(super) async fn keep(
    call: &Call,
    permit: &AccountPermit,
    bucket: &Rc<Bucket>,
    key: &Bytes,
) -> SwiftResult<()> {
    let Some(archive) = archive(call, permit, bucket).await? else { return Ok(()) };
    keep_in(call, &archive, bucket, key).await.map(drop)
}

/// A time that no other version has, as far as the clock can tell: its last two digits, which times of objects do
/// not have, are those of now.
fn unique(ms: u64) -> String {
    let now = clock::timestamp().nanos / 10_000 % 100;
    let time = respond::timestamp(ms);
    format!("{}{now:02}", time.strip_suffix("00").unwrap_or(&time))
}

/// Keeps an object in the archive. Whether there was one.
async fn keep_in(
    call: &Call,
    archive: &Archive,
    bucket: &Rc<Bucket>,
    key: &Bytes,
) -> SwiftResult<bool> {
    let Some(found) = read(call, bucket, key).await? else { return Ok(false) };
    let name = String::from_utf8_lossy(key).into_owned();
    let time = unique(found.entry.modified_ms);
    let to = Bytes::from(format!("{}{time}", prefix_of(&name)));
    copy::whole(call, bucket, &found, &archive.bucket, to).await?;
    Ok(true)
}

/// What a DELETE has to do besides, in a container whose versions are kept elsewhere: `None` if it is to go on as
/// always; otherwise all was done.
pub(super) async fn delete(
    call: &Call,
    permit: &AccountPermit,
    bucket: &Rc<Bucket>,
    key: &Bytes,
) -> SwiftResult<Option<()>> {
    let archive = match archive(call, permit, bucket).await {
        // Nothing to take back from.
        Err(error) if error.status == StatusCode::PRECONDITION_FAILED => return Ok(None),
        archive => archive?,
    };
    let Some(archive) = archive else { return Ok(None) };
    let name = String::from_utf8_lossy(key).into_owned();
    if archive.history {
        keep_in(call, &archive, bucket, key).await?;
        let to = format!("{}{}", prefix_of(&name), unique(clock::timestamp().millis()));
        let headers: BTreeMap<String, String> =
            [("content-type".to_owned(), DELETED_TYPE.to_owned())].into();
        copy::empty(call, &archive.bucket, to.into(), headers).await?;
        return Ok(None);
    }
    for _ in 0..RESTORES_MAX {
        match restore(call, &archive.bucket, bucket, key, &name).await {
            // Something else is there by now, or nothing: that is what the deletion is about.
            Err(error)
                if [StatusCode::PRECONDITION_FAILED, StatusCode::NOT_FOUND]
                    .contains(&error.status) => {}
            done => return done,
        }
    }
    Err(SwiftError::new(
        StatusCode::CONFLICT,
        "The object was replaced again and again while it was to be deleted.",
    ))
}

/// Brings the newest version back in the place of what is there now. `None` if there is no version;
/// `PRECONDITION_FAILED` or `NOT_FOUND` if what is there has changed by then.
async fn restore(
    call: &Call,
    versions: &Rc<Bucket>,
    bucket: &Rc<Bucket>,
    key: &Bytes,
    name: &str,
) -> SwiftResult<Option<()>> {
    let present = read(call, bucket, key).await?;
    let unchanged = unchanged(present.as_ref());
    let Some((newest, before)) = newest(call, versions, &prefix_of(name)).await? else {
        return Ok(None);
    };
    let Some(found) = read(call, versions, &newest).await? else { return Ok(None) };
    if found.entry.content_type != DELETED_TYPE {
        copy::whole_if(call, (versions, &found), bucket, key.clone(), unchanged).await?;
        remove(call, versions, newest).await?;
        return Ok(Some(()));
    }
    // The archive was a history once, and the last thing in it is a deletion. An object that is there again goes
    // back to that; otherwise the deletion is taken back.
    if present.is_some() {
        return Ok(None);
    }
    if let Some(before) = before
        && let Some(found) = read(call, versions, &before).await?
        && found.entry.content_type != DELETED_TYPE
    {
        copy::whole_if(call, (versions, &found), bucket, key.clone(), unchanged).await?;
        remove(call, versions, before).await?;
    }
    remove(call, versions, newest).await?;
    Ok(Some(()))
}

/// What holds as long as the object of a key is the one that was read, or there is still none.
fn unchanged(present: Option<&Found>) -> Condition {
    match present {
        None => Condition { if_match: None, if_none_match: Some(TagMatch::Any {}) },
        Some(Found { entry, .. }) => {
            let same = TagMatch::Like {
                tags: Some(vec![entry.etag]),
                size: Some(entry.size),
                modified_secs: Some(entry.modified_ms / 1000),
            };
            Condition { if_match: Some(same), if_none_match: None }
        }
    }
}

/// The object of a key, if there is one.
async fn read(call: &Call, bucket: &Rc<Bucket>, key: &Bytes) -> SwiftResult<Option<Found>> {
    let read = Read { key: key.clone(), body: true, version: None };
    let found = call.service.catalogue.read(bucket, read).await?;
    Ok(found.filter(|found| !found.entry.delete_marker))
}

/// Removes a version that was brought back; that another deletion has removed it is as good.
async fn remove(call: &Call, bucket: &Rc<Bucket>, key: Bytes) -> SwiftResult<()> {
    let condition = Condition { if_match: Some(TagMatch::Any {}), if_none_match: None };
    let item = RemoveItem { key, condition, ..RemoveItem::default() };
    match object::remove(call, bucket, vec![item]).await {
        Err(error) if error.status != StatusCode::NOT_FOUND => Err(error),
        _ => Ok(()),
    }
}

/// The last name that begins so, and the one before it: the times in them sort as they come.
async fn newest(
    call: &Call,
    bucket: &Rc<Bucket>,
    prefix: &str,
) -> SwiftResult<Option<(Bytes, Option<Bytes>)>> {
    let mut last: Option<(Bytes, Option<Bytes>)> = None;
    let mut from = Some(Bytes::copy_from_slice(prefix.as_bytes()));
    while let Some(next) = from.take() {
        let list = List {
            prefix: Bytes::copy_from_slice(prefix.as_bytes()),
            delimiter: Bytes::new(),
            from: next,
            max: PAGE_MAX,
        };
        let page = call.service.catalogue.list(bucket, list).await?;
        for item in page.items {
            if let Item::Key { key, .. } = item {
                last = Some((key, last.map(|(before, _)| before)));
            }
        }
        from = page.next;
    }
    Ok(last)
}

#[cfg(test)]
mod tests {
    use super::*;
    use store_base::bucket::{ETag, Entry};

    #[test]
    fn names_of_versions_begin_with_their_length() {
        assert_eq!(prefix_of("object"), "006object/");
        assert_eq!(prefix_of(&"x".repeat(17)), format!("011{}/", "x".repeat(17)));
    }

    #[test]
    fn what_is_replaced_is_what_was_seen() {
        let entry = |md5: u8, modified_ms: u64| Entry {
            etag: ETag { md5: [md5; 16], parts: 0 },
            modified_ms,
            ..Entry::default()
        };
        let seen = Found { entry: entry(1, 5000), ..Found::default() };
        let holds = |present: Option<Entry>| unchanged(Some(&seen)).check(present.as_ref()).is_ok();
        assert!(holds(Some(entry(1, 5000))));
        assert!(!holds(Some(entry(2, 5000))) && !holds(Some(entry(1, 9000))) && !holds(None));
        assert!(unchanged(None).check(None).is_ok());
        assert!(unchanged(None).check(Some(&entry(1, 1))).is_err());
    }
}
