//! `ListObjectVersions`.

use super::super::access::Permit;
use super::super::dates;
use super::super::error::S3Result;
use super::super::response;
use super::super::xml::Xml;
use super::super::{Answer, Call};
use super::list::{Common, entry_elements, owner_element, text};
use super::versioning;
use crate::catalogue::Bucket;
use bytes::Bytes;
use store_base::bucket::{Entry, ListVersions, VersionItem, VersionPlace};

/// Where a listing begins: behind the markers.
fn place(call: &Call, bucket: &Bucket, common: &Common) -> S3Result<VersionPlace> {
    let query = &call.head.query;
    let marker = query.value("key-marker").unwrap_or_default();
    let id = query.value("version-id-marker").filter(|id| !id.is_empty());
    let Some(id) = id else {
        return Ok(VersionPlace { key: common.from(marker), after: None });
    };
    if marker.is_empty() {
        return Err(call.bad_argument(
            "version-id-marker",
            "A version-id marker cannot be specified without a key marker.",
        ));
    }
    let version = versioning::named(id, bucket)
        .map_err(|_| call.bad_argument("version-id-marker", "Invalid version id specified"))?;
    Ok(VersionPlace { key: Bytes::copy_from_slice(marker.as_bytes()), after: Some(version) })
}

pub(super) async fn list(permit: Permit, call: &mut Call) -> S3Result<Answer> {
    let common = Common::parse(call, "max-keys")?;
    let bucket = permit.bucket().clone();
    let list = ListVersions {
        prefix: common.prefix.clone().into(),
        delimiter: common.delimiter.clone().into(),
        from: place(call, &bucket, &common)?,
        max: common.max,
    };
    let page = call.service.catalogue.versions(&bucket, list).await?;
    let query = &call.head.query;
    let mut xml = Xml::root("ListVersionsResult");
    xml.text("Name", call.head.bucket()?);
    xml.text("KeyMarker", &common.shown(query.value("key-marker").unwrap_or_default()));
    xml.text("VersionIdMarker", query.value("version-id-marker").unwrap_or_default());
    common.elements(&mut xml, "MaxKeys");
    xml.value("IsTruncated", page.next.is_some());
    if let (true, Some(last)) = (page.next.is_some(), page.items.last()) {
        xml.text("NextKeyMarker", &common.shown(&text(last.name())));
        if let VersionItem::Version { entry, .. } = last {
            xml.text("NextVersionIdMarker", &entry.version().text(bucket.id));
        }
    }
    for item in &page.items {
        if let VersionItem::Version { key, entry, latest } = item {
            let name = text(key);
            version_element(&mut xml, call, &bucket, &common.shown(&name), entry, *latest);
        }
    }
    for item in &page.items {
        if let VersionItem::Prefix { prefix } = item {
            xml.open("CommonPrefixes");
            xml.text("Prefix", &common.shown(&text(prefix)));
            xml.close("CommonPrefixes");
        }
    }
    xml.close("ListVersionsResult");
    Ok(response::xml(xml))
}

fn version_element(
    xml: &mut Xml,
    call: &Call,
    bucket: &Bucket,
    key: &str,
    entry: &Entry,
    latest: bool,
) {
    let kind = if entry.delete_marker { "DeleteMarker" } else { "Version" };
    xml.open(kind);
    xml.text("Key", key);
    xml.text("VersionId", &entry.version().text(bucket.id));
    xml.value("IsLatest", latest);
    match entry.delete_marker {
        true => xml.text("LastModified", &dates::iso(entry.modified_ms)),
        false => entry_elements(xml, entry),
    }
    owner_element(xml, call, &entry.owner);
    if !entry.delete_marker {
        xml.text("StorageClass", "STANDARD");
    }
    xml.close(kind);
}
