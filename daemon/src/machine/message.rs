//! What daemons tell each other.
//!
//! Every data message names its placement group and interval; a receiver ignores those of any other
//! interval (R4). All may come late, twice, or after messages that were sent later on another session;
//! none may do harm then. The receiver's role in the interval says whether a message is for it at all.
//!
//! | message | from → to | carries |
//! |---|---|---|
//! | Ping, Pong | both ways, per pair | sign of life, leases (R5), map epoch |
//! | Stopping | to all peers | the end of a life, as planned |
//! | Join | member, learner → primary | "I have confirmed this interval; this is my log's end" |
//! | Sync | primary → member | the takeover (R7) |
//! | Adopt | primary → learner | the log to adopt (R12) |
//! | Cut | primary → member | the takeover with slots: how long the log is |
//! | Replicate | primary → member, learner | one entry |
//! | Ack | member, learner → primary | stored and applied up to here |
//! | Committed | primary → member, learner | applied at the primary up to here |
//! | Pull, Push, PushAck, PullRefused | whoever lacks an object ↔ whoever has it | a copy, in parts |
//! | Fetch, Fetched | primary ↔ member | bytes of a shard |
//! | Scan, Scanned | learner ↔ primary | names and versions, for backfill |
//! | Scrub, Scrubbed | primary ↔ member | digests of what there is |
//! | Mend | primary → member | "your copy is bad" |
//! | ScrubNote, ScrubNoted | primary ↔ member, learner | what is known of the group's scrubbing |

use super::scrub::{Digest, Scope, ScrubRecord};
use crate::store::{Install, LogEntry};
use bytes::Bytes;
use std::collections::BTreeMap;
use store_base::{ClientId, Epoch, Incarnation, Interval, ObjectName, PgId, Version};

/// Most bytes of one encoded message. The shell cuts it into frames.
pub const MESSAGE_BYTES_MAX: usize = 16 << 20;

/// Ties the progress of a learner to one adoption of the log, so that nothing that it acknowledged
/// before a new adoption is counted after it. Unique for the daemon that made it; 0 for members.
pub type Nonce = u64;

