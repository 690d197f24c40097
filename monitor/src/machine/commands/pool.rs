//! Commands about pools.

use super::{
    Args, Failure, Kind, Outcome, ReadContext, Spec, WriteContext, data, destroy, done, fail,
};
use super::{invalid, may, missing, need, read, show, write};
use crate::machine::groups::Groups;
use crate::machine::placement::{self, OPTION_AUTO_RULE};
use crate::machine::pools::{self, SIZE_MAX, Wish};
use crate::machine::status;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use store_base::bucket::placement::APPLICATION;
use store_base::ids::PoolId;
use store_base::map::{ErasureProfile, OsdMap, PROFILE_DEFAULT, Pool, PoolKind};
use store_base::op::errno;

/// The option of a pool that says whether it may be removed.
const OPTION_NODELETE: &str = "nodelete";

/// The option of a pool that names the profile that it was made by.
const OPTION_PROFILE: &str = "erasure_code_profile";

const POOL: super::Arg = need("pool", Kind::Text, "the pool's name");
const VARS: Kind = Kind::Choice(&[
    "size",
    "min_size",
    "pg_num",
    "pgp_num",
    "crush_rule",
    "quota_bytes",
    "quota_objects",
    "erasure_code_profile",
    OPTION_NODELETE,
    "all",
]);
const SLOTS_MAX: i64 = store_base::erasure::SLOTS_MAX as i64;
const SET_VARS: Kind = Kind::Choice(&["size", "min_size", "crush_rule", "pg_num", OPTION_NODELETE]);

/// Applications of one pool, and the length of a name of one.
const APPLICATIONS_MAX: usize = 8;
const APPLICATION_BYTES_MAX: usize = 64;

pub(super) const SPECS: &[Spec] = &[
    write(
        "osd pool create",
        &[
            POOL,
            may(
                "pg_num",
                Kind::Int(1, pools::PG_NUM_MAX as i64),
                "placement groups; chosen if not given",
            ),
            may(
                "pool_type",
                Kind::Choice(&["replicated", "erasure"]),
                "whole copies, or slots of data and coding",
            ),
            may(
                "erasure_code_profile",
                Kind::Text,
                "what an erasure-coded pool is made by; \"default\" if not given",
            ),
            may("k", Kind::Int(1, SLOTS_MAX), "data slots, if other than the profile's"),
            may("m", Kind::Int(1, SLOTS_MAX), "coding slots, if other than the profile's"),
            may("size", Kind::Int(1, SLOTS_MAX), "copies; of erasure-coded pools k + m"),
            may(
                "min_size",
                Kind::Int(1, SLOTS_MAX),
                "copies or slots without which nothing is committed",
            ),
            may("rule", Kind::Text, "a CRUSH rule; chosen if not given"),
            may("application", Kind::Text, "what uses it"),
            may("if_not_exists", Kind::Bool, "a pool that exists with the same values is no error"),
        ],
        "Makes a pool.",
        create,
    ),
    read(
        "osd pool ls",
        &[may("detail", Kind::Choice(&["detail"]), "\"detail\" for all there is to know")],
        "Lists the pools.",
        |context, args| {
            let map = &context.maps.osd;
            match args.has("detail") {
                true => show(map.pools.iter().map(|(id, pool)| describe(map, *id, pool)).collect()),
                false => show(data(&map.pools.values().map(|pool| &pool.name).collect::<Vec<_>>())),
            }
        },
    ),
    read("osd lspools", &[], "Lists the pools with their ids.", |context, _| {
        let pools = context.maps.osd.pools.iter();
        show(pools.map(|(id, pool)| json!({"poolnum": id, "poolname": pool.name})).collect())
    }),
    read(
        "osd pool get",
        &[POOL, may("var", VARS, "one value; else all")],
        "Shows a pool's values.",
        get,
    ),
    write(
        "osd pool set",
        &[POOL, need("var", SET_VARS, "what to set"), need("val", Kind::Text, "to what")],
        "Changes a pool.",
        set,
    ),
    write(
        "osd pool rename",
        &[
            need("srcpool", Kind::Text, "the pool's name"),
            need("destpool", Kind::Text, "its new name"),
        ],
        "Gives a pool another name.",
        rename,
    ),
    destroy("osd pool rm", &[POOL], "Removes a pool with all its objects for good.", remove),
    destroy("osd pool delete", &[POOL], "Removes a pool with all its objects for good.", remove),
    write(
        "osd pool application enable",
        &[POOL, need("app", Kind::Text, "what uses it: s3, cephfs, rbd, …")],
        "Notes what uses a pool.",
        |context, args| {
            let (id, app) = (find(&context.maps.osd, args.the("pool"))?, args.the("app"));
            check_application(app)?;
            let next = context.maps.osd.epoch.next();
            let pool = pool_mut(context, id)?;
            if pool.applications.len() >= APPLICATIONS_MAX && !pool.applications.contains_key(app) {
                return fail(
                    errno::EBUSY,
                    format!("a pool has at most {APPLICATIONS_MAX} applications"),
                );
            }
            if !pool.applications.contains_key(app) {
                pool.applications.insert(app.to_string(), BTreeMap::new());
                pool.last_change = next;
            }
            done(format!("{} is used by {app}", args.the("pool")))
        },
    ),
    read("osd pool application get", &[POOL], "Shows what uses a pool.", |context, args| {
        let id = find(&context.maps.osd, args.the("pool"))?;
        show(data(&context.maps.osd.pools[&id].applications))
    }),
    read(
        "osd pool stats",
        &[may("pool", Kind::Text, "one pool; else all")],
        "Shows what is in pools.",
        stats,
    ),
];

