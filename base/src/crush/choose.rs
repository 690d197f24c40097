//! Running a rule: from a number (a placement group, hashed) to a list of devices.
//!
//! Two ways to choose n items below a bucket:
//! - **firstn** asks for replica 0, 1, … and where an attempt fails (the item is taken already, is out, or
//!   has no usable device in it) tries again with the next number. Failures close up.
//! - **indep** gives every slot numbers of its own, so a failure in one slot leaves the others as they
//!   are. A slot that stays empty is a hole, [`NONE`].
//!
//! Which tries there are and which numbers they use is fixed by Ceph's "jewel" tunables: 51 tries, no
//! local retries, a device in a chosen bucket is tried for once with the bucket's own number.

use super::ln::ln;
use super::{Bucket, CrushMap, REPLICAS_MAX, Step, TYPE_DEVICE, WEIGHT_ONE};
use crate::hash::{hash2, hash3};
use crate::ids::DaemonId;

/// A hole in a result of indep steps.
pub const NONE: i32 = 0x7fff_ffff;

/// A slot that indep has not filled yet.
const UNDEFINED: i32 = 0x7fff_fffe;

/// Tries for each item, unless the rule says otherwise.
const CHOOSE_TRIES: u32 = 51;

/// Tries for a device in a chosen bucket, unless the rule says otherwise.
const LEAF_TRIES: u32 = 1;

/// Straws that one run may draw. No sensible map comes near; a hostile one ends here, with holes.
pub const DRAWS_MAX: u64 = 1 << 24;

impl CrushMap {
    /// Runs a rule for `x`, for up to `replicas` devices. `weights` says how much a device is in: 0 is
    /// out, [`WEIGHT_ONE`] in, between them it takes that part of what would fall to it. Holes are [`NONE`].
    /// Empty if there is no such rule.
    pub fn do_rule(
        &self,
        rule: u32,
        x: u32,
        replicas: usize,
        weights: &dyn Fn(DaemonId) -> u32,
    ) -> Vec<i32> {
        self.do_rule_within(DRAWS_MAX, rule, x, replicas, weights)
    }

    /// The same with at most this many draws.
    pub(super) fn do_rule_within(
        &self,
        draws_max: u64,
        rule: u32,
        x: u32,
        replicas: usize,
        weights: &dyn Fn(DaemonId) -> u32,
    ) -> Vec<i32> {
        let Some(rule) = u8::try_from(rule).ok().and_then(|id| self.rules.get(&id)) else {
            return Vec::new();
        };
        let replicas = replicas.min(REPLICAS_MAX);
        let mut run = Run { map: self, x, weights, draws_left: draws_max };
        let (mut tries, mut leaf_tries) = (CHOOSE_TRIES, LEAF_TRIES);
        let (mut work, mut result) = (Vec::new(), Vec::new());
        for step in &rule.steps {
            match *step {
                Step::Take { item } => work = vec![item],
                Step::SetChooseTries { tries: 0 } | Step::SetChooseLeafTries { tries: 0 } => (),
                Step::SetChooseTries { tries: set } => tries = set,
                Step::SetChooseLeafTries { tries: set } => leaf_tries = set,
                Step::ChooseFirstn { count, kind } => {
                    let search = Search { count, kind, tries, leaf_tries: None };
                    work = run.for_each(&work, search, replicas, Run::firstn);
                }
                Step::ChooseLeafFirstn { count, kind } => {
                    let search = Search { count, kind, tries, leaf_tries: Some(leaf_tries) };
                    work = run.for_each(&work, search, replicas, Run::firstn);
                }
                Step::ChooseIndep { count, kind } => {
                    let search = Search { count, kind, tries, leaf_tries: None };
                    work = run.for_each(&work, search, replicas, Run::indep);
                }
                Step::ChooseLeafIndep { count, kind } => {
                    let search = Search { count, kind, tries, leaf_tries: Some(leaf_tries) };
                    work = run.for_each(&work, search, replicas, Run::indep);
                }
                Step::Emit {} => {
                    result.append(&mut work);
                    result.truncate(replicas);
                }
            }
        }
        result
    }
}

