//! Clients of the library: lists, chains and registers, shared by all of them, and objects written once.
//!
//! | object | operations | judged by |
//! |---|---|---|
//! | `list/N.R` | append a unique number; read all | `sim/check/history.rs`: order, loss, double effect |
//! | `chain/N.R` | replace a value if it still is the one that was read | the same |
//! | `register/N.R.G` | put, read, remove, swap, each one vector over bytes and an xattr | `register.rs` |
//! | `once/N` | put once, read ever after | `register.rs` |
//!
//! All but chains lie in the one or the other of two pools, by a hash of the name: copies, and slots of an erasure
//! code. N is one of a few, so that clients meet; R is the round. A register gets another name (G) after a number
//! of operations or of unknown outcomes, so that its history can be judged.

use crate::body;
use crate::cluster::{POOL, SLOTS_POOL};
use crate::history::{Book, Class, Open};
use crate::register::{Act, Step};
use bytes::Bytes;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use store_base::codec::Decode;
use store_base::error::Error;
use store_base::hash::rjenkins;
use store_base::op::{Compare, Op, errno};
use store_base::{ObjectName, PoolId};
use store_client::{OpReply, Options, StoreClient};
use store_tests::sim::random::Random;
use store_tests::sim::workload::Kind;

/// Lists, chains and registers in use at a time.
const NAMES: u64 = 6;
/// Operations of one register, after which it gets another name; unknown outcomes count as many.
const REGISTER_USE_MAX: u32 = 300;
const UNKNOWN_USE: u32 = 60;
/// Appends of one list, after which it gets another name: reads are of the whole.
const LIST_USE_MAX: u32 = 400;
/// Objects written once in a round, at most.
const ONCE_MAX: usize = 300;
/// How long a client waits: shorter than some faults, so that unknown outcomes are part of the history.
const DEADLINE: Duration = Duration::from_secs(12);
/// How long one that has no patience waits.
const IMPATIENCE: Duration = Duration::from_millis(2);
/// Pause after an operation that was not answered.
const BREATH: Duration = Duration::from_millis(50);
/// Bytes of bodies, each half as frequent as the one before: log, log, extent, several pieces.
const SIZES: [usize; 5] = [24, 4096, 70_000, 300_000, 1_000_000];
/// The xattr that must always tell the same value as the bytes.
const XATTR: &[u8] = b"value";
/// The omap key of a chain.
const CHAIN_KEY: &[u8] = b"v";

/// Where objects lie.
#[derive(Clone, Copy)]
pub(crate) struct Pools {
    pub(crate) copies: PoolId,
    pub(crate) slots: PoolId,
}

impl Pools {
    pub(crate) async fn find(client: &StoreClient) -> Result<Pools, Error> {
        Ok(Pools { copies: client.pool(POOL).await?, slots: client.pool(SLOTS_POOL).await? })
    }

    /// Where an object lies, by its name: chains have an omap, which shards have not.
    fn of(self, object: &str) -> PoolId {
        match !object.starts_with("chain") && rjenkins(object.as_bytes()).is_multiple_of(2) {
            true => self.slots,
            false => self.copies,
        }
    }
}

/// What all clients of a round share.
pub(crate) struct Names {
    round: u32,
    uses: Mutex<BTreeMap<String, (u32, u32)>>,
    /// Names of objects written once, of this round and those before.
    once: Mutex<Vec<String>>,
    used: Mutex<Vec<String>>,
}

impl Names {
    pub(crate) fn new(round: u32, once: Vec<String>) -> Arc<Names> {
        let (uses, used) = (Mutex::new(BTreeMap::new()), Mutex::new(Vec::new()));
        Arc::new(Names { round, uses, once: Mutex::new(once), used })
    }

    /// The name in use now for one of a kind.
    fn choose(&self, kind: &str, number: u64) -> String {
        let stem = format!("{kind}/{number}.{}", self.round);
        let mut uses = self.uses.lock().expect("no holder of this lock panics");
        let (generation, _) = uses.entry(stem.clone()).or_insert_with(|| (0, 0));
        let name = format!("{stem}.{generation}");
        let mut used = self.used.lock().expect("no holder of this lock panics");
        if !used.contains(&name) {
            used.push(name.clone());
        }
        name
    }

    /// Counts a use; behind the most the next user gets another name.
    fn count(&self, name: &str, weight: u32, most: u32) {
        let Some((stem, _)) = name.rsplit_once('.') else { return };
        let mut uses = self.uses.lock().expect("no holder of this lock panics");
        if let Some((generation, count)) = uses.get_mut(stem) {
            *count += weight;
            if *count >= most {
                (*generation, *count) = (*generation + 1, 0);
            }
        }
    }

