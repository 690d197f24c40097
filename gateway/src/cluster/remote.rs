//! The real cluster, through `store-client`.

use super::{Cluster, DATA_POOL, INDEX_POOL, META_POOL, Place};
use futures_util::future::LocalBoxFuture;
use serde_json::json;
use store_base::PoolId;
use store_base::bucket::placement::{APPLICATION, Placement, placement, placements};
use store_base::error::Error;
use store_base::object::ObjectName;
use store_base::op::{Op, OpResult};
use store_client::{Options, StoreClient};

/// A client that knows the gateway's pools.
#[derive(Clone)]
pub struct Remote {
    client: StoreClient,
    meta: PoolId,
    index: PoolId,
    data: PoolId,
}

impl Remote {
    /// Looks the pools up; they must exist.
    pub async fn new(client: StoreClient) -> Result<Remote, Error> {
        Ok(Remote {
            meta: client.pool(name(META_POOL)).await?,
            index: client.pool(name(INDEX_POOL)).await?,
            data: client.pool(name(DATA_POOL)).await?,
            client,
        })
    }

    fn pool(&self, place: Place) -> PoolId {
        match place {
            META_POOL => self.meta,
            INDEX_POOL => self.index,
            Place::Own(_) => self.data,
            Place::Placed(pool) => pool,
        }
    }
}

/// The name of one of the gateway's own pools.
pub(crate) fn name(place: Place) -> &'static str {
    match place {
        Place::Own(name) => name,
        Place::Placed(_) => "",
    }
}

/// Makes the pools that are not there, as the monitor thinks best.
pub async fn make_pools(client: &StoreClient) -> Result<(), Error> {
    for pool in [META_POOL, INDEX_POOL, DATA_POOL].map(name) {
        if client.osd_map().borrow().pool_by_name(pool).is_some() {
            continue;
        }
        let command = json!({
            "prefix": "osd pool create",
            "pool": pool,
            "application": APPLICATION,
            "if_not_exists": true,
        });
        match client.command(&command, bytes::Bytes::new()).await {
            Ok(_) => tracing::info!(pool, "made a pool"),
            // Another gateway was faster.
            Err(Error::Conflict(_)) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

impl Cluster for Remote {
    fn operate<'a>(
        &'a self,
        pool: Place,
        object: String,
        ops: Vec<Op>,
        read_only: bool,
    ) -> LocalBoxFuture<'a, Result<Vec<OpResult>, Error>> {
        Box::pin(async move {
            let object = ObjectName::new(object);
            let options = Options { read_only, deadline: None };
            let reply = self.client.operate(self.pool(pool), &object, ops, options).await?;
            Ok(reply.results)
        })
    }

    fn placement(&self, name: &str) -> Option<Placement> {
        placement(&self.client.osd_map().borrow(), name)
    }

    fn placements(&self) -> Vec<String> {
        placements(&self.client.osd_map().borrow())
    }
}
