//! Transcripts: commands and what follows from them, as text (`scripts/*`).
//!
//! A script is a row of blocks: commands, a line `---`, and the output expected, ended by an empty line. Run
//! the tests with `UPDATE_SCRIPTS=1` to write the output that is, and read the difference.
//!
//! | command | effect |
//! |---|---|
//! | `world COUNT SIZE MIN_SIZE` | a new world of daemons that are not started |
//! | `start ID…`, `crash ID…` | what was not durable is lost |
//! | `stop ID…` | the end of a life as planned |
//! | `form ID…` | the first interval; the first is the primary |
//! | `reform ID…`, `join ID`, `auto on\|off` | the monitor's doing; asks carried out by themselves |
//! | `down ID…` | the map shows them down |
//! | `write TO OBJECT DATA [again]`, `read TO OBJECT`, `delete TO OBJECT` | a client asks |
//! | `fill TO COUNT PREFIX` | as many writes of objects, answers not shown |
//! | `run DURATION` | time passes |
//! | `cut A B`, `heal A B`, `disk ID hold\|go`, `damage ID OBJECT` | faults |
//! | `deaf ID`, `hears ID` | cut off from the monitor, and no more |
//! | `trace on\|off` | show messages, but for signs of life |
//! | `status` | what every daemon makes of the group |
//! | `objects` | what every daemon has |
//! | `same ID…` | fails unless these have equal objects |

use super::world::{PG, World};
use crate::machine::{Daemon, PgRole};
use bytes::Bytes;
use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;
use store_base::op::Op;
use store_base::{DaemonId, ObjectName};

struct Script {
    world: World,
    tid: u64,
}

impl Script {
    fn command(&mut self, line: &str) -> Vec<String> {
        let words: Vec<&str> = line.split_whitespace().collect();
        let (name, rest) = words.split_first().expect("a command");
        let ids = || rest.iter().map(|word| id(word)).collect::<Vec<_>>();
        match *name {
            "world" => {
                let number = |n: usize| rest[n].parse::<u8>().expect("a number");
                self.world = World::new(number(0).into(), number(1), number(2));
            }
            "start" => ids().into_iter().for_each(|id| self.world.start(id)),
            "crash" => ids().into_iter().for_each(|id| self.world.crash(id, 0)),
            "stop" => ids().into_iter().for_each(|id| self.world.stop(id)),
            "form" => {
                let members = ids();
                self.world.change(|record| {
                    record.primary = members[0];
                    record.holders = members.iter().copied().collect();
                    record.writers.clone_from(&record.holders);
                    record.members = members;
                });
            }
            "reform" => self.world.reform(&ids()),
            "join" => self.world.join(id(rest[0])),
            "auto" => {
                self.world.auto = rest[0] == "on";
                if self.world.auto {
                    self.world.carry_out_asks();
                }
            }
            "down" => ids().into_iter().for_each(|id| self.world.mark_down(id)),
            "write" => {
                let again = rest.get(3) == Some(&"again");
                let data = Bytes::copy_from_slice(rest[2].as_bytes());
                self.ask(rest[0], rest[1], again, vec![Op::WriteFull { data }]);
            }
            "read" => self.ask(rest[0], rest[1], false, vec![Op::Read { offset: 0, length: 0 }]),
            "delete" => self.ask(rest[0], rest[1], false, vec![Op::Delete {}]),
            "fill" => self.fill(rest),
            "run" => self.world.run(duration(rest[0])),
            "cut" => self.world.cut(id(rest[0]), id(rest[1])),
            "heal" => self.world.heal(id(rest[0]), id(rest[1])),
            "deaf" => {
                self.world.deaf.insert(id(rest[0]));
            }
            "hears" => self.world.hears_again(id(rest[0])),
            "disk" => {
                let node = self.world.nodes.get_mut(&id(rest[0])).expect("a daemon");
                node.disk_held = rest[1] == "hold";
            }
            "damage" => {
                let object = ObjectName::new(Bytes::copy_from_slice(rest[1].as_bytes()));
                self.world.nodes[&id(rest[0])].medium.damage(PG, &object);
            }
            "trace" => self.world.trace = rest[0] == "on",
            "status" => return self.status(),
            "objects" => return self.objects(),
            "same" => {
                let ids = ids();
                let first = self.world.contents(ids[0]);
                for id in &ids[1..] {
                    assert_eq!(self.world.contents(*id), first, "{id} differs from {}", ids[0]);
                }
                return vec![format!("{} equal objects", first.len())];
            }
            other => panic!("no such command: {other}"),
        }
        std::mem::take(&mut self.world.said)
    }

