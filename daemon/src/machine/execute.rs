//! Runs an op vector against an object: what is answered, and what changes.
//!
//! Pure: [`execute`] reads the object through a [`View`] and hands back an [`Execution`]; nothing happens
//! until the placement group logs and applies the [`Mutation`] in it.
//!
//! # How the placement group uses it
//!
//! 1. [`check`] the request; `Err` is the `Refused` outcome.
//! 2. A request that is [`Request::is_mutation`] runs against `View::newest` (the store and the
//!    [`Overlay`] of open entries). Others run against `View::applied`: that is committed state. To show a
//!    client its own pipelined writes, let such a read wait until what was open for the object at its
//!    arrival (`overlay.newest`) is applied.
//! 3. [`execute`] answers with
//!    - `Done`: if there is a mutation, give the entry its version, `stamp` it, stage it, `overlay.push`
//!      it, answer when it is committed. Without a mutation nothing needs the log. Either way an answer that
//!      was computed over open entries (`overlay.newest(object)` is some) may be given only when these are
//!      committed: it tells of them. If they are dropped, execute again.
//!    - `Failed`: nothing changes; the same rule for the answer.
//!    - `NeedData`: give `pending.reads()` to `Store::read` **in this step**, then `pending.finish(…)` with
//!      what was read. Until then execute no other mutation of this object if `pending.mutates()`.
//!    - `Busy`: bytes are needed that open entries change. Execute again when `overlay.newest(object)`
//!      as of now is applied.
//!    - `Unreadable`: the store could not read. Serve from another replica, repair.
//! 4. [`Effect`]s go to [`Watches`](super::watch::Watches): when the entry is committed, or with the answer
//!    if there is no mutation.
//!
//! # Semantics
//!
//! - Ops run in order; each sees what the earlier ones did. The first that fails ends the vector with its
//!   negative errno as the last result, and nothing of the vector happens.
//! - `WriteFull`, `Write`, `Append`, `SetXattr`, `OmapSet`, `OmapSetHeader` and `Create` make the object;
//!   `Truncate` and `Zero` of an object that is not there do nothing (as in RADOS); other mutations and all
//!   reads are `ENOENT` then. Guards compare with the empty object.
//! - `mtime` and user version change with every mutation except `Watch`, `Unwatch` and an `Exec` that
//!   wrote nothing. Within the vector the user version is still the old one.
//! - What a class keeps (`ObjectInfo::keeper`) only its own methods change or remove: `EPERM` for anything else.
//! - Results of one vector together stay below `PAYLOAD_BYTES_MAX`: `OmapList` pages are cut (`more` is set),
//!   everything else is refused with `E2BIG`.

mod class;
mod data;
mod overlay;
mod transaction;
mod watchers;

#[cfg(test)]
mod tests;

pub use data::Pending;
pub(crate) use data::lay;
pub use overlay::Overlay;
pub use transaction::{KEY_BYTES_MAX, MUTATION_BYTES_MAX, View};
pub use watchers::WATCHERS_MAX;

use crate::store::{Mutation, Store, StoreError};
use bytes::Bytes;
use data::{Part, Use};
use std::collections::BTreeMap;
use std::ops::Bound;
use store_base::class::{MethodKind, ends_a_move, keeper_name, keeper_number};
use store_base::codec::{Decode, Encode};
use store_base::op::{
    OPS_MAX, ObjectPage, OmapPage, Op, OpResult, PAYLOAD_BYTES_MAX, Request, Stat, Watcher, errno,
};
use store_base::{ObjectName, PgId, SnapId, Timestamp, Version};
use transaction::Transaction;

/// Most objects in one page of [`Op::List`].
pub const LIST_MAX: u32 = 10_000;

/// Longest time-out of a watch or notification, in seconds.
pub const WATCH_SECS_MAX: u32 = 600;

/// What became of running a vector.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Execution {
    /// All ops succeeded.
    Done(Done),
    /// An op failed, the last of `results`; nothing changes.
    Failed {
        /// Up to the op that failed.
        results: Vec<OpResult>,
        /// Of the object as it stays.
        user_version: u64,
    },
    /// Bytes must be read first.
    NeedData(Pending),
    /// Bytes are needed that open entries change.
    Busy,
    /// The store could not read.
    Unreadable(StoreError),
}

