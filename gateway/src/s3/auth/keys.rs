//! Signing keys: four HMACs deep, so a few of them are kept.

use super::canonical::{Scope, Signature};
use ring::hmac::{HMAC_SHA256, Key};
use std::collections::BTreeMap;

/// Most derived keys that are kept; all are dropped when there are more.
const CACHED_MAX: usize = 1024;

/// Derived keys of the users who asked lately. A key is bound to the secret it was made from, so a
/// changed secret is never met by an old key.
#[derive(Default)]
pub struct SigningKeys {
    keys: BTreeMap<(String, String), (String, Key)>,
}

impl SigningKeys {
    pub(super) fn key(&self, access_key: &str, secret: &str, scope: &Scope<'_>) -> Key {
        let name = (access_key.to_owned(), scope.to_string());
        match self.keys.get(&name) {
            Some((of, key)) if of == secret => key.clone(),
            _ => derive(secret, scope),
        }
    }

    /// Keeps a key that a right signature was made with: others are anybody's.
    pub(super) fn keep(&mut self, access_key: &str, secret: &str, scope: &Scope<'_>, key: &Key) {
        let name = (access_key.to_owned(), scope.to_string());
        if self.keys.get(&name).is_some_and(|(of, _)| of == secret) {
            return;
        }
        if self.keys.len() >= CACHED_MAX {
            self.keys.clear();
        }
        self.keys.insert(name, (secret.to_owned(), key.clone()));
    }

    /// How many are kept.
    #[cfg(test)]
    pub(super) fn kept(&self) -> usize {
        self.keys.len()
    }
}

fn derive(secret: &str, scope: &Scope<'_>) -> Key {
    let start = Key::new(HMAC_SHA256, format!("AWS4{secret}").as_bytes());
    [scope.day, scope.region, scope.service, "aws4_request"]
        .into_iter()
        .fold(start, |key, step| Key::new(HMAC_SHA256, &sign(&key, step.as_bytes()).0))
}

pub(super) fn sign(key: &Key, bytes: &[u8]) -> Signature {
    let mut signature = [0; 32];
    signature.copy_from_slice(ring::hmac::sign(key, bytes).as_ref());
    Signature(signature)
}
