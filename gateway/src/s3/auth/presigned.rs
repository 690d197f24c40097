//! Presigned URLs: the signature in the query.

use super::super::dates;
use super::super::error::{Code, S3Error, S3Result};
use super::super::request::Head;
use super::canonical::{Signature, parse_credential, parse_signed_headers};
use super::{Claim, EXPIRES_SECS_MAX, SKEW_SECS_MAX};
use http::{HeaderName, HeaderValue};

pub(super) const SIGNATURE_PARAMETER: &str = "X-Amz-Signature";

fn malformed(what: impl std::fmt::Display) -> S3Error {
    Code::AuthorizationQueryParametersError.with(what.to_string())
}

pub(super) fn parse(head: &Head) -> S3Result<Claim<'_>> {
    let required = |name: &str| {
        head.query.value(name).ok_or_else(|| {
            malformed("Query-string authentication version 4 requires the X-Amz-Algorithm, X-Amz-Credential, X-Amz-Signature, X-Amz-Date, X-Amz-SignedHeaders, and X-Amz-Expires parameters.")
        })
    };
    if required("X-Amz-Algorithm")? != "AWS4-HMAC-SHA256" {
        return Err(malformed("X-Amz-Algorithm only supports \"AWS4-HMAC-SHA256\""));
    }
    let (access_key, scope) = parse_credential(required("X-Amz-Credential")?).map_err(|what| {
        malformed(format!("Error parsing the X-Amz-Credential parameter; {what}"))
    })?;
    let date = required("X-Amz-Date")?;
    if dates::parse_compact(date).is_none() {
        return Err(malformed(
            "X-Amz-Date must be in the ISO8601 Long Format \"yyyyMMdd'T'HHmmss'Z'\"",
        ));
    }
    if !date.starts_with(scope.day) {
        return Err(malformed(format!(
            "Invalid credential date \"{}\". This date is not the same as X-Amz-Date: \"{}\".",
            scope.day,
            &date[..8]
        )));
    }
    expires_secs(required("X-Amz-Expires")?)?;
    let signed_headers = parse_signed_headers(required("X-Amz-SignedHeaders")?)
        .ok_or_else(|| malformed("X-Amz-SignedHeaders is not valid."))?;
    let signature =
        Signature::parse(required(SIGNATURE_PARAMETER)?).ok_or(Code::SignatureDoesNotMatch)?;
    // The hash may be given in the query or in a header; it is unsigned otherwise.
    let payload_hash = match head.query.value("X-Amz-Content-Sha256") {
        Some(hash) => hash,
        None => head.header("x-amz-content-sha256")?.unwrap_or("UNSIGNED-PAYLOAD"),
    };
    Ok(Claim {
        access_key,
        scope,
        date: date.to_owned(),
        signed_headers,
        signature,
        except: SIGNATURE_PARAMETER,
        payload_hash,
    })
}

fn expires_secs(text: &str) -> S3Result<u64> {
    let secs: i64 = text.parse().map_err(|_| malformed("X-Amz-Expires should be a number"))?;
    match u64::try_from(secs) {
        // Whoever was given such a URL can do nothing about it: he is denied, as with Ceph's gateway.
        Err(_) => Err(Code::AccessDenied.with("X-Amz-Expires must be non-negative")),
        Ok(secs) if secs > EXPIRES_SECS_MAX => Err(Code::AccessDenied.with(
            "X-Amz-Expires must be less than a week (in seconds); that is, the given X-Amz-Expires must be less than 604800 seconds",
        )),
        Ok(secs) => Ok(secs),
    }
}

/// Parameters that are no headers: those of the signature, and what is said of a body that nobody had when the URL
/// was signed. AWS does not look at checksums there either, and SDKs put that of an empty body.
fn is_no_header(name: &str) -> bool {
    const NAMES: [&str; 10] = [
        "x-amz-algorithm",
        "x-amz-content-sha256",
        "x-amz-credential",
        "x-amz-date",
        "x-amz-decoded-content-length",
        "x-amz-expires",
        "x-amz-security-token",
        "x-amz-signature",
        "x-amz-signedheaders",
        "x-amz-trailer",
    ];
    NAMES.contains(&name)
        || name.starts_with("x-amz-checksum-")
        || name.starts_with("x-amz-sdk-checksum-")
}

/// Makes headers of the `x-amz-` parameters of a presigned URL whose signature was right: signers put the headers of
/// a request there, and what they ask for is to be done. A header of the same name is signed too, and holds.
pub(super) fn take_headers(head: &mut Head) -> S3Result<()> {
    let mut taken: Vec<(HeaderName, HeaderValue)> = Vec::new();
    for (parameter, value) in head.query.pairs() {
        let name = parameter.to_ascii_lowercase();
        if !name.starts_with("x-amz-") || is_no_header(&name) || head.headers.contains_key(&name) {
            continue;
        }
        let wrong = || S3Error::argument(parameter, value, "The parameter is no header.");
        let header = HeaderName::from_bytes(name.as_bytes()).map_err(|_| wrong())?;
        if taken.iter().any(|(other, _)| *other == header) {
            return Err(S3Error::argument(parameter, value, "The parameter comes twice."));
        }
        taken.push((header, HeaderValue::from_bytes(value.as_bytes()).map_err(|_| wrong())?));
    }
    head.headers.extend(taken);
    Ok(())
}

/// Whether the URL is valid now.
pub(super) fn check_time(head: &Head, date: &str) -> S3Result<()> {
    let signed = dates::parse_compact(date).ok_or(Code::AccessDenied)?;
    let expires = expires_secs(head.query.value("X-Amz-Expires").unwrap_or_default())?;
    let now = head.now_ms / 1000;
    if signed > now + SKEW_SECS_MAX {
        return Err(Code::AccessDenied.with("Request is not valid yet"));
    }
    // A life of no time at all is over at once.
    if now > signed.saturating_add(expires) || expires == 0 {
        return Err(Code::AccessDenied
            .with("Request has expired")
            .detail("X-Amz-Expires", expires.to_string())
            .detail("Expires", dates::iso(signed.saturating_add(expires) * 1000))
            .detail("ServerTime", dates::iso(head.now_ms)));
    }
    Ok(())
}
