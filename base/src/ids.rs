//! Every id is its own type; a pool id cannot be passed for a daemon id.

use crate::codec::{Decode, DecodeError, Encode, Reader, Writer};
use crate::hash::{stable_mod, stable_span};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::ops::RangeInclusive;

macro_rules! id {
    ($(#[$doc:meta])* $name:ident($inner:ty), $prefix:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub $inner);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!($prefix, "{}"), self.0)
            }
        }

        impl Encode for $name {
            fn encode(&self, out: &mut Writer) {
                self.0.encode(out);
            }
        }

        impl Decode for $name {
            fn decode(input: &mut Reader) -> Result<Self, DecodeError> {
                Ok(Self(Decode::decode(input)?))
            }
        }
    };
}

id!(
    /// A daemon (Ceph: OSD id). Dense from 0; never negative for a real daemon.
    DaemonId(i32), "osd."
);
id!(
    /// A pool. From 1, never reused.
    PoolId(i64), ""
);
id!(
    /// The number of a map. Strictly +1 with every change; 0 means "no map yet".
    Epoch(u32), ""
);
id!(
    /// The number of a placement group's configuration (DESIGN 5, R1). Raised by every change of the
    /// configuration except activation.
    Interval(u32), ""
);
id!(
    /// One life of a daemon process. A daemon raises and stores it before it speaks (R6).
    Incarnation(u64), ""
);
id!(
    /// A client instance, given by the monitor and never reused (Ceph: global_id).
    ClientId(u64), "client."
);
id!(
    /// A snapshot of a pool. `HEAD` is the live object.
    SnapId(u64), ""
);
id!(
    /// Correlates a request to a disk or a peer with the event that answers it.
    Ticket(u64), "#"
);

impl SnapId {
    /// The live object (Ceph: CEPH_NOSNAP).
    pub const HEAD: SnapId = SnapId(u64::MAX - 1);
}

impl Epoch {
    /// The epoch after this one.
    pub fn next(self) -> Epoch {
        Epoch(self.0 + 1)
    }
}

impl Interval {
    /// The interval after this one.
    pub fn next(self) -> Interval {
        Interval(self.0 + 1)
    }
}

/// The identity of a cluster: 16 random bytes made at bootstrap, shown as a UUID.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClusterId(pub [u8; 16]);

impl fmt::Display for ClusterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, byte) in self.0.iter().enumerate() {
            if matches!(i, 4 | 6 | 8 | 10) {
                f.write_str("-")?;
            }
            write!(f, "{byte:02x}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for ClusterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl std::str::FromStr for ClusterId {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let digits: String = text.chars().filter(|c| *c != '-').collect();
        if digits.len() != 32 || !digits.is_ascii() {
            return Err(format!("{text:?} is not a cluster id (a UUID of 32 hex digits)"));
        }
        let mut id = [0; 16];
        for (i, byte) in id.iter_mut().enumerate() {
            *byte = u8::from_str_radix(&digits[2 * i..2 * i + 2], 16)
                .map_err(|_| format!("{text:?} is not a cluster id (a UUID of 32 hex digits)"))?;
        }
        Ok(ClusterId(id))
    }
}

impl Encode for ClusterId {
    fn encode(&self, out: &mut Writer) {
        out.put_slice(&self.0);
    }
}

impl Decode for ClusterId {
    fn decode(input: &mut Reader) -> Result<Self, DecodeError> {
        let mut id = [0; 16];
        id.copy_from_slice(&input.take(16)?);
        Ok(ClusterId(id))
    }
}

impl Serialize for ClusterId {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for ClusterId {
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        String::deserialize(d)?.parse().map_err(serde::de::Error::custom)
    }
}

/// A placement group: a pool and a seed below its `pg_num`. Shown as Ceph shows it, `1.2a`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PgId {
    /// The pool.
    pub pool: PoolId,
    /// `stable_mod(hash(object), pg_num)`.
    pub seed: u32,
}

impl PgId {
    /// The groups that are split off this one when the `pg_num` of its pool grows.
    pub fn children(self, from: u32, to: u32) -> impl Iterator<Item = PgId> {
        let seeds = (from..to).filter(move |seed| stable_mod(*seed, from) == self.seed);
        seeds.map(move |seed| PgId { pool: self.pool, seed })
    }

    /// Whether it is split off another when the `pg_num` of the pool grows from a number.
    pub fn is_child_of(self, parent: PgId, from: u32) -> bool {
        let is_new = self.pool == parent.pool && self.seed >= from;
        is_new && stable_mod(self.seed, from) == parent.seed
    }

    /// The bit-reversed hashes of its objects in a pool with `pg_num` groups.
    pub fn span(self, pg_num: u32) -> RangeInclusive<u32> {
        stable_span(self.seed, pg_num)
    }
}

impl fmt::Display for PgId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:x}", self.pool, self.seed)
    }
}

impl std::str::FromStr for PgId {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parsed = text.split_once('.').and_then(|(pool, seed)| {
            Some(PgId {
                pool: PoolId(pool.parse().ok()?),
                seed: u32::from_str_radix(seed, 16).ok()?,
            })
        });
        parsed.ok_or_else(|| format!("{text:?} is not a placement group (POOL.SEED, as in 1.2a)"))
    }
}

crate::codec_struct!(PgId { pool, seed });

/// The place of an entry in a placement group's log: the interval that gave it and a counter that
/// never falls. Ordered by interval, then counter.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct Version {
    /// The interval in which the primary gave this version.
    pub interval: Interval,
    /// +1 with every entry of the placement group, across intervals.
    pub counter: u64,
}

impl Version {
    /// Before the first entry of any log.
    pub const ZERO: Version = Version { interval: Interval(0), counter: 0 };
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}'{}", self.interval, self.counter)
    }
}

crate::codec_struct!(Version { interval, counter });

/// Names one mutation of one client for good: a resent request carries the same id and is never
/// applied twice (R11).
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct RequestId {
    /// Who asks.
    pub client: ClientId,
    /// Which life of that client.
    pub incarnation: u32,
    /// The client's own counter, never reused in one life.
    pub tid: u64,
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}:{}", self.client, self.incarnation, self.tid)
    }
}

crate::codec_struct!(RequestId { client, incarnation, tid });

/// Wall-clock time, UTC, since 1970.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct Timestamp {
    /// Seconds.
    pub secs: u64,
    /// Nanoseconds below one second.
    pub nanos: u32,
}

impl Timestamp {
    /// Milliseconds since 1970.
    pub fn millis(self) -> u64 {
        self.secs * 1000 + u64::from(self.nanos / 1_000_000)
    }
}

crate::codec_struct!(Timestamp { secs, nanos });
