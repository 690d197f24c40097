//! `GetObjectAttributes`.

use super::super::access::{Admitted, ObjectPermit};
use super::super::checksum::Algorithm;
use super::super::conditions::ReadCondition;
use super::super::encryption;
use super::super::error::{S3Error, S3Result};
use super::super::response;
use super::super::xml::Xml;
use super::super::{Answer, Call};
use super::versioning;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use store_base::bucket::{Body, Found};

const KNOWN: [&str; 5] = ["ETag", "Checksum", "ObjectParts", "StorageClass", "ObjectSize"];

/// `GetObjectAttributes`
struct Attributes {
    wanted: Vec<&'static str>,
    max_parts: usize,
    after_part: usize,
}

impl Attributes {
    fn parse(call: &Call) -> S3Result<Attributes> {
        const HEADER: &str = "x-amz-object-attributes";
        let mut wanted = Vec::new();
        for value in call.head.headers.get_all(HEADER) {
            for name in value.to_str().unwrap_or_default().split(',') {
                let known = KNOWN.into_iter().find(|known| *known == name.trim());
                wanted.push(known.ok_or_else(|| {
                    S3Error::argument(HEADER, name, "Invalid attribute name specified.")
                })?);
            }
        }
        if wanted.is_empty() {
            return Err(S3Error::argument(
                HEADER,
                "",
                "The x-amz-object-attributes header specifying the attributes to be retrieved is either missing or empty",
            ));
        }
        let max_parts = call.head.number("x-amz-max-parts")?.unwrap_or(1000).min(1000) as usize;
        let after_part = call.head.number("x-amz-part-number-marker")?.unwrap_or(0);
        Ok(Attributes {
            wanted,
            max_parts,
            after_part: usize::try_from(after_part).unwrap_or(usize::MAX),
        })
    }

    fn wants(&self, name: &str) -> bool {
        self.wanted.contains(&name)
    }
}

pub(super) async fn get(permit: ObjectPermit, call: &mut Call) -> S3Result<Answer> {
    let Admitted { bucket, found, .. } = permit.read(call, false).await?;
    let attributes = Attributes::parse(call)?;
    encryption::of_description(call, &bucket, &found.detail).await?;
    ReadCondition::from_headers(&call.head.headers)?.check(&found.entry)?;
    let mut xml = Xml::root("GetObjectAttributesResponse");
    if attributes.wants("ETag") {
        xml.value("ETag", found.entry.etag);
    }
    if let (true, Some(checksum)) = (attributes.wants("Checksum"), &found.detail.checksum) {
        xml.open("Checksum");
        response::checksum_elements(&mut xml, Some(checksum));
        xml.close("Checksum");
    }
    if attributes.wants("ObjectParts") && found.entry.etag.parts > 0 {
        parts_element(&mut xml, &attributes, &found);
    }
    if attributes.wants("StorageClass") {
        xml.text("StorageClass", "STANDARD");
    }
    if attributes.wants("ObjectSize") {
        xml.value("ObjectSize", found.entry.size);
    }
    xml.close("GetObjectAttributesResponse");
    let mut answer = response::xml(xml);
    let modified = super::super::dates::http(found.entry.modified_ms);
    response::set(answer.headers_mut(), "last-modified", &modified);
    versioning::set_shown(&mut answer, &bucket, &found);
    Ok(answer)
}

fn parts_element(xml: &mut Xml, attributes: &Attributes, found: &Found) {
    let Body::Striped { manifest } = &found.detail.body else { return };
    let algorithm =
        found.detail.checksum.as_ref().and_then(|c| Algorithm::from_number(c.algorithm));
    let shown = manifest
        .parts
        .iter()
        .enumerate()
        .filter(|(_, part)| usize::from(part.number) > attributes.after_part)
        .take(attributes.max_parts);
    let shown: Vec<_> = shown.collect();
    let last = shown.last().map(|(_, part)| part.number);
    let more = last.is_some_and(|last| manifest.parts.last().is_some_and(|p| p.number > last));
    xml.open("ObjectParts");
    xml.value("PartsCount", manifest.parts.len());
    xml.value("PartNumberMarker", attributes.after_part);
    if let Some(last) = last {
        xml.value("NextPartNumberMarker", last);
    }
    xml.value("MaxParts", attributes.max_parts);
    xml.value("IsTruncated", more);
    for (index, part) in shown {
        xml.open("Part");
        xml.value("PartNumber", part.number);
        xml.value("Size", found.detail.plain_bytes(part.size));
        if let (Some(algorithm), Some(value)) = (algorithm, manifest.part_checksum(index)) {
            xml.text(algorithm.element(), &STANDARD.encode(value));
        }
        xml.close("Part");
    }
    xml.close("ObjectParts");
}
