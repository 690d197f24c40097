#![doc = include_str!("../README.md")]

pub mod machine;

#[cfg(feature = "shell")]
mod large;
#[cfg(feature = "shell")]
mod list;
#[cfg(feature = "shell")]
mod objects;
#[cfg(feature = "shell")]
pub mod shell;
#[cfg(feature = "shell")]
mod striper;
#[cfg(feature = "shell")]
mod watch;

#[cfg(feature = "shell")]
pub use list::{Cursor, ObjectsPage};
#[cfg(feature = "shell")]
pub use shell::{
    ClientConfig, CommandOutput, MapsWanted, MonitorClient, OpReply, Options, StoreClient,
    WatchEvent,
};
#[cfg(feature = "shell")]
pub use striper::{Striped, StripedReader, Striper};
#[cfg(feature = "shell")]
pub use watch::Watch;
