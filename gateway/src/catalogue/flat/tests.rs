//! The catalogue over a cluster in memory: what buckets and listings do, what the sweeper leaves, and what
//! happens when a call in the middle fails.

use super::*;
use crate::catalogue::sweep::Sweep;
use crate::cluster::memory::MemoryCluster;

mod events;
mod locks;
mod removal;
mod rounds;
mod split;

const NOW_MS: u64 = 1_700_000_000_000;

struct World {
    cluster: MemoryCluster,
    flat: Flat<MemoryCluster>,
}

impl World {
    fn new() -> Self {
        let cluster = MemoryCluster::default();
        World { flat: Flat::new(cluster.clone(), Commons::default()), cluster }
    }

    fn record(name: &str, owner: &str) -> BucketRecord {
        BucketRecord {
            id: BucketId(clock::random()),
            name: name.into(),
            owner: owner.into(),
            created_ms: NOW_MS,
            shards: 4,
            ..BucketRecord::default()
        }
    }

    async fn make(&self, name: &str) -> Rc<Bucket> {
        match self.flat.create_bucket(Self::record(name, "u")).await.expect("made") {
            Creation::Made(bucket) => bucket,
            Creation::Taken(_) => panic!("{name} is taken"),
        }
    }

    async fn put(&self, bucket: &Bucket, key: &str) -> Result<Committed, CatalogueError> {
        let detail = Detail::default().to_bytes();
        let put = Put { key: key.to_owned().into(), detail, ..Put::default() };
        self.flat.put(bucket, put).await
    }

    /// Writes data as an upload does: announced, written, committed.
    async fn put_large(&self, bucket: &Bucket, key: &str, commit: bool) -> DataRef {
        let id = WriteId(clock::random());
        let data = DataRef { id, size: 9 << 20, stripe_bytes: STRIPE_BYTES, ..DataRef::default() };
        let key = Bytes::copy_from_slice(key.as_bytes());
        let intend = Intend { key: key.clone(), data, now_ms: NOW_MS, upload: None, renew: false };
        self.flat.intend(bucket, intend).await.expect("announced");
        for stripe in 0..data.stripes() {
            let offset = stripe * u64::from(STRIPE_BYTES);
            self.flat.write(bucket, data, offset, "x".into()).await.expect("written");
        }
        if commit {
            self.flat.put(bucket, commit_of(key, data)).await.expect("committed");
        }
        data
    }

    fn data_objects(&self) -> usize {
        self.cluster.names(DATA_POOL).len()
    }
}

/// The call that makes an object of data that was announced.
fn commit_of(key: Bytes, data: DataRef) -> Put {
    let part = ManifestPart { size: data.size, ..ManifestPart::default() };
    let (id, stripe_bytes) = (data.id, data.stripe_bytes);
    let manifest = Manifest { id, stripe_bytes, parts: vec![part], ..Manifest::default() };
    let detail = Detail { body: Body::Striped { manifest }, ..Detail::default() };
    let entry = Entry { size: data.size, striped: true, ..Entry::default() };
    let (detail, intent) = (detail.to_bytes(), Some(data));
    Put { key, entry, detail, intent, now_ms: NOW_MS, ..Put::default() }
}

/// The removal of the objects of these keys.
fn removal<K: Into<String>>(keys: impl IntoIterator<Item = K>) -> Remove {
    let item = |key: K| RemoveItem { key: key.into().into(), ..RemoveItem::default() };
    Remove { items: keys.into_iter().map(item).collect(), now_ms: NOW_MS, ..Remove::default() }
}

fn sweep() -> Sweep {
    Sweep { delay: Duration::ZERO, intent_age: Duration::ZERO, ..Sweep::default() }
}

fn refusal<T: std::fmt::Debug>(result: Result<T, CatalogueError>) -> Refusal {
    match result {
        Err(CatalogueError::Refused(refusal)) => refusal,
        other => panic!("not refused: {other:?}"),
    }
}

