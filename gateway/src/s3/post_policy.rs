//! The policy document of a form: until when it may be used, and what its fields may say.

use super::dates;
use super::error::{Code, S3Error, S3Result};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value};
use std::ops::RangeInclusive;

/// Most conditions.
const CONDITIONS_MAX: usize = 200;

/// Fields that need no condition: those that make the signature, the file, and what its sender says of it
/// that can only make the upload fail.
const FREE_FIELDS: [&str; 5] = ["policy", "awsaccesskeyid", "signature", "x-amz-signature", "file"];

/// Beginnings of names of fields that need no condition.
const FREE_BEGINNINGS: [&str; 2] = ["x-ignore-", "x-amz-checksum-"];

/// A policy document.
#[derive(Debug, PartialEq, Eq)]
pub struct PostPolicy {
    expires_secs: u64,
    conditions: Vec<Condition>,
    sizes: RangeInclusive<u64>,
}

/// What must hold of a field.
#[derive(Debug, PartialEq, Eq)]
struct Condition {
    /// Lower case, without the dollar sign.
    field: String,
    /// Whether `value` may be the beginning only.
    begins: bool,
    value: String,
}

fn invalid(what: impl std::fmt::Display) -> S3Error {
    Code::InvalidPolicyDocument.with(format!("Invalid Policy: {what}"))
}

fn denied(what: impl std::fmt::Display) -> S3Error {
    Code::AccessDenied.with(format!("Invalid according to Policy: {what}"))
}

impl PostPolicy {
    /// Reads a document in Base64. Errors: `InvalidPolicyDocument`.
    pub fn parse(encoded: &str) -> S3Result<PostPolicy> {
        let packed: String = encoded.chars().filter(|c| !c.is_ascii_whitespace()).collect();
        let text = STANDARD.decode(packed).map_err(|_| invalid("it is not Base64."))?;
        let document: Map<String, Value> =
            serde_json::from_slice(&text).map_err(|_| invalid("Invalid JSON."))?;
        let (mut expires_secs, mut conditions) = (None, None);
        for (name, value) in &document {
            match (name.as_str(), value) {
                ("expiration", Value::String(text)) => {
                    let secs = dates::parse_http(text).filter(|_| text.ends_with('Z'));
                    expires_secs = Some(
                        secs.ok_or_else(|| invalid(format!("Invalid 'expiration': '{text}'")))?,
                    );
                }
                ("conditions", Value::Array(list)) => conditions = Some(list),
                _ => return Err(invalid(format!("Unexpected: '{name}'"))),
            }
        }
        let conditions = conditions.ok_or_else(|| invalid("Policy missing conditions."))?;
        let expires_secs = expires_secs.ok_or_else(|| invalid("Policy missing expiration."))?;
        let mut policy = PostPolicy { expires_secs, conditions: Vec::new(), sizes: 0..=u64::MAX };
        for condition in conditions {
            policy.add(condition)?;
        }
        Ok(policy)
    }

    fn add(&mut self, condition: &Value) -> S3Result<()> {
        let bad = || invalid(format!("Invalid Condition: {condition}"));
        match condition {
            Value::Object(pairs) if !pairs.is_empty() => {
                for (field, value) in pairs {
                    let value = value.as_str().ok_or_else(bad)?.to_owned();
                    let field = field.to_ascii_lowercase();
                    self.conditions.push(Condition { field, begins: false, value });
                }
            }
            Value::Array(items) => match &items[..] {
                [Value::String(operator), first, second] => {
                    self.add_operator(operator, first, second).ok_or_else(bad)?;
                }
                _ => return Err(bad()),
            },
            _ => return Err(bad()),
        }
        match self.conditions.len() > CONDITIONS_MAX {
            false => Ok(()),
            true => Err(invalid(format!("more than {CONDITIONS_MAX} conditions."))),
        }
    }

    fn add_operator(&mut self, operator: &str, first: &Value, second: &Value) -> Option<()> {
        let begins = match operator.to_ascii_lowercase().as_str() {
            "content-length-range" => {
                let (min, max) = (number(first)?, number(second)?);
                // Several ranges hold together.
                let (least, most) = (*self.sizes.start(), *self.sizes.end());
                self.sizes = least.max(min)..=most.min(max);
                return Some(());
            }
            "eq" => false,
            "starts-with" => true,
            _ => return None,
        };
        let field = first.as_str()?.strip_prefix('$')?.to_ascii_lowercase();
        let value = second.as_str()?.to_owned();
        self.conditions.push(Condition { field, begins, value });
        Some(())
    }

    /// How many bytes the file may have.
    pub fn sizes(&self) -> RangeInclusive<u64> {
        self.sizes.clone()
    }

    /// Checks the fields of a form, lower-case names, `bucket` and the final `key` among them. Errors:
    /// `AccessDenied`.
    pub fn check(&self, fields: &[(String, String)], now_ms: u64) -> S3Result<()> {
        if now_ms / 1000 >= self.expires_secs {
            return Err(denied("Policy expired."));
        }
        for condition in &self.conditions {
            if !condition.holds(fields) {
                let Condition { field, begins, value } = condition;
                let operator = if *begins { "starts-with" } else { "eq" };
                return Err(denied(format!(
                    "Policy Condition failed: [\"{operator}\", \"${field}\", \"{value}\"]"
                )));
            }
        }
        let extra = fields.iter().map(|(name, _)| name.as_str()).find(|name| {
            !FREE_FIELDS.contains(name)
                && !FREE_BEGINNINGS.iter().any(|beginning| name.starts_with(beginning))
                // The bucket is that of the request; it need not be repeated.
                && *name != "bucket"
                && !self.conditions.iter().any(|condition| condition.field == *name)
        });
        match extra {
            None => Ok(()),
            Some(name) => Err(denied(format!("Extra input fields: {name}"))),
        }
    }
}

