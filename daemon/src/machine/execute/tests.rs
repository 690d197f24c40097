//! What is proved here, and how.
//!
//! - By example: the semantics of each op, guards, limits, atomicity, watches, classes.
//! - By chance (seeded): vectors that are pipelined through an [`Overlay`] over a [`MemoryStore`], with
//!   applies that lag and tails that are dropped, answer and end exactly as vectors that are applied one by
//!   one; and a vector equals its ops sent one by one.

use super::*;
use crate::store::memory::MemoryStore;
use crate::store::{Completion, LogEntry, Write};
use store_base::op::{Compare, SparseData, VALUE_BYTES_MAX};
use store_base::{ClientId, Interval, PoolId, RequestId, Ticket};

const PG: PgId = PgId { pool: PoolId(1), seed: 0 };
const WALL: Timestamp = Timestamp { secs: 1000, nanos: 0 };

/// A placement group with one member: stages, applies when told, executes.
struct Group {
    store: MemoryStore,
    overlay: Overlay,
    counter: u64,
    applied: u64,
}

fn version(counter: u64) -> Version {
    Version { interval: Interval(1), counter }
}

impl Group {
    fn new() -> Group {
        let mut store = MemoryStore::automatic();
        store.submit(None, vec![Write::CreatePg { pg: PG }]).expect("an empty store takes it");
        Group { store, overlay: Overlay::new(), counter: 0, applied: 0 }
    }

    fn fetch(
        &mut self,
        object: &ObjectName,
        ranges: &[(u64, u64)],
    ) -> Vec<Result<Bytes, StoreError>> {
        let mut done = Vec::new();
        for (i, (offset, length)) in ranges.iter().enumerate() {
            self.store.read(Ticket(i as u64), PG, object, *offset, *length);
        }
        self.store.medium().clone().complete_all();
        self.store.poll(&mut done);
        let read = done.into_iter().filter_map(|completion| match completion {
            Completion::Read { result, .. } => Some(result),
            _ => None,
        });
        read.collect()
    }

    /// Executes and stages; applies what is open when the vector has to wait for it.
    fn run(&mut self, request: &Request) -> Execution {
        // Reads too run over what is open: the group would let them wait, but what they see is the same.
        let view = View::newest(&self.store, PG, &request.object, &self.overlay);
        let mut execution = execute(&view, request, WALL);
        if execution == Execution::Busy {
            assert!(self.overlay.newest(&request.object).is_some());
            self.apply_all();
            let view = View::newest(&self.store, PG, &request.object, &self.overlay);
            execution = execute(&view, request, WALL);
        }
        if let Execution::NeedData(pending) = execution {
            let data = self.fetch(&request.object, &pending.reads());
            execution = pending.finish(data);
        }
        if let Execution::Done(done) = &mut execution {
            self.stage(&request.object, request.id, done);
        }
        execution
    }

    fn stage(&mut self, object: &ObjectName, id: RequestId, done: &mut Done) {
        if done.mutation.is_none() {
            return;
        }
        self.counter += 1;
        done.stamp(version(self.counter), self.counter);
        let mutation = done.mutation.clone().expect("it was just there");
        let entry = LogEntry {
            version: version(self.counter),
            previous: version(self.counter - 1),
            object: object.clone(),
            request: Some(id),
            removes: done.removes,
            mutation: Some(mutation.clone()),
            ..LogEntry::default()
        };
        self.store.submit(None, vec![Write::Stage { pg: PG, entry }]).expect("there is room");
        self.overlay.push(version(self.counter), object, mutation);
    }

    fn apply(&mut self, to: u64) {
        if to > self.applied {
            let apply = Write::Apply { pg: PG, to: version(to), except: vec![] };
            self.store.submit(None, vec![apply]).expect("applying always goes");
            self.overlay.applied(version(to));
            self.applied = to;
        }
    }

    fn apply_all(&mut self) {
        self.apply(self.counter);
        assert!(self.overlay.is_empty());
    }

    fn drop_behind(&mut self, after: u64) {
        let drop = Write::DropStaged { pg: PG, after: version(after) };
        self.store.submit(None, vec![drop]).expect("dropping always goes");
        self.overlay.dropped(version(after));
        self.counter = after;
    }

