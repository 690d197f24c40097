//! `object bucket` and `object lifecycle`: the buckets of the gateways, and what the lifecycle workers do.

use super::items;
use super::limits::operator;
use crate::cluster::Connection;
use crate::exit::Failure;
use crate::output::Output;
use crate::table::Table;
use crate::units::{bytes, date, field, number};
use serde_json::{Value, json};
use store_base::bucket::Chore;

#[derive(clap::Subcommand, Debug)]
pub(crate) enum BucketCommand {
    /// List buckets: whose, since when, and what they hold
    #[command(visible_alias = "ls")]
    List {
        /// Only this user's
        #[arg(long, value_name = "USER")]
        owner: Option<String>,
    },
}

#[derive(clap::Subcommand, Debug)]
pub(crate) enum LifecycleCommand {
    /// How far the workers are with each bucket that has rules
    #[command(visible_alias = "list")]
    Ls,
}

pub(crate) async fn run(
    BucketCommand::List { owner }: BucketCommand,
    connection: &Connection,
    output: &Output,
) -> Result<(), Failure> {
    let lines = operator(connection).await?.buckets(owner).await?;
    let rows = lines.iter().map(|line| {
        json!({
            "name": line.bucket.name,
            "owner": line.bucket.owner,
            "created": line.bucket.created_ms / 1000,
            "objects": line.usage.objects,
            "bytes": line.usage.bytes,
            "versions": line.usage.versions,
            "version_bytes": line.usage.version_bytes,
        })
    });
    output.show(&rows.collect(), |list| {
        let header = ["bucket", "owner", "created", "size", "objects", "older size", "older"];
        let mut table = Table::new(header).right([3, 4, 5, 6]);
        for row in items(list, "") {
            table.row([
                field(row, "name"),
                field(row, "owner"),
                date(number(row, "created")),
                bytes(number(row, "bytes")),
                field(row, "objects"),
                bytes(number(row, "version_bytes")),
                field(row, "versions"),
            ]);
        }
        table
    });
    Ok(())
}

pub(crate) async fn lifecycle(
    LifecycleCommand::Ls: LifecycleCommand,
    connection: &Connection,
    output: &Output,
) -> Result<(), Failure> {
    let buckets = operator(connection).await?.lifecycle().await?;
    let rows = buckets.iter().map(|(name, chores)| progress(name, chores));
    output.show(&rows.collect(), |list| {
        let header = ["bucket", "shards done", "began", "looked at", "removed", "left"];
        let mut table = Table::new(header).right([1, 3, 4, 5]);
        for row in items(list, "") {
            table.row([
                field(row, "bucket"),
                format!("{}/{}", field(row, "shards_done"), field(row, "shards")),
                date(number(row, "began")),
                field(row, "looked"),
                field(row, "removed"),
                field(row, "passed"),
            ]);
        }
        table
    });
    Ok(())
}

/// The last round of a bucket, over its shards.
fn progress(name: &str, chores: &[Option<Chore>]) -> Value {
    let sum = |of: fn(&Chore) -> u64| chores.iter().flatten().map(of).sum::<u64>();
    json!({
        "bucket": name,
        "shards": chores.len(),
        "shards_done": chores.iter().flatten().filter(|chore| chore.done).count(),
        "began": chores.iter().flatten().map(|chore| chore.began_ms / 1000).max().unwrap_or(0),
        "looked": sum(|chore| chore.looked),
        "removed": sum(|chore| chore.acted),
        "passed": sum(|chore| chore.passed),
    })
}
