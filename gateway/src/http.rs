//! The HTTP side: sockets, threads, limits. Knows nothing of S3.

pub mod body;
pub(crate) mod html;
pub mod listener;
pub mod network;
pub mod stream;
