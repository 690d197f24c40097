//! Random walks: a monitor that forms, joins and promotes by the rules (R1, R2, R12, R13) at any time and on no
//! evidence; crashes that lose what was not durable, silent cuts, broken sessions, late maps; clients that
//! resend. What clients are told must stay true, and after the faults the group must become whole.
//!
//! Every object of the clients is a list: a write appends its number, a read shows the list. So
//! - the list of a later read begins with that of an earlier one, and has all that was acknowledged before;
//! - no number is in it twice;
//! - at no time do two daemons serve;
//! - at the end all replicas are equal and have everything that was acknowledged.

use super::world::{Chance, PG, World};
use crate::machine::slots::Layout;
use crate::machine::{Config, Fault, LinkId};
use bytes::Bytes;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;
use store_base::map::{Erasure, PoolKind};
use store_base::op::{Op, Outcome, errno};
use store_base::{DaemonId, ObjectName, RequestId, Time, Version};

const CLIENTS: u64 = 4;
const LISTS: u64 = 3;
const OTHERS: u64 = 12;

#[derive(Clone, Debug)]
enum Doing {
    Append {
        list: u64,
        number: u32,
    },
    Read {
        list: u64,
    },
    /// An exclusive creation: one of them succeeds.
    Once {
        object: u32,
    },
    Other,
}

#[derive(Clone, Debug)]
struct Asked {
    tid: u64,
    object: String,
    ops: Vec<Op>,
    doing: Doing,
    resend: u32,
    again: Time,
    /// What had been told when it was first asked.
    told: usize,
    acknowledged: BTreeSet<u32>,
}

#[derive(Default)]
struct List {
    longest: Vec<u32>,
    told: usize,
    acknowledged: BTreeSet<u32>,
}

struct Walk {
    kind: PoolKind,
    daemons: i32,
    world: World,
    chance: Chance,
    asked: BTreeMap<u64, Asked>,
    lists: Vec<List>,
    numbers: u32,
    /// Objects that a client was told to have made.
    made: BTreeSet<u32>,
    acknowledged: usize,
    reads: usize,
    seed: u64,
}

fn small() -> Config {
    Config {
        log_entries_max: 24,
        log_entries_keep: 8,
        scan_objects_max: 3,
        missing_scan_max: 2,
        pulls_max: 2,
        pushes_max: 2,
        pushes_busy_max: 1,
        push_part_bytes: 48,
        push_window: 2,
        open_entries_max: 6,
        pull_timeout: Duration::from_millis(700),
        ..Config::default()
    }
}

/// Slots with cells so small that the objects of the walk are of several stripes.
fn erasure(seed: u64) -> Erasure {
    let coding = 1 + (seed / 2 % 2) as u8;
    Erasure { data: 2, coding, cell_bytes: 8 + 8 * (seed % 2) as u32, ..Erasure::default() }
}

impl Walk {
    fn new(seed: u64, fault: Fault, kind: PoolKind) -> Walk {
        let daemons = 4 + (seed % 3) as i32;
        let mut world = World::new(daemons, 3, 2);
        let mut members = 3;
        if kind == PoolKind::Erasure {
            let pool = world.map.pools.get_mut(&PG.pool).expect("the pool of the world");
            let erasure = erasure(seed);
            members = i32::from(erasure.slots());
            pool.size = erasure.slots();
            pool.min_size = erasure.data + (seed / 4 % 2) as u8;
            (pool.kind, pool.erasure) = (kind, Some(erasure));
        }
        world.config = Config { fault, ..small() };
        (0..daemons).for_each(|id| world.start(DaemonId(id)));
        world.run(Duration::from_millis(300));
        world.change(|record| {
            record.primary = DaemonId(0);
            record.members = (0..members).map(DaemonId).collect();
            if kind == PoolKind::Erasure {
                record.slots = (0..members).map(|id| (DaemonId(id), id as u8)).collect();
            }
            record.holders = record.members.iter().copied().collect();
            record.writers.clone_from(&record.holders);
        });
        world.run(Duration::from_millis(400));
        world.chance = Some(Chance(seed ^ 0x5eed));
        world.auto = true;
        let lists = (0..LISTS).map(|_| List::default()).collect();
        let chance = Chance(seed);
        Walk {
            kind,
            daemons,
            world,
            chance,
            asked: BTreeMap::new(),
            lists,
            numbers: 0,
            made: BTreeSet::new(),
            acknowledged: 0,
            reads: 0,
            seed,
        }
    }

    fn someone(&mut self) -> DaemonId {
        DaemonId(self.chance.below(self.daemons as u64) as i32)
    }

