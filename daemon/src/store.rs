//! The seam between placement groups and the disk.
//!
//! A [`Store`] keeps, per placement group: objects (bytes, xattrs, omap, [`ObjectInfo`]), a log of
//! entries, and small named values. It is a machine as far as its caller can see: calls return at
//! once, [`Completion`]s come later, in a deterministic order given the medium's answers.
//!
//! # What the log means here
//!
//! An entry is first **staged**: durable with its mutation, but without effect. When the caller knows
//! it to be committed, it is **applied**: its mutation takes effect. What must be undone is therefore
//! only ever dropped from the staged end of the log; objects always show committed state.
//!
//! # Invariants
//!
//! - A batch of [`Write`]s is atomic and durable as a whole when `Stored` with its ticket is polled, and
//!   never in part. Batches become durable in the order of submission.
//! - `Apply` shows in reads as soon as `submit` returned. Its durability may lag: after a crash an entry
//!   may be staged again that had been applied; applying it again gives the same state.
//! - Every byte that `read` answers was checked against its checksum; a mismatch is `Damaged`. It comes from the
//!   medium, never from memory that could hide what the medium has become; only what is still on its way there
//!   is answered from where it is. (Scrub stands on this.)

pub mod admission;
pub mod disk;
pub mod kv;
pub mod log;
pub mod memory;

use bytes::Bytes;
use std::collections::BTreeMap;
use std::ops::DerefMut;
use store_base::object::ObjectInfo;
use store_base::op::OpResult;
use store_base::{ObjectName, PgId, RequestId, Ticket, Timestamp, Version};

/// One deterministic change of an object's content. Applied in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// Writes bytes; grows the object; a gap reads as zero.
    Write {
        /// Where.
        offset: u64,
        /// What.
        data: Bytes,
    },
    /// Makes a range read as zero within the object's size.
    Zero {
        /// Where.
        offset: u64,
        /// How many.
        length: u64,
    },
    /// Cuts or extends.
    Truncate {
        /// The new size.
        size: u64,
    },
    /// Sets (`Some`) or removes (`None`) xattrs.
    Xattrs {
        /// Name → value.
        set: BTreeMap<Bytes, Option<Bytes>>,
    },
    /// Sets (`Some`) or removes (`None`) omap keys.
    Omap {
        /// Key → value.
        set: BTreeMap<Bytes, Option<Bytes>>,
    },
    /// Removes the omap keys of `from` (included) to `to` (excluded).
    OmapRemoveRange {
        /// First key.
        from: Bytes,
        /// First key that stays.
        to: Bytes,
    },
    /// Removes all omap keys and the header.
    OmapClear {},
    /// Sets the omap header.
    OmapHeader {
        /// What.
        data: Bytes,
    },
    /// Removes the object with all it has; changes behind it begin with an empty one.
    Remove {},
}

store_base::codec_enum!(Change {
    1 => Write { offset, data },
    2 => Zero { offset, length },
    3 => Truncate { size },
    4 => Xattrs { set },
    5 => Omap { set },
    6 => OmapRemoveRange { from, to },
    7 => OmapClear {},
    8 => OmapHeader { data },
    9 => Remove {},
});

/// What an entry does to its object: the changes, and the info afterwards (`None`: the object is gone).
/// Entries without effect on content (a failed request that must be remembered, a barrier) have no
/// changes and keep the info.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Mutation {
    /// In order.
    pub changes: Vec<Change>,
    /// Of the object afterwards; its version is the entry's.
    pub info: Option<ObjectInfo>,
}
store_base::codec_versioned!(Mutation, 1, 1 { changes, info });

/// An entry of a placement group's log.
///
/// Versioned form, version 1. `mutation` is `None` once applied: then only its place, object and request
/// are needed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LogEntry {
    /// Its place.
    pub version: Version,
    /// The entry before it; `Version::ZERO` for the first ever.
    pub previous: Version,
    /// What it changes. An entry without an object (a barrier) has the empty name and no changes.
    pub object: ObjectName,
    /// Who asked; `None` for the cluster's own.
    pub request: Option<RequestId>,
    /// What the client was or will be told.
    pub user_version: u64,
    /// What the client was or will be told.
    pub results: Vec<OpResult>,
    /// The primary's wall clock.
    pub time: Timestamp,
    /// Whether the object is gone behind this entry.
    pub removes: bool,
    /// What it does.
    pub mutation: Option<Mutation>,
}

impl Change {
    /// Whether it brings bytes.
    pub fn is_write(&self) -> bool {
        matches!(self, Change::Write { .. })
    }
}

