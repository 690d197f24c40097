//! `erasure-profile`.

use super::{act, command, flag, names, pairs};
use crate::cluster::Connection;
use crate::exit::Failure;
use crate::output::Output;
use serde_json::json;

#[derive(clap::Subcommand, Debug)]
pub(crate) enum ErasureProfileCommand {
    /// Set a profile; pools that exist stay as they are
    Set {
        /// Its name
        name: String,
        /// k=2, m=2, technique=reed_sol_van (or cauchy), cell=16K, failure-domain=host (osd, rack, …)
        #[arg(value_name = "KEY=VALUE")]
        values: Vec<String>,
        /// Change one that exists
        #[arg(long)]
        force: bool,
    },
    /// Show a profile
    Get {
        /// The profile
        name: String,
    },
    /// List the profiles
    #[command(visible_alias = "list")]
    Ls,
    /// Remove a profile; pools that were made by it stay as they are
    Rm {
        /// The profile
        name: String,
    },
}

pub(crate) async fn run(
    verb: ErasureProfileCommand,
    connection: &Connection,
    output: &Output,
) -> Result<(), Failure> {
    let name_only = |prefix, name: String| command(prefix, [("name", Some(json!(name)))]);
    match verb {
        ErasureProfileCommand::Set { name, values, force } => {
            let values = (!values.is_empty()).then(|| json!(values));
            let args = [("name", Some(json!(name))), ("profile", values), ("force", flag(force))];
            act(command("osd erasure-code-profile set", args), connection, output).await
        }
        ErasureProfileCommand::Rm { name } => {
            act(name_only("osd erasure-code-profile rm", name), connection, output).await
        }
        ErasureProfileCommand::Get { name } => {
            let profile = name_only("osd erasure-code-profile get", name);
            output.show(&connection.command(profile).await?, pairs);
            Ok(())
        }
        ErasureProfileCommand::Ls => {
            let list = connection.command(command("osd erasure-code-profile ls", [])).await?;
            output.show(&list, names("name"));
            Ok(())
        }
    }
}
