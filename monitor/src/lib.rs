#![doc = include_str!("../README.md")]

pub mod machine;
pub mod state;

#[cfg(feature = "shell")]
pub mod config;
#[cfg(feature = "shell")]
pub mod metrics;
#[cfg(feature = "shell")]
pub mod shell;