/// A vector that succeeded.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Done {
    /// One for each op.
    pub results: Vec<OpResult>,
    /// What changes, if anything; to be stamped.
    pub mutation: Option<Mutation>,
    /// The object's user version: as it was, or as stamped.
    pub user_version: u64,
    /// Whether this counts as a change that clients see (raises the user version).
    pub bumps: bool,
    /// Whether the object is gone afterwards.
    pub removes: bool,
    /// Whether it ends a move ([`ends_a_move`]): it passes a full cluster.
    pub ends_a_move: bool,
    /// What else must happen, once committed.
    pub effects: Vec<Effect>,
}

impl Done {
    /// Gives the mutation its place in the log and, if it is a change that clients see, its user version.
    pub fn stamp(&mut self, version: Version, user_version: u64) {
        if self.bumps {
            self.user_version = user_version;
        }
        if let Some(info) = self.mutation.as_mut().and_then(|mutation| mutation.info.as_mut()) {
            info.version = version;
            info.user_version = self.user_version;
        }
    }
}

/// What a vector does besides changing its object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// The sender watches from now on, or again.
    Watched {
        /// The watch.
        watcher: Watcher,
    },
    /// A watch gave a sign of life.
    Pinged {
        /// The watch.
        watcher: Watcher,
    },
    /// A watch ended.
    Unwatched {
        /// Whose.
        client: u64,
        /// Its number.
        cookie: u64,
    },
    /// Watchers must be told; the result of the op is theirs to give, so the answer waits for it.
    Notify {
        /// Which op of the vector.
        op: usize,
        /// Whom.
        watchers: Vec<Watcher>,
        /// What.
        payload: Bytes,
        /// How long to wait.
        timeout_secs: u32,
    },
    /// A watcher's answer.
    Acked {
        /// To which notification.
        notify: u64,
        /// By which watch of the sender.
        cookie: u64,
        /// What.
        payload: Bytes,
    },
}

/// Why a vector ended early.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Abort {
    /// The op failed: an errno, positive.
    Code(i32),
    /// The op failed: an errno, positive, with something to tell.
    Refused(i32, Bytes),
    /// See [`Execution::Busy`].
    Busy,
    /// See [`Execution::Unreadable`].
    Unreadable(StoreError),
}

impl From<StoreError> for Abort {
    fn from(error: StoreError) -> Self {
        Abort::Unreadable(error)
    }
}

/// Whether a request can be run at all: negative errno and a sentence if not.
pub fn check(request: &Request) -> Result<(), (i32, String)> {
    let invalid = |why: &str| Err((-errno::EINVAL, why.to_string()));
    let ops = &request.ops;
    if ops.is_empty() || ops.len() > OPS_MAX {
        return Err((-errno::EINVAL, format!("{} ops; 1 to {OPS_MAX} are allowed", ops.len())));
    }
    let lists = ops.iter().filter(|op| matches!(op, Op::List { .. })).count();
    if lists > 0 {
        return if ops.len() > 1 { invalid("List must be the only op") } else { Ok(()) };
    }
    if let Err(why) = request.object.check() {
        let long = request.object.name.len() > store_base::object::NAME_BYTES_MAX;
        return Err((if long { -errno::ENAMETOOLONG } else { -errno::EINVAL }, why));
    }
    let notifies = ops.iter().filter(|op| matches!(op, Op::Notify { .. })).count();
    if notifies > 1 || (notifies == 1 && request.is_mutation()) {
        return invalid("Notify must be the only one, and without mutations beside it");
    }
    let bytes: usize = ops.iter().map(payload_bytes).sum();
    if bytes > PAYLOAD_BYTES_MAX {
        return Err((
            -errno::E2BIG,
            format!("the ops carry {bytes} bytes; {PAYLOAD_BYTES_MAX} are allowed"),
        ));
    }
    Ok(())
}

