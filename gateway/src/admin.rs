//! The admin port: the cluster's status, health and commands as JSON, for administrators.
//!
//! | request | answer |
//! |---|---|
//! | `GET /status` | the command `status` |
//! | `GET /health` | the command `health detail` |
//! | `POST /command` with `{"prefix": "osd pool ls", …}` | that command; `input_base64` carries input bytes |
//! | `GET /encryption/keys` | the versions of the cluster's keys for encrypted objects |
//! | `POST /encryption/rotate` | the same, after making a new one, which gateways use within a minute |
//! | `GET /kms/keys`, `GET /kms/keys?id=ID` | the named keys (SSE-KMS), or one |
//! | `POST /kms/keys` with `{"action": "create", "id": "…", "description": "…"}` | that key; without an id it gets a UUID |
//! | the same with `enable`, `disable`, `rotate`, `undelete`, and `delete` with `days` (7 to 30) | the key as it is then; gateways go by it within five seconds |
//!
//! An answer is `{"code": 0, "status": "…", "output": …}`: the output as JSON if it is, else as text. A
//! command that failed has a negative errno as code, and HTTP 400, 403, 404, 409 or 503.
//!
//! Who may: users with the admin flag. Two ways to say who one is:
//! - an AWS Signature Version 4 in the header, for service `store` or `s3`, with the body's SHA-256;
//! - `Authorization: Bearer ACCESS_KEY.YYYYMMDD.TOKEN`, where TOKEN is the hex HMAC-SHA256, keyed with the
//!   secret, of `store-admin YYYYMMDD`. A token is good on its day and the days beside it (UTC).
//!
//! Commands that change things need the signature of their body: a bearer may only read.

mod keys;

use crate::keyring::{KeyRing, User};
use crate::s3::auth::payload::{Inspector, PayloadMode, Piece};
use crate::s3::auth::{self, SigningKeys};
use crate::s3::checksum::Announced;
use crate::s3::dates;
use crate::s3::error::{Code, S3Error, S3Result};
use crate::s3::request::Head;
use crate::s3::uri::{Query, Target};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE};
use http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use serde_json::{Value, json};
use std::convert::Infallible;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use store_base::op::errno;
use store_client::StoreClient;
use store_shell::clock;
use store_shell::shutdown::Shutdown;
use subtle::ConstantTimeEq;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_rustls::TlsAcceptor;

/// Most bytes of a command.
const COMMAND_BYTES_MAX: usize = 4 << 20;

/// Connections at a time; more wait.
const CONNECTIONS_MAX: usize = 64;

/// A whole request, its answer included, takes at most so long.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(60);

/// How long a connection may be idle, and a head take to come.
const HEAD_TIMEOUT: Duration = Duration::from_secs(30);

/// What there is.
const PATHS: [&str; 6] =
    ["/status", "/health", "/command", "/encryption/keys", "/encryption/rotate", "/kms/keys"];

const SECS_OF_DAY: u64 = 86_400;

/// The admin service.
pub struct Admin {
    client: StoreClient,
    keys: Arc<dyn KeyRing>,
    signing_keys: Mutex<SigningKeys>,
}

impl Admin {
    /// Forwards to the monitor through this client.
    pub fn new(client: StoreClient, keys: Arc<dyn KeyRing>) -> Self {
        Admin { client, keys, signing_keys: Mutex::default() }
    }

    /// Serves until the shutdown.
    pub async fn serve(
        self: Arc<Self>,
        listener: TcpListener,
        tls: Option<TlsAcceptor>,
        shutdown: Shutdown,
    ) {
        let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
        loop {
            let place = places.clone().acquire_owned().await.expect("never closed");
            let stream = tokio::select! {
                () = shutdown.wait() => return,
                accepted = listener.accept() => match accepted {
                    Ok((stream, _)) => stream,
                    Err(error) => {
                        tracing::warn!(%error, "accept failed on the admin port");
                        tokio::time::sleep(Duration::from_millis(50)).await;
                        continue;
                    }
                },
            };
            let (admin, tls) = (self.clone(), tls.clone());
            tokio::spawn(async move {
                admin.one(stream, tls).await;
                drop(place);
            });
        }
    }

    async fn one(self: Arc<Self>, stream: TcpStream, tls: Option<TlsAcceptor>) {
        let Some(tls) = tls else { return self.converse(stream).await };
        match tokio::time::timeout(HEAD_TIMEOUT, tls.accept(stream)).await {
            Ok(Ok(stream)) => self.converse(stream).await,
            _ => tracing::debug!("TLS handshake on the admin port failed"),
        }
    }

