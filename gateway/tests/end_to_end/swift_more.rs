//! Versions, archives of old ones, bulk operations, quotas, web sites and other origins, over Swift.

use crate::World;

#[test]
fn versions_are_those_of_s3() {
    let world = World::new();
    let (swift, s3) = (world.swift("u"), &world.client);
    assert_eq!(swift.status("POST", "/bucket", &[("x-versions-enabled", "true")]), 204);
    assert_eq!(swift.ask("HEAD", "/bucket", b"").headers["x-versions-enabled"], "True");
    assert!(world.get("/bucket?versioning").text().contains("Enabled"));
    let put = |body: &[u8]| {
        let made = swift.ask("PUT", "/bucket/k", body);
        assert_eq!(made.status, 201);
        made.headers["x-object-version-id"].clone()
    };
    let (first, second) = (put(b"first"), put(b"second"));
    assert_eq!(swift.ask("GET", "/bucket/k", b"").text(), "second");
    assert_eq!(swift.ask("GET", &format!("/bucket/k?version-id={first}"), b"").text(), "first");
    assert_eq!(world.get(&format!("/bucket/k?versionId={first}")).text(), "first");
    let over_s3 = s3.ask("PUT", "/bucket/k", b"third").headers["x-amz-version-id"].clone();
    assert_eq!(swift.ask("GET", &format!("/bucket/k?version-id={over_s3}"), b"").text(), "third");
    let gone = swift.ask("DELETE", "/bucket/k", b"");
    assert_eq!(gone.status, 204);
    let marker = gone.headers["x-object-version-id"].clone();
    assert_eq!(swift.status("GET", "/bucket/k", &[]), 404);
    assert_eq!(swift.status("GET", &format!("/bucket/k?version-id={marker}"), &[]), 404);
    let listed = swift.ask("GET", "/bucket?versions", b"").text();
    for id in [&first, &second, &over_s3, &marker] {
        assert!(listed.contains(id.as_str()), "{id} in {listed}");
    }
    assert!(listed.contains("application/x-deleted;swift_versions_deleted=1"));
    assert_eq!(swift.names("/bucket"), Vec::<String>::new());
    for bad in ["bad", "null", "1234567890.12345"] {
        let status = swift.status("PUT", &format!("/bucket/k?version-id={bad}"), &[]);
        assert_eq!(status, if bad == "1234567890.12345" { 404 } else { 400 }, "{bad}");
    }
    // What was comes back as the newest.
    assert_eq!(swift.status("PUT", &format!("/bucket/k?version-id={first}"), &[]), 201);
    assert_eq!(swift.ask("GET", "/bucket/k", b"").text(), "first");
    assert_eq!(swift.status("DELETE", &format!("/bucket/k?version-id={second}"), &[]), 204);
    assert_eq!(swift.status("GET", &format!("/bucket/k?version-id={second}"), &[]), 404);
    assert_eq!(swift.status("POST", "/bucket", &[("x-versions-enabled", "false")]), 204);
    assert_eq!(swift.ask("HEAD", "/bucket", b"").headers["x-versions-enabled"], "False");
    let plain = swift.ask("PUT", "/bucket/plain", b"1");
    assert!(!plain.headers.contains_key("x-object-version-id"));
}

#[test]
fn old_versions_are_kept_in_another_container() {
    let world = World::new();
    let swift = world.swift("u");
    assert_eq!(swift.status("POST", "/bucket", &[("x-versions-location", "old")]), 204);
    assert_eq!(swift.ask("HEAD", "/bucket", b"").headers["x-versions-location"], "old");
    assert_eq!(swift.ask("PUT", "/bucket/k", b"1").status, 412);
    assert_eq!(swift.status("PUT", "/old", &[]), 201);
    for body in [b"1", b"2", b"3"] {
        assert_eq!(swift.ask("PUT", "/bucket/k", body).status, 201);
        std::thread::sleep(std::time::Duration::from_millis(3));
    }
    let kept = swift.names("/old");
    assert_eq!(kept.len(), 2);
    assert!(kept[0].starts_with("001k/"), "{kept:?}");
    for expected in ["2", "1"] {
        assert_eq!(swift.status("DELETE", "/bucket/k", &[]), 204);
        assert_eq!(swift.ask("GET", "/bucket/k", b"").text(), expected);
    }
    assert_eq!(swift.status("DELETE", "/bucket/k", &[]), 204);
    assert_eq!(swift.status("GET", "/bucket/k", &[]), 404);
    assert_eq!(swift.names("/old"), Vec::<String>::new());
    // A history keeps deletions as well.
    assert_eq!(swift.status("POST", "/bucket", &[("x-history-location", "old")]), 204);
    assert_eq!(swift.ask("PUT", "/bucket/k", b"1").status, 201);
    assert_eq!(swift.status("DELETE", "/bucket/k", &[]), 204);
    assert_eq!(swift.status("GET", "/bucket/k", &[]), 404);
    assert_eq!(swift.names("/old").len(), 2);
    assert_eq!(swift.status("POST", "/bucket", &[("x-versions-enabled", "true")]), 400);
    let both = [("x-versions-location", "a"), ("x-history-location", "b")];
    assert_eq!(swift.status("POST", "/bucket", &both), 400);
    assert_eq!(swift.status("POST", "/bucket", &[("x-remove-history-location", "x")]), 204);
    assert!(!swift.ask("HEAD", "/bucket", b"").headers.contains_key("x-history-location"));
}

