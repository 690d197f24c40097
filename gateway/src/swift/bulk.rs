//! Many at once: deleting (`?bulk-delete`) and taking archives apart (`?extract-archive=tar`).
//!
//! The answer is 200 whatever happened; its body says what did, in the form that `Accept` asks for.

use super::access::{self, AccountPermit};
use super::error::{SwiftError, SwiftResult};
use super::listing::Format;
use super::{Call, object, respond};
use crate::s3::names::KEY_BYTES_MAX;
use crate::s3::router::Operation;
use crate::s3::xml::Xml;
use crate::s3::{Answer, drain, uri};
use bytes::{Bytes, BytesMut};
use http::StatusCode;
use serde_json::{Map, Value, json};

/// Most objects and containers that one request deletes.
pub(super) const DELETES_MAX: usize = 10_000;

/// Most bytes of the list of what is to be deleted.
pub(super) const LIST_BYTES_MAX: usize = 8 << 20;

/// Most failures that are told; deleting ends with the last.
pub(super) const FAILURES_MAX: usize = 1000;

/// Most bytes of a path that a report tells: all that the names of container and object may have. What is longer is
/// cut.
const PATH_BYTES_MAX: usize = 1 + access::CONTAINER_BYTES_MAX + 1 + KEY_BYTES_MAX;

/// What became of the parts of a request.
#[derive(Clone, Debug)]
pub(super) struct Report {
    pub deleted: usize,
    pub not_found: usize,
    pub created: Option<usize>,
    pub status: StatusCode,
    pub body: String,
    /// Path and status.
    pub errors: Vec<(String, String)>,
}

impl Default for Report {
    fn default() -> Self {
        Report {
            deleted: 0,
            not_found: 0,
            created: None,
            status: StatusCode::OK,
            body: String::new(),
            errors: Vec::new(),
        }
    }
}

/// The form of a report: as `Accept` likes best.
pub(super) fn format(call: &Call) -> Format {
    let accept = call.head.header("accept").ok().flatten().unwrap_or_default();
    Format::accepted(accept).unwrap_or(Format::Plain)
}

fn status_text(status: StatusCode) -> String {
    format!("{} {}", status.as_u16(), status.canonical_reason().unwrap_or_default())
}

impl Report {
    fn count(&self) -> Vec<(&'static str, usize)> {
        match self.created {
            Some(created) => vec![("Number Files Created", created)],
            None => {
                vec![("Number Deleted", self.deleted), ("Number Not Found", self.not_found)]
            }
        }
    }

    fn text(&self, format: Format, root: &'static str) -> String {
        let mut values: Vec<(&str, Value)> =
            self.count().into_iter().map(|(name, count)| (name, count.into())).collect();
        values.push(("Response Body", self.body.as_str().into()));
        values.push(("Response Status", status_text(self.status).into()));
        self.render(format, root, values)
    }

