//! An S3 gateway over a cluster in memory, for trying out clients: `memory_gateway [PORT]`.
//! The key is `test`, the secret `testsecret`; a second user is `other`, `othersecret`.
#![allow(clippy::print_stdout)]

use std::sync::Arc;
use std::time::Duration;
use store_gateway::catalogue::sweep::Sweep;
use store_gateway::cluster::memory::MemoryCluster;
use store_gateway::keyring::{FixedKeys, User};
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
    let shutdown = Shutdown::new();
    shutdown.on_signals()?;
    let user = |id: &str| User {
        id: id.into(),
        display_name: format!("User {id}"),
        secret: format!("{id}secret"),
        admin: false,
    };
    let shared = Shared {
        settings: Arc::new(Settings {
            region: "us-east-1".into(),
            domains: vec!["s3.localhost".into()],
            inline_bytes_max: 32 << 10,
            index_shards: 8,
            body_idle: Duration::from_secs(30),
            host_id: "memory".into(),
        }),
        keys: Arc::new(
            FixedKeys::default().with("test", user("test")).with("other", user("other")),
        ),
        metrics: Arc::default(),
        budget: Budget::new(64 << 20),
        sweep: Sweep { tick: Duration::from_secs(1), delay: Duration::ZERO, ..Sweep::default() },
        tls: None,
    };
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", port)).await?;
    let address = listener.local_addr()?;
    let cluster = MemoryCluster::default();
    let connect = move || {
        let cluster = cluster.clone();
        async move { Ok(cluster) }
    };
    let ready = || println!("http://{address}");
    serve(listener, shared, 2, 1000, connect, ready, shutdown).await
}
