//! Three daemons, a monitor and a client on real sockets and real disks, in one process.
//!
//! What is proved: objects are written and read; a planned stop of a daemon holds nobody up; a daemon that
//! comes back catches up until the health is OK by itself; what was written is there after all have been
//! stopped and started without a monitor to tell them anything new; the same over mutual TLS; nonsense on a
//! link harms nobody but its sender.

use bytes::Bytes;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;
use store_base::config::{ByteSize, HostPort, ListenAddress};
use store_base::op::Op;
use store_base::{ObjectName, PoolId};
use store_client::{ClientConfig, Options, StoreClient};
use store_daemon::shell::Handle;
use store_shell::clock;
use store_shell::identity::{Identity, Role};
use store_shell::link::{Dialer, Hello, LinkMetrics, LinkSettings};
use store_shell::security::{Expect, Security};
use store_shell::shutdown::Shutdown;
use tokio::time::{sleep, timeout};

/// For whatever must happen on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

fn any_port() -> ListenAddress {
    ListenAddress(([127, 0, 0, 1], 0).into())
}

struct Monitor {
    handle: store_monitor::shell::Handle,
    shutdown: Shutdown,
}

async fn monitor(dir: &Path, listen: ListenAddress, tls: bool) -> Monitor {
    let shutdown = Shutdown::new();
    let issue = ["daemon.0", "daemon.1", "daemon.2", "admin.test"].map(str::to_string);
    let config = store_monitor::config::Config {
        data_dir: dir.join("monitor").display().to_string(),
        listen,
        tls,
        credentials_dir: tls.then(|| dir.join("keys").display().to_string()),
        issue: if tls { issue.to_vec() } else { Vec::new() },
        ..store_monitor::config::Config::default()
    };
    let handle =
        store_monitor::shell::run(config, shutdown.clone()).await.expect("the monitor starts");
    Monitor { handle, shutdown }
}

struct Daemon {
    handle: Handle,
    shutdown: Shutdown,
}

async fn daemon(dir: &Path, id: i32, monitor: SocketAddr, tls: bool) -> Daemon {
    let shutdown = Shutdown::new();
    let key = dir.join("keys").join(format!("daemon.{id}.pem"));
    let config = store_daemon::config::Config {
        data_dir: dir.join(format!("daemon.{id}")).display().to_string(),
        monitors: vec![HostPort::from(monitor)],
        listen: any_port(),
        host: Some(format!("host{id}")),
        id: Some(id),
        capacity: Some(ByteSize(1 << 30)),
        identity: tls.then(|| key.display().to_string()),
        ..store_daemon::config::Config::default()
    };
    let handle =
        store_daemon::shell::run(config, shutdown.clone()).await.expect("the daemon starts");
    Daemon { handle, shutdown }
}

async fn stop(daemon: Daemon) {
    daemon.shutdown.trigger();
    daemon.handle.wait().await.expect("an orderly end");
}

async fn client(dir: &Path, monitor: SocketAddr, tls: bool) -> StoreClient {
    let mut config = ClientConfig::new(vec![HostPort::from(monitor)], Security::PlainLoopback);
    if tls {
        let identity = Identity::load(&dir.join("keys/admin.test.pem")).expect("issued");
        config.security = Security::tls(identity).expect("usable");
        config.name = "test".to_string();
    }
    StoreClient::connect(config).await.expect("the monitor answers")
}

async fn command(client: &StoreClient, command: serde_json::Value) -> String {
    let answer = client.command(&command, Bytes::new()).await.expect("a command of the table");
    String::from_utf8_lossy(&answer.output).into_owned()
}

/// A pool of size 3, once there are daemons for it.
async fn pool(client: &StoreClient) -> PoolId {
    let create = serde_json::json!({"prefix": "osd pool create", "pool": "p", "pg_num": 8});
    command(client, create).await;
    client.pool("p").await.expect("it was made")
}

async fn healthy(client: &StoreClient) {
    let until = clock::now() + PATIENCE;
    loop {
        let health =
            command(client, serde_json::json!({"prefix": "health", "detail": "detail"})).await;
        if health.contains("HEALTH_OK") {
            return;
        }
        assert!(clock::now() < until, "not healthy: {health}");
        sleep(Duration::from_millis(50)).await;
    }
}

