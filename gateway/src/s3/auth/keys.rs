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
    pub(super) fn key(&mut self, access_key: &str, secret: &str, scope: &Scope<'_>) -> Key {
        let name = (access_key.to_owned(), scope.to_string());
        if let Some((of, key)) = self.keys.get(&name)
            && of == secret
        {
            return key.clone();
        }
        if self.keys.len() >= CACHED_MAX {
            self.keys.clear();
        }
        let key = derive(secret, scope);
        self.keys.insert(name, (secret.to_owned(), key.clone()));
        key
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
