//! What a lock forbids, and until when.

use super::*;

fn at(shard: &mut Shard, secs: u64) {
    shard.0.now = Timestamp { secs, nanos: 0 };
}

fn locking(retention: Option<DefaultRetention>) -> Shard {
    let mut shard = Shard::new();
    at(&mut shard, 1000);
    let on = settings(1, Versioning::Enabled);
    shard.configure(ObjectSettings { lock: true, retention, ..on });
    shard
}

fn retention(mode: LockMode, secs: u64) -> Retention {
    Retention { mode, until_ms: secs * 1000 }
}

fn change(shard: &mut Shard, change: LockChange, bypass: bool) -> Done<Entry> {
    let call = SetLock { key: "k".into(), version: None, change, bypass };
    shard.call::<_, Answer<Entry>>("lock", &call).0
}

fn retain(shard: &mut Shard, to: Option<Retention>, bypass: bool) -> Done<Entry> {
    change(shard, LockChange::Retention { retention: to }, bypass)
}

fn remove(shard: &mut Shard, version: Version, bypass: bool) -> Done<Removed> {
    let items = vec![version_of("k", version)];
    let remove = Remove { items, bypass, ..Remove::default() };
    let mut done: Answer<Vec<Answer<Removed>>> = shard.call("remove", &remove);
    done.0.as_mut().unwrap().remove(0).0
}

#[test]
fn a_retention_forbids_removal_until_its_time() {
    for mode in [LockMode::Governance, LockMode::Compliance] {
        let mut shard = locking(None);
        let lock = ObjectLock { retention: Some(retention(mode, 2000)), hold: None };
        let plain = inline(3, 1);
        let put = Put { entry: Entry { lock, ..plain.entry.clone() }, ..plain };
        let version = shard.commit("k", put).unwrap().entry.version();
        shard.remove(vec![object("k")]).remove(0).expect("a marker hides and removes nothing");
        assert_eq!(remove(&mut shard, version, false), Err(Refusal::Locked {}));
        let bypassed = remove(&mut shard, version, true);
        if mode == LockMode::Governance {
            assert!(bypassed.unwrap().entry.is_some());
            continue;
        }
        assert_eq!(bypassed, Err(Refusal::Locked {}));
        at(&mut shard, 2000);
        assert!(remove(&mut shard, version, false).unwrap().entry.is_some());
    }
}

#[test]
fn retentions_change_as_their_mode_allows() {
    let (governance, compliance) = (LockMode::Governance, LockMode::Compliance);
    for (from, to, plain, bypassed) in [
        (retention(governance, 2000), Some(retention(governance, 3000)), true, true),
        (retention(governance, 2000), Some(retention(governance, 1500)), false, true),
        (retention(governance, 2000), Some(retention(compliance, 3000)), false, true),
        (retention(governance, 2000), None, false, true),
        (retention(compliance, 2000), Some(retention(compliance, 3000)), true, true),
        (retention(compliance, 2000), Some(retention(compliance, 1500)), false, false),
        (retention(compliance, 2000), Some(retention(governance, 3000)), false, false),
        (retention(compliance, 2000), None, false, false),
        (retention(compliance, 900), None, true, true),
    ] {
        for (bypass, allowed) in [(false, plain), (true, bypassed)] {
            let mut shard = locking(None);
            shard.put("k", inline(3, 1)).unwrap();
            retain(&mut shard, Some(from), false).unwrap();
            let done = retain(&mut shard, to, bypass);
            assert_eq!(done.is_ok(), allowed, "{from:?} to {to:?}, bypass {bypass}");
            let now = shard.read("k", None).unwrap().entry.lock.retention;
            assert_eq!(now, if allowed { to } else { Some(from) });
        }
    }
}

#[test]
fn a_hold_lasts_until_it_is_taken_off() {
    let mut shard = locking(None);
    let version = shard.commit("k", inline(3, 1)).unwrap().entry.version();
    change(&mut shard, LockChange::Hold { on: true }, false).unwrap();
    at(&mut shard, u64::from(u32::MAX));
    assert_eq!(remove(&mut shard, version, true), Err(Refusal::Locked {}));
    change(&mut shard, LockChange::Hold { on: false }, false).unwrap();
    assert_eq!(shard.read("k", None).unwrap().entry.lock.hold, Some(false));
    assert!(remove(&mut shard, version, false).unwrap().entry.is_some());
}

