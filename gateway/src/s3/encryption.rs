//! Encryption as S3 speaks of it: what the headers of a request ask for, what a bucket has by default, and the
//! key of a body that is written or read.
//!
//! `x-amz-server-side-encryption: AES256` (SSE-S3) is a key of the cluster, `-customer-…` (SSE-C) one that the
//! client brings with each request and nobody keeps. `aws:kms` (SSE-KMS) is a named key of the cluster's key ring.

pub mod default;
pub mod kms;

use super::access::rules::Rules;
use super::error::{Code, S3Error, S3Result};
use super::response;
use super::{Call, Service};
use crate::catalogue::Bucket;
use crate::crypt::keys::{CustomerKey, DataKey, KEY_BYTES, Wrapping};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use default::ByDefault;
use http::HeaderMap;
use kms::Asked;
use std::rc::Rc;
use store_base::bucket::{BucketId, Detail, Encryption, KeyHolder, Upload, WriteId};
use store_shell::clock;
use subtle::ConstantTimeEq;

const MANAGED: &str = "x-amz-server-side-encryption";
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
    /// A key of the key ring.
    Kms(Asked),
    /// The client's.
    Customer(CustomerKey),
}

impl Wanted {
    /// By its headers, else by the bucket's default. Errors: `InvalidArgument`, `KMS.NotFoundException`,
    /// `NotImplemented` for two layers of encryption.
    pub fn of_write(call: &Call, bucket: &Rc<Bucket>) -> S3Result<Wanted> {
        let rules = call.service.rules.rules(bucket)?;
        let bucket_key = kms::bucket_key(call)?;
        match (Self::of_headers(call)?, &rules.encryption) {
            (Wanted::Kms(asked), Some(ByDefault::Kms { bucket_key: by_default, .. })) => {
                Ok(Wanted::Kms(Asked { bucket_key: bucket_key.unwrap_or(*by_default), ..asked }))
            }
            (Wanted::Plain, _) => match Self::by_default(&rules) {
                Wanted::Kms(asked) => {
                    let bucket_key = bucket_key.unwrap_or(asked.bucket_key);
                    Ok(Wanted::Kms(Asked { bucket_key, ..asked }))
                }
                wanted => Ok(wanted),
            },
            (wanted, _) => Ok(wanted),
        }
    }

    /// As the bucket has it by default.
    pub fn by_default(rules: &Rules) -> Wanted {
        match &rules.encryption {
            None => Wanted::Plain,
            Some(ByDefault::Cluster) => Wanted::Cluster,
            Some(ByDefault::Kms { key, bucket_key }) => {
                Wanted::Kms(Asked { key: key.clone(), bucket_key: *bucket_key, ..Asked::default() })
            }
        }
    }

    /// By the headers alone.
    pub fn of_headers(call: &Call) -> S3Result<Wanted> {
        let head = &call.head;
        let managed = head.header(MANAGED)?;
        let customer = OF_REQUEST.iter().any(|name| head.headers.contains_key(*name));
        let invalid = |value: &str, message: &str| Err(S3Error::argument(MANAGED, value, message));
        match managed {
            Some(value) if customer => invalid(
                value,
                "Server Side Encryption with Customer provided key is incompatible with the encryption method specified",
            ),
            Some(value) if !kms::is_method(value) && kms::has_headers(call) => {
                invalid(value, kms::METHOD_NEEDED)
            }
            Some(AES256) => Ok(Wanted::Cluster),
            Some(kms::METHOD) => Ok(Wanted::Kms(Asked::of_headers(call)?)),
            Some(kms::TWO_LAYERS) => Err(kms::no_two_layers()),
            Some(value) => invalid(value, "The encryption method specified is not supported"),
            None if kms::has_headers(call) => invalid("", kms::METHOD_NEEDED),
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
            Wanted::Kms(asked) => {
                let (grip, wrapping) = kms::newest(service, asked).await?;
                (KeyHolder::Kms { grip }, wrapping.wrap(&key, &id, bucket))
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
        (KeyHolder::Cluster { .. } | KeyHolder::Kms { .. }, Some(_)) => Err(not_applicable()),
        (KeyHolder::Cluster { version }, None) => {
            let service = &call.service;
            let ring = &service.ring;
            let key = ring.version(&*service.catalogue, &*service.keys, *version).await?;
            key.unwrap_key(wrapped_key, id, bucket).ok_or_else(damaged)
        }
        (KeyHolder::Kms { grip }, None) => {
            let key = kms::of_grip(&call.service, grip).await?;
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
/// key is needed and is not there, or is there and is not the right one or not needed; `KMS.…` of a named key
/// that may not be used.
pub async fn of_object(call: &Call, bucket: &Bucket, detail: &Detail) -> S3Result<Option<DataKey>> {
    check_read(call)?;
    opened(call, bucket, detail, customer_key(call, OF_REQUEST)?).await
}

/// The same for who is told of an object and reads nothing of it. A named key is not needed for that.
pub async fn of_description(call: &Call, bucket: &Bucket, detail: &Detail) -> S3Result<()> {
    check_read(call)?;
    let customer = customer_key(call, OF_REQUEST)?;
    let holder = detail.encryption.as_ref().map(|encryption| &encryption.holder);
    match (holder, &customer) {
        (Some(KeyHolder::Kms { .. }), None) => Ok(()),
        _ => opened(call, bucket, detail, customer).await.map(drop),
    }
}

/// What says how to encrypt has no place where an object is read.
fn check_read(call: &Call) -> S3Result<()> {
    if call.head.headers.contains_key(MANAGED) && is_read(call) {
        return Err(S3Error::argument(
            MANAGED,
            "",
            "x-amz-server-side-encryption header is not supported for this operation.",
        ));
    }
    Ok(())
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
    match (key, encryption.map(|encryption| &encryption.holder)) {
        (Some(key), Some(KeyHolder::Customer {})) => key.tag(&md5),
        _ => md5,
    }
}

/// Says in an answer how a body is encrypted.
pub fn set_headers(headers: &mut HeaderMap, call: &Call, encryption: Option<&Encryption>) {
    match encryption.map(|encryption| &encryption.holder) {
        None => {}
        Some(KeyHolder::Cluster { .. }) => response::set(headers, MANAGED, AES256),
        Some(KeyHolder::Kms { grip }) => {
            response::set(headers, MANAGED, kms::METHOD);
            kms::set_headers(headers, grip);
        }
        Some(KeyHolder::Customer {}) => {
            // The key was needed to get here, or was not asked for.
            if let Ok(Some(key)) = customer_key(call, OF_REQUEST) {
                response::set(headers, KEY_MD5, &STANDARD.encode(key.md5()));
            }
            response::set(headers, ALGORITHM, AES256);
        }
    }
}

/// The same in the answer to what made the object or the upload: it repeats what the key is bound to.
pub fn set_made_headers(headers: &mut HeaderMap, call: &Call, encryption: Option<&Encryption>) {
    set_headers(headers, call, encryption);
    if let Some(KeyHolder::Kms { grip }) = encryption.map(|encryption| &encryption.holder) {
        kms::set_context(headers, grip);
    }
}
