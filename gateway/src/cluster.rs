//! The one thing that the gateway's catalogue wants of the cluster: to run an op vector on an object.
//! Real (`store-client`) and in memory.

use futures_util::future::LocalBoxFuture;
use store_base::PoolId;
use store_base::bucket::placement::Placement;
use store_base::error::Error;
use store_base::op::{Op, OpResult};

/// A pool, as the gateway sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// One of the gateway's own, by name.
    Own(&'static str),
    /// A placement's: for the data of the buckets that were made with it.
    Placed(PoolId),
}

/// The pool of the registry of buckets.
pub const META_POOL: Place = Place::Own("s3.meta");
/// The pool of the index shards.
pub const INDEX_POOL: Place = Place::Own("s3.index");
/// The pool of the data objects of buckets without a placement of their own.
pub const DATA_POOL: Place = Place::Own("s3.data");

/// Runs op vectors.
pub trait Cluster {
    /// Runs `ops` on an object as one transaction, and waits for the results: one per op, or the error
    /// of the op that failed. A request is sent again until its deadline, under the same request id.
    fn operate<'a>(
        &'a self,
        pool: Place,
        object: String,
        ops: Vec<Op>,
        read_only: bool,
    ) -> LocalBoxFuture<'a, Result<Vec<OpResult>, Error>>;

    /// Where the data of a new bucket goes that names this placement, or none (an empty name). `None` if there
    /// is no such placement.
    fn placement(&self, name: &str) -> Option<Placement>;
    /// The names of all placements.
    fn placements(&self) -> Vec<String>;
}

pub mod memory;
pub mod remote;
