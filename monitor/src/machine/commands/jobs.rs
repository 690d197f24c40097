//! Commands about background work.

use super::{Args, Kind, Outcome, Spec, WriteContext, done, fail, invalid, missing, need, read};
use super::{planned, show, write};
use crate::machine::jobs;
use store_base::ids::DaemonId;
use store_base::op::errno;

const JOB: super::Arg = need("id", Kind::Text, "the job's name, as \"job ls\" shows it");

pub(super) const SPECS: &[Spec] = &[
    read(
        "job ls",
        &[],
        "Lists background work: how far it is, how long it takes.",
        |context, _| show(jobs::list(context)),
    ),
    write(
        "job pause",
        &[JOB],
        "Holds background work back, by the flag that does so.",
        |c, args| switch(c, args, true),
    ),
    write("job resume", &[JOB], "Lets background work go on.", |c, args| switch(c, args, false)),
    write("job cancel", &[JOB], "Ends background work that can be ended: a drain.", cancel),
];

/// The flags that hold a kind of work back.
fn flags_of(kind: &str) -> Option<&'static [&'static str]> {
    Some(match kind {
        "recovery" => &["norecover"],
        "backfill" => &["nobackfill"],
        "rebalance" | "drain" => &["norebalance"],
        "scrub" => &["noscrub", "nodeep-scrub"],
        "deep-scrub" => &["nodeep-scrub"],
        _ => return None,
    })
}

fn kind_of(id: &str) -> &str {
    id.split_once('.').map_or(id, |(kind, _)| kind)
}

fn switch(context: &mut WriteContext<'_>, args: &Args, on: bool) -> Outcome {
    let id = args.the("id");
    let Some(names) = flags_of(kind_of(id)) else {
        return Err(missing(format!("there is no job {id:?} that can be paused")));
    };
    for name in names {
        if let Some(flag) = context.maps.osd_mut().flags.by_name(name) {
            *flag = on;
        }
    }
    let names = names.join(" and ");
    done(match on {
        true => format!("{id} begins nothing new: {names} is set, for all work of its kind"),
        false => format!("{id} goes on: {names} is unset"),
    })
}

fn cancel(context: &mut WriteContext<'_>, args: &Args) -> Outcome {
    let id = args.the("id");
    let daemon = id.strip_prefix("drain.").and_then(|id| id.parse().ok()).map(DaemonId);
    match (kind_of(id), daemon) {
        ("drain", Some(daemon)) if context.maps.notes.drains.contains_key(&daemon) => {
            planned::undrain(context, daemon);
            done(format!("{daemon} is in again; what was moved away moves back"))
        }
        ("drain", _) => Err(missing(format!("there is no job {id:?}"))),
        ("recovery" | "backfill", _) => fail(
            errno::EPERM,
            "lost copies are made up for as long as they are lacking; it can be paused",
        ),
        ("rebalance", _) => {
            fail(errno::EPERM, "what is under way is finished; \"job pause\" begins nothing new")
        }
        _ => Err(invalid(format!("{id:?} cannot be cancelled"))),
    }
}
