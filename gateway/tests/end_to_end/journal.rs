//! Journals and logs on demand, through the socket: no change without its record, no record without its change, nothing
//! lost with a gateway, and a log when it is asked for.

use crate::World;
use crate::client::{Answer, Client};
use crate::logging::fields;
use store_base::error::Error;
use store_base::op::Op;

const JOURNAL: &str = "<LoggingType>Journal</LoggingType><ObjectRollTime>3600</ObjectRollTime><RecordsBatchSize>0</RecordsBatchSize>";

/// Whether one of the calls is of this method.
fn calls(ops: &[Op], wanted: &str) -> bool {
    ops.iter().any(|op| matches!(op, Op::Exec { method, .. } if method == wanted))
}

impl World {
    /// A world whose bucket is logged into `logs`.
    fn logged(more: &str) -> World {
        let world = World::new();
        world.log_bucket("logs");
        assert_eq!(world.keep_log("logs", more).status, 200);
        world
    }

    /// Makes a log now; its key.
    fn flush(&self) -> String {
        let answer = self.client.ask("POST", "/bucket?logging=", b"");
        assert_eq!(answer.status, 200, "{}", answer.text());
        answer.element("FlushedLoggingObject").expect("a key")
    }

    /// Makes a log now; its lines as fields.
    fn flushed(&self) -> Vec<Vec<String>> {
        let text = self.get(&format!("/logs/{}", self.flush())).text();
        text.lines().map(fields).collect()
    }

    /// Operation, key and size of the records that a log has now.
    fn changes(&self) -> Vec<String> {
        self.flushed().iter().map(|f| format!("{} {} {}", f[3], f[4], f[5])).collect()
    }

    fn log_policy(&self, source: &str, account: &str) -> String {
        format!(
            r#"{{"Version":"2012-10-17","Statement":{{"Effect":"Allow","Principal":{{"Service":"logging.s3.amazonaws.com"}},"Action":"s3:PutObject","Resource":"arn:aws:s3:::logs/log/*","Condition":{{"ArnLike":{{"aws:SourceArn":"arn:aws:s3:::{source}"}},"StringEquals":{{"aws:SourceAccount":"{account}"}}}}}}}}"#
        )
    }
}

#[test]
fn a_journal_has_every_change_and_nothing_else() {
    let world = World::logged(JOURNAL);
    let ask = |method: &str, target: &str, body: &[u8]| world.client.ask(method, target, body);
    let put = ask("PUT", "/bucket/a%20b", b"hello");
    let copy = [("x-amz-copy-source", "/bucket/a%20b")];
    assert_eq!(world.client.ask_with("PUT", "/bucket/copy", &copy, b"").status, 200);
    let tags = b"<Tagging><TagSet><Tag><Key>a</Key><Value>b</Value></Tag></TagSet></Tagging>";
    assert_eq!(ask("PUT", "/bucket/copy?tagging=", tags).status, 200);
    assert_eq!(ask("DELETE", "/bucket/copy?tagging=", b"").status, 204);
    let acl = [("x-amz-acl", "public-read")];
    assert_eq!(world.client.ask_with("PUT", "/bucket/copy?acl=", &acl, b"").status, 200);
    let upload = ask("POST", "/bucket/parts?uploads=", b"").element("UploadId").unwrap();
    let part = ask("PUT", &format!("/bucket/parts?partNumber=1&uploadId={upload}"), b"part");
    let complete = format!(
        "<CompleteMultipartUpload><Part><PartNumber>1</PartNumber><ETag>{}</ETag></Part></CompleteMultipartUpload>",
        part.headers["etag"]
    );
    let target = format!("/bucket/parts?uploadId={upload}");
    assert_eq!(ask("POST", &target, complete.as_bytes()).status, 200);
    let list =
        b"<Delete><Object><Key>parts</Key></Object><Object><Key>none</Key></Object></Delete>";
    assert_eq!(ask("POST", "/bucket?delete=", list).status, 200);
    assert_eq!(ask("DELETE", "/bucket/copy", b"").status, 204);
    // No changes: reads, a write whose condition does not hold, a removal of nothing.
    world.get("/bucket/a%20b");
    let new = [("if-none-match", "*")];
    assert_eq!(world.client.ask_with("PUT", "/bucket/a%20b", &new, b"x").status, 412);
    assert_eq!(ask("DELETE", "/bucket/none", b"").status, 204);
    let records = world.flushed();
    for record in &records {
        assert_eq!((record.len(), record[0].as_str(), record[1].as_str()), (8, "u", "bucket"));
        assert_eq!(record[6], "-", "a bucket without versions: {record:?}");
    }
    assert_eq!(format!("\"{}\"", records[0][7]), put.headers["etag"]);
    let told: Vec<_> = records.iter().map(|f| format!("{} {} {}", f[3], f[4], f[5])).collect();
    assert_eq!(
        told,
        [
            "REST.PUT.OBJECT a%20b 5",
            "REST.PUT.OBJECT copy 5",
            "REST.PUT.OBJECT_TAGGING copy 5",
            "REST.DELETE.OBJECT_TAGGING copy 5",
            "REST.PUT.ACL copy 5",
            "REST.POST.UPLOAD parts 4",
            "REST.POST.DELETE_MULTI_OBJECT parts 4",
            "REST.DELETE.OBJECT copy 5",
        ]
    );
    // What was told is told once, and who asks again gets an empty log.
    assert!(world.flushed().is_empty());
}