#[test]
fn a_deletion_replaces_nothing_that_was_put_meanwhile() {
    let world = World::new();
    let swift = world.swift("u");
    assert_eq!(swift.status("PUT", "/old", &[]), 201);
    assert_eq!(swift.status("POST", "/bucket", &[("x-versions-location", "old")]), 204);
    // Long enough for a PUT while it is brought back.
    let first = crate::noise(8 << 20);
    for round in 0..6u64 {
        let key = format!("/bucket/k{round}");
        assert_eq!(swift.ask("PUT", &key, &first).status, 201);
        std::thread::sleep(std::time::Duration::from_millis(3));
        assert_eq!(swift.ask("PUT", &key, b"second").status, 201);
        std::thread::scope(|scope| {
            let deletion = scope.spawn(|| swift.status("DELETE", &key, &[]));
            std::thread::sleep(std::time::Duration::from_millis(8 * round));
            assert_eq!(swift.ask("PUT", &key, b"third").status, 201);
            assert_eq!(deletion.join().unwrap(), 204);
        });
        let left = swift.ask("GET", &key, b"").body;
        assert!(left == b"third" || left == b"second", "round {round}: {} bytes", left.len());
    }
}

#[test]
fn a_container_that_is_not_empty_keeps_all_its_markers() {
    let world = World::new();
    let swift = world.swift("u");
    let ask = |method: &str, target: &str, body: &str| {
        let answer = world.client.ask(method, target, body.as_bytes());
        assert!(answer.status < 300, "{target}: {}", answer.text());
        answer
    };
    let versioning = |state: &str| {
        let document =
            format!("<VersioningConfiguration><Status>{state}</Status></VersioningConfiguration>");
        ask("PUT", "/bucket?versioning=", &document);
    };
    versioning("Enabled");
    let version = ask("PUT", "/bucket/z", "old").headers["x-amz-version-id"].clone();
    versioning("Suspended");
    // The marker of the last key is the last line of the first page, and what it hides begins the next.
    let keys = (0..999).map(|n| format!("k{n:03}")).chain(["z".to_owned()]);
    let lines: String = keys.map(|key| format!("<Object><Key>{key}</Key></Object>")).collect();
    let deleted = ask("POST", "/bucket?delete=", &format!("<Delete>{lines}</Delete>"));
    assert_eq!(deleted.elements("DeleteMarker").len(), 1000);
    assert_eq!(swift.status("DELETE", "/bucket", &[]), 409);
    assert_eq!(swift.status("GET", "/bucket/z", &[]), 404, "what was deleted is back");
    assert_eq!(world.get("/bucket?versions=").elements("Key").len(), 1000);
    ask("DELETE", &format!("/bucket/z?versionId={version}"), "");
    assert_eq!(swift.status("DELETE", "/bucket", &[]), 204);
}

/// A `ustar` archive of files.
pub(crate) fn tar(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut archive = Vec::new();
    for (name, body) in files {
        let mut head = vec![0u8; 512];
        head[..name.len()].copy_from_slice(name.as_bytes());
        head[124..136].copy_from_slice(format!("{:011o}\0", body.len()).as_bytes());
        head[156] = b'0';
        head[257..263].copy_from_slice(b"ustar\0");
        head[148..156].copy_from_slice(b"        ");
        let sum: u32 = head.iter().map(|byte| u32::from(*byte)).sum();
        head[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        archive.extend(head);
        archive.extend_from_slice(body);
        archive.resize(archive.len().next_multiple_of(512), 0);
    }
    archive.resize(archive.len() + 1024, 0);
    archive
}

pub(crate) fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut out = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    std::io::Write::write_all(&mut out, bytes).unwrap();
    out.finish().unwrap()
}

