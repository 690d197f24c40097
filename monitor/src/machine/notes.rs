//! What the monitor remembers for people, beside the maps: muted checks, daemons that are being emptied, and the
//! last movement of data that was planned. Nobody's data hangs on it; only the monitor reads it.

use std::collections::BTreeMap;
use store_base::Timestamp;
use store_base::ids::{DaemonId, Incarnation};

/// A check that somebody does not want to hear of.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Mute {
    /// It ends at this time, in seconds since 1970; 0: never by itself.
    pub until: u64,
    /// It stays although the check gets worse, or ends.
    pub sticky: bool,
    /// How many things the check was about when it was muted, or the fewest since.
    pub count: u64,
    /// How bad it was: 1 for a warning, 2 for an error.
    pub severity: u8,
    /// What it said.
    pub summary: String,
}
store_base::codec_versioned!(Mute, 1, 1 { until, sticky, count, severity, summary });

/// What a daemon had brought in from others, in one life.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BroughtIn {
    /// Which life.
    pub incarnation: Incarnation,
    /// Objects.
    pub objects: u64,
    /// Bytes.
    pub bytes: u64,
}
store_base::codec_versioned!(BroughtIn, 1, 1 { incarnation, objects, bytes });

/// What a movement of data comes to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Amount {
    /// Copies of placement groups.
    pub copies: u64,
    /// Objects in them.
    pub objects: u64,
    /// Bytes in them.
    pub bytes: u64,
}
store_base::codec_versioned!(Amount, 1, 1 { copies, objects, bytes });

impl Amount {
    /// Both together.
    pub(crate) fn plus(self, other: Amount) -> Amount {
        Amount {
            copies: self.copies.saturating_add(other.copies),
            objects: self.objects.saturating_add(other.objects),
            bytes: self.bytes.saturating_add(other.bytes),
        }
    }
}

/// The last change that made data move for another reason than a loss: what was planned, to be measured against.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Movement {
    /// What was changed.
    pub cause: String,
    /// When.
    pub since: Timestamp,
    /// What the plan says will move.
    pub planned: Amount,
    /// What must move at least.
    pub bound: Amount,
    /// Where each daemon's count stood then.
    pub before: BTreeMap<DaemonId, BroughtIn>,
    /// When all was in its place, and what had been brought in by then.
    pub ended: Option<Timestamp>,
    /// Objects and bytes brought in by then.
    pub measured: Amount,
}
store_base::codec_versioned!(Movement, 1, 1 {
    cause, since, planned, bound, before, ended, measured,
});

/// All of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Notes {
    /// By the check's name.
    pub mutes: BTreeMap<String, Mute>,
    /// Daemons that are being emptied, and since when.
    pub drains: BTreeMap<DaemonId, Timestamp>,
    /// If anything was moved yet because somebody changed something.
    pub movement: Option<Movement>,
    /// If the balancer moved anything yet.
    pub balancing: Option<Movement>,
}
// Version 2 added `balancing`.
store_base::codec_versioned!(Notes, 2, 1 { mutes, drains, movement, balancing since 2 });

#[cfg(test)]
mod tests {
    use super::*;
    use store_base::codec::{Decode, Encode};

    #[test]
    fn notes_are_read_back_and_cut_short_they_are_an_error() {
        let notes = Notes {
            mutes: [("OSD_DOWN".to_string(), Mute { until: 7, count: 1, ..Mute::default() })]
                .into(),
            drains: [(DaemonId(3), Timestamp { secs: 9, nanos: 1 })].into(),
            movement: Some(Movement {
                cause: "osd.4 was added".into(),
                planned: Amount { copies: 19, objects: 190, bytes: 1 << 20 },
                before: [(DaemonId(1), BroughtIn { objects: 5, ..BroughtIn::default() })].into(),
                ..Movement::default()
            }),
            balancing: Some(Movement::default()),
        };
        let bytes = notes.to_bytes();
        assert_eq!(Notes::from_bytes(bytes.clone()).as_ref(), Ok(&notes));
        for end in 0..bytes.len() {
            assert!(Notes::from_bytes(bytes.slice(..end)).is_err(), "{end}");
        }
        let golden: &[u8] = &[2, 1, 10, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        assert_eq!(&Notes::default().to_bytes()[..], golden, "the form of empty notes");
        let first: &[u8] = &[1, 1, 9, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        let read = Notes::from_bytes(bytes::Bytes::from_static(first));
        assert_eq!(read, Ok(Notes::default()), "notes of version 1");
    }
}
