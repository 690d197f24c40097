//! What is in a page that is handed over, and where it ends.

use super::super::multipart::{escaped, part_range, unescaped};
use super::super::versions::{detail_key, parse_version_key};
use super::*;
use std::collections::BTreeSet;

/// Records of one space that are looked at to find a page.
const PAGE_RECORDS_MAX: usize = 1024;

/// A part of a page stops growing at about this many bytes; with the largest record it fits a message.
const LOAD_BYTES: usize = 128 << 10;

/// A place in a page.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Place {
    /// Behind what belongs to this omap key.
    anchor: Bytes,
    /// Not behind all of it: behind this part of the upload.
    part: Bytes,
}
crate::codec_struct!(Place { anchor, part });

/// The spaces whose records say to which key they belong; all others hang on these.
const SPACES: [u8; 4] = [b'e', b'i', b'u', b'v'];

/// The bound of the page that begins at `from`; `None` if it is the last.
pub(super) fn page_end(
    context: &mut dyn ClassContext,
    lineage: &Lineage,
    from: &[u8],
    max: u32,
) -> Result<Option<Bytes>, ClassError> {
    let max = max.clamp(1, PAGE_KEYS_MAX) as usize;
    let mut until: Option<Bytes> = None;
    let mut keys = BTreeSet::new();
    // An intent without anything else of its key goes with the page around it.
    for space in [b'e', b'u', b'v'] {
        let start = space_start(space, from);
        let read = context.omap_range(&start, &space_end(space), PAGE_RECORDS_MAX)?;
        if read.len() == PAGE_RECORDS_MAX
            && let Some((whole, _)) = read.last()
        {
            let bound = behind(&key_of(space, whole, &Bytes::new())?);
            until = Some(lower(until, bound));
        }
        for (whole, value) in &read {
            let key = key_of(space, whole, value)?;
            if lineage.goes(&key) {
                keys.insert(key);
            }
        }
    }
    Ok(match keys.iter().nth(max - 1) {
        Some(last) if keys.len() > max => {
            let bound = behind(last);
            Some(lower(until, bound))
        }
        _ => until,
    })
}

/// The lower of two bounds; none is above all.
fn lower(until: Option<Bytes>, bound: Bytes) -> Bytes {
    match until {
        Some(until) => until.min(bound),
        None => bound,
    }
}

/// The first key behind one.
fn behind(key: &[u8]) -> Bytes {
    [key, &[0]].concat().into()
}

/// The first omap key of a space that belongs to `key`, or sorts behind it.
fn space_start(space: u8, key: &[u8]) -> Bytes {
    match space {
        b'e' => key_in(space, key),
        // Not ordered by the objects' keys.
        b'i' => key_in(space, b""),
        _ => {
            let open = escaped(key);
            key_in(space, &open[..open.len() - 2])
        }
    }
}

/// The object's key that a record belongs to.
fn key_of(space: u8, whole: &Bytes, value: &Bytes) -> Result<Bytes, ClassError> {
    Ok(match space {
        b'e' => whole.slice(2..),
        b'v' => parse_version_key(whole)?.0,
        b'i' => stored::<Intent>(value.clone())?.key,
        _ => {
            let damaged = || ClassError::Damaged("the key of an upload record".into());
            let end = whole.len().checked_sub(18).filter(|end| *end >= 2).ok_or_else(damaged)?;
            unescaped(&whole[2..end]).into()
        }
    })
}

/// The object's key that a record belongs to which moves; `None` for what lies under an id, whatever its key.
pub(super) fn moved_key(whole: &Bytes, value: &Bytes) -> Result<Option<Bytes>, ClassError> {
    let other = || ClassError::Invalid("a record that does not move".into());
    if whole.get(1) != Some(&b'/') {
        return Err(other());
    }
    Ok(match whole[0] {
        space @ (b'e' | b'i' | b'u' | b'v') => Some(key_of(space, whole, value)?),
        b'd' | b'n' => Some(whole.slice(2..)),
        b'w' => Some(parse_version_key(whole)?.0),
        b'x' => Some(whole.get(10..).map(|_| whole.slice(10..)).ok_or_else(other)?),
        b'm' | b'p' => None,
        _ => return Err(other()),
    })
}

/// Pairs on their way.
#[derive(Default)]
struct Pairs {
    pairs: Vec<(Bytes, Bytes)>,
    bytes: usize,
}

impl Pairs {
    fn push(&mut self, key: Bytes, value: Bytes) {
        self.bytes += key.len() + value.len();
        self.pairs.push((key, value));
    }

