//! Manifests of static large objects, as they are sent.

use super::{SEGMENTS_MAX, large};
use crate::swift::error::{SwiftError, SwiftResult};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::StatusCode;
use serde_json::{Map, Value};

/// A segment as the manifest asks for it.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Asked {
    Data(Bytes),
    Object {
        /// As the manifest has it.
        path: String,
        container: String,
        object: String,
        etag: Option<String>,
        size: Option<u64>,
        range: Option<String>,
    },
}

/// 400 with one line per mistake.
fn mistakes(lines: &[String]) -> SwiftError {
    SwiftError::bad_request(lines.iter().map(|line| format!("{line}\n")).collect::<String>())
}

/// Reads a manifest; `own` is the path of the object that it is for.
pub(super) fn parse(body: &[u8], own: (&str, &str)) -> SwiftResult<Vec<Asked>> {
    let plain = |why: &str| SwiftError::bad_request(format!("{why}\n"));
    let parsed: Value =
        serde_json::from_slice(body).map_err(|_| plain("Manifest must be valid JSON."))?;
    let Value::Array(list) = parsed else { return Err(plain("Manifest must be a list.")) };
    if list.len() > SEGMENTS_MAX {
        return Err(SwiftError::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            format!("Number of segments must be <= {SEGMENTS_MAX}"),
        ));
    }
    if list.is_empty() {
        return Err(plain("Invalid SLO Manifest File: it has no segments."));
    }
    let (mut asked, mut wrong) = (Vec::new(), Vec::new());
    let last = list.len() - 1;
    for (index, segment) in list.iter().enumerate() {
        match parse_segment(segment, own, index == last) {
            Ok(segment) => asked.push(segment),
            Err(why) => wrong.push(format!("Index {index}: {why}")),
        }
    }
    if wrong.is_empty() && asked.iter().all(|segment| matches!(segment, Asked::Data(_))) {
        wrong.push("Inline data segments require at least one object-backed segment.".to_owned());
    }
    match wrong.is_empty() {
        true => Ok(asked),
        false => Err(mistakes(&wrong)),
    }
}

fn parse_segment(segment: &Value, own: (&str, &str), last: bool) -> Result<Asked, String> {
    let Value::Object(segment) = segment else { return Err("not a JSON object".to_owned()) };
    let known: &[&str] = match (segment.contains_key("data"), segment.contains_key("path")) {
        (true, _) => &["data"],
        (_, true) => &["path", "etag", "size_bytes", "range"],
        _ => return Err("expected keys to include one of 'data' or 'path'".to_owned()),
    };
    let strange: Vec<String> = segment
        .keys()
        .filter(|key| !known.contains(&key.as_str()))
        .map(|key| Value::from(key.as_str()).to_string())
        .collect();
    if !strange.is_empty() {
        return Err(format!("extraneous keys {}", strange.join(", ")));
    }
    if let Some(data) = segment.get("data") {
        let data = data.as_str().and_then(|data| STANDARD.decode(data.trim()).ok());
        let data = data.ok_or("data must be valid base64")?;
        return match data.is_empty() {
            true => Err("too small; each segment must be at least 1 byte.".to_owned()),
            false => Ok(Asked::Data(data.into())),
        };
    }
    parse_object(segment, own, last)
}

