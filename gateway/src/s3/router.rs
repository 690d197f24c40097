//! Which operation a request is: method, bucket or key, and the subresource in the query.
//!
//! A subresource is looked for first, so a request for something this gateway does not have is never
//! taken for the plain operation. Parameters that name no subresource are ignored, as in S3.

use super::error::{Code, S3Error, S3Result};
use super::request::Head;
use http::Method;

macro_rules! operations {
    ($($name:ident),* $(,)?) => {
        /// Every operation, by S3's name. Also the label of the metrics.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[allow(missing_docs)]
        pub enum Operation { $($name),* }

        impl Operation {
            /// As in S3's documentation.
            pub fn name(self) -> &'static str {
                match self { $(Operation::$name => stringify!($name)),* }
            }

            /// All of them.
            pub const ALL: &[Operation] = &[$(Operation::$name),*];
        }
    };
}

operations! {
    ListBuckets, CreateBucket, HeadBucket, DeleteBucket, GetBucketLocation,
    ListObjects, ListObjectsV2, ListObjectVersions, DeleteObjects,
    GetObject, HeadObject, GetObjectAttributes, PutObject, PostObject, CopyObject, DeleteObject,
    CreateMultipartUpload, UploadPart, UploadPartCopy, ListParts, ListMultipartUploads,
    CompleteMultipartUpload, AbortMultipartUpload,
    GetBucketVersioning, PutBucketVersioning,
    GetObjectLockConfiguration, PutObjectLockConfiguration,
    GetObjectRetention, PutObjectRetention, GetObjectLegalHold, PutObjectLegalHold,
    GetObjectTagging, PutObjectTagging, DeleteObjectTagging,
    GetBucketAcl, PutBucketAcl, GetObjectAcl, PutObjectAcl,
    GetBucketPolicy, PutBucketPolicy, DeleteBucketPolicy, GetBucketPolicyStatus,
    GetPublicAccessBlock, PutPublicAccessBlock, DeletePublicAccessBlock,
    GetBucketOwnershipControls, PutBucketOwnershipControls, DeleteBucketOwnershipControls,
    GetBucketCors, PutBucketCors, DeleteBucketCors, PreflightRequest,
    GetBucketTagging, PutBucketTagging, DeleteBucketTagging,
    GetBucketLifecycleConfiguration, PutBucketLifecycleConfiguration, DeleteBucketLifecycle,
    GetBucketNotificationConfiguration, PutBucketNotificationConfiguration,
    GetBucketWebsite, PutBucketWebsite, DeleteBucketWebsite,
    GetBucketRequestPayment, PutBucketRequestPayment, GetBucketLogging, PutBucketLogging,
    PostBucketLogging,
    GetBucketEncryption, PutBucketEncryption, DeleteBucketEncryption,
    // Answered as S3 answers for a bucket that does not use the feature.
    GetBucketSetting, DeleteBucketSetting,
    // Known, and not there (yet).
    Unimplemented, Unknown,
}

/// Subresources of a bucket.
const BUCKET_SUBRESOURCES: &[&str] = &[
    "abac",
    "accelerate",
    "acl",
    "analytics",
    "cors",
    "delete",
    "encryption",
    "intelligent-tiering",
    "inventory",
    "lifecycle",
    "location",
    "logging",
    "metadataConfiguration",
    "metadataTable",
    "metrics",
    "notification",
    "object-lock",
    "ownershipControls",
    "policy",
    "policyStatus",
    "publicAccessBlock",
    "replication",
    "requestPayment",
    "session",
    "tagging",
    "uploads",
    "versioning",
    "versions",
    "website",
];

/// Subresources of an object.
const OBJECT_SUBRESOURCES: &[&str] = &[
    "acl",
    "append",
    "attributes",
    "encryption",
    "legal-hold",
    "renameObject",
    "restore",
    "retention",
    "select",
    "tagging",
    "torrent",
    "uploadId",
    "uploads",
];

/// The subresource that the query names, if any.
pub fn subresource(head: &Head) -> Option<&'static str> {
    subresources(head).next()
}

/// All subresources that the query names.
pub fn subresources(head: &Head) -> impl Iterator<Item = &'static str> {
    let known = match (&head.target.bucket, &head.target.key) {
        (None, _) => &[],
        (_, None) => BUCKET_SUBRESOURCES,
        (_, Some(_)) => OBJECT_SUBRESOURCES,
    };
    known.iter().copied().filter(|name| head.query.has(name))
}

/// The operation of a request.
pub fn route(head: &Head) -> S3Result<Operation> {
    use Operation::*;
    let found = match (&head.target.bucket, &head.target.key) {
        (Some(_), _) if head.method == Method::OPTIONS => PreflightRequest,
        (None, _) if head.method == Method::GET => ListBuckets,
        (None, _) => return Err(not_allowed("SERVICE", head)),
        (Some(_), None) => bucket_operation(head)?,
        (Some(_), Some(_)) => object_operation(head)?,
    };
    Ok(found)
}

