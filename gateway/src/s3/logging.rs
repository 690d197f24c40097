//! Access logs: what a bucket's configuration says, and whether a log may go where it says.
//!
//! There are two kinds. **Standard**, as AWS has it: every request is a record; records are collected in memory
//! (`collect`) and written as objects now and then (`deliver`). **Journal**, as Ceph's gateway has it: every change of an
//! object is a record, which is stored before the change is made (`journal`); a log is made of those that wait (`roll`).
//! With both, sources that name the same target and prefix share their logs, and a log can be asked for (`flush`).

pub mod collect;
pub mod deliver;
pub mod flush;
pub mod journal;
pub mod record;
pub mod roll;

use super::access::rules::{Ownership, Rules};
use super::acl;
use super::error::{Code, S3Error, S3Result};
use super::policy::{Context, Principal, Question, Verdict};
use super::xml::{Element, Xml};
use crate::catalogue::Bucket;
use crate::keyring::KeyRing;
use std::time::Duration;
use store_base::bucket::{Acl, AclGroup, Grantee, Permission};

/// Who delivers logs, as policies name it.
pub const DELIVERER: &str = "logging.s3.amazonaws.com";

/// Longest prefix of the names of logs: the rest of the name fits behind it.
const PREFIX_BYTES_MAX: usize = 800;

/// Longest time for which a log is collected, in seconds: a week.
const ROLL_SECS_MAX: u64 = 7 * 24 * 3600;

/// Longest prefix and suffix of a filter, in bytes: as long as a key.
const AFFIX_BYTES_MAX: usize = 1024;

/// The element of stored documents that says when they were written. Nobody is shown it.
const MODIFIED: &str = "ModifiedMs";

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

/// Which records there are, and what is promised about them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Kind {
    /// All requests; best effort.
    #[default]
    Standard,
    /// Changes of objects; no change without its record.
    Journal,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Kind::Standard => "Standard",
            Kind::Journal => "Journal",
        }
    }
}

/// Of which keys a journal tells: of all whose names begin and end so.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// How they begin.
    pub prefix: Option<String>,
    /// How they end.
    pub suffix: Option<String>,
}

impl Filter {
    /// Whether it tells of this key.
    pub fn takes(&self, key: &[u8]) -> bool {
        key.starts_with(self.prefix.as_deref().unwrap_or_default().as_bytes())
            && key.ends_with(self.suffix.as_deref().unwrap_or_default().as_bytes())
    }
}

