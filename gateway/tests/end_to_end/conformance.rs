//! What suites of other gateways' tests ask for, each thing once, and hostile requests.

use crate::client::{Answer, Hash, read_answer};
use crate::{World, noise};
use std::io::{Read, Write};
use std::net::Shutdown as Half;
use std::time::{Duration, Instant};
use store_gateway::s3::dates;

impl World {
    /// Sends bytes as they are, and reads the answer.
    fn raw(&self, bytes: &[u8]) -> Option<Answer> {
        let mut stream = self.client.connect();
        stream.write_all(bytes).expect("sent");
        read_answer(&mut stream, "GET")
    }

    fn delete_many(&self, objects: &str) -> Answer {
        let list = format!("<Delete>{objects}</Delete>");
        self.client.ask("POST", "/bucket?delete=", list.as_bytes())
    }
}

#[test]
fn a_bucket_may_be_made_again_as_it_is() {
    let world = World::new();
    world.client.ask("PUT", "/bucket/k", b"kept");
    assert_eq!(world.client.ask("PUT", "/bucket", b"").status, 200);
    assert_eq!(world.get("/bucket/k").text(), "kept");
    let acl = [("x-amz-acl", "public-read")];
    assert_eq!(world.client.ask_with("PUT", "/bucket", &acl, b"").code(), "BucketAlreadyExists");
    let lock = [("x-amz-bucket-object-lock-enabled", "true")];
    let locked = world.client.ask_with("PUT", "/bucket", &lock, b"");
    assert_eq!(locked.code(), "BucketAlreadyOwnedByYou", "it has no lock");
    for name in ["b", "ab", "Bucket", "a..b"] {
        let made = world.client.ask("PUT", &format!("/{name}"), b"");
        assert_eq!((made.status, made.code().as_str()), (400, "InvalidBucketName"), "{name}");
    }
}

#[test]
fn the_first_region_has_a_name_where_it_was_asked_for() {
    let world = World::new();
    let constraint = b"<CreateBucketConfiguration><LocationConstraint>us-east-1</LocationConstraint></CreateBucketConfiguration>";
    assert_eq!(world.client.ask("PUT", "/named", constraint).status, 200);
    assert!(world.get("/named?location=").text().contains(">us-east-1<"));
    assert!(!world.get("/bucket?location=").text().contains("us-east-1"));
}

#[test]
fn removals_may_want_a_tag_a_size_and_a_date() {
    let world = World::new();
    let delete = |headers: &[(&str, &str)]| {
        let answer = world.client.ask_with("DELETE", "/bucket/k", headers, b"");
        (answer.status, answer.code())
    };
    let refused = (412, "PreconditionFailed".to_owned());
    for versioned in [false, true] {
        if versioned {
            let on = b"<VersioningConfiguration><Status>Enabled</Status></VersioningConfiguration>";
            assert_eq!(world.client.ask("PUT", "/bucket?versioning=", on).status, 200);
        }
        let tag = world.client.ask("PUT", "/bucket/k", b"12345").headers["etag"].clone();
        let date = world.client.ask("HEAD", "/bucket/k", b"").headers["last-modified"].clone();
        const SIZE: &str = "x-amz-if-match-size";
        const DATE: &str = "x-amz-if-match-last-modified-time";
        let then = "Thu, 01 Jan 2015 00:00:00 GMT";
        assert_eq!(delete(&[("if-match", "\"00\"")]), refused);
        assert_eq!(delete(&[(SIZE, "4")]), refused);
        assert_eq!(delete(&[(DATE, then)]), refused);
        assert_eq!(delete(&[(SIZE, "5"), (DATE, then)]), refused);
        assert_eq!(delete(&[(SIZE, "x")]).1, "InvalidArgument");
        assert_eq!(delete(&[(DATE, "x")]).1, "InvalidArgument");
        assert_eq!(delete(&[(SIZE, "5"), (DATE, &date), ("if-match", &tag)]).0, 204);
        assert_eq!(world.get("/bucket/k").status, 404);
        // Who asks again is told the same; a marker is not what he means.
        let again = delete(&[(SIZE, "5")]);
        assert_eq!(again.0, if versioned { 412 } else { 204 });
        assert_eq!(delete(&[("if-match", "*")]).0, 204);
        world.client.ask("PUT", "/bucket/k", b"12345");
        let item = |inner: &str| format!("<Object><Key>k</Key>{inner}</Object>");
        let wrong = world.delete_many(
            &(item("<Size>4</Size>")
                + &item(&format!("<LastModifiedTime>{then}</LastModifiedTime>"))
                + &item("<ETag>x</ETag><Size>5</Size>")),
        );
        assert_eq!(wrong.elements("Code"), ["PreconditionFailed"; 3], "{}", wrong.text());
        let bad = world.delete_many(&item("<Size>many</Size>"));
        assert_eq!(bad.elements("Code"), ["MalformedXML"]);
        let right = world.delete_many(&item("<Size>5</Size>"));
        assert_eq!(right.elements("Deleted").len(), 1, "{}", right.text());
    }
}

