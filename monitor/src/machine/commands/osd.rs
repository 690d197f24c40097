//! Commands about daemons, flags, fences and exceptions to CRUSH.

use super::{Args, Failure, Kind, Outcome, ReadContext, Spec, WriteContext, data, done, fail};
use super::{invalid, may, missing, need, read, show, time, weight, write};
use crate::machine::{daemons, placement, status};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use store_base::crush::edit::EditError;
use store_base::ids::{ClientId, DaemonId};
use store_base::map::DaemonInfo;
use store_base::map::osd::{FLAG_NAMES, WEIGHT_IN};
use store_base::op::errno;

/// How long a fence lasts if nobody says.
const BLOCKLIST_SECONDS: i64 = 3600;

/// Fences at a time.
const BLOCKLIST_MAX: usize = 100_000;

/// Exceptions to CRUSH of one placement group.
const UPMAP_ITEMS_MAX: usize = 16;

const IDS: super::Arg = need("ids", Kind::Daemons, "daemons (3, osd.3, a list, or all)");
const ID: super::Arg = need("id", Kind::Daemon, "a daemon (3 or osd.3)");
const FLAG: super::Arg = need("key", Kind::Choice(FLAG_NAMES), "the flag");

pub(super) const SPECS: &[Spec] = &[
    read("osd tree", &[], "Shows where daemons stand.", tree),
    read("osd df", &[], "Shows the space of each daemon.", |context, _| {
        show(status::osd_df(context))
    }),
    read("osd ls", &[], "Lists the daemons.", |context, _| {
        show(data(&context.maps.osd.daemons.keys().collect::<Vec<_>>()))
    }),
    read("osd stat", &[], "Counts the daemons.", stat),
    read("osd dump", &[], "Shows the whole map of daemons and pools.", dump),
    read("osd find", &[ID], "Shows where a daemon is.", find),
    read(
        "osd metadata",
        &[may("id", Kind::Daemon, "one daemon; else all")],
        "Shows what daemons tell of themselves.",
        metadata,
    ),
    write("osd out", &[IDS], "Takes daemons out: their data moves to others.", |context, args| {
        set_in(context, args, false)
    }),
    write("osd in", &[IDS], "Takes daemons in: they get their share of data.", |context, args| {
        set_in(context, args, true)
    }),
    write(
        "osd down",
        &[IDS],
        "Marks daemons down; one that lives comes up again at once.",
        |context, args| {
            let ids = args.daemons(&context.maps.osd, "ids")?;
            let wall = context.wall;
            for id in &ids {
                daemons::mark_down(context.maps.osd_mut(), *id, wall, "a person marked it down");
            }
            done(format!("marked down {}", names(&ids)))
        },
    ),
    write(
        "osd clear-damage",
        &[IDS],
        "Says that the damage which daemons found was seen to.",
        |context, args| {
            let ids = args.daemons(&context.maps.osd, "ids")?;
            for id in &ids {
                let found = context.view.daemons.get(id).map_or(0, |view| view.read_errors);
                change(context, *id, |info| daemons::see_damage(info, found));
            }
            done(format!("cleared the damage of {}", names(&ids)))
        },
    ),
    write(
        "osd reweight",
        &[ID, need("weight", Kind::Float(0.0, 1.0), "share of its data that it takes, 0 to 1")],
        "Sets how much of its share of data a daemon takes.",
        |context, args| {
            let id = args.daemon(&context.maps.osd, "id")?;
            let fixed = fixed(args.float("weight").unwrap_or(1.0));
            change(context, id, |info| {
                info.weight = fixed;
                info.auto_out = false;
            });
            done(format!("{id} has weight {}", weight(fixed)))
        },
    ),
    write(
        "osd crush reweight",
        &[ID, need("weight", Kind::Float(0.0, 60_000.0), "its size in TiB")],
        "Sets a daemon's weight in the CRUSH map.",
        |context, args| {
            let id = args.daemon(&context.maps.osd, "id")?;
            let fixed = fixed(args.float("weight").unwrap_or(1.0));
            context.maps.osd_mut().crush.reweight_device(id, fixed).map_err(edit)?;
            done(format!("{id} has CRUSH weight {}", weight(fixed)))
        },
    ),
    write(
        "osd crush move",
        &[
            need("name", Kind::Text, "a daemon (osd.3) or bucket"),
            need("args", Kind::Texts, "its place (rack=r1 root=default)"),
        ],
        "Moves a daemon or a host to another place.",
        crush_move,
    ),
    read("osd crush dump", &[], "Shows the CRUSH map.", |context, _| {
        show(data(&context.maps.osd.crush))
    }),
    read("osd crush rule ls", &[], "Lists the CRUSH rules.", |context, _| {
        let rules = context.maps.osd.crush.rules().values();
        show(data(&rules.map(|rule| &rule.name).collect::<Vec<_>>()))
    }),
    write(
        "osd crush rule create-replicated",
        &[
            need("name", Kind::Text, "the rule's name"),
            need("root", Kind::Text, "the root below which to choose"),
            need("type", Kind::Text, "what each copy must have its own of: host, rack, osd"),
        ],
        "Makes a rule for replicated pools.",
        |context, args| {
            let (name, root, kind) = (args.the("name"), args.the("root"), args.the("type"));
            let crush = &mut context.maps.osd_mut().crush;
            let id = crush.add_rule_replicated(name, root, kind).map_err(edit)?;
            show(json!({"rule_id": id, "rule_name": name}))
        },
    ),
    write(
        "osd primary-affinity",
        &[ID, need("weight", Kind::Float(0.0, 1.0), "share of its primaries, 0 to 1")],
        "Sets how willingly a daemon leads placement groups.",
        |context, args| {
            let id = args.daemon(&context.maps.osd, "id")?;
            let fixed = fixed(args.float("weight").unwrap_or(1.0));
            change(context, id, |info| info.primary_affinity = fixed);
            done(format!("{id} has primary affinity {}", weight(fixed)))
        },
    ),
    write("osd set", &[FLAG], "Sets a flag of the whole cluster.", |context, args| {
        set_flag(context, args.the("key"), true)
    }),
    write("osd unset", &[FLAG], "Takes a flag back.", |context, args| {
        set_flag(context, args.the("key"), false)
    }),
    write(
        "osd pg-upmap-items",
        &[
            need("pgid", Kind::Pg, "the placement group"),
            need("id", Kind::Daemons, "pairs of daemons: from to from to …"),
        ],
        "Puts copies of a placement group elsewhere than CRUSH says.",
        upmap,
    ),
    write(
        "osd rm-pg-upmap-items",
        &[need("pgid", Kind::Pg, "the placement group")],
        "Takes such an exception back.",
        |context, args| {
            let pg = args.pg(&context.maps.osd, "pgid")?;
            context.maps.osd_mut().upmap_items.remove(&pg);
            done(format!("{pg} is where CRUSH says"))
        },
    ),
    write(
        "osd blocklist add",
        &[
            need("addr", Kind::Text, "a client's id (client.4123)"),
            may("expire", Kind::Int(1, 10 * 365 * 86_400), "for how many seconds"),
        ],
        "Fences a client: daemons refuse it.",
        blocklist_add,
    ),
    write(
        "osd blocklist rm",
        &[need("addr", Kind::Text, "a client's id")],
        "Ends a fence.",
        |context, args| {
            let client = client(args.the("addr"))?;
            match context.maps.osd_mut().blocklist.remove(&client) {
                Some(_) => done(format!("{client} is free")),
                None => Err(missing(format!("{client} is not fenced"))),
            }
        },
    ),
    read("osd blocklist ls", &[], "Lists the fenced clients.", |context, _| {
        let rows = context.maps.osd.blocklist.iter().map(|(client, until)| {
            let at = store_base::Timestamp { secs: *until, nanos: 0 };
            json!({"addr": client.to_string(), "until": time(at)})
        });
        show(rows.collect())
    }),
    write(
        "service rm",
        &[need("name", Kind::Text, "a gateway or metadata service (gateway.a)")],
        "Forgets a service that is gone.",
        |context, args| {
            let name = args.the("name");
            if !context.maps.services.services.contains_key(name) {
                return Err(missing(format!("there is no service {name:?}")));
            }
            context.maps.services_mut().services.remove(name);
            done(format!("{name} is forgotten"))
        },
    ),
];

