//! Versions, object lock and tags as clients see them: status, headers and documents of every call.

use super::*;

impl World {
    fn put(&self, target: &str, body: &str) -> Answer {
        self.client.ask("PUT", target, body.as_bytes())
    }

    fn delete(&self, target: &str) -> Answer {
        self.client.ask("DELETE", target, b"")
    }

    fn versioning(&self, status: &str) {
        let document =
            format!("<VersioningConfiguration><Status>{status}</Status></VersioningConfiguration>");
        assert_eq!(self.put("/bucket?versioning=", &document).status, 200);
        let now = self.get("/bucket?versioning=").element("Status");
        assert_eq!(now.as_deref(), Some(status));
    }

    /// Makes a bucket with object lock.
    fn make_locking(&self, name: &str) {
        let header = [("x-amz-bucket-object-lock-enabled", "true")];
        let made = self.client.ask_with("PUT", &format!("/{name}"), &header, b"");
        assert_eq!(made.status, 200, "{}", made.text());
    }
}

fn version(answer: &Answer) -> String {
    answer.headers.get("x-amz-version-id").cloned().unwrap_or_default()
}

fn is_marker(answer: &Answer) -> bool {
    answer.headers.get("x-amz-delete-marker").is_some_and(|on| on == "true")
}

#[test]
fn an_overwritten_and_removed_object_is_kept_and_comes_back() {
    let world = World::new();
    assert_eq!(world.get("/bucket?versioning=").element("Status"), None);
    assert_eq!(version(&world.put("/bucket/k", "zero")), "");
    assert_eq!(version(&world.get("/bucket/k")), "");
    assert!(!is_marker(&world.get("/bucket/none")));
    world.versioning("Enabled");
    assert_eq!(version(&world.get("/bucket/k")), "null");
    let first = version(&world.put("/bucket/k", "one"));
    let second = version(&world.put("/bucket/k", "two"));
    assert!(second < first, "the newest sorts first");
    for (id, body) in [("null", "zero"), (first.as_str(), "one"), (second.as_str(), "two")] {
        let got = world.get(&format!("/bucket/k?versionId={id}"));
        assert_eq!((got.text().as_str(), version(&got).as_str()), (body, id));
    }
    assert_eq!(world.get("/bucket/k").text(), "two");

    let gone = world.delete("/bucket/k");
    assert!(gone.status == 204 && is_marker(&gone));
    let marker = version(&gone);
    let absent = world.get("/bucket/k");
    assert_eq!((absent.code().as_str(), version(&absent)), ("NoSuchKey", marker.clone()));
    assert!(is_marker(&absent));
    assert_eq!(world.client.ask("HEAD", "/bucket/k", b"").status, 404);
    let by_id = world.get(&format!("/bucket/k?versionId={marker}"));
    assert_eq!((by_id.status, by_id.headers["allow"].as_str()), (405, "DELETE"));
    assert!(by_id.headers.contains_key("last-modified"));
    for listing in ["/bucket", "/bucket?list-type=2"] {
        assert!(world.get(listing).elements("Key").is_empty());
    }
    assert_eq!(world.delete("/bucket").code(), "BucketNotEmpty");

    // The marker goes, and the object is there again; then version after version.
    let taken_off = world.delete(&format!("/bucket/k?versionId={marker}"));
    assert!(is_marker(&taken_off) && version(&taken_off) == marker);
    assert_eq!(world.get("/bucket/k").text(), "two");
    let removed = world.delete(&format!("/bucket/k?versionId={second}"));
    assert!(!is_marker(&removed) && version(&removed) == second);
    assert_eq!(world.get("/bucket/k").text(), "one");
    let absent = world.get(&format!("/bucket/k?versionId={second}"));
    assert_eq!(absent.code(), "NoSuchVersion");
    assert_eq!(world.get("/bucket/k?versionId=nonsense").code(), "NoSuchVersion");
    assert_eq!(world.delete("/bucket/k?versionId=nonsense").status, 204);
    assert_eq!(world.delete(&format!("/bucket/k?versionId={first}")).status, 204);
    assert_eq!(world.get("/bucket/k").text(), "zero");
    assert_eq!(world.delete("/bucket/k?versionId=null").status, 204);
    assert_eq!(world.delete("/bucket").status, 204);
}

