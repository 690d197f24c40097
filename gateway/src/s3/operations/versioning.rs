//! Versioning of a bucket, and the version that a request names.

use super::super::access::Permit;
use super::super::dates;
use super::super::error::{Code, S3Error, S3Result};
use super::super::response;
use super::super::xml::{Element, Xml};
use super::super::{Answer, Call};
use crate::catalogue::{Bucket, CatalogueError};
use http::{HeaderName, HeaderValue, StatusCode};
use store_base::bucket::{Entry, Found, Refusal, SettingsChange, Version, Versioning};

const VERSION_ID: HeaderName = HeaderName::from_static("x-amz-version-id");
/// Whether a delete marker is where an object could be.
pub(super) const DELETE_MARKER: HeaderName = HeaderName::from_static("x-amz-delete-marker");

/// The version that the query names; `None` for the newest.
pub(super) fn asked(call: &Call, bucket: &Bucket) -> S3Result<Option<Version>> {
    match call.head.query.value("versionId") {
        None => Ok(None),
        Some("") => Err(call.bad_argument("versionId", "Version id cannot be the empty string")),
        Some(text) => named(text, bucket).map(Some),
    }
}

/// The version of an id. One that we never gave is a version that is not there.
pub(in crate::s3) fn named(text: &str, bucket: &Bucket) -> S3Result<Version> {
    Version::parse(text, bucket.id).ok_or_else(|| {
        Code::NoSuchVersion.with(Code::NoSuchVersion.message()).detail("VersionId", text)
    })
}

/// The version id that a read shows; a bucket that never had versions shows none.
pub(super) fn shown(bucket: &Bucket, found: &Found) -> Option<String> {
    found.versioned.then(|| found.entry.version().text(bucket.id))
}

/// Sets the version id on the answer to a read.
pub(super) fn set_shown(answer: &mut Answer, bucket: &Bucket, found: &Found) {
    if let Some(id) = shown(bucket, found) {
        response::set(answer.headers_mut(), "x-amz-version-id", &id);
    }
}

/// Sets the version id on the answer to a change of a version.
pub(super) fn set_changed(answer: &mut Answer, bucket: &Bucket, entry: &Entry) {
    if entry.sequence > 0 || bucket.settings.versioning != Versioning::Off {
        let id = entry.version().text(bucket.id);
        response::set(answer.headers_mut(), "x-amz-version-id", &id);
    }
}

/// Sets the version id on the answer to a write: of the new version, if it has an id of its own.
pub(super) fn set_made(answer: &mut Answer, bucket: &Bucket, entry: &Entry) {
    if entry.named {
        let id = entry.version().text(bucket.id);
        response::set(answer.headers_mut(), "x-amz-version-id", &id);
    }
}

/// The answer where a delete marker is instead of an object: the key is not there; a marker that is asked
/// for by its id can be removed and nothing else.
pub(in crate::s3) fn is_marker(bucket: &Bucket, entry: &Entry, by_id: bool) -> S3Error {
    let header = |error: S3Error, name: HeaderName, value: &str| match HeaderValue::from_str(value)
    {
        Ok(value) => error.header(name, value),
        Err(_) => error,
    };
    let mut error = S3Error::from(if by_id { Code::MethodNotAllowed } else { Code::NoSuchKey });
    if by_id {
        error = header(error, http::header::ALLOW, "DELETE");
        error = header(error, http::header::LAST_MODIFIED, &dates::http(entry.modified_ms));
    }
    error = header(error, DELETE_MARKER, "true");
    header(error, VERSION_ID, &entry.version().text(bucket.id))
}

/// A refusal of a change of a version, as an error.
pub(super) fn refused(bucket: &Bucket, by_id: bool) -> impl FnOnce(CatalogueError) -> S3Error {
    move |error| match error {
        CatalogueError::Refused(Refusal::DeleteMarker { entry }) => {
            is_marker(bucket, &entry, by_id)
        }
        error => error.into(),
    }
}

/// `GetBucketVersioning`
pub(super) async fn get(permit: Permit, call: &mut Call) -> S3Result<Answer> {
    let bucket = super::documents::now(call, &permit).await?;
    let mut xml = Xml::root("VersioningConfiguration");
    match bucket.settings.versioning {
        Versioning::Off => {}
        Versioning::Enabled => xml.text("Status", "Enabled"),
        Versioning::Suspended => xml.text("Status", "Suspended"),
    }
    xml.close("VersioningConfiguration");
    Ok(response::xml(xml))
}

/// `PutBucketVersioning`
pub(super) async fn put(permit: Permit, call: &mut Call) -> S3Result<Answer> {
    let bucket = permit.bucket().clone();
    let document = call.document(super::DOCUMENT_BYTES_MAX).await?;
    let versioning = parse(&document)?;
    let change = SettingsChange::Versioning { versioning };
    call.service.catalogue.configure(&bucket, change).await?;
    Ok(response::empty(StatusCode::OK))
}

pub(super) fn parse(document: &[u8]) -> S3Result<Versioning> {
    let root = Element::parse(document, "VersioningConfiguration")?;
    match root.child_text("MfaDelete")?.map(str::trim) {
        None | Some("Disabled") => {}
        Some("Enabled") => {
            return Err(Code::NotImplemented.with("MFA delete is not implemented."));
        }
        Some(_) => return Err(Code::MalformedXML.into()),
    }
    match root.child_text("Status")?.map(str::trim) {
        Some("Enabled") => Ok(Versioning::Enabled),
        Some("Suspended") => Ok(Versioning::Suspended),
        None => Err(Code::IllegalVersioningConfigurationException.into()),
        Some(_) => Err(Code::MalformedXML.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn configurations_say_what_is_wanted() {
        let parse = |inner: &str| {
            let document = format!("<VersioningConfiguration>{inner}</VersioningConfiguration>");
            parse(document.as_bytes()).map_err(|error| error.code)
        };
        assert_eq!(parse("<Status>Enabled</Status>"), Ok(Versioning::Enabled));
        let off = "<MfaDelete>Disabled</MfaDelete><Status>Suspended</Status>";
        assert_eq!(parse(off), Ok(Versioning::Suspended));
        let mfa = "<Status>Enabled</Status><MfaDelete>Enabled</MfaDelete>";
        assert_eq!(parse(mfa), Err(Code::NotImplemented));
        assert_eq!(parse(""), Err(Code::IllegalVersioningConfigurationException));
        assert_eq!(parse("<Status>enabled</Status>"), Err(Code::MalformedXML));
    }
}
