//! `PostObject`: an upload by a form, as browsers send it.
//!
//! The fields of the form say what headers say of a PUT. They are made the headers of the request, in the
//! place of those that it came with, so that all that follows is the PUT: the same decision, the same
//! checks, the same way of the body. Nothing is decided before the fields are read; they are bounded.

use super::super::access::{Permit, Sharing};
use super::super::auth::payload::{Inspector, PayloadMode};
use super::super::checksum::{Algorithm, Announced};
use super::super::encryption;
use super::super::error::{Code, S3Error, S3Result};
use super::super::form::{Fields, Form, boundary};
use super::super::post_policy::PostPolicy;
use super::super::uri::{self, Query};
use super::super::xml::Xml;
use super::super::{Answer, Call, Caller, auth, drain, response};
use super::write::{Described, Made, NewObject, PIECE_OBJECT_BYTES_MAX, store};
use super::{features, tagging, versioning};
use crate::transfer::body::{BodyReader, Source};
use bytes::Bytes;
use http::header::{HeaderName, HeaderValue, LOCATION};
use http::{HeaderMap, StatusCode};
use std::ops::RangeInclusive;
use store_base::bucket::Condition;

/// Headers that a form inherits from its request: they say nothing of the object.
const INHERITED: [&str; 6] =
    ["host", "origin", "referer", "user-agent", "x-amz-expected-bucket-owner", "content-length"];

/// Fields that become the header of the same name, beside those that begin with `x-amz-`.
const HEADER_FIELDS: [&str; 7] = [
    "cache-control",
    "content-disposition",
    "content-encoding",
    "content-language",
    "content-md5",
    "content-type",
    "expires",
];

/// The field, and then the header, that tells a signature of version 2.
const OLD_ACCESS_KEY: &str = "awsaccesskeyid";

/// What a form says beside what it says of the object.
pub(super) struct Upload {
    form: Form,
    said: Said,
}

/// What its fields say of the upload, and not of the object.
struct Said {
    sizes: RangeInclusive<u64>,
    /// Where the browser goes afterwards.
    redirect: Option<String>,
    status: StatusCode,
}

/// Whether the request brings a form. One that does not is decided as an upload without a key.
pub(super) fn is_form(call: &Call) -> bool {
    // A form carries its own signature.
    matches!(call.caller, Caller::Anonymous) && form_boundary(call).is_some()
}

fn form_boundary(call: &Call) -> Option<String> {
    let content_type = call.head.header("content-type").ok().flatten()?;
    boundary(content_type)
}

/// Reads the fields of the form and makes them the head of the call: its caller, its key, its headers.
pub(super) async fn read(call: &mut Call) -> S3Result<Upload> {
    let boundary = form_boundary(call).ok_or(Code::InternalError)?;
    let body = call.body.take().ok_or(Code::InternalError)?;
    let source = Source::Http(body, call.service.settings.body_idle);
    let mut form = Form::new(source, &boundary);
    let said = match form.fields().await {
        Ok(fields) => take_fields(call, fields).await,
        Err(error) => Err(error),
    };
    match said {
        Ok(said) => Ok(Upload { form, said }),
        Err(error) => Err(refused(form, error).await),
    }
}

/// Whether the upload may be made; what is still to come of a refused one is thrown away.
pub(super) async fn decided(
    upload: Upload,
    permit: S3Result<Permit>,
) -> S3Result<(Upload, Permit)> {
    match permit {
        Ok(permit) => Ok((upload, permit)),
        Err(error) => Err(refused(upload.form, error).await),
    }
}

async fn refused(form: Form, error: S3Error) -> S3Error {
    drain(&mut BodyReader::new(form.into_source(), None, 0)).await;
    error
}

async fn take_fields(call: &mut Call, Fields { fields, filename }: Fields) -> S3Result<Said> {
    let bucket = call.head.bucket()?.to_owned();
    let mut fields: Vec<(String, String)> =
        fields.into_iter().map(|(name, value)| (name.to_ascii_lowercase(), value)).collect();
    let key = fields.iter_mut().find(|(name, _)| name == "key").ok_or_else(|| {
        Code::UserKeyMustBeSpecified
            .with("Bucket POST must contain a field named 'key'. If it is specified, please check the order of the fields.")
    })?;
    key.1 = key.1.replace("${filename}", &filename);
    let key = key.1.clone();
    let field = |name: &str| find(&fields, name);
    let service = call.service.clone();
    let claim = auth::form::claimed(field);
    let keys = service.identities.ring_of(&service, claim, call.now_ms()).await?;
    let user = {
        let mut cache = service.signing_keys.borrow_mut();
        auth::form::authenticate(field, &keys, &mut cache)?
    };
    let mut sizes = 0..=PIECE_OBJECT_BYTES_MAX;
    if let Some(policy) = field("policy") {
        let policy = PostPolicy::parse(policy)?;
        let mut all = fields.clone();
        all.retain(|(name, _)| name != "bucket");
        all.push(("bucket".into(), bucket));
        policy.check(&all, call.now_ms())?;
        sizes = *policy.sizes().start()..=(*policy.sizes().end()).min(PIECE_OBJECT_BYTES_MAX);
    }
    call.head.headers = headers(&call.head.headers, &fields)?;
    call.head.target.key = Some(key);
    call.head.query = Query::default();
    call.payload = PayloadMode::Unsigned;
    call.caller = user.map_or(Caller::Anonymous, Caller::User);
    call.head.key()?;
    // The request was admitted when nobody knew whose it was.
    let bucket = call.head.target.bucket.as_deref();
    (call.pace, _) = service.admit_again(&call.caller, bucket).await?;
    Ok(Said { sizes, redirect: redirect(&fields), status: status(&fields) })
}

