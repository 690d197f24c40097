//! Placements: names for where a new bucket's data goes. Index entries, with small bodies in them, stay in the
//! gateway's replicated pools; larger bodies go to the placement's pool, which may be erasure-coded: all that is
//! done there is writing and reading data, and deleting.
//!
//! A placement is a mark on its pool in the osdmap, under the gateway's application. A bucket remembers the
//! pool's id when it is made, so that later changes of placements move nothing.

use crate::ids::PoolId;
use crate::map::{OsdMap, Pool};

/// The gateway's application.
pub const APPLICATION: &str = "rgw";

/// The key, below the application, of the placement's name.
pub const KEY_PLACEMENT: &str = "placement";

/// The key, below the application, that says that buckets go here which name no placement.
pub const KEY_DEFAULT: &str = "placement_default";

/// The placement that is always there: the gateway's own data pool.
pub const PLACEMENT_DEFAULT: &str = "default-placement";

/// Where a new bucket's data goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Placement {
    /// Its name.
    pub name: String,
    /// The pool; `None` for the gateway's own data pool.
    pub pool: Option<PoolId>,
}

impl Pool {
    /// The name of the placement that this pool is.
    pub fn placement(&self) -> Option<&str> {
        self.applications.get(APPLICATION)?.get(KEY_PLACEMENT).map(String::as_str)
    }

    /// Whether buckets go here that name no placement.
    pub fn is_default_placement(&self) -> bool {
        let marks = self.applications.get(APPLICATION);
        self.placement().is_some() && marks.is_some_and(|marks| marks.contains_key(KEY_DEFAULT))
    }
}

/// The placement of this name; of an empty name, what buckets get that name none. `None` if there is none.
pub fn placement(map: &OsdMap, name: &str) -> Option<Placement> {
    let of = |(id, pool): (&PoolId, &Pool)| {
        let name = pool.placement().unwrap_or_default().to_string();
        Placement { name, pool: Some(*id) }
    };
    let built_in = || Placement { name: PLACEMENT_DEFAULT.to_string(), pool: None };
    match name {
        "" => {
            let chosen = map.pools.iter().find(|(_, pool)| pool.is_default_placement());
            Some(chosen.map_or_else(built_in, of))
        }
        PLACEMENT_DEFAULT => Some(built_in()),
        _ => map.pools.iter().find(|(_, pool)| pool.placement() == Some(name)).map(of),
    }
}

/// The names of all placements, the one that is always there first.
pub fn placements(map: &OsdMap) -> Vec<String> {
    let mut names = vec![PLACEMENT_DEFAULT.to_string()];
    for name in map.pools.values().filter_map(Pool::placement) {
        if !names.iter().any(|known| known == name) {
            names.push(name.to_string());
        }
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    fn pool(name: &str, marks: &[(&str, &str)]) -> Pool {
        let marks = marks.iter().map(|(key, value)| (key.to_string(), value.to_string())).collect();
        let applications = BTreeMap::from([(APPLICATION.to_string(), marks)]);
        Pool { name: name.into(), applications, ..Pool::default() }
    }

    #[test]
    fn a_name_leads_to_its_pool_and_no_name_to_the_default() {
        let mut map = OsdMap::default();
        map.pools.insert(PoolId(1), pool("s3.data", &[]));
        map.pools.insert(PoolId(2), pool("e", &[(KEY_PLACEMENT, "ec")]));
        let of = |map: &OsdMap, name| placement(map, name).map(|found| (found.name, found.pool));
        let built_in = Some((PLACEMENT_DEFAULT.to_string(), None));
        assert_eq!(of(&map, ""), built_in);
        assert_eq!(of(&map, PLACEMENT_DEFAULT), built_in);
        assert_eq!(of(&map, "ec"), Some(("ec".to_string(), Some(PoolId(2)))));
        assert_eq!(of(&map, "e"), None);
        map.pools.insert(PoolId(3), pool("f", &[(KEY_PLACEMENT, "cold"), (KEY_DEFAULT, "true")]));
        assert_eq!(of(&map, ""), Some(("cold".to_string(), Some(PoolId(3)))));
        assert_eq!(of(&map, PLACEMENT_DEFAULT), built_in);
        assert_eq!(placements(&map), [PLACEMENT_DEFAULT, "ec", "cold"]);
    }
}
