//! `store-daemon fsck`: looks at the directory of a daemon that does not run, reads every byte of it, and says
//! what is lost and what that costs. Without `--repair` nothing is written.
//!
//! The exit status is that of fsck(8): 0 nothing is wrong, 1 all that was wrong is mended, 4 something is still
//! wrong, 8 the check could not be made.

use crate::machine::inspect::{Claim, Whose, claim, whose};
use crate::store::disk::file::{Engine, FILE_NAME};
use crate::store::log::Options;
use crate::store::log::check::{Digest, Finding, Kind, Object, PgTally, Report};
use crate::store::log::directory::{DirectoryInspection, DirectoryStore};
use crate::store::{Completion, StoreError};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use store_base::{ClusterId, DaemonId, PgId};

const CLEAN: u8 = 0;
const MENDED: u8 = 1;
const DAMAGED: u8 = 4;
const FAILED: u8 = 8;

/// What a check was asked for.
#[derive(Clone, Debug, clap::Args)]
pub struct Fsck {
    /// Mend what can be mended here: superblocks, counts, room that nobody has
    #[arg(long)]
    pub repair: bool,
    /// One JSON document instead of lines
    #[arg(long)]
    pub json: bool,
    /// List every object with digests of what it holds and where its bytes lie
    #[arg(long)]
    pub list: bool,
    /// Show objects as they are behind all entries that are durable here, also those not known to be committed.
    /// Not of groups that were catching up
    #[arg(long)]
    pub staged: bool,
    /// The daemon's directory
    #[arg(value_name = "DIR")]
    pub directory: PathBuf,
}

impl Fsck {
    /// Checks, prints, and says how it went.
    pub fn run(&self) -> ExitCode {
        let mut out = io::stdout().lock();
        let status = self.check(&mut out).unwrap_or_else(|why| {
            complain(&format!("store-daemon fsck: {why}"));
            FAILED
        });
        // A reader that went away has seen enough.
        let _ = out.flush();
        ExitCode::from(status)
    }

    fn check(&self, out: &mut dyn Write) -> Result<u8, String> {
        if !self.directory.join(FILE_NAME).is_file() {
            let shown = self.directory.display();
            return Err(format!("{shown} is not the directory of a daemon: it has no file data"));
        }
        let mended = if self.repair { mend(&self.directory)? } else { 0 };
        let mut found = match DirectoryInspection::open(&self.directory) {
            Ok(found) => found,
            Err(StoreError::Damaged(why)) => {
                return self.print_lost(out, &why).map(|()| DAMAGED).map_err(|e| e.to_string());
            }
            Err(StoreError::Failed(why)) => return Err(why),
            Err(other) => return Err(other.to_string()),
        };
        let view = View::of(&mut found, self.staged);
        let report = self.print(out, &mut found, &view).map_err(|e| e.to_string())?;
        Ok(match (report.findings.is_empty(), mended) {
            (false, _) => DAMAGED,
            (true, 0) => CLEAN,
            (true, _) => MENDED,
        })
    }

    /// Nothing can be said of single objects.
    fn print_lost(&self, out: &mut dyn Write, why: &str) -> io::Result<()> {
        let costs = "every placement group of this daemon";
        if self.json {
            let finding = json!({ "kind": "log", "what": why, "costs": costs });
            let directory = self.directory.display().to_string();
            return writeln!(out, "{}", json!({ "directory": directory, "findings": [finding] }));
        }
        writeln!(out, "{}: {why}", self.directory.display())?;
        writeln!(out, "lost: {costs}")
    }

    fn print(
        &self,
        out: &mut dyn Write,
        found: &mut DirectoryInspection,
        view: &View,
    ) -> io::Result<Report> {
        let mut failed = None;
        let mut any = false;
        if self.json {
            write!(out, "{{\"objects\":[")?;
        }
        let report = found.check(&Sha256::begin, &mut |object| {
            if !self.list || failed.is_some() {
                return;
            }
            let written = match self.json {
                true => write!(out, "{}{}", if any { ",\n" } else { "\n" }, object_json(&object)),
                false => writeln!(out, "{}", object_line(&object)),
            };
            any = true;
            failed = written.err();
        });
        if let Some(e) = failed {
            return Err(e);
        }
        match self.json {
            true => {
                let rest = self.rest_json(view, &report);
                // The objects were written as they came.
                writeln!(out, "],{}", rest.to_string().trim_start_matches('{'))?;
            }
            false => self.print_lines(out, view, &report)?,
        }
        Ok(report)
    }

    fn rest_json(&self, view: &View, report: &Report) -> Value {
        let pgs: Vec<Value> =
            report.pgs.iter().map(|(pg, tally)| pg_json(*pg, tally, view)).collect();
        let findings: Vec<Value> = report.findings.iter().map(finding_json).collect();
        json!({
            "directory": self.directory.display().to_string(),
            "daemon": view.whose.daemon.map(|id| id.0),
            "cluster": view.whose.cluster.map(|id| id.to_string()),
            "incarnation": view.whose.incarnation.map(|number| number.0),
            "uuid": view.uuid.to_string(),
            "life": view.life,
            "capacity_bytes": view.capacity,
            "log": {
                "replayed_batches": view.replayed,
                "replayed_bytes": view.log_bytes,
                "checkpoint": view.checkpoint,
            },
            "staged": self.staged,
            "pgs": pgs,
            "findings": findings,
            "read_bytes": report.read_bytes,
            "leaked_bytes": report.leaked_bytes,
            "uncounted_bytes": report.uncounted_bytes,
        })
    }

