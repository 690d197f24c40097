//! Object lock, tags and descriptions: what changes of a version after it was made. The checks are made here, where the
//! version is, by the daemon's clock: no gateway can pass them over.

use super::index::{allowed, head_for};
use super::versions::{Located, detail, detail_key, find, store_located};
use super::*;

/// The clock that retentions are held against, in ms since 1970. Without a clock nothing that is locked
/// ever becomes free.
pub(super) fn lock_clock(context: &dyn ClassContext) -> u64 {
    context.now().millis()
}

/// Gives a new version the bucket's retention if it has none of its own. Refused where the version wants
/// a lock and the bucket has none.
pub(super) fn locked_as_set(
    context: &dyn ClassContext,
    settings: &ObjectSettings,
    entry: &mut Entry,
) -> Done<()> {
    if !settings.lock {
        return match entry.lock.is_none() {
            true => Ok(()),
            false => Err(Refusal::NoLock {}),
        };
    }
    if entry.lock.retention.is_none() {
        let now_ms = lock_clock(context);
        entry.lock.retention = settings.retention.map(|retention| retention.from_now(now_ms));
    }
    Ok(())
}

/// The version that a change is about.
fn changeable(
    context: &mut dyn ClassContext,
    head: &ShardHead,
    key: &[u8],
    version: Option<Version>,
) -> Result<Done<Located>, ClassError> {
    let Some(located) = find(context, head, key, version)? else {
        return Ok(Err(match version {
            None => Refusal::NoKey {},
            Some(_) => Refusal::NoVersion {},
        }));
    };
    Ok(match located.entry.delete_marker {
        true => Err(Refusal::DeleteMarker { entry: Box::new(located.entry) }),
        false => Ok(located),
    })
}

pub(super) fn lock(
    context: &mut dyn ClassContext,
    input: SetLock,
) -> Result<Answer<Entry>, ClassError> {
    let head = allowed!(head_for(context, &input.key)?);
    if !head.settings.lock {
        return Ok(Answer(Err(Refusal::NoLock {})));
    }
    let mut located = allowed!(changeable(context, &head, &input.key, input.version)?);
    let lock = &mut located.entry.lock;
    match input.change {
        LockChange::Hold { on } => lock.hold = Some(on),
        LockChange::Retention { retention } => {
            let now_ms = lock_clock(context);
            if !may_change(lock, retention, now_ms, input.bypass) {
                return Ok(Answer(Err(Refusal::Locked {})));
            }
            lock.retention = retention;
        }
    }
    store_located(context, &input.key, &located);
    Ok(Answer(Ok(located.entry)))
}

/// A retention that is in force may be prolonged by everybody; all else is a matter of the mode.
pub(super) fn may_change(
    lock: &ObjectLock,
    to: Option<Retention>,
    now_ms: u64,
    bypass: bool,
) -> bool {
    let Some(present) = lock.retention_at(now_ms) else { return true };
    let prolonged = to.is_some_and(|to| to.mode == present.mode && to.until_ms >= present.until_ms);
    match present.mode {
        LockMode::Governance => prolonged || bypass,
        LockMode::Compliance => prolonged,
    }
}

pub(super) fn tag(
    context: &mut dyn ClassContext,
    input: SetTags,
) -> Result<Answer<Entry>, ClassError> {
    let head = allowed!(head_for(context, &input.key)?);
    let located = allowed!(changeable(context, &head, &input.key, input.version)?);
    let entry = located.entry;
    let changed = Detail { tags: input.tags, ..detail(context, &input.key, &entry)? };
    context.set_omap(detail_key(&input.key, entry.sequence), changed.to_bytes());
    Ok(Answer(Ok(entry)))
}

pub(super) fn describe(
    context: &mut dyn ClassContext,
    input: Describe,
) -> Result<Answer<Entry>, ClassError> {
    let head = allowed!(head_for(context, &input.key)?);
    let mut located = allowed!(changeable(context, &head, &input.key, None)?);
    // What is locked stays what it is, its description included.
    if located.entry.lock.protects(lock_clock(context), false) {
        return Ok(Answer(Err(Refusal::Locked {})));
    }
    let mut changed = detail(context, &input.key, &located.entry)?;
    let mut headers = input.headers;
    for name in input.keep {
        if let (Some(value), false) = (changed.headers.get(&name), headers.contains_key(&name)) {
            headers.insert(name, value.clone());
        }
    }
    located.entry.content_type = headers.get("content-type").cloned().unwrap_or_default();
    (changed.headers, changed.metadata) = (headers, input.metadata);
    located.entry.modified_ms = input.now_ms;
    // `changeable` found the newest version, and that is no delete marker: it is under `e/`.
    chores::forget_expiry(context, &input.key, &located.entry);
    located.entry.expires_ms = expiry_of(&changed.headers);
    chores::note_expiry(context, &input.key, &located.entry);
    context.set_omap(detail_key(&input.key, located.entry.sequence), changed.to_bytes());
    store_located(context, &input.key, &located);
    Ok(Answer(Ok(located.entry)))
}
