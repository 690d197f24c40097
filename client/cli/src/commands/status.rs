//! `status`, `health`, `df`.

use super::{act, command, flag, items};
use crate::cluster::{self, Connection};
use crate::exit::Failure;
use crate::output::{Mark, Output};
use crate::table::Table;
use crate::units::{bytes, count, field, number, parse_span};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fmt::Write;
use std::time::Duration;

#[derive(clap::Args, Debug)]
pub(crate) struct StatusArgs {
    /// Show it again and again, every two seconds or as often as said
    #[arg(long, short, value_name = "SPAN", num_args = 0..=1, default_missing_value = "2s", value_parser = parse_span)]
    watch: Option<Duration>,
}

#[derive(clap::Args, Debug)]
pub(crate) struct HealthArgs {
    #[command(subcommand)]
    verb: Option<HealthCommand>,
}

#[derive(clap::Subcommand, Debug)]
enum HealthCommand {
    /// Causes and cures too
    Detail,
    /// Let a check count for nothing for a time
    Mute {
        /// The check, as OSD_DOWN
        check: String,
        /// For how long, as 90, 10m or 2h [default: until it ends or gets worse]
        ttl: Option<String>,
        /// Though it gets worse, or ends and comes again
        #[arg(long)]
        sticky: bool,
    },
    /// Let a check count again
    Unmute {
        /// The check; else all
        check: Option<String>,
    },
}

/// The shortest pause of `--watch`.
const WATCH_MIN: Duration = Duration::from_millis(100);

pub(crate) async fn run(
    args: StatusArgs,
    connection: &Connection,
    output: &Output,
) -> Result<(), Failure> {
    let Some(pause) = args.watch else {
        let status = connection.command(command("status", [])).await?;
        output.show_text(&status, |status| screen(status, output));
        return Ok(());
    };
    loop {
        let shown = async {
            let monitor = connection.monitor().await?;
            cluster::run(&monitor, &command("status", []), connection.timeout()).await
        };
        // A cluster that cannot be reached for a while is what somebody who watches wants to see.
        match shown.await {
            Ok(status) if output.is_json() => output.json_line(&status),
            Ok(status) => {
                output.clear_screen();
                output.text(&screen(&status, output));
            }
            Err(failure) => output.fail(&failure),
        }
        tokio::time::sleep(pause.max(WATCH_MIN)).await;
    }
}

pub(crate) async fn health(
    args: HealthArgs,
    connection: &Connection,
    output: &Output,
) -> Result<(), Failure> {
    let prefix = match args.verb {
        None => "health",
        Some(HealthCommand::Detail) => "health detail",
        Some(HealthCommand::Mute { check, ttl, sticky }) => {
            let args = [
                ("code", Some(json!(check))),
                ("ttl", ttl.map(|ttl| json!(ttl))),
                ("sticky", flag(sticky)),
            ];
            return act(command("health mute", args), connection, output).await;
        }
        Some(HealthCommand::Unmute { check }) => {
            let args = [("code", check.map(|check| json!(check)))];
            return act(command("health unmute", args), connection, output).await;
        }
    };
    let report = connection.command(command(prefix, [])).await?;
    output.show_text(&report, |report| {
        let mut text = mark_health(&field(report, "status"), output) + &muted(report) + "\n";
        for (name, check) in report["checks"].as_object().into_iter().flatten() {
            let summary = field(&check["summary"], "message");
            let severity = mark_health(&field(check, "severity"), output);
            let muted = if check["muted"] == Value::Bool(true) { "(muted) " } else { "" };
            let _ = writeln!(text, "{muted}{severity} {name}: {summary}");
            for line in items(check, "detail") {
                let _ = writeln!(text, "    {}", field(line, "message"));
            }
            for key in ["cause", "cure"] {
                if !field(check, key).is_empty() {
                    let _ = writeln!(text, "    {key}: {}", field(check, key));
                }
            }
        }
        text
    });
    Ok(())
}

