//! Encryption as S3 speaks of it: what the headers of a request ask for, what a bucket has by default, and the
//! key of a body that is written or read.
//!
//! `x-amz-server-side-encryption: AES256` (SSE-S3) is a key of the cluster, `-customer-…` (SSE-C) one that the
//! client brings with each request and nobody keeps. Keys of a key management service (`aws:kms`) are not there.

use super::access::rules::Rules;
use super::error::{Code, S3Error, S3Result};
use super::response;
use super::xml::Element;
use super::{Call, Service};
use crate::catalogue::Bucket;
use crate::crypt::keys::{CustomerKey, DataKey, KEY_BYTES, Wrapping};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::HeaderMap;
use std::rc::Rc;
use store_base::bucket::{BucketId, Detail, Encryption, KeyHolder, Upload, WriteId};
use store_shell::clock;
use subtle::ConstantTimeEq;

const MANAGED: &str = "x-amz-server-side-encryption";
const KMS_KEY: &str = "x-amz-server-side-encryption-aws-kms-key-id";
const KMS_CONTEXT: &str = "x-amz-server-side-encryption-context";
const BUCKET_KEY: &str = "x-amz-server-side-encryption-bucket-key-enabled";
const ALGORITHM: &str = "x-amz-server-side-encryption-customer-algorithm";
const KEY_MD5: &str = "x-amz-server-side-encryption-customer-key-md5";