    fn ok(&mut self, ops: Vec<Op>) -> Vec<Bytes> {
        match self.run(&request(ops)) {
            Execution::Done(done) => done.results.into_iter().map(|result| result.data).collect(),
            other => panic!("not done: {other:?}"),
        }
    }

    fn fails(&mut self, ops: Vec<Op>) -> (usize, i32) {
        match self.run(&request(ops)) {
            Execution::Failed { results, .. } => {
                (results.len() - 1, -results.last().expect("one").code)
            }
            other => panic!("did not fail: {other:?}"),
        }
    }

    fn read_all(&mut self, name: &str) -> Option<Bytes> {
        self.apply_all();
        let name = ObjectName::new(name.to_string());
        self.store.info(PG, &name).expect("readable")?;
        self.fetch(&name, &[(0, 0)]).pop().expect("one").ok()
    }
}

fn request(ops: Vec<Op>) -> Request {
    Request {
        id: RequestId { client: ClientId(7), incarnation: 1, tid: 1 },
        object: ObjectName::new("o"),
        mtime: Timestamp { secs: 5, nanos: 0 },
        ops,
        ..Request::default()
    }
}

fn write(offset: u64, data: &'static str) -> Op {
    Op::Write { offset, data: data.into() }
}

fn read_op() -> Op {
    Op::Read { offset: 0, length: 0 }
}

fn set(key: &str, value: &str) -> Op {
    Op::OmapSet {
        entries: BTreeMap::from([(Bytes::from(key.to_string()), value.to_string().into())]),
    }
}

fn list_op(after: &'static str, prefix: &'static str, max: u32) -> Op {
    Op::OmapList { after: after.into(), prefix: prefix.into(), max, values: true }
}

fn page(data: &Bytes) -> (Vec<String>, bool) {
    let page = OmapPage::from_bytes(data.clone()).expect("a page");
    let show = |(key, value): (Bytes, Bytes)| {
        format!("{}={}", String::from_utf8_lossy(&key), String::from_utf8_lossy(&value))
    };
    (page.entries.into_iter().map(show).collect(), page.more)
}

#[test]
fn later_ops_see_earlier_ones() {
    let mut group = Group::new();
    let data = group.ok(vec![
        Op::Create { exclusive: true },
        write(2, "abc"),
        read_op(),
        Op::Append { data: "d".into() },
        Op::Zero { offset: 3, length: 1 },
        read_op(),
        Op::Truncate { size: 3 },
        Op::Truncate { size: 5 },
        read_op(),
        Op::SetXattr { name: "x".into(), value: "1".into() },
        Op::Xattr { name: "x".into() },
        set("k", "v"),
        list_op("", "", 9),
        Op::Stat {},
    ]);
    assert_eq!(data[2], "\0\0abc");
    assert_eq!(data[5], "\0\0a\0cd");
    assert_eq!(data[8], "\0\0a\0\0");
    assert_eq!(data[10], "1");
    assert_eq!(page(&data[12]), (vec!["k=v".to_string()], false));
    assert_eq!(Stat::from_bytes(data[13].clone()).expect("a stat").size, 5);
    assert_eq!(group.read_all("o").expect("there"), "\0\0a\0\0");
    let stat = Stat::from_bytes(group.ok(vec![Op::Stat {}])[0].clone()).expect("a stat");
    assert_eq!((stat.size, stat.mtime.secs, stat.version), (5, 5, 1));
}

#[test]
fn reads_overlay_stored_bytes_with_own_changes() {
    let mut group = Group::new();
    group.ok(vec![write(0, "0123456789")]);
    let data = group.ok(vec![
        write(2, "ab"),
        read_op(),
        Op::Read { offset: 3, length: 3 },
        Op::Truncate { size: 4 },
        Op::Truncate { size: 6 },
        read_op(),
        Op::SparseRead { offset: 1, length: 4 },
        Op::WriteFull { data: "new".into() },
        read_op(),
        Op::Delete {},
        Op::Append { data: "z".into() },
        read_op(),
    ]);
    assert_eq!(data[1], "01ab456789");
    assert_eq!(data[2], "b45");
    assert_eq!(data[5], "01ab\0\0");
    let sparse = SparseData::from_bytes(data[6].clone()).expect("sparse");
    assert_eq!((sparse.extents, sparse.data), (vec![(1, 4)], "1ab\0".into()));
    assert_eq!((&data[8][..], &data[11][..]), (&b"new"[..], &b"z"[..]));
    assert_eq!(group.read_all("o").expect("there"), "z");
}