#[test]
fn listings_without_order_and_with_an_empty_token() {
    let world = World::new();
    for key in ["a/b", "c"] {
        world.client.ask("PUT", &format!("/bucket/{key}"), b"");
    }
    assert_eq!(world.get("/bucket?allow-unordered=true").elements("Key"), ["a/b", "c"]);
    let rolled = world.get("/bucket?allow-unordered=true&delimiter=%2F");
    assert_eq!((rolled.status, rolled.code().as_str()), (400, "InvalidArgument"));
    let empty = world.get("/bucket?continuation-token=&list-type=2");
    assert_eq!(empty.elements("Key"), ["a/b", "c"]);
    assert_eq!(empty.element("ContinuationToken").as_deref(), Some(""));
    assert_eq!(empty.element("StartAfter"), None);
    let empty = world.get("/bucket?list-type=2&start-after=");
    assert_eq!(empty.elements("Key"), ["a/b", "c"]);
    assert_eq!(empty.element("StartAfter").as_deref(), Some(""));
}

#[test]
fn errors_of_a_head_have_the_kind_of_their_page() {
    let world = World::new();
    for path in ["/bucket/none", "/none/k"] {
        let answer = world.client.ask("HEAD", path, b"");
        assert_eq!(answer.status, 404, "{path}");
        assert_eq!(answer.headers["content-type"], "application/xml", "{path}");
    }
    let put = world.client.ask("PUT", "/bucket/k", b"body");
    let unchanged = [("if-none-match", put.headers["etag"].as_str())];
    let answer = world.client.ask_with("HEAD", "/bucket/k", &unchanged, b"");
    assert_eq!(answer.status, 304);
    assert!(
        !answer.headers.contains_key("content-type"),
        "nothing is said of what has not changed"
    );
}

#[test]
fn parts_are_read_with_their_own_checksums() {
    let world = World::new();
    let part = noise(5 << 20);
    for (algorithm, kind, header) in [
        ("CRC32C", "FULL_OBJECT", "x-amz-checksum-crc32c"),
        ("SHA256", "COMPOSITE", "x-amz-checksum-sha256"),
    ] {
        let headers = [("x-amz-checksum-algorithm", algorithm), ("x-amz-checksum-type", kind)];
        let begun = world.client.ask_with("POST", "/bucket/parts?uploads=", &headers, b"");
        let id = begun.element("UploadId").expect("an upload");
        let mut list = String::new();
        let mut sums = Vec::new();
        for (number, body) in [(1, &part[..]), (2, b"end")] {
            let target = format!("/bucket/parts?partNumber={number}&uploadId={id}");
            let algorithm = [("x-amz-checksum-algorithm", algorithm)];
            let put = world.client.ask_with("PUT", &target, &algorithm, body);
            sums.push(put.headers[header].clone());
            // The first is told twice: the last telling counts.
            for tag in [
                (number == 1).then_some("\"00112233445566778899aabbccddeeff\""),
                Some(&*put.headers["etag"]),
            ] {
                let Some(tag) = tag else { continue };
                list +=
                    &format!("<Part><PartNumber>{number}</PartNumber><ETag>{tag}</ETag></Part>");
            }
        }
        let list = format!("<CompleteMultipartUpload>{list}</CompleteMultipartUpload>");
        let target = format!("/bucket/parts?uploadId={id}");
        let done = world.client.ask("POST", &target, list.as_bytes());
        assert_eq!(done.status, 200, "{}", done.text());
        let mode = [("x-amz-checksum-mode", "ENABLED")];
        for (number, sum) in [(1, &sums[0]), (2, &sums[1])] {
            let target = format!("/bucket/parts?partNumber={number}");
            let got = world.client.ask_with("GET", &target, &mode, b"");
            assert_eq!((got.status, &got.headers[header]), (206, sum), "{algorithm} {number}");
            assert_eq!(got.headers["x-amz-checksum-type"], kind);
        }
        let past = world.get("/bucket/parts?partNumber=3");
        assert_eq!((past.status, past.code().as_str()), (400, "InvalidPart"));
    }
}

