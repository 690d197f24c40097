//! The methods against an object in memory: what they answer, what they leave behind, and that every run
//! of data is named exactly once.

use super::*;
use crate::class::{self, MethodKind, memory::MemoryObject};
use std::collections::BTreeSet;

mod body;
mod chores;
mod journal;
mod pages;
mod raw;
mod split;
mod versions;

struct Shard(MemoryObject);

impl Shard {
    fn new() -> Self {
        Shard::named(0)
    }

    /// The shard of a number, with nothing in it.
    fn absent(shard: u32) -> Self {
        Shard(MemoryObject { name: shard_name(BUCKET, 0, shard).into(), ..MemoryObject::default() })
    }

    fn named(shard: u32) -> Self {
        let mut shard = Shard::absent(shard);
        let init = Init { bucket: BUCKET, ..Init::default() };
        let made: Answer<Nothing> = shard.call("init", &init);
        assert_eq!(made, Answer(Ok(Nothing {})));
        shard
    }

    fn call<I: Encode, O: Decode>(&mut self, method: &str, input: &I) -> O {
        let found = class::method(CLASS, method).expect("a method of this name");
        let before = self.0.clone();
        let output = (found.code)(&mut self.0, input.to_bytes()).expect("a well-formed call");
        if found.kind == MethodKind::Read {
            assert!(self.0 == before, "{method} is a read and wrote");
        }
        O::from_bytes(output).expect("an output of the method's type")
    }

    fn put(&mut self, key: &str, put: Put) -> Done<Option<Entry>> {
        self.commit(key, put).map(|committed| committed.replaced)
    }

    fn commit(&mut self, key: &str, put: Put) -> Done<Committed> {
        self.call::<_, Answer<_>>("put", &Put { key: key.to_owned().into(), now_ms: 5, ..put }).0
    }

    fn remove(&mut self, items: Vec<RemoveItem>) -> Vec<Done<Removed>> {
        let remove = Remove { items, now_ms: 5, owner: "u".into(), ..Remove::default() };
        let done: Answer<Vec<Answer<Removed>>> = self.call("remove", &remove);
        done.0.expect("a shard").into_iter().map(|outcome| outcome.0).collect()
    }

    fn head(&mut self) -> ShardHead {
        self.call::<_, Answer<ShardHead>>("stats", &Nothing {}).0.expect("a shard")
    }

    /// Every run of data that anything names, and a failure if two do.
    fn data(&self) -> BTreeSet<DataRef> {
        let (mut named, mut apart, mut manifests) = (Vec::new(), Vec::new(), Vec::new());
        for (key, value) in &self.0.omap {
            let value = value.clone();
            match key[0] {
                b'd' | b'w' => match Detail::from_bytes(value).expect("a detail").body {
                    Body::Striped { manifest } => {
                        apart.extend(manifest.apart.then_some(manifest.id));
                        named.extend(manifest.refs());
                    }
                    Body::Inline { .. } | Body::Segments { .. } => {}
                },
                b'g' => match Discarded::from_bytes(value).expect("garbage") {
                    Discarded::Runs { runs } => named.extend(runs.refs()),
                    Discarded::Manifest { id } => apart.push(id),
                    // Its parts are found below.
                    Discarded::Parts { .. } => {}
                },
                b'i' => named.push(Intent::from_bytes(value).expect("an intent").data),
                b'm' => {
                    let manifest = Manifest::from_bytes(value).expect("a manifest");
                    manifests.push(manifest.id);
                    named.extend(manifest.refs());
                }
                b'p' => named.push(Part::from_bytes(value).expect("a part").data),
                _ => {}
            }
        }
        apart.sort_unstable();
        assert_eq!(apart, manifests, "each manifest that is kept apart is named once");
        let set: BTreeSet<DataRef> = named.iter().copied().collect();
        assert_eq!(set.len(), named.len(), "a run of data is named twice");
        set
    }
}

/// The object of a key, to be removed.
fn object(key: &str) -> RemoveItem {
    RemoveItem { key: key.to_owned().into(), ..RemoveItem::default() }
}

const BUCKET: BucketId = BucketId([7; 8]);

