//! Commands about scrub, and the audit of what is whole and verified.

use super::{Args, Kind, Outcome, ReadContext, Spec, WriteContext};
use super::{done, fail, may, need, read, show, time, write};
use crate::machine::scrub::{self, Audit, ORDERS_MAX, Window};
use crate::machine::status::pg_states;
use serde_json::{Value, json};
use store_base::Timestamp;
use store_base::map::{OsdMap, ScrubOrder, ScrubScope};
use store_base::op::errno;

pub(super) const SPECS: &[Spec] = &[
    write(
        "scrub start",
        &[
            may("deep", Kind::Bool, "read every byte from the medium, too"),
            may("pool", Kind::Text, "one pool; else all"),
        ],
        "Has all copies compared, from now on, and bad ones replaced.",
        |context, args| {
            let scope = match pool(&context.maps.osd, args)? {
                Some(pool) => ScrubScope::Pool { pool },
                None => ScrubScope::All {},
            };
            order(context, scope, args.flag("deep"), false)
        },
    ),
    write("scrub stop", &[], "Takes back every order to scrub; schedules stay.", |context, _| {
        let orders = context.maps.osd.scrubs.len();
        context.maps.osd_mut().scrubs.clear();
        done(format!("{orders} orders taken back"))
    }),
    read("scrub status", &[], "Shows how far scrub has come, and what it found.", status),
    write(
        "pg scrub",
        &[need("pgid", Kind::Pg, "the placement group")],
        "Has the copies of a placement group compared.",
        |context, args| of_group(context, args, false, false),
    ),
    write(
        "pg deep-scrub",
        &[need("pgid", Kind::Pg, "the placement group")],
        "Has every byte of a placement group's copies read and compared.",
        |context, args| of_group(context, args, true, false),
    ),
    write(
        "pg repair",
        &[need("pgid", Kind::Pg, "the placement group")],
        "As pg deep-scrub; where copies differ and no majority decides, the primary's counts.",
        |context, args| of_group(context, args, true, true),
    ),
    read(
        "audit redundancy",
        &[may("pool", Kind::Text, "one pool; else all")],
        "Counts objects at full redundancy, below it, and not verified lately.",
        audit,
    ),
];

fn pool(map: &OsdMap, args: &Args) -> Result<Option<store_base::PoolId>, super::Failure> {
    match args.text("pool") {
        None => Ok(None),
        Some(name) => match map.pool_by_name(name) {
            Some((id, _)) => Ok(Some(id)),
            None => fail(errno::ENOENT, format!("there is no pool {name:?}")),
        },
    }
}

fn of_group(context: &mut WriteContext<'_>, args: &Args, deep: bool, repair: bool) -> Outcome {
    let pg = args.pg(&context.maps.osd, "pgid")?;
    order(context, ScrubScope::Pg { pg }, deep, repair)
}

fn order(context: &mut WriteContext<'_>, scope: ScrubScope, deep: bool, repair: bool) -> Outcome {
    let at = context.wall;
    let map = context.maps.osd_mut();
    // The same again takes the place of what was asked before.
    map.scrubs.retain(|_, order| (order.scope, order.deep, order.repair) != (scope, deep, repair));
    if map.scrubs.len() >= ORDERS_MAX {
        return fail(
            errno::EBUSY,
            format!("{ORDERS_MAX} orders are open: wait, or `store scrub stop`"),
        );
    }
    let number = map.next_scrub_order();
    map.scrubs.insert(number, ScrubOrder { scope, deep, repair, at });
    let groups = map.pgs.keys().filter(|pg| scope.covers(**pg)).count();
    let kind = if deep { "deep scrub" } else { "scrub" };
    done(format!("{kind} of {groups} placement groups begins"))
}

fn stamp(secs: u64) -> Value {
    match secs {
        0 => Value::Null,
        secs => json!(time(Timestamp { secs, nanos: 0 })),
    }
}

