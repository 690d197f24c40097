//! Listings over several shards: the ordered pages of the shards merged into one, with no more of each
//! shard in memory than the page needs.

use super::flat::Flat;
use super::*;
use crate::cluster::Cluster;
use futures_util::future::try_join_all;
use std::collections::VecDeque;

/// Most buckets of one page of the registry.
const BUCKETS_PER_CALL: u32 = 128;

/// A line of a listing.
trait Line {
    /// By what it is sorted.
    fn name(&self) -> &Bytes;
}

impl Line for Item {
    fn name(&self) -> &Bytes {
        self.name()
    }
}

impl Line for VersionItem {
    fn name(&self) -> &Bytes {
        self.name()
    }
}

/// One shard's part of a listing.
struct Cursor<L, P> {
    items: VecDeque<L>,
    /// Where to go on; `None` when the shard has no more than `items`.
    next: Option<P>,
}

/// Merges the pages that `fetch` reads of a shard, from a place on and at most so many lines: at most `max`
/// lines, and whether there are more. All lines of a name are of one shard, or say the same.
async fn merged<L: Line, P: Clone, F>(
    shards: u32,
    max: u32,
    from: &P,
    fetch: impl Fn(u32, P, u32) -> F,
) -> Result<(Vec<L>, bool), CatalogueError>
where
    F: Future<Output = Result<(Vec<L>, Option<P>), CatalogueError>>,
{
    let mut lines = Vec::new();
    if max == 0 {
        return Ok((lines, false));
    }
    // Keys spread evenly: a little more than its share is mostly enough of a shard.
    let share = match shards {
        0 | 1 => max,
        shards => (max.div_ceil(shards) * 5 / 4 + 8).min(max),
    };
    let first = try_join_all((0..shards).map(|shard| fetch(shard, from.clone(), share))).await?;
    let mut cursors: Vec<Cursor<L, P>> =
        first.into_iter().map(|(items, next)| Cursor { items: items.into(), next }).collect();
    loop {
        // Whose items are used up may have the next one.
        for (shard, cursor) in (0..).zip(&mut cursors) {
            if cursor.items.is_empty()
                && let Some(from) = cursor.next.take()
            {
                let (items, next) = fetch(shard, from, share).await?;
                *cursor = Cursor { items: items.into(), next };
            }
        }
        let heads = cursors.iter().filter_map(|cursor| cursor.items.front());
        let Some(name) = heads.map(Line::name).min().cloned() else { return Ok((lines, false)) };
        if lines.len() >= max as usize {
            return Ok((lines, true));
        }
        let mut line = None;
        for cursor in &mut cursors {
            // A common prefix may come from several shards.
            if cursor.items.front().is_some_and(|head| *head.name() == name) {
                line = cursor.items.pop_front();
            }
        }
        lines.extend(line);
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
            let page: Page = flat.live_shard(bucket, shard, "list", &list).await?;
            Ok((page.items, page.next))
        }
    };
    let (items, more) = merged(bucket.shards, list.max, &list.from, fetch).await?;
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
            let page: VersionPage = flat.live_shard(bucket, shard, "versions", &list).await?;
            Ok((page.items, page.next))
        }
    };
    let (items, more) = merged(bucket.shards, list.max, &list.from, fetch).await?;
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
    let shards = (0..bucket.shards).map(|shard| {
        let uploads = &uploads;
        async move { flat.live_shard::<_, UploadPage>(bucket, shard, "uploads", uploads).await }
    });
    let pages = try_join_all(shards).await?;
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
