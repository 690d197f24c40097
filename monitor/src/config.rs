//! Settings of a monitor's process. What concerns the cluster is set at run time instead (`store config set`).

use serde::{Deserialize, Serialize};
use std::fmt;
use store_base::config::{ListenAddress, TimeSpan};

/// Settings of a monitor. Every one is also a flag (`--data-dir`), an environment variable (`STORE_DATA_DIR`,
/// `STORE_MONITOR_DATA_DIR`) and a line of the YAML file.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Name of this monitor among others. Changing it later is harmless.
    pub name: String,
    /// Where its state and the cluster's keys are. Made if it is not there. Keep it: it is the cluster.
    pub data_dir: String,
    /// Where services and the command line reach it.
    pub listen: ListenAddress,
    /// `/metrics` and `/health`.
    pub metrics_listen: ListenAddress,
    /// Whether services must show a certificate of the cluster. Without, plain text on loopback addresses only.
    pub tls: bool,
    /// Plain text on every address. Anybody on the network can then read and change everything.
    pub insecure_plain_text: bool,
    /// Where to put credentials for the services named by `issue`. Default: nowhere; `store-monitor issue`
    /// makes them one by one.
    pub credentials_dir: Option<String>,
    /// The services to make credentials for, as ROLE.NAME. Daemons are named by their number.
    pub issue: Vec<String>,
    /// Name of the first administrator. Only looked at when the cluster is made.
    pub admin_user: String,
    /// The first administrator's access key. Default: a random one. Only looked at when the cluster is made.
    pub access_key: Option<String>,
    /// The first administrator's secret key; goes with `access_key`.
    pub secret_key: Option<String>,
    /// Where the maps are kept: `sled`, in `data_dir`, for one monitor; `etcd` for several.
    pub state: StateKind,
    /// Settings of the connection to etcd, where `state` is `etcd`.
    pub etcd: EtcdConfig,
}

/// Where the maps are kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum StateKind {
    /// In the data directory.
    #[default]
    Sled,
    /// In etcd.
    Etcd,
}

/// How etcd is reached.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct EtcdConfig {
    /// Its members: `http://10.0.0.1:2379`, `https://…`. One that answers is enough.
    pub endpoints: Vec<String>,
    /// What our keys begin with, so that several clusters can share one etcd.
    pub prefix: String,
    /// User, where etcd asks for one.
    pub user: Option<String>,
    /// The user's password.
    pub password: Option<String>,
    /// PEM file with the authority that signed etcd's certificates.
    pub ca_file: Option<String>,
    /// PEM file with our certificate for etcd.
    pub cert_file: Option<String>,
    /// PEM file with its key.
    pub key_file: Option<String>,
    /// How long leadership lasts without a sign of life. Shorter: quicker takeover, and sooner lost by a stall.
    pub lease: TimeSpan,
    /// How long one call may take.
    pub timeout: TimeSpan,
}

/// The role's name in files and the environment.
pub const ROLE: &str = "monitor";

impl Default for Config {
    fn default() -> Self {
        let issue = ["daemon.0", "daemon.1", "daemon.2", "metadata.a", "gateway.a", "admin.admin"];
        Config {
            name: "a".to_string(),
            data_dir: "/var/lib/store/monitor".to_string(),
            listen: ListenAddress(([0, 0, 0, 0], 6789).into()),
            metrics_listen: ListenAddress(([0, 0, 0, 0], 9283).into()),
            tls: true,
            insecure_plain_text: false,
            credentials_dir: None,
            issue: issue.map(str::to_string).to_vec(),
            admin_user: "admin".to_string(),
            access_key: None,
            secret_key: None,
            state: StateKind::Sled,
            etcd: EtcdConfig::default(),
        }
    }
}

impl Default for EtcdConfig {
    fn default() -> Self {
        EtcdConfig {
            endpoints: vec!["http://127.0.0.1:2379".to_string()],
            prefix: "/store/".to_string(),
            user: None,
            password: None,
            ca_file: None,
            cert_file: None,
            key_file: None,
            lease: TimeSpan(std::time::Duration::from_secs(10)),
            timeout: TimeSpan(std::time::Duration::from_secs(5)),
        }
    }
}

/// Secrets do not go into logs.
fn hidden(secret: &Option<String>) -> &'static str {
    if secret.is_some() { "(given)" } else { "(none)" }
}

impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Config")
            .field("name", &self.name)
            .field("data_dir", &self.data_dir)
            .field("listen", &self.listen)
            .field("metrics_listen", &self.metrics_listen)
            .field("tls", &self.tls)
            .field("insecure_plain_text", &self.insecure_plain_text)
            .field("credentials_dir", &self.credentials_dir)
            .field("issue", &self.issue)
            .field("admin_user", &self.admin_user)
            .field("access_key", &self.access_key)
            .field("secret_key", &hidden(&self.secret_key))
            .field("state", &self.state)
            .field("etcd", &self.etcd)
            .finish()
    }
}

impl fmt::Debug for EtcdConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EtcdConfig")
            .field("endpoints", &self.endpoints)
            .field("prefix", &self.prefix)
            .field("user", &self.user)
            .field("password", &hidden(&self.password))
            .field("lease", &self.lease)
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use store_base::config::load;

    #[test]
    fn every_source_is_read_and_secrets_are_not_shown() {
        let environment = [
            ("STORE_ACCESS_KEY".to_string(), "AK".to_string()),
            ("STORE_SECRET_KEY".to_string(), "very secret".to_string()),
            ("STORE_MONITOR_DATA_DIR".to_string(), "/m".to_string()),
            ("STORE_MONITOR_ETCD_ENDPOINTS".to_string(), "http://a:1,http://b:2".to_string()),
        ];
        let flags = [("--state".to_string(), "etcd".to_string())];
        let config = load::<Config>(ROLE, None, environment, flags).expect("all known").value;
        assert_eq!((config.data_dir.as_str(), config.state), ("/m", StateKind::Etcd));
        assert_eq!(config.etcd.endpoints.len(), 2);
        assert!(!format!("{config:?}").contains("very secret"));
    }
}
