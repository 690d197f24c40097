//! Access logs, through the socket: every request to a bucket is in its log, once; the log goes where it may
//! and nowhere else; nothing logs itself.

use crate::World;
use crate::client::{Answer, Client, read_answer};
use std::io::Write;
use std::time::{Duration, Instant};

impl World {
    pub(crate) fn keep_log(&self, target: &str, more: &str) -> Answer {
        let text = format!(
            "<BucketLoggingStatus><LoggingEnabled><TargetBucket>{target}</TargetBucket><TargetPrefix>log/</TargetPrefix>{more}</LoggingEnabled></BucketLoggingStatus>"
        );
        self.client.ask("PUT", "/bucket?logging=", text.as_bytes())
    }

    /// A bucket that takes logs.
    pub(crate) fn log_bucket(&self, name: &str) {
        let acl = [("x-amz-acl", "log-delivery-write")];
        assert_eq!(self.client.ask_with("PUT", &format!("/{name}"), &acl, b"").status, 200);
    }

    /// All lines in the logs of a bucket.
    pub(crate) fn lines(&self, bucket: &str) -> Vec<String> {
        let keys = self.get(&format!("/{bucket}?list-type=2&prefix=log%2F")).elements("Key");
        let texts = keys.iter().map(|key| self.get(&format!("/{bucket}/{key}")).text());
        texts.flat_map(|text| text.lines().map(str::to_owned).collect::<Vec<_>>()).collect()
    }