#[test]
fn the_bucket_s_retention_is_taken_by_the_daemon_s_clock() {
    let days = DefaultRetention { mode: LockMode::Compliance, count: 2, years: false };
    let mut shard = locking(Some(days));
    let made = shard.commit("k", inline(3, 1)).unwrap().entry;
    let until = retention(LockMode::Compliance, 1000 + 2 * 86_400);
    assert_eq!(made.lock.retention, Some(until));
    let own = ObjectLock {
        retention: Some(retention(LockMode::Governance, 1500)),
        ..ObjectLock::default()
    };
    let plain = inline(3, 1);
    let put = Put { entry: Entry { lock: own, ..plain.entry.clone() }, ..plain };
    assert_eq!(shard.commit("k", put).unwrap().entry.lock, own);
    let years = DefaultRetention { years: true, count: u32::MAX, ..days };
    assert!(years.from_now(u64::MAX - 5).until_ms == u64::MAX);
}

#[test]
fn without_object_lock_nothing_is_locked() {
    let mut shard = Shard::new();
    let lock = ObjectLock { hold: Some(true), retention: None };
    let plain = inline(3, 1);
    let put = Put { entry: Entry { lock, ..plain.entry.clone() }, ..plain };
    assert_eq!(shard.put("k", put), Err(Refusal::NoLock {}));
    let call = Begin {
        key: "k".into(),
        id: WriteId([1; 16]),
        upload: Upload { lock, ..Upload::default() },
        ..Begin::default()
    };
    assert_eq!(shard.call::<_, Answer<Nothing>>("upload", &call).0, Err(Refusal::NoLock {}));
    assert!(shard.0.omap.is_empty());
    shard.put("k", inline(3, 1)).unwrap();
    let hold = LockChange::Hold { on: true };
    assert_eq!(change(&mut shard, hold, false), Err(Refusal::NoLock {}));
}

/// Object lock came when the bucket had its versions suspended before: the `null` version can be locked
/// then, and overwriting must not get around that.
#[test]
fn a_locked_version_is_not_overwritten() {
    let mut shard = locking(None);
    shard.configure(ObjectSettings { lock: true, ..settings(2, Versioning::Suspended) });
    shard.put("k", inline(3, 1)).unwrap();
    change(&mut shard, LockChange::Hold { on: true }, false).unwrap();
    assert_eq!(shard.put("k", inline(3, 2)), Err(Refusal::Locked {}));
    assert_eq!(shard.remove(vec![object("k")]).remove(0), Err(Refusal::Locked {}));
    assert_eq!(tag_of(&shard.read("k", None).unwrap().entry), Some(1));
}

#[test]
fn tags_belong_to_a_version_and_leave_the_rest_alone() {
    let mut shard = locking(None);
    let first = shard.commit("k", inline(3, 1)).unwrap().entry.version();
    shard.put("k", inline(3, 2)).unwrap();
    let tags: BTreeMap<String, String> = [("a".to_owned(), "b".to_owned())].into();
    let tag = |shard: &mut Shard, version| {
        let call = SetTags { key: "k".into(), version, tags: tags.clone() };
        shard.call::<_, Answer<Entry>>("tag", &call).0
    };
    assert_eq!(tag(&mut shard, Some(first)).unwrap().version(), first);
    let old = shard.read("k", Some(first)).unwrap();
    assert_eq!((tag_of(&old.entry), &old.detail.tags), (Some(1), &tags));
    assert_eq!(old.detail.body, Body::Inline { data: vec![1; 3].into() });
    assert!(shard.read("k", None).unwrap().detail.tags.is_empty());
    assert_eq!(tag(&mut shard, Some(Version::Null {})), Err(Refusal::NoVersion {}));
    let marker = shard.remove(vec![object("k")]).remove(0).unwrap().marker.unwrap();
    let of_marker = Refusal::DeleteMarker { entry: Box::new(marker) };
    assert_eq!(tag(&mut shard, None), Err(of_marker));
}

