//! Commands about hosts: all daemons of one together.

use super::planned::{self, daemons_of_host};
use super::{Args, Failure, Kind, Outcome, Spec, WriteContext, missing, need, read, show, write};
use serde_json::json;
use std::collections::{BTreeMap, BTreeSet};
use store_base::ids::DaemonId;
use store_base::map::OsdMap;

const HOST: super::Arg = need("host", Kind::Text, "the host's name, as \"node ls\" shows it");

pub(super) const SPECS: &[Spec] = &[
    read("node ls", &[], "Lists the hosts that have daemons.", |context, _| {
        let map = &context.maps.osd;
        let mut hosts: BTreeMap<&str, Vec<DaemonId>> = BTreeMap::new();
        for (id, info) in &map.daemons {
            hosts.entry(&info.host).or_default().push(*id);
        }
        let rows = hosts.into_iter().map(|(host, ids)| {
            let count =
                |wanted: &dyn Fn(&DaemonId) -> bool| ids.iter().filter(|id| wanted(id)).count();
            json!({
                "host": host,
                "osds": ids,
                "num_up": count(&|id| map.is_up(*id)),
                "num_in": count(&|id| map.daemons[id].weight > 0),
                "draining": count(&|id| context.maps.notes.drains.contains_key(id)),
            })
        });
        show(rows.collect())
    }),
    read(
        "node ok-to-stop",
        &[HOST],
        "Tells whether a host could be switched off without harm to readers and writers.",
        |context, args| {
            let ids = on(&context.maps.osd, args)?;
            show(planned::stop_report(context, &ids))
        },
    ),
    write("node drain", &[HOST], "Empties all daemons of a host.", |context, args| {
        let ids: Vec<DaemonId> = on(&context.maps.osd, args)?.into_iter().collect();
        planned::drain(context, &ids, args.is_sure)
    }),
    write(
        "node rm",
        &[HOST],
        "Forgets all daemons of a host; if their copies are needed only if you are sure.",
        remove,
    ),
];

fn on(map: &OsdMap, args: &Args) -> Result<BTreeSet<DaemonId>, Failure> {
    let host = args.the("host");
    let ids = daemons_of_host(map, host);
    match ids.is_empty() {
        true => Err(missing(format!("no daemon is on a host {host:?}"))),
        false => Ok(ids),
    }
}

fn remove(context: &mut WriteContext<'_>, args: &Args) -> Outcome {
    let ids = on(&context.maps.osd, args)?;
    planned::remove(context, &ids, args.is_sure)
}
