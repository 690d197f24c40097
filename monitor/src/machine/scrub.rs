//! What daemons tallied of their copies: how many are whole, how many were looked at, and when.
//!
//! The counts are the primaries' own, of the interval in force. What no primary has reported of it is not known, and
//! what is not known is never counted as good.

use super::commands::ReadContext;
use super::health::{Report, Severity};
use super::settings;
use super::status::{PgState, pg_states};
use std::collections::BTreeMap;
use store_base::ids::{DaemonId, PgId, PoolId};
use store_base::map::OsdMap;
use store_base::wire::PgReport;
use store_base::{Time, Timestamp};

/// Orders in force at a time; the oldest must be carried out or taken back before there can be more.
pub const ORDERS_MAX: usize = 256;

/// A stamp that lies further ahead of this monitor's clock, in seconds, is no evidence of anything.
const AHEAD_MAX: u64 = 600;

/// Sums over a pool.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Audit {
    /// Objects in groups whose report counts.
    pub(crate) objects: u64,
    /// As many good copies as the pool wants.
    pub(crate) full: u64,
    /// Fewer.
    pub(crate) below: u64,
    /// In groups not all of whose copies were verified within the window.
    pub(crate) unverified: u64,
    /// Known to have a bad copy.
    pub(crate) inconsistent: u64,
    /// Of these: no copy verifies.
    pub(crate) lost: u64,
    /// Groups.
    pub(crate) pgs: u64,
    /// Groups of which nobody has told in the interval in force.
    pub(crate) pgs_unknown: u64,
    /// Objects that they had when somebody told last.
    pub(crate) unknown: u64,
    /// Since when every copy that is known of is verified; 0: not all are.
    pub(crate) verified_since: u64,
}

impl Audit {
    fn add(&mut self, report: Option<&PgReport>, last_known: u64, window: &Window) {
        let is_first = self.pgs == 0;
        self.pgs += 1;
        let Some(report) = report else {
            self.pgs_unknown += 1;
            self.unknown = self.unknown.saturating_add(last_known);
            self.verified_since = 0;
            return;
        };
        // A tally that does not add up says nothing good.
        let full = report.full_objects.min(report.objects);
        self.objects = self.objects.saturating_add(report.objects);
        self.full = self.full.saturating_add(full);
        self.below = self.below.saturating_add(report.objects - full);
        self.inconsistent = self.inconsistent.saturating_add(report.scrub_errors);
        self.lost = self.lost.saturating_add(report.lost_objects);
        let since = window.trusted(report.verified_secs);
        if since < window.from {
            self.unverified = self.unverified.saturating_add(report.objects);
        }
        self.verified_since = if is_first { since } else { self.verified_since.min(since) };
    }
}

/// The time within which every copy has to be verified.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Window {
    /// What was verified since then counts.
    pub(crate) from: u64,
    now: u64,
}

impl Window {
    pub(crate) fn of(context: &ReadContext<'_>, setting: &str) -> Window {
        let now = context.wall.secs;
        let span = settings::span(&context.maps.config, setting).as_secs();
        // Without an interval nothing goes out of date, but what was never verified is not.
        let from = if span == 0 { 1 } else { now.saturating_sub(span).max(1) };
        Window { from, now }
    }

    /// A stamp from the future is none.
    pub(crate) fn trusted(&self, stamp: u64) -> u64 {
        if stamp > self.now + AHEAD_MAX { 0 } else { stamp }
    }

    fn holds(&self, stamp: u64) -> bool {
        self.trusted(stamp) >= self.from
    }
}

/// The sums of every pool.
pub(crate) fn audit(context: &ReadContext<'_>) -> BTreeMap<PoolId, Audit> {
    let window = Window::of(context, "osd_deep_scrub_interval");
    let mut sums: BTreeMap<PoolId, Audit> = BTreeMap::new();
    for id in context.maps.osd.pools.keys() {
        sums.insert(*id, Audit::default());
    }
    for (pg, _, _, state) in pg_states(context) {
        let told = context.view.groups.get(&pg).and_then(|view| view.primary.as_ref());
        let last_known = told.map_or(0, |told| told.report.objects);
        sums.entry(pg.pool).or_default().add(state.report, last_known, &window);
    }
    sums
}