    pub(crate) fn wait_for_lines(&self, bucket: &str, count: usize) -> Vec<String> {
        let until = Instant::now() + Duration::from_secs(20);
        loop {
            let lines = self.lines(bucket);
            if lines.len() >= count {
                return lines;
            }
            assert!(Instant::now() < until, "{count} lines wanted: {lines:#?}");
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    fn unsigned(&self, text: &str, method: &str) -> Answer {
        let mut stream = self.client.connect();
        stream.write_all(text.as_bytes()).unwrap();
        read_answer(&mut stream, method).expect("an answer")
    }
}

/// The fields of a line: in brackets, in quotes, or without spaces.
pub(crate) fn fields(line: &str) -> Vec<String> {
    let mut fields = Vec::new();
    let mut rest = line;
    while !rest.is_empty() {
        let (field, behind) = match &rest[..1] {
            "[" => rest[1..].split_once(']').unwrap(),
            "\"" => rest[1..].split_once('"').unwrap(),
            _ => rest.split_once(' ').unwrap_or((rest, "")),
        };
        fields.push(field.to_owned());
        rest = behind.trim_start();
    }
    fields
}

#[test]
fn every_request_is_in_the_log_once() {
    let world = World::new();
    world.log_bucket("logs");
    assert_eq!(world.keep_log("logs", "").status, 200);
    let shown = world.get("/bucket?logging=");
    assert_eq!(shown.element("TargetPrefix").as_deref(), Some("log/"));
    assert!(shown.text().contains("SimplePrefix"));
    assert_eq!(shown.element("LoggingType").as_deref(), Some("Standard"));
    assert!(shown.headers.contains_key("last-modified") && !shown.text().contains("ModifiedMs"));
    world.client.ask("PUT", "/bucket/a%20b", b"hello");
    world.client.ask_with("GET", "/bucket/a%20b", &[("range", "bytes=1-2")], b"");
    let copy = [("x-amz-copy-source", "/bucket/a%20b")];
    world.client.ask_with("PUT", "/bucket/copy", &copy, b"");
    world.get("/bucket/none");
    let nobody = "GET /bucket/copy HTTP/1.1\r\nhost: h\r\nconnection: close\r\nuser-agent: a \"b\"\r\nreferer: http://r/\r\n\r\n";
    assert_eq!(world.unsigned(nobody, "GET").status, 403);
    let liar = Client { secret: "other".into(), ..world.client.clone() };
    assert_eq!(liar.ask("GET", "/bucket/copy", b"").status, 403);
    let website = "GET /x HTTP/1.1\r\nhost: bucket.web.localhost\r\nconnection: close\r\n\r\n";
    assert_eq!(world.unsigned(website, "GET").status, 404);
    world.client.ask("DELETE", "/bucket/copy", b"");
    // Of other buckets, and of the log itself, there is nothing in it.
    world.get("/logs");
    let lines = world.wait_for_lines("logs", 9);
    std::thread::sleep(Duration::from_millis(1500));
    assert_eq!(world.lines("logs").len(), lines.len(), "requests for logs are not logged");
    let records: Vec<Vec<String>> = lines.iter().map(|line| fields(line)).collect();
    let of = |operation: &str, key: &str, status: &str| {
        let fit = |r: &&Vec<String>| r[6] == operation && r[7] == key && r[9] == status;
        let found: Vec<_> = records.iter().filter(fit).collect();
        assert_eq!(found.len(), 1, "{operation} {key} {status} in {lines:#?}");
        found[0].clone()
    };
    for record in &records {
        assert_eq!(record.len(), 26, "{record:?}");
        assert_eq!((record[0].as_str(), record[1].as_str()), ("u", "bucket"));
        assert!(record[2].ends_with(" +0000") && record[3] == "127.0.0.1", "{record:?}");
    }
    let put = of("REST.PUT.OBJECT", "a%20b", "200");
    assert_eq!((put[4].as_str(), put[12].as_str(), put[19].as_str()), ("u", "5", "SigV4"));
    assert_eq!(put[8], "PUT /bucket/a%20b HTTP/1.1");
    let get = of("REST.GET.OBJECT", "a%20b", "206");
    assert_eq!((get[11].as_str(), get[12].as_str()), ("2", "5"));
    of("REST.COPY.OBJECT", "copy", "200");
    assert_eq!(of("REST.GET.OBJECT", "none", "404")[10], "NoSuchKey");
    let denied = records.iter().find(|r| r[4] == "-" && r[16].contains("%22")).unwrap();
    assert_eq!((denied[10].as_str(), denied[15].as_str()), ("AccessDenied", "http://r/"));
    assert!(records.iter().any(|r| r[10] == "SignatureDoesNotMatch"));
    assert_eq!(of("WEBSITE.GET.OBJECT", "x", "404")[10], "NoSuchWebsiteConfiguration");
    of("REST.DELETE.OBJECT", "copy", "204");
    of("REST.GET.LOGGING_STATUS", "-", "200");
    // Switched off, it ends.
    let off = world.client.ask("PUT", "/bucket?logging=", b"<BucketLoggingStatus/>");
    assert_eq!(off.status, 200);
    assert_eq!(world.get("/bucket?logging=").element("TargetBucket"), None);
}

#[test]
fn logs_go_where_they_may() {
    let world = World::new();
    world.log_bucket("logs");
    assert_eq!(world.client.ask("PUT", "/closed", b"").status, 200);
    let other = Client { access_key: "v".into(), secret: "vsecret".into(), ..world.client.clone() };
    let acl = [("x-amz-acl", "log-delivery-write")];
    assert_eq!(other.ask_with("PUT", "/theirs", &acl, b"").status, 200);
    for (target, code) in [
        // As with Ceph's gateway; into another owner's bucket leads a policy of his, and no ACL.
        ("none", "NoSuchKey"),
        ("theirs", "AccessDenied"),
        ("bucket", "InvalidArgument"),
        ("closed", "AccessDenied"),
    ] {
        assert_eq!(world.keep_log(target, "").code(), code, "{target}");
    }
    // What takes logs has no log, no encryption and nobody who pays.
    let log = "<BucketLoggingStatus><LoggingEnabled><TargetBucket>logs</TargetBucket><TargetPrefix>x</TargetPrefix></LoggingEnabled></BucketLoggingStatus>";
    let encryption = "<ServerSideEncryptionConfiguration><Rule><ApplyServerSideEncryptionByDefault><SSEAlgorithm>AES256</SSEAlgorithm></ApplyServerSideEncryptionByDefault></Rule></ServerSideEncryptionConfiguration>";
    let pays =
        "<RequestPaymentConfiguration><Payer>Requester</Payer></RequestPaymentConfiguration>";
    for (name, query, document) in [
        ("logged", "logging", log),
        ("sealed", "encryption", encryption),
        ("paid", "requestPayment", pays),
    ] {
        world.log_bucket(name);
        let set = world.client.ask("PUT", &format!("/{name}?{query}="), document.as_bytes());
        assert_eq!(set.status, 200, "{name}");
        assert_eq!(world.keep_log(name, "").code(), "InvalidArgument", "{name}");
    }
    // A policy lets the deliverer in, for this source.
    let policy = |source: &str| {
        let text = format!(
            r#"{{"Version":"2012-10-17","Statement":{{"Effect":"Allow","Principal":{{"Service":"logging.s3.amazonaws.com"}},"Action":"s3:PutObject","Resource":"arn:aws:s3:::closed/log/*","Condition":{{"ArnLike":{{"aws:SourceArn":"arn:aws:s3:::{source}"}},"StringEquals":{{"aws:SourceAccount":"u"}}}}}}}}"#
        );
        assert_eq!(world.client.ask("PUT", "/closed?policy=", text.as_bytes()).status, 204);
    };
    policy("elsewhere");
    assert_eq!(world.keep_log("closed", "").code(), "AccessDenied");
    policy("bucket");
    let grants = "<TargetGrants><Grant><Grantee><ID>v</ID></Grantee><Permission>READ</Permission></Grant></TargetGrants>";
    let parts = "<TargetObjectKeyFormat><PartitionedPrefix><PartitionDateSource>EventTime</PartitionDateSource></PartitionedPrefix></TargetObjectKeyFormat>";
    assert_eq!(world.keep_log("closed", &format!("{grants}{parts}")).status, 200);
    // Others may not say where the log goes, whatever a policy allows.
    let all = r#"{"Version":"2012-10-17","Statement":{"Effect":"Allow","Principal":"*","Action":"s3:PutBucketLogging","Resource":"arn:aws:s3:::bucket"}}"#;
    assert_eq!(world.client.ask("PUT", "/bucket?policy=", all.as_bytes()).status, 204);
    assert_eq!(other.ask("PUT", "/bucket?logging=", b"<BucketLoggingStatus/>").status, 403);
    // The log is encrypted where its bucket is, and who was granted it reads it.
    assert_eq!(world.client.ask("PUT", "/closed?encryption=", encryption.as_bytes()).status, 200);
    world.get("/bucket/k");
    world.wait_for_lines("closed", 1);
    let keys = world.get("/closed?list-type=2").elements("Key");
    assert!(keys.iter().all(|key| key.starts_with("log/u/us-east-1/bucket/20")), "{keys:?}");
    let read = other.ask("GET", &format!("/closed/{}", keys[0]), b"");
    assert_eq!(read.status, 200);
    assert_eq!(read.headers["x-amz-server-side-encryption"], "AES256");
    // Taken back, nothing more arrives.
    assert_eq!(world.client.ask("DELETE", "/closed?policy=", b"").status, 204);
    std::thread::sleep(Duration::from_millis(1500));
    let before = world.get("/closed?list-type=2").elements("Key");
    world.get("/bucket/k");
    std::thread::sleep(Duration::from_millis(1500));
    assert_eq!(world.get("/closed?list-type=2").elements("Key"), before);
}

#[test]
fn an_ordered_end_loses_nothing_and_a_failing_cluster_is_waited_for() {
    let world = World::new();
    world.log_bucket("logs");
    assert_eq!(world.keep_log("logs", "").status, 200);
    world.fail(|place, object, ops| {
        // Nothing can be put for a while.
        let puts = ops
            .iter()
            .any(|op| matches!(op, store_base::op::Op::Exec { method, .. } if method == "put"));
        let _ = (place, object);
        puts.then(|| store_base::error::Error::Unavailable("a test".into()))
    });
    world.get("/bucket/first");
    std::thread::sleep(Duration::from_millis(1200));
    world.cluster.fail_with(None);
    world.wait_for_lines("logs", 1);
    world.get("/bucket/last");
    let cluster = world.cluster.clone();
    drop(world);
    let world = World::over(cluster, crate::shared());
    let lines = world.lines("logs");
    for key in ["first", "last"] {
        let found = lines.iter().filter(|line| line.contains(&format!(" {key} "))).count();
        assert_eq!(found, 1, "{key} in {lines:#?}");
    }
}
