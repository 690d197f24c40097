//! Multipart uploads: the upload, its parts, and the commit that turns them into an object.

use super::garbage::{discard, discard_runs, take_intent};
use super::index::{NewVersion, allowed, head_for, manifest_key, open_head, store_head};
use super::list::rolled_up;
use super::*;

/// The key with 0x00 written as 0x00 0xff and ended by 0x00 0x00: sorts as the key does, whatever
/// follows, and can be read back.
pub(super) fn escaped(key: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(key.len() + 2);
    for &byte in key {
        out.push(byte);
        if byte == 0 {
            out.push(0xff);
        }
    }
    out.extend_from_slice(&[0, 0]);
    out
}

/// Takes `escaped` back; without the end mark.
pub(super) fn unescaped(bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(bytes.len());
    let mut rest = bytes.iter();
    while let Some(&byte) = rest.next() {
        out.push(byte);
        if byte == 0 {
            rest.next();
        }
    }
    out
}

pub(super) fn upload_key(key: &[u8], id: &WriteId) -> Bytes {
    key_in(b'u', &[&escaped(key)[..], &id.0].concat())
}

/// Key and id of an upload record's omap key.
fn parse_upload_key(whole: &[u8]) -> Result<(Bytes, WriteId), ClassError> {
    let damaged = || ClassError::Damaged("the key of an upload record".into());
    let body = whole.get(2..).ok_or_else(damaged)?;
    let split = body.len().checked_sub(18).ok_or_else(damaged)?;
    let mut id = [0; 16];
    id.copy_from_slice(&body[split + 2..]);
    Ok((unescaped(&body[..split]).into(), WriteId(id)))
}

fn part_key(id: &WriteId, number: u16) -> Bytes {
    key_in(b'p', &[&id.0[..], &number.to_be_bytes()].concat())
}

/// The range of all parts of an upload.
pub(super) fn part_range(id: &WriteId) -> (Bytes, Bytes) {
    let from = key_in(b'p', &id.0);
    let until = Bytes::from([&from[..], &[0xff, 0xff, 0]].concat());
    (from, until)
}

pub(super) fn upload(
    context: &mut dyn ClassContext,
    input: Begin,
) -> Result<Answer<Nothing>, ClassError> {
    let mut head = allowed!(head_for(context, &input.key)?);
    let newer = head.adopt(&input.settings);
    if !head.settings.lock && !input.upload.lock.is_none() {
        return Ok(Answer(Err(Refusal::NoLock {})));
    }
    check_id(context, &input.id)?;
    if newer {
        store_head(context, &head);
    }
    context.set_omap(upload_key(&input.key, &input.id), input.upload.to_bytes());
    Ok(Answer(Ok(Nothing {})))
}

/// An id is of one upload for ever: the manifest that is kept apart under it is never another one's.
fn check_id(context: &mut dyn ClassContext, id: &WriteId) -> Result<(), ClassError> {
    match context.omap_value(&manifest_key(id))? {
        None => Ok(()),
        Some(_) => Err(ClassError::Invalid("an upload under the id of an object".into())),
    }
}

pub(super) fn part(
    context: &mut dyn ClassContext,
    input: AddPart,
) -> Result<Answer<bool>, ClassError> {
    allowed!(head_for(context, &input.key)?);
    if context.omap_value(&upload_key(&input.key, &input.id))?.is_none() {
        return Ok(Answer(Err(Refusal::NoUpload {})));
    }
    if input.part.data.id != input.id {
        return Err(ClassError::Invalid("data of a part must carry the upload's id".into()));
    }
    // An empty part has no data and announced none.
    if input.part.data.size > 0 {
        allowed!(take_intent(context, &input.part.data)?);
    }
    let key = part_key(&input.id, input.part.data.part);
    let replaced = stored_at::<Part>(context, &key)?;
    if let Some(replaced) = &replaced {
        discard_runs(context, input.now_ms, &[replaced.data]);
    }
    context.set_omap(key, input.part.to_bytes());
    Ok(Answer(Ok(replaced.is_some())))
}

pub(super) fn parts(
    context: &mut dyn ClassContext,
    input: Parts,
) -> Result<Answer<PartPage>, ClassError> {
    allowed!(head_for(context, &input.key)?);
    let found = stored_at::<Upload>(context, &upload_key(&input.key, &input.id))?;
    let upload = allowed!(found.ok_or(Refusal::NoUpload {}));
    let (_, until) = part_range(&input.id);
    let from = Bytes::from([&part_key(&input.id, input.after)[..], &[0]].concat());
    let max = (input.max as usize).min(1000);
    let mut pairs = context.omap_range(&from, &until, max + 1)?;
    let more = pairs.len() > max;
    pairs.truncate(max);
    let parts = pairs.into_iter().map(|(_, value)| stored(value)).collect::<Result<_, _>>()?;
    Ok(Answer(Ok(PartPage { upload, parts, more })))
}

