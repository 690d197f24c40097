//! Events for webhooks: what is told, that nothing is lost while an endpoint fails, and the order of a key.

use super::*;
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read};
use std::net::TcpListener;
use std::sync::Mutex;
use store_gateway::webhook::Webhooks;

/// An endpoint that keeps what it is told, and can be made to fail.
struct Endpoint {
    url: String,
    taken: Arc<Mutex<Vec<serde_json::Value>>>,
    failing: Arc<AtomicBool>,
    refused: Arc<std::sync::atomic::AtomicU32>,
}

impl Endpoint {
    fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/events", listener.local_addr().unwrap());
        let endpoint = Endpoint {
            url,
            taken: Arc::default(),
            failing: Arc::default(),
            refused: Arc::default(),
        };
        let (taken, failing) = (endpoint.taken.clone(), endpoint.failing.clone());
        let refused = endpoint.refused.clone();
        // It ends with the process: the listener is never closed.
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                let Some((line, body)) = read_request(&stream) else { continue };
                assert_eq!(line, "POST /events HTTP/1.1");
                let answer = match failing.load(Ordering::Relaxed) {
                    true => {
                        refused.fetch_add(1, Ordering::Relaxed);
                        "503 Service Unavailable"
                    }
                    false => {
                        let document: serde_json::Value = serde_json::from_slice(&body).unwrap();
                        taken.lock().unwrap().push(document["Records"][0].clone());
                        "204 No Content"
                    }
                };
                let _ = write!(stream, "HTTP/1.1 {answer}\r\ncontent-length: 0\r\n\r\n");
            }
        });
        endpoint
    }

    fn taken(&self) -> Vec<serde_json::Value> {
        self.taken.lock().unwrap().clone()
    }

    /// Waits for so many events, and gives name and key of each.
    fn wait_for(&self, count: usize) -> Vec<(String, String)> {
        let until = Instant::now() + Duration::from_secs(20);
        while self.taken().len() < count {
            assert!(Instant::now() < until, "{:?}", self.taken());
            std::thread::sleep(Duration::from_millis(20));
        }
        let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
        let name = |event: &serde_json::Value| {
            (text(&event["eventName"]), text(&event["s3"]["object"]["key"]))
        };
        self.taken().iter().map(name).collect()
    }
}

