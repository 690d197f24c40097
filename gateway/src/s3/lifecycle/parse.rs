//! Reading and writing a `LifecycleConfiguration`.

use super::super::dates;
use super::super::error::{Code, S3Error, S3Result};
use super::super::xml::{Element, Xml};
use super::{DAY_MS, Expiration, Filter, Lifecycle, Noncurrent, Rule};
use std::collections::BTreeSet;
use store_shell::clock;

const ROOT: &str = "LifecycleConfiguration";

/// Most rules of a bucket.
const RULES_MAX: usize = 1000;

/// Longest name of a rule, in bytes.
const ID_BYTES_MAX: usize = 255;

/// Longest prefix, in bytes: that of a key.
const PREFIX_BYTES_MAX: usize = 1024;

/// Most older versions that a rule can keep.
const KEPT_MAX: u64 = 100;

fn malformed() -> S3Error {
    Code::MalformedXML.into()
}

fn invalid(message: &str) -> S3Error {
    Code::InvalidRequest.with(message)
}

fn wrong(message: &str) -> S3Error {
    Code::InvalidArgument.with(message)
}

/// The only child of this name; an error if there are several.
fn child<'a>(element: &'a Element, name: &'a str) -> S3Result<Option<&'a Element>> {
    let mut all = element.all(name);
    match (all.next(), all.next()) {
        (found, None) => Ok(found),
        _ => Err(malformed()),
    }
}

/// A number in a child; an error if it is none.
fn number(element: &Element, name: &str) -> S3Result<Option<u64>> {
    let text = element.child_text(name)?;
    text.map(|text| text.trim().parse().map_err(|_| malformed())).transpose()
}

/// A number of days, at least one.
fn days(element: &Element, name: &str, of: &str) -> S3Result<Option<u32>> {
    let text = element.child_text(name)?;
    let parsed = text.map(|text| text.trim().parse::<i64>().map_err(|_| malformed()));
    match parsed.transpose()? {
        None => Ok(None),
        Some(days) => u32::try_from(days)
            .ok()
            .filter(|days| *days > 0)
            .map(Some)
            .ok_or_else(|| wrong(&format!("'{name}' for {of} must be a positive integer"))),
    }
}

impl Lifecycle {
    /// Reads and checks a configuration. A rule without a name is given one.
    pub fn parse(document: &[u8]) -> S3Result<Lifecycle> {
        let root = Element::parse(document, ROOT)?;
        let rules = root.all("Rule").map(rule).collect::<S3Result<Vec<Rule>>>()?;
        if rules.is_empty() || rules.len() > RULES_MAX {
            return Err(malformed());
        }
        let mut names = BTreeSet::new();
        if !rules.iter().all(|rule| names.insert(&rule.id)) {
            return Err(wrong("Rule ID must be unique. Found same ID for more than one rule"));
        }
        Ok(Lifecycle { rules })
    }

    /// As a document.
    pub fn to_xml(&self) -> Xml {
        let mut xml = Xml::root(ROOT);
        self.rules.iter().for_each(|rule| write_rule(rule, &mut xml));
        xml.close(ROOT);
        xml
    }
}

fn rule(element: &Element) -> S3Result<Rule> {
    let id = match element.child_text("ID")?.map(str::trim) {
        Some(id) if id.len() > ID_BYTES_MAX => {
            return Err(wrong("ID length should not exceed allowed limit of 255"));
        }
        Some(id) if !id.is_empty() => id.to_owned(),
        _ => format!("{:016x}{:016x}", clock::random_u64(), clock::random_u64()),
    };
    let enabled = match element.required_text("Status")? {
        "Enabled" => true,
        "Disabled" => false,
        _ => return Err(malformed()),
    };
    let (filter, old_form) = match (child(element, "Filter")?, element.child_text("Prefix")?) {
        (Some(filter), None) => (read_filter(filter)?, false),
        (None, Some(prefix)) => {
            (Filter { prefix: Some(prefix.to_owned()), ..Filter::default() }, true)
        }
        _ => return Err(malformed()),
    };
    for name in ["Transition", "NoncurrentVersionTransition"] {
        if let Some(transition) = element.all(name).next() {
            return Err(refuse_transition(transition));
        }
    }
    let rule = Rule {
        id,
        enabled,
        filter,
        old_form,
        expiration: child(element, "Expiration")?.map(expiration).transpose()?,
        noncurrent: child(element, "NoncurrentVersionExpiration")?.map(noncurrent).transpose()?,
        abort_days: child(element, "AbortIncompleteMultipartUpload")?.map(abort).transpose()?,
    };
    check(&rule)?;
    Ok(rule)
}

