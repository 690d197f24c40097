//! What S3 answers for features that a bucket or object does not use: clients probe for them. Setting
//! them is not implemented and says so.

use super::super::access;
use super::super::error::{Code, S3Result};
use super::super::response;
use super::super::router::subresource;
use super::super::xml::{Element, Xml};
use super::super::{Answer, Call};
use super::read::found;
use bytes::Bytes;
use http::StatusCode;

/// `GetBucketAcl` and `GetObjectAcl`: the owner may do everything, nobody else anything.
pub(super) async fn acl(call: &mut Call) -> S3Result<Answer> {
    let bucket = access::bucket(call).await?;
    let mut owner = bucket.owner.clone();
    if call.head.target.key.is_some() {
        let key = Bytes::copy_from_slice(call.head.key()?.as_bytes());
        owner = found(call, &bucket, &key, false).await?.entry.owner;
    }
    let name = if owner == call.user.id { &call.user.display_name } else { &owner };
    let mut xml = Xml::root("AccessControlPolicy");
    xml.open("Owner");
    xml.text("ID", &owner);
    xml.text("DisplayName", name);
    xml.close("Owner");
    xml.open("AccessControlList");
    xml.open("Grant");
    xml.open_with(
        "Grantee",
        "xmlns:xsi=\"http://www.w3.org/2001/XMLSchema-instance\" xsi:type=\"CanonicalUser\"",
    );
    xml.text("ID", &owner);
    xml.text("DisplayName", name);
    xml.close("Grantee");
    xml.text("Permission", "FULL_CONTROL");
    xml.close("Grant");
    xml.close("AccessControlList");
    xml.close("AccessControlPolicy");
    Ok(response::xml(xml))
}

/// Setting the ACL that is in force anyway succeeds; any other is refused.
pub(super) async fn put_acl(call: &mut Call) -> S3Result<Answer> {
    let bucket = access::bucket(call).await?;
    if call.head.target.key.is_some() {
        let key = Bytes::copy_from_slice(call.head.key()?.as_bytes());
        found(call, &bucket, &key, false).await?;
    }
    access::check_acl_headers(call)?;
    let document = call.document(super::DOCUMENT_BYTES_MAX).await?;
    if !document.is_empty() && !grants_nothing_new(&document, &bucket.owner)? {
        return Err(Code::AccessControlListNotSupported.into());
    }
    Ok(response::empty(StatusCode::OK))
}

/// Whether an ACL says no more than that the owner may do everything: clients write back what they read.
fn grants_nothing_new(document: &[u8], owner: &str) -> S3Result<bool> {
    let root = Element::parse(document, "AccessControlPolicy")?;
    let Some(list) = root.all("AccessControlList").next() else { return Ok(false) };
    for grant in list.all("Grant") {
        let Some(grantee) = grant.all("Grantee").next() else { return Ok(false) };
        let to_owner = grantee.child_text("ID")?.is_some_and(|id| id.trim() == owner);
        if !to_owner || grant.required_text("Permission")?.trim() != "FULL_CONTROL" {
            return Ok(false);
        }
    }
    Ok(true)
}

pub(super) async fn of_bucket(call: &mut Call) -> S3Result<Answer> {
    access::bucket(call).await?;
    let empty = |name: &str| {
        let mut xml = Xml::root(name);
        xml.close(name);
        Ok(response::xml(xml))
    };
    match subresource(&call.head).unwrap_or_default() {
        "versioning" => empty("VersioningConfiguration"),
        "notification" => empty("NotificationConfiguration"),
        "logging" => empty("BucketLoggingStatus"),
        "accelerate" => empty("AccelerateConfiguration"),
        "requestPayment" => {
            let mut xml = Xml::root("RequestPaymentConfiguration");
            xml.text("Payer", "BucketOwner");
            xml.close("RequestPaymentConfiguration");
            Ok(response::xml(xml))
        }
        "ownershipControls" => {
            let mut xml = Xml::root("OwnershipControls");
            xml.open("Rule");
            xml.text("ObjectOwnership", "BucketOwnerEnforced");
            xml.close("Rule");
            xml.close("OwnershipControls");
            Ok(response::xml(xml))
        }
        "cors" => Err(Code::NoSuchCORSConfiguration.into()),
        "encryption" => Err(Code::ServerSideEncryptionConfigurationNotFoundError.into()),
        "lifecycle" => Err(Code::NoSuchLifecycleConfiguration.into()),
        "object-lock" => Err(Code::ObjectLockConfigurationNotFoundError.into()),
        "policy" | "policyStatus" => Err(Code::NoSuchBucketPolicy.into()),
        "publicAccessBlock" => Err(Code::NoSuchPublicAccessBlockConfiguration.into()),
        "replication" => Err(Code::ReplicationConfigurationNotFoundError.into()),
        "tagging" => Err(Code::NoSuchTagSet.into()),
        "website" => Err(Code::NoSuchWebsiteConfiguration.into()),
        _ => Err(Code::NotImplemented.into()),
    }
}

pub(super) async fn of_object(call: &mut Call) -> S3Result<Answer> {
    let bucket = access::bucket(call).await?;
    let key = Bytes::copy_from_slice(call.head.key()?.as_bytes());
    found(call, &bucket, &key, false).await?;
    match subresource(&call.head).unwrap_or_default() {
        "tagging" => {
            let mut xml = Xml::root("Tagging");
            xml.open("TagSet");
            xml.close("TagSet");
            xml.close("Tagging");
            Ok(response::xml(xml))
        }
        "retention" | "legal-hold" => {
            Err(Code::InvalidRequest.with("Bucket is missing Object Lock Configuration"))
        }
        _ => Err(Code::NotImplemented.into()),
    }
}

/// What is not there is as good as deleted.
pub(super) async fn delete(call: &mut Call) -> S3Result<Answer> {
    let bucket = access::bucket(call).await?;
    if call.head.target.key.is_some() {
        let key = Bytes::copy_from_slice(call.head.key()?.as_bytes());
        found(call, &bucket, &key, false).await?;
    }
    Ok(response::empty(StatusCode::NO_CONTENT))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_acl_may_be_written_back_and_not_widened() {
        let acl = |grants: &str| {
            format!(
                "<AccessControlPolicy><Owner><ID>u</ID></Owner><AccessControlList>{grants}</AccessControlList></AccessControlPolicy>"
            )
        };
        let grant = |grantee: &str, permission: &str| {
            format!(
                "<Grant><Grantee>{grantee}</Grantee><Permission>{permission}</Permission></Grant>"
            )
        };
        let own = grant("<ID>u</ID>", "FULL_CONTROL");
        let check = |grants: String| grants_nothing_new(acl(&grants).as_bytes(), "u").ok();
        assert_eq!(check(own.clone()), Some(true));
        assert_eq!(check(grant("<ID>v</ID>", "READ")), Some(false));
        assert_eq!(check(own.clone() + &grant("<ID>v</ID>", "FULL_CONTROL")), Some(false));
        let all = "<URI>http://acs.amazonaws.com/groups/global/AllUsers</URI>";
        assert_eq!(check(own + &grant(all, "READ")), Some(false));
        assert!(grants_nothing_new(b"<Other/>", "u").is_err());
    }
}
