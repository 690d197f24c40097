//! Swift through sockets, beside S3: what clients are answered, what strangers are refused, and that both
//! protocols see the same objects.

use crate::client::{Answer, Hash, read_answer};
use crate::{World, noise};
use std::io::Write;

/// A user of Swift who is logged in.
pub(crate) struct Swift<'a> {
    pub(crate) world: &'a World,
    pub(crate) account: String,
    pub(crate) token: String,
}

impl World {
    /// One request as it is.
    pub(crate) fn plain(
        &self,
        method: &str,
        target: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Answer {
        let mut head = format!("{method} {target} HTTP/1.1\r\nhost: {}\r\n", self.client.address);
        headers.iter().for_each(|(name, value)| head.push_str(&format!("{name}: {value}\r\n")));
        if !headers.iter().any(|(name, _)| *name == "transfer-encoding") {
            head.push_str(&format!("content-length: {}\r\n", body.len()));
        }
        head.push_str("connection: close\r\n\r\n");
        let mut stream = self.client.connect();
        stream.write_all(head.as_bytes()).unwrap();
        // A refused body may meet a closed connection; the answer is there all the same.
        let _ = stream.write_all(body);
        read_answer(&mut stream, method).expect("an answer")
    }

    /// A member of the account `u`.
    pub(crate) fn of_account(&self, name: &str) -> Swift<'_> {
        let (whole, key) = (format!("u:{name}"), format!("{name}secret"));
        let headers = [("x-auth-user", whole.as_str()), ("x-auth-key", key.as_str())];
        let answer = self.plain("GET", "/auth/v1.0", &headers, b"");
        assert_eq!(answer.status, 200, "{}", answer.text());
        assert!(answer.headers["x-storage-url"].ends_with("/v1/AUTH_u"));
        let token = answer.headers["x-auth-token"].clone();
        Swift { world: self, account: "/v1/AUTH_u".into(), token }
    }

    pub(crate) fn swift(&self, user: &str) -> Swift<'_> {
        let (name, key) = (format!("{user}:swift"), format!("{user}secret"));
        let headers = [("x-auth-user", name.as_str()), ("x-auth-key", key.as_str())];
        let answer = self.plain("GET", "/auth/v1.0", &headers, b"");
        assert_eq!(answer.status, 200, "{}", answer.text());
        assert_eq!(answer.headers["x-storage-token"], answer.headers["x-auth-token"]);
        assert_eq!(answer.headers["x-auth-token-expires"], "86400");
        let url = format!("http://{}/v1/AUTH_{user}", self.client.address);
        assert_eq!(answer.headers["x-storage-url"], url);
        let token = answer.headers["x-auth-token"].clone();
        Swift { world: self, account: format!("/v1/AUTH_{user}"), token }
    }
}

impl Swift<'_> {
    pub(crate) fn with(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Answer {
        let own = ("x-auth-token", self.token.as_str());
        let headers = match self.token.is_empty() {
            true => headers.to_vec(),
            false => [headers, &[own]].concat(),
        };
        let answer = self.world.plain(method, &format!("{}{path}", self.account), &headers, body);
        assert!(answer.headers["x-trans-id"].starts_with("tx"));
        assert_eq!(answer.headers["x-openstack-request-id"], answer.headers["x-trans-id"]);
        assert!(answer.headers.contains_key("date"));
        answer
    }

    pub(crate) fn ask(&self, method: &str, path: &str, body: &[u8]) -> Answer {
        self.with(method, path, &[], body)
    }

    pub(crate) fn status(&self, method: &str, path: &str, headers: &[(&str, &str)]) -> u16 {
        self.with(method, path, headers, b"").status
    }

    pub(crate) fn names(&self, path: &str) -> Vec<String> {
        self.ask("GET", path, b"").text().lines().map(str::to_owned).collect()
    }
}

