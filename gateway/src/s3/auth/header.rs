//! The `Authorization` header.

use super::super::dates;
use super::super::error::{Code, S3Error, S3Result};
use super::super::request::Head;
use super::Claim;
use super::canonical::{Signature, parse_credential, parse_signed_headers};

fn malformed(what: &str) -> S3Error {
    Code::AuthorizationHeaderMalformed
        .with(format!("The authorization header is malformed; {what}"))
}

pub(super) fn parse<'a>(head: &'a Head, value: &'a str) -> S3Result<Claim<'a>> {
    let fields = value.strip_prefix("AWS4-HMAC-SHA256").ok_or_else(|| {
        S3Error::argument("Authorization", value, "Unsupported Authorization Type")
    })?;
    let (mut credential, mut signed_headers, mut signature) = (None, None, None);
    for field in fields.split(',') {
        let (name, value) = field
            .trim()
            .split_once('=')
            .ok_or_else(|| malformed("the authorization header requires three components: Credential, SignedHeaders, and Signature."))?;
        let slot = match name {
            "Credential" => &mut credential,
            "SignedHeaders" => &mut signed_headers,
            "Signature" => &mut signature,
            _ => continue,
        };
        if slot.replace(value).is_some() {
            return Err(malformed("a component is given twice."));
        }
    }
    let credential = credential.ok_or_else(|| malformed("missing Credential."))?;
    let (access_key, scope) = parse_credential(credential).map_err(malformed)?;
    let signed_headers = signed_headers
        .and_then(parse_signed_headers)
        .ok_or_else(|| malformed("missing or invalid SignedHeaders."))?;
    let signature = signature
        .and_then(Signature::parse)
        .ok_or_else(|| malformed("missing or invalid Signature."))?;
    let date = request_date(head)?;
    if !date.starts_with(scope.day) {
        return Err(malformed(&format!(
            "Invalid credential date \"{}\". This date is not the same as X-Amz-Date: \"{}\".",
            scope.day,
            &date[..8]
        )));
    }
    let payload_hash = head.header("x-amz-content-sha256")?.ok_or_else(|| {
        Code::InvalidRequest.with("Missing required header for this request: x-amz-content-sha256")
    })?;
    Ok(Claim { access_key, scope, date, signed_headers, signature, except: "", payload_hash })
}

/// `x-amz-date`, else `Date`, in the compact form.
fn request_date(head: &Head) -> S3Result<String> {
    let denied =
        || Code::AccessDenied.with("AWS authentication requires a valid Date or x-amz-date header");
    let secs = match (head.header("x-amz-date")?, head.header("date")?) {
        (Some(text), _) => dates::parse_compact(text).or_else(|| dates::parse_http(text)),
        (None, Some(text)) => dates::parse_http(text).or_else(|| dates::parse_compact(text)),
        (None, None) => None,
    };
    secs.map(|secs| dates::compact(secs * 1000)).ok_or_else(denied)
}
