//! Pools: making and changing them, their placement groups' first records, and what fills them.

use super::groups::{self, unformed};
use super::placement::{self, OPTION_AUTO_RULE};
use super::settings;
use super::view::View;
use std::collections::BTreeMap;
use store_base::Timestamp;
use store_base::ids::{PgId, PoolId};
use store_base::map::osd::OPTION_OVER_QUOTA;
use store_base::map::{ConfigMap, ErasureProfile, OsdMap, Pool, PoolKind};

/// Longest name of a pool.
pub const NAME_BYTES_MAX: usize = 128;

/// Copies that a pool can have.
pub const SIZE_MAX: u8 = 16;

/// Placement groups of one pool.
pub const PG_NUM_MAX: u32 = 65_536;

/// Placement groups of the whole cluster.
pub const PG_TOTAL_MAX: usize = 200_000;

/// One of so many placement groups of a pool changes its place at a time when there are more of them.
const FOLLOW_SHARE: u32 = 16;

/// Placement groups per daemon that all pools together should come to.
const PGS_PER_DAEMON: u64 = 100;

/// Pools of that size that a cluster is expected to have.
const POOLS_EXPECTED: u64 = 4;

/// What a person may say of a new pool.
#[derive(Clone, Debug, Default)]
pub(crate) struct Wish {
    pub(crate) name: String,
    pub(crate) size: Option<u8>,
    pub(crate) min_size: Option<u8>,
    pub(crate) pg_num: Option<u32>,
    pub(crate) rule: Option<u32>,
    pub(crate) application: Option<String>,
    /// Data and coding slots instead of copies.
    pub(crate) erasure: Option<ErasureProfile>,
}

pub(crate) fn check_name(name: &str) -> Result<(), String> {
    let fits = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    let starts = name.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_' || c == '.');
    match name.len() <= NAME_BYTES_MAX && starts && name.chars().all(fits) {
        true => Ok(()),
        false => Err(format!(
            "{name:?} cannot be a pool's name: 1 to {NAME_BYTES_MAX} letters, digits, '.', '_', '-', and no \
             '-' at the start"
        )),
    }
}

/// Copies without which nothing is committed, if nobody says: so many that two halves never both go on.
pub(crate) fn min_size_for(size: u8) -> u8 {
    (size / 2 + 1).min(size)
}

/// Placement groups for a new pool: the nearest power of two to a fair share for the daemons there are.
pub(crate) fn pg_num_for(daemons: usize, size: u8) -> u32 {
    // Before the first daemon is there, a small cluster is expected.
    let daemons = if daemons == 0 { 3 } else { daemons as u64 };
    let share = daemons * PGS_PER_DAEMON / u64::from(size.max(1)) / POOLS_EXPECTED;
    let above = share.max(1).next_power_of_two();
    let nearest = if above - share.max(1) > share.max(1) - above / 2 { above / 2 } else { above };
    u32::try_from(nearest.clamp(8, 1024)).unwrap_or(1024)
}

/// Placement groups that would suit a pool by the daemons there are today; never fewer than it has.
pub(crate) fn suggested(map: &OsdMap, pool: &Pool) -> u32 {
    let inside = map.daemons.values().filter(|info| info.weight > 0).count();
    pg_num_for(inside, pool.size).max(pool.pg_num)
}

/// Adds a pool, or says why not.
pub(crate) fn create(map: &mut OsdMap, config: &ConfigMap, wish: &Wish) -> Result<PoolId, String> {
    check_name(&wish.name)?;
    let (size, min_size) = sizes(config, wish)?;
    let inside = map.daemons.values().filter(|info| info.weight > 0).count();
    let pg_num = match (wish.pg_num, settings::integer(config, "osd_pool_default_pg_num")) {
        (Some(pg_num), _) => pg_num,
        (None, 0) => pg_num_for(inside, size),
        (None, pg_num) => pg_num as u32,
    };
    check_pg_num(map, config, pg_num, size, inside)?;
    let kind = if wish.erasure.is_some() { PoolKind::Erasure } else { PoolKind::Replicated };
    let mut options = BTreeMap::new();
    let domain = wish.erasure.as_ref().map_or("", |profile| profile.failure_domain.as_str());
    let crush_rule = match (wish.rule, domain) {
        (Some(rule), _) => rule,
        (None, "") => {
            options.insert(OPTION_AUTO_RULE.to_string(), "true".to_string());
            placement::rule_for(&mut map.crush, kind, size)
        }
        (None, domain) => {
            placement::erasure_rule(&mut map.crush, domain).map_err(|e| e.to_string())?
        }
    };
    let next = map.epoch.next();
    let applications = wish.application.iter().map(|name| (name.clone(), BTreeMap::new()));
    map.pool_max += 1;
    let id = PoolId(map.pool_max);
    let pool = Pool {
        name: wish.name.clone(),
        kind,
        size,
        min_size,
        pg_num,
        pgp_num: pg_num,
        crush_rule,
        last_change: next,
        resend_since: next,
        applications: applications.collect(),
        options,
        erasure: wish.erasure.as_ref().map(|profile| profile.erasure.clone()),
        ..Pool::default()
    };
    map.pools.insert(id, pool);
    make_records(map, id);
    Ok(id)
}

