//! The library over real sockets: what callers are promised holds while daemons die and monitors restart.
//! The daemons are played (`cluster/mod.rs`); what is proved here is the client's part.
#![cfg(feature = "shell")]
#![allow(missing_docs)]

mod cluster;

use bytes::Bytes;
use cluster::{Cluster, POOL};
use futures_util::stream::{self, StreamExt, TryStreamExt};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use store_base::error::Error;
use store_base::op::Op;
use store_base::{DaemonId, ObjectName};
use store_client::{Cursor, Options, Striper, WatchEvent};
use tokio::time::{sleep, timeout};

fn name(text: impl ToString) -> ObjectName {
    ObjectName::new(text.to_string().into_bytes())
}

#[tokio::test]
async fn objects_go_in_and_out() {
    let cluster = Cluster::start(2).await;
    let client = cluster.client().await;
    assert_eq!(client.pool("p").await, Ok(POOL));
    assert!(matches!(client.pool("q").await, Err(Error::NotFound(_))));
    let object = name("a");
    assert!(matches!(client.stat(POOL, &object).await, Err(Error::NotFound(_))));
    client.write_full(POOL, &object, "hello".into()).await.expect("written");
    assert_eq!(client.read(POOL, &object, 1, 3).await, Ok(Bytes::from("ell")));
    assert_eq!(client.stat(POOL, &object).await.expect("there").size, 5);
    client.set_xattr(POOL, &object, "x", "1".into()).await.expect("set");
    assert_eq!(client.xattr(POOL, &object, "x").await, Ok(Bytes::from("1")));
    let ops = vec![Op::Stat {}, Op::Create { exclusive: true }, Op::Delete {}];
    let reply = client.attempt(POOL, &object, ops, Options::default()).await.expect("answered");
    assert_eq!(reply.failed(), Some((1, -17)), "the second op failed, the third was not tried");
    client.delete(POOL, &object).await.expect("removed");
    assert!(matches!(client.delete(POOL, &object).await, Err(Error::NotFound(_))));
    let command = serde_json::json!({"prefix": "echo"});
    let output = client.command(&command, Bytes::new()).await.expect("known");
    assert_eq!(output.json(), Ok(command));
    let unknown = client.command(&serde_json::json!({"prefix": "x"}), Bytes::new()).await;
    assert_eq!(unknown, Err(Error::Invalid("no such command".into())));
}

#[tokio::test]
async fn large_objects_and_streams_are_cut_and_come_back_whole() {
    let cluster = Cluster::start(3).await;
    let client = cluster.client().await;
    let data: Bytes = (0..5_300_001u32).map(|i| (i * 7 / 3) as u8).collect();
    let object = name("large");
    client.put_large(POOL, &object, data.clone()).await.expect("written");
    assert_eq!(client.read_large(POOL, &object, 0, 0).await.expect("read").concat(), data);
    let part = client.read_large(POOL, &object, 1_000_000, 2_000_000).await.expect("read");
    assert_eq!(part.concat(), data.slice(1_000_000..3_000_000));
    let stat = client.stat(POOL, &object).await.expect("there");
    client.write(POOL, &object, 3, "new".into()).await.expect("written");
    let torn = client.read_stream(POOL, &object, &stat).try_collect::<Vec<_>>().await;
    assert!(matches!(torn, Err(Error::Conflict(_))), "two versions are never mixed");

    let striper = Striper::new(client.clone(), POOL);
    let object = name("striped");
    let pieces = |data: &Bytes| {
        let cuts: Vec<_> = data.chunks(777_777).map(Bytes::copy_from_slice).map(Ok).collect();
        stream::iter(cuts)
    };
    for round in 0..3usize {
        let data = data.slice(round..data.len() - round);
        let size = striper.put(&object, pieces(&data)).await.expect("written");
        assert_eq!(size, data.len() as u64);
        let reader = striper.get(&object).await.expect("there");
        let back: Vec<Bytes> = reader.into_stream().try_collect().await.expect("read");
        assert_eq!(back.concat(), data);
    }
    let range = striper.get_range(&object, 4_194_300, 4_194_310).await.expect("there");
    let back: Vec<Bytes> = range.into_stream().try_collect().await.expect("read");
    assert_eq!(back.concat(), data.slice(4_194_302..4_194_312));
    // A stream that breaks off leaves the old one, and no stripes.
    let count =
        async || client.list(POOL, Cursor::default(), 1000).await.expect("listed").objects.len();
    let before = count().await;
    let broken = pieces(&data).chain(stream::iter([Err(Error::Invalid("broken".into()))]));
    assert_eq!(striper.put(&object, broken).await, Err(Error::Invalid("broken".into())));
    assert_eq!(count().await, before, "two stripes, the head, and the large object");
    assert_eq!(before, 4);
    striper.remove(&object).await.expect("removed");
    assert_eq!(count().await, 1);
}

