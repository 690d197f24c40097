//! Quotas: of a container (`X-Container-Meta-Quota-Bytes`, `-Count`, set by its owner) and of an account
//! (`X-Account-Quota-Bytes`, `-Count`, both also `…-Policy-NAME`, and `X-Account-Meta-Quota-Bytes`; set by
//! administrators of the cluster).
//!
//! They are held against the counts of the index before a write, so writes that run at the same time can pass
//! them a little, as in Swift. S3 does not know of them.

use super::access::AccountPermit;
use super::error::{SwiftError, SwiftResult};
use super::metadata::Changes;
use super::{Call, metadata};
use crate::catalogue::Bucket;
use bytes::Bytes;
use http::StatusCode;
use std::rc::Rc;
use store_base::bucket::ListBuckets;

const BYTES: &str = "quota-bytes";
const COUNT: &str = "quota-count";

/// Most buckets that are read at a time.
const PAGE_MAX: u32 = 1000;

fn number(value: &[u8]) -> Option<u64> {
    std::str::from_utf8(value).ok()?.trim().parse().ok()
}

/// Refuses quotas of a container that are no numbers.
pub(super) fn check_container_change(changes: &Changes) -> SwiftResult<()> {
    for name in [BYTES, COUNT] {
        if let Some(Some(value)) = changes.metadata.get(name)
            && number(value).is_none()
        {
            return Err(SwiftError::bad_request(format!("The {name} is no number.")));
        }
    }
    Ok(())
}

/// The beginning of the headers of an account's quotas.
const OF_ACCOUNT: &str = "x-account-quota-";

/// Reads the quotas that a request sets on an account; but to administrators of the cluster they are refused.
pub(super) fn account_changes(call: &Call, changes: &mut Changes) -> SwiftResult<()> {
    for (name, value) in &call.head.headers {
        let name = name.as_str();
        let removed = name.strip_prefix("x-remove-").map(|name| format!("x-{name}"));
        let header = removed.as_deref().unwrap_or(name);
        let Some(what) = header.strip_prefix(OF_ACCOUNT) else { continue };
        if !["bytes", "count"].contains(&what.split_once("-policy-").map_or(what, |(w, _)| w)) {
            return Err(SwiftError::bad_request(format!("There is no quota {header}.")));
        }
        let value = value.as_bytes();
        let kept = (removed.is_none() && !value.is_empty()).then(|| Bytes::copy_from_slice(value));
        changes.settings.insert(header.to_owned(), kept);
    }
    let of_settings = |name: &String| name.starts_with(OF_ACCOUNT);
    let asked = changes.metadata.contains_key(BYTES) || changes.settings.keys().any(of_settings);
    if asked && !call.caller.is_admin() {
        return Err(SwiftError::forbidden());
    }
    let settings = changes.settings.iter().filter(|(name, _)| of_settings(name));
    let mut values = settings.map(|(_, value)| value).chain(changes.metadata.get(BYTES));
    match values.any(|value| value.as_ref().is_some_and(|value| number(value).is_none())) {
        true => Err(SwiftError::bad_request("The quota is no number.")),
        false => Ok(()),
    }
}

/// How many bytes a new object may have; `None` for no quota. Errors: 413 where there may be no more objects, or
/// an object of `size` bytes is too large.
pub(super) async fn check(
    call: &Call,
    permit: &AccountPermit,
    bucket: &Rc<Bucket>,
    size: Option<u64>,
) -> SwiftResult<Option<u64>> {
    let kept = metadata::of_container(bucket);
    let quota = |name: &str| kept.metadata.get(name).and_then(|value| number(value));
    let mut room: Option<u64> = None;
    if kept.metadata.contains_key(BYTES) || kept.metadata.contains_key(COUNT) {
        let usage = call.service.catalogue.usage(bucket).await?;
        if quota(COUNT).is_some_and(|most| usage.objects >= most) {
            return Err(exceeded());
        }
        room = quota(BYTES).map(|most| most.saturating_sub(usage.bytes + usage.version_bytes));
    }
    if let Some(left) = account_room(call, permit.id(), bucket).await? {
        room = Some(room.map_or(left, |room| room.min(left)));
    }
    match (room, size) {
        (Some(room), Some(size)) if size > room => Err(exceeded()),
        _ => Ok(room),
    }
}

/// The answer to what a quota forbids.
pub(super) fn exceeded() -> SwiftError {
    SwiftError::new(StatusCode::PAYLOAD_TOO_LARGE, "Upload exceeds quota.")
}

/// How many bytes the quotas of an account leave; `None` if it has none for bytes.
async fn account_room(call: &Call, account: &str, bucket: &Bucket) -> SwiftResult<Option<u64>> {
    let kept = call.service.catalogue.account(account).await?;
    let policy = super::container::policy_of(bucket).to_owned();
    let setting = |name: String| kept.settings.get(&name).and_then(|value| number(value));
    let mut room: Option<u64> = None;
    for of_policy in [None, Some(policy)] {
        let suffix = of_policy.as_ref().map(|policy| format!("-policy-{policy}").to_lowercase());
        let suffix = suffix.unwrap_or_default();
        let mut bytes = setting(format!("{OF_ACCOUNT}bytes{suffix}"));
        if of_policy.is_none() {
            let old = kept.metadata.get(BYTES).and_then(|value| number(value));
            bytes = [bytes, old].into_iter().flatten().min();
        }
        let count = setting(format!("{OF_ACCOUNT}count{suffix}"));
        if bytes.is_none() && count.is_none() {
            continue;
        }
        let (used, objects) = used(call, account, of_policy.as_deref()).await?;
        if count.is_some_and(|most| objects >= most) {
            return Err(exceeded());
        }
        if let Some(most) = bytes {
            let left = most.saturating_sub(used);
            room = Some(room.map_or(left, |room| room.min(left)));
        }
    }
    Ok(room)
}

/// Bytes and objects of all containers of an account, or of those of one policy: asked only where there is a quota.
async fn used(call: &Call, account: &str, policy: Option<&str>) -> SwiftResult<(u64, u64)> {
    let catalogue = &call.service.catalogue;
    let (mut bytes, mut objects, mut after) = (0u64, 0u64, String::new());
    loop {
        let query = ListBuckets {
            owner: Some(account.to_owned()),
            prefix: String::new(),
            after,
            max: PAGE_MAX,
        };
        let page = catalogue.buckets(query).await?;
        after = page.buckets.last().map(|bucket| bucket.name.clone()).unwrap_or_default();
        let counted = |bucket: &&Bucket| {
            bucket.ready
                && policy.is_none_or(|policy| super::container::policy_of(bucket) == policy)
        };
        for bucket in page.buckets.iter().filter(counted) {
            let usage = catalogue.usage(bucket).await?;
            bytes = bytes.saturating_add(usage.bytes).saturating_add(usage.version_bytes);
            objects = objects.saturating_add(usage.objects);
        }
        if !page.more || page.buckets.is_empty() {
            return Ok((bytes, objects));
        }
    }
}
