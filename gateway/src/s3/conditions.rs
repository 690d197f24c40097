//! Conditional requests: the headers, and their order of precedence on reads (RFC 9110, 13.2.2).

use super::dates;
use super::error::{Code, S3Error, S3Result};
use http::HeaderMap;
use http::header::{IF_MATCH, IF_MODIFIED_SINCE, IF_NONE_MATCH, IF_UNMODIFIED_SINCE};
use store_base::bucket::{Condition, ETag, Entry, TagMatch};

/// Most tags in one header.
const TAGS_MAX: usize = 64;

/// What a read wants of the object.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReadCondition {
    /// The tags.
    pub tags: Condition,
    /// Seconds since 1970.
    pub modified_since: Option<u64>,
    /// Seconds since 1970.
    pub unmodified_since: Option<u64>,
}

impl ReadCondition {
    /// From the headers of a GET or HEAD.
    pub fn from_headers(headers: &HeaderMap) -> S3Result<Self> {
        let names = [IF_MATCH, IF_NONE_MATCH, IF_MODIFIED_SINCE, IF_UNMODIFIED_SINCE];
        Self::from_named(headers, names.map(|name| name.as_str().to_owned()))
    }

    /// From the `x-amz-copy-source-…` headers of a copy.
    pub fn from_copy_headers(headers: &HeaderMap) -> S3Result<Self> {
        let names = ["match", "none-match", "modified-since", "unmodified-since"];
        Self::from_named(headers, names.map(|name| format!("x-amz-copy-source-if-{name}")))
    }

    fn from_named(headers: &HeaderMap, names: [String; 4]) -> S3Result<Self> {
        let text = |name: &String| headers.get(name).and_then(|v| v.to_str().ok());
        // A date that cannot be read is ignored (RFC 9110).
        let date = |name| text(name).and_then(dates::parse_http);
        Ok(ReadCondition {
            tags: Condition {
                if_match: text(&names[0]).map(tags).transpose()?,
                if_none_match: text(&names[1]).map(tags).transpose()?,
            },
            modified_since: date(&names[2]),
            unmodified_since: date(&names[3]),
        })
    }

    /// Says what answers the read instead of the object, if anything.
    pub fn check(&self, entry: &Entry) -> S3Result<()> {
        let modified = entry.modified_ms / 1000;
        match &self.tags.if_match {
            Some(wanted) if !wanted.matches(entry) => return Err(failed("If-Match")),
            Some(_) => {}
            None if self.unmodified_since.is_some_and(|since| modified > since) => {
                return Err(failed("If-Unmodified-Since"));
            }
            None => {}
        }
        match &self.tags.if_none_match {
            Some(unwanted) if unwanted.matches(entry) => Err(Code::NotModified.into()),
            Some(_) => Ok(()),
            None if self.modified_since.is_some_and(|since| modified <= since) => {
                Err(Code::NotModified.into())
            }
            None => Ok(()),
        }
    }

    /// Like `check`, for the source of a copy, where there is no "not modified".
    pub fn check_source(&self, entry: &Entry) -> S3Result<()> {
        self.check(entry).map_err(|error| match error.code {
            Code::NotModified => failed("x-amz-copy-source-If-None-Match"),
            _ => error,
        })
    }
}

fn failed(condition: &str) -> S3Error {
    Code::PreconditionFailed.with(Code::PreconditionFailed.message()).detail("Condition", condition)
}

/// Reads the condition of a write. S3 knows If-Match with a tag or `*`, and If-None-Match with `*`; a tag
/// there is allowed as well.
pub fn write_condition(headers: &HeaderMap) -> S3Result<Condition> {
    let text = |name| {
        headers.get(name).map(|value: &http::HeaderValue| {
            value.to_str().map_err(|_| S3Error::argument("If-Match", "", "not readable"))
        })
    };
    for (name, shown) in
        [(IF_MODIFIED_SINCE, "If-Modified-Since"), (IF_UNMODIFIED_SINCE, "If-Unmodified-Since")]
    {
        if headers.contains_key(name) {
            return Err(Code::NotImplemented.into())
                .map_err(|e: S3Error| e.detail("Header", shown));
        }
    }
    Ok(Condition {
        if_match: text(IF_MATCH).transpose()?.map(tags).transpose()?,
        if_none_match: text(IF_NONE_MATCH).transpose()?.map(tags).transpose()?,
    })
}

