//! What all clients did and saw, and the samples from which availability is told.

use crate::register::{Act, Step, Verdict, check};
use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;
use store_base::Time;
use store_tests::sim::check::history as lists;
use store_tests::sim::workload::{Kind, Operation};

/// What clients write into, and are told by that it is over.
pub(crate) struct Book {
    origin: Instant,
    values: AtomicU64,
    stopping: AtomicBool,
    damaged: AtomicBool,
    pages: Mutex<Pages>,
}

#[derive(Default)]
struct Pages {
    steps: Vec<Step>,
    shared: Vec<Operation>,
    samples: Vec<Sample>,
    wrong: Vec<String>,
}

/// One answered or given up operation.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sample {
    /// Nanoseconds since the run began.
    pub(crate) began: u64,
    pub(crate) ended: u64,
    pub(crate) class: Class,
    pub(crate) answered: bool,
}

/// Kinds of operations that are counted by themselves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Class {
    ObjectRead,
    ObjectWrite,
    S3Read,
    S3Write,
}

impl Class {
    pub(crate) const ALL: [(Class, &str); 4] = [
        (Class::ObjectRead, "object reads"),
        (Class::ObjectWrite, "object writes"),
        (Class::S3Read, "S3 reads"),
        (Class::S3Write, "S3 writes"),
    ];
}

/// An operation under way.
pub(crate) struct Open {
    pub(crate) began: u64,
    class: Class,
}

impl Book {
    /// A book whose values begin there.
    pub(crate) fn new(first: u64) -> Book {
        Book {
            origin: Instant::now(),
            values: AtomicU64::new(first),
            stopping: AtomicBool::new(false),
            damaged: AtomicBool::new(false),
            pages: Mutex::new(Pages::default()),
        }
    }

    /// Nanoseconds since the run began.
    pub(crate) fn now(&self) -> u64 {
        self.origin.elapsed().as_nanos() as u64
    }

    /// A value that nobody wrote before.
    pub(crate) fn value(&self) -> u64 {
        self.values.fetch_add(1, Ordering::Relaxed)
    }

    pub(crate) fn stop(&self) {
        self.stopping.store(true, Ordering::Relaxed);
    }

    /// Copies were damaged: while others are away, a read may have to say so.
    pub(crate) fn damage(&self) {
        self.damaged.store(true, Ordering::Relaxed);
    }

    /// All is mended: from now on every read must succeed.
    pub(crate) fn mended(&self) {
        self.damaged.store(false, Ordering::Relaxed);
    }

    pub(crate) fn may_be_damaged(&self) -> bool {
        self.damaged.load(Ordering::Relaxed)
    }

    pub(crate) fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Relaxed)
    }

    fn pages(&self) -> std::sync::MutexGuard<'_, Pages> {
        self.pages.lock().expect("no holder of this lock panics")
    }

    pub(crate) fn begin(&self, class: Class) -> Open {
        Open { began: self.now(), class }
    }

    /// The time of the answer.
    pub(crate) fn end(&self, open: &Open, answered: bool) -> u64 {
        let ended = self.now();
        let sample = Sample { began: open.began, ended, class: open.class, answered };
        self.pages().samples.push(sample);
        ended
    }

    pub(crate) fn step(&self, step: Step) {
        self.pages().steps.push(step);
    }

    /// This was written before the book began.
    pub(crate) fn was_written(&self, key: &str, value: u64) {
        let key = key.to_string();
        self.step(Step { key, act: Act::Put(value), began: 0, ended: Some(0), client: 0 });
    }

    /// The next value that nobody has.
    pub(crate) fn next_value(&self) -> u64 {
        self.values.load(Ordering::Relaxed)
    }

    /// An operation on a list or a chain.
    pub(crate) fn shared(&self, object: &str, kind: Kind, began: u64, ended: Option<u64>) {
        let (began, ended) = (Time(began), ended.map(Time));
        self.pages().shared.push(Operation { object: object.to_string(), kind, began, ended });
    }

    /// A broken promise that needs no history to be seen.
    pub(crate) fn wrong(&self, what: String) {
        self.pages().wrong.push(what);
    }

    pub(crate) fn samples(&self) -> Vec<Sample> {
        self.pages().samples.clone()
    }

    /// How many operations there were, and how many of them with an unknown outcome.
    pub(crate) fn counts(&self) -> (usize, usize) {
        let pages = self.pages();
        let unknown = pages.steps.iter().filter(|step| step.ended.is_none()).count()
            + pages.shared.iter().filter(|operation| operation.ended.is_none()).count();
        (pages.steps.len() + pages.shared.len(), unknown)
    }

    /// Everything that is wrong with the history.
    pub(crate) fn judge(&self) -> Vec<String> {
        let pages = self.pages();
        let mut wrong = pages.wrong.clone();
        wrong.extend(lists::check(&pages.shared));
        let mut by_key: BTreeMap<&str, Vec<&Step>> = BTreeMap::new();
        for step in &pages.steps {
            by_key.entry(&step.key).or_default().push(step);
        }
        for (key, steps) in by_key {
            match check(&steps) {
                Verdict::Linearizable => {}
                Verdict::Broken { at } => wrong.push(format!(
                    "{key}: no order of its {} operations explains what clients saw, from {:.6} s on",
                    steps.len(),
                    at as f64 / 1e9
                )),
                Verdict::Undecided => wrong.push(format!(
                    "{key}: its {} operations are too tangled to be judged",
                    steps.len()
                )),
            }
        }
        wrong
    }

    /// Every operation, one line each, for who looks for the reason.
    pub(crate) fn lines(&self) -> String {
        let pages = self.pages();
        let mut lines = String::new();
        let mut steps: Vec<&Step> = pages.steps.iter().collect();
        steps.sort_by(|a, b| (&a.key, a.began).cmp(&(&b.key, b.began)));
        for step in steps {
            lines.push_str(&format!(
                "{} {:?} {} {} client {}\n",
                step.key,
                step.act,
                seconds(Some(step.began)),
                seconds(step.ended),
                step.client
            ));
        }
        for operation in &pages.shared {
            let (began, ended) = (operation.began.0, operation.ended.map(|ended| ended.0));
            lines.push_str(&format!(
                "{} {:x?} {} {}\n",
                operation.object,
                operation.kind,
                seconds(Some(began)),
                seconds(ended)
            ));
        }
        lines
    }
}

fn seconds(nanos: Option<u64>) -> String {
    nanos.map_or_else(|| "?".to_string(), |nanos| format!("{:.6}", nanos as f64 / 1e9))
}
