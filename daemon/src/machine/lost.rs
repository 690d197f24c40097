//! Placement groups of which the store has lost something and does not know what (a log that rotted).
//!
//! What is left of such a group is no copy: it may have a hole, and intervals that were confirmed may be
//! forgotten. So this daemon does nothing in the group, confirms nothing for it, and asks the monitor to count it
//! neither as holder nor as writer. Only when the map says so, and wants it as a learner, the rest is dropped
//! and the group is filled again like one that was never here (R12). As long as it is the last holder there is,
//! the rest stays, for `store-daemon fsck`.
//!
//! # Invariants
//!
//! - A lost group is not in `Daemon::pgs`: no message, lease or map makes this daemon act in it.
//! - It is dropped only when the record names this daemon neither as member nor as holder.

use super::Daemon;
use super::pg::Pg;
use super::report::AskKind;
use crate::store::{Store, Write};
use store_base::map::{OsdMap, PgRecord};
use store_base::{DaemonId, PgId};

/// Whether the map relies on a daemon.
fn relies_on(record: &PgRecord, daemon: DaemonId) -> bool {
    record.members.contains(&daemon)
        || record.holders.contains(&daemon)
        || record.writers.contains(&daemon)
}

impl<S: Store> Daemon<S> {
    /// Looks at all lost groups under a new map.
    pub(super) fn attend_lost(&mut self, map: &OsdMap) {
        let me = self.core.me;
        for id in self.lost.keys().copied().collect::<Vec<_>>() {
            let Some(record) = map.pgs.get(&id) else {
                if id.pool.0 <= map.pool_max && !map.pools.contains_key(&id.pool) {
                    self.drop_lost(id);
                }
                continue;
            };
            if relies_on(record, me) {
                self.core.ask(id, record.interval, AskKind::Lost);
                continue;
            }
            self.core.monitor.forget_asks(id);
            if record.learners.contains(&me) && self.drop_lost(id) {
                let mut pg = Pg::new(id, self.core.incarnation.0);
                // It was here: leases of the life before may be out.
                pg.loaded = true;
                self.pgs.insert(id, pg);
            } else if self.is_needless(map, id, record) {
                self.drop_lost(id);
            }
        }
    }

    /// The group is at full size without us, and nobody is to join it.
    fn is_needless(&self, map: &OsdMap, id: PgId, record: &PgRecord) -> bool {
        let size = map.pools.get(&id.pool).map_or(usize::MAX, |pool| usize::from(pool.size));
        record.is_active() && record.learners.is_empty() && record.width() >= size
    }

    fn drop_lost(&mut self, id: PgId) -> bool {
        let dropped = self.core.submit(None, vec![Write::RemovePg { pg: id }]).is_ok();
        if dropped {
            tracing::warn!(pg = %id, "what was left of a damaged placement group is dropped");
            self.lost.remove(&id);
            self.core.forget_pg(id);
        }
        dropped
    }
}
