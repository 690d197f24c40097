//! Encrypted objects, through the socket: what lies in the cluster tells nothing, what comes back is what was
//! put, whoever has not the key gets nothing, and what was changed underneath is not given out.

use crate::client::Answer;
use crate::{World, noise};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use md5::{Digest, Md5};
use std::collections::BTreeMap;
use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use store_base::bucket::{AddKey, KEYS_OBJECT};
use store_base::codec::Encode;
use store_base::op::Op;
use store_gateway::cluster::{Cluster, DATA_POOL, INDEX_POOL, META_POOL};
use store_gateway::crypt::ring::new_key;
use store_gateway::keyring::{FixedKeys, KeyRing};

const MANAGED: (&str, &str) = ("x-amz-server-side-encryption", "AES256");
const MIB: usize = 1 << 20;

/// The headers of a client's key, in the names of a request or of the source of a copy.
pub(crate) fn customer(byte: u8, source: bool) -> Vec<(String, String)> {
    let key = [byte; 32];
    let beginning = if source { "x-amz-copy-source" } else { "x-amz" };
    let name = |end: &str| format!("{beginning}-server-side-encryption-customer-{end}");
    vec![
        (name("algorithm"), "AES256".into()),
        (name("key"), STANDARD.encode(key)),
        (name("key-md5"), STANDARD.encode(Md5::digest(key))),
    ]
}

impl World {
    pub(crate) fn with_headers(
        &self,
        method: &str,
        target: &str,
        headers: &[(String, String)],
        body: &[u8],
    ) -> Answer {
        let headers: Vec<(&str, &str)> = headers.iter().map(|(n, v)| (&n[..], &v[..])).collect();
        self.client.ask_with(method, target, &headers, body)
    }

    fn put_default(&self) {
        let document = "<ServerSideEncryptionConfiguration><Rule><ApplyServerSideEncryptionByDefault><SSEAlgorithm>AES256</SSEAlgorithm></ApplyServerSideEncryptionByDefault></Rule></ServerSideEncryptionConfiguration>";
        let put = self.client.ask("PUT", "/bucket?encryption=", document.as_bytes());
        assert_eq!(put.status, 200, "{}", put.text());
    }

    /// Uploads in parts of 5 MiB and the rest.
    fn upload(&self, target: &str, headers: &[(String, String)], body: &[u8]) -> Answer {
        let begun = self.with_headers("POST", &format!("{target}?uploads="), headers, b"");
        let id = begun.element("UploadId").expect("an upload");
        let keys: Vec<_> =
            headers.iter().filter(|(n, _)| n.contains("customer")).cloned().collect();
        let mut parts = String::new();
        for (n, part) in body.chunks(5 * MIB).enumerate() {
            let place = format!("{target}?partNumber={}&uploadId={id}", n + 1);
            let put = self.with_headers("PUT", &place, &keys, part);
            assert_eq!(put.status, 200, "{}", put.text());
            let tag = &put.headers["etag"];
            parts.push_str(&format!(
                "<Part><PartNumber>{}</PartNumber><ETag>{tag}</ETag></Part>",
                n + 1
            ));
        }
        let list = format!("<CompleteMultipartUpload>{parts}</CompleteMultipartUpload>");
        self.with_headers("POST", &format!("{target}?uploadId={id}"), &keys, list.as_bytes())
    }
}

fn md5_tag(body: &[u8]) -> String {
    format!("\"{}\"", hex::encode(Md5::digest(body)))
}

