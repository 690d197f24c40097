//! A count of all copies that trusts nobody: every daemon's directory is read with the offline tool while nothing
//! runs, and the copies of each object are compared byte for byte, by digest (those on slots in all but the bytes).
//! What the monitor's audit said last must be what is found.

use crate::cluster::Cluster;
use anyhow::{Context, Result, bail};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

/// Where placement groups are said to be, and how many copies they shall have.
pub(crate) struct Expected {
    members: BTreeMap<String, Vec<i64>>,
    pools: BTreeMap<String, Pool>,
    /// Objects by pool that the monitor says are whole.
    audit: BTreeMap<String, u64>,
}

/// What a pool promises.
struct Pool {
    copies: usize,
    /// They are slots of an erasure code: each has other bytes.
    slots: bool,
}

/// What was found.
#[derive(Clone, Debug, Default)]
pub(crate) struct Count {
    /// Objects by pool that have as many equal copies as their pool wants, on the members of their group.
    pub(crate) full: BTreeMap<String, u64>,
    /// Objects that have not.
    pub(crate) below: u64,
    /// Objects that the monitor said were whole.
    pub(crate) audited: u64,
    pub(crate) read_bytes: u64,
    pub(crate) wrong: Vec<String>,
}

/// What the copies of an object must agree in.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Copy {
    version: String,
    user_version: u64,
    size: u64,
    data: String,
    attributes: String,
    omap_keys: u64,
}

/// How long the monitor's count may take to come to rest, and the pause between two looks: longer than
/// daemons wait between reports.
const AUDIT_PATIENCE: Duration = Duration::from_secs(60);
const AUDIT_PAUSE: Duration = Duration::from_secs(6);

impl Expected {
    /// Asks the monitor, as long as there is one.
    pub(crate) fn of(cluster: &Cluster) -> Result<Expected> {
        let dump = cluster.command(&json!({"prefix": "pg dump"}))?;
        let rows =
            dump["pg_map"]["pg_stats"].as_array().context("a dump without placement groups")?;
        let members = rows.iter().map(|row| {
            let acting = row["acting"].as_array().into_iter().flatten();
            let acting = acting.filter_map(Value::as_i64).collect();
            (text(&row["pgid"]), acting)
        });
        let pools = cluster.command(&json!({"prefix": "osd pool ls", "detail": "detail"}))?;
        let mut names = BTreeMap::new();
        let mut all = BTreeMap::new();
        for pool in pools.as_array().into_iter().flatten() {
            let id = text(&pool["pool_id"]);
            names.insert(text(&pool["pool_name"]), id.clone());
            let copies = usize::try_from(pool["size"].as_u64().context("a pool without a size")?)?;
            all.insert(id, Pool { copies, slots: !pool["erasure"].is_null() });
        }
        let audit = settled_audit(cluster)?;
        let of_pool = |(name, objects): (String, u64)| {
            let id = names.get(&name).with_context(|| format!("the audit names {name:?}"))?;
            Ok((id.clone(), objects))
        };
        let audit = audit.into_iter().map(of_pool).collect::<Result<_>>()?;
        Ok(Expected { members: members.collect(), pools: all, audit })
    }
}

/// What the monitor counts, by the names of pools, as soon as two looks agree that all is whole.
fn settled_audit(cluster: &Cluster) -> Result<BTreeMap<String, u64>> {
    let until = Instant::now() + AUDIT_PATIENCE;
    let mut before = None;
    loop {
        let audit = cluster.command(&json!({"prefix": "audit redundancy"}))?;
        let rows = audit["pools"].as_array().context("an audit without pools")?;
        let count = |row: &Value| (text(&row["pool"]), row["full"].as_u64().unwrap_or(0));
        let now: BTreeMap<String, u64> = rows.iter().map(count).collect();
        let is_whole = |row: &Value| {
            row["full"] == row["objects"] && row["below"] == 0 && row["pgs_unknown"] == 0
        };
        if rows.iter().all(is_whole) && before.as_ref() == Some(&now) {
            return Ok(now);
        }
        if Instant::now() > until {
            bail!("the audit does not come to rest: {audit}");
        }
        before = Some(now);
        std::thread::sleep(AUDIT_PAUSE);
    }
}

