//! What a write of an object asks for by headers and is not there.

use super::super::Call;
use super::super::error::{Code, S3Result};

/// As [`check`], for parts: what belongs to the whole object is asked for when its upload begins.
pub(super) fn check_part(call: &Call) -> S3Result<()> {
    const OF_OBJECTS: [&str; 2] = ["x-amz-object-lock-", "x-amz-tagging"];
    refuse(call, &OF_OBJECTS)?;
    check(call)
}

/// Refuses what this gateway does not have: it must not be passed over in silence.
pub(super) fn check(call: &Call) -> S3Result<()> {
    const NOT_THERE: [&str; 1] = ["x-amz-write-offset-bytes"];
    refuse(call, &NOT_THERE)?;
    match call.head.header("x-amz-storage-class")? {
        None | Some("STANDARD") => Ok(()),
        Some(_) => Err(Code::InvalidStorageClass.into()),
    }
}

fn refuse(call: &Call, beginnings: &[&str]) -> S3Result<()> {
    let mut asked = call.head.headers.keys().map(http::HeaderName::as_str);
    match asked.find(|name| beginnings.iter().any(|beginning| name.starts_with(beginning))) {
        Some(name) => {
            Err(Code::NotImplemented.with(Code::NotImplemented.message()).detail("Header", name))
        }
        None => Ok(()),
    }
}
