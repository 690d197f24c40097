//! What a cluster is made of, in the monitor's data directory.
//!
//! | file | holds |
//! |---|---|
//! | `lock` | the hold of one process |
//! | `cluster` | the cluster's id |
//! | `seal.key` | 32 bytes, hex: seals users' secrets. Lost, every user needs new keys |
//! | `authority.pem` | the cluster's certificate authority. Lost, every service needs new credentials |
//! | `monitor.<name>.pem` | this monitor's credentials |
//! | `admin.json` | the first administrator's keys; may be removed once they are known |
//! | `state/` | the maps |
//!
//! All but `state/` are small files written whole, mode 0600, before the first maps are committed; a crash in
//! between is finished by the next start, with the same keys.

use super::seal::{KEY_LEN, RingSealer};
use crate::config::Config;
use crate::machine::users::{self, ACCESS_KEY_LEN, KeyPair, NONCE_LEN, SECRET_LEN};
use crate::machine::{ENTROPY_BYTES, maps};
use crate::state::{CommitError, StateStore, Stored, genesis};
use anyhow::{Result, anyhow, bail};
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use store_base::ClusterId;
use store_base::map::OsdMap;
use store_shell::clock;
use store_shell::files::{self, DirectoryLock};
use store_shell::identity::{AUTHORITY_NAME, Authority, Identity, PeerIdentity, Role};

const FILE_BYTES_MAX: u64 = 64 << 10;

/// Credentials that one start makes, at most.
const ISSUE_MAX: usize = 1024;

/// The first administrator, as `admin.json` has it.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Admin {
    /// Name of the user.
    pub user: String,
    /// The access key.
    pub access_key: String,
    /// The secret key.
    pub secret_key: String,
}

/// A monitor's data directory, held by this process.
pub struct Home {
    directory: PathBuf,
    _lock: DirectoryLock,
    /// The cluster; before the first start a new one.
    pub cluster: ClusterId,
    /// Seals users' secrets.
    pub seal_key: Bytes,
    /// If the file is there.
    pub admin: Option<Admin>,
    authority: Authority,
}

fn path_of(directory: &Path, name: &str) -> PathBuf {
    directory.join(name)
}

fn read_text(path: &Path) -> Result<Option<String>> {
    match files::read_bounded(path, FILE_BYTES_MAX) {
        Ok(bytes) => match String::from_utf8(bytes) {
            Ok(text) => Ok(Some(text.trim().to_string())),
            Err(_) => bail!("{} is damaged: restore it from a backup", path.display()),
        },
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(e.into()),
    }
}

impl Home {
    /// Takes the directory for this process and makes what is missing. Blocks for as long as the disk takes.
    pub fn open(directory: &Path) -> Result<Home> {
        files::make_directory(directory, 0o700)?;
        let lock = DirectoryLock::acquire(directory).map_err(|error| match error.kind() {
            std::io::ErrorKind::StorageFull => {
                anyhow!("the disk of {} is full: make room on it", directory.display())
            }
            _ => error.into(),
        })?;
        let cluster = match read_text(&path_of(directory, "cluster"))? {
            Some(text) => text.parse().map_err(|e| anyhow!("{}: {e}", directory.display()))?,
            None => {
                if path_of(directory, "state").exists() {
                    bail!(
                        "{} has maps and no file \"cluster\": restore it from a backup",
                        directory.display()
                    );
                }
                let cluster = ClusterId(clock::random());
                let text = format!("{cluster}\n");
                files::write_durable(&path_of(directory, "cluster"), text.as_bytes(), 0o600)?;
                cluster
            }
        };
        let seal_key = seal_key(directory)?;
        let authority = authority(directory, cluster)?;
        let admin = match read_text(&path_of(directory, "admin.json"))? {
            Some(text) => Some(serde_json::from_str(&text).map_err(|e| {
                anyhow!(
                    "{} is damaged ({e}): remove it",
                    path_of(directory, "admin.json").display()
                )
            })?),
            None => None,
        };
        let directory = directory.to_path_buf();
        Ok(Home { directory, _lock: lock, cluster, seal_key, admin, authority })
    }

