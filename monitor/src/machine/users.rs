//! Users and their keys. Secrets are sealed before they enter a map, and leave it sealed; only the answer to
//! the command that made a key, or one that asks to show it, has the secret itself.

use bytes::Bytes;
use store_base::Timestamp;
use store_base::map::{AccessKey, AuthMap, User};

use super::ENTROPY_BYTES;

/// Users of one cluster.
pub const USERS_MAX: usize = 100_000;

/// Keys of one user.
pub const KEYS_PER_USER_MAX: usize = 16;

/// Longest name of a user.
pub const NAME_BYTES_MAX: usize = 64;

/// Length of the access keys and secrets that we make.
pub const ACCESS_KEY_LEN: usize = 20;
/// See [`ACCESS_KEY_LEN`].
pub const SECRET_LEN: usize = 40;

/// Length of the nonce of a sealed secret, which stands before it.
pub const NONCE_LEN: usize = 12;

const ACCESS_ALPHABET: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
const SECRET_ALPHABET: &[u8; 64] =
    b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// Seals and unseals secrets: AES-256-GCM in the shell. A function of its arguments and its key alone.
pub trait Sealer: Send {
    /// The nonce, then the sealed secret; the access key is bound to it.
    fn seal(&self, access_key: &str, secret: &str, nonce: [u8; NONCE_LEN]) -> Bytes;
    /// The secret, if it was sealed with this key for this access key.
    fn unseal(&self, access_key: &str, sealed: &[u8]) -> Option<String>;
}

/// Seals nothing: for simulation and tests.
#[derive(Clone, Copy, Debug)]
pub struct PlainSealer;

impl Sealer for PlainSealer {
    fn seal(&self, _access_key: &str, secret: &str, nonce: [u8; NONCE_LEN]) -> Bytes {
        [&nonce[..], secret.as_bytes()].concat().into()
    }

    fn unseal(&self, _access_key: &str, sealed: &[u8]) -> Option<String> {
        String::from_utf8(sealed.get(NONCE_LEN..)?.to_vec()).ok()
    }
}

/// A key pair as its owner gets it.
#[derive(Clone, PartialEq, Eq)]
pub struct KeyPair {
    /// The id.
    pub access_key: String,
    /// The secret.
    pub secret_key: String,
}

/// A key pair and a nonce made of random bytes; what was given by hand is taken instead.
pub fn key_pair(
    entropy: &[u8; ENTROPY_BYTES],
    access_key: Option<String>,
    secret_key: Option<String>,
) -> (KeyPair, [u8; NONCE_LEN]) {
    let pick = |bytes: &[u8], alphabet: &[u8]| -> String {
        // The alphabets are powers of two, so no letter is likelier.
        bytes.iter().map(|byte| char::from(alphabet[usize::from(*byte) % alphabet.len()])).collect()
    };
    let (access, rest) = entropy.split_at(ACCESS_KEY_LEN);
    let (secret, rest) = rest.split_at(SECRET_LEN);
    let mut nonce = [0; NONCE_LEN];
    nonce.copy_from_slice(&rest[..NONCE_LEN]);
    let pair = KeyPair {
        access_key: access_key.unwrap_or_else(|| pick(access, ACCESS_ALPHABET)),
        secret_key: secret_key.unwrap_or_else(|| pick(secret, SECRET_ALPHABET)),
    };
    (pair, nonce)
}

/// Whether these can be used as they are in requests and headers.
pub fn check_pair(pair: &KeyPair) -> Result<(), String> {
    let plain = |text: &str| text.bytes().all(|byte| byte.is_ascii_graphic());
    let no_separator = !pair.access_key.contains(['/', ',', '=', ':', '&', '?', '%', '+']);
    if !(3..=128).contains(&pair.access_key.len()) || !plain(&pair.access_key) || !no_separator {
        return Err(
            "an access key has 3 to 128 letters or digits, without / , = : & ? % +".to_string()
        );
    }
    match (8..=128).contains(&pair.secret_key.len()) && plain(&pair.secret_key) {
        true => Ok(()),
        false => Err("a secret key has 8 to 128 printable ASCII characters".to_string()),
    }
}

pub(crate) fn check_name(name: &str) -> Result<(), String> {
    let fits = |c: char| c.is_ascii_alphanumeric() || "._-@+=".contains(c);
    match (1..=NAME_BYTES_MAX).contains(&name.len()) && name.chars().all(fits) {
        true => Ok(()),
        false => Err(format!(
            "{name:?} cannot be a user's name: 1 to {NAME_BYTES_MAX} letters, digits or . _ - @ + ="
        )),
    }
}

/// What stands between the account and the name in the name of a user that is a member of another's account.
/// No name of an account has it.
pub const MEMBER_SEPARATOR: char = ':';

/// The cap that says what a member may do in his account: [`ACCESS`].
pub const ACCESS_CAP: &str = "swift";

/// What a member may do in his account: what its owner may, or only what is granted to him.
pub const ACCESS: [&str; 2] = ["full", "none"];

/// The name of a member of an account.
pub(crate) fn member_name(account: &str, name: &str) -> Result<String, String> {
    check_name(account)?;
    check_name(name)?;
    Ok(format!("{account}{MEMBER_SEPARATOR}{name}"))
}

pub(crate) fn check_access(access: &str) -> Result<(), String> {
    match ACCESS.contains(&access) {
        true => Ok(()),
        false => Err(format!("{access:?} is no access of a member: {}", ACCESS.join(" or "))),
    }
}

/// A user with one key, as bootstrap makes it.
pub fn first_admin(
    pair: &KeyPair,
    nonce: [u8; NONCE_LEN],
    sealer: &dyn Sealer,
    now: Timestamp,
) -> User {
    let mut user = User {
        display_name: "first administrator".to_string(),
        admin: true,
        created: now,
        ..User::default()
    };
    user.keys.insert(pair.access_key.clone(), sealed(pair, nonce, sealer, now));
    user
}

fn sealed(
    pair: &KeyPair,
    nonce: [u8; NONCE_LEN],
    sealer: &dyn Sealer,
    now: Timestamp,
) -> AccessKey {
    AccessKey {
        sealed_secret: sealer.seal(&pair.access_key, &pair.secret_key, nonce),
        created: now,
        disabled: false,
    }
}

/// Gives a user a key, unless the access key is taken or there are too many.
pub(crate) fn add_key(
    auth: &mut AuthMap,
    name: &str,
    pair: &KeyPair,
    nonce: [u8; NONCE_LEN],
    sealer: &dyn Sealer,
    now: Timestamp,
) -> Result<(), String> {
    check_pair(pair)?;
    if auth.by_access_key(&pair.access_key).is_some() {
        return Err(format!("the access key {} is taken", pair.access_key));
    }
    let user = auth.users.get_mut(name).ok_or_else(|| format!("there is no user {name}"))?;
    if user.keys.len() >= KEYS_PER_USER_MAX {
        return Err(format!("{name} has {KEYS_PER_USER_MAX} keys, the most allowed: remove one"));
    }
    user.keys.insert(pair.access_key.clone(), sealed(pair, nonce, sealer, now));
    Ok(())
}
