//! Who may sign requests.

use ring::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};
use store_base::Epoch;
use store_base::map::AuthMap;
use tokio::sync::watch;

/// A user of the gateway as a signed request names one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct User {
    /// The user's id: owner of buckets and objects.
    pub id: String,
    /// For people.
    pub display_name: String,
    /// The secret of the access key that was asked for.
    pub secret: String,
    /// Whether he may use the admin port and everybody's buckets.
    pub admin: bool,
}

/// Where access keys are looked up. Called for every request: an implementation answers from memory.
pub trait KeyRing: Send + Sync {
    /// The user of an access key; `None` if there is no such key or it may not be used.
    fn user(&self, access_key: &str) -> Option<Arc<User>>;
}

/// Keys that do not change, for tests and examples.
#[derive(Default)]
pub struct FixedKeys {
    users: BTreeMap<String, Arc<User>>,
}

impl FixedKeys {
    /// Adds a key.
    pub fn with(mut self, access_key: &str, user: User) -> Self {
        self.users.insert(access_key.to_owned(), Arc::new(user));
        self
    }
}

impl KeyRing for FixedKeys {
    fn user(&self, access_key: &str) -> Option<Arc<User>> {
        self.users.get(access_key).cloned()
    }
}

/// Length of the nonce before a sealed secret.
const NONCE_BYTES: usize = 12;

/// The keys of the cluster's users, as the monitor publishes them.
pub struct ClusterKeys {
    map: watch::Receiver<Arc<AuthMap>>,
    table: RwLock<Table>,
}

/// The keys of one epoch, opened.
#[derive(Default)]
struct Table {
    epoch: Option<Epoch>,
    users: BTreeMap<String, Arc<User>>,
}

impl ClusterKeys {
    /// Follows the map.
    pub fn new(map: watch::Receiver<Arc<AuthMap>>) -> Self {
        ClusterKeys { map, table: RwLock::default() }
    }
}

impl KeyRing for ClusterKeys {
    fn user(&self, access_key: &str) -> Option<Arc<User>> {
        let map = self.map.borrow().clone();
        {
            let table = self.table.read().unwrap_or_else(PoisonError::into_inner);
            if table.epoch == Some(map.epoch) {
                return table.users.get(access_key).cloned();
            }
        }
        let mut table = self.table.write().unwrap_or_else(PoisonError::into_inner);
        if table.epoch != Some(map.epoch) {
            *table = opened(&map);
        }
        table.users.get(access_key).cloned()
    }
}

/// All keys that may be used. A secret that does not open is left out: its user is unknown here.
fn opened(map: &AuthMap) -> Table {
    let mut users = BTreeMap::new();
    let sealing = UnboundKey::new(&AES_256_GCM, &map.seal_key).map(LessSafeKey::new);
    let Ok(sealing) = sealing else {
        if !map.users.is_empty() {
            tracing::error!("the monitor gave no key to open the users' secrets with");
        }
        return Table { epoch: Some(map.epoch), users };
    };
    for (id, user) in map.users.iter().filter(|(_, user)| !user.suspended) {
        for (access_key, key) in user.keys.iter().filter(|(_, key)| !key.disabled) {
            let Some(secret) = unseal(&sealing, access_key, &key.sealed_secret) else {
                tracing::error!(user = %id, %access_key, "a secret cannot be opened");
                continue;
            };
            let display_name = match user.display_name.is_empty() {
                true => id.clone(),
                false => user.display_name.clone(),
            };
            let user = User { id: id.clone(), display_name, secret, admin: user.admin };
            users.insert(access_key.clone(), Arc::new(user));
        }
    }
    Table { epoch: Some(map.epoch), users }
}

/// The form is the monitor's: nonce (12), ciphertext, tag (16); the access key is the associated data.
fn unseal(key: &LessSafeKey, access_key: &str, sealed: &[u8]) -> Option<String> {
    let (nonce, text) = sealed.split_at_checked(NONCE_BYTES)?;
    let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
    let mut text = text.to_vec();
    let plain = key.open_in_place(nonce, Aad::from(access_key.as_bytes()), &mut text).ok()?;
    String::from_utf8(plain.to_vec()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use store_base::map::{AccessKey, User as MapUser};

    fn sealed(seal_key: &[u8], access_key: &str, secret: &str) -> AccessKey {
        let key = LessSafeKey::new(UnboundKey::new(&AES_256_GCM, seal_key).expect("32 bytes"));
        let mut text = secret.as_bytes().to_vec();
        let nonce = [5; NONCE_BYTES];
        let aad = Aad::from(access_key.as_bytes());
        key.seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), aad, &mut text)
            .expect("short");
        AccessKey { sealed_secret: [&nonce[..], &text].concat().into(), ..AccessKey::default() }
    }

    #[test]
    fn keys_follow_the_map() {
        let mut map =
            AuthMap { epoch: Epoch(1), seal_key: vec![9; 32].into(), ..AuthMap::default() };
        let mut user = MapUser { admin: true, ..MapUser::default() };
        user.keys.insert("AK".into(), sealed(&[9; 32], "AK", "secret"));
        user.keys.insert("MOVED".into(), sealed(&[9; 32], "OTHER", "secret"));
        let disabled = AccessKey { disabled: true, ..sealed(&[9; 32], "OFF", "secret") };
        user.keys.insert("OFF".into(), disabled);
        map.users.insert("u".into(), user);
        let (sender, receiver) = watch::channel(Arc::new(map.clone()));
        let keys = ClusterKeys::new(receiver);
        let found = keys.user("AK").expect("a key");
        assert_eq!((found.id.as_str(), found.secret.as_str(), found.admin), ("u", "secret", true));
        for absent in ["MOVED", "OFF", "none"] {
            assert!(keys.user(absent).is_none(), "{absent}");
        }
        map.epoch = Epoch(2);
        map.users.get_mut("u").expect("there").suspended = true;
        sender.send(Arc::new(map)).expect("followed");
        assert!(keys.user("AK").is_none());
    }
}
