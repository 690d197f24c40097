//! The key ring: one object with the keys of SSE-KMS. Every change is one transaction of it, and every rule about
//! what may follow what is held here, by the daemon's clock, so that no two gateways or operators can disagree.

use super::*;

const DAY_MS: u64 = 24 * 3600 * 1000;

/// How many keys there are, as a u32.
const COUNT_XATTR: &str = "kms";

fn key_of(id: &str) -> Bytes {
    key_in(b'k', id.as_bytes())
}

fn count(context: &mut dyn ClassContext) -> Result<u32, ClassError> {
    Ok(context.xattr(COUNT_XATTR)?.map(stored).transpose()?.unwrap_or(0))
}

pub(super) fn key(
    context: &mut dyn ClassContext,
    input: ReadKms,
) -> Result<Option<KmsKey>, ClassError> {
    stored_at(context, &key_of(&input.id))
}

pub(super) fn keys(context: &mut dyn ClassContext, input: ListKms) -> Result<KmsPage, ClassError> {
    let mut page = KmsPage::default();
    let mut from = match input.after.is_empty() {
        true => key_of(""),
        false => [&key_of(&input.after)[..], &[0]].concat().into(),
    };
    let mut bytes = 0;
    loop {
        let batch = context.omap_range(&from, &space_end(b'k'), BATCH)?;
        let last = batch.len() < BATCH;
        for (whole, value) in batch {
            if bytes > REPLY_BYTES_MAX {
                page.more = true;
                return Ok(page);
            }
            bytes += whole.len() + value.len();
            from = [&whole[..], &[0]].concat().into();
            page.keys.push(stored(value)?);
        }
        if last {
            return Ok(page);
        }
    }
}

pub(super) fn change(
    context: &mut dyn ClassContext,
    input: ChangeKms,
) -> Result<KmsOutcome, ClassError> {
    check(&input)?;
    let now_ms = context.now().millis();
    let present = stored_at::<KmsKey>(context, &key_of(&input.id))?;
    let changed = match (input.change, present) {
        (KmsChange::Create { .. }, Some(_)) => Err(KmsRefusal::Exists {}),
        (KmsChange::Create { .. }, None) if count(context)? >= KMS_KEYS_MAX => {
            Err(KmsRefusal::Full {})
        }
        (KmsChange::Create { serial, description }, None) => {
            let count = count(context)? + 1;
            context.create();
            context.set_xattr(COUNT_XATTR, count.to_bytes());
            let (id, created_ms) = (input.id, now_ms);
            let key = KmsKey { id, serial, description, created_ms, ..KmsKey::default() };
            Ok(KmsKey { enabled: true, wanted: 1, ..key })
        }
        (_, None) => Err(KmsRefusal::NoKey {}),
        (KmsChange::Destroy {}, Some(key)) => return destroy(context, key, now_ms),
        (change, Some(key)) => changed(key, change, now_ms),
    };
    Ok(match changed {
        Err(why) => KmsOutcome::Refused { why },
        Ok(key) => {
            context.set_omap(key_of(&key.id), key.to_bytes());
            KmsOutcome::Done { key }
        }
    })
}

fn check(input: &ChangeKms) -> Result<(), ClassError> {
    let invalid = |why: &str| Err(ClassError::Invalid(why.into()));
    if !is_kms_id(&input.id) {
        return invalid(
            "the id of a key has letters, digits, '_', '-' and '.' only, 1 to 128 of them",
        );
    }
    match &input.change {
        KmsChange::Create { description, .. } if description.len() > KMS_DESCRIPTION_BYTES_MAX => {
            invalid("the description of a key has at most 1024 bytes")
        }
        KmsChange::Delete { days } if !KMS_WAIT_DAYS.contains(days) => {
            invalid("a key is deleted after 7 to 30 days")
        }
        KmsChange::Delete { .. } if input.id == KMS_KEY_DEFAULT => {
            invalid("the default key cannot be deleted; disable it to keep it from being used")
        }
        _ => Ok(()),
    }
}