#[test]
fn a_suspended_bucket_has_one_null_version() {
    let world = World::new();
    world.versioning("Enabled");
    let kept = version(&world.put("/bucket/k", "kept"));
    world.versioning("Suspended");
    for body in ["a", "b"] {
        assert_eq!(version(&world.put("/bucket/k", body)), "", "no id of its own");
    }
    let got = world.get("/bucket/k");
    assert_eq!((got.text().as_str(), version(&got).as_str()), ("b", "null"));
    let listed = world.get("/bucket?versions=");
    assert_eq!(listed.elements("VersionId"), ["null", &kept]);
    assert_eq!(listed.elements("IsLatest"), ["true", "false"]);
    // The null version makes way for a null marker.
    let gone = world.delete("/bucket/k");
    assert!(is_marker(&gone) && version(&gone) == "null");
    let listed = world.get("/bucket?versions=");
    assert_eq!(listed.elements("VersionId"), ["null", &kept]);
    assert_eq!(listed.elements("DeleteMarker").len(), 1);
    world.versioning("Enabled");
    world.put("/bucket/k", "new");
    assert_eq!(world.get("/bucket?versions=").elements("VersionId").len(), 3);
    let wrong = "<VersioningConfiguration><Status>On</Status></VersioningConfiguration>";
    assert_eq!(world.put("/bucket?versioning=", wrong).code(), "MalformedXML");
    let mfa = "<VersioningConfiguration><Status>Enabled</Status><MfaDelete>Enabled</MfaDelete>\
               </VersioningConfiguration>";
    assert_eq!(world.put("/bucket?versioning=", mfa).code(), "NotImplemented");
}

#[test]
fn versions_are_listed_in_pages() {
    let world = World::new();
    world.versioning("Enabled");
    let mut expected = Vec::new();
    for key in ["a", "d/x", "d/y", "z"] {
        let ids: Vec<_> = (0..3)
            .map(|n| version(&world.put(&format!("/bucket/{key}"), &format!("{n}"))))
            .collect();
        expected.extend(ids.into_iter().rev().map(|id| (key.to_owned(), id)));
    }
    for max in [1, 2, 5, 1000] {
        let (mut key_marker, mut id_marker) = (String::new(), String::new());
        let mut listed = Vec::new();
        loop {
            let mut target = String::from("/bucket?");
            if !key_marker.is_empty() {
                target += &format!("key-marker={}&", key_marker.replace('/', "%2F"));
            }
            target += &format!("max-keys={max}");
            if !id_marker.is_empty() {
                target += &format!("&version-id-marker={id_marker}");
            }
            target += "&versions=";
            let page = world.get(&target);
            listed.extend(page.elements("Key").into_iter().zip(page.elements("VersionId")));
            if page.element("IsTruncated").as_deref() == Some("false") {
                break;
            }
            key_marker = page.element("NextKeyMarker").unwrap();
            id_marker = page.element("NextVersionIdMarker").unwrap();
        }
        assert_eq!(listed, expected, "pages of {max}");
    }
    let page = world.get("/bucket?delimiter=%2F&versions=");
    assert_eq!(page.elements("Prefix")[1..], ["d/"]);
    assert_eq!(page.elements("VersionId").len(), 6);
    assert_eq!(page.elements("IsLatest").iter().filter(|latest| *latest == "true").count(), 2);
    assert_eq!(world.get("/bucket?prefix=d%2F&versions=").elements("Version").len(), 6);
    let behind = world.get("/bucket?key-marker=d%2Fx&versions=");
    assert_eq!(behind.elements("Key").len(), 6);
    let wrong = world.get("/bucket?key-marker=a&version-id-marker=x&versions=");
    assert_eq!(wrong.code(), "InvalidArgument");
    let alone = world.get("/bucket?version-id-marker=null&versions=");
    assert_eq!(alone.code(), "InvalidArgument");
}