/// Copies or slots of a new pool, and how many of them a write needs.
fn sizes(config: &ConfigMap, wish: &Wish) -> Result<(u8, u8), String> {
    let of_config = |name| settings::integer(config, name);
    if let Some(ErasureProfile { erasure, .. }) = &wish.erasure {
        erasure.check()?;
        let (data, size) = (erasure.data, erasure.slots());
        if wish.size.is_some_and(|wanted| wanted != size) {
            return Err(format!("the size of this pool is k + m = {size}"));
        }
        // One slot more than what is needed to read: with exactly k, a write that the next loss makes unreadable
        // would have been acknowledged.
        let min_size = wish.min_size.unwrap_or(data + 1);
        return match (data..=size).contains(&min_size) {
            true => Ok((size, min_size)),
            false => Err(format!("min_size must be k to k + m, {data} to {size}, not {min_size}")),
        };
    }
    let size = wish
        .size
        .unwrap_or_else(|| of_config("osd_pool_default_size").min(u64::from(SIZE_MAX)) as u8);
    let min_size = match (wish.min_size, of_config("osd_pool_default_min_size")) {
        (Some(min_size), _) => min_size,
        (None, 0) => min_size_for(size),
        (None, min_size) => (min_size.min(u64::from(size))) as u8,
    };
    match size > 0 && size <= SIZE_MAX && min_size > 0 && min_size <= size {
        true => Ok((size, min_size)),
        false => Err(format!(
            "size must be 1 to {SIZE_MAX} and min_size 1 to size; size {size} with min_size {min_size} is not"
        )),
    }
}

/// Says why a pool cannot have so many placement groups, if so.
pub(crate) fn check_growth(
    map: &OsdMap,
    config: &ConfigMap,
    pool: &Pool,
    pg_num: u32,
) -> Result<(), String> {
    if pg_num < pool.pg_num {
        return Err(format!(
            "{} has {} placement groups, and groups are not merged: make another pool with fewer",
            pool.name, pool.pg_num
        ));
    }
    if pg_num > PG_NUM_MAX {
        return Err(format!("pg_num must be 1 to {PG_NUM_MAX}, not {pg_num}"));
    }
    let inside = map.daemons.values().filter(|info| info.weight > 0).count();
    // What it has is counted already.
    check_pg_num(map, config, pg_num - pool.pg_num, pool.size, inside)
}

/// Lets the placement of pools follow their number of groups, a part at a time, while all of them are clean:
/// that bounds what moves at once, and how much a change of mind costs.
pub(crate) fn follow(map: &mut OsdMap, view: &View) {
    let behind = map.pools.iter().filter(|(_, pool)| pool.pgp_num < pool.pg_num);
    let due = behind.filter(|(id, pool)| is_clean(map, view, **id, pool));
    let due: Vec<_> = due.map(|(id, pool)| (*id, (pool.pg_num / FOLLOW_SHARE).max(1))).collect();
    due.into_iter().for_each(|(id, step)| groups::split::follow(map, id, step));
}

fn is_clean(map: &OsdMap, view: &View, id: PoolId, pool: &Pool) -> bool {
    let first = PgId { pool: id, seed: 0 };
    let mut records = map.pgs.range(first..).take_while(|(pg, _)| pg.pool == id);
    records.all(|(pg, record)| {
        let is_whole = record.is_active()
            && record.learners.is_empty()
            && record.width() >= usize::from(pool.size);
        let report = view.current_report(map, *pg);
        is_whole && report.is_some_and(|told| told.state.starts_with("active") && told.missing == 0)
    })
}

