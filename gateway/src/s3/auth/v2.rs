//! AWS Signature Version 2, in a header and in presigned URLs. Old clients use it, and botocore still
//! presigns with it where no region says otherwise.
//!
//! It signs less than version 4 (neither the host nor most headers and parameters), so nothing here
//! relaxes what version 4 checks.

use super::super::dates;
use super::super::error::{Code, S3Error, S3Result};
use super::super::request::Head;
use super::super::router::subresources;
use super::payload::PayloadMode;
use super::{Authenticated, SKEW_SECS_MAX};
use crate::keyring::KeyRing;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ring::hmac::{HMAC_SHA1_FOR_LEGACY_USE_ONLY, Key, sign};
use std::collections::BTreeMap;
use subtle::ConstantTimeEq;

/// Parameters of the query that are part of the signed resource.
const SIGNED_PARAMETERS: [&str; 37] = [
    "accelerate",
    "acl",
    "analytics",
    "append",
    "cors",
    "defaultObjectAcl",
    "delete",
    "encryption",
    "inventory",
    "lifecycle",
    "location",
    "logging",
    "metrics",
    "notification",
    "object-lock",
    "partNumber",
    "policy",
    "position",
    "replication",
    "requestPayment",
    "response-cache-control",
    "response-content-disposition",
    "response-content-encoding",
    "response-content-language",
    "response-content-type",
    "response-expires",
    "restore",
    "select",
    "select-type",
    "tagging",
    "torrent",
    "uploadId",
    "uploads",
    "versionId",
    "versioning",
    "versions",
    "website",
];

/// Refuses operations whose name in the query is not signed: whoever holds a signature could make it one of another
/// operation.
fn check_signed(head: &Head) -> S3Result<()> {
    match subresources(head).find(|name| !SIGNED_PARAMETERS.contains(name)) {
        None => Ok(()),
        Some(name) => Err(Code::AccessDenied
            .with("Signature version 2 does not sign this parameter. Sign with version 4.")
            .detail("ParameterNotSigned", name)),
    }
}

/// Checks `Authorization: AWS AKID:SIGNATURE`.
pub(super) fn header(head: &Head, value: &str, keys: &dyn KeyRing) -> S3Result<Authenticated> {
    let malformed = || {
        S3Error::argument(
            "Authorization",
            value,
            "AWS authorization header is invalid. Expected AwsAccessKeyId:signature",
        )
    };
    let (access_key, signature) = value
        .strip_prefix("AWS ")
        .and_then(|rest| rest.trim().rsplit_once(':'))
        .ok_or_else(malformed)?;
    let given = head.header("x-amz-date")?.or(head.header("date")?).ok_or_else(|| {
        Code::AccessDenied.with("AWS authentication requires a valid Date or x-amz-date header")
    })?;
    let secs =
        dates::parse_http(given).or_else(|| dates::parse_compact(given)).ok_or_else(|| {
            Code::AccessDenied.with("AWS authentication requires a valid Date or x-amz-date header")
        })?;
    // Before the signature, as with version 4.
    if secs.abs_diff(head.now_ms / 1000) > SKEW_SECS_MAX {
        return Err(Code::RequestTimeTooSkewed.into());
    }
    // A date in x-amz-date is signed there.
    let date = match head.header("x-amz-date")? {
        Some(_) => "",
        None => given,
    };
    verify(head, keys, access_key, signature, date)
}

/// Checks `?AWSAccessKeyId=…&Expires=…&Signature=…`.
pub(super) fn presigned(head: &Head, keys: &dyn KeyRing) -> S3Result<Authenticated> {
    let required = |name: &str| {
        head.query.value(name).ok_or_else(|| {
            Code::AccessDenied.with(
                "Query-string authentication requires the Signature, Expires and AWSAccessKeyId parameters",
            )
        })
    };
    let expires = required("Expires")?;
    let expires_secs: u64 = expires
        .parse()
        .map_err(|_| Code::AccessDenied.with("Invalid date (should be seconds since epoch)"))?;
    if head.now_ms / 1000 > expires_secs {
        return Err(Code::AccessDenied
            .with("Request has expired")
            .detail("Expires", dates::iso(expires_secs.min(u64::from(u32::MAX)) * 1000))
            .detail("ServerTime", dates::iso(head.now_ms)));
    }
    verify(head, keys, required("AWSAccessKeyId")?, required("Signature")?, expires)
}

fn verify(
    head: &Head,
    keys: &dyn KeyRing,
    access_key: &str,
    signature: &str,
    date: &str,
) -> S3Result<Authenticated> {
    let user = super::user_of(head, keys, access_key)?;
    let to_sign = string_to_sign(head, date)?;
    let key = Key::new(HMAC_SHA1_FOR_LEGACY_USE_ONLY, user.secret.as_bytes());
    let expected = sign(&key, to_sign.as_bytes());
    let given = STANDARD.decode(signature.trim()).unwrap_or_default();
    if !bool::from(expected.as_ref().ct_eq(&given)) {
        return Err(Code::SignatureDoesNotMatch
            .with(Code::SignatureDoesNotMatch.message())
            .detail("AWSAccessKeyId", access_key)
            .detail("StringToSign", to_sign));
    }
    check_signed(head)?;
    Ok(Authenticated { user: Some(user), payload: PayloadMode::from_header(head, None)? })
}

fn string_to_sign(head: &Head, date: &str) -> S3Result<String> {
    // A presigned URL may carry these in the query.
    let named = |name: &str| -> S3Result<&str> {
        let parameter = head.query.pairs().find(|(n, _)| n.eq_ignore_ascii_case(name));
        let header = head.header(name)?;
        Ok(header.or_else(|| parameter.map(|(_, value)| value)).unwrap_or_default())
    };
    let mut text =
        format!("{}\n{}\n{}\n{date}\n", head.method, named("content-md5")?, named("content-type")?);
    let mut amz: BTreeMap<String, String> = BTreeMap::new();
    for (name, value) in &head.headers {
        let value = std::str::from_utf8(value.as_bytes()).map_err(|_| Code::AccessDenied)?.trim();
        add_amz(&mut amz, name.as_str(), value);
    }
    for (name, value) in head.query.pairs() {
        add_amz(&mut amz, &name.to_ascii_lowercase(), value);
    }
    amz.iter().for_each(|(name, value)| text.push_str(&format!("{name}:{value}\n")));
    push_resource(head, &mut text);
    Ok(text)
}

fn add_amz(amz: &mut BTreeMap<String, String>, name: &str, value: &str) {
    if name.starts_with("x-amz-") {
        amz.entry(name.to_owned())
            .and_modify(|before| {
                before.push(',');
                before.push_str(value);
            })
            .or_insert_with(|| value.to_owned());
    }
}

/// `/bucket/key?subresource`, with the path as it came.
fn push_resource(head: &Head, text: &mut String) {
    if let (true, Some(bucket)) = (head.target.by_host, &head.target.bucket) {
        text.push('/');
        text.push_str(bucket);
    }
    text.push_str(&head.raw_path);
    let mut signed: Vec<(&str, &str)> =
        head.query.pairs().filter(|(name, _)| SIGNED_PARAMETERS.contains(name)).collect();
    signed.sort_unstable();
    for (n, (name, value)) in signed.into_iter().enumerate() {
        text.push(if n == 0 { '?' } else { '&' });
        text.push_str(name);
        if !value.is_empty() {
            text.push('=');
            text.push_str(value);
        }
    }
}
