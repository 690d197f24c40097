//! The log of a placement group in memory, beside the one in the store.
//!
//! # Invariants
//!
//! - `entries` ascend by version; each names the one before it as `previous`, the first names `tail`.
//! - The first `applied` of them have taken effect (or count as if, on a learner); the others are staged
//!   and have their mutations.
//! - `requests` has the version of every entry here that a client asked for.
//! - An applied entry keeps its mutation only while a learner may still need it.

use super::message::Trimmed;
use crate::store::{Change, LogEntry, Mutation};
use std::collections::{BTreeMap, VecDeque};
use store_base::op::OpResult;
use store_base::{ObjectName, RequestId, Version};

/// See the module.
#[derive(Clone, Debug, Default)]
pub(crate) struct Log {
    tail: Version,
    entries: VecDeque<LogEntry>,
    applied: usize,
    requests: BTreeMap<RequestId, Version>,
    /// Of all entries, mutations left out.
    bytes: usize,
    /// Of the mutations of staged entries.
    open_bytes: usize,
    /// Applied entries from this index on have kept their mutations …
    kept_from: usize,
    /// … which are of so many bytes.
    kept_bytes: usize,
}

/// About how many bytes an entry takes, its mutation left out.
fn entry_bytes(entry: &LogEntry) -> usize {
    let results: usize = entry.results.iter().map(|OpResult { data, .. }| 16 + data.len()).sum();
    let object = &entry.object;
    160 + object.name.len() + object.namespace.len() + object.locator.len() + results
}

/// About how many bytes a mutation takes.
pub(crate) fn mutation_bytes(mutation: &Mutation) -> usize {
    64 + mutation.changes.iter().map(change_bytes).sum::<usize>()
}

fn change_bytes(change: &Change) -> usize {
    16 + match change {
        Change::Write { data, .. } | Change::OmapHeader { data } => data.len(),
        Change::Xattrs { set } | Change::Omap { set } => {
            set.iter().map(|(k, v)| 16 + k.len() + v.as_ref().map_or(0, |v| v.len())).sum()
        }
        Change::OmapRemoveRange { from, to } => from.len() + to.len(),
        Change::Zero { .. }
        | Change::Truncate { .. }
        | Change::OmapClear {}
        | Change::Remove {} => 0,
    }
}

fn open_bytes(entry: &LogEntry) -> usize {
    entry.mutation.as_ref().map_or(0, mutation_bytes)
}

impl Log {
    /// From what a store had, or what a primary sent. `tail` is needed when there are no entries.
    pub(crate) fn new(tail: Version, applied: Vec<LogEntry>, staged: Vec<LogEntry>) -> Log {
        let tail = applied.first().or_else(|| staged.first()).map_or(tail, |first| first.previous);
        let mut log = Log { tail, ..Log::default() };
        let count = applied.len();
        applied.into_iter().for_each(|entry| log.push(LogEntry { mutation: None, ..entry }));
        log.applied = count;
        log.kept_from = count;
        staged.into_iter().for_each(|entry| log.push(entry));
        log
    }

    /// What a part of the group has: all entries, of which only those of its own objects have effect.
    pub(crate) fn part(&self, is_own: impl Fn(&ObjectName) -> bool) -> Log {
        let staged = self.staged_entries().cloned().map(|mut entry| {
            if !is_own(&entry.object) {
                entry.forget_effect();
            }
            entry
        });
        Log::new(self.tail, self.applied_entries().cloned().collect(), staged.collect())
    }

    /// The last entry, or what came before the first.
    pub(crate) fn head(&self) -> Version {
        self.entries.back().map_or(self.tail, |entry| entry.version)
    }

    /// The entry before the first.
    pub(crate) fn tail(&self) -> Version {
        self.tail
    }

    /// The last applied entry, or what came before the first.
    pub(crate) fn applied(&self) -> Version {
        match self.applied.checked_sub(1) {
            Some(last) => self.entries[last].version,
            None => self.tail,
        }
    }

