//! Splitting a shard while it is in use. Which keys go where is said in `layout`.
//!
//! A transaction has one object, so keys go from the giving shard to the new one in pages, in order of key. The
//! new shard is made first (`sprout`), and has nothing; then the giving one notes that it splits (`split`). A page
//! is handed over in three steps, and **any process may do any step, again and at any time**:
//!
//! 1. `pass` sets a page out: the giving shard chooses a bound, and from this transaction on none of the page's
//!    keys is its own. What is there of them does not change any more.
//! 2. `carry` reads the page and `take` brings it to the new shard. The part that completes it also moves the new
//!    shard's bound: in one transaction all of the page's keys become its own.
//! 3. `pass` lets the page go (the caller has seen that it was taken) and sets the next one out.
//!
//! Why a key is never absent, double or of two shards: whose it is depends on two bounds that only grow. The giving
//! shard has it until its bound passes the key; the new shard has it once its own bound does; and the second bound
//! follows the first, because a page is set out before it is taken. Between the two nobody has it, and nobody answers
//! for it: calls are refused with `Moved` by the one and `NotYet` by the other. Whoever meets both takes step 2 himself
//! and goes on, so that a worker who dies there holds nobody up. He goes on to the new shard and those that came from
//! it ([`Layout::go_on`]): once filled it may be split, while the giving shard has not let the last page go and would
//! only send him back. A slow worker does no harm: he can only bring a page that cannot have changed, and the new shard
//! takes a page where its own bound is, so the same one never twice; and what he saw taken he names with the number of
//! its split, because the first pages of all splits begin alike. That is why no page need be compared before it is
//! removed, and why the pages, once taken, can be written to at once.
//!
//! Listings hide what is of nobody here. A reader who asks the giving shard first and the new one then sees each
//! key: if the first did not show it because it was on its way, the answer said how far that page goes, and the
//! second must have come as far. A key that both show moved in between; the new shard's word is the later one.
//!
//! What moves of a key: its entry, versions, details, manifests, expiry, uploads with their parts, and its intents.
//! What stays: garbage with the parts and manifests that it stands for, which has no key any more, and
//! events that wait. New versions get greater numbers than all that came, because the number comes along; so do the
//! settings, so that no key meets older ones than it knew.
//!
//! Chores that walk keys rest while keys move (`claim`, `report`). At the end the new shard gets the giving one's
//! records of them: what was walked there counts as walked here, and what was not, is walked.
//!
//! A page has at most [`PAGE_KEYS_MAX`] keys, or one; what is read and removed at a time is bounded by
//! [`LOAD_BYTES`].

use super::index::{allowed, head, manifest_key, open_head, store_head};
use super::multipart::{escaped, part_range, unescaped};
use super::versions::{detail_key, parse_version_key};
use super::*;
use std::collections::BTreeSet;

/// Records of one space that are looked at to find a page.
const PAGE_RECORDS_MAX: usize = 1024;

/// A part of a page stops growing at about this many bytes; with the largest record it fits a message.
const LOAD_BYTES: usize = 128 << 10;

/// A place in a page.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Place {
    /// Behind what belongs to this omap key.
    anchor: Bytes,
    /// Not behind all of it: behind this part of the upload.
    part: Bytes,
}
crate::codec_struct!(Place { anchor, part });

/// The spaces whose records say to which key they belong; all others hang on these.
const SPACES: [u8; 4] = [b'e', b'i', b'u', b'v'];

/// The spaces of what moves.
const MOVING: &[u8] = b"edvwnmupix";

pub(super) fn shape(
    context: &mut dyn ClassContext,
    _: Nothing,
) -> Result<Answer<Option<Lineage>>, ClassError> {
    Ok(Answer(open_head(context)?.map(|head| head.lineage)))
}

pub(super) fn sprout(
    context: &mut dyn ClassContext,
    input: Sprout,
) -> Result<Answer<Nothing>, ClassError> {
    if let Some(head) = head(context)? {
        let same = head.bucket == input.bucket && !head.sealed;
        return Ok(Answer(if same { Ok(Nothing {}) } else { Err(Refusal::NoBucket {}) }));
    }
    let lineage = Lineage {
        roots: input.roots,
        shard: input.shard,
        depth: birth_depth(input.roots, input.shard),
        filling: Some(Filling::default()),
        ..Lineage::default()
    };
    context.create();
    let head = ShardHead {
        bucket: input.bucket,
        settings: input.settings,
        lineage: Some(lineage),
        ..ShardHead::default()
    };
    store_head(context, &head);
    Ok(Answer(Ok(Nothing {})))
}

