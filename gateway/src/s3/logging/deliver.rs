//! Collecting records and delivering them.
//!
//! A gateway collects by source and target, and each of its threads delivers what is old or large enough
//! as a new object of the target, straight to the catalogue: a delivery is no request, so it is logged nowhere,
//! and a log can not feed itself. What a crash loses is what was not delivered yet: at most the interval.
//! Memory is bounded; records beyond it, and what a target does not take, are dropped and counted.

use super::super::access::Sharing;
use super::super::auth::payload::{Inspector, PayloadMode};
use super::super::checksum::{Algorithm, Announced};
use super::super::dates;
use super::super::encryption::Wanted;
use super::super::error::{Code, S3Error, S3Result};
use super::super::operations::write::{Described, NewObject, store_as};
use super::super::{Service, acl};
use super::{Logging, Naming, may_deliver};
use crate::catalogue::Bucket;
use crate::transfer::body::{BodyReader, Source};
use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use store_base::bucket::{BucketId, Condition, ObjectLock};
use store_base::machine::Time;
use store_shell::clock;
use store_shell::shutdown::Shutdown;

/// Bytes of records that a gateway keeps: more are dropped.
pub const KEPT_BYTES_MAX: usize = 16 << 20;

/// A log of so many bytes is delivered before its time.
const BATCH_BYTES: usize = 1 << 20;

/// How often is looked for what is to be delivered, at most.
const TICK: Duration = Duration::from_secs(1);

/// How long deliveries may take when the gateway stops.
pub const STOP_TIMEOUT: Duration = Duration::from_secs(5);

/// From where to where, and of which day where that is in the name.
type Way = (BucketId, String, String, Naming, Option<u64>);

/// Records that wait for their delivery.
struct Batch {
    /// The bucket that they are about: its id, name and owner.
    source: Bucket,
    logging: Logging,
    since: Time,
    /// When the first request came, in ms since 1970.
    first_ms: u64,
    lines: Vec<u8>,
    count: u64,
}

impl Batch {
    fn way(&self) -> Way {
        way(&self.source, &self.logging, self.first_ms)
    }
}

fn way(source: &Bucket, logging: &Logging, now_ms: u64) -> Way {
    let day = (logging.naming == Naming::ByEvent).then_some(now_ms / DAY_MS);
    (source.id, logging.target.clone(), logging.prefix.clone(), logging.naming, day)
}

/// The records of a gateway: its threads share them.
#[derive(Default)]
pub struct AccessLog {
    kept: Mutex<Kept>,
}

#[derive(Default)]
struct Kept {
    batches: BTreeMap<Way, Batch>,
    /// Of the records here, and of those that are being delivered.
    bytes: usize,
}

const DAY_MS: u64 = 86_400_000;

impl AccessLog {
    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a record in. Whether there was room for it.
    pub fn add(&self, source: &Bucket, logging: &Logging, now_ms: u64, line: &str) -> bool {
        let mut kept = self.kept();
        if kept.bytes + line.len() > KEPT_BYTES_MAX {
            return false;
        }
        kept.bytes += line.len();
        let batch = kept.batches.entry(way(source, logging, now_ms)).or_insert_with(|| Batch {
            source: Bucket {
                id: source.id,
                name: source.name.clone(),
                owner: source.owner.clone(),
                ..Bucket::default()
            },
            logging: logging.clone(),
            since: clock::now(),
            first_ms: now_ms,
            lines: Vec::new(),
            count: 0,
        });
        batch.lines.extend_from_slice(line.as_bytes());
        batch.count += 1;
        true
    }

    /// Takes out what is older than `age`, or large.
    fn due(&self, age: Duration) -> Vec<Batch> {
        let now = clock::now();
        let mut kept = self.kept();
        let is_due =
            |batch: &Batch| batch.lines.len() >= BATCH_BYTES || now.since(batch.since) >= age;
        let all = std::mem::take(&mut kept.batches);
        let (due, left): (BTreeMap<Way, Batch>, _) =
            all.into_iter().partition(|(_, batch)| is_due(batch));
        kept.batches = left;
        due.into_values().collect()
    }

    /// Takes a batch back that could not be delivered, before what came since.
    fn put_back(&self, batch: Batch) {
        let mut kept = self.kept();
        let (way, since) = (batch.way(), clock::now());
        let batch = match kept.batches.remove(&way) {
            None => Batch { since, ..batch },
            Some(newer) => {
                let lines = [batch.lines, newer.lines].concat();
                let count = batch.count + newer.count;
                Batch { lines, count, since, first_ms: batch.first_ms, ..newer }
            }
        };
        kept.batches.insert(way, batch);
    }

    /// So many bytes are delivered, or dropped.
    fn release(&self, bytes: usize) {
        let mut kept = self.kept();
        kept.bytes = kept.bytes.saturating_sub(bytes);
    }
}

/// Delivers until the shutdown, and then what is left.
pub async fn run(service: Rc<Service>, shutdown: Shutdown) {
    let every = service.settings.access_log_every;
    loop {
        tokio::select! {
            () = shutdown.wait() => return,
            () = tokio::time::sleep(TICK.min(every)) => {}
        }
        deliver_due(&service, every).await;
    }
}

/// Delivers what is left, within a bound.
pub async fn finish(service: &Rc<Service>) {
    let left = deliver_due(service, Duration::ZERO);
    if tokio::time::timeout(STOP_TIMEOUT, left).await.is_err() {
        tracing::warn!("access logs were not delivered before the end");
    }
}