fn number(value: &Value) -> Option<u64> {
    match value {
        Value::Number(number) => number.as_u64(),
        Value::String(text) => text.parse().ok(),
        _ => None,
    }
}

impl Condition {
    /// Every field of the name must fulfil it; one that is not there counts as empty.
    fn holds(&self, fields: &[(String, String)]) -> bool {
        let mut values = fields
            .iter()
            .filter(|(name, _)| *name == self.field)
            .map(|(_, value)| value)
            .peekable();
        match values.peek() {
            None => self.fits(""),
            Some(_) => values.all(|value| self.fits(value)),
        }
    }

    fn fits(&self, value: &str) -> bool {
        match self.begins {
            false => value == self.value,
            // Of a list of types each must fit.
            true if self.field == "content-type" => {
                value.split(',').all(|kind| kind.trim_start().starts_with(&self.value))
            }
            true => value.starts_with(&self.value),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW_MS: u64 = 1_369_353_600_000; // 2013-05-24

    fn parse(json: &str) -> S3Result<PostPolicy> {
        PostPolicy::parse(&STANDARD.encode(json))
    }

    fn with(conditions: &str) -> PostPolicy {
        let text =
            format!(r#"{{"expiration":"2013-05-24T00:00:01.5Z","conditions":{conditions}}}"#);
        parse(&text).expect(conditions)
    }

    fn check(conditions: &str, fields: &[(&str, &str)]) -> bool {
        let fields: Vec<(String, String)> =
            fields.iter().map(|(n, v)| ((*n).into(), (*v).into())).collect();
        with(conditions).check(&fields, NOW_MS).is_ok()
    }

    #[test]
    fn conditions_hold_or_not() {
        for (conditions, fields, fits) in [
            ("[]", &[][..], true),
            ("[]", &[("bucket", "b"), ("policy", "x"), ("x-ignore-me", "1")], true),
            ("[]", &[("x-amz-checksum-sha256", "1")], true),
            ("[]", &[("acl", "private")], false),
            ("[]", &[("x-amz-credential", "c")], false),
            (r#"[{"ACL":"private"}]"#, &[("acl", "private")], true),
            (r#"[{"acl":"private"}]"#, &[("acl", "public-read")], false),
            (r#"[{"acl":"private"}]"#, &[("acl", "private"), ("acl", "public-read")], false),
            (r#"[{"acl":"private"}]"#, &[], false),
            (r#"[["eq","$acl","private"]]"#, &[("acl", "private")], true),
            (r#"[["starts-with","$key","a/"]]"#, &[("key", "a/b")], true),
            (r#"[["StartS-with","$KEY","a/"]]"#, &[("key", "b")], false),
            (r#"[["starts-with","$x-amz-meta-a",""]]"#, &[], true),
            (r#"[["starts-with","$x-amz-meta-a","b"]]"#, &[], false),
            (
                r#"[["starts-with","$content-type","image/"]]"#,
                &[("content-type", "image/a, image/b")],
                true,
            ),
            (
                r#"[["starts-with","$content-type","image/"]]"#,
                &[("content-type", "image/a,text/b")],
                false,
            ),
            (r#"[{"bucket":"b"}]"#, &[("bucket", "c")], false),
        ] {
            assert_eq!(check(conditions, fields), fits, "{conditions} {fields:?}");
        }
        assert!(with("[]").check(&[], NOW_MS + 999).is_ok());
        assert!(with("[]").check(&[], NOW_MS + 2000).is_err());
    }

    #[test]
    fn sizes_are_read_and_cut() {
        assert_eq!(with("[]").sizes(), 0..=u64::MAX);
        assert_eq!(with(r#"[["content-length-range",1,"10"]]"#).sizes(), 1..=10);
        let twice = r#"[["content-length-range",1,10],["Content-Length-Range",5,20]]"#;
        assert_eq!(with(twice).sizes(), 5..=10);
    }

    #[test]
    fn what_is_no_policy_is_refused() {
        let date = r#""expiration":"2013-05-25T00:00:00Z""#;
        for bad in [
            "".to_owned(),
            "[]".into(),
            "{}".into(),
            format!("{{{date}}}"),
            r#"{"conditions":[]}"#.into(),
            format!(r#"{{{date},"CONDITIONS":[]}}"#),
            format!(r#"{{{date},"conditions":[],"more":1}}"#),
            r#"{"expiration":"2013-05-25 00:00:00+00:00","conditions":[]}"#.into(),
            r#"{"expiration":1,"conditions":[]}"#.into(),
        ] {
            assert_eq!(parse(&bad).unwrap_err().code, Code::InvalidPolicyDocument, "{bad}");
        }
        for bad in [
            "{}",
            "1",
            r#"{"acl":1}"#,
            r#"["eq","$acl"]"#,
            r#"["eq","acl","x"]"#,
            r#"["like","$acl","x"]"#,
            r#"["content-length-range",0]"#,
            r#"["content-length-range",-1,5]"#,
            r#"["content-length-range",0,"x"]"#,
        ] {
            let text = format!(r#"{{{date},"conditions":[{bad}]}}"#);
            assert_eq!(parse(&text).unwrap_err().code, Code::InvalidPolicyDocument, "{bad}");
        }
        assert!(PostPolicy::parse("%%%").is_err());
    }
}
