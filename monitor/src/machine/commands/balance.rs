//! Commands about even placement: the balancer, plans of movement, and movement against its plan.

use super::{Args, Failure, Kind, Outcome, ReadContext, Spec, WriteContext, data, done, invalid};
use super::{may, missing, read, show, weight, write};
use crate::machine::balance::plan::{self, Move, Plan, Side};
use crate::machine::balance::{self, SETTING, draft::held_back, movement};
use crate::machine::placement::{self, Targets};
use crate::machine::settings;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use store_base::crush::{ROOT_DEFAULT, WEIGHT_ONE};
use store_base::ids::DaemonId;
use store_base::map::osd::WEIGHT_IN;
use store_base::map::{DaemonInfo, OsdMap};

/// Daemons that a plan adds, at most.
const ADDED_MAX: i64 = 1000;

/// Movements of placement groups that an answer names.
const NAMED_MAX: usize = 1000;

/// The largest weight in a CRUSH map.
const WEIGHT_MAX: f64 = 65_535.0;

pub(super) const SPECS: &[Spec] = &[
    read(
        "rebalance plan",
        &[
            may("add", Kind::Int(1, ADDED_MAX), "so many new daemons"),
            may("weight", Kind::Float(0.0001, WEIGHT_MAX), "of each new one, TiB; else the mean"),
            may("host", Kind::Text, "where new ones stand; else where all stand, or a new host"),
            may("drain", Kind::Daemons, "daemons that are emptied"),
            may("rm", Kind::Daemons, "daemons that are forgotten"),
            may("reweight", Kind::Texts, "3=0.5: how far daemons are in, 0 to 1"),
            may("crush_reweight", Kind::Texts, "3=1.8: weights of daemons, in TiB"),
        ],
        "Tells what a change would move, and what any placement would have to; without one, the balancer's plans.",
        plan_change,
    ),
    read(
        "rebalance status",
        &[],
        "Shows the last movements of data against their plans.",
        rebalance_status,
    ),
    read(
        "balancer status",
        &[],
        "Shows how even placement is, and what the balancer does.",
        status,
    ),
    write("balancer on", &[], "Lets the monitor keep daemons near their share.", |c, _| {
        switch(c, true)
    }),
    write(
        "balancer off",
        &[],
        "Leaves placement to CRUSH and to exceptions made by hand; those there are stay.",
        |c, _| switch(c, false),
    ),
];

fn switch(context: &mut WriteContext<'_>, on: bool) -> Outcome {
    // The monitor's own section counts before the one for all.
    let section = context.maps.config_mut().sections.entry("monitor".to_string()).or_default();
    section.insert(SETTING.to_string(), on.to_string());
    done(format!("the balancer is {}", if on { "on" } else { "off" }))
}

fn is_on(context: &ReadContext<'_>) -> bool {
    settings::flag(&context.maps.config, SETTING)
}

fn plan_change(context: &ReadContext<'_>, args: &Args) -> Outcome {
    let before = &*context.maps.osd;
    let mut map = before.clone();
    let mut change = Vec::new();
    add(&mut map, args, &mut change)?;
    for id in args.daemons_if_any(before, "drain")? {
        inside(&mut map, id, 0);
        change.push(format!("{id} emptied"));
    }
    for id in args.daemons_if_any(before, "rm")? {
        map.daemons.remove(&id);
        placement::remove(&mut map.crush, id);
        change.push(format!("{id} forgotten"));
    }
    for (id, part) in weights(args, before, "reweight", 1.0)? {
        inside(&mut map, id, (part * f64::from(WEIGHT_IN)) as u32);
        change.push(format!("{id} in by {part}"));
    }
    for (id, tib) in weights(args, before, "crush_reweight", WEIGHT_MAX)? {
        let fixed = (tib * f64::from(WEIGHT_ONE)) as u32;
        map.crush.reweight_device(id, fixed).map_err(|why| invalid(why.to_string()))?;
        change.push(format!("{id} of weight {tib}"));
    }
    placement::adapt_rules(&mut map);
    let mut targets = context.targets.clone();
    match change.is_empty() {
        true if is_on(context) => plan::look_ahead(&mut targets, &mut map, context.view),
        true => {}
        false => settle(context, &mut targets, &mut map),
    }
    let plan = plan::plan(&map, &targets, context.view);
    let change = if change.is_empty() { "the balancer".to_string() } else { change.join("; ") };
    show(describe(&change, &map, &plan))
}

/// As the monitor does when a change is made.
fn settle(context: &ReadContext<'_>, targets: &mut Targets, map: &mut OsdMap) {
    let upmaps = balance::settle(targets, map, context.view, is_on(context));
    if let Some(upmaps) = upmaps {
        map.upmap_items = upmaps;
        targets.refresh(map);
    }
}

fn inside(map: &mut OsdMap, id: DaemonId, weight: u32) {
    if let Some(info) = map.daemons.get_mut(&id) {
        info.weight = weight;
    }
}

