//! Listings of keys: v1 and v2.

use super::super::access::Permit;
use super::super::acl;
use super::super::checksum::Algorithm;
use super::super::dates;
use super::super::error::S3Result;
use super::super::response;
use super::super::uri::listing_encoded;
use super::super::xml::Xml;
use super::super::{Answer, Call};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use std::borrow::Cow;
use store_base::bucket::{Entry, Item, List, Page, after_prefix};

/// Most items of one page.
pub(super) const PAGE_MAX: u32 = 1000;

/// What all listings of keys have in common.
pub(super) struct Common {
    pub prefix: String,
    pub delimiter: String,
    pub max: u32,
    /// Whether names are percent-encoded in the answer.
    pub encoded: bool,
}

impl Common {
    pub(super) fn parse(call: &Call, max_name: &str) -> S3Result<Common> {
        let query = &call.head.query;
        let encoded = match query.value("encoding-type") {
            None | Some("") => false,
            Some(kind) if kind.eq_ignore_ascii_case("url") => true,
            Some(_) => {
                return Err(call.bad_argument(
                    "encoding-type",
                    "Invalid Encoding Method specified in Request",
                ));
            }
        };
        let max = match query.value(max_name) {
            None | Some("") => PAGE_MAX,
            Some(text) => text
                .parse::<i64>()
                .ok()
                .filter(|max| (0..=i64::from(i32::MAX)).contains(max))
                .map(|max| max.min(i64::from(PAGE_MAX)) as u32)
                .ok_or_else(|| {
                    call.bad_argument(
                        max_name,
                        "Provided max-keys not an integer or within integer range",
                    )
                })?,
        };
        // Ceph's extension: our order is as good as none. A delimiter has no meaning there.
        let unordered = query.value("allow-unordered").is_some_and(|on| on == "true");
        if unordered && query.value("delimiter").is_some_and(|delimiter| !delimiter.is_empty()) {
            return Err(call.bad_argument("allow-unordered", "A delimiter needs an order."));
        }
        Ok(Common {
            prefix: query.value("prefix").unwrap_or_default().to_owned(),
            delimiter: query.value("delimiter").unwrap_or_default().to_owned(),
            max,
            encoded,
        })
    }

    /// A name as the answer carries it.
    pub(super) fn shown<'a>(&self, name: &'a str) -> Cow<'a, str> {
        match self.encoded {
            true => listing_encoded(name).into(),
            false => name.into(),
        }
    }

    pub(super) fn elements(&self, xml: &mut Xml, max_name: &str) {
        xml.text("Prefix", &self.shown(&self.prefix));
        if !self.delimiter.is_empty() {
            xml.text("Delimiter", &self.shown(&self.delimiter));
        }
        xml.value(max_name, self.max);
        if self.encoded {
            xml.text("EncodingType", "url");
        }
    }

    /// Where a listing begins that goes on behind a name: behind all of it, if it is a common prefix.
    pub(super) fn from(&self, after: &str) -> Bytes {
        if after.is_empty() {
            return Bytes::new();
        }
        let rolled_up = !self.delimiter.is_empty()
            && after.strip_prefix(self.prefix.as_str()).is_some_and(|rest| {
                rest.find(&self.delimiter).is_some_and(|at| at + self.delimiter.len() == rest.len())
            });
        match after_prefix(after.as_bytes()) {
            Some(bound) if rolled_up => bound.into(),
            _ => [after.as_bytes(), &[0]].concat().into(),
        }
    }

    async fn page(&self, permit: &Permit, call: &Call, from: Bytes) -> S3Result<Page> {
        let list = List {
            prefix: self.prefix.clone().into(),
            delimiter: self.delimiter.clone().into(),
            from,
            max: self.max,
        };
        Ok(call.service.catalogue.list(permit.bucket(), list).await?)
    }

    fn common_prefixes(&self, xml: &mut Xml, page: &Page) {
        for item in &page.items {
            if let Item::Prefix { prefix } = item {
                xml.open("CommonPrefixes");
                xml.text("Prefix", &self.shown(&text(prefix)));
                xml.close("CommonPrefixes");
            }
        }
    }
}

/// Keys are UTF-8 (the gateway takes no others).
pub(super) fn text(name: &Bytes) -> String {
    String::from_utf8_lossy(name).into_owned()
}

fn keys(page: &Page) -> impl Iterator<Item = (Cow<'_, str>, &Entry)> {
    page.items.iter().filter_map(|item| match item {
        Item::Key { key, entry } => Some((String::from_utf8_lossy(key), entry)),
        Item::Prefix { .. } => None,
    })
}

fn last_name(page: &Page) -> Option<String> {
    page.next.as_ref()?;
    page.items.last().map(|item| text(item.name()))
}

pub(super) fn entry_elements(xml: &mut Xml, entry: &Entry) {
    xml.text("LastModified", &dates::iso(entry.modified_ms));
    xml.text("ETag", &response::quoted(&entry.etag));
    if let Some(algorithm) = Algorithm::from_number(entry.checksum_algorithm) {
        xml.text("ChecksumAlgorithm", algorithm.name());
    }
    xml.value("Size", entry.size);
}

