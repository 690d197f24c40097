//! The OSD map in Ceph's binary form (CEPH-WIRE 2.5).
//!
//! Where a placement group's configuration is not what CRUSH says, Ceph's clients are told by pg_temp (the
//! members) and primary_temp. A member that is down is dropped by the reader; if all are, it falls back to
//! the up set, whose primary refuses, as it has to.

use super::{Address, crc32c, encode_crush, put_addresses, put_count, put_pg, put_time};
use crate::codec::{Encode, Writer};
use crate::erasure::Technique;
use crate::ids::{DaemonId, PgId, PoolId, Timestamp};
use crate::map::osd::OPTION_OVER_QUOTA;
use crate::map::{DaemonInfo, OsdMap, Pool};
use bytes::Bytes;
use std::collections::BTreeMap;

/// The key in a daemon's details under which it tells where it speaks Ceph's protocol, as ip:port.
pub const NATIVE_ADDRESS: &str = "ceph_address";

/// Bits of the map's flags.
const FLAG_FULL: u32 = 1 << 1;
const FLAG_PAUSE: u32 = 1 << 2 | 1 << 3;
const FLAG_NOOUT: u32 = 1 << 7;
const FLAG_NOBACKFILL: u32 = 1 << 9;
const FLAG_NORECOVER: u32 = 1 << 10;
const FLAG_NOSCRUB: u32 = 1 << 11 | 1 << 12;
const FLAG_NODEEP_SCRUB: u32 = 1 << 12;
const FLAG_NOREBALANCE: u32 = 1 << 14;
/// sortbitwise, recovery_deletes, purged_snapdirs, pglog_hardlimit: this is how we are.
const FLAGS_ALWAYS: u32 = 1 << 15 | 1 << 19 | 1 << 20 | 1 << 22;

/// Bits of a daemon's state.
const STATE_EXISTS: u32 = 1;
const STATE_UP: u32 = 2;

/// Bits of a pool's flags.
const POOL_HASHPSPOOL: u64 = 1;
const POOL_FULL: u64 = 2;
const POOL_FULL_QUOTA: u64 = 1 << 10;

/// What a daemon may claim to understand: the set that CEPH-WIRE 1.5 says to announce.
const FEATURES: u64 = 0x0f09_8ff8_7a24_bbbe;

/// Ceph's numbers of its releases luminous and octopus.
const RELEASE_CLIENT_MIN: u8 = 12;
const RELEASE_REQUIRED: u8 = 15;

/// Ceph's usual limits of fullness. Only shown; what they stand for is decided elsewhere.
const RATIOS: [f32; 3] = [0.85, 0.95, 0.90];

/// The whole map, as Ceph's clients and `osdmaptool` read it.
pub fn encode_osdmap(map: &OsdMap) -> Bytes {
    let daemons = Daemons::new(map);
    let mut body = Writer::new();
    body.versioned(9, 1, |out| put_client_part(map, &daemons, out));
    body.versioned(9, 1, |out| put_osd_part(&daemons, out));
    let body = body.into_bytes();
    // The checksum is over the header, too; so the length in it must already be the final one.
    let mut whole = Writer::new();
    8u8.encode(&mut whole);
    7u8.encode(&mut whole);
    put_count(body.len() + size_of::<u32>(), &mut whole);
    whole.put_slice(&body);
    let mut whole = whole.into_bytes().to_vec();
    let crc = crc32c(&whole);
    whole.extend_from_slice(&crc.to_le_bytes());
    whole.into()
}

/// The map's daemons as Ceph has them: an array by id, with gaps.
struct Daemons<'a>(Vec<Option<&'a DaemonInfo>>);

impl<'a> Daemons<'a> {
    /// One slot for every id that the map names anywhere, so that a reader knows those without a daemon as
    /// daemons that do not exist.
    fn new(map: &'a OsdMap) -> Self {
        let in_crush = map.crush.devices();
        let in_upmap = map.upmap_items.values().flatten().flat_map(|(from, to)| [from, to]);
        let ids = map.daemons.keys().chain(in_crush.keys()).chain(in_upmap);
        let slots = ids.map(|id| id.0 + 1).max().unwrap_or(0).clamp(0, crate::crush::DEVICES_MAX);
        Daemons((0..slots).map(|id| map.daemons.get(&DaemonId(id))).collect())
    }

    /// A vector with one value for every slot.
    fn put<T>(
        &self,
        value: impl Fn(&DaemonInfo) -> T,
        absent: T,
        put: impl Fn(&T, &mut Writer),
        out: &mut Writer,
    ) {
        put_count(self.0.len(), out);
        for slot in &self.0 {
            match slot {
                Some(info) => put(&value(info), out),
                None => put(&absent, out),
            }
        }
    }

    fn put_u32(&self, value: impl Fn(&DaemonInfo) -> u32, absent: u32, out: &mut Writer) {
        self.put(value, absent, |value, out| value.encode(out), out);
    }

