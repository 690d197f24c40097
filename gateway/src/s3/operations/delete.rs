//! `DeleteObject` and `DeleteObjects`.

use super::super::access;
use super::super::conditions;
use super::super::error::{Code, S3Error, S3Result};
use super::super::names;
use super::super::response;
use super::super::xml::{Element, Xml};
use super::super::{Answer, Call};
use super::read::check_version;
use bytes::Bytes;
use http::StatusCode;
use store_base::bucket::{Condition, ETag, Refusal, TagMatch};

/// Most keys of one request.
const KEYS_MAX: usize = 1000;

/// Most bytes of the list of keys.
const LIST_BYTES_MAX: usize = 8 << 20;

/// `DeleteObject`
pub(super) async fn one(call: &mut Call) -> S3Result<Answer> {
    let key = Bytes::copy_from_slice(call.head.key()?.as_bytes());
    let condition = conditions::write_condition(&call.head.headers)?;
    let bucket = access::bucket(call).await?;
    // Deleting a version that is not there succeeds, as deleting a key does.
    if check_version(call).is_err_and(|error| error.code == Code::NoSuchVersion) {
        return Ok(response::empty(StatusCode::NO_CONTENT));
    }
    check_version(call)?;
    let now_ms = call.now_ms();
    let items = vec![(key, condition)];
    for outcome in call.service.catalogue.remove(&bucket, items, now_ms).await? {
        outcome?;
    }
    Ok(response::empty(StatusCode::NO_CONTENT))
}

/// `DeleteObjects`
struct DeleteObjects {
    items: Vec<DeleteItem>,
    quiet: bool,
}

struct DeleteItem {
    key: String,
    version: Option<String>,
    condition: S3Result<Condition>,
}

impl DeleteObjects {
    fn parse(document: &[u8]) -> S3Result<DeleteObjects> {
        let root = Element::parse(document, "Delete")?;
        let quiet =
            root.child_text("Quiet")?.is_some_and(|on| on.trim().eq_ignore_ascii_case("true"));
        let mut items = Vec::new();
        for object in root.all("Object") {
            items.push(DeleteItem {
                key: object.required_text("Key")?.to_owned(),
                version: object.child_text("VersionId")?.map(str::to_owned),
                condition: condition(object),
            });
        }
        match (1..=KEYS_MAX).contains(&items.len()) {
            true => Ok(DeleteObjects { items, quiet }),
            false => Err(Code::MalformedXML.into()),
        }
    }
}

fn condition(object: &Element) -> S3Result<Condition> {
    for absent in ["LastModifiedTime", "Size"] {
        if object.child_text(absent)?.is_some() {
            return Err(Code::NotImplemented.into());
        }
    }
    let if_match = object.child_text("ETag")?.map(|tag| match tag.trim() {
        "*" => TagMatch::Any {},
        tag => {
            TagMatch::OneOf { tags: tag.trim_matches('"').parse::<ETag>().into_iter().collect() }
        }
    });
    Ok(Condition { if_match, if_none_match: None })
}

pub(super) async fn many(call: &mut Call) -> S3Result<Answer> {
    let bucket = access::bucket(call).await?;
    let document = call.document(LIST_BYTES_MAX).await?;
    let DeleteObjects { items, quiet } = DeleteObjects::parse(&document)?;
    let mut outcomes: Vec<Option<S3Result<()>>> = items.iter().map(refused_at_once).collect();
    let (mut places, mut wanted) = (Vec::new(), Vec::new());
    for (place, item) in items.iter().enumerate() {
        if let (None, Ok(condition)) = (&outcomes[place], &item.condition) {
            places.push(place);
            wanted.push((Bytes::copy_from_slice(item.key.as_bytes()), condition.clone()));
        }
    }
    let done = call.service.catalogue.remove(&bucket, wanted, call.now_ms()).await?;
    for (place, outcome) in places.into_iter().zip(done) {
        outcomes[place] = Some(outcome.map(|_| ()).map_err(refusal_of_one));
    }
    Ok(response::xml(result(&items, &outcomes, quiet)))
}

/// The outcome of an item that needs no look at the bucket.
fn refused_at_once(item: &DeleteItem) -> Option<S3Result<()>> {
    if let Err(error) = names::check_key(&item.key) {
        return Some(Err(error));
    }
    if let Err(error) = &item.condition {
        return Some(Err(error.clone()));
    }
    match item.version.as_deref() {
        None | Some("" | "null") => None,
        // A version that is not there is as good as deleted.
        Some(_) => Some(Ok(())),
    }
}

fn refusal_of_one(refusal: Refusal) -> S3Error {
    refusal.into()
}

fn result(items: &[DeleteItem], outcomes: &[Option<S3Result<()>>], quiet: bool) -> Xml {
    let mut xml = Xml::root("DeleteResult");
    for (item, outcome) in items.iter().zip(outcomes) {
        let error = match outcome {
            Some(Ok(())) if quiet => continue,
            Some(Ok(())) => {
                xml.open("Deleted");
                xml.text("Key", &item.key);
                xml.optional("VersionId", item.version.as_deref());
                xml.close("Deleted");
                continue;
            }
            Some(Err(error)) => error.clone(),
            None => Code::InternalError.into(),
        };
        xml.open("Error");
        xml.text("Key", &item.key);
        xml.optional("VersionId", item.version.as_deref());
        xml.text("Code", error.code.name());
        xml.text("Message", &error.message);
        xml.close("Error");
    }
    xml.close("DeleteResult");
    xml
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_of_keys_are_bounded() {
        let list =
            |n: usize| format!("<Delete>{}</Delete>", "<Object><Key>k</Key></Object>".repeat(n));
        assert_eq!(DeleteObjects::parse(list(1000).as_bytes()).unwrap().items.len(), 1000);
        assert!(DeleteObjects::parse(list(1001).as_bytes()).is_err());
        assert!(DeleteObjects::parse(list(0).as_bytes()).is_err());
        assert!(DeleteObjects::parse(b"<Delete><Object/></Delete>").is_err());
        let one = b"<Delete><Object><Key> a&#x20;</Key><ETag>*</ETag></Object><Quiet>true</Quiet></Delete>";
        let parsed = DeleteObjects::parse(one).unwrap();
        assert_eq!((parsed.items[0].key.as_str(), parsed.quiet), (" a ", true));
        assert_eq!(parsed.items[0].condition.as_ref().unwrap().if_match, Some(TagMatch::Any {}));
    }
}
