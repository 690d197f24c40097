//! The index: onodes, omap entries and small values, in memory over the ordered store.
//!
//! Three layers, the newer one wins: `active` (changed since the last checkpoint began), `frozen` (being
//! written by the checkpoint), the store. Onodes that were read from the store are kept in a cache.
//!
//! Keys, one byte of kind first, numbers big endian:
//!
//! | kind | key | value |
//! |---|---|---|
//! | `C` | | [`Checkpoint`](super::state::Checkpoint) |
//! | `N` | name | a named value of the daemon |
//! | `P` | pool (8, sign bit flipped), seed (4) | `PgRecord` |
//! | `L` | pg number (8), interval (4), counter (8) of the first | a run of applied log entries |
//! | `S` | pg number (8), interval (4), counter (8) | `Placed`: a staged entry |
//! | `O` | number of the group's home (8), sort key of the object | [`Onode`] |
//! | `I` | as `O` | the onode of a copy that is being brought in |
//! | `M` | omap number (8), key | omap value |
//! | `D` | omap number (8) | empty: an omap that is to be deleted |
//! | `X` | pg number (8) | a placement group whose objects are to be removed: its `Part`, empty for all of its own |
//! | `A` | chunk (4) | allocator |
//!
//! Numbers of placement groups and omaps are given once and never again, so removing one of them with all
//! it has is one small change, and the rest is done behind.

use super::piece::{self, Piece, Pieces};
use crate::store::kv::{KvBatch, KvError, KvStore};
use bytes::Bytes;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;
use store_base::codec::{Decode, Encode};
use store_base::object::ObjectInfo;
use store_base::{ObjectName, PgId, Version};

/// All that is known of an object but its omap.
///
/// Versioned form, version 1.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Onode {
    /// Its name.
    pub name: ObjectName,
    /// What the caller knows of it.
    pub info: ObjectInfo,
    /// Small values.
    pub xattrs: BTreeMap<Bytes, Bytes>,
    /// The omap's header.
    pub omap_header: Bytes,
    /// Where its omap is; 0: it has none.
    pub omap: u64,
    /// Keys and values of the omap, together.
    pub omap_bytes: u64,
    /// Its bytes.
    pub pieces: Pieces,
}
store_base::codec_versioned!(Onode, 1, 1 {
    name, info, xattrs, omap_header, omap, omap_bytes, pieces,
});

impl Onode {
    /// About what it takes in memory.
    pub fn memory_bytes(&self) -> usize {
        let crcs: usize = self.pieces.values().map(|piece| 64 + piece.crcs.len() * 4).sum();
        let xattrs: usize = self.xattrs.iter().map(|(k, v)| 80 + k.len() + v.len()).sum();
        320 + self.name.name.len() + self.omap_header.len() + crcs + xattrs
    }
}

/// Most bytes of clean onodes that are kept.
pub const CACHE_BYTES_MAX: usize = 4 << 20;

/// A key of the index.
pub type Key = Vec<u8>;
type Layer<T> = BTreeMap<Key, Option<T>>;

/// The key of an object.
pub fn object_key(kind: u8, uid: u64, object: &ObjectName) -> Key {
    let mut key = Vec::with_capacity(40 + object.name.len());
    key.push(kind);
    key.extend_from_slice(&uid.to_be_bytes());
    key.extend_from_slice(&object.sort_key());
    key
}

/// A key of a kind and a number, and what follows.
pub fn number_key(kind: u8, number: u64, rest: &[u8]) -> Key {
    let mut key = Vec::with_capacity(9 + rest.len());
    key.push(kind);
    key.extend_from_slice(&number.to_be_bytes());
    key.extend_from_slice(rest);
    key
}

/// The key of a log entry or of a run of them.
pub fn version_key(kind: u8, uid: u64, version: Version) -> Key {
    let mut rest = [0; 12];
    rest[..4].copy_from_slice(&version.interval.0.to_be_bytes());
    rest[4..].copy_from_slice(&version.counter.to_be_bytes());
    number_key(kind, uid, &rest)
}

/// The key of a placement group.
pub fn pg_key(pg: PgId) -> Key {
    let pool = pg.pool.0 as u64 ^ (1 << 63);
    number_key(b'P', pool, &pg.seed.to_be_bytes())
}