/// A message from one daemon to another.
#[derive(Clone, Debug, PartialEq)]
pub enum PeerMessage {
    /// A sign of life, and a request for a lease from the receiver to the sender.
    Ping {
        /// Which life of the sender asks; returned in the answer.
        life: Incarnation,
        /// The sender's monotonic clock in nanoseconds; returned in the answer, and only compared there.
        sent: u64,
        /// The sender has processed this map: it serves no interval that this map shows as over.
        epoch: Epoch,
        /// The sender's medium is full but for deletes.
        full: bool,
    },
    /// The answer: the sender of this grants a lease to the receiver, for every placement group that the
    /// receiver leads in the interval which the sender has confirmed, but for those excepted.
    Pong {
        /// Of the ping.
        life: Incarnation,
        /// Of the ping.
        sent: u64,
        /// The sender has processed this map.
        epoch: Epoch,
        /// For how long, from `sent` on. 0: nothing is granted.
        term_nanos: u64,
        /// Placement groups that the lease does not cover: the sender knows of a newer interval.
        excepted: Vec<PgId>,
        /// The sender's medium is full but for deletes.
        full: bool,
        /// Bytes that the receiver may have the sender store until the next pong (`room`).
        room: u64,
    },
    /// This life of the sender has ended its service for good: no lease that it was granted counts any more.
    Stopping {
        /// Which life.
        life: Incarnation,
    },
    /// The sender has confirmed the interval, as a member or learner, and asks to be synced or fed.
    Join {
        /// Which.
        pg: PgId,
        /// The interval confirmed.
        interval: Interval,
        /// Of the adoption that a learner's log stems from; 0 if it has not adopted in this interval.
        nonce: Nonce,
        /// If this leads to an adoption: its name. 0 from a member.
        wish: Nonce,
        /// Whether the sender has been through the takeover of this interval.
        synced: bool,
        /// Its last applied entry.
        applied: Version,
        /// Its last entry.
        head: Version,
    },
    /// The primary's log at the start of the interval, as far as members can differ from it: all up to
    /// `applied` is known to be committed, so a member has it.
    Sync {
        /// Which.
        pg: PgId,
        /// The interval.
        interval: Interval,
        /// The primary's last applied entry.
        applied: Version,
        /// The entries behind it, with mutations.
        staged: Vec<LogEntry>,
    },
    /// The takeover of a group with slots: entries behind `to` are dropped, by all.
    Cut {
        /// Which.
        pg: PgId,
        /// The interval.
        interval: Interval,
        /// All up to here is known to be committed.
        applied: Version,
        /// The last entry that stays; every member has it.
        to: Version,
    },
    /// The log that a learner takes over; what it has staged is dropped.
    Adopt {
        /// Which.
        pg: PgId,
        /// The interval.
        interval: Interval,
        /// The wish of the `Join` that this answers.
        nonce: Nonce,
        /// Whether `entries` continue the learner's own applied log. If not they replace it, and every
        /// object must be compared.
        overlaps: bool,
        /// The entry before the first of `entries` and `staged`.
        tail: Version,
        /// Applied entries, without mutations.
        entries: Vec<LogEntry>,
        /// The entries behind them, with mutations.
        staged: Vec<LogEntry>,
        /// With a log that replaces: what must be known of requests that were trimmed from it.
        trimmed: Trimmed,
    },
    /// One entry; the receiver stages it only behind `entry.previous`.
    Replicate {
        /// Which.
        pg: PgId,
        /// The interval.
        interval: Interval,
        /// The entry, with its mutation.
        entry: LogEntry,
        /// All up to here is committed.
        committed: Version,
    },
    /// The sender has, durable, all up to `stored`.
    Ack {
        /// Which.
        pg: PgId,
        /// The interval.
        interval: Interval,
        /// The adoption that this counts from; 0 of a member.
        nonce: Nonce,
        /// The last entry of which it and all before are durable.
        stored: Version,
        /// The last applied entry.
        applied: Version,
        /// How many objects are known to be lacking. A learner is complete with 0 and not `scanning`.
        missing: u64,
        /// Whether more may be found lacking.
        scanning: bool,
    },
    /// All up to here is committed, for many placement groups at once.
    Committed {
        /// Placement group, its interval, the last committed entry.
        points: Vec<CommitPoint>,
    },
    /// Asks for a copy of an object. A repeated pull of the object replaces the earlier one.
    Pull {
        /// Which.
        pg: PgId,
        /// The interval.
        interval: Interval,
        /// The object.
        object: ObjectName,
        /// Names this attempt; parts of others are ignored.
        attempt: u64,
        /// Only a copy of exactly this version is of use (a repair); `None`: of the primary's newest.
        version: Option<Version>,
    },
    /// Part of a copy.
    Push {
        /// Which.
        pg: PgId,
        /// The interval.
        interval: Interval,
        /// The object.
        object: ObjectName,
        /// Of the pull.
        attempt: u64,
        /// Counts the parts from 0.
        index: u32,
        /// What had been applied at the sender when the copy began; the object did not change since.
        as_of: Version,
        /// What the part consists of; a small object is one part. `Abort` means: there is no such object.
        parts: Vec<Install>,
    },
    /// The receiver of a copy is ready for more: all parts below `next` have been taken.
    PushAck {
        /// Which.
        pg: PgId,
        /// The interval.
        interval: Interval,
        /// The object.
        object: ObjectName,
        /// Of the pull.
        attempt: u64,
        /// The next part.
        next: u32,
        /// No more parts are needed: the copy is whole or not wanted.
        done: bool,
    },
    /// No copy comes from here.
    PullRefused {
        /// Which.
        pg: PgId,
        /// The interval.
        interval: Interval,
        /// The object.
        object: ObjectName,
        /// Of the pull.
        attempt: u64,
        /// The sender's copy is damaged too; ask somebody else. Otherwise: ask again later.
        damaged: bool,
    },
    /// Asks a member for bytes of its shard of an object.
    Fetch {
        /// Which.
        pg: PgId,
        /// The interval.
        interval: Interval,
        /// Names the question.
        number: u64,
        /// The object.
        object: ObjectName,
        /// Bytes of another version are of no use.
        version: Version,
        /// What had been applied at the primary; the object did not change since.
        as_of: Version,
        /// Positions in the shard: offset and length.
        ranges: Vec<(u64, u64)>,
    },
    /// The answer.
    Fetched {
        /// Which.
        pg: PgId,
        /// The interval.
        interval: Interval,
        /// Of the question.
        number: u64,
        /// For each range; shorter ones go on with zeros. `None`: there is no good shard of that version here.
        data: Option<Vec<Bytes>>,
    },
    /// Asks for names and versions of the objects behind `after`.
    Scan {
        /// Which.
        pg: PgId,
        /// The interval.
        interval: Interval,
        /// `None` for the start.
        after: Option<ObjectName>,
    },
    /// The answer.
    Scanned {
        /// Which.
        pg: PgId,
        /// The interval.
        interval: Interval,
        /// Of the scan.
        after: Option<ObjectName>,
        /// Objects behind `after` and their versions, in order, none left out.
        objects: Vec<(ObjectName, Version)>,
        /// Whether these were the last.
        end: bool,
        /// What had been applied at the primary.
        as_of: Version,
    },
    /// Asks for digests, made when the receiver has applied `as_of`.
    Scrub {
        /// Which.
        pg: PgId,
        /// The interval.
        interval: Interval,
        /// Names the round; answers to others are ignored.
        number: u64,
        /// Bytes are read too.
        deep: bool,
        /// What the primary had applied when the round began.
        as_of: Version,
        /// Of what.
        scope: Scope,
    },
    /// The answer.
    Scrubbed {
        /// Which.
        pg: PgId,
        /// The interval.
        interval: Interval,
        /// Of the round.
        number: u64,
        /// Of every object in the scope that is there.
        digests: Vec<Digest>,
        /// Up to here everything was looked at; `None`: the whole scope.
        covered: Option<ObjectName>,
        /// Why objects could not be listed; empty if they could.
        failed: String,
    },
    /// The receiver's copy of an object is bad: it must fetch the primary's, or remove its own.
    Mend {
        /// Which.
        pg: PgId,
        /// The interval.
        interval: Interval,
        /// The object.
        object: ObjectName,
        /// Of the copy to fetch; `None`: there must be none.
        version: Option<Version>,
        /// What the primary had applied when it judged.
        as_of: Version,
    },
    /// What the primary knows of the group's scrubbing.
    ScrubNote {
        /// Which.
        pg: PgId,
        /// The interval.
        interval: Interval,
        /// What.
        record: ScrubRecord,
        /// The receiver's own copies were verified since then; 0: nothing is said of that.
        verified: u64,
    },
    /// The answer: since when the sender's own copies are verified.
    ScrubNoted {
        /// Which.
        pg: PgId,
        /// The interval.
        interval: Interval,
        /// Since when; 0: not known.
        verified: u64,
        /// What the sender knows, if it is newer.
        record: Option<ScrubRecord>,
    },
}