    /// Where it is.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Checks that the maps are of this cluster; where there are none, makes the first ones. Says whether it
    /// did.
    pub async fn complete(
        mut self,
        store: &dyn StateStore,
        stored: &Stored,
        config: &Config,
    ) -> Result<(Home, bool)> {
        if stored.version > 0 {
            self.check_cluster(stored)?;
            return Ok((self, false));
        }
        let admin = self.first_admin(config)?;
        let sealer = RingSealer::new(&self.seal_key);
        let now = clock::timestamp();
        let pair =
            KeyPair { access_key: admin.access_key.clone(), secret_key: admin.secret_key.clone() };
        let user = users::first_admin(&pair, clock::random::<NONCE_LEN>(), &sealer, now);
        let batch = genesis(self.cluster, now, Some((admin.user.clone(), user)));
        self.admin = Some(admin);
        // Leadership is asked for only for this one commit.
        let _leads = store.campaign(&config.name).await.map_err(|e| anyhow!("{e}"))?;
        match store.commit(batch).await {
            Ok(_) => Ok((self, true)),
            Err(CommitError::Conflict { .. }) => {
                // Another monitor was quicker.
                let stored = store.load().await.map_err(|e| anyhow!("{e}"))?;
                self.check_cluster(&stored)?;
                Ok((self, false))
            }
            Err(e) => Err(anyhow!("cannot store the first maps: {e}")),
        }
    }

    fn check_cluster(&self, stored: &Stored) -> Result<()> {
        let (maps, _) = maps::read(stored).map_err(|e| anyhow!("{e}"))?;
        let there: &OsdMap = &maps.osd;
        if there.cluster != self.cluster {
            bail!(
                "{} is of cluster {}, and the maps are of cluster {}: copy \"cluster\", \"seal.key\" and \
                 \"authority.pem\" from a monitor of that cluster, or use an empty directory and an empty store",
                self.directory.display(),
                self.cluster,
                there.cluster
            );
        }
        Ok(())
    }

    /// The keys given, those of an earlier try, or random ones; written down before they are used.
    fn first_admin(&self, config: &Config) -> Result<Admin> {
        if let Some(admin) = &self.admin {
            return Ok(admin.clone());
        }
        // An empty variable is as good as none: compose files hand on what is not set so.
        let given = |key: &Option<String>| key.clone().filter(|key| !key.is_empty());
        let (access, secret) = (given(&config.access_key), given(&config.secret_key));
        if access.is_some() != secret.is_some() {
            bail!("STORE_ACCESS_KEY and STORE_SECRET_KEY go together: give both or none");
        }
        const { assert!(ACCESS_KEY_LEN + SECRET_LEN + NONCE_LEN <= ENTROPY_BYTES) };
        let (pair, _) = users::key_pair(&clock::random::<ENTROPY_BYTES>(), access, secret);
        users::check_pair(&pair).map_err(|why| anyhow!("the first administrator's keys: {why}"))?;
        let admin = Admin {
            user: config.admin_user.clone(),
            access_key: pair.access_key,
            secret_key: pair.secret_key,
        };
        let text = serde_json::to_string_pretty(&admin)? + "\n";
        files::write_durable(&path_of(&self.directory, "admin.json"), text.as_bytes(), 0o600)?;
        Ok(admin)
    }

    /// This monitor's credentials, issued if they are not there.
    pub fn own_identity(&self, name: &str) -> Result<Identity> {
        let wanted = PeerIdentity::new(self.cluster, Role::Monitor, name)?;
        let path = path_of(&self.directory, &format!("{wanted}.pem"));
        if path.exists() {
            let identity = Identity::load(&path)?;
            if identity.peer == wanted {
                return Ok(identity);
            }
        }
        let identity = self.authority.issue(Role::Monitor, name)?;
        identity.save(&self.directory)?;
        Ok(identity)
    }

