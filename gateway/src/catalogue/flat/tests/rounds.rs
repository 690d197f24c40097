//! Rounds of the workers.

use super::*;
use crate::catalogue::chores::deliver::Delivery;
use crate::catalogue::chores::{Chores, LIFECYCLE_WORK};
use crate::s3::access::rules::document;
use crate::s3::lifecycle::Calendar;
use store_shell::shutdown::Shutdown;

#[tokio::test]
async fn the_end_of_yesterdays_round_is_not_taken_for_todays() {
    let world = World::new();
    let bucket = world.make("b").await;
    let rules = "<LifecycleConfiguration><Rule><Status>Enabled</Status><Filter/><Expiration>\
                 <Days>1</Days></Expiration></Rule></LifecycleConfiguration>";
    let set = SetDocument {
        name: "b".into(),
        id: bucket.id,
        document: document::LIFECYCLE.to_owned(),
        value: rules.into(),
        expected: ExpectedDocuments::default(),
    };
    world.flat.set_document(set).await.expect("set");
    let bucket = world.flat.bucket_now("b").await.expect("there");
    let calendar = Calendar { day_ms: 86_400_000 };
    let chores = Chores::new(calendar, Duration::ZERO, Arc::default(), Delivery::default());
    let (today, plan) = (chores.round(clock::timestamp().millis()), chores.plan(rules.as_bytes()));
    // A worker died in it.
    let name = LIFECYCLE_WORK.to_owned();
    let claim = Claim { name: name.clone(), holder: 7, lease_ms: 0, round: today - 1, plan };
    for shard in 0..bucket.shards {
        let claimed: Option<Chore> =
            world.flat.live_shard(&bucket, shard, "claim", &claim).await.expect("asked");
        assert!(claimed.is_some());
    }
    for round in [today - 1, today] {
        chores.lifecycle(&world.flat, &bucket, &Shutdown::new()).await.expect("walked");
        for shard in 0..bucket.shards {
            let read = ReadChore { name: name.clone() };
            let chore: Option<Chore> =
                world.flat.live_shard(&bucket, shard, "chore", &read).await.expect("asked");
            let chore = chore.expect("there");
            assert!(chore.done && chore.round >= round, "{chore:?}");
        }
    }
}