fn inline(size: u64, tag: u8) -> Put {
    let body = Body::Inline { data: vec![tag; size as usize].into() };
    Put {
        entry: Entry { size, etag: ETag { md5: [tag; 16], parts: 0 }, ..Entry::default() },
        detail: Detail { body, ..Detail::default() }.to_bytes(),
        ..Put::default()
    }
}

fn run_of(id: u8, part: u16, attempt: u32) -> DataRef {
    DataRef { id: WriteId([id; 16]), part, attempt, size: 9_000_000, stripe_bytes: STRIPE_BYTES }
}

fn manifest(parts: &[DataRef]) -> Manifest {
    Manifest {
        id: parts[0].id,
        stripe_bytes: STRIPE_BYTES,
        parts: parts
            .iter()
            .map(|p| ManifestPart { number: p.part, attempt: p.attempt, size: p.size })
            .collect(),
        ..Manifest::default()
    }
}

fn striped(parts: &[DataRef], tag: u8) -> Put {
    let manifest = manifest(parts);
    let entry = Entry {
        size: manifest.size(),
        etag: ETag { md5: [tag; 16], parts: 0 },
        striped: true,
        ..Entry::default()
    };
    let detail = Detail { body: Body::Striped { manifest }, ..Detail::default() }.to_bytes();
    Put { entry, detail, ..Put::default() }
}

fn intend(shard: &mut Shard, data: DataRef, upload: Option<WriteId>) -> Done<Nothing> {
    let call = Intend { key: "k".into(), data, upload, now_ms: 3, renew: false };
    shard.call::<_, Answer<_>>("intend", &call).0
}

#[test]
fn put_read_remove_and_the_counts() {
    let mut shard = Shard::new();
    assert_eq!(shard.put("k", inline(10, 1)), Ok(None));
    assert_eq!(shard.put("k", inline(30, 2)).map(|e| e.map(|e| e.size)), Ok(Some(10)));
    let head = shard.head();
    assert_eq!((head.objects, head.bytes), (1, 30));

    let read = |body| Read { key: "k".into(), body, version: None };
    let found = shard.call::<_, Answer<Option<Found>>>("read", &read(true)).0.unwrap().unwrap();
    assert_eq!(found.detail.body, Body::Inline { data: vec![2; 30].into() });
    let found = shard.call::<_, Answer<Option<Found>>>("read", &read(false)).0.unwrap().unwrap();
    assert_eq!((found.entry.size, found.detail.body), (30, Body::default()));

    let gone = shard.remove(vec![object("k"), object("none")]);
    let sizes: Vec<_> = gone.into_iter().map(|a| a.unwrap().entry.map(|e| e.size)).collect();
    assert_eq!(sizes, [Some(30), None]);
    let head = shard.head();
    assert_eq!((head.objects, head.bytes), (0, 0));
    assert!(shard.0.omap.is_empty());
}

#[test]
fn conditions_guard_a_put() {
    let mut shard = Shard::new();
    let one_of = |tag| Some(TagMatch::OneOf { tags: vec![ETag { md5: [tag; 16], parts: 0 }] });
    let only_new = Condition { if_none_match: Some(TagMatch::Any {}), ..Condition::default() };
    let only_tag = |tag| Condition { if_match: one_of(tag), ..Condition::default() };
    let put = |tag, condition| Put { condition, ..inline(1, tag) };

    assert_eq!(shard.put("k", put(1, only_tag(1))), Err(Refusal::NoKey {}));
    assert_eq!(shard.put("k", put(1, only_new.clone())), Ok(None));
    assert_eq!(shard.put("k", put(2, only_new)), Err(Refusal::Precondition {}));
    assert_eq!(shard.put("k", put(2, only_tag(9))), Err(Refusal::Precondition {}));
    assert!(shard.put("k", put(2, only_tag(1))).is_ok());
    let not = Condition { if_none_match: one_of(2), ..Condition::default() };
    assert_eq!(shard.put("k", put(3, not.clone())), Err(Refusal::Precondition {}));
    assert_eq!(shard.put("other", put(3, not)), Ok(None));
}

