//! Inputs of the methods that change who may use a bucket or an object.

use crate::bucket::{Acl, BucketId, Entry, Version};
use bytes::Bytes;
use std::collections::BTreeMap;

/// `set_acl`: replaces who else may use an object. Output: `Answer<Nothing>`; `NoBucket`, `NoKey`,
/// `Precondition`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SetAcl {
    /// The key.
    pub key: Bytes,
    /// Which version; `None` for the newest.
    pub version: Option<Version>,
    /// The object that the caller looked at and decided about; `Precondition` if there is another now.
    pub seen: Entry,
    /// What becomes of its list.
    pub acl: Acl,
}
crate::codec_struct!(SetAcl { key, version, seen, acl });

/// What documents must be for a change of one of them: by name, `None` for one that must not be there.
pub type ExpectedDocuments = BTreeMap<String, Option<Bytes>>;

/// `registry.set_document`: makes or replaces a document of a bucket. Output: `Answer<Nothing>`;
/// `NoBucket`, `Precondition`; an error if all documents together are too long.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SetDocument {
    /// The bucket's name.
    pub name: String,
    /// Its identity.
    pub id: BucketId,
    /// The name of the document, a key of [`super::BucketRecord::documents`].
    pub document: String,
    /// What it becomes.
    pub value: Bytes,
    /// What must hold of this and other documents; empty for nothing.
    pub expected: ExpectedDocuments,
}
crate::codec_struct!(SetDocument { name, id, document, value, expected });

/// `registry.remove_document`: removes a document of a bucket; harmless if there is none. Output:
/// `Answer<Nothing>`; `NoBucket`, `Precondition`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RemoveDocument {
    /// The bucket's name.
    pub name: String,
    /// Its identity.
    pub id: BucketId,
    /// The name of the document.
    pub document: String,
    /// As in [`SetDocument`].
    pub expected: ExpectedDocuments,
}
crate::codec_struct!(RemoveDocument { name, id, document, expected });
