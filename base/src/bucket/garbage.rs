//! Data without an object: intents before the commit, garbage behind it. The sweeper of the gateway
//! removes the data first and the record then, so a crash repeats work and loses nothing.

use super::index::{allowed, head, head_for, manifest_apart, manifest_key};
use super::*;

/// Most runs of data in one reply; at least one record is in it, whatever it stands for.
const REFS_PER_REPLY: usize = 4000;

/// Records that `expire` looks at in one transaction.
const EXPIRE_BATCH: usize = 1000;

/// Most records of garbage of one reply.
const GARBAGE_RECORDS_MAX: usize = 64;

/// Makes garbage of what `discarded` stands for. `name` is a run of it, or what is as unique: nothing
/// becomes garbage twice.
pub(super) fn discard(
    context: &mut dyn ClassContext,
    now_ms: u64,
    name: &DataRef,
    discarded: &Discarded,
) {
    let key = [&now_ms.to_be_bytes()[..], &name.key()].concat();
    context.set_omap(key_in(b'g', &key), discarded.to_bytes());
}

/// Makes garbage of runs of data: one record for each write that they belong to.
pub(super) fn discard_runs(context: &mut dyn ClassContext, now_ms: u64, refs: &[DataRef]) {
    for runs in refs.chunk_by(|a, b| (a.id, a.stripe_bytes) == (b.id, b.stripe_bytes)) {
        let part =
            |run: &DataRef| ManifestPart { number: run.part, attempt: run.attempt, size: run.size };
        let manifest = Manifest {
            id: runs[0].id,
            stripe_bytes: runs[0].stripe_bytes,
            parts: runs.iter().map(part).collect(),
            ..Manifest::default()
        };
        discard(context, now_ms, &runs[0], &Discarded::Runs { runs: manifest });
    }
}

/// Removes the intent of data that is committed. Refused if it is gone.
pub(super) fn take_intent(
    context: &mut dyn ClassContext,
    data: &DataRef,
) -> Result<Done<()>, ClassError> {
    let key = key_in(b'i', &data.key());
    if context.omap_value(&key)?.is_none() {
        return Ok(Err(Refusal::NoIntent {}));
    }
    context.remove_omap(&key);
    Ok(Ok(()))
}

pub(super) fn intend(
    context: &mut dyn ClassContext,
    input: Intend,
) -> Result<Answer<Nothing>, ClassError> {
    allowed!(head_for(context, &input.key)?);
    if let Some(id) = &input.upload
        && context.omap_value(&multipart::upload_key(&input.key, id))?.is_none()
    {
        return Ok(Answer(Err(Refusal::NoUpload {})));
    }
    let key = key_in(b'i', &input.data.key());
    if input.renew && context.omap_value(&key)?.is_none() {
        return Ok(Answer(Err(Refusal::NoIntent {})));
    }
    let intent = Intent { data: input.data, alive_ms: input.now_ms, key: input.key };
    context.set_omap(key, intent.to_bytes());
    Ok(Answer(Ok(Nothing {})))
}

pub(super) fn cancel(context: &mut dyn ClassContext, input: Cancel) -> Result<Nothing, ClassError> {
    // What is on its way to another shard is left alone; it is given up there in time.
    if let Some(head) = head(context)?
        && let Some(intent) = stored_at::<Intent>(context, &key_in(b'i', &input.data.key()))?
        && head.check_key(&intent.key).is_err()
    {
        return Ok(Nothing {});
    }
    // Without its intent the data is committed or garbage already.
    if take_intent(context, &input.data)?.is_ok() {
        discard_runs(context, input.now_ms, &[input.data]);
    }
    Ok(Nothing {})
}

pub(super) fn expire(context: &mut dyn ClassContext, input: Expire) -> Result<Expired, ClassError> {
    let Some(head) = head(context)? else { return Ok(Expired::default()) };
    if head.sealed != input.everything {
        return Ok(Expired::default());
    }
    let start = key_in(b'i', b"");
    let from = match input.after.is_empty() {
        true => start,
        false => Bytes::from([&input.after[..], &[0]].concat()),
    };
    // Of a removed bucket parts and uploads go as well; they sort behind the intents.
    let until = space_end(if input.everything { b'u' } else { b'i' });
    let pairs = context.omap_range(&from, &until, EXPIRE_BATCH)?;
    let next = (pairs.len() == EXPIRE_BATCH).then(|| pairs[EXPIRE_BATCH - 1].0.clone());
    let mut refs = Vec::new();
    for (key, value) in pairs {
        match key[0] {
            b'i' => {
                let intent: Intent = stored(value)?;
                let elsewhere = head.check_key(&intent.key).is_err();
                if !input.everything && (elsewhere || intent.alive_ms >= input.before_ms) {
                    continue;
                }
                refs.push(intent.data);
            }
            b'p' => refs.push(stored::<Part>(value)?.data),
            // A garbage record stands for these.
            b'm' => continue,
            _ => {}
        }
        context.remove_omap(&key);
    }
    discard_runs(context, input.now_ms, &refs);
    Ok(Expired { count: u32::try_from(refs.len()).unwrap_or(u32::MAX), next })
}

pub(super) fn garbage(
    context: &mut dyn ClassContext,
    input: Garbage,
) -> Result<Vec<(Bytes, Vec<DataRef>)>, ClassError> {
    let start = key_in(b'g', b"");
    let from = match input.after.is_empty() {
        true => start,
        false => Bytes::from([&input.after[..], &[0]].concat()).max(start),
    };
    let until = key_in(b'g', &input.before_ms.to_be_bytes());
    let max = (input.max as usize).min(GARBAGE_RECORDS_MAX);
    let mut found = Vec::new();
    let mut refs = 0;
    for (key, value) in context.omap_range(&from, &until, max)? {
        let runs = match stored(value)? {
            Discarded::Runs { runs } => runs.refs().collect(),
            Discarded::Manifest { id } => manifest_apart(context, &id)?.refs().collect(),
            Discarded::Parts { id } => multipart::all_parts(context, &id)?,
        };
        if !found.is_empty() && refs + runs.len() > REFS_PER_REPLY {
            break;
        }
        refs += runs.len();
        found.push((key, runs));
    }
    Ok(found)
}

pub(super) fn swept(context: &mut dyn ClassContext, input: Swept) -> Result<Nothing, ClassError> {
    for key in &input.records {
        if !key.starts_with(b"g/") {
            return Err(ClassError::Invalid("not the key of a garbage record".into()));
        }
        match stored_at(context, key)? {
            Some(Discarded::Manifest { id }) => context.remove_omap(&manifest_key(&id)),
            Some(Discarded::Parts { id }) => {
                let (from, until) = multipart::part_range(&id);
                context.remove_omap_range(&from, &until);
            }
            Some(Discarded::Runs { .. }) | None => {}
        }
        context.remove_omap(key);
    }
    Ok(Nothing {})
}