#[tokio::test]
async fn buckets_are_made_found_listed_and_removed() {
    let world = World::new();
    for name in ["bb", "ba", "bc"] {
        world.make(name).await;
    }
    let taken = world.flat.create_bucket(World::record("ba", "v")).await;
    assert!(matches!(taken, Ok(Creation::Taken(by)) if by.owner == "u"));
    assert_eq!(refusal(world.flat.bucket("none").await), Refusal::NoBucket {});
    let list = |after: &str, max| ListBuckets {
        owner: Some("u".into()),
        after: after.into(),
        max,
        ..ListBuckets::default()
    };
    let names = |page: BucketPage| {
        (page.buckets.into_iter().map(|b| b.name).collect::<Vec<_>>().join(" "), page.more)
    };
    assert_eq!(names(world.flat.buckets(list("", 2)).await.unwrap()), ("ba bb".into(), true));
    assert_eq!(names(world.flat.buckets(list("bb", 2)).await.unwrap()), ("bc".into(), false));

    let bucket = world.flat.bucket("bb").await.unwrap();
    world.put(&bucket, "k").await.unwrap();
    assert_eq!(refusal(world.flat.remove_bucket(&bucket).await), Refusal::NotEmpty {});
    world.put(&bucket, "k2").await.expect("a removal that was refused leaves the bucket open");
    world.flat.remove(&bucket, removal(["k", "k2"])).await.unwrap();
    world.flat.remove_bucket(&bucket).await.unwrap();
    assert_eq!(refusal(world.flat.bucket("bb").await), Refusal::NoBucket {});
    assert_eq!(refusal(world.put(&bucket, "late").await), Refusal::NoBucket {});

    let before = world.cluster.names(INDEX_POOL).len();
    sweep().clear_doomed(&world.flat).await.unwrap();
    assert_eq!(world.cluster.names(INDEX_POOL).len(), before - 4);
    assert_eq!(refusal(world.put(&bucket, "late").await), Refusal::NoBucket {});
    let again = world.make("bb").await;
    world.put(&again, "k").await.unwrap();
}

#[tokio::test]
async fn a_bucket_half_made_is_finished_by_its_owner_or_the_sweeper() {
    let world = World::new();
    let fault = |_: Place, _: &str, ops: &[Op]| match &ops[0] {
        Op::Exec { method, .. } if method == "init" => Some(Error::TimedOut("no answer".into())),
        _ => None,
    };
    world.cluster.fail_with(Some(Box::new(fault)));
    for name in ["half", "left"] {
        world.flat.create_bucket(World::record(name, "u")).await.expect_err("shards not made");
        assert_eq!(refusal(world.flat.bucket(name).await), Refusal::NoBucket {});
    }
    world.cluster.fail_with(None);
    let bucket = world.make("half").await;
    world.put(&bucket, "k").await.unwrap();
    sweep().scan(&world.flat).await.unwrap();
    let left = world.flat.bucket("left").await.expect("finished by the sweeper");
    world.put(&left, "k").await.unwrap();
}

#[tokio::test]
async fn a_removal_that_died_half_way_is_taken_back_by_the_next_writer() {
    let world = World::new();
    let bucket = world.make("b").await;
    let fault = |pool: Place, _: &str, ops: &[Op]| match &ops[0] {
        Op::Exec { method, .. } if pool == META_POOL && method == "remove" => {
            Some(Error::TimedOut("no answer".into()))
        }
        _ => None,
    };
    world.cluster.fail_with(Some(Box::new(fault)));
    world.flat.remove_bucket(&bucket).await.expect_err("its last step fails");
    world.cluster.fail_with(None);
    for key in ["a", "b", "c", "d", "e", "f", "g", "h"] {
        world.put(&bucket, key).await.expect("the bucket is there again");
    }
    assert_eq!(world.flat.usage(&bucket).await.unwrap().objects, 8);
}

