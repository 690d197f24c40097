//! URLs that are signed by a key of the account or the container and let in whoever has them, until they end.
//!
//! What is signed is the method, the end and the path, a line each; before them `ip=RANGE` where only some
//! addresses may come; instead of the path `prefix:PATH` where all objects whose path begins so are meant. A key of
//! a container opens that container alone, also to the segments of large objects.

use super::acl::{Grant, Scope, Signed};
use super::error::{SwiftError, SwiftResult};
use super::path::Named;
use super::{Call, access, metadata};
use crate::s3::{Answer, dates, response, uri};
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE};
use bytes::Bytes;
use http::{Method, StatusCode};
use ring::hmac::{self, HMAC_SHA1_FOR_LEGACY_USE_ONLY, HMAC_SHA256, HMAC_SHA512, Key};
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::rc::Rc;

/// The digests that signatures may be made with.
pub(super) const DIGESTS: [&str; 3] = ["sha1", "sha256", "sha512"];

/// Headers that such a URL cannot set: they would lead to other objects.
const NEVER_SET: [&str; 2] = ["x-object-manifest", "x-symlink-target"];

/// The names of the keys in the metadata of accounts and containers.
const KEYS: [&str; 2] = ["temp-url-key", "temp-url-key-2"];

/// What a URL says besides its signature.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct TempUrl {
    /// As a query, for links to other objects that it opens.
    pub link: String,
    /// What the names that it opens begin with.
    pub prefix: Option<String>,
    /// Seconds since 1970.
    expires: u64,
    filename: Option<String>,
    inline: bool,
}

/// Whether the query has a signature.
pub(super) fn is_meant(call: &Call) -> bool {
    let query = &call.head.query;
    call.head.method != Method::OPTIONS
        && (query.has("temp_url_sig") || query.has("temp_url_expires"))
}

pub(super) fn invalid() -> SwiftError {
    SwiftError::new(StatusCode::UNAUTHORIZED, "401 Unauthorized: Temp URL invalid\n")
}

/// Reads an end: seconds since 1970, or a time of ISO 8601 in UTC.
fn parse_expires(text: &str) -> Option<u64> {
    if let Ok(secs) = text.trim().parse::<u64>() {
        return Some(secs);
    }
    let compact: String = text.chars().filter(|c| !matches!(c, '-' | ':')).collect();
    let form = text.len() == 20 && text.as_bytes()[4] == b'-' && text.ends_with('Z');
    dates::parse_compact(&compact).filter(|_| form)
}

/// Reads a signature: hexadecimal digits, or `DIGEST:` and base64.
pub(super) fn parse_signature(text: &str) -> Option<(&'static str, Vec<u8>)> {
    if let Some((name, encoded)) = text.split_once(':') {
        let digest = DIGESTS.iter().find(|digest| **digest == name)?;
        let padded = format!("{}{}", encoded.trim_end_matches('='), "=".repeat(pad(encoded)));
        let bytes = STANDARD.decode(&padded).or_else(|_| URL_SAFE.decode(&padded)).ok()?;
        return Some((digest, bytes));
    }
    let bytes = hex::decode(text).ok()?;
    let digest = match bytes.len() {
        20 => "sha1",
        32 => "sha256",
        64 => "sha512",
        _ => return None,
    };
    Some((digest, bytes))
}

fn pad(encoded: &str) -> usize {
    (4 - encoded.trim_end_matches('=').len() % 4) % 4
}

pub(super) fn verify(digest: &str, key: &[u8], text: &str, given: &[u8]) -> bool {
    let algorithm = match digest {
        "sha1" => HMAC_SHA1_FOR_LEGACY_USE_ONLY,
        "sha256" => HMAC_SHA256,
        _ => HMAC_SHA512,
    };
    // Compares in constant time.
    hmac::verify(&Key::new(algorithm, key), text.as_bytes(), given).is_ok()
}

/// Whether an address is in `ADDRESS` or `ADDRESS/BITS`.
fn in_range(address: IpAddr, range: &str) -> bool {
    let (network, bits) = match range.split_once('/') {
        Some((network, bits)) => (network, Some(bits)),
        None => (range, None),
    };
    let Ok(network) = network.parse::<IpAddr>() else { return false };
    let width = if network.is_ipv4() { 32 } else { 128 };
    let bits = bits.map_or(Ok(width), str::parse::<u32>);
    let Some(bits) = bits.ok().filter(|bits| *bits <= width) else { return false };
    let masked = |value: u128, width: u32| if bits == 0 { 0 } else { value >> (width - bits) };
    match (network, address.to_canonical()) {
        (IpAddr::V4(a), IpAddr::V4(b)) => {
            masked(u32::from(a).into(), 32) == masked(u32::from(b).into(), 32)
        }
        (IpAddr::V6(a), IpAddr::V6(b)) => masked(a.into(), 128) == masked(b.into(), 128),
        _ => false,
    }
}

