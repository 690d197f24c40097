//! `service`: gateways and metadata services.

use super::{act, command};
use crate::cluster::Connection;
use crate::exit::Failure;
use crate::output::Output;
use crate::table::Table;
use crate::units::field;
use serde_json::json;

#[derive(clap::Subcommand, Debug)]
pub(crate) enum ServiceCommand {
    /// List gateways and metadata services
    #[command(visible_alias = "list")]
    Ls,
    /// Forget a service that is gone
    Rm {
        /// As gateway.a
        name: String,
    },
}

pub(crate) async fn run(
    verb: ServiceCommand,
    connection: &Connection,
    output: &Output,
) -> Result<(), Failure> {
    match verb {
        ServiceCommand::Ls => {
            let dump = connection.command(command("service dump", [])).await?;
            output.show(&dump, |dump| {
                let mut table = Table::new(["name", "state", "address", "version"]);
                for (name, info) in dump["services"].as_object().into_iter().flatten() {
                    table.row([
                        name.clone(),
                        field(info, "state"),
                        field(info, "address"),
                        field(&info["details"], "version"),
                    ]);
                }
                table
            });
            Ok(())
        }
        ServiceCommand::Rm { name } => {
            act(command("service rm", [("name", Some(json!(name)))]), connection, output).await
        }
    }
}