/// What a choose step looks for.
#[derive(Clone, Copy)]
struct Search {
    /// How many; a number of 0 or less counts from the replicas wanted, until resolved.
    count: i32,
    kind: u16,
    tries: u32,
    /// For chooseleaf.
    leaf_tries: Option<u32>,
}

/// Where a descent from a bucket ended.
enum Descent {
    /// At an item of the type looked for.
    Found(i32),
    /// In an empty bucket: another number may have more luck.
    Empty,
    /// At a device, and something else was looked for; or the run has drawn too much. No use to go on.
    Dead,
}

type Choose<'a> = fn(&mut Run<'a>, &'a Bucket, Search, usize) -> Vec<i32>;

/// One run of a rule.
struct Run<'a> {
    map: &'a CrushMap,
    x: u32,
    weights: &'a dyn Fn(DaemonId) -> u32,
    draws_left: u64,
}

impl<'a> Run<'a> {
    /// Carries out a choose step: in every bucket of `work`, as long as there is room for more.
    fn for_each(
        &mut self,
        work: &[i32],
        search: Search,
        replicas: usize,
        choose: Choose<'a>,
    ) -> Vec<i32> {
        let count = match search.count {
            count if count > 0 => count,
            count => count + replicas as i32,
        };
        let mut out = Vec::new();
        if count <= 0 {
            return out;
        }
        for item in work {
            if let Some(bucket) = self.map.buckets.get(item) {
                let room = replicas - out.len();
                out.extend(choose(self, bucket, Search { count, ..search }, room));
            }
        }
        out
    }

    fn firstn(&mut self, bucket: &'a Bucket, search: Search, room: usize) -> Vec<i32> {
        let (mut chosen, mut leaves) = (Vec::new(), Vec::new());
        for replica in 0..search.count as u32 {
            if chosen.len() == room {
                break;
            }
            if let Some((item, leaf)) = self.firstn_one(bucket, search, replica, &chosen, &leaves) {
                chosen.push(item);
                leaves.push(leaf);
            }
        }
        if search.leaf_tries.is_some() { leaves } else { chosen }
    }

    /// One item that is not yet chosen, and for chooseleaf a device in it.
    fn firstn_one(
        &mut self,
        bucket: &'a Bucket,
        search: Search,
        replica: u32,
        chosen: &[i32],
        leaves: &[i32],
    ) -> Option<(i32, i32)> {
        for failures in 0..search.tries {
            let r = replica.wrapping_add(failures);
            let item = match self.descend(bucket, r, search.kind) {
                Descent::Found(item) => item,
                Descent::Empty => continue,
                Descent::Dead => return None,
            };
            if chosen.contains(&item) {
                continue;
            }
            let mut leaf = item;
            if let (Some(tries), Some(host)) = (search.leaf_tries, self.map.buckets.get(&item)) {
                match self.firstn_leaf(host, r, tries, leaves) {
                    Some(device) => leaf = device,
                    None => continue,
                }
            }
            if search.kind == TYPE_DEVICE && self.is_out(item) {
                continue;
            }
            return Some((item, leaf));
        }
        None
    }

    fn firstn_leaf(
        &mut self,
        bucket: &'a Bucket,
        r: u32,
        tries: u32,
        taken: &[i32],
    ) -> Option<i32> {
        for failures in 0..tries {
            match self.descend(bucket, r.wrapping_add(failures), TYPE_DEVICE) {
                Descent::Found(item) if !taken.contains(&item) && !self.is_out(item) => {
                    return Some(item);
                }
                Descent::Found(_) | Descent::Empty => (),
                Descent::Dead => return None,
            }
        }
        None
    }