    /// Every object that was used in this round.
    pub(crate) fn used(&self) -> Vec<String> {
        self.used.lock().expect("no holder of this lock panics").clone()
    }

    /// Objects written once.
    pub(crate) fn once(&self) -> Vec<String> {
        self.once.lock().expect("no holder of this lock panics").clone()
    }
}

/// One client: one operation at a time.
pub(crate) struct Worker {
    pub(crate) number: u32,
    pub(crate) client: StoreClient,
    pub(crate) pools: Pools,
    pub(crate) book: Arc<Book>,
    pub(crate) names: Arc<Names>,
    pub(crate) random: Random,
}

impl Worker {
    /// Works until then, or until the book says stop.
    pub(crate) async fn run(mut self, until: u64) {
        while !self.book.is_stopping() && self.book.now() < until {
            let number = self.random.below(NAMES);
            match self.random.below(20) {
                0..=2 => self.append(number).await,
                3 => {
                    let object = self.names.choose("list", number);
                    self.read_list(&object).await;
                }
                4..=6 => self.replace(number).await,
                7..=10 => self.put(number).await,
                11..=14 => {
                    let object = self.names.choose("register", number);
                    self.read(&object).await;
                }
                15 => self.remove(number).await,
                16..=17 => self.swap(number).await,
                18 => self.write_once().await,
                _ => self.read_once().await,
            }
        }
    }

    async fn send(
        &self,
        object: &str,
        ops: Vec<Op>,
        read_only: bool,
        deadline: Duration,
    ) -> Result<OpReply, Error> {
        let options = Options { read_only, deadline: Some(deadline) };
        self.client
            .attempt(
                self.pools.of(object),
                &ObjectName::new(object.as_bytes().to_vec()),
                ops,
                options,
            )
            .await
    }

    /// Sends and notes when the answer came. `Ok(None)`: the outcome is unknown.
    async fn ask(&mut self, open: &Open, object: &str, ops: Vec<Op>, read_only: bool) -> Outcome {
        // Now and then a client loses its patience at once: its request may still happen.
        let deadline = if self.random.chance(20) { IMPATIENCE } else { DEADLINE };
        match self.send(object, ops, read_only, deadline).await {
            Ok(reply) => Outcome::Answered(reply, self.book.end(open, true)),
            Err(error) => {
                self.book.end(open, false);
                let outcome = self.failed(object, error, read_only);
                tokio::time::sleep(BREATH).await;
                outcome
            }
        }
    }

    fn failed(&self, object: &str, error: Error, read_only: bool) -> Outcome {
        match error {
            Error::TimedOut(_) => Outcome::Unknown,
            // "Nothing was done" is a promise, and judged as one.
            Error::Unavailable(_) | Error::Full(_) => Outcome::Nothing,
            Error::Damaged(_) if self.book.may_be_damaged() => Outcome::Nothing,
            error => {
                let what = if read_only { "read" } else { "write" };
                self.book.wrong(format!(
                    "{object}: a {what} failed with what no fault explains: {error:?}"
                ));
                Outcome::Unknown
            }
        }
    }

    fn step(&self, key: &str, act: Act, open: &Open, ended: Option<u64>) {
        let key = key.to_string();
        self.book.step(Step { key, act, began: open.began, ended, client: self.number });
    }

    async fn append(&mut self, number: u64) {
        let object = self.names.choose("list", number);
        let value = self.book.value();
        let open = self.book.begin(Class::ObjectWrite);
        let data = Bytes::copy_from_slice(&value.to_le_bytes());
        match self.ask(&open, &object, vec![Op::Append { data }], false).await {
            Outcome::Answered(reply, ended) => match reply.failed() {
                None => self.book.shared(&object, Kind::Append(value), open.began, Some(ended)),
                Some((_, code)) => self.refused(&object, "append", code),
            },
            Outcome::Unknown => self.book.shared(&object, Kind::Append(value), open.began, None),
            Outcome::Nothing => {}
        }
        self.names.count(&object, 1, LIST_USE_MAX);
    }

    /// Reads a list; whether that was answered.
    pub(crate) async fn read_list(&mut self, object: &str) -> bool {
        let open = self.book.begin(Class::ObjectRead);
        let ops = vec![Op::Read { offset: 0, length: 0 }];
        let Outcome::Answered(reply, ended) = self.ask(&open, object, ops, true).await else {
            return false;
        };
        let seen = match reply.failed() {
            None => {
                let data = reply.data(0);
                if data.len() % 8 != 0 {
                    self.book
                        .wrong(format!("{object}: reads as {} bytes, not as numbers", data.len()));
                    return true;
                }
                data.chunks_exact(8)
                    .filter_map(|chunk| Some(u64::from_le_bytes(chunk.try_into().ok()?)))
                    .collect()
            }
            Some((_, code)) if code == -errno::ENOENT => Vec::new(),
            Some((_, code)) => {
                self.refused(object, "read", code);
                return false;
            }
        };
        self.book.shared(object, Kind::Saw(seen), open.began, Some(ended));
        true
    }

