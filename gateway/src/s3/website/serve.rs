//! Serving a bucket as a website: to everybody, by GET and HEAD, with pages for errors.
//!
//! A request for a website is nobody's: a signature is not looked at, and what is shown is what the bucket and
//! its objects let everybody read. Its query means nothing.

use super::super::access::{self, ObjectPermit};
use super::super::auth::payload::PayloadMode;
use super::super::error::{Code, S3Error, S3Result};
use super::super::logging::record::Seen;
use super::super::operations::{self, read};
use super::super::request::Head;
use super::super::router::Operation;
use super::super::uri::{self, Query, Target};
use super::super::{Answer, Call, Caller, Service, access::rules::document, response};
use super::Website;
use crate::http::body::ResponseBody;
use crate::http::html::escaped;
use crate::pace::Pace;
use http::header::{CONTENT_TYPE, HOST, LOCATION};
use http::{HeaderValue, Method, Request, StatusCode};
use hyper::body::Incoming;
use std::rc::Rc;
use store_shell::clock;

/// Where an object leads instead of being shown.
const LEADS_TO: &str = "x-amz-website-redirect-location";

/// The bucket whose website is asked for, by the host.
pub fn bucket_of(request: &Request<Incoming>, domains: &[String]) -> Option<String> {
    if domains.is_empty() {
        return None;
    }
    let host = request.headers().get(HOST).and_then(|host| host.to_str().ok());
    let host = host.or_else(|| request.uri().authority().map(http::uri::Authority::as_str));
    uri::virtual_bucket(host?, domains)
}

/// Answers a request for a website.
pub async fn handle(service: Rc<Service>, request: Request<Incoming>, bucket: String) -> Answer {
    let started = clock::now();
    let request_id = format!("{:016X}", clock::random_u64());
    let (parts, body) = request.into_parts();
    let is_head = parts.method == Method::HEAD;
    let path = parts.uri.path().to_owned();
    let uri = parts.uri.clone();
    let site = Site { service: service.clone(), request_id: request_id.clone(), is_head };
    let (mut asked, mut is_question, mut pace) = (None, false, Pace::default());
    let result = match head(&parts, bucket, &request_id) {
        Ok(head) => {
            asked = Some(head.clone());
            is_question = head.method == Method::OPTIONS;
            match service.admit(&Caller::Anonymous, head.target.bucket.as_deref()).await {
                Ok((_, out)) => {
                    pace = out;
                    site.answer(head, body).await
                }
                Err(error) => Err(error),
            }
        }
        Err(error) => Err(error),
    };
    let error = result.as_ref().err().map(|error| error.code.name());
    let mut answer = result.unwrap_or_else(|error| site.page(&error, &path));
    if let (Some(head), false) = (&asked, is_question) {
        service.share_with_origin(head, &mut answer).await;
    }
    let mut answer = answer.map(|body| body.paced(pace));
    service.sign_off(&mut answer, &request_id);
    let took = clock::now().since(started);
    service.metrics.answered_as("Website", answer.status(), took);
    if let Some(head) = &asked {
        let (caller, payload) = (&Caller::Anonymous, &PayloadMode::Unsigned);
        let (operation, website) = (Operation::GetObject, true);
        let (uri, by_acl) = (&uri, false);
        let seen = Seen { head, caller, payload, uri, operation, website, error, took, by_acl };
        service.log(&seen, None, &answer).await;
    }
    answer
}

fn head(parts: &http::request::Parts, bucket: String, request_id: &str) -> S3Result<Head> {
    let path = uri::percent_decode(parts.uri.path().as_bytes());
    let path = String::from_utf8(path).map_err(|_| Code::InvalidURI)?;
    let key = path.strip_prefix('/').unwrap_or(&path).to_owned();
    Ok(Head {
        method: parts.method.clone(),
        headers: parts.headers.clone(),
        raw_path: parts.uri.path().to_owned(),
        query: Query::default(),
        target: Target { bucket: Some(bucket), key: Some(key), by_host: true },
        now_ms: clock::timestamp().millis(),
        peer: parts.extensions.get().copied().unwrap_or_default(),
        request_id: request_id.to_owned(),
    })
}

struct Site {
    service: Rc<Service>,
    request_id: String,
    is_head: bool,
}

impl Site {
    async fn answer(&self, head: Head, body: Incoming) -> S3Result<Answer> {
        let is_question = head.method == Method::OPTIONS;
        let mut call = Call {
            service: self.service.clone(),
            head,
            caller: Caller::Anonymous,
            payload: PayloadMode::Unsigned,
            grant: Default::default(),
            body: Some(body),
            pace: Pace::default(),
            noted: Default::default(),
        };
        if is_question {
            let mut unread = None;
            return operations::dispatch(Operation::PreflightRequest, &mut call, &mut unread).await;
        }
        if !matches!(call.head.method, Method::GET | Method::HEAD) {
            return Err(Code::MethodNotAllowed
                .with(Code::MethodNotAllowed.message())
                .detail("Method", call.head.method.as_str())
                .header(http::header::ALLOW, HeaderValue::from_static("GET, HEAD, OPTIONS")));
        }
        let website = website_of(&call).await?;
        let asked = call.head.target.key.clone().unwrap_or_default();
        if let Some(all) = &website.redirect_all {
            let (protocol, host) = origin(&call);
            return redirect(301, &all.address(&asked, protocol, host));
        }
        if let Some(rule) = website.rule(&asked, None) {
            let (protocol, host) = origin(&call);
            return redirect(
                rule.redirect.status.unwrap_or(301),
                &rule.location(&asked, protocol, host),
            );
        }
        let is_directory = asked.is_empty() || asked.ends_with('/');
        let key = if is_directory { format!("{asked}{}", website.index) } else { asked.clone() };
        let error = match show(&mut call, &key).await {
            Ok(answer) => return leads_elsewhere(answer),
            Err(error) => error,
        };
        let missing = matches!(error.code, Code::NoSuchKey | Code::AccessDenied);
        if missing && !is_directory {
            let index = format!("{asked}/{}", website.index);
            if is_there(&mut call, &index).await {
                return redirect(302, &format!("/{}/", uri::listing_encoded(&asked)));
            }
        }
        self.failed(&mut call, &website, &asked, error).await
    }

