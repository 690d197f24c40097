//! `job`: background work.

use super::{act, command, items};
use crate::cluster::Connection;
use crate::exit::Failure;
use crate::output::Output;
use crate::table::Table;
use crate::units::{bytes, field, number};
use serde_json::{Value, json};

#[derive(clap::Subcommand, Debug)]
pub(crate) enum JobCommand {
    /// List what is under way: how far it is, how long it takes
    #[command(visible_alias = "list")]
    Ls,
    /// Begin nothing new of it
    Pause(Id),
    /// Let it go on
    Resume(Id),
    /// End it, if it can be ended: a drain
    Cancel(Id),
}

#[derive(clap::Args, Debug)]
pub(crate) struct Id {
    /// The job, as `job ls` shows it
    id: String,
}

pub(crate) async fn run(
    verb: JobCommand,
    connection: &Connection,
    output: &Output,
) -> Result<(), Failure> {
    let on = |prefix: &str, id: Id| command(prefix, [("id", Some(json!(id.id)))]);
    let action = match verb {
        JobCommand::Ls => {
            let list = connection.command(command("job ls", [])).await?;
            output.show(&list, table);
            let unknown = number(&list, "pgs_unreported");
            if unknown > 0 && !output.is_json() {
                output.remark(&format!(
                    "{unknown} placement groups do not report: what they have to do is not known"
                ));
            }
            return Ok(());
        }
        JobCommand::Pause(id) => on("job pause", id),
        JobCommand::Resume(id) => on("job resume", id),
        JobCommand::Cancel(id) => on("job cancel", id),
    };
    act(action, connection, output).await
}

fn table(list: &Value) -> Table {
    let mut table =
        Table::new(["id", "state", "what", "pgs", "objects", "bytes", "rate", "left", "%"])
            .right([3, 4, 5, 6, 7, 8]);
    for job in items(list, "jobs") {
        let of = |done: &str, total: &str| format!("{}/{}", field(job, done), field(job, total));
        let rate = job["bytes_per_second"].as_f64();
        table.row([
            field(job, "id"),
            field(job, "state"),
            field(job, "what"),
            field(job, "pgs_left"),
            of("objects_done", "objects_total"),
            format!("{}/{}", bytes(number(job, "bytes_done")), bytes(number(job, "bytes_total"))),
            rate.map_or_else(String::new, |rate| format!("{}/s", bytes(rate as u64))),
            job["seconds_left"].as_f64().map_or_else(|| "?".to_string(), span),
            job["progress"]
                .as_f64()
                .map_or_else(String::new, |part| format!("{:.0}", part * 100.0)),
        ]);
    }
    table
}

/// Seconds as people say them.
pub(crate) fn span(seconds: f64) -> String {
    match seconds as u64 {
        seconds if seconds < 120 => format!("{seconds} s"),
        seconds if seconds < 7200 => format!("{} min", seconds / 60),
        seconds => format!("{} h {} min", seconds / 3600, seconds / 60 % 60),
    }
}
