//! The key ring: named keys for SSE-KMS, as a thread of a gateway knows them.
//!
//! What keys and versions there are to be is in the cluster (`store_base::bucket`, the key ring). The secret of a
//! version is made here, when the first body is to be written with it, and kept in the cluster, sealed with a key
//! of the cluster ([`super::ring::Ring`]).
//!
//! A key is believed for [`BELIEVED_FOR`]: so long a gateway may go on with one that was disabled, or with the version
//! before the newest. More than that no cache can spoil: a version that is not known is looked up again, a key
//! that was deleted had been out of use for days, and a key that was made anew under an old name has
//! another serial.

use super::keys::{DataKey, NamedKey, Wrapping};
use super::ring::Ring;
use crate::catalogue::{Catalogue, CatalogueError};
use crate::keyring::KeyRing;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;
use store_base::bucket::{
    ChangeKms, KMS_KEY_DEFAULT, KmsChange, KmsGrip, KmsKey, KmsRefusal, KmsVersion, WriteId,
};
use store_base::error::Error;
use store_base::machine::Time;
use store_shell::clock;

/// For how long a gateway believes what it knows of a key.
pub const BELIEVED_FOR: Duration = Duration::from_secs(5);

/// Most keys that are remembered; all are forgotten when there are more.
const KNOWN_MAX: usize = 1000;

/// How often a version is tried to be made, if others rotate the key meanwhile.
const TRIES_MAX: u32 = 4;

/// Why a key is not to be had.
#[derive(Clone, Debug, thiserror::Error)]
pub enum KmsError {
    /// There is no such key, or not any more: tell the client.
    #[error("there is no such key")]
    Missing,
    /// It is disabled: tell the client.
    #[error("the key is disabled")]
    Disabled,
    /// It is going to be deleted: tell the client.
    #[error("the key is going to be deleted")]
    Leaving,
    /// The cluster could not do it.
    #[error(transparent)]
    Catalogue(#[from] CatalogueError),
}

/// What a secret is asked of: the cluster, its keys, and the monitor's secret.
#[derive(Clone, Copy)]
pub struct Sources<'a> {
    /// Where keys are kept.
    pub catalogue: &'a dyn Catalogue,
    /// The cluster's keys.
    pub ring: &'a Ring,
    /// What opens those.
    pub secrets: &'a dyn KeyRing,
}

/// The key ring as a thread of a gateway knows it.
#[derive(Default)]
pub struct NamedKeys {
    known: RefCell<BTreeMap<String, Rc<Known>>>,
}

struct Known {
    key: KmsKey,
    until: Time,
    /// The secrets that were opened, by version.
    opened: RefCell<BTreeMap<u32, DataKey>>,
}

impl NamedKeys {
    /// The key to wrap with, and what is to be kept of it. `grip` says the key and the context. The default key is
    /// made if it is not there.
    pub async fn newest(
        &self,
        from: Sources<'_>,
        mut grip: KmsGrip,
    ) -> Result<(KmsGrip, NamedKey), KmsError> {
        let mut known = self.usable(from, &grip.key).await?;
        for _ in 0..TRIES_MAX {
            let wanted = known.key.wanted;
            if known.key.version(wanted).is_some() {
                let secret = secret(from, &known, wanted).await?;
                (grip.serial, grip.version) = (known.key.serial, wanted);
                let key = NamedKey::new(secret, &grip.context);
                return Ok((grip, key));
            }
            known = self.supply(from, &known.key).await?;
        }
        Err(busy(&grip.key))
    }

    /// The key that this body's was wrapped with.
    pub async fn of_grip(&self, from: Sources<'_>, grip: &KmsGrip) -> Result<NamedKey, KmsError> {
        let has = |known: &Known| {
            known.key.serial == grip.serial && known.key.version(grip.version).is_some()
        };
        let mut known = self.usable(from, &grip.key).await?;
        if !has(&known) {
            // It was made after we looked.
            known = allowed(self.look_up(from, &grip.key).await?)?;
        }
        if known.key.serial != grip.serial {
            return Err(KmsError::Missing);
        }
        Ok(NamedKey::new(secret(from, &known, grip.version).await?, &grip.context))
    }

    /// A key that may be used.
    async fn usable(&self, from: Sources<'_>, id: &str) -> Result<Rc<Known>, KmsError> {
        let known = self.known.borrow().get(id).filter(|known| clock::now() < known.until).cloned();
        if let Some(known) = known {
            return allowed(known);
        }
        let found = match self.look_up(from, id).await {
            Err(KmsError::Missing) if id == KMS_KEY_DEFAULT => self.make_default(from).await,
            found => found,
        };
        allowed(found?)
    }