fn fixed(weight: f64) -> u32 {
    (weight * 65536.0).round() as u32
}

fn edit(error: EditError) -> Failure {
    let code = match &error {
        EditError::NotFound(_) => errno::ENOENT,
        EditError::Exists(_) => errno::EEXIST,
        EditError::InUse(_) => errno::EBUSY,
        EditError::Invalid(_) => errno::EINVAL,
    };
    Failure { code, why: error.to_string() }
}

fn names(ids: &[DaemonId]) -> String {
    ids.iter().map(DaemonId::to_string).collect::<Vec<_>>().join(", ")
}

pub(super) fn change(
    context: &mut WriteContext<'_>,
    id: DaemonId,
    edit: impl FnOnce(&mut DaemonInfo),
) {
    if let Some(info) = context.maps.osd_mut().daemons.get_mut(&id) {
        edit(info);
    }
}

fn set_in(context: &mut WriteContext<'_>, args: &Args, inside: bool) -> Outcome {
    let ids = args.daemons(&context.maps.osd, "ids")?;
    for id in &ids {
        change(context, *id, |info| {
            info.auto_out = false;
            if inside && info.weight == 0 {
                info.weight = WEIGHT_IN;
            } else if !inside {
                info.weight = 0;
            }
        });
        if context.maps.notes.drains.contains_key(id) {
            context.maps.notes_mut().drains.remove(id);
        }
    }
    done(format!("marked {} {}", if inside { "in" } else { "out" }, names(&ids)))
}

