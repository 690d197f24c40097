//! One object as a vector sees it while it runs: the store, the open entries above it, and the vector's
//! own changes on top.

use super::Abort;
use super::overlay::{Delta, Layered, OpenObject, Overlay};
use crate::store::{Change, Store};
use bytes::Bytes;
use std::collections::BTreeMap;
use std::ops::Bound;
use store_base::object::ObjectInfo;
use store_base::op::{OBJECT_BYTES_MAX, PAYLOAD_BYTES_MAX, VALUE_BYTES_MAX, errno};
use store_base::{ObjectName, PgId, Version};

/// Longest omap key and longest xattr name.
pub const KEY_BYTES_MAX: usize = 4096;

/// Most bytes that one vector may change an object by: a request's payload, and as much again that
/// class methods make of it.
pub const MUTATION_BYTES_MAX: usize = 2 * PAYLOAD_BYTES_MAX;

/// How many omap entries are asked of the store at a time.
const OMAP_CHUNK: usize = 128;

/// An object of a placement group as the next op vector sees it.
#[derive(Clone, Copy)]
pub struct View<'a> {
    pub(super) store: &'a dyn Store,
    pub(super) pg: PgId,
    pub(super) object: &'a ObjectName,
    pub(super) open: Option<&'a OpenObject>,
    /// The store has a shard of the object: info and xattrs are whole, bytes are elsewhere, and there is no omap.
    pub(super) slots: bool,
}

impl<'a> View<'a> {
    /// As after its newest open entry: what mutations run against.
    pub fn newest(
        store: &'a dyn Store,
        pg: PgId,
        object: &'a ObjectName,
        overlay: &'a Overlay,
    ) -> Self {
        View { store, pg, object, open: overlay.object(object), slots: false }
    }

    /// As committed and applied: what reads run against.
    pub fn applied(store: &'a dyn Store, pg: PgId, object: &'a ObjectName) -> Self {
        View { store, pg, object, open: None, slots: false }
    }

    /// Whether the group has slots.
    pub fn with_slots(self, slots: bool) -> Self {
        View { slots, ..self }
    }

    /// Slots have no omap.
    fn needs_omap(&self) -> Result<(), Abort> {
        match self.slots {
            true => Err(Abort::Code(errno::EOPNOTSUPP)),
            false => Ok(()),
        }
    }

    /// What is known of the object.
    pub fn info(&self) -> Result<Option<ObjectInfo>, Abort> {
        match self.open {
            Some(open) => Ok(open.info.clone()),
            None => Ok(self.store.info(self.pg, self.object)?),
        }
    }

    /// Whether bytes of the store are not those of this view.
    fn data_is_open(&self) -> bool {
        self.open.is_some_and(|open| open.delta.changes_data())
    }
}

/// A vector's own work.
pub(super) struct Transaction<'a> {
    pub(super) view: View<'a>,
    /// Now; `None`: no such object.
    pub(super) info: Option<ObjectInfo>,
    pub(super) existed: bool,
    own: Delta,
    changes: Vec<Change>,
    changes_bytes: usize,
    /// How many changes were made, merged ones too.
    writes: usize,
    /// Changes of the byte part, in order: reads of this vector lay them over the store's bytes.
    pub(super) patches: Vec<Change>,
    /// So many of the view's bytes still show, from the first.
    pub(super) base_len: u64,
}

impl<'a> Transaction<'a> {
    pub(super) fn new(view: View<'a>) -> Result<Self, Abort> {
        let info = view.info()?;
        Ok(Transaction {
            view,
            existed: info.is_some(),
            base_len: info.as_ref().map_or(0, |info| info.size),
            info,
            own: Delta::default(),
            changes: Vec::new(),
            changes_bytes: 0,
            writes: 0,
            patches: Vec::new(),
        })
    }

    // Reads.

    /// The object's info, or `ENOENT`.
    pub(super) fn present(&self) -> Result<&ObjectInfo, Abort> {
        self.info.as_ref().ok_or(Abort::Code(errno::ENOENT))
    }

    pub(super) fn size(&self) -> u64 {
        self.info.as_ref().map_or(0, |info| info.size)
    }

    fn layers(&self) -> impl Iterator<Item = &Delta> {
        std::iter::once(&self.own).chain(self.view.open.map(|open| &open.delta))
    }

    /// What the uppermost layer that knows says.
    fn known<T>(&self, look: impl Fn(&Delta) -> Layered<T>) -> Option<T> {
        self.layers().find_map(|layer| match look(layer) {
            Layered::Known(value) => Some(value),
            Layered::Below => None,
        })
    }

