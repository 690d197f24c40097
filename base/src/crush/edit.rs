//! Changes of the map. Each is refused as a whole or leaves every invariant as it was.
//!
//! A **location** is a list of (type, name), in any order: `[("root", "default"), ("host", "a")]`.
//! What it names and does not exist is made. Its lowest bucket becomes the parent; each bucket that was
//! made, or that hangs nowhere yet, is hung into the next one above. A bucket that hangs somewhere stays
//! there. If what was made ends below a root, it goes under the root [`ROOT_DEFAULT`], where there is one.

use super::codec::is_name;
use super::{
    BUCKETS_MAX, Bucket, CrushMap, DEVICES_MAX, Item, ROOT_DEFAULT, RULES_MAX, Rule, Step,
    TYPE_DEVICE,
};
use crate::ids::DaemonId;

/// Tries for each slot in rules for erasure-coded pools: holes are dear there.
const ERASURE_TRIES: u32 = 100;

/// Tries for a device in a bucket, in the same.
const ERASURE_LEAF_TRIES: u32 = 5;

/// Why a change was refused. Nothing has changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EditError {
    /// What was named is not there.
    #[error("there is no {0} in the CRUSH map")]
    NotFound(String),
    /// The name is taken by something else.
    #[error("{0} exists already in the CRUSH map")]
    Exists(String),
    /// It is used, or not empty.
    #[error("{0} is in use")]
    InUse(String),
    /// It can never be done so.
    #[error("{0}")]
    Invalid(String),
}

impl CrushMap {
    /// Makes an empty bucket that hangs nowhere; its id.
    pub fn add_bucket(&mut self, name: &str, kind: &str) -> Result<i32, EditError> {
        self.change(|map| map.make_bucket(name, kind))
    }

    /// Hangs a bucket, with all in it, into another place.
    pub fn move_bucket(&mut self, name: &str, location: &[(&str, &str)]) -> Result<(), EditError> {
        self.change(|map| {
            let bucket = map.find_bucket(name)?;
            let item = Item { id: bucket.id, weight: bucket.weight() };
            map.detach(item.id);
            map.place(item, location)
        })
    }

    /// Gives a bucket another name.
    pub fn rename_bucket(&mut self, name: &str, new_name: &str) -> Result<(), EditError> {
        self.change(|map| {
            let id = map.find_bucket(name)?.id;
            check_name(new_name)?;
            if map.bucket_by_name(new_name).is_some() {
                return Err(EditError::Exists(new_name.into()));
            }
            if let Some(bucket) = map.buckets.get_mut(&id) {
                bucket.name = new_name.into();
            }
            Ok(())
        })
    }

    /// Removes an empty bucket that no rule takes.
    pub fn remove_bucket(&mut self, name: &str) -> Result<(), EditError> {
        self.change(|map| {
            let bucket = map.find_bucket(name)?;
            let id = bucket.id;
            if !bucket.items.is_empty() || map.is_taken(id) {
                return Err(EditError::InUse(name.into()));
            }
            map.detach(id);
            map.buckets.remove(&id);
            Ok(())
        })
    }

    /// Puts a device in, or moves one and sets its weight.
    pub fn insert_device(
        &mut self,
        device: DaemonId,
        weight: u32,
        location: &[(&str, &str)],
    ) -> Result<(), EditError> {
        if !(0..DEVICES_MAX).contains(&device.0) {
            return Err(EditError::Invalid(format!(
                "{device} is not a device id (0 to {})",
                DEVICES_MAX - 1
            )));
        }
        self.change(|map| {
            map.detach(device.0);
            map.place(Item { id: device.0, weight }, location)
        })
    }

    /// Sets a device's weight.
    pub fn reweight_device(&mut self, device: DaemonId, weight: u32) -> Result<(), EditError> {
        self.change(|map| {
            let items = map.buckets.values_mut().flat_map(|bucket| &mut bucket.items);
            match items.into_iter().find(|item| item.id == device.0 && device.0 >= 0) {
                Some(item) => item.weight = weight,
                None => return Err(EditError::NotFound(device.to_string())),
            }
            Ok(())
        })
    }

