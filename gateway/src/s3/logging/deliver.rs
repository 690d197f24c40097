//! Writing logs as objects of their target, and when that of requests is done.
//!
//! A log goes straight to the catalogue: a delivery is no request, so it is logged nowhere, and a log can not feed
//! itself.

use super::super::access::Sharing;
use super::super::auth::payload::{Inspector, PayloadMode};
use super::super::checksum::{Algorithm, Announced};
use super::super::dates;
use super::super::encryption::Wanted;
use super::super::error::{Code, S3Error, S3Result};
use super::super::operations::write::{Described, NewObject, store_as};
use super::super::{Service, acl};
use super::collect::{Batch, DAY_MS};
use super::{Logging, Naming, may_deliver, roll};
use crate::catalogue::Bucket;
use crate::transfer::body::{BodyReader, Source};
use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;
use store_base::bucket::{Condition, ObjectLock};
use store_shell::clock;
use store_shell::shutdown::Shutdown;

/// How often is looked for what is to be delivered, at most.
const TICK: Duration = Duration::from_secs(1);

/// How long deliveries may take when the gateway stops.
pub const STOP_TIMEOUT: Duration = Duration::from_secs(5);

/// Delivers until the shutdown, and then what is left. Who `searches` finds the journals that gateways have left.
pub async fn run(service: Rc<Service>, searches: bool, shutdown: Shutdown) {
    let every = service.settings.access_log_every;
    let mut search_at = clock::now() + every.min(roll::SEARCH_EVERY);
    loop {
        tokio::select! {
            () = shutdown.wait() => return,
            () = tokio::time::sleep(TICK.min(every)) => {}
        }
        deliver_due(&service, false).await;
        roll::roll_due(&service).await;
        if searches && clock::now() >= search_at {
            roll::search(&service).await;
            search_at = clock::now() + roll::SEARCH_EVERY;
        }
    }
}

/// Delivers what is left, within a bound. Journals are not lost, and wait.
pub async fn finish(service: &Rc<Service>) {
    let left = deliver_due(service, true);
    if tokio::time::timeout(STOP_TIMEOUT, left).await.is_err() {
        tracing::warn!("access logs were not delivered before the end");
    }
}

async fn deliver_due(service: &Rc<Service>, last: bool) {
    for batch in service.access_log.due(last) {
        match deliver(service, &batch, true).await {
            Ok(_) => delivered(service, &batch),
            // The cluster could not: once more, while there is room for it.
            Err(error) if error.code.status().is_server_error() && !last => {
                tracing::debug!(%error, bucket = %batch.source.name, "an access log waits");
                service.access_log.put_back(batch);
            }
            Err(error) => {
                let target = &batch.logging.target;
                tracing::warn!(%error, bucket = %batch.source.name, %target, "an access log is dropped");
                service.metrics.log_dropped(batch.count);
                service.access_log.release(batch.lines.len());
            }
        }
    }
}

/// A batch is an object.
pub(super) fn delivered(service: &Service, batch: &Batch) {
    service.metrics.logged(batch.count);
    service.access_log.release(batch.lines.len());
}

/// Writes the records of a batch into a new object, if the target is still the one that they were collected for and, where
/// that is `asked`, takes them. The key.
pub(super) async fn deliver(service: &Rc<Service>, batch: &Batch, asked: bool) -> S3Result<String> {
    let logging = &batch.logging;
    let target = service.catalogue.bucket(&logging.target).await?;
    if target.id != batch.target {
        return Err(Code::NoSuchBucket.into());
    }
    let key = name(service, &batch.source, logging, batch.first_ms);
    if asked && !may(service, &batch.source, &target, &logging.prefix, &key)? {
        return Err(S3Error::from(Code::AccessDenied));
    }
    write(service, &target, logging, &key, Bytes::copy_from_slice(&batch.lines)).await?;
    Ok(key)
}

/// Whether the target takes a log of this source under this key.
pub(super) fn may(
    service: &Service,
    source: &Bucket,
    target: &Rc<Bucket>,
    prefix: &str,
    key: &str,
) -> S3Result<bool> {
    Ok(may_deliver(source, target, &*service.rules.rules(target)?, prefix, key))
}

