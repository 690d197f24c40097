//! Who may sign requests.

use crate::iam::identity::Identity;
use bytes::Bytes;
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};
use store_base::Epoch;
use store_base::map::AuthMap;
use store_shell::clock;
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
    /// The Swift account that he belongs to, if it is not the one of his own id.
    pub member: Option<Member>,
    /// Who he is within the account `id`, and what policies say about him; `None` for its root user without
    /// any. Only what was looked up with `crate::iam` has one.
    pub identity: Option<Arc<Identity>>,
}

/// What a user is in an account that he shares with others.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Member {
    /// The account: the id of the user that owns its containers.
    pub account: String,
    /// His name within the account, as `ACCOUNT:NAME` has it.
    pub name: String,
    /// Whether he may do there what the owner may; otherwise he has what ACLs grant him.
    pub admin: bool,
}

impl User {
    /// His Swift account.
    pub fn account(&self) -> &str {
        self.member.as_ref().map_or(&self.id, |member| &member.account)
    }

    /// What the ACLs of Swift know him by: his account, and his name in it. A user with an account of his own is
    /// `u:u`.
    pub fn groups(&self) -> (&str, &str) {
        match &self.member {
            Some(member) => (&member.account, &member.name),
            None => (&self.id, &self.id),
        }
    }

    /// His name in the cluster: his id, or `ACCOUNT:NAME` for a member of an account that he shares.
    pub fn is_called(&self, name: &str) -> bool {
        match &self.member {
            Some(member) => {
                name.split_once(':') == Some((member.account.as_str(), member.name.as_str()))
            }
            None => self.id == name,
        }
    }

    /// Whether these are credentials for a while, which come with a token.
    pub fn is_session(&self) -> bool {
        self.identity.as_ref().is_some_and(|identity| identity.session.is_some())
    }
}

/// What the keyring tells of an account: a user of the monitor's map who is not suspended.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Account {
    /// For people.
    pub display_name: String,
    /// Whether its root user is an administrator.
    pub admin: bool,
}

/// Where access keys are looked up. Called for every request: an implementation answers from memory.
pub trait KeyRing: Send + Sync {
    /// The user of an access key; `None` if there is no such key or it may not be used.
    fn user(&self, access_key: &str) -> Option<Arc<User>>;
    /// What a user is called, by his id; `None` if there is no such user.
    fn display_name(&self, id: &str) -> Option<String>;
    /// The keys that a user may use now, by access key. A member of an account is called `ACCOUNT:NAME`.
    fn keys_of(&self, id: &str) -> Vec<(String, Arc<User>)>;
    /// Whether somebody is a member of this Swift account.
    fn is_account(&self, account: &str) -> bool;
    /// An account that may be used, by its id.
    fn account(&self, id: &str) -> Option<Account>;
    /// Seals a secret that is to be stored, with the cluster's key; `None` if there is no such key.
    fn seal(&self, access_key: &str, secret: &str) -> Option<Bytes>;
    /// Opens a secret that was sealed for this access key.
    fn unseal(&self, access_key: &str, sealed: &[u8]) -> Option<String>;
    /// The secret that the monitor gives to gateways, with which they seal what nobody else may read.
    fn seal_key(&self) -> Option<Bytes>;
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

    fn display_name(&self, id: &str) -> Option<String> {
        self.users.values().find(|user| user.id == id).map(|user| user.display_name.clone())
    }

    fn keys_of(&self, id: &str) -> Vec<(String, Arc<User>)> {
        of_user(&self.users, id)
    }

    fn is_account(&self, account: &str) -> bool {
        has_members(&self.users, account)
    }

    fn account(&self, id: &str) -> Option<Account> {
        let is_root = |user: &&Arc<User>| {
            user.id == id && user.member.as_ref().is_none_or(|member| member.account != id)
        };
        let user = self.users.values().find(is_root)?;
        Some(Account { display_name: user.display_name.clone(), admin: user.admin })
    }

    fn seal(&self, access_key: &str, secret: &str) -> Option<Bytes> {
        seal(&sealing_key(&FIXED_SEAL_KEY)?, access_key, secret)
    }

    fn unseal(&self, access_key: &str, sealed: &[u8]) -> Option<String> {
        unseal(&sealing_key(&FIXED_SEAL_KEY)?, access_key, sealed)
    }