#[test]
fn data_moves_from_intent_to_object_to_garbage_and_is_never_lost() {
    let mut shard = Shard::new();
    let (a, b) = (run_of(1, 0, 0), run_of(2, 0, 0));
    let with = |data: DataRef| Put { intent: Some(data), ..striped(&[data], 1) };
    assert_eq!(shard.put("k", with(a)), Err(Refusal::NoIntent {}));
    for data in [a, b] {
        intend(&mut shard, data, None).unwrap();
        assert!(shard.data().contains(&data));
        shard.put("k", with(data)).unwrap();
        assert!(shard.data().contains(&data));
    }
    assert_eq!(shard.data(), [a, b].into());
    let garbage = |shard: &mut Shard, before_ms| {
        shard.call::<_, Vec<(Bytes, Vec<DataRef>)>>(
            "garbage",
            &Garbage { before_ms, max: 10, ..Garbage::default() },
        )
    };
    assert_eq!(garbage(&mut shard, 5), []);
    let found = garbage(&mut shard, 6);
    assert_eq!(found.iter().map(|(_, refs)| refs.clone()).collect::<Vec<_>>(), [[a]]);
    let records = found.into_iter().map(|(key, _)| key).collect();
    let _: Nothing = shard.call("swept", &Swept { records });
    assert_eq!(shard.data(), [b].into());
}

#[test]
fn expired_and_cancelled_intents_become_garbage_and_refuse_their_commit() {
    let mut shard = Shard::new();
    let (a, b) = (run_of(1, 0, 0), run_of(2, 0, 0));
    intend(&mut shard, a, None).unwrap();
    intend(&mut shard, b, None).unwrap();
    let _: Nothing = shard.call("cancel", &Cancel { data: a, now_ms: 4 });
    let _: Nothing = shard.call("cancel", &Cancel { data: a, now_ms: 9 });
    let expire = |before_ms| Expire { before_ms, now_ms: 50, ..Expire::default() };
    assert_eq!(shard.call::<_, Expired>("expire", &expire(3)).count, 0);
    assert_eq!(shard.call::<_, Expired>("expire", &expire(4)).count, 1);
    assert_eq!(shard.data(), [a, b].into());
    let put = Put { intent: Some(b), ..striped(&[b], 1) };
    assert_eq!(shard.put("k", put), Err(Refusal::NoIntent {}));
    let renew = Intend { key: "k".into(), data: b, upload: None, now_ms: 60, renew: true };
    assert_eq!(shard.call::<_, Answer<Nothing>>("intend", &renew).0, Err(Refusal::NoIntent {}));
}

fn begin(shard: &mut Shard, key: &str, id: u8) -> WriteId {
    let call = Begin {
        key: key.to_owned().into(),
        id: WriteId([id; 16]),
        upload: Upload { owner: "u".into(), ..Upload::default() },
        ..Begin::default()
    };
    shard.call::<_, Answer<Nothing>>("upload", &call).0.unwrap();
    call.id
}

fn add(shard: &mut Shard, id: WriteId, data: DataRef) -> Done<bool> {
    intend(shard, data, Some(id))?;
    let part = Part { data, md5: [data.part as u8; 16], ..Part::default() };
    shard.call::<_, Answer<_>>("part", &AddPart { key: "k".into(), id, part, now_ms: 6 }).0
}

#[test]
fn completion_takes_the_chosen_parts_and_discards_the_rest() {
    let mut shard = Shard::new();
    let old = run_of(9, 0, 0);
    intend(&mut shard, old, None).unwrap();
    shard.put("k", Put { intent: Some(old), ..striped(&[old], 1) }).unwrap();
    let id = begin(&mut shard, "k", 4);
    let parts: Vec<DataRef> = [(1, 10), (2, 11), (2, 12), (3, 13)]
        .into_iter()
        .map(|(part, attempt)| run_of(4, part, attempt))
        .collect();
    let replaced: Vec<bool> =
        parts.iter().map(|part| add(&mut shard, id, *part).unwrap()).collect();
    assert_eq!(replaced, [false, false, true, false]);
    let everything = shard.data();
    assert_eq!(everything.len(), 5);
    let page = Parts { key: "k".into(), id, after: 1, max: 1 };
    let page = shard.call::<_, Answer<PartPage>>("parts", &page).0.unwrap();
    assert_eq!((page.parts[0].data, page.more), (parts[2], true));

    let complete = |chosen: &[DataRef]| {
        let put = striped(chosen, 8);
        Complete {
            key: "k".into(),
            id,
            entry: put.entry,
            detail: put.detail,
            now_ms: 7,
            ..Complete::default()
        }
    };
    let stale = shard.call::<_, Answer<Committed>>("complete", &complete(&parts[..2])).0;
    assert_eq!(stale, Err(Refusal::PartChanged {}));
    let chosen = [parts[0], parts[2]];
    let done = shard.call::<_, Answer<Committed>>("complete", &complete(&chosen)).0;
    assert_eq!(done.unwrap().replaced.map(|e| e.size), Some(old.size));
    assert_eq!(shard.data(), everything);
    assert_eq!(shard.head().bytes, 18_000_000);
    let again = shard.call::<_, Answer<Committed>>("complete", &complete(&chosen)).0;
    assert_eq!(again, Err(Refusal::NoUpload {}));
    assert_eq!(add(&mut shard, id, run_of(4, 5, 5)), Err(Refusal::NoUpload {}));
}