/// Writes a log.
pub(super) async fn write(
    service: &Service,
    target: &Rc<Bucket>,
    logging: &Logging,
    key: &str,
    lines: Bytes,
) -> S3Result<()> {
    let rules = service.rules.rules(target)?;
    let acl = (!logging.grants.grants.is_empty()).then(|| {
        let mut acl = acl::private(&target.owner);
        acl.grants.extend(logging.grants.grants.iter().cloned());
        acl
    });
    let headers = [("content-type".to_owned(), "text/plain".to_owned())].into();
    let new = NewObject {
        bucket: target.clone(),
        key: Bytes::copy_from_slice(key.as_bytes()),
        condition: Condition::default(),
        described: Described {
            headers,
            metadata: BTreeMap::new(),
            tags: BTreeMap::new(),
            lock: ObjectLock::default(),
        },
        sharing: Sharing { owner: target.owner.clone(), acl },
        listed: BTreeMap::new(),
    };
    let length = lines.len() as u64;
    let pieces = (!lines.is_empty()).then_some(Ok(lines));
    let source = Source::Local(stream::iter(pieces).boxed_local());
    let mut reader = BodyReader::new(source, None, length);
    let unsigned = PayloadMode::Unsigned;
    let inspector = Inspector::new(&unsigned, Announced::default(), Some(Algorithm::Crc64Nvme));
    let wanted = Wanted::by_default(&rules);
    store_as(service, wanted, None, None, new, &mut reader, inspector).await?;
    Ok(())
}

/// The key of a new log.
pub(super) fn name(service: &Service, source: &Bucket, logging: &Logging, first_ms: u64) -> String {
    let now = clock::timestamp();
    name_at(source, logging, &service.settings.region, first_ms, (now.millis(), now.nanos))
}

/// The time, and what no other has: ten digits that grow within the second, and six by chance.
fn name_at(
    source: &Bucket,
    logging: &Logging,
    region: &str,
    first_ms: u64,
    (now_ms, nanos): (u64, u32),
) -> String {
    let Logging { prefix, naming, .. } = logging;
    let mut chance = clock::random_u64();
    let letters: String = (0..6)
        .map(|_| {
            let letter = char::from_digit((chance % 36) as u32, 36).unwrap_or('0');
            chance /= 36;
            letter.to_ascii_uppercase()
        })
        .collect();
    let stamp = |ms: u64| {
        // `2013-05-24T00:00:00.000Z`
        let iso = dates::iso(ms);
        (iso[..10].to_owned(), iso[11..19].replace(':', "-"))
    };
    let (day, time) = match naming {
        Naming::Simple | Naming::ByDelivery => stamp(now_ms),
        Naming::ByEvent => (stamp(first_ms).0, "00-00-00".to_owned()),
    };
    let grows = match naming {
        Naming::Simple | Naming::ByDelivery => u64::from(nanos),
        // Within the day: in units of ten microseconds.
        Naming::ByEvent => now_ms % DAY_MS * 100,
    };
    let folder = match naming {
        Naming::Simple => String::new(),
        Naming::ByDelivery | Naming::ByEvent => {
            let Bucket { owner, name, .. } = source;
            format!("{owner}/{region}/{name}/{}/", day.replace('-', "/"))
        }
    };
    format!("{prefix}{folder}{day}-{time}-{grows:010}{letters}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn logs_are_named_by_time_and_day() {
        let source = Bucket { name: "s".into(), owner: "u".into(), ..Bucket::default() };
        let first_ms = 1_369_353_600_000;
        let now_ms = first_ms + DAY_MS + 3_723_000;
        let named = |naming, nanos| {
            let logging = Logging { prefix: "p/".into(), naming, ..Logging::default() };
            name_at(&source, &logging, "r", first_ms, (now_ms, nanos))
        };
        let behind = |start: &str, name: String| {
            let unique = name.strip_prefix(start).unwrap_or_else(|| panic!("{name}")).to_owned();
            assert_eq!(unique.len(), 16, "{name}");
            assert!(unique.chars().all(|c| c.is_ascii_digit() || c.is_ascii_uppercase()), "{name}");
        };
        behind("p/2013-05-25-01-02-03-", named(Naming::Simple, 7));
        behind("p/u/r/s/2013/05/25/2013-05-25-01-02-03-", named(Naming::ByDelivery, 7));
        behind("p/u/r/s/2013/05/24/2013-05-24-00-00-00-", named(Naming::ByEvent, 7));
        assert_ne!(named(Naming::Simple, 7), named(Naming::Simple, 7));
        assert!(named(Naming::Simple, 999) < named(Naming::Simple, 999_999_999));
    }
}
