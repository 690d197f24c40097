//! Entries: init, seal, put, read, remove, and the counts that go with them.

use super::garbage::{discard, take_intent};
use super::*;

pub(super) fn head(context: &mut dyn ClassContext) -> Result<Option<ShardHead>, ClassError> {
    context.xattr(SHARD_XATTR)?.map(stored).transpose()
}

/// The head of a shard that takes writes.
pub(super) fn open_head(context: &mut dyn ClassContext) -> Result<Done<ShardHead>, ClassError> {
    Ok(head(context)?.filter(|head| !head.sealed).ok_or(Refusal::NoBucket {}))
}

pub(super) fn store_head(context: &mut dyn ClassContext, head: &ShardHead) {
    context.set_xattr(SHARD_XATTR, head.to_bytes());
}

/// Returns a refusal from a method.
macro_rules! allowed {
    ($done:expr) => {
        match $done {
            Ok(value) => value,
            Err(refusal) => return Ok(Answer(Err(refusal))),
        }
    };
}
pub(super) use allowed;

pub(super) fn init(
    context: &mut dyn ClassContext,
    input: Init,
) -> Result<Answer<Nothing>, ClassError> {
    match head(context)? {
        Some(head) if head.bucket != input.bucket || head.sealed => {
            return Ok(Answer(Err(Refusal::NoBucket {})));
        }
        Some(_) => {}
        None => {
            context.create();
            store_head(context, &ShardHead { bucket: input.bucket, ..ShardHead::default() });
        }
    }
    Ok(Answer(Ok(Nothing {})))
}

/// Closes an empty shard for good, or until `unseal`. `NotEmpty` if it has objects.
pub(super) fn seal(
    context: &mut dyn ClassContext,
    _: Nothing,
) -> Result<Answer<Nothing>, ClassError> {
    let mut head = allowed!(head(context)?.ok_or(Refusal::NoBucket {}));
    if !context.omap_range(&key_in(b'e', b""), &space_end(b'e'), 1)?.is_empty() {
        return Ok(Answer(Err(Refusal::NotEmpty {})));
    }
    head.sealed = true;
    store_head(context, &head);
    Ok(Answer(Ok(Nothing {})))
}

/// Takes `seal` back, because another shard of the bucket was not empty.
pub(super) fn unseal(
    context: &mut dyn ClassContext,
    _: Nothing,
) -> Result<Answer<Nothing>, ClassError> {
    let mut head = allowed!(head(context)?.ok_or(Refusal::NoBucket {}));
    head.sealed = false;
    store_head(context, &head);
    Ok(Answer(Ok(Nothing {})))
}

pub(super) fn stats(
    context: &mut dyn ClassContext,
    _: Nothing,
) -> Result<Answer<ShardHead>, ClassError> {
    Ok(Answer(head(context)?.ok_or(Refusal::NoBucket {})))
}

pub(super) fn read(
    context: &mut dyn ClassContext,
    input: Read,
) -> Result<Answer<Option<Found>>, ClassError> {
    allowed!(head(context)?.filter(|head| !head.sealed).ok_or(Refusal::NoBucket {}));
    let Some(entry) = stored_at::<Entry>(context, &key_in(b'e', &input.key))? else {
        return Ok(Answer(Ok(None)));
    };
    let mut detail = detail(context, &input.key)?;
    match &mut detail.body {
        Body::Inline { data } if !input.body => data.clear(),
        Body::Striped { manifest } if manifest.apart => {
            *manifest = manifest_apart(context, &manifest.id)?;
        }
        _ => {}
    }
    Ok(Answer(Ok(Some(Found { entry, detail }))))
}

fn detail(context: &mut dyn ClassContext, key: &[u8]) -> Result<Detail, ClassError> {
    stored_at(context, &key_in(b'd', key))?
        .ok_or_else(|| ClassError::Damaged("an entry has no detail".into()))
}

/// The omap key of a manifest that is kept apart.
pub(super) fn manifest_key(id: &WriteId) -> Bytes {
    key_in(b'm', &id.0)
}

