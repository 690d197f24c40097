//! The copies of one pool on their daemons, and moving them one at a time.
//!
//! A copy is moved only from a daemon that has more than its share to one that has less, so that the sum of the
//! squares of what is too much falls with every move: moving ends, and does not come back.

use super::share::{COPY, shares};
use crate::machine::placement::field::Field;
use crate::machine::placement::targets::{Items, Slots};
use std::collections::{BTreeMap, BTreeSet};
use store_base::ids::DaemonId;

/// Daemons that are tried as the other end of a move.
const ENDS_MAX: usize = 64;

/// How far from its share a daemon may be, in thousandths of it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    /// Beyond this it is brought back; never less than [`TRIGGER_MIN`].
    pub(crate) trigger: i64,
    /// To within this; never less than one copy.
    pub(crate) goal: i64,
}

/// A copy and a quarter: who is one copy off is left alone when shares change a little for everybody.
const TRIGGER_MIN: i64 = COPY + COPY / 4;

/// What a copy that stays as CRUSH has it is worth, against bytes that do not fit: one in so many of a mean copy.
const CRUSH_WORTH: i64 = 4;

/// The copies of a pool. Daemons are named by their place in the field.
pub(crate) struct Board<'a> {
    field: &'a Field,
    raw: &'a [Slots],
    /// Where each group's copies are.
    pub(crate) slots: Vec<Vec<Option<usize>>>,
    /// Who has each group's data already: bringing a copy back to one of them moves nothing.
    has: Vec<Vec<usize>>,
    /// Bytes of a copy, by group.
    bytes: Vec<i64>,
    mean: i64,
    share: Vec<i64>,
    bytes_share: Vec<i64>,
    load: Vec<i64>,
    load_bytes: Vec<i64>,
    /// What all pools together have too much on a daemon: among equals the one with less is chosen.
    overall: &'a mut BTreeMap<DaemonId, i64>,
    on: Vec<BTreeSet<usize>>,
    /// Every daemon, the one that lacks most first.
    order: BTreeSet<(i64, i64, usize)>,
}