    /// Reads a chain's value, 0 for none.
    pub(crate) async fn read_chain(&mut self, object: &str) -> Option<u64> {
        let open = self.book.begin(Class::ObjectRead);
        let ops = vec![Op::OmapByKeys { keys: vec![Bytes::from_static(CHAIN_KEY)] }];
        let Outcome::Answered(reply, ended) = self.ask(&open, object, ops, true).await else {
            return None;
        };
        let value = match reply.failed() {
            None => {
                let entries =
                    BTreeMap::<Bytes, Bytes>::from_bytes(reply.data(0)).unwrap_or_default();
                let value =
                    entries.get(CHAIN_KEY).map(|v| v[..].try_into().map(u64::from_le_bytes));
                match value {
                    None => 0,
                    Some(Ok(value)) => value,
                    Some(Err(_)) => {
                        self.book.wrong(format!("{object}: its value is no number"));
                        return None;
                    }
                }
            }
            Some((_, code)) if code == -errno::ENOENT => 0,
            Some((_, code)) => {
                self.refused(object, "read", code);
                return None;
            }
        };
        self.book.shared(object, Kind::Saw(vec![value]), open.began, Some(ended));
        Some(value)
    }

    async fn replace(&mut self, number: u64) {
        let object = self.names.choose("chain", number);
        let Some(old) = self.read_chain(&object).await else { return };
        let new = self.book.value();
        let key = Bytes::from_static(CHAIN_KEY);
        let bytes = |value: u64| Bytes::copy_from_slice(&value.to_le_bytes());
        let ops = vec![
            Op::CompareOmap {
                key: key.clone(),
                compare: Compare::Equal {},
                value: if old == 0 { Bytes::new() } else { bytes(old) },
            },
            Op::OmapSet { entries: BTreeMap::from([(key, bytes(new))]) },
        ];
        let open = self.book.begin(Class::ObjectWrite);
        let kind = Kind::Replace(old, new);
        match self.ask(&open, &object, ops, false).await {
            Outcome::Answered(reply, ended) => match reply.failed() {
                None => self.book.shared(&object, kind, open.began, Some(ended)),
                Some((_, code)) if code == -errno::ECANCELED => {}
                Some((_, code)) => self.refused(&object, "replacing", code),
            },
            Outcome::Unknown => self.book.shared(&object, kind, open.began, None),
            Outcome::Nothing => {}
        }
        self.names.count(&object, 1, LIST_USE_MAX);
    }

    async fn put(&mut self, number: u64) {
        let object = self.names.choose("register", number);
        let value = self.book.value();
        let open = self.book.begin(Class::ObjectWrite);
        let outcome = self.ask(&open, &object, set(value), false).await;
        self.changed(&object, Act::Put(value), &open, outcome, &[]);
    }

    async fn remove(&mut self, number: u64) {
        let object = self.names.choose("register", number);
        let open = self.book.begin(Class::ObjectWrite);
        let outcome = self.ask(&open, &object, vec![Op::Delete {}], false).await;
        self.changed(&object, Act::Remove, &open, outcome, &[(errno::ENOENT, Act::Saw(None))]);
    }

    async fn swap(&mut self, number: u64) {
        let object = self.names.choose("register", number);
        let Some(old) = self.look(&object).await else { return };
        let value = self.book.value();
        let (guard, refusals) = match old {
            Some(old) => {
                let (name, value) =
                    (Bytes::from_static(XATTR), Bytes::copy_from_slice(&old.to_le_bytes()));
                let other = Act::SawNot(Some(old));
                let guard = Op::CompareXattr { name, compare: Compare::Equal {}, value };
                (guard, vec![(errno::ECANCELED, other), (errno::ENOENT, other)])
            }
            None => (Op::Create { exclusive: true }, vec![(errno::EEXIST, Act::SawSome)]),
        };
        let open = self.book.begin(Class::ObjectWrite);
        let ops = [vec![guard], set(value)].concat();
        let outcome = self.ask(&open, &object, ops, false).await;
        self.changed(&object, Act::Swap(old, value), &open, outcome, &refusals);
    }