/// What is wrong with a transition, and if nothing is, that there is no place to go to.
fn refuse_transition(transition: &Element) -> S3Error {
    let date = transition.child_text("Date").and_then(|text| text.map(parse_date).transpose());
    match (date, transition.required_text("StorageClass")) {
        (Err(error), _) | (_, Err(error)) => error,
        _ => Code::NotImplemented
            .with("Transitions are not implemented: STANDARD is the only storage class."),
    }
}

fn check(rule: &Rule) -> S3Result<()> {
    let filter = &rule.filter;
    if rule.expiration.is_none() && rule.noncurrent.is_none() && rule.abort_days.is_none() {
        return Err(invalid("At least one action needs to be specified in a rule"));
    }
    if filter.prefix.as_ref().is_some_and(|prefix| prefix.len() > PREFIX_BYTES_MAX) {
        return Err(invalid("The maximum size of a prefix is 1024."));
    }
    let sized = filter.larger_than.is_some() || filter.smaller_than.is_some();
    if rule.abort_days.is_some() && (sized || !filter.tags.is_empty()) {
        return Err(invalid(
            "AbortIncompleteMultipartUpload cannot be specified with Tags or object sizes.",
        ));
    }
    if matches!(rule.expiration, Some(Expiration::Markers(_))) && !filter.tags.is_empty() {
        return Err(invalid("ExpiredObjectDeleteMarker cannot be specified with Tags."));
    }
    match (filter.larger_than, filter.smaller_than) {
        (Some(least), Some(most)) if most <= least => Err(invalid(
            "'ObjectSizeLessThan' has to be a value greater than 'ObjectSizeGreaterThan'.",
        )),
        _ => Ok(()),
    }
}

fn read_filter(element: &Element) -> S3Result<Filter> {
    let mut filter = Filter::default();
    add_to_filter(&mut filter, element)?;
    if let Some(and) = child(element, "And")? {
        filter.and = true;
        add_to_filter(&mut filter, and)?;
    }
    Ok(filter)
}

fn add_to_filter(filter: &mut Filter, element: &Element) -> S3Result<()> {
    if let Some(prefix) = element.child_text("Prefix")? {
        // Of two prefixes the longer one holds; two that no key can have both are a mistake.
        match filter.prefix.take() {
            Some(other) if other.starts_with(prefix) => filter.prefix = Some(other),
            Some(other) if !prefix.starts_with(&other) => return Err(malformed()),
            _ => filter.prefix = Some(prefix.to_owned()),
        }
    }
    // The two ways of writing a list that are about: tags one after the other, and within `Tags`.
    let listed = element.all("Tags").flat_map(|tags| tags.all("Tag"));
    for tag in element.all("Tag").chain(listed) {
        let (name, value) = (tag.required_text("Key")?, tag.required_text("Value")?);
        if !(1..=128).contains(&name.chars().count()) || value.chars().count() > 256 {
            return Err(Code::InvalidTag.into());
        }
        if filter.tags.insert(name.to_owned(), value.to_owned()).is_some() {
            return Err(invalid("Duplicate Tag Keys are not allowed."));
        }
    }
    filter.larger_than = number(element, "ObjectSizeGreaterThan")?.or(filter.larger_than);
    filter.smaller_than = number(element, "ObjectSizeLessThan")?.or(filter.smaller_than);
    Ok(())
}

