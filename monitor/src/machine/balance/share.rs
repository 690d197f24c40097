//! How many copies of a pool each daemon should have: by weight, as far as copies may be kept apart.

use crate::machine::placement::field::Field;
use std::collections::BTreeMap;

/// One copy of a placement group, in the unit of shares: shares are no whole numbers.
pub(crate) const COPY: i64 = 1 << 16;

/// The share of every candidate, in order, of a pool's copies.
///
/// No failure domain takes more than one copy of a group. One whose weight asks for more gets all groups, and the
/// others share the rest.
pub(crate) fn shares(field: &Field, groups: usize, size: usize) -> Vec<i64> {
    let mut domains: BTreeMap<i32, u128> = BTreeMap::new();
    for one in &field.candidates {
        *domains.entry(one.domain).or_default() += u128::from(one.weight);
    }
    let copies = size.min(if field.is_simple() { domains.len() } else { size });
    let of_domain = fill(&domains, groups as u128, (groups * copies) as u128);
    let share = |domain: i32, weight: u64| {
        let all = domains[&domain].max(1);
        i64::try_from(of_domain[&domain] * u128::from(weight) / all).unwrap_or(i64::MAX)
    };
    field.candidates.iter().map(|one| share(one.domain, one.weight)).collect()
}

/// Divides copies by weight, none above the number of groups.
fn fill(weights: &BTreeMap<i32, u128>, groups: u128, copies: u128) -> BTreeMap<i32, u128> {
    let cap = groups * COPY as u128;
    let mut rest = copies * COPY as u128;
    let mut open = weights.clone();
    let mut shares = BTreeMap::new();
    loop {
        let total: u128 = open.values().sum();
        let over = |weight: u128| rest * weight > cap * total;
        let full: Vec<i32> =
            open.iter().filter(|(_, weight)| over(**weight)).map(|(id, _)| *id).collect();
        if full.is_empty() {
            shares.extend(open.iter().map(|(id, weight)| (*id, rest * weight / total.max(1))));
            return shares;
        }
        for id in full {
            open.remove(&id);
            shares.insert(id, cap);
            rest = rest.saturating_sub(cap);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_go_by_weight_and_no_domain_takes_two_copies_of_a_group() {
        let of = |weights: &[u128], groups: u128, copies: u128| -> Vec<f64> {
            let weights = weights.iter().enumerate().map(|(id, weight)| (id as i32, *weight));
            let shares = fill(&weights.collect(), groups, copies);
            shares.values().map(|share| *share as f64 / COPY as f64).collect()
        };
        assert_eq!(of(&[1, 1, 1, 1], 32, 96), [24.0; 4]);
        assert_eq!(of(&[1, 1, 2], 12, 24), [6.0, 6.0, 12.0]);
        assert_eq!(of(&[1, 1, 8], 12, 24), [6.0, 6.0, 12.0], "eight times as big, and full");
        assert_eq!(of(&[1, 9, 9], 8, 24), [8.0; 3]);
        assert_eq!(of(&[], 8, 0), [] as [f64; 0]);
    }
}