    pub(crate) fn staged_len(&self) -> usize {
        self.entries.len() - self.applied
    }

    pub(crate) fn open_bytes(&self) -> usize {
        self.open_bytes
    }

    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(crate) fn applied_len(&self) -> usize {
        self.applied
    }

    /// Where a version is: `Ok` with the index of the entry, `Err` with where it would be.
    fn find(&self, version: Version) -> Result<usize, usize> {
        self.entries.binary_search_by(|entry| entry.version.cmp(&version))
    }

    pub(crate) fn entry(&self, version: Version) -> Option<&LogEntry> {
        self.find(version).ok().map(|at| &self.entries[at])
    }

    /// Whether the log has this entry or begins right behind it.
    pub(crate) fn reaches(&self, version: Version) -> bool {
        version == self.tail || self.find(version).is_ok()
    }

    /// All entries behind a version.
    pub(crate) fn behind(&self, version: Version) -> impl Iterator<Item = &LogEntry> {
        let from = match self.find(version) {
            Ok(at) => at + 1,
            Err(at) => at,
        };
        self.entries.range(from..)
    }

    pub(crate) fn applied_entries(&self) -> impl Iterator<Item = &LogEntry> {
        self.entries.range(..self.applied)
    }

    pub(crate) fn staged_entries(&self) -> impl Iterator<Item = &LogEntry> {
        self.entries.range(self.applied..)
    }

    pub(crate) fn entries(&self) -> impl Iterator<Item = &LogEntry> {
        self.entries.iter()
    }

    pub(crate) fn request(&self, id: &RequestId) -> Option<Version> {
        self.requests.get(id).copied()
    }

    /// Appends a staged entry.
    pub(crate) fn push(&mut self, entry: LogEntry) {
        assert_eq!(entry.previous, self.head(), "an entry follows the one that it names");
        assert!(entry.version > self.head(), "versions of a log grow");
        if let Some(request) = entry.request {
            self.requests.insert(request, entry.version);
        }
        self.bytes += entry_bytes(&entry);
        self.open_bytes += open_bytes(&entry);
        self.entries.push_back(entry);
    }

    /// All entries up to `to` have taken effect. Mutations stay until `forget_mutations`.
    pub(crate) fn apply(&mut self, to: Version) {
        while let Some(entry) = self.entries.get(self.applied)
            && entry.version <= to
        {
            let bytes = open_bytes(entry);
            self.open_bytes -= bytes;
            self.kept_bytes += bytes;
            self.applied += 1;
        }
    }

    /// Applied entries up to `to` need their mutations no more; nor the oldest of those beyond
    /// `bytes_max`.
    pub(crate) fn forget_mutations(&mut self, to: Version, bytes_max: usize) {
        while self.kept_from < self.applied {
            let entry = &mut self.entries[self.kept_from];
            if entry.version > to && self.kept_bytes <= bytes_max {
                return;
            }
            self.kept_bytes -= open_bytes(entry);
            entry.mutation = None;
            self.kept_from += 1;
        }
    }

    /// The first entry that has kept its mutation, if any has.
    pub(crate) fn first_kept(&self) -> Option<Version> {
        self.entries.get(self.kept_from).map(|entry| entry.version)
    }

    /// Drops the staged entries behind `after`. What is applied cannot be undone.
    pub(crate) fn drop_behind(&mut self, after: Version) {
        assert!(after >= self.applied(), "an entry known to be committed is never undone");
        while let Some(entry) = self.entries.pop_back_if(|entry| entry.version > after) {
            self.bytes -= entry_bytes(&entry);
            self.open_bytes -= open_bytes(&entry);
            self.forget_request(&entry);
        }
    }

    fn forget_request(&mut self, entry: &LogEntry) {
        if let Some(request) = entry.request
            && self.requests.get(&request) == Some(&entry.version)
        {
            self.requests.remove(&request);
        }
    }

