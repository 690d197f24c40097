//! The smaller maps: users and keys, settings, gateways and metadata services.

use crate::ids::{Epoch, Incarnation, Timestamp};
use crate::map::WrongEpoch;
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// A key pair of a user.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AccessKey {
    /// The secret, sealed with the cluster key (nonce, then AES-256-GCM of the secret; the access key
    /// id is the associated data). Services that may see it unseal it.
    pub sealed_secret: Bytes,
    /// When it was made.
    pub created: Timestamp,
    /// Refused, but kept.
    pub disabled: bool,
}
crate::codec_versioned!(AccessKey, 1, 1 { sealed_secret, created, disabled });

/// A person or program with keys.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct User {
    /// For people.
    pub display_name: String,
    /// May use the admin port and every bucket.
    pub admin: bool,
    /// Refused everywhere.
    pub suspended: bool,
    /// By access key id.
    pub keys: BTreeMap<String, AccessKey>,
    /// By the system's name, as in Ceph: "mon" → "allow r".
    pub caps: BTreeMap<String, String>,
    /// When it was made.
    pub created: Timestamp,
}
crate::codec_versioned!(User, 1, 1 { display_name, admin, suspended, keys, caps, created });

/// All users.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AuthMap {
    /// +1 with every change.
    pub epoch: Epoch,
    /// By user name.
    pub users: BTreeMap<String, User>,
    /// Key that seals what gateways may unseal; travels only to services, over authenticated links.
    /// Empty in the form that is stored: there it is in the monitor's key file.
    pub seal_key: Bytes,
}
crate::codec_versioned!(AuthMap, 1, 1 { epoch, users, seal_key });

impl AuthMap {
    /// The user that has this access key, and the key.
    pub fn by_access_key(&self, id: &str) -> Option<(&String, &User, &AccessKey)> {
        self.users.iter().find_map(|(name, user)| user.keys.get(id).map(|key| (name, user, key)))
    }
}

/// Settings made at run time: section ("global", "daemon", "daemon.3", …) → key → value.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConfigMap {
    /// +1 with every change.
    pub epoch: Epoch,
    /// By section, then key.
    pub sections: BTreeMap<String, BTreeMap<String, String>>,
}
crate::codec_versioned!(ConfigMap, 1, 1 { epoch, sections });

impl ConfigMap {
    /// The value for a service: its own section, then its role's, then "global".
    pub fn value(&self, role: &str, name: &str, key: &str) -> Option<&str> {
        let own = format!("{role}.{name}");
        [own.as_str(), role, "global"]
            .iter()
            .find_map(|section| self.sections.get(*section)?.get(key).map(String::as_str))
    }
}

/// A gateway or metadata service that was heard of.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceInfo {
    /// Where it listens.
    pub address: String,
    /// Which life of it.
    pub incarnation: Incarnation,
    /// "standby", "active", "down".
    pub state: String,
    /// What it tells of itself.
    pub details: BTreeMap<String, String>,
}
crate::codec_versioned!(ServiceInfo, 1, 1 { address, incarnation, state, details });

/// Gateways and metadata services, by role and name ("gateway.a").
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceMap {
    /// +1 with every change.
    pub epoch: Epoch,
    /// By "role.name".
    pub services: BTreeMap<String, ServiceInfo>,
}
crate::codec_versioned!(ServiceMap, 1, 1 { epoch, services });

/// These maps are small and change seldom: a step is the whole map.
pub fn check_step(have: Epoch, step: Epoch) -> Result<(), WrongEpoch> {
    if step > have { Ok(()) } else { Err(WrongEpoch { step: step.0, have: have.0 }) }
}