fn bzip2(bytes: &[u8]) -> Vec<u8> {
    let mut out = bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::fast());
    std::io::Write::write_all(&mut out, bytes).unwrap();
    out.finish().unwrap()
}

#[test]
fn packed_archives_are_taken_apart_too() {
    let world = World::new();
    let swift = world.swift("u");
    // Longer than what is kept in the index, and short enough to be unpacked by a slow machine.
    let big = crate::noise(100_000);
    let archive = tar(&[("one/a.txt", b"A"), ("one/b", &big), ("one/zeros", &[0; 300_000])]);
    for (form, packed) in [("tar.gz", gzip(&archive)), ("tar.bz2", bzip2(&archive))] {
        let report = swift.ask("PUT", &format!("?extract-archive={form}"), &packed);
        assert!(report.text().contains("Number Files Created: 3"), "{form} {}", report.text());
        assert!(swift.ask("GET", "/one/b", b"").body == big);
        assert!(swift.ask("GET", "/one/zeros", b"").body == [0; 300_000]);
        assert_eq!(swift.ask("GET", "/one/a.txt", b"").text(), "A");
        for name in ["a.txt", "b", "zeros"] {
            assert_eq!(swift.status("DELETE", &format!("/one/{name}"), &[]), 204);
        }
        // What is cut off, or is not of its form, is told; files that were whole stay.
        let cut = &packed[..packed.len() - 20_000];
        let report = swift.ask("PUT", &format!("?extract-archive={form}"), cut);
        assert!(report.text().contains("Response Status: 400"), "{}", report.text());
        assert!(!swift.names("/one").contains(&"zeros".to_owned()));
        let other = if form == "tar.gz" { "tar.bz2" } else { "tar.gz" };
        let report = swift.ask("PUT", &format!("?extract-archive={other}"), &packed);
        assert!(report.text().contains("Invalid Tar File"), "{}", report.text());
        // Little that stands for very much behind the end is not read on and on.
        let mut long = archive.clone();
        long.resize(archive.len() + (5 << 18), 0);
        let long = if form == "tar.gz" { gzip(&long) } else { bzip2(&long) };
        let report = swift.ask("PUT", &format!("?extract-archive={form}"), &long);
        assert!(report.text().contains("behind its end"), "{}", report.text());
    }
    assert_eq!(swift.status("PUT", "?extract-archive=zip", &[]), 400);
}

#[test]
fn archives_are_taken_apart_and_many_deleted() {
    let world = World::new();
    let swift = world.swift("u");
    let big = crate::noise(2 << 20);
    let archive = tar(&[("one/a.txt", b"A"), ("one/sub/b", &big), ("two/c", b""), ("alone", b"x")]);
    let report =
        swift.with("PUT", "?extract-archive=tar", &[("accept", "application/json")], &archive);
    assert_eq!(report.status, 200);
    assert!(report.text().contains("\"Number Files Created\":3"), "{}", report.text());
    assert!(report.text().contains("201 Created"));
    assert_eq!(swift.names(""), ["bucket", "one", "two"]);
    assert_eq!(swift.ask("HEAD", "/one/a.txt", b"").headers["content-type"], "text/plain");
    assert!(swift.ask("GET", "/one/sub/b", b"").body == big);
    let into = swift.ask("PUT", "/bucket/dir?extract-archive=tar", &archive);
    assert!(into.text().contains("Number Files Created: 4"), "{}", into.text());
    assert_eq!(swift.ask("GET", "/bucket/dir/alone", b"").text(), "x");
    let broken = swift.ask("PUT", "/bucket?extract-archive=tar", &archive[..700]);
    assert!(broken.text().contains("400 Bad Request"), "{}", broken.text());
    let unpacked = swift.ask("PUT", "/bucket?extract-archive=tar.gz", &archive);
    assert!(unpacked.text().contains("400 Bad Request"), "{}", unpacked.text());
    let list = "/one/a.txt\none/sub/b\n/one/none\n/one\n/bucket/dir%2Falone\n/two\n";
    let gone = swift.ask("POST", "?bulk-delete", list.as_bytes());
    assert_eq!(gone.status, 200);
    let text = gone.text();
    assert!(text.contains("Number Deleted: 4") && text.contains("Number Not Found: 1"), "{text}");
    assert!(text.contains("/two, 409 Conflict") && text.contains("400 Bad Request"), "{text}");
    assert_eq!(swift.names(""), ["bucket", "two"]);
}

