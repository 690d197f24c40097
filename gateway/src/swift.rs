//! OpenStack Swift on the same listener and the same objects as S3: an account is a user, a container is one
//! of his buckets, an object is a key, `X-Object-Meta-*` is `x-amz-meta-*`.
//!
//! Whose request it is says the path: `/info`, `/auth/v1.0` and `/v1/AUTH_…` are Swift's, unless the
//! request is signed for S3 or its host names a bucket. So every bucket stays reachable over S3, those
//! named `info`, `auth` and `v1` as well. Who brings a token means Swift with all that begins with `/v1`.
//!
//! Below the two translations everything is one: the catalogue, the transfer of bodies, the reading and
//! committing of objects (`s3::operations::{read, write, copy}`), so what is written over one protocol is
//! seen at once over the other.
//!
//! The order in which things are found wrong: the path, the token, the account, the method, the arguments, the
//! container, and then what the operation finds.

mod access;
mod account;
pub mod acl;
mod archive;
mod arrival;
mod bulk;
mod container;
mod copy;
mod cors;
pub mod error;
mod formpost;
mod info;
pub(crate) mod large;
mod legacy;
mod listing;
mod metadata;
mod object;
mod path;
mod quota;
mod read;
mod respond;
mod slo;
mod staticweb;
mod symlink;
mod tempurl;
pub mod token;
mod unpack;
mod versions;

use crate::http::body::ResponseBody;
use crate::keyring::User;
use crate::pace::Pace;
use crate::s3::auth::Claimed;
use crate::s3::auth::payload::PayloadMode;
use crate::s3::request::Head;
use crate::s3::{Answer, Call, Caller, DRAIN_TIMEOUT, Service, drain, response, uri};
use crate::transfer::body::{BodyReader, Source};
use error::{SwiftError, SwiftResult};
use http::header::{HOST, HeaderName, HeaderValue};
use http::{HeaderMap, Method, Request, StatusCode};
use hyper::body::{Body, Incoming};
use path::{Named, Path};
use std::rc::Rc;
use std::sync::Arc;
use store_shell::clock;

/// The headers that a token comes in; of two the first.
const TOKENS: [&str; 2] = ["x-auth-token", "x-storage-token"];

/// Whether a request is one of Swift.
pub fn is_meant<B>(request: &Request<B>, domains: &[String]) -> bool {
    let host = host_of(request.headers());
    let raw = request.uri().path();
    if path::remapped(host, raw, domains).is_some() {
        return !is_signed(request);
    }
    let has_token = TOKENS.iter().any(|name| request.headers().contains_key(*name));
    let by_token = has_token && path::is_of_version(raw);
    if !path::is_swift(raw) && !by_token {
        return false;
    }
    let by_host = uri::Target::parse(host, "/", domains);
    !by_host.is_ok_and(|target| target.by_host) && !is_signed(request)
}

/// The bucket that the host of a request of Swift may name instead of an account: `auth-logs` is a good name for one. Only
/// a request that says nothing of itself, neither with a signature nor with a token, is in doubt.
pub fn bucket_instead<B>(request: &Request<B>, domains: &[String]) -> Option<String> {
    let has_token = TOKENS.iter().any(|name| request.headers().contains_key(*name));
    let host = host_of(request.headers());
    path::remapped(host, request.uri().path(), domains).filter(|_| !has_token)?;
    uri::virtual_bucket(host, domains).filter(|bucket| !bucket.contains('_'))
}

/// The `Host` header, which clients send with containers of every name in it.
fn host_of(headers: &HeaderMap) -> &str {
    let host = headers.get(HOST).map(HeaderValue::as_bytes).unwrap_or_default();
    std::str::from_utf8(host).unwrap_or_default()
}

/// Whether a request is signed for S3, however well.
fn is_signed<B>(request: &Request<B>) -> bool {
    let header = request.headers().get(http::header::AUTHORIZATION);
    let query = request.uri().query().unwrap_or_default();
    header.is_some_and(|value| value.as_bytes().starts_with(b"AWS"))
        || query.split('&').any(|pair| {
            ["X-Amz-Signature", "X-Amz-Algorithm", "AWSAccessKeyId"]
                .contains(&pair.split_once('=').map_or(pair, |(name, _)| name))
        })
}