    async fn look_up(&self, from: Sources<'_>, id: &str) -> Result<Rc<Known>, KmsError> {
        match from.catalogue.kms_key(id).await? {
            Some(key) => Ok(self.learn(key)),
            None => {
                self.known.borrow_mut().remove(id);
                Err(KmsError::Missing)
            }
        }
    }

    async fn make_default(&self, from: Sources<'_>) -> Result<Rc<Known>, KmsError> {
        let description = "used where a request names no key".to_owned();
        let change = KmsChange::Create { serial: WriteId(clock::random()), description };
        match from.catalogue.change_kms(change_of(KMS_KEY_DEFAULT, change)).await? {
            Ok(key) => Ok(self.learn(key)),
            // Somebody was faster.
            Err(KmsRefusal::Exists {}) => self.look_up(from, KMS_KEY_DEFAULT).await,
            Err(why) => Err(refused(KMS_KEY_DEFAULT, why)),
        }
    }

    /// Makes the secret of the version that is wanted, if nobody is faster.
    async fn supply(&self, from: Sources<'_>, key: &KmsKey) -> Result<Rc<Known>, KmsError> {
        let (cluster_version, wrapping) = from.ring.newest(from.catalogue, from.secrets).await?;
        let (wrap, version) = (WriteId(clock::random()), key.wanted);
        let wrapped_key = wrapping.wrap_to(&DataKey::random(), &wrap, &place(key, version));
        let created_ms = clock::timestamp().millis();
        let version = KmsVersion { version, created_ms, cluster_version, wrap, wrapped_key };
        let change = change_of(&key.id, KmsChange::Supply { version });
        match from.catalogue.change_kms(change).await? {
            Ok(key) => {
                tracing::info!(key = %key.id, version = key.wanted, "a version of a key has its secret");
                Ok(self.learn(key))
            }
            Err(KmsRefusal::Overtaken {}) => allowed(self.look_up(from, &key.id).await?),
            Err(why) => Err(refused(&key.id, why)),
        }
    }

    fn learn(&self, key: KmsKey) -> Rc<Known> {
        let mut all = self.known.borrow_mut();
        if all.len() >= KNOWN_MAX {
            all.clear();
        }
        let before = all.get(&key.id).filter(|known| known.key.serial == key.serial);
        let opened = before.map(|known| known.opened.borrow().clone()).unwrap_or_default();
        let until = clock::now() + BELIEVED_FOR;
        let known = Rc::new(Known { key, until, opened: RefCell::new(opened) });
        all.insert(known.key.id.clone(), known.clone());
        known
    }
}

fn change_of(id: &str, change: KmsChange) -> ChangeKms {
    ChangeKms { id: id.to_owned(), change }
}

fn allowed(known: Rc<Known>) -> Result<Rc<Known>, KmsError> {
    match (known.key.is_leaving(), known.key.enabled) {
        (true, _) => Err(KmsError::Leaving),
        (false, false) => Err(KmsError::Disabled),
        (false, true) => Ok(known),
    }
}

fn refused(id: &str, why: KmsRefusal) -> KmsError {
    match why {
        KmsRefusal::NoKey {} => KmsError::Missing,
        KmsRefusal::Disabled {} => KmsError::Disabled,
        KmsRefusal::Leaving {} => KmsError::Leaving,
        KmsRefusal::Full {} => {
            let why = format!("key {id}: the key ring has all that it can have");
            CatalogueError::from(Error::Full(why)).into()
        }
        KmsRefusal::Exists {} | KmsRefusal::Staying {} | KmsRefusal::Overtaken {} => busy(id),
    }
}

fn busy(id: &str) -> KmsError {
    let why = format!("key {id} is being changed all the time");
    CatalogueError::from(Error::Unavailable(why)).into()
}

/// What the secret of a version is bound to.
fn place(key: &KmsKey, version: u32) -> Vec<u8> {
    [&b"store kms"[..], &key.serial.0, &version.to_be_bytes(), key.id.as_bytes()].concat()
}

async fn secret(from: Sources<'_>, known: &Known, version: u32) -> Result<DataKey, KmsError> {
    if let Some(secret) = known.opened.borrow().get(&version) {
        return Ok(secret.clone());
    }
    let damaged = || {
        let why = format!("version {version} of key {} does not open", known.key.id);
        KmsError::from(CatalogueError::from(Error::Damaged(why)))
    };
    let made = known.key.version(version).ok_or_else(damaged)?;
    let Sources { catalogue, ring, secrets } = from;
    let wrapping = ring.version(catalogue, secrets, made.cluster_version).await?;
    let place = place(&known.key, version);
    let secret = wrapping.unwrap_from(&made.wrapped_key, &made.wrap, &place);
    let secret = secret.ok_or_else(damaged)?;
    known.opened.borrow_mut().insert(version, secret.clone());
    Ok(secret)
}

#[cfg(test)]
mod tests;
