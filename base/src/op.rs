//! The op vector: what a client asks of one object, atomically, and what it is told.
//!
//! The model is RADOS': guards first, then reads and mutations, one result per op. The first op that
//! fails aborts all; nothing of the vector has then happened. Errors are Linux numbers, negative.

use crate::ids::{Epoch, PgId, RequestId, Timestamp, Version};
use crate::object::ObjectName;
use bytes::Bytes;
use std::collections::BTreeMap;

/// Most ops in one vector.
pub const OPS_MAX: usize = 64;

/// Most bytes that one request may carry, and one read may answer with: what fits one frame of the
/// data path. The client library cuts larger reads and writes.
pub const PAYLOAD_BYTES_MAX: usize = 1 << 20;

/// Longest xattr value; longest omap value.
pub const VALUE_BYTES_MAX: usize = 512 << 10;

/// Largest object: CephFS and S3 stripe above it.
pub const OBJECT_BYTES_MAX: u64 = 128 << 20;

/// How a guard compares what is stored (left) with what is given (right).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compare {
    /// Equal, as bytes.
    Equal {},
    /// Not equal.
    NotEqual {},
    /// Stored is greater.
    Greater {},
    /// Stored is greater or equal.
    GreaterOrEqual {},
    /// Stored is less.
    Less {},
    /// Stored is less or equal.
    LessOrEqual {},
}

crate::codec_enum!(Compare {
    1 => Equal {}, 2 => NotEqual {}, 3 => Greater {}, 4 => GreaterOrEqual {}, 5 => Less {},
    6 => LessOrEqual {},
});

impl Compare {
    /// Whether `stored ? given` holds.
    pub fn holds<T: Ord + ?Sized>(self, stored: &T, given: &T) -> bool {
        match self {
            Compare::Equal {} => stored == given,
            Compare::NotEqual {} => stored != given,
            Compare::Greater {} => stored > given,
            Compare::GreaterOrEqual {} => stored >= given,
            Compare::Less {} => stored < given,
            Compare::LessOrEqual {} => stored <= given,
        }
    }
}