fn parse_object(
    segment: &Map<String, Value>,
    own: (&str, &str),
    last: bool,
) -> Result<Asked, String> {
    let path = segment.get("path").and_then(Value::as_str).ok_or("\"path\" must be a string")?;
    let text = |name: &str, what: &str| match segment.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text.clone())),
        Some(_) => Err(what.to_owned()),
    };
    let etag = text("etag", "\"etag\" must be a string or null (if provided)")?;
    let place = path.trim_start_matches('/').split_once('/');
    let place = place.filter(|(container, object)| !container.is_empty() && !object.is_empty());
    let (container, object) = place
        .ok_or("path does not refer to an object. Path must be of the form /container/object.")?;
    let size = match segment.get("size_bytes") {
        None | Some(Value::Null) => None,
        Some(Value::Number(number)) => Some(number.as_i64().ok_or("invalid size_bytes")?),
        Some(Value::String(text)) => {
            Some(text.trim().parse().map_err(|_| "invalid size_bytes".to_owned())?)
        }
        Some(_) => return Err("invalid size_bytes".to_owned()),
    };
    if size.is_some_and(|size| size < 1) && !last {
        return Err("too small; each segment must be at least 1 byte.".to_owned());
    }
    let size = size.map(|size| u64::try_from(size).unwrap_or(0));
    if (container, object) == own {
        return Err("manifest must not include itself as a segment".to_owned());
    }
    let range = text("range", "invalid range")?.filter(|range| !range.is_empty());
    if let Some(range) = &range {
        if range.contains(',') {
            return Err("multiple ranges (only one allowed)".to_owned());
        }
        let parsed = large::parse_range(range).ok_or("invalid range")?;
        if size.is_some_and(|size| parsed.resolve(size).is_err()) {
            return Err("unsatisfiable range".to_owned());
        }
    }
    let (container, object) = (container.to_owned(), object.to_owned());
    let path = path.to_owned();
    Ok(Asked::Object { path, container, object, etag, size, range })
}

/// The manifest as it could be put again.
pub(super) fn raw_manifest(kept: &[u8]) -> Option<Bytes> {
    let list: Vec<Map<String, Value>> = serde_json::from_slice(kept).ok()?;
    let raw = list.into_iter().map(|segment| {
        let mut raw = Map::new();
        for (from, to) in [
            ("name", "path"),
            ("bytes", "size_bytes"),
            ("hash", "etag"),
            ("range", "range"),
            ("data", "data"),
        ] {
            if let Some(value) = segment.get(from) {
                raw.insert(to.to_owned(), value.clone());
            }
        }
        Value::Object(raw)
    });
    Some(Bytes::from(raw.collect::<Value>().to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wrong(body: &str) -> String {
        parse(body.as_bytes(), ("c", "own")).map(|_| ()).unwrap_err().message
    }

    #[test]
    fn manifests_are_checked_line_by_line() {
        let good =
            r#"[{"path":"/c/o","etag":null,"size_bytes":"12","range":"-5"},{"data":"QQ=="}]"#;
        let asked = parse(good.as_bytes(), ("c", "own")).unwrap();
        assert_eq!(asked.len(), 2);
        assert_eq!(asked[1], Asked::Data(Bytes::from_static(b"A")));
        for (body, expected) in [
            ("x", "Manifest must be valid JSON.\n"),
            ("{}", "Manifest must be a list.\n"),
            ("[1]", "Index 0: not a JSON object\n"),
            (r#"[{"path":"/c/own"}]"#, "Index 0: manifest must not include itself as a segment\n"),
            (r#"[{"path":"/c/o","x":1}]"#, "Index 0: extraneous keys \"x\"\n"),
            (
                r#"[{"path":"/c/o","range":"1-2,4-5"}]"#,
                "Index 0: multiple ranges (only one allowed)\n",
            ),
            (r#"[{"path":"/c/o","range":"9-","size_bytes":5}]"#, "Index 0: unsatisfiable range\n"),
            (r#"[{"path":"/c/o","size_bytes":[]}]"#, "Index 0: invalid size_bytes\n"),
            (
                r#"[{"data":"?"},{"path":"c"}]"#,
                "Index 0: data must be valid base64\nIndex 1: path does not refer to an object. Path must be of the form /container/object.\n",
            ),
            (
                r#"[{"data":"QQ=="}]"#,
                "Inline data segments require at least one object-backed segment.\n",
            ),
        ] {
            assert_eq!(wrong(body), expected, "{body}");
        }
    }

    #[test]
    fn raw_manifests_can_be_put_again() {
        let kept =
            br#"[{"name":"/c/o","bytes":5,"hash":"h","content_type":"x","last_modified":"y"}]"#;
        let raw = raw_manifest(kept).unwrap();
        assert_eq!(raw, r#"[{"etag":"h","path":"/c/o","size_bytes":5}]"#);
        assert!(parse(&raw, ("c", "own")).is_ok());
    }
}
