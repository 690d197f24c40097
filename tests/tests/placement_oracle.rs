//! Proves that our placement is Ceph's, bit for bit.
//!
//! How: maps of many shapes are made with our own builders, written in Ceph's binary form, and given to
//! Ceph's own tools. `osdmaptool` computes up and acting set and both primaries of every placement group,
//! `crushtool` runs the rules; each line is compared with ours. It also shows that the two tools accept
//! what we encode, checksum included.
//!
//! The tools are part of the test (Debian: package `ceph-base`). Without them it fails.

#![allow(clippy::disallowed_methods, reason = "files and processes are how the tools are reached")]
#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Command;
use store_base::ceph::{NATIVE_ADDRESS, encode_crush, encode_osdmap};
use store_base::crush::choose::NONE;
use store_base::crush::placement::UpSet;
use store_base::crush::{CrushMap, Rule, Step};
use store_base::hash::hash3;
use store_base::map::{DaemonInfo, Erasure, OsdMap, PgRecord, Pool, PoolKind};
use store_base::{ClusterId, DaemonId, Epoch, Incarnation, PgId, PoolId, Timestamp};

const ONE: u32 = 0x10000;

/// Numbers without pattern, the same in every run.
struct Dice {
    seed: u32,
    thrown: u32,
}

impl Dice {
    fn new(seed: u32) -> Self {
        Dice { seed, thrown: 0 }
    }

    /// Below `sides`.
    fn roll(&mut self, sides: u32) -> u32 {
        self.thrown += 1;
        hash3(self.seed, self.thrown, 0xd1ce) % sides
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.roll(from.len() as u32) as usize]
    }
}

// ---------------------------------------------------------------------------------------------------
// Maps

/// A forest of `racks` × `hosts` × `devices`, with weights drawn from `weights`.
fn forest(dice: &mut Dice, [racks, hosts, devices]: [u32; 3], weights: &[u32]) -> CrushMap {
    let mut crush = CrushMap::new();
    let mut id = 0;
    for rack in 0..racks {
        for host in 0..hosts {
            let (rack, host) = (format!("rack{rack}"), format!("host{rack}-{host}"));
            let location = [("root", "default"), ("rack", rack.as_str()), ("host", host.as_str())];
            for _ in 0..devices {
                crush.insert_device(DaemonId(id), dice.pick(weights), &location).unwrap();
                id += 1;
            }
        }
    }
    crush
}

/// Rules of every kind of step, for a map with racks.
fn add_rules(crush: &mut CrushMap) {
    for domain in ["osd", "host", "rack"] {
        crush.add_rule_replicated(&format!("r-{domain}"), "default", domain).unwrap();
        crush.add_rule_erasure(&format!("e-{domain}"), "default", domain).unwrap();
    }
    let root = crush.bucket_by_name("default").unwrap().id;
    let first_rack = crush.bucket_by_name("rack0").unwrap().id;
    let (osd, host, rack) = (0, 1, 3);
    let rules: [(&str, bool, Vec<Step>); 6] = [
        (
            "two-racks",
            false,
            vec![
                Step::Take { item: root },
                Step::ChooseFirstn { count: 2, kind: rack },
                Step::ChooseLeafFirstn { count: 2, kind: host },
                Step::Emit {},
            ],
        ),
        (
            "two-racks-indep",
            true,
            vec![
                Step::Take { item: root },
                Step::ChooseIndep { count: 2, kind: rack },
                Step::ChooseLeafIndep { count: 3, kind: host },
                Step::Emit {},
            ],
        ),
        (
            "near-and-far",
            false,
            vec![
                Step::Take { item: first_rack },
                Step::ChooseLeafFirstn { count: 1, kind: host },
                Step::Emit {},
                Step::Take { item: root },
                Step::ChooseLeafFirstn { count: -1, kind: rack },
                Step::Emit {},
            ],
        ),
        (
            "leaf-of-devices",
            true,
            vec![
                Step::SetChooseTries { tries: 3 },
                Step::Take { item: root },
                Step::ChooseLeafIndep { count: 0, kind: osd },
                Step::Emit {},
            ],
        ),
        (
            "few-tries",
            false,
            vec![
                Step::SetChooseTries { tries: 4 },
                Step::SetChooseLeafTries { tries: 2 },
                Step::Take { item: root },
                Step::ChooseLeafFirstn { count: 0, kind: host },
                Step::Emit {},
            ],
        ),
        (
            "step-by-step",
            false,
            vec![
                Step::Take { item: root },
                Step::ChooseFirstn { count: 0, kind: rack },
                Step::ChooseFirstn { count: 1, kind: host },
                Step::ChooseFirstn { count: 1, kind: osd },
                Step::Emit {},
            ],
        ),
    ];
    for (name, erasure, steps) in rules {
        crush.add_rule(Rule { name: name.into(), erasure, steps }).unwrap();
    }
}

