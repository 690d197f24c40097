//! The map of daemons, pools and placement groups.

use crate::crush::CrushMap;
use crate::ids::{
    ClientId, ClusterId, DaemonId, Epoch, Incarnation, Interval, PgId, PoolId, Timestamp,
};
use crate::map::{Delta, ErasureProfile, PROFILE_DEFAULT, Pool, ScrubOrder, WrongEpoch};
use crate::object::ObjectName;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// Weight of a daemon that is fully in: 1.0 in 16.16.
pub const WEIGHT_IN: u32 = 0x10000;

/// The monitor gives this option to a pool that has used up its quota, and takes it back.
pub const OPTION_OVER_QUOTA: &str = "over_quota";

/// Switches of the whole cluster.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MapFlags {
    /// Nobody is taken out for being down.
    pub noout: bool,
    /// No data moves for balance.
    pub norebalance: bool,
    /// No scrub begins or goes on.
    pub noscrub: bool,
    /// Clients wait.
    pub pause: bool,
    /// Writes other than deletes are refused: the cluster is full.
    pub full: bool,
    /// Nobody catches up by comparing everything.
    pub nobackfill: bool,
    /// Nobody catches up by the log.
    pub norecover: bool,
    /// No scrub reads bytes.
    pub nodeep_scrub: bool,
}
crate::codec_versioned!(MapFlags, 2, 1 {
    noout, norebalance, noscrub, pause, full,
    nobackfill since 2, norecover since 2, nodeep_scrub since 2,
});

/// The switches that a person sets, by Ceph's names. `full` is the monitor's own.
pub const FLAG_NAMES: &[&str] =
    &["noout", "norebalance", "nobackfill", "norecover", "noscrub", "nodeep-scrub", "pause"];

impl MapFlags {
    /// The switch of this name, for changing; `None` for a name that is not in [`FLAG_NAMES`].
    pub fn by_name(&mut self, name: &str) -> Option<&mut bool> {
        Some(match name {
            "noout" => &mut self.noout,
            "norebalance" => &mut self.norebalance,
            "nobackfill" => &mut self.nobackfill,
            "norecover" => &mut self.norecover,
            "noscrub" => &mut self.noscrub,
            "nodeep-scrub" => &mut self.nodeep_scrub,
            "pause" => &mut self.pause,
            _ => return None,
        })
    }

    /// Those of [`FLAG_NAMES`] that are set.
    pub fn set_by_person(mut self) -> Vec<&'static str> {
        let is_set = |name: &&&str| self.by_name(name).is_some_and(|flag| *flag);
        FLAG_NAMES.iter().filter(is_set).copied().collect()
    }
}

/// A daemon, as the monitor knows it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DaemonInfo {
    /// Ties the id to one data directory.
    pub uuid: ClusterId,
    /// Heard of and not reported failed.
    pub up: bool,
    /// How much of its share of data it takes, 16.16: 0 is out, [`WEIGHT_IN`] in.
    pub weight: u32,
    /// How much of its share of primaries it takes, 16.16.
    pub primary_affinity: u32,
    /// host:port of the data path.
    pub address: String,
    /// Which life of it; the last one that booted.
    pub incarnation: Incarnation,
    /// Epoch in which it last became up.
    pub up_from: Epoch,
    /// Epoch in which it last became down.
    pub down_at: Epoch,
    /// When it became down, by the monitor's clock; for "out after a delay".
    pub down_since: Timestamp,
    /// Taken out by the monitor, not by a person: comes in again by itself when it boots.
    pub auto_out: bool,
    /// Size of its medium.
    pub capacity_bytes: u64,
    /// Name of the machine.
    pub host: String,
    /// What it tells of itself: version, engine, …
    pub details: BTreeMap<String, String>,
}
crate::codec_versioned!(DaemonInfo, 1, 1 {
    uuid, up, weight, primary_affinity, address, incarnation, up_from, down_at, down_since, auto_out,
    capacity_bytes, host, details,
});

