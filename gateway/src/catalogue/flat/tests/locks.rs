//! Locks of data where a gateway dies between the index and the data.

use super::*;
use crate::catalogue::chores::Chores;
use crate::catalogue::chores::deliver::Delivery;
use crate::s3::lifecycle::Calendar;
use store_shell::shutdown::Shutdown;

impl World {
    /// Makes a bucket with object lock, and with a retention for everything.
    async fn make_locking(&self, retention: Option<LockMode>) -> Rc<Bucket> {
        let bucket = self.make("locks").await;
        let retention = retention.map(|mode| DefaultRetention { mode, count: 1, years: false });
        for change in [
            SettingsChange::Versioning { versioning: Versioning::Enabled },
            SettingsChange::Lock { retention },
        ] {
            self.flat.configure(&bucket, change).await.expect("configured");
        }
        self.flat.bucket_now("locks").await.expect("there")
    }

    /// How many of the data objects refuse a raw delete; the others go.
    fn data_objects_that_stay(&self) -> usize {
        let delete = |name: &String| {
            let done = self.cluster.operate_now(DATA_POOL, name.clone(), &[Op::Delete {}], false);
            matches!(done, Err(Error::Denied(_)))
        };
        self.cluster.names(DATA_POOL).iter().filter(|name| delete(name)).count()
    }
}

fn data_cannot_be_locked() -> Option<crate::cluster::memory::Fault> {
    Some(Box::new(|pool, _, ops| match &ops[0] {
        Op::Exec { .. } if pool == DATA_POOL => Some(Error::TimedOut("no answer".into())),
        _ => None,
    }))
}

#[tokio::test]
async fn data_that_a_dead_gateway_left_unlocked_is_locked_by_a_worker() {
    let world = World::new();
    let bucket = world.make_locking(Some(LockMode::Compliance)).await;
    let data = world.put_large(&bucket, "k", false).await;
    world.cluster.fail_with(data_cannot_be_locked());
    let put = world.flat.put(&bucket, commit_of("k".into(), data)).await;
    assert!(matches!(put, Err(CatalogueError::Cluster(_))), "the version is not refused: {put:?}");
    world.cluster.fail_with(None);
    let calendar = Calendar { day_ms: 86_400_000 };
    let chores = Chores::new(calendar, Duration::ZERO, Arc::default(), Delivery::default());
    chores.look_through(&world.flat, &Shutdown::new()).await.expect("looked through");
    assert_eq!(world.data_objects_that_stay(), 3);
}

/// A hold that the version has not got any more, or never had.
#[tokio::test]
async fn a_hold_that_was_left_on_data_keeps_no_garbage() {
    for mode in [None, Some(LockMode::Governance), Some(LockMode::Compliance)] {
        let world = World::new();
        let bucket = world.make_locking(mode).await;
        world.put_large(&bucket, "k", true).await;
        let page = world.flat.versions(&bucket, versions(1)).await.expect("listed");
        let VersionItem::Version { key, entry, .. } = &page.items[0] else { panic!("a version") };
        let lock = ObjectLock { hold: Some(true), ..entry.lock };
        for object in world.cluster.names(DATA_POOL) {
            let lock = LockBody { lock, bypass: false };
            let done: Answer<Nothing> =
                world.flat.exec(DATA_POOL, object, BODY_CLASS, "lock", &lock).await.expect("asked");
            assert_eq!(done.0, Ok(Nothing {}));
        }
        let version = Some(entry.version());
        let item = RemoveItem { key: key.clone(), version, ..RemoveItem::default() };
        let remove = Remove { items: vec![item], bypass: true, ..removal([""; 0]) };
        let gone = world.flat.remove(&bucket, remove).await.expect("asked");
        let compliance = mode == Some(LockMode::Compliance);
        assert_eq!(gone[0].is_err(), compliance, "{mode:?}: {gone:?}");
        sweep().sweep_dirty(&world.flat).await;
        assert_eq!(world.data_objects(), if compliance { 3 } else { 0 }, "{mode:?}");
    }
}

/// A version that is there and whose data cannot be locked, not even the second time: whoever counts refusals as
/// changes that were not made must not see one.
#[tokio::test]
async fn what_hinders_the_locking_of_data_is_no_refusal_of_its_version() {
    let world = World::new();
    let bucket = world.make_locking(Some(LockMode::Compliance)).await;
    let data = world.put_large(&bucket, "k", false).await;
    for object in world.cluster.names(DATA_POOL) {
        world.cluster.operate_now(DATA_POOL, object, &[Op::Delete {}], false).expect("deleted");
    }
    let put = world.flat.put(&bucket, commit_of("k".into(), data)).await;
    assert!(matches!(put, Err(CatalogueError::Cluster(Error::Unavailable(_)))), "{put:?}");
    assert_eq!(world.flat.usage(&bucket).await.expect("usage").objects, 1);
}