impl LogEntry {
    /// Keeps its place and its request, as a barrier: the object is another placement group's.
    pub fn forget_effect(&mut self) {
        self.object = ObjectName::default();
        self.removes = false;
        self.mutation = Some(Mutation::default());
    }
}

/// Part of a copy of an object that is being brought in from another daemon. A copy is collected beside
/// the object and replaces it as a whole with `Finish`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Install {
    /// Begins anew; drops what an earlier, unfinished copy left.
    Start {},
    /// Bytes.
    Data {
        /// Where.
        offset: u64,
        /// What.
        data: Bytes,
    },
    /// Xattrs.
    Xattrs {
        /// Name → value.
        entries: BTreeMap<Bytes, Bytes>,
    },
    /// Some omap keys.
    Omap {
        /// Key → value.
        entries: BTreeMap<Bytes, Bytes>,
    },
    /// The omap header.
    OmapHeader {
        /// What.
        data: Bytes,
    },
    /// The copy is whole: it becomes the object, with this info.
    Finish {
        /// Of the copy.
        info: ObjectInfo,
    },
    /// The copy is not wanted any more.
    Abort {},
}

impl Install {
    /// Bytes of data, keys and values.
    pub fn bytes(&self) -> u64 {
        let all = |map: &BTreeMap<Bytes, Bytes>| map.iter().map(|(k, v)| k.len() + v.len()).sum();
        let bytes: usize = match self {
            Install::Data { data, .. } | Install::OmapHeader { data } => data.len(),
            Install::Xattrs { entries } | Install::Omap { entries } => all(entries),
            Install::Start {} | Install::Finish { .. } | Install::Abort {} => 0,
        };
        bytes as u64
    }
}

store_base::codec_enum!(Install {
    1 => Start {},
    2 => Data { offset, data },
    3 => Xattrs { entries },
    4 => Omap { entries },
    5 => OmapHeader { data },
    6 => Finish { info },
    7 => Abort {},
});

/// One step of a batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Write {
    /// Makes an empty placement group. No effect if there is one.
    CreatePg {
        /// Which.
        pg: PgId,
    },
    /// Removes a placement group with all it has. The space returns in the background.
    RemovePg {
        /// Which.
        pg: PgId,
    },
    /// Divides a placement group, because the pool's `pg_num` grows from one number to another: each of its
    /// [`children`](PgId::children) gets the objects that are its own by the new number, the log, and the
    /// named values. A staged entry keeps its effect only where its object is now; everywhere else its place
    /// in the log stays, without object and changes. Copies that are being brought in are dropped. The
    /// children must not be there yet.
    SplitPg {
        /// Which.
        pg: PgId,
        /// By this number its objects are here.
        from: u32,
        /// By this number they are divided.
        to: u32,
    },
    /// Sets or removes a small named value of a placement group.
    Meta {
        /// Which.
        pg: PgId,
        /// Name.
        key: Bytes,
        /// `None` removes.
        value: Option<Bytes>,
    },
    /// Sets a small named value of the daemon (incarnation, longest lease, maps seen).
    Super {
        /// Name.
        key: Bytes,
        /// `None` removes.
        value: Option<Bytes>,
    },
    /// Appends entries with their mutations; no effect on objects yet. Their versions grow.
    Stage {
        /// Which.
        pg: PgId,
        /// The entry, with a mutation.
        entry: LogEntry,
    },
    /// The same, of an entry that another daemon has accepted already: it may use room that is kept for deletes,
    /// because its group waits for it.
    Follow {
        /// Which.
        pg: PgId,
        /// The entry, with a mutation.
        entry: LogEntry,
    },
    /// Applies all staged entries up to `to`, but those in `except` go by without effect.
    Apply {
        /// Which.
        pg: PgId,
        /// The last entry to apply.
        to: Version,
        /// Entries of which only the place in the log counts (a learner lacks the object).
        except: Vec<Version>,
    },
    /// Drops all staged entries behind `after`.
    DropStaged {
        /// Which.
        pg: PgId,
        /// The last entry that stays.
        after: Version,
    },
    /// Forgets applied entries up to `to`.
    TrimLog {
        /// Which.
        pg: PgId,
        /// The last entry to forget.
        to: Version,
    },
    /// Replaces the whole log: `applied` without mutations, `staged` with. A learner adopts the
    /// primary's log so.
    ReplaceLog {
        /// Which.
        pg: PgId,
        /// Entries that count as applied.
        applied: Vec<LogEntry>,
        /// Entries behind them.
        staged: Vec<LogEntry>,
    },
    /// A part of a copy of an object.
    Install {
        /// Which.
        pg: PgId,
        /// Whose copy.
        object: ObjectName,
        /// Which part.
        part: Install,
    },
    /// Removes an object, beside the log (a learner has one that the primary does not).
    RemoveObject {
        /// Which.
        pg: PgId,
        /// What.
        object: ObjectName,
    },
}