pub(super) fn split(
    context: &mut dyn ClassContext,
    input: BeginSplit,
) -> Result<Answer<Nothing>, ClassError> {
    let mut head = allowed!(open_head(context)?);
    if child_of(input.roots, input.shard, input.depth).is_none() {
        return Err(ClassError::Invalid("a bucket cannot have that many shards".into()));
    }
    let (roots, shard) = (input.roots, input.shard);
    let root = || Lineage { roots, shard, ..Lineage::default() };
    let lineage = head.lineage.get_or_insert_with(root);
    if (lineage.roots, lineage.shard) != (roots, shard) {
        return Err(ClassError::Invalid("a split of another shard".into()));
    }
    if lineage.filling.as_ref().is_some_and(|filling| !filling.done) {
        return Ok(Answer(Err(Refusal::NotYet {})));
    }
    if lineage.split.is_none() && lineage.depth == input.depth {
        lineage.split = Some(Split::default());
        store_head(context, &head);
    }
    Ok(Answer(Ok(Nothing {})))
}

pub(super) fn pass(
    context: &mut dyn ClassContext,
    input: Pass,
) -> Result<Answer<Passed>, ClassError> {
    let mut head = allowed!(open_head(context)?);
    let Some(mut lineage) = head.lineage.take() else { return Ok(Answer(Ok(Passed::Done {}))) };
    let Some(mut split) = lineage.split.clone() else { return Ok(Answer(Ok(Passed::Done {}))) };
    let mut changed = false;
    if let Some(page) = split.page.clone()
        && input.taken.as_ref() == Some(&(lineage.depth, split.gone.clone()))
    {
        changed = true;
        let more = let_go(context, &mut head, &mut lineage, &split, &page)?;
        match page.until {
            _ if more => {
                head.lineage = Some(lineage);
                store_head(context, &head);
                return Ok(Answer(Ok(Passed::Again {})));
            }
            Some(until) => split = Split { gone: until, page: None },
            None => {
                (lineage.depth, lineage.split) = (lineage.depth + 1, None);
                head.lineage = Some(lineage);
                store_head(context, &head);
                return Ok(Answer(Ok(Passed::Done {})));
            }
        }
    }
    let page = match split.page.clone() {
        Some(page) => page,
        None => {
            changed = true;
            Handover { until: page_end(context, &lineage, &split.gone, input.max)? }
        }
    };
    let answer = Passed::Page { from: split.gone.clone(), until: page.until.clone() };
    if changed {
        split.page = Some(page);
        lineage.split = Some(split);
        head.lineage = Some(lineage);
        store_head(context, &head);
    }
    Ok(Answer(Ok(answer)))
}

pub(super) fn carry(
    context: &mut dyn ClassContext,
    input: Carry,
) -> Result<Answer<Option<Load>>, ClassError> {
    let head = allowed!(open_head(context)?);
    let Some(lineage) = &head.lineage else { return Ok(Answer(Ok(None))) };
    let Some(Split { gone, page: Some(page) }) = &lineage.split else {
        return Ok(Answer(Ok(None)));
    };
    if *gone != input.from {
        return Ok(Answer(Ok(None)));
    }
    let at = match input.at.is_empty() {
        true => Place::default(),
        false => Place::from_bytes(input.at).map_err(|e| ClassError::Invalid(e.to_string()))?,
    };
    let (pairs, next) = records(context, lineage, gone, page, at)?;
    let chores = match (&next, &page.until) {
        (None, None) => walks(context)?,
        _ => Vec::new(),
    };
    Ok(Answer(Ok(Some(Load {
        pairs,
        next: next.map(|place| place.to_bytes()),
        settings: head.settings.clone(),
        sequence: head.sequence,
        event: head.event,
        chores,
    }))))
}

