//! Who may do what: the decision that stands before every handler.
//!
//! An account belongs to the user of its name, and to those members of it who administer it; administrators
//! of the cluster may use it too. To others the account can give roles ([`super::acl::Role`]). Who has
//! neither has what the ACLs of single containers, policies, and the ACLs of S3 grant him. That is decided by
//! [`account`] first, and what it gives is wanted by every handler.
//!
//! What may be done to a container and its objects is decided a second time by the access rules of S3
//! (`crate::s3::access`), as the operation of S3 that does the same: what a policy denies is
//! denied over both protocols. The ACLs of Swift are part of those rules. Handlers get their bucket from
//! those permits only.
//!
//! The containers of an account are the buckets that its user owns. Names of buckets are one space for the whole
//! cluster, those of containers are one for each account: where a name is taken by another account, the bucket
//! is called `ACCOUNT:NAME` ([`bucket_name`]).

use super::Call;
use super::acl::{self, Grant, Role};
use super::error::{SwiftError, SwiftResult};
use crate::catalogue::{Bucket, CatalogueError};
use crate::keyring::User;
use crate::s3::Caller;
use crate::s3::access::{self, ObjectPermit, Permit, Sharing};
use crate::s3::operations::SourceName;
use crate::s3::router::Operation;
use http::StatusCode;
use std::rc::Rc;
use std::sync::Arc;
use store_base::bucket::Refusal;

/// Longest name of a container.
pub(super) const CONTAINER_BYTES_MAX: usize = 256;

/// Leave to use an account, as far as the role goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct AccountPermit {
    account: String,
    role: Role,
}

impl AccountPermit {
    /// The account: a user's id.
    pub(super) fn id(&self) -> &str {
        &self.account
    }

    /// Whether he may see and set what is the owner's: keys, access control, quotas.
    pub(super) fn owns(&self) -> bool {
        self.role == Role::Admin
    }

    /// Denies what wants a greater role.
    pub(super) fn wants(&self, role: Role) -> SwiftResult<()> {
        match self.role >= role {
            true => Ok(()),
            false => Err(SwiftError::forbidden()),
        }
    }
}

/// Decides about the account that the path names, and makes of the sender whom the rules of S3 know: who
/// administers an account acts for its owner.
pub(super) async fn account(call: &mut Call, account: &str) -> SwiftResult<AccountPermit> {
    let permit = |role| AccountPermit { account: account.to_owned(), role };
    let Caller::User(user) = &call.caller else { return Ok(permit(Role::None)) };
    let user = user.clone();
    if user.admin {
        // An administrator shall not make containers of somebody who is not there.
        let known = call.service.keys.display_name(account).is_some()
            || user.account() == account
            || call.service.keys.is_account(account);
        return match known {
            true => Ok(permit(Role::Admin)),
            false => Err(SwiftError::not_found()),
        };
    }
    let administers = user.member.as_ref().is_none_or(|member| member.admin);
    if user.account() == account && administers {
        if user.id != account {
            let owner = User { id: account.to_owned(), ..User::clone(&user) };
            call.caller = Caller::User(Arc::new(owner));
        }
        // Whom policies of the account bind, they say what he may do; what is the owner's alone is none of it.
        let bound = user.identity.is_some();
        return Ok(permit(if bound { Role::ReadWrite } else { Role::Admin }));
    }
    let kept = call.service.catalogue.account(account).await?;
    let role = acl::role_of(&kept, &call.caller);
    call.grant = Grant::Role { role, account: account.into() };
    Ok(permit(role))
}

/// Decides about the account for a request that a signature lets in.
pub(super) fn signed(account: &str) -> AccountPermit {
    AccountPermit { account: account.to_owned(), role: Role::None }
}

/// Leave to have a body read that names containers and objects, or has them in it. Each is decided by itself when its
/// turn comes; who has no token could have none of them.
pub(super) fn many(call: &Call) -> SwiftResult<()> {
    match &call.caller {
        Caller::User(_) => Ok(()),
        Caller::Anonymous => Err(SwiftError::forbidden()),
    }
}

/// Leave to make a container.
pub(super) fn new_container(call: &Call, account: &AccountPermit) -> SwiftResult<()> {
    account.wants(Role::ReadWrite)?;
    access::user(call, Operation::CreateBucket)?;
    Ok(())
}

/// Leave for one operation on the container of a request, or on a key in it.
pub(super) async fn container(
    call: &Call,
    account: &AccountPermit,
    operation: Operation,
) -> SwiftResult<Permit> {
    check_owned(call, account, call.head.bucket()?).await?;
    Ok(access::bucket(call, operation).await?)
}