#[test]
fn bodies_under_the_clusters_keys_come_back_and_lie_sealed() {
    let world = World::new();
    let managed = [(MANAGED.0.to_owned(), MANAGED.1.to_owned())];
    for size in [0, 1, 100, 32 << 10, (32 << 10) + 1, MIB, MIB + 1, 5 * MIB + 77] {
        let body = noise(size);
        let put = world.with_headers("PUT", "/bucket/k", &managed, &body);
        assert_eq!(put.status, 200, "{}", put.text());
        assert_eq!(put.headers[MANAGED.0], "AES256");
        assert_eq!(put.headers["etag"], md5_tag(&body));
        let got = world.get("/bucket/k");
        assert!(got.body == body, "{size} bytes came back changed");
        assert_eq!(got.headers[MANAGED.0], "AES256");
        let head = world.client.ask("HEAD", "/bucket/k", b"");
        assert_eq!(head.headers["content-length"], size.to_string());
        assert_eq!(world.get("/bucket").element("Size"), Some(size.to_string()));
        for (first, last) in [(0, 0), (65_535, 65_536), (size / 2, size.saturating_sub(1))] {
            if first <= last && last < size {
                let range = format!("bytes={first}-{last}");
                let part = world.client.ask_with("GET", "/bucket/k", &[("range", &range)], b"");
                assert!(part.body == body[first..=last], "{range} of {size}");
            }
        }
        if size >= 100 {
            assert!(!world.cluster.has_bytes(&body[size / 2..size / 2 + 30]), "{size} lies open");
        }
    }
    // An object that is not encrypted lies as it is: the search finds what is there.
    let body = noise(100_000);
    world.client.ask("PUT", "/bucket/open", &body);
    assert!(world.cluster.has_bytes(&body[50_000..50_030]));
    let read = world.client.ask_with("GET", "/bucket/open", &[MANAGED], b"");
    assert_eq!(read.code(), "InvalidArgument");
}

#[test]
fn a_bucket_can_encrypt_by_default() {
    let world = World::new();
    assert_eq!(
        world.get("/bucket?encryption=").code(),
        "ServerSideEncryptionConfigurationNotFoundError"
    );
    let before = noise(40_000);
    world.client.ask("PUT", "/bucket/before", &before);
    world.put_default();
    assert_eq!(world.get("/bucket?encryption=").element("SSEAlgorithm").as_deref(), Some("AES256"));
    let body = noise(300_000);
    let put = world.client.ask("PUT", "/bucket/k", &body);
    assert_eq!(put.headers[MANAGED.0], "AES256");
    assert!(!world.cluster.has_bytes(&body[1000..1030]));
    assert!(world.get("/bucket/k").body == body);
    assert!(!world.get("/bucket/before").headers.contains_key(MANAGED.0));
    // A copy is encrypted anew, also onto itself.
    let copy = [("x-amz-copy-source", "/bucket/before")];
    let copied = world.client.ask_with("PUT", "/bucket/copy", &copy, b"");
    assert_eq!(copied.headers[MANAGED.0], "AES256");
    let itself = world.client.ask_with("PUT", "/bucket/before", &[copy[0], MANAGED], b"");
    assert_eq!(itself.status, 200, "{}", itself.text());
    assert!(world.get("/bucket/before").body == before && world.get("/bucket/copy").body == before);
    world.data_objects_become(3);
    assert!(!world.cluster.has_bytes(&before[1000..1030]));
    assert_eq!(world.client.ask("DELETE", "/bucket?encryption=", b"").status, 204);
    assert!(!world.client.ask("PUT", "/bucket/k", b"x").headers.contains_key(MANAGED.0));
    for (name, value, code) in [
        (MANAGED.0, "aws:kms:dsse", "NotImplemented"),
        (MANAGED.0, "DES", "InvalidArgument"),
        ("x-amz-server-side-encryption-aws-kms-key-id", "k", "InvalidArgument"),
    ] {
        let put = world.client.ask_with("PUT", "/bucket/k", &[(name, value)], b"x");
        assert_eq!(put.code(), code, "{name} {value}");
    }
}

