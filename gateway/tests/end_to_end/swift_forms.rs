//! Uploads by signed forms over Swift: every file of a form is an object, nothing comes in that the signature does
//! not let in, and what breaks off leaves nothing.

use crate::World;
use crate::client::Answer;
use ring::hmac::{HMAC_SHA1_FOR_LEGACY_USE_ONLY, HMAC_SHA256, Key, sign};
use std::time::{Duration, Instant};
use store_gateway::cluster::DATA_POOL;

/// A form before it is sent.
#[derive(Clone)]
struct Form {
    path: String,
    fields: Vec<(String, String)>,
    /// Name, headers and bytes.
    files: Vec<(String, String, Vec<u8>)>,
}

fn now() -> u64 {
    store_shell::clock::timestamp().millis() / 1000
}

impl Form {
    /// With files of at most 5 MB, so many.
    fn new(path: &str, files_max: u32) -> Form {
        let form = Form { path: format!("/v1/AUTH_u{path}"), fields: vec![], files: vec![] };
        form.with("max_file_size", "5000000")
            .with("max_file_count", &files_max.to_string())
            .with("expires", &(now() + 60).to_string())
    }

    fn with(mut self, name: &str, value: &str) -> Form {
        self.fields.retain(|(known, _)| known != name);
        self.fields.push((name.into(), value.into()));
        self
    }

    fn file(mut self, name: &str, headers: &str, bytes: &[u8]) -> Form {
        self.files.push((name.into(), headers.into(), bytes.to_vec()));
        self
    }

    fn signed(self, key: &str) -> Form {
        let field = |name: &str| {
            let field = self.fields.iter().find(|(known, _)| known == name);
            field.map_or("", |(_, value)| value)
        };
        let [redirect, size, count, expires] =
            ["redirect", "max_file_size", "max_file_count", "expires"].map(field);
        let text = format!("{}\n{redirect}\n{size}\n{count}\n{expires}", self.path);
        let tag = sign(&Key::new(HMAC_SHA256, key.as_bytes()), text.as_bytes());
        self.with("signature", &hex::encode(tag))
    }

    fn body(&self) -> Vec<u8> {
        let mut out = Vec::new();
        let mut part = |head: String, bytes: &[u8]| {
            let head = format!("--sep\r\nContent-Disposition: form-data; {head}\r\n\r\n");
            out.extend_from_slice(head.as_bytes());
            out.extend_from_slice(bytes);
            out.extend_from_slice(b"\r\n");
        };
        for (name, value) in &self.fields {
            part(format!("name=\"{name}\""), value.as_bytes());
        }
        for (name, headers, bytes) in &self.files {
            part(format!("name=\"f\"; filename=\"{name}\"{headers}"), bytes);
        }
        out.extend_from_slice(b"--sep--\r\n");
        out
    }

    fn send(&self, world: &World) -> Answer {
        let kind = [("content-type", "multipart/form-data; boundary=sep")];
        world.plain("POST", &self.path, &kind, &self.body())
    }
}

fn world() -> World {
    let world = World::new();
    let swift = world.swift("u");
    assert_eq!(swift.status("POST", "", &[("x-account-meta-temp-url-key", "k1")]), 204);
    assert_eq!(swift.status("POST", "/bucket", &[("x-container-meta-temp-url-key-2", "k2")]), 204);
    assert_eq!(swift.status("PUT", "/other", &[]), 201);
    world
}

#[test]
fn every_file_of_a_form_is_an_object() {
    let world = world();
    let swift = world.swift("u");
    let big = crate::noise(3 << 20);
    for key in ["k1", "k2"] {
        let form = Form::new("/bucket/in-", 3)
            .file("a.txt", "", b"A")
            .file("b", "\r\nContent-Type: text/x\r\nContent-Encoding: gzip", &big)
            .file("c", "", b"");
        let answer = form.signed(key).send(&world);
        assert_eq!((answer.status, answer.text().as_str()), (201, "201 Created"));
        assert_eq!(swift.names("/bucket"), ["in-a.txt", "in-b", "in-c"]);
        assert_eq!(
            swift.ask("HEAD", "/bucket/in-a.txt", b"").headers["content-type"],
            "text/plain"
        );
        let got = swift.ask("GET", "/bucket/in-b", b"");
        assert!(got.body == big);
        assert_eq!(got.headers["content-type"], "text/x");
        assert_eq!(got.headers["content-encoding"], "gzip");
        assert_eq!(swift.ask("GET", "/bucket/in-c", b"").body, b"");
        for name in ["in-a.txt", "in-b", "in-c"] {
            assert_eq!(swift.status("DELETE", &format!("/bucket/{name}"), &[]), 204);
        }
    }
    // What a field says goes before what a part says; a container's name needs no slash.
    let form = Form::new("/bucket", 1)
        .with("content-type", "text/y")
        .with("X_Delete_After", "1000")
        .file("d", "\r\nContent-Type: text/x", b"D");
    assert_eq!(form.signed("k1").send(&world).status, 201);
    let got = swift.ask("GET", "/bucket/d", b"");
    assert_eq!((got.text().as_str(), got.headers["content-type"].as_str()), ("D", "text/y"));
    let end: u64 = got.headers["x-delete-at"].parse().expect("a time");
    assert!((now() + 900..=now() + 1000).contains(&end));
    assert_eq!(world.get("/bucket/d").text(), "D");
}

