//! What S3 answers for features that a bucket does not use: clients probe for them. Setting
//! them is not implemented and says so.

use super::super::access::Permit;
use super::super::error::{Code, S3Result};
use super::super::response;
use super::super::router::subresource;
use super::super::xml::Xml;
use super::super::{Answer, Call};
use http::StatusCode;

pub(super) fn of_bucket(_: Permit, call: &Call) -> S3Result<Answer> {
    let empty = |name: &str| {
        let mut xml = Xml::root(name);
        xml.close(name);
        Ok(response::xml(xml))
    };
    match subresource(&call.head).unwrap_or_default() {
        "accelerate" => empty("AccelerateConfiguration"),
        "replication" => Err(Code::ReplicationConfigurationNotFoundError.into()),
        _ => Err(Code::NotImplemented.into()),
    }
}

/// What is not there is as good as deleted.
pub(super) fn delete(_: Permit) -> S3Result<Answer> {
    Ok(response::empty(StatusCode::NO_CONTENT))
}

/// Known to S3 and not there: the bucket's owner is told so.
pub(super) fn unimplemented(_: Permit) -> S3Result<Answer> {
    Err(Code::NotImplemented.into())
}
