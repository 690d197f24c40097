//! Uploads by forms: what the fields say is done, what the policy forbids is not, and a file of any size
//! goes the way of a PUT.

use crate::World;
use crate::client::{Answer, Client, read_answer};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ring::hmac::{HMAC_SHA1_FOR_LEGACY_USE_ONLY, HMAC_SHA256, Key, sign};
use std::io::Write;
use std::net::Shutdown as Half;
use std::time::{Duration, Instant};
use store_gateway::cluster::DATA_POOL;
use store_gateway::s3::dates;

/// A form before it is sent.
#[derive(Clone, Default)]
struct Form {
    fields: Vec<(String, String)>,
    filename: String,
    file: Vec<u8>,
}

impl Form {
    fn new(key: &str, file: &[u8]) -> Self {
        let form = Form { filename: "f.txt".into(), file: file.to_vec(), ..Form::default() };
        form.with("key", key)
    }

    fn with(mut self, name: &str, value: &str) -> Self {
        self.fields.push((name.into(), value.into()));
        self
    }

    fn body(&self) -> Vec<u8> {
        let mut out = Vec::new();
        for (name, value) in &self.fields {
            out.extend_from_slice(
                format!(
                    "--sep\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n"
                )
                .as_bytes(),
            );
        }
        let name = &self.filename;
        out.extend_from_slice(
            format!("--sep\r\nContent-Disposition: form-data; name=\"file\"; filename=\"{name}\"\r\nContent-Type: image/png\r\n\r\n")
                .as_bytes(),
        );
        out.extend_from_slice(&self.file);
        out.extend_from_slice(
            b"\r\n--sep\r\nContent-Disposition: form-data; name=\"key\"\r\n\r\nlate\r\n--sep--\r\n",
        );
        out
    }

    /// Adds a policy with these conditions, and its signature of version 4.
    fn signed(self, client: &Client, conditions: &str) -> Self {
        let now_ms = store_shell::clock::timestamp().millis();
        let date = dates::compact(now_ms);
        let scope = format!("{}/us-east-1/s3/aws4_request", &date[..8]);
        let credential = format!("{}/{scope}", client.access_key);
        let form = self
            .with("x-amz-algorithm", "AWS4-HMAC-SHA256")
            .with("X-Amz-Credential", &credential)
            .with("x-amz-date", &date);
        let policy = STANDARD.encode(format!(
            r#"{{"expiration":"{}","conditions":[{conditions},{{"bucket":"bucket"}},{{"x-amz-algorithm":"AWS4-HMAC-SHA256"}},{{"x-amz-credential":"{credential}"}},{{"x-amz-date":"{date}"}}]}}"#,
            dates::iso(now_ms + 60_000)
        ));
        let hmac = |key: &[u8], text: &str| {
            sign(&Key::new(HMAC_SHA256, key), text.as_bytes()).as_ref().to_vec()
        };
        let start = format!("AWS4{}", client.secret).into_bytes();
        let steps = [&date[..8], "us-east-1", "s3", "aws4_request", &policy];
        let signature = steps.iter().fold(start, |key, step| hmac(&key, step));
        form.with("policy", &policy).with("x-amz-signature", &hex::encode(signature))
    }