    pub(super) fn xattr(&self, name: &[u8]) -> Result<Option<Bytes>, Abort> {
        match self.known(|layer| layer.xattr(name)) {
            Some(value) => Ok(value),
            None => Ok(self.view.store.xattr(self.view.pg, self.view.object, name)?),
        }
    }

    pub(super) fn xattrs(&self) -> Result<BTreeMap<Bytes, Bytes>, Abort> {
        let mut all = match self.layers().any(Delta::replaces) {
            true => BTreeMap::new(),
            false => self.view.store.xattrs(self.view.pg, self.view.object)?,
        };
        if let Some(open) = self.view.open {
            open.delta.lay_xattrs(&mut all);
        }
        self.own.lay_xattrs(&mut all);
        Ok(all)
    }

    pub(super) fn header(&self) -> Result<Bytes, Abort> {
        self.view.needs_omap()?;
        match self.known(Delta::header) {
            Some(data) => Ok(data),
            None => Ok(self.view.store.omap_header(self.view.pg, self.view.object)?),
        }
    }

    pub(super) fn omap(&self, key: &[u8]) -> Result<Option<Bytes>, Abort> {
        self.view.needs_omap()?;
        match self.known(|layer| layer.omap(key)) {
            Some(value) => Ok(value),
            None => Ok(self.view.store.omap(self.view.pg, self.view.object, key)?),
        }
    }

    /// Walks omap entries from `from` on, in order of key, while `keep` says so.
    pub(super) fn walk_omap(
        &self,
        from: Bound<&[u8]>,
        prefix: &[u8],
        mut keep: impl FnMut(Bytes, Bytes) -> bool,
    ) -> Result<(), Abort> {
        self.view.needs_omap()?;
        let mut stored = StoredKeys::new(self, from, prefix);
        let mut at: Bound<Bytes> = match from {
            Bound::Included(key) | Bound::Excluded(key) if key < prefix => {
                Bound::Included(Bytes::copy_from_slice(prefix))
            }
            other => other.map(Bytes::copy_from_slice),
        };
        if matches!(at, Bound::Unbounded) {
            at = Bound::Included(Bytes::copy_from_slice(prefix));
        }
        loop {
            let named = {
                let at = at.as_ref().map(|key| &key[..]);
                self.layers().filter_map(|layer| layer.next_key(at)).min().cloned()
            };
            let stored_key = stored.peek()?.map(|(key, _)| key.clone());
            let key = match (named, stored_key) {
                (None, None) => return Ok(()),
                (Some(key), None) | (None, Some(key)) => key,
                (Some(named), Some(stored)) => named.min(stored),
            };
            if !key.starts_with(prefix) {
                return Ok(());
            }
            let below = stored.take(&key);
            let value = match self.known(|layer| layer.omap(&key)) {
                Some(value) => value,
                None => below,
            };
            if let Some(value) = value
                && !keep(key.clone(), value)
            {
                return Ok(());
            }
            at = Bound::Excluded(key);
        }
    }

    /// Whether the store's bytes from `offset` on are part of what a read must return but are not yet
    /// those of the view.
    pub(super) fn must_wait_for_data(&self, offset: u64) -> bool {
        self.view.data_is_open() && offset < self.base_len
    }

    /// Differs after every change of the object that this transaction made.
    pub(super) fn mark(&self) -> (usize, usize, bool, Option<ObjectInfo>) {
        (self.writes, self.patches.len(), self.info.is_some(), self.info.clone())
    }

    // Changes.

    /// Makes the object if it is not there.
    pub(super) fn create(&mut self) -> &mut ObjectInfo {
        if self.info.is_none() {
            self.info = Some(ObjectInfo::default());
        }
        self.info.as_mut().expect("it was just made")
    }

    pub(super) fn remove(&mut self) {
        if self.info.is_none() {
            return;
        }
        self.changes.clear();
        self.changes_bytes = 0;
        self.own.apply(Version::ZERO, &Change::Remove {});
        if self.existed {
            self.changes.push(Change::Remove {});
        }
        self.patches.push(Change::Remove {});
        self.base_len = 0;
        self.info = None;
    }

    pub(super) fn write(&mut self, offset: u64, data: Bytes) -> Result<(), Abort> {
        let end = checked_end(offset, data.len() as u64)?;
        let info = self.create();
        // A write of nothing does not grow the object.
        if data.is_empty() {
            return Ok(());
        }
        info.size = info.size.max(end);
        self.push_data(Change::Write { offset, data })
    }

    pub(super) fn write_full(&mut self, data: Bytes) -> Result<(), Abort> {
        checked_end(0, data.len() as u64)?;
        self.create();
        if self.size() > 0 {
            self.truncate(0)?;
        }
        self.write(0, data)
    }

