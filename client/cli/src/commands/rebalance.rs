//! `rebalance` and `balancer`: what a change would move, what did move, and how even placement is.

use super::{act, command, items};
use crate::cluster::Connection;
use crate::exit::Failure;
use crate::output::Output;
use crate::table::Table;
use crate::units::{bytes, count, field, number};
use serde_json::{Value, json};

#[derive(clap::Subcommand, Debug)]
pub(crate) enum RebalanceCommand {
    /// Tell what a change would move, and what any placement would have to; without one, what the balancer plans
    Plan(PlanArgs),
    /// Show the last movements of data against their plans
    Status,
}

#[derive(clap::Args, Debug)]
pub(crate) struct PlanArgs {
    /// So many new daemons
    #[arg(long, value_name = "N")]
    add: Option<u32>,
    /// Of each new one, in TiB; else the mean of those there are
    #[arg(long, value_name = "TIB", requires = "add")]
    weight: Option<f64>,
    /// Where the new ones stand; else where all stand, or each on a host of its own
    #[arg(long, requires = "add")]
    host: Option<String>,
    /// A daemon that is emptied
    #[arg(long, value_name = "ID")]
    drain: Vec<String>,
    /// A daemon that is forgotten
    #[arg(long, value_name = "ID")]
    rm: Vec<String>,
    /// How much of its share a daemon takes, 0 to 1
    #[arg(long, value_name = "ID=PART")]
    reweight: Vec<String>,
    /// A daemon's weight in the CRUSH map, in TiB
    #[arg(long, value_name = "ID=TIB")]
    crush_reweight: Vec<String>,
}

#[derive(clap::Subcommand, Debug)]
pub(crate) enum BalancerCommand {
    /// Show how even placement is, and what the balancer does
    Status,
    /// Keep daemons near their share, a few copies at a time
    On,
    /// Leave placement to CRUSH and to exceptions made by hand; those there are stay
    Off,
}

pub(crate) async fn run(
    verb: RebalanceCommand,
    connection: &Connection,
    output: &Output,
) -> Result<(), Failure> {
    match verb {
        RebalanceCommand::Plan(args) => {
            let plan = connection.command(question(args)).await?;
            output.show_text(&plan, plan_text);
        }
        RebalanceCommand::Status => {
            let status = connection.command(command("rebalance status", [])).await?;
            output.show(&status, status_table);
        }
    }
    Ok(())
}

fn question(args: PlanArgs) -> Value {
    let list = |ids: Vec<String>| (!ids.is_empty()).then(|| json!(ids));
    command(
        "rebalance plan",
        [
            ("add", args.add.map(|add| json!(add))),
            ("weight", args.weight.map(|weight| json!(weight))),
            ("host", args.host.map(|host| json!(host))),
            ("drain", list(args.drain)),
            ("rm", list(args.rm)),
            ("reweight", list(args.reweight)),
            ("crush_reweight", list(args.crush_reweight)),
        ],
    )
}

pub(crate) async fn balancer(
    verb: BalancerCommand,
    connection: &Connection,
    output: &Output,
) -> Result<(), Failure> {
    match verb {
        BalancerCommand::On => act(command("balancer on", []), connection, output).await,
        BalancerCommand::Off => act(command("balancer off", []), connection, output).await,
        BalancerCommand::Status => {
            let status = connection.command(command("balancer status", [])).await?;
            output.show_text(&status, balancer_text);
            Ok(())
        }
    }
}

/// A ratio as people read it.
fn times(value: &Value) -> String {
    value.as_f64().map_or_else(|| "-".to_string(), |ratio| format!("{ratio:.2}"))
}

fn plan_text(plan: &Value) -> String {
    let mut text = format!(
        "{}: {} move ({} in {}, {} copies); at least {}, ratio {}\n",
        field(plan, "change"),
        count(number(plan, "pgs"), "placement group"),
        bytes(number(plan, "bytes")),
        count(number(plan, "objects"), "object"),
        field(plan, "copies"),
        bytes(number(plan, "bytes_bound")),
        times(&plan["ratio"]),
    );
    let unknown = number(plan, "pgs_unreported");
    if unknown > 0 {
        let groups = count(unknown, "placement group");
        text.push_str(&format!("the size of {groups} is not known: counted as empty\n"));
    }
    let mut table =
        Table::new(["osd", "copies", "after", "bytes", "after", "share"]).right([1, 2, 3, 4, 5]);
    for daemon in items(plan, "daemons") {
        table.row([
            format!("osd.{}", field(daemon, "osd")),
            field(daemon, "copies_before"),
            field(daemon, "copies_after"),
            bytes(number(daemon, "bytes_before")),
            bytes(number(daemon, "bytes_after")),
            bytes(number(daemon, "bytes_share")),
        ]);
    }
    text + &table.to_aligned()
}

fn status_table(status: &Value) -> Table {
    let mut table = Table::new([
        "movement",
        "state",
        "since",
        "copies left",
        "planned",
        "moved",
        "moved/plan",
        "plan/bound",
    ])
    .right([3, 4, 5, 6, 7]);
    for name in ["movement", "balancing"] {
        let one = &status[name];
        if one.is_null() {
            continue;
        }
        table.row([
            field(one, "cause"),
            field(one, "state"),
            field(one, "since"),
            field(one, "copies_left"),
            bytes(number(one, "bytes_planned")),
            bytes(number(one, "bytes_moved")),
            times(&one["moved_to_plan"]),
            times(&one["plan_to_bound"]),
        ]);
    }
    table
}

fn balancer_text(status: &Value) -> String {
    let mut text = format!(
        "{}; {} to CRUSH\n",
        field(status, "state"),
        count(number(status, "exceptions"), "exception")
    );
    let mut table = Table::new(["pool", "level", "most", "least"]).right([2, 3]);
    for pool in items(status, "pools") {
        let of = |end: &str, at: usize| pool[end][at].as_f64().unwrap_or(0.0);
        table.row([
            field(pool, "pool"),
            if pool["is_level"] == true { "yes" } else { "no" }.to_string(),
            format!("{} of {:.1}", of("most", 0), of("most", 1)),
            format!("{} of {:.1}", of("least", 0), of("least", 1)),
        ]);
    }
    text.push_str(&table.to_aligned());
    text
}
