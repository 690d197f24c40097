//! Who may do what.
//!
//! Every operation has a scope ([`needs`]): an action, and what of the ACLs gives a right to it. One function
//! decides ([`decide`]) from the rules of the bucket ([`rules`]) and the circumstances ([`context`]).
//!
//! No handler runs undecided: each takes a permit by value, and permits are made here only, by [`user`],
//! [`bucket`], [`object`], [`keys`] and [`cross_origin`]. A permit is made for an operation, and fails if the
//! operation's scope is another one, so that a wrong pairing in the dispatcher opens nothing.
//!
//! What depends on an object's own ACL is decided when the object is read ([`ObjectPermit::read`]), so that a
//! GET is one read of the index; the permit gives its bucket to nobody before.

pub mod context;
pub mod decide;
pub mod needs;
pub mod rules;
mod sharing;

pub use sharing::Sharing;

use super::error::{Code, S3Error, S3Result};
use super::operations::{SourceName, bypass, is_marker, named_version, no_such_key};
use super::policy::{Context, Principal, Question, Verdict};
use super::router::Operation;
use super::{Call, Caller};
use crate::catalogue::{Bucket, CatalogueError};
use crate::iam::identity::Identity;
use crate::keyring::User;
use bytes::Bytes;
pub use context::Document;
use decide::{Asked, Existing};
use needs::{Need, Right, Scope};
use rules::Rules;
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;
use store_base::bucket::{Found, Read, Refusal, Version};

/// Leave to do something that concerns no bucket that is there: there is a user.
pub struct UserPermit {
    user: Arc<User>,
}

/// Leave for one operation on a bucket or on a key in it.
pub struct Permit {
    target: Target,
}

/// Leave to look for one object, and to have it if its ACL or a policy says so.
pub struct ObjectPermit {
    target: Target,
    need: Need,
    key: Bytes,
    /// The id of the version that is asked for.
    version: Option<String>,
}

/// Leave to ask about keys, one after the other.
pub struct KeysPermit {
    target: Target,
    need: Need,
}

/// Leave to tell a browser what the bucket's rules for other origins are.
pub struct CrossOriginPermit {
    rules: Rc<Rules>,
}

/// A bucket and its rules, and the policies of who asks.
struct Target {
    bucket: Rc<Bucket>,
    rules: Rc<Rules>,
    /// Looked up here, so that no way to sign a request goes past them.
    identity: Option<Arc<Identity>>,
    /// What the body asks for, where it was read before the decision.
    document: Option<Document>,
}

/// What was seen on the way to a decision that the record of the request wants to know.
#[derive(Default)]
pub struct Noted {
    /// The bucket and its rules, as they were when the request came.
    pub target: RefCell<Option<(Rc<Bucket>, Rc<Rules>)>>,
    /// Whether an ACL let it in, and nothing else would have.
    pub by_acl: Cell<bool>,
}

fn denied<T>() -> S3Result<T> {
    Err(Code::AccessDenied.into())
}

/// A permit of another kind was asked for than the operation needs: our own mistake, and closed.
fn mismatch<T>(operation: Operation) -> S3Result<T> {
    tracing::error!(
        operation = operation.name(),
        "an operation was given the wrong kind of permit"
    );
    Err(Code::InternalError.into())
}

/// For operations that need a user and no bucket that is there.
pub fn user(call: &Call, operation: Operation) -> S3Result<UserPermit> {
    if needs::scope(operation, &call.head) != Scope::Service {
        return mismatch(operation);
    }
    let Caller::User(user) = &call.caller else { return denied() };
    let Some(identity) = user.identity.as_deref().filter(|_| !user.admin) else {
        return Ok(UserPermit { user: user.clone() });
    };
    let Some(action) = needs::service_action(operation) else { return mismatch(operation) };
    let region = &call.service.settings.region;
    let context = context::of_request(&call.head, &call.caller, &user.id, region);
    let lets = |action: &&str| {
        identity.lets(&Question {
            principal: call.caller.principal(),
            action,
            resource: call.head.target.bucket.as_deref().unwrap_or("*"),
            context: &context,
        })
    };
    match needs::beside(operation, &call.head).iter().chain([&action]).all(lets) {
        true => Ok(UserPermit { user: user.clone() }),
        false => denied(),
    }
}