fn find(map: &OsdMap, name: &str) -> Result<PoolId, Failure> {
    let found = map.pool_by_name(name).map(|(id, _)| id);
    found.ok_or_else(|| missing(format!("there is no pool {name:?}")))
}

fn pool_mut<'a>(context: &'a mut WriteContext<'_>, id: PoolId) -> Result<&'a mut Pool, Failure> {
    let pool = context.maps.osd_mut().pools.get_mut(&id);
    pool.ok_or_else(|| missing("the pool is gone"))
}

fn rule_name(map: &OsdMap, rule: u32) -> String {
    let rule = u8::try_from(rule).ok().and_then(|id| map.crush.rules().get(&id));
    rule.map_or_else(String::new, |rule| rule.name.clone())
}

pub(super) fn describe(map: &OsdMap, id: PoolId, pool: &Pool) -> Value {
    json!({
        "pool_id": id,
        "pool": id,
        "pool_name": pool.name,
        "type": pool.kind,
        "size": pool.size,
        "min_size": pool.min_size,
        "pg_num": pool.pg_num,
        "pg_placement_num": pool.pgp_num,
        "pg_num_suggested": pools::suggested(map, pool),
        "crush_rule": pool.crush_rule,
        "crush_rule_name": rule_name(map, pool.crush_rule),
        "failure_domain": placement::domain_name(&map.crush, pool.crush_rule),
        "last_change": pool.last_change,
        "quota_max_bytes": pool.quota_bytes,
        "quota_max_objects": pool.quota_objects,
        "application_metadata": pool.applications,
        "options": pool.options,
        "erasure": pool.erasure,
        "erasure_code_profile": pool.options.get(OPTION_PROFILE),
    })
}

fn check_application(name: &str) -> Result<(), Failure> {
    let fits = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    match name.len() <= APPLICATION_BYTES_MAX && !name.is_empty() && name.chars().all(fits) {
        true => Ok(()),
        false => Err(invalid(format!("{name:?} cannot be an application's name"))),
    }
}

fn small(args: &Args, name: &str) -> Option<u8> {
    args.int(name).and_then(|value| u8::try_from(value).ok())
}

fn create(context: &mut WriteContext<'_>, args: &Args) -> Outcome {
    let map = &context.maps.osd;
    let erasure = wanted_profile(map, args)?;
    let kind = if erasure.is_some() { PoolKind::Erasure } else { PoolKind::Replicated };
    let rule = match args.text("rule") {
        Some(name) => Some(find_rule(map, name, kind)?),
        None => None,
    };
    if let Some(app) = args.text("application") {
        check_application(app)?;
    }
    let wish = Wish {
        name: args.the("pool").to_string(),
        size: small(args, "size"),
        min_size: small(args, "min_size"),
        pg_num: args.int("pg_num").and_then(|value| u32::try_from(value).ok()),
        rule,
        application: args.text("application").map(str::to_string),
        erasure,
    };
    if let Some((id, pool)) = map.pool_by_name(&wish.name) {
        let same = wish.size.is_none_or(|size| size == pool.size)
            && wish.min_size.is_none_or(|min_size| min_size == pool.min_size)
            && wish.pg_num.is_none_or(|pg_num| pg_num == pool.pg_num)
            && wish.rule.is_none_or(|rule| rule == pool.crush_rule)
            && wish.application.as_ref().is_none_or(|app| pool.applications.contains_key(app))
            && wish.erasure.as_ref().map(|profile| &profile.erasure) == pool.erasure.as_ref();
        return match (args.flag("if_not_exists"), same) {
            (true, true) => show(describe(map, id, pool)),
            (true, false) => {
                fail(errno::EEXIST, format!("the pool {} exists with other values", wish.name))
            }
            (false, _) => fail(errno::EEXIST, format!("the pool {} exists", wish.name)),
        };
    }
    let config = context.maps.config.clone();
    let id = pools::create(context.maps.osd_mut(), &config, &wish).map_err(invalid)?;
    if wish.erasure.is_some() {
        let name = args.text("erasure_code_profile").unwrap_or(PROFILE_DEFAULT).to_string();
        let pool = pool_mut(context, id)?;
        pool.options.insert(OPTION_PROFILE.to_string(), name);
    }
    let map = &context.maps.osd;
    show(describe(map, id, &map.pools[&id]))
}

