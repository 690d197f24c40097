//! `osd`: daemons. The word is Ceph's, which every operator knows.

use super::{act, command, items, names, planned};
use crate::cluster::Connection;
use crate::confirm::Sure;
use crate::exit::Failure;
use crate::output::Output;
use crate::table::Table;
use crate::units::{bytes, field, number};
use serde_json::{Value, json};

#[derive(clap::Subcommand, Debug)]
pub(crate) enum OsdCommand {
    /// Show where daemons stand
    Tree,
    /// List the daemons
    #[command(visible_alias = "list")]
    Ls,
    /// Show the space of each daemon
    Df,
    /// Take daemons out: their data moves to the others
    Out(Ids),
    /// Take daemons in: they get their share of data
    In(Ids),
    /// Mark daemons down; one that lives comes up again at once
    Down(Ids),
    /// Say that the damage which daemons found was seen to: the health tells only of new damage
    ClearDamage(Ids),
    /// Set how much of its share of data a daemon takes
    Reweight {
        /// The daemon, 3 or osd.3
        id: String,
        /// 0 to 1
        weight: f64,
    },
    /// Set a daemon's weight in the CRUSH map: its size in TiB
    CrushReweight {
        /// The daemon, 3 or osd.3
        id: String,
        /// Its size in TiB
        weight: f64,
    },
    /// Tell whether every placement group could be read and written without these daemons
    OkToStop(Ids),
    /// Tell whether nothing that these daemons have is needed
    SafeToDestroy(Ids),
    /// Empty daemons: they serve until others have all that they have
    Drain {
        #[command(flatten)]
        ids: Ids,
        /// Wait until they are empty
        #[arg(long)]
        wait: bool,
        /// Though there are too few daemons without them
        #[arg(long = "yes-i-really-mean-it")]
        sure: bool,
    },
    /// Set how full a daemon may be before the health says so
    SetNearfullRatio(Ratio),
    /// Set how full a daemon may be before it takes no copies from others
    SetBackfillfullRatio(Ratio),
    /// Set how full a daemon may be before it takes nothing but deletes
    SetFullRatio(Ratio),
    /// Add a daemon to a cluster of `store up`; elsewhere show what a new daemon needs
    Add(crate::up::add::AddArgs),
    /// Forget a daemon for good; if its copies are needed only when you are sure
    Rm {
        /// The daemon, 3 or osd.3
        id: String,
        #[command(flatten)]
        sure: Sure,
    },
    /// Set a flag of the whole cluster
    Set {
        /// noout, norebalance, nobackfill, norecover, noscrub, nodeep-scrub or pause
        flag: String,
    },
    /// Take a flag back
    Unset {
        /// noout, norebalance, nobackfill, norecover, noscrub, nodeep-scrub or pause
        flag: String,
    },
    /// Show what a daemon tells of itself
    Metadata {
        /// The daemon, 3 or osd.3
        id: String,
    },
}

#[derive(clap::Args, Debug)]
pub(crate) struct Ratio {
    /// 0 to 1
    ratio: f64,
}

#[derive(clap::Args, Debug)]
pub(crate) struct Ids {
    /// Daemons, 3 or osd.3
    #[arg(required = true, value_name = "ID")]
    ids: Vec<String>,
}

pub(crate) async fn run(
    verb: OsdCommand,
    connection: &Connection,
    output: &Output,
) -> Result<(), Failure> {
    let on = |prefix: &str, ids: Ids| command(prefix, [("ids", Some(json!(ids.ids)))]);
    let flag = |prefix: &str, flag: String| command(prefix, [("key", Some(json!(flag)))]);
    let ratio = |prefix: &str, to: &Ratio| command(prefix, [("ratio", Some(json!(to.ratio)))]);
    let action = match verb {
        OsdCommand::Tree => {
            let tree = connection.command(command("osd tree", [])).await?;
            output.show(&tree, tree_table);
            return Ok(());
        }
        OsdCommand::Ls => {
            let list = connection.command(command("osd ls", [])).await?;
            output.show(&list, names("id"));
            return Ok(());
        }
        OsdCommand::Df => {
            let space = connection.command(command("osd df", [])).await?;
            output.show(&space, df_table);
            return Ok(());
        }
        OsdCommand::Out(ids) => on("osd out", ids),
        OsdCommand::In(ids) => on("osd in", ids),
        OsdCommand::Down(ids) => on("osd down", ids),
        OsdCommand::ClearDamage(ids) => on("osd clear-damage", ids),
        OsdCommand::Reweight { id, weight } => {
            command("osd reweight", [("id", Some(json!(id))), ("weight", Some(json!(weight)))])
        }
        OsdCommand::CrushReweight { id, weight } => command(
            "osd crush reweight",
            [("id", Some(json!(id))), ("weight", Some(json!(weight)))],
        ),
        OsdCommand::OkToStop(ids) => {
            return planned::ask(on("osd ok-to-stop", ids), "ok_to_stop", connection, output).await;
        }
        OsdCommand::SafeToDestroy(ids) => {
            let question = on("osd safe-to-destroy", ids);
            return planned::ask(question, "safe_to_destroy", connection, output).await;
        }
        OsdCommand::Drain { ids, wait, sure } => {
            let action = on("osd drain", ids);
            return planned::drain(action, wait, sure, connection, output).await;
        }
        OsdCommand::SetNearfullRatio(to) => ratio("osd set-nearfull-ratio", &to),
        OsdCommand::SetBackfillfullRatio(to) => ratio("osd set-backfillfull-ratio", &to),
        OsdCommand::SetFullRatio(to) => ratio("osd set-full-ratio", &to),
        OsdCommand::Add(args) => return crate::up::add::run(&args, connection, output).await,
        OsdCommand::Rm { id, sure: confirmed } => {
            let action = command("osd rm", [("id", Some(json!(id)))]);
            let harm = format!("Copies that daemon {id} has are needed, and are given up.");
            return planned::remove(action, confirmed, &harm, &id, connection, output).await;
        }
        OsdCommand::Set { flag: name } => flag("osd set", name),
        OsdCommand::Unset { flag: name } => flag("osd unset", name),
        OsdCommand::Metadata { id } => command("osd metadata", [("id", Some(json!(id)))]),
    };
    act(action, connection, output).await
}

