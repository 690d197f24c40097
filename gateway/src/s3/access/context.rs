//! The condition keys of a request: what policies may ask about its circumstances.

use super::super::encryption::kms;
use super::super::operations::copy_source;
use super::super::policy::Context;
use super::super::request::Head;
use super::super::router::subresource;
use super::super::uri::Query;
use super::super::{Caller, dates};
use super::decide::Existing;
use http::Method;
use std::collections::BTreeMap;
use store_base::bucket::Retention;

/// Headers that are keys of the same name behind `s3:`.
const HEADERS: [&str; 18] = [
    "if-match",
    "if-none-match",
    "x-amz-acl",
    "x-amz-content-sha256",
    "x-amz-grant-full-control",
    "x-amz-grant-read",
    "x-amz-grant-read-acp",
    "x-amz-grant-write",
    "x-amz-grant-write-acp",
    "x-amz-metadata-directive",
    "x-amz-object-ownership",
    "x-amz-server-side-encryption",
    "x-amz-server-side-encryption-customer-algorithm",
    "x-amz-storage-class",
    "x-amz-website-redirect-location",
    // These have other names as keys, see below.
    "x-amz-object-lock-legal-hold",
    "x-amz-object-lock-mode",
    "x-amz-object-lock-retain-until-date",
];

/// The keys of a request. `bucket_owner` is the account that the bucket belongs to, `region` what clients
/// are told.
pub fn of_request(head: &Head, caller: &Caller, bucket_owner: &str, region: &str) -> Context {
    let mut context = Context::default();
    of_caller(&mut context, head, caller);
    context.add("aws:CurrentTime", dates::iso(head.now_ms));
    context.add("aws:EpochTime", (head.now_ms / 1000).to_string());
    context.add("aws:SecureTransport", head.peer.secure.to_string());
    if let Some(version) = head.peer.tls {
        context.add("s3:TlsVersion", version);
    }
    context.add("aws:RequestedRegion", region);
    context.add("aws:ResourceAccount", bucket_owner);
    context.add("s3:ResourceAccount", bucket_owner);
    if let Some(address) = head.peer.address {
        context.add("aws:SourceIp", address.to_canonical().to_string());
    }
    for (key, header) in [("aws:Referer", "referer"), ("aws:UserAgent", "user-agent")] {
        add_header(&mut context, head, key, header);
    }
    for header in HEADERS {
        let key = match header.strip_prefix("x-amz-object-lock-") {
            Some(name) => format!("s3:object-lock-{name}"),
            None => format!("s3:{header}"),
        };
        add_header(&mut context, head, &key, header);
    }
    for name in kms::names_in(head) {
        context.add(&format!("s3:{}", kms::KEY), name);
    }
    for (key, parameter) in [
        ("s3:prefix", "prefix"),
        ("s3:delimiter", "delimiter"),
        ("s3:max-keys", "max-keys"),
        ("s3:VersionId", "versionId"),
    ] {
        if let Some(value) = head.query.value(parameter) {
            context.add(key, value);
        }
    }
    of_copy(&mut context, head);
    of_retention(&mut context, head);
    of_tags(&mut context, head);
    context
}

/// Adds what only the object tells.
pub fn add_object(context: &mut Context, object: &Existing) {
    for (name, value) in &object.tags {
        context.add(&format!("s3:ExistingObjectTag/{name}"), value);
    }
}

/// Of a header that comes twice the first is what the operation goes by.
fn add_header(context: &mut Context, head: &Head, key: &str, header: &str) {
    if let Some(value) = head.headers.get(header) {
        context.add(key, String::from_utf8_lossy(value.as_bytes()));
    }
}