/// Bytes that an op carries.
fn payload_bytes(op: &Op) -> usize {
    let keys = |keys: &[Bytes]| keys.iter().map(Bytes::len).sum();
    match op {
        Op::CompareXattr { name: key, value, .. }
        | Op::CompareOmap { key, value, .. }
        | Op::SetXattr { name: key, value } => key.len() + value.len(),
        Op::CompareData { data, .. }
        | Op::Write { data, .. }
        | Op::WriteFull { data }
        | Op::Append { data }
        | Op::OmapSetHeader { data } => data.len(),
        Op::Xattr { name } | Op::RemoveXattr { name } => name.len(),
        Op::OmapList { after, prefix, .. } => after.len() + prefix.len(),
        Op::OmapByKeys { keys: all } | Op::OmapRemove { keys: all } => keys(all),
        Op::OmapSet { entries } => entries.iter().map(|(key, value)| key.len() + value.len()).sum(),
        Op::OmapRemoveRange { from, to } => from.len() + to.len(),
        Op::Exec { input, .. } => input.len(),
        Op::Notify { payload, .. } | Op::NotifyAck { payload, .. } => payload.len(),
        _ => 0,
    }
}

/// Runs a checked request. `wall` is the primary's wall clock.
pub fn execute(view: &View<'_>, request: &Request, wall: Timestamp) -> Execution {
    let transaction = match Transaction::new(*view) {
        Ok(transaction) => transaction,
        Err(Abort::Unreadable(error)) => return Execution::Unreadable(error),
        Err(other) => unreachable!("the start of a vector only reads: {other:?}"),
    };
    let user_version = transaction.info.as_ref().map_or(0, |info| info.user_version);
    let mut run = Run {
        transaction,
        request,
        wall,
        user_version,
        results: Vec::with_capacity(request.ops.len()),
        parts: Vec::new(),
        effects: Vec::new(),
        answer_bytes: 0,
        bumps: false,
        changes: false,
        ends_a_move: matches!(&request.ops[..], [Op::Exec { class, method, .. }] if ends_a_move(class, method)),
    };
    for op in &request.ops {
        let data = match run.op(op) {
            Ok(data) => data,
            Err(Abort::Busy) => return Execution::Busy,
            Err(Abort::Unreadable(error)) => return Execution::Unreadable(error),
            Err(Abort::Code(code)) => return run.fail(code, Bytes::new()),
            Err(Abort::Refused(code, why)) => return run.fail(code, why),
        };
        run.results.push(OpResult { code: 0, data });
    }
    run.finish()
}

/// One page of the objects of a placement group ([`Op::List`]): the result's data, or an errno.
pub fn list(store: &dyn Store, pg: PgId, after: &Bytes, max: u32) -> Result<OpResult, StoreError> {
    let after = match after.is_empty() {
        true => None,
        false => match ObjectName::from_bytes(after.clone()) {
            Ok(name) => Some(name),
            Err(_) => return Ok(OpResult { code: -errno::EINVAL, data: Bytes::new() }),
        },
    };
    let max = max.clamp(1, LIST_MAX) as usize;
    let mut listed = store.list(pg, after.as_ref(), max)?;
    let mut more = listed.len() == max;
    let mut bytes = 0;
    let fits = listed.iter().take_while(|(name, _)| {
        bytes += 24 + name.namespace.len() + name.locator.len() + name.name.len();
        bytes <= PAYLOAD_BYTES_MAX / 2
    });
    let fits = fits.count().max(1);
    more |= fits < listed.len();
    listed.truncate(fits);
    let objects: Vec<_> = listed.into_iter().map(|(name, _)| name).collect();
    let next = objects.last().filter(|_| more).map(Encode::to_bytes).unwrap_or_default();
    Ok(OpResult { code: 0, data: ObjectPage { objects, next }.to_bytes() })
}

/// The mutation that ends a watch whose time is over, for an entry of the cluster's own. `None` if the
/// watch is not registered any more.
pub fn end_watch(view: &View<'_>, client: u64, cookie: u64) -> Result<Option<Done>, Abort> {
    let mut transaction = Transaction::new(*view)?;
    if transaction.info.is_none() || !watchers::remove(&mut transaction, client, cookie)? {
        return Ok(None);
    }
    let info = transaction.info.clone();
    Ok(Some(Done {
        user_version: info.as_ref().map_or(0, |info| info.user_version),
        mutation: Some(Mutation { info, changes: transaction.into_changes() }),
        effects: vec![Effect::Unwatched { client, cookie }],
        ..Done::default()
    }))
}

