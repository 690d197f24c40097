//! Who asks: AWS Signature Version 4 (and 2, for old clients), in a header or in the query.
//!
//! What is proven before the body is read: that the request's method, target, signed headers and the
//! announced hash of the body come from the holder of a key, and were signed a short while ago. The body
//! itself is checked while it streams (`payload`), and nothing becomes visible before that is done.
//!
//! A form is signed in its fields (`form`), which come with the body: its request counts as nobody's until
//! they are read. Requests without a signature are denied by the access rules, not here.

mod canonical;
pub mod form;
mod header;
mod keys;
pub mod payload;
mod presigned;
#[cfg(test)]
pub(crate) mod tests;
mod v2;

pub use canonical::{SIGNATURE_BYTES, Signature};
pub use keys::SigningKeys;

use super::error::{Code, S3Error, S3Result};
use super::request::Head;
use crate::keyring::{KeyRing, User};
use canonical::{Scope, canonical_request, string_to_sign};
use payload::{ChunkChain, PayloadMode};
use std::sync::Arc;
use subtle::ConstantTimeEq;

/// How far a request's date may be off.
pub const SKEW_SECS_MAX: u64 = 15 * 60;

/// Longest life of a presigned URL.
pub const EXPIRES_SECS_MAX: u64 = 7 * 24 * 3600;

/// A request whose signature was right, or that had none.
pub struct Authenticated {
    /// The user; `None` for anonymous.
    pub user: Option<Arc<User>>,
    /// What to check about the body.
    pub payload: PayloadMode,
}

/// What header and query forms have in common once they are parsed.
struct Claim<'a> {
    access_key: &'a str,
    scope: Scope<'a>,
    /// `20130524T000000Z`
    date: String,
    signed_headers: Vec<&'a str>,
    signature: Signature,
    /// Query parameter that is left out of the canonical query.
    except: &'static str,
    /// As the canonical request ends.
    payload_hash: &'a str,
}

/// Finds out who signed the request.
pub fn authenticate(
    head: &Head,
    keys: &dyn KeyRing,
    cache: &mut SigningKeys,
    services: &[&str],
) -> S3Result<Authenticated> {
    let authorization = head.header("authorization")?;
    if head.query.has("X-Amz-Signature") || head.query.has("X-Amz-Algorithm") {
        if authorization.is_some() {
            return Err(Code::InvalidArgument.with(
                "Only one auth mechanism allowed; only the X-Amz-Algorithm query parameter, Signature query string parameter or the Authorization header should be specified",
            ));
        }
        let claim = presigned::parse(head)?;
        presigned::check_time(head, &claim.date)?;
        return verify(head, &claim, keys, cache, services);
    }
    match authorization {
        None if is_version_2(head)? => v2::presigned(head, keys),
        None => Ok(Authenticated { user: None, payload: PayloadMode::from_header(head, None)? }),
        Some(value) if value.starts_with("AWS ") => v2::header(head, value, keys),
        Some(value) => {
            let claim = header::parse(head, value)?;
            verify(head, &claim, keys, cache, services)
        }
    }
}

/// Whether a request is signed with version 2, which leaves out most of the query and all of the body.
pub fn is_version_2(head: &Head) -> S3Result<bool> {
    Ok(match head.header("authorization")? {
        Some(value) => value.starts_with("AWS "),
        None if head.query.has("X-Amz-Signature") || head.query.has("X-Amz-Algorithm") => false,
        None => head.query.has("Signature") || head.query.has("AWSAccessKeyId"),
    })
}

fn verify(
    head: &Head,
    claim: &Claim<'_>,
    keys: &dyn KeyRing,
    cache: &mut SigningKeys,
    services: &[&str],
) -> S3Result<Authenticated> {
    if !services.contains(&claim.scope.service) {
        return Err(Code::AuthorizationHeaderMalformed.with(format!(
            "The authorization header is malformed; incorrect service \"{}\". This endpoint belongs to \"{}\".",
            claim.scope.service,
            services.first().copied().unwrap_or_default()
        )));
    }
    let user = user_of(head, keys, claim.access_key)?;
    // Before the signature: who sees that his clock is wrong knows what to mend.
    check_skew(head, claim)?;
    check_signed_headers(head, claim)?;
    let key = cache.key(claim.access_key, &user.secret, &claim.scope);
    let request = canonical_request(head, claim)?;
    let to_sign = string_to_sign(&claim.date, &claim.scope, &request);
    let expected = keys::sign(&key, to_sign.as_bytes());
    if !bool::from(expected.0.ct_eq(&claim.signature.0)) {
        return Err(Code::SignatureDoesNotMatch
            .with(Code::SignatureDoesNotMatch.message())
            .detail("AWSAccessKeyId", claim.access_key)
            .detail("StringToSign", to_sign)
            .detail("CanonicalRequest", request));
    }
    cache.keep(claim.access_key, &user.secret, &claim.scope, &key);
    let chain = ChunkChain::new(key, &claim.date, &claim.scope.to_string(), claim.signature);
    let payload = PayloadMode::from_header(head, Some(chain))?;
    Ok(Authenticated { user: Some(user), payload })
}

