//! Swift's errors: a status, and a sentence for people as the body.

use crate::catalogue::CatalogueError;
use crate::http::body::ResponseBody;
use crate::s3::Answer;
use crate::s3::error::{Code, S3Error};
use http::header::{CONTENT_LENGTH, CONTENT_TYPE, HeaderName, HeaderValue};
use http::{Response, StatusCode};

/// An error answer of Swift.
#[derive(Clone, Debug)]
pub struct SwiftError {
    /// The status: all that programs look at.
    pub status: StatusCode,
    /// A sentence for people.
    pub message: String,
    /// Headers besides the usual ones.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// The content type of the message, where it is no plain text.
    pub kind: Option<&'static str>,
    /// What was wrong with single parts of the request: path and status.
    pub parts: Vec<(String, String)>,
}

/// What Swift's handlers return.
pub type SwiftResult<T> = Result<T, SwiftError>;

impl SwiftError {
    /// With a sentence of its own.
    pub fn new(status: StatusCode, message: impl Into<String>) -> Self {
        SwiftError {
            status,
            message: message.into(),
            headers: Vec::new(),
            kind: None,
            parts: Vec::new(),
        }
    }

    /// 400.
    pub fn bad_request(message: impl Into<String>) -> Self {
        SwiftError::new(StatusCode::BAD_REQUEST, message)
    }

    /// 403.
    pub fn forbidden() -> Self {
        SwiftError::new(StatusCode::FORBIDDEN, "This user may not do that.")
    }

    /// 404.
    pub fn not_found() -> Self {
        SwiftError::new(StatusCode::NOT_FOUND, "There is nothing of this name.")
    }

    /// 501, for what is asked for by a header or parameter and is not there.
    pub fn not_there(what: &str) -> Self {
        let message = format!("This server does not have what {what} asks for.");
        SwiftError::new(StatusCode::NOT_IMPLEMENTED, message)
    }

    /// 405.
    pub fn not_allowed(methods: &'static str) -> Self {
        let error = SwiftError::new(
            StatusCode::METHOD_NOT_ALLOWED,
            "The method does not go with what the path names.",
        );
        error.header(http::header::ALLOW, HeaderValue::from_static(methods))
    }

    /// With a message of this content type.
    pub fn in_kind(mut self, kind: &'static str) -> Self {
        self.kind = Some(kind);
        self
    }

    /// Adds a header.
    pub fn header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.push((name, value));
        self
    }

    /// The answer. HEAD and 304 have no body.
    pub fn answer(&self, is_head: bool) -> Answer {
        let page = self.message.clone();
        let mut answer = match is_head || self.status == StatusCode::NOT_MODIFIED {
            true => Response::new(ResponseBody::empty()),
            false => Response::new(ResponseBody::Full(page.into())),
        };
        *answer.status_mut() = self.status;
        let kind = self.kind.unwrap_or("text/plain; charset=UTF-8");
        answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
        if is_head {
            answer.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from_static("0"));
        }
        for (name, value) in &self.headers {
            answer.headers_mut().insert(name, value.clone());
        }
        answer
    }
}

/// The layers that both protocols stand on speak of S3's codes.
impl From<S3Error> for SwiftError {
    fn from(error: S3Error) -> Self {
        let status = match error.code {
            Code::BadDigest | Code::InvalidDigest => StatusCode::UNPROCESSABLE_ENTITY,
            Code::EntityTooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            // The client went away, or was too slow.
            Code::IncompleteBody => StatusCode::from_u16(499).unwrap_or(StatusCode::BAD_REQUEST),
            Code::RequestTimeout => StatusCode::REQUEST_TIMEOUT,
            Code::SlowDown => StatusCode::SERVICE_UNAVAILABLE,
            Code::QuotaExceeded => StatusCode::PAYLOAD_TOO_LARGE,
            code => code.status(),
        };
        SwiftError {
            status,
            message: error.message,
            headers: Vec::new(),
            kind: None,
            parts: Vec::new(),
        }
    }
}

impl From<Code> for SwiftError {
    fn from(code: Code) -> Self {
        S3Error::from(code).into()
    }
}

impl From<CatalogueError> for SwiftError {
    fn from(error: CatalogueError) -> Self {
        S3Error::from(error).into()
    }
}
