//! Settings of a gateway's process.

use crate::http::network::Network;
use crate::webhook::Webhooks;
use serde::{Deserialize, Serialize};
use std::time::Duration;
use store_base::config::{ByteSize, HostPort, ListenAddress, TimeSpan};

/// The role's name in files and the environment.
pub const ROLE: &str = "gateway";

/// Settings of a gateway. Every one is also a flag (`--listen`), an environment variable (`STORE_LISTEN`,
/// `STORE_GATEWAY_LISTEN`) and a line of the YAML file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Name of this gateway among others.
    pub name: String,
    /// Monitors of the cluster; one that answers is enough.
    pub monitors: Vec<HostPort>,
    /// Where S3 is served.
    pub listen: ListenAddress,
    /// Where administrators are served.
    pub admin_listen: ListenAddress,
    /// What others are told to dial. Default: `listen`.
    pub advertise: Option<HostPort>,
    /// `/metrics` and `/health`.
    pub metrics_listen: ListenAddress,
    /// This gateway's certificate and key within the cluster, from `store-monitor issue`. Without one,
    /// plain text, on loopback addresses only.
    pub identity: Option<String>,
    /// Plain text to the cluster on every address. Anybody on the network can then read and change
    /// everything.
    pub insecure_plain_text: bool,
    /// PEM file with the certificate chain for S3 and the admin port over HTTPS. Default: HTTP.
    pub tls_cert: Option<String>,
    /// PEM file with its key.
    pub tls_key: Option<String>,
    /// Refuse keys that clients bring (SSE-C) in plain text. Where TLS ends at a proxy the gateway sees
    /// plain text only; where clients come directly and by HTTP, their keys can be read on the way.
    pub customer_keys_need_tls: bool,
    /// The region that clients are told. Requests signed for another one are accepted.
    pub region: String,
    /// Domains below which buckets are hosts: with `s3.example.com`, `b.s3.example.com` is bucket `b`.
    /// Others name the bucket in the path only.
    pub domains: Vec<String>,
    /// Addresses or networks (`10.0.0.0/8`) of proxies before the gateway. What they say in `X-Forwarded-For`
    /// and `X-Forwarded-Proto` is who the client is and whether he came encrypted, for policies. Nobody else
    /// is believed. Default: none.
    pub trusted_proxies: Vec<String>,
    /// Domains below which buckets are websites: with `web.example.com`, `b.web.example.com` shows the website
    /// of bucket `b`, if it has one. Without, there are no websites.
    pub website_domains: Vec<String>,
    /// Longest body that is kept in the bucket's index and written together with its entry: one commit
    /// for all. Larger: fewer commits for small objects, a heavier index. At most 256 KiB.
    pub inline_max: ByteSize,
    /// Index shards of new buckets. More: more writes at a time into one bucket, slower listings.
    pub index_shards: u32,
    /// Above how many objects and older versions an index shard is split into two, while it is in use. Fewer: more
    /// shards, faster recovery of each, slower listings. 0 for never.
    pub index_split_keys: u64,
    /// Memory that bodies under way may take, all together.
    pub body_memory: ByteSize,
    /// Threads that serve S3. Default: one for each processor, at most four.
    pub threads: Option<usize>,
    /// Connections at a time; more wait.
    pub connections_max: usize,
    /// Longest pause of a client within a body.
    pub body_idle: TimeSpan,
    /// How long the cluster may take for one request of the gateway, with all that is tried again.
    pub deadline: TimeSpan,
    /// How long records of access logs are collected before they are delivered, where the bucket does not say. A crash of
    /// the gateway loses what it has collected, but for journals; shorter makes more and smaller objects.
    pub access_log_every: TimeSpan,
    /// How long data that was replaced or deleted is kept for those who are reading it through other gateways; for
    /// longer no download can take there. Where a write was refused because there is no room it goes at once.
    pub garbage_delay: TimeSpan,
    /// How often all buckets are looked through for what gateways that died have left.
    pub sweep_every: TimeSpan,
    /// An unfinished write without a sign of life for so long is given up.
    pub abandoned_after: TimeSpan,
    /// Endpoints that buckets may name to be told of events: `name=http://host[:port]/path` each. All gateways
    /// should know the same ones.
    pub webhooks: Vec<String>,
    /// How long the days of lifecycle rules are. Shorter than a day: for tests only, objects go sooner than
    /// their rules say. All gateways must agree.
    pub lifecycle_day: TimeSpan,
}

/// Largest `inline_max`: entry, headers and body together fit one omap value and one message.
pub const INLINE_BYTES_LIMIT: u64 = 256 << 10;

/// Least `index_split_keys`: smaller shards cost more in every listing than they save.
pub const SPLIT_KEYS_MIN: u64 = 1000;

/// Most threads that are taken without being asked for.
const THREADS_MAX: usize = 4;

