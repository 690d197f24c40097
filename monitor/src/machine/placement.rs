//! Where daemons stand, and which rule a pool uses. `field` tells whom a rule may choose, `targets` who should
//! have each placement group.

pub(crate) mod field;
pub(crate) mod targets;

pub use targets::Targets;

use store_base::crush::edit::EditError;
use store_base::crush::{CrushMap, DEVICES_MAX, ROOT_DEFAULT, TYPE_DEVICE, WEIGHT_ONE};
use store_base::ids::DaemonId;
use store_base::map::{OsdMap, PoolKind};

/// The rule that puts every copy on another host.
pub const RULE_HOST: &str = "replicated_rule";

/// The rule that puts every copy on another daemon, for clusters with few hosts.
pub const RULE_DAEMON: &str = "replicated_osd";

/// What the names of rules for erasure-coded pools begin with; the failure domain follows.
const RULE_ERASURE: &str = "erasure_";

/// Pools whose rule the monitor chooses say so with this option.
pub const OPTION_AUTO_RULE: &str = "auto_rule";

/// Levels of a daemon's location, at most.
const LOCATION_LEVELS_MAX: usize = 12;

/// Gives a new map its rules.
pub(crate) fn prepare(crush: &mut CrushMap) {
    for (name, domain) in [(RULE_HOST, "host"), (RULE_DAEMON, "osd")] {
        if crush.rule_by_name(name).is_none() {
            crush
                .add_rule_replicated(name, ROOT_DEFAULT, domain)
                .expect("a new map has this root, these types and room for rules");
        }
    }
}

/// The weight of a capacity: TiB in 16.16, and 1.0 where nobody knows.
pub(crate) fn weight_of(capacity_bytes: u64) -> u32 {
    match capacity_bytes {
        0 => WEIGHT_ONE,
        bytes => u32::try_from((bytes >> 24).max(1)).unwrap_or(u32::MAX),
    }
}

/// Puts a daemon where it says it is. One that is there already keeps its place and weight, which a person may
/// have chosen, unless its host changed.
pub(crate) fn insert(
    crush: &mut CrushMap,
    daemon: DaemonId,
    host: &str,
    location: &[String],
    capacity_bytes: u64,
) -> Result<(), EditError> {
    if location.len() > LOCATION_LEVELS_MAX {
        let text = format!("a location of more than {LOCATION_LEVELS_MAX} levels");
        return Err(EditError::Invalid(text));
    }
    let mut pairs = vec![("host", host)];
    for level in location {
        let pair =
            level.split_once('=').filter(|(kind, name)| !kind.is_empty() && !name.is_empty());
        let Some((kind, name)) = pair else {
            let text = format!("{level:?} is not a location (TYPE=NAME, as in rack=r1)");
            return Err(EditError::Invalid(text));
        };
        match kind {
            "host" => pairs[0].1 = name,
            _ => pairs.push((kind, name)),
        }
    }
    let there = crush.parent_of(daemon.0).map(|bucket| bucket.name.as_str());
    if there == Some(pairs[0].1) {
        return Ok(());
    }
    let weight = crush.device_weight(daemon).unwrap_or_else(|| weight_of(capacity_bytes));
    let before = there.map(str::to_string);
    crush.insert_device(daemon, weight, &pairs)?;
    if let Some(host) = before {
        remove_if_empty(crush, &host);
    }
    Ok(())
}

/// Takes a daemon out of the map, and its host if that is empty then.
pub(crate) fn remove(crush: &mut CrushMap, daemon: DaemonId) {
    let host = crush.parent_of(daemon.0).map(|bucket| bucket.name.clone());
    // It may have been taken out of the CRUSH map by hand before.
    if crush.remove_device(daemon).is_ok()
        && let Some(host) = host
    {
        remove_if_empty(crush, &host);
    }
}

fn remove_if_empty(crush: &mut CrushMap, bucket: &str) {
    // Refused, rightly, when something is in it or a rule takes it.
    let _ = crush.remove_bucket(bucket);
}

/// Ids that a daemon may have.
pub(crate) fn id_fits(id: i32) -> bool {
    (0..DEVICES_MAX).contains(&id)
}

/// Hosts that have daemons.
pub(crate) fn hosts(crush: &CrushMap) -> usize {
    let kind = crush.type_by_name("host").unwrap_or(1);
    crush
        .buckets()
        .values()
        .filter(|bucket| bucket.kind == kind && !bucket.items.is_empty())
        .count()
}

/// The rule for a pool of this size, made if it is not there: every copy or slot on another host where there are
/// hosts enough, else on another daemon. With fewer hosts than copies a rule by host would leave every group short
/// for good.
pub(crate) fn rule_for(crush: &mut CrushMap, kind: PoolKind, size: u8) -> u32 {
    let by_host = hosts(crush) >= usize::from(size);
    let found = match kind {
        PoolKind::Erasure => {
            let made = erasure_rule(crush, if by_host { "host" } else { "osd" });
            made.inspect_err(|why| tracing::warn!(%why, "no rule for an erasure-coded pool")).ok()
        }
        PoolKind::Replicated => {
            let name = if by_host { RULE_HOST } else { RULE_DAEMON };
            crush.rule_by_name(name).map(|(id, _)| u32::from(id))
        }
    };
    found.unwrap_or(0)
}

/// The rule that puts every slot into another bucket of type `domain`, made if it is not there.
pub(crate) fn erasure_rule(crush: &mut CrushMap, domain: &str) -> Result<u32, EditError> {
    let name = format!("{RULE_ERASURE}{domain}");
    match crush.rule_by_name(&name) {
        Some((id, rule)) if rule.erasure => Ok(id.into()),
        Some(_) => Err(EditError::Exists(format!("rule {name}, for replicated pools,"))),
        None => crush.add_rule_erasure(&name, ROOT_DEFAULT, domain).map(u32::from),
    }
}

/// Gives pools whose rule nobody chose by hand the rule that fits the hosts there are.
pub(crate) fn adapt_rules(map: &mut OsdMap) {
    let next = map.epoch.next();
    for pool in map.pools.values_mut() {
        if pool.options.get(OPTION_AUTO_RULE).map(String::as_str) != Some("true") {
            continue;
        }
        let rule = rule_for(&mut map.crush, pool.kind, pool.size);
        if rule != pool.crush_rule {
            pool.crush_rule = rule;
            pool.last_change = next;
        }
    }
}

/// The failure domain that a pool's rule keeps apart: a type's name.
pub(crate) fn domain_name(crush: &CrushMap, rule: u32) -> String {
    use store_base::crush::Step;
    let rule = u8::try_from(rule).ok().and_then(|id| crush.rules().get(&id));
    let kind = rule.and_then(|rule| {
        rule.steps.iter().find_map(|step| match step {
            Step::ChooseFirstn { kind, .. }
            | Step::ChooseIndep { kind, .. }
            | Step::ChooseLeafFirstn { kind, .. }
            | Step::ChooseLeafIndep { kind, .. } => Some(*kind),
            _ => None,
        })
    });
    crush.type_name(kind.unwrap_or(TYPE_DEVICE))
}
