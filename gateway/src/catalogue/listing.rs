//! Listings over several shards: the ordered pages of the shards merged into one, with no more of each
//! shard in memory than the page needs.

use super::flat::{Caller, Flat};
use super::*;
use crate::cluster::Cluster;
use futures_util::future::try_join_all;
use std::collections::VecDeque;

/// Most buckets of one page of the registry.
const BUCKETS_PER_CALL: u32 = 128;

/// A line of a listing.
trait Line {
    /// A place in the listing.
    type Place: Clone;
    /// By what it is sorted.
    fn name(&self) -> &Bytes;
    /// The first place behind it; `None` if nothing can be behind it.
    fn behind(&self) -> Option<Self::Place>;
    /// Whether nothing can be behind it: a common prefix of nothing but 0xff.
    fn is_last(&self) -> bool;
}

impl Line for Item {
    type Place = Bytes;

    fn name(&self) -> &Bytes {
        self.name()
    }

    fn behind(&self) -> Option<Bytes> {
        behind(self)
    }

    fn is_last(&self) -> bool {
        matches!(self, Item::Prefix { .. }) && behind(self).is_none()
    }
}

impl Line for VersionItem {
    type Place = VersionPlace;

    fn name(&self) -> &Bytes {
        self.name()
    }

    fn behind(&self) -> Option<VersionPlace> {
        behind_version(self)
    }

    fn is_last(&self) -> bool {
        matches!(self, VersionItem::Prefix { .. }) && behind_version(self).is_none()
    }
}

/// What a shard says of a stretch of a listing, and what moved when it said so.
type Said<T> = (T, Option<Lineage>);

/// How far the splits of a shard are, to the page that is set out.
type Stamp = (u32, Option<Split>);

fn stamp(lineage: &Option<Lineage>) -> Stamp {
    lineage.as_ref().map(|lineage| (lineage.depth, lineage.split.clone())).unwrap_or_default()
}

/// The shards that a shard was split into, the one that is being filled last.
fn children(lineage: &Option<Lineage>) -> Vec<u32> {
    let Some(lineage) = lineage else { return Vec::new() };
    let end = lineage.depth + u32::from(lineage.split.is_some());
    let depths = birth_depth(lineage.roots, lineage.shard)..end;
    depths.filter_map(|depth| child_of(lineage.roots, lineage.shard, depth)).collect()
}

fn is_filling(lineage: &Option<Lineage>) -> bool {
    let filling = lineage.as_ref().and_then(|lineage| lineage.filling.as_ref());
    filling.is_some_and(|filling| !filling.done)
}

/// What all shards say, each that keys move to after the one that they come from.
///
/// All are asked at once. That is good for those between which nothing moved. A shard that was not asked yet, that
/// is being filled, or was when it answered, is asked (again) after the one that fills it; and a page that is set
/// out, which that one did not show any more, is brought first.
async fn all_say<C: Cluster, T, F>(
    flat: &Flat<C>,
    bucket: &Bucket,
    ask: impl Fn(u32) -> F,
) -> Result<BTreeMap<u32, Said<T>>, CatalogueError>
where
    F: Future<Output = Result<Said<T>, CatalogueError>>,
{
    let shards = flat.known_shards(bucket);
    let first = try_join_all(shards.iter().map(|&shard| ask(shard))).await?;
    let mut said: BTreeMap<u32, Said<T>> = shards.into_iter().zip(first).collect();
    let mut at = 0;
    // A child has a greater number than its parent: it is looked at later.
    while let Some((&shard, (_, lineage))) = said.range(at..).next() {
        at = shard + 1;
        let (filled, lineage) = (lineage.as_ref().and_then(Lineage::filled), lineage.clone());
        for child in children(&lineage) {
            let fills = filled == Some(child);
            if fills {
                flat.bring(bucket, shard, Caller::Client).await?;
            }
            if fills || said.get(&child).is_none_or(|(_, lineage)| is_filling(lineage)) {
                said.insert(child, ask(child).await?);
            }
        }
    }
    Ok(said)
}

/// One shard's part of a listing.
struct Cursor<L: Line> {
    items: VecDeque<L>,
    /// Where to go on; `None` when the shard has no more than `items`.
    next: Option<L::Place>,
    lineage: Option<Lineage>,
}

type Pages<L> = (Vec<L>, Option<<L as Line>::Place>);