#[test]
fn many_are_removed_with_their_versions() {
    let world = World::new();
    world.versioning("Enabled");
    let first = version(&world.put("/bucket/a", "1"));
    world.put("/bucket/a", "2");
    let delete = |objects: &str| {
        let document = format!("<Delete>{objects}</Delete>");
        world.client.ask("POST", "/bucket?delete=", document.as_bytes())
    };
    let object = |key: &str, id: &str| {
        format!("<Object><Key>{key}</Key><VersionId>{id}</VersionId></Object>")
    };
    let done = delete(&(object("a", &first) + "<Object><Key>a</Key></Object>" + &object("a", "x")));
    assert_eq!(done.elements("Deleted").len(), 3, "{}", done.text());
    assert_eq!(done.elements("DeleteMarker"), ["true"]);
    let marker = done.element("DeleteMarkerVersionId").unwrap();
    assert_eq!(world.get("/bucket/a").code(), "NoSuchKey");
    let done = delete(&object("a", &marker));
    assert_eq!(done.element("DeleteMarkerVersionId"), Some(marker.clone()));
    assert_eq!(done.element("VersionId"), Some(marker));
    assert_eq!(world.get("/bucket/a").text(), "2");
}

#[test]
fn copies_and_uploads_are_versions() {
    let world = World::new();
    world.versioning("Enabled");
    let first = version(&world.put("/bucket/k", "old"));
    world.put("/bucket/k", "new");
    let copy = |source: &str| {
        world.client.ask_with("PUT", "/bucket/k", &[("x-amz-copy-source", source)], b"")
    };
    let source = format!("/bucket/k?versionId={first}");
    let copied = copy(&source);
    assert_eq!(copied.status, 200, "{}", copied.text());
    assert_eq!(copied.headers["x-amz-copy-source-version-id"], first);
    assert_ne!(version(&copied), "");
    assert_eq!(world.get("/bucket/k").text(), "old");
    assert_eq!(copy("/bucket/k").code(), "InvalidRequest", "onto itself, and nothing changed");
    assert_eq!(copy("/bucket/k?versionId=1").code(), "NoSuchVersion");
    let marker = version(&world.delete("/bucket/k"));
    assert_eq!(copy("/bucket/k").code(), "NoSuchKey");
    assert_eq!(copy(&format!("/bucket/k?versionId={marker}")).code(), "InvalidRequest");

    let headers = [("x-amz-tagging", "a=b")];
    let begun = world.client.ask_with("POST", "/bucket/k?uploads=", &headers, b"");
    let id = begun.element("UploadId").expect("an id");
    let part = world.put(&format!("/bucket/k?partNumber=1&uploadId={id}"), "part");
    let document = format!(
        "<CompleteMultipartUpload><Part><PartNumber>1</PartNumber><ETag>{}</ETag></Part>\
         </CompleteMultipartUpload>",
        part.headers["etag"]
    );
    let target = format!("/bucket/k?uploadId={id}");
    let done = world.client.ask("POST", &target, document.as_bytes());
    assert_eq!(done.status, 200, "{}", done.text());
    let got = world.get("/bucket/k");
    assert_eq!((got.text().as_str(), version(&got)), ("part", version(&done)));
    assert_eq!(got.headers["x-amz-tagging-count"], "1");
    assert_eq!(world.get("/bucket?versions=").elements("VersionId").len(), 5);
    let old = world.client.ask_with(
        "GET",
        &format!("/bucket/k?attributes=&versionId={first}"),
        &[("x-amz-object-attributes", "ObjectSize")],
        b"",
    );
    assert_eq!((old.element("ObjectSize").unwrap().as_str(), version(&old)), ("3", first));
}

