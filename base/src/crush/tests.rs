//! Edits, bytes, and hostile maps. That results are Ceph's is shown by `tests/tests/placement_oracle.rs`.

use super::choose::NONE;
use super::edit::EditError;
use super::placement::{DaemonState, PlacementInput, UpSet, up_set};
use super::*;
use crate::codec::{Decode, DecodeError, Encode};
use crate::ids::{PgId, PoolId};
use bytes::Bytes;
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;

/// `hosts` × 2 devices of weight 1, and a rule for each pool kind by host.
fn cluster(hosts: i32) -> CrushMap {
    let mut map = CrushMap::new();
    for id in 0..2 * hosts {
        let host = format!("h{}", id / 2);
        map.insert_device(DaemonId(id), WEIGHT_ONE, &[("host", &host)]).unwrap();
    }
    map.add_rule_replicated("replicated", ROOT_DEFAULT, "host").unwrap();
    map.add_rule_erasure("erasure", ROOT_DEFAULT, "host").unwrap();
    map
}

fn all_in(_: DaemonId) -> u32 {
    WEIGHT_ONE
}

// Edits

#[test]
fn a_location_is_made_as_far_as_it_is_missing() {
    let mut map = CrushMap::new();
    let location = [("host", "a"), ("root", "ssd"), ("rack", "r")];
    map.insert_device(DaemonId(0), WEIGHT_ONE, &location).unwrap();
    map.insert_device(DaemonId(1), 2 * WEIGHT_ONE, &[("host", "a")]).unwrap();
    map.insert_device(DaemonId(2), WEIGHT_ONE, &[("host", "b")]).unwrap();
    let location = |id| map.location_of(id).into_iter().map(|(_, name)| name).collect::<Vec<_>>();
    assert_eq!(location(0), ["a", "r", "ssd"]);
    assert_eq!(location(1), ["a", "r", "ssd"], "a host that hangs somewhere stays there");
    assert_eq!(location(2), ["b", "default"], "what ends below a root goes to the default one");
    assert_eq!(map.bucket_by_name("ssd").unwrap().weight(), 3 * WEIGHT_ONE);
    assert_eq!(map.domain_of(DaemonId(1), 3), map.bucket_by_name("r").map(|b| b.id));
    assert_eq!(map.domain_of(DaemonId(1), TYPE_DEVICE), Some(1));
}

#[test]
fn weights_are_sums_all_the_way_up() {
    let mut map = cluster(3);
    let root = |map: &CrushMap| map.bucket_by_name(ROOT_DEFAULT).unwrap().weight();
    assert_eq!(root(&map), 6 * WEIGHT_ONE);
    map.reweight_device(DaemonId(3), 5 * WEIGHT_ONE).unwrap();
    assert_eq!(root(&map), 10 * WEIGHT_ONE);
    map.move_bucket("h1", &[("rack", "r"), ("root", ROOT_DEFAULT)]).unwrap();
    assert_eq!(map.bucket_by_name("r").unwrap().weight(), 6 * WEIGHT_ONE);
    assert_eq!(root(&map), 10 * WEIGHT_ONE);
    map.remove_device(DaemonId(3)).unwrap();
    assert_eq!(root(&map), 5 * WEIGHT_ONE);
    map.insert_device(DaemonId(0), WEIGHT_ONE, &[("rack", "r")]).unwrap();
    assert_eq!(
        (root(&map), map.bucket_by_name("h0").unwrap().weight()),
        (5 * WEIGHT_ONE, WEIGHT_ONE)
    );
}

#[test]
fn a_refused_change_changes_nothing() {
    let mut map = cluster(2);
    let before = map.clone();
    let refused: [Result<(), EditError>; 12] = [
        map.insert_device(DaemonId(9), u32::MAX, &[("host", "h0")]),
        map.insert_device(DaemonId(-1), 1, &[("host", "h0")]),
        map.insert_device(DaemonId(DEVICES_MAX), 1, &[("host", "h0")]),
        map.insert_device(DaemonId(9), 1, &[("planet", "earth")]),
        map.insert_device(DaemonId(9), 1, &[("rack", "h0")]),
        map.insert_device(DaemonId(9), 1, &[("rack", "r"), ("host", "no good")]),
        map.move_bucket("h0", &[("host", "h1")]),
        map.move_bucket(ROOT_DEFAULT, &[("host", "h1")]),
        map.remove_bucket("h0"),
        map.remove_device(DaemonId(17)),
        map.rename_bucket("h0", "h1"),
        map.add_bucket("osd.7", "host").map(drop),
    ];
    for (i, result) in refused.into_iter().enumerate() {
        assert!(result.is_err(), "change {i} was not refused");
    }
    assert_eq!(map, before);
}

