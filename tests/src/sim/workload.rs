//! What clients do, and what they remember of it.
//!
//! - **Lists**, shared by all clients: an append adds a unique number to an object's bytes; a read sees a
//!   list of numbers. Total order, loss and double effect show at once.
//! - **Chains**, shared: an omap key is replaced by a unique value if it still is what the client read
//!   (guard and mutation in one vector). A fork is a lost update.
//! - **Own objects**, one client each: random vectors over bytes, xattrs and omap against a model.

use crate::sim::random::Random;
use crate::sim::schedule::{Omitted, Setup};
use bytes::Bytes;
use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;
use store_base::codec::Decode;
use store_base::error::Error;
use store_base::op::{Compare, OmapPage, Op, errno};
use store_base::{ObjectName, PoolId, Ticket, Time, Timestamp};
use store_client::machine::{Done, Submission, Target};

/// After this long the client gives up; longer than any fault lasts, so that few outcomes stay unknown.
pub const DEADLINE: Duration = Duration::from_secs(60);

/// Key of a chain's value.
const CHAIN_KEY: &[u8] = b"v";

/// What one operation of the history was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Appends this number to a list.
    Append(u64),
    /// Saw this list. For a chain: this value alone (0 for none).
    Saw(Vec<u64>),
    /// Replaced the first by the second in a chain.
    Replace(u64, u64),
}

/// An operation on a shared object.
#[derive(Clone, Debug)]
pub struct Operation {
    /// Which list or chain.
    pub object: String,
    /// What.
    pub kind: Kind,
    /// When it was submitted.
    pub began: Time,
    /// When it was answered; `None` if nobody knows whether it took effect.
    pub ended: Option<Time>,
}

/// The state of an own object, as its client believes it to be.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Model {
    /// Whether it exists.
    pub exists: bool,
    /// Its bytes.
    pub data: Vec<u8>,
    /// Its xattrs.
    pub xattrs: BTreeMap<Bytes, Bytes>,
    /// Its omap.
    pub omap: BTreeMap<Bytes, Bytes>,
}

impl Model {
    /// Applies a vector of mutations as a daemon would; `Err` with the errno if it fails as a whole.
    fn apply(&self, ops: &[Op]) -> Result<Model, i32> {
        let mut next = self.clone();
        for op in ops {
            next.apply_one(op)?;
        }
        Ok(next)
    }

    fn apply_one(&mut self, op: &Op) -> Result<(), i32> {
        match op {
            Op::Create { exclusive } => {
                if *exclusive && self.exists {
                    return Err(errno::EEXIST);
                }
            }
            Op::Write { offset, data } => {
                let end = *offset as usize + data.len();
                if !data.is_empty() && self.data.len() < end {
                    self.data.resize(end, 0);
                }
                self.data[*offset as usize..end].copy_from_slice(data);
            }
            Op::WriteFull { data } => self.data = data.to_vec(),
            Op::Append { data } => self.data.extend_from_slice(data),
            // No-ops of RADOS when there is no object.
            Op::Truncate { .. } | Op::Zero { .. } if !self.exists => return Ok(()),
            Op::Truncate { size } => self.data.resize(*size as usize, 0),
            Op::Zero { offset, length } => {
                let len = self.data.len();
                let (from, to) = (*offset as usize, (*offset + *length) as usize);
                self.data[from.min(len)..to.min(len)].fill(0);
            }
            Op::Delete {} => {
                if !self.exists {
                    return Err(errno::ENOENT);
                }
                *self = Model::default();
                return Ok(());
            }
            Op::SetXattr { name, value } => {
                self.xattrs.insert(name.clone(), value.clone());
            }
            Op::OmapSet { entries } => {
                self.omap.extend(entries.iter().map(|(k, v)| (k.clone(), v.clone())));
            }
            Op::OmapRemove { keys } => {
                if !self.exists {
                    return Err(errno::ENOENT);
                }
                keys.iter().for_each(|key| {
                    self.omap.remove(key);
                });
            }
            other => unreachable!("the workload makes no {other:?}"),
        }
        self.exists = true;
        Ok(())
    }
}

