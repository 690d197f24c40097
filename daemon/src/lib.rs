//! Placement groups, replication, recovery and the disk engine. See the crate's README.

#[cfg(feature = "shell")]
pub mod config;
#[cfg(feature = "shell")]
pub mod fsck;
pub mod machine;
#[cfg(feature = "shell")]
pub mod metrics;
#[cfg(feature = "shell")]
pub mod shell;
pub mod store;
