//! The command table: JSON with "prefix" and named arguments → (errno, status, JSON output).
//!
//! ```json
//! {"prefix": "osd pool create", "pool": "rbd", "size": 3}
//! ```
//!
//! - The table describes itself (`get_command_descriptions`). Names of commands, arguments and keys of the
//!   output are Ceph's where Ceph has them.
//! - Arguments are checked against the table before a command runs. One that it does not know is refused,
//!   with the nearest that it knows. Numbers may be given as text, as a shell gives them.
//! - A command that destroys something wants `"sure": "--yes-i-really-mean-it"` too.
//! - Reads are answered at once from committed maps. Writes work on a draft and are answered when it is
//!   committed; one that fails changes nothing.
//! - `"format"` is accepted and ignored: output is JSON, people's tables are the CLI's business.

mod balance;
mod capacity;
mod cluster;
mod config;
mod health;
mod jobs;
mod node;
mod osd;
mod pg;
mod placement;
mod planned;
mod pool;
mod profile;
mod scrub;
mod user;

use super::maps::Maps;
use super::placement::Targets;
use super::users::Sealer;
use super::view::View;
use super::{ENTROPY_BYTES, Settings};
use bytes::Bytes;
use serde::Serialize;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use store_base::ids::{DaemonId, PgId};
use store_base::map::OsdMap;
use store_base::op::errno;
use store_base::wire::{CommandReply, CommandRequest};
use store_base::{Time, Timestamp};

/// Largest command.
pub const COMMAND_BYTES_MAX: usize = 64 << 10;

/// Names at most this many edits apart are taken for a slip of the hand.
const NEAR: usize = 3;

/// What a destructive command wants to hear.
pub const SURE: &str = "--yes-i-really-mean-it";

/// What commands that only read may look at.
pub(crate) struct ReadContext<'a> {
    pub(crate) maps: &'a Maps,
    pub(crate) view: &'a View,
    pub(crate) targets: &'a Targets,
    pub(crate) settings: &'a Settings,
    pub(crate) sealer: &'a dyn Sealer,
    pub(crate) now: Time,
    pub(crate) wall: Timestamp,
    /// When this monitor began to lead.
    pub(crate) began: Time,
}

/// What commands that change something work on.
pub(crate) struct WriteContext<'a> {
    pub(crate) maps: &'a mut Maps,
    pub(crate) committed: &'a Maps,
    pub(crate) view: &'a View,
    pub(crate) targets: &'a Targets,
    pub(crate) sealer: &'a dyn Sealer,
    pub(crate) entropy: &'a [u8; ENTROPY_BYTES],
    pub(crate) settings: &'a Settings,
    pub(crate) now: Time,
    pub(crate) wall: Timestamp,
    pub(crate) began: Time,
}

impl WriteContext<'_> {
    /// The draft as commands that only read see it.
    pub(crate) fn read(&self) -> ReadContext<'_> {
        ReadContext {
            maps: self.maps,
            view: self.view,
            targets: self.targets,
            settings: self.settings,
            sealer: self.sealer,
            now: self.now,
            wall: self.wall,
            began: self.began,
        }
    }
}

/// What a command brings.
pub(crate) struct Output {
    pub(crate) status: String,
    pub(crate) json: Value,
}

/// Why a command was refused: errno and sentence.
pub(crate) struct Failure {
    pub(crate) code: i32,
    pub(crate) why: String,
}

pub(crate) type Outcome = Result<Output, Failure>;

pub(crate) fn fail<T>(code: i32, why: impl Into<String>) -> Result<T, Failure> {
    Err(Failure { code, why: why.into() })
}

pub(crate) fn invalid(why: impl Into<String>) -> Failure {
    Failure { code: errno::EINVAL, why: why.into() }
}

pub(crate) fn missing(why: impl Into<String>) -> Failure {
    Failure { code: errno::ENOENT, why: why.into() }
}

pub(crate) fn done(status: impl Into<String>) -> Outcome {
    Ok(Output { status: status.into(), json: Value::Null })
}

pub(crate) fn show(json: Value) -> Outcome {
    Ok(Output { status: String::new(), json })
}

/// What an argument takes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Kind {
    /// Any text that is not empty.
    Text,
    /// Several texts, as a list or one text.
    Texts,
    /// A whole number within bounds.
    Int(i64, i64),
    /// A number within bounds.
    Float(f64, f64),
    /// `true` or `false`.
    Bool,
    /// A daemon: `3` or `osd.3`.
    Daemon,
    /// Daemons, as a list or one text, or `all`.
    Daemons,
    /// A placement group: `1.2a`.
    Pg,
    /// One of these words.
    Choice(&'static [&'static str]),
}

