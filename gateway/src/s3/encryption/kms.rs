//! Named keys (SSE-KMS) as S3 speaks of them: how a key is named, what it is bound to, and what answers say.
//!
//! A key is named by its id, by `alias/ID`, or by `arn:aws:kms:REGION:ACCOUNT:key/ID` or `…:alias/ID`. There are no
//! aliases besides ids, and keys belong to no account. An answer names a key as AWS does, by its ARN, if the request did;
//! else by its id.

use super::super::error::{Code, S3Error, S3Result};
use super::super::request::Head;
use super::super::response;
use super::super::{Call, Service};
use crate::crypt::keys::NamedKey;
use crate::crypt::kms::{KmsError, Sources};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::HeaderMap;
use std::collections::BTreeMap;
use store_base::bucket::{KMS_KEY_DEFAULT, KmsGrip, is_kms_id};

/// The value of `x-amz-server-side-encryption` for a named key.
pub(super) const METHOD: &str = "aws:kms";

/// And for a named key and a second layer, which is not there.
pub(super) const TWO_LAYERS: &str = "aws:kms:dsse";

/// Whether named keys go with this.
pub(super) fn is_method(value: &str) -> bool {
    [METHOD, TWO_LAYERS].contains(&value)
}

pub(super) const METHOD_NEEDED: &str = "Server Side Encryption with AWS KMS managed key requires HTTP header x-amz-server-side-encryption : aws:kms";

/// The header that names a key.
pub const KEY: &str = "x-amz-server-side-encryption-aws-kms-key-id";
const CONTEXT: &str = "x-amz-server-side-encryption-context";
const BUCKET_KEY: &str = "x-amz-server-side-encryption-bucket-key-enabled";

/// Most bytes of a context, as JSON.
const CONTEXT_BYTES_MAX: usize = 4096;

pub(super) fn no_two_layers() -> S3Error {
    Code::NotImplemented
        .with("Two layers of encryption (aws:kms:dsse) are not supported; use aws:kms or AES256.")
}

/// What a write asks for of a named key.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Asked {
    /// Which, as the client says it; the default key if it names none.
    pub key: Option<String>,
    /// What the key of the body is bound to.
    pub context: BTreeMap<String, String>,
    /// Whether a key of the bucket is wished for. Here it changes nothing: no call leaves the cluster anyway.
    pub bucket_key: bool,
}

impl Asked {
    pub(super) fn of_headers(call: &Call) -> S3Result<Asked> {
        let key = call.head.header(KEY)?.map(str::trim).filter(|key| !key.is_empty());
        let context = call.head.header(CONTEXT)?.map(parse_context).transpose()?;
        Ok(Asked {
            key: key.map(str::to_owned),
            context: context.unwrap_or_default(),
            bucket_key: bucket_key(call)?.unwrap_or_default(),
        })
    }
}

/// Whether a request has headers that go with `aws:kms` only.
pub(super) fn has_headers(call: &Call) -> bool {
    [KEY, CONTEXT].iter().any(|name| call.head.headers.contains_key(*name))
}

/// What a request says of keys of buckets.
pub(super) fn bucket_key(call: &Call) -> S3Result<Option<bool>> {
    let Some(flag) = call.head.header(BUCKET_KEY)? else { return Ok(None) };
    match flag.trim().to_ascii_lowercase().parse() {
        Ok(flag) => Ok(Some(flag)),
        Err(_) => Err(S3Error::argument(BUCKET_KEY, flag, "The value must be true or false.")),
    }
}

/// Base64 of a JSON object of strings.
fn parse_context(text: &str) -> S3Result<BTreeMap<String, String>> {
    let invalid = |why: &str| S3Error::argument(CONTEXT, "", why);
    let json = STANDARD
        .decode(text.trim())
        .map_err(|_| invalid("The encryption context must be base64."))?;
    if json.len() > CONTEXT_BYTES_MAX {
        return Err(invalid("The encryption context must not exceed 4096 bytes."));
    }
    serde_json::from_slice(&json).map_err(|_| {
        invalid("The encryption context must be a JSON object whose values are strings.")
    })
}

