//! Every state store keeps the same promises: one suite, run over memory, sled and a real etcd server.
//!
//! The etcd tests start `etcd` themselves, from the PATH (Debian: etcd-server), on free loopback ports in a
//! temporary directory, kill it, stop it, compact it. Without an etcd they fail: an untested store is not a store.
#![allow(clippy::disallowed_methods)] // tests start processes and sleep

use bytes::Bytes;
use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};
use store_base::config::TimeSpan;
use store_monitor::config::EtcdConfig;
use store_monitor::state::etcd::EtcdStore;
use store_monitor::state::etcd::client::proto;
use store_monitor::state::memory::{Fault, MemoryStore};
use store_monitor::state::sled::SledStore;
use store_monitor::state::{Batch, Change, CommitError, RECENT_BATCHES_MAX, StateStore, Stored};

fn batch(expect: u64, puts: &[(&str, &[u8])], deletes: &[&str]) -> Batch {
    Batch {
        expect,
        puts: puts
            .iter()
            .map(|(key, value)| (key.to_string(), Bytes::copy_from_slice(value)))
            .collect(),
        deletes: deletes.iter().map(|key| key.to_string()).collect(),
    }
}

/// An empty store whose caller leads, put to the test.
async fn suite(store: Arc<dyn StateStore>) -> Stored {
    let mut model = store.load().await.expect("loads");
    assert_eq!(model, Stored::default(), "it begins empty");

    // Versions: compare and set.
    let first = batch(0, &[("a", b"1"), ("b", b""), ("dir/c", b"3")], &["never there"]);
    assert_eq!(store.commit(first.clone()).await, Ok(1));
    model.apply(&first);
    let stale = store.commit(batch(0, &[("a", b"lost")], &[])).await;
    assert_eq!(stale, Err(CommitError::Conflict { expect: 0, have: 1 }));
    let ahead = store.commit(batch(9, &[("a", b"lost")], &[])).await;
    assert_eq!(ahead, Err(CommitError::Conflict { expect: 9, have: 1 }));
    assert_eq!(store.load().await.expect("loads"), model);

    // Put, replace and delete in one; a key that is deleted and put is there.
    let second = batch(1, &[("a", b"2"), ("dir/d", b"4")], &["b", "dir/d"]);
    assert_eq!(store.commit(second.clone()).await, Ok(2));
    model.apply(&second);
    assert_eq!(store.load().await.expect("loads"), model);
    assert!(!model.entries.contains_key("b") && model.entries.contains_key("dir/d"));

    // Keys that begin alike are different keys.
    let alike = batch(2, &[("dir", b"x"), ("dir/", b"y"), ("dir0", b"z")], &[]);
    assert_eq!(store.commit(alike.clone()).await, Ok(3));
    model.apply(&alike);
    let gone = batch(3, &[], &["dir"]);
    assert_eq!(store.commit(gone.clone()).await, Ok(4));
    model.apply(&gone);
    assert_eq!(store.load().await.expect("loads"), model);

    // Large values, growing, shrinking, gone; several in one batch.
    let large: Vec<u8> = (0..3_000_001u32).map(|i| (i % 251) as u8).collect();
    for (puts, deletes) in [
        (vec![("large", &large[..]), ("other", &large[..900_000]), ("small", b"s")], vec![]),
        (vec![("large", &large[..600_000]), ("other", b"now small")], vec![]),
        (vec![("other", &large[..])], vec!["large"]),
        (vec![], vec!["other"]),
    ] {
        let batch = batch(model.version, &puts, &deletes);
        assert_eq!(store.commit(batch.clone()).await, Ok(model.version + 1));
        model.apply(&batch);
        assert_eq!(store.load().await.expect("loads"), model);
    }

    // What no store takes.
    assert!(matches!(
        store.commit(batch(model.version, &[("", b"x")], &[])).await,
        Err(CommitError::Invalid(_))
    ));

    // A race has one winner.
    let mut racers = tokio::task::JoinSet::new();
    for racer in 0..8u8 {
        let (store, version) = (store.clone(), model.version);
        racers.spawn(async move {
            let batch = batch(version, &[("race", &[racer])], &[]);
            (batch.clone(), store.commit(batch).await)
        });
    }
    let mut won = Vec::new();
    while let Some(done) = racers.join_next().await {
        match done.expect("no panic") {
            (batch, Ok(_)) => won.push(batch),
            (_, Err(e)) => assert!(matches!(e, CommitError::Conflict { .. }), "{e}"),
        }
    }
    assert_eq!(won.len(), 1);
    model.apply(&won[0]);
    assert_eq!(store.load().await.expect("loads"), model);

    watched(&store, &mut model).await;
    model
}