/// What is not told, in brackets.
fn muted(health: &Value) -> String {
    let names: Vec<_> = items(health, "mutes").iter().map(|mute| field(mute, "code")).collect();
    match names.is_empty() {
        true => String::new(),
        false => format!(" (muted: {})", names.join(" ")),
    }
}

pub(crate) async fn df(connection: &Connection, output: &Output) -> Result<(), Failure> {
    let space = connection.command(command("df", [])).await?;
    output.show(&space, |space| {
        let mut table = Table::new(["name", "id", "stored", "objects", "used", "%used", "avail"])
            .right([1, 2, 3, 4, 5, 6]);
        let all = &space["stats"];
        let percent = |ratio: &Value| format!("{:.2}", ratio.as_f64().unwrap_or(0.0) * 100.0);
        for pool in items(space, "pools") {
            let stats = &pool["stats"];
            table.row([
                field(pool, "name"),
                field(pool, "id"),
                bytes(number(stats, "stored")),
                field(stats, "objects"),
                bytes(number(stats, "bytes_used")),
                percent(&stats["percent_used"]),
                bytes(number(stats, "max_avail")),
            ]);
        }
        table.row([
            "TOTAL".to_string(),
            String::new(),
            String::new(),
            String::new(),
            bytes(number(all, "total_used_bytes")),
            percent(&all["total_used_raw_ratio"]),
            bytes(number(all, "total_avail_bytes")),
        ]);
        table
    });
    Ok(())
}

/// A health word in its colour.
fn mark_health(word: &str, output: &Output) -> String {
    let mark = match word {
        "HEALTH_OK" => Mark::Good,
        "HEALTH_WARN" => Mark::Warning,
        _ => Mark::Bad,
    };
    output.mark(mark, word)
}

/// The screen of `status`, laid out as Ceph's users know it.
fn screen(status: &Value, output: &Output) -> String {
    let mut text = String::new();
    let mut line = |indent: usize, content: String| {
        let _ = writeln!(text, "{:indent$}{content}", "");
    };
    let heading = |name: &str| output.mark(Mark::Strong, name);
    line(2, heading("cluster:"));
    line(4, format!("id:     {}", field(status, "fsid")));
    let health = &status["health"];
    let word = mark_health(&field(health, "status"), output);
    line(4, format!("health: {word}{}", muted(health)));
    let is_heard = |check: &&Value| check["muted"] != Value::Bool(true);
    let checks = health["checks"].as_object().into_iter().flatten().map(|(_, check)| check);
    for check in checks.filter(is_heard) {
        line(12, field(&check["summary"], "message"));
    }
    line(0, String::new());
    line(2, heading("services:"));
    services(status).into_iter().for_each(|content| line(4, content));
    line(0, String::new());
    line(2, heading("data:"));
    data(status).into_iter().for_each(|content| line(4, content));
    let events = status["progress_events"].as_object().into_iter().flatten();
    let mut events = events.map(|(id, event)| progress_line(id, event)).peekable();
    if events.peek().is_some() {
        line(0, String::new());
        line(2, heading("progress:"));
        events.for_each(|content| line(4, content));
    }
    text
}

/// One job on the screen.
fn progress_line(id: &str, event: &Value) -> String {
    let percent = event["progress"].as_f64().unwrap_or(0.0) * 100.0;
    let rate = event["bytes_per_second"].as_f64().filter(|rate| *rate > 0.0);
    let rate = rate.map_or_else(String::new, |rate| format!(", {}/s", bytes(rate as u64)));
    let left = event["seconds_left"].as_f64();
    let left = left.map_or_else(String::new, |left| format!(", {} left", super::job::span(left)));
    let message = field(event, "message");
    let state = match field(event, "state").as_str() {
        "" | "running" => String::new(),
        state => format!(" ({state})"),
    };
    format!("{id}: {message}{state}: {percent:.0} %{rate}{left}")
}

