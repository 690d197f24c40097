//! Object lock: a bucket's configuration, retention and legal hold of a version. What a lock forbids is
//! decided by the index shards; here is what clients say and are told of it.

use super::super::access::{Admitted, Document, ObjectPermit, Permit};
use super::super::dates;
use super::super::error::{Code, S3Error, S3Result};
use super::super::logging::journal::{Plan, recorded};
use super::super::response;
use super::super::xml::{Element, Xml};
use super::super::{Answer, Call};
use super::versioning;
use crate::catalogue::Bucket;
use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use std::rc::Rc;
use store_base::bucket::{
    DefaultRetention, LockChange, LockMode, ObjectLock, Refusal, Retention, SetLock, SettingsChange,
};

const MODE: &str = "x-amz-object-lock-mode";
const UNTIL: &str = "x-amz-object-lock-retain-until-date";
const HOLD: &str = "x-amz-object-lock-legal-hold";

/// Longest default retention: 100 years.
const DAYS_MAX: i64 = 36_500;

/// The lock that the headers of a write ask for.
pub(super) fn from_headers(call: &Call) -> S3Result<ObjectLock> {
    let refused =
        |name: &str, value: &str, message: &str| Err(S3Error::argument(name, value, message));
    let retention = match (call.head.header(MODE)?, call.head.header(UNTIL)?) {
        (None, None) => None,
        (Some(mode), Some(until)) => {
            let Ok(mode) = mode.parse::<LockMode>() else {
                return refused(MODE, mode, "Unknown wormMode directive.");
            };
            let Some(secs) = dates::parse_http(until) else {
                return refused(UNTIL, until, "The retain until date must be in ISO 8601 format");
            };
            Some(Retention { mode, until_ms: secs.saturating_mul(1000) })
        }
        _ => {
            return refused(
                MODE,
                "",
                "x-amz-object-lock-retain-until-date and x-amz-object-lock-mode must both be supplied",
            );
        }
    };
    if let Some(retention) = &retention {
        check_future(call, retention)?;
    }
    let hold = match call.head.header(HOLD)? {
        None => None,
        Some("ON") => Some(true),
        Some("OFF") => Some(false),
        Some(other) => {
            return refused(HOLD, other, "Legal Hold must be either of 'ON' or 'OFF'");
        }
    };
    Ok(ObjectLock { retention, hold })
}

fn check_future(call: &Call, retention: &Retention) -> S3Result<()> {
    match retention.until_ms > call.now_ms() {
        true => Ok(()),
        false => Err(S3Error::argument(
            UNTIL,
            &dates::iso(retention.until_ms),
            "The retain until date must be in the future!",
        )),
    }
}

/// Whether the request has leave to pass over governance.
pub(in crate::s3) fn bypass(call: &Call) -> S3Result<bool> {
    let header = call.head.header("x-amz-bypass-governance-retention")?;
    Ok(header.is_some_and(|on| on.eq_ignore_ascii_case("true")))
}

/// The headers of an object that is locked.
pub(super) fn set_headers(headers: &mut HeaderMap, lock: &ObjectLock) {
    if let Some(retention) = &lock.retention {
        response::set(headers, MODE, retention.mode.name());
        response::set(headers, UNTIL, &dates::iso(retention.until_ms));
    }
    if let Some(on) = lock.hold {
        response::set(headers, HOLD, status(on));
    }
}

fn status(on: bool) -> &'static str {
    if on { "ON" } else { "OFF" }
}

/// `GetObjectLockConfiguration`
pub(super) async fn configuration(permit: Permit, call: &mut Call) -> S3Result<Answer> {
    let bucket = super::documents::now(call, &permit).await?;
    if !bucket.settings.lock {
        return Err(Code::ObjectLockConfigurationNotFoundError.into());
    }
    let mut xml = Xml::root("ObjectLockConfiguration");
    xml.text("ObjectLockEnabled", "Enabled");
    if let Some(retention) = &bucket.settings.retention {
        xml.open("Rule");
        xml.open("DefaultRetention");
        xml.text("Mode", retention.mode.name());
        xml.value(if retention.years { "Years" } else { "Days" }, retention.count);
        xml.close("DefaultRetention");
        xml.close("Rule");
    }
    xml.close("ObjectLockConfiguration");
    Ok(response::xml(xml))
}

/// `PutObjectLockConfiguration`
pub(super) async fn configure(permit: Permit, call: &mut Call) -> S3Result<Answer> {
    let bucket = permit.bucket().clone();
    let document = call.document(super::DOCUMENT_BYTES_MAX).await?;
    let retention = parse_configuration(&document)?;
    let change = SettingsChange::Lock { retention };
    call.service.catalogue.configure(&bucket, change).await?;
    Ok(response::empty(StatusCode::OK))
}

