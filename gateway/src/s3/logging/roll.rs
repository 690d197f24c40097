//! Making logs of journals.
//!
//! Which records a log has, and its key, is settled in the shard first; then the log is written, then its records leave.
//! A gateway that dies in between is followed by another after a lease, which writes the same bytes under the same key.
//! Every gateway remembers the journals that it added to; one of its threads searches for those that others have left.
//! A request that ended in between is followed by the next one of its gateway at once: to the shard they are one.

use super::super::Service;
use super::super::access::rules::document;
use super::super::error::{Code, S3Error, S3Result};
use super::collect::named;
use super::journal::About;
use super::{Logging, deliver};
use crate::catalogue::{Bucket, CatalogueError, JournalAnswer, JournalAsk};
use bytes::{Bytes, BytesMut};
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use store_base::bucket::{
    BucketId, Cut, JOURNAL_LOG_BYTES_MAX, Journal, JournalClear, JournalCutAsk, JournalRead,
    Journals, ListBuckets,
};
use store_base::codec::Decode;
use store_base::machine::Time;
use store_shell::clock;

/// How often is searched for journals that nobody remembers.
pub(super) const SEARCH_EVERY: Duration = Duration::from_secs(60);

/// How long a log is its maker's without a sign of life.
const LEASE: Duration = Duration::from_secs(60);

/// How long a log that is asked for waits for changes that are being made, and for others who make one.
const WAIT_MAX: Duration = Duration::from_secs(10);

/// And how often it looks.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// After a failure a journal waits so long.
const AGAIN: Duration = Duration::from_secs(5);

/// Most journals that are remembered; the search finds the others.
const REMEMBERED_MAX: usize = 10_000;

/// Journals in one page, buckets in one page.
const JOURNALS_PER_PAGE: u32 = 20;
const BUCKETS_PER_PAGE: u32 = 1000;

/// The journals that a gateway remembers, and when it looks at them.
pub(super) struct Waiting {
    due: Mutex<BTreeMap<(BucketId, Bytes), (Bucket, Time)>>,
    /// Who makes logs here, as shards know him.
    holder: u64,
    /// Of which journals one is being made.
    rolling: Mutex<BTreeSet<(BucketId, Bytes)>>,
}

impl Default for Waiting {
    fn default() -> Self {
        let (due, rolling) = (Mutex::default(), Mutex::default());
        Waiting { due, holder: clock::random_u64() | 1, rolling }
    }
}

/// A log of a journal is being made here until this is dropped.
struct Rolling<'a> {
    waiting: &'a Waiting,
    journal: (BucketId, Bytes),
}

impl Drop for Rolling<'_> {
    fn drop(&mut self) {
        self.waiting.rolling().remove(&self.journal);
    }
}

impl Waiting {
    fn rolling(&self) -> MutexGuard<'_, BTreeSet<(BucketId, Bytes)>> {
        self.rolling.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// `None` while another task of this gateway makes a log of the journal.
    fn begin(&self, target: BucketId, journal: &Bytes) -> Option<Rolling<'_>> {
        let journal = (target, journal.clone());
        let free = self.rolling().insert(journal.clone());
        free.then(|| Rolling { waiting: self, journal })
    }

    fn locked(&self) -> MutexGuard<'_, BTreeMap<(BucketId, Bytes), (Bucket, Time)>> {
        self.due.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Records came; so many bytes wait now.
    pub(super) fn note(&self, target: &Bucket, journal: &Bytes, roll: Duration, bytes: u64) {
        let large = bytes >= JOURNAL_LOG_BYTES_MAX / 2;
        let at = clock::now() + if large { Duration::ZERO } else { roll };
        let mut due = self.locked();
        let full = due.len() >= REMEMBERED_MAX;
        match due.get_mut(&(target.id, journal.clone())) {
            Some((_, noted)) => *noted = at.min(*noted),
            None if full => {}
            None => {
                due.insert((target.id, journal.clone()), (target.clone(), at));
            }
        }
    }

    /// Takes out what is to be looked at.
    fn take(&self) -> Vec<(Bucket, Bytes)> {
        let (now, mut due) = (clock::now(), self.locked());
        let all = std::mem::take(&mut *due);
        let (taken, left): (BTreeMap<_, _>, _) =
            all.into_iter().partition(|(_, (_, at))| *at <= now);
        *due = left;
        taken.into_iter().map(|((_, journal), (target, _))| (target, journal)).collect()
    }
}