    /// Notes how a change ended. `refusals`: what an error number says of the register.
    fn changed(
        &self,
        object: &str,
        act: Act,
        open: &Open,
        outcome: Outcome,
        refusals: &[(i32, Act)],
    ) {
        let mut weight = 1;
        match outcome {
            Outcome::Answered(reply, ended) => match reply.failed() {
                None => self.step(object, act, open, Some(ended)),
                Some((_, code)) => match refusals.iter().find(|(number, _)| *number == -code) {
                    Some((_, saw)) => self.step(object, *saw, open, Some(ended)),
                    None => self.refused(object, "change", code),
                },
            },
            Outcome::Unknown => {
                weight = UNKNOWN_USE;
                self.step(object, act, open, None);
            }
            Outcome::Nothing => {}
        }
        if object.starts_with("register") {
            self.names.count(object, weight, REGISTER_USE_MAX);
        }
    }

    /// Reads a register.
    pub(crate) async fn read(&mut self, object: &str) {
        let _ = self.look(object).await;
        self.names.count(object, 1, REGISTER_USE_MAX);
    }

    async fn look(&mut self, object: &str) -> Option<Option<u64>> {
        let open = self.book.begin(Class::ObjectRead);
        let ops =
            vec![Op::Read { offset: 0, length: 0 }, Op::Xattr { name: Bytes::from_static(XATTR) }];
        let Outcome::Answered(reply, ended) = self.ask(&open, object, ops, true).await else {
            return None;
        };
        let seen = match reply.failed() {
            None => match body::value_of(&reply.data(0), |value| body::size_of(value, &SIZES)) {
                Ok(value) if reply.data(1)[..] == value.to_le_bytes() => Some(value),
                Ok(value) => {
                    let other = reply.data(1);
                    self.book.wrong(format!(
                        "{object}: its bytes are of value {value}, its xattr says {other:?}"
                    ));
                    return None;
                }
                Err(why) => {
                    self.book.wrong(format!("{object}: {why}"));
                    return None;
                }
            },
            Some((_, code)) if code == -errno::ENOENT => None,
            Some((_, code)) => {
                self.refused(object, "read", code);
                return None;
            }
        };
        self.step(object, Act::Saw(seen), &open, Some(ended));
        Some(seen)
    }

    /// Reads an object of any kind once more, within the patience; whether that was answered.
    pub(crate) async fn read_last(&mut self, object: &str, patience: Duration) -> bool {
        let until = self.book.now() + patience.as_nanos() as u64;
        loop {
            let before = self.book.now();
            let read = match object.split('/').next() {
                Some("list") => self.read_list(object).await,
                Some("chain") => self.read_chain(object).await.is_some(),
                _ => self.look(object).await.is_some(),
            };
            if read || before > until {
                return read;
            }
        }
    }

    /// Removes an object that nobody needs any more.
    pub(crate) async fn remove_quietly(&self, object: &str) {
        // One that is left behind does no harm.
        let _ = self.send(object, vec![Op::Delete {}], false, DEADLINE).await;
    }

    async fn write_once(&mut self) {
        if self.names.once.lock().expect("no holder of this lock panics").len() >= ONCE_MAX {
            return self.read_once().await;
        }
        let value = self.book.value();
        let object = format!("once/{}.{value}", self.names.round);
        let open = self.book.begin(Class::ObjectWrite);
        let outcome = self.ask(&open, &object, set(value), false).await;
        if matches!(outcome, Outcome::Answered(..)) {
            self.names.once.lock().expect("no holder of this lock panics").push(object.clone());
        }
        self.changed(&object, Act::Put(value), &open, outcome, &[]);
    }

    async fn read_once(&mut self) {
        let names = self.names.once();
        if let Some(object) = self.random.pick(&names) {
            self.read(object).await;
        }
    }

    fn refused(&self, object: &str, what: &str, code: i32) {
        // No room is a fault that is made here; nothing was done then.
        let expected = [errno::ENOSPC, errno::EDQUOT].contains(&-code)
            || (code == -errno::EIO && self.book.may_be_damaged());
        if !expected {
            self.book.wrong(format!("{object}: a {what} was refused with {code}"));
        }
    }
}

enum Outcome {
    /// The answer, and when it came.
    Answered(OpReply, u64),
    /// It may have happened, or may yet happen.
    Unknown,
    /// It did not happen, and will not.
    Nothing,
}

/// Sets a register's bytes and its xattr.
fn set(value: u64) -> Vec<Op> {
    vec![
        Op::WriteFull { data: body::make(value, body::size_of(value, &SIZES)) },
        Op::SetXattr {
            name: Bytes::from_static(XATTR),
            value: Bytes::copy_from_slice(&value.to_le_bytes()),
        },
    ]
}

/// Bytes of a value's body.
pub(crate) fn bytes_of(value: u64) -> usize {
    body::size_of(value, &SIZES)
}
