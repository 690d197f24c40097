//! `config`: settings made at run time.

use super::{act, command, items, pairs};
use crate::cluster::Connection;
use crate::exit::Failure;
use crate::output::Output;
use crate::table::Table;
use crate::units::field;
use serde_json::json;

/// The section of all services.
const ALL: &str = "global";
/// Words that name a section rather than a setting.
const SECTIONS: [&str; 10] =
    ["global", "monitor", "daemon", "metadata", "gateway", "client", "mon", "osd", "mds", "rgw"];

#[derive(clap::Subcommand, Debug)]
pub(crate) enum ConfigCommand {
    /// Show the settings as a service sees them
    Get {
        /// [WHO] [NAME]: global, a role or one service (daemon.3); one setting, else all
        #[arg(num_args = 0..=2, value_name = "WHO NAME")]
        args: Vec<String>,
    },
    /// Make a setting for all, a role or one service
    Set {
        /// [WHO] NAME VALUE: global (if not said), a role or one service (daemon.3)
        #[arg(num_args = 2..=3, required = true, value_name = "WHO NAME VALUE")]
        args: Vec<String>,
    },
    /// Take a setting back
    Rm {
        /// [WHO] NAME
        #[arg(num_args = 1..=2, required = true, value_name = "WHO NAME")]
        args: Vec<String>,
    },
    /// Show every setting that was made
    Dump,
    /// List the settings that exist
    #[command(visible_alias = "list")]
    Ls,
    /// Explain a setting: what it does, its default and range
    Describe {
        /// The setting
        name: String,
    },
}

pub(crate) async fn run(
    verb: ConfigCommand,
    connection: &Connection,
    output: &Output,
) -> Result<(), Failure> {
    match verb {
        ConfigCommand::Get { args } => {
            let (who, key) = who_and_name(args);
            let args = [("who", Some(json!(who))), ("key", key.map(|key| json!(key)))];
            let values = connection.command(command("config get", args)).await?;
            output.show(&values, pairs);
            Ok(())
        }
        ConfigCommand::Set { mut args } => {
            let (Some(value), Some(name)) = (args.pop(), args.pop()) else {
                return Err(Failure::usage("config set [WHO] NAME VALUE"));
            };
            let who = args.pop().unwrap_or_else(|| ALL.to_string());
            let args = [
                ("who", Some(json!(who))),
                ("name", Some(json!(name))),
                ("value", Some(json!(value))),
            ];
            act(command("config set", args), connection, output).await
        }
        ConfigCommand::Rm { mut args } => {
            let Some(name) = args.pop() else {
                return Err(Failure::usage("config rm [WHO] NAME"));
            };
            let who = args.pop().unwrap_or_else(|| ALL.to_string());
            let args = [("who", Some(json!(who))), ("name", Some(json!(name)))];
            act(command("config rm", args), connection, output).await
        }
        ConfigCommand::Dump => {
            let rows = connection.command(command("config dump", [])).await?;
            output.show(&rows, |rows| {
                let mut table = Table::new(["who", "name", "value"]);
                for row in items(rows, "") {
                    table.row([field(row, "section"), field(row, "name"), field(row, "value")]);
                }
                table
            });
            Ok(())
        }
        ConfigCommand::Ls => {
            let list = connection.command(command("config ls", [])).await?;
            output.show(&list, super::names("name"));
            Ok(())
        }
        ConfigCommand::Describe { name } => {
            let help =
                connection.command(command("config help", [("key", Some(json!(name)))])).await?;
            output.show(&help, pairs);
            Ok(())
        }
    }
}

/// A single word is a section if it can be one.
fn who_and_name(mut args: Vec<String>) -> (String, Option<String>) {
    let is_section =
        |word: &str| SECTIONS.contains(&word.split_once('.').map_or(word, |(role, _)| role));
    match (args.len(), args.pop()) {
        (1, Some(word)) if !is_section(&word) => (ALL.to_string(), Some(word)),
        (1, Some(word)) => (word, None),
        (_, Some(name)) => (args.pop().unwrap_or_else(|| ALL.to_string()), Some(name)),
        (_, None) => (ALL.to_string(), None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_word_is_a_section_or_a_setting() {
        let read = |words: &[&str]| {
            let (who, name) = who_and_name(words.iter().map(ToString::to_string).collect());
            format!("{who}/{}", name.unwrap_or_default())
        };
        assert_eq!(read(&[]), "global/");
        assert_eq!(read(&["osd_max_backfills"]), "global/osd_max_backfills");
        assert_eq!(read(&["daemon.3"]), "daemon.3/");
        assert_eq!(read(&["osd"]), "osd/");
        assert_eq!(read(&["daemon", "osd_max_backfills"]), "daemon/osd_max_backfills");
    }
}
