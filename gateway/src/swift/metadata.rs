//! Metadata of accounts and containers, and what all three kinds have in common: names, limits.

use super::Call;
use super::error::{SwiftError, SwiftResult};
use crate::catalogue::{Bucket, CatalogueError};
use bytes::Bytes;
use http::header::{HeaderName, HeaderValue};
use http::{HeaderMap, StatusCode};
use std::collections::BTreeMap;
use std::rc::Rc;
use store_base::bucket::{Refusal, SetAccount, SetDocument, SwiftMetadata};
use store_base::codec::{Decode, Encode};

/// Most bytes of a name, without its prefix.
pub(super) const NAME_BYTES_MAX: usize = 128;
/// Most bytes of a value.
pub(super) const VALUE_BYTES_MAX: usize = 256;
/// Most items.
pub(super) const ITEMS_MAX: usize = 90;
/// Most bytes of names and values together.
pub(super) const BYTES_MAX: usize = 4096;

/// The document of a bucket that holds its container's metadata.
pub(super) const DOCUMENT: &str = "swift";

/// How often a change is tried when others change the same.
const TRIES_MAX: u32 = 16;

/// What becomes of values, by name: a value, or none.
pub(super) type Values = BTreeMap<String, Option<Bytes>>;

/// What a request changes of a container or an account.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Changes {
    /// As [`SwiftMetadata::metadata`].
    pub metadata: Values,
    /// As [`SwiftMetadata::settings`].
    pub settings: Values,
}

impl Changes {
    pub(super) fn is_empty(&self) -> bool {
        self.metadata.is_empty() && self.settings.is_empty()
    }
}

/// Metadata that says what others may do: for owners only, to see and to set.
const PRIVILEGED: [&str; 2] = ["temp-url-key", "temp-url-key-2"];

/// Reads `x-KIND-meta-NAME` and `x-remove-KIND-meta-NAME`. A value that is empty removes.
/// What is privileged is passed over where it comes from somebody who does not own the account.
pub(super) fn changes(headers: &HeaderMap, kind: &str, owns: bool) -> SwiftResult<Changes> {
    let (set, remove) = (format!("x-{kind}-meta-"), format!("x-remove-{kind}-meta-"));
    let mut changes = Values::new();
    for (header, value) in headers {
        if let Some(name) = header.as_str().strip_prefix(&remove) {
            changes.entry(name.to_owned()).or_insert(None);
        } else if let Some(name) = header.as_str().strip_prefix(&set) {
            check_item(name, value.as_bytes())?;
            if std::str::from_utf8(value.as_bytes()).is_err() {
                let wrong = format!("The value of metadata {name} is not UTF-8.");
                return Err(SwiftError::bad_request(wrong));
            }
            let value = Some(value).filter(|value| !value.is_empty());
            changes.insert(
                name.to_owned(),
                value.map(|value| Bytes::copy_from_slice(value.as_bytes())),
            );
        }
    }
    changes.retain(|name, _| owns || !PRIVILEGED.contains(&name.as_str()));
    Ok(Changes { metadata: changes, settings: Values::new() })
}

/// Refuses what no new container could have.
pub(super) fn check_new(changes: &Changes) -> SwiftResult<()> {
    merged(&SwiftMetadata::default(), changes, 0).map(drop)
}

/// Reads `x-object-meta-NAME`: all of it, as a write of an object replaces what was there. Values are bytes,
/// of whatever encoding.
pub(super) fn of_object(headers: &HeaderMap) -> SwiftResult<BTreeMap<String, Bytes>> {
    let mut metadata = BTreeMap::new();
    for (header, value) in headers {
        let Some(name) = header.as_str().strip_prefix("x-object-meta-") else { continue };
        check_item(name, value.as_bytes())?;
        metadata.insert(name.to_owned(), Bytes::copy_from_slice(value.as_bytes()));
    }
    check_all(&metadata)?;
    Ok(metadata)
}

fn check_item(name: &str, value: &[u8]) -> SwiftResult<()> {
    let wrong = match (name.len(), value.len()) {
        (0, _) => "Metadata needs a name.".to_owned(),
        (NAME_BYTES_MAX.., _) if name.len() > NAME_BYTES_MAX => {
            format!("The name of metadata {name} is longer than {NAME_BYTES_MAX} bytes.")
        }
        (_, VALUE_BYTES_MAX..) if value.len() > VALUE_BYTES_MAX => {
            format!("The value of metadata {name} is longer than {VALUE_BYTES_MAX} bytes.")
        }
        _ => return Ok(()),
    };
    Err(SwiftError::bad_request(wrong))
}

/// Checks count and size of all of an object's, container's or account's metadata.
pub(super) fn check_all(metadata: &BTreeMap<String, Bytes>) -> SwiftResult<()> {
    let bytes: usize = metadata.iter().map(|(name, value)| name.len() + value.len()).sum();
    if metadata.len() > ITEMS_MAX {
        return Err(SwiftError::bad_request(format!("More than {ITEMS_MAX} items of metadata.")));
    }
    if bytes > BYTES_MAX {
        return Err(SwiftError::bad_request(format!("More than {BYTES_MAX} bytes of metadata.")));
    }
    Ok(())
}

/// Sets what is kept of a container or an account on an answer.
pub(super) fn set_kept(headers: &mut HeaderMap, kind: &str, kept: &SwiftMetadata, owns: bool) {
    let shown = |name: &String| owns || !PRIVILEGED.contains(&name.as_str());
    let metadata = kept.metadata.iter().filter(|(name, _)| shown(name));
    set_headers(headers, kind, &metadata.map(|(n, v)| (n.clone(), v.clone())).collect());
    let open = |name: &str| name.starts_with("x-account-quota-");
    for (name, value) in kept.settings.iter().filter(|(name, _)| owns || open(name)) {
        if let (Ok(name), Ok(value)) = (name.parse::<HeaderName>(), HeaderValue::from_bytes(value))
        {
            headers.insert(name, value);
        }
    }
}