#[test]
fn tokens_are_given_to_those_with_a_key() {
    let world = World::new();
    let swift = world.swift("u");
    assert_eq!(swift.status("HEAD", "", &[]), 204);
    for (name, key) in [("u", "usecret"), ("u:u", "usecret"), ("u:anything", "usecret")] {
        let headers = [("x-auth-user", name), ("x-auth-key", key)];
        assert_eq!(world.plain("GET", "/auth/1.0", &headers, b"").status, 200, "{name}");
    }
    for (name, key) in [("u", "wrong"), ("w", "usecret"), ("", ""), ("v:u", "usecret")] {
        let headers = [("x-auth-user", name), ("x-auth-key", key)];
        assert_eq!(world.plain("GET", "/auth/v1.0", &headers, b"").status, 401, "{name}");
    }
    assert_eq!(world.plain("GET", "/auth/v1.0", &[], b"").status, 401);
    assert_eq!(world.plain("PUT", "/auth/v1.0", &[], b"").status, 405);
    let info = world.plain("GET", "/info", &[], b"");
    assert_eq!(info.status, 200);
    assert!(info.text().contains("\"container_listing_limit\":10000"), "{}", info.text());
    assert!(info.text().contains("\"slo\"") && !info.text().contains("container_sync"));
}

#[test]
fn strangers_and_nobody_reach_nothing() {
    let world = World::new();
    let owner = world.swift("u");
    assert_eq!(owner.status("PUT", "/c", &[]), 201);
    assert_eq!(owner.ask("PUT", "/c/o", b"body").status, 201);
    let stranger = Swift { account: owner.account.clone(), ..world.swift("v") };
    let forged = Swift { account: owner.account.clone(), token: "AUTH_tkAAAA".into(), ..owner };
    let copy = [("destination", "c/p")];
    for method in ["GET", "HEAD", "PUT", "POST", "DELETE", "COPY", "PATCH"] {
        for path in ["", "/c", "/c/o", "/none", "/none/o"] {
            assert_eq!(stranger.status(method, path, &copy), 403, "{method} {path}");
            assert_eq!(forged.status(method, path, &copy), 401, "{method} {path}");
            let target = format!("/v1/AUTH_u{path}");
            let nobody = world.plain(method, &target, &copy, b"");
            assert_eq!(nobody.status, 401, "{method} {path}");
            assert!(nobody.headers["www-authenticate"].starts_with("Swift realm="));
        }
    }
    // A container of another is none of mine, and none to copy from or to.
    let other = world.swift("v");
    assert_eq!(other.status("HEAD", "/c", &[]), 404);
    assert_eq!(other.status("PUT", "/mine", &[]), 201);
    assert_eq!(other.status("HEAD", "/c", &[]), 404);
    assert_eq!(other.status("GET", "/c/o", &[]), 404);
    assert_eq!(other.status("DELETE", "/c/o", &[]), 404);
    assert_eq!(other.status("PUT", "/mine/o", &[("x-copy-from", "/c/o")]), 404);
    let of_u = [("x-copy-from", "/c/o"), ("x-copy-from-account", "AUTH_u")];
    assert_eq!(other.status("PUT", "/mine/o", &of_u), 403);
    assert_eq!(other.ask("PUT", "/mine/o", b"x").status, 201);
    let to_u = [("destination", "c/p"), ("destination-account", "AUTH_u")];
    assert_eq!(other.status("COPY", "/mine/o", &to_u), 403);
    assert_eq!(other.status("COPY", "/mine/o", &[("destination", "c/p")]), 404);
    // Administrators may.
    let root = Swift { account: "/v1/AUTH_u".into(), ..world.swift("a") };
    assert_eq!(root.ask("GET", "/c/o", b"").text(), "body");
    assert_eq!(root.names("/c"), ["o"]);
    let unknown = Swift { account: "/v1/AUTH_none".into(), ..root };
    assert_eq!(unknown.status("PUT", "/x", &[]), 404);
}

