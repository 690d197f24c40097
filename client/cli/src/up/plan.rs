//! The shape of a cluster on this machine: its roles, their places and ports. Kept in `DIR/up.json`, so that
//! the same cluster starts again, and so that a single role can be started by its name alone.

use super::ports::Chooser;
use crate::exit::Failure;
use crate::units::bytes as in_units;
use rustix::fs::statvfs;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use store_base::config::ByteSize;
use store_shell::files;

const NAME: &str = "up.json";
const BYTES_MAX: u64 = 1 << 20;
/// Form of the file. A newer one is refused.
const VERSION: u32 = 1;
/// More daemons than this on one machine help nobody.
pub(crate) const DAEMONS_MAX: u32 = 64;

/// What a role is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, clap::ValueEnum)]
pub(crate) enum Kind {
    /// Keeps the maps
    Monitor,
    /// Keeps objects
    Daemon,
    /// Keeps the filesystem's names
    Metadata,
    /// Speaks S3
    Gateway,
}

impl Kind {
    pub(crate) fn word(self) -> &'static str {
        match self {
            Kind::Monitor => "monitor",
            Kind::Daemon => "daemon",
            Kind::Metadata => "metadata",
            Kind::Gateway => "gateway",
        }
    }
}

/// One role of the cluster: `daemon 2`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct RoleName {
    pub(crate) kind: Kind,
    pub(crate) id: String,
}

/// The name of what there is only one of.
const ONLY: &str = "a";

impl RoleName {
    pub(crate) fn new(kind: Kind, id: impl ToString) -> Self {
        RoleName { kind, id: id.to_string() }
    }

    /// `daemon.2`: its directory, its log, its key in the table of ports.
    pub(crate) fn dotted(&self) -> String {
        format!("{}.{}", self.kind.word(), self.id)
    }

    /// The two words of a line in the list of processes.
    pub(crate) fn parse(kind: &str, id: &str) -> Option<Self> {
        let kinds = [Kind::Monitor, Kind::Daemon, Kind::Metadata, Kind::Gateway];
        let kind = kinds.into_iter().find(|known| known.word() == kind)?;
        Some(RoleName::new(kind, id))
    }
}

impl fmt::Display for RoleName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.kind.word(), self.id)
    }
}

/// What is remembered of a cluster on this machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Plan {
    version: u32,
    pub(crate) daemons: u32,
    /// What each daemon may take of the disk that they share.
    #[serde(default)]
    daemon_bytes: Option<u64>,
    /// Daemons that were removed: their numbers are not given again, their directories stay.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    gone: BTreeSet<u32>,
    /// By what listens there: `daemon.0`, `gateway.a.s3`, `health`, `health.daemon.0`.
    ports: BTreeMap<String, u16>,
    #[serde(skip)]
    dir: PathBuf,
}

impl Plan {
    pub(crate) fn new(dir: &Path, daemons: u32) -> Self {
        Plan {
            version: VERSION,
            daemons,
            daemon_bytes: None,
            gone: BTreeSet::new(),
            ports: BTreeMap::new(),
            dir: dir.to_path_buf(),
        }
    }

    /// What was remembered, if this directory holds a cluster.
    pub(crate) fn load(dir: &Path) -> Result<Option<Self>, Failure> {
        let path = dir.join(NAME);
        let bytes = match files::read_bounded(&path, BYTES_MAX) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let damaged = |why: String| {
            let path = path.display();
            Failure::failed(format!(
                "{path} cannot be used: {why}; remove it, and ports are chosen anew for the same data"
            ))
        };
        let mut plan: Plan =
            serde_json::from_slice(&bytes).map_err(|error| damaged(error.to_string()))?;
        if plan.version != VERSION || !(1..=DAEMONS_MAX).contains(&plan.daemons) {
            return Err(damaged(format!("version {}, {} daemons", plan.version, plan.daemons)));
        }
        plan.dir = dir.to_path_buf();
        Ok(Some(plan))
    }

    pub(crate) fn save(&self) -> Result<(), Failure> {
        let text = serde_json::to_vec_pretty(self)
            .map_err(|error| Failure::failed(format!("the plan cannot be written: {error}")))?;
        Ok(files::write_durable(&self.dir.join(NAME), &text, 0o600)?)
    }

    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    /// In the order of starting.
    pub(crate) fn roles(&self) -> Vec<RoleName> {
        let mut roles = vec![RoleName::new(Kind::Monitor, ONLY)];
        let daemons = (0..self.daemons).filter(|id| !self.gone.contains(id));
        roles.extend(daemons.map(|id| RoleName::new(Kind::Daemon, id)));
        roles.push(RoleName::new(Kind::Metadata, ONLY));
        roles.push(RoleName::new(Kind::Gateway, ONLY));
        roles
    }

