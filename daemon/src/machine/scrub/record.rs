//! What a daemon keeps of the scrubbing of a group that it has.
//!
//! # Invariants
//!
//! - Only a primary changes what is about the group, and raises `serial` with it; the newest serial wins when
//!   daemons tell each other. `verified` is about the own copies alone and never taken from others.
//! - `verified` is set only to the time at which a whole deep walk began in which every copy here was looked at.

use std::collections::{BTreeMap, BTreeSet};
use store_base::{DaemonId, ObjectName, Version};

/// An object of which a copy is known to be bad.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Inconsistency {
    /// What is wrong and where, for people.
    pub what: String,
    /// No copy of the newest version verifies.
    pub lost: bool,
    /// When it was first found, seconds since 1970.
    pub since: u64,
    /// When the walk began that saw it last; 0: it was found otherwise.
    pub seen: u64,
}
store_base::codec_versioned!(Inconsistency, 1, 1 { what, lost, since, seen });

/// A walk under way.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ScrubRun {
    /// Every byte is read.
    pub deep: bool,
    /// The order that it carries out; 0: it was scheduled.
    pub order: u64,
    /// The primary's copy counts where no majority decides.
    pub repair: bool,
    /// When it began, seconds since 1970.
    pub started: u64,
    /// Everything up to this object has been looked at.
    pub position: Option<ObjectName>,
    /// Objects looked at.
    pub objects: u64,
    /// Their bytes, of one copy.
    pub bytes: u64,
    /// Objects with bad copies found.
    pub found: u64,
    /// Of these: repaired and verified again.
    pub repaired: u64,
    /// Something could not be looked at: the walk proves nothing of the whole.
    pub skipped: u64,
    /// Members that have taken part from the beginning.
    pub members: BTreeSet<DaemonId>,
}
store_base::codec_versioned!(ScrubRun, 1, 1 {
    deep, order, repair, started, position, objects, bytes, found, repaired, skipped, members,
});

/// See the module. Times are seconds since 1970 by the primary's clock, 0: never.
///
/// Versioned form, version 1.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ScrubRecord {
    /// Every own copy was read from the medium and compared, or written, since. 0: not known.
    pub verified: u64,
    /// Grows with every change of what follows: the interval and a count.
    pub serial: Version,
    /// When the last whole walk of any kind began.
    pub light: u64,
    /// When the last whole deep walk began.
    pub deep: u64,
    /// The last order carried out.
    pub order_done: u64,
    /// Objects of which a copy is known to be bad. The one without a name stands for names that cannot be listed.
    pub bad: BTreeMap<ObjectName, Inconsistency>,
    /// How many more there are than have room in `bad`.
    pub bad_beyond: u64,
    /// Objects with bad copies found, ever.
    pub found: u64,
    /// Of these: repaired and verified again.
    pub repaired: u64,
    /// The walk under way.
    pub run: Option<ScrubRun>,
}
store_base::codec_versioned!(ScrubRecord, 1, 1 {
    verified, serial, light, deep, order_done, bad, bad_beyond, found, repaired, run,
});

impl ScrubRecord {
    /// Of a group that a daemon has just begun to have, with nothing in it.
    pub(crate) fn new(now: u64) -> ScrubRecord {
        ScrubRecord { verified: now, ..ScrubRecord::default() }
    }

    /// What of it is about the objects of one part, when the group is divided. A walk under way begins again: it
    /// has seen some of every part, and the whole of none.
    pub(crate) fn part(&self, is_own: impl Fn(&ObjectName) -> bool) -> ScrubRecord {
        let own = self.bad.iter().filter(|(object, _)| is_own(object));
        ScrubRecord {
            bad: own.map(|(object, bad)| (object.clone(), bad.clone())).collect(),
            run: None,
            ..self.clone()
        }
    }

    /// Takes over what another daemon knows of the group, if that is newer. `false` if it is not.
    pub(crate) fn adopt(&mut self, other: &ScrubRecord) -> bool {
        if other.serial <= self.serial {
            return false;
        }
        let own = std::mem::replace(self, other.clone());
        self.verified = own.verified;
        // What was found here and is not known there stays found.
        for (object, what) in own.bad {
            if own.serial == Version::ZERO || what.seen == 0 {
                self.bad.entry(object).or_insert(what);
            }
        }
        true
    }