fn crush_move(context: &mut WriteContext<'_>, args: &Args) -> Outcome {
    let name = args.the("name");
    let mut location = Vec::new();
    for level in args.texts("args") {
        let pair = level.split_once('=');
        location.push(pair.ok_or_else(|| invalid(format!("{level:?} is not a place (rack=r1)")))?);
    }
    let crush = &mut context.maps.osd_mut().crush;
    let device = name.strip_prefix("osd.").and_then(|id| id.parse().ok()).map(DaemonId);
    match device {
        Some(device) => {
            let weight = crush.device_weight(device);
            let weight = weight.ok_or_else(|| missing(format!("there is no {device}")))?;
            crush.insert_device(device, weight, &location).map_err(edit)?;
        }
        None => crush.move_bucket(name, &location).map_err(edit)?,
    }
    placement::adapt_rules(context.maps.osd_mut());
    done(format!("moved {name}"))
}

fn set_flag(context: &mut WriteContext<'_>, name: &str, on: bool) -> Outcome {
    let flag = context.maps.osd_mut().flags.by_name(name);
    *flag.ok_or_else(|| invalid(format!("there is no flag {name:?}")))? = on;
    done(format!("{name} is {}", if on { "set" } else { "unset" }))
}

fn upmap(context: &mut WriteContext<'_>, args: &Args) -> Outcome {
    let pg = args.pg(&context.maps.osd, "pgid")?;
    // The order matters here, so the pairs are read as they were given.
    let given: Vec<DaemonId> = args.daemons_in_order(&context.maps.osd, "id")?;
    if !given.len().is_multiple_of(2) || given.len() > 2 * UPMAP_ITEMS_MAX {
        return Err(invalid("daemons go in pairs: from to"));
    }
    let items: Vec<_> = given.chunks_exact(2).map(|pair| (pair[0], pair[1])).collect();
    if let Some((from, _)) = items.iter().find(|(from, to)| from == to) {
        return Err(invalid(format!("{from} cannot be replaced by itself")));
    }
    let targets: BTreeSet<_> = items.iter().map(|(_, to)| to).collect();
    if targets.len() != items.len() {
        return Err(invalid("two copies cannot be on one daemon"));
    }
    context.maps.osd_mut().upmap_items.insert(pg, items);
    done(format!("{pg} is placed by hand"))
}

fn client(text: &str) -> Result<ClientId, Failure> {
    let digits = text.strip_prefix("client.").unwrap_or(text);
    let id =
        digits.parse().map_err(|_| invalid(format!("{text:?} is not a client (client.4123)")))?;
    Ok(ClientId(id))
}

fn blocklist_add(context: &mut WriteContext<'_>, args: &Args) -> Outcome {
    let client = client(args.the("addr"))?;
    let seconds = args.int("expire").unwrap_or(BLOCKLIST_SECONDS).unsigned_abs();
    let until = context.wall.secs.saturating_add(seconds);
    if context.maps.osd.blocklist.len() >= BLOCKLIST_MAX {
        return fail(
            errno::ENOSPC,
            format!("{BLOCKLIST_MAX} clients are fenced, the most allowed"),
        );
    }
    context.maps.osd_mut().blocklist.insert(client, until);
    done(format!("{client} is fenced for {seconds} s"))
}