    fn is_on(&self, id: DaemonId) -> bool {
        self.world.nodes[&id].daemon.is_some()
    }

    /// One turn: perhaps a fault, perhaps the monitor, the clients, a little time.
    fn turn(&mut self, faults: bool) {
        if faults {
            self.fault();
            self.monitor();
        }
        self.clients();
        let micros = 200 + self.chance.below(20_000);
        self.world.run(Duration::from_micros(micros));
        self.take_answers();
        self.check_one_serves();
    }

    fn fault(&mut self) {
        match self.chance.below(160) {
            0 => {
                let id = self.someone();
                if self.is_on(id) {
                    let pending = self.world.nodes[&id].medium.pending() as u64;
                    let keep = self.chance.below(pending + 1) as usize;
                    self.world.crash(id, keep);
                }
            }
            1..=3 => {
                let id = self.someone();
                if !self.is_on(id) {
                    self.world.start(id);
                }
            }
            4 => {
                let (a, b) = (self.someone(), self.someone());
                if a != b {
                    self.world.cut(a, b);
                }
            }
            5..=8 => {
                if let Some((a, b)) = self.world.cuts.first().copied() {
                    self.world.heal(a, b);
                }
            }
            9..=11 => {
                let (a, b) = (self.someone(), self.someone());
                self.world.break_session((a, b));
            }
            13 => {
                let id = self.someone();
                self.world.deaf.insert(id);
            }
            14..=15 => {
                if let Some(id) = self.world.deaf.first().copied() {
                    self.world.hears_again(id);
                }
            }
            // The power goes, for all.
            12 if self.chance.one_in(3) => {
                for id in (0..self.daemons).map(DaemonId) {
                    let pending = self.world.nodes[&id].medium.pending() as u64;
                    let keep = self.chance.below(pending + 1) as usize;
                    self.world.crash(id, keep);
                    self.world.start(id);
                }
            }
            _ => {}
        }
    }

    fn monitor(&mut self) {
        let record = self.world.map.pgs[&PG].clone();
        let on: Vec<DaemonId> =
            record.holders.iter().copied().filter(|holder| self.is_on(*holder)).collect();
        let is_stuck =
            !self.is_on(record.primary) || record.members.iter().any(|m| !self.is_on(*m));
        let hurry = if is_stuck { 12 } else { 150 };
        if self.chance.one_in(hurry) {
            // Mostly those who are there, sometimes anybody who holds.
            let from: Vec<DaemonId> = match self.chance.one_in(5) || on.is_empty() {
                true => record.holders.iter().copied().collect(),
                false => on,
            };
            let mut members: Vec<_> = match self.chance.one_in(3) {
                true => from.iter().copied().filter(|_| self.chance.one_in(2)).collect(),
                false => from.clone(),
            };
            if members.is_empty() {
                members.push(from[self.chance.below(from.len() as u64) as usize]);
            }
            let first = self.chance.below(members.len() as u64) as usize;
            members.swap(0, first);
            if record.suffice(&self.world.map.pools[&PG.pool], &members) {
                self.world.reform(&members);
            }
        } else if self.chance.one_in(40) && record.learners.is_empty() && record.is_active() {
            let id = self.someone();
            if !record.members.contains(&id) && self.is_on(id) {
                self.world.join(id);
            }
        } else if self.chance.one_in(20) {
            // Asks may get lost.
            let dropped = self.world.asks.len() / 2;
            self.world.asks.truncate(dropped);
        }
    }

    fn clients(&mut self) {
        for client in 0..CLIENTS {
            match self.asked.get(&client) {
                None => self.begin(client),
                Some(asked) if asked.again <= self.world.now => self.again(client),
                Some(_) => {}
            }
        }
    }

    fn begin(&mut self, client: u64) {
        let list = self.chance.below(LISTS);
        self.numbers += 1;
        let number = self.numbers;
        let tid = u64::from(number);
        let (object, doing, ops) = match self.chance.below(10) {
            0..=3 => {
                let data = Bytes::copy_from_slice(&number.to_le_bytes());
                let mut ops = vec![Op::Append { data: data.clone() }];
                if self.chance.one_in(3) && self.kind == PoolKind::Replicated {
                    ops.push(Op::OmapSet { entries: BTreeMap::from([(data.clone(), data)]) });
                }
                (format!("list{list}"), Doing::Append { list, number }, ops)
            }
            4..=6 => {
                let ops = vec![Op::Read { offset: 0, length: 0 }];
                (format!("list{list}"), Doing::Read { list }, ops)
            }
            7 => {
                let object = number / 9;
                (
                    format!("once{object}"),
                    Doing::Once { object },
                    vec![Op::Create { exclusive: true }],
                )
            }
            _ => (format!("other{}", self.chance.below(OTHERS)), Doing::Other, self.other(number)),
        };
        let state = &self.lists[list as usize];
        let (told, acknowledged) = (state.told, state.acknowledged.clone());
        let again = self.world.now;
        let asked = Asked { tid, object, ops, doing, resend: 0, again, told, acknowledged };
        self.asked.insert(client, asked);
        self.again(client);
    }

