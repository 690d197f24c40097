//! Secrets at rest: AES-256-GCM under the cluster's seal key.
//!
//! `nonce (12), ciphertext, tag (16)`; the access key is the associated data, so a sealed secret cannot be moved
//! to another key. What may never change: this form.

use crate::machine::Sealer;
use crate::machine::users::NONCE_LEN;
use bytes::Bytes;
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};

/// Length of a seal key.
pub const KEY_LEN: usize = 32;

/// Seals with the cluster's key.
pub struct RingSealer {
    key: LessSafeKey,
}

impl RingSealer {
    /// The key must be [`KEY_LEN`] bytes.
    pub fn new(key: &[u8]) -> RingSealer {
        let key = UnboundKey::new(&AES_256_GCM, key).expect("bootstrap checks the key's length");
        RingSealer { key: LessSafeKey::new(key) }
    }
}

impl Sealer for RingSealer {
    fn seal(&self, access_key: &str, secret: &str, nonce: [u8; NONCE_LEN]) -> Bytes {
        let mut sealed = secret.as_bytes().to_vec();
        self.key
            .seal_in_place_append_tag(
                Nonce::assume_unique_for_key(nonce),
                Aad::from(access_key.as_bytes()),
                &mut sealed,
            )
            .expect("a secret is far below the cipher's limit");
        [&nonce[..], &sealed].concat().into()
    }

    fn unseal(&self, access_key: &str, sealed: &[u8]) -> Option<String> {
        let (nonce, text) = sealed.split_at_checked(NONCE_LEN)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
        let mut text = text.to_vec();
        let plain =
            self.key.open_in_place(nonce, Aad::from(access_key.as_bytes()), &mut text).ok()?;
        String::from_utf8(plain.to_vec()).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_sealed_opens_only_for_its_key_and_unchanged() {
        let sealer = RingSealer::new(&[7; KEY_LEN]);
        let sealed = sealer.seal("AK", "secret", [1; NONCE_LEN]);
        assert_eq!(sealed.len(), NONCE_LEN + 6 + 16);
        assert_eq!(sealer.unseal("AK", &sealed).as_deref(), Some("secret"));
        assert_eq!(sealer.unseal("AL", &sealed), None);
        assert_eq!(RingSealer::new(&[8; KEY_LEN]).unseal("AK", &sealed), None);
        for cut in 0..sealed.len() {
            assert_eq!(sealer.unseal("AK", &sealed[..cut]), None);
        }
        for at in 0..sealed.len() {
            let mut changed = sealed.to_vec();
            changed[at] ^= 1;
            assert_eq!(sealer.unseal("AK", &changed), None, "byte {at}");
        }
    }
}
