//! The history of shared objects: there is one order of all effects that every client saw.
//!
//! Each value is unique, so the final list *is* the order. Then it remains to check that it respects real
//! time, holds everything that was acknowledged, nothing twice, and that each read saw a prefix of it that
//! is neither too short nor too long for its time.

use crate::sim::workload::{Kind, Operation};
use std::collections::BTreeMap;
use store_base::Time;

/// What is wrong with the history of all clients together.
pub fn check(history: &[Operation]) -> Vec<String> {
    let mut by_object: BTreeMap<&str, Vec<&Operation>> = BTreeMap::new();
    for operation in history {
        by_object.entry(&operation.object).or_default().push(operation);
    }
    by_object
        .into_iter()
        .flat_map(|(object, operations)| {
            let what = match object.starts_with("chain/") {
                true => check_chain(&operations),
                false => check_list(&operations),
            };
            what.into_iter().map(move |w| format!("history: {object}: {w}"))
        })
        .collect()
}

struct Effect {
    began: Time,
    ended: Option<Time>,
}

fn check_list(operations: &[&Operation]) -> Vec<String> {
    let longest = operations.iter().filter_map(|o| match &o.kind {
        Kind::Saw(list) => Some(list),
        _ => None,
    });
    let order = longest.max_by_key(|list| list.len()).cloned().unwrap_or_default();
    let effects = operations.iter().filter_map(|o| match o.kind {
        Kind::Append(value) => Some((value, Effect { began: o.began, ended: o.ended })),
        _ => None,
    });
    check_order(&order, &effects.collect(), operations, |list, order| {
        order.starts_with(list).then_some(list.len())
    })
}

fn check_chain(operations: &[&Operation]) -> Vec<String> {
    // The value that was read last in real time is the end of the chain; every value names its predecessor.
    let predecessor: BTreeMap<u64, u64> = operations
        .iter()
        .filter_map(|o| match o.kind {
            Kind::Replace(old, new) if new != 0 => Some((new, old)),
            _ => None,
        })
        .collect();
    let last = operations
        .iter()
        .filter_map(|o| match &o.kind {
            Kind::Saw(seen) => Some((o.began, seen.first().copied().unwrap_or(0))),
            _ => None,
        })
        .max_by_key(|(began, _)| *began);
    let mut order = Vec::new();
    let mut at = last.map_or(0, |(_, value)| value);
    while at != 0 {
        let Some(before) = predecessor.get(&at) else {
            return vec![format!("value {at:x} was never written")];
        };
        order.push(at);
        at = *before;
    }
    order.reverse();
    let effects = operations.iter().filter_map(|o| match o.kind {
        Kind::Replace(_, new) if new != 0 => Some((new, Effect { began: o.began, ended: o.ended })),
        _ => None,
    });
    check_order(&order, &effects.collect(), operations, |seen, order| match seen.first() {
        None | Some(0) => Some(0),
        Some(value) => order.iter().position(|v| v == value).map(|at| at + 1),
    })
}

/// `place` says after how many effects a read saw the object, or that it saw what never was.
fn check_order(
    order: &[u64],
    effects: &BTreeMap<u64, Effect>,
    operations: &[&Operation],
    place: impl Fn(&[u64], &[u64]) -> Option<usize>,
) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut places = BTreeMap::new();
    for (at, value) in order.iter().enumerate() {
        if let Some(first) = places.insert(*value, at) {
            wrong.push(format!("value {value:x} took effect twice, at {first} and {at}"));
        }
        if !effects.contains_key(value) {
            wrong.push(format!("value {value:x} was never written"));
        }
    }
    for (value, effect) in effects {
        if effect.ended.is_some() && !places.contains_key(value) {
            wrong.push(format!("acknowledged write of {value:x} is lost"));
        }
    }
    // Real time among effects: nothing that began after another was acknowledged stands before it.
    let mut began_max = Time::ZERO;
    for value in order {
        let Some(effect) = effects.get(value) else { continue };
        if effect.ended.is_some_and(|ended| ended < began_max) {
            wrong.push(format!(
                "value {value:x} stands behind one that began after its acknowledgement"
            ));
        }
        began_max = began_max.max(effect.began);
    }
    // Reads: (began, ended, place).
    let mut reads = Vec::new();
    for operation in operations {
        let (Kind::Saw(seen), Some(ended)) = (&operation.kind, operation.ended) else { continue };
        match place(seen, order) {
            None => wrong.push(format!(
                "a read at {} saw what never was: {} values",
                operation.began,
                seen.len()
            )),
            Some(place) => reads.push((operation.began, ended, place)),
        }
    }
    for (began, ended, place) in &reads {
        let due = order
            .iter()
            .enumerate()
            .filter(|(_, v)| {
                effects.get(*v).is_some_and(|e| e.ended.is_some_and(|end| end < *began))
            })
            .map(|(at, _)| at + 1)
            .max();
        if due.is_some_and(|due| due > *place) {
            wrong.push(format!(
                "a read at {began} saw {place} effects, {due:?} were acknowledged before it"
            ));
        }
        let early =
            order[..*place].iter().any(|v| effects.get(v).is_some_and(|e| e.began > *ended));
        if early {
            wrong.push(format!("a read that ended at {ended} saw what began later"));
        }
    }
    reads.sort();
    let mut by_end = reads.clone();
    by_end.sort_by_key(|(_, ended, _)| *ended);
    let mut done = by_end.iter().peekable();
    let mut place_max = 0;
    for (began, _, place) in &reads {
        while let Some((_, _, earlier)) = done.next_if(|(_, ended, _)| ended < began) {
            place_max = place_max.max(*earlier);
        }
        if *place < place_max {
            wrong
                .push(format!("a read at {began} saw {place} effects, an earlier one {place_max}"));
        }
    }
    wrong
}

#[cfg(test)]
mod tests {
    use super::*;

    fn operation(kind: Kind, began: u64, ended: Option<u64>) -> Operation {
        Operation { object: "list/0".into(), kind, began: Time(began), ended: ended.map(Time) }
    }

    #[test]
    fn finds_each_kind_of_break() {
        let append = |v, began, ended| operation(Kind::Append(v), began, ended);
        let saw =
            |list: &[u64], began, ended| operation(Kind::Saw(list.to_vec()), began, Some(ended));
        let good = [append(1, 0, Some(2)), append(2, 1, None), saw(&[1], 3, 4), saw(&[1, 2], 5, 6)];
        assert_eq!(check(&good), Vec::<String>::new());
        for bad in [
            vec![append(1, 0, Some(1)), saw(&[], 2, 3)],
            vec![append(1, 0, Some(1)), saw(&[1, 1], 2, 3)],
            vec![append(1, 0, Some(1)), append(2, 2, Some(3)), saw(&[2, 1], 4, 5)],
            vec![append(1, 0, None), saw(&[1], 1, 2), saw(&[], 3, 4)],
            vec![append(1, 5, None), saw(&[1], 1, 2)],
            vec![append(1, 0, None), append(2, 0, None), saw(&[1], 1, 2), saw(&[2, 1], 3, 4)],
        ] {
            assert!(!check(&bad).is_empty(), "{bad:?}");
        }
        let chain = |kind, began, ended| Operation {
            object: "chain/0".into(),
            ..operation(kind, began, ended)
        };
        let fork = [
            chain(Kind::Replace(0, 1), 0, Some(1)),
            chain(Kind::Replace(1, 2), 2, Some(3)),
            chain(Kind::Replace(1, 3), 2, Some(3)),
            chain(Kind::Saw(vec![3]), 4, Some(5)),
        ];
        assert!(!check(&fork).is_empty());
    }
}