    fn other(&mut self, number: u32) -> Vec<Op> {
        let key = Bytes::from(format!("k{}", self.chance.below(5)));
        let value = Bytes::copy_from_slice(&number.to_le_bytes());
        if self.kind == PoolKind::Erasure && self.chance.one_in(3) {
            return match self.chance.below(3) {
                0 => vec![Op::Truncate { size: self.chance.below(200) }],
                1 => vec![Op::Zero { offset: self.chance.below(99), length: 40 }],
                _ => vec![Op::Append { data: vec![number as u8; 33].into() }],
            };
        }
        match self.chance.below(5) {
            0 => vec![Op::Delete {}],
            1 => vec![Op::WriteFull {
                data: vec![number as u8; self.chance.below(300) as usize].into(),
            }],
            2 => vec![Op::OmapSet { entries: BTreeMap::from([(key, value)]) }],
            3 => vec![Op::Write { offset: self.chance.below(200), data: value }],
            _ => vec![Op::SetXattr { name: key, value }],
        }
    }

    fn again(&mut self, client: u64) {
        let primary = self.world.map.pgs[&PG].primary;
        let to = if self.chance.one_in(8) { self.someone() } else { primary };
        let wait = Duration::from_millis(100 + self.chance.below(400));
        let now = self.world.now;
        let Some(asked) = self.asked.get_mut(&client) else { return };
        asked.again = now + wait;
        let (tid, resend, object, ops) =
            (asked.tid, asked.resend, asked.object.clone(), asked.ops.clone());
        asked.resend += 1;
        self.world.ask(to, client, tid, resend, &object, ops);
    }

    fn take_answers(&mut self) {
        for (link, id, outcome) in std::mem::take(&mut self.world.answers) {
            self.take_answer(link, id, outcome);
        }
        self.world.said.clear();
    }

    fn take_answer(&mut self, link: LinkId, id: RequestId, outcome: Outcome) {
        let client = link.0;
        if self.asked.get(&client).is_none_or(|asked| asked.tid != id.tid) {
            return;
        }
        match outcome {
            Outcome::Done { results, .. } => {
                let asked = self.asked.remove(&client).expect("just looked at");
                match asked.doing {
                    Doing::Append { list, number } => {
                        assert_eq!(results[0].code, 0, "an append succeeds");
                        self.lists[list as usize].acknowledged.insert(number);
                        self.acknowledged += 1;
                    }
                    Doing::Read { list } => {
                        let code = results[0].code;
                        assert!(code == 0 || code == -errno::ENOENT, "a read answers: {code}");
                        self.reads += 1;
                        self.check_read(list, &asked, &results[0].data);
                    }
                    Doing::Once { object } => {
                        let code = results[0].code;
                        assert!(code == 0 || code == -errno::EEXIST, "a creation answers: {code}");
                        let made = code == 0 && !self.made.insert(object);
                        assert!(!made, "seed {}: once{object} was made twice", self.seed);
                    }
                    Doing::Other => {}
                }
            }
            Outcome::Refused { code, .. } if code == -errno::ESTALE => {
                self.asked.remove(&client);
            }
            Outcome::Refused { code, why } => {
                assert_eq!(code, -errno::EAGAIN, "{why}");
            }
            Outcome::Misdirected { .. } => {}
        }
    }

    fn check_read(&mut self, list: u64, asked: &Asked, data: &[u8]) {
        let seed = self.seed;
        let numbers: Vec<u32> =
            data.chunks_exact(4).map(|c| u32::from_le_bytes([c[0], c[1], c[2], c[3]])).collect();
        let distinct: BTreeSet<u32> = numbers.iter().copied().collect();
        assert_eq!(
            distinct.len(),
            numbers.len(),
            "seed {seed}: a request took effect twice: {numbers:?}"
        );
        let state = &mut self.lists[list as usize];
        let fits = numbers.starts_with(&state.longest) || state.longest.starts_with(&numbers);
        assert!(fits, "seed {seed}: a read went back: {:?}, then {numbers:?}", state.longest);
        assert!(numbers.len() >= asked.told, "seed {seed}: a read shows less than one before");
        let lost: Vec<_> = asked.acknowledged.difference(&distinct).collect();
        assert!(
            lost.is_empty(),
            "seed {seed}: acknowledged and not there: {lost:?} in {numbers:?}"
        );
        if numbers.len() > state.longest.len() {
            state.longest = numbers;
        }
        state.told = state.longest.len();
    }