/// A watcher is told every batch in order, or to load again; never nothing.
async fn watched(store: &Arc<dyn StateStore>, model: &mut Stored) {
    let mut seen = store.load().await.expect("loads");
    // The watch may begin late, and says so.
    let watcher = {
        let store = store.clone();
        tokio::spawn(async move {
            let (mut batches, mut reloads) = (0, 0);
            while !seen.entries.contains_key("end") {
                match store.next_change(seen.version).await.expect("watches") {
                    Change::Batch(batch) => {
                        assert_eq!(batch.expect, seen.version, "in order, none left out");
                        seen.apply(&batch);
                        batches += 1;
                    }
                    Change::Reload => {
                        let fresh = store.load().await.expect("loads");
                        assert!(fresh.version > seen.version, "a reload brings something");
                        seen = fresh;
                        reloads += 1;
                    }
                }
            }
            (seen, batches, reloads)
        })
    };
    tokio::time::sleep(Duration::from_millis(300)).await;
    for round in 0..20u8 {
        let batch = batch(model.version, &[("w", &[round]), ("w2", b"x")], &["w1"]);
        store.commit(batch.clone()).await.expect("commits");
        model.apply(&batch);
    }
    let end = batch(model.version, &[("end", b"")], &[]);
    store.commit(end.clone()).await.expect("commits");
    model.apply(&end);
    let told = tokio::time::timeout(Duration::from_secs(20), watcher).await;
    let (seen, batches, reloads) = told.expect("the watcher is told").expect("no panic");
    assert_eq!(seen, *model);
    assert!(batches >= 15, "{batches} batches and {reloads} reloads: the watch is no poll");

    // One that lags by more than is kept must load, and is told so.
    let old = model.version;
    for _ in 0..=RECENT_BATCHES_MAX {
        let batch = batch(model.version, &[("lag", b"")], &[]);
        store.commit(batch.clone()).await.expect("commits");
        model.apply(&batch);
    }
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        match store.next_change(old).await.expect("watches") {
            Change::Reload => break,
            // The watch has not told all of them yet.
            Change::Batch(_) => assert!(Instant::now() < deadline, "the past is kept for ever"),
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn memory_conforms() {
    suite(Arc::new(MemoryStore::new())).await;
}

#[tokio::test]
async fn faulty_memory_fails_as_it_is_told() {
    let store = MemoryStore::new();
    let put = |expect| batch(expect, &[("k", b"v")], &[]);
    store.plant(Fault::Refuse);
    assert!(matches!(store.commit(put(0)).await, Err(CommitError::NotLeader(_))));
    store.plant(Fault::LostAndUnknown);
    assert!(matches!(store.commit(put(0)).await, Err(CommitError::Unknown(_))));
    assert_eq!(store.load_now().version, 0);
    store.plant(Fault::DoneButUnknown);
    assert!(matches!(store.commit(put(0)).await, Err(CommitError::Unknown(_))));
    assert_eq!(store.load_now().version, 1, "it happened all the same");
    store.plant(Fault::LoadFails);
    assert!(store.load().await.is_err());
    assert_eq!(store.commit(put(1)).await, Ok(2));
}

#[tokio::test]
async fn sled_conforms_and_keeps_all_over_restarts() {
    let dir = tempfile::tempdir().expect("a directory");
    let store = Arc::new(SledStore::open(dir.path()).expect("opens"));
    let model = suite(store.clone()).await;
    store.close().await;
    drop(store);
    let store = SledStore::open(dir.path()).expect("opens again");
    assert_eq!(store.load().await.expect("loads"), model);
    // Without a close, as after a kill.
    let more = batch(model.version, &[("after", b"1")], &[]);
    store.commit(more.clone()).await.expect("commits");
    let mut model = model;
    model.apply(&more);
    let copy = tempfile::tempdir().expect("a directory");
    copy_tree(dir.path(), copy.path());
    let killed = SledStore::open(copy.path()).expect("opens what a kill left");
    assert_eq!(killed.load().await.expect("loads"), model);
}

fn copy_tree(from: &std::path::Path, to: &std::path::Path) {
    for entry in std::fs::read_dir(from).expect("listable").flatten() {
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            std::fs::create_dir_all(&target).expect("made");
            copy_tree(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), &target).expect("copied");
        }
    }
}

