//! What the leader has heard: volatile, lost with it, and never a ground for saying that all is well when
//! it is missing.

use super::Fault;
use super::jobs::Meter;
use super::surroundings::{Clock, Disk};
use std::collections::BTreeMap;
use std::time::Duration;
use store_base::ids::{DaemonId, Epoch, Incarnation, Interval, PgId, PoolId, Version};
use store_base::map::OsdMap;
use store_base::wire::{BeatRequest, PgReport};
use store_base::{Time, Timestamp};

/// A peer's word that a daemon is silent.
#[derive(Clone, Copy, Debug)]
pub struct Suspicion {
    /// Which life of the reporter said so.
    pub reporter: Incarnation,
    /// For how long nothing had been heard then.
    pub silent: Duration,
    /// When it was said.
    pub at: Time,
}

/// What was heard from and of a daemon's present life.
#[derive(Clone, Debug, Default)]
pub struct DaemonView {
    /// The life that this is about.
    pub incarnation: Incarnation,
    /// The last sign of life, or when this monitor began to listen.
    pub heard: Time,
    /// Whether it has beaten in this leadership.
    pub has_beaten: bool,
    /// The connection by which it beat last has ended.
    pub is_cut_off: bool,
    /// The number of the newest beat; those of a life are counted.
    pub beat_number: u64,
    /// Whether it has reported all its placement groups in this leadership, and since `report_from`.
    pub reported_all: bool,
    /// It leads groups of a daemon whose life began with this map: what it told before says nothing of that one.
    pub report_from: Epoch,
    /// Size of its medium.
    pub capacity_bytes: u64,
    /// Used of it.
    pub used_bytes: u64,
    /// Of what is used, what clients stored.
    pub stored_bytes: u64,
    /// Of what is used, what cleaning gives back.
    pub reclaimable_bytes: u64,
    /// Brought in from other daemons in this life.
    pub recovered_objects: u64,
    /// Bytes of that.
    pub recovered_bytes: u64,
    /// How its clock differs.
    pub clock: Clock,
    /// Operations that take too long now.
    pub slow_ops: u64,
    /// Reads that found damage in this life.
    pub read_errors: u64,
    /// When more of them were told than before.
    pub read_errors_at: Time,
    /// By reporter.
    pub suspicions: BTreeMap<DaemonId, Suspicion>,
    /// When it was marked down because peers could not reach it, lately.
    pub flaps: Vec<Time>,
}

impl DaemonView {
    /// Whether it was heard so lately that what it told is taken to be so still.
    pub fn is_fresh(&self, now: Time, stale: Duration) -> bool {
        self.has_beaten && !self.is_cut_off && now.since(self.heard) < stale
    }
}

/// What a primary told of a placement group.
#[derive(Clone, Debug)]
pub struct PrimaryReport {
    /// Who told.
    pub from: DaemonId,
    /// In which life.
    pub incarnation: Incarnation,
    /// By which map.
    pub epoch: Epoch,
    /// What.
    pub report: PgReport,
}

/// What was told of a placement group.
#[derive(Clone, Debug, Default)]
pub struct PgView {
    /// By the last daemon that called itself its primary.
    pub primary: Option<PrimaryReport>,
    /// The end of each one's log, with the life that told it.
    pub log_ends: BTreeMap<DaemonId, (Incarnation, Version)>,
}

/// Everything heard.
#[derive(Clone, Debug, Default)]
pub struct View {
    /// Of daemons.
    pub daemons: BTreeMap<DaemonId, DaemonView>,
    /// Of placement groups.
    pub groups: BTreeMap<PgId, PgView>,
    /// The disk of this monitor's state, if it was looked at.
    pub own_disk: Option<Disk>,
    /// How far background work has come.
    pub meters: BTreeMap<String, Meter>,
    /// **For tests only**: a planted fault.
    pub fault: Fault,
}

impl View {
    /// Nothing was heard yet; silence counts from `now`.
    pub fn new(now: Time, map: &OsdMap) -> View {
        let daemons = map.daemons.iter().map(|(id, info)| {
            let view = DaemonView {
                incarnation: info.incarnation,
                heard: now,
                capacity_bytes: info.capacity_bytes,
                ..DaemonView::default()
            };
            (*id, view)
        });
        View { daemons: daemons.collect(), ..View::default() }
    }

    /// A new life of a daemon, up from the map's next epoch on: what was said of the last one is void.
    pub fn begin_life(
        &mut self,
        map: &OsdMap,
        id: DaemonId,
        incarnation: Incarnation,
        capacity: u64,
        now: Time,
    ) {
        let primaries = map.pgs.values().filter(|record| record.members.contains(&id));
        for primary in primaries.map(|record| record.primary).filter(|primary| *primary != id) {
            let view = self.daemons.entry(primary).or_default();
            view.reported_all = false;
            view.report_from = map.epoch.next();
        }
        let view = self.daemons.entry(id).or_default();
        let flaps = std::mem::take(&mut view.flaps);
        let used_bytes = view.used_bytes;
        *view = DaemonView {
            incarnation,
            heard: now,
            capacity_bytes: capacity,
            used_bytes,
            flaps,
            ..DaemonView::default()
        };
    }

