//! What each operation needs: the action that policies know it by, what it is done to, and the right that an
//! ACL can give to it.

use super::super::acl;
use super::super::request::Head;
use super::super::router::{Operation, subresource};
use store_base::bucket::Permission;

/// What of the ACLs suffices, where no policy speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Right {
    /// Nothing: it is for the bucket's owner.
    Owner,
    /// This permission by the bucket's ACL.
    Bucket(Permission),
    /// This permission by the object's ACL.
    Object(Permission),
}

/// What a decision is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Need {
    /// As policies write it.
    pub action: &'static str,
    /// What ACLs can give.
    pub right: Right,
}

/// At what a decision looks, and so when it is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Nothing but that there is a user.
    Service,
    /// The rules of the bucket for other origins, which hold for everybody.
    CrossOrigin,
    /// The bucket, or a key in it, whatever is there: decided before the operation begins.
    Bucket(Need),
    /// An object: decided when it is read, because its ACL is part of it.
    Object(Need),
    /// Keys that the request's body names: decided for each.
    Keys(Need),
}

const READ: Permission = Permission::Read {};
const WRITE: Permission = Permission::Write {};
const READ_ACP: Permission = Permission::ReadAcp {};
const WRITE_ACP: Permission = Permission::WriteAcp {};

/// Listing the bucket of a missing object decides whether one may know that it is missing.
pub const LIST: Need = Need { action: "s3:ListBucket", right: Right::Bucket(READ) };

/// What a copy needs of its source.
pub const SOURCE: Need = Need { action: "s3:GetObject", right: Right::Object(READ) };

fn owner(action: &'static str) -> Scope {
    Scope::Bucket(Need { action, right: Right::Owner })
}

fn bucket(action: &'static str, permission: Permission) -> Scope {
    Scope::Bucket(Need { action, right: Right::Bucket(permission) })
}

fn object(head: &Head, action: &'static str, permission: Permission) -> Scope {
    Scope::Object(Need { action: versioned(head, action), right: Right::Object(permission) })
}

/// For the bucket's owner, and decided with the object.
fn of_owner(action: &'static str) -> Scope {
    Scope::Object(Need { action, right: Right::Owner })
}

