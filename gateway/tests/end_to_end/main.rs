//! The gateway over a cluster in memory, spoken to through sockets: what every layer does together, and
//! what is left behind when clients or the cluster misbehave.

#![allow(clippy::unwrap_used, clippy::disallowed_methods)] // a test has threads and clocks of its own

mod access;
mod client;
mod conformance;
mod decisions;
mod encryption;
mod forms;
mod iam;
mod journal;
mod kms;
mod lifecycle;
mod logging;
mod notify;
mod presigned;
mod quota;
mod swift;
mod swift_access;
mod swift_bulk;
mod swift_details;
mod swift_forms;
mod swift_large;
mod swift_more;
mod versions;
mod website;

use client::{Answer, Client, Hash, read_answer};
use std::io::Write;
use std::net::Shutdown as Half;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use store_base::PoolId;
use store_base::error::Error;
use store_base::op::Op;
use store_gateway::catalogue::sweep::Sweep;
use store_gateway::cluster::memory::MemoryCluster;
use store_gateway::cluster::{DATA_POOL, INDEX_POOL, Place};
use store_gateway::keyring::{FixedKeys, Member, User};
use store_gateway::s3::Settings;
use store_gateway::shell::{Shared, serve};
use store_gateway::transfer::Budget;
use store_shell::shutdown::Shutdown;

/// A gateway on a thread of its own, stopped when dropped.
struct World {
    client: Client,
    cluster: MemoryCluster,
    shutdown: Shutdown,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl World {
    fn new() -> Self {
        World::with(shared())
    }

    fn with(shared: Shared) -> Self {
        let world = World::over(MemoryCluster::default(), shared);
        assert_eq!(world.client.ask("PUT", "/bucket", b"").status, 200);
        world
    }

    /// Another gateway of the same cluster.
    fn over(cluster: MemoryCluster, shared: Shared) -> Self {
        let shutdown = Shutdown::new();
        let (tell, told) = std::sync::mpsc::channel();
        let (on_thread, stop) = (cluster.clone(), shutdown.clone());
        let thread = std::thread::spawn(move || {
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async move {
                let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
                let address = listener.local_addr().unwrap();
                let connect = move || {
                    let cluster = on_thread.clone();
                    async move { Ok(cluster) }
                };
                let ready = move || tell.send(address).unwrap();
                serve(listener, shared, 2, 64, connect, ready, stop).await.unwrap();
            });
        });
        let client = Client {
            address: told.recv().unwrap(),
            access_key: "u".into(),
            secret: "usecret".into(),
        };
        World { client, cluster, shutdown, thread: Some(thread) }
    }

    fn get(&self, target: &str) -> Answer {
        self.client.ask("GET", target, b"")
    }

