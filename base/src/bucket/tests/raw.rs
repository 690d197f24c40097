//! Calls of the class that no gateway makes: whoever may call methods takes nothing away that is locked, and does
//! not bring a shard to a standstill.

use super::*;
use crate::Timestamp;

impl Shard {
    /// A call that is no call of a gateway's: why it is refused. It must leave everything as it is.
    fn refused<I: Encode>(&mut self, method: &str, input: &I) -> ClassError {
        let found = class::method(CLASS, method).expect("a method of this name");
        let before = self.0.clone();
        let why = (found.code)(&mut self.0, input.to_bytes()).expect_err("a call to be refused");
        // A daemon drops what a method wrote that fails.
        self.0 = before;
        why
    }

    fn with_lock() -> Self {
        let mut shard = Shard::new();
        shard.0.now = Timestamp { secs: 1000, nanos: 0 };
        let versioning = Versioning::Enabled;
        let settings = ObjectSettings { revision: 1, versioning, lock: true, retention: None };
        shard.call::<_, Answer<Nothing>>("configure", &Configure { settings }).0.expect("open");
        shard
    }

    /// An upload of so many empty parts, up to its completion.
    fn uploaded(&mut self, key: &str, id: WriteId, parts: u16) -> Complete {
        let key = Bytes::from(key.to_owned());
        let begin = Begin { key: key.clone(), id, ..Begin::default() };
        self.call::<_, Answer<Nothing>>("upload", &begin).0.expect("begun");
        let part = |part| DataRef { id, part, stripe_bytes: STRIPE_BYTES, ..DataRef::default() };
        let parts: Vec<DataRef> = (1..=parts).map(part).collect();
        for data in &parts {
            let part = Part { data: *data, ..Part::default() };
            let add = AddPart { key: key.clone(), id, part, now_ms: 6 };
            self.call::<_, Answer<bool>>("part", &add).0.expect("added");
        }
        let Put { entry, detail, .. } = striped(&parts, 1);
        Complete { key, id, entry, detail, now_ms: 7, ..Complete::default() }
    }
}

fn held() -> ObjectLock {
    ObjectLock { retention: None, hold: Some(true) }
}

#[test]
fn the_manifest_of_a_locked_version_is_of_no_other() {
    let (mut shard, id) = (Shard::with_lock(), WriteId([9; 16]));
    // A second upload of the same id, begun before the first was completed.
    let other = shard.uploaded("other", id, 1);
    let mut complete = shard.uploaded("locked", id, 70);
    complete.entry.lock = held();
    let kept = shard.call::<_, Answer<Committed>>("complete", &complete).0.expect("completed");
    let whole = |shard: &mut Shard| {
        let read = Read { key: "locked".into(), body: false, version: None };
        let found: Option<Found> = shard.call::<_, Answer<_>>("read", &read).0.expect("open");
        found.expect("the version").detail.body
    };
    let body = whole(&mut shard);
    assert!(matches!(&body, Body::Striped { manifest } if manifest.parts.len() == 70));

    // To name it, and have it go with what names it.
    let stub = Manifest { id, apart: true, ..Manifest::default() };
    let detail = Detail { body: Body::Striped { manifest: stub }, ..Detail::default() };
    let entry = Entry { striped: true, ..Entry::default() };
    let put = Put { key: "k".into(), entry, detail: detail.to_bytes(), ..Put::default() };
    assert!(matches!(shard.refused("put", &put), ClassError::Invalid(_)));

    // To write another one over it.
    let begin = Begin { key: "k".into(), id, ..Begin::default() };
    assert!(matches!(shard.refused("upload", &begin), ClassError::Invalid(_)));
    for number in 1..=70 {
        let data = DataRef { id, part: number, stripe_bytes: STRIPE_BYTES, ..DataRef::default() };
        let part = Part { data, ..Part::default() };
        let add = AddPart { key: "other".into(), id, part, now_ms: 6 };
        shard.call::<_, Answer<bool>>("part", &add).0.expect("added");
    }
    let other = Complete { detail: complete.detail.clone(), ..other };
    assert!(matches!(shard.refused("complete", &other), ClassError::Invalid(_)));
    assert_eq!(whole(&mut shard), body);
    assert_eq!(kept.entry.lock, held());
}