/// A real etcd server.
struct Etcd {
    dir: tempfile::TempDir,
    client: u16,
    peer: u16,
    process: Child,
}

fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.local_addr().expect("bound").port()
}

impl Etcd {
    fn start() -> Etcd {
        let dir = tempfile::tempdir().expect("a directory");
        let (client, peer) = (free_port(), free_port());
        let process = Etcd::spawn(dir.path(), client, peer);
        Etcd { dir, client, peer, process }
    }

    fn spawn(dir: &std::path::Path, client: u16, peer: u16) -> Child {
        let (client, peer) =
            (format!("http://127.0.0.1:{client}"), format!("http://127.0.0.1:{peer}"));
        let log = std::fs::File::create(dir.join("log")).expect("a log");
        Command::new("etcd")
            .args(["--name", "t", "--log-outputs", "stderr", "--logger", "zap"])
            .arg("--data-dir")
            .arg(dir.join("data"))
            .args(["--listen-client-urls", &client, "--advertise-client-urls", &client])
            .args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer])
            .args(["--initial-cluster", &format!("t={peer}")])
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("etcd must be on the PATH to test the etcd store: install Debian's etcd-server")
    }

    fn kill(&mut self) {
        self.process.kill().expect("killed");
        self.process.wait().expect("reaped");
    }

    fn start_again(&mut self) {
        self.process = Etcd::spawn(self.dir.path(), self.client, self.peer);
    }

    /// Stops or continues the process, as a machine that hangs.
    fn signal(&self, name: &str) {
        let done = Command::new("kill").args([name, &self.process.id().to_string()]).status();
        assert!(done.expect("kill runs").success());
    }

    fn config(&self, prefix: &str) -> EtcdConfig {
        EtcdConfig {
            endpoints: vec![format!("http://127.0.0.1:{}", self.client)],
            prefix: prefix.to_string(),
            lease: TimeSpan(Duration::from_secs(4)),
            timeout: TimeSpan(Duration::from_secs(2)),
            ..EtcdConfig::default()
        }
    }

    async fn store(&self, prefix: &str) -> Arc<EtcdStore> {
        let store = Arc::new(EtcdStore::open(&self.config(prefix)).expect("opens"));
        eventually("etcd answers", || async { store.load().await.is_ok() }).await;
        store
    }

    async fn channel(&self) -> tonic::transport::Channel {
        let address = format!("http://127.0.0.1:{}", self.client);
        let endpoint = tonic::transport::Endpoint::from_shared(address).expect("an address");
        endpoint.connect_lazy()
    }
}

