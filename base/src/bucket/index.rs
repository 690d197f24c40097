//! Objects: init, seal, put, read, remove. Where the entries go is said in `versions`.

use super::garbage::take_intent;
use super::locks::{lock_clock, locked_as_set};
use super::versions::{
    current, detail_key, erase, find, keep, make_room, newest_kept, number, promote,
    replaced_by_next, store_current, whole_detail,
};
use super::*;

pub(super) fn head(context: &mut dyn ClassContext) -> Result<Option<ShardHead>, ClassError> {
    context.xattr(SHARD_XATTR)?.map(stored).transpose()
}

/// The head of a shard that takes writes.
pub(super) fn open_head(context: &mut dyn ClassContext) -> Result<Done<ShardHead>, ClassError> {
    Ok(head(context)?.filter(|head| !head.sealed).ok_or(Refusal::NoBucket {}))
}

/// The head of a shard that takes writes and has the key.
pub(super) fn head_for(
    context: &mut dyn ClassContext,
    key: &[u8],
) -> Result<Done<ShardHead>, ClassError> {
    let head = open_head(context)?;
    Ok(head.and_then(|head| head.check_key(key).map(|()| head)))
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
        Some(mut head) => {
            if head.adopt(&input.settings) {
                store_head(context, &head);
            }
        }
        None => {
            check_settings(&input.settings)?;
            context.create();
            let (bucket, settings) = (input.bucket, input.settings);
            store_head(context, &ShardHead { bucket, settings, ..ShardHead::default() });
        }
    }
    Ok(Answer(Ok(Nothing {})))
}

pub(super) fn configure(
    context: &mut dyn ClassContext,
    input: Configure,
) -> Result<Answer<Nothing>, ClassError> {
    let mut head = allowed!(open_head(context)?);
    if head.adopt(&input.settings) {
        store_head(context, &head);
    }
    Ok(Answer(Ok(Nothing {})))
}

/// Closes an empty shard. A removal that is over seals nothing, however late it comes.
pub(super) fn seal(
    context: &mut dyn ClassContext,
    input: Seal,
) -> Result<Answer<Nothing>, ClassError> {
    let mut head = allowed!(head(context)?.ok_or(Refusal::NoBucket {}));
    let again = head.sealed && head.removal == input.removal;
    if head.removal >= input.removal && !again {
        return Ok(Answer(Err(Refusal::TakenBack {})));
    }
    for space in [b'e', b'v'] {
        if !context.omap_range(&key_in(space, b""), &space_end(space), 1)?.is_empty() {
            return Ok(Answer(Err(Refusal::NotEmpty {})));
        }
    }
    (head.sealed, head.removal) = (true, input.removal);
    store_head(context, &head);
    Ok(Answer(Ok(Nothing {})))
}

/// Takes the seals of removals back that are over. A later removal has sealed the shard for itself: it stays closed.
pub(super) fn unseal(
    context: &mut dyn ClassContext,
    input: Seal,
) -> Result<Answer<Nothing>, ClassError> {
    let mut head = allowed!(head(context)?.ok_or(Refusal::NoBucket {}));
    if head.removal <= input.removal {
        (head.sealed, head.removal) = (false, input.removal);
        store_head(context, &head);
    }
    Ok(Answer(Ok(Nothing {})))
}

/// Removes a shard that is sealed and whose data has gone. `NotEmpty` while it names any.
pub(super) fn clear(
    context: &mut dyn ClassContext,
    _: Nothing,
) -> Result<Answer<Nothing>, ClassError> {
    let head = allowed!(head(context)?.ok_or(Refusal::NoBucket {}));
    if !head.sealed {
        return Ok(Answer(Err(Refusal::NotEmpty {})));
    }
    for space in *b"evgimpu" {
        if !context.omap_range(&key_in(space, b""), &space_end(space), 1)?.is_empty() {
            return Ok(Answer(Err(Refusal::NotEmpty {})));
        }
    }
    context.remove();
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
    let head = allowed!(head_for(context, &input.key)?);
    let Some(located) = find(context, &head, &input.key, input.version)? else {
        return Ok(Answer(Ok(None)));
    };
    let entry = located.entry;
    let mut detail = whole_detail(context, &input.key, &entry)?;
    if let (false, Body::Inline { data }) = (input.body, &mut detail.body) {
        data.clear();
    }
    let versioned = head.settings.versioning != Versioning::Off;
    Ok(Answer(Ok(Some(Found { entry, detail, versioned }))))
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
) -> Result<Answer<Committed>, ClassError> {
    check_body(&input.detail)?;
    let mut head = allowed!(head_for(context, &input.key)?);
    head.adopt(&input.settings);
    let mut new = NewVersion { key: &input.key, entry: input.entry, now_ms: input.now_ms };
    let place = allowed!(new.prepare(context, &head, &input.condition)?);
    allowed!(new.check_ceiling(&head, &place, input.ceiling.as_ref()));
    allowed!(events::check_room(&head, input.notes.as_ref()));
    // The last thing that can be refused: from here on everything is written.
    if let Some(data) = &input.intent {
        allowed!(take_intent(context, data)?);
    }
    Ok(Answer(Ok(new.commit(context, &mut head, place, input.detail, input.notes.as_ref())?)))
}

