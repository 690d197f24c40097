//! What a batch asks of the room on the medium, and whether it may use the reserve.
//!
//! A full store still deletes (DESIGN 12). Deletes arrive as ordinary log entries, so the store has to
//! tell them from writes by what they do, in the same way on every engine.

use super::{Change, Install, LogEntry, StoreError, Write};
use std::collections::BTreeMap;
use store_base::PgId;

/// A batch that adds at most this much, and removes something, counts as a delete: a bucket index that
/// loses an entry also writes its new counts.
pub const FREEING_ADDED_BYTES_MAX: u64 = 64 << 10;

/// What a batch asks for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Demand {
    /// Bytes of data, keys and values that it adds, without overhead.
    pub added_bytes: u64,
    /// Whether it may use the space that is reserved for deletes.
    pub class: DemandClass,
}

/// Who may use which part of the room.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum DemandClass {
    /// Changes the log and frees, but adds no content: always goes through.
    #[default]
    Housekeeping,
    /// Removes something and adds little, or was accepted by another daemon: may use the first half of the reserve.
    Freeing,
    /// Adds content: must leave the reserve alone.
    Growing,
}

/// Adds up a batch.
pub fn demand(batch: &[Write]) -> Demand {
    let mut total = Demand::default();
    for write in batch {
        let one = match write {
            Write::Stage { entry, .. } => of_entry(entry),
            Write::Follow { entry, .. } => accepted(of_entry(entry)),
            Write::ReplaceLog { staged, .. } => {
                accepted(staged.iter().map(of_entry).fold(Demand::default(), join))
            }
            Write::Install { part, .. } => of_install(part),
            // Small and few; a daemon that could not note its incarnation could not free anything.
            Write::Meta { .. } | Write::Super { .. } => Demand::default(),
            _ => Demand::default(),
        };
        total = join(total, one);
    }
    total
}

/// Says whether every step of a batch names a placement group that is there when its turn comes.
pub fn check_pgs(batch: &[Write], is_here: impl Fn(PgId) -> bool) -> Result<(), StoreError> {
    let mut changed: BTreeMap<PgId, bool> = BTreeMap::new();
    for write in batch {
        let pg = match write {
            Write::CreatePg { pg } => {
                changed.insert(*pg, true);
                continue;
            }
            Write::RemovePg { pg } => {
                changed.insert(*pg, false);
                continue;
            }
            Write::SplitPg { pg, from, to } => {
                for child in pg.children(*from, *to) {
                    let is_here = changed.insert(child, true).unwrap_or_else(|| is_here(child));
                    assert!(!is_here, "{child} is to be split off {pg}, but is here already");
                }
                *pg
            }
            write => match write.pg() {
                Some(pg) => pg,
                None => continue,
            },
        };
        if !changed.get(&pg).copied().unwrap_or_else(|| is_here(pg)) {
            return Err(StoreError::NoPg(pg));
        }
    }
    Ok(())
}

fn join(a: Demand, b: Demand) -> Demand {
    Demand { added_bytes: a.added_bytes + b.added_bytes, class: a.class.max(b.class) }
}

/// What a whole group waits for may use the reserve.
fn accepted(demand: Demand) -> Demand {
    Demand { class: demand.class.min(DemandClass::Freeing), ..demand }
}

fn of_entry(entry: &LogEntry) -> Demand {
    let Some(mutation) = &entry.mutation else { return Demand::default() };
    let (mut added, mut frees, mut writes) = (0, entry.removes, false);
    for change in &mutation.changes {
        match change {
            Change::Write { data, .. } => {
                writes = true;
                added += data.len() as u64;
            }
            Change::Xattrs { set } | Change::Omap { set } => {
                for (key, value) in set {
                    match value {
                        Some(value) => added += (key.len() + value.len()) as u64,
                        None => frees = true,
                    }
                }
            }
            Change::OmapHeader { data } => added += data.len() as u64,
            Change::Remove {} | Change::OmapRemoveRange { .. } | Change::OmapClear {} => {
                frees = true
            }
            Change::Zero { .. } => frees |= !writes,
            Change::Truncate { .. } => frees |= !writes,
        }
    }
    // A replacement (cut, then write) is a write, however small: it may be a new object.
    let class = match () {
        () if mutation.changes.is_empty() && mutation.info.is_none() => DemandClass::Housekeeping,
        () if frees && added == 0 => DemandClass::Housekeeping,
        () if frees && !writes && added <= FREEING_ADDED_BYTES_MAX => DemandClass::Freeing,
        () => DemandClass::Growing,
    };
    Demand { added_bytes: added, class }
}

fn of_install(part: &Install) -> Demand {
    let added = match part {
        Install::Data { data, .. } | Install::OmapHeader { data } => data.len() as u64,
        Install::Xattrs { entries } | Install::Omap { entries } => {
            entries.iter().map(|(k, v)| (k.len() + v.len()) as u64).sum()
        }
        // The end of a copy adds nothing, and aborting one frees.
        Install::Start {} | Install::Finish { .. } | Install::Abort {} => {
            return Demand::default();
        }
    };
    Demand { added_bytes: added, class: DemandClass::Growing }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Mutation;
    use bytes::Bytes;
    use store_base::object::ObjectInfo;

    fn entry(changes: Vec<Change>, removes: bool) -> Write {
        let info = (!removes).then(ObjectInfo::default);
        let mutation = Some(Mutation { changes, info });
        Write::Stage {
            pg: Default::default(),
            entry: LogEntry { removes, mutation, ..Default::default() },
        }
    }

    #[test]
    fn deletes_are_told_from_writes() {
        let class = |changes, removes| demand(&[entry(changes, removes)]).class;
        let value = |len| Some(Bytes::from(vec![1; len]));
        assert_eq!(class(vec![Change::Remove {}], true), DemandClass::Housekeeping);
        let small = [("a".into(), None), ("n".into(), value(10))].into();
        assert_eq!(class(vec![Change::Omap { set: small }], false), DemandClass::Freeing);
        let most = FREEING_ADDED_BYTES_MAX as usize - 1;
        let large = [("a".into(), None), ("n".into(), value(most))].into();
        assert_eq!(class(vec![Change::Omap { set: large }], false), DemandClass::Freeing);
        let large = [("a".into(), None), ("n".into(), value(most + 1))].into();
        assert_eq!(class(vec![Change::Omap { set: large }], false), DemandClass::Growing);
        let write = Change::Write { offset: 0, data: "x".into() };
        let replace = vec![Change::Truncate { size: 0 }, write];
        assert_eq!(class(replace, false), DemandClass::Growing);
        // An object without bytes is an object all the same.
        assert_eq!(class(vec![], false), DemandClass::Growing);
    }

    #[test]
    fn one_growing_step_makes_the_batch_growing() {
        let write = entry(vec![Change::Write { offset: 0, data: "xyz".into() }], false);
        let batch = [entry(vec![Change::Remove {}], true), write];
        assert_eq!(demand(&batch), Demand { added_bytes: 3, class: DemandClass::Growing });
    }
}
