//! Settings of a metadata service's process.

use serde::{Deserialize, Serialize};
use store_base::config::{HostPort, ListenAddress};

/// The role's name in files and the environment.
pub const ROLE: &str = "metadata";

/// Settings of a metadata service. Every one is also a flag (`--listen`), an environment variable
/// (`STORE_LISTEN`, `STORE_METADATA_LISTEN`) and a line of the YAML file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// What it is called in the cluster; unique among metadata services. With a certificate: its name.
    pub name: String,
    /// Monitors of the cluster; one that answers is enough.
    pub monitors: Vec<HostPort>,
    /// Where it answers calls.
    pub listen: ListenAddress,
    /// What others are told to dial. Default: `listen`.
    pub advertise: Option<HostPort>,
    /// `/metrics` and `/health`.
    pub metrics_listen: ListenAddress,
    /// This service's certificate and key. Without one, plain text, on loopback addresses only.
    pub identity: Option<String>,
    /// Plain text on every address. Anybody on the network can then read and change everything.
    pub insecure_plain_text: bool,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            name: "a".to_string(),
            monitors: vec![HostPort { host: "127.0.0.1".to_string(), port: 6789 }],
            listen: ListenAddress(([0, 0, 0, 0], 6804).into()),
            advertise: None,
            metrics_listen: ListenAddress(([0, 0, 0, 0], 9283).into()),
            identity: None,
            insecure_plain_text: false,
        }
    }
}
