//! Where the versions of a key are, and how one takes the place of another.
//!
//! The newest version of a key is its entry under `e/`, unless it is a delete marker. Everything else lies
//! under `v/`, by key and newest first: older versions, and delete markers of any age. So a listing of the
//! objects walks over nothing that it does not show, and a bucket without versions has `e/` alone.
//!
//! Versions are ordered by the number that the shard gives them, not by a clock. An entry moves between
//! `e/` and `v/`; its detail, which may be large, stays where it is: the number says where.
//!
//! Invariants:
//! - a key without an entry under `e/` has a delete marker as the first under `v/`, or nothing there;
//! - a key has at most one `null` version, and `n/` is there if and only if that one is under `v/`;
//! - an entry that is no delete marker has its detail at [`detail_key`].

use super::garbage::discard;
use super::index::manifest_apart;
use super::multipart::escaped;
use super::*;

/// An entry and where it is.
pub(super) struct Located {
    pub entry: Entry,
    /// Whether it is under `e/`.
    pub current: bool,
}

/// The omap key of a version in a space.
fn version_key(space: u8, key: &[u8], sequence: u64) -> Bytes {
    key_in(space, &[&escaped(key)[..], &(!sequence).to_be_bytes()].concat())
}

/// Key and sequence of an omap key under `v/`.
pub(super) fn parse_version_key(whole: &[u8]) -> Result<(Bytes, u64), ClassError> {
    let damaged = || ClassError::Damaged("the key of a version".into());
    let body = whole.get(2..).ok_or_else(damaged)?;
    let split = body.len().checked_sub(10).ok_or_else(damaged)?;
    let mut inverted = [0; 8];
    inverted.copy_from_slice(&body[split + 2..]);
    Ok((multipart::unescaped(&body[..split]).into(), !u64::from_be_bytes(inverted)))
}

/// The range under `v/` of the versions of a key that are older than `below`.
pub(super) fn version_range(key: &[u8], below: Option<u64>) -> (Bytes, Bytes) {
    let mut open = escaped(key);
    let from = match below {
        Some(0) => None,
        Some(below) => Some(version_key(b'v', key, below - 1)),
        None => Some(key_in(b'v', &open)),
    };
    // The end mark with its last byte raised is behind every version of the key.
    if let Some(last) = open.last_mut() {
        *last = 1;
    }
    let until = key_in(b'v', &open);
    (from.unwrap_or_else(|| until.clone()), until)
}

/// Where the detail of a version is. What was written before the bucket had versions has it beside its
/// entry.
pub(super) fn detail_key(key: &[u8], sequence: u64) -> Bytes {
    match sequence {
        0 => key_in(b'd', key),
        _ => version_key(b'w', key, sequence),
    }
}

/// The detail of an entry.
pub(super) fn detail(
    context: &mut dyn ClassContext,
    key: &[u8],
    entry: &Entry,
) -> Result<Detail, ClassError> {
    if entry.delete_marker {
        return Ok(Detail::default());
    }
    stored_at(context, &detail_key(key, entry.sequence))?
        .ok_or_else(|| ClassError::Damaged("an entry has no detail".into()))
}

/// The entry under `e/`: the object, if there is one.
pub(super) fn current(
    context: &mut dyn ClassContext,
    key: &[u8],
) -> Result<Option<Entry>, ClassError> {
    stored_at(context, &key_in(b'e', key))
}

/// The newest entry under `v/`.
pub(super) fn newest_kept(
    context: &mut dyn ClassContext,
    key: &[u8],
) -> Result<Option<Entry>, ClassError> {
    let (from, until) = version_range(key, None);
    let first = context.omap_range(&from, &until, 1)?.into_iter().next();
    first.map(|(_, value)| stored(value)).transpose()
}

/// A version of a key; `None` for the newest, delete marker or not.
pub(super) fn find(
    context: &mut dyn ClassContext,
    head: &ShardHead,
    key: &[u8],
    version: Option<Version>,
) -> Result<Option<Located>, ClassError> {
    if let Some(entry) = current(context, key)?
        && version.is_none_or(|version| version == entry.version())
    {
        return Ok(Some(Located { entry, current: true }));
    }
    if head.versions == 0 {
        return Ok(None);
    }
    let kept = match version {
        None => newest_kept(context, key)?,
        Some(Version::Null {}) => match stored_at::<u64>(context, &key_in(b'n', key))? {
            Some(sequence) => stored_at(context, &version_key(b'v', key, sequence))?,
            None => None,
        },
        Some(Version::Id { sequence }) => {
            stored_at::<Entry>(context, &version_key(b'v', key, sequence))?
                .filter(|entry| entry.named)
        }
    };
    Ok(kept.map(|entry| Located { entry, current: false }))
}

/// Stores an entry where it was found, changed in nothing that says where that is.
pub(super) fn store_located(context: &mut dyn ClassContext, key: &[u8], located: &Located) {
    let place = match located.current {
        true => key_in(b'e', key),
        false => version_key(b'v', key, located.entry.sequence),
    };
    context.set_omap(place, located.entry.to_bytes());
}