/// The record of a placement group (R1): who has it and who leads, decided by the monitor alone.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PgRecord {
    /// Raised with every change, except activation.
    pub interval: Interval,
    /// Leads this interval; one of the members.
    pub primary: DaemonId,
    /// The life of the primary that this interval belongs to (R6).
    pub primary_incarnation: Incarnation,
    /// Must acknowledge every write. In the order that Ceph clients are shown, primary first.
    pub members: Vec<DaemonId>,
    /// Catching up; count for nothing (R12).
    pub learners: BTreeSet<DaemonId>,
    /// Have, complete, everything that a client was ever told (R2).
    pub holders: BTreeSet<DaemonId>,
    /// The holders of the last interval that could accept writes; for `force` only (R14).
    pub writers: BTreeSet<DaemonId>,
    /// The epoch in which this interval began.
    pub since: Epoch,
    /// Every holder has confirmed this interval or a later one: who comes back as a holder and has not is an
    /// old copy of itself. 0 where nobody can say, as after a force.
    pub confirmed: Interval,
    /// In an erasure-coded pool: which slot each daemon named above has, or had of late. That of a holder never
    /// changes; what a learner has of another slot is worth nothing. Empty in other pools.
    #[serde(default)]
    pub slots: BTreeMap<DaemonId, u8>,
}
// Version 3 added `confirmed`, version 4 `slots`.
crate::codec_versioned!(PgRecord, 4, 1 {
    interval, primary, primary_incarnation, members, learners, holders, writers, since, confirmed since 3,
    slots since 4,
});

impl PgRecord {
    /// Whether the interval was activated: `holders = members` (R3).
    pub fn is_active(&self) -> bool {
        self.holders.len() == self.members.len()
            && self.members.iter().all(|daemon| self.holders.contains(daemon))
    }

    /// Which slot a daemon has; `None` in a pool without slots.
    pub fn slot(&self, daemon: DaemonId) -> Option<usize> {
        self.slots.get(&daemon).map(|slot| usize::from(*slot))
    }

    /// The different slots that some daemons have together.
    pub fn slots_of<'a>(&self, daemons: impl IntoIterator<Item = &'a DaemonId>) -> BTreeSet<usize> {
        daemons.into_iter().filter_map(|daemon| self.slot(*daemon)).collect()
    }

    /// How many copies, or different slots, its members are.
    pub fn width(&self) -> usize {
        match self.slots.is_empty() {
            true => self.members.len(),
            false => self.slots_of(&self.members).len(),
        }
    }

    /// Whether these daemons together have everything, as far as each has its part: anybody where copies are
    /// kept, k slots where slots are.
    pub fn suffice<'a>(
        &self,
        pool: &Pool,
        daemons: impl IntoIterator<Item = &'a DaemonId>,
    ) -> bool {
        match &pool.erasure {
            Some(erasure) => self.slots_of(daemons).len() >= usize::from(erasure.data),
            None => daemons.into_iter().next().is_some(),
        }
    }
}

/// The map. Steps from one epoch to the next are made with [`Incremental::between`].
#[derive(Clone, Debug, Default, PartialEq)]
pub struct OsdMap {
    /// Whose map.
    pub cluster: ClusterId,
    /// +1 with every change; 0 before the first.
    pub epoch: Epoch,
    /// When the cluster was made.
    pub created: Timestamp,
    /// When this epoch was made.
    pub modified: Timestamp,
    /// Switches.
    pub flags: MapFlags,
    /// Known daemons. One that was removed is not here any more, and its id is not given again.
    pub daemons: BTreeMap<DaemonId, DaemonInfo>,
    /// Highest pool id ever given.
    pub pool_max: i64,
    /// Pools.
    pub pools: BTreeMap<PoolId, Pool>,
    /// Where daemons stand, and the rules.
    pub crush: CrushMap,
    /// A record for every placement group of every pool.
    pub pgs: BTreeMap<PgId, PgRecord>,
    /// Exceptions to CRUSH, made by the balancer: pairs from → to.
    pub upmap_items: BTreeMap<PgId, Vec<(DaemonId, DaemonId)>>,
    /// Fenced clients and until when (seconds since 1970).
    pub blocklist: BTreeMap<ClientId, u64>,
    /// Every id of a daemon that was ever given is below. Lives are counted by each daemon from 1, so an id with
    /// a life must not name two of them: whoever hears late would take one for the other.
    pub daemon_end: i32,
    /// What new erasure-coded pools are made by; see [`OsdMap::erasure_profile`].
    pub erasure_profiles: BTreeMap<String, ErasureProfile>,
    /// What people asked of scrub and is not carried out everywhere, by number.
    pub scrubs: BTreeMap<u64, ScrubOrder>,
}
crate::codec_versioned!(OsdMap, 2, 1 {
    cluster, epoch, created, modified, flags, daemons, pool_max, pools, crush, pgs, upmap_items,
    blocklist, daemon_end since 2, erasure_profiles since 2, scrubs since 2,
});

impl OsdMap {
    /// The pool with this name.
    pub fn pool_by_name(&self, name: &str) -> Option<(PoolId, &Pool)> {
        self.pools.iter().find(|(_, pool)| pool.name == name).map(|(id, pool)| (*id, pool))
    }

