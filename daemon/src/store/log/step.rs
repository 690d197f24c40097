//! What a batch says in the log: the caller's writes with the places of their bytes.
//!
//! A step does the same whenever it is executed on the same state; a replay executes the steps of the log
//! behind the checkpoint and arrives at what was.

use super::piece::Piece;
use crate::store::{Change, Install, LogEntry};
use bytes::Bytes;
use store_base::{ObjectName, PgId, Version};

/// An entry whose written bytes are stored elsewhere: the data of its `Change::Write`s are empty, and
/// there is one list of pieces for each of them, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Placed {
    /// The entry without bytes.
    pub entry: LogEntry,
    /// Where the bytes are.
    pub places: Vec<Vec<Piece>>,
}
store_base::codec_struct!(Placed { entry, places });

/// One step of a batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// As the write of that name.
    CreatePg {
        /// Which.
        pg: PgId,
    },
    /// As the write of that name.
    RemovePg {
        /// Which.
        pg: PgId,
    },
    /// As the write of that name.
    Meta {
        /// Which.
        pg: PgId,
        /// Name.
        key: Bytes,
        /// `None` removes.
        value: Option<Bytes>,
    },
    /// As the write of that name.
    Super {
        /// Name.
        key: Bytes,
        /// `None` removes.
        value: Option<Bytes>,
    },
    /// As the write of that name.
    Stage {
        /// Which.
        pg: PgId,
        /// The entry.
        placed: Placed,
    },
    /// As the write of that name.
    Apply {
        /// Which.
        pg: PgId,
        /// The last.
        to: Version,
        /// Without effect.
        except: Vec<Version>,
    },
    /// As the write of that name.
    DropStaged {
        /// Which.
        pg: PgId,
        /// The last that stays.
        after: Version,
    },
    /// As the write of that name.
    TrimLog {
        /// Which.
        pg: PgId,
        /// The last to forget.
        to: Version,
    },
    /// As the write of that name.
    ReplaceLog {
        /// Which.
        pg: PgId,
        /// Without mutations.
        applied: Vec<LogEntry>,
        /// With.
        staged: Vec<Placed>,
    },
    /// As the write of that name; the bytes of `Install::Data` are in `places`.
    Install {
        /// Which.
        pg: PgId,
        /// Whose copy.
        object: ObjectName,
        /// Which part.
        part: Install,
        /// Where the bytes are.
        places: Vec<Piece>,
    },
    /// As the write of that name.
    RemoveObject {
        /// Which.
        pg: PgId,
        /// What.
        object: ObjectName,
    },
    /// As the write of that name.
    SplitPg {
        /// Which.
        pg: PgId,
        /// The number before.
        from: u32,
        /// The number now.
        to: u32,
    },
    /// Removes some objects of a placement group that was removed; the store's own.
    Purge {
        /// The number of what it was.
        uid: u64,
        /// At most so many.
        max: u32,
    },
}

store_base::codec_enum!(Step {
    1 => CreatePg { pg },
    2 => RemovePg { pg },
    3 => Meta { pg, key, value },
    4 => Super { key, value },
    5 => Stage { pg, placed },
    6 => Apply { pg, to, except },
    7 => DropStaged { pg, after },
    8 => TrimLog { pg, to },
    9 => ReplaceLog { pg, applied, staged },
    10 => Install { pg, object, part, places },
    11 => RemoveObject { pg, object },
    12 => Purge { uid, max },
    13 => SplitPg { pg, from, to },
});

impl Step {
    /// The placement group that it is about.
    pub fn pg(&self) -> Option<PgId> {
        match self {
            Step::Super { .. } | Step::Purge { .. } => None,
            Step::CreatePg { pg }
            | Step::RemovePg { pg }
            | Step::Meta { pg, .. }
            | Step::Stage { pg, .. }
            | Step::Apply { pg, .. }
            | Step::DropStaged { pg, .. }
            | Step::TrimLog { pg, .. }
            | Step::ReplaceLog { pg, .. }
            | Step::Install { pg, .. }
            | Step::RemoveObject { pg, .. }
            | Step::SplitPg { pg, .. } => Some(*pg),
        }
    }
}

impl Placed {
    /// Whether what was read from a medium can be executed.
    pub fn is_valid(&self) -> bool {
        let Some(mutation) = &self.entry.mutation else { return false };
        let writes =
            mutation.changes.iter().filter(|change| matches!(change, Change::Write { .. }));
        writes.count() == self.places.len() && self.places.iter().flatten().all(Piece::is_valid)
    }

    /// The lists of pieces.
    pub fn pieces(&self) -> impl Iterator<Item = &Piece> {
        self.places.iter().flatten()
    }
}

/// Takes the bytes out of an entry's writes: what is left is small.
pub fn take_data(entry: &mut LogEntry) -> Vec<Bytes> {
    let changes = entry.mutation.iter_mut().flat_map(|mutation| &mut mutation.changes);
    changes
        .filter_map(|change| match change {
            Change::Write { data, .. } => Some(std::mem::take(data)),
            _ => None,
        })
        .collect()
}

/// Puts the bytes back.
pub fn put_data(entry: &mut LogEntry, all: &[Bytes]) {
    let changes = entry.mutation.iter_mut().flat_map(|mutation| &mut mutation.changes);
    let writes = changes.filter_map(|change| match change {
        Change::Write { data, .. } => Some(data),
        _ => None,
    });
    writes.zip(all).for_each(|(data, bytes)| *data = bytes.clone());
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Mutation;
    use crate::store::log::piece::{Place, SHIFT_SMALL};
    use store_base::codec::{Decode, Encode};

    #[test]
    fn a_stage_has_these_bytes_and_no_others() {
        let place = Place::Log { seq: 2, offset: 1 };
        let write = Change::Write { offset: 5, data: Bytes::new() };
        let placed = Placed {
            entry: LogEntry {
                object: ObjectName::new("o"),
                mutation: Some(Mutation { changes: vec![write], info: None }),
                ..LogEntry::default()
            },
            places: vec![vec![Piece::new(b"abc", place, SHIFT_SMALL)]],
        };
        assert!(placed.is_valid());
        let bytes = Step::Stage { pg: PgId::default(), placed }.to_bytes();
        let crc = super::super::format::checksum(&bytes);
        assert_eq!((bytes.len(), crc), (157, 487_087_206));
        let again = Step::from_bytes(bytes.clone()).expect("own bytes");
        assert_eq!(again.to_bytes(), bytes);
        for len in 0..bytes.len() {
            assert!(Step::from_bytes(bytes.slice(..len)).is_err(), "cut at {len}");
        }
    }

    #[test]
    fn data_come_out_and_go_back() {
        let changes = vec![
            Change::Write { offset: 0, data: "a".into() },
            Change::Truncate { size: 9 },
            Change::Write { offset: 1, data: "b".into() },
        ];
        let mut entry =
            LogEntry { mutation: Some(Mutation { changes, info: None }), ..LogEntry::default() };
        let whole = entry.clone();
        let data = take_data(&mut entry);
        assert_eq!(data, ["a", "b"]);
        put_data(&mut entry, &data);
        assert_eq!(entry, whole);
    }
}