/// The profile that a new pool is to be made by, with the numbers that the command gives itself; `None` for a
/// pool of copies.
fn wanted_profile(map: &OsdMap, args: &Args) -> Result<Option<ErasureProfile>, Failure> {
    let named = args.text("erasure_code_profile");
    let (data, coding) = (small(args, "k"), small(args, "m"));
    let says_so = named.is_some() || data.is_some() || coding.is_some();
    match args.text("pool_type") {
        Some("replicated") if says_so => {
            return Err(invalid("a pool of copies has no erasure profile, k or m"));
        }
        Some("erasure") => {}
        _ if says_so => {}
        _ => return Ok(None),
    }
    let mut profile = super::profile::find(map, named.unwrap_or(PROFILE_DEFAULT))?;
    profile.erasure.data = data.unwrap_or(profile.erasure.data);
    profile.erasure.coding = coding.unwrap_or(profile.erasure.coding);
    Ok(Some(profile))
}

fn find_rule(map: &OsdMap, name: &str, kind: PoolKind) -> Result<u32, Failure> {
    let found = map.crush.rule_by_name(name);
    let (id, rule) = found.ok_or_else(|| missing(format!("there is no CRUSH rule {name:?}")))?;
    match (rule.erasure, kind) {
        (true, PoolKind::Replicated) => {
            Err(invalid(format!("the rule {name} is for erasure-coded pools")))
        }
        (false, PoolKind::Erasure) => {
            Err(invalid(format!("the rule {name} is for replicated pools")))
        }
        _ => Ok(u32::from(id)),
    }
}

fn get(context: &ReadContext<'_>, args: &Args) -> Outcome {
    let map = &context.maps.osd;
    let id = find(map, args.the("pool"))?;
    let pool = &map.pools[&id];
    let all = json!({
        "pool": pool.name,
        "pool_id": id,
        "size": pool.size,
        "min_size": pool.min_size,
        "pg_num": pool.pg_num,
        "pgp_num": pool.pgp_num,
        "crush_rule": rule_name(map, pool.crush_rule),
        "quota_bytes": pool.quota_bytes,
        "quota_objects": pool.quota_objects,
        "erasure_code_profile": pool.options.get(OPTION_PROFILE),
        "erasure": pool.erasure,
        OPTION_NODELETE: is_nodelete(pool),
    });
    match args.text("var") {
        None | Some("all") => show(all),
        Some(var) => show(json!({"pool": pool.name, "pool_id": id, var: all[var]})),
    }
}