pub(super) fn take(
    context: &mut dyn ClassContext,
    input: Take,
) -> Result<Answer<Filling>, ClassError> {
    let mut head = allowed!(open_head(context)?);
    let filling = head.lineage.as_ref().and_then(|lineage| lineage.filling.clone());
    let Some(mut filling) = filling else {
        return Err(ClassError::Invalid(
            "a shard that was not made by a split is not filled".into(),
        ));
    };
    if filling.done || filling.below != input.from || filling.staged != input.at {
        return Ok(Answer(Ok(filling)));
    }
    if filling.staged.is_empty() {
        (filling.page_from, filling.page) = (input.from, Amounts::default());
    }
    let load = input.load;
    for (key, value) in load.pairs {
        if !key.first().is_some_and(|space| MOVING.contains(space)) {
            return Err(ClassError::Invalid("a record that does not move".into()));
        }
        if let Some(more) = amounts_of(&key, &value)? {
            count(&mut head, &more, u64::saturating_add);
            add(&mut filling.page, &more);
        }
        context.set_omap(key, value);
    }
    head.adopt(&load.settings);
    head.sequence = head.sequence.max(load.sequence);
    head.event = head.event.max(load.event);
    match (load.next, input.until) {
        (Some(next), _) => filling.staged = next,
        (None, until) => {
            filling.staged = Bytes::new();
            filling.done = until.is_none();
            filling.below = until.unwrap_or(filling.below);
        }
    }
    for (name, chore) in load.chores {
        let chore = Chore { holder: 0, until_ms: 0, ..chore };
        context.set_omap(key_in(b'j', name.as_bytes()), chore.to_bytes());
    }
    if let Some(lineage) = &mut head.lineage {
        lineage.filling = Some(filling.clone());
    }
    store_head(context, &head);
    Ok(Answer(Ok(filling)))
}

/// The chores that walk keys.
fn walks(context: &mut dyn ClassContext) -> Result<Vec<(String, Chore)>, ClassError> {
    let mut found = Vec::new();
    for (key, value) in context.omap_range(&key_in(b'j', b""), &space_end(b'j'), BATCH)? {
        let name = String::from_utf8_lossy(&key[2..]).into_owned();
        if !chores::RESTLESS.contains(&&name[..]) {
            found.push((name, stored(value)?));
        }
    }
    Ok(found)
}

/// The bound of the page that begins at `from`; `None` if it is the last.
fn page_end(
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

/// Removes as much of a page as one transaction may. Whether there is more.
fn let_go(
    context: &mut dyn ClassContext,
    head: &mut ShardHead,
    lineage: &mut Lineage,
    split: &Split,
    page: &Handover,
) -> Result<bool, ClassError> {
    let (pairs, next) = records(context, lineage, &split.gone, page, Place::default())?;
    for (key, value) in pairs {
        if let Some(less) = amounts_of(&key, &value)? {
            count(head, &less, u64::saturating_sub);
            lineage.given_objects += less.objects + less.versions;
            lineage.given_bytes =
                lineage.given_bytes.saturating_add(less.bytes).saturating_add(less.version_bytes);
        }
        context.remove_omap(&key);
    }
    Ok(next.is_some())
}

/// What a record adds to the counts of its shard.
fn amounts_of(key: &[u8], value: &Bytes) -> Result<Option<Amounts>, ClassError> {
    let entry = |value: &Bytes| stored::<Entry>(value.clone());
    Ok(match key.first() {
        Some(b'e') => Some(Amounts { objects: 1, bytes: entry(value)?.size, ..Amounts::default() }),
        Some(b'v') => {
            let version_bytes = entry(value)?.size;
            Some(Amounts { versions: 1, version_bytes, ..Amounts::default() })
        }
        _ => None,
    })
}

fn count(head: &mut ShardHead, by: &Amounts, change: fn(u64, u64) -> u64) {
    head.objects = change(head.objects, by.objects);
    head.bytes = change(head.bytes, by.bytes);
    head.versions = change(head.versions, by.versions);
    head.version_bytes = change(head.version_bytes, by.version_bytes);
}

fn add(sum: &mut Amounts, more: &Amounts) {
    sum.objects += more.objects;
    sum.bytes = sum.bytes.saturating_add(more.bytes);
    sum.versions += more.versions;
    sum.version_bytes = sum.version_bytes.saturating_add(more.version_bytes);
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
type Records = Vec<(Bytes, Bytes)>;

/// Records of a page from a place on, and where to go on. What belongs to a record comes before it or together
/// with it: who removes them in this order finds the rest again.
fn records(
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
