//! Whether one order of its operations explains all that the clients of one register saw.
//!
//! A register holds a value or nothing. Every value is written once at most, so what was read names its
//! write. The search is that of Wing and Gong with Lowe's memory: it lays operations in an order that respects
//! real time, goes back where an answer does not fit, and never looks twice at the same set of operations done
//! with the same value left.
//!
//! An operation with unknown outcome may take effect at any time after its beginning, or never; a search is
//! over when every operation with a known outcome has its place.

use std::collections::BTreeSet;

/// What an operation did, or saw.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
pub(crate) enum Act {
    /// Put this value there, whatever was there.
    Put(u64),
    /// Left nothing there, whatever was there.
    Clear,
    /// Took away what was there; there was something.
    Remove,
    /// Saw this value, or nothing.
    Saw(Option<u64>),
    /// Saw that it was something else.
    SawNot(Option<u64>),
    /// Saw that there was something.
    SawSome,
    /// Replaced the first, nothing too, by the second.
    Swap(Option<u64>, u64),
}

impl Act {
    /// What is there afterwards; `None` if it cannot have happened here.
    fn apply(self, there: Option<u64>) -> Option<Option<u64>> {
        match self {
            Act::Put(value) => Some(Some(value)),
            Act::Clear => Some(None),
            Act::Remove => there.map(|_| None),
            Act::Saw(seen) => (seen == there).then_some(there),
            Act::SawNot(other) => (other != there).then_some(there),
            Act::SawSome => there.is_some().then_some(there),
            Act::Swap(old, new) => (old == there).then_some(Some(new)),
        }
    }

    /// Whether it changes what is there.
    fn changes(self) -> bool {
        !matches!(self, Act::Saw(_) | Act::SawNot(_) | Act::SawSome)
    }
}

/// One operation on one register.
#[derive(Clone, Debug, serde::Serialize)]
pub(crate) struct Step {
    /// Which register.
    pub(crate) key: String,
    pub(crate) act: Act,
    /// Nanoseconds since the run began.
    pub(crate) began: u64,
    /// When the answer came; `None` if the outcome is unknown.
    pub(crate) ended: Option<u64>,
    /// Who did it.
    pub(crate) client: u32,
}

/// Looks of one search, at most; far beyond what a register of a few hundred operations needs.
const LOOKS_MAX: u64 = 20_000_000;

/// What a search found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Linearizable,
    /// No order explains it; it began to be so with the operation that ended then.
    Broken {
        at: u64,
    },
    /// The search took too long. That is no pass.
    Undecided,
}

/// Judges the history of one register.
pub(crate) fn check(steps: &[&Step]) -> Verdict {
    match search(steps) {
        Some(true) => Verdict::Linearizable,
        None => Verdict::Undecided,
        Some(false) => Verdict::Broken { at: first_break(steps) },
    }
}

/// The end of the shortest beginning of the history that no order explains.
fn first_break(steps: &[&Step]) -> u64 {
    let mut ends: Vec<u64> = steps.iter().filter_map(|step| step.ended).collect();
    ends.sort_unstable();
    for end in &ends {
        let until: Vec<Step> = steps
            .iter()
            .filter(|step| step.began <= *end)
            .map(|step| Step { ended: step.ended.filter(|ended| ended <= end), ..(*step).clone() })
            .collect();
        if search(&until.iter().collect::<Vec<_>>()) == Some(false) {
            return *end;
        }
    }
    ends.last().copied().unwrap_or(0)
}

/// A beginning or an end of an operation, in the order of time.
#[derive(Clone, Copy)]
struct Mark {
    step: usize,
    is_end: bool,
    next: usize,
    before: usize,
}

/// No mark.
const NONE: usize = usize::MAX;