fn set(context: &mut WriteContext<'_>, args: &Args) -> Outcome {
    let map = &context.maps.osd;
    let id = find(map, args.the("pool"))?;
    let pool = &map.pools[&id];
    let (var, val) = (args.the("var"), args.the("val"));
    let number = |max: u8| -> Result<u8, Failure> {
        let parsed = val.parse::<u8>().ok().filter(|value| (1..=max).contains(value));
        parsed.ok_or_else(|| invalid(format!("{var} cannot be {val:?}: it must be 1 to {max}")))
    };
    let before = pool.clone();
    let mut changed = pool.clone();
    match var {
        "size" if before.erasure.is_some() => {
            return Err(invalid(
                "an erasure-coded pool keeps k and m for good: make another pool with those you want",
            ));
        }
        "size" => {
            changed.size = number(SIZE_MAX)?;
            // The two go together unless somebody set min_size apart from its rule.
            if before.min_size == pools::min_size_for(before.size) || before.min_size > changed.size
            {
                changed.min_size = pools::min_size_for(changed.size);
            }
        }
        "min_size" => {
            changed.min_size = number(before.size)?;
            let least = before.erasure.as_ref().map_or(1, |erasure| erasure.data);
            if changed.min_size < least {
                return Err(invalid(format!("min_size is at least k, {least}, here")));
            }
        }
        "crush_rule" => {
            changed.crush_rule = find_rule(map, val, before.kind)?;
            changed.options.remove(OPTION_AUTO_RULE);
        }
        OPTION_NODELETE => {
            if !["true", "false"].contains(&val) {
                return Err(invalid(format!("{var} cannot be {val:?}: it is true or false")));
            }
            changed.options.insert(var.to_string(), val.to_string());
        }
        _ => return grow(context, id, &before, val),
    }
    if changed == before {
        return done("it is so already");
    }
    let map = context.maps.osd_mut();
    changed.last_change = map.epoch.next();
    let members_agree_anew = changed.min_size != before.min_size;
    map.pools.insert(id, changed);
    placement::adapt_rules(map);
    if members_agree_anew {
        // Members of an interval must not differ about min_size, so each group begins a new one.
        let groups = Groups {
            committed: &context.committed.osd,
            view: context.view,
            targets: context.targets,
        };
        groups.raise_pool(context.maps.osd_mut(), id);
    }
    done(format!("{var} of {} is {val}", before.name))
}

/// Splits the groups of a pool. Their placement follows by itself.
fn grow(context: &mut WriteContext<'_>, id: PoolId, pool: &Pool, val: &str) -> Outcome {
    let Ok(pg_num) = val.parse::<u32>() else {
        return Err(invalid(format!("pg_num cannot be {val:?}: it is a number")));
    };
    if pg_num == pool.pg_num {
        return done("it is so already");
    }
    pools::check_growth(&context.maps.osd, &context.maps.config, pool, pg_num).map_err(invalid)?;
    let groups =
        Groups { committed: &context.committed.osd, view: context.view, targets: context.targets };
    groups.split(context.maps.osd_mut(), id, pg_num);
    done(format!("pg_num of {} is {pg_num}; its data follows", pool.name))
}

fn rename(context: &mut WriteContext<'_>, args: &Args) -> Outcome {
    let id = find(&context.maps.osd, args.the("srcpool"))?;
    let name = args.the("destpool");
    pools::check_name(name).map_err(invalid)?;
    match context.maps.osd.pool_by_name(name) {
        Some((other, _)) if other == id => return done("it is so already"),
        Some(_) => return fail(errno::EEXIST, format!("the pool {name} exists")),
        None => {}
    }
    let next = context.maps.osd.epoch.next();
    let pool = pool_mut(context, id)?;
    pool.name = name.to_string();
    pool.last_change = next;
    done(format!("{} is {name} now", args.the("srcpool")))
}

/// Whether a pool may not be removed: as somebody has said, and else for the pools of buckets.
fn is_nodelete(pool: &Pool) -> bool {
    match pool.options.get(OPTION_NODELETE) {
        Some(said) => said == "true",
        None => pool.applications.contains_key(APPLICATION),
    }
}

fn remove(context: &mut WriteContext<'_>, args: &Args) -> Outcome {
    let name = args.the("pool");
    let id = find(&context.maps.osd, name)?;
    if is_nodelete(&context.maps.osd.pools[&id]) {
        return fail(
            errno::EPERM,
            format!(
                "the pool {name} may hold buckets and what is locked in them; if it is to go for good all the \
                 same: osd pool set {name} nodelete false"
            ),
        );
    }
    pools::remove(context.maps.osd_mut(), id);
    done(format!("the pool {} is removed", args.the("pool")))
}

fn stats(context: &ReadContext<'_>, args: &Args) -> Outcome {
    let map = &context.maps.osd;
    let only = args.text("pool").map(|name| find(map, name)).transpose()?;
    let sums = status::pool_sums(context);
    let rows = map.pools.iter().filter(|(id, _)| only.is_none_or(|only| only == **id));
    let rows = rows.map(|(id, pool)| {
        let sum = sums.get(id).copied().unwrap_or_default();
        json!({
            "pool_name": pool.name,
            "pool_id": id,
            "num_objects": sum.objects,
            "num_bytes": sum.bytes,
            "missing_objects": sum.missing,
        })
    });
    show(rows.collect())
}