    fn check_one_serves(&self) {
        let now = self.world.now;
        let serving = self.world.nodes.iter().filter(|(_, node)| {
            let daemon = node.daemon.as_ref();
            daemon.is_some_and(|daemon| daemon.pgs_at(now).any(|pg| pg.serving()))
        });
        let serving: Vec<_> = serving.map(|(id, _)| *id).collect();
        assert!(serving.len() < 2, "seed {}: {serving:?} serve at {now}", self.seed);
    }

    /// The faults are over: the group becomes whole.
    fn heal(&mut self) {
        while let Some((a, b)) = self.world.cuts.first().copied() {
            self.world.heal(a, b);
        }
        for id in (0..self.daemons).map(DaemonId) {
            self.world.hears_again(id);
            if !self.is_on(id) {
                self.world.start(id);
            }
        }
        for round in 0.. {
            for _ in 0..150 {
                self.turn(false);
            }
            let record = self.world.map.pgs[&PG].clone();
            if !record.is_active() {
                let holders: Vec<_> = record.holders.iter().copied().collect();
                if record.members.len() < holders.len() || round % 4 == 3 {
                    self.world.reform(&holders);
                }
            } else if record.members.len() == self.daemons as usize {
                break;
            } else if record.learners.is_empty() {
                let next = (0..self.daemons).map(DaemonId).find(|id| !record.members.contains(id));
                self.world.join(next.expect("somebody is no member"));
            }
            assert!(
                round < 60,
                "seed {}: does not become whole: {record:?}\n{}",
                self.seed,
                self.picture()
            );
        }
    }

    fn picture(&self) -> String {
        let mut text = String::new();
        for (id, node) in &self.world.nodes {
            let Some(daemon) = &node.daemon else { continue };
            for pg in daemon.pgs_at(self.world.now) {
                text += &format!(
                    "{id} {:?} in {} applied {} head {} serving {} complete {} {} {:?}\n",
                    pg.role(),
                    pg.interval(),
                    pg.applied(),
                    pg.head(),
                    pg.serving(),
                    pg.is_complete(),
                    pg.state(),
                    daemon.status(),
                );
            }
        }
        text
    }

    fn finish(&mut self) {
        for _ in 0..400 {
            self.turn(false);
        }
        // Nobody asks any more; everything settles.
        self.asked.clear();
        self.world.chance = None;
        self.world.run(Duration::from_secs(8));
        self.take_answers();
        if self.kind == PoolKind::Erasure {
            self.check_slots();
        }
        let first = self.world.contents(DaemonId(0));
        for id in (1..self.daemons).map(DaemonId) {
            let other = self.world.contents(id);
            if self.kind == PoolKind::Erasure {
                continue;
            }
            assert_eq!(other, first, "seed {}: {id} differs\n{}", self.seed, self.picture());
        }
        let primary = self.world.map.pgs[&PG].primary;
        for list in 0..LISTS {
            let state = &self.lists[list as usize];
            let (told, acknowledged) = (state.told, state.acknowledged.clone());
            let ops = vec![Op::Read { offset: 0, length: 0 }];
            let (object, doing) = (format!("list{list}"), Doing::Read { list });
            self.numbers += 1;
            let tid = u64::from(self.numbers);
            let again = self.world.now + Duration::from_secs(9);
            let asked = Asked {
                tid,
                object: object.clone(),
                ops: ops.clone(),
                doing,
                resend: 0,
                again,
                told,
                acknowledged,
            };
            self.asked.insert(list, asked);
            self.world.ask(primary, list, tid, 0, &object, ops);
        }
        self.world.run(Duration::from_secs(1));
        self.take_answers();
        assert!(self.asked.is_empty(), "seed {}: all is answered\n{}", self.seed, self.picture());
        for node in self.world.nodes.values() {
            let status = node.daemon.as_ref().expect("all are on").status();
            let left = (
                status.waiting_requests,
                status.waiting_bytes,
                status.open_reads,
                status.pulls,
                status.pushes,
            );
            assert_eq!(left, (0, 0, 0, 0, 0), "seed {}: nothing is left over", self.seed);
        }
    }
}

