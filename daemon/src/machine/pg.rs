//! A placement group as this daemon has it: what is durable, what role it plays, who waits.
//!
//! # Invariants
//!
//! - `known` is the newest record seen, `confirmed` the one stored last: it acts in `confirmed` only, and
//!   only while `known` is of the same interval; `role` is `Idle` otherwise.
//! - What `confirmed`, `synced`, `nonce`, `catch_up` and `trimmed` say is in the store no later than what
//!   was told to anybody because of it.
//! - `waiters` are answered when their version is applied and the lease holds, or sent away when another
//!   daemon leads.

use super::catch_up::CatchUp;
use super::copy::{Pull, Push};
use super::core::{Core, Timer};
use super::event::LinkId;
use super::execute::{Done, Overlay};
use super::log::Log;
use super::message::{Nonce, Trimmed};
use super::queue::Queue;
use super::read::Job;
use super::scrub::{Scrub, ScrubRecord};
use super::slots::{Fetching, Gather, Layout};
use super::watch::Watches;
use crate::store::{Mutation, PgState, Store, StoreError, Write};
use bytes::Bytes;
use std::collections::{BTreeMap, BTreeSet};
use store_base::codec::{Decode, Encode};
use store_base::map::PgRecord;
use store_base::op::Outcome;
use store_base::{DaemonId, Interval, ObjectName, PgId, RequestId, Time, Version};

/// Named values in the store.
pub(crate) mod key {
    pub(crate) const CONFIRMED: &[u8] = b"confirmed";
    pub(crate) const SYNCED: &[u8] = b"synced";
    pub(crate) const CATCH_UP: &[u8] = b"catch_up";
    pub(crate) const TRIMMED: &[u8] = b"trimmed";
    /// The `pg_num` of the pool by which the objects are here.
    pub(crate) const PG_NUM: &[u8] = b"pg_num";
    pub(crate) const SCRUB: &[u8] = b"scrub";
    /// The entry before the first of the log.
    pub(crate) const TAIL: &[u8] = b"tail";
}

/// What the primary knows of a member or learner in its interval.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Progress {
    /// It has been through the takeover; a learner: it is fed with entries.
    pub(crate) synced: bool,
    /// The adoption that its acknowledgements count from.
    pub(crate) nonce: Nonce,
    /// It has all up to here.
    pub(crate) stored: Version,
    /// It has applied all up to here.
    pub(crate) applied: Version,
    /// Objects that it knows to lack.
    pub(crate) missing: u64,
    /// It may find more.
    pub(crate) scanning: bool,
    /// When something was last sent that it has not acknowledged.
    pub(crate) sent: Time,
}

impl Progress {
    /// Nothing is lacking (of a learner).
    pub(crate) fn is_complete(&self) -> bool {
        self.synced && self.missing == 0 && !self.scanning
    }
}

/// How far a primary has come with its interval.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Phase {
    /// Members are being synced (R7).
    Syncing,
    /// All are; the monitor has not yet said that it took note (R3).
    Activating,
    /// It may serve.
    Active,
}

/// Leads the interval.
#[derive(Clone, Debug)]
pub(crate) struct Primary {
    pub(crate) phase: Phase,
    /// Other members.
    pub(crate) members: BTreeMap<DaemonId, Progress>,
    pub(crate) learners: BTreeMap<DaemonId, Progress>,
    /// The learner whose promotion was asked for (R13): needed like a member from then on.
    pub(crate) asked: Option<DaemonId>,
    /// Its own log is durable up to here.
    pub(crate) stored: Version,
    /// The end of the log when the interval began.
    pub(crate) began: Version,
    pub(crate) overlay: Overlay,
    /// With slots: what the logs of the other members are, applied and whole.
    pub(crate) ends: BTreeMap<DaemonId, (Version, Version)>,
    /// With slots: the end of the log that all have been cut to.
    pub(crate) truth: Option<Version>,
    /// With slots: what each slot does, by entries of this interval that somebody may have to be sent again.
    pub(crate) shards: BTreeMap<Version, Vec<Mutation>>,
}

impl Primary {
    /// Who must acknowledge and grant leases.
    pub(crate) fn needed(&self) -> impl Iterator<Item = DaemonId> {
        self.members.keys().copied().chain(self.asked)
    }

    pub(crate) fn progress(&mut self, of: DaemonId) -> Option<&mut Progress> {
        self.members.get_mut(&of).or_else(|| self.learners.get_mut(&of))
    }

    /// Who is sent new entries.
    pub(crate) fn fed(&self) -> Vec<DaemonId> {
        let learners = self.learners.iter().filter(|(_, progress)| progress.synced);
        self.members.keys().copied().chain(learners.map(|(id, _)| *id)).collect()
    }
}

