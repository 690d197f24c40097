//! Multipart uploads: create, list, complete, abort. Their parts are in `parts`.

use super::super::access::{Permit, Sharing};
use super::super::acl;
use super::super::checksum::{self, Algorithm};
use super::super::conditions;
use super::super::dates;
use super::super::encryption::{self, Wanted};
use super::super::error::{Code, S3Error, S3Result};
use super::super::logging::journal::{Plan, recorded};
use super::super::notification::{Happens, notes};
use super::super::response;
use super::super::xml::{Element, Xml};
use super::super::{Answer, Call};
use super::list::{Common, text};
use super::write::Described;
use super::{features, versioning};
use crate::catalogue::{Bucket, CatalogueError};
use bytes::Bytes;
use http::StatusCode;
use md5::{Digest, Md5};
use std::collections::BTreeMap;
use std::rc::Rc;
use store_base::bucket::{
    Abort, Begin, Body, Checksum, Complete, Condition, Detail, ETag, Encryption, Entry, Manifest,
    ManifestPart, PARTS_MAX, Part, Parts, Read, Refusal, STRIPE_BYTES, Upload, UploadItem, Uploads,
    WriteId,
};
use store_base::codec::Encode;
use store_shell::clock;

/// Smallest part that is not the last.
const PART_BYTES_MIN: u64 = 5 << 20;

/// Largest object.
const OBJECT_BYTES_MAX: u64 = 5 << 40;

/// Most bytes of the list of parts: 10,000 with every checksum there is.
const LIST_BYTES_MAX: usize = 8 << 20;

/// The upload that a request names.
pub(super) fn upload_id(call: &Call) -> S3Result<WriteId> {
    let text = call.head.query.value("uploadId").unwrap_or_default();
    // Ids that we never gave are uploads that are not there.
    text.parse().map_err(|()| {
        Code::NoSuchUpload.with(Code::NoSuchUpload.message()).detail("UploadId", text)
    })
}

/// The checksum that an upload announces.
struct Announced {
    algorithm: Option<Algorithm>,
    composite: bool,
}

impl Announced {
    fn parse(call: &Call) -> S3Result<Announced> {
        let algorithm = match call.head.header("x-amz-checksum-algorithm")? {
            None => None,
            Some(name) => Some(Algorithm::from_name(name).ok_or_else(|| {
                Code::InvalidRequest.with("Checksum algorithm provided is unsupported. Please try again with any of the valid types: [CRC32, CRC32C, CRC64NVME, SHA1, SHA256]")
            })?),
        };
        let kind = call.head.header("x-amz-checksum-type")?;
        let refused = |algorithm: Algorithm, kind: &str| {
            Code::InvalidRequest.with(format!(
                "The {kind} checksum type cannot be used with the {} checksum algorithm.",
                algorithm.name().to_ascii_lowercase()
            ))
        };
        let composite = match (algorithm, kind) {
            (None, None) => false,
            (None, Some(_)) => {
                return Err(Code::InvalidRequest.with("The x-amz-checksum-type header can only be used with the x-amz-checksum-algorithm header."));
            }
            (Some(Algorithm::Crc64Nvme), Some("COMPOSITE")) => {
                return Err(refused(Algorithm::Crc64Nvme, "COMPOSITE"));
            }
            (Some(Algorithm::Crc64Nvme), _) => false,
            (Some(a), Some("FULL_OBJECT")) if !a.combines() => {
                return Err(refused(a, "FULL_OBJECT"));
            }
            (Some(_), Some("FULL_OBJECT")) => false,
            (Some(_), None | Some("COMPOSITE")) => true,
            (Some(_), Some(_)) => {
                return Err(
                    Code::InvalidRequest.with("Value for x-amz-checksum-type header is invalid.")
                );
            }
        };
        Ok(Announced { algorithm, composite })
    }
}

