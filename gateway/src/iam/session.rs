//! Credentials for a while, which need no shared state.
//!
//! A token says on which lasting access key it hangs, and carries, sealed under that key's secret, what was
//! given: the temporary access key, the end, the role, the session's policy. The temporary secret is an HMAC
//! under the lasting secret of the temporary access key and the token's nonce; it is in no token.
//! Every gateway knows the lasting secret, so any of them accepts what any other gave, and after a restart; and as
//! the lasting key is looked up each time, removing or disabling it, or its user, ends all sessions that hang on it.
//! What a role may do is looked up each time as well, so removing the role ends its sessions.
//!
//! The form is, in URL-safe base64, version 1 (1 byte), length of the access key (1), the access key, the nonce
//! (12), and the encoded [`Grant`] under AES-256-GCM, with all before the nonce as associated data.

use super::keys;
use crate::keyring::User;
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use ring::hmac::{HMAC_SHA256, Key, sign};
use store_base::codec::{Decode, Encode};
use store_shell::clock;

const VERSION: u8 = 1;
const NONCE_BYTES: usize = 12;

/// Longest token that is looked at.
const TOKEN_BYTES_MAX: usize = 8 << 10;

/// Bytes of the HMAC that make a secret of 40 letters.
const SECRET_BYTES: usize = 30;

/// What was given.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Grant {
    /// The temporary access key.
    pub access_key: String,
    /// When it was given, in ms since 1970.
    pub issued_ms: u64,
    /// When it ends, in ms since 1970.
    pub end_ms: u64,
    /// The account of the role; empty for none.
    pub role_account: String,
    /// The role.
    pub role: String,
    /// And its id: another of the same name is not meant.
    pub role_id: String,
    /// The name of the session.
    pub name: String,
    /// The session's policy; empty for none.
    pub policy: String,
}
store_base::codec_versioned!(Grant, 1, 1 {
    access_key, issued_ms, end_ms, role_account, role, role_id, name, policy,
});

/// Credentials as they are given out.
pub(super) struct Credentials {
    pub access_key: String,
    pub secret: String,
    pub token: String,
    pub end_ms: u64,
}

fn hmac(secret: &str, parts: &[&[u8]]) -> Vec<u8> {
    sign(&Key::new(HMAC_SHA256, secret.as_bytes()), &parts.concat()).as_ref().to_vec()
}

fn sealing(issuer: &User) -> Option<LessSafeKey> {
    let key = hmac(&issuer.secret, &[b"store sts seal 1\0", issuer.id.as_bytes()]);
    UnboundKey::new(&AES_256_GCM, &key).map(LessSafeKey::new).ok()
}

fn secret(issuer: &User, access_key: &str, nonce: &[u8]) -> String {
    let bytes =
        hmac(&issuer.secret, &[b"store sts secret 1\0", access_key.as_bytes(), &[0], nonce]);
    STANDARD.encode(&bytes[..SECRET_BYTES])
}

/// Gives credentials that hang on a lasting key. `None` only for an access key that is too long.
pub(super) fn issue(issuer_key: &str, issuer: &User, grant: Grant) -> Option<Credentials> {
    let grant = Grant { access_key: keys::temporary(), ..grant };
    let nonce: [u8; NONCE_BYTES] = clock::random();
    let mut head = vec![VERSION, u8::try_from(issuer_key.len()).ok()?];
    head.extend_from_slice(issuer_key.as_bytes());
    let mut sealed = grant.to_bytes().to_vec();
    let key = sealing(issuer)?;
    let aad = Aad::from(&head[..]);
    key.seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), aad, &mut sealed).ok()?;
    let secret = secret(issuer, &grant.access_key, &nonce);
    let token = URL_SAFE_NO_PAD.encode([&head[..], &nonce, &sealed].concat());
    Some(Credentials { access_key: grant.access_key, secret, token, end_ms: grant.end_ms })
}

/// A token that was taken apart, and not yet opened.
pub(super) struct Token {
    head: Vec<u8>,
    /// The access key that it hangs on.
    pub issuer_key: String,
    nonce: [u8; NONCE_BYTES],
    sealed: Vec<u8>,
}

impl Token {
    /// `None` for what is no token.
    pub(super) fn parse(text: &str) -> Option<Token> {
        if text.len() > TOKEN_BYTES_MAX {
            return None;
        }
        let bytes = URL_SAFE_NO_PAD.decode(text).ok()?;
        let (&[version, length], rest) = bytes.split_first_chunk::<2>()?;
        if version != VERSION {
            return None;
        }
        let (issuer_key, rest) = rest.split_at_checked(usize::from(length))?;
        let (nonce, sealed) = rest.split_first_chunk::<NONCE_BYTES>()?;
        Some(Token {
            head: bytes[..2 + usize::from(length)].to_vec(),
            issuer_key: std::str::from_utf8(issuer_key).ok()?.to_owned(),
            nonce: *nonce,
            sealed: sealed.to_vec(),
        })
    }

    /// What was given and the secret, if this issuer gave it and for this access key.
    pub(super) fn open(mut self, issuer: &User, access_key: &str) -> Option<(Grant, String)> {
        let key = sealing(issuer)?;
        let nonce = Nonce::assume_unique_for_key(self.nonce);
        let plain = key.open_in_place(nonce, Aad::from(&self.head[..]), &mut self.sealed).ok()?;
        let grant = Grant::from_bytes(plain.to_vec().into()).ok()?;
        let secret = secret(issuer, access_key, &self.nonce);
        (grant.access_key == access_key).then_some((grant, secret))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user(id: &str, secret: &str) -> User {
        User { id: id.into(), secret: secret.into(), ..User::default() }
    }

    #[test]
    fn tokens_open_for_their_issuer_and_their_key_only() {
        let issuer = user("u", "secret");
        let grant = Grant { end_ms: 7, policy: "p".into(), ..Grant::default() };
        let given = issue("AK", &issuer, grant).expect("short");
        let open = |text: &str, issuer: &User, access_key: &str| {
            Token::parse(text).and_then(|token| token.open(issuer, access_key))
        };
        let (grant, secret) = open(&given.token, &issuer, &given.access_key).expect("a token");
        assert_eq!((grant.end_ms, grant.policy.as_str()), (7, "p"));
        assert_eq!((secret.as_str(), secret.len()), (given.secret.as_str(), 40));
        assert!(!given.token.contains(&given.secret));
        assert_eq!(Token::parse(&given.token).expect("a token").issuer_key, "AK");
        assert!(open(&given.token, &user("u", "changed"), &given.access_key).is_none());
        assert!(open(&given.token, &user("v", "secret"), &given.access_key).is_none());
        assert!(open(&given.token, &issuer, &keys::temporary()).is_none());
        for at in 0..given.token.len() {
            let mut other = given.token.clone().into_bytes();
            other[at] = if other[at] == b'A' { b'B' } else { b'A' };
            let other = String::from_utf8(other).expect("letters");
            assert!(open(&other, &issuer, &given.access_key).is_none(), "{at}");
            assert!(open(&given.token[..at], &issuer, &given.access_key).is_none(), "{at}");
        }
    }
}