#[test]
fn a_checksum_that_is_none_is_a_bad_digest() {
    let world = World::new();
    for value in ["bad", "AAAA", "!"] {
        let headers = [("x-amz-checksum-sha256", value)];
        let put = world.client.ask_with("PUT", "/bucket/k", &headers, b"body");
        assert_eq!((put.status, put.code().as_str()), (400, "BadDigest"), "{value}");
    }
    for (coding, kept) in [
        ("deflate, gzip", Some("deflate, gzip")),
        ("aws-chunked, gzip", Some("gzip")),
        ("aws-chunked", None),
    ] {
        world.client.ask_with("PUT", "/bucket/k", &[("content-encoding", coding)], b"");
        let head = world.client.ask("HEAD", "/bucket/k", b"");
        assert_eq!(head.headers.get("content-encoding").map(String::as_str), kept);
    }
}

#[test]
fn a_body_may_say_its_length_by_ending() {
    let world = World::new();
    for size in [0, 5, 70_000, 3 << 20] {
        let body = noise(size);
        let chunked = [("transfer-encoding", "chunked")];
        let signed = world.client.sign("PUT", "/bucket/open", &chunked, b"", Hash::Unsigned);
        let head = signed.head.replace("content-length: 0\r\n", "");
        let mut stream = world.client.connect();
        stream.write_all(format!("{head}connection: close\r\n\r\n").as_bytes()).unwrap();
        for chunk in body.chunks(40_000) {
            stream.write_all(format!("{:x}\r\n", chunk.len()).as_bytes()).unwrap();
            stream.write_all(chunk).unwrap();
            stream.write_all(b"\r\n").unwrap();
        }
        stream.write_all(b"0\r\n\r\n").unwrap();
        let put = read_answer(&mut stream, "PUT").expect("an answer");
        assert_eq!(put.status, 200, "{}", put.text());
        assert!(world.get("/bucket/open").body == body, "{size} bytes");
    }
    // A document must say it before.
    let chunked = [("transfer-encoding", "chunked")];
    let signed = world.client.sign("PUT", "/bucket?tagging=", &chunked, b"", Hash::Unsigned);
    let head = signed.head.replace("content-length: 0\r\n", "");
    let put = world.raw(format!("{head}connection: close\r\n\r\n0\r\n\r\n").as_bytes());
    assert_eq!(put.expect("an answer").code(), "MissingContentLength");
}

/// All keys that S3 permits come back from both listings in both encodings, and can be removed by a list.
#[test]
fn keys_of_every_byte_are_listed_and_removed() {
    let world = World::new();
    // Every byte of ASCII, and the ends of what UTF-8 can say.
    let mut keys: Vec<String> = (0u8..128).map(|byte| format!("k{}", char::from(byte))).collect();
    let ends = ['\u{80}', '\u{7ff}', '\u{800}', '\u{fffd}', '\u{10000}', '\u{10ffff}'];
    keys.extend(ends.iter().map(|end| format!("k{end}")));
    for key in &keys {
        let target = format!("/bucket/{}", store_gateway::s3::uri::encoded(key.as_bytes(), true));
        assert_eq!(world.client.ask("PUT", &target, key.as_bytes()).status, 200, "{key:?}");
        assert_eq!(world.get(&target).text(), *key);
    }
    keys.sort();
    for query in
        ["encoding-type=url&list-type=2", "encoding-type=url", "encoding-type=url&versions="]
    {
        let listed = world.get(&format!("/bucket?{query}")).elements("Key");
        let listed: Vec<String> = listed
            .iter()
            .map(|key| {
                String::from_utf8(store_gateway::s3::uri::percent_decode(key.as_bytes())).unwrap()
            })
            .collect();
        assert_eq!(listed, keys, "{query}");
    }
    // NUL has no form in XML; it can be removed by its path.
    assert_eq!(world.client.ask("DELETE", "/bucket/k%00", b"").status, 204);
    let objects: String = keys[1..]
        .iter()
        .map(|key| {
            let escaped: String = key.chars().map(|c| format!("&#x{:x};", u32::from(c))).collect();
            format!("<Object><Key>{escaped}</Key></Object>")
        })
        .collect();
    let removed = world.delete_many(&objects);
    assert_eq!(removed.elements("Deleted").len(), keys.len() - 1, "{}", removed.text());
    assert!(world.get("/bucket").elements("Key").is_empty());
}

