//! Large objects and links of Swift: made, read in ranges, refused and deleted; the same bytes over S3.

use crate::swift::Swift;
use crate::{World, noise};
use store_base::error::Error;
use store_gateway::cluster::INDEX_POOL;

fn md5(bytes: &[u8]) -> String {
    use md5::{Digest, Md5};
    hex::encode(Md5::digest(bytes))
}

/// Three segments in a container, and their bytes together.
fn segments(swift: &Swift<'_>) -> Vec<u8> {
    assert_eq!(swift.status("PUT", "/seg", &[]), 201);
    let mut whole = Vec::new();
    for (name, size) in [("a", 70_000), ("b", 10), ("c", 3 << 20)] {
        let body: Vec<u8> = noise(size).iter().map(|byte| byte ^ name.as_bytes()[0]).collect();
        assert_eq!(swift.ask("PUT", &format!("/seg/{name}"), &body).status, 201);
        whole.extend(body);
    }
    whole
}

/// The entity tag of a large object as its container's listing has it.
fn listed_tag(swift: &Swift<'_>, name: &str) -> String {
    let listed = swift.ask("GET", &format!("/bucket?format=json&prefix={name}"), b"").text();
    let tag = listed.split("\"slo_etag\":").nth(1).expect("the tag of a large object");
    tag.split([',', '}']).next().unwrap_or_default().to_owned()
}

const ALL: &str = r#"[{"path":"/seg/a"},{"path":"/seg/b"},{"path":"seg/c"}]"#;

#[test]
fn static_large_objects_are_bytes_to_both_protocols() {
    let world = World::new();
    let swift = world.swift("u");
    let whole = segments(&swift);
    let put = swift.ask("PUT", "/bucket/l?multipart-manifest=put", ALL.as_bytes());
    assert_eq!(put.status, 201, "{}", put.text());
    let got = swift.ask("GET", "/bucket/l", b"");
    assert!(got.body == whole, "the segments came back changed");
    assert_eq!(got.headers["x-static-large-object"], "True");
    assert_eq!(got.headers["etag"], put.headers["etag"]);
    let over_s3 = world.get("/bucket/l");
    assert!(over_s3.body == whole, "S3 reads other bytes");
    // Over S3 the tag says how many segments there are, in listings too: it is not the MD5 of the bytes.
    let tag = over_s3.headers["etag"].clone();
    assert_eq!(tag, format!("{}-3\"", put.headers["etag"].trim_end_matches('"')));
    assert!(world.get("/bucket?list-type=2&prefix=l").text().contains(tag.trim_matches('"')));
    assert!(!listed_tag(&swift, "l").contains('-'));
    let unchanged = [("if-none-match", tag.as_str())];
    assert_eq!(world.client.ask_with("GET", "/bucket/l", &unchanged, b"").status, 304);
    assert_eq!(world.get("/bucket?list-type=2").elements("Size"), [whole.len().to_string()]);
    for (first, last) in [(0, 0), (69_999, 70_010), (70_005, 70_005), (0, whole.len() - 1)] {
        let range = format!("bytes={first}-{last}");
        let part = swift.with("GET", "/bucket/l", &[("range", &range)], b"");
        assert!(part.status == 206 && part.body == whole[first..=last], "{range}");
        let part = world.client.ask_with("GET", "/bucket/l", &[("range", &range)], b"");
        assert!(part.status == 206 && part.body == whole[first..=last], "{range} over S3");
    }
    let etag = put.headers["etag"].clone();
    assert_eq!(swift.status("GET", "/bucket/l", &[("if-none-match", &etag)]), 304);
    assert_eq!(swift.status("GET", "/bucket/l", &[("if-match", "\"0\"")]), 412);
    let part = swift.ask("GET", "/bucket/l?part-number=2", b"");
    assert_eq!((part.status, part.body.len()), (206, 10));
    assert_eq!(part.headers["x-parts-count"], "3");
    assert_eq!(swift.status("GET", "/bucket/l?part-number=4", &[]), 416);
    assert_eq!(swift.status("GET", "/bucket/l?part-number=0", &[]), 400);

    let manifest = swift.ask("GET", "/bucket/l?multipart-manifest=get", b"");
    assert_eq!(manifest.headers["etag"], md5(&manifest.body));
    assert!(manifest.text().contains("\"name\":\"/seg/b\""));
    let listed = swift.ask("GET", "/bucket?format=json", b"").text();
    assert!(listed.contains(&format!("\"hash\":\"{}\"", md5(&manifest.body))), "{listed}");
    assert!(listed.contains(&format!("\"bytes\":{}", whole.len())) && listed.contains("slo_etag"));
    let raw = swift.ask("GET", "/bucket/l?multipart-manifest=get&format=raw", b"");
    assert_eq!(swift.ask("PUT", "/bucket/m?multipart-manifest=put", &raw.body).status, 201);
    // A copy is a plain object, unless the manifest is asked for.
    assert_eq!(swift.status("COPY", "/bucket/l", &[("destination", "bucket/plain")]), 201);
    let plain = swift.ask("GET", "/bucket/plain", b"");
    assert!(plain.body == whole && !plain.headers.contains_key("x-static-large-object"));
    let copy = [("destination", "bucket/copy")];
    assert_eq!(swift.status("COPY", "/bucket/l?multipart-manifest=get", &copy), 201);
    assert_eq!(swift.ask("HEAD", "/bucket/copy", b"").headers["x-static-large-object"], "True");
    let from = [("x-amz-copy-source", "/bucket/l")];
    assert_eq!(world.client.ask_with("PUT", "/bucket/s3copy", &from, b"").status, 200);
    assert!(world.get("/bucket/s3copy").body == whole, "S3 copied other bytes");
    // A POST leaves it what it is.
    assert_eq!(swift.status("POST", "/bucket/l", &[("x-object-meta-a", "1")]), 202);
    assert!(swift.ask("GET", "/bucket/l", b"").body == whole);

    // Another segment under the same name is not the one that was put.
    assert_eq!(swift.ask("PUT", "/seg/a", b"other").status, 201);
    assert_eq!(swift.status("GET", "/bucket/l", &[]), 409);
    assert_eq!(swift.with("GET", "/bucket/l", &[("range", "bytes=-10")], b"").status, 206);
    let gone = swift.ask("DELETE", "/bucket/l?multipart-manifest=delete", b"");
    assert_eq!(gone.status, 200);
    assert!(gone.text().contains("Number Deleted: 4"), "{}", gone.text());
    assert_eq!(swift.names("/seg"), Vec::<String>::new());
}