    fn print_lines(&self, out: &mut dyn Write, view: &View, report: &Report) -> io::Result<()> {
        let daemon =
            view.whose.daemon.map_or_else(|| "a daemon without id".into(), |id| id.to_string());
        let cluster = view.whose.cluster.map_or_else(|| "no cluster".into(), |id| id.to_string());
        let life = view.whose.incarnation.map_or(0, |number| number.0);
        writeln!(out, "{daemon} of cluster {cluster}, incarnation {life}, file {}", view.uuid)?;
        writeln!(
            out,
            "log: {} batches in {} bytes behind checkpoint {}",
            view.replayed, view.log_bytes, view.checkpoint
        )?;
        for (pg, tally) in &report.pgs {
            writeln!(out, "{}", pg_line(*pg, tally, view))?;
        }
        for finding in &report.findings {
            writeln!(out, "{}", finding_line(finding))?;
        }
        let objects: u64 = report.pgs.values().map(|tally| tally.counted.objects).sum();
        let damaged: u64 = report.pgs.values().map(|tally| tally.damaged).sum();
        writeln!(
            out,
            "{objects} objects, {damaged} damaged; {} bytes read; {} findings",
            report.read_bytes,
            report.findings.len()
        )
    }
}

/// What the directory says of itself.
struct View {
    whose: Whose,
    uuid: ClusterId,
    life: u32,
    capacity: u64,
    replayed: u64,
    log_bytes: u64,
    checkpoint: u64,
    claims: BTreeMap<PgId, Result<Claim, String>>,
}

impl View {
    fn of(found: &mut DirectoryInspection, staged: bool) -> View {
        let inspection = &mut found.inspection;
        let whose = whose(|key| inspection.state.named(key));
        let daemon = whose.daemon.unwrap_or(DaemonId(-1));
        let pgs: Vec<PgId> = inspection.state.pgs().collect();
        let mut claims = BTreeMap::new();
        for pg in pgs {
            let claimed = inspection
                .state
                .meta(pg)
                .map_or_else(|| Ok(Claim::default()), |meta| claim(daemon, meta));
            if staged && claimed.as_ref().is_ok_and(|claim| claim.complete) {
                inspection.apply_staged(pg);
            }
            claims.insert(pg, claimed);
        }
        let best = inspection.superblocks.iter().flatten().max_by_key(|one| one.generation);
        let best = best.cloned().unwrap_or_default();
        View {
            whose,
            uuid: best.uuid,
            life: best.life,
            capacity: best.capacity,
            replayed: inspection.opened.replayed,
            log_bytes: inspection.opened.log_bytes,
            checkpoint: inspection.checkpoint.seq,
            claims,
        }
    }

    fn role(&self, claim: &Claim) -> &'static str {
        let Some(me) = self.whose.daemon else { return "none" };
        let record = &claim.confirmed;
        match () {
            () if record.primary == me && record.interval.0 > 0 => "primary",
            () if record.members.contains(&me) => "member",
            () if record.learners.contains(&me) => "learner",
            () => "none",
        }
    }
}

/// Mends what needs no other copy; how many things there were.
fn mend(directory: &Path) -> Result<usize, String> {
    // The capacity is what it was: the next start of the daemon says what it is to be.
    let capacity = DirectoryInspection::open(directory)
        .ok()
        .and_then(|found| found.inspection.superblocks.into_iter().flatten().next())
        .map_or(u64::MAX, |superblock| superblock.capacity);
    let options = Options::new(ClusterId::default(), DaemonId(-1), ClusterId::default(), capacity);
    let mut store = match DirectoryStore::open(directory, Engine::Threads, options) {
        Ok(store) => store,
        // What cannot be opened is told by the check that follows.
        Err(StoreError::Damaged(_)) => return Ok(0),
        Err(error) => return Err(error.to_string()),
    };
    let superblock = usize::from(store.opened().superblock_mended);
    let report = store.mend(&Sha256::begin).map_err(|e| e.to_string())?;
    let counts = report.findings.iter().filter(|one| one.kind == Kind::Accounting).count();
    for done in store.close(true) {
        if let Completion::Failed { error } = done {
            return Err(error.to_string());
        }
    }
    Ok(superblock + counts)
}

