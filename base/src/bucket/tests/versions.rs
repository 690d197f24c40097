//! Versions, locks and tags: against a plain model of them under seeded changes, and each rule by itself.

use super::*;
use crate::Timestamp;
use std::collections::BTreeMap;

mod locks;

fn settings(revision: u64, versioning: Versioning) -> ObjectSettings {
    ObjectSettings { revision, versioning, ..ObjectSettings::default() }
}

impl Shard {
    fn configure(&mut self, settings: ObjectSettings) {
        self.call::<_, Answer<Nothing>>("configure", &Configure { settings }).0.unwrap();
    }

    fn read(&mut self, key: &str, version: Option<Version>) -> Option<Found> {
        let read = Read { key: key.to_owned().into(), body: true, version };
        self.call::<_, Answer<Option<Found>>>("read", &read).0.unwrap()
    }

    /// All versions in pages of `max`, and whether each is the newest.
    pub(super) fn versions(&mut self, prefix: &str, delimiter: &str, max: u32) -> Vec<VersionItem> {
        let mut call = ListVersions {
            prefix: prefix.to_owned().into(),
            delimiter: delimiter.to_owned().into(),
            max,
            ..ListVersions::default()
        };
        let mut listed = Vec::new();
        loop {
            let page = self.call::<_, Answer<VersionPage>>("versions", &call).0.unwrap();
            assert!(page.items.len() <= max as usize);
            listed.extend(page.items);
            match page.next {
                Some(next) => call.from = next,
                None => return listed,
            }
        }
    }

    fn keys(&mut self) -> Vec<String> {
        let call = List { max: 1000, ..List::default() };
        let page = self.call::<_, Answer<Page>>("list", &call).0.unwrap();
        let name = |item: &Item| String::from_utf8(item.name().to_vec()).unwrap();
        page.items.iter().map(name).collect()
    }
}

fn version_of(key: &str, version: Version) -> RemoveItem {
    RemoveItem { version: Some(version), ..object(key) }
}

/// A version as the model knows it: the tag of its body, or none for a delete marker.
type Kept = (Version, Option<u8>);

/// What the shard is to hold: the versions of each key, newest first.
#[derive(Default)]
struct Model {
    versioning: Versioning,
    keys: BTreeMap<String, Vec<Kept>>,
}

impl Model {
    fn add(&mut self, key: &str, version: Version, tag: Option<u8>) {
        let versions = self.keys.entry(key.to_owned()).or_default();
        versions.retain(|(kept, _)| version != Version::Null {} || *kept != version);
        versions.insert(0, (version, tag));
    }

    fn remove(&mut self, key: &str, version: Version) {
        if let Some(versions) = self.keys.get_mut(key) {
            versions.retain(|(kept, _)| *kept != version);
        }
    }

    fn check(&self, shard: &mut Shard) {
        let mut expected = Vec::new();
        for (key, versions) in &self.keys {
            let newest = shard.read(key, None).map(|found| tag_of(&found.entry));
            assert_eq!(newest, versions.first().map(|(_, tag)| *tag), "newest of {key}");
            for (n, (version, tag)) in versions.iter().enumerate() {
                expected.push((key.clone(), *version, *tag, n == 0));
                let found = shard.read(key, Some(*version)).expect("a version that is kept");
                assert_eq!(tag_of(&found.entry), *tag, "{key} {version:?}");
                if let (Some(tag), Body::Inline { data }) = (tag, found.detail.body) {
                    assert_eq!(data[..], [*tag; 3], "{key} {version:?}");
                }
            }
        }
        for max in [1, 3, 1000] {
            let listed: Vec<_> = shard.versions("", "", max).into_iter().map(line).collect();
            assert_eq!(listed, expected, "pages of {max}");
        }
        let shown = |kept: &&(String, Version, Option<u8>, bool)| kept.2.is_some() && kept.3;
        let names: Vec<_> = expected.iter().filter(shown).map(|kept| kept.0.clone()).collect();
        assert_eq!(shard.keys(), names);
        let head = shard.head();
        assert_eq!(head.objects, names.len() as u64);
        assert_eq!(head.objects + head.versions, expected.len() as u64);
        let bytes = |tag: &Option<u8>| tag.map_or(0, size_of_tag);
        let total: u64 = expected.iter().map(|(_, _, tag, _)| bytes(tag)).sum();
        assert_eq!(head.bytes + head.version_bytes, total);
    }
}