#[test]
fn who_has_not_the_clients_key_gets_nothing() {
    let world = World::new();
    let (mine, other) = (customer(1, false), customer(2, false));
    for size in [50, 2 * MIB + 5] {
        let body = noise(size);
        let put = world.with_headers("PUT", "/bucket/k", &mine, &body);
        assert_eq!(put.status, 200, "{}", put.text());
        assert_eq!(put.headers[&mine[0].0], "AES256");
        assert_eq!(put.headers[&mine[2].0], mine[2].1);
        assert_ne!(put.headers["etag"], md5_tag(&body));
        assert!(!world.cluster.has_bytes(&body[10..40]));
        assert!(!world.cluster.has_bytes(&[1; 32]), "the key is kept");
        let got = world.with_headers("GET", "/bucket/k", &mine, b"");
        assert!(got.body == body);
        assert_eq!(got.headers["etag"], put.headers["etag"]);
        assert_eq!(got.headers[&mine[2].0], mine[2].1);
        assert_eq!(world.with_headers("HEAD", "/bucket/k", &mine, b"").status, 200);
        for keys in [&[][..], &other] {
            assert_eq!(world.with_headers("GET", "/bucket/k", keys, b"").code(), "InvalidRequest");
            assert_eq!(world.with_headers("HEAD", "/bucket/k", keys, b"").status, 400);
            let wanted = [("x-amz-object-attributes".to_owned(), "ETag".to_owned())];
            let asked = [keys, &wanted].concat();
            assert_eq!(world.with_headers("GET", "/bucket/k?attributes=", &asked, b"").status, 400);
        }
        // Source and target of a copy have keys of their own.
        let copy = ("x-amz-copy-source".to_owned(), "/bucket/k".to_owned());
        let source = customer(1, true);
        let headers = [&[copy.clone()][..], &source, &other].concat();
        let copied = world.with_headers("PUT", "/bucket/copy", &headers, b"");
        assert_eq!(copied.status, 200, "{}", copied.text());
        assert!(world.with_headers("GET", "/bucket/copy", &other, b"").body == body);
        assert_eq!(world.with_headers("GET", "/bucket/copy", &mine, b"").status, 400);
        let without = world.with_headers(
            "PUT",
            "/bucket/plain",
            &[&[copy.clone()][..], &source].concat(),
            b"",
        );
        assert_eq!(without.status, 200);
        assert!(world.get("/bucket/plain").body == body);
        for keys in [vec![], customer(2, true)] {
            let refused = world.with_headers(
                "PUT",
                "/bucket/no",
                &[&[copy.clone()][..], &keys].concat(),
                b"",
            );
            assert_eq!(refused.code(), "InvalidRequest");
        }
    }
    let plain = world.with_headers("GET", "/bucket/plain", &mine, b"");
    assert_eq!(plain.code(), "InvalidRequest", "a key for what is not encrypted");
    for (at, value, code) in [
        (0, "AES128", "InvalidEncryptionAlgorithmError"),
        (1, "c2hvcnQ=", "InvalidArgument"),
        (2, "AAAAAAAAAAAAAAAAAAAAAA==", "InvalidArgument"),
    ] {
        let mut wrong = mine.clone();
        wrong[at].1 = value.into();
        assert_eq!(world.with_headers("PUT", "/bucket/no", &wrong, b"x").code(), code);
        wrong.remove(at);
        assert_eq!(world.with_headers("PUT", "/bucket/no", &wrong, b"x").code(), "InvalidArgument");
    }
    let both = [&mine[..], &[(MANAGED.0.to_owned(), MANAGED.1.to_owned())]].concat();
    assert_eq!(world.with_headers("PUT", "/bucket/no", &both, b"x").code(), "InvalidArgument");
}

#[test]
fn a_link_tells_no_more_than_what_it_leads_to() {
    let world = World::new();
    let (mine, other) = (customer(1, false), customer(2, false));
    let described = [&mine[..], &[("x-amz-meta-a".to_owned(), "1".to_owned())]].concat();
    assert_eq!(world.with_headers("PUT", "/bucket/k", &described, &noise(50)).status, 200);
    let link = [("x-symlink-target", "bucket/k")];
    assert_eq!(world.swift("u").status("PUT", "/bucket/link", &link), 201);
    for method in ["HEAD", "GET"] {
        for keys in [&[][..], &other] {
            let refused = world.with_headers(method, "/bucket/link", keys, b"");
            assert_eq!(refused.status, 400, "{method}");
            assert!(!refused.headers.contains_key("x-amz-meta-a"), "{method}");
        }
        let got = world.with_headers(method, "/bucket/link", &mine, b"");
        assert_eq!((got.status, got.headers["x-amz-meta-a"].as_str()), (200, "1"), "{method}");
        let swift = world.swift("u");
        for path in ["/bucket/k", "/bucket/link"] {
            let refused = swift.ask(method, path, b"");
            assert_eq!(refused.status, 400, "{method} {path}");
            assert!(!refused.headers.contains_key("x-object-meta-a"), "{method} {path}");
            let keys: Vec<(&str, &str)> = mine.iter().map(|(n, v)| (&n[..], &v[..])).collect();
            let got = swift.with(method, path, &keys, b"");
            assert_eq!((got.status, got.headers["x-object-meta-a"].as_str()), (200, "1"));
        }
    }
}