fn keys_in(metadata: &BTreeMap<String, Bytes>) -> Vec<Bytes> {
    KEYS.iter().filter_map(|name| metadata.get(*name).cloned()).collect()
}

/// The keys of an account and of one of its containers, each with what it opens.
pub(super) async fn keys_of(
    call: &Call,
    account: &str,
    bucket: &str,
) -> SwiftResult<Vec<(Bytes, Scope)>> {
    let kept = call.service.catalogue.account(account).await?;
    let account: Rc<str> = account.into();
    let scope = Scope { account: account.clone(), bucket: None };
    let mut keys: Vec<(Bytes, Scope)> =
        keys_in(&kept.metadata).into_iter().map(|key| (key, scope.clone())).collect();
    if let Some(name) = access::bucket_name(call, &account, bucket).await? {
        let bucket = call.service.catalogue.bucket(&name).await?;
        let scope = Scope { account, bucket: Some(bucket.id) };
        let of_container = keys_in(&metadata::of_container(&bucket).metadata);
        keys.extend(of_container.into_iter().map(|key| (key, scope.clone())));
    }
    Ok(keys)
}

/// Checks the signature of a request, and lets it in.
pub(super) async fn admit(call: &mut Call, named: &Named) -> SwiftResult<TempUrl> {
    let query = &call.head.query;
    let text = |name: &str| query.value(name).map(str::to_owned);
    let expires = text("temp_url_expires").and_then(|text| parse_expires(&text));
    let expires = expires.filter(|end| *end >= call.now_ms() / 1000).ok_or_else(invalid)?;
    let signature = text("temp_url_sig").ok_or_else(invalid)?;
    let (digest, given) = parse_signature(&signature).ok_or_else(invalid)?;
    let prefix = text("temp_url_prefix");
    // A whole container may be shown as a web site.
    let whole =
        prefix.as_deref() == Some("") && matches!(call.head.method, Method::GET | Method::HEAD);
    let object = match (&named.object, whole) {
        (Some(object), _) => object.as_str(),
        (None, true) => "",
        (None, false) => return Err(invalid()),
    };
    let container = named.container.as_ref().ok_or_else(invalid)?;
    let range = text("temp_url_ip_range");
    if let Some(range) = &range {
        let inside = call.head.peer.address.is_some_and(|address| in_range(address, range));
        if !inside {
            return Err(invalid());
        }
    }
    let account = &named.account;
    let path = match &prefix {
        Some(prefix) if !object.starts_with(prefix.as_str()) => return Err(invalid()),
        Some(prefix) => format!("prefix:/v1/AUTH_{account}/{container}/{prefix}"),
        None => format!("/v1/AUTH_{account}/{container}/{object}"),
    };
    let methods: &[&str] = match call.head.method.as_str() {
        "HEAD" => &["HEAD", "GET", "POST", "PUT"],
        "GET" => &["GET"],
        "PUT" => &["PUT"],
        "POST" => &["POST"],
        "DELETE" => &["DELETE"],
        _ => return Err(invalid()),
    };
    let before = range.map_or(String::new(), |range| format!("ip={range}\n"));
    let keys = keys_of(call, account, container).await?;
    let scope = methods.iter().find_map(|method| {
        let signed = format!("{before}{method}\n{expires}\n{path}");
        keys.iter().find(|(key, _)| verify(digest, key, &signed, &given))
    });
    let scope = scope.ok_or_else(invalid)?.1.clone();
    if let Some(name) = NEVER_SET.iter().find(|name| call.head.headers.contains_key(**name)) {
        return Err(SwiftError::bad_request(format!(
            "The header '{name}' is not allowed in this tempurl"
        )));
    }
    let act = match call.head.method.as_str() {
        "GET" | "HEAD" => Signed::Read,
        "DELETE" => Signed::Delete,
        _ => Signed::Write,
    };
    let kept = ["temp_url_prefix", "temp_url_expires", "temp_url_sig", "filename", "inline"];
    let link = kept.iter().filter_map(|name| {
        let value = query.value(name)?;
        match *name {
            "inline" => Some((*name).to_owned()),
            name => Some(format!("{name}={}", uri::encoded(value.as_bytes(), true))),
        }
    });
    let temp = TempUrl {
        link: link.collect::<Vec<_>>().join("&"),
        prefix,
        expires,
        filename: text("filename").filter(|name| !name.is_empty()),
        inline: query.has("inline"),
    };
    call.grant = Grant::Signed { act, scope };
    // Nothing but what is signed is asked for.
    call.head.query = uri::Query::default();
    Ok(temp)
}