    /// Removes the oldest applied entries until at most `keep` entries and `bytes_max` bytes are left; the
    /// last applied one and all behind `floor` stay. Tells `trimmed` of their requests. The last
    /// entry that went, if any.
    pub(crate) fn trim(
        &mut self,
        keep: usize,
        bytes_max: usize,
        floor: Option<Version>,
        trimmed: &mut Trimmed,
    ) -> Option<Version> {
        let before = self.tail;
        while self.applied > 1
            && (self.entries.len() > keep || self.bytes > bytes_max)
            && floor.is_none_or(|floor| self.entries[0].version <= floor)
        {
            let entry = self.entries.pop_front().expect("there are applied entries");
            self.applied -= 1;
            match self.kept_from.checked_sub(1) {
                Some(kept_from) => self.kept_from = kept_from,
                None => self.kept_bytes -= open_bytes(&entry),
            }
            self.bytes -= entry_bytes(&entry);
            self.forget_request(&entry);
            if let Some(request) = entry.request {
                trimmed.add(request);
            }
            self.tail = entry.version;
        }
        (self.tail != before).then_some(self.tail)
    }
}

impl Trimmed {
    /// A request's entry has gone.
    fn add(&mut self, request: RequestId) {
        let highest = self.highest.entry((request.client, request.incarnation)).or_default();
        *highest = (*highest).max(request.tid);
    }

    /// Forgets the oldest clients beyond `max`; whatever of theirs is resent is refused from now on.
    pub(crate) fn bound(&mut self, max: usize) {
        while self.highest.len() > max {
            if let Some(((client, _), _)) = self.highest.pop_first() {
                self.floor = self.floor.max(client);
            }
        }
    }

    /// Whether a resend of this request may have been applied and trimmed.
    pub(crate) fn may_have(&self, request: &RequestId) -> bool {
        match self.highest.get(&(request.client, request.incarnation)) {
            Some(highest) => request.tid <= *highest,
            None => request.client <= self.floor,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use store_base::{ClientId, Interval};

    fn version(counter: u64) -> Version {
        Version { interval: Interval(1), counter }
    }

    fn entry(counter: u64) -> LogEntry {
        LogEntry {
            version: version(counter),
            previous: if counter == 1 { Version::ZERO } else { version(counter - 1) },
            request: Some(RequestId { client: ClientId(7), incarnation: 1, tid: counter }),
            mutation: Some(Mutation::default()),
            ..LogEntry::default()
        }
    }

    #[test]
    fn an_entry_goes_through_its_life() {
        let mut log = Log::new(Version::ZERO, vec![], vec![]);
        (1..=10).for_each(|n| log.push(entry(n)));
        assert_eq!((log.head(), log.applied(), log.staged_len()), (version(10), Version::ZERO, 10));
        log.apply(version(8));
        log.drop_behind(version(9));
        assert_eq!((log.head(), log.applied()), (version(9), version(8)));
        assert_eq!(log.request(&entry(10).request.unwrap()), None);
        log.forget_mutations(version(3), usize::MAX);
        assert!(log.entry(version(3)).unwrap().mutation.is_none());
        assert!(log.entry(version(4)).unwrap().mutation.is_some());
        let mut trimmed = Trimmed::default();
        assert_eq!(log.trim(4, usize::MAX, None, &mut trimmed), Some(version(5)));
        assert!(log.reaches(version(5)) && !log.reaches(version(4)));
        assert!(trimmed.may_have(&entry(5).request.unwrap()));
        assert!(!trimmed.may_have(&entry(6).request.unwrap()));
        log.forget_mutations(version(8), 0);
        assert_eq!(log.kept_bytes, 0);
    }

    #[test]
    #[should_panic(expected = "never undone")]
    fn what_is_applied_stays() {
        let mut log = Log::new(Version::ZERO, vec![], vec![entry(1), entry(2)]);
        log.apply(version(2));
        log.drop_behind(version(1));
    }
}