    fn put_addresses(&self, out: &mut Writer) {
        let put = |address: &Option<Address>, out: &mut Writer| {
            put_addresses(address.as_slice(), out);
        };
        self.put(native_address, None, put, out);
    }
}

fn native_address(info: &DaemonInfo) -> Option<Address> {
    let socket = info.details.get(NATIVE_ADDRESS)?.parse().ok()?;
    // The incarnation grows with every start: its low half is as good a nonce as any.
    Some(Address { socket, nonce: info.incarnation.0 as u32 })
}

fn put_client_part(map: &OsdMap, daemons: &Daemons<'_>, out: &mut Writer) {
    map.cluster.encode(out);
    map.epoch.encode(out);
    put_time(map.created, out);
    put_time(map.modified, out);
    put_count(map.pools.len(), out);
    for (id, pool) in &map.pools {
        id.encode(out);
        put_pool(pool, map, out);
    }
    put_count(map.pools.len(), out);
    for (id, pool) in &map.pools {
        id.encode(out);
        pool.name.encode(out);
    }
    i32::try_from(map.pool_max).unwrap_or(i32::MAX).encode(out);
    flags_of(map).encode(out);
    i32::try_from(daemons.0.len()).expect("ids are bounded").encode(out);
    daemons.put_u32(|info| STATE_EXISTS | if info.up { STATE_UP } else { 0 }, 0, out);
    daemons.put_u32(|info| info.weight, 0, out);
    daemons.put_addresses(out);
    put_temporary(map, out);
    daemons.put_u32(|info| info.primary_affinity, crate::crush::WEIGHT_ONE, out);
    encode_crush(&map.crush).encode(out);
    put_erasure_profiles(map, out);
    put_count(0, out); // pg_upmap: whole sets
    put_count(map.upmap_items.len(), out);
    for (pg, items) in &map.upmap_items {
        put_pg(*pg, out);
        items.encode(out);
    }
    1i32.encode(out); // version of the CRUSH map, for its editors
    put_count(0, out); // snapshots newly removed
    put_count(0, out); // and newly purged
    put_time(map.modified, out); // last change of up
    put_time(map.modified, out); // and of in
}

fn flags_of(map: &OsdMap) -> u32 {
    let flags = &map.flags;
    [
        (flags.full, FLAG_FULL),
        (flags.pause, FLAG_PAUSE),
        (flags.noout, FLAG_NOOUT),
        (flags.nobackfill, FLAG_NOBACKFILL),
        (flags.norecover, FLAG_NORECOVER),
        (flags.noscrub, FLAG_NOSCRUB),
        (flags.nodeep_scrub, FLAG_NODEEP_SCRUB),
        (flags.norebalance, FLAG_NOREBALANCE),
    ]
    .iter()
    .filter(|(is_set, _)| *is_set)
    .fold(FLAGS_ALWAYS, |all, (_, bit)| all | bit)
}

/// pg_temp and primary_temp, for the groups whose configuration differs from CRUSH.
fn put_temporary(map: &OsdMap, out: &mut Writer) {
    let mut members: BTreeMap<PgId, &Vec<DaemonId>> = BTreeMap::new();
    let mut primaries: BTreeMap<PgId, DaemonId> = BTreeMap::new();
    for (pg, record) in &map.pgs {
        let Some(up) = map.up_set(*pg) else { continue };
        let differs = up.slots.iter().copied().ne(record.members.iter().copied().map(Some));
        let mut shown_primary = up.primary;
        if differs && !record.members.is_empty() {
            members.insert(*pg, &record.members);
            shown_primary = record.members.iter().copied().find(|daemon| map.is_up(*daemon));
        }
        // A primary that is down is not named: the reader would take it all the same.
        let leads = record.members.contains(&record.primary) && map.is_up(record.primary);
        if leads && shown_primary != Some(record.primary) {
            primaries.insert(*pg, record.primary);
        }
    }
    put_count(members.len(), out);
    for (pg, members) in members {
        put_pg(pg, out);
        members.encode(out);
    }
    put_count(primaries.len(), out);
    for (pg, primary) in primaries {
        put_pg(pg, out);
        primary.encode(out);
    }
}

/// A pool, in version 27 of 29.
fn put_pool(pool: &Pool, map: &OsdMap, out: &mut Writer) {
    out.versioned(27, 5, |out| {
        put_pool_basics(pool, map, out);
        put_pool_caching(pool, out);
        pool.resend_since.encode(out); // before luminous
        0u32.encode(out); // minimal recency of reads
        0u64.encode(out); // objects expected
        0u32.encode(out); // cache: high dirty ratio
        0u32.encode(out); // cache: minimal recency of writes
        1u8.encode(out); // hit sets are named in UTC
        0u8.encode(out); // fast read
        0u32.encode(out); // hit sets: decay
        0u32.encode(out); // hit sets: search
        out.versioned(2, 1, |out| put_count(0, out)); // options
        pool.resend_since.encode(out);
        pool.applications.encode(out);
        put_time(map.created, out);
    });
}

