//! Whom a rule may choose: the daemons that are in, with their weights, and what must be kept apart.

use std::collections::BTreeMap;
use store_base::crush::{CrushMap, Step, WEIGHT_ONE};
use store_base::hash::hash2;
use store_base::ids::DaemonId;
use store_base::map::{OsdMap, Pool, PoolKind};

/// A daemon for a place is drawn by weight so many times; after that all are looked at, in order.
const DRAWS_MAX: u32 = 32;

/// A daemon that a rule may choose.
#[derive(Clone, Debug)]
pub(crate) struct Candidate {
    /// Which.
    pub(crate) id: DaemonId,
    /// Its weight in the CRUSH map times how far it is in, 16.16; not 0.
    pub(crate) weight: u64,
    /// The bucket of the rule's innermost type that it stands in, or itself: no two copies are in one.
    pub(crate) domain: i32,
    /// The buckets of the rule's other types that it stands in, outermost first.
    outer: Vec<i32>,
}

/// All of them. A rule that takes more than one root has no field: CRUSH alone says where its groups go.
#[derive(Clone, Debug, Default)]
pub(crate) struct Field {
    /// By id.
    pub(crate) candidates: Vec<Candidate>,
    places: BTreeMap<DaemonId, usize>,
    /// How many domains there are.
    pub(crate) domains: usize,
    /// The running sum of weights.
    ends: Vec<u64>,
}

/// The one root that a rule takes, and the types that it chooses, outermost first.
fn shape(crush: &CrushMap, rule: u32) -> Option<(i32, Vec<u16>)> {
    let rule = u8::try_from(rule).ok().and_then(|id| crush.rules().get(&id))?;
    let mut root = None;
    let mut kinds = Vec::new();
    for step in &rule.steps {
        match step {
            Step::Take { item } if root.is_none() => root = Some(*item),
            Step::Take { .. } => return None,
            Step::ChooseFirstn { kind, .. }
            | Step::ChooseIndep { kind, .. }
            | Step::ChooseLeafFirstn { kind, .. }
            | Step::ChooseLeafIndep { kind, .. } => kinds.push(*kind),
            Step::Emit {} | Step::SetChooseTries { .. } | Step::SetChooseLeafTries { .. } => {}
        }
    }
    root.filter(|_| !kinds.is_empty()).map(|root| (root, kinds))
}

impl Field {
    /// Whether a pool's rule is of the pool's kind: else it places nothing.
    pub(crate) fn fits(map: &OsdMap, pool: &Pool) -> bool {
        let rule = u8::try_from(pool.crush_rule).ok().and_then(|id| map.crush.rules().get(&id));
        rule.is_some_and(|rule| rule.erasure == (pool.kind == PoolKind::Erasure))
    }

    /// The field of a rule.
    pub(crate) fn of(map: &OsdMap, rule: u32) -> Option<Field> {
        let (root, kinds) = shape(&map.crush, rule)?;
        let mut candidates = Vec::new();
        let mut walk = vec![(root, Vec::new())];
        while let Some((item, path)) = walk.pop() {
            let Some(bucket) = map.crush.buckets().get(&item) else { continue };
            let mut path: Vec<(u16, i32)> = path;
            path.push((bucket.kind, bucket.id));
            for child in &bucket.items {
                match child.id {
                    device if device >= 0 => {
                        candidates.extend(candidate(map, device, child.weight, &path, &kinds));
                    }
                    inner => walk.push((inner, path.clone())),
                }
            }
        }
        candidates.sort_by_key(|candidate| candidate.id);
        let mut domains: Vec<i32> = candidates.iter().map(|one| one.domain).collect();
        domains.sort_unstable();
        domains.dedup();
        let places = candidates.iter().enumerate().map(|(place, one)| (one.id, place)).collect();
        let mut sum = 0;
        let ends = candidates.iter().map(|one| {
            sum += one.weight;
            sum
        });
        let ends = ends.collect();
        Some(Field { candidates, places, domains: domains.len(), ends })
    }

    /// Where a daemon is in `candidates`.
    pub(crate) fn place(&self, id: DaemonId) -> Option<usize> {
        self.places.get(&id).copied()
    }

    /// Whether only the innermost domains have to differ.
    pub(crate) fn is_simple(&self) -> bool {
        self.candidates.first().is_none_or(|one| one.outer.is_empty())
    }

    /// Whether `to` may stand in for `from` as far as the outer types go: it never leaves their buckets.
    pub(crate) fn is_beside(&self, from: usize, to: usize) -> bool {
        self.candidates[from].outer == self.candidates[to].outer
    }

    /// A daemon for a place that CRUSH left empty, though there may be one: its tries are bounded, and daemons that
    /// are in by a part turn it away. By weight, always the same for the same seed.
    pub(crate) fn draw(&self, seed: u32, taken: &[Option<DaemonId>]) -> Option<DaemonId> {
        let used: Vec<i32> = taken.iter().flatten().filter_map(|id| self.domain(*id)).collect();
        if !self.is_simple() || used.len() >= self.domains {
            return None;
        }
        let fits = |place: usize| {
            let one = &self.candidates[place];
            !used.contains(&one.domain) && !taken.contains(&Some(one.id))
        };
        let total = self.ends.last().copied().unwrap_or(0);
        let at = |draw: u32| {
            let part = (u128::from(hash2(seed, draw)) * u128::from(total)) >> 32;
            self.ends.partition_point(|end| u128::from(*end) <= part)
        };
        let drawn = (0..DRAWS_MAX).map(at).find(|place| fits(*place));
        let found = drawn.or_else(|| (0..self.candidates.len()).find(|place| fits(*place)));
        found.map(|place| self.candidates[place].id)
    }

    fn domain(&self, id: DaemonId) -> Option<i32> {
        self.place(id).map(|place| self.candidates[place].domain)
    }
}

/// A device below the root, if it is in and stands in a bucket of every type that is chosen.
fn candidate(
    map: &OsdMap,
    device: i32,
    weight: u32,
    path: &[(u16, i32)],
    kinds: &[u16],
) -> Option<Candidate> {
    let id = DaemonId(device);
    let inside = map.daemons.get(&id).map_or(0, |info| info.weight);
    if weight == 0 || inside == 0 {
        return None;
    }
    let above = |kind: u16| match kind {
        0 => Some(device),
        kind => path.iter().find(|(of, _)| *of == kind).map(|(_, bucket)| *bucket),
    };
    let mut outer: Vec<i32> = kinds.iter().map(|kind| above(*kind)).collect::<Option<_>>()?;
    let domain = outer.pop()?;
    let weight = (u64::from(weight) * u64::from(inside) / u64::from(WEIGHT_ONE)).max(1);
    Some(Candidate { id, weight, domain, outer })
}