fn daemon(id: i32) -> DaemonInfo {
    DaemonInfo {
        uuid: ClusterId([id as u8; 16]),
        up: true,
        weight: ONE,
        primary_affinity: ONE,
        address: format!("127.0.0.1:{}", 6800 + id),
        incarnation: Incarnation(3),
        up_from: Epoch(2),
        details: BTreeMap::from([(NATIVE_ADDRESS.into(), format!("127.0.0.1:{}", 6801 + id))]),
        ..DaemonInfo::default()
    }
}

/// A map with every daemon of `crush` up and in, and a pool for every rule.
fn map_of(crush: CrushMap, dice: &mut Dice) -> OsdMap {
    let mut map = OsdMap {
        cluster: ClusterId([7; 16]),
        epoch: Epoch(9),
        created: Timestamp { secs: 1_700_000_000, nanos: 0 },
        modified: Timestamp { secs: 1_700_000_100, nanos: 5 },
        daemons: crush.devices().into_keys().map(|id| (id, daemon(id.0))).collect(),
        ..OsdMap::default()
    };
    for (&id, rule) in crush.rules() {
        let pg_num = dice.pick(&[1, 8, 37, 64, 100, 128, 200]);
        let pool = Pool {
            name: format!("pool-{}", rule.name),
            kind: if rule.erasure { PoolKind::Erasure } else { PoolKind::Replicated },
            size: if rule.erasure { 6 } else { dice.pick(&[1, 2, 3, 4, 12]) },
            min_size: 1,
            pg_num,
            pgp_num: pg_num - dice.roll(pg_num.div_ceil(3)),
            crush_rule: id.into(),
            applications: BTreeMap::from([("s3".into(), BTreeMap::new())]),
            erasure: rule.erasure.then(|| Erasure { data: 4, coding: 2, ..Erasure::default() }),
            ..Pool::default()
        };
        map.pool_max += 1 + i64::from(dice.roll(3));
        map.pools.insert(PoolId(map.pool_max), pool);
    }
    map.crush = crush;
    map
}

/// Some daemons down, out, half out, removed, and unwilling to lead.
fn trouble(map: &mut OsdMap, dice: &mut Dice) {
    let ids: Vec<DaemonId> = map.daemons.keys().copied().collect();
    for id in ids {
        let Some(info) = map.daemons.get_mut(&id) else { continue };
        match dice.roll(12) {
            0 => info.up = false,
            1 => info.weight = 0,
            2 => info.weight = dice.roll(ONE),
            3 => info.primary_affinity = 0,
            4 => info.primary_affinity = dice.roll(ONE),
            5 => {
                info.weight = dice.roll(ONE);
                info.primary_affinity = dice.roll(ONE);
            }
            6 if id.0 > 0 => drop(map.daemons.remove(&id)),
            _ => (),
        }
    }
}

/// Every group of every pool.
fn groups(map: &OsdMap) -> Vec<PgId> {
    let pools = map.pools.iter();
    pools.flat_map(|(&pool, info)| (0..info.pg_num).map(move |seed| PgId { pool, seed })).collect()
}

/// Exceptions in a third of the groups: sensible ones, and ones that name the absent, the out and the
/// taken.
fn upmaps(map: &mut OsdMap, dice: &mut Dice) {
    let highest = map.crush.devices().len() as u32 + 2;
    for pg in groups(map).into_iter().filter(|pg| pg.seed % 3 == 1) {
        let up = map.up_set(pg).unwrap().daemons();
        let items = (0..1 + dice.roll(3))
            .map(|_| {
                let from = match up.is_empty() || dice.roll(5) == 0 {
                    true => DaemonId(dice.roll(highest) as i32),
                    false => dice.pick(&up),
                };
                (from, DaemonId(dice.roll(highest) as i32))
            })
            .collect();
        map.upmap_items.insert(pg, items);
    }
}