fn object(i: usize) -> ObjectName {
    ObjectName::new(format!("object {i}"))
}

fn content(i: usize) -> Bytes {
    Bytes::from(vec![i as u8; [0, 1, 4096, 70_000, 1 << 20][i % 5]])
}

async fn write(client: &StoreClient, pool: PoolId, range: std::ops::Range<usize>) {
    for i in range {
        let ops = vec![Op::WriteFull { data: content(i) }];
        client.operate(pool, &object(i), ops, Options::default()).await.expect("written");
    }
}

async fn check(client: &StoreClient, pool: PoolId, range: std::ops::Range<usize>) {
    for i in range {
        let ops = vec![Op::Read { offset: 0, length: 0 }];
        let reply = client.operate(pool, &object(i), ops, Options::READ).await.expect("read");
        assert!(reply.data(0) == content(i), "object {i}");
    }
}

async fn three(dir: &Path, monitor: SocketAddr, tls: bool) -> Vec<Daemon> {
    let (a, b, c) = tokio::join!(
        daemon(dir, 0, monitor, tls),
        daemon(dir, 1, monitor, tls),
        daemon(dir, 2, monitor, tls)
    );
    vec![a, b, c]
}

#[tokio::test]
async fn a_daemon_leaves_comes_back_and_catches_up() {
    let dir = tempfile::tempdir().expect("a directory");
    let monitor = monitor(dir.path(), any_port(), false).await;
    let addr = monitor.handle.addr;
    let mut daemons = three(dir.path(), addr, false).await;
    let client = client(dir.path(), addr, false).await;
    let pool = pool(&client).await;
    write(&client, pool, 0..20).await;
    healthy(&client).await;
    for (i, daemon) in daemons.iter().enumerate() {
        assert_eq!(daemon.handle.id().map(|id| id.0), Some(i as i32));
        assert_eq!(daemon.handle.readiness()(), Ok(()));
    }

    stop(daemons.remove(0)).await;
    write(&client, pool, 10..30).await;
    check(&client, pool, 0..30).await;
    daemons.insert(0, daemon(dir.path(), 0, addr, false).await);
    healthy(&client).await;
    // The others leave: what the first one caught up with is all there is to read from.
    stop(daemons.pop().expect("three")).await;
    stop(daemons.pop().expect("three")).await;
    assert_eq!(daemons[0].handle.incarnation().0, 2);
    daemons.push(daemon(dir.path(), 1, addr, false).await);
    check(&client, pool, 0..30).await;

    for daemon in daemons {
        stop(daemon).await;
    }
    monitor.shutdown.trigger();
    monitor.handle.stopped().await;
}

#[tokio::test]
async fn a_whole_cluster_stops_and_starts() {
    let dir = tempfile::tempdir().expect("a directory");
    let first = monitor(dir.path(), any_port(), false).await;
    let addr = first.handle.addr;
    let daemons = three(dir.path(), addr, false).await;
    let writer = client(dir.path(), addr, false).await;
    let pool = pool(&writer).await;
    write(&writer, pool, 0..20).await;
    drop(writer);
    // The monitor first: daemons that stop cannot say so, and go on without it until then.
    first.shutdown.trigger();
    first.handle.stopped().await;
    for daemon in daemons {
        stop(daemon).await;
    }
    // Daemons first: they wait for the monitor.
    let daemons = three(dir.path(), addr, false).await;
    let second = monitor(dir.path(), ListenAddress(addr), false).await;
    let reader = client(dir.path(), addr, false).await;
    check(&reader, pool, 0..20).await;
    write(&reader, pool, 20..25).await;
    healthy(&reader).await;
    for daemon in daemons {
        stop(daemon).await;
    }
    second.shutdown.trigger();
    second.handle.stopped().await;
}