    /// Takes a device out of the map. Its host stays, even if empty.
    pub fn remove_device(&mut self, device: DaemonId) -> Result<(), EditError> {
        self.change(|map| match map.device_weight(device) {
            Some(_) if map.is_taken(device.0) => Err(EditError::InUse(device.to_string())),
            Some(_) => {
                map.detach(device.0);
                Ok(())
            }
            None => Err(EditError::NotFound(device.to_string())),
        })
    }

    /// Adds a rule for replicated pools: every copy in another bucket of type `domain` below `root`.
    pub fn add_rule_replicated(
        &mut self,
        name: &str,
        root: &str,
        domain: &str,
    ) -> Result<u8, EditError> {
        let (item, kind) = (self.find_bucket(root)?.id, self.find_type(domain)?);
        let steps = vec![
            Step::Take { item },
            match kind {
                TYPE_DEVICE => Step::ChooseFirstn { count: 0, kind },
                _ => Step::ChooseLeafFirstn { count: 0, kind },
            },
            Step::Emit {},
        ];
        self.add_rule(Rule { name: name.into(), erasure: false, steps })
    }

    /// Adds a rule for erasure-coded pools: every slot in another bucket of type `domain` below `root`.
    pub fn add_rule_erasure(
        &mut self,
        name: &str,
        root: &str,
        domain: &str,
    ) -> Result<u8, EditError> {
        let (item, kind) = (self.find_bucket(root)?.id, self.find_type(domain)?);
        let steps = vec![
            Step::SetChooseLeafTries { tries: ERASURE_LEAF_TRIES },
            Step::SetChooseTries { tries: ERASURE_TRIES },
            Step::Take { item },
            match kind {
                TYPE_DEVICE => Step::ChooseIndep { count: 0, kind },
                _ => Step::ChooseLeafIndep { count: 0, kind },
            },
            Step::Emit {},
        ];
        self.add_rule(Rule { name: name.into(), erasure: true, steps })
    }

    /// Adds a rule under the lowest free id, which it returns.
    pub fn add_rule(&mut self, rule: Rule) -> Result<u8, EditError> {
        self.change(|map| {
            check_name(&rule.name)?;
            if map.rule_by_name(&rule.name).is_some() {
                return Err(EditError::Exists(format!("rule {}", rule.name)));
            }
            let id = (0..=u8::MAX).find(|id| !map.rules.contains_key(id));
            let id = id.ok_or_else(|| {
                EditError::Invalid(format!("there are {RULES_MAX} rules already, the most allowed"))
            })?;
            map.rules.insert(id, rule);
            Ok(id)
        })
    }

    /// Removes a rule. Whether a pool uses it is for the caller to know.
    pub fn remove_rule(&mut self, name: &str) -> Result<(), EditError> {
        match self.rule_by_name(name) {
            Some((id, _)) => {
                self.rules.remove(&id);
                Ok(())
            }
            None => Err(EditError::NotFound(format!("rule {name}"))),
        }
    }

    /// Changes a copy, sums up its weights and checks it; only then is it the map.
    fn change<T>(
        &mut self,
        edit: impl FnOnce(&mut CrushMap) -> Result<T, EditError>,
    ) -> Result<T, EditError> {
        let mut next = self.clone();
        let value = edit(&mut next)?;
        next.sum_weights();
        next.check().map_err(|e| EditError::Invalid(e.to_string()))?;
        *self = next;
        Ok(value)
    }