/// The condition of a removal: as of a write, and S3's own headers for size and date.
pub fn removal_condition(headers: &HeaderMap) -> S3Result<Condition> {
    const SIZE: &str = "x-amz-if-match-size";
    const DATE: &str = "x-amz-if-match-last-modified-time";
    let text = |name: &str| headers.get(name).map(|value| value.to_str().unwrap_or_default());
    let unreadable = |name| S3Error::argument(name, text(name).unwrap_or_default(), "not readable");
    let condition = write_condition(headers)?;
    let number = text(SIZE).map(|text| text.trim().parse().map_err(|_| unreadable(SIZE)));
    let date = text(DATE).map(|text| dates::parse_http(text).ok_or_else(|| unreadable(DATE)));
    Ok(with_properties(condition, number.transpose()?, date.transpose()?))
}

/// Adds what else must be true of an object.
pub fn with_properties(
    condition: Condition,
    size: Option<u64>,
    modified_secs: Option<u64>,
) -> Condition {
    if size.is_none() && modified_secs.is_none() {
        return condition;
    }
    let tags = match condition.if_match {
        Some(TagMatch::OneOf { tags }) => Some(tags),
        _ => None,
    };
    let if_match = Some(TagMatch::Like { tags, size, modified_secs });
    Condition { if_match, ..condition }
}

/// Reads a list of entity tags, quoted or not, strong or weak. A tag that no object here can have matches
/// nothing and is left out.
fn tags(value: &str) -> S3Result<TagMatch> {
    if value.trim() == "*" {
        return Ok(TagMatch::Any {});
    }
    let mut tags = Vec::new();
    for (n, item) in value.split(',').enumerate() {
        if n >= TAGS_MAX {
            return Err(S3Error::argument("If-Match", "", "too many entity tags"));
        }
        let item = item.trim();
        let item = item.strip_prefix("W/").unwrap_or(item);
        if let Ok(tag) = item.trim_matches('"').parse::<ETag>() {
            tags.push(tag);
        }
    }
    Ok(TagMatch::OneOf { tags })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(pairs: &[(&'static str, &str)]) -> &'static str {
        let headers: HeaderMap = pairs
            .iter()
            .map(|(name, value)| {
                (http::HeaderName::from_static(name), value.parse().expect("a header value"))
            })
            .collect();
        let entry = Entry {
            etag: ETag { md5: [0x11; 16], parts: 0 },
            modified_ms: 1_369_353_600_900,
            ..Entry::default()
        };
        let condition = ReadCondition::from_headers(&headers).expect("readable");
        condition.check(&entry).map_or_else(|error| error.code.name(), |()| "ok")
    }

    #[test]
    fn precedence_on_reads() {
        let (same, other) =
            ("\"11111111111111111111111111111111\"", "\"22222222222222222222222222222222\"");
        let (before, at, after) = (
            "Thu, 23 May 2013 00:00:00 GMT",
            "Fri, 24 May 2013 00:00:00 GMT",
            "Sat, 25 May 2013 00:00:00 GMT",
        );
        assert_eq!(answer(&[]), "ok");
        assert_eq!(answer(&[("if-match", same)]), "ok");
        assert_eq!(answer(&[("if-match", same.trim_matches('"'))]), "ok");
        assert_eq!(answer(&[("if-match", "*")]), "ok");
        assert_eq!(answer(&[("if-match", other)]), "PreconditionFailed");
        assert_eq!(answer(&[("if-match", "\"nonsense\"")]), "PreconditionFailed");
        assert_eq!(answer(&[("if-none-match", same)]), "NotModified");
        assert_eq!(answer(&[("if-none-match", &format!("{other}, W/{same}"))]), "NotModified");
        assert_eq!(answer(&[("if-none-match", other)]), "ok");
        assert_eq!(answer(&[("if-modified-since", at)]), "NotModified");
        assert_eq!(answer(&[("if-modified-since", before)]), "ok");
        assert_eq!(answer(&[("if-modified-since", "never")]), "ok");
        assert_eq!(answer(&[("if-unmodified-since", before)]), "PreconditionFailed");
        assert_eq!(answer(&[("if-unmodified-since", at)]), "ok");
        // The tags win over the dates.
        assert_eq!(answer(&[("if-match", same), ("if-unmodified-since", before)]), "ok");
        assert_eq!(answer(&[("if-none-match", other), ("if-modified-since", after)]), "ok");
    }
}