fn read_request(stream: &std::net::TcpStream) -> Option<(String, Vec<u8>)> {
    let mut reader = BufReader::new(stream);
    let (mut first, mut length) = (String::new(), 0);
    reader.read_line(&mut first).ok()?;
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        match line.trim_end().split_once(": ") {
            Some((name, value)) if name.eq_ignore_ascii_case("content-length") => {
                length = value.parse().ok()?;
            }
            Some(_) => {}
            None => break,
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    Some((first.trim_end().to_owned(), body))
}

/// A gateway that knows these endpoints as `hook0`, `hook1`, …
fn world(endpoints: &[&Endpoint], day: Duration) -> World {
    World::with(knowing(endpoints, day))
}

fn knowing(endpoints: &[&Endpoint], day: Duration) -> Shared {
    let shared = shared();
    let hooks = endpoints.iter().enumerate();
    let hooks: Vec<String> = hooks.map(|(n, at)| format!("hook{n}={}", at.url)).collect();
    let webhooks = Webhooks::parse(&hooks).unwrap();
    let settings = Arc::new(Settings { webhooks, ..(*shared.settings).clone() });
    let chores_every = Duration::from_millis(300);
    let sweep = Sweep { day, chores_every, ..shared.sweep };
    Shared { settings, sweep, ..shared }
}

const DAY: Duration = Duration::from_secs(86_400);

fn topic(hook: usize, event: &str, filter: &str) -> String {
    format!(
        "<TopicConfiguration><Id>rule{hook}</Id><Topic>arn:aws:sns:r::hook{hook}</Topic><Event>s3:{event}</Event>{filter}</TopicConfiguration>"
    )
}

impl World {
    fn notify(&self, inner: &str) -> Answer {
        let text = format!("<NotificationConfiguration>{inner}</NotificationConfiguration>");
        self.client.ask("PUT", "/bucket?notification=", text.as_bytes())
    }
}

#[test]
fn what_happens_is_told_in_awss_form() {
    let endpoint = Endpoint::new();
    let world = world(&[&endpoint], DAY);
    let both = "<Event>s3:ObjectRemoved:*</Event>";
    let rule = topic(0, "ObjectCreated:*", both);
    assert_eq!(world.notify(&rule).status, 200);
    let put = world.client.ask("PUT", "/bucket/a%20key", b"hello");
    let copy = [("x-amz-copy-source", "/bucket/a%20key")];
    assert_eq!(world.client.ask_with("PUT", "/bucket/copy", &copy, b"").status, 200);
    assert_eq!(world.client.ask("DELETE", "/bucket/copy", b"").status, 204);
    // Nothing was there: nothing happens.
    assert_eq!(world.client.ask("DELETE", "/bucket/none", b"").status, 204);
    let begun = world.client.ask("POST", "/bucket/multi?uploads=", b"");
    let id = begun.element("UploadId").unwrap();
    let part = world.client.ask("PUT", &format!("/bucket/multi?partNumber=1&uploadId={id}"), b"p");
    let list = format!(
        "<CompleteMultipartUpload><Part><PartNumber>1</PartNumber><ETag>{}</ETag></Part></CompleteMultipartUpload>",
        part.headers["etag"]
    );
    let done = world.client.ask("POST", &format!("/bucket/multi?uploadId={id}"), list.as_bytes());
    assert_eq!(done.status, 200, "{}", done.text());
    let mut told = endpoint.wait_for(4);
    told.sort();
    let expected = [
        ("ObjectCreated:CompleteMultipartUpload", "multi"),
        ("ObjectCreated:Copy", "copy"),
        ("ObjectCreated:Put", "a%20key"),
        ("ObjectRemoved:Delete", "copy"),
    ];
    let told: Vec<(&str, &str)> = told.iter().map(|(a, b)| (a.as_str(), b.as_str())).collect();
    assert_eq!(told, expected);
    let events = endpoint.taken();
    let first = events.iter().find(|event| event["eventName"] == "ObjectCreated:Put").unwrap();
    let s3 = &first["s3"];
    assert_eq!(s3["bucket"]["name"], "bucket");
    assert_eq!(s3["configurationId"], "rule0");
    assert_eq!(s3["object"]["size"], 5);
    let etag = s3["object"]["eTag"].as_str().unwrap();
    assert_eq!(format!("\"{etag}\""), put.headers["etag"]);
    assert_eq!(first["userIdentity"]["principalId"], "u");
    assert_eq!(first["requestParameters"]["sourceIPAddress"], "127.0.0.1");
    assert_eq!(first["responseElements"]["x-amz-request-id"], put.headers["x-amz-request-id"]);
    // Delivered events do not come again.
    std::thread::sleep(Duration::from_millis(800));
    assert_eq!(endpoint.taken().len(), 4);
}

#[test]
fn a_failing_endpoint_loses_nothing_and_holds_up_nobody_else() {
    let (bad, good) = (Endpoint::new(), Endpoint::new());
    let world = world(&[&bad, &good], DAY);
    let rules = topic(0, "ObjectCreated:*", "") + &topic(1, "ObjectCreated:Put", "");
    assert_eq!(world.notify(&rules).status, 200);
    bad.failing.store(true, Ordering::Relaxed);
    for n in 0..30 {
        let target = format!("/bucket/k{}", n % 5);
        assert_eq!(world.client.ask("PUT", &target, format!("{n}").as_bytes()).status, 200);
    }
    good.wait_for(30);
    assert!(bad.taken().is_empty());
    assert!(bad.refused.load(Ordering::Relaxed) > 0);
    bad.failing.store(false, Ordering::Relaxed);
    bad.wait_for(30);
    for endpoint in [&bad, &good] {
        // Of each key in the order of the changes: the tags of the bodies are those that were put.
        let mut last: BTreeMap<String, String> = BTreeMap::new();
        for event in endpoint.taken() {
            let object = &event["s3"]["object"];
            let key = object["key"].as_str().unwrap().to_owned();
            let sequencer = object["sequencer"].as_str().unwrap().to_owned();
            let before = last.insert(key, sequencer.clone());
            assert!(before.is_none_or(|before| before < sequencer));
        }
        assert_eq!(last.len(), 5);
    }
}

#[test]
fn two_gateways_and_one_that_knows_no_endpoint_deliver_each_event() {
    let endpoint = Endpoint::new();
    let first = world(&[&endpoint], DAY);
    let second = World::over(first.cluster.clone(), knowing(&[&endpoint], DAY));
    let deaf = World::over(first.cluster.clone(), shared());
    assert_eq!(first.notify(&topic(0, "ObjectCreated:*", "")).status, 200);
    // The others believe a bucket for a second.
    std::thread::sleep(Duration::from_millis(1100));
    let gateways = [&first, &second, &deaf];
    for n in 0..60 {
        let put = gateways[n % 3].client.ask("PUT", &format!("/bucket/k{n:02}"), b"x");
        assert_eq!(put.status, 200);
    }
    endpoint.wait_for(60);
    std::thread::sleep(Duration::from_millis(800));
    let mut keys: Vec<String> = endpoint.wait_for(60).into_iter().map(|(_, key)| key).collect();
    let told = keys.len();
    keys.sort();
    keys.dedup();
    assert_eq!(keys.len(), 60, "none is lost");
    // While a lease is held nobody else delivers.
    assert_eq!(told, 60, "and none is told twice");
}

#[test]
fn lifecycle_and_delete_markers_are_told() {
    let endpoint = Endpoint::new();
    let world = world(&[&endpoint], Duration::from_millis(400));
    let on = "<VersioningConfiguration><Status>Enabled</Status></VersioningConfiguration>";
    assert_eq!(world.client.ask("PUT", "/bucket?versioning=", on.as_bytes()).status, 200);
    let filter = "<Filter><S3Key><FilterRule><Name>prefix</Name><Value>told/</Value></FilterRule></S3Key></Filter>";
    assert_eq!(world.notify(&topic(0, "ObjectRemoved:*", filter)).status, 200);
    for key in ["told/a", "told/b", "other"] {
        world.client.ask("PUT", &format!("/bucket/{key}"), b"x");
    }
    world.client.ask("DELETE", "/bucket/told/a", b"");
    world.client.ask("DELETE", "/bucket/other", b"");
    let told = endpoint.wait_for(1);
    assert_eq!(told, [("ObjectRemoved:DeleteMarkerCreated".to_owned(), "told/a".to_owned())]);
    let rules = "<LifecycleConfiguration><Rule><Prefix>told/b</Prefix><Status>Enabled</Status><Expiration><Days>1</Days></Expiration><NoncurrentVersionExpiration><NoncurrentDays>1</NoncurrentDays></NoncurrentVersionExpiration></Rule></LifecycleConfiguration>";
    assert_eq!(world.client.ask("PUT", "/bucket?lifecycle=", rules.as_bytes()).status, 200);
    let told = endpoint.wait_for(4);
    let names: Vec<&str> = told[1..].iter().map(|(name, _)| name.as_str()).collect();
    let expected = [
        "LifecycleExpiration:DeleteMarkerCreated",
        "LifecycleExpiration:Delete",
        "LifecycleExpiration:Delete",
    ];
    assert_eq!(names, expected);
    assert!(told[1..].iter().all(|(_, key)| key == "told/b"));
}

#[test]
fn configurations_are_kept_checked_and_taken_back() {
    let endpoint = Endpoint::new();
    let world = world(&[&endpoint], DAY);
    let empty = world.get("/bucket?notification=");
    assert_eq!((empty.status, empty.elements("TopicConfiguration").len()), (200, 0));
    assert_eq!(world.notify(&topic(7, "ObjectCreated:*", "")).code(), "InvalidArgument");
    assert_eq!(world.notify(&topic(0, "Nonsense", "")).code(), "InvalidArgument");
    assert_eq!(world.notify(&topic(0, "ObjectCreated:*", "")).status, 200);
    let shown = world.get("/bucket?notification=");
    assert_eq!(shown.element("Topic").as_deref(), Some("arn:aws:sns:r::hook0"));
    let stranger =
        Client { access_key: "v".into(), secret: "vsecret".into(), ..world.client.clone() };
    assert_eq!(stranger.ask("GET", "/bucket?notification=", b"").code(), "AccessDenied");
    assert_eq!(world.notify("").status, 200);
    assert!(world.get("/bucket?notification=").element("Topic").is_none());
    assert_eq!(world.client.ask("PUT", "/bucket/k", b"x").status, 200);
    std::thread::sleep(Duration::from_millis(700));
    assert!(endpoint.taken().is_empty());
}