fn bucket_operation(head: &Head) -> S3Result<Operation> {
    use Operation::*;
    let named = subresource(head).unwrap_or_default();
    if let Some(operation) = document_operation(head.method.as_str(), named) {
        return Ok(operation);
    }
    Ok(match (head.method.as_str(), subresource(head)) {
        ("GET", None) if head.query.value("list-type") == Some("2") => ListObjectsV2,
        ("GET", None) => ListObjects,
        ("PUT", None) => CreateBucket,
        ("HEAD", _) => HeadBucket,
        ("DELETE", None) => DeleteBucket,
        ("GET", Some("location")) => GetBucketLocation,
        ("GET", Some("uploads")) => ListMultipartUploads,
        ("GET", Some("versions")) => ListObjectVersions,
        ("POST", Some("delete")) => DeleteObjects,
        ("GET", Some("versioning")) => GetBucketVersioning,
        ("PUT", Some("versioning")) => PutBucketVersioning,
        ("GET", Some("object-lock")) => GetObjectLockConfiguration,
        ("PUT", Some("object-lock")) => PutObjectLockConfiguration,
        ("GET", Some("acl")) => GetBucketAcl,
        ("PUT", Some("acl")) => PutBucketAcl,
        ("GET", Some("delete")) => return Err(not_allowed("BUCKET", head)),
        (
            "GET",
            Some(
                "abac"
                | "analytics"
                | "intelligent-tiering"
                | "inventory"
                | "metrics"
                | "metadataTable"
                | "metadataConfiguration"
                | "session",
            ),
        ) => Unimplemented,
        ("GET", Some(_)) => GetBucketSetting,
        ("DELETE", Some("replication")) => DeleteBucketSetting,
        ("PUT" | "POST" | "DELETE", Some(_)) => Unimplemented,
        ("POST", None) => PostObject,
        _ => return Err(not_allowed("BUCKET", head)),
    })
}

/// Operations on the documents of a bucket.
fn document_operation(method: &str, subresource: &str) -> Option<Operation> {
    use Operation::*;
    Some(match (method, subresource) {
        ("GET", "policy") => GetBucketPolicy,
        ("PUT", "policy") => PutBucketPolicy,
        ("DELETE", "policy") => DeleteBucketPolicy,
        ("GET", "policyStatus") => GetBucketPolicyStatus,
        ("GET", "publicAccessBlock") => GetPublicAccessBlock,
        ("PUT", "publicAccessBlock") => PutPublicAccessBlock,
        ("DELETE", "publicAccessBlock") => DeletePublicAccessBlock,
        ("GET", "ownershipControls") => GetBucketOwnershipControls,
        ("PUT", "ownershipControls") => PutBucketOwnershipControls,
        ("DELETE", "ownershipControls") => DeleteBucketOwnershipControls,
        ("GET", "cors") => GetBucketCors,
        ("PUT", "cors") => PutBucketCors,
        ("DELETE", "cors") => DeleteBucketCors,
        ("GET", "notification") => GetBucketNotificationConfiguration,
        ("PUT", "notification") => PutBucketNotificationConfiguration,
        ("GET", "lifecycle") => GetBucketLifecycleConfiguration,
        ("PUT", "lifecycle") => PutBucketLifecycleConfiguration,
        ("DELETE", "lifecycle") => DeleteBucketLifecycle,
        ("GET", "tagging") => GetBucketTagging,
        ("PUT", "tagging") => PutBucketTagging,
        ("DELETE", "tagging") => DeleteBucketTagging,
        ("GET", "website") => GetBucketWebsite,
        ("PUT", "website") => PutBucketWebsite,
        ("DELETE", "website") => DeleteBucketWebsite,
        ("GET", "requestPayment") => GetBucketRequestPayment,
        ("PUT", "requestPayment") => PutBucketRequestPayment,
        ("GET", "logging") => GetBucketLogging,
        ("PUT", "logging") => PutBucketLogging,
        ("POST", "logging") => PostBucketLogging,
        ("GET", "encryption") => GetBucketEncryption,
        ("PUT", "encryption") => PutBucketEncryption,
        ("DELETE", "encryption") => DeleteBucketEncryption,
        _ => return None,
    })
}