/// Leave to look for an object of any account: the source of a copy, the target of a link, a segment.
pub(super) async fn source(
    call: &Call,
    account: &str,
    container: &str,
    object: &str,
    version: Option<String>,
) -> SwiftResult<ObjectPermit> {
    let bucket = bucket_name(call, account, container).await?;
    let bucket = bucket.ok_or_else(|| hidden(call, account))?;
    let source = SourceName { bucket, key: object.to_owned(), version };
    Ok(access::source(call, source).await?)
}

/// What is not there is told to those only who may look.
pub(super) fn hidden(call: &Call, account: &str) -> SwiftError {
    let owner = call.caller.is(account) || call.caller.is_admin();
    match owner || call.grant.sees(account) {
        true => SwiftError::not_found(),
        false => SwiftError::forbidden(),
    }
}

/// A bucket of another account is no container of this one.
async fn check_owned(call: &Call, account: &AccountPermit, name: &str) -> SwiftResult<()> {
    match looked_up(call, name).await? {
        Some(bucket) if bucket.owner == account.account => Ok(()),
        _ => Err(hidden(call, &account.account)),
    }
}

async fn looked_up(call: &Call, name: &str) -> SwiftResult<Option<Rc<Bucket>>> {
    match call.service.catalogue.bucket(name).await {
        Ok(bucket) => Ok(Some(bucket)),
        Err(CatalogueError::Refused(Refusal::NoBucket {})) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// The name of the bucket of a container whose own name is taken by another account.
pub(super) fn taken_name(account: &str, container: &str) -> String {
    format!("{account}:{container}")
}

/// What a container is called: the bucket's name without the account that may stand before it.
pub(super) fn shown_name<'a>(account: &str, bucket: &'a str) -> &'a str {
    let rest = bucket.strip_prefix(account).and_then(|rest| rest.strip_prefix(':'));
    rest.filter(|rest| !rest.is_empty()).unwrap_or(bucket)
}

/// The bucket of a container, if it is there.
pub(super) async fn bucket_name(
    call: &Call,
    account: &str,
    container: &str,
) -> SwiftResult<Option<String>> {
    for name in [container.to_owned(), taken_name(account, container)] {
        match looked_up(call, &name).await? {
            Some(bucket) if bucket.owner == account => return Ok(Some(name)),
            // Nobody has the plain name, so nobody was kept from it.
            None if name == container => {}
            _ => {}
        }
    }
    Ok(None)
}

/// The container of the same account where old versions are kept. Who may write an object need have no right of
/// his own there: the owner has said where its versions go.
pub(super) async fn archive(
    call: &Call,
    account: &AccountPermit,
    container: &str,
) -> SwiftResult<Option<Rc<Bucket>>> {
    match bucket_name(call, account.id(), container).await? {
        Some(name) => looked_up(call, &name).await,
        None => Ok(None),
    }
}

/// The account that a header names; that of the path if there is none. `Destination-Account`,
/// `X-Copy-From-Account`, `X-Symlink-Target-Account`.
pub(super) fn named_account(call: &Call, own: &str, header: &'static str) -> SwiftResult<String> {
    let Some(named) = call.head.header(header)?.filter(|named| !named.is_empty()) else {
        return Ok(own.to_owned());
    };
    let named = String::from_utf8(crate::s3::uri::percent_decode(named.as_bytes()));
    let wrong =
        || SwiftError::new(StatusCode::PRECONDITION_FAILED, format!("{header} names no account."));
    let named = named.map_err(|_| wrong())?;
    if named.contains('/') {
        return Err(wrong());
    }
    match named.strip_prefix("AUTH_").filter(|id| !id.is_empty()) {
        Some(id) => Ok(id.to_owned()),
        None => Err(SwiftError::forbidden()),
    }
}

/// Whose a new object is: always the container's, so that its owner can read what others write there.
pub(super) fn sharing(permit: &Permit) -> Sharing {
    Sharing { owner: permit.bucket().owner.clone(), acl: None }
}

/// Checks the name of a container that is to be made.
pub(super) fn check_container(name: &str) -> SwiftResult<()> {
    match name.len() > CONTAINER_BYTES_MAX {
        false => Ok(()),
        true => Err(SwiftError::new(
            StatusCode::BAD_REQUEST,
            format!("The name of a container has at most {CONTAINER_BYTES_MAX} bytes."),
        )
        .in_kind("text/html; charset=UTF-8")),
    }
}
