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
//! 3. `pass` lets the page go (the caller has seen that it was taken), and, asked again, sets the next one out.
//!
//! A full cluster, or a pool over its quota, sets no page out. What is out is brought there all the same
//! ([`ends_a_move`](crate::class::ends_a_move)): else its keys would be nobody's until there is room.
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
//! `LOAD_BYTES` (`pages`).

use super::index::{allowed, head, manifest_key, open_head, store_head};
use super::*;
use pages::{Place, moved_key, page_end, records};

mod pages;

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
    check_name(context, input.bucket, input.shard)?;
    if let Some(head) = head(context)? {
        let lineage = head.lineage.as_ref().map(|lineage| (lineage.roots, lineage.shard));
        let same = head.bucket == input.bucket
            && !head.sealed
            && lineage == Some((input.roots, input.shard));
        return Ok(Answer(if same { Ok(Nothing {}) } else { Err(Refusal::NoBucket {}) }));
    }
    let lineage = Lineage {
        roots: input.roots,
        shard: input.shard,
        depth: birth_depth(input.roots, input.shard),
        filling: Some(Filling::default()),
        ..Lineage::default()
    };
    check_settings(&input.settings)?;
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
    check_name(context, head.bucket, input.shard)?;
    if child_of(input.roots, input.shard, input.depth).is_none() {
        return Err(ClassError::Invalid("a bucket cannot have that many shards".into()));
    }
    let (roots, shard) = (input.roots, input.shard);
    if head.lineage.is_none() {
        check_root(context, roots, shard)?;
    }
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

/// Refuses a shard of another bucket, or of another number, than the object's own name says.
fn check_name(context: &dyn ClassContext, bucket: BucketId, shard: u32) -> Result<(), ClassError> {
    let (bucket, shard) = (bucket.to_string(), shard.to_string());
    let mut parts = context.name().split(|byte| *byte == b'.');
    let same = parts.next() == Some(bucket.as_bytes())
        && parts.next().is_some()
        && parts.next() == Some(shard.as_bytes())
        && parts.next().is_none();
    match same {
        true => Ok(()),
        false => Err(ClassError::Invalid("a shard of another name".into())),
    }
}

/// Refuses what is no root: of as many shards as are said, its keys would be others'.
fn check_root(context: &mut dyn ClassContext, roots: u32, shard: u32) -> Result<(), ClassError> {
    let mut is_root = shard < roots;
    for space in [b'e', b'v'] {
        for (whole, value) in context.omap_range(&key_in(space, b""), &space_end(space), BATCH)? {
            let key = moved_key(&whole, &value)?;
            is_root &= key.is_none_or(|key| covers(roots, shard, 0, &key));
        }
    }
    match is_root {
        true => Ok(()),
        false => Err(ClassError::Invalid("a bucket that began with other shards".into())),
    }
}

pub(super) fn pass(
    context: &mut dyn ClassContext,
    input: Pass,
) -> Result<Answer<Passed>, ClassError> {
    let mut head = allowed!(open_head(context)?);
    let Some(mut lineage) = head.lineage.take() else { return Ok(Answer(Ok(Passed::Done {}))) };
    let Some(mut split) = lineage.split.clone() else { return Ok(Answer(Ok(Passed::Done {}))) };
    if let Some(page) = split.page.clone()
        && input.taken.as_ref() == Some(&(lineage.depth, split.gone.clone()))
    {
        let more = let_go(context, &mut head, &mut lineage, &split, &page)?;
        let answer = match page.until {
            _ if more => Passed::Again {},
            // A full cluster lets the page go, and sets no other one out that it could not take.
            Some(until) => {
                lineage.split = Some(Split { gone: until, page: None });
                Passed::Again {}
            }
            None => {
                (lineage.depth, lineage.split) = (lineage.depth + 1, None);
                Passed::Done {}
            }
        };
        head.lineage = Some(lineage);
        store_head(context, &head);
        return Ok(Answer(Ok(answer)));
    }
    let mut changed = false;
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
    check_load(context, &head, &input)?;
    if filling.staged.is_empty() {
        (filling.page_from, filling.page) = (input.from, Amounts::default());
    }
    let load = input.load;
    for (key, value) in load.pairs {
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

/// The spaces of what versions are made of.
const OF_VERSIONS: &[u8] = b"edvwnm";

/// Refuses what is in no page: records of keys that are not between its bounds or never this shard's, those that
/// would take the place of a version, and versions whose manifest lies somewhere else. (That a page is the one that
/// the giving shard set out, nobody can see from here.)
fn check_load(
    context: &mut dyn ClassContext,
    head: &ShardHead,
    input: &Take,
) -> Result<(), ClassError> {
    let refused = |why: &str| Err(ClassError::Invalid(why.into()));
    if input.until.as_ref().is_some_and(|until| *until <= input.from) {
        return refused("a page that ends where it begins");
    }
    if input.load.sequence.max(input.load.event) > NUMBER_MAX {
        return refused("numbers that no shard has");
    }
    let pairs = &input.load.pairs;
    for (whole, value) in pairs {
        let key = moved_key(whole, value)?;
        let within = |key: &Bytes| {
            *key >= input.from && is_below(key, input.until.as_deref()) && head.will_have(key)
        };
        if !key.is_none_or(|key| within(&key)) {
            return refused("a record of a key that the page has not got");
        }
        if OF_VERSIONS.contains(&whole[0]) && context.omap_value(whole)?.is_some() {
            return refused("a record that is there already");
        }
        if let b'd' | b'w' = whole[0]
            && let Body::Striped { manifest } = stored::<Detail>(value.clone())?.body
            && manifest.apart
            && !pairs.iter().any(|(whole, _)| *whole == manifest_key(&manifest.id))
        {
            return refused("a version without its manifest");
        }
    }
    Ok(())
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
