//! All objects of a pool, placement group by placement group.

use crate::shell::StoreClient;
use bytes::Bytes;
use store_base::codec::Decode;
use store_base::error::Error;
use store_base::op::{ObjectPage, Op};
use store_base::{ObjectName, PgId, PoolId};

/// Most objects asked for in one request.
const PAGE_MAX: u32 = 1000;

/// Where a listing goes on. The default is the beginning.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cursor {
    /// The placement group.
    pub seed: u32,
    /// Its own cursor.
    pub after: Bytes,
}

/// A part of a listing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ObjectsPage {
    /// In the order of their placement groups.
    pub objects: Vec<ObjectName>,
    /// `None` at the end.
    pub next: Option<Cursor>,
}

impl StoreClient {
    /// At most `max` objects of a pool from `cursor` on. An object that is there all the time is listed once;
    /// one that comes or goes meanwhile may or may not be.
    pub async fn list(
        &self,
        pool: PoolId,
        cursor: Cursor,
        max: usize,
    ) -> Result<ObjectsPage, Error> {
        let mut page = ObjectsPage { objects: Vec::new(), next: Some(cursor) };
        while let Some(cursor) = page.next.take_if(|_| page.objects.len() < max) {
            let missing = u32::try_from(max - page.objects.len()).unwrap_or(PAGE_MAX);
            let pg = PgId { pool, seed: cursor.seed };
            let op = Op::List { after: cursor.after, max: missing.min(PAGE_MAX) };
            let reply = self.operate_group(pg, vec![op]).await?;
            let part = ObjectPage::from_bytes(reply.data(0)).map_err(|error| {
                Error::Damaged(format!("the list of placement group {pg} cannot be read: {error}"))
            })?;
            page.objects.extend(part.objects);
            page.next = self.behind(pg, part.next);
        }
        Ok(page)
    }

    fn behind(&self, pg: PgId, after: Bytes) -> Option<Cursor> {
        if !after.is_empty() {
            return Some(Cursor { seed: pg.seed, after });
        }
        let groups = self.osd_map().borrow().pools.get(&pg.pool).map_or(0, |pool| pool.pg_num);
        (pg.seed + 1 < groups).then(|| Cursor { seed: pg.seed + 1, after: Bytes::new() })
    }
}