pub(super) fn owner_element(xml: &mut Xml, call: &Call, owner: &str) {
    xml.open("Owner");
    acl::user_elements(xml, owner, &*call.service.keys);
    xml.close("Owner");
}

/// About what an object takes in a listing, for the memory set aside.
const CONTENTS_BYTES: usize = 320;

fn contents(xml: &mut Xml, call: &Call, common: &Common, page: &Page, owners: bool) {
    xml.reserve(page.items.len() * CONTENTS_BYTES);
    for (key, entry) in keys(page) {
        xml.open("Contents");
        xml.text("Key", &common.shown(&key));
        entry_elements(xml, entry);
        if owners {
            owner_element(xml, call, &entry.owner);
        }
        xml.text("StorageClass", "STANDARD");
        xml.close("Contents");
    }
}

/// `ListObjects`
pub(super) async fn v1(permit: Permit, call: &mut Call) -> S3Result<Answer> {
    let common = Common::parse(call, "max-keys")?;
    let marker = call.head.query.value("marker").unwrap_or_default();
    let page = common.page(&permit, call, common.from(marker)).await?;
    let mut xml = Xml::root("ListBucketResult");
    xml.text("Name", call.head.bucket()?);
    xml.text("Marker", &common.shown(marker));
    common.elements(&mut xml, "MaxKeys");
    xml.value("IsTruncated", page.next.is_some());
    // Without a delimiter the last key is the marker, and S3 does not repeat it.
    if let (false, Some(last)) = (common.delimiter.is_empty(), last_name(&page)) {
        xml.text("NextMarker", &common.shown(&last));
    }
    contents(&mut xml, call, &common, &page, true);
    common.common_prefixes(&mut xml, &page);
    xml.close("ListBucketResult");
    Ok(response::xml(xml))
}

/// `ListObjectsV2`
struct V2<'a> {
    common: Common,
    token: Option<&'a str>,
    start_after: Option<&'a str>,
    owners: bool,
    from: Bytes,
}

impl V2<'_> {
    fn parse(call: &Call) -> S3Result<V2<'_>> {
        let common = Common::parse(call, "max-keys")?;
        let query = &call.head.query;
        let token = query.value("continuation-token");
        let start_after = query.value("start-after");
        let from = match token.filter(|token| !token.is_empty()) {
            Some(token) => decode_token(token).ok_or_else(|| {
                call.bad_argument(
                    "continuation-token",
                    "The continuation token provided is incorrect",
                )
            })?,
            None => common.from(start_after.unwrap_or_default()),
        };
        let owners = query.value("fetch-owner").is_some_and(|on| on.eq_ignore_ascii_case("true"));
        Ok(V2 { common, token, start_after, owners, from })
    }
}

/// A token is where to go on, so that it needs no other parameter to be understood.
pub(super) fn encode_token(from: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode([b"1", from].concat())
}

pub(super) fn decode_token(token: &str) -> Option<Bytes> {
    let bytes = URL_SAFE_NO_PAD.decode(token).ok()?;
    (bytes.first() == Some(&b'1')).then(|| Bytes::from(bytes).slice(1..))
}

pub(super) async fn v2(permit: Permit, call: &mut Call) -> S3Result<Answer> {
    let list = V2::parse(call)?;
    let common = &list.common;
    let page = common.page(&permit, call, list.from.clone()).await?;
    let mut xml = Xml::root("ListBucketResult");
    xml.text("Name", call.head.bucket()?);
    common.elements(&mut xml, "MaxKeys");
    xml.value("KeyCount", page.items.len());
    xml.value("IsTruncated", page.next.is_some());
    xml.optional("ContinuationToken", list.token);
    if let Some(next) = &page.next {
        xml.text("NextContinuationToken", &encode_token(next));
    }
    if let Some(start_after) = list.start_after {
        xml.text("StartAfter", &common.shown(start_after));
    }
    contents(&mut xml, call, common, &page, list.owners);
    common.common_prefixes(&mut xml, &page);
    xml.close("ListBucketResult");
    Ok(response::xml(xml))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn markers_and_tokens() {
        let common = |prefix: &str, delimiter: &str| Common {
            prefix: prefix.into(),
            delimiter: delimiter.into(),
            max: 1,
            encoded: true,
        };
        assert_eq!(common("", "").from(""), Bytes::new());
        assert_eq!(common("", "").from("a/")[..], *b"a/\0");
        assert_eq!(common("", "/").from("a/")[..], *b"a0");
        assert_eq!(common("", "/").from("a/b")[..], *b"a/b\0");
        assert_eq!(common("a/", "/").from("a/")[..], *b"a/\0");
        assert_eq!(common("a/", "/").from("a/b/")[..], *b"a/b0");
        assert_eq!(common("", "/").from("a/b/")[..], *b"a/b/\0");
        for from in [&b""[..], b"a/b\0", b"\xff"] {
            assert_eq!(decode_token(&encode_token(from)).unwrap()[..], *from);
        }
        assert_eq!(decode_token(""), None);
        assert_eq!(decode_token("!!"), None);
    }
}
