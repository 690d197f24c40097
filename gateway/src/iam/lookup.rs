//! From the access key of a request to its user, with what policies say about him.
//!
//! The monitor's map is asked first: it is in memory. Other keys are looked up in their identity object, and
//! so is what administrators keep about root users. What was found is believed for a second, and not
//! after this process changed an account; so a key that was removed by any gateway is refused within a second.

use super::identity::{Identity, Session};
use super::session::Token;
use super::{builtin, keys};
use crate::catalogue::{IdentityAnswer, IdentityAsk};
use crate::keyring::{Account, KeyRing, User};
use crate::s3::Service;
use crate::s3::auth::{Claimed, claimed};
use crate::s3::error::{Code, S3Result};
use crate::s3::policy::{Member, Policy};
use crate::s3::request::Head;
use bytes::Bytes;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use store_base::identity::{AskKey, Bundle, Kind, Named, shard_of};
use store_base::machine::Time;
use store_shell::clock;

/// How long what was found is believed.
const CACHE_TTL: Duration = Duration::from_secs(1);

/// Most that is kept; all is dropped when there is more.
const CACHED_MAX: usize = 10_000;

/// What is looked up.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Wanted {
    /// An access key.
    Key(String),
    /// What is kept of the root user of an account.
    Root(String),
    /// A role of an account.
    Role(String, String),
    /// A member of an account, by his name.
    Member(String, String),
}

/// And what was found: the account, and who in it.
type Found = Option<(String, Arc<Bundled>)>;

struct Cached {
    found: Found,
    /// The account when it was looked up: it may be suspended since.
    account: Option<Account>,
    until: Time,
    changes: u64,
}

/// An entity with its policies read.
struct Bundled {
    bundle: Bundle,
    policies: Vec<Policy>,
}

/// What one thread looked up lately.
#[derive(Default)]
pub struct Lookup {
    cached: RefCell<BTreeMap<Wanted, Cached>>,
}

