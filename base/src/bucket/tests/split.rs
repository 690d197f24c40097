//! Splits against one shard that is never split: every call goes to both, and both must answer and hold the same,
//! whatever step of a split any of several workers takes in between, late, twice, or for the last time.

use super::*;
use std::collections::BTreeMap;

const ROOTS: u32 = 2;

/// What a worker has read and not yet brought, or seen taken and not yet told.
#[derive(Clone, Default)]
struct Worker {
    load: Option<(u32, Take)>,
    taken: Option<(u32, (u32, Bytes))>,
}

struct World {
    shards: BTreeMap<u32, Shard>,
    layout: Layout,
    whole: Shard,
    workers: Vec<Worker>,
    /// How many uploads of each name came to their end: no upload's id comes twice.
    ended: [u8; 6],
    /// How many were completed, and how many of these of very many parts.
    completed: (u32, u32),
    seed: u64,
}

impl World {
    fn new(seed: u64) -> Self {
        World {
            shards: (0..ROOTS).map(|shard| (shard, Shard::named(shard))).collect(),
            layout: Layout::default(),
            whole: Shard::new(),
            workers: vec![Worker::default(); 3],
            ended: [0; 6],
            completed: (0, 0),
            seed: seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1,
        }
    }

    fn chance(&mut self, below: u64) -> u64 {
        self.seed ^= self.seed << 13;
        self.seed ^= self.seed >> 7;
        self.seed ^= self.seed << 17;
        (self.seed >> 11) % below
    }

    fn ask<I: Encode, O: Decode>(&mut self, shard: u32, method: &str, input: &I) -> Done<O> {
        let shard = self.shards.get_mut(&shard).expect("a shard that was made");
        shard.call::<_, Answer<O>>(method, input).0
    }

    fn lineage(&mut self, shard: u32) -> Lineage {
        let lineage: Option<Lineage> = self.ask(shard, "shape", &Nothing {}).expect("open");
        lineage.unwrap_or(Lineage { roots: ROOTS, shard, ..Lineage::default() })
    }

    /// A call as gateways make it: from a hint that may be old, following what shards say.
    fn follow<I: Encode, O: Decode>(&mut self, key: &str, method: &str, input: &I) -> Done<O> {
        let mut shard = match self.chance(2) {
            0 => self.layout.find(ROOTS, key.as_bytes()),
            _ => shard_of(key.as_bytes(), ROOTS),
        };
        let mut gone_from = None;
        for _ in 0..50 {
            // The items of a removal are refused one by one.
            let refusal = match method {
                "remove" => {
                    let head = self.shards.get_mut(&shard).expect("a shard").head();
                    head.check_key(key.as_bytes()).err()
                }
                _ => None,
            };
            let answer = match refusal {
                Some(refusal) => Err(refusal),
                None => self.ask(shard, method, input),
            };
            match answer {
                Err(Refusal::Moved { reach }) => {
                    gone_from = Some(shard);
                    let next = self.layout.go_on(ROOTS, shard, reach, key.as_bytes());
                    shard = next.expect("a child");
                }
                Err(Refusal::NotYet {}) => {
                    let parent = parent_of(ROOTS, shard).expect("no root is filled");
                    match gone_from == Some(parent) {
                        true => self.bring(parent),
                        false => shard = parent,
                    }
                }
                answer => return answer,
            }
        }
        panic!("{method} of {key} found no shard");
    }

    /// Brings the page that is set out, as a call does that waits for it.
    fn bring(&mut self, shard: u32) {
        let lineage = self.lineage(shard);
        let Some(Split { gone: from, page: Some(page) }) = lineage.split.clone() else { return };
        let child = lineage.filled().expect("a child");
        loop {
            let filling = self.lineage(child).filling.expect("a child is filled");
            if filling.done || filling.below != from {
                return;
            }
            let carry = Carry { from: from.clone(), at: filling.staged.clone() };
            let load: Option<Load> = self.ask(shard, "carry", &carry).expect("open");
            let load = load.expect("the page is set out");
            let (from, until) = (from.clone(), page.until.clone());
            let take = Take { from, until, at: filling.staged, load };
            let _: Filling = self.ask(child, "take", &take).expect("open");
        }
    }

