//! The real cluster, through `store-client`.

use super::{Cluster, DATA_POOL, INDEX_POOL, META_POOL, Place};
use futures_util::future::LocalBoxFuture;
use serde_json::{Value, json};
use store_base::PoolId;
use store_base::bucket::placement::{APPLICATION, Placement, placement, placements};
use store_base::error::Error;
use store_base::map::OsdMap;
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

/// Makes the pools that are not there, as the monitor thinks best, and marks all as pools of buckets.
pub async fn make_pools(client: &StoreClient) -> Result<(), Error> {
    for pool in [META_POOL, INDEX_POOL, DATA_POOL].map(name) {
        let state = state_of(&client.osd_map().borrow(), pool);
        let made = match state {
            PoolState::Absent => client.command(&creation(pool), bytes::Bytes::new()).await,
            PoolState::Unmarked => Err(Error::Conflict("the pool exists without the mark".into())),
            PoolState::Marked => continue,
        };
        match made {
            Ok(_) => tracing::info!(pool, "made a pool"),
            // An operator made it, or another gateway was faster.
            Err(Error::Conflict(_)) => mark(client, pool).await,
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// What the map says of one of the gateway's own pools.
#[derive(Debug, PartialEq, Eq)]
enum PoolState {
    Absent,
    /// It is there, and nothing says that buckets are in it.
    Unmarked,
    Marked,
}

fn state_of(map: &OsdMap, pool: &str) -> PoolState {
    match map.pool_by_name(pool) {
        None => PoolState::Absent,
        Some((_, pool)) if pool.applications.contains_key(APPLICATION) => PoolState::Marked,
        Some(_) => PoolState::Unmarked,
    }
}

fn creation(pool: &str) -> Value {
    json!({
        "prefix": "osd pool create",
        "pool": pool,
        "application": APPLICATION,
        "if_not_exists": true,
    })
}

/// Says of a pool that buckets are in it: the monitor does not remove it then. A gateway works without.
async fn mark(client: &StoreClient, pool: &str) {
    let command =
        json!({"prefix": "osd pool application enable", "pool": pool, "app": APPLICATION});
    match client.command(&command, bytes::Bytes::new()).await {
        Ok(_) => tracing::info!(pool, "marked as a pool of buckets"),
        Err(error) => {
            tracing::warn!(%error, pool, "not marked as a pool of buckets: it can be removed");
        }
    }
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;
    use store_base::map::Pool;

    #[test]
    fn pools_that_operators_made_are_marked_too() {
        let pool = |name: &str, applications: &[&str]| Pool {
            name: name.into(),
            applications: applications
                .iter()
                .map(|name| (name.to_string(), BTreeMap::new()))
                .collect(),
            ..Pool::default()
        };
        let mut map = OsdMap::default();
        map.pools.insert(PoolId(1), pool("s3.meta", &[]));
        map.pools.insert(PoolId(2), pool("s3.index", &["s3"]));
        map.pools.insert(PoolId(3), pool("other", &[APPLICATION]));
        assert_eq!(state_of(&map, name(META_POOL)), PoolState::Unmarked);
        assert_eq!(state_of(&map, name(INDEX_POOL)), PoolState::Unmarked);
        assert_eq!(state_of(&map, name(DATA_POOL)), PoolState::Absent);
        map.pools.insert(PoolId(4), pool("s3.data", &["s3", APPLICATION]));
        assert_eq!(state_of(&map, name(DATA_POOL)), PoolState::Marked);
        assert_eq!(creation("s3.data")["application"], APPLICATION);
    }
}