/// The version that the next one takes the place of: where versions have no id of their own, the `null`
/// version.
pub(super) fn replaced_by_next(
    context: &mut dyn ClassContext,
    head: &ShardHead,
    key: &[u8],
    present: Option<&Entry>,
) -> Result<Option<Located>, ClassError> {
    match (head.settings.versioning, present) {
        (Versioning::Enabled, _) => Ok(None),
        (_, Some(entry)) if !entry.named => {
            Ok(Some(Located { entry: entry.clone(), current: true }))
        }
        _ if head.versions == 0 => Ok(None),
        _ => find(context, head, key, Some(Version::Null {})),
    }
}

/// Makes room for a new newest version: what it replaces goes, and the present object becomes an older
/// version. `e/` is to be written, or removed, by the caller.
pub(super) fn make_room(
    context: &mut dyn ClassContext,
    head: &mut ShardHead,
    key: &[u8],
    present: Option<&Entry>,
    replaced: Option<&Located>,
    now_ms: u64,
) -> Result<(), ClassError> {
    if let Some(replaced) = replaced {
        erase(context, head, key, replaced, now_ms)?;
    }
    if let Some(entry) = present
        && !replaced.is_some_and(|replaced| replaced.current)
    {
        leave_current(context, head, key, entry);
        keep(context, head, key, entry);
    }
    Ok(())
}

/// Gives a new version its number and, where the bucket has them, its id.
pub(super) fn number(head: &mut ShardHead, entry: &mut Entry) -> Result<(), ClassError> {
    (entry.sequence, entry.named) = (0, false);
    if head.settings.versioning != Versioning::Off {
        head.sequence = next_number(head.sequence)?;
        entry.sequence = head.sequence;
        entry.named = head.settings.versioning == Versioning::Enabled;
    }
    Ok(())
}

/// Stores an entry under `e/`.
pub(super) fn store_current(
    context: &mut dyn ClassContext,
    head: &mut ShardHead,
    key: &[u8],
    entry: &Entry,
) {
    head.objects += 1;
    head.bytes = head.bytes.saturating_add(entry.size);
    context.set_omap(key_in(b'e', key), entry.to_bytes());
    chores::note_expiry(context, key, entry);
}

/// An entry is not the object of its key any more. `e/` is to be written, or removed, by the caller.
fn leave_current(context: &mut dyn ClassContext, head: &mut ShardHead, key: &[u8], entry: &Entry) {
    head.objects = head.objects.saturating_sub(1);
    head.bytes = head.bytes.saturating_sub(entry.size);
    chores::forget_expiry(context, key, entry);
}

/// Stores an entry under `v/`.
pub(super) fn keep(
    context: &mut dyn ClassContext,
    head: &mut ShardHead,
    key: &[u8],
    entry: &Entry,
) {
    head.versions += 1;
    head.version_bytes = head.version_bytes.saturating_add(entry.size);
    context.set_omap(version_key(b'v', key, entry.sequence), entry.to_bytes());
    if !entry.named {
        context.set_omap(key_in(b'n', key), entry.sequence.to_bytes());
    }
}

/// Takes an entry from under `v/`.
fn unkeep(context: &mut dyn ClassContext, head: &mut ShardHead, key: &[u8], entry: &Entry) {
    head.versions = head.versions.saturating_sub(1);
    head.version_bytes = head.version_bytes.saturating_sub(entry.size);
    context.remove_omap(&version_key(b'v', key, entry.sequence));
    if !entry.named {
        context.remove_omap(&key_in(b'n', key));
    }
}

/// Removes a version for good; its data becomes garbage.
pub(super) fn erase(
    context: &mut dyn ClassContext,
    head: &mut ShardHead,
    key: &[u8],
    located: &Located,
    now_ms: u64,
) -> Result<(), ClassError> {
    let entry = &located.entry;
    discard_body(context, key, entry, now_ms)?;
    match located.current {
        true => {
            leave_current(context, head, key, entry);
            context.remove_omap(&key_in(b'e', key));
        }
        false => unkeep(context, head, key, entry),
    }
    if !entry.delete_marker {
        context.remove_omap(&detail_key(key, entry.sequence));
    }
    Ok(())
}

/// Where the newest version was removed for good, the next one is the object, unless it is a delete
/// marker.
pub(super) fn promote(
    context: &mut dyn ClassContext,
    head: &mut ShardHead,
    key: &[u8],
) -> Result<(), ClassError> {
    if head.versions == 0 || current(context, key)?.is_some() {
        return Ok(());
    }
    match newest_kept(context, key)? {
        Some(entry) if !entry.delete_marker => {
            unkeep(context, head, key, &entry);
            store_current(context, head, key, &entry);
        }
        _ => {}
    }
    Ok(())
}

/// Makes garbage of the data of a version that has some.
fn discard_body(
    context: &mut dyn ClassContext,
    key: &[u8],
    entry: &Entry,
    now_ms: u64,
) -> Result<(), ClassError> {
    if !entry.striped {
        return Ok(());
    }
    if let Body::Striped { manifest } = detail(context, key, entry)?.body {
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

/// The detail of an entry, complete: with a manifest that is kept apart.
pub(super) fn whole_detail(
    context: &mut dyn ClassContext,
    key: &[u8],
    entry: &Entry,
) -> Result<Detail, ClassError> {
    let mut detail = detail(context, key, entry)?;
    if let Body::Striped { manifest } = &mut detail.body
        && manifest.apart
    {
        *manifest = manifest_apart(context, &manifest.id)?;
    }
    Ok(detail)
}
