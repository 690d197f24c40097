//! The request target: percent-decoding that keeps every byte, the query, and S3's encoding.
//!
//! A key is what the path decodes to, after the bucket's slash: `//`, `.`, `..`, a trailing slash and
//! control bytes are all part of it. Nothing is normalised.

use super::error::{Code, S3Result};

/// Decodes percent escapes. A `%` that begins no escape stands for itself, as in S3.
pub fn percent_decode(text: &[u8]) -> Vec<u8> {
    percent_encoding::percent_decode(text).collect()
}

const HEX: &[u8; 16] = b"0123456789ABCDEF";

/// Encodes all but the unreserved characters (and `/` if `keep_slash`), as signatures want it.
pub fn encode(bytes: &[u8], keep_slash: bool, out: &mut String) {
    for &byte in bytes {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                out.push(byte.into());
            }
            b'/' if keep_slash => out.push('/'),
            _ => {
                out.push('%');
                out.push(HEX[usize::from(byte >> 4)].into());
                out.push(HEX[usize::from(byte & 15)].into());
            }
        }
    }
}

/// [`encode`] into a string of its own.
pub fn encoded(bytes: &[u8], keep_slash: bool) -> String {
    let mut out = String::with_capacity(bytes.len() + bytes.len() / 8);
    encode(bytes, keep_slash, &mut out);
    out
}

/// A value as `encoding-type=url` wants it: like [`encoded`] with slashes kept.
pub fn listing_encoded(text: &str) -> String {
    encoded(text.as_bytes(), true)
}

/// The decoded query, in the order of the request.
#[derive(Clone, Debug, Default)]
pub struct Query {
    pairs: Vec<(String, String)>,
}

/// Most parameters of a query: more is an attack.
const PARAMETERS_MAX: usize = 128;

impl Query {
    /// Reads a raw query. `+` is a space, as in forms.
    pub fn parse(raw: &str) -> S3Result<Query> {
        let mut pairs = Vec::new();
        for pair in raw.split('&').filter(|pair| !pair.is_empty()) {
            if pairs.len() >= PARAMETERS_MAX {
                return Err(Code::InvalidURI.into());
            }
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            pairs.push((form_decode(name)?, form_decode(value)?));
        }
        Ok(Query { pairs })
    }

    /// The first value of a parameter.
    pub fn value(&self, name: &str) -> Option<&str> {
        self.pairs.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str())
    }

    /// Whether a parameter is there, with or without a value.
    pub fn has(&self, name: &str) -> bool {
        self.value(name).is_some()
    }

    /// All parameters.
    pub fn pairs(&self) -> impl Iterator<Item = (&str, &str)> {
        self.pairs.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// The canonical query of a signature: encoded, sorted, without `except`.
    pub fn canonical(&self, except: &str) -> String {
        let mut encoded_pairs: Vec<(String, String)> = self
            .pairs()
            .filter(|(name, _)| *name != except)
            .map(|(name, value)| {
                (encoded(name.as_bytes(), false), encoded(value.as_bytes(), false))
            })
            .collect();
        encoded_pairs.sort();
        let joined: Vec<String> =
            encoded_pairs.into_iter().map(|(name, value)| format!("{name}={value}")).collect();
        joined.join("&")
    }
}

fn form_decode(text: &str) -> S3Result<String> {
    let spaced: Vec<u8> = text.bytes().map(|byte| if byte == b'+' { b' ' } else { byte }).collect();
    String::from_utf8(percent_decode(&spaced)).map_err(|_| Code::InvalidURI.into())
}

/// Bucket and key of a request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Target {
    /// The bucket's name; `None` for the service itself.
    pub bucket: Option<String>,
    /// The key; `None` for the bucket itself.
    pub key: Option<String>,
    /// Whether the host named the bucket.
    pub by_host: bool,
}

