//! Commands about placements: where the data of new buckets goes.

use super::{Failure, Kind, WriteContext, done};
use super::{invalid, may, missing, need, read, show, write};
use serde_json::json;
use store_base::bucket::placement::{
    APPLICATION, KEY_DEFAULT, KEY_PLACEMENT, PLACEMENT_DEFAULT, placement,
};
use store_base::ids::PoolId;

const NAME: super::Arg = need("name", Kind::Text, "the placement's name");

/// Longest name of a placement.
const NAME_BYTES_MAX: usize = 64;

pub(super) const SPECS: &[super::Spec] = &[
    write(
        "s3 placement set",
        &[
            NAME,
            need("data_pool", Kind::Text, "the pool for the data of its buckets"),
            may("default", Kind::Bool, "buckets that name no placement go here"),
        ],
        "Makes a pool a placement; buckets that exist stay where they are.",
        |context, args| {
            let (name, pool) = (args.the("name"), args.the("data_pool"));
            check_name(name)?;
            let found = context.maps.osd.pool_by_name(pool).map(|(id, _)| id);
            let id = found.ok_or_else(|| missing(format!("there is no pool {pool:?}")))?;
            let other = placement(&context.maps.osd, name).and_then(|found| found.pool);
            if let Some(other) = other.filter(|other| *other != id) {
                unmark(context, other, &[KEY_PLACEMENT, KEY_DEFAULT]);
            }
            mark(context, id, KEY_PLACEMENT, name);
            if args.flag("default") {
                make_default(context, Some(id));
            }
            done(format!("the data of new buckets with placement {name} goes to {pool}"))
        },
    ),
    write(
        "s3 placement default",
        &[NAME],
        "Makes a placement the one of buckets that name none.",
        |context, args| {
            let name = args.the("name");
            let found = placement(&context.maps.osd, name).ok_or_else(|| unknown(name))?;
            make_default(context, found.pool);
            done(format!("buckets that name no placement get {name}"))
        },
    ),
    write(
        "s3 placement rm",
        &[NAME],
        "Takes a placement back; buckets that exist stay where they are.",
        |context, args| {
            let name = args.the("name");
            let id = placement(&context.maps.osd, name).ok_or_else(|| unknown(name))?.pool;
            let id = id.ok_or_else(|| invalid(format!("{name} is always there")))?;
            unmark(context, id, &[KEY_PLACEMENT, KEY_DEFAULT]);
            done(format!("there is no placement {name} any more"))
        },
    ),
    read("s3 placement ls", &[], "Lists the placements.", |context, _| {
        let map = &context.maps.osd;
        let default = placement(map, "").map_or_else(String::new, |default| default.name);
        let row = |name: &str, pool: &str| json!({"name": name, "data_pool": pool, "default": name == default});
        let pools = map.pools.values();
        let mut rows = vec![row(PLACEMENT_DEFAULT, "s3.data")];
        rows.extend(pools.filter_map(|pool| Some(row(pool.placement()?, &pool.name))));
        show(rows.into())
    }),
];

fn unknown(name: &str) -> Failure {
    missing(format!("there is no placement {name:?}"))
}

fn check_name(name: &str) -> Result<(), Failure> {
    let fits = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    if name == PLACEMENT_DEFAULT {
        return Err(invalid(format!(
            "{name} is the gateway's own data pool; make another placement the default instead"
        )));
    }
    match name.len() <= NAME_BYTES_MAX && name.chars().all(fits) {
        true => Ok(()),
        false => Err(invalid(format!("{name:?} cannot be a placement's name"))),
    }
}

/// Buckets that name no placement go to this pool; `None` for the gateway's own.
fn make_default(context: &mut WriteContext<'_>, pool: Option<PoolId>) {
    let others: Vec<PoolId> = context.maps.osd.pools.keys().copied().collect();
    for other in others.into_iter().filter(|other| Some(*other) != pool) {
        unmark(context, other, &[KEY_DEFAULT]);
    }
    if let Some(pool) = pool {
        mark(context, pool, KEY_DEFAULT, "true");
    }
}

fn mark(context: &mut WriteContext<'_>, id: PoolId, key: &str, value: &str) {
    let map = context.maps.osd_mut();
    let next = map.epoch.next();
    if let Some(pool) = map.pools.get_mut(&id) {
        let marks = pool.applications.entry(APPLICATION.to_string()).or_default();
        if marks.insert(key.to_string(), value.to_string()).as_deref() != Some(value) {
            pool.last_change = next;
        }
    }
}

fn unmark(context: &mut WriteContext<'_>, id: PoolId, keys: &[&str]) {
    let map = context.maps.osd_mut();
    let next = map.epoch.next();
    if let Some(pool) = map.pools.get_mut(&id)
        && let Some(marks) = pool.applications.get_mut(APPLICATION)
    {
        for key in keys {
            if marks.remove(*key).is_some() {
                pool.last_change = next;
            }
        }
    }
}