fn status(context: &ReadContext<'_>, _: &Args) -> Outcome {
    let map = &context.maps.osd;
    let progress = scrub::progress(context);
    let orders = map.scrubs.iter().map(|(number, order)| {
        let scope = match order.scope {
            ScrubScope::All {} => "all".to_string(),
            ScrubScope::Pool { pool } => {
                map.pools.get(&pool).map_or_else(|| pool.to_string(), |pool| pool.name.clone())
            }
            ScrubScope::Pg { pg } => pg.to_string(),
        };
        json!({
            "order": number, "scope": scope, "deep": order.deep, "repair": order.repair,
            "at": time(order.at),
        })
    });
    let states = pg_states(context);
    let reports = || states.iter().filter_map(|(_, _, _, state)| state.report);
    let sum =
        |of: fn(&store_base::wire::PgReport) -> u64| reports().map(of).fold(0, u64::saturating_add);
    let window = Window::of(context, "osd_deep_scrub_interval");
    let oldest = |of: fn(&store_base::wire::PgReport) -> u64| {
        reports().map(of).map(|stamp| window.trusted(stamp)).min().unwrap_or(0)
    };
    let is_running = progress.running + progress.waiting + progress.paused > 0;
    let state = match (is_running, progress.paused > 0) {
        (false, _) => "idle",
        (true, true) => "paused",
        (true, false) => "running",
    };
    let bad: Vec<Value> = states
        .iter()
        .flat_map(|(pg, _, _, state)| {
            let lines = state.report.map(|report| report.bad_objects.clone()).unwrap_or_default();
            lines.into_iter().map(|line| json!({"pgid": pg.to_string(), "what": line}))
        })
        .collect();
    show(json!({
        "state": state,
        "orders": orders.collect::<Vec<_>>(),
        "pgs": {
            "running": progress.running, "waiting": progress.waiting, "paused": progress.paused,
            "unknown": progress.unknown,
        },
        "progress": {
            "objects": progress.objects, "objects_done": progress.objects_done,
            "bytes": progress.bytes, "bytes_done": progress.bytes_done,
            "found": progress.found, "repaired": progress.repaired,
            "seconds_left": progress.seconds_left(context.wall),
        },
        "errors": {
            "found": sum(|report| report.scrub_found),
            "repaired": sum(|report| report.scrub_repaired),
            "unrepaired": sum(|report| report.scrub_errors),
            "lost": sum(|report| report.lost_objects),
        },
        "bad_objects": bad,
        "oldest_scrub": stamp(oldest(|report| report.last_scrub_secs.max(report.verified_secs))),
        "oldest_deep_scrub": stamp(oldest(|report| report.verified_secs)),
    }))
}

fn row(name: &str, audit: &Audit) -> Value {
    json!({
        "pool": name,
        "objects": audit.objects,
        "full": audit.full,
        "below": audit.below,
        "unverified": audit.unverified,
        "verified_since": stamp(audit.verified_since),
        "inconsistent": audit.inconsistent,
        "lost": audit.lost,
        "pgs": audit.pgs,
        "pgs_unknown": audit.pgs_unknown,
        "objects_unknown": audit.unknown,
    })
}

fn audit(context: &ReadContext<'_>, args: &Args) -> Outcome {
    let map = &context.maps.osd;
    let only = pool(map, args)?;
    let window = Window::of(context, "osd_deep_scrub_interval");
    let sums = scrub::audit(context);
    let wanted = sums.iter().filter(|(id, _)| only.is_none_or(|only| only == **id));
    let rows: Vec<Value> = wanted
        .clone()
        .map(|(id, audit)| row(map.pools.get(id).map_or("", |pool| &pool.name), audit))
        .collect();
    let is_well = wanted.clone().all(|(_, audit)| {
        audit.below + audit.unverified + audit.pgs_unknown + audit.inconsistent == 0
    });
    show(json!({
        "epoch": map.epoch,
        "at": time(context.wall),
        "window_from": stamp(window.from),
        "all_full_and_verified": is_well,
        "pools": rows,
    }))
}
