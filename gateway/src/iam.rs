//! IAM and STS: users, groups, roles, access keys, policies of all of them, and credentials for a while. The calls of
//! AWS on the S3 listener: `POST /` with a form (or `GET /?Action=…`), signed for `iam`, `sts` or `s3`.
//!
//! **Accounts.** A user of the cluster (`store user create`) is the *root user* of an account that has his name.
//! Buckets belong to accounts. What he makes over IAM are *members* of his account: they have no right but what
//! policies give them, and what they make belongs to the account. An administrator's members reach every
//! bucket, as far as their policies say. Administrators may also keep policies on other root users, whom nothing
//! else limits (`PutUserPolicy` with the root user's name).
//!
//! **Where it is kept.** Not with the root users in the monitor, whose map every service has in memory, but in
//! identity objects in `s3.meta`, by class methods (`store_base::identity`): members can be many, they change
//! often, and a change of one account is one transaction of one object. Gateways keep what they looked up for a
//! second ([`lookup`]). Secrets are sealed there with the key that seals them in the monitor's map. An access key
//! says in its letters which object knows it (`keys`); there is no second index.
//!
//! **Who decides what.** What a policy says is the business of [`crate::s3::policy`]; how the policies of a member, of
//! his session and of the bucket go together is in `s3::access::decide`. Here is who may call IAM itself:
//! the root user, and members whom a policy allows it.
//!
//! Deliberately absent: tags, permission boundaries, versions of policies, federation, MFA, and the time of last
//! use of keys (nobody writes it down).

mod account;
mod builtin;
mod entities;
mod error;
mod groups;
pub mod identity;
mod key_calls;
mod keys;
pub mod lookup;
mod managed;
mod names;
mod policies;
mod roles;
mod session;
mod sts;
mod users;

use crate::http::body::ResponseBody;
use crate::keyring::User;
use crate::s3::access::context;
use crate::s3::policy::{Context, Principal, Question};
use crate::s3::request::Head;
use crate::s3::uri::{Query, Target};
use crate::s3::xml::Xml;
use crate::s3::{Answer, Caller, DRAIN_TIMEOUT, Service, auth, drain, response};
use crate::transfer::body::{BodyReader, Source};
use error::{IamError, IamResult};
use http::header::{CONTENT_TYPE, HOST, HeaderValue};
use http::{Method, Request};
use hyper::body::Incoming;
use identity::Identity;
use std::rc::Rc;
use std::sync::Arc;
use store_base::identity::{Change, ChangeAccount};
use store_shell::clock;

/// Most bytes of a form.
const FORM_BYTES_MAX: u64 = 256 << 10;

const IAM_NAMESPACE: &str = "https://iam.amazonaws.com/doc/2010-05-08/";
const STS_NAMESPACE: &str = "https://sts.amazonaws.com/doc/2011-06-15/";

/// The type of a form.
const FORM: &[u8] = b"application/x-www-form-urlencoded";

/// Whether a request is one of IAM or STS.
pub fn is_meant<B>(request: &Request<B>, domains: &[String]) -> bool {
    if request.uri().path() != "/" {
        return false;
    }
    let host = request.headers().get(HOST).and_then(|host| host.to_str().ok());
    let by_host = Target::parse(host.unwrap_or_default(), "/", domains);
    if by_host.is_ok_and(|target| target.by_host) {
        return false;
    }
    let query = request.uri().query().unwrap_or_default();
    let in_query = query.split('&').any(|pair| pair.starts_with("Action="));
    let kind = request.headers().get(CONTENT_TYPE).map(HeaderValue::as_bytes).unwrap_or_default();
    match *request.method() {
        Method::POST => in_query || kind.starts_with(FORM),
        Method::GET => in_query,
        _ => false,
    }
}

/// A call that is known to come from its user.
struct Call {
    service: Rc<Service>,
    head: Head,
    form: Query,
    user: Arc<User>,
    /// The access key that it was signed with.
    access_key: String,
}

