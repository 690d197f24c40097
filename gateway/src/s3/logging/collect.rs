//! Records of requests, kept in memory until they are delivered.
//!
//! A gateway collects by target and prefix. A batch is as old as its first record. Whoever adds a record to one that is
//! old enough begins another; one that nobody adds to is found by the clock, a little later, so that the two do not
//! come between each other. What a crash loses is what was not delivered yet. Memory is bounded; records beyond it are
//! dropped and counted.

use super::{Logging, Naming};
use crate::catalogue::Bucket;
use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use store_base::bucket::BucketId;
use store_base::machine::Time;
use store_shell::clock;

/// Bytes of records that a gateway keeps: more are dropped.
pub const KEPT_BYTES_MAX: usize = 16 << 20;

/// A log of so many bytes is delivered before its time.
const BATCH_BYTES: usize = 1 << 20;

/// How much later a batch is delivered that nobody adds to; its time again where that is shorter.
const IDLE: Duration = Duration::from_secs(2);

pub(super) const DAY_MS: u64 = 86_400_000;

/// Which records share a log: those of one target and prefix; of one source where that is in the name, and of one day
/// where that is.
pub(super) type Way = (BucketId, String, Naming, Option<BucketId>, Option<u64>);

/// The way of a record.
pub(super) fn way(target: BucketId, source: &Bucket, logging: &Logging, now_ms: u64) -> Way {
    let Logging { prefix, naming, .. } = logging;
    let of_source = (*naming != Naming::Simple).then_some(source.id);
    let day = (*naming == Naming::ByEvent).then_some(now_ms / DAY_MS);
    (target, prefix.clone(), *naming, of_source, day)
}

/// Records that wait for their delivery.
#[derive(Clone, Debug)]
pub(super) struct Batch {
    /// The bucket that the last of them is about: its id, name and owner.
    pub(super) source: Bucket,
    /// The bucket that takes them; one that was made again under its name is another.
    pub(super) target: BucketId,
    pub(super) logging: Logging,
    pub(super) since: Time,
    /// How old it gets.
    pub(super) roll: Duration,
    /// When the first request came, in ms since 1970.
    pub(super) first_ms: u64,
    pub(super) lines: Vec<u8>,
    pub(super) count: u64,
}

impl Batch {
    fn way(&self) -> Way {
        way(self.target, &self.source, &self.logging, self.first_ms)
    }

    fn is_due(&self, now: Time, waits: Duration) -> bool {
        self.lines.len() >= BATCH_BYTES || now.since(self.since) >= waits
    }
}

/// The records of a gateway: its threads share them.
#[derive(Default)]
pub struct AccessLog {
    kept: Mutex<Kept>,
    /// Journals of which logs are to be made.
    pub(super) journals: super::roll::Waiting,
}

#[derive(Default)]
struct Kept {
    batches: BTreeMap<Way, Batch>,
    /// Those that others were begun after, in that order.
    full: Vec<Batch>,
    /// Of the records here, and of those that are being delivered.
    bytes: usize,
}

/// What is known of a bucket where nothing else is needed.
pub(super) fn named(bucket: &Bucket) -> Bucket {
    Bucket {
        id: bucket.id,
        name: bucket.name.clone(),
        owner: bucket.owner.clone(),
        generation: bucket.generation,
        shards: bucket.shards,
        ..Bucket::default()
    }
}

impl AccessLog {
    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a record in; `roll` is how old a log gets. Whether there was room for it.
    pub(in crate::s3) fn add(
        &self,
        source: &Bucket,
        target: BucketId,
        logging: &Logging,
        roll: Duration,
        (now_ms, line): (u64, &str),
    ) -> bool {
        let mut kept = self.kept();
        if kept.bytes + line.len() > KEPT_BYTES_MAX {
            return false;
        }
        kept.bytes += line.len();
        let (way, now) = (way(target, source, logging, now_ms), clock::now());
        if kept.batches.get(&way).is_some_and(|batch| batch.is_due(now, roll))
            && let Some(old) = kept.batches.remove(&way)
        {
            kept.full.push(old);
        }
        let batch = kept.batches.entry(way).or_insert_with(|| Batch {
            source: named(source),
            target,
            logging: logging.clone(),
            since: now,
            roll,
            first_ms: now_ms,
            lines: Vec::new(),
            count: 0,
        });
        if batch.source.id != source.id {
            batch.source = named(source);
        }
        batch.lines.extend_from_slice(line.as_bytes());
        batch.count += 1;
        true
    }

    /// Takes out what is old enough, or large; everything if `all`.
    pub(super) fn due(&self, all: bool) -> Vec<Batch> {
        let now = clock::now();
        let wanted = |batch: &Batch| all || batch.is_due(now, batch.roll + batch.roll.min(IDLE));
        self.take(wanted, |_| true)
    }

