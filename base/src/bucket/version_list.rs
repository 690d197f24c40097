//! Listing the versions of a shard: by key, and newest first. Two ordered spaces are merged, `e/` and `v/`;
//! of a key the entry under `e/` is the newest.

use super::index::{allowed, open_head};
use super::list::rolled_up;
use super::multipart::escaped;
use super::versions::{current, find, parse_version_key, version_range};
use super::*;
use std::collections::VecDeque;

/// A version as it was read.
struct Line {
    key: Bytes,
    entry: Entry,
    /// Bytes of the record.
    bytes: usize,
}

/// One of the two spaces, read in batches.
struct Space {
    space: u8,
    /// Where the next batch begins; `None` when all is read.
    from: Option<Bytes>,
    /// What is read and not yet taken.
    read: VecDeque<Line>,
}

impl Space {
    /// From the first version of `key` on.
    fn new(space: u8, key: &[u8]) -> Self {
        Space { space, from: Some(Self::start(space, key)), read: VecDeque::new() }
    }

    /// The first omap key of what begins with `key`, or sorts behind it.
    fn start(space: u8, key: &[u8]) -> Bytes {
        match space {
            b'v' => {
                let open = escaped(key);
                // Without the end mark: keys that begin with `key` sort behind it as well.
                key_in(b'v', &open[..open.len() - 2])
            }
            _ => key_in(space, key),
        }
    }

    /// Goes on at `key`; what is before it is passed over.
    fn skip_to(&mut self, key: &[u8]) {
        while self.read.front().is_some_and(|line| line.key[..] < *key) {
            self.read.pop_front();
        }
        if self.read.is_empty()
            && let Some(from) = &mut self.from
        {
            let start = Self::start(self.space, key);
            *from = start.max(from.clone());
        }
    }

    fn front(&mut self, context: &mut dyn ClassContext) -> Result<Option<&Line>, ClassError> {
        if self.read.is_empty()
            && let Some(from) = self.from.take()
        {
            let batch = context.omap_range(&from, &space_end(self.space), BATCH)?;
            if let (BATCH, Some((last, _))) = (batch.len(), batch.last()) {
                self.from = Some([&last[..], &[0]].concat().into());
            }
            for (whole, value) in batch {
                let key = match self.space {
                    b'v' => parse_version_key(&whole)?.0,
                    _ => whole.slice(2..),
                };
                let bytes = value.len();
                self.read.push_back(Line { key, entry: stored(value)?, bytes });
            }
        }
        Ok(self.read.front())
    }
}

/// Takes the next version of both spaces.
fn next(
    context: &mut dyn ClassContext,
    current: &mut Space,
    kept: &mut Space,
) -> Result<Option<Line>, ClassError> {
    let of_current = current.front(context)?.map(|line| line.key.clone());
    let of_kept = kept.front(context)?.map(|line| &line.key);
    let from_current = match (&of_current, of_kept) {
        (Some(current), Some(kept)) => current <= kept,
        (current, _) => current.is_some(),
    };
    let from = if from_current { current } else { kept };
    Ok(from.read.pop_front())
}

/// The number below which the versions of the first key are wanted.
fn below(
    context: &mut dyn ClassContext,
    head: &ShardHead,
    from: &VersionPlace,
) -> Result<Option<u64>, ClassError> {
    Ok(match from.after {
        None => None,
        Some(Version::Id { sequence }) => Some(sequence),
        Some(Version::Null {}) => {
            find(context, head, &from.key, from.after)?.map(|located| located.entry.sequence)
        }
    })
}

/// Whether a key has a version that is not older than `below`.
fn has_newer(
    context: &mut dyn ClassContext,
    key: &[u8],
    below: Option<u64>,
) -> Result<bool, ClassError> {
    let Some(below) = below else { return Ok(false) };
    if current(context, key)?.is_some_and(|entry| entry.sequence >= below) {
        return Ok(true);
    }
    let (from, _) = version_range(key, None);
    let (until, _) = version_range(key, Some(below));
    Ok(!context.omap_range(&from, &until, 1)?.is_empty())
}

pub(super) fn versions(
    context: &mut dyn ClassContext,
    input: ListVersions,
) -> Result<Answer<VersionPage>, ClassError> {
    let head = allowed!(open_head(context)?);
    let start = input.from.key.clone().max(input.prefix.clone());
    let below = match start == input.from.key {
        true => below(context, &head, &input.from)?,
        false => None,
    };
    let (mut current, mut kept) = (Space::new(b'e', &start), Space::new(b'v', &start));
    if below.is_some() {
        kept.from = Some(version_range(&start, below).0);
    }
    // The key whose newest version has been passed.
    let mut passed = has_newer(context, &start, below)?.then(|| start.clone());
    let mut page = VersionPage::default();
    let mut place = input.from;
    let mut reply = Reply::default();
    while let Some(Line { key, entry, bytes }) = next(context, &mut current, &mut kept)? {
        if !key.starts_with(&input.prefix) {
            break;
        }
        if !head.shows(&key) {
            continue;
        }
        if key == start && below.is_some_and(|below| entry.sequence >= below) {
            continue;
        }
        let common = rolled_up(&key, &input.prefix, &input.delimiter);
        let bytes = common.map_or(key.len() + bytes, <[u8]>::len);
        if page.items.len() >= input.max as usize || !reply.takes(bytes) {
            page.next = Some(place);
            break;
        }
        if let Some(common) = common {
            page.items.push(VersionItem::Prefix { prefix: key.slice(..common.len()) });
            // A prefix of nothing but 0xff has nothing behind it.
            let Some(bound) = after_prefix(common) else { break };
            current.skip_to(&bound);
            kept.skip_to(&bound);
            place = VersionPlace { key: bound.into(), after: None };
            continue;
        }
        let latest = passed.as_ref() != Some(&key);
        passed = Some(key.clone());
        let after = Some(Version::Id { sequence: entry.sequence });
        place = VersionPlace { key: key.clone(), after };
        page.items.push(VersionItem::Version { key, entry, latest });
    }
    Ok(Answer(Ok(page)))
}
