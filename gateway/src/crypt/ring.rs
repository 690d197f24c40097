//! The cluster's keys: made by the first gateway that needs one, kept in the cluster, sealed with the secret
//! that the monitor gives to gateways. Who has the disks alone has no key.
//!
//! The newest key wraps; all of them unwrap. A new one is made on demand (rotation): by the admin port, or by the first
//! gateway that sees that an operator asked for one. Other gateways go on with the one before for at most
//! [`BELIEVED_FOR`]. None is ever removed.

use super::keys::{ClusterKey, KEY_BYTES, cipher, derive};
use crate::catalogue::{Catalogue, CatalogueError};
use crate::keyring::KeyRing;
use ring::aead::{Aad, Nonce};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::time::Duration;
use store_base::bucket::SealedKey;
use store_base::error::Error;
use store_base::machine::Time;
use store_shell::clock;

/// For how long a gateway takes the newest key that it knows for the newest there is.
pub const BELIEVED_FOR: Duration = Duration::from_secs(60);

const NONCE_BYTES: usize = 12;

/// The cluster's keys as a thread of a gateway knows them.
#[derive(Default)]
pub struct Ring {
    known: RefCell<Known>,
}

#[derive(Default)]
struct Known {
    keys: BTreeMap<u32, ClusterKey>,
    until: Option<Time>,
}

fn no_secret() -> CatalogueError {
    Error::Unavailable("the monitor gave no key to open the cluster's keys with".into()).into()
}

fn damaged(version: u32) -> CatalogueError {
    Error::Damaged(format!("key {version} of the cluster does not open")).into()
}

impl Ring {
    /// The key to wrap with, and its version. Makes the first one.
    pub async fn newest(
        &self,
        catalogue: &dyn Catalogue,
        secrets: &dyn KeyRing,
    ) -> Result<(u32, ClusterKey), CatalogueError> {
        if self.known.borrow().until.is_some_and(|until| clock::now() < until)
            && let Some(newest) = self.known_newest()
        {
            return Ok(newest);
        }
        let mut stored = catalogue.cluster_keys().await?;
        let newest = stored.last().map_or(0, |key| key.version);
        if newest == 0 || catalogue.wanted_cluster_key().await? > newest {
            let secret = secrets.seal_key().ok_or_else(no_secret)?;
            // If somebody is faster, his is what comes back.
            stored = catalogue.add_cluster_key(new_key(&secret, newest + 1)).await?;
            tracing::info!(version = newest + 1, "made a key of the cluster for encrypted objects");
        }
        self.learn(secrets, &stored)?;
        self.known.borrow_mut().until = Some(clock::now() + BELIEVED_FOR);
        self.known_newest().ok_or_else(no_secret)
    }

    /// The key of a version.
    pub async fn version(
        &self,
        catalogue: &dyn Catalogue,
        secrets: &dyn KeyRing,
        version: u32,
    ) -> Result<ClusterKey, CatalogueError> {
        if let Some(key) = self.known.borrow().keys.get(&version) {
            return Ok(key.clone());
        }
        let stored = catalogue.cluster_keys().await?;
        self.learn(secrets, &stored)?;
        let found = self.known.borrow().keys.get(&version).cloned();
        found.ok_or_else(|| damaged(version))
    }

    fn known_newest(&self) -> Option<(u32, ClusterKey)> {
        let known = self.known.borrow();
        known.keys.last_key_value().map(|(version, key)| (*version, key.clone()))
    }

    fn learn(&self, secrets: &dyn KeyRing, stored: &[SealedKey]) -> Result<(), CatalogueError> {
        let secret = secrets.seal_key().ok_or_else(no_secret)?;
        let mut known = self.known.borrow_mut();
        for key in stored {
            if let Entry::Vacant(place) = known.keys.entry(key.version) {
                place.insert(opened(&secret, key).ok_or_else(|| damaged(key.version))?);
            }
        }
        Ok(())
    }
}

/// A new key as it is stored, sealed with the monitor's secret.
pub fn new_key(secret: &[u8], version: u32) -> SealedKey {
    sealed(secret, version, &clock::random())
}

/// The form is: nonce (12), ciphertext (32), tag (16); the version is the associated data.
fn sealed(secret: &[u8], version: u32, key: &[u8; KEY_BYTES]) -> SealedKey {
    let nonce: [u8; NONCE_BYTES] = clock::random();
    let mut text = key.to_vec();
    cipher(&derive(secret, &[], &[b"store cluster keys"]))
        .seal_in_place_append_tag(
            Nonce::assume_unique_for_key(nonce),
            Aad::from(version.to_be_bytes()),
            &mut text,
        )
        .expect("32 bytes are not too long");
    let created_ms = clock::timestamp().millis();
    SealedKey { version, created_ms, sealed: [&nonce[..], &text].concat().into() }
}

fn opened(secret: &[u8], key: &SealedKey) -> Option<ClusterKey> {
    let (nonce, text) = key.sealed.split_at_checked(NONCE_BYTES)?;
    let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
    let mut text = text.to_vec();
    let aad = Aad::from(key.version.to_be_bytes());
    let plain = cipher(&derive(secret, &[], &[b"store cluster keys"]))
        .open_in_place(nonce, aad, &mut text)
        .ok()?;
    Some(ClusterKey(<[u8; KEY_BYTES]>::try_from(&*plain).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_opens_with_the_secret_and_as_its_version_only() {
        let key = sealed(b"secret", 3, &[7; KEY_BYTES]);
        assert_eq!(opened(b"secret", &key).unwrap().0, [7; KEY_BYTES]);
        assert!(opened(b"other", &key).is_none());
        assert!(opened(b"secret", &SealedKey { version: 4, ..key.clone() }).is_none());
        let cut = SealedKey { sealed: key.sealed.slice(..5), ..key };
        assert!(opened(b"secret", &cut).is_none());
    }
}
