//! Dividing groups when the `pg_num` of their pool has grown.
//!
//! A split ends the interval: the monitor raises that of every parent, and gives the children records that
//! copy the parent's. So each daemon divides what it has by itself, whatever it has, and the takeover (R7) of
//! parent and children then makes the parts agree as it does with any logs: a part's log is the whole log, in
//! which entries of other parts have no effect. Versions, predecessors and requests stay what they were.
//!
//! # Invariants
//!
//! - A group is divided before anything is confirmed for it or its children under a map with the larger number:
//!   batches become durable in order, so the split is durable before the confirmation is told. Nobody who has
//!   the parent ever begins a child with nothing.
//! - From the moment that the number is known nothing is served for the group.
//! - A child begins with what the parent had confirmed: leases granted to the parent's primary covered the
//!   child's objects, so the child waits for them too (`Core::exceptions` sees to it that they end).
//! - One group is divided at a time, with a pause between, so that signs of life get through.

use super::Daemon;
use super::config::Fault;
use super::core::{Core, Timer};
use super::pg::{Pg, key};
use super::scrub::Scrub;
use crate::store::{Store, Write};
use std::sync::Arc;
use std::time::Duration;
use store_base::codec::Encode;
use store_base::map::OsdMap;
use store_base::{ObjectName, PgId};

/// Between two splits.
const PAUSE: Duration = Duration::from_millis(1);

impl<S: Store> Daemon<S> {
    /// Looks for groups that are to be divided, and stops them.
    pub(super) fn find_splits(&mut self, map: &OsdMap) {
        for (id, pg) in &mut self.pgs {
            let Some(pool) = map.pools.get(&id.pool) else { continue };
            let is_early = self.core.config.fault == Fault::EmptyChild;
            if pg.pg_num == 0 || !pg.stored || is_early {
                // Nothing is here yet, or it was stored before pools could grow: by which number is noted now, else
                // a later growth would not be seen.
                pg.pg_num = pool.pg_num;
                if pg.stored && !is_early {
                    let batch = vec![pg.meta(key::PG_NUM, &pg.pg_num)];
                    let _ = self.core.submit(None, batch);
                }
            } else if pg.pg_num < pool.pg_num {
                if id.children(pg.pg_num, pool.pg_num).next().is_none() {
                    // Nothing is split off this one: its interval is not over, and it goes on serving. Not waited
                    // for: without it the next life finds the same.
                    pg.pg_num = pool.pg_num;
                    let batch = vec![pg.meta(key::PG_NUM, &pg.pg_num)];
                    let _ = self.core.submit(None, batch);
                } else if self.core.splits.insert(*id) {
                    pg.end_for_split(&mut self.core);
                }
            }
        }
        if !self.core.splits.is_empty() {
            self.core.set_timer(self.core.now, Timer::Split);
        }
    }

    /// Whether a group will be here once its parent is divided.
    pub(super) fn is_to_come(&self, id: PgId) -> bool {
        self.core.splits.iter().any(|parent| {
            let pg_num = self.pgs.get(parent).map_or(0, |pg| pg.pg_num);
            *parent == id || id.is_child_of(*parent, pg_num)
        })
    }

    /// Divides the next group.
    pub(super) fn split_next(&mut self) {
        let Some(id) = self.core.splits.first().copied() else { return };
        let map = Arc::clone(&self.core.map);
        let Some(pool) = map.pools.get(&id.pool) else {
            self.core.splits.remove(&id);
            return;
        };
        let parts = self.pgs.get_mut(&id).and_then(|pg| pg.split(&mut self.core, pool.pg_num));
        if let Some(parts) = parts {
            self.core.splits.remove(&id);
            for part in parts {
                self.pgs.insert(part.id, part);
            }
        }
        if self.core.failed {
            return;
        }
        if self.core.splits.is_empty() {
            self.digest_map();
            self.retry_early();
        } else {
            self.core.set_timer(self.core.now + PAUSE, Timer::Split);
        }
    }
}

impl Pg {
    /// The interval is over, and every client must ask again.
    fn end_for_split<S: Store>(&mut self, core: &mut Core<S>) {
        self.leave(core);
        self.send_all_away(core);
        // On its way to the disk before the split is.
        if let Some(record) = self.confirming.take() {
            self.note_confirmed(core, record);
        }
    }

    /// Divides what is here; the children. `None`: not now.
    fn split<S: Store>(&mut self, core: &mut Core<S>, pg_num: u32) -> Option<Vec<Pg>> {
        let (id, from) = (self.id, self.pg_num);
        let mut batch = vec![Write::SplitPg { pg: id, from, to: pg_num }];
        let record =
            |part| self.scrub.record.part(move |object| object.pg(id.pool, pg_num) == part);
        let meta = |pg, key, value| {
            let key = bytes::Bytes::from_static(key);
            Write::Meta { pg, key, value: Some(value) }
        };
        for part in id.children(from, pg_num).chain([id]) {
            batch.push(meta(part, key::PG_NUM, pg_num.to_bytes()));
            batch.push(meta(part, key::SCRUB, record(part).to_bytes()));
        }
        core.submit(None, batch).ok()?;

        let children: Vec<Pg> =
            id.children(from, pg_num).map(|child| self.child(core, child, pg_num)).collect();
        tracing::info!(pg = %id, from, to = pg_num, children = children.len(), "split");
        self.pg_num = pg_num;
        self.log = self.log.part(|object| object.pg(id.pool, pg_num) == id);
        self.scrub.record = self.scrub.record.part(|object| object.pg(id.pool, pg_num) == id);
        Some(children)
    }

    fn child<S: Store>(&self, core: &Core<S>, id: PgId, pg_num: u32) -> Pg {
        let is_own = |object: &ObjectName| object.pg(id.pool, pg_num) == id;
        Pg {
            loaded: self.loaded,
            stored: true,
            pg_num,
            known: self.known.clone(),
            size: self.size,
            min_size: self.min_size,
            slots: self.slots.clone(),
            confirmed: self.confirmed.clone(),
            synced: self.synced,
            log: self.log.part(is_own),
            scrub: Scrub { record: self.scrub.record.part(is_own), ..Scrub::default() },
            catch_up: self.catch_up.clone(),
            trimmed: self.trimmed.clone(),
            grants_end: self.grants_end,
            ..Pg::new(id, core.incarnation.0)
        }
    }
}