/// An own object: one operation at a time.
#[derive(Clone, Debug, Default)]
struct Own {
    /// What it may be: one state, or more after an outcome that nobody knows.
    states: Vec<Model>,
    busy: bool,
    /// An outcome is unknown: it may still take effect, so nothing more is done to it.
    retired: bool,
}

#[derive(Clone, Debug)]
enum Pending {
    Shared { at: usize },
    ReadList { object: String, began: Time },
    ReadChain { object: String, began: Time },
    Own { object: String, ops: Vec<Op> },
    ReadOwn { object: String },
}

/// What one client does.
pub struct Workload {
    client: u64,
    pool: PoolId,
    seed: u64,
    /// Of the present operation: one that is left out changes no other.
    random: Random,
    lists: u64,
    /// The pool has slots: no omap, so no chains.
    slots: bool,
    /// Counts the operations.
    ordinal: u64,
    /// Operations left out.
    omitted: Vec<Omitted>,
    own: BTreeMap<String, Own>,
    pending: BTreeMap<Ticket, Pending>,
    ticket_last: u64,
    /// What chains were last seen to hold.
    chain_seen: BTreeMap<String, u64>,
    /// What happened to shared objects.
    pub history: Vec<Operation>,
    /// Broken promises, in words.
    pub broken: Vec<String>,
    /// Operations answered.
    pub answered: u64,
    /// Operations whose outcome nobody knows.
    pub unknown: u64,
    /// The last reads of everything, at the quiet end.
    last_reads: VecDeque<Pending>,
}

impl Workload {
    /// A client's work on a pool.
    pub fn new(
        client: u64,
        pool: PoolId,
        seed: u64,
        setup: &Setup,
        omitted: Vec<Omitted>,
    ) -> Workload {
        let own = (0..setup.own).map(|i| {
            let own = Own { states: vec![Model::default()], ..Own::default() };
            (format!("own/{client}/{i}"), own)
        });
        Workload {
            client,
            pool,
            seed: seed ^ client << 40,
            random: Random::new(seed),
            lists: setup.lists,
            slots: setup.code().is_some(),
            ordinal: 0,
            omitted,
            own: own.collect(),
            pending: BTreeMap::new(),
            ticket_last: 0,
            chain_seen: BTreeMap::new(),
            history: Vec::new(),
            broken: Vec::new(),
            answered: 0,
            unknown: 0,
            last_reads: VecDeque::new(),
        }
    }

    /// Operations under way.
    pub fn under_way(&self) -> usize {
        self.pending.len()
    }

    /// Whether all last reads were asked for and answered.
    pub fn is_done(&self) -> bool {
        self.last_reads.is_empty() && self.pending.is_empty()
    }

    /// The load is over: from now on every object is read once more.
    pub fn begin_last_reads(&mut self, now: Time) {
        for i in 0..self.lists {
            self.last_reads
                .push_back(Pending::ReadList { object: format!("list/{i}"), began: now });
            if !self.slots {
                self.last_reads
                    .push_back(Pending::ReadChain { object: format!("chain/{i}"), began: now });
            }
        }
        for object in self.own.keys() {
            self.last_reads.push_back(Pending::ReadOwn { object: object.clone() });
        }
    }

    /// The next of the last reads.
    pub fn next_last_read(
        &mut self,
        now: Time,
        world: Time,
        wall: Timestamp,
    ) -> Option<(Ticket, Submission)> {
        let pending = match self.last_reads.pop_front()? {
            Pending::ReadList { object, .. } => Pending::ReadList { object, began: world },
            Pending::ReadChain { object, .. } => Pending::ReadChain { object, began: world },
            other => other,
        };
        let (object, ops) = match &pending {
            Pending::ReadList { object, .. } => (object.clone(), read_list()),
            Pending::ReadChain { object, .. } => (object.clone(), read_chain()),
            Pending::ReadOwn { object } => (object.clone(), read_own(self.slots)),
            other => unreachable!("not a read: {other:?}"),
        };
        Some(self.submit(now, wall, object, ops, true, pending))
    }