impl Drop for Etcd {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

async fn eventually<F: Future<Output = bool>>(what: &str, check: impl Fn() -> F) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !check().await {
        assert!(Instant::now() < deadline, "{what}: not in 30 s");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn etcd_conforms_and_survives_its_server() {
    let mut etcd = Etcd::start();
    let store = etcd.store("/conform/").await;
    assert!(
        matches!(store.commit(batch(0, &[("a", b"")], &[])).await, Err(CommitError::NotLeader(_))),
        "who does not lead commits nothing"
    );
    let leads = store.campaign("one").await.expect("leads");
    assert_eq!(store.leader().await.expect("told").as_deref(), Some("one"));
    let mut model = suite(store.clone()).await;

    // Killed and started again: what was committed is there, the same leader goes on, watches too.
    let watching = {
        let (store, from) = (store.clone(), model.version);
        tokio::spawn(async move { store.next_change(from).await })
    };
    tokio::time::sleep(Duration::from_millis(200)).await;
    etcd.kill();
    let lost = store.commit(batch(model.version, &[("while down", b"")], &[])).await;
    assert!(matches!(lost, Err(CommitError::Unknown(_))), "{lost:?}");
    assert!(store.load().await.is_err());
    etcd.start_again();
    eventually("etcd is back", || async { store.load().await.is_ok() }).await;
    assert_eq!(store.load().await.expect("loads"), model, "nothing is lost, nothing came");
    let next = batch(model.version, &[("back", b"1")], &[]);
    assert_eq!(store.commit(next.clone()).await, Ok(model.version + 1));
    let told = tokio::time::timeout(Duration::from_secs(20), watching).await;
    let change = told.expect("told in time").expect("no panic").expect("watches");
    assert!(change == Change::Batch(next.clone()) || change == Change::Reload, "{change:?}");
    model.apply(&next);
    let still = tokio::time::timeout(Duration::from_secs(6), leads.lost()).await;
    assert!(still.is_err(), "the lease was kept over the restart: {still:?}");

    // A compaction under a watcher: told to load, then it follows on.
    let mut kv = proto::kv_client::KvClient::new(etcd.channel().await);
    etcd.kill();
    let late = {
        let (store, from) = (store.clone(), model.version);
        tokio::spawn(async move { store.next_change(from).await })
    };
    etcd.start_again();
    eventually("etcd is back", || async { store.load().await.is_ok() }).await;
    let mut revision = 0;
    for _ in 0..5 {
        let batch = batch(model.version, &[("compacted", b"")], &[]);
        store.commit(batch.clone()).await.expect("commits");
        model.apply(&batch);
        let any = proto::RangeRequest { key: Bytes::from_static(b"x"), ..Default::default() };
        let reply = kv.range(any).await.expect("read").into_inner();
        revision = reply.header.expect("a header").revision;
    }
    kv.compact(proto::CompactionRequest { revision, physical: true }).await.expect("compacted");
    let told = tokio::time::timeout(Duration::from_secs(20), late).await;
    told.expect("told in time").expect("no panic").expect("watches");
    assert_eq!(store.load().await.expect("loads"), model);

    // Two clusters in one etcd do not see one another.
    let other = etcd.store("/other/").await;
    assert_eq!(other.load().await.expect("loads"), Stored::default());
}

#[tokio::test]
async fn etcd_lets_one_lead_and_fences_who_led() {
    let etcd = Etcd::start();
    let (one, two) = (etcd.store("/lead/").await, etcd.store("/lead/").await);
    let first = one.campaign("one").await.expect("leads");
    let waiting = {
        let two = two.clone();
        tokio::spawn(async move { two.campaign("two").await })
    };
    tokio::time::sleep(Duration::from_millis(1500)).await;
    assert!(!waiting.is_finished(), "one leads, the other waits");
    assert_eq!(one.commit(batch(0, &[("a", b"1")], &[])).await, Ok(1));
    assert!(matches!(
        two.commit(batch(1, &[("a", b"2")], &[])).await,
        Err(CommitError::NotLeader(_))
    ));

    // etcd hangs for longer than the lease: the leader notices by its own clock.
    etcd.signal("-STOP");
    let why = tokio::time::timeout(Duration::from_secs(15), first.lost()).await;
    let why = why.expect("it notices");
    etcd.signal("-CONT");
    assert!(why.contains("whole lease") || why.contains("run out"), "{why}");
    let after = one.commit(batch(1, &[("a", b"late")], &[])).await;
    assert!(matches!(after, Err(CommitError::NotLeader(_))), "{after:?}");
    drop(first);

    // The other leads then, and what it commits is the truth.
    let second = tokio::time::timeout(Duration::from_secs(20), waiting).await;
    let second = second.expect("in time").expect("no panic").expect("leads");
    assert_eq!(two.commit(batch(1, &[("a", b"2")], &[])).await, Ok(2));
    let again = tokio::time::timeout(Duration::from_secs(20), async {
        drop(second);
        one.campaign("one").await
    });
    let _third = again.await.expect("in time").expect("leads again");
    assert_eq!(one.load().await.expect("loads").entries["a"][..], *b"2");
    assert_eq!(one.commit(batch(2, &[("a", b"3")], &[])).await, Ok(3));
}

#[tokio::test]
async fn etcd_asks_for_a_password_and_gets_it() {
    let etcd = Etcd::start();
    etcd.store("/auth/").await; // waits until it answers
    let mut auth = proto::auth_client::AuthClient::new(etcd.channel().await);
    let user = proto::AuthUserAddRequest { name: "root".into(), password: "secret".into() };
    auth.user_add(user).await.expect("added");
    auth.role_add(proto::AuthRoleAddRequest { name: "root".into() }).await.expect("added");
    let grant = proto::AuthUserGrantRoleRequest { user: "root".into(), role: "root".into() };
    auth.user_grant_role(grant).await.expect("granted");
    auth.auth_enable(proto::AuthEnableRequest {}).await.expect("enabled");

    let config = |password: Option<&str>| EtcdConfig {
        user: password.map(|_| "root".to_string()),
        password: password.map(str::to_string),
        ..etcd.config("/auth/")
    };
    let open = |password| EtcdStore::open(&config(password)).expect("opens");
    assert!(open(None).load().await.is_err(), "a stranger reads nothing");
    assert!(open(Some("wrong")).load().await.is_err());
    let store = open(Some("secret"));
    let leads = store.campaign("one").await.expect("leads");
    assert_eq!(store.commit(batch(0, &[("a", b"1")], &[])).await, Ok(1));
    let still = tokio::time::timeout(Duration::from_secs(6), leads.lost()).await;
    assert!(still.is_err(), "the lease is kept with the password too: {still:?}");
    assert_eq!(store.load().await.expect("loads").version, 1);
}

/// Two monitors on one etcd: one leads and serves, the other takes over when it stops.
#[tokio::test]
async fn two_monitors_share_an_etcd() {
    use store_base::config::ListenAddress;
    use store_base::wire::{CommandRequest, HelloRequest};
    use store_monitor::config::{Config, StateKind};
    use store_monitor::shell::run;
    use store_shell::services::monitor_client::MonitorClient;
    use store_shell::shutdown::Shutdown;

    let etcd = Etcd::start();
    etcd.store("/pair/").await; // waits until it answers
    let dir = tempfile::tempdir().expect("a directory");
    let config = |name: &str| Config {
        name: name.to_string(),
        data_dir: dir.path().join(name).display().to_string(),
        listen: ListenAddress(([127, 0, 0, 1], 0).into()),
        tls: false,
        state: StateKind::Etcd,
        etcd: etcd.config("/pair/"),
        ..Config::default()
    };
    let client = async |addr: std::net::SocketAddr| {
        let endpoint = tonic::transport::Endpoint::from_shared(format!("http://{addr}"));
        MonitorClient::new(endpoint.expect("an address").connect_lazy())
    };
    let command = |json: &str| CommandRequest { json: json.to_string(), input: Bytes::new() };

    let stop = Shutdown::new();
    let first = run(config("a"), stop.clone()).await.expect("starts");
    assert!(first.is_new);
    let mut to_first = client(first.addr).await;
    let create = command(r#"{"prefix": "user create", "user": "u"}"#);
    eventually("the first leads", || {
        let mut to_first = to_first.clone();
        async move { to_first.hello(HelloRequest {}).await.is_ok_and(|hello| hello.get_ref().leader) }
    })
    .await;
    assert_eq!(to_first.command(create).await.expect("answers").into_inner().code, 0);

    // A monitor with secrets of its own is none of this cluster.
    let stranger = run(config("x"), Shutdown::new()).await.err().expect("refused").to_string();
    assert!(stranger.contains("copy \"cluster\""), "{stranger}");

    std::fs::create_dir(dir.path().join("b")).expect("made");
    for name in ["cluster", "seal.key", "authority.pem"] {
        let from = dir.path().join("a").join(name);
        std::fs::copy(from, dir.path().join("b").join(name)).expect("copied");
    }
    let stop_second = Shutdown::new();
    let second = run(config("b"), stop_second.clone()).await.expect("starts");
    assert!(!second.is_new && second.cluster == first.cluster);
    let mut to_second = client(second.addr).await;
    let waiting = to_second.command(command(r#"{"prefix": "status"}"#)).await;
    assert_eq!(waiting.expect_err("it does not lead").code(), tonic::Code::Unavailable);

    stop.trigger();
    first.stopped().await;
    let begun = Instant::now();
    eventually("the second leads", || {
        let mut to_second = to_second.clone();
        async move { to_second.hello(HelloRequest {}).await.is_ok_and(|hello| hello.get_ref().leader) }
    })
    .await;
    assert!(
        begun.elapsed() < Duration::from_secs(3),
        "leadership was given back, not left to run out"
    );
    let reply = to_second.command(command(r#"{"prefix": "user ls"}"#)).await.expect("answers");
    let users = String::from_utf8_lossy(&reply.into_inner().output).into_owned();
    assert_eq!(users, r#"["admin","u"]"#);
    stop_second.trigger();
    second.stopped().await;
}
