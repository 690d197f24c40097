//! Listings: what is asked for, and the three forms of the answer.

use super::Call;
use super::error::{SwiftError, SwiftResult};
use super::respond;
use crate::s3::Answer;
use crate::s3::xml::Xml;
use bytes::Bytes;
use http::StatusCode;
use serde_json::{Map, Value};
use store_base::bucket::after_prefix;

/// Most lines of a listing.
pub(super) const LIMIT_MAX: usize = 10_000;

/// The form of a listing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
    /// Names, one a line.
    Plain,
    /// JSON.
    Json,
    /// XML.
    Xml,
}

impl Format {
    fn parse(call: &Call) -> SwiftResult<Format> {
        if let Some(format) = call.head.query.value("format").filter(|format| !format.is_empty()) {
            let format = format.to_ascii_lowercase();
            return Ok(match format.as_str() {
                "json" => Format::Json,
                _ if call.head.query.has("versions") => return Err(not_acceptable()),
                "xml" => Format::Xml,
                _ => Format::Plain,
            });
        }
        match call.head.header("accept")? {
            // Of versions, names alone say little.
            None | Some("") if call.head.query.has("versions") => Ok(Format::Json),
            None | Some("") => Ok(Format::Plain),
            Some(accepted) if call.head.query.has("versions") => {
                let json = accepted.split(',').filter_map(|range| Format::Json.liking(range));
                let likes = json.fold(0.0, f32::max) > 0.0;
                if likes { Ok(Format::Json) } else { Err(not_acceptable()) }
            }
            Some(accepted) => Format::accepted(accepted).ok_or_else(not_acceptable),
        }
    }

    /// The form that an `Accept` header likes best; of equals the simplest.
    pub(super) fn accepted(header: &str) -> Option<Format> {
        let mut best: Option<(f32, Format)> = None;
        for format in [Format::Plain, Format::Json, Format::Xml] {
            let likes = header.split(',').filter_map(|range| format.liking(range));
            let Some(liking) = likes.max_by(f32::total_cmp) else { continue };
            if liking > 0.0 && best.is_none_or(|(best, _)| liking > best) {
                best = Some((liking, format));
            }
        }
        best.map(|(_, format)| format)
    }

    /// How much one range of an `Accept` header likes this form.
    fn liking(self, range: &str) -> Option<f32> {
        let mut parts = range.split(';').map(str::trim);
        let kind = parts.next().unwrap_or_default().to_ascii_lowercase();
        let fits = match kind.as_str() {
            "*/*" => true,
            "text/*" => self != Format::Json,
            "application/*" => self != Format::Plain,
            "text/plain" => self == Format::Plain,
            "application/json" => self == Format::Json,
            "application/xml" | "text/xml" => self == Format::Xml,
            _ => false,
        };
        let weight = parts.find_map(|part| part.strip_prefix("q="));
        fits.then(|| weight.map_or(1.0, |weight| weight.trim().parse().unwrap_or(0.0)))
    }

    /// The `Content-Type`.
    pub(super) fn content_type(self) -> &'static str {
        match self {
            Format::Plain => "text/plain; charset=utf-8",
            Format::Json => "application/json; charset=utf-8",
            Format::Xml => "application/xml; charset=utf-8",
        }
    }
}

fn not_acceptable() -> SwiftError {
    SwiftError::new(
        StatusCode::NOT_ACCEPTABLE,
        "A listing is text/plain, application/json, application/xml or text/xml; of versions JSON.",
    )
}

/// A listing that is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Listing {
    pub format: Format,
    pub limit: usize,
    pub prefix: String,
    pub delimiter: String,
    /// Only names greater than this one; empty for no bound.
    pub above: String,
    /// Only names less than this one; empty for no bound.
    pub below: String,
    pub reverse: bool,
    /// Whether what `path` names is wanted: objects directly in it, and no common prefixes.
    pub in_path: bool,
}

impl Listing {
    pub(super) fn parse(call: &Call) -> SwiftResult<Listing> {
        let query = &call.head.query;
        let text = |name: &str| query.value(name).unwrap_or_default().to_owned();
        let limit = match query.value("limit") {
            Some(limit) if !limit.is_empty() && limit.bytes().all(|b| b.is_ascii_digit()) => {
                limit.parse().ok().filter(|limit| *limit <= LIMIT_MAX).ok_or_else(|| {
                    SwiftError::new(
                        StatusCode::PRECONDITION_FAILED,
                        format!("The limit of a listing is at most {LIMIT_MAX}."),
                    )
                })?
            }
            _ => LIMIT_MAX,
        };
        let reverse = matches!(
            text("reverse").to_ascii_lowercase().as_str(),
            "true" | "1" | "yes" | "on" | "t" | "y"
        );
        let (marker, end_marker) = (text("marker"), text("end_marker"));
        let (above, below) = if reverse { (end_marker, marker) } else { (marker, end_marker) };
        let (mut prefix, mut delimiter, mut in_path) = (text("prefix"), text("delimiter"), false);
        if let Some(path) = query.value("path") {
            // The path `/` is not the empty one: in it is what begins with a slash.
            prefix = match path {
                "" => String::new(),
                path => format!("{}/", path.trim_end_matches('/')),
            };
            delimiter = "/".to_owned();
            in_path = true;
        }
        let format = Format::parse(call)?;
        Ok(Listing { format, limit, prefix, delimiter, above, below, reverse, in_path })
    }

    /// The first name that may be listed: behind all of `above`, if that is a common prefix.
    pub(super) fn from(&self) -> Bytes {
        if self.above.is_empty() {
            return Bytes::new();
        }
        let bound = match self.rolled_up(&self.above) {
            Some(common) if common == self.above => after_prefix(common.as_bytes()),
            _ => None,
        };
        bound.unwrap_or_else(|| [self.above.as_bytes(), &[0]].concat()).into()
    }