/// The first key behind all that begin with `prefix`.
pub fn behind(prefix: &[u8]) -> Key {
    let mut end = prefix.to_vec();
    while let Some(last) = end.pop() {
        if last < 0xff {
            end.push(last + 1);
            return end;
        }
    }
    vec![0xff; 64] // only for a prefix of nothing but 0xff, which no kind has
}

/// What a checkpoint writes.
#[derive(Debug, Default)]
pub struct Frozen {
    onodes: Layer<Arc<Onode>>,
    values: Layer<Bytes>,
}

impl Frozen {
    /// As a batch for the store.
    pub fn batch(&self) -> KvBatch {
        let onodes = self
            .onodes
            .iter()
            .map(|(key, onode)| (key.clone(), onode.as_ref().map(|onode| onode.to_bytes())));
        let values = self.values.iter().map(|(key, value)| (key.clone(), value.clone()));
        onodes.chain(values).collect()
    }
}

/// Two generations: what was not asked for during the filling of one is forgotten.
#[derive(Debug, Default)]
struct Cache {
    young: BTreeMap<Key, Arc<Onode>>,
    old: BTreeMap<Key, Arc<Onode>>,
    young_bytes: usize,
}

impl Cache {
    fn find(&mut self, key: &[u8]) -> Option<Arc<Onode>> {
        if let Some(onode) = self.young.get(key) {
            return Some(onode.clone());
        }
        let (key, onode) = self.old.remove_entry(key)?;
        self.insert(key, onode.clone());
        Some(onode)
    }

    fn insert(&mut self, key: Key, onode: Arc<Onode>) {
        self.young_bytes += onode.memory_bytes() + key.len();
        self.young.insert(key, onode);
        if self.young_bytes > CACHE_BYTES_MAX / 2 {
            self.old = std::mem::take(&mut self.young);
            self.young_bytes = 0;
        }
    }

    fn remove(&mut self, key: &[u8]) {
        self.young.remove(key);
        self.old.remove(key);
    }
}

/// The index of one daemon.
pub struct Index {
    store: Arc<dyn KvStore>,
    onodes: Layer<Arc<Onode>>,
    values: Layer<Bytes>,
    frozen: Option<Arc<Frozen>>,
    cache: RefCell<Cache>,
    dirty_bytes: usize,
}

impl Index {
    /// Over a store.
    pub fn new(store: Arc<dyn KvStore>) -> Index {
        Index {
            store,
            onodes: Layer::new(),
            values: Layer::new(),
            frozen: None,
            cache: RefCell::default(),
            dirty_bytes: 0,
        }
    }

    /// The store beneath.
    pub fn store(&self) -> &Arc<dyn KvStore> {
        &self.store
    }

    /// About what the changes since the last checkpoint take in memory.
    pub fn dirty_bytes(&self) -> usize {
        self.dirty_bytes
    }

    /// An onode.
    pub fn onode(&self, key: &[u8]) -> Result<Option<Arc<Onode>>, KvError> {
        if let Some(found) = self.onodes.get(key) {
            return Ok(found.clone());
        }
        if let Some(found) = self.frozen.as_ref().and_then(|frozen| frozen.onodes.get(key)) {
            return Ok(found.clone());
        }
        if let Some(found) = self.cache.borrow_mut().find(key) {
            return Ok(Some(found));
        }
        let Some(value) = self.store.value(key)? else { return Ok(None) };
        let onode = Arc::new(decode_onode(value)?);
        self.cache.borrow_mut().insert(key.to_vec(), onode.clone());
        Ok(Some(onode))
    }

    /// Takes an onode out to change it: one copy at most. It must be put back, or it is removed.
    pub fn take_onode(&mut self, key: &[u8]) -> Result<Option<Onode>, KvError> {
        if let Some(Some(found)) = self.onodes.get_mut(key).map(Option::take) {
            return Ok(Some(Arc::unwrap_or_clone(found)));
        }
        let found = self.onode(key)?;
        self.cache.borrow_mut().remove(key);
        Ok(found.map(Arc::unwrap_or_clone))
    }