impl<'a> Board<'a> {
    /// A board with the copies at `start`; those that nobody may have, or two in one domain, are taken off.
    pub(crate) fn new(
        field: &'a Field,
        raw: &'a [Slots],
        start: &[Slots],
        size: usize,
        (bytes, has): (Vec<i64>, Vec<Vec<usize>>),
        overall: &'a mut BTreeMap<DaemonId, i64>,
    ) -> Board<'a> {
        let share = shares(field, start.len(), size);
        let total: i128 = bytes.iter().map(|bytes| i128::from(*bytes)).sum::<i128>() * size as i128;
        let whole = share.iter().map(|share| i128::from(*share)).sum::<i128>().max(1);
        let bytes_share = share.iter().map(|share| (total * i128::from(*share) / whole) as i64);
        let count = field.candidates.len();
        let mut board = Board {
            field,
            raw,
            slots: vec![vec![None; size]; start.len()],
            mean: (bytes.iter().sum::<i64>() / (bytes.len() as i64).max(1)).max(1),
            bytes,
            has,
            bytes_share: bytes_share.collect(),
            load: vec![0; count],
            load_bytes: vec![0; count],
            overall,
            on: vec![BTreeSet::new(); count],
            order: BTreeSet::new(),
            share,
        };
        for place in 0..count {
            *board.overall.entry(field.candidates[place].id).or_default() -= board.share[place];
            board.order.insert(board.key(place));
        }
        for (group, slots) in start.iter().enumerate() {
            board.begin(group, slots);
        }
        board
    }

    fn begin(&mut self, group: usize, start: &Slots) {
        let size = self.slots[group].len();
        let mut start = start.clone();
        // When there are fewer copies than before, those go that CRUSH does not name.
        while start.len() > size {
            let stranger = start.iter().rposition(|id| !self.raw[group].contains(id));
            start.remove(stranger.unwrap_or(start.len() - 1));
        }
        for (slot, id) in start.into_iter().enumerate() {
            let place = id.and_then(|id| self.field.place(id));
            if let Some(place) = place.filter(|place| self.is_apart(group, slot, *place)) {
                self.put(group, slot, Some(place));
            }
        }
    }

    fn key(&self, place: usize) -> (i64, i64, usize) {
        (self.excess(place), self.overall[&self.field.candidates[place].id], place)
    }

    /// Copies too many, in parts of one.
    pub(crate) fn excess(&self, place: usize) -> i64 {
        self.load[place] * COPY - self.share[place]
    }

    /// How far from its share a daemon may be when it is left.
    fn goal(&self, place: usize, bounds: Bounds) -> i64 {
        (self.share[place] / 1000 * bounds.goal).max(COPY)
    }

    /// How far before anything is done.
    fn trigger(&self, place: usize, bounds: Bounds) -> i64 {
        (self.share[place] / 1000 * bounds.trigger).max(TRIGGER_MIN)
    }

    fn put(&mut self, group: usize, slot: usize, to: Option<usize>) {
        let from = std::mem::replace(&mut self.slots[group][slot], to);
        for (place, by) in [(from, -1), (to, 1)] {
            let Some(place) = place else { continue };
            self.order.remove(&self.key(place));
            self.load[place] += by;
            self.load_bytes[place] += by * self.bytes[group];
            *self.overall.entry(self.field.candidates[place].id).or_default() += by * COPY;
            self.order.insert(self.key(place));
            match by {
                1 => self.on[place].insert(group),
                _ => self.on[place].remove(&group),
            };
        }
    }

    /// Whether no other copy of the group is in the domain of this daemon.
    fn is_apart(&self, group: usize, slot: usize, place: usize) -> bool {
        let domain = self.field.candidates[place].domain;
        let others = self.slots[group].iter().enumerate().filter(|(other, _)| *other != slot);
        others
            .flat_map(|(_, place)| place)
            .all(|other| self.field.candidates[*other].domain != domain)
    }

    /// Finds daemons for the places that nobody has.
    pub(crate) fn fill(&mut self, bounds: Bounds) {
        for group in 0..self.slots.len() {
            for slot in 0..self.slots[group].len() {
                if self.slots[group][slot].is_none() {
                    let found = self.find(group, slot, bounds);
                    self.put(group, slot, found);
                }
            }
        }
    }

    /// Who has it, or whom CRUSH names, if he has room; else who lacks most.
    fn find(&self, group: usize, slot: usize, bounds: Bounds) -> Option<usize> {
        let used = self.slots[group].iter().flatten().count();
        if self.field.is_simple() && used >= self.field.domains {
            return None;
        }
        let named = self.raw[group].get(slot).into_iter().chain(&self.raw[group]).flatten();
        let fits = |place: &usize| self.is_apart(group, slot, *place);
        let named = named.filter_map(|id| self.field.place(*id));
        let has = self.has[group].iter().copied();
        let mut named = has.chain(named).filter(fits).peekable();
        let first = named.peek().copied();
        let has_room = |place: &usize| self.excess(*place) + COPY <= self.goal(*place, bounds);
        named.find(has_room).or_else(|| match self.field.is_simple() {
            true => self.order.iter().map(|(.., place)| *place).find(fits),
            false => first,
        })
    }

    /// Leaves copies where they are that were to go, and need not any more: a change that is taken back costs nothing.
    pub(crate) fn stay(&mut self, bounds: Bounds) {
        for group in 0..self.slots.len() {
            for at in 0..self.has[group].len() {
                let member = self.has[group][at];
                if !self.slots[group].contains(&Some(member)) {
                    self.stay_on(group, member, bounds);
                }
            }
        }
    }

    fn stay_on(&mut self, group: usize, member: usize, bounds: Bounds) {
        let has_room = self.excess(member) + COPY <= self.goal(member, bounds);
        let newcomer = |place: &Option<usize>| {
            let spared = |id: usize| self.excess(id) - COPY >= -self.goal(id, bounds);
            place.is_some_and(|id| !self.has[group].contains(&id) && spared(id))
        };
        let slot = self.slots[group].iter().position(newcomer).filter(|_| has_room);
        if let Some(slot) = slot.filter(|slot| self.is_apart(group, *slot, member)) {
            self.put(group, slot, Some(member));
        }
    }

    /// Brings daemons that are out of bounds to their goal, by at most so many moves; how many were made.
    pub(crate) fn level(&mut self, bounds: Bounds, moves_max: usize) -> usize {
        let mut moves = 0;
        let is_over =
            |&(excess, _, place): &(i64, i64, usize)| excess > self.trigger(place, bounds);
        let over: Vec<usize> =
            self.order.iter().rev().filter(|key| is_over(key)).map(|key| key.2).collect();
        let is_under =
            |&(excess, _, place): &(i64, i64, usize)| -excess > self.trigger(place, bounds);
        let under: Vec<usize> =
            self.order.iter().filter(|key| is_under(key)).map(|key| key.2).collect();
        for from in over {
            while moves < moves_max && self.excess(from) > self.goal(from, bounds) {
                let to = self.order.iter().map(|key| key.2).take(ENDS_MAX).collect();
                match self.move_one(vec![from], to, bounds) {
                    true => moves += 1,
                    false => break,
                }
            }
        }
        for to in under {
            while moves < moves_max && -self.excess(to) > self.goal(to, bounds) {
                let from = self.order.iter().rev().map(|key| key.2).take(ENDS_MAX).collect();
                match self.move_one(from, vec![to], bounds) {
                    true => moves += 1,
                    false => break,
                }
            }
        }
        moves
    }

    /// Moves one copy, of the first pair of daemons that allows it.
    fn move_one(&mut self, from: Vec<usize>, to: Vec<usize>, bounds: Bounds) -> bool {
        for a in from {
            for b in to.iter().copied().filter(|b| *b != a) {
                let fair = self.excess(a) - self.excess(b) > COPY
                    && self.excess(a) - COPY >= -self.goal(a, bounds)
                    && self.excess(b) + COPY <= self.goal(b, bounds);
                let best = if fair { self.best(a, b) } else { None };
                if let Some((group, slot)) = best {
                    self.put(group, slot, Some(b));
                    return true;
                }
            }
        }
        false
    }

    /// The copy of `a` that suits `b` best: one that needs no data moved, if there is such; of the size that brings
    /// bytes to their share too; and where CRUSH would have it, which needs no exception.
    fn best(&self, a: usize, b: usize) -> Option<(usize, usize)> {
        let of = match self.excess(a).abs() > self.excess(b).abs() {
            true => a,
            false => b,
        };
        let copies = ((self.excess(of).abs() + COPY / 2) / COPY).max(1);
        let wanted = (self.load_bytes[of] - self.bytes_share[of]).abs() / copies;
        let id = self.field.candidates[b].id;
        let score = |group: usize| {
            let misfit = (self.bytes[group] - wanted).abs();
            let by_crush = self.raw[group].contains(&Some(id));
            let has = |place: usize| self.has[group].contains(&place);
            let copied = i64::from(!has(b)) - i64::from(!has(a));
            (copied, misfit + if by_crush { 0 } else { self.mean / CRUSH_WORTH })
        };
        let fits = self.on[a].iter().filter_map(|group| {
            let slot = self.slots[*group].iter().position(|place| *place == Some(a))?;
            let may = self.is_apart(*group, slot, b) && self.field.is_beside(a, b);
            may.then_some((*group, slot))
        });
        fits.min_by_key(|(group, _)| (score(*group), *group))
    }

    /// Where a group's copies are, as ids.
    pub(crate) fn ids(&self, group: usize) -> Slots {
        let id = |place: &Option<usize>| place.map(|place| self.field.candidates[place].id);
        self.slots[group].iter().map(id).collect()
    }

    /// The share of a candidate, in parts of a copy.
    pub(crate) fn share(&self, place: usize) -> i64 {
        self.share[place]
    }

    /// The bytes that a candidate should have of the pool.
    pub(crate) fn bytes_share(&self, place: usize) -> i64 {
        self.bytes_share[place]
    }

    /// Copies that a candidate has.
    pub(crate) fn load(&self, place: usize) -> i64 {
        self.load[place]
    }

    /// Whether every daemon is within bounds.
    pub(crate) fn is_level(&self, bounds: Bounds) -> bool {
        (0..self.load.len()).all(|p| self.excess(p).abs() <= self.trigger(p, bounds))
    }
}

