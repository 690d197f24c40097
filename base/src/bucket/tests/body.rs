//! Locks of data objects.

use super::*;
use crate::Timestamp;

fn call<I: Encode>(object: &mut MemoryObject, method: &str, input: I) -> Done<Nothing> {
    let method = class::method(BODY_CLASS, method).expect("registered");
    let answer = (method.code)(object, input.to_bytes()).expect("understood");
    Answer::<Nothing>::from_bytes(answer).expect("an answer").0
}

fn lock(
    object: &mut MemoryObject,
    mode: Option<(LockMode, u64)>,
    hold: bool,
    bypass: bool,
) -> Done<Nothing> {
    let retention = mode.map(|(mode, secs)| Retention { mode, until_ms: secs * 1000 });
    call(object, "lock", LockBody { lock: ObjectLock { retention, hold: Some(hold) }, bypass })
}

fn remove(object: &mut MemoryObject, bypass: bool) -> Done<Nothing> {
    call(object, "remove", RemoveBody { bypass })
}

fn data() -> MemoryObject {
    let now = Timestamp { secs: 1000, nanos: 0 };
    MemoryObject { exists: true, now, ..MemoryObject::default() }
}

#[test]
fn data_goes_only_when_no_lock_is_in_force() {
    let locked = Err(Refusal::Locked {});
    let (governance, compliance) = (LockMode::Governance, LockMode::Compliance);

    let mut object = data();
    assert_eq!(lock(&mut object, Some((compliance, 2000)), false, true), Ok(Nothing {}));
    assert_eq!(remove(&mut object, true), locked);
    assert_eq!(lock(&mut object, Some((compliance, 1999)), false, true), locked, "not shorter");
    assert_eq!(lock(&mut object, Some((governance, 2000)), false, true), locked, "not weaker");
    assert_eq!(lock(&mut object, None, false, true), locked, "not without");
    assert_eq!(lock(&mut object, Some((compliance, 3000)), true, false), Ok(Nothing {}));
    object.now.secs = 3000;
    assert_eq!(remove(&mut object, true), locked, "the hold is on");
    assert_eq!(lock(&mut object, None, false, false), Ok(Nothing {}));
    assert_eq!(remove(&mut object, false), Ok(Nothing {}));
    assert!(!object.exists);

    let mut object = data();
    assert_eq!(lock(&mut object, Some((governance, 2000)), false, false), Ok(Nothing {}));
    assert_eq!(remove(&mut object, false), locked);
    assert_eq!(lock(&mut object, Some((governance, 1500)), false, false), locked);
    assert_eq!(lock(&mut object, Some((governance, 1500)), false, true), Ok(Nothing {}));
    assert_eq!(remove(&mut object, true), Ok(Nothing {}), "with leave");
}

#[test]
fn data_that_is_not_there_cannot_be_locked() {
    let mut object = MemoryObject::default();
    assert_eq!(lock(&mut object, None, true, false), Err(Refusal::NoKey {}));
    assert!(!object.exists);
}
