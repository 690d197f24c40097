//! Settings made at run time (`store config set`), as the machine takes them.

use crate::machine::Config;
use std::time::Duration;
use store_base::config::TimeSpan;
use store_base::map::ConfigMap;

/// The machine's settings with those of the config map laid over the defaults. A value that cannot be read
/// leaves the default, and a warning.
pub(crate) fn apply(defaults: &Config, map: &ConfigMap, name: &str) -> Config {
    let mut config = defaults.clone();
    let value = |key: &str| map.value(crate::config::ROLE, name, key);
    if let Some(grace) = read(value("osd_heartbeat_grace"), "osd_heartbeat_grace", span) {
        config.heartbeat_grace = grace;
    }
    if let Some(ratio) = read(value("mon_osd_full_ratio"), "mon_osd_full_ratio", ratio) {
        config.full_permille = permille(ratio);
    }
    let key = "mon_osd_backfillfull_ratio";
    if let Some(ratio) = read(value(key), key, ratio) {
        config.backfill_full_permille = permille(ratio);
    }
    for (key, to) in [
        ("osd_scrub_interval", &mut config.scrub.interval),
        ("osd_deep_scrub_interval", &mut config.scrub.deep_interval),
    ] {
        if let Some(interval) = read(value(key), key, span) {
            *to = interval;
        }
    }
    let key = "osd_scrub_bytes_per_second";
    if let Some(rate) = read(value(key), key, |text| text.parse().ok()) {
        config.scrub.bytes_per_second = rate;
    }
    let number = |text: &str| text.parse::<usize>().ok().filter(|count| (1..=64).contains(count));
    if let Some(count) = read(value("osd_max_backfills"), "osd_max_backfills", number) {
        // Copies that come in; what goes out in the default's proportion to it.
        let per = |of: usize| (of * count).div_ceil(BACKFILLS_DEFAULT);
        config.pulls_max = per(defaults.pulls_max);
        config.pushes_max = per(defaults.pushes_max);
        config.pushes_busy_max = per(defaults.pushes_busy_max);
    }
    let percent = |text: &str| text.parse::<u64>().ok().filter(|share| (1..=90).contains(share));
    if let Some(share) = read(value("osd_recovery_share"), "osd_recovery_share", percent) {
        config.recovery_share_percent = share;
    }
    let key = "osd_recovery_bytes_min";
    if let Some(bytes) = read(value(key), key, |text| text.parse::<u64>().ok()) {
        config.recovery_bytes_min = bytes;
    }
    config
}

/// The value of `osd_max_backfills` that stands for the machine's own defaults.
const BACKFILLS_DEFAULT: usize = 4;

fn read<T>(text: Option<&str>, key: &str, parse: impl Fn(&str) -> Option<T>) -> Option<T> {
    let text = text?;
    let value = parse(text);
    if value.is_none() {
        tracing::warn!(key, text, "a setting cannot be read: its default stays");
    }
    value
}

fn span(text: &str) -> Option<Duration> {
    let bare = text.parse::<f64>().ok().and_then(|secs| Duration::try_from_secs_f64(secs).ok());
    bare.or_else(|| text.parse::<TimeSpan>().ok().map(|span| span.0))
}

fn ratio(text: &str) -> Option<f64> {
    text.parse::<f64>().ok().filter(|ratio| (0.0..=1.0).contains(ratio))
}

fn permille(ratio: f64) -> u64 {
    (ratio * 1000.0).round() as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    fn map(section: &str, pairs: &[(&str, &str)]) -> ConfigMap {
        let pairs = pairs.iter().map(|(key, value)| (key.to_string(), value.to_string())).collect();
        ConfigMap {
            sections: BTreeMap::from([(section.to_string(), pairs)]),
            ..ConfigMap::default()
        }
    }

    #[test]
    fn settings_are_laid_over_the_defaults() {
        let defaults = Config::default();
        assert_eq!(apply(&defaults, &ConfigMap::default(), "1"), defaults);
        let set = map(
            "daemon",
            &[
                ("osd_max_backfills", "8"),
                ("osd_recovery_share", "50"),
                ("osd_recovery_bytes_min", "1000"),
                ("osd_heartbeat_grace", "5"),
                ("mon_osd_full_ratio", "0.8"),
                ("mon_osd_backfillfull_ratio", "0.57"),
                ("osd_deep_scrub_interval", "2h"),
                ("osd_scrub_bytes_per_second", "1000"),
            ],
        );
        let config = apply(&defaults, &set, "1");
        assert_eq!(config.pulls_max, 2 * defaults.pulls_max);
        assert_eq!((config.recovery_share_percent, config.recovery_bytes_min), (50, 1000));
        assert_eq!(config.heartbeat_grace, Duration::from_secs(5));
        assert_eq!((config.full_permille, config.backfill_full_permille), (800, 570));
        assert_eq!(config.scrub.deep_interval, Duration::from_secs(7200));
        assert_eq!(config.scrub.bytes_per_second, 1000);
        let junk = map("daemon.1", &[("osd_max_backfills", "none"), ("osd_heartbeat_grace", "-1")]);
        assert_eq!(apply(&defaults, &junk, "1"), defaults);
        assert_eq!(apply(&defaults, &set, "2").full_permille, 800, "every daemon");
    }
}