#[test]
fn what_a_policy_denies_is_denied_over_both() {
    let world = World::new();
    let swift = world.swift("u");
    assert_eq!(swift.ask("PUT", "/bucket/o", b"body").status, 201);
    for (action, resource, denied) in [
        ("s3:GetObject", "bucket/*", [("GET", "/bucket/o"), ("COPY", "/bucket/o")]),
        ("s3:ListBucket", "bucket", [("GET", "/bucket"), ("HEAD", "/bucket")]),
        ("s3:PutObject", "bucket/*", [("PUT", "/bucket/o"), ("POST", "/bucket/o")]),
        ("s3:DeleteObject", "bucket/*", [("DELETE", "/bucket/o"), ("DELETE", "/bucket/none")]),
        ("s3:PutBucketTagging", "bucket", [("POST", "/bucket"), ("POST", "/bucket?x")]),
    ] {
        let policy = format!(
            r#"{{"Version":"2012-10-17","Statement":{{"Effect":"Deny","Principal":"*","Action":"{action}","Resource":"arn:aws:s3:::{resource}"}}}}"#
        );
        let set = world.client.ask("PUT", "/bucket?policy", policy.as_bytes());
        assert_eq!(set.status, 204, "{}", set.text());
        for (method, path) in denied {
            let status = swift.status(method, path, &[("destination", "bucket/p")]);
            assert_eq!(status, 403, "{action}: {method} {path}");
        }
    }
    assert_eq!(world.client.ask("DELETE", "/bucket?policy", b"").status, 204);
    assert_eq!(swift.ask("GET", "/bucket/o", b"").text(), "body");
}

#[test]
fn accounts_list_and_keep_metadata() {
    let world = World::new();
    let swift = world.swift("u");
    for name in ["a", "b-1", "b-2", "c"] {
        assert_eq!(swift.status("PUT", &format!("/{name}"), &[]), 201);
    }
    assert_eq!(swift.ask("PUT", "/a/o", b"12345").status, 201);
    let head = swift.ask("HEAD", "", b"");
    assert_eq!(head.headers["x-account-container-count"], "5");
    assert_eq!(head.headers["x-account-object-count"], "1");
    assert_eq!(head.headers["x-account-bytes-used"], "5");
    assert_eq!(swift.names(""), ["a", "b-1", "b-2", "bucket", "c"]);
    assert_eq!(swift.names("?limit=2&marker=a"), ["b-1", "b-2"]);
    assert_eq!(swift.names("?end_marker=b-2"), ["a", "b-1"]);
    assert_eq!(swift.names("?prefix=b-"), ["b-1", "b-2"]);
    assert_eq!(swift.names("?delimiter=-"), ["a", "b-", "bucket", "c"]);
    assert_eq!(swift.names("?reverse=true&limit=2"), ["c", "bucket"]);
    assert_eq!(swift.names("?reverse=true&marker=b-2&end_marker=a"), ["b-1"]);
    let json = swift.ask("GET", "?format=json&limit=1", b"");
    assert!(json.text().contains("\"count\":1") && json.text().contains("\"bytes\":5"));
    let xml = swift.ask("GET", "?format=xml", b"");
    assert_eq!(xml.elements("name"), ["a", "b-1", "b-2", "bucket", "c"]);
    assert_eq!(xml.elements("storage_policy").len(), 5);
    assert_eq!(swift.status("GET", "?limit=10001", &[]), 412);
    assert_eq!(swift.status("GET", "", &[("accept", "image/png")]), 406);
    assert_eq!(swift.status("GET", "?marker=z", &[]), 204);
    assert_eq!(swift.status("DELETE", "", &[]), 405);

    assert_eq!(
        swift.status("POST", "", &[("x-account-meta-a", "1"), ("x-account-meta-b", "2")]),
        204
    );
    assert_eq!(swift.status("POST", "", &[("x-remove-account-meta-a", "x")]), 204);
    let head = swift.ask("HEAD", "", b"");
    assert_eq!(head.headers["x-account-meta-b"], "2");
    assert!(!head.headers.contains_key("x-account-meta-a"));
    assert_eq!(swift.status("POST", "", &[("x-account-meta-a", &"x".repeat(257))]), 400);
    assert_eq!(swift.status("POST", "", &[("x-account-access-control", "{}")]), 204);
    assert_eq!(swift.status("POST", "", &[("x-account-access-control", "x")]), 400);
}