/// One op of a vector. The comment says what the result's data holds, and errors of its own beyond
/// `ENOENT` (no such object) for reads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Op {
    // Guards.
    /// Fails with `ENOENT` unless the object exists.
    AssertExists {},
    /// Fails with `ERANGE` if the object's user version is greater, `EOVERFLOW` if it is less.
    AssertVersion {
        /// The user version that must be.
        version: u64,
    },
    /// Fails with `ECANCELED` unless the comparison holds. A missing xattr compares as empty.
    CompareXattr {
        /// Name of the xattr.
        name: Bytes,
        /// How.
        compare: Compare,
        /// Right side.
        value: Bytes,
    },
    /// Fails with `ECANCELED` unless the comparison holds. A missing key compares as empty.
    CompareOmap {
        /// The key.
        key: Bytes,
        /// How.
        compare: Compare,
        /// Right side.
        value: Bytes,
    },
    /// Fails with `ECANCELED` unless these bytes stand there. Bytes behind the end are zero.
    CompareData {
        /// Where.
        offset: u64,
        /// What must stand there.
        data: Bytes,
    },

    // Reads.
    /// Data: the bytes, fewer at the end of the object. Length 0 means to the end.
    Read {
        /// Where.
        offset: u64,
        /// How many.
        length: u64,
    },
    /// Data: [`SparseData`].
    SparseRead {
        /// Where.
        offset: u64,
        /// How many.
        length: u64,
    },
    /// Data: [`Stat`].
    Stat {},
    /// Data: the value. `ENODATA` if there is none.
    Xattr {
        /// Name of the xattr.
        name: Bytes,
    },
    /// Data: map of name to value.
    Xattrs {},
    /// Data: [`OmapPage`] of the keys behind `after` that begin with `prefix`.
    OmapList {
        /// Keys behind this one; empty for the first page.
        after: Bytes,
        /// Only keys that begin so.
        prefix: Bytes,
        /// At most so many.
        max: u32,
        /// Values too, or keys alone with empty values.
        values: bool,
    },
    /// Data: map of key to value, of those keys that exist.
    OmapByKeys {
        /// The keys.
        keys: Vec<Bytes>,
    },
    /// Data: the header, empty if never set.
    OmapHeader {},
    /// Data: list of [`Watcher`].
    Watchers {},

    // Mutations. Data: empty unless said.
    /// Makes the object if it is not there. `EEXIST` if it is and `exclusive`.
    Create {
        /// Whether an existing object is an error.
        exclusive: bool,
    },
    /// Writes bytes, growing the object as needed; a gap reads as zero.
    Write {
        /// Where.
        offset: u64,
        /// What.
        data: Bytes,
    },
    /// Replaces the whole byte part. Xattrs and omap stay.
    WriteFull {
        /// What.
        data: Bytes,
    },
    /// Writes at the end.
    Append {
        /// What.
        data: Bytes,
    },
    /// Makes a range read as zero, and frees what it can. Does not grow the object.
    Zero {
        /// Where.
        offset: u64,
        /// How many.
        length: u64,
    },
    /// Cuts or extends the byte part.
    Truncate {
        /// The new size.
        size: u64,
    },
    /// Removes the object. `ENOENT` if there is none.
    Delete {},
    /// Sets an xattr.
    SetXattr {
        /// Name.
        name: Bytes,
        /// Value.
        value: Bytes,
    },
    /// Removes an xattr. `ENODATA` if there is none.
    RemoveXattr {
        /// Name.
        name: Bytes,
    },
    /// Sets omap keys.
    OmapSet {
        /// Key and value.
        entries: BTreeMap<Bytes, Bytes>,
    },
    /// Removes omap keys; those not there are passed over.
    OmapRemove {
        /// The keys.
        keys: Vec<Bytes>,
    },
    /// Removes the keys of `from` (included) to `to` (excluded).
    OmapRemoveRange {
        /// First key.
        from: Bytes,
        /// First key that stays.
        to: Bytes,
    },
    /// Removes all keys and the header.
    OmapClear {},
    /// Sets the header.
    OmapSetHeader {
        /// What.
        data: Bytes,
    },

    // Methods and messages.
    /// Runs a method of a class inside this transaction. Data: the method's output. `EOPNOTSUPP` if
    /// there is no such class or method; any error of the method.
    Exec {
        /// Class.
        class: String,
        /// Method.
        method: String,
        /// Its input.
        input: Bytes,
    },
    /// Registers the sender as a watcher of the object; kept with the object until removed or timed
    /// out. Notifications arrive as [`Notification`] on the sender's stream.
    Watch {
        /// The sender's own number for this watch.
        cookie: u64,
        /// Seconds without a sign of life after which the watch ends.
        timeout_secs: u32,
    },
    /// A sign of life for a watch. `ENOTCONN` if it is not registered (any more).
    WatchPing {
        /// The watch.
        cookie: u64,
    },
    /// Ends a watch.
    Unwatch {
        /// The watch.
        cookie: u64,
    },
    /// Tells all watchers and waits for their answers. Data: [`NotifyResult`].
    Notify {
        /// What to tell.
        payload: Bytes,
        /// Seconds to wait for the slowest.
        timeout_secs: u32,
    },
    /// A watcher's answer.
    NotifyAck {
        /// Of the notification.
        notify: u64,
        /// The watch.
        cookie: u64,
        /// What to answer.
        payload: Bytes,
    },

    // Of a placement group, not of an object: the request's object is ignored.
    /// Data: [`ObjectPage`] of the objects of this placement group behind the cursor.
    List {
        /// `ObjectPage::next` of the page before; empty for the first.
        after: Bytes,
        /// At most so many.
        max: u32,
    },
}

crate::codec_enum!(Op {
    1 => AssertExists {},
    2 => AssertVersion { version },
    3 => CompareXattr { name, compare, value },
    4 => CompareOmap { key, compare, value },
    5 => CompareData { offset, data },
    16 => Read { offset, length },
    17 => SparseRead { offset, length },
    18 => Stat {},
    19 => Xattr { name },
    20 => Xattrs {},
    21 => OmapList { after, prefix, max, values },
    22 => OmapByKeys { keys },
    23 => OmapHeader {},
    24 => Watchers {},
    32 => Create { exclusive },
    33 => Write { offset, data },
    34 => WriteFull { data },
    35 => Append { data },
    36 => Zero { offset, length },
    37 => Truncate { size },
    38 => Delete {},
    39 => SetXattr { name, value },
    40 => RemoveXattr { name },
    41 => OmapSet { entries },
    42 => OmapRemove { keys },
    43 => OmapRemoveRange { from, to },
    44 => OmapClear {},
    45 => OmapSetHeader { data },
    64 => Exec { class, method, input },
    65 => Watch { cookie, timeout_secs },
    66 => WatchPing { cookie },
    67 => Unwatch { cookie },
    68 => Notify { payload, timeout_secs },
    69 => NotifyAck { notify, cookie, payload },
    80 => List { after, max },
});