impl Target {
    /// Reads host and raw path. The host names the bucket if it is `bucket.domain` for one of the
    /// configured domains; otherwise the first segment of the path does.
    pub fn parse(host: &str, raw_path: &str, domains: &[String]) -> S3Result<Target> {
        let path =
            String::from_utf8(percent_decode(raw_path.as_bytes())).map_err(|_| Code::InvalidURI)?;
        let path = path.strip_prefix('/').unwrap_or(&path);
        if let Some(bucket) = virtual_bucket(host, domains) {
            let key = (!path.is_empty()).then(|| path.to_owned());
            return Ok(Target { bucket: Some(bucket), key, by_host: true });
        }
        if path.is_empty() {
            return Ok(Target::default());
        }
        let (bucket, key) = path.split_once('/').unwrap_or((path, ""));
        let key = (!key.is_empty()).then(|| key.to_owned());
        Ok(Target { bucket: Some(bucket.to_owned()), key, by_host: false })
    }
}

/// The bucket that a host names below one of these domains.
pub fn virtual_bucket(host: &str, domains: &[String]) -> Option<String> {
    // An IPv6 literal has no bucket; its colons are not those of a port.
    if host.starts_with('[') {
        return None;
    }
    let name = host.rsplit_once(':').map_or(host, |(name, _)| name).to_ascii_lowercase();
    domains.iter().find_map(|domain| {
        let bucket = name.strip_suffix(&domain.to_ascii_lowercase())?.strip_suffix('.')?;
        (!bucket.is_empty()).then(|| bucket.to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(host: &str, path: &str) -> (Option<String>, Option<String>) {
        let target = Target::parse(host, path, &["s3.example.com".into()]).unwrap();
        (target.bucket, target.key)
    }

    fn pair(bucket: &str, key: Option<&str>) -> (Option<String>, Option<String>) {
        (Some(bucket.into()), key.map(Into::into))
    }

    #[test]
    fn keys_keep_every_byte() {
        assert_eq!(target("h", "/"), (None, None));
        assert_eq!(target("h", "/b"), pair("b", None));
        assert_eq!(target("h", "/b/"), pair("b", None));
        assert_eq!(target("h", "/b//"), pair("b", Some("/")));
        assert_eq!(target("h", "/b//a/../%2e/./"), pair("b", Some("/a/../././")));
        assert_eq!(target("h", "/b/a%2Fb+c%20%01%C3%A9%00%"), pair("b", Some("a/b+c \u{1}é\0%")));
        assert!(Target::parse("h", "/b/%ff", &[]).is_err());
    }

    #[test]
    fn hosts_name_buckets_of_configured_domains() {
        assert_eq!(target("b.s3.example.com:8888", "/k"), pair("b", Some("k")));
        assert_eq!(target("My.Bucket.S3.Example.Com", "/"), pair("my.bucket", None));
        assert_eq!(target("s3.example.com", "/b/k"), pair("b", Some("k")));
        assert_eq!(target("xs3.example.com", "/b/k"), pair("b", Some("k")));
        assert_eq!(target("[::1]:8888", "/b/k"), pair("b", Some("k")));
    }

    #[test]
    fn queries_are_decoded_and_made_canonical() {
        let query = Query::parse("prefix=a+b%2Fc&acl&X-Sig=1&list-type=2&b=%C3%A9&b=").unwrap();
        assert_eq!(query.value("prefix"), Some("a b/c"));
        assert!(query.has("acl") && !query.has("policy"));
        let canonical = query.canonical("X-Sig");
        assert_eq!(canonical, "acl=&b=&b=%C3%A9&list-type=2&prefix=a%20b%2Fc");
        assert!(Query::parse("a=%ff").is_err());
        assert!(Query::parse(&"a&".repeat(200)).is_err());
    }

    #[test]
    fn encoding_is_undone_by_decoding() {
        let all: Vec<u8> = (0..=255).collect();
        assert_eq!(percent_decode(encoded(&all, true).as_bytes()), all);
        assert_eq!(encoded(b"a/b c~", false), "a%2Fb%20c~");
    }
}
