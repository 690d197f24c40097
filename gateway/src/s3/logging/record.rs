//! One record: of a request, in S3's format of access logs, and of a change, in that of Ceph's journals.

use super::super::auth::payload::PayloadMode;
use super::super::dates;
use super::super::request::Head;
use super::super::router::{Operation, subresource};
use super::super::{Answer, Caller, uri};
use crate::catalogue::Bucket;
use bytes::Bytes;
use http::header::{HOST, REFERER, USER_AGENT};
use hyper::body::Body;
use std::fmt::Write;
use std::time::Duration;
use store_base::bucket::ETag;

/// Longest field: a request names what it likes.
const FIELD_BYTES_MAX: usize = 2048;

/// A request that has been answered.
pub struct Seen<'a> {
    /// The request; of a form its fields are the headers.
    pub head: &'a Head,
    /// Who asked.
    pub caller: &'a Caller,
    /// How it was signed is seen here, where the headers do not tell.
    pub payload: &'a PayloadMode,
    /// The address as it came.
    pub uri: &'a http::Uri,
    /// What it was.
    pub operation: Operation,
    /// Whether it came to the website.
    pub website: bool,
    /// The code of an error.
    pub error: Option<&'static str>,
    /// From its head to the head of its answer.
    pub took: Duration,
    /// Whether an ACL let it in, and nothing else did.
    pub by_acl: bool,
}

/// A change of an object, as far as it is known.
#[derive(Clone, Debug, Default)]
pub struct Change {
    /// The key.
    pub key: Bytes,
    /// Bytes of its body.
    pub size: Option<u64>,
    /// Which version it is.
    pub version: VersionId,
    /// Its entity tag.
    pub etag: Option<ETag>,
}

/// A version, in a journal.
#[derive(Clone, Debug, Default)]
pub enum VersionId {
    /// It is not known (yet).
    #[default]
    Unknown,
    /// The bucket has none.
    None,
    /// This one.
    Is(String),
}

/// The line of a change in a journal, with its end. `operation` is its name there, such as `REST.PUT.OBJECT`.
pub fn change(change: &Change, bucket: &Bucket, operation: &str, now_ms: u64) -> String {
    let mut line = String::with_capacity(256);
    plain(&mut line, Some(&bucket.owner));
    plain(&mut line, Some(&bucket.name));
    let _ = write!(line, "[{}] ", time(now_ms));
    plain(&mut line, Some(operation));
    // A key is told whole: who replays the journal needs it.
    let key = String::from_utf8_lossy(&change.key);
    whole(&mut line, &uri::listing_encoded(&key));
    plain(&mut line, change.size.map(|bytes| bytes.to_string()).as_deref());
    plain(
        &mut line,
        match &change.version {
            VersionId::Unknown => Some("?"),
            VersionId::None => None,
            VersionId::Is(id) => Some(id),
        },
    );
    plain(&mut line, change.etag.as_ref().map(ETag::to_string).as_deref());
    line.pop();
    line.push('\n');
    line
}

/// The line of a request, with its end.
pub fn line(seen: &Seen<'_>, bucket: &Bucket, answer: &Answer, host_id: &str) -> String {
    let head = seen.head;
    let header = |name: http::HeaderName| head.headers.get(name).and_then(|v| v.to_str().ok());
    let of_answer = |name: &str| answer.headers().get(name).and_then(|v| v.to_str().ok());
    let sent = answer.body().size_hint().exact().filter(|bytes| *bytes > 0);
    let took = seen.took.as_millis().to_string();
    let requester = match seen.caller {
        Caller::Anonymous => None,
        Caller::User(user) => Some(user.id.as_str()),
    };
    let (version, kind) = signature(seen);
    let method = &head.method;
    let target = seen.uri.path_and_query().map_or("/", http::uri::PathAndQuery::as_str);
    let mut line = String::with_capacity(512);
    plain(&mut line, Some(&bucket.owner));
    plain(&mut line, Some(&bucket.name));
    let _ = write!(line, "[{}] ", time(head.now_ms));
    plain(
        &mut line,
        head.peer.address.map(|address| address.to_canonical().to_string()).as_deref(),
    );
    plain(&mut line, requester);
    plain(&mut line, Some(&head.request_id));
    plain(&mut line, Some(&operation(seen)));
    let key = head.target.key.as_deref().filter(|key| !key.is_empty());
    plain(&mut line, key.map(uri::listing_encoded).as_deref());
    quoted(&mut line, Some(&format!("{method} {target} HTTP/1.1")));
    plain(&mut line, Some(answer.status().as_str()));
    plain(&mut line, seen.error);
    plain(&mut line, sent.map(|bytes| bytes.to_string()).as_deref());
    plain(&mut line, object_size(seen, answer).as_deref());
    plain(&mut line, Some(&took));
    plain(&mut line, Some(&took));
    quoted(&mut line, header(REFERER));
    quoted(&mut line, header(USER_AGENT));
    plain(&mut line, head.query.value("versionId").or_else(|| of_answer("x-amz-version-id")));
    plain(&mut line, Some(host_id));
    plain(&mut line, version);
    // The cipher and the version of TLS are not handed on by what ends it.
    plain(&mut line, None);
    plain(&mut line, kind);
    plain(&mut line, header(HOST));
    plain(&mut line, head.peer.secure.then_some("TLS"));
    plain(&mut line, None);
    plain(&mut line, seen.by_acl.then_some("Yes"));
    line.pop();
    line.push('\n');
    line
}