    /// Takes a record along that is there.
    fn fetch(&mut self, context: &mut dyn ClassContext, key: Bytes) -> Result<(), ClassError> {
        if let Some(value) = context.omap_value(&key)? {
            self.push(key, value);
        }
        Ok(())
    }

    fn is_full(&self) -> bool {
        self.bytes >= LOAD_BYTES
    }
}

/// Omap keys and values.
pub(super) type Records = Vec<(Bytes, Bytes)>;

/// Records of a page from a place on, and where to go on. What belongs to a record comes before it or together
/// with it: who removes them in this order finds the rest again.
pub(super) fn records(
    context: &mut dyn ClassContext,
    lineage: &Lineage,
    from: &[u8],
    page: &Handover,
    at: Place,
) -> Result<(Records, Option<Place>), ClassError> {
    let mut found = Pairs::default();
    for space in SPACES {
        if at.anchor.first().is_some_and(|reached| space < *reached) {
            continue;
        }
        let (mut next, mut part) = (space_start(space, from), Bytes::new());
        if at.anchor.first() == Some(&space) {
            part = at.part.clone();
            next = if part.is_empty() { behind(&at.anchor) } else { at.anchor.clone() };
        }
        let end = match (&page.until, space) {
            (Some(until), b'e' | b'u' | b'v') => space_start(space, until),
            _ => Bytes::copy_from_slice(&space_end(space)),
        };
        loop {
            let read = context.omap_range(&next, &end, BATCH)?;
            let last = read.len() < BATCH;
            for (anchor, value) in read {
                next = behind(&anchor);
                let key = key_of(space, &anchor, &value)?;
                let within = &key[..] >= from && is_below(&key, page.until.as_deref());
                if !within || !lineage.goes(&key) {
                    continue;
                }
                let part = std::mem::take(&mut part);
                let reached = with_record(context, &key, (&anchor, value), part, &mut found)?;
                if reached.is_some() || found.is_full() {
                    let part = reached.unwrap_or_default();
                    return Ok((found.pairs, Some(Place { anchor, part })));
                }
            }
            if last {
                break;
            }
        }
    }
    Ok((found.pairs, None))
}

/// A record with what hangs on it. `Some` if only the parts of an upload up to this one are taken along.
fn with_record(
    context: &mut dyn ClassContext,
    key: &[u8],
    (anchor, value): (&Bytes, Bytes),
    part: Bytes,
    found: &mut Pairs,
) -> Result<Option<Bytes>, ClassError> {
    match anchor.first() {
        Some(b'e' | b'v') => {
            let entry: Entry = stored(value.clone())?;
            with_version(context, key, anchor, &entry, found)?;
        }
        Some(b'u') => {
            let mut id = WriteId::default();
            id.0.copy_from_slice(&anchor[anchor.len() - 16..]);
            if let Some(reached) = with_parts(context, &id, part, found)? {
                return Ok(Some(reached));
            }
        }
        _ => {}
    }
    found.push(anchor.clone(), value);
    Ok(None)
}

fn with_version(
    context: &mut dyn ClassContext,
    key: &[u8],
    anchor: &[u8],
    entry: &Entry,
    found: &mut Pairs,
) -> Result<(), ClassError> {
    if anchor[0] == b'v' && !entry.named {
        found.fetch(context, key_in(b'n', key))?;
    }
    if anchor[0] == b'e' && entry.expires_ms > 0 {
        found.fetch(context, chores::expiry_key(key, entry.expires_ms))?;
    }
    if entry.delete_marker {
        return Ok(());
    }
    let place = detail_key(key, entry.sequence);
    let detail = context
        .omap_value(&place)?
        .ok_or_else(|| ClassError::Damaged("an entry has no detail".into()))?;
    if entry.striped
        && let Body::Striped { manifest } = stored::<Detail>(detail.clone())?.body
        && manifest.apart
    {
        found.fetch(context, manifest_key(&manifest.id))?;
    }
    found.push(place, detail);
    Ok(())
}

/// The parts of an upload behind one of them. `Some` if there may be more behind this one.
fn with_parts(
    context: &mut dyn ClassContext,
    id: &WriteId,
    after: Bytes,
    found: &mut Pairs,
) -> Result<Option<Bytes>, ClassError> {
    let (mut from, until) = part_range(id);
    if !after.is_empty() {
        from = behind(&after);
    }
    loop {
        let read = context.omap_range(&from, &until, BATCH)?;
        let last = read.len() < BATCH;
        for (key, value) in read {
            from = behind(&key);
            found.push(key.clone(), value);
            if found.is_full() {
                return Ok(Some(key));
            }
        }
        if last {
            return Ok(None);
        }
    }
}
