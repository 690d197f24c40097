//! `DeleteObject` and `DeleteObjects`.

use super::super::access::{KeysPermit, Permit};
use super::super::conditions;
use super::super::dates;
use super::super::error::{Code, S3Error, S3Result};
use super::super::logging::journal::{Plan, removed};
use super::super::names;
use super::super::notification::{Happens, notes};
use super::super::response;
use super::super::xml::{Element, Xml};
use super::super::{Answer, Call};
use super::{lock, versioning};
use crate::catalogue::Bucket;
use bytes::Bytes;
use http::StatusCode;
use std::rc::Rc;
use store_base::bucket::{
    Condition, Done, ETag, Refusal, Remove, RemoveItem, Removed, TagMatch, Version,
};

/// Most keys of one request.
const KEYS_MAX: usize = 1000;

/// Most bytes of the list of keys.
const LIST_BYTES_MAX: usize = 8 << 20;

/// `DeleteObject`
pub(super) async fn one(permit: Permit, call: &mut Call) -> S3Result<Answer> {
    let key = Bytes::copy_from_slice(call.head.key()?.as_bytes());
    let condition = conditions::removal_condition(&call.head.headers)?;
    let bucket = permit.bucket().clone();
    let bypass = permit.bypass(call)?;
    let mut answer = response::empty(StatusCode::NO_CONTENT);
    let version = match versioning::asked(call, &bucket) {
        // Deleting a version that is not there succeeds, as deleting a key does.
        Err(error) if error.code == Code::NoSuchVersion => return Ok(answer),
        version => version?,
    };
    for outcome in remove(
        call,
        &bucket,
        vec![RemoveItem { key, version, condition, ..RemoveItem::default() }],
        bypass,
        "REST.DELETE.OBJECT",
    )
    .await?
    {
        let gone = Gone::new(&bucket, version, &done(outcome)?);
        let headers = answer.headers_mut();
        if gone.marker {
            response::set(headers, "x-amz-delete-marker", "true");
        }
        if let Some(id) = gone.marker_id.or(gone.version_id) {
            response::set(headers, "x-amz-version-id", &id);
        }
    }
    Ok(answer)
}

async fn remove(
    call: &Call,
    bucket: &Rc<Bucket>,
    mut items: Vec<RemoveItem>,
    bypass: bool,
    operation: &'static str,
) -> S3Result<Vec<Done<Removed>>> {
    let rules = call.service.rules.rules(bucket)?;
    for item in &mut items {
        item.notes = notes(call, &rules, &item.key, Happens::Removed);
    }
    let remove = Remove {
        items,
        now_ms: call.now_ms(),
        owner: call.caller.id_or(&bucket.owner).to_owned(),
        bypass,
        ..Remove::default()
    };
    removed(Plan::of(call, bucket, &rules, operation), &call.service, bucket, remove).await
}

/// Where there is nothing, the removal has what it wants, whatever its condition: who asks again because he
/// lost our answer is told the same.
fn done(outcome: Done<Removed>) -> S3Result<Removed> {
    match outcome {
        Err(Refusal::NoKey {}) => Ok(Removed::default()),
        outcome => outcome.map_err(S3Error::from),
    }
}

/// What a client is told of a removal.
struct Gone {
    /// Whether a delete marker was made, or removed.
    marker: bool,
    /// The id of that marker.
    marker_id: Option<String>,
    /// The id of the version that was to be removed, if the request named one.
    version_id: Option<String>,
}

impl Gone {
    fn new(bucket: &Bucket, asked: Option<Version>, removed: &Removed) -> Gone {
        let of_removed = removed.entry.as_ref().filter(|entry| entry.delete_marker);
        let marker = match asked {
            Some(_) => of_removed,
            None => removed.marker.as_ref(),
        };
        Gone {
            marker: marker.is_some(),
            marker_id: marker.map(|entry| entry.version().text(bucket.id)),
            version_id: asked.map(|version| version.text(bucket.id)),
        }
    }
}

/// `DeleteObjects`
pub(super) struct DeleteObjects {
    items: Vec<DeleteItem>,
    quiet: bool,
}

struct DeleteItem {
    key: String,
    version: Option<String>,
    condition: S3Result<Condition>,
}