/// `REST.GET.OBJECT` and the like.
fn operation(seen: &Seen<'_>) -> String {
    use Operation as Op;
    let method = seen.head.method.as_str();
    let (method, resource) = match seen.operation {
        _ if seen.website => return format!("WEBSITE.{method}.OBJECT"),
        Op::CopyObject => ("COPY", "OBJECT"),
        Op::UploadPartCopy => ("COPY", "PART"),
        Op::UploadPart => (method, "PART"),
        Op::CreateMultipartUpload | Op::ListMultipartUploads => (method, "UPLOADS"),
        Op::CompleteMultipartUpload | Op::AbortMultipartUpload | Op::ListParts => {
            (method, "UPLOAD")
        }
        Op::DeleteObjects => (method, "MULTI_OBJECT_DELETE"),
        Op::PreflightRequest => (method, "PREFLIGHT"),
        Op::ListObjectVersions => (method, "BUCKETVERSIONS"),
        // Of a form the key is known by now, and stands in no address.
        Op::PostObject => (method, "OBJECT"),
        _ => match (subresource(seen.head), &seen.head.target.key) {
            (Some("policy"), _) => (method, "BUCKETPOLICY"),
            (Some("logging"), _) => (method, "LOGGING_STATUS"),
            (Some("requestPayment"), _) => (method, "REQUEST_PAYMENT"),
            (Some("tagging"), Some(_)) => (method, "OBJECT_TAGGING"),
            (Some(named), _) => return format!("REST.{method}.{}", named.to_ascii_uppercase()),
            (None, Some(_)) => (method, "OBJECT"),
            (None, None) => (method, "BUCKET"),
        },
    };
    format!("REST.{method}.{resource}")
}

/// Which signature there was, and where.
fn signature(seen: &Seen<'_>) -> (Option<&'static str>, Option<&'static str>) {
    let head = seen.head;
    if seen.website || matches!(seen.caller, Caller::Anonymous) {
        return (None, None);
    }
    let authorization = head.headers.get("authorization");
    let old = authorization.is_some_and(|value| value.as_bytes().starts_with(b"AWS "))
        || head.query.has("Signature")
        || head.headers.contains_key("awsaccesskeyid");
    let kind = match (authorization, seen.operation) {
        (Some(_), _) => "AuthHeader",
        (None, Operation::PostObject) => "-",
        (None, _) => "QueryString",
    };
    (Some(if old { "SigV2" } else { "SigV4" }), Some(kind).filter(|kind| *kind != "-"))
}

/// Bytes of the object that was read or written, as far as the answer or the request says.
fn object_size(seen: &Seen<'_>, answer: &Answer) -> Option<String> {
    let header = |name: &str| answer.headers().get(name).and_then(|value| value.to_str().ok());
    if seen.error.is_some() {
        return None;
    }
    match seen.operation {
        Operation::GetObject | Operation::HeadObject => {
            let whole = header("content-range").and_then(|range| range.rsplit_once('/'));
            let length = answer.body().size_hint().exact().map(|bytes| bytes.to_string());
            whole
                .map(|(_, size)| size.to_owned())
                .or_else(|| header("content-length").map(str::to_owned))
                .or(length)
        }
        Operation::PutObject | Operation::UploadPart => {
            let size = seen.head.body_length(seen.payload.is_chunked()).ok();
            size.map(|size| size.to_string())
        }
        _ => None,
    }
}

/// `24/May/2013:00:00:00 +0000`
fn time(ms: u64) -> String {
    // `Fri, 24 May 2013 00:00:00 GMT`
    let http = dates::http(ms);
    let words: Vec<&str> = http.split(' ').collect();
    match words[..] {
        [_, day, month, year, time, _] => format!("{day}/{month}/{year}:{time} +0000"),
        _ => http,
    }
}

