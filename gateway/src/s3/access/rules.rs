//! The rules of a bucket, from its documents. Parsed once per looked-up record, not once per request.

use super::super::acl;
use super::super::cors::Cors;
use super::super::encryption::default::ByDefault;
use super::super::error::{Code, S3Error, S3Result};
use super::super::lifecycle::Lifecycle;
use super::super::logging::Logging;
use super::super::notification::Notifications;
use super::super::policy::Policy;
use super::super::xml::{Element, Xml};
use crate::catalogue::Bucket;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use store_base::bucket::{Acl, BucketId};
use store_base::codec::Decode;

/// Names of documents of a bucket: S3's names of the subresources.
pub mod document {
    /// JSON, as it came.
    pub const POLICY: &str = "policy";
    /// An encoded [`store_base::bucket::Acl`].
    pub const ACL: &str = "acl";
    /// XML with all four flags.
    pub const PUBLIC_ACCESS_BLOCK: &str = "publicAccessBlock";
    /// XML.
    pub const OWNERSHIP: &str = "ownershipControls";
    /// XML, as it came.
    pub const CORS: &str = "cors";
    /// XML, as it came.
    pub const TAGGING: &str = "tagging";
    /// XML, as it came.
    pub const WEBSITE: &str = "website";
    /// XML, as it came.
    pub const PAYMENT: &str = "requestPayment";
    /// XML, as it came.
    pub const ENCRYPTION: &str = "encryption";
    /// XML, in our own form.
    pub const LOGGING: &str = "logging";
    /// A mark: other buckets' journals are, or were, kept here.
    pub const JOURNALED: &str = "journaled";
    /// XML, in our own form.
    pub const LIFECYCLE: &str = "lifecycle";
    /// XML, in our own form.
    pub const NOTIFICATION: &str = "notification";
    /// A mark: somebody is, or was, told of events.
    pub const NOTIFIED: &str = "notified";
    /// A mark: there are, or were, objects that end by themselves.
    pub const EXPIRING: &str = "expiring";
}

/// The four flags of a public access block.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Block {
    /// Nobody may set an ACL that grants something to everybody.
    pub block_public_acls: bool,
    /// Such grants have no effect.
    pub ignore_public_acls: bool,
    /// Nobody may set a public policy.
    pub block_public_policy: bool,
    /// A public policy lets in the owner alone.
    pub restrict_public_buckets: bool,
}

impl Block {
    const FLAGS: [&str; 4] =
        ["BlockPublicAcls", "IgnorePublicAcls", "BlockPublicPolicy", "RestrictPublicBuckets"];

    /// Reads a `PublicAccessBlockConfiguration`; a flag that is not there is off.
    pub fn parse(document: &[u8]) -> S3Result<Block> {
        let root = Element::parse(document, "PublicAccessBlockConfiguration")?;
        let mut flags = [false; 4];
        for (flag, name) in flags.iter_mut().zip(Self::FLAGS) {
            *flag = match root.child_text(name)?.map(|text| text.trim().to_ascii_lowercase()) {
                None => false,
                Some(text) => text.parse().map_err(|_| S3Error::from(Code::MalformedXML))?,
            };
        }
        let [block_public_acls, ignore_public_acls, block_public_policy, restrict_public_buckets] =
            flags;
        Ok(Block {
            block_public_acls,
            ignore_public_acls,
            block_public_policy,
            restrict_public_buckets,
        })
    }

    /// All four flags.
    pub fn to_xml(self) -> Xml {
        let flags = [
            self.block_public_acls,
            self.ignore_public_acls,
            self.block_public_policy,
            self.restrict_public_buckets,
        ];
        let mut xml = Xml::root("PublicAccessBlockConfiguration");
        Self::FLAGS.iter().zip(flags).for_each(|(name, flag)| xml.value(name, flag));
        xml.close("PublicAccessBlockConfiguration");
        xml
    }
}

/// Who owns the objects of a bucket.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Ownership {
    /// Who writes them: the default.
    #[default]
    ObjectWriter,
    /// Who writes them, unless he gives the bucket's owner full control.
    BucketOwnerPreferred,
    /// The bucket's owner; ACLs have no effect and cannot be set.
    BucketOwnerEnforced,
}