pub(super) async fn create(permit: Permit, call: &mut Call) -> S3Result<Answer> {
    features::check(call)?;
    let sharing = Sharing::of_write(call, &permit)?;
    let key = Bytes::copy_from_slice(call.head.key()?.as_bytes());
    let announced = Announced::parse(call)?;
    let described = Described::from_call(call)?;
    let bucket = permit.bucket();
    let id = WriteId(clock::random());
    let wanted = Wanted::of_write(call, bucket)?;
    let encryption =
        wanted.begin(&call.service, bucket.id).await?.map(|(_, encryption)| encryption);
    let upload = Upload {
        owner: call.caller.id_or(&bucket.owner).to_owned(),
        created_ms: call.now_ms(),
        headers: described.headers,
        metadata: described.metadata,
        checksum_algorithm: announced.algorithm.map_or(0, |algorithm| algorithm as u8),
        checksum_composite: announced.composite,
        tags: described.tags,
        lock: described.lock,
        object_owner: sharing.owner,
        acl: sharing.acl,
        encryption: encryption.clone(),
    };
    let begin = Begin { key, id, upload, ..Begin::default() };
    call.service.catalogue.begin(bucket, begin).await?;
    let mut xml = Xml::root("InitiateMultipartUploadResult");
    xml.text("Bucket", &bucket.name);
    xml.text("Key", call.head.key()?);
    xml.value("UploadId", id);
    xml.close("InitiateMultipartUploadResult");
    let mut answer = response::xml(xml);
    encryption::set_made_headers(answer.headers_mut(), call, encryption.as_ref());
    if let Some(algorithm) = announced.algorithm {
        let headers = answer.headers_mut();
        response::set(headers, "x-amz-checksum-algorithm", algorithm.name());
        let kind = if announced.composite { "COMPOSITE" } else { "FULL_OBJECT" };
        response::set(headers, "x-amz-checksum-type", kind);
    }
    Ok(answer)
}

pub(super) async fn abort(permit: Permit, call: &mut Call) -> S3Result<Answer> {
    let key = Bytes::copy_from_slice(call.head.key()?.as_bytes());
    let abort = Abort { key, id: upload_id(call)?, now_ms: call.now_ms() };
    call.service.catalogue.abort(permit.bucket(), abort).await?;
    Ok(response::empty(StatusCode::NO_CONTENT))
}

pub(super) async fn list(permit: Permit, call: &mut Call) -> S3Result<Answer> {
    let common = Common::parse(call, "max-uploads")?;
    let query = &call.head.query;
    let key_marker = query.value("key-marker").unwrap_or_default();
    let id_marker = query.value("upload-id-marker").unwrap_or_default();
    let bucket = permit.bucket();
    // Without a key the other marker is ignored, as in S3.
    let after_id = id_marker.parse::<WriteId>().ok().filter(|_| !key_marker.is_empty());
    let from = match after_id {
        Some(_) => Bytes::copy_from_slice(key_marker.as_bytes()),
        None => common.from(key_marker),
    };
    let uploads = Uploads {
        prefix: common.prefix.clone().into(),
        delimiter: common.delimiter.clone().into(),
        from,
        after_id,
        max: common.max,
    };
    let page = match common.max {
        0 => Default::default(),
        _ => call.service.catalogue.uploads(bucket, uploads).await?,
    };
    let mut xml = Xml::root("ListMultipartUploadsResult");
    xml.text("Bucket", &bucket.name);
    xml.text("KeyMarker", &common.shown(key_marker));
    xml.text("UploadIdMarker", id_marker);
    if let (true, Some(last)) = (page.more, page.items.last()) {
        let (name, id) = match last {
            UploadItem::Upload { key, id, .. } => (text(key), id.to_string()),
            UploadItem::Prefix { prefix } => (text(prefix), String::new()),
        };
        xml.text("NextKeyMarker", &common.shown(&name));
        xml.text("NextUploadIdMarker", &id);
    }
    common.elements(&mut xml, "MaxUploads");
    xml.value("IsTruncated", page.more);
    page.items.iter().for_each(|item| upload_element(&mut xml, call, &common, item));
    xml.close("ListMultipartUploadsResult");
    Ok(response::xml(xml))
}