struct Run<'a> {
    transaction: Transaction<'a>,
    request: &'a Request,
    wall: Timestamp,
    /// As it was.
    user_version: u64,
    results: Vec<OpResult>,
    parts: Vec<Part>,
    effects: Vec<Effect>,
    answer_bytes: usize,
    /// Clients see a change.
    bumps: bool,
    /// Something changed, even if only a watch.
    changes: bool,
    /// All that it does is one method that ends a move.
    ends_a_move: bool,
}

impl<'a> Run<'a> {
    fn op(&mut self, op: &'a Op) -> Result<Bytes, Abort> {
        if op.mutates() && !matches!(op, Op::Exec { .. }) {
            // To watch an object is no change of it.
            let is_watch = matches!(op, Op::Watch { .. } | Op::Unwatch { .. });
            self.may_write(if is_watch { self.keeper() } else { 0 })?;
            self.mutation(op)
        } else {
            match op {
                Op::Exec { class, method, input } => self.exec(class, method, input),
                _ => self.read(op),
            }
        }
    }

    /// The class that keeps the object, 0 for none.
    fn keeper(&self) -> u8 {
        self.transaction.info.as_ref().map_or(0, |info| info.keeper)
    }

    /// `by`: the class that asks, 0 for an op.
    fn may_write(&self, by: u8) -> Result<(), Abort> {
        let is_snap = self.request.object.snap != SnapId::HEAD;
        if self.request.read_only || is_snap {
            return Err(Abort::Code(errno::EROFS));
        }
        match self.keeper() {
            0 => Ok(()),
            keeper if keeper == by => Ok(()),
            keeper => Err(Abort::Refused(
                errno::EPERM,
                format!(
                    "it is kept by the class {}: only its methods change it",
                    keeper_name(keeper)
                )
                .into(),
            )),
        }
    }

    /// Guards and reads.
    fn read(&mut self, op: &'a Op) -> Result<Bytes, Abort> {
        let answer = match op {
            Op::AssertExists {} => {
                self.transaction.present()?;
                Bytes::new()
            }
            Op::AssertVersion { version } => match self.user_version.cmp(version) {
                std::cmp::Ordering::Equal => Bytes::new(),
                std::cmp::Ordering::Greater => return Err(Abort::Code(errno::ERANGE)),
                std::cmp::Ordering::Less => return Err(Abort::Code(errno::EOVERFLOW)),
            },
            Op::CompareXattr { name, compare, value } => {
                let stored = self.client_xattr(name)?.unwrap_or_default();
                return holds(compare.holds(&stored, value));
            }
            Op::CompareOmap { key, compare, value } => {
                let stored = self.transaction.omap(key)?.unwrap_or_default();
                return holds(compare.holds(&stored, value));
            }
            Op::CompareData { offset, data } => {
                let length = data.len() as u64;
                offset.checked_add(length).ok_or(Abort::Code(errno::EINVAL))?;
                return self.hole(*offset, length, Use::Compare(data.clone()));
            }
            Op::Read { offset, length } => {
                let length = self.clipped(*offset, *length)?;
                self.fit(length as usize)?;
                return self.hole(*offset, length, Use::Answer);
            }
            Op::SparseRead { offset, length } => return self.sparse_read(*offset, *length),
            Op::Stat {} => {
                let info = self.transaction.present()?;
                Stat { size: info.size, mtime: info.mtime, version: info.user_version }.to_bytes()
            }
            Op::Xattr { name } => {
                self.transaction.present()?;
                self.client_xattr(name)?.ok_or(Abort::Code(errno::ENODATA))?
            }
            Op::Xattrs {} => {
                self.transaction.present()?;
                let mut all = self.transaction.xattrs()?;
                all.retain(|name, _| !watchers::is_hidden(name));
                all.to_bytes()
            }
            Op::OmapList { after, prefix, max, values } => {
                self.omap_list(after, prefix, *max, *values)?
            }
            Op::OmapByKeys { keys } => self.omap_by_keys(keys)?,
            Op::OmapHeader {} => {
                self.transaction.present()?;
                self.transaction.header()?
            }
            Op::Watchers {} => {
                self.transaction.present()?;
                watchers::list(&self.transaction)?.to_bytes()
            }
            Op::WatchPing { cookie } => self.ping(*cookie)?,
            Op::Notify { payload, timeout_secs } => self.notify(payload, *timeout_secs)?,
            Op::NotifyAck { notify, cookie, payload } => {
                let (notify, cookie, payload) = (*notify, *cookie, payload.clone());
                self.effects.push(Effect::Acked { notify, cookie, payload });
                Bytes::new()
            }
            _ => return Err(Abort::Code(errno::EINVAL)),
        };
        self.fit(answer.len())?;
        Ok(answer)
    }