/// A manifest that is kept apart.
pub(super) fn manifest_apart(
    context: &mut dyn ClassContext,
    id: &WriteId,
) -> Result<Manifest, ClassError> {
    stored_at(context, &manifest_key(id))?
        .ok_or_else(|| ClassError::Damaged("an object's manifest is not there".into()))
}

pub(super) fn put(
    context: &mut dyn ClassContext,
    input: Put,
) -> Result<Answer<Option<Entry>>, ClassError> {
    let mut head = allowed!(open_head(context)?);
    let present = stored_at::<Entry>(context, &key_in(b'e', &input.key))?;
    allowed!(input.condition.check(present.as_ref()));
    if let Some(data) = &input.intent {
        allowed!(take_intent(context, data)?);
    }
    let data = Replacement {
        key: &input.key,
        entry: &input.entry,
        detail: input.detail,
        now_ms: input.now_ms,
    };
    replace(context, &mut head, present.as_ref(), data)?;
    store_head(context, &head);
    Ok(Answer(Ok(present)))
}

pub(super) struct Replacement<'a> {
    pub key: &'a [u8],
    pub entry: &'a Entry,
    pub detail: Bytes,
    pub now_ms: u64,
}

/// Puts an entry in the place of the present one, whose data becomes garbage.
pub(super) fn replace(
    context: &mut dyn ClassContext,
    head: &mut ShardHead,
    present: Option<&Entry>,
    new: Replacement<'_>,
) -> Result<(), ClassError> {
    if let Some(present) = present {
        release(context, head, new.key, present, new.now_ms)?;
    }
    head.objects += 1;
    head.bytes = head.bytes.saturating_add(new.entry.size);
    context.set_omap(key_in(b'e', new.key), new.entry.to_bytes());
    context.set_omap(key_in(b'd', new.key), new.detail);
    Ok(())
}

/// Takes an entry out of the counts and its data to the garbage.
fn release(
    context: &mut dyn ClassContext,
    head: &mut ShardHead,
    key: &[u8],
    present: &Entry,
    now_ms: u64,
) -> Result<(), ClassError> {
    head.objects = head.objects.saturating_sub(1);
    head.bytes = head.bytes.saturating_sub(present.size);
    if !present.striped {
        return Ok(());
    }
    if let Body::Striped { manifest } = detail(context, key)?.body {
        let name = manifest
            .refs()
            .next()
            .unwrap_or_else(|| DataRef { id: manifest.id, ..DataRef::default() });
        let discarded = match manifest.apart {
            true => Discarded::Manifest { id: manifest.id },
            false => Discarded::Runs { runs: Manifest { checksums: Bytes::new(), ..manifest } },
        };
        discard(context, now_ms, &name, &discarded);
    }
    Ok(())
}

/// Most objects that one `remove` lets go.
const REMOVED_ITEMS_MAX: usize = 100;

pub(super) fn remove(
    context: &mut dyn ClassContext,
    input: Remove,
) -> Result<Answer<Vec<Answer<Option<Entry>>>>, ClassError> {
    let mut head = allowed!(open_head(context)?);
    let mut outcomes = Vec::with_capacity(input.items.len());
    let mut changed = false;
    for (key, condition) in input.items.iter().take(REMOVED_ITEMS_MAX) {
        let present = stored_at::<Entry>(context, &key_in(b'e', key))?;
        if let Err(refusal) = condition.check(present.as_ref()) {
            outcomes.push(Answer(Err(refusal)));
            continue;
        }
        if let Some(entry) = &present {
            release(context, &mut head, key, entry, input.now_ms)?;
            context.remove_omap(&key_in(b'e', key));
            context.remove_omap(&key_in(b'd', key));
            changed = true;
        }
        outcomes.push(Answer(Ok(present)));
    }
    if changed {
        store_head(context, &head);
    }
    Ok(Answer(Ok(outcomes)))
}