store_base::codec_enum!(PeerMessage {
    1 => Ping { life, sent, epoch, full },
    2 => Pong { life, sent, epoch, term_nanos, excepted, full, room },
    3 => Stopping { life },
    16 => Join { pg, interval, nonce, wish, synced, applied, head },
    17 => Sync { pg, interval, applied, staged },
    19 => Cut { pg, interval, applied, to },
    18 => Adopt { pg, interval, nonce, overlaps, tail, entries, staged, trimmed },
    32 => Replicate { pg, interval, entry, committed },
    33 => Ack { pg, interval, nonce, stored, applied, missing, scanning },
    34 => Committed { points },
    48 => Pull { pg, interval, object, attempt, version },
    49 => Push { pg, interval, object, attempt, index, as_of, parts },
    50 => PushAck { pg, interval, object, attempt, next, done },
    51 => PullRefused { pg, interval, object, attempt, damaged },
    52 => Fetch { pg, interval, number, object, version, as_of, ranges },
    53 => Fetched { pg, interval, number, data },
    64 => Scan { pg, interval, after },
    65 => Scanned { pg, interval, after, objects, end, as_of },
    96 => Scrub { pg, interval, number, deep, as_of, scope },
    97 => Scrubbed { pg, interval, number, digests, covered, failed },
    98 => Mend { pg, interval, object, version, as_of },
    99 => ScrubNote { pg, interval, record, verified },
    100 => ScrubNoted { pg, interval, verified, record },
});

/// One of many in [`PeerMessage::Committed`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CommitPoint {
    /// Which.
    pub pg: PgId,
    /// The interval.
    pub interval: Interval,
    /// The last committed entry.
    pub version: Version,
}
store_base::codec_struct!(CommitPoint { pg, interval, version });