/// The exceptions that make `wanted` of what CRUSH says, as far as exceptions can: a place that CRUSH leaves empty
/// has none, and in an erasure-coded pool two daemons do not change places.
pub(crate) fn items(raw: &Slots, wanted: &Slots, is_erasure: bool) -> Items {
    let absent = |id: &DaemonId, from: &Slots| !from.contains(&Some(*id));
    if !is_erasure {
        let leaving = raw.iter().flatten().filter(|id| absent(id, wanted));
        let coming = wanted.iter().flatten().filter(|id| absent(id, raw));
        return leaving.copied().zip(coming.copied()).collect();
    }
    let mut now = raw.clone();
    let mut items = Vec::new();
    // One that comes to a place which another has yet waits for that one to leave: at most once around.
    for _ in 0..raw.len() {
        for (slot, to) in wanted.iter().enumerate() {
            let from = now.get(slot).copied().flatten();
            let (Some(from), Some(to)) = (from, *to) else { continue };
            if from != to && absent(&to, &now) {
                now[slot] = Some(to);
                items.push((from, to));
            }
        }
    }
    items
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exceptions_lead_from_one_set_to_the_other() {
        let slots = |ids: &[i32]| -> Slots {
            ids.iter().map(|id| (*id >= 0).then_some(DaemonId(*id))).collect()
        };
        let pairs = |raw: &[i32], wanted: &[i32], is_erasure| -> Vec<(i32, i32)> {
            let items = items(&slots(raw), &slots(wanted), is_erasure);
            items.into_iter().map(|(from, to)| (from.0, to.0)).collect()
        };
        assert_eq!(pairs(&[1, 2, 3], &[2, 1, 4], false), [(3, 4)], "order means nothing");
        assert_eq!(pairs(&[1, 2], &[1, 2, 5], false), [], "a place that CRUSH does not have");
        assert_eq!(pairs(&[1, 2, 3], &[2, 4, 3], true), [(2, 4), (1, 2)], "in position");
        assert_eq!(pairs(&[1, 2, 3], &[2, 1, 3], true), [], "two would change places");
        assert_eq!(pairs(&[1, -1, 3], &[4, 5, 3], true), [(1, 4)]);
    }
}
