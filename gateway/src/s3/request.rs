//! A request before its operation is known.

use super::error::{Code, S3Error, S3Result};
use super::uri::{Query, Target};
pub use crate::http::listener::Peer;
use http::{HeaderMap, Method};

/// All of a request but its body.
#[derive(Clone, Debug)]
pub struct Head {
    /// The method.
    pub method: Method,
    /// The headers.
    pub headers: HeaderMap,
    /// The path as it came, percent-encoded.
    pub raw_path: String,
    /// The query, decoded.
    pub query: Query,
    /// Bucket and key.
    pub target: Target,
    /// When the request came, in ms since 1970.
    pub now_ms: u64,
    /// Who is at the other end of the connection.
    pub peer: Peer,
    /// The name of the request in answers and logs.
    pub request_id: String,
}

impl Head {
    /// The text of a header; an error if it is not text.
    pub fn header(&self, name: &str) -> S3Result<Option<&str>> {
        self.headers
            .get(name)
            .map(|value| {
                std::str::from_utf8(value.as_bytes())
                    .map_err(|_| S3Error::argument(name, "", "The header is not UTF-8."))
            })
            .transpose()
    }

    /// A header or query parameter that is a number, if it is there.
    pub fn number(&self, name: &str) -> S3Result<Option<u64>> {
        let Some(text) = self.header(name)? else { return Ok(None) };
        text.trim().parse().map(Some).map_err(|_| S3Error::argument(name, text, "not a number"))
    }

    /// The bucket, for operations that have one.
    pub fn bucket(&self) -> S3Result<&str> {
        self.target.bucket.as_deref().ok_or_else(|| Code::InvalidRequest.into())
    }

    /// The key, for operations that have one.
    pub fn key(&self) -> S3Result<&str> {
        let key = self.target.key.as_deref().ok_or(Code::InvalidRequest)?;
        super::names::check_key(key)?;
        Ok(key)
    }

    /// `Content-Length`, if it is there.
    pub fn content_length(&self) -> S3Result<Option<u64>> {
        self.number("content-length")
    }

    /// Whether the body says its length by ending. AWS refuses that; Ceph's gateway takes it for objects.
    pub fn is_open_ended(&self) -> bool {
        self.headers.contains_key("transfer-encoding")
            && !self.headers.contains_key("content-length")
            && !self.headers.contains_key("x-amz-decoded-content-length")
    }

    /// Bytes of the body once its framing is taken off: what becomes an object. S3 wants to know before.
    pub fn body_length(&self, chunked: bool) -> S3Result<u64> {
        if chunked {
            return self
                .number("x-amz-decoded-content-length")?
                .ok_or_else(|| Code::MissingContentLength.into());
        }
        match (self.content_length()?, self.number("x-amz-decoded-content-length")?) {
            (Some(length), _) | (None, Some(length)) => Ok(length),
            (None, None) => Err(Code::MissingContentLength.into()),
        }
    }
}