    /// The answer where there is nothing to show: as a rule says, else the site's own page, else ours.
    async fn failed(
        &self,
        call: &mut Call,
        website: &Website,
        asked: &str,
        error: S3Error,
    ) -> S3Result<Answer> {
        let status = error.code.status();
        if !(status.is_client_error() || status.is_server_error()) {
            return Err(error);
        }
        if let Some(rule) = website.rule(asked, Some(status.as_u16())) {
            let (protocol, host) = origin(call);
            let location = rule.location(asked, protocol, host);
            return redirect(rule.redirect.status.unwrap_or(301), &location);
        }
        let Some(page) = website.error.as_ref().filter(|_| status.is_client_error()) else {
            return Err(error);
        };
        // The page is shown whole, whatever was asked of the object.
        for name in
            ["range", "if-match", "if-none-match", "if-modified-since", "if-unmodified-since"]
        {
            call.head.headers.remove(name);
        }
        match show(call, page).await {
            Ok(mut answer) => {
                *answer.status_mut() = status;
                Ok(answer)
            }
            Err(_) => Err(error.detail("ErrorDocument", page)),
        }
    }

    /// An error as a page.
    fn page(&self, error: &S3Error, path: &str) -> Answer {
        let mut answer = response::error(error, path, &self.request_id, "", true);
        if self.is_head || error.code == Code::NotModified {
            return answer;
        }
        let host_id = &self.service.settings.host_id;
        let html = page(error, &self.request_id, host_id);
        *answer.body_mut() = ResponseBody::Full(html.into());
        let kind = HeaderValue::from_static("text/html; charset=utf-8");
        answer.headers_mut().insert(CONTENT_TYPE, kind);
        answer
    }
}

async fn website_of(call: &Call) -> S3Result<Website> {
    let name = call.head.bucket()?;
    let bucket =
        call.service.catalogue.bucket(name).await.map_err(|error| match S3Error::from(error) {
            error if error.code == Code::NoSuchBucket => error.detail("BucketName", name),
            error => error,
        })?;
    match bucket.documents.get(document::WEBSITE) {
        Some(text) => Website::parse(text),
        None => Err(Code::NoSuchWebsiteConfiguration
            .with(Code::NoSuchWebsiteConfiguration.message())
            .detail("BucketName", name)),
    }
}

async fn permit(call: &mut Call, key: &str) -> S3Result<(ObjectPermit, Operation)> {
    call.head.target.key = Some(key.to_owned());
    let operation = match call.head.method {
        Method::HEAD => Operation::HeadObject,
        _ => Operation::GetObject,
    };
    Ok((access::object(call, operation).await?, operation))
}

/// The object of a key, as everybody may see it.
async fn show(call: &mut Call, key: &str) -> S3Result<Answer> {
    let (permit, operation) = permit(call, key).await?;
    match operation {
        Operation::HeadObject => read::head(permit, call).await,
        _ => read::get(permit, call).await,
    }
}

async fn is_there(call: &mut Call, key: &str) -> bool {
    match permit(call, key).await {
        Ok((permit, _)) => permit.read(call, false).await.is_ok(),
        Err(_) => false,
    }
}

/// Protocol and host of the request.
fn origin(call: &Call) -> (&'static str, &str) {
    let protocol = if call.head.peer.secure { "https" } else { "http" };
    (protocol, call.head.header("host").ok().flatten().unwrap_or_default())
}

fn redirect(status: u16, location: &str) -> S3Result<Answer> {
    let status = StatusCode::from_u16(status).map_err(|_| Code::InternalError)?;
    let mut answer = response::empty(status);
    let location = HeaderValue::from_str(location).map_err(|_| Code::InternalError)?;
    answer.headers_mut().insert(LOCATION, location);
    Ok(answer)
}

/// An object may stand for an address.
fn leads_elsewhere(answer: Answer) -> S3Result<Answer> {
    match answer.headers().get(LEADS_TO).and_then(|location| location.to_str().ok()) {
        Some(location) => redirect(301, location),
        None => Ok(answer),
    }
}

fn page(error: &S3Error, request_id: &str, host_id: &str) -> String {
    let title = error.code.status().to_string();
    let mut html =
        format!("<html>\n<head><title>{title}</title></head>\n<body>\n<h1>{title}</h1>\n<ul>\n");
    let known = [("Code", error.code.name()), ("Message", error.message.as_str())];
    let details = error.details.iter().map(|(name, value)| (*name, value.as_str()));
    let ids = [("RequestId", request_id), ("HostId", host_id)];
    for (name, value) in known.into_iter().chain(details).chain(ids) {
        html.push_str(&format!("<li>{name}: {}</li>\n", escaped(value)));
    }
    html.push_str("</ul>\n<hr/>\n</body>\n</html>\n");
    html
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_hold_nothing_that_a_browser_would_run() {
        let error = Code::NoSuchKey.with("gone").detail("Key", "<script>'\"&");
        let html = page(&error, "R", "H");
        assert!(html.contains("<h1>404 Not Found</h1>") && html.contains("Code: NoSuchKey"));
        assert!(html.contains("&lt;script&gt;&#39;&quot;&amp;") && !html.contains("<script>"));
    }
}
