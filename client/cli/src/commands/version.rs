//! `version`.

use super::command;
use crate::cluster::Connection;
use crate::exit::Failure;
use crate::output::Output;
use serde_json::json;
use std::fmt::Write;

#[derive(clap::Args, Debug)]
pub(crate) struct VersionArgs {
    /// Ask the cluster too
    #[arg(long)]
    cluster: bool,
}

pub(crate) async fn run(
    args: &VersionArgs,
    connection: &Connection,
    output: &Output,
) -> Result<(), Failure> {
    let mut value = json!({"version": env!("CARGO_PKG_VERSION")});
    if args.cluster {
        value["cluster"] = connection.command(command("versions", [])).await?;
    }
    output.show_text(&value, |value| {
        let mut text = format!("store {}\n", env!("CARGO_PKG_VERSION"));
        for (role, versions) in value["cluster"].as_object().into_iter().flatten() {
            for (version, count) in versions.as_object().into_iter().flatten() {
                let _ = writeln!(text, "{role}: {count} of version {version}");
            }
        }
        text
    });
    Ok(())
}