/// A body that is put names its data itself. A manifest that is kept apart is of one version, and goes with it: who
/// named that of another one could have it removed.
fn check_body(detail: &Bytes) -> Result<(), ClassError> {
    let detail = Detail::from_bytes(detail.clone());
    match detail.map_err(|e| ClassError::Invalid(e.to_string()))?.body {
        Body::Striped { manifest } if manifest.apart => {
            Err(ClassError::Invalid("a manifest that is kept apart is not put".into()))
        }
        _ => Ok(()),
    }
}

/// A version on its way to be the newest of its key.
pub(super) struct NewVersion<'a> {
    pub key: &'a [u8],
    pub entry: Entry,
    pub now_ms: u64,
}

/// What a new version finds.
pub(super) struct Place {
    present: Option<Entry>,
    replaced: Option<versions::Located>,
}

impl NewVersion<'_> {
    /// Checks all that may refuse the version, and writes nothing.
    pub(super) fn prepare(
        &mut self,
        context: &mut dyn ClassContext,
        head: &ShardHead,
        condition: &Condition,
    ) -> Result<Done<Place>, ClassError> {
        let present = current(context, self.key)?;
        if let Err(refusal) = condition.check(present.as_ref()) {
            return Ok(Err(refusal));
        }
        let replaced = replaced_by_next(context, head, self.key, present.as_ref())?;
        // Overwriting is no way around a lock, whoever asks.
        let now_ms = lock_clock(context);
        if replaced.as_ref().is_some_and(|old| old.entry.lock.protects(now_ms, false)) {
            return Ok(Err(Refusal::Locked {}));
        }
        let locked = locked_as_set(context, &head.settings, &mut self.entry);
        Ok(locked.map(|()| Place { present, replaced }))
    }

    /// Refuses what would raise the shard above what a quota leaves to it. What makes it smaller is always
    /// taken.
    pub(super) fn check_ceiling(
        &self,
        head: &ShardHead,
        place: &Place,
        ceiling: Option<&Ceiling>,
    ) -> Done<()> {
        let Some(ceiling) = ceiling else { return Ok(()) };
        let replaced = place.replaced.as_ref().map(|old| &old.entry);
        let less = (u64::from(replaced.is_some()), replaced.map_or(0, |old| old.size));
        // What a split takes away makes no room: it is held elsewhere.
        let given = head.lineage.as_ref().map_or((0, 0), |l| (l.given_objects, l.given_bytes));
        let objects = head.objects.saturating_add(head.versions).saturating_add(given.0);
        let bytes = head.bytes.saturating_add(head.version_bytes).saturating_add(given.1);
        let after_objects = objects.saturating_sub(less.0).saturating_add(1);
        let after_bytes = bytes.saturating_sub(less.1).saturating_add(self.entry.size);
        let too_many = after_objects > ceiling.objects && after_objects > objects;
        let too_large = after_bytes > ceiling.bytes && after_bytes > bytes;
        if too_many || too_large { Err(Refusal::Quota {}) } else { Ok(()) }
    }

    /// Makes it the newest, and stores the head.
    pub(super) fn commit(
        mut self,
        context: &mut dyn ClassContext,
        head: &mut ShardHead,
        place: Place,
        detail: Bytes,
        notes: Option<&Notes>,
    ) -> Result<Committed, ClassError> {
        let Place { present, replaced } = place;
        make_room(context, head, self.key, present.as_ref(), replaced.as_ref(), self.now_ms)?;
        self.entry.delete_marker = false;
        number(head, &mut self.entry)?;
        store_current(context, head, self.key, &self.entry);
        context.set_omap(detail_key(self.key, self.entry.sequence), detail);
        events::record(context, head, notes, self.key, &self.entry, false)?;
        store_head(context, head);
        Ok(Committed { entry: self.entry, replaced: replaced.map(|old| old.entry) })
    }
}

/// Most objects that one `remove` lets go.
pub(super) const REMOVED_ITEMS_MAX: usize = 100;

