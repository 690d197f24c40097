//! Commands about room: the limits of fullness, quotas of pools.

use super::{Args, Kind, Outcome, Spec, WriteContext, done, invalid, missing, need, read};
use super::{show, write};
use crate::machine::{pools, status};
use serde_json::json;
use store_base::config::ByteSize;
use store_base::map::osd::OPTION_OVER_QUOTA;

const RATIO: super::Arg = need("ratio", Kind::Float(0.0, 1.0), "share of the medium, 0 to 1");
const POOL: super::Arg = need("pool", Kind::Text, "the pool's name");

pub(super) const SPECS: &[Spec] = &[
    write(
        "osd set-nearfull-ratio",
        &[RATIO],
        "Sets how full a daemon may be before the health says so.",
        |context, args| set_ratio(context, args, "mon_osd_nearfull_ratio"),
    ),
    write(
        "osd set-backfillfull-ratio",
        &[RATIO],
        "Sets how full a daemon may be before it takes no copies from others.",
        |context, args| set_ratio(context, args, "mon_osd_backfillfull_ratio"),
    ),
    write(
        "osd set-full-ratio",
        &[RATIO],
        "Sets how full a daemon may be before it takes nothing but deletes.",
        |context, args| set_ratio(context, args, "mon_osd_full_ratio"),
    ),
    write(
        "osd pool set-quota",
        &[
            POOL,
            need("field", Kind::Choice(&["max_objects", "max_bytes"]), "what is limited"),
            need("val", Kind::Text, "how much (1000, 10GiB); 0 for no limit"),
        ],
        "Limits what a pool may hold; at the limit it takes nothing but deletes.",
        set_quota,
    ),
    read(
        "osd pool get-quota",
        &[POOL],
        "Shows a pool's quota and what is used of it.",
        |context, args| {
            let map = &context.maps.osd;
            let (id, pool) = map
                .pool_by_name(args.the("pool"))
                .ok_or_else(|| missing(format!("there is no pool {:?}", args.the("pool"))))?;
            let sum = status::pool_sums(context).get(&id).copied().unwrap_or_default();
            show(json!({
                "pool_name": pool.name,
                "pool_id": id,
                "quota_max_objects": pool.quota_objects,
                "current_num_objects": sum.objects,
                "quota_max_bytes": pool.quota_bytes,
                "current_num_bytes": sum.bytes,
                "is_over_quota": pool.options.contains_key(OPTION_OVER_QUOTA),
            }))
        },
    ),
];

fn set_ratio(context: &mut WriteContext<'_>, args: &Args, name: &str) -> Outcome {
    let ratio = args.float("ratio").unwrap_or_default().to_string();
    let config = context.maps.config_mut();
    // One for the monitor alone would hide this one.
    for (section, keys) in &mut config.sections {
        if section != "global" {
            keys.remove(name);
        }
    }
    config.sections.retain(|_, keys| !keys.is_empty());
    let global = config.sections.entry("global".to_string()).or_default();
    global.insert(name.to_string(), ratio.clone());
    pools::check_ratios(&context.maps.config).map_err(invalid)?;
    done(format!("{name} is {ratio}"))
}

fn set_quota(context: &mut WriteContext<'_>, args: &Args) -> Outcome {
    let (name, text) = (args.the("pool"), args.the("val"));
    let is_bytes = args.the("field") == "max_bytes";
    let value = match is_bytes {
        true => text.parse::<ByteSize>().ok().map(|size| size.0),
        false => text.parse::<u64>().ok(),
    };
    let value = value.ok_or_else(|| invalid(format!("{text:?} is not an amount (1000, 10GiB)")))?;
    let map = context.maps.osd_mut();
    let next = map.epoch.next();
    let pool = map.pools.values_mut().find(|pool| pool.name == name);
    let pool = pool.ok_or_else(|| missing(format!("there is no pool {name:?}")))?;
    match is_bytes {
        true => pool.quota_bytes = value,
        false => pool.quota_objects = value,
    }
    pool.last_change = next;
    let what = if is_bytes { "bytes" } else { "objects" };
    done(match value {
        0 => format!("{name} may hold any number of {what}"),
        value => format!("{name} may hold {value} {what}"),
    })
}