#[test]
fn sparse_reads_of_stored_objects_show_holes() {
    let mut group = Group::new();
    group.ok(vec![write(0, "ab"), write(10, "cd")]);
    let data = group.ok(vec![Op::SparseRead { offset: 1, length: 0 }]);
    let sparse = SparseData::from_bytes(data[0].clone()).expect("sparse");
    assert_eq!((sparse.extents, sparse.data), (vec![(1, 1), (10, 2)], "bcd".into()));
}

#[test]
fn a_failing_op_undoes_all_and_ends_the_results() {
    let mut group = Group::new();
    group.ok(vec![write(0, "old"), set("k", "1")]);
    let guard = Op::CompareOmap { key: "k".into(), compare: Compare::Equal {}, value: "2".into() };
    assert_eq!(group.fails(vec![write(0, "new"), set("k", "3"), guard]), (2, errno::ECANCELED));
    assert_eq!(group.read_all("o").expect("there"), "old");
    let keys = Op::OmapByKeys { keys: vec!["k".into(), "none".into()] };
    let found = group.ok(vec![keys]);
    let found = BTreeMap::<Bytes, Bytes>::from_bytes(found[0].clone()).expect("a map");
    assert_eq!(found, BTreeMap::from([("k".into(), "1".into())]));
}

#[test]
fn guards_of_what_is_not_there() {
    let mut group = Group::new();
    let empty = |compare| Op::CompareXattr { name: "x".into(), compare, value: Bytes::new() };
    assert_eq!(group.fails(vec![Op::AssertExists {}]), (0, errno::ENOENT));
    assert_eq!(group.fails(vec![Op::AssertVersion { version: 1 }]), (0, errno::EOVERFLOW));
    assert_eq!(group.fails(vec![empty(Compare::NotEqual {})]), (0, errno::ECANCELED));
    group.ok(vec![empty(Compare::Equal {}), Op::CompareData { offset: 4, data: "\0\0".into() }]);
    group.ok(vec![write(0, "abc")]);
    group.ok(vec![Op::AssertVersion { version: 1 }, write(0, "x")]);
    assert_eq!(group.fails(vec![Op::AssertVersion { version: 1 }]), (0, errno::ERANGE));
}

#[test]
fn compare_data_decides_although_it_waits_for_bytes() {
    let mut group = Group::new();
    group.ok(vec![write(0, "abc")]);
    let compare = |data: &'static str| Op::CompareData { offset: 1, data: data.into() };
    group.ok(vec![compare("bc\0"), write(0, "xyz"), compare("yz")]);
    assert_eq!(
        group.fails(vec![Op::Stat {}, compare("bc"), write(0, "123")]),
        (1, errno::ECANCELED)
    );
    // The comparison fails before the op that would fail at once.
    assert_eq!(
        group.fails(vec![compare("no"), Op::Create { exclusive: true }]),
        (0, errno::ECANCELED)
    );
    assert_eq!(
        group.fails(vec![compare("yz"), Op::Create { exclusive: true }]),
        (1, errno::EEXIST)
    );
    assert_eq!(group.read_all("o").expect("there"), "xyz");
}

