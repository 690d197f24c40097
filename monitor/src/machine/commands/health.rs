//! Commands about the health: what is not well, and what somebody does not want to hear of.

use super::{Args, Kind, Outcome, ReadContext, Spec, WriteContext, done, fail, invalid, may};
use super::{missing, need, read, show, write};
use crate::machine::{health, mutes};
use store_base::config::TimeSpan;
use store_base::op::errno;

const CODE: super::Arg = need("code", Kind::Text, "the check's name (OSD_DOWN)");

pub(super) const SPECS: &[Spec] = &[
    read(
        "health",
        &[may("detail", Kind::Choice(&["detail"]), "\"detail\" for causes and cures")],
        "Shows whether the cluster is healthy, and if not, why.",
        |context, args| show(health::report(context).to_json(args.has("detail"))),
    ),
    read("health detail", &[], "Shows the health with causes and cures.", |context, _| {
        show(health::report(context).to_json(true))
    }),
    write(
        "health mute",
        &[
            CODE,
            may("ttl", Kind::Text, "for how long (90, 10m, 2h); else until the check ends"),
            may("sticky", Kind::Bool, "though it gets worse, or ends and comes again"),
        ],
        "Lets a check count for nothing for a time.",
        mute,
    ),
    write(
        "health unmute",
        &[may("code", Kind::Text, "the check's name; else all")],
        "Lets a check count again.",
        unmute,
    ),
    read("health mutes", &[], "Lists the checks that are muted.", mutes_in_force),
];

fn mutes_in_force(context: &ReadContext<'_>, _: &Args) -> Outcome {
    let mutes = mutes::in_force(&context.maps.notes, context.wall);
    show(mutes.iter().map(|(name, (mute, left))| mutes::describe(name, mute, *left)).collect())
}

fn seconds(text: &str) -> Option<u64> {
    text.parse().ok().or_else(|| text.parse::<TimeSpan>().ok().map(|span| span.0.as_secs()))
}

fn mute(context: &mut WriteContext<'_>, args: &Args) -> Outcome {
    let code = args.the("code").to_uppercase();
    let fits = |c: char| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_';
    if code.len() > mutes::NAME_BYTES_MAX || !code.chars().all(fits) {
        return Err(invalid(format!("{code:?} cannot be the name of a check (OSD_DOWN)")));
    }
    let until = match args.text("ttl") {
        None => 0,
        Some(text) => match seconds(text).filter(|seconds| *seconds > 0) {
            Some(seconds) => context.wall.secs.saturating_add(seconds),
            None => {
                return Err(invalid(format!("{text:?} is not a time span, as 90, 10m or 2h")));
            }
        },
    };
    let sticky = args.flag("sticky");
    let report = health::report(&context.read());
    let check = report.checks.get(code.as_str());
    if check.is_none() && !sticky {
        return Err(missing(format!(
            "{code} does not tell anything now; to mute it for later, say so by \"sticky\""
        )));
    }
    let mute = mutes::of(check, until, sticky);
    let notes = context.maps.notes_mut();
    if notes.mutes.len() >= mutes::MUTES_MAX && !notes.mutes.contains_key(&code) {
        let most = mutes::MUTES_MAX;
        return fail(errno::ENOSPC, format!("{most} checks are muted, the most allowed"));
    }
    notes.mutes.insert(code.clone(), mute);
    done(match (until, sticky) {
        (0, true) => format!("{code} is muted"),
        (0, false) => format!("{code} is muted until it ends or gets worse"),
        (_, true) => format!("{code} is muted for {} s", until - context.wall.secs),
        (_, false) => {
            format!("{code} is muted for {} s, or until it gets worse", until - context.wall.secs)
        }
    })
}

fn unmute(context: &mut WriteContext<'_>, args: &Args) -> Outcome {
    let Some(code) = args.text("code").map(str::to_uppercase) else {
        context.maps.notes_mut().mutes.clear();
        return done("no check is muted");
    };
    match context.maps.notes_mut().mutes.remove(&code) {
        Some(_) => done(format!("{code} is heard again")),
        None => Err(missing(format!("{code} is not muted"))),
    }
}
