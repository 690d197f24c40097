//! Requests from pages of other origins: `X-Container-Meta-Access-Control-Allow-Origin`, `-Expose-Headers`,
//! `-Max-Age` of a container say what their browsers are told.

use super::error::{SwiftError, SwiftResult};
use super::path::Named;
use super::{Call, access, metadata, respond};
use crate::s3::{Answer, response};
use http::{HeaderMap, StatusCode};
use store_base::bucket::SwiftMetadata;

const ALLOWED: &str = "access-control-allow-origin";
const EXPOSED: &str = "access-control-expose-headers";
const MAX_AGE: &str = "access-control-max-age";

/// Headers of answers that every page may see.
const SEEN: [&str; 11] = [
    "cache-control",
    "content-language",
    "content-type",
    "expires",
    "last-modified",
    "pragma",
    "etag",
    "x-timestamp",
    "x-trans-id",
    "x-openstack-request-id",
    "content-length",
];

/// The methods of accounts, containers and objects.
fn methods(named: &Named) -> &'static str {
    match (&named.container, &named.object) {
        (None, _) => "GET, HEAD, POST, DELETE, OPTIONS",
        (_, None) => "GET, HEAD, PUT, POST, DELETE, OPTIONS",
        _ => "GET, HEAD, PUT, POST, COPY, DELETE, OPTIONS",
    }
}

async fn kept(call: &Call, named: &Named) -> Option<SwiftMetadata> {
    let container = named.container.as_deref()?;
    let name = access::bucket_name(call, &named.account, container).await.ok()??;
    let bucket = call.service.catalogue.bucket(&name).await.ok()?;
    Some(metadata::of_container(&bucket))
}

fn text<'a>(kept: &'a SwiftMetadata, name: &str) -> Option<&'a str> {
    std::str::from_utf8(kept.metadata.get(name)?).ok()
}

/// What the browser is told of an origin: it, or `*`.
fn allowed<'a>(kept: &SwiftMetadata, origin: &'a str) -> Option<&'a str> {
    let list = text(kept, ALLOWED)?;
    let mut listed = list.split_whitespace();
    match listed.clone().any(|one| one == "*") {
        true => Some("*"),
        false => listed.any(|one| one == origin).then_some(origin),
    }
}

/// OPTIONS: which methods there are; for browsers, whether the page may use one.
pub(super) async fn options(call: &Call, named: &Named) -> SwiftResult<Answer> {
    let methods = methods(named);
    let mut answer = respond::empty(StatusCode::OK);
    let headers = answer.headers_mut();
    response::set(headers, "allow", methods);
    let header = |name| call.head.header(name).ok().flatten();
    let asked = header("access-control-request-method");
    let (Some(origin), Some(asked)) = (header("origin"), asked) else {
        // A browser's question without its origin is none.
        return match (header("origin"), asked) {
            (None, Some(_)) => Err(refused(methods)),
            (Some(_), None) => Err(refused(methods)),
            _ => Ok(answer),
        };
    };
    let kept = kept(call, named).await.ok_or_else(|| refused(methods))?;
    let told = allowed(&kept, origin).ok_or_else(|| refused(methods))?;
    if !methods.split(", ").any(|method| method == asked) {
        return Err(refused(methods));
    }
    response::set(headers, "access-control-allow-origin", told);
    response::set(headers, "access-control-allow-methods", methods);
    if let Some(age) = text(&kept, MAX_AGE) {
        response::set(headers, "access-control-max-age", age);
    }
    if let Some(wanted) = header("access-control-request-headers") {
        response::set(headers, "access-control-allow-headers", wanted);
        response::set(headers, "vary", "Access-Control-Request-Headers");
    }
    if told != "*" {
        headers.append("vary", http::HeaderValue::from_static("Origin"));
    }
    Ok(answer)
}

fn refused(methods: &'static str) -> SwiftError {
    let error = SwiftError::new(StatusCode::UNAUTHORIZED, "This origin may not do that.");
    error.header(http::header::ALLOW, http::HeaderValue::from_static(methods))
}

/// Tells the browser what it may show of an answer, of an error also.
pub(super) async fn share(call: &Call, named: &Named, headers: &mut HeaderMap) {
    let Some(origin) = call.head.headers.get("origin").and_then(|origin| origin.to_str().ok())
    else {
        return;
    };
    let Some(kept) = kept(call, named).await else { return };
    let Some(told) = allowed(&kept, origin) else { return };
    let mut seen: Vec<String> = SEEN.iter().map(|name| (*name).to_owned()).collect();
    for name in headers.keys().map(http::HeaderName::as_str) {
        if name.starts_with("x-container-meta-") || name.starts_with("x-object-meta-") {
            seen.push(name.to_owned());
        }
    }
    let more = text(&kept, EXPOSED).unwrap_or_default();
    seen.extend(more.split([',', ' ']).filter(|name| !name.is_empty()).map(str::to_lowercase));
    seen.sort();
    seen.dedup();
    response::set(headers, "access-control-expose-headers", &seen.join(", "));
    response::set(headers, "access-control-allow-origin", told);
    if told != "*" {
        headers.append("vary", http::HeaderValue::from_static("Origin"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn origins_are_listed_or_all() {
        let kept = |list: &str| {
            let mut kept = SwiftMetadata::default();
            kept.metadata.insert(ALLOWED.into(), list.to_owned().into());
            kept
        };
        assert_eq!(allowed(&kept("http://a http://b"), "http://b"), Some("http://b"));
        assert_eq!(allowed(&kept("http://a"), "http://b"), None);
        assert_eq!(allowed(&kept("*"), "http://b"), Some("*"));
        assert_eq!(allowed(&SwiftMetadata::default(), "http://b"), None);
    }
}
