//! What a path names. It is decoded first and taken apart then, so `%2F` is a slash, as in Swift.

use super::error::{SwiftError, SwiftResult};
use crate::s3::uri::percent_decode;
use http::StatusCode;

/// What a path names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Path {
    /// What the server can do.
    Info,
    /// Where tokens are given.
    Auth,
    /// An account or something in it.
    Named(Named),
}

/// An account, a container, an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Named {
    /// The user's id.
    pub account: String,
    /// The container's name.
    pub container: Option<String>,
    /// The object's name: all behind the container's slash.
    pub object: Option<String>,
}

/// The path that a host and a path stand for: below one of the domains, `AUTH_ACCOUNT` or
/// `CONTAINER.AUTH_ACCOUNT` (or `AUTH-ACCOUNT`: some clients send no underscores in hosts) name what the path then begins
/// in. No name that S3 allows for a bucket has an underscore; one can be `auth-logs`, see [`super::bucket_instead`].
pub(super) fn remapped(host: &str, raw: &str, domains: &[String]) -> Option<String> {
    let name = host.rsplit_once(':').map_or(host, |(name, _)| name);
    let inside = domains.iter().find_map(|domain| {
        let split = name.len().checked_sub(domain.len())?;
        let (before, end) = (name.get(..split)?, name.get(split..)?);
        end.eq_ignore_ascii_case(domain).then(|| before.strip_suffix('.'))?
    })?;
    let (container, account) = match inside.rsplit_once('.') {
        Some((container, account)) => (Some(container), account),
        None => (None, inside),
    };
    let prefix = account.get(..5).filter(|prefix| prefix.to_ascii_lowercase().starts_with("auth"));
    let id = account.strip_prefix(prefix.filter(|prefix| prefix.ends_with(['_', '-']))?)?;
    let container = container.map(|container| format!("/{container}")).unwrap_or_default();
    (!id.is_empty()).then(|| format!("/v1/AUTH_{id}{container}{raw}"))
}

/// Whether a path, as it came, is one of Swift.
pub(super) fn is_swift(raw: &str) -> bool {
    let in_account =
        |version: &str| raw.strip_prefix(version).is_some_and(|rest| rest.starts_with("AUTH_"));
    raw == "/info" || is_auth(raw) || in_account("/v1/") || in_account("/v1.0/")
}

/// Whether a path, as it came, begins in a version of Swift. It may be one of S3 all the same.
pub(super) fn is_of_version(raw: &str) -> bool {
    let first = raw.split('/').nth(1).unwrap_or_default();
    matches!(first, "v1" | "v1.0")
}

fn is_auth(raw: &str) -> bool {
    matches!(raw.strip_suffix('/').unwrap_or(raw), "/auth/v1.0" | "/auth/1.0" | "/auth/v1")
}

impl Path {
    /// Reads a path for which [`is_swift`] or [`is_of_version`] holds.
    pub(super) fn parse(raw: &str) -> SwiftResult<Path> {
        if raw == "/info" {
            return Ok(Path::Info);
        }
        if is_auth(raw) {
            return Ok(Path::Auth);
        }
        let bad = |why| SwiftError::new(StatusCode::PRECONDITION_FAILED, why);
        let path = String::from_utf8(percent_decode(raw.as_bytes()))
            .map_err(|_| bad("Invalid UTF8 or contains NULL"))?;
        if path.contains('\0') {
            return Err(bad("Invalid UTF8 or contains NULL"));
        }
        if path.splitn(3, '/').nth(2).is_none_or(str::is_empty) {
            return Err(bad("Bad URL"));
        }
        let mut segments = path.splitn(5, '/').skip(2);
        let account = segments.next().and_then(|account| account.strip_prefix("AUTH_"));
        let account = account.filter(|account| !account.is_empty());
        let account = account.ok_or_else(SwiftError::not_found)?.to_owned();
        let container = segments.next().unwrap_or_default();
        let object = segments.next().unwrap_or_default();
        if container.is_empty() && !object.is_empty() {
            return Err(bad("The path names an object of no container."));
        }
        let named = |name: &str| (!name.is_empty()).then(|| name.to_owned());
        let (container, object) = (named(container), named(object));
        Ok(Path::Named(Named { account, container, object }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_name_accounts_and_containers() {
        let domains = ["s3.x".to_owned()];
        let of = |host: &str, raw: &str| remapped(host, raw, &domains);
        assert_eq!(of("AUTH_u.s3.x:80", "/c/o").as_deref(), Some("/v1/AUTH_u/c/o"));
        assert_eq!(of("c.auth-u.S3.X", "/o").as_deref(), Some("/v1/AUTH_u/c/o"));
        for other in ["s3.x", "b.s3.x", "AUTH_.s3.x", "AUTH_u.other", "authu.s3.x", "é.s3.x"] {
            assert_eq!(of(other, "/"), None, "{other}");
        }
    }

    #[test]
    fn paths_are_taken_apart() {
        let named = |raw: &str| match Path::parse(raw) {
            Ok(Path::Named(Named { account, container, object })) => {
                let text = |name: Option<String>| name.unwrap_or_else(|| "-".into());
                format!("{account} {} {}", text(container), text(object))
            }
            Ok(other) => format!("{other:?}"),
            Err(error) => error.status.as_str().to_owned(),
        };
        for (raw, expected) in [
            ("/info", "Info"),
            ("/auth/v1.0/", "Auth"),
            ("/v1/AUTH_u", "u - -"),
            ("/v1/AUTH_u/", "u - -"),
            ("/v1/AUTH_u/c", "u c -"),
            ("/v1/AUTH_u/c/", "u c -"),
            ("/v1.0/AUTH_u/c//o/", "u c /o/"),
            ("/v1/AUTH_u/a%20b/%C3%A9%2Fx", "u a b é/x"),
            ("/v1", "412"),
            ("/v1.0/", "412"),
            ("/v1/AUTH_", "404"),
            ("/v1/other//o", "404"),
            ("/v1//c/o", "404"),
            ("/v1/AUTH_u//o", "412"),
            ("/v1/AUTH_u/c/%ff", "412"),
            ("/v1/AUTH_u/c/a%00b", "412"),
        ] {
            assert_eq!(named(raw), expected, "{raw}");
        }
    }
}