#[test]
fn absent_objects() {
    let mut group = Group::new();
    let reads = [
        read_op(),
        Op::SparseRead { offset: 0, length: 0 },
        Op::Stat {},
        Op::Xattr { name: "x".into() },
        Op::Xattrs {},
        list_op("", "", 1),
        Op::OmapByKeys { keys: vec![] },
        Op::OmapHeader {},
        Op::Watchers {},
        Op::Delete {},
        Op::RemoveXattr { name: "x".into() },
        Op::OmapRemove { keys: vec!["k".into()] },
        Op::OmapRemoveRange { from: "a".into(), to: "b".into() },
        Op::OmapClear {},
        Op::Watch { cookie: 1, timeout_secs: 1 },
        Op::Unwatch { cookie: 1 },
        Op::Notify { payload: Bytes::new(), timeout_secs: 1 },
    ];
    for op in reads {
        assert_eq!(group.fails(vec![op.clone()]), (0, errno::ENOENT), "{op:?}");
    }
    group.ok(vec![Op::Truncate { size: 9 }, Op::Zero { offset: 0, length: 9 }]);
    assert_eq!(group.counter, 0, "nothing was changed");
    group.ok(vec![Op::Create { exclusive: false }]);
    assert_eq!(group.fails(vec![Op::Create { exclusive: true }]), (0, errno::EEXIST));
    assert_eq!(group.read_all("o").expect("there"), "");
    group.ok(vec![Op::Delete {}, Op::Create { exclusive: true }]);
    assert_eq!(group.read_all("o").expect("there"), "");
    group.ok(vec![Op::Delete {}]);
    assert_eq!(group.read_all("o"), None);
    group.ok(vec![Op::Create { exclusive: true }, set("a", "b"), Op::Delete {}]);
    assert_eq!(group.counter, 3, "made and removed at once is nothing");
}

#[test]
fn limits() {
    let mut group = Group::new();
    let big = Bytes::from(vec![0; VALUE_BYTES_MAX + 1]);
    assert_eq!(
        group.fails(vec![Op::SetXattr { name: "x".into(), value: big.clone() }]).1,
        errno::E2BIG
    );
    let entries = BTreeMap::from([("k".into(), big.clone())]);
    assert_eq!(group.fails(vec![Op::OmapSet { entries }]).1, errno::E2BIG);
    let at = store_base::op::OBJECT_BYTES_MAX;
    assert_eq!(group.fails(vec![write(at, "x")]).1, errno::EFBIG);
    assert_eq!(group.fails(vec![write(u64::MAX, "x")]).1, errno::EFBIG);
    group.ok(vec![write(at - 1, "x")]);
    assert_eq!(group.fails(vec![Op::Append { data: "x".into() }]).1, errno::EFBIG);
    assert_eq!(group.fails(vec![Op::Truncate { size: at + 1 }]).1, errno::EFBIG);
    assert_eq!(group.fails(vec![read_op()]).1, errno::E2BIG);
    group.ok(vec![Op::Read { offset: at - 1, length: 99 }, Op::Read { offset: at, length: 0 }]);
    let long = Bytes::from(vec![b'k'; KEY_BYTES_MAX + 1]);
    let entries = BTreeMap::from([(long, Bytes::new())]);
    assert_eq!(group.fails(vec![Op::OmapSet { entries }]).1, errno::ENAMETOOLONG);
    let half = |i| Op::SetXattr {
        name: format!("x{i}").into(),
        value: big.slice(..VALUE_BYTES_MAX / 2 + 9),
    };
    assert_eq!(group.fails(vec![half(0), half(1)]), (1, errno::E2BIG));

    let code = |request: &Request| check(request).expect_err("refused").0;
    assert_eq!(code(&request(vec![])), -errno::EINVAL);
    assert_eq!(code(&request(vec![Op::Stat {}; OPS_MAX + 1])), -errno::EINVAL);
    let large = Op::WriteFull { data: Bytes::from(vec![0; PAYLOAD_BYTES_MAX / 2 + 1]) };
    assert_eq!(code(&request(vec![large.clone(), large])), -errno::E2BIG);
    let list = Op::List { after: Bytes::new(), max: 1 };
    assert_eq!(code(&request(vec![list.clone(), Op::Stat {}])), -errno::EINVAL);
    check(&request(vec![list])).expect("alone it is right");
}

#[test]
fn pages_of_an_omap_are_cut_to_the_answer() {
    let mut group = Group::new();
    let value = "v".repeat(100 << 10);
    for i in 0..30 {
        group.ok(vec![set(&format!("k{i:02}"), &value)]);
    }
    let (entries, more) = page(&group.ok(vec![list_op("", "", 1000)])[0]);
    assert!((5..11).contains(&entries.len()) && more, "{}", entries.len());
    let all = Op::OmapByKeys { keys: (0..30).map(|i| format!("k{i:02}").into()).collect() };
    assert_eq!(group.fails(vec![all]).1, errno::E2BIG);
    let keys = Op::OmapList { after: "k03".into(), prefix: "k".into(), max: 2, values: false };
    assert_eq!(page(&group.ok(vec![keys])[0]), (vec!["k04=".into(), "k05=".into()], true));
}

