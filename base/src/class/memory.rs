//! An object in memory as a [`ClassContext`]: for tests and for the gateway's in-memory cluster.

use super::{ClassContext, ClassError};
use crate::Timestamp;
use bytes::Bytes;
use std::collections::BTreeMap;

/// One object's attributes and omap.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MemoryObject {
    /// Its name.
    pub name: Bytes,
    /// Whether the object exists; what an absent object holds is empty.
    pub exists: bool,
    /// Extended attributes.
    pub xattrs: BTreeMap<String, Bytes>,
    /// Ordered pairs.
    pub omap: BTreeMap<Bytes, Bytes>,
    /// The clock that methods see.
    pub now: Timestamp,
}

impl ClassContext for MemoryObject {
    fn name(&self) -> &[u8] {
        &self.name
    }

    fn exists(&self) -> bool {
        self.exists
    }

    fn now(&self) -> Timestamp {
        self.now
    }

    fn create(&mut self) {
        self.exists = true;
    }

    fn remove(&mut self) {
        let name = std::mem::take(&mut self.name);
        *self = MemoryObject { name, now: self.now, ..MemoryObject::default() };
    }

    fn xattr(&mut self, name: &str) -> Result<Option<Bytes>, ClassError> {
        Ok(self.xattrs.get(name).cloned())
    }

    fn set_xattr(&mut self, name: &str, value: Bytes) {
        self.exists = true;
        self.xattrs.insert(name.to_owned(), value);
    }

    fn omap_value(&mut self, key: &[u8]) -> Result<Option<Bytes>, ClassError> {
        Ok(self.omap.get(key).cloned())
    }

    fn omap_range(
        &mut self,
        from: &[u8],
        until: &[u8],
        max: usize,
    ) -> Result<Vec<(Bytes, Bytes)>, ClassError> {
        if from >= until {
            return Ok(Vec::new());
        }
        let range = self.omap.range(Bytes::copy_from_slice(from)..Bytes::copy_from_slice(until));
        Ok(range.take(max).map(|(key, value)| (key.clone(), value.clone())).collect())
    }

    fn set_omap(&mut self, key: Bytes, value: Bytes) {
        self.exists = true;
        self.omap.insert(key, value);
    }

    fn remove_omap(&mut self, key: &[u8]) {
        self.omap.remove(key);
    }

    fn remove_omap_range(&mut self, from: &[u8], until: &[u8]) {
        self.omap.retain(|key, _| key[..] < *from || key[..] >= *until);
    }
}
