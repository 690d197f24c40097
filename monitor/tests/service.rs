//! The monitor as others meet it: over gRPC, in plain text and with certificates, over restarts.
//!
//! Shows: bootstrap makes a cluster once and finds it again; maps reach subscribers step by step; who is not
//! allowed something is refused (one negative case for each line of the service's table); a subscriber that does
//! not read is cut; what stops a start is said in one line with the cure.
#![allow(clippy::disallowed_methods)] // tests sleep and look at files

use bytes::Bytes;
use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;
use store_base::codec::Decode;
use store_base::config::{HostPort, ListenAddress};
use store_base::map::{AuthMap, Incremental, OsdMap};
use store_base::wire::*;
use store_monitor::config::Config;
use store_monitor::machine::Sealer;
use store_monitor::shell::seal::RingSealer;
use store_monitor::shell::{Handle, run};
use store_shell::identity::{Identity, Role};
use store_shell::security::{Expect, Security};
use store_shell::services::monitor_client::MonitorClient;
use store_shell::shutdown::Shutdown;
use tonic::Code;
use tonic::transport::Channel;

struct Running {
    handle: Handle,
    shutdown: Shutdown,
}

impl Running {
    async fn stop(self) {
        self.shutdown.trigger();
        tokio::time::timeout(Duration::from_secs(8), self.handle.stopped()).await.expect("stops");
    }

    fn address(&self) -> HostPort {
        HostPort { host: "127.0.0.1".to_string(), port: self.handle.addr.port() }
    }

    fn client(&self, security: &Security) -> MonitorClient<Channel> {
        let expect = Expect::role(Role::Monitor);
        MonitorClient::new(store_shell::channel::channel(&self.address(), security, &expect))
    }
}

fn config(dir: &Path, tls: bool) -> Config {
    Config {
        data_dir: dir.join("monitor").display().to_string(),
        credentials_dir: Some(dir.join("credentials").display().to_string()),
        listen: ListenAddress(([127, 0, 0, 1], 0).into()),
        tls,
        ..Config::default()
    }
}