    pub(super) fn zero(&mut self, offset: u64, length: u64) -> Result<(), Abort> {
        let end = offset.saturating_add(length).min(self.size());
        if offset >= end {
            return Ok(());
        }
        self.push_data(Change::Zero { offset, length: end - offset })
    }

    pub(super) fn truncate(&mut self, size: u64) -> Result<(), Abort> {
        checked_end(0, size)?;
        let Some(info) = &mut self.info else { return Ok(()) };
        if info.size == size {
            return Ok(());
        }
        info.size = size;
        self.base_len = self.base_len.min(size);
        self.push_data(Change::Truncate { size })
    }

    fn push_data(&mut self, change: Change) -> Result<(), Abort> {
        self.patches.push(change.clone());
        self.push(change)
    }

    pub(super) fn set_xattr(&mut self, name: Bytes, value: Option<Bytes>) -> Result<(), Abort> {
        check_pair(&name, value.as_ref())?;
        if value.is_none() && self.info.is_none() {
            return Ok(());
        }
        self.create();
        let bytes = pair_bytes(&name, value.as_ref());
        let change = Change::Xattrs { set: BTreeMap::from([(name, value)]) };
        self.push_merged(change, bytes)?;
        // All xattrs together must fit an answer and travel with a copy of the object.
        let all = self.xattrs()?;
        match all.iter().map(|(name, value)| name.len() + value.len()).sum::<usize>() {
            total if total > PAYLOAD_BYTES_MAX / 2 => Err(Abort::Code(errno::E2BIG)),
            _ => Ok(()),
        }
    }

    pub(super) fn set_omap(&mut self, key: Bytes, value: Option<Bytes>) -> Result<(), Abort> {
        self.view.needs_omap()?;
        check_pair(&key, value.as_ref())?;
        if value.is_none() && !self.info.as_ref().is_some_and(|info| info.has_omap) {
            return Ok(());
        }
        self.create().has_omap |= value.is_some();
        let bytes = pair_bytes(&key, value.as_ref());
        self.push_merged(Change::Omap { set: BTreeMap::from([(key, value)]) }, bytes)
    }

    pub(super) fn remove_omap_range(&mut self, from: Bytes, to: Bytes) -> Result<(), Abort> {
        self.view.needs_omap()?;
        if from >= to || !self.info.as_ref().is_some_and(|info| info.has_omap) {
            return Ok(());
        }
        self.push(Change::OmapRemoveRange { from, to })
    }

    pub(super) fn clear_omap(&mut self) -> Result<(), Abort> {
        self.view.needs_omap()?;
        let info = self.create();
        if !std::mem::take(&mut info.has_omap) {
            return Ok(());
        }
        self.push(Change::OmapClear {})
    }

    pub(super) fn set_header(&mut self, data: Bytes) -> Result<(), Abort> {
        self.view.needs_omap()?;
        if data.len() > VALUE_BYTES_MAX {
            return Err(Abort::Code(errno::E2BIG));
        }
        self.create().has_omap = true;
        self.push(Change::OmapHeader { data })
    }

    fn push(&mut self, change: Change) -> Result<(), Abort> {
        let bytes = match &change {
            Change::Write { data, .. } | Change::OmapHeader { data } => data.len(),
            Change::OmapRemoveRange { from, to } => from.len() + to.len(),
            _ => 0,
        };
        self.count(bytes)?;
        self.own.apply(Version::ZERO, &change);
        self.changes.push(change);
        Ok(())
    }

    /// Adds to an earlier change of the same kind, if nothing between them may not be swapped.
    fn push_merged(&mut self, change: Change, bytes: usize) -> Result<(), Abort> {
        self.count(bytes)?;
        self.own.apply(Version::ZERO, &change);
        for earlier in self.changes.iter_mut().rev() {
            match (earlier, &change) {
                (Change::Xattrs { set }, Change::Xattrs { set: more })
                | (Change::Omap { set }, Change::Omap { set: more }) => {
                    set.extend(more.iter().map(|(key, value)| (key.clone(), value.clone())));
                    return Ok(());
                }
                (Change::Remove {}, _) => break,
                (Change::OmapRemoveRange { .. } | Change::OmapClear {}, Change::Omap { .. }) => {
                    break;
                }
                _ => {}
            }
        }
        self.changes.push(change);
        Ok(())
    }

    fn count(&mut self, bytes: usize) -> Result<(), Abort> {
        self.changes_bytes += bytes;
        self.writes += 1;
        match self.changes_bytes > MUTATION_BYTES_MAX {
            true => Err(Abort::Code(errno::E2BIG)),
            false => Ok(()),
        }
    }

