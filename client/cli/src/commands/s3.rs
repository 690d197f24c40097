//! `s3`: what the gateways need decided for them.

use super::{act, command, flag, items};
use crate::cluster::Connection;
use crate::exit::Failure;
use crate::output::Output;
use crate::table::Table;
use crate::units::field;
use serde_json::json;

#[derive(clap::Subcommand, Debug)]
pub(crate) enum S3Command {
    /// Placements: where the data of new buckets goes (a client names one as LocationConstraint `:NAME`)
    #[command(subcommand)]
    Placement(PlacementCommand),
}

#[derive(clap::Subcommand, Debug)]
pub(crate) enum PlacementCommand {
    /// Make a pool a placement; buckets that exist stay where they are
    Set {
        /// Its name
        name: String,
        /// The pool for the data of its buckets; it may be erasure-coded
        #[arg(long, value_name = "POOL")]
        data_pool: String,
        /// Buckets that name no placement go here
        #[arg(long)]
        default: bool,
    },
    /// Make a placement the one of buckets that name none
    Default {
        /// The placement
        name: String,
    },
    /// List the placements
    #[command(visible_alias = "list")]
    Ls,
    /// Take a placement back; buckets that exist stay where they are
    Rm {
        /// The placement
        name: String,
    },
}

pub(crate) async fn run(
    S3Command::Placement(verb): S3Command,
    connection: &Connection,
    output: &Output,
) -> Result<(), Failure> {
    let action = match verb {
        PlacementCommand::Ls => {
            let list = connection.command(command("s3 placement ls", [])).await?;
            output.show(&list, |list| {
                let mut table = Table::new(["name", "data pool", "default"]);
                for row in items(list, "") {
                    table.row(["name", "data_pool", "default"].map(|name| field(row, name)));
                }
                table
            });
            return Ok(());
        }
        PlacementCommand::Set { name, data_pool, default } => command(
            "s3 placement set",
            [
                ("name", Some(json!(name))),
                ("data_pool", Some(json!(data_pool))),
                ("default", flag(default)),
            ],
        ),
        PlacementCommand::Default { name } => {
            command("s3 placement default", [("name", Some(json!(name)))])
        }
        PlacementCommand::Rm { name } => command("s3 placement rm", [("name", Some(json!(name)))]),
    };
    act(action, connection, output).await
}