/// Merges the pages that `fetch` reads of a shard, from a place on and at most so many lines: at most `max`
/// lines, and whether there are more.
///
/// While shards split: what a shard says holds for what it shows then. Where it says later that keys moved in
/// between, what the shard said that they moved to is read again, from where the merge is. So a key that was there
/// all the time is shown by one of the two, and one that both show is shown once.
async fn merged<C: Cluster, L: Line, F>(
    flat: &Flat<C>,
    bucket: &Bucket,
    max: u32,
    from: &L::Place,
    fetch: impl Fn(u32, L::Place, u32) -> F,
) -> Result<(Vec<L>, bool), CatalogueError>
where
    F: Future<Output = Result<Said<Pages<L>>, CatalogueError>>,
{
    let mut lines: Vec<L> = Vec::new();
    if max == 0 {
        return Ok((lines, false));
    }
    // Keys spread evenly: a little more than its share is mostly enough of a shard.
    let share = match flat.known_shards(bucket).len() {
        0 | 1 => max,
        shards => {
            let shards = u32::try_from(shards).unwrap_or(u32::MAX);
            (max.div_ceil(shards) * 5 / 4 + 8).min(max)
        }
    };
    let said = all_say(flat, bucket, |shard| fetch(shard, from.clone(), share)).await?;
    let cursor = |((items, next), lineage): Said<Pages<L>>| Cursor {
        items: VecDeque::from(items),
        next,
        lineage,
    };
    let mut cursors: BTreeMap<u32, Cursor<L>> =
        said.into_iter().map(|(shard, said)| (shard, cursor(said))).collect();
    loop {
        // Whose items are used up may have the next one.
        let mut used_up: VecDeque<(u32, L::Place)> = VecDeque::new();
        for (shard, cursor) in &mut cursors {
            if cursor.items.is_empty()
                && let Some(next) = cursor.next.take()
            {
                used_up.push_back((*shard, next));
            }
        }
        while let Some((shard, next)) = used_up.pop_front() {
            let said = fetch(shard, next, share).await?;
            let before = cursors.get(&shard).map(|cursor| &cursor.lineage);
            let moved = before.is_none_or(|before| stamp(before) != stamp(&said.1));
            // All splits since: those that were done before have moved nothing.
            let done = before.map(|before| stamp(before).0);
            if moved {
                let filled = said.1.as_ref().and_then(Lineage::filled);
                if filled.is_some() {
                    flat.bring(bucket, shard, Caller::Client).await?;
                }
                let roots = bucket.shards;
                for child in children(&said.1) {
                    let since = done.is_none_or(|done| birth_depth(roots, child) > done);
                    if since {
                        used_up.retain(|(waits, _)| *waits != child);
                        // From where the merge is.
                        let place = lines.last().and_then(Line::behind);
                        used_up.push_back((child, place.unwrap_or_else(|| from.clone())));
                    }
                }
            }
            cursors.insert(shard, cursor(said));
        }
        let heads = cursors.values().filter_map(|cursor| cursor.items.front());
        let Some(name) = heads.map(Line::name).min().cloned() else { return Ok((lines, false)) };
        if lines.len() >= max as usize {
            return Ok((lines, true));
        }
        let mut line = None;
        // A common prefix may come from several shards. A key may where it moved: the last of them was asked last.
        for cursor in cursors.values_mut().rev() {
            if line.is_none() && cursor.items.front().is_some_and(|head| *head.name() == name) {
                line = cursor.items.pop_front();
                continue;
            }
            while cursor.items.front().is_some_and(|head| *head.name() == name) {
                cursor.items.pop_front();
            }
        }
        let is_last = line.as_ref().is_none_or(Line::is_last);
        lines.extend(line);
        if is_last {
            return Ok((lines, false));
        }
    }
}

/// A page of at most `list.max` items.
pub(super) async fn objects<C: Cluster>(
    flat: &Flat<C>,
    bucket: &Bucket,
    list: List,
) -> Result<Page, CatalogueError> {
    let fetch = |shard, from, max| {
        let list = List { from, max, ..list.clone() };
        async move {
            let (page, lineage): Said<Page> = flat.live_page(bucket, shard, "list", &list).await?;
            Ok(((page.items, page.next), lineage))
        }
    };
    let (items, more) = merged(flat, bucket, list.max, &list.from, fetch).await?;
    let next = items.last().filter(|_| more).and_then(behind);
    Ok(Page { items, next })
}

/// The first key that is behind an item of a listing; `None` if there can be none.
pub(crate) fn behind(item: &Item) -> Option<Bytes> {
    match item {
        Item::Key { key, .. } => Some([&key[..], &[0]].concat().into()),
        Item::Prefix { prefix } => after_prefix(prefix).map(Bytes::from),
    }
}

