//! Who leads: every daemon its fair share of each pool's groups.
//!
//! A daemon's share is what it would lead if each group were led by all its members together, each weighted
//! by its primary affinity. CRUSH's first would be fair only on average: with a hundred groups on three
//! daemons it is off by a fifth, and it says nothing of what restarts leave behind.
//!
//! The lead moves when two daemons differ by half a group more than a move changes, and only in groups that are
//! whole and active: so what has been evened out stays. The old primary releases its leases by message (R5), so a
//! move costs clients one round of messages.

use super::{One, incarnation};
use std::collections::BTreeMap;
use store_base::ids::{DaemonId, PgId, PoolId};
use store_base::map::{OsdMap, PgRecord};

/// Parts of a group that shares are counted in.
const WHOLE: i64 = 1000;

/// By how much more two daemons must differ than a move between them changes.
const SLACK: i64 = WHOLE / 2;

/// How many groups each daemon leads, and how many it should.
pub(crate) struct Leads {
    /// By how much a daemon leads more than its share, in parts.
    excess: BTreeMap<(PoolId, DaemonId), i64>,
}

impl Leads {
    pub(crate) fn of(map: &OsdMap) -> Leads {
        let mut leads = Leads { excess: BTreeMap::new() };
        map.pgs.iter().for_each(|(pg, record)| leads.add(map, *pg, record));
        leads
    }

    fn add(&mut self, map: &OsdMap, pg: PgId, record: &PgRecord) {
        if record.members.is_empty() {
            return;
        }
        let weight = |id: &DaemonId| i64::from(affinity(map, *id));
        let total = record.members.iter().map(weight).sum::<i64>().max(1);
        for id in &record.members {
            *self.excess.entry((pg.pool, *id)).or_default() -= WHOLE * weight(id) / total;
        }
        self.count(pg, record.primary, WHOLE);
    }

    fn count(&mut self, pg: PgId, primary: DaemonId, by: i64) {
        *self.excess.entry((pg.pool, primary)).or_default() += by;
    }

    /// A group changes from one record to another.
    pub(crate) fn change(&mut self, map: &OsdMap, pg: PgId, from: &PgRecord, to: &PgRecord) {
        if from.members.is_empty() {
            return self.add(map, pg, to);
        }
        self.count(pg, from.primary, -WHOLE);
        self.count(pg, to.primary, WHOLE);
    }

    /// By how much a daemon leads more than its share of a pool.
    pub(crate) fn excess(&self, pg: PgId, id: DaemonId) -> i64 {
        self.excess.get(&(pg.pool, id)).copied().unwrap_or_default()
    }
}

fn affinity(map: &OsdMap, id: DaemonId) -> u32 {
    map.daemons.get(&id).map_or(0, |info| info.primary_affinity)
}

impl One<'_> {
    /// The one that is preferred, unless another has so much less of its share that a change is worth it.
    pub(super) fn fair(
        &self,
        leads: &Leads,
        preferred: DaemonId,
        members: &[DaemonId],
    ) -> DaemonId {
        let may_lead = members.iter().filter(|id| affinity(self.map, **id) > 0);
        let least = may_lead.min_by_key(|id| (leads.excess(self.pg, **id), **id)).copied();
        let gain = |to: DaemonId| leads.excess(self.pg, preferred) - leads.excess(self.pg, to);
        least.filter(|to| gain(*to) >= WHOLE + SLACK).unwrap_or(preferred)
    }

    /// Hands the lead to the member that has least of its share, when all is whole and quiet.
    pub(super) fn led_fairly(&self, leads: &Leads, moves: &mut usize) -> Option<PgRecord> {
        let record = self.record;
        let whole = record.learners.is_empty()
            && record.width() >= usize::from(self.pool.size)
            && record.members.iter().all(|member| self.target().contains(member));
        if *moves == 0 || !whole {
            return None;
        }
        let primary = self.fair(leads, record.primary, &record.members);
        if primary == record.primary {
            return None;
        }
        let report = self.groups.view.current_report(self.map, self.pg)?;
        if !report.state.starts_with("active") || report.missing > 0 {
            return None;
        }
        *moves -= 1;
        Some(PgRecord {
            primary,
            primary_incarnation: incarnation(self.map, primary),
            members: self.ordered(primary, &record.members),
            ..record.clone()
        })
    }
}
