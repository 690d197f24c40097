//! Symbolic links: objects that stand for others (`X-Symlink-Target`). A *static* one says which entity tag the
//! target must have and leads nowhere once it is another.
//!
//! Reading follows them, over both protocols; `?symlink=get` reads the link itself. Deleting deletes the link.

use super::access::{self, AccountPermit};
use super::error::{SwiftError, SwiftResult};
use super::{Call, large};
use crate::catalogue::Bucket;
use crate::s3::access::Admitted;
use crate::s3::{response, uri};
use http::header::{HeaderMap, HeaderName, HeaderValue};
use http::{StatusCode, header};
use serde_json::Value;
use std::collections::BTreeMap;
use std::rc::Rc;
use store_base::bucket::{Detail, Entry, Found};

/// Where a link leads: `container/object`, percent-encoded.
pub(super) const TARGET: &str = "x-symlink-target";
/// In which account; that of the link if it is not said.
const TARGET_ACCOUNT: &str = "x-symlink-target-account";
/// The entity tag that the target must have.
const TARGET_ETAG: &str = "x-symlink-target-etag";
/// How many bytes that target has.
const TARGET_BYTES: &str = "x-symlink-target-bytes";

/// All headers of a link, as they are kept.
pub(super) const HEADERS: [&str; 4] = [TARGET, TARGET_ACCOUNT, TARGET_ETAG, TARGET_BYTES];

/// How many links lead one to another at most.
pub(super) const LINKS_MAX: usize = 2;

/// In listings, the entity tag of the large object that a static link leads to.
const LISTED_SLO_ETAG: &str = "slo_etag";

/// In listings, the path that a link leads to, without the version.
const LISTED_PATH: &str = "symlink_path";

/// A place that a link leads to.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Target {
    account: String,
    container: String,
    object: String,
    etag: Option<String>,
}

impl Target {
    fn of(headers: &BTreeMap<String, String>, own_account: &str) -> Option<Target> {
        let (container, object) = large::parse_place(headers.get(TARGET)?)?;
        let account = headers.get(TARGET_ACCOUNT).and_then(|named| named.strip_prefix("AUTH_"));
        Some(Target {
            account: account.unwrap_or(own_account).to_owned(),
            container,
            object,
            etag: headers.get(TARGET_ETAG).cloned(),
        })
    }

    fn path(&self) -> String {
        path(&self.account, &self.container, &self.object)
    }
}

fn path(account: &str, container: &str, object: &str) -> String {
    let encoded = |text: &str, slash| uri::encoded(text.as_bytes(), slash);
    format!(
        "/v1/AUTH_{}/{}/{}",
        encoded(account, false),
        encoded(container, false),
        encoded(object, true)
    )
}

/// Whether an object is a link.
pub(super) fn is_link(detail: &Detail) -> bool {
    detail.headers.contains_key(TARGET)
}

/// Whether the request is about the link itself.
pub(super) fn wants_link(call: &Call) -> bool {
    call.head.query.value("symlink") == Some("get")
}

/// What a request makes a link of: the headers to keep, and what listings show.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Link {
    pub headers: BTreeMap<String, String>,
    pub listed: BTreeMap<String, String>,
    /// That of the target, if it was looked at.
    pub content_type: Option<String>,
}