/// What becomes of a key that is there.
fn changed(mut key: KmsKey, change: KmsChange, now_ms: u64) -> Result<KmsKey, KmsRefusal> {
    match change {
        KmsChange::Undelete {} if key.is_leaving() => {
            (key.delete_ms, key.enabled) = (0, false);
            return Ok(key);
        }
        KmsChange::Undelete {} => return Err(KmsRefusal::Staying {}),
        _ if key.is_leaving() => return Err(KmsRefusal::Leaving {}),
        KmsChange::Enable {} => key.enabled = true,
        KmsChange::Disable {} => key.enabled = false,
        KmsChange::Delete { days } => {
            key.enabled = false;
            key.delete_ms = now_ms.saturating_add(u64::from(days) * DAY_MS).max(1);
        }
        _ if !key.enabled => return Err(KmsRefusal::Disabled {}),
        KmsChange::Rotate {} => {
            if key.versions.len() >= KMS_VERSIONS_MAX || key.wanted == u32::MAX {
                return Err(KmsRefusal::Full {});
            }
            key.wanted += 1;
        }
        KmsChange::Supply { version } => supply(&mut key, version)?,
        // These are decided where it is known whether the key is there.
        KmsChange::Create { .. } | KmsChange::Destroy {} => return Err(KmsRefusal::Exists {}),
    }
    Ok(key)
}

fn supply(key: &mut KmsKey, version: KmsVersion) -> Result<(), KmsRefusal> {
    if version.version != key.wanted {
        return Err(KmsRefusal::Overtaken {});
    }
    if key.version(version.version).is_some() {
        return Ok(());
    }
    if key.versions.len() >= KMS_VERSIONS_MAX {
        return Err(KmsRefusal::Full {});
    }
    key.versions.push(version);
    Ok(())
}