    async fn converse<S: AsyncRead + AsyncWrite + Unpin + Send>(self: Arc<Self>, stream: S) {
        let service = service_fn(|request| {
            let admin = self.clone();
            async move {
                let answer = tokio::time::timeout(REQUEST_TIMEOUT, admin.answer(request)).await;
                Ok::<_, Infallible>(answer.unwrap_or_else(|_| {
                    respond(StatusCode::GATEWAY_TIMEOUT, &json!({"status": "took too long"}))
                }))
            }
        });
        let ended = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD_TIMEOUT)
            .serve_connection(TokioIo::new(stream), service)
            .await;
        if let Err(error) = ended {
            tracing::debug!(%error, "admin connection ended");
        }
    }

    async fn answer(&self, request: Request<Incoming>) -> Response<Full<Bytes>> {
        match self.run(request).await {
            Ok(answer) => answer,
            Err(error) => {
                let number = match error.code.status() {
                    StatusCode::FORBIDDEN => errno::EACCES,
                    _ => errno::EINVAL,
                };
                let body =
                    json!({"code": -number, "status": error.message, "error": error.code.name()});
                respond(error.code.status(), &body)
            }
        }
    }

    async fn run(&self, request: Request<Incoming>) -> S3Result<Response<Full<Bytes>>> {
        let (parts, body) = request.into_parts();
        let head = head(parts)?;
        let body = Limited::new(body, COMMAND_BYTES_MAX).collect().await;
        let body = body.map_err(|_| Code::MaxMessageLengthExceeded)?.to_bytes();
        let bearer = head.headers.get(AUTHORIZATION).and_then(bearer_token).map(str::to_owned);
        let user = match &bearer {
            Some(token) => self.bearer(token, head.now_ms)?,
            None => self.signed(&head, &body)?,
        };
        if !user.admin {
            return Err(Code::AccessDenied.with("the user is no administrator"));
        }
        let (command, input) = match (head.method.as_str(), head.raw_path.as_str()) {
            ("GET", "/status") => (json!({"prefix": "status"}), Bytes::new()),
            ("GET", "/health") => (json!({"prefix": "health detail"}), Bytes::new()),
            ("POST", "/command") if bearer.is_none() => command(&body)?,
            ("POST", "/command") => {
                let (command, input) = command(&body)?;
                if !reads_only(&command) {
                    return Err(reads_only_bearer());
                }
                (command, input)
            }
            ("GET", "/encryption/keys") => {
                return Ok(keys::cluster_keys(&self.client, &*self.keys, false).await);
            }
            ("GET", "/kms/keys") => {
                return Ok(keys::named_keys(&self.client, head.query.value("id")).await);
            }
            ("POST", "/encryption/rotate" | "/kms/keys") if bearer.is_some() => {
                return Err(reads_only_bearer());
            }
            ("POST", "/encryption/rotate") => {
                tracing::info!(user = %user.id, "a new key for encrypted objects");
                return Ok(keys::cluster_keys(&self.client, &*self.keys, true).await);
            }
            ("POST", "/kms/keys") => {
                tracing::info!(user = %user.id, "a change of the named keys");
                return keys::change_named(&self.client, &body).await;
            }
            (_, path) if PATHS.contains(&path) => return Err(Code::MethodNotAllowed.into()),
            _ => {
                let status = format!("here are {}", PATHS.join(", "));
                return Ok(respond(StatusCode::NOT_FOUND, &json!({"status": status})));
            }
        };
        tracing::info!(user = %user.id, command = %command["prefix"], "admin command");
        Ok(self.forward(&command, input).await)
    }

    async fn forward(&self, command: &Value, input: Bytes) -> Response<Full<Bytes>> {
        let deadline = REQUEST_TIMEOUT / 2;
        match self.client.monitor().command_reply(command, input, deadline).await {
            Ok(reply) => {
                let output = match serde_json::from_slice::<Value>(&reply.output) {
                    Ok(value) => value,
                    Err(_) => Value::String(String::from_utf8_lossy(&reply.output).into_owned()),
                };
                let body = json!({"code": reply.code, "status": reply.status, "output": output});
                respond(http_status(reply.code), &body)
            }
            Err(error) => {
                let code = error.errno();
                respond(http_status(code), &json!({"code": code, "status": error.to_string()}))
            }
        }
    }

    fn signed(&self, head: &Head, body: &Bytes) -> S3Result<Arc<User>> {
        let authenticated = {
            let mut cache = self.signing_keys.lock().unwrap_or_else(PoisonError::into_inner);
            auth::authenticate(head, &*self.keys, &mut cache, &["store", "s3"])?
        };
        let user = authenticated.user.ok_or(Code::AccessDenied)?;
        // The body is part of what is asked here: it must be signed. A presigned URL and version 2
        // do not sign it.
        if !matches!(authenticated.payload, PayloadMode::Hashed(_)) && !body.is_empty() {
            return Err(Code::AccessDenied.with("the body must be signed: x-amz-content-sha256"));
        }
        if !matches!(authenticated.payload, PayloadMode::Hashed(_)) && head.method != Method::GET {
            return Err(Code::AccessDenied.with("the body must be signed: x-amz-content-sha256"));
        }
        let mut inspector = Inspector::new(&authenticated.payload, Announced::default(), None);
        inspector.update(&Piece { data: body.clone(), chunk_ends: Vec::new() });
        inspector.finish(&[])?;
        Ok(user)
    }

    /// `ACCESS_KEY.YYYYMMDD.TOKEN`
    fn bearer(&self, token: &str, now_ms: u64) -> S3Result<Arc<User>> {
        let denied = || S3Error::from(Code::AccessDenied);
        let (rest, given) = token.rsplit_once('.').ok_or_else(denied)?;
        let (access_key, day) = rest.rsplit_once('.').ok_or_else(denied)?;
        let user = self.keys.user(access_key).ok_or(Code::InvalidAccessKeyId)?;
        let start = dates::parse_compact(&format!("{day}T000000Z")).ok_or_else(denied)?;
        let today = now_ms / 1000 / SECS_OF_DAY * SECS_OF_DAY;
        if start.abs_diff(today) > SECS_OF_DAY {
            return Err(Code::AccessDenied.with("the token is of another day"));
        }
        let expected = bearer_of(&user.secret, day);
        match bool::from(expected.as_bytes().ct_eq(given.as_bytes())) {
            true => Ok(user),
            false => Err(Code::SignatureDoesNotMatch.into()),
        }
    }
}

