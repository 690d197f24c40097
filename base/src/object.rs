//! What an object is called, where it belongs, and the order of objects in a store.

use crate::codec::{Decode, DecodeError, Encode, Reader, Writer};
use crate::hash::{rjenkins, stable_mod};
use crate::ids::{PgId, PoolId, SnapId, Timestamp, Version};
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use std::cmp::Ordering;
use std::fmt;

/// Longest object name in bytes.
pub const NAME_BYTES_MAX: usize = 2048;

/// Longest namespace and longest locator in bytes.
pub const NAMESPACE_BYTES_MAX: usize = 1024;

/// An object's name within its pool. Names are bytes, not UTF-8.
///
/// Ordered as Ceph orders the objects of a pool: by bit-reversed hash, namespace, locator, name, snap.
/// A placement group is a contiguous range in this order, and stays contiguous when it is split.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct ObjectName {
    /// Separates tenants within a pool; mostly empty.
    pub namespace: Bytes,
    /// Hashed instead of the name when not empty, so that objects can be kept together.
    pub locator: Bytes,
    /// The name.
    pub name: Bytes,
    /// `SnapId::HEAD` for the live object.
    pub snap: SnapId,
}

impl ObjectName {
    /// A live object without namespace and locator.
    pub fn new(name: impl Into<Bytes>) -> Self {
        ObjectName {
            namespace: Bytes::new(),
            locator: Bytes::new(),
            name: name.into(),
            snap: SnapId::HEAD,
        }
    }

    /// The hash that places the object: of the locator if there is one, else of the name; with the
    /// namespace and 0x1f before it when there is a namespace (CEPH-WIRE 3).
    pub fn hash(&self) -> u32 {
        let key = if self.locator.is_empty() { &self.name } else { &self.locator };
        if self.namespace.is_empty() {
            return rjenkins(key);
        }
        let mut whole = Vec::with_capacity(self.namespace.len() + 1 + key.len());
        whole.extend_from_slice(&self.namespace);
        whole.push(0x1f);
        whole.extend_from_slice(key);
        rjenkins(&whole)
    }

    /// The placement group that holds the object in a pool with `pg_num` groups.
    pub fn pg(&self, pool: PoolId, pg_num: u32) -> PgId {
        PgId { pool, seed: stable_mod(self.hash(), pg_num) }
    }

    /// Says why the name cannot be used, if so.
    pub fn check(&self) -> Result<(), String> {
        if self.name.is_empty() {
            return Err("an object needs a name".into());
        }
        if self.name.len() > NAME_BYTES_MAX {
            return Err(format!(
                "object name of {} bytes; at most {NAME_BYTES_MAX} are allowed",
                self.name.len()
            ));
        }
        if self.namespace.len().max(self.locator.len()) > NAMESPACE_BYTES_MAX {
            return Err(format!(
                "namespace or locator longer than the {NAMESPACE_BYTES_MAX} bytes allowed"
            ));
        }
        Ok(())
    }

    /// The bytes by which an ordered key-value store sorts objects exactly as `Ord` does: the
    /// bit-reversed hash (4, big endian), then namespace, locator and name, each with 0x00 written as
    /// 0x00 0xff and ended by 0x00 0x00, then the snap (8, big endian).
    pub fn sort_key(&self) -> Vec<u8> {
        let mut key =
            Vec::with_capacity(18 + self.namespace.len() + self.locator.len() + self.name.len());
        key.extend_from_slice(&self.hash().reverse_bits().to_be_bytes());
        for part in [&self.namespace, &self.locator, &self.name] {
            for &byte in part.iter() {
                key.push(byte);
                if byte == 0 {
                    key.push(0xff);
                }
            }
            key.extend_from_slice(&[0, 0]);
        }
        key.extend_from_slice(&self.snap.0.to_be_bytes());
        key
    }
}

impl Default for ObjectName {
    /// The empty name: no object.
    fn default() -> Self {
        ObjectName::new(Bytes::new())
    }
}

