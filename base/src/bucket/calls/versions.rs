//! Inputs and outputs of the methods about versions, locks, tags and a bucket's settings.

use super::super::records::*;
use bytes::Bytes;
use std::collections::BTreeMap;

/// `configure`: brings the bucket's settings to a shard; older ones than it has are passed over. Output:
/// `Answer<Nothing>`; `NoBucket`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Configure {
    /// As the bucket's record has them.
    pub settings: ObjectSettings,
}
crate::codec_struct!(Configure { settings });

/// `versions`: keys in order, the versions of each newest first. Output: `Answer<VersionPage>`;
/// `NoBucket`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ListVersions {
    /// Only keys that begin so.
    pub prefix: Bytes,
    /// As in [`super::List`].
    pub delimiter: Bytes,
    /// Where to begin.
    pub from: VersionPlace,
    /// At most so many items; fewer come where they are long.
    pub max: u32,
}
crate::codec_struct!(ListVersions { prefix, delimiter, from, max });

/// A place in a listing of versions.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct VersionPlace {
    /// This key and those behind it.
    pub key: Bytes,
    /// Of this key only versions older than this one. A `null` version that is not there counts as
    /// newer than all: a listing then repeats and leaves nothing out.
    pub after: Option<Version>,
}
crate::codec_struct!(VersionPlace { key, after });

/// Output of `versions`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct VersionPage {
    /// In order.
    pub items: Vec<VersionItem>,
    /// Where to go on; `None` if this was all.
    pub next: Option<VersionPlace>,
}
crate::codec_struct!(VersionPage { items, next });

/// One line of a listing of versions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum VersionItem {
    /// A version or a delete marker.
    Version {
        /// Its key.
        key: Bytes,
        /// What is shown.
        entry: Entry,
        /// Whether it is the newest of its key.
        latest: bool,
    },
    /// Keys rolled up.
    Prefix {
        /// What they begin with.
        prefix: Bytes,
    },
}
crate::codec_enum!(VersionItem { 1 => Version { key, entry, latest }, 2 => Prefix { prefix } });

impl VersionItem {
    /// The key or the common prefix.
    pub fn name(&self) -> &Bytes {
        match self {
            VersionItem::Version { key, .. } => key,
            VersionItem::Prefix { prefix } => prefix,
        }
    }
}

/// `lock`: changes what keeps a version from being removed. Output: `Answer<Entry>`, as it is now.
/// Refusals: `NoBucket`, `NoLock`, `NoKey`, `NoVersion`, `DeleteMarker`, `Locked`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SetLock {
    /// The key.
    pub key: Bytes,
    /// Which version; `None` for the newest.
    pub version: Option<Version>,
    /// The change.
    pub change: LockChange,
    /// The leave to pass over a retention in governance mode.
    pub bypass: bool,
}
crate::codec_struct!(SetLock { key, version, change, bypass });

/// A change of a lock.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LockChange {
    /// Another retention, or none.
    Retention {
        /// It.
        retention: Option<Retention>,
    },
    /// A legal hold put on, or taken off.
    Hold {
        /// Put on.
        on: bool,
    },
}
crate::codec_enum!(LockChange { 1 => Retention { retention }, 2 => Hold { on } });

/// `tag`: gives a version other tags. Output: `Answer<Entry>`, the entry of the version. Refusals:
/// `NoBucket`, `NoKey`, `NoVersion`, `DeleteMarker`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SetTags {
    /// The key.
    pub key: Bytes,
    /// Which version; `None` for the newest.
    pub version: Option<Version>,
    /// All of its tags.
    pub tags: BTreeMap<String, String>,
}
crate::codec_struct!(SetTags { key, version, tags });

/// `registry.configure`: changes a bucket's settings, and raises their revision. Output:
/// `Answer<BucketRecord>`, as it is now; `NoBucket`, `BucketState`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigureBucket {
    /// The name.
    pub name: String,
    /// The identity.
    pub id: BucketId,
    /// The change.
    pub change: SettingsChange,
}
crate::codec_struct!(ConfigureBucket { name, id, change });

/// A change of a bucket's settings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SettingsChange {
    /// Versions are kept, or not any more. `BucketState` for suspending, or switching off, what is not
    /// allowed: a bucket with object lock keeps its versions, and no bucket forgets that it had some.
    Versioning {
        /// Not [`Versioning::Off`].
        versioning: Versioning,
    },
    /// Object lock is there from now on. `BucketState` unless versions are kept.
    Lock {
        /// The retention of new objects.
        retention: Option<DefaultRetention>,
    },
}
crate::codec_enum!(SettingsChange { 1 => Versioning { versioning }, 2 => Lock { retention } });