    fn submit(
        &mut self,
        now: Time,
        wall: Timestamp,
        object: String,
        ops: Vec<Op>,
        read_only: bool,
        pending: Pending,
    ) -> (Ticket, Submission) {
        self.ticket_last += 1;
        let ticket = Ticket(self.ticket_last);
        self.pending.insert(ticket, pending);
        let target =
            Target::Object { pool: self.pool, object: ObjectName::new(object.into_bytes()) };
        (ticket, Submission { target, ops, read_only, mtime: wall, deadline: now + DEADLINE })
    }

    /// Unique: an operation writes one at most.
    fn value(&self) -> u64 {
        self.client << 32 | self.ordinal
    }

    /// Operations begun, and left out.
    pub fn ordinal(&self) -> u64 {
        self.ordinal
    }

    /// Goes on to the next operation that is not left out; `false` if none is.
    fn advance(&mut self) -> bool {
        self.ordinal += 1;
        while let Some(range) =
            self.omitted.iter().find(|range| (range.from..range.to).contains(&self.ordinal))
        {
            if range.to == u64::MAX {
                return false;
            }
            self.ordinal = range.to;
        }
        self.random = Random::new(self.seed.wrapping_add(self.ordinal));
        true
    }

    /// Something to do. `now` is the client's clock for the deadline, `world` the judge's for the history.
    pub fn next(
        &mut self,
        now: Time,
        world: Time,
        wall: Timestamp,
    ) -> Option<(Ticket, Submission)> {
        if !self.advance() {
            return None;
        }
        let object = self.random.below(self.lists);
        Some(match self.random.below(10) {
            4..=6 if self.slots => match self.own_turn(now, wall) {
                Some(turn) => turn,
                None => self.append(now, world, wall, format!("list/{object}")),
            },
            0..=2 => self.append(now, world, wall, format!("list/{object}")),
            3 => {
                let object = format!("list/{object}");
                let pending = Pending::ReadList { object: object.clone(), began: world };
                self.submit(now, wall, object, read_list(), true, pending)
            }
            4..=5 => self.replace(now, world, wall, format!("chain/{object}")),
            6 => {
                let object = format!("chain/{object}");
                let pending = Pending::ReadChain { object: object.clone(), began: world };
                self.submit(now, wall, object, read_chain(), true, pending)
            }
            _ => match self.own_turn(now, wall) {
                Some(turn) => turn,
                None => self.append(now, world, wall, format!("list/{object}")),
            },
        })
    }

    fn append(
        &mut self,
        now: Time,
        world: Time,
        wall: Timestamp,
        object: String,
    ) -> (Ticket, Submission) {
        let value = self.value();
        let kind = Kind::Append(value);
        self.history.push(Operation { object: object.clone(), kind, began: world, ended: None });
        let ops = vec![Op::Append { data: Bytes::copy_from_slice(&value.to_le_bytes()) }];
        let pending = Pending::Shared { at: self.history.len() - 1 };
        self.submit(now, wall, object, ops, false, pending)
    }

    fn replace(
        &mut self,
        now: Time,
        world: Time,
        wall: Timestamp,
        object: String,
    ) -> (Ticket, Submission) {
        let old = self.chain_seen.get(&object).copied().unwrap_or(0);
        let new = self.value();
        let kind = Kind::Replace(old, new);
        self.history.push(Operation { object: object.clone(), kind, began: world, ended: None });
        let key = Bytes::from_static(CHAIN_KEY);
        let value =
            if old == 0 { Bytes::new() } else { Bytes::copy_from_slice(&old.to_le_bytes()) };
        let set = BTreeMap::from([(key.clone(), Bytes::copy_from_slice(&new.to_le_bytes()))]);
        let ops = vec![
            Op::CompareOmap { key, compare: Compare::Equal {}, value },
            Op::OmapSet { entries: set },
        ];
        let pending = Pending::Shared { at: self.history.len() - 1 };
        self.submit(now, wall, object, ops, false, pending)
    }