/// `None` if it could not be decided.
fn search(steps: &[&Step]) -> Option<bool> {
    let relevant: Vec<&Step> =
        steps.iter().copied().filter(|step| step.ended.is_some() || step.act.changes()).collect();
    let mut marks = marks_of(&relevant);
    let mut done = vec![0u64; relevant.len().div_ceil(64)];
    let mut seen = BTreeSet::new();
    let mut path: Vec<(usize, Option<u64>)> = Vec::new();
    let mut there = None;
    let mut at = marks[0].next;
    let mut looks = 0;
    loop {
        looks += 1;
        if looks > LOOKS_MAX {
            return None;
        }
        if at == NONE {
            // Behind the last mark: no operation with a known end is left.
            return Some(true);
        }
        let mark = marks[at];
        if !mark.is_end {
            if let Some(then) = relevant[mark.step].act.apply(there) {
                let (word, bit) = (mark.step / 64, 1 << (mark.step % 64));
                done[word] |= bit;
                if seen.insert((done.clone(), then)) {
                    path.push((at, there));
                    there = then;
                    lift(&mut marks, at, &relevant);
                    at = marks[0].next;
                    continue;
                }
                done[word] &= !bit;
            }
            at = mark.next;
            continue;
        }
        // The end of an operation that has no place yet: another order must be tried.
        let Some((last, before)) = path.pop() else { return Some(false) };
        let step = marks[last].step;
        done[step / 64] &= !(1 << (step % 64));
        there = before;
        unlift(&mut marks, last, &relevant);
        at = marks[last].next;
    }
}

/// Marks as a list; the first entry is its head. [`place`] says where those of a step are.
fn marks_of(steps: &[&Step]) -> Vec<Mark> {
    let mut order: Vec<(u64, bool, usize)> = Vec::new();
    for (i, step) in steps.iter().enumerate() {
        order.push((step.began, false, i));
        order.extend(step.ended.map(|ended| (ended, true, i)));
    }
    // At the same moment beginnings come first: then the two overlap, which allows more.
    order.sort_unstable();
    let mut marks =
        vec![Mark { step: NONE, is_end: false, next: NONE, before: NONE }; 1 + 2 * steps.len()];
    let mut last = 0;
    for (_, is_end, step) in order {
        let at = place(step, is_end);
        marks[at] = Mark { step, is_end, next: NONE, before: last };
        marks[last].next = at;
        last = at;
    }
    marks
}

fn place(step: usize, is_end: bool) -> usize {
    1 + 2 * step + usize::from(is_end)
}

fn lift(marks: &mut [Mark], at: usize, steps: &[&Step]) {
    unlink(marks, at);
    let step = marks[at].step;
    if steps[step].ended.is_some() {
        unlink(marks, place(step, true));
    }
}

fn unlift(marks: &mut [Mark], at: usize, steps: &[&Step]) {
    let step = marks[at].step;
    if steps[step].ended.is_some() {
        relink(marks, place(step, true));
    }
    relink(marks, at);
}

fn unlink(marks: &mut [Mark], at: usize) {
    let Mark { next, before, .. } = marks[at];
    marks[before].next = next;
    if next != NONE {
        marks[next].before = before;
    }
}