/// Makes logs of the journals that are old enough.
pub(super) async fn roll_due(service: &Rc<Service>) {
    for (target, name) in service.access_log.journals.take() {
        let again = match look_at(service, &target, &name).await {
            Ok(again) => again,
            // With a bucket its journals go.
            Err(error) if error.code == Code::NoSuchBucket => None,
            Err(error) => {
                tracing::debug!(%error, target = %target.name, "a journal waits");
                Some(AGAIN)
            }
        };
        if let Some(again) = again {
            service.access_log.journals.note(&target, &name, again, 0);
        }
    }
}

/// Makes a log of a journal if it is old or large enough. When to look again, if records wait.
async fn look_at(
    service: &Rc<Service>,
    target: &Bucket,
    name: &Bytes,
) -> S3Result<Option<Duration>> {
    let Some(journal) = find(service, target, name).await? else { return Ok(None) };
    let (_, logging) = about(&journal.about)?;
    let whole = logging.roll(service.settings.access_log_every);
    let age = clock::timestamp().millis().saturating_sub(journal.since_ms);
    let left = whole.saturating_sub(Duration::from_millis(age));
    if !left.is_zero() && journal.bytes < JOURNAL_LOG_BYTES_MAX / 2 && journal.cut.is_none() {
        return Ok(Some(left));
    }
    roll(service, target, name, false).await?;
    let left = find(service, target, name).await?;
    Ok(left.map(|_| AGAIN.min(whole)))
}

async fn find(service: &Service, target: &Bucket, name: &Bytes) -> S3Result<Option<Journal>> {
    let ask = JournalAsk::Named(Journals { from: name.clone(), max: 1 });
    match service.catalogue.journal(target, ask).await? {
        JournalAnswer::List(found) => {
            Ok(found.into_iter().find(|(found, _)| found == name).map(|(_, journal)| journal))
        }
        _ => Err(Code::InternalError.into()),
    }
}

/// What was noted about a journal: its source, and where the log goes.
fn about(bytes: &Bytes) -> S3Result<(Bucket, Logging)> {
    let damaged = |what: String| {
        tracing::error!(%what, "what is known of a journal cannot be read");
        S3Error::from(Code::InternalError)
    };
    let about = About::from_bytes(bytes.clone()).map_err(|error| damaged(error.to_string()))?;
    let logging = Logging::parse(&about.logging, &|_| true)?;
    let logging = logging.ok_or_else(|| damaged("it has no configuration".into()))?;
    let About { source: id, name, owner, .. } = about;
    Ok((Bucket { id, name, owner, ..Bucket::default() }, logging))
}