fn check_pg_num(
    map: &OsdMap,
    config: &ConfigMap,
    pg_num: u32,
    size: u8,
    inside: usize,
) -> Result<(), String> {
    if pg_num == 0 || pg_num > PG_NUM_MAX {
        return Err(format!("pg_num must be 1 to {PG_NUM_MAX}, not {pg_num}"));
    }
    if map.pgs.len() + pg_num as usize > PG_TOTAL_MAX {
        return Err(format!("the cluster would have more than {PG_TOTAL_MAX} placement groups"));
    }
    let copies: u64 =
        map.pools.values().map(|pool| u64::from(pool.pg_num) * u64::from(pool.size)).sum();
    let daemons = inside.max(3) as u64; // a cluster that is just being made
    let each = (copies + u64::from(pg_num) * u64::from(size)) / daemons;
    let most = settings::integer(config, "mon_max_pg_per_osd");
    if each > most {
        return Err(format!(
            "with pg_num {pg_num} each daemon would have {each} placement groups, more than the {most} of \
             mon_max_pg_per_osd: choose fewer, or add daemons"
        ));
    }
    Ok(())
}

fn make_records(map: &mut OsdMap, id: PoolId) {
    let pg_num = map.pools.get(&id).map_or(0, |pool| pool.pg_num);
    for seed in 0..pg_num {
        map.pgs.entry(PgId { pool: id, seed }).or_insert_with(unformed);
    }
}

/// Removes a pool with all that belongs to it.
pub(crate) fn remove(map: &mut OsdMap, id: PoolId) {
    map.pools.remove(&id);
    map.pgs.retain(|pg, _| pg.pool != id);
    map.upmap_items.retain(|pg, _| pg.pool != id);
}

/// Whether clients must stop writing: one daemon that is in is full.
pub(crate) fn is_full(map: &OsdMap, view: &View, config: &ConfigMap) -> bool {
    let full = settings::ratio(config, "mon_osd_full_ratio");
    map.daemons.iter().any(|(id, info)| {
        info.up && info.weight > 0 && fullness(view, *id).is_some_and(|used| used >= full)
    })
}

/// Whether the limits of fullness are in order, or why not.
pub(crate) fn check_ratios(config: &ConfigMap) -> Result<(), String> {
    let names = ["mon_osd_nearfull_ratio", "mon_osd_backfillfull_ratio", "mon_osd_full_ratio"];
    let values = names.map(|name| settings::ratio(config, name));
    for i in 1..names.len() {
        if values[i - 1] > values[i] {
            let (low, high) = (names[i - 1], names[i]);
            return Err(format!("{low} ({}) is above {high} ({})", values[i - 1], values[i]));
        }
    }
    Ok(())
}

/// Marks the pools that have used up their quota, and those that have not any more. `stored`: objects and bytes.
pub(crate) fn review_quotas(map: &mut OsdMap, stored: impl Fn(PoolId) -> (u64, u64)) {
    let next = map.epoch.next();
    for (id, pool) in &mut map.pools {
        let (objects, bytes) = stored(*id);
        let over = (pool.quota_objects > 0 && objects >= pool.quota_objects)
            || (pool.quota_bytes > 0 && bytes >= pool.quota_bytes);
        if over == pool.options.contains_key(OPTION_OVER_QUOTA) {
            continue;
        }
        match over {
            true => pool.options.insert(OPTION_OVER_QUOTA.to_string(), "true".to_string()),
            false => pool.options.remove(OPTION_OVER_QUOTA),
        };
        pool.last_change = next;
        tracing::info!(pool = pool.name, over, "quota");
    }
}

/// Used share of a daemon's medium, if it has told.
pub(crate) fn fullness(view: &View, id: store_base::DaemonId) -> Option<f64> {
    let view = view.daemons.get(&id)?;
    (view.has_beaten && view.capacity_bytes > 0)
        .then(|| view.used_bytes as f64 / view.capacity_bytes as f64)
}

/// Lets fences end whose time has come.
pub(crate) fn expire_blocklist(map: &mut OsdMap, wall: Timestamp) {
    map.blocklist.retain(|_, until| *until > wall.secs);
}