    fn client_xattr(&self, name: &Bytes) -> Result<Option<Bytes>, Abort> {
        match watchers::is_hidden(name) {
            true => Err(Abort::Code(errno::EINVAL)),
            false => self.transaction.xattr(name),
        }
    }

    /// Makes room in the answer.
    fn fit(&mut self, bytes: usize) -> Result<(), Abort> {
        self.answer_bytes += bytes;
        match self.answer_bytes > PAYLOAD_BYTES_MAX {
            true => Err(Abort::Code(errno::E2BIG)),
            false => Ok(()),
        }
    }

    /// How much of a range is within the object; length 0 means to the end.
    fn clipped(&self, offset: u64, length: u64) -> Result<u64, Abort> {
        let left = self.transaction.present()?.size.saturating_sub(offset);
        Ok(if length == 0 { left } else { left.min(length) })
    }

    /// Leaves bytes to be filled in.
    fn hole(&mut self, offset: u64, length: u64, what: Use) -> Result<Bytes, Abort> {
        let stored = self.transaction.base_len.saturating_sub(offset).min(length);
        if stored > 0 && self.transaction.must_wait_for_data(offset) {
            return Err(Abort::Busy);
        }
        let (op, patches) = (self.results.len(), self.transaction.patches.len());
        self.parts.push(Part { op, offset, length, stored, patches, what });
        Ok(Bytes::new())
    }

    fn sparse_read(&mut self, offset: u64, length: u64) -> Result<Bytes, Abort> {
        let length = self.clipped(offset, length)?;
        let whole = |length| if length > 0 { vec![(offset, length)] } else { Vec::new() };
        let view = &self.transaction.view;
        // With changes of its own the vector does not know the extents; one that covers all is true too.
        // Nor does it with slots: the extents here are those of a shard.
        let knows = self.transaction.patches.is_empty() && view.open.is_none() && !view.slots;
        let extents = match knows && length > 0 {
            false => whole(length),
            true => clip_extents(
                view.store.extents(view.pg, view.object, offset, length)?,
                offset,
                length,
            ),
        };
        let bytes: u64 = extents.iter().map(|(_, length)| length).sum();
        self.fit(bytes as usize + 16 * extents.len() + 8)?;
        let covered = extents.last().map_or(0, |(at, length)| at + length - offset);
        // What is read for it is bounded too, though holes may make it more than what is answered.
        if covered > 4 * PAYLOAD_BYTES_MAX as u64 {
            return Err(Abort::Code(errno::E2BIG));
        }
        self.hole(offset, covered, Use::Sparse(extents))
    }

    fn omap_list(
        &mut self,
        after: &Bytes,
        prefix: &Bytes,
        max: u32,
        values: bool,
    ) -> Result<Bytes, Abort> {
        self.transaction.present()?;
        let room = PAYLOAD_BYTES_MAX.saturating_sub(self.answer_bytes + 16);
        let mut page = OmapPage::default();
        let mut bytes = 0;
        let from = if after.is_empty() { Bound::Unbounded } else { Bound::Excluded(&after[..]) };
        self.transaction.walk_omap(from, prefix, |key, value| {
            let value = if values { value } else { Bytes::new() };
            bytes += 8 + key.len() + value.len();
            page.more = page.entries.len() >= max as usize || bytes > room;
            if !page.more {
                page.entries.push((key, value));
            }
            !page.more
        })?;
        // A page that says "more" but brings nothing would be asked for for ever.
        if page.more && page.entries.is_empty() && max > 0 {
            return Err(Abort::Code(errno::E2BIG));
        }
        Ok(page.to_bytes())
    }