    /// The report of a large object that was made.
    pub(super) fn text_of_put(&self, format: Format, extra: &[(&'static str, String)]) -> String {
        let mut values: Vec<(&str, Value)> =
            extra.iter().map(|(name, value)| (*name, value.as_str().into())).collect();
        values.push(("Response Body", self.body.as_str().into()));
        values.push(("Response Status", status_text(self.status).into()));
        self.render(format, "", values)
    }

    /// What went wrong alone.
    pub(super) fn errors_text(&self, format: Format) -> String {
        self.render(format, "", Vec::new())
    }

    fn render(&self, format: Format, root: &'static str, values: Vec<(&str, Value)>) -> String {
        match format {
            Format::Json => {
                let mut object: Map<String, Value> =
                    values.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
                let quoted = |(path, status): &(String, String)| json!([quote(path), status]);
                object.insert("Errors".into(), self.errors.iter().map(quoted).collect());
                Value::Object(object).to_string()
            }
            Format::Xml => self.xml(root, values),
            Format::Plain => {
                let mut text = String::new();
                for (name, value) in values {
                    let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
                    text.push_str(&format!("{name}: {value}\n"));
                }
                text.push_str("Errors:\n");
                for (path, status) in &self.errors {
                    text.push_str(&format!("{}, {status}\n", quote(path)));
                }
                text
            }
        }
    }

    fn xml(&self, root: &'static str, values: Vec<(&str, Value)>) -> String {
        let root = if root.is_empty() { "delete" } else { root };
        let mut xml = Xml::document();
        xml.open(root);
        for (name, value) in values {
            let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            xml.text(&name.to_lowercase().replace(' ', "_"), &text);
        }
        xml.open("errors");
        for (path, status) in &self.errors {
            xml.open("object");
            xml.text("name", &quote(path));
            xml.text("status", status);
            xml.close("object");
        }
        xml.close("errors");
        xml.close(root);
        String::from_utf8(xml.into_bytes()).unwrap_or_default()
    }

    pub(super) fn failed(&mut self, mut path: String, status: StatusCode) {
        path.truncate(path.floor_char_boundary(PATH_BYTES_MAX));
        path.shrink_to_fit();
        if self.errors.len() < FAILURES_MAX {
            self.errors.push((path, status_text(status)));
        }
        self.status = match status.is_server_error() {
            true => StatusCode::BAD_GATEWAY,
            false if self.status == StatusCode::OK => StatusCode::BAD_REQUEST,
            false => self.status,
        };
        if status == StatusCode::UNAUTHORIZED {
            self.status = StatusCode::UNAUTHORIZED;
        }
    }
}

fn quote(path: &str) -> String {
    uri::encoded(path.as_bytes(), true)
}

/// The whole body of a request, with a length or without.
pub(super) async fn whole_body(call: &mut Call, bytes_max: usize) -> SwiftResult<Bytes> {
    // Before the body is taken: who answers a refusal reads what is still to come, so that the client sees it.
    if call.head.content_length()?.is_some_and(|length| length > bytes_max as u64) {
        let why = format!("More than {bytes_max} bytes.");
        return Err(SwiftError::new(StatusCode::PAYLOAD_TOO_LARGE, why));
    }
    let mut reader = object::body(call)?;
    reader.allow(bytes_max as u64);
    let mut document = BytesMut::new();
    loop {
        match reader.piece(&call.service.budget).await {
            Ok(Some((piece, _))) => document.extend_from_slice(&piece.data),
            Ok(None) => return Ok(document.freeze()),
            Err(error) => {
                drain(&mut reader).await;
                return Err(error.into());
            }
        }
    }
}

/// POST or DELETE with `?bulk-delete`: the body names what goes, a line each.
pub(super) async fn delete(call: &mut Call, permit: &AccountPermit) -> SwiftResult<Answer> {
    access::many(call)?;
    let body = whole_body(call, LIST_BYTES_MAX).await?;
    let mut report = Report::default();
    let lines = body.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii);
    let paths = lines.filter(|line| !line.is_empty());
    if paths.clone().nth(DELETES_MAX).is_some() {
        report.status = StatusCode::PAYLOAD_TOO_LARGE;
        report.body = format!("Maximum Bulk Deletes: {DELETES_MAX} per request");
        return Ok(deleted(call, report));
    }
    for path in paths {
        let Ok(decoded) = String::from_utf8(uri::percent_decode(path)) else {
            let path = String::from_utf8_lossy(path).into_owned();
            report.failed(path, StatusCode::PRECONDITION_FAILED);
            continue;
        };
        let decoded = decoded.trim_start_matches('/');
        let (container, object) = match decoded.split_once('/') {
            Some((container, object)) if !object.is_empty() => (container, Some(object)),
            Some((container, _)) => (container, None),
            None => (decoded, None),
        };
        delete_one(call, permit, container, object, &mut report).await;
        if report.errors.len() >= FAILURES_MAX {
            report.body = "Max delete failures exceeded".to_owned();
            break;
        }
    }
    if report.deleted == 0 && report.not_found == 0 && report.errors.is_empty() {
        report.status = StatusCode::BAD_REQUEST;
        report.body = "Invalid bulk delete.".to_owned();
    }
    Ok(deleted(call, report))
}

/// The answer with a report of deletions.
pub(super) fn deleted(call: &Call, report: Report) -> Answer {
    let format = format(call);
    let body = report.text(format, "delete");
    respond::with_body(StatusCode::OK, format.content_type(), body)
}

/// The answer with a report of what was taken from an archive.
pub(super) fn extracted(call: &Call, mut report: Report) -> Answer {
    if !report.errors.is_empty() && report.status == StatusCode::CREATED {
        report.status = StatusCode::BAD_REQUEST;
    }
    let format = format(call);
    let body = report.text(format, "extract");
    respond::with_body(StatusCode::OK, format.content_type(), body)
}

/// Deletes an object, or a container.
pub(super) async fn delete_one(
    call: &mut Call,
    permit: &AccountPermit,
    container: &str,
    object: Option<&str>,
    report: &mut Report,
) {
    let path = match object {
        Some(object) => format!("/{container}/{object}"),
        None => format!("/{container}"),
    };
    let before = call.head.target.clone();
    let done = delete_at(call, permit, container, object).await;
    call.head.target = before;
    match done {
        Ok(status) if status == StatusCode::NOT_FOUND => report.not_found += 1,
        Ok(_) => report.deleted += 1,
        Err(error) if error.status == StatusCode::NOT_FOUND => report.not_found += 1,
        Err(error) => report.failed(path, error.status),
    }
}

async fn delete_at(
    call: &mut Call,
    permit: &AccountPermit,
    container: &str,
    object: Option<&str>,
) -> SwiftResult<StatusCode> {
    let bucket = access::bucket_name(call, permit.id(), container).await?;
    let bucket = bucket.ok_or_else(|| access::hidden(call, permit.id()))?;
    call.head.target.bucket = Some(bucket);
    call.head.target.key = object.map(str::to_owned);
    let Some(object) = object else {
        return Ok(super::container::delete(call, permit).await?.status());
    };
    object::check_name(object)?;
    let leave = access::container(call, permit, Operation::DeleteObject).await?;
    let key = Bytes::copy_from_slice(object.as_bytes());
    let answer = object::delete_object(call, permit, leave.bucket(), key).await?;
    Ok(answer.status())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reports_in_three_forms() {
        let mut report = Report { deleted: 2, not_found: 1, ..Report::default() };
        assert_eq!(
            report.text(Format::Plain, "delete"),
            "Number Deleted: 2\nNumber Not Found: 1\nResponse Body: \nResponse Status: 200 OK\nErrors:\n"
        );
        report.failed("/c/a b".into(), StatusCode::FORBIDDEN);
        let json: Value = serde_json::from_str(&report.text(Format::Json, "delete")).unwrap();
        assert_eq!(json["Errors"][0][0], "/c/a%20b");
        assert_eq!(json["Response Status"], "400 Bad Request");
        assert!(report.text(Format::Xml, "delete").contains("<number_deleted>2</number_deleted>"));
        report.failed("/x".into(), StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(report.status, StatusCode::BAD_GATEWAY);
    }

    #[test]
    fn long_paths_are_cut_in_reports() {
        let mut report = Report::default();
        report.failed(format!("/{}", "é".repeat(40_000)), StatusCode::BAD_REQUEST);
        let told = &report.errors[0].0;
        assert_eq!(told.len(), PATH_BYTES_MAX - 1);
        assert!(told.ends_with('é') && told.capacity() <= PATH_BYTES_MAX);
    }
}
