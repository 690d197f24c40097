//! What open entries do to objects, laid over what the store shows.
//!
//! A staged entry has no effect in the store until it is applied, yet the next op vector on its object
//! must see it: writes of one object pipeline. An [`Overlay`] holds, per object, the merged effect of the
//! open entries, except bytes: those stay in the entries, and a vector that needs bytes of such an object
//! waits until they are applied.
//!
//! Invariants:
//! - `store ← delta` is the object after its newest open entry, whatever prefix of the open entries the
//!   store has applied already;
//! - a delta holds nothing of an entry that was reported applied, so an object that always has open
//!   entries (a busy bucket index) does not grow in memory;
//! - entries of one object are pushed and applied in the order of their versions.

use crate::store::{Change, Mutation};
use bytes::Bytes;
use std::collections::{BTreeMap, VecDeque};
use std::ops::Bound;
use store_base::object::ObjectInfo;
use store_base::{ObjectName, Version};

/// What a layer says of a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Layered<T> {
    /// It is this.
    Known(T),
    /// Look below.
    Below,
}

/// The removal of a range of omap keys.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Hidden {
    version: Version,
    from: Bytes,
    /// `None`: to the last key.
    to: Option<Bytes>,
}

impl Hidden {
    fn has(&self, key: &[u8]) -> bool {
        self.from[..] <= *key && self.to.as_ref().is_none_or(|to| *key < to[..])
    }
}

/// The merged effect of some changes on one object.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Delta {
    /// The object was removed: nothing below shows.
    removed: Option<Version>,
    xattrs: BTreeMap<Bytes, (Version, Option<Bytes>)>,
    omap: BTreeMap<Bytes, (Version, Option<Bytes>)>,
    hidden: Vec<Hidden>,
    header: Option<(Version, Bytes)>,
    /// The newest change of the byte part.
    data: Option<Version>,
}

impl Delta {
    /// Takes in one more change.
    pub(crate) fn apply(&mut self, version: Version, change: &Change) {
        match change {
            Change::Write { .. } | Change::Zero { .. } | Change::Truncate { .. } => {
                self.data = Some(version);
            }
            Change::Xattrs { set } => {
                let values =
                    set.iter().map(|(name, value)| (name.clone(), (version, value.clone())));
                self.xattrs.extend(values);
            }
            Change::Omap { set } => {
                let values = set.iter().map(|(key, value)| (key.clone(), (version, value.clone())));
                self.omap.extend(values);
            }
            Change::OmapRemoveRange { from, to } => {
                if from < to {
                    self.hide(version, from.clone(), Some(to.clone()));
                }
            }
            Change::OmapClear {} => {
                self.hide(version, Bytes::new(), None);
                self.header = Some((version, Bytes::new()));
            }
            Change::OmapHeader { data } => self.header = Some((version, data.clone())),
            Change::Remove {} => {
                *self = Delta { removed: Some(version), data: Some(version), ..Delta::default() };
            }
        }
    }

    fn hide(&mut self, version: Version, from: Bytes, to: Option<Bytes>) {
        let hidden = Hidden { version, from, to };
        self.omap.retain(|key, _| !hidden.has(key));
        // An older range within the new one says nothing more.
        self.hidden.retain(|old| {
            let ends_within = match (&old.to, &hidden.to) {
                (_, None) => true,
                (None, Some(_)) => false,
                (Some(old), Some(new)) => old <= new,
            };
            !(hidden.from <= old.from && ends_within)
        });
        self.hidden.push(hidden);
    }

    /// Forgets what `mutation`, of this version, brought: the layer below has it now.
    fn forget(&mut self, version: Version, mutation: &Mutation) {
        let is_old = |of: Version| of <= version;
        for change in &mutation.changes {
            let (map, set) = match change {
                Change::Xattrs { set } => (&mut self.xattrs, set),
                Change::Omap { set } => (&mut self.omap, set),
                _ => continue,
            };
            for key in set.keys() {
                if map.get(key).is_some_and(|(of, _)| is_old(*of)) {
                    map.remove(key);
                }
            }
        }
        self.hidden.retain(|hidden| !is_old(hidden.version));
        self.removed = self.removed.filter(|of| !is_old(*of));
        self.data = self.data.filter(|of| !is_old(*of));
        if self.header.as_ref().is_some_and(|(of, _)| is_old(*of)) {
            self.header = None;
        }
    }

    /// Whether nothing of the layer below shows.
    pub(crate) fn replaces(&self) -> bool {
        self.removed.is_some()
    }

    /// Whether the byte part differs from that of the layer below.
    pub(crate) fn changes_data(&self) -> bool {
        self.data.is_some()
    }

    fn otherwise<T>(&self, absent: T) -> Layered<T> {
        if self.replaces() { Layered::Known(absent) } else { Layered::Below }
    }

    pub(crate) fn xattr(&self, name: &[u8]) -> Layered<Option<Bytes>> {
        match self.xattrs.get(name) {
            Some((_, value)) => Layered::Known(value.clone()),
            None => self.otherwise(None),
        }
    }