    /// The erasure profile of this name. The one named [`PROFILE_DEFAULT`] is always there.
    pub fn erasure_profile(&self, name: &str) -> Option<ErasureProfile> {
        let built_in = || (name == PROFILE_DEFAULT).then(ErasureProfile::default);
        self.erasure_profiles.get(name).cloned().or_else(built_in)
    }

    /// The placement group of an object, if there is such a pool.
    pub fn pg_of(&self, pool: PoolId, object: &ObjectName) -> Option<PgId> {
        self.pools.get(&pool).map(|info| object.pg(pool, info.pg_num))
    }

    /// Whether a pool has used up its quota: it takes only what frees room.
    pub fn is_over_quota(&self, pool: PoolId) -> bool {
        self.pools.get(&pool).is_some_and(|pool| pool.options.contains_key(OPTION_OVER_QUOTA))
    }

    /// Whether a daemon is up.
    pub fn is_up(&self, daemon: DaemonId) -> bool {
        self.daemons.get(&daemon).is_some_and(|info| info.up)
    }

    /// Whether this life of a daemon is the one that is up.
    pub fn is_up_as(&self, daemon: DaemonId, incarnation: Incarnation) -> bool {
        self.daemons.get(&daemon).is_some_and(|info| info.up && info.incarnation == incarnation)
    }

    /// Makes this map the next one. On an error nothing has changed.
    pub fn apply(&mut self, step: &Incremental) -> Result<(), WrongEpoch> {
        if step.epoch != self.epoch.next() {
            return Err(WrongEpoch { step: step.epoch.0, have: self.epoch.0 });
        }
        self.epoch = step.epoch;
        self.modified = step.modified;
        if let Some(flags) = step.flags {
            self.flags = flags;
        }
        if let Some(crush) = &step.crush {
            self.crush = crush.clone();
        }
        self.pool_max = step.pool_max;
        self.daemon_end = self.daemon_end.max(step.daemon_end);
        step.daemons.apply(&mut self.daemons);
        step.pools.apply(&mut self.pools);
        step.pgs.apply(&mut self.pgs);
        step.upmap_items.apply(&mut self.upmap_items);
        step.blocklist.apply(&mut self.blocklist);
        step.erasure_profiles.apply(&mut self.erasure_profiles);
        step.scrubs.apply(&mut self.scrubs);
        Ok(())
    }
}

/// The step from one epoch of the [`OsdMap`] to the next.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Incremental {
    /// The epoch that it leads to.
    pub epoch: Epoch,
    /// When it was made.
    pub modified: Timestamp,
    /// If changed.
    pub flags: Option<MapFlags>,
    /// If changed.
    pub crush: Option<CrushMap>,
    /// As it is now.
    pub pool_max: i64,
    /// Changes.
    pub daemons: Delta<DaemonId, DaemonInfo>,
    /// Changes.
    pub pools: Delta<PoolId, Pool>,
    /// Changes.
    pub pgs: Delta<PgId, PgRecord>,
    /// Changes.
    pub upmap_items: Delta<PgId, Vec<(DaemonId, DaemonId)>>,
    /// Changes.
    pub blocklist: Delta<ClientId, u64>,
    /// As it is now.
    pub daemon_end: i32,
    /// Changes.
    pub erasure_profiles: Delta<String, ErasureProfile>,
    /// Changes.
    pub scrubs: Delta<u64, ScrubOrder>,
}
crate::codec_versioned!(Incremental, 2, 1 {
    epoch, modified, flags, crush, pool_max, daemons, pools, pgs, upmap_items, blocklist,
    daemon_end since 2, erasure_profiles since 2, scrubs since 2,
});

impl Incremental {
    /// The step from `old` to `new`; `new.epoch` must be the next.
    pub fn between(old: &OsdMap, new: &OsdMap) -> Incremental {
        assert_eq!(new.epoch, old.epoch.next(), "a step leads to the next epoch");
        Incremental {
            epoch: new.epoch,
            modified: new.modified,
            flags: (old.flags != new.flags).then_some(new.flags),
            crush: (old.crush != new.crush).then(|| new.crush.clone()),
            pool_max: new.pool_max,
            daemons: Delta::between(&old.daemons, &new.daemons),
            pools: Delta::between(&old.pools, &new.pools),
            pgs: Delta::between(&old.pgs, &new.pgs),
            upmap_items: Delta::between(&old.upmap_items, &new.upmap_items),
            blocklist: Delta::between(&old.blocklist, &new.blocklist),
            daemon_end: new.daemon_end,
            erasure_profiles: Delta::between(&old.erasure_profiles, &new.erasure_profiles),
            scrubs: Delta::between(&old.scrubs, &new.scrubs),
        }
    }
}