/// Every fourth body lies in data objects.
fn is_striped(tag: u8) -> bool {
    tag.is_multiple_of(4)
}

fn size_of_tag(tag: u8) -> u64 {
    if is_striped(tag) { 9_000_000 } else { 3 }
}

fn tag_of(entry: &Entry) -> Option<u8> {
    (!entry.delete_marker).then_some(entry.etag.md5[0])
}

fn line(item: VersionItem) -> (String, Version, Option<u8>, bool) {
    match item {
        VersionItem::Version { key, entry, latest } => {
            let key = String::from_utf8(key.to_vec()).unwrap();
            (key, entry.version(), tag_of(&entry), latest)
        }
        VersionItem::Prefix { .. } => panic!("no delimiter was given"),
    }
}

#[test]
fn seeded_changes_leave_what_the_model_has() {
    let keys = ["k", "k\0", "k\0a", "kk", "a/b", "ü"];
    for seed in 1..12_u64 {
        let mut state = seed;
        let mut below = |n: usize| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (state >> 33) as usize % n
        };
        let (mut shard, mut model) = (Shard::new(), Model::default());
        let mut written = BTreeSet::new();
        for step in 1..=120_u8 {
            let key = keys[below(keys.len())];
            match below(8) {
                0 if step > 10 => {
                    let on = [Versioning::Enabled, Versioning::Suspended][below(2)];
                    model.versioning = on;
                    shard.configure(settings(step.into(), on));
                }
                0..4 => {
                    let data = run_of(step, 0, 0);
                    let put = match is_striped(step) {
                        true => {
                            intend(&mut shard, data, None).unwrap();
                            written.insert(data);
                            Put { intent: Some(data), ..striped(&[data], step) }
                        }
                        false => inline(3, step),
                    };
                    let made = shard.commit(key, put).unwrap().entry.version();
                    assert_eq!(made == Version::Null {}, model.versioning != Versioning::Enabled);
                    model.add(key, made, Some(step));
                }
                4..6 => {
                    let removed = shard.remove(vec![object(key)]).remove(0).unwrap();
                    match removed.marker {
                        Some(marker) => model.add(key, marker.version(), None),
                        None => model.remove(key, Version::Null {}),
                    }
                    assert_eq!(removed_marker(&model), model.versioning != Versioning::Off);
                }
                _ => {
                    let kept = model.keys.get(key).cloned().unwrap_or_default();
                    let version = match kept.len() {
                        0 => Version::Null {},
                        len => kept[below(len)].0,
                    };
                    let removed = shard.remove(vec![version_of(key, version)]).remove(0).unwrap();
                    assert_eq!(removed.entry.is_some(), kept.iter().any(|(v, _)| *v == version));
                    model.remove(key, version);
                }
            }
            model.check(&mut shard);
            assert_eq!(shard.data(), written, "each run of data is named, and once");
        }
    }
}

/// Markers are made as soon as the bucket has versions.
fn removed_marker(model: &Model) -> bool {
    model.versioning != Versioning::Off
}

#[test]
fn a_bucket_without_versions_stores_what_it_always_did() {
    let mut shard = Shard::new();
    shard.put("k", inline(1, 1)).unwrap();
    shard.put("k", inline(1, 2)).unwrap();
    let keys: Vec<_> = shard.0.omap.keys().cloned().collect();
    assert_eq!(keys, ["d/k", "e/k"]);
    assert_eq!(shard.head().sequence, 0);
    let entry = Entry::from_bytes(shard.0.omap[&Bytes::from("e/k")].clone()).unwrap();
    assert_eq!((entry.version(), entry.sequence), (Version::Null {}, 0));
}