impl Ownership {
    const NAMES: [(Ownership, &str); 3] = [
        (Ownership::ObjectWriter, "ObjectWriter"),
        (Ownership::BucketOwnerPreferred, "BucketOwnerPreferred"),
        (Ownership::BucketOwnerEnforced, "BucketOwnerEnforced"),
    ];

    /// By S3's name.
    pub fn from_name(name: &str) -> Option<Ownership> {
        Self::NAMES.iter().find(|(_, known)| *known == name).map(|(ownership, _)| *ownership)
    }

    /// Reads `OwnershipControls` with its one rule.
    pub fn parse(document: &[u8]) -> S3Result<Ownership> {
        let root = Element::parse(document, "OwnershipControls")?;
        let mut rules = root.all("Rule");
        match (rules.next(), rules.next()) {
            (Some(rule), None) => Self::from_name(rule.required_text("ObjectOwnership")?.trim())
                .ok_or_else(|| Code::MalformedXML.into()),
            _ => Err(Code::MalformedXML.into()),
        }
    }

    /// As a document.
    pub fn to_xml(self) -> Xml {
        let name =
            Self::NAMES.iter().find(|(known, _)| *known == self).map_or("", |(_, name)| name);
        let mut xml = Xml::root("OwnershipControls");
        xml.open("Rule");
        xml.text("ObjectOwnership", name);
        xml.close("Rule");
        xml.close("OwnershipControls");
        xml
    }
}

/// Reads a `RequestPaymentConfiguration`: whether the requester pays.
pub fn parse_payment(document: &[u8]) -> S3Result<bool> {
    let root = Element::parse(document, "RequestPaymentConfiguration")?;
    match root.required_text("Payer")?.trim() {
        "Requester" => Ok(true),
        "BucketOwner" => Ok(false),
        _ => Err(Code::MalformedXML.into()),
    }
}

/// What a bucket's documents say about access to it.
#[derive(Clone, Debug, Default)]
pub struct Rules {
    /// Its policy.
    pub policy: Option<Policy>,
    /// Its own ACL.
    pub bucket_acl: Acl,
    /// Its public access block.
    pub block: Block,
    /// Who owns its objects.
    pub ownership: Ownership,
    /// What other origins may do.
    pub cors: Option<Cors>,
    /// Whether who asks has to say that he pays.
    pub requester_pays: bool,
    /// How objects are encrypted that ask for nothing else.
    pub encryption: Option<ByDefault>,
    /// Where its access log goes.
    pub logging: Option<Rc<Logging>>,
    /// When its objects go.
    pub lifecycle: Option<Lifecycle>,
    /// Who is told of what happens to them.
    pub notifications: Option<Notifications>,
    /// Its tags, for `s3:BucketTag/…`.
    pub tags: BTreeMap<String, String>,
    /// The ACLs that the container has in Swift.
    pub container: crate::swift::acl::ContainerAcl,
}

impl Rules {
    /// Reads the documents. One that cannot be read was checked by a later gateway, or is damaged: nothing
    /// is allowed then, because it may deny.
    pub fn of(bucket: &Bucket) -> S3Result<Rules> {
        let read = || -> S3Result<Rules> {
            let stored = |name: &str| bucket.documents.get(name);
            let policy = stored(document::POLICY)
                .map(|text| Policy::parse(text, &bucket.name))
                .transpose()
                .map_err(|error| Code::MalformedPolicy.with(error.0))?;
            let bucket_acl = match stored(document::ACL) {
                Some(bytes) => Acl::from_bytes(bytes.clone())
                    .map_err(|error| Code::MalformedACLError.with(error.to_string()))?,
                None => acl::private(&bucket.owner),
            };
            let block = stored(document::PUBLIC_ACCESS_BLOCK).map(|text| Block::parse(text));
            let ownership = stored(document::OWNERSHIP).map(|text| Ownership::parse(text));
            let cors = stored(document::CORS).map(|text| Cors::parse(text));
            let lifecycle = stored(document::LIFECYCLE).map(|text| Lifecycle::parse(text));
            let notified = stored(document::NOTIFICATION).map(|text| Notifications::parse(text));
            let payment = stored(document::PAYMENT).map(|text| parse_payment(text));
            let encryption = stored(document::ENCRYPTION).map(|text| ByDefault::parse(text));
            let tags = stored(document::TAGGING).map(|text| parse_tags(text));
            // A log that cannot be written is no reason to close the bucket.
            let logging = stored(document::LOGGING)
                .and_then(|text| Logging::parse(text, &|_| true).ok().flatten());
            Ok(Rules {
                logging: logging.map(Rc::new),
                policy,
                bucket_acl,
                block: block.transpose()?.unwrap_or_default(),
                ownership: ownership.transpose()?.unwrap_or_default(),
                cors: cors.transpose()?,
                requester_pays: payment.transpose()?.unwrap_or_default(),
                encryption: encryption.transpose()?,
                lifecycle: lifecycle.transpose()?,
                notifications: notified.transpose()?,
                tags: tags.transpose()?.unwrap_or_default(),
                container: crate::swift::acl::ContainerAcl::of(bucket)?,
            })
        };
        read().map_err(|error| {
            tracing::error!(bucket = %bucket.name, %error, "a document of a bucket cannot be read");
            Code::InternalError.into()
        })
    }