#[test]
fn parts_share_a_key_and_keep_their_sizes() {
    let world = World::new();
    let (mine, other) = (customer(1, false), customer(2, false));
    let managed = [(MANAGED.0.to_owned(), MANAGED.1.to_owned())];
    let body = noise(11 * MIB + 3);
    for headers in [&managed[..], &mine] {
        let done = world.upload("/bucket/k", headers, &body);
        assert_eq!(done.status, 200, "{}", done.text());
        let keys: &[_] = if headers.len() == 1 { &[] } else { &mine };
        let got = world.with_headers("GET", "/bucket/k", keys, b"");
        assert!(got.body == body);
        assert!(got.headers["etag"].ends_with("-3\""));
        for (part, size) in [(1, 5 * MIB), (3, MIB + 3)] {
            let head =
                world.with_headers("HEAD", &format!("/bucket/k?partNumber={part}"), keys, b"");
            assert_eq!(head.headers["content-length"], size.to_string());
        }
        let range = ("range".to_owned(), format!("bytes={}-{}", 5 * MIB - 3, 10 * MIB + 9));
        let part = world.with_headers("GET", "/bucket/k", &[keys, &[range]].concat(), b"");
        assert!(part.body == body[5 * MIB - 3..=10 * MIB + 9]);
    }
    let begun = world.with_headers("POST", "/bucket/k?uploads=", &mine, b"");
    let id = begun.element("UploadId").unwrap();
    let place = format!("/bucket/k?partNumber=1&uploadId={id}");
    for keys in [&[][..], &other] {
        assert_eq!(world.with_headers("PUT", &place, keys, b"x").code(), "InvalidRequest");
    }
    let put = world.with_headers("PUT", &place, &mine, b"x");
    assert_ne!(put.headers["etag"], md5_tag(b"x"));
    assert_eq!(
        world.get(&format!("/bucket/k?uploadId={id}")).element("Size").as_deref(),
        Some("1")
    );
    let list = format!(
        "<CompleteMultipartUpload><Part><PartNumber>1</PartNumber><ETag>{}</ETag></Part></CompleteMultipartUpload>",
        put.headers["etag"]
    );
    for (keys, status) in [(&[][..], 400), (&other, 400), (&mine, 200)] {
        let target = format!("/bucket/k?uploadId={id}");
        assert_eq!(world.with_headers("POST", &target, keys, list.as_bytes()).status, status);
    }
    let begun = world.with_headers("POST", "/bucket/p?uploads=", &[], b"");
    let place = format!("/bucket/p?partNumber=1&uploadId={}", begun.element("UploadId").unwrap());
    assert_eq!(world.with_headers("PUT", &place, &mine, b"x").code(), "InvalidRequest");
}

#[test]
fn damage_is_not_given_out() {
    let world = World::new();
    world.put_default();
    let body = noise(3 * MIB);
    world.client.ask("PUT", "/bucket/k", &body);
    world.cluster.damage(DATA_POOL, 1_500_000);
    // The answer has begun: it breaks off.
    let signed = world.client.sign("GET", "/bucket/k", &[], b"", crate::Hash::OfBody);
    let mut stream = world.client.connect();
    stream.write_all(format!("{}\r\n", signed.head).as_bytes()).unwrap();
    assert!(crate::read_answer(&mut stream, "GET").is_none(), "damaged bytes were given out");
    // Stretches that are whole are read.
    let part = world.client.ask_with("GET", "/bucket/k", &[("range", "bytes=0-999999")], b"");
    assert!(part.body == body[..1_000_000]);
    world.cluster.damage(DATA_POOL, 5);
    assert_eq!(world.get("/bucket/k").code(), "InternalError");
}

