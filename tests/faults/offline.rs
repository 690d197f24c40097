//! A count of all copies that trusts nobody: every daemon's directory is read with the offline tool while nothing
//! runs, and the copies of each object are compared byte for byte, by digest.

use crate::cluster::Cluster;
use anyhow::{Context, Result, bail};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

/// Where placement groups are said to be, and how many copies they shall have.
pub(crate) struct Expected {
    members: BTreeMap<String, Vec<i64>>,
    sizes: BTreeMap<String, usize>,
}

/// What was found.
#[derive(Clone, Debug, Default)]
pub(crate) struct Count {
    /// Objects by pool that have as many equal copies as their pool wants, on the members of their group.
    pub(crate) full: BTreeMap<String, u64>,
    /// Objects that have not.
    pub(crate) below: u64,
    pub(crate) read_bytes: u64,
    pub(crate) wrong: Vec<String>,
}

/// What the copies of an object must agree in.
type Copy = (String, u64, u64, String, String, u64);

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
        let sizes = pools.as_array().into_iter().flatten().filter_map(|pool| {
            let id = pool["pool_id"].as_i64().or_else(|| pool["pool"].as_i64())?;
            Some((id.to_string(), usize::try_from(pool["size"].as_u64()?).ok()?))
        });
        Ok(Expected { members: members.collect(), sizes: sizes.collect() })
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
        let size = expected.sizes.get(&pool).copied().unwrap_or(0);
        let equal = copies.values().all(|copy| Some(copy) == copies.values().next());
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
    (
        text(&object["version"]),
        number("user_version"),
        number("size"),
        text(&object["data"]),
        text(&object["attributes"]),
        number("omap_keys"),
    )
}

fn text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}
