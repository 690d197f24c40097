//! The control plane's messages, generated from `proto/*.proto`. The services that carry them are
//! generated in `store-shell`; these are plain data, so machines and the simulator use them as they are.

#![allow(missing_docs, unreachable_pub, clippy::all)]

include!(concat!(env!("OUT_DIR"), "/store.rs"));