impl Kind {
    /// For people and programs.
    fn describe(&self) -> Value {
        match self {
            Kind::Text => json!({"type": "string"}),
            Kind::Texts => json!({"type": "string", "n": "N"}),
            Kind::Int(min, max) => json!({"type": "int", "min": min, "max": max}),
            Kind::Float(min, max) => json!({"type": "float", "min": min, "max": max}),
            Kind::Bool => json!({"type": "bool"}),
            Kind::Daemon => json!({"type": "osd"}),
            Kind::Daemons => json!({"type": "osd", "n": "N"}),
            Kind::Pg => json!({"type": "pgid"}),
            Kind::Choice(words) => json!({"type": "choices", "strings": words}),
        }
    }
}

/// An argument.
#[derive(Clone, Copy, Debug)]
pub struct Arg {
    /// Its key.
    pub name: &'static str,
    /// What it takes.
    pub kind: Kind,
    /// Whether it must be there.
    pub required: bool,
    /// For people.
    pub help: &'static str,
}

pub(crate) const fn need(name: &'static str, kind: Kind, help: &'static str) -> Arg {
    Arg { name, kind, required: true, help }
}

pub(crate) const fn may(name: &'static str, kind: Kind, help: &'static str) -> Arg {
    Arg { name, kind, required: false, help }
}

