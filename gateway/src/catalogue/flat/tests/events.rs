//! Events that cannot be delivered: they are given up in time, and cost little until then.

use super::*;
use crate::catalogue::chores::Chores;
use crate::catalogue::chores::deliver::Delivery;
use crate::s3::access::rules::document;
use crate::s3::lifecycle::Calendar;
use crate::webhook::Webhooks;
use std::sync::atomic::{AtomicU64, Ordering};
use store_shell::shutdown::Shutdown;

fn chores(webhooks: &[&str], every: Duration) -> Chores {
    let webhooks: Vec<String> = webhooks.iter().map(|webhook| (*webhook).to_owned()).collect();
    let webhooks = Webhooks::parse(&webhooks).expect("endpoints");
    let delivery = Delivery { webhooks, ..Delivery::default() };
    Chores::new(Calendar { day_ms: 86_400_000 }, every, Arc::default(), delivery)
}

/// Makes a bucket, and in it an object that an endpoint is to be told of.
async fn told(flat: &Flat<MemoryCluster>, endpoint: &str) -> Rc<Bucket> {
    let made = flat.create_bucket(World::record("b", "u")).await.expect("made");
    let Creation::Made(bucket) = made else { panic!("taken") };
    let set = SetDocument {
        name: bucket.name.clone(),
        id: bucket.id,
        document: document::NOTIFIED.to_owned(),
        value: "1".into(),
        expected: ExpectedDocuments::default(),
    };
    flat.set_document(set).await.expect("set");
    let notice = Notice { endpoint: endpoint.into(), ..Notice::default() };
    let notes = Some(Notes { notices: vec![notice], ..Notes::default() });
    let detail = Detail::default().to_bytes();
    let put = Put { key: "k".into(), detail, notes, ..Put::default() };
    flat.put(&bucket, put).await.expect("put");
    flat.bucket_now("b").await.expect("there")
}

async fn waiting(flat: &Flat<MemoryCluster>, bucket: &Bucket) -> u64 {
    flat.heads(bucket).await.expect("heads").values().map(|head| head.events).sum()
}

#[tokio::test]
async fn a_gateway_that_knows_no_endpoint_gives_up_what_is_too_old() {
    let cluster = MemoryCluster::default();
    let flat = Rc::new(Flat::new(cluster.clone(), Commons::default()));
    let bucket = told(&flat, "hook").await;
    let (shutdown, chores) = (Shutdown::new(), chores(&[], Duration::from_millis(10)));
    let look = async {
        tokio::time::sleep(Duration::from_millis(600)).await;
        assert_eq!(waiting(&flat, &bucket).await, 1, "others may know the endpoint");
        cluster.advance(25 * 3600);
        let until = clock::now() + Duration::from_secs(20);
        while waiting(&flat, &bucket).await > 0 {
            assert!(clock::now() < until, "the event stays");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        shutdown.trigger();
    };
    tokio::join!(look, chores.run(flat.clone(), shutdown.clone()));
}

#[tokio::test]
async fn a_dead_endpoint_beside_another_is_asked_when_its_pause_is_over() {
    let cluster = MemoryCluster::default();
    let flat = Rc::new(Flat::new(cluster.clone(), Commons::default()));
    let bucket = told(&flat, "dead").await;
    let writes = Arc::new(AtomicU64::new(0));
    let counted = writes.clone();
    cluster.fail_with(Some(Box::new(move |pool, _, ops| {
        if let Op::Exec { class, method, .. } = &ops[0]
            && pool == INDEX_POOL
            && class::method(class, method).is_some_and(|m| m.kind == MethodKind::Write)
        {
            counted.fetch_add(1, Ordering::Relaxed);
        }
        None
    })));
    // Nobody listens at the one, and nothing is for the other.
    let webhooks = ["dead=http://127.0.0.1:1/", "well=http://127.0.0.1:2/"];
    let (shutdown, chores) = (Shutdown::new(), chores(&webhooks, Duration::from_secs(60)));
    let look = async {
        tokio::time::sleep(Duration::from_millis(2500)).await;
        shutdown.trigger();
    };
    let local = tokio::task::LocalSet::new();
    let both = async { tokio::join!(look, chores.run(flat.clone(), shutdown.clone())) };
    local.run_until(both).await;
    // After 0, 500 and 1500 ms the work is taken and reported.
    let writes = writes.load(Ordering::Relaxed);
    assert!((2..=8).contains(&writes), "{writes} writes");
    assert_eq!(waiting(&flat, &bucket).await, 1);
}