    /// Any step of a split by any worker.
    fn step(&mut self) {
        let shards: Vec<u32> = self.shards.keys().copied().collect();
        let shard = shards[self.chance(shards.len() as u64) as usize];
        let worker = self.chance(3) as usize;
        let lineage = self.lineage(shard);
        match self.chance(10) {
            // He dies, and another takes his place.
            0 => self.workers[worker] = Worker::default(),
            1 if shards.len() < 12 => self.begin(shard, lineage.depth),
            2 => {
                let _: Passed =
                    self.ask(shard, "pass", &Pass { taken: None, max: 5 }).expect("open");
            }
            // What was read long ago is brought late, and stays in the hand to be brought again.
            3 | 4 => {
                if let Some((child, take)) = self.workers[worker].load.clone() {
                    let _: Filling = self.ask(child, "take", &take).expect("open");
                }
            }
            5 | 6 => {
                if let Some((shard, from)) = self.workers[worker].taken.clone() {
                    let pass = Pass { taken: Some(from), max: 5 };
                    let _: Passed = self.ask(shard, "pass", &pass).expect("open");
                }
            }
            _ => self.read_page(shard, &lineage, worker),
        }
    }

    fn begin(&mut self, shard: u32, depth: u32) {
        let child = child_of(ROOTS, shard, depth).expect("few shards");
        let sprout = Sprout { bucket: BUCKET, roots: ROOTS, shard: child, ..Sprout::default() };
        let new = self.shards.entry(child).or_insert_with(|| Shard::absent(child));
        let made: Answer<Nothing> = new.call("sprout", &sprout);
        assert_eq!(made, Answer(Ok(Nothing {})));
        let begin = BeginSplit { roots: ROOTS, shard, depth };
        let begun: Done<Nothing> = self.ask(shard, "split", &begin);
        assert!(matches!(begun, Ok(_) | Err(Refusal::NotYet {})), "{begun:?}");
    }

    fn read_page(&mut self, shard: u32, lineage: &Lineage, worker: usize) {
        let Some(Split { gone: from, page: Some(page) }) = lineage.split.clone() else { return };
        let child = lineage.filled().expect("a child");
        let filling = self.lineage(child).filling.expect("a child is filled");
        if filling.done || filling.below != from {
            self.workers[worker].taken = Some((shard, (lineage.depth, from)));
            return;
        }
        let carry = Carry { from: from.clone(), at: filling.staged.clone() };
        let load: Option<Load> = self.ask(shard, "carry", &carry).expect("open");
        let (at, until) = (filling.staged, page.until);
        let take = Take { from, until, at, load: load.expect("the page is set out") };
        self.workers[worker].load = Some((child, take));
    }

    /// The call goes to the shard that has the key, and to the one that has all. Both must agree.
    fn both<I: Encode, O: Decode + PartialEq + std::fmt::Debug>(
        &mut self,
        key: &str,
        method: &str,
        input: &I,
        same: impl Fn(O) -> O,
    ) {
        let answer = self.follow::<_, O>(key, method, input).map(&same);
        let wanted = self.whole.call::<_, Answer<O>>(method, input).0.map(&same);
        assert_eq!(answer, wanted, "{method} of {key}");
    }