/// The three headers of a client's key: algorithm, key, MD5 of the key.
type Names = [&'static str; 3];

const OF_REQUEST: Names = [ALGORITHM, "x-amz-server-side-encryption-customer-key", KEY_MD5];

const OF_SOURCE: Names = [
    "x-amz-copy-source-server-side-encryption-customer-algorithm",
    "x-amz-copy-source-server-side-encryption-customer-key",
    "x-amz-copy-source-server-side-encryption-customer-key-md5",
];

/// The only algorithm there is.
const AES256: &str = "AES256";

fn no_kms() -> S3Error {
    Code::NotImplemented.with(
        "Keys of a key management service (aws:kms) are not supported; use AES256 or a key of your own.",
    )
}

/// Reads a `ServerSideEncryptionConfiguration`: whether what names no encryption is encrypted.
pub fn parse_default(document: &[u8]) -> S3Result<bool> {
    let root = Element::parse(document, "ServerSideEncryptionConfiguration")?;
    let mut rules = root.all("Rule");
    let (Some(rule), None) = (rules.next(), rules.next()) else {
        return Err(Code::MalformedXML.into());
    };
    if rule.all("BlockedEncryptionTypes").next().is_some() {
        return Err(Code::NotImplemented.with("BlockedEncryptionTypes is not supported."));
    }
    let by_default =
        rule.all("ApplyServerSideEncryptionByDefault").next().ok_or(Code::MalformedXML)?;
    let master_key = by_default.child_text("KMSMasterKeyID")?;
    match (by_default.required_text("SSEAlgorithm")?.trim(), master_key) {
        (AES256, None) => Ok(true),
        (AES256, Some(_)) => Err(S3Error::argument(
            "ApplyServerSideEncryptionByDefault",
            "",
            "a KMSMasterKeyID is not applicable if the default sse algorithm is not aws:kms or aws:kms:dsse",
        )),
        ("aws:kms" | "aws:kms:dsse", _) => Err(no_kms()),
        _ => Err(Code::MalformedXML.into()),
    }
}

/// The key that a client brings in these headers.
fn customer_key(call: &Call, names: Names) -> S3Result<Option<CustomerKey>> {
    let [algorithm, key, md5] = names;
    let head = &call.head;
    let values = (head.header(algorithm)?, head.header(key)?, head.header(md5)?);
    let missing = |what: &str| {
        S3Error::argument(
            what,
            "",
            "Requests specifying Server Side Encryption with Customer provided keys must provide an appropriate algorithm, secret key and MD5 of the key.",
        )
    };
    let (given, encoded, digest) = match values {
        (None, None, None) => return Ok(None),
        (Some(given), Some(encoded), Some(digest)) => (given, encoded, digest),
        (None, ..) => return Err(missing(algorithm)),
        (_, None, _) => return Err(missing(key)),
        (_, _, None) => return Err(missing(md5)),
    };
    if given != AES256 {
        return Err(Code::InvalidEncryptionAlgorithmError
            .with(Code::InvalidEncryptionAlgorithmError.message())
            .detail("ArgumentName", algorithm)
            .detail("ArgumentValue", given));
    }
    if call.service.settings.customer_keys_need_tls && !head.peer.secure {
        return Err(Code::InvalidRequest.with("Requests specifying Server Side Encryption with Customer provided keys must be made over a secure connection."));
    }
    // The key itself is told to nobody, so it is not in the error.
    let invalid = |message: &str| S3Error::argument(key, "", message);
    let bytes = STANDARD.decode(encoded.trim()).ok();
    let bytes = bytes.and_then(|bytes| <[u8; KEY_BYTES]>::try_from(bytes).ok());
    let bytes =
        bytes.ok_or_else(|| invalid("The secret key was invalid for the specified algorithm."))?;
    let key = CustomerKey::new(bytes);
    let digest = STANDARD.decode(digest.trim()).unwrap_or_default();
    match bool::from(key.md5().ct_eq(&digest)) {
        true => Ok(Some(key)),
        false => Err(invalid(
            "The calculated MD5 hash of the key did not match the hash that was provided.",
        )),
    }
}

/// What a write asks for.
pub enum Wanted {
    /// Nothing, and the bucket has nothing by default.
    Plain,
    /// A key of the cluster.
    Cluster,
    /// The client's.
    Customer(CustomerKey),
}

impl Wanted {
    /// By its headers, else by the bucket's default. Errors: `InvalidArgument`, `NotImplemented` for a key
    /// management service.
    pub fn of_write(call: &Call, bucket: &Rc<Bucket>) -> S3Result<Wanted> {
        match Self::of_headers(call)? {
            Wanted::Plain => Ok(Self::by_default(&*call.service.rules.rules(bucket)?)),
            wanted => Ok(wanted),
        }
    }

    /// As the bucket has it by default.
    pub fn by_default(rules: &Rules) -> Wanted {
        if rules.encrypted { Wanted::Cluster } else { Wanted::Plain }
    }

    /// By the headers alone.
    pub fn of_headers(call: &Call) -> S3Result<Wanted> {
        let head = &call.head;
        let managed = head.header(MANAGED)?;
        let kms = head.header(KMS_KEY)?.or(head.header(KMS_CONTEXT)?);
        let customer = OF_REQUEST.iter().any(|name| head.headers.contains_key(*name));
        let invalid =
            |name: &str, value: &str, message: &str| Err(S3Error::argument(name, value, message));
        match managed {
            Some(value) if customer => invalid(
                MANAGED,
                value,
                "Server Side Encryption with Customer provided key is incompatible with the encryption method specified",
            ),
            Some(value) if value == AES256 && kms.is_some() => invalid(
                MANAGED,
                value,
                "Server Side Encryption with AWS KMS managed key requires HTTP header x-amz-server-side-encryption : aws:kms",
            ),
            Some(AES256) if head.header(BUCKET_KEY)?.is_some_and(|v| v == "true") => Err(no_kms()),
            Some(AES256) => Ok(Wanted::Cluster),
            Some("aws:kms" | "aws:kms:dsse") => Err(no_kms()),
            Some(value) => {
                invalid(MANAGED, value, "The encryption method specified is not supported")
            }
            None if kms.is_some() => invalid(
                MANAGED,
                "",
                "Server Side Encryption with AWS KMS managed key requires HTTP header x-amz-server-side-encryption : aws:kms",
            ),
            None => Ok(match customer_key(call, OF_REQUEST)? {
                Some(key) => Wanted::Customer(key),
                None => Wanted::Plain,
            }),
        }
    }

    /// Whether the request itself asks for encryption.
    pub fn is_asked_for(call: &Call) -> bool {
        call.head.headers.contains_key(MANAGED) || call.head.headers.contains_key(ALGORITHM)
    }

    /// Makes the key of a new body, and what is kept of it.
    pub async fn begin(
        &self,
        service: &Service,
        bucket: BucketId,
    ) -> S3Result<Option<(DataKey, Encryption)>> {
        let (key, id) = (DataKey::random(), WriteId(clock::random()));
        let (holder, wrapped_key) = match self {
            Wanted::Plain => return Ok(None),
            Wanted::Cluster => {
                let (version, wrapping) =
                    service.ring.newest(&*service.catalogue, &*service.keys).await?;
                (KeyHolder::Cluster { version }, wrapping.wrap(&key, &id, bucket))
            }
            Wanted::Customer(wrapping) => {
                (KeyHolder::Customer {}, wrapping.wrap(&key, &id, bucket))
            }
        };
        Ok(Some((key, Encryption { holder, id, wrapped_key })))
    }
}

fn damaged() -> S3Error {
    tracing::error!("the key of an encrypted body does not open");
    Code::InternalError.into()
}

async fn unwrapped(
    call: &Call,
    bucket: BucketId,
    encryption: &Encryption,
    customer: Option<CustomerKey>,
) -> S3Result<DataKey> {
    let Encryption { holder, id, wrapped_key } = encryption;
    match (holder, customer) {
        (KeyHolder::Cluster { .. }, Some(_)) => Err(not_applicable()),
        (KeyHolder::Cluster { version }, None) => {
            let service = &call.service;
            let ring = &service.ring;
            let key = ring.version(&*service.catalogue, &*service.keys, *version).await?;
            key.unwrap_key(wrapped_key, id, bucket).ok_or_else(damaged)
        }
        (KeyHolder::Customer {}, None) => Err(Code::InvalidRequest.with("The object was stored using a form of Server Side Encryption. The correct parameters must be provided to retrieve the object.")),
        (KeyHolder::Customer {}, Some(key)) => {
            key.unwrap_key(wrapped_key, id, bucket).ok_or_else(|| {
                Code::InvalidRequest.with("The provided encryption key does not match the one that the object was stored with.")
            })
        }
    }
}

fn not_applicable() -> S3Error {
    Code::InvalidRequest.with("The encryption parameters are not applicable to this object.")
}

/// The key of an object that is read; `None` if it is not encrypted. Errors: `InvalidRequest` if the client's
/// key is needed and is not there, or is there and is not the right one or not needed.
pub async fn of_object(call: &Call, bucket: &Bucket, detail: &Detail) -> S3Result<Option<DataKey>> {
    if call.head.headers.contains_key(MANAGED) && is_read(call) {
        return Err(S3Error::argument(
            MANAGED,
            "",
            "x-amz-server-side-encryption header is not supported for this operation.",
        ));
    }
    opened(call, bucket, detail, customer_key(call, OF_REQUEST)?).await
}

fn is_read(call: &Call) -> bool {
    call.head.method == http::Method::GET || call.head.method == http::Method::HEAD
}

/// The same, of the source of a copy.
pub async fn of_source(call: &Call, bucket: &Bucket, detail: &Detail) -> S3Result<Option<DataKey>> {
    opened(call, bucket, detail, customer_key(call, OF_SOURCE)?).await
}

async fn opened(
    call: &Call,
    bucket: &Bucket,
    detail: &Detail,
    customer: Option<CustomerKey>,
) -> S3Result<Option<DataKey>> {
    match (&detail.encryption, customer) {
        (None, None) => Ok(None),
        (None, Some(_)) => Err(not_applicable()),
        (Some(encryption), customer) => {
            unwrapped(call, bucket.id, encryption, customer).await.map(Some)
        }
    }
}

/// The key of the parts of an upload, with the id that it was wrapped under.
pub async fn of_upload(
    call: &Call,
    bucket: &Bucket,
    upload: &Upload,
) -> S3Result<Option<(DataKey, WriteId)>> {
    let customer = customer_key(call, OF_REQUEST)?;
    match (&upload.encryption, customer) {
        (None, None) => Ok(None),
        (None, Some(_)) => Err(Code::InvalidRequest.with("The multipart upload initiate requested no encryption with a key of the client. Subsequent part requests must not either.")),
        (Some(encryption), customer) => {
            let key = unwrapped(call, bucket.id, encryption, customer).await.map_err(|error| {
                match error.code {
                    Code::InvalidRequest => Code::InvalidRequest.with("The multipart upload initiate requested encryption. Subsequent part requests must include the appropriate encryption parameters."),
                    _ => error,
                }
            })?;
            Ok(Some((key, encryption.id)))
        }
    }
}

/// The tag of a body that is or is not encrypted: the MD5 of what the client's key protects is told to nobody.
pub fn tag(md5: [u8; 16], key: Option<&DataKey>, encryption: Option<&Encryption>) -> [u8; 16] {
    match (key, encryption.map(|encryption| encryption.holder)) {
        (Some(key), Some(KeyHolder::Customer {})) => key.tag(&md5),
        _ => md5,
    }
}

/// Says in an answer how a body is encrypted.
pub fn set_headers(headers: &mut HeaderMap, call: &Call, encryption: Option<&Encryption>) {
    match encryption.map(|encryption| encryption.holder) {
        None => {}
        Some(KeyHolder::Cluster { .. }) => response::set(headers, MANAGED, AES256),
        Some(KeyHolder::Customer {}) => {
            // The key was needed to get here, or was not asked for.
            if let Ok(Some(key)) = customer_key(call, OF_REQUEST) {
                response::set(headers, KEY_MD5, &STANDARD.encode(key.md5()));
            }
            response::set(headers, ALGORITHM, AES256);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_of_buckets() {
        let rule = |inner: &str| {
            let text = format!(
                "<ServerSideEncryptionConfiguration><Rule>{inner}</Rule></ServerSideEncryptionConfiguration>"
            );
            parse_default(text.as_bytes()).map_err(|error| error.code)
        };
        let by_default = |inner: &str| {
            rule(&format!(
                "<ApplyServerSideEncryptionByDefault>{inner}</ApplyServerSideEncryptionByDefault>"
            ))
        };
        assert_eq!(by_default("<SSEAlgorithm>AES256</SSEAlgorithm>"), Ok(true));
        let kms = "<SSEAlgorithm>aws:kms</SSEAlgorithm>";
        assert_eq!(by_default(kms), Err(Code::NotImplemented));
        let both = "<SSEAlgorithm>AES256</SSEAlgorithm><KMSMasterKeyID>k</KMSMasterKeyID>";
        assert_eq!(by_default(both), Err(Code::InvalidArgument));
        for bad in ["", "<SSEAlgorithm>DES</SSEAlgorithm>"] {
            assert_eq!(by_default(bad), Err(Code::MalformedXML));
        }
        assert_eq!(rule(""), Err(Code::MalformedXML));
        assert!(parse_default(b"<ServerSideEncryptionConfiguration/>").is_err());
    }
}