impl Default for Config {
    fn default() -> Self {
        let span = |secs| TimeSpan(Duration::from_secs(secs));
        Config {
            name: "a".to_owned(),
            monitors: vec![HostPort { host: "127.0.0.1".to_owned(), port: 6789 }],
            listen: ListenAddress(([0, 0, 0, 0], 8888).into()),
            admin_listen: ListenAddress(([0, 0, 0, 0], 8124).into()),
            advertise: None,
            metrics_listen: ListenAddress(([0, 0, 0, 0], 9283).into()),
            identity: None,
            insecure_plain_text: false,
            tls_cert: None,
            tls_key: None,
            customer_keys_need_tls: false,
            region: "us-east-1".to_owned(),
            domains: Vec::new(),
            trusted_proxies: Vec::new(),
            website_domains: Vec::new(),
            inline_max: ByteSize(32 << 10),
            index_shards: store_base::bucket::SHARDS_DEFAULT,
            index_split_keys: store_base::bucket::SPLIT_KEYS_DEFAULT,
            body_memory: ByteSize(256 << 20),
            threads: None,
            connections_max: 4096,
            body_idle: span(60),
            deadline: span(30),
            access_log_every: span(300),
            garbage_delay: span(3600),
            sweep_every: span(600),
            abandoned_after: span(3600),
            webhooks: Vec::new(),
            lifecycle_day: span(24 * 3600),
        }
    }
}

impl Config {
    /// The defaults of a gateway that is the only one, as a rule: it knows who is reading what, and the space of what
    /// is deleted comes back sooner.
    pub fn alone() -> Self {
        Config { garbage_delay: TimeSpan(Duration::from_secs(60)), ..Config::default() }
    }

    /// Says what cannot be, with the cure.
    pub fn check(&self) -> Result<(), String> {
        if self.inline_max.0 > INLINE_BYTES_LIMIT {
            return Err(format!("inline_max is above {INLINE_BYTES_LIMIT} bytes: choose less"));
        }
        if !(1..=1024).contains(&self.index_shards) {
            return Err("index_shards must be from 1 to 1024".to_owned());
        }
        if (1..SPLIT_KEYS_MIN).contains(&self.index_split_keys) {
            return Err(format!("index_split_keys must be 0 or at least {SPLIT_KEYS_MIN}"));
        }
        if self.tls_cert.is_some() != self.tls_key.is_some() {
            return Err("tls_cert and tls_key go together: give both or neither".to_owned());
        }
        for network in &self.trusted_proxies {
            network.parse::<Network>().map_err(|why| format!("trusted_proxies: {why}"))?;
        }
        if self.connections_max == 0 {
            return Err("connections_max must be at least 1".to_owned());
        }
        if self.access_log_every.0 < Duration::from_secs(1) {
            return Err("access_log_every must be at least a second".to_owned());
        }
        if self.abandoned_after.0 < Duration::from_secs(900) {
            return Err(
                "abandoned_after below 15 minutes would give up uploads that are under way"
                    .to_owned(),
            );
        }
        Webhooks::parse(&self.webhooks)?;
        let day = self.lifecycle_day.0;
        if day < Duration::from_secs(1) || day > Duration::from_secs(24 * 3600) {
            return Err("lifecycle_day must be from 1 second to 24 hours".to_owned());
        }
        Ok(())
    }

    /// How many threads serve S3.
    pub fn threads(&self) -> usize {
        let processors = || std::thread::available_parallelism().map_or(1, usize::from);
        self.threads.unwrap_or_else(|| processors().min(THREADS_MAX)).max(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use store_base::config::{File, load};

    #[test]
    fn sources_are_laid_over_each_other_and_strangers_refused() {
        let file = File { name: "f", text: "gateway: { inline_max: 16KiB, domains: [s3.x] }\n" };
        let environment = [("STORE_GATEWAY_LISTEN".to_owned(), "127.0.0.1:99".to_owned())];
        let loaded = load::<Config>(ROLE, Some(file), environment, []).expect("all is known").value;
        assert_eq!(loaded.inline_max, ByteSize(16 << 10));
        assert_eq!(loaded.listen.0.port(), 99);
        assert!(load::<Config>(ROLE, None, [], [("--lisen".to_owned(), "x".to_owned())]).is_err());
    }

    #[test]
    fn what_cannot_be_is_said() {
        assert_eq!(Config::default().check(), Ok(()));
        let config = Config { inline_max: ByteSize(1 << 20), ..Config::default() };
        assert!(config.check().is_err());
        let config = Config { tls_cert: Some("c".into()), ..Config::default() };
        assert!(config.check().is_err());
        let config = Config { trusted_proxies: vec!["proxy".into()], ..Config::default() };
        assert!(config.check().is_err());
        let config = Config { index_shards: 0, ..Config::default() };
        assert!(config.check().is_err());
    }
}
