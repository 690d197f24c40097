//! Parts of multipart uploads: upload, copy, list.

use super::super::access::Permit;
use super::super::auth::payload::{Inspector, PayloadMode};
use super::super::checksum::{self, Algorithm, Announced};
use super::super::dates;
use super::super::encryption;
use super::super::error::{Code, S3Error, S3Result};
use super::super::range::Range;
use super::super::response;
use super::super::xml::Xml;
use super::super::{Answer, Call, drain};
use super::copy::CopySource;
use super::features;
use super::multipart::{party_elements, upload_id};
use super::write::check_size;
use crate::catalogue::Bucket;
use crate::crypt::keys::DataKey;
use crate::transfer::body::BodyReader;
use crate::transfer::upload::{self, Destination, Written};
use bytes::Bytes;
use http::StatusCode;
use std::rc::Rc;
use store_base::bucket::{AddPart, Encryption, PARTS_MAX, Part, Parts, Upload, WriteId};
use store_shell::clock;

/// Where a part goes.
struct Place {
    key: Bytes,
    id: WriteId,
    number: u16,
}

impl Place {
    fn parse(call: &Call) -> S3Result<Place> {
        let text = call.head.query.value("partNumber").unwrap_or_default();
        let number = text.parse::<u32>().ok().filter(|n| (1..=PARTS_MAX).contains(n));
        let number = number.ok_or_else(|| {
            call.bad_argument(
                "partNumber",
                "Part number must be an integer between 1 and 10000, inclusive",
            )
        })?;
        Ok(Place {
            key: Bytes::copy_from_slice(call.head.key()?.as_bytes()),
            id: upload_id(call)?,
            number: number as u16,
        })
    }
}

/// The upload of a part: it must be there, and says which checksum its parts have.
async fn upload_of(call: &Call, bucket: &Rc<Bucket>, place: &Place) -> S3Result<Upload> {
    let ask = Parts { key: place.key.clone(), id: place.id, after: u16::MAX, max: 1 };
    Ok(call.service.catalogue.parts(bucket, ask).await?.upload)
}

/// `UploadPart`
pub(super) async fn upload(permit: Permit, call: &mut Call) -> S3Result<Answer> {
    features::check_part(call)?;
    let place = Place::parse(call)?;
    let announced = Announced::from_headers(&call.head.headers)?;
    let bucket = permit.bucket().clone();
    let upload = upload_of(call, &bucket, &place).await?;
    let default = part_algorithm(&upload, announced.algorithm())?;
    let key = encryption::of_upload(call, &bucket, &upload).await?;
    check_size(call.head.body_length(call.payload.is_chunked())?)?;
    let mut reader = call.reader()?;
    let inspector = Inspector::new(&call.payload, announced, Some(default));
    let sealing = Sealing { key, encryption: upload.encryption };
    let part = store(call, bucket, place, &sealing, &mut reader, inspector).await;
    if part.is_err() {
        drain(&mut reader).await;
    }
    let part = part?;
    let mut answer = response::empty(StatusCode::OK);
    let headers = answer.headers_mut();
    response::set(headers, "etag", &format!("\"{}\"", hex::encode(part.md5)));
    if let Some(checksum) = &part.checksum
        && let Some(algorithm) = Algorithm::from_number(checksum.algorithm)
    {
        response::set(headers, algorithm.header(), &checksum::text(checksum));
    }
    encryption::set_headers(headers, call, sealing.encryption.as_ref());
    Ok(answer)
}

/// The checksum to compute for a part: the one of the upload. Another one is refused.
fn part_algorithm(upload: &Upload, given: Option<Algorithm>) -> S3Result<Algorithm> {
    match (Algorithm::from_number(upload.checksum_algorithm), given) {
        (Some(wanted), Some(given)) if wanted != given => Err(Code::InvalidRequest.with(format!(
            "Checksum Type mismatch occurred, expected checksum Type: {}, actual checksum Type: {}",
            wanted.name().to_ascii_lowercase(),
            given.name().to_ascii_lowercase()
        ))),
        (Some(wanted), _) => Ok(wanted),
        (None, given) => Ok(given.unwrap_or(Algorithm::Crc64Nvme)),
    }
}

/// How the parts of an upload are encrypted.
struct Sealing {
    key: Option<(DataKey, WriteId)>,
    encryption: Option<Encryption>,
}

async fn store(
    call: &Call,
    bucket: Rc<Bucket>,
    place: Place,
    sealing: &Sealing,
    reader: &mut BodyReader,
    inspector: Inspector,
) -> S3Result<Part> {
    let service = &call.service;
    let destination = Destination {
        catalogue: service.catalogue.clone(),
        bucket: bucket.clone(),
        key: place.key.clone(),
        part: Some((place.id, place.number)),
        sealing: sealing.key.clone(),
    };
    let (written, digests) =
        upload::write(destination, reader, inspector, 0, &service.budget).await?;
    service.metrics.received(digests.size);
    let Written::Data(announcement) = written else { return Err(Code::InternalError.into()) };
    let key = sealing.key.as_ref().map(|(key, _)| key);
    let part = Part {
        data: announcement.data(),
        md5: encryption::tag(digests.md5, key, sealing.encryption.as_ref()),
        modified_ms: clock::timestamp().millis(),
        checksum: digests.checksum,
    };
    let add =
        AddPart { key: place.key, id: place.id, now_ms: part.modified_ms, part: part.clone() };
    service.catalogue.add_part(&bucket, add).await?;
    announcement.committed();
    Ok(part)
}

