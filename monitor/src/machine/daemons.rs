//! Daemons: boot, signs of life, suspicion, down, out and in.
//!
//! - An id belongs to one data directory (its uuid) until it is removed.
//! - A refused connection, told by a daemon that is itself up, is proof enough: down at once. Silence needs
//!   two witnesses (one, if there are not more than two others), and that this monitor misses beats too, or
//!   that the silence between daemons has lasted much longer.
//! - A newer incarnation of a daemon that is up is "down and up" in one change.

use super::placement;
use super::view::{Suspicion, View};
use super::{Settings, settings};
use std::time::Duration;
use store_base::codec::Decode;
use store_base::ids::{DaemonId, Epoch, Incarnation};
use store_base::map::osd::WEIGHT_IN;
use store_base::map::{ConfigMap, DaemonInfo, OsdMap};
use store_base::wire::{BootReply, BootRequest, FailureReport};
use store_base::{ClusterId, Time, Timestamp};

/// Longest text that a daemon may tell of itself.
const TEXT_BYTES_MAX: usize = 256;

/// Daemons of one cluster.
pub const DAEMONS_MAX: usize = 10_000;

/// Marking-downs by peers that are remembered per daemon.
const FLAPS_MAX: usize = 8;

/// Why a daemon may not boot, with the cure.
fn refused(why: impl Into<String>) -> BootReply {
    BootReply { daemon: -1, refused: why.into(), ..BootReply::default() }
}

/// A daemon begins a life. The reply's epoch is filled in when the change is committed.
pub(crate) fn boot(
    map: &mut OsdMap,
    view: &mut View,
    config: &ConfigMap,
    request: &BootRequest,
    now: Time,
) -> BootReply {
    match try_boot(map, view, config, request, now) {
        Ok(id) => BootReply {
            daemon: id.0,
            cluster: bytes::Bytes::copy_from_slice(&map.cluster.0),
            epoch: 0,
            refused: String::new(),
        },
        Err(why) => refused(why),
    }
}

fn try_boot(
    map: &mut OsdMap,
    view: &mut View,
    config: &ConfigMap,
    request: &BootRequest,
    now: Time,
) -> Result<DaemonId, String> {
    check_cluster(map, request)?;
    let uuid = ClusterId::from_bytes(request.uuid.clone())
        .map_err(|_| "the daemon's uuid must be 16 bytes".to_string())?;
    check_texts(request)?;
    let id = choose_id(map, uuid, request.daemon)?;
    let incarnation = Incarnation(request.incarnation);
    let known = map.daemons.get(&id);
    if let Some(info) = known {
        check_life(id, info, incarnation)?;
        if info.up && info.incarnation == incarnation {
            return Ok(id); // said before, perhaps the reply was lost
        }
    }
    placement::insert(&mut map.crush, id, &request.host, &request.location, request.capacity_bytes)
        .map_err(|e| format!("the place of {id} cannot be used: {e}"))?;
    let auto_in = settings::flag(config, "mon_osd_auto_mark_new_in");
    let next = map.epoch.next();
    let mut info = known_or_new(map, id, uuid, auto_in);
    if info.up {
        info.down_at = next; // the life before ended in the same change
    }
    if info.auto_out {
        info.weight = WEIGHT_IN;
        info.auto_out = false;
    }
    info.up = true;
    info.up_from = next;
    info.incarnation = incarnation;
    info.address.clone_from(&request.address);
    info.host.clone_from(&request.host);
    info.capacity_bytes = request.capacity_bytes;
    for (key, value) in [
        ("version", &request.version),
        ("engine", &request.engine),
        ("device_class", &request.device_class),
    ] {
        info.details.insert(key.to_string(), value.clone());
    }
    map.daemons.insert(id, info);
    map.daemon_end = map.daemon_end.max(id.0 + 1);
    placement::adapt_rules(map);
    view.begin_life(map, id, incarnation, request.capacity_bytes, now);
    tracing::info!(daemon = %id, incarnation = incarnation.0, address = request.address, "boots");
    Ok(id)
}

fn known_or_new(map: &OsdMap, id: DaemonId, uuid: ClusterId, auto_in: bool) -> DaemonInfo {
    map.daemons.get(&id).cloned().unwrap_or_else(|| DaemonInfo {
        uuid,
        weight: if auto_in { WEIGHT_IN } else { 0 },
        primary_affinity: WEIGHT_IN,
        ..DaemonInfo::default()
    })
}

fn check_cluster(map: &OsdMap, request: &BootRequest) -> Result<(), String> {
    if request.cluster.is_empty() {
        return Ok(()); // a new daemon learns the cluster here
    }
    match ClusterId::from_bytes(request.cluster.clone()) {
        Ok(cluster) if cluster == map.cluster => Ok(()),
        Ok(cluster) => Err(format!(
            "the data directory belongs to cluster {cluster}, this is cluster {}: give the daemon the \
             monitors of its own cluster, or an empty directory",
            map.cluster
        )),
        Err(_) => Err("a cluster id must be 16 bytes".to_string()),
    }
}

