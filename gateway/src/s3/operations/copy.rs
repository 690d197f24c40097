//! `CopyObject`, and the source that part copies have in common with it.

use super::super::access::{self, ObjectPermit, Permit, Sharing};
use super::super::auth::payload::{Inspector, PayloadMode};
use super::super::checksum::{Algorithm, Announced};
use super::super::conditions::{self, ReadCondition};
use super::super::dates;
use super::super::encryption::{self, Wanted};
use super::super::error::{Code, S3Error, S3Result};
use super::super::names;
use super::super::response;
use super::super::uri;
use super::super::xml::Xml;
use super::super::{Answer, Call};
use super::tagging::Tags;
use super::write::{
    Described, NewObject, PIECE_OBJECT_BYTES_MAX, REDIRECT_LOCATION, set_expiration, store,
};
use super::{features, read, versioning};
use crate::catalogue::{Bucket, Hold};
use crate::crypt::segments::open_inline;
use crate::swift::large::{self, Opened};
use crate::transfer::body::{BodyReader, Source};
use crate::transfer::download::Download;
use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream;
use std::rc::Rc;
use store_base::bucket::{Body, Found};

/// The object that is copied.
pub(crate) struct CopySource {
    pub bucket: Rc<Bucket>,
    pub key: Bytes,
    pub found: Found,
    /// Whether a version was named.
    pub versioned: bool,
    /// What its bytes are, where it has none of its own.
    pub segments: Option<Opened>,
    /// Its data stays until it is copied.
    pub hold: Option<Rc<Hold>>,
}

/// The leave to copy an object.
pub(super) struct Leave {
    permit: ObjectPermit,
    /// The object that the request names.
    named: Found,
}

impl CopySource {
    /// Reads `x-amz-copy-source` and the object it names, and checks the conditions on it.
    pub(super) async fn find(call: &Call) -> S3Result<(CopySource, Leave)> {
        let source = parse_source(call.head.header("x-amz-copy-source")?.unwrap_or_default())?;
        names::check_key(&source.key)?;
        let key = Bytes::from(source.key.clone());
        let permit = access::source(call, source).await?;
        let admitted = permit.read(call, true).await.map_err(|error| {
            match error.code {
                Code::MethodNotAllowed => Code::InvalidRequest.with(
                    "The source of a copy request may not specifically refer to a delete marker by version id.",
                ),
                _ => error,
            }
        })?;
        let access::Admitted { bucket, found, version } = admitted;
        let hold = read::held(call, &found).map(Rc::new);
        let named = found.clone();
        let opened = large::resolve(call, bucket.clone(), found, true).await?;
        let mut found = opened.found.clone();
        let stands_for = opened.is_large() || named.detail.headers.contains_key("x-symlink-target");
        found.detail.headers.retain(|name, _| !large::is_of_structure(name));
        ReadCondition::from_copy_headers(&call.head.headers)?.check_source(&found.entry)?;
        let segments = stands_for.then_some(opened);
        let versioned = version.is_some();
        let source = CopySource { bucket, key, found, versioned, segments, hold };
        Ok((source, Leave { permit, named }))
    }

    /// Its tags, for a copy that has them too: they are read, and set on the copy.
    fn tags(&self, call: &Call, leave: &Leave, copy: &Permit) -> S3Result<Tags> {
        let tags = &self.found.detail.tags;
        if !tags.is_empty() {
            leave.permit.tags(call, &leave.named)?;
            copy.beside_tags(call, tags)?;
        }
        Ok(tags.clone())
    }

    /// Says in the answer which version was copied.
    pub(super) fn set_version(&self, answer: &mut Answer) {
        if let Some(id) = versioning::shown(&self.bucket, &self.found) {
            response::set(answer.headers_mut(), "x-amz-copy-source-version-id", &id);
        }
    }

