//! S3: from a request to an answer.
//!
//! The order in which things are found wrong is S3's: the target, the signature, whether the operation
//! exists, its arguments, the bucket, the access to it, and then what the operation finds.
//!
//! Places for what comes later: Signature Version 2 and POST policies in `auth`; ACLs, policies and CORS
//! in `access` (every handler gets its bucket from there); versioning, tags and lifecycle in the records
//! of `store_base::bucket` and a topic file each in `operations`; Swift beside this module, chosen in
//! [`Service::handle`] by the path.

pub mod access;
pub mod auth;
pub mod checksum;
pub mod conditions;
pub mod dates;
pub mod error;
pub mod names;
pub mod operations;
pub mod range;
pub mod request;
pub mod response;
pub mod router;
pub mod uri;
pub mod xml;

use crate::catalogue::Catalogue;
use crate::http::body::ResponseBody;
use crate::keyring::{KeyRing, User};
use crate::metrics::Metrics;
use crate::transfer::Budget;
use crate::transfer::body::{BodyReader, Source};
use auth::payload::PayloadMode;
use error::{Code, S3Error, S3Result};
use http::{HeaderValue, Request, Response};
use hyper::body::Incoming;
use request::Head;
use router::Operation;
use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use store_shell::clock;

/// A body that an error left unread is thrown away up to this many bytes, so that the client reads the
/// answer; a longer one ends the connection.
const DRAIN_BYTES_MAX: usize = 16 << 20;

/// And for at most so long.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(5);

/// What the S3 side can be told. See [`crate::config::Config`] for the meaning of each.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Region that is told to clients.
    pub region: String,
    /// Domains whose subdomains are buckets.
    pub domains: Vec<String>,
    /// Longest body that is kept in the index.
    pub inline_bytes_max: u64,
    /// Index shards of a new bucket.
    pub index_shards: u32,
    /// Longest pause of a client within a body.
    pub body_idle: Duration,
    /// Identifies this gateway in answers.
    pub host_id: String,
}

/// The S3 service of one shard.
pub struct Service {
    /// Where everything is.
    pub catalogue: Rc<dyn Catalogue>,
    /// Who may sign.
    pub keys: Arc<dyn KeyRing>,
    /// Settings.
    pub settings: Arc<Settings>,
    /// Counters of the process.
    pub metrics: Arc<Metrics>,
    /// Memory for bodies.
    pub budget: Budget,
    /// Derived keys.
    pub signing_keys: RefCell<auth::SigningKeys>,
}

/// A request that is known to come from `user`, on its way to a handler.
pub struct Call {
    /// The service.
    pub service: Rc<Service>,
    /// The request.
    pub head: Head,
    /// Who asks. Anonymous requests do not come so far.
    pub user: Arc<User>,
    /// What to check about the body.
    pub payload: PayloadMode,
    /// The body, until somebody takes it.
    body: Option<Incoming>,
}

/// What a handler answers.
pub type Answer = Response<ResponseBody>;

impl Service {
    /// Answers a request.
    pub async fn handle(self: Rc<Self>, request: Request<Incoming>) -> Answer {
        let started = clock::now();
        let request_id = format!("{:016X}", clock::random_u64());
        let (parts, incoming) = request.into_parts();
        let resource = parts.uri.path().to_owned();
        let is_head = parts.method == http::Method::HEAD;
        // A client that waits for leave to send gets the answer instead.
        let waits = crate::http::listener::expects_continue(&parts.headers);
        let mut body = Some(incoming);
        let (operation, result) = match self.head(parts, &request_id) {
            Ok(head) => self.clone().answer(head, &mut body).await,
            Err(error) => (Operation::Unknown, Err(error)),
        };
        if let (Err(_), Some(unread), false) = (&result, body.take(), waits) {
            // A body that has ended needs no reading.
            if !hyper::body::Body::is_end_stream(&unread) {
                drain(&mut BodyReader::new(Source::Http(unread, DRAIN_TIMEOUT), None, 0)).await;
            }
        }
        let mut answer = result.unwrap_or_else(|error| {
            self.metrics.error(operation, &error);
            response::error(&error, &resource, &request_id, &self.settings.host_id, is_head)
        });
        self.sign_off(&mut answer, &request_id);
        self.metrics.answered(operation, answer.status(), clock::now().since(started));
        tracing::debug!(
            request = %request_id,
            operation = operation.name(),
            resource = %resource,
            status = answer.status().as_u16(),
            "answered"
        );
        answer
    }