fn of_caller(context: &mut Context, head: &Head, caller: &Caller) {
    let Caller::User(user) = caller else {
        context.add("aws:PrincipalType", "Anonymous");
        context.add("aws:userid", "anonymous");
        return;
    };
    context.add("aws:PrincipalAccount", &user.id);
    // As with Ceph's gateway: whether these are credentials for a while.
    context.add("sts:authentication", user.is_session().to_string());
    match user.identity.as_deref() {
        Some(identity) => identity.add_to(context, &user.id),
        None => add_root(context, &user.id),
    }
    let authorization = head.header("authorization").ok().flatten();
    // The headers of a form are its fields.
    let is_form = head.method == Method::POST && subresource(head).is_none();
    let old = authorization.is_some_and(|value| value.starts_with("AWS "))
        || (authorization.is_none() && head.query.has("Signature"))
        || (is_form && head.headers.contains_key("awsaccesskeyid"));
    let kind = match authorization {
        Some(_) => "REST-HEADER",
        None if is_form => "POST",
        None => "REST-QUERY-STRING",
    };
    context.add("s3:authType", kind);
    context.add("s3:signatureversion", if old { "AWS" } else { "AWS4-HMAC-SHA256" });
    let in_header = || head.header("x-amz-date").ok().flatten();
    let date = head.query.value("X-Amz-Date").or_else(in_header);
    if let Some(signed_secs) = date.and_then(dates::parse_compact) {
        let age_ms = head.now_ms.saturating_sub(signed_secs.saturating_mul(1000));
        context.add("s3:signatureAge", age_ms.to_string());
    }
}

/// The keys that say who the root user of an account is.
pub fn add_root(context: &mut Context, account: &str) {
    context.add("aws:username", account);
    context.add("aws:userid", account);
    context.add("aws:PrincipalArn", format!("arn:aws:iam:::user/{account}"));
    context.add("aws:PrincipalType", "User");
}

/// The source of a copy, with and without the slash before it: policies are written in both ways.
fn of_copy(context: &mut Context, head: &Head) {
    if let Ok(Some(value)) = head.header("x-amz-copy-source")
        && let Ok(source) = copy_source(value)
    {
        let (bucket, key) = (source.bucket, source.key);
        context.add("s3:x-amz-copy-source", format!("{bucket}/{key}"));
        context.add("s3:x-amz-copy-source", format!("/{bucket}/{key}"));
    }
}

fn of_retention(context: &mut Context, head: &Head) {
    let until = head.header("x-amz-object-lock-retain-until-date").ok().flatten();
    if let Some(until_secs) = until.and_then(dates::parse_http) {
        add_days(context, until_secs, head.now_ms);
    }
}

fn add_days(context: &mut Context, until_secs: u64, now_ms: u64) {
    const DAY_SECS: u64 = 24 * 3600;
    let days = until_secs.saturating_sub(now_ms / 1000).div_ceil(DAY_SECS);
    context.add("s3:object-lock-remaining-retention-days", days.to_string());
}

fn of_tags(context: &mut Context, head: &Head) {
    // A copy has the tags of its source, unless it is told to have others.
    let replaces = head.headers.get("x-amz-tagging-directive").is_some_and(|to| to == "REPLACE");
    if head.headers.contains_key("x-amz-copy-source") && !replaces {
        return;
    }
    let tags = head.header("x-amz-tagging").ok().flatten();
    let Some(tags) = tags.and_then(|tags| Query::parse(tags).ok()) else { return };
    add_tags(context, tags.pairs());
}

fn add_tags<'a>(context: &mut Context, tags: impl Iterator<Item = (&'a str, &'a str)>) {
    for (name, value) in tags {
        context.add(&format!("s3:RequestObjectTag/{name}"), value);
        context.add("s3:RequestObjectTagKeys", name);
    }
}

/// What a request asks for in its body where others have headers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Document {
    /// These tags.
    Tags(BTreeMap<String, String>),
    /// This retention, or none.
    Retention(Option<Retention>),
    /// A legal hold, or its end.
    Hold(bool),
}