#[test]
fn the_signature_is_about_path_sizes_and_time() {
    let world = world();
    let swift = world.swift("u");
    let form = || Form::new("/bucket/", 2).file("a", "", b"12345");
    let refused = |form: Form, status: u16, words: &str| {
        let answer = form.send(&world);
        assert_eq!(answer.status, status, "{words} {}", answer.text());
        assert!(answer.text().contains(words), "{words} in {}", answer.text());
    };
    refused(form(), 401, "FormPost: Invalid Signature");
    refused(form().signed("k3"), 401, "FormPost: Invalid Signature");
    for (name, value) in [("max_file_size", "6000000"), ("max_file_count", "3"), ("redirect", "x")]
    {
        refused(form().signed("k1").with(name, value), 401, "FormPost: Invalid Signature");
    }
    let late = form().with("expires", &(now() - 1).to_string());
    refused(late.signed("k1"), 401, "FormPost: Form Expired");
    refused(form().with("expires", "x").signed("k1"), 400, "expires not an integer");
    refused(form().with("max_file_count", "x").signed("k1"), 400, "max_file_count not an integer");
    refused(form().with("x_delete_at", "x").signed("k1"), 400, "Unix timestamp required");
    refused(form().with("max_file_size", "4").signed("k1"), 400, "max_file_size exceeded");
    refused(Form::new("/bucket/", 2).signed("k1"), 400, "No Files To Process");
    let mut elsewhere = form().signed("k1");
    elsewhere.path = "/v1/AUTH_u/other/".into();
    refused(elsewhere, 401, "Invalid Signature");
    // A container's key opens that container, and no account is a place for files.
    refused(Form::new("/other/", 1).file("a", "", b"1").signed("k2"), 401, "Invalid Signature");
    refused(Form::new("", 1).file("a", "", b"1").signed("k1"), 401, "Invalid Signature");
    refused(Form::new("/none/", 1).file("a", "", b"1").signed("k1"), 404, "404");
    refused(form().with("x", &"y".repeat(30_000)).signed("k1"), 400, "too long");
    assert_eq!(swift.names("/bucket"), Vec::<String>::new());
    // Those before the one that fails stay.
    let two = form().file("b", "", b"1").file("c", "", b"1").signed("k1");
    refused(two, 400, "Max File Count Exceeded");
    assert_eq!(swift.names("/bucket"), ["a", "b"]);
    // A quota is one for forms as well.
    let quota = [("x-container-meta-quota-bytes", "10")];
    assert_eq!(swift.status("POST", "/bucket", &quota), 204);
    refused(Form::new("/bucket/", 1).file("q", "", b"123456").signed("k1"), 413, "413");
    assert_eq!(swift.names("/bucket"), ["a", "b"]);
    let quota = [("x-remove-container-meta-quota-bytes", "x")];
    assert_eq!(swift.status("POST", "/bucket", &quota), 204);
    let text = format!("{}\n\n5000000\n2\n{}", form().path, form().fields[2].1);
    let tag = sign(&Key::new(HMAC_SHA1_FOR_LEGACY_USE_ONLY, b"k1"), text.as_bytes());
    assert_eq!(form().with("signature", &hex::encode(tag)).send(&world).status, 201);
}

#[test]
fn browsers_are_sent_on_where_the_signature_says() {
    let world = world();
    let form = |redirect: &str, count: u32| {
        Form::new("/bucket/", count).with("redirect", redirect).file("a", "", b"1")
    };
    for (redirect, place) in [
        ("http://there/", "http://there/?status=201&message="),
        ("http://there/?a=\"b\"", "http://there/?a=\"b\"&status=201&message="),
    ] {
        let answer = form(redirect, 1).signed("k1").send(&world);
        assert_eq!((answer.status, answer.headers["location"].as_str()), (303, place));
        assert!(answer.text().contains("Click to continue") && !answer.text().contains("\"b\""));
    }
    let many = form("http://there/", 1).file("b", "", b"2").signed("k1").send(&world);
    assert_eq!(many.status, 303);
    let place = "http://there/?status=400&message=max%20file%20count%20exceeded";
    assert_eq!(many.headers["location"], place);
    // Nobody is sent on by who has not signed.
    let unsigned = form("http://evil/", 0).send(&world);
    assert_eq!(unsigned.status, 400);
    assert!(!unsigned.headers.contains_key("location") && !unsigned.text().contains("evil"));
}

#[test]
fn a_form_that_breaks_off_leaves_what_was_whole() {
    let world = world();
    let form = Form::new("/bucket/", 2).file("a", "", b"1").file("b", "", &crate::noise(2 << 20));
    let form = form.signed("k1");
    let body = form.body();
    let head = format!(
        "POST {} HTTP/1.1\r\nhost: h\r\ncontent-type: multipart/form-data; boundary=sep\r\ncontent-length: {}\r\n\r\n",
        form.path,
        body.len()
    );
    let mut stream = world.client.connect();
    let sent = [head.as_bytes(), &body[..body.len() - 20]].concat();
    std::io::Write::write_all(&mut stream, &sent).unwrap();
    drop(stream);
    let swift = world.swift("u");
    let until = Instant::now() + Duration::from_secs(20);
    while swift.names("/bucket").is_empty() {
        assert!(Instant::now() < until, "the first file is there");
        std::thread::sleep(Duration::from_millis(20));
    }
    world.data_objects_become(0);
    assert_eq!(swift.names("/bucket"), ["a"]);
    assert!(world.cluster.names(DATA_POOL).is_empty());
}

#[test]
fn files_of_forms_come_no_faster_than_their_rate() {
    let world = world();
    world.limit(&crate::quota::bucket(), |limits| limits.write_rate = 1 << 20);
    std::thread::sleep(Duration::from_millis(1100));
    let form = Form::new("/bucket/", 1).file("a", "", &crate::noise(3 << 20)).signed("k1");
    let began = Instant::now();
    assert_eq!(form.send(&world).status, 201);
    assert!(began.elapsed() >= Duration::from_millis(900), "written in {:?}", began.elapsed());
}