/// Answer to [`Op::Stat`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stat {
    /// Bytes.
    pub size: u64,
    /// The client's clock at the last change.
    pub mtime: Timestamp,
    /// For [`Op::AssertVersion`].
    pub version: u64,
}
crate::codec_versioned!(Stat, 1, 1 { size, mtime, version });

/// Answer to [`Op::SparseRead`]: the ranges that hold data, and their bytes one after another.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SparseData {
    /// Offset and length, ascending.
    pub extents: Vec<(u64, u64)>,
    /// The bytes of all extents.
    pub data: Bytes,
}
crate::codec_struct!(SparseData { extents, data });

/// Answer to [`Op::OmapList`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OmapPage {
    /// In order of key.
    pub entries: Vec<(Bytes, Bytes)>,
    /// Whether more keys follow.
    pub more: bool,
}
crate::codec_struct!(OmapPage { entries, more });

/// Answer to [`Op::List`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ObjectPage {
    /// In the order of `ObjectName`.
    pub objects: Vec<ObjectName>,
    /// Opaque; empty at the end of the placement group.
    pub next: Bytes,
}
crate::codec_struct!(ObjectPage { objects, next });

/// One watcher of an object.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Watcher {
    /// The client (its id) that watches.
    pub client: u64,
    /// Its number for the watch.
    pub cookie: u64,
    /// Seconds without a sign of life after which the watch ends.
    pub timeout_secs: u32,
}
crate::codec_struct!(Watcher { client, cookie, timeout_secs });

/// Answer to [`Op::Notify`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NotifyResult {
    /// Who answered, and what: client, cookie, payload.
    pub answers: Vec<((u64, u64), Bytes)>,
    /// Who did not in time: client, cookie.
    pub silent: Vec<(u64, u64)>,
}
crate::codec_struct!(NotifyResult { answers, silent });

/// What a watcher is sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notification {
    /// The watched object.
    pub object: ObjectName,
    /// The watch.
    pub cookie: u64,
    /// To be named in [`Op::NotifyAck`].
    pub notify: u64,
    /// What was told.
    pub payload: Bytes,
}
crate::codec_struct!(Notification { object, cookie, notify, payload });

impl Op {
    /// Whether the op may change the object. `Exec` is taken for a mutation unless the request says
    /// that it only reads.
    pub fn mutates(&self) -> bool {
        matches!(
            self,
            Op::Create { .. }
                | Op::Write { .. }
                | Op::WriteFull { .. }
                | Op::Append { .. }
                | Op::Zero { .. }
                | Op::Truncate { .. }
                | Op::Delete {}
                | Op::SetXattr { .. }
                | Op::RemoveXattr { .. }
                | Op::OmapSet { .. }
                | Op::OmapRemove { .. }
                | Op::OmapRemoveRange { .. }
                | Op::OmapClear {}
                | Op::OmapSetHeader { .. }
                | Op::Exec { .. }
                | Op::Watch { .. }
                | Op::Unwatch { .. }
        )
    }
}

/// What one op answered.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OpResult {
    /// 0, or a negative Linux error number. A class method may also answer a positive number.
    pub code: i32,
    /// See the op.
    pub data: Bytes,
}
crate::codec_struct!(OpResult { code, data });

/// A request to the primary of a placement group.
///
/// Versioned form, version 1: id, epoch, pg, object, mtime, resend, read_only, snap_seq, snaps, ops.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Request {
    /// Names the request for good; a resend carries the same.
    pub id: RequestId,
    /// The client's map.
    pub epoch: Epoch,
    /// Where the client believes the object to be.
    pub pg: PgId,
    /// The object.
    pub object: ObjectName,
    /// The client's clock.
    pub mtime: Timestamp,
    /// 0 for the first sending, then how often it was sent before.
    pub resend: u32,
    /// The client promises that nothing in the vector changes the object: an `Exec` that tries to is
    /// refused with `EROFS`, and the request needs no log entry.
    pub read_only: bool,
    /// Snapshot context: the newest snapshot that the client knows. 0 until pools have snapshots.
    pub snap_seq: u64,
    /// Snapshot context: existing snapshots, descending.
    pub snaps: Vec<u64>,
    /// At most [`OPS_MAX`].
    pub ops: Vec<Op>,
}
crate::codec_versioned!(Request, 1, 1 {
    id, epoch, pg, object, mtime, resend, read_only, snap_seq, snaps, ops,
});