#[test]
fn records_of_the_first_versions_of_their_form_are_read() {
    // Entry, version 1: size, etag, modified_ms, owner, checksum_algorithm, striped, upload.
    let mut old = vec![1, 1, 45, 0, 0, 0];
    old.extend(5u64.to_le_bytes());
    old.extend([7; 16]);
    old.extend(0u32.to_le_bytes());
    old.extend(9u64.to_le_bytes());
    old.extend([1, 0, 0, 0, b'u', 3, 1, 0]);
    old[2] = (old.len() - 6) as u8;
    let entry = Entry::from_bytes(old.into()).unwrap();
    assert_eq!((entry.size, entry.modified_ms, entry.owner.as_str()), (5, 9, "u"));
    assert_eq!((entry.version(), entry.delete_marker), (Version::Null {}, false));
    // ShardHead, version 1: bucket, sealed, objects, bytes.
    let mut old = vec![1, 1, 25, 0, 0, 0];
    old.extend([7; 8]);
    old.push(0);
    old.extend([3u64, 4].iter().flat_map(|count| count.to_le_bytes()));
    let head = ShardHead::from_bytes(old.into()).unwrap();
    assert_eq!((head.bucket, head.objects, head.bytes), (BUCKET, 3, 4));
    assert_eq!((head.settings, head.sequence), (ObjectSettings::default(), 0));
    // Detail, version 1: headers, metadata, checksum, body; nothing in any of them.
    let old = b"\x01\x01\x0e\0\0\0\0\0\0\0\0\0\0\0\0\x01\0\0\0\0";
    assert_eq!(Detail::from_bytes(Bytes::from_static(old)), Ok(Detail::default()));
    // Who knows version 1 only may read what has no versions, and nothing else.
    assert_eq!(Entry::default().to_bytes()[..2], [3, 1]);
    assert_eq!(Entry { sequence: 1, ..Entry::default() }.to_bytes()[..2], [3, 2]);
    assert_eq!(ShardHead::default().to_bytes()[..2], [5, 1]);
    let sealed = ShardHead { removal: 1, ..ShardHead::default() };
    assert_eq!(sealed.to_bytes()[..2], [5, 5]);
    let split = ShardHead { lineage: Some(Lineage::default()), ..ShardHead::default() };
    assert_eq!(split.to_bytes()[..2], [5, 4]);
    let changed = settings(1, Versioning::Enabled);
    let head = ShardHead { settings: changed.clone(), ..ShardHead::default() };
    assert_eq!(head.to_bytes()[..2], [5, 2]);
    let record = BucketRecord { settings: changed, ..BucketRecord::default() };
    assert_eq!(record.to_bytes()[..2], [4, 3]);
    assert_eq!(BucketRecord::from_bytes(record.to_bytes()), Ok(record));
}

#[test]
fn records_of_versions_have_one_form_and_every_truncation_is_an_error() {
    let retention = Retention { mode: LockMode::Compliance, until_ms: 0x0102 };
    let lock = ObjectLock { retention: Some(retention), hold: Some(false) };
    assert_eq!(lock.to_bytes()[..], *b"\x01\x02\x02\x01\0\0\0\0\0\0\x01\0");
    let days = DefaultRetention { mode: LockMode::Governance, count: 3, years: true };
    let settings =
        ObjectSettings { lock: true, retention: Some(days), ..settings(7, Versioning::Suspended) };
    let golden = b"\x01\x01\x11\0\0\0\x07\0\0\0\0\0\0\0\x03\x01\x01\x01\x03\0\0\0\x01";
    assert_eq!(settings.to_bytes()[..], *golden);
    let entry = Entry { sequence: 9, named: true, lock, ..Entry::default() };
    let head = ShardHead { settings: settings.clone(), sequence: 4, ..ShardHead::default() };
    let tags: BTreeMap<String, String> = [("a".to_owned(), "b".to_owned())].into();
    let upload = Upload { lock, tags: tags.clone(), ..Upload::default() };
    let detail = Detail { tags, ..Detail::default() };
    let record = BucketRecord { settings: settings.clone(), ..BucketRecord::default() };
    whole_or_nothing(&entry);
    whole_or_nothing(&settings);
    whole_or_nothing(&head);
    whole_or_nothing(&upload);
    whole_or_nothing(&detail);
    whole_or_nothing(&record);
}

fn whole_or_nothing<T: Encode + Decode + PartialEq + std::fmt::Debug>(value: &T) {
    let bytes = value.to_bytes();
    assert_eq!(T::from_bytes(bytes.clone()).as_ref(), Ok(value));
    for len in 0..bytes.len() {
        assert!(T::from_bytes(bytes.slice(..len)).is_err(), "{value:?} cut at {len}");
    }
}