#[test]
fn containers_come_list_and_go() {
    let world = World::new();
    let swift = world.swift("u");
    for name in ["/Upper_Case%20and%20%C3%A9", &format!("/{}", "n".repeat(256))] {
        assert_eq!(swift.status("PUT", name, &[]), 201, "{name}");
        assert_eq!(swift.status("PUT", name, &[]), 202);
        assert_eq!(swift.status("DELETE", name, &[]), 204);
        assert_eq!(swift.status("HEAD", name, &[]), 404);
    }
    assert_eq!(swift.status("PUT", &format!("/{}", "n".repeat(257)), &[]), 400);
    assert_eq!(swift.status("PUT", "/c", &[("x-storage-policy", "none")]), 400);
    assert_eq!(swift.status("PUT", "/c", &[("x-container-read", ".x:*")]), 400);
    assert_eq!(swift.status("PUT", "/c", &[("x-container-sync-to", "x")]), 501);
    let meta = [("x-container-meta-color", "red"), ("x-container-meta-size", "3")];
    assert_eq!(swift.status("PUT", "/c", &meta), 201);
    assert_eq!(swift.status("POST", "/c", &[("x-container-meta-color", "")]), 204);
    assert_eq!(swift.status("POST", "/none", &[]), 404);
    assert_eq!(swift.status("GET", "/c", &[]), 204);
    for key in ["a", "d/", "d/1", "d/2", "d/e/3", "z"] {
        assert_eq!(swift.ask("PUT", &format!("/c/{key}"), key.as_bytes()).status, 201);
    }
    let head = swift.ask("HEAD", "/c", b"");
    assert_eq!(head.status, 204);
    assert_eq!(head.headers["x-container-object-count"], "6");
    assert_eq!(head.headers["x-container-bytes-used"], "15");
    assert_eq!(head.headers["x-container-meta-size"], "3");
    assert!(!head.headers.contains_key("x-container-meta-color"));
    assert!(head.headers.contains_key("x-timestamp") && head.headers.contains_key("last-modified"));

    assert_eq!(swift.names("/c"), ["a", "d/", "d/1", "d/2", "d/e/3", "z"]);
    assert_eq!(swift.names("/c?delimiter=/"), ["a", "d/", "z"]);
    assert_eq!(swift.names("/c?delimiter=/&marker=d/"), ["z"]);
    assert_eq!(swift.names("/c?delimiter=/&prefix=d/"), ["d/", "d/1", "d/2", "d/e/"]);
    assert_eq!(swift.names("/c?path=d"), ["d/1", "d/2"]);
    assert_eq!(swift.names("/c?path="), ["a", "d/", "z"]);
    assert_eq!(swift.names("/c?marker=d/1&end_marker=z"), ["d/2", "d/e/3"]);
    assert_eq!(swift.names("/c?limit=2"), ["a", "d/"]);
    assert_eq!(swift.names("/c?limit=0"), Vec::<String>::new());
    assert_eq!(swift.names("/c?reverse=on&limit=2"), ["z", "d/e/3"]);
    assert_eq!(swift.names("/c?reverse=on&marker=d/2&end_marker=a"), ["d/1", "d/"]);
    assert_eq!(swift.names("/c?reverse=on&delimiter=/"), ["z", "d/", "a"]);
    let json = swift.with("GET", "/c?delimiter=/", &[("accept", "application/json")], b"").text();
    assert!(
        json.contains("\"subdir\":\"d/\"")
            && json.contains("\"content_type\":\"application/octet-stream\"")
    );
    assert!(json.contains("\"hash\":\"0cc175b9c0f1b6a831c399e269772661\""), "{json}");
    let xml = swift.ask("GET", "/c?format=xml&prefix=d/e", b"");
    assert_eq!(xml.elements("bytes"), ["5"]);
    assert_eq!(swift.status("DELETE", "/c", &[]), 409);
    assert_eq!(swift.status("DELETE", "/none", &[]), 404);
    assert_eq!(swift.status("COPY", "/c", &[]), 405);
}

