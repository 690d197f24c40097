//! Placements: where the data of new buckets goes.

use super::*;
use store_base::bucket::placement::placement;
use store_base::op::errno;

fn pool_of(world: &World, name: &str) -> Option<String> {
    let map = world.map();
    let pool = placement(map, name)?.pool;
    Some(pool.map_or_else(|| "s3.data".to_string(), |id| map.pools[&id].name.clone()))
}

#[test]
fn placements_are_set_moved_listed_and_removed() {
    let mut world = World::new();
    (0..3).for_each(|id| drop(world.boot(id, 1)));
    for pool in ["a", "b"] {
        world.json(&format!(r#"{{"prefix": "osd pool create", "pool": "{pool}", "size": 2}}"#));
    }
    let ok = |world: &mut World, json: &str| {
        let reply = world.command(json);
        assert_eq!(reply.code, 0, "{json}: {}", reply.status);
    };
    ok(&mut world, r#"{"prefix": "s3 placement set", "name": "ec", "data_pool": "a"}"#);
    assert_eq!(pool_of(&world, "ec").as_deref(), Some("a"));
    assert_eq!(pool_of(&world, "").as_deref(), Some("s3.data"));
    // A name has one pool, and there is one default.
    ok(
        &mut world,
        r#"{"prefix": "s3 placement set", "name": "ec", "data_pool": "b", "default": true}"#,
    );
    assert_eq!(pool_of(&world, "ec").as_deref(), Some("b"));
    assert_eq!(pool_of(&world, "").as_deref(), Some("b"));
    ok(
        &mut world,
        r#"{"prefix": "s3 placement set", "name": "cold", "data_pool": "a", "default": true}"#,
    );
    let list = world.json(r#"{"prefix": "s3 placement ls"}"#);
    assert_eq!(
        list,
        serde_json::json!([
            {"name": "default-placement", "data_pool": "s3.data", "default": false},
            {"name": "cold", "data_pool": "a", "default": true},
            {"name": "ec", "data_pool": "b", "default": false},
        ])
    );
    ok(&mut world, r#"{"prefix": "s3 placement default", "name": "default-placement"}"#);
    assert_eq!(pool_of(&world, "").as_deref(), Some("s3.data"));
    ok(&mut world, r#"{"prefix": "s3 placement rm", "name": "ec"}"#);
    assert_eq!(pool_of(&world, "ec"), None);
}

#[test]
fn placements_that_cannot_be_are_refused() {
    let mut world = World::new();
    for (json, code) in [
        (r#"{"prefix": "s3 placement set", "name": "ec", "data_pool": "none"}"#, 2),
        (r#"{"prefix": "s3 placement set", "name": "default-placement", "data_pool": "a"}"#, 22),
        (r#"{"prefix": "s3 placement set", "name": "a:b", "data_pool": "a"}"#, 22),
        (r#"{"prefix": "s3 placement rm", "name": "ec"}"#, 2),
        (r#"{"prefix": "s3 placement rm", "name": "default-placement"}"#, 22),
        (r#"{"prefix": "s3 placement default", "name": "ec"}"#, 2),
    ] {
        let reply = world.command(json);
        assert_eq!(reply.code, -code, "{json}: {}", reply.status);
    }
}

#[test]
fn a_pool_of_buckets_goes_only_when_somebody_said_that_it_may() {
    let mut world = World::new();
    (0..3).for_each(|id| drop(world.boot(id, 1)));
    let application = store_base::bucket::placement::APPLICATION;
    world.json(&format!(
        r#"{{"prefix": "osd pool create", "pool": "b", "application": "{application}"}}"#
    ));
    world.json(r#"{"prefix": "osd pool create", "pool": "p"}"#);
    let set = |value: &str| {
        format!(r#"{{"prefix": "osd pool set", "pool": "p", "var": "nodelete", "val": "{value}"}}"#)
    };
    world.json(&set("true"));
    let wrong = world.command(&set("maybe"));
    assert!(wrong.code == -errno::EINVAL && wrong.status.contains("true or false"));
    for pool in ["b", "p"] {
        let rm = format!(
            r#"{{"prefix": "osd pool rm", "pool": "{pool}", "sure": "--yes-i-really-mean-it"}}"#
        );
        let get = format!(r#"{{"prefix": "osd pool get", "pool": "{pool}", "var": "nodelete"}}"#);
        assert_eq!(world.json(&get)["nodelete"], true);
        let refused = world.command(&rm);
        let advice = format!("osd pool set {pool} nodelete false");
        assert!(refused.code == -errno::EPERM && refused.status.contains(&advice), "{refused:?}");
        let allow = set("false").replace(r#""p""#, &format!("{pool:?}"));
        world.json(&allow);
        assert_eq!(world.command(&rm).code, 0);
        assert!(world.map().pool_by_name(pool).is_none());
    }
}
