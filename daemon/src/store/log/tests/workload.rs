//! Random batches that a placement group could submit.

use crate::store::{Change, Install, LogEntry, Mutation, Write};
use bytes::Bytes;
use std::collections::BTreeMap;
use store_base::object::ObjectInfo;
use store_base::op::OpResult;
use store_base::{Interval, ObjectName, PgId, PoolId, Version};

/// A seeded source of chance.
#[derive(Clone)]
pub(super) struct Chance(pub(super) u64);

impl Chance {
    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut x = self.0;
        x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        x ^ (x >> 31)
    }

    pub(super) fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }

    pub(super) fn bytes(&mut self, len: u64) -> Bytes {
        let mut out = vec![0; len as usize];
        for chunk in out.chunks_mut(8) {
            let word = self.next().to_le_bytes();
            chunk.copy_from_slice(&word[..chunk.len()]);
        }
        out.into()
    }
}

/// Placement groups before and after they were split.
const PG_NUM_FIRST: u32 = 2;
const PG_NUM_MAX: u32 = 7;

#[derive(Clone, Default)]
struct Log {
    counter: u64,
    /// Version and what the object's size is behind it.
    staged: Vec<Version>,
    applied: Vec<Version>,
    sizes: BTreeMap<ObjectName, u64>,
}

/// What the caller of a store knows, and makes batches from.
#[derive(Clone)]
pub(super) struct Workload {
    pub(super) chance: Chance,
    logs: BTreeMap<PgId, Log>,
    /// Placement groups, and by which `pg_num` each has its objects.
    pg_nums: BTreeMap<PgId, u32>,
    large: u64,
}

fn version(counter: u64) -> Version {
    Version { interval: Interval((counter / 50) as u32 + 1), counter }
}

/// One of six objects of a placement group.
fn object(chance: &mut Chance, (pg, pg_num): (PgId, u32)) -> ObjectName {
    let all = (0..).map(|n: u64| ObjectName::new(format!("object {n}").into_bytes()));
    let mut own = all.filter(|name| name.pg(pg.pool, pg_num) == pg);
    own.nth(chance.below(6) as usize).expect("there is no end of names")
}

impl Workload {
    /// `large`: up to so many bytes in a large write.
    pub(super) fn new(seed: u64, large: u64) -> Workload {
        let pgs = (0..PG_NUM_FIRST).map(|seed| PgId { pool: PoolId(1), seed });
        let pg_nums = pgs.map(|pg| (pg, PG_NUM_FIRST)).collect();
        Workload { chance: Chance(seed), logs: BTreeMap::new(), pg_nums, large }
    }

    fn object(&mut self, pg: PgId) -> ObjectName {
        object(&mut self.chance, (pg, self.pg_nums[&pg]))
    }

    pub(super) fn batch(&mut self) -> Vec<Write> {
        let steps = 1 + self.chance.below(3);
        (0..steps).map(|_| self.write()).collect()
    }

    fn write(&mut self) -> Write {
        let nth = self.chance.below(self.pg_nums.len() as u64) as usize;
        let pg = *self.pg_nums.keys().nth(nth).expect("below the length");
        if let std::collections::btree_map::Entry::Vacant(new) = self.logs.entry(pg) {
            new.insert(Log::default());
            return Write::CreatePg { pg };
        }
        match self.chance.below(100) {
            0..55 => {
                let entry = self.entry(pg);
                let log = self.logs.get_mut(&pg).expect("made above");
                log.staged.push(entry.version);
                Write::Stage { pg, entry }
            }
            55..78 => self.apply(pg),
            78..81 => self.drop_staged(pg),
            81..84 => self.trim(pg),
            84..86 => self.replace(pg),
            86..95 => self.install(pg),
            95 => Write::RemoveObject { pg, object: self.object(pg) },
            96 => self.split(pg),
            97 => {
                let key = Bytes::from(vec![b's', self.chance.below(3) as u8]);
                let value = (self.chance.below(3) > 0).then(|| self.chance.bytes(9));
                Write::Super { key, value }
            }
            98 => {
                let key = Bytes::from(vec![b'm', self.chance.below(3) as u8]);
                let value = (self.chance.below(3) > 0).then(|| self.chance.bytes(9));
                Write::Meta { pg, key, value }
            }
            _ => {
                self.logs.remove(&pg);
                Write::RemovePg { pg }
            }
        }
    }

    fn entry(&mut self, pg: PgId) -> LogEntry {
        let log = self.logs.get_mut(&pg).expect("made above");
        log.counter += 1;
        let version = version(log.counter);
        let name = object(&mut self.chance, (pg, self.pg_nums[&pg]));
        let kind = self.chance.below(20);
        let mut entry = LogEntry {
            version,
            object: name.clone(),
            results: vec![OpResult { code: kind as i32, data: self.chance.bytes(3) }],
            ..LogEntry::default()
        };
        let (changes, info) = match kind {
            0 => (vec![], None), // a request that failed
            1 => {
                entry.removes = true;
                (vec![Change::Remove {}], None)
            }
            _ => {
                let count = 1 + self.chance.below(3);
                let mut size = self.logs[&pg].sizes.get(&name).copied().unwrap_or(0);
                let changes: Vec<_> = (0..count).map(|_| self.change(&mut size)).collect();
                (changes, Some(size))
            }
        };
        let log = self.logs.get_mut(&pg).expect("made above");
        match info {
            Some(size) => log.sizes.insert(name, size),
            None if entry.removes => log.sizes.remove(&name),
            None => None,
        };
        let info = info.map(|size| ObjectInfo {
            version,
            user_version: version.counter,
            size,
            ..ObjectInfo::default()
        });
        entry.mutation = Some(Mutation { changes, info });
        entry
    }