impl Lookup {
    /// A keyring that knows the key of this request. Errors: `InvalidToken`, `ExpiredToken`, those of the cluster.
    pub async fn ring<'a>(&self, service: &'a Service, head: &Head) -> S3Result<Ring<'a>> {
        self.ring_of(service, claimed(head)?, head.now_ms).await
    }

    /// A keyring that knows the key that somebody says he has, wherever he said it.
    pub async fn ring_of<'a>(
        &self,
        service: &'a Service,
        claim: Option<Claimed<'_>>,
        now_ms: u64,
    ) -> S3Result<Ring<'a>> {
        let others = &*service.keys;
        let Some(Claimed { access_key, token }) = claim else {
            return Ok(Ring { others, found: None });
        };
        let user = match token {
            Some(token) if keys::is_temporary(access_key) => {
                Some(self.session(service, access_key, token, now_ms).await?)
            }
            _ => self.holder(service, access_key).await?,
        };
        Ok(Ring { others, found: user.map(|user| (access_key.to_owned(), user)) })
    }

    /// Who has a lasting key.
    pub async fn holder(&self, service: &Service, access_key: &str) -> S3Result<Option<Arc<User>>> {
        if let Some(user) = service.keys.user(access_key) {
            if user.admin {
                return Ok(Some(user));
            }
            return Ok(Some(self.with_policies(service, user).await?));
        }
        if keys::shard_of(access_key).is_none() {
            return Ok(None);
        }
        let found = self.find(service, Wanted::Key(access_key.to_owned())).await?;
        let Some((id, kept)) = found else { return Ok(None) };
        let key = kept.bundle.entity.keys.get(access_key).filter(|key| key.active);
        let (Some(key), Some(account)) = (key, service.keys.account(&id)) else { return Ok(None) };
        let Some(secret) = service.keys.unseal(access_key, &key.sealed_secret) else {
            tracing::error!(account = %id, %access_key, "a secret cannot be opened");
            return Ok(None);
        };
        let root = kept.bundle.entity.name.is_empty();
        let identity = match root {
            true => root_identity(&kept),
            false => Some(Arc::new(member_identity(&id, &account, &kept))),
        };
        let admin = root && account.admin;
        Ok(Some(Arc::new(User {
            id,
            display_name: account.display_name,
            secret,
            admin,
            identity,
            member: None,
        })))
    }

    /// The keys of a member of an account, by the name that IAM knows him by, or by one of his keys.
    pub async fn keys_of_member(
        &self,
        service: &Service,
        account: &str,
        name: &str,
    ) -> S3Result<Vec<(String, Arc<User>)>> {
        let mut keys: Vec<String> = Vec::new();
        if keys::shard_of(name).is_some() {
            keys.push(name.to_owned());
        } else if service.keys.account(account).is_some() && !name.is_empty() {
            let wanted = Wanted::Member(account.to_owned(), name.to_owned());
            let found = self.find(service, wanted).await?;
            keys.extend(found.iter().flat_map(|(_, kept)| kept.bundle.entity.keys.keys().cloned()));
        }
        let mut holders = Vec::new();
        for key in keys {
            let holder = self.holder(service, &key).await?.filter(|user| user.id == account);
            holders.extend(holder.map(|user| (key, user)));
        }
        Ok(holders)
    }

    /// A root user of the monitor's map, with what administrators keep about him.
    pub async fn with_policies(&self, service: &Service, user: Arc<User>) -> S3Result<Arc<User>> {
        let identity = match user.identity.is_some() || user.admin {
            true => None,
            false => self.of_root(service, &user.id).await?,
        };
        Ok(match identity {
            None => user,
            Some(identity) => Arc::new(User { identity: Some(identity), ..(*user).clone() }),
        })
    }

    /// What administrators keep about the root user of an account; `None` for nothing.
    pub async fn of_root(
        &self,
        service: &Service,
        account: &str,
    ) -> S3Result<Option<Arc<Identity>>> {
        let found = self.find(service, Wanted::Root(account.to_owned())).await?;
        Ok(found.and_then(|(_, kept)| root_identity(&kept)))
    }

    /// Who has credentials for a while.
    async fn session(
        &self,
        service: &Service,
        access_key: &str,
        token: &str,
        now_ms: u64,
    ) -> S3Result<Arc<User>> {
        let token = Token::parse(token).ok_or(Code::InvalidToken)?;
        let issuer_key = token.issuer_key.clone();
        let issuer = self.holder(service, &issuer_key).await?.ok_or(Code::InvalidToken)?;
        let (grant, secret) = token.open(&issuer, access_key).ok_or(Code::InvalidToken)?;
        if grant.end_ms <= now_ms {
            return Err(Code::ExpiredToken.into());
        }
        let policy = match grant.policy.as_str() {
            "" => None,
            text => Some(Policy::parse_identity(text.as_bytes()).map_err(|_| Code::InvalidToken)?),
        };
        let name = (!grant.role.is_empty()).then_some(grant.name);
        let session = Session {
            issued_ms: grant.issued_ms,
            name,
            policy,
            issuer_key,
            issuer: issuer.clone(),
        };
        if grant.role.is_empty() {
            let identity = issuer.identity.as_deref().cloned().unwrap_or_default();
            let identity = Some(Arc::new(Identity { session: Some(session), ..identity }));
            return Ok(Arc::new(User { secret, identity, ..(*issuer).clone() }));
        }
        let id = grant.role_account;
        let account = service.keys.account(&id).ok_or(Code::InvalidToken)?;
        let found = self.find(service, Wanted::Role(id.clone(), grant.role)).await?;
        let role = found.filter(|(_, kept)| kept.bundle.entity.id == grant.role_id);
        let (_, role) = role.ok_or(Code::InvalidToken)?;
        let entity = &role.bundle.entity;
        let named = session.name.as_deref().unwrap_or_default();
        let member = Member {
            account: id.clone(),
            resource: format!("role{}{}", entity.path, entity.name),
            session: Some(format!("assumed-role/{}/{named}", entity.name)),
        };
        let identity = Identity {
            member: Some(member),
            name: entity.name.clone(),
            id: entity.id.clone(),
            policies: role.policies.clone(),
            session: Some(session),
            of_administrator: account.admin,
        };
        let display_name = account.display_name;
        let identity = Some(Arc::new(identity));
        Ok(Arc::new(User { id, display_name, secret, admin: false, identity, member: None }))
    }

    async fn find(&self, service: &Service, wanted: Wanted) -> S3Result<Found> {
        let changes = service.catalogue.changes();
        let now = clock::now();
        if let Some(cached) = self.cached.borrow().get(&wanted)
            && cached.until > now
            && cached.changes == changes
            && cached.account == account_of(service, &cached.found)
        {
            return Ok(cached.found.clone());
        }
        let found = look_up(service, &wanted).await?;
        let account = account_of(service, &found);
        let mut cached = self.cached.borrow_mut();
        if cached.len() >= CACHED_MAX {
            cached.clear();
        }
        let until = now + CACHE_TTL;
        cached.insert(wanted, Cached { found: found.clone(), account, until, changes });
        Ok(found)
    }
}