/// Reads the headers of a PUT that makes a link; `None` if it makes none. A link to a target of a certain entity tag
/// is checked against the target now.
pub(super) async fn asked(call: &Call, permit: &AccountPermit) -> SwiftResult<Option<Link>> {
    let header = |name| call.head.header(name).map(|value| value.filter(|v| !v.is_empty()));
    let Some(value) = header(TARGET)? else {
        return match header(TARGET_ETAG)? {
            None => Ok(None),
            Some(_) => Err(SwiftError::bad_request("A link needs X-Symlink-Target.")),
        };
    };
    let wrong = || {
        SwiftError::new(
            StatusCode::PRECONDITION_FAILED,
            "X-Symlink-Target header must be of the form <container name>/<object name>",
        )
    };
    if value.starts_with('/') {
        return Err(wrong());
    }
    let (container, object) = large::parse_place(value).ok_or_else(wrong)?;
    let account = link_account(call, permit)?;
    let mut link = Link::default();
    let kept = format!(
        "{}/{}",
        uri::encoded(container.as_bytes(), false),
        uri::encoded(object.as_bytes(), true)
    );
    link.headers.insert(TARGET.to_owned(), kept);
    if header(TARGET_ACCOUNT)?.is_some() {
        link.headers.insert(TARGET_ACCOUNT.to_owned(), format!("AUTH_{account}"));
    }
    let target = Target { account, container, object, etag: None };
    let bucket = access::bucket_name(call, &target.account, &target.container).await?;
    if bucket.as_deref() == Some(call.head.bucket()?) && target.object == call.head.key()? {
        return Err(SwiftError::bad_request("Symlink cannot target itself"));
    }
    link.listed.insert(LISTED_PATH.to_owned(), target.path());
    if let Some(etag) = header(TARGET_ETAG)? {
        let etag = etag.trim_matches('"').to_owned();
        let found = check_static(call, &target, &etag).await?;
        let bytes = found.entry.size;
        link.content_type = found.detail.headers.get("content-type").cloned();
        if found.entry.listed.contains_key(large::MANIFEST_HASH) {
            link.listed.insert(LISTED_SLO_ETAG.to_owned(), large::tag_of(&found.entry).to_string());
        }
        link.listed.insert("symlink_etag".to_owned(), etag.clone());
        link.listed.insert("symlink_bytes".to_owned(), bytes.to_string());
        link.headers.insert(TARGET_ETAG.to_owned(), etag);
        link.headers.insert(TARGET_BYTES.to_owned(), bytes.to_string());
    }
    Ok(Some(link))
}

fn link_account(call: &Call, permit: &AccountPermit) -> SwiftResult<String> {
    access::named_account(call, permit.id(), TARGET_ACCOUNT)
}

/// A link that is copied may be told to lead into another account.
pub(super) fn readdress(call: &Call, headers: &mut BTreeMap<String, String>) -> SwiftResult<()> {
    let account = call.head.header(TARGET_ACCOUNT)?.filter(|account| !account.is_empty());
    if let (Some(account), true) = (account, headers.contains_key(TARGET)) {
        headers.insert(TARGET_ACCOUNT.to_owned(), account.to_owned());
    }
    Ok(())
}

/// Says anew, for listings, where a link leads that was copied.
pub(super) fn relist(
    listed: &mut BTreeMap<String, String>,
    headers: &BTreeMap<String, String>,
    own_account: &str,
) {
    if let Some(target) = Target::of(headers, own_account) {
        listed.insert(LISTED_PATH.to_owned(), target.path());
    }
}

/// Looks at the target of a static link: at what a chain of links leads to, or at a link that leads nowhere yet.
async fn check_static(call: &Call, target: &Target, etag: &str) -> SwiftResult<Found> {
    let conflict = |why: &str| {
        let error = SwiftError::new(StatusCode::CONFLICT, why);
        located(error, &target.path())
    };
    let found = async {
        let leave =
            access::source(call, &target.account, &target.container, &target.object, None).await?;
        let Admitted { bucket, found, .. } = leave.read(call, false).await?;
        let own = found.clone();
        if large::tag_of(&found.entry).to_string() == etag {
            return SwiftResult::Ok(own);
        }
        Ok(follow(call, bucket, found, false).await.map_or(own, |followed| followed.found))
    };
    let found = match found.await {
        Err(error) if error.status == StatusCode::NOT_FOUND => {
            return Err(conflict("X-Symlink-Target does not exist"));
        }
        found => found?,
    };
    let tag = tag_of(&found.entry);
    match tag == etag {
        true => Ok(found),
        false => Err(conflict(&format!(
            "Object Etag '{tag}' does not match X-Symlink-Target-Etag header '{etag}'"
        ))),
    }
}

/// The entity tag that static links name: of a large object that of its manifest.
fn tag_of(entry: &Entry) -> String {
    let hash = entry.listed.get(large::MANIFEST_HASH).cloned();
    hash.unwrap_or_else(|| entry.etag.to_string())
}

fn located(error: SwiftError, path: &str) -> SwiftError {
    match HeaderValue::from_str(path) {
        Ok(value) => error.header(header::CONTENT_LOCATION, value),
        Err(_) => error,
    }
}

