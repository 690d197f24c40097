//! Lifecycle rules and objects that end by themselves: what the worker removes, what it leaves, and that it goes
//! on where it was stopped.

use super::*;
use store_base::error::Error;

/// A day of these tests.
const DAY: Duration = Duration::from_millis(400);

impl World {
    fn with_short_days() -> Self {
        let shared = shared();
        World::with(Shared { sweep: Sweep { day: DAY, ..shared.sweep }, ..shared })
    }

    fn lifecycle(&self, rules: &str) {
        let document = format!("<LifecycleConfiguration>{rules}</LifecycleConfiguration>");
        let put = self.client.ask("PUT", "/bucket?lifecycle=", document.as_bytes());
        assert_eq!(put.status, 200, "{}", put.text());
    }

    fn keys(&self) -> Vec<String> {
        self.get("/bucket?max-keys=1000").elements("Key")
    }

    /// Waits until the listing is so.
    fn keys_become(&self, expected: &[&str]) {
        // A worker that was stopped keeps its shard for 30 seconds.
        let until = Instant::now() + Duration::from_secs(60);
        while self.keys() != expected {
            assert!(Instant::now() < until, "left: {:?}", self.keys());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn count(&self, target: &str, element: &str) -> usize {
        self.get(target).elements(element).len()
    }

    fn becomes(&self, target: &str, element: &str, count: usize) {
        let until = Instant::now() + Duration::from_secs(20);
        while self.count(target, element) != count {
            assert!(Instant::now() < until, "{}", self.get(target).text());
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

fn expiring(id: &str, filter: &str, days: u32) -> String {
    format!(
        "<Rule><ID>{id}</ID><Status>Enabled</Status><Filter>{filter}</Filter><Expiration><Days>{days}</Days></Expiration></Rule>"
    )
}

#[test]
fn a_configuration_is_kept_and_removed() {
    let world = World::new();
    assert_eq!(world.get("/bucket?lifecycle=").code(), "NoSuchLifecycleConfiguration");
    world.lifecycle(&expiring("r", "<Prefix>a</Prefix>", 1));
    let got = world.get("/bucket?lifecycle=");
    assert_eq!(got.element("ID").as_deref(), Some("r"));
    let bad = world.client.ask("PUT", "/bucket?lifecycle=", b"<LifecycleConfiguration/>");
    assert_eq!(bad.code(), "MalformedXML");
    let put = world.client.ask("PUT", "/bucket/a", b"x");
    assert!(put.headers["x-amz-expiration"].ends_with("rule-id=\"r\""), "{:?}", put.headers);
    let head = world.client.ask("HEAD", "/bucket/a", b"");
    assert_eq!(head.headers["x-amz-expiration"], put.headers["x-amz-expiration"]);
    assert_eq!(world.get("/bucket/a").headers["x-amz-expiration"], put.headers["x-amz-expiration"]);
    let other = world.client.ask("PUT", "/bucket/b", b"x");
    assert!(!other.headers.contains_key("x-amz-expiration"));
    for _ in 0..2 {
        assert_eq!(world.client.ask("DELETE", "/bucket?lifecycle=", b"").status, 204);
    }
    assert_eq!(world.get("/bucket?lifecycle=").code(), "NoSuchLifecycleConfiguration");
    let stranger =
        Client { access_key: "v".into(), secret: "vsecret".into(), ..world.client.clone() };
    assert_eq!(stranger.ask("GET", "/bucket?lifecycle=", b"").code(), "AccessDenied");
}

#[test]
fn what_is_due_goes_with_its_data_and_the_rest_stays() {
    let world = World::with_short_days();
    let large = noise(100_000);
    for key in ["go/1", "go/2", "go/3", "keep/1"] {
        assert_eq!(world.client.ask("PUT", &format!("/bucket/{key}"), &large).status, 200);
    }
    let tag = [("x-amz-tagging", "color=red")];
    world.client.ask_with("PUT", "/bucket/tag/red", &tag, b"x");
    world.client.ask("PUT", "/bucket/tag/none", b"x");
    let tagged = "<And><Prefix>tag/</Prefix><Tag><Key>color</Key><Value>red</Value></Tag></And>";
    world.lifecycle(&format!(
        "{}{}",
        expiring("a", "<Prefix>go/</Prefix>", 1),
        expiring("b", tagged, 1)
    ));
    world.keys_become(&["keep/1", "tag/none"]);
    world.data_objects_become(1);
    assert_eq!(world.get("/bucket/keep/1").body, large);
}

#[test]
fn an_object_that_is_written_again_lives_on() {
    let world = World::with_short_days();
    world.client.ask("PUT", "/bucket/k", b"first");
    world.client.ask("PUT", "/bucket/other", b"x");
    world.lifecycle(&expiring("r", "", 3));
    let until = Instant::now() + DAY * 6;
    let mut n = 0;
    while Instant::now() < until {
        n += 1;
        let body = format!("{n}");
        assert_eq!(world.client.ask("PUT", "/bucket/k", body.as_bytes()).status, 200);
        assert_eq!(world.get("/bucket/k").text(), body);
        std::thread::sleep(DAY / 10);
    }
    assert_eq!(world.keys(), ["k"]);
    world.keys_become(&[]);
}

#[test]
fn thousands_of_objects_go_though_the_cluster_fails_now_and_then() {
    let world = World::with_short_days();
    // Written through the gateway by a few clients at a time.
    std::thread::scope(|scope| {
        for writer in 0..4 {
            let client = world.client.clone();
            scope.spawn(move || {
                for n in 0..500 {
                    let target = format!("/bucket/{writer}/{n}");
                    assert_eq!(client.ask("PUT", &target, b"x").status, 200);
                }
            });
        }
    });
    let mut calls = 0u64;
    let fails = std::sync::Mutex::new(move || {
        calls += 1;
        calls.is_multiple_of(7)
    });
    world.fail(move |place, _, ops| {
        let retires = matches!(ops, [Op::Exec { method, .. }] if method == "retire");
        let fails = place == INDEX_POOL && retires && (fails.lock().unwrap())();
        fails.then(|| Error::Unavailable("a planned failure".into()))
    });
    world.lifecycle(&expiring("r", "", 1));
    world.keys_become(&[]);
}

#[test]
fn two_gateways_share_a_walk_and_a_third_is_stopped_in_it() {
    let first = World::with_short_days();
    let short = || {
        let shared = shared();
        Shared { sweep: Sweep { day: DAY, ..shared.sweep }, ..shared }
    };
    for n in 0..600 {
        assert_eq!(first.client.ask("PUT", &format!("/bucket/{n}"), b"x").status, 200);
    }
    let second = World::over(first.cluster.clone(), short());
    let third = World::over(first.cluster.clone(), short());
    first.lifecycle(&expiring("r", "", 1));
    // However far it is, nobody needs it.
    drop(third);
    second.keys_become(&[]);
    assert!(first.keys().is_empty());
}

#[test]
fn versions_are_hidden_then_removed_and_their_markers_after_them() {
    let world = World::with_short_days();
    let on = "<VersioningConfiguration><Status>Enabled</Status></VersioningConfiguration>";
    assert_eq!(world.client.ask("PUT", "/bucket?versioning=", on.as_bytes()).status, 200);
    for body in ["1", "2", "3", "4"] {
        world.client.ask("PUT", "/bucket/k", body.as_bytes());
    }
    world.lifecycle(
        "<Rule><Prefix/><Status>Enabled</Status><NoncurrentVersionExpiration><NoncurrentDays>1</NoncurrentDays><NewerNoncurrentVersions>2</NewerNoncurrentVersions></NoncurrentVersionExpiration></Rule>",
    );
    world.becomes("/bucket?versions=", "Version", 3);
    assert_eq!(world.get("/bucket/k").text(), "4");
    world.lifecycle(
        "<Rule><Prefix/><Status>Enabled</Status><Expiration><Days>1</Days></Expiration></Rule>",
    );
    world.becomes("/bucket?versions=", "DeleteMarker", 1);
    assert_eq!(world.count("/bucket?versions=", "Version"), 3);
    world.lifecycle(
        "<Rule><Prefix/><Status>Enabled</Status><Expiration><ExpiredObjectDeleteMarker>true</ExpiredObjectDeleteMarker></Expiration><NoncurrentVersionExpiration><NoncurrentDays>1</NoncurrentDays></NoncurrentVersionExpiration></Rule>",
    );
    world.becomes("/bucket?versions=", "Version", 0);
    world.becomes("/bucket?versions=", "DeleteMarker", 0);
    assert_eq!(world.client.ask("DELETE", "/bucket", b"").status, 204);
}

#[test]
fn a_legal_hold_outlives_its_rule() {
    let world = World::with_short_days();
    let header = [("x-amz-bucket-object-lock-enabled", "true")];
    assert_eq!(world.client.ask_with("PUT", "/locked", &header, b"").status, 200);
    let hold = [("x-amz-object-lock-legal-hold", "ON")];
    world.client.ask_with("PUT", "/locked/k", &hold, b"held");
    world.client.ask("PUT", "/locked/k", b"free");
    world.client.ask("PUT", "/locked/k", b"newest");
    let rules = "<LifecycleConfiguration><Rule><Prefix/><Status>Enabled</Status><NoncurrentVersionExpiration><NoncurrentDays>1</NoncurrentDays></NoncurrentVersionExpiration></Rule></LifecycleConfiguration>";
    assert_eq!(world.client.ask("PUT", "/locked?lifecycle=", rules.as_bytes()).status, 200);
    world.becomes("/locked?versions=", "Version", 2);
    std::thread::sleep(DAY * 3);
    assert_eq!(world.count("/locked?versions=", "Version"), 2);
}

#[test]
fn uploads_that_are_not_completed_are_aborted() {
    let world = World::with_short_days();
    let begin = |key: &str| {
        let begun = world.client.ask("POST", &format!("/bucket/{key}?uploads="), b"");
        begun.element("UploadId").expect("an upload")
    };
    let (id, _) = (begin("go/k"), begin("keep/k"));
    let part = noise(40_000);
    let target = format!("/bucket/go/k?partNumber=1&uploadId={id}");
    assert_eq!(world.client.ask("PUT", &target, &part).status, 200);
    world.data_objects_become(1);
    world.lifecycle(
        "<Rule><Prefix>go/</Prefix><Status>Enabled</Status><AbortIncompleteMultipartUpload><DaysAfterInitiation>1</DaysAfterInitiation></AbortIncompleteMultipartUpload></Rule>",
    );
    world.becomes("/bucket?uploads=", "Upload", 1);
    world.data_objects_become(0);
}