fn upload_element(xml: &mut Xml, call: &Call, common: &Common, item: &UploadItem) {
    match item {
        UploadItem::Prefix { prefix } => {
            xml.open("CommonPrefixes");
            xml.text("Prefix", &common.shown(&text(prefix)));
            xml.close("CommonPrefixes");
        }
        UploadItem::Upload { key, id, upload } => {
            xml.open("Upload");
            xml.text("Key", &common.shown(&text(key)));
            xml.value("UploadId", id);
            party_elements(xml, call, upload);
            xml.text("StorageClass", "STANDARD");
            xml.text("Initiated", &dates::iso(upload.created_ms));
            if let Some(algorithm) = Algorithm::from_number(upload.checksum_algorithm) {
                xml.text("ChecksumAlgorithm", algorithm.name());
                let kind = if upload.checksum_composite { "COMPOSITE" } else { "FULL_OBJECT" };
                xml.text("ChecksumType", kind);
            }
            xml.close("Upload");
        }
    }
}

/// Who began an upload, and whose its object will be.
pub(super) fn party_elements(xml: &mut Xml, call: &Call, upload: &Upload) {
    for (role, id) in [("Initiator", &upload.owner), ("Owner", object_owner(upload))] {
        xml.open(role);
        acl::user_elements(xml, id, &*call.service.keys);
        xml.close(role);
    }
}

fn object_owner(upload: &Upload) -> &String {
    match upload.object_owner.is_empty() {
        true => &upload.owner,
        false => &upload.object_owner,
    }
}

/// A part as `CompleteMultipartUpload` names it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Chosen {
    number: u16,
    /// `None` for a tag that no part here can have.
    md5: Option<[u8; 16]>,
    checksum: Option<(Algorithm, Bytes)>,
}

/// `CompleteMultipartUpload`
struct CompleteUpload {
    key: Bytes,
    id: WriteId,
    condition: Condition,
    chosen: Vec<Chosen>,
    /// The checksum of the whole object, if the client gives it.
    checksum: Option<(Algorithm, Bytes)>,
    size: Option<u64>,
}

impl CompleteUpload {
    async fn parse(call: &mut Call) -> S3Result<CompleteUpload> {
        let key = Bytes::copy_from_slice(call.head.key()?.as_bytes());
        let id = upload_id(call)?;
        let condition = conditions::write_condition(&call.head.headers)?;
        // The checksum headers are about the object here, not about this document.
        let mut checksum = None;
        for algorithm in Algorithm::ALL {
            if let Some(value) = call.head.header(algorithm.header())?.map(str::to_owned) {
                call.head.headers.remove(algorithm.header());
                // A checksum of checksums is computed, and said, by us alone.
                if !value.contains('-') {
                    checksum = Some((algorithm, algorithm.decode(&value)?));
                }
            }
        }
        let size = call.head.number("x-amz-mp-object-size")?;
        let document = call.document(LIST_BYTES_MAX).await?;
        let chosen = parse_parts(&document)?;
        Ok(CompleteUpload { key, id, condition, chosen, checksum, size })
    }
}

pub(super) fn parse_parts(document: &[u8]) -> S3Result<Vec<Chosen>> {
    let root = Element::parse(document, "CompleteMultipartUpload")?;
    let mut chosen: Vec<Chosen> = Vec::new();
    for part in root.all("Part") {
        let number = part.required_text("PartNumber")?.trim().parse::<u32>();
        let number = number.ok().filter(|n| (1..=PARTS_MAX).contains(n)).ok_or_else(|| {
            S3Error::argument("partNumber", "", "PartNumber must be an integer between 1 and 10000")
        })?;
        let tag = part.required_text("ETag")?.trim().trim_matches('"');
        let md5 = tag.parse::<ETag>().ok().filter(|tag| tag.parts == 0).map(|tag| tag.md5);
        let mut checksum = None;
        for algorithm in Algorithm::ALL {
            if let Some(value) = part.child_text(algorithm.element())? {
                checksum = Some((algorithm, algorithm.decode(value)?));
            }
        }
        let part = Chosen { number: number as u16, md5, checksum };
        // Of a part that was written twice, the last one counts.
        match chosen.last_mut().filter(|last| last.number == part.number) {
            Some(last) => *last = part,
            None => chosen.push(part),
        }
    }
    if chosen.is_empty() || chosen.len() > PARTS_MAX as usize {
        return Err(Code::MalformedXML.into());
    }
    match chosen.windows(2).all(|pair| pair[0].number < pair[1].number) {
        true => Ok(chosen),
        false => Err(Code::InvalidPartOrder.into()),
    }
}

