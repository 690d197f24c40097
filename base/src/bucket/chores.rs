//! What workers of the gateways do to a shard: removing what is due, found by rules or by its own expiry, and
//! sharing that work.
//!
//! A version is judged outside, from what was read a moment ago. It goes only if it is still, byte for byte, the
//! entry that was judged: an object that was overwritten meanwhile stays, and so does one that was locked.
//!
//! Work at a shard is one worker's for the time of his lease. That spares work and is no matter of safety:
//! whatever two workers do at once is harmless, because each step is conditional.

use super::index::{
    REMOVED_ITEMS_MAX, allowed, change_bytes, head, open_head, remove_object, remove_version,
    store_head,
};
use super::locks::lock_clock;
use super::versions::{current, detail, find, newest_kept, version_range};
use super::*;

/// Most objects in one reply of `due`.
const DUE_MAX: usize = 500;

/// Works that do not walk keys, and go on while keys move: delivering events, and splitting itself.
pub(super) const RESTLESS: [&str; 2] = [EVENTS_WORK, SPLIT_WORK];

/// Works without rounds: there is always something to look for.
const ENDLESS: [&str; 2] = [EVENTS_WORK, EXPIRY_WORK];

/// How far the clock of a worker may be ahead. What he judges by one that is further ahead is not removed.
const AHEAD_MAX_MS: u64 = 300_000;

/// For how long a round that is done keeps lower ones from being made.
const ROUND_REST_MS: u64 = 48 * 3_600_000;

/// Longest name of a work.
const NAME_BYTES_MAX: usize = 64;

pub(super) fn expiry_key(key: &[u8], expires_ms: u64) -> Bytes {
    key_in(b'x', &[&expires_ms.to_be_bytes()[..], key].concat())
}

/// An entry became the object of its key.
pub(super) fn note_expiry(context: &mut dyn ClassContext, key: &[u8], entry: &Entry) {
    if entry.expires_ms > 0 {
        context.set_omap(expiry_key(key, entry.expires_ms), Bytes::new());
    }
}

/// An entry is not the object of its key any more.
pub(super) fn forget_expiry(context: &mut dyn ClassContext, key: &[u8], entry: &Entry) {
    if entry.expires_ms > 0 {
        context.remove_omap(&expiry_key(key, entry.expires_ms));
    }
}

pub(super) fn due(
    context: &mut dyn ClassContext,
    input: Due,
) -> Result<Answer<DuePage>, ClassError> {
    let head = allowed!(open_head(context)?);
    let start = key_in(b'x', b"");
    let from = match input.after.is_empty() {
        true => start,
        false => Bytes::from([&input.after[..], &[0]].concat()),
    };
    let before_ms = input.before_ms.min(lock_clock(context));
    let until = key_in(b'x', &before_ms.to_be_bytes());
    let max = (input.max as usize).clamp(1, DUE_MAX);
    let pairs = context.omap_range(&from, &until, max)?;
    let next = (pairs.len() == max).then(|| pairs[max - 1].0.clone());
    let mut page = DuePage { items: Vec::with_capacity(pairs.len()), next };
    let (mut reply, mut looked_at) = (Reply::default(), None);
    for (whole, _) in pairs {
        let damaged = || ClassError::Damaged("the key of an expiry".into());
        let key = whole.get(10..).map(|_| whole.slice(10..)).ok_or_else(damaged)?;
        if head.shows(&key) {
            let value = context.omap_value(&key_in(b'e', &key))?;
            let value =
                value.ok_or_else(|| ClassError::Damaged("what expires is not there".into()))?;
            if !reply.takes(key.len() + value.len()) {
                page.next = looked_at;
                break;
            }
            page.items.push((key, stored(value)?));
        }
        looked_at = Some(whole);
    }
    Ok(Answer(Ok(page)))
}

pub(super) fn retire(
    context: &mut dyn ClassContext,
    input: Retire,
) -> Result<Answer<Retired>, ClassError> {
    let mut head = allowed!(open_head(context)?);
    let mut changed = head.adopt(&input.settings);
    let items = input.items.into_iter().take(REMOVED_ITEMS_MAX);
    let remove = Remove { now_ms: input.now_ms, owner: input.owner, ..Remove::default() };
    let too_early = input.now_ms > lock_clock(context).saturating_add(AHEAD_MAX_MS);
    let (mut outcomes, mut reply) = (Vec::new(), Reply::default());
    for item in items {
        let notes = item.notes.clone();
        let outcome = Answer(match too_early {
            true => Err(Refusal::Precondition {}),
            false => retire_one(context, &mut head, &remove, item)?,
        });
        changed |= outcome.0.is_ok();
        let goes_on = reply.goes_on_after(change_bytes(&outcome, notes.as_ref()));
        outcomes.push(outcome);
        if !goes_on {
            break;
        }
    }
    if changed {
        store_head(context, &head);
    }
    Ok(Answer(Ok(outcomes)))
}