/// Orders that every group which they are for has carried out, or that are for no group.
pub(crate) fn orders_done(map: &OsdMap, report: impl Fn(PgId) -> Option<u64>) -> Vec<u64> {
    let is_done = |number: u64, pg: &PgId| report(*pg).is_some_and(|done| done >= number);
    let done = map.scrubs.iter().filter(|(number, order)| {
        let mut covered = map.pgs.keys().filter(|pg| order.scope.covers(**pg));
        covered.all(|pg| is_done(**number, pg))
    });
    done.map(|(number, _)| *number).collect()
}

/// How far scrub has come: of what is ordered and of what runs by itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Progress {
    /// Groups that are walked now.
    pub(crate) running: u64,
    /// Groups that an order is for and that have yet to begin.
    pub(crate) waiting: u64,
    /// Groups whose walk waits for a flag.
    pub(crate) paused: u64,
    /// Objects and bytes (of one copy) of all these groups, and what of them was looked at.
    pub(crate) objects: u64,
    pub(crate) objects_done: u64,
    pub(crate) bytes: u64,
    pub(crate) bytes_done: u64,
    /// When the first of the walks began, or the order was given.
    pub(crate) since: u64,
    /// Bad copies found by the walks under way, and repaired.
    pub(crate) found: u64,
    pub(crate) repaired: u64,
    /// Groups with an open order whose primary does not report.
    pub(crate) unknown: u64,
}

impl Progress {
    /// Seconds that the rest takes at the pace so far; `None` while that cannot be told.
    pub(crate) fn seconds_left(&self, now: Timestamp) -> Option<u64> {
        // Every object costs something beside its bytes, as the daemons pace it.
        let cost = |objects: u64, bytes: u64| u128::from(bytes) + u128::from(objects) * (16 << 10);
        let all = cost(self.objects, self.bytes);
        let done = cost(self.objects_done, self.bytes_done).min(all);
        let passed = u128::from(now.secs.saturating_sub(self.since));
        let is_known = done > 0 && self.unknown == 0 && self.paused == 0;
        is_known.then(|| u64::try_from(passed * (all - done) / done).unwrap_or(u64::MAX))
    }
}

pub(crate) fn progress(context: &ReadContext<'_>) -> Progress {
    let map = &context.maps.osd;
    let mut sum = Progress::default();
    for (pg, _, _, state) in pg_states(context) {
        let Some(report) = state.report else {
            sum.unknown += u64::from(map.scrub_order(pg, 0).is_some());
            continue;
        };
        let order = map.scrub_order(pg, report.scrub_order_done);
        let run = report.scrub.as_ref();
        // Done by an order that others still carry out: counted, so that the sum only grows.
        let newest = map.scrub_order(pg, 0);
        let (done_objects, done_bytes, since) = match (run, order, newest) {
            (Some(run), ..) => {
                sum.running += u64::from(state.has("scrubbing"));
                sum.paused += u64::from(run.paused);
                sum.waiting += u64::from(!state.has("scrubbing") && !run.paused);
                sum.found += run.found;
                sum.repaired += run.repaired;
                (run.objects, run.bytes, run.started_secs)
            }
            (None, Some((_, order)), _) => {
                sum.waiting += 1;
                (0, 0, order.at.secs)
            }
            (None, None, Some((_, order))) => (report.objects, report.bytes, order.at.secs),
            (None, None, None) => continue,
        };
        sum.objects += report.objects;
        sum.bytes += report.bytes;
        sum.objects_done += done_objects.min(report.objects);
        sum.bytes_done += done_bytes.min(report.bytes);
        sum.since = if sum.since == 0 { since } else { sum.since.min(since) };
    }
    sum
}