fn destroy(
    context: &mut dyn ClassContext,
    key: KmsKey,
    now_ms: u64,
) -> Result<KmsOutcome, ClassError> {
    if !key.is_leaving() || now_ms < key.delete_ms {
        return Ok(KmsOutcome::Refused { why: KmsRefusal::Staying {} });
    }
    let count = count(context)?.saturating_sub(1);
    context.set_xattr(COUNT_XATTR, count.to_bytes());
    context.remove_omap(&key_of(&key.id));
    Ok(KmsOutcome::Done { key })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Timestamp;
    use crate::class::memory::MemoryObject;

    fn ask(object: &mut MemoryObject, id: &str, change: KmsChange) -> Result<KmsKey, KmsRefusal> {
        let input = ChangeKms { id: id.into(), change };
        super::change(object, input).unwrap().into_result()
    }

    fn at(ms: u64) -> Timestamp {
        Timestamp { secs: ms / 1000, nanos: (ms % 1000) as u32 * 1_000_000 }
    }

    fn create(object: &mut MemoryObject, id: &str) -> Result<KmsKey, KmsRefusal> {
        let description = "for tests".into();
        ask(object, id, KmsChange::Create { serial: WriteId([1; 16]), description })
    }

    fn version(version: u32, sealed: &'static [u8]) -> KmsChange {
        let wrapped_key = Bytes::from_static(sealed);
        KmsChange::Supply { version: KmsVersion { version, wrapped_key, ..KmsVersion::default() } }
    }

    #[test]
    fn the_first_secret_of_a_version_stays_and_old_ones_are_kept() {
        let mut object = MemoryObject::default();
        let made = create(&mut object, "k").unwrap();
        assert!(made.enabled && made.wanted == 1 && made.versions.is_empty());
        assert_eq!(create(&mut object, "k"), Err(KmsRefusal::Exists {}));
        assert_eq!(ask(&mut object, "n", KmsChange::Rotate {}), Err(KmsRefusal::NoKey {}));
        let first = ask(&mut object, "k", version(1, b"a")).unwrap();
        assert_eq!(ask(&mut object, "k", version(1, b"b")).unwrap(), first);
        assert_eq!(ask(&mut object, "k", version(2, b"b")), Err(KmsRefusal::Overtaken {}));
        assert_eq!(ask(&mut object, "k", KmsChange::Rotate {}).unwrap().wanted, 2);
        assert_eq!(ask(&mut object, "k", version(1, b"c")), Err(KmsRefusal::Overtaken {}));
        // Nobody wrote with version 2.
        assert_eq!(ask(&mut object, "k", KmsChange::Rotate {}).unwrap().wanted, 3);
        let key = ask(&mut object, "k", version(3, b"c")).unwrap();
        let sealed = |version| key.version(version).map(|version| &version.wrapped_key[..]);
        assert_eq!([1, 2, 3].map(sealed), [Some(&b"a"[..]), None, Some(&b"c"[..])]);
        let read = super::key(&mut object, ReadKms { id: "k".into() }).unwrap();
        assert_eq!(read, Some(key));
    }

    #[test]
    fn a_key_may_be_used_only_while_it_is_enabled_and_stays() {
        let mut object = MemoryObject { now: at(1000), ..Default::default() };
        create(&mut object, "k").unwrap();
        assert!(!ask(&mut object, "k", KmsChange::Disable {}).unwrap().enabled);
        for change in [KmsChange::Rotate {}, version(1, b"a")] {
            assert_eq!(ask(&mut object, "k", change), Err(KmsRefusal::Disabled {}));
        }
        assert!(ask(&mut object, "k", KmsChange::Enable {}).unwrap().enabled);
        assert_eq!(ask(&mut object, "k", KmsChange::Undelete {}), Err(KmsRefusal::Staying {}));
        assert_eq!(ask(&mut object, "k", KmsChange::Destroy {}), Err(KmsRefusal::Staying {}));
        let leaving = ask(&mut object, "k", KmsChange::Delete { days: 7 }).unwrap();
        assert_eq!(leaving.delete_ms, 1000 + 7 * DAY_MS);
        for change in [
            KmsChange::Enable {},
            KmsChange::Disable {},
            KmsChange::Rotate {},
            KmsChange::Delete { days: 8 },
            version(1, b"a"),
        ] {
            assert_eq!(ask(&mut object, "k", change), Err(KmsRefusal::Leaving {}));
        }
        object.now = at(leaving.delete_ms - 1);
        assert_eq!(ask(&mut object, "k", KmsChange::Destroy {}), Err(KmsRefusal::Staying {}));
        let back = ask(&mut object, "k", KmsChange::Undelete {}).unwrap();
        assert!(!back.is_leaving() && !back.enabled);
        let leaving = ask(&mut object, "k", KmsChange::Delete { days: 30 }).unwrap();
        object.now = at(leaving.delete_ms);
        assert!(ask(&mut object, "k", KmsChange::Destroy {}).is_ok());
        assert_eq!(ask(&mut object, "k", KmsChange::Enable {}), Err(KmsRefusal::NoKey {}));
        assert!(object.omap.is_empty());
        assert_eq!(count(&mut object), Ok(0));
    }

    #[test]
    fn what_no_rule_allows_is_invalid() {
        let mut object = MemoryObject::default();
        create(&mut object, "k").unwrap();
        create(&mut object, KMS_KEY_DEFAULT).unwrap();
        for (id, change) in [
            ("a b", KmsChange::Enable {}),
            ("k", KmsChange::Delete { days: 6 }),
            ("k", KmsChange::Delete { days: 31 }),
            (KMS_KEY_DEFAULT, KmsChange::Delete { days: 7 }),
            (
                "x",
                KmsChange::Create {
                    serial: WriteId::default(),
                    description: "d".repeat(KMS_DESCRIPTION_BYTES_MAX + 1),
                },
            ),
        ] {
            let input = ChangeKms { id: id.into(), change };
            assert!(matches!(super::change(&mut object, input), Err(ClassError::Invalid(_))));
        }
    }

    #[test]
    fn there_is_an_end_to_keys_and_to_versions() {
        let mut object = MemoryObject::default();
        create(&mut object, "k").unwrap();
        for n in 1..=KMS_VERSIONS_MAX as u32 {
            ask(&mut object, "k", version(n, b"s")).unwrap();
            let rotated = ask(&mut object, "k", KmsChange::Rotate {});
            assert_eq!(rotated.is_ok(), n < KMS_VERSIONS_MAX as u32);
        }
        object.set_xattr(COUNT_XATTR, KMS_KEYS_MAX.to_bytes());
        assert_eq!(create(&mut object, "l"), Err(KmsRefusal::Full {}));
    }

    #[test]
    fn pages_have_every_key_once() {
        let mut object = MemoryObject::default();
        let long = "d".repeat(KMS_DESCRIPTION_BYTES_MAX);
        for n in 0..700 {
            let (serial, description) = (WriteId::default(), long.clone());
            ask(&mut object, &format!("{n:04}"), KmsChange::Create { serial, description })
                .unwrap();
        }
        let (mut seen, mut after, mut pages) = (Vec::new(), String::new(), 0);
        loop {
            let page = keys(&mut object, ListKms { after }).unwrap();
            pages += 1;
            seen.extend(page.keys.into_iter().map(|key| key.id));
            after = seen.last().cloned().unwrap_or_default();
            if !page.more {
                break;
            }
        }
        assert_eq!(seen, (0..700).map(|n| format!("{n:04}")).collect::<Vec<_>>());
        assert!(pages > 1);
    }
}