/// What is left of requests whose entries were trimmed from a log (R11): enough to refuse a resend that
/// may have been applied.
///
/// Versioned form, version 1.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Trimmed {
    /// The highest trimmed request by client and client incarnation.
    pub highest: BTreeMap<(ClientId, u32), u64>,
    /// Clients up to this one that are not in `highest` were forgotten: any resend of theirs is refused.
    pub floor: ClientId,
}
store_base::codec_versioned!(Trimmed, 1, 1 { highest, floor });

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{Change, Mutation};
    use store_base::codec::{Decode, Encode};
    use store_base::{PoolId, RequestId};

    fn pg() -> PgId {
        PgId { pool: PoolId(1), seed: 0x2a }
    }

    fn examples() -> Vec<PeerMessage> {
        let object = ObjectName::new("o");
        let version = Version { interval: Interval(3), counter: 9 };
        let entry = LogEntry {
            version,
            object: object.clone(),
            request: Some(RequestId::default()),
            mutation: Some(Mutation {
                changes: vec![Change::Write { offset: 1, data: Bytes::from(vec![7; 3000]) }],
                info: None,
            }),
            ..LogEntry::default()
        };
        let (pg, interval) = (pg(), Interval(3));
        let point = CommitPoint { pg, interval, version };
        vec![
            PeerMessage::Pong {
                life: Incarnation(2),
                sent: 5,
                epoch: Epoch(7),
                term_nanos: 9,
                excepted: vec![pg],
                full: true,
                room: 5 << 30,
            },
            PeerMessage::Sync { pg, interval, applied: version, staged: vec![entry.clone()] },
            PeerMessage::Adopt {
                pg,
                interval,
                nonce: 4,
                overlaps: false,
                tail: version,
                entries: vec![entry.clone()],
                staged: vec![],
                trimmed: Trimmed {
                    highest: BTreeMap::from([((ClientId(1), 2), 3)]),
                    floor: ClientId(1),
                },
            },
            PeerMessage::Replicate { pg, interval, entry, committed: version },
            PeerMessage::Committed { points: vec![point, point] },
            PeerMessage::Push {
                pg,
                interval,
                object: object.clone(),
                attempt: 1,
                index: 0,
                as_of: version,
                parts: vec![Install::Start {}, Install::Abort {}],
            },
            PeerMessage::Scanned {
                pg,
                interval,
                after: Some(object.clone()),
                objects: vec![(object.clone(), version)],
                end: true,
                as_of: version,
            },
            PeerMessage::Cut { pg, interval, applied: version, to: version },
            PeerMessage::Fetch {
                pg,
                interval,
                number: 7,
                object: object.clone(),
                version,
                as_of: version,
                ranges: vec![(4096, 12)],
            },
            PeerMessage::Fetched {
                pg,
                interval,
                number: 7,
                data: Some(vec![Bytes::from_static(b"shard")]),
            },
            PeerMessage::Scrub {
                pg,
                interval,
                number: 7,
                deep: true,
                as_of: version,
                scope: Scope::Range { after: Some(object.clone()), to: None, max: 9 },
            },
            PeerMessage::Scrubbed {
                pg,
                interval,
                number: 7,
                digests: vec![Digest { object: object.clone(), version, ..Digest::default() }],
                covered: Some(object.clone()),
                failed: "no".into(),
            },
            PeerMessage::Mend { pg, interval, object, version: Some(version), as_of: version },
            PeerMessage::ScrubNoted {
                pg,
                interval,
                verified: 3,
                record: Some(ScrubRecord::default()),
            },
        ]
    }

    #[test]
    fn messages_round_trip_and_refuse_truncation() {
        for message in examples() {
            let bytes = message.to_bytes();
            assert_eq!(PeerMessage::from_bytes(bytes.clone()), Ok(message));
            for len in (0..bytes.len()).step_by(11) {
                assert!(PeerMessage::from_bytes(bytes.slice(..len)).is_err());
            }
        }
    }

    #[test]
    fn a_ping_looks_so() {
        let ping =
            PeerMessage::Ping { life: Incarnation(2), sent: 3, epoch: Epoch(4), full: false };
        let golden = b"\x01\x02\0\0\0\0\0\0\0\x03\0\0\0\0\0\0\0\x04\0\0\0\0";
        assert_eq!(ping.to_bytes()[..], *golden);
    }
}
