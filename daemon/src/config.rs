//! Settings of a daemon's process. What the machine may be told at run time comes from the monitor's config
//! map instead (`store config set`).

use serde::{Deserialize, Serialize};
use store_base::config::{ByteSize, HostPort, ListenAddress};

/// Settings of a daemon. Every one is also a flag (`--data-dir`), an environment variable
/// (`STORE_DATA_DIR`, `STORE_DAEMON_DATA_DIR`) and a line of the YAML file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Where the data is. Made if it is not there. One daemon, one directory.
    pub data_dir: String,
    /// Monitors of the cluster; one that answers is enough.
    pub monitors: Vec<HostPort>,
    /// Where clients and other daemons are served.
    pub listen: ListenAddress,
    /// What others are told to dial, when that differs from `listen` (every address, a port that is
    /// forwarded, a name). Default: `listen`, or this machine's name when that is every address.
    pub advertise: Option<HostPort>,
    /// Name of this machine: copies are kept on different ones. Default: the machine's own name.
    pub host: Option<String>,
    /// Where the machine stands, as "rack=r1": copies are kept apart at that level where pools ask for it.
    pub location: Vec<String>,
    /// Kind of medium, for rules that choose one.
    pub device_class: String,
    /// How much of the disk this daemon may take, and its weight in placement. Default: what is free and
    /// what it has already, less a tenth. May be another at every start.
    pub capacity: Option<ByteSize>,
    /// The id to have, when the directory is new. Default: the one of the certificate, else the lowest
    /// that is free.
    pub id: Option<i32>,
    /// `/metrics` and `/health`.
    pub metrics_listen: ListenAddress,
    /// This daemon's certificate and key, from `store identity issue`. Without one, plain text, on
    /// loopback addresses only.
    pub identity: Option<String>,
    /// Plain text on every address. Anybody on the network can then read and change everything.
    pub insecure_plain_text: bool,
    /// How the disk is spoken to: `auto` tries io_uring and falls back to `threads`.
    pub engine: EngineKind,
    /// At an orderly end tell the monitor, so that others take over at once. Off where the whole cluster
    /// stops together: then nothing is re-formed, and the next start finds all copies in force.
    pub announce_stop: bool,
}

impl Config {
    /// What metrics call this daemon: its number if that is known beforehand, else where it listens.
    pub fn metrics_name(&self) -> String {
        match self.id {
            Some(id) => id.to_string(),
            None => self.listen.to_string(),
        }
    }
}

/// How the disk is spoken to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EngineKind {
    /// io_uring if the kernel allows it, else threads.
    #[default]
    Auto,
    /// io_uring, or an error.
    IoUring,
    /// pread and pwrite on a few threads.
    Threads,
}

/// The role's name in files and the environment.
pub const ROLE: &str = "daemon";

impl Default for Config {
    fn default() -> Self {
        Config {
            data_dir: "/var/lib/store/daemon".to_string(),
            monitors: vec![HostPort { host: "127.0.0.1".to_string(), port: 6789 }],
            listen: ListenAddress(([0, 0, 0, 0], 6800).into()),
            advertise: None,
            host: None,
            location: Vec::new(),
            device_class: String::new(),
            capacity: None,
            id: None,
            metrics_listen: ListenAddress(([0, 0, 0, 0], 9283).into()),
            identity: None,
            insecure_plain_text: false,
            engine: EngineKind::Auto,
            announce_stop: true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use store_base::config::{File, load};

    fn flags(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        pairs.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect()
    }

    #[test]
    fn sources_are_laid_over_each_other_and_strangers_refused() {
        let file = File {
            name: "f",
            text: "data_dir: /a\ndaemon: { capacity: 10GiB, engine: threads }\n",
        };
        let environment = [("STORE_MONITORS".to_string(), "m1:6789,m2:6789".to_string())];
        let given = flags(&[("--data-dir", "/b"), ("--location", "rack=r1,row=2"), ("--id", "3")]);
        let loaded =
            load::<Config>(ROLE, Some(file), environment, given).expect("all is known").value;
        assert_eq!((loaded.data_dir.as_str(), loaded.id), ("/b", Some(3)));
        assert_eq!(loaded.capacity, Some(ByteSize(10 << 30)));
        assert_eq!(loaded.engine, EngineKind::Threads);
        assert_eq!(loaded.monitors.len(), 2);
        assert_eq!(loaded.location, ["rack=r1", "row=2"]);
        let error =
            load::<Config>(ROLE, None, [], flags(&[("--data-dri", "/b")])).expect_err("unknown");
        assert!(error.to_string().contains("--data-dir"), "{error}");
        let wrong = flags(&[("--engine", "punched cards")]);
        assert!(load::<Config>(ROLE, None, [], wrong).is_err());
    }
}