fn check_texts(request: &BootRequest) -> Result<(), String> {
    let texts = [
        ("address", &request.address),
        ("host", &request.host),
        ("version", &request.version),
        ("engine", &request.engine),
        ("device class", &request.device_class),
    ];
    if let Some((what, _)) = texts.iter().find(|(_, text)| text.len() > TEXT_BYTES_MAX) {
        return Err(format!("the daemon's {what} is longer than {TEXT_BYTES_MAX} bytes"));
    }
    let port = request
        .address
        .rsplit_once(':')
        .and_then(|(host, port)| (!host.is_empty()).then(|| port.parse::<u16>().ok()).flatten());
    match port {
        None | Some(0) => Err(format!("{:?} is not an address (host:port)", request.address)),
        Some(_) if request.host.is_empty() => Err("the daemon must name its host".to_string()),
        Some(_) if request.incarnation == 0 => {
            Err("incarnations begin at 1: the daemon must raise and store its own".to_string())
        }
        Some(_) => Ok(()),
    }
}

/// The id that belongs to this uuid, the one asked for, or the lowest free one.
fn choose_id(map: &OsdMap, uuid: ClusterId, asked: i32) -> Result<DaemonId, String> {
    let own = map.daemons.iter().find(|(_, info)| info.uuid == uuid).map(|(id, _)| *id);
    match (asked, own) {
        (-1, Some(id)) => Ok(id),
        (asked, Some(id)) if asked == id.0 => Ok(id),
        (asked, Some(id)) => Err(format!(
            "this data directory belongs to {id}, not to osd.{asked}: start it as {id}, or use an empty \
             directory"
        )),
        (-1, None) if map.daemons.len() >= DAEMONS_MAX => {
            Err(format!("the cluster has {DAEMONS_MAX} daemons, the most that is allowed"))
        }
        (-1, None) => {
            // Never one that was another's: a map or message from its time would be taken for this one's.
            let last = map.daemons.last_key_value().map_or(-1, |(id, _)| id.0);
            let next = map.daemon_end.max(last + 1);
            match placement::id_fits(next) {
                true => Ok(DaemonId(next)),
                false => Err("no daemon id is free".to_string()),
            }
        }
        (asked, None) if !placement::id_fits(asked) => {
            Err(format!("{asked} cannot be the id of a daemon"))
        }
        (asked, None) => match map.daemons.get(&DaemonId(asked)) {
            Some(info) => Err(format!(
                "osd.{asked} belongs to another data directory (uuid {}): start this daemon without an id, or \
                 remove the old one by `store osd rm {asked}` if it will never come back",
                info.uuid
            )),
            None => Ok(DaemonId(asked)),
        },
    }
}

/// Key of [`DaemonInfo::details`]: lives up to this one were given up by `pg force` and may not come back.
pub(crate) const FENCED: &str = "fenced_incarnation";

/// Key of [`DaemonInfo::details`]: the damage that somebody has seen to, as life and count.
const DAMAGE_SEEN: &str = "damage_seen";

/// How much of the damage that a daemon's present life found was seen to.
pub(crate) fn damage_seen(info: &DaemonInfo) -> u64 {
    let seen = info.details.get(DAMAGE_SEEN).and_then(|text| text.split_once(':'));
    let of_life = seen.filter(|(life, _)| life.parse() == Ok(info.incarnation.0));
    of_life.and_then(|(_, count)| count.parse().ok()).unwrap_or(0)
}

/// Notes that the damage which a daemon's present life has found so far was seen to.
pub(crate) fn see_damage(info: &mut DaemonInfo, count: u64) {
    info.details.insert(DAMAGE_SEEN.to_string(), format!("{}:{count}", info.incarnation.0));
}

fn check_life(id: DaemonId, info: &DaemonInfo, incarnation: Incarnation) -> Result<(), String> {
    if incarnation < info.incarnation {
        return Err(format!(
            "{id} has lived as incarnation {} already, this is {incarnation}: its data directory is an old \
             copy; use the newest, or remove {id} and start with an empty directory",
            info.incarnation.0
        ));
    }
    let fenced = info.details.get(FENCED).and_then(|text| text.parse::<u64>().ok());
    if fenced.is_some_and(|fenced| incarnation.0 <= fenced) {
        return Err(format!(
            "this life of {id} was given up by `store pg force`: restart the daemon's process"
        ));
    }
    Ok(())
}

/// Takes a daemon down in the map.
pub(crate) fn mark_down(map: &mut OsdMap, id: DaemonId, wall: Timestamp, why: &str) -> bool {
    let next: Epoch = map.epoch.next();
    match map.daemons.get_mut(&id) {
        Some(info) if info.up => {
            info.up = false;
            info.down_at = next;
            info.down_since = wall;
            tracing::warn!(daemon = %id, why, "is down");
            true
        }
        _ => false,
    }
}

