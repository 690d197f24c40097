//! The settings that can be changed at run time, with what they mean. `config set` accepts these and nothing
//! else; services read them from the config map.

use serde::Serialize;
use std::time::Duration;
use store_base::config::TimeSpan;
use store_base::map::ConfigMap;

/// What values a setting takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// `true` or `false`.
    Bool,
    /// A whole number.
    Integer,
    /// A number from 0 to 1.
    Ratio,
    /// A time span: a number of seconds, or with a unit, as `10m`.
    Span,
}

/// A setting.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Setting {
    /// Ceph's name where Ceph has it.
    pub name: &'static str,
    /// What it takes.
    #[serde(rename = "type")]
    pub kind: Kind,
    /// If nobody sets it.
    pub default: &'static str,
    /// Smallest whole number or span in seconds.
    pub min: u64,
    /// Largest.
    pub max: u64,
    /// Who reads it.
    pub roles: &'static [&'static str],
    /// What it does.
    pub desc: &'static str,
}

const fn setting(
    name: &'static str,
    kind: Kind,
    default: &'static str,
    range: (u64, u64),
    roles: &'static [&'static str],
    desc: &'static str,
) -> Setting {
    Setting { name, kind, default, min: range.0, max: range.1, roles, desc }
}

const YEAR: u64 = 365 * 24 * 3600;

/// Every setting, by name. Each is read by the roles that it names: what nobody reads has no place here.
#[rustfmt::skip]
pub const SETTINGS: &[Setting] = &[
    setting("mon_balancer", Kind::Bool, "true", (0, 0), &["monitor"],
        "Exceptions to CRUSH keep daemons near their share, with few moves; `store balancer off` sets it too."),
    setting("mon_balancer_moves_max", Kind::Integer, "8", (1, 10_000), &["monitor"],
        "Copies that the balancer moves at a time; what a change moves is not held back by it."),
    setting("mon_clock_drift_allowed", Kind::Span, "1", (0, 3600), &["monitor"],
        "A daemon whose clock differs more from the monitor's makes the health say so."),
    setting("mon_data_avail_warn", Kind::Ratio, "0.1", (0, 0), &["monitor"],
        "A monitor's disk with a smaller share free, and less than 4 GiB, makes the health say so."),
    setting("mon_max_pg_per_osd", Kind::Integer, "400", (1, 10_000), &["monitor"],
        "A pool is refused if it would give a daemon more placement groups than this."),
    setting("mon_osd_auto_mark_new_in", Kind::Bool, "true", (0, 0), &["monitor"],
        "A new daemon takes data at once; otherwise after `osd in`."),
    setting("mon_osd_backfillfull_ratio", Kind::Ratio, "0.90", (0, 0), &["monitor", "daemon"],
        "A daemon that is fuller takes no backfill."),
    setting("mon_osd_damage_warn_interval", Kind::Span, "24h", (0, YEAR), &["monitor"],
        "For how long the health tells of damage that a daemon found, if it finds no more; 0: not at all."),
    setting("mon_osd_down_out_interval", Kind::Span, "10m", (0, YEAR), &["monitor"],
        "A daemon that is down for this long is taken out and its data moves; 0 for never."),
    setting("mon_osd_full_ratio", Kind::Ratio, "0.95", (0, 0), &["monitor", "daemon"],
        "A daemon that is fuller stops writes; deletes still go."),
    setting("mon_osd_min_in_ratio", Kind::Ratio, "0.5", (0, 0), &["monitor"],
        "No daemon is taken out by itself if fewer than this share would be in then."),
    setting("mon_osd_nearfull_ratio", Kind::Ratio, "0.85", (0, 0), &["monitor"],
        "A daemon that is fuller makes the health say so."),
    setting("mon_osd_report_timeout", Kind::Span, "15", (2, 3600), &["monitor"],
        "A daemon that the monitor does not hear for this long is down, whatever its peers say."),
    setting("mon_service_timeout", Kind::Span, "15", (2, 3600), &["monitor"],
        "A gateway or metadata service that is not heard for this long is down."),
    setting("osd_deep_scrub_interval", Kind::Span, "168h", (0, YEAR), &["monitor", "daemon"],
        "Within this time every copy of every object is read and verified; 0: only when asked for."),
    setting("osd_heartbeat_grace", Kind::Span, "4", (1, 3600), &["monitor", "daemon"],
        "Peers that hear nothing of a daemon for this long report it."),
    setting("osd_max_backfills", Kind::Integer, "4", (1, 64), &["daemon"],
        "Placement groups that one daemon copies at a time."),
    setting("osd_pool_default_min_size", Kind::Integer, "0", (0, 16), &["monitor"],
        "Copies without which a new pool commits nothing; 0: half of its size, rounded down, and one."),
    setting("osd_pool_default_pg_num", Kind::Integer, "0", (0, 65_536), &["monitor"],
        "Placement groups of a new pool; 0: by the number of daemons."),
    setting("osd_pool_default_size", Kind::Integer, "3", (1, 16), &["monitor"],
        "Copies in a new pool."),
    setting("osd_recovery_bytes_min", Kind::Integer, "1048576", (0, 1 << 40), &["daemon"],
        "Bytes per second that recovery may take of a daemon however busy clients are."),
    setting("osd_recovery_share", Kind::Integer, "20", (1, 90), &["daemon"],
        "Per cent of a daemon's work that recovery may take while clients are served; idle daemons give all."),
    setting("osd_scrub_bytes_per_second", Kind::Integer, "67108864", (0, 1 << 40), &["daemon"],
        "What a daemon reads of each copy to verify it, while it is idle; a quarter while it is busy. 0: no limit."),
    setting("osd_scrub_interval", Kind::Span, "24h", (0, YEAR), &["monitor", "daemon"],
        "Within this time the copies of every placement group are compared; 0: only when asked for."),
];

