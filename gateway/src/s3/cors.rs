//! Requests from pages of other origins: the rules of a bucket, and what answers say about them.
//!
//! A browser asks first (`OPTIONS`) whether it may; and whatever it is answered later, it shows the page
//! only what the headers of the answer allow. Nothing is refused to anybody because of his origin.

use super::error::{Code, S3Result};
use super::response;
use super::xml::Element;
use http::HeaderMap;

/// Most rules of a bucket.
pub const RULES_MAX: usize = 100;

/// Most bytes of the document.
pub const CORS_BYTES_MAX: usize = 64 << 10;

const METHODS: [&str; 5] = ["GET", "PUT", "POST", "DELETE", "HEAD"];

/// The rules of a bucket. The first that matches counts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cors {
    rules: Vec<Rule>,
}

/// One rule.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rule {
    origins: Vec<String>,
    methods: Vec<String>,
    headers: Vec<String>,
    exposed: Vec<String>,
    max_age_secs: Option<u32>,
}

impl Cors {
    /// Reads a `CORSConfiguration`.
    pub fn parse(document: &[u8]) -> S3Result<Cors> {
        let root = Element::parse(document, "CORSConfiguration")?;
        let rules: Vec<Rule> = root.all("CORSRule").map(Rule::parse).collect::<S3Result<_>>()?;
        match (1..=RULES_MAX).contains(&rules.len()) {
            true => Ok(Cors { rules }),
            false => Err(Code::MalformedXML.into()),
        }
    }

    /// The rule for a request of this origin and method, with these headers (as a preflight names them).
    pub fn rule(&self, origin: &str, method: &str, headers: &[&str]) -> Option<&Rule> {
        self.rules.iter().find(|rule| {
            rule.origins.iter().any(|pattern| matches(pattern, origin))
                && rule.methods.iter().any(|allowed| allowed == method)
                && headers.iter().all(|header| rule.allows_header(header))
        })
    }
}

impl Rule {
    fn parse(element: &Element) -> S3Result<Rule> {
        let texts = |name: &str| -> Vec<String> {
            element.all(name).map(|child| child.text.trim().to_owned()).collect()
        };
        let rule = Rule {
            origins: texts("AllowedOrigin"),
            methods: texts("AllowedMethod"),
            headers: texts("AllowedHeader"),
            exposed: texts("ExposeHeader"),
            max_age_secs: match element.child_text("MaxAgeSeconds")? {
                None => None,
                Some(text) => Some(text.trim().parse().map_err(|_| Code::MalformedXML)?),
            },
        };
        if rule.origins.is_empty() || rule.methods.is_empty() {
            return Err(Code::MalformedXML.into());
        }
        if let Some(method) = rule.methods.iter().find(|m| !METHODS.contains(&m.as_str())) {
            return Err(Code::InvalidRequest.with(format!(
                "Found unsupported HTTP method in CORS config. Unsupported method is {method}"
            )));
        }
        let wild = |text: &&String| text.matches('*').count();
        if let Some(text) = rule.origins.iter().chain(&rule.headers).find(|text| wild(text) > 1) {
            return Err(Code::InvalidRequest
                .with(format!("\"{text}\" can not have more than one wildcard.")));
        }
        if let Some(text) = rule.exposed.iter().find(|text| wild(text) > 0) {
            return Err(Code::InvalidRequest.with(format!(
                "ExposeHeader \"{text}\" contains wildcard. We currently do not support wildcard for ExposeHeader."
            )));
        }
        Ok(rule)
    }

    fn allows_header(&self, header: &str) -> bool {
        let header = header.to_ascii_lowercase();
        self.headers.iter().any(|pattern| matches(&pattern.to_ascii_lowercase(), &header))
    }

    /// Puts what the rule allows to this origin onto an answer.
    pub fn apply(&self, origin: &str, asked_headers: Option<&str>, headers: &mut HeaderMap) {
        let everybody = self.origins.iter().any(|pattern| pattern == "*");
        if !everybody {
            response::set(headers, "access-control-allow-credentials", "true");
        }
        let origin = if everybody { "*" } else { origin };
        response::set(headers, "access-control-allow-origin", origin);
        response::set(headers, "access-control-allow-methods", &self.methods.join(", "));
        if let Some(asked) = asked_headers {
            response::set(headers, "access-control-allow-headers", asked);
        }
        if !self.exposed.is_empty() {
            response::set(headers, "access-control-expose-headers", &self.exposed.join(", "));
        }
        if let Some(secs) = self.max_age_secs {
            response::set(headers, "access-control-max-age", &secs.to_string());
        }
        // Caches must not give one origin's answer to another.
        let vary = "Origin, Access-Control-Request-Headers, Access-Control-Request-Method";
        response::set(headers, "vary", vary);
    }
}