/// Records for the groups of the replicated pools: most as CRUSH says, some with other members, with
/// members that are down, or with another primary.
fn records(map: &mut OsdMap, dice: &mut Dice) {
    let (alive, down): (Vec<DaemonId>, Vec<DaemonId>) =
        map.daemons.keys().partition(|id| map.is_up(**id));
    for pg in groups(map) {
        let mut members = map.up_set(pg).unwrap().daemons();
        if map.pools[&pg.pool].kind == PoolKind::Erasure || members.is_empty() {
            continue;
        }
        match dice.roll(4) {
            0 => members.rotate_left(1),
            1 => {
                let other = dice.pick(&alive);
                members.retain(|daemon| *daemon != other);
                members.insert(0, other);
            }
            2 if !down.is_empty() => {
                members.truncate(dice.roll(3) as usize);
                members.insert(dice.roll(members.len() as u32 + 1) as usize, dice.pick(&down));
            }
            _ => (),
        }
        let primary = dice.pick(&members[..members.len().min(2)]);
        let record = PgRecord { primary, members, ..PgRecord::default() };
        map.pgs.insert(pg, record);
    }
}

// ---------------------------------------------------------------------------------------------------
// The tools

/// A file that is gone when the test ends.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str, bytes: &[u8]) -> Self {
        let path = std::env::temp_dir().join(format!("store-oracle-{}-{name}", std::process::id()));
        std::fs::write(&path, bytes).unwrap();
        Scratch(path)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        drop(std::fs::remove_file(&self.0));
    }
}

/// Runs one of Ceph's tools; its output.
fn run(tool: &str, args: &[&str]) -> String {
    let output = Command::new(tool).args(args).output().unwrap_or_else(|e| {
        panic!("{tool} cannot be run ({e}); this test needs Ceph's tools: Debian package ceph-base")
    });
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{tool} {args:?}: {}\n{text}\n{errors}", output.status);
    text
}

/// `[1,2,NONE]` or `[1,2,2147483647]`.
fn parse_set(text: &str) -> Vec<Option<DaemonId>> {
    let inner = text.trim().trim_start_matches('[').trim_end_matches(']');
    inner
        .split(',')
        .filter(|item| !item.is_empty())
        .map(|item| match item {
            "NONE" | "2147483647" => None,
            number => Some(DaemonId(number.parse().expect("a daemon id"))),
        })
        .collect()
}

/// `([1,2,3], p1)`; −1 for no primary.
fn parse_up(text: &str) -> UpSet {
    let (set, primary) = text.split_once(", p").expect("a set and a primary");
    let primary: i32 =
        primary.trim().trim_end_matches(')').parse().expect("the number of the primary");
    UpSet {
        slots: parse_set(set.trim().trim_start_matches('(')),
        primary: (primary >= 0).then_some(DaemonId(primary)),
    }
}

/// Up and acting of every group of every pool, by `osdmaptool`.
fn oracle_pgs(file: &Scratch) -> BTreeMap<PgId, [UpSet; 2]> {
    let path = file.0.to_str().unwrap();
    let text = run("osdmaptool", &[path, "--test-map-pgs-dump-all"]);
    let mut found = BTreeMap::new();
    for line in text.lines() {
        let Some((pg, rest)) = line.split_once(" raw ") else { continue };
        let (_, rest) = rest.split_once(" up ").expect("the up set");
        let (up, acting) = rest.split_once(" acting ").expect("the acting set");
        let pg = pg.trim().parse().expect("a placement group");
        found.insert(pg, [parse_up(up), parse_up(acting)]);
    }
    found
}

/// What Ceph's clients should take for the acting set, by our records: the members that are up, led by
/// the primary if it is; the up set if there are none.
fn expected_acting(map: &OsdMap, pg: PgId, up: &UpSet) -> UpSet {
    let Some(record) = map.pgs.get(&pg) else { return up.clone() };
    let members: Vec<DaemonId> =
        record.members.iter().copied().filter(|id| map.is_up(*id)).collect();
    if members.is_empty() {
        return up.clone();
    }
    let primary = if map.is_up(record.primary) { record.primary } else { members[0] };
    UpSet { slots: members.into_iter().map(Some).collect(), primary: Some(primary) }
}