fn put_pool_basics(pool: &Pool, map: &OsdMap, out: &mut Writer) {
    let full = if map.flags.full { POOL_FULL } else { 0 };
    let is_over_quota = pool.options.contains_key(OPTION_OVER_QUOTA);
    let full = full | if is_over_quota { POOL_FULL | POOL_FULL_QUOTA } else { 0 };
    pool.kind.encode(out);
    pool.size.encode(out);
    u8::try_from(pool.crush_rule).unwrap_or(u8::MAX).encode(out);
    2u8.encode(out); // the object hash: rjenkins
    pool.pg_num.encode(out);
    pool.pgp_num.encode(out);
    [0u32; 2].iter().for_each(|n| n.encode(out)); // localized groups, of old
    pool.last_change.encode(out);
    pool.snap_seq.encode(out);
    0u32.encode(out); // epoch of the last snapshot
    put_count(0, out); // snapshots
    put_count(0, out); // removed ones
    0u64.encode(out); // owner, of old
    (POOL_HASHPSPOOL | full).encode(out);
    0u32.encode(out); // replay interval, of old
    pool.min_size.encode(out);
    pool.quota_bytes.encode(out);
    pool.quota_objects.encode(out);
}

/// Cache tiers and their hit sets: there are none.
fn put_pool_caching(pool: &Pool, out: &mut Writer) {
    put_count(0, out); // tiers
    PoolId(-1).encode(out); // tier of
    0u8.encode(out); // mode
    PoolId(-1).encode(out); // read tier
    PoolId(-1).encode(out); // write tier
    put_count(0, out); // properties
    out.versioned(1, 1, |out| 0u8.encode(out)); // kind of hit sets
    [0u32; 2].iter().for_each(|n| n.encode(out)); // their period and number
    let stripe_bytes = pool.erasure.as_ref().map_or(0, |erasure| erasure.striping().stripe_bytes());
    u32::try_from(stripe_bytes).unwrap_or(u32::MAX).encode(out);
    [0u64; 2].iter().for_each(|n| n.encode(out)); // target bytes and objects
    [0u32; 4].iter().for_each(|n| n.encode(out)); // ratios and ages
    match pool.erasure {
        Some(_) => pool.name.encode(out), // see `put_erasure_profiles`
        None => String::new().encode(out),
    }
}

/// One profile for each erasure-coded pool, by the pool's name: our pools keep what they were made by, whatever
/// became of the profile.
fn put_erasure_profiles(map: &OsdMap, out: &mut Writer) {
    let pools = map.pools.values();
    let profiles: BTreeMap<&String, BTreeMap<String, String>> = pools
        .filter_map(|pool| {
            let erasure = pool.erasure.as_ref()?;
            let plugin = match erasure.technique {
                Technique::ReedSolVan => "jerasure",
                Technique::Cauchy => "isa",
            };
            let profile = [
                ("k", erasure.data.to_string()),
                ("m", erasure.coding.to_string()),
                ("plugin", plugin.to_string()),
                ("technique", erasure.technique.name().to_string()),
                ("stripe_unit", erasure.cell_bytes.to_string()),
            ];
            Some((&pool.name, profile.map(|(key, value)| (key.to_string(), value)).into()))
        })
        .collect();
    put_count(profiles.len(), out);
    for (name, profile) in profiles {
        name.encode(out);
        profile.encode(out);
    }
}

/// What the daemons tell each other; clients read past it. Our daemons have gRPC for that, so there is
/// little in it.
fn put_osd_part(daemons: &Daemons<'_>, out: &mut Writer) {
    daemons.put_addresses(out); // heartbeats, back
    daemons.put(|info| [info.up_from.0, info.up_from.0, info.down_at.0], [0; 3], put_lives, out);
    put_count(0, out); // blocklist: fenced clients are named by id, which this has no place for
    daemons.put_addresses(out); // cluster network
    0u32.encode(out); // cluster snapshot
    String::new().encode(out);
    daemons.put(|info| info.uuid, Default::default(), |uuid, out| uuid.encode(out), out);
    daemons.put(|info| info.down_since, Timestamp::default(), put_extra, out);
    daemons.put_addresses(out); // heartbeats, front
    RATIOS.iter().for_each(|ratio| out.put_slice(&ratio.to_le_bytes()));
    RELEASE_CLIENT_MIN.encode(out);
    RELEASE_REQUIRED.encode(out);
    (0..3).for_each(|_| put_count(0, out)); // removed snapshots, flags of CRUSH nodes, of classes
}

fn put_lives([up_from, up_thru, down_at]: &[u32; 3], out: &mut Writer) {
    1u8.encode(out);
    [0, 0, *up_from, *up_thru, *down_at, 0].iter().for_each(|epoch| epoch.encode(out));
}

fn put_extra(down_since: &Timestamp, out: &mut Writer) {
    out.versioned(3, 1, |out| {
        put_time(*down_since, out);
        [0u32; 2].iter().for_each(|n| n.encode(out)); // laggy
        FEATURES.encode(out);
        0u32.encode(out); // weight before it went out
    });
}