    fn indep(&mut self, bucket: &'a Bucket, search: Search, room: usize) -> Vec<i32> {
        let slots = room.min(search.count as usize);
        let (mut chosen, mut leaves) = (vec![UNDEFINED; slots], vec![UNDEFINED; slots]);
        for round in 0..search.tries {
            if !chosen.contains(&UNDEFINED) {
                break;
            }
            for slot in 0..slots {
                if chosen[slot] == UNDEFINED {
                    self.indep_one(bucket, search, round, slot, &mut chosen, &mut leaves);
                }
            }
        }
        let mut out = if search.leaf_tries.is_some() { leaves } else { chosen };
        out.iter_mut().filter(|item| **item == UNDEFINED).for_each(|item| *item = NONE);
        out
    }

    /// One try to fill a slot.
    fn indep_one(
        &mut self,
        bucket: &'a Bucket,
        search: Search,
        round: u32,
        slot: usize,
        chosen: &mut [i32],
        leaves: &mut [i32],
    ) {
        let r = (slot as u32).wrapping_add((search.count as u32).wrapping_mul(round));
        let item = match self.descend(bucket, r, search.kind) {
            Descent::Found(item) => item,
            Descent::Empty => return,
            Descent::Dead => {
                chosen[slot] = NONE;
                leaves[slot] = NONE;
                return;
            }
        };
        if chosen.contains(&item) {
            return;
        }
        if let Some(tries) = search.leaf_tries {
            // A device that turns out to be out, below, stays noted as a leaf here: Ceph does the same.
            leaves[slot] = match self.map.buckets.get(&item) {
                Some(host) => self.indep_leaf(host, search.count, slot, r, tries),
                None => item,
            };
            if leaves[slot] == NONE {
                return;
            }
        }
        if search.kind == TYPE_DEVICE && self.is_out(item) {
            return;
        }
        chosen[slot] = item;
    }

    fn indep_leaf(
        &mut self,
        bucket: &'a Bucket,
        count: i32,
        slot: usize,
        r: u32,
        tries: u32,
    ) -> i32 {
        for round in 0..tries {
            let r = (slot as u32).wrapping_add(r).wrapping_add((count as u32).wrapping_mul(round));
            match self.descend(bucket, r, TYPE_DEVICE) {
                Descent::Found(item) if !self.is_out(item) => return item,
                Descent::Found(_) | Descent::Empty => (),
                Descent::Dead => return NONE,
            }
        }
        NONE
    }

    /// Follows the longest straws down to an item of type `kind`. Ends because types fall on the way.
    fn descend(&mut self, bucket: &'a Bucket, r: u32, kind: u16) -> Descent {
        let mut bucket = bucket;
        loop {
            match self.draws_left.checked_sub(bucket.items.len() as u64 + 1) {
                Some(left) => self.draws_left = left,
                None => return Descent::Dead,
            }
            let Some(item) = straw2(bucket, self.x, r) else { return Descent::Empty };
            let below = self.map.buckets.get(&item);
            match below {
                _ if below.map_or(TYPE_DEVICE, |b| b.kind) == kind => return Descent::Found(item),
                Some(below) => bucket = below,
                None => return Descent::Dead,
            }
        }
    }

    /// Whether a device does not take what falls to it here, by its in/out weight.
    fn is_out(&self, device: i32) -> bool {
        match (self.weights)(DaemonId(device)) {
            weight if weight >= WEIGHT_ONE => false,
            0 => true,
            weight => hash2(self.x, device as u32) & 0xffff >= weight,
        }
    }
}

/// The child with the longest straw; the first of equal ones. `None` for an empty bucket.
///
/// A straw is ln(hash / 2^16) / weight, a negative number: with it a child wins with a probability
/// proportional to its weight. Weight 0 wins only where all are 0.
fn straw2(bucket: &Bucket, x: u32, r: u32) -> Option<i32> {
    let mut best: Option<(i64, i32)> = None;
    for item in &bucket.items {
        let straw = match item.weight {
            0 => i64::MIN,
            weight => {
                let hash = hash3(x, item.id as u32, r) & 0xffff;
                (ln(hash as u16) as i64 - (1 << 48)) / i64::from(weight)
            }
        };
        if best.is_none_or(|(longest, _)| straw > longest) {
            best = Some((straw, item.id));
        }
    }
    best.map(|(_, id)| id)
}