/// A shard of two that is being filled, and a key that it will have, as every one that begins so and ends in dots.
fn filled() -> (Shard, String) {
    let mut shard = Shard::absent(1);
    let sprout = Sprout { bucket: BUCKET, roots: 1, shard: 1, ..Sprout::default() };
    shard.call::<_, Answer<Nothing>>("sprout", &sprout).0.expect("made");
    let key = (0..).map(|n| format!("k{n}")).find(|key| covers_one(key)).expect("half of all");
    (shard, key)
}

fn covers_one(key: &str) -> bool {
    crate::hash::rjenkins(key.as_bytes()) % 2 == 1
}

fn page(pairs: Vec<(Bytes, Bytes)>, from: &str, until: &str) -> Take {
    let load = Load { pairs, ..Load::default() };
    let (from, until) = (Bytes::from(from.to_owned()), Some(Bytes::from(until.to_owned())));
    Take { from, until, at: Bytes::new(), load }
}

#[test]
fn only_what_a_page_has_is_taken() {
    let (mut shard, key) = filled();
    let Put { entry, detail, .. } = inline(3, 1);
    let pair = |space: u8, key: &str, value: Bytes| (key_in(space, key.as_bytes()), value);
    let plain =
        |key: &str| vec![pair(b'd', key, detail.clone()), pair(b'e', key, entry.to_bytes())];
    let other = (0..).map(|n| format!("k{n}")).find(|key| !covers_one(key)).expect("half of all");
    for (pairs, until) in [
        (plain(&other), "l"),
        // Outside of its bounds.
        (plain(&key), "k"),
        (vec![pair(b'g', &key, Bytes::new())], "l"),
        (vec![(Bytes::from_static(b"e"), entry.to_bytes())], "l"),
        (vec![], ""),
    ] {
        let why = shard.refused("take", &page(pairs, "", until));
        assert!(matches!(why, ClassError::Invalid(_)), "{why:?}");
    }
    for load in [
        Load { sequence: u64::MAX, ..Load::default() },
        Load { event: u64::MAX, ..Load::default() },
    ] {
        let why = shard.refused("take", &Take { load, ..page(vec![], "", "l") });
        assert!(matches!(why, ClassError::Invalid(_)), "{why:?}");
    }
    let stub = Manifest { id: WriteId([9; 16]), apart: true, ..Manifest::default() };
    let body = Body::Striped { manifest: stub };
    let named = Detail { body, ..Detail::default() }.to_bytes();
    let why = shard.refused("take", &page(vec![pair(b'd', &key, named)], "", "l"));
    assert!(matches!(why, ClassError::Invalid(_)), "{why:?}");

    // A version that is locked, in the first half of a page, is not written over by the second.
    let locked = Entry { lock: held(), ..entry.clone() };
    let mut first =
        page(vec![pair(b'd', &key, detail.clone()), pair(b'e', &key, locked.to_bytes())], "", "l");
    first.load.next = Some(Bytes::from_static(b"on"));
    let _: Answer<Filling> = shard.call("take", &first);
    let again = Take { at: Bytes::from_static(b"on"), ..page(plain(&key), "", "l") };
    let why = shard.refused("take", &again);
    assert!(matches!(why, ClassError::Invalid(_)), "{why:?}");
    let end = Take { at: Bytes::from_static(b"on"), ..page(vec![], "", "l") };
    let taken: Answer<Filling> = shard.call("take", &end);
    assert_eq!(taken.0.expect("open").below, "l");
    let read = Read { key: key.into(), body: false, version: None };
    let found: Option<Found> = shard.call::<_, Answer<_>>("read", &read).0.expect("open");
    assert_eq!(found.map(|found| found.entry.lock), Some(held()));
}

#[test]
fn a_shard_is_split_as_what_it_is() {
    // The first of two: some of its keys are those of a bucket of two only.
    let mut shard = Shard::new();
    let keys = (0..40).map(|n| format!("{n}")).filter(|key| !covers_one(key));
    keys.for_each(|key| assert_eq!(shard.put(&key, inline(3, 1)), Ok(None)));
    for (roots, shard_number) in [(2, 1), (3, 0), (2, 2)] {
        let begin = BeginSplit { roots, shard: shard_number, depth: 0 };
        let why = shard.refused("split", &begin);
        assert!(matches!(why, ClassError::Invalid(_)), "{roots} {shard_number}: {why:?}");
    }
    let begin = BeginSplit { roots: 2, shard: 0, depth: 0 };
    shard.call::<_, Answer<Nothing>>("split", &begin).0.expect("begun");

    let sprout = |roots, shard, bucket| Sprout { bucket, roots, shard, ..Sprout::default() };
    let mut child = Shard::absent(2);
    for wrong in [sprout(2, 3, BUCKET), sprout(2, 2, BucketId([8; 8]))] {
        assert!(matches!(child.refused("sprout", &wrong), ClassError::Invalid(_)));
    }
    let make = |child: &mut Shard, roots| {
        child.call::<_, Answer<Nothing>>("sprout", &sprout(roots, 2, BUCKET)).0
    };
    assert_eq!(make(&mut child, 2), Ok(Nothing {}));
    assert_eq!(make(&mut child, 2), Ok(Nothing {}));
    assert_eq!(make(&mut child, 1), Err(Refusal::NoBucket {}));
}