/// Follows the primary of the interval.
#[derive(Clone, Debug)]
pub(crate) struct Replica {
    pub(crate) primary: DaemonId,
    pub(crate) is_learner: bool,
    /// Its log is the primary's: the takeover or adoption is under way to the disk or there.
    pub(crate) synced: bool,
    /// The log is durable up to here, takeover included. `None`: nothing can be acknowledged yet.
    pub(crate) stored: Option<Version>,
    /// The adoption asked for; 0 for none.
    pub(crate) wish: Nonce,
    /// When to ask again.
    pub(crate) join_at: Time,
}

/// What this daemon is in the interval.
#[derive(Clone, Debug, Default)]
pub(crate) enum Role {
    /// Nothing (now).
    #[default]
    Idle,
    Primary(Box<Primary>),
    Replica(Replica),
}

/// Who is told when an entry is applied.
#[derive(Clone, Debug)]
pub(crate) enum Waiter {
    /// What the entry says.
    Entry { link: LinkId, id: RequestId },
    /// Something that was computed over open entries.
    Answer {
        link: LinkId,
        id: RequestId,
        object: ObjectName,
        done: Box<Done>,
        outcome: Outcome,
        /// The request was a mutation.
        mutates: bool,
    },
    /// The same as the answer of the same request, which waits before it.
    Twin { link: LinkId, id: RequestId },
}

impl Waiter {
    pub(crate) fn whom(&self) -> (LinkId, RequestId) {
        match self {
            Waiter::Entry { link, id }
            | Waiter::Answer { link, id, .. }
            | Waiter::Twin { link, id } => (*link, *id),
        }
    }
}

/// The name of an interval that was synced, as stored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Synced {
    pub(crate) interval: Interval,
    pub(crate) nonce: Nonce,
}
store_base::codec_struct!(Synced { interval, nonce });

/// See the module.
#[derive(Debug)]
pub(crate) struct Pg {
    pub(crate) id: PgId,
    /// It was in the store when this life began: leases may be out that it does not know of (R6).
    pub(crate) loaded: bool,
    /// It is in the store.
    pub(crate) stored: bool,

    /// The `pg_num` of the pool by which the objects are here; durable. 0: not known yet.
    pub(crate) pg_num: u32,

    // What the map says.
    pub(crate) known: PgRecord,
    pub(crate) size: usize,
    pub(crate) min_size: usize,
    /// How objects lie over slots; `None` where copies are kept.
    pub(crate) slots: Option<Layout>,

    // Durable.
    pub(crate) confirmed: PgRecord,
    pub(crate) synced: Synced,
    pub(crate) log: Log,
    pub(crate) catch_up: Option<CatchUp>,
    pub(crate) trimmed: Trimmed,

    // Volatile.
    /// When the leases have run out that this daemon granted for the group before it knew of an interval
    /// with another primary.
    pub(crate) grants_end: Time,
    /// The interval that is on its way to the disk.
    pub(crate) confirming: Option<PgRecord>,
    pub(crate) role: Role,
    pub(crate) queue: Queue,
    pub(crate) waiters: BTreeMap<Version, Vec<Waiter>>,
    /// At which version a mutation waits that was answered without an entry; some do so no more.
    pub(crate) answering: BTreeMap<RequestId, Version>,
    /// Effects of entries, for watches, when they are committed.
    pub(crate) effects: BTreeMap<Version, (RequestId, ObjectName, Done)>,
    pub(crate) watches: Watches,
    /// Requests whose answer a notification keeps back.
    pub(crate) notifying: BTreeMap<RequestId, (LinkId, ObjectName)>,
    pub(crate) jobs: BTreeMap<u64, Job>,
    /// Objects that a job with a mutation is reading: nothing else may change them.
    pub(crate) locked: BTreeSet<ObjectName>,
    /// Copies on their way in.
    pub(crate) pulls: BTreeMap<ObjectName, Pull>,
    /// Copies on their way out.
    pub(crate) pushes: BTreeMap<(DaemonId, ObjectName), Push>,
    /// Objects whose copy here is damaged, and how often a good one was asked for.
    pub(crate) damaged: BTreeMap<ObjectName, u32>,
    /// Bytes on their way from members' shards.
    pub(crate) gathers: BTreeMap<u64, Gather>,
    /// Bytes of the shards here on their way to the primary.
    pub(crate) fetches: BTreeMap<u64, Fetching>,
    pub(crate) scrub: Scrub,
    pub(crate) wake: Option<Time>,
}