fn disposition(kind: &str, name: &str) -> String {
    let mut shown = String::new();
    for part in name.split_inclusive([' ', '/']) {
        let (text, end) = match part.char_indices().last() {
            Some((at, end @ (' ' | '/'))) => (&part[..at], Some(end)),
            _ => (part, None),
        };
        uri::encode(text.as_bytes(), false, &mut shown);
        shown.extend(end);
    }
    let encoded = uri::encoded(name.as_bytes(), true);
    format!("{kind}; filename=\"{shown}\"; filename*=UTF-8''{encoded}")
}

impl TempUrl {
    /// What such an answer shows and hides.
    pub(super) fn finish(&self, call: &Call, answer: &mut Answer) {
        let success = answer.status().is_success();
        let headers = answer.headers_mut();
        let hidden: Vec<_> = headers
            .keys()
            .filter(|name| {
                let name = name.as_str();
                name.starts_with("x-object-meta-") && !name.starts_with("x-object-meta-public-")
            })
            .cloned()
            .collect();
        for name in hidden {
            headers.remove(name);
        }
        let reads = matches!(call.head.method, Method::GET | Method::HEAD);
        if !reads || !success {
            return;
        }
        let disposition = match (&self.filename, self.inline) {
            (Some(name), true) => Some(disposition("inline", name)),
            (None, true) => Some("inline".to_owned()),
            (Some(name), false) => Some(disposition("attachment", name)),
            (None, false) if headers.contains_key("content-disposition") => None,
            (None, false) => {
                let key = call.head.target.key.as_deref().unwrap_or_default();
                let name = key.trim_end_matches('/').rsplit('/').next().unwrap_or_default();
                Some(disposition("attachment", name))
            }
        };
        if let Some(disposition) = disposition {
            response::set(headers, "content-disposition", &disposition.replace('\n', "%0A"));
        }
        let end = self.expires.saturating_mul(1000).min(LAST_DATE_MS);
        response::set(headers, "expires", &dates::http(end));
    }
}

/// The last second of the year 9999: what dates in headers can say.
const LAST_DATE_MS: u64 = 253_402_300_799_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ends_and_signatures_are_read() {
        assert_eq!(parse_expires("1369353600"), Some(1_369_353_600));
        assert_eq!(parse_expires("2013-05-24T00:00:00Z"), Some(1_369_353_600));
        for bad in ["", "x", "-1", "2013-05-24", "20130524T000000Z"] {
            assert_eq!(parse_expires(bad), None, "{bad}");
        }
        assert_eq!(parse_signature(&"ab".repeat(20)).unwrap().0, "sha1");
        assert_eq!(parse_signature(&"ab".repeat(64)).unwrap().0, "sha512");
        let encoded = format!("sha256:{}", URL_SAFE.encode([0xfb; 32]));
        assert_eq!(parse_signature(&encoded), Some(("sha256", vec![0xfb; 32])));
        assert_eq!(
            parse_signature(encoded.trim_end_matches('=')),
            Some(("sha256", vec![0xfb; 32]))
        );
        for bad in ["", "ab", "md5:ab", "xy"] {
            assert_eq!(parse_signature(bad), None, "{bad}");
        }
    }

    #[test]
    fn addresses_are_in_ranges() {
        let within = |address: &str, range: &str| in_range(address.parse().unwrap(), range);
        assert!(within("127.0.0.1", "127.0.0.1") && within("10.1.2.3", "10.0.0.0/8"));
        assert!(!within("11.1.2.3", "10.0.0.0/8") && within("1.2.3.4", "0.0.0.0/0"));
        assert!(within("::ffff:10.1.2.3", "10.0.0.0/8") && within("fd00::1", "fd00::/8"));
        assert!(!within("10.1.2.3", "fd00::/8") && !within("10.1.2.3", "x/8"));
        for bad in ["10.1.2.3/33", "10.1.2.3/", "10.1.2.3/-1", "", "/8"] {
            assert!(!within("10.1.2.3", bad), "{bad}");
        }
    }

    #[test]
    fn names_of_files_are_quoted() {
        assert_eq!(
            disposition("attachment", "a b\"ü.txt"),
            "attachment; filename=\"a b%22%C3%BC.txt\"; filename*=UTF-8''a%20b%22%C3%BC.txt"
        );
    }
}
