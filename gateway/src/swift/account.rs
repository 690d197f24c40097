//! Accounts: a user and the buckets that he owns.

use super::access::AccountPermit;
use super::error::{SwiftError, SwiftResult};
use super::listing::{self, Elements, Line, Listing};
use super::{Call, access, acl, for_method, metadata, quota, respond};
use crate::catalogue::{Bucket, CatalogueError, Usage};
use crate::s3::router::Operation;
use crate::s3::{Answer, response};
use futures_util::{StreamExt, TryStreamExt, stream};
use http::{HeaderMap, Method, StatusCode};
use std::collections::VecDeque;
use store_base::bucket::{ListBuckets, Refusal};

/// How many containers are counted at a time.
const COUNTED_AT_ONCE: usize = 16;

/// Most buckets that are read at a time.
const PAGE_MAX: u32 = 1000;

/// A container as an account shows it.
struct Counted {
    name: String,
    bucket: Bucket,
    usage: Usage,
}

/// All containers of an account, by name. A container's counts come from its shards: that is what an account
/// with many containers costs.
async fn containers(call: &Call, permit: &AccountPermit) -> SwiftResult<Vec<Counted>> {
    let catalogue = &call.service.catalogue;
    let mut buckets: Vec<Bucket> = Vec::new();
    loop {
        let query = ListBuckets {
            owner: Some(permit.id().to_owned()),
            prefix: String::new(),
            after: buckets.last().map(|bucket| bucket.name.clone()).unwrap_or_default(),
            max: PAGE_MAX,
        };
        let page = catalogue.buckets(query).await?;
        let ended = !page.more || page.buckets.is_empty();
        buckets.extend(page.buckets);
        if ended {
            break;
        }
    }
    buckets.retain(|bucket| bucket.ready);
    // In the order of the names that are shown.
    let shown = |bucket: &Bucket| access::shown_name(permit.id(), &bucket.name).to_owned();
    buckets.sort_by_cached_key(shown);
    let counted = stream::iter(buckets).map(|bucket| async move {
        match catalogue.usage(&bucket).await {
            Ok(usage) => {
                let name = access::shown_name(permit.id(), &bucket.name).to_owned();
                Ok(Some(Counted { name, bucket, usage }))
            }
            // It went while we looked.
            Err(CatalogueError::Refused(Refusal::NoBucket {})) => Ok(None),
            Err(error) => Err(SwiftError::from(error)),
        }
    });
    let counted: Vec<Option<Counted>> = counted.buffered(COUNTED_AT_ONCE).try_collect().await?;
    Ok(counted.into_iter().flatten().collect())
}

fn lines(containers: &[Counted], listing: &Listing) -> Vec<Line> {
    let from = listing.from();
    let mut lines: VecDeque<Line> = VecDeque::new();
    let wanted = containers.iter().filter(|container| {
        let name = &container.name;
        name.starts_with(&listing.prefix) && name.as_bytes() >= &from[..]
    });
    for container in wanted {
        let name = &container.name;
        if listing.is_beyond(name.as_bytes()) || (!listing.reverse && lines.len() >= listing.limit)
        {
            break;
        }
        let line = match listing.rolled_up(name) {
            Some(common) => Line::Subdir(common.to_owned()),
            None => {
                let modified_ms = metadata::of_container(&container.bucket).modified_ms;
                let modified = respond::listed(modified_ms.max(container.bucket.created_ms));
                let values = vec![
                    ("count", container.usage.objects.into()),
                    ("bytes", container.usage.bytes.into()),
                    ("last_modified", modified.into()),
                    ("storage_policy", super::container::policy_of(&container.bucket).into()),
                ];
                Line::Named(name.clone(), values)
            }
        };
        if lines.back() != Some(&line) {
            lines.push_back(line);
        }
    }
    if listing.reverse {
        return lines.into_iter().rev().take(listing.limit).collect();
    }
    lines.into()
}

/// GET and HEAD.
pub(super) async fn read(call: &mut Call, permit: &AccountPermit) -> SwiftResult<Answer> {
    permit.wants(acl::Role::ReadOnly)?;
    // A policy that denies it over S3 denies it here too.
    if call.caller.identity().is_some() {
        crate::s3::access::user(call, Operation::ListBuckets)?;
    }
    let listing = Listing::parse(call)?;
    let account = call.service.catalogue.account(permit.id()).await?;
    let containers = containers(call, permit).await?;
    let mut answer = match call.head.method {
        Method::HEAD => respond::unlisted(listing.format.content_type()),
        _ => {
            let name = format!("AUTH_{}", permit.id());
            let elements = Elements { root: "account", name: &name, line: "container" };
            listing::answer(listing.format, &lines(&containers, &listing), &elements)
        }
    };
    let headers = answer.headers_mut();
    set_counts(headers, &containers);
    response::set(headers, "accept-ranges", "bytes");
    let oldest = containers.iter().map(|container| container.bucket.created_ms);
    let since = oldest.chain(Some(account.created_ms).filter(|ms| *ms > 0)).min();
    response::set(
        headers,
        "x-timestamp",
        &respond::timestamp(since.unwrap_or_else(|| call.now_ms())),
    );
    metadata::set_kept(headers, "account", &account, permit.owns());
    Ok(for_method(call, answer))
}

fn set_counts(headers: &mut HeaderMap, containers: &[Counted]) {
    let sum = |of: fn(&Usage) -> u64| -> String {
        let each = containers.iter().map(|container| of(&container.usage));
        each.fold(0u64, u64::saturating_add).to_string()
    };
    response::set(headers, "x-account-container-count", &containers.len().to_string());
    response::set(headers, "x-account-object-count", &sum(|usage| usage.objects));
    response::set(headers, "x-account-bytes-used", &sum(|usage| usage.bytes));
}

/// POST: changes metadata.
pub(super) async fn post(call: &mut Call, permit: &AccountPermit) -> SwiftResult<Answer> {
    permit.wants(acl::Role::Admin)?;
    let mut changes = metadata::changes(&call.head.headers, "account", permit.owns())?;
    quota::account_changes(call, &mut changes)?;
    if let Some(text) = call.head.header(acl::ACCOUNT)? {
        let kept = acl::clean_roles(text)?;
        changes.settings.insert(acl::ACCOUNT.to_owned(), kept.map(Into::into));
    }
    if !changes.is_empty() {
        metadata::change_account(call, permit.id(), &changes).await?;
    }
    Ok(respond::empty(StatusCode::NO_CONTENT))
}