impl Pg {
    /// One that is not in the store.
    pub(crate) fn new(id: PgId, seed: u64) -> Pg {
        Pg {
            id,
            loaded: false,
            stored: false,
            pg_num: 0,
            known: PgRecord::default(),
            size: 0,
            min_size: 0,
            slots: None,
            confirmed: PgRecord::default(),
            synced: Synced::default(),
            log: Log::default(),
            catch_up: None,
            trimmed: Trimmed::default(),
            grants_end: Time::ZERO,
            confirming: None,
            role: Role::Idle,
            queue: Queue::default(),
            waiters: BTreeMap::new(),
            answering: BTreeMap::new(),
            effects: BTreeMap::new(),
            watches: Watches::new(seed),
            notifying: BTreeMap::new(),
            jobs: BTreeMap::new(),
            locked: BTreeSet::new(),
            pulls: BTreeMap::new(),
            pushes: BTreeMap::new(),
            damaged: BTreeMap::new(),
            gathers: BTreeMap::new(),
            fetches: BTreeMap::new(),
            scrub: Scrub::default(),
            wake: None,
        }
    }

    /// As a store has it.
    pub(crate) fn load(id: PgId, seed: u64, state: PgState) -> Result<Pg, StoreError> {
        let meta = &state.meta;
        let damaged = |what: &[u8]| {
            StoreError::Damaged(format!("{} of placement group {id}", what.escape_ascii()))
        };
        fn value<T: Decode + Default>(bytes: Option<&Bytes>) -> Result<T, ()> {
            bytes.map_or(Ok(T::default()), |bytes| T::from_bytes(bytes.clone()).map_err(|_| ()))
        }
        let tail = value(meta.get(key::TAIL)).map_err(|()| damaged(key::TAIL))?;
        let catch_up: Option<CatchUp> = match meta.get(key::CATCH_UP) {
            Some(bytes) => {
                Some(CatchUp::from_bytes(bytes.clone()).map_err(|_| damaged(key::CATCH_UP))?)
            }
            None => None,
        };
        let record: ScrubRecord = value(meta.get(key::SCRUB)).map_err(|()| damaged(key::SCRUB))?;
        Ok(Pg {
            loaded: true,
            stored: true,
            pg_num: value(meta.get(key::PG_NUM)).map_err(|()| damaged(key::PG_NUM))?,
            confirmed: value(meta.get(key::CONFIRMED)).map_err(|()| damaged(key::CONFIRMED))?,
            synced: value(meta.get(key::SYNCED)).map_err(|()| damaged(key::SYNCED))?,
            trimmed: value(meta.get(key::TRIMMED)).map_err(|()| damaged(key::TRIMMED))?,
            catch_up,
            scrub: Scrub { record, ..Scrub::default() },
            log: Log::new(tail, state.applied, state.staged),
            ..Pg::new(id, seed)
        })
    }

    /// The interval in which it acts.
    pub(crate) fn interval(&self) -> Interval {
        self.confirmed.interval
    }

    pub(crate) fn primary(&mut self) -> Option<&mut Primary> {
        match &mut self.role {
            Role::Primary(primary) => Some(primary),
            _ => None,
        }
    }

    pub(crate) fn replica(&mut self) -> Option<&mut Replica> {
        match &mut self.role {
            Role::Replica(replica) => Some(replica),
            _ => None,
        }
    }

    /// Whether it serves clients now: active, and every lease held (R3, R5).
    pub(crate) fn serves<S: Store>(&self, core: &Core<S>) -> bool {
        self.serves_at(core, core.now)
    }

    pub(crate) fn serves_at<S: Store>(&self, core: &Core<S>, now: Time) -> bool {
        match &self.role {
            Role::Primary(primary) => {
                primary.phase == Phase::Active
                    && primary.needed().all(|daemon| core.has_lease_at(daemon, self.id, now))
            }
            _ => false,
        }
    }

    /// Whether entries can become committed (R10).
    pub(crate) fn is_writable(&self) -> bool {
        self.confirmed.width() >= self.min_size
    }

    /// Whether the map has this daemon lead, as this life.
    pub(crate) fn leads<S: Store>(&self, core: &Core<S>) -> bool {
        self.known.primary == core.me
            && self.known.primary_incarnation == core.incarnation
            && self.known.interval.0 > 0
    }

    pub(crate) fn set_wake<S: Store>(&mut self, core: &mut Core<S>, at: Time) {
        if self.wake.is_none_or(|wake| at < wake) {
            self.wake = Some(at);
            core.set_timer(at, Timer::Pg(self.id));
        }
    }

    /// A named value, for a batch.
    pub(crate) fn meta(&self, key: &'static [u8], value: &impl Encode) -> Write {
        let value = Some(value.to_bytes());
        Write::Meta { pg: self.id, key: Bytes::from_static(key), value }
    }
}
