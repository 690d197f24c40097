//! Background work: what is under way, how far it has come, how long it will take.
//!
//! What is left comes from the reports of primaries: copies that are to be made yet, at the mean size of the
//! group's objects. What is done is what was left before and is not any more, while this monitor has led. A
//! group that is not reported is counted as such, never as done.

use super::commands::{ReadContext, time};
use super::pools;
use super::scrub;
use super::settings;
use super::status::{PgState, pg_states};
use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;
use store_base::Time;
use store_base::ids::{DaemonId, PgId};
use store_base::map::{PgRecord, Pool};

/// Over how long a rate is taken.
const WINDOW: Duration = Duration::from_secs(30);

/// Samples of one meter: one a second.
const SAMPLES_MAX: usize = 32;

/// An amount of work.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Amount {
    /// Placement groups.
    pub pgs: u64,
    /// Copies of objects.
    pub objects: u64,
    /// Bytes.
    pub bytes: u64,
}

impl Amount {
    fn add(&mut self, other: Amount) {
        self.pgs = self.pgs.saturating_add(other.pgs);
        self.objects = self.objects.saturating_add(other.objects);
        self.bytes = self.bytes.saturating_add(other.bytes);
    }
}

/// A job as it is now.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Work {
    /// "recovery", "drain", …
    pub(crate) kind: &'static str,
    /// For people.
    pub(crate) what: String,
    /// "running", "paused", "toofull", "done".
    pub(crate) state: &'static str,
    /// What is still to be done.
    pub(crate) left: Amount,
}

/// How far a job has come.
#[derive(Clone, Debug, Default)]
pub struct Meter {
    began: Time,
    left: Amount,
    done: Amount,
    samples: VecDeque<(Time, Amount)>,
}

impl Meter {
    fn take(&mut self, left: Amount, now: Time) {
        let step = |before: u64, left: u64, done: &mut u64| {
            *done = done.saturating_add(before.saturating_sub(left));
        };
        step(self.left.pgs, left.pgs, &mut self.done.pgs);
        step(self.left.objects, left.objects, &mut self.done.objects);
        step(self.left.bytes, left.bytes, &mut self.done.bytes);
        self.left = left;
        self.samples.push_back((now, self.done));
        let is_old = |(at, _): &(Time, Amount)| now.since(*at) > WINDOW;
        while self.samples.len() > SAMPLES_MAX || self.samples.front().is_some_and(is_old) {
            self.samples.pop_front();
        }
    }

    /// Objects and bytes a second, lately.
    fn rates(&self) -> Option<(f64, f64)> {
        let (first, last) = (self.samples.front()?, self.samples.back()?);
        let seconds = last.0.since(first.0).as_secs_f64();
        let rate = |a: u64, b: u64| b.saturating_sub(a) as f64 / seconds;
        (seconds > 0.0)
            .then(|| (rate(first.1.objects, last.1.objects), rate(first.1.bytes, last.1.bytes)))
    }
}

/// Takes in what is left now. A job that is not there any more is forgotten.
pub(crate) fn measure(
    meters: &mut BTreeMap<String, Meter>,
    work: &BTreeMap<String, Work>,
    now: Time,
) {
    meters.retain(|id, _| work.contains_key(id));
    for (id, job) in work {
        let fresh = || Meter { began: now, left: job.left, ..Meter::default() };
        meters.entry(id.clone()).or_insert_with(fresh).take(job.left, now);
    }
}

/// All that is under way, by the job's name.
pub(crate) fn work(context: &ReadContext<'_>) -> BTreeMap<String, Work> {
    let mut work = BTreeMap::new();
    for id in context.maps.notes.drains.keys() {
        let what = format!("emptying {id}");
        work.insert(
            id_of_drain(*id),
            Work { kind: "drain", what, state: "done", ..Work::default() },
        );
    }
    for (pg, pool, record, state) in &pg_states(context) {
        let one = Group { context, pg: *pg, pool, record, state };
        if let Some((id, kind, what, left)) = one.job() {
            let fresh = || Work { kind, what: what.to_string(), ..Work::default() };
            let job = work.entry(id).or_insert_with(fresh);
            job.left.add(left);
            job.state = one.state_of(kind, job.state);
        }
    }
    work.extend(scrub_work(context));
    work
}