#[test]
fn read_only_requests_and_snapshots_change_nothing() {
    let mut group = Group::new();
    group.ok(vec![write(0, "abc")]);
    let mut only_reads = request(vec![Op::Stat {}, write(0, "x")]);
    only_reads.read_only = true;
    let erofs = |execution| match execution {
        Execution::Failed { results, .. } => {
            assert_eq!(results.last().expect("one").code, -errno::EROFS);
        }
        other => panic!("{other:?}"),
    };
    erofs(group.run(&only_reads));
    let mut exec = request(vec![Op::Exec {
        class: "lock".into(),
        method: "lock".into(),
        input: Bytes::new(),
    }]);
    exec.read_only = true;
    erofs(group.run(&exec));
    let mut snap = request(vec![write(0, "x")]);
    snap.object.snap = SnapId(3);
    erofs(group.run(&snap));
    let unknown = Op::Exec { class: "no".into(), method: "such".into(), input: Bytes::new() };
    assert_eq!(group.fails(vec![unknown]).1, errno::EOPNOTSUPP);
}

#[test]
fn data_of_open_entries_is_waited_for_but_replacing_it_is_not() {
    let mut group = Group::new();
    group.ok(vec![write(0, "abc")]);
    let run = |group: &Group, op: Op| {
        let request = request(vec![op, set("a", "b")]);
        execute(&View::newest(&group.store, PG, &request.object, &group.overlay), &request, WALL)
    };
    assert_eq!(run(&group, read_op()), Execution::Busy);
    let compare = Op::CompareData { offset: 2, data: "c".into() };
    assert_eq!(run(&group, compare.clone()), Execution::Busy);
    for op in [Op::Stat {}, Op::Append { data: "d".into() }, Op::WriteFull { data: "x".into() }] {
        assert!(matches!(run(&group, op), Execution::Done(_)));
    }
    group.apply_all();
    assert!(
        matches!(run(&group, compare), Execution::NeedData(pending) if pending.reads() == [(2, 1)])
    );
}

#[test]
fn damage_is_told_and_nothing_changes() {
    let mut group = Group::new();
    group.ok(vec![write(0, "abc")]);
    group.apply_all();
    group.store.medium().damage(PG, &ObjectName::new("o"));
    let compare = Op::CompareData { offset: 0, data: "abc".into() };
    assert!(matches!(group.run(&request(vec![compare, write(0, "x")])), Execution::Unreadable(_)));
    assert_eq!(group.counter, 1);
}

#[test]
fn watches_are_kept_with_the_object_and_hidden() {
    let mut group = Group::new();
    group.ok(vec![Op::Create { exclusive: true }]);
    let ping = Op::WatchPing { cookie: 3 };
    assert_eq!(group.fails(vec![ping.clone()]).1, errno::ENOTCONN);
    let watcher = Watcher { client: 7, cookie: 3, timeout_secs: 30 };
    let Execution::Done(done) =
        group.run(&request(vec![Op::Watch { cookie: 3, timeout_secs: 30 }]))
    else {
        panic!("not done")
    };
    assert_eq!(done.effects, [Effect::Watched { watcher: watcher.clone() }]);
    assert_eq!(done.user_version, 1, "clients see no change");
    let watchers = group.ok(vec![Op::Watchers {}]);
    assert_eq!(
        Vec::<Watcher>::from_bytes(watchers[0].clone()).expect("watchers"),
        std::slice::from_ref(&watcher)
    );
    let xattrs = group.ok(vec![Op::Xattrs {}]);
    assert!(BTreeMap::<Bytes, Bytes>::from_bytes(xattrs[0].clone()).expect("a map").is_empty());
    let hidden = || Bytes::from_static(b"\0watch\0");
    assert_eq!(
        group.fails(vec![Op::SetXattr { name: hidden(), value: hidden() }]).1,
        errno::EINVAL
    );
    assert_eq!(group.fails(vec![Op::Xattr { name: hidden() }]).1, errno::EINVAL);
    let Execution::Done(done) = group.run(&request(vec![ping])) else { panic!("not done") };
    assert_eq!((done.mutation, done.effects), (None, vec![Effect::Pinged { watcher }]));

    group.apply_all();
    let object = ObjectName::new("o");
    let view = View::applied(&group.store, PG, &object);
    assert_eq!(end_watch(&view, 7, 4), Ok(None));
    let mut done = end_watch(&view, 7, 3).expect("readable").expect("registered");
    group.stage(&object, RequestId::default(), &mut done);
    let watchers = group.ok(vec![Op::Watchers {}]);
    assert_eq!(Vec::<Watcher>::from_bytes(watchers[0].clone()), Ok(vec![]));
}