    fn head(&self, parts: http::request::Parts, request_id: &str) -> S3Result<Head> {
        let host = parts.headers.get(http::header::HOST).and_then(|host| host.to_str().ok());
        let host = host.or_else(|| parts.uri.authority().map(http::uri::Authority::as_str));
        if host.is_none() && parts.version >= http::Version::HTTP_11 {
            return Err(Code::InvalidRequest.with("A request of HTTP/1.1 names its host."));
        }
        let target =
            uri::Target::parse(host.unwrap_or_default(), parts.uri.path(), &self.settings.domains)?;
        Ok(Head {
            query: uri::Query::parse(parts.uri.query().unwrap_or_default())?,
            raw_path: parts.uri.path().to_owned(),
            target,
            now_ms: clock::timestamp().millis(),
            request_id: request_id.to_owned(),
            method: parts.method,
            headers: parts.headers,
        })
    }

    async fn answer(
        self: Rc<Self>,
        head: Head,
        body: &mut Option<Incoming>,
    ) -> (Operation, S3Result<Answer>) {
        let routed = router::route(&head);
        let operation = routed.as_ref().map_or(Operation::Unknown, |operation| *operation);
        let authenticated = {
            let mut cache = self.signing_keys.borrow_mut();
            auth::authenticate(&head, &*self.keys, &mut cache, &["s3"])
        };
        let authenticated = match (authenticated, routed) {
            (Err(error), _) | (Ok(_), Err(error)) => return (operation, Err(error)),
            (Ok(authenticated), Ok(_)) => authenticated,
        };
        let Some(user) = authenticated.user else {
            return (operation, access::anonymous(operation));
        };
        let call =
            Call { service: self, head, user, payload: authenticated.payload, body: body.take() };
        (operation, operations::dispatch(operation, call, body).await)
    }

    /// What every answer carries.
    fn sign_off(&self, answer: &mut Answer, request_id: &str) {
        let headers = answer.headers_mut();
        let mut set = |name: &'static str, text: &str| {
            if let Ok(value) = HeaderValue::from_str(text) {
                headers.insert(name, value);
            }
        };
        set("x-amz-request-id", request_id);
        set("x-amz-id-2", &self.settings.host_id);
        set("server", "store");
    }
}

/// Throws away what the client still sends after an error, within bounds.
async fn drain(reader: &mut BodyReader) {
    let _ = tokio::time::timeout(DRAIN_TIMEOUT, reader.drain(DRAIN_BYTES_MAX)).await;
}

impl Call {
    /// The body as bytes of an object, in pieces.
    pub fn reader(&mut self) -> S3Result<BodyReader> {
        let length = self.head.body_length(self.payload.is_chunked())?;
        let body = self.body.take().ok_or(Code::InternalError)?;
        let source = Source::Http(body, self.service.settings.body_idle);
        Ok(BodyReader::new(source, self.payload.decoder(), length))
    }

    /// The body as a document of at most `bytes_max`, checked against what the head says about it.
    pub async fn document(&mut self, bytes_max: usize) -> S3Result<bytes::Bytes> {
        let announced = checksum::Announced::from_headers(&self.head.headers)?;
        if self.head.headers.get("content-length").is_none()
            && self.head.headers.get("transfer-encoding").is_none()
        {
            return Ok(bytes::Bytes::new());
        }
        let mut reader = self.reader()?;
        if reader.left() > bytes_max as u64 {
            return Err(Code::MaxMessageLengthExceeded.into());
        }
        let mut inspector = auth::payload::Inspector::new(&self.payload, announced, None);
        let mut document = bytes::BytesMut::new();
        while let Some((piece, _)) = reader.piece(&self.service.budget).await? {
            inspector.update(&piece);
            document.extend_from_slice(&piece.data);
        }
        inspector.finish(reader.trailers())?;
        Ok(document.freeze())
    }

    /// Now.
    pub fn now_ms(&self) -> u64 {
        self.head.now_ms
    }

    /// The error for an argument in the query or a header.
    pub fn bad_argument(&self, name: &str, message: &str) -> S3Error {
        let value = self.head.query.value(name).unwrap_or_default();
        S3Error::argument(name, value, message)
    }
}