impl Write {
    /// The placement group that the step is about.
    pub fn pg(&self) -> Option<PgId> {
        match self {
            Write::Super { .. } => None,
            Write::CreatePg { pg }
            | Write::RemovePg { pg }
            | Write::SplitPg { pg, .. }
            | Write::Meta { pg, .. }
            | Write::Stage { pg, .. }
            | Write::Follow { pg, .. }
            | Write::Apply { pg, .. }
            | Write::DropStaged { pg, .. }
            | Write::TrimLog { pg, .. }
            | Write::ReplaceLog { pg, .. }
            | Write::Install { pg, .. }
            | Write::RemoveObject { pg, .. } => Some(*pg),
        }
    }
}

/// All that a placement group keeps besides objects, for the start of a daemon.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PgState {
    /// Named values.
    pub meta: BTreeMap<Bytes, Bytes>,
    /// Applied entries, ascending, without mutations.
    pub applied: Vec<LogEntry>,
    /// Staged entries, ascending, with mutations.
    pub staged: Vec<LogEntry>,
}

/// What a medium has room for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Bytes that may ever be used.
    pub capacity_bytes: u64,
    /// Bytes in use, the store's own included.
    pub used_bytes: u64,
    /// Bytes of `used_bytes` that clients stored here.
    pub stored_bytes: u64,
    /// Bytes of `used_bytes` that are given back in the background: what was freed and waits for a batch, a
    /// reader or a checkpoint, and garbage of the index. What else is used is the store's own.
    pub reclaimable_bytes: u64,
    /// Objects.
    pub objects: u64,
}

/// Counts of one placement group.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PgUsage {
    /// Objects.
    pub objects: u64,
    /// Bytes of the byte parts.
    pub bytes: u64,
    /// Keys and values of omaps, about.
    pub omap_bytes: u64,
}

/// Errors of a store.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// The bytes on the medium are not those that were written. Serve the object from another replica
    /// and report it.
    #[error("damaged: {0}")]
    Damaged(String),
    /// No room for this batch; nothing of it was done. Deletes still go through.
    #[error("full: {0}")]
    Full(String),
    /// The medium failed. The store accepts nothing more; the daemon ends.
    #[error("medium failed: {0}")]
    Failed(String),
    /// No such placement group. A fault of the caller.
    #[error("no placement group {0}")]
    NoPg(PgId),
}

/// What became of a ticket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Completion {
    /// The batch is durable.
    Stored {
        /// Of `submit`.
        ticket: Ticket,
    },
    /// Bytes were read and verified; fewer than asked at the end of the object.
    Read {
        /// Of `read`.
        ticket: Ticket,
        /// The bytes.
        result: Result<Bytes, StoreError>,
    },
    /// The medium failed for good; what was not `Stored` may or may not be durable.
    Failed {
        /// Why.
        error: StoreError,
    },
}

/// A page of an omap, in order of key: entries, and whether more follow.
pub type OmapEntries = (Vec<(Bytes, Bytes)>, bool);

/// Keeps objects and logs. Reads show applied entries only.
pub trait Store {
    /// Placement groups that are here.
    fn pgs(&self) -> Vec<PgId>;

    /// All that one keeps besides objects.
    fn load(&self, pg: PgId) -> Result<PgState, StoreError>;

    /// A named value of the daemon.
    fn superblock(&self, key: &[u8]) -> Result<Option<Bytes>, StoreError>;

    /// Takes a batch. On `Err` nothing of it was taken. A batch that must be waited for has a ticket;
    /// one without (an `Apply`, a trim) becomes durable with a later batch or by itself soon.
    fn submit(&mut self, ticket: Option<Ticket>, batch: Vec<Write>) -> Result<(), StoreError>;

    /// Asks for bytes of an object as it is now; length 0 means to the end. Later writes do not change
    /// what is answered. An object that is not there reads as empty.
    fn read(&mut self, ticket: Ticket, pg: PgId, object: &ObjectName, offset: u64, length: u64);

    /// Moves completions onto `done`.
    fn poll(&mut self, done: &mut Vec<Completion>);

    /// What is known of an object; `None` if it is not there.
    fn info(&self, pg: PgId, object: &ObjectName) -> Result<Option<ObjectInfo>, StoreError>;

    /// All xattrs of an object.
    fn xattrs(&self, pg: PgId, object: &ObjectName) -> Result<BTreeMap<Bytes, Bytes>, StoreError>;