#[test]
fn versions_are_named_and_filters_hold() {
    let filter = "<Filter><S3Key><FilterRule><Name>prefix</Name><Value>in/</Value></FilterRule><FilterRule><Name>suffix</Name><Value>.txt</Value></FilterRule></S3Key></Filter>";
    let world = World::logged(&format!("{JOURNAL}{filter}"));
    let enabled = b"<VersioningConfiguration><Status>Enabled</Status></VersioningConfiguration>";
    assert_eq!(world.client.ask("PUT", "/bucket?versioning=", enabled).status, 200);
    let put = world.client.ask("PUT", "/bucket/in/a.txt", b"hello");
    world.client.ask("PUT", "/bucket/in/a.png", b"hello");
    world.client.ask("PUT", "/bucket/out/a.txt", b"hello");
    let gone = world.client.ask("DELETE", "/bucket/in/a.txt", b"");
    let records = world.flushed();
    let seen: Vec<_> = records.iter().map(|f| (f[3].as_str(), f[6].as_str())).collect();
    let id = |answer: &Answer| answer.headers["x-amz-version-id"].clone();
    let (made, marker) = (id(&put), id(&gone));
    assert_eq!(seen, [("REST.PUT.OBJECT", made.as_str()), ("REST.DELETE.OBJECT", marker.as_str())]);
}

#[test]
fn what_cannot_be_recorded_is_not_done() {
    let world = World::new();
    world.log_bucket("logs");
    let acl = [("x-amz-acl", "private")];
    assert_eq!(world.client.ask_with("PUT", "/logs?acl=", &acl, b"").status, 200);
    let lets_in = |source: &str| {
        let policy = world.log_policy(source, "u");
        assert_eq!(world.client.ask("PUT", "/logs?policy=", policy.as_bytes()).status, 204);
    };
    lets_in("bucket");
    assert_eq!(world.keep_log("logs", JOURNAL).status, 200);
    assert_eq!(world.client.ask("PUT", "/bucket/first", b"x").status, 200);
    lets_in("elsewhere");
    let refused = world.client.ask("PUT", "/bucket/second", b"x");
    assert_eq!((refused.status, refused.code().as_str()), (403, "AccessDenied"));
    assert!(refused.text().contains("Logging bucket 'logs'"), "{}", refused.text());
    assert_eq!(world.get("/bucket/second").code(), "NoSuchKey");
    // A log that is asked for is not made either; a removal is.
    assert_eq!(world.client.ask("POST", "/bucket?logging=", b"").status, 403);
    assert_eq!(world.client.ask("DELETE", "/bucket/first", b"").status, 204);
    lets_in("bucket");
    assert_eq!(world.changes(), ["REST.PUT.OBJECT first 1"]);
    // The cluster takes no record: no change.
    world.fail(|_, _, ops| calls(ops, "journal_add").then(|| Error::Unavailable("a test".into())));
    assert_eq!(world.client.ask("PUT", "/bucket/third", b"x").status, 503);
    world.cluster.fail_with(None);
    assert_eq!(world.get("/bucket/third").code(), "NoSuchKey");
    assert!(world.changes().is_empty());
    // With the bucket that takes the log it is the same, and its journal goes with it.
    assert_eq!(world.client.ask("PUT", "/bucket/fourth", b"x").status, 200);
    for key in world.get("/logs?list-type=2").elements("Key") {
        assert_eq!(world.client.ask("DELETE", &format!("/logs/{key}"), b"").status, 204);
    }
    assert_eq!(world.client.ask("DELETE", "/logs", b"").status, 204);
    assert_eq!(world.client.ask("PUT", "/bucket/fifth", b"x").status, 403);
    world.log_bucket("logs");
    assert_eq!(world.client.ask("PUT", "/bucket/sixth", b"x").status, 200);
    assert_eq!(world.changes(), ["REST.PUT.OBJECT sixth 1"]);
}