    /// Sets the weight of every bucket in its parent, lower types first.
    fn sum_weights(&mut self) {
        let mut order: Vec<(u16, i32)> = self.buckets.values().map(|b| (b.kind, b.id)).collect();
        order.sort();
        let mut weights = std::collections::BTreeMap::new();
        for (_, id) in order {
            let Some(bucket) = self.buckets.get_mut(&id) else { continue };
            for item in &mut bucket.items {
                item.weight = weights.get(&item.id).copied().unwrap_or(item.weight);
            }
            weights.insert(id, bucket.weight());
        }
    }

    fn make_bucket(&mut self, name: &str, kind: &str) -> Result<i32, EditError> {
        check_name(name)?;
        let kind = self.find_type(kind)?;
        if kind == TYPE_DEVICE {
            return Err(EditError::Invalid("a device is no bucket".into()));
        }
        if self.bucket_by_name(name).is_some() {
            return Err(EditError::Exists(name.into()));
        }
        let id = (1..=BUCKETS_MAX).map(|n| -n).find(|id| !self.buckets.contains_key(id));
        let id = id.ok_or_else(|| {
            EditError::Invalid(format!("there are {BUCKETS_MAX} buckets already, the most allowed"))
        })?;
        self.buckets.insert(id, Bucket { id, name: name.into(), kind, items: Vec::new() });
        Ok(id)
    }

    /// Hangs an item that hangs nowhere into the lowest bucket of a location, making what is missing.
    fn place(&mut self, item: Item, location: &[(&str, &str)]) -> Result<(), EditError> {
        let mut above = location
            .iter()
            .map(|(kind, name)| Ok((self.find_type(kind)?, *kind, *name)))
            .collect::<Result<Vec<_>, EditError>>()?;
        above.sort();
        let mut item = item;
        for (number, kind, name) in above {
            let parent = match self.bucket_by_name(name) {
                Some(bucket) if bucket.kind != number => {
                    let is = self.type_name(bucket.kind);
                    return Err(EditError::Exists(format!("{name}, as a {is} and not a {kind},")));
                }
                Some(bucket) => bucket.id,
                None => self.make_bucket(name, kind)?,
            };
            self.hang(item, parent);
            if self.parent_of(parent).is_some() {
                return Ok(());
            }
            item = Item { id: parent, weight: 0 };
        }
        self.root_default(item)
    }

    /// Puts what ended below a root under the default one.
    fn root_default(&mut self, item: Item) -> Result<(), EditError> {
        let kind = self.buckets.get(&item.id).map_or(TYPE_DEVICE, |bucket| bucket.kind);
        match self.bucket_by_name(ROOT_DEFAULT).map(|root| (root.id, root.kind)) {
            Some((root, root_kind)) if kind < root_kind => self.hang(item, root),
            _ if kind == TYPE_DEVICE => {
                return Err(EditError::Invalid("a device needs a location".into()));
            }
            _ => (),
        }
        Ok(())
    }

    fn hang(&mut self, item: Item, parent: i32) {
        if let Some(bucket) = self.buckets.get_mut(&parent) {
            bucket.items.push(item);
        }
    }

    fn detach(&mut self, item: i32) {
        for bucket in self.buckets.values_mut() {
            bucket.items.retain(|child| child.id != item);
        }
    }

    fn is_taken(&self, id: i32) -> bool {
        let mut steps = self.rules.values().flat_map(|rule| &rule.steps);
        steps.any(|step| matches!(step, Step::Take { item } if *item == id))
    }

    fn find_bucket(&self, name: &str) -> Result<&Bucket, EditError> {
        self.bucket_by_name(name).ok_or_else(|| EditError::NotFound(format!("bucket {name}")))
    }

    fn find_type(&self, name: &str) -> Result<u16, EditError> {
        self.type_by_name(name).ok_or_else(|| EditError::NotFound(format!("type {name}")))
    }
}

fn check_name(name: &str) -> Result<(), EditError> {
    match is_name(name) && !name.starts_with("osd.") {
        true => Ok(()),
        false => Err(EditError::Invalid(format!(
            "{name:?} cannot be a name (letters, digits and -_.~, and not osd.…)"
        ))),
    }
}