/// Sets `x-KIND-meta-NAME` on an answer.
pub(super) fn set_headers(headers: &mut HeaderMap, kind: &str, metadata: &BTreeMap<String, Bytes>) {
    for (name, value) in metadata {
        let name = format!("x-{kind}-meta-{name}");
        if let (Ok(name), Ok(value)) = (name.parse::<HeaderName>(), HeaderValue::from_bytes(value))
        {
            headers.insert(name, value);
        }
    }
}

/// What is kept of a container.
pub(super) fn of_container(bucket: &Bucket) -> SwiftMetadata {
    let document = bucket.documents.get(DOCUMENT).cloned();
    let kept = document.map(SwiftMetadata::from_bytes);
    kept.and_then(|kept| {
        kept.inspect_err(|error| {
            tracing::error!(bucket = %bucket.name, %error, "metadata of a container is damaged");
        })
        .ok()
    })
    .unwrap_or_default()
}

/// Applies changes; `None` if there is nothing to do.
fn merged(present: &SwiftMetadata, changes: &Changes, now_ms: u64) -> SwiftResult<SwiftMetadata> {
    let mut next = present.clone();
    for (kept, changes) in
        [(&mut next.metadata, &changes.metadata), (&mut next.settings, &changes.settings)]
    {
        for (name, value) in changes {
            match value {
                Some(value) => kept.insert(name.clone(), value.clone()),
                None => kept.remove(name),
            };
        }
    }
    check_all(&next.metadata)?;
    next.revision = next.revision.saturating_add(1);
    next.modified_ms = now_ms;
    if next.created_ms == 0 {
        next.created_ms = now_ms;
    }
    Ok(next)
}

fn busy() -> SwiftError {
    SwiftError::new(StatusCode::SERVICE_UNAVAILABLE, "Too many change this at once. Try again.")
}

/// Changes a container's metadata and its date.
pub(super) async fn change_container(
    call: &Call,
    bucket: &Bucket,
    changes: &Changes,
) -> SwiftResult<()> {
    let catalogue = &call.service.catalogue;
    for _ in 0..TRIES_MAX {
        let present: Rc<Bucket> = catalogue.bucket_now(&bucket.name).await?;
        if present.id != bucket.id {
            return Err(SwiftError::not_found());
        }
        let before = present.documents.get(DOCUMENT).cloned();
        let next = merged(&of_container(&present), changes, call.now_ms())?;
        let set = SetDocument {
            name: present.name.clone(),
            id: present.id,
            document: DOCUMENT.to_owned(),
            value: next.to_bytes(),
            expected: [(DOCUMENT.to_owned(), before)].into(),
        };
        match catalogue.set_document(set).await {
            // Somebody else has changed it just now, so its date is a new one.
            Err(CatalogueError::Refused(Refusal::Precondition {})) if changes.is_empty() => {
                return Ok(());
            }
            Err(CatalogueError::Refused(Refusal::Precondition {})) => {}
            done => return Ok(done?),
        }
    }
    Err(busy())
}

/// Changes an account's metadata.
pub(super) async fn change_account(call: &Call, id: &str, changes: &Changes) -> SwiftResult<()> {
    let catalogue = &call.service.catalogue;
    for _ in 0..TRIES_MAX {
        let present = catalogue.account(id).await?;
        let account = merged(&present, changes, call.now_ms())?;
        match catalogue.set_account(SetAccount { id: id.to_owned(), account }).await {
            Err(CatalogueError::Refused(Refusal::Precondition {})) => {}
            done => return Ok(done?),
        }
    }
    Err(busy())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&str, &str)]) -> HeaderMap {
        pairs
            .iter()
            .map(|(name, value)| (name.parse::<HeaderName>().unwrap(), value.parse().unwrap()))
            .collect()
    }

    #[test]
    fn changes_set_and_remove() {
        let asked = headers(&[
            ("x-container-meta-a", "1"),
            ("x-container-meta-b", ""),
            ("x-remove-container-meta-c", "x"),
            ("x-account-meta-d", "1"),
        ]);
        let changes = changes(&asked, "container", true).unwrap();
        let expected: Values =
            [("a".into(), Some("1".into())), ("b".into(), None), ("c".into(), None)].into();
        assert_eq!(changes.metadata, expected);
        let mut present = SwiftMetadata::default();
        present.metadata.insert("b".into(), "2".into());
        let next = merged(&present, &changes, 7).unwrap();
        assert_eq!(next.metadata, [("a".to_owned(), Bytes::from("1"))].into());
        assert_eq!((next.revision, next.modified_ms), (1, 7));
    }

    #[test]
    fn limits_hold() {
        let name = |len: usize| format!("x-object-meta-{}", "n".repeat(len));
        let of = |name: &str, value: &str| of_object(&headers(&[(name, value)]));
        assert!(of(&name(128), "v").is_ok());
        assert!(of(&name(129), "v").is_err());
        assert!(of(&name(0), "v").is_err());
        assert!(of("x-object-meta-a", &"v".repeat(256)).is_ok());
        assert!(of("x-object-meta-a", &"v".repeat(257)).is_err());
        let many = |count: usize, len: usize| -> BTreeMap<String, Bytes> {
            (0..count).map(|n| (format!("{n:02}"), "v".repeat(len).into())).collect()
        };
        assert!(check_all(&many(90, 1)).is_ok());
        assert!(check_all(&many(91, 1)).is_err());
        assert!(check_all(&many(16, 254)).is_ok());
        assert!(check_all(&many(17, 254)).is_err());
    }
}
