//! Listing a shard in key order, rolling common prefixes up without reading what is beneath them.

use super::index::{allowed, open_head};
use super::*;

/// The common prefix that a key is rolled up to, if it is.
pub(super) fn rolled_up<'k>(key: &'k [u8], prefix: &[u8], delimiter: &[u8]) -> Option<&'k [u8]> {
    if delimiter.is_empty() {
        return None;
    }
    let rest = key.get(prefix.len()..)?;
    let at = rest.windows(delimiter.len()).position(|window| window == delimiter)?;
    Some(&key[..prefix.len() + at + delimiter.len()])
}

pub(super) fn list(
    context: &mut dyn ClassContext,
    input: List,
) -> Result<Answer<Page>, ClassError> {
    let head = allowed!(open_head(context)?);
    let until = match after_prefix(&input.prefix) {
        Some(bound) => key_in(b'e', &bound),
        None => Bytes::copy_from_slice(&space_end(b'e')),
    };
    let mut from = key_in(b'e', &input.from.clone().max(input.prefix.clone()));
    let mut page = Page::default();
    let mut reply = Reply::default();
    'batches: loop {
        let wanted = (input.max as usize - page.items.len()).saturating_add(1).min(BATCH);
        let batch = context.omap_range(&from, &until, wanted)?;
        let last = batch.len() < wanted;
        let mut skip_to: Option<Bytes> = None;
        for (whole, value) in batch {
            if skip_to.as_ref().is_some_and(|bound| whole < *bound) {
                continue;
            }
            let key = whole.slice(2..);
            if !head.shows(&key) {
                from = key_in(b'e', &[&key[..], &[0]].concat());
                continue;
            }
            let common = rolled_up(&key, &input.prefix, &input.delimiter);
            let bytes = common.map_or(key.len() + value.len(), <[u8]>::len);
            if page.items.len() >= input.max as usize || !reply.takes(bytes) {
                page.next = Some(key);
                return Ok(Answer(Ok(page)));
            }
            from = key_in(b'e', &[&key[..], &[0]].concat());
            if let Some(common) = common {
                let prefix = key.slice(..common.len());
                // A prefix of nothing but 0xff has nothing behind it.
                let Some(bound) = after_prefix(common) else {
                    page.items.push(Item::Prefix { prefix });
                    break 'batches;
                };
                page.items.push(Item::Prefix { prefix });
                from = key_in(b'e', &bound);
                skip_to = Some(from.clone());
                continue;
            }
            page.items.push(Item::Key { key, entry: stored(value)? });
        }
        if last {
            break;
        }
    }
    Ok(Answer(Ok(page)))
}
