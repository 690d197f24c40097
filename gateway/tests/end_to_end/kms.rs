//! Named keys (SSE-KMS), through the socket: objects say which key protects them and lie sealed, and who may not use
//! the key, because it is disabled, going to be deleted or not there, gets neither a write nor a read.

use crate::client::Answer;
use crate::encryption::customer;
use crate::{World, noise, shared};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use store_base::bucket::{KmsChange, KmsKey};
use store_gateway::operator::Operator;
use store_gateway::operator::kms::creation;

const METHOD: &str = "x-amz-server-side-encryption";
const KEY: &str = "x-amz-server-side-encryption-aws-kms-key-id";
const CONTEXT: &str = "x-amz-server-side-encryption-context";
const BUCKET_KEY: &str = "x-amz-server-side-encryption-bucket-key-enabled";
const MIB: usize = 1 << 20;

fn run<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(work)
}

impl World {
    fn key(&self, id: &str, change: KmsChange) -> KmsKey {
        run(Operator::new(self.cluster.clone()).change_kms(id, change)).unwrap()
    }

    /// A gateway of the same cluster that knows nothing yet.
    fn fresh(&self) -> World {
        World::over(self.cluster.clone(), shared())
    }

    fn put_kms(&self, target: &str, more: &[(&str, &str)], body: &[u8]) -> Answer {
        let headers = [&[(METHOD, "aws:kms")][..], more].concat();
        self.client.ask_with("PUT", target, &headers, body)
    }

    fn encrypt_with(&self, inner: &str, more: &str) -> Answer {
        let document = format!(
            "<ServerSideEncryptionConfiguration><Rule><ApplyServerSideEncryptionByDefault><SSEAlgorithm>aws:kms</SSEAlgorithm>{inner}</ApplyServerSideEncryptionByDefault>{more}</Rule></ServerSideEncryptionConfiguration>"
        );
        self.client.ask("PUT", "/bucket?encryption=", document.as_bytes())
    }
}

fn named(answer: &Answer) -> (&str, &str) {
    let header = |name: &str| answer.headers.get(name).map_or("", String::as_str);
    (header(METHOD), header(KEY))
}

#[test]
fn bodies_under_named_keys_come_back_and_lie_sealed() {
    let world = World::new();
    world.key("k", creation(""));
    for size in [0, 1, 100, (32 << 10) + 1, 2 * MIB + 5] {
        let body = noise(size);
        let put = world.put_kms("/bucket/k", &[(KEY, "k")], &body);
        assert_eq!(put.status, 200, "{}", put.text());
        assert_eq!(named(&put), ("aws:kms", "k"));
        let got = world.get("/bucket/k");
        assert!(got.body == body, "{size} bytes came back changed");
        assert_eq!(named(&got), ("aws:kms", "k"));
        let head = world.client.ask("HEAD", "/bucket/k", b"");
        assert_eq!(
            (named(&head), &head.headers["content-length"]),
            (("aws:kms", "k"), &size.to_string())
        );
        if size >= 100 {
            assert!(!world.cluster.has_bytes(&body[size / 2..size / 2 + 30]), "{size} lies open");
            let range = format!("bytes={}-{}", size / 3, size - 2);
            let part = world.client.ask_with("GET", "/bucket/k", &[("range", &range)], b"");
            assert!(part.body == body[size / 3..size - 1]);
        }
    }
    // Who names no key has the default one, and every form of a name means the same key.
    let arn = "arn:aws:kms:us-east-1:123456789012:key/k";
    let alias = "arn:aws:kms:us-east-1:123456789012:alias/k";
    for (given, told) in [
        (None, "aws/s3"),
        (Some("alias/aws/s3"), "aws/s3"),
        (Some("alias/k"), "k"),
        (Some(arn), arn),
        (Some(alias), arn),
    ] {
        let key = given.map(|key| (KEY, key));
        let put = world.put_kms("/bucket/k", key.as_slice(), b"hello");
        assert_eq!(named(&put), ("aws:kms", told), "{}", put.text());
        assert_eq!(world.get("/bucket/k").body, b"hello");
        assert_eq!(named(&world.get("/bucket/k")), ("aws:kms", told));
    }
}