/// Whether deep scrubs that began later have read all copies that a daemon has, and nothing bad is left of it.
pub(crate) fn has_read_all(context: &ReadContext<'_>, daemon: DaemonId, since: Time) -> bool {
    let window = Window::of(context, "osd_deep_scrub_interval");
    let since = context.wall.secs.saturating_sub(context.now.since(since).as_secs());
    let states = pg_states(context);
    let mut there = states.iter().filter(|(_, _, record, _)| record.members.contains(&daemon));
    there.all(|(.., state)| {
        let is_later = |report: &PgReport| window.trusted(report.verified_secs) > since;
        state.report.is_some_and(|report| is_later(report) && report.scrub_errors == 0)
    })
}

/// What of it makes the health worse.
pub(crate) fn checks(context: &ReadContext<'_>, report: &mut Report) {
    let states = pg_states(context);
    let told = || states.iter().filter_map(|(pg, _, _, state)| Some((*pg, state.report?, state)));
    bad_copies(told(), report);
    let late = |setting: &str, stamps: fn(&PgReport) -> [u64; 2], what: &str| -> Vec<String> {
        let window = Window::of(context, setting);
        let stamp = |report: &PgReport| {
            stamps(report).map(|stamp| window.trusted(stamp)).into_iter().max().unwrap_or(0)
        };
        let late =
            told().filter(|(_, report, _)| report.objects > 0 && !window.holds(stamp(report)));
        late.map(|(pg, report, _)| match stamp(report) {
            0 => format!("{pg}: it is not known since when its copies are {what}"),
            since => format!("{pg}: its copies were {what} {} h ago", (window.now - since) / 3600),
        })
        .collect()
    };
    let cure = "It is caught up with by itself; `store scrub start --deep` begins at once. If it never is: raise osd_scrub_bytes_per_second, or unset noscrub and nodeep-scrub.";
    let deep = late("osd_deep_scrub_interval", |report| [report.verified_secs, 0], "all verified");
    if !deep.is_empty() {
        report.add(
            "PG_NOT_DEEP_SCRUBBED",
            Severity::Warn,
            format!(
                "not every copy in {} placement groups was read and verified within osd_deep_scrub_interval",
                deep.len()
            ),
            deep,
            "Scrubs were paused, are too slow for the amount of data, or a daemon was away during the last one.",
            cure,
        );
    }
    let light = late(
        "osd_scrub_interval",
        |report| [report.last_scrub_secs, report.verified_secs],
        "all compared",
    );
    if !light.is_empty() {
        report.add(
            "PG_NOT_SCRUBBED",
            Severity::Warn,
            format!("{} placement groups were not scrubbed within osd_scrub_interval", light.len()),
            light,
            "Scrubs were paused, or are too slow for the number of objects.",
            cure,
        );
    }
}

fn bad_copies<'a>(
    told: impl Iterator<Item = (PgId, &'a PgReport, &'a PgState<'a>)>,
    report: &mut Report,
) {
    let (mut bad, mut lost, mut lines, mut lost_lines) = (0u64, 0u64, Vec::new(), Vec::new());
    for (pg, one, _) in told.filter(|(_, one, _)| one.scrub_errors > 0) {
        bad = bad.saturating_add(one.scrub_errors);
        lost = lost.saturating_add(one.lost_objects);
        for line in &one.bad_objects {
            let line = format!("{pg} {line}");
            if line.contains(" is lost: ") {
                lost_lines.push(line.clone());
            }
            lines.push(line);
        }
    }
    if bad > 0 {
        report.add(
            "OSD_SCRUB_ERRORS",
            Severity::Error,
            format!("{bad} objects have bad copies"),
            lines,
            "A medium returned other bytes than were written, or a copy was lost. Clients are served from good copies.",
            "Copies are replaced by themselves and verified again. What stays: `store pg repair PG` takes the primary's copy where copies differ and no majority decides.",
        );
    }
    if lost > 0 {
        report.add(
            "OBJECT_UNFOUND",
            Severity::Error,
            format!("{lost} objects have no copy that verifies"),
            lost_lines,
            "Every copy of the newest version is damaged.",
            "Bring back a daemon that may have a good copy, or restore the object from elsewhere and write it anew.",
        );
    }
}