/// The data of an older version stays until that version is removed.
#[test]
fn large_versions_keep_their_data() {
    let world = World::new();
    world.versioning("Enabled");
    let bodies = [noise(2_000_000), noise(2_000_001)];
    let ids: Vec<_> =
        bodies.iter().map(|body| version(&world.client.ask("PUT", "/bucket/k", body))).collect();
    world.delete("/bucket/k");
    std::thread::sleep(Duration::from_millis(300));
    for (id, body) in ids.iter().zip(&bodies) {
        assert!(world.get(&format!("/bucket/k?versionId={id}")).body == *body);
    }
    world.delete(&format!("/bucket/k?versionId={}", ids[0]));
    world.data_objects_become(1);
    assert!(world.get(&format!("/bucket/k?versionId={}", ids[1])).body == bodies[1]);
    world.delete(&format!("/bucket/k?versionId={}", ids[1]));
    world.data_objects_become(0);
}

#[test]
fn conditions_hold_against_the_newest_version() {
    let world = World::new();
    world.versioning("Enabled");
    let new = [("if-none-match", "*")];
    let put = |headers: &[(&str, &str)]| world.client.ask_with("PUT", "/bucket/k", headers, b"x");
    let made = put(&new);
    assert_eq!(made.status, 200);
    assert_eq!(put(&new).code(), "PreconditionFailed");
    world.delete("/bucket/k");
    let tag = made.headers["etag"].clone();
    assert_eq!(put(&[("if-match", &tag)]).code(), "NoSuchKey");
    assert_eq!(put(&new).status, 200);
}