    /// Sets (`Some`) or removes an onode.
    pub fn put_onode(&mut self, key: Key, onode: Option<Onode>) {
        self.dirty_bytes += key.len() + onode.as_ref().map_or(64, Onode::memory_bytes);
        self.cache.borrow_mut().remove(&key);
        self.onodes.insert(key, onode.map(Arc::new));
    }

    /// Onodes of `from` (included) to `to`, at most `max`.
    pub fn scan_onodes(
        &self,
        from: &[u8],
        to: &[u8],
        max: usize,
    ) -> Result<Vec<(Key, Arc<Onode>)>, KvError> {
        let frozen = self.frozen.as_ref().map(|frozen| &frozen.onodes);
        let decode = |value| Ok(Arc::new(decode_onode(value)?));
        merge([Some(&self.onodes), frozen], &*self.store, from, to, max, decode)
    }

    /// A small value or omap value.
    pub fn value(&self, key: &[u8]) -> Result<Option<Bytes>, KvError> {
        if let Some(found) = self.values.get(key) {
            return Ok(found.clone());
        }
        if let Some(found) = self.frozen.as_ref().and_then(|frozen| frozen.values.get(key)) {
            return Ok(found.clone());
        }
        self.store.value(key)
    }

    /// The length of a value.
    pub fn length(&self, key: &[u8]) -> Result<Option<u64>, KvError> {
        let layers = [Some(&self.values), self.frozen.as_ref().map(|frozen| &frozen.values)];
        for layer in layers.into_iter().flatten() {
            if let Some(found) = layer.get(key) {
                return Ok(found.as_ref().map(|value| value.len() as u64));
            }
        }
        self.store.length(key)
    }

    /// Sets or removes a value.
    pub fn put_value(&mut self, key: Key, value: Option<Bytes>) {
        self.dirty_bytes += 64 + key.len() + value.as_ref().map_or(0, Bytes::len);
        self.values.insert(key, value);
    }

    /// Values of `from` (included) to `to`, at most `max`.
    pub fn scan_values(
        &self,
        from: &[u8],
        to: &[u8],
        max: usize,
    ) -> Result<Vec<(Key, Bytes)>, KvError> {
        let frozen = self.frozen.as_ref().map(|frozen| &frozen.values);
        merge([Some(&self.values), frozen], &*self.store, from, to, max, Ok)
    }

    /// Forgets changes of a range that nobody will ask for again, as far as they are not written yet.
    pub fn forget_values(&mut self, from: &[u8], to: &[u8]) {
        let range = (Bound::Included(from), Bound::Excluded(to));
        let keys: Vec<Key> =
            self.values.range::<[u8], _>(range).map(|(key, _)| key.clone()).collect();
        for key in keys {
            self.values.remove(&key);
        }
    }

    /// Ends the collecting of changes for one checkpoint and begins it for the next.
    pub fn freeze(&mut self) -> Arc<Frozen> {
        assert!(self.frozen.is_none(), "one checkpoint at a time");
        let frozen = Arc::new(Frozen {
            onodes: std::mem::take(&mut self.onodes),
            values: std::mem::take(&mut self.values),
        });
        self.dirty_bytes = 0;
        self.frozen = Some(frozen.clone());
        frozen
    }

    /// The frozen changes are in the store.
    pub fn thaw(&mut self) {
        let Some(frozen) = self.frozen.take() else { return };
        let mut cache = self.cache.borrow_mut();
        // Some are worth keeping; all of them would only push each other out.
        let mut room = CACHE_BYTES_MAX / 2;
        for (key, onode) in &frozen.onodes {
            if let Some(onode) = onode
                && !self.onodes.contains_key(key)
            {
                let bytes = onode.memory_bytes() + key.len();
                if bytes > room {
                    break;
                }
                room -= bytes;
                cache.insert(key.clone(), onode.clone());
            }
        }
    }
}

fn decode_onode(value: Bytes) -> Result<Onode, KvError> {
    let onode = Onode::from_bytes(value).map_err(|e| KvError(format!("onode: {e}")))?;
    if !onode.pieces.values().all(Piece::is_valid) || !piece::are_apart(&onode.pieces) {
        return Err(KvError(format!("onode of {}: a piece makes no sense", onode.name)));
    }
    // What the codec sliced would keep the whole value alive for one xattr; onodes are small.
    Ok(onode)
}