/// Answers a request of IAM or STS.
pub async fn handle(service: Rc<Service>, request: Request<Incoming>) -> Answer {
    let started = clock::now();
    let request_id = format!("{:016x}", clock::random_u64());
    let (parts, body) = request.into_parts();
    let mut named = Named { name: "IamUnknown", namespace: IAM_NAMESPACE };
    let answered = answer(&service, parts, body, &request_id, &mut named).await;
    let mut answer = match answered {
        Ok(xml) => response::xml(xml),
        Err(error) => error.answer(named.namespace, &request_id),
    };
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/xml"));
    response::set(answer.headers_mut(), "x-amzn-requestid", &request_id);
    response::set(answer.headers_mut(), "server", "store");
    service.metrics.answered_as(named.name, answer.status(), clock::now().since(started));
    let status = answer.status().as_u16();
    tracing::debug!(request = %request_id, operation = named.name, status, "answered");
    answer
}

/// What an action is called, and the namespace of its answer.
#[derive(Clone, Copy)]
struct Named {
    name: &'static str,
    namespace: &'static str,
}

async fn answer(
    service: &Rc<Service>,
    parts: http::request::Parts,
    body: Incoming,
    request_id: &str,
    named: &mut Named,
) -> IamResult<Xml> {
    let mut head = Head {
        query: Query::parse(parts.uri.query().unwrap_or_default())?,
        raw_path: parts.uri.path().to_owned(),
        target: Target::default(),
        now_ms: clock::timestamp().millis(),
        request_id: request_id.to_owned(),
        peer: parts.extensions.get().copied().unwrap_or_default(),
        method: parts.method,
        headers: parts.headers,
    };
    let form = form(service, &mut head, body).await?;
    let parameter = |name: &str| form.value(name).or_else(|| head.query.value(name));
    let action = parameter("Action").ok_or_else(IamError::no_action)?.to_owned();
    let known = ACTIONS.iter().find(|known| **known == action);
    if let Some(name) = known {
        let of_sts = STS_ACTIONS.contains(name);
        *named = Named { name, namespace: if of_sts { STS_NAMESPACE } else { IAM_NAMESPACE } };
    }
    // It would not say which call was meant.
    if auth::is_version_2(&head)? {
        return Err(IamError::denied("The calls of IAM and STS are signed with version 4."));
    }
    let authenticated = service.authenticate(&head, &["iam", "sts", "s3"]).await?;
    let user = authenticated.user.ok_or_else(IamError::no_signature)?;
    service.admit(&Caller::User(user.clone()), None).await?;
    let Some(action) = known else { return Err(IamError::not_there(&action)) };
    let access_key = auth::claimed(&head)?.map(|claim| claim.access_key.to_owned());
    let access_key = access_key.unwrap_or_default();
    let call = Call { service: service.clone(), head, form, user, access_key };
    call.check_session(action)?;
    call.check_swift_member(action)?;
    let mut xml = Xml::document();
    xml.open_with(&format!("{action}Response"), &format!("xmlns=\"{}\"", named.namespace));
    xml.open(&format!("{action}Result"));
    dispatch(&call, action, &mut xml).await?;
    xml.close(&format!("{action}Result"));
    xml.open("ResponseMetadata");
    xml.text("RequestId", request_id);
    xml.close("ResponseMetadata");
    xml.close(&format!("{action}Response"));
    Ok(xml)
}

/// The form of a request. Its hash is put into the head as if the client had sent it: services other than S3
/// sign the hash and do not tell it.
async fn form(service: &Service, head: &mut Head, body: Incoming) -> IamResult<Query> {
    let length = match head.method {
        Method::GET => 0,
        _ => head.body_length(false)?,
    };
    let mut reader = BodyReader::new(Source::Http(body, service.settings.body_idle), None, length);
    if length > FORM_BYTES_MAX {
        let _ = tokio::time::timeout(DRAIN_TIMEOUT, drain(&mut reader)).await;
        return Err(IamError::too_large());
    }
    let bytes = reader.whole(&service.budget).await?.data;
    let digest = hex::encode(ring::digest::digest(&ring::digest::SHA256, &bytes));
    match head.header("x-amz-content-sha256")? {
        Some(told) if told != digest => return Err(IamError::other_body()),
        Some(_) => {}
        None => {
            let value = HeaderValue::from_str(&digest).map_err(|_| IamError::other_body())?;
            head.headers.insert("x-amz-content-sha256", value);
        }
    }
    let text =
        std::str::from_utf8(&bytes).map_err(|_| IamError::invalid("The form is not UTF-8."))?;
    Ok(Query::parse(text)?)
}