    /// The same, of version 2.
    fn signed_old(self, client: &Client, conditions: &str) -> Self {
        let until = dates::iso(store_shell::clock::timestamp().millis() + 60_000);
        let policy =
            STANDARD.encode(format!(r#"{{"expiration":"{until}","conditions":[{conditions}]}}"#));
        let key = Key::new(HMAC_SHA1_FOR_LEGACY_USE_ONLY, client.secret.as_bytes());
        let signature = STANDARD.encode(sign(&key, policy.as_bytes()));
        self.with("AWSAccessKeyId", &client.access_key)
            .with("policy", &policy)
            .with("signature", &signature)
    }
}

impl World {
    fn post_body(&self, body: &[u8], sent: usize) -> Option<Answer> {
        let mut stream = self.client.connect();
        let head = format!(
            "POST /bucket HTTP/1.1\r\nhost: h\r\nconnection: close\r\nx-amz-acl: public-read\r\nx-amz-meta-from: head\r\ncontent-type: multipart/form-data; boundary=sep\r\ncontent-length: {}\r\n\r\n",
            body.len()
        );
        stream.write_all(head.as_bytes()).unwrap();
        let _ = stream.write_all(&body[..sent]);
        if sent < body.len() {
            stream.shutdown(Half::Write).unwrap();
        }
        read_answer(&mut stream, "POST")
    }

    fn post(&self, form: &Form) -> Answer {
        let body = form.body();
        self.post_body(&body, body.len()).expect("an answer")
    }

    fn open_bucket(&self) {
        let acl = [("x-amz-acl", "public-read-write")];
        assert_eq!(self.client.ask_with("PUT", "/bucket?acl=", &acl, b"").status, 200);
    }
}

const KEY: &str = r#"["starts-with","$key","a/"]"#;

#[test]
fn a_signed_form_makes_the_object_that_its_fields_describe() {
    let world = World::new();
    let conditions = format!(
        r#"{KEY},["starts-with","$Content-Type","text/"],["starts-with","$x-amz-meta-a",""],{{"tagging":"<Tagging><TagSet><Tag><Key>k</Key><Value>v w</Value></Tag></TagSet></Tagging>"}},["eq","$success_action_status","201"],["content-length-range",1,100],{{"acl":"public-read"}},{{"Cache-Control":"no-cache"}}"#
    );
    let form = Form::new("a/${filename}", b"hello")
        .with("Content-Type", "text/plain")
        .with("x-amz-meta-A", "1")
        .with("acl", "public-read")
        .with("Cache-Control", "no-cache")
        .with("success_action_status", "201")
        .with("x-ignore-me", "x")
        .with(
            "tagging",
            "<Tagging><TagSet><Tag><Key>k</Key><Value>v w</Value></Tag></TagSet></Tagging>",
        );
    for form in [
        form.clone().signed(&world.client, &conditions),
        form.signed_old(&world.client, &conditions),
    ] {
        let posted = world.post(&form);
        assert_eq!(posted.status, 201, "{}", posted.text());
        assert_eq!(posted.element("Key").as_deref(), Some("a/f.txt"));
        assert!(posted.headers["location"].ends_with("/bucket/a/f.txt"));
        let read = world.get("/bucket/a/f.txt");
        assert_eq!(read.text(), "hello");
        assert_eq!(read.headers["etag"], posted.headers["etag"]);
        for (name, value) in [
            ("content-type", "text/plain"),
            ("x-amz-meta-a", "1"),
            ("cache-control", "no-cache"),
            ("x-amz-tagging-count", "1"),
        ] {
            assert_eq!(read.headers[name], value, "{name}");
        }
        assert!(!read.headers.contains_key("x-amz-meta-from"), "headers say nothing");
        assert_eq!(world.get("/bucket/a/f.txt?tagging=").element("Value").as_deref(), Some("v w"));
        let grants = world.get("/bucket/a/f.txt?acl=");
        assert!(grants.text().contains("AllUsers"));
        assert_eq!(world.get("/bucket/late").status, 404);
    }
}

#[test]
fn what_the_policy_does_not_allow_is_not_done() {
    let world = World::new();
    let form = |key: &str| Form::new(key, b"12345");
    let signed = |form: Form, conditions: &str| form.signed(&world.client, conditions);
    let stranger =
        Client { access_key: "v".into(), secret: "vsecret".into(), ..world.client.clone() };
    let liar = Client { secret: "other".into(), ..world.client.clone() };
    let sized = |min: u64, max: u64| format!(r#"{KEY},["content-length-range",{min},{max}]"#);
    let mut no_key = signed(form("a/k"), KEY);
    no_key.fields.remove(0);
    let old = |text: &str| {
        let policy = STANDARD.encode(text);
        let key = Key::new(HMAC_SHA1_FOR_LEGACY_USE_ONLY, b"usecret");
        let signature = STANDARD.encode(sign(&key, policy.as_bytes()));
        let form = form("a/k").with("AWSAccessKeyId", "u");
        form.with("policy", &policy).with("signature", &signature)
    };
    for (form, code) in [
        (form("a/k"), "AccessDenied"),
        (signed(form("b/k"), KEY), "AccessDenied"),
        (signed(form("a/k").with("acl", "public-read"), KEY), "AccessDenied"),
        (signed(form("a/k").with("x-amz-meta-a", "b"), KEY), "AccessDenied"),
        (signed(form("a/k"), &format!(r#"{KEY},{{"bucket":"other"}}"#)), "AccessDenied"),
        (signed(form("a/k"), &sized(6, 9)), "EntityTooSmall"),
        (signed(form("a/k"), &sized(0, 4)), "EntityTooLarge"),
        (signed(form("a/k"), r#"{}"#), "InvalidPolicyDocument"),
        (form("a/k").signed(&stranger, KEY), "AccessDenied"),
        (form("a/k").signed(&liar, KEY), "SignatureDoesNotMatch"),
        (form("a/k").with("policy", "e30="), "InvalidArgument"),
        (form("a/k").with("AWSAccessKeyId", "u"), "InvalidArgument"),
        (no_key, "UserKeyMustBeSpecified"),
        (old(r#"{"expiration":"2013-05-24T00:00:00Z","conditions":[]}"#), "AccessDenied"),
        (old(r#"{"conditions":[]}"#), "InvalidPolicyDocument"),
        (
            signed(
                form("a/k").with("Content-MD5", "1B2M2Y8AsgTpgAmY7PhCfg=="),
                &format!(r#"{KEY},["starts-with","$content-md5",""]"#),
            ),
            "BadDigest",
        ),
        (signed(form("a/k").with("x-amz-checksum-crc32", "AAAAAA=="), KEY), "BadDigest"),
    ] {
        let posted = world.post(&form);
        assert_eq!(posted.code(), code, "{}", posted.text());
    }
    assert_eq!(world.get("/bucket/a/k").status, 404);
    assert_eq!(world.post(&signed(form("a/k"), &sized(5, 5))).status, 204);
}

#[test]
fn everybody_may_post_where_the_bucket_lets_him() {
    let world = World::new();
    assert_eq!(world.post(&Form::new("k", b"x")).code(), "AccessDenied");
    world.open_bucket();
    let posted = world.post(&Form::new("k", b"x").with("success_action_status", "404"));
    assert_eq!((posted.status, posted.text().as_str()), (204, ""));
    let posted = world.post(&Form::new("k ä", b"x").with("success_action_status", "200"));
    assert_eq!(posted.status, 200);
    let target = "http://h.example/done?x=1";
    let posted = world.post(&Form::new("k ä", b"x").with("success_action_redirect", target));
    assert_eq!(posted.status, 303);
    let tag = posted.headers["etag"].trim_matches('"').to_owned();
    let expected = format!("{target}&bucket=bucket&key=k%20%C3%A4&etag=%22{tag}%22");
    assert_eq!(posted.headers["location"], expected);
    let posted = world.post(&Form::new("k", b"x").with("success_action_redirect", "javascript:1"));
    assert_eq!(posted.status, 204);
    // A policy that lets nobody in by a form lets nobody in.
    let policy = r#"{"Version":"2012-10-17","Statement":{"Effect":"Deny","Principal":"*","Action":"s3:PutObject","Resource":"arn:aws:s3:::bucket/*","Condition":{"StringEquals":{"s3:authType":"POST"}}}}"#;
    assert_eq!(world.client.ask("PUT", "/bucket?policy=", policy.as_bytes()).status, 204);
    let signed = Form::new("a/k", b"x").signed(&world.client, KEY);
    assert_eq!(world.post(&signed).code(), "AccessDenied");
    assert_eq!(world.client.ask("PUT", "/bucket/a/k", b"x").status, 200);
    // What is no form is an upload without a key, and decided first.
    assert_eq!(world.client.ask("POST", "/bucket", b"").status, 412);
}

#[test]
fn a_large_file_streams_and_a_broken_form_leaves_nothing() {
    let world = World::new();
    world.open_bucket();
    let file: Vec<u8> = (0..5_500_000u32).flat_map(|n| [(n % 251) as u8, b'\r', b'\n']).collect();
    let form = Form::new("large", &file);
    let body = form.body();
    for sent in [20, 300, 1000, 2_000_000, body.len() - 60] {
        if let Some(answer) = world.post_body(&body, sent) {
            assert_eq!(answer.status, 400, "{}", answer.text());
        }
    }
    assert_eq!(world.get("/bucket/large").status, 404);
    world.data_objects_become(0);
    assert_eq!(world.post(&form).status, 204);
    assert!(world.get("/bucket/large").body == file, "other bytes came back");
    assert_eq!(world.cluster.names(DATA_POOL).len(), 4);
    let conditions =
        format!(r#"["eq","$key","large"],["content-length-range",0,{}]"#, file.len() - 1);
    let over = form.signed(&world.client, &conditions);
    assert_eq!(world.post(&over).code(), "EntityTooLarge");
    world.data_objects_become(4);
}

#[test]
fn forms_are_requests_of_who_signed_them() {
    let world = World::new();
    world.limit(&crate::quota::user(), |limits| {
        (limits.request_rate, limits.write_rate) = (1, 1 << 20);
    });
    // The user's limits were looked up when the bucket was made.
    std::thread::sleep(Duration::from_millis(5100));
    let form = |file: &[u8]| {
        let form = Form::new("a/k", file).signed(&world.client, KEY);
        world.post(&form)
    };
    // The first second's worth comes at once, the last piece does not wait for what comes after it.
    let began = Instant::now();
    assert_eq!(form(&crate::noise(3 << 20)).status, 204);
    assert!(began.elapsed() >= Duration::from_millis(900), "written in {:?}", began.elapsed());
    crate::quota::is_slowed(|| form(b"x"), 204, "SlowDown");
}