    fn own_turn(&mut self, now: Time, wall: Timestamp) -> Option<(Ticket, Submission)> {
        let free: Vec<String> = self
            .own
            .iter()
            .filter(|(_, o)| !o.busy && !o.retired)
            .map(|(n, _)| n.clone())
            .collect();
        let object = self.random.pick(&free)?.clone();
        self.own.get_mut(&object)?.busy = true;
        if self.random.chance(300) {
            let pending = Pending::ReadOwn { object: object.clone() };
            let ops = read_own(self.slots);
            return Some(self.submit(now, wall, object, ops, true, pending));
        }
        let ops: Vec<Op> = (0..1 + self.random.below(3)).map(|_| self.mutation()).collect();
        let pending = Pending::Own { object: object.clone(), ops: ops.clone() };
        Some(self.submit(now, wall, object, ops, false, pending))
    }

    fn mutation(&mut self) -> Op {
        let fill = self.random.below(256) as u8;
        let length = 1 + self.random.below(3000) as usize;
        let data = Bytes::from(vec![fill; length]);
        let offset = self.random.below(6000);
        let key = Bytes::from(format!("k{}", self.random.below(6)));
        match self.random.below(if self.slots { 9 } else { 12 }) {
            0..=2 => Op::Write { offset, data },
            3 => Op::WriteFull { data },
            4 => Op::Append { data: data.slice(..length.min(100)) },
            5 => Op::Truncate { size: offset },
            6 => Op::Zero { offset, length: length as u64 },
            7 => Op::Delete {},
            8 => Op::SetXattr { name: key, value: data.slice(..length.min(50)) },
            9 | 10 => {
                Op::OmapSet { entries: BTreeMap::from([(key, data.slice(..length.min(200)))]) }
            }
            _ => Op::OmapRemove { keys: vec![key] },
        }
    }

    /// Takes in how an operation ended.
    pub fn finished(&mut self, world: Time, ticket: Ticket, result: Result<Done, Error>) {
        let Some(pending) = self.pending.remove(&ticket) else {
            self.broken.push(format!("client: {} has an answer to nothing, {ticket}", self.client));
            return;
        };
        match &result {
            Err(_) => self.unknown += 1,
            Ok(_) => self.answered += 1,
        }
        match pending {
            Pending::Shared { at } => self.shared_finished(world, at, result),
            Pending::ReadList { object, began } => {
                let seen = result.ok().and_then(|done| list(&done));
                if let Some(seen) = seen {
                    self.saw(object, seen, began, world);
                }
            }
            Pending::ReadChain { object, began } => {
                let Some(value) = result.ok().and_then(|done| chain(&done)) else { return };
                self.chain_seen.insert(object.clone(), value);
                self.saw(object, vec![value], began, world);
            }
            Pending::Own { object, ops } => self.own_finished(&object, &ops, result),
            Pending::ReadOwn { object } => self.own_read(&object, result),
        }
    }

    fn saw(&mut self, object: String, list: Vec<u64>, began: Time, ended: Time) {
        self.history.push(Operation { object, kind: Kind::Saw(list), began, ended: Some(ended) });
    }

    fn shared_finished(&mut self, world: Time, at: usize, result: Result<Done, Error>) {
        let failed = match &result {
            Ok(done) => done.results.last().is_some_and(|r| r.code < 0),
            Err(_) => false,
        };
        let operation = &mut self.history[at];
        if matches!(result, Err(Error::Full(_))) {
            // Refused for want of room: nothing happened.
            operation.kind = Kind::Replace(0, 0);
        } else if failed {
            // A guard did not hold: nothing happened, and nothing of it counts.
            if let Kind::Replace(..) = operation.kind {
                operation.kind = Kind::Replace(0, 0);
                self.chain_seen.remove(&operation.object);
            } else {
                let what = format!("client: an append of {} failed: {result:?}", self.client);
                self.broken.push(what);
            }
        } else if result.is_ok() {
            operation.ended = Some(world);
            if let Kind::Replace(_, new) = operation.kind {
                self.chain_seen.insert(operation.object.clone(), new);
            }
        }
    }