#[test]
fn quotas_end_writes() {
    let world = World::new();
    let (swift, root) = (world.swift("u"), world.swift("a"));
    assert_eq!(swift.status("POST", "/bucket", &[("x-container-meta-quota-bytes", "x")]), 400);
    assert_eq!(swift.status("POST", "/bucket", &[("x-container-meta-quota-bytes", "10")]), 204);
    assert_eq!(swift.ask("PUT", "/bucket/a", b"123456").status, 201);
    assert_eq!(swift.ask("PUT", "/bucket/b", b"12345").status, 413);
    let chunked = [("transfer-encoding", "chunked")];
    assert_eq!(swift.with("PUT", "/bucket/b", &chunked, b"5\r\n12345\r\n0\r\n\r\n").status, 413);
    assert_eq!(swift.status("COPY", "/bucket/a", &[("destination", "bucket/b")]), 413);
    assert_eq!(swift.ask("PUT", "/bucket/b", b"1234").status, 201);
    let count = [("x-container-meta-quota-bytes", ""), ("x-container-meta-quota-count", "2")];
    assert_eq!(swift.status("POST", "/bucket", &count), 204);
    assert_eq!(swift.ask("PUT", "/bucket/c", b"").status, 413);
    assert_eq!(swift.status("POST", "/bucket", &[("x-container-meta-quota-count", "")]), 204);
    let quota = [("x-account-meta-quota-bytes", "12")];
    assert_eq!(swift.status("POST", "", &quota), 403);
    let root = crate::swift::Swift { account: "/v1/AUTH_u".into(), ..root };
    assert_eq!(root.status("POST", "", &quota), 204);
    assert_eq!(swift.ask("PUT", "/bucket/c", b"123").status, 413);
    assert_eq!(swift.ask("PUT", "/bucket/c", b"12").status, 201);
}

#[test]
fn containers_are_web_sites() {
    let world = World::new();
    let swift = world.swift("u");
    let site = [
        ("x-container-read", ".r:*,.rlistings"),
        ("x-container-meta-web-index", "index.html"),
        ("x-container-meta-web-error", "error.html"),
        ("x-container-meta-web-listings", "true"),
    ];
    assert_eq!(swift.status("PUT", "/site", &site), 201);
    for (name, body) in [("index.html", "home"), ("404error.html", "lost"), ("dir/a%3Cb", "x")] {
        assert_eq!(swift.ask("PUT", &format!("/site/{name}"), body.as_bytes()).status, 201);
    }
    let visit = |path: &str| world.plain("GET", &format!("/v1/AUTH_u/site{path}"), &[], b"");
    assert_eq!(visit("/").text(), "home");
    assert_eq!(visit("").status, 301);
    assert!(visit("").headers["location"].ends_with("/v1/AUTH_u/site/"));
    let lost = visit("/none");
    assert_eq!((lost.status, lost.text().as_str()), (404, "lost"));
    assert_eq!(visit("/dir").status, 301);
    let listing = visit("/dir/").text();
    assert!(listing.contains("<a href=\"./a%3Cb\">a&lt;b</a>"), "{listing}");
    // With a token the container is what it is.
    assert_eq!(swift.names("/site").len(), 3);
    let as_site = swift.with("GET", "/site/", &[("x-web-mode", "true")], b"");
    assert_eq!(as_site.text(), "home");
    assert_eq!(swift.status("POST", "/site", &[("x-container-read", "")]), 204);
    assert_eq!(visit("/").status, 401);
}

#[test]
fn browsers_are_told_who_may() {
    let world = World::new();
    let swift = world.swift("u");
    let rules = [
        ("x-container-meta-access-control-allow-origin", "http://a.org"),
        ("x-container-meta-access-control-max-age", "60"),
    ];
    assert_eq!(swift.status("POST", "/bucket", &rules), 204);
    assert_eq!(swift.ask("PUT", "/bucket/o", b"1").status, 201);
    let ask = |origin: &str| {
        let headers = [("origin", origin), ("access-control-request-method", "GET")];
        world.plain("OPTIONS", "/v1/AUTH_u/bucket/o", &headers, b"")
    };
    let told = ask("http://a.org");
    assert_eq!((told.status, told.headers["access-control-max-age"].as_str()), (200, "60"));
    assert_eq!(told.headers["access-control-allow-origin"], "http://a.org");
    assert_eq!(ask("http://b.org").status, 401);
    assert_eq!(world.plain("OPTIONS", "/v1/AUTH_u/bucket/o", &[], b"").status, 200);
    let got = swift.with("GET", "/bucket/o", &[("origin", "http://a.org")], b"");
    assert_eq!(got.headers["access-control-allow-origin"], "http://a.org");
    assert!(got.headers["access-control-expose-headers"].contains("etag"));
    let other = swift.with("GET", "/bucket/o", &[("origin", "http://b.org")], b"");
    assert!(!other.headers.contains_key("access-control-allow-origin"));
}