#[test]
fn lists_page_through_the_group() {
    let mut group = Group::new();
    for i in 0..25 {
        let mut create = request(vec![Op::Create { exclusive: true }]);
        create.object = ObjectName::new(format!("o{i}"));
        assert!(matches!(group.run(&create), Execution::Done(_)));
    }
    group.apply_all();
    let (mut after, mut seen) = (Bytes::new(), Vec::new());
    loop {
        let result = list(&group.store, PG, &after, 10).expect("readable");
        let page = ObjectPage::from_bytes(result.data).expect("a page");
        seen.extend(page.objects);
        after = page.next;
        if after.is_empty() {
            break;
        }
    }
    assert_eq!(seen.len(), 25);
    assert!(seen.is_sorted());
    assert_eq!(list(&group.store, PG, &"?".into(), 1).expect("readable").code, -errno::EINVAL);
}

#[test]
fn a_removed_range_hides_what_is_stored_and_open() {
    let mut group = Group::new();
    for i in 0..300 {
        group.ok(vec![set(&format!("k{i:03}"), "s")]);
    }
    group.apply_all();
    let range = |from: &'static str, to: &'static str| Op::OmapRemoveRange {
        from: from.into(),
        to: to.into(),
    };
    group.ok(vec![set("k005", "o"), set("l", "o")]);
    group.ok(vec![range("k003", "k290"), set("k100", "n")]);
    group.ok(vec![range("k295", "z"), set("a", "n")]);
    let check_now = |group: &mut Group| {
        // A write beside the list makes it run over the open entries.
        let seen = page(&group.ok(vec![list_op("", "", 99), Op::Create { exclusive: false }])[0]).0;
        let expected = "a=n k000=s k001=s k002=s k100=n k290=s k291=s k292=s k293=s k294=s";
        assert_eq!(seen.join(" "), expected);
    };
    for to in [300, 301, 302, 303] {
        group.apply(to);
        check_now(&mut group);
    }
    group.apply_all();
    check_now(&mut group);
}

/// A small generator of numbers (splitmix64): the same for the same seed.
struct Chance(u64);

impl Chance {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % bound
    }

    fn key(&mut self) -> Bytes {
        format!("k{}", self.below(12)).into()
    }

    fn data(&mut self) -> Bytes {
        vec![b'a' + self.below(26) as u8; self.below(9) as usize].into()
    }

    fn compare(&mut self) -> Compare {
        if self.below(2) == 0 { Compare::Equal {} } else { Compare::NotEqual {} }
    }

    fn op(&mut self) -> Op {
        let (offset, length) = (self.below(24), self.below(16));
        match self.below(31) {
            0 => Op::AssertExists {},
            1 => Op::CompareXattr { name: self.key(), compare: self.compare(), value: self.data() },
            2 => Op::CompareOmap { key: self.key(), compare: self.compare(), value: self.data() },
            3 => Op::CompareData { offset, data: vec![0; self.below(2) as usize].into() },
            4 => Op::Read { offset, length },
            5 => Op::Xattr { name: self.key() },
            6 => Op::Xattrs {},
            7 | 8 => {
                let after = if self.below(2) == 0 { Bytes::new() } else { self.key() };
                let prefix =
                    if self.below(2) == 0 { Bytes::new() } else { Bytes::from_static(b"k1") };
                Op::OmapList { after, prefix, max: self.below(9) as u32, values: true }
            }
            9 => Op::OmapByKeys { keys: vec![self.key(), self.key()] },
            10 => Op::OmapHeader {},
            11 => Op::Create { exclusive: self.below(4) == 0 },
            12 | 13 => Op::Write { offset, data: self.data() },
            14 => Op::WriteFull { data: self.data() },
            15 => Op::Append { data: self.data() },
            16 => Op::Zero { offset, length },
            17 => Op::Truncate { size: offset },
            18 => Op::Delete {},
            19 | 20 => Op::SetXattr { name: self.key(), value: self.data() },
            21 => Op::RemoveXattr { name: self.key() },
            22..=24 => Op::OmapSet {
                entries: (0..self.below(4)).map(|_| (self.key(), self.data())).collect(),
            },
            25 => Op::OmapRemove { keys: vec![self.key(), self.key()] },
            26 | 29 => Op::OmapRemoveRange { from: self.key(), to: self.key() },
            27 if self.below(3) == 0 => Op::OmapClear {},
            27 => Op::Watch { cookie: self.below(3), timeout_secs: 9 },
            28 => Op::OmapSetHeader { data: self.data() },
            _ => Op::Unwatch { cookie: self.below(3) },
        }
    }

    fn request(&mut self) -> Request {
        let count = 1 + self.below(4);
        let mut request = request((0..count).map(|_| self.op()).collect());
        request.object = ObjectName::new(format!("o{}", self.below(2)));
        request.mtime.secs = self.below(100);
        request
    }
}