#[test]
fn a_counter_at_its_end_begins_not_anew() {
    let mut shard = Shard::with_lock();
    let put = Put { key: "k".into(), ..inline(3, 1) };
    let told = Put {
        notes: Some(Notes { notices: vec![Notice::default()], ..Notes::default() }),
        ..put.clone()
    };
    for (sequence, event, put) in [(u64::MAX, 0, &put), (0, u64::MAX, &told)] {
        let head = ShardHead { sequence, event, ..shard.head() };
        shard.0.xattrs.insert(SHARD_XATTR.into(), head.to_bytes());
        let why = shard.refused("put", put);
        assert!(matches!(why, ClassError::Damaged(_)), "{why:?}");
    }
    let head = ShardHead { sequence: u64::MAX, event: 0, ..shard.head() };
    shard.0.xattrs.insert(SHARD_XATTR.into(), head.to_bytes());
    let why = shard.refused("remove", &Remove { items: vec![object("k")], ..Remove::default() });
    assert!(matches!(why, ClassError::Damaged(_)), "{why:?}");
    let settings = ObjectSettings { revision: u64::MAX, ..ObjectSettings::default() };
    let init = Init { bucket: BUCKET, settings: settings.clone() };
    assert!(matches!(Shard::absent(0).refused("init", &init), ClassError::Invalid(_)));
    let sprout = Sprout { bucket: BUCKET, roots: 1, shard: 1, settings };
    assert!(matches!(Shard::absent(1).refused("sprout", &sprout), ClassError::Invalid(_)));
}

#[test]
fn a_shard_forgets_neither_its_lock_nor_its_versions() {
    let mut shard = Shard::with_lock();
    let put = inline(3, 1);
    let entry = Entry { lock: held(), ..put.entry.clone() };
    let version = shard.commit("k", Put { entry, ..put }).expect("put").entry.version();
    let configure = |shard: &mut Shard, settings| {
        shard.call::<_, Answer<Nothing>>("configure", &Configure { settings }).0.expect("open");
        shard.head().settings
    };
    let off = |revision| ObjectSettings { revision, ..ObjectSettings::default() };
    let before = shard.head().settings;
    assert_eq!(configure(&mut shard, off(u64::MAX)), before);
    assert_eq!(configure(&mut shard, off(7)), ObjectSettings { revision: 7, ..before });
    let suspended = ObjectSettings { versioning: Versioning::Suspended, ..off(8) };
    assert!(configure(&mut shard, suspended).lock);
    // What is removed is hidden as before, and not shown by two spaces.
    shard.remove(vec![object("k")]).remove(0).expect("hidden");
    assert!(!shard.0.omap.contains_key(&key_in(b'e', b"k")));
    let items = vec![RemoveItem { version: Some(version), ..object("k") }];
    assert_eq!(shard.remove(items).remove(0), Err(Refusal::Locked {}));

    let mut shard = Shard::new();
    let suspended = ObjectSettings { versioning: Versioning::Suspended, ..off(1) };
    configure(&mut shard, suspended);
    assert_eq!(configure(&mut shard, off(2)).versioning, Versioning::Suspended);
}

/// A shard that an older version brought to it: versions are off, and one with an id is the object.
#[test]
fn what_is_kept_is_not_the_object_as_well() {
    let mut shard = Shard::with_lock();
    shard.commit("k", inline(3, 1)).expect("put");
    let head = ShardHead { settings: ObjectSettings::default(), ..shard.head() };
    shard.0.xattrs.insert(SHARD_XATTR.into(), head.to_bytes());
    shard.remove(vec![object("k")]).remove(0).expect("removed");
    let of = |shard: &Shard, space| shard.0.omap.keys().filter(|key| key[0] == space).count();
    assert_eq!((of(&shard, b'e'), of(&shard, b'v')), (0, 1));
    let head = shard.head();
    assert_eq!((head.objects, head.versions), (0, 1));
}
