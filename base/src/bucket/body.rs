//! The class `body`: data objects of versions that are locked, kept from being removed by whatever may reach the
//! pool.
//!
//! | method | input | output |
//! |---|---|---|
//! | `body.lock` | [`LockBody`] | [`Answer`] |
//! | `body.remove` | [`RemoveBody`] | [`Answer`] |
//!
//! The index shard decides what is locked; a data object repeats it, in the xattr `lock` (an [`ObjectLock`]). The
//! class keeps its objects: from the first `body.lock` on, nothing else changes or removes them, and `body.remove` does
//! so only when no retention is in force and no hold is on, by the daemon's clock.
//!
//! Who locks, locks the index first; who takes a hold off, takes it off the data first. So a data object is not held for
//! longer than its index entry, but for a governance retention that was shortened, and for a hold where two changes of
//! it met and one of those who made them died. What the index gives up can be removed: the sweeper takes either off.

use super::locks::{lock_clock, may_change};
use super::*;

/// The xattr with the [`ObjectLock`].
const LOCK_XATTR: &str = "lock";

/// Input of `body.lock`: the lock becomes this one. `Locked` where that would shorten a retention that is in force
/// (governance may be, with `bypass`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LockBody {
    /// What is to be.
    pub lock: ObjectLock,
    /// Whether a governance retention may be shortened.
    pub bypass: bool,
}
crate::codec_struct!(LockBody { lock, bypass });

/// Input of `body.remove`. `Locked` while a lock protects it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RemoveBody {
    /// Whether a governance retention does not count.
    pub bypass: bool,
}
crate::codec_struct!(RemoveBody { bypass });

/// The methods of locked data objects.
pub const METHODS: [Method; 2] = methods! { BODY_CLASS;
    "lock" Write lock,
    "remove" Write remove,
};

fn present(context: &mut dyn ClassContext) -> Result<ObjectLock, ClassError> {
    match context.xattr(LOCK_XATTR)? {
        Some(stored) => super::stored(stored),
        None => Ok(ObjectLock::default()),
    }
}

fn lock(context: &mut dyn ClassContext, input: LockBody) -> Result<Answer<Nothing>, ClassError> {
    if !context.exists() {
        return Ok(Answer(Err(Refusal::NoKey {})));
    }
    let now_ms = lock_clock(context);
    if !may_change(&present(context)?, input.lock.retention, now_ms, input.bypass) {
        return Ok(Answer(Err(Refusal::Locked {})));
    }
    context.set_xattr(LOCK_XATTR, input.lock.to_bytes());
    Ok(Answer(Ok(Nothing {})))
}

fn remove(
    context: &mut dyn ClassContext,
    input: RemoveBody,
) -> Result<Answer<Nothing>, ClassError> {
    let now_ms = lock_clock(context);
    if present(context)?.protects(now_ms, input.bypass) {
        return Ok(Answer(Err(Refusal::Locked {})));
    }
    context.remove();
    Ok(Answer(Ok(Nothing {})))
}
