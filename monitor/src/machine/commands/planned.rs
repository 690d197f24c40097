//! Planned change of daemons: may it stop, may it go, empty it, forget it.

use super::{Args, Kind, Outcome, ReadContext, Spec, WriteContext, done, fail};
use super::{need, read, show, write};
use crate::machine::groups::Groups;
use crate::machine::placement::{self, Targets};
use crate::machine::status::{self, PgState};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use store_base::ids::{DaemonId, PgId};
use store_base::map::osd::WEIGHT_IN;
use store_base::map::{OsdMap, PgRecord, Pool};
use store_base::op::errno;

pub(super) const IDS: super::Arg = need("ids", Kind::Daemons, "daemons (3, osd.3, a list, or all)");
const ID: super::Arg = need("id", Kind::Daemon, "a daemon (3 or osd.3)");

/// Placement groups that an answer names, at most.
const NAMED_MAX: usize = 50;

pub(super) const SPECS: &[Spec] = &[
    read(
        "osd ok-to-stop",
        &[IDS],
        "Tells whether every placement group could be read and written without these daemons.",
        |context, args| {
            let ids = args.daemons(&context.maps.osd, "ids")?;
            show(ok_to_stop(context, &ids.into_iter().collect()).to_json())
        },
    ),
    read(
        "osd safe-to-destroy",
        &[IDS],
        "Tells whether nothing that these daemons have is needed.",
        |context, args| {
            let ids = args.daemons(&context.maps.osd, "ids")?;
            show(safe_to_destroy(context, &ids.into_iter().collect()).to_json())
        },
    ),
    write(
        "osd drain",
        &[IDS],
        "Empties daemons: they serve until others have all that they have.",
        |context, args| {
            let ids = args.daemons(&context.maps.osd, "ids")?;
            drain(context, &ids, args.is_sure)
        },
    ),
    write(
        "osd rm",
        &[ID],
        "Forgets a daemon for good; one whose copies are needed only if you are sure.",
        remove_one,
    ),
    write(
        "osd purge",
        &[ID],
        "Forgets a daemon for good; one whose copies are needed only if you are sure.",
        remove_one,
    ),
];

fn remove_one(context: &mut WriteContext<'_>, args: &Args) -> Outcome {
    let id = args.daemon(&context.maps.osd, "id")?;
    remove(context, &BTreeSet::from([id]), args.is_sure)
}

pub(super) fn names(ids: &BTreeSet<DaemonId>) -> String {
    ids.iter().map(DaemonId::to_string).collect::<Vec<_>>().join(", ")
}

/// What would become of each placement group if these daemons stopped.
#[derive(Debug, Default)]
pub(super) struct Stop {
    ids: BTreeSet<DaemonId>,
    /// Nothing changes, or they are short of copies for a while.
    fine: usize,
    degraded: Vec<PgId>,
    /// Read, and not written.
    read_only: Vec<PgId>,
    /// Neither.
    inactive: Vec<PgId>,
    /// Nobody can say.
    unknown: Vec<PgId>,
}

impl Stop {
    pub(super) fn is_ok(&self) -> bool {
        self.read_only.is_empty() && self.inactive.is_empty() && self.unknown.is_empty()
    }

    /// Why not, or how well.
    fn sentence(&self) -> String {
        let who = names(&self.ids);
        let rows = [
            (&self.unknown, "are not known to be well"),
            (&self.inactive, "would serve nobody"),
            (&self.read_only, "could not be written"),
        ];
        let bad = rows.iter().find(|(list, _)| !list.is_empty());
        match bad {
            Some((list, what)) => format!(
                "not now: without {who} {} placement groups {what} ({} …)",
                list.len(),
                list.iter().take(3).map(PgId::to_string).collect::<Vec<_>>().join(", ")
            ),
            None => format!("{who} can stop: every placement group stays readable and writable"),
        }
    }

    fn to_json(&self) -> Value {
        let list = |list: &[PgId]| -> Vec<String> {
            list.iter().take(NAMED_MAX).map(PgId::to_string).collect()
        };
        let bad = self.read_only.len() + self.inactive.len() + self.unknown.len();
        json!({
            "ok_to_stop": self.is_ok(),
            "osds": self.ids,
            "num_ok_pgs": self.fine + self.degraded.len(),
            "num_not_ok_pgs": bad,
            "ok_become_degraded": list(&self.degraded),
            "bad_become_read_only": list(&self.read_only),
            "bad_become_inactive": list(&self.inactive),
            "bad_unknown": list(&self.unknown),
            "message": self.sentence(),
        })
    }
}