fn retire_one(
    context: &mut dyn ClassContext,
    head: &mut ShardHead,
    remove: &Remove,
    item: RetireItem,
) -> Result<Done<Removed>, ClassError> {
    if let Err(refusal) = head.check_key(&item.key) {
        return Ok(Err(refusal));
    }
    let version = item.seen.version();
    let found = find(context, head, &item.key, Some(version))?;
    let Some(found) = found.filter(|found| found.entry == item.seen) else {
        return Ok(Err(Refusal::Precondition {}));
    };
    let as_judged = match item.how {
        Retirement::Object {} => found.current,
        Retirement::Older {} => !found.current && !is_newest(context, &item)?,
        Retirement::Marker {} => found.entry.delete_marker && is_alone(context, &item.key)?,
    };
    let tagged_so = match &item.tags {
        None => true,
        Some(tags) => detail(context, &item.key, &found.entry)?.tags == *tags,
    };
    if !as_judged || !tagged_so {
        return Ok(Err(Refusal::Precondition {}));
    }
    let plain = RemoveItem { key: item.key, notes: item.notes, ..RemoveItem::default() };
    match item.how {
        Retirement::Object {} => remove_object(context, head, remove, &plain),
        Retirement::Older {} | Retirement::Marker {} => {
            remove_version(context, head, remove, &plain, version)
        }
    }
}

/// Whether a version under `v/` is the newest of its key: a delete marker that hides the object.
fn is_newest(context: &mut dyn ClassContext, item: &RetireItem) -> Result<bool, ClassError> {
    let newest = match current(context, &item.key)? {
        Some(_) => return Ok(false),
        None => newest_kept(context, &item.key)?,
    };
    Ok(newest.as_ref() == Some(&item.seen))
}

/// Whether a key has one version.
fn is_alone(context: &mut dyn ClassContext, key: &[u8]) -> Result<bool, ClassError> {
    let (from, until) = version_range(key, None);
    let kept = context.omap_range(&from, &until, 2)?.len();
    Ok(kept + usize::from(current(context, key)?.is_some()) == 1)
}

fn chore_key(name: &str) -> Result<Bytes, ClassError> {
    match name.len() <= NAME_BYTES_MAX {
        true => Ok(key_in(b'j', name.as_bytes())),
        false => Err(ClassError::Invalid("the name of a work is too long".into())),
    }
}

/// Whether a work rests because keys move: the place that it reached would mean nothing.
fn rests(head: &ShardHead, name: &str) -> bool {
    head.lineage.as_ref().is_some_and(Lineage::is_moving) && !RESTLESS.contains(&name)
}

pub(super) fn claim(
    context: &mut dyn ClassContext,
    input: Claim,
) -> Result<Answer<Option<Chore>>, ClassError> {
    let head = allowed!(open_head(context)?);
    if rests(&head, &input.name) {
        return Ok(Answer(Ok(None)));
    }
    let key = chore_key(&input.name)?;
    let now_ms = lock_clock(context);
    let mut chore: Chore = stored_at(context, &key)?.unwrap_or_default();
    if chore.until_ms > now_ms && chore.holder != input.holder {
        return Ok(Answer(Ok(None)));
    }
    let same_plan = chore.plan == input.plan && chore.began_ms > 0;
    let ahead = chore.round > input.round && now_ms < chore.began_ms.saturating_add(ROUND_REST_MS);
    let made = chore.done && (chore.round == input.round || ahead);
    if same_plan && made && !ENDLESS.contains(&&input.name[..]) {
        return Ok(Answer(Ok(None)));
    }
    // A round that was left half-way is gone on with, unless the rules are others.
    if !same_plan || chore.done {
        let (round, plan) = (input.round, input.plan);
        chore = Chore { round, plan, began_ms: now_ms, ..Chore::default() };
    }
    chore.holder = input.holder;
    chore.until_ms = now_ms.saturating_add(input.lease_ms);
    chore.heard_ms = now_ms;
    context.set_omap(key, chore.to_bytes());
    Ok(Answer(Ok(Some(chore))))
}

pub(super) fn report(
    context: &mut dyn ClassContext,
    input: Report,
) -> Result<Answer<bool>, ClassError> {
    let head = allowed!(open_head(context)?);
    if rests(&head, &input.name) {
        return Ok(Answer(Ok(false)));
    }
    let key = chore_key(&input.name)?;
    let Some(mut chore) = stored_at::<Chore>(context, &key)? else { return Ok(Answer(Ok(false))) };
    if chore.holder != input.holder || chore.done {
        return Ok(Answer(Ok(false)));
    }
    let now_ms = lock_clock(context);
    chore.until_ms = if input.done { 0 } else { now_ms.saturating_add(input.lease_ms) };
    (chore.place, chore.done, chore.heard_ms) = (input.place, input.done, now_ms);
    chore.looked = chore.looked.saturating_add(input.looked);
    chore.acted = chore.acted.saturating_add(input.acted);
    chore.passed = chore.passed.saturating_add(input.passed);
    context.set_omap(key, chore.to_bytes());
    Ok(Answer(Ok(true)))
}

pub(super) fn chore(
    context: &mut dyn ClassContext,
    input: ReadChore,
) -> Result<Answer<Option<Chore>>, ClassError> {
    allowed!(head(context)?.ok_or(Refusal::NoBucket {}));
    Ok(Answer(Ok(stored_at(context, &chore_key(&input.name)?)?)))
}
