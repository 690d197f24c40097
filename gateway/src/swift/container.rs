//! Containers: buckets.

use super::access::{self, AccountPermit};
use super::error::{SwiftError, SwiftResult};
use super::listing::{self, Elements, Format, Line, Listing};
use super::metadata::Changes;
use super::{Call, acl, for_method, large, legacy, metadata, quota, respond, symlink, versions};
use crate::catalogue::{Bucket, Creation};
use crate::s3::router::Operation;
use crate::s3::{Answer, response};
use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt, stream};
use http::{Method, StatusCode};
use std::collections::VecDeque;
use std::rc::Rc;
use store_base::bucket::placement::PLACEMENT_DEFAULT;
use store_base::bucket::{BucketId, BucketRecord, Entry, Item, List, Read, Versioning};
use store_shell::clock;

/// To S3 the metadata of a container is as the tags of a bucket: its owner describes it.
const DESCRIBES: Operation = Operation::PutBucketTagging;

/// Most items of one page that is asked of the catalogue.
const PAGE_MAX: usize = 1000;

/// How many objects are asked at a time for what a listing does not have.
const ASKED_AT_ONCE: usize = 32;

/// The content type of an object that has none.
pub(super) const CONTENT_TYPE_DEFAULT: &str = "application/octet-stream";

/// Headers that ask for what is not there. Empty values ask for nothing.
const NOT_THERE: [&str; 3] =
    ["x-container-sync-to", "x-container-sync-key", "x-container-sharding"];

/// What the headers change of a container.
fn changes(call: &Call, permit: &AccountPermit) -> SwiftResult<Changes> {
    let asked = |name: &&&str| call.head.headers.get(**name).is_some_and(|value| !value.is_empty());
    if let Some(name) = NOT_THERE.iter().find(asked) {
        return Err(SwiftError::not_there(name));
    }
    let owns = permit.owns();
    let mut changes = metadata::changes(&call.head.headers, "container", owns)?;
    quota::check_container_change(&changes)?;
    for name in [acl::READ, acl::WRITE].into_iter().filter(|_| owns) {
        let remove = format!("x-remove-{}", name.trim_start_matches("x-"));
        if let Some(text) = call.head.header(name)? {
            let text = acl::clean(name, text)?;
            let kept = (!text.is_empty()).then(|| Bytes::from(text));
            changes.settings.insert(name.to_owned(), kept);
        } else if call.head.headers.contains_key(remove.as_str()) {
            changes.settings.insert(name.to_owned(), None);
        }
    }
    legacy::container_changes(call, &mut changes)?;
    Ok(changes)
}

/// PUT: makes a container, or changes the metadata of one that is there.
pub(super) async fn put(
    call: &mut Call,
    permit: &AccountPermit,
    name: &str,
) -> SwiftResult<Answer> {
    access::check_container(name)?;
    access::new_container(call, permit)?;
    let changes = changes(call, permit)?;
    metadata::check_new(&changes)?;
    let versioning = versions::asked(call, &changes)?;
    let policy = call.head.header("x-storage-policy")?.filter(|policy| !policy.is_empty());
    let policy = policy.map(str::to_owned);
    let placement = call
        .service
        .catalogue
        .placement(policy.as_deref().unwrap_or_default())
        .ok_or_else(|| SwiftError::bad_request("There is no storage policy of that name."))?;
    let mut wanted = BucketRecord {
        id: BucketId(clock::random()),
        name: access::bucket_name(call, permit.id(), name)
            .await?
            .unwrap_or_else(|| name.to_owned()),
        owner: permit.id().to_owned(),
        created_ms: call.now_ms(),
        shards: call.service.settings.index_shards,
        placement: placement.name.clone(),
        data_pool: placement.pool.unwrap_or_default(),
        ..BucketRecord::default()
    };
    let catalogue = &call.service.catalogue;
    let mut creation = catalogue.create_bucket(wanted.clone()).await?;
    if matches!(&creation, Creation::Taken(bucket) if bucket.owner != permit.id()) {
        wanted.name = access::taken_name(permit.id(), name);
        creation = catalogue.create_bucket(wanted).await?;
    }
    let (bucket, is_new) = match creation {
        Creation::Made(bucket) => (bucket, true),
        Creation::Taken(bucket) if bucket.owner == permit.id() => (bucket, false),
        Creation::Taken(_) => {
            return Err(SwiftError::new(
                StatusCode::CONFLICT,
                "The name is taken by a bucket of another account.",
            ));
        }
    };
    call.head.target.bucket = Some(bucket.name.clone());
    if policy.is_some() && policy_of(&bucket) != placement.name {
        return Err(SwiftError::new(
            StatusCode::CONFLICT,
            "The container has another storage policy, and keeps it.",
        ));
    }
    if !is_new || !changes.is_empty() || versioning.is_some() {
        let leave = access::container(call, permit, DESCRIBES).await?;
        apply(call, leave.bucket(), &changes, versioning).await?;
    }
    Ok(respond::empty(if is_new { StatusCode::CREATED } else { StatusCode::ACCEPTED }))
}

