//! Tokens that need no shared state.
//!
//! A token says which access key it was given for and when it ends, and carries an HMAC of both under that
//! key's secret. Every gateway knows the secret from the keyring, so any of them accepts the tokens of any
//! other, and after a restart; and as the keyring is asked each time, removing, disabling or changing the
//! key, or suspending the user, ends all tokens that were made with it. What it costs: one token
//! alone cannot be taken back before its end, and who holds a token can test guesses of the secret
//! against it, as he can with any signed S3 request. Secrets are random and long, so guessing is hopeless.
//!
//! The form is `AUTH_tk` and, in URL-safe base64, version 1 (1 byte), the end in seconds since 1970
//! (8, big endian), the HMAC-SHA256 (32), the access key. The HMAC is over a fixed word that no other
//! signature here begins with, the end, the user's id with its length before it, and the access key.

use crate::keyring::{KeyRing, User};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::hmac::{HMAC_SHA256, Key, Tag, sign, verify};
use std::sync::Arc;
use subtle::ConstantTimeEq;

/// How long a token lives.
pub const LIFE_SECS: u64 = 24 * 3600;

const PREFIX: &str = "AUTH_tk";
const VERSION: u8 = 1;
const HMAC_BYTES: usize = 32;

/// Longest token that is looked at.
const TOKEN_BYTES_MAX: usize = 1024;

fn signed_text(user: &User, access_key: &str, end_secs: u64) -> Vec<u8> {
    let mut text = b"store swift token 1\0".to_vec();
    text.extend_from_slice(&end_secs.to_be_bytes());
    text.extend_from_slice(&(user.id.len() as u64).to_be_bytes());
    text.extend_from_slice(user.id.as_bytes());
    text.extend_from_slice(access_key.as_bytes());
    text
}

fn mac(user: &User, access_key: &str, end_secs: u64) -> Tag {
    let key = Key::new(HMAC_SHA256, user.secret.as_bytes());
    sign(&key, &signed_text(user, access_key, end_secs))
}

/// A token that ends at `end_secs`.
pub fn make(user: &User, access_key: &str, end_secs: u64) -> String {
    let mut token = vec![VERSION];
    token.extend_from_slice(&end_secs.to_be_bytes());
    token.extend_from_slice(mac(user, access_key, end_secs).as_ref());
    token.extend_from_slice(access_key.as_bytes());
    format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(token))
}

/// What a token says, before anybody looked whether it is true.
struct Claim {
    end_secs: u64,
    mac: Vec<u8>,
    access_key: String,
}

fn parse(token: &str) -> Option<Claim> {
    if token.len() > TOKEN_BYTES_MAX {
        return None;
    }
    let token = URL_SAFE_NO_PAD.decode(token.strip_prefix(PREFIX)?).ok()?;
    let (version, rest) = token.split_first()?;
    let (end_secs, rest) = rest.split_first_chunk::<8>()?;
    let (mac, access_key) = rest.split_at_checked(HMAC_BYTES)?;
    let access_key = String::from_utf8(access_key.to_vec()).ok()?;
    let end_secs = u64::from_be_bytes(*end_secs);
    (*version == VERSION).then(|| Claim { end_secs, mac: mac.to_vec(), access_key })
}

/// The access key that a token says it was given for.
pub fn claimed(token: &str) -> Option<String> {
    parse(token).map(|claim| claim.access_key)
}

/// The user of a token; `None` if it is none, or not any more.
pub fn user(token: &str, keys: &dyn KeyRing, now_secs: u64) -> Option<Arc<User>> {
    let Claim { end_secs, mac, access_key } = parse(token)?;
    if end_secs <= now_secs {
        return None;
    }
    let user = keys.user(&access_key)?;
    let key = Key::new(HMAC_SHA256, user.secret.as_bytes());
    verify(&key, &signed_text(&user, &access_key, end_secs), &mac).ok()?;
    Some(user)
}

/// The user whom `X-Auth-User` and `X-Auth-Key` name, and the access key. `ACCOUNT:NAME` or `ACCOUNT`, where
/// ACCOUNT is a user's id or one of his access keys. Where NAME is one of his access keys, or the name of a
/// member of the account, only his secret counts; other names (`u:swift`) say nothing.
pub fn log_in(keys: &dyn KeyRing, whole: &str, secret: &str) -> Option<(String, Arc<User>)> {
    let (account, name) = whole.split_once(':').unwrap_or((whole, ""));
    let mut candidates = keys.keys_of(account);
    if let Some(user) = keys.user(account) {
        candidates.push((account.to_owned(), user));
    }
    // A member may be known by his whole name, or by a name of his own that is a key as well.
    let mut members: Vec<_> = [whole, name]
        .into_iter()
        .filter_map(|key| keys.user(key).map(|user| (key.to_owned(), user)))
        .filter(|(_, user)| user.member.is_some() && user.is_called(whole))
        .chain(keys.keys_of(whole).into_iter().filter(|(_, user)| user.member.is_some()))
        .collect();
    if !members.is_empty() {
        candidates = std::mem::take(&mut members);
    } else if let Some(user) = keys.user(whole) {
        candidates = vec![(whole.to_owned(), user)];
    } else if candidates.iter().any(|(access_key, _)| access_key == name) {
        candidates.retain(|(access_key, _)| access_key == name);
    }
    with_secret(candidates, secret)
}

/// The one among several keys whose secret this is.
pub fn with_secret(keys: Vec<(String, Arc<User>)>, secret: &str) -> Option<(String, Arc<User>)> {
    keys.into_iter().find(|(_, user)| {
        !user.secret.is_empty() && bool::from(user.secret.as_bytes().ct_eq(secret.as_bytes()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keyring::FixedKeys;

    fn keys(secret: &str) -> FixedKeys {
        let user = |secret: &str| User { id: "u".into(), secret: secret.into(), ..User::default() };
        FixedKeys::default().with("AK1", user(secret)).with("AK2", user("second"))
    }

    #[test]
    fn tokens_end_and_follow_the_keyring() {
        let ring = keys("first");
        let holder = ring.user("AK1").unwrap();
        let token = make(&holder, "AK1", 1000);
        assert_eq!(user(&token, &ring, 999), Some(holder));
        assert_eq!(user(&token, &ring, 1000), None);
        assert_eq!(user(&token, &keys("changed"), 999), None);
        assert_eq!(user(&token, &FixedKeys::default(), 999), None);
        for at in 0..token.len() {
            let mut other = token.clone().into_bytes();
            other[at] = if other[at] == b'A' { b'B' } else { b'A' };
            assert_eq!(user(&String::from_utf8(other).unwrap(), &ring, 999), None, "{at}");
            assert_eq!(user(&token[..at], &ring, 999), None);
        }
    }

    #[test]
    fn users_log_in_by_id_or_access_key() {
        let ring = keys("first");
        let key = |name: &str, secret: &str| log_in(&ring, name, secret).map(|(key, _)| key);
        for name in ["u", "u:swift", "u:AK1", "AK1", "AK1:x", "u:u"] {
            assert_eq!(key(name, "first").as_deref(), Some("AK1"), "{name}");
        }
        assert_eq!(key("u", "second").as_deref(), Some("AK2"));
        for (name, secret) in
            [("u:AK2", "first"), ("u", ""), ("u", "firs"), ("", "first"), ("v", "first")]
        {
            assert_eq!(key(name, secret), None, "{name}");
        }
    }
}