    fn own_finished(&mut self, object: &str, ops: &[Op], result: Result<Done, Error>) {
        let Some(own) = self.own.get_mut(object) else { return };
        own.busy = false;
        let after: Vec<Result<Model, i32>> =
            own.states.iter().map(|state| state.apply(ops)).collect();
        match result {
            // Refused for want of room: nothing happened.
            Err(Error::Full(_)) => {}
            Err(_) => {
                own.retired = true;
                own.states.extend(after.into_iter().flatten());
            }
            Ok(done) => {
                let code = done.results.last().map_or(0, |r| r.code);
                let next: Vec<Model> = own
                    .states
                    .iter()
                    .zip(after)
                    .filter_map(|(before, after)| match (after, code < 0) {
                        (Ok(after), false) => Some(after),
                        (Err(errno), true) if code == -errno => Some(before.clone()),
                        _ => None,
                    })
                    .collect();
                if next.is_empty() {
                    self.broken.push(format!(
                        "semantics: {object}: {ops:?} answered {code}, which the model does not"
                    ));
                } else {
                    own.states = next;
                }
            }
        }
    }

    fn own_read(&mut self, object: &str, result: Result<Done, Error>) {
        let Some(own) = self.own.get_mut(object) else { return };
        own.busy = false;
        let Ok(done) = result else { return };
        let Some(seen) = model(&done) else {
            self.broken
                .push(format!("semantics: {object}: cannot be understood: {:?}", done.results));
            return;
        };
        let before = own.states.len();
        own.states.retain(|state| *state == seen);
        if own.states.is_empty() {
            self.broken.push(format!(
                "semantics: {object}: reads as {} bytes, {} xattrs, {} omap keys, exists {}: none of {before} states that it may have",
                seen.data.len(), seen.xattrs.len(), seen.omap.len(), seen.exists
            ));
            own.states.push(seen);
        }
    }
}

fn read_list() -> Vec<Op> {
    vec![Op::Read { offset: 0, length: 0 }]
}

fn read_chain() -> Vec<Op> {
    vec![Op::OmapByKeys { keys: vec![Bytes::from_static(CHAIN_KEY)] }]
}

fn read_own(slots: bool) -> Vec<Op> {
    let mut ops = vec![Op::Read { offset: 0, length: 0 }, Op::Xattrs {}];
    if !slots {
        let (after, prefix) = (Bytes::new(), Bytes::new());
        ops.push(Op::OmapList { after, prefix, max: 100, values: true });
    }
    ops
}

fn is_absent(done: &Done) -> bool {
    done.results.last().is_some_and(|r| r.code == -errno::ENOENT)
}

fn list(done: &Done) -> Option<Vec<u64>> {
    if is_absent(done) {
        return Some(Vec::new());
    }
    let result = done.results.first().filter(|r| r.code == 0)?;
    let chunks = result.data.chunks_exact(8);
    chunks
        .remainder()
        .is_empty()
        .then(|| chunks.map(|c| u64::from_le_bytes(c.try_into().expect("eight bytes"))).collect())
}

fn chain(done: &Done) -> Option<u64> {
    if is_absent(done) {
        return Some(0);
    }
    let result = done.results.first().filter(|r| r.code == 0)?;
    let entries = BTreeMap::<Bytes, Bytes>::from_bytes(result.data.clone()).ok()?;
    match entries.get(CHAIN_KEY) {
        None => Some(0),
        Some(value) => Some(u64::from_le_bytes(value[..].try_into().ok()?)),
    }
}

fn model(done: &Done) -> Option<Model> {
    if is_absent(done) {
        return Some(Model::default());
    }
    let (data, xattrs, omap) = match &done.results[..] {
        [data, xattrs] => (data, xattrs, None),
        [data, xattrs, omap] => (data, xattrs, Some(omap)),
        _ => return None,
    };
    if done.results.iter().any(|r| r.code != 0) {
        return None;
    }
    Some(Model {
        exists: true,
        data: data.data.to_vec(),
        xattrs: BTreeMap::from_bytes(xattrs.data.clone()).ok()?,
        omap: match omap {
            Some(omap) => {
                OmapPage::from_bytes(omap.data.clone()).ok()?.entries.into_iter().collect()
            }
            None => BTreeMap::new(),
        },
    })
}