/// Answers a request of Swift.
pub async fn handle(service: Rc<Service>, request: Request<Incoming>) -> Answer {
    let started = clock::now();
    let transaction = format!(
        "tx{:016x}{:05x}-{:010x}",
        clock::random_u64(),
        clock::random_u64() & 0xf_ffff,
        clock::timestamp().millis() / 1000
    );
    let (parts, incoming) = request.into_parts();
    let is_head = parts.method == Method::HEAD;
    let waits = crate::http::listener::expects_continue(&parts.headers);
    let raw_path = parts.uri.path().to_owned();
    let mut body = Some(incoming);
    let mut operation = "SwiftUnknown";
    let result = answer(&service, parts, &transaction, &mut body, &mut operation).await;
    if let (Err(_), Some(unread), false) = (&result, body.take(), waits) {
        // A body that has ended needs no reading.
        if !unread.is_end_stream() {
            drain(&mut BodyReader::new(Source::Http(unread, DRAIN_TIMEOUT), None, 0)).await;
        }
    }
    let mut answer = result.unwrap_or_else(|error| error.answer(is_head));
    let headers = answer.headers_mut();
    response::set(headers, "x-trans-id", &transaction);
    response::set(headers, "x-openstack-request-id", &transaction);
    response::set(headers, "server", "store");
    service.metrics.answered_as(operation, answer.status(), clock::now().since(started));
    let status = answer.status().as_u16();
    tracing::debug!(request = %transaction, operation, path = %raw_path, status, "answered");
    answer
}

async fn answer(
    service: &Rc<Service>,
    parts: http::request::Parts,
    transaction: &str,
    body: &mut Option<Incoming>,
    operation: &mut &'static str,
) -> SwiftResult<Answer> {
    let mapped =
        path::remapped(host_of(&parts.headers), parts.uri.path(), &service.settings.domains);
    let path = Path::parse(mapped.as_deref().unwrap_or_else(|| parts.uri.path()))?;
    if crate::http::listener::is_coded(&parts.headers) {
        return Err(SwiftError::not_there("Transfer-Encoding"));
    }
    let head = Head {
        query: uri::Query::parse(parts.uri.query().unwrap_or_default())?,
        raw_path: parts.uri.path().to_owned(),
        target: uri::Target::default(),
        now_ms: clock::timestamp().millis(),
        request_id: transaction.to_owned(),
        peer: parts.extensions.get().copied().unwrap_or_default(),
        method: parts.method,
        headers: parts.headers,
    };
    let named = match path {
        Path::Info => {
            *operation = "SwiftInfo";
            return match head.method {
                Method::GET | Method::HEAD => Ok(info::answer(service)),
                Method::OPTIONS => Ok(info::options()),
                _ => Err(SwiftError::not_allowed("GET, HEAD, OPTIONS")),
            };
        }
        Path::Auth => {
            *operation = "SwiftLogIn";
            return log_in(service, &head).await;
        }
        Path::Named(named) => named,
    };
    let caller = match user_of(service, &head).await? {
        Ok(None) => Caller::Anonymous,
        Ok(Some(user)) => Caller::User(service.identities.with_policies(service, user).await?),
        Err(()) => return Err(unauthorized(&format!("AUTH_{}", named.account))),
    };
    let target =
        uri::Target { bucket: named.container.clone(), key: named.object.clone(), by_host: false };
    let mut call = Call {
        service: service.clone(),
        head: Head { target, ..head },
        caller,
        payload: PayloadMode::Unsigned,
        grant: acl::Grant::None,
        body: body.take(),
        pace: Pace::default(),
        noted: Default::default(),
    };
    let asked = call.head.query.clone();
    let mut pace_out = Pace::default();
    let mut answer = admit(&mut call, &named, operation, &mut pace_out).await;
    // Who has said nothing of himself is asked who he is, not refused.
    if let (Caller::Anonymous, Err(error)) = (&call.caller, &answer)
        && error.status == StatusCode::FORBIDDEN
    {
        answer = Err(unauthorized(&format!("AUTH_{}", named.account)));
    }
    *body = call.body.take();
    call.head.query = asked;
    let is_head = call.head.method == Method::HEAD;
    if !call.head.headers.contains_key("origin") || call.head.method == Method::OPTIONS {
        return answer.map(|answer| answer.map(|body| body.paced(pace_out)));
    }
    let mut answer = answer.unwrap_or_else(|error| error.answer(is_head));
    cors::share(&call, &named, answer.headers_mut()).await;
    Ok(answer.map(|body| body.paced(pace_out)))
}