/// Changes a container, at least its date.
async fn apply(
    call: &Call,
    bucket: &Rc<Bucket>,
    changes: &Changes,
    versioning: Option<Versioning>,
) -> SwiftResult<()> {
    let set = [acl::READ, acl::WRITE].map(|name| changes.settings.get(name));
    let opens = set.into_iter().flatten().flatten().any(|kept| acl::is_public(kept));
    if opens && call.service.rules.rules(bucket)?.block.block_public_acls {
        return Err(SwiftError::forbidden());
    }
    if let Some(versioning) = versioning {
        versions::configure(call, bucket, versioning).await?;
    }
    metadata::change_container(call, bucket, changes).await
}

pub(super) fn policy_of(bucket: &Bucket) -> &str {
    match bucket.placement.as_str() {
        "" => PLACEMENT_DEFAULT,
        name => name,
    }
}

/// POST: changes metadata.
pub(super) async fn post(call: &mut Call, permit: &AccountPermit) -> SwiftResult<Answer> {
    let leave = access::container(call, permit, DESCRIBES).await?;
    let changes = changes(call, permit)?;
    let versioning = versions::asked(call, &changes)?;
    apply(call, leave.bucket(), &changes, versioning).await?;
    Ok(respond::empty(StatusCode::NO_CONTENT))
}

/// DELETE: removes a container that is empty, old versions included.
pub(super) async fn delete(call: &mut Call, permit: &AccountPermit) -> SwiftResult<Answer> {
    let leave = access::container(call, permit, Operation::DeleteBucket).await?;
    versions::remove_hidden(call, leave.bucket()).await?;
    call.service.catalogue.remove_bucket(leave.bucket()).await?;
    Ok(respond::empty(StatusCode::NO_CONTENT))
}

/// GET and HEAD.
pub(super) async fn read(call: &mut Call, permit: &AccountPermit) -> SwiftResult<Answer> {
    let listing = Listing::parse(call)?;
    let with_versions = call.head.query.has("versions");
    let leave = access::container(call, permit, Operation::ListObjects).await?;
    if with_versions && !permit.owns() {
        return Err(SwiftError::forbidden());
    }
    drop(leave);
    // What another gateway has just set is shown.
    let bucket = call.service.catalogue.bucket_now(call.head.bucket()?).await?;
    if bucket.owner != permit.id() {
        return Err(SwiftError::not_found());
    }
    let usage = call.service.catalogue.usage(&bucket).await?;
    let mut answer = match call.head.method {
        Method::HEAD => respond::unlisted(listing.format.content_type()),
        _ => {
            let lines = match with_versions {
                true => versions::lines(call, &bucket, &listing).await?,
                false => {
                    let items = items(call, &bucket, &listing).await?;
                    lines(call, &bucket, &listing, items).await?
                }
            };
            let name = access::shown_name(permit.id(), &bucket.name);
            let elements = Elements { root: "container", name, line: "object" };
            listing::answer(listing.format, &lines, &elements)
        }
    };
    let headers = answer.headers_mut();
    let kept = metadata::of_container(&bucket);
    respond::set_times(headers, bucket.created_ms, kept.modified_ms.max(bucket.created_ms));
    response::set(headers, "x-container-object-count", &usage.objects.to_string());
    response::set(
        headers,
        "x-container-bytes-used",
        &(usage.bytes + usage.version_bytes).to_string(),
    );
    response::set(headers, "x-storage-policy", policy_of(&bucket));
    response::set(headers, "accept-ranges", "bytes");
    metadata::set_kept(headers, "container", &kept, permit.owns());
    legacy::set_shown(headers, &kept);
    versions::set_container(headers, &bucket);
    Ok(for_method(call, answer))
}