/// Walks that are under way or ordered, as one job.
fn scrub_work(context: &ReadContext<'_>) -> Option<(String, Work)> {
    let progress = scrub::progress(context);
    let pgs = progress.running + progress.waiting + progress.paused;
    let job = Work {
        kind: "scrub",
        what: "reading copies and comparing them".into(),
        state: if progress.paused == pgs { "paused" } else { "running" },
        left: Amount {
            pgs,
            objects: progress.objects.saturating_sub(progress.objects_done),
            bytes: progress.bytes.saturating_sub(progress.bytes_done),
        },
    };
    (pgs > 0).then(|| ("scrub".to_string(), job))
}

fn id_of_drain(id: DaemonId) -> String {
    format!("drain.{}", id.0)
}

/// A placement group with work to do.
struct Group<'a> {
    context: &'a ReadContext<'a>,
    pg: PgId,
    pool: &'a Pool,
    record: &'a PgRecord,
    state: &'a PgState<'a>,
}

impl Group<'_> {
    fn job(&self) -> Option<(String, &'static str, &'static str, Amount)> {
        let report = self.state.report?;
        let map = &self.context.maps.osd;
        let up = self.record.members.iter().filter(|member| map.is_up(**member)).count();
        let (objects, bytes) = (report.objects, report.bytes);
        let amount = |copies: u64| Amount {
            pgs: 1,
            objects: copies,
            bytes: (u128::from(bytes) * u128::from(copies))
                .checked_div(u128::from(objects))
                .map_or(0, |bytes| u64::try_from(bytes).unwrap_or(u64::MAX)),
        };
        if up < usize::from(self.pool.size) {
            let (kind, what) = match self.state.has("backfilling") {
                true => ("backfill", "making up lost copies, by comparing everything"),
                false => ("recovery", "making up lost copies"),
            };
            return Some((kind.to_string(), kind, what, amount(report.missing)));
        }
        let target = self.context.targets.of(self.pg);
        let coming = target.iter().filter(|id| !self.record.members.contains(id)).count();
        if coming == 0 && self.record.learners.is_empty() {
            return None;
        }
        let not_begun = coming.saturating_sub(self.record.learners.len()) as u64;
        let left = amount(report.missing.saturating_add(not_begun.saturating_mul(objects)));
        let drains = &self.context.maps.notes.drains;
        match self.record.members.iter().find(|member| drains.contains_key(member)) {
            Some(member) => Some((id_of_drain(*member), "drain", "", left)),
            None => Some((
                "rebalance".to_string(),
                "rebalance",
                "moving data to where it belongs",
                left,
            )),
        }
    }

    /// What holds the work back, if something does. `before` is what other groups of the job said.
    fn state_of(&self, kind: &str, before: &'static str) -> &'static str {
        let flags = self.context.maps.osd.flags;
        let is_paused = match kind {
            "recovery" => flags.norecover,
            "backfill" => flags.nobackfill,
            _ => flags.norebalance,
        };
        let is_stuck = self.record.learners.iter().any(|id| is_too_full(self.context, *id));
        match (is_paused, is_stuck) {
            (true, _) => "paused",
            (false, true) if before != "running" => "toofull",
            _ => "running",
        }
    }
}

/// Whether a daemon takes no copies for want of room.
pub(crate) fn is_too_full(context: &ReadContext<'_>, id: DaemonId) -> bool {
    let limit = settings::ratio(&context.maps.config, "mon_osd_backfillfull_ratio");
    pools::fullness(context.view, id).is_some_and(|used| used >= limit)
}

