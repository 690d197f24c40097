//! Listing a shard in key order, rolling common prefixes up without reading what is beneath them.

use super::index::{allowed, open_head};
use super::*;
use crate::codec::{Encode, Writer};

/// The common prefix that a key is rolled up to, if it is.
pub(super) fn rolled_up<'k>(key: &'k [u8], prefix: &[u8], delimiter: &[u8]) -> Option<&'k [u8]> {
    if delimiter.is_empty() {
        return None;
    }
    let rest = key.get(prefix.len()..)?;
    let at = rest.windows(delimiter.len()).position(|window| window == delimiter)?;
    Some(&key[..prefix.len() + at + delimiter.len()])
}

/// A [`Page`] as it is sent: nobody here looks into the entries, so they go out as they are kept.
#[derive(Default)]
pub(super) struct KeptPage {
    items: Vec<KeptItem>,
    next: Option<Bytes>,
}

/// An [`Item`] of it.
enum KeptItem {
    Key { key: Bytes, entry: Bytes },
    Prefix { prefix: Bytes },
}

impl Encode for KeptPage {
    fn encode(&self, out: &mut Writer) {
        self.items.encode(out);
        self.next.encode(out);
    }
}

impl Encode for KeptItem {
    fn encode(&self, out: &mut Writer) {
        match self {
            KeptItem::Key { key, entry } => {
                1u8.encode(out);
                key.encode(out);
                out.put_bytes(entry);
            }
            KeptItem::Prefix { prefix } => {
                2u8.encode(out);
                prefix.encode(out);
            }
        }
    }
}

pub(super) fn list(
    context: &mut dyn ClassContext,
    input: List,
) -> Result<Answer<KeptPage>, ClassError> {
    let head = allowed!(open_head(context)?);
    let until = match after_prefix(&input.prefix) {
        Some(bound) => key_in(b'e', &bound),
        None => Bytes::copy_from_slice(&space_end(b'e')),
    };
    let mut from = key_in(b'e', &input.from.clone().max(input.prefix.clone()));
    let mut page = KeptPage::default();
    let mut reply = Reply::default();
    'batches: loop {
        let wanted = (input.max as usize - page.items.len()).saturating_add(1).min(BATCH);
        let batch = context.omap_range(&from, &until, wanted)?;
        let is_all = batch.len() < wanted;
        if let Some((last, _)) = batch.last() {
            from = [&last[..], &[0]].concat().into();
        }
        let mut skip_to: Option<Bytes> = None;
        for (whole, entry) in batch {
            if skip_to.as_ref().is_some_and(|bound| whole < *bound) {
                continue;
            }
            let key = whole.slice(2..);
            if !head.shows(&key) {
                continue;
            }
            let common = rolled_up(&key, &input.prefix, &input.delimiter);
            let bytes = common.map_or(key.len() + entry.len(), <[u8]>::len);
            if page.items.len() >= input.max as usize || !reply.takes(bytes) {
                page.next = Some(key);
                return Ok(Answer(Ok(page)));
            }
            let Some(common) = common else {
                page.items.push(KeptItem::Key { key, entry });
                continue;
            };
            page.items.push(KeptItem::Prefix { prefix: key.slice(..common.len()) });
            // A prefix of nothing but 0xff has nothing behind it.
            let Some(bound) = after_prefix(common) else { break 'batches };
            let bound = key_in(b'e', &bound);
            from = from.max(bound.clone());
            skip_to = Some(bound);
        }
        if is_all {
            break;
        }
    }
    Ok(Answer(Ok(page)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kept_page_has_the_bytes_of_a_page() {
        let mut entry = Entry { size: 7, owner: "ann".into(), ..Entry::default() };
        for content_type in ["", "text/plain", &"x".repeat(5000)] {
            entry.content_type = content_type.to_owned();
            let (key, prefix) = (Bytes::from_static(b"k"), Bytes::from_static(b"p/"));
            let kept = KeptPage {
                items: vec![
                    KeptItem::Key { key: key.clone(), entry: entry.to_bytes() },
                    KeptItem::Prefix { prefix: prefix.clone() },
                ],
                next: Some(key.clone()),
            };
            let page = Page {
                items: vec![
                    Item::Key { key: key.clone(), entry: entry.clone() },
                    Item::Prefix { prefix },
                ],
                next: Some(key),
            };
            assert_eq!(kept.to_bytes(), page.to_bytes());
        }
    }
}
