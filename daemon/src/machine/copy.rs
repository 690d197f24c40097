//! Copies of whole objects between daemons: for learners, and for repairs.
//!
//! Whoever lacks an object pulls it; whoever has it pushes parts, a few ahead of the acknowledgements. An
//! attempt has a name, parts have numbers, and only the next part of the newest attempt counts.
//!
//! Copies that are most needed go first: those of groups that cannot write, then by how few members there are,
//! then those for balance alone. Less urgent ones keep a quarter of the places, so that a group which is stuck
//! does not stop the others.

mod pull;
mod push;

pub(crate) use pull::Pull;
pub(crate) use push::{Push, PushMessage};

use super::pg::Pg;
use std::collections::BTreeMap;
use store_base::PgId;

/// How much a group needs its copies; the least is the most urgent.
pub(crate) type Urgency = usize;

/// One of so many places is for those who are less urgent than somebody who waits.
const PATIENT_SHARE: usize = 4;

impl Pg {
    /// How much this group needs its copies.
    fn urgency(&self) -> Urgency {
        let members = self.confirmed.width();
        match () {
            () if members < self.min_size => 0,
            () if members < self.size => 1 + members - self.min_size,
            () => usize::MAX,
        }
    }
}

/// How many of `max` copies may be under way for a group with this urgency, given who else waits.
fn places(max: usize, own: Urgency, wanted: &BTreeMap<PgId, Urgency>) -> usize {
    match wanted.values().any(|other| *other < own) {
        true => max.div_ceil(PATIENT_SHARE),
        false => max,
    }
}