fn tree(context: &ReadContext<'_>, _: &Args) -> Outcome {
    let map = &context.maps.osd;
    let nodes = map.crush.tree().into_iter().map(|node| {
        let mut value = data(&node);
        value["crush_weight"] = json!((node.crush_weight * 1e4).round() / 1e4);
        if let Some(info) = (node.id >= 0).then(|| map.daemons.get(&DaemonId(node.id))).flatten() {
            value["exists"] = json!(1);
            value["device_class"] = json!(info.details.get("device_class"));
            value["status"] = json!(if info.up { "up" } else { "down" });
            value["reweight"] = json!(weight(info.weight));
            value["primary_affinity"] = json!(weight(info.primary_affinity));
        }
        value
    });
    let nodes: Vec<Value> = nodes.collect();
    let placed = map.crush.devices();
    let stray = map.daemons.keys().filter(|id| !placed.contains_key(id));
    let stray: Vec<Value> =
        stray.map(|id| json!({"id": id, "name": id.to_string(), "type": "osd"})).collect();
    show(json!({"nodes": nodes, "stray": stray}))
}

fn stat(context: &ReadContext<'_>, _: &Args) -> Outcome {
    let daemons = &context.maps.osd.daemons;
    show(json!({
        "epoch": context.maps.osd.epoch,
        "num_osds": daemons.len(),
        "num_up_osds": daemons.values().filter(|info| info.up).count(),
        "num_in_osds": daemons.values().filter(|info| info.weight > 0).count(),
    }))
}

fn dump(context: &ReadContext<'_>, _: &Args) -> Outcome {
    let map = &context.maps.osd;
    let osds = map.daemons.iter().map(|(id, info)| {
        json!({
            "osd": id,
            "uuid": info.uuid.to_string(),
            "up": u8::from(info.up),
            "in": u8::from(info.weight > 0),
            "weight": weight(info.weight),
            "primary_affinity": weight(info.primary_affinity),
            "up_from": info.up_from,
            "down_at": info.down_at,
            "incarnation": info.incarnation,
            "auto_out": info.auto_out,
            "public_addr": info.address,
            "host": info.host,
            "capacity_bytes": info.capacity_bytes,
        })
    });
    let upmaps = map.upmap_items.iter().map(|(pg, items)| {
        let items = items.iter().map(|(from, to)| json!({"from": from, "to": to}));
        json!({"pgid": pg.to_string(), "mappings": items.collect::<Vec<_>>()})
    });
    let pools = map.pools.iter().map(|(id, pool)| super::pool::describe(map, *id, pool));
    show(json!({
        "epoch": map.epoch,
        "fsid": map.cluster.to_string(),
        "created": time(map.created),
        "modified": time(map.modified),
        "flags": status::flags(context),
        "flags_set": status::flag_names(map.flags),
        "pool_max": map.pool_max,
        "max_osd": map.daemons.keys().next_back().map_or(0, |id| id.0 + 1),
        "pools": pools.collect::<Vec<_>>(),
        "osds": osds.collect::<Vec<_>>(),
        "pg_upmap_items": upmaps.collect::<Vec<_>>(),
        "blocklist": data(&map.blocklist),
    }))
}

fn find(context: &ReadContext<'_>, args: &Args) -> Outcome {
    let map = &context.maps.osd;
    let id = args.daemon(map, "id")?;
    let location: serde_json::Map<String, Value> =
        map.crush.location_of(id.0).into_iter().map(|(kind, name)| (kind, json!(name))).collect();
    show(json!({
        "osd": id,
        "addr": map.daemons[&id].address,
        "host": map.daemons[&id].host,
        "crush_location": location,
    }))
}

fn metadata(context: &ReadContext<'_>, args: &Args) -> Outcome {
    let map = &context.maps.osd;
    let one = |id: &DaemonId, info: &DaemonInfo| {
        let mut value = data(&info.details);
        value["id"] = json!(id);
        value["hostname"] = json!(info.host);
        value["addr"] = json!(info.address);
        value["incarnation"] = json!(info.incarnation);
        value
    };
    if args.has("id") {
        let id = args.daemon(map, "id")?;
        return show(one(&id, &map.daemons[&id]));
    }
    show(map.daemons.iter().map(|(id, info)| one(id, info)).collect())
}