impl Request {
    /// Whether the vector needs a log entry.
    pub fn is_mutation(&self) -> bool {
        !self.read_only && self.ops.iter().any(Op::mutates)
    }
}

/// What became of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It was done, or it failed as a whole with nothing changed: then `results` ends with the op that
    /// failed. `version` and `user_version` are of the object afterwards.
    Done {
        /// The log entry (of the original execution, for a resend).
        version: Version,
        /// The object's user version.
        user_version: u64,
        /// One per op, up to the first that failed.
        results: Vec<OpResult>,
    },
    /// This daemon does not lead that placement group by a map of the epoch named, or the object does
    /// not belong to it: get that map and aim again. Nothing was done.
    Misdirected {
        /// A map of at least this epoch shows where to go.
        epoch: Epoch,
    },
    /// Refused for good, nothing was done: a negative errno and a sentence. Among them `EINVAL` for a
    /// malformed vector, `ENOSPC` for a full cluster, `ESTALE` for a resend from before the log's
    /// trim (whether it was applied is not known any more), `EBLOCKLISTED` (108) for a fenced client.
    Refused {
        /// Negative errno.
        code: i32,
        /// What and why.
        why: String,
    },
}
crate::codec_enum!(Outcome {
    1 => Done { version, user_version, results },
    2 => Misdirected { epoch },
    3 => Refused { code, why },
});

/// What a daemon sends to a client on the stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// The answer to a request.
    Answer {
        /// Which.
        id: RequestId,
        /// The daemon's map when it answered. A mutation's answer counts only if the client has not sent it again
        /// by a later map: that twin may do more than this answer says.
        epoch: Epoch,
        /// What became of it.
        outcome: Outcome,
    },
    /// A watched object was notified.
    Notify {
        /// What.
        notification: Notification,
    },
}
crate::codec_enum!(Reply {
    2 => Notify { notification },
    3 => Answer { id, epoch, outcome },
});
// 1 was an answer without the epoch.

/// Linux error numbers used in results; results carry them negated.
pub mod errno {
    #![allow(missing_docs)]
    pub const EPERM: i32 = 1;
    pub const ENOENT: i32 = 2;
    pub const EIO: i32 = 5;
    pub const E2BIG: i32 = 7;
    pub const EAGAIN: i32 = 11;
    pub const EACCES: i32 = 13;
    pub const EBUSY: i32 = 16;
    pub const EEXIST: i32 = 17;
    pub const EINVAL: i32 = 22;
    pub const EFBIG: i32 = 27;
    pub const ENOSPC: i32 = 28;
    pub const EROFS: i32 = 30;
    pub const ERANGE: i32 = 34;
    pub const ENAMETOOLONG: i32 = 36;
    pub const ENODATA: i32 = 61;
    pub const EOVERFLOW: i32 = 75;
    pub const EOPNOTSUPP: i32 = 95;
    pub const ENOTCONN: i32 = 107;
    pub const EBLOCKLISTED: i32 = 108;
    pub const ETIMEDOUT: i32 = 110;
    pub const ESTALE: i32 = 116;
    pub const EDQUOT: i32 = 122;
    pub const ECANCELED: i32 = 125;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::{Decode, Encode};

    #[test]
    fn request_round_trips_and_refuses_truncation() {
        let request = Request {
            object: ObjectName::new("a"),
            ops: vec![
                Op::CompareXattr {
                    name: "x".into(),
                    compare: Compare::Equal {},
                    value: Bytes::new(),
                },
                Op::Write { offset: 3, data: Bytes::from(vec![1; 5000]) },
                Op::Exec { class: "bucket".into(), method: "put".into(), input: "i".into() },
            ],
            ..Request::default()
        };
        let bytes = request.to_bytes();
        assert_eq!(Request::from_bytes(bytes.clone()), Ok(request));
        for len in (0..bytes.len()).step_by(7) {
            assert!(Request::from_bytes(bytes.slice(..len)).is_err());
        }
    }
}