/// For operations on a bucket, or on a key whatever is there.
pub async fn bucket(call: &Call, operation: Operation) -> S3Result<Permit> {
    let Scope::Bucket(need) = needs::scope(operation, &call.head) else {
        return mismatch(operation);
    };
    let target = Target::of(call).await?;
    let key = call.head.target.key.as_deref();
    match target.decide(call, need, key, None) {
        true => Ok(Permit { target }),
        false => denied(),
    }
}

/// For operations on an object.
pub async fn object(call: &Call, operation: Operation) -> S3Result<ObjectPermit> {
    let Scope::Object(need) = needs::scope(operation, &call.head) else {
        return mismatch(operation);
    };
    let key = Bytes::copy_from_slice(call.head.key()?.as_bytes());
    let version = call.head.query.value("versionId").map(str::to_owned);
    Ok(ObjectPermit { target: Target::of(call).await?, need, key, version })
}

/// For the source of a copy: an object of another bucket, perhaps.
pub(crate) async fn source(call: &Call, source: SourceName) -> S3Result<ObjectPermit> {
    let target = Target::named(call, &source.bucket, "x-amz-source-expected-bucket-owner").await?;
    let need = match source.version {
        Some(_) => Need { action: "s3:GetObjectVersion", ..needs::SOURCE },
        None => needs::SOURCE,
    };
    Ok(ObjectPermit { target, need, key: source.key.into(), version: source.version })
}

/// For listing a bucket that a request does not name itself: where the segments of a large object are.
pub(crate) async fn listing(call: &Call, name: &str) -> S3Result<Permit> {
    let target = Target::named(call, name, "x-amz-source-expected-bucket-owner").await?;
    match target.decide(call, needs::LIST, None, None) {
        true => Ok(Permit { target }),
        false => denied(),
    }
}

/// For operations on keys that the body names. Who has no right in the bucket, and whom no policy could
/// give one, is denied before the body is read.
pub async fn keys(call: &Call, operation: Operation) -> S3Result<KeysPermit> {
    let Scope::Keys(need) = needs::scope(operation, &call.head) else {
        return mismatch(operation);
    };
    let target = Target::of(call).await?;
    if target.is_by_acl() && !target.decide(call, need, None, None) {
        return denied();
    }
    Ok(KeysPermit { target, need })
}

/// For the question of a browser, which has no signature. What it learns is no secret: the browser's next
/// request would show it.
pub async fn cross_origin(call: &Call, operation: Operation) -> S3Result<CrossOriginPermit> {
    match needs::scope(operation, &call.head) {
        Scope::CrossOrigin => Ok(CrossOriginPermit { rules: Target::of(call).await?.rules }),
        _ => mismatch(operation),
    }
}

impl Target {
    async fn of(call: &Call) -> S3Result<Target> {
        let target = Self::named(call, call.head.bucket()?, "x-amz-expected-bucket-owner").await?;
        *call.noted.target.borrow_mut() = Some((target.bucket.clone(), target.rules.clone()));
        Ok(target)
    }

    async fn named(call: &Call, name: &str, expected_owner: &str) -> S3Result<Target> {
        let bucket = match call.service.catalogue.bucket(name).await {
            Err(CatalogueError::Refused(Refusal::NoBucket {})) => {
                return Err(Code::NoSuchBucket
                    .with(Code::NoSuchBucket.message())
                    .detail("BucketName", name));
            }
            found => found?,
        };
        if call.head.header(expected_owner)?.is_some_and(|owner| owner != bucket.owner) {
            return denied();
        }
        let rules = call.service.rules.rules(&bucket)?;
        let identity = match &call.caller {
            Caller::Anonymous => None,
            Caller::User(user) if user.admin => None,
            Caller::User(user) if user.identity.is_some() => user.identity.clone(),
            Caller::User(user) => call.service.identities.of_root(&call.service, &user.id).await?,
        };
        Ok(Target { bucket, rules, identity, document: None })
    }

