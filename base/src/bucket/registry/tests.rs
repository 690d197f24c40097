//! The registry against an object in memory: names, documents, pages.

use super::*;
use crate::class::{self, memory::MemoryObject};

#[test]
fn names_of_buckets_are_taken_marked_and_freed() {
    let mut object = MemoryObject::default();
    let mut call = |name: &str, input: Bytes| {
        let found = class::method(REGISTRY_CLASS, name).expect("a method of this name");
        (found.code)(&mut object, input).expect("a well-formed call")
    };
    let record = |name: &str, owner: &str, id| BucketRecord {
        id: BucketId([id; 8]),
        name: name.into(),
        owner: owner.into(),
        ..BucketRecord::default()
    };
    for (name, owner, id) in [("bb", "u", 1), ("ba", "u", 2), ("bc", "u2", 3)] {
        let input = CreateBucket { record: record(name, owner, id) }.to_bytes();
        assert_eq!(Created::from_bytes(call("create", input)), Ok(Created::New {}));
    }
    let again = CreateBucket { record: record("bb", "u2", 9) }.to_bytes();
    let present = Created::Present { record: record("bb", "u", 1) };
    assert_eq!(Created::from_bytes(call("create", again)), Ok(present));

    let list = |owner: Option<&str>, prefix: &str, after: &str, max| {
        ListBuckets {
            owner: owner.map(Into::into),
            prefix: prefix.into(),
            after: after.into(),
            max,
        }
        .to_bytes()
    };
    let names = |bytes| {
        let page = BucketPage::from_bytes(bytes).expect("a page");
        (page.buckets.into_iter().map(|b| b.name).collect::<Vec<_>>().join(" "), page.more)
    };
    assert_eq!(names(call("list", list(None, "", "", 9))), ("ba bb bc".into(), false));
    assert_eq!(names(call("list", list(Some("u"), "", "", 1))), ("ba".into(), true));
    assert_eq!(names(call("list", list(Some("u"), "b", "ba", 9))), ("bb".into(), false));

    let named = |id, removing| {
        NamedBucket { name: "bb".into(), id: BucketId([id; 8]), removing }.to_bytes()
    };
    let answer = |bytes| Answer::<Nothing>::from_bytes(bytes).expect("an answer").0;
    let doomed = |after| Doomed { after, max: 9 }.to_bytes();
    let number = |bytes| Answer::<u64>::from_bytes(bytes).expect("an answer").0;
    let taken_back = Refusal::TakenBack {};
    assert!(answer(call("ready", named(1, 0))).is_ok());
    assert!(number(call("condemn", named(2, 0))).is_err());
    assert_eq!(number(call("condemn", named(1, 0))), Ok(1));
    assert_eq!(number(call("reprieve", named(1, 0))), Ok(1));
    let late = answer(call("remove", named(1, 1)));
    assert_eq!(late, Err(taken_back.clone()), "a removal that was taken back");
    assert_eq!(number(call("condemn", named(1, 0))), Ok(2), "after all before, taken back or not");
    assert_eq!(number(call("reprieve", named(1, 1))), Err(taken_back), "another one's");
    assert!(answer(call("remove", named(1, 2))).is_ok());
    assert_eq!(names(call("list", list(Some("u"), "", "", 9))), ("ba".into(), false));
    assert_eq!(names(call("doomed", doomed(None))), ("bb".into(), false));
    let behind = call("doomed", doomed(Some(BucketId([1; 8]))));
    assert_eq!(names(behind), (String::new(), false));
    call("forget", Forget { id: BucketId([1; 8]) }.to_bytes());
    assert_eq!(names(call("doomed", doomed(None))), (String::new(), false));
}

