//! Real movement against its plan: what daemons have brought in since, by their own counts.
//!
//! A daemon counts what it brings in from others in one life, whatever for; one that starts again in between loses
//! what it had counted. So what is measured may be too little after a restart, and has in it what was made up after a
//! loss meanwhile.

use super::plan::{Plan, ratio};
use crate::machine::commands::time;
use crate::machine::notes::{Amount, BroughtIn, Movement};
use crate::machine::placement::Targets;
use crate::machine::view::View;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::time::Duration;
use store_base::Timestamp;
use store_base::ids::DaemonId;
use store_base::map::{DaemonInfo, OsdMap};

/// When everything is in its place the last counts are waited for this long: beats are a second apart.
pub(crate) const COUNTS_COME: Duration = Duration::from_secs(3);

/// Longest text of a cause, in bytes.
const CAUSE_BYTES_MAX: usize = 200;

/// Daemons that a cause names.
const CAUSE_NAMES_MAX: usize = 4;

/// What moves data between these maps, if it is not a loss: for people.
pub(crate) fn cause(old: &OsdMap, new: &OsdMap) -> String {
    let inside = |info: &DaemonInfo| info.weight > 0;
    let weight = |map: &OsdMap, id: &DaemonId| map.crush.device_weight(*id);
    let mut rows: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for (id, info) in &new.daemons {
        let what = match old.daemons.get(id) {
            None if inside(info) => "added",
            Some(was) if inside(was) && !inside(info) && info.auto_out => continue,
            Some(was) if inside(was) && !inside(info) => "taken out",
            Some(was) if !inside(was) && inside(info) => "taken in",
            Some(was) if was.weight != info.weight => "weighed again",
            Some(_) if weight(old, id) != weight(new, id) => "weighed again",
            _ => continue,
        };
        rows.entry(what).or_default().push(id.to_string());
    }
    let gone = old.daemons.keys().filter(|id| !new.daemons.contains_key(id));
    gone.for_each(|id| rows.entry("forgotten").or_default().push(id.to_string()));
    let text = rows.into_iter().map(|(what, ids)| {
        let more = ids.len().saturating_sub(CAUSE_NAMES_MAX);
        let names = ids.into_iter().take(CAUSE_NAMES_MAX).collect::<Vec<_>>().join(", ");
        match more {
            0 => format!("{what}: {names}"),
            more => format!("{what}: {names} and {more} more"),
        }
    });
    let mut text = text.collect::<Vec<_>>().join("; ");
    text.truncate(CAUSE_BYTES_MAX); // ASCII
    text
}

/// A movement that begins now.
pub(crate) fn begin(cause: String, plan: &Plan, view: &View, wall: Timestamp) -> Movement {
    let counts = view.daemons.iter().map(|(id, told)| {
        let count = BroughtIn {
            incarnation: told.incarnation,
            objects: told.recovered_objects,
            bytes: told.recovered_bytes,
        };
        (*id, count)
    });
    Movement {
        cause,
        since: wall,
        planned: plan.planned,
        bound: plan.bound,
        before: counts.collect(),
        ended: None,
        measured: Amount::default(),
    }
}

/// What has been brought in since a movement began.
pub(crate) fn measured(movement: &Movement, view: &View) -> Amount {
    if movement.ended.is_some() {
        return movement.measured;
    }
    let mut sum = Amount::default();
    for (id, told) in &view.daemons {
        // Of another life nothing was counted before.
        let before = movement.before.get(id).filter(|was| was.incarnation == told.incarnation);
        let before = before.copied().unwrap_or_default();
        sum.objects += told.recovered_objects.saturating_sub(before.objects);
        sum.bytes += told.recovered_bytes.saturating_sub(before.bytes);
    }
    sum
}

/// Copies that are still to be made, whatever for.
pub(crate) fn copies_left(map: &OsdMap, targets: &Targets) -> u64 {
    let left =
        map.pgs.iter().filter(|(_, record)| !record.members.is_empty()).map(|(pg, record)| {
            targets.placed(*pg).filter(|id| !record.members.contains(id)).count() as u64
        });
    left.sum()
}

/// For people and programs.
pub(crate) fn describe(movement: &Movement, view: &View, copies_left: u64) -> Value {
    let measured = measured(movement, view);
    let (planned, bound) = (movement.planned, movement.bound);
    let left = if movement.ended.is_some() { 0 } else { copies_left };
    json!({
        "cause": movement.cause,
        "since": time(movement.since),
        "state": if movement.ended.is_some() { "done" } else { "running" },
        "ended": movement.ended.map(time),
        "copies_planned": planned.copies,
        "copies_left": left,
        "objects_planned": planned.objects,
        "objects_moved": measured.objects,
        "bytes_planned": planned.bytes,
        "bytes_bound": bound.bytes,
        "bytes_moved": measured.bytes,
        "plan_to_bound": ratio(planned.bytes, bound.bytes),
        "moved_to_plan": ratio(measured.bytes, planned.bytes),
    })
}