    fn omap_by_keys(&mut self, keys: &[Bytes]) -> Result<Bytes, Abort> {
        self.transaction.present()?;
        let mut found = BTreeMap::new();
        let mut bytes = 0;
        for key in keys {
            if let Some(value) = self.transaction.omap(key)? {
                bytes += 8 + key.len() + value.len();
                if self.answer_bytes + bytes > PAYLOAD_BYTES_MAX {
                    return Err(Abort::Code(errno::E2BIG));
                }
                found.insert(key.clone(), value);
            }
        }
        Ok(found.to_bytes())
    }

    /// Mutations but `Exec`.
    fn mutation(&mut self, op: &'a Op) -> Result<Bytes, Abort> {
        let transaction = &mut self.transaction;
        match op {
            Op::Watch { cookie, timeout_secs } => return self.watch(*cookie, *timeout_secs),
            Op::Unwatch { cookie } => return self.unwatch(*cookie),
            Op::Create { exclusive } => {
                if *exclusive && transaction.info.is_some() {
                    return Err(Abort::Code(errno::EEXIST));
                }
                transaction.create();
            }
            Op::Write { offset, data } => transaction.write(*offset, data.clone())?,
            Op::WriteFull { data } => transaction.write_full(data.clone())?,
            Op::Append { data } => transaction.write(transaction.size(), data.clone())?,
            // No-ops of RADOS when there is no object.
            Op::Zero { .. } | Op::Truncate { .. } if transaction.info.is_none() => {
                return Ok(Bytes::new());
            }
            Op::Zero { offset, length } => transaction.zero(*offset, *length)?,
            Op::Truncate { size } => transaction.truncate(*size)?,
            Op::SetXattr { name, .. } | Op::RemoveXattr { name } if watchers::is_hidden(name) => {
                return Err(Abort::Code(errno::EINVAL));
            }
            Op::SetXattr { name, value } => {
                transaction.set_xattr(name.clone(), Some(value.clone()))?;
            }
            Op::OmapSet { entries } => {
                transaction.create();
                for (key, value) in entries {
                    transaction.set_omap(key.clone(), Some(value.clone()))?;
                }
            }
            Op::OmapSetHeader { data } => transaction.set_header(data.clone())?,
            _ => {
                transaction.present()?;
                self.mutation_of_existing(op)?;
            }
        }
        self.bumps = true;
        self.changes = true;
        Ok(Bytes::new())
    }

    fn mutation_of_existing(&mut self, op: &Op) -> Result<(), Abort> {
        let transaction = &mut self.transaction;
        match op {
            Op::Delete {} => transaction.remove(),
            Op::RemoveXattr { name } => {
                transaction.xattr(name)?.ok_or(Abort::Code(errno::ENODATA))?;
                transaction.set_xattr(name.clone(), None)?;
            }
            Op::OmapRemove { keys } => {
                for key in keys {
                    transaction.set_omap(key.clone(), None)?;
                }
            }
            Op::OmapRemoveRange { from, to } => {
                transaction.remove_omap_range(from.clone(), to.clone())?;
            }
            Op::OmapClear {} => transaction.clear_omap()?,
            _ => return Err(Abort::Code(errno::EINVAL)),
        }
        Ok(())
    }

    fn exec(&mut self, class: &str, method: &str, input: &Bytes) -> Result<Bytes, Abort> {
        let method =
            store_base::class::method(class, method).ok_or(Abort::Code(errno::EOPNOTSUPP))?;
        let keeper = keeper_number(method.class);
        if method.kind == MethodKind::Write {
            self.may_write(keeper)?;
        }
        let before = self.transaction.mark();
        let client = self.request.id.client;
        let answer = class::run(method, &mut self.transaction, client, self.wall, input.clone())?;
        match answer {
            Ok(data) => {
                let wrote = self.transaction.mark() != before;
                if wrote
                    && keeper != 0
                    && let Some(info) = &mut self.transaction.info
                {
                    info.keeper = keeper;
                }
                self.bumps |= wrote;
                self.changes |= wrote;
                self.fit(data.len())?;
                Ok(data)
            }
            Err(error) => {
                let (code, why) = class::refusal(&error);
                Err(Abort::Refused(-code, why))
            }
        }
    }