#[test]
fn documents_are_bounded_in_bytes_depth_and_entities() {
    let world = World::new();
    let deep = format!("{}{}", "<Delete>".repeat(5000), "</Delete>".repeat(5000));
    let bomb = "<!DOCTYPE Delete [<!ENTITY a \"aaaaaaaaaa\"><!ENTITY b \"&a;&a;&a;&a;&a;&a;\">]><Delete><Object><Key>&b;</Key></Object></Delete>";
    let file = "<!DOCTYPE Delete [<!ENTITY a SYSTEM \"file:///etc/passwd\">]><Delete><Object><Key>&a;</Key></Object></Delete>";
    let wide = format!("<Delete>{}</Delete>", "<Object/>".repeat(200_000));
    for document in [&*deep, bomb, file, &*wide, "<Delete>", "", "{}"] {
        let answer = world.client.ask("POST", "/bucket?delete=", document.as_bytes());
        assert_eq!((answer.status, answer.code().as_str()), (400, "MalformedXML"));
    }
    let long = format!("<Tagging>{}</Tagging>", " ".repeat(100 << 10));
    let answer = world.client.ask("PUT", "/bucket?tagging=", long.as_bytes());
    assert_eq!(answer.code(), "MaxMessageLengthExceeded");
    let json = format!("{}{}", "[".repeat(10_000), "]".repeat(10_000));
    assert_eq!(
        world.client.ask("PUT", "/bucket?policy=", json.as_bytes()).code(),
        "MalformedPolicy"
    );
}

#[test]
fn heads_are_bounded() {
    let world = World::new();
    let line = |name: &str, len: usize| format!("{name}: {}\r\n", "x".repeat(len));
    let many: String = (0..300).map(|n| line(&format!("x-h{n}"), 1)).collect();
    let endless = "x".repeat(300 << 10);
    for lines in [line("x-long", 100 << 10), many, line("x-a", 40 << 10) + &line("x-b", 40 << 10)] {
        let answer =
            world.raw(format!("GET /bucket HTTP/1.1\r\nhost: h\r\n{lines}\r\n").as_bytes());
        let status = answer.map_or(0, |answer| answer.status);
        assert!([0, 400, 431].contains(&status), "{status}");
    }
    let mut stream = world.client.connect();
    let _ = stream.write_all(format!("GET /{endless}").as_bytes());
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    assert!(!answer.starts_with(b"HTTP/1.1 2"));
    let metadata = "m".repeat(2048);
    let put = world.client.ask_with("PUT", "/bucket/k", &[("x-amz-meta-a", &metadata)], b"");
    assert_eq!(put.code(), "MetadataTooLarge");
    let parameters = "a=&".repeat(200);
    assert_eq!(world.get(&format!("/bucket?{}", parameters.trim_end_matches('&'))).status, 400);
    assert_eq!(world.get("/bucket").status, 200, "and nobody else is harmed");
}