fn object_operation(head: &Head) -> S3Result<Operation> {
    use Operation::*;
    let copies = head.headers.contains_key("x-amz-copy-source");
    Ok(match (head.method.as_str(), subresource(head)) {
        ("GET", None) => GetObject,
        ("HEAD", _) => HeadObject,
        ("PUT", None) if head.query.has("partNumber") => {
            return Err(Code::InvalidArgument
                .with("This operation does not accept partNumber without uploadId"));
        }
        ("PUT", None) if copies => CopyObject,
        ("PUT", None) => PutObject,
        ("DELETE", None) => DeleteObject,
        ("GET", Some("uploadId")) => ListParts,
        ("PUT", Some("uploadId")) if copies => UploadPartCopy,
        ("PUT", Some("uploadId")) => UploadPart,
        ("POST", Some("uploadId")) => CompleteMultipartUpload,
        ("DELETE", Some("uploadId")) => AbortMultipartUpload,
        ("POST", Some("uploads")) => CreateMultipartUpload,
        ("GET", Some("attributes")) => GetObjectAttributes,
        ("GET", Some("tagging")) => GetObjectTagging,
        ("PUT", Some("tagging")) => PutObjectTagging,
        ("DELETE", Some("tagging")) => DeleteObjectTagging,
        ("GET", Some("retention")) => GetObjectRetention,
        ("PUT", Some("retention")) => PutObjectRetention,
        ("GET", Some("legal-hold")) => GetObjectLegalHold,
        ("PUT", Some("legal-hold")) => PutObjectLegalHold,
        ("GET", Some("acl")) => GetObjectAcl,
        ("PUT", Some("acl")) => PutObjectAcl,
        ("GET" | "PUT" | "POST" | "DELETE", Some(_)) => Unimplemented,
        _ => return Err(not_allowed("OBJECT", head)),
    })
}

fn not_allowed(resource: &str, head: &Head) -> S3Error {
    Code::MethodNotAllowed
        .with(Code::MethodNotAllowed.message())
        .detail("Method", head.method.as_str())
        .detail("ResourceType", resource)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::s3::auth::tests::head;

    fn routed(method: &str, target: &str) -> &'static str {
        let head = head(method, target, &[("host", "h")]);
        route(&head).map_or_else(|error| error.code.name(), Operation::name)
    }

    #[test]
    fn operations_are_told_apart() {
        for (method, target, expected) in [
            ("GET", "/", "ListBuckets"),
            ("PUT", "/", "MethodNotAllowed"),
            ("GET", "/b", "ListObjects"),
            ("GET", "/b?list-type=2&x-id=ListObjectsV2", "ListObjectsV2"),
            ("GET", "/b?unknown=1", "ListObjects"),
            ("GET", "/b?versions", "ListObjectVersions"),
            ("GET", "/b?acl", "GetBucketAcl"),
            ("PUT", "/b/k?acl", "PutObjectAcl"),
            ("GET", "/b?policy=", "GetBucketPolicy"),
            ("PUT", "/b?policy", "PutBucketPolicy"),
            ("DELETE", "/b?policy", "DeleteBucketPolicy"),
            ("POST", "/b?policy", "Unimplemented"),
            ("DELETE", "/b?lifecycle", "DeleteBucketLifecycle"),
            ("DELETE", "/b?replication", "DeleteBucketSetting"),
            ("OPTIONS", "/b?policy", "PreflightRequest"),
            ("OPTIONS", "/b/k", "PreflightRequest"),
            ("OPTIONS", "/", "MethodNotAllowed"),
            ("DELETE", "/b?inventory&id=1", "Unimplemented"),
            ("DELETE", "/b/", "DeleteBucket"),
            ("DELETE", "/b?versioning", "Unimplemented"),
            ("POST", "/b", "PostObject"),
            ("POST", "/b?delete", "DeleteObjects"),
            ("PATCH", "/b", "MethodNotAllowed"),
            ("GET", "/b/k", "GetObject"),
            ("GET", "/b//", "GetObject"),
            ("HEAD", "/b/k?partNumber=1", "HeadObject"),
            ("GET", "/b/k?torrent", "Unimplemented"),
            ("GET", "/b/k?location", "GetObject"),
            ("PUT", "/b/k?tagging&versionId=null", "PutObjectTagging"),
            ("PUT", "/b?versioning", "PutBucketVersioning"),
            ("GET", "/b?object-lock", "GetObjectLockConfiguration"),
            ("PUT", "/b/k?retention", "PutObjectRetention"),
            ("PUT", "/b/k?partNumber=1&uploadId=x", "UploadPart"),
            ("PUT", "/b/k?partNumber=1", "InvalidArgument"),
            ("POST", "/b/k?uploads", "CreateMultipartUpload"),
            ("POST", "/b/k?uploadId=x", "CompleteMultipartUpload"),
            ("POST", "/b/k?restore", "Unimplemented"),
            ("POST", "/b/k", "MethodNotAllowed"),
            ("DELETE", "/b/k?uploadId=x", "AbortMultipartUpload"),
            ("DELETE", "/b/k?legal-hold", "Unimplemented"),
        ] {
            assert_eq!(routed(method, target), expected, "{method} {target}");
        }
        let copy = [("host", "h"), ("x-amz-copy-source", "/b/s")];
        assert_eq!(route(&head("PUT", "/b/k", &copy)).unwrap(), Operation::CopyObject);
        let part = head("PUT", "/b/k?uploadId=x&partNumber=1", &copy);
        assert_eq!(route(&part).unwrap(), Operation::UploadPartCopy);
    }
}