fn account_of(service: &Service, found: &Found) -> Option<Account> {
    found.as_ref().and_then(|(account, _)| service.keys.account(account))
}

async fn look_up(service: &Service, wanted: &Wanted) -> S3Result<Found> {
    let bundle_of = |account: &str, kind, name: &str| {
        let named = Named { account: account.to_owned(), kind, name: name.to_owned() };
        (shard_of(account), IdentityAsk::Bundle(named))
    };
    let (shard, ask) = match wanted {
        Wanted::Key(access_key) => {
            let Some(shard) = keys::shard_of(access_key) else { return Ok(None) };
            (shard, IdentityAsk::Key(AskKey { access_key: access_key.clone() }))
        }
        Wanted::Root(account) => bundle_of(account, Kind::User {}, ""),
        Wanted::Role(account, name) => bundle_of(account, Kind::Role {}, name),
        Wanted::Member(account, name) => bundle_of(account, Kind::User {}, name),
    };
    let found = match (service.catalogue.identities(shard, ask).await?, wanted) {
        (Some(IdentityAnswer::Key(holder)), _) => {
            holder.map(|holder| (holder.account, holder.bundle))
        }
        (
            Some(IdentityAnswer::Bundle(bundle)),
            Wanted::Root(account) | Wanted::Role(account, _) | Wanted::Member(account, _),
        ) => bundle.map(|bundle| (account.clone(), bundle)),
        _ => None,
    };
    found.map(|(account, bundle)| Ok((account, Arc::new(read(bundle)?)))).transpose()
}

/// Reads the policies. One that cannot be read was checked by a later gateway, or is damaged: its user is
/// nobody then, because it may deny.
fn read(bundle: Bundle) -> S3Result<Bundled> {
    let foreign = bundle.foreign.iter().filter_map(|arn| builtin::document(arn));
    let documents = bundle.documents.iter().map(String::as_str).chain(foreign);
    let policies = documents.map(|document| Policy::parse_identity(document.as_bytes()));
    let policies = policies.collect::<Result<Vec<_>, _>>().map_err(|error| {
        tracing::error!(entity = %bundle.entity.id, %error, "a policy of an account cannot be read");
        Code::InternalError
    })?;
    Ok(Bundled { bundle, policies })
}

/// What is said about a root user; `None` if nothing is.
fn root_identity(kept: &Bundled) -> Option<Arc<Identity>> {
    let policies = kept.policies.clone();
    (!policies.is_empty()).then(|| Arc::new(Identity { policies, ..Identity::default() }))
}

fn member_identity(id: &str, account: &Account, kept: &Bundled) -> Identity {
    let entity = &kept.bundle.entity;
    Identity {
        member: Some(Member {
            account: id.to_owned(),
            resource: format!("user{}{}", entity.path, entity.name),
            session: None,
        }),
        name: entity.name.clone(),
        id: entity.id.clone(),
        policies: kept.policies.clone(),
        session: None,
        of_administrator: account.admin,
    }
}

/// The keyring of a request: the monitor's, and the key that was looked up.
pub struct Ring<'a> {
    others: &'a dyn KeyRing,
    found: Option<(String, Arc<User>)>,
}

impl KeyRing for Ring<'_> {
    fn user(&self, access_key: &str) -> Option<Arc<User>> {
        match &self.found {
            Some((key, user)) if key == access_key => Some(user.clone()),
            _ => self.others.user(access_key),
        }
    }

    fn display_name(&self, id: &str) -> Option<String> {
        self.others.display_name(id)
    }

    fn keys_of(&self, id: &str) -> Vec<(String, Arc<User>)> {
        self.others.keys_of(id)
    }

    fn is_account(&self, account: &str) -> bool {
        self.others.is_account(account)
    }

    fn account(&self, id: &str) -> Option<Account> {
        self.others.account(id)
    }

    fn seal(&self, access_key: &str, secret: &str) -> Option<Bytes> {
        self.others.seal(access_key, secret)
    }

    fn unseal(&self, access_key: &str, sealed: &[u8]) -> Option<String> {
        self.others.unseal(access_key, sealed)
    }

    fn seal_key(&self) -> Option<Bytes> {
        self.others.seal_key()
    }
}