/// What a comparison saw, so that a scenario can insist on having shown something.
struct Compared {
    groups: usize,
    /// Groups whose acting set is not the up set.
    differ: usize,
    /// Groups with a hole in the up set.
    holes: usize,
}

/// Compares every group of every pool.
fn check_map(name: &str, map: &OsdMap) -> Compared {
    let file = Scratch::new(name, &encode_osdmap(map));
    let oracle = oracle_pgs(&file);
    assert_eq!(oracle.keys().copied().collect::<Vec<_>>(), groups(map), "{name}: the groups");
    for (&pg, [up, acting]) in &oracle {
        let pool = &map.pools[&pg.pool].name;
        let ours = map.up_set(pg).expect("the group exists");
        assert_eq!(ours, *up, "{name}: up set of {pg} in {pool}: ours, then Ceph's");
        let ours = expected_acting(map, pg, &ours);
        assert_eq!(ours, *acting, "{name}: acting set of {pg} in {pool}: ours, then Ceph's");
    }
    let differ = oracle.values().filter(|[up, acting]| up != acting).count();
    let holes = oracle.values().filter(|[up, _]| up.slots.contains(&None)).count();
    Compared { groups: oracle.len(), differ, holes }
}

/// Compares every rule for x in 0 … 255 and several numbers of replicas; how many results there were.
fn check_crush(name: &str, crush: &CrushMap, weights: &BTreeMap<DaemonId, u32>) -> usize {
    let file = Scratch::new(name, &encode_crush(crush));
    let path = file.0.to_str().unwrap();
    let mut compared = 0;
    for (&rule, info) in crush.rules() {
        for replicas in [1, 3, 7] {
            let (rule, replicas) = (rule.to_string(), replicas.to_string());
            let mut args = vec!["-i", path, "--test", "--show-mappings", "--min-x", "0"];
            args.extend(["--max-x", "255", "--rule", &rule, "--num-rep", &replicas]);
            let set: Vec<[String; 2]> = weights
                .iter()
                .map(|(id, weight)| [id.0.to_string(), (f64::from(*weight) / 65536.0).to_string()])
                .collect();
            set.iter().for_each(|[id, weight]| args.extend(["--weight", id, weight]));
            for line in run("crushtool", &args).lines() {
                let Some((_, rest)) = line.split_once(" x ") else { continue };
                let (x, oracle) = rest.split_once(' ').expect("a number and a set");
                let x = x.parse().expect("the number");
                let of = |id: DaemonId| weights.get(&id).copied().unwrap_or(ONE);
                let ours: Vec<_> = crush
                    .do_rule(rule.parse().unwrap(), x, replicas.parse().unwrap(), &of)
                    .into_iter()
                    .map(|item| (item != NONE).then_some(DaemonId(item)))
                    .collect();
                assert_eq!(
                    ours,
                    parse_set(oracle),
                    "{name}: rule {} for {x}, {replicas} replicas: ours, then Ceph's",
                    info.name
                );
                compared += 1;
            }
        }
    }
    assert_eq!(compared, crush.rules().len() * 3 * 256, "{name}: a result for every x");
    compared
}

// ---------------------------------------------------------------------------------------------------
// Scenarios

#[test]
fn one_host() {
    let mut dice = Dice::new(1);
    let mut crush = CrushMap::new();
    for id in 0..3 {
        crush.insert_device(DaemonId(id), ONE, &[("host", "laptop")]).unwrap();
    }
    crush.add_rule_replicated("by-osd", "default", "osd").unwrap();
    crush.add_rule_replicated("by-host", "default", "host").unwrap();
    let map = map_of(crush, &mut dice);
    let seen = check_map("one-host", &map);
    assert!(seen.groups > 0 && seen.differ + seen.holes == 0);
}

#[test]
fn racks_all_well() {
    let mut dice = Dice::new(2);
    let mut crush = forest(&mut dice, [4, 3, 4], &[ONE]);
    add_rules(&mut crush);
    let map = map_of(crush, &mut dice);
    assert!(check_map("racks", &map).groups > 500);
}

