//! The slots of erasure-coded groups: who has which part of every object.
//!
//! Any daemon may have any slot: what CRUSH says is who, not which. So a slot is given once, when a daemon joins,
//! and stays: what a daemon has of one slot is worth nothing for another. One that is to have another slot leaves
//! first and comes back as a learner; the daemon then drops what it had.
//!
//! Invariants, after every change:
//! - Every daemon that a record of such a pool names has a slot below k + m; that of a holder never changed.
//! - Members that the target wants have different slots, or one of those that share one is on its way out.
//! - The holders have k slots together, as soon as the group was formed.

use super::lead::Leads;
use super::{One, incarnation, names};
use std::collections::BTreeSet;
use store_base::ids::DaemonId;
use store_base::map::{PgRecord, Pool};

/// So many times the pool's size of daemons keep their slot in the record though they have no role any more: they
/// come back sooner where they were.
const REMEMBERED: usize = 2;

/// Gives a slot to everybody who is named and has none, and to learners that are new one that is needed.
/// `before`: the record until now.
pub(super) fn assign(pool: &Pool, target: &[DaemonId], before: &PgRecord, next: &mut PgRecord) {
    let Some(erasure) = &pool.erasure else {
        next.slots.clear();
        return;
    };
    let size = erasure.slots();
    for member in next.members.clone() {
        if next.slot(member).is_none() {
            let taken = next.slots_of(&next.members);
            let free = (0..size).find(|slot| !taken.contains(&usize::from(*slot)));
            next.slots.insert(member, free.unwrap_or(0));
        }
    }
    let is_new = |id: &&DaemonId| !before.learners.contains(*id) || before.slot(**id).is_none();
    let new: Vec<DaemonId> = next.learners.iter().filter(is_new).copied().collect();
    let mut placed: BTreeSet<usize> = next.slots_of(next.learners.iter().filter(|id| !is_new(id)));
    placed.extend(next.slots_of(next.members.iter().filter(|id| target.contains(id))));
    let held = next.slots_of(&next.members);
    for learner in new {
        let had = next.slot(learner);
        let free = (0..usize::from(size)).filter(|slot| !placed.contains(slot));
        // One that nobody has goes first, then the one that the learner had.
        let best = free.min_by_key(|slot| (held.contains(slot), Some(*slot) != had, *slot));
        let slot = best.unwrap_or(0);
        placed.insert(slot);
        next.slots.insert(learner, u8::try_from(slot).unwrap_or(0));
    }
    if next.slots.len() > REMEMBERED * usize::from(size) {
        let mut kept = std::mem::take(&mut next.slots);
        kept.retain(|id, _| names(next, *id));
        next.slots = kept;
    }
}

impl One<'_> {
    /// How many copies, or different slots, some daemons have together.
    pub(super) fn count(&self, daemons: &[DaemonId]) -> usize {
        match self.pool.erasure {
            Some(_) => self.record.slots_of(daemons).len(),
            None => daemons.len(),
        }
    }

    /// Two members that the target wants have one slot: one of them leaves, to come back in a slot that is free.
    pub(super) fn spread(&self, leads: &Leads) -> Option<PgRecord> {
        self.pool.erasure.as_ref()?;
        let record = self.record;
        let wanted = |id: &&DaemonId| self.target().contains(*id);
        let mut seen = BTreeSet::new();
        let double =
            record.members.iter().filter(wanted).find(|id| !seen.insert(record.slot(**id)));
        let double = *double?;
        let keep: Vec<DaemonId> =
            record.members.iter().copied().filter(|id| *id != double).collect();
        let primary = match keep.contains(&record.primary) {
            true => record.primary,
            false => self.choose_primary(&keep, leads)?,
        };
        Some(PgRecord {
            primary,
            primary_incarnation: incarnation(self.map, primary),
            members: self.ordered(primary, &keep),
            ..record.clone()
        })
    }

    /// Members beyond the target whose slot nobody of the target has.
    pub(super) fn spare(&self, members: &[DaemonId]) -> Vec<DaemonId> {
        let mut covered = self.record.slots_of(self.target());
        let others = members.iter().copied().filter(|id| !self.target().contains(id));
        others.filter(|id| self.record.slot(*id).is_none_or(|slot| covered.insert(slot))).collect()
    }
}
