//! S3: from a request to an answer.
//!
//! The order in which things are found wrong is S3's: the target, the signature, whether the operation
//! exists, its arguments, the bucket, the access to it, and then what the operation finds.
//!
//! Swift is beside this module ([`crate::swift`]), chosen in [`Service::handle`] by the path.

pub mod access;
pub mod acl;
pub mod auth;
pub mod checksum;
pub mod conditions;
pub mod cors;
pub mod dates;
pub mod encryption;
pub mod error;
pub mod form;
#[cfg(test)]
mod fuzz;
pub mod lifecycle;
pub mod logging;
pub mod names;
pub mod notification;
pub mod operations;
pub mod policy;
pub mod post_policy;
pub mod range;
pub mod request;
pub mod response;
pub mod router;
pub mod uri;
pub mod website;
pub mod xml;

use crate::catalogue::limits::of_bucket;
use crate::catalogue::{Bucket, Catalogue, CatalogueError};
use crate::crypt::kms::NamedKeys;
use crate::crypt::ring::Ring;
use crate::http::body::ResponseBody;
use crate::http::network::{self, Network};
use crate::keyring::{KeyRing, User};
use crate::metrics::Metrics;
use crate::pace::{Pace, Whose};
use crate::transfer::Budget;
use crate::transfer::body::{BodyReader, Source};
use crate::webhook::Webhooks;
use access::rules::Rules;
use auth::payload::PayloadMode;
use error::{Code, S3Error, S3Result};
use http::{HeaderValue, Request, Response};
use hyper::body::Incoming;
use logging::record::Seen;
use logging::{Kind, Logging, may_deliver};
use operations::write::PIECE_OBJECT_BYTES_MAX;
use request::Head;
use router::Operation;
use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use store_base::bucket::{Limits, Refusal};
use store_shell::clock;

/// A body that an error left unread is thrown away up to this many bytes, so that the client reads the
/// answer; a longer one ends the connection.
const DRAIN_BYTES_MAX: usize = 16 << 20;

/// And for at most so long.
pub(crate) const DRAIN_TIMEOUT: Duration = Duration::from_secs(5);

/// Who sends nothing for so long waits for the answer.
const DRAIN_PAUSE: Duration = Duration::from_secs(1);

/// What the S3 side can be told. See [`crate::config::Config`] for the meaning of each.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Region that is told to clients.
    pub region: String,
    /// Domains whose subdomains are buckets.
    pub domains: Vec<String>,
    /// Domains whose subdomains are websites of buckets.
    pub website_domains: Vec<String>,
    /// Longest body that is kept in the index.
    pub inline_bytes_max: u64,
    /// Index shards of a new bucket.
    pub index_shards: u32,
    /// Longest pause of a client within a body.
    pub body_idle: Duration,
    /// Proxies whose word is taken for who their clients are.
    pub trusted_proxies: Vec<Network>,
    /// How long records of access logs are collected.
    pub access_log_every: Duration,
    /// Whether keys that clients bring must come over TLS.
    pub customer_keys_need_tls: bool,
    /// Identifies this gateway in answers.
    pub host_id: String,
    /// Endpoints that may be told of events.
    pub webhooks: Webhooks,
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
    /// The rules of buckets.
    pub rules: access::rules::RulesCache,
    /// How long the days of lifecycle rules are.
    pub calendar: lifecycle::Calendar,
    /// Who was looked up of the members of accounts.
    pub identities: crate::iam::lookup::Lookup,
    /// The cluster's keys for encrypted bodies.
    pub ring: Ring,
    /// Named keys for encrypted bodies.
    pub kms: NamedKeys,
    /// Records of requests that wait for their delivery.
    pub access_log: Arc<logging::collect::AccessLog>,
}

/// Who asks, as far as the signature tells.
#[derive(Clone, Debug)]
pub enum Caller {
    /// There is no signature.
    Anonymous,
    /// This user.
    User(Arc<User>),
}

/// A request that is known to come from `caller`, on its way to a handler.
pub struct Call {
    /// The service.
    pub service: Rc<Service>,
    /// The request.
    pub head: Head,
    /// Who asks.
    pub caller: Caller,
    /// What to check about the body.
    pub payload: PayloadMode,
    /// What lets the request in besides policies and ACLs: Swift has such things.
    pub(crate) grant: crate::swift::acl::Grant,
    /// The body, until somebody takes it.
    pub(crate) body: Option<Incoming>,
    /// How fast the body may come.
    pub(crate) pace: Pace,
    /// What its record in a log will want to know.
    pub(crate) noted: access::Noted,
}