#[test]
fn nothing_is_lost_with_a_gateway() {
    let world = World::logged(JOURNAL);
    assert_eq!(world.client.ask("PUT", "/bucket/first", b"x").status, 200);
    // It dies in the middle of making a log: the log is written, its records are still there.
    world
        .fail(|_, _, ops| calls(ops, "journal_clear").then(|| Error::Unavailable("a test".into())));
    assert_eq!(world.client.ask("POST", "/bucket?logging=", b"").status, 503);
    let keys = world.get("/logs?list-type=2").elements("Key");
    assert_eq!(keys.len(), 1);
    // A change of which nobody knows whether it was made has a record.
    world.fail(|_, _, ops| calls(ops, "put").then(|| Error::TimedOut("a test".into())));
    assert_eq!(world.client.ask("PUT", "/bucket/unknown", b"xy").status, 503);
    let cluster = world.cluster.clone();
    cluster.fail_with(None);
    drop(world);
    // Another gateway has heard of neither. Days later it goes on with both.
    cluster.advance(2 * 24 * 3600);
    let world = World::over(cluster, crate::shared());
    let lines = world.wait_for_lines("logs", 2);
    let found: Vec<_> = lines.iter().map(|line| fields(line)).collect();
    assert_eq!((found[0][4].as_str(), found[0][6].as_str()), ("first", "-"));
    assert_eq!((found[1][4].as_str(), found[1][6].as_str()), ("unknown", "?"));
    assert_eq!(world.lines("logs").len(), 2, "once each");
    assert!(world.get("/logs?list-type=2").elements("Key").contains(&keys[0]));
}

#[test]
fn logs_are_made_when_they_are_asked_for_and_when_what_is_logged_changes() {
    let standard = "<ObjectRollTime>3600</ObjectRollTime>";
    let world = World::logged(standard);
    world.get("/bucket/k");
    assert_eq!(world.flushed()[0][6], "REST.GET.OBJECT");
    // The request for it is in the next one.
    assert_eq!(world.flushed()[0][6], "REST.POST.LOGGING_STATUS");
    let count = || world.get("/logs?list-type=2").elements("Key").len();
    // The same again changes nothing; another time of rolling ends the log.
    let modified = |answer: &Answer| answer.headers["last-modified"].clone();
    let before = modified(&world.get("/bucket?logging="));
    let same = world.keep_log("logs", standard);
    assert_eq!((same.status, same.element("FlushedLoggingObject"), count()), (200, None, 2));
    assert_eq!(modified(&world.get("/bucket?logging=")), before);
    let changed = world.keep_log("logs", "<ObjectRollTime>1800</ObjectRollTime>");
    let key = changed.element("FlushedLoggingObject").expect("a log");
    assert!(world.get(&format!("/logs/{key}")).text().contains("REST.PUT.LOGGING_STATUS"));
    // Of a bucket that is removed the log is delivered.
    assert_eq!((world.client.ask("DELETE", "/bucket", b"").status, count()), (204, 4));
    assert_eq!(world.client.ask("PUT", "/bucket", b"").status, 200);
    assert_eq!(world.client.ask("POST", "/bucket?logging=", b"").code(), "NoSuchKey");
    let other = Client { access_key: "v".into(), secret: "vsecret".into(), ..world.client.clone() };
    assert_eq!(other.ask("POST", "/bucket?logging=", b"").status, 403);
}