/// Puts daemons in that are not there yet, by the ids that they would get.
fn add(map: &mut OsdMap, args: &Args, change: &mut Vec<String>) -> Result<(), Failure> {
    let Some(count) = args.int("add") else {
        return match ["weight", "host"].iter().find(|name| args.has(name)) {
            Some(name) => Err(invalid(format!("{name} is of new daemons: say how many by add"))),
            None => Ok(()),
        };
    };
    let weights: Vec<u32> = map.crush.devices().into_values().filter(|one| *one > 0).collect();
    let sum: u64 = weights.iter().map(|one| u64::from(*one)).sum();
    let mean = sum.checked_div(weights.len() as u64).map_or(WEIGHT_ONE, |mean| mean as u32);
    let fixed = args.float("weight").map_or(mean, |tib| (tib * f64::from(WEIGHT_ONE)) as u32);
    let fixed = fixed.max(1);
    let hosts: BTreeSet<String> = map.daemons.values().map(|info| info.host.clone()).collect();
    let end = map.daemons.keys().next_back().map_or(0, |id| id.0 + 1).max(map.daemon_end);
    for id in (end..).take(count.unsigned_abs() as usize) {
        if !placement::id_fits(id) {
            return Err(invalid(format!("there are no ids for {count} more daemons: add fewer")));
        }
        let host = match (args.text("host"), hosts.len()) {
            (Some(host), _) => host.to_string(),
            (None, 1) => hosts.first().cloned().unwrap_or_default(),
            (None, _) => format!("new-host-{id}"),
        };
        let location = [("root", ROOT_DEFAULT), ("host", host.as_str())];
        map.crush
            .insert_device(DaemonId(id), fixed, &location)
            .map_err(|why| invalid(why.to_string()))?;
        let info = DaemonInfo { up: true, weight: WEIGHT_IN, host, ..DaemonInfo::default() };
        let info = DaemonInfo { primary_affinity: WEIGHT_ONE, ..info };
        map.daemons.insert(DaemonId(id), info);
    }
    change.push(format!("{count} added, of weight {}", weight(fixed)));
    Ok(())
}

/// Pairs of a daemon and a number, as `3=0.5`.
fn weights(
    args: &Args,
    map: &OsdMap,
    name: &str,
    max: f64,
) -> Result<Vec<(DaemonId, f64)>, Failure> {
    let one = |text: &str| {
        let wrong = || invalid(format!("{name}: {text:?} is not DAEMON=WEIGHT, as in 3=0.5"));
        let (id, number) = text.split_once('=').ok_or_else(wrong)?;
        let id: i32 = id.strip_prefix("osd.").unwrap_or(id).parse().map_err(|_| wrong())?;
        let number: f64 = number.parse().map_err(|_| wrong())?;
        if !(0.0..=max).contains(&number) {
            return Err(invalid(format!("{name}: {number} is not a weight from 0 to {max}")));
        }
        match map.daemons.contains_key(&DaemonId(id)) {
            true => Ok((DaemonId(id), number)),
            false => Err(missing(format!("there is no {}", DaemonId(id)))),
        }
    };
    args.texts(name).into_iter().map(one).collect()
}

fn describe(change: &str, map: &OsdMap, plan: &Plan) -> Value {
    let moves = plan.moves.iter().take(NAMED_MAX).map(|one: &Move| {
        json!({"pgid": one.pg.to_string(), "from": one.from, "to": one.to, "bytes": one.bytes})
    });
    let daemons = plan.daemons.iter().map(|(id, side): (&DaemonId, &Side)| {
        json!({
            "osd": id,
            "copies_before": side.copies_before,
            "copies_after": side.copies_after,
            "bytes_before": side.bytes_before,
            "bytes_after": side.bytes_after,
            "bytes_share": side.bytes_share,
        })
    });
    json!({
        "change": change,
        "pgs": plan.moves.len(),
        "copies": plan.planned.copies,
        "objects": plan.planned.objects,
        "bytes": plan.planned.bytes,
        "bytes_bound": plan.bound.bytes,
        "ratio": plan.ratio(),
        "pgs_unreported": plan.unreported,
        "exceptions": map.upmap_items.len(),
        "daemons": daemons.collect::<Vec<_>>(),
        "moves": moves.collect::<Vec<_>>(),
        "moves_unnamed": plan.moves.len().saturating_sub(NAMED_MAX),
    })
}

fn rebalance_status(context: &ReadContext<'_>, _: &Args) -> Outcome {
    let left = movement::copies_left(&context.maps.osd, context.targets);
    let one = |movement: &Option<_>| {
        let movement = movement.as_ref();
        movement.map(|movement| movement::describe(movement, context.view, left))
    };
    let notes = &context.maps.notes;
    show(json!({
        "movement": one(&notes.movement),
        "balancing": one(&notes.balancing),
        "copies_left": left,
    }))
}

fn status(context: &ReadContext<'_>, _: &Args) -> Outcome {
    let (map, view) = (&context.maps.osd, context.view);
    let pools = balance::spread(context.targets, map);
    let is_level = pools.iter().all(|pool| pool.is_level);
    let state = match (is_on(context), held_back(map.flags)) {
        (false, _) => "off".to_string(),
        (true, Some(flag)) => format!("held back by {flag}"),
        (true, None) if is_level => "level".to_string(),
        (true, None) if balance::is_quiet(map, view, context.targets) => "moving".to_string(),
        (true, None) => "waiting until all is in its place and reported".to_string(),
    };
    show(json!({
        "active": is_on(context),
        "mode": "upmap",
        "state": state,
        "level": is_level,
        "exceptions": map.upmap_items.len(),
        "moves_max": settings::integer(&context.maps.config, balance::SETTING_MOVES),
        "pools": data(&pools),
    }))
}
