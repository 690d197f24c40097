//! What is not well around the services: clocks, the monitor's own disk, programs of different age.

use super::commands::ReadContext;
use super::health::{Report, Severity, count};
use super::settings;
use std::cmp::Ordering;

/// A disk with this much free is not low, whatever its size: the maps of a large cluster are far smaller.
const FREE_BYTES_ENOUGH: u64 = 4 << 30;

/// A disk with this much free has no room for the next maps for long.
const FREE_BYTES_CRITICAL: u64 = 64 << 20;

/// The disk on which the monitor keeps its state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Disk {
    /// Bytes in all.
    pub total_bytes: u64,
    /// Bytes free.
    pub free_bytes: u64,
}

pub(crate) fn check(context: &ReadContext<'_>, report: &mut Report) {
    clocks(context, report);
    disk(context, report);
    versions(context, report);
}

fn clocks(context: &ReadContext<'_>, report: &mut Report) {
    let allowed = settings::span(&context.maps.config, "mon_clock_drift_allowed").as_millis();
    let up = context.maps.osd.daemons.iter().filter(|(_, info)| info.up);
    let skewed: Vec<String> = up
        .filter_map(|(id, info)| {
            let skew = context.view.daemons.get(id)?.clock.skew_millis()?;
            let way = if skew > 0 { "ahead of" } else { "behind" };
            let seconds = skew.unsigned_abs() as f64 / 1000.0;
            let line =
                format!("the clock of {id} on {} is {seconds:.1} s {way} the monitor's", info.host);
            (u128::from(skew.unsigned_abs()) > allowed).then_some(line)
        })
        .collect();
    if !skewed.is_empty() {
        report.add(
            "MON_CLOCK_SKEW",
            Severity::Warn,
            format!("{} not by the monitor's clock", count(skewed.len(), "daemon")),
            skewed,
            "The clocks of the machines are not kept together, or one was set by hand.",
            "Run chrony or another NTP client on every machine. Times of objects and signed requests depend on it, data does not.",
        );
    }
}

fn disk(context: &ReadContext<'_>, report: &mut Report) {
    let Some(disk) = context.view.own_disk.filter(|disk| disk.total_bytes > 0) else { return };
    let free = disk.free_bytes as f64 / disk.total_bytes as f64;
    let is_low = |ratio| free < settings::ratio(&context.maps.config, ratio);
    let line = format!(
        "monitor {} has {} MiB free, {:.1} % of its disk",
        context.settings.name,
        disk.free_bytes >> 20,
        free * 100.0
    );
    let cause = "Logs or other data fill the disk that holds the monitor's data directory.";
    let cure = "Make room there: without it no map can be committed, and nothing in the cluster can change.";
    if disk.free_bytes < FREE_BYTES_CRITICAL {
        let summary = "the monitor's disk is all but full".to_string();
        report.add("MON_DISK_CRIT", Severity::Error, summary, vec![line], cause, cure);
    } else if is_low("mon_data_avail_warn") && disk.free_bytes < FREE_BYTES_ENOUGH {
        let summary = "the monitor's disk is low on space".to_string();
        report.add("MON_DISK_LOW", Severity::Warn, summary, vec![line], cause, cure);
    }
}

fn versions(context: &ReadContext<'_>, report: &mut Report) {
    let own = &context.settings.version;
    let told = |details: &std::collections::BTreeMap<String, String>| {
        details.get("version").cloned().unwrap_or_default()
    };
    let daemons = context.maps.osd.daemons.iter().filter(|(_, info)| info.up);
    let daemons = daemons.map(|(id, info)| (id.to_string(), told(&info.details)));
    let services = context.maps.services.services.iter().filter(|(_, info)| info.state != "down");
    let services = services.map(|(name, info)| (name.clone(), told(&info.details)));
    let old: Vec<String> = daemons
        .chain(services)
        .filter(|(_, version)| compare(version, own) == Ordering::Less)
        .map(|(name, version)| format!("{name} runs version {version}, the monitor {own}"))
        .collect();
    if !old.is_empty() {
        report.add(
            "DAEMON_OLD_VERSION",
            Severity::Warn,
            format!("{} older than the monitor", count(old.len(), "service")),
            old,
            "An upgrade is under way, or left these out.",
            "Restart them with the new program, one after the other: `store osd ok-to-stop ID` says when.",
        );
    }
}

/// Versions by their numbers; one that says nothing of itself is not called old.
fn compare(version: &str, own: &str) -> Ordering {
    let numbers = |text: &str| -> Vec<u64> {
        let core = text.split(['-', '+', ' ']).next().unwrap_or_default();
        core.split('.').map_while(|part| part.parse().ok()).collect()
    };
    let (a, b) = (numbers(version), numbers(own));
    if a.is_empty() || b.is_empty() { Ordering::Equal } else { a.cmp(&b) }
}

/// Beats whose clock is remembered.
const SAMPLES: usize = 4;

/// How a daemon's clock differs from the monitor's. A beat that was long on its way makes a clock seem to be
/// behind, so the smallest of the last differences counts, and one alone counts for nothing.
#[derive(Clone, Debug, Default)]
pub struct Clock {
    differences: Vec<i64>,
}

impl Clock {
    /// A beat told this time when the monitor's clock showed that.
    pub fn take(&mut self, told_millis: u64, own_millis: u64) {
        let (Ok(told), Ok(own)) = (i64::try_from(told_millis), i64::try_from(own_millis)) else {
            return;
        };
        if told == 0 || own == 0 {
            return; // one of them has no clock yet
        }
        self.differences.push(told.saturating_sub(own));
        if self.differences.len() > SAMPLES {
            self.differences.remove(0);
        }
    }

    /// By how much it is ahead, if that is known.
    pub fn skew_millis(&self) -> Option<i64> {
        let smallest = self.differences.iter().copied().min_by_key(|millis| millis.unsigned_abs());
        smallest.filter(|_| self.differences.len() == SAMPLES)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_compared_by_their_numbers() {
        assert_eq!(compare("0.9.0", "0.10.0"), Ordering::Less);
        assert_eq!(compare("1.2.3-rc1", "1.2.3"), Ordering::Equal);
        assert_eq!(compare("1.3.0", "1.2.9"), Ordering::Greater);
        assert_eq!(compare("", "1.2.9"), Ordering::Equal);
        assert_eq!(compare("unknown", "1.2.9"), Ordering::Equal);
    }

    #[test]
    fn one_late_beat_is_no_skew() {
        let mut clock = Clock::default();
        for late in [0, 0, 0, 5000] {
            clock.take(1_000_000 - late, 1_000_000);
        }
        assert_eq!(clock.skew_millis(), Some(0));
        let mut clock = Clock::default();
        for late in [100, 3000, 50] {
            clock.take(1_060_000 - late, 1_000_000);
            assert_eq!(clock.skew_millis(), None, "too few to say");
        }
        clock.take(1_060_000, 1_000_000);
        assert_eq!(clock.skew_millis(), Some(57_000));
        clock.take(0, 1_000_000);
        assert_eq!(clock.skew_millis(), Some(57_000), "no clock says nothing");
    }
}