/// Makes of a request with a right signature in its query the one that was signed: its `x-amz-` parameters become
/// headers. Errors: `InvalidArgument` for what can be no header.
pub fn take_signed_headers(head: &mut Head) -> S3Result<()> {
    let in_query = head.query.has("X-Amz-Signature") || head.query.has("Signature");
    match in_query && !head.headers.contains_key("authorization") {
        true => presigned::take_headers(head),
        false => Ok(()),
    }
}

/// The user of an access key. Credentials for a while come with their token, others without one.
fn user_of(head: &Head, keys: &dyn KeyRing, access_key: &str) -> S3Result<Arc<User>> {
    let user = keys.user(access_key).ok_or_else(|| {
        S3Error::from(Code::InvalidAccessKeyId).detail("AWSAccessKeyId", access_key)
    })?;
    match user.is_session() == security_token(head)?.is_some() {
        true => Ok(user),
        false => Err(Code::InvalidToken.into()),
    }
}

/// The token of credentials for a while.
fn security_token(head: &Head) -> S3Result<Option<&str>> {
    const NAME: &str = "x-amz-security-token";
    let parameter = || head.query.pairs().find(|(name, _)| name.eq_ignore_ascii_case(NAME));
    Ok(head.header(NAME)?.or_else(|| parameter().map(|(_, token)| token)))
}

/// Who somebody says he is, before anything of it is proven.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Claimed<'a> {
    /// The access key.
    pub access_key: &'a str,
    /// The token of credentials for a while.
    pub token: Option<&'a str>,
}

/// The access key that a request names, if it has the form of a signed one.
pub fn claimed(head: &Head) -> S3Result<Option<Claimed<'_>>> {
    let of_credential = |text| canonical::parse_credential(text).ok().map(|(key, _)| key);
    let access_key = match head.header("authorization")? {
        Some(value) => match value.strip_prefix("AWS ") {
            Some(old) => old.trim().rsplit_once(':').map(|(key, _)| key),
            None => value
                .split_once("Credential=")
                .map(|(_, rest)| rest.split_once(',').map_or(rest, |(credential, _)| credential))
                .and_then(|credential| of_credential(credential.trim())),
        },
        None => head
            .query
            .value("X-Amz-Credential")
            .and_then(of_credential)
            .or_else(|| head.query.value("AWSAccessKeyId")),
    };
    let Some(access_key) = access_key else { return Ok(None) };
    Ok(Some(Claimed { access_key, token: security_token(head)? }))
}

/// The host and every `x-amz-` header must be signed: an unsigned one could be added by anybody between.
fn check_signed_headers(head: &Head, claim: &Claim<'_>) -> S3Result<()> {
    let signed = |name: &str| claim.signed_headers.contains(&name);
    let mut missing: Vec<&str> = head
        .headers
        .keys()
        .map(http::HeaderName::as_str)
        .filter(|name| name.starts_with("x-amz-") && *name != "x-amz-content-sha256")
        .filter(|name| !signed(name))
        .collect();
    if !signed("host") && !signed(":authority") {
        missing.push("host");
    }
    match missing.is_empty() {
        true => Ok(()),
        false => Err(Code::AccessDenied
            .with("There were headers present in the request which were not signed")
            .detail("HeadersNotSigned", missing.join(", "))),
    }
}

fn check_skew(head: &Head, claim: &Claim<'_>) -> S3Result<()> {
    // A presigned URL has its own life time.
    if claim.except == presigned::SIGNATURE_PARAMETER {
        return Ok(());
    }
    let signed_secs = super::dates::parse_compact(&claim.date).ok_or(Code::AccessDenied)?;
    if signed_secs.abs_diff(head.now_ms / 1000) > SKEW_SECS_MAX {
        return Err(Code::RequestTimeTooSkewed
            .with(Code::RequestTimeTooSkewed.message())
            .detail("RequestTime", claim.date.clone())
            .detail("ServerTime", super::dates::iso(head.now_ms))
            .detail("MaxAllowedSkewMilliseconds", (SKEW_SECS_MAX * 1000).to_string()));
    }
    Ok(())
}