    /// Waits until the sweeper has left so many data objects.
    fn data_objects_become(&self, count: usize) {
        let until = Instant::now() + Duration::from_secs(20);
        while self.cluster.names(DATA_POOL).len() != count {
            assert!(Instant::now() < until, "left: {:?}", self.cluster.names(DATA_POOL));
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn fail(&self, fault: impl Fn(Place, &str, &[Op]) -> Option<Error> + Send + 'static) {
        self.cluster.fail_with(Some(Box::new(fault)));
    }
}

impl Drop for World {
    fn drop(&mut self) {
        self.shutdown.trigger();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn shared() -> Shared {
    let user = |id: &str| User {
        id: id.into(),
        display_name: id.into(),
        secret: format!("{id}secret"),
        ..User::default()
    };
    let member = |name: &str, admin: bool| User {
        member: Some(Member { account: "u".into(), name: name.into(), admin }),
        ..user(name)
    };
    Shared {
        settings: Arc::new(Settings {
            region: "us-east-1".into(),
            domains: vec!["s3.test".into()],
            website_domains: vec!["web.localhost".into()],
            inline_bytes_max: 32 << 10,
            index_shards: 4,
            body_idle: Duration::from_secs(1),
            // Tests are their own proxies.
            trusted_proxies: vec!["127.0.0.1".parse().unwrap()],
            access_log_every: Duration::from_millis(500),
            customer_keys_need_tls: false,
            host_id: "test".into(),
            webhooks: Default::default(),
        }),
        keys: Arc::new(
            FixedKeys::default()
                .with("u", user("u"))
                .with("v", user("v"))
                .with("a", User { admin: true, ..user("a") })
                .with("u:guest", member("guest", false))
                .with("u:boss", member("boss", true)),
        ),
        metrics: Arc::default(),
        budget: Budget::new(8 << 20),
        sweep: Sweep { tick: Duration::from_millis(50), delay: Duration::ZERO, ..Sweep::default() },
        tls: None,
    }
}

fn noise(len: usize) -> Vec<u8> {
    let mut seed = len as u64 | 1;
    let next = |seed: &mut u64| {
        *seed =
            seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (*seed >> 56) as u8
    };
    (0..len).map(|_| next(&mut seed)).collect()
}

#[test]
fn bodies_of_every_size_come_back_and_go() {
    let world = World::new();
    let mib = 1 << 20;
    let sizes =
        [0, 1, 32 << 10, (32 << 10) + 1, mib - 1, mib, mib + 1, 4 * mib, 4 * mib + 1, 9 * mib + 7];
    for size in sizes {
        let body = noise(size);
        let put = world.client.ask("PUT", "/bucket/k", &body);
        assert_eq!(put.status, 200, "{}", put.text());
        let got = world.get("/bucket/k");
        assert!(got.body == body, "{size} bytes came back changed");
        assert_eq!(got.headers["etag"], put.headers["etag"]);
        if size > 10 {
            let range = format!("bytes={}-{}", size / 2, size - 2);
            let part = world.client.ask_with("GET", "/bucket/k", &[("range", &range)], b"");
            assert_eq!(part.status, 206);
            assert!(part.body == body[size / 2..size - 1], "range of {size}");
        }
    }
    world.data_objects_become(3);
    assert_eq!(world.client.ask("DELETE", "/bucket/k", b"").status, 204);
    assert_eq!(world.get("/bucket/k").code(), "NoSuchKey");
    world.data_objects_become(0);
}

#[test]
fn paths_are_bytes() {
    let world = World::new();
    let keys = [
        "/", "//", "a//b", ".", "../x", "a/./b", "%01%02", "%20", "%2B", "%C3%A9", "%2541", "a%00b",
    ];
    for key in keys {
        let target = format!("/bucket/{key}");
        assert_eq!(world.client.ask("PUT", &target, key.as_bytes()).status, 200, "{key}");
    }
    for key in keys {
        assert_eq!(world.get(&format!("/bucket/{key}")).text(), key);
    }
    let list = world.get("/bucket?encoding-type=url&list-type=2");
    let expected = [
        "%01%02", "%20", "%2541", "%2B", ".", "../x", "/", "//", "a%00b", "a/./b", "a//b", "%C3%A9",
    ];
    assert_eq!(list.elements("Key"), expected);
}

#[test]
fn signed_chunks_are_checked_while_they_stream() {
    let world = World::new();
    let body = noise(3_000_000);
    for (size, spoil, expected) in [
        (70_000, None, 200),
        (1_000_000, None, 200),
        (70_000, Some(2_999_000), 403),
        (70_000, Some(100), 403),
    ] {
        let length = body.len().to_string();
        let signed = world.client.sign(
            "PUT",
            "/bucket/chunked",
            &[
                ("x-amz-decoded-content-length", &length),
                ("content-encoding", "aws-chunked,gzip"),
                ("content-length", "0"),
            ],
            b"",
            Hash::Chunks,
        );
        // The length is signed in the real protocol too; here it is put right before sending.
        let mut framed = signed.chunks(&body, size);
        if let Some(at) = spoil {
            framed[at] ^= 1;
        }
        let signed = world.client.sign(
            "PUT",
            "/bucket/chunked",
            &[
                ("x-amz-decoded-content-length", &length),
                ("content-encoding", "aws-chunked,gzip"),
                ("content-length", &framed.len().to_string()),
            ],
            b"",
            Hash::Chunks,
        );
        let mut framed = signed.chunks(&body, size);
        if let Some(at) = spoil {
            framed[at] ^= 1;
        }
        let mut stream = world.client.connect();
        stream.write_all(format!("{}connection: close\r\n\r\n", signed.head).as_bytes()).unwrap();
        let _ = stream.write_all(&framed);
        let answer = read_answer(&mut stream, "PUT").expect("an answer");
        assert_eq!(answer.status, expected, "{} {spoil:?} {}", size, answer.text());
    }
    let got = world.get("/bucket/chunked");
    assert!(got.body == body, "a refused body replaced a good one");
    assert_eq!(got.headers["content-encoding"], "gzip");
    world.data_objects_become(1);
}

#[test]
fn a_wrong_digest_leaves_nothing() {
    let world = World::new();
    let body = noise(2_000_000);
    for (header, value, code) in [
        ("content-md5", "AAAAAAAAAAAAAAAAAAAAAA==", "BadDigest"),
        ("x-amz-checksum-crc32", "AAAAAA==", "BadDigest"),
        ("x-amz-checksum-sha256", "AAAA", "BadDigest"),
        ("content-md5", "short", "InvalidDigest"),
    ] {
        let answer = world.client.ask_with("PUT", "/bucket/bad", &[(header, value)], &body);
        assert_eq!(answer.code(), code, "{header}");
    }
    let signed = world.client.sign("PUT", "/bucket/bad", &[], &body, Hash::OfBody);
    let mut other = body;
    other[1_999_999] ^= 1;
    let mut stream = world.client.connect();
    stream.write_all(format!("{}\r\n", signed.head).as_bytes()).unwrap();
    stream.write_all(&other).unwrap();
    let answer = read_answer(&mut stream, "PUT").expect("an answer");
    assert_eq!(answer.code(), "XAmzContentSHA256Mismatch");
    assert_eq!(world.get("/bucket/bad").code(), "NoSuchKey");
    world.data_objects_become(0);
}

#[test]
fn a_client_that_goes_away_or_stalls_leaves_nothing() {
    let world = World::new();
    let body = noise(3_000_000);
    for stall in [false, true] {
        let signed = world.client.sign("PUT", "/bucket/cut", &[], &body, Hash::Unsigned);
        let mut stream = world.client.connect();
        stream.write_all(format!("{}\r\n", signed.head).as_bytes()).unwrap();
        stream.write_all(&body[..2_500_000]).unwrap();
        if stall {
            let answer = read_answer(&mut stream, "PUT").expect("an answer");
            assert_eq!(answer.code(), "RequestTimeout");
        } else {
            stream.shutdown(Half::Both).unwrap();
        }
        drop(stream);
    }
    assert_eq!(world.get("/bucket/cut").code(), "NoSuchKey");
    world.data_objects_become(0);
}

#[test]
fn expect_continue_is_answered_as_clients_rely_on() {
    let world = World::new();
    let exchange = |key: &str, body: &[u8]| {
        let target = format!("/bucket/{key}");
        let signed =
            world.client.sign("PUT", &target, &[("expect", "100-continue")], body, Hash::OfBody);
        let mut stream = world.client.connect();
        stream.write_all(format!("{}\r\n", signed.head).as_bytes()).unwrap();
        let mut first = [0; 25];
        std::io::Read::read_exact(&mut stream, &mut first).unwrap();
        let told = first.starts_with(b"HTTP/1.1 100 Continue");
        if told {
            stream.write_all(body).unwrap();
            let answer = read_answer(&mut stream, "PUT").expect("an answer");
            return (true, answer.status, answer.headers.get("connection").cloned());
        }
        let mut rest = String::new();
        std::io::Read::read_to_string(&mut stream, &mut rest).unwrap();
        let close = rest.contains("connection: close").then(|| "close".to_owned());
        (false, String::from_utf8_lossy(&first[9..12]).parse().unwrap(), close)
    };
    assert_eq!(exchange("k", b"body"), (true, 200, None));
    assert_eq!(exchange("k", b""), (true, 200, None));
    let long = "x".repeat(1025);
    assert_eq!(exchange(&long, b"body"), (false, 400, Some("close".into())));
}

#[test]
fn of_many_conditional_writers_one_wins() {
    let world = World::new();
    let winners: Vec<bool> = std::thread::scope(|scope| {
        let writers: Vec<_> = (0..8)
            .map(|n| {
                let client = world.client.clone();
                scope.spawn(move || {
                    let body = noise(40_000 + n);
                    let answer =
                        client.ask_with("PUT", "/bucket/once", &[("if-none-match", "*")], &body);
                    assert!(matches!(answer.status, 200 | 412), "{}", answer.text());
                    answer.status == 200
                })
            })
            .collect();
        writers.into_iter().map(|writer| writer.join().unwrap()).collect()
    });
    assert_eq!(winners.iter().filter(|won| **won).count(), 1);
    let n = winners.iter().position(|won| *won).unwrap();
    assert!(world.get("/bucket/once").body == noise(40_000 + n));
    world.data_objects_become(1);
}

#[test]
fn multipart_from_begin_to_end() {
    let world = World::new();
    let begun = world.client.ask("POST", "/bucket/m?uploads", b"");
    let id = begun.element("UploadId").expect("an id");
    let parts = [noise(5 << 20), noise(5 << 20), noise(77)];
    let mut list = String::new();
    for (n, part) in parts.iter().enumerate() {
        let target = format!("/bucket/m?partNumber={}&uploadId={id}", n + 1);
        let answer = world.client.ask("PUT", &target, part);
        assert_eq!(answer.status, 200, "{}", answer.text());
        list.push_str(&format!(
            "<Part><PartNumber>{}</PartNumber><ETag>{}</ETag></Part>",
            n + 1,
            answer.headers["etag"]
        ));
    }
    // A part that is written again replaces the first, whose data goes.
    let target = format!("/bucket/m?partNumber=2&uploadId={id}");
    assert_eq!(world.client.ask("PUT", &target, &parts[1]).status, 200);
    world.data_objects_become(5);
    assert_eq!(world.get("/bucket/m").code(), "NoSuchKey");
    let document = format!("<CompleteMultipartUpload>{list}</CompleteMultipartUpload>");
    let target = format!("/bucket/m?uploadId={id}");
    let done = world.client.ask("POST", &target, document.as_bytes());
    assert_eq!(done.status, 200, "{}", done.text());
    assert!(done.element("ETag").unwrap().contains("-3"));
    let again = world.client.ask("POST", &target, document.as_bytes());
    assert_eq!(again.element("ETag"), done.element("ETag"));
    assert!(world.get("/bucket/m").body == parts.concat());
    let second = world.get("/bucket/m?partNumber=2");
    assert_eq!((second.status, second.headers["x-amz-mp-parts-count"].as_str()), (206, "3"));
    assert!(second.body == parts[1]);
    assert_eq!(world.client.ask("DELETE", "/bucket/m", b"").status, 204);
    world.data_objects_become(0);
}

#[test]
fn a_cluster_that_fails_is_a_retry_for_the_client_and_never_a_half_object() {
    let world = World::new();
    let body = noise(2_500_000);
    world.fail(|pool, object, _| {
        (pool == DATA_POOL && object.ends_with(".0")).then(|| Error::Unavailable("away".into()))
    });
    assert_eq!(world.client.ask("PUT", "/bucket/f", &body).status, 503);
    world.fail(|pool, _, ops| match &ops[0] {
        Op::Exec { method, .. } if pool == INDEX_POOL && method == "put" => {
            Some(Error::TimedOut("no answer".into()))
        }
        _ => None,
    });
    assert_eq!(world.client.ask("PUT", "/bucket/f", &body).status, 503);
    assert_eq!(world.client.ask("PUT", "/bucket/f", b"small").status, 503);
    world.fail(|_, _, ops| {
        matches!(&ops[0], Op::Write { .. }).then(|| Error::Full("no room".into()))
    });
    assert_eq!(world.client.ask("PUT", "/bucket/f", &body).code(), "InsufficientStorage");
    world.cluster.fail_with(None);
    assert_eq!(world.get("/bucket/f").code(), "NoSuchKey");
    world.data_objects_become(0);
    assert_eq!(world.client.ask("PUT", "/bucket/f", &body).status, 200);

    // Damage in the middle: the answer has begun, so it breaks off; it is never short and complete.
    let broken = Arc::new(AtomicBool::new(false));
    let seen = broken.clone();
    world.fail(move |pool, _, ops| match &ops[0] {
        Op::Read { offset, .. } if pool == DATA_POOL && *offset >= 2 << 20 => {
            seen.store(true, Ordering::Relaxed);
            Some(Error::Damaged("rot".into()))
        }
        _ => None,
    });
    let signed = world.client.sign("GET", "/bucket/f", &[], b"", Hash::OfBody);
    let mut stream = world.client.connect();
    stream.write_all(format!("{}\r\n", signed.head).as_bytes()).unwrap();
    assert!(read_answer(&mut stream, "GET").is_none());
    assert!(broken.load(Ordering::Relaxed));
}

#[test]
fn the_data_of_a_bucket_goes_where_its_placement_says() {
    let world = World::new();
    let pool = Place::Placed(PoolId(7));
    world.cluster.add_placement("ec", PoolId(7));
    let create = |name: &str, location: &str| {
        let document = format!(
            "<CreateBucketConfiguration><LocationConstraint>{location}</LocationConstraint>\
             </CreateBucketConfiguration>"
        );
        world.client.ask("PUT", &format!("/{name}"), document.as_bytes())
    };
    assert_eq!(create("placed", ":ec").status, 200);
    assert_eq!(create("placed-too", "us-east-1:ec").status, 200);
    assert_eq!(create("plain", "us-east-1:default-placement").status, 200);
    assert_eq!(create("lost", ":nowhere").code(), "InvalidLocationConstraint");
    assert_eq!(create("lost", "mars:ec").code(), "IllegalLocationConstraintException");

    let body = noise(9_000_000);
    for (bucket, here, there) in [("placed", pool, DATA_POOL), ("plain", DATA_POOL, pool)] {
        let target = format!("/{bucket}/k");
        assert_eq!(world.client.ask("PUT", &target, &body).status, 200);
        assert_eq!(world.client.ask("PUT", &format!("/{bucket}/small"), b"inline").status, 200);
        assert_eq!(world.cluster.names(here).len(), 3, "{bucket}: 4 MiB objects");
        assert_eq!(world.cluster.names(there).len(), 0, "{bucket}");
        assert!(world.get(&target).body == body);
        assert_eq!(world.get(&format!("/{bucket}/small")).body, b"inline");
        assert_eq!(world.client.ask("DELETE", &target, b"").status, 204);
        let until = Instant::now() + Duration::from_secs(20);
        while !world.cluster.names(here).is_empty() {
            assert!(Instant::now() < until, "the sweeper looks in the right pool");
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

#[test]
fn strangers_and_other_users_get_nothing() {
    let world = World::new();
    world.client.ask("PUT", "/bucket/k", b"secret");
    let other = Client { access_key: "v".into(), secret: "vsecret".into(), ..world.client.clone() };
    for (method, target) in [
        ("GET", "/bucket/k"),
        ("HEAD", "/bucket/k"),
        ("PUT", "/bucket/k"),
        ("DELETE", "/bucket/k"),
        ("GET", "/bucket"),
        ("DELETE", "/bucket"),
        ("GET", "/bucket?acl="),
        ("POST", "/bucket/k?uploads="),
        ("POST", "/bucket?delete="),
    ] {
        assert_eq!(other.ask(method, target, b"").status, 403, "{method} {target}");
        let mut stream = world.client.connect();
        let head = format!(
            "{method} {target} HTTP/1.1\r\nhost: h\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
        );
        stream.write_all(head.as_bytes()).unwrap();
        let answer = read_answer(&mut stream, method).expect("an answer");
        assert_eq!(answer.status, 403, "{method} {target} without a signature");
    }
    assert!(other.ask("GET", "/", b"").elements("Name").is_empty());
    assert_eq!(other.ask("PUT", "/bucket", b"").code(), "BucketAlreadyExists");
    let copy = other.ask("PUT", "/mine", b"");
    assert_eq!(copy.status, 200);
    let stolen = other.ask_with("PUT", "/mine/k", &[("x-amz-copy-source", "/bucket/k")], b"");
    assert_eq!(stolen.code(), "AccessDenied");
    assert_eq!(world.get("/bucket/k").text(), "secret");
}

#[test]
fn nonsense_on_the_socket_harms_nobody() {
    let world = World::new();
    let long_header = format!("GET / HTTP/1.1\r\nx: {}\r\n\r\n", "y".repeat(300_000));
    let many_headers = format!("GET / HTTP/1.1\r\n{}\r\n", "a: b\r\n".repeat(500));
    for nonsense in [
        "\0\0\0\0",
        "GET\r\n\r\n",
        "GET / HTTP/9.9\r\n\r\n",
        "PUT /b/k HTTP/1.1\r\ncontent-length: -1\r\n\r\n",
        "PUT /b/k HTTP/1.1\r\ncontent-length: 5\r\ncontent-length: 6\r\n\r\n",
        "PUT /b/k HTTP/1.1\r\nhost: h\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",
        "GET /%ff%fe HTTP/1.1\r\nhost: h\r\n\r\n",
        "GET /?%ff HTTP/1.1\r\nhost: h\r\n\r\n",
        "GET / HTTP/1.1\r\nhost: h\r\nauthorization: AWS4-HMAC-SHA256 \u{e9}\r\n\r\n",
        &long_header,
        &many_headers,
    ] {
        let mut stream = world.client.connect();
        let _ = stream.write_all(nonsense.as_bytes());
        let _ = stream.shutdown(Half::Write);
        if let Some(answer) = read_answer(&mut stream, "GET") {
            assert!(answer.status >= 400, "{nonsense:.40} was answered with {}", answer.status);
        }
    }
    assert_eq!(world.client.ask("PUT", "/bucket/alive", b"x").status, 200);
}

#[test]
fn a_bucket_is_removed_with_all_that_was_in_it() {
    let world = World::new();
    let begun = world.client.ask("POST", "/bucket/m?uploads", b"");
    let id = begun.element("UploadId").expect("an id");
    let target = format!("/bucket/m?partNumber=1&uploadId={id}");
    assert_eq!(world.client.ask("PUT", &target, &noise(100)).status, 200);
    world.client.ask("PUT", "/bucket/k", b"x");
    assert_eq!(world.client.ask("DELETE", "/bucket", b"").code(), "BucketNotEmpty");
    world.client.ask("DELETE", "/bucket/k", b"");
    assert_eq!(world.client.ask("DELETE", "/bucket", b"").status, 204);
    assert_eq!(world.get("/bucket").code(), "NoSuchBucket");
    assert_eq!(world.client.ask("PUT", "/bucket/k", b"x").code(), "NoSuchBucket");
    assert_eq!(world.client.ask("PUT", "/bucket", b"").status, 200);
    assert!(world.get("/bucket").elements("Key").is_empty());
}
