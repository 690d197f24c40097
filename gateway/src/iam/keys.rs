//! Names that are made here: access keys, ids, secrets.
//!
//! An access key of a member begins with `AKIA`; the two letters behind it are the number of the identity object
//! that knows it (10 bits, in base 32), the other fourteen are chance. So whoever meets a key knows where
//! to ask, and no index beside the accounts is needed.

use store_base::identity::IDENTITY_SHARDS;
use store_shell::clock;

const LETTERS: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
const SECRET_LETTERS: &[u8; 64] =
    b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// How access keys that last begin.
const LASTING: &str = "AKIA";

/// How access keys of sessions begin.
const TEMPORARY: &str = "ASIA";

const KEY_LEN: usize = 20;

fn letters<const N: usize>(alphabet: &[u8]) -> String {
    // The alphabets are powers of two, so no letter is likelier.
    let bytes: [u8; N] = clock::random();
    bytes.iter().map(|byte| char::from(alphabet[usize::from(*byte) % alphabet.len()])).collect()
}

/// A new access key that the identity object of this number knows.
pub(super) fn lasting(shard: u32) -> String {
    let letter = |bits: u32| char::from(LETTERS[(bits % 32) as usize]);
    format!("{LASTING}{}{}{}", letter(shard / 32), letter(shard), letters::<14>(LETTERS))
}

/// The number of the identity object that knows an access key; `None` if none can.
pub(super) fn shard_of(access_key: &str) -> Option<u32> {
    let rest = access_key.strip_prefix(LASTING).filter(|_| access_key.len() == KEY_LEN)?;
    let mut values = rest.bytes().map(|byte| LETTERS.iter().position(|letter| *letter == byte));
    let (high, low) = (values.next()??, values.next()??);
    values.all(|value| value.is_some()).then(|| (high * 32 + low) as u32 % IDENTITY_SHARDS)
}

/// A new access key of a session.
pub(super) fn temporary() -> String {
    format!("{TEMPORARY}{}", letters::<16>(LETTERS))
}

/// Whether an access key is one of a session.
pub(super) fn is_temporary(access_key: &str) -> bool {
    access_key.len() == KEY_LEN && access_key.starts_with(TEMPORARY)
}

/// A new secret.
pub(super) fn secret() -> String {
    letters::<40>(SECRET_LETTERS)
}

/// A new id of a user, group, role or policy; `kind` is how it begins.
pub(super) fn id(kind: &str) -> String {
    format!("{kind}{}", letters::<17>(LETTERS))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn access_keys_know_their_object() {
        for shard in [0, 1, 31, 32, 517, IDENTITY_SHARDS - 1] {
            let key = lasting(shard);
            assert_eq!((key.len(), shard_of(&key)), (KEY_LEN, Some(shard)), "{key}");
            assert_ne!(key, lasting(shard));
        }
        for other in ["", "AKIA", "AKIA0123456789012345", "BKIAAAAAAAAAAAAAAAAA", &temporary()] {
            assert_eq!(shard_of(other), None, "{other}");
        }
        assert!(is_temporary(&temporary()) && !is_temporary(&lasting(1)));
        assert_eq!((secret().len(), id("AIDA").len()), (40, 21));
    }
}