/// What a read found, and where, if a link led there.
pub(super) struct Followed {
    pub bucket: Rc<Bucket>,
    pub found: Found,
    /// The path of the last target.
    pub location: Option<String>,
}

/// Follows the links from an object that was found to one that is none.
pub(super) async fn follow(
    call: &Call,
    mut bucket: Rc<Bucket>,
    mut found: Found,
    body: bool,
) -> SwiftResult<Followed> {
    let mut location = None;
    for links in 0.. {
        let Some(target) = Target::of(&found.detail.headers, &bucket.owner) else { break };
        if links == LINKS_MAX {
            let error = SwiftError::new(
                StatusCode::CONFLICT,
                format!("Too many levels of symbolic links, maximum allowed is {LINKS_MAX}"),
            );
            return Err(located(error, &target.path()));
        }
        let next = step(call, &target, body).await;
        let next = next.map_err(|error| located(error, &target.path()))?;
        (bucket, found) = (next.bucket, next.found);
        location = Some(target.path());
    }
    Ok(Followed { bucket, found, location })
}

async fn step(call: &Call, target: &Target, body: bool) -> SwiftResult<Admitted> {
    let Target { account, container, object, etag } = target;
    let leave = access::source(call, account, container, object, None).await?;
    let next = leave.read(call, body).await?;
    if super::read::is_expired(call, &next.found) {
        return Err(SwiftError::not_found());
    }
    let link = is_link(&next.found.detail);
    // What a link to a link must lead to is checked where the chain ends.
    let same = link || etag.as_ref().is_none_or(|etag| *etag == tag_of(&next.found.entry));
    match same {
        true => Ok(next),
        false => Err(SwiftError::new(
            StatusCode::CONFLICT,
            "The target has another entity tag than X-Symlink-Target-Etag says.",
        )),
    }
}

/// Tells where a link led.
pub(super) fn set_location(headers: &mut HeaderMap, location: Option<&String>) {
    if let Some(location) = location {
        response::set(headers, "content-location", location);
    }
}

/// The answer to a POST on a link: the target is another object.
pub(super) fn redirect(detail: &Detail, own_account: &str) -> Option<SwiftError> {
    let path = Target::of(&detail.headers, own_account)?.path();
    let error = SwiftError::new(
        StatusCode::TEMPORARY_REDIRECT,
        "The requested POST was applied to a symlink. POST directly to the target to apply requested metadata.",
    );
    let mut error = match HeaderValue::from_str(&path) {
        Ok(value) => error.header(HeaderName::from_static("location"), value),
        Err(_) => error,
    };
    let etag = detail.headers.get(TARGET_ETAG).and_then(|etag| HeaderValue::from_str(etag).ok());
    if let Some(etag) = etag {
        error = error.header(HeaderName::from_static(TARGET_ETAG), etag);
    }
    Some(error)
}

/// Adds what listings show of a link.
pub(super) fn list(values: &mut Vec<(&'static str, Value)>, entry: &Entry) {
    for name in [LISTED_PATH, "symlink_etag"] {
        if let Some(value) = entry.listed.get(name) {
            values.push((name, value.as_str().into()));
        }
    }
    if let Some(etag) = entry.listed.get(LISTED_SLO_ETAG) {
        values.push((LISTED_SLO_ETAG, format!("\"{etag}\"").into()));
    }
    let bytes = entry.listed.get("symlink_bytes").and_then(|bytes| bytes.parse::<u64>().ok());
    if let Some(bytes) = bytes {
        values.push(("symlink_bytes", bytes.into()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_lead_to_paths() {
        let mut detail = Detail::default();
        assert!(!is_link(&detail) && Target::of(&detail.headers, "u").is_none());
        detail.headers.insert(TARGET.into(), "c/a%20b/x".into());
        assert_eq!(Target::of(&detail.headers, "u").unwrap().path(), "/v1/AUTH_u/c/a%20b/x");
        detail.headers.insert(TARGET_ACCOUNT.into(), "AUTH_v".into());
        assert_eq!(Target::of(&detail.headers, "u").unwrap().path(), "/v1/AUTH_v/c/a%20b/x");
    }
}
