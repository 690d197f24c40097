//! Journals, on the way of a request: a record of each change is stored in the bucket that takes the log before the change
//! is made, and says what became of it before the client is answered. A crash between leaves a record with what was known
//! before (its version is `?`); a change that failed leaves none. So no change by a request of S3 is without its record,
//! nor one by Swift that makes or removes objects. What workers remove by lifecycle rules, or because objects have ended,
//! has none, and neither have the headers and metadata that Swift's POST changes.
//!
//! Where the record cannot be stored, the change is not made; a removal is made nevertheless, and counted as unrecorded, as
//! with Ceph's gateway: who deletes because there is no room must be able to.

use super::super::access::rules::Rules;
use super::super::error::{Code, S3Error, S3Result};
use super::super::{Call, Service};
use super::collect::{DAY_MS, named};
use super::record::{self, Change, VersionId};
use super::{Kind, Logging, Naming, deliver};
use crate::catalogue::{Bucket, CatalogueError, JournalAnswer, JournalAsk};
use bytes::Bytes;
use std::rc::Rc;
use store_base::bucket::{
    BucketId, Done, Entry, JournalAdd, JournalSettle, Refusal, Remove, Removed, Versioning,
};
use store_base::codec::Encode;
use store_shell::clock;

/// What a journal's deliverer must know: its encoded form is [`store_base::bucket::Journal::about`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct About {
    /// Of the bucket whose change was recorded last: its id, name and owner.
    pub(super) source: BucketId,
    pub(super) name: String,
    pub(super) owner: String,
    /// Its configuration, as it is stored.
    pub(super) logging: Bytes,
}
store_base::codec_versioned!(About, 1, 1 { source, name, owner, logging });

/// The name of the journal that takes the changes of a bucket: as many sources share one as share their logs.
pub(super) fn journal_name(source: BucketId, logging: &Logging, now_ms: u64) -> Bytes {
    let naming = match logging.naming {
        Naming::Simple => String::new(),
        Naming::ByDelivery => format!("d{source}"),
        Naming::ByEvent => format!("e{source}{}", now_ms / DAY_MS),
    };
    [logging.prefix.as_bytes(), &[0], naming.as_bytes()].concat().into()
}

/// A request is about to change objects of a bucket that has a journal.
pub(crate) struct Plan {
    source: Rc<Bucket>,
    logging: Rc<Logging>,
    operation: &'static str,
    now_ms: u64,
    /// Whether it is done also where it cannot be recorded.
    regardless: bool,
}

/// Records that are stored, of changes that are being made.
#[must_use = "a record says what became of its change"]
struct Ticket {
    target: Rc<Bucket>,
    journal: Bytes,
    token: u64,
    first: u64,
    /// Which of the changes are recorded, by their place.
    recorded: Vec<usize>,
}

impl Plan {
    /// For changes by an operation of this name; `None` if nobody wants to have them recorded.
    pub(crate) fn of(
        call: &Call,
        bucket: &Rc<Bucket>,
        rules: &Rules,
        operation: &'static str,
    ) -> Option<Plan> {
        let logging = rules.logging.as_ref().filter(|logging| logging.kind == Kind::Journal)?;
        let (source, logging) = (bucket.clone(), logging.clone());
        Some(Plan { source, logging, operation, now_ms: call.now_ms(), regardless: false })
    }

    /// The same, for what is done also where it cannot be recorded.
    pub(crate) fn regardless(self) -> Plan {
        Plan { regardless: true, ..self }
    }

    /// With an object as it is known before it is there.
    pub(crate) fn making(self, key: &Bytes, entry: &Entry) -> (Plan, Change) {
        let before = Change { version: VersionId::Unknown, ..self.made(key, entry) };
        (self, before)
    }

    /// With a key of whose object nothing is known before.
    pub(crate) fn changing(self, key: &Bytes) -> (Plan, Change) {
        (self, Change { key: key.clone(), ..Change::default() })
    }