/// What a handler answers.
pub type Answer = Response<ResponseBody>;

impl Service {
    /// Answers a request.
    pub async fn handle(self: Rc<Self>, mut request: Request<Incoming>) -> Answer {
        // Whatever protocol it turns out to be: conditions on addresses are about the client, not its proxy.
        let peer = request.extensions().get().copied().unwrap_or_default();
        let origin = network::origin(peer, request.headers(), &self.settings.trusted_proxies);
        request.extensions_mut().insert(origin);
        // Hosts choose who answers. Of two none is chosen, and S3 refuses the request.
        let hosts = request.headers().get_all(http::header::HOST).iter().count();
        if hosts <= 1 {
            let domains = &self.settings.website_domains;
            if let Some(bucket) = website::serve::bucket_of(&request, domains) {
                return website::serve::handle(self, request, bucket).await;
            }
            if self.is_of_swift(&request).await {
                return crate::swift::handle(self, request).await;
            }
            if crate::iam::is_meant(&request, &self.settings.domains) {
                return crate::iam::handle(self, request).await;
            }
        }
        let started = clock::now();
        let request_id = format!("{:016X}", clock::random_u64());
        let (parts, incoming) = request.into_parts();
        let resource = parts.uri.path().to_owned();
        let is_head = parts.method == http::Method::HEAD;
        // A client that waits for leave to send gets the answer instead.
        let waits = crate::http::listener::expects_continue(&parts.headers);
        let mut body = Some(incoming);
        let (mut crosses, mut asked) = (None, None);
        let mut pace = Pace::default();
        let uri = parts.uri.clone();
        let (operation, result) = match self.head(parts, &request_id) {
            Ok(head) => {
                crosses = head.headers.contains_key("origin").then(|| head.clone());
                let (operation, call, result) =
                    self.clone().answer(head, &mut body, &mut pace).await;
                asked = Some(call);
                (operation, result)
            }
            Err(error) => (Operation::Unknown, Err(error)),
        };
        let error = result.as_ref().err().map(|error| error.code.name());
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
        if let (Some(head), true) = (crosses, operation != Operation::PreflightRequest) {
            self.share_with_origin(&head, &mut answer).await;
        }
        let mut answer = answer.map(|body| body.paced(pace));
        self.sign_off(&mut answer, &request_id);
        let took = clock::now().since(started);
        self.metrics.answered(operation, answer.status(), took);
        if let Some(Call { head, caller, payload, noted, .. }) = &asked {
            let (website, by_acl) = (false, noted.by_acl.get());
            let uri = &uri;
            let seen = Seen { head, caller, payload, uri, operation, website, error, took, by_acl };
            let target = noted.target.borrow().clone();
            self.log(&seen, target, &answer).await;
        }
        tracing::debug!(
            request = %request_id,
            operation = operation.name(),
            resource = %resource,
            status = answer.status().as_u16(),
            "answered"
        );
        answer
    }

    /// Whether a request is one of Swift. Where its host could be an account's or a bucket's, it is that of the bucket
    /// that is there.
    async fn is_of_swift(&self, request: &Request<Incoming>) -> bool {
        let domains = &self.settings.domains;
        if !crate::swift::is_meant(request, domains) {
            return false;
        }
        match crate::swift::bucket_instead(request, domains) {
            Some(bucket) => matches!(
                self.catalogue.bucket(&bucket).await,
                Err(CatalogueError::Refused(Refusal::NoBucket {}))
            ),
            None => true,
        }
    }

    fn head(&self, parts: http::request::Parts, request_id: &str) -> S3Result<Head> {
        let host = parts.headers.get(http::header::HOST).and_then(|host| host.to_str().ok());
        let host = host.or_else(|| parts.uri.authority().map(http::uri::Authority::as_str));
        if host.is_none() && parts.version >= http::Version::HTTP_11 {
            return Err(Code::InvalidRequest.with("A request of HTTP/1.1 names its host."));
        }
        // Two readings of one request are how requests are smuggled through proxies. Of two lengths, hyper
        // goes by the transfer's encoding and drops the other.
        if parts.headers.get_all(http::header::HOST).iter().count() > 1 {
            return Err(Code::InvalidRequest.with("A request names one host."));
        }
        if crate::http::listener::is_coded(&parts.headers) {
            return Err(Code::NotImplemented.with("A body comes in no other coding than chunks."));
        }
        let target =
            uri::Target::parse(host.unwrap_or_default(), parts.uri.path(), &self.settings.domains)?;
        Ok(Head {
            query: uri::Query::parse(parts.uri.query().unwrap_or_default())?,
            raw_path: parts.uri.path().to_owned(),
            target,
            now_ms: clock::timestamp().millis(),
            request_id: request_id.to_owned(),
            peer: parts.extensions.get().copied().unwrap_or_default(),
            method: parts.method,
            headers: parts.headers,
        })
    }