    fn ask(&mut self, to: &str, object: &str, again: bool, ops: Vec<Op>) {
        if !again {
            self.tid += 1;
        }
        self.world.ask(id(to), 1, self.tid, u32::from(again), object, ops);
    }

    fn fill(&mut self, rest: &[&str]) {
        let count: usize = rest[1].parse().expect("a number");
        for n in 0..count {
            let data = Bytes::from(format!("{n}"));
            let object = format!("{}{n}", rest[2]);
            self.ask(rest[0], &object, false, vec![Op::WriteFull { data }]);
            self.world.run(Duration::from_micros(50));
        }
        self.world.run(Duration::from_millis(20));
        let answers = std::mem::take(&mut self.world.said);
        let bad = answers.iter().filter(|line| !line.contains(": 0 at ")).count();
        assert_eq!((answers.len(), bad), (count, 0), "all writes are answered well: {answers:?}");
    }

    fn status(&mut self) -> Vec<String> {
        let mut lines = Vec::new();
        for (id, node) in &self.world.nodes {
            let Some(daemon) = &node.daemon else {
                lines.push(format!("{id} is off"));
                continue;
            };
            let view = daemon.pgs_at(self.world.now).next();
            lines.push(match view {
                None => format!("{id} has nothing"),
                Some(view) => format!(
                    "{id} {:?} in {}: applied {} head {}{}{}{}",
                    view.role(),
                    view.interval(),
                    view.applied(),
                    view.head(),
                    if view.serving() { ", serves" } else { "" },
                    if view.is_complete() { "" } else { ", incomplete" },
                    match view.role() {
                        PgRole::Primary => format!(", {}", view.state()),
                        _ => String::new(),
                    }
                ),
            });
        }
        lines
    }

    fn objects(&mut self) -> Vec<String> {
        let ids: Vec<_> = self.world.nodes.keys().copied().collect();
        let mut lines = Vec::new();
        for id in ids {
            let contents = self.world.contents(id);
            let all: Vec<_> = contents
                .iter()
                .map(|(name, (version, bytes))| {
                    format!("{name}={}@{version}", String::from_utf8_lossy(bytes))
                })
                .collect();
            lines.push(format!("{id}: {}", all.join(" ")));
        }
        lines
    }
}

fn id(word: &str) -> DaemonId {
    DaemonId(word.parse().expect("a daemon's number"))
}

fn duration(word: &str) -> Duration {
    match word.strip_suffix("ms") {
        Some(millis) => Duration::from_millis(millis.parse().expect("milliseconds")),
        None => {
            let secs = word.strip_suffix('s').expect("a duration: 5ms, 2s");
            Duration::from_secs_f64(secs.parse().expect("seconds"))
        }
    }
}

/// What a script gives, in the form of a script.
fn play(text: &str) -> String {
    let mut script = Script { world: World::new(0, 1, 1), tid: 0 };
    let mut out = String::new();
    for block in text.split("\n\n") {
        let commands = block.split("\n---").next().expect("a split has a first part").trim();
        let mut output = Vec::new();
        for line in commands.lines().filter(|line| !line.starts_with('#')) {
            output.extend(script.command(line));
        }
        if commands.is_empty() {
            continue;
        }
        out.push_str(commands);
        out.push_str("\n---\n");
        output.iter().for_each(|line| {
            out.push_str(line);
            out.push('\n');
        });
        out.push('\n');
    }
    out
}

fn check(name: &str, text: &str) {
    let played = play(text);
    if std::env::var_os("UPDATE_SCRIPTS").is_some() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/machine/scripts").join(name);
        #[allow(clippy::disallowed_methods, reason = "a test rewrites its expectation when asked")]
        std::fs::write(path, played.trim_end().to_owned() + "\n")
            .expect("the script can be written");
        return;
    }
    assert_eq!(played.trim_end(), text.trim_end(), "script {name}");
}

macro_rules! scripts {
    ($($name:ident),* $(,)?) => {$(
        #[test]
        fn $name() {
            check(stringify!($name), include_str!(concat!("../scripts/", stringify!($name))));
        }
    )*};
}

scripts!(
    first_write,
    replica_lost,
    primary_lost,
    primary_restarts,
    log_catch_up,
    backfill,
    min_size,
    resend,
    lease_ends,
    undo,
    damage,
    planned_change,
    false_suspicion,
    planned_stop,
);

#[test]
fn a_daemon_is_quiet_before_it_is_started() {
    let mut world = World::new(1, 1, 1);
    world.run(Duration::from_secs(1));
    assert!(
        world.nodes[&DaemonId(0)]
            .daemon
            .as_ref()
            .is_none_or(|daemon: &Daemon<_>| daemon.id().is_none())
    );
    assert_eq!(world.cuts, BTreeSet::new());
}