    /// An object, as it is.
    pub(crate) fn made(&self, key: &Bytes, entry: &Entry) -> Change {
        let plain = entry.sequence == 0 && self.source.settings.versioning == Versioning::Off;
        let version = match plain {
            true => VersionId::None,
            false => VersionId::Is(entry.version().text(self.source.id)),
        };
        let etag = (!entry.delete_marker).then_some(entry.etag);
        Change { key: key.clone(), size: Some(entry.size), version, etag }
    }

    fn line(&self, change: &Change) -> Bytes {
        record::change(change, &self.source, self.operation, self.now_ms).into()
    }

    /// Stores the records of changes. `None` if the filter takes none of them. Errors: `AccessDenied` where the target takes no
    /// records of this bucket, `SlowDown` where as many wait as a journal keeps, those of the cluster.
    async fn begin(&self, service: &Service, changes: &[Change]) -> S3Result<Option<Ticket>> {
        let wanted = |(_, change): &(usize, &Change)| self.logging.filter.takes(&change.key);
        let recorded: Vec<usize> =
            changes.iter().enumerate().filter(wanted).map(|(place, _)| place).collect();
        if recorded.is_empty() {
            return Ok(None);
        }
        let target = self.target(service).await?;
        let (logging, source) = (&self.logging, &self.source);
        let journal = journal_name(source.id, logging, self.now_ms);
        let about = About {
            source: source.id,
            name: source.name.clone(),
            owner: source.owner.clone(),
            logging: logging.to_stored(&*service.keys).into_bytes().into(),
        };
        let (token, lines) = (clock::random_u64(), recorded.iter().map(|place| &changes[*place]));
        let add = JournalAdd {
            name: journal.clone(),
            about: about.to_bytes(),
            token,
            lines: lines.map(|change| self.line(change)).collect(),
        };
        let added = match service.catalogue.journal(&target, JournalAsk::Add(add)).await {
            Err(CatalogueError::Refused(Refusal::QueueFull {})) => {
                return Err(Code::SlowDown.with(format!(
                    "Logging bucket '{}' keeps as many records as wait for their delivery already.",
                    logging.target
                )));
            }
            Err(CatalogueError::Refused(Refusal::NoBucket {})) => return Err(self.no_target()),
            Ok(JournalAnswer::Added(added)) => added,
            Ok(_) => return Err(Code::InternalError.into()),
            Err(error) => return Err(error.into()),
        };
        let roll = logging.roll(service.settings.access_log_every);
        service.access_log.journals.note(&named(&target), &journal, roll, added.bytes);
        Ok(Some(Ticket { target, journal, token, first: added.first, recorded }))
    }

    /// As [`Plan::begin`]; nothing where that fails and the change is made regardless.
    async fn begin_as_it_must(
        &self,
        service: &Service,
        changes: &[Change],
    ) -> S3Result<Option<Ticket>> {
        match self.begin(service, changes).await {
            Err(error) if self.regardless => {
                tracing::warn!(%error, bucket = %self.source.name, "removals are not recorded");
                let wanted = |change: &&Change| self.logging.filter.takes(&change.key);
                service.metrics.log_dropped(changes.iter().filter(wanted).count() as u64);
                Ok(None)
            }
            ticket => ticket,
        }
    }

    /// Says what became of the changes that were begun: as they are now, or nothing where they were not made. Where this
    /// fails the records stay as they are.
    async fn settle(&self, service: &Service, ticket: Ticket, changes: &[Option<Change>]) {
        let records = ticket.recorded.iter().zip(ticket.first..).map(|(place, number)| {
            let change = changes.get(*place).and_then(Option::as_ref);
            (number, change.map(|change| self.line(change)))
        });
        let settle =
            JournalSettle { name: ticket.journal, token: ticket.token, records: records.collect() };
        let done = service.catalogue.journal(&ticket.target, JournalAsk::Settle(settle)).await;
        if let Err(error) = done {
            tracing::debug!(%error, bucket = %self.source.name, "a record stays as it was begun");
        }
    }

    async fn target(&self, service: &Service) -> S3Result<Rc<Bucket>> {
        let Logging { target, prefix, .. } = &*self.logging;
        let found = match service.catalogue.bucket(target).await {
            Err(CatalogueError::Refused(Refusal::NoBucket {})) => return Err(self.no_target()),
            found => found?,
        };
        match deliver::may(service, &self.source, &found, prefix, prefix)? {
            true => Ok(found),
            false => Err(refused(&self.logging)),
        }
    }