/// The actions that STS has.
const STS_ACTIONS: [&str; 3] = ["AssumeRole", "GetCallerIdentity", "GetSessionToken"];

macro_rules! actions {
    ($($name:ident => $handler:path,)*) => {
        /// Every action that there is. Also the labels of the metrics.
        const ACTIONS: &[&str] = &[$(stringify!($name)),*];

        async fn dispatch(call: &Call, action: &str, xml: &mut Xml) -> IamResult<()> {
            match action {
                $(stringify!($name) => $handler(call, xml).await,)*
                other => Err(IamError::not_there(other)),
            }
        }
    };
}

actions! {
    CreateUser => users::create,
    GetUser => users::show,
    UpdateUser => users::update,
    DeleteUser => users::delete,
    ListUsers => users::list,
    CreateAccessKey => key_calls::create,
    UpdateAccessKey => key_calls::update,
    DeleteAccessKey => key_calls::delete,
    ListAccessKeys => key_calls::list,
    CreateGroup => groups::create,
    GetGroup => groups::show,
    UpdateGroup => groups::update,
    DeleteGroup => groups::delete,
    ListGroups => groups::list,
    AddUserToGroup => groups::join,
    RemoveUserFromGroup => groups::leave,
    ListGroupsForUser => groups::of_user,
    CreateRole => roles::create,
    GetRole => roles::show,
    UpdateRole => roles::update,
    UpdateAssumeRolePolicy => roles::update_trust,
    DeleteRole => roles::delete,
    ListRoles => roles::list,
    PutUserPolicy => policies::put_of_user,
    GetUserPolicy => policies::show_of_user,
    DeleteUserPolicy => policies::delete_of_user,
    ListUserPolicies => policies::list_of_user,
    PutGroupPolicy => policies::put_of_group,
    GetGroupPolicy => policies::show_of_group,
    DeleteGroupPolicy => policies::delete_of_group,
    ListGroupPolicies => policies::list_of_group,
    PutRolePolicy => policies::put_of_role,
    GetRolePolicy => policies::show_of_role,
    DeleteRolePolicy => policies::delete_of_role,
    ListRolePolicies => policies::list_of_role,
    AttachUserPolicy => managed::attach_to_user,
    DetachUserPolicy => managed::detach_from_user,
    ListAttachedUserPolicies => managed::list_of_user,
    AttachGroupPolicy => managed::attach_to_group,
    DetachGroupPolicy => managed::detach_from_group,
    ListAttachedGroupPolicies => managed::list_of_group,
    AttachRolePolicy => managed::attach_to_role,
    DetachRolePolicy => managed::detach_from_role,
    ListAttachedRolePolicies => managed::list_of_role,
    CreatePolicy => managed::create,
    GetPolicy => managed::show,
    GetPolicyVersion => managed::show_version,
    ListPolicyVersions => managed::list_versions,
    ListPolicies => managed::list,
    DeletePolicy => managed::delete,
    GetAccountSummary => account::summary,
    ListOpenIDConnectProviders => account::providers,
    AssumeRole => sts::assume_role,
    GetSessionToken => sts::session_token,
    GetCallerIdentity => sts::caller_identity,
}

impl Call {
    /// The account that it is about.
    fn account(&self) -> &str {
        &self.user.id
    }

    fn identity(&self) -> Option<&Identity> {
        self.user.identity.as_deref()
    }

    /// Whether the root user of the account calls, for a while or not.
    fn is_root(&self) -> bool {
        self.identity().is_none_or(|identity| identity.member.is_none())
    }

