//! Transcripts: what happens, and what the monitor does about it, in a form that people can read.

use super::*;
use std::fmt::Write;

/// Plays a script and compares; see the module above.
#[allow(clippy::disallowed_methods)] // tests read and write their scripts
fn play(name: &str) {
    let path = format!("{}/src/machine/scripts/{name}.txt", env!("CARGO_MANIFEST_DIR"));
    let script = std::fs::read_to_string(&path).expect("the script is there");
    let mut player = Player { world: World::new(), before: None };
    player.before = player.world.monitor.osd_map().cloned();
    let mut played = String::new();
    for line in script.lines() {
        if line.starts_with('#') || line.is_empty() {
            played.push_str(line);
            played.push('\n');
        } else if let Some(doing) = line.strip_prefix("> ") {
            let _ = writeln!(played, "> {doing}");
            let told = player.act(doing);
            played.push_str(&told);
        }
    }
    if std::env::var("STORE_TRANSCRIPTS").as_deref() == Ok("write") {
        std::fs::write(&path, &played).expect("the script can be written");
    }
    assert!(played == script, "{name} plays differently now:\n{played}");
}

struct Player {
    world: World,
    before: Option<OsdMap>,
}

fn set<'a>(ids: impl IntoIterator<Item = &'a DaemonId>) -> String {
    ids.into_iter().map(|id| id.0.to_string()).collect::<Vec<_>>().join(",")
}

fn show(record: &PgRecord) -> String {
    let mut text = format!(
        "interval {} primary {}/{} members [{}] holders {{{}}}",
        record.interval,
        record.primary.0,
        record.primary_incarnation,
        set(&record.members),
        set(&record.holders)
    );
    if !record.learners.is_empty() {
        let _ = write!(text, " learners {{{}}}", set(&record.learners));
    }
    let members: std::collections::BTreeSet<_> = record.members.iter().copied().collect();
    if record.writers != members {
        let _ = write!(text, " writers {{{}}}", set(&record.writers));
    }
    if !record.is_active() {
        text.push_str(" inactive");
    }
    text
}

impl Player {
    fn act(&mut self, doing: &str) -> String {
        let words: Vec<&str> = doing.split_whitespace().collect();
        let number =
            |at: usize| words.get(at).and_then(|word| word.parse::<u64>().ok()).unwrap_or(0);
        let id = |at: usize| number(at) as i32;
        let mut told = String::new();
        match words[0] {
            "boot" => {
                let reply = self.world.boot(id(1), number(2));
                if !reply.refused.is_empty() {
                    let _ = writeln!(told, "refused: {}", reply.refused);
                }
            }
            "refused" => self.world.refused(id(1), id(2)),
            "pass" => self.world.pass(number(1)),
            "beats" => self.world.beats(words.get(1).unwrap_or(&"active+clean")),
            "restart" => self.world.restart(),
            "activate" | "promote" | "reform" => {
                let kind = match words[0] {
                    "activate" => pg_ask::Kind::Activate,
                    "promote" => pg_ask::Kind::Promote,
                    _ => pg_ask::Kind::Reform,
                };
                let pg = words[2].parse().expect("a group");
                self.world.ask_pg(id(1), pg, kind, id(3));
            }
            "settle" => self.world.settle(),
            "health" => {
                let report = self.world.monitor.health(self.world.now);
                let _ = writeln!(told, "{}", report.status().name());
                for (name, check) in &report.checks {
                    let _ = writeln!(told, "{name}: {}", check.summary);
                }
            }
            _ => {
                let reply = self.world.command(doing);
                if reply.code != 0 || !reply.status.is_empty() {
                    let _ = writeln!(told, "{}: {}", reply.code, reply.status);
                }
            }
        }
        told + &self.changes()
    }

    /// What differs from the map before.
    fn changes(&mut self) -> String {
        let mut told = String::new();
        let now = self.world.map().clone();
        let before = self.before.replace(now.clone()).unwrap_or_default();
        if now.epoch != before.epoch {
            let _ = writeln!(told, "epoch {}", now.epoch);
        }
        for (id, info) in &now.daemons {
            let old = before.daemons.get(id);
            if old != Some(info) {
                let up = if info.up { "up" } else { "down" };
                let place = if info.weight > 0 { "in" } else { "out" };
                let _ = writeln!(told, "{id} {up} {place} incarnation {}", info.incarnation);
            }
        }
        for id in before.daemons.keys().filter(|id| !now.daemons.contains_key(id)) {
            let _ = writeln!(told, "{id} gone");
        }
        for (pg, record) in &now.pgs {
            if before.pgs.get(pg) != Some(record) {
                let _ = writeln!(told, "{pg} {}", show(record));
            }
        }
        told
    }
}

#[test]
fn first_cluster() {
    play("first_cluster");
}

#[test]
fn crash_and_return() {
    play("crash_and_return");
}

#[test]
fn nobody_left() {
    play("nobody_left");
}

#[test]
fn whole_cluster_dies() {
    play("whole_cluster_dies");
}

#[test]
fn refusals() {
    play("refusals");
}
