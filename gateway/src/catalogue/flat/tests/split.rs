//! Shards that split while writers write, listers list, and workers die between any two of their calls.

use super::*;
use crate::catalogue::chores::Chores;
use crate::catalogue::chores::deliver::Delivery;
use crate::metrics::Metrics;
use crate::s3::lifecycle::Calendar;
use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};
use store_shell::shutdown::Shutdown;

/// Above how many keys a shard is split here.
const SPLIT_KEYS: u64 = 50;

fn chores() -> Chores {
    let (calendar, every) = (Calendar { day_ms: 86_400_000 }, Duration::from_secs(60));
    let mut chores =
        Chores::new(calendar, every, Arc::new(Metrics::default()), Delivery::default());
    chores.split_keys = SPLIT_KEYS;
    chores
}

/// Splits what is too large until nothing is.
async fn split_all(flat: &Flat<MemoryCluster>, bucket: &Bucket) {
    for _ in 0..100 {
        let heads = flat.heads(bucket).await.expect("heads");
        let due = |head: &ShardHead| {
            head.objects + head.versions > SPLIT_KEYS
                || head.lineage.as_ref().is_some_and(|lineage| lineage.split.is_some())
        };
        let Some((&shard, _)) = heads.iter().find(|(_, head)| due(head)) else { return };
        // Each time another worker, who knows nothing of those before.
        chores().split(flat, bucket, shard, &Shutdown::new()).await.expect("split");
    }
    panic!("shards that are split are still too large");
}

async fn keys(flat: &Flat<MemoryCluster>, bucket: &Bucket, page: u32) -> Vec<String> {
    let (mut from, mut keys) = (Bytes::new(), Vec::new());
    loop {
        let list = List { from, max: page, ..List::default() };
        let page = flat.list(bucket, list).await.expect("a page");
        keys.extend(
            page.items.iter().map(|item| String::from_utf8_lossy(item.name()).into_owned()),
        );
        match page.next {
            Some(next) => from = next,
            None => return keys,
        }
    }
}

#[tokio::test]
async fn a_bucket_grows_and_a_gateway_that_knows_nothing_of_it_finds_all() {
    let world = World::new();
    let bucket = world.make("b").await;
    let wanted: Vec<String> = (0..500).map(|n| format!("{n:04}")).collect();
    for key in &wanted {
        world.put(&bucket, key).await.expect("put");
    }
    world.flat.page_keys.set(7);
    split_all(&world.flat, &bucket).await;
    let heads = world.flat.heads(&bucket).await.expect("heads");
    assert!(heads.len() >= 10, "{} shards", heads.len());
    let other = Flat::new(world.cluster.clone(), Commons::default());
    for flat in [&world.flat, &other] {
        assert_eq!(keys(flat, &bucket, 70).await, wanted);
        assert_eq!(flat.usage(&bucket).await.expect("usage").objects, 500);
    }
    let fresh = Flat::new(world.cluster.clone(), Commons::default());
    for key in &wanted {
        let read = Read { key: key.clone().into(), body: true, version: None };
        assert!(fresh.read(&bucket, read).await.expect("read").is_some(), "{key}");
    }
    let fresh = Flat::new(world.cluster.clone(), Commons::default());
    let done = fresh.remove(&bucket, removal(wanted.clone())).await.expect("removed");
    assert!(done.iter().all(|one| one.as_ref().is_ok_and(|removed| removed.entry.is_some())));
    let fresh = Flat::new(world.cluster.clone(), Commons::default());
    fresh.remove_bucket(&bucket).await.expect("an empty bucket");
    sweep().clear_doomed(&fresh).await.expect("cleared");
    assert_eq!(world.cluster.names(INDEX_POOL), Vec::<String>::new());
}

/// Writers, listers and workers take turns at every call to the cluster; of the workers, each dies at a call of his.
#[tokio::test]
async fn nothing_is_lost_or_shown_twice_while_shards_split() {
    let world = World::new();
    let bucket = world.make("b").await;
    // These are there all the time.
    let lasting: BTreeSet<String> = (0..200).map(|n| format!("{n:04}")).collect();
    for key in &lasting {
        world.put(&bucket, key).await.expect("put");
    }
    let over = Cell::new(false);
    let lists = Cell::new(0u32);
    let flats: Vec<_> =
        (0..4).map(|_| Flat::new(world.cluster.clone(), Commons::default())).collect();
    let writer = async {
        for n in 0..150u32 {
            let key = format!("{:04}-{}", n % 200, n % 7);
            let flat = &flats[n as usize % 2];
            let put = Put {
                key: key.clone().into(),
                detail: Detail::default().to_bytes(),
                ..Put::default()
            };
            flat.put(&bucket, put).await.expect("put");
            let read = Read { key: key.clone().into(), body: true, version: None };
            assert!(flats[1].read(&bucket, read).await.expect("read").is_some(), "{key}");
            let done = flat.remove(&bucket, removal([key.clone()])).await.expect("removed");
            assert!(done[0].as_ref().is_ok_and(|removed| removed.entry.is_some()), "{key}");
        }
        over.set(true);
    };
    let lister = async {
        while !over.get() {
            let shown = keys(&flats[2], &bucket, 37).await;
            assert!(shown.is_sorted_by(|a, b| a < b), "in order, and each once");
            let shown: BTreeSet<String> = shown.into_iter().collect();
            let missing: Vec<_> = lasting.difference(&shown).collect();
            assert!(missing.is_empty(), "not shown: {missing:?}");
            lists.set(lists.get() + 1);
        }
    };
    let workers = async {
        let calls = Arc::new(AtomicU64::new(0));
        for life in 1.. {
            if over.get() {
                return;
            }
            // The call of this number is the last one of the worker.
            let flat = Flat::new(
                Dying { inner: world.cluster.clone(), left: calls.clone() },
                Commons::default(),
            );
            flat.page_keys.set(5);
            calls.store(life % 40, Ordering::Relaxed);
            let Ok(heads) = flat.heads(&bucket).await else { continue };
            for (shard, head) in heads {
                let lineage = head.lineage.clone().unwrap_or_default();
                let splits = lineage.split.is_some();
                if !splits && (head.objects <= SPLIT_KEYS || lineage.is_moving()) {
                    continue;
                }
                let begun = match splits {
                    true => Ok(true),
                    false => flat.begin_split(&bucket, shard, lineage.depth).await,
                };
                if begun.is_err() {
                    break;
                }
                while flat.split_step(&bucket, shard).await.unwrap_or(false) {}
            }
        }
    };
    tokio::join!(writer, lister, workers);
    assert!(lists.get() > 1, "{} listings", lists.get());
    split_all(&flats[3], &bucket).await;
    assert_eq!(keys(&flats[3], &bucket, 1000).await, Vec::from_iter(lasting));
    let heads = flats[3].heads(&bucket).await.expect("heads");
    assert!(heads.len() > 4, "{} shards", heads.len());
    assert_eq!(flats[3].usage(&bucket).await.expect("usage").objects, 200);
}