#[test]
fn omap_keys_of_versions_sort_by_key_and_newest_first() {
    let mut shard = Shard::new();
    shard.configure(settings(1, Versioning::Enabled));
    for key in ["k\0", "k", "k", "k"] {
        shard.put(key, inline(3, 1)).unwrap();
    }
    shard.put("k\0", inline(3, 1)).unwrap();
    let kept: Vec<_> = shard.0.omap.keys().filter(|key| key[0] == b'v').cloned().collect();
    let expected: [&[u8]; 3] = [
        b"v/k\0\0\xff\xff\xff\xff\xff\xff\xff\xfc",
        b"v/k\0\0\xff\xff\xff\xff\xff\xff\xff\xfd",
        b"v/k\0\xff\0\0\xff\xff\xff\xff\xff\xff\xff\xfe",
    ];
    assert_eq!(kept, expected);
}

#[test]
fn version_ids_sort_newest_first_and_belong_to_their_bucket() {
    let ids: Vec<_> =
        [300, 2, 1].map(|sequence| Version::Id { sequence }.text(BUCKET)).into_iter().collect();
    assert!(ids.is_sorted(), "{ids:?}");
    assert_eq!(Version::parse(&ids[0], BUCKET), Some(Version::Id { sequence: 300 }));
    assert_eq!(Version::parse("null", BUCKET), Some(Version::Null {}));
    assert_eq!(Version::parse(&ids[0], BucketId([8; 8])), None);
    let bucket = BUCKET.to_string();
    for wrong in ["", "1", "NULL", &bucket, &"f".repeat(32), &format!("+00000000000000f{bucket}")] {
        assert_eq!(Version::parse(wrong, BUCKET), None, "{wrong}");
    }
    assert_eq!(Version::parse(&format!("{}{bucket}", "f".repeat(16)), BUCKET), None);
}

#[test]
fn conditions_look_at_the_newest_version_and_a_marker_is_none() {
    let mut shard = Shard::new();
    shard.configure(settings(1, Versioning::Enabled));
    let new = Condition { if_none_match: Some(TagMatch::Any {}), ..Condition::default() };
    let there = Condition { if_match: Some(TagMatch::Any {}), ..Condition::default() };
    let put = |condition: &Condition| Put { condition: condition.clone(), ..inline(1, 1) };
    assert_eq!(shard.put("k", put(&there)), Err(Refusal::NoKey {}));
    shard.put("k", put(&new)).unwrap();
    assert_eq!(shard.put("k", put(&new)), Err(Refusal::Precondition {}));
    shard.remove(vec![object("k")]).remove(0).unwrap();
    assert_eq!(shard.put("k", put(&there)), Err(Refusal::NoKey {}));
    shard.put("k", put(&new)).unwrap();
    assert_eq!(shard.versions("", "", 9).len(), 3);
}

#[test]
fn a_removal_under_a_condition_removes_that_object_only() {
    let mut shard = Shard::new();
    let like = |tag: Option<u8>, size, modified_secs| {
        let tags = tag.map(|tag| vec![ETag { md5: [tag; 16], parts: 0 }]);
        let if_match = Some(TagMatch::Like { tags, size, modified_secs });
        Condition { if_match, ..Condition::default() }
    };
    let condition = Condition { if_match: Some(TagMatch::Any {}), ..Condition::default() };
    let any = RemoveItem { condition, ..object("k") };
    let wanted = |condition: Condition| RemoveItem { condition, ..object("k") };
    let size = inline(1, 1).entry.size;
    let secs = inline(1, 1).entry.modified_ms / 1000;
    for (revision, versioning) in [(1, Versioning::Off), (2, Versioning::Enabled)] {
        shard.configure(settings(revision, versioning));
        shard.put("k", inline(1, 1)).unwrap();
        for wrong in [
            like(None, Some(size + 1), None),
            like(None, None, Some(secs + 1)),
            like(Some(2), None, None),
            like(Some(2), Some(size), Some(secs)),
        ] {
            assert_eq!(shard.remove(vec![wanted(wrong)]), [Err(Refusal::Precondition {})]);
        }
        let right = like(Some(1), Some(size), Some(secs));
        shard.remove(vec![wanted(right.clone())]).remove(0).unwrap();
        // A marker is not the object that is meant, and nothing is none.
        let refusal = match versioning {
            Versioning::Off => Refusal::NoKey {},
            _ => Refusal::Precondition {},
        };
        assert_eq!(shard.remove(vec![wanted(right)]), [Err(refusal)]);
        assert_eq!(shard.remove(vec![any.clone()]), [Err(Refusal::NoKey {})]);
    }
}

