//! Swift's access control: the ACLs of a container, the roles that an account gives to others, and what a
//! signed URL lets in.
//!
//! A container's ACL is a list of words. `ACCOUNT:USER` and `ACCOUNT` name users, either part may be `*`;
//! `.r:HOST` lets in whoever comes from a page of that host (`.r:*` everybody, `.r:-HOST` keeps out, the
//! last that matches counts), and `.rlistings` lets those see listings as well.

use super::error::{SwiftError, SwiftResult};
use crate::catalogue::Bucket;
use crate::s3::error::{Code, S3Result};
use crate::s3::{Call, Caller};
use serde_json::Value;
use std::collections::BTreeMap;
use std::rc::Rc;
use store_base::bucket::{BucketId, SwiftMetadata};
use store_base::codec::Decode;

/// The header of who may read.
pub const READ: &str = "x-container-read";
/// The header of who may write.
pub const WRITE: &str = "x-container-write";
/// The header of an account's roles.
pub const ACCOUNT: &str = "x-account-access-control";

/// Longest header that clients may count on, and most bytes of an account's roles: all headers together may have
/// eight times as much.
pub(super) const HEADER_BYTES_MAX: usize = 8 << 10;

/// Most bytes of a container's ACL.
const ACL_BYTES_MAX: usize = 4096;

/// What a request may do in an account that is not its sender's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// Nothing but what containers grant.
    #[default]
    None,
    /// Read everything.
    ReadOnly,
    /// Write containers and objects, too.
    ReadWrite,
    /// Everything that the owner may do.
    Admin,
}

impl Role {
    /// By the names that the header has, the greatest first.
    const NAMES: [(Role, &'static str); 3] =
        [(Role::Admin, "admin"), (Role::ReadWrite, "read-write"), (Role::ReadOnly, "read-only")];
}

/// What lets one request in besides the rules of S3 and the ACLs of containers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Grant {
    /// Nothing.
    #[default]
    None,
    /// The role that its sender has in an account.
    Role {
        /// Which.
        role: Role,
        /// In which account.
        account: Rc<str>,
    },
    /// A signature.
    Signed {
        /// What it gives leave for.
        act: Signed,
        /// Where.
        scope: Scope,
    },
}

/// What a signature gives leave for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signed {
    /// Reading.
    Read,
    /// Writing.
    Write,
    /// Deleting.
    Delete,
}

/// What the key opens that a signature was made with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scope {
    /// This account.
    pub account: Rc<str>,
    /// Of it this container only.
    pub bucket: Option<BucketId>,
}

/// What the actions of S3 are to Swift.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Act {
    Read,
    List,
    Write,
    /// Of a container itself.
    Change,
}

fn act(action: &str) -> Option<Act> {
    Some(match action {
        "s3:GetObject" => Act::Read,
        "s3:ListBucket" => Act::List,
        "s3:PutObject" | "s3:DeleteObject" => Act::Write,
        "s3:GetObjectVersion"
        | "s3:ListBucketVersions"
        | "s3:DeleteBucket"
        | "s3:DeleteObjectVersion"
        | "s3:PutBucketTagging"
        | "s3:PutBucketVersioning" => Act::Change,
        _ => return None,
    })
}

impl Grant {
    /// Whether it gives leave for an action of S3 on a bucket, or on objects in it.
    pub fn allows(&self, action: &str, bucket: &Bucket) -> bool {
        let Some(wanted) = act(action) else { return false };
        match self {
            Grant::None => false,
            Grant::Role { role, account } => {
                let least = match wanted {
                    Act::Read | Act::List => Role::ReadOnly,
                    Act::Write | Act::Change => Role::ReadWrite,
                };
                *role >= least && **account == *bucket.owner
            }
            Grant::Signed { act, scope } => {
                let here = *scope.account == *bucket.owner
                    && scope.bucket.is_none_or(|id| id == bucket.id);
                here && match act {
                    // What a large object is made of may have to be listed.
                    Signed::Read => action == "s3:GetObject" || action == "s3:ListBucket",
                    Signed::Write => action == "s3:PutObject",
                    Signed::Delete => action == "s3:DeleteObject",
                }
            }
        }
    }

    /// Whether it lets somebody see what is in an account.
    pub fn sees(&self, account: &str) -> bool {
        match self {
            Grant::None => false,
            Grant::Role { role, account: of } => *role >= Role::ReadOnly && **of == *account,
            // A key of the account opens all of it; what is not there is no secret then.
            Grant::Signed { scope, .. } => scope.bucket.is_none() && *scope.account == *account,
        }
    }
}

