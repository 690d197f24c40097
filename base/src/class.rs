//! Object classes: named methods that run inside the daemon, in the transaction of one object.
//!
//! A method is pure logic against a [`ClassContext`]: it reads the object's state as of its place in the
//! op vector and says what changes. The daemon turns the changes into the mutation that is replicated,
//! so a method runs once, on the primary, and need not be deterministic across versions of the program.
//!
//! Invariants a context keeps:
//! - reads see the effects of everything earlier in the same vector, this method's own writes included;
//! - nothing takes effect when the method, or a later op of the vector, fails;
//! - a method of kind [`MethodKind::Read`] is never given a chance to write (the daemon may panic on it:
//!   that is a broken promise of the method).

pub mod lock;
pub mod memory;
mod reply;
mod typed;

pub use reply::REPLY_BYTES_MAX;
pub(crate) use reply::Reply;
pub(crate) use typed::{methods, run, stored, stored_at};

use bytes::Bytes;

/// Why a method could not run. A refusal that callers are meant to handle (a precondition that failed,
/// a key that is not there) is part of the method's output instead.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ClassError {
    /// The input is no value of the method's input type: give up, the caller is of another version or
    /// hostile (errno EINVAL).
    #[error("input not understood: {0}")]
    Invalid(String),
    /// What is stored in the object is no value of its type: report damage (errno EIO).
    #[error("stored record is damaged: {0}")]
    Damaged(String),
    /// The object's state could not be read; the daemon's store says why (errno EIO).
    #[error("object could not be read: {0}")]
    Unreadable(String),
}

/// What a method may do with its object.
pub trait ClassContext {
    /// The object's name.
    fn name(&self) -> &[u8];

    /// Whether the object exists.
    fn exists(&self) -> bool;

    /// Who asks. A context that knows no clients says client 0.
    fn client(&self) -> crate::ClientId {
        crate::ClientId(0)
    }

    /// The primary's wall clock when the method runs. A context without a clock says 1970.
    fn now(&self) -> crate::Timestamp {
        crate::Timestamp::default()
    }

    /// Makes the object exist; does nothing if it does.
    fn create(&mut self);

    /// Removes the object with all it holds.
    fn remove(&mut self);

    /// The value of an extended attribute.
    fn xattr(&mut self, name: &str) -> Result<Option<Bytes>, ClassError>;

    /// Sets an extended attribute.
    fn set_xattr(&mut self, name: &str, value: Bytes);

    /// The value of an omap key.
    fn omap_value(&mut self, key: &[u8]) -> Result<Option<Bytes>, ClassError>;

    /// At most `max` omap pairs with `from <= key < until`, in order of key.
    fn omap_range(
        &mut self,
        from: &[u8],
        until: &[u8],
        max: usize,
    ) -> Result<Vec<(Bytes, Bytes)>, ClassError>;

    /// Sets an omap pair.
    fn set_omap(&mut self, key: Bytes, value: Bytes);

    /// Removes an omap pair, if it is there.
    fn remove_omap(&mut self, key: &[u8]);

    /// Removes every omap pair with `from <= key < until`.
    fn remove_omap_range(&mut self, from: &[u8], until: &[u8]);
}

/// Whether a method changes its object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MethodKind {
    /// Only reads: may be served as a read, writes no log entry.
    Read,
    /// May write.
    Write,
}

/// The code of a method: takes its encoded input, returns its encoded output.
pub type MethodCode = fn(&mut dyn ClassContext, Bytes) -> Result<Bytes, ClassError>;

/// One method of a class.
#[derive(Clone, Copy)]
pub struct Method {
    /// The class, as in `bucket.put`.
    pub class: &'static str,
    /// The method's name within the class.
    pub name: &'static str,
    /// Whether it writes.
    pub kind: MethodKind,
    /// What it does.
    pub code: MethodCode,
}

/// Every class that a daemon knows.
const CLASSES: [&[Method]; 5] = [
    &crate::bucket::METHODS,
    &crate::bucket::REGISTRY_METHODS,
    &crate::bucket::BODY_METHODS,
    &crate::identity::METHODS,
    &lock::METHODS,
];

/// The classes that keep their objects, and their numbers in [`ObjectInfo::keeper`](crate::object::ObjectInfo::keeper).
/// A number never changes.
const KEEPERS: [(u8, &str); 4] = [
    (1, crate::bucket::CLASS),
    (2, crate::bucket::REGISTRY_CLASS),
    (3, crate::bucket::BODY_CLASS),
    (4, crate::identity::CLASS),
];

/// The method of this name, if there is one.
pub fn method(class: &str, name: &str) -> Option<&'static Method> {
    CLASSES.iter().copied().flatten().find(|m| m.class == class && m.name == name)
}

/// Whether a method ends a move that was begun while there was room. A full cluster lets it pass, and a pool over its
/// quota: what it adds lies elsewhere as well, and is removed there next.
pub fn ends_a_move(class: &str, method: &str) -> bool {
    (class, method) == (crate::bucket::CLASS, "take")
}

/// The number of a class that keeps its objects: once one of its methods has written to an object, ops and the
/// methods of other classes may only read it. 0 for a class that does not.
pub fn keeper_number(class: &str) -> u8 {
    KEEPERS.iter().find(|(_, name)| *name == class).map_or(0, |(number, _)| *number)
}

/// The class of a number, for people. A daemon may meet a number that a newer one gave.
pub fn keeper_name(number: u8) -> &'static str {
    KEEPERS.iter().find(|(n, _)| *n == number).map_or("of a newer version", |(_, name)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique() {
        let mut names: Vec<_> =
            CLASSES.iter().copied().flatten().map(|m| (m.class, m.name)).collect();
        let count = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), count);
        assert!(method("bucket", "put").is_some_and(|m| m.kind == MethodKind::Write));
        assert!(method("bucket", "absent").is_none());
        for (number, class) in KEEPERS {
            assert_eq!((keeper_number(class), keeper_name(number)), (number, class));
            assert!(CLASSES.iter().copied().flatten().any(|m| m.class == class), "{class}");
        }
        assert_eq!(keeper_number("lock"), 0);
        let moves = CLASSES.iter().copied().flatten().filter(|m| ends_a_move(m.class, m.name));
        assert_eq!(moves.count(), 1, "the method that is meant is there");
    }
}