impl DeleteObjects {
    pub(super) fn parse(document: &[u8]) -> S3Result<DeleteObjects> {
        let root = Element::parse(document, "Delete")?;
        let quiet =
            root.child_text("Quiet")?.is_some_and(|on| on.trim().eq_ignore_ascii_case("true"));
        let mut items = Vec::new();
        for object in root.all("Object") {
            // An empty one names no version.
            let version = object.child_text("VersionId")?.filter(|id| !id.is_empty());
            items.push(DeleteItem {
                key: object.required_text("Key")?.to_owned(),
                version: version.map(str::to_owned),
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
    let size = object.child_text("Size")?.map(|text| text.trim().parse());
    let size = size.transpose().map_err(|_| Code::MalformedXML)?;
    let date = object.child_text("LastModifiedTime")?.map(dates::parse_http);
    let date = date.map(|secs| secs.ok_or(Code::MalformedXML)).transpose()?;
    let if_match = object.child_text("ETag")?.map(|tag| match tag.trim() {
        "*" => TagMatch::Any {},
        tag => {
            TagMatch::OneOf { tags: tag.trim_matches('"').parse::<ETag>().into_iter().collect() }
        }
    });
    let condition = Condition { if_match, if_none_match: None };
    Ok(conditions::with_properties(condition, size, date))
}

pub(super) async fn many(permit: KeysPermit, call: &mut Call) -> S3Result<Answer> {
    let bucket = permit.bucket();
    let bypass = lock::bypass(call)?;
    let document = call.document(LIST_BYTES_MAX).await?;
    let DeleteObjects { items, quiet } = DeleteObjects::parse(&document)?;
    let mut outcomes: Vec<Option<S3Result<Removed>>> = vec![None; items.len()];
    let (mut places, mut wanted) = (Vec::new(), Vec::new());
    for (place, item) in items.iter().enumerate() {
        if let Err(denied) = permit.check(call, &item.key, item.version.is_some()) {
            outcomes[place] = Some(Err(denied));
            continue;
        }
        match item.wanted(bucket) {
            Ok(item) => {
                places.push(place);
                wanted.push(item);
            }
            // A version that is not there is as good as deleted.
            Err(error) if error.code == Code::NoSuchVersion => {
                outcomes[place] = Some(Ok(Removed::default()));
            }
            Err(error) => outcomes[place] = Some(Err(error)),
        }
    }
    let done = remove(call, bucket, wanted, bypass, "REST.POST.DELETE_MULTI_OBJECT").await?;
    for (place, outcome) in places.into_iter().zip(done) {
        outcomes[place] = Some(self::done(outcome));
    }
    Ok(response::xml(result(bucket, &items, &outcomes, quiet)))
}

impl DeleteItem {
    /// What is to be removed; an error is the outcome.
    fn wanted(&self, bucket: &Bucket) -> S3Result<RemoveItem> {
        names::check_key(&self.key)?;
        let version = self.version.as_deref().map(|id| versioning::named(id, bucket));
        Ok(RemoveItem {
            key: Bytes::copy_from_slice(self.key.as_bytes()),
            version: version.transpose()?,
            condition: self.condition.clone()?,
            ..RemoveItem::default()
        })
    }
}

fn result(
    bucket: &Bucket,
    items: &[DeleteItem],
    outcomes: &[Option<S3Result<Removed>>],
    quiet: bool,
) -> Xml {
    let mut xml = Xml::root("DeleteResult");
    for (item, outcome) in items.iter().zip(outcomes) {
        let version = item.version.as_deref();
        let error = match outcome {
            Some(Ok(_)) if quiet => continue,
            Some(Ok(removed)) => {
                let asked = version.and_then(|id| Version::parse(id, bucket.id));
                let gone = Gone::new(bucket, asked, removed);
                xml.open("Deleted");
                xml.text("Key", &item.key);
                xml.optional("VersionId", version);
                if gone.marker {
                    xml.text("DeleteMarker", "true");
                    xml.optional("DeleteMarkerVersionId", gone.marker_id.as_deref());
                }
                xml.close("Deleted");
                continue;
            }
            Some(Err(error)) => error.clone(),
            None => Code::InternalError.into(),
        };
        xml.open("Error");
        xml.text("Key", &item.key);
        xml.optional("VersionId", version);
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
