//! Quotas and rates of users and buckets, as operators set them and clients meet them.

use super::*;
use store_base::bucket::Limits;
use store_gateway::operator::{Operator, Whom};

impl World {
    pub(crate) fn limit(&self, whom: &Whom, change: impl Fn(&mut Limits)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let operator = Operator::new(self.cluster.clone());
        runtime.block_on(operator.change_limits(whom, change)).unwrap();
    }

    /// Puts one object after the other until one is refused; how many went through.
    fn fill(&self, prefix: &str, size: usize, most: usize) -> usize {
        let body = noise(size);
        (0..most)
            .take_while(|n| {
                let put = self.client.ask("PUT", &format!("{prefix}{n}"), &body);
                assert!(put.status == 200 || put.code() == "QuotaExceeded", "{}", put.text());
                assert!(put.status == 200 || put.status == 403);
                put.status == 200
            })
            .count()
    }
}

pub(crate) fn user() -> Whom {
    Whom::User("u".into())
}

pub(crate) fn bucket() -> Whom {
    Whom::Bucket { name: "bucket".into(), owner: "u".into() }
}

fn quota(objects_max: u64, bytes_max: u64) -> impl Fn(&mut Limits) {
    move |limits| *limits = Limits { quota: true, objects_max, bytes_max, ..*limits }
}

#[test]
fn a_bucket_takes_as_many_objects_as_its_quota_says() {
    let world = World::new();
    world.limit(&bucket(), quota(10, 0));
    std::thread::sleep(Duration::from_millis(1100));
    assert_eq!(world.fill("/bucket/k", 10, 20), 10);
    // What is there may be replaced, and what is removed makes room.
    assert_eq!(world.client.ask("PUT", "/bucket/k3", b"again").status, 200);
    assert_eq!(world.client.ask("DELETE", "/bucket/k3", b"").status, 204);
    assert_eq!(world.fill("/bucket/m", 10, 20), 1);
    assert_eq!(world.client.ask("PUT", "/other", b"").status, 200);
    assert_eq!(world.fill("/other/k", 10, 15), 15, "another bucket is free");
    world.limit(&bucket(), |limits| limits.quota = false);
    std::thread::sleep(Duration::from_millis(1100));
    assert_eq!(world.fill("/bucket/n", 10, 5), 5, "switched off");
}

#[test]
fn bytes_are_counted_over_all_shards_with_every_kind_of_body() {
    let world = World::new();
    world.limit(&bucket(), quota(0, 1_000_000));
    std::thread::sleep(Duration::from_millis(1100));
    assert_eq!(world.fill("/bucket/large", 100_000, 20), 10);
    assert_eq!(world.client.ask("PUT", "/bucket/small", b"x").code(), "QuotaExceeded");
    assert_eq!(world.client.ask("PUT", "/bucket/empty", b"").status, 200);
    // One that is larger than all that is allowed is refused before its body is written.
    assert_eq!(world.client.ask("PUT", "/bucket/huge", &noise(1_000_001)).code(), "QuotaExceeded");
    let copy = [("x-amz-copy-source", "/bucket/large1")];
    let copied = world.client.ask_with("PUT", "/bucket/copy", &copy, b"");
    assert_eq!(copied.code(), "QuotaExceeded");
    assert_eq!(world.client.ask("PUT", "/bucket/large2", b"small").status, 200);
    assert_eq!(world.client.ask_with("PUT", "/bucket/copy", &copy, b"").code(), "QuotaExceeded");
    for key in ["large3", "large4"] {
        assert_eq!(world.client.ask("DELETE", &format!("/bucket/{key}"), b"").status, 204);
    }
    assert_eq!(world.client.ask_with("PUT", "/bucket/copy", &copy, b"").status, 200);
    // Refused bodies leave nothing behind.
    world.data_objects_become(8);
}

#[test]
fn a_user_has_one_quota_for_all_buckets() {
    let world = World::new();
    world.limit(&user(), quota(12, 0));
    // The user's limits were looked up when the bucket was made.
    std::thread::sleep(Duration::from_millis(5100));
    assert_eq!(world.client.ask("PUT", "/second", b"").status, 200);
    assert_eq!(world.fill("/bucket/k", 10, 7), 7);
    assert_eq!(world.fill("/second/k", 10, 20), 5);
    // Who else writes into his buckets uses up his quota; his own is not touched.
    let other = Client { access_key: "v".into(), secret: "vsecret".into(), ..world.client.clone() };
    assert_eq!(other.ask("PUT", "/others", b"").status, 200);
    assert_eq!(other.ask("PUT", "/others/k", b"x").status, 200);
}

#[test]
fn many_writers_at_once_do_not_pass_a_quota() {
    let world = World::new();
    world.limit(&bucket(), quota(50, 0));
    std::thread::sleep(Duration::from_millis(1100));
    let made: usize = std::thread::scope(|scope| {
        let writers: Vec<_> = (0..8)
            .map(|writer| {
                let world = &world;
                scope.spawn(move || world.fill(&format!("/bucket/{writer}/"), 10, 20))
            })
            .collect();
        writers.into_iter().map(|writer| writer.join().unwrap()).sum()
    });
    // Eight requests may be under way when the sum is made.
    assert!((42..=58).contains(&made), "{made}");
    assert_eq!(world.get("/bucket?max-keys=1000").elements("Key").len(), made);
}

