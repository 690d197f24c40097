//! What browsers ask before a page of another origin may ask.

use super::super::access::CrossOriginPermit;
use super::super::error::{Code, S3Result};
use super::super::response;
use super::super::{Answer, Call};
use http::StatusCode;

/// `OPTIONS`: 200 with what is allowed, or 403.
pub(super) fn answer(permit: CrossOriginPermit, call: &Call) -> S3Result<Answer> {
    let missing = |name: &str| {
        Code::BadRequest.with(format!("Insufficient information. {name} request header needed."))
    };
    let origin = call.head.header("origin")?.ok_or_else(|| missing("Origin"))?;
    let method = call.head.header("access-control-request-method")?;
    let method = method.ok_or_else(|| missing("Access-Control-Request-Method"))?;
    let asked = call.head.header("access-control-request-headers")?;
    let headers: Vec<&str> = asked
        .unwrap_or_default()
        .split(',')
        .map(str::trim)
        .filter(|name| !name.is_empty())
        .collect();
    let cors = permit.rules().cors.as_ref();
    let rule = cors
        .and_then(|cors| cors.rule(origin, method, &headers))
        .ok_or_else(|| Code::AccessForbidden.with(Code::AccessForbidden.message()))?;
    let mut answer = response::empty(StatusCode::OK);
    rule.apply(origin, asked.filter(|_| !headers.is_empty()), answer.headers_mut());
    Ok(answer)
}