pub(super) fn parse_configuration(document: &[u8]) -> S3Result<Option<DefaultRetention>> {
    let root = Element::parse(document, "ObjectLockConfiguration")?;
    if root.required_text("ObjectLockEnabled")?.trim() != "Enabled" {
        return Err(Code::MalformedXML.into());
    }
    let mut rules = root.all("Rule");
    let Some(rule) = rules.next() else { return Ok(None) };
    let retention = rule.all("DefaultRetention").next().ok_or(Code::MalformedXML)?;
    if rules.next().is_some() {
        return Err(Code::MalformedXML.into());
    }
    let mode = parse_mode(retention)?;
    let (period, years) = match (retention.child_text("Days")?, retention.child_text("Years")?) {
        (Some(days), None) => (days, false),
        (None, Some(years)) => (years, true),
        _ => return Err(Code::MalformedXML.into()),
    };
    let count = period.trim().parse::<i64>().map_err(|_| Code::MalformedXML)?;
    if count <= 0 {
        return Err(Code::InvalidRetentionPeriod
            .with("Default retention period must be a positive integer value."));
    }
    match u32::try_from(count) {
        Ok(short) if count.saturating_mul(if years { 365 } else { 1 }) <= DAYS_MAX => {
            Ok(Some(DefaultRetention { mode, count: short, years }))
        }
        _ => Err(Code::InvalidRetentionPeriod.with("Default retention period is too large.")),
    }
}

fn parse_mode(retention: &Element) -> S3Result<LockMode> {
    let mode = retention.required_text("Mode")?;
    mode.trim().parse().map_err(|()| Code::MalformedXML.into())
}

/// The version of a request about its lock, in a bucket that has locks.
async fn locked(permit: ObjectPermit, call: &Call) -> S3Result<(Rc<Bucket>, ObjectLock)> {
    let Admitted { mut bucket, found, .. } = permit.read(call, false).await?;
    if !bucket.settings.lock {
        bucket = call.service.catalogue.bucket_now(&bucket.name).await?;
    }
    if !bucket.settings.lock {
        return Err(Refusal::NoLock {}.into());
    }
    Ok((bucket, found.entry.lock))
}

/// `GetObjectRetention`
pub(super) async fn retention(permit: ObjectPermit, call: &mut Call) -> S3Result<Answer> {
    let (_, lock) = locked(permit, call).await?;
    let retention = lock.retention.ok_or(Code::NoSuchObjectLockConfiguration)?;
    let mut xml = Xml::root("Retention");
    xml.text("Mode", retention.mode.name());
    xml.text("RetainUntilDate", &dates::iso(retention.until_ms));
    xml.close("Retention");
    Ok(response::xml(xml))
}

/// `GetObjectLegalHold`
pub(super) async fn hold(permit: ObjectPermit, call: &mut Call) -> S3Result<Answer> {
    let (_, lock) = locked(permit, call).await?;
    let on = lock.hold.ok_or(Code::NoSuchObjectLockConfiguration)?;
    let mut xml = Xml::root("LegalHold");
    xml.text("Status", status(on));
    xml.close("LegalHold");
    Ok(response::xml(xml))
}

/// `PutObjectRetention`
pub(super) async fn retain(permit: ObjectPermit, call: &mut Call) -> S3Result<Answer> {
    let parse = |document: &[u8]| {
        let retention = parse_retention(document)?;
        Ok((retention, Document::Retention(retention)))
    };
    let (permit, Admitted { bucket, .. }, retention) =
        super::read_described(permit, call, parse).await?;
    let bypass = permit.bypass(call)?;
    if let Some(retention) = &retention {
        check_future(call, retention)?;
    }
    change(call, &bucket, bypass, LockChange::Retention { retention }).await
}

/// A retention; an empty document takes one off.
pub(super) fn parse_retention(document: &[u8]) -> S3Result<Option<Retention>> {
    let root = Element::parse(document, "Retention")?;
    let Some(until) = root.child_text("RetainUntilDate")? else {
        return match root.child_text("Mode")? {
            None => Ok(None),
            Some(_) => Err(Code::MalformedXML.into()),
        };
    };
    let mode = parse_mode(&root)?;
    let secs = dates::parse_http(until).ok_or(Code::MalformedXML)?;
    Ok(Some(Retention { mode, until_ms: secs.saturating_mul(1000) }))
}