#[test]
fn a_log_says_whether_an_acl_was_needed_and_goes_to_another_owner_by_his_policy() {
    let world = World::new();
    let other = Client { access_key: "v".into(), secret: "vsecret".into(), ..world.client.clone() };
    assert_eq!(other.ask("PUT", "/logs", b"").status, 200);
    let policy = world.log_policy("bucket", "u");
    assert_eq!(other.ask("PUT", "/logs?policy=", policy.as_bytes()).status, 204);
    assert_eq!(world.keep_log("logs", "<ObjectRollTime>3600</ObjectRollTime>").status, 200);
    let acl = [("x-amz-acl", "public-read")];
    assert_eq!(world.client.ask_with("PUT", "/bucket/open", &acl, b"x").status, 200);
    assert_eq!(other.ask("GET", "/bucket/open", b"").status, 200);
    let key = world.flush();
    let text = other.ask("GET", &format!("/logs/{key}"), b"").text();
    let of = |operation: &str| {
        let line = text.lines().find(|line| line.contains(operation)).expect("a record");
        fields(line)[25].clone()
    };
    assert_eq!((of("REST.PUT.OBJECT").as_str(), of("REST.GET.OBJECT").as_str()), ("-", "Yes"));
}

#[test]
fn no_log_is_called_empty_while_records_wait() {
    let world = World::logged(JOURNAL);
    assert_eq!(world.client.ask("PUT", "/bucket/first", b"x").status, 200);
    // One who asked ended in the middle: the next one of his gateway goes on at once.
    world
        .fail(|_, _, ops| calls(ops, "journal_clear").then(|| Error::Unavailable("a test".into())));
    assert_eq!(world.client.ask("POST", "/bucket?logging=", b"").status, 503);
    world.cluster.fail_with(None);
    assert_eq!(world.changes(), ["REST.PUT.OBJECT first 1"]);
    // What became of a change is not told: its record waits.
    world.fail(|_, _, ops| {
        calls(ops, "journal_settle").then(|| Error::Unavailable("a test".into()))
    });
    assert_eq!(world.client.ask("PUT", "/bucket/second", b"xy").status, 200);
    world.cluster.fail_with(None);
    assert_eq!(world.client.ask("POST", "/bucket?logging=", b"").status, 503);
    world.cluster.advance(600);
    assert_eq!(world.changes(), ["REST.PUT.OBJECT second 2"]);
}

#[test]
fn removals_that_were_not_recorded_are_counted_where_they_would_have_been() {
    let (shared, mut registry) =
        (crate::shared(), prometheus_client::registry::Registry::default());
    shared.metrics.register(&mut registry);
    let dropped = || {
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).expect("text");
        let name = "gateway_access_log_dropped_total ";
        let line = text.lines().find_map(|line| line.strip_prefix(name)).expect("the counter");
        line.parse::<u64>().expect("a number")
    };
    let world = World::with(shared);
    world.log_bucket("logs");
    let filter = "<Filter><S3Key><FilterRule><Name>prefix</Name><Value>in/</Value></FilterRule></S3Key></Filter>";
    assert_eq!(world.keep_log("logs", &format!("{JOURNAL}{filter}")).status, 200);
    for key in ["in/a", "out/a", "out/b"] {
        assert_eq!(world.client.ask("PUT", &format!("/bucket/{key}"), b"x").status, 200);
    }
    world.fail(|_, _, ops| calls(ops, "journal_add").then(|| Error::Unavailable("a test".into())));
    let object = |key: &str| format!("<Object><Key>{key}</Key></Object>");
    let document = format!("<Delete>{}</Delete>", ["in/a", "out/a", "out/b"].map(object).concat());
    let gone = world.client.ask("POST", "/bucket?delete=", document.as_bytes());
    assert_eq!((gone.status, gone.elements("Key").len()), (200, 3), "{}", gone.text());
    assert_eq!(dropped(), 1);
}