#[test]
fn a_lock_is_configured_shown_and_held() {
    let world = World::new();
    assert_eq!(world.get("/bucket?object-lock=").code(), "ObjectLockConfigurationNotFoundError");
    let configuration = |rule: &str| {
        format!(
            "<ObjectLockConfiguration><ObjectLockEnabled>Enabled</ObjectLockEnabled>{rule}\
             </ObjectLockConfiguration>"
        )
    };
    assert_eq!(world.put("/bucket?object-lock=", &configuration("")).code(), "InvalidBucketState");
    let future = "2099-01-01T00:00:00.000Z";
    let headers =
        [("x-amz-object-lock-mode", "GOVERNANCE"), ("x-amz-object-lock-retain-until-date", future)];
    let refused = world.client.ask_with("PUT", "/bucket/k", &headers, b"x");
    assert_eq!(refused.code(), "InvalidRequest");
    world.put("/bucket/k", "x");
    let hold = |on: &str| format!("<LegalHold><Status>{on}</Status></LegalHold>");
    assert_eq!(world.put("/bucket/k?legal-hold=", &hold("ON")).code(), "InvalidRequest");
    assert_eq!(world.get("/bucket/k?retention=").code(), "InvalidRequest");

    world.make_locking("locks");
    assert_eq!(world.get("/locks?versioning=").element("Status").as_deref(), Some("Enabled"));
    assert_eq!(world.get("/locks?object-lock=").element("Mode"), None);
    let suspended = "<VersioningConfiguration><Status>Suspended</Status></VersioningConfiguration>";
    assert_eq!(world.put("/locks?versioning=", suspended).code(), "InvalidBucketState");
    let put = world.client.ask_with("PUT", "/locks/k", &headers, b"x");
    assert_eq!(put.status, 200, "{}", put.text());
    let target = format!("/locks/k?versionId={}", version(&put));
    let got = world.get("/locks/k");
    assert_eq!(got.headers["x-amz-object-lock-mode"], "GOVERNANCE");
    assert_eq!(got.headers["x-amz-object-lock-retain-until-date"], future);
    assert_eq!(
        world.get("/locks/k?retention=").element("RetainUntilDate").as_deref(),
        Some(future)
    );
    assert_eq!(world.get("/locks/k?legal-hold=").code(), "NoSuchObjectLockConfiguration");
    assert_eq!(world.delete(&target).code(), "AccessDenied");
    let many = format!(
        "<Delete><Object><Key>k</Key><VersionId>{}</VersionId></Object></Delete>",
        version(&put)
    );
    let many = world.client.ask("POST", "/locks?delete=", many.as_bytes());
    assert_eq!(many.element("Code").as_deref(), Some("AccessDenied"));
    assert_eq!(world.put("/locks/k?legal-hold=", &hold("ON")).status, 200);
    assert_eq!(world.get("/locks/k?legal-hold=").element("Status").as_deref(), Some("ON"));
    let bypass = [("x-amz-bypass-governance-retention", "true")];
    let held = world.client.ask_with("DELETE", &target, &bypass, b"");
    assert_eq!(held.code(), "AccessDenied", "a hold is passed over by nobody");
    assert_eq!(world.put("/locks/k?legal-hold=", &hold("OFF")).status, 200);
    assert_eq!(world.put("/locks/k?legal-hold=", &hold("maybe")).code(), "MalformedXML");
    assert_eq!(world.client.ask_with("DELETE", &target, &bypass, b"").status, 204);

    let rule =
        "<Rule><DefaultRetention><Mode>COMPLIANCE</Mode><Years>1</Years></DefaultRetention></Rule>";
    assert_eq!(world.put("/locks?object-lock=", &configuration(rule)).status, 200);
    assert_eq!(world.get("/locks?object-lock=").element("Years").as_deref(), Some("1"));
    let put = world.put("/locks/d", "x");
    let target = format!("/locks/d?versionId={}", version(&put));
    assert_eq!(world.client.ask_with("DELETE", &target, &bypass, b"").code(), "AccessDenied");
    let retention = |mode: &str, until: &str| {
        format!(
            "<Retention><Mode>{mode}</Mode><RetainUntilDate>{until}</RetainUntilDate></Retention>"
        )
    };
    let shorter = retention("GOVERNANCE", future);
    assert_eq!(world.put("/locks/d?retention=", &shorter).code(), "AccessDenied");
    assert_eq!(world.put("/locks/d?retention=", &retention("COMPLIANCE", future)).status, 200);
    let past = retention("COMPLIANCE", "2001-01-01T00:00:00Z");
    assert_eq!(world.put("/locks/d?retention=", &past).code(), "InvalidArgument");
    assert_eq!(world.put("/locks/d?retention=", &retention("abc", future)).code(), "MalformedXML");
    // A marker hides it all the same, and has no lock of its own.
    let marker = world.delete("/locks/d");
    assert!(is_marker(&marker));
    assert_eq!(world.put("/locks/d?legal-hold=", &hold("ON")).code(), "NoSuchKey");
    let of_marker = format!("/locks/d?legal-hold=&versionId={}", version(&marker));
    assert_eq!(world.put(&of_marker, &hold("ON")).code(), "MethodNotAllowed");
    assert_eq!(world.delete(&format!("/locks/d?versionId={}", version(&marker))).status, 204);
}