/// Makes logs of what waits in a journal now. If it `waits`, also for changes that are being made at this moment, and for
/// others who make a log, within a bound: `ServiceUnavailable` behind it. The key of the last one, if there was anything.
pub(super) async fn roll(
    service: &Rc<Service>,
    target: &Bucket,
    name: &Bytes,
    waits: bool,
) -> S3Result<Option<String>> {
    let Some(journal) = find(service, target, name).await? else { return Ok(None) };
    let (source, logging) = about(&journal.about)?;
    let waiting = &service.access_log.journals;
    let (holder, until) = (waiting.holder, clock::now() + WAIT_MAX);
    let mut last = None;
    loop {
        let mut somebody_is_at_it = true;
        if let Some(_rolling) = waiting.begin(target.id, name) {
            let ask = JournalCutAsk {
                name: name.clone(),
                key: deliver::name(service, &source, &logging, journal.since_ms),
                // What comes meanwhile is the next log's.
                below: journal.next,
                holder,
                lease_ms: u64::try_from(LEASE.as_millis()).unwrap_or(u64::MAX),
            };
            let JournalAnswer::Cut(answer) =
                service.catalogue.journal(target, JournalAsk::Cut(ask)).await?
            else {
                return Err(Code::InternalError.into());
            };
            somebody_is_at_it = match answer.cut {
                Some(cut) if cut.holder == holder => {
                    finish(service, target, name, &cut, &answer.about).await?;
                    last = Some(cut.key);
                    continue;
                }
                cut => cut.is_some() || answer.open,
            };
        }
        if !(somebody_is_at_it && waits) {
            return Ok(last);
        }
        if clock::now() >= until {
            return Err(Code::ServiceUnavailable.with(
                "Records wait for changes that are being made, or another gateway delivers them.",
            ));
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// Writes a log, if it is not written yet, and takes its records away.
async fn finish(
    service: &Rc<Service>,
    target: &Bucket,
    name: &Bytes,
    cut: &Cut,
    noted: &Bytes,
) -> S3Result<()> {
    if !cut.stored {
        let (source, logging) = about(noted)?;
        let bucket = service.catalogue.bucket(&target.name).await?;
        if bucket.id != target.id {
            return Err(Code::NoSuchBucket.into());
        }
        // What was recorded was let in then. Another owner may have changed his mind.
        if bucket.owner != source.owner
            && !deliver::may(service, &source, &bucket, &logging.prefix, &cut.key)?
        {
            return Err(Code::AccessDenied.into());
        }
        let lines = lines(service, target, name, cut).await?;
        deliver::write(service, &bucket, &logging, &cut.key, lines).await?;
        service.metrics.logged(cut.records);
    }
    let clear = JournalClear { name: name.clone(), key: cut.key.clone() };
    while let JournalAnswer::More(true) =
        service.catalogue.journal(target, JournalAsk::Clear(clear.clone())).await?
    {}
    Ok(())
}

/// The records of a log: at most [`JOURNAL_LOG_BYTES_MAX`].
async fn lines(service: &Service, target: &Bucket, name: &Bytes, cut: &Cut) -> S3Result<Bytes> {
    let mut lines = BytesMut::new();
    let mut read = JournalRead { name: name.clone(), from: 0, until: cut.until };
    while read.from < read.until {
        let ask = JournalAsk::Read(read.clone());
        let JournalAnswer::Records(page) = service.catalogue.journal(target, ask).await? else {
            return Err(Code::InternalError.into());
        };
        let Some((number, _)) = page.last() else { break };
        read.from = number.saturating_add(1);
        page.iter().for_each(|(_, line)| lines.extend_from_slice(line));
    }
    match lines.len() as u64 == cut.bytes {
        true => Ok(lines.freeze()),
        // Somebody else took the log over and has written it: there is nothing to do.
        false => Err(Code::OperationAborted.into()),
    }
}

/// Finds the journals of all buckets that take some.
pub(super) async fn search(service: &Rc<Service>) {
    let mut query = ListBuckets { max: BUCKETS_PER_PAGE, ..ListBuckets::default() };
    loop {
        let page = match service.catalogue.buckets(query.clone()).await {
            Ok(page) => page,
            Err(error) => {
                tracing::warn!(%error, "the search for journals stopped; it begins anew later");
                return;
            }
        };
        let marked = |bucket: &&Bucket| bucket.documents.contains_key(document::JOURNALED);
        for bucket in page.buckets.iter().filter(|bucket| bucket.ready).filter(marked) {
            if let Err(error) = search_in(service, bucket).await {
                tracing::debug!(%error, bucket = %bucket.name, "its journals were not found");
            }
        }
        match page.buckets.last() {
            Some(last) if page.more => query.after.clone_from(&last.name),
            _ => return,
        }
    }
}

async fn search_in(service: &Rc<Service>, bucket: &Bucket) -> Result<(), CatalogueError> {
    for shard in 0..bucket.shards {
        let mut from = Bytes::new();
        loop {
            let journals = Journals { from: from.clone(), max: JOURNALS_PER_PAGE };
            let ask = JournalAsk::List(shard, journals);
            let JournalAnswer::List(found) = service.catalogue.journal(bucket, ask).await? else {
                break;
            };
            for (name, journal) in &found {
                service.access_log.journals.note(
                    &named(bucket),
                    name,
                    Duration::ZERO,
                    journal.bytes,
                );
            }
            match found.last() {
                Some((name, _)) if found.len() >= JOURNALS_PER_PAGE as usize => {
                    from = [&name[..], &[0]].concat().into();
                }
                _ => break,
            }
        }
    }
    Ok(())
}