#[test]
fn settings_come_with_writes_and_never_go_back() {
    let mut shard = Shard::new();
    let put = |settings: ObjectSettings| Put { settings, ..inline(1, 1) };
    let made = shard.commit("k", put(settings(1, Versioning::Enabled))).unwrap();
    assert!(made.entry.named, "whoever knows of newer settings brings them along");
    let made = shard.commit("k", put(settings(0, Versioning::Off))).unwrap();
    assert!(made.entry.named, "and who does not know them yet is not believed");
    let remove = Remove {
        items: vec![object("k")],
        settings: settings(2, Versioning::Suspended),
        ..Remove::default()
    };
    let removed = shard.call::<_, Answer<Vec<Answer<Removed>>>>("remove", &remove).0.unwrap();
    let marker = removed[0].0.clone().unwrap().marker.expect("a delete marker");
    assert_eq!(marker.version(), Version::Null {});
    assert_eq!(shard.head().settings.revision, 2);
}

#[test]
fn a_shard_with_versions_is_not_empty() {
    let mut shard = Shard::new();
    shard.configure(settings(1, Versioning::Enabled));
    let marker = shard.remove(vec![object("k")]).remove(0).unwrap().marker.unwrap();
    let seal = |shard: &mut Shard| shard.call::<_, Answer<Nothing>>("seal", &Seal { removal: 1 }).0;
    assert_eq!(seal(&mut shard), Err(Refusal::NotEmpty {}));
    shard.remove(vec![version_of("k", marker.version())]).remove(0).unwrap();
    assert!(shard.0.omap.is_empty());
    seal(&mut shard).unwrap();
}

#[test]
fn a_completed_upload_is_a_version() {
    let mut shard = Shard::new();
    shard.configure(settings(1, Versioning::Enabled));
    shard.put("k", inline(3, 1)).unwrap();
    let id = begin(&mut shard, "k", 4);
    let part = run_of(4, 1, 1);
    add(&mut shard, id, part).unwrap();
    let put = striped(&[part], 8);
    let complete = Complete {
        key: "k".into(),
        id,
        entry: put.entry,
        detail: put.detail,
        now_ms: 7,
        ..Complete::default()
    };
    let done = shard.call::<_, Answer<Committed>>("complete", &complete).0.unwrap();
    assert_eq!((done.entry.sequence, done.replaced), (2, None));
    assert_eq!(shard.versions("k", "", 9).len(), 2);
    assert_eq!(shard.data(), [part].into());
}

#[test]
fn versions_roll_up_and_go_on_behind_a_null_version() {
    let mut shard = Shard::new();
    shard.put("a/x", inline(3, 1)).unwrap();
    shard.configure(settings(1, Versioning::Enabled));
    for key in ["a/x", "a/x", "a/y", "b"] {
        shard.put(key, inline(3, 2)).unwrap();
    }
    shard.remove(vec![object("a/y")]).remove(0).unwrap();
    let names = |items: Vec<VersionItem>| {
        let name = |item: &VersionItem| String::from_utf8(item.name().to_vec()).unwrap();
        items.iter().map(name).collect::<Vec<_>>().join(" ")
    };
    for max in [1, 2, 9] {
        assert_eq!(names(shard.versions("", "/", max)), "a/ b");
        assert_eq!(names(shard.versions("a/", "/", max)), "a/x a/x a/x a/y a/y");
        assert_eq!(names(shard.versions("a/x", "", max)), "a/x a/x a/x");
    }
    let from = |after| VersionPlace { key: "a/x".into(), after };
    for (after, expected) in [
        (Some(Version::Null {}), "a/y a/y b"),
        (Some(Version::Id { sequence: 1 }), "a/x a/y a/y b"),
        (None, "a/x a/x a/x a/y a/y b"),
    ] {
        let call = ListVersions { from: from(after), max: 9, ..ListVersions::default() };
        let page = shard.call::<_, Answer<VersionPage>>("versions", &call).0.unwrap();
        assert_eq!(names(page.items), expected);
    }
}