#[test]
fn revisions_end() {
    let mut object = MemoryObject::default();
    let call = |object: &mut MemoryObject, name: &str, input: Bytes| {
        let found = class::method(REGISTRY_CLASS, name).expect("a method of this name");
        (found.code)(object, input)
    };
    let settings = |revision| ObjectSettings {
        revision,
        versioning: Versioning::Enabled,
        ..Default::default()
    };
    let record = |revision| BucketRecord {
        name: "b".into(),
        settings: settings(revision),
        ..BucketRecord::default()
    };
    let absurd = CreateBucket { record: record(u64::MAX) }.to_bytes();
    assert!(matches!(call(&mut object, "create", absurd), Err(ClassError::Invalid(_))));
    let made = CreateBucket { record: record(1) }.to_bytes();
    call(&mut object, "create", made).expect("made");
    object.omap.insert(key_in(b'b', b"b"), record(u64::MAX).to_bytes());
    let change = SettingsChange::Versioning { versioning: Versioning::Suspended };
    let configure = ConfigureBucket { name: "b".into(), id: BucketId::default(), change };
    let done = call(&mut object, "configure", configure.to_bytes());
    assert!(matches!(done, Err(ClassError::Damaged(_))), "{done:?}");
}

#[test]
fn documents_of_a_bucket_change_when_they_are_what_is_expected() {
    let mut object = MemoryObject::default();
    let mut call = |name: &str, input: Bytes| {
        let found = class::method(REGISTRY_CLASS, name).expect("a method of this name");
        (found.code)(&mut object, input)
    };
    let id = BucketId([7; 8]);
    let record = BucketRecord { id, name: "b".into(), owner: "u".into(), ..Default::default() };
    call("create", CreateBucket { record }.to_bytes()).expect("made");
    let set = |id,
               document: &str,
               value: &'static str,
               expected: &[(&str, Option<&'static str>)]| {
        let expected =
            expected.iter().map(|(name, is)| ((*name).to_owned(), is.map(Bytes::from))).collect();
        let (document, value) = (document.into(), value.into());
        SetDocument { name: "b".into(), id, document, value, expected }.to_bytes()
    };
    let done = |bytes| Answer::<Nothing>::from_bytes(bytes).expect("an answer").0;
    let precondition = Err(Refusal::Precondition {});
    assert!(done(call("set_document", set(id, "policy", "1", &[])).unwrap()).is_ok());
    let absent = [("policy", None)];
    assert_eq!(done(call("set_document", set(id, "acl", "a", &absent)).unwrap()), precondition);
    let other = [("policy", Some("2"))];
    assert_eq!(done(call("set_document", set(id, "acl", "a", &other)).unwrap()), precondition);
    let right = [("policy", Some("1")), ("acl", None)];
    assert!(done(call("set_document", set(id, "acl", "a", &right)).unwrap()).is_ok());
    let gone = done(call("set_document", set(BucketId([8; 8]), "acl", "b", &[])).unwrap());
    assert_eq!(gone, Err(Refusal::NoBucket {}));
    let remove = |document: &str, expected| {
        RemoveDocument { name: "b".into(), id, document: document.into(), expected }.to_bytes()
    };
    let wrong: ExpectedDocuments = [("acl".to_owned(), None)].into();
    assert_eq!(done(call("remove_document", remove("acl", wrong)).unwrap()), precondition);
    for _ in 0..2 {
        let removed = call("remove_document", remove("policy", ExpectedDocuments::new()));
        assert!(done(removed.unwrap()).is_ok());
    }
    let long = SetDocument {
        name: "b".into(),
        id,
        document: "cors".into(),
        value: vec![0; DOCUMENTS_BYTES_MAX].into(),
        ..SetDocument::default()
    };
    assert!(call("set_document", long.to_bytes()).is_err());
    let read = call("read", ReadBucket { name: "b".into() }.to_bytes()).unwrap();
    let record = Option::<BucketRecord>::from_bytes(read).unwrap().expect("a bucket");
    assert_eq!(record.documents, [("acl".to_owned(), Bytes::from("a"))].into());
}

#[test]
fn pages_of_buckets_with_long_documents_are_short() {
    let mut object = MemoryObject::default();
    let mut call = |name: &str, input: Bytes| {
        let found = class::method(REGISTRY_CLASS, name).expect("a method of this name");
        (found.code)(&mut object, input).expect("a well-formed call")
    };
    for n in 0..8 {
        let documents = [("policy".to_owned(), vec![0; 200 << 10].into())].into();
        let (name, owner) = (format!("b{n}"), "u".to_owned());
        let record = BucketRecord { name, owner, documents, ..BucketRecord::default() };
        call("create", CreateBucket { record }.to_bytes());
    }
    for owner in [None, Some("u".to_owned())] {
        let (mut after, mut names) = (String::new(), Vec::new());
        loop {
            let list = ListBuckets { owner: owner.clone(), after, max: 100, ..Default::default() };
            let page = BucketPage::from_bytes(call("list", list.to_bytes())).expect("a page");
            assert!(page.buckets.len() < 8);
            names.extend(page.buckets.into_iter().map(|bucket| bucket.name));
            after = names.last().expect("one at least").clone();
            if !page.more {
                break;
            }
        }
        assert_eq!(names.len(), 8);
    }
}

#[test]
fn what_is_kept_of_an_account_changes_one_revision_at_a_time() {
    let mut object = MemoryObject::default();
    let mut call = |name: &str, input: Bytes| {
        let found = class::method(REGISTRY_CLASS, name).expect("a method of this name");
        (found.code)(&mut object, input).expect("a well-formed call")
    };
    let read = |id: &str| ReadAccount { id: id.into() }.to_bytes();
    let kept = |bytes| Option::<SwiftMetadata>::from_bytes(bytes).expect("an answer");
    let account = |revision, value: &str| SwiftMetadata {
        revision,
        created_ms: 5,
        modified_ms: 6,
        metadata: [("a".to_owned(), Bytes::copy_from_slice(value.as_bytes()))].into(),
        ..SwiftMetadata::default()
    };
    let set = |revision, value: &str| {
        SetAccount { id: "u".into(), account: account(revision, value) }.to_bytes()
    };
    let answer = |bytes| Answer::<Nothing>::from_bytes(bytes).expect("an answer").0;
    assert_eq!(kept(call("account", read("u"))), None);
    assert_eq!(answer(call("set_account", set(2, "early"))), Err(Refusal::Precondition {}));
    assert!(answer(call("set_account", set(1, "one"))).is_ok());
    assert_eq!(answer(call("set_account", set(1, "late"))), Err(Refusal::Precondition {}));
    assert!(answer(call("set_account", set(2, "two"))).is_ok());
    assert_eq!(kept(call("account", read("u"))), Some(account(2, "two")));
    assert_eq!(kept(call("account", read("v"))), None);
}

#[test]
fn the_form_of_metadata_stays() {
    let metadata = [("a".to_owned(), Bytes::from_static(b"xy"))].into();
    let mut kept = SwiftMetadata {
        revision: 1,
        created_ms: 2,
        modified_ms: 3,
        metadata,
        ..SwiftMetadata::default()
    };
    // What the first version wrote is read.
    let first = b"\x01\x01\x27\0\0\0\x01\0\0\0\0\0\0\0\x02\0\0\0\0\0\0\0\x03\0\0\0\0\0\0\0\
        \x01\0\0\0\x01\0\0\0a\x02\0\0\0xy";
    assert_eq!(SwiftMetadata::from_bytes(Bytes::from_static(first)), Ok(kept.clone()));
    kept.settings = [("s".to_owned(), Bytes::from_static(b"z"))].into();
    let golden = b"\x02\x01\x35\0\0\0\x01\0\0\0\0\0\0\0\x02\0\0\0\0\0\0\0\x03\0\0\0\0\0\0\0\
        \x01\0\0\0\x01\0\0\0a\x02\0\0\0xy\x01\0\0\0\x01\0\0\0s\x01\0\0\0z";
    assert_eq!(kept.to_bytes()[..], *golden);
    assert_eq!(SwiftMetadata::from_bytes(Bytes::from_static(golden)), Ok(kept));
    for end in 0..golden.len() {
        assert!(SwiftMetadata::from_bytes(Bytes::copy_from_slice(&golden[..end])).is_err());
    }
}