/// `job ls`.
pub(crate) fn list(context: &ReadContext<'_>) -> Value {
    let jobs = work(context).into_iter().map(|(id, job)| describe(context, &id, &job));
    let jobs: Vec<Value> = jobs.collect();
    let unreported = pg_states(context).iter().filter(|(.., state)| state.has("unknown")).count();
    json!({"jobs": jobs, "pgs_unreported": unreported})
}

fn describe(context: &ReadContext<'_>, id: &str, job: &Work) -> Value {
    let fresh = Meter { began: context.now, left: job.left, ..Meter::default() };
    let meter = context.view.meters.get(id).unwrap_or(&fresh);
    let (done, left) = (meter.done, job.left);
    let rates = meter.rates();
    let (objects_rate, bytes_rate) = rates.unwrap_or_default();
    let seconds_left = match (left.objects, objects_rate, bytes_rate) {
        (0, ..) => Some(0.0),
        (_, _, rate) if rate > 0.0 && left.bytes > 0 => Some(left.bytes as f64 / rate),
        (_, rate, _) if rate > 0.0 => Some(left.objects as f64 / rate),
        _ => None,
    };
    let total = |of: fn(&Amount) -> u64| of(&done).saturating_add(of(&left));
    let objects = total(|amount| amount.objects);
    let progress = match objects {
        0 => f64::from(u8::from(left.pgs == 0)),
        total => done.objects as f64 / total as f64,
    };
    let ran = context.now.since(meter.began).as_secs();
    let began = context.wall.secs.saturating_sub(ran);
    json!({
        "id": id,
        "kind": job.kind,
        "what": job.what,
        "state": job.state,
        "pgs_left": left.pgs,
        "objects_done": done.objects,
        "objects_total": objects,
        "bytes_done": done.bytes,
        "bytes_total": total(|amount| amount.bytes),
        "objects_per_second": rates.map(|_| objects_rate),
        "bytes_per_second": rates.map(|_| bytes_rate),
        "seconds_left": seconds_left,
        "progress": progress,
        "since": time(store_base::Timestamp { secs: began, nanos: 0 }),
    })
}

/// As Ceph's `status` has them.
pub(crate) fn progress_events(context: &ReadContext<'_>) -> Value {
    let events =
        work(context).into_iter().filter(|(_, job)| job.state != "done").map(|(id, job)| {
            let full = describe(context, &id, &job);
            let event = json!({
                "message": job.what,
                "state": job.state,
                "progress": full["progress"],
                "bytes_per_second": full["bytes_per_second"],
                "seconds_left": full["seconds_left"],
            });
            (id, event)
        });
    Value::Object(events.collect::<Map<String, Value>>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_left_and_is_not_any_more_is_done() {
        let at = |secs: u64| Time(secs * 1_000_000_000);
        let left = |objects| Amount { pgs: 1, objects, bytes: objects * 10 };
        let mut meters = BTreeMap::new();
        let mut take = |objects, secs| {
            let job = Work { kind: "recovery", left: left(objects), ..Work::default() };
            measure(&mut meters, &BTreeMap::from([("recovery".to_string(), job)]), at(secs));
            let meter = &meters["recovery"];
            (meter.done.objects, meter.left.objects, meter.rates())
        };
        assert_eq!(take(100, 1), (0, 100, None));
        assert_eq!(take(80, 3), (20, 80, Some((10.0, 100.0))));
        assert_eq!(take(90, 4).0, 20, "more to do is not less done");
        assert_eq!(take(0, 5), (110, 0, Some((27.5, 275.0))));
        for second in 6..120 {
            take(0, second);
        }
        assert_eq!(take(0, 120).2, Some((0.0, 0.0)), "of late");
        measure(&mut meters, &BTreeMap::new(), at(121));
        assert!(meters.is_empty());
    }
}
