//! Details of Swift that its own functional tests ask for: dates, paths, headers at their limits.

use crate::World;
use crate::client::read_answer;
use std::io::{Read, Write};
use std::time::{Duration, Instant};

/// A path that begins with `/v1` may be one of S3. Who brings a token means Swift.
#[test]
fn a_token_means_swift() {
    let world = World::new();
    let token = world.swift("u").token;
    for (path, expected) in
        [("/v1", 412), ("/v1/", 412), ("/v1.0", 412), ("/v1//c/o", 404), ("/v1/x//o", 404)]
    {
        let answer = world.plain("GET", path, &[("x-auth-token", &token)], b"");
        assert_eq!(answer.status, expected, "{path}");
        assert!(answer.headers["x-trans-id"].starts_with("tx"), "{path}");
        let nobody = world.plain("GET", path, &[], b"");
        assert!(nobody.headers.contains_key("x-amz-request-id"), "{path} is one of S3");
    }
    let bare = world.plain("PUT", "/v1", &[("x-auth-token", &token)], b"");
    assert_eq!(bare.text(), "Bad URL");
    let signed = world.client.ask_with("GET", "/v1", &[("x-auth-token", &token)], b"");
    assert!(signed.headers.contains_key("x-amz-request-id"), "a signature means S3");
}

#[test]
fn the_realm_is_the_account_of_the_path() {
    let world = World::new();
    for account in ["AUTH_u", "AUTH_x%22%0Alength%3A%201"] {
        let answer = world.plain("GET", &format!("/v1/{account}/c"), &[], b"");
        assert_eq!(answer.status, 401);
        assert_eq!(answer.headers["www-authenticate"], format!("Swift realm=\"{account}\""));
    }
}

#[test]
fn containers_are_as_old_as_their_last_put_or_post() {
    let world = World::new();
    let swift = world.swift("u");
    assert_eq!(swift.status("PUT", "/c", &[]), 201);
    let date = || {
        std::thread::sleep(Duration::from_millis(5));
        let listed = swift.ask("GET", "?format=json&prefix=c", b"").text();
        let date =
            listed.split("\"last_modified\":\"").nth(1).and_then(|rest| rest.split('"').next());
        date.unwrap_or_else(|| panic!("no date in {listed}")).to_owned()
    };
    let mut before = date();
    let color = [("x-container-meta-color", "red")];
    for (method, headers, status) in
        [("PUT", &[][..], 202), ("POST", &[], 204), ("PUT", &color, 202), ("POST", &color, 204)]
    {
        assert_eq!(swift.status(method, "/c", headers), status);
        let now = date();
        assert!(now > before, "{method} {headers:?}: {now} is not after {before}");
        before = now;
    }
    assert_eq!(swift.ask("PUT", "/c/o", b"1").status, 201);
    assert_eq!(swift.status("POST", "/c/o", &[]), 202);
    assert_eq!(date(), before, "objects do not change their container");
}

#[test]
fn the_path_of_a_listing_may_be_a_slash() {
    let world = World::new();
    let swift = world.swift("u");
    assert_eq!(swift.status("PUT", "/c", &[]), 201);
    for key in ["d/", "d/1", "f", "/d/", "/d/1", "/f"] {
        assert_eq!(swift.ask("PUT", &format!("/c/{key}"), b"1").status, 201);
    }
    assert_eq!(swift.names("/c?path="), ["d/", "f"]);
    assert_eq!(swift.names("/c?path=/"), ["/d/", "/f"]);
    assert_eq!(swift.names("/c?path=/d"), ["/d/1"]);
    assert_eq!(swift.names("/c?path=/d/"), ["/d/1"]);
}

/// Metadata of objects is bytes; that of containers and accounts is text.
#[test]
fn metadata_of_objects_is_of_any_encoding() {
    let world = World::new();
    let swift = world.swift("u");
    let talk = |method: &str, path: &str, header: &[u8]| {
        let mut stream = world.client.connect();
        let head = format!(
            "{method} /v1/AUTH_u{path} HTTP/1.1\r\nhost: h\r\nconnection: close\r\n\
             content-length: 0\r\nx-auth-token: {}\r\n",
            swift.token
        );
        stream.write_all(&[head.as_bytes(), header, b"\r\n"].concat()).unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        answer
    };
    let begins =
        |answer: &[u8], status: &str| answer.starts_with(format!("HTTP/1.1 {status}").as_bytes());
    let latin = b"x-object-meta-name: Andr\xe9";
    for method in ["PUT", "POST"] {
        let answer = talk(method, "/bucket/k", &[&latin[..], b"\r\n"].concat());
        assert!(begins(&answer, "20"), "{method} {}", String::from_utf8_lossy(&answer));
        let head = talk("HEAD", "/bucket/k", b"");
        assert!(head.windows(latin.len()).any(|part| part == latin), "{method}");
    }
    for path in ["", "/bucket"] {
        let kind = if path.is_empty() { "account" } else { "container" };
        let header = [format!("x-{kind}-meta-name: Andr").as_bytes(), b"\xe9\r\n"].concat();
        assert!(begins(&talk("POST", path, &header), "400"), "{kind}");
    }
}

#[test]
fn too_much_metadata_is_refused_with_a_reason() {
    let world = World::new();
    let swift = world.swift("u");
    for (count, status) in [(90, 201), (91, 400), (190, 400)] {
        let names: Vec<String> = (0..count).map(|n| format!("x-object-meta-n{n}")).collect();
        let headers: Vec<(&str, &str)> = names.iter().map(|name| (name.as_str(), "v")).collect();
        let answer = swift.with("PUT", "/bucket/k", &headers, b"");
        assert_eq!(answer.status, status, "{count}");
        assert!(status == 201 || answer.text().contains("90"), "{}", answer.text());
    }
}

/// Codings of a transfer are not taken off, so what has them is refused instead of being kept with them on.
#[test]
fn bodies_come_in_chunks_or_as_they_are() {
    let world = World::new();
    let swift = world.swift("u");
    let coded = [("transfer-encoding", "gzip, chunked")];
    let body = b"3\r\nabc\r\n0\r\n\r\n";
    assert_eq!(swift.with("PUT", "/bucket/k", &coded, body).status, 501);
    let over_s3 = world.client.ask_with("PUT", "/bucket/k", &coded, body);
    assert_eq!((over_s3.status, over_s3.code().as_str()), (501, "NotImplemented"));
    assert_eq!(swift.status("HEAD", "/bucket/k", &[]), 404);
    let chunked = [("transfer-encoding", "Chunked")];
    assert_eq!(swift.with("PUT", "/bucket/k", &chunked, body).status, 201);
    assert_eq!(swift.ask("GET", "/bucket/k", b"").text(), "abc");
}

/// Who says that he has too much and waits is told so at once, though nothing of the body came.
#[test]
fn who_waits_for_a_refusal_gets_it() {
    let world = World::new();
    let swift = world.swift("u");
    let mut stream = world.client.connect();
    let head = format!(
        "PUT /v1/AUTH_u/bucket/k HTTP/1.1\r\nhost: h\r\nx-auth-token: {}\r\ncontent-length: {}\r\n\r\n",
        swift.token,
        (5u64 << 30) + 1
    );
    stream.write_all(head.as_bytes()).unwrap();
    let asked = Instant::now();
    let answer = read_answer(&mut stream, "PUT").expect("an answer");
    assert_eq!(answer.status, 413);
    assert!(asked.elapsed() < Duration::from_secs(3), "{:?}", asked.elapsed());
}