fn tree_table(tree: &Value) -> Table {
    let mut table = Table::new(["id", "class", "weight", "name", "status", "reweight", "affinity"])
        .right([0, 2, 5, 6]);
    let nodes = items(tree, "nodes");
    let mut listed = vec![false; nodes.len()];
    // Roots are the nodes that are nobody's child.
    let is_child = |id: &Value| nodes.iter().any(|node| items(node, "children").contains(id));
    for (index, node) in nodes.iter().enumerate() {
        if !is_child(&node["id"]) {
            add_node(&mut table, nodes, index, 0, &mut listed);
        }
    }
    for stray in items(tree, "stray") {
        let mut cells = vec![String::new(); 7];
        (cells[0], cells[3], cells[4]) =
            (field(stray, "id"), field(stray, "name"), "not in the tree".to_string());
        table.row(cells);
    }
    table
}

/// Adds a node and those below it, each once, whatever the tree says.
fn add_node(table: &mut Table, nodes: &[Value], index: usize, depth: usize, listed: &mut [bool]) {
    if std::mem::replace(&mut listed[index], true) {
        return;
    }
    let node = &nodes[index];
    let name = match field(node, "type").as_str() {
        "osd" | "" => field(node, "name"),
        kind => format!("{kind} {}", field(node, "name")),
    };
    let weight = |key: &str| node[key].as_f64().map_or_else(String::new, |w| format!("{w:.5}"));
    table.row([
        field(node, "id"),
        field(node, "device_class"),
        weight("crush_weight"),
        format!("{:width$}{name}", "", width = 4 * depth),
        field(node, "status"),
        weight("reweight"),
        weight("primary_affinity"),
    ]);
    for child in items(node, "children") {
        if let Some(below) = nodes.iter().position(|node| node["id"] == *child) {
            add_node(table, nodes, below, depth + 1, listed);
        }
    }
}

fn df_table(space: &Value) -> Table {
    let mut table = Table::new([
        "id", "class", "weight", "reweight", "size", "used", "avail", "%use", "var", "pgs",
        "status",
    ])
    .right([0, 2, 3, 4, 5, 6, 7, 8, 9]);
    let decimal = |node: &Value, key: &str, digits: usize| {
        node[key].as_f64().map_or_else(String::new, |value| format!("{value:.digits$}"))
    };
    for node in items(space, "nodes") {
        table.row([
            field(node, "id"),
            field(node, "device_class"),
            decimal(node, "crush_weight", 5),
            decimal(node, "reweight", 5),
            bytes(number(node, "kb").saturating_mul(1024)),
            bytes(number(node, "kb_used").saturating_mul(1024)),
            bytes(number(node, "kb_avail").saturating_mul(1024)),
            decimal(node, "utilization", 2),
            decimal(node, "var", 2),
            field(node, "pgs"),
            field(node, "status"),
        ]);
    }
    let all = &space["summary"];
    let mut total = vec![String::new(); 11];
    total[3] = "TOTAL".to_string();
    total[4] = bytes(number(all, "total_kb").saturating_mul(1024));
    total[5] = bytes(number(all, "total_kb_used").saturating_mul(1024));
    total[6] = bytes(number(all, "total_kb_avail").saturating_mul(1024));
    total[7] = decimal(all, "average_utilization", 2);
    table.row(total);
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tree_is_drawn_from_its_roots_even_if_it_is_none() {
        let tree = json!({"nodes": [
            {"id": -1, "name": "default", "type": "root", "children": [-2, -1]},
            {"id": -2, "name": "h1", "type": "host", "children": [0, 9]},
            {"id": 0, "name": "osd.0", "type": "osd", "status": "up", "crush_weight": 1.0,
             "reweight": 1.0, "primary_affinity": 1.0, "device_class": "ssd"},
            {"id": -7, "name": "other", "type": "root", "children": []},
        ], "stray": [{"id": 3, "name": "osd.3"}]});
        let plain = tree_table(&tree).to_plain();
        // The first root names itself as its child: it is no root then, and is left out, without a loop.
        assert_eq!(plain, "-7\t\t\troot other\t\t\t\n3\t\t\tosd.3\tnot in the tree\t\t\n");
        let tree = json!({"nodes": [
            {"id": -1, "name": "default", "type": "root", "children": [-2]},
            {"id": -2, "name": "h1", "type": "host", "children": [0]},
            {"id": 0, "name": "osd.0", "type": "osd", "status": "up", "crush_weight": 1.0,
             "reweight": 1.0, "primary_affinity": 1.0, "device_class": "ssd"},
        ]});
        let plain = tree_table(&tree).to_plain();
        let names: Vec<_> = plain.lines().filter_map(|line| line.split('\t').nth(3)).collect();
        assert_eq!(names, ["root default", "    host h1", "        osd.0"]);
    }
}