    /// A client's call.
    fn client(&mut self, n: u64) {
        let key = format!("{:03}", self.chance(120));
        let bytes = Bytes::from(key.clone());
        let id = WriteId([(n % 250) as u8 + 1; 16]);
        let stripe_bytes = STRIPE_BYTES;
        let data = DataRef { id, attempt: n as u32, size: 10, stripe_bytes, part: 0 };
        let slot = self.chance(6) as usize;
        let mut upload = WriteId([slot as u8; 16]);
        (upload.0[0], upload.0[1]) = (255, self.ended[slot]);
        let body = |put: Put| Put { key: bytes.clone(), now_ms: 5, ..put };
        match self.chance(11) {
            0..3 => {
                // Large enough that a page has several parts.
                let put = body(inline(self.chance(20_000), n as u8));
                self.both(&key, "put", &put, numbered);
            }
            3 | 4 => {
                let intend = Intend { key: bytes.clone(), data, ..Intend::default() };
                self.both::<_, Nothing>(&key, "intend", &intend, |same| same);
                if self.chance(3) > 0 {
                    (0..self.chance(4)).for_each(|_| self.step());
                    let put = body(Put { intent: Some(data), ..striped(&[data], n as u8) });
                    self.both(&key, "put", &put, numbered);
                }
            }
            5 | 6 => {
                let items = vec![object(&key)];
                let remove = Remove { items, now_ms: 5, ..Remove::default() };
                let same = |mut all: Vec<Answer<Removed>>| {
                    for removed in all.iter_mut().filter_map(|one| one.0.as_mut().ok()) {
                        for entry in [&mut removed.entry, &mut removed.marker].into_iter().flatten()
                        {
                            entry.sequence = entry.sequence.min(1);
                        }
                    }
                    all
                };
                self.both(&key, "remove", &remove, same);
            }
            7 => {
                let begin = Begin {
                    key: bytes.clone(),
                    id: upload,
                    upload: Upload { created_ms: n, ..Upload::default() },
                    ..Begin::default()
                };
                // An upload's id is of one key: parts are stored under the id alone.
                if upload_of(&mut self.whole, &upload).is_none() {
                    self.both::<_, Nothing>(&key, "upload", &begin, |same| same);
                }
            }
            8 => {
                let Some(key) = upload_of(&mut self.whole, &upload) else { return };
                // So many parts that their manifest is kept apart, now and then.
                let last = if self.chance(8) == 0 { 70 } else { 1 };
                let first = 1 + self.chance(3) as u16;
                for part in first..first + last {
                    self.add_part(&key, DataRef { id: upload, part, ..data });
                }
            }
            9 => {
                let Some(key) = upload_of(&mut self.whole, &upload) else { return };
                if self.end_upload(&key, upload, n) {
                    self.ended[slot] += 1;
                }
            }
            _ => {
                let read = Read { key: bytes.clone(), body: true, version: None };
                let same = |found: Option<Found>| {
                    found.map(|mut found| {
                        found.entry.sequence = found.entry.sequence.min(1);
                        found
                    })
                };
                self.both(&key, "read", &read, same);
            }
        }
    }

    fn add_part(&mut self, key: &Bytes, data: DataRef) {
        let name = String::from_utf8_lossy(key).into_owned();
        let upload = Some(data.id);
        let intend = Intend { key: key.clone(), data, upload, ..Intend::default() };
        self.both::<_, Nothing>(&name, "intend", &intend, |same| same);
        if self.chance(4) == 0 {
            self.step();
        }
        let part = Part { data, ..Part::default() };
        let add = AddPart { key: key.clone(), id: data.id, part, now_ms: 6 };
        self.both::<_, bool>(&name, "part", &add, |same| same);
    }

    /// Completes or aborts an upload. Whether it came to its end.
    fn end_upload(&mut self, key: &Bytes, id: WriteId, n: u64) -> bool {
        let name = String::from_utf8_lossy(key).into_owned();
        let ask = Parts { key: key.clone(), id, after: 0, max: 1000 };
        let page: PartPage = self.whole.call::<_, Answer<_>>("parts", &ask).0.expect("an upload");
        self.both::<_, PartPage>(&name, "parts", &ask, |same| same);
        // One part may be left out, and all but a few are, at times.
        let parts: Vec<DataRef> = page.parts.iter().map(|part| part.data).collect();
        let (left_out, most) = (self.chance(4) as usize, self.chance(100) as usize + 1);
        let kept = parts.iter().enumerate().filter(|(at, _)| *at != left_out);
        let kept: Vec<DataRef> = kept.map(|(_, part)| *part).take(most).collect();
        if kept.is_empty() || self.chance(3) == 0 {
            let abort = Abort { key: key.clone(), id, now_ms: 7 };
            self.both::<_, Nothing>(&name, "abort", &abort, |same| same);
        } else {
            let Put { entry, detail, .. } = striped(&kept, n as u8);
            let key = key.clone();
            let complete = Complete { key, id, entry, detail, now_ms: 7, ..Complete::default() };
            self.both(&name, "complete", &complete, numbered);
            if upload_of(&mut self.whole, &id).is_none() {
                self.completed.0 += 1;
                self.completed.1 += u32::from(kept.len() > 64);
            }
        }
        upload_of(&mut self.whole, &id).is_none()
    }