/// Bytes of what became of an item, with those of its events: what one call changes is bounded as what it answers.
pub(super) fn change_bytes(outcome: &Answer<Removed>, notes: Option<&Notes>) -> usize {
    let events = notes.map_or(0, |notes| notes.notices.len());
    outcome.to_bytes().len().saturating_mul(1 + events)
}

pub(super) fn remove(
    context: &mut dyn ClassContext,
    input: Remove,
) -> Result<Answer<Vec<Answer<Removed>>>, ClassError> {
    let mut head = allowed!(open_head(context)?);
    let mut changed = head.adopt(&input.settings);
    let held = head.amounts();
    let mut outcomes = Vec::with_capacity(input.items.len().min(REMOVED_ITEMS_MAX));
    let mut reply = Reply::default();
    for item in input.items.iter().take(REMOVED_ITEMS_MAX) {
        if let Err(refusal) = head.check_key(&item.key) {
            outcomes.push(Answer(Err(refusal)));
            continue;
        }
        let outcome = match item.version {
            Some(version) => remove_version(context, &mut head, &input, item, version)?,
            None => remove_object(context, &mut head, &input, item)?,
        };
        changed |= outcome.as_ref().is_ok_and(|removed| *removed != Removed::default());
        let outcome = Answer(outcome);
        let goes_on = reply.goes_on_after(change_bytes(&outcome, item.notes.as_ref()));
        outcomes.push(outcome);
        if !goes_on {
            break;
        }
    }
    if changed || head.amounts() != held {
        store_head(context, &head);
    }
    Ok(Answer(Ok(outcomes)))
}

/// Removes the object of a key: for good, or by hiding it behind a delete marker.
pub(super) fn remove_object(
    context: &mut dyn ClassContext,
    head: &mut ShardHead,
    input: &Remove,
    item: &RemoveItem,
) -> Result<Done<Removed>, ClassError> {
    let key = &item.key;
    let present = current(context, key)?;
    if let Err(refusal) = item.condition.check(present.as_ref()) {
        // Whoever means one certain object does not mean the marker that hides it.
        let certain = !matches!(item.condition.if_match, Some(TagMatch::Any {}));
        let hidden = refusal == Refusal::NoKey {}
            && certain
            && head.versions > 0
            && newest_kept(context, key)?.is_some();
        return Ok(Err(if hidden { Refusal::Precondition {} } else { refusal }));
    }
    let replaced = replaced_by_next(context, head, key, present.as_ref())?;
    let now_ms = lock_clock(context);
    if replaced.as_ref().is_some_and(|old| old.entry.lock.protects(now_ms, input.bypass)) {
        return Ok(Err(Refusal::Locked {}));
    }
    if let Err(refusal) = events::check_room(head, item.notes.as_ref()) {
        return Ok(Err(refusal));
    }
    make_room(context, head, key, present.as_ref(), replaced.as_ref(), input.now_ms)?;
    let mut removed = Removed { entry: replaced.map(|old| old.entry), marker: None };
    // It is gone, or is under `v/` by now.
    if present.is_some() {
        context.remove_omap(&key_in(b'e', key));
    }
    if head.settings.versioning != Versioning::Off {
        let mut marker = Entry {
            delete_marker: true,
            modified_ms: input.now_ms,
            owner: input.owner.clone(),
            ..Entry::default()
        };
        number(head, &mut marker)?;
        keep(context, head, key, &marker);
        events::record(context, head, item.notes.as_ref(), key, &marker, true)?;
        removed.marker = Some(marker);
    } else if let Some(entry) = &removed.entry {
        events::record(context, head, item.notes.as_ref(), key, entry, false)?;
    }
    Ok(Ok(removed))
}

/// Removes one version for good. One that is not there is as good as removed.
pub(super) fn remove_version(
    context: &mut dyn ClassContext,
    head: &mut ShardHead,
    input: &Remove,
    item: &RemoveItem,
    version: Version,
) -> Result<Done<Removed>, ClassError> {
    let found = find(context, head, &item.key, Some(version))?;
    let entry = found.as_ref().map(|located| &located.entry);
    if let Err(refusal) = item.condition.check(entry) {
        return Ok(Err(refusal));
    }
    let Some(located) = found else { return Ok(Ok(Removed::default())) };
    if located.entry.lock.protects(lock_clock(context), input.bypass) {
        return Ok(Err(Refusal::Locked {}));
    }
    if let Err(refusal) = events::check_room(head, item.notes.as_ref()) {
        return Ok(Err(refusal));
    }
    erase(context, head, &item.key, &located, input.now_ms)?;
    promote(context, head, &item.key)?;
    let notes = item.notes.as_ref();
    events::record(context, head, notes, &item.key, &located.entry, false)?;
    Ok(Ok(Removed { entry: Some(located.entry), marker: None }))
}
