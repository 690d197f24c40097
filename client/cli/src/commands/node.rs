//! `node`: all daemons of a host together.

use super::{command, items, planned};
use crate::cluster::Connection;
use crate::confirm::Sure;
use crate::exit::Failure;
use crate::output::Output;
use crate::table::Table;
use crate::units::field;
use serde_json::json;

#[derive(clap::Subcommand, Debug)]
pub(crate) enum NodeCommand {
    /// List the hosts that have daemons
    #[command(visible_alias = "list")]
    Ls,
    /// Tell whether a host could be switched off without harm
    OkToStop {
        /// The host
        host: String,
    },
    /// Empty all daemons of a host
    Drain {
        /// The host
        host: String,
        /// Wait until they are empty
        #[arg(long)]
        wait: bool,
        /// Though there are too few daemons without them
        #[arg(long = "yes-i-really-mean-it")]
        sure: bool,
    },
    /// Forget all daemons of a host; if their copies are needed only when you are sure
    Rm {
        /// The host
        host: String,
        /// Empty them first, and wait for it
        #[arg(long)]
        drain: bool,
        #[command(flatten)]
        sure: Sure,
    },
}

pub(crate) async fn run(
    verb: NodeCommand,
    connection: &Connection,
    output: &Output,
) -> Result<(), Failure> {
    let on = |prefix: &str, host: &str| command(prefix, [("host", Some(json!(host)))]);
    match verb {
        NodeCommand::Ls => {
            let list = connection.command(command("node ls", [])).await?;
            output.show(&list, |list| {
                let mut table =
                    Table::new(["host", "daemons", "up", "in", "draining"]).right([2, 3, 4]);
                for node in items(list, "") {
                    let cells = ["host", "osds", "num_up", "num_in", "draining"];
                    table.row(cells.map(|key| field(node, key)));
                }
                table
            });
            Ok(())
        }
        NodeCommand::OkToStop { host } => {
            planned::ask(on("node ok-to-stop", &host), "ok_to_stop", connection, output).await
        }
        NodeCommand::Drain { host, wait, sure } => {
            planned::drain(on("node drain", &host), wait, sure, connection, output).await
        }
        NodeCommand::Rm { host, drain, sure } => {
            if drain {
                planned::drain(on("node drain", &host), true, sure.sure, connection, output)
                    .await?;
            }
            let harm = format!("Copies that daemons of {host} have are needed, and are given up.");
            planned::remove(on("node rm", &host), sure, &harm, &host, connection, output).await
        }
    }
}