pub(super) async fn complete(permit: Permit, call: &mut Call) -> S3Result<Answer> {
    let complete = CompleteUpload::parse(call).await?;
    let bucket = permit.bucket();
    let Committed { entry, checksum, encryption } = match commit(call, bucket, &complete).await {
        Err(error) if error.code == Code::NoSuchUpload => {
            already_done(call, bucket, &complete, error).await?
        }
        done => done?,
    };
    let mut xml = Xml::root("CompleteMultipartUploadResult");
    let host = call.head.header("host")?.unwrap_or_default();
    let key = call.head.key()?;
    let path = super::super::uri::listing_encoded(&format!("{}/{key}", bucket.name));
    xml.text("Location", &format!("http://{host}/{path}"));
    xml.text("Bucket", &bucket.name);
    xml.text("Key", key);
    xml.text("ETag", &response::quoted(&entry.etag));
    response::checksum_elements(&mut xml, checksum.as_ref());
    xml.close("CompleteMultipartUploadResult");
    let mut answer = response::xml(xml);
    encryption::set_headers(answer.headers_mut(), call, encryption.as_ref());
    versioning::set_made(&mut answer, bucket, &entry);
    Ok(answer)
}

/// What became of an upload.
struct Committed {
    entry: Entry,
    checksum: Option<Checksum>,
    encryption: Option<Encryption>,
}

/// A client that lost our answer asks again: the upload is gone then, and its object there. Whether its data was
/// locked before the answer was lost, nobody knows.
async fn already_done(
    call: &Call,
    bucket: &Rc<Bucket>,
    complete: &CompleteUpload,
    error: S3Error,
) -> S3Result<Committed> {
    let read = Read { key: complete.key.clone(), body: false, version: None };
    match call.service.catalogue.read(bucket, read).await {
        Ok(Some(found))
            if found.entry.upload == Some(complete.id)
                && found.entry.etag == tag_of(&complete.chosen) =>
        {
            call.service.catalogue.guard(bucket, &complete.key, &found.entry).await?;
            let Detail { checksum, encryption, .. } = found.detail;
            Ok(Committed { entry: found.entry, checksum, encryption })
        }
        _ => Err(error),
    }
}

