//! The difference between two ordered maps.

use crate::codec::{Decode, DecodeError, Encode, Reader, Writer};
use std::collections::BTreeMap;

/// What must be set and removed to turn one ordered map into another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delta<K, V> {
    /// New or changed.
    pub set: BTreeMap<K, V>,
    /// Gone.
    pub removed: Vec<K>,
}

impl<K, V> Default for Delta<K, V> {
    fn default() -> Self {
        Delta { set: BTreeMap::new(), removed: Vec::new() }
    }
}

impl<K: Ord + Clone, V: Clone + PartialEq> Delta<K, V> {
    /// The difference from `old` to `new`.
    pub fn between(old: &BTreeMap<K, V>, new: &BTreeMap<K, V>) -> Self {
        let set = new
            .iter()
            .filter(|(key, value)| old.get(key) != Some(value))
            .map(|(key, value)| (key.clone(), value.clone()))
            .collect();
        let removed = old.keys().filter(|key| !new.contains_key(key)).cloned().collect();
        Delta { set, removed }
    }

    /// Makes `map` what `new` was.
    pub fn apply(&self, map: &mut BTreeMap<K, V>) {
        self.removed.iter().for_each(|key| {
            map.remove(key);
        });
        self.set.iter().for_each(|(key, value)| {
            map.insert(key.clone(), value.clone());
        });
    }

    /// Whether there is no difference.
    pub fn is_empty(&self) -> bool {
        self.set.is_empty() && self.removed.is_empty()
    }
}

impl<K: Encode, V: Encode> Encode for Delta<K, V> {
    fn encode(&self, out: &mut Writer) {
        self.set.encode(out);
        self.removed.encode(out);
    }
}

impl<K: Decode + Ord, V: Decode> Decode for Delta<K, V> {
    fn decode(input: &mut Reader) -> Result<Self, DecodeError> {
        Ok(Delta { set: Decode::decode(input)?, removed: Decode::decode(input)? })
    }
}
