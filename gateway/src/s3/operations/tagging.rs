//! Tags of objects.

use super::super::access::{Admitted, Document, ObjectPermit};
use super::super::error::{Code, S3Error, S3Result};
use super::super::logging::journal::{Plan, recorded};
use super::super::response;
use super::super::uri::{self, Query};
use super::super::xml::{Element, Xml};
use super::super::{Answer, Call};
use super::versioning;
use bytes::Bytes;
use http::{Method, StatusCode};
use std::collections::BTreeMap;
use store_base::bucket::SetTags;

/// Tags by name.
pub(crate) type Tags = BTreeMap<String, String>;

/// Most tags of an object.
const TAGS_MAX: usize = 10;

/// Longest name of a tag, in characters.
const NAME_CHARS_MAX: usize = 128;

/// Longest value of a tag, in characters.
const VALUE_CHARS_MAX: usize = 256;

/// The tags that `x-amz-tagging` gives a new object: written like a query.
pub(super) fn from_headers(call: &Call) -> S3Result<Tags> {
    let Some(text) = call.head.header("x-amz-tagging")? else { return Ok(Tags::new()) };
    parse_header(text)
}

pub(super) fn parse_header(text: &str) -> S3Result<Tags> {
    let query = Query::parse(text).map_err(|_| {
        S3Error::argument(
            "x-amz-tagging",
            text,
            "The header 'x-amz-tagging' shall be encoded as UTF-8 then URLEncoded URL query parameters without tag name duplicates.",
        )
    })?;
    checked(query.pairs(), TAGS_MAX)
}

/// A `Tagging` document, as a form has it, written as the header.
pub(super) fn as_header(text: &[u8]) -> S3Result<String> {
    let encoded = |text: &str| uri::encoded(text.as_bytes(), false);
    let tags = parse(text, TAGS_MAX)?;
    let pairs: Vec<String> =
        tags.iter().map(|(name, value)| format!("{}={}", encoded(name), encoded(value))).collect();
    Ok(pairs.join("&"))
}

/// Tags within S3's limits.
fn checked<'a>(pairs: impl Iterator<Item = (&'a str, &'a str)>, tags_max: usize) -> S3Result<Tags> {
    let invalid = |message: &str| Code::InvalidTag.with(message);
    // XML cannot say all control characters, and S3 has none of them in tags.
    let says_control = |text: &str| text.chars().any(char::is_control);
    let mut tags = Tags::new();
    for (name, value) in pairs {
        if name.is_empty()
            || name.chars().count() > NAME_CHARS_MAX
            || name.starts_with("aws:")
            || says_control(name)
        {
            return Err(invalid("The TagKey you have provided is invalid").detail("TagKey", name));
        }
        if value.chars().count() > VALUE_CHARS_MAX || says_control(value) {
            return Err(invalid("The TagValue you have provided is invalid")
                .detail("TagKey", name)
                .detail("TagValue", value));
        }
        if tags.insert(name.to_owned(), value.to_owned()).is_some() {
            return Err(
                invalid("Cannot provide multiple Tags with the same key").detail("TagKey", name)
            );
        }
        if tags.len() > tags_max {
            return Err(invalid(&format!("Object tags cannot be greater than {tags_max}")));
        }
    }
    Ok(tags)
}

/// Reads a `Tagging` document of at most `tags_max` tags.
pub(super) fn parse(document: &[u8], tags_max: usize) -> S3Result<Tags> {
    let root = Element::parse(document, "Tagging")?;
    let mut sets = root.all("TagSet");
    let set = sets.next().ok_or(Code::MalformedXML)?;
    if sets.next().is_some() {
        return Err(Code::MalformedXML.into());
    }
    let pairs: Vec<(&str, &str)> = set
        .all("Tag")
        .map(|tag| Ok((tag.required_text("Key")?, tag.required_text("Value")?)))
        .collect::<S3Result<_>>()?;
    checked(pairs.into_iter(), tags_max)
}

