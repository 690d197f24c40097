#![doc = include_str!("../README.md")]

pub mod alloc;
pub mod channel;
pub mod clock;
pub mod config;
pub mod files;
pub mod identity;
pub mod link;
pub mod net;
pub mod program;
pub mod security;
pub mod server;
pub mod shutdown;
pub mod telemetry;

/// The control plane's services, generated from `base/proto/*.proto`: a `…_client` and a `…_server` module for
/// each. Their messages are `store_base::wire`.
pub mod services {
    #![allow(missing_docs, unreachable_pub, unused_qualifications, clippy::all)]
    include!(concat!(env!("OUT_DIR"), "/store.rs"));
}
