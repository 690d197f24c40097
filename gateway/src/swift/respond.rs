//! Putting Swift's answers together.

use crate::http::body::ResponseBody;
use crate::s3::{Answer, dates, response};
use bytes::Bytes;
use http::{HeaderMap, Response, StatusCode};

/// An answer without a body.
pub(super) fn empty(status: StatusCode) -> Answer {
    let mut answer = Response::new(ResponseBody::empty());
    *answer.status_mut() = status;
    response::set(answer.headers_mut(), "content-type", "text/html; charset=UTF-8");
    answer
}

/// The answer to a HEAD: of the `kind` that the listing would have.
pub(super) fn unlisted(kind: &str) -> Answer {
    let mut answer = empty(StatusCode::NO_CONTENT);
    response::set(answer.headers_mut(), "content-type", kind);
    answer
}

/// An answer with a document.
pub(super) fn with_body(status: StatusCode, kind: &str, body: impl Into<Bytes>) -> Answer {
    let mut answer = Response::new(ResponseBody::Full(body.into()));
    *answer.status_mut() = status;
    response::set(answer.headers_mut(), "content-type", kind);
    answer
}

/// A time as `X-Timestamp` has it: `1369353600.00000`.
pub(super) fn timestamp(ms: u64) -> String {
    format!("{:010}.{:03}00", ms / 1000, ms % 1000)
}

/// A time as listings have it: `2013-05-24T00:00:00.000000`.
pub(super) fn listed(ms: u64) -> String {
    format!("{}000", dates::iso(ms).trim_end_matches('Z'))
}

/// `Last-Modified` counts whole seconds, and is never before the change.
pub(super) fn last_modified(ms: u64) -> String {
    dates::http(ms.div_ceil(1000).saturating_mul(1000))
}

/// `X-Timestamp` and `Last-Modified`.
pub(super) fn set_times(headers: &mut HeaderMap, created_ms: u64, modified_ms: u64) {
    response::set(headers, "x-timestamp", &timestamp(created_ms));
    response::set(headers, "last-modified", &last_modified(modified_ms));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_in_three_forms() {
        let ms = 1_369_353_600_120;
        assert_eq!(timestamp(ms), "1369353600.12000");
        assert_eq!(listed(ms), "2013-05-24T00:00:00.120000");
        assert_eq!(last_modified(ms), "Fri, 24 May 2013 00:00:01 GMT");
        assert_eq!(last_modified(1_369_353_600_000), "Fri, 24 May 2013 00:00:00 GMT");
    }
}