#[test]
fn objects_are_written_and_read() {
    let world = World::new();
    let swift = world.swift("u");
    let mib = 1 << 20;
    for size in [0, 1, 32 << 10, (32 << 10) + 1, mib, 5 * mib + 7] {
        let body = noise(size);
        let put = swift.ask("PUT", "/bucket/k", &body);
        assert_eq!(put.status, 201, "{}", put.text());
        let got = swift.ask("GET", "/bucket/k", b"");
        assert!(got.body == body, "{size} bytes came back changed");
        assert_eq!(got.headers["etag"], put.headers["etag"]);
        assert!(!got.headers["etag"].contains('"'));
        // The same in chunks, of which nobody said the length.
        let chunked: Vec<u8> = body
            .chunks(70_000)
            .flat_map(|chunk| {
                [format!("{:x}\r\n", chunk.len()).as_bytes(), chunk, b"\r\n"].concat()
            })
            .chain(*b"0\r\n\r\n")
            .collect();
        let put = swift.with("PUT", "/bucket/l", &[("transfer-encoding", "chunked")], &chunked);
        assert_eq!(put.status, 201, "{}", put.text());
        assert_eq!(put.headers["etag"], got.headers["etag"]);
        assert!(swift.ask("GET", "/bucket/l", b"").body == body, "{size} bytes in chunks");
        let head = swift.ask("HEAD", "/bucket/l", b"");
        assert_eq!(head.headers["content-length"], size.to_string());
    }
    assert_eq!(swift.status("DELETE", "/bucket/k", &[]), 204);
    assert_eq!(swift.status("DELETE", "/bucket/k", &[]), 404);
    assert_eq!(swift.status("DELETE", "/bucket/l", &[]), 204);
    world.data_objects_become(0);
    assert_eq!(swift.status("GET", "/bucket/l", &[]), 404);
    assert_eq!(swift.ask("PUT", "/none/o", b"1").status, 404);
    assert_eq!(swift.ask("PUT", &format!("/bucket/{}", "k".repeat(1025)), b"").status, 400);
}

#[test]
fn a_chunked_body_that_breaks_off_leaves_nothing() {
    // What ends the body is the client's leaving, however long a busy machine takes to send it.
    let shared = crate::shared();
    let settings = store_gateway::s3::Settings {
        body_idle: std::time::Duration::from_secs(60),
        ..store_gateway::s3::Settings::clone(&shared.settings)
    };
    let world = World::with(crate::Shared { settings: settings.into(), ..shared });
    let swift = world.swift("u");
    let head = format!(
        "PUT /v1/AUTH_u/bucket/k HTTP/1.1\r\nhost: h\r\nx-auth-token: {}\r\ntransfer-encoding: chunked\r\n\r\n200000\r\n",
        swift.token
    );
    let beginning = [head.as_bytes(), &noise(3 << 19)].concat();
    let mut stream = world.client.connect();
    stream.write_all(&beginning).unwrap();
    // The first piece is written: there is something to leave.
    world.data_objects_become(1);
    drop(stream);
    world.data_objects_become(0);
    assert_eq!(swift.status("HEAD", "/bucket/k", &[]), 404);
}