fn parse_hold(document: &[u8]) -> S3Result<bool> {
    let root = Element::parse(document, "LegalHold")?;
    match root.required_text("Status")?.trim() {
        "ON" => Ok(true),
        "OFF" => Ok(false),
        _ => Err(Code::MalformedXML.into()),
    }
}

/// `PutObjectLegalHold`
pub(super) async fn put_hold(permit: ObjectPermit, call: &mut Call) -> S3Result<Answer> {
    let parse = |document: &[u8]| {
        let on = parse_hold(document)?;
        Ok((on, Document::Hold(on)))
    };
    let (permit, Admitted { bucket, .. }, on) = super::read_described(permit, call, parse).await?;
    let bypass = permit.bypass(call)?;
    change(call, &bucket, bypass, LockChange::Hold { on }).await
}

async fn change(
    call: &Call,
    bucket: &Rc<Bucket>,
    bypass: bool,
    change: LockChange,
) -> S3Result<Answer> {
    let version = versioning::asked(call, bucket)?;
    let set = SetLock {
        key: Bytes::copy_from_slice(call.head.key()?.as_bytes()),
        version,
        change,
        bypass,
    };
    let operation = match &set.change {
        LockChange::Retention { .. } => "REST.PUT.RETENTION",
        LockChange::Hold { .. } => "REST.PUT.LEGAL_HOLD",
    };
    let plan = Plan::of(call, bucket, &*call.service.rules.rules(bucket)?, operation);
    let key = set.key.clone();
    let done = recorded(
        plan.map(|plan| plan.changing(&key)),
        &call.service,
        call.service.catalogue.lock(bucket, set),
        |plan, entry| plan.made(&key, entry),
    )
    .await?;
    let entry = done.map_err(versioning::refused(bucket, version.is_some()))?;
    let mut answer = response::empty(StatusCode::OK);
    versioning::set_changed(&mut answer, bucket, &entry);
    Ok(answer)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn configurations_are_bounded() {
        let parse = |rule: &str| {
            let document = format!(
                "<ObjectLockConfiguration><ObjectLockEnabled>Enabled</ObjectLockEnabled>{rule}\
                 </ObjectLockConfiguration>"
            );
            parse_configuration(document.as_bytes()).map_err(|error| error.code)
        };
        let rule =
            |inner: &str| format!("<Rule><DefaultRetention>{inner}</DefaultRetention></Rule>");
        assert_eq!(parse(""), Ok(None));
        let days = DefaultRetention { mode: LockMode::Governance, count: 3, years: false };
        assert_eq!(parse(&rule("<Mode>GOVERNANCE</Mode><Days>3</Days>")), Ok(Some(days)));
        for (inner, code) in [
            ("<Mode>COMPLIANCE</Mode><Days>0</Days>", Code::InvalidRetentionPeriod),
            ("<Mode>COMPLIANCE</Mode><Years>-1</Years>", Code::InvalidRetentionPeriod),
            ("<Mode>COMPLIANCE</Mode><Years>101</Years>", Code::InvalidRetentionPeriod),
            ("<Mode>COMPLIANCE</Mode><Days>9999999999</Days>", Code::InvalidRetentionPeriod),
            ("<Mode>COMPLIANCE</Mode><Days>1</Days><Years>1</Years>", Code::MalformedXML),
            ("<Mode>COMPLIANCE</Mode>", Code::MalformedXML),
            ("<Mode>abc</Mode><Days>1</Days>", Code::MalformedXML),
            ("<Days>1</Days>", Code::MalformedXML),
        ] {
            assert_eq!(parse(&rule(inner)), Err(code), "{inner}");
        }
        assert!(parse_configuration(b"<ObjectLockConfiguration/>").is_err());
    }

    #[test]
    fn retentions_have_both_or_nothing() {
        let parse = |inner: &str| {
            parse_retention(format!("<Retention>{inner}</Retention>").as_bytes())
                .map_err(|error| error.code)
        };
        assert_eq!(parse(""), Ok(None));
        let until = "<RetainUntilDate>2030-01-01T00:00:00.000Z</RetainUntilDate>";
        let retention = Retention { mode: LockMode::Compliance, until_ms: 1_893_456_000_000 };
        assert_eq!(parse(&format!("<Mode>COMPLIANCE</Mode>{until}")), Ok(Some(retention)));
        assert_eq!(parse(until), Err(Code::MalformedXML));
        assert_eq!(parse("<Mode>COMPLIANCE</Mode>"), Err(Code::MalformedXML));
        let never = "<Mode>COMPLIANCE</Mode><RetainUntilDate>soon</RetainUntilDate>";
        assert_eq!(parse(never), Err(Code::MalformedXML));
    }
}