    /// Chooses a port for everything that listens. `base` is the first of a row of ports instead of the usual ones.
    pub(crate) fn choose_ports(
        &mut self,
        chooser: &mut Chooser,
        base: Option<u16>,
        processes: bool,
    ) -> Result<(), Failure> {
        let before = std::mem::take(&mut self.ports);
        for (index, (name, usual)) in self.listeners(processes).into_iter().enumerate() {
            let wished = match base {
                Some(base) => u16::try_from(usize::from(base) + index).map_err(|_| {
                    Failure::usage(format!("--base-port {base} leaves too few ports"))
                })?,
                None => before.get(&name).copied().unwrap_or(usual),
            };
            let port = chooser.choose(&name, wished)?;
            self.ports.insert(name, port);
        }
        // The other mode's health ports are remembered too.
        for (name, port) in before {
            self.ports.entry(name).or_insert(port);
        }
        Ok(())
    }

    /// The number of one more daemon, which gets as much of the disk as each of the others; `None` if there are
    /// too many.
    pub(crate) fn add_daemon(&mut self) -> Option<u32> {
        let id = self.daemons;
        (id < DAEMONS_MAX).then(|| self.daemons += 1)?;
        Some(id)
    }

    /// Leaves a daemon out from now on.
    pub(crate) fn remove_daemon(&mut self, id: u32) {
        self.gone.insert(id);
    }

    /// Chooses ports for one role, beside those that others have.
    pub(crate) fn choose_ports_of(
        &mut self,
        role: &RoleName,
        chooser: &mut Chooser,
    ) -> Result<(), Failure> {
        let taken: BTreeSet<u16> = self.ports.values().copied().collect();
        let names = [role.dotted(), health_of(role)];
        for (name, usual) in
            self.listeners(true).into_iter().filter(|(name, _)| names.contains(name))
        {
            let mut port = chooser.choose(&name, usual)?;
            while taken.contains(&port) {
                port = chooser.choose(&name, port.saturating_add(1))?;
            }
            self.ports.insert(name, port);
        }
        Ok(())
    }

    /// Changes how many daemons there are.
    pub(crate) fn set_daemons(&mut self, daemons: u32) {
        if self.daemons != daemons {
            self.daemons = daemons;
            self.daemon_bytes = None;
        }
    }

    /// Shares the disk out, unless that was done: what is free now, and what the daemons have already.
    pub(crate) fn choose_capacity(&mut self) -> Result<(), Failure> {
        if self.daemon_bytes.is_some() {
            return Ok(());
        }
        let Ok(disk) = statvfs(&self.dir) else { return Ok(()) };
        let free = disk.f_bavail.saturating_mul(disk.f_frsize);
        let daemons = (0..self.daemons).map(|id| self.role_dir(&RoleName::new(Kind::Daemon, id)));
        let taken: u64 = daemons.map(|dir| bytes_below(&dir)).sum();
        let share = (free + taken) as f64 * SHARE_OF_DISK / f64::from(self.daemons.max(1));
        let share = share as u64;
        if share < DAEMON_BYTES_MIN {
            return Err(Failure::failed(format!(
                "the disk of {} has {} free, which leaves {} for each of {} daemons and is too little: make room there, or name another place with --dir",
                self.dir.display(),
                in_units(free),
                in_units(share),
                self.daemons
            )));
        }
        self.daemon_bytes = Some(share);
        Ok(())
    }

    /// How many daemons have data in a directory.
    pub(crate) fn daemons_in(dir: &Path) -> u32 {
        let has_data = |id: &u32| dir.join(RoleName::new(Kind::Daemon, id).dotted()).is_dir();
        (0..DAEMONS_MAX).filter(has_data).map(|id| id + 1).max().unwrap_or(0)
    }

    /// Says what each daemon may take; more may be said later, and less down to what is used.
    pub(crate) fn set_capacity(&mut self, each: ByteSize) {
        self.daemon_bytes = Some(each.0);
    }

    /// What each daemon may take.
    pub(crate) fn daemon_capacity(&self) -> Option<ByteSize> {
        self.daemon_bytes.map(ByteSize)
    }

    /// What listens, and the usual port of each.
    fn listeners(&self, processes: bool) -> Vec<(String, u16)> {
        let mut listeners = Vec::new();
        for role in self.roles() {
            match role.kind {
                Kind::Monitor => listeners.push((role.dotted(), 6789)),
                Kind::Metadata => listeners.push((role.dotted(), METADATA_PORT)),
                Kind::Daemon => {
                    let number = role.id.parse().unwrap_or(0);
                    listeners.push((role.dotted(), daemon_port(number)));
                }
                Kind::Gateway => {
                    listeners.push((format!("{}.s3", role.dotted()), 8888));
                    listeners.push((format!("{}.admin", role.dotted()), 8124));
                }
            }
        }
        let health = store_shell::telemetry::PORT;
        match processes {
            false => listeners.push((HEALTH.to_string(), health)),
            true => {
                let names = self.roles().into_iter().map(|role| health_of(&role));
                listeners.extend((health..).zip(names).map(|(port, name)| (name, port)));
            }
        }
        listeners
    }

    fn address(&self, name: &str) -> Result<SocketAddr, Failure> {
        let port = self.ports.get(name).copied().ok_or_else(|| {
            Failure::not_found(format!(
                "{} knows no {name}: `store up` makes it",
                self.dir.join(NAME).display()
            ))
        })?;
        Ok(SocketAddr::from((Ipv4Addr::LOCALHOST, port)))
    }