#[test]
fn abort_makes_garbage_of_every_part() {
    let mut shard = Shard::new();
    let id = begin(&mut shard, "k", 4);
    add(&mut shard, id, run_of(4, 1, 1)).unwrap();
    add(&mut shard, id, run_of(4, 2, 1)).unwrap();
    let before = shard.data();
    let abort = Abort { key: "k".into(), id, now_ms: 8 };
    shard.call::<_, Answer<Nothing>>("abort", &abort).0.unwrap();
    assert_eq!(shard.data(), before);
    assert!(shard.0.omap.keys().all(|key| matches!(key[0], b'g' | b'p')));
    assert_eq!(sweep(&mut shard), before);
    assert!(shard.0.omap.is_empty());
    let again = shard.call::<_, Answer<Nothing>>("abort", &abort).0;
    assert_eq!(again, Err(Refusal::NoUpload {}));
}

/// Sweeps all garbage; returns the data that was to be removed.
fn sweep(shard: &mut Shard) -> BTreeSet<DataRef> {
    let mut removed = BTreeSet::new();
    loop {
        let ask = Garbage { before_ms: u64::MAX, max: 3, ..Garbage::default() };
        let found: Vec<(Bytes, Vec<DataRef>)> = shard.call("garbage", &ask);
        if found.is_empty() {
            return removed;
        }
        removed.extend(found.iter().flat_map(|(_, refs)| refs.clone()));
        let records = found.into_iter().map(|(key, _)| key).collect();
        let _: Nothing = shard.call("swept", &Swept { records });
    }
}

/// An object of very many parts: what its removal adds does not grow with them.
#[test]
fn many_parts_are_kept_apart_and_go_in_one_small_record() {
    for replace in [false, true] {
        let mut shard = Shard::new();
        let id = begin(&mut shard, "k", 4);
        let parts: Vec<DataRef> = (1..=300).map(|n| run_of(4, n, 7)).collect();
        for part in &parts {
            add(&mut shard, id, *part).unwrap();
        }
        let put = striped(&parts, 8);
        let complete = Complete {
            key: "k".into(),
            id,
            entry: put.entry,
            detail: put.detail,
            now_ms: 7,
            ..Complete::default()
        };
        shard.call::<_, Answer<Committed>>("complete", &complete).0.unwrap();
        let all: BTreeSet<DataRef> = parts.iter().copied().collect();
        assert_eq!(shard.data(), all);
        let read = Read { key: "k".into(), body: true, version: None };
        let found = shard.call::<_, Answer<Option<Found>>>("read", &read).0.unwrap().unwrap();
        assert_eq!(found.detail.body, Body::Striped { manifest: manifest(&parts) });

        let before: usize = shard.0.omap.values().map(Bytes::len).sum();
        if replace {
            shard.put("k", inline(1, 1)).unwrap();
        } else {
            shard.remove(vec![object("k")]).remove(0).unwrap();
        }
        let after: usize = shard.0.omap.values().map(Bytes::len).sum();
        assert!(after < before + 200, "{before} {after}");
        assert_eq!(shard.data(), all);
        assert_eq!(sweep(&mut shard), all);
        assert_eq!(shard.data(), BTreeSet::new());
    }
}