fn services(status: &Value) -> Vec<String> {
    let map = &status["osdmap"];
    let quorum = crate::units::text(&status["quorum_names"]);
    let mut lines = vec![
        format!(
            "mon: {}, quorum {quorum}",
            count(number(&status["monmap"], "num_mons"), "monitor")
        ),
        format!(
            "osd: {}: {} up, {} in{}",
            count(number(map, "num_osds"), "daemon"),
            number(map, "num_up_osds"),
            number(map, "num_in_osds"),
            match field(map, "flags") {
                flags if flags.is_empty() => String::new(),
                flags => format!("; flags {flags}"),
            }
        ),
    ];
    let mut by_role: BTreeMap<&str, BTreeMap<String, u64>> = BTreeMap::new();
    for (name, info) in status["servicemap"]["services"].as_object().into_iter().flatten() {
        let role = if name.starts_with("gateway.") { "rgw" } else { "mds" };
        *by_role.entry(role).or_default().entry(field(info, "state")).or_default() += 1;
    }
    lines.extend(by_role.into_iter().map(|(role, states)| {
        let states: Vec<_> = states.iter().map(|(state, n)| format!("{n} {state}")).collect();
        format!("{role}: {}", states.join(", "))
    }));
    lines
}

fn data(status: &Value) -> Vec<String> {
    let map = &status["pgmap"];
    let mut lines = vec![
        format!(
            "pools:   {}, {}",
            count(number(map, "num_pools"), "pool"),
            count(number(map, "num_pgs"), "placement group")
        ),
        format!(
            "objects: {}, {}",
            count(number(map, "num_objects"), "object"),
            bytes(number(map, "data_bytes"))
        ),
        format!(
            "usage:   {} used, {} / {} avail",
            bytes(number(map, "bytes_used")),
            bytes(number(map, "bytes_avail")),
            bytes(number(map, "bytes_total"))
        ),
    ];
    let states = items(map, "pgs_by_state");
    lines.extend(states.iter().enumerate().map(|(index, state)| {
        let label = if index == 0 { "pgs:     " } else { "         " };
        format!("{label}{} {}", number(state, "count"), field(state, "state_name"))
    }));
    if number(map, "missing_objects") > 0 {
        lines.push(format!(
            "         {} lack a copy",
            count(number(map, "missing_objects"), "object")
        ));
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::OutputArgs;

    #[test]
    fn the_screen_tells_what_is_there_and_what_is_wrong() {
        let status = json!({
            "fsid": "0707", "quorum_names": ["a"], "monmap": {"num_mons": 1},
            "health": {"status": "HEALTH_WARN", "checks": {
                "OSD_DOWN": {"severity": "HEALTH_WARN", "summary": {"message": "1 daemon is down"}}}},
            "osdmap": {"num_osds": 3, "num_up_osds": 2, "num_in_osds": 3, "flags": "noout"},
            "servicemap": {"services": {"gateway.a": {"state": "active"}}},
            "pgmap": {"num_pools": 1, "num_pgs": 8, "num_objects": 2, "data_bytes": 4096,
                "bytes_used": 1048576, "bytes_avail": 1073741824, "bytes_total": 1074790400,
                "pgs_by_state": [{"state_name": "active+clean", "count": 5},
                    {"state_name": "active+undersized+degraded", "count": 3}]},
        });
        let output = Output::new(&OutputArgs::default());
        let expected = "  cluster:\n    id:     0707\n    health: HEALTH_WARN\n            1 daemon is down\n\n  services:\n    mon: 1 monitor, quorum a\n    osd: 3 daemons: 2 up, 3 in; flags noout\n    rgw: 1 active\n\n  data:\n    pools:   1 pool, 8 placement groups\n    objects: 2 objects, 4.00 KiB\n    usage:   1.00 MiB used, 1.00 GiB / 1.00 GiB avail\n    pgs:     5 active+clean\n             3 active+undersized+degraded\n";
        assert_eq!(screen(&status, &output), expected);
    }

    #[test]
    fn a_status_of_another_form_does_no_harm() {
        let output = Output::new(&OutputArgs::default());
        assert!(screen(&Value::Null, &output).contains("health"));
        assert!(screen(&json!({"health": 3, "pgmap": []}), &output).contains("cluster"));
    }
}