    /// Puts credentials for the services named into the directory that is given for them. What is there and of
    /// this cluster stays.
    pub fn export_credentials(&self, config: &Config) -> Result<()> {
        let Some(directory) = config.credentials_dir.as_deref().filter(|dir| !dir.is_empty())
        else {
            return Ok(());
        };
        if !config.tls || config.insecure_plain_text {
            return Ok(()); // nobody would use them
        }
        let directory = Path::new(directory);
        files::make_directory(directory, 0o700)?;
        if config.issue.len() > ISSUE_MAX {
            bail!(
                "\"issue\" names more than {ISSUE_MAX} services: use `store-monitor issue` for the others"
            );
        }
        for service in &config.issue {
            let (role, name) = parse_service(service)?;
            let wanted = PeerIdentity::new(self.cluster, role, &name)?;
            let path = directory.join(format!("{wanted}.pem"));
            let is_there = path.exists()
                && Identity::load(&path).is_ok_and(|identity| identity.peer == wanted);
            if !is_there {
                self.authority.issue(role, &name)?.save(directory)?;
            }
        }
        Ok(())
    }
}

fn seal_key(directory: &Path) -> Result<Bytes> {
    let path = path_of(directory, "seal.key");
    if let Some(text) = read_text(&path)? {
        let decoded = decode_hex(&text).filter(|key| key.len() == KEY_LEN);
        return decoded
            .map(Bytes::from)
            .ok_or_else(|| anyhow!("{} is damaged: restore it from a backup", path.display()));
    }
    if path_of(directory, "state").exists() {
        bail!(
            "{} has maps and no \"seal.key\", which opens the users' secrets: restore it from a backup",
            directory.display()
        );
    }
    let key = clock::random::<KEY_LEN>();
    let text: String = key.iter().map(|byte| format!("{byte:02x}")).collect();
    files::write_durable(&path, format!("{text}\n").as_bytes(), 0o600)?;
    Ok(Bytes::copy_from_slice(&key))
}

fn decode_hex(text: &str) -> Option<Vec<u8>> {
    if !text.len().is_multiple_of(2) || !text.is_ascii() {
        return None;
    }
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).ok()).collect()
}

fn authority(directory: &Path, cluster: ClusterId) -> Result<Authority> {
    if !path_of(directory, AUTHORITY_NAME).exists() {
        let authority = Authority::create(cluster)?;
        authority.save(directory)?;
        return Ok(authority);
    }
    let authority = Authority::load(directory)?;
    if authority.cluster() != cluster {
        bail!(
            "{AUTHORITY_NAME} in {} is of another cluster ({}): restore it from a backup",
            directory.display(),
            authority.cluster()
        );
    }
    Ok(authority)
}

/// "daemon.3" → its role and name.
fn parse_service(text: &str) -> Result<(Role, String)> {
    let parsed = text.split_once('.').and_then(|(role, name)| Some((role.parse().ok()?, name)));
    let (role, name): (Role, &str) = parsed.ok_or_else(|| {
        anyhow!("{text:?} is not a service: write ROLE.NAME, as daemon.0, gateway.a or admin.me")
    })?;
    if role == Role::Daemon && name.parse::<u16>().is_err() {
        bail!("{text:?} is not a daemon: daemons are named by their number, as daemon.0");
    }
    Ok((role, name.to_string()))
}

/// Makes credentials for one service without a running monitor: the authority's file is all that is needed.
pub fn issue(directory: &Path, service: &str, into: &Path) -> Result<PathBuf> {
    let authority = Authority::load(directory)?;
    let (role, name) = parse_service(service)?;
    files::make_directory(into, 0o700)?;
    Ok(authority.issue(role, &name)?.save(into)?)
}
