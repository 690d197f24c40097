//! Notifications: which events of a bucket are told to whom. Pure but for [`notes`].
//!
//! Whoever is told is an endpoint that the operator configured (`webhooks`); a configuration names it as the last
//! part of a topic's or queue's ARN.

use super::Call;
use super::access::rules::Rules;
use super::error::{Code, S3Error, S3Result};
use super::xml::{Element, Xml};
use crate::webhook::Webhooks;
use std::collections::BTreeSet;
use store_base::bucket::{Notes, Notice};
use store_shell::clock;

const ROOT: &str = "NotificationConfiguration";

/// Most bytes of a configuration.
pub const NOTIFICATION_BYTES_MAX: usize = 64 << 10;

/// Most rules of a bucket.
const RULES_MAX: usize = 100;

/// Longest name of a rule, and longest prefix and suffix, in bytes.
const ID_BYTES_MAX: usize = 255;
const AFFIX_BYTES_MAX: usize = 1024;

/// The events that there are, without `s3:`.
const EVENTS: [&str; 11] = [
    "ObjectCreated:*",
    "ObjectCreated:Put",
    "ObjectCreated:Post",
    "ObjectCreated:Copy",
    "ObjectCreated:CompleteMultipartUpload",
    "ObjectRemoved:*",
    "ObjectRemoved:Delete",
    "ObjectRemoved:DeleteMarkerCreated",
    "LifecycleExpiration:*",
    "LifecycleExpiration:Delete",
    "LifecycleExpiration:DeleteMarkerCreated",
];

/// Who is told of what in a bucket.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Notifications {
    /// In the order of the document.
    pub rules: Vec<NotificationRule>,
}

/// Of what one endpoint is told.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NotificationRule {
    /// Its name, unique in the bucket.
    pub id: String,
    /// Whether it is written as a queue; otherwise as a topic.
    pub queue: bool,
    /// As it came.
    pub arn: String,
    /// Their names, without `s3:`.
    pub events: BTreeSet<String>,
    /// Keys that begin so.
    pub prefix: Option<String>,
    /// Keys that end so.
    pub suffix: Option<String>,
}

/// What happens to a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Happens {
    /// An object is made; the word says how.
    Created(&'static str),
    /// It is removed, or hidden.
    Removed,
    /// The same, by a rule or because it ended.
    Expired,
}

fn malformed() -> S3Error {
    Code::MalformedXML.into()
}

fn wrong(message: impl Into<String>) -> S3Error {
    Code::InvalidArgument.with(message)
}

impl Notifications {
    /// Reads and checks a configuration. A rule without a name is given one.
    pub fn parse(document: &[u8]) -> S3Result<Notifications> {
        let root = Element::parse(document, ROOT)?;
        let mut rules = Vec::new();
        for element in &root.children {
            match element.name.as_str() {
                "TopicConfiguration" => rules.push(rule(element, false)?),
                "QueueConfiguration" => rules.push(rule(element, true)?),
                "CloudFunctionConfiguration"
                | "LambdaFunctionConfiguration"
                | "EventBridgeConfiguration" => {
                    return Err(Code::NotImplemented.with(
                        "Functions and event buses are not there: name a webhook as a topic or queue.",
                    ));
                }
                _ => return Err(malformed()),
            }
        }
        let mut names = BTreeSet::new();
        if rules.len() > RULES_MAX || !rules.iter().all(|rule| names.insert(&rule.id)) {
            return Err(wrong("Configurations overlap: same name, or more than 100 of them."));
        }
        Ok(Notifications { rules })
    }

    /// Refuses endpoints that are not there.
    pub fn check_endpoints(&self, webhooks: &Webhooks) -> S3Result<()> {
        match self.rules.iter().find(|rule| webhooks.get(rule.endpoint()).is_none()) {
            None => Ok(()),
            Some(rule) => Err(wrong(format!(
                "Unable to validate the following destination configurations: there is no webhook {:?}",
                rule.endpoint()
            ))
            .detail("ArgumentName", rule.arn.as_str())),
        }
    }

    /// As a document.
    pub fn to_xml(&self) -> Xml {
        let mut xml = Xml::root(ROOT);
        for rule in &self.rules {
            let (outer, inner) = match rule.queue {
                true => ("QueueConfiguration", "Queue"),
                false => ("TopicConfiguration", "Topic"),
            };
            xml.open(outer);
            xml.text("Id", &rule.id);
            xml.text(inner, &rule.arn);
            rule.events.iter().for_each(|event| xml.text("Event", &format!("s3:{event}")));
            if rule.prefix.is_some() || rule.suffix.is_some() {
                xml.open("Filter");
                xml.open("S3Key");
                for (name, value) in [("prefix", &rule.prefix), ("suffix", &rule.suffix)] {
                    if let Some(value) = value {
                        xml.open("FilterRule");
                        xml.text("Name", name);
                        xml.text("Value", value);
                        xml.close("FilterRule");
                    }
                }
                xml.close("S3Key");
                xml.close("Filter");
            }
            xml.close(outer);
        }
        xml.close(ROOT);
        xml
    }