/// One word of an ACL.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Word {
    /// Users by account and name; `*` is any.
    User { account: String, name: String },
    /// Pages by host; `allow` is false for `.r:-HOST`.
    Referrer { host: String, allow: bool },
    /// Those pages may list.
    Listings,
}

impl Word {
    /// Whether it lets in people of whom the owner knows nothing.
    fn is_public(&self) -> bool {
        match self {
            Word::User { account, .. } => account == "*",
            Word::Referrer { allow, .. } => *allow,
            Word::Listings => false,
        }
    }
}

/// Whether an ACL as it is kept lets in people of whom the owner knows nothing: what a public access block is about.
pub(super) fn is_public(kept: &[u8]) -> bool {
    Acl::parse(&String::from_utf8_lossy(kept)).words.iter().any(Word::is_public)
}

/// Who may read, or who may write.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Acl {
    words: Vec<Word>,
}

impl Acl {
    /// Reads what [`clean`] gave.
    fn parse(text: &str) -> Acl {
        let words = text.split(',').map(str::trim);
        // A lone star names nobody, neither an account nor a user in it.
        let words = words.filter(|word| !word.is_empty() && *word != "*");
        let word = |word: &str| match word.strip_prefix(".r:") {
            Some(host) => match host.strip_prefix('-') {
                Some(host) => Word::Referrer { host: host.to_owned(), allow: false },
                None => Word::Referrer { host: host.to_owned(), allow: true },
            },
            None if word == ".rlistings" => Word::Listings,
            None => {
                let (account, name) = word.split_once(':').unwrap_or((word, "*"));
                Word::User { account: account.to_owned(), name: name.to_owned() }
            }
        };
        Acl { words: words.map(word).collect() }
    }

    fn has_user(&self, account: &str, name: &str, named: bool) -> bool {
        self.words.iter().filter(|word| !(named && word.is_public())).any(|word| match word {
            Word::User { account: a, name: n } => {
                (a == "*" || a == account) && (n == "*" || n == name)
            }
            _ => false,
        })
    }

    fn has_referrer(&self, referrer: Option<&str>) -> bool {
        let host = referrer.and_then(host_of).unwrap_or("unknown");
        let mut allowed = false;
        for word in &self.words {
            let Word::Referrer { host: pattern, allow } = word else { continue };
            let matches = pattern == "*"
                || pattern == host
                || (pattern.starts_with('.') && host.ends_with(pattern.as_str()));
            if matches {
                allowed = *allow;
            }
        }
        allowed
    }

    fn lists(&self) -> bool {
        self.words.contains(&Word::Listings)
    }
}

/// The host of an address.
fn host_of(address: &str) -> Option<&str> {
    let (_, rest) = address.split_once("://")?;
    let authority = rest.split(['/', '?', '#']).next()?;
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    Some(host.split_once(':').map_or(host, |(host, _)| host))
}

/// Checks an ACL as a header brings it, and gives it the form that is kept.
pub fn clean(header: &str, text: &str) -> SwiftResult<String> {
    let wrong = |why: String| SwiftError::bad_request(format!("{header}: {why}"));
    if text.len() > ACL_BYTES_MAX {
        return Err(wrong(format!("An ACL has at most {ACL_BYTES_MAX} bytes.")));
    }
    let mut words = Vec::new();
    for word in text.split(',').map(str::trim).filter(|word| !word.is_empty()) {
        let Some((first, second)) = word.split_once(':') else {
            words.push(word.to_owned());
            continue;
        };
        let (first, second) = (first.trim(), second.trim());
        if !first.starts_with('.') {
            words.push(format!("{first}:{second}"));
            continue;
        }
        if ![".r", ".ref", ".referer", ".referrer"].contains(&first) {
            return Err(wrong(format!("{first} is not known.")));
        }
        if header == WRITE {
            return Err(wrong("Pages of other hosts cannot be let to write.".to_owned()));
        }
        let (minus, host) = match second.strip_prefix('-') {
            Some(host) => ("-", host.trim()),
            None => ("", second),
        };
        // `*.example.com` is `.example.com`.
        let host = match host.strip_prefix('*') {
            Some(rest) if !rest.is_empty() => rest,
            _ => host,
        };
        if host.is_empty() || host == "." {
            return Err(wrong(format!("{word} names no host.")));
        }
        words.push(format!(".r:{minus}{host}"));
    }
    Ok(words.join(","))
}

