//! From settings to a daemon that listens.

use super::clients::Clients;
use super::engine::{Completions, Engine};
use super::inbox::Inbox;
use super::monitors::Monitors;
use super::peers::Peers;
use super::turn::{Facts, Parts, Turn};
use super::{Farewell, Seen};
use crate::config::Config;
use crate::machine::{Config as MachineConfig, Daemon, Identity};
use crate::metrics::DaemonMetrics;
use crate::store::{Completion, StoreError, Write};
use bytes::Bytes;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use store_base::codec::Decode;
use store_base::config::HostPort;
use store_base::map::OsdMap;
use store_base::{ClusterId, DaemonId, Ticket};
use store_shell::channel::Rotation;
use store_shell::clock;
use store_shell::files;
use store_shell::identity::Role;
use store_shell::link::{Dialer, LinkMetrics, LinkSettings};
use store_shell::security::{Expect, Security};
use store_shell::server::Server;
use store_shell::shutdown::Shutdown;
use tokio::time::sleep;

/// Key of the superblock: 16 bytes made with the directory.
const UUID: &[u8] = b"shell.uuid";
/// Key of the superblock: the newest map seen.
pub(super) const MAP: &[u8] = b"shell.map";
/// Where the kernel tells this machine's name.
const HOST_NAME: &str = "/proc/sys/kernel/hostname";
/// How long the store may take to make the uuid durable.
const UUID_TIMEOUT: Duration = Duration::from_secs(30);
const UUID_POLL: Duration = Duration::from_millis(1);

/// Brings a daemon up to where it listens. `open` opens or makes the store in the directory.
pub(super) async fn start<S: Engine>(
    config: Config,
    open: impl FnOnce(&Path, &Config) -> Result<S, String>,
    metrics: DaemonMetrics,
    seen: Arc<Mutex<Seen>>,
    farewell: Farewell,
    shutdown: Shutdown,
) -> Result<Turn<S>, String> {
    let security = security(&config)?;
    let wanted_id = wanted_id(&config, &security)?;
    let dir = PathBuf::from(&config.data_dir);
    // The port first: a daemon that cannot listen has touched no disk.
    let server = Server::bind(config.listen.0, &security).map_err(|e| e.to_string())?;
    let bound = server.local_addr().map_err(|e| e.to_string())?;
    files::make_directory(&dir, 0o700).map_err(|error| error.to_string())?;
    let mut store = open(&dir, &config)?;
    let opening = store.opening();
    metrics.opening_millis.set(opening.millis as i64);
    metrics.opening_log_bytes.set(opening.log_bytes as i64);
    metrics.opening_rotten.set(opening.rotten_groups as i64);
    let uuid = uuid(&mut store).await?;
    let known_map = known_map(&store)?;
    let cluster = one_cluster(&dir, known_map.as_deref(), &security)?;
    let completions = Completions::of(&store)
        .map_err(|error| format!("the store cannot be waited for: {error}"))?;

    let host = config.host.clone().unwrap_or_else(host_name);
    let address = advertised(&config, bound, &host).to_string();
    let identity = Identity {
        uuid,
        address: address.clone(),
        host,
        location: config.location.clone(),
        version: env!("CARGO_PKG_VERSION").to_string(),
        engine: store.name(),
        device_class: config.device_class.clone(),
    };
    let daemon = Daemon::new(MachineConfig::default(), identity, store)
        .map_err(|error| format!("the data in {} cannot be read: {error}", dir.display()))?;

    let inbox = Rc::new(Inbox::default());
    let link_metrics = LinkMetrics::default();
    let dialer = Dialer::new(security.clone(), LinkSettings::default(), link_metrics.clone());
    let rotation = Rotation::new(config.monitors.clone(), security, Expect::role(Role::Monitor))
        .map_err(|error| error.to_string())?;
    let monitors = Monitors::new(inbox.clone(), metrics.clone(), rotation);
    let clients = Clients::new(inbox.clone(), metrics.clone());
    let peers = Peers::new(inbox.clone(), metrics.clone(), dialer);
    let parts = Parts {
        inbox,
        clients,
        peers,
        monitors,
        metrics,
        link_metrics,
        seen,
        farewell,
        shutdown,
        server,
        completions,
    };
    let facts = Facts { bound, address, cluster, wanted_id };
    Ok(Turn::new(daemon, parts, facts, known_map))
}

fn security(config: &Config) -> Result<Security, String> {
    match (&config.identity, config.insecure_plain_text) {
        (Some(path), false) => {
            let identity = store_shell::identity::Identity::load(Path::new(path));
            let identity = identity.map_err(|error| error.to_string())?;
            if identity.peer.role != Role::Daemon {
                return Err(format!(
                    "{path} is the identity of {}: a daemon needs its own",
                    identity.peer
                ));
            }
            Security::tls(identity).map_err(|error| error.to_string())
        }
        (Some(_), true) => {
            Err("--identity and --insecure-plain-text exclude each other: leave one out"
                .to_string())
        }
        (None, true) => Ok(Security::PlainEverywhere),
        (None, false) => Ok(Security::PlainLoopback),
    }
}

/// The id that a new daemon asks for: the certificate's, since peers insist on it.
fn wanted_id(config: &Config, security: &Security) -> Result<Option<DaemonId>, String> {
    let certified = match security.identity() {
        None => None,
        Some(peer) => Some(peer.name.parse::<i32>().map_err(|_| {
            format!("{peer}: the identity of a daemon is named by its number, as in daemon.3")
        })?),
    };
    match (certified, config.id) {
        (Some(certified), Some(wanted)) if certified != wanted => Err(format!(
            "--id {wanted} differs from the identity, which is of daemon.{certified}: leave --id out"
        )),
        (certified, wanted) => Ok(certified.or(wanted).map(DaemonId)),
    }
}