    /// Who is told when this happens to a key.
    pub fn notices(&self, key: &[u8], happens: Happens) -> Vec<Notice> {
        let mut notices = Vec::new();
        for rule in self.rules.iter().filter(|rule| rule.speaks_of(key)) {
            let mut tell = |marker: bool, event: String| {
                let (id, endpoint) = (rule.id.clone(), rule.endpoint().to_owned());
                notices.push(Notice { marker, event, rule: id, endpoint });
            };
            match happens {
                Happens::Created(how) => {
                    if rule.wants("ObjectCreated", how) {
                        tell(false, format!("ObjectCreated:{how}"));
                    }
                }
                Happens::Removed => {
                    for (marker, how) in [(false, "Delete"), (true, "DeleteMarkerCreated")] {
                        if rule.wants("ObjectRemoved", how) {
                            tell(marker, format!("ObjectRemoved:{how}"));
                        }
                    }
                }
                // Who wants to hear of removals hears of these too, under their own name.
                Happens::Expired => {
                    for (marker, how) in [(false, "Delete"), (true, "DeleteMarkerCreated")] {
                        if rule.wants("LifecycleExpiration", how)
                            || rule.wants("ObjectRemoved", how)
                        {
                            tell(marker, format!("LifecycleExpiration:{how}"));
                        }
                    }
                }
            }
        }
        notices
    }
}

impl NotificationRule {
    /// The name of the endpoint.
    pub fn endpoint(&self) -> &str {
        self.arn.rsplit(':').next().unwrap_or_default()
    }

    fn speaks_of(&self, key: &[u8]) -> bool {
        key.starts_with(self.prefix.as_deref().unwrap_or_default().as_bytes())
            && key.ends_with(self.suffix.as_deref().unwrap_or_default().as_bytes())
    }

    fn wants(&self, what: &str, how: &str) -> bool {
        self.events.contains(&format!("{what}:{how}")) || self.events.contains(&format!("{what}:*"))
    }
}

fn rule(element: &Element, queue: bool) -> S3Result<NotificationRule> {
    let id = match element.child_text("Id")?.map(str::trim) {
        Some(id) if id.len() > ID_BYTES_MAX => {
            return Err(wrong("The Id is longer than 255 bytes."));
        }
        Some(id) if !id.is_empty() => id.to_owned(),
        _ => format!("{:016x}", clock::random_u64()),
    };
    let arn = element.required_text(if queue { "Queue" } else { "Topic" })?.trim().to_owned();
    let parts: Vec<&str> = arn.split(':').collect();
    let service = if queue { "sqs" } else { "sns" };
    if parts.len() != 6 || parts[0] != "arn" || parts[2] != service || parts[5].is_empty() {
        return Err(wrong("The ARN is not well formed"));
    }
    let mut events = BTreeSet::new();
    for event in element.all("Event") {
        let name = event.text.trim().strip_prefix("s3:").unwrap_or_default();
        if !EVENTS.contains(&name) {
            return Err(wrong("A specified event is not supported for notifications."));
        }
        events.insert(name.to_owned());
    }
    if events.is_empty() {
        return Err(malformed());
    }
    let mut rule = NotificationRule { id, queue, arn, events, ..NotificationRule::default() };
    let filters = element.all("Filter").flat_map(|filter| filter.all("S3Key"));
    for part in filters.flat_map(|key| key.all("FilterRule")) {
        let value = part.required_text("Value")?.to_owned();
        if value.len() > AFFIX_BYTES_MAX {
            return Err(wrong("filter rule value is longer than 1024 bytes"));
        }
        let place = match part.required_text("Name")?.to_ascii_lowercase().as_str() {
            "prefix" => &mut rule.prefix,
            "suffix" => &mut rule.suffix,
            _ => return Err(wrong("filter rule name must be either prefix or suffix")),
        };
        if place.replace(value).is_some() {
            return Err(wrong("Cannot specify more than one prefix or suffix rule in a filter."));
        }
    }
    Ok(rule)
}

/// Who is told when this request does this to a key; `None` for nobody.
pub fn notes(call: &Call, rules: &Rules, key: &[u8], happens: Happens) -> Option<Notes> {
    let notices = rules.notifications.as_ref()?.notices(key, happens);
    let address = call.head.peer.address.map(|address| address.to_canonical().to_string());
    (!notices.is_empty()).then(|| Notes {
        notices,
        requester: call.caller.id_or("anonymous").to_owned(),
        address: address.unwrap_or_default(),
        request: call.head.request_id.clone(),
    })
}