pub(super) fn uploads(
    context: &mut dyn ClassContext,
    input: Uploads,
) -> Result<Answer<UploadPage>, ClassError> {
    let head = allowed!(open_head(context)?);
    let until = Bytes::copy_from_slice(&space_end(b'u'));
    let start = input.from.clone().max(input.prefix.clone());
    let mut from = match (&input.after_id, start == input.from) {
        (Some(id), true) => Bytes::from([&upload_key(&start, id)[..], &[0]].concat()),
        _ => {
            let open = escaped(&start);
            // Without the end mark: keys that begin with `start` sort behind it as well.
            key_in(b'u', &open[..open.len() - 2])
        }
    };
    let mut page = UploadPage::default();
    let mut reply = Reply::default();
    loop {
        let batch = context.omap_range(&from, &until, BATCH)?;
        let last = batch.len() < BATCH;
        for (whole, value) in batch {
            if whole < from {
                continue;
            }
            let (key, id) = parse_upload_key(&whole)?;
            if !key.starts_with(&input.prefix) {
                return Ok(Answer(Ok(page)));
            }
            if !head.shows(&key) {
                from = Bytes::from([&whole[..], &[0]].concat());
                continue;
            }
            if page.items.len() >= input.max as usize || !reply.takes(whole.len() + value.len()) {
                page.more = true;
                return Ok(Answer(Ok(page)));
            }
            from = Bytes::from([&whole[..], &[0]].concat());
            if let Some(common) = rolled_up(&key, &input.prefix, &input.delimiter) {
                let prefix = key.slice(..common.len());
                page.items.push(UploadItem::Prefix { prefix });
                let Some(bound) = after_prefix(common) else { return Ok(Answer(Ok(page))) };
                let bound = escaped(&bound);
                from = key_in(b'u', &bound[..bound.len() - 2]);
                continue;
            }
            page.items.push(UploadItem::Upload { key, id, upload: Box::new(stored(value)?) });
        }
        if last {
            return Ok(Answer(Ok(page)));
        }
    }
}

pub(super) fn complete(
    context: &mut dyn ClassContext,
    input: Complete,
) -> Result<Answer<Committed>, ClassError> {
    let mut head = allowed!(head_for(context, &input.key)?);
    head.adopt(&input.settings);
    let upload = upload_key(&input.key, &input.id);
    if context.omap_value(&upload)?.is_none() {
        return Ok(Answer(Err(Refusal::NoUpload {})));
    }
    let entry = input.entry.clone();
    let mut new = NewVersion { key: &input.key, entry, now_ms: input.now_ms };
    let place = allowed!(new.prepare(context, &head, &input.condition)?);
    allowed!(new.check_ceiling(&head, &place, input.ceiling.as_ref()));
    allowed!(events::check_room(&head, input.notes.as_ref()));
    let (detail, unused) = allowed!(chosen_parts(context, &input)?);

    context.remove_omap(&upload);
    let (from, until) = part_range(&input.id);
    context.remove_omap_range(&from, &until);
    discard_runs(context, input.now_ms, &unused);
    let detail = keep_apart(context, detail, input.detail)?;
    Ok(Answer(Ok(new.commit(context, &mut head, place, detail, input.notes.as_ref())?)))
}

/// A manifest of more parts than this is kept apart from its detail.
const PARTS_BESIDE_MAX: usize = 64;

/// Stores the manifest of a detail apart if it is large. Returns what to store as the detail.
fn keep_apart(
    context: &mut dyn ClassContext,
    mut detail: Detail,
    encoded: Bytes,
) -> Result<Bytes, ClassError> {
    Ok(match &mut detail.body {
        Body::Striped { manifest } if manifest.parts.len() > PARTS_BESIDE_MAX => {
            let (id, stripe_bytes) = (manifest.id, manifest.stripe_bytes);
            let stub = Manifest { id, stripe_bytes, apart: true, ..Manifest::default() };
            let whole = std::mem::replace(manifest, stub);
            check_id(context, &id)?;
            context.set_omap(manifest_key(&id), whole.to_bytes());
            detail.to_bytes()
        }
        _ => encoded,
    })
}

/// Checks that every part of the manifest is still the part that is stored; returns the detail, and the
/// data of the parts that the manifest leaves out.
fn chosen_parts(
    context: &mut dyn ClassContext,
    input: &Complete,
) -> Result<Done<(Detail, Vec<DataRef>)>, ClassError> {
    let detail = Detail::from_bytes(input.detail.clone());
    let detail = detail.map_err(|e| ClassError::Invalid(e.to_string()))?;
    let chosen: Vec<DataRef> = match &detail.body {
        Body::Striped { manifest } if manifest.apart || manifest.id != input.id => {
            return Err(ClassError::Invalid("a manifest of other parts than the upload's".into()));
        }
        Body::Striped { manifest } => manifest.refs().collect(),
        Body::Inline { .. } | Body::Segments { .. } => {
            return Err(ClassError::Invalid("an upload has a manifest".into()));
        }
    };
    let mut chosen = chosen.into_iter().peekable();
    let mut unused = Vec::new();
    for part in all_parts(context, &input.id)? {
        match chosen.next_if(|next| *next == part) {
            Some(_) => {}
            None => unused.push(part),
        }
    }
    match chosen.peek() {
        None => Ok(Ok((detail, unused))),
        Some(_) => Ok(Err(Refusal::PartChanged {})),
    }
}

pub(super) fn all_parts(
    context: &mut dyn ClassContext,
    id: &WriteId,
) -> Result<Vec<DataRef>, ClassError> {
    let (mut from, until) = part_range(id);
    let mut refs = Vec::new();
    loop {
        let batch = context.omap_range(&from, &until, 1000)?;
        let Some((last, _)) = batch.last() else { return Ok(refs) };
        from = Bytes::from([&last[..], &[0]].concat());
        for (_, value) in batch {
            refs.push(stored::<Part>(value)?.data);
        }
    }
}

pub(super) fn abort(
    context: &mut dyn ClassContext,
    input: Abort,
) -> Result<Answer<Nothing>, ClassError> {
    allowed!(head_for(context, &input.key)?);
    let upload = upload_key(&input.key, &input.id);
    if context.omap_value(&upload)?.is_none() {
        return Ok(Answer(Err(Refusal::NoUpload {})));
    }
    context.remove_omap(&upload);
    // The parts stay where they are: the record stands for all of them.
    let name = DataRef { id: input.id, ..DataRef::default() };
    discard(context, input.now_ms, &name, &Discarded::Parts { id: input.id });
    Ok(Answer(Ok(Nothing {})))
}
