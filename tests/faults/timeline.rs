//! Availability as clients met it: operations in each second, and the longest time without an answer around
//! each kind of fault.

use crate::history::{Class, Sample};
use crate::schedule::Event;
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// How long after its end a fault may still be felt.
const AFTERMATH: u64 = 10_000_000_000;

/// What clients met around faults of one kind.
#[derive(Clone, Debug, Default)]
pub(crate) struct Felt {
    pub(crate) count: usize,
    /// Longest time in which no client at all was answered, nanoseconds.
    pub(crate) silence: u64,
    /// Longest time that one operation took, or waited in vain.
    pub(crate) longest: u64,
}

/// Figures of one round.
pub(crate) fn felt(samples: &[Sample], events: &[Event]) -> BTreeMap<&'static str, Felt> {
    let mut answers: Vec<u64> = samples.iter().filter(|s| s.answered).map(|s| s.ended).collect();
    answers.sort_unstable();
    let mut by_kind: BTreeMap<&'static str, Felt> = BTreeMap::new();
    for event in events {
        let until = event.ended + AFTERMATH;
        let felt = by_kind.entry(event.kind).or_default();
        felt.count += 1;
        let gaps = answers.windows(2).filter(|w| w[1] > event.began && w[0] < until);
        felt.silence = felt.silence.max(gaps.map(|w| w[1] - w[0]).max().unwrap_or(0));
        let around = samples.iter().filter(|s| s.ended > event.began && s.began < until);
        felt.longest = felt.longest.max(around.map(|s| s.ended - s.began).max().unwrap_or(0));
    }
    by_kind
}

/// Adds the figures of another round.
pub(crate) fn merge(into: &mut BTreeMap<&'static str, Felt>, other: BTreeMap<&'static str, Felt>) {
    for (kind, felt) in other {
        let all = into.entry(kind).or_default();
        all.count += felt.count;
        all.silence = all.silence.max(felt.silence);
        all.longest = all.longest.max(felt.longest);
    }
}

/// Answers in each second.
pub(crate) fn per_second(samples: &[Sample]) -> Vec<u32> {
    let mut seconds = Vec::new();
    for sample in samples.iter().filter(|sample| sample.answered) {
        let at = (sample.ended / 1_000_000_000) as usize;
        if seconds.len() <= at {
            seconds.resize(at + 1, 0);
        }
        seconds[at] += 1;
    }
    seconds
}

/// A class's count, the part of it that was answered, and its median and 99th percentile in milliseconds.
pub(crate) fn classes(samples: &[Sample]) -> Value {
    let of = |class: Class| {
        let mine: Vec<&Sample> = samples.iter().filter(|sample| sample.class == class).collect();
        let mut times: Vec<u64> =
            mine.iter().filter(|s| s.answered).map(|s| s.ended - s.began).collect();
        times.sort_unstable();
        let at = |part: usize| times.get(times.len() * part / 100).map_or(0.0, |t| *t as f64 / 1e6);
        json!({"operations": mine.len(), "answered": times.len(), "p50_ms": at(50), "p99_ms": at(99)})
    };
    Class::ALL
        .into_iter()
        .map(|(class, name)| (name.to_string(), of(class)))
        .collect::<serde_json::Map<_, _>>()
        .into()
}

/// The seconds as a line of eighths of the best second, for people.
pub(crate) fn picture(seconds: &[u32]) -> String {
    const LEVELS: [char; 9] = [' ', '▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    let best = seconds.iter().copied().max().unwrap_or(0).max(1);
    let level = |count: u32| if count == 0 { 0 } else { 1 + (count * 7 / best) as usize };
    seconds.iter().map(|count| LEVELS[level(*count)]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_silence_is_told_of_the_fault_around_it() {
        let second = 1_000_000_000;
        let sample = |began: u64, ended: u64, answered| Sample {
            began: began * second,
            ended: ended * second,
            class: Class::S3Read,
            answered,
        };
        let samples = [
            sample(0, 1, true),
            sample(1, 2, true),
            sample(2, 30, false),
            sample(2, 9, true),
            sample(9, 40, true),
        ];
        let event = |kind, began: u64, ended: u64| Event {
            kind,
            what: String::new(),
            began: began * second,
            ended: ended * second,
        };
        let felt = felt(&samples, &[event("kill", 3, 4), event("cut", 0, 0)]);
        assert_eq!(felt["kill"].silence, 31 * second, "until 14 s it may be felt: 9 to 40");
        assert_eq!(felt["cut"].silence, 31 * second);
        assert_eq!((felt["kill"].longest, felt["kill"].count), (31 * second, 1));
        assert_eq!(per_second(&samples[..2]), [0, 1, 1]);
    }
}
