//! Commands about the whole: status, health, space, versions, services.

use super::{Args, Outcome, ReadContext, Spec, data, descriptions, read, show, time};
use crate::machine::status;
use serde_json::json;
use std::collections::BTreeMap;

pub(super) const SPECS: &[Spec] = &[
    read("get_command_descriptions", &[], "Lists every command with its arguments.", |_, _| {
        show(descriptions())
    }),
    read("status", &[], "Shows the state of the cluster.", |context, _| {
        show(status::status(context))
    }),
    read("df", &[], "Shows the space of the cluster and of each pool.", |context, _| {
        show(status::df(context))
    }),
    read("fsid", &[], "Shows the cluster's id.", |context, _| {
        show(json!({"fsid": context.maps.osd.cluster.to_string()}))
    }),
    read("version", &[], "Shows the monitor's version.", |context, _| {
        show(json!({"version": context.settings.version}))
    }),
    read("versions", &[], "Shows how many services run which version.", versions),
    read("mon stat", &[], "Shows the monitors.", mon_stat),
    read("mon dump", &[], "Shows the monitors.", mon_stat),
    read("service dump", &[], "Shows gateways and metadata services.", |context, _| {
        show(json!({
            "epoch": context.maps.services.epoch,
            "modified": time(context.wall),
            "services": data(&context.maps.services.services),
        }))
    }),
    read("time-sync-status", &[], "Shows the monitor's clock.", |context, _| {
        show(json!({"wall": time(context.wall), "wall_millis": context.wall.millis()}))
    }),
];

fn versions(context: &ReadContext<'_>, _: &Args) -> Outcome {
    let mut by_role: BTreeMap<&str, BTreeMap<String, u32>> = BTreeMap::new();
    let mut count = |role, version: Option<&String>| {
        let version = version.cloned().unwrap_or_else(|| "unknown".to_string());
        *by_role.entry(role).or_default().entry(version).or_default() += 1;
    };
    count("mon", Some(&context.settings.version));
    for info in context.maps.osd.daemons.values().filter(|info| info.up) {
        count("osd", info.details.get("version"));
    }
    for (name, info) in &context.maps.services.services {
        let role = if name.starts_with("gateway.") { "rgw" } else { "mds" };
        if info.state != "down" {
            count(role, info.details.get("version"));
        }
    }
    show(data(&by_role))
}

fn mon_stat(context: &ReadContext<'_>, _: &Args) -> Outcome {
    let name = &context.settings.name;
    show(json!({
        "epoch": 1,
        "fsid": context.maps.osd.cluster.to_string(),
        "num_mons": 1,
        "leader": name,
        "quorum": [{"rank": 0, "name": name}],
        "mons": [{"rank": 0, "name": name}],
    }))
}