fn relink(marks: &mut [Mark], at: usize) {
    let Mark { next, before, .. } = marks[at];
    marks[before].next = at;
    if next != NONE {
        marks[next].before = at;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step(act: Act, began: u64, ended: Option<u64>) -> Step {
        Step { key: "k".into(), act, began, ended, client: 0 }
    }

    fn verdict(steps: &[Step]) -> Verdict {
        check(&steps.iter().collect::<Vec<_>>())
    }

    fn is_good(steps: &[Step]) {
        assert_eq!(verdict(steps), Verdict::Linearizable, "{steps:?}");
    }

    fn breaks_at(steps: &[Step], at: u64) {
        assert_eq!(verdict(steps), Verdict::Broken { at }, "{steps:?}");
    }

    #[test]
    fn what_fits_passes() {
        is_good(&[]);
        is_good(&[step(Act::Saw(None), 0, Some(1))]);
        is_good(&[
            step(Act::Put(1), 0, Some(9)),
            step(Act::Saw(None), 1, Some(2)),
            step(Act::Saw(Some(1)), 3, Some(4)),
        ]);
        is_good(&[
            step(Act::Put(1), 0, Some(1)),
            step(Act::Swap(Some(1), 2), 2, Some(5)),
            step(Act::SawNot(Some(2)), 2, Some(3)),
            step(Act::Remove, 6, Some(7)),
            step(Act::Swap(None, 3), 8, Some(9)),
            step(Act::SawSome, 10, Some(11)),
            step(Act::Clear, 12, Some(13)),
            step(Act::Saw(None), 14, Some(15)),
        ]);
    }

    #[test]
    fn an_unknown_outcome_may_come_late_or_never_but_not_twice() {
        let unknown = step(Act::Put(1), 0, None);
        is_good(&[
            unknown.clone(),
            step(Act::Saw(None), 5, Some(6)),
            step(Act::Saw(Some(1)), 7, Some(8)),
        ]);
        is_good(&[unknown.clone(), step(Act::Saw(None), 5, Some(6))]);
        let twice = [
            unknown,
            step(Act::Saw(Some(1)), 2, Some(3)),
            step(Act::Put(2), 4, Some(5)),
            step(Act::Saw(Some(2)), 6, Some(7)),
            step(Act::Saw(Some(1)), 8, Some(9)),
        ];
        breaks_at(&twice, 9);
    }

    #[test]
    fn each_kind_of_break_is_found_where_it_begins() {
        breaks_at(&[step(Act::Put(1), 0, Some(1)), step(Act::Saw(None), 2, Some(3))], 3);
        breaks_at(&[step(Act::Saw(Some(7)), 2, Some(3))], 3);
        breaks_at(&[step(Act::Put(1), 4, None), step(Act::Saw(Some(1)), 2, Some(3))], 3);
        breaks_at(
            &[
                step(Act::Put(1), 0, Some(1)),
                step(Act::Swap(Some(1), 2), 2, Some(9)),
                step(Act::Swap(Some(1), 3), 2, Some(8)),
            ],
            9,
        );
        breaks_at(
            &[
                step(Act::Put(1), 0, Some(9)),
                step(Act::Saw(Some(1)), 1, Some(2)),
                step(Act::Saw(None), 3, Some(4)),
                step(Act::Saw(Some(1)), 5, Some(6)),
            ],
            4,
        );
        breaks_at(
            &[
                step(Act::Put(1), 0, Some(1)),
                step(Act::Clear, 2, Some(3)),
                step(Act::Remove, 4, Some(5)),
            ],
            5,
        );
        breaks_at(&[step(Act::SawSome, 0, Some(1))], 1);
        breaks_at(&[step(Act::Put(1), 0, Some(1)), step(Act::SawNot(Some(1)), 2, Some(3))], 3);
    }

    #[test]
    fn random_histories_of_a_real_register_pass_and_a_changed_answer_is_found() {
        use store_tests::sim::random::Random;
        let mut found = 0;
        for seed in 0..300 {
            let mut random = Random::new(seed);
            let (mut steps, mut there) = (Vec::new(), None);
            for i in 0..60u64 {
                // Each takes effect at 10 i, somewhere within its time.
                let (began, ended) =
                    (10 * i - random.below(40).min(10 * i), 10 * i + random.below(40));
                let act = match random.below(5) {
                    0 => Act::Put(i + 1),
                    1 => Act::Clear,
                    2 => Act::Swap(there, i + 1),
                    _ => Act::Saw(there),
                };
                let known = random.chance(900) || !act.changes();
                if known || random.chance(500) {
                    there = act.apply(there).expect("made to fit");
                }
                steps.push(step(act, began, known.then_some(ended)));
            }
            is_good(&steps);
            let saw = steps.iter().rposition(|s| matches!(s.act, Act::Saw(Some(_))));
            if let Some(last) = saw {
                let first =
                    steps.iter().position(|s| matches!(s.act, Act::Put(_))).expect("some write");
                let Act::Put(stale) = steps[first].act else { continue };
                if steps[last].act != Act::Saw(Some(stale)) {
                    steps[last].act = Act::Saw(Some(stale));
                    found += usize::from(matches!(verdict(&steps), Verdict::Broken { .. }));
                }
            }
        }
        assert!(found > 250, "{found} of 300 stale reads were found");
    }
}
