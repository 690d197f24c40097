//! `osd add`: one more daemon for a cluster of `store up`, or what a daemon elsewhere needs.

use super::plan::{DAEMONS_MAX, Kind, Plan, RoleName};
use super::ports::{self, Choice, Chooser};
use super::{absolute, role};
use crate::cluster::{Connection, DEFAULT_DIR};
use crate::commands::command;
use crate::exit::Failure;
use crate::output::Output;
use serde_json::json;
use std::path::{Path, PathBuf};
use store_shell::files::read_bounded;

/// The list of processes, which is there while `store up --processes` runs.
const LIST_BYTES_MAX: u64 = 1 << 20;

#[derive(clap::Args, Debug)]
pub(crate) struct AddArgs {
    /// The directory of a cluster that `store up` runs here: starts one more daemon in it
    #[arg(long, num_args = 0..=1, default_missing_value = DEFAULT_DIR)]
    dir: Option<PathBuf>,
}

pub(crate) async fn run(
    args: &AddArgs,
    connection: &Connection,
    output: &Output,
) -> Result<(), Failure> {
    match &args.dir {
        Some(dir) => start_one_more(dir, output).await,
        None => tell_what_is_needed(connection, output).await,
    }
}

async fn start_one_more(dir: &Path, output: &Output) -> Result<(), Failure> {
    let dir = absolute(dir)?;
    let plan = Plan::load(&dir)?;
    let mut plan = plan.ok_or_else(|| {
        let dir = dir.display();
        Failure::not_found(format!("there is no cluster in {dir}: make one with `store up`"))
    })?;
    let _lock = ports::lock();
    let id = plan.add_daemon().ok_or_else(|| {
        Failure::failed(format!("there are {DAEMONS_MAX} daemons, the most on one machine"))
    })?;
    let name = RoleName::new(Kind::Daemon, id);
    let is_in_processes = read_bounded(&dir.join("commands"), LIST_BYTES_MAX).is_ok();
    plan.choose_ports_of(&name, &mut Chooser::new(Choice::Auto))?;
    plan.save()?;
    if is_in_processes {
        super::write_commands(&plan)?;
    }
    role::start(&name, &plan, output).await
}

/// A daemon on another machine, or under another supervisor, joins by itself: this says with what.
async fn tell_what_is_needed(connection: &Connection, output: &Output) -> Result<(), Failure> {
    let dump = connection.command(command("osd dump", [])).await?;
    let settings =
        connection.command(command("config get", [("who", Some(json!("monitor")))])).await?;
    let monitors = connection.monitors_text()?;
    let max = dump["max_osd"].as_u64().unwrap_or(0);
    let joins_at_once = crate::units::field(&settings, "mon_osd_auto_mark_new_in") == "true";
    let value = json!({
        "monitors": monitors,
        "credentials": format!("store-monitor issue daemon.{max} --into DIR"),
        "run": format!("store-daemon --monitors {monitors} --data-dir DIR"),
        "weight": "its capacity in TiB; its share of data is by that, and changed by `store osd crush-reweight`",
        "takes_data_at_once": joins_at_once,
    });
    output.show_text(&value, |value| {
        let at_once = match joins_at_once {
            true => "It takes its share of data at once; `store job ls` shows how far that is.",
            false => "It takes data after `store osd in ID`, because mon_osd_auto_mark_new_in is false.",
        };
        format!(
            "A daemon joins by itself when it starts with an empty directory:\n  credentials  {} (on a monitor's machine)\n  start        {}\nIts weight is its capacity in TiB, its place the name of its machine. {at_once}",
            crate::units::field(value, "credentials"),
            crate::units::field(value, "run"),
        )
    });
    Ok(())
}
