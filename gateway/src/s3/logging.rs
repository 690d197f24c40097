//! Access logs: what a bucket's configuration says, and how a request looks in the log. Collecting and
//! delivering the records is in `deliver`.

pub mod deliver;
pub mod record;

use super::access::rules::{Ownership, Rules};
use super::acl;
use super::error::{Code, S3Result};
use super::policy::{Context, Principal, Question, Verdict};
use super::xml::{Element, Xml};
use crate::catalogue::Bucket;
use crate::keyring::KeyRing;
use store_base::bucket::{Acl, AclGroup, Grantee, Permission};

/// Who delivers logs, as policies name it.
pub const DELIVERER: &str = "logging.s3.amazonaws.com";

/// Longest prefix of the names of logs: the rest of the name fits behind it.
const PREFIX_BYTES_MAX: usize = 800;

/// How logs are named behind the prefix.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Naming {
    /// By time.
    #[default]
    Simple,
    /// Below owner, region, bucket and day; the day is that of the delivery.
    ByDelivery,
    /// The same; the day is that of the requests.
    ByEvent,
}

impl Naming {
    fn source(self) -> Option<&'static str> {
        match self {
            Naming::Simple => None,
            Naming::ByDelivery => Some("DeliveryTime"),
            Naming::ByEvent => Some("EventTime"),
        }
    }
}

/// Where the log of a bucket goes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Logging {
    /// The bucket that takes it.
    pub target: String,
    /// How the names of its objects begin.
    pub prefix: String,
    /// How they go on.
    pub naming: Naming,
    /// Who else may use them.
    pub grants: Acl,
}

impl Logging {
    /// Reads a `BucketLoggingStatus`; `None` if nothing is to be logged. `known` says which users there are. Errors: `MalformedXML`, those of
    /// grants, `NotImplemented` for kinds of logs that are not there.
    pub fn parse(document: &[u8], known: &dyn Fn(&str) -> bool) -> S3Result<Option<Logging>> {
        let root = Element::parse(document, "BucketLoggingStatus")?;
        let mut enabled = root.all("LoggingEnabled");
        let Some(logging) = enabled.next() else { return Ok(None) };
        if enabled.next().is_some() {
            return Err(Code::MalformedXML.into());
        }
        match logging.child_text("LoggingType")?.map(str::trim) {
            None | Some("Standard") => {}
            Some("Journal") => {
                return Err(Code::NotImplemented.with("Journals are not supported."));
            }
            Some(_) => return Err(Code::MalformedXML.into()),
        }
        let target = logging.required_text("TargetBucket")?.trim().to_owned();
        let prefix = logging.required_text("TargetPrefix")?.to_owned();
        if target.is_empty() || prefix.len() > PREFIX_BYTES_MAX {
            return Err(Code::InvalidArgument.with("The target of the log is not valid."));
        }
        let grants = match logging.all("TargetGrants").next() {
            Some(grants) => acl::grants(grants, known)?,
            None => Acl::default(),
        };
        Ok(Some(Logging { target, prefix, naming: naming(logging)?, grants }))
    }

    /// The document that is stored and shown for it.
    pub fn to_xml(&self, keys: &dyn KeyRing) -> Xml {
        let mut xml = Xml::root("BucketLoggingStatus");
        xml.open("LoggingEnabled");
        xml.text("TargetBucket", &self.target);
        if !self.grants.grants.is_empty() {
            xml.open("TargetGrants");
            acl::grant_elements(&mut xml, &self.grants, keys);
            xml.close("TargetGrants");
        }
        xml.text("TargetPrefix", &self.prefix);
        xml.open("TargetObjectKeyFormat");
        match self.naming.source() {
            None => xml.text("SimplePrefix", ""),
            Some(source) => {
                xml.open("PartitionedPrefix");
                xml.text("PartitionDateSource", source);
                xml.close("PartitionedPrefix");
            }
        }
        xml.close("TargetObjectKeyFormat");
        xml.close("LoggingEnabled");
        xml.close("BucketLoggingStatus");
        xml
    }
}

