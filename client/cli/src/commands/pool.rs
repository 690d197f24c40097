//! `pool`.

use super::{act, command, flag, items, names, pairs, sure};
use crate::cluster::Connection;
use crate::confirm::Sure;
use crate::exit::Failure;
use crate::output::Output;
use crate::table::Table;
use crate::units::{bytes, field, number};
use serde_json::json;

#[derive(clap::Subcommand, Debug)]
pub(crate) enum PoolCommand {
    /// Make a pool
    Create {
        /// Its name
        pool: String,
        /// Whole copies, or data and coding slots [default: replicated, unless one of the options of erasure says
        /// otherwise]
        #[arg(long = "type", value_parser = ["replicated", "erasure"])]
        kind: Option<String>,
        /// Copies of each object [default: 3]
        #[arg(long, visible_alias = "replica-count")]
        size: Option<u8>,
        /// The erasure profile [default: default]
        #[arg(long)]
        profile: Option<String>,
        /// Data slots of an erasure-coded pool [default: the profile's]
        #[arg(long, value_name = "K")]
        ec_data_chunks: Option<u8>,
        /// Coding slots of an erasure-coded pool: as many daemons may be lost [default: the profile's]
        #[arg(long, value_name = "M")]
        ec_coding_chunks: Option<u8>,
        /// Copies without which nothing is committed [default: half of the size and one; with erasure K + 1]
        #[arg(long)]
        min_size: Option<u8>,
        /// Placement groups [default: by the number of daemons]
        #[arg(long)]
        pg_num: Option<u32>,
        /// CRUSH rule [default: copies on different hosts, or daemons if there is one host]
        #[arg(long)]
        rule: Option<String>,
        /// What uses it: s3, cephfs, rbd, …
        #[arg(long)]
        application: Option<String>,
        /// A pool that exists with the same values is no error
        #[arg(long)]
        if_not_exists: bool,
    },
    /// List the pools
    #[command(visible_alias = "list")]
    Ls {
        /// All there is to know
        #[arg(long, short)]
        detail: bool,
    },
    /// Show a pool's values
    Get {
        /// The pool
        pool: String,
        /// One value: size, min_size, pg_num, crush_rule, quota_bytes, quota_objects
        name: Option<String>,
    },
    /// Change a pool
    Set {
        /// The pool
        pool: String,
        /// size, min_size, crush_rule, pg_num or nodelete
        name: String,
        /// The new value
        value: String,
    },
    /// Limit what a pool may hold; at the limit it takes nothing but deletes
    SetQuota {
        /// The pool
        pool: String,
        /// bytes or objects
        #[arg(value_parser = ["bytes", "objects"])]
        what: String,
        /// How much: 1000, 10GiB; 0 for no limit
        value: String,
    },
    /// Show a pool's quota and what is used of it
    GetQuota {
        /// The pool
        pool: String,
    },
    /// Remove a pool with all its objects for good
    Rm {
        /// The pool
        pool: String,
        #[command(flatten)]
        sure: Sure,
    },
    /// Give a pool another name
    Rename {
        /// The pool
        pool: String,
        /// Its new name
        name: String,
    },
    /// Show what is in pools
    Stats {
        /// One pool; else all
        pool: Option<String>,
    },
}