fn cut(text: &str) -> &str {
    let mut end = text.len().min(FIELD_BYTES_MAX);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

/// A field without spaces; what is not there is a hyphen.
fn plain(line: &mut String, text: Option<&str>) {
    whole(line, text.map_or("", cut));
}

fn whole(line: &mut String, text: &str) {
    match text.is_empty() {
        true => line.push('-'),
        false => line.extend(text.chars().map(|c| match c {
            c if c.is_control() || c == ' ' || c == '"' => '_',
            c => c,
        })),
    }
    line.push(' ');
}

/// A field in quotes, with none within.
fn quoted(line: &mut String, text: Option<&str>) {
    line.push('"');
    match text.filter(|text| !text.is_empty()) {
        None => line.push('-'),
        Some(text) => {
            for c in cut(text).chars() {
                match c {
                    '"' => line.push_str("%22"),
                    c if c.is_control() => line.push('_'),
                    c => line.push(c),
                }
            }
        }
    }
    line.push_str("\" ");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keyring::User;
    use crate::s3::auth::tests::head;
    use crate::s3::response;
    use http::StatusCode;
    use std::sync::Arc;

    #[test]
    fn a_line_has_all_fields_and_one_line() {
        let mut head = head(
            "GET",
            "/b/a%20b?versionId=v1",
            &[("host", "h"), ("user-agent", "curl \"x\"\t"), ("authorization", "AWS4 x")],
        );
        head.request_id = "R".into();
        let caller = Caller::User(Arc::new(User { id: "u".into(), ..User::default() }));
        let uri = "/b/a%20b?versionId=v1".parse().unwrap();
        let seen = Seen {
            head: &head,
            caller: &caller,
            payload: &PayloadMode::Unsigned,
            uri: &uri,
            operation: Operation::GetObject,
            website: false,
            error: Some("NoSuchKey"),
            took: Duration::from_millis(7),
            by_acl: false,
        };
        let bucket = Bucket { name: "b".into(), owner: "o".into(), ..Bucket::default() };
        let answer = response::empty(StatusCode::NOT_FOUND);
        assert_eq!(
            line(&seen, &bucket, &answer, "H"),
            "o b [24/May/2013:00:00:00 +0000] - u R REST.GET.OBJECT a%20b \"GET /b/a%20b?versionId=v1 HTTP/1.1\" 404 NoSuchKey - - 7 7 \"-\" \"curl %22x%22_\" v1 H SigV4 - AuthHeader h - - -\n"
        );
        let by_acl = Seen { by_acl: true, ..seen };
        assert!(line(&by_acl, &bucket, &answer, "H").ends_with(" h - - Yes\n"));
        let website = Seen { website: true, by_acl: false, ..by_acl };
        let text = line(&website, &bucket, &answer, "H");
        assert!(text.contains(" WEBSITE.GET.OBJECT ") && text.ends_with(" H - - - h - - -\n"));
    }

    #[test]
    fn operations_have_the_names_of_s3() {
        for (method, target, operation_of, expected) in [
            ("PUT", "/b/k", Operation::PutObject, "REST.PUT.OBJECT"),
            ("PUT", "/b/k", Operation::CopyObject, "REST.COPY.OBJECT"),
            ("GET", "/b", Operation::ListObjects, "REST.GET.BUCKET"),
            ("GET", "/b?acl", Operation::GetBucketAcl, "REST.GET.ACL"),
            ("PUT", "/b?policy", Operation::PutBucketPolicy, "REST.PUT.BUCKETPOLICY"),
            ("PUT", "/b/k?tagging", Operation::PutObjectTagging, "REST.PUT.OBJECT_TAGGING"),
            ("POST", "/b/k?uploadId=1", Operation::CompleteMultipartUpload, "REST.POST.UPLOAD"),
            ("POST", "/b?delete", Operation::DeleteObjects, "REST.POST.MULTI_OBJECT_DELETE"),
        ] {
            let head = head(method, target, &[]);
            let uri = target.parse().unwrap();
            let seen = Seen {
                head: &head,
                caller: &Caller::Anonymous,
                payload: &PayloadMode::Unsigned,
                uri: &uri,
                operation: operation_of,
                website: false,
                error: None,
                took: Duration::ZERO,
                by_acl: false,
            };
            assert_eq!(operation(&seen), expected);
        }
    }

    #[test]
    fn a_change_has_eight_fields() {
        let bucket = Bucket { name: "b".into(), owner: "o".into(), ..Bucket::default() };
        let made = Change {
            key: "a b".into(),
            size: Some(5),
            version: VersionId::Is("v".into()),
            etag: Some(ETag { md5: [1; 16], parts: 0 }),
        };
        let start = "o b [01/Jan/1970:00:00:01 +0000]";
        assert_eq!(
            change(&made, &bucket, "REST.PUT.OBJECT", 1000),
            format!("{start} REST.PUT.OBJECT a%20b 5 v {}\n", "01".repeat(16))
        );
        let unknown = Change { key: "k".into(), ..Change::default() };
        assert_eq!(change(&unknown, &bucket, "REST.X", 1000), format!("{start} REST.X k - ? -\n"));
        let none = Change { version: VersionId::None, ..unknown };
        assert_eq!(change(&none, &bucket, "REST.X", 1000), format!("{start} REST.X k - - -\n"));
    }

    #[test]
    fn long_fields_are_cut_between_characters() {
        let mut line = String::new();
        plain(&mut line, Some(&format!("x{}", "ä".repeat(FIELD_BYTES_MAX))));
        assert_eq!(line.len(), FIELD_BYTES_MAX, "2047 bytes and the space");
    }
}