impl Ord for ObjectName {
    fn cmp(&self, other: &Self) -> Ordering {
        (self.hash().reverse_bits(), &self.namespace, &self.locator, &self.name, self.snap).cmp(&(
            other.hash().reverse_bits(),
            &other.namespace,
            &other.locator,
            &other.name,
            other.snap,
        ))
    }
}

impl PartialOrd for ObjectName {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl fmt::Display for ObjectName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.namespace.is_empty() {
            write!(f, "{}/", self.namespace.escape_ascii())?;
        }
        write!(f, "{}", self.name.escape_ascii())?;
        if self.snap != SnapId::HEAD {
            write!(f, "@{}", self.snap.0)?;
        }
        Ok(())
    }
}

impl fmt::Debug for ObjectName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Encode for ObjectName {
    fn encode(&self, out: &mut Writer) {
        self.namespace.encode(out);
        self.locator.encode(out);
        self.name.encode(out);
        self.snap.encode(out);
    }
}

impl Decode for ObjectName {
    fn decode(input: &mut Reader) -> Result<Self, DecodeError> {
        let object = ObjectName {
            namespace: Decode::decode(input)?,
            locator: Decode::decode(input)?,
            name: Decode::decode(input)?,
            snap: Decode::decode(input)?,
        };
        // The empty name stands for "no object" (a log's barrier, a list of a placement group).
        if object.name.is_empty() {
            return Ok(object);
        }
        match object.check() {
            Ok(()) => Ok(object),
            Err(_) => Err(DecodeError::Invalid {
                what: "object name, of bytes",
                value: object.name.len() as u64,
            }),
        }
    }
}

/// What is known of an object besides its bytes, xattrs and omap.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ObjectInfo {
    /// The log entry that last changed the object.
    pub version: Version,
    /// Counts the changes that clients made to this object's placement group; what clients see and
    /// assert on (Ceph: user_version).
    pub user_version: u64,
    /// Length of the byte part.
    pub size: u64,
    /// The client's clock at the last change.
    pub mtime: Timestamp,
    /// Newest truncation that was seen (CephFS clients race writes against truncations with it).
    pub truncate_seq: u32,
    /// The size of that truncation.
    pub truncate_size: u64,
    /// Whether the object has an omap or omap header.
    pub has_omap: bool,
    /// The class whose methods alone may change or remove the object, by its number; 0: anyone may.
    pub keeper: u8,
}

// Version 2 added `keeper`.
crate::codec_versioned!(ObjectInfo, 2, by compat {
    version, user_version, size, mtime, truncate_seq, truncate_size, has_omap, keeper since 2,
});

impl ObjectInfo {
    /// Who does not know of keepers must not change an object that has one.
    fn compat(&self) -> u8 {
        if self.keeper == 0 { 1 } else { 2 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_who_knows_of_keepers_reads_what_has_one() {
        let plain = ObjectInfo { size: 7, ..ObjectInfo::default() };
        let kept = ObjectInfo { keeper: 3, ..plain };
        for (info, compat) in [(&plain, 1), (&kept, 2)] {
            let bytes = info.to_bytes();
            assert_eq!((bytes[0], bytes[1]), (2, compat));
            assert_eq!(ObjectInfo::from_bytes(bytes).as_ref(), Ok(info));
        }
        // As it was written before: a keeper that everybody might read.
        let mut before = kept.to_bytes().to_vec();
        before[1] = 1;
        assert_eq!(ObjectInfo::from_bytes(before.into()), Ok(kept));
    }

    #[test]
    fn sort_key_orders_as_names_do() {
        let mut names: Vec<ObjectName> = (0..300)
            .map(|i| {
                let mut o = ObjectName::new(format!("o{}\0{}", i % 40, i % 7).into_bytes());
                o.snap = SnapId(u64::from(i % 3 == 0));
                o.namespace = Bytes::from_static(if i % 2 == 0 { b"" } else { b"n\0" });
                o
            })
            .collect();
        names.sort();
        let mut keys: Vec<_> = names.iter().map(ObjectName::sort_key).collect();
        keys.sort();
        assert_eq!(keys, names.iter().map(ObjectName::sort_key).collect::<Vec<_>>());
    }
}