#[test]
fn what_has_ended_is_removed_and_nothing_else() {
    let shared = crate::shared();
    let sweep = store_gateway::catalogue::sweep::Sweep {
        chores_every: std::time::Duration::from_millis(50),
        ..shared.sweep
    };
    let world = World::with(crate::Shared { sweep, ..shared });
    let swift = world.swift("u");
    let large = noise(100_000);
    let after = |seconds: &'static str| [("x-delete-after", seconds)];
    for key in ["gone", "kept", "renewed"] {
        let put = swift.with("PUT", &format!("/bucket/{key}"), &after("2"), &large);
        assert_eq!(put.status, 201);
    }
    assert_eq!(swift.with("PUT", "/bucket/stays", &after("1000"), &large).status, 201);
    // One is written anew without an end, one is given another.
    assert_eq!(swift.ask("PUT", "/bucket/kept", &large).status, 201);
    assert_eq!(swift.status("POST", "/bucket/renewed", &after("1000")), 202);
    world.data_objects_become(4);
    world.data_objects_become(3);
    assert_eq!(swift.names("/bucket"), ["kept", "renewed", "stays"]);
    for key in ["kept", "renewed", "stays"] {
        assert!(swift.ask("GET", &format!("/bucket/{key}"), b"").body == large, "{key}");
    }
}

#[test]
fn writes_are_checked_and_described() {
    let world = World::new();
    let swift = world.swift("u");
    let put = |path: &str, headers: &[(&str, &str)]| swift.with("PUT", path, headers, b"hello");
    let md5 = "5d41402abc4b2a76b9719d911017c592";
    assert_eq!(put("/bucket/a.txt", &[("etag", md5)]).headers["etag"], md5);
    assert_eq!(put("/bucket/a.txt", &[("etag", &"0".repeat(32))]).status, 422);
    assert_eq!(put("/bucket/a.txt", &[("etag", "none")]).status, 422);
    assert_eq!(put("/bucket/a.txt", &[("if-none-match", "*")]).status, 412);
    assert_eq!(put("/bucket/b", &[("if-none-match", "*")]).status, 201);
    assert_eq!(put("/bucket/b", &[("if-none-match", "x")]).status, 400);
    assert_eq!(put("/bucket/b", &[("x-delete-at", "1")]).status, 400);
    assert_eq!(put("/bucket/b", &[("x-delete-after", "x")]).status, 400);
    assert_eq!(put("/bucket/b", &[("x-object-manifest", "c")]).status, 400);
    assert_eq!(put("/bucket/b?multipart-manifest=put", &[]).status, 400);
    assert_eq!(put("/bucket/b", &[("x-object-meta-", "1")]).status, 400);
    assert_eq!(swift.ask("HEAD", "/bucket/a.txt", b"").headers["content-type"], "text/plain");

    let described = [
        ("content-type", "text/x"),
        ("content-encoding", "gzip"),
        ("content-disposition", "inline"),
        ("x-object-meta-color", "red"),
        ("x-delete-at", "9999999999"),
    ];
    assert_eq!(put("/bucket/o", &described).status, 201);
    let head = swift.ask("HEAD", "/bucket/o", b"");
    for (name, value) in described {
        assert_eq!(head.headers[name], value);
    }
    // A POST replaces all but the content type.
    assert_eq!(swift.status("POST", "/bucket/o", &[("x-object-meta-size", "3")]), 202);
    let head = swift.ask("HEAD", "/bucket/o", b"");
    assert_eq!(head.headers["content-type"], "text/x");
    assert_eq!(head.headers["x-object-meta-size"], "3");
    for gone in ["x-object-meta-color", "content-encoding", "content-disposition", "x-delete-at"] {
        assert!(!head.headers.contains_key(gone), "{gone}");
    }
    assert_eq!(swift.ask("GET", "/bucket/o", b"").text(), "hello");
    assert_eq!(swift.status("POST", "/bucket/none", &[]), 404);

    // What has ended is not there any more.
    assert_eq!(swift.status("POST", "/bucket/o", &[("x-delete-after", "1")]), 202);
    std::thread::sleep(std::time::Duration::from_millis(2100));
    for method in ["GET", "HEAD", "POST", "DELETE"] {
        assert_eq!(swift.status(method, "/bucket/o", &[]), 404, "{method}");
    }
}

