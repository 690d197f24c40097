//! Buckets that are removed by several at once, by some who die, and while others write.

use super::*;
use crate::catalogue::chores::Chores;
use crate::catalogue::chores::deliver::Delivery;
use crate::s3::access::rules::document;
use crate::s3::lifecycle::Calendar;
use store_shell::shutdown::Shutdown;

/// What of a removal is not answered.
fn unanswered(step: &'static str) -> Option<crate::cluster::memory::Fault> {
    Some(Box::new(move |_, _, ops| match &ops[0] {
        Op::Exec { class, method, .. } if class == REGISTRY_CLASS && method == step => {
            Some(Error::TimedOut("no answer".into()))
        }
        _ => None,
    }))
}

/// A first removal dies, a writer takes it back, a second one seals the bucket before the writer comes to unseal it.
#[tokio::test]
async fn the_end_of_one_removal_takes_no_seals_of_the_next_away() {
    let world = World::new();
    let bucket = world.make("b").await;
    world.cluster.fail_with(unanswered("remove"));
    world.flat.remove_bucket(&bucket).await.expect_err("its last step fails");
    world.cluster.fail_with(None);
    let (name, registry) = (bucket.name.clone(), registry_name("b"));
    let named = NamedBucket { name, id: bucket.id, removing: 0 };
    let over: Answer<u64> = world.flat.registry(registry, "reprieve", &named).await.unwrap();

    let other = Flat::new(world.cluster.clone(), Commons::default());
    world.cluster.fail_with(unanswered("remove"));
    other.remove_bucket(&bucket).await.expect_err("its last step is yet to come");
    world.cluster.fail_with(None);
    for shard in 0..bucket.shards {
        let unseal = Seal { removal: over.0.clone().unwrap() };
        let done: Answer<Nothing> =
            world.flat.shard(&bucket, shard, "unseal", &unseal).await.unwrap();
        assert_eq!(done.0, Ok(Nothing {}));
        let put = Put { key: "k".into(), detail: Detail::default().to_bytes(), ..Put::default() };
        let done: Answer<Committed> = world.flat.shard(&bucket, shard, "put", &put).await.unwrap();
        assert_eq!(done.0, Err(Refusal::NoBucket {}), "shard {shard}");
    }
}