pub(crate) async fn run(
    verb: PoolCommand,
    connection: &Connection,
    output: &Output,
) -> Result<(), Failure> {
    let action = match verb {
        PoolCommand::Ls { detail: false } => {
            let list = connection.command(command("osd pool ls", [])).await?;
            output.show(&list, names("name"));
            return Ok(());
        }
        PoolCommand::Ls { detail: true } => return list_detail(connection, output).await,
        PoolCommand::Stats { pool } => return stats(pool, connection, output).await,
        PoolCommand::Get { pool, name } => {
            let args = [("pool", Some(json!(pool))), ("var", name.map(|name| json!(name)))];
            let values = connection.command(command("osd pool get", args)).await?;
            output.show(&values, pairs);
            return Ok(());
        }
        PoolCommand::GetQuota { pool } => {
            let quota = command("osd pool get-quota", [("pool", Some(json!(pool)))]);
            let quota = connection.command(quota).await?;
            output.show(&quota, pairs);
            return Ok(());
        }
        PoolCommand::SetQuota { pool, what, value } => {
            let field = format!("max_{what}");
            command(
                "osd pool set-quota",
                [
                    ("pool", Some(json!(pool))),
                    ("field", Some(json!(field))),
                    ("val", Some(json!(value))),
                ],
            )
        }
        PoolCommand::Create {
            pool,
            kind,
            size,
            profile,
            ec_data_chunks,
            ec_coding_chunks,
            min_size,
            pg_num,
            rule,
            application,
            if_not_exists,
        } => command(
            "osd pool create",
            [
                ("pool", Some(json!(pool))),
                ("pool_type", kind.map(|kind| json!(kind))),
                ("erasure_code_profile", profile.map(|name| json!(name))),
                ("k", ec_data_chunks.map(|count| json!(count))),
                ("m", ec_coding_chunks.map(|count| json!(count))),
                ("size", size.map(|size| json!(size))),
                ("min_size", min_size.map(|size| json!(size))),
                ("pg_num", pg_num.map(|count| json!(count))),
                ("rule", rule.map(|rule| json!(rule))),
                ("application", application.map(|name| json!(name))),
                ("if_not_exists", flag(if_not_exists)),
            ],
        ),
        PoolCommand::Set { pool, name, value } => command(
            "osd pool set",
            [("pool", Some(json!(pool))), ("var", Some(json!(name))), ("val", Some(json!(value)))],
        ),
        PoolCommand::Rm { pool, sure: confirmed } => {
            let harm = format!("This removes the pool {pool} with all its objects for good.");
            confirmed.confirm(&harm, &pool)?;
            sure(command("osd pool rm", [("pool", Some(json!(pool)))]))
        }
        PoolCommand::Rename { pool, name } => command(
            "osd pool rename",
            [("srcpool", Some(json!(pool))), ("destpool", Some(json!(name)))],
        ),
    };
    act(action, connection, output).await
}

async fn list_detail(connection: &Connection, output: &Output) -> Result<(), Failure> {
    let detail = command("osd pool ls", [("detail", Some(json!("detail")))]);
    let list = connection.command(detail).await?;
    output.show(&list, |list| {
        let mut table = Table::new([
            "id",
            "name",
            "kind",
            "code",
            "size",
            "min",
            "pgs",
            "suited",
            "rule",
            "failure domain",
            "applications",
        ])
        .right([0, 4, 5, 6, 7]);
        for pool in items(list, "") {
            let apps = pool["application_metadata"].as_object();
            let apps: Vec<_> = apps.into_iter().flatten().map(|(name, _)| name.clone()).collect();
            table.row([
                field(pool, "pool_id"),
                field(pool, "pool_name"),
                field(pool, "type"),
                erasure(pool),
                field(pool, "size"),
                field(pool, "min_size"),
                field(pool, "pg_num"),
                field(pool, "pg_num_suggested"),
                field(pool, "crush_rule_name"),
                field(pool, "failure_domain"),
                apps.join(","),
            ]);
        }
        table
    });
    Ok(())
}

/// `4+2`, or nothing.
fn erasure(pool: &serde_json::Value) -> String {
    let slots = |name: &str| pool["erasure"][name].as_u64();
    let pair = slots("data").zip(slots("coding"));
    pair.map_or_else(String::new, |(data, coding)| format!("{data}+{coding}"))
}

async fn stats(
    pool: Option<String>,
    connection: &Connection,
    output: &Output,
) -> Result<(), Failure> {
    let args = [("pool", pool.map(|pool| json!(pool)))];
    let stats = connection.command(command("osd pool stats", args)).await?;
    output.show(&stats, |stats| {
        let mut table =
            Table::new(["id", "name", "objects", "bytes", "missing"]).right([0, 2, 3, 4]);
        for pool in items(stats, "") {
            table.row([
                field(pool, "pool_id"),
                field(pool, "pool_name"),
                field(pool, "num_objects"),
                bytes(number(pool, "num_bytes")),
                field(pool, "missing_objects"),
            ]);
        }
        table
    });
    Ok(())
}