    /// Objects known to be bad.
    pub(crate) fn errors(&self) -> u64 {
        self.bad.len() as u64 + self.bad_beyond
    }

    /// Of these: those of which no copy verifies.
    pub(crate) fn lost(&self) -> u64 {
        self.bad.values().filter(|bad| bad.lost).count() as u64
    }

    /// Notes that an object is bad.
    pub(crate) fn note_bad(&mut self, object: ObjectName, found: Inconsistency, max: usize) {
        if let Some(known) = self.bad.get_mut(&object) {
            *known = Inconsistency { since: known.since, ..found };
        } else if self.bad.len() < max {
            self.bad.insert(object, found);
        } else {
            self.bad_beyond += 1;
        }
    }

    /// Takes note that a walk has come to its end.
    pub(crate) fn finish(&mut self) {
        let Some(run) = self.run.take() else { return };
        self.order_done = self.order_done.max(run.order);
        if run.skipped > 0 {
            return;
        }
        // Names were listed to the end, though it may not have gone at the first try.
        self.bad.remove(&ObjectName::default());
        // The last walk counts, though an earlier one began later by a clock that was wrong then.
        self.light = run.started;
        if run.deep {
            self.deep = run.started;
            // What this walk has not seen to be bad, it has seen to be good.
            self.bad.retain(|_, bad| bad.seen >= run.started);
            self.bad_beyond = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use store_base::Interval;
    use store_base::codec::{Decode, Encode};

    fn serial(interval: u32, counter: u64) -> Version {
        Version { interval: Interval(interval), counter }
    }

    fn example() -> ScrubRecord {
        let bad = Inconsistency { what: "damaged at osd.1".into(), lost: true, since: 5, seen: 9 };
        ScrubRecord {
            verified: 100,
            serial: serial(3, 4),
            light: 7,
            deep: 6,
            order_done: 65536,
            bad: BTreeMap::from([(ObjectName::new("o"), bad)]),
            bad_beyond: 1,
            found: 3,
            repaired: 2,
            run: Some(ScrubRun {
                deep: true,
                started: 9,
                position: Some(ObjectName::new("p")),
                members: BTreeSet::from([DaemonId(0), DaemonId(2)]),
                ..ScrubRun::default()
            }),
        }
    }

    #[test]
    fn a_record_round_trips_and_refuses_truncation() {
        let bytes = example().to_bytes();
        assert_eq!(ScrubRecord::from_bytes(bytes.clone()), Ok(example()));
        for length in 0..bytes.len() {
            assert!(ScrubRecord::from_bytes(bytes.slice(..length)).is_err());
        }
        let golden = b"\x01\x01\x49\0\0\0\x05\0\0\0\0\0\0\0";
        assert_eq!(ScrubRecord::new(5).to_bytes()[..14], golden[..]);
    }

    #[test]
    fn the_newer_serial_wins_and_own_copies_stay_own() {
        let mut own = ScrubRecord { verified: 50, ..ScrubRecord::default() };
        let found = Inconsistency { what: "damaged here".into(), ..Inconsistency::default() };
        own.note_bad(ObjectName::new("x"), found, 10);
        assert!(own.adopt(&example()));
        assert_eq!((own.verified, own.deep, own.errors()), (50, 6, 3));
        let older = ScrubRecord { serial: serial(3, 3), deep: 60, ..ScrubRecord::default() };
        assert!(!own.adopt(&older));
        assert_eq!(own.deep, 6);
    }

    #[test]
    fn only_a_whole_deep_walk_clears_what_it_did_not_see() {
        let mut record = example();
        let run = record.run.clone().expect("under way");
        let old = Inconsistency { seen: 1, ..Inconsistency::default() };
        record.note_bad(ObjectName::new("old"), old, 10);
        record.run = Some(ScrubRun { skipped: 1, ..run.clone() });
        record.finish();
        assert_eq!((record.deep, record.errors()), (6, 3));
        record.run = Some(ScrubRun { deep: false, ..run.clone() });
        record.finish();
        assert_eq!((record.deep, record.light, record.errors()), (6, 9, 3));
        let unlisted = Inconsistency { seen: run.started, ..Inconsistency::default() };
        record.note_bad(ObjectName::default(), unlisted, 10);
        record.run = Some(run);
        record.finish();
        assert_eq!((record.deep, record.errors()), (9, 1));
        assert!(record.bad.contains_key(&ObjectName::new("o")), "it was seen in this walk");
    }
}