#[test]
fn what_a_rule_takes_stays() {
    let mut map = CrushMap::new();
    map.add_bucket("ssd", "root").unwrap();
    map.add_rule_replicated("fast", "ssd", "osd").unwrap();
    assert_eq!(map.remove_bucket("ssd"), Err(EditError::InUse("ssd".into())));
    map.remove_rule("fast").unwrap();
    map.remove_bucket("ssd").unwrap();
    assert_eq!(map, CrushMap::new());
}

#[test]
fn the_tree_is_in_order() {
    let rows = cluster(2).tree();
    let shape: Vec<_> = rows.iter().map(|row| (row.depth, row.name.as_str())).collect();
    let expected = [
        (0, "default"),
        (1, "h0"),
        (2, "osd.0"),
        (2, "osd.1"),
        (1, "h1"),
        (2, "osd.2"),
        (2, "osd.3"),
    ];
    assert_eq!(shape, expected);
    assert_eq!((rows[0].crush_weight, rows[2].children.clone()), (4.0, None));
}

// Placement

fn place(map: &CrushMap, seed: u32, erasure: bool, daemon: &dyn Fn(i32) -> DaemonState) -> UpSet {
    up_set(&PlacementInput {
        crush: map,
        rule: erasure.into(),
        erasure,
        size: 3,
        pg: PgId { pool: PoolId(1), seed },
        pgp_num: 64,
        upmap_items: &[],
        daemons: &|id| Some(daemon(id.0)),
    })
}

const WELL: DaemonState = DaemonState { up: true, weight: WEIGHT_ONE, affinity: WEIGHT_ONE };

#[test]
fn every_copy_is_on_another_host() {
    let map = cluster(5);
    for seed in 0..64 {
        for erasure in [false, true] {
            let set = place(&map, seed, erasure, &|_| WELL).daemons();
            let hosts: std::collections::BTreeSet<i32> = set.iter().map(|id| id.0 / 2).collect();
            assert_eq!((set.len(), hosts.len()), (3, 3), "{set:?}");
        }
    }
}

#[test]
fn a_down_daemon_leaves_a_hole_only_with_erasure_coding() {
    let map = cluster(5);
    for seed in 0..64 {
        let down = |id| DaemonState { up: id != 4, ..WELL };
        for erasure in [false, true] {
            let (all, some) =
                (place(&map, seed, erasure, &|_| WELL), place(&map, seed, erasure, &down));
            let without = all.slots.iter().map(|slot| slot.filter(|id| id.0 != 4));
            let expected: Vec<_> = without.filter(|slot| erasure || slot.is_some()).collect();
            assert_eq!(some.slots, expected);
            assert_eq!(some.primary, expected.into_iter().flatten().next());
        }
    }
}

#[test]
fn nobody_leads_who_should_not() {
    let map = cluster(5);
    for seed in 0..64 {
        let shy = |id| DaemonState { affinity: if id < 4 { 0 } else { WEIGHT_ONE }, ..WELL };
        let set = place(&map, seed, false, &shy);
        assert!(set.primary.is_some_and(|id| id.0 >= 4), "three hosts: one at least is not shy");
        assert_eq!(set.slots[0], set.primary);
        let all_shy = place(&map, seed, false, &|_| DaemonState { affinity: 0, ..WELL });
        assert_eq!(all_shy, place(&map, seed, false, &|_| WELL), "somebody has to");
    }
}

#[test]
fn shares_follow_weights_and_a_change_moves_little() {
    let mut map = cluster(4);
    let count = |map: &CrushMap| {
        let mut hits = [0; 8];
        let sets = (0..4000).map(|x| map.do_rule(0, x, 1, &all_in)[0]).collect::<Vec<_>>();
        sets.iter().for_each(|id| hits[*id as usize] += 1);
        (hits, sets)
    };
    let (even, before) = count(&map);
    assert!(even.iter().all(|hits| (400..600).contains(hits)), "{even:?}");
    map.reweight_device(DaemonId(7), 3 * WEIGHT_ONE).unwrap();
    let (uneven, after) = count(&map);
    assert!((1080..1320).contains(&uneven[7]), "three tenths of 4000: {uneven:?}");
    let strays = before.iter().zip(&after).filter(|(b, a)| b != a && **a < 6).count();
    assert_eq!(strays, 0, "what moved went to the host that grew");
}

#[test]
fn a_rule_of_the_other_kind_or_none_places_nothing() {
    let map = cluster(3);
    assert_eq!(map.do_rule(7, 1, 3, &all_in), []);
    assert_eq!(map.do_rule(256, 1, 3, &all_in), []);
    let input = PlacementInput {
        crush: &map,
        rule: 0,
        erasure: true,
        size: 3,
        pg: PgId::default(),
        pgp_num: 0,
        upmap_items: &[],
        daemons: &|_| Some(WELL),
    };
    assert_eq!(up_set(&input), UpSet::default());
}

