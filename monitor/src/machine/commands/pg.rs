//! Commands about placement groups.

use super::{
    Args, Kind, Outcome, ReadContext, Spec, WriteContext, destroy, done, fail, invalid, may, need,
};
use super::{data, read, show};
use crate::machine::daemons::FENCED;
use crate::machine::groups::Groups;
use crate::machine::status;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use store_base::ids::DaemonId;
use store_base::op::errno;

pub(super) const SPECS: &[Spec] = &[
    read("pg stat", &[], "Counts the placement groups by state.", stat),
    read("pg dump", &[], "Shows every placement group.", |context, _| {
        show(json!({
            "version": context.maps.osd.epoch,
            "pg_map": {"pg_stats": rows(context, &|_, _| true)},
        }))
    }),
    read(
        "pg ls",
        &[
            may("pool", Kind::Text, "one pool; else all"),
            may("osd", Kind::Daemon, "those of one daemon"),
            may("states", Kind::Texts, "those that are in all of these states"),
        ],
        "Lists placement groups.",
        list,
    ),
    read(
        "pg map",
        &[need("pgid", Kind::Pg, "the placement group")],
        "Shows where a placement group is.",
        |context, args| {
            let map = &context.maps.osd;
            let pg = args.pg(map, "pgid")?;
            let (record, target) = (&map.pgs[&pg], context.targets.of(pg));
            show(json!({
                "epoch": map.epoch, "raw_pgid": pg.to_string(), "pgid": pg.to_string(),
                "up": target, "acting": record.members,
            }))
        },
    ),
    read(
        "pg query",
        &[need("pgid", Kind::Pg, "the placement group")],
        "Shows all that the monitor knows of a placement group.",
        query,
    ),
    destroy(
        "pg force",
        &[
            need("pgid", Kind::Pg, "the placement group"),
            may("from", Kind::Daemons, "daemons to go on from; else those that could write last"),
        ],
        "Goes on without daemons that have everything: what only they have is given up.",
        force,
    ),
];

fn rows(
    context: &ReadContext<'_>,
    wanted: &dyn Fn(store_base::PgId, &status::PgState<'_>) -> bool,
) -> Vec<Value> {
    let states = status::pg_states(context);
    let rows = states.iter().filter(|(pg, _, _, state)| wanted(*pg, state));
    rows.map(|(pg, _, record, state)| status::pg_row(context, *pg, record, state)).collect()
}

fn stat(context: &ReadContext<'_>, _: &Args) -> Outcome {
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    for (.., state) in status::pg_states(context) {
        *counts.entry(state.text()).or_default() += 1;
    }
    let total: usize = counts.values().sum();
    let rows: Vec<Value> =
        counts.into_iter().map(|(name, num)| json!({"name": name, "num": num})).collect();
    show(json!({"num_pgs": total, "num_pg_by_state": rows}))
}

fn list(context: &ReadContext<'_>, args: &Args) -> Outcome {
    let map = &context.maps.osd;
    let pool = match args.text("pool") {
        Some(name) => match map.pool_by_name(name) {
            Some((id, _)) => Some(id),
            None => return fail(errno::ENOENT, format!("there is no pool {name:?}")),
        },
        None => None,
    };
    let daemon = if args.has("osd") { Some(args.daemon(map, "osd")?) } else { None };
    let states = args.texts("states");
    let rows = rows(context, &|pg, state| {
        let on = |id: DaemonId| {
            let record = &map.pgs[&pg];
            record.members.contains(&id) || record.learners.contains(&id)
        };
        pool.is_none_or(|pool| pool == pg.pool)
            && daemon.is_none_or(on)
            && states.iter().flat_map(|words| words.split('+')).all(|word| state.has(word))
    });
    show(json!({"pg_ready": true, "pg_stats": rows}))
}

fn query(context: &ReadContext<'_>, args: &Args) -> Outcome {
    let map = &context.maps.osd;
    let pg = args.pg(map, "pgid")?;
    let (record, pool) = (&map.pgs[&pg], &map.pools[&pg.pool]);
    let state = status::pg_state(context, pg, pool, record);
    let mut value = status::pg_row(context, pg, record, &state);
    value["record"] = data(record);
    value["active"] = json!(record.is_active());
    let told = context.view.groups.get(&pg);
    let ends: BTreeMap<String, Value> = told
        .into_iter()
        .flat_map(|told| &told.log_ends)
        .map(|(id, (life, end))| {
            (id.to_string(), json!({"incarnation": life, "log_end": end.to_string()}))
        })
        .collect();
    value["peers"] = json!(ends);
    show(value)
}

/// R14: the holders must be off for good, which the fence on their lives makes certain; beyond the writers
/// something that was acknowledged is lost.
fn force(context: &mut WriteContext<'_>, args: &Args) -> Outcome {
    let pg = args.pg(&context.maps.osd, "pgid")?;
    let map = &context.maps.osd;
    let record = map.pgs[&pg].clone();
    if let Some(holder) = record.holders.iter().find(|holder| map.is_up(**holder)) {
        return fail(
            errno::EBUSY,
            format!("{holder} has everything of {pg} and is up: nothing to force"),
        );
    }
    let chosen: BTreeSet<DaemonId> = match args.has("from") {
        true => args.daemons(map, "from")?.into_iter().collect(),
        false => record.writers.difference(&record.holders).copied().collect(),
    };
    if chosen.is_empty() {
        return fail(
            errno::ENOENT,
            format!(
                "nobody but the lost daemons could write to {pg} last: name others by \"from\""
            ),
        );
    }
    let beyond = chosen.iter().any(|id| !record.writers.contains(id));
    let map = context.maps.osd_mut();
    for holder in record.holders.iter().filter(|holder| !chosen.contains(holder)) {
        if let Some(info) = map.daemons.get_mut(holder) {
            info.details.insert(FENCED.to_string(), info.incarnation.0.to_string());
        }
    }
    let groups =
        Groups { committed: &context.committed.osd, view: context.view, targets: context.targets };
    groups.force(context.maps.osd_mut(), pg, &chosen).map_err(invalid)?;
    done(match beyond {
        true => format!("{pg} goes on from copies that may lack acknowledged writes"),
        false => format!("{pg} goes on; nothing that was acknowledged is lost"),
    })
}