    fn watcher(&self, cookie: u64, timeout_secs: u32) -> Watcher {
        Watcher { client: self.request.id.client.0, cookie, timeout_secs }
    }

    fn watch(&mut self, cookie: u64, timeout_secs: u32) -> Result<Bytes, Abort> {
        self.transaction.present()?;
        let watcher = self.watcher(cookie, timeout_secs.clamp(1, WATCH_SECS_MAX));
        self.changes |= watchers::register(&mut self.transaction, &watcher)?;
        self.effects.push(Effect::Watched { watcher });
        Ok(Bytes::new())
    }

    fn unwatch(&mut self, cookie: u64) -> Result<Bytes, Abort> {
        self.transaction.present()?;
        let client = self.request.id.client.0;
        self.changes |= watchers::remove(&mut self.transaction, client, cookie)?;
        self.effects.push(Effect::Unwatched { client, cookie });
        Ok(Bytes::new())
    }

    fn ping(&mut self, cookie: u64) -> Result<Bytes, Abort> {
        let lost = Abort::Code(errno::ENOTCONN);
        let stored = self.transaction.xattr(&watchers::key(self.request.id.client.0, cookie))?;
        let watcher =
            Watcher::from_bytes(stored.ok_or(lost)?).map_err(|_| Abort::Code(errno::EIO))?;
        self.effects.push(Effect::Pinged { watcher });
        Ok(Bytes::new())
    }

    fn notify(&mut self, payload: &Bytes, timeout_secs: u32) -> Result<Bytes, Abort> {
        self.transaction.present()?;
        self.effects.push(Effect::Notify {
            op: self.results.len(),
            watchers: watchers::list(&self.transaction)?,
            payload: payload.clone(),
            timeout_secs: timeout_secs.clamp(1, WATCH_SECS_MAX),
        });
        Ok(Bytes::new())
    }

    fn fail(mut self, code: i32, data: Bytes) -> Execution {
        // A comparison of bytes before this op may fail first: then this failure is the wrong one.
        if !self.parts.iter().any(|part| matches!(part.what, Use::Compare(_))) {
            self.results.push(OpResult { code: -code, data });
            return Execution::Failed { results: self.results, user_version: self.user_version };
        }
        self.results.push(OpResult { code: -code, data });
        let done =
            Done { results: self.results, user_version: self.user_version, ..Done::default() };
        Pending::new(self.parts, self.transaction.patches, done, self.user_version).settle()
    }

    fn finish(mut self) -> Execution {
        let mut done = Done {
            results: self.results,
            user_version: self.user_version,
            bumps: self.bumps,
            ends_a_move: self.ends_a_move,
            effects: self.effects,
            ..Done::default()
        };
        let parts = self.parts;
        let patches = match parts.is_empty() {
            true => Vec::new(),
            false => self.transaction.patches.clone(),
        };
        // Made and removed in one vector: nothing happened.
        let is_nothing = !self.transaction.existed && self.transaction.info.is_none();
        if self.changes && !is_nothing {
            let mtime = self.request.mtime;
            if self.bumps
                && let Some(info) = &mut self.transaction.info
            {
                info.mtime = if mtime == Timestamp::default() { self.wall } else { mtime };
            }
            let info = self.transaction.info.clone();
            done.removes = info.is_none();
            done.mutation = Some(Mutation { info, changes: self.transaction.into_changes() });
        }
        if parts.is_empty() {
            return Execution::Done(done);
        }
        Pending::new(parts, patches, done, self.user_version).settle()
    }
}

/// Extents of the store, cut to the range that was asked for.
fn clip_extents(extents: Vec<(u64, u64)>, offset: u64, length: u64) -> Vec<(u64, u64)> {
    let end = offset + length;
    let clip = |(at, len): (u64, u64)| {
        let (from, to) = (at.max(offset), at.saturating_add(len).min(end));
        (from < to).then(|| (from, to - from))
    };
    extents.into_iter().filter_map(clip).collect()
}

fn holds(holds: bool) -> Result<Bytes, Abort> {
    if holds { Ok(Bytes::new()) } else { Err(Abort::Code(errno::ECANCELED)) }
}