    /// Each key is shown by one shard, or is of a page that is set out and shown by none; and all counts agree.
    fn check(&mut self) {
        let wanted: BTreeSet<Bytes> = keys_of(&mut self.whole).into_iter().collect();
        let mut shown = BTreeSet::new();
        let mut hidden = Vec::new();
        let (mut counted, mut twice) = (Amounts::default(), Amounts::default());
        let shards: Vec<u32> = self.shards.keys().copied().collect();
        for &shard in &shards {
            for key in keys_of(self.shards.get_mut(&shard).expect("a shard")) {
                assert!(shown.insert(key.clone()), "{key:?} is shown by two shards");
            }
            let head = self.shards.get_mut(&shard).expect("a shard").head();
            sum(&mut counted, &head.amounts());
            let lineage = self.lineage(shard);
            let Some(child) = lineage.filled() else { continue };
            let child = self.shards.get_mut(&child).expect("a child").head();
            sum(&mut twice, &head.counted_twice(&child));
            hidden.extend(lineage.split.and_then(|split| Some((split.gone, split.page?.until))));
        }
        assert!(shown.is_subset(&wanted), "a shard shows what is not there");
        for key in wanted.difference(&shown) {
            let on_its_way = |(from, until): &(Bytes, Option<Bytes>)| {
                key >= from && is_below(key, until.as_deref())
            };
            assert!(hidden.iter().any(on_its_way), "{key:?} is nowhere");
        }
        let head = self.whole.head().amounts();
        assert_eq!(counted.objects - twice.objects, head.objects);
        assert_eq!(counted.bytes - twice.bytes, head.bytes);
        assert_eq!(counted.versions - twice.versions, head.versions);
        assert_eq!(counted.version_bytes - twice.version_bytes, head.version_bytes);
    }

    /// Ends all splits.
    fn settle(&mut self) {
        for shard in self.shards.keys().copied().collect::<Vec<_>>() {
            for _ in 0..1000 {
                self.bring(shard);
                let lineage = self.lineage(shard);
                let taken = lineage.split.map(|split| (lineage.depth, split.gone));
                match self.ask(shard, "pass", &Pass { taken, max: 5 }).expect("open") {
                    Passed::Done {} => break,
                    Passed::Again {} | Passed::Page { .. } => {}
                }
            }
            assert_eq!(self.lineage(shard).split, None, "a split that does not end");
        }
    }

    /// Nothing moves any more: the shards together hold what the whole one does.
    fn compare(&mut self) {
        self.settle();
        self.check();
        let (mut shown, mut data) = (Vec::new(), BTreeSet::new());
        for shard in self.shards.values_mut() {
            shown.extend(shard.versions("", "", 7));
            let more = shard.data();
            assert!(data.is_disjoint(&more), "a run of data is named by two shards");
            data.extend(more);
        }
        shown.sort_by(|a, b| a.name().cmp(b.name()));
        let plain = |mut item: VersionItem| {
            if let VersionItem::Version { entry, .. } = &mut item {
                entry.sequence = entry.sequence.min(1);
            }
            item
        };
        let shown: Vec<_> = shown.into_iter().map(plain).collect();
        let wanted: Vec<_> = self.whole.versions("", "", 1000).into_iter().map(plain).collect();
        assert_eq!(shown, wanted);
        assert_eq!(data, self.whole.data());
        let mut uploads: Vec<_> = self.shards.values_mut().flat_map(uploads_of).collect();
        uploads.sort();
        assert_eq!(uploads, uploads_of(&mut self.whole));
    }
}

/// The number of a version is its shard's matter.
fn numbered(mut done: Committed) -> Committed {
    for entry in [Some(&mut done.entry), done.replaced.as_mut()].into_iter().flatten() {
        entry.sequence = entry.sequence.min(1);
    }
    done
}

fn sum(total: &mut Amounts, more: &Amounts) {
    total.objects += more.objects;
    total.bytes += more.bytes;
    total.versions += more.versions;
    total.version_bytes += more.version_bytes;
}

fn keys_of(shard: &mut Shard) -> Vec<Bytes> {
    let (mut from, mut keys) = (Bytes::new(), Vec::new());
    loop {
        let list = List { from: from.clone(), max: 50, ..List::default() };
        let page = shard.call::<_, Answer<Page>>("list", &list).0.expect("open");
        keys.extend(page.items.iter().map(|item| item.name().clone()));
        match page.next {
            Some(next) => from = next,
            None => return keys,
        }
    }
}

fn uploads_of(shard: &mut Shard) -> Vec<(Bytes, WriteId)> {
    let ask = Uploads { max: 1000, ..Uploads::default() };
    let page = shard.call::<_, Answer<UploadPage>>("uploads", &ask).0.expect("open");
    let one = |item| match item {
        UploadItem::Upload { key, id, .. } => (key, id),
        UploadItem::Prefix { .. } => panic!("no delimiter was given"),
    };
    page.items.into_iter().map(one).collect()
}

