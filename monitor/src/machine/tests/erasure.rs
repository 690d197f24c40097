//! Erasure profiles, and the pools that are made by them.

use super::*;
use crate::machine::pools::{self, Wish};
use store_base::erasure::Technique;
use store_base::map::{ErasureProfile, OsdMap, PoolKind};

fn world(hosts: i32) -> World {
    let mut world = World::new();
    (0..hosts).for_each(|id| drop(world.boot(id, 1)));
    world
}

fn refused(world: &mut World, json: &str, code: i32, why: &str) {
    let reply = world.command(json);
    assert_eq!(reply.code, -code, "{json}: {}", reply.status);
    assert!(reply.status.contains(why), "{json}: {}", reply.status);
}

fn profile(data: u8, coding: u8) -> ErasureProfile {
    let mut profile = ErasureProfile::default();
    (profile.erasure.data, profile.erasure.coding) = (data, coding);
    profile
}

fn create(map: &mut OsdMap, wish: Wish) -> Result<PoolId, String> {
    pools::create(map, &Default::default(), &Wish { name: "e".into(), ..wish })
}

#[test]
fn a_profile_is_set_shown_listed_and_removed() {
    let mut world = world(1);
    let set = r#"{"prefix": "osd erasure-code-profile set", "name": "wide",
        "profile": ["k=8", "m=3", "technique=cauchy", "cell=64K", "crush-failure-domain=rack"]}"#;
    assert_eq!(world.command(set).code, 0);
    let get = r#"{"prefix": "osd erasure-code-profile get", "name": "wide"}"#;
    let shown = serde_json::json!({
        "k": 8, "m": 3, "technique": "cauchy", "cell": 65_536, "crush-failure-domain": "rack"
    });
    assert_eq!(world.json(get), shown);
    let list = r#"{"prefix": "osd erasure-code-profile ls"}"#;
    assert_eq!(world.json(list), serde_json::json!(["default", "wide"]));
    let kept = world.map().erasure_profile("wide").expect("it was set");
    assert_eq!(kept.erasure.technique, Technique::Cauchy);

    world.restart();
    assert_eq!(world.json(get), shown, "it is in the store");
    let published = world.steps.iter().any(|step| step.erasure_profiles.set.contains_key("wide"));
    assert!(published, "it is in the steps");

    let other = r#"{"prefix": "osd erasure-code-profile set", "name": "wide", "profile": "k=4"}"#;
    refused(&mut world, other, 17, "force");
    let forced = other.replace('}', r#", "force": true}"#);
    assert_eq!(world.command(&forced).code, 0);
    assert_eq!(world.json(get)["k"], 4);
    let remove = r#"{"prefix": "osd erasure-code-profile rm", "name": "wide"}"#;
    assert_eq!(world.command(remove).code, 0);
    refused(&mut world, get, 2, "no erasure profile");
    refused(&mut world, &remove.replace("wide", "default"), 1, "always there");
}

#[test]
fn profiles_that_cannot_be_are_refused() {
    let mut world = world(1);
    for (pair, why) in [
        ("k=0", "no code of 0 data"),
        ("m=0", "0 coding"),
        ("k=31", "no code of 31"),
        ("k=x", "small number"),
        ("technique=liberation", "reed_sol_van and cauchy"),
        ("cell=5000", "multiple of 4096"),
        ("cell=128K", "at most 65536"),
        ("failure-domain=galaxy", "no such type"),
        ("locality=3", "there are k, m"),
        ("k", "not KEY=VALUE"),
    ] {
        let set = format!(
            r#"{{"prefix": "osd erasure-code-profile set", "name": "p", "profile": ["{pair}"]}}"#
        );
        refused(&mut world, &set, 22, why);
    }
    assert!(world.map().erasure_profiles.is_empty());
}

#[test]
fn a_pool_keeps_what_it_was_made_by() {
    let world = world(6);
    let mut map = world.map().clone();
    let wish = Wish { erasure: Some(profile(4, 2)), ..Wish::default() };
    let id = create(&mut map, wish).expect("six hosts");
    let pool = map.pools[&id].clone();
    assert_eq!((pool.kind, pool.size, pool.min_size), (PoolKind::Erasure, 6, 5));
    assert_eq!(pool.erasure, Some(profile(4, 2).erasure));
    let rule = map.crush.rules()[&(pool.crush_rule as u8)].clone();
    assert!(rule.erasure);
    assert_eq!(rule.name, "erasure_host");
    for seed in 0..pool.pg_num {
        let up = map.up_set(PgId { pool: id, seed }).expect("it is a group of the pool");
        let hosts: std::collections::BTreeSet<_> = up.daemons().into_iter().collect();
        assert_eq!(hosts.len(), 6, "every slot has its own host: {up:?}");
    }
    // A second pool by the same domain shares the rule.
    let wish = Wish { name: "f".into(), erasure: Some(profile(2, 1)), ..Wish::default() };
    let other = pools::create(&mut map, &Default::default(), &wish).expect("six hosts");
    assert_eq!(map.pools[&other].crush_rule, pool.crush_rule);
}

#[test]
fn with_few_hosts_slots_go_to_daemons_until_there_are_more() {
    let world = world(3);
    let mut map = world.map().clone();
    let wish = Wish { erasure: Some(profile(2, 2)), ..Wish::default() };
    let id = create(&mut map, wish).expect("it can be made before all daemons are there");
    let name = |map: &OsdMap| map.crush.rules()[&(map.pools[&id].crush_rule as u8)].name.clone();
    assert_eq!(name(&map), "erasure_osd");
    placement::insert(&mut map.crush, DaemonId(3), "h3", &[], 1 << 40).expect("a place");
    placement::adapt_rules(&mut map);
    assert_eq!(name(&map), "erasure_host");
}

#[test]
fn a_profile_with_a_failure_domain_keeps_it() {
    let world = world(3);
    let mut map = world.map().clone();
    let racks = ErasureProfile { failure_domain: "rack".into(), ..profile(2, 1) };
    let id = create(&mut map, Wish { erasure: Some(racks), ..Wish::default() }).expect("a pool");
    let rule = map.pools[&id].crush_rule;
    assert_eq!(placement::domain_name(&map.crush, rule), "rack");
    placement::adapt_rules(&mut map);
    assert_eq!(map.pools[&id].crush_rule, rule);
}

#[test]
fn sizes_that_do_not_fit_the_code_are_refused() {
    let world = world(3);
    let wish =
        |size, min_size| Wish { erasure: Some(profile(4, 2)), size, min_size, ..Wish::default() };
    for (wish, why) in [
        (wish(Some(5), None), "k + m = 6"),
        (wish(None, Some(3)), "4 to 6"),
        (wish(None, Some(7)), "4 to 6"),
    ] {
        let refusal = create(&mut world.map().clone(), wish).expect_err("it does not fit");
        assert!(refusal.contains(why), "{refusal}");
    }
    let exact = create(&mut world.map().clone(), wish(Some(6), Some(4)));
    assert!(exact.is_ok(), "at one's own risk, and said so");
}

#[test]
fn commands_that_do_not_fit_are_refused() {
    let mut world = world(6);
    let create = r#"{"prefix": "osd pool create", "pool": "e", "pool_type": "erasure"}"#;
    assert_eq!(world.command(create).code, 0);
    let odd = r#"{"prefix": "osd pool create", "pool": "f", "pool_type": "replicated", "k": 2}"#;
    refused(&mut world, odd, 22, "copies");
    let none = r#"{"prefix": "osd pool create", "pool": "f", "erasure_code_profile": "x"}"#;
    refused(&mut world, none, 2, "no erasure profile");
}