#[tokio::test]
async fn a_listing_shows_each_object_once() {
    let cluster = Cluster::start(2).await;
    let client = cluster.client().await;
    for i in 0..50 {
        client.write_full(POOL, &name(i), Bytes::new()).await.expect("written");
    }
    for page_size in [1, 7, 1000] {
        let (mut cursor, mut found) = (Some(Cursor::default()), Vec::new());
        while let Some(from) = cursor {
            let page = client.list(POOL, from, page_size).await.expect("listed");
            assert!(page.objects.len() <= page_size);
            found.extend(page.objects.into_iter().map(|object| object.to_string()));
            cursor = page.next;
        }
        found.sort();
        found.dedup();
        assert_eq!(found.len(), 50, "pages of {page_size}");
    }
}

/// Appends under load while daemons are killed, marked down late, and come back: every call succeeds, and every
/// append is there exactly once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn appends_survive_dying_daemons_and_happen_once() {
    let mut cluster = Cluster::start(3).await;
    let client = cluster.client().await;
    // However fast the machine is, they write until the last daemon has died.
    let over = Arc::new(AtomicBool::new(false));
    let writers: Vec<_> = (0..8)
        .map(|writer| {
            let (client, over) = (client.clone(), over.clone());
            tokio::spawn(async move {
                let mut i = 0u32;
                while !over.load(Ordering::Relaxed) {
                    let data = Bytes::from(format!("{writer}:{i} "));
                    let ops = vec![Op::Append { data }];
                    let object = name(i % 16);
                    let done = client.operate(POOL, &object, ops, Options::default());
                    done.await.expect("no error ever");
                    i += 1;
                }
                i
            })
        })
        .collect();
    for round in 0..6 {
        let id = DaemonId(round % 3);
        sleep(Duration::from_millis(30)).await;
        cluster.kill(id).await;
        sleep(Duration::from_millis(50)).await;
        if round % 2 == 0 {
            cluster.mark_down(id);
            sleep(Duration::from_millis(30)).await;
        }
        cluster.boot(id).await;
    }
    over.store(true, Ordering::Relaxed);
    let mut written = 0;
    for writer in writers {
        let ended = timeout(Duration::from_secs(20), writer).await.expect("in time");
        written += ended.expect("no panic") as usize;
    }
    let mut seen: BTreeMap<String, u32> = BTreeMap::new();
    for i in 0..16 {
        let data = client.read_large(POOL, &name(i), 0, 0).await.expect("read").concat();
        for word in String::from_utf8(data).expect("text").split_whitespace() {
            *seen.entry(word.to_string()).or_default() += 1;
        }
    }
    assert_eq!(seen.len(), written);
    assert!(seen.values().all(|count| *count == 1));
    let memory = cluster.memory();
    assert!(memory.executed.values().all(|count| *count == 1));
    assert!(memory.resent > 0, "the story was eventful");
}