#[test]
fn tags_are_put_read_copied_and_removed() {
    let world = World::new();
    let document = |tags: &[(&str, &str)]| {
        let tag = |(key, value): &(&str, &str)| {
            format!("<Tag><Key>{key}</Key><Value>{value}</Value></Tag>")
        };
        let tags: String = tags.iter().map(tag).collect();
        format!("<Tagging><TagSet>{tags}</TagSet></Tagging>")
    };
    let tags = |target: &str| {
        let answer = world.get(target);
        answer.elements("Key").into_iter().zip(answer.elements("Value")).collect::<Vec<_>>()
    };
    let pair = |key: &str, value: &str| (key.to_owned(), value.to_owned());
    assert_eq!(world.put("/bucket/k?tagging=", &document(&[])).code(), "NoSuchKey");
    let put = world.client.ask_with("PUT", "/bucket/k", &[("x-amz-tagging", "a=1&b")], b"body");
    assert_eq!(put.status, 200, "{}", put.text());
    assert_eq!(tags("/bucket/k?tagging="), [pair("a", "1"), pair("b", "")]);
    assert_eq!(world.get("/bucket/k").headers["x-amz-tagging-count"], "2");
    for (directive, expected) in [("COPY", "a"), ("REPLACE", "c")] {
        let headers = [
            ("x-amz-copy-source", "/bucket/k"),
            ("x-amz-tagging", "c=3"),
            ("x-amz-tagging-directive", directive),
        ];
        assert_eq!(world.client.ask_with("PUT", "/bucket/copy", &headers, b"").status, 200);
        assert_eq!(tags("/bucket/copy?tagging=")[0].0, expected);
    }
    assert_eq!(world.put("/bucket/k?tagging=", &document(&[("x", "<y>")])).code(), "MalformedXML");
    assert_eq!(world.put("/bucket/k?tagging=", &document(&[("x", "y")])).status, 200);
    assert_eq!(tags("/bucket/k?tagging="), [pair("x", "y")]);
    assert_eq!(world.get("/bucket/k").text(), "body");
    let many: Vec<_> =
        ["1", "2", "3", "4", "5", "6", "7", "8", "9", "10", "11"].map(|n| (n, "")).into();
    assert_eq!(world.put("/bucket/k?tagging=", &document(&many)).code(), "InvalidTag");
    let twice = document(&[("x", "1"), ("x", "2")]);
    assert_eq!(world.put("/bucket/k?tagging=", &twice).code(), "InvalidTag");

    world.versioning("Enabled");
    let second = version(&world.put("/bucket/k", "new"));
    assert!(tags("/bucket/k?tagging=").is_empty());
    assert_eq!(tags("/bucket/k?tagging=&versionId=null"), [pair("x", "y")]);
    assert_eq!(world.delete("/bucket/k?tagging=&versionId=null").status, 204);
    assert!(tags("/bucket/k?tagging=&versionId=null").is_empty());
    let changed = world.put("/bucket/k?tagging=", &document(&[("n", "1")]));
    assert_eq!(version(&changed), second);
}

/// The answer to a completion is lost before the data is locked: the client asks again.
#[test]
fn an_upload_that_is_completed_again_is_locked_then() {
    let shared = shared();
    let sweep = Sweep { chores_every: Duration::ZERO, ..shared.sweep };
    let world = World::with(Shared { sweep, ..shared });
    world.make_locking("locks");
    let lock = [
        ("x-amz-object-lock-mode", "COMPLIANCE"),
        ("x-amz-object-lock-retain-until-date", "2099-01-01T00:00:00.000Z"),
    ];
    let upload = world.client.ask_with("POST", "/locks/m?uploads=", &lock, b"");
    let upload = upload.element("UploadId").unwrap();
    let body = vec![7u8; 5 << 20];
    let part = world.client.ask("PUT", &format!("/locks/m?partNumber=1&uploadId={upload}"), &body);
    let document = format!(
        "<CompleteMultipartUpload><Part><PartNumber>1</PartNumber><ETag>{}</ETag></Part></CompleteMultipartUpload>",
        part.headers["etag"]
    );
    let complete =
        || world.client.ask("POST", &format!("/locks/m?uploadId={upload}"), document.as_bytes());
    world.fail(|pool, _, ops| match &ops[0] {
        Op::Exec { .. } if pool == DATA_POOL => Some(Error::TimedOut("no answer".into())),
        _ => None,
    });
    for _ in 0..2 {
        assert!(complete().status >= 500, "nothing is acknowledged that is not locked");
    }
    world.cluster.fail_with(None);
    let done = complete();
    assert_eq!(done.status, 200, "{}", done.text());
    let errors = delete_all(&world.cluster, DATA_POOL);
    assert_eq!(errors.len(), 2);
    assert!(errors.iter().all(|e| matches!(e, Some(Error::Denied(_)))), "{errors:?}");
}