/// The token of a day, `YYYYMMDD`.
pub fn bearer_of(secret: &str, day: &str) -> String {
    let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, secret.as_bytes());
    hex::encode(ring::hmac::sign(&key, format!("store-admin {day}").as_bytes()))
}

fn bearer_token(value: &HeaderValue) -> Option<&str> {
    value.to_str().ok()?.strip_prefix("Bearer ").map(str::trim)
}

fn reads_only_bearer() -> S3Error {
    Code::AccessDenied.with("a bearer token may read only: sign the request to change something")
}

/// Commands that show and change nothing, by the last word of their name.
fn reads_only(command: &Value) -> bool {
    const SHOWING: [&str; 12] = [
        "status",
        "health",
        "health detail",
        "df",
        "osd tree",
        "osd ls",
        "osd df",
        "osd pool ls",
        "osd pool get",
        "osd pool stats",
        "pg stat",
        "config get",
    ];
    command["prefix"].as_str().is_some_and(|prefix| SHOWING.contains(&prefix))
}

fn command(body: &[u8]) -> S3Result<(Value, Bytes)> {
    let invalid = |why: &str| Code::InvalidRequest.with(why);
    let mut command: Value = serde_json::from_slice(body)
        .map_err(|error| invalid(&format!("the body is no JSON: {error}")))?;
    let fields = command
        .as_object_mut()
        .filter(|fields| fields.get("prefix").is_some_and(Value::is_string))
        .ok_or_else(|| invalid("the body must be a JSON object with \"prefix\""))?;
    let input = match fields.remove("input_base64") {
        None => Bytes::new(),
        Some(Value::String(text)) => {
            STANDARD.decode(text).map_err(|_| invalid("input_base64 is no base64"))?.into()
        }
        Some(_) => return Err(invalid("input_base64 must be a string")),
    };
    Ok((command, input))
}

fn head(parts: http::request::Parts) -> S3Result<Head> {
    Ok(Head {
        query: Query::parse(parts.uri.query().unwrap_or_default())?,
        raw_path: parts.uri.path().to_owned(),
        target: Target::default(),
        now_ms: clock::timestamp().millis(),
        request_id: String::new(),
        peer: Default::default(),
        method: parts.method,
        headers: parts.headers,
    })
}

fn http_status(code: i32) -> StatusCode {
    match -code {
        0 | i32::MIN..0 => StatusCode::OK,
        errno::ENOENT => StatusCode::NOT_FOUND,
        errno::EEXIST | errno::EBUSY => StatusCode::CONFLICT,
        errno::EPERM | errno::EACCES => StatusCode::FORBIDDEN,
        errno::EAGAIN | errno::ETIMEDOUT => StatusCode::SERVICE_UNAVAILABLE,
        _ => StatusCode::BAD_REQUEST,
    }
}

fn respond(status: StatusCode, body: &Value) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(body.to_string() + "\n")));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_objects_with_a_name() {
        let (parsed, input) =
            command(br#"{"prefix":"osd crush set","input_base64":"aGk="}"#).unwrap();
        assert_eq!((parsed, &input[..]), (json!({"prefix": "osd crush set"}), &b"hi"[..]));
        for bad in [
            "",
            "[]",
            "{}",
            r#"{"prefix":1}"#,
            r#"{"prefix":"a","input_base64":"!"}"#,
            r#"{"prefix":"a","input_base64":1}"#,
        ] {
            assert!(command(bad.as_bytes()).is_err(), "{bad}");
        }
        assert!(reads_only(&json!({"prefix": "status"})));
        assert!(!reads_only(&json!({"prefix": "osd pool rm"})));
        assert!(!reads_only(&json!({"prefix": "user key ls"})));
    }

    #[test]
    fn statuses_follow_the_errno() {
        assert_eq!(http_status(0), StatusCode::OK);
        assert_eq!(http_status(-errno::ENOENT), StatusCode::NOT_FOUND);
        assert_eq!(http_status(-errno::EINVAL), StatusCode::BAD_REQUEST);
        assert_eq!(bearer_of("secret", "20260102").len(), 64);
        assert_ne!(bearer_of("secret", "20260102"), bearer_of("secret", "20260103"));
    }
}