/// How a client names a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyName {
    /// The key's id.
    pub id: String,
    /// What answers call it, if not by the id.
    pub shown: String,
}

impl KeyName {
    /// Reads an id, an alias or an ARN. Errors: `KMS.NotFoundException` for what names no key of this region.
    pub fn parse(text: &str, region: &str) -> S3Result<KeyName> {
        let (id, prefix) = parts(text).ok_or_else(|| {
            Code::KmsNotFound.with(format!(
                "Invalid keyId {text:?}: it must be an id, alias/ID or an ARN of either"
            ))
        })?;
        let shown = match prefix {
            None => String::new(),
            Some((prefix, of_region)) => {
                if !of_region.is_empty() && of_region != region {
                    return Err(Code::KmsNotFound.with(format!("Invalid arn {of_region}")));
                }
                format!("{prefix}key/{id}")
            }
        };
        Ok(KeyName { id: id.to_owned(), shown })
    }
}

/// The id in a name of a key; of an ARN also what is before the kind of resource, and the region.
fn parts(text: &str) -> Option<(&str, Option<(&str, &str)>)> {
    if !text.starts_with("arn:") {
        let id = text.strip_prefix("alias/").unwrap_or(text);
        return is_kms_id(id).then_some((id, None));
    }
    let fields: Vec<&str> = text.splitn(6, ':').collect();
    let [_, _, "kms", region, _, resource] = fields[..] else { return None };
    // It is told again in a header.
    let told = text.bytes().all(|byte| byte.is_ascii_graphic());
    let id = resource.strip_prefix("key/").or_else(|| resource.strip_prefix("alias/"))?;
    let prefix = &text[..text.len() - resource.len()];
    (told && is_kms_id(id)).then_some((id, Some((prefix, region))))
}

/// The id of the key that is named so, in whichever form and region.
pub fn id_in(text: &str) -> Option<&str> {
    parts(text).map(|(id, _)| id)
}

/// The names of the key in a request, for policies: as it is given, and its id, so that no other form of a name passes
/// over a rule about the id.
pub fn names_in(head: &Head) -> Vec<String> {
    let Ok(Some(given)) = head.header(KEY) else { return Vec::new() };
    let id = id_in(given.trim()).filter(|id| *id != given);
    [Some(given), id].into_iter().flatten().map(str::to_owned).collect()
}

fn sources(service: &Service) -> Sources<'_> {
    Sources { catalogue: &*service.catalogue, ring: &service.ring, secrets: &*service.keys }
}

/// The key for a new body, and what is kept of it. Errors: `KMS.NotFoundException`, `KMS.DisabledException`,
/// `KMS.KMSInvalidStateException` of a key that is to be deleted.
pub(super) async fn newest(service: &Service, asked: &Asked) -> S3Result<(KmsGrip, NamedKey)> {
    let text = asked.key.as_deref().unwrap_or(KMS_KEY_DEFAULT);
    let KeyName { id, shown } = KeyName::parse(text, &service.settings.region)?;
    let (context, bucket_key) = (asked.context.clone(), asked.bucket_key);
    let grip = KmsGrip { key: id, shown, context, bucket_key, ..KmsGrip::default() };
    let name = grip.key.clone();
    service.kms.newest(sources(service), grip).await.map_err(|error| said(error, &name))
}

/// The key that opens that of a body. Errors as of [`newest`].
pub(super) async fn of_grip(service: &Service, grip: &KmsGrip) -> S3Result<NamedKey> {
    service.kms.of_grip(sources(service), grip).await.map_err(|error| said(error, &grip.key))
}