#[test]
fn reads_know_ranges_and_conditions() {
    let world = World::new();
    let swift = world.swift("u");
    for (key, size) in [("small", 1000), ("large", 3 << 20)] {
        let path = format!("/bucket/{key}");
        let body = noise(size);
        let etag = swift.ask("PUT", &path, &body).headers["etag"].clone();
        let get = |name: &str, value: &str| swift.with("GET", &path, &[(name, value)], b"");
        let one = get("range", "bytes=10-19");
        assert_eq!((one.status, &one.body[..]), (206, &body[10..20]));
        assert_eq!(one.headers["content-range"], format!("bytes 10-19/{size}"));
        let several = get("range", "bytes=0-4,-5,999999999-");
        assert_eq!(several.status, 206);
        let boundary = several.headers["content-type"].split_once("boundary=").unwrap().1;
        let part = |range: String, bytes: &[u8]| {
            let head = format!(
                "--{boundary}\r\nContent-Type: application/octet-stream\r\nContent-Range: bytes {range}/{size}\r\n\r\n"
            );
            [head.as_bytes(), bytes, b"\r\n"].concat()
        };
        let expected = [
            part("0-4".into(), &body[..5]),
            part(format!("{}-{}", size - 5, size - 1), &body[size - 5..]),
            format!("--{boundary}--").into_bytes(),
        ]
        .concat();
        assert!(several.body == expected, "{}", several.text());
        let beyond = get("range", "bytes=999999999-");
        assert_eq!(beyond.status, 416);
        assert_eq!(beyond.headers["content-range"], format!("bytes */{size}"));
        assert_eq!(get("range", "bytes=9-1").body.len(), size);
        assert_eq!(get("if-none-match", &etag).status, 304);
        assert_eq!(get("if-match", &etag).status, 200);
        assert_eq!(get("if-match", &"0".repeat(32)).status, 412);
        let whole = swift.ask("GET", &path, b"");
        assert_eq!(whole.headers["accept-ranges"], "bytes");
        let modified = whole.headers["last-modified"].clone();
        assert_eq!(get("if-modified-since", &modified).status, 304);
        assert_eq!(get("if-unmodified-since", &modified).status, 200);
        assert_eq!(get("if-unmodified-since", "Fri, 24 May 2013 00:00:00 GMT").status, 412);
    }
}

#[test]
fn copies_keep_or_replace_metadata() {
    let world = World::new();
    let swift = world.swift("u");
    assert_eq!(swift.status("PUT", "/Other", &[]), 201);
    let body = noise(100_000);
    let described =
        [("content-type", "text/x"), ("x-object-meta-a", "1"), ("x-object-meta-b", "2")];
    assert_eq!(swift.with("PUT", "/bucket/s%20o", &described, &body).status, 201);
    let copy = swift.with(
        "COPY",
        "/bucket/s%20o",
        &[("destination", "Other/d"), ("x-object-meta-b", "3")],
        b"",
    );
    assert_eq!(copy.status, 201, "{}", copy.text());
    assert_eq!(copy.headers["x-copied-from"], "bucket/s%20o");
    let got = swift.ask("GET", "/Other/d", b"");
    assert!(got.body == body);
    assert_eq!(
        (got.headers["x-object-meta-a"].as_str(), got.headers["x-object-meta-b"].as_str()),
        ("1", "3")
    );
    assert_eq!(got.headers["content-type"], "text/x");
    let fresh =
        [("x-copy-from", "/bucket/s%20o"), ("x-fresh-metadata", "true"), ("x-object-meta-c", "4")];
    assert_eq!(swift.status("PUT", "/Other/e", &fresh), 201);
    let head = swift.ask("HEAD", "/Other/e", b"");
    assert_eq!(head.headers["x-object-meta-c"], "4");
    assert!(!head.headers.contains_key("x-object-meta-a"));
    // Onto itself.
    assert_eq!(swift.status("COPY", "/Other/e", &[("destination", "Other/e")]), 201);
    assert!(swift.ask("GET", "/Other/e", b"").body == body);
    assert_eq!(swift.status("COPY", "/Other/e", &[]), 412);
    assert_eq!(swift.status("COPY", "/Other/e", &[("destination", "Other")]), 412);
    assert_eq!(swift.status("COPY", "/Other/none", &[("destination", "Other/x")]), 404);
    assert_eq!(swift.status("COPY", "/Other/e", &[("destination", "none/x")]), 404);
    let with_body = swift.with("PUT", "/Other/f", &[("x-copy-from", "/Other/e")], b"x");
    assert_eq!(with_body.status, 400);
    let unmatched = [("x-copy-from", "/Other/e"), ("if-match", "00000000000000000000000000000000")];
    assert_eq!(swift.status("PUT", "/Other/f", &unmatched), 412);
}

