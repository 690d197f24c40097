//! One file per noun. Most verbs are a command of the monitor's table and a table for people.

pub(crate) mod bucket;
pub(crate) mod config;
pub(crate) mod erasure_profile;
pub(crate) mod job;
pub(crate) mod kms;
pub(crate) mod limits;
pub(crate) mod node;
pub(crate) mod object;
pub(crate) mod osd;
pub(crate) mod pg;
pub(crate) mod planned;
pub(crate) mod pool;
pub(crate) mod probe;
pub(crate) mod raw;
pub(crate) mod rebalance;
pub(crate) mod s3;
pub(crate) mod scrub;
pub(crate) mod service;
pub(crate) mod status;
pub(crate) mod user;
pub(crate) mod version;
pub(crate) mod wait;

use crate::cluster::Connection;
use crate::exit::Failure;
use crate::output::Output;
use crate::table::Table;
use serde_json::{Map, Value};

/// Builds a command of the monitor's table: absent arguments are left out.
pub(crate) fn command<const N: usize>(prefix: &str, args: [(&str, Option<Value>); N]) -> Value {
    let mut command = Map::from_iter([("prefix".to_string(), Value::from(prefix))]);
    for (name, value) in args {
        if let Some(value) = value {
            command.insert(name.to_string(), value);
        }
    }
    Value::Object(command)
}

/// An argument that is given or left out.
pub(crate) fn flag(set: bool) -> Option<Value> {
    set.then_some(Value::Bool(true))
}

/// Says that a destructive command is meant.
pub(crate) fn sure(mut command: Value) -> Value {
    command["sure"] = Value::from("--yes-i-really-mean-it");
    command
}

/// Runs a command that answers with a sentence.
pub(crate) async fn act(
    command: Value,
    connection: &Connection,
    output: &Output,
) -> Result<(), Failure> {
    let answer = connection.command(command).await?;
    match answer {
        Value::String(sentence) => output.done(&sentence),
        value => output.show(&value, pairs),
    }
    Ok(())
}

/// An object as two columns; nested values as JSON.
pub(crate) fn pairs(value: &Value) -> Table {
    let mut table = Table::new(["name", "value"]);
    for (name, value) in value.as_object().into_iter().flatten() {
        table.row([name.clone(), crate::units::text(value)]);
    }
    table
}

/// The items of a list, or the list under a key.
pub(crate) fn items<'a>(value: &'a Value, key: &str) -> &'a [Value] {
    let list = if key.is_empty() { value } else { &value[key] };
    list.as_array().map_or(&[], Vec::as_slice)
}

/// A list of names.
pub(crate) fn names(header: &'static str) -> impl Fn(&Value) -> Table {
    move |value| {
        let mut table = Table::new([header]);
        items(value, "").iter().for_each(|item| table.row([crate::units::text(item)]));
        table
    }
}
