//! Whose a new object is, and who else may use it: what the headers of a write ask for, within the rules of
//! the bucket.

use super::super::acl::{self, Parties};
use super::super::error::{Code, S3Result};
use super::super::{Call, Caller};
use super::Permit;
use super::rules::{Ownership, Rules};
use store_base::bucket::Acl;

/// Owner and ACL of a new object.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sharing {
    /// The user id.
    pub owner: String,
    /// `None` for a private object.
    pub acl: Option<Acl>,
}

impl Sharing {
    /// As the request asks. Errors: those of [`acl::from_headers`], `AccessControlListNotSupported` where ACLs
    /// are switched off, `AccessDenied` for a public one where those are blocked, or
    /// for a lock that he may not set, and for a list or tags that his own policies do not let him set.
    pub fn of_write(call: &Call, permit: &Permit) -> S3Result<Sharing> {
        let (bucket, rules) = (permit.bucket(), permit.rules());
        if call.head.headers.contains_key("x-amz-object-lock-mode") {
            permit.also(call, "s3:PutObjectRetention")?;
        }
        if call.head.headers.contains_key("x-amz-object-lock-legal-hold") {
            permit.also(call, "s3:PutObjectLegalHold")?;
        }
        if acl::asked_for(&call.head) {
            permit.beside(call, "s3:PutObjectAcl")?;
        }
        if call.head.headers.contains_key("x-amz-tagging") {
            permit.beside(call, "s3:PutObjectTagging")?;
        }
        let canned = call.head.header("x-amz-acl")?;
        if rules.ownership == Ownership::BucketOwnerEnforced {
            check_switched_off(call)?;
            return Ok(Sharing { owner: bucket.owner.clone(), acl: None });
        }
        let given_to_owner = rules.ownership == Ownership::BucketOwnerPreferred
            && canned == Some("bucket-owner-full-control");
        let owner = match &call.caller {
            // What nobody writes would be nobody's, and an administrator acts for the owner.
            Caller::Anonymous => &bucket.owner,
            Caller::User(user) if user.admin || given_to_owner => &bucket.owner,
            Caller::User(user) => &user.id,
        };
        let parties = Parties { owner, bucket_owner: Some(&bucket.owner) };
        let acl = acl::from_headers(&call.head, parties, &*call.service.keys)?;
        check_public(rules, acl.as_ref())?;
        let acl = acl.filter(|acl| *acl != acl::private(owner));
        Ok(Sharing { owner: owner.clone(), acl })
    }
}

/// Where ACLs are switched off, only that one may be asked for which says what holds anyway.
fn check_switched_off(call: &Call) -> S3Result<()> {
    match call.head.header("x-amz-acl")? {
        None if !acl::asked_for(&call.head) => Ok(()),
        Some("bucket-owner-full-control") => Ok(()),
        _ => Err(Code::AccessControlListNotSupported.into()),
    }
}

/// Refuses a public ACL where those are blocked.
fn check_public(rules: &Rules, acl: Option<&Acl>) -> S3Result<()> {
    match acl.is_some_and(acl::is_public) && rules.block.block_public_acls {
        false => Ok(()),
        true => Err(Code::AccessDenied.into()),
    }
}

impl Rules {
    /// Checks an ACL that is to be set on the bucket or an object of it.
    pub fn check_new_acl(&self, acl: &Acl) -> S3Result<()> {
        if self.ownership == Ownership::BucketOwnerEnforced {
            return Err(Code::AccessControlListNotSupported.into());
        }
        check_public(self, Some(acl))
    }
}
