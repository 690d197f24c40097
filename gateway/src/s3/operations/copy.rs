//! `CopyObject`, and the source that part copies have in common with it.

use super::super::access;
use super::super::auth::payload::{Inspector, PayloadMode};
use super::super::checksum::{Algorithm, Announced};
use super::super::conditions::{self, ReadCondition};
use super::super::dates;
use super::super::error::{Code, S3Error, S3Result};
use super::super::names;
use super::super::response;
use super::super::uri;
use super::super::xml::Xml;
use super::super::{Answer, Call};
use super::read::found;
use super::write::{Described, NewObject, PIECE_OBJECT_BYTES_MAX, store};
use crate::catalogue::Bucket;
use crate::transfer::body::{BodyReader, Source};
use crate::transfer::download::Download;
use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream;
use std::rc::Rc;
use store_base::bucket::{Body, Found};

/// The object that is copied.
pub(super) struct CopySource {
    pub bucket: Rc<Bucket>,
    pub key: Bytes,
    pub found: Found,
}

impl CopySource {
    /// Reads `x-amz-copy-source` and the object it names, and checks the conditions on it.
    pub(super) async fn find(call: &Call) -> S3Result<CopySource> {
        let (bucket, key) =
            parse_source(call.head.header("x-amz-copy-source")?.unwrap_or_default())?;
        names::check_key(&key)?;
        let bucket = access::source_bucket(call, &bucket).await?;
        let key = Bytes::from(key);
        let found = found(call, &bucket, &key, true).await?;
        ReadCondition::from_copy_headers(&call.head.headers)?.check_source(&found.entry)?;
        Ok(CopySource { bucket, key, found })
    }

    /// A stretch of the object's bytes as a body. It must lie within the object.
    pub(super) fn reader(&self, call: &Call, first: u64, length: u64) -> S3Result<BodyReader> {
        let bytes = match &self.found.detail.body {
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
                let hold = service.catalogue.hold(manifest.id);
                let download = Download::new(
                    service.catalogue.clone(),
                    self.bucket.clone(),
                    service.budget.clone(),
                    manifest,
                    first,
                    length,
                );
                download
                    .inspect(move |_| {
                        let _held_while_read = &hold;
                    })
                    .boxed_local()
            }
        };
        Ok(BodyReader::new(Source::Local(bytes), None, length))
    }
}

/// `/bucket/key`, percent-encoded, perhaps with a version.
fn parse_source(value: &str) -> S3Result<(String, String)> {
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
    match version {
        None | Some("null") => Ok((bucket.to_owned(), key.to_owned())),
        Some(_) => Err(Code::NoSuchVersion.into()),
    }
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

pub(super) async fn copy(call: &mut Call) -> S3Result<Answer> {
    access::check_acl_headers(call)?;
    access::check_features(call)?;
    let key = Bytes::copy_from_slice(call.head.key()?.as_bytes());
    let condition = conditions::write_condition(&call.head.headers)?;
    let metadata = directive(call, "x-amz-metadata-directive")?;
    directive(call, "x-amz-tagging-directive")?;
    let bucket = access::bucket(call).await?;
    let source = CopySource::find(call).await?;
    if metadata == Directive::Copy && source.bucket.id == bucket.id && source.key == key {
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
    let described = match metadata {
        Directive::Replace => Described::from_call(call)?,
        Directive::Copy => Described {
            headers: source.found.detail.headers.clone(),
            metadata: source.found.detail.metadata.clone(),
        },
    };
    let algorithm = wanted_algorithm(call, &source.found)?;
    let inspector = Inspector::new(&PayloadMode::Unsigned, Announced::default(), Some(algorithm));
    let mut reader = source.reader(call, 0, size)?;
    let new = NewObject { bucket, key, condition, described };
    let made = store(call, new, &mut reader, inspector).await?;
    let mut xml = Xml::root("CopyObjectResult");
    xml.text("LastModified", &dates::iso(made.entry.modified_ms));
    xml.text("ETag", &response::quoted(&made.entry.etag));
    response::checksum_elements(&mut xml, made.detail_checksum.as_ref());
    xml.close("CopyObjectResult");
    Ok(response::xml(xml))
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
        let pair = |b: &str, k: &str| (b.to_owned(), k.to_owned());
        assert_eq!(parse_source("/b/k").unwrap(), pair("b", "k"));
        assert_eq!(parse_source("b/a/k%20%2B+?versionId=null").unwrap(), pair("b", "a/k ++"));
        assert_eq!(parse_source("b//k").unwrap(), pair("b", "/k"));
        assert_eq!(parse_source("b%2Fk").unwrap(), pair("b", "k"));
        for bad in ["", "/", "b", "b/", "//k", "b/%ff"] {
            assert_eq!(parse_source(bad).unwrap_err().code, Code::InvalidArgument, "{bad}");
        }
        assert_eq!(parse_source("b/k?versionId=1").unwrap_err().code, Code::NoSuchVersion);
    }
}