    fn change(&mut self, size: &mut u64) -> Change {
        let chance = &mut self.chance;
        let key = |chance: &mut Chance| Bytes::from(format!("k{:02}", chance.below(20)));
        match chance.below(20) {
            0..9 => {
                let len = match chance.below(6) {
                    0 => chance.below(self.large) + 1,
                    1 => 4096,
                    _ => chance.below(9000),
                };
                let offset = match chance.below(3) {
                    0 => chance.below(8) * 4096,
                    1 => *size,
                    _ => chance.below(200_000),
                };
                *size = (*size).max(offset + len);
                Change::Write { offset, data: chance.bytes(len) }
            }
            9 => Change::Zero { offset: chance.below(100_000), length: chance.below(50_000) },
            10 => {
                *size = chance.below(150_000);
                Change::Truncate { size: *size }
            }
            11 | 12 => {
                let value = (chance.below(3) > 0).then(|| chance.bytes(20));
                Change::Xattrs { set: [(key(chance), value)].into() }
            }
            13..16 => {
                let entries = (0..1 + chance.below(5)).map(|_| {
                    let len = if chance.below(8) == 0 { 20_000 } else { 30 };
                    (key(chance), (chance.below(4) > 0).then(|| chance.bytes(len)))
                });
                Change::Omap { set: entries.collect() }
            }
            16 => {
                let (a, b) = (key(chance), key(chance));
                Change::OmapRemoveRange { from: a.clone().min(b.clone()), to: a.max(b) }
            }
            17 => Change::OmapHeader { data: chance.bytes(12) },
            18 => Change::OmapClear {},
            _ => {
                *size = 0;
                Change::Remove {}
            }
        }
    }

    fn apply(&mut self, pg: PgId) -> Write {
        let log = self.logs.get_mut(&pg).expect("made above");
        let count = self.chance.below(log.staged.len() as u64 + 1) as usize;
        let applied: Vec<Version> = log.staged.drain(..count).collect();
        let to = applied.last().copied().unwrap_or(Version::ZERO);
        let except = if self.chance.below(8) == 0 { applied.first().copied() } else { None };
        log.applied.extend(applied);
        Write::Apply { pg, to, except: except.into_iter().collect() }
    }

    fn drop_staged(&mut self, pg: PgId) -> Write {
        let log = self.logs.get_mut(&pg).expect("made above");
        let keep = self.chance.below(log.staged.len() as u64 + 1) as usize;
        log.staged.truncate(keep);
        let after =
            log.staged.last().or_else(|| log.applied.last()).copied().unwrap_or(Version::ZERO);
        Write::DropStaged { pg, after }
    }

    fn trim(&mut self, pg: PgId) -> Write {
        let log = self.logs.get_mut(&pg).expect("made above");
        let count = self.chance.below(log.applied.len() as u64 + 1) as usize;
        let gone: Vec<Version> = log.applied.drain(..count).collect();
        Write::TrimLog { pg, to: gone.last().copied().unwrap_or(Version::ZERO) }
    }

    fn replace(&mut self, pg: PgId) -> Write {
        let log = self.logs.get_mut(&pg).expect("made above");
        log.staged.clear();
        log.applied.clear();
        let applied: Vec<LogEntry> = (0..self.chance.below(4)).map(|_| self.entry(pg)).collect();
        let staged: Vec<LogEntry> = (0..self.chance.below(3)).map(|_| self.entry(pg)).collect();
        let log = self.logs.get_mut(&pg).expect("made above");
        log.applied = applied.iter().map(|entry| entry.version).collect();
        log.staged = staged.iter().map(|entry| entry.version).collect();
        Write::ReplaceLog { pg, applied, staged }
    }

    fn split(&mut self, pg: PgId) -> Write {
        let from = self.pg_nums[&pg];
        if from >= PG_NUM_MAX {
            return Write::RemoveObject { pg, object: self.object(pg) };
        }
        let to = from + 1 + self.chance.below(u64::from(PG_NUM_MAX - from)) as u32;
        for part in pg.children(from, to).chain([pg]) {
            let mut log = self.logs[&pg].clone();
            log.sizes.retain(|object, _| object.pg(pg.pool, to) == part);
            self.logs.insert(part, log);
            self.pg_nums.insert(part, to);
        }
        Write::SplitPg { pg, from, to }
    }

    fn install(&mut self, pg: PgId) -> Write {
        let object = self.object(pg);
        let chance = &mut self.chance;
        let part = match chance.below(10) {
            0 | 1 => Install::Start {},
            2..5 => {
                let len = if chance.below(3) == 0 { chance.below(self.large) } else { 5000 };
                Install::Data { offset: chance.below(100_000), data: chance.bytes(len) }
            }
            5 => Install::Xattrs { entries: [("x".into(), chance.bytes(5))].into() },
            6 => Install::Omap { entries: [("k07".into(), chance.bytes(50))].into() },
            7 => Install::OmapHeader { data: chance.bytes(4) },
            8 => {
                let size = chance.below(100_000);
                Install::Finish { info: ObjectInfo { size, ..ObjectInfo::default() } }
            }
            _ => Install::Abort {},
        };
        Write::Install { pg, object, part }
    }
}
