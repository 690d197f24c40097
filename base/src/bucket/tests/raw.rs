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