#[tokio::test]
async fn losing_the_monitor_stops_no_requests_and_its_return_is_noticed() {
    let mut cluster = Cluster::start(2).await;
    let client = cluster.client().await;
    cluster.kill_monitor().await;
    client.write_full(POOL, &name("a"), "1".into()).await.expect("daemons need no monitor");
    cluster.kill(DaemonId(0)).await;
    cluster.mark_down(DaemonId(0)); // nobody is there to tell
    let writing: Vec<_> = (0..16)
        .map(|i| {
            let client = client.clone();
            tokio::spawn(async move { client.write_full(POOL, &name(i), "2".into()).await })
        })
        .collect();
    sleep(Duration::from_millis(200)).await;
    assert!(!writing.iter().all(|write| write.is_finished()), "some were led by the dead daemon");
    cluster.start_monitor();
    for write in writing {
        let write = timeout(Duration::from_secs(10), write).await.expect("in time");
        write.expect("no panic").expect("written");
    }
    let output = client.command(&serde_json::json!({"prefix": "echo"}), Bytes::new()).await;
    assert!(output.is_ok());
}

#[tokio::test]
async fn a_deadline_is_kept_and_says_what_it_knows() {
    let mut cluster = Cluster::start(1).await;
    let client = cluster.client().await;
    client.write_full(POOL, &name("a"), "1".into()).await.expect("written");
    cluster.kill(DaemonId(0)).await;
    sleep(Duration::from_millis(50)).await;
    let options = Options { deadline: Some(Duration::from_millis(300)), ..Options::default() };
    let ops = vec![Op::WriteFull { data: "2".into() }];
    let object = name("a");
    let late = client.operate(POOL, &object, ops, options);
    let error =
        timeout(Duration::from_secs(2), late).await.expect("in time").expect_err("nobody there");
    assert!(
        matches!(&error, Error::Unavailable(text) if text.contains("nothing was done")),
        "{error:?}"
    );
}

#[tokio::test]
async fn who_gives_up_waiting_leaves_nothing_behind() {
    let mut cluster = Cluster::start(1).await;
    let mut config = cluster.config();
    config.limits.ops_in_flight_max = 4;
    let client = store_client::StoreClient::connect(config).await.expect("there");
    client.write_full(POOL, &name("a"), "1".into()).await.expect("written");
    cluster.kill(DaemonId(0)).await;
    for _ in 0..100 {
        let object = name("a");
        let hopeless = client.write_full(POOL, &object, "2".into());
        assert!(timeout(Duration::from_millis(2), hopeless).await.is_err());
    }
    // Were they still in flight, four of them would block everybody else for half a minute.
    cluster.boot(DaemonId(0)).await;
    let object = name("b");
    let write = client.write_full(POOL, &object, "3".into());
    timeout(Duration::from_secs(5), write).await.expect("in time").expect("written");
}

#[tokio::test]
async fn a_watch_hears_and_tells_of_gaps() {
    let mut cluster = Cluster::start(2).await;
    let client = cluster.client().await;
    let object = name("watched");
    let long = Duration::from_secs(30);
    assert!(matches!(client.watch(POOL, &object, long).await, Err(Error::NotFound(_))));
    client.write_full(POOL, &object, "1".into()).await.expect("written");
    let mut watch = client.watch(POOL, &object, long).await.expect("begun");
    let told = client.notify(POOL, &object, "ping".into(), long).await.expect("told");
    assert_eq!(told.answers.len(), 1);
    let Some(WatchEvent::Notified(notification)) = watch.next().await else {
        panic!("a notification");
    };
    assert_eq!(notification.payload, "ping");
    watch.acknowledge(&notification, "pong".into()).await.expect("answered");
    let pg = client.osd_map().borrow().pg_of(POOL, &object).expect("a pool");
    let leader = client.osd_map().borrow().pgs[&pg].primary;
    cluster.kill(leader).await;
    cluster.mark_down(leader);
    let event = timeout(Duration::from_secs(10), watch.next()).await.expect("in time");
    assert_eq!(event, Some(WatchEvent::Gap));
    drop(watch);
    sleep(Duration::from_millis(100)).await;
    let told = client.notify(POOL, &object, "ping".into(), long).await.expect("told");
    assert_eq!(told.answers, [], "the watch ended with its value");
}