/// Finds out what the request may do, and does it.
async fn admit(
    call: &mut Call,
    named: &Named,
    operation: &mut &'static str,
    pace_out: &mut Pace,
) -> SwiftResult<Answer> {
    if call.head.method == Method::OPTIONS {
        *operation = "SwiftOptions";
        return cors::options(call, named).await;
    }
    if let Some(container) = &named.container {
        let bucket = access::bucket_name(call, &named.account, container).await?;
        call.head.target.bucket = Some(bucket.unwrap_or_else(|| container.clone()));
    }
    let limited = call.head.target.bucket.as_deref();
    (call.pace, *pace_out) = call.service.admit(&call.caller, limited).await?;
    if tempurl::is_meant(call) {
        let signed = tempurl::admit(call, named).await?;
        let permit = access::signed(&named.account);
        let page = staticweb::serve(call, &permit, named, Some(&signed)).await;
        let mut answer = match page {
            Some(answer) => answer?,
            None if named.object.is_none() => return Err(tempurl::invalid()),
            None => run(call, named, &permit, operation).await?,
        };
        signed.finish(call, &mut answer);
        return Ok(answer);
    }
    if formpost::is_meant(call) {
        *operation = "SwiftFormPost";
        return formpost::post(call, named).await;
    }
    let permit = access::account(call, &named.account).await?;
    if let Some(answer) = staticweb::serve(call, &permit, named, None).await {
        *operation = "SwiftStaticWeb";
        return answer;
    }
    run(call, named, &permit, operation).await
}

/// Runs what method and path say.
async fn run(
    call: &mut Call,
    named: &Named,
    permit: &access::AccountPermit,
    operation: &mut &'static str,
) -> SwiftResult<Answer> {
    let method = call.head.method.clone();
    if call.head.query.has("bulk-delete") && matches!(method, Method::POST | Method::DELETE) {
        *operation = "SwiftBulkDelete";
        return bulk::delete(call, permit).await;
    }
    if call.head.query.has("extract-archive") && method == Method::PUT {
        *operation = "SwiftExtractArchive";
        return archive::extract(call, permit, named).await;
    }
    if let Some(key) = &named.object {
        object::check_name(key)?;
    }
    let mut is = |name| *operation = name;
    match (&named.container, &named.object, method.as_str()) {
        (None, _, "GET" | "HEAD") => {
            is("SwiftReadAccount");
            account::read(call, permit).await
        }
        (None, _, "POST") => {
            is("SwiftPostAccount");
            account::post(call, permit).await
        }
        (Some(_), None, "GET" | "HEAD") => {
            is("SwiftReadContainer");
            container::read(call, permit).await
        }
        (Some(name), None, "PUT") => {
            is("SwiftPutContainer");
            container::put(call, permit, name).await
        }
        (Some(_), None, "POST") => {
            is("SwiftPostContainer");
            container::post(call, permit).await
        }
        (Some(_), None, "DELETE") => {
            is("SwiftDeleteContainer");
            container::delete(call, permit).await
        }
        (Some(name), Some(_), "GET" | "HEAD") => {
            is("SwiftReadObject");
            read::read(call, permit, name).await
        }
        (Some(_), Some(_), "PUT") => {
            is("SwiftPutObject");
            object::put(call, permit).await
        }
        (Some(_), Some(_), "POST") => {
            is("SwiftPostObject");
            object::post(call, permit).await
        }
        (Some(name), Some(_), "COPY") => {
            is("SwiftCopyObject");
            copy::copy_to(call, permit, name).await
        }
        (Some(_), Some(_), "DELETE") => {
            is("SwiftDeleteObject");
            object::delete(call, permit).await
        }
        (container, object, _) => {
            permit.wants(acl::Role::ReadOnly)?;
            Err(SwiftError::not_allowed(match (container, object) {
                (None, _) => "GET, HEAD, POST, OPTIONS",
                (_, None) => "GET, HEAD, PUT, POST, DELETE, OPTIONS",
                _ => "GET, HEAD, PUT, POST, COPY, DELETE, OPTIONS",
            }))
        }
    }
}

/// Who sent the request: nobody, if it has no token; an error if its token is not good.
async fn user_of(service: &Service, head: &Head) -> SwiftResult<Result<Option<Arc<User>>, ()>> {
    let header = |name| head.headers.get(name).map(|value: &HeaderValue| value.to_str());
    let Some(token) = TOKENS.into_iter().find_map(header) else {
        return Ok(Ok(None));
    };
    let Some((token, access_key)) =
        token.ok().and_then(|token| Some((token, token::claimed(token)?)))
    else {
        return Ok(Err(()));
    };
    let claim = Claimed { access_key: &access_key, token: None };
    let keys = service.identities.ring_of(service, Some(claim), head.now_ms).await?;
    Ok(token::user(token, &keys, head.now_ms / 1000).map(Some).ok_or(()))
}

/// 401. The realm is the account as paths have it.
fn unauthorized(realm: &str) -> SwiftError {
    let error = SwiftError::new(
        StatusCode::UNAUTHORIZED,
        "This wants a token that is valid: log in and send it as X-Auth-Token.",
    );
    let realm = uri::encoded(realm.as_bytes(), false);
    match HeaderValue::from_str(&format!("Swift realm=\"{realm}\"")) {
        Ok(value) => error.header(HeaderName::from_static("www-authenticate"), value),
        Err(_) => error,
    }
}