// Bytes

#[test]
fn bytes_round_trip_and_every_truncation_is_an_error() {
    let map = cluster(3);
    let bytes = map.to_bytes();
    assert_eq!(CrushMap::from_bytes(bytes.clone()), Ok(map));
    for len in 0..bytes.len() {
        assert!(CrushMap::from_bytes(bytes.slice(..len)).is_err(), "cut at {len}");
    }
}

#[test]
fn golden_bytes() {
    let mut map = CrushMap {
        types: BTreeMap::from([(0, "osd".into()), (1, "root".into())]),
        buckets: BTreeMap::from([(
            -1,
            Bucket { id: -1, name: "default".into(), kind: 1, items: vec![] },
        )]),
        rules: BTreeMap::new(),
    };
    map.insert_device(DaemonId(5), WEIGHT_ONE, &[]).unwrap();
    map.add_rule_replicated("r", ROOT_DEFAULT, "osd").unwrap();
    assert_eq!(
        map.to_bytes()[..],
        *b"\x01\x01\x54\0\0\0\
           \x02\0\0\0\0\0\x03\0\0\0osd\x01\0\x04\0\0\0root\
           \x01\0\0\0\xff\xff\xff\xff\x07\0\0\0default\x01\0\x01\0\0\0\x05\0\0\0\0\0\x01\0\
           \x01\0\0\0\0\x01\0\0\0r\0\x03\0\0\0\x01\xff\xff\xff\xff\x02\0\0\0\0\0\0\x04"
    );
}

// Hostile maps

/// What the invariants forbid, each alone.
#[test]
fn broken_invariants_are_refused() {
    let sane = cluster(2);
    #[allow(clippy::type_complexity)] // a table of names and deeds
    let breaks: [(&str, fn(&mut CrushMap)); 12] = [
        ("cycle", |m| bucket(m, -2).items = vec![Item { id: -1, weight: 4 * WEIGHT_ONE }]),
        ("self", |m| bucket(m, -2).items = vec![Item { id: -2, weight: 2 * WEIGHT_ONE }]),
        ("two parents", |m| bucket(m, -2).items.push(Item { id: 2, weight: 0 })),
        ("wrong sum", |m| bucket(m, -2).items[0].weight += 1),
        ("overflow", |m| bucket(m, -2).items.push(Item { id: 9, weight: u32::MAX })),
        ("dangling", |m| bucket(m, -1).items.push(Item { id: -9, weight: 0 })),
        ("far device", |m| bucket(m, -2).items.push(Item { id: i32::MAX, weight: 0 })),
        ("unknown type", |m| bucket(m, -2).kind = 99),
        ("bucket as device", |m| bucket(m, -2).kind = 0),
        ("same name", |m| bucket(m, -2).name = "default".into()),
        ("take nothing", |m| m.rules.get_mut(&0).unwrap().steps[0] = Step::Take { item: -77 }),
        ("endless tries", |m| {
            m.rules.get_mut(&0).unwrap().steps[0] = Step::SetChooseTries { tries: u32::MAX };
        }),
    ];
    for (what, break_it) in breaks {
        let mut map = sane.clone();
        break_it(&mut map);
        let result = CrushMap::from_bytes(map.to_bytes());
        assert!(matches!(result, Err(DecodeError::Invalid { .. })), "{what}: {result:?}");
    }
}

fn bucket(map: &mut CrushMap, id: i32) -> &mut Bucket {
    map.buckets.get_mut(&id).unwrap()
}

/// The most expensive rule that the bounds admit ends, and ends soon.
#[test]
fn a_run_draws_no_more_than_it_may() {
    let mut map = CrushMap::new();
    for id in 0..300 {
        map.insert_device(DaemonId(id), WEIGHT_ONE, &[("host", "h")]).unwrap();
    }
    for erasure in [false, true] {
        let mut steps = vec![
            Step::SetChooseTries { tries: TRIES_MAX },
            Step::SetChooseLeafTries { tries: TRIES_MAX },
            Step::Take { item: -1 },
        ];
        let step = match erasure {
            true => Step::ChooseLeafIndep { count: 64, kind: 1 },
            false => Step::ChooseLeafFirstn { count: 64, kind: 1 },
        };
        steps.extend([step, Step::Emit {}]);
        let rule = map.add_rule(Rule { name: format!("r{erasure}"), erasure, steps }).unwrap();
        let asked = std::cell::Cell::new(0u64);
        let nobody = |_| {
            asked.set(asked.get() + 1);
            0
        };
        let draws = 300_000;
        let result = map.do_rule_within(draws, rule.into(), 1, 64, &nobody);
        assert!(result.iter().all(|item| *item == NONE), "{result:?}");
        assert!((500..=draws / 300).contains(&asked.get()), "{} devices looked at", asked.get());
    }
}