    /// Turns the xattrs of the layer below into those with this one.
    pub(crate) fn lay_xattrs(&self, below: &mut BTreeMap<Bytes, Bytes>) {
        if self.replaces() {
            below.clear();
        }
        for (name, (_, value)) in &self.xattrs {
            match value {
                Some(value) => below.insert(name.clone(), value.clone()),
                None => below.remove(name),
            };
        }
    }

    pub(crate) fn header(&self) -> Layered<Bytes> {
        match &self.header {
            Some((_, data)) => Layered::Known(data.clone()),
            None => self.otherwise(Bytes::new()),
        }
    }

    pub(crate) fn omap(&self, key: &[u8]) -> Layered<Option<Bytes>> {
        match self.omap.get(key) {
            Some((_, value)) => Layered::Known(value.clone()),
            None if self.hidden.iter().any(|hidden| hidden.has(key)) => Layered::Known(None),
            None => self.otherwise(None),
        }
    }

    /// The first key at or behind `from` of which this layer says anything by name.
    pub(crate) fn next_key(&self, from: Bound<&[u8]>) -> Option<&Bytes> {
        self.omap.range::<[u8], _>((from, Bound::Unbounded)).next().map(|(key, _)| key)
    }

    /// If this layer hides `key` of the layer below by a range: where that range ends (`Some(None)`: never).
    pub(crate) fn hidden_until(&self, key: &[u8]) -> Option<Option<&Bytes>> {
        if self.replaces() {
            return Some(None);
        }
        let covering = self.hidden.iter().filter(|hidden| hidden.has(key));
        covering.map(|hidden| hidden.to.as_ref()).reduce(|a, b| Some(a?.max(b?)))
    }
}

/// The open entries of one object.
#[derive(Clone, Debug, Default)]
pub(crate) struct OpenObject {
    pub(crate) delta: Delta,
    /// After the newest entry.
    pub(crate) info: Option<ObjectInfo>,
    entries: VecDeque<(Version, Mutation)>,
}

impl OpenObject {
    fn push(&mut self, version: Version, mutation: Mutation) {
        let newest = self.entries.back().map(|(version, _)| *version);
        assert!(
            newest < Some(version),
            "entries of an object are opened in the order of their versions"
        );
        mutation.changes.iter().for_each(|change| self.delta.apply(version, change));
        self.info.clone_from(&mutation.info);
        self.entries.push_back((version, mutation));
    }

    fn newest(&self) -> Version {
        self.entries.back().map_or(Version::ZERO, |(version, _)| *version)
    }
}

/// The open (staged, unapplied) entries of a placement group, as later op vectors must see them.
#[derive(Clone, Debug, Default)]
pub struct Overlay {
    objects: BTreeMap<ObjectName, OpenObject>,
    /// Whose entry each version is, so that applying does not look at all objects.
    versions: BTreeMap<Version, ObjectName>,
}

impl Overlay {
    /// Nothing is open.
    pub fn new() -> Self {
        Self::default()
    }

    /// An entry was staged. Versions only grow.
    pub fn push(&mut self, version: Version, object: &ObjectName, mutation: Mutation) {
        let newest = self.versions.last_key_value().map(|(version, _)| *version);
        assert!(newest < Some(version), "entries are opened in the order of their versions");
        self.versions.insert(version, object.clone());
        self.objects.entry(object.clone()).or_default().push(version, mutation);
    }

    /// All entries up to `to` were applied to the store.
    pub fn applied(&mut self, to: Version) {
        while let Some(first) = self.versions.first_entry().filter(|entry| *entry.key() <= to) {
            let (version, object) = first.remove_entry();
            let open =
                self.objects.get_mut(&object).expect("an open entry belongs to an open object");
            let (front, mutation) = open.entries.pop_front().expect("and is the oldest of it");
            assert_eq!(front, version, "entries are applied in the order of their versions");
            open.delta.forget(version, &mutation);
            if open.entries.is_empty() {
                self.objects.remove(&object);
            }
        }
    }

    /// All entries behind `after` were dropped: they never happened.
    pub fn dropped(&mut self, after: Version) {
        let gone = self.versions.split_off(&after);
        for (version, object) in gone {
            if version == after {
                self.versions.insert(version, object);
                continue;
            }
            // An object with several dropped entries is rebuilt at the first of them.
            let Some(open) = self.objects.remove(&object) else { continue };
            let kept = open.entries.into_iter().filter(|(version, _)| *version <= after);
            let mut rebuilt = OpenObject::default();
            kept.for_each(|(version, mutation)| rebuilt.push(version, mutation));
            if !rebuilt.entries.is_empty() {
                self.objects.insert(object, rebuilt);
            }
        }
    }

    /// Nothing is open any more.
    pub fn clear(&mut self) {
        *self = Overlay::default();
    }

    /// The newest open entry of an object, if it has any.
    pub fn newest(&self, object: &ObjectName) -> Option<Version> {
        self.objects.get(object).map(OpenObject::newest)
    }

    /// Whether nothing is open.
    pub fn is_empty(&self) -> bool {
        self.versions.is_empty()
    }

    /// How many entries are open.
    pub fn len(&self) -> usize {
        self.versions.len()
    }

    pub(crate) fn object(&self, object: &ObjectName) -> Option<&OpenObject> {
        self.objects.get(object)
    }
}
