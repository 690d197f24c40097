//! ACLs of buckets and objects: get and put.

use super::super::access::rules::document;
use super::super::access::{ObjectPermit, Permit};
use super::super::acl::{self, Parties};
use super::super::error::{Code, S3Error, S3Result};
use super::super::logging::journal::{Plan, recorded};
use super::super::response;
use super::super::{Answer, Call};
use super::documents::{change, now};
use crate::catalogue::CatalogueError;
use http::StatusCode;
use store_base::bucket::{Acl, Refusal, SetAcl};
use store_base::codec::{Decode, Encode};

/// `GetBucketAcl`
pub(super) async fn bucket(permit: Permit, call: &mut Call) -> S3Result<Answer> {
    let bucket = now(call, &permit).await?;
    let stored = bucket.documents.get(document::ACL).cloned();
    let acl = match stored.map(Acl::from_bytes) {
        Some(acl) => acl.map_err(|_| S3Error::from(Code::InternalError))?,
        None => acl::private(&bucket.owner),
    };
    Ok(response::xml(acl::to_xml(&acl, &bucket.owner, &*call.service.keys)))
}

/// `GetObjectAcl`
pub(super) async fn object(permit: ObjectPermit, call: &mut Call) -> S3Result<Answer> {
    let found = permit.read(call, false).await?.found;
    let owner = &found.entry.owner;
    let acl = found.detail.acl.unwrap_or_else(|| acl::private(owner));
    Ok(response::xml(acl::to_xml(&acl, owner, &*call.service.keys)))
}

/// The list that a request brings, in its headers or in its body.
async fn asked(call: &mut Call, owner: &str, bucket_owner: Option<&str>) -> S3Result<Acl> {
    let parties = Parties { owner, bucket_owner };
    let by_headers = acl::from_headers(&call.head, parties, &*call.service.keys)?;
    let document = call.document(super::DOCUMENT_BYTES_MAX).await?;
    match (by_headers, document.is_empty()) {
        (Some(acl), true) => Ok(acl),
        (Some(_), false) => Err(Code::UnexpectedContent.into()),
        (None, true) => Err(Code::MissingSecurityHeader
            .with(Code::MissingSecurityHeader.message())
            .detail("MissingHeaderName", "x-amz-acl")),
        (None, false) => acl::from_document(&document, owner, &*call.service.keys),
    }
}

/// `PutBucketAcl`
pub(super) async fn put_bucket(permit: Permit, call: &mut Call) -> S3Result<Answer> {
    let owner = permit.bucket().owner.clone();
    let acl = asked(call, &owner, None).await?;
    let bucket = now(call, &permit).await?;
    call.service.rules.rules(&bucket)?.check_new_acl(&acl)?;
    // What was looked at must still hold.
    let seen = [document::OWNERSHIP, document::PUBLIC_ACCESS_BLOCK];
    change(call, &bucket, document::ACL, Some(acl.to_bytes()), &seen).await?;
    Ok(response::empty(StatusCode::OK))
}

/// `PutObjectAcl`
pub(super) async fn put_object(permit: ObjectPermit, call: &mut Call) -> S3Result<Answer> {
    let admitted = permit.read(call, false).await?;
    let entry = admitted.found.entry;
    let acl = asked(call, &entry.owner, Some(&admitted.bucket.owner)).await?;
    permit.rules().check_new_acl(&acl)?;
    let key = permit.key().clone();
    let plan = Plan::of(call, &admitted.bucket, permit.rules(), "REST.PUT.ACL").map(|plan| {
        let known = plan.made(&key, &entry);
        (plan, known)
    });
    // What an ACL is of does not change with it.
    let known = plan.as_ref().map(|(_, known)| known.clone()).unwrap_or_default();
    let set = SetAcl { key, version: admitted.version, seen: entry, acl };
    let done = recorded(
        plan,
        &call.service,
        call.service.catalogue.set_acl(&admitted.bucket, set),
        |_, ()| known,
    );
    match done.await? {
        // Somebody replaced the object that the leave was for.
        Err(CatalogueError::Refused(Refusal::Precondition {})) => {
            Err(Code::OperationAborted.into())
        }
        done => {
            done?;
            Ok(response::empty(StatusCode::OK))
        }
    }
}