pub(super) fn document(tags: &Tags) -> Xml {
    let mut xml = Xml::root("Tagging");
    xml.open("TagSet");
    for (name, value) in tags {
        xml.open("Tag");
        xml.text("Key", name);
        xml.text("Value", value);
        xml.close("Tag");
    }
    xml.close("TagSet");
    xml.close("Tagging");
    xml
}

/// `GetObjectTagging`
pub(super) async fn get(permit: ObjectPermit, call: &mut Call) -> S3Result<Answer> {
    let Admitted { bucket, found, .. } = permit.read(call, false).await?;
    let mut answer = response::xml(document(&found.detail.tags));
    versioning::set_shown(&mut answer, &bucket, &found);
    Ok(answer)
}

/// `PutObjectTagging`
pub(super) async fn put(permit: ObjectPermit, call: &mut Call) -> S3Result<Answer> {
    let parse = |document: &[u8]| {
        let tags = parse(document, TAGS_MAX)?;
        Ok((tags.clone(), Document::Tags(tags)))
    };
    let (_, admitted, tags) = super::read_described(permit, call, parse).await?;
    set(admitted, call, tags, StatusCode::OK).await
}

/// `DeleteObjectTagging`
pub(super) async fn delete(permit: ObjectPermit, call: &mut Call) -> S3Result<Answer> {
    let admitted = permit.read(call, false).await?;
    set(admitted, call, Tags::new(), StatusCode::NO_CONTENT).await
}

async fn set(admitted: Admitted, call: &Call, tags: Tags, status: StatusCode) -> S3Result<Answer> {
    let Admitted { bucket, version, .. } = admitted;
    let key = Bytes::copy_from_slice(call.head.key()?.as_bytes());
    let rules = call.service.rules.rules(&bucket)?;
    let plan = match call.head.method == Method::DELETE {
        true => Plan::of(call, &bucket, &rules, "REST.DELETE.OBJECT_TAGGING").map(Plan::regardless),
        false => Plan::of(call, &bucket, &rules, "REST.PUT.OBJECT_TAGGING"),
    };
    let set = SetTags { key: key.clone(), version, tags };
    let done = recorded(
        plan.map(|plan| plan.changing(&key)),
        &call.service,
        call.service.catalogue.tag(&bucket, set),
        |plan, entry| plan.made(&key, entry),
    )
    .await?;
    let entry = done.map_err(versioning::refused(&bucket, version.is_some()))?;
    let mut answer = response::empty(status);
    versioning::set_changed(&mut answer, &bucket, &entry);
    Ok(answer)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_keep_to_the_limits() {
        let pairs = |text: &str| {
            parse_header(text)
                .map(|tags| {
                    let pair = |(name, value): (&String, &String)| format!("{name}={value}");
                    tags.iter().map(pair).collect::<Vec<_>>().join(" ")
                })
                .map_err(|error| error.code)
        };
        assert_eq!(pairs(""), Ok(String::new()));
        assert_eq!(pairs("b=c%20d&a"), Ok("a= b=c d".into()));
        let many = |n: usize| (0..n).map(|n| format!("k{n}=v")).collect::<Vec<_>>().join("&");
        assert!(pairs(&many(10)).is_ok());
        let long = "ä".repeat(129);
        for wrong in [
            &many(11),
            "a=1&a=2",
            "=x",
            "aws:x=1",
            "a=%00",
            "%1f=",
            &long,
            &format!("a={long}{long}"),
        ] {
            assert_eq!(pairs(wrong), Err(Code::InvalidTag), "{wrong}");
        }
        assert_eq!(pairs("%ff"), Err(Code::InvalidArgument));
    }

    #[test]
    fn documents_round_trip() {
        let tags: Tags =
            [("a".to_owned(), "<b>".to_owned()), ("c".to_owned(), String::new())].into();
        assert_eq!(parse(&document(&tags).into_bytes(), 10).unwrap(), tags);
        assert!(parse(b"<Tagging/>", 10).is_err());
        assert!(parse(b"<Tagging><TagSet><Tag><Key>a</Key></Tag></TagSet></Tagging>", 10).is_err());
    }
}
