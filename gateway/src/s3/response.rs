//! Putting answers together.

use super::Answer;
use super::checksum::{self, Algorithm};
use super::dates;
use super::error::{Code, S3Error};
use super::xml::Xml;
use crate::http::body::ResponseBody;
use http::header::{CONTENT_TYPE, HeaderName, HeaderValue};
use http::{HeaderMap, Response, StatusCode};
use store_base::bucket::{Checksum, Detail, ETag, Entry};

/// An answer without a body.
pub fn empty(status: StatusCode) -> Answer {
    let mut answer = Response::new(ResponseBody::empty());
    *answer.status_mut() = status;
    answer
}

/// 200 with a document.
pub fn xml(document: Xml) -> Answer {
    let mut answer = Response::new(ResponseBody::Full(document.into_bytes().into()));
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/xml"));
    answer
}

/// An error as S3 says it. HEAD and 304 have no body.
pub fn error(
    error: &S3Error,
    resource: &str,
    request_id: &str,
    host_id: &str,
    is_head: bool,
) -> Answer {
    let unchanged = error.code == Code::NotModified;
    let mut answer = match is_head || unchanged {
        true => Response::new(ResponseBody::empty()),
        false => {
            let body = error.to_xml(resource, request_id, host_id);
            Response::new(ResponseBody::Full(body.into()))
        }
    };
    // HEAD is told of what kind the page is that GET would have.
    if !unchanged {
        answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/xml"));
    }
    *answer.status_mut() = error.code.status();
    for (name, value) in &error.headers {
        answer.headers_mut().insert(name, value.clone());
    }
    answer
}

/// Sets a header whose value we made ourselves.
pub fn set(headers: &mut HeaderMap, name: &'static str, value: &str) {
    // A value that cannot be a header (a stored one with control bytes) is left out rather than let
    // the answer fail.
    if let Ok(value) = HeaderValue::from_str(value) {
        headers.insert(name, value);
    }
}

/// An entity tag as headers and XML carry it.
pub fn quoted(etag: &ETag) -> String {
    format!("\"{etag}\"")
}

/// The headers that tell an object apart: tag and date.
pub fn set_identity(headers: &mut HeaderMap, entry: &Entry) {
    set(headers, "etag", &quoted(&entry.etag));
    set(headers, "last-modified", &dates::http(entry.modified_ms));
}

/// The headers that were stored with an object.
pub fn set_stored(headers: &mut HeaderMap, detail: &Detail) {
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("binary/octet-stream"));
    for (name, value) in &detail.headers {
        if let (Ok(name), Ok(value)) = (name.parse::<HeaderName>(), value.parse()) {
            headers.insert(name, value);
        }
    }
    for (name, value) in &detail.metadata {
        let name = format!("x-amz-meta-{name}");
        if let (Ok(name), Ok(value)) = (name.parse::<HeaderName>(), HeaderValue::from_bytes(value))
        {
            headers.insert(name, value);
        }
    }
}

/// The headers of a checksum.
pub fn set_checksum(headers: &mut HeaderMap, checksum: Option<&Checksum>) {
    let Some(checksum) = checksum else { return };
    let Some(algorithm) = Algorithm::from_number(checksum.algorithm) else { return };
    set(headers, algorithm.header(), &checksum::text(checksum));
    set(headers, "x-amz-checksum-type", checksum::kind(checksum));
}

/// The elements of a checksum.
pub fn checksum_elements(xml: &mut Xml, checksum: Option<&Checksum>) {
    let Some(checksum) = checksum else { return };
    let Some(algorithm) = Algorithm::from_number(checksum.algorithm) else { return };
    xml.text(algorithm.element(), &checksum::text(checksum));
    xml.text("ChecksumType", checksum::kind(checksum));
}
