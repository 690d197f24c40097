//! The judge: a deterministic simulator of the whole cluster, and what its runs are checked for.
//! See the crate's README.

pub mod s3;
pub mod sim;