#[test]
fn a_sealed_shard_takes_nothing_and_clears() {
    let mut shard = Shard::new();
    shard.put("k", inline(1, 1)).unwrap();
    let seal = |shard: &mut Shard| shard.call::<_, Answer<Nothing>>("seal", &Seal { removal: 1 }).0;
    assert_eq!(seal(&mut shard), Err(Refusal::NotEmpty {}));
    shard.remove(vec![object("k")]).remove(0).unwrap();
    let id = begin(&mut shard, "k", 4);
    add(&mut shard, id, run_of(4, 1, 1)).unwrap();
    intend(&mut shard, run_of(5, 0, 0), None).unwrap();
    let before = shard.data();
    seal(&mut shard).unwrap();
    assert_eq!(shard.put("k", inline(1, 1)), Err(Refusal::NoBucket {}));
    assert_eq!(intend(&mut shard, run_of(6, 0, 0), None), Err(Refusal::NoBucket {}));
    let old = Expire { before_ms: u64::MAX, now_ms: 50, ..Expire::default() };
    let all = Expire { everything: true, ..old.clone() };
    let records = shard.0.omap.clone();
    assert_eq!(shard.call::<_, Expired>("expire", &old).count, 0);
    assert_eq!(shard.0.omap, records, "the removal may be taken back");
    assert_eq!(shard.call::<_, Expired>("expire", &all).count, 2);
    assert_eq!(shard.data(), before);
    assert!(shard.0.omap.keys().all(|key| key[0] == b'g' || key[0] == b'u'));
    shard.call::<_, Answer<Nothing>>("unseal", &Seal { removal: 1 }).0.unwrap();
    begin(&mut shard, "k", 5);
    let records = shard.0.omap.clone();
    assert_eq!(shard.call::<_, Expired>("expire", &all).count, 0);
    assert_eq!(shard.0.omap, records, "the bucket is not removed");
    shard.put("k", inline(1, 1)).unwrap();
}

#[test]
fn a_seal_is_of_one_removal() {
    let mut shard = Shard::new();
    let call = |shard: &mut Shard, method: &str, removal| {
        shard.call::<_, Answer<Nothing>>(method, &Seal { removal }).0
    };
    let sealed = |shard: &mut Shard| shard.head().sealed;
    call(&mut shard, "seal", 1).unwrap();
    call(&mut shard, "seal", 2).unwrap();
    call(&mut shard, "unseal", 1).unwrap();
    assert!(sealed(&mut shard), "the end of the first takes nothing from the second");
    assert_eq!(call(&mut shard, "seal", 1), Err(Refusal::TakenBack {}));
    call(&mut shard, "seal", 2).expect("again");
    call(&mut shard, "unseal", 2).unwrap();
    assert!(!sealed(&mut shard));
    assert_eq!(call(&mut shard, "seal", 2), Err(Refusal::TakenBack {}), "it is over");
    // A shard that an older program sealed.
    let mut head = shard.head();
    (head.sealed, head.removal) = (true, 0);
    shard.0.set_xattr(SHARD_XATTR, head.to_bytes());
    call(&mut shard, "unseal", 0).unwrap();
    assert!(!sealed(&mut shard));
}

/// The listing against the plain definition of it, over keys that are awkward on purpose.
#[test]
fn lists_as_the_definition_says() {
    let parts = ["a", "b", "/", "\u{ff}", "\0", "//", "a/b", "é"];
    let mut keys = BTreeSet::new();
    for x in parts {
        for y in parts {
            for z in ["", "/", "c"] {
                keys.insert(format!("{x}{y}{z}").into_bytes());
            }
        }
    }
    keys.insert(vec![0xff, 0xff]);
    keys.insert(vec![0xff, 0xff, b'/']);
    let mut shard = Shard::new();
    for key in &keys {
        shard
            .call::<_, Answer<Committed>>("put", &Put { key: key.clone().into(), ..inline(1, 1) })
            .0
            .unwrap();
    }
    for prefix in ["", "a", "a/", "/", "x", "\u{ff}"] {
        for delimiter in ["", "/", "b/", "\0"] {
            let (prefix, delimiter) = (prefix.as_bytes(), delimiter.as_bytes());
            let mut expected: Vec<Vec<u8>> = Vec::new();
            for key in keys.iter().filter(|key| key.starts_with(prefix)) {
                let name = list::rolled_up(key, prefix, delimiter).unwrap_or(key).to_vec();
                if expected.last() != Some(&name) {
                    expected.push(name);
                }
            }
            for max in [1, 2, 7, 1000] {
                let mut listed = Vec::new();
                let mut from = Bytes::new();
                loop {
                    let call = List {
                        prefix: prefix.to_vec().into(),
                        delimiter: delimiter.to_vec().into(),
                        from,
                        max,
                    };
                    let page = shard.call::<_, Answer<Page>>("list", &call).0.unwrap();
                    assert!(page.items.len() <= max as usize);
                    listed.extend(page.items.iter().map(|item| item.name().to_vec()));
                    match page.next {
                        Some(next) => from = next,
                        None => break,
                    }
                }
                assert_eq!(listed, expected, "prefix {prefix:?} delimiter {delimiter:?} max {max}");
            }
        }
    }
}