/// A page of at most `list.max` versions.
pub(super) async fn versions<C: Cluster>(
    flat: &Flat<C>,
    bucket: &Bucket,
    list: ListVersions,
) -> Result<VersionPage, CatalogueError> {
    let fetch = |shard, from, max| {
        let list = ListVersions { from, max, ..list.clone() };
        async move {
            let (page, lineage): Said<VersionPage> =
                flat.live_page(bucket, shard, "versions", &list).await?;
            Ok(((page.items, page.next), lineage))
        }
    };
    let (items, more) = merged(flat, bucket, list.max, &list.from, fetch).await?;
    let next = items.last().filter(|_| more).and_then(behind_version);
    Ok(VersionPage { items, next })
}

fn behind_version(item: &VersionItem) -> Option<VersionPlace> {
    match item {
        VersionItem::Version { key, entry, .. } => {
            let after = Some(Version::Id { sequence: entry.sequence });
            Some(VersionPlace { key: key.clone(), after })
        }
        VersionItem::Prefix { prefix } => {
            Some(VersionPlace { key: after_prefix(prefix)?.into(), after: None })
        }
    }
}

/// A page of at most `uploads.max` items.
pub(super) async fn uploads<C: Cluster>(
    flat: &Flat<C>,
    bucket: &Bucket,
    uploads: Uploads,
) -> Result<UploadPage, CatalogueError> {
    let ask = |shard| {
        let uploads = &uploads;
        async move { flat.live_page::<_, UploadPage>(bucket, shard, "uploads", uploads).await }
    };
    let said = all_say(flat, bucket, ask).await?;
    let pages: Vec<UploadPage> = said.into_values().map(|(page, _)| page).collect();
    // A shard that has more may have it anywhere behind its last item: nothing behind that is sure.
    let sure = pages
        .iter()
        .filter(|page| page.more)
        .filter_map(|page| page.items.last().map(upload_name))
        .min();
    let mut items: Vec<UploadItem> = pages
        .iter()
        .flat_map(|page| &page.items)
        .filter(|item| sure.as_ref().is_none_or(|sure| upload_name(item) <= *sure))
        .cloned()
        .collect();
    items.sort_by_key(upload_name);
    items.dedup_by_key(|item| upload_name(item));
    let more = sure.is_some() || items.len() > uploads.max as usize;
    items.truncate(uploads.max as usize);
    Ok(UploadPage { items, more })
}

fn upload_name(item: &UploadItem) -> (Bytes, Option<WriteId>) {
    match item {
        UploadItem::Upload { key, id, .. } => (key.clone(), Some(*id)),
        UploadItem::Prefix { prefix } => (prefix.clone(), None),
    }
}

/// A page of at most `query.max` buckets.
pub(super) async fn buckets<C: Cluster>(
    flat: &Flat<C>,
    query: ListBuckets,
) -> Result<BucketPage, CatalogueError> {
    let max = query.max as usize;
    let objects = (0..REGISTRY_SHARDS).map(|shard| {
        let query = query.clone();
        async move { registry_page(flat, shard, query).await }
    });
    let pages = try_join_all(objects).await?;
    let mut more = pages.iter().any(|page| page.more);
    let mut buckets: Vec<BucketRecord> = pages.into_iter().flat_map(|page| page.buckets).collect();
    buckets.sort_by(|a, b| a.name.cmp(&b.name));
    more |= buckets.len() > max;
    buckets.truncate(max);
    Ok(BucketPage { buckets, more })
}

/// Up to `query.max` buckets of one registry object.
async fn registry_page<C: Cluster>(
    flat: &Flat<C>,
    shard: u32,
    mut query: ListBuckets,
) -> Result<BucketPage, CatalogueError> {
    let wanted = query.max as usize;
    let mut whole = BucketPage::default();
    loop {
        query.max =
            u32::try_from(wanted - whole.buckets.len()).unwrap_or(u32::MAX).min(BUCKETS_PER_CALL);
        let page = flat.registry::<_, BucketPage>(registry_shard_name(shard), "list", &query).await;
        let page = match page {
            // Nobody made a bucket of this registry object yet.
            Err(CatalogueError::Cluster(Error::NotFound(_))) => return Ok(whole),
            page => page?,
        };
        whole.more = page.more;
        if let Some(last) = page.buckets.last() {
            query.after.clone_from(&last.name);
        }
        whole.buckets.extend(page.buckets);
        if !whole.more || whole.buckets.len() >= wanted {
            return Ok(whole);
        }
    }
}
