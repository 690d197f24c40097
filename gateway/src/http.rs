//! The HTTP side: sockets, threads, limits. Knows nothing of S3.

pub mod body;
pub mod listener;
pub mod network;
pub mod stream;
