//! An S3 gateway over a cluster in memory, for trying out clients: `memory_gateway [PORT]`.
//! The key is `test`, the secret `testsecret`; a second user is `other`, `othersecret`. More users with
//! `memory_gateway PORT NAME…`: each has the key `NAME` and the secret `NAMEsecret`. A word `day=SECONDS` makes the
//! days of lifecycle rules shorter, a word `kms=NAME` makes a named key for SSE-KMS. Suites of other
//! projects want several (`tests/conformance`). The one named `admin` is an administrator.
//!
//! With the name `accounts` there are several users in one Swift account besides, with the names and secrets that the test
//! suites for Swift are used to, and a second storage policy. The whole name is the access key over S3:
//!
//! | user | secret | in the account |
//! |---|---|---|
//! | `test:tester` | `testing` | administrator |
//! | `test:tester2` | `testing2` | administrator |
//! | `test:tester3` | `testing3` | nothing |
//! | `test2:tester2` | `testing2` | administrator |
//! | `test4:tester4` | `testing4` | administrator |
//! | `admin:admin` | `admin` | administrator of everything |
#![allow(clippy::print_stdout)]

use std::sync::Arc;
use std::time::Duration;
use store_base::PoolId;
use store_gateway::catalogue::sweep::Sweep;
use store_gateway::cluster::memory::MemoryCluster;
use store_gateway::keyring::{FixedKeys, Member, User};
use store_gateway::operator::Operator;
use store_gateway::operator::kms::creation;
use store_gateway::s3::Settings;
use store_gateway::shell::{Shared, serve};
use store_gateway::transfer::Budget;
use store_shell::shutdown::Shutdown;
use store_shell::telemetry::{self, LogFormat};

store_shell::use_allocator!();

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    telemetry::init(LogFormat::Text).map_err(anyhow::Error::msg)?;
    let port = std::env::args().nth(1).map_or(Ok(0), |port| port.parse::<u16>())?;
    let words: Vec<String> = std::env::args().skip(2).collect();
    let day = words.iter().find_map(|word| word.strip_prefix("day="));
    let day = Duration::from_secs(day.map_or(Ok(24 * 3600), str::parse)?);
    let shutdown = Shutdown::new();
    shutdown.on_signals()?;
    let user = |id: &str| User {
        id: id.into(),
        display_name: format!("User {id}"),
        secret: format!("{id}secret"),
        admin: id == "admin",
        ..User::default()
    };
    let mut keys = FixedKeys::default().with("test", user("test")).with("other", user("other"));
    for name in words.iter().filter(|word| !word.contains('=')) {
        keys = match name.as_str() {
            "accounts" => with_accounts(keys),
            name => keys.with(name, user(name)),
        };
    }
    let shared = Shared {
        settings: Arc::new(Settings {
            region: "us-east-1".into(),
            domains: vec!["s3.localhost".into()],
            website_domains: vec!["web.localhost".into()],
            inline_bytes_max: 32 << 10,
            index_shards: 8,
            body_idle: Duration::from_secs(30),
            trusted_proxies: vec![],
            access_log_every: Duration::from_secs(300),
            customer_keys_need_tls: false,
            host_id: "memory".into(),
            webhooks: Default::default(),
        }),
        keys: Arc::new(keys),
        metrics: Arc::default(),
        budget: Budget::new(64 << 20),
        sweep: Sweep {
            tick: Duration::from_secs(1),
            delay: Duration::ZERO,
            day,
            ..Sweep::default()
        },
        tls: None,
    };
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", port)).await?;
    let address = listener.local_addr()?;
    let cluster = MemoryCluster::default();
    if std::env::args().nth(2).is_some() {
        cluster.add_placement("second", PoolId(100));
    }
    let operator = Operator::new(cluster.clone());
    for name in words.iter().filter_map(|word| word.strip_prefix("kms=")) {
        operator.change_kms(name, creation("")).await?;
    }
    let connect = move || {
        let cluster = cluster.clone();
        async move { Ok(cluster) }
    };
    let ready = || println!("http://{address}");
    serve(listener, shared, 2, 1000, connect, ready, shutdown).await
}

/// Users of accounts: name, secret, whether they are administrators of their account.
const MEMBERS: [(&str, &str, &str, bool); 5] = [
    ("test", "tester", "testing", true),
    ("test", "tester2", "testing2", true),
    ("test", "tester3", "testing3", false),
    ("test2", "tester2", "testing2", true),
    ("test4", "tester4", "testing4", true),
];

fn with_accounts(mut keys: FixedKeys) -> FixedKeys {
    for (account, name, secret, admin) in MEMBERS {
        let key = format!("{account}:{name}");
        let member = Member { account: account.into(), name: name.into(), admin };
        let user = User {
            // Who administers an account acts for it over S3 as well.
            id: if admin { account.into() } else { key.clone() },
            display_name: key.clone(),
            secret: secret.into(),
            admin: false,
            member: Some(member),
            identity: None,
        };
        keys = keys.with(&key, user);
    }
    let root = User { id: "admin".into(), secret: "admin".into(), admin: true, ..User::default() };
    keys.with("admin:admin", root)
}