    fn no_target(&self) -> S3Error {
        Code::AccessDenied.with(format!(
            "Logging bucket '{}' is not there: make it, or change where the log goes.",
            self.logging.target
        ))
    }
}

/// Makes a change of one object, with its record if there is a plan, with what is known of the change before; `after` is
/// what is known of it then. Where nobody knows whether it was made, the record stays as it was begun. Errors of recording come
/// first; then it was not tried.
pub(crate) async fn recorded<T>(
    plan: Option<(Plan, Change)>,
    service: &Service,
    work: impl Future<Output = Result<T, CatalogueError>>,
    after: impl FnOnce(&Plan, &T) -> Change,
) -> S3Result<Result<T, CatalogueError>> {
    let Some((plan, before)) = plan else { return Ok(work.await) };
    let ticket = plan.begin_as_it_must(service, &[before]).await?;
    let done = work.await;
    let outcome = match &done {
        Ok(done) => Some(after(&plan, done)),
        Err(CatalogueError::Refused(_)) => None,
        Err(CatalogueError::Cluster(_)) => return Ok(done),
    };
    if let Some(ticket) = ticket {
        plan.settle(service, ticket, &[outcome]).await;
    }
    Ok(done)
}

/// Removes objects or versions, each with its record if there is a plan. Where there was nothing, there is no record.
pub(crate) async fn removed(
    plan: Option<Plan>,
    service: &Service,
    bucket: &Bucket,
    remove: Remove,
) -> S3Result<Vec<Done<Removed>>> {
    let Some(plan) = plan.map(Plan::regardless) else {
        return Ok(service.catalogue.remove(bucket, remove).await?);
    };
    let keys: Vec<Bytes> = remove.items.iter().map(|item| item.key.clone()).collect();
    let unknown = |key: &Bytes| Change { key: key.clone(), ..Change::default() };
    let before: Vec<Change> = keys.iter().map(unknown).collect();
    let ticket = plan.begin_as_it_must(service, &before).await?;
    let outcomes = service.catalogue.remove(bucket, remove).await?;
    if let Some(ticket) = ticket {
        let after = keys.iter().zip(&outcomes).map(|(key, outcome)| {
            let removed = outcome.as_ref().ok()?;
            let entry = removed.marker.as_ref().or(removed.entry.as_ref())?;
            Some(plan.made(key, entry))
        });
        plan.settle(service, ticket, &after.collect::<Vec<_>>()).await;
    }
    Ok(outcomes)
}

/// The target takes no log of this source.
pub(super) fn refused(logging: &Logging) -> S3Error {
    Code::AccessDenied.with(format!(
        "Logging bucket '{}' does not take the log: its policy must let {} put what begins with '{}'.",
        logging.target,
        super::DELIVERER,
        logging.prefix
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use store_base::codec::Decode;

    #[test]
    fn sources_share_a_journal_as_they_share_logs() {
        let named = |source: u8, naming, prefix: &str, day: u64| {
            let logging = Logging { naming, prefix: prefix.into(), ..Logging::default() };
            journal_name(BucketId([source; 8]), &logging, day * DAY_MS)
        };
        use Naming::{ByDelivery, ByEvent, Simple};
        assert_eq!(named(1, Simple, "p", 1), named(2, Simple, "p", 2));
        assert_ne!(named(1, Simple, "p", 1), named(1, Simple, "q", 1));
        assert_eq!(named(1, ByDelivery, "p", 1), named(1, ByDelivery, "p", 2));
        assert_ne!(named(1, ByDelivery, "p", 1), named(2, ByDelivery, "p", 1));
        assert_ne!(named(1, ByEvent, "p", 1), named(1, ByEvent, "p", 2));
    }

    #[test]
    fn what_is_known_of_a_journal_comes_back() {
        let about = About { name: "b".into(), logging: "x".into(), ..About::default() };
        assert_eq!(About::from_bytes(about.to_bytes()).unwrap(), about);
    }
}
