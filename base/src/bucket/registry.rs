//! The names of buckets.
//!
//! Making a bucket: `create` takes the name (not ready), the shards are made, `ready` opens it. A crash
//! between leaves a bucket that is not ready; its owner's next try, or the sweeper, goes on with it.
//! Removing one: `condemn` marks it, every shard is sealed, `remove` frees the name and keeps the record
//! under `x/` until the shards are cleared, `forget` ends it. A removal that stops half-way is taken back by
//! whoever needs the bucket: `reprieve`, which makes a late `remove` fail, and only then the shards are
//! unsealed. Removals are numbered, and a shard knows which one sealed it: neither does the end of one take the
//! seals of the next away, nor does one that is over seal anything.
//!
//! Documents (policy, ACL, CORS, …) are opaque here. A change may name what other documents must be, because
//! rules of S3 tie some of them together.

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
    check_settings(&record.settings)?;
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

fn store(context: &mut dyn ClassContext, record: &BucketRecord) {
    context.set_omap(key_in(b'b', record.name.as_bytes()), record.to_bytes());
}

pub(super) fn ready(
    context: &mut dyn ClassContext,
    input: NamedBucket,
) -> Result<Answer<Nothing>, ClassError> {
    let mut record = allowed!(named(context, &input)?);
    record.ready = true;
    store(context, &record);
    Ok(Answer(Ok(Nothing {})))
}

pub(super) fn condemn(
    context: &mut dyn ClassContext,
    input: NamedBucket,
) -> Result<Answer<u64>, ClassError> {
    let mut record = allowed!(named(context, &input)?);
    record.removals += 1;
    record.removing = record.removals;
    store(context, &record);
    Ok(Answer(Ok(record.removals)))
}

pub(super) fn reprieve(
    context: &mut dyn ClassContext,
    input: NamedBucket,
) -> Result<Answer<u64>, ClassError> {
    let mut record = allowed!(named(context, &input)?);
    if input.removing != 0 && record.removing != input.removing {
        return Ok(Answer(Err(Refusal::TakenBack {})));
    }
    if record.removing != 0 {
        record.removing = 0;
        store(context, &record);
    }
    Ok(Answer(Ok(record.removals)))
}

pub(super) fn configure(
    context: &mut dyn ClassContext,
    input: ConfigureBucket,
) -> Result<Answer<BucketRecord>, ClassError> {
    let found = record_of(context, &input.name)?.filter(|record| record.id == input.id);
    let mut record = allowed!(found.ok_or(Refusal::NoBucket {}));
    let settings = &mut record.settings;
    match input.change {
        SettingsChange::Versioning { versioning: Versioning::Off } => {
            return Ok(Answer(Err(Refusal::BucketState {})));
        }
        SettingsChange::Versioning { versioning } => {
            if settings.lock && versioning != Versioning::Enabled {
                return Ok(Answer(Err(Refusal::BucketState {})));
            }
            settings.versioning = versioning;
        }
        SettingsChange::Lock { retention } => {
            if settings.versioning != Versioning::Enabled {
                return Ok(Answer(Err(Refusal::BucketState {})));
            }
            settings.lock = true;
            settings.retention = retention;
        }
    }
    settings.revision = next_number(settings.revision)?;
    context.set_omap(key_in(b'b', record.name.as_bytes()), record.to_bytes());
    Ok(Answer(Ok(record)))
}

fn as_expected(record: &BucketRecord, expected: &ExpectedDocuments) -> bool {
    expected.iter().all(|(name, value)| record.documents.get(name) == value.as_ref())
}

pub(super) fn set_document(
    context: &mut dyn ClassContext,
    input: SetDocument,
) -> Result<Answer<Nothing>, ClassError> {
    let bucket = NamedBucket { name: input.name, id: input.id, removing: 0 };
    let mut record = allowed!(named(context, &bucket)?);
    if !as_expected(&record, &input.expected) {
        return Ok(Answer(Err(Refusal::Precondition {})));
    }
    record.documents.insert(input.document, input.value);
    let bytes: usize = record.documents.iter().map(|(name, value)| name.len() + value.len()).sum();
    if bytes > DOCUMENTS_BYTES_MAX {
        return Err(ClassError::Invalid("the bucket's documents are too long together".into()));
    }
    context.set_omap(key_in(b'b', record.name.as_bytes()), record.to_bytes());
    Ok(Answer(Ok(Nothing {})))
}