/// A body that stops for longer than `body_idle`, and one whose client closes his sending half.
#[test]
fn stalled_and_half_closed_bodies_end() {
    let world = World::new();
    for half_closed in [false, true] {
        let body = noise(2 << 20);
        let length = [("content-length", &*(4 << 20).to_string())];
        let signed = world.client.sign("PUT", "/bucket/k", &length, b"", Hash::Unsigned);
        let mut stream = world.client.connect();
        stream.write_all(format!("{}\r\n", signed.head).as_bytes()).unwrap();
        stream.write_all(&body).unwrap();
        if half_closed {
            stream.shutdown(Half::Write).unwrap();
        }
        let began = Instant::now();
        let answer = read_answer(&mut stream, "PUT");
        assert!(began.elapsed() < Duration::from_secs(15));
        assert!(answer.is_none_or(|answer| answer.status == 400));
        assert_eq!(world.get("/bucket/k").status, 404);
    }
    world.data_objects_become(0);
}

#[test]
fn old_and_early_signatures_are_refused() {
    let world = World::new();
    world.client.ask("PUT", "/bucket/k", b"");
    let good = world.client.sign("GET", "/bucket/k", &[], b"", Hash::OfBody).head;
    let now_ms = store_shell::clock::timestamp().millis();
    let date = good.lines().find_map(|line| line.strip_prefix("x-amz-date: ")).unwrap().to_owned();
    for off_ms in [20 * 60_000, 0] {
        let other = dates::compact(now_ms - off_ms);
        let head = good.replace(&date, &other);
        let answer = world.raw(format!("{head}\r\n").as_bytes()).expect("an answer");
        let expected = if off_ms == 0 { "200" } else { "RequestTimeTooSkewed" };
        // The date of the credential is another one around midnight.
        if other[..8] == date[..8] && (off_ms != 0 || other == date) {
            assert_eq!(answer.code(), expected);
        }
    }
    for (expires, signed_ago_secs, message) in [
        ("0", 0, "expired"),
        ("60", 61, "expired"),
        ("604801", 0, "less than a week"),
        ("-1", 0, "non-negative"),
    ] {
        let date = dates::compact(now_ms - signed_ago_secs * 1000);
        let target = format!(
            "/bucket/k?X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=u%2F{}%2Fus-east-1%2Fs3%2Faws4_request&X-Amz-Date={date}&X-Amz-Expires={expires}&X-Amz-SignedHeaders=host&X-Amz-Signature={}",
            &date[..8],
            "0".repeat(64)
        );
        let request = format!("GET {target} HTTP/1.1\r\nhost: h\r\nconnection: close\r\n\r\n");
        let answer = world.raw(request.as_bytes()).expect("an answer");
        assert_eq!((answer.status, answer.code().as_str()), (403, "AccessDenied"), "{expires}");
        assert!(answer.text().contains(message), "{}", answer.text());
    }
}

#[test]
fn hosts_name_buckets_and_nothing_else() {
    let world = World::new();
    let public = [("x-amz-acl", "public-read")];
    assert_eq!(world.client.ask_with("PUT", "/bucket/a/b", &public, b"body").status, 200);
    let ask = |target: &str, host: &str| {
        let head = format!("GET {target} HTTP/1.1\r\n{host}connection: close\r\n\r\n");
        world
            .raw(head.as_bytes())
            .map_or((0, String::new()), |answer| (answer.status, answer.text()))
    };
    for (target, host) in [
        ("/a/b", "host: bucket.s3.test\r\n"),
        ("/a/b", "host: Bucket.S3.Test:8888\r\n"),
        ("/bucket/a/b", "host: s3.test\r\n"),
        ("/bucket/a/b", "host: elsewhere.test\r\n"),
        ("/bucket/a/b", "host: [::1]:8888\r\n"),
        ("http://bucket.s3.test/a/b", "host: bucket.s3.test\r\n"),
    ] {
        assert_eq!(ask(target, host), (200, "body".into()), "{target} {host}");
    }
    for (target, host, status) in [
        // A bucket's name is no path, and a path none of its own.
        ("/bucket/a/b", "host: bucket.s3.test\r\n", 403),
        ("/a/b", "host: other.s3.test\r\n", 404),
        ("/a/b", "host: bucket.s3.test.evil.test\r\n", 404),
        ("/a/b", "host: buckets3.test\r\n", 404),
        ("/bucket/a/b", "", 400),
        ("/bucket/a/b", "host: h\r\nhost: h\r\n", 400),
        ("/../bucket/a/b", "host: h\r\n", 404),
    ] {
        assert_eq!(ask(target, host).0, status, "{target} {host}");
    }
}