/// All that can be seen of both objects.
fn contents(group: &mut Group) -> Vec<String> {
    group.apply_all();
    let mut all = Vec::new();
    for name in ["o0", "o1"] {
        let data = group.read_all(name);
        let name = ObjectName::new(name);
        let store = &group.store;
        let info = store.info(PG, &name).expect("readable");
        if let (Some(info), Some(data)) = (&info, &data) {
            assert_eq!(info.size, data.len() as u64, "the size is what is there");
        }
        let xattrs = store.xattrs(PG, &name).expect("readable");
        let omap = store.omap_list(PG, &name, None, b"", 1000).expect("readable");
        let header = store.omap_header(PG, &name).expect("readable");
        if let Some(info) = &info {
            assert!(info.has_omap || (omap.0.is_empty() && header.is_empty()), "has_omap is told");
        }
        all.push(format!("{info:?} {data:?} {xattrs:?} {omap:?} {header:?}"));
    }
    all
}

#[test]
fn pipelined_vectors_equal_vectors_one_by_one() {
    for seed in 0..400 {
        let mut chance = Chance(seed);
        let mut piped = Group::new();
        let mut history: Vec<(u64, Request)> = Vec::new();
        let mut plain = Group::new();
        for step in 0..40 {
            let request = chance.request();
            let got = piped.run(&request);
            let expected = plain.run(&request);
            plain.apply_all();
            assert_eq!(got, expected, "seed {seed}, step {step}: {request:?}");
            history.push((piped.counter, request));
            match chance.below(8) {
                0..=2 => {
                    let open = piped.counter - piped.applied;
                    piped.apply(piped.applied + chance.below(open + 1));
                }
                3 => {
                    let open = piped.counter - piped.applied;
                    let after = piped.applied + chance.below(open + 1);
                    piped.drop_behind(after);
                    history.retain(|(counter, _)| *counter <= after);
                    plain = Group::new();
                    for (_, request) in &history {
                        plain.run(request);
                        plain.apply_all();
                    }
                    assert_eq!(plain.counter, piped.counter, "seed {seed}, step {step}");
                }
                _ => {}
            }
        }
        assert_eq!(contents(&mut piped), contents(&mut plain), "seed {seed}");
    }
}

#[test]
fn a_vector_equals_its_ops_one_by_one() {
    let mut compared = 0;
    for seed in 0..3000 {
        let mut chance = Chance(1_000_000 + seed);
        let (mut whole, mut single) = (Group::new(), Group::new());
        for _ in 0..3 {
            let mut request = chance.request();
            request.mtime.secs = 1;
            let Execution::Done(done) = whole.run(&request) else { continue };
            let mut results = Vec::new();
            for op in &request.ops {
                let part = Request { ops: vec![op.clone()], ..request.clone() };
                match single.run(&part) {
                    Execution::Done(done) => results.extend(done.results),
                    other => panic!("seed {seed}: {op:?} of {request:?}: {other:?}"),
                }
                single.apply_all();
            }
            assert_eq!(done.results, results, "seed {seed}: {request:?}");
            compared += 1;
        }
        // Versions count vectors and differ.
        let blank = |group: &mut Group| {
            let strip = |text: String| {
                let at = text.find("size:").unwrap_or(0);
                text[at..].to_string()
            };
            contents(group).into_iter().map(strip).collect::<Vec<_>>()
        };
        assert_eq!(blank(&mut whole), blank(&mut single), "seed {seed}");
    }
    assert!(compared > 1000, "{compared} vectors were compared");
}