/// Where the log of a bucket goes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Logging {
    /// What is logged.
    pub kind: Kind,
    /// For how long a log is collected, in seconds; `None` for as long as the gateway's setting says.
    pub roll_secs: Option<u64>,
    /// Ceph's `RecordsBatchSize`: kept and shown. How many records are written at a time is not the client's matter here.
    pub batch: u32,
    /// Of which keys a journal tells.
    pub filter: Filter,
    /// When the configuration became what it is, in ms since 1970; 0 if that is not known.
    pub modified_ms: u64,
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
    /// Reads a `BucketLoggingStatus`; `None` if nothing is to be logged. `known` says which users there are. Errors:
    /// `MalformedXML`, `InvalidArgument`, those of grants, `NotImplemented` for filters by regular expression.
    pub fn parse(document: &[u8], known: &dyn Fn(&str) -> bool) -> S3Result<Option<Logging>> {
        let root = Element::parse(document, "BucketLoggingStatus")?;
        let mut enabled = root.all("LoggingEnabled");
        let Some(logging) = enabled.next() else { return Ok(None) };
        if enabled.next().is_some() {
            return Err(Code::MalformedXML.into());
        }
        let kind = match logging.child_text("LoggingType")?.map(str::trim) {
            None | Some("Standard") => Kind::Standard,
            Some("Journal") => Kind::Journal,
            Some(_) => return Err(Code::MalformedXML.into()),
        };
        let target = logging.required_text("TargetBucket")?.trim().to_owned();
        let prefix = logging.required_text("TargetPrefix")?.to_owned();
        if target.is_empty() || prefix.len() > PREFIX_BYTES_MAX {
            return Err(Code::InvalidArgument.with("The target of the log is not valid."));
        }
        let grants = match logging.all("TargetGrants").next() {
            Some(grants) => acl::grants(grants, known)?,
            None => Acl::default(),
        };
        let roll_secs = number(logging, "ObjectRollTime", ROLL_SECS_MAX)?.filter(|secs| *secs > 0);
        let batch = number(logging, "RecordsBatchSize", u64::from(u32::MAX))?.unwrap_or(0);
        Ok(Some(Logging {
            kind,
            roll_secs,
            batch: u32::try_from(batch).map_err(|_| Code::MalformedXML)?,
            filter: filter(logging)?,
            modified_ms: number(logging, MODIFIED, u64::MAX)?.unwrap_or(0),
            target,
            prefix,
            naming: naming(logging)?,
            grants,
        }))
    }

    /// For how long a log is collected, where the gateway's setting is `default`.
    pub fn roll(&self, default: Duration) -> Duration {
        self.roll_secs.map_or(default, Duration::from_secs)
    }

    /// Whether it says the same, whenever that was said.
    pub fn says_as(&self, other: &Logging) -> bool {
        *self == Logging { modified_ms: self.modified_ms, ..other.clone() }
    }

    /// The document that is shown for it.
    pub fn to_xml(&self, keys: &dyn KeyRing) -> Xml {
        self.written(keys, None)
    }

    /// The document that is stored for it: it knows when it was written.
    pub fn to_stored(&self, keys: &dyn KeyRing) -> Xml {
        self.written(keys, Some(self.modified_ms))
    }

    fn written(&self, keys: &dyn KeyRing, modified_ms: Option<u64>) -> Xml {
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
        // Ceph's extensions; who does not know them ignores them.
        xml.text("LoggingType", self.kind.name());
        if let Some(secs) = self.roll_secs {
            xml.value("ObjectRollTime", secs);
        }
        xml.value("RecordsBatchSize", self.batch);
        if self.filter != Filter::default() {
            xml.open("Filter");
            xml.open("S3Key");
            let rules = [("prefix", &self.filter.prefix), ("suffix", &self.filter.suffix)];
            for (name, value) in rules.into_iter().filter_map(|(name, v)| Some((name, v.as_ref()?)))
            {
                xml.open("FilterRule");
                xml.text("Name", name);
                xml.text("Value", value);
                xml.close("FilterRule");
            }
            xml.close("S3Key");
            xml.close("Filter");
        }
        if let Some(ms) = modified_ms {
            xml.value(MODIFIED, ms);
        }
        xml.close("LoggingEnabled");
        xml.close("BucketLoggingStatus");
        xml
    }
}

/// A number that is at most `max`, if there is one.
fn number(logging: &Element, name: &str, max: u64) -> S3Result<Option<u64>> {
    let Some(text) = logging.child_text(name)?.map(str::trim) else { return Ok(None) };
    match text.parse::<u64>() {
        Ok(number) if number <= max => Ok(Some(number)),
        _ => Err(S3Error::argument(name, text, format!("{name} is a number from 0 to {max}."))),
    }
}

