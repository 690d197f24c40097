//! The cluster's keys for encrypted bodies: one object, to which keys are added and from which none is ever
//! taken, because there may be bodies that only it opens.

use super::*;

fn key_of(version: u32) -> Bytes {
    key_in(b'k', &version.to_be_bytes())
}

fn all(context: &mut dyn ClassContext) -> Result<Vec<SealedKey>, ClassError> {
    let until = Bytes::copy_from_slice(&space_end(b'k'));
    let pairs = context.omap_range(&key_of(0), &until, KEYS_MAX)?;
    pairs.into_iter().map(|(_, value)| stored(value)).collect()
}

pub(super) fn keys(
    context: &mut dyn ClassContext,
    _: Nothing,
) -> Result<Vec<SealedKey>, ClassError> {
    all(context)
}

pub(super) fn add_key(
    context: &mut dyn ClassContext,
    input: AddKey,
) -> Result<Vec<SealedKey>, ClassError> {
    let mut keys = all(context)?;
    let next = keys.last().map_or(1, |last| last.version.saturating_add(1));
    // Who is not the next was overtaken, and goes on with the key that is there.
    if input.key.version == next && keys.len() < KEYS_MAX {
        context.create();
        context.set_omap(key_of(next), input.key.to_bytes());
        keys.push(input.key);
    }
    Ok(keys)
}

fn wanted_at() -> Bytes {
    key_in(b'w', b"")
}

pub(super) fn wanted_key(context: &mut dyn ClassContext, _: WantKey) -> Result<u32, ClassError> {
    Ok(stored_at(context, &wanted_at())?.unwrap_or(0))
}

pub(super) fn want_key(context: &mut dyn ClassContext, _: WantKey) -> Result<u32, ClassError> {
    let keys = all(context)?;
    if keys.len() >= KEYS_MAX {
        return Err(ClassError::Invalid("the cluster has all the keys that it can have".into()));
    }
    let next = keys.last().map_or(1, |last| last.version.saturating_add(1));
    context.create();
    context.set_omap(wanted_at(), next.to_bytes());
    Ok(next)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::class::memory::MemoryObject;

    #[test]
    fn a_key_that_is_wanted_is_the_next() {
        let mut object = MemoryObject::default();
        assert_eq!(wanted_key(&mut object, Nothing {}), Ok(0));
        for _ in 0..2 {
            assert_eq!(want_key(&mut object, Nothing {}), Ok(1));
            assert_eq!(wanted_key(&mut object, Nothing {}), Ok(1));
        }
        let key = SealedKey { version: 1, created_ms: 1, sealed: "x".into() };
        add_key(&mut object, AddKey { key }).unwrap();
        assert_eq!(keys(&mut object, Nothing {}).unwrap().len(), 1);
        assert_eq!(want_key(&mut object, Nothing {}), Ok(2));
    }

    #[test]
    fn one_of_two_who_add_at_a_time_wins() {
        let mut object = MemoryObject::default();
        let key = |version: u32, sealed: &'static str| SealedKey {
            version,
            created_ms: 1,
            sealed: sealed.into(),
        };
        let mut add = |key: SealedKey| add_key(&mut object, AddKey { key }).unwrap();
        assert_eq!(add(key(2, "x")), []);
        assert_eq!(add(key(1, "a")), [key(1, "a")]);
        assert_eq!(add(key(1, "b")), [key(1, "a")]);
        assert_eq!(add(key(2, "c")), [key(1, "a"), key(2, "c")]);
        assert_eq!(keys(&mut object, Nothing {}).unwrap().len(), 2);
        let mut add = |key: SealedKey| add_key(&mut object, AddKey { key }).unwrap();
        for version in 3..=KEYS_MAX as u32 + 5 {
            add(key(version, "d"));
        }
        assert_eq!(keys(&mut object, Nothing {}).unwrap().len(), KEYS_MAX);
    }
}