#[test]
fn an_always_busy_object_keeps_nothing_of_what_was_applied() {
    let mut group = Group::new();
    for i in 0..1000u64 {
        group.ok(vec![
            set(&format!("k{i}"), "v"),
            Op::SetXattr { name: "x".into(), value: "y".into() },
        ]);
        group.apply(i.saturating_sub(3));
    }
    let open = group.overlay.object(&ObjectName::new("o")).expect("four are open");
    assert!(format!("{open:?}").len() < 4000, "{open:?}");
}

#[test]
fn what_a_class_keeps_only_its_methods_change() {
    use store_base::bucket::{
        Answer, BODY_CLASS, LockBody, LockMode, Nothing, ObjectLock, Refusal, RemoveBody, Retention,
    };
    let exec = |method: &str, input: Bytes| Op::Exec {
        class: BODY_CLASS.into(),
        method: method.into(),
        input,
    };
    let locked = |until_ms: u64| {
        let retention = Some(Retention { mode: LockMode::Compliance, until_ms });
        let lock = ObjectLock { retention, hold: None };
        exec("lock", LockBody { lock, bypass: true }.to_bytes())
    };
    let remove = || exec("remove", RemoveBody { bypass: true }.to_bytes());
    let answer = |data: &Bytes| Answer::<Nothing>::from_bytes(data.clone()).expect("an answer").0;
    let now_ms = WALL.millis();
    let mut group = Group::new();
    group.ok(vec![write(0, "abc")]);
    // Before there is a lock anybody may write.
    group.ok(vec![write(0, "x")]);
    assert_eq!(answer(&group.ok(vec![locked(now_ms + 1)])[0]), Ok(Nothing {}));
    group.apply_all();
    let other = Op::Exec {
        class: "lock".into(),
        method: "lock".into(),
        input: store_base::class::lock::Lock {
            name: "l".into(),
            kind: Default::default(),
            cookie: String::new(),
            tag: String::new(),
            description: String::new(),
            duration_millis: 0,
        }
        .to_bytes(),
    };
    let attempts = [
        Op::Delete {},
        write(0, "y"),
        Op::WriteFull { data: "".into() },
        Op::Append { data: "y".into() },
        Op::Zero { offset: 0, length: 1 },
        Op::Truncate { size: 0 },
        Op::Create { exclusive: false },
        Op::SetXattr { name: "lock".into(), value: "".into() },
        Op::RemoveXattr { name: "lock".into() },
        set("k", "v"),
        Op::OmapRemove { keys: vec!["k".into()] },
        Op::OmapRemoveRange { from: "".into(), to: "z".into() },
        Op::OmapClear {},
        Op::OmapSetHeader { data: "h".into() },
        other,
    ];
    for attempt in attempts {
        assert_eq!(group.fails(vec![attempt.clone()]), (0, errno::EPERM), "{attempt:?}");
    }
    // Nor in one vector with what the class may do.
    assert_eq!(group.fails(vec![locked(now_ms + 2), Op::Delete {}]), (1, errno::EPERM));
    assert_eq!(answer(&group.ok(vec![remove()])[0]), Err(Refusal::Locked {}));
    assert_eq!(answer(&group.ok(vec![locked(now_ms)])[0]), Err(Refusal::Locked {}));
    assert_eq!(group.read_all("o").expect("it is there"), "xbc");
    group.ok(vec![Op::Watch { cookie: 1, timeout_secs: 9 }, Op::Unwatch { cookie: 1 }]);
    let mut later = request(vec![remove()]);
    later.mtime = WALL;
    let view = View::newest(&group.store, PG, &later.object, &group.overlay);
    let end = Timestamp { secs: WALL.secs + 1, nanos: 0 };
    match execute(&view, &later, end) {
        Execution::Done(done) => assert!(done.removes),
        other => panic!("not done: {other:?}"),
    }
}
