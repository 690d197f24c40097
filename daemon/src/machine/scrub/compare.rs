//! Who is right when copies are compared. Pure; the rules are in the module above.

use super::digest::Digest;
use std::collections::{BTreeMap, BTreeSet};
use store_base::{DaemonId, Version};

/// What is known beside the digests.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Evidence {
    /// The log has an entry of the object behind the point from which the round looked.
    pub(super) touched: bool,
    /// The last removal of the object in the log.
    pub(super) removed: Option<Version>,
    /// The copies ought to be equal byte for byte.
    pub(super) comparable: bool,
    /// Without a majority, this daemon's copy counts.
    pub(super) trusted: Option<DaemonId>,
}

/// What the good copies are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Authority {
    /// Copies of this version, of these members.
    Copies(Version, BTreeSet<DaemonId>),
    /// There should be none.
    Absence,
}

/// What came of a comparison.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// All are equal, or there is none.
    Sound,
    /// It changed meanwhile.
    Busy,
    /// These are to be replaced, and why.
    Mend(Authority, BTreeMap<DaemonId, String>),
    /// They differ, and nobody knows who is right.
    Undecidable(String),
    /// No copy of the newest version verifies.
    Lost(String),
}

/// Compares the digests of one object: of every member, `None` for one that does not have it.
pub(super) fn compare(
    copies: &BTreeMap<DaemonId, Option<&Digest>>,
    evidence: &Evidence,
) -> Verdict {
    let present = || copies.iter().filter_map(|(id, copy)| Some((*id, (*copy)?)));
    let absent: BTreeSet<DaemonId> =
        copies.iter().filter(|(_, copy)| copy.is_none()).map(|(id, _)| *id).collect();
    if present().next().is_none() {
        return Verdict::Sound;
    }
    let newest = present().map(|(_, copy)| copy.version).max().unwrap_or_default();
    let differ = !absent.is_empty() || present().any(|(_, copy)| copy.version != newest);
    if present().any(|(_, copy)| copy.busy) || (differ && evidence.touched) {
        return Verdict::Busy;
    }
    if !absent.is_empty() && evidence.removed.is_some_and(|removed| removed > newest) {
        let bad = present().map(|(id, _)| (id, "not removed".to_string())).collect();
        return Verdict::Mend(Authority::Absence, bad);
    }
    let good: Vec<(DaemonId, &Digest)> =
        present().filter(|(_, copy)| copy.damaged.is_empty() && copy.version == newest).collect();
    if good.is_empty() {
        return Verdict::Lost(tell(&damaged(copies)));
    }
    let right = match majority(&good, evidence) {
        Some(right) => right,
        None => {
            let who: Vec<String> = good.iter().map(|(id, _)| id.to_string()).collect();
            let why = format!("{} verify and differ, without a majority", who.join(", "));
            return Verdict::Undecidable(why);
        }
    };
    let bad: BTreeMap<DaemonId, String> = copies
        .iter()
        .filter(|(id, _)| !right.contains(id))
        .map(|(id, copy)| (*id, fault(*copy, newest)))
        .collect();
    match bad.is_empty() {
        true => Verdict::Sound,
        false => Verdict::Mend(Authority::Copies(newest, right), bad),
    }
}

/// The members whose copy of the newest version counts.
fn majority(good: &[(DaemonId, &Digest)], evidence: &Evidence) -> Option<BTreeSet<DaemonId>> {
    if !evidence.comparable {
        return Some(good.iter().map(|(id, _)| *id).collect());
    }
    let mut groups: BTreeMap<[u64; 6], BTreeSet<DaemonId>> = BTreeMap::new();
    for (id, copy) in good {
        groups.entry(copy.content()).or_default().insert(*id);
    }
    let largest = groups.values().map(BTreeSet::len).max().unwrap_or_default();
    if groups.len() == 1 || largest * 2 > good.len() {
        return groups.into_values().find(|group| group.len() == largest);
    }
    let trusted = evidence.trusted?;
    groups.into_values().find(|group| group.contains(&trusted))
}

fn fault(copy: Option<&Digest>, newest: Version) -> String {
    match copy {
        None => "lacking".into(),
        Some(copy) if copy.version < newest => format!("of the older version {}", copy.version),
        Some(copy) if !copy.damaged.is_empty() => copy.damaged.clone(),
        Some(_) => "other content than the rest".into(),
    }
}

fn damaged(copies: &BTreeMap<DaemonId, Option<&Digest>>) -> BTreeMap<DaemonId, String> {
    let newest = copies.values().flatten().map(|copy| copy.version).max().unwrap_or_default();
    copies.iter().map(|(id, copy)| (*id, fault(*copy, newest))).collect()
}