    /// The changes that lead from the view's object to this one's.
    pub(super) fn into_changes(mut self) -> Vec<Change> {
        // An empty new object needs a change that makes it.
        let is_bare = match self.changes.last() {
            None => !self.existed,
            Some(last) => *last == Change::Remove {},
        };
        if is_bare && self.info.is_some() {
            self.changes.push(Change::Truncate { size: 0 });
        }
        self.changes
    }
}

fn checked_end(offset: u64, length: u64) -> Result<u64, Abort> {
    match offset.checked_add(length) {
        Some(end) if end <= OBJECT_BYTES_MAX => Ok(end),
        _ => Err(Abort::Code(errno::EFBIG)),
    }
}

fn check_pair(key: &Bytes, value: Option<&Bytes>) -> Result<(), Abort> {
    if key.is_empty() {
        return Err(Abort::Code(errno::EINVAL));
    }
    if key.len() > KEY_BYTES_MAX {
        return Err(Abort::Code(errno::ENAMETOOLONG));
    }
    match value {
        Some(value) if value.len() > VALUE_BYTES_MAX => Err(Abort::Code(errno::E2BIG)),
        _ => Ok(()),
    }
}

fn pair_bytes(key: &Bytes, value: Option<&Bytes>) -> usize {
    key.len() + value.map_or(0, Bytes::len)
}

/// The store's own omap entries in order, fetched in chunks, skipping what ranges hide.
struct StoredKeys<'a, 'b> {
    of: &'b Transaction<'a>,
    prefix: &'b [u8],
    chunk: std::vec::IntoIter<(Bytes, Bytes)>,
    head: Option<(Bytes, Bytes)>,
    next: Next,
}

/// Where the store is asked next.
enum Next {
    /// At this key itself, then behind it.
    At(Bytes),
    /// Behind this key, or at the first.
    Behind(Option<Bytes>),
    /// There is no more.
    End,
}

impl<'a, 'b> StoredKeys<'a, 'b> {
    fn new(of: &'b Transaction<'a>, from: Bound<&[u8]>, prefix: &'b [u8]) -> Self {
        let next = match from {
            _ if of.layers().any(Delta::replaces) || !of.existed => Next::End,
            Bound::Unbounded => Next::Behind(None),
            Bound::Included(key) => Next::At(Bytes::copy_from_slice(key)),
            Bound::Excluded(key) => Next::Behind(Some(Bytes::copy_from_slice(key))),
        };
        StoredKeys { of, prefix, chunk: Vec::new().into_iter(), head: None, next }
    }

    fn peek(&mut self) -> Result<Option<&(Bytes, Bytes)>, Abort> {
        while self.head.is_none() {
            let Some(entry) = self.chunk.next() else {
                if !self.fetch()? {
                    break;
                }
                continue;
            };
            let hides = |layer: &Delta| layer.hidden_until(&entry.0).map(Option::<&Bytes>::cloned);
            let hidden = self.of.layers().find_map(hides);
            match hidden {
                None => self.head = Some(entry),
                Some(until) => self.seek(until),
            }
        }
        Ok(self.head.as_ref())
    }

    /// Passes over a hidden range.
    fn seek(&mut self, until: Option<Bytes>) {
        let Some(until) = until else {
            self.chunk = Vec::new().into_iter();
            self.next = Next::End;
            return;
        };
        while let Some((key, _)) = self.chunk.as_slice().first() {
            if *key >= until {
                return;
            }
            self.chunk.next();
        }
        let goes_on = match &self.next {
            Next::Behind(Some(last)) => *last < until,
            Next::Behind(None) | Next::At(_) => true,
            Next::End => false,
        };
        if goes_on {
            self.next = Next::At(until);
        }
    }

    fn fetch(&mut self) -> Result<bool, Abort> {
        let view = &self.of.view;
        let mut entries = Vec::new();
        let after = match std::mem::replace(&mut self.next, Next::End) {
            Next::End => return Ok(false),
            Next::Behind(after) => after,
            Next::At(key) => {
                if key.starts_with(self.prefix)
                    && let Some(value) = view.store.omap(view.pg, view.object, &key)?
                {
                    entries.push((key.clone(), value));
                }
                Some(key)
            }
        };
        let (page, more) = view.store.omap_list(
            view.pg,
            view.object,
            after.as_deref(),
            self.prefix,
            OMAP_CHUNK,
        )?;
        if more && let Some((last, _)) = page.last() {
            self.next = Next::Behind(Some(last.clone()));
        }
        entries.extend(page);
        self.chunk = entries.into_iter();
        Ok(true)
    }

    /// The value of `key` if the store has it next; moves on.
    fn take(&mut self, key: &Bytes) -> Option<Bytes> {
        let (_, value) = self.head.take_if(|(head, _)| head == key)?;
        Some(value)
    }
}