#[test]
fn settings_of_a_bucket_change_as_its_lock_allows() {
    let mut object = MemoryObject::default();
    let mut call = |name: &str, input: Bytes| {
        let found = class::method(REGISTRY_CLASS, name).expect("a method of this name");
        (found.code)(&mut object, input).expect("a well-formed call")
    };
    let record = BucketRecord { id: BUCKET, name: "b".into(), ..BucketRecord::default() };
    call("create", CreateBucket { record }.to_bytes());
    let mut configure = |change: SettingsChange| {
        let input = ConfigureBucket { name: "b".into(), id: BUCKET, change }.to_bytes();
        let answer = Answer::<BucketRecord>::from_bytes(call("configure", input)).unwrap();
        answer.0.map(|record| record.settings)
    };
    let to = |versioning| SettingsChange::Versioning { versioning };
    let lock = SettingsChange::Lock { retention: None };
    assert_eq!(configure(lock.clone()), Err(Refusal::BucketState {}));
    assert_eq!(configure(to(Versioning::Suspended)).unwrap().revision, 1);
    assert_eq!(configure(lock.clone()), Err(Refusal::BucketState {}));
    assert_eq!(configure(to(Versioning::Off)), Err(Refusal::BucketState {}));
    assert_eq!(configure(to(Versioning::Enabled)).unwrap().versioning, Versioning::Enabled);
    assert!(configure(lock).unwrap().lock);
    assert_eq!(configure(to(Versioning::Suspended)), Err(Refusal::BucketState {}));
    assert_eq!(configure(to(Versioning::Enabled)).unwrap().revision, 4);
}

#[test]
fn a_description_changes_alone_and_never_under_a_lock() {
    let mut shard = locking(None);
    let describe = |shard: &mut Shard, key: &str| {
        let describe = Describe {
            key: Bytes::copy_from_slice(key.as_bytes()),
            headers: [("expires".to_owned(), "never".to_owned())].into(),
            keep: vec!["content-type".to_owned(), "expires".to_owned(), "absent".to_owned()],
            metadata: [("new".to_owned(), Bytes::from_static(b"2"))].into(),
            now_ms: 77,
        };
        shard.call::<_, Answer<Entry>>("describe", &describe).0
    };
    assert_eq!(describe(&mut shard, "k"), Err(Refusal::NoKey {}));
    let plain = inline(3, 1);
    let mut detail = Detail::from_bytes(plain.detail.clone()).unwrap();
    for (name, value) in [("content-type", "text/x"), ("expires", "soon"), ("x-robots-tag", "no")] {
        detail.headers.insert(name.into(), value.into());
    }
    detail.metadata.insert("old".into(), Bytes::from_static(b"1"));
    let entry = shard
        .commit("k", Put { detail: detail.to_bytes(), ..plain })
        .map(|done| done.entry)
        .unwrap();
    let described = describe(&mut shard, "k").unwrap();
    let content_type = described.content_type.clone();
    assert_eq!(described, Entry { modified_ms: 77, content_type, ..entry });
    assert_eq!(described.content_type, "text/x");
    let read = Read { key: "k".into(), body: true, version: None };
    let found: Answer<Option<Found>> = shard.call("read", &read);
    let found = found.0.unwrap().unwrap();
    assert_eq!((found.entry, found.detail.body), (described, detail.body));
    let kept = [("content-type", "text/x"), ("expires", "never")];
    let kept = kept.map(|(name, value)| (name.to_owned(), value.to_owned()));
    assert_eq!(found.detail.headers, kept.into());
    assert_eq!(found.detail.metadata, [("new".to_owned(), Bytes::from_static(b"2"))].into());

    change(&mut shard, LockChange::Hold { on: true }, false).unwrap();
    assert_eq!(describe(&mut shard, "k"), Err(Refusal::Locked {}));
    change(&mut shard, LockChange::Hold { on: false }, false).unwrap();
    shard.remove(vec![object("k")]).remove(0).unwrap();
    assert!(matches!(describe(&mut shard, "k"), Err(Refusal::DeleteMarker { .. })));
}