fn pg_json(pg: PgId, tally: &PgTally, view: &View) -> Value {
    let mut out = json!({
        "pg": pg.to_string(),
        "objects": tally.counted.objects,
        "bytes": tally.counted.bytes,
        "omap_bytes": tally.counted.omap_bytes,
        "damaged": tally.damaged,
        "staged": tally.staged,
    });
    match view.claims.get(&pg) {
        Some(Ok(claim)) => {
            let record = &claim.confirmed;
            let ids = |ids: &mut dyn Iterator<Item = DaemonId>| -> Vec<i32> {
                ids.map(|id| id.0).collect()
            };
            out["interval"] = json!(record.interval.0);
            out["synced"] = json!(claim.synced.0);
            out["complete"] = json!(claim.complete);
            out["role"] = json!(view.role(claim));
            out["primary"] = json!(record.primary.0);
            out["members"] = json!(ids(&mut record.members.iter().copied()));
            out["learners"] = json!(ids(&mut record.learners.iter().copied()));
            out["holders"] = json!(ids(&mut record.holders.iter().copied()));
        }
        Some(Err(why)) => out["unreadable"] = json!(why),
        None => {}
    }
    out
}

fn pg_line(pg: PgId, tally: &PgTally, view: &View) -> String {
    let claimed = match view.claims.get(&pg) {
        Some(Ok(claim)) => {
            let whole = if claim.complete { "complete" } else { "incomplete" };
            let (interval, synced) = (claim.confirmed.interval, claim.synced);
            format!("{} of interval {interval}, synced {synced}, {whole}", view.role(claim))
        }
        Some(Err(why)) => format!("unreadable ({why})"),
        None => "unknown".into(),
    };
    format!(
        "pg {pg}: {claimed}; {} objects, {} bytes, {} of omaps, {} damaged, {} staged",
        tally.counted.objects,
        tally.counted.bytes,
        tally.counted.omap_bytes,
        tally.damaged,
        tally.staged
    )
}

fn finding_json(finding: &Finding) -> Value {
    json!({
        "kind": kind_name(finding.kind),
        "pg": finding.pg.map(|pg| pg.to_string()),
        "object": finding.object.as_ref().map(|object| object.to_string()),
        "offset": finding.range.map(|(offset, _)| offset),
        "length": finding.range.map(|(_, length)| length),
        "what": finding.what,
    })
}

fn finding_line(finding: &Finding) -> String {
    let mut line = format!("{}:", kind_name(finding.kind));
    if let Some(pg) = finding.pg {
        line += &format!(" pg {pg}");
    }
    if let Some(object) = &finding.object {
        line += &format!(" {object}");
    }
    if let Some((offset, length)) = finding.range {
        line += &format!(" {length} bytes at {offset}");
    }
    format!("{line}: {}", finding.what).replace("::", ":")
}

fn kind_name(kind: Kind) -> &'static str {
    match kind {
        Kind::Superblock => "superblock",
        Kind::Log => "log",
        Kind::Index => "index",
        Kind::Data => "data",
        Kind::Accounting => "accounting",
    }
}

fn object_json(object: &Object) -> Value {
    let lies: Vec<Value> = object
        .lies
        .iter()
        .map(|lie| {
            json!({
                "at": lie.at,
                "length": lie.length,
                "file": lie.file,
                "in": if lie.in_log { "log" } else { "extent" },
            })
        })
        .collect();
    json!({
        "pg": object.pg.to_string(),
        "namespace": object.name.namespace.escape_ascii().to_string(),
        "locator": object.name.locator.escape_ascii().to_string(),
        "name": object.name.name.escape_ascii().to_string(),
        "snap": object.name.snap.0,
        "version": object.info.version.to_string(),
        "user_version": object.info.user_version,
        "size": object.info.size,
        "data": object.data_digest.as_deref().map(hex),
        "attributes": object.attributes_digest.as_deref().map(hex),
        "omap_keys": object.omap_keys,
        "places": lies,
    })
}

fn object_line(object: &Object) -> String {
    let digest = |digest: &Option<Vec<u8>>| match digest {
        Some(bytes) => hex(&bytes[..8]),
        None => "damaged".into(),
    };
    let lies = object.lies.iter().map(|lie| {
        let file = lie.file.map_or_else(|| "lost".into(), |file| file.to_string());
        let log = if lie.in_log { "log:" } else { "" };
        format!("{}+{}@{log}{file}", lie.at, lie.length)
    });
    format!(
        "object {} {} version {} size {} data {} attributes {} omap {} places {}",
        object.pg,
        object.name,
        object.info.version,
        object.info.size,
        digest(&object.data_digest),
        digest(&object.attributes_digest),
        object.omap_keys,
        lies.collect::<Vec<_>>().join(",")
    )
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[allow(clippy::print_stderr)] // a command-line program
fn complain(text: &str) {
    eprintln!("{text}");
}

/// SHA-256: what a copy holds can be compared with what a client has.
struct Sha256(ring::digest::Context);

impl Sha256 {
    fn begin() -> Box<dyn Digest> {
        Box::new(Sha256(ring::digest::Context::new(&ring::digest::SHA256)))
    }
}

impl Digest for Sha256 {
    fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    fn finish(self: Box<Self>) -> Vec<u8> {
        self.0.finish().as_ref().to_vec()
    }
}

#[cfg(test)]
mod tests;