/// What becomes of a raw delete of every object of a pool: the errors' texts, `None` where it was done.
fn delete_all(cluster: &MemoryCluster, pool: Place) -> Vec<Option<Error>> {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let delete = |name| {
        let ops = vec![Op::Delete {}];
        runtime
            .block_on(store_gateway::cluster::Cluster::operate(cluster, pool, name, ops, false))
            .err()
    };
    cluster.names(pool).into_iter().map(delete).collect()
}

#[test]
fn no_raw_call_removes_what_is_locked() {
    let world = World::new();
    world.make_locking("locks");
    let body = vec![7u8; 5 << 20];
    let lock = |mode: &'static str| {
        [
            ("x-amz-object-lock-mode", mode),
            ("x-amz-object-lock-retain-until-date", "2099-01-01T00:00:00.000Z"),
        ]
    };
    let put = world.client.ask_with("PUT", "/locks/c", &lock("COMPLIANCE"), &body);
    assert_eq!(put.status, 200, "{}", put.text());
    let all_denied = |pool, count| {
        let errors = delete_all(&world.cluster, pool);
        assert!(errors.len() >= count, "{} objects", errors.len());
        assert!(errors.iter().all(|e| matches!(e, Some(Error::Denied(_)))), "{errors:?}");
    };
    all_denied(DATA_POOL, 2);
    all_denied(INDEX_POOL, 4);
    all_denied(store_gateway::cluster::META_POOL, 1);
    assert!(world.get("/locks/c").body == body);

    // A version that was passed over with leave is swept, and one whose hold was taken off.
    let bypass = [("x-amz-bypass-governance-retention", "true")];
    let put = world.client.ask_with("PUT", "/locks/g", &lock("GOVERNANCE"), &body);
    all_denied(DATA_POOL, 4);
    let target = format!("/locks/g?versionId={}", version(&put));
    assert_eq!(world.client.ask_with("DELETE", &target, &bypass, b"").status, 204);
    world.data_objects_become(2);
    let put = world.client.ask_with("PUT", "/locks/h", &[], &body);
    let target = format!("/locks/h?versionId={}", version(&put));
    for on in ["ON", "OFF"] {
        let hold = format!("<LegalHold><Status>{on}</Status></LegalHold>");
        assert_eq!(world.put("/locks/h?legal-hold=", &hold).status, 200);
        all_denied(DATA_POOL, 4);
    }
    assert_eq!(world.delete(&target).status, 204);
    world.data_objects_become(2);

    // The parts of an upload in the bucket's own retention.
    let rule = "<ObjectLockConfiguration><ObjectLockEnabled>Enabled</ObjectLockEnabled><Rule><DefaultRetention>\
                <Mode>COMPLIANCE</Mode><Days>1</Days></DefaultRetention></Rule></ObjectLockConfiguration>";
    assert_eq!(world.put("/locks?object-lock=", rule).status, 200);
    let upload = world.client.ask("POST", "/locks/m?uploads=", b"").element("UploadId").unwrap();
    let part = world.client.ask("PUT", &format!("/locks/m?partNumber=1&uploadId={upload}"), &body);
    let document = format!(
        "<CompleteMultipartUpload><Part><PartNumber>1</PartNumber><ETag>{}</ETag></Part></CompleteMultipartUpload>",
        part.headers["etag"]
    );
    let done =
        world.client.ask("POST", &format!("/locks/m?uploadId={upload}"), document.as_bytes());
    assert_eq!(done.status, 200, "{}", done.text());
    all_denied(DATA_POOL, 4);
    assert!(world.get("/locks/m").body == body);
}