#[test]
fn uploads_are_listed_by_key_and_id() {
    let mut shard = Shard::new();
    for (key, id) in [("a", 2), ("a", 1), ("a\0b", 3), ("a/x", 4), ("a/y", 5), ("b", 6)] {
        begin(&mut shard, key, id);
    }
    let mut list = |prefix: &str, delimiter: &str, from: &str, after_id: Option<u8>, max| {
        let call = Uploads {
            prefix: prefix.to_owned().into(),
            delimiter: delimiter.to_owned().into(),
            from: from.to_owned().into(),
            after_id: after_id.map(|id| WriteId([id; 16])),
            max,
        };
        let page = shard.call::<_, Answer<UploadPage>>("uploads", &call).0.unwrap();
        let line = |item: &UploadItem| match item {
            UploadItem::Upload { id, .. } => format!("{}", id.0[0]),
            UploadItem::Prefix { prefix } => String::from_utf8_lossy(prefix).into_owned(),
        };
        (page.items.iter().map(line).collect::<Vec<_>>().join(" "), page.more)
    };
    assert_eq!(list("", "", "", None, 9), ("1 2 3 4 5 6".into(), false));
    assert_eq!(list("a", "", "", None, 2), ("1 2".into(), true));
    assert_eq!(list("", "", "a", Some(1), 9), ("2 3 4 5 6".into(), false));
    assert_eq!(list("a", "/", "", None, 9), ("1 2 3 a/".into(), false));
    assert_eq!(list("", "/", "", None, 9), ("1 2 3 a/ 6".into(), false));
}

#[test]
fn the_largest_manifest_fits_a_value() {
    let parts = (1..=PARTS_MAX as u16)
        .map(|number| ManifestPart { number, attempt: u32::MAX, size: u64::MAX >> 20 })
        .collect();
    let manifest = Manifest {
        parts,
        checksum_bytes: 32,
        checksums: vec![1; 32 * PARTS_MAX as usize].into(),
        ..Manifest::default()
    };
    let detail = Detail { body: Body::Striped { manifest }, ..Detail::default() }.to_bytes();
    // Headers and user metadata are below 16 KiB, and so are ten tags.
    assert!(detail.len() + (32 << 10) < crate::op::VALUE_BYTES_MAX, "{}", detail.len());
}

#[test]
fn hostile_input_is_an_error_of_every_method() {
    for method in METHODS.iter().chain(&REGISTRY_METHODS) {
        let mut object = MemoryObject::default();
        for input in [&b"\xff\xff\xff\xff\xff"[..], &[1; 400], &[0xff; 64]] {
            // Some inputs may happen to be values; none may panic.
            let _ = (method.code)(&mut object, Bytes::copy_from_slice(input));
        }
    }
}