    fn decide(
        &self,
        call: &Call,
        need: Need,
        key: Option<&str>,
        object: Option<&Existing>,
    ) -> bool {
        let mut context = self.context(call);
        if let Some(object) = object {
            context::add_object(&mut context, object);
        }
        self.ask(call, need, key, object, &context, |asked| {
            let allowed = decide::decide(asked, &self.rules);
            let logged = self.rules.logging.is_some();
            if allowed && logged && !decide::decide_without_acls(asked, &self.rules) {
                call.noted.by_acl.set(true);
            }
            allowed
                || (self.granted_by_swift(call, need)
                    && decide::verdict(asked, &self.rules) != Verdict::Deny)
        })
    }

    /// Whether the ACLs of Swift give what is needed, or what the request came with does. A policy that denies
    /// comes before them; a public access block leaves of them what names somebody.
    fn granted_by_swift(&self, call: &Call, need: Need) -> bool {
        // Whom policies of his account bind, has what they and the bucket's say.
        if self.identity.is_some() {
            return false;
        }
        let blocked = self.rules.block.ignore_public_acls || self.rules.restricted();
        call.grant.allows(need.action, &self.bucket)
            || self.rules.container.allows(call, need.action, blocked)
    }

    fn also(&self, call: &Call, action: &'static str, key: Option<&str>) -> S3Result<()> {
        match self.decide(call, Need { action, right: Right::Owner }, key, None) {
            true => Ok(()),
            false => denied(),
        }
    }

    /// What a write does beside writing: members need leave for it, and root users must not be denied it.
    /// `document` is what no header says of it.
    fn beside(
        &self,
        call: &Call,
        action: &'static str,
        key: Option<&str>,
        document: Option<&Document>,
    ) -> S3Result<()> {
        let Some(identity) = &self.identity else { return Ok(()) };
        let (need, mut context) = (Need { action, right: Right::Owner }, self.context(call));
        if let Some(document) = document {
            document.add_to(&mut context, call.head.now_ms);
        }
        let allowed = self.ask(call, need, key, None, &context, |asked| match identity.member {
            Some(_) => decide::decide(asked, &self.rules),
            None => !decide::denies_by_himself(asked),
        });
        if allowed { Ok(()) } else { denied() }
    }

    fn bypass(&self, call: &Call, key: Option<&str>) -> S3Result<bool> {
        let wanted = bypass(call)?;
        if wanted {
            self.also(call, "s3:BypassGovernanceRetention", key)?;
        }
        Ok(wanted)
    }

    /// Whether he could find out by a listing whether there is such a key.
    fn may_list(&self, call: &Call, key: &str) -> bool {
        let mut context = self.context(call);
        context.set("s3:prefix", key);
        let decide = |asked: &Asked<'_>| decide::decide(asked, &self.rules);
        self.ask(call, needs::LIST, None, None, &context, decide)
    }

    fn context(&self, call: &Call) -> Context {
        let region = &call.service.settings.region;
        let (head, owner) = (&call.head, &self.bucket.owner);
        let mut context = context::of_request(head, &call.caller, owner, region);
        for (name, value) in &self.rules.tags {
            context.add(&format!("s3:BucketTag/{name}"), value);
        }
        if let Some(document) = &self.document {
            document.add_to(&mut context, head.now_ms);
        }
        context
    }

    /// Whether no policy has a word in it.
    fn is_by_acl(&self) -> bool {
        self.rules.policy.is_none() && self.identity.is_none()
    }