    /// Where a role is reached.
    pub(crate) fn role_address(&self, role: &RoleName) -> Result<SocketAddr, Failure> {
        self.address(&role.dotted())
    }

    pub(crate) fn monitor(&self) -> Result<SocketAddr, Failure> {
        self.role_address(&RoleName::new(Kind::Monitor, ONLY))
    }

    pub(crate) fn s3(&self) -> Result<SocketAddr, Failure> {
        self.address("gateway.a.s3")
    }

    pub(crate) fn admin(&self) -> Result<SocketAddr, Failure> {
        self.address("gateway.a.admin")
    }

    /// Where the health of the one process, or of a role's own process, is asked.
    pub(crate) fn health(&self, role: Option<&RoleName>) -> Result<SocketAddr, Failure> {
        self.address(&role.map_or_else(|| HEALTH.to_string(), health_of))
    }

    /// Where a role keeps what it keeps.
    pub(crate) fn role_dir(&self, role: &RoleName) -> PathBuf {
        self.dir.join(role.dotted())
    }

    pub(crate) fn log(&self, name: &str) -> PathBuf {
        self.dir.join("log").join(format!("{name}.log"))
    }
}

/// What daemons share of the disk: the rest is for logs and for others.
const SHARE_OF_DISK: f64 = 0.9;
/// Less than this is of no use to a daemon.
const DAEMON_BYTES_MIN: u64 = 16 << 20;
/// The unit in which the kernel tells what a file takes.
const BLOCK_BYTES: u64 = 512;
const HEALTH: &str = "health";
const METADATA_PORT: u16 = 6804;

/// What files below a directory take on the disk. What cannot be looked at counts as nothing.
fn bytes_below(dir: &Path) -> u64 {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    entries
        .filter_map(|entry| Some((entry.path(), entry.metadata().ok()?)))
        .map(|(path, found)| match found.is_dir() {
            true => bytes_below(&path),
            false => found.blocks().saturating_mul(BLOCK_BYTES),
        })
        .fold(0, u64::saturating_add)
}

fn health_of(role: &RoleName) -> String {
    format!("{HEALTH}.{}", role.dotted())
}

/// Pairs from 6800 on (the second of each is for the native protocol), around the metadata service's pair.
fn daemon_port(number: u16) -> u16 {
    let port = 6800 + 2 * number;
    if port < METADATA_PORT { port } else { port + 2 }
}

#[cfg(test)]
mod tests {
    use super::super::ports::Choice;
    use super::*;

    #[test]
    fn a_plan_is_remembered() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        assert_eq!(Plan::load(dir.path()), Ok(None));
        let mut plan = Plan::new(dir.path(), 3);
        plan.choose_ports(&mut Chooser::new(Choice::Auto), Some(21_000), true).expect("free ports");
        plan.save().expect("written");
        let back = Plan::load(dir.path()).expect("readable").expect("there");
        assert_eq!(back, plan);
        assert_eq!(back.roles().len(), 6);
        for role in back.roles() {
            assert!(back.health(Some(&role)).is_ok(), "{role}");
        }
        assert!(back.health(None).is_err(), "no process of that kind was planned");
        files::write_durable(&dir.path().join(NAME), b"{}", 0o600).expect("written");
        assert!(Plan::load(dir.path()).expect_err("damaged").message().contains("remove it"));
    }

    #[test]
    fn the_disk_is_shared_out_once_for_so_many_daemons() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let mut plan = Plan::new(dir.path(), 2);
        plan.choose_capacity().expect("there is room");
        let halves = plan.daemon_capacity().expect("a disk").0;
        plan.daemon_bytes = Some(halves - 1);
        plan.choose_capacity().expect("nothing to choose");
        assert_eq!(plan.daemon_capacity(), Some(ByteSize(halves - 1)), "it is kept");
        let data = plan.role_dir(&RoleName::new(Kind::Daemon, 1)).join("deeper");
        files::make_directory(&data, 0o700).expect("made");
        files::write_durable(&data.join("file"), &[1; 100_000], 0o600).expect("written");
        assert!(bytes_below(&plan.role_dir(&RoleName::new(Kind::Daemon, 1))) >= 100_000);
        assert_eq!(Plan::daemons_in(dir.path()), 2, "the first has no data yet");
        plan.set_daemons(2);
        assert_eq!(plan.daemon_capacity(), Some(ByteSize(halves - 1)), "as many as before");
        plan.set_daemons(4);
        assert_eq!(plan.daemon_capacity(), None, "another number is another share");
    }

    #[test]
    fn daemons_keep_clear_of_the_metadata_service() {
        let ports: Vec<u16> = (0..4).map(daemon_port).collect();
        assert_eq!(ports, [6800, 6802, 6806, 6808]);
    }

    #[test]
    fn names_are_read_back() {
        let role = RoleName::new(Kind::Daemon, 2);
        assert_eq!(role.to_string(), "daemon 2");
        assert_eq!(RoleName::parse("daemon", "2"), Some(role));
        assert_eq!(RoleName::parse("king", "2"), None);
    }
}