#[test]
fn manifests_are_checked_before_they_are_kept() {
    let world = World::new();
    let swift = world.swift("u");
    segments(&swift);
    let put = |body: &str| swift.ask("PUT", "/bucket/l?multipart-manifest=put", body.as_bytes());
    for (body, expected) in [
        ("x", "valid JSON"),
        (r#"[{"path":"/seg/none"}]"#, "/seg/none, 404 Not Found"),
        (r#"[{"path":"/seg/b","size_bytes":11}]"#, "Size Mismatch"),
        (r#"[{"path":"/seg/b","etag":"x"}]"#, "Etag Mismatch"),
        (r#"[{"path":"/seg/b","range":"10-"}]"#, "Unsatisfiable Range"),
        (r#"[{"path":"/bucket/l"}]"#, "must not include itself"),
    ] {
        let answer = put(body);
        assert_eq!(answer.status, 400, "{body}");
        assert!(answer.text().contains(expected), "{body}: {}", answer.text());
    }
    let tag = [("etag", "00000000000000000000000000000000")];
    let wrong = swift.with("PUT", "/bucket/l?multipart-manifest=put", &tag, ALL.as_bytes());
    assert_eq!(wrong.status, 422);
    assert_eq!(swift.status("HEAD", "/bucket/l", &[]), 404);
    // Ranges, bytes in the manifest, and one within the other.
    let body =
        r#"[{"path":"/seg/b","range":"2-4"},{"data":"QUI="},{"path":"/seg/b","range":"-1"}]"#;
    assert_eq!(put(body).status, 201);
    let b = swift.ask("GET", "/seg/b", b"").body;
    let expected = [&b[2..5], b"AB", &b[9..]].concat();
    assert_eq!(swift.ask("GET", "/bucket/l", b"").body, expected);
    let nested = r#"[{"path":"/bucket/l","range":"1-4"},{"path":"/seg/b"}]"#;
    let made = swift.ask("PUT", "/bucket/n?multipart-manifest=put", nested.as_bytes());
    assert_eq!(made.status, 201, "{}", made.text());
    assert_eq!(swift.ask("GET", "/bucket/n", b"").body, [&expected[1..5], &b[..]].concat());
    assert_eq!(world.get("/bucket/n").body, [&expected[1..5], &b[..]].concat());
    // One that is named by its tag, as Swift told it.
    let tag = swift.ask("HEAD", "/bucket/l", b"").headers["etag"].clone();
    let named = format!(r#"[{{"path":"/bucket/l","etag":"{}"}}]"#, tag.trim_matches('"'));
    let made = swift.ask("PUT", "/bucket/o?multipart-manifest=put", named.as_bytes());
    assert_eq!(made.status, 201, "{}", made.text());
    assert_eq!(swift.ask("GET", "/bucket/o", b"").body, expected);
}

#[test]
fn uploads_in_parts_say_that_their_tag_is_not_of_the_body() {
    let world = World::new();
    let swift = world.swift("u");
    let upload = world.client.ask("POST", "/bucket/k?uploads", b"").element("UploadId").unwrap();
    let part = noise(1000);
    let target = format!("/bucket/k?partNumber=1&uploadId={upload}");
    let tag = world.client.ask("PUT", &target, &part).headers["etag"].clone();
    let done = format!(
        "<CompleteMultipartUpload><Part><PartNumber>1</PartNumber><ETag>{tag}</ETag></Part></CompleteMultipartUpload>"
    );
    let target = format!("/bucket/k?uploadId={upload}");
    assert_eq!(world.client.ask("POST", &target, done.as_bytes()).status, 200);
    let got = swift.ask("GET", "/bucket/k", b"");
    assert!(got.body == part && got.headers["etag"].ends_with("-1"));
    assert_eq!(got.headers["x-static-large-object"], "True");
    // There are no segments: who copies or deletes it takes the whole.
    assert!(!swift.ask("HEAD", "/bucket/k", b"").headers.contains_key("x-static-large-object"));
    assert_eq!(swift.status("COPY", "/bucket/k", &[("destination", "bucket/c")]), 201);
    let copy = swift.ask("GET", "/bucket/c", b"");
    assert!(copy.body == part && copy.headers["etag"] == md5(&part));
    assert!(!copy.headers.contains_key("x-static-large-object"));
    assert_eq!(swift.status("DELETE", "/bucket/k", &[]), 204);
}

#[test]
fn dynamic_large_objects_are_what_begins_so() {
    let world = World::new();
    let swift = world.swift("u");
    let whole = segments(&swift);
    assert_eq!(swift.status("PUT", "/bucket/d", &[("x-object-manifest", "seg/")]), 400);
    for (name, body) in [("p/1", "one "), ("p/2", "two"), ("q", "no")] {
        assert_eq!(swift.ask("PUT", &format!("/seg/{name}"), body.as_bytes()).status, 201);
    }
    assert_eq!(swift.status("PUT", "/bucket/d", &[("x-object-manifest", "seg/p%2F")]), 201);
    let got = swift.ask("GET", "/bucket/d", b"");
    assert_eq!(
        (got.text().as_str(), got.headers["x-object-manifest"].as_str()),
        ("one two", "seg/p%2F")
    );
    let tags = [md5(b"one "), md5(b"two")].concat();
    assert_eq!(got.headers["etag"], format!("\"{}\"", md5(tags.as_bytes())));
    assert_eq!(swift.with("GET", "/bucket/d", &[("range", "bytes=2-5")], b"").text(), "e tw");
    let over_s3 = world.get("/bucket/d");
    assert_eq!(over_s3.text(), "one two");
    assert_eq!(over_s3.headers["etag"], format!("\"{}-2\"", md5(tags.as_bytes())));
    // It is what is there now.
    assert_eq!(swift.ask("PUT", "/seg/p/3", b"!").status, 201);
    assert_eq!(swift.ask("HEAD", "/bucket/d", b"").headers["content-length"], "8");
    assert_eq!(world.get("/bucket/d").text(), "one two!");
    assert_eq!(swift.ask("GET", "/bucket/d?multipart-manifest=get", b"").body, b"");
    assert_eq!(swift.status("POST", "/bucket/d", &[]), 202);
    assert_eq!(swift.ask("GET", "/bucket/d", b"").body, b"");
    assert!(whole.len() > 3 << 20);
}

#[test]
fn segments_of_what_cannot_be_read_are_not_lost() {
    let world = World::new();
    let swift = world.swift("u");
    segments(&swift);
    let before = world.cluster.names(INDEX_POOL);
    assert_eq!(swift.status("PUT", "/nest", &[]), 201);
    let put = |path: &str, list: &str| {
        let target = format!("{path}?multipart-manifest=put");
        assert_eq!(swift.ask("PUT", &target, list.as_bytes()).status, 201);
    };
    put("/nest/n", r#"[{"path":"/seg/b"},{"path":"/seg/c"}]"#);
    put("/bucket/l", r#"[{"path":"/seg/a"},{"path":"/nest/n"}]"#);
    let delete = || swift.ask("DELETE", "/bucket/l?multipart-manifest=delete", b"");
    // Nothing is begun as long as it is not known what there is.
    world.fail(move |pool, name, _| {
        let fails = pool == INDEX_POOL && !before.iter().any(|known| known == name);
        fails.then(|| Error::Unavailable("a fault".into()))
    });
    assert!(delete().status >= 500);
    world.cluster.fail_with(None);
    assert_eq!(swift.names("/seg"), ["a", "b", "c"]);
    assert_eq!(swift.status("HEAD", "/bucket/l", &[]), 200);
    // What may not be read is told, and stays with what it names.
    let deny = br#"{"Version":"2012-10-17","Statement":{"Effect":"Deny","Principal":"*","Action":"s3:GetObject","Resource":"arn:aws:s3:::nest/*"}}"#;
    assert_eq!(world.client.ask("PUT", "/nest?policy=", deny).status, 204);
    let text = delete().text();
    assert!(text.contains("/nest/n, 403 Forbidden"), "{text}");
    assert!(text.contains("Number Deleted: 2"), "{text}");
    assert_eq!(
        (swift.names("/seg"), swift.names("/nest")),
        (vec!["b".into(), "c".into()], vec!["n".into()])
    );
    // What is gone already is no fault.
    assert_eq!(world.client.ask("DELETE", "/nest?policy=", b"").status, 204);
    put("/bucket/l", r#"[{"path":"/nest/n"}]"#);
    assert_eq!(swift.status("DELETE", "/nest/n", &[]), 204);
    let text = delete().text();
    assert!(text.contains("Number Deleted: 1\nNumber Not Found: 1"), "{text}");
}

#[test]
fn dynamic_large_objects_are_segments_of_static_ones() {
    let world = World::new();
    let swift = world.swift("u");
    let whole = segments(&swift);
    assert_eq!(swift.ask("PUT", "/seg/p/1", b"one").status, 201);
    assert_eq!(swift.ask("PUT", "/seg/p/2", b"two").status, 201);
    // It is in its own prefix, and stands there for its own bytes.
    let manifest = [("x-object-manifest", "seg/p/")];
    assert_eq!(swift.with("PUT", "/seg/p/", &manifest, b"own").status, 201);
    assert_eq!(swift.ask("GET", "/seg/p/", b"").text(), "ownonetwo");
    let list =
        r#"[{"path":"/seg/b"},{"path":"/seg/p/","size_bytes":9},{"path":"/seg/p/","range":"2-4"}]"#;
    let put = swift.ask("PUT", "/bucket/l?multipart-manifest=put", list.as_bytes());
    assert_eq!(put.status, 201, "{}", put.text());
    let expected = [&whole[70_000..70_010], b"ownonetwo", b"non"].concat();
    assert!(swift.ask("GET", "/bucket/l", b"").body == expected);
    assert!(world.get("/bucket/l").body == expected, "S3 reads other bytes");
    let part = swift.with("GET", "/bucket/l", &[("range", "bytes=12-16")], b"");
    assert_eq!((part.status, part.text().as_str()), (206, "nonet"));
    // It is another one by now.
    assert_eq!(swift.ask("PUT", "/seg/p/3", b"three").status, 201);
    let beginning = swift.with("GET", "/bucket/l", &[("range", "bytes=12-16")], b"");
    assert_eq!(beginning.status, 409, "{}", beginning.text());
}

#[test]
fn links_lead_to_their_targets_over_both() {
    let world = World::new();
    let swift = world.swift("u");
    let body = noise(100_000);
    let tag = md5(&body);
    assert_eq!(swift.with("PUT", "/bucket/t", &[("content-type", "text/x")], &body).status, 201);
    let link = |name: &str, headers: &[(&str, &str)]| swift.status("PUT", name, headers);
    assert_eq!(link("/bucket/l", &[("x-symlink-target", "bucket/t")]), 201);
    let got = swift.ask("GET", "/bucket/l", b"");
    assert!(got.body == body && got.headers["content-type"] == "text/x");
    assert_eq!(got.headers["content-location"], "/v1/AUTH_u/bucket/t");
    assert!(world.get("/bucket/l").body == body, "S3 does not follow the link");
    let own = swift.ask("HEAD", "/bucket/l?symlink=get", b"");
    assert_eq!(
        (own.headers["x-symlink-target"].as_str(), own.headers["content-length"].as_str()),
        ("bucket/t", "0")
    );
    assert!(
        swift
            .ask("GET", "/bucket?format=json&prefix=l", b"")
            .text()
            .contains("\"symlink_path\":\"/v1/AUTH_u/bucket/t\"")
    );
    assert_eq!(
        swift.with("PUT", "/bucket/l", &[("x-symlink-target", "bucket/t")], b"x").status,
        400
    );
    assert_eq!(link("/bucket/l", &[("x-symlink-target", "bucket")]), 412);
    assert_eq!(link("/bucket/l", &[("x-symlink-target", "bucket/l")]), 400);
    // One of a certain tag leads nowhere when that changes.
    let fixed = [("x-symlink-target", "bucket/t"), ("x-symlink-target-etag", tag.as_str())];
    assert_eq!(link("/bucket/s", &fixed), 201);
    let wrong = [("x-symlink-target", "bucket/t"), ("x-symlink-target-etag", "x")];
    assert_eq!(link("/bucket/w", &wrong), 409);
    assert!(swift.ask("GET", "/bucket/s", b"").body == body);
    assert_eq!(swift.ask("PUT", "/bucket/t", b"other").status, 201);
    assert_eq!(swift.status("GET", "/bucket/s", &[]), 409);
    assert_eq!(swift.ask("GET", "/bucket/l", b"").text(), "other");
    // Too many.
    assert_eq!(link("/bucket/l2", &[("x-symlink-target", "bucket/l")]), 201);
    assert_eq!(swift.ask("GET", "/bucket/l2", b"").text(), "other");
    assert_eq!(link("/bucket/l3", &[("x-symlink-target", "bucket/l2")]), 201);
    assert_eq!(swift.status("GET", "/bucket/l3", &[]), 409);
    let post = swift.with("POST", "/bucket/l", &[("x-object-meta-a", "1")], b"");
    assert_eq!((post.status, post.headers["location"].as_str()), (307, "/v1/AUTH_u/bucket/t"));
    assert_eq!(swift.status("DELETE", "/bucket/l", &[]), 204);
    assert_eq!(swift.ask("GET", "/bucket/t", b"").text(), "other");
    // A link is no way around who may read the target.
    assert_eq!(swift.status("PUT", "/open", &[("x-container-read", ".r:*")]), 201);
    assert_eq!(link("/open/l", &[("x-symlink-target", "bucket/t")]), 201);
    assert_eq!(world.plain("GET", "/v1/AUTH_u/open/l", &[], b"").status, 401);
    assert_eq!(world.plain("GET", "/open/l", &[], b"").status, 403);
}