/// The key of an upload.
fn upload_of(shard: &mut Shard, id: &WriteId) -> Option<Bytes> {
    uploads_of(shard).into_iter().find(|(_, of)| of == id).map(|(key, _)| key)
}

#[test]
fn whatever_steps_come_between_the_calls_every_key_is_of_one_shard() {
    let (mut splits, mut completed) = (0, (0, 0));
    for seed in 1..=12 {
        let mut world = World::new(seed);
        for n in 0..1500 {
            if seed % 2 == 0 && n == 300 {
                let versioning = Versioning::Enabled;
                let settings =
                    ObjectSettings { revision: 1, versioning, ..ObjectSettings::default() };
                let configure = Configure { settings };
                world.shards.values_mut().chain([&mut world.whole]).for_each(|shard| {
                    shard.call::<_, Answer<Nothing>>("configure", &configure).0.expect("open");
                });
            }
            match world.chance(3) {
                0 => world.client(n),
                _ => world.step(),
            }
            if n % 25 == 0 {
                world.check();
            }
        }
        world.compare();
        completed = (completed.0 + world.completed.0, completed.1 + world.completed.1);
        let shards: Vec<u32> = world.shards.keys().copied().collect();
        for shard in shards {
            splits += world.lineage(shard).depth - birth_depth(ROOTS, shard);
        }
    }
    assert!(splits > 24, "only {splits} splits came to their end");
    assert!(completed.0 > 40 && completed.1 > 3, "only {completed:?} uploads were completed");
}

#[test]
fn a_page_is_taken_once_and_a_late_one_never() {
    let mut world = World::new(1);
    for n in 0..40 {
        let put = Put { key: format!("{n:03}").into(), now_ms: 5, ..inline(10, 1) };
        world.both(&format!("{n:03}"), "put", &put, numbered);
    }
    world.begin(0, 0);
    let _: Passed = world.ask(0, "pass", &Pass { taken: None, max: 100 }).unwrap();
    let lineage = world.lineage(0);
    world.read_page(0, &lineage, 0);
    let (child, late) = world.workers[0].load.clone().expect("a page");
    world.bring(0);
    let moved =
        (0..40).map(|n| format!("{n:03}")).find(|key| lineage.goes(key.as_bytes())).unwrap();
    let put = Put { key: moved.clone().into(), now_ms: 6, ..inline(20, 2) };
    world.both(&moved, "put", &put, numbered);
    let filling: Filling = world.ask(child, "take", &late).unwrap();
    assert!(filling.done, "all keys fit a page");
    let read = Read { key: moved.clone().into(), body: true, version: None };
    world.both::<_, Option<Found>>(&moved, "read", &read, |same| same);
    world.compare();
    // A split that is over is not begun again by who comes late.
    world.begin(0, 0);
    assert_eq!(world.lineage(0).split, None);
}

/// A full cluster takes what only removes. Letting a page go sets no other one out, which could not be taken there.
#[test]
fn a_page_is_let_go_without_the_next_one() {
    let mut world = World::new(1);
    for n in 0..40 {
        let put = Put { key: format!("{n:03}").into(), now_ms: 5, ..inline(10, 1) };
        world.both(&format!("{n:03}"), "put", &put, numbered);
    }
    world.begin(0, 0);
    let out: Passed = world.ask(0, "pass", &Pass { taken: None, max: 2 }).unwrap();
    assert!(matches!(out, Passed::Page { until: Some(_), .. }), "{out:?}");
    world.bring(0);
    let pass = Pass { taken: Some((0, Bytes::new())), max: 2 };
    let keys = world.shards[&0].0.omap.len();
    assert_eq!(world.ask::<_, Passed>(0, "pass", &pass), Ok(Passed::Again {}));
    assert!(world.shards[&0].0.omap.len() < keys);
    let split = world.lineage(0).split.expect("goes on");
    assert_eq!(split.page, None);
    for n in 0..40 {
        let read = Read { key: format!("{n:03}").into(), body: true, version: None };
        world.both::<_, Option<Found>>(&format!("{n:03}"), "read", &read, |same| same);
    }
    let next: Passed = world.ask(0, "pass", &pass).unwrap();
    assert!(matches!(next, Passed::Page { from, .. } if from == split.gone));
    world.compare();
}
