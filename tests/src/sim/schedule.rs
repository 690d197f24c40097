//! What a run is, as data: a seed, a setup, and a list of steps that are done to the cluster.
//!
//! Every step stands for itself: it names an [`Element`](crate::sim::element::Element), a time, and numbers
//! that the element takes modulo whatever is there at that time. So a schedule with any steps left out is a
//! schedule too, and the minimiser may leave out what it likes.
//!
//! As text (`store-sim --schedule FILE`), one thing per line; `#` begins a comment:
//!
//! ```text
//! seed 17
//! set daemons 4
//! omit 1 20 90
//! 1234 crash 2
//! ```
//!
//! | line | |
//! |---|---|
//! | `seed N` | chance of the network, the disks and the clients |
//! | `set KNOB N` | a knob of the [`Setup`]; those not named are drawn from the seed |
//! | `omit CLIENT FROM TO` | the client leaves out its operations FROM (included) to TO (excluded) |
//! | `MILLISECONDS NAME NUMBERS…` | a step; the time counts from when clients begin to work |

use crate::sim::element;
use crate::sim::random::Random;
use std::fmt::Write as _;

/// One thing that is done to the cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// Milliseconds after clients have begun to work.
    pub at_ms: u64,
    /// Which element.
    pub name: &'static str,
    /// Taken modulo what is there.
    pub numbers: Vec<u64>,
}

/// A step of an element at a time.
pub fn step(at_ms: u64, name: &'static str, numbers: &[u64]) -> Step {
    Step { at_ms, name, numbers: numbers.to_vec() }
}

/// A range of operations that a client leaves out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Omitted {
    /// Which client.
    pub client: usize,
    /// The first operation left out; they are counted from 1.
    pub from: u64,
    /// The first behind it that is done again.
    pub to: u64,
}