/// A daemon could not reach another. Only what is said by a daemon that is up, of the life that is up, counts.
pub(crate) fn take_failure_report(
    map: &mut OsdMap,
    view: &mut View,
    report: &FailureReport,
    now: Time,
    wall: Timestamp,
) {
    let (reporter, failed) = (DaemonId(report.reporter), DaemonId(report.failed));
    // A daemon that stops in order says so of itself.
    let is_planned = reporter == failed && report.refused;
    let known = (reporter != failed || is_planned)
        && map.is_up_as(reporter, Incarnation(report.reporter_incarnation))
        && map.is_up_as(failed, Incarnation(report.failed_incarnation));
    if !known {
        return;
    }
    if report.refused {
        let why = match is_planned {
            true => "it is stopping".to_string(),
            false => format!("{reporter} found its port closed"),
        };
        mark_down(map, failed, wall, &why);
        return;
    }
    let suspicion = Suspicion {
        reporter: Incarnation(report.reporter_incarnation),
        silent: Duration::from_millis(report.silent_millis),
        at: now,
    };
    view.daemons.entry(failed).or_default().suspicions.insert(reporter, suspicion);
}

/// Everything about daemons that follows from time: who is taken down, who out.
pub(crate) fn review(
    map: &mut OsdMap,
    view: &mut View,
    config: &ConfigMap,
    limits: &Settings,
    now: Time,
    wall: Timestamp,
) {
    let ids: Vec<DaemonId> =
        map.daemons.iter().filter(|(_, info)| info.up).map(|(id, _)| *id).collect();
    for id in ids {
        if let Some(why) = suspect(map, view, config, limits, id, now) {
            mark_down(map, id, wall, &why);
            // Who was taken down has no voice any more.
            view.daemons.values_mut().for_each(|view| {
                view.suspicions.remove(&id);
            });
            let flaps = &mut view.daemons.entry(id).or_default().flaps;
            flaps.push(now);
            if flaps.len() > FLAPS_MAX {
                flaps.remove(0);
            }
        }
    }
    take_out(map, config, wall);
}

/// Why a daemon must be taken for dead, if so.
fn suspect(
    map: &OsdMap,
    view: &mut View,
    config: &ConfigMap,
    limits: &Settings,
    id: DaemonId,
    now: Time,
) -> Option<String> {
    let daemon = view.daemons.get_mut(&id)?;
    let silent = now.since(daemon.heard);
    let report_timeout = settings::span(config, "mon_osd_report_timeout");
    if silent >= report_timeout {
        return Some(format!("it sent no beat for {:.1} s", silent.as_secs_f64()));
    }
    daemon.suspicions.retain(|reporter, suspicion| {
        now.since(suspicion.at) < limits.suspicion_lasts
            && map.is_up_as(*reporter, suspicion.reporter)
    });
    let grace = settings::span(config, "osd_heartbeat_grace");
    // Only what was told counts: nobody says so when the silence ends, they only do not tell again.
    let witnesses = |least: Duration| {
        daemon.suspicions.values().filter(|suspicion| suspicion.silent >= least).count()
    };
    let others = map.daemons.values().filter(|info| info.up).count().saturating_sub(1);
    let needed = if others > 2 { 2 } else { 1 };
    if silent >= limits.beat_missed && witnesses(grace) >= needed {
        return Some(format!(
            "{} other daemons and the monitor hear nothing of it",
            witnesses(grace)
        ));
    }
    let long = grace.saturating_mul(limits.one_sided_factor);
    if witnesses(long) >= needed {
        return Some(format!("{} other daemons cannot reach it", witnesses(long)));
    }
    None
}

/// How long a daemon that peers could not reach must wait until it is up again: longer each time.
pub(crate) fn penalty(view: &View, id: DaemonId, limits: &Settings, now: Time) -> Option<Duration> {
    let flaps = &view.daemons.get(&id)?.flaps;
    let lately = flaps.iter().filter(|at| now.since(**at) < limits.flap_window).count();
    let since = now.since(*flaps.last()?);
    let exponent = u32::try_from(lately.checked_sub(2)?).unwrap_or(u32::MAX).min(5);
    limits.flap_pause.saturating_mul(1 << exponent).checked_sub(since)
}

/// Out after the delay, unless too many would be out then.
fn take_out(map: &mut OsdMap, config: &ConfigMap, wall: Timestamp) {
    if map.flags.noout {
        return;
    }
    let delay = settings::span(config, "mon_osd_down_out_interval");
    if delay.is_zero() {
        return;
    }
    let ratio = settings::ratio(config, "mon_osd_min_in_ratio");
    let all = map.daemons.len();
    let mut inside = map.daemons.values().filter(|info| info.weight > 0).count();
    for (id, info) in &mut map.daemons {
        let over = wall.millis().saturating_sub(info.down_since.millis());
        let due = !info.up && info.weight > 0 && u128::from(over) >= delay.as_millis();
        if due && (inside - 1) as f64 >= ratio * all as f64 {
            info.weight = 0;
            info.auto_out = true;
            inside -= 1;
            tracing::warn!(daemon = %id, "was down for too long and is out");
        }
    }
}
