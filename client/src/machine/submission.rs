//! What a caller wants, and what it weighs.

use store_base::error::Error;
use store_base::op::{OPS_MAX, Op, PAYLOAD_BYTES_MAX};
use store_base::{ObjectName, PgId, PoolId, Time, Timestamp};

/// What a request weighs besides its payload: names, headers, bookkeeping.
const OVERHEAD_BYTES: usize = 256;

/// Where a request goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// An object, wherever it is.
    Object {
        /// Its pool.
        pool: PoolId,
        /// Its name.
        object: ObjectName,
    },
    /// A placement group itself, for `Op::List`.
    Group(PgId),
}

impl Target {
    /// The pool.
    pub fn pool(&self) -> PoolId {
        match self {
            Target::Object { pool, .. } => *pool,
            Target::Group(pg) => pg.pool,
        }
    }
}

impl std::fmt::Display for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Target::Object { pool, object } => write!(f, "object {object} of pool {pool}"),
            Target::Group(pg) => write!(f, "placement group {pg}"),
        }
    }
}

/// An op vector that someone wants carried out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Submission {
    /// Where.
    pub target: Target,
    /// What, at most `OPS_MAX` ops and `PAYLOAD_BYTES_MAX` bytes.
    pub ops: Vec<Op>,
    /// The caller promises that nothing in the vector changes the object.
    pub read_only: bool,
    /// The wall clock.
    pub mtime: Timestamp,
    /// When to give up.
    pub deadline: Time,
}

impl Submission {
    /// Why no daemon would take it, if so.
    pub(super) fn check(&self) -> Result<(), Error> {
        if let Target::Object { object, .. } = &self.target {
            object.check().map_err(Error::Invalid)?;
        }
        if self.ops.is_empty() || self.ops.len() > OPS_MAX {
            let count = self.ops.len();
            return Err(Error::Invalid(format!(
                "a vector of {count} ops; 1 to {OPS_MAX} are allowed"
            )));
        }
        let payload: usize = self.ops.iter().map(payload_bytes).sum();
        if payload > PAYLOAD_BYTES_MAX {
            return Err(Error::Invalid(format!(
                "a request of {payload} bytes; at most {PAYLOAD_BYTES_MAX} are allowed"
            )));
        }
        Ok(())
    }

    /// What it counts for in flight: the bytes it sends and those it asks for.
    pub(super) fn weight(&self) -> usize {
        let asked: usize = self.ops.iter().map(|op| payload_bytes(op) + answer_bytes(op)).sum();
        OVERHEAD_BYTES + asked
    }

    /// Whether it would take room on a full cluster. Methods are left to the daemon's judgement, because it
    /// knows which of them free room.
    pub(super) fn grows(&self) -> bool {
        let grows = |op: &Op| {
            matches!(
                op,
                Op::Create { .. }
                    | Op::Write { .. }
                    | Op::WriteFull { .. }
                    | Op::Append { .. }
                    | Op::SetXattr { .. }
                    | Op::OmapSet { .. }
                    | Op::OmapSetHeader { .. }
            )
        };
        let frees = |op: &Op| matches!(op, Op::Delete {} | Op::Exec { .. });
        !self.read_only && self.ops.iter().any(grows) && !self.ops.iter().any(frees)
    }

    /// Whether a lost answer leaves doubt.
    pub(super) fn mutates(&self) -> bool {
        !self.read_only && self.ops.iter().any(Op::mutates)
    }
}

/// Bytes that an op carries to the daemon.
fn payload_bytes(op: &Op) -> usize {
    match op {
        Op::Write { data, .. }
        | Op::WriteFull { data }
        | Op::Append { data }
        | Op::CompareData { data, .. }
        | Op::OmapSetHeader { data } => data.len(),
        Op::CompareXattr { name, value, .. } | Op::SetXattr { name, value } => {
            name.len() + value.len()
        }
        Op::CompareOmap { key, value, .. } => key.len() + value.len(),
        Op::OmapSet { entries } => entries.iter().map(|(key, value)| key.len() + value.len()).sum(),
        Op::OmapByKeys { keys } | Op::OmapRemove { keys } => keys.iter().map(|key| key.len()).sum(),
        Op::OmapList { after, prefix, .. } => after.len() + prefix.len(),
        Op::OmapRemoveRange { from, to } => from.len() + to.len(),
        Op::Exec { class, method, input } => class.len() + method.len() + input.len(),
        Op::Notify { payload, .. } | Op::NotifyAck { payload, .. } => payload.len(),
        Op::Xattr { name } | Op::RemoveXattr { name } => name.len(),
        Op::List { after, .. } => after.len(),
        _ => 0,
    }
}

/// Bytes of answer that an op asks for, as far as the op tells.
fn answer_bytes(op: &Op) -> usize {
    match op {
        Op::Read { length, .. } | Op::SparseRead { length, .. } => match usize::try_from(*length) {
            Ok(0) | Err(_) => PAYLOAD_BYTES_MAX,
            Ok(length) => length.min(PAYLOAD_BYTES_MAX),
        },
        _ => 0,
    }
}