    fn ask<T>(
        &self,
        call: &Call,
        need: Need,
        key: Option<&str>,
        object: Option<&Existing>,
        context: &Context,
        question: impl FnOnce(&Asked<'_>) -> T,
    ) -> T {
        let resource = match key {
            Some(key) => format!("{}/{key}", self.bucket.name),
            None => self.bucket.name.clone(),
        };
        let pays =
            call.head.headers.get("x-amz-request-payer").is_some_and(|who| who == "requester")
                || call.head.query.value("x-amz-request-payer") == Some("requester");
        question(&Asked {
            caller: call.caller.principal(),
            admin: call.caller.is_admin(),
            identity: self.identity.as_deref(),
            pays,
            need,
            resource: &resource,
            context,
            bucket_owner: &self.bucket.owner,
            object,
        })
    }
}

impl UserPermit {
    /// Who it is.
    pub fn user(&self) -> &User {
        &self.user
    }
}

impl CrossOriginPermit {
    /// The rules of the bucket.
    pub fn rules(&self) -> &Rules {
        &self.rules
    }
}

impl Permit {
    /// The bucket.
    pub fn bucket(&self) -> &Rc<Bucket> {
        &self.target.bucket
    }

    /// Whether the request goes past retentions in governance mode: he must be allowed to.
    pub fn bypass(&self, call: &Call) -> S3Result<bool> {
        self.target.bypass(call, call.head.target.key.as_deref())
    }

    /// Denies what the request wants beside its operation, unless the owner or a policy allows it.
    pub fn also(&self, call: &Call, action: &'static str) -> S3Result<()> {
        self.target.also(call, action, call.head.target.key.as_deref())
    }

    /// Denies what a write does beside writing, where a policy of who asks has a word in it.
    pub fn beside(&self, call: &Call, action: &'static str) -> S3Result<()> {
        self.target.beside(call, action, call.head.target.key.as_deref(), None)
    }

    /// As [`Permit::beside`], of tags that a copy takes with it.
    pub fn beside_tags(&self, call: &Call, tags: &BTreeMap<String, String>) -> S3Result<()> {
        let (action, key) = ("s3:PutObjectTagging", call.head.target.key.as_deref());
        self.target.beside(call, action, key, Some(&Document::Tags(tags.clone())))
    }

    /// Its rules.
    pub fn rules(&self) -> &Rules {
        &self.target.rules
    }
}

impl ObjectPermit {
    /// Whether the decision hangs on what the body of the request says.
    pub fn is_about_body(&self) -> bool {
        !self.target.is_by_acl()
    }

    /// With what the body says, for the policies.
    pub fn with(mut self, document: Document) -> ObjectPermit {
        self.target.document = Some(document);
        self
    }

    /// The object, if there is one and the caller may have it. Errors: `AccessDenied`; `NoSuchKey`, but to
    /// those only who may list the bucket.
    pub async fn read(&self, call: &Call, body: bool) -> S3Result<Admitted> {
        let bucket = &self.target.bucket;
        let version = match self.version.as_deref() {
            None => None,
            Some("") => {
                return Err(call.bad_argument("versionId", "Version id cannot be the empty string"));
            }
            Some(text) => Some(named_version(text, bucket)?),
        };
        let read = Read { key: self.key.clone(), body, version };
        let found = call.service.catalogue.read(&self.target.bucket, read).await?;
        let key = std::str::from_utf8(&self.key).map_err(|_| Code::InvalidURI)?;
        let found = match (found, version) {
            (Some(found), _) if !found.entry.delete_marker => found,
            (Some(found), _) => {
                let error = is_marker(bucket, &found.entry, version.is_some());
                return self.missing(call, key, error);
            }
            (None, None) => return self.missing(call, key, no_such_key(&self.key)),
            (None, Some(version)) => {
                let error = Code::NoSuchVersion.with(Code::NoSuchVersion.message());
                let error = error.detail("Key", key).detail("VersionId", version.text(bucket.id));
                return self.missing(call, key, error);
            }
        };
        let existing = Existing::of(&found);
        match self.target.decide(call, self.need, Some(key), Some(&existing)) {
            true => Ok(Admitted { bucket: self.target.bucket.clone(), found, version }),
            false => denied(),
        }
    }

