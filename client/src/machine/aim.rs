//! From a target to the daemon that leads its placement group, by the map at hand.

use super::Client;
use super::submission::Target;
use store_base::error::Error;
use store_base::hash::stable_mod;
use store_base::map::OsdMap;
use store_base::{DaemonId, Epoch, Interval, PgId};

/// Where a request belongs, by one map.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Aim {
    /// To the primary of this interval.
    Primary { pg: PgId, interval: Interval, daemon: DaemonId },
    /// Nobody leads it now, or the cluster is paused: a newer map will tell.
    Nobody,
    /// The map is older than the target: one of at least this epoch must be fetched.
    OldMap(Epoch),
    /// It will never come.
    Gone(Error),
}

/// The place of a target that does not change with the map: the object's hash, or the group's seed.
#[derive(Clone, Copy, Debug)]
pub(super) enum Place {
    Hash(u32),
    Seed(u32),
}

impl Place {
    pub(super) fn of(target: &Target) -> Place {
        match target {
            Target::Object { object, .. } => Place::Hash(object.hash()),
            Target::Group(pg) => Place::Seed(pg.seed),
        }
    }
}

impl Client {
    pub(super) fn aim(&self, target: &Target, place: Place) -> Aim {
        match &self.map {
            Some(map) => aim(map, target, place),
            None => Aim::OldMap(Epoch(1)),
        }
    }
}

fn aim(map: &OsdMap, target: &Target, place: Place) -> Aim {
    let id = target.pool();
    let Some(pool) = map.pools.get(&id) else {
        // Ids are never reused, so a number above the highest ever given is of a newer map.
        return if id.0 > map.pool_max {
            Aim::OldMap(map.epoch.next())
        } else {
            Aim::Gone(Error::NotFound(format!("there is no pool with id {id}")))
        };
    };
    if map.flags.pause {
        return Aim::Nobody;
    }
    let seed = match place {
        Place::Hash(_) if pool.pg_num == 0 => return Aim::Nobody, // a map that makes no sense
        Place::Hash(hash) => stable_mod(hash, pool.pg_num),
        Place::Seed(seed) if seed >= pool.pg_num => {
            let text = format!("pool {} has {} placement groups", pool.name, pool.pg_num);
            return Aim::Gone(Error::NotFound(text));
        }
        Place::Seed(seed) => seed,
    };
    let pg = PgId { pool: id, seed };
    match map.pgs.get(&pg) {
        Some(record) if map.is_up(record.primary) => {
            Aim::Primary { pg, interval: record.interval, daemon: record.primary }
        }
        _ => Aim::Nobody,
    }
}