/// `GET /auth/v1.0`
async fn log_in(service: &Service, head: &Head) -> SwiftResult<Answer> {
    if head.method != Method::GET {
        return Err(SwiftError::not_allowed("GET"));
    }
    let header = |names: [&'static str; 2]| -> SwiftResult<Option<&str>> {
        match head.header(names[0])? {
            Some(value) => Ok(Some(value)),
            None => Ok(head.header(names[1])?),
        }
    };
    let name = header(["x-auth-user", "x-storage-user"])?;
    let secret = header(["x-auth-key", "x-storage-pass"])?;
    let found = match (name, secret) {
        (Some(name), Some(secret)) => match token::log_in(&*service.keys, name, secret) {
            None => of_iam(service, name, secret).await?,
            found => found,
        },
        _ => None,
    };
    let (access_key, user) = found.ok_or_else(|| unauthorized("unknown"))?;
    let host = head.header("host")?.ok_or_else(|| {
        SwiftError::bad_request("The address to go on with is made of the Host header.")
    })?;
    let token = token::make(&user, &access_key, head.now_ms / 1000 + token::LIFE_SECS);
    let scheme = if head.peer.secure { "https" } else { "http" };
    let account = uri::encoded(user.account().as_bytes(), false);
    let mut answer = respond::empty(StatusCode::OK);
    let headers = answer.headers_mut();
    response::set(headers, "x-auth-token", &token);
    response::set(headers, "x-storage-token", &token);
    response::set(headers, "x-auth-token-expires", &token::LIFE_SECS.to_string());
    response::set(headers, "x-storage-url", &format!("{scheme}://{host}/v1/AUTH_{account}"));
    Ok(answer)
}

/// A member of an account that IAM knows: `ACCOUNT:NAME`, or `ACCOUNT:KEY`, and the secret of a key of his.
async fn of_iam(
    service: &Service,
    whole: &str,
    secret: &str,
) -> SwiftResult<Option<(String, Arc<User>)>> {
    let Some((account, name)) = whole.split_once(':') else { return Ok(None) };
    let keys = service.identities.keys_of_member(service, account, name).await?;
    Ok(token::with_secret(keys, secret))
}

/// An answer whose body is still to be given, or is left out for HEAD.
fn for_method(call: &Call, mut answer: Answer) -> Answer {
    if call.head.method == Method::HEAD {
        let length = answer.body().size_hint().exact().unwrap_or_default();
        response::set(answer.headers_mut(), "content-length", &length.to_string());
        *answer.body_mut() = ResponseBody::empty();
    }
    answer
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_told_apart_from_s3() {
        let meant = |uri: &str, header: (&str, &str)| {
            let request = Request::builder().uri(uri).header(header.0, header.1).body(()).unwrap();
            is_meant(&request, &["s3.x".to_owned()])
        };
        let plain = ("host", "h");
        for swift in
            ["/info", "/auth/v1.0", "/auth/1.0", "/v1/AUTH_u", "/v1.0/AUTH_u/c/o?format=json"]
        {
            assert!(meant(swift, plain), "{swift}");
            assert!(!meant(swift, ("authorization", "AWS4-HMAC-SHA256 …")), "{swift}");
            assert!(!meant(swift, ("host", "b.s3.x")), "{swift}");
        }
        for s3 in
            ["/", "/v1", "/v1/k", "/info/k", "/auth", "/auth/k", "/v1/AUTH_u?X-Amz-Signature=1"]
        {
            assert!(!meant(s3, plain), "{s3}");
        }
        assert!(meant("/o", ("host", "c.AUTH_u.s3.x")));
        assert!(!meant("/o?X-Amz-Signature=1", ("host", "c.AUTH_u.s3.x")));
    }

    #[test]
    fn hosts_of_accounts_may_be_those_of_buckets() {
        let instead = |host: &str, header: &str| {
            let request = Request::builder().uri("/o").header("host", host).header(header, "x");
            bucket_instead(&request.body(()).unwrap(), &["s3.x".to_owned()])
        };
        assert_eq!(instead("auth-logs.s3.x", "accept").as_deref(), Some("auth-logs"));
        assert_eq!(instead("c.Auth-u.s3.x:80", "accept").as_deref(), Some("c.auth-u"));
        for (host, header) in [
            ("auth-logs.s3.x", "x-auth-token"),
            ("auth-logs.s3.x", "x-storage-token"),
            ("AUTH_u.s3.x", "accept"),
            ("c_d.auth-u.s3.x", "accept"),
            ("logs.s3.x", "accept"),
        ] {
            assert_eq!(instead(host, header), None, "{host} {header}");
        }
    }
}
