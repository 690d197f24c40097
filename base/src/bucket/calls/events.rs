//! Events: who is told of a change, and what waits for its delivery.

use super::super::records::*;
use bytes::Bytes;

/// Most events that wait in one shard. A change that would add one more is refused.
pub const EVENTS_MAX: u64 = 10_000;

/// Who is told of a change, should it be made.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Notes {
    /// One for each who is told.
    pub notices: Vec<Notice>,
    /// Who asks for the change.
    pub requester: String,
    /// From where.
    pub address: String,
    /// The id of the request.
    pub request: String,
}
crate::codec_struct!(Notes { notices, requester, address, request });

/// One who is told.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Notice {
    /// Whether of a delete marker that is made; otherwise of an object that is made, or removed for good.
    pub marker: bool,
    /// The event's name, without `s3:`.
    pub event: String,
    /// The id of the rule that wants it.
    pub rule: String,
    /// The name of the endpoint that is told.
    pub endpoint: String,
}
crate::codec_struct!(Notice { marker, event, rule, endpoint });

/// An event that waits for its delivery.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EventRecord {
    /// The key that it is about.
    pub key: Bytes,
    /// The object that was made or removed, or the delete marker.
    pub entry: Entry,
    /// What happened, and who is told.
    pub notice: Notice,
    /// When, in ms since 1970 by the daemon's clock.
    pub at_ms: u64,
    /// As in [`Notes`].
    pub requester: String,
    /// As in [`Notes`].
    pub address: String,
    /// As in [`Notes`].
    pub request: String,
}
crate::codec_versioned!(EventRecord, 1, 1 { key, entry, notice, at_ms, requester, address, request });

/// `events`: the oldest events. Output: `Answer<Vec<(u64, EventRecord)>>`, by number; `NoBucket`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Events {
    /// Only those with a greater number.
    pub after: u64,
    /// At most so many; fewer come where they are long. None are left when none come.
    pub max: u32,
}
crate::codec_struct!(Events { after, max });

/// `delivered`: these events are delivered, or given up. Output: `Answer<Nothing>`; `NoBucket`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Delivered {
    /// By number.
    pub events: Vec<u64>,
}
crate::codec_struct!(Delivered { events });