async fn start(config: Config) -> Running {
    let shutdown = Shutdown::new();
    let handle = run(config, shutdown.clone()).await.expect("starts");
    for _ in 0..200 {
        if (handle.readiness)().is_ok() {
            return Running { handle, shutdown };
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("never ready: {:?}", (handle.readiness)());
}

async fn command(client: &mut MonitorClient<Channel>, json: &str) -> CommandReply {
    let request = CommandRequest { json: json.to_string(), input: Bytes::new() };
    client.command(request).await.expect("answered").into_inner()
}

fn boot(id: i32) -> BootRequest {
    BootRequest {
        daemon: id,
        uuid: Bytes::from(vec![(id + 2) as u8; 16]),
        incarnation: 1,
        address: format!("127.0.0.1:{}", 7001 + id),
        host: format!("h{id}"),
        capacity_bytes: 1 << 40,
        ..BootRequest::default()
    }
}

fn want(kind: MapKind, have: u32) -> SubscribeRequest {
    SubscribeRequest { wants: vec![Want { kind: kind.into(), have }] }
}

#[tokio::test]
async fn a_cluster_is_made_once_and_found_again() {
    let dir = tempfile::tempdir().expect("a directory");
    let running = start(config(dir.path(), false)).await;
    let (cluster, admin) = (running.handle.cluster, running.handle.admin.clone().expect("new"));
    assert!(running.handle.is_new);
    assert_eq!((admin.access_key.len(), admin.secret_key.len()), (20, 40));
    let mut client = running.client(&Security::PlainLoopback);
    let hello = client.hello(HelloRequest {}).await.expect("answers").into_inner();
    assert_eq!((&hello.cluster[..], hello.leader), (&cluster.0[..], true));
    for id in 0..3 {
        assert_eq!(client.boot(boot(id)).await.expect("answers").into_inner().refused, "");
    }
    let reply = command(&mut client, r#"{"prefix": "osd pool create", "pool": "p"}"#).await;
    assert_eq!(reply.code, 0, "{}", reply.status);
    let reply = command(&mut client, r#"{"prefix": "user create", "user": "u"}"#).await;
    let user: serde_json::Value = serde_json::from_slice(&reply.output).expect("JSON");
    assert_eq!(user["secret_key"].as_str().map(str::len), Some(40));
    let seen = client.new_client(NewClientRequest::default()).await.expect("answers").into_inner();
    running.stop().await;

    let running = start(config(dir.path(), false)).await;
    assert!(!running.handle.is_new);
    assert_eq!(running.handle.cluster, cluster);
    assert_eq!(running.handle.admin.as_ref().map(|a| &a.secret_key), Some(&admin.secret_key));
    let mut client = running.client(&Security::PlainLoopback);
    let again = client.new_client(NewClientRequest::default()).await.expect("answers").into_inner();
    assert!(again.client > seen.client, "no client id twice");
    let reply = command(&mut client, r#"{"prefix": "osd pool ls"}"#).await;
    assert_eq!(reply.output, r#"["p"]"#);
    let list = r#"{"prefix": "user key ls", "user": "u", "show": true}"#;
    let keys: serde_json::Value =
        serde_json::from_slice(&command(&mut client, list).await.output).expect("JSON");
    assert_eq!(keys[0]["secret_key"], user["secret_key"], "kept sealed, and opened again");
    for name in ["admin.json", "seal.key", "authority.pem", "cluster"] {
        use std::os::unix::fs::PermissionsExt;
        let meta = std::fs::metadata(dir.path().join("monitor").join(name)).expect("there");
        assert_eq!(meta.permissions().mode() & 0o777, 0o600, "{name}");
    }
    let log = std::fs::read_dir(dir.path().join("monitor/state")).expect("listable").flatten();
    for entry in log.filter(|entry| entry.path().is_file()) {
        let bytes = std::fs::read(entry.path()).expect("readable");
        let secret = admin.secret_key.as_bytes();
        assert!(!bytes.windows(secret.len()).any(|part| part == secret), "a secret lies open");
    }
    running.stop().await;
}

#[tokio::test]
async fn what_stops_a_start_is_said_with_the_cure() {
    let dir = tempfile::tempdir().expect("a directory");
    let running = start(config(dir.path(), false)).await;
    let tell = async |config: Config| {
        let error = run(config, Shutdown::new()).await.err().expect("does not start");
        let text = format!("{error:#}");
        assert!(!text.contains('\n'), "one line: {text}");
        text
    };
    let taken = tell(config(dir.path(), false)).await;
    assert!(taken.contains("in use by pid"), "{taken}");
    let other = tempfile::tempdir().expect("a directory");
    let port = Config { listen: ListenAddress(running.handle.addr), ..config(other.path(), false) };
    let port = tell(port).await;
    assert!(port.contains(&running.handle.addr.to_string()), "{port}");
    running.stop().await;
    let monitor = dir.path().join("monitor");
    let key = std::fs::read(monitor.join("seal.key")).expect("readable");
    std::fs::remove_file(monitor.join("seal.key")).expect("removed");
    assert!(tell(config(dir.path(), false)).await.contains("restore it from a backup"));
    std::fs::write(monitor.join("seal.key"), key).expect("written");
    std::fs::write(monitor.join("cluster"), "00000000-0000-0000-0000-000000000001\n")
        .expect("written");
    let foreign = tell(config(dir.path(), false)).await;
    assert!(foreign.contains("of another cluster") || foreign.contains("of cluster"), "{foreign}");
    let half = tempfile::tempdir().expect("a directory");
    let half = Config { access_key: Some("AK".to_string()), ..config(half.path(), false) };
    assert!(tell(half).await.contains("go together"));
    let nowhere = Config { data_dir: "/proc/nowhere".to_string(), ..config(other.path(), false) };
    assert!(tell(nowhere).await.contains("/proc/nowhere"));
}

#[tokio::test]
async fn maps_reach_subscribers_step_by_step() {
    let dir = tempfile::tempdir().expect("a directory");
    let running = start(config(dir.path(), false)).await;
    let mut client = running.client(&Security::PlainLoopback);
    let mut updates =
        client.subscribe(want(MapKind::MapOsd, 0)).await.expect("answers").into_inner();
    let first = updates.message().await.expect("a stream").expect("the whole map");
    let mut map = OsdMap::from_bytes(first.full).expect("decodable");
    for id in 0..3 {
        client.boot(boot(id)).await.expect("answers");
    }
    while map.daemons.values().filter(|info| info.up).count() < 3 {
        let update = updates.message().await.expect("a stream").expect("a step");
        assert!(update.full.is_empty(), "steps, not whole maps");
        for step in update.incrementals {
            map.apply(&Incremental::from_bytes(step).expect("decodable")).expect("in order");
        }
        assert_eq!(map.epoch.0, update.epoch);
    }
    // With what it has, a subscriber gets what it lacks.
    command(&mut client, r#"{"prefix": "osd set", "key": "noout"}"#).await;
    let mut lagging =
        client.subscribe(want(MapKind::MapOsd, 1)).await.expect("answers").into_inner();
    let update = lagging.message().await.expect("a stream").expect("steps");
    assert!(update.incrementals.len() >= 3 && update.full.is_empty());
    // Nonsense is refused.
    let nothing = client.subscribe(SubscribeRequest::default()).await.expect_err("refused");
    assert_eq!(nothing.code(), Code::InvalidArgument);
    let strange = SubscribeRequest { wants: vec![Want { kind: 77, have: 0 }] };
    assert_eq!(client.subscribe(strange).await.expect_err("refused").code(), Code::InvalidArgument);
    running.stop().await;
}

#[tokio::test]
async fn a_subscriber_that_does_not_read_is_cut_and_comes_again() {
    let dir = tempfile::tempdir().expect("a directory");
    let running = start(config(dir.path(), false)).await;
    let mut client = running.client(&Security::PlainLoopback);
    let create = r#"{"prefix": "osd pool create", "pool": "p", "pg_num": 64}"#;
    command(&mut client, create).await;
    // It opens a stream and reads nothing; what fits into the windows is little against what comes.
    let mut lazy = client.subscribe(want(MapKind::MapAuth, 0)).await.expect("answers").into_inner();
    let filler = "x".repeat(60_000);
    let mut epochs = 0;
    for round in 0..600 {
        let user = format!(
            r#"{{"prefix": "user create", "user": "u{round}", "no_key": true, "display_name": "{filler}"}}"#
        );
        let reply = command(&mut client, &user).await;
        assert_eq!(reply.code, 0, "{}", reply.status);
        epochs += 1;
        if round % 50 == 49 && epochs * 60_000 * epochs / 2 > 200_000_000 {
            break;
        }
    }
    let mut got = 0;
    let ended = tokio::time::timeout(Duration::from_secs(30), async {
        while let Ok(Some(_)) = lazy.message().await {
            got += 1;
        }
    });
    ended.await.expect("the stream was ended");
    assert!(got < epochs, "{got} of {epochs}");
    let mut fresh = client
        .clone()
        .max_decoding_message_size(256 << 20)
        .subscribe(want(MapKind::MapAuth, 0))
        .await
        .expect("answers")
        .into_inner();
    let auth = fresh.message().await.expect("a stream").expect("the map");
    let auth = AuthMap::from_bytes(auth.full).expect("decodable");
    assert_eq!(auth.users.len(), epochs + 1);
    running.stop().await;
}

#[tokio::test]
async fn with_certificates_each_may_do_its_own_and_no_more() {
    let dir = tempfile::tempdir().expect("a directory");
    let running = start(config(dir.path(), true)).await;
    let load = |name: &str| {
        let path = dir.path().join("credentials").join(format!("{name}.pem"));
        Security::tls(Identity::load(&path).expect("issued")).expect("usable")
    };
    let names = ["daemon.0", "daemon.1", "gateway.a", "metadata.a", "admin.admin"];
    let mut clients: BTreeMap<&str, MonitorClient<Channel>> =
        names.iter().map(|name| (*name, running.client(&load(name)))).collect();
    let mut who = |name: &str| clients.get_mut(name).expect("one of them").clone();
    let denied = |status: tonic::Status| {
        assert_eq!(status.code(), Code::PermissionDenied, "{status:?}");
        assert!(status.message().contains("may not"), "{}", status.message());
    };

    // Without a certificate, or with one of another cluster, nobody gets in.
    assert!(running.client(&Security::PlainLoopback).hello(HelloRequest {}).await.is_err());
    let foreign = tempfile::tempdir().expect("a directory");
    let authority = store_shell::identity::Authority::create(store_base::ClusterId([9; 16]));
    let identity = authority.expect("made").issue(Role::Admin, "x").expect("issued");
    identity.save(foreign.path()).expect("saved");
    let stranger = Security::tls(identity).expect("usable");
    assert!(running.client(&stranger).hello(HelloRequest {}).await.is_err());

    // Everybody of the cluster may say hello and follow the map of daemons.
    for name in names {
        who(name).hello(HelloRequest {}).await.expect("answers");
        who(name).subscribe(want(MapKind::MapOsd, 0)).await.expect("answers");
    }

    // A daemon speaks for itself alone.
    let reply = who("daemon.0").boot(boot(-1)).await.expect("answers").into_inner();
    assert_eq!((reply.refused.as_str(), reply.daemon), ("", 0), "its certificate names it");
    denied(who("daemon.1").boot(boot(0)).await.expect_err("not its own"));
    denied(who("gateway.a").boot(boot(0)).await.expect_err("no daemon"));
    who("daemon.1").boot(boot(1)).await.expect("answers");
    let beat = |daemon| BeatRequest { daemon, incarnation: 1, ..BeatRequest::default() };
    who("daemon.0").beat(beat(0)).await.expect("answers");
    denied(who("daemon.0").beat(beat(1)).await.expect_err("not its own"));
    let report = FailureReport {
        reporter: 0,
        reporter_incarnation: 1,
        failed: 1,
        failed_incarnation: 1,
        refused: true,
        silent_millis: 0,
    };
    denied(who("daemon.1").report_failure(report).await.expect_err("in another's name"));
    denied(who("admin.admin").report_failure(report).await.expect_err("no daemon"));
    let asks = PgAskBatch { daemon: 0, incarnation: 1, asks: Vec::new() };
    who("daemon.0").ask_pgs(asks.clone()).await.expect("answers");
    denied(who("daemon.1").ask_pgs(asks.clone()).await.expect_err("in another's name"));
    denied(who("gateway.a").ask_pgs(asks).await.expect_err("no daemon"));

    // Users and keys only for those that need them.
    for name in ["daemon.0", "admin.admin"] {
        denied(who(name).subscribe(want(MapKind::MapAuth, 0)).await.expect_err("secrets"));
    }
    let mut updates =
        who("gateway.a").subscribe(want(MapKind::MapAuth, 0)).await.expect("answers").into_inner();
    let auth = updates.message().await.expect("a stream").expect("the map");
    let auth = AuthMap::from_bytes(auth.full).expect("decodable");
    let admin = running.handle.admin.clone().expect("new");
    let (_, user, key) = auth.by_access_key(&admin.access_key).expect("the first administrator");
    assert!(user.admin);
    let opened = RingSealer::new(&auth.seal_key).unseal(&admin.access_key, &key.sealed_secret);
    assert_eq!(opened, Some(admin.secret_key));

    // Clients' ids, services, commands.
    for name in ["gateway.a", "admin.admin", "metadata.a"] {
        who(name).new_client(NewClientRequest::default()).await.expect("answers");
    }
    denied(who("daemon.0").new_client(NewClientRequest::default()).await.expect_err("no client"));
    let service = |role: &str, name: &str| ServiceBeatRequest {
        role: role.to_string(),
        name: name.to_string(),
        incarnation: 1,
        state: "active".to_string(),
        ..ServiceBeatRequest::default()
    };
    let assigned = who("metadata.a").service_beat(service("metadata", "a")).await.expect("answers");
    assert_eq!(assigned.into_inner().assigned, "standby");
    denied(who("metadata.a").service_beat(service("metadata", "b")).await.expect_err("another's"));
    denied(who("metadata.a").service_beat(service("gateway", "a")).await.expect_err("another's"));
    denied(who("daemon.0").service_beat(service("daemon", "0")).await.expect_err("no service"));
    assert_eq!(command(&mut who("admin.admin"), r#"{"prefix": "status"}"#).await.code, 0);
    assert_eq!(command(&mut who("gateway.a"), r#"{"prefix": "status"}"#).await.code, 0);
    for name in ["daemon.0", "metadata.a"] {
        let request =
            CommandRequest { json: r#"{"prefix": "status"}"#.to_string(), input: Bytes::new() };
        denied(who(name).command(request).await.expect_err("no commands"));
    }
    running.stop().await;
}

/// The program itself: started, killed, started again, stopped in order.
#[tokio::test]
async fn the_program_survives_a_kill_and_stops_when_told() {
    let dir = tempfile::tempdir().expect("a directory");
    let port = || {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
        listener.local_addr().expect("bound").port()
    };
    let (listen, metrics) = (port(), port());
    let spawn = || {
        std::process::Command::new(env!("CARGO_BIN_EXE_store-monitor"))
            .args(["--tls", "false", "--listen", &format!("127.0.0.1:{listen}")])
            .args(["--metrics-listen", &format!("127.0.0.1:{metrics}")])
            .arg("--data-dir")
            .arg(dir.path())
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::null())
            .spawn()
            .expect("starts")
    };
    let endpoint = tonic::transport::Endpoint::from_shared(format!("http://127.0.0.1:{listen}"));
    let mut client = MonitorClient::new(endpoint.expect("an address").connect_lazy());
    let mut ready = async || {
        for _ in 0..400 {
            let leads =
                client.hello(HelloRequest {}).await.is_ok_and(|hello| hello.get_ref().leader);
            if leads {
                return client.clone();
            }
            tokio::time::sleep(Duration::from_millis(25)).await;
        }
        panic!("never ready");
    };
    let mut process = spawn();
    let mut users = Vec::new();
    for round in 0..3 {
        let mut client = ready().await;
        for number in 0..20 {
            let name = format!("u{round}-{number}");
            let create =
                format!(r#"{{"prefix": "user create", "user": "{name}", "no_key": true}}"#);
            assert_eq!(command(&mut client, &create).await.code, 0);
            users.push(name);
        }
        process.kill().expect("killed");
        process.wait().expect("reaped");
        process = spawn();
        let mut client = ready().await;
        let reply = command(&mut client, r#"{"prefix": "user ls"}"#).await;
        let kept: Vec<String> = serde_json::from_slice(&reply.output).expect("JSON");
        assert!(users.iter().all(|user| kept.contains(user)), "what was answered is kept");
    }
    let health = std::process::Command::new(env!("CARGO_BIN_EXE_store-monitor"))
        .args(["health", "--metrics-listen", &format!("127.0.0.1:{metrics}")])
        .status();
    assert!(health.expect("runs").success());
    let told = std::process::Command::new("kill").arg(process.id().to_string()).status();
    assert!(told.expect("runs").success());
    for _ in 0..400 {
        if let Some(status) = process.try_wait().expect("waits") {
            assert!(status.success(), "{status}");
            return;
        }
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    let _ = process.kill();
    panic!("it does not stop");
}