/// A setting by name.
pub fn find(name: &str) -> Option<&'static Setting> {
    SETTINGS.iter().find(|setting| setting.name == name)
}

/// The value as it is kept, or why it does not fit.
pub fn check(setting: &Setting, text: &str) -> Result<String, String> {
    let wrong = |what: &str| Err(format!("{} cannot be {text:?}: {what}", setting.name));
    let in_range = |value: u64| (setting.min..=setting.max).contains(&value);
    match setting.kind {
        Kind::Bool => match text.to_lowercase().as_str() {
            "true" | "yes" | "on" | "1" => Ok("true".to_string()),
            "false" | "no" | "off" | "0" => Ok("false".to_string()),
            _ => wrong("it must be true or false"),
        },
        Kind::Integer => match text.parse::<u64>() {
            Ok(value) if in_range(value) => Ok(value.to_string()),
            _ => {
                wrong(&format!("it must be a whole number from {} to {}", setting.min, setting.max))
            }
        },
        Kind::Ratio => match text.parse::<f64>() {
            Ok(value) if (0.0..=1.0).contains(&value) => Ok(text.to_string()),
            _ => wrong("it must be a number from 0 to 1"),
        },
        Kind::Span => match parse_span(text) {
            Some(span) if in_range(span.as_secs()) => Ok(text.to_string()),
            Some(_) => wrong(&format!("it must be {} to {} seconds", setting.min, setting.max)),
            None => wrong("it must be a time span, as 90, 10m or 2h"),
        },
    }
}

fn parse_span(text: &str) -> Option<Duration> {
    let bare = text.parse::<f64>().ok().filter(|secs| secs.is_finite() && *secs >= 0.0);
    bare.and_then(|secs| Duration::try_from_secs_f64(secs).ok())
        .or_else(|| text.parse::<TimeSpan>().ok().map(|span| span.0))
}

fn value<'a>(config: &'a ConfigMap, name: &str) -> &'a str {
    let setting = find(name).expect("the machine reads settings of its own table");
    config.value("monitor", "", name).unwrap_or(setting.default)
}

fn fallback(name: &str) -> &'static str {
    find(name).map_or("0", |setting| setting.default)
}

/// A setting of kind span, as the monitor sees it.
pub(crate) fn span(config: &ConfigMap, name: &str) -> Duration {
    // What is stored was checked; a damaged text falls back to the default.
    parse_span(value(config, name)).or_else(|| parse_span(fallback(name))).unwrap_or_default()
}

/// A setting of kind ratio.
pub(crate) fn ratio(config: &ConfigMap, name: &str) -> f64 {
    value(config, name).parse().or_else(|_| fallback(name).parse()).unwrap_or(1.0)
}

/// A setting of kind integer.
pub(crate) fn integer(config: &ConfigMap, name: &str) -> u64 {
    value(config, name).parse().or_else(|_| fallback(name).parse()).unwrap_or(0)
}

/// A setting of kind bool.
pub(crate) fn flag(config: &ConfigMap, name: &str) -> bool {
    value(config, name) == "true"
}