    /// Takes in a beat of a daemon whose life is the one in the map; one that comes after a newer one says
    /// nothing.
    pub fn take_beat(&mut self, map: &OsdMap, beat: &BeatRequest, now: Time) {
        let id = DaemonId(beat.daemon);
        let incarnation = Incarnation(beat.incarnation);
        let is_late =
            |view: &DaemonView| view.incarnation == incarnation && beat.number < view.beat_number;
        if self.daemons.get(&id).is_some_and(is_late) {
            return;
        }
        if beat.all_pgs {
            let told: std::collections::BTreeSet<PgId> =
                beat.pgs.iter().filter_map(pg_of).collect();
            for (pg, view) in &mut self.groups {
                if !told.contains(pg) {
                    view.log_ends.remove(&id);
                    view.primary.take_if(|report| report.from == id);
                }
            }
        }
        let epoch = Epoch(beat.epoch);
        for report in &beat.pgs {
            self.take_report(map, (id, incarnation, epoch), report);
        }
        let view = self.daemons.entry(id).or_default();
        view.incarnation = incarnation;
        view.heard = now;
        view.has_beaten = true;
        view.beat_number = beat.number;
        view.is_cut_off = false;
        view.reported_all |= beat.all_pgs && epoch >= view.report_from;
        if beat.capacity_bytes > 0 {
            view.capacity_bytes = beat.capacity_bytes;
        }
        view.used_bytes = beat.used_bytes;
        view.stored_bytes = beat.stored_bytes;
        view.reclaimable_bytes = beat.reclaimable_bytes;
        view.recovered_objects = beat.recovered_objects;
        view.recovered_bytes = beat.recovered_bytes;
        view.slow_ops = beat.slow_ops;
        if beat.read_errors > view.read_errors {
            view.read_errors_at = now;
        }
        view.read_errors = beat.read_errors;
    }

    /// A beat told the time; `wall` is this monitor's.
    pub fn take_clock(&mut self, beat: &BeatRequest, wall: Timestamp) {
        let id = DaemonId(beat.daemon);
        let fits = |view: &&mut DaemonView| view.beat_number == beat.number;
        if let Some(view) = self.daemons.get_mut(&id).filter(fits) {
            view.clock.take(beat.wall_millis, wall.millis());
        }
    }

    fn take_report(
        &mut self,
        map: &OsdMap,
        (from, life, epoch): (DaemonId, Incarnation, Epoch),
        report: &PgReport,
    ) {
        let Some(pg) = pg_of(report).filter(|pg| map.pgs.contains_key(pg)) else { return };
        let view = self.groups.entry(pg).or_default();
        let interval = u32::try_from(report.log_last_interval).unwrap_or(u32::MAX);
        let end = Version { interval: Interval(interval), counter: report.log_last };
        view.log_ends.insert(from, (life, end));
        // A report of an older interval that comes late does not hide a newer one.
        let newer =
            view.primary.as_ref().is_none_or(|known| known.report.interval <= report.interval);
        if report.primary && newer {
            let report = report.clone();
            view.primary = Some(PrimaryReport { from, incarnation: life, epoch, report });
        } else if !report.primary {
            view.primary.take_if(|known| known.from == from);
        }
    }

    /// The connection by which a daemon's life beat has ended: a crash shows so before anything else.
    pub fn disconnect(&mut self, id: DaemonId, incarnation: Incarnation) {
        let same_life = self.daemons.get_mut(&id).filter(|view| view.incarnation == incarnation);
        if let Some(view) = same_life {
            view.is_cut_off = true;
        }
    }

    /// The monitor itself stood still: nobody could be heard meanwhile.
    pub fn excuse(&mut self, gap: Duration) {
        for view in self.daemons.values_mut() {
            view.heard = view.heard + gap;
            view.suspicions.clear();
        }
    }

    /// Forgets what is not in the map any more.
    pub fn prune(&mut self, map: &OsdMap) {
        self.daemons.retain(|id, _| map.daemons.contains_key(id));
        self.groups.retain(|pg, _| map.pgs.contains_key(pg));
    }

    /// The primary's report of the interval that the record names, if it was given by the life that leads.
    pub fn current_report(&self, map: &OsdMap, pg: PgId) -> Option<&PgReport> {
        let record = map.pgs.get(&pg)?;
        let told = self.groups.get(&pg)?.primary.as_ref()?;
        let fits = told.from == record.primary
            && told.incarnation == record.primary_incarnation
            && told.report.interval == record.interval.0
            && map.is_up_as(told.from, told.incarnation);
        fits.then_some(&told.report)
    }

    /// The report from which health may be claimed: [`current_report`](Self::current_report), if its giver was
    /// heard lately, and knew of every member's present life when it was given.
    pub fn fresh_report(
        &self,
        map: &OsdMap,
        pg: PgId,
        now: Time,
        stale: Duration,
    ) -> Option<&PgReport> {
        let report = self.current_report(map, pg)?;
        let told = self.groups.get(&pg)?.primary.as_ref()?;
        let knew = |id: &DaemonId| {
            map.daemons.get(id).is_none_or(|info| !info.up || info.up_from <= told.epoch)
        };
        let heard = self.daemons.get(&told.from)?.is_fresh(now, stale);
        (heard && map.pgs.get(&pg)?.members.iter().all(knew)).then_some(report)
    }

    /// The end of a daemon's log as its present life told it.
    pub fn log_end(&self, map: &OsdMap, pg: PgId, daemon: DaemonId) -> Option<Version> {
        let (life, end) = self.groups.get(&pg)?.log_ends.get(&daemon)?;
        map.is_up_as(daemon, *life).then_some(*end)
    }
}

fn pg_of(report: &PgReport) -> Option<PgId> {
    Some(PgId { pool: PoolId(i64::try_from(report.pool).ok()?), seed: report.seed })
}