    /// Whether a public policy is in force and must let in nobody but the owner.
    pub fn restricted(&self) -> bool {
        self.block.restrict_public_buckets && self.policy.as_ref().is_some_and(Policy::is_public)
    }
}

/// Reads the tags of a bucket.
fn parse_tags(document: &[u8]) -> S3Result<BTreeMap<String, String>> {
    let root = Element::parse(document, "Tagging")?;
    let set = root.all("TagSet").next().ok_or(Code::MalformedXML)?;
    let pair = |tag: &Element| -> S3Result<(String, String)> {
        Ok((tag.required_text("Key")?.to_owned(), tag.required_text("Value")?.to_owned()))
    };
    set.all("Tag").map(pair).collect()
}

/// Most buckets whose rules are kept; all are dropped when there are more.
const KEPT_MAX: usize = 1000;

type Kept = BTreeMap<BucketId, (Rc<Bucket>, Rc<Rules>)>;

/// Rules by the record that they were read from.
#[derive(Default)]
pub struct RulesCache {
    kept: RefCell<Kept>,
}

impl RulesCache {
    /// The rules of a bucket as it was looked up.
    pub fn rules(&self, bucket: &Rc<Bucket>) -> S3Result<Rc<Rules>> {
        let mut kept = self.kept.borrow_mut();
        if let Some((record, rules)) = kept.get(&bucket.id)
            && (Rc::ptr_eq(record, bucket) || record.documents == bucket.documents)
        {
            return Ok(rules.clone());
        }
        let rules = Rc::new(Rules::of(bucket)?);
        if kept.len() >= KEPT_MAX {
            kept.clear();
        }
        kept.insert(bucket.id, (bucket.clone(), rules.clone()));
        Ok(rules)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_and_ownership_come_back() {
        let block = Block { ignore_public_acls: true, ..Block::default() };
        assert_eq!(Block::parse(&block.to_xml().into_bytes()).unwrap(), block);
        let partly = b"<PublicAccessBlockConfiguration><BlockPublicPolicy>TRUE</BlockPublicPolicy></PublicAccessBlockConfiguration>";
        assert!(Block::parse(partly).unwrap().block_public_policy);
        let wrong = b"<PublicAccessBlockConfiguration><BlockPublicPolicy>1</BlockPublicPolicy></PublicAccessBlockConfiguration>";
        assert!(Block::parse(wrong).is_err());
        for (ownership, _) in Ownership::NAMES {
            assert_eq!(Ownership::parse(&ownership.to_xml().into_bytes()).unwrap(), ownership);
        }
        for bad in [
            "<OwnershipControls/>",
            "<OwnershipControls><Rule><ObjectOwnership>Me</ObjectOwnership></Rule></OwnershipControls>",
            "<OwnershipControls><Rule/><Rule/></OwnershipControls>",
        ] {
            assert!(Ownership::parse(bad.as_bytes()).is_err(), "{bad}");
        }
    }

    #[test]
    fn documents_that_cannot_be_read_close_the_bucket() {
        for name in [
            document::POLICY,
            document::ACL,
            document::OWNERSHIP,
            document::CORS,
            document::ENCRYPTION,
        ] {
            let documents = [(name.to_owned(), "?".into())].into();
            let bucket = Bucket { documents, ..Bucket::default() };
            assert_eq!(Rules::of(&bucket).unwrap_err().code, Code::InternalError, "{name}");
        }
    }
}