fn naming(logging: &Element) -> S3Result<Naming> {
    let Some(format) = logging.all("TargetObjectKeyFormat").next() else {
        return Ok(Naming::Simple);
    };
    let simple = format.all("SimplePrefix").next();
    match (simple, format.all("PartitionedPrefix").next()) {
        (Some(_), None) => Ok(Naming::Simple),
        (None, Some(parts)) => {
            let source = parts.child_text("PartitionDateSource")?.map_or("DeliveryTime", str::trim);
            let known = [Naming::ByDelivery, Naming::ByEvent];
            let naming = known.into_iter().find(|naming| naming.source() == Some(source));
            naming.ok_or_else(|| Code::MalformedXML.into())
        }
        _ => Err(Code::MalformedXML.into()),
    }
}

/// Whether the log of `source` may be put into `target` under `key`: both are one owner's, and the target's
/// policy lets the deliverer of logs put it, or the prefix itself (so it is written for Ceph's gateway), or its
/// ACL the group of those who deliver.
pub fn may_deliver(
    source: &Bucket,
    target: &Bucket,
    rules: &Rules,
    prefix: &str,
    key: &str,
) -> bool {
    if source.owner != target.owner || rules.requester_pays {
        return false;
    }
    let mut context = Context::default();
    context.add("aws:SourceArn", format!("arn:aws:s3:::{}", source.name));
    context.add("aws:SourceAccount", source.owner.clone());
    context.add("aws:PrincipalServiceName", DELIVERER);
    let verdict = |key: &str| {
        let policy = rules.policy.as_ref();
        policy.map_or(Verdict::Silent, |policy| {
            policy.verdict(&Question {
                principal: Principal::Service(DELIVERER),
                action: "s3:PutObject",
                resource: &format!("{}/{key}", target.name),
                context: &context,
            })
        })
    };
    let by_acl = || {
        let to_deliverers = Grantee::Group { group: AclGroup::LogDelivery {} };
        rules.ownership != Ownership::BucketOwnerEnforced
            && rules.bucket_acl.grants.iter().any(|grant| {
                let enough =
                    matches!(grant.permission, Permission::Write {} | Permission::FullControl {});
                grant.grantee == to_deliverers && enough
            })
    };
    match (verdict(key), verdict(prefix)) {
        (Verdict::Deny, _) | (Verdict::Silent, Verdict::Deny) => false,
        (Verdict::Allow, _) | (Verdict::Silent, Verdict::Allow) => true,
        (Verdict::Silent, Verdict::Silent) => by_acl(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keyring::{FixedKeys, User};
    use crate::s3::policy::Policy;
    use store_base::bucket::Grant;

    fn keys() -> FixedKeys {
        FixedKeys::default().with("u", User { id: "u".into(), ..User::default() })
    }

    fn parse(inner: &str) -> Result<Option<Logging>, Code> {
        let text = format!("<BucketLoggingStatus>{inner}</BucketLoggingStatus>");
        Logging::parse(text.as_bytes(), &|id| id == "u").map_err(|error| error.code)
    }

    #[test]
    fn documents_come_back() {
        assert_eq!(parse(""), Ok(None));
        let grant = "<Grant><Grantee><ID>u</ID></Grantee><Permission>READ</Permission></Grant>";
        let by_event = "<TargetObjectKeyFormat><PartitionedPrefix><PartitionDateSource>EventTime</PartitionDateSource></PartitionedPrefix></TargetObjectKeyFormat>";
        let minimal = "<TargetBucket>t</TargetBucket><TargetPrefix>p/</TargetPrefix>";
        for (more, naming) in [("", Naming::Simple), (by_event, Naming::ByEvent)] {
            let inner = format!(
                "<LoggingEnabled>{minimal}<TargetGrants>{grant}</TargetGrants>{more}</LoggingEnabled>"
            );
            let logging = parse(&inner).unwrap().unwrap();
            assert_eq!((logging.target.as_str(), logging.naming), ("t", naming));
            assert_eq!(logging.grants.grants.len(), 1);
            let written = logging.to_xml(&keys()).into_bytes();
            assert_eq!(Logging::parse(&written, &|_| true).unwrap(), Some(logging));
        }
        for (more, code) in [
            (by_event.replace("EventTime", "x"), Code::MalformedXML),
            ("<LoggingType>Journal</LoggingType>".into(), Code::NotImplemented),
            ("<LoggingType>x</LoggingType>".into(), Code::MalformedXML),
            ("<TargetObjectKeyFormat/>".into(), Code::MalformedXML),
        ] {
            let inner = format!("<LoggingEnabled>{minimal}{more}</LoggingEnabled>");
            assert_eq!(parse(&inner), Err(code), "{more}");
        }
        assert_eq!(parse("<LoggingEnabled/>"), Err(Code::MalformedXML));
    }

    #[test]
    fn logs_are_let_in_by_policy_or_acl() {
        let bucket = |name: &str, owner: &str| Bucket {
            name: name.into(),
            owner: owner.into(),
            ..Bucket::default()
        };
        let (source, target) = (bucket("s", "u"), bucket("t", "u"));
        let policy = |effect: &str, who: &str, arn: &str| {
            let text = format!(
                r#"{{"Version":"2012-10-17","Statement":{{"Effect":"{effect}","Principal":{who},"Action":"s3:PutObject","Resource":"arn:aws:s3:::t/p/*","Condition":{{"ArnLike":{{"aws:SourceArn":"{arn}"}},"StringEquals":{{"aws:SourceAccount":"u"}}}}}}}}"#
            );
            Policy::parse(text.as_bytes(), "t").expect("a policy")
        };
        let service = format!(r#"{{"Service":"{DELIVERER}"}}"#);
        let delivers = Grant {
            grantee: Grantee::Group { group: AclGroup::LogDelivery {} },
            permission: Permission::Write {},
        };
        let by_acl = Rules { bucket_acl: Acl { grants: vec![delivers] }, ..Rules::default() };
        let with = |policy: Policy, rules: &Rules| Rules { policy: Some(policy), ..rules.clone() };
        let none = Rules::default();
        let arn = "arn:aws:s3:::s";
        let may = |rules: &Rules| may_deliver(&source, &target, rules, "p/", "p/x");
        assert!(!may(&none) && may(&by_acl));
        assert!(may(&with(policy("Allow", &service, arn), &none)));
        assert!(!may(&with(policy("Allow", &service, "arn:aws:s3:::other"), &none)));
        assert!(!may(&with(policy("Allow", r#"{"Service":"other"}"#, arn), &none)));
        assert!(!may(&with(policy("Allow", r#"{"AWS":"*"}"#, arn), &none)));
        let exactly = Policy::parse(
            br#"{"Version":"2012-10-17","Statement":{"Effect":"Allow","Principal":{"Service":"logging.s3.amazonaws.com"},"Action":"s3:PutObject","Resource":"arn:aws:s3:::t/p/"}}"#,
            "t",
        );
        assert!(may(&with(exactly.unwrap(), &none)));
        assert!(!may(&with(policy("Deny", &service, arn), &by_acl)));
        assert!(!may(&with(policy("Deny", r#""*""#, arn), &by_acl)));
        let enforced = Rules { ownership: Ownership::BucketOwnerEnforced, ..by_acl.clone() };
        assert!(!may(&enforced));
        assert!(!may_deliver(&source, &bucket("t", "v"), &by_acl, "p/", "p/x"));
        assert!(!may(&Rules { requester_pays: true, ..by_acl }));
    }
}