#[test]
fn keys_are_changed_and_old_ones_stay() {
    let first = World::new();
    first.put_default();
    let body = noise(70_000);
    first.client.ask("PUT", "/bucket/old", &body);
    assert!(!first.cluster.names(META_POOL).is_empty());
    let secret = FixedKeys::default().seal_key().unwrap();
    let add = Op::Exec {
        class: "registry".into(),
        method: "add_key".into(),
        input: AddKey { key: new_key(&secret, 2) }.to_bytes(),
    };
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let added = first.cluster.operate(META_POOL, KEYS_OBJECT.into(), vec![add], false);
    let local = tokio::task::LocalSet::new();
    local.block_on(&runtime, added).unwrap();
    // A gateway that starts now writes with the new key, and the first one reads that.
    let second = World::over(first.cluster.clone(), crate::shared());
    second.client.ask("PUT", "/bucket/new", &body);
    let versions: BTreeMap<&str, u32> =
        [("old", 1), ("new", 2)].map(|(key, _)| (key, version_of(&second, key))).into();
    assert_eq!(versions, BTreeMap::from([("old", 1), ("new", 2)]));
    for world in [&first, &second] {
        for key in ["/bucket/old", "/bucket/new"] {
            assert!(world.get(key).body == body, "{key}");
        }
    }
}

/// The version of the cluster's keys that an object was encrypted with.
fn version_of(world: &World, key: &'static str) -> u32 {
    use store_base::bucket::{Answer, Found, KeyHolder, Read};
    use store_base::codec::Decode;
    let read = Read { key: Bytes::from_static(key.as_bytes()), body: false, version: None };
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    for shard in world.cluster.names(INDEX_POOL) {
        let op = Op::Exec { class: "bucket".into(), method: "read".into(), input: read.to_bytes() };
        let asked = world.cluster.operate(INDEX_POOL, shard, vec![op], true);
        let results = runtime.block_on(asked).unwrap();
        let found = Answer::<Option<Found>>::from_bytes(results[0].data.clone()).unwrap();
        if let Ok(Some(found)) = found.0 {
            match found.detail.encryption.expect("encrypted").holder {
                KeyHolder::Cluster { version } => return version,
                holder => panic!("{holder:?}"),
            }
        }
    }
    panic!("no such object")
}

#[test]
fn swift_shares_what_the_cluster_has_keys_for() {
    let world = World::new();
    world.put_default();
    let body = noise(200_000);
    world.client.ask("PUT", "/bucket/k", &body);
    world.with_headers("PUT", "/bucket/c", &customer(1, false), &body);
    let ask = |method: &str, target: &str, headers: &str, body: &[u8]| {
        let mut stream = world.client.connect();
        let length = body.len();
        let head = format!(
            "{method} {target} HTTP/1.1\r\nhost: h\r\nconnection: close\r\n{headers}content-length: {length}\r\n\r\n"
        );
        stream.write_all(&[head.as_bytes(), body].concat()).unwrap();
        crate::read_answer(&mut stream, method).expect("an answer")
    };
    let token = ask("GET", "/auth/v1.0", "x-auth-user: u:u\r\nx-auth-key: usecret\r\n", b"");
    let token = format!("x-auth-token: {}\r\n", token.headers["x-auth-token"]);
    let get = |key: &str| ask("GET", &format!("/v1/AUTH_u/bucket/{key}"), &token, b"");
    assert!(get("k").body == body);
    assert_eq!(get("c").status, 400, "{}", get("c").text());
    let put = ask("PUT", "/v1/AUTH_u/bucket/s", &token, &body);
    assert_eq!(put.status, 201, "{}", put.text());
    assert!(get("s").body == body && world.get("/bucket/s").body == body);
    assert_eq!(world.get("/bucket/s").headers[MANAGED.0], "AES256");
}

#[test]
fn a_wrong_key_is_refused_at_the_first_reading() {
    let world = World::new();
    let put = world.with_headers("PUT", "/bucket/k", &customer(1, false), b"body");
    assert_eq!(put.status, 200, "{}", put.text());
    let reads = Arc::new(AtomicUsize::new(0));
    let counted = reads.clone();
    world.fail(move |pool, _, ops| {
        let of_object = |op: &Op| matches!(op, Op::Exec { method, .. } if method == "read");
        if pool == INDEX_POOL && ops.iter().any(of_object) {
            counted.fetch_add(1, Ordering::Relaxed);
        }
        None
    });
    for (byte, status) in [(1, 200), (2, 400)] {
        let got = world.with_headers("GET", "/bucket/k", &customer(byte, false), b"");
        assert_eq!(got.status, status, "{}", got.text());
        assert_eq!(reads.swap(0, Ordering::Relaxed), 1, "{status}");
    }
}