    /// Takes out what shares logs with this source, of all days.
    pub(super) fn of_source(
        &self,
        source: &Bucket,
        target: BucketId,
        logging: &Logging,
    ) -> Vec<Batch> {
        let (wanted, prefix, naming, of_source, _) = way(target, source, logging, 0);
        let shares = |batch: &Batch| {
            let (target, its_prefix, its_naming, its_source, _) = batch.way();
            (target, &its_prefix, its_naming, its_source) == (wanted, &prefix, naming, of_source)
        };
        self.take(shares, shares)
    }

    fn take(
        &self,
        wanted: impl Fn(&Batch) -> bool,
        wanted_of_full: impl Fn(&Batch) -> bool,
    ) -> Vec<Batch> {
        let mut kept = self.kept();
        let full = std::mem::take(&mut kept.full);
        let (mut taken, left): (Vec<Batch>, _) = full.into_iter().partition(wanted_of_full);
        kept.full = left;
        let all = std::mem::take(&mut kept.batches);
        let (due, left): (BTreeMap<Way, Batch>, _) =
            all.into_iter().partition(|(_, batch)| wanted(batch));
        kept.batches = left;
        taken.extend(due.into_values());
        taken
    }

    /// Takes a batch back that could not be delivered, before what came since.
    pub(super) fn put_back(&self, batch: Batch) {
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
    pub(super) fn release(&self, bytes: usize) {
        let mut kept = self.kept();
        kept.bytes = kept.bytes.saturating_sub(bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_secs(3600);
    const TARGET: BucketId = BucketId([9; 8]);

    fn bucket(id: u8) -> Bucket {
        Bucket { id: BucketId([id; 8]), owner: "u".into(), ..Bucket::default() }
    }

    fn logging(naming: Naming) -> Logging {
        Logging { prefix: "p/".into(), naming, ..Logging::default() }
    }

    fn texts(batches: &[Batch]) -> Vec<(String, u64)> {
        let text = |batch: &Batch| String::from_utf8(batch.lines.clone()).unwrap();
        batches.iter().map(|batch| (text(batch), batch.count)).collect()
    }

    #[test]
    fn memory_is_bounded_and_what_waits_stays_in_order() {
        let log = AccessLog::default();
        let (source, logging) = (bucket(1), logging(Naming::Simple));
        let add = |line: &str| log.add(&source, TARGET, &logging, LONG, (1, line));
        let line = "x".repeat(1 << 20);
        for n in 0..20 {
            assert_eq!(add(&line), n < 16, "{n}");
        }
        assert_eq!(log.due(false).len(), 16, "each is large");
        assert!(!add("new\n"), "they are not delivered yet");
        log.release(16 << 20);
        assert!(add("old\n") && log.due(false).is_empty());
        let old = log.due(true).remove(0);
        assert!(add("new\n"));
        log.put_back(old);
        assert_eq!(texts(&log.due(true)), [("old\nnew\n".to_owned(), 2)]);
    }

    #[test]
    fn sources_of_one_prefix_share_a_log_unless_their_name_is_in_it() {
        for (naming, shared) in
            [(Naming::Simple, true), (Naming::ByDelivery, false), (Naming::ByEvent, false)]
        {
            let (log, logging) = (AccessLog::default(), logging(naming));
            for (source, line) in [(1, "a\n"), (2, "b\n")] {
                assert!(log.add(&bucket(source), TARGET, &logging, LONG, (1, line)));
            }
            // Of another day, of a target that was made again, of another prefix.
            assert!(log.add(&bucket(1), TARGET, &logging, LONG, (DAY_MS, "c\n")));
            assert!(log.add(&bucket(1), BucketId([8; 8]), &logging, LONG, (1, "d\n")));
            let other = Logging { prefix: "q/".into(), ..logging.clone() };
            assert!(log.add(&bucket(1), TARGET, &other, LONG, (1, "e\n")));
            let of_first = log.of_source(&bucket(1), TARGET, &logging);
            let expected = match (shared, naming) {
                (true, _) => vec![("a\nb\nc\n", 3)],
                (false, Naming::ByEvent) => vec![("a\n", 1), ("c\n", 1)],
                (false, _) => vec![("a\nc\n", 2)],
            };
            let expected: Vec<_> =
                expected.into_iter().map(|(text, n)| (text.to_owned(), n)).collect();
            assert_eq!(texts(&of_first), expected, "{naming:?}");
            assert_eq!(log.due(true).len(), if shared { 2 } else { 3 });
        }
    }

    #[test]
    #[allow(clippy::disallowed_methods)] // what is proved is of the clock
    fn who_adds_to_an_old_one_begins_another() {
        let log = AccessLog::default();
        let (source, logging) = (bucket(1), logging(Naming::Simple));
        let roll = Duration::from_millis(50);
        let add = |line: &str| log.add(&source, TARGET, &logging, roll, (1, line));
        assert!(add("a\n"));
        std::thread::sleep(Duration::from_millis(60));
        assert!(log.due(false).is_empty(), "the clock leaves it to who adds, for a while");
        assert!(add("b\n"));
        assert_eq!(texts(&log.due(false)), [("a\n".to_owned(), 1)]);
        std::thread::sleep(Duration::from_millis(110));
        assert_eq!(texts(&log.due(false)), [("b\n".to_owned(), 1)]);
    }
}