#[test]
fn what_names_no_key_or_says_it_wrong_is_refused() {
    let world = World::new();
    world.key("k", creation(""));
    let context = |json: &str| STANDARD.encode(json);
    let (good, bad) = (context(r#"{"a":"b"}"#), context(r#"{"a":1}"#));
    let (good, bad) = (&good[..], &bad[..]);
    let other = "arn:aws:kms:eu-west-1:1:key/k";
    for (headers, code) in [
        (&[(METHOD, "aws:kms"), (KEY, "none")][..], "KMS.NotFoundException"),
        (&[(METHOD, "aws:kms"), (KEY, "a b")], "KMS.NotFoundException"),
        (&[(METHOD, "aws:kms"), (KEY, other)], "KMS.NotFoundException"),
        (&[(METHOD, "aws:kms"), (CONTEXT, "{}")], "InvalidArgument"),
        (&[(METHOD, "aws:kms"), (CONTEXT, bad)], "InvalidArgument"),
        (&[(METHOD, "aws:kms"), (BUCKET_KEY, "yes")], "InvalidArgument"),
        (&[(METHOD, "aws:kms:dsse"), (KEY, "k")], "NotImplemented"),
        (&[(METHOD, "aws:kms:dsse")], "NotImplemented"),
        (&[(METHOD, "AES256"), (KEY, "k")], "InvalidArgument"),
        (&[(METHOD, "AES256"), (CONTEXT, good)], "InvalidArgument"),
        (&[(KEY, "k")], "InvalidArgument"),
        (&[(METHOD, "aes:kms")], "InvalidArgument"),
        (
            &[(METHOD, "aws:kms"), ("x-amz-server-side-encryption-customer-algorithm", "AES256")],
            "InvalidArgument",
        ),
    ] {
        let put = world.client.ask_with("PUT", "/bucket/k", headers, b"x");
        assert_eq!(
            (put.status, &put.code()[..]),
            (if code == "NotImplemented" { 501 } else { 400 }, code),
            "{headers:?}"
        );
    }
    assert_eq!(world.get("/bucket/k").code(), "NoSuchKey", "nothing was written");
    // A context and a wish for bucket keys are told again; the context only to who writes.
    let put =
        world.put_kms("/bucket/k", &[(KEY, "k"), (CONTEXT, good), (BUCKET_KEY, "true")], b"x");
    assert_eq!((&put.headers[CONTEXT][..], &put.headers[BUCKET_KEY][..]), (good, "true"));
    let got = world.get("/bucket/k");
    assert_eq!((&got.body[..], &got.headers[BUCKET_KEY][..]), (&b"x"[..], "true"));
    assert!(!got.headers.contains_key(CONTEXT));
    for method in ["GET", "HEAD"] {
        let read =
            world.client.ask_with(method, "/bucket/k", &[(METHOD, "aws:kms"), (KEY, "k")], b"");
        assert_eq!(read.status, 400);
    }
    let customer = customer(1, false);
    let read = world.with_headers("HEAD", "/bucket/k", &customer, b"");
    assert_eq!(read.status, 400, "a client's key for what needs none");
}

#[test]
fn a_bucket_can_encrypt_with_a_named_key_by_default() {
    let world = World::new();
    assert_eq!(
        world.encrypt_with("<KMSMasterKeyID>a b</KMSMasterKeyID>", "").code(),
        "KMS.NotFoundException"
    );
    let key = "<KMSMasterKeyID>k</KMSMasterKeyID>";
    let flag = "<BucketKeyEnabled>true</BucketKeyEnabled>";
    assert_eq!(world.encrypt_with(key, flag).status, 200);
    let told = world.get("/bucket?encryption=");
    assert_eq!(told.element("KMSMasterKeyID").as_deref(), Some("k"));
    assert_eq!(told.element("SSEAlgorithm").as_deref(), Some("aws:kms"));
    // As with AWS, nobody looks whether the key is there before something is written.
    assert_eq!(world.client.ask("PUT", "/bucket/a", b"x").code(), "KMS.NotFoundException");
    world.key("k", creation(""));
    let body = noise(100_000);
    let put = world.client.ask("PUT", "/bucket/a", &body);
    assert_eq!((named(&put), &put.headers[BUCKET_KEY][..]), (("aws:kms", "k"), "true"));
    assert!(world.get("/bucket/a").body == body);
    assert!(!world.cluster.has_bytes(&body[1000..1030]));
    // What a request says counts more; a key that it does not name is the default one, not the bucket's.
    let without = world.client.ask_with("PUT", "/bucket/a", &[(BUCKET_KEY, "false")], b"x");
    assert!(!without.headers.contains_key(BUCKET_KEY));
    let put = world.put_kms("/bucket/a", &[], b"x");
    assert_eq!((named(&put), &put.headers[BUCKET_KEY][..]), (("aws:kms", "aws/s3"), "true"));
    let put = world.client.ask_with("PUT", "/bucket/a", &[(METHOD, "AES256")], b"x");
    assert_eq!(named(&put), ("AES256", ""));
    assert_eq!(world.encrypt_with("", "").status, 200);
    assert_eq!(named(&world.client.ask("PUT", "/bucket/a", b"x")), ("aws:kms", "aws/s3"));
}

#[test]
fn uploads_and_copies_have_keys_of_their_own() {
    let world = World::new();
    world.key("one", creation(""));
    world.key("two", creation(""));
    let body = noise(6 * MIB + 3);
    let context = STANDARD.encode(r#"{"what":"upload"}"#);
    let wish = [(METHOD, "aws:kms"), (KEY, "one"), (CONTEXT, &context[..])];
    let begun = world.client.ask_with("POST", "/bucket/k?uploads=", &wish, b"");
    assert_eq!((named(&begun), &begun.headers[CONTEXT]), (("aws:kms", "one"), &context));
    let id = begun.element("UploadId").unwrap();
    let mut parts = String::new();
    for (n, part) in (1..).zip(body.chunks(5 * MIB)) {
        // What a part says of keys counts for nothing.
        let headers = [(METHOD, "aws:kms"), (KEY, "none")];
        let target = format!("/bucket/k?partNumber={n}&uploadId={id}");
        let put = world.client.ask_with("PUT", &target, &headers, part);
        assert_eq!(named(&put), ("aws:kms", "one"), "{}", put.text());
        let tag = &put.headers["etag"];
        parts.push_str(&format!("<Part><PartNumber>{n}</PartNumber><ETag>{tag}</ETag></Part>"));
    }
    let list = format!("<CompleteMultipartUpload>{parts}</CompleteMultipartUpload>");
    let done = world.client.ask("POST", &format!("/bucket/k?uploadId={id}"), list.as_bytes());
    assert_eq!(named(&done), ("aws:kms", "one"), "{}", done.text());
    assert!(world.get("/bucket/k").body == body);
    assert!(!world.cluster.has_bytes(&body[6 * MIB - 40..6 * MIB]));
    let source = ("x-amz-copy-source", "/bucket/k");
    for (wish, told) in [
        (&[(METHOD, "aws:kms"), (KEY, "two")][..], ("aws:kms", "two")),
        (&[(METHOD, "AES256")], ("AES256", "")),
        (&[], ("", "")),
    ] {
        let copied =
            world.client.ask_with("PUT", "/bucket/copy", &[&[source][..], wish].concat(), b"");
        assert_eq!((copied.status, named(&copied)), (200, told), "{}", copied.text());
        let got = world.get("/bucket/copy");
        assert!(got.body == body);
        assert_eq!(named(&got), told);
    }
    // Onto itself, with another key.
    let wish = [source, (METHOD, "aws:kms"), (KEY, "two")];
    assert_eq!(named(&world.client.ask_with("PUT", "/bucket/k", &wish, b"")), ("aws:kms", "two"));
    world.key("one", KmsChange::Disable {});
    assert!(world.fresh().get("/bucket/k").body == body, "it needs key one no more");
}

#[test]
fn what_is_there_stays_readable_after_a_rotation_and_not_without_its_key() {
    let world = World::new();
    world.key("k", creation(""));
    let body = noise(70_000);
    world.put_kms("/bucket/old", &[(KEY, "k")], &body);
    assert_eq!(world.key("k", KmsChange::Rotate {}).wanted, 2);
    let second = world.fresh();
    assert_eq!(second.put_kms("/bucket/new", &[(KEY, "k")], &body).status, 200);
    let key = run(Operator::new(world.cluster.clone()).kms_key("k")).unwrap();
    assert_eq!(key.versions.iter().map(|version| version.version).collect::<Vec<_>>(), [1, 2]);
    // The first gateway believes still in version 1, and reads both.
    for gateway in [&world, &second] {
        for key in ["/bucket/old", "/bucket/new"] {
            assert!(gateway.get(key).body == body, "{key}");
        }
    }
    for (change, code) in [
        (KmsChange::Disable {}, "KMS.DisabledException"),
        (KmsChange::Delete { days: 7 }, "KMS.KMSInvalidStateException"),
        (KmsChange::Undelete {}, "KMS.DisabledException"),
    ] {
        world.key("k", change);
        let gateway = world.fresh();
        for denied in [
            gateway.get("/bucket/old"),
            gateway.put_kms("/bucket/no", &[(KEY, "k")], b"x"),
            gateway.client.ask_with(
                "PUT",
                "/bucket/no",
                &[("x-amz-copy-source", "/bucket/old")],
                b"",
            ),
        ] {
            assert_eq!((denied.status, &denied.code()[..]), (400, code));
        }
        // It may be looked at and removed.
        assert_eq!(named(&gateway.client.ask("HEAD", "/bucket/old", b"")), ("aws:kms", "k"));
        assert_eq!(gateway.client.ask("DELETE", "/bucket/new", b"").status, 204);
    }
    world.key("k", KmsChange::Enable {});
    assert!(world.fresh().get("/bucket/old").body == body);
    // The gateway that believed otherwise hears of a change within its time.
    world.key("k", KmsChange::Disable {});
    let until = std::time::Instant::now() + 2 * store_gateway::crypt::kms::BELIEVED_FOR;
    while world.get("/bucket/old").status == 200 {
        assert!(std::time::Instant::now() < until, "a disabled key is used for ever");
        std::thread::sleep(std::time::Duration::from_millis(100));
    }
}

#[test]
fn operators_renew_the_clusters_own_key() {
    let world = World::new();
    let put =
        |world: &World| world.client.ask_with("PUT", "/bucket/k", &[(METHOD, "AES256")], b"hello");
    assert_eq!(put(&world).status, 200);
    world.key("k", creation(""));
    world.put_kms("/bucket/named", &[(KEY, "k")], b"hello");
    let operator = Operator::new(world.cluster.clone());
    assert_eq!(run(operator.rotate_cluster_key()).unwrap(), 2);
    assert_eq!(run(operator.cluster_keys()).unwrap().0.len(), 1, "made when it is needed");
    let second = world.fresh();
    assert!(second.get("/bucket/k").body == b"hello");
    assert_eq!(put(&second).status, 200);
    let (keys, wanted) = run(operator.cluster_keys()).unwrap();
    assert_eq!((keys.iter().map(|key| key.version).collect::<Vec<_>>(), wanted), (vec![1, 2], 2));
    assert_eq!(world.get("/bucket/k").body, b"hello");
    // Named keys keep the wrapping that they have, and new versions get the new one.
    world.key("k", KmsChange::Rotate {});
    assert_eq!(second.put_kms("/bucket/new", &[(KEY, "k")], b"hello").status, 200);
    let key = run(operator.kms_key("k")).unwrap();
    let under: Vec<u32> = key.versions.iter().map(|version| version.cluster_version).collect();
    assert_eq!(under, [1, 2]);
    for key in ["/bucket/named", "/bucket/new"] {
        assert_eq!(world.get(key).body, b"hello");
    }
    assert_eq!(
        run(operator.key_of_bucket("bucket")).unwrap_err().to_string(),
        "the bucket bucket encrypts nothing by default"
    );
    world.encrypt_with("<KMSMasterKeyID>alias/k</KMSMasterKeyID>", "");
    assert_eq!(run(operator.key_of_bucket("bucket")).unwrap().as_deref(), Some("k"));
}

#[test]
fn policies_decide_by_key() {
    let world = World::new();
    for key in ["k", "other"] {
        world.key(key, creation(""));
    }
    let policy = format!(
        r#"{{"Version":"2012-10-17","Statement":[{{"Effect":"Deny","Principal":"*","Action":"s3:PutObject","Resource":"arn:aws:s3:::bucket/*","Condition":{{"StringNotEquals":{{"s3:{METHOD}":"aws:kms"}}}}}},{{"Effect":"Deny","Principal":"*","Action":"s3:PutObject","Resource":"arn:aws:s3:::bucket/*","Condition":{{"StringNotEquals":{{"s3:{KEY}":"k"}}}}}}]}}"#
    );
    assert_eq!(world.client.ask("PUT", "/bucket?policy=", policy.as_bytes()).status, 204);
    // Another thread of the gateway hears of it within a second.
    std::thread::sleep(std::time::Duration::from_millis(1100));
    for (headers, status) in [
        (&[][..], 403),
        (&[(METHOD, "AES256")], 403),
        (&[(METHOD, "aws:kms")], 403),
        (&[(METHOD, "aws:kms"), (KEY, "other")], 403),
        (&[(METHOD, "aws:kms"), (KEY, "k")], 200),
        (&[(METHOD, "aws:kms"), (KEY, "arn:aws:kms:us-east-1:1:key/k")], 200),
    ] {
        let put = world.client.ask_with("PUT", "/bucket/x", headers, b"x");
        assert_eq!(put.status, status, "{headers:?}");
    }
}
