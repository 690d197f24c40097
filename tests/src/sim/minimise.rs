//! The shortest schedule that still fails: parts of it are left out while the same checker complains
//! (delta debugging: Zeller and Hildebrandt, 2002).

use crate::sim::run::{Options, Verdict, run_caught};
use crate::sim::schedule::{Omitted, Schedule};

/// What came of it.
pub struct Minimal {
    /// The shortest schedule found.
    pub schedule: Schedule,
    /// How it fails.
    pub verdict: Verdict,
    /// Runs that it took.
    pub runs: u64,
}

struct Search<'a> {
    options: &'a Options,
    checker: String,
    best: Schedule,
    verdict: Verdict,
    runs: u64,
    runs_max: u64,
}

/// Shortens a failing schedule. `None` if it does not fail.
pub fn minimise(schedule: &Schedule, options: &Options, runs_max: u64) -> Option<Minimal> {
    let verdict = run_caught(schedule, options);
    let checker = verdict.checker()?.to_owned();
    let best = schedule.clone();
    let mut search = Search { options, checker, best, verdict, runs: 1, runs_max };
    search.cut_time();
    loop {
        let before = search.size();
        search.drop_steps();
        search.shrink_knobs();
        search.drop_operations();
        if search.size() >= before || search.runs >= search.runs_max {
            break;
        }
    }
    Some(Minimal { schedule: search.best, verdict: search.verdict, runs: search.runs })
}

impl Search<'_> {
    fn size(&self) -> usize {
        self.best.steps.len()
            + self.best.omitted.len()
            + self.best.setup.knobs().iter().map(|(_, value)| *value as usize).sum::<usize>()
    }

    /// Takes a candidate over if it fails in the same way.
    fn fails(&mut self, candidate: &Schedule) -> bool {
        if self.runs >= self.runs_max {
            return false;
        }
        self.runs += 1;
        let verdict = run_caught(candidate, self.options);
        let fails = verdict.checker() == Some(&self.checker);
        if fails {
            self.best = candidate.clone();
            self.verdict = verdict;
        }
        fails
    }

    /// What comes after the failure is of no use.
    fn cut_time(&mut self) {
        for share in [2, 4, 8] {
            let mut candidate = self.best.clone();
            candidate.setup.work_ms = candidate.setup.work_ms * (share - 1) / share;
            candidate.steps.retain(|step| step.at_ms < candidate.setup.work_ms);
            self.fails(&candidate);
        }
        let mut candidate = self.best.clone();
        candidate.setup.slices = 0;
        self.fails(&candidate);
    }

    fn drop_steps(&mut self) {
        let mut chunk = self.best.steps.len().div_ceil(2).max(1);
        loop {
            let mut at = 0;
            while at < self.best.steps.len() {
                let mut candidate = self.best.clone();
                let end = (at + chunk).min(candidate.steps.len());
                candidate.steps.drain(at..end);
                if !self.fails(&candidate) {
                    at += chunk;
                }
            }
            if chunk == 1 {
                break;
            }
            chunk = chunk.div_ceil(2);
        }
    }

    fn shrink_knobs(&mut self) {
        let smaller: [(&str, u64); 8] = [
            ("clients", 1),
            ("depth", 1),
            ("lists", 1),
            ("own", 1),
            ("pg_num", 1),
            ("daemons", 3),
            ("edge_clocks", 0),
            ("real_engine", 0),
        ];
        for (knob, least) in smaller {
            let now = self.best.setup.knobs().into_iter().find(|(name, _)| *name == knob);
            if now.is_some_and(|(_, now)| now > least) {
                let mut candidate = self.best.clone();
                candidate.setup.set(knob, least);
                self.fails(&candidate);
            }
        }
    }

    /// Leaves out ranges of the clients' operations, from their ends and between.
    fn drop_operations(&mut self) {
        for client in 0..self.best.setup.clients as usize {
            let begun = self.verdict.begun.get(client).copied().unwrap_or(2000);
            let mut from = 1;
            let mut chunk = begun.div_ceil(2).max(1);
            // All behind a point first: it is the largest part.
            let mut tail = begun / 2;
            while tail > 0 {
                let mut candidate = self.best.clone();
                candidate.omitted.push(Omitted { client, from: tail, to: u64::MAX });
                if !self.fails(&candidate) {
                    break;
                }
                tail /= 2;
            }
            while chunk >= begun.div_ceil(16).max(1) {
                while from <= begun {
                    let mut candidate = self.best.clone();
                    candidate.omitted.push(Omitted { client, from, to: from + chunk });
                    self.fails(&candidate);
                    from += chunk;
                }
                from = 1;
                chunk /= 2;
                if chunk == 0 {
                    break;
                }
            }
        }
    }
}
