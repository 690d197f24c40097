//! What is proved here: a daemon on real sockets with a store in memory, with and without a monitor that
//! answers. The whole cluster of real processes is tested in `tests/`.

use super::*;
use crate::store::memory::{Medium, MemoryStore};
use store_base::config::{HostPort, ListenAddress};

/// A store in memory that outlives the daemon's life.
fn memory(
    medium: &Medium,
) -> impl FnOnce(&Path, &Config) -> Result<MemoryStore, String> + Send + 'static {
    medium.set_automatic(true);
    let medium = medium.clone();
    move |_, _| Ok(MemoryStore::open(&medium))
}

fn config(dir: &Path, monitor: u16) -> Config {
    Config {
        data_dir: dir.display().to_string(),
        monitors: vec![HostPort { host: "127.0.0.1".to_string(), port: monitor }],
        listen: ListenAddress(([127, 0, 0, 1], 0).into()),
        host: Some("h".to_string()),
        capacity: Some(store_base::config::ByteSize(1 << 30)),
        ..Config::default()
    }
}

#[tokio::test]
async fn without_a_monitor_it_waits_and_says_so() {
    let dir = tempfile::tempdir().expect("a directory");
    let medium = Medium::new();
    let shutdown = Shutdown::new();
    let daemon =
        run_on(memory(&medium), config(dir.path(), 1), shutdown.clone()).await.expect("it starts");
    assert_ne!(daemon.address().port(), 0);
    let ready = daemon.readiness();
    assert!(ready().is_err());
    shutdown.trigger();
    daemon.wait().await.expect("an orderly end");
    // The uuid of the directory was made durable.
    let store = MemoryStore::open(&medium);
    let uuid = crate::store::Store::superblock(&store, b"shell.uuid").expect("readable");
    assert_eq!(uuid.map(|uuid| uuid.len()), Some(16));
}

#[tokio::test]
async fn what_is_wrong_is_said_in_one_line() {
    let dir = tempfile::tempdir().expect("a directory");
    let shutdown = Shutdown::new();
    let daemon = run(config(dir.path(), 1), shutdown.clone()).await.expect("it starts");

    let again = run(config(dir.path(), 1), shutdown.clone()).await;
    let error = again.expect_err("the directory is taken");
    assert!(error.contains("in use by pid") && !error.contains('\n'), "{error}");

    let other = tempfile::tempdir().expect("a directory");
    let mut taken = config(other.path(), 1);
    taken.listen = ListenAddress(daemon.address());
    let error = run_on(memory(&Medium::new()), taken, shutdown.clone())
        .await
        .expect_err("the port is taken");
    assert!(error.contains("cannot listen on") && !error.contains('\n'), "{error}");

    let file = other.path().join("file");
    store_shell::files::write_durable(&file, b"x", 0o600).expect("written");
    let error = run_on(memory(&Medium::new()), config(&file.join("d"), 1), shutdown.clone()).await;
    let error = error.expect_err("no directory can be made there");
    assert!(error.contains("cannot make the directory") && !error.contains('\n'), "{error}");

    let mut open = config(other.path(), 1);
    open.listen = ListenAddress(([0, 0, 0, 0], 0).into());
    let error =
        run_on(memory(&Medium::new()), open, shutdown.clone()).await.expect_err("plain text");
    assert!(error.contains("--insecure-plain-text"), "{error}");

    shutdown.trigger();
    daemon.wait().await.expect("an orderly end");
}