#[test]
fn racks_of_mixed_weights_in_trouble() {
    let (mut differ, mut holes) = (0, 0);
    for seed in 10..16 {
        let mut dice = Dice::new(seed);
        let shape = [2 + dice.roll(4), 1 + dice.roll(4), 1 + dice.roll(5)];
        let weights = [ONE, ONE / 2, 3 * ONE, 7 * ONE / 3, 12345, 1, 0, 200 * ONE];
        let mut crush = forest(&mut dice, shape, &weights);
        add_rules(&mut crush);
        let mut map = map_of(crush, &mut dice);
        trouble(&mut map, &mut dice);
        holes += check_map(&format!("trouble-{seed}"), &map).holes;
        upmaps(&mut map, &mut dice);
        check_map(&format!("upmaps-{seed}"), &map);
        records(&mut map, &mut dice);
        differ += check_map(&format!("records-{seed}"), &map).differ;
    }
    assert!(
        differ > 100 && holes > 100,
        "{differ} differ, {holes} with holes: too few to show much"
    );
}

#[test]
fn uneven_forest_with_empty_hosts() {
    let mut dice = Dice::new(3);
    let mut crush = forest(&mut dice, [3, 2, 2], &[ONE, 2 * ONE]);
    add_rules(&mut crush);
    crush.add_bucket("bare", "host").unwrap();
    crush.move_bucket("bare", &[("rack", "rack1")]).unwrap();
    crush.insert_device(DaemonId(40), ONE, &[("root", "default")]).unwrap();
    crush.insert_device(DaemonId(41), 5 * ONE, &[("rack", "rack0")]).unwrap();
    crush.insert_device(DaemonId(42), ONE, &[("host", "alone")]).unwrap();
    crush.remove_device(DaemonId(0)).unwrap();
    crush.remove_device(DaemonId(1)).unwrap();
    crush.move_bucket("host1-0", &[("rack", "rack2")]).unwrap();
    let mut map = map_of(crush, &mut dice);
    check_map("uneven", &map);
    trouble(&mut map, &mut dice);
    upmaps(&mut map, &mut dice);
    check_map("uneven-trouble", &map);
}

#[test]
fn rules_alone() {
    for seed in 30..32 {
        let mut dice = Dice::new(seed);
        let mut crush =
            forest(&mut dice, [3, 3, 3], &[ONE, 2 * ONE, 3 * ONE / 2, 999, 0, 60 * ONE]);
        add_rules(&mut crush);
        // crushtool takes weights as decimal fractions: sixteenths are exact in both.
        let weights = (0..27)
            .map(|id| (DaemonId(id), dice.pick(&[ONE, ONE, ONE, 0, ONE / 2, ONE / 16])))
            .collect();
        check_crush(&format!("rules-{seed}"), &crush, &weights);
    }
}

#[test]
fn tools_read_what_else_is_in_the_map() {
    let mut dice = Dice::new(4);
    let mut crush = forest(&mut dice, [2, 2, 1], &[ONE]);
    add_rules(&mut crush);
    let mut map = map_of(crush, &mut dice);
    map.daemons.get_mut(&DaemonId(1)).unwrap().up = false;
    map.flags.noout = true;
    let file = Scratch::new("print", &encode_osdmap(&map));
    let text = run("osdmaptool", &[file.0.to_str().unwrap(), "--print"]);
    for expected in [
        "epoch 9\n",
        "fsid 07070707-0707-0707-0707-070707070707\n",
        "flags noout,sortbitwise,recovery_deletes,purged_snapdirs,pglog_hardlimit\n",
        "'pool-r-host' replicated size",
        "'pool-e-rack' erasure profile pool-e-rack size 6",
        "application s3",
        "osd.0 up   in  weight 1",
        "osd.1 down in  weight 1",
        "v2:127.0.0.1:6801/3",
    ] {
        assert!(text.contains(expected), "{expected:?} is not in:\n{text}");
    }
    let file = Scratch::new("decompile", &encode_crush(&map.crush));
    let text = run("crushtool", &["-d", file.0.to_str().unwrap()]);
    for expected in [
        "tunable choose_local_tries 0\n",
        "tunable choose_local_fallback_tries 0\n",
        "tunable choose_total_tries 50\n",
        "tunable chooseleaf_descend_once 1\n",
        "tunable chooseleaf_vary_r 1\n",
        "tunable chooseleaf_stable 1\n",
        "tunable straw_calc_version 1\n",
        "tunable allowed_bucket_algs 54\n",
        "type 11 root\n",
        "rack rack1 {",
        "alg straw2\n",
        "item osd.3 weight 1.000",
        "step chooseleaf indep 3 type host",
    ] {
        assert!(text.contains(expected), "{expected:?} is not in:\n{text}");
    }
}