#[test]
fn both_protocols_see_the_same() {
    let world = World::new();
    let (swift, s3) = (world.swift("u"), &world.client);
    let headers = [("content-type", "text/x"), ("x-amz-meta-color", "red")];
    assert_eq!(s3.ask_with("PUT", "/bucket/from-s3", &headers, b"over s3").status, 200);
    let got = swift.ask("GET", "/bucket/from-s3", b"");
    assert_eq!(got.text(), "over s3");
    assert_eq!(got.headers["x-object-meta-color"], "red");
    assert_eq!(got.headers["content-type"], "text/x");
    assert_eq!(swift.status("POST", "/bucket/from-s3", &[("x-object-meta-color", "blue")]), 202);
    assert_eq!(world.get("/bucket/from-s3").headers["x-amz-meta-color"], "blue");

    let big = noise(2 << 20);
    assert_eq!(
        swift.with("PUT", "/bucket/from-swift", &[("x-object-meta-a", "1")], &big).status,
        201
    );
    let got = world.get("/bucket/from-swift");
    assert!(got.body == big);
    assert_eq!(got.headers["x-amz-meta-a"], "1");
    assert_eq!(world.get("/bucket?list-type=2").elements("Key"), ["from-s3", "from-swift"]);
    assert_eq!(swift.names("/bucket"), ["from-s3", "from-swift"]);
    assert_eq!(s3.ask("DELETE", "/bucket/from-swift", b"").status, 204);
    assert_eq!(swift.status("HEAD", "/bucket/from-swift", &[]), 404);
    assert_eq!(swift.status("PUT", "/Made_by_Swift", &[]), 201);
    assert_eq!(s3.ask("PUT", "/Made_by_Swift/k", b"x").status, 200);
    assert_eq!(swift.names("/Made_by_Swift"), ["k"]);

    // In a bucket with versions a DELETE hides what was there.
    let on = b"<VersioningConfiguration><Status>Enabled</Status></VersioningConfiguration>";
    assert_eq!(s3.ask("PUT", "/bucket?versioning", on).status, 200);
    assert_eq!(swift.status("DELETE", "/bucket/from-s3", &[]), 204);
    assert_eq!(swift.status("DELETE", "/bucket/from-s3", &[]), 404);
    assert_eq!(swift.status("POST", "/bucket/from-s3", &[]), 404);
    assert_eq!(swift.ask("HEAD", "/bucket", b"").headers["x-container-object-count"], "0");
    assert_eq!(swift.status("DELETE", "/bucket", &[]), 409);
    // A bucket that is named like a path of Swift is reached by signed requests.
    assert_eq!(s3.ask("PUT", "/info", b"").status, 200);
    let signed = s3.sign("GET", "/info", &[], b"", Hash::OfBody);
    let mut stream = s3.connect();
    stream.write_all(format!("{}connection: close\r\n\r\n", signed.head).as_bytes()).unwrap();
    let listed = read_answer(&mut stream, "GET").unwrap();
    assert_eq!(listed.element("Name").as_deref(), Some("info"));
}