    fn seal_key(&self) -> Option<Bytes> {
        Some(Bytes::from_static(b"a secret for tests and examples."))
    }
}

/// Seals where there is no cluster.
const FIXED_SEAL_KEY: [u8; 32] = [0x5e; 32];

fn has_members(users: &BTreeMap<String, Arc<User>>, account: &str) -> bool {
    users.values().any(|user| user.account() == account)
}

fn of_user(users: &BTreeMap<String, Arc<User>>, id: &str) -> Vec<(String, Arc<User>)> {
    let of_user = users.iter().filter(|(_, user)| user.is_called(id));
    of_user.map(|(access_key, user)| (access_key.clone(), user.clone())).collect()
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

impl ClusterKeys {
    /// Looks into the newest keys.
    fn look<T>(&self, find: impl Fn(&BTreeMap<String, Arc<User>>) -> T) -> T {
        let map = self.map.borrow().clone();
        {
            let table = self.table.read().unwrap_or_else(PoisonError::into_inner);
            if table.epoch == Some(map.epoch) {
                return find(&table.users);
            }
        }
        let mut table = self.table.write().unwrap_or_else(PoisonError::into_inner);
        if table.epoch != Some(map.epoch) {
            *table = opened(&map);
        }
        find(&table.users)
    }
}

impl KeyRing for ClusterKeys {
    fn user(&self, access_key: &str) -> Option<Arc<User>> {
        self.look(|users| users.get(access_key).cloned())
    }

    fn keys_of(&self, id: &str) -> Vec<(String, Arc<User>)> {
        self.look(|users| of_user(users, id))
    }

    fn seal_key(&self) -> Option<Bytes> {
        let key = self.map.borrow().seal_key.clone();
        (!key.is_empty()).then_some(key)
    }

    fn is_account(&self, account: &str) -> bool {
        self.look(|users| has_members(users, account))
    }

    fn display_name(&self, id: &str) -> Option<String> {
        let map = self.map.borrow();
        map.users.get(id).map(|user| shown_name(id, &user.display_name))
    }

    fn account(&self, id: &str) -> Option<Account> {
        let map = self.map.borrow();
        let user = map.users.get(id).filter(|user| !user.suspended)?;
        let member = member_of(id, user);
        if is_suspended(&map, member.as_ref()) {
            return None;
        }
        let admin = user.admin && member.is_none();
        Some(Account { display_name: shown_name(id, &user.display_name), admin })
    }

    fn seal(&self, access_key: &str, secret: &str) -> Option<Bytes> {
        let map = self.map.borrow().clone();
        seal(&sealing_key(&map.seal_key)?, access_key, secret)
    }

    fn unseal(&self, access_key: &str, sealed: &[u8]) -> Option<String> {
        let map = self.map.borrow().clone();
        unseal(&sealing_key(&map.seal_key)?, access_key, sealed)
    }
}

fn sealing_key(bytes: &[u8]) -> Option<LessSafeKey> {
    UnboundKey::new(&AES_256_GCM, bytes).map(LessSafeKey::new).ok()
}

/// Who was given no name is called by his id.
fn shown_name(id: &str, display_name: &str) -> String {
    if display_name.is_empty() { id.to_owned() } else { display_name.to_owned() }
}

/// All keys that may be used. A secret that does not open is left out: its user is unknown here.
fn opened(map: &AuthMap) -> Table {
    let mut users = BTreeMap::new();
    let Some(sealing) = sealing_key(&map.seal_key) else {
        if !map.users.is_empty() {
            tracing::error!("the monitor gave no key to open the users' secrets with");
        }
        return Table { epoch: Some(map.epoch), users };
    };
    for (id, user) in map.users.iter().filter(|(_, user)| !user.suspended) {
        let member = member_of(id, user);
        if is_suspended(map, member.as_ref()) {
            continue;
        }
        for (access_key, key) in user.keys.iter().filter(|(_, key)| !key.disabled) {
            let Some(secret) = unseal(&sealing, access_key, &key.sealed_secret) else {
                tracing::error!(user = %id, %access_key, "a secret cannot be opened");
                continue;
            };
            let display_name = shown_name(id, &user.display_name);
            // Who may do in an account what its owner may is its owner, over S3 as well.
            let administers = member.as_ref().filter(|member| member.admin);
            let id = administers.map_or(id, |member| &member.account).clone();
            let admin = user.admin && member.is_none();
            let member = member.clone();
            let user = User { id, display_name, secret, admin, member, identity: None };
            users.insert(access_key.clone(), Arc::new(user));
        }
    }
    Table { epoch: Some(map.epoch), users }
}

/// Whether the account that somebody is a member of is suspended, and he with it.
fn is_suspended(map: &AuthMap, member: Option<&Member>) -> bool {
    let owner = member.and_then(|member| map.users.get(&member.account));
    owner.is_some_and(|owner| owner.suspended)
}

/// What a user of the monitor's map is in the account of another: those are called `ACCOUNT:NAME`, and a cap of
/// theirs says what they may there.
fn member_of(id: &str, user: &store_base::map::User) -> Option<Member> {
    let (account, name) = id.split_once(':')?;
    let admin = user.caps.get("swift").is_some_and(|access| access == "full");
    Some(Member { account: account.to_owned(), name: name.to_owned(), admin })
}

/// The form is the monitor's: nonce (12), ciphertext, tag (16); the access key is the associated data.
fn unseal(key: &LessSafeKey, access_key: &str, sealed: &[u8]) -> Option<String> {
    let (nonce, text) = sealed.split_at_checked(NONCE_BYTES)?;
    let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
    let mut text = text.to_vec();
    let plain = key.open_in_place(nonce, Aad::from(access_key.as_bytes()), &mut text).ok()?;
    String::from_utf8(plain.to_vec()).ok()
}

/// As [`unseal`] opens it.
fn seal(key: &LessSafeKey, access_key: &str, secret: &str) -> Option<Bytes> {
    let nonce: [u8; NONCE_BYTES] = clock::random();
    let mut text = secret.as_bytes().to_vec();
    let aad = Aad::from(access_key.as_bytes());
    key.seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), aad, &mut text).ok()?;
    Some([&nonce[..], &text].concat().into())
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
        assert_eq!(keys.display_name("u").as_deref(), Some("u"));
        assert_eq!(keys.display_name("AK"), None);
        assert_eq!(keys.account("u").map(|account| account.admin), Some(true));
        let new = keys.seal("NEW", "its secret").expect("there is a key");
        assert_eq!(keys.unseal("NEW", &new).as_deref(), Some("its secret"));
        assert_eq!(keys.unseal("OTHER", &new), None);
        assert_eq!(keys.keys_of("u"), [("AK".to_owned(), found)]);
        for absent in ["MOVED", "OFF", "none"] {
            assert!(keys.user(absent).is_none(), "{absent}");
        }
        let mut member = |name: &str, key: &str, access: &str| {
            let caps = [("swift".to_owned(), access.to_owned())].into();
            let mut user = MapUser { caps, admin: true, ..MapUser::default() };
            user.keys.insert(key.into(), sealed(&[9; 32], key, key));
            map.users.insert(name.into(), user);
        };
        member("u:ann", "ANN", "full");
        member("u:bob", "BOB", "none");
        member("w:ann", "WANN", "full");
        map.epoch = Epoch(2);
        sender.send(Arc::new(map.clone())).expect("followed");
        let (ann, bob) = (keys.user("ANN").expect("a key"), keys.user("BOB").expect("a key"));
        assert_eq!((ann.id.as_str(), ann.groups(), ann.admin), ("u", ("u", "ann"), false));
        assert_eq!((bob.id.as_str(), bob.groups(), bob.admin), ("u:bob", ("u", "bob"), false));
        assert_eq!(keys.account("u:bob").map(|account| account.admin), Some(false));
        assert!(ann.member.as_ref().is_some_and(|member| member.admin));
        assert!(bob.member.as_ref().is_some_and(|member| !member.admin));
        assert_eq!(keys.keys_of("u").len(), 1, "members have keys of their own");
        assert_eq!(keys.keys_of("u:ann"), [("ANN".to_owned(), ann)]);
        assert!(keys.is_account("u") && keys.is_account("w") && !keys.is_account("u:ann"));
        map.epoch = Epoch(3);
        map.users.get_mut("u").expect("there").suspended = true;
        sender.send(Arc::new(map)).expect("followed");
        assert!(keys.user("AK").is_none() && keys.account("u").is_none());
        assert!(keys.user("ANN").is_none() && keys.user("BOB").is_none());
        assert!(keys.user("WANN").is_some(), "an account needs no user of its name");
    }
}