async fn commit(
    call: &Call,
    bucket: &Rc<Bucket>,
    complete: &CompleteUpload,
) -> S3Result<Committed> {
    let (upload, stored) = all_parts(call, bucket, complete).await?;
    // As with Ceph's gateway, who completes has the key.
    encryption::of_upload(call, bucket, &upload).await?;
    let parts = check_parts(&complete.chosen, &stored, &upload)?;
    let size: u64 = parts.iter().map(|part| upload.plain_bytes(part.data.size)).sum();
    if size > OBJECT_BYTES_MAX {
        return Err(Code::EntityTooLarge.into());
    }
    if complete.size.is_some_and(|wanted| wanted != size) {
        return Err(Code::InvalidRequest
            .with("The provided 'x-amz-mp-object-size' header does not match what was computed."));
    }
    let checksum = whole_checksum(&upload, &parts);
    if let (Some((algorithm, given)), Some(computed)) = (&complete.checksum, &checksum)
        && *algorithm as u8 == computed.algorithm
        && computed.parts == 0
        && *given != computed.value
    {
        return Err(Code::BadDigest.into());
    }
    let entry = Entry {
        size,
        etag: tag_of(&complete.chosen),
        modified_ms: clock::timestamp().millis(),
        owner: object_owner(&upload).clone(),
        checksum_algorithm: checksum.as_ref().map_or(0, |checksum| checksum.algorithm),
        striped: true,
        upload: Some(complete.id),
        lock: upload.lock,
        content_type: upload.headers.get("content-type").cloned().unwrap_or_default(),
        ..Entry::default()
    };
    let detail = Detail {
        headers: upload.headers,
        metadata: upload.metadata,
        checksum: checksum.clone(),
        body: Body::Striped { manifest: manifest(complete.id, &parts) },
        tags: upload.tags,
        acl: upload.acl,
        encryption: upload.encryption.clone(),
    };
    let rules = call.service.rules.rules(bucket)?;
    let made = Happens::Created("CompleteMultipartUpload");
    let call_to = Complete {
        notes: notes(call, &rules, &complete.key, made),
        key: complete.key.clone(),
        id: complete.id,
        condition: complete.condition.clone(),
        now_ms: entry.modified_ms,
        entry,
        detail: detail.to_bytes(),
        ..Complete::default()
    };
    let plan = Plan::of(call, bucket, &rules, "REST.POST.UPLOAD");
    let done = recorded(
        plan.map(|plan| plan.making(&complete.key, &call_to.entry)),
        &call.service,
        call.service.catalogue.complete(bucket, call_to),
        |plan, done| plan.made(&complete.key, &done.entry),
    );
    match done.await? {
        // A part was replaced between our look and the commit.
        Err(CatalogueError::Refused(Refusal::PartChanged {})) => Err(Code::InvalidPart.into()),
        done => Ok(Committed { entry: done?.entry, checksum, encryption: upload.encryption }),
    }
}

async fn all_parts(
    call: &Call,
    bucket: &Rc<Bucket>,
    complete: &CompleteUpload,
) -> S3Result<(Upload, BTreeMap<u16, Part>)> {
    let mut stored = BTreeMap::new();
    let mut after = 0;
    loop {
        let ask = Parts { key: complete.key.clone(), id: complete.id, after, max: 1000 };
        let page = call.service.catalogue.parts(bucket, ask).await?;
        for part in page.parts {
            after = part.data.part;
            stored.insert(after, part);
        }
        if !page.more {
            return Ok((page.upload, stored));
        }
    }
}

/// The stored parts that were chosen, in order.
fn check_parts<'a>(
    chosen: &[Chosen],
    stored: &'a BTreeMap<u16, Part>,
    upload: &Upload,
) -> S3Result<Vec<&'a Part>> {
    let mut parts = Vec::with_capacity(chosen.len());
    for wanted in chosen {
        let invalid = || {
            Code::InvalidPart
                .with(Code::InvalidPart.message())
                .detail("PartNumber", wanted.number.to_string())
        };
        let part = stored.get(&wanted.number).ok_or_else(invalid)?;
        if wanted.md5 != Some(part.md5) {
            return Err(invalid());
        }
        if let (Some((algorithm, value)), Some(kept)) = (&wanted.checksum, &part.checksum)
            && kept.algorithm == *algorithm as u8
            && kept.value != *value
        {
            return Err(invalid());
        }
        parts.push(part);
    }
    let all_but_last = parts.len().saturating_sub(1);
    let bytes = |part: &Part| upload.plain_bytes(part.data.size);
    match parts[..all_but_last].iter().find(|part| bytes(part) < PART_BYTES_MIN) {
        None => Ok(parts),
        Some(part) => Err(Code::EntityTooSmall
            .with(Code::EntityTooSmall.message())
            .detail("PartNumber", part.data.part.to_string())
            .detail("ProposedSize", bytes(part).to_string())
            .detail("MinSizeAllowed", PART_BYTES_MIN.to_string())),
    }
}