/// What a command runs.
#[derive(Clone, Copy)]
pub(crate) enum Run {
    Read(fn(&ReadContext<'_>, &Args) -> Outcome),
    Write(fn(&mut WriteContext<'_>, &Args) -> Outcome),
}

/// A row of the table.
pub struct Spec {
    /// Its name.
    pub prefix: &'static str,
    /// Arguments, in the order of the command line.
    pub args: &'static [Arg],
    /// One sentence.
    pub help: &'static str,
    /// Whether it wants [`SURE`].
    pub destructive: bool,
    pub(crate) run: Run,
}

pub(crate) const fn read(
    prefix: &'static str,
    args: &'static [Arg],
    help: &'static str,
    run: fn(&ReadContext<'_>, &Args) -> Outcome,
) -> Spec {
    Spec { prefix, args, help, destructive: false, run: Run::Read(run) }
}

pub(crate) const fn write(
    prefix: &'static str,
    args: &'static [Arg],
    help: &'static str,
    run: fn(&mut WriteContext<'_>, &Args) -> Outcome,
) -> Spec {
    Spec { prefix, args, help, destructive: false, run: Run::Write(run) }
}

pub(crate) const fn destroy(
    prefix: &'static str,
    args: &'static [Arg],
    help: &'static str,
    run: fn(&mut WriteContext<'_>, &Args) -> Outcome,
) -> Spec {
    Spec { prefix, args, help, destructive: true, run: Run::Write(run) }
}

/// Every command.
pub fn table() -> impl Iterator<Item = &'static Spec> {
    let topics: [&'static [Spec]; 15] = [
        balance::SPECS,
        cluster::SPECS,
        health::SPECS,
        jobs::SPECS,
        osd::SPECS,
        planned::SPECS,
        node::SPECS,
        capacity::SPECS,
        pool::SPECS,
        placement::SPECS,
        profile::SPECS,
        scrub::SPECS,
        pg::SPECS,
        user::SPECS,
        config::SPECS,
    ];
    topics.into_iter().flatten()
}

/// Whether a command changes something; `None` if it is not in the table.
pub fn is_write(command: &str) -> Option<bool> {
    let value: Value = serde_json::from_str(command).ok()?;
    let prefix = value.get("prefix")?.as_str()?;
    let spec = table().find(|spec| spec.prefix == prefix)?;
    Some(matches!(spec.run, Run::Write(_)))
}

/// Whether the answer to a command tells a secret, which not every reader may see.
pub fn tells_secrets(command: &str) -> bool {
    serde_json::from_str::<Value>(command).is_ok_and(|value| {
        let prefix = value.get("prefix").and_then(Value::as_str).unwrap_or_default();
        prefix.starts_with("user ")
    })
}

/// The table for programs: Ceph's `get_command_descriptions`, in words of our own.
pub(crate) fn descriptions() -> Value {
    let describe = |arg: &Arg| {
        let mut value = arg.kind.describe();
        value["name"] = json!(arg.name);
        value["req"] = json!(arg.required);
        value["help"] = json!(arg.help);
        value
    };
    let rows = table().map(|spec| {
        json!({
            "prefix": spec.prefix,
            "help": spec.help,
            "perm": if matches!(spec.run, Run::Read(_)) { "r" } else { "rw" },
            "destructive": spec.destructive,
            "args": spec.args.iter().map(describe).collect::<Vec<_>>(),
        })
    });
    Value::Array(rows.collect())
}

/// Arguments that fit the table.
#[derive(Debug)]
pub(crate) struct Args {
    values: BTreeMap<&'static str, Value>,
    /// Whether [`SURE`] was said; for commands that want it in some cases only.
    pub(crate) is_sure: bool,
}

impl Args {
    pub(crate) fn has(&self, name: &str) -> bool {
        self.values.contains_key(name)
    }

    pub(crate) fn text(&self, name: &str) -> Option<&str> {
        self.values.get(name)?.as_str()
    }

    /// A required text.
    pub(crate) fn the(&self, name: &str) -> &str {
        self.text(name).expect("the table says that it is required, and it was checked")
    }

    pub(crate) fn int(&self, name: &str) -> Option<i64> {
        self.values.get(name)?.as_i64()
    }

    pub(crate) fn float(&self, name: &str) -> Option<f64> {
        self.values.get(name)?.as_f64()
    }

    pub(crate) fn flag(&self, name: &str) -> bool {
        self.values.get(name).and_then(Value::as_bool).unwrap_or(false)
    }

    pub(crate) fn texts(&self, name: &str) -> Vec<&str> {
        let list = self.values.get(name).and_then(Value::as_array);
        list.map_or_else(Vec::new, |list| list.iter().filter_map(Value::as_str).collect())
    }

    /// A required daemon that exists.
    pub(crate) fn daemon(&self, map: &OsdMap, name: &str) -> Result<DaemonId, Failure> {
        let id = self.int(name).and_then(|id| i32::try_from(id).ok()).map(DaemonId);
        let id = id.ok_or_else(|| invalid(format!("{name} is missing")))?;
        match map.daemons.contains_key(&id) {
            true => Ok(id),
            false => Err(missing(format!("there is no {id}"))),
        }
    }

    /// Daemons that exist; `all` is every one.
    pub(crate) fn daemons(&self, map: &OsdMap, name: &str) -> Result<Vec<DaemonId>, Failure> {
        let list = self.values.get(name).and_then(Value::as_array).cloned().unwrap_or_default();
        let mut ids = Vec::new();
        for item in list {
            match item.as_i64().and_then(|id| i32::try_from(id).ok()) {
                Some(-1) => ids.extend(map.daemons.keys()),
                Some(id) if map.daemons.contains_key(&DaemonId(id)) => ids.push(DaemonId(id)),
                _ => return Err(missing(format!("there is no osd.{item}"))),
            }
        }
        ids.sort_unstable();
        ids.dedup();
        Ok(ids)
    }

    /// Daemons that exist; none if the argument was not given.
    pub(crate) fn daemons_if_any(
        &self,
        map: &OsdMap,
        name: &str,
    ) -> Result<Vec<DaemonId>, Failure> {
        if self.has(name) { self.daemons(map, name) } else { Ok(Vec::new()) }
    }

    /// Daemons that exist, in the order given, with repetitions.
    pub(crate) fn daemons_in_order(
        &self,
        map: &OsdMap,
        name: &str,
    ) -> Result<Vec<DaemonId>, Failure> {
        let list = self.values.get(name).and_then(Value::as_array);
        let ids = list.into_iter().flatten().map(|item| {
            let id = item.as_i64().and_then(|id| i32::try_from(id).ok()).map(DaemonId);
            id.filter(|id| map.daemons.contains_key(id))
                .ok_or_else(|| missing(format!("there is no osd.{item}")))
        });
        ids.collect()
    }

    /// A required placement group that exists.
    pub(crate) fn pg(&self, map: &OsdMap, name: &str) -> Result<PgId, Failure> {
        let pg: PgId = self.the(name).parse().map_err(invalid)?;
        match map.pgs.contains_key(&pg) {
            true => Ok(pg),
            false => Err(missing(format!("there is no placement group {pg}"))),
        }
    }
}

/// Answers a command that only reads, or that is refused; `None` if it changes something.
pub(crate) fn answer_read(
    context: &ReadContext<'_>,
    command: &CommandRequest,
) -> Option<CommandReply> {
    match parse(command) {
        Err(failure) => Some(reply(Err(failure))),
        Ok((Spec { run: Run::Read(run), .. }, args)) => Some(reply(run(context, &args))),
        Ok(_) => None,
    }
}

/// Answers a command that changes the draft.
pub(crate) fn answer_write(
    context: &mut WriteContext<'_>,
    command: &CommandRequest,
) -> CommandReply {
    reply(parse(command).and_then(|(spec, args)| match spec.run {
        Run::Write(run) => run(context, &args),
        Run::Read(_) => fail(errno::EINVAL, "a command that reads is answered at once"),
    }))
}

fn reply(outcome: Outcome) -> CommandReply {
    match outcome {
        Ok(Output { status, json: Value::Null }) => {
            CommandReply { code: 0, status, output: Bytes::new() }
        }
        Ok(Output { status, json }) => {
            CommandReply { code: 0, status, output: json.to_string().into() }
        }
        Err(Failure { code, why }) => {
            CommandReply { code: -code, status: why, output: Bytes::new() }
        }
    }
}

/// Finds the row and checks the arguments against it.
fn parse(command: &CommandRequest) -> Result<(&'static Spec, Args), Failure> {
    if command.json.len() > COMMAND_BYTES_MAX {
        return fail(errno::E2BIG, format!("a command is at most {COMMAND_BYTES_MAX} bytes"));
    }
    let value: Value = serde_json::from_str(&command.json)
        .map_err(|e| invalid(format!("the command is not JSON: {e}")))?;
    let Value::Object(mut given) = value else {
        return Err(invalid("the command must be a JSON object with \"prefix\""));
    };
    let prefix = match given.remove("prefix") {
        Some(Value::String(prefix)) => prefix,
        _ => return Err(invalid("the command must have a \"prefix\": its name")),
    };
    let spec = find(&prefix)?;
    given.remove("format");
    let sure = given.remove("sure").or_else(|| given.remove("yes_i_really_mean_it"));
    let mut values = BTreeMap::new();
    for arg in spec.args {
        match given.remove(arg.name) {
            None | Some(Value::Null) if arg.required => {
                return Err(invalid(format!("{prefix}: {} is missing: {}", arg.name, arg.help)));
            }
            None | Some(Value::Null) => {}
            Some(value) => {
                let value = check(arg, &value)
                    .map_err(|why| invalid(format!("{prefix}: {}: {why}", arg.name)))?;
                values.insert(arg.name, value);
            }
        }
    }
    refuse_unknown(spec, &given)?;
    let is_sure = matches!(&sure, Some(Value::Bool(true)))
        || sure.as_ref().and_then(Value::as_str) == Some(SURE);
    if spec.destructive && !is_sure {
        return fail(
            errno::EPERM,
            format!("{prefix}: {} If you are sure, add \"sure\": \"{SURE}\".", spec.help),
        );
    }
    if !command.input.is_empty() {
        return Err(invalid(format!("{prefix} takes no input bytes")));
    }
    Ok((spec, Args { values, is_sure }))
}

fn find(prefix: &str) -> Result<&'static Spec, Failure> {
    table().find(|spec| spec.prefix == prefix).ok_or_else(|| {
        let nearest = table().min_by_key(|spec| distance(spec.prefix, prefix));
        let hint = nearest.filter(|spec| distance(spec.prefix, prefix) <= NEAR).map_or_else(
            || "\"get_command_descriptions\" lists all".to_string(),
            |spec| format!("did you mean {:?}?", spec.prefix),
        );
        invalid(format!("there is no command {prefix:?}; {hint}"))
    })
}

fn refuse_unknown(spec: &Spec, given: &Map<String, Value>) -> Result<(), Failure> {
    let Some(name) = given.keys().next() else { return Ok(()) };
    let nearest = spec.args.iter().min_by_key(|arg| distance(arg.name, name));
    let hint = match nearest {
        Some(arg) if distance(arg.name, name) <= NEAR => format!("did you mean {:?}?", arg.name),
        Some(_) => {
            let names: Vec<_> = spec.args.iter().map(|arg| arg.name).collect();
            format!("it takes {}", names.join(", "))
        }
        None => "it takes none".to_string(),
    };
    Err(invalid(format!("{}: there is no argument {name:?}; {hint}", spec.prefix)))
}

/// The value in the one form that commands see, or why it does not fit.
fn check(arg: &Arg, value: &Value) -> Result<Value, String> {
    let text = match value {
        Value::String(text) => Some(text.trim().to_string()),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(flag) => Some(flag.to_string()),
        _ => None,
    };
    let one = || text.clone().ok_or_else(|| format!("{value} is not one value"));
    match arg.kind {
        Kind::Text => one().and_then(|text| match text.is_empty() {
            true => Err("it is empty".to_string()),
            false => Ok(json!(text)),
        }),
        Kind::Int(min, max) => match one()?.parse::<i64>() {
            Ok(number) if (min..=max).contains(&number) => Ok(json!(number)),
            _ => Err(format!("{value} is not a whole number from {min} to {max}")),
        },
        Kind::Float(min, max) => match one()?.parse::<f64>() {
            Ok(number) if (min..=max).contains(&number) => Ok(json!(number)),
            _ => Err(format!("{value} is not a number from {min} to {max}")),
        },
        Kind::Bool => match one()?.as_str() {
            "true" | "yes" | "on" | "1" => Ok(json!(true)),
            "false" | "no" | "off" | "0" => Ok(json!(false)),
            _ => Err(format!("{value} is neither true nor false")),
        },
        Kind::Daemon => daemon(&one()?).map(|id| json!(id)),
        Kind::Pg => one()?.parse::<PgId>().map(|pg| json!(pg.to_string())),
        Kind::Choice(words) => match words.iter().find(|word| Some(**word) == text.as_deref()) {
            Some(word) => Ok(json!(word)),
            None => Err(format!("{value} is not one of {}", words.join(", "))),
        },
        Kind::Texts => list(value).map(|list| json!(list)),
        Kind::Daemons => list(value)?
            .iter()
            .map(|text| match text.as_str() {
                "all" | "any" | "*" => Ok(json!(-1)),
                text => daemon(text).map(|id| json!(id)),
            })
            .collect::<Result<Vec<_>, _>>()
            .map(Value::Array),
    }
}

fn list(value: &Value) -> Result<Vec<String>, String> {
    let split = |text: &str| -> Vec<String> {
        text.split([',', ' ']).filter(|item| !item.is_empty()).map(str::to_string).collect()
    };
    let items = match value {
        Value::String(text) => split(text),
        Value::Number(number) => vec![number.to_string()],
        Value::Array(items) => items
            .iter()
            .map(|item| match item {
                Value::String(text) => Ok(text.trim().to_string()),
                Value::Number(number) => Ok(number.to_string()),
                other => Err(format!("{other} is not a text")),
            })
            .collect::<Result<_, _>>()?,
        other => return Err(format!("{other} is not a list")),
    };
    match items.is_empty() {
        true => Err("the list is empty".to_string()),
        false => Ok(items),
    }
}

fn daemon(text: &str) -> Result<i32, String> {
    let digits = text.strip_prefix("osd.").unwrap_or(text);
    digits
        .parse::<i32>()
        .ok()
        .filter(|id| super::placement::id_fits(*id))
        .ok_or_else(|| format!("{text:?} is not a daemon (3 or osd.3)"))
}

/// Edits from one word to another.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().take(128).collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let change = diagonal + usize::from(x != *y);
            diagonal = row[j + 1];
            row[j + 1] = change.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

/// A 16.16 weight as people write it.
pub(crate) fn weight(fixed: u32) -> f64 {
    // Four digits, as Ceph shows them.
    (f64::from(fixed) / 65536.0 * 1e4).round() / 1e4
}

/// Seconds and nanoseconds as RFC 3339, UTC.
pub(crate) fn time(at: Timestamp) -> String {
    let (days, second) = (at.secs / 86_400, at.secs % 86_400);
    // Civil date from days since 1970: eras of 400 years, years that begin in March.
    let shifted = days + 719_468;
    let era = shifted / 146_097;
    let day_of_era = shifted % 146_097;
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_shifted = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_shifted + 2) / 5 + 1;
    let month = if month_shifted < 10 { month_shifted + 3 } else { month_shifted - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    format!(
        "{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}.{:06}Z",
        second / 3600,
        second / 60 % 60,
        second % 60,
        at.nanos / 1000
    )
}

/// Any plain data as JSON.
pub(crate) fn data(value: &impl Serialize) -> Value {
    serde_json::to_value(value).unwrap_or(Value::Null)
}

#[cfg(test)]
mod tests;
