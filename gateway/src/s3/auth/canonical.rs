//! The canonical request and the string to sign.

use super::super::error::{Code, S3Result};
use super::super::request::Head;
use super::super::uri;
use super::Claim;
use std::fmt;

/// Bytes of a signature.
pub const SIGNATURE_BYTES: usize = 32;

/// A signature: HMAC-SHA256.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Signature(pub [u8; SIGNATURE_BYTES]);

impl Signature {
    /// Reads 64 hex digits.
    pub fn parse(text: &str) -> Option<Signature> {
        let mut bytes = [0; SIGNATURE_BYTES];
        hex::decode_to_slice(text, &mut bytes).ok()?;
        Some(Signature(bytes))
    }
}

impl fmt::Display for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

/// Where a signature is valid: `20130524/us-east-1/s3/aws4_request`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Scope<'a> {
    pub day: &'a str,
    pub region: &'a str,
    pub service: &'a str,
}

impl fmt::Display for Scope<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}/aws4_request", self.day, self.region, self.service)
    }
}

/// Longest region of a signature.
const REGION_BYTES_MAX: usize = 64;

/// Reads `AKID/20130524/us-east-1/s3/aws4_request`. The access key may hold slashes, and some clients know no
/// region; says what is wrong otherwise.
pub(super) fn parse_credential(text: &str) -> Result<(&str, Scope<'_>), &'static str> {
    let mut fields = text.rsplitn(5, '/');
    let mut next = || fields.next().unwrap_or("");
    let (terminator, service, region, day, access_key) = (next(), next(), next(), next(), next());
    if access_key.is_empty() {
        return Err(
            "the Credential is mal-formed; expecting \"<YOUR-AKID>/YYYYMMDD/REGION/SERVICE/aws4_request\".",
        );
    }
    if terminator != "aws4_request" {
        return Err("incorrect terminal; this endpoint uses \"aws4_request\".");
    }
    if day.len() != 8 || !day.bytes().all(|b| b.is_ascii_digit()) {
        return Err("incorrect date format; this date should be of the form YYYYMMDD.");
    }
    if region.len() > REGION_BYTES_MAX {
        return Err("the region is too long.");
    }
    Ok((access_key, Scope { day, region, service }))
}

/// Reads `host;range;x-amz-date`.
pub(super) fn parse_signed_headers(text: &str) -> Option<Vec<&str>> {
    const HEADERS_MAX: usize = 128;
    let names: Vec<&str> = text.split(';').collect();
    let fits = names.len() <= HEADERS_MAX
        && names
            .iter()
            .all(|name| !name.is_empty() && !name.bytes().any(|b| b.is_ascii_uppercase()));
    fits.then_some(names)
}

pub(super) fn canonical_request(head: &Head, claim: &Claim<'_>) -> S3Result<String> {
    let mut out = String::with_capacity(512);
    out.push_str(head.method.as_str());
    out.push('\n');
    // Keys are not normalised, and encoded once only.
    uri::encode(&uri::percent_decode(head.raw_path.as_bytes()), true, &mut out);
    out.push('\n');
    out.push_str(&head.query.canonical(claim.except));
    out.push('\n');
    for name in &claim.signed_headers {
        push_header(head, name, &mut out)?;
    }
    out.push('\n');
    out.push_str(&claim.signed_headers.join(";"));
    out.push('\n');
    out.push_str(claim.payload_hash);
    Ok(out)
}

fn push_header(head: &Head, name: &str, out: &mut String) -> S3Result<()> {
    out.push_str(name);
    out.push(':');
    let mut first = true;
    for value in head.headers.get_all(name) {
        if !first {
            out.push(',');
        }
        first = false;
        // Runs of spaces count as one. A header of other bytes than text is signed as Latin-1 by nobody.
        let text = std::str::from_utf8(value.as_bytes()).map_err(|_| Code::AccessDenied)?;
        let mut words = text.split(' ').filter(|word| !word.is_empty());
        if let Some(word) = words.next() {
            out.push_str(word.trim_start_matches('\t'));
        }
        for word in words {
            out.push(' ');
            out.push_str(word);
        }
    }
    // Behind some proxies the length is not told twice; a signed header that is absent counts as empty.
    out.push('\n');
    Ok(())
}

pub(super) fn string_to_sign(date: &str, scope: &Scope<'_>, request: &str) -> String {
    let digest = ring::digest::digest(&ring::digest::SHA256, request.as_bytes());
    format!("AWS4-HMAC-SHA256\n{date}\n{scope}\n{}", hex::encode(digest))
}
