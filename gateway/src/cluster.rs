//! The one thing that the gateway's catalogue wants of the cluster: to run an op vector on an object.
//! Real (`store-client`) and in memory.

use futures_util::future::LocalBoxFuture;
use store_base::error::Error;
use store_base::op::{Op, OpResult};

/// The pool of the registry of buckets.
pub const META_POOL: &str = "s3.meta";
/// The pool of the index shards.
pub const INDEX_POOL: &str = "s3.index";
/// The pool of the data objects.
pub const DATA_POOL: &str = "s3.data";

/// Runs op vectors.
pub trait Cluster {
    /// Runs `ops` on an object as one transaction, and waits for the results: one per op, or the error
    /// of the op that failed. A request is sent again until its deadline, under the same request id.
    fn operate<'a>(
        &'a self,
        pool: &'static str,
        object: String,
        ops: Vec<Op>,
        read_only: bool,
    ) -> LocalBoxFuture<'a, Result<Vec<OpResult>, Error>>;
}

pub mod memory;
pub mod remote;
