//! Muting a check: it is still shown, and does not count.
//!
//! As in Ceph, a mute ends when its time is over, when the check ends, and when the check gets worse: about more
//! things than when it was muted, or graver. A sticky one ends with its time only.

use super::health::{Check, Report, Severity};
use super::notes::{Mute, Notes};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use store_base::Timestamp;

/// Mutes at a time.
pub const MUTES_MAX: usize = 256;

/// Longest name of a check.
pub const NAME_BYTES_MAX: usize = 64;

fn grade(severity: Severity) -> u8 {
    match severity {
        Severity::Ok => 0,
        Severity::Warn => 1,
        Severity::Error => 2,
    }
}

/// A mute of a check as it is now; of one that there is not now, which only a sticky mute may be.
pub(crate) fn of(check: Option<&Check>, until: u64, sticky: bool) -> Mute {
    Mute {
        until,
        sticky,
        count: check.map_or(0, |check| check.count as u64),
        severity: check.map_or(0, |check| grade(check.severity)),
        summary: check.map_or_else(String::new, |check| check.summary.clone()),
    }
}

/// Those that count now, with what is left of each in seconds.
pub(crate) fn in_force(notes: &Notes, wall: Timestamp) -> BTreeMap<String, (Mute, Option<u64>)> {
    let left = |mute: &Mute| (mute.until > 0).then(|| mute.until.saturating_sub(wall.secs));
    let all = notes.mutes.iter().map(|(name, mute)| (name.clone(), (mute.clone(), left(mute))));
    all.filter(|(_, (_, left))| *left != Some(0)).collect()
}

/// The mutes as they are after a look at the health: some have ended, some count fewer things. `is_settled` is
/// whether everybody was heard: until then a check that is not there may only not be known.
pub(crate) fn review(
    mutes: &BTreeMap<String, Mute>,
    report: &Report,
    wall: Timestamp,
    is_settled: bool,
) -> BTreeMap<String, Mute> {
    let next = |(name, mute): (&String, &Mute)| {
        let is_over = mute.until > 0 && mute.until <= wall.secs;
        let check = report.checks.get(name.as_str());
        let (ended, worse) = match check {
            Some(check) => {
                let worse =
                    grade(check.severity) > mute.severity || check.count as u64 > mute.count;
                (false, worse)
            }
            None => (is_settled, false),
        };
        if is_over || (!mute.sticky && (ended || worse)) {
            tracing::info!(check = name, is_over, ended, worse, "is heard again");
            return None;
        }
        let mut mute = mute.clone();
        if let Some(check) = check.filter(|_| !mute.sticky) {
            mute.count = mute.count.min(check.count as u64);
        }
        Some((name.clone(), mute))
    };
    mutes.iter().filter_map(next).collect()
}

/// As `health` shows it.
pub(crate) fn describe(name: &str, mute: &Mute, left: Option<u64>) -> Value {
    json!({
        "code": name,
        "sticky": mute.sticky,
        "summary": mute.summary,
        "count": mute.count,
        "ttl_secs": left,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(count: usize, severity: Severity) -> Report {
        let mut report = Report::default();
        let detail = (0..count).map(|i| format!("osd.{i}")).collect();
        report.add("OSD_DOWN", severity, format!("{count} down"), detail, "", "");
        report
    }

    #[test]
    fn a_mute_ends_with_its_time_its_check_or_when_it_gets_worse() {
        let at = |secs| Timestamp { secs, nanos: 0 };
        let now = report(2, Severity::Warn);
        let mutes = |until, sticky| {
            let mute = of(now.checks.get("OSD_DOWN"), until, sticky);
            BTreeMap::from([("OSD_DOWN".to_string(), mute)])
        };
        let holds = |mutes: &BTreeMap<String, Mute>, report: &Report, secs| {
            !review(mutes, report, at(secs), true).is_empty()
        };
        let (plain, sticky) = (mutes(100, false), mutes(100, true));
        assert!(holds(&plain, &now, 99) && !holds(&plain, &now, 100), "until its time");
        assert!(!holds(&sticky, &now, 100), "a sticky one too");
        let worse = [report(3, Severity::Warn), report(2, Severity::Error), Report::default()];
        for other in &worse {
            assert!(!holds(&plain, other, 1), "{other:?}");
            assert!(holds(&sticky, other, 1), "{other:?}");
        }
        assert!(
            !review(&plain, &Report::default(), at(1), false).is_empty(),
            "nothing is known yet"
        );
        let better = review(&plain, &report(1, Severity::Warn), at(1), true);
        assert_eq!(better["OSD_DOWN"].count, 1);
        assert!(!holds(&better, &now, 1), "it got better, and worse again");
        assert!(holds(&mutes(0, false), &now, u64::MAX), "without an end");
    }

    #[test]
    fn what_is_muted_does_not_count_and_is_shown() {
        let mut report = report(1, Severity::Error);
        let mute = of(report.checks.get("OSD_DOWN"), 50, false);
        let notes = Notes { mutes: [("OSD_DOWN".to_string(), mute)].into(), ..Notes::default() };
        report.mutes = in_force(&notes, Timestamp { secs: 20, nanos: 0 });
        assert_eq!(report.status(), Severity::Ok);
        let json = report.to_json(false);
        assert_eq!(json["checks"]["OSD_DOWN"]["muted"], true);
        assert_eq!(json["mutes"][0]["ttl_secs"], 30);
        report.mutes = in_force(&notes, Timestamp { secs: 50, nanos: 0 });
        assert_eq!(report.status(), Severity::Error, "its time is over");
    }
}
