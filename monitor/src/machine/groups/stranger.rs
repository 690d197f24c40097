//! A daemon whose copy is older than what it had: restored from a backup, or damaged and begun again.
//!
//! The record says which interval every holder has confirmed at least. Who finds that it has not says so, and
//! is no holder any more: what it lacks was acknowledged. It joins again as a learner. The last holder stays
//! one, for there is nobody to learn from: the group waits, and a person decides (`pg force`).

use super::lead::Leads;
use super::{One, incarnation};
use store_base::ids::DaemonId;
use store_base::map::PgRecord;

impl One<'_> {
    /// The record without a holder that is none.
    pub(super) fn disowned(&self, who: DaemonId, leads: &Leads) -> Option<PgRecord> {
        let mut next = self.record.clone();
        if !next.holders.remove(&who) || !next.suffice(self.pool, &next.holders) {
            return None;
        }
        next.writers.remove(&who);
        next.members.retain(|member| *member != who);
        let one = One { record: &next, ..*self };
        one.reformed(leads).or_else(|| {
            // All others are down; one of them stands in until it comes.
            let first = *next.holders.first()?;
            let members = if next.members.is_empty() { vec![first] } else { next.members.clone() };
            let primary = if members.contains(&next.primary) { next.primary } else { members[0] };
            let primary_incarnation = incarnation(self.map, primary);
            Some(PgRecord { primary, primary_incarnation, members, ..next.clone() })
        })
    }
}