    /// Whether a name is behind the last that may be listed.
    pub(super) fn is_beyond(&self, name: &[u8]) -> bool {
        !self.below.is_empty() && name >= self.below.as_bytes()
    }

    /// The common prefix under which a name is shown, if it is.
    pub(super) fn rolled_up<'a>(&self, name: &'a str) -> Option<&'a str> {
        if self.delimiter.is_empty() {
            return None;
        }
        let rest = name.strip_prefix(self.prefix.as_str())?;
        let end = self.prefix.len() + rest.find(&self.delimiter)? + self.delimiter.len();
        Some(&name[..end])
    }
}

/// One line of a listing.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Line {
    /// A container or an object: its name, and what else is said of it, in order.
    Named(String, Vec<(&'static str, Value)>),
    /// A common prefix.
    Subdir(String),
}

/// The root of a listing in XML, and the element of a line.
pub(super) struct Elements<'a> {
    pub root: &'static str,
    pub name: &'a str,
    pub line: &'static str,
}

/// The answer: 204 if there is nothing to be said in plain text.
pub(super) fn answer(format: Format, lines: &[Line], elements: &Elements<'_>) -> Answer {
    let body = match format {
        Format::Plain => plain(lines).into_bytes(),
        Format::Json => json(lines).to_string().into_bytes(),
        Format::Xml => xml(lines, elements),
    };
    let status = if body.is_empty() { StatusCode::NO_CONTENT } else { StatusCode::OK };
    respond::with_body(status, format.content_type(), body)
}

fn plain(lines: &[Line]) -> String {
    let names = lines.iter().map(|line| match line {
        Line::Named(name, _) | Line::Subdir(name) => name,
    });
    names.flat_map(|name| [name.as_str(), "\n"]).collect()
}

fn json(lines: &[Line]) -> Value {
    let line = |line: &Line| {
        let mut object = Map::new();
        match line {
            Line::Named(name, values) => {
                object.insert("name".into(), name.as_str().into());
                object.extend(values.iter().map(|(name, value)| ((*name).into(), value.clone())));
            }
            Line::Subdir(name) => {
                object.insert("subdir".into(), name.as_str().into());
            }
        }
        Value::Object(object)
    };
    lines.iter().map(line).collect()
}

fn xml(lines: &[Line], elements: &Elements<'_>) -> Vec<u8> {
    let attribute = |name: &str| format!("name=\"{}\"", quick_xml::escape::escape(name));
    let mut xml = Xml::document();
    xml.open_with(elements.root, &attribute(elements.name));
    for line in lines {
        match line {
            Line::Named(name, values) => {
                xml.open(elements.line);
                xml.text("name", name);
                for (name, value) in values {
                    match value.as_str() {
                        Some(text) => xml.text(name, text),
                        None => xml.value(name, value),
                    }
                }
                xml.close(elements.line);
            }
            Line::Subdir(name) => {
                xml.open_with("subdir", &attribute(name));
                xml.text("name", name);
                xml.close("subdir");
            }
        }
    }
    xml.close(elements.root);
    xml.into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms_are_chosen_by_liking() {
        for (accept, expected) in [
            ("*/*", Some(Format::Plain)),
            ("application/json", Some(Format::Json)),
            ("application/xml;q=0.9, application/json;q=0.8", Some(Format::Xml)),
            ("text/xml", Some(Format::Xml)),
            ("application/*", Some(Format::Json)),
            ("image/png, text/plain;q=0.1", Some(Format::Plain)),
            ("text/plain;q=0", None),
            ("image/png", None),
        ] {
            assert_eq!(Format::accepted(accept), expected, "{accept}");
        }
    }

    #[test]
    fn listings_begin_behind_their_marker() {
        let listing = |prefix: &str, delimiter: &str, above: &str| Listing {
            format: Format::Plain,
            limit: 1,
            prefix: prefix.into(),
            delimiter: delimiter.into(),
            above: above.into(),
            below: "m".into(),
            reverse: false,
            in_path: false,
        };
        assert_eq!(listing("", "", "").from(), Bytes::new());
        assert_eq!(listing("", "", "a/").from()[..], *b"a/\0");
        assert_eq!(listing("", "/", "a/").from()[..], *b"a0");
        assert_eq!(listing("", "/", "a/b").from()[..], *b"a/b\0");
        assert_eq!(listing("a/", "/", "a/").from()[..], *b"a/\0");
        let page = listing("", "", "");
        assert!(page.is_beyond(b"m") && !page.is_beyond(b"lz"));
    }

    #[test]
    fn lines_in_three_forms() {
        let lines =
            [Line::Named("a&b".into(), vec![("bytes", 3.into())]), Line::Subdir("d\"/".into())];
        assert_eq!(plain(&lines), "a&b\nd\"/\n");
        assert_eq!(json(&lines).to_string(), r#"[{"bytes":3,"name":"a&b"},{"subdir":"d\"/"}]"#);
        let elements = Elements { root: "container", name: "c", line: "object" };
        let text = String::from_utf8(xml(&lines, &elements)).unwrap();
        assert!(text.ends_with(
            "<container name=\"c\"><object><name>a&amp;b</name><bytes>3</bytes></object>\
             <subdir name=\"d&quot;/\"><name>d&quot;/</name></subdir></container>"
        ));
        assert_eq!(answer(Format::Plain, &[], &elements).status(), StatusCode::NO_CONTENT);
        assert_eq!(answer(Format::Json, &[], &elements).status(), StatusCode::OK);
    }
}