macro_rules! knobs {
    ($($(#[$doc:meta])* $knob:ident: $draw:expr;)*) => {
        /// What a cluster is like. Each knob is drawn from the seed and its own name, so a new one changes
        /// no other.
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub struct Setup { $($(#[$doc])* pub $knob: u64,)* }

        impl Setup {
            /// The setup of a seed.
            pub fn draw(seed: u64) -> Setup {
                fn with(seed: u64, name: &str, draw: impl Fn(&mut Random) -> u64) -> u64 {
                    draw(&mut Random::named(seed, name))
                }
                Setup { $($knob: with(seed, stringify!($knob), $draw),)* }
            }

            /// Sets a knob by name; whether there is such a one.
            pub fn set(&mut self, name: &str, value: u64) -> bool {
                match name {
                    $(stringify!($knob) => self.$knob = value,)*
                    _ => return false,
                }
                true
            }

            /// All knobs.
            pub fn knobs(&self) -> Vec<(&'static str, u64)> {
                vec![$((stringify!($knob), self.$knob),)*]
            }
        }
    };
}

knobs! {
    /// Daemons.
    daemons: |random| 3 + random.below(4);
    /// Clients.
    clients: |random| 2 + random.below(2);
    /// Operations that each client has under way at most.
    depth: |random| 1 + random.below(5);
    /// Lists, and chains, that all clients share.
    lists: |random| 1 + random.below(4);
    /// Objects that each client has for itself.
    own: |random| if random.chance(700) { 3 } else { 20 + random.below(40) };
    /// What the pool keeps: 0 copies, 1 to 3 slots, 2 + 1, 2 + 2 or 4 + 2 as far as there are daemons.
    slots: |random| if random.chance(400) { 1 + random.below(3) } else { 0 };
    /// Slots beyond k without which nothing is written.
    slots_spare: |random| random.below(3).min(1);
    /// Milliseconds that a client pauses between operations at most.
    pause_ms: |random| if random.chance(700) { 20 } else { 200 };
    /// Placement groups.
    pg_num: |random| 1 + random.below(6);
    /// Milliseconds during which clients work and steps are done.
    work_ms: |random| 10_000 + random.below(50_000);
    /// 1: the real engine on a disk that loses, tears and reorders; 0: the reference engine in memory.
    real_engine: |random| u64::from(random.chance(250));
    /// Entries at which a log is trimmed to half; small ones make whole copies in a short run.
    log_entries_max: |random| if random.chance(500) { 40 + random.below(100) } else { 3000 };
    /// Objects in one part of a scan.
    scan_objects: |random| if random.chance(500) { 2 + random.below(8) } else { 512 };
    /// Most copies that a daemon brings in at once.
    pulls_max: |random| if random.chance(500) { 1 + random.below(3) } else { 16 };
    /// Clocks: 0 run within one per cent, 1 at the edge of what the lease margin covers.
    edge_clocks: |random| u64::from(random.chance(150));
    /// 1: at the end the power comes back slice by slice, with a look at each.
    slices: |random| u64::from(random.chance(300));
    /// Milliseconds between two steps on average.
    calm_ms: |random| [400, 1000, 1000, 3000][random.below(4) as usize];
}

impl Setup {
    /// Slots of data and of coding, if the pool has any.
    pub fn code(&self) -> Option<(u64, u64)> {
        match (self.slots, self.daemons) {
            (0, _) => None,
            (3.., 6..) => Some((4, 2)),
            (2.., 4..) => Some((2, 2)),
            _ => Some((2, 1)),
        }
    }
}

/// See the module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Schedule {
    /// Chance of the network, the disks and the clients.
    pub seed: u64,
    /// What the cluster is like.
    pub setup: Setup,
    /// What clients leave out.
    pub omitted: Vec<Omitted>,
    /// What is done to it, in order of time.
    pub steps: Vec<Step>,
}

impl Schedule {
    /// The schedule of a seed.
    pub fn draw(seed: u64) -> Schedule {
        let setup = Setup::draw(seed);
        let steps = element::draw_all(seed, &setup);
        Schedule { seed, setup, omitted: Vec::new(), steps }
    }

    /// As text, with every knob.
    pub fn to_text(&self) -> String {
        let mut out = format!("seed {}\n", self.seed);
        for (knob, value) in self.setup.knobs() {
            let _ = writeln!(out, "set {knob} {value}");
        }
        for Omitted { client, from, to } in &self.omitted {
            let _ = writeln!(out, "omit {client} {from} {to}");
        }
        for step in &self.steps {
            let numbers: Vec<String> = step.numbers.iter().map(u64::to_string).collect();
            let _ = writeln!(out, "{} {} {}", step.at_ms, step.name, numbers.join(" "));
        }
        out
    }

    /// From text. The error says which line is wrong.
    pub fn from_text(text: &str) -> Result<Schedule, String> {
        let words = |line: &str| -> Vec<String> {
            let line = line.split('#').next().unwrap_or_default();
            line.split_whitespace().map(str::to_owned).collect()
        };
        let lines: Vec<_> = text.lines().map(words).filter(|words| !words.is_empty()).collect();
        let number = |word: Option<&String>| -> Result<u64, String> {
            let word = word.ok_or("a number is missing")?;
            word.parse().map_err(|_| format!("{word:?} is not a number"))
        };
        let seed = lines.iter().find(|line| line[0] == "seed").ok_or("there is no seed")?;
        let seed = number(seed.get(1))?;
        let mut schedule =
            Schedule { seed, setup: Setup::draw(seed), omitted: Vec::new(), steps: Vec::new() };
        for line in lines {
            let wrong = |why: String| format!("{}: {why}", line.join(" "));
            match line[0].as_str() {
                "seed" => {}
                "set" => {
                    let value = number(line.get(2)).map_err(wrong)?;
                    let name = line.get(1).map_or("", String::as_str);
                    if !schedule.setup.set(name, value) {
                        return Err(wrong("there is no such knob".into()));
                    }
                }
                "omit" => {
                    let at = |i: usize| number(line.get(i)).map_err(wrong);
                    let (client, from, to) = (at(1)? as usize, at(2)?, at(3)?);
                    schedule.omitted.push(Omitted { client, from, to });
                }
                _ => {
                    let at_ms = number(line.first()).map_err(wrong)?;
                    let name = line.get(1).map_or("", String::as_str);
                    let found =
                        element::find(name).ok_or_else(|| "there is no such element".to_string());
                    let numbers: Result<Vec<u64>, String> =
                        line[2..].iter().map(|word| number(Some(word))).collect();
                    let numbers = numbers.map_err(wrong)?;
                    schedule.steps.push(Step { at_ms, name: found.map_err(wrong)?.name, numbers });
                }
            }
        }
        schedule.steps.sort_by_key(|step| step.at_ms);
        Ok(schedule)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_says_it_all() {
        for seed in 1..50 {
            let mut schedule = Schedule::draw(seed);
            schedule.omitted.push(Omitted { client: 1, from: 3, to: 9 });
            assert_eq!(Schedule::from_text(&schedule.to_text()), Ok(schedule));
        }
        assert!(Schedule::from_text("seed 1\n5 no-such-thing 1").is_err());
        assert!(Schedule::from_text("seed 1\nset no_such_knob 1").is_err());
        assert!(Schedule::from_text("set daemons 1").is_err());
    }
}
