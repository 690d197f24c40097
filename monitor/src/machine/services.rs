//! Gateways and metadata services: who announced itself, who is silent.

use super::maps::Maps;
use super::settings;
use std::collections::BTreeMap;
use std::time::Duration;
use store_base::Time;
use store_base::ids::Incarnation;
use store_base::map::{ConfigMap, ServiceInfo, ServiceMap};
use store_base::wire::{ServiceBeatReply, ServiceBeatRequest};

/// Services that are remembered.
pub const SERVICES_MAX: usize = 1024;

/// Longest text that a service may tell of itself, and most details.
const TEXT_BYTES_MAX: usize = 256;
const DETAILS_MAX: usize = 32;

/// A service that was silent for so many times the timeout is forgotten.
const FORGET_AFTER_TIMEOUTS: u32 = 240;

/// What a service says that ends in order: it is forgotten at once, and nobody misses it.
pub const STOPPED: &str = "stopped";

/// When each service was last heard.
#[derive(Clone, Debug, Default)]
pub struct Heard {
    last: BTreeMap<String, Time>,
}

impl Heard {
    pub(crate) fn new(now: Time, services: &ServiceMap) -> Heard {
        Heard { last: services.services.keys().map(|key| (key.clone(), now)).collect() }
    }

    pub(crate) fn hear(&mut self, beat: &ServiceBeatRequest, now: Time) {
        let key = key(beat);
        if self.last.len() < SERVICES_MAX || self.last.contains_key(&key) {
            self.last.insert(key, now);
        }
    }

    pub(crate) fn excuse(&mut self, gap: Duration) {
        self.last.values_mut().for_each(|at| *at = *at + gap);
    }
}

fn key(beat: &ServiceBeatRequest) -> String {
    format!("{}.{}", beat.role, beat.name)
}

fn info(beat: &ServiceBeatRequest) -> ServiceInfo {
    ServiceInfo {
        address: beat.address.clone(),
        incarnation: Incarnation(beat.incarnation),
        state: beat.state.clone(),
        details: beat.details.clone(),
    }
}

/// Whether the map says already what the beat says.
pub(crate) fn is_known(services: &ServiceMap, beat: &ServiceBeatRequest) -> bool {
    services.services.get(&key(beat)).is_some_and(|known| *known == info(beat))
}

pub(crate) fn reply(services: &ServiceMap, beat: &ServiceBeatRequest) -> ServiceBeatReply {
    // Metadata services stand by until filesystems exist.
    let assigned = if beat.role == "metadata" { "standby" } else { "active" };
    ServiceBeatReply { epoch: services.epoch.0, assigned: assigned.to_string() }
}

/// Takes what a service tells into the map, if it is fit to be kept.
pub(crate) fn take(maps: &mut Maps, heard: &Heard, beat: &ServiceBeatRequest) -> ServiceBeatReply {
    let texts = [&beat.role, &beat.name, &beat.address, &beat.state];
    let details = beat.details.iter().flat_map(|(key, value)| [key, value]);
    let fits = matches!(beat.role.as_str(), "metadata" | "gateway")
        && !beat.name.is_empty()
        && beat.details.len() <= DETAILS_MAX
        && texts.into_iter().chain(details).all(|text| text.len() <= TEXT_BYTES_MAX)
        && heard.last.contains_key(&key(beat));
    let known = maps.services.services.get(&key(beat));
    let stale = known.is_some_and(|known| known.incarnation > Incarnation(beat.incarnation));
    if beat.state == STOPPED {
        if known.is_some() && !stale {
            tracing::info!(service = key(beat), "takes its leave");
            maps.services_mut().services.remove(&key(beat));
        }
    } else if fits && !stale && known != Some(&info(beat)) {
        tracing::info!(service = key(beat), state = beat.state, "announces itself");
        maps.services_mut().services.insert(key(beat), info(beat));
    }
    reply(&maps.services, beat)
}

/// Who is silent is down; who was silent for long is forgotten.
pub(crate) fn review(maps: &mut Maps, heard: &mut Heard, config: &ConfigMap, now: Time) {
    let timeout = settings::span(config, "mon_service_timeout");
    let silent: Vec<(String, Duration)> = maps
        .services
        .services
        .keys()
        .map(|key| (key.clone(), now.since(heard.last.get(key).copied().unwrap_or_default())))
        .filter(|(_, silent)| *silent >= timeout)
        .collect();
    for (key, silent) in silent {
        if silent >= timeout.saturating_mul(FORGET_AFTER_TIMEOUTS) {
            maps.services_mut().services.remove(&key);
            heard.last.remove(&key);
        } else if maps.services.services.get(&key).is_some_and(|info| info.state != "down") {
            tracing::warn!(service = key, "is silent");
            if let Some(info) = maps.services_mut().services.get_mut(&key) {
                info.state = "down".to_string();
            }
        }
    }
}