#[tokio::test]
async fn listings_merge_the_shards() {
    let world = World::new();
    let bucket = world.make("b").await;
    let mut keys: Vec<String> = Vec::new();
    for i in 0..300 {
        keys.push(format!("k{i:03}"));
        keys.push(format!("dir{}/x{i}", i % 7));
    }
    for key in &keys {
        world.put(&bucket, key).await.unwrap();
    }
    keys.sort();
    for (prefix, delimiter) in
        [("", ""), ("", "/"), ("dir", "/"), ("dir3/", "/"), ("k1", "0"), ("z", "")]
    {
        let mut expected: Vec<String> = Vec::new();
        for key in keys.iter().filter(|key| key.starts_with(prefix)) {
            let cut = (!delimiter.is_empty())
                .then(|| key[prefix.len()..].find(delimiter))
                .flatten()
                .map_or(key.len(), |at| prefix.len() + at + delimiter.len());
            let name = key[..cut].to_owned();
            if expected.last() != Some(&name) {
                expected.push(name);
            }
        }
        for max in [1, 3, 10, 1000] {
            let mut listed = Vec::new();
            let mut list = List {
                prefix: prefix.to_owned().into(),
                delimiter: delimiter.to_owned().into(),
                from: Bytes::new(),
                max,
            };
            loop {
                let page = world.flat.list(&bucket, list.clone()).await.unwrap();
                assert!(page.items.len() <= max as usize);
                let names = page.items.iter().map(|item| item.name().to_vec());
                listed.extend(names.map(|name| String::from_utf8(name).unwrap()));
                match page.next {
                    Some(next) => list.from = next,
                    None => break,
                }
            }
            assert_eq!(listed, expected, "{prefix:?} {delimiter:?} {max}");
        }
    }
}

#[tokio::test]
async fn a_small_put_and_get_are_one_request_each() {
    let world = World::new();
    let bucket = world.make("b").await;
    world.flat.bucket("b").await.unwrap();
    // The owner's limits are looked up now and then, not each time.
    world.flat.limits_of(&bucket.owner).await.unwrap();
    let before = world.cluster.requests();
    let cached = world.flat.bucket("b").await.unwrap();
    world.put(&cached, "k").await.unwrap();
    assert_eq!(world.cluster.requests(), before + 1);
    let read = Read { key: "k".into(), body: true, version: None };
    assert!(world.flat.read(&bucket, read.clone()).await.unwrap().is_some());
    assert_eq!(world.cluster.requests(), before + 2);

    let change = SettingsChange::Versioning { versioning: Versioning::Enabled };
    world.flat.configure(&bucket, change).await.unwrap();
    let before = world.cluster.requests();
    assert!(world.put(&cached, "k").await.unwrap().entry.named);
    world.flat.remove(&bucket, removal(["k"])).await.unwrap();
    assert!(world.flat.read(&bucket, read).await.unwrap().unwrap().entry.delete_marker);
    assert_eq!(world.cluster.requests(), before + 3, "with versions as well");
}