fn find<'a>(fields: &'a [(String, String)], name: &str) -> Option<&'a str> {
    fields.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str())
}

/// The headers that a PUT of this object would have.
fn headers(inherited: &HeaderMap, fields: &[(String, String)]) -> S3Result<HeaderMap> {
    let mut headers = HeaderMap::new();
    for name in INHERITED {
        if let Some(value) = inherited.get(name) {
            headers.insert(name, value.clone());
        }
    }
    let old = find(fields, "x-amz-algorithm").is_none();
    for (name, value) in fields {
        let header = match name.as_str() {
            "acl" => "x-amz-acl",
            // Policies may ask which signature it was.
            OLD_ACCESS_KEY if old => OLD_ACCESS_KEY,
            "tagging" => "x-amz-tagging",
            // A source of a copy has no place in a form.
            name if auth::form::FIELDS.contains(&name) || name.starts_with("x-amz-copy-") => {
                continue;
            }
            name if name.starts_with("x-amz-") || HEADER_FIELDS.contains(&name) => name,
            _ => continue,
        };
        if value.is_empty() {
            continue;
        }
        let refused = || S3Error::argument(name, value, "The field cannot be a header.");
        let value = match name.as_str() {
            "tagging" => tagging::as_header(value.as_bytes())?,
            _ => value.clone(),
        };
        let header = HeaderName::from_bytes(header.as_bytes()).map_err(|_| refused())?;
        let value = HeaderValue::from_bytes(value.as_bytes()).map_err(|_| refused())?;
        headers.append(header, value);
    }
    Ok(headers)
}

/// Where to go afterwards; what is no address of the web is passed over.
fn redirect(fields: &[(String, String)]) -> Option<String> {
    let address =
        find(fields, "success_action_redirect").or_else(|| find(fields, "redirect"))?.trim();
    let uri: http::Uri = address.parse().ok()?;
    let web = matches!(uri.scheme_str(), Some("http" | "https")) && uri.host().is_some();
    web.then(|| address.to_owned())
}

fn status(fields: &[(String, String)]) -> StatusCode {
    match find(fields, "success_action_status") {
        Some("200") => StatusCode::OK,
        Some("201") => StatusCode::CREATED,
        _ => StatusCode::NO_CONTENT,
    }
}

/// A request without a form, or with a signature in its head beside it.
pub(super) fn no_form(_: Permit) -> S3Result<Answer> {
    Err(Code::PreconditionFailed
        .with("Bucket POST must be of the enclosure-type multipart/form-data, signed by its fields")
        .detail("Condition", "Bucket POST must be of the enclosure-type multipart/form-data"))
}

pub(super) async fn post(permit: Permit, call: &mut Call, upload: Upload) -> S3Result<Answer> {
    let Upload { form, said: Said { sizes, redirect, status } } = upload;
    let size_max = *sizes.end();
    let mut reader = BodyReader::open(Source::Local(form.file(sizes)), size_max);
    reader = reader.paced(call.pace.clone());
    let made = make(&permit, call, &mut reader).await;
    if made.is_err() {
        drain(&mut reader).await;
    }
    let made = made?;
    let entry = &made.entry;
    let bucket = permit.bucket();
    let key = call.head.key()?;
    let tag = response::quoted(&entry.etag);
    let location = format!(
        "{}://{}/{}",
        if call.head.peer.secure { "https" } else { "http" },
        call.head.header("host")?.unwrap_or_default(),
        uri::listing_encoded(&format!("{}/{key}", bucket.name))
    );
    let mut answer = match (&redirect, status) {
        (Some(_), _) => response::empty(StatusCode::SEE_OTHER),
        (None, StatusCode::CREATED) => {
            let mut xml = Xml::document();
            xml.open("PostResponse");
            xml.text("Location", &location);
            xml.text("Bucket", &bucket.name);
            xml.text("Key", key);
            xml.text("ETag", &tag);
            xml.close("PostResponse");
            let mut answer = response::xml(xml);
            *answer.status_mut() = status;
            answer
        }
        (None, status) => response::empty(status),
    };
    let location = match redirect {
        None => location,
        Some(address) => {
            let joint = if address.contains('?') { '&' } else { '?' };
            let encoded = |text: &str| uri::encoded(text.as_bytes(), false);
            let (bucket, key, tag) = (encoded(&bucket.name), encoded(key), encoded(&tag));
            format!("{address}{joint}bucket={bucket}&key={key}&etag={tag}")
        }
    };
    response::set(answer.headers_mut(), "etag", &tag);
    if let Ok(location) = HeaderValue::from_str(&location) {
        answer.headers_mut().insert(LOCATION, location);
    }
    encryption::set_made_headers(answer.headers_mut(), call, made.encryption.as_ref());
    versioning::set_made(&mut answer, bucket, entry);
    Ok(answer)
}

async fn make(permit: &Permit, call: &Call, reader: &mut BodyReader) -> S3Result<Made> {
    features::check(call)?;
    let announced = Announced::from_headers(&call.head.headers)?;
    let inspector = Inspector::new(&call.payload, announced, Some(Algorithm::Crc64Nvme));
    let new = NewObject {
        bucket: permit.bucket().clone(),
        key: Bytes::copy_from_slice(call.head.key()?.as_bytes()),
        condition: Condition::default(),
        described: Described::from_call(call)?,
        sharing: Sharing::of_write(call, permit)?,
        listed: Default::default(),
    };
    store(call, new, reader, inspector).await
}