/// The action for one version, where the request names one.
fn versioned(head: &Head, action: &'static str) -> &'static str {
    if !head.query.has("versionId") {
        return action;
    }
    match action {
        "s3:GetObject" => "s3:GetObjectVersion",
        "s3:GetObjectAcl" => "s3:GetObjectVersionAcl",
        "s3:PutObjectAcl" => "s3:PutObjectVersionAcl",
        "s3:GetObjectAttributes" => "s3:GetObjectVersionAttributes",
        "s3:GetObjectTagging" => "s3:GetObjectVersionTagging",
        "s3:PutObjectTagging" => "s3:PutObjectVersionTagging",
        "s3:DeleteObjectTagging" => "s3:DeleteObjectVersionTagging",
        "s3:DeleteObject" => "s3:DeleteObjectVersion",
        other => other,
    }
}

/// The scope of an operation. A new operation does not build before it is said here.
pub fn scope(operation: Operation, head: &Head) -> Scope {
    use Operation as Op;
    match operation {
        Op::ListBuckets | Op::CreateBucket => Scope::Service,
        Op::PreflightRequest => Scope::CrossOrigin,
        Op::HeadBucket | Op::ListObjects | Op::ListObjectsV2 => bucket("s3:ListBucket", READ),
        Op::ListObjectVersions => bucket("s3:ListBucketVersions", READ),
        Op::ListMultipartUploads => bucket("s3:ListBucketMultipartUploads", READ),
        Op::GetBucketLocation => bucket("s3:GetBucketLocation", READ),
        Op::DeleteBucket => owner("s3:DeleteBucket"),
        Op::GetBucketAcl => bucket("s3:GetBucketAcl", READ_ACP),
        Op::PutBucketAcl => bucket("s3:PutBucketAcl", WRITE_ACP),
        Op::GetBucketPolicy => owner("s3:GetBucketPolicy"),
        Op::PutBucketPolicy => owner("s3:PutBucketPolicy"),
        Op::DeleteBucketPolicy => owner("s3:DeleteBucketPolicy"),
        Op::GetBucketPolicyStatus => owner("s3:GetBucketPolicyStatus"),
        Op::GetPublicAccessBlock => owner("s3:GetBucketPublicAccessBlock"),
        Op::PutPublicAccessBlock | Op::DeletePublicAccessBlock => {
            owner("s3:PutBucketPublicAccessBlock")
        }
        Op::GetBucketOwnershipControls => owner("s3:GetBucketOwnershipControls"),
        Op::PutBucketOwnershipControls | Op::DeleteBucketOwnershipControls => {
            owner("s3:PutBucketOwnershipControls")
        }
        Op::GetBucketCors => owner("s3:GetBucketCORS"),
        Op::PutBucketCors | Op::DeleteBucketCors => owner("s3:PutBucketCORS"),
        Op::GetBucketLifecycleConfiguration => owner("s3:GetLifecycleConfiguration"),
        Op::PutBucketLifecycleConfiguration | Op::DeleteBucketLifecycle => {
            owner("s3:PutLifecycleConfiguration")
        }
        Op::GetBucketNotificationConfiguration => owner("s3:GetBucketNotification"),
        Op::PutBucketNotificationConfiguration => owner("s3:PutBucketNotification"),
        Op::GetBucketTagging => owner("s3:GetBucketTagging"),
        Op::PutBucketTagging | Op::DeleteBucketTagging => owner("s3:PutBucketTagging"),
        Op::GetBucketWebsite => owner("s3:GetBucketWebsite"),
        Op::PutBucketWebsite => owner("s3:PutBucketWebsite"),
        Op::DeleteBucketWebsite => owner("s3:DeleteBucketWebsite"),
        Op::GetBucketRequestPayment => owner("s3:GetBucketRequestPayment"),
        Op::PutBucketRequestPayment => owner("s3:PutBucketRequestPayment"),
        Op::GetBucketLogging => owner("s3:GetBucketLogging"),
        Op::PutBucketLogging | Op::PostBucketLogging => owner("s3:PutBucketLogging"),
        Op::GetBucketEncryption => owner("s3:GetEncryptionConfiguration"),
        Op::PutBucketEncryption | Op::DeleteBucketEncryption => {
            owner("s3:PutEncryptionConfiguration")
        }
        Op::GetBucketSetting => owner(setting(head, false)),
        Op::DeleteBucketSetting => owner(setting(head, true)),
        Op::GetObject | Op::HeadObject => object(head, "s3:GetObject", READ),
        Op::GetObjectAttributes => object(head, "s3:GetObjectAttributes", READ),
        Op::GetObjectAcl => object(head, "s3:GetObjectAcl", READ_ACP),
        Op::PutObjectAcl => object(head, "s3:PutObjectAcl", WRITE_ACP),
        Op::GetObjectTagging => object(head, "s3:GetObjectTagging", READ),
        Op::PutObjectTagging => object(head, "s3:PutObjectTagging", WRITE),
        Op::DeleteObjectTagging => object(head, "s3:DeleteObjectTagging", WRITE),
        Op::GetBucketVersioning => owner("s3:GetBucketVersioning"),
        Op::PutBucketVersioning => owner("s3:PutBucketVersioning"),
        Op::GetObjectLockConfiguration => owner("s3:GetBucketObjectLockConfiguration"),
        Op::PutObjectLockConfiguration => owner("s3:PutBucketObjectLockConfiguration"),
        Op::GetObjectRetention => of_owner("s3:GetObjectRetention"),
        Op::PutObjectRetention => of_owner("s3:PutObjectRetention"),
        Op::GetObjectLegalHold => of_owner("s3:GetObjectLegalHold"),
        Op::PutObjectLegalHold => of_owner("s3:PutObjectLegalHold"),
        Op::PutObject | Op::PostObject | Op::CopyObject => bucket("s3:PutObject", WRITE),
        Op::CreateMultipartUpload | Op::UploadPart | Op::UploadPartCopy => {
            bucket("s3:PutObject", WRITE)
        }
        Op::CompleteMultipartUpload => bucket("s3:PutObject", WRITE),
        Op::AbortMultipartUpload => bucket("s3:AbortMultipartUpload", WRITE),
        Op::ListParts => bucket("s3:ListMultipartUploadParts", WRITE),
        Op::DeleteObject => bucket(versioned(head, "s3:DeleteObject"), WRITE),
        Op::DeleteObjects => {
            Scope::Keys(Need { action: "s3:DeleteObject", right: Right::Bucket(WRITE) })
        }
        // The owner learns that it is not there; nobody else learns anything.
        Op::Unimplemented | Op::Unknown => owner("s3:PutBucketPolicy"),
    }
}

/// The action of an operation that concerns no bucket that is there.
pub fn service_action(operation: Operation) -> Option<&'static str> {
    match operation {
        Operation::ListBuckets => Some("s3:ListAllMyBuckets"),
        Operation::CreateBucket => Some("s3:CreateBucket"),
        _ => None,
    }
}

/// What the headers of a new bucket do beside making it: who has policies of his own needs leave for each.
pub fn beside(operation: Operation, head: &Head) -> Vec<&'static str> {
    let header = |name: &str| head.headers.get(name).map(http::HeaderValue::as_bytes);
    let mut actions = Vec::new();
    if operation != Operation::CreateBucket {
        return actions;
    }
    if acl::asked_for(head) {
        actions.push("s3:PutBucketAcl");
    }
    // The default changes nothing.
    if header("x-amz-object-ownership").is_some_and(|value| value != b"ObjectWriter") {
        actions.push("s3:PutBucketOwnershipControls");
    }
    let lock = header("x-amz-bucket-object-lock-enabled");
    if lock.is_some_and(|value| !value.eq_ignore_ascii_case(b"false")) {
        actions.extend(["s3:PutBucketObjectLockConfiguration", "s3:PutBucketVersioning"]);
    }
    actions
}

/// The action behind a subresource of a bucket that is not in use.
fn setting(head: &Head, delete: bool) -> &'static str {
    match (subresource(head).unwrap_or_default(), delete) {
        ("accelerate", _) => "s3:GetAccelerateConfiguration",
        ("replication", false) => "s3:GetReplicationConfiguration",
        ("replication", true) => "s3:DeleteReplicationConfiguration",
        _ => "s3:GetBucketPolicy",
    }
}