/// As `ok-to-stop` answers.
pub(super) fn stop_report(context: &ReadContext<'_>, ids: &BTreeSet<DaemonId>) -> Value {
    ok_to_stop(context, ids).to_json()
}

/// Members that are up and would be left.
fn left(map: &OsdMap, record: &PgRecord, ids: &BTreeSet<DaemonId>) -> usize {
    record.members.iter().filter(|member| map.is_up(**member) && !ids.contains(member)).count()
}

pub(super) fn ok_to_stop(context: &ReadContext<'_>, ids: &BTreeSet<DaemonId>) -> Stop {
    let map = &context.maps.osd;
    let mut stop = Stop { ids: ids.clone(), ..Stop::default() };
    for (pg, pool, record, state) in &status::pg_states(context) {
        let involved =
            record.members.iter().any(|member| ids.contains(member) && map.is_up(*member));
        let left = left(map, record, ids);
        if !involved {
            stop.fine += 1;
        } else if !is_served(record, state) {
            stop.unknown.push(*pg);
        } else if left < copies_to_read(pool) {
            stop.inactive.push(*pg);
        } else if left < usize::from(pool.min_size) {
            stop.read_only.push(*pg);
        } else {
            stop.degraded.push(*pg);
        }
    }
    stop
}

/// Whether a group is known to be active.
fn is_served(record: &PgRecord, state: &PgState<'_>) -> bool {
    record.is_active() && state.has("active")
}

/// Members without which nothing can be read.
fn copies_to_read(pool: &Pool) -> usize {
    match pool.kind {
        store_base::map::PoolKind::Replicated => 1,
        // A pool of slots needs as many as it codes from.
        store_base::map::PoolKind::Erasure => {
            pool.erasure.as_ref().map_or(usize::MAX, |erasure| usize::from(erasure.data))
        }
    }
}

/// Who needs what daemons have.
#[derive(Debug, Default)]
pub(super) struct Need {
    ids: BTreeSet<DaemonId>,
    /// Groups that have them as members, holders, or learners.
    needed: Vec<PgId>,
    /// Groups of which nobody reports that they are well without them.
    unknown: Vec<PgId>,
}

impl Need {
    pub(super) fn is_safe(&self) -> bool {
        self.needed.is_empty() && self.unknown.is_empty()
    }

    pub(super) fn sentence(&self) -> String {
        let who = names(&self.ids);
        let some =
            |list: &[PgId]| list.iter().take(3).map(PgId::to_string).collect::<Vec<_>>().join(", ");
        match (self.needed.as_slice(), self.unknown.as_slice()) {
            ([], []) => format!("nothing that {who} has is needed"),
            ([], unknown) => format!(
                "not known, which counts as no: {} placement groups do not report ({} …)",
                unknown.len(),
                some(unknown)
            ),
            (needed, _) => {
                format!("{} placement groups need {who} ({} …)", needed.len(), some(needed))
            }
        }
    }

    fn to_json(&self) -> Value {
        let list = |list: &[PgId]| -> Vec<String> {
            list.iter().take(NAMED_MAX).map(PgId::to_string).collect()
        };
        json!({
            "safe_to_destroy": self.is_safe(),
            "osds": self.ids,
            "num_pgs_needing": self.needed.len(),
            "num_pgs_unknown": self.unknown.len(),
            "needed_by": list(&self.needed),
            "unknown": list(&self.unknown),
            "message": self.sentence(),
        })
    }
}

pub(super) fn safe_to_destroy(context: &ReadContext<'_>, ids: &BTreeSet<DaemonId>) -> Need {
    let mut need = Need { ids: ids.clone(), ..Need::default() };
    for (pg, _, record, state) in &status::pg_states(context) {
        let in_set = |set: &BTreeSet<DaemonId>| set.iter().any(|id| ids.contains(id));
        let named = record.members.iter().any(|id| ids.contains(id))
            || in_set(&record.holders)
            || in_set(&record.learners)
            // Writers are what is left to go on from when all holders are lost.
            || (in_set(&record.writers) && !record.is_active());
        if named {
            need.needed.push(*pg);
        } else if state.report.is_none() && !record.members.is_empty() {
            need.unknown.push(*pg);
        }
    }
    need
}