/// The ACLs of a container.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ContainerAcl {
    read: Acl,
    write: Acl,
}

impl ContainerAcl {
    /// Of a bucket's record. What cannot be read closes the bucket: an error.
    pub fn of(bucket: &Bucket) -> S3Result<ContainerAcl> {
        let Some(document) = bucket.documents.get(super::metadata::DOCUMENT) else {
            return Ok(ContainerAcl::default());
        };
        let kept = SwiftMetadata::from_bytes(document.clone());
        let kept = kept.map_err(|error| Code::InternalError.with(error.to_string()))?;
        let acl = |name: &str| {
            let text = kept.settings.get(name).map(|text| String::from_utf8_lossy(text));
            text.map(|text| Acl::parse(&text)).unwrap_or_default()
        };
        Ok(ContainerAcl { read: acl(READ), write: acl(WRITE) })
    }

    /// Whether they give the sender of a request leave for an action of S3; `named` is whether only what names users
    /// or their accounts counts, and nothing that lets in anybody.
    pub fn allows(&self, call: &Call, action: &str, named: bool) -> bool {
        let Some(act) = act(action) else { return false };
        let acl = match act {
            Act::Read | Act::List => &self.read,
            Act::Write => &self.write,
            Act::Change => return false,
        };
        if acl.words.is_empty() {
            return false;
        }
        if let Caller::User(user) = &call.caller {
            let (account, name) = user.groups();
            if acl.has_user(account, name, named) {
                return true;
            }
        }
        if named {
            return false;
        }
        let referrer = call.head.headers.get("referer").and_then(|value| value.to_str().ok());
        act != Act::Write && (act != Act::List || acl.lists()) && acl.has_referrer(referrer)
    }
}

/// Checks the roles of an account as the header brings them, and gives them the form that is kept; `None` if
/// there are none.
pub fn clean_roles(text: &str) -> SwiftResult<Option<String>> {
    let wrong = |why: &str| SwiftError::bad_request(format!("X-Account-Access-Control: {why}"));
    if text.is_empty() {
        return Ok(None);
    }
    let parsed: Value = serde_json::from_str(text).map_err(|_| wrong("this is no JSON."))?;
    let Value::Object(roles) = parsed else { return Err(wrong("this is no object of JSON.")) };
    let mut kept: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (name, users) in roles {
        if !Role::NAMES.iter().any(|(_, known)| *known == name) {
            return Err(wrong(&format!("{name:?} is no role.")));
        }
        let Value::Array(users) = users else { return Err(wrong("a role has a list of users.")) };
        let users: Option<Vec<String>> =
            users.into_iter().map(|user| user.as_str().map(str::to_owned)).collect();
        let users = users.ok_or_else(|| wrong("users are strings."))?;
        if !users.is_empty() {
            kept.insert(name, users);
        }
    }
    let text = serde_json::to_string(&kept).map_err(|_| wrong("this is no JSON."))?;
    match kept.is_empty() {
        true => Ok(None),
        false if text.len() > HEADER_BYTES_MAX => Err(wrong("this is too long.")),
        false => Ok(Some(text)),
    }
}