impl Document {
    /// Adds its keys. Headers that would have said the same say nothing here.
    pub fn add_to(&self, context: &mut Context, now_ms: u64) {
        match self {
            Document::Tags(tags) => {
                context.forget("s3:RequestObjectTag");
                add_tags(context, tags.iter().map(|(name, value)| (&name[..], &value[..])));
            }
            Document::Retention(retention) => {
                context.forget("s3:object-lock-");
                let Some(Retention { mode, until_ms }) = retention else { return };
                context.add("s3:object-lock-mode", mode.name());
                context.add("s3:object-lock-retain-until-date", dates::iso(*until_ms));
                add_days(context, until_ms / 1000, now_ms);
            }
            Document::Hold(on) => {
                context.forget("s3:object-lock-");
                context.add("s3:object-lock-legal-hold", if *on { "ON" } else { "OFF" });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keyring::User;
    use crate::s3::auth::tests::head;
    use crate::s3::policy::{Policy, Principal, Question, Verdict};
    use crate::s3::request::Peer;
    use std::sync::Arc;

    /// Whether a policy that denies on this condition denies the request.
    fn denies(head: &Head, condition: &str) -> bool {
        let policy = format!(
            r#"{{"Version":"2012-10-17","Statement":{{"Effect":"Deny","Principal":"*","Action":"*","Resource":"*","Condition":{condition}}}}}"#
        );
        let policy = Policy::parse(policy.as_bytes(), "b").expect(condition);
        let user = User { id: "u".into(), ..User::default() };
        let mut context = of_request(head, &Caller::User(Arc::new(user)), "owner", "r1");
        let tags = [("kind".to_owned(), "secret".to_owned())].into();
        add_object(&mut context, &Existing { tags, ..Existing::default() });
        let question = Question {
            principal: Principal::User("u"),
            action: "s3:GetObject",
            resource: "b/k",
            context: &context,
        };
        policy.verdict(&question) == Verdict::Deny
    }

    #[test]
    fn every_key_can_deny() {
        let headers = [
            ("host", "h"),
            ("referer", "http://a.example/"),
            ("user-agent", "client/1"),
            ("authorization", "AWS4-HMAC-SHA256 x"),
            ("x-amz-date", "20130524T000000Z"),
            ("x-amz-acl", "public-read"),
            ("x-amz-grant-read", "id=v"),
            ("x-amz-copy-source", "/src/a%20b"),
            ("x-amz-metadata-directive", "REPLACE"),
            ("x-amz-server-side-encryption", "AES256"),
            ("x-amz-server-side-encryption-aws-kms-key-id", "arn:aws:kms:r1:1:alias/k"),
            ("x-amz-storage-class", "COLD"),
            ("x-amz-object-lock-mode", "GOVERNANCE"),
            ("x-amz-object-lock-legal-hold", "ON"),
            ("x-amz-object-lock-retain-until-date", "2013-05-26T00:00:00Z"),
            ("x-amz-tagging", "color=red&size=10"),
            ("x-amz-tagging-directive", "REPLACE"),
            ("if-none-match", "*"),
        ];
        let target = "/b?prefix=p%2F&delimiter=%2F&max-keys=7&versionId=v1";
        let mut head = head("GET", target, &headers);
        head.now_ms += 5000;
        head.peer =
            Peer { address: "::ffff:10.1.2.3".parse().ok(), secure: false, tls: Some("1.2") };
        for (operator, key, hit, miss) in [
            ("IpAddress", "aws:SourceIp", "10.1.0.0/16", "10.2.0.0/16"),
            ("Bool", "aws:SecureTransport", "false", "true"),
            ("NumericLessThan", "s3:TlsVersion", "1.3", "1.2"),
            ("StringLike", "aws:Referer", "http://a.example/*", "http://b.example/*"),
            ("StringEquals", "aws:UserAgent", "client/1", "client/2"),
            ("StringEquals", "aws:username", "u", "v"),
            ("StringEquals", "aws:userid", "u", "v"),
            ("ArnLike", "aws:PrincipalArn", "arn:aws:iam:::user/u", "arn:aws:iam:::user/v"),
            ("StringEquals", "aws:PrincipalType", "User", "Anonymous"),
            ("DateGreaterThan", "aws:CurrentTime", "2013-05-24T00:00:00Z", "2013-05-25T00:00:00Z"),
            ("NumericEquals", "aws:EpochTime", "1369353605", "1"),
            ("StringEquals", "aws:RequestedRegion", "r1", "r2"),
            ("StringEquals", "s3:ResourceAccount", "owner", "u"),
            ("StringEquals", "s3:prefix", "p/", "p"),
            ("StringEquals", "s3:delimiter", "/", "-"),
            ("NumericGreaterThan", "s3:max-keys", "6", "7"),
            ("StringEquals", "s3:VersionId", "v1", "v2"),
            ("StringEquals", "s3:x-amz-acl", "public-read", "private"),
            ("StringEquals", "s3:x-amz-grant-read", "id=v", "id=w"),
            ("StringEquals", "s3:x-amz-copy-source", "src/a b", "src/a"),
            ("StringLike", "s3:x-amz-copy-source", "/src/*", "/other/*"),
            ("StringEquals", "s3:x-amz-metadata-directive", "REPLACE", "COPY"),
            ("StringEquals", "s3:x-amz-server-side-encryption", "AES256", "aws:kms"),
            ("StringEquals", "s3:x-amz-server-side-encryption-aws-kms-key-id", "k", "l"),
            ("StringLike", "s3:x-amz-server-side-encryption-aws-kms-key-id", "arn:*", "alias/*"),
            ("StringEquals", "s3:x-amz-storage-class", "COLD", "STANDARD"),
            ("StringEquals", "s3:object-lock-mode", "GOVERNANCE", "COMPLIANCE"),
            ("StringEquals", "s3:object-lock-legal-hold", "ON", "OFF"),
            ("NumericLessThan", "s3:object-lock-remaining-retention-days", "3", "2"),
            ("DateEquals", "s3:object-lock-retain-until-date", "2013-05-26", "2013-05-27"),
            ("StringEquals", "s3:RequestObjectTag/color", "red", "blue"),
            ("ForAnyValue:StringEquals", "s3:RequestObjectTagKeys", "size", "shape"),
            ("StringEquals", "s3:ExistingObjectTag/kind", "secret", "open"),
            ("StringEquals", "s3:authType", "REST-HEADER", "POST"),
            ("StringEquals", "s3:signatureversion", "AWS4-HMAC-SHA256", "AWS"),
            ("NumericEquals", "s3:signatureAge", "5000", "0"),
            ("StringEquals", "s3:if-none-match", "*", "x"),
        ] {
            let condition = |value| format!(r#"{{"{operator}":{{"{key}":"{value}"}}}}"#);
            assert!(denies(&head, &condition(hit)), "{operator} {key} {hit}");
            assert!(!denies(&head, &condition(miss)), "{operator} {key} {miss}");
        }
    }

    #[test]
    fn conditions_see_what_the_operation_goes_by() {
        let when = |acl: &str| format!(r#"{{"StringEquals":{{"s3:x-amz-acl":"{acl}"}}}}"#);
        // A copy that keeps the tags of its source.
        let copy =
            head("PUT", "/b/k", &[("x-amz-copy-source", "/b/s"), ("x-amz-tagging", "color=red")]);
        assert!(!denies(&copy, r#"{"StringEquals":{"s3:RequestObjectTag/color":"red"}}"#));
        // An unsigned or a second word of it changes nothing.
        let in_query = head("PUT", "/b/k?x-amz-acl=public-read", &[]);
        assert!(!denies(&in_query, &when("public-read")));
        let mut twice = head("PUT", "/b/k", &[("x-amz-acl", "private")]);
        twice.headers.append("x-amz-acl", http::HeaderValue::from_static("public-read"));
        assert!(denies(&twice, &when("private")) && !denies(&twice, &when("public-read")));
    }

    #[test]
    fn nobody_has_no_name() {
        let context = of_request(&head("GET", "/b", &[]), &Caller::Anonymous, "owner", "r");
        let policy = r#"{"Version":"2012-10-17","Statement":{"Effect":"Deny","Principal":"*","Action":"*","Resource":"*","Condition":{"Null":{"aws:username":"true","s3:authType":"true"}}}}"#;
        let question = Question {
            principal: Principal::Anonymous,
            action: "s3:GetObject",
            resource: "b/k",
            context: &context,
        };
        let policy = Policy::parse(policy.as_bytes(), "b").expect("a policy");
        assert_eq!(policy.verdict(&question), Verdict::Deny);
    }
}