#[test]
fn requests_beyond_their_rate_are_told_to_slow_down() {
    let world = World::new();
    world.client.ask("PUT", "/bucket/k", b"x");
    world.limit(&bucket(), |limits| limits.request_rate = 5);
    std::thread::sleep(Duration::from_millis(1100));
    let began = Instant::now();
    let codes: Vec<String> = (0..40).map(|_| world.get("/bucket/k").code()).collect();
    let seconds = began.elapsed().as_secs_f64();
    let served = codes.iter().filter(|code| *code == "200").count();
    assert!(served >= 5 && (served as f64) <= 6.0 + 5.0 * seconds, "{served} in {seconds}");
    assert!(codes.iter().all(|code| code == "200" || code == "SlowDown"), "{codes:?}");
    let refused = codes.iter().any(|code| code == "SlowDown");
    assert!(refused || seconds > 6.0, "{codes:?}");
    assert_eq!(world.client.ask("PUT", "/other", b"").status, 200);
}

/// Asks until it is told to slow down; an answer otherwise is one of these.
pub(crate) fn is_slowed(ask: impl Fn() -> Answer, well: u16, code: &str) {
    let began = Instant::now();
    let refused = (0..40).map(|_| ask()).find(|answer| answer.status != well);
    match refused {
        Some(refused) => assert_eq!((refused.status, refused.code()), (503, code.to_owned())),
        None => assert!(began.elapsed() >= Duration::from_secs(38), "nothing was refused"),
    }
}

#[test]
fn calls_of_iam_and_sts_are_requests_of_their_user() {
    let world = World::new();
    world.limit(&user(), |limits| limits.request_rate = 1);
    // The user's limits were looked up when the bucket was made.
    std::thread::sleep(Duration::from_millis(5100));
    let kind = [("content-type", "application/x-www-form-urlencoded")];
    let form = b"Action=GetCallerIdentity&Version=2011-06-15";
    is_slowed(|| world.client.ask_with("POST", "/", &kind, form), 200, "Throttling");
}

#[test]
fn bodies_go_no_faster_than_their_rate() {
    let world = World::new();
    let body = noise(3 << 20);
    assert_eq!(world.client.ask("PUT", "/bucket/k", &body).status, 200);
    world.limit(&bucket(), |limits| {
        (limits.read_rate, limits.write_rate) = (1 << 20, 1 << 20);
    });
    std::thread::sleep(Duration::from_millis(1100));
    // The first second's worth goes at once, the last piece does not wait for what comes after it.
    let least = Duration::from_millis(900);
    let began = Instant::now();
    assert!(world.get("/bucket/k").body == body);
    assert!(began.elapsed() >= least, "read in {:?}", began.elapsed());
    let began = Instant::now();
    assert_eq!(world.client.ask("PUT", "/bucket/l", &body).status, 200);
    assert!(began.elapsed() >= least, "written in {:?}", began.elapsed());
}

#[test]
fn limits_of_a_bucket_are_its_owners() {
    let world = World::new();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let operator = Operator::new(world.cluster.clone());
    let of_another = Whom::Bucket { name: "bucket".into(), owner: "v".into() };
    assert!(runtime.block_on(operator.change_limits(&of_another, |_| {})).is_err());
    world.client.ask("PUT", "/bucket/k", b"12345");
    let lines = runtime.block_on(operator.buckets(Some("u".into()))).unwrap();
    assert_eq!((lines.len(), lines[0].usage.objects, lines[0].usage.bytes), (1, 1, 5));
    assert!(runtime.block_on(operator.buckets(Some("v".into()))).unwrap().is_empty());
}

#[test]
fn changes_of_a_bucket_by_two_operators_both_hold() {
    let world = World::new();
    let between = std::cell::Cell::new(true);
    world.limit(&bucket(), |limits| {
        // Another operator is quicker, once.
        if between.replace(false) {
            std::thread::scope(|scope| {
                let other = || world.limit(&bucket(), |limits| limits.request_rate = 7);
                scope.spawn(other).join().unwrap();
            });
        }
        limits.bytes_max = 9;
    });
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let limits = runtime.block_on(Operator::new(world.cluster.clone()).limits(&bucket())).unwrap();
    assert_eq!((limits.bytes_max, limits.request_rate), (9, 7));
}

#[test]
fn workers_are_shown_though_a_bucket_goes_meanwhile() {
    let world = World::new();
    let rules = "<LifecycleConfiguration><Rule><ID>r</ID><Status>Enabled</Status><Filter><Prefix>x</Prefix></Filter><Expiration><Days>9</Days></Expiration></Rule></LifecycleConfiguration>";
    assert_eq!(world.client.ask("PUT", "/second", b"").status, 200);
    for bucket in ["bucket", "second"] {
        let put = world.client.ask("PUT", &format!("/{bucket}?lifecycle="), rules.as_bytes());
        assert_eq!(put.status, 200, "{}", put.text());
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let shown = || {
        let found = runtime.block_on(Operator::new(world.cluster.clone()).lifecycle()).unwrap();
        found.into_iter().map(|(name, _)| name).collect::<Vec<_>>()
    };
    assert_eq!(shown(), ["bucket", "second"]);
    let gone = AtomicBool::new(false);
    world.fail(move |_, _, ops| {
        let asks = |op: &Op| matches!(op, Op::Exec { method, .. } if method == "chore");
        let first = ops.iter().any(asks) && !gone.swap(true, Ordering::Relaxed);
        first.then(|| Error::NotFound("no such object".into()))
    });
    assert_eq!(shown(), ["second"]);
}