/// What is wrong and where, for people.
pub(super) fn tell(bad: &BTreeMap<DaemonId, String>) -> String {
    let each: Vec<String> = bad.iter().map(|(id, why)| format!("{id}: {why}")).collect();
    each.join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use store_base::{Interval, ObjectName};

    const PLAIN: Evidence =
        Evidence { touched: false, removed: None, comparable: true, trusted: None };

    fn version(counter: u64) -> Version {
        Version { interval: Interval(1), counter }
    }

    /// "3" is a copy of version 3; "3x" one with other content, "3!" a damaged one, "3?" one that changed
    /// meanwhile, "-" none.
    fn copy(text: &str) -> Option<Digest> {
        let counter = text.trim_end_matches(|c: char| !c.is_ascii_digit());
        let mark = &text[counter.len()..];
        Some(Digest {
            object: ObjectName::new("o"),
            version: version(counter.parse().ok()?),
            damaged: if mark == "!" { "checksum mismatch".into() } else { String::new() },
            busy: mark == "?",
            data: if mark == "!" { 0 } else { mark.bytes().map(u32::from).sum() },
            ..Digest::default()
        })
    }

    fn check(copies: &str, evidence: Evidence, expected: &str) {
        let copies: Vec<Option<Digest>> = copies.split_whitespace().map(copy).collect();
        let by_id = copies
            .iter()
            .enumerate()
            .map(|(id, copy)| (DaemonId(id as i32), copy.as_ref()))
            .collect();
        let got = match compare(&by_id, &evidence) {
            Verdict::Sound => "sound".to_string(),
            Verdict::Busy => "busy".to_string(),
            Verdict::Undecidable(_) => "undecidable".to_string(),
            Verdict::Lost(_) => "lost".to_string(),
            Verdict::Mend(authority, bad) => {
                let ids: Vec<String> = bad.keys().map(|id| id.0.to_string()).collect();
                match authority {
                    Authority::Absence => format!("remove {}", ids.join(",")),
                    Authority::Copies(of, from) => {
                        let from: Vec<String> = from.iter().map(|id| id.0.to_string()).collect();
                        format!("mend {} by {} from {}", ids.join(","), of.counter, from.join(","))
                    }
                }
            }
        };
        assert_eq!(got, expected, "{copies:?}");
    }

    #[test]
    fn equal_copies_are_sound() {
        check("3 3 3", PLAIN, "sound");
        check("3", PLAIN, "sound");
        check("- - -", PLAIN, "sound");
    }

    #[test]
    fn a_copy_that_does_not_verify_is_replaced_whoever_has_it() {
        check("3 3! 3", PLAIN, "mend 1 by 3 from 0,2");
        check("3! 3 3", PLAIN, "mend 0 by 3 from 1,2");
        check("3! 3! 3", PLAIN, "mend 0,1 by 3 from 2");
        check("3! 3! 3!", PLAIN, "lost");
        check("3! -", PLAIN, "lost");
    }

    #[test]
    fn the_newest_version_counts_and_is_not_given_up_for_an_older_one() {
        check("4 3 3", PLAIN, "mend 1,2 by 4 from 0");
        check("4! 3 3", PLAIN, "lost");
    }

    #[test]
    fn what_some_lack_comes_back_unless_the_log_has_removed_it() {
        check("- 3 -", PLAIN, "mend 0,2 by 3 from 1");
        let removed = |n| Evidence { removed: Some(version(n)), ..PLAIN };
        check("- 3 -", removed(5), "remove 1");
        check("- 3! -", removed(5), "remove 1");
        check("- 6 -", removed(5), "mend 0,2 by 6 from 1");
    }

    #[test]
    fn of_copies_that_verify_and_differ_the_majority_counts() {
        check("3 3x 3", PLAIN, "mend 1 by 3 from 0,2");
        check("3x 3 3", PLAIN, "mend 0 by 3 from 1,2");
        check("3 3x", PLAIN, "undecidable");
        check("3 3x 3!", PLAIN, "undecidable");
        check("3 3x 3y", PLAIN, "undecidable");
        let trusting = Evidence { trusted: Some(DaemonId(0)), ..PLAIN };
        check("3 3x", trusting, "mend 1 by 3 from 0");
        check("3! 3x 3y", trusting, "undecidable");
        check("3 3x 3x", trusting, "mend 0 by 3 from 1,2");
        check("3 3x", Evidence { comparable: false, ..PLAIN }, "sound");
    }

    #[test]
    fn what_changed_meanwhile_is_looked_at_again_but_damage_shows_at_once() {
        let touched = Evidence { touched: true, ..PLAIN };
        check("4 3 4", touched, "busy");
        check("4 - 4", touched, "busy");
        check("4 4? 4", PLAIN, "busy");
        check("4 4! 4", touched, "mend 1 by 4 from 0,2");
        check("4 4 4", touched, "sound");
    }
}