fn filter(logging: &Element) -> S3Result<Filter> {
    let mut filter = Filter::default();
    let keys = logging.all("Filter").flat_map(|filter| filter.all("S3Key"));
    for rule in keys.flat_map(|key| key.all("FilterRule")) {
        let value = rule.required_text("Value")?;
        if value.len() > AFFIX_BYTES_MAX {
            return Err(Code::InvalidArgument
                .with(format!("A filter's value has at most {AFFIX_BYTES_MAX} bytes.")));
        }
        let place = match rule.required_text("Name")?.trim().to_ascii_lowercase().as_str() {
            "prefix" => &mut filter.prefix,
            "suffix" => &mut filter.suffix,
            "regex" => {
                return Err(Code::NotImplemented
                    .with("Filters by regular expression are not there: use prefix and suffix."));
            }
            _ => return Err(Code::MalformedXML.into()),
        };
        if place.replace(value.to_owned()).is_some() {
            return Err(Code::InvalidArgument.with("A filter has one prefix and one suffix."));
        }
    }
    Ok(filter)
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

/// Whether the log of `source` may be put into `target` under `key`: the target's policy lets the deliverer of logs put
/// it, or the prefix itself (so it is written for Ceph's gateway), or, where both are one owner's, its ACL the group of
/// those who deliver.
pub fn may_deliver(
    source: &Bucket,
    target: &Bucket,
    rules: &Rules,
    prefix: &str,
    key: &str,
) -> bool {
    if rules.requester_pays {
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
        source.owner == target.owner
            && rules.ownership != Ownership::BucketOwnerEnforced
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
            ("<ObjectRollTime>-1</ObjectRollTime>".into(), Code::InvalidArgument),
            ("<RecordsBatchSize>x</RecordsBatchSize>".into(), Code::InvalidArgument),
            (key_filter(&[("regex", ".*")]), Code::NotImplemented),
            (key_filter(&[("prefix", "a"), ("prefix", "b")]), Code::InvalidArgument),
            (key_filter(&[("middle", "a")]), Code::MalformedXML),
            ("<LoggingType>x</LoggingType>".into(), Code::MalformedXML),
            ("<TargetObjectKeyFormat/>".into(), Code::MalformedXML),
        ] {
            let inner = format!("<LoggingEnabled>{minimal}{more}</LoggingEnabled>");
            assert_eq!(parse(&inner), Err(code), "{more}");
        }
        assert_eq!(parse("<LoggingEnabled/>"), Err(Code::MalformedXML));
    }

    fn key_filter(rules: &[(&str, &str)]) -> String {
        let rule = |(name, value): &(&str, &str)| {
            format!("<FilterRule><Name>{name}</Name><Value>{value}</Value></FilterRule>")
        };
        let rules: String = rules.iter().map(rule).collect();
        format!("<Filter><S3Key>{rules}</S3Key></Filter>")
    }

    #[test]
    fn cephs_extensions_come_back() {
        let inner = format!(
            "<LoggingEnabled><TargetBucket>t</TargetBucket><TargetPrefix/><LoggingType>Journal</LoggingType><ObjectRollTime>5</ObjectRollTime><RecordsBatchSize>0</RecordsBatchSize>{}</LoggingEnabled>",
            key_filter(&[("prefix", "a/"), ("suffix", ".txt")])
        );
        let mut logging = parse(&inner).unwrap().unwrap();
        assert_eq!((logging.kind, logging.roll_secs), (Kind::Journal, Some(5)));
        assert_eq!(logging.roll(Duration::ZERO), Duration::from_secs(5));
        for (key, taken) in [("a/b.txt", true), ("b/b.txt", false), ("a/b", false)] {
            assert_eq!(logging.filter.takes(key.as_bytes()), taken, "{key}");
        }
        // What is stored knows since when; what is shown says what it says.
        logging.modified_ms = 7;
        let read = |xml: Xml| Logging::parse(&xml.into_bytes(), &|_| true).unwrap().unwrap();
        assert_eq!(read(logging.to_stored(&keys())), logging);
        let shown = read(logging.to_xml(&keys()));
        assert!(shown != logging && shown.says_as(&logging));
        assert!(!shown.says_as(&Logging { roll_secs: None, ..logging }));
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
        // Into another owner's bucket a policy of his leads, and nothing else.
        let theirs = bucket("t", "v");
        assert!(!may_deliver(&source, &theirs, &by_acl, "p/", "p/x"));
        let lets = with(policy("Allow", &service, arn), &none);
        assert!(may_deliver(&source, &theirs, &lets, "p/", "p/x"));
        assert!(!may(&Rules { requester_pays: true, ..by_acl }));
    }
}
