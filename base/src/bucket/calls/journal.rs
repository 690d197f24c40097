//! Journals: records of changes of other buckets that wait in the bucket that takes their log.

use bytes::Bytes;

/// Most records that wait in one journal. A change that would add one more is refused.
pub const JOURNAL_RECORDS_MAX: u64 = 100_000;

/// Most bytes of the records that wait in one journal.
pub const JOURNAL_BYTES_MAX: u64 = 64 << 20;

/// Most bytes of one record.
pub const JOURNAL_RECORD_BYTES_MAX: usize = 16 << 10;

/// Longest name of a journal, in bytes.
pub const JOURNAL_NAME_BYTES_MAX: usize = 1200;

/// Most bytes of what is noted about a journal.
pub const JOURNAL_ABOUT_BYTES_MAX: usize = 32 << 10;

/// Most records of one log, and most of their bytes.
pub const JOURNAL_LOG_RECORDS_MAX: u64 = 10_000;
/// See [`JOURNAL_LOG_RECORDS_MAX`].
pub const JOURNAL_LOG_BYTES_MAX: u64 = 8 << 20;

/// After so long, in ms, nobody will say any more what became of a change: its record is delivered as it is.
pub const JOURNAL_OPEN_MS_MAX: u64 = 120_000;

/// A journal, as it is stored.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Journal {
    /// What whoever delivers must know; of the last record that came.
    pub about: Bytes,
    /// The number of the record that comes next.
    pub next: u64,
    /// Records that wait, and their bytes.
    pub records: u64,
    /// See `records`.
    pub bytes: u64,
    /// When the oldest of them came, in ms since 1970 by the daemon's clock.
    pub since_ms: u64,
    /// The log that is being made of the oldest records.
    pub cut: Option<Cut>,
}
crate::codec_versioned!(Journal, 1, 1 { about, next, records, bytes, since_ms, cut });

/// A log that is being made: which records it has is settled before it is written, so whoever goes on with it writes
/// the same bytes under the same key.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cut {
    /// The key that it gets.
    pub key: String,
    /// The number behind its last record.
    pub until: u64,
    /// Its records, and their bytes.
    pub records: u64,
    /// See `records`.
    pub bytes: u64,
    /// When its first record came, in ms since 1970.
    pub first_ms: u64,
    /// Whether it is written: what is left is to take its records away.
    pub stored: bool,
    /// Who makes it.
    pub holder: u64,
    /// Until when it is his, in ms since 1970.
    pub until_ms: u64,
}
crate::codec_versioned!(Cut, 1, 1 { key, until, records, bytes, first_ms, stored, holder, until_ms });

/// A record of a journal, as it is stored.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct JournalRecord {
    /// The line, with its end.
    pub line: Bytes,
    /// Who wrote it: he alone may say what became of the change.
    pub token: u64,
    /// Whether he has said it.
    pub settled: bool,
    /// When it came, in ms since 1970.
    pub at_ms: u64,
}
crate::codec_versioned!(JournalRecord, 1, 1 { line, token, settled, at_ms });

/// `journal_add`: records of changes that are about to be made. Output: `Answer<JournalAdded>`; `NoBucket`, `QueueFull`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct JournalAdd {
    /// The journal.
    pub name: Bytes,
    /// See [`Journal`].
    pub about: Bytes,
    /// Tells this writer from others.
    pub token: u64,
    /// One for each change.
    pub lines: Vec<Bytes>,
}
crate::codec_struct!(JournalAdd { name, about, token, lines });

/// Output of `journal_add`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct JournalAdded {
    /// The number of the first record; the others follow.
    pub first: u64,
    /// Bytes of all records that wait now.
    pub bytes: u64,
}
crate::codec_struct!(JournalAdded { first, bytes });

/// `journal_settle`: says what became of changes. Records that are delivered already stay as they are. Output:
/// `Answer<Nothing>`; `NoBucket`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct JournalSettle {
    /// The journal.
    pub name: Bytes,
    /// As in [`JournalAdd`].
    pub token: u64,
    /// By number: the line as it is now, or nothing if the change was not made.
    pub records: Vec<(u64, Option<Bytes>)>,
}
crate::codec_struct!(JournalSettle { name, token, records });

/// `journal_cut`: settles which records the next log has: the oldest, up to the first whose change is still being made.
/// Where a log is being made already, that one; it is the caller's if its maker gave no sign of life for a lease.
/// Output: `Answer<JournalCut>`; `NoBucket`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct JournalCutAsk {
    /// The journal.
    pub name: Bytes,
    /// The key that the log gets, if this makes one.
    pub key: String,
    /// Only records below this number.
    pub below: u64,
    /// Who asks.
    pub holder: u64,
    /// How long it is his, in ms.
    pub lease_ms: u64,
}
crate::codec_struct!(JournalCutAsk { name, key, below, holder, lease_ms });

/// Output of `journal_cut`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct JournalCut {
    /// What is to be made, or is being made.
    pub cut: Option<Cut>,
    /// See [`Journal`].
    pub about: Bytes,
    /// Whether there are records below `below` that could not be taken: their changes are still being made.
    pub open: bool,
}
crate::codec_struct!(JournalCut { cut, about, open });

/// `journal_read`: records by number. Output: `Answer<Vec<(u64, Bytes)>>`; `NoBucket`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct JournalRead {
    /// The journal.
    pub name: Bytes,
    /// Only those with this number or a greater one.
    pub from: u64,
    /// Only those with a lesser one.
    pub until: u64,
}
crate::codec_struct!(JournalRead { name, from, until });

/// `journal_clear`: the log is written; takes its records away, some at a time. Output: `Answer<bool>`, whether there are
/// more; `NoBucket`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct JournalClear {
    /// The journal.
    pub name: Bytes,
    /// The log's key.
    pub key: String,
}
crate::codec_struct!(JournalClear { name, key });

/// `journals`: the journals of a shard by name. Output: `Answer<Vec<(Bytes, Journal)>>`; `NoBucket`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Journals {
    /// Only names from this one on; empty for all.
    pub from: Bytes,
    /// At most so many.
    pub max: u32,
}
crate::codec_struct!(Journals { from, max });