impl Walk {
    /// Every daemon has its slot of what the slots give together.
    fn check_slots(&mut self) {
        let seed = self.seed;
        let layout = Layout::new(&erasure(seed)).expect("there is such a code");
        let record = self.world.map.pgs[&PG].clone();
        let all: BTreeMap<DaemonId, _> =
            (0..self.daemons).map(DaemonId).map(|id| (id, self.world.contents(id))).collect();
        let names = |contents: &BTreeMap<ObjectName, (Version, Bytes)>| -> Vec<_> {
            contents
                .iter()
                .map(|(name, (version, bytes))| (name.clone(), *version, bytes.len()))
                .collect()
        };
        let first = names(&all[&DaemonId(0)]);
        for (id, contents) in &all {
            assert_eq!(names(contents), first, "seed {seed}: {id} differs\n{}", self.picture());
        }
        for (name, _, size) in first {
            let mut present: BTreeMap<usize, &[u8]> = BTreeMap::new();
            for (id, contents) in &all {
                present.insert(record.slot(*id).expect("a member has a slot"), &contents[&name].1);
            }
            let present: Vec<(usize, &[u8])> = present.into_iter().collect();
            let mut data = vec![vec![0; size]; 2];
            let mut wanted: Vec<(usize, &mut [u8])> =
                data.iter_mut().map(Vec::as_mut_slice).enumerate().collect();
            layout.code.reconstruct(&present, &mut wanted).expect("there are k slots");
            let mut whole = vec![0; size];
            for piece in layout.striping.pieces(0..size as u64) {
                let from = piece.shard_offset as usize;
                whole[piece.offset as usize..][..piece.len]
                    .copy_from_slice(&data[piece.slot][from..from + piece.len]);
            }
            let shards = layout.shards(&whole);
            for (id, contents) in &all {
                let slot = record.slot(*id).expect("a member has a slot");
                let mut right = shards[slot].clone();
                right.resize(size, 0);
                assert_eq!(
                    contents[&name].1[..],
                    right[..],
                    "seed {seed}: {name} at {id}, slot {slot}"
                );
            }
        }
    }
}

fn walk(seed: u64, turns: usize, fault: Fault) -> (usize, usize) {
    walk_of(PoolKind::Replicated, seed, turns, fault)
}

fn walk_of(kind: PoolKind, seed: u64, turns: usize, fault: Fault) -> (usize, usize) {
    let mut walk = Walk::new(seed, fault, kind);
    for _ in 0..turns {
        walk.turn(true);
    }
    walk.heal();
    walk.finish();
    (walk.acknowledged, walk.reads)
}

#[test]
fn what_clients_are_told_stays_true() {
    walks(PoolKind::Replicated);
}

#[test]
fn what_clients_are_told_stays_true_with_slots() {
    walks(PoolKind::Erasure);
}

fn walks(kind: PoolKind) {
    let number = |name: &str, or: u64| {
        std::env::var(name).ok().and_then(|value| value.parse().ok()).unwrap_or(or)
    };
    let (first, count) = (number("WALK_FIRST", 1), number("WALK_SEEDS", 25));
    let (mut acknowledged, mut reads) = (0, 0);
    for seed in first..first + count {
        let (a, r) = walk_of(kind, seed, 1500, Fault::None);
        acknowledged += a;
        reads += r;
    }
    assert!(
        acknowledged > 20 * count as usize && reads > 20 * count as usize,
        "the walks do something"
    );
    println!("{count} walks, {acknowledged} writes acknowledged, {reads} reads");
}

#[test]
fn one_seed_gives_one_history() {
    let history = |seed| {
        let mut walk = Walk::new(seed, Fault::None, PoolKind::Replicated);
        (0..600).for_each(|_| walk.turn(true));
        (walk.picture(), walk.acknowledged, walk.reads)
    };
    assert_eq!(history(5), history(5));
}

/// The faults that can be planted are found, so the walks look where it matters.
#[test]
fn planted_faults_are_found() {
    for fault in [Fault::AckBeforeDurable, Fault::NoLeaseWait, Fault::NoDedupe] {
        let found = (1..400).find(|seed| {
            let run = std::panic::AssertUnwindSafe(|| walk(*seed, 1000, fault));
            std::panic::catch_unwind(run).is_err()
        });
        println!("{fault:?} is found by seed {found:?}");
        assert!(found.is_some(), "{fault:?} is not found");
    }
    for fault in [Fault::OneSlotLess, Fault::CutAtPrimary] {
        let found = (1..400).find(|seed| {
            let run = || walk_of(PoolKind::Erasure, *seed, 1000, fault);
            std::panic::catch_unwind(std::panic::AssertUnwindSafe(run)).is_err()
        });
        println!("{fault:?} is found by seed {found:?}");
        assert!(found.is_some(), "{fault:?} is not found");
    }
}
