//! `scrub` and `audit`: copies compared, repaired, counted.

use super::{act, command, flag, items};
use crate::cluster::Connection;
use crate::exit::Failure;
use crate::output::Output;
use crate::table::Table;
use crate::units::{bytes, field, number};
use serde_json::{Value, json};

#[derive(clap::Subcommand, Debug)]
pub(crate) enum ScrubCommand {
    /// Have all copies compared now, and bad ones replaced
    Start {
        /// Read every byte from the medium, too
        #[arg(long)]
        deep: bool,
        /// Of one pool only
        #[arg(long)]
        pool: Option<String>,
    },
    /// Take back what was started; schedules stay (`store osd set noscrub` pauses those)
    Stop,
    /// Show how far it has come, and what it found
    Status,
}

#[derive(clap::Subcommand, Debug)]
pub(crate) enum AuditCommand {
    /// Count objects at full redundancy, below it, and not verified lately
    Redundancy {
        /// Of one pool only
        #[arg(long)]
        pool: Option<String>,
    },
}

pub(crate) async fn run(
    verb: ScrubCommand,
    connection: &Connection,
    output: &Output,
) -> Result<(), Failure> {
    match verb {
        ScrubCommand::Start { deep, pool } => {
            let args = [("deep", flag(deep)), ("pool", pool.map(|pool| json!(pool)))];
            act(command("scrub start", args), connection, output).await
        }
        ScrubCommand::Stop => act(command("scrub stop", []), connection, output).await,
        ScrubCommand::Status => {
            let status = connection.command(command("scrub status", [])).await?;
            output.show(&status, status_table);
            Ok(())
        }
    }
}

pub(crate) async fn audit(
    verb: AuditCommand,
    connection: &Connection,
    output: &Output,
) -> Result<(), Failure> {
    let AuditCommand::Redundancy { pool } = verb;
    let args = [("pool", pool.map(|pool| json!(pool)))];
    let audit = connection.command(command("audit redundancy", args)).await?;
    output.show(&audit, audit_table);
    Ok(())
}

fn status_table(status: &Value) -> Table {
    let mut table = Table::new(["name", "value"]);
    let (pgs, progress, errors) = (&status["pgs"], &status["progress"], &status["errors"]);
    table.row(["state".to_string(), field(status, "state")]);
    for order in items(status, "orders") {
        let kind = if order["deep"] == json!(true) { "deep scrub" } else { "scrub" };
        let text = format!("{kind} of {} since {}", field(order, "scope"), field(order, "at"));
        table.row(["order".to_string(), text]);
    }
    let groups = format!(
        "{} running, {} waiting, {} paused, {} not known",
        field(pgs, "running"),
        field(pgs, "waiting"),
        field(pgs, "paused"),
        field(pgs, "unknown"),
    );
    table.row(["groups".to_string(), groups]);
    let share = |done: &str, all: &str| {
        let (done, all) = (number(progress, done), number(progress, all));
        (bytes(done), bytes(all))
    };
    let (done, all) = share("bytes_done", "bytes");
    let objects = format!("{} of {}", field(progress, "objects_done"), field(progress, "objects"));
    table.row(["objects".to_string(), objects]);
    table.row(["bytes".to_string(), format!("{done} of {all}")]);
    if !progress["seconds_left"].is_null() {
        table.row(["time left".to_string(), format!("{} s", field(progress, "seconds_left"))]);
    }
    let found = format!(
        "{} found, {} repaired, {} not, of these {} lost",
        field(errors, "found"),
        field(errors, "repaired"),
        field(errors, "unrepaired"),
        field(errors, "lost"),
    );
    table.row(["bad copies".to_string(), found]);
    for bad in items(status, "bad_objects") {
        table.row(["bad".to_string(), format!("{} {}", field(bad, "pgid"), field(bad, "what"))]);
    }
    table.row(["oldest scrub".to_string(), field(status, "oldest_scrub")]);
    table.row(["oldest deep scrub".to_string(), field(status, "oldest_deep_scrub")]);
    table
}

fn audit_table(audit: &Value) -> Table {
    let mut table = Table::new([
        "pool",
        "objects",
        "full",
        "below",
        "unverified",
        "verified since",
        "bad",
        "lost",
        "pgs",
        "pgs not known",
        "objects not known",
    ])
    .right([1, 2, 3, 4, 6, 7, 8, 9, 10]);
    for pool in items(audit, "pools") {
        table.row([
            field(pool, "pool"),
            field(pool, "objects"),
            field(pool, "full"),
            field(pool, "below"),
            field(pool, "unverified"),
            field(pool, "verified_since"),
            field(pool, "inconsistent"),
            field(pool, "lost"),
            field(pool, "pgs"),
            field(pool, "pgs_unknown"),
            field(pool, "objects_unknown"),
        ]);
    }
    table
}
