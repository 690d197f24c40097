//! The names of buckets.
//!
//! Making a bucket: `create` takes the name (not ready), the shards are made, `ready` opens it. A crash
//! between leaves a bucket that is not ready; its owner's next try, or the sweeper, goes on with it.
//! Removing one: `condemn` marks it, every shard is sealed, `remove` frees the name and keeps the record
//! under `x/` until the shards are cleared, `forget` ends it. A removal that stops half-way is taken back by
//! whoever needs the bucket: `reprieve`, which makes a late `remove` fail, and only then the shards are
//! unsealed.

use super::index::allowed;
use super::*;

fn owner_key(owner: &str, name: &str) -> Bytes {
    key_in(b'o', &[owner.as_bytes(), &[0], name.as_bytes()].concat())
}

fn record_of(
    context: &mut dyn ClassContext,
    name: &str,
) -> Result<Option<BucketRecord>, ClassError> {
    stored_at(context, &key_in(b'b', name.as_bytes()))
}

pub(super) fn create(
    context: &mut dyn ClassContext,
    input: CreateBucket,
) -> Result<Created, ClassError> {
    let record = input.record;
    if let Some(record) = record_of(context, &record.name)? {
        return Ok(Created::Present { record });
    }
    context.create();
    let owner = owner_key(&record.owner, &record.name);
    context.set_omap(owner, record.created_ms.to_bytes());
    context.set_omap(key_in(b'b', record.name.as_bytes()), record.to_bytes());
    Ok(Created::New {})
}

fn named(
    context: &mut dyn ClassContext,
    input: &NamedBucket,
) -> Result<Done<BucketRecord>, ClassError> {
    let record = record_of(context, &input.name)?;
    Ok(record.filter(|record| record.id == input.id).ok_or(Refusal::NoBucket {}))
}

fn change(
    context: &mut dyn ClassContext,
    input: &NamedBucket,
    apply: impl FnOnce(&mut BucketRecord),
) -> Result<Answer<Nothing>, ClassError> {
    let mut record = allowed!(named(context, input)?);
    apply(&mut record);
    context.set_omap(key_in(b'b', record.name.as_bytes()), record.to_bytes());
    Ok(Answer(Ok(Nothing {})))
}

pub(super) fn ready(
    context: &mut dyn ClassContext,
    input: NamedBucket,
) -> Result<Answer<Nothing>, ClassError> {
    change(context, &input, |record| record.ready = true)
}

pub(super) fn condemn(
    context: &mut dyn ClassContext,
    input: NamedBucket,
) -> Result<Answer<Nothing>, ClassError> {
    change(context, &input, |record| record.removing = input.removing)
}

pub(super) fn reprieve(
    context: &mut dyn ClassContext,
    input: NamedBucket,
) -> Result<Answer<Nothing>, ClassError> {
    change(context, &input, |record| record.removing = 0)
}

pub(super) fn read(
    context: &mut dyn ClassContext,
    input: ReadBucket,
) -> Result<Option<BucketRecord>, ClassError> {
    record_of(context, &input.name)
}

pub(super) fn list(
    context: &mut dyn ClassContext,
    input: ListBuckets,
) -> Result<BucketPage, ClassError> {
    let base = match &input.owner {
        Some(owner) => owner_key(owner, ""),
        None => key_in(b'b', b""),
    };
    let prefix = [&base[..], input.prefix.as_bytes()].concat();
    // A prefix of a space ends with a byte below 0xff: there is always a bound.
    let until = after_prefix(&prefix).unwrap_or_else(|| vec![0xff]);
    let mut from = prefix;
    if !input.after.is_empty() {
        from = from.max([&base[..], input.after.as_bytes(), &[0]].concat());
    }
    let max = (input.max as usize).min(BATCH);
    let mut pairs = context.omap_range(&from, &until, max + 1)?;
    let more = pairs.len() > max;
    pairs.truncate(max);
    let mut buckets = Vec::with_capacity(pairs.len());
    for (key, value) in pairs {
        if input.owner.is_none() {
            buckets.push(stored(value)?);
            continue;
        }
        let key = key_in(b'b', &key[base.len()..]);
        buckets.push(
            stored_at(context, &key)?
                .ok_or_else(|| ClassError::Damaged("an owner's bucket has no record".into()))?,
        );
    }
    Ok(BucketPage { buckets, more })
}

pub(super) fn remove(
    context: &mut dyn ClassContext,
    input: NamedBucket,
) -> Result<Answer<Nothing>, ClassError> {
    let record = allowed!(named(context, &input)?);
    if record.removing != input.removing {
        return Ok(Answer(Err(Refusal::NoBucket {})));
    }
    context.remove_omap(&key_in(b'b', record.name.as_bytes()));
    context.remove_omap(&owner_key(&record.owner, &record.name));
    context.set_omap(key_in(b'x', &record.id.0), record.to_bytes());
    Ok(Answer(Ok(Nothing {})))
}

pub(super) fn doomed(
    context: &mut dyn ClassContext,
    input: Doomed,
) -> Result<BucketPage, ClassError> {
    let max = (input.max as usize).min(BATCH);
    let mut pairs = context.omap_range(&key_in(b'x', b""), &space_end(b'x'), max + 1)?;
    let more = pairs.len() > max;
    pairs.truncate(max);
    let buckets = pairs.into_iter().map(|(_, value)| stored(value)).collect::<Result<_, _>>()?;
    Ok(BucketPage { buckets, more })
}

pub(super) fn forget(context: &mut dyn ClassContext, input: Forget) -> Result<Nothing, ClassError> {
    context.remove_omap(&key_in(b'x', &input.id.0));
    Ok(Nothing {})
}