#[test]
fn details_and_uploads_without_acl_are_still_read() {
    #[derive(Default)]
    struct OldDetail {
        headers: std::collections::BTreeMap<String, String>,
        metadata: std::collections::BTreeMap<String, Bytes>,
        checksum: Option<Checksum>,
        body: Body,
    }
    crate::codec_versioned!(OldDetail, 1, 1 { headers, metadata, checksum, body });
    let old = OldDetail { body: Body::Inline { data: "x".into() }, ..OldDetail::default() };
    let detail = Detail::from_bytes(old.to_bytes()).expect("a detail");
    assert_eq!(detail.body, old.body);
    assert_eq!(detail.acl, None);
    let grant = Grant {
        grantee: Grantee::Group { group: AclGroup::AllUsers {} },
        permission: Permission::Read {},
    };
    let acl = Acl { grants: vec![grant] };
    let detail = Detail { acl: Some(acl.clone()), ..detail };
    assert_eq!(Detail::from_bytes(detail.to_bytes()), Ok(detail.clone()));
    // An older reader passes over what it does not know.
    assert_eq!(OldDetail::from_bytes(detail.to_bytes()).expect("a detail").body, detail.body);
    // Version, compat, length, count of grants, group, which, permission.
    assert_eq!(acl.to_bytes()[..], [1, 1, 7, 0, 0, 0, 1, 0, 0, 0, 2, 1, 1]);
    for cut in 0..acl.to_bytes().len() {
        assert!(Acl::from_bytes(acl.to_bytes().slice(..cut)).is_err(), "{cut}");
    }
}

#[test]
fn the_acl_of_an_object_changes_alone() {
    let mut shard = Shard::new();
    let data = shard.data();
    assert!(data.is_empty());
    let detail = Detail { body: Body::Inline { data: "x".into() }, ..Detail::default() };
    let entry = Entry { size: 1, owner: "u".into(), modified_ms: 3, ..Entry::default() };
    let put = Put { entry: entry.clone(), detail: detail.to_bytes(), ..Put::default() };
    shard.put("k", put).expect("put");
    let grantee = Grantee::User { id: "v".into() };
    let acl = Acl { grants: vec![Grant { grantee, permission: Permission::ReadAcp {} }] };
    let mut set = |key: &'static str, seen: Entry| {
        let set = SetAcl { key: key.into(), version: None, seen, acl: acl.clone() };
        shard.call::<_, Answer<Nothing>>("set_acl", &set).0
    };
    let other = Entry { modified_ms: 4, ..entry.clone() };
    assert_eq!(set("k", other), Err(Refusal::Precondition {}));
    assert_eq!(set("none", entry.clone()), Err(Refusal::NoKey {}));
    assert!(set("k", entry.clone()).is_ok());
    let read = Read { key: "k".into(), body: true, version: None };
    let found: Answer<Option<Found>> = shard.call("read", &read);
    let found = found.0.expect("a shard").expect("an object");
    assert_eq!(found.entry, entry);
    assert_eq!(found.detail, Detail { acl: Some(acl), ..detail });
}

#[test]
fn entries_and_bodies_grow_and_stay_readable() {
    #[derive(Clone, Debug, Default, PartialEq, Eq)]
    struct OldEntry {
        size: u64,
        etag: ETag,
        modified_ms: u64,
        owner: String,
        checksum_algorithm: u8,
        striped: bool,
        upload: Option<WriteId>,
        sequence: u64,
        named: bool,
        delete_marker: bool,
        lock: ObjectLock,
    }
    crate::codec_versioned!(OldEntry, 2, 2 {
        size, etag, modified_ms, owner, checksum_algorithm, striped, upload,
        sequence, named, delete_marker, lock,
    });
    let old = OldEntry { size: 7, owner: "u".into(), sequence: 3, ..OldEntry::default() };
    let read = Entry::from_bytes(old.to_bytes()).expect("readable");
    assert_eq!((read.size, read.sequence, read.content_type.as_str()), (7, 3, ""));
    let new = Entry {
        size: 8,
        content_type: "text/x".into(),
        listed: [("hash".to_owned(), "h".to_owned())].into(),
        ..Entry::default()
    };
    assert_eq!(Entry::from_bytes(new.to_bytes()), Ok(new.clone()));
    // Who does not know of content types reads the rest.
    assert_eq!(OldEntry::from_bytes(new.to_bytes()).expect("readable").size, 8);
    let body = Body::Segments { manifest: Bytes::from_static(b"[]") };
    assert_eq!(body.to_bytes()[..], *b"\x03\x02\0\0\0[]");
    let detail = Detail { body, ..Detail::default() };
    assert_eq!(Detail::from_bytes(detail.to_bytes()), Ok(detail));
}