    /// A stretch of the object's bytes as a body, as they are without encryption. It must lie within the
    /// object. Errors: those of [`encryption::of_source`].
    pub(crate) async fn reader(
        &self,
        call: &Call,
        first: u64,
        length: u64,
    ) -> S3Result<BodyReader> {
        if let Some(opened) = &self.segments {
            return Box::pin(opened.copied(call, first, length)).await;
        }
        let detail = &self.found.detail;
        let hold = self.hold.clone().or_else(|| read::held(call, &self.found).map(Rc::new));
        let opening = encryption::of_source(call, &self.bucket, detail).await?;
        let bytes = match &detail.body {
            Body::Inline { data } if opening.is_some() => {
                let opening = opening.as_ref().zip(detail.encryption.as_ref());
                let (key, encryption) = opening.ok_or(Code::InternalError)?;
                let piece = open_inline(key, encryption.id, data, first, length)
                    .map_err(|_| Code::InternalError)?;
                stream::iter((!piece.is_empty()).then_some(Ok(piece))).boxed_local()
            }
            Body::Inline { data } => {
                let end = usize::try_from(first + length).map_err(|_| Code::InternalError)?;
                if end > data.len() {
                    return Err(Code::InternalError.into());
                }
                let piece = data.slice(first as usize..end);
                stream::iter((!piece.is_empty()).then_some(Ok(piece))).boxed_local()
            }
            Body::Striped { manifest } => {
                let service = &call.service;
                let download = Download::new(
                    service.catalogue.clone(),
                    self.bucket.clone(),
                    service.budget.clone(),
                    manifest,
                    opening,
                    (first, length),
                );
                download
                    .inspect(move |_| {
                        let _held_while_read = &hold;
                    })
                    .boxed_local()
            }
            // Copied by what knows of segments.
            Body::Segments { .. } => return Err(Code::NotImplemented.into()),
        };
        Ok(BodyReader::new(Source::Local(bytes), None, length))
    }
}

/// What `x-amz-copy-source` names.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct SourceName {
    pub(crate) bucket: String,
    pub(crate) key: String,
    pub(crate) version: Option<String>,
}

/// `/bucket/key`, percent-encoded, perhaps with a version.
pub(in crate::s3) fn parse_source(value: &str) -> S3Result<SourceName> {
    let invalid = |message: &str| S3Error::argument("x-amz-copy-source", value, message);
    let (path, version) = match value.split_once("?versionId=") {
        Some((path, version)) => (path, Some(version)),
        None => (value, None),
    };
    let path = String::from_utf8(uri::percent_decode(path.as_bytes()))
        .map_err(|_| invalid("Copy Source must be valid UTF-8"))?;
    let path = path.strip_prefix('/').unwrap_or(&path);
    let (bucket, key) = path
        .split_once('/')
        .filter(|(bucket, key)| !bucket.is_empty() && !key.is_empty())
        .ok_or_else(|| {
            invalid("Copy Source must mention the source bucket and key: sourcebucket/sourcekey")
        })?;
    Ok(SourceName {
        bucket: bucket.to_owned(),
        key: key.to_owned(),
        version: version.map(str::to_owned),
    })
}

/// Whether the headers of the object come from the source or from the request.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Directive {
    Copy,
    Replace,
}

fn directive(call: &Call, name: &str) -> S3Result<Directive> {
    match call.head.header(name)? {
        None | Some("COPY") => Ok(Directive::Copy),
        Some("REPLACE") => Ok(Directive::Replace),
        Some(other) => Err(S3Error::argument(name, other, "Unknown metadata directive.")),
    }
}