    /// Denies the tags of an object that was read to who may not read those.
    pub fn tags(&self, call: &Call, found: &Found) -> S3Result<()> {
        let action = match self.version {
            Some(_) => "s3:GetObjectVersionTagging",
            None => "s3:GetObjectTagging",
        };
        let key = std::str::from_utf8(&self.key).map_err(|_| Code::InvalidURI)?;
        let (need, object) = (Need { action, ..needs::SOURCE }, Existing::of(found));
        match self.target.decide(call, need, Some(key), Some(&object)) {
            true => Ok(()),
            false => denied(),
        }
    }

    fn missing(&self, call: &Call, key: &str, error: S3Error) -> S3Result<Admitted> {
        let owner = call.caller.is(&self.target.bucket.owner) || call.caller.is_admin();
        let context = self.target.context(call);
        let verdict = self.target.ask(call, self.need, Some(key), None, &context, |asked| {
            decide::verdict(asked, &self.target.rules)
        });
        let may_know = owner
            || self.target.granted_by_swift(call, self.need)
            || self.target.may_list(call, key);
        match may_know && (verdict != Verdict::Deny || call.caller.is_admin()) {
            true => Err(error),
            false => denied(),
        }
    }

    /// The name of the bucket that is looked into.
    pub fn bucket_name(&self) -> &str {
        &self.target.bucket.name
    }

    /// As [`Permit::bypass`].
    pub fn bypass(&self, call: &Call) -> S3Result<bool> {
        self.target.bypass(call, call.head.target.key.as_deref())
    }

    /// The key that is looked for.
    pub fn key(&self) -> &Bytes {
        &self.key
    }

    /// The rules of the bucket.
    pub fn rules(&self) -> &Rules {
        &self.target.rules
    }
}

/// An object that the caller may have.
pub struct Admitted {
    /// Where it is.
    pub bucket: Rc<Bucket>,
    /// The object.
    pub found: Found,
    /// The version that was asked for; `None` for the newest.
    pub version: Option<Version>,
}

impl KeysPermit {
    /// The bucket: nothing in it may be touched but keys that passed [`KeysPermit::check`].
    pub fn bucket(&self) -> &Rc<Bucket> {
        &self.target.bucket
    }

    /// Whether the caller may do to this key what he is about to; `AccessDenied` otherwise. `version` is
    /// whether he names one.
    pub fn check(&self, call: &Call, key: &str, version: bool) -> S3Result<()> {
        let action = match version {
            true => "s3:DeleteObjectVersion",
            false => self.need.action,
        };
        let need = Need { action, ..self.need };
        self.target.bypass(call, Some(key))?;
        match self.target.decide(call, need, Some(key), None) {
            true => Ok(()),
            false => denied(),
        }
    }
}

impl Caller {
    /// As policies and ACLs see him.
    pub fn principal(&self) -> Principal<'_> {
        match self {
            Caller::Anonymous => Principal::Anonymous,
            Caller::User(user) => {
                match user.identity.as_ref().and_then(|who| who.member.as_ref()) {
                    None => Principal::User(&user.id),
                    Some(member) => Principal::Member(member),
                }
            }
        }
    }

    /// His own policies, if he has any.
    pub fn identity(&self) -> Option<&Identity> {
        match self {
            Caller::Anonymous => None,
            Caller::User(user) => user.identity.as_deref(),
        }
    }

    /// Whether he may use everybody's buckets.
    pub fn is_admin(&self) -> bool {
        matches!(self, Caller::User(user) if user.admin)
    }

    /// The id of his account; for nobody stands the one that is given.
    pub fn id_or<'a>(&'a self, nobody: &'a str) -> &'a str {
        match self {
            Caller::Anonymous => nobody,
            Caller::User(user) => &user.id,
        }
    }

    /// Whether he is this user: the root user of that account.
    pub fn is(&self, id: &str) -> bool {
        self.principal() == Principal::User(id)
    }
}

/// Whether anybody but the owner may use a bucket by its ACL: what `GetBucketPolicyStatus` counts in.
pub fn acl_is_public(rules: &Rules) -> bool {
    super::acl::is_public(&rules.bucket_acl)
        && !rules.block.ignore_public_acls
        && rules.ownership != rules::Ownership::BucketOwnerEnforced
}