    async fn answer(
        self: Rc<Self>,
        head: Head,
        body: &mut Option<Incoming>,
        pace_out: &mut Pace,
    ) -> (Operation, Call, S3Result<Answer>) {
        let mut routed = router::route(&head);
        let mut operation = routed.as_ref().map_or(Operation::Unknown, |operation| *operation);
        let (caller, payload) = (Caller::Anonymous, PayloadMode::Unsigned);
        let mut call = Call {
            service: self.clone(),
            head,
            caller,
            payload,
            grant: Default::default(),
            body: None,
            pace: Pace::default(),
            noted: Default::default(),
        };
        // A browser asks before it has what the signature is made of.
        if operation != Operation::PreflightRequest {
            let authenticated = self.authenticate(&call.head, &["s3"]).await;
            if authenticated.as_ref().is_ok_and(|authenticated| authenticated.user.is_some()) {
                if let Err(error) = auth::take_signed_headers(&mut call.head) {
                    return (operation, call, Err(error));
                }
                // The source of a copy may be among them.
                routed = router::route(&call.head);
                operation = routed.as_ref().map_or(Operation::Unknown, |operation| *operation);
            }
            match (authenticated, routed) {
                (Err(error), _) | (Ok(_), Err(error)) => return (operation, call, Err(error)),
                (Ok(authenticated), Ok(_)) => {
                    call.caller = authenticated.user.map_or(Caller::Anonymous, Caller::User);
                    call.payload = authenticated.payload;
                }
            }
            match self.admit(&call.caller, call.head.target.bucket.as_deref()).await {
                Ok((pace, out)) => {
                    call.pace = pace;
                    *pace_out = out;
                }
                Err(error) => return (operation, call, Err(error)),
            }
        }
        call.body = body.take();
        let result = operations::dispatch(operation, &mut call, body).await;
        (operation, call, result)
    }

    /// Notes a request in the log of its bucket, if it has one. `target` is the bucket as it was when the request came, if it
    /// was looked at: its removal is in its log.
    pub(crate) async fn log(
        &self,
        seen: &Seen<'_>,
        target: Option<(Rc<Bucket>, Rc<Rules>)>,
        answer: &Answer,
    ) {
        // Of a bucket that is not there nobody wants a log.
        let Some(name) = &seen.head.target.bucket else { return };
        if seen.error == Some(Code::NoSuchBucket.name()) {
            return;
        }
        let (bucket, rules) = match target {
            Some(found) => found,
            None => {
                let Ok(bucket) = self.catalogue.bucket(name).await else { return };
                let Ok(rules) = self.rules.rules(&bucket) else { return };
                (bucket, rules)
            }
        };
        let Some(logging) = &rules.logging else { return };
        if logging.kind == Kind::Standard && !self.collect(seen, &bucket, logging, answer).await {
            self.metrics.log_dropped(1);
        }
    }

    /// Whether the target takes the record, and there is room for it.
    async fn collect(
        &self,
        seen: &Seen<'_>,
        bucket: &Bucket,
        logging: &Logging,
        answer: &Answer,
    ) -> bool {
        let Ok(target) = self.catalogue.bucket(&logging.target).await else { return false };
        let Ok(rules) = self.rules.rules(&target) else { return false };
        if !may_deliver(bucket, &target, &rules, &logging.prefix, &logging.prefix) {
            return false;
        }
        let line = logging::record::line(seen, bucket, answer, &self.settings.host_id);
        let roll = logging.roll(self.settings.access_log_every);
        let record = (seen.head.now_ms, line.as_str());
        self.access_log.add(bucket, target.id, logging, roll, record)
    }

    /// Holds a request against the rates of its user and its bucket: `SlowDown` beyond them. How fast its body may
    /// come, and the answer's go.
    pub(crate) async fn admit(
        &self,
        caller: &Caller,
        bucket: Option<&str>,
    ) -> S3Result<(Pace, Pace)> {
        let whose = self.limited(caller, bucket).await?;
        self.admit_on(&whose, &whose)
    }