/// How the request makes an object.
pub fn creation(call: &Call) -> Happens {
    let copies = ["x-amz-copy-source", "x-copy-from"];
    match call.head.method.as_str() {
        "POST" => Happens::Created("Post"),
        "COPY" => Happens::Created("Copy"),
        _ if copies.iter().any(|name| call.head.headers.contains_key(*name)) => {
            Happens::Created("Copy")
        }
        _ => Happens::Created("Put"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(inner: &str) -> Result<Notifications, Code> {
        let document = format!("<{ROOT}>{inner}</{ROOT}>");
        Notifications::parse(document.as_bytes()).map_err(|error| error.code)
    }

    fn topic(event: &str, filter: &str) -> String {
        format!(
            "<TopicConfiguration><Id>r</Id><Topic>arn:aws:sns:r::hook</Topic><Event>s3:{event}</Event>{filter}</TopicConfiguration>"
        )
    }

    fn filter(rules: &[(&str, &str)]) -> String {
        let rule = |(name, value): &(&str, &str)| {
            format!("<FilterRule><Name>{name}</Name><Value>{value}</Value></FilterRule>")
        };
        let rules: String = rules.iter().map(rule).collect();
        format!("<Filter><S3Key>{rules}</S3Key></Filter>")
    }

    fn told(rules: &Notifications, key: &str, happens: Happens) -> Vec<(bool, String)> {
        let notices = rules.notices(key.as_bytes(), happens).into_iter();
        notices.map(|notice| (notice.marker, notice.event)).collect()
    }

    #[test]
    fn events_are_told_by_name_prefix_and_suffix() {
        let rules =
            parse(&topic("ObjectCreated:*", &filter(&[("prefix", "a/"), ("Suffix", ".jpg")])))
                .unwrap();
        let made = [(false, "ObjectCreated:Copy".to_owned())];
        assert_eq!(told(&rules, "a/b.jpg", Happens::Created("Copy")), made);
        assert!(told(&rules, "a/b.png", Happens::Created("Copy")).is_empty());
        assert!(told(&rules, "b.jpg", Happens::Created("Copy")).is_empty());
        assert!(told(&rules, "a/b.jpg", Happens::Removed).is_empty());
        let puts = parse(&topic("ObjectCreated:Put", "")).unwrap();
        assert!(told(&puts, "k", Happens::Created("Copy")).is_empty());
        let removals = parse(&topic("ObjectRemoved:*", "")).unwrap();
        assert_eq!(told(&removals, "k", Happens::Removed).len(), 2);
        let expired = told(&removals, "k", Happens::Expired);
        assert_eq!(expired[1], (true, "LifecycleExpiration:DeleteMarkerCreated".to_owned()));
        let markers = parse(&topic("ObjectRemoved:DeleteMarkerCreated", "")).unwrap();
        assert_eq!(told(&markers, "k", Happens::Removed).len(), 1);
    }

    #[test]
    fn configurations_are_checked_and_come_back() {
        let both = topic("ObjectCreated:*", &filter(&[("prefix", "a")]))
            + "<QueueConfiguration><Id>q</Id><Queue>arn:aws:sqs:r:1:other</Queue><Event>s3:ObjectRemoved:Delete</Event></QueueConfiguration>";
        let parsed = parse(&both).unwrap();
        let written = parsed.to_xml().into_bytes();
        assert_eq!(Notifications::parse(&written).unwrap(), parsed);
        assert_eq!(parsed.rules[1].endpoint(), "other");
        let webhooks = Webhooks::parse(&["hook=http://h/".to_owned()]).unwrap();
        assert!(parsed.check_endpoints(&webhooks).is_err());
        assert!(parse(&topic("ObjectCreated:*", "")).unwrap().check_endpoints(&webhooks).is_ok());
        assert!(parse("").unwrap().rules.is_empty());
        let with_arn = |arn: &str| topic("ObjectCreated:*", "").replace("arn:aws:sns:r::hook", arn);
        for (document, code) in [
            (topic("ObjectRestore:*", ""), Code::InvalidArgument),
            (topic("ObjectCreated:*", &filter(&[("infix", "a")])), Code::InvalidArgument),
            (
                topic("ObjectCreated:*", &filter(&[("prefix", "a"), ("prefix", "b")])),
                Code::InvalidArgument,
            ),
            (with_arn("hook"), Code::InvalidArgument),
            (with_arn("arn:aws:sqs:r::hook"), Code::InvalidArgument),
            (topic("ObjectCreated:*", "") + &topic("ObjectRemoved:*", ""), Code::InvalidArgument),
            ("<EventBridgeConfiguration/>".into(), Code::NotImplemented),
            ("<Other/>".into(), Code::MalformedXML),
            (
                "<TopicConfiguration><Topic>arn:aws:sns:r::hook</Topic></TopicConfiguration>"
                    .into(),
                Code::MalformedXML,
            ),
        ] {
            assert_eq!(parse(&document), Err(code), "{document}");
        }
    }
}