fn said(error: KmsError, id: &str) -> S3Error {
    match error {
        KmsError::Missing => Code::KmsNotFound.with(format!("Key '{id}' does not exist")),
        KmsError::Disabled => Code::KmsDisabled.with(format!("Key '{id}' is disabled.")),
        KmsError::Leaving => Code::KmsInvalidState.with(format!("Key '{id}' is pending deletion.")),
        KmsError::Catalogue(error) => error.into(),
    }
}

/// Says in an answer which key it is.
pub(super) fn set_headers(headers: &mut HeaderMap, grip: &KmsGrip) {
    let shown = if grip.shown.is_empty() { &grip.key } else { &grip.shown };
    response::set(headers, KEY, shown);
    if grip.bucket_key {
        response::set(headers, BUCKET_KEY, "true");
    }
}

/// Says in an answer what the key is bound to.
pub(super) fn set_context(headers: &mut HeaderMap, grip: &KmsGrip) {
    if !grip.context.is_empty() {
        let json = serde_json::to_vec(&grip.context).unwrap_or_default();
        response::set(headers, CONTEXT, &STANDARD.encode(json));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::s3::auth::tests::head;

    #[test]
    fn keys_are_named_in_four_ways() {
        let name = |text: &str| {
            KeyName::parse(text, "r1").map(|name| (name.id, name.shown)).map_err(|e| e.code)
        };
        let pair = |id: &str, shown: &str| Ok((id.to_owned(), shown.to_owned()));
        assert_eq!(name("testkey-1"), pair("testkey-1", ""));
        assert_eq!(name("alias/testkey-1"), pair("testkey-1", ""));
        assert_eq!(name("alias/aws/s3"), pair("aws/s3", ""));
        let arn = "arn:aws:kms:r1:123456789012:key/k";
        assert_eq!(name(arn), pair("k", arn));
        assert_eq!(name("arn:aws:kms:r1:123456789012:alias/k"), pair("k", arn));
        assert_eq!(name("arn:aws:kms:::key/k"), pair("k", "arn:aws:kms:::key/k"));
        for bad in [
            "",
            "a b",
            "alias/",
            "key/k",
            "arn:aws:kms:r2:1:key/k",
            "arn:aws:s3:r1:1:key/k",
            "arn:aws:kms:r1:1:k",
            "arn:aws:kms:r1:1:key/a/b",
            "arn:aws:kms",
            "arn:aws:kms:r1:ä:key/k",
        ] {
            assert_eq!(name(bad), Err(Code::KmsNotFound), "{bad}");
        }
    }

    #[test]
    fn a_context_is_strings_by_name() {
        let parse = |json: &str| parse_context(&STANDARD.encode(json)).map_err(|e| e.code);
        assert_eq!(parse("{}"), Ok(BTreeMap::new()));
        let pairs = parse(r#"{"b":"2","a":"1"}"#).unwrap();
        assert_eq!(pairs.into_iter().map(|(n, v)| n + &v).collect::<Vec<_>>(), ["a1", "b2"]);
        let long = format!(r#"{{"a":"{}"}}"#, "x".repeat(CONTEXT_BYTES_MAX));
        for bad in ["", "[]", r#"{"a":1}"#, r#"{"a":{}}"#, "{", &long] {
            assert_eq!(parse(bad), Err(Code::InvalidArgument), "{bad:.20}");
        }
        assert_eq!(parse_context("{}").unwrap_err().code, Code::InvalidArgument);
    }

    #[test]
    fn policies_see_the_id_behind_every_form() {
        let names = |value: &str| names_in(&head("PUT", "/b/k", &[(KEY, value)]));
        assert_eq!(names("k"), ["k"]);
        assert_eq!(names("alias/k"), ["alias/k", "k"]);
        let arn = "arn:aws:kms:r1:1:key/k";
        assert_eq!(names(arn), [arn, "k"]);
        assert_eq!(names("?"), ["?"]);
    }
}