    /// The same for who is known only after his request was admitted as nobody's: it counts on his own meter, as it
    /// has on that of the bucket.
    pub(crate) async fn admit_again(
        &self,
        caller: &Caller,
        bucket: Option<&str>,
    ) -> S3Result<(Pace, Pace)> {
        let own = self.limited(caller, None).await?;
        self.admit_on(&own, &self.limited(caller, bucket).await?)
    }

    /// Counts a request on some meters; its bodies go at the pace of others.
    fn admit_on(
        &self,
        counting: &[(Whose, Limits)],
        pacing: &[(Whose, Limits)],
    ) -> S3Result<(Pace, Pace)> {
        match self.catalogue.meters().admits(counting) {
            true => Ok(self.catalogue.meters().paces(pacing)),
            false => Err(Code::SlowDown.into()),
        }
    }

    /// Whose rates hold for a request.
    async fn limited(
        &self,
        caller: &Caller,
        bucket: Option<&str>,
    ) -> S3Result<Vec<(Whose, Limits)>> {
        let mut whose = Vec::new();
        if let Caller::User(user) = caller {
            let limits = self.catalogue.limits(&user.id).await?;
            whose.push((Whose::User(user.id.clone()), limits));
        }
        // A bucket that is not there has no limits.
        if let Some(name) = bucket
            && let Ok(bucket) = self.catalogue.bucket(name).await
        {
            whose.push((Whose::Bucket(bucket.id), of_bucket(&bucket)));
        }
        Ok(whose)
    }

    /// Finds out who signed a request, for one of these services.
    pub(crate) async fn authenticate(
        &self,
        head: &Head,
        services: &[&str],
    ) -> S3Result<auth::Authenticated> {
        let keys = self.identities.ring(self, head).await?;
        let mut cache = self.signing_keys.borrow_mut();
        auth::authenticate(head, &keys, &mut cache, services)
    }

    /// What the bucket lets pages of another origin see of an answer, of an error also.
    pub(crate) async fn share_with_origin(&self, head: &Head, answer: &mut Answer) {
        let (Ok(Some(origin)), Some(bucket)) = (head.header("origin"), &head.target.bucket) else {
            return;
        };
        let Ok(bucket) = self.catalogue.bucket(bucket).await else { return };
        let Ok(rules) = self.rules.rules(&bucket) else { return };
        let asked = head.header("access-control-request-method").ok().flatten();
        let method = asked.unwrap_or(head.method.as_str());
        let rule = rules.cors.as_ref().and_then(|cors| cors.rule(origin, method, &[]));
        if let Some(rule) = rule {
            rule.apply(origin, None, answer.headers_mut());
        }
    }

    /// What every answer carries.
    pub(crate) fn sign_off(&self, answer: &mut Answer, request_id: &str) {
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
pub(crate) async fn drain(reader: &mut BodyReader) {
    let _ = tokio::time::timeout(DRAIN_TIMEOUT, reader.drain(DRAIN_BYTES_MAX, DRAIN_PAUSE)).await;
}

impl Call {
    /// The body as bytes of an object, in pieces.
    pub fn reader(&mut self) -> S3Result<BodyReader> {
        let length = match self.head.is_open_ended() && !self.payload.is_chunked() {
            true => None,
            false => Some(self.head.body_length(self.payload.is_chunked())?),
        };
        let body = self.body.take().ok_or(Code::InternalError)?;
        let source = Source::Http(body, self.service.settings.body_idle);
        let reader = match length {
            Some(length) => BodyReader::new(source, self.payload.decoder(), length),
            None => BodyReader::open(source, PIECE_OBJECT_BYTES_MAX),
        };
        Ok(reader.paced(self.pace.clone()))
    }

    /// The body as a document of at most `bytes_max`, checked against what the head says about it.
    pub async fn document(&mut self, bytes_max: usize) -> S3Result<bytes::Bytes> {
        let announced = checksum::Announced::from_headers(&self.head.headers)?;
        if self.head.headers.get("content-length").is_none()
            && self.head.headers.get("transfer-encoding").is_none()
        {
            return Ok(bytes::Bytes::new());
        }
        // A document is short: its length is known.
        self.head.body_length(self.payload.is_chunked())?;
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

    /// What a user is called.
    pub fn display_name(&self, id: &str) -> String {
        self.service.keys.display_name(id).unwrap_or_else(|| id.to_owned())
    }

    /// The error for an argument in the query or a header.
    pub fn bad_argument(&self, name: &str, message: &str) -> S3Error {
        let value = self.head.query.value(name).unwrap_or_default();
        S3Error::argument(name, value, message)
    }
}