async fn deliver_due(service: &Rc<Service>, age: Duration) {
    let log = &service.access_log;
    for batch in log.due(age) {
        let (bytes, count) = (batch.lines.len(), batch.count);
        match deliver(service, &batch).await {
            Ok(()) => service.metrics.logged(count),
            // The cluster could not: once more, while there is room for it.
            Err(error) if error.code.status().is_server_error() && !age.is_zero() => {
                tracing::debug!(%error, bucket = %batch.source.name, "an access log waits");
                log.put_back(batch);
                continue;
            }
            Err(error) => {
                let target = &batch.logging.target;
                tracing::warn!(%error, bucket = %batch.source.name, %target, "an access log is dropped");
                service.metrics.log_dropped(count);
            }
        }
        log.release(bytes);
    }
}

/// Writes the records of a batch into a new object.
async fn deliver(service: &Rc<Service>, batch: &Batch) -> S3Result<()> {
    let logging = &batch.logging;
    let target = service.catalogue.bucket(&logging.target).await?;
    let rules = service.rules.rules(&target)?;
    let now_ms = clock::timestamp().millis();
    let key = name(batch, &service.settings.region, now_ms);
    if !may_deliver(&batch.source, &target, &rules, &logging.prefix, &key) {
        return Err(S3Error::from(Code::AccessDenied));
    }
    let acl = (!logging.grants.grants.is_empty()).then(|| {
        let mut acl = acl::private(&target.owner);
        acl.grants.extend(logging.grants.grants.iter().cloned());
        acl
    });
    let headers = [("content-type".to_owned(), "text/plain".to_owned())].into();
    let new = NewObject {
        bucket: target.clone(),
        key: key.into(),
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
    let lines = Bytes::copy_from_slice(&batch.lines);
    let length = lines.len() as u64;
    let source = Source::Local(stream::iter([Ok(lines)]).boxed_local());
    let mut reader = BodyReader::new(source, None, length);
    let unsigned = PayloadMode::Unsigned;
    let inspector = Inspector::new(&unsigned, Announced::default(), Some(Algorithm::Crc64Nvme));
    let wanted = Wanted::by_default(&rules);
    store_as(service, wanted, None, new, &mut reader, inspector).await?;
    Ok(())
}

/// The key of a log: the time, and what no other has.
fn name(batch: &Batch, region: &str, now_ms: u64) -> String {
    let Logging { prefix, naming, .. } = &batch.logging;
    let unique = format!("{:016X}", clock::random_u64());
    let stamp = |ms: u64| {
        // `2013-05-24T00:00:00.000Z`
        let iso = dates::iso(ms);
        (iso[..10].to_owned(), iso[11..19].replace(':', "-"))
    };
    let (day, time) = match naming {
        Naming::Simple | Naming::ByDelivery => stamp(now_ms),
        Naming::ByEvent => (stamp(batch.first_ms).0, "00-00-00".to_owned()),
    };
    let folder = match naming {
        Naming::Simple => String::new(),
        Naming::ByDelivery | Naming::ByEvent => {
            let Bucket { owner, name, .. } = &batch.source;
            format!("{owner}/{region}/{name}/{}/", day.replace('-', "/"))
        }
    };
    format!("{prefix}{folder}{day}-{time}-{unique}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batch(naming: Naming) -> Batch {
        let source = Bucket { name: "s".into(), owner: "u".into(), ..Bucket::default() };
        let logging = Logging { prefix: "p/".into(), naming, ..Logging::default() };
        Batch {
            source,
            logging,
            since: clock::now(),
            first_ms: 1_369_353_600_000,
            lines: b"old\n".to_vec(),
            count: 1,
        }
    }

    #[test]
    fn logs_are_named_by_time_and_day() {
        let now = 1_369_353_600_000 + DAY_MS + 3_723_000;
        let named = |naming| {
            let name = name(&batch(naming), "r", now);
            name[..name.len() - 16].to_owned()
        };
        assert_eq!(named(Naming::Simple), "p/2013-05-25-01-02-03-");
        assert_eq!(named(Naming::ByDelivery), "p/u/r/s/2013/05/25/2013-05-25-01-02-03-");
        assert_eq!(named(Naming::ByEvent), "p/u/r/s/2013/05/24/2013-05-24-00-00-00-");
        assert_ne!(name(&batch(Naming::Simple), "r", 0), name(&batch(Naming::Simple), "r", 0));
    }

    #[test]
    fn memory_is_bounded_and_what_waits_stays_in_order() {
        let log = AccessLog::default();
        let Batch { source, logging, .. } = batch(Naming::Simple);
        let line = "x".repeat(1 << 20);
        for n in 0..20 {
            assert_eq!(log.add(&source, &logging, 1, &line), n < 16, "{n}");
        }
        let due = log.due(Duration::from_secs(3600));
        assert_eq!((due.len(), due[0].count), (1, 16), "it is large");
        assert!(!log.add(&source, &logging, 1, "new\n"), "it is not delivered yet");
        log.release(16 << 20);
        assert!(log.add(&source, &logging, 1, "new\n"));
        assert!(log.due(Duration::from_secs(3600)).is_empty());
        log.put_back(batch(Naming::Simple));
        let due = log.due(Duration::ZERO);
        assert_eq!((due[0].lines.as_slice(), due[0].count), (&b"old\nnew\n"[..], 2));
    }
}