#[tokio::test]
async fn certificates_are_shown_by_both_ends() {
    let dir = tempfile::tempdir().expect("a directory");
    let monitor = monitor(dir.path(), any_port(), true).await;
    let addr = monitor.handle.addr;
    let daemons = three(dir.path(), addr, true).await;
    let client = client(dir.path(), addr, true).await;
    let pool = pool(&client).await;
    write(&client, pool, 0..10).await;
    check(&client, pool, 0..10).await;
    healthy(&client).await;

    // Somebody without a certificate gets nowhere.
    let dialer =
        Dialer::new(Security::PlainLoopback, LinkSettings::default(), LinkMetrics::default());
    let hello = Hello::new(monitor.handle.cluster, Role::Gateway, "stranger");
    let expect = Expect::role(Role::Daemon);
    dialer.dial(daemons[0].handle.address(), &expect, &hello).await.expect_err("plain text");
    for daemon in daemons {
        stop(daemon).await;
    }
    monitor.shutdown.trigger();
    monitor.handle.stopped().await;
}

#[tokio::test]
async fn nonsense_ends_its_own_link_only() {
    let dir = tempfile::tempdir().expect("a directory");
    let monitor = monitor(dir.path(), any_port(), false).await;
    let addr = monitor.handle.addr;
    let daemons = three(dir.path(), addr, false).await;
    let client = client(dir.path(), addr, false).await;
    let pool = pool(&client).await;
    write(&client, pool, 0..5).await;

    let dialer =
        Dialer::new(Security::PlainLoopback, LinkSettings::default(), LinkMetrics::default());
    let target = daemons[0].handle.address();
    for (role, name) in [(Role::Gateway, "g"), (Role::Daemon, "7"), (Role::Daemon, "no number")] {
        for message in [&b""[..], b"\xff", b"\x00\xff\xff\xff\xff", b"\x01\x01\xff\xff\xff\x7f"] {
            let hello = Hello::new(monitor.handle.cluster, role, name);
            let expect = Expect::role(Role::Daemon);
            let Ok(mut link) = dialer.dial(target, &expect, &hello).await else { continue };
            // The link may be closed already.
            let _ = link.sender.send(vec![Bytes::from_static(message)]).await;
            let ended = async { while let Some(Ok(_)) = link.receiver.recv().await {} };
            // A piece of a message is no nonsense yet: the rest may come.
            let is_piece = role == Role::Daemon && message.first() == Some(&1);
            let outcome =
                timeout(if is_piece { Duration::from_millis(50) } else { PATIENCE }, ended).await;
            assert!(
                outcome.is_ok() || is_piece,
                "{role:?} {name} {message:?}: the link stays open"
            );
        }
    }
    let mut foreign = Hello::new(monitor.handle.cluster, Role::Gateway, "g");
    foreign.cluster.0[0] ^= 1;
    let refused = dialer.dial(target, &Expect::role(Role::Daemon), &foreign).await;
    assert!(refused.expect_err("another cluster").to_string().contains("wrong cluster"));

    check(&client, pool, 0..5).await;
    write(&client, pool, 5..10).await;
    for daemon in daemons {
        stop(daemon).await;
    }
    monitor.shutdown.trigger();
    monitor.handle.stopped().await;
}

#[tokio::test]
async fn a_directory_of_another_cluster_is_refused_in_one_line() {
    let dir = tempfile::tempdir().expect("a directory");
    let other = tempfile::tempdir().expect("a directory");
    let own = monitor(dir.path(), any_port(), false).await;
    let foreign = monitor(other.path(), any_port(), false).await;
    let first = daemon(dir.path(), 0, own.handle.addr, false).await;
    let until = clock::now() + PATIENCE;
    while first.handle.readiness()().is_err() {
        assert!(clock::now() < until, "the daemon does not come up");
        sleep(Duration::from_millis(10)).await;
    }
    stop(first).await;
    let strayed = daemon(dir.path(), 0, foreign.handle.addr, false).await;
    let ended = timeout(PATIENCE, strayed.handle.wait()).await.expect("it ends by itself");
    let why = ended.expect_err("another cluster");
    assert!(why.contains("cluster") && !why.contains('\n'), "{why}");
    println!("{why}");
    for monitor in [own, foreign] {
        monitor.shutdown.trigger();
        monitor.handle.stopped().await;
    }
}