pub(super) async fn copy(permit: Permit, call: &mut Call) -> S3Result<Answer> {
    features::check(call)?;
    let sharing = Sharing::of_write(call, &permit)?;
    let key = Bytes::copy_from_slice(call.head.key()?.as_bytes());
    let condition = conditions::write_condition(&call.head.headers)?;
    let metadata = directive(call, "x-amz-metadata-directive")?;
    let tagging = directive(call, "x-amz-tagging-directive")?;
    let bucket = permit.bucket().clone();
    let (source, leave) = CopySource::find(call).await?;
    // An older version may be copied to be the newest again.
    let same = source.bucket.id == bucket.id && source.key == key && !source.versioned;
    if metadata == Directive::Copy && same && !Wanted::is_asked_for(call) {
        return Err(Code::InvalidRequest.with(
            "This copy request is illegal because it is trying to copy an object to itself without changing the object's metadata, storage class, website redirect location or encryption attributes.",
        ));
    }
    let size = source.found.entry.size;
    if size > PIECE_OBJECT_BYTES_MAX {
        return Err(Code::InvalidRequest.with(format!(
            "The specified copy source is larger than the maximum allowable size for a copy source: {PIECE_OBJECT_BYTES_MAX}"
        )));
    }
    let mut described = Described::from_call(call)?;
    if metadata == Directive::Copy {
        // Where a website leads is said anew.
        let leads_to = described.headers.remove(REDIRECT_LOCATION);
        described.headers.clone_from(&source.found.detail.headers);
        described.headers.remove(REDIRECT_LOCATION);
        described.headers.extend(leads_to.map(|to| (REDIRECT_LOCATION.to_owned(), to)));
        described.metadata.clone_from(&source.found.detail.metadata);
    }
    if tagging == Directive::Copy {
        described.tags = source.tags(call, &leave, &permit)?;
    }
    let algorithm = wanted_algorithm(call, &source.found)?;
    let inspector = Inspector::new(&PayloadMode::Unsigned, Announced::default(), Some(algorithm));
    let mut reader = source.reader(call, 0, size).await?;
    let tags = permit.rules().lifecycle.as_ref().map(|_| described.tags.clone());
    let (bucket, listed) = (bucket.clone(), Default::default());
    let new = NewObject {
        bucket: bucket.clone(),
        key: key.clone(),
        condition,
        described,
        sharing,
        listed,
    };
    let made = store(call, new, &mut reader, inspector).await?;
    let mut xml = Xml::root("CopyObjectResult");
    xml.text("LastModified", &dates::iso(made.entry.modified_ms));
    xml.text("ETag", &response::quoted(&made.entry.etag));
    response::checksum_elements(&mut xml, made.detail_checksum.as_ref());
    xml.close("CopyObjectResult");
    let mut answer = response::xml(xml);
    encryption::set_made_headers(answer.headers_mut(), call, made.encryption.as_ref());
    versioning::set_made(&mut answer, &bucket, &made.entry);
    let tags = tags.unwrap_or_default();
    set_expiration(answer.headers_mut(), call, permit.rules(), &key, &made.entry, &tags);
    source.set_version(&mut answer);
    Ok(answer)
}

/// The checksum of the copy: as asked, else as the source has it.
fn wanted_algorithm(call: &Call, source: &Found) -> S3Result<Algorithm> {
    if let Some(name) = call.head.header("x-amz-checksum-algorithm")? {
        return Algorithm::from_name(name).ok_or_else(|| {
            Code::InvalidRequest.with("Checksum algorithm provided is unsupported. Please try again with any of the valid types: [CRC32, CRC32C, CRC64NVME, SHA1, SHA256]")
        });
    }
    let of_source = source.detail.checksum.as_ref().filter(|checksum| checksum.parts == 0);
    let kept = of_source.and_then(|checksum| Algorithm::from_number(checksum.algorithm));
    Ok(kept.unwrap_or(Algorithm::Crc64Nvme))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sources_are_read_as_clients_write_them() {
        let source = |bucket: &str, key: &str, version: Option<&str>| SourceName {
            bucket: bucket.to_owned(),
            key: key.to_owned(),
            version: version.map(str::to_owned),
        };
        let pair = |bucket: &str, key: &str| source(bucket, key, None);
        assert_eq!(parse_source("/b/k").unwrap(), pair("b", "k"));
        assert_eq!(
            parse_source("b/a/k%20%2B+?versionId=null").unwrap(),
            source("b", "a/k ++", Some("null"))
        );
        assert_eq!(parse_source("b//k").unwrap(), pair("b", "/k"));
        assert_eq!(parse_source("b%2Fk").unwrap(), pair("b", "k"));
        for bad in ["", "/", "b", "b/", "//k", "b/%ff"] {
            assert_eq!(parse_source(bad).unwrap_err().code, Code::InvalidArgument, "{bad}");
        }
    }
}