pub(super) fn remove_document(
    context: &mut dyn ClassContext,
    input: RemoveDocument,
) -> Result<Answer<Nothing>, ClassError> {
    let bucket = NamedBucket { name: input.name, id: input.id, removing: 0 };
    let mut record = allowed!(named(context, &bucket)?);
    if !as_expected(&record, &input.expected) {
        return Ok(Answer(Err(Refusal::Precondition {})));
    }
    if record.documents.remove(&input.document).is_some() {
        context.set_omap(key_in(b'b', record.name.as_bytes()), record.to_bytes());
    }
    Ok(Answer(Ok(Nothing {})))
}

pub(super) fn account(
    context: &mut dyn ClassContext,
    input: ReadAccount,
) -> Result<Option<SwiftMetadata>, ClassError> {
    stored_at(context, &key_in(b'a', input.id.as_bytes()))
}

pub(super) fn set_account(
    context: &mut dyn ClassContext,
    input: SetAccount,
) -> Result<Answer<Nothing>, ClassError> {
    let key = key_in(b'a', input.id.as_bytes());
    let present: Option<SwiftMetadata> = stored_at(context, &key)?;
    let revision = present.map_or(0, |present| present.revision);
    if input.account.revision != revision.saturating_add(1) {
        return Ok(Answer(Err(Refusal::Precondition {})));
    }
    context.create();
    context.set_omap(key, input.account.to_bytes());
    Ok(Answer(Ok(Nothing {})))
}

pub(super) fn limits(
    context: &mut dyn ClassContext,
    input: ReadLimits,
) -> Result<Option<Limits>, ClassError> {
    stored_at(context, &key_in(b'l', input.id.as_bytes()))
}

pub(super) fn set_limits(
    context: &mut dyn ClassContext,
    input: SetLimits,
) -> Result<Nothing, ClassError> {
    let key = key_in(b'l', input.id.as_bytes());
    context.create();
    match input.limits.is_none() {
        true => context.remove_omap(&key),
        false => context.set_omap(key, input.limits.to_bytes()),
    }
    Ok(Nothing {})
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
    let mut reply = Reply::default();
    for (key, value) in pairs {
        let value = match input.owner {
            None => value,
            Some(_) => context
                .omap_value(&key_in(b'b', &key[base.len()..]))?
                .ok_or_else(|| ClassError::Damaged("an owner's bucket has no record".into()))?,
        };
        // Records with documents are long.
        if !reply.takes(value.len()) {
            return Ok(BucketPage { buckets, more: true });
        }
        buckets.push(stored(value)?);
    }
    Ok(BucketPage { buckets, more })
}

pub(super) fn remove(
    context: &mut dyn ClassContext,
    input: NamedBucket,
) -> Result<Answer<Nothing>, ClassError> {
    let mut record = allowed!(named(context, &input)?);
    if record.removing != input.removing {
        return Ok(Answer(Err(Refusal::TakenBack {})));
    }
    context.remove_omap(&key_in(b'b', record.name.as_bytes()));
    context.remove_omap(&owner_key(&record.owner, &record.name));
    // Clearing the shards needs none of them.
    record.documents.clear();
    context.set_omap(key_in(b'x', &record.id.0), record.to_bytes());
    Ok(Answer(Ok(Nothing {})))
}

pub(super) fn doomed(
    context: &mut dyn ClassContext,
    input: Doomed,
) -> Result<BucketPage, ClassError> {
    let max = (input.max as usize).min(BATCH);
    let from = match input.after {
        None => key_in(b'x', b""),
        Some(id) => key_in(b'x', &[&id.0[..], &[0]].concat()),
    };
    let mut pairs = context.omap_range(&from, &space_end(b'x'), max + 1)?;
    let more = pairs.len() > max;
    pairs.truncate(max);
    let buckets = pairs.into_iter().map(|(_, value)| stored(value)).collect::<Result<_, _>>()?;
    Ok(BucketPage { buckets, more })
}

pub(super) fn forget(context: &mut dyn ClassContext, input: Forget) -> Result<Nothing, ClassError> {
    context.remove_omap(&key_in(b'x', &input.id.0));
    Ok(Nothing {})
}

#[cfg(test)]
mod tests;