    fn principal(&self) -> Principal<'_> {
        match self.identity().and_then(|identity| identity.member.as_ref()) {
            Some(member) => Principal::Member(member),
            None => Principal::User(self.account()),
        }
    }

    /// The condition keys of the call.
    fn context(&self) -> Context {
        let caller = Caller::User(self.user.clone());
        let region = &self.service.settings.region;
        let mut context = context::of_request(&self.head, &caller, self.account(), region);
        if let Some(arn) = self.value("PolicyArn") {
            context.add("iam:PolicyARN", arn);
        }
        context
    }

    /// A parameter, wherever it came.
    fn value(&self, name: &str) -> Option<&str> {
        self.form.value(name).or_else(|| self.head.query.value(name))
    }

    fn required(&self, name: &str) -> IamResult<&str> {
        self.value(name).filter(|value| !value.is_empty()).ok_or_else(|| {
            IamError::validation(format!("The request must contain the parameter {name}."))
        })
    }

    /// What a session that is none of a role may not: it was given to use data.
    fn check_session(&self, action: &str) -> IamResult<()> {
        let of_user = self.user.is_session()
            && self.identity().is_some_and(|identity| identity.role_session().is_none());
        match of_user && !matches!(action, "AssumeRole" | "GetCallerIdentity") {
            false => Ok(()),
            true => Err(self.denied(action, "*")),
        }
    }

    /// What a Swift member of an account with full access may not: over IAM she would be more than she is where
    /// the account is an administrator's, or may yet become one.
    fn check_swift_member(&self, action: &str) -> IamResult<()> {
        let account = self.user.member.as_ref().map(|member| &member.account);
        let Some(account) = account.filter(|account| **account == self.user.id) else {
            return Ok(());
        };
        let ordinary = self.service.keys.account(account).is_some_and(|account| !account.admin);
        match ordinary || matches!(action, "GetCallerIdentity" | "GetSessionToken") {
            true => Ok(()),
            false => Err(self.denied(action, "*")),
        }
    }

    fn denied(&self, action: &str, resource: &str) -> IamError {
        IamError::denied(format!("Not authorized to perform {action} on resource {resource}."))
    }

    /// Whether the caller may do this; `action` is without the service.
    fn check(&self, action: &str, resource: &str) -> IamResult<()> {
        let Some(identity) = self.identity().filter(|_| !self.user.admin) else { return Ok(()) };
        let context = self.context();
        let whole = format!("iam:{action}");
        let principal = self.principal();
        let question = Question { principal, action: &whole, resource, context: &context };
        match identity.lets(&question) {
            true => Ok(()),
            false => Err(self.denied(&whole, resource)),
        }
    }

    /// Whether a policy allows this to the caller by its own words, be he the root user or not.
    fn is_allowed_by_policy(&self, action: &str, resource: &str) -> bool {
        let context = self.context();
        let action = format!("iam:{action}");
        let principal = self.principal();
        let question = Question { principal, action: &action, resource, context: &context };
        self.identity()
            .is_some_and(|identity| identity.says(&question).allows && identity.lets(&question))
    }

    /// Changes an account.
    async fn change(&self, account: &str, change: Change) -> IamResult<()> {
        let change = ChangeAccount { account: account.to_owned(), change };
        self.service.catalogue.change_account(change).await??;
        let (request, by) = (&self.head.request_id, &self.access_key);
        tracing::info!(%request, %account, %by, "an account was changed");
        Ok(())
    }
}

/// An empty answer needs no body type of its own.
fn body(bytes: Vec<u8>) -> ResponseBody {
    ResponseBody::Full(bytes.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_told_apart_from_s3() {
        let meant = |method: &str, uri: &str, kind: &str, host: &str| {
            let request = Request::builder().method(method).uri(uri);
            let request = request.header("content-type", kind).header("host", host);
            is_meant(&request.body(()).unwrap(), &["s3.x".to_owned()])
        };
        let form = "application/x-www-form-urlencoded; charset=utf-8";
        assert!(meant("POST", "/", form, "h"));
        assert!(meant("GET", "/?Action=GetCallerIdentity", "", "h"));
        for (method, uri, kind, host) in [
            ("POST", "/b", form, "h"),
            ("POST", "/", form, "b.s3.x"),
            ("POST", "/", "multipart/form-data", "h"),
            ("GET", "/", form, "h"),
            ("PUT", "/?Action=x", form, "h"),
        ] {
            assert!(!meant(method, uri, kind, host), "{method} {uri} {kind} {host}");
        }
    }

    #[test]
    fn actions_are_named_once() {
        let mut names = ACTIONS.to_vec();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), ACTIONS.len());
        assert!(STS_ACTIONS.iter().all(|action| ACTIONS.contains(action)));
    }
}