/// The MD5 of the parts' MD5s, and their number.
fn tag_of(chosen: &[Chosen]) -> ETag {
    let mut md5 = Md5::new();
    chosen.iter().for_each(|part| md5.update(part.md5.unwrap_or_default()));
    ETag { md5: md5.finalize().into(), parts: u32::try_from(chosen.len()).unwrap_or(u32::MAX) }
}

/// The checksum of the object from those of its parts, if they all have the same kind.
fn whole_checksum(upload: &Upload, parts: &[&Part]) -> Option<Checksum> {
    let number = parts.first()?.checksum.as_ref()?.algorithm;
    let algorithm = Algorithm::from_number(number)?;
    let values: Option<Vec<(Bytes, u64)>> = parts
        .iter()
        .map(|part| {
            let checksum =
                part.checksum.as_ref().filter(|checksum| checksum.algorithm == number)?;
            Some((checksum.value.clone(), upload.plain_bytes(part.data.size)))
        })
        .collect();
    let values = values?;
    if upload.checksum_composite {
        return Some(checksum::composite(algorithm, &values));
    }
    let value = checksum::combine(algorithm, &values)?;
    Some(Checksum { algorithm: number, parts: 0, value })
}

fn manifest(id: WriteId, parts: &[&Part]) -> Manifest {
    let of = |part: &&Part| ManifestPart {
        number: part.data.part,
        attempt: part.data.attempt,
        size: part.data.size,
    };
    let widths: Vec<usize> =
        parts.iter().map(|part| part.checksum.as_ref().map_or(0, |c| c.value.len())).collect();
    // The parts' checksums are kept if they are all of one width.
    let width = widths.first().copied().filter(|width| widths.iter().all(|w| w == width));
    let width = width.unwrap_or(0);
    let checksums: Vec<u8> = match width {
        0 => Vec::new(),
        _ => parts.iter().flat_map(|p| p.checksum.iter().flat_map(|c| c.value.to_vec())).collect(),
    };
    Manifest {
        id,
        stripe_bytes: STRIPE_BYTES,
        apart: false,
        parts: parts.iter().map(of).collect(),
        checksum_bytes: u8::try_from(width).unwrap_or(0),
        checksums: checksums.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_of_parts() {
        let part = |n: u32| {
            format!(
                "<Part><PartNumber>{n}</PartNumber><ETag>\"11111111111111111111111111111111\"</ETag></Part>"
            )
        };
        let parse = |body: String| {
            parse_parts(
                format!("<CompleteMultipartUpload>{body}</CompleteMultipartUpload>").as_bytes(),
            )
            .map(|chosen| chosen.len())
            .map_err(|error| error.code)
        };
        assert_eq!(parse(part(1) + &part(7)), Ok(2));
        assert_eq!(parse(part(2) + &part(1)), Err(Code::InvalidPartOrder));
        assert_eq!(parse(part(1) + &part(2) + &part(1)), Err(Code::InvalidPartOrder));
        assert_eq!(parse(part(0)), Err(Code::InvalidArgument));
        assert_eq!(parse(part(10_001)), Err(Code::InvalidArgument));
        assert_eq!(parse(String::new()), Err(Code::MalformedXML));
        assert_eq!(
            parse("<Part><PartNumber>1</PartNumber></Part>".into()),
            Err(Code::MalformedXML)
        );
        let all: String = (1..=10_000).map(part).collect();
        assert_eq!(parse(all), Ok(10_000));
    }

    #[test]
    fn the_tag_is_that_of_s3() {
        // Two parts of 5 MiB of zeros.
        let md5: [u8; 16] =
            hex::decode("5f363e0e58a95f06cbe9bbc662c5dfb6").unwrap().try_into().unwrap();
        let chosen = |number| Chosen { number, md5: Some(md5), checksum: None };
        let expected: [u8; 16] = {
            let mut hasher = Md5::new();
            hasher.update(md5);
            hasher.update(md5);
            hasher.finalize().into()
        };
        let tag = tag_of(&[chosen(1), chosen(2)]);
        assert_eq!(tag, ETag { md5: expected, parts: 2 });
        assert!(tag.to_string().ends_with("-2"));
    }
}
