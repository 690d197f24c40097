//! What `osd` and `node` share: questions before a change, emptying, forgetting.

use super::{act, command, sure};
use crate::cluster::{self, Connection};
use crate::confirm::Sure;
use crate::exit::Failure;
use crate::output::Output;
use crate::progress;
use crate::units::{bytes, field, number};
use serde_json::{Value, json};
use std::time::Duration;
use store_shell::clock;

/// How long `--wait` waits, unless --timeout says another.
const PATIENCE: Duration = Duration::from_secs(24 * 3600);
/// Pause between two looks.
const PAUSE: Duration = Duration::from_millis(250);
/// How long one look may take.
const LOOK: Duration = Duration::from_secs(5);

/// A question with the answer yes or no: no is an error, of the kind "unsafe".
pub(crate) async fn ask(
    question: Value,
    key: &str,
    connection: &Connection,
    output: &Output,
) -> Result<(), Failure> {
    let answer = connection.command(question).await?;
    output.show_text(&answer, |answer| match answer[key] {
        Value::Bool(true) => field(answer, "message"),
        _ => String::new(), // the failure says it
    });
    match answer[key] {
        Value::Bool(true) => Ok(()),
        _ => Err(Failure::unsafe_(field(&answer, "message"))),
    }
}

/// Empties daemons, and waits for it if that is wished.
pub(crate) async fn drain(
    action: Value,
    wait: bool,
    is_sure: bool,
    connection: &Connection,
    output: &Output,
) -> Result<(), Failure> {
    let action = if is_sure { sure(action) } else { action };
    let answer = connection.command(action).await?;
    let ids = answer["draining"].clone();
    if !wait {
        let names = crate::units::text(&ids);
        output.show_text(&answer, |_| {
            format!("emptying {names}; `store job ls` shows how far it is")
        });
        return Ok(());
    }
    let question = command("osd safe-to-destroy", [("ids", Some(ids.clone()))]);
    let until = clock::now() + connection.chosen_timeout().unwrap_or(PATIENCE);
    let bar = progress::waiting(output);
    let began = clock::now();
    loop {
        let monitor = connection.monitor().await?;
        let answer = cluster::run(&monitor, &question, LOOK).await?;
        if answer["safe_to_destroy"] == Value::Bool(true) {
            bar.finish_and_clear();
            let seconds = clock::now().since(began).as_secs_f64();
            let value = json!({"drained": ids, "seconds": seconds});
            output.show_text(&value, |_| format!("empty after {seconds:.1} s: stop and remove it"));
            return Ok(());
        }
        if clock::now() + PAUSE >= until {
            bar.finish_and_clear();
            return Err(Failure::timed_out(format!(
                "not empty yet: {}",
                field(&answer, "message")
            )));
        }
        bar.set_message(format!("{}{}", field(&answer, "message"), rest(&monitor).await));
        tokio::time::sleep(PAUSE).await;
    }
}

/// What the jobs say is left, for the line that is drawn meanwhile.
async fn rest(monitor: &store_client::MonitorClient) -> String {
    let Ok(list) = cluster::run(monitor, &command("job ls", []), LOOK).await else {
        return String::new();
    };
    let drains = super::items(&list, "jobs").iter().filter(|job| field(job, "kind") == "drain");
    let left: u64 = drains
        .map(|job| number(job, "bytes_total").saturating_sub(number(job, "bytes_done")))
        .fold(0, u64::saturating_add);
    format!(", {} left", bytes(left))
}

/// Forgets daemons: at once if nobody needs them, else only if that is confirmed.
pub(crate) async fn remove(
    action: Value,
    confirmed: Sure,
    harm: &str,
    word: &str,
    connection: &Connection,
    output: &Output,
) -> Result<(), Failure> {
    if confirmed.sure {
        return act(sure(action), connection, output).await;
    }
    match connection.command(action.clone()).await {
        Ok(answer) => {
            output.done(&crate::units::text(&answer));
            Ok(())
        }
        // Only what a confirmation would change is asked about.
        Err(failure) if failure.message().contains("if you are sure") => {
            confirmed.confirm(&format!("{}. {harm}", failure.message()), word)?;
            act(sure(action), connection, output).await
        }
        Err(failure) => Err(failure),
    }
}