fn expiration(element: &Element) -> S3Result<Expiration> {
    let of_markers = element.child_text("ExpiredObjectDeleteMarker")?.map(str::trim);
    let days = days(element, "Days", "Expiration action")?;
    match (days, element.child_text("Date")?, of_markers) {
        (Some(days), None, None) => Ok(Expiration::Days(days)),
        (None, Some(date), None) => Ok(Expiration::Date(parse_date(date)?)),
        (None, None, Some(on)) => {
            on.to_ascii_lowercase().parse().map(Expiration::Markers).map_err(|_| malformed())
        }
        _ => Err(malformed()),
    }
}

/// A midnight, in ms since 1970.
fn parse_date(text: &str) -> S3Result<u64> {
    let text = text.trim();
    let secs = dates::parse_http(text).or_else(|| dates::parse_http(&format!("{text}T00:00:00Z")));
    let ms = secs.ok_or_else(malformed)?.saturating_mul(1000);
    match ms % DAY_MS {
        0 => Ok(ms),
        _ => Err(wrong("'Date' must be at midnight GMT")),
    }
}

fn noncurrent(element: &Element) -> S3Result<Noncurrent> {
    let of = "NoncurrentVersionExpiration action";
    let days = days(element, "NoncurrentDays", of)?.ok_or_else(malformed)?;
    let keep = match number(element, "NewerNoncurrentVersions")? {
        None => 0,
        Some(keep @ 1..=KEPT_MAX) => u32::try_from(keep).unwrap_or(u32::MAX),
        Some(_) => return Err(wrong("'NewerNoncurrentVersions' must be between 1 and 100")),
    };
    Ok(Noncurrent { days, keep })
}

fn abort(element: &Element) -> S3Result<u32> {
    let of = "AbortIncompleteMultipartUpload action";
    days(element, "DaysAfterInitiation", of)?.ok_or_else(malformed)
}

fn write_rule(rule: &Rule, xml: &mut Xml) {
    xml.open("Rule");
    xml.text("ID", &rule.id);
    match rule.old_form {
        true => xml.text("Prefix", rule.filter.prefix.as_deref().unwrap_or_default()),
        false => write_filter(&rule.filter, xml),
    }
    xml.text("Status", if rule.enabled { "Enabled" } else { "Disabled" });
    if let Some(expiration) = rule.expiration {
        xml.open("Expiration");
        match expiration {
            Expiration::Days(days) => xml.value("Days", days),
            Expiration::Date(ms) => xml.text("Date", &dates::iso(ms)),
            Expiration::Markers(on) => xml.value("ExpiredObjectDeleteMarker", on),
        }
        xml.close("Expiration");
    }
    if let Some(noncurrent) = rule.noncurrent {
        xml.open("NoncurrentVersionExpiration");
        xml.value("NoncurrentDays", noncurrent.days);
        if noncurrent.keep > 0 {
            xml.value("NewerNoncurrentVersions", noncurrent.keep);
        }
        xml.close("NoncurrentVersionExpiration");
    }
    if let Some(days) = rule.abort_days {
        xml.open("AbortIncompleteMultipartUpload");
        xml.value("DaysAfterInitiation", days);
        xml.close("AbortIncompleteMultipartUpload");
    }
    xml.close("Rule");
}

fn write_filter(filter: &Filter, xml: &mut Xml) {
    xml.open("Filter");
    if filter.and {
        xml.open("And");
    }
    xml.optional("Prefix", filter.prefix.as_deref());
    for (name, value) in &filter.tags {
        xml.open("Tag");
        xml.text("Key", name);
        xml.text("Value", value);
        xml.close("Tag");
    }
    let sizes = [
        ("ObjectSizeGreaterThan", filter.larger_than),
        ("ObjectSizeLessThan", filter.smaller_than),
    ];
    for (name, size) in sizes {
        if let Some(size) = size {
            xml.value(name, size);
        }
    }
    if filter.and {
        xml.close("And");
    }
    xml.close("Filter");
}