/// The role that an account gives a user. A list that cannot be read gives none.
pub fn role_of(account: &SwiftMetadata, caller: &Caller) -> Role {
    let (Some(kept), Caller::User(user)) = (account.settings.get(ACCOUNT), caller) else {
        return Role::None;
    };
    let Ok(roles) = serde_json::from_slice::<BTreeMap<String, Vec<String>>>(kept) else {
        return Role::None;
    };
    let (account, name) = user.groups();
    let names = |word: &String| match word.split_once(':') {
        Some((a, n)) => a == account && (n == name || n == "*"),
        None => word == account,
    };
    let has = |role: &str| roles.get(role).is_some_and(|users| users.iter().any(names));
    Role::NAMES.iter().find(|(_, name)| has(name)).map_or(Role::None, |(role, _)| *role)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_cleaned_or_refused() {
        let read = |text: &str| clean(READ, text).ok();
        assert_eq!(read(" bob , sue:x,").as_deref(), Some("bob,sue:x"));
        assert_eq!(read(".ref:*.example.com, .r : - h").as_deref(), Some(".r:.example.com,.r:-h"));
        assert_eq!(read(".r:*,.rlistings").as_deref(), Some(".r:*,.rlistings"));
        for bad in [".unknown:x", ".r:", ".r:-", ".r:."] {
            assert_eq!(read(bad), None, "{bad}");
        }
        assert!(clean(WRITE, ".r:*").is_err() && clean(WRITE, "a:b").is_ok());
        assert!(clean(WRITE, &"x".repeat(ACL_BYTES_MAX + 1)).is_err());
    }

    #[test]
    fn users_and_pages_are_matched() {
        let acl = Acl::parse("a:x,b,*:z");
        for (account, name, there) in
            [("a", "x", true), ("a", "y", false), ("b", "any", true), ("c", "z", true)]
        {
            assert_eq!(acl.has_user(account, name, false), there, "{account}:{name}");
        }
        assert!(!Acl::parse("*").has_user("a", "x", false) && !is_public(b"*"));
        assert!(Acl::parse("*:*").has_user("a", "x", false));
        let acl = Acl::parse("a,*:z,*:*");
        assert!(acl.has_user("a", "x", true) && !acl.has_user("c", "z", true));
        for (text, public) in [("a:x,b", false), (".r:-h", false), (".r:h", true), ("*:z", true)] {
            assert_eq!(is_public(text.as_bytes()), public, "{text}");
        }
        let acl = Acl::parse(".r:*,.r:-bad.example.com,.r:.example.org");
        assert!(acl.has_referrer(None) && acl.has_referrer(Some("http://good.example.com/x")));
        assert!(!acl.has_referrer(Some("https://u:p@bad.example.com:80/x")));
        let acl = Acl::parse(".r:.example.org");
        assert!(acl.has_referrer(Some("http://a.example.org")) && !acl.has_referrer(None));
        assert!(!acl.lists() && Acl::parse(".rlistings").lists());
    }

    #[test]
    fn roles_are_read() {
        assert_eq!(clean_roles("{}").unwrap(), None);
        assert_eq!(clean_roles("").unwrap(), None);
        for bad in ["x", "[]", r#"{"owner":[]}"#, r#"{"admin":"u"}"#, r#"{"admin":[1]}"#] {
            assert!(clean_roles(bad).is_err(), "{bad}");
        }
        let kept = clean_roles(r#"{"read-only":["a:x"],"admin":["b"],"read-write":[]}"#).unwrap();
        let kept = kept.unwrap();
        let mut account = SwiftMetadata::default();
        account.settings.insert(ACCOUNT.into(), kept.into());
        let role = |account_name: &str, name: &str| {
            let member = crate::keyring::Member {
                account: account_name.into(),
                name: name.into(),
                admin: false,
            };
            let user = crate::keyring::User { member: Some(member), ..Default::default() };
            role_of(&account, &Caller::User(user.into()))
        };
        assert_eq!(role("a", "x"), Role::ReadOnly);
        assert_eq!(role("a", "y"), Role::None);
        assert_eq!(role("b", "y"), Role::Admin);
    }

    #[test]
    fn grants_end_at_their_account_and_container() {
        let bucket = |owner: &str, id: u8| Bucket {
            owner: owner.into(),
            id: BucketId([id; 8]),
            ..Bucket::default()
        };
        let role = |role| Grant::Role { role, account: "a".into() };
        assert!(role(Role::ReadOnly).allows("s3:GetObject", &bucket("a", 1)));
        assert!(!role(Role::ReadOnly).allows("s3:GetObject", &bucket("b", 1)));
        assert!(!role(Role::ReadOnly).allows("s3:PutObject", &bucket("a", 1)));
        assert!(!role(Role::Admin).allows("s3:PutBucketPolicy", &bucket("a", 1)));
        let signed = |act, id: Option<u8>| Grant::Signed {
            act,
            scope: Scope { account: "a".into(), bucket: id.map(|id| BucketId([id; 8])) },
        };
        assert!(signed(Signed::Read, None).allows("s3:GetObject", &bucket("a", 1)));
        assert!(!signed(Signed::Read, Some(2)).allows("s3:GetObject", &bucket("a", 1)));
        assert!(!signed(Signed::Read, None).allows("s3:GetObject", &bucket("b", 1)));
        assert!(!signed(Signed::Read, None).allows("s3:PutObject", &bucket("a", 1)));
        assert!(signed(Signed::Write, Some(1)).allows("s3:PutObject", &bucket("a", 1)));
        assert!(!signed(Signed::Write, None).allows("s3:DeleteObject", &bucket("a", 1)));
    }
}