/// The items of a listing in its order. Backwards, all names between the markers are read and the last are
/// kept: as many as are wanted, never more.
async fn items(call: &Call, bucket: &Rc<Bucket>, listing: &Listing) -> SwiftResult<Vec<Item>> {
    let mut items: VecDeque<Item> = VecDeque::new();
    let mut from = Some(listing.from());
    while let (Some(next), true) = (from.take(), listing.limit > 0) {
        let wanted = match listing.reverse || listing.in_path {
            true => PAGE_MAX,
            false => (listing.limit - items.len()).min(PAGE_MAX),
        };
        let list = List {
            prefix: listing.prefix.clone().into(),
            delimiter: listing.delimiter.clone().into(),
            from: next,
            max: u32::try_from(wanted).unwrap_or(u32::MAX),
        };
        let page = call.service.catalogue.list(bucket, list).await?;
        from = page.next;
        for item in page.items {
            if listing.is_beyond(item.name()) {
                from = None;
                break;
            }
            let Some(item) = shown(call, bucket, listing, item).await? else { continue };
            items.push_back(item);
            if items.len() > listing.limit && listing.reverse {
                items.pop_front();
            }
            if items.len() == listing.limit && !listing.reverse {
                from = None;
                break;
            }
        }
    }
    Ok(match listing.reverse {
        true => items.into_iter().rev().collect(),
        false => items.into(),
    })
}

/// The item that stands in the listing. In a path there are no common prefixes, but an object whose name
/// ends with the delimiter is one like others; the path itself is not in itself.
async fn shown(
    call: &Call,
    bucket: &Rc<Bucket>,
    listing: &Listing,
    item: Item,
) -> SwiftResult<Option<Item>> {
    if !listing.in_path {
        return Ok(Some(item));
    }
    match item {
        Item::Key { key, .. } if key == listing.prefix.as_bytes() => Ok(None),
        Item::Key { .. } => Ok(Some(item)),
        Item::Prefix { prefix } => {
            let read = Read { key: prefix.clone(), body: false, version: None };
            let found = call.service.catalogue.read(bucket, read).await?;
            let found = found.filter(|found| !found.entry.delete_marker);
            Ok(found.map(|found| Item::Key { key: prefix, entry: found.entry }))
        }
    }
}

async fn lines(
    call: &Call,
    bucket: &Rc<Bucket>,
    listing: &Listing,
    items: Vec<Item>,
) -> SwiftResult<Vec<Line>> {
    let lines = stream::iter(items).map(|item| async move {
        match item {
            Item::Prefix { prefix } => Ok(Line::Subdir(text(&prefix))),
            Item::Key { key, .. } if listing.format == Format::Plain => {
                Ok(Line::Named(text(&key), Vec::new()))
            }
            Item::Key { key, entry } => object_line(call, bucket, key, &entry).await,
        }
    });
    lines.buffered(ASKED_AT_ONCE).try_collect().await
}

/// Keys are UTF-8: the gateway takes no others.
pub(super) fn text(name: &Bytes) -> String {
    String::from_utf8_lossy(name).into_owned()
}

/// An object's line.
async fn object_line(
    call: &Call,
    bucket: &Rc<Bucket>,
    key: Bytes,
    entry: &Entry,
) -> SwiftResult<Line> {
    let mut kind = entry.content_type.clone();
    if kind.is_empty() {
        // Written before the index had it, or without one.
        let read = Read { key: key.clone(), body: false, version: None };
        let found = call.service.catalogue.read(bucket, read).await?;
        let known = found.and_then(|found| found.detail.headers.get("content-type").cloned());
        kind = known.unwrap_or_else(|| CONTENT_TYPE_DEFAULT.to_owned());
    }
    let mut values = described(entry, kind);
    symlink::list(&mut values, entry);
    Ok(Line::Named(text(&key), values))
}

/// What listings say of an object.
pub(super) fn described(entry: &Entry, kind: String) -> Vec<(&'static str, serde_json::Value)> {
    let hash = entry.listed.get(large::MANIFEST_HASH).cloned();
    let mut values = vec![
        ("hash", hash.unwrap_or_else(|| entry.etag.to_string()).into()),
        ("bytes", entry.size.into()),
        ("content_type", kind.into()),
        ("last_modified", respond::listed(entry.modified_ms).into()),
    ];
    if entry.listed.contains_key(large::MANIFEST_HASH) {
        values.push(("slo_etag", format!("\"{}\"", large::tag_of(entry)).into()));
    }
    values
}