#[tokio::test]
async fn replaced_removed_and_abandoned_data_is_swept_and_nothing_else() {
    let world = World::new();
    let bucket = world.make("b").await;
    world.put_large(&bucket, "kept", true).await;
    world.put_large(&bucket, "replaced", true).await;
    world.put_large(&bucket, "replaced", true).await;
    world.put_large(&bucket, "removed", true).await;
    let abandoned = world.put_large(&bucket, "abandoned", false).await;
    let given_up = world.put_large(&bucket, "given up", false).await;
    let cancel = Cancel { data: given_up, now_ms: NOW_MS };
    world.flat.cancel(&bucket, &"given up".into(), cancel).await.unwrap();
    world.flat.remove(&bucket, removal(["removed"])).await.unwrap();
    assert_eq!(world.data_objects(), 6 * 3);

    let held = world.flat.hold(given_up.id);
    sweep().sweep_dirty(&world.flat).await;
    assert_eq!(world.data_objects(), 4 * 3, "what is being read stays");
    drop(held);
    // What a scan finds abandoned becomes garbage, and goes with the next.
    for _ in 0..2 {
        sweep().scan(&world.flat).await.unwrap();
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    assert_eq!(world.data_objects(), 2 * 3);
    let detail = Detail::default().to_bytes();
    let late = Put { key: "abandoned".into(), intent: Some(abandoned), detail, ..Put::default() };
    assert_eq!(refusal(world.flat.put(&bucket, late).await), Refusal::NoIntent {});
    sweep().scan(&world.flat).await.unwrap();
    assert_eq!(world.data_objects(), 2 * 3);
}

/// As many as one page has, and more behind them.
#[tokio::test]
async fn what_is_being_read_keeps_no_other_garbage() {
    let world = World::new();
    let bucket = world.make("b").await;
    let mut holds = Vec::new();
    for _ in 0..10 {
        let data = world.put_large(&bucket, "k", true).await;
        holds.push(world.flat.hold(data.id));
    }
    for _ in 0..10 {
        world.put_large(&bucket, "k", true).await;
    }
    // Garbage of one moment comes in no order: what is held is among the first.
    let remove = Remove { now_ms: NOW_MS + 1, ..removal(["k"]) };
    world.flat.remove(&bucket, remove).await.unwrap();
    sweep().sweep_dirty(&world.flat).await;
    assert_eq!(world.data_objects(), 10 * 3);
    drop(holds);
    sweep().scan(&world.flat).await.unwrap();
    assert_eq!(world.data_objects(), 0);
}

#[tokio::test]
async fn a_failed_sweep_is_repeated_until_nothing_is_left() {
    let world = World::new();
    let bucket = world.make("b").await;
    world.put_large(&bucket, "k", true).await;
    world.flat.remove(&bucket, removal(["k"])).await.unwrap();
    let fault = |pool: Place, object: &str, _: &[Op]| {
        (pool == DATA_POOL && object.ends_with(".1")).then(|| Error::Unavailable("away".into()))
    };
    world.cluster.fail_with(Some(Box::new(fault)));
    sweep().sweep_dirty(&world.flat).await;
    assert!(world.data_objects() >= 1);
    world.cluster.fail_with(None);
    sweep().scan(&world.flat).await.unwrap();
    assert_eq!(world.data_objects(), 0);
}

/// A full cluster that refuses batches takes removals one by one, and its garbage does not wait.
#[tokio::test]
async fn a_full_cluster_is_emptied_at_once() {
    let world = World::new();
    let bucket = world.make("b").await;
    let keys: Vec<String> = (0..20).map(|n| format!("k{n}")).collect();
    for key in &keys {
        world.put_large(&bucket, key, true).await;
    }
    let fault = |_: Place, _: &str, ops: &[Op]| {
        let refused = match &ops[0] {
            Op::Write { .. } => true,
            Op::Exec { method, input, .. } if method == "remove" => input.len() > 48,
            _ => false,
        };
        refused.then(|| Error::Full("no room".into()))
    };
    world.cluster.fail_with(Some(Box::new(fault)));
    let remove = Remove { now_ms: clock::timestamp().millis(), ..removal(keys) };
    let gone = world.flat.remove(&bucket, remove).await.expect("removed");
    assert!(gone.iter().all(|outcome| outcome.as_ref().is_ok_and(|gone| gone.entry.is_some())));
    tokio::time::sleep(Duration::from_millis(2)).await;
    Sweep { delay: Duration::from_secs(3600), ..sweep() }.sweep_dirty(&world.flat).await;
    assert_eq!(world.data_objects(), 0);
}

fn versions(max: u32) -> ListVersions {
    ListVersions { max, ..ListVersions::default() }
}

#[tokio::test]
async fn settings_are_in_force_on_every_shard_whatever_a_gateway_has_cached() {
    let world = World::new();
    let stale = world.make("b").await;
    let other = Flat::new(world.cluster.clone(), Commons::default());
    let change = SettingsChange::Versioning { versioning: Versioning::Enabled };
    other.configure(&stale, change.clone()).await.unwrap();
    for key in ["a", "b", "c", "d", "e", "f"] {
        world.put(&stale, key).await.unwrap();
        assert!(world.put(&stale, key).await.unwrap().entry.named);
    }
    assert_eq!(world.flat.bucket_now("b").await.unwrap().settings.revision, 1);
    let mut list = versions(5);
    let mut listed = Vec::new();
    loop {
        let page = world.flat.versions(&stale, list.clone()).await.unwrap();
        listed.extend(page.items);
        match page.next {
            Some(next) => list.from = next,
            None => break,
        }
    }
    let lines: Vec<_> = listed
        .iter()
        .map(|item| match item {
            VersionItem::Version { key, latest, .. } => (key[0], *latest),
            VersionItem::Prefix { .. } => panic!("no delimiter was given"),
        })
        .collect();
    let expected: Vec<_> = (b'a'..=b'f').flat_map(|key| [(key, true), (key, false)]).collect();
    assert_eq!(lines, expected);

    // A change that reached some shards only is brought to the others by whoever knows of it.
    let fault = |_: Place, object: &str, ops: &[Op]| match &ops[0] {
        Op::Exec { method, .. } if method == "configure" && object.ends_with(".1") => {
            Some(Error::TimedOut("no answer".into()))
        }
        _ => None,
    };
    let half = world.make("half").await;
    world.cluster.fail_with(Some(Box::new(fault)));
    world.flat.configure(&half, change).await.expect_err("a shard that does not answer");
    world.cluster.fail_with(None);
    let half = world.flat.bucket_now("half").await.unwrap();
    for key in ["a", "b", "c", "d", "e", "f", "g", "h"] {
        assert!(world.put(&half, key).await.unwrap().entry.named, "{key}");
    }
}

#[tokio::test]
async fn a_bucket_with_versions_is_not_empty_and_their_data_is_kept() {
    let world = World::new();
    let bucket = world.make("b").await;
    let change = SettingsChange::Versioning { versioning: Versioning::Enabled };
    world.flat.configure(&bucket, change).await.unwrap();
    for _ in 0..2 {
        world.put_large(&bucket, "k", true).await;
    }
    world.flat.remove(&bucket, removal(["k"])).await.unwrap();
    sweep().scan(&world.flat).await.unwrap();
    assert_eq!(world.data_objects(), 2 * 3, "older versions keep their data");
    assert_eq!(refusal(world.flat.remove_bucket(&bucket).await), Refusal::NotEmpty {});
    let page = world.flat.versions(&bucket, versions(9)).await.unwrap();
    let item = |item: &VersionItem| match item {
        VersionItem::Version { key, entry, .. } => {
            RemoveItem { key: key.clone(), version: Some(entry.version()), ..RemoveItem::default() }
        }
        VersionItem::Prefix { .. } => panic!("no delimiter was given"),
    };
    let items: Vec<_> = page.items.iter().map(item).collect();
    assert_eq!(items.len(), 3);
    world.flat.remove(&bucket, Remove { items, ..removal([""; 0]) }).await.unwrap();
    tokio::time::sleep(Duration::from_millis(2)).await;
    sweep().scan(&world.flat).await.unwrap();
    assert_eq!(world.data_objects(), 0);
    world.flat.remove_bucket(&bucket).await.unwrap();
}

/// A pool reached its quota: what is in others lies as long as ever.
#[tokio::test]
async fn a_pool_without_room_is_emptied_at_once_and_no_other() {
    let world = World::new();
    let elsewhere = PoolId(7);
    let record = BucketRecord { data_pool: elsewhere, ..World::record("full", "u") };
    let made = world.flat.create_bucket(record).await.expect("made");
    let Creation::Made(full) = made else { panic!("taken") };
    let buckets = [world.make("b").await, full];
    for bucket in &buckets {
        world.put_large(bucket, "k", true).await;
        let remove = Remove { now_ms: clock::timestamp().millis(), ..removal(["k"]) };
        world.flat.remove(bucket, remove).await.unwrap();
    }
    let fault = move |pool: Place, _: &str, ops: &[Op]| {
        let refused = pool == Place::Placed(elsewhere) && matches!(ops[0], Op::Write { .. });
        refused.then(|| Error::Quota("no room".into()))
    };
    world.cluster.fail_with(Some(Box::new(fault)));
    let data = DataRef { size: 1, stripe_bytes: STRIPE_BYTES, ..DataRef::default() };
    world.flat.write(&buckets[1], data, 0, "x".into()).await.expect_err("no room");
    tokio::time::sleep(Duration::from_millis(2)).await;
    Sweep { delay: Duration::from_secs(3600), ..sweep() }.sweep_dirty(&world.flat).await;
    let left = |place| world.cluster.names(place).len();
    assert_eq!((left(Place::Placed(elsewhere)), left(DATA_POOL)), (0, 3));
}