/// A cluster that a worker reaches so many times.
struct Dying {
    inner: MemoryCluster,
    left: Arc<AtomicU64>,
}

impl Cluster for Dying {
    fn operate<'a>(
        &'a self,
        pool: Place,
        object: String,
        ops: Vec<Op>,
        read_only: bool,
    ) -> LocalBoxFuture<'a, Result<Vec<store_base::op::OpResult>, Error>> {
        let less = |left: u64| left.checked_sub(1);
        match self.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less) {
            Ok(_) => self.inner.operate(pool, object, ops, read_only),
            Err(_) => Box::pin(async move {
                tokio::task::yield_now().await;
                Err(Error::Unavailable("the worker is dead".into()))
            }),
        }
    }

    fn placement(&self, name: &str) -> Option<Placement> {
        self.inner.placement(name)
    }

    fn placements(&self) -> Vec<String> {
        self.inner.placements()
    }
}

#[tokio::test]
async fn settings_reach_every_key_and_versions_go_on() {
    let world = World::new();
    let bucket = world.make("b").await;
    for n in 0..120 {
        world.put(&bucket, &format!("{n:03}")).await.expect("put");
    }
    let heads = world.flat.heads(&bucket).await.expect("heads");
    let large = heads.iter().max_by_key(|(_, head)| head.objects).map(|(shard, _)| *shard);
    let shard = large.expect("a shard");
    assert!(world.flat.begin_split(&bucket, shard, 0).await.expect("begun"));
    // A page is set out and nobody brings it.
    let _: Passed = world
        .flat
        .live_shard(&bucket, shard, "pass", &Pass { taken: None, max: 5 })
        .await
        .expect("set out");
    let enabled = SettingsChange::Versioning { versioning: Versioning::Enabled };
    let other = Flat::new(world.cluster.clone(), Commons::default());
    other.configure(&bucket, enabled).await.expect("configured");
    let bucket = other.bucket_now("b").await.expect("the bucket");
    for n in 0..120 {
        let key = format!("{n:03}");
        let done = world.put(&bucket, &key).await.expect("put");
        assert!(done.entry.named && done.replaced.is_none(), "{key}");
    }
    while world.flat.split_step(&bucket, shard).await.expect("a step") {}
    let list = ListVersions { max: 1000, ..ListVersions::default() };
    let page = other.versions(&bucket, list).await.expect("versions");
    assert_eq!(page.items.len(), 240);
    let named = |item: &VersionItem| match item {
        VersionItem::Version { entry, latest, .. } => entry.named == *latest,
        VersionItem::Prefix { .. } => false,
    };
    assert!(page.items.iter().all(named), "the newer version of each key is the latest");
    let usage = other.usage(&bucket).await.expect("usage");
    assert_eq!((usage.objects, usage.versions), (120, 120));
}

/// A shard that was filled is split, and the one that it came from has not let the last page go: its worker died.
#[tokio::test]
async fn a_call_goes_on_to_the_third_shard_while_the_first_has_not_let_go() {
    let world = World::new();
    let bucket = world.make("b").await;
    let wanted: Vec<String> = (0..120).map(|n| format!("{n:03}")).collect();
    for key in &wanted {
        world.put(&bucket, key).await.expect("put");
    }
    let child = child_of(bucket.shards, 0, 0).expect("few shards");
    for (shard, depth) in [(0, 0), (child, 1)] {
        assert!(world.flat.begin_split(&bucket, shard, depth).await.expect("begun"));
        let whole = Pass { taken: None, max: 1000 };
        let out: Passed =
            world.flat.live_shard(&bucket, shard, "pass", &whole).await.expect("set out");
        assert!(matches!(out, Passed::Page { until: None, .. }), "the last page");
        if shard == 0 {
            world.flat.bring(&bucket, shard, Caller::Client).await.expect("taken");
        }
    }
    let fresh = Flat::new(world.cluster.clone(), Commons::default());
    for key in &wanted {
        let read = Read { key: key.clone().into(), body: true, version: None };
        assert!(fresh.read(&bucket, read).await.expect("read").is_some(), "{key}");
    }
    assert_eq!(keys(&fresh, &bucket, 7).await, wanted);
    assert_eq!(fresh.usage(&bucket).await.expect("usage").objects, 120);
}