/// The range of the source of a copy: exactly `bytes=FIRST-LAST`, within the object.
fn source_range(value: Option<&str>, size: u64) -> S3Result<(u64, u64)> {
    let Some(value) = value else { return Ok((0, size)) };
    let invalid = |message: String| S3Error::argument("x-amz-copy-source-range", value, message);
    match Range::parse(value) {
        Some(Range::From { first, last }) if last != u64::MAX => match last < size {
            true => Ok((first, last - first + 1)),
            false => Err(Code::InvalidRange
                .with(format!("Range specified is not valid for source object of size: {size}"))),
        },
        _ => Err(invalid(
            "The x-amz-copy-source-range value must be of the form bytes=first-last where first and last are the zero-based offsets of the first and last bytes to copy".into(),
        )),
    }
}

/// `UploadPartCopy`
pub(super) async fn copy(permit: Permit, call: &mut Call) -> S3Result<Answer> {
    features::check_part(call)?;
    let place = Place::parse(call)?;
    let bucket = permit.bucket().clone();
    let upload = upload_of(call, &bucket, &place).await?;
    let key = encryption::of_upload(call, &bucket, &upload).await?;
    let (source, _) = CopySource::find(call).await?;
    let range = call.head.header("x-amz-copy-source-range")?;
    let (first, length) = source_range(range, source.found.entry.size)?;
    check_size(length)?;
    let algorithm = part_algorithm(&upload, None)?;
    let inspector = Inspector::new(&PayloadMode::Unsigned, Announced::default(), Some(algorithm));
    let mut reader = source.reader(call, first, length).await?;
    let sealing = Sealing { key, encryption: upload.encryption };
    let part = store(call, bucket, place, &sealing, &mut reader, inspector).await?;
    let mut xml = Xml::root("CopyPartResult");
    xml.text("LastModified", &dates::iso(part.modified_ms));
    xml.text("ETag", &format!("\"{}\"", hex::encode(part.md5)));
    if let Some(checksum) = &part.checksum
        && let Some(algorithm) = Algorithm::from_number(checksum.algorithm)
    {
        xml.text(algorithm.element(), &checksum::text(checksum));
    }
    xml.close("CopyPartResult");
    let mut answer = response::xml(xml);
    encryption::set_headers(answer.headers_mut(), call, sealing.encryption.as_ref());
    source.set_version(&mut answer);
    Ok(answer)
}

/// `ListParts`
pub(super) async fn list(permit: Permit, call: &mut Call) -> S3Result<Answer> {
    let key = Bytes::copy_from_slice(call.head.key()?.as_bytes());
    let id = upload_id(call)?;
    let number = |name: &str, default: u32| match call.head.query.value(name) {
        None | Some("") => Ok(default),
        Some(text) => text.parse::<u32>().map_err(|_| {
            call.bad_argument(name, "Argument must be an integer between 0 and 2147483647")
        }),
    };
    let after = number("part-number-marker", 0)?;
    let max = number("max-parts", 1000)?.min(1000);
    let bucket = permit.bucket().clone();
    let ask = Parts { key, id, after: u16::try_from(after).unwrap_or(u16::MAX), max };
    let page = call.service.catalogue.parts(&bucket, ask).await?;
    let mut xml = Xml::root("ListPartsResult");
    xml.text("Bucket", &bucket.name);
    xml.text("Key", call.head.key()?);
    xml.value("UploadId", id);
    party_elements(&mut xml, call, &page.upload);
    xml.text("StorageClass", "STANDARD");
    xml.value("PartNumberMarker", after);
    let last = page.parts.last().map_or(after, |part| u32::from(part.data.part));
    xml.value("NextPartNumberMarker", last);
    xml.value("MaxParts", max);
    xml.value("IsTruncated", page.more);
    if let Some(algorithm) = Algorithm::from_number(page.upload.checksum_algorithm) {
        xml.text("ChecksumAlgorithm", algorithm.name());
        let composite = page.upload.checksum_composite;
        xml.text("ChecksumType", if composite { "COMPOSITE" } else { "FULL_OBJECT" });
    }
    page.parts.iter().for_each(|part| part_element(&mut xml, &page.upload, part));
    xml.close("ListPartsResult");
    Ok(response::xml(xml))
}

fn part_element(xml: &mut Xml, upload: &Upload, part: &Part) {
    xml.open("Part");
    xml.value("PartNumber", part.data.part);
    xml.text("LastModified", &dates::iso(part.modified_ms));
    xml.text("ETag", &format!("\"{}\"", hex::encode(part.md5)));
    xml.value("Size", upload.plain_bytes(part.data.size));
    if let Some(checksum) = &part.checksum
        && let Some(algorithm) = Algorithm::from_number(checksum.algorithm)
    {
        xml.text(algorithm.element(), &checksum::text(checksum));
    }
    xml.close("Part");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_of_sources_are_strict() {
        assert_eq!(source_range(None, 10).unwrap(), (0, 10));
        assert_eq!(source_range(Some("bytes=2-9"), 10).unwrap(), (2, 8));
        assert_eq!(source_range(Some("bytes=2-10"), 10).unwrap_err().code, Code::InvalidRange);
        for bad in
            ["bytes=2-", "bytes=-3", "0-2", "bytes=0", "bytes=a-b", "bytes=0-2,3", "hello=0-2"]
        {
            let error = source_range(Some(bad), 10).unwrap_err();
            assert_eq!(error.code, Code::InvalidArgument, "{bad}");
        }
    }
}