/// Most entries asked of the store at once.
const PAGE_MAX: usize = 256;

fn merge<T: Clone>(
    layers: [Option<&Layer<T>>; 2],
    store: &dyn KvStore,
    from: &[u8],
    to: &[u8],
    max: usize,
    decode: impl Fn(Bytes) -> Result<T, KvError>,
) -> Result<Vec<(Key, T)>, KvError> {
    let mut found = Vec::new();
    if from >= to {
        return Ok(found);
    }
    let mut layers = layers.map(|layer| {
        let range = (Bound::Included(from), Bound::Excluded(to));
        layer.map(|layer| layer.range::<[u8], _>(range).peekable())
    });
    let mut page: std::vec::IntoIter<(Bytes, Bytes)> = Vec::new().into_iter();
    let mut page_from = Some(from.to_vec());
    while found.len() < max {
        if page.as_slice().is_empty()
            && let Some(from) = page_from.take()
        {
            let want = (max - found.len()).clamp(16, PAGE_MAX);
            let next = store.scan(&from, to, want)?;
            if next.len() == want
                && let Some((last, _)) = next.last()
            {
                let mut after = last.to_vec();
                after.push(0);
                page_from = Some(after);
            }
            page = next.into_iter();
        }
        let stored = page.as_slice().first().map(|(key, _)| &key[..]);
        let newer =
            layers.iter_mut().flatten().filter_map(|layer| layer.peek().map(|(key, _)| &key[..]));
        let Some(least) = newer.chain(stored).min().map(<[u8]>::to_vec) else { break };
        let mut value: Option<Option<T>> = None;
        for layer in layers.iter_mut().flatten() {
            if layer.peek().is_some_and(|(key, _)| **key == least) {
                let (_, newest) = layer.next().expect("just seen");
                value.get_or_insert_with(|| newest.clone());
            }
        }
        if page.as_slice().first().is_some_and(|(key, _)| key[..] == least[..]) {
            let (_, stored) = page.next().expect("just seen");
            if value.is_none() {
                value = Some(Some(decode(stored)?));
            }
        }
        if let Some(Some(value)) = value {
            found.push((least, value));
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::kv::MemoryKv;

    #[test]
    fn layers_hide_what_is_below_them() {
        let store = Arc::new(MemoryKv::default());
        let key = |n: u32| number_key(b'M', 1, &n.to_be_bytes());
        let old = (0..1000).map(|n| (key(n), Some(Bytes::from_static(b"old")))).collect();
        store.write(old).expect("memory");
        let mut index = Index::new(store);
        for n in (0..1000).step_by(3) {
            index.put_value(key(n), None);
        }
        index.freeze();
        for n in (0..1000).step_by(2) {
            index.put_value(key(n), Some("new".into()));
        }
        let (from, to) = (key(10), behind(&number_key(b'M', 1, b"")));
        let found = index.scan_values(&from, &to, 5000).expect("memory");
        let expected: Vec<(Key, Bytes)> = (10..1000)
            .filter(|n| n % 2 == 0 || n % 3 != 0)
            .map(|n| (key(n), Bytes::from_static(if n % 2 == 0 { b"new" } else { b"old" })))
            .collect();
        assert_eq!(found, expected);
        assert_eq!(index.scan_values(&from, &to, 7).expect("memory"), expected[..7]);
        assert_eq!(index.length(&key(4)).expect("memory"), Some(3));
        assert_eq!(index.value(&key(3)).expect("memory"), None);
    }

    #[test]
    fn an_onode_that_makes_no_sense_is_an_error() {
        let place = piece::Place::Disk { offset: 1 << 20 };
        let mut piece = Piece::new(b"x", place, 12);
        let mut onode = Onode::default();
        onode.pieces.insert(0, piece.clone());
        assert!(decode_onode(onode.to_bytes()).is_ok());
        piece.length = 9;
        onode.pieces.insert(0, piece);
        assert!(decode_onode(onode.to_bytes()).is_err());
        assert!(decode_onode(Bytes::from_static(b"\x01\x01\x04\0\0\0abcd")).is_err());
    }
}
