//! Journals: each is in the shard of the bucket that takes its log to which its name hashes.

use super::flat::Flat;
use super::{Bucket, CatalogueError, JournalAnswer, JournalAsk};
use crate::cluster::Cluster;
use store_base::bucket::{Nothing, shard_of};

/// Asks the shard of a journal.
pub(super) async fn ask<C: Cluster>(
    flat: &Flat<C>,
    bucket: &Bucket,
    ask: JournalAsk,
) -> Result<JournalAnswer, CatalogueError> {
    use JournalAnswer as Answer;
    let of = |name: &[u8]| shard_of(name, bucket.shards);
    Ok(match ask {
        JournalAsk::Add(add) => {
            Answer::Added(flat.live_shard(bucket, of(&add.name), "journal_add", &add).await?)
        }
        JournalAsk::Settle(settle) => {
            let shard = of(&settle.name);
            let _: Nothing = flat.live_shard(bucket, shard, "journal_settle", &settle).await?;
            Answer::Settled
        }
        JournalAsk::Cut(cut) => {
            Answer::Cut(flat.live_shard(bucket, of(&cut.name), "journal_cut", &cut).await?)
        }
        JournalAsk::Read(read) => {
            Answer::Records(flat.live_shard(bucket, of(&read.name), "journal_read", &read).await?)
        }
        JournalAsk::Clear(clear) => {
            Answer::More(flat.live_shard(bucket, of(&clear.name), "journal_clear", &clear).await?)
        }
        JournalAsk::Named(list) => {
            Answer::List(flat.live_shard(bucket, of(&list.from), "journals", &list).await?)
        }
        JournalAsk::List(shard, list) => {
            Answer::List(flat.live_shard(bucket, shard, "journals", &list).await?)
        }
    })
}