/// The directory, and the identity if there is one, must be of one cluster. Without an identity the monitor
/// judges at boot.
fn one_cluster(
    dir: &Path,
    known: Option<&OsdMap>,
    security: &Security,
) -> Result<Option<ClusterId>, String> {
    let of_directory = known.map(|map| map.cluster);
    let of_identity = security.identity().map(|identity| identity.cluster);
    match (of_directory, of_identity) {
        (Some(directory), Some(identity)) if directory != identity => Err(format!(
            "{} belongs to cluster {directory}, the identity to cluster {identity}: use an empty directory, or an identity of that cluster",
            dir.display()
        )),
        (directory, identity) => Ok(identity.or(directory)),
    }
}

/// The uuid of the directory; made durable before anybody hears of it.
async fn uuid(store: &mut impl Engine) -> Result<[u8; 16], String> {
    let unreadable = |error: StoreError| format!("the store's superblock cannot be read: {error}");
    if let Some(stored) = store.superblock(UUID).map_err(unreadable)? {
        return <[u8; 16]>::try_from(&stored[..]).map_err(|_| {
            "the store's superblock is damaged: its uuid has a wrong length".to_string()
        });
    }
    let uuid = clock::random::<16>();
    let value = Some(Bytes::copy_from_slice(&uuid));
    let write = Write::Super { key: Bytes::from_static(UUID), value };
    let unwritable = |error: StoreError| format!("the store cannot be written: {error}");
    store.submit(Some(Ticket(0)), vec![write]).map_err(unwritable)?;
    let until = clock::now() + UUID_TIMEOUT;
    let mut done = Vec::new();
    while clock::now() < until {
        store.poll(&mut done);
        for completion in done.drain(..) {
            match completion {
                Completion::Stored { ticket: Ticket(0) } => return Ok(uuid),
                Completion::Failed { error } => return Err(unwritable(error)),
                _ => {}
            }
        }
        sleep(UUID_POLL).await;
    }
    Err(format!("the disk did not take a first write in {UUID_TIMEOUT:?}: see to the disk"))
}

/// The newest map of the life before. One that cannot be read is as good as none: the monitor has it.
fn known_map(store: &impl Engine) -> Result<Option<Arc<OsdMap>>, String> {
    let stored = match store.superblock(MAP) {
        // One that was lost with a rotten log, too.
        Err(StoreError::Damaged(why)) => {
            tracing::warn!(why, "the stored map is lost: waiting for the monitor's");
            return Ok(None);
        }
        other => other.map_err(|e| format!("the store's superblock cannot be read: {e}"))?,
    };
    let Some(bytes) = stored else { return Ok(None) };
    match OsdMap::from_bytes(bytes) {
        Ok(map) => Ok(Some(Arc::new(map))),
        Err(error) => {
            tracing::warn!(%error, "the stored map cannot be read: waiting for the monitor's");
            Ok(None)
        }
    }
}

/// This machine's name, as the kernel has it.
fn host_name() -> String {
    let read = files::read_bounded(Path::new(HOST_NAME), 256).unwrap_or_default();
    let name = String::from_utf8_lossy(&read).trim().to_string();
    if name.is_empty() { "localhost".to_string() } else { name }
}

/// What others are told to dial.
fn advertised(config: &Config, bound: SocketAddr, host: &str) -> HostPort {
    match &config.advertise {
        Some(advertise) => advertise.clone(),
        None if bound.ip().is_unspecified() => {
            HostPort { host: host.to_string(), port: bound.port() }
        }
        None => HostPort::from(bound),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use store_shell::identity::Authority;

    #[test]
    fn the_id_is_the_certificates() {
        let plain = Config { id: Some(4), ..Config::default() };
        assert_eq!(wanted_id(&plain, &Security::PlainLoopback), Ok(Some(DaemonId(4))));
        let authority = Authority::create(ClusterId([1; 16])).expect("made");
        let tls = |name: &str| {
            let identity = authority.issue(Role::Daemon, name).expect("issued");
            Security::tls(identity).expect("usable")
        };
        assert_eq!(wanted_id(&Config::default(), &tls("3")), Ok(Some(DaemonId(3))));
        assert!(wanted_id(&plain, &tls("3")).expect_err("differs").contains("leave --id out"));
        assert!(wanted_id(&plain, &tls("a")).expect_err("no number").contains("daemon.3"));
        let map = OsdMap { cluster: ClusterId([2; 16]), ..OsdMap::default() };
        let error =
            one_cluster(Path::new("/d"), Some(&map), &tls("3")).expect_err("another cluster");
        assert!(error.contains("/d belongs to cluster 02020202-"), "{error}");
    }

    #[test]
    fn what_others_dial() {
        let mut config = Config::default();
        let every: SocketAddr = "0.0.0.0:6800".parse().expect("an address");
        assert_eq!(advertised(&config, every, "h").to_string(), "h:6800");
        let one: SocketAddr = "10.0.0.1:6801".parse().expect("an address");
        assert_eq!(advertised(&config, one, "h").to_string(), "10.0.0.1:6801");
        config.advertise = Some("x:1".parse().expect("an address"));
        assert_eq!(advertised(&config, every, "h").to_string(), "x:1");
        assert!(!host_name().is_empty());
    }
}
