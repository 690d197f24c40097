//! `wait`: until a condition holds, or the patience ends.

use super::{command, items};
use crate::cluster::{self, Connection};
use crate::exit::Failure;
use crate::output::Output;
use crate::progress;
use crate::units::{field, number};
use serde_json::{Value, json};
use std::fmt;
use std::str::FromStr;
use std::time::Duration;
use store_client::MonitorClient;
use store_shell::clock;

/// Patience, unless --timeout says another.
const PATIENCE: Duration = Duration::from_secs(300);
/// Pause between two looks.
const PAUSE: Duration = Duration::from_millis(200);
/// How long one look may take.
const LOOK: Duration = Duration::from_secs(5);

#[derive(clap::Args, Debug)]
pub(crate) struct WaitArgs {
    /// health=ok, health=warn (or better), osds=N (so many up), pgs=active, pgs=clean
    #[arg(required = true, value_name = "CONDITION")]
    conditions: Vec<Condition>,
}

/// What is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Condition {
    HealthOk,
    /// Warnings are fine, errors are not.
    HealthWarn,
    DaemonsUp(u64),
    /// Every placement group's state has this word.
    Groups(&'static str),
}

impl FromStr for Condition {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once('=') {
            Some(("health", "ok" | "HEALTH_OK")) => Ok(Condition::HealthOk),
            Some(("health", "warn" | "HEALTH_WARN")) => Ok(Condition::HealthWarn),
            Some(("osds" | "daemons", number)) => number
                .parse()
                .map(Condition::DaemonsUp)
                .map_err(|_| format!("{number:?} is not a number of daemons")),
            Some(("pgs", "clean" | "active+clean")) => Ok(Condition::Groups("clean")),
            Some(("pgs", "active")) => Ok(Condition::Groups("active")),
            _ => Err("use health=ok, health=warn, osds=N, pgs=active or pgs=clean".to_string()),
        }
    }
}

impl fmt::Display for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Condition::HealthOk => f.write_str("health=ok"),
            Condition::HealthWarn => f.write_str("health=warn"),
            Condition::DaemonsUp(count) => write!(f, "osds={count}"),
            Condition::Groups(word) => write!(f, "pgs={word}"),
        }
    }
}

impl Condition {
    /// What is lacking by this status, if something is.
    fn lacking(self, status: &Value) -> Option<String> {
        let health = field(&status["health"], "status");
        match self {
            Condition::HealthOk if health == "HEALTH_OK" => None,
            Condition::HealthWarn if ["HEALTH_OK", "HEALTH_WARN"].contains(&health.as_str()) => {
                None
            }
            Condition::HealthOk | Condition::HealthWarn => {
                let checks = status["health"]["checks"].as_object().into_iter().flatten();
                let messages: Vec<_> =
                    checks.map(|(_, check)| field(&check["summary"], "message")).collect();
                Some(format!("{health}: {}", messages.join("; ")))
            }
            Condition::DaemonsUp(wanted) => {
                let up = number(&status["osdmap"], "num_up_osds");
                (up < wanted).then(|| format!("{up} of {wanted} daemons are up"))
            }
            Condition::Groups(word) => {
                let states = items(&status["pgmap"], "pgs_by_state");
                let is_so =
                    |state: &&Value| field(state, "state_name").split('+').any(|part| part == word);
                let so: u64 = states.iter().filter(is_so).map(|state| number(state, "count")).sum();
                let all = number(&status["pgmap"], "num_pgs");
                (so < all).then(|| format!("{so} of {all} placement groups are {word}"))
            }
        }
    }
}

pub(crate) async fn run(
    args: &WaitArgs,
    connection: &Connection,
    output: &Output,
) -> Result<(), Failure> {
    let began = clock::now();
    let until = began + connection.chosen_timeout().unwrap_or(PATIENCE);
    let bar = progress::waiting(output);
    let mut monitor = None;
    loop {
        let lacking = match look(connection, &mut monitor).await {
            Ok(status) => args.conditions.iter().find_map(|condition| condition.lacking(&status)),
            // Not a reason to give up: the cluster may be starting.
            Err(failure) => Some(failure.message().to_string()),
        };
        let waited = clock::now().since(began);
        let Some(lacking) = lacking else {
            bar.finish_and_clear();
            let wanted: Vec<_> = args.conditions.iter().map(ToString::to_string).collect();
            let value = json!({"reached": wanted, "seconds": waited.as_secs_f64()});
            output.show_text(&value, |_| {
                format!("{} after {:.1} s", wanted.join(" "), waited.as_secs_f64())
            });
            return Ok(());
        };
        if clock::now() + PAUSE >= until {
            bar.finish_and_clear();
            return Err(Failure::timed_out(format!(
                "still not after {:.0} s: {lacking}",
                waited.as_secs_f64()
            )));
        }
        bar.set_message(lacking);
        tokio::time::sleep(PAUSE).await;
    }
}

/// A status by the monitor reached before, if there is one.
async fn look(
    connection: &Connection,
    monitor: &mut Option<MonitorClient>,
) -> Result<Value, Failure> {
    if monitor.is_none() {
        *monitor = Some(connection.monitor().await?);
    }
    let Some(reached) = monitor else { unreachable!("it was just put there") };
    let status = cluster::run(reached, &command("status", []), LOOK).await;
    if status.is_err() {
        *monitor = None;
    }
    status
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conditions_are_read_and_judged() {
        let status = json!({
            "health": {"status": "HEALTH_WARN", "checks": {
                "OSD_DOWN": {"summary": {"message": "1 daemon is down"}}}},
            "osdmap": {"num_up_osds": 2},
            "pgmap": {"num_pgs": 8, "pgs_by_state": [
                {"state_name": "active+clean", "count": 5},
                {"state_name": "active+undersized", "count": 3}]},
        });
        let lacking = |text: &str| text.parse::<Condition>().expect("known").lacking(&status);
        assert_eq!(lacking("health=ok").as_deref(), Some("HEALTH_WARN: 1 daemon is down"));
        assert_eq!(lacking("health=warn"), None);
        assert_eq!(lacking("osds=2"), None);
        assert_eq!(lacking("osds=3").as_deref(), Some("2 of 3 daemons are up"));
        assert_eq!(lacking("pgs=active"), None);
        assert_eq!(lacking("pgs=clean").as_deref(), Some("5 of 8 placement groups are clean"));
        for wrong in ["health", "health=good", "osds=x", "pgs=", ""] {
            assert!(wrong.parse::<Condition>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn an_empty_status_is_never_taken_for_good() {
        assert!(Condition::HealthOk.lacking(&Value::Null).is_some());
        assert!(Condition::HealthWarn.lacking(&json!({"health": {}})).is_some());
        assert!(Condition::DaemonsUp(1).lacking(&Value::Null).is_some());
    }
}