/// A part of an upload that was acknowledged, in a bucket whose removal came to nothing.
#[tokio::test]
async fn a_removal_that_is_not_at_its_end_costs_no_upload() {
    let world = World::new();
    let bucket = world.make("b").await;
    let (id, key) = (WriteId(clock::random()), Bytes::from_static(b"k"));
    let begin = Begin { key: key.clone(), id, ..Begin::default() };
    world.flat.begin(&bucket, begin).await.expect("begun");
    let data = DataRef { id, part: 1, size: 5, stripe_bytes: STRIPE_BYTES, ..DataRef::default() };
    let now_ms = NOW_MS;
    let intend = Intend { key: key.clone(), data, upload: Some(id), now_ms, renew: false };
    world.flat.intend(&bucket, intend).await.expect("announced");
    world.flat.write(&bucket, data, 0, "12345".into()).await.expect("written");
    let part = Part { data, ..Part::default() };
    let add = AddPart { key: key.clone(), id, part, now_ms };
    world.flat.add_part(&bucket, add).await.expect("acknowledged");

    world.cluster.fail_with(unanswered("remove"));
    world.flat.remove_bucket(&bucket).await.expect_err("its last step fails");
    world.cluster.fail_with(None);
    for _ in 0..2 {
        sweep().scan(&world.flat).await.unwrap();
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    let parts = Parts { key, id, after: 0, max: 10 };
    let page = world.flat.parts(&bucket, parts).await.expect("the upload is there");
    assert_eq!((page.parts.len(), world.data_objects()), (1, 1));
}

/// One removed bucket cannot be cleared: the others are, and what else there is to sweep is swept.
#[tokio::test]
async fn a_bucket_that_cannot_be_cleared_keeps_none_waiting() {
    let world = World::new();
    let mut buckets = Vec::new();
    for n in 0..20 {
        buckets.push(world.make(&format!("b{n}")).await);
    }
    let kept = world.make("kept").await;
    world.put_large(&kept, "k", true).await;
    world.flat.remove(&kept, removal(["k"])).await.unwrap();
    for bucket in &buckets {
        world.flat.remove_bucket(bucket).await.expect("removed");
    }
    let stuck = format!("{}.", buckets[0].id);
    world.cluster.fail_with(Some(Box::new(move |_, object, _| {
        object.starts_with(&stuck).then(|| Error::Unavailable("away".into()))
    })));
    tokio::time::sleep(Duration::from_millis(2)).await;
    sweep().scan(&world.flat).await.expect("scanned");
    world.cluster.fail_with(None);
    assert_eq!(world.data_objects(), 0);
    assert_eq!(world.cluster.names(INDEX_POOL).len(), 2 * 4, "of the stuck one and the kept one");
}

/// A splitter made a shard and died, and then the bucket was removed.
#[tokio::test]
async fn a_shard_that_was_made_and_not_filled_goes_with_its_bucket() {
    let world = World::new();
    let bucket = world.make("b").await;
    let child = child_of(bucket.shards, 1, 0).expect("few shards");
    let (roots, settings) = (bucket.shards, bucket.settings.clone());
    let sprout = Sprout { bucket: bucket.id, settings, roots, shard: child };
    let made: Answer<Nothing> =
        world.flat.shard(&bucket, child, "sprout", &sprout).await.expect("made");
    assert_eq!(made.0, Ok(Nothing {}));
    world.flat.remove_bucket(&bucket).await.expect("removed");
    sweep().clear_doomed(&world.flat).await.expect("cleared");
    assert_eq!(world.cluster.names(INDEX_POOL).len(), 0);
}

/// A removal is at its last step, for long: the workers that come by leave it alone, and it is not told that the bucket is
/// gone when a writer takes it back.
#[tokio::test]
async fn workers_take_no_removal_back_and_writers_do() {
    let world = World::new();
    let bucket = world.make("b").await;
    let lifecycle = SetDocument {
        name: "b".into(),
        id: bucket.id,
        document: document::LIFECYCLE.to_owned(),
        value: "<LifecycleConfiguration><Rule><Status>Enabled</Status><Filter/><Expiration>\
                <Days>1</Days></Expiration></Rule></LifecycleConfiguration>"
            .into(),
        expected: ExpectedDocuments::default(),
    };
    world.flat.set_document(lifecycle).await.expect("set");
    let seen = world.flat.bucket_now("b").await.expect("there");
    world.cluster.fail_with(unanswered("remove"));
    world.flat.remove_bucket(&bucket).await.expect_err("its last step is yet to come");
    world.cluster.fail_with(None);

    let calendar = Calendar { day_ms: 86_400_000 };
    let chores = Chores::new(calendar, Duration::ZERO, Arc::default(), Delivery::default());
    let shutdown = Shutdown::new();
    // With the record from before the removal.
    let done = chores.lifecycle(&world.flat, &seen, &shutdown).await;
    assert_eq!(refusal(done), Refusal::NoBucket {});
    let named = NamedBucket { name: "b".into(), id: bucket.id, removing: 0 };
    let registry = || registry_name("b");
    let read = ReadBucket { name: "b".into() };
    let record: Option<BucketRecord> =
        world.flat.registry(registry(), "read", &read).await.expect("read");
    let removing = record.expect("there").removing;
    assert_eq!(removing, 1, "it goes on");

    world.put(&bucket, "k").await.expect("a client waits no longer");
    let last = NamedBucket { removing, ..named };
    let late: Answer<Nothing> =
        world.flat.registry(registry(), "remove", &last).await.expect("asked");
    assert_eq!(late.0, Err(Refusal::TakenBack {}));
    let told: crate::s3::error::S3Error = CatalogueError::Refused(Refusal::TakenBack {}).into();
    assert_eq!(told.code, crate::s3::error::Code::OperationAborted);
}

/// A shard that stays closed though the bucket is there: to a client the bucket is not gone.
#[tokio::test]
async fn a_bucket_that_is_there_is_never_called_gone() {
    let world = World::new();
    let bucket = world.make("b").await;
    world.cluster.fail_with(unanswered("remove"));
    world.flat.remove_bucket(&bucket).await.expect_err("its last step fails");
    world.cluster.fail_with(None);
    for shard in 0..bucket.shards {
        // The next removal, whose mark nobody has seen yet.
        let seal = Seal { removal: 9 };
        let done: Answer<Nothing> = world.flat.shard(&bucket, shard, "seal", &seal).await.unwrap();
        assert_eq!(done.0, Ok(Nothing {}));
    }
    let put = world.put(&bucket, "k").await;
    assert!(matches!(put, Err(CatalogueError::Cluster(Error::Unavailable(_)))), "{put:?}");
}