/// Whatever can be decoded can be used.
fn use_it(map: &CrushMap) {
    for rule in 0..4 {
        for x in 0..3 {
            let half_in = |id: DaemonId| if id.0 % 2 == 0 { WEIGHT_ONE } else { 0x8000 };
            let set = map.do_rule_within(10_000, rule, x, 5, &half_in);
            assert!(set.len() <= 5);
        }
    }
    assert!(map.tree().len() >= map.buckets.len());
    map.buckets.keys().for_each(|id| drop(map.location_of(*id)));
    assert_eq!(CrushMap::from_bytes(map.to_bytes()).as_ref(), Ok(map));
    assert!(!crate::ceph::encode_crush(map).is_empty());
}

fn any_bucket() -> impl Strategy<Value = Bucket> {
    let item = (-6..8i32, prop_oneof![Just(0), Just(WEIGHT_ONE), any::<u32>()]);
    let items = prop::collection::vec(item.prop_map(|(id, weight)| Item { id, weight }), 0..5);
    (-6..1i32, "[a-e]", 0..5u16, items).prop_map(|(id, name, kind, items)| Bucket {
        id,
        name,
        kind,
        items,
    })
}

fn any_step() -> impl Strategy<Value = Step> {
    let (count, kind) = (-3..6i32, 0..5u16);
    prop_oneof![
        (-6..8i32).prop_map(|item| Step::Take { item }),
        (count.clone(), kind.clone()).prop_map(|(count, kind)| Step::ChooseFirstn { count, kind }),
        (count.clone(), kind.clone()).prop_map(|(count, kind)| Step::ChooseIndep { count, kind }),
        (count.clone(), kind.clone())
            .prop_map(|(count, kind)| Step::ChooseLeafFirstn { count, kind }),
        (count, kind).prop_map(|(count, kind)| Step::ChooseLeafIndep { count, kind }),
        (0..5u32).prop_map(|tries| Step::SetChooseTries { tries }),
        (0..5u32).prop_map(|tries| Step::SetChooseLeafTries { tries }),
        Just(Step::Emit {}),
    ]
}

fn any_map() -> impl Strategy<Value = CrushMap> {
    let buckets = prop::collection::vec(any_bucket(), 0..5);
    let steps = prop::collection::vec(any_step(), 0..7);
    (buckets, prop::collection::vec((any::<bool>(), steps), 0..3)).prop_map(|(buckets, rules)| {
        let types = (0..5u16).map(|kind| (kind, format!("t{kind}"))).collect();
        let rules = rules.into_iter().enumerate().map(|(id, (erasure, steps))| {
            (id as u8, Rule { name: format!("r{id}"), erasure, steps })
        });
        let buckets = buckets.into_iter().map(|bucket| (bucket.id, bucket)).collect();
        let mut map = CrushMap { types, buckets, rules: rules.collect() };
        // Half-sane weights, else nearly every map falls at the first hurdle.
        map.buckets.clone().values().for_each(|bucket| {
            let items = map.buckets.values_mut().flat_map(|b| &mut b.items);
            items.filter(|i| i.id == bucket.id).for_each(|i| i.weight = bucket.weight());
        });
        map
    })
}

/// 2000 values of a strategy, the same in every run.
fn samples<T>(strategy: impl Strategy<Value = T>) -> impl Iterator<Item = T> {
    let mut runner = TestRunner::deterministic();
    (0..2000).map(move |_| strategy.new_tree(&mut runner).unwrap().current())
}

/// Uses what can be decoded; how much that was.
fn use_what_decodes(inputs: impl Iterator<Item = Bytes>) -> usize {
    inputs.filter_map(|bytes| CrushMap::from_bytes(bytes).ok()).map(|map| use_it(&map)).count()
}

#[test]
fn hostile_maps_are_refused_or_harmless() {
    let accepted = use_what_decodes(samples(any_map()).map(|map| map.to_bytes()));
    assert!((100..1900).contains(&accepted), "{accepted} accepted: both paths must be seen");
}

#[test]
fn damaged_maps_are_refused_or_harmless() {
    let damage = prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4);
    let accepted = use_what_decodes(samples(damage).map(|damage| {
        let mut bytes = cluster(3).to_bytes().to_vec();
        for (place, value) in damage {
            let place = place.index(bytes.len());
            bytes[place] = value;
        }
        Bytes::from(bytes)
    }));
    assert!((20..1900).contains(&accepted), "{accepted} accepted: both paths must be seen");
}
