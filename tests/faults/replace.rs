//! The story of replaced disks, under load: a daemon is killed and its directory deleted, a new one takes its
//! place; another is drained and removed. Nothing is lost on the way, and the cluster's own count of copies is
//! that of the disks.

use crate::cluster::Cluster;
use crate::history::Book;
use crate::round::Harm;
use crate::schedule::Event;
use anyhow::{Context, Result, bail};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// Load before the first harm and after the last.
const CALM: Duration = Duration::from_secs(5);
/// Pause between looks.
const LOOK: Duration = Duration::from_millis(200);
/// How long an orderly end may take.
const STOP: Duration = Duration::from_secs(20);
/// Which daemon loses its disk, and which is drained.
const LOST: usize = 1;
const DRAINED: usize = 2;

/// The story.
pub(crate) struct Replacement {
    pub(crate) patience: Duration,
}

impl Replacement {
    /// Sends a command until it goes through and its answer is good.
    fn insist(
        &self,
        cluster: &mut Cluster,
        command: &Value,
        good: impl Fn(&Value) -> bool,
    ) -> Result<()> {
        let until = Instant::now() + self.patience;
        loop {
            cluster.tend()?;
            let answer = cluster.command(command);
            if answer.as_ref().is_ok_and(&good) {
                return Ok(());
            }
            if Instant::now() > until || crate::interrupted() {
                bail!("{command}: still {answer:?}");
            }
            std::thread::sleep(LOOK);
        }
    }

    fn clean(&self, cluster: &mut Cluster) -> Result<()> {
        let until = Instant::now() + self.patience;
        while !cluster.is_clean() {
            cluster.tend()?;
            if Instant::now() > until || crate::interrupted() {
                bail!("copies are missing after {} s", self.patience.as_secs());
            }
            std::thread::sleep(LOOK);
        }
        Ok(())
    }

    fn lose_one(&self, cluster: &mut Cluster) -> Result<()> {
        let lost = cluster.wipe(LOST)?.to_string();
        self.insist(cluster, &json!({"prefix": "osd out", "ids": [lost]}), |_| true)?;
        cluster.replace(LOST)?;
        self.clean(cluster)?;
        let remove = json!({"prefix": "osd rm", "id": lost, "sure": "--yes-i-really-mean-it"});
        self.insist(cluster, &remove, |_| true)
    }

    fn drain_one(&self, cluster: &mut Cluster) -> Result<()> {
        let id = cluster.daemons[DRAINED].id.to_string();
        self.insist(cluster, &json!({"prefix": "osd drain", "ids": [id]}), |_| true)?;
        let safe = json!({"prefix": "osd safe-to-destroy", "ids": [id]});
        self.insist(cluster, &safe, |answer| answer["safe_to_destroy"] == true)?;
        let mut drained = cluster.daemons.remove(DRAINED);
        let process = drained.service.process.take().context("a drained daemon runs")?;
        if !process.stop(STOP) {
            bail!("the drained daemon does not end");
        }
        // Without insisting on it: nothing that it has is needed.
        self.insist(cluster, &json!({"prefix": "osd rm", "id": id}), |_| true)
    }
}

impl Harm for Replacement {
    fn run(
        &mut self,
        cluster: &mut Cluster,
        book: &Book,
        _: Duration,
        _: &dyn Fn() -> BTreeMap<u64, usize>,
    ) -> Result<Vec<Event>> {
        let mut events = Vec::new();
        std::thread::sleep(CALM);
        let began = book.now();
        self.lose_one(cluster).context("replacing a lost daemon")?;
        let ended = book.now();
        events.push(Event { kind: "lost", what: "killed, deleted, replaced".into(), began, ended });
        self.drain_one(cluster).context("draining a daemon")?;
        events.push(Event {
            kind: "drained",
            what: "drained and removed".into(),
            began: ended,
            ended: book.now(),
        });
        std::thread::sleep(CALM);
        Ok(events)
    }

    fn heal(&mut self, cluster: &mut Cluster, patience: Duration) -> Result<Duration> {
        cluster.wait_healthy(patience)
    }
}