/// The pools that would have fewer copies than they should, for good, without these daemons.
fn pools_short_without(map: &OsdMap, ids: &BTreeSet<DaemonId>) -> Vec<String> {
    let mut without = map.clone();
    for (id, info) in &mut without.daemons {
        info.up = true; // who is down may come back
        if ids.contains(id) {
            info.weight = 0;
        }
    }
    let mut targets = Targets::default();
    targets.refresh(&without);
    let short = |id: &store_base::PoolId, pool: &Pool| {
        (0..pool.pg_num)
            .any(|seed| targets.of(PgId { pool: *id, seed }).len() < usize::from(pool.size))
    };
    let short = without.pools.iter().filter(|(id, pool)| short(id, pool));
    short.map(|(_, pool)| pool.name.clone()).collect()
}

pub(super) fn drain(context: &mut WriteContext<'_>, ids: &[DaemonId], is_sure: bool) -> Outcome {
    let set: BTreeSet<DaemonId> = ids.iter().copied().collect();
    let short = pools_short_without(&context.maps.osd, &set);
    if !short.is_empty() && !is_sure {
        return fail(
            errno::EBUSY,
            format!(
                "without {} there are too few daemons for the copies of pool {}: add daemons first; if you are sure, add \"sure\": \"{}\"",
                names(&set),
                short.join(", "),
                super::SURE
            ),
        );
    }
    let wall = context.wall;
    for id in &set {
        super::osd::change(context, *id, |info| {
            info.weight = 0;
            info.auto_out = false;
        });
        context.maps.notes_mut().drains.entry(*id).or_insert(wall);
    }
    Ok(super::Output {
        status: format!("{} is being emptied: \"job ls\" shows how far it is", names(&set)),
        json: json!({"draining": set}),
    })
}

/// Takes a daemon that is being emptied in again.
pub(super) fn undrain(context: &mut WriteContext<'_>, id: DaemonId) {
    context.maps.notes_mut().drains.remove(&id);
    super::osd::change(context, id, |info| {
        if info.weight == 0 {
            info.weight = WEIGHT_IN;
        }
    });
}

/// The groups that would be left with nobody who has them, if these daemons were gone.
fn only_holders_of(map: &OsdMap, ids: &BTreeSet<DaemonId>) -> Vec<PgId> {
    let only = map.pgs.iter().filter(|(pg, record)| {
        let left = record.holders.iter().filter(|holder| !ids.contains(holder));
        let suffice = map.pools.get(&pg.pool).is_none_or(|pool| record.suffice(pool, left));
        !record.holders.is_empty() && !suffice
    });
    only.map(|(pg, _)| *pg).collect()
}

pub(super) fn remove(
    context: &mut WriteContext<'_>,
    ids: &BTreeSet<DaemonId>,
    is_sure: bool,
) -> Outcome {
    let map = &context.maps.osd;
    if let Some(id) = ids.iter().find(|id| map.is_up(**id)) {
        return fail(errno::EBUSY, format!("{id} is up: stop its process first"));
    }
    let only = only_holders_of(map, ids);
    if !only.is_empty() {
        return fail(
            errno::EBUSY,
            format!(
                "{} alone has everything of {} placement groups ({} …): bring it back, or give them up by `store pg force`",
                names(ids),
                only.len(),
                only.iter().take(3).map(PgId::to_string).collect::<Vec<_>>().join(", ")
            ),
        );
    }
    let need = safe_to_destroy(&context.read(), ids);
    if !need.is_safe() && !is_sure {
        return fail(
            errno::EBUSY,
            format!(
                "{}: `store osd drain` it and wait; if you are sure, add \"sure\": \"{}\"",
                need.sentence(),
                super::SURE
            ),
        );
    }
    for id in ids {
        forget(context, *id);
    }
    done(format!("{} is forgotten", names(ids)))
}

fn forget(context: &mut WriteContext<'_>, id: DaemonId) {
    let groups =
        Groups { committed: &context.committed.osd, view: context.view, targets: context.targets };
    groups.forget(context.maps.osd_mut(), id);
    let map = context.maps.osd_mut();
    map.daemons.remove(&id);
    placement::remove(&mut map.crush, id);
    placement::adapt_rules(map);
    map.upmap_items.values_mut().for_each(|items| items.retain(|(_, to)| *to != id));
    map.upmap_items.retain(|_, items| !items.is_empty());
    if context.maps.notes.drains.contains_key(&id) {
        context.maps.notes_mut().drains.remove(&id);
    }
}

/// The daemons of a host, by what they told and by where they stand.
pub(super) fn daemons_of_host(map: &OsdMap, host: &str) -> BTreeSet<DaemonId> {
    let stands =
        |id: &DaemonId| map.crush.parent_of(id.0).is_some_and(|bucket| bucket.name == host);
    let on = map.daemons.iter().filter(|(id, info)| info.host == host || stands(id));
    on.map(|(id, _)| *id).collect()
}