/// Counts the copies in these directories, by the ids of their daemons.
pub(crate) fn count(
    program: &Path,
    directories: &[(i64, &Path)],
    expected: &Expected,
) -> Result<Count> {
    let mut count = Count::default();
    let mut copies: BTreeMap<(String, String), BTreeMap<i64, Copy>> = BTreeMap::new();
    let mut claims: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (id, directory) in directories {
        let report = list(program, directory)?;
        if report["daemon"].as_i64() != Some(*id) {
            count.wrong.push(format!(
                "{} says to be of osd.{}",
                directory.display(),
                report["daemon"]
            ));
        }
        count.read_bytes += report["read_bytes"].as_u64().unwrap_or(0);
        for finding in report["findings"].as_array().into_iter().flatten() {
            count.wrong.push(format!("the offline check of osd.{id} finds {finding}"));
        }
        for claim in report["pgs"].as_array().into_iter().flatten() {
            claims.entry(text(&claim["pg"])).or_default().push(format!("osd.{id}: {claim}"));
        }
        for object in report["objects"].as_array().into_iter().flatten() {
            let pg = text(&object["pg"]);
            // What a daemon has besides its groups is left over from before, and is not counted.
            if expected.members.get(&pg).is_some_and(|members| members.contains(id)) {
                copies.entry((pg, name_of(object))).or_default().insert(*id, copy_of(object));
            }
        }
    }
    for ((pg, name), copies) in copies {
        let members = &expected.members[&pg];
        let pool = pg.split('.').next().unwrap_or_default().to_string();
        let (size, slots) = expected.pools.get(&pool).map_or((0, false), |p| (p.copies, p.slots));
        let likeness = |copy: &Copy| match slots {
            true => Copy { data: String::new(), ..copy.clone() },
            false => copy.clone(),
        };
        let first = copies.values().next().map(likeness);
        let equal = copies.values().all(|copy| Some(likeness(copy)) == first);
        if equal && copies.len() >= size && copies.len() == members.len() {
            *count.full.entry(pool).or_default() += 1;
        } else {
            count.below += 1;
            count.wrong.push(format!(
                "{pg} {name}: {} of {size} copies, on members {members:?}: {copies:?}; {}",
                copies.len(),
                claims.get(&pg).map(|claims| claims.join("; ")).unwrap_or_default()
            ));
        }
    }
    count.audited = expected.audit.values().sum();
    for (pool, said) in &expected.audit {
        let counted = count.full.get(pool).copied().unwrap_or(0);
        if counted != *said {
            count.wrong.push(format!(
                "pool {pool}: the audit says {said} objects are whole, the disks have {counted}"
            ));
        }
    }
    Ok(count)
}

fn list(program: &Path, directory: &Path) -> Result<Value> {
    let done = Command::new(program)
        .args(["fsck", "--json", "--list", "--staged"])
        .arg(directory)
        .output()
        .with_context(|| format!("cannot run {}", program.display()))?;
    match done.status.code() {
        // Findings are in the report.
        Some(0 | 4) => Ok(serde_json::from_slice(&done.stdout)?),
        _ => bail!(
            "{} cannot be checked: {}",
            directory.display(),
            String::from_utf8_lossy(&done.stderr)
        ),
    }
}

fn name_of(object: &Value) -> String {
    format!(
        "{}/{}/{}@{}",
        text(&object["namespace"]),
        text(&object["locator"]),
        text(&object["name"]),
        object["snap"]
    )
}

fn copy_of(object: &Value) -> Copy {
    let number = |name: &str| object[name].as_u64().unwrap_or(0);
    Copy {
        version: text(&object["version"]),
        user_version: number("user_version"),
        size: number("size"),
        data: text(&object["data"]),
        attributes: text(&object["attributes"]),
        omap_keys: number("omap_keys"),
    }
}

fn text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}