/// Whether a text with at most one `*` matches.
fn matches(pattern: &str, text: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == text,
        Some((head, tail)) => {
            text.len() >= head.len() + tail.len() && text.starts_with(head) && text.ends_with(tail)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cors(rules: &str) -> S3Result<Cors> {
        Cors::parse(format!("<CORSConfiguration>{rules}</CORSConfiguration>").as_bytes())
    }

    fn rule(inner: &str) -> String {
        format!("<CORSRule>{inner}</CORSRule>")
    }

    #[test]
    fn the_first_matching_rule_counts() {
        let rules = rule(
            "<AllowedOrigin>*suffix</AllowedOrigin><AllowedMethod>GET</AllowedMethod>",
        ) + &rule(
            "<AllowedOrigin>start*end</AllowedOrigin><AllowedMethod>PUT</AllowedMethod><AllowedHeader>x-amz-*</AllowedHeader><ExposeHeader>etag</ExposeHeader><MaxAgeSeconds>30</MaxAgeSeconds>",
        ) + &rule(
            "<AllowedOrigin>*</AllowedOrigin><AllowedMethod>HEAD</AllowedMethod>",
        );
        let cors = cors(&rules).unwrap();
        let found = |origin, method, headers: &[&str]| cors.rule(origin, method, headers).is_some();
        assert!(found("foo.suffix", "GET", &[]));
        for (origin, method, headers) in [
            ("foo.suffix.get", "GET", &[][..]),
            ("foo.suffix", "PUT", &[]),
            ("foo.suffix", "GET", &["x-amz-acl"]),
            ("startend", "DELETE", &[]),
            ("stared", "PUT", &[]),
            ("start.end", "PUT", &["x-amz-acl", "range"]),
        ] {
            assert!(!found(origin, method, headers), "{origin} {method} {headers:?}");
        }
        assert!(found("start.end", "PUT", &["X-Amz-Acl", "x-amz-meta-a"]));
        let mut headers = HeaderMap::new();
        cors.rule("start.end", "PUT", &[]).unwrap().apply(
            "start.end",
            Some("x-amz-a"),
            &mut headers,
        );
        for (name, value) in [
            ("access-control-allow-origin", "start.end"),
            ("access-control-allow-methods", "PUT"),
            ("access-control-allow-headers", "x-amz-a"),
            ("access-control-expose-headers", "etag"),
            ("access-control-max-age", "30"),
        ] {
            assert_eq!(headers[name], value);
        }
        let mut headers = HeaderMap::new();
        cors.rule("any", "HEAD", &[]).unwrap().apply("any", None, &mut headers);
        assert_eq!(headers["access-control-allow-origin"], "*");
        assert!(!headers.contains_key("access-control-allow-credentials"));
    }

    #[test]
    fn rules_are_checked() {
        let good = "<AllowedOrigin>a</AllowedOrigin><AllowedMethod>GET</AllowedMethod>";
        assert!(cors(&rule(good)).is_ok());
        assert!(cors(&rule(good).repeat(RULES_MAX)).is_ok());
        assert!(cors(&rule(good).repeat(RULES_MAX + 1)).is_err());
        assert!(cors("").is_err());
        for (bad, code) in [
            ("<AllowedOrigin>a</AllowedOrigin>", Code::MalformedXML),
            ("<AllowedMethod>GET</AllowedMethod>", Code::MalformedXML),
            (&good.replace("GET", "PATCH"), Code::InvalidRequest),
            (&good.replace(">a<", ">*a*<"), Code::InvalidRequest),
            (&format!("{good}<AllowedHeader>*-*</AllowedHeader>"), Code::InvalidRequest),
            (&format!("{good}<ExposeHeader>x-*</ExposeHeader>"), Code::InvalidRequest),
            (&format!("{good}<MaxAgeSeconds>-1</MaxAgeSeconds>"), Code::MalformedXML),
        ] {
            assert_eq!(cors(&rule(bad)).unwrap_err().code, code, "{bad}");
        }
    }
}
