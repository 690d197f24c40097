//! What people asked of scrub: the primaries read it in the map, so an order survives every restart.

use crate::ids::{PgId, PoolId, Timestamp};
use crate::map::OsdMap;

/// Which placement groups.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ScrubScope {
    /// All.
    All {},
    /// Those of a pool.
    Pool {
        /// Which.
        pool: PoolId,
    },
    /// One.
    Pg {
        /// Which.
        pg: PgId,
    },
}
crate::codec_enum!(ScrubScope { 1 => All {}, 2 => Pool { pool }, 3 => Pg { pg } });

impl Default for ScrubScope {
    fn default() -> Self {
        ScrubScope::All {}
    }
}

impl ScrubScope {
    /// Whether a placement group is meant.
    pub fn covers(&self, pg: PgId) -> bool {
        match self {
            ScrubScope::All {} => true,
            ScrubScope::Pool { pool } => pg.pool == *pool,
            ScrubScope::Pg { pg: one } => pg == *one,
        }
    }
}

/// An order. It is known by its number, which grows; a placement group keeps the number of the last one that
/// it has carried out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ScrubOrder {
    /// Which placement groups.
    pub scope: ScrubScope,
    /// Whether every byte is read.
    pub deep: bool,
    /// Whether the primary's copy is taken for right where copies differ and no majority decides.
    pub repair: bool,
    /// When it was given, by the monitor's clock.
    pub at: Timestamp,
}
crate::codec_versioned!(ScrubOrder, 1, 1 { scope, deep, repair, at });

impl OsdMap {
    /// What is asked of a placement group beyond the order `done`: the highest number, and the most that any of
    /// the orders asks.
    pub fn scrub_order(&self, pg: PgId, done: u64) -> Option<(u64, ScrubOrder)> {
        let open = self.scrubs.range(done.saturating_add(1)..);
        open.filter(|(_, order)| order.scope.covers(pg)).fold(None, |all, (number, order)| {
            let before = all.map(|(_, order): (u64, ScrubOrder)| order);
            let mut order = *order;
            order.deep |= before.is_some_and(|before| before.deep);
            order.repair |= before.is_some_and(|before| before.repair);
            Some((*number, order))
        })
    }

    /// The number of an order that is given with the next epoch.
    pub fn next_scrub_order(&self) -> u64 {
        let last = self.scrubs.last_key_value().map_or(0, |(number, _)| *number);
        (last + 1).max(u64::from(self.epoch.next().0) << 16)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::Epoch;

    #[test]
    fn the_newest_order_counts_and_asks_what_any_asks() {
        let mut map = OsdMap { epoch: Epoch(4), ..OsdMap::default() };
        let pg = PgId { pool: PoolId(1), seed: 3 };
        let order =
            |scope, deep| ScrubOrder { scope, deep, repair: false, at: Timestamp::default() };
        let first = map.next_scrub_order();
        map.scrubs.insert(first, order(ScrubScope::Pool { pool: PoolId(1) }, true));
        let second = map.next_scrub_order();
        assert!(second > first);
        map.scrubs.insert(second, order(ScrubScope::All {}, false));
        map.scrubs.insert(second + 1, order(ScrubScope::Pool { pool: PoolId(2) }, true));
        let (number, asked) = map.scrub_order(pg, 0).expect("two orders are for it");
        assert_eq!((number, asked.deep), (second, true));
        assert!(!map.scrub_order(pg, first).expect("one is left").1.deep);
        assert_eq!(map.scrub_order(pg, second), None);
    }
}
