//! `pg`: placement groups.

use super::{act, command, items, sure};
use crate::cluster::Connection;
use crate::confirm::Sure;
use crate::exit::Failure;
use crate::output::Output;
use crate::table::Table;
use crate::units::{bytes, field, number};
use serde_json::{Value, json};

#[derive(clap::Subcommand, Debug)]
pub(crate) enum PgCommand {
    /// List placement groups
    #[command(visible_alias = "list")]
    Ls {
        /// Of one pool
        #[arg(long)]
        pool: Option<String>,
        /// On one daemon
        #[arg(long)]
        osd: Option<String>,
        /// In this state, as degraded or active+clean
        #[arg(long)]
        state: Vec<String>,
    },
    /// Show every placement group
    Dump,
    /// Count the placement groups by state
    Stat,
    /// Show where a placement group is
    Map {
        /// As 1.2a
        pg: String,
    },
    /// Show all that the monitor knows of a placement group
    Query {
        /// As 1.2a
        pg: String,
    },
    /// Have the copies of a placement group compared, and bad ones replaced
    Scrub {
        /// As 1.2a
        pg: String,
    },
    /// As scrub; every byte is read from the medium, too
    DeepScrub {
        /// As 1.2a
        pg: String,
    },
    /// As deep-scrub; where copies differ and no majority decides, the primary's counts
    Repair {
        /// As 1.2a
        pg: String,
    },
    /// Go on without daemons that have everything: what only they have is given up
    Force {
        /// As 1.2a
        pg: String,
        /// Daemons to go on from [default: those that could write last]
        #[arg(long)]
        from: Vec<String>,
        #[command(flatten)]
        sure: Sure,
    },
}

pub(crate) async fn run(
    verb: PgCommand,
    connection: &Connection,
    output: &Output,
) -> Result<(), Failure> {
    let of = |pg: &str| Some(json!(pg));
    match verb {
        PgCommand::Ls { pool, osd, state } => {
            let args = [
                ("pool", pool.map(|pool| json!(pool))),
                ("osd", osd.map(|osd| json!(osd))),
                ("states", (!state.is_empty()).then(|| json!(state))),
            ];
            let list = connection.command(command("pg ls", args)).await?;
            output.show(&list, |list| rows(items(list, "pg_stats")));
        }
        PgCommand::Dump => {
            let dump = connection.command(command("pg dump", [])).await?;
            output.show(&dump, |dump| rows(items(&dump["pg_map"], "pg_stats")));
        }
        PgCommand::Stat => {
            let stat = connection.command(command("pg stat", [])).await?;
            output.show(&stat, |stat| {
                let mut table = Table::new(["count", "state"]).right([0]);
                for state in items(stat, "num_pg_by_state") {
                    table.row([field(state, "num"), field(state, "name")]);
                }
                table
            });
        }
        PgCommand::Map { pg } => {
            let map = connection.command(command("pg map", [("pgid", of(&pg))])).await?;
            output.show(&map, super::pairs);
        }
        PgCommand::Query { pg } => {
            let all = connection.command(command("pg query", [("pgid", of(&pg))])).await?;
            output.show_text(&all, |all| format!("{all:#}"));
        }
        PgCommand::Scrub { pg } => {
            act(command("pg scrub", [("pgid", of(&pg))]), connection, output).await?;
        }
        PgCommand::DeepScrub { pg } => {
            act(command("pg deep-scrub", [("pgid", of(&pg))]), connection, output).await?;
        }
        PgCommand::Repair { pg } => {
            act(command("pg repair", [("pgid", of(&pg))]), connection, output).await?;
        }
        PgCommand::Force { pg, from, sure: confirmed } => {
            let harm = format!(
                "Placement group {pg} goes on without daemons that have everything; what only they have is given up, and they must be off for good."
            );
            confirmed.confirm(&harm, &pg)?;
            let from = (!from.is_empty()).then(|| json!(from));
            let force = command("pg force", [("pgid", of(&pg)), ("from", from)]);
            act(sure(force), connection, output).await?;
        }
    }
    Ok(())
}

fn rows(list: &[Value]) -> Table {
    let mut table = Table::new([
        "pg",
        "state",
        "objects",
        "bytes",
        "missing",
        "interval",
        "primary",
        "acting",
        "up",
        "learners",
        "verified since",
    ])
    .right([2, 3, 4, 5, 6]);
    for pg in list {
        let sum = &pg["stat_sum"];
        table.row([
            field(pg, "pgid"),
            field(pg, "state"),
            field(sum, "num_objects"),
            bytes(number(sum, "num_bytes")),
            field(sum, "num_objects_missing"),
            field(pg, "interval"),
            field(pg, "acting_primary"),
            format!("[{}]", field(pg, "acting")),
            format!("[{}]", field(pg, "up")),
            format!("[{}]", field(pg, "learners")),
            crate::units::date(number(pg, "verified_since_secs")),
        ]);
    }
    table
}