    /// One xattr.
    fn xattr(
        &self,
        pg: PgId,
        object: &ObjectName,
        name: &[u8],
    ) -> Result<Option<Bytes>, StoreError>;

    /// The omap header; empty if never set.
    fn omap_header(&self, pg: PgId, object: &ObjectName) -> Result<Bytes, StoreError>;

    /// One omap value.
    fn omap(&self, pg: PgId, object: &ObjectName, key: &[u8]) -> Result<Option<Bytes>, StoreError>;

    /// Omap entries with keys greater than `after` (or from the first, if `None`) that begin with
    /// `prefix`, at most `max`.
    fn omap_list(
        &self,
        pg: PgId,
        object: &ObjectName,
        after: Option<&[u8]>,
        prefix: &[u8],
        max: usize,
    ) -> Result<OmapEntries, StoreError>;

    /// Objects behind `after` in the order of `ObjectName`, at most `max`.
    fn list(
        &self,
        pg: PgId,
        after: Option<&ObjectName>,
        max: usize,
    ) -> Result<Vec<(ObjectName, ObjectInfo)>, StoreError>;

    /// The ranges of an object that hold data within a range, ascending: offset, length.
    fn extents(
        &self,
        pg: PgId,
        object: &ObjectName,
        offset: u64,
        length: u64,
    ) -> Result<Vec<(u64, u64)>, StoreError>;

    /// Counts of one placement group.
    fn pg_usage(&self, pg: PgId) -> PgUsage;

    /// Bytes that batches which add content may still add before they are refused, about; `u64::MAX` without an end.
    fn room(&self) -> u64;

    /// Room on the medium.
    fn usage(&self) -> Usage;
}

/// What leads to a store is one: a box, or an engine with something around it.
impl<T> Store for T
where
    T: DerefMut,
    T::Target: Store,
{
    fn pgs(&self) -> Vec<PgId> {
        (**self).pgs()
    }

    fn load(&self, pg: PgId) -> Result<PgState, StoreError> {
        (**self).load(pg)
    }

    fn superblock(&self, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        (**self).superblock(key)
    }

    fn submit(&mut self, ticket: Option<Ticket>, batch: Vec<Write>) -> Result<(), StoreError> {
        (**self).submit(ticket, batch)
    }

    fn read(&mut self, ticket: Ticket, pg: PgId, object: &ObjectName, offset: u64, length: u64) {
        (**self).read(ticket, pg, object, offset, length);
    }

    fn poll(&mut self, done: &mut Vec<Completion>) {
        (**self).poll(done);
    }

    fn info(&self, pg: PgId, object: &ObjectName) -> Result<Option<ObjectInfo>, StoreError> {
        (**self).info(pg, object)
    }

    fn xattrs(&self, pg: PgId, object: &ObjectName) -> Result<BTreeMap<Bytes, Bytes>, StoreError> {
        (**self).xattrs(pg, object)
    }

    fn xattr(
        &self,
        pg: PgId,
        object: &ObjectName,
        name: &[u8],
    ) -> Result<Option<Bytes>, StoreError> {
        (**self).xattr(pg, object, name)
    }

    fn omap_header(&self, pg: PgId, object: &ObjectName) -> Result<Bytes, StoreError> {
        (**self).omap_header(pg, object)
    }

    fn omap(&self, pg: PgId, object: &ObjectName, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        (**self).omap(pg, object, key)
    }

    fn omap_list(
        &self,
        pg: PgId,
        object: &ObjectName,
        after: Option<&[u8]>,
        prefix: &[u8],
        max: usize,
    ) -> Result<OmapEntries, StoreError> {
        (**self).omap_list(pg, object, after, prefix, max)
    }

    fn list(
        &self,
        pg: PgId,
        after: Option<&ObjectName>,
        max: usize,
    ) -> Result<Vec<(ObjectName, ObjectInfo)>, StoreError> {
        (**self).list(pg, after, max)
    }

    fn extents(
        &self,
        pg: PgId,
        object: &ObjectName,
        offset: u64,
        length: u64,
    ) -> Result<Vec<(u64, u64)>, StoreError> {
        (**self).extents(pg, object, offset, length)
    }

    fn pg_usage(&self, pg: PgId) -> PgUsage {
        (**self).pg_usage(pg)
    }

    fn room(&self) -> u64 {
        (**self).room()
    }

    fn usage(&self) -> Usage {
        (**self).usage()
    }
}

store_base::codec_versioned!(LogEntry, 1, 1 {
    version, previous, object, request, user_version, results, time, removes, mutation,
});
